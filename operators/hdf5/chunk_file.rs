//! Long chunk indices on disk: taken once from the library, then read by the stretch that is needed.
//!
//! The index of a file of terabytes has millions of chunks, and a unit needs a few hundred of them. So the reader process hands
//! it over piece by piece, and what is kept of it is a file in the run folder, named by the fingerprint of the file that it is
//! of: a run that goes on asks the library for nothing. Layout, little-endian: the blocks (a [`ChunkList`] each, of number,
//! address, size and mask), the directory (five numbers a block), the end ([`END`] bytes: a hash of key and
//! directory, where the directory begins, its length).
//!
//! Invariants: at most a block and the directory (one part in a thousand) are in memory at a time; a file that is not whole,
//! or of another key, is no index, and a block whose hash is wrong is not used; chunks need not be in order, but a block that
//! has one of a stretch is found. Whoever uses the entries checks them ([`super::index::Grid::holds`]).

use super::chunk_list::{ChunkList, Entry};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, IntoInnerError, Result, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use tempfile::NamedTempFile;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The name of the folder of indices in the run folder.
pub const FOLDER: &str = ".chunks";
/// Chunks of a block.
pub const BLOCK: usize = 4096;
/// Bytes of the end.
const END: usize = 32;
/// Bytes of a block in the directory.
const LISTED: usize = 40;
/// A directory that is longer is not believed: so many blocks have more chunks than any file.
const MOST_LISTED: u64 = 1 << 30;
/// Counts changes of the layout.
const FORMAT: u32 = 1;

/// A chunk index on disk.
#[derive(Debug)]
pub struct ChunkFile {
    file: File,
    blocks: Vec<Block>,
}

/// Chunks that stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    lowest: u64,
    highest: u64,
    at: u64,
    bytes: u64,
    hash: u64,
}

/// The name of the index of a dataset in the folder of indices: it begins with the fingerprint.
#[must_use]
pub fn name(fingerprint: &str, dataset: &str) -> String {
    format!("{fingerprint}-{:016x}", xxh3_64(dataset.as_bytes()))
}

/// Removes from the folder of indices what belongs to none of these fingerprints.
pub fn sweep(folder: &Path, fingerprints: &BTreeSet<&str>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let of = name.to_str().and_then(|n| n.split_once('-')).map(|(of, _)| of);
        if of.is_none_or(|of| !fingerprints.contains(of)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn hash(key: &str, directory: &[u8]) -> [u8; 16] {
    let key = format!("calostream chunks {FORMAT} {key}");
    xxh3_128(&[&xxh3_128(key.as_bytes()).to_le_bytes(), directory].concat()).to_le_bytes()
}

fn damaged() -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, "a kept chunk index is damaged")
}

impl ChunkFile {
    /// The index at a path, where it is one of this key and whole for the chunks of this stretch.
    #[must_use]
    pub fn open(path: &Path, key: &str, stretch: Range<u64>) -> Option<Self> {
        let found = Self::read(File::open(path).ok()?, key).ok()?;
        let whole = found.touching(&stretch).all(|block| found.list(block).is_ok());
        whole.then_some(found)
    }

