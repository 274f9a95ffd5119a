//! Bias and resolution against numpy; the speed against numpy.

use super::*;
use crate::statistics::axis::AxisWords;
use crate::statistics::figure::Content;
use crate::statistics::sums::Sums;
use crate::trial::{
    at, batch, bits, close, column_of, floats, fold, normal, problems, python, texts_of, uniform, with_events, word,
};
use crate::work::Fold;
use arrow::array::RecordBatch;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;

const SAMPLES: [&str; 4] = ["electron", "photon", "pi0", "pion"];

fn resolution() -> Resolution {
    let axis =
        AxisWords { range: Some(Placed::unplaced((10.0, 510.0))), bins: Some(Placed::unplaced(10)), ..AxisWords::default() };
    Resolution {
        of: word("relative_error").into(),
        by: Some(Placed::unplaced(BTreeMap::from([(word("energy"), axis)]))),
        for_each: Some(word("sample").into()),
        regions: None,
        fit: Some(Placed::unplaced(FitWord::Calorimeter)),
        along: None,
        weight: None,
        robust: None,
        reference: None,
        ratio: None,
        core: None,
        bootstrap: None,
        pivot: 0.0,
        compat: None,
    }
}

/// The same in other bins.
fn by(axes: &[(&str, f64, f64, u32)]) -> Option<By> {
    let axis = |(name, low, high, bins): &(&str, f64, f64, u32)| {
        (
            word(name),
            AxisWords {
                range: Some(Placed::unplaced((*low, *high))),
                bins: Some(Placed::unplaced(*bins)),
                ..AxisWords::default()
            },
        )
    };
    Some(Placed::unplaced(axes.iter().map(axis).collect()))
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
    resolution.by = by(&[("energy", low, high, bins)]);
    let (_, summary) = fold(&resolution, &rows.batch(), 1);
    assert_eq!(
        summary.highlights[0],
        [
            "sample",
            "events",
            "bias of relative_error [%]",
            "resolution of relative_error [%]",
            "a (stochastic)",
            "b (constant)",
            "c (noise)",
            "chi2 / ndf",
            "p"
        ]
    );
    let schema = summary.table.schema();
    let p = floats(&python("from scipy.stats import chi2; answer(bits([chi2.sf(given['chi2'], given['ndf'])]))", &{
        let fits: serde_json::Value = serde_json::from_str(&schema.metadata()[FITS_KEY]).unwrap();
        fits["fits"]["electron"].clone()
    }));
    let fits: serde_json::Value = serde_json::from_str(&schema.metadata()[FITS_KEY]).unwrap();
    let electron = &fits["fits"]["electron"];
    close(&[electron["p_value"].as_f64().unwrap()], &p, 1e-9);
    assert_eq!(["a", "b", "c"].map(|letter| electron[letter]["name"].as_str().unwrap()), ["stochastic", "constant", "noise"]);
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
    assert_eq!(
        (curves.len(), curves[3].label.starts_with("pion: "), curves[3].points.len(), curves[3].line.len()),
        (4, true, 92, 201)
    );
    assert!(curves.iter().all(|c| c.label.contains("/√E") && c.label.contains('⊕')), "{:?}", curves[0].label);
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
    // Without it, what sums can't tell is none, and said.
    assert!(of(&resolution).is_nan());
    let (_, summary) = fold(&resolution, &rows, 1);
    let why = "all values are the same, or too close for sums at their distance from the pivot: try `pivot: 1e9`";
    assert_eq!(texts_of(&summary.table, "reason")[1], why);
    assert!(summary.remarks.contains(&format!("in 1 bin: {why}")), "{:?}", summary.remarks);
}

#[test]
fn what_is_no_share_is_not_shown_in_per_cent() {
    let rows = batch(&["e"], &[0; 3], &[("energy", &[100.0, 300.0, 200.0]), ("wrong [%]", &[15.0, 30.0, 45.0])]);
    let of = |column: &str| {
        let step = Resolution { of: word(column).into(), by: None, for_each: None, fit: None, ..resolution() };
        fold(&step, &rows, 1).1.highlights
    };
    assert_eq!(of("energy"), [["events", "bias of energy", "resolution of energy"], ["3", "200 ± 47", "82 ± 33"]]);
    assert_eq!(of("wrong")[1][1], "30.0 ± 7.1 %");
}

