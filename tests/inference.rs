//! Networks in a pipeline: many in one pass, a table of them at the end, the same bytes whatever happens; what is recorded of a run.

mod common;

use common::{Place, assert_same, outputs, repository};
use oracle::python;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(180);
const SWEEP: &str = include_str!("common/sweep.py");
const WIDTHS: [&str; 5] = ["2", "3", "4", "6", "8"];

fn pipeline(batch: &str) -> String {
    let names = WIDTHS.iter().flat_map(|w| (1..=4).map(move |d| format!("w{w}_d{d}")));
    let scores: Vec<String> = names.map(|name| format!("{name}: p_{name}")).collect();
    format!(
        "pipeline: sweep
params: {{ out: run }}
out: \"${{out}}\"
steps:
  events:
    read_hdf5:
      schema: lcd-v1
      samples: {{ electron: data/Ele*.h5, pion: data/ChPi*.h5 }}
  mixed:
    from: events
    premix: {{}}
  scored:
    from: mixed
    infer:
      model: models/*.onnx
      inputs: {{ ECAL: {{ column: ecal, norm: nonlinear }}, HCAL: {{ column: hcal, divide: 150 }} }}
      outputs: {{ score: p }}
      batch: {batch}
  scores:
    from: scored
    select: [event, sample, p_w2_d1, p_w3_d4, p_w8_d2]
  parts:
    from: scores
    write_parquet: {{}}
  table:
    from: scored
    roc:
      signal: electron
      precision: exact
      scores: {{ {} }}
",
        scores.join(", ")
    )
}

fn prepared() -> Place {
    let place = Place::new();
    place.showers(48, 16, 1);
    fs::create_dir(place.path("models")).expect("a folder");
    let models = place.path("models");
    let args: Vec<&Path> = [models.as_path()].into_iter().chain(WIDTHS.iter().map(Path::new)).collect();
    python(SWEEP, &args);
    place.write("sweep.yaml", &pipeline("16"));
    place
}

#[test]
fn a_sweep_of_twenty_models_ends_in_a_table() {
    let place = prepared();
    let start = Instant::now();
    place.calostream(&["run", "sweep.yaml", "-w", "1", "--out", "one", "--trace", "timeline.json"]).code(0);
    let whole = start.elapsed();
    let one = outputs(&place.path("one"));
    for workers in ["2", "3"] {
        place.calostream(&["run", "sweep.yaml", "-w", workers, "--out", "more"]).code(0);
        assert_same(&format!("{workers} workers"), &one, &outputs(&place.path("more")));
        fs::remove_dir_all(place.path("more")).expect("removed");
    }
    for share in [0.35, 0.55, 0.75, 0.9] {
        let mut running = place.start(&["run", "sweep.yaml", "-q", "-w", "2", "--out", "killed"]);
        std::thread::sleep(whole.mul_f64(share));
        running.kill();
        let _ = running.wait(LONG);
    }
    place.calostream(&["run", "sweep.yaml", "-w", "3", "--out", "killed"]).code(0);
    assert_same("after kills", &one, &outputs(&place.path("killed")));

    // Each model's scores, and its line in the table, as h5py, onnxruntime and scikit-learn have them.
    let script = "
import glob, sys, h5py, numpy as np, onnxruntime, pyarrow.parquet as p, csv
from sklearn.metrics import roc_auc_score
run, models = sys.argv[1:]
ecal, hcal, truth = [], [], []
for name, is_signal in ('Ele', 1), ('ChPi', 0):
    for path in sorted(glob.glob(f'data/{name}*.h5')):
        with h5py.File(path) as f:
            ecal.append(f['ECAL'][:]), hcal.append(f['HCAL'][:]), truth.append(np.full(len(ecal[-1]), is_signal))
ecal, hcal, truth = map(np.concatenate, (ecal, hcal, truth))
feed = {'ECAL': (ecal / (abs(ecal) + 2)).astype('f4'), 'HCAL': (hcal / np.float32(150)).astype('f4')}
said = {}
for path in glob.glob(models + '/*.onnx'):
    said[path.split('/')[-1][:-5]] = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider']).run(['score'], feed)[0][:, 0]
table = p.read_table(run + '/parts')
for name in 'w2_d1', 'w3_d4', 'w8_d2':
    ours, theirs = np.sort(table['p_' + name].to_numpy()), np.sort(said[name])
    assert len(ours) == len(theirs) == 96 and abs(ours - theirs).max() <= 1e-6 * abs(theirs).max(), (name, abs(ours - theirs).max())
rows = list(csv.DictReader(open(run + '/table/table.csv')))
seen = 0
for name, scores in said.items():
    of = [r for r in rows if name in r.values()]
    assert of, (name, rows[0])
    auc = float(of[0]['auc'])
    wanted = roc_auc_score(truth, scores)
    assert abs(auc - wanted) < 0.003, (name, auc, wanted)
    seen += 1
print(seen)
";
    let there = std::env::current_dir().expect("a folder");
    let script = format!("import os\nos.chdir({:?})\n{script}", place.path("").display().to_string());
    assert_eq!(python(&script, &[&place.path("one"), &place.path("models")]), "20\n", "{}", there.display());

    let runs: serde_json::Value = serde_json::from_str(&place.read("one/run.json")).expect("run.json");
    let models = runs[0]["used"]["scored"]["models"].as_array().expect("models");
    assert_eq!(models.len(), 20);
    let model = &models[0];
    assert_eq!(
        (&model["name"], &model["about"]["producer"], &model["about"]["opset"]),
        (&"w2_d1".into(), &"sweep.py".into(), &"17".into())
    );
    assert_eq!(model["sha256"].as_str().expect("a hash").len(), 64);
    assert_eq!(model["inputs"]["ECAL"]["of"][0]["transform"], "x / (|x| + 2)");

    let speed: serde_json::Value = serde_json::from_str(&place.read("one/speed.json")).expect("speed.json");
    let step = speed["steps"].as_array().expect("steps").iter().find(|s| s["step"] == "scored").expect("the step");
    assert_eq!(step["rows"], 96);
    assert!(step["busy"].as_f64().expect("a share") > 0.0 && step["rows_per_second"].as_f64().expect("a rate") > 0.0, "{step}");
    let timeline: serde_json::Value = serde_json::from_str(&place.read("timeline.json")).expect("a timeline");
    let events = timeline["traceEvents"].as_array().expect("events");
    assert!(events.iter().any(|e| e["ph"] == "X" && e["name"] == "scored" && e["cat"] == "busy"), "the work of the step");
    assert!(events.iter().any(|e| e["ph"] == "M" && e["name"] == "thread_name"), "threads have names");
}

#[test]
fn a_batch_that_was_measured_stands_in_the_log() {
    let place = prepared();
    place.write("auto.yaml", &pipeline("auto"));
    place.calostream(&["run", "auto.yaml", "-w", "2"]).code(0);
    let log = place.read("run/commits.jsonl");
    let lines: Vec<&str> = log.lines().collect();
    let first: serde_json::Value = serde_json::from_str(lines[0]).expect("a line");
    let name = first["settled"]["name"].as_str().expect("a name");
    let rows = first["settled"]["value"].as_u64().expect("rows");
    assert!(name.starts_with("batch cpu 15625,1500 ") && rows.is_power_of_two(), "{first}");
    assert_eq!(lines.iter().filter(|line| line.contains("settled")).count(), 1);
    let whole = outputs(&place.path("run"));

    // Whoever goes on takes what stands there, and does not measure: also a batch that nobody would choose.
    let changed = format!("{}\n", lines[0].replace(&format!("\"value\":{rows}"), "\"value\":7"));
    assert_ne!(changed.trim_end(), lines[0]);
    fs::create_dir(place.path("other")).expect("a folder");
    fs::copy(place.path("run/plan.json"), place.path("other/plan.json")).expect("the plan");
    fs::write(place.path("other/commits.jsonl"), changed).expect("a log");
    place.calostream(&["run", "auto.yaml", "-w", "3", "--out", "other"]).code(0);
    let log = place.read("other/commits.jsonl");
    assert_eq!(log.matches("settled").count(), 1, "{log}");
    assert!(log.contains("\"value\":7"), "{log}");
    assert_eq!(outputs(&place.path("other")).keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
}

#[test]
fn a_device_that_is_not_there_is_said_before_anything_runs() {
    let place = prepared();
    let cuda = pipeline("16\n      device: cuda");
    place.write("cuda.yaml", &cuda);
    let said = place.calostream(&["check", "cuda.yaml"]);
    if said.code == Some(0) {
        println!("there is a GPU here: skipped");
        return;
    }
    assert!(said.err.contains("cuda.yaml:19:15: error: "), "{}", said.err);
    assert!(said.err.contains("looked for in") || said.err.contains("no NVIDIA GPU"), "{}", said.err);
    assert!(said.err.contains("nothing computes on the CPU in its place"), "{}", said.err);
}

/// The committed models say what ONNX Runtime in Python says, event by event.
#[test]
fn the_demo_models_as_in_python() {
    let place = Place::new();
    place.showers(48, 16, 1);
    let models = repository().join("models").display().to_string();
    let pipeline = format!(
        "pipeline: demo
out: run
steps:
  events:
    read_hdf5:
      schema: lcd-v1
      samples: {{ electron: data/Ele*.h5, photon: data/Gamma*.h5, pi0: data/Pi0*.h5, pion: data/ChPi*.h5 }}
  predicted:
    from: events
    infer:
      model: [{models}/linear.onnx, {models}/energy.onnx]
      inputs: {{ ECAL: ecal, HCAL: hcal }}
      outputs: {{ energy: \"e_{{model}}\" }}
      batch: 32
  classified:
    from: predicted
    infer:
      model: {models}/classes.onnx
      inputs: {{ ECAL: ecal, HCAL: hcal }}
      outputs: {{ probabilities: {{ columns: [p0, p1, p2, p3], argmax: particle }} }}
  parts:
    from: classified
    write_parquet: {{ columns: [energy, e_linear, e_energy, p0, p1, p2, p3, particle] }}
"
    );
    place.write("demo.yaml", &pipeline);
    place.calostream(&["run", "demo.yaml", "-w", "2"]).code(0);
    let script = "
import glob, sys, h5py, numpy as np, onnxruntime, pyarrow.dataset as ds
data, run, models = sys.argv[1:]
ecal, hcal, energy = [], [], []
for path in glob.glob(data + '/*.h5'):
    with h5py.File(path) as f:
        ecal.append(f['ECAL'][:]), hcal.append(f['HCAL'][:]), energy.append(f['target'][:, 1])
feed = {'ECAL': np.concatenate(ecal).astype('f4'), 'HCAL': np.concatenate(hcal).astype('f4')}
energy = np.concatenate(energy)
ask = lambda model, name: onnxruntime.InferenceSession(f'{models}/{model}.onnx', providers=['CPUExecutionProvider']).run([name], feed)[0]
table = ds.dataset(run + '/parts', format='parquet').to_table()
ours, theirs = np.argsort(table['energy'].to_numpy()), np.argsort(energy)
assert len(ours) == len(theirs) == 192 and len(set(energy)) == 192
def compare(name, wanted):
    a, b = table[name].to_numpy()[ours], wanted[theirs]
    worst = (abs(a - b) / np.maximum(abs(b), abs(wanted).max())).max()
    assert worst <= 1e-6, (name, worst)
    # First layers are computed from hits, and their sums rounded as ONNX Runtime does.
    assert (a == b).mean() > 0.95, (name, (a == b).mean())
compare('e_linear', ask('linear', 'energy').reshape(-1))
compare('e_energy', ask('energy', 'energy').reshape(-1))
probabilities = ask('classes', 'probabilities')
for k in range(4):
    compare(f'p{k}', probabilities[:, k])
names = np.array(['electron', 'photon', 'pi0', 'pion'])[probabilities.argmax(1)]
assert (np.array(table['particle'].to_pylist())[ours] == names[theirs]).all()
print('equal')";
    let said = python(script, &[&place.path("data"), &place.path("run"), &repository().join("models")]);
    assert_eq!(said, "equal\n");

    let sweep = repository().join("pipelines/lcd-model-sweep.yaml").display().to_string();
    let (data, linear, network) = (
        format!("data={}", place.path("data").display()),
        format!("linear={models}/linear.onnx"),
        format!("network={models}/energy.onnx"),
    );
    place.calostream(&["run", &sweep, "--out", "sweep", "--set", &data, "--set", &linear, "--set", &network]).code(0);
    for name in ["linear/linear.csv", "network/network.csv", "disagreements/disagreements.csv", "page/report.html"] {
        assert!(place.path("sweep").join(name).exists(), "{name}");
    }
}

/// What `speed.json` says of the CPU that ran the networks.
fn device(place: &Place, run: &str) -> serde_json::Value {
    let speed: serde_json::Value = serde_json::from_str(&place.read(&format!("{run}/speed.json"))).expect("speed.json");
    let devices = speed["devices"].as_array().expect("devices");
    assert_eq!(devices.len(), 1, "{devices:?}");
    devices[0].clone()
}

fn starved(device: &serde_json::Value, by: &str) -> f64 {
    device["starved_by"][by].as_f64().unwrap_or_else(|| panic!("{by} of {device}"))
}

/// Its shares are all of its time; and where every read of a file takes long, that is what it waits for.
#[test]
fn a_device_says_what_it_waits_for() {
    const CAUSES: [&str; 5] = ["read", "decode", "transform", "upload", "other"];
    let place = prepared();
    place.write("sweep.yaml", &pipeline("16").replace("    premix: {}\n", "    keep: energy > 0\n"));
    let said = place.calostream(&["run", "sweep.yaml", "-w", "2", "--out", "usual"]).code(0);
    assert!(said.out.contains("cpu of scored: busy "), "{}", said.out);
    let source = repository().join("tests/slow_reads.c");
    let made = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(place.path("slow.so"))
        .arg(source)
        .arg("-ldl")
        .status();
    assert!(made.expect("cc starts").success());
    let mut slow = place.command(&["run", "sweep.yaml", "-w", "2", "--out", "slow"]);
    let output = slow.env("LD_PRELOAD", place.path("slow.so")).output().expect("calostream starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for run in ["usual", "slow"] {
        let device = device(&place, run);
        let all = device["busy"].as_f64().expect("a share") + CAUSES.map(|by| starved(&device, by)).iter().sum::<f64>();
        assert!((all - 1.0).abs() < 1e-9, "{device}");
        assert_eq!((&device["device"], &device["step"], &device["threads"]), (&"cpu".into(), &"scored".into(), &2.into()));
        for rate in ["images_per_second", "bytes_up_per_second", "bytes_down_per_second"] {
            assert!(device[rate].as_f64().expect("a rate") > 0.0, "{rate} of {device}");
        }
        assert_eq!(device["batch"], 16.0);
    }
    let slow = device(&place, "slow");
    let read = starved(&slow, "read");
    assert!(CAUSES.iter().filter(|by| **by != "read").all(|by| starved(&slow, by) < read), "{slow}");
    assert!(read > starved(&device(&place, "usual"), "read"), "{slow}");
    assert_same("slow reads", &outputs(&place.path("usual")), &outputs(&place.path("slow")));
}

/// The same numbers whoever makes the images, through the whole program.
#[test]
fn hits_that_go_to_the_model_say_the_same() {
    let place = Place::new();
    place.showers(48, 16, 1);
    place.model("tiny.onnx", ["ECAL", "HCAL"]);
    for upload in ["dense", "hits"] {
        place.write(
            "p.yaml",
            &format!(
                "pipeline: p\nout: {upload}\nsteps:\n  events:\n    read_hdf5: {{ schema: lcd-v1, samples: {{ electron: data/Ele*.h5, pion: data/ChPi*.h5 }} }}\n  \
                 predicted:\n    from: events\n    infer: {{ model: tiny.onnx, inputs: {{ ECAL: ecal, HCAL: hcal }}, outputs: {{ energy: said }}, batch: 16, \
                 upload: {upload} }}\n  parts:\n    from: predicted\n    write_parquet: {{ columns: [energy, said] }}\n"
            ),
        );
        place.calostream(&["run", "-q", "p.yaml", "-w", "2"]).code(0);
    }
    assert_same("made of hits", &outputs(&place.path("dense")), &outputs(&place.path("hits")));
    let bytes = |run| device(&place, run)["bytes_up_per_second"].as_f64().expect("bytes");
    let rows = |run| device(&place, run)["images_per_second"].as_f64().expect("rows");
    assert!(2.0 * bytes("hits") / rows("hits") < bytes("dense") / rows("dense"), "half as many bytes a row, at most");
}
