//! Rows and their weights in many cells: in each how many rows there are, and the exact sums of w and of w^2.
//!
//! Weights are float32s nearly always, so that w is a whole number of few bits in a unit that all share, and w^2 one of twice as many,
//! which an f64 would not round. So a cell is 32 bytes of whole numbers, and a histogram of 50 x 100 x 4 bins stays in the cache.
//! Weights that are none, or far from the others, are summed elsewhere: [`Weighed::add`] says which.
//!
//! Invariants: `|w| < 2^47` units and there are fewer than 2^31 rows, so neither sum overflows; unit and cells are settled together, by the
//! first weights, and no weight is rounded to be a whole number of units.

use crate::column::Floats;
use crate::statistics::exact::Exact;
use multiversion::multiversion;

/// Weights are less than 2^47 units.
const BITS: i32 = 47;
/// The first weights are smaller than the largest that fit by so many octaves.
const SPARE: i32 = 4;
/// The exponent of the smallest float32.
const LEAST: i32 = -149;
/// More rows than these have no place in a cell.
const MOST_ROWS: u64 = 1 << 31;
/// What a weight is that has no place.
const NONE: i64 = i64::MIN;

/// Rows and their weights in cells. See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Weighed {
    cells: Vec<Cell>,
    /// The unit of a weight is 2^unit.
    unit: i32,
    rows: u64,
    whole: Vec<i64>,
}

/// What is in a cell, in units of weights and of their squares.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(32))]
struct Cell {
    /// The sum of w^2.
    squares: u128,
    /// The lower 64 bits of the sum of w.
    low: u64,
    /// The upper 32 bits of the sum of w, and in the lower half the number of rows: one addition for both.
    high_and_rows: u64,
}

/// The exponent of a positive number.
fn exponent(x: f64) -> i32 {
    (x.to_bits() >> 52) as i32 - 1023
}

impl Weighed {
    /// True where there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// How many rows were added.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many cells there are.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.cells.len()
    }

    /// True where so many more rows have room.
    #[must_use]
    pub fn has_room(&self, rows: usize) -> bool {
        self.rows + (rows as u64) < MOST_ROWS
    }

    /// Adds rows by the numbers of their cells, which are below `cells`; those whose weight has no place are listed in `others`.
    pub fn add(&mut self, cells: usize, numbers: &[u32], weights: Floats<'_>, others: &mut Vec<u32>) {
        others.clear();
        if self.is_empty() {
            let float = |w: f64| if w.abs() <= f64::from(f32::MAX) { w.abs() } else { 0.0 };
            let largest = (0..weights.len()).fold(0.0, |most: f64, row| most.max(float(weights.at(row))));
            self.unit = exponent(if largest > 0.0 { largest } else { 1.0 }).max(LEAST) + 1 + SPARE - BITS;
        }
        let fit = count(self.unit, weights, &mut self.whole);
        if (self.is_empty() && 4 * fit < 3 * weights.len()) || !self.has_room(weights.len()) {
            others.extend(0..weights.len() as u32);
            return;
        }
        if self.cells.len() < cells {
            self.cells.resize_with(cells, Cell::default);
        }
        self.rows += fit as u64;
        let into = &mut self.cells[..cells];
        let rows = numbers.iter().zip(&self.whole);
        if fit == weights.len() {
            return rows.for_each(|(number, w)| into[*number as usize].add(*w));
        }
        for (row, (number, w)) in (0..).zip(rows) {
            if *w == NONE {
                others.push(row);
            } else {
                into[*number as usize].add(*w);
            }
        }
    }

    /// The rows of a cell.
    #[must_use]
    pub fn count(&self, cell: usize) -> i64 {
        self.cells.get(cell).map_or(0, |cell| i64::from(cell.rows()))
    }

    /// Adds a cell's sum of w (power 0) or of w^2 (power 1).
    pub fn add_to(&self, cell: usize, power: usize, sum: &mut Exact) {
        if let Some(cell) = self.cells.get(cell).filter(|cell| cell.rows() > 0) {
            match power {
                0 => sum.plus_scaled(cell.sum(), self.unit),
                _ => sum.plus_scaled(cell.squares as i128, 2 * self.unit),
            }
        }
    }

    /// Adds what another has; false, and nothing, where units differ or rows are too many.
    pub fn merge(&mut self, other: &Self) -> bool {
        if self.is_empty() {
            self.cells.clone_from(&other.cells);
            (self.unit, self.rows) = (other.unit, other.rows);
            return true;
        }
        let fits = other.is_empty() || (self.unit == other.unit && self.rows + other.rows < MOST_ROWS);
        if fits && !other.is_empty() {
            self.cells.resize_with(self.cells.len().max(other.cells.len()), Cell::default);
            self.cells.iter_mut().zip(&other.cells).for_each(|(to, from)| to.plus(from));
            self.rows += other.rows;
        }
        fits
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.cells.clear();
        self.rows = 0;
    }
}

