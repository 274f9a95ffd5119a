//! What is claimed of speed and memory, each figure beside what one would use instead: `make bench`.
//!
//! The rules: what is compared runs in the same call, on the same machine, on the same number of cores (two workers beside two
//! processes), in turns; of each the best of three is taken, so that other people's work on the machine counts least.
//! calostream is timed as a whole program, from its start to the fsync of its last line; scripts without their imports, and
//! without any fsync. Nothing depends on the figures: a claim that does not hold is marked and the bench ends as usual.
//!
//! `CALOSTREAM_CORPUS` names the folder with the Geant4 showers that the input is made of; without it the showers are
//! parametrised ones, with half as many cells filled. `CALOSTREAM_BENCH_SCALE` makes the input larger or smaller (with 1.6 `premix` takes
//! 32,000 and 256,000 events). Words after
//! `cargo bench --bench peers --` choose parts: `layouts`, `convert`, `premix`,
//! `feed`, `predict`, `sweep`, `resolve`, `fill`, `areas`, `start`.

mod areas;
mod child;
mod filling;
mod input;
mod reading;
mod reduction;
mod table;

use bare::Bare;
use child::{Seen, run};
use input::{CLASSES, Place, on_one_core};
use reading::Reading;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use table::{Asked, Claims};

const TIMES: usize = 3;
const EVENTS: f64 = 5000.0;
/// What is predicted: so many that the opening of files and models (0.1 s) is no part of the bound that is compared with.
const PREDICTED_EVENTS: f64 = 10_000.0;
const SWEEP_EVENTS: f64 = 2000.0;
const ROWS: f64 = 1e7;
/// The word that makes this program one that reduces so many rows.
const MANY_ROWS: &str = "many-rows";
const FILES: usize = 5;
const CELL_BYTES: usize = 4 * (25 * 25 * 25 + 5 * 5 * 60);
const MIB: f64 = (1 << 20) as f64;
/// From this scale on `premix` compares with eight times as many events: 1.6 has 32,000 and 256,000.
const LARGE: f64 = 1.6;
/// Bytes of a run, where rows are put aside though they would fit in memory: what a budget of 900 MiB has for each of two.
const RUN: &str = "134217728";
/// What `predict.yaml` says, and what the program itself may take beside it.
const BUDGET_MIB: f64 = 1024.0 + 300.0;

fn main() {
    // A program of its own, so that its memory can be measured (`fill`).
    if let [_, word, rows] = &std::env::args().collect::<Vec<_>>()[..]
        && word == MANY_ROWS
    {
        filling::many(rows.parse().expect("a number of rows")).expect("sums");
        return;
    }
    // `cargo test --benches` calls this too, without the word.
    if !std::env::args().any(|word| word == "--bench") {
        return;
    }
    let place = match Place::find() {
        Ok(place) => place,
        Err(what) => {
            eprintln!("{what}");
            std::process::exit(1);
        }
    };
    let input = Input::of(&place, EVENTS);
    let mut claims = Claims::new();
    let parts: [Measure<'_>; 10] = [
        ("layouts", &mut |claims| layouts(&place, &input, claims)),
        ("convert", &mut |claims| convert(&place, &input, claims)),
        ("premix", &mut |claims| premix(&place, &input, claims)),
        ("feed", &mut |claims| feed(&place, &input, claims)),
        ("predict", &mut |claims| predict(&place, &Input::of(&place, PREDICTED_EVENTS), claims)),
        ("sweep", &mut |claims| sweep(&place, claims)),
        ("resolve", &mut |claims| resolve(&place, claims)),
        ("fill", &mut |claims| fill(&place, claims)),
        ("areas", &mut |claims| tell_apart(&place, claims)),
        ("start", &mut |claims| start(&place, claims)),
    ];
    let some = parts.iter().any(|(name, _)| std::env::args().any(|word| word == *name));
    for (name, measure) in parts {
        if !some || std::env::args().any(|word| word == name) {
            measure(&mut claims);
        }
    }
    claims.print();
    let from = if place.corpus.is_some() { "Geant4" } else { "parametrised (CALOSTREAM_CORPUS has Geant4's)" };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{} events, {from} showers, best of {TIMES}; load {load}", input.events);
}

