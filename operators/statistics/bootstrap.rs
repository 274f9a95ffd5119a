//! The paired bootstrap: what a number would have been, had other events come.
//!
//! In each replica an event counts as often as a Poisson number of mean 1 says (Hanley, MacGibbon, Comput. Methods Programs
//! Biomed. 83 (2006) 57; for sums over many machines Chamandy, Muralidharan, Najmi, Naidu, Google, 2012). That number is a
//! hash of the event's identity and of the replica: so replicas are the same whatever the batches, workers and order, an
//! event that comes twice is drawn twice, and two scores of one event rise and fall together, which is what makes the
//! error of a difference right.
//!
//! In each group, replicas keep how much stands on the rungs of a coarse ladder. Weights are rounded to a float32 and counted
//! as whole numbers in units of 2^-56, in digits of 32 bits, so that sums are exact without being long. The spread of a
//! number over the replicas is its standard error.

use crate::column::{event_key, mix};
use crate::statistics::ladder::{Ladder, Window};

/// Replicas where nothing is said: their spread is known to 7 %.
pub const REPLICAS: u32 = 100;
/// More replicas than these are taken for a mistake.
pub const MOST_REPLICAS: u32 = 10_000;
/// Rungs of the coarse ladder in an octave.
const STEPS: u32 = 8;
/// Digits of a weight.
const DIGITS: usize = 3;
/// The unit of a weight is 2^-56.
const UNIT: i32 = 56;

/// P(N <= k) of a Poisson number of mean 1, in units of 2^-16.
const SHARES: [u16; 8] = {
    let (mut shares, mut k, mut term, mut sum) = ([0; 8], 0, 1.0 / std::f64::consts::E, 0.0);
    while k < 8 {
        sum += term;
        shares[k] = (65536.0 * sum + 0.5) as u16;
        k += 1;
        term /= k as f64;
    }
    shares
};

/// How often an event counts in each replica.
pub fn counts(event: u64, seed: u64, into: &mut [i64]) {
    let key = event_key(event, seed, "bootstrap");
    for (block, counts) in into.chunks_mut(4).enumerate() {
        let random = mix(key.wrapping_add(block as u64));
        for (i, count) in counts.iter_mut().enumerate() {
            let random = (random >> (16 * i)) as u16;
            *count = SHARES.iter().map(|share| i64::from(random >= *share)).sum();
        }
    }
}

/// Where the replicas of groups are summed: `groups * cells()` whole numbers.
#[derive(Debug, Clone)]
pub struct Replicas {
    number: usize,
    weighted: bool,
    ladder: Ladder,
    window: Window,
}

impl Replicas {
    /// So many replicas.
    #[must_use]
    pub fn new(number: u32, weighted: bool) -> Self {
        let ladder = Ladder::new(STEPS);
        Self { number: number as usize, weighted, ladder, window: Window::coarse(ladder) }
    }

    /// How many there are.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Rungs of the coarse ladder.
    #[must_use]
    pub fn rungs(&self) -> usize {
        self.window.len()
    }

    fn digits(&self) -> usize {
        if self.weighted { DIGITS } else { 1 }
    }

    /// Whole numbers of a group.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.rungs() * self.digits() * self.number
    }

    /// Adds a row to the cells of its group; false for a weight that is too large for whole numbers.
    pub fn add(&self, cells: &mut [i64], score: f64, weight: f64, counts: &[i64]) -> bool {
        let Some(rung) = self.window.place(self.ladder.rung(Window::within(score))) else { return false };
        let cells = &mut cells[rung * self.digits() * self.number..][..self.digits() * self.number];
        if !self.weighted {
            cells.iter_mut().zip(counts).for_each(|(cell, count)| *cell += count);
            return true;
        }
        let Some(digits) = digits(weight) else { return false };
        for (digit, cells) in digits.into_iter().zip(cells.chunks_exact_mut(self.number)).filter(|(digit, _)| *digit != 0) {
            cells.iter_mut().zip(counts).for_each(|(cell, count)| *cell += count * digit);
        }
        true
    }

    /// What stands on the rungs in each replica, `[replica][rung]`, of two sides that are the cells of several groups each;
    /// rungs on which nothing stands are left out.
    pub fn pairs<'a>(
        &self,
        own: impl Iterator<Item = &'a [i64]> + Clone,
        others: impl Iterator<Item = &'a [i64]> + Clone,
    ) -> Vec<Vec<(f64, f64)>> {
        let mut replicas = vec![Vec::new(); self.number];
        let length = self.digits() * self.number;
        let mut sums = [vec![0_i64; length], vec![0_i64; length]];
        for rung in (0..self.rungs()).map(|rung| rung * length..(rung + 1) * length) {
            let mut any = false;
            let mut sum = |sum: &mut [i64], groups: &mut dyn Iterator<Item = &'a [i64]>| {
                sum.fill(0);
                for cells in groups.map(|cells| &cells[rung.clone()]).filter(|cells| cells.iter().any(|cell| *cell != 0)) {
                    any = true;
                    sum.iter_mut().zip(cells).for_each(|(sum, cell)| *sum += cell);
                }
            };
            sum(&mut sums[0], &mut own.clone());
            sum(&mut sums[1], &mut others.clone());
            if any {
                for (number, replica) in replicas.iter_mut().enumerate() {
                    replica.push((self.value(&sums[0], number), self.value(&sums[1], number)));
                }
            }
        }
        replicas
    }

    /// What stands on the rungs in each replica of some groups together, as (lower end, upper end, weight) in order; rungs on
    /// which nothing stands are left out.
    pub fn loads<'a>(&self, groups: impl Iterator<Item = &'a [i64]> + Clone) -> Vec<Vec<(f64, f64, f64)>> {
        let mut replicas = vec![Vec::new(); self.number];
        let length = self.digits() * self.number;
        let mut sums = vec![0_i64; length];
        for place in 0..self.rungs() {
            sums.fill(0);
            let rung = place * length..(place + 1) * length;
            groups.clone().for_each(|cells| sums.iter_mut().zip(&cells[rung.clone()]).for_each(|(sum, cell)| *sum += cell));
            if sums.iter().any(|sum| *sum != 0) {
                let (low, high) = self.ladder.bounds(self.window.rung(place));
                for (number, replica) in replicas.iter_mut().enumerate() {
                    replica.push((low, high, self.value(&sums, number)));
                }
            }
        }
        replicas.iter_mut().for_each(|replica| replica.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))));
        replicas
    }

    /// The weight on a rung in a replica.
    fn value(&self, digits: &[i64], replica: usize) -> f64 {
        if !self.weighted {
            return digits[replica] as f64;
        }
        let all = (0..DIGITS).map(|i| i128::from(digits[i * self.number + replica]) << (32 * i)).sum::<i128>();
        all as f64 * f64::from(-UNIT).exp2()
    }
}

