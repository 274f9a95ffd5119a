//! Rows put aside by a shuffle: runs on disk, each with a piece for every part of the new order; or one in memory, where all
//! that a worker is given fits in what it may hold ([`super::kept`]).
//!
//! A run is an Arrow IPC file (uncompressed: the disk is rarely slower than a codec here) that holds the rows of many parts
//! of the old order, because a run is as large as memory allows, and so its pieces are as long as can be; batch `k` of it is
//! the piece for part `k` of the new order (of each output that is read, one after the other). A part of the new order is
//! read by taking its piece of each run, and since parts are read in order, each run is read from its beginning to its end.
//!
//! Invariants: a run holds parts of the old order whole, and is committed with all of them or not at all. What comes out
//! later depends on the rows alone and not on which run they were in. Every piece has a checksum; a run that is damaged is
//! noticed and named, never believed.

use super::failure::Failure;
use super::kept::{Kept, KeptRun, Placed, piece, with_places};
use super::ranks::Place;
use crate::files::{self, Patience};
use crate::ledger::lock::host;
use crate::ledger::log::Spill;
use crate::plan::spill::READ;
use anyhow::{Context, Result, ensure};
use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::buffer::Buffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::writer::FileWriter;
use arrow::ipc::{Block, convert::fb_to_schema, root_as_footer};
use calostream_operators::{column, varint};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

const PIECES: &str = "calostream.pieces";

/// A run that was written, for the ledger.
#[derive(Debug, Clone)]
pub struct Made {
    /// Where it is.
    pub spill: Spill,
    /// Its end, and the rows of its pieces: see [`read_index`].
    pub index: Vec<u8>,
    /// The parts of the old order that are in it.
    pub parts: Vec<u64>,
}

/// Parts that are over, the batches that hold their rows, and the rows by place.
type Taken = (Vec<u64>, Vec<RecordBatch>, Vec<Placed>);

/// Collects rows and writes them as runs.
#[derive(Debug)]
pub struct Spiller {
    step: String,
    input: usize,
    input_schema: SchemaRef,
    schema: SchemaRef,
    folder: PathBuf,
    shown: PathBuf,
    /// Pieces, by output; none for one that nobody reads.
    pieces: Vec<u64>,
    /// Parts of the new order that share a piece.
    grain: u64,
    /// Where rows are put aside again: the worker, and how many runs it has written.
    again: Option<(usize, u64)>,
    /// A run is written when this many bytes are held.
    limit: usize,
    held: Vec<RecordBatch>,
    places: Vec<Placed>,
    bytes: usize,
    done: Vec<u64>,
    /// Where what fits may stay; none when a run was written, because then not all fits.
    kept: Option<Arc<Kept>>,
    /// What ends the waiting for a disk that is full, or away.
    failure: Failure,
    /// What was held when the part in hand began.
    before: (usize, usize, usize),
}

impl Spiller {
    /// A spiller of one input of a step into `folder`, which the log calls `shown`.
    pub fn new(
        (step, input): (&str, usize),
        schema: &SchemaRef,
        (folder, shown): (PathBuf, PathBuf),
        pieces: Vec<u64>,
        limit: u64,
    ) -> Self {
        Self {
            step: step.to_owned(),
            input,
            input_schema: schema.clone(),
            schema: with_places(schema),
            folder,
            shown,
            pieces,
            grain: 1,
            again: None,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            held: Vec::new(),
            places: Vec::new(),
            bytes: 0,
            done: Vec::new(),
            kept: None,
            failure: Failure::default(),
            before: (0, 0, 0),
        }
    }

    /// A spiller that puts rows of so many parts in one piece.
    pub fn in_pieces_of(self, parts: u64) -> Self {
        Self { grain: parts, ..self }
    }

    /// A spiller of what was put aside before, on this worker: there may be several runs with rows of one part.
    pub fn again(self, worker: usize) -> Self {
        Self { again: Some((worker, 0)), ..self }
    }

    /// A spiller that waits for a disk until the run has failed elsewhere, or was told to stop.
    pub fn until(self, failure: &Failure) -> Self {
        Self { failure: failure.clone(), ..self }
    }

    /// A spiller that leaves in memory there what it never had to write.
    pub fn keeping(self, kept: Option<Arc<Kept>>) -> Self {
        Self { kept, ..self }
    }

