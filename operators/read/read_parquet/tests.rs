use super::*;
use crate::work::{Runtime, Worker};
use crate::write::write_parquet::WriteParquet;
use crate::write::write_parquet::tests::{events, write};
use crate::{Fault, column};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Schema, UInt64Type};
use oracle::python;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn facts(patterns: &[String]) -> Facts {
    Facts { parquet: patterns.iter().map(|p| (p.clone(), probe(p))).collect(), ..Facts::default() }
}

fn files(pattern: &str) -> ReadParquet {
    ReadParquet { files: Some(Placed::unplaced(Files(vec![pattern.to_owned()]))), samples: None, weights: None }
}

/// Everything that a step reads, with the columns of `outputs`.
fn read_as(step: &ReadParquet, facts: &Facts, outputs: &[Output]) -> Result<Vec<RecordBatch>, String> {
    let planned = step.plan(facts, &[]).map_err(|p| format!("{p:?}"))?;
    let runtime = Runtime::default();
    let start = Start { worker: Worker { index: 0, peers: 1 }, facts, inputs: &[], outputs, runtime: &runtime };
    let Work::Source(mut source) = step.start(&start).map_err(|e| e.to_string())? else { panic!("a source") };
    let mut batches = Vec::new();
    for unit in &planned.units {
        for batch in source.read(unit).map_err(|fault| fault.to_string())? {
            match batch {
                Ok(batch) => batches.push(batch),
                Err(Fault::Content(reason)) => return Err(reason),
                Err(Fault::Machine(error)) => panic!("{error:#}"),
            }
        }
    }
    Ok(batches)
}

fn read(step: &ReadParquet, facts: &Facts) -> RecordBatch {
    let planned = step.plan(facts, &[]).unwrap();
    let batches = read_as(step, facts, &planned.outputs).unwrap();
    assert_eq!(Some(batches.iter().map(|b| b.num_rows() as u64).sum()), planned.outputs[0].rows);
    column::concat(&planned.outputs[0].schema, &batches).unwrap()
}

fn pattern(folder: &Path) -> String {
    format!("{}/*.parquet", folder.display())
}

#[test]
fn what_was_written_is_read() {
    let folder = TempDir::new().unwrap();
    let rows = events(12_000);
    let with = WriteParquet { row_group: Some(Placed::unplaced(1000)), ..WriteParquet::default() };
    write(&with, &rows, &[500], folder.path());
    let pattern = pattern(folder.path());
    let (step, facts) = (files(&pattern), facts(std::slice::from_ref(&pattern)));
    let planned = step.plan(&facts, &[]).unwrap();
    assert_eq!(planned.outputs[0].schema, rows.schema(), "units, shapes and the class map too");
    assert_eq!(planned.units.len(), 1, "few bytes, so one unit");
    assert_eq!(read(&step, &facts), rows);
}

#[test]
fn units_are_whole_row_groups() {
    let header = ParquetHeader { schema: Arc::new(Schema::empty()), row_groups: vec![3000; 10], uncompressed: 30_000 * 50_000 };
    let file = FileFacts { path: "a".into(), bytes: 0, fingerprint: "f".into(), header: Ok(header.clone()) };
    let known = Known { sample: None, pattern: Placed::default(), file: &file, header: &header };
    let units = units(&known, 0);
    let cuts: Vec<(u64, u64)> = units.iter().map(|u| (u.first, u.rows)).collect();
    assert_eq!(cuts, [(0, 6000), (6000, 6000), (12_000, 6000), (18_000, 6000), (24_000, 6000)]);
}

#[test]
fn only_the_columns_asked_for_come() {
    let folder = TempDir::new().unwrap();
    let rows = events(50);
    write(&WriteParquet::default(), &rows, &[50], folder.path());
    let pattern = pattern(folder.path());
    let (step, facts) = (files(&pattern), facts(std::slice::from_ref(&pattern)));
    let mut output = step.plan(&facts, &[]).unwrap().outputs.remove(0);
    let wanted: Vec<usize> = ["event", "energy"].iter().map(|n| output.schema.index_of(n).unwrap()).collect();
    output.schema = Arc::new(output.schema.project(&wanted).unwrap());
    let batches = read_as(&step, &facts, &[output]).unwrap();
    assert_eq!(batches[0], rows.project(&wanted).unwrap());
}