/// A weight, rounded to a float32, in units of 2^-56; none where it is 2^38 or more.
fn digits(weight: f64) -> Option<[i64; DIGITS]> {
    let rounded = f64::from(weight as f32) * f64::from(UNIT).exp2();
    if rounded.is_nan() || rounded.abs() >= f64::from(UNIT + 38).exp2() {
        return None;
    }
    let (whole, sign) = (rounded.abs() as u128, if rounded < 0.0 { -1 } else { 1 });
    Some(std::array::from_fn(|i| sign * ((whole >> (32 * i)) & 0xffff_ffff) as i64))
}

/// The quantile `q` of weights spread evenly over their rungs ([`Replicas::loads`]); none where there is no weight, or where it lies beyond
/// what a coarse ladder knows.
#[must_use]
pub fn quantile(loads: &[(f64, f64, f64)], q: f64) -> Option<f64> {
    let whole: f64 = loads.iter().map(|load| load.2).sum();
    let mut left = q * whole;
    for (low, high, w) in loads.iter().filter(|load| load.2 != 0.0) {
        if left <= *w {
            let within = low.abs().max(high.abs()) < Window::FAR;
            return (whole > 0.0 && within).then(|| low + (high - low) * (left / w).clamp(0.0, 1.0));
        }
        left -= w;
    }
    None
}

