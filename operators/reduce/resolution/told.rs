//! What is known of each bin when all rows are summed: what the fit takes, and what tables, plots and words are made of.

use super::measuring::{Bin, Unknown};
use super::robust::Robust;
use crate::statistics::binning::Cell;
use crate::statistics::fit::Calorimeter;

/// The fit of a series, where one is asked for, or why there is none.
pub(super) type Fit = Option<Result<Calorimeter, String>>;

/// What is known of a bin.
pub(super) struct Told {
    pub cell: Option<Cell>,
    pub bin: Result<Bin, Unknown>,
    pub robust: Option<Robust>,
}

/// The bins of a quantity and a group along the axis that plots go along, within one bin of each other axis.
pub(super) struct Series {
    pub quantity: usize,
    pub group: usize,
    /// The bins of the other axes, in words.
    pub others: Vec<String>,
    pub bins: Vec<Told>,
    pub whole: Result<Bin, Unknown>,
    pub fit: Fit,
}
