//! What is known of files from an earlier look at them, so that planning over the same files opens none of them.
//!
//! A run writes `headers.zst` into its folder as soon as it holds it: for each file path, fingerprint, header and the shorter
//! chunk indices. `check`, `plan` and the next `run` into the folder read it while they plan, before the ledger is opened,
//! because what it says is not the ledger's: it is what another look at the files would say. So it may be missing, old or
//! damaged at any time; then the files are looked at, as without it.
//!
//! Invariants:
//! - An entry counts only while the file's [`Stamp`] (size, inode, times of content and inode) is what it was *before* the
//!   header was taken.
//! - A file that was written to less than two seconds before the look is not kept: within a tick of its clock it could change
//!   again under the same stamp.
//! - Files that could not be read are not kept: why they could not be may have passed. Nor are those that take values from
//!   other files (virtual and external datasets), which may grow unseen.
//! - Headers of another version of calostream, or of another set of filter plugins, count for nothing.
//! - The file is written beside and renamed, and begins with a hash of all that follows.

use super::header::{Header, Layout};
use crate::Facts;
use crate::facts::FileFacts;
use crate::stamp::Stamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::SystemTime;
use xxhash_rust::xxh3::xxh3_128;

/// Its name in the run folder.
pub const NAME: &str = "headers.zst";
/// Counts changes of what a header is or how it is taken.
const FORMAT: u32 = 2;
/// Fastest; the headers of one data set are much alike, so it packs them well.
const LEVEL: i32 = 1;

/// Files known from before, by path.
#[derive(Debug, Default)]
pub struct Cache {
    known: BTreeMap<String, FileFacts<Header>>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line<P, H> {
    path: P,
    bytes: u64,
    fingerprint: P,
    header: H,
}

/// What entries may count for: the version, and the filters that the library may find.
fn origin() -> String {
    let plugins = std::env::var_os("HDF5_PLUGIN_PATH").unwrap_or_default();
    format!("calostream {} headers {FORMAT} plugins {}", env!("CARGO_PKG_VERSION"), plugins.display()).replace('\n', " ")
}

impl Cache {
    /// Reads what [`Cache::bytes`] has made; nothing is known where it is damaged or of another version.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        Self::parse(bytes).unwrap_or_default()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (hash, packed) = bytes.split_first_chunk::<16>()?;
        if xxh3_128(packed).to_le_bytes() != *hash {
            return None;
        }
        let text = zstd::decode_all(packed).ok()?;
        let mut lines = text.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        if lines.next()? != origin().as_bytes() {
            return None;
        }
        let each = |line: &[u8]| {
            let Line { path, bytes, fingerprint, header } = serde_json::from_slice::<Line<String, Header>>(line).ok()?;
            Some((path.clone(), FileFacts { path, bytes, fingerprint, header: Ok(header) }))
        };
        lines.map(each).collect::<Option<_>>().map(|known| Self { known })
    }

    /// What is worth keeping of facts that were looked up from `looked` on.
    #[must_use]
    pub fn of(facts: &Facts, looked: SystemTime) -> Self {
        Self { known: kept(facts, looked).map(|file| (file.path.clone(), file.clone())).collect() }
    }

    /// The bytes that [`Cache::read`] reads.
    pub fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let mut text = origin().into_bytes();
        for file in self.known.values() {
            let Ok(header) = &file.header else { continue };
            text.push(b'\n');
            let line = Line { path: &*file.path, bytes: file.bytes, fingerprint: &*file.fingerprint, header };
            serde_json::to_writer(&mut text, &line)?;
        }
        let packed = zstd::encode_all(&text[..], LEVEL)?;
        let mut bytes = xxh3_128(&packed).to_le_bytes().to_vec();
        bytes.extend(packed);
        Ok(bytes)
    }

    /// The file at a path, where it is known and has not changed since.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&FileFacts<Header>> {
        let facts = self.known.get(path)?;
        let stamp = facts.header.as_ref().ok()?.stamp?;
        (Stamp::of(&std::fs::metadata(path).ok()?) == stamp).then_some(facts)
    }

    /// True where every file that can be kept is known as it is now, so that there is nothing to write.
    #[must_use]
    pub fn holds(&self, facts: &Facts, looked: SystemTime) -> bool {
        let stamp = |f: &FileFacts<Header>| f.header.as_ref().ok().and_then(|h| h.stamp);
        kept(facts, looked).all(|file| self.known.get(&file.path).is_some_and(|k| stamp(k) == stamp(file)))
    }
}

/// What is worth keeping of facts that were looked up from `looked` on, each file once.
fn kept(facts: &Facts, looked: SystemTime) -> impl Iterator<Item = &FileFacts<Header>> {
    let stays = |header: &Header| {
        let elsewhere = |layout| matches!(layout, &Layout::Virtual | &Layout::External);
        header.stamp.is_some_and(|s| s.settled(looked)) && !header.datasets.iter().any(|d| elsewhere(&d.layout))
    };
    let found = facts.hdf5.values().flatten().flat_map(|files| files.iter());
    let files = found.filter(|file| file.header.as_ref().is_ok_and(stays)).map(|file| (file.path.as_str(), file));
    files.collect::<BTreeMap<&str, _>>().into_values()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hdf5::element::Element;
    use crate::hdf5::header::Dataset;
    use std::sync::Arc;
    use std::time::Duration;

    fn facts(path: &str, layout: Layout) -> Facts {
        let d = Dataset {
            path: "x".into(),
            shape: vec![2],
            max_shape: vec![Some(2)],
            null: false,
            element: Element::Other { bytes: 1, fixed: true, what: "opaque bytes".into() },
            layout,
            filters: Vec::new(),
            fill: None,
            stored: 2,
            unit: None,
            index_hash: 1,
            chunks: None,
            elsewhere: 0,
        };
        let stamp = Some(Stamp::of(&std::fs::metadata(path).unwrap()));
        let header = Ok(Header { datasets: vec![d], unreadable: Vec::new(), attributes: Vec::new(), stamp });
        let file = FileFacts { path: path.into(), bytes: 2, fingerprint: "f".into(), header };
        Facts { hdf5: BTreeMap::from([("p".into(), Ok(Arc::new(vec![file])))]), ..Facts::default() }
    }

    #[test]
    fn what_may_change_unseen_is_not_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let later = SystemTime::now() + Duration::from_secs(3);
        let known = |layout: Layout, looked| {
            let facts = facts(path, layout);
            let cache = Cache::read(&Cache::of(&facts, looked).bytes().unwrap());
            assert!(cache.holds(&facts, looked));
            cache.get(path).is_some()
        };
        assert!(known(Layout::Compact, later));
        assert!(!known(Layout::Compact, SystemTime::now()), "just written");
        assert!(!known(Layout::Virtual, later) && !known(Layout::External, later), "values in other files");
        // Written to since.
        let cache = Cache::read(&Cache::of(&facts(path, Layout::Compact), later).bytes().unwrap());
        std::fs::write(path, "xy").unwrap();
        assert!(cache.get(path).is_none() && !cache.holds(&facts(path, Layout::Compact), later));
        std::fs::remove_file(path).unwrap();
        assert!(cache.get(path).is_none());
    }
}
