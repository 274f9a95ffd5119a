//! `calostream events`: the events behind a bin, against those that numpy finds; of tables of files, of selections, of mixes.

mod common;

use common::Place;
use oracle::python;
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
  told: { from: kept, derive: { side: case when code = 211 then 'hadron' else 'other' end, odd: error > 0 } }
  groups:
    from: told
    resolution:
      of: [error, energy]
      by: { energy: { range: [10, 110], bins: 2 } }
      for_each: [sample, { code: [11, 22] }, odd]
      regions: { low: energy < 40, high: energy >= 30, all: true }
  variables:
    from: told
    histogram:
      of: { energy: { range: [10, 110], bins: 10 }, error: { range: [-1, 1], bins: 4 } }
      for_each: [{ side: [hadron] }]
      regions: { low: energy < 40, high: energy >= 30 }
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

/// The events of a group, as numpy finds them.
const GROUP: &str = "
import sys, numpy as np, pyarrow.parquet as pq
for name in ('electron-0', 'electron-1', 'pion-0'):
    t = pq.read_table(f'{sys.argv[1]}/{name}.parquet')
    sample = np.full(len(t), name.split('-')[0])
    energy, error, code = (np.array(t[c]) for c in ('energy', 'error', 'code'))
    for row in np.nonzero((energy > 15) & eval(open(f'{sys.argv[1]}/cut.txt').read()))[0]:
        print(f'{name}.parquet,{row}')
";

