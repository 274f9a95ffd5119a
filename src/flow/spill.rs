//! Rows put aside by a shuffle: sorted runs on disk, of which any stretch can be read back.
//!
//! A run is an Arrow IPC file (uncompressed: the disk is rarely slower than a codec here, see `facts` in the design) whose
//! rows are sorted by (output, stratum, key) and cut into blocks of [`BLOCK`] rows that never cross a stratum. Its keys go to
//! the ledger, so that the new order is known to every process before any row is read again.
//!
//! Invariant: within a stratum the final order is the order of (key, run, place in the run), and runs are numbered by part;
//! so neither workers nor the moment of a flush have a say, unless two rows have equal keys, which for keys made of event
//! identities are two copies of one event.

use super::stage::Record;
use crate::files::{self, Patience};
use crate::ledger::lock::host;
use crate::ledger::log::Spill;
use anyhow::{Context, Result, ensure};
use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use calostream_operators::work::{Route, Shuffle};
use calostream_operators::{Fault, column};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// Rows of a block. Small, because a range of positions needs only a few rows of each run.
pub const BLOCK: usize = 32;
/// A run is written when this many bytes are held.
pub const RUN_BYTES: usize = 48 << 20;

/// The keys of one output and stratum in a run, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The output.
    pub output: u8,
    /// The stratum.
    pub stratum: u16,
    /// The keys, ascending.
    pub keys: Vec<u64>,
}

/// How many rows of a part went where.
#[derive(Debug, Default)]
pub struct Counts {
    /// By output.
    pub out: Vec<u64>,
    /// Rows that the shuffle cut.
    pub cut: u64,
}

/// Collects the rows of a part and writes them as sorted runs.
pub struct Spiller {
    shuffle: Box<dyn Shuffle>,
    step: String,
    schema: SchemaRef,
    folder: PathBuf,
    shown: PathBuf,
    /// Which outputs are read by anybody.
    wanted: Vec<bool>,
    held: Vec<RecordBatch>,
    routes: Vec<Route>,
    bytes: usize,
    runs: usize,
    made: Vec<(Spill, Vec<u8>)>,
    counts: Counts,
}

impl Spiller {
    /// A spiller into `folder`, which the log calls `shown`.
    pub fn new(
        shuffle: Box<dyn Shuffle>,
        step: &str,
        schema: SchemaRef,
        (folder, shown): (PathBuf, PathBuf),
        wanted: Vec<bool>,
    ) -> Self {
        let counts = Counts { out: vec![0; wanted.len()], cut: 0 };
        Self {
            shuffle,
            step: step.to_owned(),
            schema,
            folder,
            shown,
            wanted,
            held: Vec::new(),
            routes: Vec::new(),
            bytes: 0,
            runs: 0,
            made: Vec::new(),
            counts,
        }
    }

    /// Takes a batch of a part.
    pub fn take(&mut self, part: u64, batch: &RecordBatch) -> Result<(), Fault> {
        let before = self.routes.len();
        self.shuffle.route(batch, &mut self.routes)?;
        if self.routes.len() != before + batch.num_rows() {
            return Err(anyhow::anyhow!("`{}` gave another number of routes than of rows", self.step).into());
        }
        let mut batch = super::stage::project(batch, &self.schema)?;
        let keep: Vec<u64> =
            (0..batch.num_rows() as u64).filter(|row| self.wanted(self.routes[before + *row as usize])).collect();
        for route in &self.routes[before..] {
            match self.counts.out.get_mut(usize::from(route.output)) {
                Some(count) => *count += 1,
                None => self.counts.cut += 1,
            }
        }
        if keep.len() < batch.num_rows() {
            batch = take_record_batch(&batch, &UInt64Array::from(keep))?;
            let kept: Vec<Route> =
                self.routes.drain(before..).filter(|r| self.wanted.get(usize::from(r.output)) == Some(&true)).collect();
            self.routes.extend(kept);
        }
        self.bytes += batch.get_array_memory_size();
        if batch.num_rows() > 0 {
            self.held.push(batch);
        }
        if self.bytes >= RUN_BYTES {
            self.write(part)?;
        }
        Ok(())
    }

    fn wanted(&self, route: Route) -> bool {
        self.wanted.get(usize::from(route.output)) == Some(&true)
    }

    /// The part is over: writes what is held.
    pub fn finish(&mut self, part: u64) -> Result<()> {
        self.write(part)?;
        self.runs = 0;
        Ok(())
    }

    /// What has been written since the last call.
    pub fn records(&mut self, step: usize) -> Vec<Record> {
        self.made.drain(..).map(|(spill, keys)| Record::Spill { step, spill, keys }).collect()
    }

    /// The counts of the part.
    pub fn take_counts(&mut self) -> Counts {
        let fresh = Counts { out: vec![0; self.wanted.len()], cut: 0 };
        std::mem::replace(&mut self.counts, fresh)
    }

    /// The part is given up.
    pub fn forget(&mut self) {
        self.held.clear();
        self.routes.clear();
        self.made.clear();
        (self.bytes, self.runs) = (0, 0);
        self.take_counts();
    }

