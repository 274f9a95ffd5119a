//! From values to the slots of bins of equal width, many at a time: what compilers turn into vector instructions.

use crate::column::Floats;
use multiversion::multiversion;

/// [`Axis::refine`] by bins of equal width.
pub(super) fn regular(low: f64, width: f64, bins: u32, values: Floats<'_>, numbers: &mut [u32]) {
    let (from, inverse) = ((low, width, f64::from(bins)), (low, 1.0 / width, f64::from(bins)));
    // A product with the inverse of a power of two is the quotient to the bit, and sooner there.
    match (width.to_bits().trailing_zeros() >= 52, values) {
        (true, Floats::Single(values)) => single_scaled(inverse, values, numbers),
        (true, Floats::Double(values)) => double_scaled(inverse, values, numbers),
        (false, Floats::Single(values)) => single_divided(from, values, numbers),
        (false, Floats::Double(values)) => double_divided(from, values, numbers),
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn single_scaled((low, inverse, bins): (f64, f64, f64), values: &[f32], numbers: &mut [u32]) {
    deeper(bins, values, numbers, |x| (x - low) * inverse * bins);
}

#[multiversion(targets("x86_64+avx2"))]
fn double_scaled((low, inverse, bins): (f64, f64, f64), values: &[f64], numbers: &mut [u32]) {
    deeper(bins, values, numbers, |x| (x - low) * inverse * bins);
}

#[multiversion(targets("x86_64+avx2"))]
fn single_divided((low, width, bins): (f64, f64, f64), values: &[f32], numbers: &mut [u32]) {
    deeper(bins, values, numbers, |x| (x - low) / width * bins);
}

#[multiversion(targets("x86_64+avx2"))]
fn double_divided((low, width, bins): (f64, f64, f64), values: &[f64], numbers: &mut [u32]) {
    deeper(bins, values, numbers, |x| (x - low) / width * bins);
}

#[multiversion(targets("x86_64+avx2"))]
pub(super) fn double_whole((low, bins): (f64, f64), values: &[f64], numbers: &mut [u32]) {
    deeper(bins, values, numbers, |x| x - low);
}

/// `number * slots + slot` of values that are at `at`, in bins from the lowest edge. Without a branch, and with
/// nothing that compilers can't do for several values at a time: a conversion with a check is such a thing.
#[inline(always)]
fn deeper<T: Copy + Into<f64>>(bins: f64, values: &[T], numbers: &mut [u32], at: impl Fn(f64) -> f64) {
    // What is added to it is rounded to a whole number, which then is in its lower bits.
    const WHOLE: f64 = 1.5 * (1_u64 << 52) as f64;
    let slots = bins as u64 + 3;
    for (number, x) in numbers.iter_mut().zip(values) {
        let x: f64 = (*x).into();
        let at = at(x);
        let at = if at < bins { at } else { bins };
        let at = if at > -1.0 { at } else { -1.0 };
        // Cut off first, then counted from 1: adding 1 first would round values just below an edge up.
        let near = (at + WHOLE) - WHOLE;
        let floor = near - if near > at { 1.0 } else { 0.0 };
        let slot = floor + if x.is_nan() { 1.0 } else { 0.0 } + (WHOLE + 1.0);
        *number = (u64::from(*number) * slots + (slot.to_bits() & 0xffff_ffff)) as u32;
    }
}
