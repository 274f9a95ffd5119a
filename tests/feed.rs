//! Feeds from end to end: what comes over the pipe or the socket, for any ranks, workers, moments to go on at, and consumers.

mod common;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Int8Type, UInt32Type, UInt64Type};
use arrow::ipc::reader::StreamReader;
use common::{Place, until};
use oracle::python;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Events of three classes, written by h5py: `a` 300, `b` 1200, `c` 700, in files of 100.
const EVENTS: &str = r#"
import sys, numpy as np, h5py
random = np.random.default_rng(7)
for name, count in dict(a=300, b=1200, c=700).items():
    for k in range(count // 100):
        with h5py.File(f"{sys.argv[1]}/{name}_{k:02d}.h5", "w") as file:
            image = (random.random((100, 4, 5)) < 0.2) * random.random((100, 4, 5))
            file.create_dataset("image", data=image.astype("f4"), chunks=(30, 4, 5), compression="gzip")
            file["x"] = random.normal(size=100)
"#;
const SCHEMA: &str = "schema: events\ncolumns:\n  image: { dataset: image, kind: hits, value: energy, dims: [4, 5] }\n  \
                      x: { dataset: x, kind: number }\n";
const ALL: usize = 2200;

fn prepared() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).expect("made");
    python(EVENTS, &[&place.path("data")]);
    place.write("events.yaml", SCHEMA);
    place
}

/// A pipeline that feeds like this, with these steps in between (the last one is called `steps`).
fn pipeline(between: &str, feed: &str) -> String {
    let from = if between.is_empty() { "events" } else { "steps" };
    format!(
        "pipeline: training\nparams: {{ seed: 3 }}\nout: run\nseed: \"${{seed}}\"\nsteps:\n  events:\n    read_hdf5:\n      schema: events.yaml\n      \
         samples: {{ a: data/a_*.h5, b: data/b_*.h5, c: data/c_*.h5 }}\n{between}  batches:\n    from: {from}\n    feed: {feed}\n"
    )
}

const SMALL: &str = "{ batch: 64, window: 300 }";

/// What a feed gave.
struct Fed {
    bytes: Vec<u8>,
    batches: Vec<RecordBatch>,
    err: String,
}

/// Where a row came from, and where it stood: class, file, row, epoch, position.
type Row = (i8, u32, u64, u32, u64);

impl Fed {
    fn rows(&self) -> Vec<Row> {
        self.batches.iter().flat_map(rows_of).collect()
    }

    fn sizes(&self) -> Vec<usize> {
        self.batches.iter().map(RecordBatch::num_rows).collect()
    }

    /// What was said of it as JSON in the end.
    fn summary(&self) -> Value {
        let last = self.err.lines().rfind(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no summary in {}", self.err));
        serde_json::from_str(last).expect("JSON")
    }
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("no `{name}`"));
    let class = column("sample").as_dictionary::<Int8Type>().keys().values().clone();
    let (file, epoch) =
        (column("file").as_primitive::<UInt32Type>().values(), column("epoch").as_primitive::<UInt32Type>().values());
    let (row, at) =
        (column("row").as_primitive::<UInt64Type>().values(), column("position").as_primitive::<UInt64Type>().values());
    (0..batch.num_rows()).map(|i| (class[i], file[i], row[i], epoch[i], at[i])).collect()
}

fn events(rows: &[Row]) -> BTreeSet<(u32, u64)> {
    let events: BTreeSet<(u32, u64)> = rows.iter().map(|(_, file, row, ..)| (*file, *row)).collect();
    assert_eq!(events.len(), rows.len(), "an event came twice");
    events
}

#[track_caller]
fn feed_ending(place: &Place, code: i32, args: &[&str]) -> Fed {
    let mut all = vec!["feed", "feed.yaml"];
    all.extend(args);
    let output = place.command(&all).output().expect("it starts");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{err}");
    let batches = if output.stdout.is_empty() {
        Vec::new()
    } else {
        StreamReader::try_new(Cursor::new(&output.stdout), None).expect("a stream").map(|b| b.expect("a batch")).collect()
    };
    Fed { bytes: output.stdout, batches, err }
}

