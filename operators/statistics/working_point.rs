//! Working points: where a ROC curve has a given background or signal efficiency.
//!
//! The curve is walked from the highest score down. Within a rung signal and background are let in at the same rate, as if
//! equal scores were told apart by chance (which is also what counts ties one half in the area). At a fixed background
//! efficiency the signal efficiency is the highest one that it allows; at a fixed signal efficiency the background efficiency is
//! the lowest one that reaches it: `numpy.interp` over scikit-learn's `roc_curve` with all its points.
//!
//! The interval of the signal efficiency at a fixed background efficiency has two parts, added in quadrature: Wilson's
//! interval of the signal efficiency, and how far the curve moves to the ends of Wilson's interval of the background
//! efficiency, which is how well the cut is known (Linnet, Stat. Med. 6 (1987) 147, with the curve itself for its slope): the
//! root of the mean square of both ways, to both sides, because either by itself has the curve's own wriggles. Signal and
//! background change places at a fixed signal efficiency. In toys of normal scores it covers 67 to 70 % from some 400 rows of
//! each on.

use crate::statistics::interval::{Method, ONE_SIGMA};
use crate::{Placed, Problem, words};
use schemars::JsonSchema;
use serde::Deserialize;

/// Efficiencies that are held fixed, between 0 and 1.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkingPoints {
    /// Background efficiencies at which the signal efficiency is wanted.
    #[serde(default)]
    pub background_efficiency: Option<Placed<Numbers>>,
    /// Signal efficiencies at which the background efficiency and the rejection are wanted.
    #[serde(default)]
    pub signal_efficiency: Option<Placed<Numbers>>,
}

/// One number or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Numbers {
    /// One.
    One(f64),
    /// Several.
    Several(Vec<f64>),
}

impl WorkingPoints {
    /// The working points in order, or what is wrong with them.
    pub fn plan(&self) -> Result<Vec<Fixed>, Vec<Problem>> {
        let (mut points, mut problems) = (Vec::new(), Vec::new());
        let words =
            [(&self.background_efficiency, Fixed::Background as fn(f64) -> Fixed), (&self.signal_efficiency, Fixed::Signal)];
        for (words, fixed) in words {
            let Some(words) = words else { continue };
            let numbers = match &words.value {
                Numbers::One(number) => std::slice::from_ref(number),
                Numbers::Several(numbers) => numbers,
            };
            if numbers.is_empty() {
                problems.push(Problem::at(words, "no efficiency is given").help("[0.1, 0.2]"));
            }
            for number in numbers {
                if !(*number > 0.0 && *number < 1.0) {
                    let problem = Problem::at(words, format!("{number} is no efficiency between 0 and 1"));
                    problems.push(if *number > 1.0 && *number < 100.0 {
                        problem.help(format!("for {number} % write {}", number / 100.0))
                    } else {
                        problem
                    });
                } else if points.contains(&fixed(*number)) {
                    problems.push(Problem::at(words, format!("{number} is given twice")));
                } else {
                    points.push(fixed(*number));
                }
            }
        }
        if problems.is_empty() { Ok(points) } else { Err(problems) }
    }
}

/// What is held fixed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fixed {
    /// The background efficiency.
    Background(f64),
    /// The signal efficiency.
    Signal(f64),
}

/// Signal and background efficiency.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pair {
    /// Share of the signal above the cut.
    pub signal: f64,
    /// Share of the background above the cut.
    pub background: f64,
}

/// Where the walk crosses what is fixed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crossing {
    /// The efficiencies there.
    pub at: Pair,
    /// Those above the rung, and those with the whole rung.
    pub around: (Pair, Pair),
    /// The rung, counted from the highest; none where every rung lies above the cut.
    pub rung: Option<usize>,
    /// The share of the rung that is above the cut.
    pub share: f64,
}

impl Fixed {
    /// The number that is fixed.
    #[must_use]
    pub fn value(self) -> f64 {
        match self {
            Self::Background(value) | Self::Signal(value) => value,
        }
    }

    /// The efficiency that is not fixed.
    #[must_use]
    pub fn free(self, pair: Pair) -> f64 {
        match self {
            Self::Background(_) => pair.signal,
            Self::Signal(_) => pair.background,
        }
    }

