use super::*;
use crate::kinematics::{Z_MASS, Z_WIDTH};
use crate::random::Random;
use crate::trial::{close, floats, python};
use proptest::prelude::*;
use serde_json::{Value, json};

const Z: Line = Line { mass: Z_MASS, width: Z_WIDTH };

/// The same curve made otherwise: the Crystal Ball of scipy on a fine grid, against the Cauchy distribution's cumulative one.
const MODEL: &str = "
from scipy import stats
M, W = 91.1876, 2.4952
edges = np.linspace(*given['range'], given['bins'] + 1)
def shares(shift, sigma, alpha, n):
    t = np.concatenate([-np.geomspace(1e4, 90, 500)[:-1] / sigma, np.linspace(-90 / sigma, 8, 4001)])
    weight = np.convolve(np.diff(t), [0.5, 0.5]) * stats.crystalball.pdf(t, alpha, n)
    parts = np.diff(np.arctan((edges[:, None] - M - shift - sigma * t[None, :]) / (W / 2)) @ weight)
    return parts / parts.sum()
";

/// Shift, sigma, alpha, n; rows; range; bins.
type Case = ([f64; 4], u32, [f64; 2], usize);

const CASES: [Case; 10] = [
    ([0.0, 2.0, 1.5, 3.0], 50_000, [66.0, 116.0], 100),
    ([-0.5, 2.058, 1.2, 2.0], 200_000, [66.0, 116.0], 200),
    ([-0.5, 2.271, 1.2, 2.0], 200_000, [66.0, 116.0], 200),
    ([1.0, 1.0, 1.0, 5.0], 30_000, [70.0, 110.0], 80),
    ([0.3, 3.5, 1.8, 4.0], 100_000, [60.0, 120.0], 60),
    ([-2.0, 1.5, 0.8, 6.0], 20_000, [66.0, 116.0], 100),
    ([0.0, 0.6, 1.3, 2.5], 100_000, [76.0, 106.0], 120),
    ([0.2, 5.0, 1.0, 3.0], 300_000, [50.0, 130.0], 160),
    ([0.0, 2.0, 0.6, 8.0], 10_000, [66.0, 116.0], 50),
    ([-1.0, 2.5, 1.4, 1.8], 1_000_000, [66.0, 116.0], 200),
];

fn edges(range: [f64; 2], bins: usize) -> Vec<f64> {
    (0..=bins).map(|i| range[0] + (range[1] - range[0]) * i as f64 / bins as f64).collect()
}

fn given((truth, rows, range, bins): &Case, seed: usize) -> Value {
    json!({ "truth": truth, "rows": rows, "range": range, "bins": bins, "seed": seed })
}

fn spectrum<'a>(edges: &'a [f64], contents: &'a [f64]) -> Spectrum<'a> {
    Spectrum { edges, contents, variances: None }
}

/// Poisson contents of a peak.
fn toy(expected: &[f64], seed: u64) -> Vec<f64> {
    let mut random = Random::new([seed, 0, 0, 0]);
    expected.iter().map(|expected| f64::from(random.poisson(*expected))).collect()
}

fn expected(truth: [f64; 4], rows: f64, edges: &[f64]) -> Vec<f64> {
    Model { edges, line: Z }.shares(&truth).0.iter().map(|share| share * rows).collect()
}

#[test]
fn the_curve_is_that_of_scipy() {
    for case in &CASES {
        let edges = edges(case.2, case.3);
        let script = format!("{MODEL}\nanswer(bits(shares(*given['truth'])))");
        close(&Model { edges: &edges, line: Z }.shares(&case.0).0, &floats(&python(&script, &given(case, 0))), 1e-4);
    }
}

#[test]
fn the_derivatives_are_those_found_numerically() {
    let edges = edges([66.0, 116.0], 25);
    let model = Model { edges: &edges, line: Z };
    for truth in [[0.3, 2.0, 1.5, 3.0], [-1.0, 0.5, 0.7, 12.0]] {
        let (_, slopes) = model.shares(&truth);
        for i in 0..4 {
            let step = 1e-4 * truth[i].abs();
            let [above, below] = [step, -step].map(|step| {
                let mut values = truth;
                values[i] += step;
                model.shares(&values).0
            });
            let largest = slopes.iter().map(|slope| slope[i].abs()).fold(0.0, f64::max);
            for (bin, slope) in slopes.iter().enumerate() {
                let numerical = (above[bin] - below[bin]) / (2.0 * step);
                assert!((slope[i] - numerical).abs() < 1e-5 * largest, "{i} in bin {bin}: {} is not {numerical}", slope[i]);
            }
        }
    }
}

