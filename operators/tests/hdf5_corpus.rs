//! Every file of the corpus against what h5py made of it: the same shapes, types and values, or a reason; and no file may bring
//! this process down or keep it waiting.

#![allow(clippy::unwrap_used)]

use calostream_operators::Fault;
use calostream_operators::facts::FileFacts;
use calostream_operators::hdf5::element::{Element, Kind, shape_name};
use calostream_operators::hdf5::header::{Dataset, Header};
use calostream_operators::hdf5::images::Pick;
use calostream_operators::hdf5::probe::probe_file;
use calostream_operators::hdf5::process::{RESIDENT, Reader};
use calostream_operators::hdf5::rows::{Opened, Rows, is_own, unknown_filter};
use calostream_operators::work::Runtime;
use oracle::python_in;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn corpus() -> Option<PathBuf> {
    let found = std::env::var_os("CALOSTREAM_CORPUS").map(PathBuf::from);
    if found.is_none() {
        println!("skipped: CALOSTREAM_CORPUS is not set");
    }
    found
}

fn reader() -> Reader {
    let runtime = Runtime { reader: env!("CARGO_BIN_EXE_calostream-reader").into(), ..Runtime::default() };
    Reader::new(&runtime).patience(Duration::from_secs(8))
}

/// The file's own words for a type, as h5py prints it.
fn numpy(d: &Dataset) -> Option<String> {
    let n = d.numbers(None).ok()?;
    let letter = match n.number.kind {
        Kind::Signed => 'i',
        Kind::Unsigned => 'u',
        Kind::Float => 'f',
        Kind::Boolean => 'b',
    };
    let order = if n.number.bytes == 1 {
        '|'
    } else if n.number.big_endian {
        '>'
    } else {
        '<'
    };
    Some(format!("{order}{letter}{}", n.number.bytes))
}

/// All values as little-endian C-order bytes: by the own path where it claims the dataset, else by the library.
fn values(d: &Dataset, file: &Opened, reader: &mut Reader) -> Result<Vec<u8>, Fault> {
    let numbers = d.numbers(None).map_err(Fault::Content)?;
    let count = if d.null { 0 } else { d.shape.first().copied().unwrap_or(1) };
    let inner: u64 = numbers.shape.iter().product::<u64>() * d.row_elements();
    let by_library =
        |reader: &mut Reader| reader.rows(&file.path, &d.path, None, 0, count, inner * u64::from(numbers.number.bytes));
    if !is_own(d) || !numbers.number.plain || d.null {
        return by_library(reader);
    }
    let mut rows = Rows::new(d, file, reader)?;
    let mut all = Vec::new();
    // Cut at places that no chunk knows of.
    let step = (count / 3).max(1);
    let mut first = 0;
    while first < count {
        let n = step.min(count - first);
        let mut bytes = rows.plain(file, first, n as usize)?;
        if numbers.number.big_endian {
            bytes.as_slice_mut().chunks_exact_mut(numbers.number.bytes.into()).for_each(<[u8]>::reverse);
        }
        all.extend_from_slice(&bytes);
        first += n;
    }
    if let Ok(other) = by_library(reader) {
        assert_eq!(all, other, "{}: `{}`: the own path against the library", file.path, d.path);
    }
    Ok(all)
}

/// What became of a dataset.
enum Outcome {
    /// The values have the oracle's sum.
    Equal,
    /// Its records' members that are numbers can be read one by one, and [`members_of_records_have_the_values_that_h5py_reads`].
    Members,
    /// It is read, and h5py could not, or has not summed it.
    Unsummed,
    Refused(String),
}

fn outcome(d: &Dataset, full: &str, key: &str, dtype: &str, shape: &str, sum: &str, reader: &mut Reader) -> Outcome {
    if let Some(reason) = unknown_filter(d) {
        return Outcome::Refused(reason);
    }
    if let Err(reason) = d.numbers(None) {
        let Element::Compound { members, .. } = &d.element else { return Outcome::Refused(reason) };
        let readable = members.iter().any(|m| {
            d.numbers(Some(&m.name)).is_ok() || matches!(&m.element, Element::Compound { members, .. } if !members.is_empty())
        });
        return if readable { Outcome::Members } else { Outcome::Refused(format!("{reason}: none is a number")) };
    }
    if sum.len() == 64 {
        assert_eq!(shape.replace(' ', ""), shape_name(&d.shape).replace(' ', ""), "{key}");
        assert_eq!(numpy(d).as_deref(), Some(dtype), "{key}");
    }
    match Opened::open(full).and_then(|opened| values(d, &opened, reader)) {
        Ok(bytes) if sum.len() == 64 => {
            let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(found, sum, "{key}");
            Outcome::Equal
        }
        Ok(bytes) if d.null => {
            assert!(bytes.is_empty(), "{key}");
            Outcome::Equal
        }
        Ok(_) => Outcome::Unsummed,
        Err(fault) => Outcome::Refused(fault.to_string()),
    }
}

