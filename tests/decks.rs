//! The tables of the analyses in pipelines/, each from made data to the numbers, as a user makes them; scikit-learn, numpy, scipy and ONNX
//! Runtime say what the numbers are. docs/analyses.md lists the tables.

mod common;

use common::{Place, assert_same, outputs, repository};
use oracle::python;
use std::path::Path;

/// Runs a program of examples/ with these words.
fn example(name: &str, words: &[&str]) {
    let run = "import runpy, sys; sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0].rsplit('/', 1)[0]); runpy.run_path(sys.argv[0], run_name='__main__')";
    let program = repository().join("examples").join(name);
    let words = [program.as_path()].into_iter().chain(words.iter().map(Path::new));
    python(run, &words.collect::<Vec<_>>());
}

/// Runs a pipeline with one worker into `one` and with three into `three`, which must give the same bytes.
fn run(place: &Place, pipeline: &str, settings: &[&str]) {
    let pipeline = repository().join("pipelines").join(pipeline).display().to_string();
    for (out, workers) in [("out=one", "1"), ("out=three", "3")] {
        let mut words = vec!["run", "-q", pipeline.as_str(), "-w", workers, "--set", out];
        settings.iter().for_each(|setting| words.extend(["--set", setting]));
        place.calostream(&words).code(0);
    }
    assert_same("three workers", &outputs(&place.path("one")), &outputs(&place.path("three")));
}

/// So many showers of each particle from 10 to 510 GeV in `data/files`.
fn showers(place: &Place, events: u32) {
    let pipeline = repository().join("pipelines/make-showers.yaml").display().to_string();
    place.calostream(&["run", "-q", &pipeline, "--set", "out=data", "--set", &format!("events={events}")]).code(0);
}

/// What all checks begin with.
const TOOLS: &str = "
import csv, glob, sys, h5py, numpy as np, onnxruntime
from sklearn.metrics import roc_auc_score, roc_curve
data, out = sys.argv[1:3]
def table(step):
    return list(csv.DictReader(open(f'{out}/{step}/{step}.csv')))
def of(row, *names):
    return [float(row[name]) if row[name] else None for name in names]
def near(found, wanted, slack, what=''):
    assert abs(found - wanted) <= slack, (what, found, wanted, slack)
def model(path, **inputs):
    return np.concatenate([p for i in range(0, len(next(iter(inputs.values()))), 64)
        for p in onnxruntime.InferenceSession(path).run(None, {k: v[i:i+64].astype(np.float32) for k, v in inputs.items()})])
def contest(row, truth, score, weight=None):
    '''A row of a roc table against scikit-learn: the area, and what stands at the working point.'''
    near(float(row['auc']), roc_auc_score(truth, score, sample_weight=weight), float(row['ladder_error']) + 1e-9, 'area')
    fpr, tpr, _ = roc_curve(truth, score, sample_weight=weight, drop_intermediate=False)
    at = float(row['at'])
    slack = float(row['point_ladder_error']) + 2e-3
    if row['fixed'] == 'background_efficiency':
        value = np.interp(at + 1e-12, fpr, tpr)
        near(float(row['signal_efficiency']), value, slack, 'signal')
    else:
        # Where the curve is level there, the least background that reaches it.
        value = np.interp(at - 1e-12, tpr, fpr)
        near(float(row['background_efficiency']), value, slack, 'background')
    return value
";

fn checked(place: &Place, check: &str) {
    let said = python(&format!("{TOOLS}{check}\nprint('right')"), &[&place.path("data"), &place.path("one")]);
    assert_eq!(said, "right\n");
}