    /// The rows of a batch that go to outputs that are read, with the planned columns.
    pub fn wanted(&self, batch: RecordBatch, mut places: Vec<(Place, u32)>) -> Result<(RecordBatch, Vec<(Place, u32)>)> {
        let batch = super::columns::project(&batch, &self.input_schema)?;
        places.retain(|(place, _)| self.pieces.get(usize::from(place.output)).is_some_and(|pieces| *pieces > 0));
        let mut rows: Vec<u32> = places.iter().map(|(_, row)| *row).collect();
        rows.dedup();
        if rows.len() * 4 > batch.num_rows() * 3 {
            return Ok((batch, places));
        }
        // Rows that are not taken would keep their memory until the run is written.
        let (mut next, mut before) = (0, None);
        for (_, row) in &mut places {
            next += u32::from(before.is_some_and(|b| b != *row));
            before = Some(*row);
            *row = next;
        }
        Ok((take_record_batch(&batch, &UInt32Array::from(rows))?, places))
    }

    /// Takes the rows of a batch of the part in hand, each to its place.
    pub fn take(&mut self, batch: RecordBatch, places: impl IntoIterator<Item = (Place, u32)>) -> Result<()> {
        let number = u32::try_from(self.held.len())?;
        let before = self.places.len();
        self.places.extend(places.into_iter().map(|(place, row)| (place, number, row)));
        if self.places.len() > before {
            self.bytes += batch.get_array_memory_size() + (self.places.len() - before) * size_of::<Placed>();
            self.held.push(batch);
        }
        Ok(())
    }

    /// The part in hand is over: a run, where enough is held.
    pub fn finish(&mut self, part: u64) -> Result<Option<Made>> {
        self.done.push(part);
        self.before = (self.held.len(), self.places.len(), self.bytes);
        if self.bytes >= self.limit { self.write() } else { Ok(None) }
    }

    /// There is more of the part in hand: a run with what came of it so far, where enough is held.
    pub fn within(&mut self, part: u64) -> Result<Option<Made>> {
        if self.bytes < self.limit {
            return Ok(None);
        }
        self.done.push(part);
        self.write()
    }

    /// The part in hand is given up.
    pub fn forget(&mut self) {
        self.held.truncate(self.before.0);
        self.places.truncate(self.before.1);
        self.bytes = self.before.2;
    }

    /// Nothing more will come: what is held, if any part is, stays in memory where that was enough for everything.
    pub fn end(&mut self) -> Result<Option<Made>> {
        let (Some(kept), bytes) = (self.kept.clone(), self.bytes as u64) else { return self.write() };
        let Some((parts, held, places)) = self.taken()? else { return Ok(None) };
        let spill = self.spill(PathBuf::from(self.name(parts[0])), parts[0], true);
        let run = KeptRun::new((&self.step, bytes), self.schema.clone(), held, places, (&self.pieces, self.grain));
        let mut index = Vec::new();
        varint::write_unsigned(&mut index, 0);
        index.extend(0_u64.to_le_bytes());
        let mut counts = run.counts();
        for pieces in &self.pieces {
            [0, *pieces].into_iter().for_each(|word| varint::write_unsigned(&mut index, word));
            counts.by_ref().take(usize::try_from(*pieces)?).for_each(|rows| varint::write_unsigned(&mut index, rows));
        }
        drop(counts);
        kept.keep(&spill.path, run);
        Ok(Some(Made { spill, index, parts }))
    }

    /// The parts that are over, and their rows by place; none where no part is.
    fn taken(&mut self) -> Result<Option<Taken>> {
        let parts = std::mem::take(&mut self.done);
        if parts.is_empty() {
            return Ok(None);
        }
        let mut places = std::mem::take(&mut self.places);
        let held = one_dictionary(&std::mem::take(&mut self.held), &mut places)?;
        (self.bytes, self.before) = (0, (0, 0, 0));
        places.sort_unstable();
        Ok(Some((parts, held, places)))
    }

    fn name(&self, first: u64) -> String {
        match self.again {
            None => format!("{}-{}-{first:06}", self.step, self.input),
            Some((worker, number)) => format!("{}-{}-{first:06}-again-{worker}-{number}", self.step, self.input),
        }
    }

    fn spill(&self, path: PathBuf, first: u64, in_memory: bool) -> Spill {
        Spill { step: self.step.clone(), path, host: host(), input: self.input, first, in_memory }
    }