#[track_caller]
fn feed(place: &Place, args: &[&str]) -> Fed {
    feed_ending(place, 0, args)
}

#[test]
fn every_event_comes_once_an_epoch_to_one_of_the_ranks_in_full_batches_with_all_classes() {
    let place = prepared();
    place.write("feed.yaml", &pipeline("", SMALL));
    for of in ["1", "2", "3"] {
        let mut all = Vec::new();
        for rank in 0..of.parse().unwrap() {
            let fed = feed(&place, &["-q", "--of", of, "--rank", &format!("{rank}")]);
            let (rows, sizes) = (fed.rows(), fed.sizes());
            assert!(sizes[..sizes.len() - 1].iter().all(|n| *n == 64), "{sizes:?}");
            // Contiguous positions; classes in their shares, which are 3 : 12 : 7.
            assert!(rows.windows(2).all(|w| w[1].4 == w[0].4 + 1));
            for (class, share) in [(0, 3.0 / 22.0), (1, 12.0 / 22.0), (2, 7.0 / 22.0)] {
                let (n, count) = (rows.len() as f64, rows.iter().filter(|r| r.0 == class).count() as f64);
                assert!((count - n * share).abs() < 4.0 * (n * share * (1.0 - share)).sqrt() + 1.0, "{count} of {class} in {n}");
            }
            all.extend(rows);
        }
        assert_eq!(events(&all).len(), ALL);
        assert!(all.iter().zip(0..).all(|(row, position)| row.4 == position));
    }
    let dropped = pipeline("", "{ batch: 64, window: 300, last: drop }");
    place.write("feed.yaml", &dropped);
    let fed = feed(&place, &[]);
    assert_eq!(fed.sizes(), vec![64; ALL / 64]);
    assert!(fed.err.contains("24 events in last batches that were not full were left out"), "{}", fed.err);
}

#[test]
fn the_stream_is_the_same_for_any_workers_and_goes_on_anywhere() {
    let place = prepared();
    let between = "  kept:\n    from: events\n    keep: x > -0.5\n  steps:\n    from: kept\n    noise: { images: [image], sigma: 0.01, on: cells }\n";
    place.write("feed.yaml", &pipeline(between, SMALL));
    let whole = feed(&place, &["-q", "--epochs", "2", "-w", "1"]);
    for workers in ["2", "3"] {
        assert!(feed(&place, &["-q", "--epochs", "2", "-w", workers]).bytes == whole.bytes, "{workers} workers");
    }
    // Batches are full where cuts have left holes, too.
    let sizes = whole.sizes();
    let short: Vec<usize> = (0..sizes.len()).filter(|i| sizes[*i] != 64).collect();
    assert!(
        short.len() <= 2 && short.iter().all(|i| i + 1 == sizes.len() || rows_of(&whole.batches[i + 1])[0].3 == 1),
        "{sizes:?}"
    );
    for after in [0, 3, 9, sizes.len() / 2 - 1, sizes.len() / 2, sizes.len() - 2] {
        let last = *rows_of(&whole.batches[after]).last().expect("a row");
        let start = format!("{}:{}", last.3, last.4 + 1);
        let rest = feed(&place, &["-q", "--epochs", "2", "--start", &start]);
        assert_eq!(rest.batches.len(), sizes.len() - after - 1, "from {start}");
        assert!(rest.batches == whole.batches[after + 1..], "from {start}");
    }
    // Of rank 1 as well; and from a position that no batch ended at, rows are the same.
    let second = feed(&place, &["-q", "--epochs", "2", "--rank", "1", "--of", "2"]);
    let rows_of_second = second.rows();
    let from = rows_of_second[137];
    let rest = feed(&place, &["-q", "--epochs", "2", "--rank", "1", "--of", "2", "--start", &format!("{}:{}", from.3, from.4)]);
    assert_eq!(rest.rows(), rows_of_second[137..]);
}

