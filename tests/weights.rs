//! Weights of samples reach every statistic, whatever lies between; numpy does the sums.

mod common;

use common::{Place, assert_same, outputs};
use oracle::python;

const MAKE: &str = "
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
rng = np.random.default_rng(4)
for name, n, at in (('signal', 3000, 1.0), ('background', 5000, -1.0)):
    t = {'score': 1 / (1 + np.exp(-rng.normal(at, 1, n))), 'x': rng.normal(0, 0.1, n), 'gen': rng.choice([1.0, -0.2, 2.0], n), 'other': rng.normal(size=n)}
    pq.write_table(pa.table(t), f'{sys.argv[1]}/{name}.parquet')
";

const PIPELINE: &str = "
pipeline: weights
params: { out: run }
out: \"${out}\"
steps:
  rows:
    read_parquet:
      samples: { signal: signal.parquet, background: background.parquet }
      weights:
        samples: { signal: 0.5, background: { cross_section: 20, luminosity: 36.1, sum_of_weights: 4000 } }
        times: gen
  # Neither a choice of columns nor a mix loses them.
  few: { from: rows, select: [score, x, gen] }
  mixed: { from: few, premix: {} }
  derived: { from: mixed, derive: { y: x + 1 } }
  spectrum: { from: derived, histogram: { axes: [{ column: x, range: [-0.5, 0.5], bins: 10 }], for_each: sample } }
  unweighted: { from: derived, histogram: { axes: [{ column: x, range: [-0.5, 0.5], bins: 10 }], for_each: sample, weight: none } }
  by_generator: { from: derived, resolution: { of: y, for_each: sample, weight: gen } }
  spread: { from: derived, resolution: { of: y, for_each: sample } }
  curve: { from: derived, roc: { signal: signal, scores: { score: score } } }
  passed: { from: derived, efficiency: { cut: score > 0.5, for_each: sample } }
  models: { from: derived, scan: { models: { one: { errors: x } } } }
  written: { from: derived, write_parquet: { columns: [x] } }
";

const CHECK: &str = "
import csv, glob, sys, numpy as np, pyarrow.parquet as pq
from sklearn.metrics import roc_auc_score
data, run = sys.argv[1:]
t = {name: {c: np.array(v) for c, v in pq.read_table(f'{data}/{name}.parquet').to_pydict().items()} for name in ('signal', 'background')}
factor = {'signal': 0.5, 'background': 20 * 36.1 / 4000}
rows = lambda step: list(csv.DictReader(open(f'{run}/{step}/{step}.csv')))
for name, of in t.items():
    w = factor[name] * of['gen']
    mine = [r for r in rows('spectrum') if r['sample'] == name]
    h = np.histogram(of['x'], np.linspace(-.5, .5, 11), weights=w)[0]
    np.testing.assert_allclose([float(r['content']) for r in mine][1:-1], h, rtol=1e-9)
    mine = [r for r in rows('unweighted') if r['sample'] == name]
    assert sum(float(r['content']) for r in mine) == len(w)
    n = w.sum()**2 / (w**2).sum()
    [mine] = [r for r in rows('spread') if r['sample'] == name]
    mean = np.average(of['x'] + 1, weights=w)
    np.testing.assert_allclose([float(mine['n_effective']), float(mine['bias'])], [n, mean], rtol=1e-9)
    [other] = [r for r in rows('by_generator') if r['sample'] == name]
    np.testing.assert_allclose(float(other['bias']), mean, rtol=1e-9)
    [mine] = [r for r in rows('passed') if r['sample'] == name]
    np.testing.assert_allclose(float(mine['efficiency']), w[of['score'] > .5].sum() / w.sum(), rtol=1e-9)