    fn write(&mut self, part: u64) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let rows = column::concat(&self.schema, &self.held)?;
        self.held.clear();
        self.bytes = 0;
        let routes = std::mem::take(&mut self.routes);
        let mut order: Vec<u32> = (0..u32::try_from(routes.len())?).collect();
        order.sort_by_key(|i| {
            let r = routes[*i as usize];
            (r.output, r.stratum, r.key)
        });
        let mut groups: Vec<Group> = Vec::new();
        for i in &order {
            let r = routes[*i as usize];
            match groups.last_mut() {
                Some(g) if (g.output, g.stratum) == (r.output, r.stratum) => g.keys.push(r.key),
                _ => groups.push(Group { output: r.output, stratum: r.stratum, keys: vec![r.key] }),
            }
        }
        let name = format!("{}-{part:05}-{:03}.arrow", self.step, self.runs);
        self.runs += 1;
        let mut patience = Patience::default();
        // A disk that is full, or away: the rows are still here, so the run is written anew.
        while let Err(error) = self.put(&name, &rows, &order, &groups) {
            if !patience.again(&error, &|| false) {
                return Err(error);
            }
        }
        let spill = Spill { step: self.step.clone(), path: self.shown.join(&name), host: host() };
        self.made.push((spill, encode(&groups)));
        Ok(())
    }

    /// Writes a run whole, or not at all.
    fn put(&self, name: &str, rows: &RecordBatch, order: &[u32], groups: &[Group]) -> Result<()> {
        files::make_folder(&self.folder)?;
        let (path, beside) = (self.folder.join(name), self.folder.join(format!("{name}.part-written")));
        let file = File::create(&beside).with_context(|| format!("cannot write {}", beside.display()))?;
        let mut writer = FileWriter::try_new(BufWriter::with_capacity(1 << 20, file), &self.schema)?;
        let mut start = 0;
        for group in groups {
            for block in order[start..start + group.keys.len()].chunks(BLOCK) {
                let take = UInt64Array::from_iter_values(block.iter().map(|i| u64::from(*i)));
                writer.write(&take_record_batch(rows, &take)?)?;
            }
            start += group.keys.len();
        }
        writer.finish()?;
        let file = writer.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all().with_context(|| format!("cannot write {}", beside.display()))?;
        std::fs::rename(&beside, &path)?;
        files::sync_folder(&self.folder)
    }
}

/// The groups of a run as bytes for the ledger.
pub fn encode(groups: &[Group]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for group in groups {
        for word in [u64::from(group.output), u64::from(group.stratum), group.keys.len() as u64] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        group.keys.iter().for_each(|k| bytes.extend_from_slice(&k.to_le_bytes()));
    }
    bytes
}

/// Reads [`encode`]'s bytes.
pub fn decode(bytes: &[u8]) -> Result<Vec<Group>> {
    ensure!(bytes.len().is_multiple_of(8), "the keys of a spill are damaged");
    let mut words = bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().expect("eight bytes")));
    let mut groups = Vec::new();
    while let Some(output) = words.next() {
        let (stratum, length) = words.next().zip(words.next()).context("the keys of a spill are damaged")?;
        let keys: Vec<u64> = words.by_ref().take(usize::try_from(length)?).collect();
        ensure!(keys.len() as u64 == length, "the keys of a spill are damaged");
        groups.push(Group { output: u8::try_from(output)?, stratum: u16::try_from(stratum)?, keys });
    }
    Ok(groups)
}

/// Reads rows of a run.
pub struct RunReader {
    reader: FileReader<File>,
    /// The first block of each group.
    first_block: Vec<(u8, u16, usize, usize)>,
}

impl RunReader {
    /// Opens a run with these groups, to read these columns of it.
    pub fn open(path: &Path, groups: &[Group], columns: &[usize]) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open the spill {}", path.display()))?;
        let reader = FileReader::try_new(file, Some(columns.to_vec()));
        let reader = reader.with_context(|| format!("the spill {} is damaged", path.display()))?;
        let mut first_block = Vec::new();
        let mut block = 0;
        for g in groups {
            first_block.push((g.output, g.stratum, block, g.keys.len()));
            block += g.keys.len().div_ceil(BLOCK);
        }
        ensure!(reader.num_batches() == block, "the spill {} does not fit the log", path.display());
        Ok(Self { reader, first_block })
    }

    /// Rows `from..to` of a group.
    pub fn read(&mut self, output: u8, stratum: u16, from: usize, to: usize) -> Result<Vec<RecordBatch>> {
        let mut found = Vec::new();
        let group = self.first_block.iter().find(|g| (g.0, g.1) == (output, stratum));
        let Some((_, _, first, length)) = group.copied() else { return Ok(found) };
        ensure!(to <= length, "a stretch of {to} rows of {length}");
        let mut row = from;
        while row < to {
            let (block, inside) = (row / BLOCK, row % BLOCK);
            self.reader.set_index(first + block)?;
            let batch = self.reader.next().context("a block that is not there")??;
            let rows = (batch.num_rows() - inside).min(to - row);
            let piece = batch.slice(inside, rows);
            // A few rows of a block would keep all of it in memory until their range is complete.
            let few = rows < batch.num_rows();
            found.push(if few { take_record_batch(&piece, &UInt64Array::from_iter_values(0..rows as u64))? } else { piece });
            row += rows;
        }
        Ok(found)
    }
}