#[test]
fn each_epoch_has_its_own_order_and_its_own_draws() {
    let place = prepared();
    let between = "  turned:\n    from: events\n    flip: { images: [image], axes: [0, 1] }\n  steps:\n    from: turned\n    noise: { images: [image], sigma: 0.1, on: cells }\n";
    place.write("feed.yaml", &pipeline(between, SMALL));
    let fed = feed(&place, &["--json", "--epochs", "2"]);
    let rows = fed.rows();
    let (first, second) = rows.split_at(ALL);
    assert_eq!(events(first), events(second));
    let order = |rows: &[Row]| rows.iter().map(|r| (r.1, r.2)).collect::<Vec<_>>();
    let same = order(first).iter().zip(order(second)).filter(|(a, b)| **a == *b).count();
    assert!(same < 20, "{same} events where they were");
    let mut images: BTreeMap<(u32, u64), Vec<Vec<f32>>> = BTreeMap::new();
    for batch in &fed.batches {
        let cells = batch.column_by_name("image").expect("images").as_fixed_size_list().clone();
        for (i, row) in rows_of(batch).into_iter().enumerate() {
            images.entry((row.1, row.2)).or_default().push(cells.value(i).as_primitive::<Float32Type>().values().to_vec());
        }
    }
    assert!(images.values().all(|both| both.len() == 2 && both[0] != both[1]));
    let other = feed(&place, &["-q", "--set", "seed=4"]);
    assert_ne!(order(&other.rows()), order(first));
    assert_eq!(feed(&place, &["-q"]).rows(), first);
    let said = fed.summary();
    for epoch in 0..2 {
        let mixed = &said["mixing"][epoch];
        assert!(mixed["class_spread"].as_f64().expect("a number") < 1.2, "{mixed}");
        // Of so few files, an order of theirs may by chance be like the one before.
        assert!(mixed["correlation"].as_f64().expect("a number").abs() < 0.7, "{mixed}");
        assert!(mixed["same_piece"].as_f64().expect("a number") < 0.25, "{mixed}");
    }
}

#[test]
fn images_are_those_of_numpy_from_hdf5_and_from_a_premixed_set() {
    let place = prepared();
    place.write("feed.yaml", &pipeline("", SMALL));
    let check = r#"
import sys, glob, numpy as np, h5py, pyarrow as pa
with pa.OSFile(sys.argv[2]) as source:
    table = pa.ipc.open_stream(source).read_all()
files = [f"{sys.argv[1]}/{c}_{k:02d}.h5" for k in range(12) for c in "abc" if k < dict(a=3, b=12, c=7)[c]]
data = [h5py.File(f) for f in files]
image, x = [np.stack([d[name][:] for d in data]) for name in ("image", "x")]
table = table.combine_chunks()
file, row = table["file"].to_numpy(), table["row"].to_numpy()
tensor = table["image"].combine_chunks()
assert tensor.type.shape == [4, 5] and tensor.type.value_type == pa.float32()
assert len(table) == 2200 and (tensor.to_numpy_ndarray() == image[file, row]).all()
assert (table["x"].to_numpy() == x[file, row]).all()
sample = table["sample"].combine_chunks()
sample = sample.chunk(0) if isinstance(sample, pa.ChunkedArray) else sample
assert sample.dictionary.to_pylist() == list("abc")
assert (np.array(list("abc"))[sample.indices.to_numpy()] == [files[f].split("/")[-1][0] for f in file]).all()
"#;
    let compare = |fed: &Fed| {
        std::fs::write(place.path("fed.arrows"), &fed.bytes).expect("written");
        python(check, &[&place.path("data"), &place.path("fed.arrows")]);
    };
    let hdf5 = feed(&place, &["-q"]);
    compare(&hdf5);

    let premix = "pipeline: premix\nout: mixed\nsteps:\n  events:\n    read_hdf5:\n      schema: events.yaml\n      samples: { a: data/a_*.h5, b: data/b_*.h5, c: data/c_*.h5 }\n  \
                  all:\n    from: events\n    premix: {}\n  parts:\n    from: all\n    write_parquet: { events_per_file: 400 }\n";
    place.write("premix.yaml", premix);
    place.calostream(&["run", "-q", "premix.yaml"]).code(0);
    let from_parquet = "pipeline: training\nout: run\nsteps:\n  events:\n    read_parquet: { files: mixed/parts/*.parquet }\n  batches:\n    from: events\n    feed: { batch: 64, window: 300 }\n";
    place.write("feed.yaml", from_parquet);
    let parquet = feed(&place, &["-q"]);
    compare(&parquet);
    assert_eq!(events(&parquet.rows()), events(&hdf5.rows()));
    // As hits, and only what was asked for.
    place.write("feed.yaml", &from_parquet.replace("window: 300", "window: 300, images: hits, columns: [image]"));
    let hits = feed(&place, &["-q"]);
    let names: Vec<String> = hits.batches[0].schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["sample", "file", "row", "event", "image", "epoch", "position"]);
    assert_eq!(hits.rows(), parquet.rows());
    let cells = |batch: &RecordBatch| batch.column_by_name("image").expect("images").as_list::<i32>().values().len();
    let filled = |batch: &RecordBatch| {
        let images = batch.column_by_name("image").expect("images").as_fixed_size_list().values().clone();
        images.as_primitive::<Float32Type>().values().iter().filter(|v| **v != 0.0).count()
    };
    assert!(hits.batches.iter().map(cells).eq(parquet.batches.iter().map(filled)));
}