    /// Writes what is held, if any part is.
    pub fn write(&mut self) -> Result<Option<Made>> {
        self.kept = None;
        let Some((parts, held, places)) = self.taken()? else { return Ok(None) };
        let name = self.name(parts[0]) + ".arrow";
        self.again = self.again.map(|(worker, number)| (worker, number + 1));
        let mut patience = Patience::default();
        let index = loop {
            // A disk that is full, or away: the rows are still here, so the run is written anew.
            let put = self.put(&name, &held, &places);
            match put
                .with_context(|| format!("rows can't be put aside in {} (`--scratch` is another place)", self.folder.display()))
            {
                Ok(index) => break index,
                Err(error) if patience.again(&error, &|| self.failure.raised()) => {}
                Err(error) => return Err(error),
            }
        };
        let spill = self.spill(self.shown.join(&name), parts[0], false);
        Ok(Some(Made { spill, index, parts }))
    }

    /// Writes a run whole, or not at all; the rows of its pieces.
    fn put(&self, name: &str, held: &[RecordBatch], places: &[Placed]) -> Result<Vec<u8>> {
        files::make_folder(&self.folder)?;
        let (path, beside) = (self.folder.join(name), self.folder.join(format!("{name}.part-written")));
        let file = File::create(&beside).with_context(|| format!("cannot write {}", beside.display()))?;
        let counting = Counting { file: BufWriter::with_capacity(1 << 20, file), bytes: 0, hash: Xxh3Default::new() };
        let mut writer = FileWriter::try_new(counting, &self.schema)?;
        let (mut rest, mut index, mut pieces) = (places, Vec::new(), String::new());
        pieces.push_str(&writer.get_mut().piece());
        let held: Vec<&RecordBatch> = held.iter().collect();
        for (output, pieces_of) in self.pieces.iter().enumerate() {
            let (of_output, others) = rest.split_at(rest.partition_point(|(place, ..)| usize::from(place.output) <= output));
            let mut of_output = of_output;
            rest = others;
            // From the first to the last that has a row.
            let number = |placed: &Placed| u64::from(placed.0.part) / self.grain;
            let ends = of_output.first().map(number).zip(of_output.last().map(number));
            let (begin, end) = ends.map_or((0, 0), |(first, last)| (first, last + 1));
            ensure!(end <= *pieces_of, "`{}` sent rows to parts that are not there", self.step);
            [begin, end - begin].into_iter().for_each(|word| varint::write_unsigned(&mut index, word));
            for piece_number in begin..end {
                let (rows, others) = of_output.split_at(of_output.partition_point(|placed| number(placed) <= piece_number));
                of_output = others;
                varint::write_unsigned(&mut index, rows.len() as u64);
                writer.write(&piece(&self.schema, &held, rows)?)?;
                pieces.push_str(&writer.get_mut().piece());
            }
        }
        ensure!(rest.is_empty(), "`{}` sent rows to parts that are not there", self.step);
        writer.write_metadata(PIECES, pieces);
        writer.finish()?;
        let written = writer.into_inner()?;
        let mut of_end = Vec::new();
        varint::write_unsigned(&mut of_end, written.bytes);
        of_end.extend(written.hash.digest().to_le_bytes());
        let file = written.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all().with_context(|| format!("cannot write {}", beside.display()))?;
        std::fs::rename(&beside, &path)?;
        files::sync_folder(&self.folder)?;
        of_end.append(&mut index);
        Ok(of_end)
    }
}

/// The batches with one dictionary for each column that has one, as an Arrow IPC file asks for.
///
/// Where that takes a copy, rows get other numbers: those `places`, each with what it is for, follow.
pub fn one_dictionary<T>(held: &[RecordBatch], places: &mut [(T, u32, u32)]) -> Result<Vec<RecordBatch>> {
    let held = column::share_samples(held)?;
    let Some(first) = held.first() else { return Ok(held) };
    let values =
        |batch: &RecordBatch, column: usize| batch.column(column).as_any_dictionary_opt().map(|d| Arc::clone(d.values()));
    let same = |column: usize| {
        let Some(one) = values(first, column) else { return true };
        held.iter().all(|batch| values(batch, column).is_some_and(|other| Arc::ptr_eq(&one, &other)))
    };
    if (0..first.num_columns()).all(same) {
        return Ok(held);
    }
    let mut before = 0;
    let mut first_rows = Vec::new();
    for batch in &held {
        first_rows.push(before);
        before += u32::try_from(batch.num_rows())?;
    }
    let one = column::concat(&first.schema(), &held)?;
    for (_, batch, row) in places {
        (*batch, *row) = (0, first_rows[*batch as usize] + *row);
    }
    Ok(vec![one])
}

/// A file that knows how long each piece of it is, and its checksum.
struct Counting {
    file: BufWriter<File>,
    bytes: u64,
    hash: Xxh3Default,
}

