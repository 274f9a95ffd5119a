//! Inputs and places that are not as they should be: what is said, what is left out, and that the rest comes out right.

mod common;

use common::{Place, STREAMING, assert_same, corrupt, tables};
use oracle::python;
use std::path::Path;
use std::process::Command;

/// Two files of each of two classes, ten events each, and pipelines that differ in what they bear.
fn prepared() -> Place {
    let place = Place::new();
    place.showers(20, 10, 1);
    place.write("run.yaml", STREAMING);
    place.write("bears.yaml", &STREAMING.replace("\nout:", "\nquarantine_at_most: 0.5\nout:"));
    place.write("strict.yaml", &STREAMING.replace("\nout:", "\non_error: stop\nout:"));
    place
}

/// The run over a folder with bad files gave the tables of a run over the good ones alone.
#[track_caller]
fn as_without(place: &Place, bad: &[&str]) {
    std::fs::create_dir(place.path("good")).expect("made");
    for file in std::fs::read_dir(place.path("data")).expect("data").map(|e| e.expect("a file").path()) {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        if !bad.contains(&name.as_str()) {
            std::fs::copy(&file, place.path("good").join(name)).expect("copied");
        }
    }
    place.calostream(&["run", "-q", "run.yaml", "--set", "data=good", "--out", "wanted"]).code(0);
    assert_same("the rest", &tables(&place.path("wanted"), &["energies"]), &tables(&place.path("run"), &["energies"]));
}

fn events(run: &Path) -> String {
    let script = "import sys, glob, pyarrow.parquet as p\nprint(sum(p.read_table(f).num_rows for f in glob.glob(sys.argv[1] + '/parts/*')))";
    python(script, &[run]).trim().to_owned()
}

fn truncate(path: &Path) {
    std::fs::OpenOptions::new().write(true).open(path).and_then(|f| f.set_len(20_000)).expect("truncated");
}

#[test]
fn a_folder_that_is_not_there_and_a_pattern_that_matches_nothing() {
    let place = prepared();
    let wanted = r#"run.yaml:9:29: error: the folder `nowhere` is not there
  |
9 |       samples: { electron: "${data}/Ele*.h5", photon: "${data}/Gamma*.h5" }
  |                             ^^^^^^^

run.yaml:9:56: error: the folder `nowhere` is not there
  |
9 |       samples: { electron: "${data}/Ele*.h5", photon: "${data}/Gamma*.h5" }
  |                                                        ^^^^^^^

2 mistakes in run.yaml
"#;
    place.calostream(&["run", "run.yaml", "--set", "data=nowhere"]).code(2).complains(wanted);
    assert!(!place.path("run").exists(), "nothing is written for a wrong pipeline");
    place.write("none.yaml", &STREAMING.replace("Ele*", "Muon*"));
    let said = place.calostream(&["run", "none.yaml"]).code(2);
    let wanted = r#"none.yaml:9:29: error: no file matches `data/Muon*.h5` in `data`
  |
9 |       samples: { electron: "${data}/Muon*.h5", photon: "${data}/Gamma*.h5" }
  |                             ^^^^^^^

1 mistake in none.yaml
"#;
    said.complains(wanted);
    place.write("one.yaml", &STREAMING.replace("Ele*", "EleEscan_9_9"));
    let said = place.calostream(&["run", "one.yaml"]).code(2);
    said.complains(
        &wanted
            .replace("none.yaml", "one.yaml")
            .replace("no file matches `data/Muon*.h5` in `data`", "there is no file `data/EleEscan_9_9.h5`")
            .replace("/Muon*", "/EleEscan_9_9"),
    );
}

