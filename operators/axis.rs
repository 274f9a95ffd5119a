//! The axis along which rows are put into bins.
//!
//! Bins are half-open, `[low, high)`, and the last edge belongs to the overflow: as in boost-histogram and `hist`, whose
//! arithmetic is kept to the bit, and not as in numpy, which closes the last bin. Every value has a slot: 0 is the
//! underflow, `1..=bins` the bins, then the overflow, then NaN (which boost-histogram would put into the overflow).

use crate::{Placed, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

/// More bins than these are taken for a mistake.
const MOST_BINS: u32 = 1 << 24;

/// How an axis is written: `{ range: [10, 510], bins: 10 }`, or `{ edges: [10, 20, 50, 100] }`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AxisWords {
    /// The lowest and the highest edge of bins of equal width.
    #[serde(default)]
    pub range: Option<Placed<(f64, f64)>>,
    /// The number of bins of equal width.
    #[serde(default)]
    pub bins: Option<Placed<u32>>,
    /// The edges of bins of any width, ascending.
    #[serde(default)]
    pub edges: Option<Placed<Vec<f64>>>,
}

/// Bins along one quantity.
#[derive(Debug, Clone, PartialEq)]
pub enum Axis {
    /// Bins of equal width.
    Regular {
        /// The lowest edge.
        low: f64,
        /// The highest edge.
        high: f64,
        /// The number of bins.
        bins: u32,
    },
    /// Bins between ascending edges.
    Variable {
        /// `bins + 1` edges.
        edges: Vec<f64>,
    },
}

impl Axis {
    /// The axis of these words, or what is wrong with them; `name` is the column, for problems that have no better place.
    pub fn plan(name: &Placed<String>, words: &AxisWords) -> Result<Self, Vec<Problem>> {
        const SHAPES: &str = "write `range: [low, high]` and `bins: n`, or `edges: [..]`";
        match words {
            AxisWords { range: Some(range), bins: Some(bins), edges: None } => Self::regular(range, bins),
            AxisWords { range: None, bins: None, edges: Some(edges) } => Self::variable(edges).map_err(|problem| vec![problem]),
            AxisWords { edges: Some(edges), .. } => {
                Err(vec![Problem::at(edges, "an axis has either `edges`, or `range` and `bins`").help(SHAPES)])
            }
            AxisWords { range: Some(range), bins: None, edges: None } => {
                Err(vec![Problem::at(range, format!("the axis of `{}` has no `bins`", name.value)).help(SHAPES)])
            }
            AxisWords { range: None, bins: Some(bins), edges: None } => {
                Err(vec![Problem::at(bins, format!("the axis of `{}` has no `range`", name.value)).help(SHAPES)])
            }
            AxisWords { range: None, bins: None, edges: None } => {
                Err(vec![Problem::at(name, format!("the axis of `{}` has no bins", name.value)).help(SHAPES)])
            }
        }
    }

    fn regular(range: &Placed<(f64, f64)>, bins: &Placed<u32>) -> Result<Self, Vec<Problem>> {
        let (low, high) = range.value;
        let mut problems = Vec::new();
        if bins.value == 0 || bins.value > MOST_BINS {
            problems.push(Problem::at(bins, format!("{} bins", bins.value)).help(format!("give 1 to {MOST_BINS}")));
        }
        if !(low.is_finite() && high.is_finite() && (high - low).is_finite()) {
            problems.push(Problem::at(range, "the range is not finite").help("what lies outside is counted in the flow bins"));
        } else if low == high {
            problems.push(Problem::at(range, format!("the range [{low}, {high}] is empty")));
        } else if low > high {
            problems.push(Problem::at(range, "the range is reversed").help(format!("write [{high}, {low}]")));
        }
        if problems.is_empty() { Ok(Self::Regular { low, high, bins: bins.value }) } else { Err(problems) }
    }

    fn variable(edges: &Placed<Vec<f64>>) -> Result<Self, Problem> {
        if edges.len() < 2 {
            return Err(Problem::at(edges, format!("{} edges make no bin", edges.len())).help("give at least two"));
        }
        if let Some(edge) = edges.iter().find(|edge| !edge.is_finite()) {
            return Err(Problem::at(edges, format!("the edge {edge} is not finite"))
                .help("what lies outside is counted in the flow bins"));
        }
        match edges.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(Problem::at(edges, format!("the edges do not ascend: {} is followed by {}", pair[0], pair[1]))),
            None => Ok(Self::Variable { edges: edges.value.clone() }),
        }
    }

    /// The number of bins, without the flow.
    #[must_use]
    pub fn bins(&self) -> usize {
        match self {
            Self::Regular { bins, .. } => *bins as usize,
            Self::Variable { edges } => edges.len() - 1,
        }
    }

    /// The number of slots: underflow, bins, overflow, NaN.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.bins() + 3
    }

    /// The slot of NaN.
    #[must_use]
    pub fn nan(&self) -> usize {
        self.bins() + 2
    }

    /// The slot of a value.
    #[must_use]
    pub fn slot(&self, x: f64) -> usize {
        let mut slot = [0];
        self.refine(&[x], &mut slot);
        slot[0] as usize
    }

    /// Goes one axis deeper: each row's number becomes `number * slots + slot of its value`.
    pub fn refine(&self, values: &[f64], numbers: &mut [u32]) {
        let (slots, nan) = (self.slots() as u32, self.nan() as u32);
        match self {
            Self::Regular { low, high, bins } => {
                let (low, width, bins) = (*low, high - low, f64::from(*bins));
                for (number, x) in numbers.iter_mut().zip(values) {
                    let z = (x - low) / width;
                    // A cast takes NaN to 0, and bins are counted from 1.
                    let bin = if z < 1.0 { if z >= 0.0 { z * bins + 1.0 } else { 0.0 } } else { bins + 1.0 };
                    *number = *number * slots + if x.is_nan() { nan } else { bin as u32 };
                }
            }
            Self::Variable { edges } => {
                for (number, x) in numbers.iter_mut().zip(values) {
                    let slot = if x.is_nan() { nan } else { edges.partition_point(|edge| edge <= x) as u32 };
                    *number = *number * slots + slot;
                }
            }
        }
    }

    /// All `bins + 1` edges.
    #[must_use]
    pub fn edges(&self) -> Vec<f64> {
        match self {
            Self::Variable { edges } => edges.clone(),
            Self::Regular { low, high, bins } => (0..=*bins)
                .map(|i| {
                    let z = f64::from(i) / f64::from(*bins);
                    (1.0 - z) * low + z * (low + (high - low))
                })
                .collect(),
        }
    }
}
