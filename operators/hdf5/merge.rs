//! One file of many that [`super::write`] has written, chunk by chunk, without more than a few chunks in memory.
//!
//! Chunks stand on a grid of rows. Where the rows before a part are a multiple of a chunk's, the part's chunks are those of
//! the whole and are copied as they are, compressed; behind a part with other rows each chunk is spliced of two and compressed
//! again, on all threads. Both give the same bytes, because a chunk's bytes are a function of its rows; so the file is a
//! function of the rows in their order, however they came in parts, and of the spec.
//!
//! Rows are spliced in the shuffled form: each byte plane of a chunk is a chunk of bytes by itself.

use super::write::{Chunks, Packer, Spec, Writer};
use crate::work::{Assembly, Finished};
use anyhow::{Context, Result, bail, ensure};
use hdf5_metno as library;
use libdeflater::Decompressor;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Chunks that a thread has at a time: those that it splices and what it makes of them, plain and compressed, and another
/// that waits to be written.
const CHUNKS_HELD: u64 = 6;

/// Writes the rows of all files, in their order, to a file at `to` with these datasets; how many there are.
///
/// All files must have been written with the same datasets and chunks.
pub fn merge(all: &Assembly<'_>, to: &Path, specs: &[Spec], chunks: Chunks) -> Result<u64> {
    let row = |spec: &Spec| spec.shape.iter().product::<usize>() * spec.element.bytes();
    let largest = specs.iter().map(row).max().unwrap_or(0) as u64 * chunks.rows as u64;
    let fit = all.memory / (CHUNKS_HELD * largest).max(1);
    let threads = usize::try_from(fit).unwrap_or(usize::MAX).clamp(1, all.threads.max(1));
    let forms: Arc<[Form]> = specs.iter().map(|spec| Form::of(spec, chunks)).collect();
    let mut writer = Writer::create(to, specs, chunks)?;
    let mut jobs = Jobs { all, specs, chunks, at: (0, 0), open: None, pieces: Vec::new(), dataset: specs.len(), rows: 0 };
    std::thread::scope(|scope| -> Result<()> {
        let mut lanes: Vec<Lane> = Vec::new();
        for _ in 0..threads {
            let mut cutter = Cutter::new(Arc::clone(&forms), chunks)?;
            let ((send, take), (give, receive)) = (sync_channel::<Job>(1), sync_channel(1));
            scope.spawn(move || take.into_iter().try_for_each(|job| give.send(cutter.chunk(&job).map(|packed| (job, packed)))));
            lanes.push((send, receive));
        }
        // What is asked of the threads in turn comes back in turn: the order in the file is that of the rows.
        let (mut asked, mut written) = (0, 0);
        loop {
            ensure!(!(all.stop)(), "stopped");
            while asked < written + 2 * threads {
                let Some(job) = jobs.next()? else { break };
                lanes[asked % threads].0.send(job).context("a thread has stopped")?;
                asked += 1;
            }
            if asked == written {
                return Ok(());
            }
            let (job, packed) = lanes[written % threads].1.recv().context("a thread has stopped")??;
            writer.append_packed(job.dataset, job.rows, &packed)?;
            written += 1;
        }
    })?;
    writer.finish()?;
    Ok(jobs.rows)
}

type Lane = (SyncSender<Job>, Receiver<Result<(Job, Vec<u8>)>>);

/// How the bytes of a dataset's chunk are cut into rows.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// Byte planes; one where bytes are not shuffled.
    planes: usize,
    /// Bytes of a row in a plane.
    row: usize,
}

impl Form {
    fn of(spec: &Spec, chunks: Chunks) -> Self {
        let (cells, bytes) = (spec.shape.iter().product::<usize>(), spec.element.bytes());
        if chunks.shuffle { Self { planes: bytes, row: cells } } else { Self { planes: 1, row: cells * bytes } }
    }
}

/// A part that is open.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
    rows: usize,
    /// Address and length of each chunk, by dataset.
    chunks: Vec<Vec<(u64, usize)>>,
}

impl Part {
    fn open(of: &Finished, specs: &[Spec], chunk: usize) -> Result<Self> {
        let Finished { path, rows } = of;
        let rows = usize::try_from(*rows)?;
        let read = || -> Result<_> {
            let file = library::File::open(path)?;
            specs.iter().map(|spec| index(&file.dataset(&spec.name)?, spec, rows, chunk)).collect()
        };
        let chunks = read().with_context(|| format!("can't read {}", path.display()))?;
        let file = File::open(path).with_context(|| format!("can't open {}", path.display()))?;
        Ok(Self { path: path.clone(), file, rows, chunks })
    }
}

/// Where the chunks of a dataset are, in the order of their rows.
fn index(dataset: &library::Dataset, spec: &Spec, rows: usize, chunk: usize) -> Result<Vec<(u64, usize)>> {
    let whole = |first: usize| std::iter::once(first).chain(spec.shape.iter().copied()).collect::<Vec<_>>();
    let name = &spec.name;
    ensure!(dataset.shape() == whole(rows) && dataset.chunk() == Some(whole(chunk)), "`{name}` has another shape");
    let mut found = vec![None; rows.div_ceil(chunk)];
    let mut strange = false;
    dataset.chunks_visit(|at| {
        let first = at.offset.first().copied().unwrap_or_default() as usize;
        match found.get_mut(first / chunk) {
            Some(place @ None) if at.filter_mask == 0 => *place = Some((at.addr, at.size as usize)),
            _ => strange = true,
        }
        0
    })?;
    match found.into_iter().collect() {
        Some(found) if !strange => Ok(found),
        _ => bail!("`{name}` has other chunks"),
    }
}

