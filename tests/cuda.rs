//! Networks on a GPU: `make test-cuda`. Without one, each test says so and passes.
//!
//! `CALOSTREAM_TEST_CUDA=1` makes a GPU that is not there a failure, for machines that ought to have one.

mod common;

use common::{Place, outputs};
use oracle::python;
use std::path::Path;

/// A pipeline with two steps of one model, on the CPU and on the GPU; none where there is no GPU.
fn on_gpu() -> Option<Place> {
    let place = Place::new();
    place.showers(48, 16, 1);
    place.model("tiny.onnx", ["ECAL", "HCAL"]);
    let step = |name: &str, from: &str, device: &str| {
        format!(
            "  {name}:\n    from: {from}\n    infer:\n      model: tiny.onnx\n      inputs: {{ ECAL: ecal, HCAL: hcal }}\n      outputs: {{ energy: e_{name}, \
             probabilities: {{ columns: [a_{name}, b_{name}, c_{name}, d_{name}] }} }}\n      batch: 16\n      device: {device}\n"
        )
    };
    place.write(
        "gpu.yaml",
        &format!(
            "pipeline: gpu\nout: run\nsteps:\n  events:\n    read_hdf5: {{ schema: lcd-v1, samples: {{ electron: data/Ele*.h5, pion: data/ChPi*.h5 }} }}\n{}{}  \
             chosen:\n    from: gpu\n    select: [event, e_cpu, e_gpu, a_cpu, a_gpu, d_cpu, d_gpu]\n  parts:\n    from: chosen\n    write_parquet: {{}}\n",
            step("cpu", "events", "cpu"),
            step("gpu", "cpu", "cuda").replace("device: cuda", "device: cuda\n      upload: dense")
        ),
    );
    let said = place.calostream(&["check", "gpu.yaml"]);
    if said.code == Some(0) {
        return Some(place);
    }
    let why = said.err.lines().next().unwrap_or_default().to_owned();
    assert!(std::env::var_os("CALOSTREAM_TEST_CUDA").is_none(), "no GPU can be used here: {why}");
    println!("no GPU can be used here, skipped: {why}");
    None
}

#[test]
fn a_gpu_says_what_the_cpu_says() {
    let Some(place) = on_gpu() else { return };
    place.calostream(&["run", "gpu.yaml", "-w", "2"]).code(0);
    let script = "
import sys, pyarrow.parquet as p, numpy as np
table = p.read_table(sys.argv[1] + '/parts')
for name in 'e', 'a', 'd':
    cpu, gpu = table[name + '_cpu'].to_numpy(), table[name + '_gpu'].to_numpy()
    assert abs(cpu - gpu).max() <= 1e-4 * abs(cpu).max(), (name, abs(cpu - gpu).max())
print(len(table))";
    assert_eq!(python(script, &[&place.path("run") as &Path]), "96\n");
}

#[test]
fn a_gpu_gives_the_same_bytes_to_any_number_of_workers() {
    let Some(place) = on_gpu() else { return };
    place.calostream(&["run", "gpu.yaml", "-w", "1", "--out", "one"]).code(0);
    let one = outputs(&place.path("one"));
    for workers in ["2", "3"] {
        let out = format!("w{workers}");
        place.calostream(&["run", "gpu.yaml", "-w", workers, "--out", &out]).code(0);
        common::assert_same(&format!("{workers} workers"), &one, &outputs(&place.path(&out)));
    }
}

/// To the bit, and how long each took.
#[test]
fn a_gpu_says_of_hits_what_it_says_of_dense_images() {
    let Some(place) = on_gpu() else { return };
    let pipeline = place.read("gpu.yaml");
    place.calostream(&["run", "gpu.yaml", "-w", "2", "--out", "dense"]).code(0);
    place.write("hits.yaml", &pipeline.replace("upload: dense", "upload: hits"));
    place.calostream(&["run", "hits.yaml", "-w", "2", "--out", "hits"]).code(0);
    common::assert_same("upload: hits", &outputs(&place.path("dense")), &outputs(&place.path("hits")));
    for run in ["dense", "hits"] {
        let speed: serde_json::Value = serde_json::from_str(&place.read(&format!("{run}/speed.json"))).expect("speed.json");
        let gpu = speed["devices"].as_array().into_iter().flatten().find(|d| d["device"] == "cuda:0").expect("the GPU").clone();
        println!("upload: {run}: {gpu}");
    }
}

/// A node that CUDA has no code for is named before a run.
#[test]
fn a_node_that_the_gpu_has_no_code_for_is_named() {
    let Some(place) = on_gpu() else { return };
    let script = "
import sys, onnx
from onnx import TensorProto as T, helper as h
nodes = [h.make_node('Det', ['ECAL'], ['d'], name='on the CPU'), h.make_node('ReduceMax', ['d'], ['energy'], axes=[1], keepdims=0)]
images, energies = h.make_tensor_value_info('ECAL', T.FLOAT, ['N', 25, 25, 25]), h.make_tensor_value_info('energy', T.FLOAT, ['N'])
graph = h.make_graph(nodes, 'det', [images], [energies])
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid('', 17)], ir_version=8), sys.argv[1])";
    python(script, &[&place.path("det.onnx")]);
    place.write(
        "det.yaml",
        "pipeline: det\nout: run\nsteps:\n  events:\n    read_hdf5: { schema: lcd-v1, samples: { electron: data/Ele*.h5 } }\n  said:\n    \
         from: events\n    infer: { model: det.onnx, inputs: { ECAL: ecal }, outputs: { energy: e }, device: cuda }\n  \
         parts:\n    from: said\n    write_parquet: {}\n",
    );
    let said = place.calostream(&["check", "det.yaml"]).err;
    assert!(said.contains("Det (on the CPU)") && said.contains("`allow_cpu_nodes: true` permits that"), "{said}");
}