/// The most memory that this process or another one has taken.
fn most_memory(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn every_dataset_has_the_values_that_h5py_reads() {
    let Some(corpus) = corpus() else { return };
    let oracle = std::fs::read_to_string(corpus.join("ORACLE_h5py_datasets.tsv")).unwrap();
    let mut reader = reader();
    let mut files: BTreeMap<String, FileFacts<Header>> = BTreeMap::new();
    let (mut equal, mut own, mut members, mut unsummed) = (0, 0, 0, Vec::new());
    let (mut refused, mut most, mut allowed) = (BTreeMap::new(), 0, 0);
    for line in oracle.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [file, path, shape, dtype, sum] = columns[..] else { panic!("{line}") };
        let full = corpus.join(file).to_str().unwrap().to_owned();
        let begun = Instant::now();
        let facts = files.entry(file.into()).or_insert_with(|| probe_file(&full, &mut reader).unwrap());
        let key = format!("{file} {path}");
        let found = match &facts.header {
            Err(reason) => Outcome::Refused(reason.clone()),
            Ok(header) => match header.dataset(path) {
                Some(d) => outcome(d, &full, &key, dtype, shape, sum, &mut reader),
                None => {
                    let reason = header.unreadable.iter().find(|(p, _)| p == path).map(|(_, r)| r.clone());
                    Outcome::Refused(reason.unwrap_or_else(|| panic!("{key} is not there")))
                }
            },
        };
        match found {
            Outcome::Equal => {
                equal += 1;
                let header = facts.header.as_ref().unwrap();
                own += usize::from(header.dataset(path).is_some_and(is_own));
            }
            Outcome::Members => members += 1,
            Outcome::Unsummed => unsummed.push(key),
            Outcome::Refused(reason) => {
                refused.insert(key, (sum.len() == 64, reason));
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{line} took {:?}", begun.elapsed());
        assert!(most_memory("self") < 1 << 30, "{line} took {} bytes", most_memory("self"));
        // The reader holds what is counted for it in the budget: itself, a chunk in three forms, an answer.
        if let Some(d) = facts.header.as_ref().ok().and_then(|h| h.dataset(path)) {
            let chunk = 3 * d.chunk_bytes().unwrap_or(0);
            allowed = allowed.max(RESIDENT + chunk + d.dense_bytes().unwrap_or(0).min(64 << 20));
        }
        most = most.max(reader.process().map_or(0, |p| most_memory(&p.to_string())));
        assert!(most <= allowed.max(RESIDENT), "{line}: a reader took {most} bytes of {allowed}");
    }
    println!("a reader took {} MiB at most; {} MiB are counted for it", most >> 20, allowed >> 20);
    println!("{equal} equal ({own} by the own path), {members} by their members, {} refused:", refused.len());
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for (_, reason) in refused.values() {
        // Whatever dataset it was.
        *reasons.entry(reason.split('`').step_by(2).collect::<Vec<_>>().join("...")).or_default() += 1;
    }
    for (reason, count) in reasons {
        println!("  {count:4} {reason}");
    }
    println!("read here and not by h5py, or not summed: {unsummed:?}");
    assert!(equal > 250 && own > 190 && members > 120, "{equal} equal, {own} by the own path, {members} by their members");
    // Everything that h5py reads and calostream does not: filters that are plugins for h5py too, and szip, which is not free software.
    let expected = [
        "h5/cve_hdf5/cve-2020-10811.h5 Szip_float_data_be",
        "h5/cve_hdf5/cve-2020-10811.h5 Szip_float_data_le",
        "h5/hdf5lib/tools__testfiles__tfilters.h5 all",
        "h5/hdf5lib/tools__testfiles__tfilters.h5 szip",
        "h5/hdf5plugin/test_zfp_110050.h5 compressed",
        "h5/hdf5plugin/test_zfp_be.h5 compressed",
    ];
    let summed: BTreeMap<&str, &str> =
        refused.iter().filter(|(_, (summed, _))| *summed).map(|(key, (_, reason))| (key.as_str(), reason.as_str())).collect();
    assert_eq!(summed.keys().copied().collect::<Vec<_>>(), expected, "{summed:#?}");
    assert!(summed.values().all(|reason| reason.contains("filter that is not known here")), "{summed:#?}");
}

#[test]
fn members_of_records_have_the_values_that_h5py_reads() {
    let Some(corpus) = corpus() else { return };
    let script = "
import h5py, hdf5plugin, hashlib, numpy as np
def leaves(t, path=()):
    for name in t.names:
        inner = t[name]
        if inner.names: yield from leaves(inner, path + (name,))
        elif inner.base.kind in 'iuf' and inner.base.itemsize <= 8: yield path + (name,)
for line in open('ORACLE_h5py_datasets.tsv').read().split('\\n')[1:]:
    cells = line.split('\\t')
    if len(cells) < 5 or cells[4] != 'read ok': continue
    with h5py.File(cells[0]) as f:
        d = f[cells[1]]
        def say(leaf, v):
            v = np.ascontiguousarray(v); v = v.astype(v.dtype.newbyteorder('<'))
            print(cells[0], cells[1], leaf, hashlib.sha256(v.tobytes()).hexdigest(), sep='\\t')
        try: values = np.asarray(d[()])
        except OSError: continue
        # Small arrays in each element.
        if values.dtype.kind in 'iuf' and values.dtype.itemsize <= 8: say('', values)
        if d.dtype.kind == 'c': say('r', values.real); say('i', values.imag)
        if not d.dtype.names: continue
        for leaf in leaves(d.dtype):
            v = values
            for name in leaf: v = v[name]
            say('.'.join(leaf), v)
";
    let members = python_in(&corpus, script);
    let mut reader = reader();
    let mut equal = 0;
    for line in members.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [file, path, member, sum] = columns[..] else { panic!("{line}") };
        let full = corpus.join(file).to_str().unwrap().to_owned();
        let header = probe_file(&full, &mut reader).unwrap().header.unwrap();
        let d = header.dataset(path).unwrap();
        let member = (!member.is_empty()).then_some(member);
        let numbers = d.numbers(member).unwrap_or_else(|e| panic!("{line}: {e}"));
        let count = d.shape.first().copied().unwrap_or(1);
        let inner = numbers.shape.iter().product::<u64>() * d.row_elements();
        let bytes = inner * u64::from(numbers.number.bytes);
        let by_library = reader.rows(&full, path, member, 0, count, bytes).unwrap_or_else(|e| panic!("{line}: {e}"));
        let digest = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(digest(&by_library), sum, "{line} by the library");
        if is_own(d) && numbers.number.plain {
            let opened = Opened::open(&full).unwrap_or_else(|e| panic!("{e}"));
            let rows = Rows::new(d, &opened, &mut reader)
                .and_then(|mut rows| rows.plain(&opened, 0, count as usize))
                .unwrap_or_else(|e| panic!("{line}: {e}"));
            let stride = d.element.bytes() as usize;
            let pick = Pick {
                number: numbers.number,
                row_bytes: d.row_elements() as usize * stride,
                start: numbers.offset as usize,
                groups: d.row_elements() as usize,
                stride,
                each: numbers.shape.iter().product::<u64>() as usize,
            };
            assert_eq!(digest(&pick.take(&rows)), sum, "{line} by the own path");
        }
        equal += 1;
    }
    println!("{equal} members equal");
    assert!(equal > 300, "{equal}");
}

#[test]
fn no_file_crashes_or_hangs_this_process() {
    let Some(corpus) = corpus() else { return };
    let oracle = std::fs::read_to_string(corpus.join("ORACLE_h5py_files.tsv")).unwrap();
    let mut reader = reader();
    for line in oracle.lines().skip(1) {
        let (file, outcome) = line.split_once('\t').unwrap();
        let begun = Instant::now();
        let facts = probe_file(corpus.join(file).to_str().unwrap(), &mut reader).unwrap();
        match &facts.header {
            Ok(h) => println!("{file}: {} datasets, unreadable {:?}; h5py: {outcome:.40}", h.datasets.len(), h.unreadable),
            Err(reason) => println!("{file}: ERR {reason}; h5py: {outcome:.100}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{file} took {:?}", begun.elapsed());
        let taken = reader.process().map_or(0, |p| most_memory(&p.to_string())).max(most_memory("self"));
        assert!(taken < 1 << 30, "{file} took {taken} bytes");
        assert_eq!(facts.fingerprint.len(), 32);
    }
}