/// Rows of a chunk of a part that go into a chunk of the whole.
#[derive(Debug, Clone)]
struct Piece {
    part: Arc<Part>,
    chunk: usize,
    /// The first row in the part's chunk.
    from: usize,
    /// The first row in the chunk of the whole.
    to: usize,
    rows: usize,
}

/// A chunk of the whole.
#[derive(Debug)]
struct Job {
    dataset: usize,
    rows: usize,
    pieces: Vec<Piece>,
}

/// The chunks of the whole in the order in which they are written: those of the same rows side by side, as they are read.
struct Jobs<'a> {
    all: &'a Assembly<'a>,
    specs: &'a [Spec],
    chunks: Chunks,
    /// The part, and the row in it, that come next.
    at: (usize, usize),
    open: Option<Arc<Part>>,
    /// What the chunks under way are made of, and the dataset whose turn it is.
    pieces: Vec<Piece>,
    dataset: usize,
    /// Rows so far.
    rows: u64,
}

impl Jobs<'_> {
    fn next(&mut self) -> Result<Option<Job>> {
        if self.dataset >= self.specs.len() {
            self.pieces = self.pieces()?;
            self.dataset = 0;
        }
        let rows: usize = self.pieces.iter().map(|p| p.rows).sum();
        if rows == 0 || self.specs.is_empty() {
            return Ok(None);
        }
        self.dataset += 1;
        Ok(Some(Job { dataset: self.dataset - 1, rows, pieces: self.pieces.clone() }))
    }

    fn pieces(&mut self) -> Result<Vec<Piece>> {
        let chunk = self.chunks.rows;
        let (mut pieces, mut to) = (Vec::new(), 0);
        while to < chunk {
            let (number, row) = self.at;
            let Some(of) = self.all.files.get(number) else { break };
            let part = match &self.open {
                Some(part) => Arc::clone(part),
                None => {
                    (self.all.check)(number)?;
                    Arc::clone(self.open.insert(Arc::new(Part::open(of, self.specs, chunk)?)))
                }
            };
            let from = row % chunk;
            let rows = (chunk - from).min(part.rows - row).min(chunk - to);
            if rows > 0 {
                pieces.push(Piece { part: Arc::clone(&part), chunk: row / chunk, from, to, rows });
            }
            to += rows;
            self.at.1 += rows;
            if self.at.1 == part.rows {
                (self.at, self.open) = ((number + 1, 0), None);
            }
        }
        self.rows += to as u64;
        Ok(pieces)
    }
}

/// Makes the bytes of chunks, one at a time.
struct Cutter {
    forms: Arc<[Form]>,
    chunks: Chunks,
    packer: Packer,
    inflate: Decompressor,
    packed: Vec<u8>,
    plain: Vec<u8>,
    spliced: Vec<u8>,
}

impl Cutter {
    fn new(forms: Arc<[Form]>, chunks: Chunks) -> Result<Self> {
        let (packer, inflate) = (Packer::new(chunks)?, Decompressor::new());
        Ok(Self { forms, chunks, packer, inflate, packed: Vec::new(), plain: Vec::new(), spliced: Vec::new() })
    }

    /// The chunk as it is to stand in the file.
    fn chunk(&mut self, job: &Job) -> Result<Vec<u8>> {
        if let [piece] = &job.pieces[..]
            && (piece.from, piece.to) == (0, 0)
            && piece.rows == self.chunks.rows.min(piece.part.rows - piece.chunk * self.chunks.rows)
        {
            // All rows of that chunk and no others: behind them are zeros in both.
            let mut packed = Vec::new();
            read(piece, job.dataset, &mut packed)?;
            return Ok(packed);
        }
        let Form { planes, row } = self.forms[job.dataset];
        let plane = self.chunks.rows * row;
        self.spliced.clear();
        self.spliced.resize(planes * plane, 0);
        for piece in &job.pieces {
            self.plain(piece, job.dataset, planes * plane)?;
            for (from, to) in self.plain.chunks_exact(plane).zip(self.spliced.chunks_exact_mut(plane)) {
                let length = piece.rows * row;
                to[piece.to * row..][..length].copy_from_slice(&from[piece.from * row..][..length]);
            }
        }
        let mut packed = Vec::new();
        self.packer.pack(&self.spliced, &mut packed)?;
        packed.shrink_to_fit();
        Ok(packed)
    }

    /// Reads and unpacks the chunk of a piece.
    fn plain(&mut self, piece: &Piece, dataset: usize, bytes: usize) -> Result<()> {
        if self.chunks.gzip.is_none() {
            read(piece, dataset, &mut self.plain)?;
            ensure!(self.plain.len() == bytes, "a chunk of {} has {} bytes", piece.part.path.display(), self.plain.len());
            return Ok(());
        }
        read(piece, dataset, &mut self.packed)?;
        self.plain.resize(bytes, 0);
        match self.inflate.zlib_decompress(&self.packed, &mut self.plain) {
            Ok(found) if found == bytes => Ok(()),
            _ => bail!("chunk {} of {} is damaged", piece.chunk, piece.part.path.display()),
        }
    }
}

fn read(piece: &Piece, dataset: usize, into: &mut Vec<u8>) -> Result<()> {
    let (address, length) = piece.part.chunks[dataset][piece.chunk];
    into.resize(length, 0);
    piece.part.file.read_exact_at(into, address).with_context(|| format!("can't read {}", piece.part.path.display()))
}
