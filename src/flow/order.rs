//! The new order of a shuffle: each stratum spread evenly over the whole, every row once.
//!
//! Row `j` of the `m` rows of a stratum (in the order of their keys) stands at `(j + u) / m` of the way, where `u` in [0, 1)
//! is a hash of seed, stratum and `j`; the output is the merge of all strata by that place. So every stretch of the output
//! holds the classes in their shares to within a row or two, the order is a pure function of the keys, and a stretch of it
//! can be found without touching the rest.
//!
//! The design speaks of a keyed bijection of the rank. Sorting by keys that are hashes of event identities gives the same
//! (a permutation, keyed, stratified) and one thing more: it does not depend on the order in which files are found.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The whole way, in units of a place.
pub const WHOLE: u64 = 1 << 63;

/// The place of row `j` of `m` rows of a stratum: ascending in `j`, below [`WHOLE`].
pub fn place(seed: u64, stratum: u16, j: u64, m: u64) -> u64 {
    let mut word = [0; 10];
    word[..8].copy_from_slice(&j.to_le_bytes());
    word[8..].copy_from_slice(&stratum.to_le_bytes());
    let fraction = xxh3_64_with_seed(&word, seed) >> 32;
    let scaled = ((u128::from(j) << 32) | u128::from(fraction)) << 31;
    u64::try_from(scaled / u128::from(m)).expect("below one")
}

/// The first row of `m` rows of a stratum whose place is at or behind `k / of` of the way.
pub fn first_behind(seed: u64, stratum: u16, m: u64, k: u64, of: u64) -> u64 {
    let bound = u64::try_from((u128::from(k) * u128::from(WHOLE)).div_ceil(u128::from(of))).expect("at most one");
    first_at(seed, stratum, m, bound)
}

/// The first row of `m` rows of a stratum whose place is at or behind this one.
fn first_at(seed: u64, stratum: u16, m: u64, bound: u64) -> u64 {
    let (mut low, mut high) = (0, m);
    while low < high {
        let middle = low + (high - low) / 2;
        if place(seed, stratum, middle, m) < bound {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// How many rows of each stratum (there are `counts` of them) are among the first `n` of the whole order.
pub fn among_first(seed: u64, counts: &[u64], n: u64) -> Vec<u64> {
    let before = |bound: u64| -> Vec<u64> { counts.iter().zip(0..).map(|(m, s)| first_at(seed, s, *m, bound)).collect() };
    // The last place with no more than n rows before it; the rows at this very place stand in the order of their strata.
    let (mut low, mut high) = (0, WHOLE);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if before(middle).iter().sum::<u64>() <= n { low = middle } else { high = middle - 1 }
    }
    let mut ranks = before(low);
    let mut rest = n.saturating_sub(ranks.iter().sum());
    for (rank, behind) in ranks.iter_mut().zip(before(low + 1)) {
        let more = rest.min(behind - *rank);
        *rank += more;
        rest -= more;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_cut_the_order_into_pieces_without_loss(seed: u64, counts in prop::collection::vec(0u64..400, 1..5), of in 1u64..20) {
            let mut whole: Vec<(u64, u16, u64)> = Vec::new();
            for (s, m) in counts.iter().enumerate() {
                let s = u16::try_from(s).unwrap();
                whole.extend((0..*m).map(|j| (place(seed, s, j, *m), s, j)));
            }
            whole.sort_unstable();
            let mut pieces = Vec::new();
            for k in 0..of {
                let mut piece = Vec::new();
                for (s, m) in counts.iter().enumerate() {
                    let s = u16::try_from(s).unwrap();
                    let (from, to) = (first_behind(seed, s, *m, k, of), first_behind(seed, s, *m, k + 1, of));
                    piece.extend((from..to).map(|j| (place(seed, s, j, *m), s, j)));
                }
                piece.sort_unstable();
                pieces.append(&mut piece);
            }
            prop_assert_eq!(pieces, whole);
        }

        #[test]
        fn the_first_rows_are_found_without_the_rest(seed: u64, counts in prop::collection::vec(0u64..300, 1..5), share in 0.0f64..1.2) {
            let strata = || counts.iter().zip(0u16..);
            let mut whole: Vec<(u64, u16, u64)> =
                strata().flat_map(|(m, s)| (0..*m).map(move |j| (place(seed, s, j, *m), s, j))).collect();
            whole.sort_unstable();
            let n = (whole.len() as f64 * share) as usize;
            let first = &whole[..n.min(whole.len())];
            let wanted: Vec<u64> = strata().map(|(_, s)| first.iter().filter(|row| row.1 == s).count() as u64).collect();
            prop_assert_eq!(among_first(seed, &counts, n as u64), wanted);
        }

        #[test]
        fn every_stretch_holds_the_classes_in_their_shares(seed: u64, a in 50u64..300, b in 50u64..300) {
            let mut order: Vec<(u64, u16)> = (0..a).map(|j| (place(seed, 0, j, a), 0)).collect();
            order.extend((0..b).map(|j| (place(seed, 1, j, b), 1)));
            order.sort_unstable();
            let mut seen = 0.0;
            for (n, (_, s)) in order.iter().enumerate() {
                seen += f64::from(*s);
                let expected = (n + 1) as f64 * b as f64 / (a + b) as f64;
                prop_assert!((seen - expected).abs() < 3.0, "{seen} of class 1 among {}, expected {expected}", n + 1);
            }
        }
    }
}
