//! The session layer against the ONNX backend suite: every test with numbers that ONNX Runtime in Python passes must give the
//! same here.

use calostream_operators::onnx;
use calostream_operators::onnx::provider::Processor;
use calostream_operators::onnx::session::{Input, Network, Output};
use calostream_operators::onnx::tensor::{Element, Fed, Prepare, Values};
use calostream_operators::work::Runtime;
use oracle::python_file;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Suite {
    tests: Vec<Test>,
    failed: usize,
    other: usize,
}

#[derive(Debug, Deserialize)]
struct Test {
    name: String,
    model: String,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

#[derive(Debug, Deserialize)]
struct Tensor {
    name: String,
    #[serde(rename = "type")]
    element: String,
    shape: Vec<usize>,
    from: usize,
    count: usize,
}

impl Tensor {
    fn element(&self) -> Element {
        Element::named(&self.element).expect("a type of numbers")
    }

    fn values<'a>(&self, all: &'a [f64]) -> &'a [f64] {
        &all[self.from..self.from + self.count]
    }
}

/// Why a test does not pass.
fn run(test: &Test, all: &[f64]) -> Result<(), String> {
    let runtime = Runtime::default();
    let facts = onnx::probe(&test.model, &runtime)?;
    let inputs =
        test.inputs.iter().map(|t| Input { name: t.name.clone(), row: Vec::new(), element: t.element(), hits: false }).collect();
    let outputs = test.outputs.iter().map(|t| Output { name: t.name.clone(), width: 1, element: t.element() }).collect();
    let mut network =
        Network::open(&test.model, &facts, (inputs, outputs), &Processor::Cpu, &runtime).map_err(|e| format!("{e:#}"))?;
    let narrow: Vec<Vec<f32>> = test.inputs.iter().map(|t| t.values(all).iter().map(|v| *v as f32).collect()).collect();
    let fed: Vec<(Vec<usize>, Fed<'_>)> = test
        .inputs
        .iter()
        .zip(&narrow)
        .map(|(t, narrow)| {
            let fed = if t.element().prepared() == Prepare::F32 { Fed::F32(narrow) } else { Fed::F64(t.values(all)) };
            (t.shape.clone(), fed)
        })
        .collect();
    let said = network.compute(&fed).map_err(|e| format!("{e:#}"))?;
    for (wanted, (shape, said)) in test.outputs.iter().zip(&said) {
        if !shape.iter().map(|n| usize::try_from(*n).expect("an extent")).eq(wanted.shape.iter().copied()) {
            return Err(format!("`{}` has the shape {shape:?}, not {:?}", wanted.name, wanted.shape));
        }
        let ours: Vec<f64> = match said {
            Values::F32(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Values::F64(v) => v.clone(),
            Values::I64(v) => v.iter().map(|v| *v as f64).collect(),
        };
        let theirs = wanted.values(all);
        let scale = theirs.iter().filter(|b| b.is_finite()).fold(0f64, |s, b| s.max(b.abs()));
        for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
            if !(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-6 * b.abs().max(scale)) {
                return Err(format!("value {i} of `{}` is {a}, not {b}", wanted.name));
            }
        }
    }
    Ok(())
}

#[test]
fn what_passes_in_python_passes_here() {
    let folder = tempfile::tempdir().expect("a folder");
    println!("{}", python_file("operators/tests/onnx_backend.py", &[folder.path()]));
    let suite: Suite = serde_json::from_slice(&std::fs::read(folder.path().join("tests.json")).expect("tests")).expect("JSON");
    let bytes = std::fs::read(folder.path().join("values")).expect("values");
    let all: Vec<f64> = bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    let float = suite.tests.iter().filter(|t| t.inputs.iter().chain(&t.outputs).all(|t| t.element == "float32")).count();
    println!(
        "{} tests, {float} of them all float32; Python fails {}, {} are of other values",
        suite.tests.len(),
        suite.failed,
        suite.other
    );
    assert!(float > 500, "{float} float tests");
    // Draws of the machine's own: no two runs agree.
    let random = |test: &&Test| ["bernoulli", "random", "multinomial"].iter().any(|word| test.name.contains(word));
    let wrong: Vec<String> = suite
        .tests
        .iter()
        .filter(|t| !random(t))
        .filter_map(|t| run(t, &all).err().map(|why| format!("{}: {why}", t.name)))
        .collect();
    assert!(wrong.is_empty(), "{} tests:\n{}", wrong.len(), wrong.join("\n"));
}
