//! Efficiencies and their intervals.
//!
//! An efficiency is k of n. Its interval at a confidence level 1 - alpha, with z the normal quantile of 1 - alpha / 2 and
//! B(p; a, b) the quantile of the beta distribution, is (Brown, Cai, DasGupta, Stat. Sci. 16 (2001) 101)
//!
//! * Clopper-Pearson: B(alpha/2; k, n-k+1) to B(1-alpha/2; k+1, n-k); covers at least as often as it says;
//! * Wilson: (k + z^2/2 -+ z sqrt(k (n-k) / n + z^2/4)) / (n + z^2); covers as often as it says, on average;
//! * Jeffreys: B(alpha/2; k+1/2, n-k+1/2) to B(1-alpha/2; the same), and 0 where k = 0, 1 where k = n.
//!
//! With weights the efficiency is W_pass / W, of the variance ((1-e)^2 S_pass + e^2 S_fail) / W^2 with S the sums of w^2
//! (the ratio's delta method), and n is the effective count e (1-e) / variance: n itself for weights of 1, and what a binomial of
//! the same variance would have counted. Where e is 0 or 1 that is no number, and n is (sum w)^2 / sum w^2.
//!
//! The incomplete beta function is the continued fraction of DLMF 8.17.22 by the method of Lentz, for as many terms as it
//! takes, with statrs' ln_gamma: statrs' own stops after 140 terms, too few beyond some 10^4 rows, and its inverse does
//! not look below 10^-4. Ends of intervals are good to 10^-7 of themselves at 10^8 rows, and better below.

use crate::statistics::auc::Load;
use schemars::JsonSchema;
use serde::Deserialize;
use statrs::function::{erf, gamma::ln_gamma};

/// The confidence level of one standard deviation.
pub const ONE_SIGMA: f64 = 0.682_689_492_137_085_9;

/// How likely a normal number is farther from its mean than so many sigmas, on either side.
#[must_use]
pub fn chance_beyond(sigmas: f64) -> f64 {
    erf::erfc(sigmas * std::f64::consts::FRAC_1_SQRT_2)
}

/// The sigmas beyond which a normal number is found with this chance: the inverse of [`chance_beyond`].
#[must_use]
pub fn sigmas_of(chance: f64) -> f64 {
    std::f64::consts::SQRT_2 * erf::erfc_inv(chance)
}

/// How the interval of an efficiency is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Covers at least as often as it says.
    #[default]
    ClopperPearson,
    /// Covers as often as it says, on average; narrower.
    Wilson,
    /// The Bayesian interval of equal tails for the prior of Jeffreys.
    Jeffreys,
}

impl Method {
    /// Its name as people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ClopperPearson => "Clopper-Pearson",
            Self::Wilson => "Wilson",
            Self::Jeffreys => "Jeffreys",
        }
    }

    /// The interval of `passed` of `all` (which need not be whole), for `0 <= passed <= all` and `0 < all`.
    #[must_use]
    pub fn interval(self, passed: f64, all: f64, level: f64) -> (f64, f64) {
        let (tail, failed) = ((1.0 - level) / 2.0, (all - passed).max(0.0));
        let added = match self {
            Self::Wilson => {
                let z = std::f64::consts::SQRT_2 * erf::erf_inv(level);
                let half = z * (passed * failed / all + z * z / 4.0).sqrt();
                let middle = passed + z * z / 2.0;
                let at = |x: f64| (x / (all + z * z)).clamp(0.0, 1.0);
                let (low, high) = (at(middle - half), at(middle + half));
                return (if passed == 0.0 { 0.0 } else { low }, if failed == 0.0 { 1.0 } else { high });
            }
            Self::ClopperPearson => 1.0,
            Self::Jeffreys => 0.5,
        };
        let low = if passed == 0.0 { 0.0 } else { beta_quantile(tail, passed + 1.0 - added, failed + added) };
        let high = if failed == 0.0 { 1.0 } else { beta_quantile(1.0 - tail, passed + added, failed + 1.0 - added) };
        (low, high)
    }
}

/// An efficiency with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Efficiency {
    /// The efficiency.
    pub value: f64,
    /// The ends of its interval; none where negative weights leave no efficiency between 0 and 1.
    pub interval: Option<(f64, f64)>,
    /// The effective number of rows.
    pub effective: f64,
}

