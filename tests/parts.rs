//! Files of as many events as were asked for: cut of a new order, which stays the same.

mod common;

use common::{Place, assert_same, outputs};
use oracle::python;

const PIPELINE: &str = "\
pipeline: parts
params: { out: run }
out: \"${out}\"
seed: 3
steps:
  made:
    generate_showers: { events: 110, energy: [10, 12], events_per_file: 40 }
  mixed:
    from: made
    premix: { split: { train: 0.75, test: 0.25 } }
  train:
    from: mixed.train
    write_parquet: { events_per_file: 37 }
  arrow:
    from: mixed.train
    write_arrow: { events_per_file: 37 }
  hot:
    from: mixed.train
    keep: energy > 11
  rest:
    from: hot
    write_parquet: {}
  test:
    from: mixed.test
    write_hdf5: { schema: lcd-v1, file: \"test_{number}.h5\", events_per_file: 50 }
  as_it_comes:
    from: mixed.test
    write_parquet: { columns: [energy] }
";

#[test]
fn files_have_as_many_events_as_were_asked_for_in_the_same_order() {
    let place = Place::new();
    place.write("run.yaml", PIPELINE);
    let said = place.calostream(&["plan", "run.yaml"]).code(0);
    assert!(said.out.contains("  train: write_parquet from mixed.train\n"), "{}", said.out);
    assert!(said.out.contains("    makes files of 37 events\n"), "{}", said.out);
    place.calostream(&["run", "-q", "run.yaml", "-w", "1"]).code(0);
    // A grain of one event, and none: the order is that of the keys, however it is cut.
    place.write("whole.yaml", &PIPELINE.replace("{ events_per_file: 37 }", "{}").replace(", events_per_file: 50", ""));
    place.calostream(&["run", "-q", "whole.yaml", "--out", "whole"]).code(0);
    let script = "
import sys, glob, h5py, numpy as np, pyarrow as pa, pyarrow.parquet as pq
run, whole = sys.argv[1:]
def parquet(folder):
    return [pq.read_table(p) for p in sorted(glob.glob(folder + '/*.parquet'))]
def arrow(folder):
    return [pa.ipc.open_file(p).read_all() for p in sorted(glob.glob(folder + '/*.arrow'))]
for read, step in ((parquet, 'train'), (arrow, 'arrow')):
    now, was = read(f'{run}/{step}'), read(f'{whole}/{step}')
    n = [len(t) for t in now]
    assert len(was) == 1 and len(n) > 8 and set(n[:-1]) == {37} and 0 < n[-1] <= 37 and sum(n) == len(was[0]), n
    for name in ('event', 'sample', 'energy', 'ecal', 'hcal'):
        assert sum((t[name].to_pylist() for t in now), []) == was[0][name].to_pylist(), name
test = [h5py.File(f'{run}/test/test_{k}.h5')['target'][:, 1] for k in range(1, 1 + len(glob.glob(f'{run}/test/*.h5')))]
assert [len(t) for t in test][:-1] == [50] * (len(test) - 1) and len(test) > 1
assert np.concatenate(test).tolist() == parquet(f'{whole}/as_it_comes')[0]['energy'].to_pylist()
assert sum((t['event'].to_pylist() for t in parquet(run + '/rest')), []) == parquet(whole + '/rest')[0]['event'].to_pylist()
print('same')";
    assert_eq!(python(script, &[&place.path("run"), &place.path("whole")]), "same\n");
    let one = outputs(&place.path("run"));
    place.calostream(&["run", "-q", "run.yaml", "-w", "3", "--out", "three"]).code(0);
    assert_same("three workers", &one, &outputs(&place.path("three")));
}

#[test]
fn what_cannot_be_had_is_refused_where_it_was_asked_for() {
    let place = Place::new();
    let wrong = PIPELINE
        .replace("from: hot\n    write_parquet: {}", "from: hot\n    write_parquet: { events_per_file: 38 }")
        .replace("events_per_file: 50", "events_per_file: 5000000")
        .replace("  hot:", "  early:\n    from: made\n    write_arrow: { events_per_file: 10 }\n  hot:");
    place.write("run.yaml", &wrong);
    let said = place.calostream(&["check", "run.yaml"]).code(2);
    let (few, more) = said.err.split_once("run.yaml:28:78: error: 5,000,000 events take about ").expect("too many");
    assert_eq!(
        few,
        "run.yaml:19:37: error: there is no new order above `early` that could be cut into files of so many events
   |
19 |     write_arrow: { events_per_file: 10 }
   |                                     ^^
  help: put a `premix` above it; else the files are cut as those that are read

run.yaml:25:39: error: `train` has files of 37 events, of the same order
   |
25 |     write_parquet: { events_per_file: 38 }
   |                                       ^^
  help: one order is cut in one way; ask for as many, or leave it out here

"
    );
    assert!(more.contains(" GiB while they are put in order\n") && more.contains("  help: at most 1"), "{more}");
    place.write("none.yaml", &PIPELINE.replace("events_per_file: 37", "events_per_file: 0"));
    let said = place.calostream(&["check", "none.yaml"]).code(2);
    assert!(
        said.err.contains("error: a file needs at least one event\n") && said.err.ends_with("2 mistakes in none.yaml\n"),
        "{}",
        said.err
    );
}
