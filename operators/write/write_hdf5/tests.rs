use super::*;
use crate::read::generate_showers::tests::{gun, read};
use crate::shower::Class;
use crate::work::{Runtime, Worker};
use std::path::Path;
use std::process::Command;

fn lcd(file: &str) -> WriteHdf5 {
    WriteHdf5 {
        schema: Placed::unplaced("lcd-v1".into()),
        file: Placed::unplaced(file.into()),
        names: BTreeMap::new(),
        chunk: chunk(),
        gzip: gzip(),
        shuffle: true,
    }
}

fn start(writer: &WriteHdf5) -> Box<dyn Sink> {
    let (facts, runtime) = (Facts::default(), Runtime::default());
    let inputs = gun(&Class::ALL, 1, 1).plan(&facts, &[]).unwrap().outputs;
    writer.plan(&facts, &inputs).unwrap();
    let start = Start { worker: Worker { index: 0, peers: 1 }, facts: &facts, inputs: &inputs, outputs: &[], runtime: &runtime };
    let Work::Sink(sink) = writer.start(&start).unwrap() else { panic!("a sink") };
    sink
}

/// Writes these batches as one part.
fn write(writer: &WriteHdf5, sample: &str, batches: &[RecordBatch], staging: &Path) -> Result<Vec<Staged>, Fault> {
    let mut sink = start(writer);
    sink.begin(&Part { number: 6, number_in_sample: 3, sample: Some(sample), staging })?;
    for batch in batches {
        sink.write(batch)?;
    }
    sink.finish()
}

/// The project's Python, which `make setup` puts there.
fn python(script: &str, arguments: &[&Path]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = root.join(".deps/venv/bin/python");
    assert!(python.exists(), "run `make setup` first");
    let run = Command::new(python).current_dir(root).arg(script).args(arguments).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{text}");
    text
}

#[test]
fn h5py_finds_the_same_values() {
    let folder = tempfile::tempdir().unwrap();
    for (events, chunk) in [(1, 100), (100, 100), (230, 100), (37, 8)] {
        let read = read(&gun(&[Class::Electron], events, 1000), None);
        for (gzip, shuffle) in [(2, true), (0, false), (1, false), (0, true)] {
            let mut writer = lcd("{sample}_{number}.h5");
            (writer.chunk.value, writer.gzip.value, writer.shuffle) = (chunk, gzip, shuffle);
            let staged = write(&writer, "electron", &read[0].1, folder.path()).unwrap();
            assert_eq!((staged[0].name.as_str(), staged[0].rows), ("electron_3.h5", events));
            let batch = arrow::compute::concat_batches(&read[0].1[0].schema(), &read[0].1).unwrap();
            let rows = batch.num_rows();
            let mut expected = Vec::new();
            for (column, cells) in [("ecal", 15_625), ("hcal", 1_500)] {
                let mut dense = vec![0f32; rows * cells];
                hits::to_dense(column::get(&batch, column), cells, 0, 0, rows, &mut dense).unwrap();
                expected.extend(dense.iter().flat_map(|v| v.to_le_bytes()));
            }
            let (pdg, energy) = (column::numbers(&batch, "pdg").unwrap(), column::numbers(&batch, "energy").unwrap());
            expected.extend(pdg.iter().zip(&energy).flat_map(|(p, e)| [p.to_le_bytes(), e.to_le_bytes()]).flatten());
            let plain = folder.path().join("expected.bin");
            std::fs::write(&plain, expected).unwrap();
            let script = folder.path().join("same.py");
            let code = format!(
                "import sys, h5py, numpy as np\nf = h5py.File(sys.argv[1]); raw = open(sys.argv[2], 'rb').read()\nn = {events}\n\
                 for name, shape, kind in (('ECAL', (25, 25, 25), '<f4'), ('HCAL', (5, 5, 60), '<f4'), ('target', (2,), '<f8')):\n\
                 \x20   d = f[name]; size = n * int(np.prod(shape)) * np.dtype(kind).itemsize\n\
                 \x20   assert d.shape == (n, *shape) and d.dtype == kind, (d.shape, d.dtype)\n\
                 \x20   assert d.chunks == ({chunk}, *shape) and d.compression_opts == ({gzip} or None) and d.shuffle == bool({}), d.chunks\n\
                 \x20   assert d[:].tobytes() == raw[:size], name\n\
                 \x20   raw = raw[size:]\n\
                 assert not raw and sorted(f) == ['ECAL', 'HCAL', 'target']\n",
                u8::from(shuffle)
            );
            std::fs::write(&script, code).unwrap();
            python(script.to_str().unwrap(), &[&staged[0].path, &plain]);
        }
    }
}

#[test]
fn the_same_rows_make_the_same_bytes() {
    let read = read(&gun(&[Class::Pion], 130, 1000), None);
    let batch = arrow::compute::concat_batches(&read[0].1[0].schema(), &read[0].1).unwrap();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = write(&lcd("a{number}.h5"), "pion", std::slice::from_ref(&batch), folders[0].path()).unwrap();
    // Tracked times would differ after a second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let cut: Vec<RecordBatch> = (0..130).step_by(33).map(|k| batch.slice(k, 33.min(130 - k))).collect();
    let second = write(&lcd("a{number}.h5"), "pion", &cut, folders[1].path()).unwrap();
    assert_eq!(first[0].name, "a6.h5");
    let [first, second] = [first, second].map(|staged| std::fs::read(&staged[0].path).unwrap());
    let differ = first.iter().zip(&second).position(|(a, b)| a != b);
    assert_eq!((first.len(), differ), (second.len(), None));
}

