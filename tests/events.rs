//! `calostream events`: the events behind a bin, against those that numpy finds; of tables of files, of selections, of mixes.

mod common;

use common::{Place, python};
use std::collections::BTreeSet;
use std::path::Path;

const MAKE: &str = "
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
rng = np.random.default_rng(4)
for name, low in (('electron-0', 10), ('electron-1', 60), ('pion-0', 10)):
    n = 3000
    energy = rng.uniform(low, low + 50, n)
    error = rng.normal(0, 0.1, n)
    error[::100] = np.nan
    pq.write_table(pa.table({'energy': energy, 'error': error, 'code': rng.choice([11, 22, 211], n), 'image': rng.normal(size=n)}), f'{sys.argv[1]}/{name}.parquet')
";

/// What must be there: path and row of the events between two energies that a cut lets through.
const EXPECT: &str = "
import sys, numpy as np, pyarrow.parquet as pq
folder, names, low, high, code = sys.argv[1], sys.argv[2].split('+'), float(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
for name in names:
    t = pq.read_table(f'{folder}/{name}.parquet')
    e, c = np.array(t['energy']), np.array(t['code'])
    cut = (e >= low) & (e < high) & (e > 15) & ((c == int(code)) if code != 'any' else True)
    for row in np.nonzero(cut)[0]:
        print(f'{name}.parquet,{row}')
";

const PIPELINE: &str = "
pipeline: events
out: run
steps:
  rows:
    read_parquet: { samples: { electron: electron-*.parquet, pion: pion-*.parquet } }
  kept: { from: rows, keep: energy > 15 }
  resolution:
    from: kept
    resolution: { of: error, by: { energy: { range: [10, 110], bins: 10 } }, for_each: sample }
  codes:
    from: kept
    histogram: { axes: [{ column: code, categories: [11, 22] }, { column: energy, edges: [0, 50, 100] }] }
  mixed:
    from: rows
    premix: { split: { train: 0.3, test: 0.7 } }
  part: { from: mixed.train, keep: energy > 15 }
  trained:
    from: part
    histogram: { axes: [{ column: energy, range: [10, 110], bins: 10 }] }
  written: { from: mixed.test, write_parquet: {} }
  tested_part: { from: mixed.test, keep: energy > 15 }
  tested:
    from: tested_part
    histogram: { axes: [{ column: energy, range: [10, 110], bins: 10 }] }
";

fn made() -> Place {
    let place = Place::new();
    python(MAKE, &[&place.path(".")]);
    place.write("p.yaml", PIPELINE);
    place.calostream(&["run", "-q", "p.yaml"]).code(0);
    place
}

/// Path and row of each line.
fn listed(text: &str) -> Vec<String> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    assert_eq!(header[..4], ["path", "file", "row", "event"]);
    let of = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        format!("{},{}", cells[0], cells[2])
    };
    lines.map(of).collect()
}

fn expected(place: &Place, names: &str, low: &str, high: &str, code: &str) -> Vec<String> {
    let words = [names, low, high, code].map(Path::new);
    let said = python(EXPECT, &[&[place.path(".").as_path()][..], &words].concat());
    said.lines().map(str::to_owned).collect()
}

#[test]
fn the_events_of_a_bin_are_listed_from_the_units_that_touched_it() {
    let place = made();
    let said = place.calostream(&["events", "run/resolution", "--bin", "energy=95", "--bin", "sample=electron"]).code(0);
    assert_eq!(listed(&said.out), expected(&place, "electron-0+electron-1", "90", "100", "any"));
    assert!(said.err.contains(" in 2 of 3 units"), "{}", said.err);
    assert!(said.err.contains("the table counts "), "the rows without a value are told: {}", said.err);
    assert!(said.out.lines().nth(1).is_some_and(|line| line.ends_with(",electron")), "{}", said.out);
    // From anywhere, and by the file of the table; in a histogram of categories.
    let table = place.path("run/codes/codes.parquet").display().to_string();
    let said = place.calostream(&["events", &table, "--bin", "code=other", "--bin", "energy=20"]).code(0);
    assert_eq!(listed(&said.out), expected(&place, "electron-0+electron-1+pion-0", "0", "50", "211"));
    let said = place.calostream(&["events", &table, "--bin", "code=22", "--bin", "energy=1000"]).code(0);
    assert_eq!(listed(&said.out), expected(&place, "electron-0+electron-1+pion-0", "100", "1000", "22"));
}

#[test]
fn a_mix_lists_the_events_that_it_has_taken() {
    let place = made();
    let all = expected(&place, "electron-0+electron-1+pion-0", "40", "50", "any");
    let [trained, tested] = ["trained", "tested"].map(|step| {
        let said = place.calostream(&["events", &format!("run/{step}"), "--bin", "energy=45"]).code(0);
        assert!(!said.err.contains("the table counts"), "{}", said.err);
        listed(&said.out).into_iter().collect::<BTreeSet<String>>()
    });
    assert!(trained.is_disjoint(&tested));
    assert!(!trained.is_empty() && trained.len() < tested.len());
    assert_eq!(trained.union(&tested).cloned().collect::<BTreeSet<_>>(), all.into_iter().collect());
}

#[test]
fn what_is_no_bin_is_said() {
    let place = made();
    let said = |args: &[&str]| place.calostream(&[&["events"], args].concat()).code(1).err;
    assert_eq!(said(&["run/resolution"]), "calostream: which bin? The table has bins of energy, sample: --bin NAME=VALUE\n");
    assert_eq!(
        said(&["run/resolution", "--bin", "eta=1"]),
        "calostream: the table has no bins of `eta`; it has those of energy, sample\n"
    );
    assert_eq!(said(&["run/resolution", "--bin", "energy=500"]), "calostream: the table has no bin with energy=500\n");
    assert_eq!(said(&["run/written", "--bin", "energy=500"]), "calostream: run/written is no table in a run folder\n");
}