#[test]
fn a_truncated_file_among_good_ones_is_left_out_and_alone_is_an_error() {
    let place = prepared();
    let size = std::fs::metadata(place.path("data/EleEscan_1_2.h5")).expect("there").len();
    let good = std::fs::read(place.path("data/EleEscan_1_2.h5")).expect("there");
    truncate(&place.path("data/EleEscan_1_2.h5"));
    let reason = format!("unable to open file (truncated file: eof = 20000, sblock->base_addr = 0, stored_eof = {size})");
    let said = place.calostream(&["run", "-q", "run.yaml", "--out", "refused"]).code(1);
    said.complains(&format!(
        "calostream: 1 file can't be read, more than `quarantine_at_most: 0.01` allows; the first: data/EleEscan_1_2.h5: {reason} \
         (all of them: refused/quarantine.jsonl)\n"
    ));
    place.calostream(&["run", "-q", "bears.yaml"]).code(3);
    assert!(place.read("run/quarantine.jsonl").contains(&reason));
    assert_eq!(events(&place.path("run")), "30");
    as_without(&place, &["EleEscan_1_2.h5"]);

    // Repaired, it is found like a new file.
    std::fs::write(place.path("data/EleEscan_1_2.h5"), good).expect("repaired");
    place.calostream(&["run", "-q", "bears.yaml"]).code(0);
    assert_eq!(events(&place.path("run")), "40");
    assert_eq!(place.read("run/quarantine.jsonl"), "");

    truncate(&place.path("data/EleEscan_1_2.h5"));
    std::fs::remove_file(place.path("data/EleEscan_1_1.h5")).expect("removed");
    let said = place.calostream(&["run", "-q", "bears.yaml", "--out", "alone"]).code(2);
    let wanted = r#"bears.yaml:10:29: error: no file of `data/Ele*.h5` fits the schema `lcd-v1`
   |
10 |       samples: { electron: "${data}/Ele*.h5", photon: "${data}/Gamma*.h5" }
   |                             ^^^^^^^
  help: data/EleEscan_1_2.h5: REASON

1 mistake in bears.yaml
"#;
    said.complains(&wanted.replace("REASON", &reason));
}

#[test]
fn files_of_another_layout_are_left_out_each_with_its_reason() {
    let place = prepared();
    let script = "
import h5py, numpy as np, sys
def make(number, **datasets):
    with h5py.File(f'{sys.argv[1]}/EleEscan_2_{number}.h5', 'w') as f:
        for name, values in datasets.items():
            f[name] = values
ecal, hcal, target = np.zeros((10, 25, 25, 25), 'f4'), np.zeros((10, 5, 5, 60), 'f4'), np.zeros((10, 2))
make(1, ECAL=np.zeros((10, 24, 24, 24), 'f4'), HCAL=hcal, target=target)
make(2, ECAL=ecal.astype('S1'), HCAL=hcal, target=target)
make(3, ECAL=ecal, HCAL=hcal[:9], target=target)
make(4, HCAL=hcal, target=target)";
    python(script, &[&place.path("data")]);
    place.calostream(&["run", "-q", "bears.yaml"]).code(3);
    let line = |number: u32, reason: &str| {
        format!("{{\"step\":\"events\",\"what\":\"data/EleEscan_2_{number}.h5\",\"reason\":\"{reason}\"}}\n")
    };
    let wanted = [
        line(1, "column `ecal`: `ECAL` is float32 (10, 24, 24, 24); an event has the shape (24, 24, 24), not (25, 25, 25)"),
        line(2, "column `ecal`: `ECAL` holds text, not numbers"),
        line(3, "datasets of unequal lengths, so rows do not belong together: `ECAL` has 10, `HCAL` has 9, `target` has 10"),
        line(4, "column `ecal`: no dataset `ECAL`; did you mean `HCAL`?"),
    ];
    assert_eq!(place.read("run/quarantine.jsonl"), wanted.concat());
    as_without(&place, &["EleEscan_2_1.h5", "EleEscan_2_2.h5", "EleEscan_2_3.h5", "EleEscan_2_4.h5"]);
    let said = place.calostream(&["run", "-q", "strict.yaml", "--out", "strict"]).code(1);
    assert!(said.err.starts_with("calostream: data/EleEscan_2_1.h5: column `ecal`: "), "{}", said.err);
    assert!(said.err.ends_with(" (`on_error: stop`)\n"), "{}", said.err);
}

