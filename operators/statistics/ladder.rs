//! Ladders: the values of a quantity, in order, at a declared precision.
//!
//! Each octave (a factor of two) is divided into a declared number of rungs of equal width, so a rung is at most
//! `1 / steps` of its values wide. Octaves are those of `|x|`, except between 1/2 and 1 where they are those of `1 - x`:
//! scores in [0, 1] are as fine at one end as at the other, and logits have a place on the same ladder. 0 and 1 have rungs
//! of their own, which are exact.
//!
//! A value's rung is found from its bits alone, without a logarithm, so that it is the same on every machine; rungs are
//! numbered in the order of values. What the order within a rung could change is computed wherever a ladder is read, and
//! printed.

use schemars::JsonSchema;
use serde::Deserialize;

/// Exponents of finite f64s: octaves of positive values.
const OCTAVES: u64 = 2047;
/// The octave that begins at 1/2, and the one that begins at 1.
const HALF: u64 = 1022;
const ONE: u64 = 1023;
const FRACTION: u64 = (1 << 52) - 1;

/// The precision of a ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Ladder {
    /// Rungs in an octave.
    steps: u32,
}

/// The most rungs an octave may have: those of a float32.
pub const MOST_STEPS: u32 = 1 << 23;

impl Ladder {
    /// A ladder of this many rungs in an octave; at least 1, at most [`MOST_STEPS`].
    #[must_use]
    pub fn new(steps: u32) -> Self {
        Self { steps: steps.clamp(1, MOST_STEPS) }
    }

    /// Rungs in an octave.
    #[must_use]
    pub fn steps(self) -> u32 {
        self.steps
    }

    /// How many rungs there are: all are below.
    #[must_use]
    pub fn rungs(self) -> u64 {
        self.above_one() + (OCTAVES - ONE) * u64::from(self.steps)
    }

    /// The rung of 0; positive values follow.
    fn zero(self) -> u64 {
        OCTAVES * u64::from(self.steps)
    }

    /// The rung of 1/2; those up to 1 follow.
    fn half(self) -> u64 {
        self.zero() + 1 + HALF * u64::from(self.steps)
    }

    /// The rung of 1.
    fn one(self) -> u64 {
        self.half() + HALF * u64::from(self.steps) + 1
    }

    fn above_one(self) -> u64 {
        self.one() + 1
    }

    /// The number of a positive value's rung from the smallest positive one on.
    fn climb(self, x: f64) -> u64 {
        let bits = x.to_bits();
        let steps = u64::from(self.steps);
        // The upper 40 bits of the fraction decide; there are at most 2^23 steps, so the product fits.
        (bits >> 52) * steps + ((((bits & FRACTION) >> 12) * steps) >> 40)
    }

    /// The rung of a finite value.
    #[must_use]
    #[inline]
    pub fn rung(self, x: f64) -> u64 {
        if x > 0.0 && x < 1.0 {
            // Scores: which half they lie in is not to be guessed, so it is computed and not branched on.
            let upper = x >= 0.5;
            let climbed = self.climb(if upper { 1.0 - x } else { x });
            if upper { self.half() + HALF * u64::from(self.steps) - climbed } else { self.zero() + 1 + climbed }
        } else {
            self.rung_of_others(x)
        }
    }

    fn rung_of_others(self, x: f64) -> u64 {
        if x < 0.0 {
            self.zero() - 1 - self.climb(-x)
        } else if x == 0.0 {
            self.zero()
        } else if x == 1.0 {
            self.one()
        } else {
            self.above_one() + self.climb(x) - ONE * u64::from(self.steps)
        }
    }

    /// The lowest value of the climb's rung `k`.
    fn descend(self, k: u64) -> f64 {
        let steps = u64::from(self.steps);
        let fraction = ((k % steps) << 40).div_ceil(steps);
        f64::from_bits(((k / steps) << 52) + (fraction << 12))
    }

    /// The values between which all values of a rung lie.
    #[must_use]
    pub fn bounds(self, rung: u64) -> (f64, f64) {
        let steps = u64::from(self.steps);
        let climbed = |k: u64| (self.descend(k), self.descend(k + 1));
        if rung < self.zero() {
            let (near, far) = climbed(self.zero() - 1 - rung);
            (-far, -near)
        } else if self.is_exact(rung) {
            let value = if rung == self.zero() { 0.0 } else { 1.0 };
            (value, value)
        } else if rung < self.half() {
            climbed(rung - self.zero() - 1)
        } else if rung < self.one() {
            let (near, far) = climbed(self.half() + HALF * steps - rung);
            (1.0 - far.min(0.5), 1.0 - near)
        } else {
            climbed(rung - self.above_one() + ONE * steps)
        }
    }

    /// The values between which the quantile `q` lies, of weights on rungs in ascending order: the first rung at which the
    /// weight from below reaches `q` of the whole (numpy's `inverted_cdf`). None where there is no weight.
    #[must_use]
    pub fn quantile(self, loads: &[(u64, f64)], q: f64) -> Option<(f64, f64)> {
        let whole: f64 = loads.iter().map(|(_, w)| w).sum();
        let mut below = 0.0;
        let reached = loads.iter().find(|(_, w)| {
            below += w;
            below >= q * whole
        });
        (whole > 0.0).then(|| self.bounds(reached.or(loads.last()).map_or(0, |(rung, _)| *rung)))
    }