#[test]
fn a_network_may_stand_before_a_feed() {
    let place = Place::new();
    place.showers(60, 20, 1);
    place.model("model.onnx", ["ECAL", "HCAL"]);
    place.write(
        "feed.yaml",
        "pipeline: training\nout: run\nsteps:\n  events:\n    read_hdf5:\n      schema: lcd-v1\n      samples: { electron: \"data/Ele*.h5\", pion: \"data/ChPi*.h5\" }\n  \
         kept:\n    from: events\n    keep: energy > 40\n  predicted:\n    from: kept\n    infer:\n      model: model.onnx\n      inputs: { ECAL: ecal, HCAL: hcal }\n      \
         outputs: { energy: predicted, probabilities: [a, b, c, d] }\n      batch: 7\n  late:\n    from: predicted\n    keep: energy < 90\n  \
         batches:\n    from: late\n    feed: { batch: 10, window: 30, columns: [energy, predicted] }\n",
    );
    let fed = feed(&place, &["-q", "-w", "2"]);
    let rows = fed.rows();
    assert!(rows.len() > 20 && rows.len() < 120);
    events(&rows);
    std::fs::write(place.path("fed.arrows"), &fed.bytes).expect("written");
    let check = r#"
import sys, glob, numpy as np, h5py, pyarrow as pa
with pa.OSFile(sys.argv[2]) as source:
    table = pa.ipc.open_stream(source).read_all()
def energies(name):
    return np.concatenate([np.ravel(h5py.File(f)["target"][:][..., 1]) for f in sorted(glob.glob(f"{sys.argv[1]}/{name}*.h5"))])
energy = np.concatenate([energies("Ele"), energies("ChPi")])
wanted = np.sort(energy[(energy > 40) & (energy < 90)])
assert np.allclose(np.sort(table["energy"].to_numpy()), wanted), (len(table), len(wanted))
assert (table["predicted"].to_numpy() != 0).all()
"#;
    python(check, &[&place.path("data"), &place.path("fed.arrows")]);
    let from = rows[17];
    assert_eq!(feed(&place, &["-q", "--start", &format!("0:{}", from.4)]).rows(), rows[17..]);
}