#[test]
fn electrons_of_cms() {
    let place = Place::new();
    example("make_electrons.py", &[&place.path("data").display().to_string(), "--events", "6000"]);
    run(&place, "eml-electron-identification.yaml", &["data=data", "cnn=data/cnn.onnx"]);
    checked(
        &place,
        "
files = [np.load(name) for name in sorted(glob.glob(data + '/*.npz'))]
image, inputs, known = (np.concatenate([f[k] for f in files]) for k in ('x_data', 'mva_data', 'y_data'))
match, pt, eta, mva = known[:, 0], known[:, 1], known[:, 2], known[:, 3].astype(float)
kept = (pt > 5) & (pt < 2000) & (image[:, 7, 14] > 1e-6) & (np.abs(eta) < 1.4)
image, inputs, match, pt, eta, mva = (a[kept] for a in (image, inputs, match, pt, eta, mva))
truth = match == 2
scores = {'CNN': model(data + '/cnn.onnx', image=image, inputs=inputs)[:, 0], 'BDT': (mva + 1) / 2}
# The weights of the analysis: counts of signal over counts of background, in cells of pt and eta.
edges = [5, *range(7, 78, 2), *range(80, 200, 5), *range(200, 300, 10), 300, 400, 500, 1000, 4000], np.linspace(-1.4, 1.4, 20)
cell = lambda who: np.histogram2d(pt[who], eta[who], edges)[0]
with np.errstate(divide='ignore', invalid='ignore'):
    ratio = np.nan_to_num(cell(truth) / cell(~truth), posinf=0)
place = [np.clip(np.searchsorted(e, x.astype(float), 'right') - 1, 0, len(e) - 2) for e, x in zip(edges, (pt, eta))]
weight = np.where(truth, 1, ratio[tuple(place)])
for step, weights in (('pt_before', np.ones(len(pt))), ('pt_after', weight)):
    bins = [5, 10, 15, 20, 25, 30, 40, 50, 70, 100, 150]
    for name, who in (('signal', truth), ('background', ~truth)):
        found = [float(r['content']) for r in table(step) if r['sample'] == name][1:-1]
        np.testing.assert_allclose(found, np.histogram(pt[who], bins, weights=weights[who])[0], rtol=1e-9, err_msg=step)
rows = table('by_pt_and_eta')
assert len(rows) == 2 * 2 * 5
for row in rows:
    here = (np.abs(eta) < 0.8) == (row['region'] == 'inner')
    if row['pt_low']:
        here &= (pt >= float(row['pt_low'])) & (pt < float(row['pt_high']))
    assert (int(row['signal']), int(row['background'])) == ((truth & here).sum(), (~truth & here).sum())
    contest(row, truth[here], scores[row['score']][here], weight[here])
rng, errors = np.random.default_rng(1), []
for step, column, x, bins in (('by_pt', 'pt', pt, [5, 15, 25, 45, 2000]), ('by_eta', 'abs_eta', np.abs(eta), [0, .4, .8, 1.4])):
    rows = table(step)
    assert len(rows) == 2 * len(bins) * 2 and {r['score'] for r in rows} == {'CNN', 'BDT'}
    assert [of(r, column + '_low')[0] for r in rows if r['score'] == 'CNN'][2::2] == bins[:-1]
    for low, high in [(None, None), *zip(bins, bins[1:])]:
        here = np.ones(len(x), bool) if low is None else (x >= low) & (x < high)
        for at in (0.1, 0.2):
            mine = {r['score']: r for r in rows if of(r, column + '_low')[0] == low and float(r['at']) == at}
            s = {name: contest(row, truth[here], scores[name][here], weight[here]) for name, row in mine.items()}
            gain, error = of(mine['CNN'], 'relative_gain', 'relative_gain_error')
            slack = sum(float(r['point_ladder_error']) + 2e-3 for r in mine.values()) / s['BDT'] * 2
            near(gain, s['CNN'] / s['BDT'] - 1, slack, 'gain')
            assert mine['BDT']['relative_gain'] == '' and mine['CNN']['over'] == 'BDT'
            # The bootstrap by numpy: events are drawn again, both scores together.
            played = []
            for _ in range(60 if step == 'by_pt' else 0):
                n = rng.poisson(1, here.sum())
                eff = {}
                for name in s:
                    fpr, tpr, _ = roc_curve(truth[here], scores[name][here], sample_weight=n * weight[here], drop_intermediate=False)
                    eff[name] = np.interp(at, fpr, tpr)
                played.append(eff['CNN'] / eff['BDT'] - 1)
            errors += [error / np.std(played)] if played else []
assert 0.8 < np.mean(errors) < 1.25 and 0.5 < min(errors) and max(errors) < 2, errors
",
    );
    let plot = place.read("one/pt_after/pt.svg");
    assert!(plot.contains(">/ signal</text>") && plot.contains("background / signal"), "the ratio after the weights");
}