    /// Walks down rungs of (signal, background) weights with these sums; none where a sum is not positive.
    pub fn cross(self, rungs: impl Iterator<Item = (f64, f64)>, (signal, background): (f64, f64)) -> Option<Crossing> {
        if !(signal > 0.0 && background > 0.0) {
            return None;
        }
        let (mut s, mut b) = (0.0, 0.0);
        let mut above = Pair::default();
        for (number, (of_signal, of_background)) in rungs.enumerate() {
            s += of_signal;
            b += of_background;
            let below = Pair { signal: s / signal, background: b / background };
            let (reached, from, to, target) = match self {
                Self::Background(target) => (below.background > target, above.background, below.background, target),
                Self::Signal(target) => (below.signal >= target, above.signal, below.signal, target),
            };
            if reached {
                let share = if to > from { ((target - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 };
                let between = |from: f64, to: f64| from + share * (to - from);
                let mut at =
                    Pair { signal: between(above.signal, below.signal), background: between(above.background, below.background) };
                match self {
                    Self::Background(target) => at.background = target,
                    Self::Signal(target) => at.signal = target,
                }
                return Some(Crossing { at, around: (above, below), rung: Some(number), share });
            }
            above = below;
        }
        let at = Pair { signal: 1.0, background: 1.0 };
        Some(Crossing { at, around: (at, at), rung: None, share: 1.0 })
    }

    /// What is fixed, as the parameters say it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Background(_) => "background_efficiency",
            Self::Signal(_) => "signal_efficiency",
        }
    }

    /// The same as people say it: `background 20 %`.
    #[must_use]
    pub fn label(self) -> String {
        let percent = words::significant(100.0 * self.value(), 4);
        let percent = if percent.contains('.') { percent.trim_end_matches('0').trim_end_matches('.') } else { &percent };
        match self {
            Self::Background(_) => format!("background {percent} %"),
            Self::Signal(_) => format!("signal {percent} %"),
        }
    }

    /// The same with another number.
    #[must_use]
    pub fn moved(self, value: f64) -> Self {
        match self {
            Self::Background(_) => Self::Background(value),
            Self::Signal(_) => Self::Signal(value),
        }
    }

