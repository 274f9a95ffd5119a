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

fn model(edges: &[f64], background: Background) -> Model<'_> {
    Model { edges, line: Z, background }
}

/// A peak without a background.
fn alone([shift, sigma, alpha, n]: [f64; 4]) -> Values {
    [shift, sigma, alpha, n, 0.0, 0.0]
}

fn expected(truth: [f64; 4], rows: f64, edges: &[f64]) -> Vec<f64> {
    model(edges, Background::None).shares(&alone(truth)).0.iter().map(|share| share * rows).collect()
}

#[test]
fn the_curve_is_that_of_scipy() {
    for case in &CASES {
        let edges = edges(case.2, case.3);
        let script = format!("{MODEL}\nanswer(bits(shares(*given['truth'])))");
        close(&model(&edges, Background::None).shares(&alone(case.0)).0, &floats(&python(&script, &given(case, 0))), 1e-4);
    }
}

#[test]
fn the_derivatives_are_those_found_numerically() {
    let edges = edges([66.0, 116.0], 25);
    for (background, below) in [
        (Background::None, [0.0, 0.0]),
        (Background::Exponential, [0.3, -0.04]),
        (Background::Exponential, [0.8, 1e-6]),
        (Background::Linear, [0.3, -0.7]),
    ] {
        let model = model(&edges, background);
        for [shift, sigma, alpha, n] in [[0.3, 2.0, 1.5, 3.0], [-1.0, 0.5, 0.7, 12.0]] {
            let truth = [shift, sigma, alpha, n, below[0], below[1]];
            let (shares, slopes) = model.shares(&truth);
            close(&[shares.iter().sum::<f64>()], &[1.0], 1e-12);
            for i in 0..if background == Background::None { OF_PEAK } else { PARAMETERS.len() } {
                let step = 1e-4 * truth[i].abs().max(1e-3);
                let [above, below] = [step, -step].map(|step| {
                    let mut values = truth;
                    values[i] += step;
                    model.shares(&values).0
                });
                let largest = slopes.iter().map(|slope| slope[i].abs()).fold(0.0, f64::max);
                for (bin, slope) in slopes.iter().enumerate() {
                    let numerical = (above[bin] - below[bin]) / (2.0 * step);
                    let off = (slope[i] - numerical).abs();
                    assert!(off < 1e-5 * largest, "{background:?} {i} in bin {bin}: {} is not {numerical}", slope[i]);
                }
            }
        }
    }
}

