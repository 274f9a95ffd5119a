//! Bias and resolution against numpy; the speed against numpy.

use super::*;
use crate::trial::{at, batch, bits, close, column_of, floats, fold, normal, problems, python, uniform, word};
use proptest::prelude::*;
use serde_json::json;
use std::time::Instant;

const SAMPLES: [&str; 4] = ["electron", "photon", "pi0", "pion"];

fn resolution() -> Resolution {
    let axis = AxisWords { range: Some(Placed::unplaced((10.0, 510.0))), bins: Some(Placed::unplaced(10)), edges: None };
    Resolution {
        of: word("relative_error"),
        by: Placed::unplaced(BTreeMap::from([(word("energy"), axis)])),
        for_each: Some(word("sample")),
        fit: Some(Placed::unplaced(FitWord::Calorimeter)),
        weight: None,
        robust: None,
        pivot: 0.0,
    }
}

struct Rows {
    classes: Vec<i8>,
    energy: Vec<f64>,
    error: Vec<f64>,
    weight: Vec<f64>,
}

impl Rows {
    /// Events of a calorimeter with a = 20 % sqrt(GeV), b = 1 %, c = 1.5 GeV, worse for every next class.
    fn new(n: usize) -> Self {
        let (mut u, mut g) = (uniform(1), normal(2));
        let classes: Vec<i8> = (0..n).map(|_| (u() * 4.0) as i8).collect();
        let energy: Vec<f64> = (0..n).map(|_| 5.0 + 515.0 * u()).collect();
        let sigma = |energy: f64| (0.04 / energy + 1e-4 + (1.5 / energy).powi(2)).sqrt();
        let error =
            classes.iter().zip(&energy).map(|(c, e)| 0.002 * f64::from(*c) + g() * sigma(*e) * f64::from(c + 1)).collect();
        Self { classes, energy, error, weight: (0..n).map(|_| 0.5 + u()).collect() }
    }

    fn batch(&self) -> RecordBatch {
        let columns: [(&str, &[f64]); 3] =
            [("energy [GeV]", &self.energy), ("relative_error", &self.error), ("weight", &self.weight)];
        batch(&SAMPLES, &self.classes, &columns)
    }

    fn given(&self) -> serde_json::Value {
        json!({ "class": self.classes, "energy": bits(&self.energy), "error": bits(&self.error), "weight": bits(&self.weight) })
    }
}

const NUMPY: &str = "
klass, energy, error, weight = np.array(given['class']), floats(given['energy']), floats(given['error']), floats(given['weight'])
edges = np.linspace(10, 510, 11)
rows = []
for c in range(4):
    for low, high in zip(edges[:-1], edges[1:]):
        cut = (klass == c) & (energy >= low) & (energy < high)
        x, y, w = error[cut], energy[cut], weight[cut] if given.get('weighted') else np.ones(cut.sum())
        n = w.sum()**2 / (w**2).sum()
        mean = np.average(x, weights=w)
        std = np.sqrt(np.average((x - mean)**2, weights=w))
        rows.append([cut.sum(), np.average(y, weights=w), mean, std / np.sqrt(n), std, std / np.sqrt(2 * n)])
        if not given.get('weighted'): np.testing.assert_allclose(std, np.std(x))
answer([bits(column) for column in np.array(rows).T])
";

#[test]
fn bins_are_those_of_numpy() {
    let rows = Rows::new(40_000);
    for weighted in [false, true] {
        let mut resolution = resolution();
        resolution.weight = weighted.then(|| word("weight"));
        let (_, summary) = fold(&resolution, &rows.batch(), 5);
        let mut given = rows.given();
        given["weighted"] = weighted.into();
        let expected = python(NUMPY, &given);
        let names = ["n", "energy_mean", "bias", "bias_error", "resolution", "resolution_error"];
        for (name, expected) in names.iter().zip(expected.as_array().unwrap()) {
            let (found, expected) = (column_of(&summary.table, name), floats(expected));
            // A bias near 0 is a difference of large numbers in numpy too.
            let scale = if *name == "bias" { 1e-9 } else { 1e-11 };
            close(&found, &expected, scale);
        }
    }
}

