//! `calostream compare`: two results agree within their errors, or to a tolerance, or are said to differ.

mod common;

use common::Place;
use oracle::python;

const MAKE: &str = "
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
folder, seed, shift = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
rng = np.random.default_rng(seed)
n = 20000
energy = rng.uniform(10, 110, n)
pq.write_table(pa.table({'energy': energy, 'error': rng.normal(shift, 0.2 / np.sqrt(energy))}), f'{folder}/rows-{seed}.parquet')
";

const PIPELINE: &str = "
pipeline: compare
params: { rows: rows-1.parquet, out: one, bins: 20 }
out: \"${out}\"
steps:
  rows: { read_parquet: { files: \"${rows}\" } }
  resolution:
    from: rows
    resolution: { of: error, by: { energy: { range: [10, 110], bins: 10 } }, fit: calorimeter, bootstrap: 50, core: 2 }
  spectrum:
    from: rows
    histogram: { axes: [{ column: error, range: [-0.2, 0.2], bins: \"${bins}\" }] }
";

fn runs() -> Place {
    let place = Place::new();
    place.write("p.yaml", PIPELINE);
    for (seed, shift) in [("1", "0"), ("2", "0"), ("3", "0.004")] {
        python(MAKE, &[&place.path("."), std::path::Path::new(seed), std::path::Path::new(shift)]);
        let rows = format!("rows=rows-{seed}.parquet");
        place.calostream(&["run", "-q", "p.yaml", "--set", &rows, "--set", &format!("out=run-{seed}")]).code(0);
    }
    place
}

#[test]
fn runs_of_other_events_agree_and_a_shift_is_found_and_said() {
    let place = runs();
    let said = place.calostream(&["compare", "run-1", "run-2"]).code(0).out;
    assert!(said.contains("0 differ") && said.contains("without an error are not compared"), "{said}");
    let said = place.calostream(&["compare", "run-1", "run-3"]).code(1).out;
    assert!(said.contains("resolution: bias where energy_low = 90, energy_high = 100: "), "{said}");
    assert!(said.contains(" sigma)"), "{said}");
    // A single table, and a histogram, by themselves.
    let spectrum = ["run-1/spectrum/error.json", "run-2/spectrum/error.json", "run-3/spectrum/error.json"];
    place.calostream(&["compare", spectrum[0], spectrum[1]]).code(0);
    let said = place.calostream(&["compare", spectrum[0], spectrum[2], "--sigmas", "1"]).code(1).out;
    assert!(said.contains("result: values where error = bin "), "{said}");
    place.calostream(&["compare", "run-1/resolution/resolution.parquet", "run-2/resolution/resolution.parquet"]).code(0);
}

#[test]
fn a_run_agrees_with_itself_to_the_bit_and_with_others_to_a_tolerance_alone() {
    let place = runs();
    let said = place.calostream(&["compare", "run-1", "run-1", "--tolerance", "0"]).code(0).out;
    assert!(said.contains("0 differ") && !said.contains("not compared"), "{said}");
    place.calostream(&["compare", "run-1", "run-2", "--tolerance", "0"]).code(1);
    place.calostream(&["run", "-q", "p.yaml", "--set", "out=other", "--set", "bins=21"]).code(0);
    let said = place.calostream(&["compare", "run-1", "other"]).code(1).out;
    assert!(said.contains("spectrum/error: 1 number only in run-1, as axis"), "{said}");
    std::fs::remove_file(place.path("other/spectrum/error.json")).expect("removed");
    let said = place.calostream(&["compare", "other", "run-1"]).code(1).out;
    assert!(said.contains("spectrum/error: only in run-1"), "{said}");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let place = Place::new();
    place.write("a.txt", "no table");
    place.write("a.json", "{}");
    let said = place.calostream(&["compare", "a.txt", "a.txt"]).code(2).err;
    assert_eq!(said, "calostream: a.txt is no table (.parquet) and no histogram (.json)\n");
    let said = place.calostream(&["compare", "a.json", "b.json"]).code(2).err;
    assert_eq!(said, "calostream: a.json: this is no histogram in the UHI serialization\n");
    let said = place.calostream(&["compare", ".", "a.json"]).code(2).err;
    assert_eq!(said, "calostream: . has no tables: is it a run folder, and is the run done?\n");
}

/// Two runs of one network whose predictions differ in their last digits, as those of a CPU and a GPU do: the tolerance is said, and more
/// than that is found.
#[test]
fn predictions_of_other_devices_agree_to_a_tolerance_that_is_said() {
    let place = Place::new();
    place.showers(48, 16, 1);
    place.model("tiny.onnx", ["ECAL", "HCAL"]);
    place.write(
        "p.yaml",
        "pipeline: p\nparams: { out: cpu }\nout: \"${out}\"\nsteps:\n  events:\n    read_hdf5: { schema: lcd-v1, samples: { electron: data/Ele*.h5 } }\n  \
         predicted:\n    from: events\n    infer: { model: tiny.onnx, inputs: { ECAL: ecal, HCAL: hcal }, outputs: { energy: said }, batch: 16 }\n  parts:\n    \
         from: predicted\n    write_parquet: { columns: [energy, said] }\n",
    );
    for out in ["cpu", "again", "near", "far"] {
        place.calostream(&["run", "-q", "p.yaml", "--set", &format!("out={out}")]).code(0);
    }
    let said = place.calostream(&["compare", "cpu", "again"]).code(0).out;
    assert!(
        said.contains("parts: said: 0 of 48 values apart at most") && said.contains("at most 1e-6 is asked (both on cpu)"),
        "{said}"
    );
    let perturb = "
import glob, json, sys, pyarrow as pa, pyarrow.parquet as pq
run, by = sys.argv[1], float(sys.argv[2])
for path in glob.glob(run + '/parts/*.parquet'):
    table = pq.read_table(path)
    said = table['said'].to_numpy()
    sign = [1 if i % 2 else -1 for i in range(len(said))]
    said = (said + abs(said).max() * by * pa.array(sign).to_numpy()).astype(said.dtype)
    pq.write_table(table.set_column(table.schema.get_field_index('said'), 'said', pa.array(said)), path)
goes = json.load(open(run + '/run.json'))
goes[-1]['used']['predicted']['devices'] = ['cuda:0']
json.dump(goes, open(run + '/run.json', 'w'))
";
    for (run, by) in [("near", "3e-5"), ("far", "3e-4")] {
        python(perturb, &[&place.path(run), std::path::Path::new(by)]);
    }
    let said = place.calostream(&["compare", "cpu", "near"]).code(0).out;
    assert!(said.contains("at most 1e-4 is asked (cpu and cuda:0)"), "{said}");
    let said = place.calostream(&["compare", "cpu", "far"]).code(1).out;
    assert!(said.contains("too far: at most 1e-4 is asked (cpu and cuda:0)"), "{said}");
    place.calostream(&["compare", "cpu", "far", "--tolerance", "1e-3"]).code(0);
    place.calostream(&["compare", "cpu", "near", "--tolerance", "1e-6"]).code(1);
}
