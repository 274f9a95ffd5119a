//! Schemas from end to end: what a check cuts is in the balance, and every file of the corpus is inspected truly and quickly.

mod common;

use common::{Place, python};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PIPELINE: &str = "pipeline: checked\nabout: Rows that are wrong are cut.\nout: run\nsteps:\n  events:\n    read_hdf5: { schema: ./layout.yaml, \
                        files: \"*.h5\" }\n  mixed:\n    from: events\n    premix: {}\n  parts:\n    from: mixed\n    write_parquet: {}\n  whole:\n    from: events\n    \
                        write_parquet: {}\n";

#[test]
fn rows_that_a_source_cuts_are_in_the_balance() {
    let place = Place::new();
    let make = "
import h5py, numpy as np, sys
for k in range(3):
    with h5py.File(f'{sys.argv[1]}/{k}.h5', 'w') as f:
        e = np.arange(1000.); e[990 - k:] = 0
        f['energy'] = e; f.create_dataset('kind', data=np.arange(1000) % 2, dtype=h5py.enum_dtype({'even': 0, 'odd': 1}))
        f.create_dataset('word', data=[f'w{i}' for i in range(1000)], dtype=h5py.string_dtype()); f.attrs['run'] = k
        v = f.create_dataset('list', (1000,), dtype=h5py.vlen_dtype('f4'))
        for i in range(1000): v[i] = np.arange(i % 3)";
    python(make, &[&place.path("")]);
    place.write(
        "layout.yaml",
        "schema: layout\ncolumns:\n  energy: { dataset: energy, check: { range: [1, 1000] } }\n  kind: { dataset: kind }\n  word: { dataset: word }\n  \
         list: { dataset: list }\n  run: { attribute: run }\n",
    );
    place.write("run.yaml", PIPELINE);
    let said = place.calostream(&["run", "run.yaml", "--workers", "2"]).code(0);
    // The tail of each file and its row 0.
    let all = format!("{}{}", said.out, said.err);
    for words in ["36", "2,964", "rows cut because `energy` is not in 1 to 1000"] {
        assert!(all.contains(words), "{words} in {all}");
    }
    let look = "
import glob, sys, pyarrow.parquet as pq
for step in ('parts', 'whole'):
    rows = [r for p in sorted(glob.glob(f'{sys.argv[1]}/run/{step}/**/*.parquet', recursive=True)) for r in pq.read_table(p).to_pylist()]
    right = all(r['energy'] == r['row'] and r['kind'] == ('even', 'odd')[r['row'] % 2] and r['word'] == f\"w{r['row']}\" and r['run'] == r['file'] and r['list'] == list(range(r['row'] % 3)) for r in rows)
    print(step, len(rows), right, len({r['event'] for r in rows}))";
    assert_eq!(python(look, &[&place.path("")]), "parts 2964 True 2964\nwhole 2964 True 2964\n");
    let again: serde_json::Value =
        serde_json::from_str(place.calostream(&["run", "--json", "run.yaml"]).code(0).out.lines().last().unwrap_or_default())
            .expect("JSON");
    let source = &again["balance"][0];
    assert_eq!((&source["in"], &source["cut"]), (&3000.into(), &36.into()), "{again}");
}

#[test]
fn every_file_of_the_corpus_is_inspected_within_two_seconds() {
    let Some(corpus) = std::env::var_os("CALOSTREAM_CORPUS").map(PathBuf::from) else {
        println!("skipped: CALOSTREAM_CORPUS is not set");
        return;
    };
    let place = Place::new();
    let oracle = std::fs::read_to_string(corpus.join("ORACLE_h5py_files.tsv")).expect("the oracle");
    let datasets = std::fs::read_to_string(corpus.join("ORACLE_h5py_datasets.tsv")).expect("the oracle");
    let mut seen = 0;
    for line in oracle.lines().skip(1) {
        let Some((name, _)) = line.split_once('\t') else { panic!("{line}") };
        let path = corpus.join(name).canonicalize().expect("a file of the corpus");
        let begun = Instant::now();
        let said = place.calostream(&["inspect", path.to_str().expect("UTF-8")]);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{name} took {took:?}");
        match said.code {
            // What is wrong stands in one line that names the file.
            Some(1) => assert!(said.err.starts_with(&format!("calostream: {}: ", path.display())), "{name}: {}", said.err),
            Some(0) => {
                let last = said.out.lines().any(|l| {
                    l.starts_with("fits the schema `") || l.starts_with("fits no built-in schema; ") || l == "  no datasets"
                });
                assert!(last, "{name}: {}", said.out);
                // Every dataset that h5py finds is named.
                for d in datasets.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix('\t')) {
                    let path = d.split('\t').next().unwrap_or_default();
                    assert!(said.out.contains(path), "{name}: {path} in {}", said.out);
                }
            }
            other => panic!("{name}: {other:?}: {}", said.err),
        }
        let fits = |schema: &str| said.out.contains(&format!("fits the schema `{schema}`"));
        match name {
            n if n.starts_with("geant4_lcd/") => assert!(fits("lcd-v1"), "{}", said.out),
            n if n.starts_with("ftag/") => assert!(fits("atlas-ftag"), "{}", said.out),
            n if n.contains("trg_type") => assert!(fits("next-white-waveforms"), "{}", said.out),
            n if n.starts_with("h5/") => assert!(!said.out.contains("fits the schema `"), "{n}: {}", said.out),
            _ => {}
        }
        seen += 1;
    }
    assert!(seen > 80, "{seen}");
}