#[test]
fn particles_of_lariat() {
    let place = Place::new();
    example("make_lartpc.py", &[&place.path("data").display().to_string(), "--events", "8"]);
    run(&place, "lariat-particle-identification.yaml", &["data=data", "model=data/network.onnx", "pions=0.7"]);
    checked(
        &place,
        "
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix
names = ['pion', 'kaon', 'muon', 'electron', 'photon']
files = {'pion': ['pionPlus', 'pionMinus'], 'kaon': ['kaonPlus', 'kaonMinus'], 'muon': ['muon', 'antimuon'], 'electron': ['electron', 'antielectron'], 'photon': ['photon']}
truth, scores, ranged = [], [], []
for number, name in enumerate(names):
    for file in files[name]:
        with h5py.File(f'{data}/{file}_0.2d.h5') as f:
            kept = f['Energy'][:] > 0.61
            scores.append(model(data + '/network.onnx', image=f['images'][:][kept]))
            ranged.append(1 / (1 + np.abs(f['Track_length'][:][kept].astype(float) / (65 * f['Energy'][:][kept].astype(float)) - 1)))
            truth.append(np.full(kept.sum(), number))
truth, scores, ranged = (np.concatenate(a) for a in (truth, scores, ranged))
rows = table('as_pions')
assert [(r['score'], r['against']) for r in rows] == [(s, a) for s in ('network', 'range') for a in names[1:]]
for row in rows:
    here = (truth == 0) | (truth == names.index(row['against']))
    contest(row, truth[here] == 0, {'network': scores[:, 0], 'range': ranged}[row['score']][here])
    low, value, high = of(row, 'background_efficiency_low', 'background_efficiency', 'background_efficiency_high')
    assert float(row['signal_efficiency']) == 0.7 and low <= value <= high
rows = table('matrix')
assert len(rows) == 25
for row in rows:
    s, who = scores[:, names.index(row['score'])].astype(float), truth == names.index(row['sample'])
    passed, n = int((s[who] >= float(row['threshold'])).sum()), int(who.sum())
    assert (int(row['passed']), int(row['n'])) == (passed, n), row
    wilson = binomtest(passed, n).proportion_ci(0.6826894921370859, 'wilson')
    np.testing.assert_allclose(of(row, 'efficiency', 'efficiency_low', 'efficiency_high'), [passed / n, *wilson], atol=1e-9)
    if row['score'] == row['sample']:
        near(passed / n, 0.7, 1.5 / n, 'the efficiency that was asked for')
found = np.array([int(r['n']) for r in table('confused')]).reshape(5, 5)
assert (found == confusion_matrix(truth, scores.argmax(1))).all()
",
    );
}