impl Counting {
    /// What was written since this was asked last: ` LENGTH:HASH`.
    fn piece(&mut self) -> String {
        let said = format!(" {}:{:016x}", self.bytes, self.hash.digest());
        (self.bytes, self.hash) = (0, Xxh3Default::new());
        said
    }
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// What stands behind the pieces of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    bytes: u64,
    hash: u64,
}

/// Of each output of a run the first piece that there is, with the rows of that one and of those behind it.
pub type Index = Vec<(u64, Vec<u64>)>;

/// The end of a run, and what is in it, from what the ledger keeps.
pub fn read_index(index: &[u8]) -> Result<(End, Index)> {
    let mut reader = varint::Reader(index);
    let end = End { bytes: reader.unsigned()?, hash: u64::from_le_bytes(reader.take()?) };
    let mut outputs = Vec::new();
    while !reader.0.is_empty() {
        let (first, pieces) = (reader.unsigned()?, reader.unsigned()?);
        ensure!(pieces <= index.len() as u64 && first <= u64::from(u32::MAX), "the index of a spill is damaged");
        outputs.push((first, (0..pieces).map(|_| reader.unsigned()).collect::<Result<_>>()?));
    }
    Ok((end, outputs))
}

/// Reads the pieces of a run.
pub struct RunReader {
    path: PathBuf,
    file: File,
    decoder: FileDecoder,
    blocks: Vec<Block>,
    /// Where each piece begins, its length and its checksum.
    pieces: Vec<(u64, u64, u64)>,
    /// The first byte that is here, and the bytes.
    ahead: (u64, Buffer),
}

impl std::fmt::Debug for RunReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunReader").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RunReader {
    /// Opens a run with this end.
    pub fn open(path: &Path, end: End) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open the spill {}", path.display()))?;
        Self::read_end(path, file, end).with_context(|| damaged(path))
    }

    fn read_end(path: &Path, file: File, end: End) -> Result<Self> {
        let length = file.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(end.bytes.min(length))?];
        file.read_exact_at(&mut bytes, length.checked_sub(end.bytes).context("it is too short")?)?;
        ensure!(xxh3_64(&bytes) == end.hash, "its end was changed");
        let (rest, tail) = bytes.split_last_chunk::<10>().context("it has no end")?;
        let footer = rest.len().checked_sub(read_footer_length(*tail)?).context("its footer is too long")?;
        let footer = root_as_footer(&rest[footer..]).map_err(|e| anyhow::anyhow!("{e:?}"))?;
        // As it was written: this panics where it is not.
        let schema = fb_to_schema(footer.schema().context("no schema")?);
        let mut decoder = FileDecoder::new(Arc::new(schema), footer.version());
        let blocks: Vec<Block> = footer.recordBatches().context("no pieces")?.iter().copied().collect();
        let said = footer.custom_metadata().and_then(|all| all.iter().find(|pair| pair.key() == Some(PIECES))?.value());
        let (mut pieces, mut begin) = (Vec::new(), 0);
        for piece in said.context("no checksums")?.split_whitespace() {
            let (bytes, hash) = piece.split_once(':').context("no checksum")?;
            let bytes: u64 = bytes.parse()?;
            pieces.push((begin, bytes, u64::from_str_radix(hash, 16)?));
            begin += bytes;
        }
        ensure!(pieces.len() == blocks.len() + 1 && begin <= length, "its footer does not fit");
        // The first is what stands before all pieces.
        pieces.remove(0);
        let dictionaries: Vec<Block> = footer.dictionaries().iter().flatten().copied().collect();
        let mut ahead = (0, Buffer::from_vec(Vec::<u8>::new()));
        for block in dictionaries {
            let at = u64::try_from(block.offset())?;
            let within = pieces.iter().position(|(begin, bytes, _)| (*begin..begin + bytes).contains(&at));
            let within = within.context("a dictionary outside of all pieces")?;
            let bytes = load(&file, &pieces, within, &mut ahead)?;
            decoder.read_dictionary(&block, &bytes.slice(usize::try_from(at - pieces[within].0)?))?;
        }
        Ok(Self { path: path.to_owned(), file, decoder, blocks, pieces, ahead })
    }

    /// A piece; none where it has no rows.
    pub fn piece(&mut self, number: usize) -> Result<Option<RecordBatch>> {
        let mut read = || -> Result<Option<RecordBatch>> {
            let block = *self.blocks.get(number).context("a piece that is not there")?;
            let bytes = load(&self.file, &self.pieces, number, &mut self.ahead)?;
            let inside = u64::try_from(block.offset())?.checked_sub(self.pieces[number].0).context("its footer does not fit")?;
            let batch = self.decoder.read_record_batch(&block, &bytes.slice(usize::try_from(inside)?))?;
            // Nothing of what was read ahead is left: only the batch keeps it.
            let (begin, length, _) = self.pieces[number];
            if begin + length >= self.ahead.0 + self.ahead.1.len() as u64 {
                self.ahead = (0, Buffer::from_vec(Vec::<u8>::new()));
            }
            Ok(batch)
        };
        Ok(read().with_context(|| damaged(&self.path))?.filter(|batch| batch.num_rows() > 0))
    }
}

