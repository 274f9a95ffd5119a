//! The wide form of an [exact sum](crate::statistics::exact): room for every f64 there is.
//!
//! A sum is a number in units of 2^-1074 (the smallest f64), held as digits of 32 bits in slots of 128, so that adding is one
//! integer addition (a mantissa, shifted by less than a digit, has 84 bits) and carries can wait. Only the digits in use are held: sums of one quantity span few of the 68.
//! NaN and infinities are counted beside the sum and never poured in, so they too can be taken back.
//!
//! Invariants: no digit exceeds `(pending + 1) * 2^84`, and `pending` stays below 2^32, so no slot overflows. The digits as
//! held depend on history; what is compared, encoded and rounded is the [magnitude](Wide::magnitude), which does not: a
//! sign and digits in `0..2^32` without zeros at either end. So equal sums are equal, and equal bytes.

use crate::varint::{Reader, write_signed, write_unsigned};
use anyhow::ensure;

const DIGIT: u32 = 32;
const MASK: i128 = 0xffff_ffff;
/// Digits that any sum of fewer than 2^63 finite values can have.
const DIGITS: usize = 68;
/// Additions after which carries are settled.
const SETTLE: u32 = 1 << 29;
const FRACTION: u64 = (1 << 52) - 1;

/// An exact sum of any f64s. See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Wide {
    digits: Vec<i128>,
    /// The place of `digits[0]`: its unit is `2^(32 low - 1074)`.
    low: u32,
    pending: u32,
    /// How many +infinity, -infinity, NaN.
    beside: [i64; 3],
}

/// The canonical form of a finite sum.
#[derive(Debug, PartialEq, Eq)]
struct Magnitude {
    negative: bool,
    low: usize,
    digits: Vec<u32>,
}

impl Wide {
    /// Adds a value. A value that is not finite is counted beside the sum.
    #[inline]
    pub fn add(&mut self, x: f64) {
        let bits = x.to_bits();
        let exponent = (bits >> 52) & 0x7ff;
        let mantissa = (bits & FRACTION) | (u64::from(exponent != 0) << 52);
        let shift = exponent.max(1) as u32 - 1; // x = mantissa * 2^(shift - 1074)
        let at = ((shift / DIGIT) as usize).wrapping_sub(self.low as usize);
        match self.digits.get_mut(at) {
            Some(digit) if self.pending < SETTLE && exponent != 0x7ff => {
                let sign = (bits as i64) >> 63;
                let signed = (mantissa as i64 ^ sign) - sign;
                *digit += i128::from(signed) << (shift % DIGIT);
                self.pending += 1;
            }
            _ => self.add_slowly(x, (shift / DIGIT) as usize, mantissa == 0),
        }
    }

    /// Adds what the fast way can't: no value, a value beside the sum, or one that the digits held have no room for.
    #[cold]
    fn add_slowly(&mut self, x: f64, at: usize, zero: bool) {
        if !x.is_finite() {
            self.beside[if x.is_nan() { 2 } else { usize::from(x < 0.0) }] += 1;
        } else if !zero {
            self.settle();
            self.hold(at.saturating_sub(1), at + 2);
            self.add(x);
        }
    }

    /// Makes room for the digits `from..to`.
    fn hold(&mut self, from: usize, to: usize) {
        if self.digits.is_empty() {
            self.low = from as u32;
        }
        let low = self.low as usize;
        if from < low {
            self.digits.splice(0..0, std::iter::repeat_n(0, low - from));
            self.low = from as u32;
        }
        let length = to - self.low as usize;
        if self.digits.len() < length {
            self.digits.resize(length, 0);
        }
    }

    /// Carries, so that every digit but the last lies in `0..2^32` and the last within 2^32 of 0.
    fn settle(&mut self) {
        let mut carry = 0;
        for digit in &mut self.digits {
            *digit += carry;
            carry = *digit >> DIGIT;
            *digit &= MASK;
        }
        match self.digits.last_mut() {
            Some(last) if carry == -1 && *last != 0 => *last -= MASK + 1,
            Some(_) if carry != 0 => {
                self.digits.push(carry);
                return self.settle();
            }
            _ => {}
        }
        self.pending = 0;
    }