#[test]
fn rows_that_have_no_number_are_counted_all_the_same() {
    let rows = batch(&["e"], &[0; 5], &[("x", &[0.1, 0.2, 0.1, 0.4, 0.7]), ("w", &[1.0, -1.0, -2.0, 0.0, f64::NAN])]);
    let step = Resolution { of: word("x").into(), by: None, for_each: None, fit: None, weight: Some(word("w")), ..resolution() };
    let (_, summary) = fold(&step, &rows, 1);
    assert_eq!(column_of(&summary.table, "n"), [4.0]);
    assert_eq!(summary.highlights[1][0], "4");
    // And one row has a median, but no widths.
    let step = Resolution { weight: None, robust: Some(Placed::unplaced(256)), ..step };
    let (_, summary) = fold(&step, &rows.slice(0, 1), 1);
    close(&column_of(&summary.table, "median"), &[0.1], 3e-3);
    assert!(["sigma68", "half95", "eiqr"].iter().all(|name| column_of(&summary.table, name)[0].is_nan()));
}

proptest! {
    /// Wherever values lie, a spread is right to 0.2 % or none, and so is its error from the fourth moment.
    #[test]
    fn a_spread_is_right_or_none(distance in -2.0..12.0_f64, width in -3.0..2.0_f64, seed in 1..1000_u64) {
        let mut g = normal(seed);
        let far = 10_f64.powf(distance);
        let x: Vec<f64> = (0..200).map(|_| far + 10_f64.powf(width) * g()).collect();
        let rows = batch(&["e"], &[0; 200], &[("x", &x)]);
        let step = Resolution { of: word("x").into(), by: None, for_each: None, fit: None, pivot: 0.0, ..resolution() };
        let (_, summary) = fold(&step, &rows, 1);
        // Two passes, about the first value.
        let mean = x.iter().map(|v| v - x[0]).sum::<f64>() / 200.0;
        let moment = |power: i32| x.iter().map(|v| (v - x[0] - mean).powi(power)).sum::<f64>() / 200.0;
        let (second, fourth) = (moment(2), moment(4));
        let (spread, error) = (second.sqrt(), ((fourth - second * second) / (800.0 * second)).sqrt());
        let found = |name: &str| column_of(&summary.table, name)[0];
        prop_assert!(found("resolution").is_nan() || (found("resolution") / spread - 1.0).abs() < 2e-3);
        let moments = found("resolution_error_moments");
        prop_assert!(moments.is_nan() || (moments / error - 1.0).abs() < 2e-2, "{} {}", moments, error);
        prop_assert_eq!(found("resolution").is_nan() || moments.is_nan(), !texts_of(&summary.table, "reason")[0].is_empty());
    }
}

#[test]
fn mistakes_have_places() {
    let rows = batch(&SAMPLES, &[0], &[("energy [GeV]", &[1.0]), ("relative_error", &[1.0]), ("difference [GeV]", &[1.0])]);
    let mut wrong = resolution();
    wrong.of = at(3, 9, "relative_eror".to_owned()).into();
    wrong.by = Some(at(4, 9, BTreeMap::new()));
    wrong.for_each = Some(at(5, 9, "energy".to_owned()).into());
    wrong.weight = Some(at(6, 9, "w".into()));
    assert_eq!(
        problems(&wrong, &rows),
        [
            "3:9 no column `relative_eror` (did you mean `relative_error`?)",
            "4:9 `by` takes one to 8 columns, not 0 (by: { energy: { range: [10, 510], bins: 10 } })",
            "5:9 column `energy` is Float64, not a class (bin in it with `by`, or make a region of it: regions: { high: energy > 1 })",
            "6:9 no column `w` (there is sample, energy, relative_error, difference)",
        ]
    );
    let mut absolute = resolution();
    absolute.of = word("difference").into();
    absolute.fit = Some(at(7, 2, FitWord::Calorimeter));
    assert_eq!(
        problems(&absolute, &rows),
        [
            "7:2 the calorimeter fit is of a relative resolution, and difference [GeV] has a unit (derive (predicted - true) / true first)"
        ]
    );
}

