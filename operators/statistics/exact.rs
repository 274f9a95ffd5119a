//! An exact sum of f64s: order-independent, mergeable, invertible.
//!
//! Nearly all values of one quantity lie within some fifty octaves, and their sum for a long time within 126 bits: so a sum has a
//! window, a whole number of 128 bits in units that suit its values, to which most are added by one multiplication and one addition,
//! in half a cache line. What lies outside of the window, and the window's content when it is full, goes into a [wide sum](Wide), which has
//! room for everything. Where more than a few values miss the window, it moves to where they are.
//!
//! Invariants: the sum is `window * 2^(low - 1075)` plus the wide sum, and `|window| < 2^126`. How a sum is shared by the two depends
//! on history; what is compared, encoded and rounded is the canonical form of both together, which does not. So equal
//! sums are equal, and equal bytes.

use crate::varint::Reader;
use crate::wide::Wide;

/// Octaves above that of the window's unit whose values are added to the window.
const SPAN: u32 = 50;
/// The octave of the window in which the first value is put: spreads lie below it more than above.
const FIRST: u32 = 36;
/// The highest `low`: NaN and infinities are above its window.
const HIGHEST: u32 = 0x7fe - SPAN;
/// Values outside of the window after which it moves.
const MISSES: u16 = 64;
/// Where a window is that has no place for any value.
const NOWHERE: u16 = u16::MAX;
const FRACTION: u64 = (1 << 52) - 1;

/// An exact sum of f64s. See the module's documentation.
#[derive(Debug, Clone)]
#[repr(align(32))]
pub struct Exact {
    window: i128,
    /// The exponent field of the values whose mantissas are in the window as they are, from 1 on; [`NOWHERE`] before there are any.
    low: u16,
    /// Values that missed the window since it was put there.
    missed: u16,
    wide: Option<Box<Wide>>,
}

impl Exact {
    /// Adds a value. A value that is not finite is counted beside the sum.
    #[inline]
    pub fn add(&mut self, x: f64) {
        let bits = x.to_bits();
        let up = ((bits >> 52) as u32 & 0x7ff).wrapping_sub(u32::from(self.low));
        // No zero and no subnormal, whose exponent field is 0, and nothing that is not finite.
        if up <= SPAN {
            let mantissa = ((bits & FRACTION) | (1 << 52)) as i64;
            let sign = (bits as i64) >> 63;
            let unit = ((1_i64 << up) ^ sign) - sign;
            self.window += i128::from(mantissa) * i128::from(unit);
            self.keep_room();
        } else {
            self.add_beyond(x);
        }
    }

    /// Empties a window that is nearly full.
    #[inline]
    fn keep_room(&mut self) {
        let high = (self.window >> 64) as i64;
        if high.overflowing_add(high).1 {
            self.pour();
        }
    }

    /// Adds a value that the window has no place for.
    #[cold]
    #[inline(never)]
    fn add_beyond(&mut self, x: f64) {
        let exponent = (x.to_bits() >> 52) as u32 & 0x7ff;
        if x == 0.0 {
            return;
        }
        if !x.is_finite() || exponent == 0 {
            return self.wide().add(x);
        }
        self.missed += 1;
        if self.low != NOWHERE && self.missed < MISSES {
            return self.wide().add(x);
        }
        self.pour();
        self.missed = 0;
        self.low = exponent.saturating_sub(FIRST).clamp(1, HIGHEST) as u16;
        self.add(x);
    }

    fn wide(&mut self) -> &mut Wide {
        self.wide.get_or_insert_default()
    }

    /// Empties the window into the wide sum.
    #[cold]
    fn pour(&mut self) {
        if self.window != 0 {
            let (window, low) = (std::mem::take(&mut self.window), u32::from(self.low));
            self.wide().add_scaled(window, low - 1);
        }
    }

    /// Adds another sum.
    pub fn plus(&mut self, other: &Self) {
        if let Some(wide) = &other.wide {
            self.wide().plus(wide);
        }
        self.plus_window(other.window, other.low);
    }