#[test]
fn values_and_errors_are_those_of_iminuit() {
    let script = format!(
        "{MODEL}
from iminuit import Minuit
rng = np.random.default_rng(given['seed'])
shift, sigma, alpha, n = given['truth']
mass = M + W / 2 * rng.standard_cauchy(3 * given['rows']) + shift
mass += sigma * stats.crystalball.rvs(alpha, n, size=3 * given['rows'], random_state=rng)
mass = mass[(mass >= edges[0]) & (mass < edges[-1])][:given['rows']]
counts = np.histogram(mass, edges)[0]
def nll(shift, sigma, alpha, n):
    q = shares(shift, sigma, alpha, n)
    return -(counts * np.log(q / counts.clip(1) * counts.sum())).sum()
m = Minuit(nll, *given['truth'])
m.errordef = Minuit.LIKELIHOOD
m.limits = [(-20, 20), (0.02, 50), (0.2, 6), (1.05, 100)]
m.tol = 1e-4
m.strategy = 1
m.migrad()
m.hesse()
answer({{'counts': bits(counts), 'values': list(m.values), 'errors': list(m.errors), 'valid': m.valid}})
"
    );
    for (seed, case) in CASES.iter().enumerate() {
        let found = python(&script, &given(case, seed));
        let contents = floats(&found["counts"]);
        let edges = edges(case.2, case.3);
        let peak = Peak::fit(&spectrum(&edges, &contents), Z, Held::default()).unwrap();
        for (i, name) in PARAMETERS.iter().enumerate() {
            let (value, error) = (found["values"][i].as_f64().unwrap(), found["errors"][i].as_f64().unwrap());
            let (own, own_error) = (peak.parameters[i].value, peak.parameters[i].error.unwrap());
            assert_eq!(found["valid"], true);
            assert!((own - value).abs() < 0.01 * error, "{name} of {case:?}: {own} is not {value} ± {error}");
            assert!((own_error / error - 1.0).abs() < 0.02, "the error of {name} of {case:?}: {own_error} is not {error}");
        }
    }
}

#[test]
fn errors_cover_the_truth_as_often_as_they_should() {
    let edges = edges([66.0, 116.0], 50);
    let truth = [0.2, 2.0, 1.2, 3.0];
    let expected = expected(truth, 100_000.0, &edges);
    let (toys, mut covered, mut chi2) = (2000, [0; 4], 0.0);
    for seed in 0..toys {
        let peak = Peak::fit(&spectrum(&edges, &toy(&expected, seed)), Z, Held::default()).unwrap();
        chi2 += peak.chi2 / peak.ndf as f64 / toys as f64;
        for (i, parameter) in peak.parameters.iter().enumerate() {
            covered[i] += i32::from((parameter.value - truth[i]).abs() < parameter.error.unwrap_or(0.0));
        }
    }
    println!("{covered:?} {chi2}");
    for (covered, name) in covered.iter().zip(PARAMETERS) {
        let share = f64::from(*covered) / toys as f64;
        assert!((share - 0.6827).abs() < 0.02, "{name} is covered in {share}");
    }
    assert!((chi2 - 1.0).abs() < 0.03, "{chi2}");
}

