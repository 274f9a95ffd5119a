//! Damaged files, made of good ones by bit flips, byte runs, truncations, splices and overwritten lengths: each is probed, a schema
//! is proposed for it and read with `read_hdf5`, and every dataset of it is read. Nothing may panic, take longer than 10 s, or more
//! than 1 GiB.
//!
//! `CALOSTREAM_EFFORT=100` makes so many times 2,000 files and cuts files at every place; `CALOSTREAM_FUZZ_SEED=17`
//! repeats one. The files are those of the corpus, where there is one, and some of h5py's. What is found becomes a case in
//! `hdf5_lies.rs`.

#![allow(clippy::unwrap_used)]

use calostream_operators::facts::FileFacts;
use calostream_operators::hdf5::element::Element;
use calostream_operators::hdf5::header::{Dataset, Header};
use calostream_operators::hdf5::probe::probe_file;
use calostream_operators::hdf5::process::Reader;
use calostream_operators::hdf5::propose::propose;
use calostream_operators::hdf5::rows::{Opened, Rows, is_own, unknown_filter};
use calostream_operators::read::read_hdf5::{Patterns, ReadHdf5};
use calostream_operators::work::{Runtime, Start, Work, Worker};
use calostream_operators::{Facts, Fault, Operator, Placed};
use oracle::python_in;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Nothing may keep this process waiting for longer.
const LONGEST: Duration = Duration::from_secs(10);
/// Neither this process nor a reader may take more.
const MOST_MEMORY: u64 = 1 << 30;
/// A reader that the library keeps busy for so long on these small files hangs.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rows of a dataset are read in batches of about this; of a long one only the first and the last few.
const BATCH: u64 = 8 << 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|s| s.parse().unwrap_or_else(|e| panic!("{name}={s}: {e}")))
}

fn files_to_make() -> u64 {
    number("CALOSTREAM_EFFORT").unwrap_or(1) * 2_000
}

fn runtime() -> Runtime {
    Runtime { reader: env!("CARGO_BIN_EXE_calostream-reader").into(), patience: Some(PATIENCE), ..Runtime::default() }
}

/// A good file.
struct Good {
    name: String,
    bytes: Vec<u8>,
    /// Places of numbers in it that look like addresses within it.
    addresses: Vec<usize>,
}

/// Files of every kind of structure that the format has, made by h5py.
const MADE: &str = "
import h5py, hdf5plugin, numpy as np, sys
r = np.random.RandomState(1)
def images(f, n=40):
    e = r.rand(n, 6, 6, 6) * (r.rand(n, 6, 6, 6) < .2)
    f.create_dataset('ECAL', data=e.astype('f4'), chunks=(16, 6, 6, 6), compression='gzip', shuffle=True)
    f.create_dataset('HCAL', data=e.astype('>f8'), chunks=(7, 6, 3, 6), compression='lzf', fletcher32=True)
    # More chunks than travel with a header.
    f.create_dataset('long', data=r.randint(0, 9, (300, 4)).astype('u1'), chunks=(2, 2), maxshape=(None, 4), compression='gzip')
    f['target'] = r.rand(n, 2)
    f['target'].attrs['unit'] = 'GeV'
for version in ('earliest', 'latest'):
    with h5py.File(f'images-{version}.h5', 'w', libver=version) as f: images(f)
