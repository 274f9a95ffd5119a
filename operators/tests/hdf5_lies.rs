//! Files that say what is not so, or keep the library busy for ever: each is refused with a reason, in bounded time and memory.

#![allow(clippy::unwrap_used)]

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use calostream_operators::facts::FileFacts;
use calostream_operators::hdf5::header::Header;
use calostream_operators::hdf5::probe;
use calostream_operators::hdf5::process::Reader;
use calostream_operators::read::read_hdf5::{Patterns, ReadHdf5};
use calostream_operators::work::{Runtime, Start, Work, Worker};
use calostream_operators::{Facts, Fault, Operator, Placed, Planned, Problem};
use oracle::{interpreter, python_in};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

fn runtime() -> Runtime {
    Runtime { reader: env!("CARGO_BIN_EXE_calostream-reader").into(), ..Runtime::default() }
}

/// A folder with what a Python script makes in it.
fn made(script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    python(folder.path(), script);
    folder
}

fn python(folder: &Path, script: &str) {
    python_in(folder, &format!("import h5py, numpy as np, zlib\n{script}"));
}

fn path(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

/// The most memory that this process has taken.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A step over one file with these columns, and what is known of the file.
fn step(file: &str, columns: &str) -> (ReadHdf5, Facts) {
    let word = |text: &str| Placed::unplaced(text.to_owned());
    let step = ReadHdf5 { schema: word("layout.yaml"), files: Some(Patterns(vec![word(file)])), samples: None, weights: None };
    let mut facts = Facts::default();
    facts.texts.insert("layout.yaml".into(), Ok(format!("schema: layout\ncolumns:\n{columns}")));
    facts.hdf5.insert(file.into(), probe(file, &runtime()));
    (step, facts)
}

/// The planned units, each to its batches or why not.
fn read(step: &ReadHdf5, facts: &Facts, planned: &Planned) -> Vec<Result<Vec<RecordBatch>, Fault>> {
    let runtime = runtime();
    let worker = Worker { index: 0, peers: 1 };
    let start = Start { worker, facts, inputs: &[], outputs: &planned.outputs, runtime: &runtime };
    let Work::Source(mut source) = step.start(&start).unwrap() else { panic!("not a source") };
    planned.units.iter().map(|unit| source.read(unit)?.collect()).collect()
}

fn planned(file: &str, columns: &str) -> (ReadHdf5, Facts, Result<Planned, Vec<Problem>>) {
    let (step, facts) = step(file, columns);
    let planned = step.plan(&facts, &[]);
    (step, facts, planned)
}

/// Why a file can't be read when it is planned.
#[track_caller]
fn refused(file: &str, columns: &str) -> String {
    let (_, _, planned) = planned(file, columns);
    planned.unwrap_err().remove(0).help.unwrap()
}

/// Why the first unit of a file can't be read.
#[track_caller]
fn broken(file: &str, columns: &str) -> String {
    let (step, facts, planned) = planned(file, columns);
    match read(&step, &facts, &planned.unwrap()).remove(0) {
        Err(Fault::Content(reason)) => reason,
        other => panic!("{:?}", other.map(|b| b.len())),
    }
}

#[test]
fn sizes_that_the_file_cannot_hold_are_not_believed() {
    let folder = made(
        "
with h5py.File('a.h5', 'w') as f:
    f.create_dataset('chunked', (2**60,), 'u1', chunks=(1024,))
    f.create_dataset('contiguous', (2**60,), 'u1')
    f.create_dataset('overflowing', (2**40, 2**40), 'f8', chunks=(1, 1024))
    f.create_dataset('row', (2, 2**30), 'u1', chunks=(1, 2**20))
    f.create_dataset('pieces', (2, 2**20), 'u1', chunks=(1, 1))
    d = f.create_dataset('chunk', (2**31,), 'u1', chunks=(2**31,), compression='gzip', maxshape=(None,))
    d.id.write_direct_chunk((0,), zlib.compress(bytes(1000)))
    # A virtual dataset may be larger than its file, but not than those that it is made of.
    layout = h5py.VirtualLayout((2**50,), 'u1')
    layout[:100] = h5py.VirtualSource('nowhere.h5', 'x', (100,))
    f.create_virtual_dataset('virtual', layout)",
    );
    let file = path(&folder, "a.h5");
    let said = |name: &str| refused(&file, &format!("  x: {{ dataset: {name} }}\n"));
    assert!(said("chunked").contains("says that it holds 1152921504606846976 bytes, which a file of"), "{}", said("chunked"));
    assert!(said("contiguous").contains("says that it holds 1152921504606846976 bytes"));
    assert!(said("overflowing").contains("its size overflows"));
    assert!(said("row").contains("says that a row of it takes 1073741824 bytes"), "{}", said("row"));
    assert!(said("pieces").contains("says that each row of it is cut into 1048576 chunks"), "{}", said("pieces"));
    assert!(said("chunk").contains("says that a chunk of it holds 2147483648 bytes, which"), "{}", said("chunk"));
    assert!(said("virtual").contains("says that it holds 1125899906842624 bytes"), "{}", said("virtual"));
}

#[test]
fn a_virtual_dataset_may_be_as_large_as_its_sources() {
    let folder = made(
        "
import os
# Sparse on disk: only its size counts.
with h5py.File('big.h5', 'w') as f: f.create_dataset('x', (2**20, 64), 'f4', chunks=(1, 64))
os.truncate('big.h5', 2**28)
with h5py.File('a.h5', 'w') as f:
    layout = h5py.VirtualLayout((2**40, 64), 'f4')
    layout[:2**20] = h5py.VirtualSource('big.h5', 'x', (2**20, 64))
    f.create_virtual_dataset('virtual', layout, fillvalue=7)",
    );
    let (_, _, found) = planned(&path(&folder, "a.h5"), "  x: { dataset: virtual }\n");
    // 2^48 bytes are more than 2^28 can stand for.
    assert!(found.unwrap_err()[0].help.as_ref().unwrap().contains("says that it holds"));
    python(
        folder.path(),
        "
with h5py.File('b.h5', 'w') as f:
    layout = h5py.VirtualLayout((2**30, 64), 'f4')
    layout[:2**20] = h5py.VirtualSource('big.h5', 'x', (2**20, 64))
    f.create_virtual_dataset('virtual', layout, fillvalue=7)",
    );
    let (_, _, found) = planned(&path(&folder, "b.h5"), "  x: { dataset: virtual }\n");
    assert_eq!(found.unwrap().outputs[0].rows, Some(1 << 30));
}

#[test]
fn what_was_never_written_takes_the_memory_of_a_batch() {
    // 16 GiB of a fill value, one number of each row wanted: by the own path, and by the library (virtual).
    let folder = made(
        "
with h5py.File('a.h5', 'w', libver='latest') as f:
    f.create_dataset('chunks', (4096, 2**20), 'f4', chunks=(1, 2**20), fillvalue=3)
    f.create_dataset('whole', (4096, 2**20), 'f4', fillvalue=4)
    layout = h5py.VirtualLayout((4096, 2**20), 'f4')
    layout[:1] = h5py.VirtualSource(f['chunks'])[:1]
    f.create_virtual_dataset('virtual', layout, fillvalue=5)
    f['pad'] = np.zeros(400_000, 'u1')",
    );
    for (name, value) in [("chunks", 3.0), ("whole", 4.0), ("virtual", 5.0)] {
        let (step, facts, planned) = planned(&path(&folder, "a.h5"), &format!("  x: {{ dataset: {name}, at: [5] }}\n"));
        let planned = planned.unwrap();
        assert_eq!(planned.outputs[0].rows, Some(4096));
        let (worker, runtime) = (Worker { index: 0, peers: 1 }, runtime());
        let start = Start { worker, facts: &facts, inputs: &[], outputs: &planned.outputs, runtime: &runtime };
        let Work::Source(mut source) = step.start(&start).unwrap() else { panic!("not a source") };
        let mut rows = 0;
        for batch in source.read(&planned.units[0]).unwrap_or_else(|e| panic!("{e}")).take(20) {
            let batch = batch.unwrap_or_else(|e| panic!("{e}"));
            rows += batch.num_rows();
            let first = f32::from(name == "virtual") * -2.0 + value;
            let values = batch["x"].as_primitive::<Float32Type>().values().to_vec();
            assert!(values.iter().skip(1).all(|v| *v == value) && (values[0] == value || values[0] == first), "{name}");
        }
        assert!(rows >= 20, "{rows}");
    }
    assert!(most_memory() < 1 << 30, "{} MiB", most_memory() >> 20);
}

#[test]
fn a_chunk_that_inflates_without_end_is_refused() {
    // 2 GiB of zeros in 2 MB, as a chunk of 64 KiB.
    let folder = made(
        "
pack = zlib.compressobj(1)
bomb = b''.join(pack.compress(bytes(2**20)) for _ in range(2048)) + pack.flush()
with h5py.File('a.h5', 'w') as f:
    for name, how in [('own', {}), ('library', dict(scaleoffset=0))]:
        d = f.create_dataset(name, (2, 2**14), 'i4', chunks=(1, 2**14), compression='gzip', **how)
        d[:] = 1
        d.id.write_direct_chunk((0, 0), bomb)",
    );
    let begun = Instant::now();
    let own = broken(&path(&folder, "a.h5"), "  x: { dataset: own }\n");
    assert_eq!(own, "chunk [0, 0] of `own`: inflates to more than 65536 bytes");
    let library = broken(&path(&folder, "a.h5"), "  x: { dataset: library }\n");
    // Out of memory within its limit, or longer than the chunk: the library refuses either way.
    assert!(library.contains("can't read data"), "{library}");
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(most_memory() < 1 << 30, "{} MiB", most_memory() >> 20);
}

#[test]
fn chunks_and_values_beyond_the_end_are_refused() {
    let folder = made(
        "
with h5py.File('a.h5', 'w') as f:
    d = f.create_dataset('chunked', data=np.arange(4000, dtype='i4').reshape(10, 400), chunks=(5, 400), compression='gzip')
    f['whole'] = np.arange(4000, dtype='i4')
    where, size, whole = d.id.get_chunk_info(1).byte_offset, d.id.get_chunk_info(1).size, f['whole'].id.get_offset()
good = open('a.h5', 'rb').read()
def patched(name, old, new):
    assert good.count(old) == 1, (name, good.count(old))
    open(name, 'wb').write(good.replace(old, new))
n = lambda v, b=8: int(v).to_bytes(b, 'little')
patched('address.h5', n(where), n(10**9))
patched('high.h5', n(where), n(2**63 + 5))
# The key of a chunk: its size, its mask, its offsets.
patched('size.h5', n(size, 4) + n(0, 4) + n(5) + n(0), n(2**32 - 1, 4) + n(0, 4) + n(5) + n(0))
patched('grid.h5', n(size, 4) + n(0, 4) + n(5) + n(0), n(size, 4) + n(0, 4) + n(7) + n(0))
patched('values.h5', n(whole), n(2**63 + 5))",
    );
    let chunked = "  x: { dataset: chunked }\n";
    for (name, what) in [
        ("address.h5", "chunk [5, 0] of `chunked` reaches from byte 1000000000 to "),
        ("high.h5", "chunk [5, 0] of `chunked` reaches from byte 9223372036854775813 to "),
        ("size.h5", "chunk [5, 0] of `chunked` reaches from byte "),
        ("grid.h5", "error iterating over dataset chunks (bad coordinate offset)"),
    ] {
        let said = broken(&path(&folder, name), chunked);
        assert!(said.starts_with(what), "{name}: {said}");
    }
    let said = refused(&path(&folder, "values.h5"), "  x: { dataset: whole }\n");
    assert!(said.contains("`whole` cannot be read: unable to open object (invalid dataset size"), "{said}");
}

#[test]
fn what_the_library_needs_is_counted_in_the_budget() {
    // The own path holds a chunk, with an eighth to spare, and its packed bytes; a reader process three chunks (as stored, before
    // and after a filter) and an answer; both the dense row, of which the base has 32 MiB.
    let folder = made(
        "
with h5py.File('a.h5', 'w') as f:
    f['small'] = np.zeros((2, 4))
    for name, how in [('own', {}), ('library', dict(scaleoffset=0))]:
        f.create_dataset(name, (2, 2**25), 'i4', chunks=(1, 2**25), compression='gzip', **how)
        f[name][0] = np.random.RandomState(1).randint(0, 1000, 2**25) * (np.arange(2**25) % 32 == 0)
    layout = h5py.VirtualLayout((2, 2**25), 'i4')
    layout[:] = h5py.VirtualSource(f['own'])
    f.create_virtual_dataset('virtual', layout)",
    );
    let file = path(&folder, "a.h5");
    let holds = |name: &str| planned(&file, &format!("  x: {{ dataset: {name}, kind: dense }}\n")).2.unwrap().holds >> 20;
    let (chunk, answer, row) = (128, 128, 128 - 32);
    let base = holds("small");
    assert_eq!(base, 32 + 48);
    let own = holds("own") - base - row;
    assert!((chunk * 9 / 8 + 1..chunk * 9 / 8 + 6).contains(&own), "{own} MiB");
    assert_eq!(holds("library") - base - row, 3 * chunk + answer);
    assert_eq!(holds("virtual") - base - row, answer);
    // It is enough.
    let (step, facts, found) = planned(&file, "  x: { dataset: library, at: [999] }\n");
    let batches = read(&step, &facts, &found.unwrap()).remove(0).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    assert!(most_memory() < 1 << 30, "{} MiB", most_memory() >> 20);
}

#[test]
fn what_is_no_file_costs_itself() {
    let folder = made("h5py.File('a.h5', 'w')['x'] = np.arange(5)");
    Command::new("mkfifo").arg(folder.path().join("pipe.h5")).status().unwrap();
    symlink("loop.h5", folder.path().join("loop.h5")).unwrap();
    symlink("/dev/zero", folder.path().join("zero.h5")).unwrap();
    symlink("nowhere.h5", folder.path().join("lost.h5")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket.h5")).unwrap();
    let found = probe(&path(&folder, "*.h5"), &runtime()).unwrap();
    let said: Vec<(&str, String)> = found
        .iter()
        .map(|f: &FileFacts<Header>| {
            let name = Path::new(&f.path).file_name().unwrap().to_str().unwrap();
            (name, f.header.as_ref().map_or_else(Clone::clone, |_| "good".into()))
        })
        .collect();
    let reason = |name: &str| said.iter().find(|(n, _)| *n == name).map(|(_, r)| r.as_str());
    assert_eq!(reason("a.h5"), Some("good"));
    assert_eq!(reason("pipe.h5"), Some("it is not a regular file"));
    assert_eq!(reason("zero.h5"), Some("it is not a regular file"));
    assert!(reason("socket.h5").is_some_and(|r| r.starts_with("it cannot be opened")), "{said:?}");
    for name in ["loop.h5", "lost.h5"] {
        assert!(reason(name).is_none_or(|r| r == "it cannot be opened"), "{said:?}");
    }
    drop(socket);
}

#[test]
fn a_file_that_changes_after_it_was_planned_is_refused_and_a_touched_one_is_not() {
    let folder = made("h5py.File('a.h5', 'w').create_dataset('x', data=np.arange(400.), chunks=(50,), compression='gzip')");
    let file = path(&folder, "a.h5");
    let columns = "  x: { dataset: x }\n";
    let (step, facts, found) = planned(&file, columns);
    let found = found.unwrap();
    let rows = |facts: &Facts| read(&step, facts, &found).remove(0).map(|b| b.iter().map(RecordBatch::num_rows).sum::<usize>());
    assert_eq!(rows(&facts).ok(), Some(400));
    // The same bytes, written again: other times, another inode.
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(path(&folder, "b.h5"), &bytes).unwrap();
    std::fs::rename(path(&folder, "b.h5"), &file).unwrap();
    assert_eq!(rows(&facts).ok(), Some(400));
    // Other values of the same size in the same place.
    let mut other = bytes.clone();
    let last = other.len() - 20;
    other[last] ^= 1;
    std::fs::write(&file, other).unwrap();
    let Err(Fault::Content(reason)) = rows(&facts) else { panic!("it has changed") };
    assert!(reason.ends_with("a.h5 has changed since it was planned"), "{reason}");
    // Gone: nobody's data are wrong.
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(rows(&facts), Err(Fault::Machine(_))));
}

/// A reader program that ends or hangs when a path with this word in it comes in, and is the real one else.
fn other_reader(folder: &tempfile::TempDir, then: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let program = folder.path().join("reader");
    let text = format!(
        "#!{}
import os, signal, subprocess, sys, time
real = subprocess.Popen(['{}'] + sys.argv[1:], stdin=subprocess.PIPE)
while True:
    data = os.read(0, 65536)
    if b'bad' in data:
        {then}
    if not data: break
    real.stdin.write(data); real.stdin.flush()
real.stdin.close(); real.wait()
",
        interpreter().display(),
        runtime().reader.display()
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// What makes libhdf5 2.2 read for ever: the free space of a global heap that is shorter than it was, so that zeros follow it.
/// Found by the fuzzer.
const HANGING: &str = "
def hanging(name):
    data = bytearray(open(name, 'rb').read())
    at = data.index(b'GCOL') + 16
    while data[at:at + 2] != bytes(2):
        at += 16 + (int.from_bytes(data[at + 8:at + 16], 'little') + 7) // 8 * 8
    assert data[at + 8] and data[at + 9]
    data[at + 8] = 0
    open(name, 'wb').write(data)
";

#[test]
fn a_file_that_the_library_never_ends_with_costs_the_patience() {
    let folder = made(&format!(
        "{HANGING}
with h5py.File('a.h5', 'w') as f:
    f['x'] = np.arange(9.)
    f['x'].attrs['unit'] = 'GeV'
hanging('a.h5')"
    ));
    let begun = Instant::now();
    let Err(Fault::Content(reason)) = Reader::new(&runtime()).patience(Duration::from_secs(1)).header(&path(&folder, "a.h5"))
    else {
        panic!("it does not hang any more")
    };
    assert_eq!(reason, "the HDF5 library gave no answer for 1 s while reading the header");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_reader_that_dies_or_hangs_is_started_again_for_the_next_question() {
    let folder = made("[h5py.File(n, 'w').create_dataset('x', data=np.arange(9)) for n in ('a.h5', 'bad.h5')]");
    let ask = |then: &str| {
        let runtime = Runtime { reader: other_reader(&folder, then), ..Runtime::default() };
        let mut reader = Reader::new(&runtime).patience(Duration::from_secs(3));
        assert_eq!(reader.header(&path(&folder, "a.h5")).unwrap_or_else(|e| panic!("{e}")).datasets.len(), 1);
        let first = reader.process();
        let Err(Fault::Content(reason)) = reader.header(&path(&folder, "bad.h5")) else { panic!("it does") };
        assert_eq!(reader.process(), None);
        let rows = reader.rows(&path(&folder, "a.h5"), "x", None, 4, 5, 8).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(rows, (4..9i64).flat_map(i64::to_le_bytes).collect::<Vec<u8>>());
        assert_ne!(reader.process(), first);
        reason
    };
    let end = |signal: &str| format!("real.kill(); os.kill(os.getpid(), signal.{signal})");
    assert_eq!(ask(&end("SIGSEGV")), "the HDF5 library crashed (signal 11) while reading the header");
    assert_eq!(ask(&end("SIGKILL")), "the HDF5 reader was killed (signal 9; out of memory?) while reading the header");
    assert_eq!(ask("real.kill(); os._exit(1)"), "the HDF5 library gave up (status 1) while reading the header");
    assert_eq!(ask("real.kill(); time.sleep(1000)"), "the HDF5 library gave no answer for 3 s while reading the header");
    assert!(ask("os.write(1, b'\\xff' * 64); time.sleep(1000)").contains("answered nonsense"));
}

#[test]
fn long_lists_come_in_pieces_and_a_list_that_is_no_event_is_refused() {
    let folder = made(
        "
with h5py.File('a.h5', 'w') as f:
    d = f.create_dataset('long', (300,), h5py.vlen_dtype('i2'))
    for i in range(300): d[i] = np.full(300_000 + i, i, 'i2')
    t = f.create_dataset('texts', (300,), h5py.string_dtype())
    for i in range(300): t[i] = 'ab' * (1000 * (i % 300))
with h5py.File('b.h5', 'w') as f:
    d = f.create_dataset('wide', (3,), h5py.vlen_dtype('f8'))
    d[0] = np.arange(4.0)
    d[1] = np.zeros(9_000_000)
with h5py.File('c.h5', 'w') as f:
    # Pointers of 16 bytes each to one list of 1 MiB: rows whose lists together are more than the file.
    d = f.create_dataset('one', (1000,), h5py.vlen_dtype('u1'), chunks=(1000,))
    d[0] = np.ones(2**20, 'u1')
    whole = d.id.read_direct_chunk((0,))[1]
    d.id.write_direct_chunk((0,), whole[:16] * 1000)",
    );
    // 180 MB of lists: three answers.
    let (step, facts, planned) = planned(&path(&folder, "a.h5"), "  x: { dataset: long }\n  t: { dataset: texts }\n");
    let batches = read(&step, &facts, &planned.unwrap()).remove(0).unwrap_or_else(|e| panic!("{e}"));
    let mut row = 0;
    for batch in &batches {
        for (list, text) in batch["x"].as_list::<i32>().iter().zip(batch["t"].as_string::<i32>()) {
            let list = list.unwrap().as_primitive::<arrow::datatypes::Int16Type>().clone();
            assert!(list.len() == 300_000 + row && list.values().iter().all(|v| *v as usize == row), "row {row}");
            assert_eq!(text.unwrap(), "ab".repeat(1000 * row));
            row += 1;
        }
    }
    assert!(row == 300 && batches.len() > 10, "{row} rows in {} batches", batches.len());
    let reason = broken(&path(&folder, "b.h5"), "  x: { dataset: wide }\n");
    assert!(reason.contains("row 1 of `wide` takes 72000008 bytes or more; one of texts or lists may take 67108864"), "{reason}");
    let reason = broken(&path(&folder, "c.h5"), "  x: { dataset: one }\n");
    assert!(reason.contains("rows 0 to 1000 of `one` take more than 268435456 bytes"), "{reason}");
    assert!(most_memory() < 1 << 30, "{}", most_memory());
}