#[test]
fn the_events_of_a_group_are_those_of_its_columns_and_its_region() {
    let place = made();
    let numpy = |cut: &str| -> Vec<String> {
        place.write("cut.txt", cut);
        python(GROUP, &[&place.path(".")]).lines().map(str::to_owned).collect()
    };
    let cases: [(&str, &[&str], &str); 5] = [
        (
            "groups",
            &["sample=electron", "code=22", "odd=true", "region=low", "energy=20", "quantity=error"],
            "(sample == 'electron') & (code == 22) & (error > 0) & (energy < 40) & (energy < 60)",
        ),
        (
            "groups",
            &["region=high", "odd=false", "quantity=energy"],
            "np.isin(code, [11, 22]) & (error <= 0) & (energy >= 30) & (energy < 110)",
        ),
        // In both: an event that is in both regions is listed once.
        ("groups", &["code=11", "energy=20"], "(code == 11) & ~np.isnan(error) & (energy < 60)"),
        ("variables", &["side=hadron", "region=low", "energy=25"], "(code == 211) & (energy < 30) & (energy >= 20)"),
        ("variables", &["region=high", "error=0.1"], "(code == 211) & (error >= 0) & (error < 0.5) & (energy >= 30)"),
    ];
    for (table, bins, cut) in cases {
        let table = format!("run/{table}");
        let bins = bins.iter().flat_map(|bin| ["--bin", bin]);
        let said = place.calostream(&["events", &table].into_iter().chain(bins).collect::<Vec<_>>()).code(0);
        let wanted = numpy(cut);
        assert!(!wanted.is_empty());
        let found = listed(&said.out);
        assert!(found == wanted, "{cut}: {} events and not {}", found.len(), wanted.len());
        assert!(!said.err.contains("the table counts"), "{cut}: {}", said.err);
    }
    // What a group was made of stands in its row: so a table agrees with itself and not with another one.
    place.calostream(&["run", "-q", "p.yaml", "--out", "again"]).code(0);
    let said = place.calostream(&["compare", "run", "again", "--tolerance", "0"]).code(0);
    assert!(said.out.contains(" 0 differ"), "{}", said.out);
    place.write("p.yaml", &PIPELINE.replace("low: energy < 40", "low: energy < 60"));
    place.calostream(&["run", "-q", "p.yaml", "--out", "other"]).code(0);
    let said = place.calostream(&["compare", "run/groups/groups.parquet", "other/groups/groups.parquet"]).code(1);
    assert!(said.out.contains("region = low") && !said.out.contains("region = all"), "{}", said.out);
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

const SCORES: &str = "
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
rng = np.random.default_rng(6)
for name in ('electron', 'pi on'):
    n = 2000
    p = np.round(rng.dirichlet([2, 1], n), 1)
    p[::70, 0] = np.nan
    columns = {'energy': rng.uniform(0, 20, n), 'p e': p[:, 0 if name == 'electron' else 1], 'p_pi': p[:, 1 if name == 'electron' else 0]}
    pq.write_table(pa.table(columns), f'{sys.argv[1]}/{name[:2]}.parquet')
";

const JUDGED: &str = "
pipeline: judged
out: judged
steps:
  rows: { read_parquet: { samples: { electron: el.parquet, 'pi on': pi.parquet } } }
  largest:
    from: rows
    confusion: { scores: { electron: 'p e', 'pi on': p_pi }, by: { energy: { range: [0, 20], bins: 2 } } }
  sure:
    from: rows
    confusion: { scores: { electron: 'p e', 'pi on': p_pi }, threshold: 0.7, regions: { low: energy < 5, all: true } }
  curves:
    from: rows
    roc: { scores: { electron: 'p e' }, by: { energy: { range: [0, 20], bins: 2 } }, at: { signal_efficiency: [0.5, 0.9] } }
";

/// A prediction is no column of the events: the table says what stands behind it, ties and thresholds with it.
#[test]
fn predictions_and_working_points_have_their_events_behind_them() {
    let place = Place::new();
    python(SCORES, &[&place.path(".")]);
    place.write("j.yaml", JUDGED);
    place.calostream(&["run", "-q", "j.yaml"]).code(0);
    let expect = "
import sys, numpy as np, pyarrow.parquet as pq
which, truth, predicted, threshold, low, high = sys.argv[1:]
for file, name in (('el.parquet', 'electron'), ('pi.parquet', 'pi on')):
    t = pq.read_table(f'{which}/{file}')
    a, b, e = (np.array(t[c]) for c in ('p e', 'p_pi', 'energy'))
    said = np.where(np.isnan(a) | np.isnan(b), '', np.where(np.maximum(a, b) < float(threshold), 'none', np.where(b > a, 'pi on', 'electron')))
    for row in np.nonzero((said == predicted) & (truth == name) & (e >= float(low)) & (e < float(high)))[0]: print(f'{file},{row}')
";
    let events = |table: &str, bins: &[&str]| {
        let mut words = vec!["events", table];
        bins.iter().for_each(|bin| words.extend(["--bin", bin]));
        place.calostream(&words).code(0)
    };
    for (table, truth, predicted, threshold, energies, bins) in [
        ("largest", "electron", "electron", "-9", ["0", "10"], &["energy=3"][..]),
        ("largest", "electron", "pi on", "-9", ["10", "20"], &["energy=13"]),
        ("sure", "pi on", "none", "0.7", ["0", "5"], &["region=low"]),
        ("sure", "pi on", "pi on", "0.7", ["0", "99"], &["region=all"]),
    ] {
        let (truth_is, predicted_is) = (format!("truth={truth}"), format!("predicted={predicted}"));
        let bins = [bins, &[&truth_is, &predicted_is]].concat();
        let said = events(&format!("judged/{table}"), &bins);
        let folder = place.path(".");
        let given = [folder.to_str().expect("a path"), truth, predicted, threshold, energies[0], energies[1]];
        let wanted = python(expect, &given.map(Path::new));
        let wanted: Vec<&str> = wanted.lines().collect();
        let found = listed(&said.out);
        assert!(wanted.len() > 30, "{table} {predicted}");
        assert!(found == wanted, "{table} {bins:?}: {} and {}", found.len(), wanted.len());
        assert!(!said.err.contains("the table counts"), "{}", said.err);
    }
    // The rows of two working points are of the same data.
    let said = events("judged/curves", &["energy=3"]);
    assert!(said.err.contains("the table counts") && said.err.contains("NaN"), "{}", said.err);
}