#[test]
fn tracks_of_next() {
    let place = Place::new();
    example("make_tracks.py", &[&place.path("data").display().to_string(), "--events", "150", "--box", "80"]);
    run(&place, "next-signal-efficiency.yaml", &["data=data", "fine=data/v2x2x2.onnx", "coarse=data/v10x10x5.onnx"]);
    checked(
        &place,
        "
auc = {}
for step, name in (('voxels_2x2x2', 'v2x2x2'), ('voxels_10x10x5', 'v10x10x5')):
    images = [h5py.File(glob.glob(f'{data}/dnn_NEXT100_{kind}_{name}_*.h5')[0])['3DImages'][:] for kind in ('0vbb_si', 'Bi214_bg')]
    score = np.concatenate([model(f'{data}/{name}.onnx', voxels=i)[:, 0] for i in images])
    truth = np.repeat([True, False], [len(i) for i in images])
    rows = table(step)
    assert [(r['fixed'], float(r['at'])) for r in rows] == [('background_efficiency', .047), ('background_efficiency', .094), ('signal_efficiency', .766), ('signal_efficiency', .862)]
    for row in rows:
        value = contest(row, truth, score)
        if row['fixed'] == 'signal_efficiency':
            near(float(row['rejection']), 1 / value, 0.02 / value, 'rejection')
        else:
            low, high = of(row, 'signal_efficiency_low', 'signal_efficiency_high')
            # At least as wide as the binomial interval of what passes.
            assert low < value < high and high - low > 1.8 * np.sqrt(value * (1 - value) / 150)
    auc[name] = float(rows[0]['auc'])
assert auc['v2x2x2'] > auc['v10x10x5'], auc
",
    );
}