    /// The interval of the free efficiency, one standard deviation on each side, for so many rows of (signal, background).
    pub fn interval(
        self,
        crossing: &Crossing,
        rows: (f64, f64),
        sums: (f64, f64),
        rungs: impl Iterator<Item = (f64, f64)> + Clone,
    ) -> Option<(f64, f64)> {
        let (free_rows, fixed_rows) = match self {
            Self::Background(_) => rows,
            Self::Signal(_) => (rows.1, rows.0),
        };
        let value = self.free(crossing.at);
        let own = Method::Wilson.interval(value * free_rows, free_rows, ONE_SIGMA);
        let cut = Method::Wilson.interval(self.value() * fixed_rows, fixed_rows, ONE_SIGMA);
        let moved = |to: f64| self.moved(to).cross(rungs.clone(), sums).map(|c| self.free(c.at));
        let sway = (value - moved(cut.0)?).hypot(value - moved(cut.1)?) * std::f64::consts::FRAC_1_SQRT_2;
        let below = (value - own.0).max(0.0).hypot(sway);
        let above = (own.1 - value).max(0.0).hypot(sway);
        Some(((value - below).max(0.0), (value + above).min(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{normal, uniform};
    use proptest::prelude::*;

    fn sums(rungs: &[(f64, f64)]) -> (f64, f64) {
        rungs.iter().fold((0.0, 0.0), |sum, rung| (sum.0 + rung.0, sum.1 + rung.1))
    }

    proptest! {
        #[test]
        fn a_crossing_is_the_best_that_the_curve_allows(
            rungs in prop::collection::vec((0_u8..4, 0_u8..4), 1..20), target in 0.0..=1.0_f64,
        ) {
            let rungs: Vec<(f64, f64)> = rungs.iter().map(|(s, b)| (f64::from(*s), f64::from(*b))).collect();
            let (signal, background) = sums(&rungs);
            let found = Fixed::Background(target).cross(rungs.iter().copied(), (signal, background));
            prop_assert_eq!(found.is_none(), signal == 0.0 || background == 0.0);
            let Some(found) = found else { return Ok(()) };
            // Slowly: a hundred thin slices of each rung.
            let slices = rungs.iter().flat_map(|(s, b)| vec![(s / 100.0, b / 100.0); 100]);
            let (mut s, mut b, mut best, mut least) = (0.0, 0.0, 0.0_f64, f64::INFINITY);
            for (ds, db) in slices {
                s += ds / signal;
                b += db / background;
                if b <= target + 1e-9 { best = best.max(s) }
                if s >= target - 1e-9 { least = least.min(b) }
            }
            prop_assert!((found.at.signal - best).abs() < 0.05, "{} {}", found.at.signal, best);
            let found = Fixed::Signal(target).cross(rungs.iter().copied(), (signal, background)).unwrap();
            prop_assert!((found.at.background - least).abs() < 0.05, "{} {}", found.at.background, least);
            prop_assert!((0.0..=1.0).contains(&found.share));
        }
    }

    /// How often the interval covers, over toys of normal scores whose true signal efficiency is `truth`.
    fn coverage(fixed: Fixed, shift: f64, truth: f64, (n_signal, n_background): (usize, usize)) -> f64 {
        let mut g = normal(17);
        let toys = 8000;
        let mut covered = 0;
        for _ in 0..toys {
            let mut rows: Vec<(f64, bool)> = (0..n_signal).map(|_| (shift + g(), true)).collect();
            rows.extend((0..n_background).map(|_| (g(), false)));
            rows.sort_by(|a, b| b.0.total_cmp(&a.0));
            let rungs: Vec<(f64, f64)> = rows.iter().map(|(_, is)| if *is { (1.0, 0.0) } else { (0.0, 1.0) }).collect();
            let n = (n_signal as f64, n_background as f64);
            let crossing = fixed.cross(rungs.iter().copied(), n).unwrap();
            let (low, high) = fixed.interval(&crossing, n, n, rungs.iter().copied()).unwrap();
            covered += usize::from(low <= truth && truth <= high);
        }
        covered as f64 / f64::from(toys)
    }

    #[test]
    fn intervals_cover_the_true_efficiency_as_often_as_they_say() {
        // The true values are those of normal distributions: P(x > q) with q where the background (signal) has its share above.
        let normal_above = |x: f64| 0.5 * statrs::function::erf::erfc(x / std::f64::consts::SQRT_2);
        let quantile_above = |p: f64| std::f64::consts::SQRT_2 * statrs::function::erf::erfc_inv(2.0 * p);
        let truth = normal_above(quantile_above(0.1) - 1.0);
        let found = coverage(Fixed::Background(0.1), 1.0, truth, (400, 300));
        assert!((found - ONE_SIGMA).abs() < 0.02, "signal efficiency: {found}");
        let truth = normal_above(1.5 + quantile_above(0.8));
        let found = coverage(Fixed::Signal(0.8), 1.5, truth, (400, 300));
        assert!((found - ONE_SIGMA).abs() < 0.02, "background efficiency: {found}");
    }

    #[test]
    fn the_ends_of_a_curve_are_reached() {
        let rungs = [(1.0, 0.0), (1.0, 1.0), (0.0, 1.0)];
        let at = |fixed: Fixed| fixed.cross(rungs.into_iter(), (2.0, 2.0)).unwrap().at;
        assert_eq!(at(Fixed::Background(0.0)), Pair { signal: 0.5, background: 0.0 });
        assert_eq!(at(Fixed::Background(1.0)), Pair { signal: 1.0, background: 1.0 });
        assert_eq!(at(Fixed::Background(0.25)), Pair { signal: 0.75, background: 0.25 });
        assert_eq!(at(Fixed::Signal(0.5)), Pair { signal: 0.5, background: 0.0 });
        assert_eq!(at(Fixed::Signal(1.0)), Pair { signal: 1.0, background: 0.5 });
        let mut u = uniform(1);
        assert_eq!(Fixed::Signal(u()).cross([(0.0, 1.0)].into_iter(), (0.0, 1.0)), None);
    }
}
