use super::*;
use crate::hdf5::write::{Element, Spec};
use crate::read::generate_showers::tests::{gun, read};
use crate::shower::Class;
use crate::work::{Assembly, Finished, Runtime, Sink, Staged, Worker};
use crate::{Fault, Place};
use crate::{column, hits};
use arrow::array::RecordBatch;
use oracle::{python, python_file};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

fn lcd(file: &str) -> WriteHdf5 {
    WriteHdf5 {
        schema: Placed::unplaced("lcd-v1".into()),
        file: Some(Placed::unplaced(file.into())),
        merged: None,
        names: BTreeMap::new(),
        one_hot: None,
        index: None,
        classes: None,
        events_per_file: None,
        chunk: chunk(),
        gzip: gzip(),
        shuffle: true,
    }
}

/// A layout of small rows.
const SMALL: &str = "schema: small\ncolumns:\n  hcal: { dataset: cells/HCAL, kind: hits, value: energy, dims: [5, 5, 60] }\n  \
                     energy: { dataset: target, at: [1] }\n  pdg: { dataset: target, at: [0] }\n";

fn start(writer: &WriteHdf5) -> Box<dyn Sink> {
    let (mut facts, runtime) = (Facts::default(), Runtime::default());
    facts.texts.insert("./small.yaml".into(), Ok(SMALL.into()));
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
            let script = format!(
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
            python(&script, &[&staged[0].path, &plain]);
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
        layout(&schema, &input[0].schema, None).unwrap_err()
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

/// One file of all classes, with both datasets of classes.
fn merged(name: &str) -> WriteHdf5 {
    let word = |text: &str| Some(Placed::unplaced(text.to_owned()));
    WriteHdf5 { file: None, merged: word(name), one_hot: word("OneHot"), index: word("index"), ..lcd("") }
}

/// Writes parts of so many rows each, then puts them together; the path of the file.
fn assembled(
    writer: &WriteHdf5,
    rows: &RecordBatch,
    parts: &[usize],
    (threads, memory): (usize, u64),
    folder: &Path,
) -> Result<PathBuf, Fault> {
    let (mut sink, mut first, mut files) = (start(writer), 0, Vec::new());
    for (number, rows_of) in (1..).zip(parts) {
        sink.begin(&Part { number, number_in_sample: number, sample: None, staging: folder })?;
        sink.write(&rows.slice(first, *rows_of))?;
        first += rows_of;
        files.extend(sink.finish()?.into_iter().map(|s| Finished { path: s.path, rows: s.rows }));
    }
    let staging = folder.join("staging");
    std::fs::create_dir_all(&staging)?;
    let all = Assembly { files: &files, check: &|_| Ok(()), staging: &staging, threads, memory, stop: &|| false };
    let staged = start(writer).assemble(&all)?;
    assert_eq!((staged.len(), staged[0].rows), (1, first as u64));
    Ok(staged[0].path.clone())
}

/// Events of all classes in turn.
fn mixture(events: u64) -> RecordBatch {
    let read = read(&gun(&Class::ALL, events, 1000), None);
    let batches: Vec<RecordBatch> = read.into_iter().flat_map(|(_, batches)| batches).collect();
    let all = column::concat(&batches[0].schema(), &batches).unwrap();
    let (n, classes) = (all.num_rows() as u64, Class::ALL.len() as u64);
    let turn = (0..n).map(|i| i % classes * events + i / classes);
    arrow::compute::take_record_batch(&all, &arrow::array::UInt64Array::from_iter_values(turn)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The slow obvious version of many parts is one part with the rows of all.
    #[test]
    fn a_merged_file_is_that_of_one_part_with_all_rows(
        parts in prop::collection::vec(prop_oneof![Just(8usize), Just(16), 0usize..40], 0..9),
        chunk in prop_oneof![Just(8u32), 1u32..30],
        gzip in 0u8..3, shuffle: bool, threads in 1usize..5, little: bool,
    ) {
        static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| mixture(80));
        let rows = &*ROWS;
        let parts: Vec<usize> = parts.into_iter().filter(|rows| *rows > 0).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut writer = WriteHdf5 { schema: Placed::unplaced("./small.yaml".into()), ..merged("all.h5") };
        (writer.chunk.value, writer.gzip.value, writer.shuffle) = (chunk, gzip, shuffle);
        let memory = if little { 1 } else { u64::MAX };
        let found = assembled(&writer, rows, &parts, (threads, memory), folder.path()).unwrap();
        let mut sink = start(&writer);
        sink.begin(&Part { number: 99, number_in_sample: 99, sample: None, staging: folder.path() }).unwrap();
        sink.write(&rows.slice(0, parts.iter().sum())).unwrap();
        let wanted = sink.finish().unwrap().remove(0).path;
        prop_assert!(std::fs::read(found).unwrap() == std::fs::read(wanted).unwrap());
    }
}

#[test]
fn h5py_finds_classes_images_and_the_class_map_in_a_merged_file() {
    let rows = mixture(50);
    let folder = tempfile::tempdir().unwrap();
    let mut writer = merged("all.h5");
    writer.names = [("electron", "Ele"), ("photon", "Gamma"), ("pi0", "Pi0"), ("pion", "ChPi")]
        .map(|(class, name)| (class.to_owned(), Placed::unplaced(name.to_owned())))
        .into();
    let map =
        |classes: &[&str]| Some(Placed::unplaced(classes.iter().map(|c| Placed::unplaced((*c).to_owned())).collect::<Vec<_>>()));
    for (classes, expected) in [
        (None, ["ChPi", "Ele", "Gamma", "Pi0", "-"]),
        (map(&["Pi0", "Ele", "Mu", "ChPi", "Gamma"]), ["Pi0", "Ele", "Mu", "ChPi", "Gamma"]),
    ] {
        let expected: Vec<&str> = expected.into_iter().filter(|c| *c != "-").collect();
        writer.classes = classes;
        let path = assembled(&writer, &rows, &[100, 37, 63], (2, u64::MAX), folder.path()).unwrap();
        let mut dense = vec![0f32; 200 * 15_625];
        hits::to_dense(column::get(&rows, "ecal"), 15_625, 0, 0, 200, &mut dense).unwrap();
        let plain = folder.path().join("expected.bin");
        std::fs::write(&plain, dense.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        let script = "import sys, h5py, numpy as np\n\
             f = h5py.File(sys.argv[1]); classes = str(sys.argv[3]).split('/')\n\
             assert sorted(f) == ['ECAL', 'HCAL', 'OneHot', 'index', 'target'], list(f)\n\
             assert f['ECAL'][:].tobytes() == open(sys.argv[2], 'rb').read()\n\
             hot, index, pdg = f['OneHot'], f['index'], np.abs(f['target'][:, 0]).astype(int)\n\
             assert list(hot.attrs['classes']) == list(index.attrs['classes']) == classes, list(hot.attrs['classes'])\n\
             assert (hot.shape, hot.dtype, index.shape, index.dtype) == ((200, len(classes)), 'f4', (200,), 'i8')\n\
             assert (np.eye(len(classes))[index[:]] == hot[:]).all()\n\
             assert [classes[k] for k in index] == [{11: 'Ele', 22: 'Gamma', 111: 'Pi0', 211: 'ChPi'}[n] for n in pdg]\n\
             assert len(set(pdg[:4])) == 4\n";
        python(script, &[&path, &plain, Path::new(&expected.join("/"))]);
    }
}

#[test]
fn a_part_that_is_not_what_was_written_and_a_signal_stop_the_merging() {
    let (rows, folder) = (mixture(10), tempfile::tempdir().unwrap());
    let path = assembled(&merged("all.h5"), &rows, &[13, 27], (1, 0), folder.path()).unwrap();
    let files = [1, 2].map(|n| Finished { path: folder.path().join(format!("all.h5.part-0000{n}")), rows: [13, 27][n - 1] });
    let failed = |files: &[Finished], check: &dyn Fn(usize) -> anyhow::Result<()>, stop: bool| {
        let all = Assembly { files, check, staging: path.parent().unwrap(), threads: 2, memory: 0, stop: &|| stop };
        let Err(Fault::Machine(error)) = start(&merged("all.h5")).assemble(&all) else { panic!("it was put together") };
        format!("{error:#}")
    };
    assert_eq!(failed(&files, &|_| Ok(()), true), "stopped");
    assert_eq!(failed(&files, &|n| if n == 1 { anyhow::bail!("damaged") } else { Ok(()) }, false), "damaged");
    let mut wrong = files.clone();
    wrong[1].rows = 26;
    assert!(failed(&wrong, &|_| Ok(()), false).ends_with("all.h5.part-00002: `ECAL` has another shape"));
    std::fs::remove_file(&files[0].path).unwrap();
    assert!(failed(&files, &|_| Ok(()), false).contains("all.h5.part-00001"));
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    assert!(failed(&files[1..], &|_| Ok(()), false).contains("No space left"));
}

/// Problems of a writer over showers of all classes: what, and where it helps, how.
fn problems(writer: &WriteHdf5) -> Vec<(String, String)> {
    let inputs = gun(&Class::ALL, 1, 1).plan(&Facts::default(), &[]).unwrap().outputs;
    let problems = writer.plan(&Facts::default(), &inputs).unwrap_err();
    problems.into_iter().map(|p| (p.what, p.help.unwrap_or_default())).collect()
}

#[test]
fn mistakes_of_merged_files_are_found_at_once() {
    let word = |text: &str| Some(Placed::unplaced(text.to_owned()));
    let list = |classes: &[&str]| Some(Placed::unplaced(classes.iter().map(|c| Placed::unplaced((*c).to_owned())).collect()));
    let say = |what: &str, help: &str| (what.to_owned(), help.to_owned());
    let nothing = WriteHdf5 { merged: None, classes: list(&["a"]), one_hot: None, index: None, ..merged("") };
    let names = "`file: \"{sample}_{number}.h5\"` names one for each part, `merged: all.h5` a single one";
    assert_eq!(
        problems(&nothing),
        [
            say("the files have no name", names),
            say("nothing is written that has classes", "`one_hot: OneHot` or `index: index` writes them")
        ]
    );
    let classes = list(&["electron", "photon", "pi", "photon"]);
    let wrong = WriteHdf5 { classes, one_hot: word("ECAL/x"), index: word("a//b"), ..merged("{sample}.h5") };
    assert_eq!(
        problems(&wrong),
        [
            say("`{sample}` stands for nothing: there is one file", "`file` names one for each part"),
            say("`a//b` is no name of a dataset", "such as `OneHot`"),
            say("class `photon` is twice in the class map", "each class has one number: its place in the list, from 0"),
            say("class `pi0` is not in the class map", "did you mean `pi`?; or say `names: { pi0: ... }`"),
            say("class `pion` is not in the class map", "there is electron, photon, pi, photon; or say `names: { pion: ... }`"),
            say("there is a dataset `ECAL` already", "choose another name"),
        ]
    );
    let both = WriteHdf5 { file: word("{sample}-{number}.h5"), ..merged("pion-12.h5") };
    assert_eq!(problems(&both), [say("a part may be called `pion-12.h5` as well", "")]);
    let path = WriteHdf5 { index: word("OneHot"), ..merged("a/b.h5") };
    assert_eq!(problems(&path)[0].0, "a name, not a path: the file goes into the folder of the step");
    assert_eq!(problems(&path)[1].0, "there is a dataset `OneHot` already");
    // The schema with classes of its own: they must be called as it says, and it says their order.
    let of_schema = WriteHdf5 { schema: Placed::unplaced("lcd-merged".into()), one_hot: None, index: None, ..merged("a.h5") };
    let what: Vec<String> = problems(&of_schema).into_iter().map(|p| p.0).collect();
    assert_eq!(what[0], "class `electron` is not in the class map");
    assert!(what.contains(&"no column `px` comes in, of which `target` is made".to_owned()), "{what:?}");
    let two =
        Schema::parse("schema: two\ncolumns:\n  a: { dataset: A, one_hot: [x, y] }\n  b: { dataset: B, one_hot: [y, x] }\n")
            .unwrap();
    let inputs = gun(&Class::ALL, 1, 1).plan(&Facts::default(), &[]).unwrap().outputs;
    let classes = Classes::find(&of_schema, &two, &inputs[0].schema, &mut Vec::new());
    let wrong = layout(&two, &inputs[0].schema, classes.as_ref()).unwrap_err();
    assert_eq!(wrong, ["`B` has other classes than the dataset before it; a file has one class map"]);
    let given = WriteHdf5 { classes: list(&["Ele"]), ..of_schema };
    assert_eq!(
        problems(&given)[0],
        say(
            "the schema says of `class`: Pi0, Ele, ChPi, Gamma, in this order",
            "leave `classes` out, or write a schema of your own"
        )
    );
}

#[test]
fn classes_need_a_column_that_says_them() {
    let mut inputs = gun(&Class::ALL, 1, 1).plan(&Facts::default(), &[]).unwrap().outputs;
    inputs[0] = inputs[0].narrowed(|name| name != column::SAMPLE);
    let placed = Placed { value: "OneHot".to_owned(), place: Place { line: 7, column: 3 } };
    let writer = WriteHdf5 { one_hot: Some(placed), ..merged("all.h5") };
    let found = writer.plan(&Facts::default(), &inputs).unwrap_err();
    let help = Some("a source makes `sample` of `samples: { class: files }`".to_owned());
    let what = "no `sample` comes in that says the class".to_owned();
    assert_eq!(found, [Problem { place: Place { line: 7, column: 3 }, what, help }]);
}

#[test]
fn two_samples_may_be_one_class_and_a_class_may_be_idle() {
    let mut writer = merged("all.h5");
    writer.names = [("pi0", "pion"), ("photon", "light")].map(|(c, n)| (c.to_owned(), Placed::unplaced(n.to_owned()))).into();
    let all = ["muon", "pion", "light", "electron"].map(|c| Placed::unplaced(c.to_owned()));
    writer.classes = Some(Placed::unplaced(all.to_vec()));
    let inputs = gun(&Class::ALL, 1, 1).plan(&Facts::default(), &[]).unwrap().outputs;
    let planned = writer.plan(&Facts::default(), &inputs).unwrap();
    assert_eq!(planned.remarks, ["no event of class `muon` comes in"]);
    assert_eq!(planned.assembled, Some(Assembled { file: "all.h5".into(), parts_stay: false, grain: 100 }));
    let schema = Schema::find(&writer.schema, &Facts::default()).unwrap();
    let (datasets, classes) = writer.datasets(&schema, &inputs[0].schema, &mut Vec::new());
    let texts = Some((CLASSES.to_owned(), ["muon", "pion", "light", "electron"].map(str::to_owned).to_vec()));
    let spec = Spec { name: "OneHot".into(), shape: vec![4], element: Element::F32, texts };
    assert_eq!(datasets[3].spec, spec);
    let rows = mixture(1);
    let samples: Vec<usize> = column::sample_numbers(&rows).unwrap().iter().map(|n| *n as usize).collect();
    let names = column::samples(rows.schema_ref());
    let wanted: Vec<usize> = samples
        .iter()
        .map(|n| match names[*n].as_str() {
            "photon" => 2,
            "electron" => 3,
            _ => 1,
        })
        .collect();
    assert_eq!(classes.unwrap().of(&rows).unwrap(), wanted);
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
    println!("{}", python_file("examples/compare_showers.py", &[folder.path(), &geant4]));
}
