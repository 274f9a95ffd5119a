//! How fast HDF5 becomes hits, and how fast many files are planned. Run by hand: `cargo test --release --workspace --test
//! hdf5_speed -- --ignored --nocapture`.

#![allow(clippy::unwrap_used)]

use calostream_operators::hdf5::{
    element::Number,
    images, probe, probe_all,
    process::Reader,
    rows::{Opened, Rows},
};
use calostream_operators::schema::Schema;
use calostream_operators::work::Runtime;
use std::time::Instant;

fn runtime() -> Runtime {
    Runtime { reader: env!("CARGO_BIN_EXE_calostream-reader").into(), ..Runtime::default() }
}

/// Seconds that this thread has computed, which other people's work on the machine does not stretch.
fn on_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

#[test]
#[ignore = "a measurement"]
fn images_to_hits() {
    let Some(corpus) = std::env::var_os("CALOSTREAM_CORPUS") else { return println!("skipped: CALOSTREAM_CORPUS is not set") };
    let path = std::path::Path::new(&corpus).join("geant4_lcd/EleEscan_1_1.h5").to_str().unwrap().to_owned();
    let runtime = runtime();
    let header = probe(&path, &runtime).unwrap()[0].header.clone().unwrap();
    let schema = Schema::parse(calostream_operators::schema::BUILT_IN[0].1).unwrap();
    let resolved = schema.columns[0].1.resolve("ecal", &header).unwrap();
    let number: Number = resolved.parts()[0].pick.number;
    let field = resolved.field.clone().unwrap();
    let (opened, mut reader) = (Opened::open(&path).unwrap_or_else(|e| panic!("{e}")), Reader::new(&runtime));
    for _ in 0..5 {
        let mut rows = Rows::new(header.dataset("ECAL").unwrap(), &opened, &mut reader).unwrap_or_else(|e| panic!("{e}"));
        let begun = on_cpu();
        for first in [0, 100, 200] {
            let runs = rows.runs(&opened, first, 100).unwrap_or_else(|e| panic!("{e}")).unwrap();
            let hits = images::hits_of_runs(&runs, 15625, number, &field, images::Refine::default(), &mut Default::default());
            std::hint::black_box(hits.unwrap_or_else(|e| panic!("{e}")));
        }
        let seconds = on_cpu() - begun;
        println!("{:.0} MB/s dense-equivalent for a second of one core", 300.0 * 62.5e3 / 1e6 / seconds);
    }
}

#[test]
#[ignore = "a measurement"]
fn ten_thousand_files() {
    use calostream_operators::Facts;
    use calostream_operators::hdf5::cache::Cache;
    let Some(corpus) = std::env::var_os("CALOSTREAM_CORPUS") else { return println!("skipped: CALOSTREAM_CORPUS is not set") };
    let folder = tempfile::tempdir().unwrap();
    let from = std::fs::read(std::path::Path::new(&corpus).join("ftag/ftag_mock_257jets_3tracks.h5")).unwrap();
    for i in 0..10_000 {
        std::fs::write(folder.path().join(format!("{i:05}.h5")), &from).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let looked = std::time::SystemTime::now();
    let pattern = format!("{}/*.h5", folder.path().display());
    let begun = Instant::now();
    let found = probe(&pattern, &runtime()).unwrap();
    println!("{} files of {} kB looked at in {:.2} s", found.len(), from.len() / 1000, begun.elapsed().as_secs_f64());
    assert!(found.iter().all(|f| f.header.is_ok()));
    let mut facts = Facts::default();
    facts.hdf5.insert(pattern.clone(), Ok(found));
    let begun = Instant::now();
    let bytes = Cache::of(&facts, looked).bytes().unwrap();
    println!("headers written in {:.2} s: {} kB", begun.elapsed().as_secs_f64(), bytes.len() / 1000);
    let begun = Instant::now();
    let again =
        probe_all(&[&pattern], &Cache::read(&bytes), &std::collections::BTreeSet::new(), &Runtime::default()).remove(0).unwrap();
    println!("{} files known again in {:.2} s", again.len(), begun.elapsed().as_secs_f64());
    assert!(again.iter().all(|f| f.header.is_ok()));
}