/// A part of the bench, by its name.
type Measure<'a> = (&'a str, &'a mut dyn FnMut(&mut Claims));

struct Input {
    events: f64,
    data: PathBuf,
    files: Vec<PathBuf>,
    model: PathBuf,
}

impl Input {
    /// Showers, so many a class at scale 1.
    fn of(place: &Place, per_class: f64) -> Self {
        let per_class = (per_class * place.scale).ceil() as usize;
        let (data, files) = place.showers(per_class, FILES);
        Self { events: (CLASSES * per_class) as f64, model: place.model(), data, files }
    }
}

/// The best of several turns of several programs: each in its turn, so that all see the same machine.
fn turns<const N: usize>(mut each: [&mut dyn FnMut() -> f64; N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    for _ in 0..TIMES {
        for (best, measure) in best.iter_mut().zip(&mut each) {
            *best = best.min(measure());
        }
    }
    best
}

/// Images to hits in memory, without the engine: beside h5py, and beside what only reads and unpacks the same chunks.
fn layouts(place: &Place, input: &Input, claims: &mut Claims) {
    let folder = place.layouts(&input.files);
    for layout in ["gzip", "lzf", "lz4", "zstd", "blosc", "contiguous"] {
        let data = folder.join(layout);
        let reading = Reading::plan(&data, input::reader()).expect("files");
        let bare = Bare::new(&folder.join("chunks.tsv"), layout).expect("chunks");
        let files = input::hdf5_files(&data);
        let script = || run(&mut on_one_core(place.python("layouts.py").arg("read").args(&files)), None).number();
        let [two, one, bare_two, h5py] = turns([
            &mut || reading.hits(2).expect("hits"),
            &mut || reading.hits(1).expect("hits"),
            &mut || bare.seconds(2).expect("images"),
            &mut || script(),
        ]);
        let megabytes = bare.bytes() as f64 / 1e6;
        let rate = |seconds: f64| (megabytes / seconds, "MB/s");
        let name = format!("{layout} to hits, two cores");
        claims.add(
            &name,
            rate(two),
            Some(("bare pread, unpack, unshuffle", rate(bare_two), bare_two / two)),
            Asked::AtLeast(0.9),
        );
        let asked = if layout == "gzip" { 6.0 } else { 1.0 };
        claims.add("", rate(two), Some(("h5py", rate(h5py), h5py / two)), Asked::AtLeast(asked));
        claims.add("- one core", rate(one), Some(("h5py", rate(h5py), h5py / one)), Asked::AtLeast(1.0));
    }
}

/// HDF5 to Parquet.
fn convert(place: &Place, input: &Input, claims: &mut Claims) {
    let megabytes = input.events * CELL_BYTES as f64 / 1e6;
    let script = |form| {
        let out = place.folder.join("convert-script");
        let _ = std::fs::remove_dir_all(&out);
        std::fs::create_dir_all(&out).expect("a folder");
        run(place.python("convert.py").arg(form).arg(&out).args(&input.files), None).number()
    };
    let reading = Reading::plan(&input.data, input::reader()).expect("files");
    let (out, parts) = (place.folder.join("convert"), place.folder.join("convert-parts"));
    let [ours, bound, lists, bytes] = turns([
        &mut || run(&mut converting(place, &input.data, &out), None).seconds,
        &mut || reading.parquet(2, &parts).expect("parts"),
        &mut || script("lists"),
        &mut || script("bytes"),
    ]);
    let rate = |seconds| (megabytes / seconds, "MB/s");
    let what = "HDF5 to Parquet (MB/s of dense images)";
    claims.add(what, rate(ours), Some(("h5py + pyarrow", rate(lists), lists / ours)), Asked::AtLeast(3.0));
    claims.add("", rate(ours), Some(("with images as opaque bytes", rate(bytes), bytes / ours)), Asked::Nothing);
    let parts = "its parts on two threads, without the engine";
    claims.add("", rate(ours), Some((parts, rate(bound), bound / ours)), Asked::AtLeast(0.9));
    let size = |folder: &Path, ends: &str| (input::bytes_under(folder, ends) as f64 / 1e6, "MB");
    let (parquet, hdf5) = (size(&out, ".parquet"), size(&input.data, ".h5"));
    claims.add("size of the Parquet", parquet, Some(("HDF5, gzip 2 and shuffle", hdf5, hdf5.0 / parquet.0)), Asked::AtLeast(1.0));
}

fn converting(place: &Place, data: &Path, out: &Path) -> Command {
    let mut command = place.run("pipelines/convert-lcd.yaml", out, 2);
    command.arg("--set").arg(format!("data={}", data.display()));
    command
}

/// HDF5, and hits that are converted already, to files of mixed events; what it costs to put rows aside on disk; and whether
/// many times as many events take many times as long, when all are put aside.
fn premix(place: &Place, input: &Input, claims: &mut Claims) {
    let (peak, memory_peak, script_peak) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let ours = |pipeline: &str, data: &Path, spilling: bool, peak: &Cell<u64>| {
        let mut command = place.run(pipeline, &place.folder.join("premix"), 2);
        command.env_remove("CALOSTREAM_SPILL").arg("--set").arg(format!("data={}", data.display()));
        let seen = run(if spilling { command.env("CALOSTREAM_SPILL", RUN) } else { &mut command }, None);
        peak.set(seen.peak.max(peak.get()));
        seen.seconds
    };
    let script = || {
        let seen = run(place.python("premix.py").arg(place.folder.join("premix.h5")).args(&input.files), None);
        script_peak.set(seen.peak.max(script_peak.get()));
        seen.number()
    };
    let times = if place.scale < LARGE { 4.0 } else { 8.0 };
    let (more, _) = place.showers((times * input.events) as usize / CLASSES, FILES);
    let hits = place.folder.join("premix-hits");
    run(&mut converting(place, &input.data, &hits), None);
    let (premix, remix, hits) = ("benches/peers/premix.yaml", "benches/peers/remix.yaml", hits.join("converted"));
    let [whole, mixed, spilled, few, many, peer] = turns([
        &mut || ours(premix, &input.data, false, &peak),
        &mut || ours(remix, &hits, false, &memory_peak),
        &mut || ours(remix, &hits, true, &Cell::new(0)),
        &mut || ours(premix, &input.data, true, &peak),
        &mut || ours(premix, &more, true, &peak),
        &mut || script(),
    ]);
    let rate = |seconds| (input.events * CELL_BYTES as f64 / 1e6 / seconds, "MB/s");
    let name = "h5py + numpy in memory, to HDF5 with lzf";
    let what = "HDF5 to mixed Parquet (MB/s of dense images)";
    claims.add(what, rate(whole), Some((name, rate(peer), peer / whole)), Asked::AtLeast(5.0));
    claims.add("hits to mixed Parquet, in memory", rate(mixed), Some((name, rate(peer), peer / mixed)), Asked::AtLeast(10.0));
    let what = "- put aside on disk";
    claims.add(what, rate(spilled), Some((name, rate(peer), peer / spilled)), Asked::Nothing);
    claims.add("", rate(spilled), Some(("in memory", rate(mixed), mixed / spilled)), Asked::Nothing);
    let time = |seconds: f64, events: f64| (1e6 * seconds / events, "us/event");
    let (few, many) = (time(few, input.events), time(many, times * input.events));
    let what = format!("{times} times as many events, put aside");
    claims.add(&what, many, Some(("as many as above, put aside", few, few.0 / many.0)), Asked::AtLeast(0.87));
    let megabytes = |peak: &Cell<u64>| (peak.get() as f64 / MIB, "MiB");
    let beside = |peak: &Cell<u64>| Some((name, megabytes(&script_peak), script_peak.get() as f64 / peak.get() as f64));
    let what = "peak memory of mixing HDF5, `budget: 900 MiB`";
    claims.add(what, megabytes(&peak), beside(&peak), Asked::Below(1024.0, "MiB"));
    let what = "peak memory of mixing hits in memory";
    claims.add(what, megabytes(&memory_peak), beside(&memory_peak), Asked::Nothing);
}

/// Hits, and HDF5, to dense batches in Python; and whether there is a pause anywhere.
///
/// At 128 rows a batch comes every 3 ms or so, which is the time slice of a scheduler whose cores are all busy: so what is asked of
/// the longest gap is asked of batches of 512.
fn feed(place: &Place, input: &Input, claims: &mut Claims) {
    let gaps = [const { Cell::new(f64::INFINITY) }; 4];
    let hits = place.folder.join("feed-hits");
    run(&mut converting(place, &input.data, &hits), None);
    let numbers = |command: &mut Command| -> (f64, f64) {
        let said = run(command, None).said;
        let (seconds, gap) = said.trim().split_once(' ').unwrap_or_else(|| panic!("no two numbers: {said:?}"));
        (seconds.parse().expect("seconds"), gap.parse().expect("a ratio"))
    };
    let ours = |pipeline: &str, data: &Path, batch: u32, gap: &Cell<f64>| {
        let mut command = place.python("feed.py");
        command.arg("calostream").arg(input::calostream()).arg(place.root.join("benches/peers").join(pipeline));
        command.args(["--quiet", "--workers", "2", "--batch", &batch.to_string(), "--out"]);
        command.arg(place.folder.join(format!("feed-{batch}")));
        let (seconds, longest) = numbers(command.arg("--set").arg(format!("data={}", data.display())));
        gap.set(longest.min(gap.get()));
        seconds
    };
    let peer = || numbers(place.python("feed.py").args(["generator", "2", "128"]).args(&input.files)).0;
    let [from_hits, from_hdf5, _, _, generator] = turns([
        &mut || ours("feed.yaml", &hits.join("converted"), 128, &gaps[0]),
        &mut || ours("feed-hdf5.yaml", &input.data, 128, &gaps[1]),
        &mut || ours("feed.yaml", &hits.join("converted"), 512, &gaps[2]),
        &mut || ours("feed-hdf5.yaml", &input.data, 512, &gaps[3]),
        &mut || peer(),
    ]);
    let rate = |seconds: f64| (CELL_BYTES as f64 / 1e6 / seconds, "MB/s");
    let name = "h5py in two processes, pickled batches";
    let what = "hits to dense batches in Python (MB/s of dense images)";
    claims.add(what, rate(from_hits), Some((name, rate(generator), generator / from_hits)), Asked::AtLeast(4.0));
    claims.add(
        "HDF5 to dense batches in Python",
        rate(from_hdf5),
        Some((name, rate(generator), generator / from_hdf5)),
        Asked::AtLeast(2.0),
    );
    let asked = [Asked::Nothing, Asked::Nothing, Asked::Below(3.0, ""), Asked::Below(3.0, "")];
    let cases = [("hits", 128), ("HDF5", 128), ("hits", 512), ("HDF5", 512)];
    for (((from, batch), gap), asked) in cases.into_iter().zip(gaps).zip(asked) {
        let what = format!("longest gap between batches of {batch} from {from}, in median gaps");
        claims.add(&what, (gap.get(), ""), None, asked);
    }
}

/// HDF5 to predictions and their resolution, by one worker and by two; and what ONNX Runtime could do.
///
/// The bare parts compute first layers from dense images. So what the engine adds to them is seen where we do, too; the first
/// convolutions from hits (300 us an event dense, of 410; some 100 from hits) are what is gained beyond them.
fn predict(place: &Place, input: &Input, claims: &mut Claims) {
    let (peak, script_peak, sessions_peak) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let chain = |workers, cores, first_layer: &str| {
        let mut command = place.run("benches/peers/predict.yaml", &place.folder.join("predict"), workers);
        if cores == 1 {
            command = on_one_core(&command);
        }
        command.arg("--set").arg(format!("data={}", input.data.display())).args(["--set", &format!("first_layer={first_layer}")]);
        let seen = run(command.arg("--set").arg(format!("model={}", input.model.display())), None);
        peak.set(seen.peak.max(peak.get()));
        seen.seconds
    };
    let script = || {
        let seen = run(place.python("predict.py").arg(&input.model).args(&input.files), None);
        script_peak.set(seen.peak.max(script_peak.get()));
        seen.number()
    };
    let bare = |sessions: usize| {
        let mut command = place.python("sessions.py");
        command.arg(&input.model).args([&sessions.to_string(), "3"]).arg(&input.files[0]);
        let seen = run(&mut command, None);
        sessions_peak.set(if sessions == 2 { seen.peak } else { sessions_peak.get() });
        1.0 / seen.number()
    };
    let hits = place.folder.join("predict-hits-data");
    run(&mut converting(place, &input.data, &hits), None);
    let from_hits = |batch: &str, first_layer: &str| {
        let mut command = place.run("benches/peers/predict_hits.yaml", &place.folder.join("predict-hits"), 2);
        command.arg("--set").arg(format!("data={}", hits.join("converted").display())).args(["--set", &format!("batch={batch}")]);
        command.args(["--set", &format!("first_layer={first_layer}")]);
        run(command.arg("--set").arg(format!("model={}", input.model.display())), None).seconds
    };
    let images = [("ecal", 25 * 25 * 25), ("hcal", 5 * 5 * 60)];
    let reading = Reading::plan(&input.data, input::reader()).expect("files");
    let reading_hits = Reading::plan_parts(&hits.join("converted")).expect("parts");
    let [two, script, bare_two, hits, hits_auto, dense, dense_hits, one, half, bare_one, decode, decode_hits, densify] = turns([
        &mut || chain(2, 2, "auto"),
        &mut || script(),
        &mut || bare(2),
        &mut || from_hits("128", "auto"),
        &mut || from_hits("auto", "auto"),
        &mut || chain(2, 2, "dense"),
        &mut || from_hits("128", "dense"),
        &mut || chain(1, 1, "auto"),
        &mut || chain(1, 2, "auto"),
        &mut || bare(1),
        &mut || reading.hits(2).expect("hits"),
        &mut || reading_hits.hits(2).expect("hits"),
        &mut || reading_hits.dense(2, &images).expect("dense batches"),
    ]);
    let rate = |seconds: f64| (input.events / seconds, "events/s");
    // What the bare parts add up to on the same cores, one after the other: nobody is faster who does all of them.
    let bound = |decode: f64| decode + densify + input.events * bare_two;
    let bare = |seconds: f64| (1.0 / seconds, "events/s");
    let name = "h5py + onnxruntime + numpy";
    claims.add("HDF5 to resolution", rate(two), Some((name, rate(script), script / two)), Asked::AtLeast(1.25));
    let share = rate(two).0 * bare_two;
    claims.add("", rate(two), Some(("two bare sessions, data in memory", bare(bare_two), share)), Asked::AtLeast(0.7));
    claims.add("hits to resolution", rate(hits), Some((name, rate(script), script / hits)), Asked::AtLeast(1.4));
    let share = rate(hits).0 * bare_two;
    claims.add("", rate(hits), Some(("two bare sessions, data in memory", bare(bare_two), share)), Asked::AtLeast(0.85));
    let what = "- with `batch: auto`, its measuring included";
    claims.add(what, rate(hits_auto), Some((name, rate(script), script / hits_auto)), Asked::Nothing);
    for (what, ours, dense, decode) in
        [("HDF5 to resolution", two, dense, decode), ("hits to resolution", hits, dense_hits, decode_hits)]
    {
        let bound = bound(decode);
        let name = "reading + densifying + sessions, each alone";
        claims.add(what, rate(ours), Some((name, rate(bound), bound / ours)), Asked::AtLeast(0.95));
        claims.add("- with dense first layers", rate(dense), Some((name, rate(bound), bound / dense)), Asked::AtLeast(0.95));
        let script = Some(("h5py + onnxruntime + numpy", rate(script), script / bound));
        claims.add("- that bound itself", rate(bound), script, Asked::Nothing);
        let parts = [("reading", decode), ("densifying", densify), ("sessions", input.events * bare_two)];
        for (part, seconds) in parts {
            let name = format!("of that bound, {part}");
            claims.add(&name, (100.0 * seconds / bound, "%"), None, Asked::Nothing);
        }
    }
    claims.add("two workers, two cores", rate(two), Some(("one worker, one core", rate(one), one / two)), Asked::AtLeast(1.8));
    // Its reader has a core of its own, so that it is more than half of two workers.
    claims.add("", rate(two), Some(("one worker, two cores", rate(half), half / two)), Asked::Nothing);
    let bare_ratio = bare_one / bare_two;
    claims.add("two bare sessions", bare(bare_two), Some(("one bare session", bare(bare_one), bare_ratio)), Asked::Nothing);
    let (ours, theirs) = (peak.get() as f64 / MIB, script_peak.get() as f64 / MIB);
    // Python and its modules among them; the images are those of a file.
    claims.add("- of it the budget", (1024.0, "MiB"), None, Asked::Nothing);
    let sessions = sessions_peak.get() as f64 / MIB;
    claims.add("- and what two bare sessions and their images hold", (sessions, "MiB"), None, Asked::Nothing);
    claims.add(
        "peak memory of HDF5 to resolution, `budget: 1 GiB`",
        (ours, "MiB"),
        Some((name, (theirs, "MiB"), theirs / ours)),
        Asked::Below(BUDGET_MIB, "MiB"),
    );
}

/// Twenty networks over the same images in one pass: beside one reading and what the sessions alone take, and beside twenty runs.
///
/// What was tried, in user time of one core on Geant4 showers (1,060 hits an event for pions, 2,090 for electrons, of 17,125 cells): twenty
/// sessions of their own 1.56 to 1.61 ms an event; one model with their first layers joined, dense, 1.34 ms; the first layers from
/// hits 0.45 ms (pions) to 0.9 ms (electrons). So it is hits that stayed, and dense images are left to sessions of their own.
fn sweep(place: &Place, claims: &mut Claims) {
    let per_class = (SWEEP_EVENTS * place.scale).ceil() as usize;
    let (data, files) = place.showers(per_class, 2);
    let events = (CLASSES * per_class) as f64;
    let models = place.folder.join("sweep");
    if !models.join("w512_d4.onnx").exists() {
        std::fs::create_dir_all(&models).expect("a folder");
        run(place.python("../../tests/common/sweep.py").arg(&models).args(["32", "64", "128", "256", "512"]), None);
    }
    let ours = |first_layer: &str| {
        let mut command = place.run("benches/peers/sweep.yaml", &place.folder.join("sweep-run"), 2);
        command.arg("--set").arg(format!("data={}", data.display())).arg("--set").arg(format!("first_layer={first_layer}"));
        run(command.arg("--set").arg(format!("models={}/*.onnx", models.display())), None).seconds
    };
    let script = |what: &str| run(place.python("sweep.py").arg(what).arg(&models).args(&files), None).number();
    let reading = Reading::plan(&data, input::reader()).expect("files");
    let [pass, dense, read, bare, runs] = turns([
        &mut || ours("auto"),
        &mut || ours("dense"),
        &mut || reading.hits(2).expect("hits"),
        &mut || events * script("bare"),
        &mut || script("runs"),
    ]);
    let rate = |seconds: f64| (events / seconds, "events/s");
    let what = "20 networks in one pass";
    let bound = read + bare;
    claims.add(what, rate(pass), Some(("one reading + bare sessions", rate(bound), bound / pass)), Asked::AtLeast(0.9));
    claims.add("", rate(pass), Some(("20 runs of h5py + onnxruntime", rate(runs), runs / pass)), Asked::AtLeast(2.5));
    let what = "- with dense first layers";
    claims.add(what, rate(dense), Some(("one reading + bare sessions", rate(bound), bound / dense)), Asked::Nothing);
    claims.add("", rate(dense), Some(("20 runs of h5py + onnxruntime", rate(runs), runs / dense)), Asked::Nothing);
}

/// Ten million rows to exact sums in bins.
fn resolve(place: &Place, claims: &mut Claims) {
    let rows = (ROWS * place.scale).ceil() as usize;
    let script = |form: &str, processes: usize| {
        let mut command = place.python("resolve.py");
        command.arg(form).args([processes, rows, 3].map(|n| n.to_string()));
        run(&mut command, None).number()
    };
    let [ours, digitize, digitize_two, arithmetic, arithmetic_two] = turns([
        &mut || reduction::seconds(rows, 3).expect("sums"),
        &mut || script("digitize", 1),
        &mut || script("digitize", 2),
        &mut || script("arithmetic", 1),
        &mut || script("arithmetic", 2),
    ]);
    let time = |seconds: f64| (1e9 * seconds / rows as f64, "ns/row");
    let what = "exact resolution, 50 bins, 4 classes";
    let mut add = |what, name, seconds, asked| {
        claims.add(what, time(ours), Some((name, time(seconds), seconds / ours)), asked);
    };
    add(what, "numpy.digitize + bincount", digitize, Asked::AtLeast(3.0));
    add("", "the same, two processes", digitize_two, Asked::AtLeast(3.0));
    // Neither exact nor for any bins: how near that is to the least that there is to do.
    add("", "numpy, equal bins by arithmetic", arithmetic, Asked::Nothing);
    add("", "the same, two processes", arithmetic_two, Asked::Nothing);
}

/// Ten million rows into histograms, and into bins with quantiles; and a hundred million, for the memory that they take.
fn fill(place: &Place, claims: &mut Claims) {
    let rows = (ROWS * place.scale).ceil() as usize;
    let time = |seconds: f64| (1e9 * seconds / rows as f64, "ns/row");
    let script =
        |words: &[String]| run(place.python("fill.py").args(words).args([rows, 3].map(|n| n.to_string())), None).number();
    for (bins, asked) in [([50, 100, 4], Asked::AtLeast(2.0)), ([100, 100, 100], Asked::Nothing)] {
        let words = bins.map(|n: u32| n.to_string());
        let [ours, theirs] = turns([&mut || filling::histogram(rows, bins, 3).expect("filled"), &mut || script(&words)]);
        let what = format!("exact weighted histogram, {} bins", words.join(" x "));
        claims.add(&what, time(ours), Some(("boost-histogram, two threads", time(theirs), theirs / ours)), asked);
    }
    let words = ["duckdb".to_owned()];
    let [ours, theirs] = turns([&mut || filling::quantiles(rows, 3).expect("summed"), &mut || script(&words)]);
    let what = "mean, sigma, five quantiles in 200 bins";
    claims.add(what, time(ours), Some(("duckdb, two threads", time(theirs), theirs / ours)), Asked::AtLeast(3.0));
    let rows = 10 * rows;
    let program = std::env::current_exe().expect("this program");
    let seen = run(Command::new(program).args([MANY_ROWS, &rows.to_string()]), None);
    let what = format!("the same of {rows:.0e} rows in 50 bins, with the making of them");
    claims.add(&what, (1e9 * seen.seconds / rows as f64, "ns/row"), None, Asked::Nothing);
    claims.add("- peak memory", (seen.peak as f64 / MIB, "MiB"), None, Asked::Below(1024.0, "MiB"));
}

/// Two million rows to areas under ROC curves.
fn tell_apart(place: &Place, claims: &mut Claims) {
    let rows = (ROWS * place.scale / 5.0).ceil() as usize;
    let mut command = place.python("areas.py");
    command.args([rows, 1].map(|n| n.to_string()));
    let [ours, theirs] =
        turns([&mut || areas::seconds(rows, 3).expect("areas"), &mut || run(&mut on_one_core(&command), None).number()]);
    let time = |seconds: f64| (1e9 * seconds / rows as f64, "ns/row");
    let what = "AUC of 4 classes, 10 bins and all rows, with errors";
    claims.add(what, time(ours), Some(("sklearn.roc_auc_score, no errors", time(theirs), theirs / ours)), Asked::AtLeast(30.0));
}

/// From the start to the first batch, with a hundred files to look at: until the file of a sink is there.
fn start(place: &Place, claims: &mut Claims) {
    let (data, files) = place.showers(500, 25);
    let out = place.folder.join("start");
    let mut whole = f64::INFINITY;
    let [first] = turns([&mut || {
        let Seen { seconds, first, .. } = run(&mut converting(place, &data, &out), Some(&out.join(".staging")));
        whole = whole.min(seconds);
        first.unwrap_or(seconds)
    }]);
    let what = format!("start to first batch, {} files", files.len());
    claims.add(&what, (first, "s"), Some(("the whole run", (whole, "s"), whole / first)), Asked::Below(0.5, "s"));
}