    /// True where all values of a rung are the same: those of 0 and of 1.
    #[must_use]
    pub fn is_exact(self, rung: u64) -> bool {
        rung == self.zero() || rung == self.one()
    }
}

/// A stretch of a ladder whose rungs are numbered from 0, so that they can lie in a slice.
#[derive(Debug, Clone)]
pub struct Window {
    /// First rung, rungs, and number of the first; that of most values in front.
    pieces: Vec<(u64, u64, u64)>,
    /// How values of each stretch between 0, 1/2 and 1 climb, from the lowest, for [`Window::find`].
    stretches: [Stretch; 6],
    ladder: Ladder,
}

/// Values that climb in one direction: below 0, 0, up to 1/2, up to 1, 1, above 1.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// The rung of `k` climbed is `base + way * k`, in wrapping arithmetic.
    base: u64,
    way: u64,
    /// The piece of the window that they are in.
    piece: (u64, u64, u64),
}

impl Window {
    /// Beyond this a coarse window knows no differences.
    pub const FAR: f64 = 256.0;

    /// That of scores: 0, from 2^-60 to 1 - 2^-26, and 1.
    #[must_use]
    pub fn of_scores(ladder: Ladder) -> Self {
        let (low, high) = (ladder.rung((-60_f64).exp2()), ladder.rung(1.0 - (-26_f64).exp2()));
        Self::new(ladder, vec![(low, high + 1 - low, 1), (ladder.zero(), 1, 0), (ladder.one(), 1, high + 2 - low)])
    }

    /// That of all values that [`Window::within`] gives.
    #[must_use]
    pub fn coarse(ladder: Ladder) -> Self {
        let far = (ladder.rung(-Self::FAR), ladder.rung(-NEAR_ZERO));
        let scores = (ladder.rung(NEAR_ZERO), ladder.rung(1.0 - NEAR_ONE));
        let (below, between, above) = (far.1 + 1 - far.0, scores.1 + 1 - scores.0, ladder.rung(Self::FAR) + 1 - ladder.one());
        let pieces = vec![
            (scores.0, between, below + 1),
            (far.0, below, 0),
            (ladder.zero(), 1, below),
            (ladder.one(), above, below + 1 + between),
        ];
        Self::new(ladder, pieces)
    }

    fn new(ladder: Ladder, pieces: Vec<(u64, u64, u64)>) -> Self {
        const DOWN: u64 = u64::MAX;
        let steps = u64::from(ladder.steps);
        let stretch = |first: u64, last: u64, base: u64, way: u64| {
            let overlaps = |piece: &&(u64, u64, u64)| piece.0 <= last && piece.0 + piece.1 > first;
            Stretch { base, way, piece: pieces.iter().find(overlaps).copied().unwrap_or_default() }
        };
        let (zero, half, one) = (ladder.zero(), ladder.half(), ladder.one());
        let stretches = [
            stretch(0, zero - 1, zero - 1, DOWN),
            stretch(zero, zero, zero, 0),
            stretch(zero + 1, half - 1, zero + 1, 1),
            stretch(half, one - 1, half + HALF * steps, DOWN),
            stretch(one, one, one, 0),
            stretch(one + 1, ladder.rungs() - 1, (one + 1).wrapping_sub(ONE * steps), 1),
        ];
        Self { pieces, stretches, ladder }
    }

    /// The number of a finite value's rung, or the rung itself where it is outside of the window: without asking where the value lies,
    /// as that is not to be guessed.
    #[inline]
    pub fn find(&self, x: f64) -> Result<usize, u64> {
        let number =
            usize::from(x >= 0.0) + usize::from(x > 0.0) + usize::from(x >= 0.5) + usize::from(x >= 1.0) + usize::from(x > 1.0);
        let Stretch { base, way, piece: (first, length, start) } = self.stretches[number];
        let rung = base.wrapping_add(way.wrapping_mul(self.ladder.climb(if number == 3 { 1.0 - x } else { x.abs() })));
        let up = rung.wrapping_sub(first);
        if up < length { Ok((start + up) as usize) } else { Err(rung) }
    }

    /// The value, or the nearest one that a coarse window tells apart.
    #[must_use]
    pub fn within(x: f64) -> f64 {
        if x.abs() < NEAR_ZERO {
            0.0
        } else if (1.0 - NEAR_ONE..1.0).contains(&x) && x > 1.0 - NEAR_ONE {
            1.0
        } else {
            x.clamp(-Self::FAR, Self::FAR)
        }
    }

