//! The Gaussian core of a distribution: fitted within so many sigmas on both sides of its own mean, again and again, until
//! the range stands still.
//!
//! In the range the values are those of a normal distribution that is cut off at its ends; the likelihood is that of
//! bins a fiftieth of a sigma wide, whose edges are rungs' (so nothing is lost but the place within a bin), and its maximum is found
//! by Fisher's scoring in mean and ln sigma. The errors are from the expected information at the maximum; where rows have
//! weights, from `F^-1 D F^-1` with D from the squared weights (Langenbruch, EPJC 82 (2022) 393). A normal distribution has the
//! same mean and sigma in every range, so to first order the range's own wobble does not add to the errors: in 2,000 toys they cover
//! 68 %, which a test here asks for.

use crate::words;
use statrs::function::erf::erf;

/// Bins in a sigma.
const BINS: f64 = 50.0;
/// Bins that are taken together for chi squared.
const TOGETHER: usize = 10;
/// Times that the range is moved at most.
const MOST_MOVES: u32 = 100;

/// What stands between two values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loaded {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The sum of weights.
    pub w: f64,
    /// The sum of squared weights.
    pub w2: f64,
}

/// A fitted core.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Core {
    /// Its mean.
    pub mean: f64,
    /// One standard error of the mean.
    pub mean_error: f64,
    /// Its sigma.
    pub sigma: f64,
    /// One standard error of sigma.
    pub sigma_error: f64,
    /// The range that was fitted.
    pub range: (f64, f64),
    /// The likelihood ratio of the contents to the curve, distributed as chi squared (Baker, Cousins, NIM 221 (1984) 437).
    pub chi2: f64,
    /// Bins (a fifth of a sigma wide) less three.
    pub ndf: i64,
    /// How often the range was moved.
    pub moves: u32,
}

impl Core {
    /// The core of what stands on rungs in ascending order. `edge` gives the edge of a rung at or just below a value; `start`
    /// is a mean and a sigma to begin with.
    pub fn fit(rungs: &[Loaded], edge: impl Fn(f64) -> f64, within: f64, start: (f64, f64)) -> Result<Self, String> {
        let (mut mean, mut sigma) = start;
        if !(sigma.is_finite() && sigma > 0.0 && mean.is_finite()) {
            return Err("no core: the central 68 % have no width".into());
        }
        for moves in 1..=MOST_MOVES {
            let bins = Bins::new(rungs, &edge, (mean - within * sigma, mean + within * sigma), sigma / BINS)?;
            let found = bins.maximum((mean, sigma))?;
            // Few rows make the range hop between the same places, an event more or less at its ends: then it is moved by halves.
            let (tolerance, step) = if moves <= 10 { (0.01, 1.0) } else { (0.2, 0.5) };
            let still = |from: f64, to: f64, error: f64| (from - to).abs() <= tolerance * error;
            if still(mean, found.mean, found.mean_error) && still(sigma, found.sigma, found.sigma_error) {
                return Ok(Self { moves, ..found });
            }
            mean += step * (found.mean - mean);
            sigma += step * (found.sigma - sigma);
        }
        Err(format!("no core: the range of {within} sigma does not stand still after {MOST_MOVES} fits"))
    }
}

/// The contents of bins side by side.
struct Bins {
    edges: Vec<f64>,
    w: Vec<f64>,
    w2: Vec<f64>,
    all: f64,
}

/// What the parameters say of a bin: its share, and the derivatives of the share's logarithm.
struct Share {
    share: f64,
    by_mean: f64,
    by_log_sigma: f64,
}

impl Bins {
    fn new(rungs: &[Loaded], edge: &impl Fn(f64) -> f64, (low, high): (f64, f64), width: f64) -> Result<Self, String> {
        let count = ((high - low) / width).ceil().clamp(1.0, 1e4) as usize;
        let mut edges: Vec<f64> = (0..=count).map(|i| edge(low + (high - low) * i as f64 / count as f64)).collect();
        edges.dedup();
        let (mut w, mut w2) = (vec![0.0; edges.len() - 1], vec![0.0; edges.len() - 1]);
        let mut rows = 0;
        for rung in rungs {
            let bin = edges.partition_point(|edge| *edge <= f64::midpoint(rung.low, rung.high));
            if (1..edges.len()).contains(&bin) {
                w[bin - 1] += rung.w;
                w2[bin - 1] += rung.w2;
                rows += 1;
            }
        }
        let (all, filled) = (w.iter().sum::<f64>(), w.iter().filter(|w| **w > 0.0).count());
        if w.iter().any(|w| *w < 0.0) {
            return Err("no core: the weights in a bin add up to less than 0, of which there is no likelihood".into());
        }
        if filled < 5 || rows < 5 {
            return Err(format!("no core: {} with entries do not determine it", words::counted(filled as u64, "bin")));
        }
        Ok(Self { edges, w, w2, all })
    }