fn damaged(path: &Path) -> String {
    format!("the spill {} is damaged or can't be read; where it is removed, the run makes it again", path.display())
}

/// The bytes of a piece, which are as they were written.
fn load(file: &File, pieces: &[(u64, u64, u64)], number: usize, ahead: &mut (u64, Buffer)) -> Result<Buffer> {
    let (begin, length, hash) = pieces[number];
    if begin < ahead.0 || begin + length > ahead.0 + ahead.1.len() as u64 {
        // Whole pieces, as many as make one good read.
        let ends = pieces[number..].iter().map(|(begin, length, _)| begin + length);
        let end = ends.take_while(|end| *end <= begin + READ.max(length)).last().unwrap_or(begin + length);
        let mut bytes = vec![0; usize::try_from(end - begin)?];
        file.read_exact_at(&mut bytes, begin)?;
        *ahead = (begin, Buffer::from_vec(bytes));
    }
    let bytes = ahead.1.slice_with_length(usize::try_from(begin - ahead.0)?, usize::try_from(length)?);
    ensure!(xxh3_64(&bytes) == hash, "a piece of it was changed");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::Int64Type;

    fn batch(from: i64, to: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
        RecordBatch::try_from_iter([("x", column)]).unwrap()
    }

    fn place(output: u8, part: u32, row: u64) -> Place {
        Place { output, part, stratum: 0, row }
    }

    #[test]
    fn rows_come_back_from_their_pieces_and_a_changed_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let of = batch(0, 1).schema();
        let mut spiller = Spiller::new(("mixed", 0), &of, (folder.path().into(), "runs".into()), vec![3, 0, 2], 1 << 30);
        spiller.take(batch(0, 4), [(place(0, 2, 7), 3), (place(2, 1, 8), 0), (place(0, 2, 1), 1)]).unwrap();
        assert!(spiller.finish(4).unwrap().is_none());
        spiller.take(batch(100, 200), [(place(0, 0, 0), 50)]).unwrap();
        spiller.forget();
        spiller.take(batch(10, 20), [(place(0, 2, 2), 9)]).unwrap();
        assert!(spiller.finish(6).unwrap().is_none());
        let made = spiller.write().unwrap().unwrap();
        assert!(spiller.write().unwrap().is_none());
        assert_eq!((made.parts, made.spill.path.to_str()), (vec![4, 6], Some("runs/mixed-0-000004.arrow")));
        let (end, rows) = read_index(&made.index).unwrap();
        assert_eq!(rows, [(2, vec![3]), (0, vec![]), (1, vec![1])]);
        let open = |path: &Path| RunReader::open(path, end);
        let path = folder.path().join("mixed-0-000004.arrow");
        let mut reader = open(&path).unwrap();
        let mut seen = Vec::new();
        for piece in 0..2 {
            let rows = reader.piece(piece).unwrap();
            seen.push(rows.map_or(Vec::new(), |b| b.column(0).as_primitive::<Int64Type>().values().to_vec()));
        }
        assert_eq!(seen, [vec![1, 19, 3], vec![0]]);
        assert!(reader.piece(2).is_err());
        let whole = std::fs::read(&path).unwrap();
        let mut noticed = 0;
        for at in (0..whole.len()).step_by(7) {
            let mut bad = whole.clone();
            bad[at] ^= 0x55;
            std::fs::write(&path, &bad).unwrap();
            let read = open(&path).and_then(|mut reader| (0..2).map(|piece| reader.piece(piece)).collect::<Result<Vec<_>>>());
            match read {
                Err(error) => {
                    noticed += 1;
                    assert!(format!("{error:#}").contains("mixed-0-000004.arrow is damaged or"), "{error:#}");
                }
                // What stands before the pieces and between them and the footer says nothing.
                Ok(pieces) => assert_eq!(pieces.iter().flatten().map(RecordBatch::num_rows).sum::<usize>(), 4, "byte {at}"),
            }
        }
        assert!(noticed > whole.len() / 7 / 2, "{noticed} of {}", whole.len() / 7);
        for length in [0, 5, 9, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(open(&path).is_err());
        }
    }
}
