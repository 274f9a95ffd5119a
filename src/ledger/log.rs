//! The commit log: what is true of a run. Data first, the log's line last; readers trust the log alone.
//!
//! `commits.jsonl` holds one line a settled part (and a few other kinds, see [`Line`]). What is too large for a line (sums,
//! the keys of a spill) stands in `contributions.bin`, which is fsynced before the line that points into it. A line without
//! an end, and contributions that no line points to, are what a kill left behind: they are ignored and overwritten.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// A phase began on this basis (a digest of its parts). Another basis than before takes back what was committed in this
    /// phase and the later ones.
    Begin {
        /// The phase.
        phase: usize,
        /// Its level: on level 0 units are the written-down ones.
        level: usize,
        /// The digest.
        basis: String,
    },
    /// By which sizes (bytes) it is decided how rows are put aside, for as long as this run folder lives.
    Sizes {
        /// Of a run, as memory allowed when the run folder began.
        run: u64,
        /// Below which no piece should be.
        piece: u64,
    },
    /// What was measured once, before the first unit, and is the same for the whole run.
    Settled {
        /// What it is called.
        name: String,
        /// How much it is.
        value: u64,
    },
    /// A part is done: everything in here is on disk.
    Commit(Commit),
    /// Parts are done, all of them or none: rows of all stand in one run.
    Together(Vec<Commit>),
    /// A unit's data are wrong. It is left out when its part is done again.
    Quarantine(Quarantine),
    /// Files that could not be read when the run began: all that are known now, in place of those known before.
    Unreadable(Vec<Unreadable>),
    /// Parts are done again, because what they put aside, or a file of theirs that is needed, is gone.
    Lost {
        /// Phase and part of each.
        parts: Vec<(usize, u64)>,
    },
    /// Quarantined units of files that have been repaired since: their rows are in new units.
    Replaced {
        /// Numbers in `units.jsonl`.
        units: Vec<u64>,
    },
    /// A file is gone, or is another one now: its units, and all that came of them, are taken back.
    Withdrawn {
        /// The file.
        file: String,
        /// Numbers in `units.jsonl`.
        units: BTreeSet<u64>,
    },
    /// Units that were quarantined may be tried again.
    Retry {},
    /// The parts of a step were put together: the files are in place.
    Assembled(Assembled),
    /// All phases are done and the tables are written.
    Done {},
}

/// What was made of all parts of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assembled {
    /// The step.
    pub step: String,
    /// A digest of the files that it was made of, in their order.
    pub basis: String,
    /// The files.
    pub files: Vec<FileMade>,
    /// True where they take the place of the parts, which are removed.
    pub instead: bool,
}

/// A part that is done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The phase.
    pub phase: usize,
    /// The part, within the phase.
    pub part: u64,
    /// The units that are in it: numbers in `units.jsonl`, or of the range in a later phase.
    pub units: Vec<u64>,
    /// The units that belong to it and are quarantined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<u64>,
    /// The files that it made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileMade>,
    /// What it contributed to sums, and the rows of the pieces of its runs (with the first part of each run).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contributions: Vec<Pointer>,
    /// The runs that hold rows of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spills: Vec<Spill>,
    /// Rows by step.
    pub rows: Vec<Rows>,
    /// Of a phase that counts: the rows of each lane of a shuffle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tallies: Vec<Tally>,
    /// What was dropped or changed on purpose within the rows that went through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noticed: Vec<Noticed>,
}

/// What a step dropped or changed on purpose within the rows of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noticed {
    /// The step.
    pub step: String,
    /// The unit.
    pub unit: u64,
    /// How many of what.
    pub counts: BTreeMap<String, u64>,
}

/// How many rows of a unit are in each lane of a shuffle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The step.
    pub step: String,
    /// The unit.
    pub unit: u64,
    /// By lane: output by output the strata.
    pub lanes: Vec<u64>,
}

/// A file that a part made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMade {
    /// The step.
    pub step: String,
    /// The name in the step's folder.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The xxh3 hash of its bytes.
    pub hash: String,
}

impl FileMade {
    /// True where it is in the run folder, with the size that was committed.
    #[must_use]
    pub fn is_whole(&self, folder: &Path) -> bool {
        std::fs::metadata(folder.join(&self.step).join(&self.name)).is_ok_and(|found| found.len() == self.bytes)
    }
}

/// A run of rows that a shuffle put aside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spill {
    /// The step.
    pub step: String,
    /// Where it is: absolute, or in the run folder.
    pub path: PathBuf,
    /// The host that wrote it, for scratch that others can't see.
    pub host: String,
    /// The input of the step that the rows came from.
    #[serde(default)]
    pub input: usize,
    /// The first of the parts whose rows it holds: with its commit stand the rows of the run's pieces.
    pub first: u64,
    /// True where it stayed in the memory of the process that made it, and is gone with that.
    // Always written: it travels between processes as bincode, which has no place for what is left out.
    #[serde(default)]
    pub in_memory: bool,
}

/// Where something stands in `contributions.bin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// The step.
    pub step: String,
    /// The first byte.
    pub offset: u64,
    /// The number of bytes.
    pub length: u64,
    /// The xxh3 hash of these bytes.
    pub hash: String,
}

