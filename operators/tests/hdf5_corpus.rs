//! Every file of the corpus against what h5py made of it: the same shapes, types and values, or a reason; and no file may bring
//! this process down or keep it waiting.

#![allow(clippy::unwrap_used)]

use calostream_operators::Fault;
use calostream_operators::facts::FileFacts;
use calostream_operators::hdf5::header::{Dataset, Header, Kind, shape_name};
use calostream_operators::hdf5::images::Pick;
use calostream_operators::hdf5::probe::probe_file;
use calostream_operators::hdf5::process::Reader;
use calostream_operators::hdf5::rows::{Opened, Rows, is_own, unknown_filter};
use calostream_operators::work::Runtime;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

fn corpus() -> Option<PathBuf> {
    let found = std::env::var_os("CALOSTREAM_CORPUS").map(PathBuf::from);
    if found.is_none() {
        println!("skipped: CALOSTREAM_CORPUS is not set");
    }
    found
}

fn reader() -> Reader {
    let runtime = Runtime { reader: env!("CARGO_BIN_EXE_calostream-reader").into(), onnxruntime: None };
    Reader::new(&runtime).patience(Duration::from_secs(20))
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

#[test]
fn every_dataset_has_the_values_that_h5py_reads() {
    let Some(corpus) = corpus() else { return };
    let oracle = std::fs::read_to_string(corpus.join("ORACLE_h5py_datasets.tsv")).unwrap();
    let mut reader = reader();
    let mut files: BTreeMap<String, FileFacts<Header>> = BTreeMap::new();
    let (mut equal, mut own, mut other, mut refused) = (0, 0, 0, BTreeMap::new());
    for line in oracle.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [file, path, shape, dtype, sum] = columns[..] else { panic!("{line}") };
        let full = corpus.join(file).to_str().unwrap().to_owned();
        let facts = files.entry(file.into()).or_insert_with(|| probe_file(&full, &mut reader).unwrap());
        let key = format!("{file} {path}");
        let header = match &facts.header {
            Ok(header) => header,
            Err(reason) => {
                refused.insert(key, reason.clone());
                continue;
            }
        };
        let Some(d) = header.dataset(path) else {
            let reason = header.unreadable.iter().find(|(p, _)| p == path).map_or("not there".to_owned(), |(_, r)| r.clone());
            refused.insert(key, reason);
            continue;
        };
        if d.numbers(None).is_err() || sum.len() != 64 {
            other += 1;
            continue;
        }
        assert_eq!(shape.replace(' ', ""), shape_name(&d.shape).replace(' ', ""), "{key}");
        assert_eq!(numpy(d).as_deref(), Some(dtype), "{key}");
        if let Some(reason) = unknown_filter(d) {
            refused.insert(key, reason);
            continue;
        }
        let result = Opened::open(&full).and_then(|opened| values(d, &opened, &mut reader));
        match result {
            Ok(bytes) => {
                let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
                assert_eq!(found, sum, "{key}");
                equal += 1;
                own += usize::from(is_own(d));
            }
            Err(fault) => {
                refused.insert(key, fault.to_string());
            }
        }
    }
    println!("{equal} equal ({own} by the own path), {other} without plain numbers");
    assert!(equal > 250 && own > 190, "{equal} equal, {own} by the own path");
    // Everything that h5py reads and calostream does not: filters that are plugins for h5py too, and szip, which is not free software.
    let expected = [
        "h5/cve_hdf5/cve-2020-10811.h5 Szip_float_data_be",
        "h5/cve_hdf5/cve-2020-10811.h5 Szip_float_data_le",
        "h5/hdf5lib/tools__testfiles__tfilters.h5 all",
        "h5/hdf5lib/tools__testfiles__tfilters.h5 szip",
        "h5/hdf5plugin/test_zfp_110050.h5 compressed",
        "h5/hdf5plugin/test_zfp_be.h5 compressed",
    ];
    assert_eq!(refused.keys().map(String::as_str).collect::<Vec<_>>(), expected, "{refused:#?}");
    assert!(refused.values().all(|reason| reason.contains("filter that is not known here")), "{refused:#?}");
}

#[test]
fn members_of_records_have_the_values_that_h5py_reads() {
    let Some(corpus) = corpus() else { return };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/venv/bin/python");
    assert!(program.exists(), "run `make setup` first");
    let script = "
import h5py, hashlib, numpy as np, sys
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
        if not d.dtype.names: continue
        values = d[()]
        for leaf in leaves(d.dtype):
            v = values
            for name in leaf: v = v[name]
            v = np.ascontiguousarray(v); v = v.astype(v.dtype.newbyteorder('<'))
            print(cells[0], cells[1], '.'.join(leaf), hashlib.sha256(v.tobytes()).hexdigest(), sep='\\t')
";
    let out = Command::new(program).arg("-c").arg(script).current_dir(&corpus).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut reader = reader();
    let mut equal = 0;
    for line in String::from_utf8(out.stdout).unwrap().lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [file, path, member, sum] = columns[..] else { panic!("{line}") };
        let full = corpus.join(file).to_str().unwrap().to_owned();
        let header = probe_file(&full, &mut reader).unwrap().header.unwrap();
        let d = header.dataset(path).unwrap();
        let numbers = d.numbers(Some(member)).unwrap_or_else(|e| panic!("{line}: {e}"));
        let count = d.shape.first().copied().unwrap_or(1);
        let inner = numbers.shape.iter().product::<u64>() * d.row_elements();
        let bytes = inner * u64::from(numbers.number.bytes);
        let by_library = reader.rows(&full, path, Some(member), 0, count, bytes).unwrap_or_else(|e| panic!("{line}: {e}"));
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
        assert!(begun.elapsed() < Duration::from_secs(30), "{file} took {:?}", begun.elapsed());
        assert_eq!(facts.fingerprint.len(), 32);
    }
}