    /// How many rungs it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.1 as usize).sum()
    }

    /// True for a window without rungs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of a rung; none outside of the window.
    #[must_use]
    #[inline]
    pub fn place(&self, rung: u64) -> Option<usize> {
        let inside = |(first, length, start): &(u64, u64, u64)| {
            let up = rung.wrapping_sub(*first);
            (up < *length).then(|| (start + up) as usize)
        };
        self.pieces.iter().find_map(inside)
    }

    /// The rung of a number below [`Window::len`].
    #[must_use]
    pub fn rung(&self, place: usize) -> u64 {
        let place = place as u64;
        let at = self.pieces.iter().find(|(_, length, start)| place.wrapping_sub(*start) < *length);
        at.map_or(0, |(first, _, start)| first + (place - start))
    }
}

/// Closer than this a coarse window knows no difference from 0, and from 1.
const NEAR_ZERO: f64 = 1.0 / (1_u64 << 30) as f64;
const NEAR_ONE: f64 = 1.0 / (1_u64 << 26) as f64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = f64> {
        let any_finite = any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite());
        let special =
            prop::sample::select(vec![0.0, -0.0, 1.0, -1.0, 0.5, 0.25, 0.5_f64.next_down(), 1.0_f64.next_down(), 5e-324]);
        prop_oneof![any_finite, 0.0..1.0, -20.0..20.0, special, (0.0_f64..1e-6).prop_map(|x| 1.0 - x)]
    }

    proptest! {
        #[test]
        fn rungs_are_in_the_order_of_values(x in value(), y in value(), steps in prop_oneof![1_u32..2000, Just(MOST_STEPS)]) {
            let ladder = Ladder::new(steps);
            let (low, high) = if x <= y { (x, y) } else { (y, x) };
            prop_assert!(ladder.rung(low) <= ladder.rung(high));
            prop_assert!(ladder.rung(high) < ladder.rungs());
        }

        #[test]
        fn a_rung_holds_its_values_and_is_as_narrow_as_declared(x in value(), steps in prop_oneof![1_u32..2000, Just(MOST_STEPS)]) {
            let ladder = Ladder::new(steps);
            let rung = ladder.rung(x);
            let (low, high) = ladder.bounds(rung);
            prop_assert!(low <= x && x <= high, "{low:e} {x:e} {high:e}");
            prop_assert_eq!(ladder.is_exact(rung), x == 0.0 || x == 1.0);
            if x.abs() > 1e-300 && (x <= 0.5 || x > 1.0) && high.is_finite() && low.is_finite() {
                prop_assert!(high - low <= 1.000_001 * x.abs() / f64::from(steps) , "{low:e} {x:e} {high:e}");
            }
            if x > 0.5 && x < 1.0 {
                prop_assert!(high - low <= 1.000_001 * (1.0 - low) / f64::from(steps) + 1e-16, "{low:e} {x:e} {high:e}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_window_numbers_its_rungs_in_order(x in value(), y in value(), steps in 1_u32..300) {
            let ladder = Ladder::new(steps);
            let (scores, coarse) = (Window::of_scores(ladder), Window::coarse(ladder));
            for (window, x, y) in [(&scores, x, y), (&coarse, Window::within(x), Window::within(y))] {
                let (low, high) = if x <= y { (x, y) } else { (y, x) };
                let places = [low, high].map(|x| window.place(ladder.rung(x)));
                if let [Some(low), Some(high)] = places {
                    prop_assert!(low <= high && high < window.len());
                }
                for (place, x) in places.iter().zip([low, high]) {
                    if let Some(place) = place {
                        prop_assert_eq!(window.rung(*place), ladder.rung(x));
                    }
                }
            }
            for (window, x) in [&scores, &coarse].into_iter().flat_map(|window| [(window, x), (window, y), (window, Window::within(x))]) {
                prop_assert_eq!(window.find(x), window.place(ladder.rung(x)).ok_or(ladder.rung(x)), "{:e}", x);
            }
            prop_assert!(coarse.place(ladder.rung(Window::within(x))).is_some());
            prop_assert!(!(0.0..=1.0).contains(&x) || x < 1e-18 || 1.0 - x < 1e-7 || scores.place(ladder.rung(x)).is_some());
            for (window, place) in [(&scores, 0), (&scores, scores.len() - 1), (&coarse, 0), (&coarse, coarse.len() - 1)] {
                prop_assert_eq!(window.place(window.rung(place)), Some(place));
            }
        }
    }

    #[test]
    fn both_ends_of_scores_are_equally_fine() {
        let ladder = Ladder::new(4);
        for k in 1..50 {
            let small = f64::from(-k).exp2();
            assert_ne!(ladder.rung(small), ladder.rung(1.26 * small));
            assert_ne!(ladder.rung(1.0 - small), ladder.rung(1.0 - 1.26 * small));
        }
        assert_eq!(ladder.rung(0.3), ladder.rung(0.31));
        assert_eq!(ladder.rung(0.7), ladder.rung(0.69));
    }

    #[test]
    fn float32_scores_have_a_rung_each_at_full_precision() {
        let ladder = Ladder::new(MOST_STEPS);
        for x in [0.3_f32, 0.5, 0.99, 1e-20, 17.0, -3.3] {
            assert_ne!(ladder.rung(f64::from(x)), ladder.rung(f64::from(x.next_up())));
        }
    }
}
