//! Whole samples from HDF5 to Parquet and Arrow IPC: every value of every column is what h5py reads in the source, bit by bit,
//! whoever opens the outputs (pyarrow, polars, duckdb, awkward). The comparison is `whole_samples.py`.

mod common;

use common::Place;
use oracle::python;
use std::path::{Path, PathBuf};

const COMPARE: &str = include_str!("whole_samples.py");

/// Files that h5py makes: variable lengths, texts, truth values, an enum.
const VARIABLE: &str = "
import h5py, numpy as np, sys
r = np.random.RandomState(5)
for name, n in (('a', 400), ('b', 250)):
    with h5py.File(f'{sys.argv[1]}/{name}.h5', 'w') as f:
        numbers = f.create_dataset('numbers', (n,), h5py.vlen_dtype('f4'), chunks=(60,), compression='gzip')
        samples = f.create_dataset('samples', (n,), h5py.vlen_dtype('>i2'))
        for i in range(n):
            numbers[i] = r.normal(size=r.randint(0, 9)).astype('f4') * [1, np.nan, -0.0, np.inf][i % 4]
            samples[i] = r.randint(-2**15, 2**15, r.randint(0, 200)).astype('i2')
        f.create_dataset('text', data=['Ωtau ' * (i % 5) for i in range(n)], dtype=h5py.string_dtype())
        f['good'] = np.arange(n) % 3 == 0
        f.create_dataset('kind', data=np.arange(n) % 2, dtype=h5py.enum_dtype({'even': 0, 'odd': 1}))";

/// Converts files of a schema in every form and compares; what the comparison says.
fn converted(case: &str, schema: &str, files: &[PathBuf]) -> String {
    let place = Place::new();
    let schema = if schema.contains('\n') {
        place.write("layout.yaml", &format!("schema: layout\ncolumns:\n{schema}"));
        "./layout.yaml"
    } else {
        schema
    };
    let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    let mut pipeline = format!(
        "pipeline: {case}\nout: run\nsteps:\n  events:\n    read_hdf5: {{ schema: {schema}, files: [{}] }}\n",
        files.join(", ")
    );
    for form in ["hits", "dense", "both"] {
        for (file, options) in [("parquet", ""), ("arrow", ", compression: lz4")] {
            pipeline += &format!("  {file}_{form}:\n    from: events\n    write_{file}: {{ images: {form}{options} }}\n");
        }
    }
    place.write("run.yaml", &pipeline);
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    let run = place.path("run");
    let args: Vec<&Path> = [Path::new(case), &run].into_iter().chain(files.iter().map(Path::new)).collect();
    python(COMPARE, &args)
}

#[test]
fn whole_samples_are_what_h5py_reads() {
    let Some(corpus) = std::env::var_os("CALOSTREAM_CORPUS").map(PathBuf::from) else {
        println!("left out: CALOSTREAM_CORPUS is not set");
        return;
    };
    let of = |names: &[&str]| names.iter().map(|n| corpus.join(n)).collect::<Vec<_>>();
    let numbers = |names: &[&str]| names.iter().map(|n| format!("  {n}: {{ dataset: {n} }}\n")).collect::<String>();
    // A dense image in all forms by all readers takes its time.
    let all = std::env::var_os("CALOSTREAM_EFFORT").is_some();
    let lcd = if all { &["ChPi", "Ele", "Gamma", "Pi0"][..] } else { &["ChPi"] };
    let lcd: Vec<PathBuf> = lcd.iter().map(|n| corpus.join(format!("geant4_lcd/{n}Escan_1_1.h5"))).collect();
    let tracks = [
        "EndXPos",
        "EndYPos",
        "EndZPos",
        "EnergyDep",
        "InteractionID",
        "PDG",
        "RunID",
        "SpillID",
        "StartXPos",
        "StartYPos",
        "StartZPos",
        "SubrunID",
        "TrackID",
    ];
    let said = [
        converted("lcd", "lcd-v1", &lcd),
        converted(
            "generated",
            "  ecal: { dataset: ECAL, kind: hits, value: energy }\n  energy: { dataset: energy }\n",
            &of(&["lcd/derived_from_lcd_trained_weights/3dgan_generated_electrons_ecal25.h5"]),
        ),
        converted("table", &numbers(&tracks), &of(&["lartpc/FakeTrackDataSet.h5"])),
        converted("packets", "  \"*\": { dataset: packets, member: \"*\" }\n", &of(&["lartpc/10k.h5"])),
        converted("ftag", "atlas-ftag", &of(&["ftag/ftag_mock_257jets_3tracks.h5"])),
        converted(
            "copied",
            "  numbers: { dataset: named_vl }\n",
            &of(&["h5/hdf5lib/tools__test__h5copy__testfiles__h5copytst_new.h5"]),
        ),
    ];
    print!("{}", said.concat());
}

#[test]
fn lists_texts_and_enums_are_what_h5py_reads() {
    let place = Place::new();
    python(VARIABLE, &[&place.path("")]);
    let names = ["numbers", "samples", "text", "good", "kind"];
    let schema: String = names.iter().map(|n| format!("  {n}: {{ dataset: {n} }}\n")).collect();
    let said = converted("variable", &schema, &[place.path("a.h5"), place.path("b.h5")]);
    print!("{said}");
}