impl Efficiency {
    /// The efficiency of what passed and what failed, or why there is none.
    pub fn of(passed: Load, failed: Load, method: Method, level: f64) -> Result<Self, &'static str> {
        let all = passed.w + failed.w;
        if passed.n + failed.n == 0 {
            return Err("no rows");
        }
        if !(all > 0.0 && all.is_finite()) {
            return Err("the sum of weights is not positive");
        }
        let value = passed.w / all;
        let variance = ((1.0 - value).powi(2) * passed.w2 + value.powi(2) * failed.w2) / (all * all);
        let binomial = value * (1.0 - value) / variance;
        let kish = all * all / (passed.w2 + failed.w2);
        let effective = if binomial.is_finite() && binomial > 0.0 { binomial } else { kish };
        if !effective.is_finite() {
            return Err("the weights are too small or too large for their squares");
        }
        let possible = (0.0..=1.0).contains(&value) && effective > 0.0;
        // A share of rows is that of whole numbers: no rounding of k / n n.
        let passing = if passed.w == passed.n as f64 && failed.w == failed.n as f64 {
            (passed.w, all)
        } else {
            (value * effective, effective)
        };
        let interval = possible.then(|| method.interval(passing.0, passing.1, level));
        Ok(Self { value, interval, effective: passing.1 })
    }
}

/// The regularised incomplete beta function I_x(a, b), for a, b > 0 and 0 <= x <= 1.
fn beta_share(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return f64::from(x >= 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_share(b, a, 1.0 - x);
    }
    let tiny = 1e-300;
    let nonzero = |v: f64| if v.abs() < tiny { tiny } else { v };
    let (mut c, mut d) = (1.0, 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..100_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / nonzero(1.0 + even * d);
        c = nonzero(1.0 + even / c);
        fraction *= c * d;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / nonzero(1.0 + odd * d);
        c = nonzero(1.0 + odd / c);
        fraction *= c * d;
        if (c * d - 1.0).abs() < 4.0 * f64::EPSILON {
            break;
        }
    }
    (ln_density(a, b, x) + x.ln() + (-x).ln_1p()).exp() * fraction / a
}

/// The logarithm of the density of the beta distribution.
fn ln_density(a: f64, b: f64, x: f64) -> f64 {
    ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + (a - 1.0) * x.ln() + (b - 1.0) * (-x).ln_1p()
}