#[test]
fn a_chunk_that_cannot_be_unpacked_costs_its_unit_alone() {
    let place = prepared();
    std::fs::copy(place.path("data/EleEscan_1_2.h5"), place.path("repaired.h5")).expect("a copy");
    corrupt(&place.path("data/EleEscan_1_2.h5"));
    let reason = "data/EleEscan_1_2.h5, rows 0 to 10: chunk [0, 0, 0, 0] of `ECAL`: its gzip data are corrupt";
    let said = place.calostream(&["run", "bears.yaml"]).code(3);
    assert!(said.out.contains("every row is accounted for\n"), "{}", said.out);
    assert!(said.err.ends_with("quarantined; why: run/quarantine.jsonl\n"), "{}", said.err);
    let status = place.calostream(&["status", "run"]).code(0);
    assert!(status.out.contains("  units   3 of 4 (30 of 40 rows)\n"), "{}", status.out);
    assert!(status.out.contains(&format!("  quarantined: {reason}\n")), "{}", status.out);
    assert_eq!(events(&place.path("run")), "30");
    as_without(&place, &["EleEscan_1_2.h5"]);
    // Tried once more, it is as bad as before, and nothing else is lost.
    place.calostream(&["run", "-q", "bears.yaml", "--retry-quarantined"]).code(3);
    assert_eq!(events(&place.path("run")), "30");
    // Repaired, it is read, and nothing is quarantined any more.
    let broken = std::fs::read(place.path("data/EleEscan_1_2.h5")).expect("the broken file");
    std::fs::copy(place.path("repaired.h5"), place.path("data/EleEscan_1_2.h5")).expect("a repaired file");
    place.calostream(&["run", "-q", "bears.yaml", "--retry-quarantined"]).code(0);
    assert_eq!(events(&place.path("run")), "40");
    place.calostream(&["run", "-q", "bears.yaml"]).code(0);
    std::fs::write(place.path("data/EleEscan_1_2.h5"), broken).expect("the broken file again");

    let said = place.calostream(&["run", "-q", "run.yaml", "--out", "refused"]).code(1);
    let wanted = format!(
        "calostream: the run has stopped; what is committed stays in refused: 1 of 4 units are quarantined, more than \
         `quarantine_at_most: 0.01` allows; the first: {reason} (all of them: refused/quarantine.jsonl)\n"
    );
    said.complains(&wanted);
    let said = place.calostream(&["run", "-q", "strict.yaml", "--out", "strict"]).code(1);
    said.complains(&format!("calostream: the run has stopped; what is committed stays in strict: {reason} (`on_error: stop`)\n"));
}

#[test]
fn files_that_lie_or_hang_cost_themselves() {
    let place = prepared();
    // Each of these is an electron file of its own: one that the library never ends with (see operators/tests/hdf5_lies.rs), one that
    // says it has 2^60 events, one whose first chunk inflates without end, one with a chunk behind the end, a pipe.
    let script = "
import h5py, os, shutil, sys, zlib
os.chdir(sys.argv[1])
def copy(number):
    shutil.copy('EleEscan_1_1.h5', f'EleEscan_3_{number}.h5')
    return f'EleEscan_3_{number}.h5'
def patch(name, change):
    data = bytearray(open(name, 'rb').read())
    change(data)
    open(name, 'wb').write(data)
with h5py.File(copy(1), 'r+') as f:
    f['ECAL'].attrs['unit'] = 'GeV'
def hang(data):
    at = data.index(b'GCOL') + 16
    while data[at:at + 2] != bytes(2):
        at += 16 + (int.from_bytes(data[at + 8:at + 16], 'little') + 7) // 8 * 8
    data[at + 8] = 0
patch('EleEscan_3_1.h5', hang)
with h5py.File(copy(2), 'r+') as f:
    shape, how = f['ECAL'].shape, dict(dtype='f4', chunks=(1, 25, 25, 25), compression='gzip')
    del f['ECAL'], f['HCAL'], f['target']
    f.create_dataset('ECAL', (2**40,) + shape[1:], **how)
    f.create_dataset('HCAL', (2**40, 5, 5, 60), dtype='f4', chunks=(1, 5, 5, 60))
    f.create_dataset('target', (2**40, 2), dtype='f8', chunks=(100, 2))
with h5py.File(copy(3), 'r+') as f:
    f['ECAL'].id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(2**29), 1))