impl Cell {
    #[inline]
    fn add(&mut self, w: i64) {
        let (low, carry) = self.low.overflowing_add(w as u64);
        self.low = low;
        self.high_and_rows = self.high_and_rows.wrapping_add((((w >> 63) + i64::from(carry)) << 32) as u64 + 1);
        self.squares = self.squares.wrapping_add((i128::from(w) * i128::from(w)) as u128);
    }

    fn plus(&mut self, other: &Self) {
        let (low, carry) = self.low.overflowing_add(other.low);
        self.low = low;
        self.high_and_rows = self.high_and_rows.wrapping_add(other.high_and_rows).wrapping_add(u64::from(carry) << 32);
        self.squares += other.squares;
    }

    fn rows(&self) -> u32 {
        self.high_and_rows as u32
    }

    fn sum(&self) -> i128 {
        i128::from(self.high_and_rows as i64 >> 32) << 64 | i128::from(self.low)
    }
}

/// Counts weights in units of 2^unit; how many have a place.
fn count(unit: i32, weights: Floats<'_>, whole: &mut Vec<i64>) -> usize {
    whole.resize(weights.len(), 0);
    match weights {
        Floats::Single(weights) => count_single(unit, weights, whole),
        Floats::Double(weights) => count_double(unit, weights, whole),
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn count_single(unit: i32, weights: &[f32], whole: &mut [i64]) -> usize {
    let (units, mut fit) = (units(unit), 0);
    for (whole, w) in whole.iter_mut().zip(weights) {
        *whole = units(f64::from(*w));
        fit += usize::from(*whole != NONE);
    }
    fit
}

#[multiversion(targets("x86_64+avx2"))]
fn count_double(unit: i32, weights: &[f64], whole: &mut [i64]) -> usize {
    let (units, mut fit) = (units(unit), 0);
    for (whole, w) in whole.iter_mut().zip(weights) {
        let in_units = units(*w);
        *whole = if f64::from(*w as f32) == *w { in_units } else { NONE };
        fit += usize::from(*whole != NONE);
    }
    fit
}

/// From a weight to a whole number of units, where it is one.
#[inline(always)]
fn units(unit: i32) -> impl Fn(f64) -> i64 {
    let two_to = |power: i32| f64::from_bits(((power + 1023) as u64) << 52);
    // So large that its own unit is that of the weights: what is added to it is rounded to whole units, if to anything.
    let shift = 1.5 * two_to(unit + 52);
    let most = two_to(unit + BITS);
    move |w| {
        let shifted = w + shift;
        let fits = (shifted - shift == w) & (w.abs() < most);
        if fits { (shifted.to_bits() as i64).wrapping_sub(shift.to_bits() as i64) } else { NONE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_has_room_for_all_rows_of_the_largest_weights() {
        let largest = (1_i64 << BITS) - 1;
        let mut cell = Cell::default();
        cell.add(-largest);
        for _ in 0..31 {
            let same = cell;
            cell.plus(&same);
        }
        // One row less than 2^31.
        cell.high_and_rows -= 1;
        let weighed = Weighed { cells: vec![cell], unit: -12, rows: MOST_ROWS - 1, whole: Vec::new() };
        assert!(!weighed.has_room(1));
        assert_eq!(weighed.count(0), (1 << 31) - 1);
        let (mut w, mut w2) = (Exact::default(), Exact::default());
        weighed.add_to(0, 0, &mut w);
        weighed.add_to(0, 1, &mut w2);
        let largest = largest as f64;
        assert_eq!(w.value(), -largest * 2_f64.powi(31 - 12));
        assert_eq!(w2.value(), largest * largest * 2_f64.powi(31 - 24));
    }

    #[test]
    fn weights_of_one_unit_stay_together_and_others_are_listed() {
        let (mut weighed, mut others) = (Weighed::default(), Vec::new());
        let weights = [
            0.5,
            -1.5,
            1e-9,
            1.25e8,
            1.0 + f64::EPSILON,
            f64::NAN,
            f64::NEG_INFINITY,
            0.0,
            1.0,
            3.0,
            1.0,
            1.0,
            1.0,
            2.0,
            1.0,
            1.0,
        ];
        weighed.add(2, &[0; 8], Floats::Double(&weights[8..]), &mut others);
        assert!(others.is_empty());
        weighed.add(2, &[1; 16], Floats::Double(&weights), &mut others);
        assert_eq!(others, [2, 3, 4, 5, 6]);
        assert_eq!((weighed.count(0), weighed.count(1), weighed.rows()), (8, 11, 19));
        let mut empty = Weighed::default();
        assert!(empty.merge(&weighed) && weighed.merge(&empty));
        assert_eq!(weighed.count(1), 22);
        weighed.add(2, &[0; 2], Floats::Double(&[f64::EPSILON, 0.1]), &mut others);
        assert_eq!(others, [0, 1], "they change no unit");
    }
}
