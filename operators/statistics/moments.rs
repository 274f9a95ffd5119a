//! What sums of powers can tell, and what rounding has taken from them.
//!
//! A spread is the difference of two numbers, the mean square and the square of the mean. Far from 0 they agree in most of their digits,
//! and what is left is rounding. Sums here are exact, but each summand is rounded once: a square by half a unit in its last place.

/// By how much the rounding of summands, of the mean and of the difference can change a mean square, as a share of it.
const ROUNDING: f64 = 4.0 * f64::EPSILON;
/// How much of a number may be rounding before it is none.
const MOST: f64 = 2e-3;

/// By how much rounding can change a central moment of this order, from the mean of x to that power.
#[must_use]
pub fn rounding(order: u32, raw: f64) -> f64 {
    // The fourth has binomial coefficients up to 6.
    ROUNDING * if order > 2 { 4.0 } else { 1.0 } * raw.abs()
}

/// True where rounding can have changed a number by more than 0.2 %.
#[must_use]
pub fn is_lost(number: f64, rounding: f64) -> bool {
    rounding > MOST * number
}