#[test]
fn weights_change_the_errors_as_the_spread_of_toys_says() {
    // Weights of 0.5 and 2 in equal shares: contents are worth fewer rows than there are.
    let edges = edges([66.0, 116.0], 50);
    let truth = [0.2, 2.0, 1.2, 3.0];
    let half = expected(truth, 20_000.0, &edges);
    let (mut sigmas, mut errors) = (Vec::new(), Vec::new());
    for seed in 0..300 {
        let (light, heavy) = (toy(&half, 2 * seed), toy(&half, 2 * seed + 1));
        let contents: Vec<f64> = light.iter().zip(&heavy).map(|(l, h)| 0.5 * l + 2.0 * h).collect();
        let variances: Vec<f64> = light.iter().zip(&heavy).map(|(l, h)| 0.25 * l + 4.0 * h).collect();
        let weighted = Spectrum { edges: &edges, contents: &contents, variances: Some(&variances) };
        let held = Held { alpha: None, n: Some(3.0) };
        let peak = Peak::fit(&weighted, Z, held).unwrap();
        sigmas.push(peak.parameters[SIGMA].value);
        errors.push(peak.parameters[SIGMA].error.unwrap());
        assert_eq!((peak.parameters[N].value, peak.parameters[N].error), (3.0, None));
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let centre = mean(&sigmas);
    let spread = mean(&sigmas.iter().map(|sigma| (sigma - centre).powi(2)).collect::<Vec<_>>()).sqrt();
    // The spread of 300 toys is known to 4 %.
    assert!((mean(&errors) / spread - 1.0).abs() < 0.12, "{} is not {spread}", mean(&errors));
    assert!((centre - 2.0).abs() < 4.0 * spread / 300.0_f64.sqrt());
}

#[test]
fn equal_weights_change_nothing_but_the_contents() {
    let edges = edges([66.0, 116.0], 50);
    let contents = toy(&expected([0.2, 2.0, 1.2, 3.0], 50_000.0, &edges), 1);
    let plain = Peak::fit(&spectrum(&edges, &contents), Z, Held::default()).unwrap();
    let (tripled, ninefold): (Vec<f64>, Vec<f64>) = contents.iter().map(|n| (3.0 * n, 9.0 * n)).unzip();
    let weighted = Spectrum { edges: &edges, contents: &tripled, variances: Some(&ninefold) };
    let weighted = Peak::fit(&weighted, Z, Held::default()).unwrap();
    close(&weighted.values(), &plain.values(), 1e-9);
    close(&[weighted.chi2], &[plain.chi2], 1e-9);
    close(&weighted.expected, &plain.expected.iter().map(|n| 3.0 * n).collect::<Vec<_>>(), 1e-6);
    for (own, plain) in weighted.parameters.iter().zip(&plain.parameters) {
        assert!((own.error.unwrap() / plain.error.unwrap() - 1.0).abs() < 0.1);
    }
}

#[test]
fn what_is_no_peak_says_why() {
    let edges = edges([66.0, 116.0], 50);
    let fit = |contents: &[f64]| Peak::fit(&spectrum(&edges, contents), Z, Held::default()).map(|peak| peak.values());
    let mut one = vec![0.0; 50];
    assert_eq!(fit(&one).unwrap_err(), "every bin of the range is empty");
    one[25] = 1.0;
    assert_eq!(fit(&one).unwrap_err(), "1 bin with entries do not determine a peak");
    one[25] = 1e6;
    assert_eq!(fit(&one).unwrap_err(), "1 bin with entries do not determine a peak");
    let mut negative = expected([0.2, 2.0, 1.2, 3.0], 1e4, &edges);
    negative[3] = -2.0;
    assert_eq!(fit(&negative).unwrap_err(), "the weights in the bin [69, 70) add up to -2: no likelihood");
    negative[3] = f64::NAN;
    assert!(fit(&negative).unwrap_err().ends_with("add up to NaN: no likelihood"));
    let narrow: Vec<f64> = (0..50).map(|i| if (22..28).contains(&i) { 1000.0 } else { 0.0 }).collect();
    assert!(fit(&narrow).is_ok(), "a poor curve has a chi2 that says so");
    assert_eq!(fit(&[100.0; 50]).unwrap_err(), "there is no peak: sigma runs to the width of the range");
    let falling: Vec<f64> = (0..50).map(|i| 1000.0 * (-f64::from(i) / 10.0).exp()).collect();
    assert_eq!(fit(&falling).unwrap_err(), "the peak runs out of the range");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_contents_give_numbers_or_a_reason(
        contents in prop::collection::vec(prop_oneof![4 => 0.0_f64..50.0, 2 => Just(0.0), 1 => 0.0..1e12, 1 => 0.0..1e-300], 10..40),
    ) {
        let edges = edges([66.0, 116.0], contents.len());
        match Peak::fit(&spectrum(&edges, &contents), Z, Held::default()) {
            Ok(peak) => {
                prop_assert!(peak.values().iter().all(|value| value.is_finite()));
                prop_assert!(peak.parameters[SIGMA].value > 0.0);
                prop_assert!(peak.parameters[SIGMA].error.is_some_and(|error| error.is_finite() && error > 0.0));
                prop_assert!(peak.chi2.is_finite());
            }
            Err(reason) => prop_assert!(!reason.is_empty()),
        }
    }
}