/// Events of two networks, the second one worse, with their errors in two columns; some with a tail.
fn two(n: usize) -> RecordBatch {
    let (mut u, mut g) = (uniform(11), normal(12));
    let energy: Vec<f64> = (0..n).map(|_| 10.0 + 90.0 * u()).collect();
    let eta: Vec<f64> = (0..n).map(|_| 3.0 * u() - 1.5).collect();
    let shared: Vec<f64> = (0..n).map(|_| g() * 0.03).collect();
    let own = |scale: f64, g: &mut dyn FnMut() -> f64, u: &mut dyn FnMut() -> f64| -> Vec<f64> {
        shared.iter().map(|s| s + scale * g() * if u() < 0.1 { 3.0 } else { 1.0 }).collect()
    };
    let (cnn, bdt) = (own(0.02, &mut g, &mut u), own(0.04, &mut g, &mut u));
    let weight: Vec<f64> = (0..n).map(|_| 0.5 + u()).collect();
    let columns: [(&str, &[f64]); 5] =
        [("energy [GeV]", &energy), ("eta", &eta), ("cnn", &cnn), ("bdt", &bdt), ("weight", &weight)];
    with_events(&batch(&["electron"], &vec![0; n], &columns))
}

fn of_two() -> Resolution {
    let of = Names { words: vec![word("cnn"), word("bdt")], listed: true };
    Resolution { of, by: by(&[("energy", 10.0, 100.0, 3), ("eta", -1.5, 1.5, 2)]), for_each: None, fit: None, ..resolution() }
}

#[test]
fn several_quantities_on_two_axes_are_those_of_numpy_and_scipy() {
    let rows = two(30_000);
    for weighted in [false, true] {
        let resolution = Resolution { robust: Some(Placed::unplaced(512)), weight: weighted.then(|| word("weight")), ..of_two() };
        let (_, summary) = fold(&resolution, &rows, 4);
        let numbers = |name: &str| bits(&column_of(&rows, name));
        let given = json!({ "energy": numbers("energy"), "eta": numbers("eta"), "cnn": numbers("cnn"), "bdt": numbers("bdt"),
            "weight": numbers("weight"), "weighted": weighted });
        let script = "
energy, eta, weight = (floats(given[k]) for k in ('energy', 'eta', 'weight'))
out = []
for name in ('cnn', 'bdt'):
    for low in (10, 40, 70):
        for side in (-1.5, 0):
            cut = (energy >= low) & (energy < low + 30) & (eta >= side) & (eta < side + 1.5)
            x, w = floats(given[name])[cut], weight[cut] if given['weighted'] else np.ones(cut.sum())
            n, mean = w.sum()**2 / (w**2).sum(), np.average(x, weights=w)
            m2, m4 = (np.average((x - mean)**k, weights=w) for k in (2, 4))
            q = np.quantile(x, [.5, .15865525, .84134475, .025, .975, .25, .75], method='inverted_cdf', weights=w)
            out.append([low, side, cut.sum(), mean, np.sqrt(m2), np.sqrt((m4 - m2**2) / (4 * m2 * n)), np.average(eta[cut], weights=w),
                        q[0], (q[2] - q[1]) / 2, (q[4] - q[3]) / 2, (q[6] - q[5]) / 1.349])
answer([bits(column) for column in np.array(out).T])
";
        let expected = python(script, &given);
        let names = ["energy_low", "eta_low", "n", "bias", "resolution", "resolution_error_moments", "eta_mean"];
        for (name, expected) in names.iter().zip(expected.as_array().unwrap()) {
            close(&column_of(&summary.table, name), &floats(expected), 1e-8);
        }
        let expected = expected.as_array().unwrap()[7..].to_vec();
        for ((name, ladder), expected) in
            [("median", ""), ("sigma68", ""), ("half95", "half95_"), ("eiqr", "eiqr_")].iter().zip(expected)
        {
            let errors = column_of(&summary.table, &format!("{ladder}ladder_error"));
            for ((found, expected), error) in column_of(&summary.table, name).iter().zip(floats(&expected)).zip(errors) {
                assert!((found - expected).abs() <= error && error < 0.002, "{name}: {found} is not {expected} within {error}");
            }
        }
        assert_eq!(texts_of(&summary.table, "quantity")[5..7], ["cnn", "bdt"]);
        let Content::Curves { curves, .. } = &summary.figures[0].content else { panic!("curves") };
        assert_eq!((curves.len(), curves[1].label.as_str(), curves[1].points.len()), (4, "cnn, eta 0 to 1.5", 3));
        assert_eq!(summary.highlights[0][..2], ["quantity", "eta"]);
        assert_eq!(summary.highlights[2][1], "0 to 1.5");
    }
}