#[test]
fn a_folder_that_is_not_there_and_a_full_disk_are_the_machines_fault() {
    let read = read(&gun(&[Class::Photon], 300, 1000), None);
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let Err(Fault::Machine(error)) = write(&lcd("{number}.h5"), "photon", &read[0].1, &missing) else { panic!("it was written") };
    assert!(format!("{error:#}").contains("missing/6.h5"), "{error:#}");

    std::os::unix::fs::symlink("/dev/full", folder.path().join("6.h5")).unwrap();
    let Err(Fault::Machine(error)) = write(&lcd("{number}.h5"), "photon", &read[0].1, folder.path()) else {
        panic!("it was written")
    };
    let text = format!("{error:#}");
    assert!(text.contains("can't write") && text.contains("No space left"), "{text}");
}

#[test]
fn an_abandoned_part_leaves_nothing() {
    let read = read(&gun(&[Class::Photon], 120, 1000), None);
    let folder = tempfile::tempdir().unwrap();
    let mut sink = start(&lcd("{number}.h5"));
    for _ in 0..2 {
        sink.begin(&Part { number: 1, number_in_sample: 1, sample: None, staging: folder.path() }).unwrap();
        sink.write(&read[0].1[0]).unwrap();
        sink.abandon();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn all_mistakes_are_found_at_once() {
    let output = gun(&[Class::Electron, Class::Pion], 1, 1).plan(&Facts::default(), &[]).unwrap().outputs;
    let mut wrong = lcd("dir/{sampel}.h5");
    wrong.chunk.value = 0;
    wrong.gzip.value = 11;
    wrong.names = BTreeMap::from(
        [("elektron", "E"), ("electron", "X"), ("pion", "X")]
            .map(|(class, name)| (class.to_owned(), Placed::unplaced(name.to_owned()))),
    );
    let problems = wrong.plan(&Facts::default(), &output).unwrap_err();
    let what: Vec<&str> = problems.iter().map(|p| p.what.as_str()).collect();
    assert_eq!(
        what,
        [
            "the files would overwrite each other",
            "`{sampel}` stands for nothing",
            "a name, not a path: the files go into the folder of the step",
            "a chunk needs at least one event",
            "gzip has no level 11",
            "no class `elektron` comes in",
            "`electron` and `pion` are both called `X`",
        ]
    );
    assert_eq!(problems[5].help.as_deref(), Some("did you mean `electron`?"));
}

#[test]
fn a_layout_must_be_filled_by_what_comes_in() {
    let input = gun(&Class::ALL, 1, 1).plan(&Facts::default(), &[]).unwrap().outputs;
    let what = |columns: &str| {
        let schema = Schema::parse(&format!("schema: own\ncolumns:\n{columns}")).unwrap();
        layout(&schema, &input[0].schema).unwrap_err()
    };
    assert_eq!(what("  muon: { dataset: MUON }\n"), ["no column `muon` comes in, of which `MUON` is made"]);
    assert_eq!(
        what("  ecal: { dataset: ECAL, value: energy, dims: [51, 51, 25] }\n"),
        ["column `ecal` is an image of [25, 25, 25], `ECAL` is not"]
    );
    assert_eq!(what("  ecal: { dataset: ECAL, value: time }\n"), ["the hits of `ecal` have no `time`; there is energy"]);
    assert_eq!(
        what("  energy: { dataset: target, at: [2] }\n  pdg: { dataset: target, at: [0] }\n"),
        ["a row of `target` has the shape [3], and only 2 of its places have a column"]
    );
    assert_eq!(
        what("  energy: { dataset: target, at: [0] }\n  pdg: { dataset: target, at: [0] }\n"),
        ["two columns are at place [0] of `target`"]
    );
    assert_eq!(what("  energy: { dataset: target, member: e }\n"), ["`target` is made of records, which can't be written"]);
}

/// Seconds that this thread has had on a core, so that a busy machine does not change what is printed.
fn busy() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(f64::NAN, |ns| ns * 1e-9)
}

#[test]
fn generated_showers_agree_with_geant4() {
    let Ok(corpus) = std::env::var("CALOSTREAM_CORPUS") else {
        println!("skipped: CALOSTREAM_CORPUS names no folder");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut writer = lcd("{sample}Escan_1_{number}.h5");
    writer.names = BTreeMap::from(
        [("electron", "Ele"), ("photon", "Gamma"), ("pi0", "Pi0"), ("pion", "ChPi")]
            .map(|(c, n)| (c.into(), Placed::unplaced(n.into()))),
    );
    for class in Class::ALL {
        let before = busy();
        let read = read(&gun(&[class], 2000, 2000), None);
        let made = busy();
        write(&writer, class.name(), &read[0].1, folder.path()).unwrap();
        let (making, writing) = (2000.0 / (made - before), 2000.0 / (busy() - made));
        println!("{}: {making:.0} events/s made, {writing:.0} written, of one core", class.name());
    }
    let geant4 = Path::new(&corpus).join("geant4_lcd");
    println!("{}", python("examples/compare_showers.py", &[folder.path(), &geant4]));
}