x, w = (np.concatenate([f(name) for name in t]) for f in (lambda n: t[n]['x'], lambda n: factor[n] * t[n]['gen']))
np.testing.assert_allclose(float(rows('models')[0]['bias']), np.average(x, weights=w), rtol=1e-9)
written = pq.read_table(glob.glob(run + '/written/*.parquet'))
np.testing.assert_allclose(sorted(written['weight'].to_pylist()), sorted(w))
truth, score = np.concatenate([np.ones(3000), np.zeros(5000)]), np.concatenate([t[n]['score'] for n in t])
auc = float(rows('curve')[0]['auc'])
wins = 0; order = np.argsort(score); below = 0
for i in order:
    if truth[i]: wins += w[i] * below
    else: below += w[i]
np.testing.assert_allclose(auc, wins / w[truth == 1].sum() / w[truth == 0].sum(), atol=3e-3)
print('right')
";

#[test]
fn weights_of_samples_reach_every_statistic() {
    let place = Place::new();
    python(MAKE, &[&place.path(".")]);
    place.write("p.yaml", PIPELINE);
    place.calostream(&["run", "-q", "p.yaml", "-w", "1"]).code(0);
    assert_eq!(python(CHECK, &[&place.path("."), &place.path("run")]), "right\n");
    place.calostream(&["run", "-q", "p.yaml", "-w", "3", "--set", "out=three"]).code(0);
    assert_same("three workers", &outputs(&place.path("run")), &outputs(&place.path("three")));
    // What was written keeps them: they are found again without a word.
    place.write(
        "again.yaml",
        "pipeline: again\nout: again\nsteps:\n  rows: { read_parquet: { files: run/written/*.parquet } }\n  spread: { from: rows, resolution: { of: x } }\n",
    );
    place.calostream(&["run", "-q", "again.yaml"]).code(0);
    let of = |text: String, column: &str| {
        let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        let at = lines.next().and_then(|header| header.iter().position(|name| name == column)).expect("a column");
        lines.next().expect("a row")[at].clone()
    };
    assert_eq!(of(place.read("again/spread/spread.csv"), "bias"), of(place.read("run/models/models.csv"), "bias"));
}

#[test]
fn images_have_weights_too() {
    let place = Place::new();
    place.showers(60, 30, 1);
    place.write(
        "p.yaml",
        "pipeline: images\nout: run\nsteps:\n  events:\n    read_hdf5:\n      schema: lcd-v1\n      \
         samples: { electron: data/Ele*.h5, photon: data/Gamma*.h5 }\n      \
         weights: { samples: { electron: 2, photon: 0.25 }, times: energy }\n  \
         spectrum: { from: events, histogram: { axes: [{ column: energy, range: [0, 600], bins: 1 }], for_each: sample } }\n  \
         plain: { from: events, histogram: { axes: [{ column: energy, range: [0, 600], bins: 1 }], for_each: sample, profile: energy, weight: none } }\n",
    );
    place.calostream(&["run", "-q", "p.yaml"]).code(0);
    let contents = |text: String, column: usize| -> Vec<f64> {
        let rows = text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        rows.filter(|row| row[1] == "0.0").map(|row| row[column].parse().expect("a number")).collect()
    };
    let (weighted, counts) =
        (contents(place.read("run/spectrum/spectrum.csv"), 4), contents(place.read("run/plain/plain.csv"), 4));
    let means = contents(place.read("run/plain/plain.csv"), 6);
    for (i, factor) in [2.0, 0.25].into_iter().enumerate() {
        assert!(
            (weighted[i] - factor * counts[i] * means[i]).abs() < 1e-9 * weighted[i].abs(),
            "{weighted:?} {counts:?} {means:?}"
        );
    }
}

#[test]
fn wrong_weights_have_places() {
    let place = Place::new();
    python(MAKE, &[&place.path(".")]);
    place.write(
        "p.yaml",
        &PIPELINE.replace("{ signal: 0.5, background", "{ signl: 0.5, background").replace("times: gen", "times: gne"),
    );
    let said = place.calostream(&["check", "p.yaml"]).code(2).err;
    for wanted in ["no sample `signl`", "did you mean `signal`?", "no weight of signal", "no column `gne`"] {
        assert!(said.contains(wanted), "{said}");
    }
}