/// What went through a step: rows in + repeated = rows out + cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The step.
    pub step: String,
    /// Rows that came in.
    #[serde(rename = "in")]
    pub came: u64,
    /// Rows that went out, by output.
    pub out: Vec<u64>,
    /// Rows that were cut.
    pub cut: u64,
    /// How often rows went out once more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repeated: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A unit whose data are wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The phase.
    pub phase: usize,
    /// The unit within the phase.
    pub unit: u64,
    /// The step that found it.
    pub step: String,
    /// The file (or the range of positions).
    pub what: String,
    /// Its rows.
    pub rows: u64,
    /// Why.
    pub reason: String,
}

/// A file that could not be read when the run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// The step that was to read it.
    pub step: String,
    /// The file.
    pub what: String,
    /// Why.
    pub reason: String,
}

impl Line {
    /// The commits in it.
    pub fn commits(&self) -> &[Commit] {
        match self {
            Self::Commit(commit) => std::slice::from_ref(commit),
            Self::Together(commits) => commits,
            _ => &[],
        }
    }
}

/// The lines of a log, without what a kill left behind.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (number, line) in whole_lines(path)?.lines().enumerate() {
        lines.push(serde_json::from_str(line).with_context(|| format!("line {} of {} is damaged", number + 1, path.display()))?);
    }
    Ok(lines)
}

/// The hash that is written beside everything in the log.
pub fn hash(bytes: &[u8]) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes))
}

/// The length and the [`hash`] of a file, which may be larger than what memory has room for.
pub fn hash_file(path: &Path) -> Result<(u64, String)> {
    let read = || -> std::io::Result<(u64, String)> {
        let (mut file, mut hash, mut length) = (File::open(path)?, xxhash_rust::xxh3::Xxh3Default::new(), 0);
        let mut piece = vec![0; 1 << 18];
        loop {
            match std::io::Read::read(&mut file, &mut piece)? {
                0 => return Ok((length, format!("{:032x}", hash.digest128()))),
                n => {
                    hash.update(&piece[..n]);
                    length += n as u64;
                }
            }
        }
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// What stands before the last line end of a file; nothing where there is no file.
pub fn whole_lines(path: &Path) -> Result<String> {
    let mut text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    // As bytes first: what a kill left behind may end inside a character.
    text.truncate(text.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1));
    String::from_utf8(text).with_context(|| format!("{} is damaged", path.display()))
}

/// Appends to the log and to the contributions. One process has it.
#[derive(Debug)]
pub struct Log {
    lines: File,
    contributions: File,
    end: u64,
}

impl Log {
    /// Opens the log of a folder behind `lines`, the lines that are in it.
    pub fn open(folder: &Path, lines: &[Line]) -> Result<Self> {
        let open = |name: &str| -> Result<File> {
            let path = folder.join(name);
            let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
            file.with_context(|| format!("cannot write {}", path.display()))
        };
        let (log, contributions) = (open("commits.jsonl")?, open("contributions.bin")?);
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut &log, &mut text)?;
        let keep = text.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        log.set_len(keep as u64)?;
        std::io::Seek::seek(&mut &log, std::io::SeekFrom::End(0))?;
        let commits = lines.iter().flat_map(Line::commits);
        let pointers = commits.flat_map(|c| &c.contributions);
        let end = pointers.map(|p| p.offset + p.length).max().unwrap_or(0);
        ensure!(
            contributions.metadata()?.len() >= end,
            "contributions.bin is shorter than the commit log says; run with --fresh"
        );
        contributions.set_len(end)?;
        Ok(Self { lines: log, contributions, end })
    }

    /// Puts a contribution behind the others; it counts when a line that points to it is committed.
    pub fn contribute(&mut self, step: &str, bytes: &[u8]) -> Result<Pointer> {
        self.contributions.write_all_at(bytes, self.end).context("cannot write contributions.bin")?;
        let pointer = Pointer { step: step.into(), offset: self.end, length: bytes.len() as u64, hash: hash(bytes) };
        self.end += bytes.len() as u64;
        Ok(pointer)
    }

    /// Commits lines, all of them with one write and one fsync.
    pub fn commit(&mut self, lines: &[Line]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        let mut write = || -> std::io::Result<()> {
            self.contributions.sync_data()?;
            self.lines.write_all(&text)?;
            self.lines.sync_data()
        };
        write().context("cannot write the commit log")
    }
}

/// Reads one contribution and checks it.
pub fn contribution(file: &File, pointer: &Pointer) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(pointer.length)?];
    file.read_exact_at(&mut bytes, pointer.offset).context("cannot read contributions.bin")?;
    ensure!(hash(&bytes) == pointer.hash, "contributions.bin is damaged at byte {}; run with --fresh", pointer.offset);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kill_left_behind_is_ignored_and_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("commits.jsonl");
        let mut log = Log::open(folder.path(), &[]).unwrap();
        let pointer = log.contribute("r", b"digits").unwrap();
        let line = Line::Commit(Commit { contributions: vec![pointer], ..Commit::default() });
        log.commit(std::slice::from_ref(&line)).unwrap();
        log.contribute("r", b"never committed").unwrap();
        assert_eq!(hash_file(&folder.path().join("contributions.bin")).unwrap(), (21, hash(b"digitsnever committed")));
        drop(log);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"commit\":{\"pha\xc3").unwrap();
        assert_eq!(read(&path).unwrap(), std::slice::from_ref(&line));
        let mut log = Log::open(folder.path(), std::slice::from_ref(&line)).unwrap();
        assert_eq!(log.contribute("r", b"x").unwrap().offset, 6);
        log.commit(&[Line::Done {}]).unwrap();
        assert_eq!(read(&path).unwrap(), [line, Line::Done {}]);
    }
}