    /// Adds `whole * 2^power`, where `|whole| < 2^126` and `|power| < 1000`.
    pub(crate) fn plus_scaled(&mut self, whole: i128, power: i32) {
        self.plus_window(whole, (power + 1075) as u16);
    }

    /// Adds `whole * 2^(low - 1075)`.
    fn plus_window(&mut self, whole: i128, low: u16) {
        if whole == 0 {
            return;
        }
        if self.window == 0 {
            self.low = low;
        }
        let raised = |whole: i128, by: u16| (whole.unsigned_abs().leading_zeros() >= 2 + u32::from(by)).then(|| whole << by);
        let aligned = if low < self.low {
            raised(self.window, self.low - low).map(|own| (own, whole, low))
        } else {
            raised(whole, low - self.low).map(|whole| (self.window, whole, self.low))
        };
        match aligned {
            Some((own, whole, low)) => {
                (self.window, self.low) = (own + whole, low);
                self.keep_room();
            }
            None => self.wide().add_scaled(whole, u32::from(low) - 1),
        }
    }

    /// Makes it what takes the sum back: `x.plus(-x)` is zero.
    pub fn negate(&mut self) {
        self.window = -self.window;
        if let Some(wide) = &mut self.wide {
            wide.negate();
        }
    }

    /// True where nothing is left: no digit, and nothing beside.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        match &self.wide {
            None => self.window == 0,
            Some(_) => self.whole().is_zero(),
        }
    }

    /// Both parts together.
    fn whole(&self) -> Wide {
        let mut whole = self.wide.as_deref().cloned().unwrap_or_default();
        if self.window != 0 {
            whole.add_scaled(self.window, u32::from(self.low) - 1);
        }
        whole
    }

    /// The sum, rounded once to the nearest f64 (ties to even); infinite or NaN as IEEE 754 would have it.
    #[must_use]
    pub fn value(&self) -> f64 {
        // A conversion rounds as a sum is rounded; what a power of two makes of it stays within the normal numbers.
        match &self.wide {
            None if self.window == 0 => 0.0,
            None if (100..1900).contains(&self.low) => {
                self.window as f64 * f64::from_bits(((i64::from(self.low) - 1075 + 1023) as u64) << 52)
            }
            _ => self.whole().value(),
        }
    }

    /// Appends the canonical bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        self.whole().encode(into);
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(from: &mut Reader<'_>) -> anyhow::Result<Self> {
        let wide = Wide::decode(from)?;
        let mut sum = Self::default();
        match wide.scaled() {
            Some((whole, shift)) if shift < HIGHEST => sum.plus_window(whole, shift as u16 + 1),
            _ => sum.wide = Some(Box::new(wide)),
        }
        Ok(sum)
    }
}

impl Default for Exact {
    fn default() -> Self {
        Self { window: 0, low: NOWHERE, missed: 0, wide: None }
    }
}

impl PartialEq for Exact {
    fn eq(&self, other: &Self) -> bool {
        self.whole() == other.whole()
    }
}

impl Eq for Exact {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{bits, floats, python};
    use crate::varint::write_unsigned;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use serde_json::{Value, json};

    fn sum(values: &[f64]) -> Exact {
        let mut sum = Exact::default();
        values.iter().for_each(|x| sum.add(*x));
        sum
    }

    fn encoded(sum: &Exact) -> Vec<u8> {
        let mut bytes = Vec::new();
        sum.encode(&mut bytes);
        bytes
    }