#[test]
fn the_improvement_over_a_reference_has_the_error_of_a_paired_bootstrap() {
    let rows = two(8_000);
    let base =
        Resolution { of: word("cnn").into(), by: by(&[("energy", 10.0, 100.0, 1)]), reference: Some(word("bdt")), ..of_two() };
    let (_, summary) = fold(&Resolution { bootstrap: Some(Placed::unplaced(400)), ..base.clone() }, &rows, 3);
    let given = json!({ "cnn": bits(&column_of(&rows, "cnn")), "bdt": bits(&column_of(&rows, "bdt")) });
    let script = "
rng = np.random.default_rng(3)
a, b = floats(given['cnn']), floats(given['bdt'])
def eiqr(x): q = np.quantile(x, [.25, .75]); return (q[1] - q[0]) / 1.349
def half95(x): q = np.quantile(x, [.025, .975]); return (q[1] - q[0]) / 2
draws = [rng.integers(0, len(a), len(a)) for _ in range(600)]
out = []
for f in (eiqr, half95):
    out += [1 - f(a) / f(b), np.std([1 - f(a[i]) / f(b[i]) for i in draws])]
answer(out + [np.std([np.median(a[i]) for i in draws]), np.std([eiqr(a[i]) for i in draws])])
";
    let expected: Vec<f64> = serde_json::from_value(python(script, &given)).unwrap();
    let found = |name: &str| column_of(&summary.table, name)[0];
    assert!((found("reiqr") - expected[0]).abs() <= found("reiqr_ladder_error") + 1e-3, "{} {}", found("reiqr"), expected[0]);
    assert!((found("reiqr95") - expected[2]).abs() <= found("reiqr95_ladder_error") + 2e-3);
    for (name, number) in [("reiqr_error", 1), ("reiqr95_error", 3), ("median_error", 4), ("eiqr_error", 5)] {
        let ratio = found(name) / expected[number];
        assert!((ratio - 1.0).abs() < 0.2, "{name}: {ratio}");
    }
    assert!(column_of(&summary.table, "reiqr")[1].is_nan(), "the reference is not compared with itself");
    assert_eq!(texts_of(&summary.table, "quantity"), ["cnn", "bdt"]);
    assert!(summary.figures.iter().any(|figure| figure.name == "reiqr"));
    // The same draws whatever the batches are.
    assert_eq!(fold(&base, &rows, 7).0.encode(), fold(&base, &rows, 1).0.encode());
}

#[test]
fn the_error_of_reiqr_covers_the_truth_as_often_as_it_should() {
    // Normal errors that share a part: widths 0.05 and 0.0583, so reIQR is known.
    let truth = 1.0 - (0.03_f64.powi(2) + 0.04_f64.powi(2)).sqrt() / (0.03_f64.powi(2) + 0.05_f64.powi(2)).sqrt();
    let mut g = normal(77);
    let (toys, n, mut covered) = (300, 400, 0);
    for toy in 0..toys {
        let shared: Vec<f64> = (0..n).map(|_| 0.03 * g()).collect();
        let cnn: Vec<f64> = shared.iter().map(|s| s + 0.04 * g()).collect();
        let bdt: Vec<f64> = shared.iter().map(|s| s + 0.05 * g()).collect();
        let rows = with_events(&batch(&["e"], &vec![0; n], &[("cnn", &cnn), ("bdt", &bdt)]));
        let step = Resolution { of: word("cnn").into(), by: None, reference: Some(word("bdt")), ..of_two() };
        let mut measuring = step.measuring(&rows.schema(), toy).unwrap();
        let mut sums = Sums::default();
        measuring.add(&rows, &mut sums).unwrap();
        let table = measuring.finish(&sums).unwrap().table;
        covered += usize::from((column_of(&table, "reiqr")[0] - truth).abs() <= column_of(&table, "reiqr_error")[0]);
    }
    let share = covered as f64 / toys as f64;
    // 300 toys know it to 2.7 %.
    assert!((share - crate::statistics::interval::ONE_SIGMA).abs() < 0.07, "{share}");
}