with h5py.File('kinds.h5', 'w', userblock_size=512) as f:
    n = 30
    f['table'] = np.zeros(n, [('a', 'i4'), ('b', 'f8', (3,)), ('c', 'S5'), ('d', [('x', 'u2')])])
    f.create_dataset('text', data=['ab', 'cde'] * (n // 2), dtype=h5py.string_dtype())
    d = f.create_dataset('lists', (n,), h5py.vlen_dtype('i2'))
    for i in range(n): d[i] = np.arange(i % 4)
    f['truth'] = np.arange(n) % 2 == 0
    f.create_dataset('enum', (n,), h5py.enum_dtype({'A': 1, 'B': 2}))
    f.create_dataset('scaled', data=np.arange(n), scaleoffset=0, chunks=(8,), compression='gzip')
    f.create_dataset('never', (n, 100), 'f4', chunks=(5, 100), fillvalue=3, maxshape=(None, 100))
    f.create_dataset('grown', (n, 4, 4), 'u1', chunks=(4, 2, 2), maxshape=(None, None, None), compression='gzip')[:] = 7
    f['half'] = np.arange(n, dtype='f2')
    f['g/h/single'] = 5
    f['g/link'] = h5py.SoftLink('/half')
    f['source'] = r.rand(n, 6)
    # Without times: a seed gives the same file tomorrow.
    space, low = h5py.h5s.create_simple((n, 6)), h5py.h5d.create
    dcpl = h5py.h5p.create(h5py.h5p.DATASET_CREATE); dcpl.set_obj_track_times(False); dcpl.set_virtual(space, b'.', b'source', space)
    low(f.id, b'virtual', h5py.h5t.IEEE_F64LE, space, dcpl)
    dcpl = h5py.h5p.create(h5py.h5p.DATASET_CREATE); dcpl.set_obj_track_times(False); dcpl.set_layout(h5py.h5d.COMPACT)
    low(f.id, b'compact', h5py.h5t.STD_I32LE, h5py.h5s.create_simple((n,)), dcpl).write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(n, dtype='i4'))
with h5py.File('codecs.h5', 'w') as f:
    e = (r.rand(40, 8, 8) * (r.rand(40, 8, 8) < .3)).astype('f4')
    for i, how in enumerate([hdf5plugin.LZ4(), hdf5plugin.Zstd(), hdf5plugin.Bitshuffle(), hdf5plugin.Blosc('lz4'), hdf5plugin.Blosc('zstd'), hdf5plugin.Blosc2()]):
        f.create_dataset(f'd{i}', data=e, chunks=(16, 8, 8), shuffle=i < 2, **how)
with h5py.File('many.h5', 'w') as f:
    for i in range(60): f[f'g{i % 5}/d{i}'] = np.arange(i)
";

fn good_files() -> Vec<Good> {
    let made = tempfile::tempdir().unwrap();
    python_in(made.path(), MADE);
    let mut folders = vec![made.path().to_owned()];
    match std::env::var_os("CALOSTREAM_CORPUS") {
        Some(corpus) => folders.push(corpus.into()),
        None => println!("without the corpus: CALOSTREAM_CORPUS is not set"),
    }
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for root in &folders {
        let mut left = vec![root.clone()];
        while let Some(folder) = left.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
                if entry.is_dir() {
                    left.push(entry);
                } else if entry.extension().is_some_and(|e| e == "h5" || e == "hdf5" || e == "mat") {
                    files.insert(entry.strip_prefix(root).unwrap().display().to_string(), entry);
                }
            }
        }
    }
    let each = |(name, path): (String, PathBuf)| {
        let bytes = std::fs::read(path).unwrap();
        let limit = bytes.len() as u64;
        let is_address = |word: &[u8]| (1..limit).contains(&u64::from_le_bytes(word.try_into().unwrap()));
        // Structures are aligned to at least two bytes; beyond the front of a large file there are values.
        let front = bytes.len().min(1 << 16);
        let addresses = (0..front.saturating_sub(8)).step_by(2).filter(|at| is_address(&bytes[*at..*at + 8])).collect();
        Good { name, bytes, addresses }
    };
    files.into_iter().map(each).filter(|g| !g.bytes.is_empty()).collect()
}

fn below(random: &mut ChaCha8Rng, n: usize) -> usize {
    (random.next_u64() % n.max(1) as u64) as usize
}

/// A place to change: in the first 4 KiB, in a number that looks like an address, behind such an address, or anywhere.
fn place(random: &mut ChaCha8Rng, good: &Good, length: usize) -> usize {
    let at = match below(random, 10) {
        0..=3 => below(random, length.min(4096)),
        4..=5 if !good.addresses.is_empty() => good.addresses[below(random, good.addresses.len())] + below(random, 8),
        6..=8 if !good.addresses.is_empty() => {
            let at = good.addresses[below(random, good.addresses.len())];
            let address = u64::from_le_bytes(good.bytes[at..at + 8].try_into().unwrap());
            usize::try_from(address).unwrap_or(0) + below(random, 64)
        }
        _ => below(random, length),
    };
    at.min(length.saturating_sub(1))
}