    fn finite() -> impl Strategy<Value = f64> {
        let near = (any::<i32>(), 0_u32..80).prop_map(|(m, e)| f64::from(m) * f64::from(e).exp2() * 1e-9);
        let half = (0_u64..4, 0_u64..2046).prop_map(|(m, e)| f64::from_bits(e << 52 | m));
        prop_oneof![any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite()), near, half]
    }

    proptest! {
        #[test]
        fn equal_sums_are_equal_bytes_in_any_order_and_grouping(
            values in prop::collection::vec(any::<u64>().prop_map(f64::from_bits), 0..60),
            cut in 0_usize..60,
        ) {
            let whole = sum(&values);
            let mut backwards = values.clone();
            backwards.reverse();
            prop_assert_eq!(encoded(&sum(&backwards)), encoded(&whole));
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut merged = sum(right);
            merged.plus(&sum(left));
            prop_assert_eq!(encoded(&merged), encoded(&whole));
            prop_assert_eq!(&Exact::decode(&mut Reader(&encoded(&whole))).unwrap(), &whole);
            let mut taken = sum(left);
            taken.negate();
            merged.plus(&taken);
            prop_assert_eq!(encoded(&merged), encoded(&sum(right)));
            let mut rest = sum(right);
            rest.negate();
            merged.plus(&rest);
            prop_assert!(merged.is_zero());
            prop_assert_eq!(&merged, &Exact::default());
        }

        #[test]
        fn a_single_value_comes_back(x in finite()) {
            prop_assert_eq!(sum(&[x]).value(), x);
            prop_assert_eq!(sum(&[x, x, -x]).value(), x);
        }
    }

    #[test]
    fn the_value_is_that_of_fractions_rounded_once() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let lists: Vec<Vec<f64>> =
            (0..2000).map(|_| prop::collection::vec(finite(), 1..20).new_tree(&mut runner).unwrap().current()).collect();
        let given: Value = lists.iter().map(|list| bits(list)).collect();
        let script = "
from fractions import Fraction
def rounded(values):
    exact = sum((Fraction(float(v)) for v in values), Fraction(0))
    try: return float(exact)
    except OverflowError: return float('inf') if exact > 0 else float('-inf')