#[test]
fn files_of_others_get_where_their_rows_come_from() {
    let folder = TempDir::new().unwrap();
    let make = r#"
import sys, awkward, numpy
for number, name in enumerate(sys.argv[1:]):
    ecal = awkward.Array([[{"cell": c, "energy": float(c + number)} for c in range(n)] for n in (2, 0, 3)])
    ecal = awkward.zip({"cell": awkward.values_astype(ecal.cell, "uint16"), "energy": awkward.values_astype(ecal.energy, "float32")})
    awkward.to_parquet(awkward.zip({"ecal": ecal, "event": numpy.array([7, 8, 9])}, depth_limit=1), name)
"#;
    let paths = ["a.parquet", "b.parquet"].map(|name| folder.path().join(name));
    python(make, &[&paths[0], &paths[1]]);
    let words = paths.clone().map(|p| p.to_str().unwrap().to_owned());
    let facts = facts(&words);
    let sample = |name: &str, word: &String| (name.to_owned(), Placed::unplaced(Files(vec![word.clone()])));
    let samples = Samples(vec![sample("photon", &words[1]), sample("pion", &words[0])]);
    let step = ReadParquet { files: None, samples: Some(Placed::unplaced(samples)), weights: None };
    let planned = step.plan(&facts, &[]).unwrap();
    assert_eq!(planned.remarks, ["the files' own column `event` is called `event_in_file` here"]);
    assert_eq!(column::samples(&planned.outputs[0].schema), ["photon", "pion"]);
    let rows = read(&step, &facts);
    assert_eq!(column::sample_numbers(&rows).unwrap(), [0, 0, 0, 1, 1, 1]);
    assert_eq!(rows.column_by_name("row").unwrap().as_primitive::<UInt64Type>().values(), &[0, 1, 2, 0, 1, 2]);
    assert_eq!(rows.column_by_name("event_in_file").unwrap().as_ref(), &arrow::array::Int64Array::from(vec![7, 8, 9, 7, 8, 9]));
    let events = rows.column_by_name("event").unwrap().as_primitive::<UInt64Type>().values();
    let print = &facts.parquet[&words[1]].as_ref().unwrap()[0].fingerprint;
    assert_eq!(events[..2], [column::event_identity(print, 0), column::event_identity(print, 1)]);
    let mut dense = [9.0; 6 * 4];
    crate::hits::to_dense(rows.column_by_name("ecal").unwrap(), 4, 0, 0, 6, &mut dense).unwrap();
    assert_eq!(dense[..12], [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 0.0]);
    assert!(rows.column_by_name("ecal").unwrap().as_list_opt::<i32>().is_some());
    assert!(
        rows.column_by_name("ecal")
            .unwrap()
            .as_list::<i32>()
            .values()
            .as_struct()
            .column(1)
            .as_primitive_opt::<Float32Type>()
            .is_some()
    );
}

#[test]
fn class_maps_of_several_files_are_joined() {
    let folder = TempDir::new().unwrap();
    let rows = events(10);
    let other = ["pion".to_owned(), "kaon".to_owned()];
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    let sample = rows.schema().index_of("sample").unwrap();
    let unit = crate::Unit {
        alone: false,
        step: String::new(),
        sample: Some("kaon".into()),
        path: String::new(),
        fingerprint: "k".into(),
        first: 0,
        rows: 10,
        file: 3,
        row_bytes: 1,
    };
    columns[sample] = column::provenance(&other, &unit, 0, 10).remove(0);
    let schema = Arc::new(column::with_samples(rows.schema().as_ref().clone(), &other));
    let kaons = RecordBatch::try_new(schema, columns).unwrap();
    for (name, rows) in [("a", &rows), ("b", &kaons)] {
        let path = write(&WriteParquet::default(), rows, &[10], folder.path());
        std::fs::rename(path, folder.path().join(name).with_extension("pq")).unwrap();
    }
    let pattern = format!("{}/*.pq", folder.path().display());
    let (step, facts) = (files(&pattern), facts(std::slice::from_ref(&pattern)));
    let read = read(&step, &facts);
    assert_eq!(column::samples(&read.schema()), ["electron", "pion", "kaon"]);
    assert_eq!(column::sample_numbers(&read).unwrap(), [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
}

#[test]
fn odd_and_broken_files_are_named() {
    let folder = TempDir::new().unwrap();
    let path = write(&WriteParquet::default(), &events(10), &[10], folder.path());
    for name in ["a", "b", "c"] {
        std::fs::copy(&path, folder.path().join(format!("{name}.parquet"))).unwrap();
    }
    let narrow = events(10).project(&[1, 2, 4, 5, 6, 7]).unwrap();
    let odd = write(&WriteParquet::default(), &narrow, &[10], folder.path());
    std::fs::write(folder.path().join("short.parquet"), b"PAR1").unwrap();
    let pattern = pattern(folder.path());
    let looked = facts(std::slice::from_ref(&pattern));
    let planned = files(&pattern).plan(&looked, &[]).unwrap();
    let quarantined: Vec<&str> =
        planned.quarantined.iter().map(|(path, _)| Path::new(path).file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(quarantined, ["short.parquet", "part-00001.parquet"]);
    assert!(planned.quarantined[1].1.starts_with("it has no column `ecal`"), "{:?}", planned.quarantined);
    assert_eq!(planned.outputs[0].rows, Some(30));
    let pair = [folder.path().join("a.parquet").to_str().unwrap().to_owned(), odd.to_str().unwrap().to_owned()];
    let step = ReadParquet { files: Some(Placed::unplaced(Files(pair.to_vec()))), samples: None, weights: None };
    let problems = step.plan(&facts(&pair), &[]).unwrap_err();
    assert!(problems[0].what.contains("part-00001.parquet is not like the other files: it has no column `ecal`"), "{problems:?}");
    assert!(probe(&format!("{}/*.nothing", folder.path().display())).unwrap_err().starts_with("no file matches"));
}

#[test]
fn the_fingerprint_is_of_the_content() {
    let folder = TempDir::new().unwrap();
    let path = write(&WriteParquet::default(), &events(2000), &[2000], folder.path());
    let copy = folder.path().join("copy.parquet");
    std::fs::copy(&path, &copy).unwrap();
    let print = |path: &Path| probe(path.to_str().unwrap()).unwrap()[0].fingerprint.clone();
    assert_eq!(print(&path), print(&copy));
    write(&WriteParquet::default(), &events(1999), &[2000], folder.path());
    assert_ne!(print(&path), print(&copy));
    assert_eq!(print(&path).len(), 32);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn broken_bytes_are_a_fault_and_never_a_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let folder = TempDir::new().unwrap();
        let path = write(&WriteParquet::default(), &events(60), &[60], folder.path());
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        std::fs::write(&path, bytes).unwrap();
        let pattern = pattern(folder.path());
        let (step, facts) = (files(&pattern), facts(std::slice::from_ref(&pattern)));
        if let Ok(planned) = step.plan(&facts, &[]) {
            let _ = read_as(&step, &facts, &planned.outputs);
        }
    }
}