#[test]
fn the_fit_is_in_highlights_metadata_and_table() {
    let rows = Rows::new(200_000);
    // In bins so narrow that the resolution at the mean is the mean resolution.
    let (low, high, bins) = (50.0, 510.0, 92);
    let mut resolution = resolution();
    let axis = AxisWords { range: Some(Placed::unplaced((low, high))), bins: Some(Placed::unplaced(bins)), edges: None };
    resolution.by.value.insert(word("energy"), axis);
    let (_, summary) = fold(&resolution, &rows.batch(), 1);
    assert_eq!(
        summary.highlights[0],
        [
            "sample",
            "events",
            "bias of relative_error [%]",
            "resolution of relative_error [%]",
            "a (sampling)",
            "b (constant)",
            "c (noise)",
            "chi2 / ndf"
        ]
    );
    let schema = summary.table.schema();
    let fits: serde_json::Value = serde_json::from_str(&schema.metadata()[FITS_KEY]).unwrap();
    let electron = &fits["fits"]["electron"];
    for (letter, truth) in [("a", 0.2), ("b", 0.01), ("c", 1.5)] {
        let term = |name: &str| electron[letter][name].as_f64().unwrap();
        assert!((term("value") - truth).abs() < 4.0 * term("error"), "{letter} {electron}");
    }
    let line = &summary.highlights[1];
    let number = |text: &str| text.split(' ').next().unwrap().parse::<f64>().unwrap();
    assert!(line[4].ends_with(" % √GeV") && (number(&line[4]) / 100.0 - electron["a"]["value"].as_f64().unwrap()).abs() < 1e-3);
    assert!(line[5].ends_with(" %") && line[6].ends_with(" GeV") && line[7].ends_with(" / 89"), "{line:?}");
    assert!((number(&line[6]) - electron["c"]["value"].as_f64().unwrap()).abs() < 1e-2, "{line:?}");
    let (fitted, resolution) = (column_of(&summary.table, "fitted"), column_of(&summary.table, "resolution"));
    let error = column_of(&summary.table, "resolution_error");
    let pull = |i: usize| (fitted[i] - resolution[i]) / error[i];
    let chi2: f64 = (0..92).map(|i| pull(i).powi(2)).sum();
    close(&[chi2], &[electron["chi2"].as_f64().unwrap()], 1e-9);
    let [resolutions, biases] = &summary.figures[..] else { panic!("two figures") };
    let Content::Curves { curves, .. } = &resolutions.content else { panic!("curves") };
    assert_eq!((curves.len(), curves[3].label.as_str(), curves[3].points.len(), curves[3].line.len()), (4, "pion", 92, 201));
    close(&[curves[0].points[2].y], &[100.0 * resolution[2]], 1e-15);
    assert_eq!((biases.x.as_str(), biases.y.as_str()), ("energy [GeV]", "bias of relative_error [%]"));
}

#[test]
fn medians_and_sigma68_are_those_of_numpy_within_the_error_of_the_ladder() {
    let rows = Rows::new(40_000);
    for (weighted, steps) in [(false, 256), (false, 4), (true, 64)] {
        let mut resolution = resolution();
        resolution.weight = weighted.then(|| word("weight"));
        resolution.robust = Some(Placed::unplaced(steps));
        let (_, summary) = fold(&resolution, &rows.batch(), 5);
        let mut given = rows.given();
        given["weighted"] = weighted.into();
        let script = "
from scipy.special import ndtr
klass, energy, error, weight = np.array(given['class']), floats(given['energy']), floats(given['error']), floats(given['weight'])
out = []
for c in range(4):
    for low in range(10, 510, 50):
        cut = (klass == c) & (energy >= low) & (energy < low + 50)
        w = weight[cut] if given['weighted'] else None
        lo, mid, hi = np.quantile(error[cut], [ndtr(-1), .5, ndtr(1)], method='inverted_cdf', weights=w)
        out.append([mid, (hi - lo) / 2])
answer([bits(column) for column in np.array(out).T])
";
        let expected = python(script, &given);
        let errors = column_of(&summary.table, "ladder_error");
        for (name, expected) in ["median", "sigma68"].iter().zip(expected.as_array().unwrap()) {
            for ((found, expected), error) in column_of(&summary.table, name).iter().zip(floats(expected)).zip(&errors) {
                assert!((found - expected).abs() <= *error, "{name}: {found} is not {expected} within {error}");
            }
        }
        let sigmas = column_of(&summary.table, "sigma68");
        assert!(errors.iter().zip(sigmas).all(|(error, sigma)| *error <= 0.75 * sigma / f64::from(steps)));
    }
}