/// The file of a seed, and the name of the good one that it is made of.
fn damaged(seed: u64, good: &[Good]) -> (&str, Vec<u8>) {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    // Small files mostly: a large one holds little but values.
    let mut base = &good[below(random, good.len())];
    while base.bytes.len() > 200_000 && below(random, 20) > 0 {
        base = &good[below(random, good.len())];
    }
    let mut bytes = base.bytes.clone();
    // Few places: most damage to structure ends at the first thing that is looked at.
    for _ in 0..[1, 1, 1, 2, 2, 5][below(random, 6)] {
        let at = place(random, base, bytes.len());
        let rest = bytes.len() - at;
        match below(random, 12) {
            0..=3 => bytes[at] ^= 1 << below(random, 8),
            4 => bytes[at] = random.next_u64() as u8,
            5 => {
                let (length, value) = (1 + below(random, 32.min(rest)), [0, 0xff, random.next_u64() as u8][below(random, 3)]);
                bytes[at..(at + length).min(at + rest)].fill(value);
            }
            6..=8 => {
                // A length, address or count: of one, two, four or eight bytes.
                let size = (1 << below(random, 4)).min(rest);
                let numbers =
                    [0, 1, 2, 0x7f, 0xff, 0xffff, 1 << 20, 1 << 31, 0xffff_ffff, 1 << 40, 1 << 60, u64::MAX, u64::MAX - 1];
                let value = match below(random, 3) {
                    0 => numbers[below(random, numbers.len())],
                    1 => random.next_u64() >> below(random, 64),
                    _ => below(random, base.bytes.len()) as u64,
                };
                bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
            }
            9 => {
                let (length, to) = ((1 + below(random, 256)).min(rest), place(random, base, bytes.len()));
                let length = length.min(bytes.len() - to);
                bytes.copy_within(at..at + length, to);
            }
            10 => {
                let other = &good[below(random, good.len())];
                let (from, length) = (place(random, other, other.bytes.len()), 1 + below(random, 256));
                let part = &other.bytes[from..(from + length).min(other.bytes.len())];
                let length = part.len().min(rest);
                bytes[at..at + length].copy_from_slice(&part[..length]);
            }
            _ if below(random, 4) == 0 => bytes.truncate(at.max(1)),
            _ => {
                let length = (1 + below(random, 64)).min(rest);
                bytes.drain(at..at + length);
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    (&base.name, bytes)
}

/// The members of records that are numbers, by their paths; the element itself where it is none.
fn members(element: &Element, before: &str, found: &mut Vec<Option<String>>) {
    match element {
        Element::Compound { members: all, .. } => {
            for m in all.iter().take(20) {
                let path = format!("{before}{}", m.name);
                match &m.element {
                    Element::Compound { .. } => members(&m.element, &format!("{path}."), found),
                    _ => found.push(Some(path)),
                }
            }
        }
        _ => found.push(None),
    }
}

/// The datasets of a file, values and all: why some were refused, or what is wrong with this machine.
fn read_all(header: &Header, path: &str, reader: &mut Reader, progress: &dyn Fn()) -> Result<Vec<String>, Fault> {
    let opened = Opened::open(path)?;
    let mut refused = Vec::new();
    for d in &header.datasets {
        let mut names = Vec::new();
        members(&d.element, "", &mut names);
        for member in names {
            match read(d, member.as_deref(), &opened, reader, progress) {
                Ok(()) => {}
                Err(Fault::Content(reason)) => refused.push(reason),
                Err(machine) => return Err(machine),
            }
            progress();
        }
    }
    Ok(refused)
}

fn read(d: &Dataset, member: Option<&str>, opened: &Opened, reader: &mut Reader, progress: &dyn Fn()) -> Result<(), Fault> {
    let numbers = d.numbers(member).map_err(Fault::Content)?;
    if let Some(reason) = unknown_filter(d) {
        return Err(Fault::Content(reason));
    }
    let count = if d.null { 0 } else { d.shape.first().copied().unwrap_or(1) };
    let row = d.row_elements().saturating_mul(d.element.bytes()).max(1);
    let step = (BATCH / row).max(1);
    let (first, last) = (step.saturating_mul(3), count.saturating_sub(step));
    let mut rows = if is_own(d) && numbers.number.plain && !d.null { Some(Rows::new(d, opened, reader)?) } else { None };
    let mut at = 0;
    while at < count {
        let n = step.min(count - at);
        match &mut rows {
            Some(rows) => drop(std::hint::black_box(rows.plain(opened, at, usize::try_from(n)?)?)),
            None => {
                let inner = d.row_elements().saturating_mul(numbers.shape.iter().product::<u64>());
                let bytes = inner.saturating_mul(numbers.number.bytes.into());
                drop(std::hint::black_box(reader.rows(&opened.path, &d.path, member, at, n, bytes)?));
            }
        }
        progress();
        at += n;
        if at >= first && at < last {
            at = last;
        }
    }
    Ok(())
}

/// The way of a pipeline: the schema that is proposed, planned, and read to batches. True where there was anything to read.
fn read_step(facts: &FileFacts<Header>, header: &Header, progress: &dyn Fn()) -> Result<bool, Fault> {
    let folder = Path::new(&facts.path).parent().unwrap();
    let schema = folder.join("proposed.yaml").to_str().unwrap().to_owned();
    let step = ReadHdf5 {
        schema: Placed::unplaced(schema.clone()),
        files: Some(Patterns(vec![Placed::unplaced(facts.path.clone())])),
        samples: None,
        weights: None,
    };
    let mut known = Facts::default();
    known.texts.insert(schema, Ok(propose(header, "proposed")));
    known.hdf5.insert(facts.path.clone(), Ok(std::sync::Arc::new(vec![facts.clone()])));
    let Ok(planned) = step.plan(&known, &[]) else { return Ok(false) };
    let runtime = runtime();
    let at =
        Start { worker: Worker { index: 0, peers: 1 }, facts: &known, inputs: &[], outputs: &planned.outputs, runtime: &runtime };
    let Work::Source(mut source) = step.start(&at)? else { panic!("a source") };
    for unit in planned.units.iter().take(2) {
        let batches = match source.read(unit) {
            Ok(batches) => batches,
            Err(Fault::Content(_)) => continue,
            Err(machine) => return Err(machine),
        };
        let mut rows = 0;
        for batch in batches.take(4) {
            progress();
            match batch {
                Ok(batch) => rows += batch.num_rows() as u64,
                Err(Fault::Content(_)) => break,
                Err(machine) => return Err(machine),
            }
        }
        assert!(rows <= unit.rows, "{rows} rows of a unit of {}", unit.rows);
    }
    Ok(true)
}

/// The most memory that this process or another one has taken.
fn most_memory(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// What came of many files.
#[derive(Default)]
struct Counts {
    headers: AtomicUsize,
    steps: AtomicUsize,
    refused: AtomicUsize,
    /// Crashes, hangs and the like, by what is said of them, with the first file of each.
    ends: Mutex<BTreeMap<String, (usize, String)>>,
    slowest: Mutex<(Duration, String)>,
}

impl Counts {
    fn refused(&self, reason: &str, name: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        if ["crashed", "no answer", "gave up", "killed", "nonsense", "does not fit the question"]
            .iter()
            .any(|w| reason.contains(w))
        {
            // Whatever dataset it was.
            let what: Vec<&str> = reason.split('`').step_by(2).collect();
            self.ends.lock().unwrap().entry(what.join("...")).or_insert_with(|| (0, name.to_owned())).0 += 1;
        }
    }
}

/// Everything that is done to one file; a panic is a failure.
fn try_file(path: &Path, bytes: &[u8], name: &str, fresh: bool, reader: &mut Reader, counts: &Counts, progress: &dyn Fn()) {
    std::fs::write(path, bytes).unwrap();
    let path = path.to_str().unwrap();
    let begun = Instant::now();
    let facts = probe_file(path, reader).unwrap_or_else(|e| panic!("the machine is blamed: {e:#}"));
    progress();
    if fresh {
        // What a reader has seen before must not show, though the file has the inode of the one before it.
        let other = probe_file(path, &mut Reader::new(&runtime()).patience(PATIENCE));
        let other = other.unwrap_or_else(|e| panic!("the machine is blamed: {e:#}"));
        assert_eq!(facts.header.as_ref().ok(), other.header.as_ref().ok(), "a fresh reader says something else");
        progress();
    }
    match &facts.header {
        Err(reason) => counts.refused(reason, name),
        Ok(header) => {
            counts.headers.fetch_add(1, Ordering::Relaxed);
            let refused = read_all(header, path, reader, progress).unwrap_or_else(|e| panic!("the machine is blamed: {e}"));
            refused.iter().for_each(|reason| counts.refused(reason, name));
            let read = read_step(&facts, header, progress).unwrap_or_else(|e| panic!("the machine is blamed: {e}"));
            counts.steps.fetch_add(usize::from(read), Ordering::Relaxed);
        }
    }
    let took = begun.elapsed();
    let mut slowest = counts.slowest.lock().unwrap();
    if took > slowest.0 {
        *slowest = (took, name.to_owned());
    }
    drop(slowest);
    if let Some(process) = reader.process() {
        let taken = most_memory(&process.to_string());
        assert!(taken <= MOST_MEMORY, "the reader has taken {taken} bytes");
    }
    let taken = most_memory("self");
    assert!(taken <= MOST_MEMORY, "this process has taken {taken} bytes");
}

/// What a thread is at, and since when.
type Busy = Mutex<Option<(Instant, String)>>;

/// Does all of `count` jobs on several threads; each makes a file and says what it is.
fn try_all(count: u64, jobs: &(dyn Fn(u64) -> (String, Vec<u8>) + Sync)) {
    let counts = Counts::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
    let (next, left) = (AtomicUsize::new(0), AtomicUsize::new(threads));
    let failures: Mutex<Vec<String>> = Mutex::default();
    let busy: Vec<Busy> = (0..threads).map(|_| Mutex::new(None)).collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for slot in &busy {
            let (counts, next, failures, left) = (&counts, &next, &failures, &left);
            scope.spawn(move || {
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("damaged.h5");
                let mut reader = Reader::new(&runtime()).patience(PATIENCE);
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if i >= count || failures.lock().unwrap().len() >= 10 {
                        break;
                    }
                    let (name, bytes) = jobs(i);
                    let progress = || *slot.lock().unwrap() = Some((Instant::now(), name.clone()));
                    progress();
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| {
                        try_file(&file, &bytes, &name, i % 20 == 19, &mut reader, counts, &progress);
                    })) {
                        let what = panic.downcast_ref::<String>().cloned();
                        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
                        failures.lock().unwrap().push(format!("{name}: {what}"));
                    }
                    *slot.lock().unwrap() = None;
                }
                left.fetch_sub(1, Ordering::Relaxed);
            });
        }
        // Nothing ends a thread that hangs, so the process says which file it was and ends.
        while left.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(Duration::from_millis(20));
            for slot in &busy {
                if let Some((since, name)) = &*slot.lock().unwrap()
                    && since.elapsed() > LONGEST
                {
                    eprintln!("{name}: no progress for {LONGEST:?}");
                    std::process::abort();
                }
            }
        }
    });
    let Counts { headers, steps, refused, ends, slowest } = counts;
    println!(
        "{count} files in {:.1} s: {} with a header, {} read as a step, {} things refused; slowest {:?}; this process took {} MiB",
        begun.elapsed().as_secs_f64(),
        headers.into_inner(),
        steps.into_inner(),
        refused.into_inner(),
        slowest.into_inner().unwrap(),
        most_memory("self") >> 20,
    );
    for (reason, (times, example)) in ends.into_inner().unwrap() {
        println!("  {times} times {reason}; such as {example}");
    }
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn damaged_files_cost_themselves() {
    let good = good_files();
    let name = |seed: u64, of: &str| {
        format!("CALOSTREAM_FUZZ_SEED={seed} cargo test --release --workspace --test hdf5_fuzz damaged -- --nocapture   ({of})")
    };
    let make = |seed: u64| {
        let (of, bytes) = damaged(seed, &good);
        (name(seed, of), bytes)
    };
    if let Some(seed) = number("CALOSTREAM_FUZZ_SEED") {
        let kept = std::env::temp_dir().join(format!("calostream-fuzz-{seed}.h5"));
        std::fs::write(&kept, make(seed).1).unwrap();
        println!("the file: {}", kept.display());
        return try_all(1, &|_| make(seed));
    }
    try_all(files_to_make(), &make);
}