#[test]
fn a_background_is_that_of_scipys_integrals() {
    let edges = edges([66.0, 116.0], 20);
    for (background, slope) in [(Background::Exponential, -0.05), (Background::Exponential, 0.3), (Background::Linear, -0.6)] {
        let script = "
from scipy.integrate import quad
density = (lambda m: np.exp(given['slope'] * (m - 91))) if given['kind'] else (lambda m: 1 + given['slope'] * (m - 91) / 25)
edges = np.linspace(66, 116, 21)
parts = np.array([quad(density, a, b, epsabs=0, epsrel=1e-12)[0] for a, b in zip(edges, edges[1:])])
answer(bits(parts / parts.sum()))
";
        let given = json!({ "slope": slope, "kind": i32::from(background == Background::Exponential) });
        close(&model(&edges, background).below(slope).unwrap().0, &floats(&python(script, &given)), 1e-10);
    }
    assert!(model(&edges, Background::None).below(0.0).is_none());
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
        for (i, name) in PARAMETERS.iter().enumerate().take(OF_PEAK) {
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
        for (i, parameter) in peak.parameters.iter().enumerate().take(OF_PEAK) {
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
        let held = Held { n: Some(3.0), ..Held::default() };
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
    for (own, plain) in weighted.parameters.iter().zip(&plain.parameters).take(OF_PEAK) {
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

/// Kind; shift, sigma, alpha, n, fraction and slope; rows; range; bins.
type OnBackground = (Background, Values, u32, [f64; 2], usize);

const ON_BACKGROUND: [OnBackground; 10] = [
    (Background::Exponential, [0.0, 2.0, 1.5, 3.0, 0.2, -0.03], 100_000, [66.0, 116.0], 100),
    (Background::Exponential, [-0.5, 2.058, 1.2, 2.0, 0.05, -0.05], 300_000, [66.0, 116.0], 100),
    (Background::Exponential, [0.3, 3.0, 1.8, 4.0, 0.5, -0.02], 200_000, [60.0, 120.0], 60),
    (Background::Exponential, [0.0, 1.2, 1.0, 3.0, 0.3, 0.02], 100_000, [70.0, 110.0], 80),
    (Background::Exponential, [-1.0, 2.5, 1.4, 2.5, 0.7, -0.04], 500_000, [60.0, 120.0], 120),
    (Background::Linear, [0.0, 2.0, 1.5, 3.0, 0.2, -0.5], 100_000, [66.0, 116.0], 100),
    (Background::Linear, [-0.5, 2.271, 1.2, 2.0, 0.1, 0.3], 300_000, [66.0, 116.0], 100),
    (Background::Linear, [0.5, 1.5, 1.0, 4.0, 0.4, 0.0], 100_000, [70.0, 110.0], 80),
    (Background::Linear, [0.2, 4.0, 1.2, 3.0, 0.3, -0.7], 300_000, [50.0, 130.0], 80),
    (Background::Linear, [0.0, 2.0, 0.8, 5.0, 0.6, -0.3], 200_000, [66.0, 116.0], 50),
];

#[test]
fn values_and_errors_on_a_background_are_those_of_iminuit() {
    let script = format!(
        "{MODEL}
from iminuit import Minuit
low, high = given['range']
middle, half = (low + high) / 2, (high - low) / 2
def below(slope):
    if given['kind']:
        parts = np.diff(np.exp(slope * (edges - middle))) / slope if abs(slope) > 1e-9 else np.diff(edges)
    else:
        x = (edges - middle) / half
        parts = np.diff(x + slope * x * x / 2)
    return parts / parts.sum()
def whole(shift, sigma, alpha, n, fraction, slope):
    return (1 - fraction) * shares(shift, sigma, alpha, n) + fraction * below(slope)
rng = np.random.default_rng(given['seed'])
counts = rng.multinomial(given['rows'], whole(*given['truth']))
def nll(*values):
    q = whole(*values)
    return -(counts * np.log(q / counts.clip(1) * counts.sum())).sum()
m = Minuit(nll, *given['truth'], name=['shift', 'sigma', 'alpha', 'n', 'fraction', 'slope'])
m.errordef = Minuit.LIKELIHOOD
m.limits = [(-20, 20), (0.02, 50), (0.2, 6), (1.05, 100), (0, 1), (-.4, .4) if given['kind'] else (-1, 1)]
m.tol = 1e-5
m.strategy = 2
m.migrad()
m.hesse()
valid = m.valid
# Minuit's own second derivatives are good to some per cent where parameters go together as these do.
at, steps = np.array(m.values), 0.03 * np.array(m.errors)
def moved(i, by, j, also):
    x = at.copy()
    x[i] += by * steps[i]
    x[j] += also * steps[j]
    return nll(*x)
hessian = [[(moved(i, 1, j, 1) - moved(i, 1, j, -1) - moved(i, -1, j, 1) + moved(i, -1, j, -1)) / (4 * steps[i] * steps[j]) for j in range(6)] for i in range(6)]
errors = np.sqrt(np.diag(np.linalg.inv(np.array(hessian))))
answer({{'counts': bits(counts), 'values': list(m.values), 'errors': list(m.errors), 'exact': list(errors), 'valid': valid}})
"
    );
    for (seed, (background, truth, rows, range, bins)) in ON_BACKGROUND.iter().enumerate() {
        let kind = i32::from(*background == Background::Exponential);
        let given = json!({ "truth": truth, "rows": rows, "range": range, "bins": bins, "seed": seed, "kind": kind });
        let found = python(&script, &given);
        let contents = floats(&found["counts"]);
        let edges = edges(*range, *bins);
        let held = Held { background: *background, ..Held::default() };
        let peak = Peak::fit(&spectrum(&edges, &contents), Z, held).unwrap();
        assert_eq!(found["valid"], true, "{background:?} {truth:?}");
        for (i, name) in PARAMETERS.iter().enumerate() {
            let (value, error) = (found["values"][i].as_f64().unwrap(), found["errors"][i].as_f64().unwrap());
            let (own, own_error) = (peak.parameters[i].value, peak.parameters[i].error.unwrap());
            assert!((own - value).abs() < 0.01 * error, "{name} of {background:?} {truth:?}: {own} is not {value} ± {error}");
            let exact = found["exact"][i].as_f64().unwrap();
            assert!((own_error / error - 1.0).abs() < 0.1, "the error of {name} of {truth:?}: {own_error} is not {error}");
            assert!((own_error / exact - 1.0).abs() < 0.02, "the error of {name} of {truth:?}: {own_error} is not {exact}");
        }
    }
}

#[test]
fn errors_on_a_background_cover_the_truth_as_often_as_they_should() {
    let edges = edges([66.0, 116.0], 50);
    for (background, slope) in [(Background::Exponential, -0.03), (Background::Linear, -0.4)] {
        let truth = [0.2, 2.0, 1.2, 3.0, 0.2, slope];
        let shares = model(&edges, background).shares(&truth).0;
        let expected: Vec<f64> = shares.iter().map(|share| share * 500_000.0).collect();
        // alpha and n stand for the same tail as the background's slope does, and are known from simulation where there is a background.
        let held = Held { alpha: Some(1.2), n: Some(3.0), background };
        let (toys, mut covered) = (2000, [0; 6]);
        for seed in 0..toys {
            let peak = Peak::fit(&spectrum(&edges, &toy(&expected, seed)), Z, held).unwrap();
            for (i, parameter) in peak.parameters.iter().enumerate() {
                covered[i] += i32::from((parameter.value - truth[i]).abs() < parameter.error.unwrap_or(0.0));
            }
        }
        println!("{background:?} {covered:?}");
        for i in [0, SIGMA, FRACTION, SLOPE] {
            let share = f64::from(covered[i]) / toys as f64;
            assert!((share - 0.6827).abs() < 0.02, "{} on {background:?} is covered in {share}", PARAMETERS[i]);
        }
    }
}

#[test]
fn where_there_is_no_background_it_says_so_and_where_there_is_no_peak_too() {
    let edges = edges([66.0, 116.0], 50);
    for background in [Background::Exponential, Background::Linear] {
        let held = Held { n: Some(3.0), background, ..Held::default() };
        let fit = |contents: &[f64]| Peak::fit(&spectrum(&edges, contents), Z, held);
        // A peak whose sides lie below those of the curve: less than nothing would be fitted there.
        let mut clean = expected([0.2, 2.0, 1.2, 3.0], 1e5, &edges);
        clean[..10].iter_mut().for_each(|content| *content *= 0.7);
        clean[40..].iter_mut().for_each(|content| *content *= 0.7);
        let peak = fit(&clean).unwrap();
        let [.., fraction, slope] = peak.parameters;
        assert_eq!((fraction.value, fraction.error, fraction.at_bound, slope.error), (0.0, None, true, None));
        assert!(peak.parameters[SIGMA].error.is_some());
        let flat = fit(&[100.0; 50]);
        assert!(flat.is_err(), "{:?}", flat.map(|peak| peak.parameters));
    }
    let few: Vec<f64> = (0..50).map(|i| f64::from(u8::from(i < 7))).collect();
    let held = Held { background: Background::Linear, ..Held::default() };
    assert_eq!(Peak::fit(&spectrum(&edges, &few), Z, held).unwrap_err(), "7 bins with entries do not determine a peak");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_contents_give_numbers_or_a_reason(
        contents in prop::collection::vec(prop_oneof![4 => 0.0_f64..50.0, 2 => Just(0.0), 1 => 0.0..1e12, 1 => 0.0..1e-300], 10..40),
    ) {
        let edges = edges([66.0, 116.0], contents.len());
        let background = [Background::None, Background::Exponential, Background::Linear][contents.len() % 3];
        match Peak::fit(&spectrum(&edges, &contents), Z, Held { background, ..Held::default() }) {
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