#[test]
fn the_core_and_everything_else_has_a_reason_where_it_is_missing() {
    let rows = two(20_000);
    let step = Resolution {
        of: word("cnn").into(),
        by: by(&[("energy", 10.0, 190.0, 2)]),
        core: Some(Placed::unplaced(2.0)),
        ..of_two()
    };
    let (_, summary) = fold(&step, &rows, 2);
    let of = |name: &str| column_of(&summary.table, name);
    let sigma = (0.03_f64.powi(2) + 0.02_f64.powi(2)).sqrt();
    assert!(
        (of("core_sigma")[0] - sigma).abs() < 0.1 * sigma && of("core_sigma")[0] < of("resolution")[0],
        "{:?}",
        of("core_sigma")
    );
    assert!((of("core_high")[0] - of("core_low")[0] - 4.0 * of("core_sigma")[0]).abs() < 0.01 * sigma);
    assert!(of("core_sigma")[1].is_nan());
    assert_eq!(texts_of(&summary.table, "reason"), ["", "no rows"]);
    let odd = |x: &[f64], w: &[f64]| {
        let rows = with_events(&batch(&["e"], &vec![0; x.len()], &[("x", x), ("w", w)]));
        let step = Resolution {
            of: word("x").into(),
            by: None,
            weight: Some(word("w")),
            core: Some(Placed::unplaced(2.0)),
            bootstrap: Some(Placed::unplaced(20)),
            ..of_two()
        };
        let (_, summary) = fold(&step, &rows, 1);
        (texts_of(&summary.table, "reason")[0].clone(), column_of(&summary.table, "resolution")[0])
    };
    let (reason, spread) = odd(&[0.3], &[1.0]);
    assert_eq!(
        reason,
        "one row has no spread; no errors of the quantiles: the replicas do not differ; no core: the central 68 % have no width"
    );
    assert!(spread.is_nan());
    assert_eq!(odd(&[0.3, 0.4], &[0.0, 0.0]).0, "the weights do not sum to more than 0");
    assert_eq!(odd(&[0.3, 0.4], &[1.0, -2.0]).0, "the weights do not sum to more than 0");
    assert_eq!(odd(&[f64::NAN, f64::INFINITY], &[1.0, 1.0]).0, "no rows");
    let (reason, spread) = odd(&[0.3; 50], &[1.0; 50]);
    assert_eq!(
        reason,
        "all values are the same, or too close for sums at their distance from the pivot: try `pivot: 0.3`; no errors of the quantiles: the replicas do not differ; no core: the central 68 % have no width"
    );
    assert!(spread.is_nan());
    let (reason, spread) = odd(&[1.0, 3.0, 2.0, 2.0], &[-1.0, -1.0, 2.0, 2.0]);
    assert_eq!(reason, "negative weights leave no spread; no core: the central 68 % have no width");
    assert!(spread.is_nan());
}

