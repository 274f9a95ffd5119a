//! Real files and the readers that people use: h5py says what is in the inputs, pyarrow, awkward and hist open the outputs.
//!
//! Tests over real files need `CALOSTREAM_CORPUS`, the folder that holds them, and are left out where it is not set.

mod common;

use common::{Place, repository};
use oracle::python;
use std::path::{Path, PathBuf};

fn corpus() -> Option<PathBuf> {
    let corpus = std::env::var_os("CALOSTREAM_CORPUS").map(PathBuf::from);
    if corpus.is_none() {
        println!("left out: CALOSTREAM_CORPUS is not set");
    }
    corpus
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Runs the main pipeline over a folder of LCD files into `run`.
fn resolution(place: &Place, data: &Path) {
    let model = |name: &str| shown(&repository().join("models").join(name));
    let set = [
        format!("data={}", shown(data)),
        "out=run".to_owned(),
        format!("energy_model={}", model("energy.onnx")),
        format!("linear_model={}", model("linear.onnx")),
        format!("classifier={}", model("classes.onnx")),
    ];
    let pipeline = shown(&repository().join("pipelines/lcd-energy-resolution.yaml"));
    let mut args = vec!["run", "-q", pipeline.as_str()];
    set.iter().for_each(|s| args.extend(["--set", s]));
    place.calostream(&args).code(0);
}

#[test]
fn the_main_pipeline_runs_over_geant4_showers() {
    let Some(corpus) = corpus() else { return };
    let place = Place::new();
    resolution(&place, &corpus.join("geant4_lcd"));
    // What the pipeline says of itself: trained on electrons, photons comparable, pions off.
    let script = "
import csv, sys
of = {}
for row in csv.DictReader(open(sys.argv[1] + '/resolution/resolution.csv')):
    of.setdefault(row['sample'], []).append(abs(float(row['bias'])))
areas = {}
for row in csv.DictReader(open(sys.argv[1] + '/auc/auc.csv')):
    areas.setdefault(row['class'], []).append(float(row['auc']))
for name, found in areas.items():
    print(name, len(found), all(0.5 < area <= 1 for area in found))
mean = {sample: sum(v) / len(v) for sample, v in of.items()}
print(mean['electron'] < 0.05, mean['photon'] < 0.05, mean['pion'] > 0.2)";
    let said = python(script, &[&place.path("run")]);
    assert_eq!(said, "electron 11 True\nphoton 11 True\npi0 11 True\npion 11 True\nTrue True True\n");
}

#[test]
fn particles_are_identified_over_geant4_showers() {
    let Some(corpus) = corpus() else { return };
    let place = Place::new();
    let set = [
        format!("data={}", shown(&corpus.join("geant4_lcd"))),
        "out=run".to_owned(),
        format!("classifier={}", shown(&repository().join("models/classes.onnx"))),
    ];
    let pipeline = shown(&repository().join("pipelines/lcd-particle-identification.yaml"));
    let mut args = vec!["run", "-q", pipeline.as_str()];
    set.iter().for_each(|s| args.extend(["--set", s]));
    place.calostream(&args).code(0);
    // What different steps say of the same rows is the same.
    let script = "
import csv, sys
table = lambda step: list(csv.DictReader(open(f'{sys.argv[1]}/{step}/{step}.csv')))
whole = lambda step: [row for row in table(step) if not row['energy_low']]
confused, cut = whole('confused'), whole('electromagnetic')
rows = {row['sample']: int(row['n']) for row in cut}
print(all(sum(int(r['n']) for r in confused if r['truth'] == s) == n for s, n in rows.items()), min(rows.values()) > 0)
print(all(abs(float(r['efficiency']) - 0.9) < 0.05 for r in table('identified') if r['score'] == r['sample']))
loose, tight = ({row['sample']: float(row['efficiency']) for row in cut if row['cut'] == name} for name in ('loose', 'tight'))
print(all(loose[s] >= tight[s] for s in rows), loose['electron'] > 0.5 > loose['pion'])
network, = {(r['signal'], r['auc']) for r in whole('electrons') if r['score'] == 'network'}
pairs = [float(r['auc']) for r in table('pairs') if r['class'] == 'electron']
# Against all others it is the mean over the others, as all are as many.
print(int(network[0]) == rows['electron'], abs(float(network[1]) - sum(pairs) / 3) < 1e-9 or len(set(rows.values())) > 1)
gain = [r for r in whole('electrons') if r['score'] == 'network']
print(len(gain), all(float(r['gain_error']) > 0 for r in gain))";
    let said = python(script, &[&place.path("run")]);
    assert_eq!(said, "True True\nTrue\nTrue True\nTrue True\n3 True\n");
}

#[test]
fn waveforms_of_next_white_are_what_h5py_reads() {
    let Some(corpus) = corpus() else { return };
    let place = Place::new();
    let pipeline = shown(&repository().join("pipelines/next-white-waveforms.yaml"));
    let data = format!("data={}", shown(&corpus.join("next")));
    place.calostream(&["run", "-q", &pipeline, "--set", &data, "--set", "out=run"]).code(0);
    let script = "
import csv, hashlib, sys
import h5py, numpy as np, pyarrow.parquet as p
run, corpus = sys.argv[1:]
table = p.read_table(f'{run}/waveforms/part-00001.parquet')
name = 'next/6229_000_trg_type.h5'
known = {r[1]: r[4] for r in csv.reader(open(corpus + '/ORACLE_h5py_datasets.tsv'), delimiter='\\t') if r[0] == name}
def tensor(column):
    return table.column(column).combine_chunks().to_numpy_ndarray()
def hits(column, shape):
    images = np.zeros((table.num_rows, int(np.prod(shape))), '<i2')
    for image, row in zip(images, table.column(column).to_pylist()):
        for hit in row:
            assert hit['adc'] != 0
            image[hit['cell']] = hit['adc']
    return images.reshape(-1, *shape)
found = {'RD/pmtrwf': tensor('pmt'), 'RD/sipmrwf': hits('sipm', (1792, 1300)), 'Trigger/events': tensor('trigger_channels')}
with h5py.File(f'{corpus}/{name}') as f:
    for path, values in found.items():
        assert values.dtype == f[path].dtype and np.array_equal(values, f[path][()]), path
        assert hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest() == known[path], path
    members = {'event_number': ('Run/events', 'evt_number'), 'timestamp': ('Run/events', 'timestamp'), 'trigger_type': ('Trigger/trigger', 'trigger_type')}
    for column, (path, member) in members.items():
        assert table.column(column).to_pylist() == f[path][()][member].tolist(), column
    for step, path in {'pmt_channels': 'Sensors/DataPMT', 'sipm_channels': 'Sensors/DataSiPM'}.items():
        channels = p.read_table(f'{run}/{step}/part-00001.parquet')
        for column, member in {'channel': 'channel', 'sensor': 'sensorID'}.items():
            assert channels.column(column).to_pylist() == f[path][()][member].tolist(), (step, column)
print('equal')";
    assert_eq!(python(script, &[&place.path("run"), &corpus]), "equal\n");
}

#[test]
fn to_hdf5_and_back_changes_no_value() {
    let place = Place::new();
    let made = "pipeline: made\nout: made\nseed: 3\nsteps:\n  showers:\n    generate_showers: { events: 30, events_per_file: 10 }\n  \
                files:\n    from: showers\n    write_hdf5: { schema: lcd-v1, file: \"{sample}_{number}.h5\", chunk: 7 }\n  \
                direct:\n    from: showers\n    write_parquet: {}\n";
    let back = "pipeline: back\nout: back\nsteps:\n  events:\n    read_hdf5:\n      schema: lcd-v1\n      samples:\n        \
                electron: made/files/electron_*.h5\n        photon: made/files/photon_*.h5\n        pi0: made/files/pi0_*.h5\n        \
                pion: made/files/pion_*.h5\n  round:\n    from: events\n    write_parquet: {}\n";
    place.write("made.yaml", made);
    place.write("back.yaml", back);
    place.calostream(&["run", "-q", "made.yaml"]).code(0);
    place.calostream(&["run", "-q", "back.yaml"]).code(0);
    let script = "
import glob, sys
import pyarrow.parquet as p
def events(folder):
    rows = []
    for name in sorted(glob.glob(folder + '/*.parquet')):
        for row in p.read_table(name, columns=['sample', 'energy', 'pdg', 'ecal', 'hcal']).to_pylist():
            hits = [tuple((h['cell'], h['energy']) for h in row[image]) for image in ('ecal', 'hcal')]
            rows.append((row['sample'], row['energy'], row['pdg'], *hits))
    return sorted(rows)
direct, back = events(sys.argv[1]), events(sys.argv[2])
print(len(direct), direct == back, min(len(e[3]) for e in direct) > 10)";
    let said = python(script, &[&place.path("made/direct"), &place.path("back/round")]);
    assert_eq!(said, "120 True True\n");
}

#[test]
fn pyarrow_awkward_and_hist_open_what_the_demo_writes() {
    let place = Place::new();
    place.showers(30, 15, 1);
    resolution(&place, &place.path("data"));
    let script = "
import json, sys
import awkward as ak, hist, numpy as np, pyarrow.parquet as p
from uhi.io.json import object_hook
run = sys.argv[1]
part = run + '/training/part-00001.parquet'
table, events = p.read_table(part), ak.from_parquet(part)
assert table.num_rows == len(events) > 0
assert str(ak.type(events['ecal'])).split(' * ', 2)[1] == 'var', ak.type(events['ecal'])
assert events['ecal'].fields == ['cell', 'energy'] and int(ak.max(events['ecal', 'cell'])) < 25**3
total = ak.sum(events['ecal', 'energy'], axis=1)
assert np.allclose(total[0], sum(h['energy'] for h in table.column('ecal')[0].as_py()))
for step, name in {'errors': 'relative_error', 'predicted_against_true': 'energy-predicted_energy'}.items():
    h = hist.Hist(json.load(open(f'{run}/{step}/{name}.json'), object_hook=object_hook))
    rows = p.read_table(f'{run}/{step}/{step}.parquet').to_pylist()
    assert h.sum(flow=True).value == sum(r['content'] for r in rows) > 0, step
    print(step, h.ndim, [a.name for a in h.axes])";
    let said = python(script, &[&place.path("run")]);
    assert_eq!(said, "errors 2 ['class', 'relative_error']\npredicted_against_true 3 ['class', 'energy', 'predicted_energy']\n");
}

/// Runs the pipeline that merges over the folder `data`.
fn merge(place: &Place, out: &str) {
    let pipeline = shown(&repository().join("pipelines/merge-lcd.yaml"));
    let out = format!("out={out}");
    place.calostream(&["run", "-q", &pipeline, "--set", "data=data", "--set", &out]).code(0);
}

/// How the generators of the LCD analyses read: the particle from the file's name (`CaloDNN`, `NeuralNets/LoadData.py`), each
/// dataset by its key and a slice into an array that was made for its shape (`adlkit`), the images divided in place, column 1
/// of `target` (`RegressionLCD`, `3DGAN`); and of a premixed file the classes of `OneHot`.
const GENERATORS: &str = "
import glob, os, sys
import h5py, numpy as np
data, merged = sys.argv[1:]
particles = ['Ele', 'Pi0', 'ChPi', 'Gamma']
datasets = ['ECAL', 'HCAL', 'target']
for f in glob.glob(data + '/*.h5'):
    folder = os.path.join(data, 'V1', os.path.basename(f).split('_')[0])
    os.makedirs(folder, exist_ok=True)
    os.rename(f, os.path.join(folder, os.path.basename(f)))

def divide_files(search, fractions):
    samples = {}
    for f in sorted(glob.glob(search)):
        particle = os.path.basename(f).split('_')[0].replace('Escan', '')
        assert particle in particles, f
        samples.setdefault(particle, []).append((f, datasets, particle))
    out, first = [[] for _ in fractions], {p: 0 for p in samples}
    for p, files in samples.items():
        for j, fraction in enumerate(fractions):
            end = int(first[p] + round(len(files) * fraction))
            out[j] += files[first[p]:end]
            first[p] = end
    return out

def generator(samples, batch):
    shapes = [(batch, 25, 25, 25), (batch, 5, 5, 60), (batch, 2)]
    index = {p: i for i, p in enumerate(particles)}
    for f, keys, particle in samples:
        with h5py.File(f, 'r') as h:
            n = h[keys[0]].shape[0]
            assert all(h[k].shape[0] == n for k in h.keys())
            for start in range(0, n - batch + 1, batch):
                out = [np.zeros(s, 'float32') for s in shapes]
                for k, a in zip(keys, out):
                    a[:] = h[k][start:start + batch]
                one_hot = np.zeros((batch, len(particles)))
                one_hot[:, index[particle]] = 1.
                yield out + [one_hot]

def normalise(arrays, norms):
    for a, norm in zip(arrays, norms):
        a /= norm
    return arrays

train, test = divide_files(data + '/V1/*/*.h5', [.5, .5])
assert len(train) == len(test) == 4, (len(train), len(test))
pdg = {'Ele': 11, 'Gamma': 22, 'Pi0': 111, 'ChPi': 211}
seen = 0
for ecal, hcal, target, one_hot in generator(train + test, 5):
    number = [pdg[particles[k]] for k in one_hot.argmax(1)]
    assert (np.abs(target[:, 0]) == number).all() and (target[:, 1] > 9.99).all() and (target[:, 1] < 101).all()
    (xe, xh), energy = normalise([ecal, hcal], [150., 150.]), target[:, 1:]
    assert energy.shape == (5, 1) and (xe.sum((1, 2, 3)) + xh.sum((1, 2, 3)) > 0).all()
    seen += 5
assert seen == 120

# As a GAN takes them: whole datasets, cells below 1e-6 to zero, energies in units of 100.
with h5py.File(train[0][0], 'r') as d:
    x, y = np.array(d.get('ECAL')), np.array(d.get('target'))[:, 1]
    x[x < 1e-6] = 0
    x = np.expand_dims(x, axis=-1).astype(np.float32)
    y = y.astype(np.float32) / 100.
    assert x.shape == (len(y), 25, 25, 25, 1) and (y < 1.01).all()
    # Shuffled indices, sorted as h5py wants them.
    some = np.sort(np.random.default_rng(1).permutation(len(y))[:7])
    assert (d['ECAL'][some] == np.array(d['ECAL'])[some]).all()
    assert d['ECAL'].dtype == d['HCAL'].dtype == 'float32' and d['target'].dtype == 'float64' and d['target'].shape == (len(y), 2)

# A premixed file by its keys, 8 at a time; the energy as everybody takes it, and as the notebooks do (p_x, for a gun along x).
f, n = h5py.File(merged, 'r'), 0
for start in range(0, f['ECAL'].shape[0], 8):
    d = normalise([f[k][start:start + 8] for k in ('ECAL', 'HCAL', 'OneHot')], [150., 150., 1.])
    target, one_hot = f['target'][start:start + 8], d[2]
    assert (one_hot.sum(1) == 1).all() and (one_hot.argmax(1) == f['index'][start:start + 8]).all()
    names = {0: 'Pi0', 1: 'Ele', 2: 'ChPi', 3: 'Gamma'}
    assert [pdg[names[k]] for k in one_hot.argmax(1)] == np.abs(target[:, 0, 0]).tolist()
    assert np.allclose(target[:, :, 2].flatten(), target[:, :, 1].flatten(), rtol=1e-3)
    n += len(target)
# No rows of zeros at the end, which the old files have.
assert n == len(f['target']) and (f['target'][-1, 0, 1] > 9.99) and f['ECAL'][-1].any()
print('read')";

#[test]
fn the_generators_of_the_lcd_analyses_read_what_is_written() {
    let place = Place::new();
    place.showers(30, 15, 1);
    merge(&place, "merged");
    let merged = place.path("merged/train/LCD-Merged-Train.h5");
    assert_eq!(python(GENERATORS, &[&place.path("data"), &merged]), "read\n");
}

/// The Python of `docs/reading.md`, block by block, and what its variables must then be.
#[test]
fn the_page_on_reading_runs_as_it_stands() {
    let place = Place::new();
    place.showers(30, 15, 1);
    place.write("run.yaml", common::STREAMING);
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    let page = std::fs::read_to_string(common::repository().join("docs/reading.md")).expect("the page");
    let blocks: Vec<&str> = page.split("```python\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 6, "pyarrow, awkward, polars, duckdb, h5py and hist");
    merge(&place, "merged");
    let check = "
import glob, h5py
want = {}
for path in glob.glob(sys.argv[2] + '/*.h5'):
    sample = 'electron' if '/Ele' in path else 'photon'
    if '/Ele' in path or '/Gamma' in path:
        with h5py.File(path) as f:
            want.update({(sample, e): i for e, i in zip(f['target'][:, 1], f['ECAL'][:])})
rows = list(zip(table['sample'].to_pylist(), table['energy'].to_pylist()))
assert len(rows) == len(want) == 60
assert all((image[i] == want[row]).all() for i, row in enumerate(rows))
assert len(events) == 60 and np.allclose(np.sort(longitudinal), np.sort(image.reshape(60, -1, 25)[:, :, 12].sum(1)), rtol=1e-5)
total = {row: want[row].sum(dtype='f8') for row in rows}
high = {row: t for row, t in total.items() if row[1] > 50}
assert sums.height == len(high) > 0
assert all(np.isclose(d, total[s, e], rtol=1e-5) for s, e, d in sums.iter_rows())
for sample, n, deposit in means:
    of = [t for row, t in high.items() if row[0] == sample]
    assert n == len(of) and np.isclose(deposit, np.mean(of), rtol=1e-5)
assert len(means) == 2 and spectrum.sum(flow=True).value == 60
assert classes == ['Pi0', 'Ele', 'ChPi', 'Gamma']
source, n, hot = batches(data, 10), len(data['index']), 0
for step in range(2 * -(-n // 10)):
    (ecal, hcal), y = next(source)
    assert ecal.shape == (len(y), 25, 25, 25) and hcal.shape == (len(y), 5, 5, 60) and (y.sum(1) == 1).all()
    hot += y.sum(0)
# Each event twice, in equal shares.
assert n > 60 and (hot == 2 * np.bincount(data['index'])).all() and len(set(hot)) == 1, (n, hot)
for k, (energy, i) in enumerate(zip(data['target'][:, 0, 1], data['index'])):
    if i in (1, 3):
        assert (data['ECAL'][k] == want[{1: 'electron', 3: 'photon'}[i], energy]).all()
print('as it stands')";
    // Showers of this test end at 100 GeV.
    let script = format!(
        "import sys\nparts, histogram = sys.argv[1] + '/parts', sys.argv[1] + '/energies/energy.json'\n\
         merged = sys.argv[1] + '/../merged/train/LCD-Merged-Train.h5'\n{}\n{check}",
        blocks.concat().replace("> 100", "> 50")
    );
    assert_eq!(python(&script, &[&place.path("run"), &place.path("data")]), "as it stands\n");
}