with h5py.File(copy(4), 'r+') as f:
    where = f['HCAL'].id.get_chunk_info(0).byte_offset
def far(data):
    at = data.index(where.to_bytes(8, 'little'))
    data[at:at + 8] = (10**12).to_bytes(8, 'little')
patch('EleEscan_3_4.h5', far)
os.mkfifo('EleEscan_3_5.h5')";
    python(script, &[&place.path("data")]);
    place.write("patient.yaml", &STREAMING.replace("\nout:", "\nquarantine_at_most: 0.9\nout:"));
    let start = std::time::Instant::now();
    let mut command = place.command(&["run", "-q", "patient.yaml"]);
    let done = command.env("CALOSTREAM_READER_PATIENCE", "1").output().expect("calostream starts");
    assert_eq!(done.status.code(), Some(3), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
    let said = place.read("run/quarantine.jsonl");
    for (number, reason) in [
        (1, "the HDF5 library gave no answer for 1 s while reading the header"),
        (2, "dataset `ECAL` cannot be read: says that it holds 68719476736000000 bytes, which a file of"),
        (3, "chunk [0, 0, 0, 0] of `ECAL`: inflates to more than "),
        (4, "chunk [0, 0, 0, 0] of `HCAL` reaches from byte 1000000000000 to "),
        (5, "it is not a regular file"),
    ] {
        let line = said.lines().find(|l| l.contains(&format!("EleEscan_3_{number}.h5")));
        assert!(line.is_some_and(|l| l.contains(reason)), "{number}: {said}");
    }
    assert_eq!(said.lines().count(), 5, "{said}");
    std::fs::remove_file(place.path("data/EleEscan_3_5.h5")).expect("the pipe is gone");
    as_without(&place, &["EleEscan_3_1.h5", "EleEscan_3_2.h5", "EleEscan_3_3.h5", "EleEscan_3_4.h5"]);
}

#[test]
fn a_file_that_crashes_the_library_costs_itself() {
    let place = prepared();
    std::fs::copy(place.path("data/EleEscan_1_1.h5"), place.path("data/EleEscan_3_1.h5")).expect("a copy");
    // The reader beside the program is one that dies of a segmentation fault over that file, and else the real one.
    let bin = place.path("bin");
    std::fs::create_dir(&bin).expect("made");
    std::fs::copy(common::program(), bin.join("calostream")).expect("copied");
    let python = oracle::interpreter();
    let real = common::program().with_file_name("calostream-reader");
    let reader = format!(
        "#!{}
import os, signal, subprocess, sys
real = subprocess.Popen(['{}'] + sys.argv[1:], stdin=subprocess.PIPE)
while data := os.read(0, 65536):
    if b'EleEscan_3_1' in data:
        real.kill()
        os.kill(os.getpid(), signal.SIGSEGV)
    real.stdin.write(data)
    real.stdin.flush()
real.stdin.close()
real.wait()
",
        python.display(),
        real.display()
    );
    std::fs::write(bin.join("calostream-reader"), reader).expect("written");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("calostream-reader"), executable).expect("a program");
    let done = Command::new(bin.join("calostream")).current_dir(place.path("")).args(["run", "-q", "bears.yaml"]).output();
    let done = done.expect("calostream starts");
    assert_eq!(done.status.code(), Some(3), "{}", String::from_utf8_lossy(&done.stderr));
    let wanted = "{\"step\":\"events\",\"what\":\"data/EleEscan_3_1.h5\",\"reason\":\"the HDF5 library crashed (signal 11) while reading the header\"}\n";
    assert_eq!(place.read("run/quarantine.jsonl"), wanted);
    as_without(&place, &["EleEscan_3_1.h5"]);
}

