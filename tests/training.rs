//! The examples that train, with the real libraries: `make test-training`. They need a Python that has PyTorch and JAX, which
//! `CALOSTREAM_TRAINING` names; without it they are passed over, and say so.

mod common;

use common::{Place, program, repository};
use std::process::Command;

/// What an example says of a training on showers: events, batches, and the loss at first and in the end.
fn train(example: &str) -> Option<(u64, u64, f64, f64)> {
    let Some(python) = std::env::var_os("CALOSTREAM_TRAINING") else {
        println!("passed over: CALOSTREAM_TRAINING names no Python with PyTorch and JAX (`make test-training`)");
        return None;
    };
    let place = Place::new();
    place.showers(240, 60, 1);
    let mut command = Command::new(python);
    command.current_dir(repository()).env("CALOSTREAM", program()).arg(format!("examples/{example}"));
    command.args(["pipelines/feed-lcd.yaml", "--batch", "32", "--epochs", "6"]);
    for (name, path) in [("data", place.path("data")), ("out", place.path("run"))] {
        command.arg("--set").arg(format!("{name}={}", path.display()));
    }
    let output = command.output().expect("Python starts");
    let [said, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{said}{err}");
    let words: Vec<&str> = said.split_whitespace().collect();
    let number = |word: usize| words[word].parse::<f64>().unwrap_or_else(|_| panic!("{said}"));
    Some((number(0) as u64, number(3) as u64, number(6), number(9)))
}

#[test]
fn pytorch_trains_on_the_batches_of_two_workers() {
    let Some((events, batches, first, last)) = train("feed_torch.py") else { return };
    // Each of two ranks has 480 events an epoch: 15 batches of 32.
    assert_eq!((events, batches), (5760, 180));
    assert!(last < 0.9 * first, "{first} to {last}");
}

#[test]
fn jax_trains_on_the_batches() {
    let Some((events, batches, first, last)) = train("feed_jax.py") else { return };
    assert_eq!((events, batches), (5760, 180));
    assert!(last < 0.9 * first, "{first} to {last}");
}

#[test]
fn a_network_trained_on_electrons_is_applied_to_four_particles() {
    let Some(python) = std::env::var_os("CALOSTREAM_TRAINING") else {
        println!("passed over: CALOSTREAM_TRAINING names no Python with PyTorch and onnx (`make test-training`)");
        return;
    };
    let place = Place::new();
    place.showers(1600, 200, 1);
    let out = place.path("transfer");
    let mut command = Command::new(python);
    command.current_dir(repository()).env("CALOSTREAM", program()).env("VIRTUAL_ENV", repository().join(".deps/venv"));
    command.arg("examples/transfer_lcd.py").arg("--data").arg(place.path("data")).arg("--out").arg(&out);
    let output = command.args(["--epochs", "3"]).output().expect("Python starts");
    let [said, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{said}{err}");
    // The numbers are of the network that was trained: its predictions, asked of ONNX Runtime by Python.
    oracle::python(
        r#"
import sys, json, glob, hashlib, numpy as np, pyarrow.parquet as pq, onnxruntime
out = sys.argv[1]
model = open(f"{out}/energy.onnx", "rb").read()
assert hashlib.sha256(model).hexdigest() in open(f"{out}/report/run.json").read()
assert hashlib.sha256(model).hexdigest() in open(f"{out}/report/page/report.html").read()
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
def dense(column, shape):
    images = np.zeros((len(column), int(np.prod(shape))), "f4")
    for image, hits in zip(images, column.to_pylist()):
        for hit in hits:
            image[hit["cell"]] = hit["energy"]
    return images.reshape(-1, *shape)
errors = {}
for path in glob.glob(f"{out}/events/test/*.parquet"):
    table = pq.read_table(path)
    said = session.run(None, {"ECAL": dense(table["ecal"], (25, 25, 25)), "HCAL": dense(table["hcal"], (5, 5, 60))})[0][:, 0]
    energy = table["energy"].to_numpy()
    for sample, error in zip(table["sample"].to_pylist(), (energy - said) / energy):
        errors.setdefault(sample, []).append(error)
table = pq.read_table(f"{out}/report/resolution/resolution.parquet").to_pydict()
for sample, expected in errors.items():
    rows = [i for i, s in enumerate(table["sample"]) if s == sample and table["n"][i]]
    n = sum(table["n"][i] for i in rows)
    bias = sum(table["n"][i] * table["bias"][i] for i in rows) / n
    assert n == len(expected) and abs(bias - np.mean(expected)) < 1e-5, (sample, n, bias, np.mean(expected))
spread = {sample: np.std(e) for sample, e in errors.items()}
assert spread["electron"] < 0.06 and spread["photon"] < 0.08 and spread["pion"] > 0.2, spread
"#,
        &[&out],
    );
}
