//! Where the chunks of a dataset are: taken once through the reader process, checked, and looked up by place.
//!
//! A short index comes with the header. A long one stands in a file ([`super::chunk_file`]), of which the stretch is in
//! memory that the rows in hand need. Invariant: every chunk here stands on the grid of the dataset and lies within the file.

use super::chunk_file::{BLOCK, ChunkFile, Turn, Writer, name};
use super::chunk_list::Entry;
use super::header::{Dataset, Layout};
use super::opened::Opened;
use super::process::Reader;
use crate::Fault;
use std::io::{Error, ErrorKind};
use std::ops::Range;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// The places that the chunks of a dataset may have.
#[derive(Debug, Clone)]
pub struct Grid {
    dataset: String,
    shape: Vec<u64>,
    chunk: Vec<u64>,
    /// Chunks along each axis.
    lengths: Vec<u64>,
    /// Bytes of the file.
    bytes: u64,
}

impl Grid {
    /// The grid of a chunked dataset in a file of `bytes` bytes.
    pub fn new(dataset: &Dataset, bytes: u64) -> Result<Self, Fault> {
        let Layout::Chunked { chunk, .. } = &dataset.layout else {
            return Err(Fault::content(format!("`{}` is not chunked", dataset.path)));
        };
        let lengths = dataset.shape.iter().zip(chunk).map(|(n, c)| n.div_ceil(*c)).collect();
        Ok(Self { dataset: dataset.path.clone(), shape: dataset.shape.clone(), chunk: chunk.clone(), lengths, bytes })
    }

    /// A chunk from what the library says of it (offsets, address, size, mask); none for one beyond the end of the dataset.
    fn entry(&self, record: &[u64]) -> Result<Option<Entry>, Fault> {
        let (offset, rest) = record.split_at(self.chunk.len());
        let wrong = |what: &str| Err(Fault::content(format!("chunk {offset:?} of `{}` {what}", self.dataset)));
        if offset.iter().zip(&self.chunk).any(|(o, c)| o % c != 0) {
            return wrong("does not stand on the grid of its chunks");
        }
        // A dataset that was made smaller may keep chunks beyond its end.
        if offset.iter().zip(&self.shape).any(|(o, n)| o >= n) {
            return Ok(None);
        }
        let each = offset.iter().zip(&self.chunk).zip(&self.lengths);
        let number = each.fold(0, |n, ((o, c), g)| n * g + o / c);
        let entry = Entry { number, address: rest[0], size: rest[1], mask: rest[2] };
        if !self.holds(entry) {
            let (from, to) = (entry.address, entry.address.saturating_add(entry.size));
            return wrong(&format!("reaches from byte {from} to {to} of a file of {}", self.bytes));
        }
        Ok(Some(entry))
    }

    /// True where the chunk lies within the file.
    #[must_use]
    pub fn holds(&self, entry: Entry) -> bool {
        entry.address.checked_add(entry.size).is_some_and(|end| end <= self.bytes)
    }

    /// The numbers of the chunks that these rows touch.
    #[must_use]
    pub fn numbers(&self, rows: Range<u64>) -> Range<u64> {
        // All chunks that begin at the same row.
        let band: u64 = self.lengths.iter().skip(1).product();
        let height = self.chunk.first().copied().unwrap_or(1);
        rows.start / height * band..rows.end.div_ceil(height).saturating_mul(band)
    }

    /// Where a chunk begins, along each axis.
    #[must_use]
    pub fn offset(&self, number: u64) -> Vec<u64> {
        let mut rest = number;
        let each = self.lengths.iter().zip(&self.chunk).rev().map(|(g, c)| {
            let at = rest % g * c;
            rest /= g;
            at
        });
        let mut offset: Vec<u64> = each.collect();
        offset.reverse();
        offset
    }
}

/// Where long indices are kept, and the file that they are of.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// The folder of indices.
    pub folder: &'a Path,
    /// The fingerprint of the file.
    pub fingerprint: &'a str,
}

/// The chunks of a dataset, by their number on the grid.
#[derive(Debug)]
pub struct Index {
    grid: Grid,
    /// Sorted; all of the stretch.
    entries: Vec<Entry>,
    /// The numbers of which everything is in memory.
    stretch: Range<u64>,
    file: Option<ChunkFile>,
}