    fn read(file: File, key: &str) -> Result<Self> {
        let bytes = file.metadata()?.len();
        let mut end = [0; END];
        file.read_exact_at(&mut end, bytes.checked_sub(END as u64).ok_or_else(damaged)?)?;
        let number = |at: usize| end[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        let (at, length) = (number(16), number(24));
        if length > MOST_LISTED || at.checked_add(length).is_none_or(|to| to != bytes - END as u64) {
            return Err(damaged());
        }
        let mut directory = vec![0; length as usize];
        file.read_exact_at(&mut directory, at)?;
        if hash(key, &directory) != end[..16] {
            return Err(damaged());
        }
        let blocks = directory.chunks_exact(LISTED).map(Block::of).collect();
        Ok(Self { file, blocks })
    }

    fn touching(&self, stretch: &Range<u64>) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |b| b.lowest < stretch.end && stretch.start <= b.highest)
    }

    fn list(&self, block: &Block) -> Result<ChunkList> {
        if block.at.checked_add(block.bytes).is_none_or(|to| to > self.file.metadata().map_or(0, |f| f.len())) {
            return Err(damaged());
        }
        let mut bytes = vec![0; usize::try_from(block.bytes).map_err(std::io::Error::other)?];
        self.file.read_exact_at(&mut bytes, block.at)?;
        if xxh3_64(&bytes) == block.hash { Ok(ChunkList::of(bytes)) } else { Err(damaged()) }
    }

    /// The chunks whose numbers lie in the stretch, in no order.
    pub fn stretch(&self, stretch: Range<u64>) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for block in self.touching(&stretch) {
            let numbers = self.list(block)?.unpack(1).map_err(|_| damaged())?;
            let each = numbers.chunks_exact(4).map(|n| Entry { number: n[0], address: n[1], size: n[2], mask: n[3] });
            entries.extend(each.filter(|e| stretch.contains(&e.number)));
        }
        Ok(entries)
    }
}

impl Block {
    fn of(bytes: &[u8]) -> Self {
        let number = |i: usize| bytes[8 * i..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        Self { lowest: number(0), highest: number(1), at: number(2), bytes: number(3), hash: number(4) }
    }
}

/// An index under construction.
#[derive(Debug)]
pub struct Writer {
    to: To,
    written: u64,
    pending: Vec<u64>,
    directory: Vec<u8>,
}

/// Where it is written: into its folder, or, where there is none, where nobody else finds it.
#[derive(Debug)]
enum To {
    Named(BufWriter<NamedTempFile>, PathBuf),
    Nameless(BufWriter<File>),
}

impl Writer {
    /// An index that will stand at this path.
    pub fn new(path: Option<&Path>) -> Result<Self> {
        let named = path.and_then(|path| {
            let folder = path.parent()?;
            std::fs::create_dir_all(folder).ok()?;
            Some(To::Named(BufWriter::new(NamedTempFile::new_in(folder).ok()?), path.to_owned()))
        });
        let to = match named {
            Some(named) => named,
            None => To::Nameless(BufWriter::new(tempfile::tempfile()?)),
        };
        Ok(Self { to, written: 0, pending: Vec::new(), directory: Vec::new() })
    }

    /// Adds a chunk.
    pub fn push(&mut self, entry: Entry) -> Result<()> {
        self.pending.extend([entry.number, entry.address, entry.size, entry.mask]);
        if self.pending.len() == 4 * BLOCK { self.block() } else { Ok(()) }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        match &mut self.to {
            To::Named(to, _) => to.write_all(bytes),
            To::Nameless(to) => to.write_all(bytes),
        }
    }

    fn block(&mut self) -> Result<()> {
        let numbers = || self.pending.iter().step_by(4).copied();
        let (Some(lowest), Some(highest)) = (numbers().min(), numbers().max()) else { return Ok(()) };
        let list = ChunkList::pack(1, &self.pending);
        let bytes = list.bytes();
        for number in [lowest, highest, self.written, bytes.len() as u64, xxh3_64(bytes)] {
            self.directory.extend(number.to_le_bytes());
        }
        self.pending.clear();
        self.put(bytes)
    }

