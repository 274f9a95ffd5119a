//! Looking up the files behind a pattern, once, before planning.
//!
//! One round trip to a reader process for each file, by several processes at once, or none where the file is known from
//! before and has not changed since ([`super::cache`]); the result depends on the files alone.

use super::cache::Cache;
use super::fingerprint::fingerprint;
use super::header::Header;
use super::opened::Opened;
use super::process::Reader;
use crate::Fault;
use crate::facts::{FileFacts, Found};
use crate::npz;
use crate::pattern::seen;
use crate::work::Runtime;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Files = Result<Found<Header>, String>;
type Probed = Result<FileFacts<Header>, String>;

/// The files that match a pattern, sorted by path, each with its header or why it cannot be read; a sentence where nothing
/// matches, or where the machine (not a file) is at fault.
pub fn probe(pattern: &str, runtime: &Runtime) -> Files {
    probe_all(&[pattern], &Cache::default(), &BTreeSet::new(), runtime).remove(0)
}

/// The same for several patterns, by the same reader processes, which are not asked for what is known.
pub fn probe_all(patterns: &[&str], known: &Cache, hidden: &BTreeSet<String>, runtime: &Runtime) -> Vec<Files> {
    let matched: Vec<Result<Vec<String>, String>> = patterns.iter().map(|pattern| seen(pattern, hidden)).collect();
    let paths: Vec<&String> = matched.iter().flatten().flatten().collect();
    let found: Vec<Mutex<Option<Probed>>> = paths.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let readers = std::thread::available_parallelism().map_or(2, usize::from).min(paths.len()).clamp(1, 16);
    std::thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| {
                let mut reader = Reader::new(runtime);
                while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < paths.len()) {
                    let facts = match known.get(paths[i]) {
                        Some(facts) => Ok(facts.clone()),
                        None => probe_file(paths[i], &mut reader).map_err(|error| format!("{}: {error:#}", paths[i])),
                    };
                    *found[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(facts);
                }
            });
        }
    });
    let mut found = found.into_iter().filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
    matched.into_iter().map(|paths| found.by_ref().take(paths?.len()).collect::<Result<_, _>>().map(Arc::new)).collect()
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
    let opened = match Opened::open(path) {
        Ok(opened) => opened,
        Err(Fault::Content(reason)) => {
            facts.header = Err(reason);
            return Ok(facts);
        }
        Err(Fault::Machine(error)) => match error.downcast_ref::<std::io::Error>() {
            Some(own) if is_own_trouble(own) => {
                facts.header = Err(format!("it cannot be opened: {own}"));
                return Ok(facts);
            }
            _ => return Err(error),
        },
    };
    facts.bytes = opened.bytes;
    let found = if npz::is_npz(&opened) { npz::header(path) } else { reader.header(path) };
    facts.header = match found {
        // The stamp is older than the header: a file that changes meanwhile does not have it any more.
        Ok(header) => Ok(Header { stamp: Some(opened.stamp), ..header }),
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
    use rustix::io::Errno;
    let names = [Errno::LOOP, Errno::NXIO, Errno::NAMETOOLONG].map(Errno::raw_os_error);
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound)
        || error.raw_os_error().is_some_and(|n| names.contains(&n))
}