#[test]
fn energies_of_atlas() {
    let place = Place::new();
    example("make_egamma.py", &[&place.path("data").display().to_string(), "--events", "3000"]);
    run(&place, "deepcalo-energy.yaml", &["data=data", "model=data/energy.onnx"]);
    checked(
        &place,
        "
import json, pyarrow.parquet as pq
with h5py.File(data + '/egamma.h5') as f:
    d = {k: v[:] for k, v in f['test'].items()}
truth, reco = d['p_truth_E'].astype(float), d['p_e'].astype(float)
kept = (d['mcChannelNumber'] == 361106) & (np.abs(reco / truth - 1) <= 0.5)
d = {k: v[kept] for k, v in d.items()}
truth, reco = truth[kept], reco[kept]
network = model(data + '/energy.onnx', eta=d['p_eta'], **{f'em_barrel_{i}': d[f'em_barrel_Lr{i}'] for i in range(4)})[:, 0].astype(float)
eta = d['p_eta'].astype(float)
ratio = {'network': network / truth, 'reference': reco / truth}
def widths(x):
    p = np.percentile(x, [25, 75, 2.5, 97.5], method='inverted_cdf')
    return np.array([(p[1] - p[0]) / 1.349, (p[3] - p[2]) / 2])
rng = np.random.default_rng(1)
errors = []
for step, column, x, edges in (('by_eta', 'abs_eta', np.abs(eta), [0, .3, .6, .8, 1, 1.37]), ('by_et', 'et', truth / np.cosh(eta), [20, 30, 40, 50, 60, 80])):
    rows = table(step)
    assert [(r['quantity'], float(r[column + '_low'])) for r in rows] == [(q, e) for q in ratio for e in edges[:-1]]
    for row in rows:
        here = (x >= float(row[column + '_low'])) & (x < float(row[column + '_high']))
        assert int(row['n']) == here.sum()
        own, other = ratio[row['quantity']][here], ratio['reference'][here]
        near(float(row['resolution']), own.std(), 1e-6, 'resolution')
        near(float(row['bias']), own.mean(), 1e-6, 'mean')
        near(float(row['eiqr']), widths(own)[0], float(row['eiqr_ladder_error']) + 1e-6, 'eIQR')
        if row['quantity'] == 'reference':
            assert row['reiqr'] == ''
            continue
        gain = 1 - widths(own) / widths(other)
        near(float(row['reiqr']), gain[0], float(row['reiqr_ladder_error']) + 1e-5, 'reIQR')
        near(float(row['reiqr95']), gain[1], float(row['reiqr95_ladder_error']) + 1e-5, 'reIQR95')
        assert gain[0] > 0, 'the network is better'
        n = here.sum()
        drawn = [rng.integers(0, n, n) for _ in range(100)]
        errors.append(float(row['reiqr_error']) / np.std([1 - widths(own[i])[0] / widths(other[i])[0] for i in drawn]))
assert 0.8 < np.mean(errors) < 1.25 and 0.5 < min(errors) and max(errors) < 2, errors
found = json.load(open(out + '/predicted/energy-energy_network.json'))['storage']['values']
bins = np.linspace(0, 200, 51)
assert np.abs(np.array(found)[1:-1, 1:-1] - np.histogram2d(truth, network, [bins, bins])[0]).sum() <= 4
# The Z: pairs of neighbours, opposite charges.
both = np.flatnonzero(d['eventNumber'][1:] == d['eventNumber'][:-1])
et = {'et_network': network / np.cosh(eta), 'et_reference': reco / np.cosh(eta)}
opening = np.cosh(eta[both] - eta[both + 1]) - np.cos(d['p_phi'].astype(float)[both] - d['p_phi'].astype(float)[both + 1])
mass = {k: np.sqrt(2 * v[both] * v[both + 1] * opening) for k, v in et.items()}
rows = {r['of']: r for r in table('peak')}
for name, m in mass.items():
    stored = np.array(json.load(open(f'{out}/peak/mass-{name}.json'))['storage']['values'])[1:-1]
    assert np.abs(stored - np.histogram(m, np.linspace(76, 106, 61))[0]).sum() <= 2
sigma = {k: float(r['sigma']) for k, r in rows.items()}
near(float(rows['et_network']['improvement']), 1 - sigma['et_network'] / sigma['et_reference'], 1e-9, 'improvement')
assert 0.05 < float(rows['et_network']['improvement']) < 0.6 and rows['et_reference']['improvement'] == ''
both_inner = (np.abs(eta[both]) < 0.8) & (np.abs(eta[both + 1]) < 0.8)
rows = {(r['region'], r['of']): r for r in table('peak_in_regions')}
assert len(rows) == 4
for (region, name), row in rows.items():
    m = mass[name][both_inner == (region == 'inner')]
    assert abs(int(row['pairs']) - ((m >= 76) & (m < 106)).sum()) <= 1, row
    if name == 'et_network':
        near(float(row['improvement']), 1 - float(row['sigma']) / float(rows[region, 'et_reference']['sigma']), 1e-9, 'improvement')
        assert 0 < float(row['improvement_error']) < 0.3
labels = pq.read_table(glob.glob(out + '/labels/*.parquet')[0]).to_pydict()
near_z = (mass['et_reference'] > 86) & (mass['et_reference'] < 97)
assert sorted(labels['event_number']) == sorted(d['eventNumber'][both[near_z]].tolist())
wanted = {}
for i, o in zip(both[near_z], opening[near_z]):
    first, second = sorted((i, i + 1), key=lambda k: -et['et_reference'][k])
    wanted[d['eventNumber'][i]] = 91.1876**2 / (2 * et['et_reference'][second] * o)
for event, label in zip(labels['event_number'], labels['label_1']):
    near(label, wanted[event], 1e-5 * label, 'label')
",
    );
    for (file, what) in [("by_eta/eiqr.svg", ">/ reference</text>"), ("peak/mass.svg", "et_network: σ = ")] {
        assert!(place.read(&format!("one/{file}")).contains(what), "{file}");
    }
}

/// A folder in which LCD models and showers are as the pipelines look for them.
fn lcd(events: u32) -> (Place, [String; 3]) {
    let place = Place::new();
    showers(&place, events);
    let model = |(word, name): (&str, &str)| format!("{word}={}", repository().join("models").join(name).display());
    (place, [("energy_model", "energy.onnx"), ("linear_model", "linear.onnx"), ("classifier", "classes.onnx")].map(model))
}

