//! The commands beside `run`: what they say of this machine, of files, and of what a run noticed.

mod common;

use common::{Place, STREAMING, program};
use oracle::python;
use serde_json::Value;
use std::fs;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn doctor_starts_what_a_run_would_start() {
    let place = Place::new();
    let found = json(&place.calostream(&["doctor", "--json"]).code(0).out);
    let of = |what: &str| found[what]["found"].as_str().unwrap_or_else(|| panic!("{what} in {found}")).to_owned();
    assert!(of("HDF5").starts_with("2.") && of("HDF5").ends_with("/calostream-reader"), "{found}");
    assert!(of("ONNX Runtime").contains("CPUExecutionProvider"), "{found}");
    assert!(of("cores").parse::<usize>().is_ok_and(|n| n > 0), "{found}");
    assert!(of("memory").ends_with("iB") && of("space here").ends_with("iB free") && !of("open files").is_empty(), "{found}");

    // A program that lost its reader says so, and so does one whose library is not there.
    fs::copy(program(), place.path("calostream")).expect("copied");
    let mut alone = place.command(&["doctor", "--onnxruntime", "nowhere.so"]);
    let said = std::process::Command::new(place.path("calostream")).args(alone.get_args()).output().expect("it starts");
    let text = String::from_utf8_lossy(&said.stdout);
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("✗ HDF5") && text.contains("cannot start the HDF5 reader"), "{text}");
    assert!(text.contains("✗ ONNX Runtime") && text.contains("nowhere.so, which is named by `--onnxruntime`"), "{text}");
    assert_eq!(alone.output().expect("it starts").status.code(), Some(1));
}

const ODD: &str = "
import h5py, numpy as np, sys
rng = np.random.default_rng(5)
images = np.where(rng.random((40, 6, 7)) < .3, rng.normal(0, 1, (40, 6, 7)), 0)
with h5py.File(sys.argv[1], 'w') as f:
    f.create_dataset('Raw/Images', data=images, chunks=(7, 6, 7), compression='gzip', shuffle=True)
    f['True Energy'] = np.arange(40) / 3
    f['note'] = np.arange(3)";

#[test]
fn a_schema_that_inspect_wrote_reads_the_file() {
    let place = Place::new();
    python(ODD, &[&place.path("odd.h5")]);
    let said = place.calostream(&["inspect", "odd.h5"]).code(0).out;
    for words in ["Raw/Images", "40, 6, 7", "float64", "gzip", "True Energy"] {
        assert!(said.contains(words), "{words} in {said}");
    }
    let schema = place.calostream(&["inspect", "--write-schema", "odd.h5"]).code(0).out;
    assert!(schema.contains("# left out: note: "), "{schema}");
    place.write("odd.yaml", &schema.replace("kind: dense", "kind: hits"));
    place.write(
        "run.yaml",
        "pipeline: odd\nabout: A file that nobody has described.\nout: run\nsteps:\n  events:\n    read_hdf5: { schema: ./odd.yaml, files: odd.h5 }\n  \
         parts:\n    from: events\n    write_parquet: {}\n",
    );
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    let script = "
import h5py, numpy as np, sys, glob, pyarrow.parquet as pq
[part] = glob.glob(sys.argv[1] + '/parts/*.parquet')
rows = pq.read_table(part).to_pylist()
with h5py.File(sys.argv[2]) as f:
    images, energies = f['Raw/Images'][:], f['True Energy'][:]
assert len(rows) == 40
for row, image, energy in zip(rows, images, energies):
    dense = np.zeros(42)
    for hit in row['images']:
        dense[hit['cell']] = hit['value']
    assert (dense.reshape(6, 7) == image).all() and row['true_energy'] == energy";
    python(script, &[&place.path("run"), &place.path("odd.h5")]);
    let said = place.calostream(&["inspect", "run/parts/odd-0001.parquet"]);
    let parts: Vec<_> = fs::read_dir(place.path("run/parts")).expect("parts").map(|e| e.expect("a part").path()).collect();
    let said =
        if said.code == Some(0) { said } else { place.calostream(&["inspect", parts[0].to_str().expect("UTF-8")]).code(0) };
    assert!(said.out.contains("40 rows in 1 row group") && said.out.contains("images"), "{}", said.out);

    fs::write(place.path("bad.h5"), "no HDF5 at all").expect("written");
    let said = place.calostream(&["inspect", "bad.h5", "odd.h5"]).code(1);
    assert!(said.err.starts_with("calostream: bad.h5: ") && said.out.contains("odd.h5: "), "{}{}", said.err, said.out);
    place
        .calostream(&["inspect", "nowhere.h5"])
        .code(1)
        .complains("calostream: can't open nowhere.h5: No such file or directory (os error 2)\n");
}

#[test]
fn what_is_dropped_or_rounded_on_purpose_is_counted() {
    let place = Place::new();
    python(ODD, &[&place.path("odd.h5")]);
    place.write(
        "layout.yaml",
        "schema: odd\ncolumns:\n  image: { dataset: Raw/Images, kind: hits, threshold: 0.1, drop_negative: true }\n  \
         energy: { dataset: True Energy, as: f32 }\n",
    );
    place.write(
        "run.yaml",
        "pipeline: odd\nabout: Only what is well above zero.\nout: run\nsteps:\n  events:\n    read_hdf5: { schema: ./layout.yaml, files: odd.h5 }\n  \
         parts:\n    from: events\n    write_parquet: {}\n",
    );
    let script = "
import h5py, numpy as np, sys
with h5py.File(sys.argv[1]) as f:
    images, energies = f['Raw/Images'][:], f['True Energy'][:]
print((images < 0).sum(), ((images > 0) & (images < .1)).sum(), (energies.astype('f4') != energies).sum())";
    let wanted = python(script, &[&place.path("odd.h5")]);
    let wanted: Vec<&str> = wanted.split_whitespace().collect();
    let said = place.calostream(&["run", "run.yaml"]).code(0).out;
    for line in [
        format!("events: {} negative cells of `image` dropped\n", wanted[0]),
        format!("events: {} cells of `image` dropped below the threshold\n", wanted[1]),
        format!("events: {} values of `energy` rounded to Float32\n", wanted[2]),
    ] {
        assert!(said.contains(&line), "{line} in {said}");
    }
    // Going on with nothing to do, a run says the same of the whole.
    let again = json(&place.calostream(&["run", "--json", "run.yaml"]).code(0).out);
    let noticed = &again["balance"][0]["noticed"];
    assert_eq!(noticed["negative cells of `image` dropped"].to_string(), wanted[0], "{again}");
}

#[test]
fn status_of_a_folder_that_is_no_run_is_an_error() {
    let place = Place::new();
    place.showers(4, 4, 1);
    place.write("run.yaml", STREAMING);
    let said = place.calostream(&["status", "data"]).code(1);
    assert!(said.err.starts_with("calostream: "), "{}", said.err);
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    let found = json(&place.calostream(&["status", "run", "--json"]).code(0).out);
    assert_eq!((&found["done"], &found["rows"], &found["rows_done"]), (&true.into(), &8.into(), &8.into()), "{found}");
}
