//! `calostream compare`: two results agree within their errors, or to a tolerance, or are said to differ.

mod common;

use common::{Place, python};

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