/// The standard error: how far the values of the replicas spread. Some replicas may have no value; not more than a third.
pub fn spread(values: impl Iterator<Item = Option<f64>>) -> Result<f64, String> {
    let values: Vec<Option<f64>> = values.map(|v| v.filter(|v| v.is_finite())).collect();
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    if known.len() < 2 || 3 * known.len() < 2 * values.len() {
        return Err(format!("only {} of {} replicas have a value", known.len(), values.len()));
    }
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let squares: f64 = known.iter().map(|v| (v - mean).powi(2)).sum();
    Ok((squares / (known.len() as f64 - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{close, normal, python, uniform};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn counts_are_those_of_a_poisson_number() {
        let mut numbers = [0; 8];
        let mut row = [0; 101];
        for event in 0..20_000 {
            counts(event, 7, &mut row);
            row.iter().for_each(|n| numbers[(*n).min(7) as usize] += 1);
        }
        let script = "
from scipy.stats import poisson, chisquare
p = poisson.pmf(np.arange(7), 1); p = np.append(p, 1 - p.sum())
n = np.array(given['n']); answer(float(chisquare(n, p * n.sum()).pvalue))
";
        let p = python(script, &json!({ "n": numbers })).as_f64().unwrap();
        assert!(p > 1e-3, "{numbers:?} has p = {p}");
        let mut again = [0; 50];
        counts(19_999, 7, &mut again);
        assert_eq!(again[..], row[..50], "a replica does not depend on how many there are");
        counts(19_999, 8, &mut again);
        assert_ne!(again[..], row[..50]);
    }

    #[test]
    fn two_replicas_and_two_events_have_nothing_in_common() {
        let (mut a, mut b) = (vec![0; 64], vec![0; 64]);
        let (mut events, mut replicas) = (0.0, 0.0);
        for event in 0..4000 {
            counts(event, 1, &mut a);
            counts(event + 1, 1, &mut b);
            events += a.iter().zip(&b).map(|(a, b)| ((a - 1) * (b - 1)) as f64).sum::<f64>();
            replicas += a.windows(2).map(|w| ((w[0] - 1) * (w[1] - 1)) as f64).sum::<f64>();
        }
        let sigma = (64.0_f64 * 4000.0).sqrt();
        assert!(f64::abs(events) < 4.0 * sigma && f64::abs(replicas) < 4.0 * sigma, "{events} {replicas}");
    }

    proptest! {
        #[test]
        fn digits_are_the_weight(weight in prop_oneof![-1e6_f64..1e6, -1e-6..1e-6, Just(2.7e11)]) {
            let value: f64 = digits(weight).unwrap().iter().enumerate()
                .map(|(i, d)| *d as f64 * f64::from(32 * i as i32 - UNIT).exp2()).sum();
            prop_assert!((value - weight).abs() <= weight.abs() * 6e-8 + 2e-17, "{} {}", value, weight);
        }

        #[test]
        fn loads_are_weights_times_counts(rows in prop::collection::vec((-3.0..3.0_f64, -2.0..5.0_f64), 1..30), weighted in any::<bool>()) {
            let replicas = Replicas::new(9, weighted);
            let mut cells = vec![0; replicas.cells()];
            let mut expected = [0.0; 9];
            let mut row = [0; 9];
            for (event, (score, weight)) in rows.iter().enumerate() {
                counts(event as u64, 0, &mut row);
                prop_assert!(replicas.add(&mut cells, *score, *weight, &row));
                let weight = if weighted { f64::from(*weight as f32) } else { 1.0 };
                expected.iter_mut().zip(&row).for_each(|(e, n)| *e += weight * *n as f64);
            }
            let pairs = replicas.pairs([&cells[..]].into_iter(), std::iter::empty());
            let found: Vec<f64> = pairs.iter().map(|replica| replica.iter().map(|pair| pair.0).sum()).collect();
            for (f, e) in found.iter().zip(&expected) {
                prop_assert!((f - e).abs() < 1e-9, "{f} {e}");
            }
        }
    }

    /// Of areas of normal scores a distance of 1 apart, whose truth is Phi(1 / sqrt 2).
    #[test]
    fn the_spread_over_replicas_covers_the_truth_as_often_as_one_standard_error_should() {
        let truth = 0.5 * statrs::function::erf::erfc(-0.5);
        let (mut g, mut u) = (normal(5), uniform(6));
        let replicas = Replicas::new(60, true);
        let mut drawn = vec![0; 60];
        let (toys, mut covered, mut event) = (2000, 0, 0);
        for _ in 0..toys {
            let mut cells = [vec![0; replicas.cells()], vec![0; replicas.cells()]];
            let mut rows = Vec::new();
            for row in 0..180 {
                let (side, weight) = (row % 2, 0.5 + u());
                let score = g() + if side == 0 { 1.0 } else { 0.0 };
                counts(event, 3, &mut drawn);
                event += 1;
                assert!(replicas.add(&mut cells[side], score, weight, &drawn));
                rows.push((score, side, weight));
            }
            rows.sort_by(|a, b| a.0.total_cmp(&b.0));
            let area = |pairs: &mut dyn Iterator<Item = (f64, f64)>| {
                let (mut wins, mut below, mut signal) = (0.0, 0.0, 0.0);
                for (s, b) in pairs {
                    wins += s * (below + b / 2.0);
                    (below, signal) = (below + b, signal + s);
                }
                wins / (signal * below)
            };
            let found = area(&mut rows.iter().map(|(_, side, w)| if *side == 0 { (*w, 0.0) } else { (0.0, *w) }));
            let pairs = replicas.pairs([&cells[0][..]].into_iter(), [&cells[1][..]].into_iter());
            let error = spread(pairs.into_iter().map(|replica| Some(area(&mut replica.into_iter())))).unwrap();
            covered += usize::from((found - truth).abs() <= error);
        }
        let share = covered as f64 / f64::from(toys);
        assert!((share - crate::statistics::interval::ONE_SIGMA).abs() < 0.02, "{share}");
    }

    #[test]
    fn weights_beyond_whole_numbers_are_refused() {
        for weight in [1e12, -1e12, f64::INFINITY, f64::NAN, 1e300] {
            assert_eq!(digits(weight), None);
        }
        assert_eq!(digits(1e-30), Some([0; 3]));
    }

    #[test]
    fn the_spread_is_that_of_the_replicas_that_have_a_value() {
        let mut u = uniform(1);
        let values: Vec<f64> = (0..50).map(|_| u()).collect();
        let mean = values.iter().sum::<f64>() / 50.0;
        let expected = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 49.0).sqrt();
        let with_holes = values.iter().map(|v| Some(*v)).chain([None, Some(f64::NAN)]);
        close(&[spread(with_holes).unwrap()], &[expected], 1e-12);
        let few = spread([Some(1.0), None, Some(1.5), None].into_iter()).unwrap_err();
        assert_eq!(few, "only 2 of 4 replicas have a value");
    }
}