/// Images, energies, classes and the probabilities of the four-class network, by h5py and ONNX Runtime.
const LCD: &str = "
root = sys.argv[3]
kinds = {'electron': 'Ele', 'photon': 'Gamma', 'pi0': 'Pi0', 'pion': 'ChPi'}
files = [(number, name) for number, kind in enumerate(kinds.values()) for name in sorted(glob.glob(f'{data}/files/{kind}Escan*.h5'))]
load = lambda key: np.concatenate([h5py.File(name)[key][:] for _, name in files])
truth = np.concatenate([np.full(len(h5py.File(name)['target']), number) for number, name in files])
ecal, hcal, energy = load('ECAL'), load('HCAL'), load('target')[:, 1].astype(float)
names = list(kinds)
def inside(row):
    return (energy >= float(row['energy_low'])) & (energy < float(row['energy_high'])) if row['energy_low'] else np.ones(len(energy), bool)
";

fn checked_lcd(place: &Place, out: &str, check: &str) {
    let said = python(&format!("{TOOLS}{LCD}{check}\nprint('right')"), &[&place.path("data"), &place.path(out), repository()]);
    assert_eq!(said, "right\n");
}

#[test]
fn the_resolution_of_four_particles_of_lcd() {
    let (place, models) = lcd(160);
    // With one step more, which says what events the test has.
    let text = std::fs::read_to_string(repository().join("pipelines/lcd-energy-resolution.yaml")).expect("the pipeline");
    let listed = "  listed:\n    from: pulls\n    write_parquet: { columns: [energy] }\n\n  errors:\n";
    place.write("listed.yaml", &text.replace("  errors:\n", listed));
    let pipeline = place.path("listed.yaml").display().to_string();
    run(&place, &pipeline, &["data=data/files", &models[0], &models[1], &models[2]]);
    checked_lcd(
        &place,
        "one",
        "
import pyarrow.parquet as pq
from scipy.optimize import curve_fit
predicted, linear = (model(f'{root}/models/{m}.onnx', ECAL=ecal, HCAL=hcal)[:, 0].astype(float) for m in ('energy', 'linear'))
listed, training = (pq.read_table(f'{out}/{step}', columns=['sample', 'energy']).to_pydict() for step in ('listed', 'training'))
listed = set(zip(listed['sample'], listed['energy']))
assert not listed & set(zip(training['sample'], training['energy']))
test = np.array([(names[t], e) in listed for t, e in zip(truth, energy)])
assert test.sum() == len(listed) and abs(test.mean() - 0.8) < 0.1
for step, estimate in (('resolution', predicted), ('linear_resolution', linear)):
    error = (energy - estimate) / energy
    for name in names:
        rows = [r for r in table(step) if r['sample'] == name]
        assert len(rows) == 10
        points = []
        for row in rows:
            here = test & (truth == names.index(name)) & inside(row)
            x = error[here]
            assert int(row['n']) == here.sum() > 1
            np.testing.assert_allclose(of(row, 'energy_mean', 'bias', 'bias_error', 'resolution', 'resolution_error'),
                [energy[here].mean(), x.mean(), x.std() / np.sqrt(len(x)), x.std(), x.std() / np.sqrt(2 * len(x))], rtol=1e-5, atol=2e-6)
            points.append((energy[here].mean(), x.std(), x.std() / np.sqrt(2 * len(x))))
        if step == 'linear_resolution' and name == 'pion':
            continue
        E, sigma, slack = np.array(points).T
        f = lambda E, a, b, c: np.sqrt(a**2 / E + b**2 + (c / E)**2)
        fit, _ = curve_fit(f, E, sigma, sigma=slack, p0=[.2, .01, .3], bounds=(0, np.inf), max_nfev=100000, ftol=1e-14, xtol=1e-14)
        found = np.array([float(r['fitted']) for r in rows])
        chi2 = lambda y: (((sigma - y) / slack)**2).sum()
        # As good a fit, or a better one.
        assert chi2(found) <= chi2(f(E, *fit)) * 1.001 + 1e-6, (step, name, chi2(found), chi2(f(E, *fit)))
scores = model(root + '/models/classes.onnx', ECAL=ecal, HCAL=hcal)
for row in table('auc'):
    here = test & inside(row)
    near(float(row['auc']), roc_auc_score(truth[here] == names.index(row['class']), scores[here, names.index(row['class'])]), float(row['ladder_error']) + 1e-9, 'area')
",
    );
}