#[test]
fn what_is_in_no_number_is_said() {
    let energy = [5.0, 15.0, 15.0, 15.0, 510.0, f64::NAN, f64::INFINITY];
    let error = [0.1, 0.1, f64::NAN, 0.3, 0.1, 0.1, f64::INFINITY];
    let rows = batch(&SAMPLES, &[0; 7], &[("energy", &energy), ("relative_error", &error)]);
    let mut resolution = resolution();
    resolution.for_each = None;
    let (_, summary) = fold(&resolution, &rows, 3);
    assert_eq!(
        summary.remarks[1..],
        [
            "2 rows with relative_error NaN or infinite in no number",
            "1 row with energy below 10 in no bin",
            "1 row with energy at or above 510 in no bin",
            "1 row with energy NaN in no bin",
            "no fit: 1 points do not determine three terms",
        ]
    );
    close(&column_of(&summary.table, "bias")[..1], &[0.2], 1e-15);
    close(&column_of(&summary.table, "resolution")[..1], &[0.1], 1e-15);
    assert_eq!(column_of(&summary.table, "n"), [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert!(column_of(&summary.table, "resolution")[1].is_nan());
    assert_eq!(summary.highlights[1][..3], ["2", "20.0 ± 7.1 %", "10.0 ± 5.0 %"]);
}

#[test]
fn a_pivot_keeps_a_small_spread_of_large_values() {
    let mut g = normal(7);
    let error: Vec<f64> = (0..1000).map(|_| 1e9 + g()).collect();
    let rows = batch(&SAMPLES, &[0; 1000], &[("energy", &[100.0; 1000]), ("relative_error", &error)]);
    let mut resolution = Resolution { pivot: 1e9, for_each: None, fit: None, ..resolution() };
    let of = |resolution: &Resolution| column_of(&fold(resolution, &rows, 1).1.table, "resolution")[1];
    let expected = floats(&python("answer(bits([np.std(floats(given['x']) - 1e9)]))", &json!({ "x": bits(&error) })))[0];
    close(&[of(&resolution)], &[expected], 1e-12);
    resolution.pivot = 0.0;
    assert!((of(&resolution) / expected - 1.0).abs() > 1e-12, "then the pivot is not needed");
}

#[test]
fn mistakes_have_places() {
    let rows = batch(&SAMPLES, &[0], &[("energy [GeV]", &[1.0]), ("relative_error", &[1.0]), ("difference [GeV]", &[1.0])]);
    let mut wrong = resolution();
    wrong.of = at(3, 9, "relative_eror".into());
    wrong.by = at(4, 9, BTreeMap::new());
    wrong.for_each = Some(at(5, 9, "energy".into()));
    wrong.weight = Some(at(6, 9, "w".into()));
    assert_eq!(
        problems(&wrong, &rows),
        [
            "3:9 no column `relative_eror` (did you mean `relative_error`?)",
            "4:9 `by` takes one column, not 0 (by: { energy: { range: [10, 510], bins: 10 } })",
            "5:9 column `energy` is Float64, not a class (there is sample)",
            "6:9 no column `w` (there is sample, energy, relative_error, difference)",
        ]
    );
    let mut absolute = resolution();
    absolute.of = word("difference");
    absolute.fit = Some(at(7, 2, FitWord::Calorimeter));
    assert_eq!(
        problems(&absolute, &rows),
        [
            "7:2 the calorimeter fit is of a relative resolution, and difference [GeV] has a unit (derive (predicted - true) / true first)"
        ]
    );
}

proptest! {
    #[test]
    fn sums_do_not_depend_on_how_rows_are_cut(n in 1_usize..300, pieces in 1_usize..20) {
        let batch = Rows::new(n).batch();
        let mut resolution = Resolution { fit: None, ..resolution() };
        prop_assert_eq!(fold(&resolution, &batch, pieces).0.encode(), fold(&resolution, &batch, 1).0.encode());
        resolution.weight = Some(word("weight"));
        prop_assert_eq!(fold(&resolution, &batch, pieces).0.encode(), fold(&resolution, &batch, 1).0.encode());
    }
}

/// Ten million rows, 50 bins, 4 classes, two threads, beside what a good user of numpy would write.
#[test]
#[ignore = "a measurement"]
fn speed_beside_numpy() {
    const ROWS: usize = 10_000_000;
    let rows = Rows::new(ROWS);
    let mut resolution = resolution();
    resolution.by.value.values_mut().next().unwrap().bins = Some(Placed::unplaced(50));
    let pieces: Vec<RecordBatch> = {
        let batch = rows.batch();
        (0..ROWS).step_by(1 << 16).map(|first| batch.slice(first, (1 << 16).min(ROWS - first))).collect()
    };
    let work = |pieces: &[RecordBatch]| {
        let mut measuring = resolution.measuring(&pieces[0].schema()).unwrap();
        let mut sums = Sums::default();
        pieces.iter().for_each(|piece| measuring.add(piece, &mut sums).unwrap());
        sums
    };
    for _ in 0..3 {
        let start = Instant::now();
        let (left, right) = pieces.split_at(pieces.len() / 2);
        let mut sums = std::thread::scope(|scope| {
            let other = scope.spawn(|| work(right));
            let mut sums = work(left);
            sums.merge(&other.join().unwrap());
            sums
        });
        let took = start.elapsed();
        println!(
            "calostream, 2 threads: {:.1} ns a row, {took:?}; {} bytes",
            took.as_nanos() as f64 / ROWS as f64,
            sums.encode().len()
        );
        // Time on the processor, which other programs do not add to.
        let on_processor = || -> u64 {
            let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
            text.split(' ').next().unwrap().parse().unwrap()
        };
        let start = on_processor();
        sums = work(&pieces);
        println!(
            "calostream, processor time: {:.1} ns a row; {:?}",
            (on_processor() - start) as f64 / ROWS as f64,
            sums.count(0)
        );
    }
    let script = "
import time
n = given['rows']
rng = np.random.default_rng(1)
klass = rng.integers(0, 4, n).astype(np.int8)
energy = rng.uniform(5, 520, n)
error = rng.normal(0, .1, n)
edges = np.linspace(10, 510, 51)
def digitize():
    cell = np.digitize(energy, edges) + 52 * klass.astype(np.intp)
    return [np.bincount(cell, minlength=208)] + [np.bincount(cell, weights=w, minlength=208) for w in (energy, error, error * error)]
def each_class():
    out = []
    for c in range(4):
        cut = klass == c
        cell, y, x = np.digitize(energy[cut], edges), energy[cut], error[cut]
        out.append([np.bincount(cell, minlength=52)] + [np.bincount(cell, weights=w, minlength=52) for w in (y, x, x * x)])
    return out
def arithmetic():
    cell = np.clip(np.floor((energy - 10) * (50 / 500)), -1, 50).astype(np.intp) + 1 + 52 * klass.astype(np.intp)
    return [np.bincount(cell, minlength=208)] + [np.bincount(cell, weights=w, minlength=208) for w in (energy, error, error * error)]
best = {}
for f in (digitize, each_class, arithmetic) * 3:
    t = time.process_time(); f(); best[f.__name__] = min(best.get(f.__name__, 9e9), time.process_time() - t)
answer({k: v / n * 1e9 for k, v in best.items()})
";
    println!("numpy, ns of processor time a row: {}", python(script, &json!({ "rows": ROWS })));
}