#[test]
fn files_cut_short_cost_themselves() {
    let good = good_files();
    let full = files_to_make() > 100_000;
    // Where the corpus is: a real detector's file, real calibrations, images; elsewhere what h5py made.
    let real = ["next/6229_000_trg_type.h5", "next/kr_corrections_run6206.h5", "geant4_lcd/ChPiEscan_1_1.h5"];
    let chosen: Vec<&Good> = good.iter().filter(|g| real.contains(&&*g.name) || !g.name.contains('/')).collect();
    // Each once as it is, and once with its new length where the superblock has the old one, so that more than that is looked at.
    let mut cuts: Vec<(&Good, usize, bool)> = Vec::new();
    for file in chosen {
        let all: Vec<usize> = (0..file.bytes.len()).step_by(1000).skip(1).collect();
        // All places of small files; of large ones the first ones and some all over.
        let every = if full { 1 } else { all.len().div_ceil(60) };
        cuts.extend(
            all.iter()
                .enumerate()
                .filter(|(i, _)| *i < 10 || i % every == 0)
                .flat_map(|(_, at)| [(file, *at, false), (file, *at, true)]),
        );
    }
    assert!(cuts.len() > 20);
    try_all(cuts.len() as u64, &|i| {
        let (file, at, told) = cuts[i as usize];
        let mut bytes = file.bytes[..at].to_vec();
        if told && bytes.get(8) == Some(&0) && bytes.len() > 48 {
            bytes[40..48].copy_from_slice(&(at as u64).to_le_bytes());
        }
        (format!("{} cut at byte {at}", file.name), bytes)
    });
}