    /// Adds `whole * 2^(shift - 1074)`.
    pub fn add_scaled(&mut self, whole: i128, shift: u32) {
        let (at, within) = ((shift / DIGIT) as usize, shift % DIGIT);
        self.settle();
        self.hold(at, at + 5);
        let low = self.low as usize;
        let (sign, magnitude) = (whole.signum(), whole.unsigned_abs());
        for (i, digit) in self.digits[at - low..].iter_mut().take(4).enumerate() {
            *digit += sign * ((((magnitude >> (DIGIT * i as u32)) as i128) & MASK) << within);
        }
        self.pending += 1;
    }

    /// The number as `whole * 2^(shift - 1074)` with `|whole| < 2^126`, where that is all there is.
    pub fn scaled(&self) -> Option<(i128, u32)> {
        let Magnitude { negative, low, digits } = self.magnitude();
        let fits = match digits[..] {
            [_, _, _, top] => top < 1 << 30,
            _ => digits.len() < 4,
        };
        let whole = digits.iter().rev().fold(0, |whole, digit| whole << DIGIT | i128::from(*digit));
        (fits && self.beside == [0; 3]).then(|| (if negative { -whole } else { whole }, low as u32 * DIGIT))
    }

    /// Adds another sum.
    pub fn plus(&mut self, other: &Self) {
        for (a, b) in self.beside.iter_mut().zip(&other.beside) {
            *a += b;
        }
        if other.digits.is_empty() {
            return;
        }
        self.settle();
        self.hold(other.low as usize, other.low as usize + other.digits.len());
        for (a, b) in self.digits[(other.low - self.low) as usize..].iter_mut().zip(&other.digits) {
            *a += b;
        }
        self.pending = other.pending + 1;
    }

    /// Makes it what takes the sum back: `x.plus(-x)` is zero.
    pub fn negate(&mut self) {
        self.digits.iter_mut().for_each(|digit| *digit = -*digit);
        self.beside.iter_mut().for_each(|count| *count = -*count);
    }