#[test]
fn the_particles_of_lcd_are_told_apart() {
    let (place, models) = lcd(200);
    run(&place, "lcd-particle-identification.yaml", &["data=data/files", &models[2]]);
    checked_lcd(
        &place,
        "one",
        "
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix
scores = model(root + '/models/classes.onnx', ECAL=ecal, HCAL=hcal)
p = scores.astype(float)
for row in table('pairs'):
    mine, other = names.index(row['class']), names.index(row['against'])
    here = (truth == mine) | (truth == other)
    near(float(row['auc']), roc_auc_score(truth[here] == mine, p[here, mine]), float(row['ladder_error']) + 1e-9, 'pair')
assert len(table('pairs')) == 12
rows = table('electrons')
assert len(rows) == 2 * 6 * 3
for row in rows:
    here = inside(row)
    score = {'network': p[:, 0], 'ratio': p[:, 0] / (p[:, 0] + p[:, 1] + 1e-9)}[row['score']]
    contest(row, truth[here] == 0, score[here])
wilson = lambda k, n: [k / n, *binomtest(k, n).proportion_ci(0.6826894921370859, 'wilson')]
for row in table('identified'):
    who = truth == names.index(row['sample'])
    k, n = int((p[who, names.index(row['score'])] >= float(row['threshold'])).sum()), int(who.sum())
    np.testing.assert_allclose(of(row, 'efficiency', 'efficiency_low', 'efficiency_high'), wilson(k, n), atol=1e-9)
for row in table('electromagnetic'):
    who = inside(row) & (truth == names.index(row['sample']))
    k, n = int(((p[:, 0] + p[:, 1])[who] > {'loose': 0.5, 'tight': 0.9}[row['cut']]).sum()), int(who.sum())
    assert abs(int(row['passed']) - k) <= 1 and int(row['n']) == n, row
found = np.array([int(r['n']) for r in table('confused') if not r['energy_low']]).reshape(4, 4)
assert (found == confusion_matrix(truth, scores.argmax(1))).all()
",
    );
}