    /// The finished index.
    pub fn finish(mut self, key: &str) -> Result<ChunkFile> {
        self.block()?;
        let (directory, at) = (std::mem::take(&mut self.directory), self.written);
        self.put(&directory)?;
        self.put(&[&hash(key, &directory)[..], &at.to_le_bytes(), &(directory.len() as u64).to_le_bytes()].concat())?;
        let file = match self.to {
            To::Named(to, path) => to.into_inner().map_err(IntoInnerError::into_error)?.persist(path).map_err(|e| e.error)?,
            To::Nameless(to) => to.into_inner().map_err(IntoInnerError::into_error)?,
        };
        Ok(ChunkFile { file, blocks: directory.chunks_exact(LISTED).map(Block::of).collect() })
    }
}

/// The indices that threads of this process are taking.
static TAKING: (Mutex<BTreeSet<PathBuf>>, Condvar) = (Mutex::new(BTreeSet::new()), Condvar::new());

/// The right to take the index that will stand at a path: who comes second waits, and finds it there.
#[derive(Debug)]
pub struct Turn(PathBuf);

impl Turn {
    /// Waits until nobody else is at it.
    #[must_use]
    pub fn wait(path: &Path) -> Self {
        let (taking, over) = &TAKING;
        let mut taking = taking.lock().unwrap_or_else(PoisonError::into_inner);
        while !taking.insert(path.to_owned()) {
            taking = over.wait(taking).unwrap_or_else(PoisonError::into_inner);
        }
        Self(path.to_owned())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKING.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        TAKING.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(numbers: impl Iterator<Item = u64>) -> Vec<Entry> {
        numbers.map(|n| Entry { number: n, address: 700 * n + 48, size: 700 - n % 7, mask: n % 3 }).collect()
    }

    fn written(path: &Path, entries: &[Entry]) -> ChunkFile {
        let mut writer = Writer::new(Some(path)).unwrap();
        entries.iter().for_each(|e| writer.push(*e).unwrap());
        writer.finish("key").unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_stretch_is_what_a_search_through_all_finds(n in 0u64..20_000, from in 0u64..20_000, length in 0u64..9000, turned: bool) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x");
            // In order, or as the library hands over chunks along another axis.
            let all = entries((0..n).map(|i| if turned { i * 7919 % 20_011 } else { i }));
            let new = written(&path, &all);
            let read = ChunkFile::open(&path, "key", 0..u64::MAX).unwrap();
            let sorted = |mut some: Vec<Entry>| { some.sort_by_key(|e| e.number); some };
            let wanted = sorted(all.iter().filter(|e| (from..from + length).contains(&e.number)).copied().collect());
            for file in [new, read] {
                prop_assert_eq!(&sorted(file.stretch(from..from + length).unwrap()), &wanted);
            }
            prop_assert!(ChunkFile::open(&path, "another key", 0..0).is_none());
        }
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let all = entries(0..3 * BLOCK as u64);
        written(&path, &all);
        let good = std::fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(97).chain(good.len() - 200..good.len()) {
            let mut bad = good.clone();
            bad[at] ^= 16;
            std::fs::write(&path, &bad).unwrap();
            assert!(ChunkFile::open(&path, "key", 0..u64::MAX).is_none(), "byte {at} of {}", good.len());
        }
        for length in (0..good.len()).step_by(101) {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(ChunkFile::open(&path, "key", 0..u64::MAX).is_none(), "{length} of {}", good.len());
        }
        // Another stretch's block is not looked at, and damage that comes later is an error.
        let mut bad = good;
        bad[10] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        let file = ChunkFile::open(&path, "key", BLOCK as u64..u64::MAX).unwrap();
        assert_eq!(file.stretch(BLOCK as u64..BLOCK as u64 + 2).unwrap(), &all[BLOCK..BLOCK + 2]);
        assert_eq!(file.stretch(0..1).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn only_one_takes_an_index() {
        let (here, most) = (Mutex::new(0), Mutex::new(0));
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..50 {
                        let turn = Turn::wait(Path::new("the same"));
                        *here.lock().unwrap() += 1;
                        let now = *here.lock().unwrap();
                        let mut most = most.lock().unwrap();
                        *most = now.max(*most);
                        drop(most);
                        std::thread::yield_now();
                        *here.lock().unwrap() -= 1;
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!(*most.lock().unwrap(), 1);
    }

    #[test]
    fn what_belongs_to_no_input_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        for name in [name("aa", "ECAL"), name("bb", "ECAL"), ".tmpABC".into()] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        sweep(folder.path(), &BTreeSet::from(["aa"]));
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [name("aa", "ECAL").as_str()]);
    }
}