    /// True where nothing is left: no digit, and nothing beside.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.beside == [0; 3] && self.magnitude().digits.is_empty()
    }

    fn magnitude(&self) -> Magnitude {
        let mut digits = self.digits.clone();
        let carried = |digits: &mut Vec<i128>| {
            let mut carry = 0;
            for digit in digits.iter_mut() {
                *digit += carry;
                carry = *digit >> DIGIT;
                *digit &= MASK;
            }
            carry
        };
        let mut carry = carried(&mut digits);
        let negative = carry < 0;
        if negative {
            digits = self.digits.iter().map(|d| -d).collect();
            carry = carried(&mut digits);
        }
        while carry != 0 {
            digits.push(carry & MASK);
            carry >>= DIGIT;
        }
        let zeros = digits.iter().take_while(|d| **d == 0).count();
        let end = digits.iter().rposition(|d| *d != 0).map_or(zeros, |last| last + 1);
        if zeros >= end {
            return Magnitude { negative: false, low: 0, digits: Vec::new() };
        }
        Magnitude { negative, low: self.low as usize + zeros, digits: digits[zeros..end].iter().map(|d| *d as u32).collect() }
    }

    /// The sum, rounded once to the nearest f64 (ties to even); infinite or NaN as IEEE 754 would have it.
    #[must_use]
    pub fn value(&self) -> f64 {
        match self.beside.map(|n| n != 0) {
            [false, false, false] => self.magnitude().value(),
            [true, false, false] => f64::INFINITY,
            [false, true, false] => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }

    /// Appends the canonical bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let Magnitude { negative, low, digits } = self.magnitude();
        let beside = self.beside != [0; 3];
        write_unsigned(into, (low as u64) << 2 | u64::from(beside) << 1 | u64::from(negative));
        write_unsigned(into, digits.len() as u64);
        for digit in digits {
            into.extend(digit.to_le_bytes());
        }
        if beside {
            for count in self.beside {
                write_signed(into, count);
            }
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(from: &mut Reader<'_>) -> anyhow::Result<Self> {
        let (header, length) = (from.unsigned()?, from.unsigned()?);
        let low = header >> 2;
        ensure!(low.saturating_add(length) <= DIGITS as u64, "a sum with digits beyond those of any f64");
        let sign = if header & 1 == 1 { -1 } else { 1 };
        let mut digits = Vec::with_capacity(length as usize);
        for _ in 0..length {
            digits.push(i128::from(u32::from_le_bytes(from.take()?)) * sign);
        }
        let mut beside = [0; 3];
        if header & 2 == 2 {
            for count in &mut beside {
                *count = from.signed()?;
            }
        }
        Ok(Self { digits, low: low as u32, pending: 0, beside })
    }
}

impl Magnitude {
    fn value(&self) -> f64 {
        let Some(top) = self.digits.last() else { return 0.0 };
        let digit = |back: usize| self.digits.len().checked_sub(1 + back).map_or(0, |i| u128::from(self.digits[i]));
        let leading = digit(0) << 64 | digit(1) << 32 | digit(2); // at least 65 bits where there are three digits
        let highest = (self.low + self.digits.len()) as u32 * DIGIT - top.leading_zeros(); // bits of the whole number
        let magnitude = if highest <= 53 {
            // So small that the bits of an f64 are the number in units of 2^-1074.
            let whole = self.digits.iter().rev().fold(0_u64, |whole, digit| whole << DIGIT | u64::from(*digit));
            f64::from_bits(whole << (DIGIT as usize * self.low))
        } else {
            let spare = 96 - top.leading_zeros() - 53;
            let mantissa = (leading >> spare) as u64;
            let rest = leading & ((1 << spare) - 1);
            let half = 1 << (spare - 1);
            let below = self.digits.len() > 3; // the lowest digit is not zero
            let up = rest > half || (rest == half && (below || mantissa & 1 == 1));
            // The leading bit of the mantissa adds the 1 that is missing in the exponent, and a carry adds one more.
            let bits = (u64::from(highest - 53) << 52) + mantissa + u64::from(up);
            f64::from_bits(bits.min(f64::INFINITY.to_bits()))
        };
        if self.negative { -magnitude } else { magnitude }
    }
}

impl PartialEq for Wide {
    fn eq(&self, other: &Self) -> bool {
        self.beside == other.beside && self.magnitude() == other.magnitude()
    }
}

impl Eq for Wide {}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> Wide {
        let mut sum = Wide::default();
        values.iter().for_each(|x| sum.add(*x));
        sum
    }

    #[test]
    fn carries_are_settled_before_a_digit_overflows() {
        let mut many = Wide { pending: SETTLE - 2, ..sum(&[f64::MAX, -1.5]) };
        for digit in &mut many.digits {
            *digit += i128::from(SETTLE - 2) << 84; // as large as the invariant lets it be
        }
        let mut before = many.clone();
        for _ in 0..5 {
            many.add(-1.5);
        }
        assert!(many.pending < 5, "settled on the way");
        before.plus(&sum(&[-7.5]));
        assert_eq!(many, before);
    }

    #[test]
    fn scaled_wholes_come_back() {
        for (whole, shift) in [(1, 0), (-1, 3), ((1 << 126) - 1, 64), (-(1_i128 << 125), 1024), (0x1234_5678_9abc, 77)] {
            let mut scaled = Wide::default();
            scaled.add_scaled(whole, shift);
            let (back, at) = scaled.scaled().expect("126 bits");
            let (back, at) = (back >> back.trailing_zeros(), at + back.trailing_zeros());
            assert_eq!((back, at), (whole >> whole.trailing_zeros(), shift + whole.trailing_zeros()));
        }
        assert_eq!(sum(&[1e300, 1.0]).scaled(), None);
        assert_eq!(sum(&[f64::NAN]).scaled(), None);
    }
}