    fn shares(&self, (mean, sigma): (f64, f64)) -> Vec<Share> {
        let place = |x: f64| (x - mean) / sigma;
        let below = |z: f64| 0.5 * erf(z * std::f64::consts::FRAC_1_SQRT_2);
        let density = |z: f64| (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let between = |low: f64, high: f64| {
            let (a, b) = (place(low), place(high));
            let (da, db) = (density(a), density(b));
            (below(b) - below(a), (da - db) / sigma, a * da - b * db)
        };
        let (all, all_by_mean, all_by_log) = between(self.edges[0], self.edges[self.edges.len() - 1]);
        let share = |ends: &[f64]| {
            let (of, by_mean, by_log) = between(ends[0], ends[1]);
            Share { share: of / all, by_mean: by_mean / of - all_by_mean / all, by_log_sigma: by_log / of - all_by_log / all }
        };
        self.edges.windows(2).map(share).collect()
    }

    fn log_likelihood(&self, shares: &[Share]) -> f64 {
        self.w.iter().zip(shares).filter(|(w, _)| **w > 0.0).map(|(w, share)| w * share.share.ln()).sum()
    }

    /// The sums over bins of what is in them times the products of the derivatives.
    fn information(shares: &[Share], rows: impl Iterator<Item = f64>) -> [f64; 3] {
        shares.iter().zip(rows).fold([0.0; 3], |[a, b, c], (s, n)| {
            [a + n * s.by_mean * s.by_mean, b + n * s.by_mean * s.by_log_sigma, c + n * s.by_log_sigma * s.by_log_sigma]
        })
    }

    fn maximum(&self, start: (f64, f64)) -> Result<Core, String> {
        const NONE: &str = "no core: the fit does not converge";
        const FLAT: &str = "no core: the contents of the range have no maximum that a Gaussian could follow";
        let (mut mean, mut sigma) = start;
        let range = (self.edges[0], self.edges[self.edges.len() - 1]);
        for _ in 0..200 {
            let shares = self.shares((mean, sigma));
            let here = self.log_likelihood(&shares);
            let slope = self.w.iter().zip(&shares).fold((0.0, 0.0), |(m, s), (w, share)| {
                if *w > 0.0 { (m + w * share.by_mean, s + w * share.by_log_sigma) } else { (m, s) }
            });
            let fisher = Self::information(&shares, shares.iter().map(|share| self.all * share.share));
            let inverse = inverse(fisher).ok_or(NONE)?;
            let (step_mean, step_log) =
                (inverse[0] * slope.0 + inverse[1] * slope.1, inverse[1] * slope.0 + inverse[2] * slope.1);
            if !(step_mean.is_finite() && step_log.is_finite()) {
                return Err(NONE.into());
            }
            // Half of the expected gain of the likelihood, in units of which errors are one half.
            if slope.0 * step_mean + slope.1 * step_log < 1e-12 {
                return Ok(self.core((mean, sigma), &shares, inverse));
            }
            let mut scale = (1.0 / step_log.abs().max(1.0)).min(sigma / step_mean.abs().max(sigma));
            loop {
                let next = (mean + scale * step_mean, sigma * (scale * step_log).exp());
                if next.1 > 10.0 * (range.1 - range.0) {
                    return Err(FLAT.into());
                }
                let there = self.log_likelihood(&self.shares(next));
                if there >= here - 1e-12 * here.abs() {
                    (mean, sigma) = next;
                    break;
                }
                scale /= 2.0;
                if scale < 1e-9 {
                    return Err(NONE.into());
                }
            }
        }
        Err(NONE.into())
    }

    fn core(&self, (mean, sigma): (f64, f64), shares: &[Share], inverse: [f64; 3]) -> Core {
        let squares = self.w2.iter().sum::<f64>() / self.all;
        let unweighted = self.w.iter().zip(&self.w2).all(|(w, w2)| w == w2);
        let [a, b, c] = inverse;
        let (mean_variance, log_variance) = if unweighted {
            (a, c)
        } else {
            let [d, e, f] = Self::information(shares, self.w2.iter().copied());
            (a * a * d + 2.0 * a * b * e + b * b * f, b * b * d + 2.0 * b * c * e + c * c * f)
        };
        let deviance = |(w, shares): (&[f64], &[Share])| {
            let (w, share) = (w.iter().sum::<f64>(), shares.iter().map(|share| share.share).sum::<f64>());
            let expected = self.all * share;
            2.0 * (expected - w + if w > 0.0 { w * (w / expected).ln() } else { 0.0 })
        };
        Core {
            mean,
            mean_error: mean_variance.sqrt(),
            sigma,
            sigma_error: sigma * log_variance.sqrt(),
            range: (self.edges[0], self.edges[self.edges.len() - 1]),
            chi2: self.w.chunks(TOGETHER).zip(shares.chunks(TOGETHER)).map(deviance).sum::<f64>() / squares,
            ndf: self.w.len().div_ceil(TOGETHER) as i64 - 3,
            moves: 0,
        }
    }
}

/// The inverse of the symmetric matrix [[a, b], [b, c]].
fn inverse([a, b, c]: [f64; 3]) -> Option<[f64; 3]> {
    let determinant = a * c - b * b;
    (determinant > 1e-12 * a * c).then(|| [c / determinant, -b / determinant, a / determinant])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::interval::ONE_SIGMA;
    use crate::statistics::ladder::Ladder;
    use crate::trial::{bits, normal, python, uniform};
    use serde_json::json;
    use std::collections::BTreeMap;

    fn rungs(ladder: Ladder, values: &[(f64, f64)]) -> Vec<Loaded> {
        let mut on: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for (x, w) in values {
            let rung = on.entry(ladder.rung(*x)).or_default();
            *rung = (rung.0 + w, rung.1 + w * w);
        }
        let loaded = |(rung, (w, w2))| {
            let (low, high) = ladder.bounds(rung);
            Loaded { low, high, w, w2 }
        };
        on.into_iter().map(loaded).collect()
    }

    fn fit(values: &[(f64, f64)], start: (f64, f64)) -> Result<Core, String> {
        let ladder = Ladder::new(256);
        Core::fit(&rungs(ladder, values), |x| ladder.bounds(ladder.rung(x)).0, 2.0, start)
    }

    #[test]
    fn mean_and_sigma_are_those_of_an_unbinned_fit_in_the_same_range() {
        let (mut g, mut u) = (normal(1), uniform(2));
        for (mean, sigma, tail) in [(0.0, 0.05, 0.0), (0.01, 0.03, 0.2), (-0.002, 0.2, 0.1), (0.3, 0.11, 0.3)] {
            let mut value = || mean + sigma * g() * if u() < tail { 4.0 } else { 1.0 };
            let values: Vec<(f64, f64)> = (0..20_000).map(|_| (value(), 1.0)).collect();
            let core = fit(&values, (mean, sigma)).unwrap();
            let x: Vec<f64> = values.iter().map(|v| v.0).filter(|x| *x >= core.range.0 && *x < core.range.1).collect();
            let script = "
from scipy.stats import truncnorm
from iminuit import Minuit
x, (lo, hi) = floats(given['x']), given['range']
nll = lambda m, s: -truncnorm.logpdf(x, (lo - m) / s, (hi - m) / s, m, s).sum()
fit = Minuit(nll, m=given['start'][0], s=given['start'][1]); fit.errordef = .5; fit.limits['s'] = (1e-6, None); fit.strategy = 2; fit.tol = 1e-3
fit.migrad(); fit.hesse()
answer(list(fit.values) + list(fit.errors))
";
            let given = json!({ "x": bits(&x), "range": [core.range.0, core.range.1], "start": [mean, sigma] });
            let expected: Vec<f64> = serde_json::from_value(python(script, &given)).unwrap();
            // So much of the error is what the binning costs.
            assert!((core.mean - expected[0]).abs() < 0.02 * core.mean_error, "{core:?} {expected:?}");
            assert!((core.sigma - expected[1]).abs() < 0.03 * core.sigma_error, "{core:?} {expected:?}");
            assert!((core.mean_error / expected[2] - 1.0).abs() < 0.05, "{core:?} {expected:?}");
            assert!((core.sigma_error / expected[3] - 1.0).abs() < 0.08, "{core:?} {expected:?}");
        }
    }

    #[test]
    fn the_maximum_is_that_of_iminuit_in_the_same_bins() {
        let (mut g, mut u) = (normal(21), uniform(22));
        for set in 0..10 {
            let (mean, sigma) = (0.02 * f64::from(set) - 0.1, 0.03 + 0.02 * f64::from(set));
            let (tail, n) = (0.04 * f64::from(set), 2000 + 3000 * set);
            let mut value = || mean + sigma * g() * if u() < tail { 3.0 } else { 1.0 };
            let values: Vec<(f64, f64)> = (0..n).map(|_| (value(), 1.0)).collect();
            let ladder = Ladder::new(256);
            let edge = |x: f64| ladder.bounds(ladder.rung(x)).0;
            let bins = Bins::new(&rungs(ladder, &values), &edge, (mean - 1.7 * sigma, mean + 2.2 * sigma), sigma / BINS).unwrap();
            let core = bins.maximum((mean, sigma)).unwrap();
            let script = "
from scipy.stats import norm
from iminuit import Minuit
edges, w = floats(given['edges']), floats(given['w'])
def nll(m, s):
    below = norm.cdf(edges, m, s)
    return -(w * np.log(np.diff(below) / (below[-1] - below[0])))[w > 0].sum()
fit = Minuit(nll, m=given['start'][0], s=given['start'][1]); fit.errordef = .5; fit.limits['s'] = (1e-6, None); fit.strategy = 2; fit.tol = 1e-5
fit.migrad(); fit.hesse()
answer(list(fit.values) + list(fit.errors))
";
            let given = json!({ "edges": bits(&bins.edges), "w": bits(&bins.w), "start": [mean, sigma] });
            let expected: Vec<f64> = serde_json::from_value(python(script, &given)).unwrap();
            assert!((core.mean - expected[0]).abs() < 0.01 * core.mean_error, "{core:?} {expected:?}");
            assert!((core.sigma - expected[1]).abs() < 0.01 * core.sigma_error, "{core:?} {expected:?}");
            assert!((core.mean_error / expected[2] - 1.0).abs() < 0.06, "{core:?} {expected:?}");
            assert!((core.sigma_error / expected[3] - 1.0).abs() < 0.1, "{core:?} {expected:?}");
        }
    }

    #[test]
    fn errors_cover_the_truth_as_often_as_they_should() {
        for weighted in [false, true] {
            let (mut g, mut u) = (normal(5), uniform(7));
            let (toys, mut covered) = (2000, [0; 2]);
            for _ in 0..toys {
                let mut weight = || if weighted { 0.5 + u() } else { 1.0 };
                let values: Vec<(f64, f64)> = (0..1500).map(|_| (0.02 + 0.1 * g(), weight())).collect();
                let core = fit(&values, (0.02, 0.1)).unwrap();
                covered[0] += usize::from((core.mean - 0.02).abs() <= core.mean_error);
                covered[1] += usize::from((core.sigma - 0.1).abs() <= core.sigma_error);
            }
            for covered in covered {
                let share = covered as f64 / f64::from(toys);
                assert!((share - ONE_SIGMA).abs() < 0.02, "{share} {weighted}");
            }
        }
    }

    #[test]
    fn what_has_no_core_gives_a_reason() {
        let same = vec![(0.5, 1.0); 100];
        assert_eq!(fit(&same, (0.5, 0.0)).unwrap_err(), "no core: the central 68 % have no width");
        assert_eq!(fit(&same, (0.5, 0.1)).unwrap_err(), "no core: 1 bin with entries do not determine it");
        let below: Vec<(f64, f64)> = (0..5000).map(|i| (f64::from(i) / 5000.0, if i % 2 == 0 { 1.0 } else { -1.5 })).collect();
        assert!(fit(&below, (0.5, 0.2)).unwrap_err().contains("add up to less than 0"));
    }
}
