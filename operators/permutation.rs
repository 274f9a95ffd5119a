//! Keyed permutations of `0..n` that need no memory: what gives each event its place in a mix.
//!
//! A Feistel network (Luby and Rackoff, SIAM J. Comput. 17 (1988) 373) permutes the numbers of an even number of bits; where
//! it leaves `0..n`, it is applied again until it comes back (cycle walking: Black and Rogaway, CT-RSA 2002), which is a
//! permutation of `0..n`. The domain has fewer than `4 n` numbers, so fewer than four steps are expected.
//!
//! Invariants: a bijection for every key and every `n`; a pure function of both, in integers alone. This is for mixing, not
//! for secrets: the rounds are as many as uniformity needs (see the tests), not as many as an adversary would ask for.

use xxhash_rust::xxh3::xxh3_64_with_seed;

const ROUNDS: usize = 6;
/// Halves below this hold too few functions for their rounds to mix well.
const LEAST_HALF: u32 = 4;

/// A permutation of `0..n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permutation {
    n: u64,
    half: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The permutation of `0..n` that belongs to a seed and a purpose.
    #[must_use]
    pub fn new(n: u64, seed: u64, purpose: &[u8]) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let keys = std::array::from_fn(|round| xxh3_64_with_seed(purpose, crate::column::mix(seed ^ ((round as u64) << 56))));
        Self { n, half: bits.div_ceil(2).max(LEAST_HALF), keys }
    }

    /// Where `x` goes.
    ///
    /// # Panics
    /// Where `x` is not below `n`.
    #[must_use]
    pub fn of(&self, x: u64) -> u64 {
        assert!(x < self.n, "{x} of {}", self.n);
        let mut x = self.step(x);
        while x >= self.n {
            x = self.step(x);
        }
        x
    }

    fn step(&self, x: u64) -> u64 {
        let low = u64::MAX >> (u64::BITS - self.half);
        let (mut left, mut right) = (x >> self.half & low, x & low);
        for key in self.keys {
            (left, right) = (right, left ^ (crate::column::mix(right ^ key) & low));
        }
        left << self.half | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn every_number_is_reached_once(n in 1u64..3000, seed: u64) {
            let permutation = Permutation::new(n, seed, b"test");
            let mut reached: Vec<u64> = (0..n).map(|x| permutation.of(x)).collect();
            reached.sort_unstable();
            prop_assert_eq!(reached, (0..n).collect::<Vec<_>>());
        }

        #[test]
        fn the_largest_domains_stay_within_themselves(x: u64, below in 0u64..100) {
            for n in [u64::MAX - below, (1 << 63) + below, (1 << 40) + below] {
                prop_assert!(Permutation::new(n, 7, b"test").of(x % n) < n);
            }
        }
    }

    /// The p-value of counts that should all be alike.
    fn p_value(counts: &[u64]) -> f64 {
        let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        let chi2: f64 = counts.iter().map(|n| (*n as f64 - expected).powi(2) / expected).sum();
        crate::statistics::fit::p_value(chi2, counts.len() - 1)
    }

    #[test]
    fn all_orders_of_a_few_are_alike() {
        for n in [2u64, 3, 4, 5] {
            let mut seen: BTreeMap<Vec<u64>, u64> = BTreeMap::new();
            for seed in 0..60_000 {
                let permutation = Permutation::new(n, seed, b"orders");
                *seen.entry((0..n).map(|x| permutation.of(x)).collect()).or_default() += 1;
            }
            assert_eq!(seen.len() as u64, (1..=n).product::<u64>());
            let p = p_value(&seen.into_values().collect::<Vec<_>>());
            assert!(p > 1e-4, "{n} numbers: p = {p}");
        }
    }

    #[test]
    fn where_a_number_goes_and_how_far_its_neighbour_is_are_uniform() {
        for n in [97u64, 1000, 4096, 65_537] {
            let (mut places, mut distances) = (vec![0; 50], vec![0; 50]);
            for seed in 0..40 {
                let permutation = Permutation::new(n, seed, b"places");
                for x in 0..n.min(1000) {
                    let (here, next) = (permutation.of(x), permutation.of((x + 1) % n));
                    places[(here * 50 / n) as usize] += 1;
                    distances[((next + n - here) % n * 50 / n) as usize] += 1;
                }
            }
            // Of a small domain every seed gives every number once: its counts are more alike than by chance.
            let cells = |k: u64| (n * (k + 1)).div_ceil(50) - (n * k).div_ceil(50);
            if n > 1000 {
                for counts in [&places, &distances] {
                    assert!(p_value(counts) > 1e-4, "{n}: {counts:?}");
                }
            } else {
                assert!(places.iter().zip(0..).all(|(c, k)| *c == 40 * cells(k)), "{n}: {places:?}");
            }
        }
    }

    /// Pearson's test of old against new order in ten groups each, for many keys: its p-values are uniform themselves.
    #[test]
    fn old_and_new_order_are_unrelated() {
        for n in [1598u64, 6331] {
            let p = |seed: u64| {
                let permutation = Permutation::new(n, seed, b"groups");
                let mut counts = [[0u64; 10]; 10];
                (0..n).for_each(|x| counts[(x * 10 / n) as usize][(permutation.of(x) * 10 / n) as usize] += 1);
                let size = |k: u64| ((k + 1) * n).div_ceil(10) - (k * n).div_ceil(10);
                let expected = |i: usize, j: usize| (size(i as u64) * size(j as u64)) as f64 / n as f64;
                let cells = (0..10).flat_map(|i| (0..10).map(move |j| (i, j)));
                let chi2: f64 = cells.map(|(i, j)| (counts[i][j] as f64 - expected(i, j)).powi(2) / expected(i, j)).sum();
                crate::statistics::fit::p_value(chi2, 81)
            };
            let mut groups = vec![0; 10];
            (0..1000).for_each(|seed| groups[((p(seed) * 10.0) as usize).min(9)] += 1);
            assert!(p_value(&groups) > 1e-4, "{n}: {groups:?}");
        }
    }
}