/// The quantile of the beta distribution: Newton's steps, and halvings of the bracket where they leave it.
fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    let mut x = a / (a + b);
    for _ in 0..200 {
        let off = beta_share(a, b, x) - p;
        let step = off / ln_density(a, b, x).exp();
        if off == 0.0 || step.abs() <= 1e-15 * x {
            return x;
        }
        if off < 0.0 {
            low = x;
        } else {
            high = x;
        }
        let next = x - step;
        x = if next > low && next < high { next } else { f64::midpoint(low, high) };
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{bits, close, floats, python, uniform};
    use proptest::prelude::*;
    use serde_json::json;

    const METHODS: [Method; 3] = [Method::ClopperPearson, Method::Wilson, Method::Jeffreys];

    #[test]
    fn intervals_are_those_of_scipy() {
        let large = [
            (0.0, 1.0),
            (1.0, 1.0),
            (0.0, 20.0),
            (1.0, 20.0),
            (3.0, 7.0),
            (19.0, 20.0),
            (20.0, 20.0),
            (2.5, 8.25),
            (500.0, 1000.0),
            (1.0, 1e6),
            (999_999.0, 1e6),
            (123_456.0, 1e6),
            (5e7, 1e8),
            (17.0, 1e8),
        ];
        // All of few, and shares of some that weights make.
        let few = (1..=60).flat_map(|n| (0..=n).map(move |k| (f64::from(k), f64::from(n))));
        let mut u = uniform(5);
        let effective = (0..500).map(|_| 300.0 * u().powi(2) + 1.0).collect::<Vec<_>>();
        let counts: Vec<(f64, f64)> = large.into_iter().chain(few).chain(effective.into_iter().map(|n| (n * u(), n))).collect();
        let levels = [ONE_SIGMA, 0.95, 0.999];
        let mut found = Vec::new();
        for method in METHODS {
            for level in levels {
                for (k, n) in counts.iter().copied() {
                    let (low, high) = method.interval(k, n, level);
                    found.extend([low, high]);
                }
            }
        }
        let script = "
from scipy.stats import beta, norm, binomtest
def ends(how, k, n, level):
    tail = (1 - level) / 2
    if how == 1:
        if k == int(k) and n == int(n):
            i = binomtest(int(k), int(n)).proportion_ci(level, method='wilson')
            return [i.low, i.high]
        z = norm.ppf(1 - tail)
        p, q = k / n, 1 - k / n
        c, h = p + z*z/(2*n), z * np.sqrt(p*q/n + z*z/(4*n*n))
        return [(c - h) / (1 + z*z/n), (c + h) / (1 + z*z/n)]
    s = 1 if how == 0 else .5
    return [0. if k == 0 else beta.ppf(tail, k + 1 - s, n - k + s), 1. if k == n else beta.ppf(1 - tail, k + s, n - k + 1 - s)]
answer(bits([e for how in range(3) for level in given['levels'] for k, n in given['counts'] for e in ends(how, k, n, level)]))
";
        let expected = floats(&python(script, &json!({ "levels": levels, "counts": counts })));
        // scipy's Wilson of 0 or n ends where rounding has left it.
        for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
            assert!((f - e).abs() <= 1e-7 * e.abs() + 1e-16, "number {i}: {f:e} is not {e:e}");
        }
    }

    #[test]
    fn an_effective_count_is_that_of_the_ratios_variance() {
        let mut u = uniform(3);
        let (pass, fail): (Vec<f64>, Vec<f64>) = ((0..300).map(|_| 0.5 + u()).collect(), (0..500).map(|_| 3.0 * u()).collect());
        let load = |v: &[f64]| Load { n: v.len() as i64, w: v.iter().sum(), w2: v.iter().map(|w| w * w).sum() };
        let found = Efficiency::of(load(&pass), load(&fail), Method::Wilson, ONE_SIGMA).unwrap();
        let script = "
w = np.concatenate([floats(given['pass']), floats(given['fail'])]); x = np.arange(len(w)) < len(given['pass'])
e = np.average(x, weights=w); v = (w**2 * (x - e)**2).sum() / w.sum()**2
answer(bits([e, e * (1 - e) / v]))
";
        let expected = floats(&python(script, &json!({ "pass": bits(&pass), "fail": bits(&fail) })));
        close(&[found.value, found.effective], &expected, 1e-12);
    }

    #[test]
    fn what_has_no_efficiency_says_why() {
        let load = |n, w: f64| Load { n, w, w2: w * w };
        let of = |pass, fail| Efficiency::of(pass, fail, Method::ClopperPearson, ONE_SIGMA);
        assert_eq!(of(load(0, 0.0), load(0, 0.0)), Err("no rows"));
        assert_eq!(of(load(1, 0.0), load(1, 0.0)), Err("the sum of weights is not positive"));
        assert_eq!(of(load(1, 1.0), load(1, -1.5)), Err("the sum of weights is not positive"));
        let odd = of(load(1, 2.0), load(1, -0.5)).unwrap();
        assert_eq!((odd.value, odd.interval), (2.0 / 1.5, None));
        // One row that passed: 1 of an effective 1, whatever its weight.
        let one = of(load(1, 0.25), load(0, 0.0)).unwrap();
        assert_eq!((one.value, one.effective), (1.0, 1.0));
        close(&[one.interval.unwrap().0], &[(1.0 - ONE_SIGMA) / 2.0], 1e-9);
    }

    #[test]
    fn intervals_cover_as_they_say() {
        let mut u = uniform(9);
        for (truth, n) in [(0.9, 100), (0.5, 200), (0.05, 400)] {
            let toys = 2000;
            let mut covered = [0; 3];
            for _ in 0..toys {
                let k = (0..n).filter(|_| u() < truth).count();
                for (method, covered) in METHODS.iter().zip(&mut covered) {
                    let (low, high) = method.interval(k as f64, f64::from(n), 0.95);
                    *covered += usize::from(low <= truth && truth <= high);
                }
            }
            let [clopper, wilson, jeffreys] = covered.map(|n| n as f64 / f64::from(toys));
            assert!(clopper > 0.94, "{clopper}");
            assert!((wilson - 0.95).abs() < 0.025 && (jeffreys - 0.95).abs() < 0.025, "{wilson} {jeffreys}");
        }
    }

    proptest! {
        #[test]
        fn an_interval_holds_its_efficiency(k in 0_u32..2000, more in 0_u32..2000, level in 0.01..0.9999_f64) {
            let n = f64::from(k + more);
            prop_assume!(n > 0.0);
            for method in METHODS {
                let (low, high) = method.interval(f64::from(k), n, level);
                prop_assert!(0.0 <= low && high <= 1.0 && low <= high);
                if method != Method::Jeffreys {
                    prop_assert!(low <= f64::from(k) / n + 1e-12 && f64::from(k) / n <= high + 1e-12, "{low} {high}");
                }
            }
        }
    }
}