impl Index {
    /// The index of a dataset of which `rows` will be read: from the header, from where it is kept, or from the library.
    pub fn new(
        dataset: &Dataset,
        opened: &Opened,
        reader: &mut Reader,
        kept: Option<Kept<'_>>,
        rows: Range<u64>,
    ) -> Result<Self, Fault> {
        let grid = Grid::new(dataset, opened.bytes)?;
        if let Some(list) = &dataset.chunks {
            let rank = grid.chunk.len();
            let records = list.unpack(rank).map_err(|e| Fault::content(format!("`{}`: {e}", dataset.path)))?;
            let entries = records.chunks_exact(rank + 3).filter_map(|record| grid.entry(record).transpose());
            let entries = entries.collect::<Result<_, _>>()?;
            let mut index = Self { grid, entries, stretch: 0..u64::MAX, file: None };
            index.sort()?;
            return Ok(index);
        }
        let key = format!("{} {} {:x}", kept.map_or("", |k| k.fingerprint), dataset.path, dataset.index_hash);
        let path = kept.map(|k| k.folder.join(name(k.fingerprint, &dataset.path)));
        let known = || path.as_ref().and_then(|path| ChunkFile::open(path, &key, grid.numbers(rows.clone())));
        let file = match known() {
            Some(file) => file,
            None => {
                let turn = path.as_deref().map(Turn::wait);
                let file = match known() {
                    Some(file) => file,
                    None => take(dataset, opened, reader, &grid, Writer::new(path.as_deref())?)?.finish(&key)?,
                };
                drop(turn);
                file
            }
        };
        Ok(Self { grid, entries: Vec::new(), stretch: 0..0, file: Some(file) })
    }

    /// The grid.
    #[must_use]
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// Sees to it that every chunk of these numbers is in memory.
    pub fn reach(&mut self, numbers: Range<u64>) -> Result<(), Fault> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.stretch.start <= numbers.start && numbers.end <= self.stretch.end {
            return Ok(());
        }
        // The next rows need what comes next.
        let stretch = numbers.start..numbers.end.max(numbers.start.saturating_add(BLOCK as u64));
        let found = file.stretch(stretch.clone());
        self.entries = found
            .and_then(|entries| match entries.iter().find(|e| !self.grid.holds(**e)) {
                None => Ok(entries),
                Some(_) => Err(Error::new(ErrorKind::InvalidData, "a kept chunk index is not of this file")),
            })
            // It was whole when it was opened: the storage fails, so the unit is read again, and the index taken again.
            .map_err(|error| anyhow::Error::new(Error::from(rustix::io::Errno::IO)).context(error))?;
        self.stretch = stretch;
        self.sort()
    }

    fn sort(&mut self) -> Result<(), Fault> {
        self.entries.sort_unstable_by_key(|e| e.number);
        match self.entries.windows(2).find(|w| w[0].number == w[1].number) {
            Some(twice) => {
                Err(Fault::content(format!("chunk number {} of `{}` is there twice", twice[0].number, self.grid.dataset)))
            }
            None => Ok(()),
        }
    }

    /// The chunk of this number, which is within reach, where it was written.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<Entry> {
        self.entries.binary_search_by_key(&number, |e| e.number).ok().map(|i| self.entries[i])
    }
}

/// Takes an index from the library, piece by piece.
fn take(dataset: &Dataset, opened: &Opened, reader: &mut Reader, grid: &Grid, mut to: Writer) -> Result<Writer, Fault> {
    // A damaged index may go in circles.
    let mut left = grid.lengths.iter().copied().fold(1, u64::saturating_mul);
    let mut hash = Xxh3::new();
    reader.index(&opened.path, &dataset.path, &mut |bytes| {
        hash.update(bytes);
        let numbers: Vec<u64> = bytes.chunks_exact(8).filter_map(|b| b.first_chunk().map(|b| u64::from_le_bytes(*b))).collect();
        for record in numbers.chunks_exact(grid.chunk.len() + 3) {
            if let Some(entry) = grid.entry(record)? {
                let Some(fewer) = left.checked_sub(1) else {
                    return Err(Fault::content(format!("`{}` has more chunks than places for them", dataset.path)));
                };
                left = fewer;
                to.push(entry)?;
            }
        }
        Ok(())
    })?;
    if hash.digest() == dataset.index_hash {
        return Ok(to);
    }
    Err(Fault::content(format!("the chunk index of `{}` is not what it was when the file was planned", dataset.path)))
}