#[test]
fn numbers_of_older_codes_are_reproduced_and_said() {
    let rows = Rows::new(100_000);
    let fit_of = |compat: Compat, low: f64| {
        let step = Resolution {
            compat: Some(Placed::unplaced(compat)),
            by: by(&[("energy", low, 500.0, 10)]),
            for_each: None,
            ..resolution()
        };
        let (_, summary) = fold(&step, &rows.batch(), 1);
        let fits: serde_json::Value = serde_json::from_str(&summary.table.schema().metadata()[FITS_KEY]).unwrap();
        let terms = ["a", "b", "c"].map(|letter| fits["fits"]["all"][letter]["value"].as_f64().unwrap());
        let errors = ["a", "b", "c"].map(|letter| fits["fits"]["all"][letter]["error"].as_f64().unwrap());
        assert!(summary.table.schema().metadata()["calostream.compat"].starts_with("lcd-"));
        let Content::Curves { curves, .. } = &summary.figures[0].content else { panic!("curves") };
        (terms, errors, curves[0].points[0].x, summary.remarks[1].clone())
    };
    let script = "
from scipy.optimize import curve_fit
energy, error = floats(given['energy']), floats(given['error'])
n = 10
def points(low):
    edges = np.linspace(low, 500, n + 1)
    bins = [error[(energy >= a) & (energy < b)] * 100 for a, b in zip(edges[:-1], edges[1:])]
    return np.array([np.std(b) for b in bins]), np.array([len(b) for b in bins])
out = {}
# The published fit: per cents, centres of equal parts of [10, 500], sigma of the standard deviation, bounds of 0 and 1000.
stds, sizes = points(10)
x = np.array([10 + (i + .5) * 490 / n for i in range(n)])
p, cov = curve_fit(lambda E, a, b, c: np.sqrt(a**2 / E + b**2 + (c / E)**2), x, stds, p0=[30, 1, 100], sigma=stds / np.sqrt(2 * sizes),
                   bounds=(0, 1000), ftol=1e-14, xtol=1e-14, gtol=1e-14, max_nfev=10000)
out['nips'] = [list(p / 100), list(np.sqrt(np.diag(cov)) / 100)]
# The library: a linear sum, at centres of equal parts of [0, 500].
stds, sizes = points(0)
x = np.array([(i + .5) * 500 / n for i in range(n)])
p, cov = curve_fit(lambda E, a, b, c: a / np.sqrt(E) + b + c / E, x, stds / 100)
out['library'] = [list(p), list(np.sqrt(np.diag(cov)))]
answer(out)
";
    let expected = python(script, &rows.given());
    let list = |code: &str, i: usize| -> Vec<f64> { serde_json::from_value(expected[code][i].clone()).unwrap() };
    let (terms, errors, x, said) = fit_of(Compat::LcdNips, 10.0);
    close(&terms, &list("nips", 0), 1e-3);
    close(&errors, &list("nips", 1), 1e-2);
    assert_eq!(x, 34.5);
    assert!(said.starts_with("compat: lcd-nips: points stand at 10 + (i + 1/2) 490/n"), "{said}");
    let (terms, errors, x, said) = fit_of(Compat::LcdLibrary, 0.0);
    close(&terms, &list("library", 0), 1e-5);
    close(&errors, &list("library", 1), 1e-5);
    assert_eq!(x, 25.0);
    assert!(said.contains("added linearly"), "{said}");
    let step = Resolution { compat: Some(Placed::unplaced(Compat::Deepcalo)), ..resolution() };
    assert!(fold(&step, &rows.batch(), 1).1.remarks[1].contains("nothing differs"));
}

#[test]
fn categories_are_bins_with_names() {
    let rows = two(5000);
    let text = |text: &str| crate::statistics::axis::Category::Text(text.to_owned());
    let categories =
        AxisWords { categories: Some(Placed::unplaced(vec![text("pion"), text("electron")])), ..AxisWords::default() };
    let mut step = Resolution { of: word("cnn").into(), ..of_two() };
    step.by = by(&[("energy", 10.0, 100.0, 2)]);
    if let Some(by) = &mut step.by {
        by.value.insert(word("sample"), categories.clone());
    }
    let (_, summary) = fold(&step, &rows, 3);
    assert_eq!(texts_of(&summary.table, "sample"), ["pion", "electron", "pion", "electron"]);
    assert_eq!(column_of(&summary.table, "n")[..3], [0.0, column_of(&summary.table, "n")[1], 0.0]);
    let whole = Resolution { by: by(&[("energy", 10.0, 100.0, 2)]), ..step.clone() };
    let whole = fold(&whole, &rows, 1).1.table;
    assert_eq!([1, 3].map(|row| column_of(&summary.table, "resolution")[row])[..], column_of(&whole, "resolution")[..]);
    let Content::Curves { curves, .. } = &summary.figures[0].content else { panic!("curves") };
    assert_eq!((curves[1].label.as_str(), curves[1].points.len()), ("sample electron", 2));
    step.along = Some(word("sample"));
    let (_, summary) = fold(&step, &rows, 1);
    assert_eq!(summary.figures[0].x, "sample: 1 pion, 2 electron");
    let Content::Curves { curves, .. } = &summary.figures[0].content else { panic!("curves") };
    assert_eq!(curves[0].points[0].x, 2.0);
    step.fit = Some(at(1, 1, FitWord::Calorimeter));
    assert_eq!(problems(&step, &rows), ["1:1 a fit goes along an energy, and `sample` has categories (along: energy)"]);
}

