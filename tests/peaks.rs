//! Pairs and the Z peak, from a file of electrons to the improvement, as a user does it; numpy counts the masses.

mod common;

use common::{Place, assert_same, outputs, repository};
use oracle::python;

/// Two files of electrons of Z bosons: most events with two, some with one or three; the regressed energy is the better one.
const ELECTRONS: &str = "
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
rng = np.random.default_rng(5)
number = 0
for file in range(2):
    n = 12000
    m = 91.1876 + 2.4952 / 2 * rng.standard_cauchy(n)
    keep = (m > 40) & (m < 150)
    m = m[keep]; n = len(m)
    eta, phi = rng.normal(size=(n, 2)), rng.uniform(-np.pi, np.pi, (n, 2))
    opening = np.cosh(eta[:, 0] - eta[:, 1]) - np.cos(phi[:, 0] - phi[:, 1])
    share = rng.uniform(0.8, 1.25, n)
    pt = np.stack([share, 1 / share], 1) * (m / np.sqrt(2 * opening))[:, None]
    common = 1 + 0.02 * rng.normal(size=(n, 2))
    regressed = pt * common * (1 + 0.010 * rng.normal(size=(n, 2)))
    measured = pt * common * (1 + 0.025 * rng.normal(size=(n, 2)))
    rows = []
    for i in range(n):
        number += 1
        electrons = [(number, measured[i, k], regressed[i, k], eta[i, k], phi[i, k], 2 * k - 1) for k in (0, 1)]
        if i % 50 == 0:
            electrons = electrons[:1]
        if i % 50 == 1:
            electrons.insert(1, (number, 0.1, 0.1, 0.0, 0.0, 1))
        rows += electrons
    columns = [np.array(c) for c in zip(*rows)]
    names = ['event_number', 'pt', 'pt_regressed', 'eta', 'phi', 'charge']
    columns = [c.astype(np.float32) if n != 'event_number' and n != 'charge' else c for n, c in zip(names, columns)]
    pq.write_table(pa.table(dict(zip(names, columns))), f'{sys.argv[1]}/electrons-{file}.parquet', row_group_size=5000)
";

/// The same pairs by numpy: counts of masses, and the labels.
const CHECK: &str = "
import csv, glob, json, sys, numpy as np, pyarrow.parquet as pq
data, run = sys.argv[1:]
masses, labels = {'pt': [], 'pt_regressed': []}, {}
for name in sorted(glob.glob(data + '/*.parquet')):
    rows = pq.read_table(name).to_pylist()
    # A unit is a run of row groups: an event that a border cuts apart makes no pair, and here there is one unit a file.
    events = {}
    for row in rows:
        events.setdefault(row['event_number'], []).append(row)
    for event, found in events.items():
        found = sorted(found, key=lambda r: -r['pt'])[:2]
        if len(found) < 2 or found[0]['charge'] * found[1]['charge'] > 0:
            continue
        a, b = found
        opening = np.cosh(a['eta'] - b['eta']) - np.cos(a['phi'] - b['phi'])
        for of in masses:
            masses[of].append(np.sqrt(2 * a[of] * b[of] * opening))
        if 86 < masses['pt'][-1] < 97:
            labels[event] = 91.1876**2 / (2 * b['pt'] * opening)
for of, m in masses.items():
    stored = json.load(open(f'{run}/peak/mass-{of}.json'))
    counts = np.array(stored['storage']['values'])[1:-1]
    assert (counts == np.histogram(m, np.linspace(66, 116, 101))[0]).all(), of
table = pq.read_table(glob.glob(run + '/labels/*.parquet')[0])
found = dict(zip(table['event_number'].to_pylist(), table['label_1'].to_pylist()))
assert found.keys() == labels.keys()
assert all(abs(found[e] / labels[e] - 1) < 1e-5 for e in labels)
rows = {r['of']: r for r in csv.DictReader(open(run + '/peak/peak.csv'))}
better, worse = rows['pt_regressed'], rows['pt']
assert float(better['sigma']) < float(worse['sigma']) and worse['improvement'] == ''
value, error = float(better['improvement']), float(better['improvement_error'])
# Widths of the mass: the relative ones of one energy over the root of two.
truth = 1 - np.hypot(0.02, 0.010) / np.hypot(0.02, 0.025)
print(0.004 < error < 0.03, abs(value - truth) < 4 * error)
";

#[test]
fn the_z_peak_from_electrons_to_the_improvement() {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).expect("made");
    python(ELECTRONS, &[&place.path("data")]);
    let pipeline = repository().join("pipelines/z-peak.yaml").display().to_string();
    let run = |out: &str, workers: &str| {
        place.calostream(&["run", &pipeline, "--set", "data=data", "--set", &format!("out={out}"), "-w", workers]).code(0)
    };
    let said = run("one", "1");
    assert!(said.out.contains("pairs: 474 events with fewer than two particles cut"), "{}", said.out);
    run("three", "3");
    assert_same("three workers", &outputs(&place.path("one")), &outputs(&place.path("three")));
    assert_eq!(python(CHECK, &[&place.path("data"), &place.path("one")]), "True True\n");
    assert!(place.read("one/peak/mass.svg").contains("pt_regressed: σ = "));
}

#[test]
fn pairs_of_mixed_rows_are_refused() {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).expect("made");
    python(ELECTRONS, &[&place.path("data")]);
    place.write(
        "mixed.yaml",
        "pipeline: mixed\nout: run\nsteps:\n  electrons:\n    read_parquet: { files: \"data/*.parquet\" }\n  mixed:\n    from: electrons\n    premix: {}\n  \
         pairs:\n    from: mixed\n    pair: { by: [event_number], columns: [pt], leading: pt }\n  \
         out:\n    from: pairs\n    write_parquet: {}\n",
    );
    let said = place.calostream(&["run", "mixed.yaml"]);
    assert_ne!(said.code, Some(0), "{}", said.out);
    assert!(said.err.contains("are not neighbours"), "{}", said.err);
}