#[test]
fn nan_in_an_image_is_a_hit_and_flows_through() {
    let place = prepared();
    place.model("tiny.onnx", ["ECAL", "HCAL"]);
    let script = "
import h5py, sys
with h5py.File(sys.argv[1], 'r+') as f:
    f['ECAL'][3, 12, 12, 12] = float('nan')";
    python(script, &[&place.path("data/EleEscan_1_1.h5")]);
    let more = "  predicted:\n    from: events\n    infer: { model: tiny.onnx, inputs: { ECAL: ecal, HCAL: hcal }, outputs: { energy: predicted } }\n  \
                predictions:\n    from: predicted\n    histogram: { axes: [{ column: predicted, range: [0, 1000], bins: 1 }] }\n";
    place.write("nan.yaml", &format!("{STREAMING}{more}"));
    place.calostream(&["run", "-q", "nan.yaml"]).code(0);
    let script = "
import sys, glob, math, pyarrow.parquet as p
rows = [row for f in glob.glob(sys.argv[1] + '/parts/*') for row in p.read_table(f, columns=['ecal']).column('ecal').to_pylist()]
print(sum(any(math.isnan(hit['energy']) for hit in row) for row in rows), len(rows))
print(open(sys.argv[1] + '/predictions/predictions.csv').read(), end='')";
    let said = python(script, &[&place.path("run")]);
    assert!(said.starts_with("1 40\n"), "{said}");
    assert!(said.contains(",39,39.0,39.0\n"), "39 predictions are numbers: {said}");
}

#[test]
fn a_model_with_other_inputs_is_refused_at_its_place() {
    let place = prepared();
    place.model("other.onnx", ["calorimeter", "HCAL"]);
    let step = "  predicted:\n    from: events\n    infer: { model: other.onnx, inputs: { ECAL: ecal, HCAL: hcal }, outputs: { energy: predicted } }\n";
    place.write("other.yaml", &format!("{STREAMING}{step}"));
    let said = place.calostream(&["run", "other.yaml"]).code(2);
    let wanted = r"other.yaml:18:21: error: the model's input `calorimeter` gets no column
   |
18 |     infer: { model: other.onnx, inputs: { ECAL: ecal, HCAL: hcal }, outputs: { energy: predicted } }
   |                     ^^^^^^^^^^
  help: under `inputs`, write `calorimeter: ecal`

other.yaml:18:49: error: the model has no input `ECAL`
   |
18 |     infer: { model: other.onnx, inputs: { ECAL: ecal, HCAL: hcal }, outputs: { energy: predicted } }
   |                                                 ^^^^
  help: did you mean `HCAL`?

2 mistakes in other.yaml
";
    said.complains(wanted);
    assert!(!place.path("run").exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let place = prepared();
    let said = place.calostream(&["run", "-q", "run.yaml", "--out", "run.yaml/x"]).code(1);
    said.complains("calostream: cannot make the run folder run.yaml/x: Not a directory (os error 20)\n");
    let said = place.calostream(&["run", "-q", "run.yaml", "--out", "/proc/nowhere"]).code(1);
    said.complains("calostream: cannot make the run folder /proc/nowhere: No such file or directory (os error 2)\n");
}

#[test]
fn a_full_disk_stops_the_run_and_with_room_it_goes_on() {
    let place = prepared();
    std::fs::create_dir(place.path("small")).expect("made");
    let mount =
        |args: &[&str]| Command::new("mount").args(args).arg(place.path("small")).output().is_ok_and(|o| o.status.success());
    if !mount(&["-t", "tmpfs", "-o", "size=60k", "tmpfs"]) {
        println!("left out: a small file system can't be mounted here (not root)");
        return;
    }
    let full = place.calostream(&["run", "-q", "run.yaml", "-w", "1", "--out", "small/run"]);
    let grown = mount(&["-o", "remount,size=64m"]);
    let rest = place.calostream(&["run", "-q", "run.yaml", "--out", "small/run"]);
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    let (wanted, found) = (common::outputs(&place.path("run")), rest.code.map(|_| common::outputs(&place.path("small/run"))));
    let unmounted = Command::new("umount").arg(place.path("small")).status().is_ok_and(|s| s.success());
    assert!(unmounted && grown);
    let full = full.code(1);
    full.complains(
        "calostream: the run has stopped; what is committed stays in small/run: step `parts`, data/EleEscan_1_1.h5, rows 0 to 10: \
         No space left on device (os error 28)\n",
    );
    rest.code(0);
    assert_same("after a full disk", &wanted, &found.expect("ended"));
}