#[test]
fn a_scan_of_models_of_lcd() {
    let place = Place::new();
    showers(&place, 120);
    let data = place.path("data/files").display().to_string();
    example("scan_models.py", &[&data, &place.path("models").display().to_string(), "--events", "30"]);
    run(&place, "lcd-model-scan.yaml", &["data=data/files", "models=models"]);
    checked_lcd(
        &place,
        "one",
        "
rows = table('models')
assert [c for c in rows[0] if not c.endswith('_error')] == ['model', 'width', 'depth', 'epochs', 'electron_auc', 'pi0_auc', 'pion_auc', 'photon_auc', 'reason']
assert [r['model'] for r in rows] == ['w8_d1_e2', 'w8_d1_e20', 'w32_d1_e20', 'w32_d2_e20']
for row in rows:
    scores = model(f\"{data}/../models/{row['model']}.onnx\", ECAL=ecal, HCAL=hcal)
    assert row['model'] == 'w%d_d%d_e%d' % tuple(of(row, 'width', 'depth', 'epochs'))
    for number, name in enumerate(kinds):
        near(float(row[name + '_auc']), roc_auc_score(truth == number, scores[:, number]), 2e-3, name)
# Areas against energy, of the last one.
rows = table('against_energy')
assert len(rows) == 4 * 11
for row in rows:
    number = list(kinds).index(row['class'])
    here = inside(row)
    near(float(row['auc']), roc_auc_score(truth[here] == number, scores[here, number]), float(row['ladder_error']) + 1e-9, 'area in a bin')
",
    );
}

#[test]
fn the_published_resolution_of_lcd() {
    let (place, models) = lcd(240);
    run(&place, "lcd-published-resolution.yaml", &["data=data/files", &models[0], &models[1]]);
    checked_lcd(
        &place,
        "one",
        "
from scipy.optimize import curve_fit
every_error = [(energy - model(f'{root}/models/{m}.onnx', ECAL=ecal, HCAL=hcal)[:, 0].astype(float)) for m in ('energy', 'linear')]
all_energies = energy
def nips(E, a, b, c):
    return np.sqrt(a**2 / E + b**2 + (c / E)**2)
for number, name in enumerate(names):
    energy, difference, linear = (x[truth == number] for x in (all_energies, *every_error))
    relative, linear = difference / energy, linear / energy
    [row] = [r for r in table('full_range') if r['sample'] == name]
    np.testing.assert_allclose(of(row, 'bias', 'resolution'), [relative.mean(), relative.std()], atol=1e-6)
    for step in ('published', 'library', 'right'):
        rows = [r for r in table(step) if r['sample'] == name]
        assert len(rows) == 10
        spread, centre = [], []
        for row in rows:
            here = (energy >= float(row['energy_low'])) & (energy < float(row['energy_high']))
            x = relative[here]
            assert int(row['n']) == here.sum()
            np.testing.assert_allclose(of(row, 'bias', 'bias_error', 'resolution', 'resolution_error'),
                [x.mean(), x.std() / np.sqrt(len(x)), x.std(), x.std() / np.sqrt(2 * len(x))], atol=2e-6)
            spread.append((100 * x.std(), len(x)))
            centre.append(energy[here].mean())
        spread, n = np.array(spread).T
        if step == 'published':
            places = 10 + (np.arange(10) + .5) * 49
            fit, _ = curve_fit(nips, places, spread, sigma=spread / np.sqrt(2 * n), bounds=(0, 1000), max_nfev=100000, ftol=1e-14, xtol=1e-14)
            wanted = nips(places, *fit)
        elif step == 'library':
            places = (np.arange(10) + .5) * 50
            matrix = np.stack([1 / np.sqrt(places), np.ones(10), 1 / places], 1)
            wanted = matrix @ np.linalg.lstsq(matrix, spread, rcond=None)[0]
        else:
            places = np.array(centre)
            fit, _ = curve_fit(nips, places, spread, sigma=spread / np.sqrt(2 * n), bounds=(0, np.inf), max_nfev=100000, ftol=1e-14, xtol=1e-14)
            wanted = nips(places, *fit)
        found = [100 * float(r['fitted']) for r in rows if r['fitted']]
        if step != 'library' or len(found):
            np.testing.assert_allclose(found, wanted, rtol=2e-3, err_msg=f'{step} {name}')
    for step, x, low, high, bins in (('differences', difference, -150, 150, 1500), ('relative_differences', relative, -.55, .55, 550)):
        content = [float(r['content']) for r in table(step) if r['sample'] == name]
        assert np.abs(np.array(content)[1:-1] - np.histogram(x, np.linspace(low, high, bins + 1))[0]).sum() <= 4
    against = [r for r in table('against_baseline') if r['sample'] == name]
    for row in against:
        x = {'relative': relative, 'linear': linear}[row['quantity']]
        here = (energy >= float(row['energy_low'])) & (energy < float(row['energy_high']))
        near(float(row['resolution']), x[here].std(), 1e-6, 'baseline')
# As many events in each bin, over all particles.
edges = sorted({float(r['energy_low']) for r in table('published')})
inside = np.histogram(all_energies, [*edges, np.inf])[0]
# To within what stands on a rung, 0.1 % of the energy wide.
assert inside.max() - inside.min() <= 6, inside
",
    );
    assert!(place.read("one/right/resolution.svg").contains(">/ electron</text>"));
    assert!(place.read("one/against_baseline/resolution.svg").contains(">/ linear</text>"));
}