#[test]
fn over_tcp_comes_what_comes_over_a_pipe() {
    let place = prepared();
    place.write("feed.yaml", &pipeline("", SMALL));
    let piped = feed(&place, &["-q"]);
    let address = common::free_address();
    let serving = place.start(&["feed", "feed.yaml", "-q", "--to", &format!("tcp:{address}")]);
    let mut consumer = None;
    for _ in 0..400 {
        consumer = TcpStream::connect(&address).ok();
        if consumer.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut bytes = Vec::new();
    consumer.expect("it listens").read_to_end(&mut bytes).expect("batches");
    serving.wait(Duration::from_secs(20)).code(0);
    assert!(bytes == piped.bytes, "{} and {} bytes", bytes.len(), piped.bytes.len());
}

#[test]
fn a_consumer_may_go_away_or_be_slow() {
    let place = prepared();
    place.write("feed.yaml", &pipeline("", SMALL));
    let endless = place.start(&["feed", "feed.yaml", "--to", "unix:socket", "--epochs", "endless"]);
    until("the socket", || place.path("socket").exists());
    let consumer = UnixStream::connect(place.path("socket")).expect("connected");
    let memory = |process: u32, what: &str| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
        let line = status.lines().find(|l| l.starts_with(what)).expect("memory").to_owned();
        line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number")
    };
    // Nobody reads: everything stands still.
    std::thread::sleep(Duration::from_millis(1500));
    let before = memory(endless.process(), "VmRSS");
    std::thread::sleep(Duration::from_millis(1500));
    let after = memory(endless.process(), "VmRSS");
    assert!(after < before + (4 << 10), "{before} KiB, then {after}");
    // Another one does not wait for what never comes.
    let mut other = UnixStream::connect(place.path("socket")).expect("connected");
    other.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    assert_eq!(other.read(&mut [0; 8]).expect("it is closed"), 0);
    let mut stream = StreamReader::try_new(consumer, None).expect("a stream");
    for _ in 0..200 {
        // 2200 events are 34 batches of 64, and one of 24.
        assert!([64, 24].contains(&stream.next().expect("endless").expect("a batch").num_rows()));
    }
    drop(stream);
    let said = endless.wait(Duration::from_secs(20)).code(0);
    assert!(said.err.contains("the consumer went away; batches up to epoch "), "{}", said.err);
    assert!(said.err.contains("another consumer has connected and was turned away"), "{}", said.err);
    assert!(said.err.contains("goes on with `--start "), "{}", said.err);
    let waited = said.err.split("data for the consumer ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a share");
    assert!(waited.parse::<f64>().expect("a number") > 20.0, "{}", said.err);
    assert!(!place.path("socket").exists() && !place.path("run/feed-batches-0-of-1.lock").exists());
    // The same for a pipe.
    let mut command = place.command(&["feed", "feed.yaml", "--epochs", "endless"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    let mut some = [0; 1000];
    child.stdout.take().expect("a pipe").read_exact(&mut some).expect("bytes");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn two_consumers_of_one_rank_are_refused_and_a_signal_leaves_nothing_behind() {
    let place = prepared();
    place.write("feed.yaml", &pipeline("", SMALL));
    let first = place.start(&["feed", "feed.yaml", "--to", "unix:socket", "--rank", "1", "--of", "2"]);
    until("the socket", || place.path("socket").exists());
    let again = feed_ending(&place, 1, &["--rank", "1", "--of", "2"]);
    assert!(again.err.contains("rank 1 of 2 of `batches` is fed already from run (host "), "{}", again.err);
    assert!(again.err.contains(&format!("process {}", first.process())) && again.err.contains("--out FOLDER"), "{}", again.err);
    feed(&place, &["-q", "--rank", "0", "--of", "2"]);
    feed(&place, &["-q", "--rank", "1", "--of", "2", "--out", "other"]);
    // Some events of another number of consumers are those of this one.
    let overlapping = feed_ending(&place, 1, &["--rank", "0", "--of", "3"]);
    assert!(
        overlapping.err.contains("`batches` is fed already from run to 2 consumers, among them rank 1 (host "),
        "{}",
        overlapping.err
    );
    assert!(overlapping.err.contains("this would be one of 3"), "{}", overlapping.err);
    assert!(!place.path("run/feed-batches-0-of-3.lock").exists());
    // Those that are over, or were killed, stop nobody.
    let dead = place.read("run/feed-batches-1-of-2.lock").replace(&first.process().to_string(), "4000000000");
    place.write("run/feed-batches-3-of-5.lock", &dead);
    feed(&place, &["-q", "--rank", "0", "--of", "2"]);
    assert!(!place.path("run/feed-batches-3-of-5.lock").exists());
    let busy = feed_ending(&place, 1, &["--to", "unix:socket", "--out", "busy"]);
    assert!(busy.err.contains("another program listens on socket"), "{}", busy.err);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(first.process().cast_signed()).expect("a process"),
        rustix::process::Signal::TERM,
    )
    .expect("sent");
    let said = first.wait(Duration::from_secs(20)).code(1);
    assert!(said.err.contains("stopped by SIGTERM before the first batch"), "{}", said.err);
    assert!(!place.path("socket").exists() && !place.path("run/feed-batches-1-of-2.lock").exists());
}

#[test]
fn what_cannot_be_fed_is_said() {
    let place = prepared();
    place.write("feed.yaml", &pipeline("", SMALL));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = format!("tcp:{}", taken.local_addr().expect("its address"));
    place.write("file", "mine");
    let long = format!("unix:/tmp/{}", "x".repeat(120));
    let cases: &[(i32, &[&str], &str)] = &[
        (2, &["--rank", "2", "--of", "2"], "rank 2 of 2: ranks are numbered from 0 to 1"),
        (2, &["--batch", "0"], "0 is not in 1.."),
        (2, &["--epochs", "0"], "no epoch would be fed"),
        (2, &["--start", "now"], "an epoch and a position, as in 3:12800"),
        (2, &["--to", &long], "may have 107 bytes"),
        (2, &["--to", "tcp:0.0.0.0:5000"], "could be reached from other machines"),
        (2, &["--step", "other"], "no step `other` that feeds; there is batches"),
        (1, &["--to", &port], "is in use by another program"),
        (1, &["--to", "unix:file"], "file is there already, and is no socket"),
        (1, &["--to", "unix:nowhere/socket"], "cannot make the socket nowhere/socket"),
        (1, &["--start", "0:2201"], "position 2201 is not one of this consumer: rank 0 of 1 has 0 to 2200"),
        (1, &["--start", "1:0"], "epoch 1 is beyond the end"),
        (1, &["--rank", "0", "--of", "2", "--start", "0:1101"], "rank 0 of 2 has 0 to 1100"),
        (
            1,
            &["--of", "2", "--batch", "1000000000"],
            ", shared by `--of 2` consumers; elsewhere `budget:` says what each has) is too small",
        ),
        (1, &["--rank", "0", "--of", "3000"], "rank 0 of 3000 would have none of the 2,200 events"),
    ];
    for (code, args, said) in cases {
        let fed = feed_ending(&place, *code, args);
        assert!(fed.err.contains(said) && fed.bytes.is_empty(), "{args:?}: {}", fed.err);
    }
    assert_eq!(std::fs::read(place.path("file")).expect("it stays"), b"mine");
    // A training does not go on in another order.
    feed(&place, &["-q"]);
    feed(&place, &["-q", "--start", "0:640"]);
    let other = feed_ending(&place, 1, &["--start", "0:640", "--set", "seed=9"]);
    assert!(other.err.contains("the order is another one than that of the training"), "{}", other.err);

    for (between, feed, said) in [
        ("", "{ batch: 0 }", "a batch needs at least one row"),
        (
            "  steps:\n    from: events\n    resample: { to: a, by: { x: { range: [-3, 3], bins: 4 } }, method: countup }\n",
            "{}",
            "must see all rows before it gives the first (`resample`)",
        ),
        ("", "{ window: 0 }", "a window of no rows"),
        ("", "{ columns: [imag] }", "did you mean `image`?"),
        ("  steps:\n    from: events\n    premix: {}\n", "{}", "which makes a new order (`premix`)"),
        ("  steps:\n    from: events\n    derive: { epoch: x + 1 }\n", "{}", "two columns of a batch would be called `epoch`"),
        ("  steps:\n    from: events\n    keep: x > 0\n  files:\n    from: steps\n    write_parquet: {}\n", "{}", "only feeds"),
    ] {
        place.write("wrong.yaml", &pipeline(between, feed));
        let output = place.calostream(&["check", "wrong.yaml"]).code(2);
        assert!(output.err.contains(said), "{}", output.err);
    }
    let run = place.calostream(&["run", "feed.yaml"]).code(2);
    assert!(run.err.contains("use `calostream feed feed.yaml`"), "{}", run.err);
    let watch = place.calostream(&["run", "--watch", "feed.yaml"]).code(2);
    assert!(watch.err.contains("`batches` feeds a program and writes no files"), "{}", watch.err);
    place.write(
        "wrong.yaml",
        &pipeline("", "{ window: 60000, batch: 60000 }").replace("steps:\n  events", "budget: 128 MiB\nsteps:\n  events"),
    );
    let small = place.calostream(&["feed", "wrong.yaml"]);
    assert!(small.code != Some(0) && small.err.contains("at least `budget: "), "{}", small.err);
}

#[test]
fn data_that_turn_out_wrong_are_left_out_and_said() {
    let place = prepared();
    place.write("feed.yaml", &pipeline("", SMALL));
    let damage = "
import sys, h5py
with h5py.File(sys.argv[1]) as f:
    at = f['image'].id.get_chunk_info(2)
with open(sys.argv[1], 'r+b') as f:
    f.seek(at.byte_offset)
    f.write(b'\\xff' * at.size)";
    python(damage, &[&place.path("data/b_03.h5")]);
    let many = feed_ending(&place, 1, &["-q"]);
    assert!(many.err.contains("more than `quarantine_at_most"), "{}", many.err);
    place.write("feed.yaml", &pipeline("", SMALL).replace("out: run", "out: run\nquarantine_at_most: 0.1"));
    let fed = feed_ending(&place, 3, &["--json", "--epochs", "2"]);
    assert!(fed.err.contains("data/b_03.h5") && fed.summary()["left_out"] == 1, "{}", fed.err);
    for epoch in 0..2 {
        let rows: Vec<Row> = fed.rows().into_iter().filter(|r| r.3 == epoch).collect();
        let lost = ALL - events(&rows).len();
        assert!((1..=100).contains(&lost), "{lost} lost");
        assert!(rows.iter().all(|r| r.4 < ALL as u64));
    }
    place.write("feed.yaml", &pipeline("", SMALL).replace("out: run", "out: run\non_error: stop"));
    let strict = feed_ending(&place, 1, &[]);
    assert!(strict.err.contains("on_error: stop"), "{}", strict.err);
    // Nothing is left of what was read.
    place.write("feed.yaml", &pipeline("  steps:\n    from: events\n    keep: x > 100\n", SMALL).replace("b_*", "b_00"));
    let nothing = feed_ending(&place, 1, &["--epochs", "endless", "--out", "nothing"]);
    assert!(nothing.err.contains("no event of epoch 0 is left"), "{}", nothing.err);
    // Files without events.
    python(
        "import sys, h5py, numpy as np\nfor c in 'abc':\n  with h5py.File(f'{sys.argv[1]}/{c}_00.h5', 'w') as f:\n    f.create_dataset('image', data=np.zeros((0, 4, 5), 'f4'), chunks=(10, 4, 5), maxshape=(None, 4, 5))\n    f['x'] = np.zeros(0)",
        &[&place.path("data")],
    );
    place.write("feed.yaml", &pipeline("", SMALL).replace("_*.h5", "_00.h5"));
    let none = feed_ending(&place, 1, &["--out", "empty"]);
    assert!(none.err.contains("there is nothing to feed"), "{}", none.err);
}

#[test]
fn the_example_with_pyarrow_sees_what_is_fed() {
    let place = Place::new();
    place.showers(60, 20, 1);
    let python = oracle::interpreter();
    let out = format!("out={}", place.path("run").display());
    let data = format!("data={}", place.path("data").display());
    let train = |more: &[&str]| {
        let mut command = std::process::Command::new(&python);
        command.current_dir(common::repository()).env("CALOSTREAM", common::program());
        command.args([
            "examples/feed_pyarrow.py",
            "pipelines/feed-lcd.yaml",
            "--quiet",
            "--batch",
            "16",
            "--set",
            &data,
            "--set",
            &out,
        ]);
        let output = command.args(more).output().expect("Python starts");
        let [said, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.success(), said, err)
    };
    let (well, said, err) = train(&["--epochs", "2"]);
    assert!(
        well && said.contains("480 events in ") && said.contains("120 electron, 120 photon, 120 pi0, 120 pion"),
        "{said}{err}"
    );
    assert!(said.contains("to go on from here: --start 1:240"), "{said}");
    let (well, said, err) = train(&["--epochs", "2", "--start", "1:200"]);
    assert!(well && said.contains("32 events in "), "{said}{err}");
    let (well, _, err) = train(&["--start", "5:0"]);
    assert!(!well && err.contains("epoch 5 is beyond the end") && err.contains("calostream feed has failed"), "{err}");
}
