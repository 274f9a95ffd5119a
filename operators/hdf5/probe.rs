//! Looking up the files behind a pattern, once, before planning.
//!
//! One round trip to a reader process for each file, by several processes at once; the result depends on the files alone.

use super::fingerprint::fingerprint;
use super::header::Header;
use super::process::Reader;
use super::rows::Opened;
use crate::Fault;
use crate::facts::FileFacts;
use crate::work::Runtime;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

type Found = Result<FileFacts<Header>, String>;

/// The files that match a pattern, sorted by path, each with its header or why it cannot be read; a sentence where nothing
/// matches, or where the machine (not a file) is at fault.
pub fn probe(pattern: &str, runtime: &Runtime) -> Result<Vec<FileFacts<Header>>, String> {
    let paths = matches(pattern)?;
    let found: Vec<Mutex<Option<Found>>> = paths.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let readers = std::thread::available_parallelism().map_or(2, usize::from).min(paths.len()).clamp(1, 16);
    std::thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| {
                let mut reader = Reader::new(runtime);
                while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < paths.len()) {
                    let facts = probe_file(&paths[i], &mut reader).map_err(|error| format!("{}: {error:#}", paths[i]));
                    *found[i].lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(facts);
                }
            });
        }
    });
    found.into_iter().filter_map(|slot| slot.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)).collect()
}

/// One file. An error is the machine's fault.
pub fn probe_file(path: &str, reader: &mut Reader) -> anyhow::Result<FileFacts<Header>> {
    let mut facts =
        FileFacts { path: path.to_owned(), bytes: 0, fingerprint: String::new(), header: Err("it cannot be opened".to_owned()) };
    // What is wrong with this one name is the file's own trouble; a full table of open files or a stale mount is not.
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            facts.header = Err("it is a folder".to_owned());
            return Ok(facts);
        }
        Ok(_) => {}
        Err(error) if is_own_trouble(&error) => return Ok(facts),
        Err(error) => return Err(error.into()),
    }
    if let Err(error) = std::fs::File::open(path) {
        if is_own_trouble(&error) {
            facts.header = Err(format!("it cannot be opened: {error}"));
            return Ok(facts);
        }
        return Err(error.into());
    }
    let opened = match Opened::open(path) {
        Ok(opened) => opened,
        Err(fault) => anyhow::bail!("{fault}"),
    };
    facts.bytes = opened.bytes;
    facts.header = match reader.header(path) {
        Ok(header) => Ok(header),
        Err(Fault::Content(reason)) => Err(reason),
        Err(Fault::Machine(error)) => return Err(error),
    };
    match fingerprint(&opened, facts.header.as_ref().ok()) {
        Ok(print) => facts.fingerprint = print,
        Err(Fault::Content(reason)) => facts.header = Err(reason),
        Err(Fault::Machine(error)) => return Err(error),
    }
    Ok(facts)
}

fn is_own_trouble(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound)
}

/// The paths that match, sorted.
fn matches(pattern: &str) -> Result<Vec<String>, String> {
    let paths = glob::glob(pattern).map_err(|e| format!("`{pattern}` is not a pattern: {e}"))?;
    let mut names = Vec::new();
    for path in paths {
        let path = path.map_err(|e| format!("{}: {}", e.path().display(), e.error()))?;
        let name = path.to_str().ok_or_else(|| format!("the path {} is not UTF-8", path.display()))?;
        names.push(name.to_owned());
    }
    names.sort();
    if names.is_empty() {
        return Err(nothing(pattern));
    }
    Ok(names)
}

/// Why nothing matches: the first folder of the pattern that is not there, or no such file in it.
fn nothing(pattern: &str) -> String {
    let mut known = Path::new("");
    for folder in Path::new(pattern).ancestors().collect::<Vec<_>>().into_iter().rev().skip(1) {
        let is_pattern = folder.to_string_lossy().contains(['*', '?', '[']);
        if is_pattern || folder == Path::new(pattern) {
            break;
        }
        if !folder.is_dir() {
            return format!("there is no folder `{}`", folder.display());
        }
        known = folder;
    }
    let place = if known.as_os_str().is_empty() { "the current folder".into() } else { format!("`{}`", known.display()) };
    format!("no file matches `{pattern}` in {place}")
}