#[test]
fn wrong_wishes_have_places() {
    let rows = two(10);
    let wrong = Resolution {
        of: Names { words: vec![at(1, 1, "cnn".to_owned()), at(1, 2, "cnn".to_owned())], listed: true },
        along: Some(at(2, 1, "energie".to_owned())),
        core: Some(at(3, 1, 0.1)),
        bootstrap: Some(at(4, 1, 1)),
        reference: Some(at(5, 1, "cnn".to_owned())),
        ..of_two()
    };
    assert_eq!(
        problems(&wrong, &rows),
        [
            "1:2 `cnn` is given twice",
            "2:1 `energie` is not binned in (did you mean `energy`?)",
            "3:1 a core of 0.1 sigmas on both sides (give a number from 0.5 to 10: 2, say)",
            "4:1 1 replica has no spread (give 100, or 0 for none)",
            "5:1 `cnn` is compared with itself (name another column in `of`)",
        ]
    );
    let no_axis = Resolution { by: None, fit: Some(at(1, 1, FitWord::Calorimeter)), ..of_two() };
    assert!(problems(&no_axis, &rows)[0].starts_with("1:1 a fit goes along a column"));
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
    resolution.by = by(&[("energy", 10.0, 510.0, 50)]);
    let pieces: Vec<RecordBatch> = {
        let batch = rows.batch();
        (0..ROWS).step_by(1 << 16).map(|first| batch.slice(first, (1 << 16).min(ROWS - first))).collect()
    };
    let work = |pieces: &[RecordBatch]| {
        let mut measuring = resolution.measuring(&pieces[0].schema(), 0).unwrap();
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

#[test]
fn ratios_to_a_reference_stand_below_with_their_errors() {
    let rows = two(4_000);
    let resolution = Resolution { reference: Some(word("bdt")), ..of_two() };
    let (_, summary) = fold(&resolution, &rows, 1);
    let ratios = |summary: &crate::statistics::figure::Summary, name: &str| {
        let figure = summary.figures.iter().find(|f| f.name == name).expect("a figure");
        let Content::Compared { y, ratios, .. } = &figure.content else { panic!("no panel below {name}") };
        (y.clone(), ratios.clone())
    };
    let of = |name: &str| column_of(&summary.table, name);
    // The first two series are those of cnn, in two bins of eta; rows of the table have eta fastest.
    let (y, found) = ratios(&summary, "eiqr");
    assert_eq!((y.as_str(), found.len(), found[2].points.len()), ("/ bdt", 4, 0));
    let (gains, errors) = (of("reiqr"), of("reiqr_error"));
    for (bin, point) in found[1].points.iter().enumerate() {
        assert_eq!((point.y, point.y_error), (1.0 - gains[2 * bin + 1], errors[2 * bin + 1]), "the paired error");
    }
    let (_, found) = ratios(&summary, "resolution");
    let (widths, errors) = (of("resolution"), of("resolution_error"));
    let ratio = widths[0] / widths[6];
    close(&[found[0].points[0].y], &[ratio], 1e-12);
    close(&[found[0].points[0].y_error], &[ratio * (errors[0] / widths[0]).hypot(errors[6] / widths[6])], 1e-12);
    assert!(summary.figures.iter().all(|f| f.name != "bias" || matches!(f.content, Content::Curves { .. })), "none of means");
    assert!(summary.remarks.iter().any(|r| r.contains("paired bootstrap")), "{:?}", summary.remarks);
    let none = Resolution { ratio: Some(word("none")), ..resolution.clone() };
    let (_, summary) = fold(&none, &rows, 1);
    assert!(summary.figures.iter().all(|f| matches!(f.content, Content::Curves { .. })));
    let problems =
        Resolution { ratio: Some(word("cnm")), ..resolution }.measuring(&rows.schema(), 0).expect_err("no such column");
    assert!(problems[0].what.contains("one curve has no ratio"), "{problems:?}");
}
