//! Where the chunks of a dataset are: taken once through the reader process, checked, and looked up by place.
//!
//! Invariant: every chunk here stands on the grid of the dataset and lies within the file.

use super::header::{Dataset, Layout};
use crate::Fault;

/// One chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its number on the grid, C order.
    pub number: u64,
    /// Where it begins in the file.
    pub address: u64,
    /// Bytes in the file.
    pub size: u64,
    /// Bit i set: filter i was not applied.
    pub mask: u64,
}

/// The chunks of a dataset, by their number on the grid.
#[derive(Debug, Clone)]
pub struct Index {
    entries: Vec<Entry>,
    chunk: Vec<u64>,
    /// Chunks along each axis.
    grid: Vec<u64>,
}

impl Index {
    /// Checks what the library says of `dataset` in a file of `bytes` bytes (offsets, address, size, mask of each chunk).
    pub fn new(dataset: &Dataset, raw: &[u64], bytes: u64) -> Result<Self, Fault> {
        let Layout::Chunked { chunk, .. } = &dataset.layout else {
            return Err(Fault::content(format!("`{}` is not chunked", dataset.path)));
        };
        let grid: Vec<u64> = dataset.shape.iter().zip(chunk).map(|(n, c)| n.div_ceil(*c)).collect();
        let mut entries = Vec::with_capacity(raw.len() / (grid.len() + 3));
        for record in raw.chunks_exact(grid.len() + 3) {
            let (offset, rest) = record.split_at(grid.len());
            let (address, size, mask) = (rest[0], rest[1], rest[2]);
            let wrong = |what: &str| Err(Fault::content(format!("chunk {offset:?} of `{}` {what}", dataset.path)));
            if offset.iter().zip(chunk).any(|(o, c)| o % c != 0) {
                return wrong("does not stand on the grid of its chunks");
            }
            // A dataset that was made smaller may keep chunks beyond its end.
            if offset.iter().zip(&dataset.shape).any(|(o, n)| o >= n) {
                continue;
            }
            if address.checked_add(size).is_none_or(|end| end > bytes) {
                return wrong(&format!("reaches from byte {address} to {} of a file of {bytes}", address.saturating_add(size)));
            }
            let number = offset.iter().zip(chunk).zip(&grid).fold(0, |n, ((o, c), g)| n * g + o / c);
            entries.push(Entry { number, address, size, mask });
        }
        entries.sort_unstable_by_key(|e| e.number);
        if let Some(twice) = entries.windows(2).find(|w| w[0].number == w[1].number) {
            return Err(Fault::content(format!("chunk number {} of `{}` is there twice", twice[0].number, dataset.path)));
        }
        Ok(Self { entries, chunk: chunk.clone(), grid })
    }

    /// The chunk of this number, where it was written.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<Entry> {
        self.entries.binary_search_by_key(&number, |e| e.number).ok().map(|i| self.entries[i])
    }

    /// Chunks in one band of rows (all that begin at the same row).
    #[must_use]
    pub fn band(&self) -> u64 {
        self.grid.iter().skip(1).product()
    }

    /// Where a chunk begins, along each axis.
    #[must_use]
    pub fn offset(&self, number: u64) -> Vec<u64> {
        let mut rest = number;
        let mut offset: Vec<u64> = self
            .grid
            .iter()
            .zip(&self.chunk)
            .rev()
            .map(|(g, c)| {
                let at = rest % g * c;
                rest /= g;
                at
            })
            .collect();
        offset.reverse();
        offset
    }
}