answer(bits([rounded(floats(l)) for l in given]))
";
        let expected = floats(&python(script, &given));
        for (list, expected) in lists.iter().zip(expected) {
            let found = sum(list).value();
            assert!(found == expected, "{list:?}: {found:e} is not {expected:e}");
        }
    }

    #[test]
    fn a_hundred_thousand_values_are_summed_as_by_fsum() {
        let mut normal = crate::trial::normal(1);
        let values: Vec<f64> = (0..100_000).map(|i| normal() * 10_f64.powi(i % 30 - 15)).collect();
        let expected =
            floats(&python("import math\nanswer(bits([math.fsum(floats(given['x']))]))", &json!({ "x": bits(&values) })));
        assert_eq!(sum(&values).value().to_bits(), expected[0].to_bits());
    }

    #[test]
    fn what_is_not_finite_is_counted_and_can_be_taken_back() {
        let mut all = sum(&[1.0, f64::INFINITY, f64::NAN]);
        assert!(all.value().is_nan());
        let mut nan = sum(&[f64::NAN]);
        nan.negate();
        all.plus(&nan);
        assert_eq!(all.value(), f64::INFINITY);
        let mut infinite = sum(&[f64::INFINITY]);
        infinite.negate();
        all.plus(&infinite);
        assert_eq!(all.value(), 1.0);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).value().is_nan());
        assert_eq!(sum(&[f64::NEG_INFINITY, f64::MAX]).value(), f64::NEG_INFINITY);
    }

    #[test]
    fn doubling_sixty_times_overflows_no_digit() {
        for x in [f64::MAX, -f64::MAX, 1.0, -1.0, f64::from_bits(1), -1e-300] {
            let mut many = sum(&[x]);
            for _ in 0..60 {
                many.plus(&many.clone());
            }
            assert_eq!(many.value(), x * 60_f64.exp2());
            let mut back = many.clone();
            back.negate();
            back.plus(&many);
            assert!(back.is_zero());
        }
    }

    /// Values as sums meet them, and as they should not: near each other, far apart, cancelling, tiny, huge, none at all.
    fn any_value() -> impl Strategy<Value = f64> {
        let special = prop::sample::select(vec![
            0.0,
            -0.0,
            f64::MAX,
            -f64::MAX,
            f64::MIN_POSITIVE,
            -f64::MIN_POSITIVE,
            f64::from_bits(1),
            -f64::from_bits((1 << 52) - 1),
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1.0,
            -1.0,
        ]);
        let around = (-1.0..1.0, -60_i32..60).prop_map(|(m, e)| m * f64::from(e).exp2());
        prop_oneof![4 => -1.0..1.0, 2 => around, 1 => finite(), 1 => any::<f64>(), 1 => special]
    }

    /// Runs of one value each, so that windows are filled, missed and moved.
    fn runs() -> impl Strategy<Value = Vec<(f64, usize)>> {
        prop::collection::vec((any_value(), prop_oneof![3 => 1_usize..4, 1 => 60_usize..140]), 0..40)
    }

    proptest! {
        #[test]
        fn a_window_changes_no_sum(left in runs(), right in runs()) {
            let both = |runs: &[(f64, usize)]| {
                let (mut sum, mut wide) = (Exact::default(), Wide::default());
                for (x, times) in runs {
                    for _ in 0..*times {
                        sum.add(*x);
                        wide.add(*x);
                    }
                }
                (sum, wide)
            };
            let ((mut a, mut wide_a), (b, wide_b)) = (both(&left), both(&right));
            prop_assert_eq!(a.whole(), wide_a.clone());
            prop_assert_eq!(a.value().to_bits(), wide_a.value().to_bits());
            prop_assert_eq!(a.is_zero(), wide_a.is_zero());
            a.plus(&b);
            wide_a.plus(&wide_b);
            prop_assert_eq!(a.whole(), wide_a.clone());
            let read = Exact::decode(&mut Reader(&encoded(&a))).unwrap();
            prop_assert_eq!(&read, &a);
            let mut more = read;
            right.iter().for_each(|(x, _)| more.add(*x));
            right.iter().for_each(|(x, _)| wide_a.add(*x));
            prop_assert_eq!(more.whole(), wide_a.clone());
            more.negate();
            wide_a.negate();
            prop_assert_eq!(more.whole(), wide_a);
        }

        #[test]
        fn a_full_window_is_emptied(up in 0..=SPAN, negative: bool, below in 0_i64..4, more in prop::collection::vec(-1.0..1.0, 0..8)) {
            // As full as it may be, but for a few units.
            let x = f64::from_bits((u64::from(up) + 1000) << 52 | FRACTION) * if negative { -1.0 } else { 1.0 };
            let full = (1_i128 << 126) - 1 - i128::from(below);
            let window = if negative { -full } else { full };
            let mut sum = Exact { window, low: 1000, missed: 0, wide: None };
            let mut wide = sum.whole();
            for x in [x, x].into_iter().chain(more) {
                sum.add(x);
                wide.add(x);
                prop_assert!(sum.window.unsigned_abs() < 1 << 126);
            }
            prop_assert_eq!(sum.whole(), wide);
        }

        #[test]
        fn scaled_wholes_are_added(wholes in prop::collection::vec((any::<i64>(), any::<i64>(), -400_i32..400), 1..12)) {
            let (mut sum, mut wide) = (Exact::default(), Wide::default());
            for (high, low, power) in wholes {
                // 61 bits and 60 bits: products are no more than the 126 that are allowed.
                let (high, low) = (high >> 3, low >> 4);
                sum.plus_scaled(i128::from(high) * i128::from(low), power);
                wide.add_scaled(i128::from(high) * i128::from(low), (power + 1074) as u32);
            }
            prop_assert_eq!(sum.whole(), wide);
        }
    }

    #[test]
    fn many_fourth_powers_are_summed_wherever_they_are() {
        for scale in [1.0, 1e-200, 1e200] {
            let (mut normal, mut sum, mut wide) = (crate::trial::normal(3), Exact::default(), Wide::default());
            for _ in 0..100_000 {
                let fourth = scale * normal().powi(4);
                sum.add(fourth);
                wide.add(fourth);
            }
            assert_eq!(sum.whole(), wide);
        }
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = encoded(&sum(&[1e300, -1e-300, f64::NAN]));
        for length in 0..bytes.len() {
            assert!(Exact::decode(&mut Reader(&bytes[..length])).is_err());
        }
        let mut beyond = Vec::new();
        write_unsigned(&mut beyond, 60 << 2);
        write_unsigned(&mut beyond, 20);
        beyond.extend([1; 80]);
        assert!(Exact::decode(&mut Reader(&beyond)).is_err());
    }
}
