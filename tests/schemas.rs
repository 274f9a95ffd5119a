//! Schemas from end to end: what a check cuts is in the balance, and every file of the corpus is inspected truly and quickly.

mod common;

use common::Place;
use oracle::python;
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
    let (mut seen, mut slowest) = (0, (Duration::ZERO, String::new()));
    for line in oracle.lines().skip(1) {
        let Some((name, _)) = line.split_once('\t') else { panic!("{line}") };
        let path = corpus.join(name).canonicalize().expect("a file of the corpus");
        let begun = Instant::now();
        let said = place.calostream(&["inspect", path.to_str().expect("UTF-8")]);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{name} took {took:?}");
        slowest = slowest.max((took, name.to_owned()));
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
    println!("{seen} files; the slowest, {}, took {:?}", slowest.1, slowest.0);
    assert!(seen > 80, "{seen}");
}

/// Images that some files lack, through a new order and into files: missing stays missing, in every form.
#[test]
fn missing_images_reach_the_files_as_missing() {
    let place = Place::new();
    let make = "
import h5py, numpy as np, sys
for name, n in (('a', 30), ('b', 20)):
    with h5py.File(f'{sys.argv[1]}/{name}.h5', 'w') as f:
        f['energy'] = np.arange(n) + (100. if name == 'b' else 0.)
        if name == 'b': f['gap'] = (np.arange(n * 6).reshape(n, 2, 3) % 4).astype('f4')";
    python(make, &[&place.path("")]);
    place.write(
        "s.yaml",
        "schema: s\ncolumns:\n  energy: { dataset: energy }\n  gap: { dataset: gap, kind: hits, value: e, optional: true }\n",
    );
    place.write(
        "run.yaml",
        "pipeline: missing\nout: run\nsteps:\n  events:\n    read_hdf5: { schema: ./s.yaml, samples: { a: ./a.h5, b: ./b.h5 } }\n  \
         mixed:\n    from: events\n    premix: { shares: natural }\n  both:\n    from: mixed\n    write_parquet: { images: both }\n  \
         arrow:\n    from: mixed\n    write_arrow: {}\n  hits:\n    from: mixed\n    write_parquet: {}\n",
    );
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    let script = "
import glob, sys
import awkward as ak, pyarrow as pa, pyarrow.parquet as p
parquet, = glob.glob(sys.argv[1] + '/both/*.parquet'); arrow, = glob.glob(sys.argv[1] + '/arrow/*.arrow')
for table in (p.read_table(parquet), pa.ipc.open_file(arrow).read_all()):
    for r in table.to_pylist():
        i = int(r['energy'])
        want = None if i < 100 else [(6 * (i - 100) + c) % 4 for c in range(6)]
        assert (r['gap'] is None) == (want is None)
        if want: assert r['gap'] == [{'cell': c, 'e': v} for c, v in enumerate(want) if v]
        if 'gap_dense' in r: assert r['gap_dense'] == want
events = ak.from_parquet(glob.glob(sys.argv[1] + '/hits/*.parquet')[0])
print(len(events), ak.sum(ak.is_none(events['gap'])), ak.type(events['gap']))";
    assert_eq!(python(script, &[&place.path("run")]), "50 30 50 * option[var * {cell: uint16, e: float32}]\n");
}

#[test]
fn inspect_shows_some_attributes_and_counts_the_others() {
    let place = Place::new();
    let make = "
import h5py, numpy as np, sys
with h5py.File(sys.argv[1] + '/a.h5', 'w') as f:
    f.attrs['run'] = 7; f.attrs['about'] = 'x' * 300
    for k in range(10):
        f[f't{k}'] = np.arange(3)
        for i in range(30): f[f't{k}'].attrs[f'FIELD_{i:02}_NAME'] = f'column {i}'";
    python(make, &[&place.path("")]);
    let some = place.calostream(&["inspect", "a.h5"]).code(0).out;
    assert!(some.contains("the file: run = 7") && some.contains(&format!("about = \"{}...\n", "x".repeat(99))), "{some}");
    assert!(some.contains("t0: FIELD_03_NAME = \"column 3\"") && !some.contains("FIELD_04"), "{some}");
    assert!(some.contains("and 278 more attributes; `--all` shows them"), "{some}");
    let all = place.calostream(&["inspect", "--all", "a.h5"]).code(0).out;
    assert!(all.contains(&"x".repeat(300)) && all.matches("FIELD_").count() == 300 && !all.contains("more attribute"), "{all}");
}
