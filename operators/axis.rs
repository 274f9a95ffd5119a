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
                let (low, width, bins, overflow) = (*low, high - low, f64::from(*bins), bins + 1);
                for (number, x) in numbers.iter_mut().zip(values) {
                    let z = (x - low) / width;
                    // Cut off first, then counted from 1: adding 1 first would round values just below an edge up.
                    let bin = if z >= 0.0 { (z * bins) as u32 + 1 } else { 0 };
                    let slot = if z < 1.0 { bin } else { overflow };
                    *number = *number * slots + if x.is_nan() { nan } else { slot };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{at, bits, floats, python, uniform, word};
    use serde_json::json;

    fn problems(words: &AxisWords) -> Vec<String> {
        let problems = Axis::plan(&at(1, 7, "energy".to_owned()), words).unwrap_err();
        let help = |p: &Problem| p.help.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
        problems.iter().map(|p| format!("{}:{} {}{}", p.place.line, p.place.column, p.what, help(p))).collect()
    }

    #[test]
    fn slots_and_edges_are_those_of_boost_histogram() {
        let mut uniform = uniform(3);
        let regular = [(10.0, 510.0, 10), (-5.0, 5.0, 100), (0.1, 0.7, 7), (-1e-3, 1e9, 33), (1.0, 1.000_000_1, 3)];
        let mut axes: Vec<Axis> = regular.map(|(low, high, bins)| Axis::Regular { low, high, bins }).into();
        axes.push(Axis::Variable { edges: vec![10.0, 20.0, 50.0, 50.1, 510.0] });
        for axis in axes {
            let edges = axis.edges();
            let (low, high) = (edges[0], edges[edges.len() - 1]);
            let mut values: Vec<f64> = (0..2000).map(|_| low + (1.4 * uniform() - 0.2) * (high - low)).collect();
            values.extend(edges.iter().flat_map(|edge| [edge.next_down(), *edge, edge.next_up()]));
            values.extend([f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, f64::MAX, -f64::MAX]);
            let words = match &axis {
                Axis::Regular { low, high, bins } => json!({ "regular": [bins, low, high] }),
                Axis::Variable { edges } => json!({ "edges": edges }),
            };
            let script = "
import boost_histogram as bh
axis = bh.axis.Regular(*given['regular']) if 'regular' in given else bh.axis.Variable(given['edges'])
answer({'slots': [int(i) + 1 for i in axis.index(floats(given['x']))], 'edges': bits(axis.edges)})
";
            let mut given = words;
            given["x"] = bits(&values);
            let expected = python(script, &given);
            let found: Vec<usize> = values.iter().map(|x| axis.slot(*x)).collect();
            assert_eq!(json!(found), expected["slots"], "{axis:?}");
            assert_eq!(edges, floats(&expected["edges"]));
            assert_eq!(axis.slot(f64::NAN), axis.nan());
        }
    }

    #[test]
    fn numbers_are_refined_axis_by_axis() {
        let (a, b) = (Axis::Regular { low: 0.0, high: 2.0, bins: 2 }, Axis::Variable { edges: vec![0.0, 1.0] });
        let mut numbers = vec![0, 0, 1, 1];
        a.refine(&[0.5, 1.5, -1.0, f64::NAN], &mut numbers);
        assert_eq!(numbers, [1, 2, 5, 9]);
        b.refine(&[0.5, 2.0, -1.0, f64::NAN], &mut numbers);
        assert_eq!(numbers, [5, 10, 20, 39]);
    }

    #[test]
    fn mistakes_have_places() {
        let words = |range, bins| AxisWords { range: Some(at(2, 3, range)), bins: Some(at(2, 9, bins)), edges: None };
        assert_eq!(problems(&words((0.0, 1.0), 0)), ["2:9 0 bins (give 1 to 16777216)"]);
        assert_eq!(problems(&words((510.0, 10.0), 5)), ["2:3 the range is reversed (write [10, 510])"]);
        assert_eq!(problems(&words((1.0, 1.0), 0)), ["2:9 0 bins (give 1 to 16777216)", "2:3 the range [1, 1] is empty"]);
        let infinite = "2:3 the range is not finite (what lies outside is counted in the flow bins)";
        assert_eq!(problems(&words((f64::NEG_INFINITY, 1.0), 5)), [infinite]);
        assert_eq!(problems(&words((-f64::MAX, f64::MAX), 5)), [infinite]);
        let edges = |edges: &[f64]| AxisWords { edges: Some(at(4, 5, edges.to_vec())), ..AxisWords::default() };
        assert_eq!(problems(&edges(&[1.0])), ["4:5 1 edges make no bin (give at least two)"]);
        assert_eq!(problems(&edges(&[1.0, 3.0, 3.0, 2.0])), ["4:5 the edges do not ascend: 3 is followed by 3"]);
        assert_eq!(
            problems(&edges(&[1.0, f64::NAN])),
            ["4:5 the edge NaN is not finite (what lies outside is counted in the flow bins)"]
        );
        let shapes = "(write `range: [low, high]` and `bins: n`, or `edges: [..]`)";
        assert_eq!(problems(&AxisWords::default()), [format!("1:7 the axis of `energy` has no bins {shapes}")]);
        let both = AxisWords { edges: Some(at(4, 5, vec![0.0, 1.0])), ..words((0.0, 1.0), 1) };
        assert_eq!(problems(&both), [format!("4:5 an axis has either `edges`, or `range` and `bins` {shapes}")]);
        let no_bins = AxisWords { bins: None, ..words((0.0, 1.0), 1) };
        assert_eq!(problems(&no_bins), [format!("2:3 the axis of `energy` has no `bins` {shapes}")]);
        let no_range = AxisWords { range: None, ..words((0.0, 1.0), 1) };
        assert_eq!(problems(&no_range), [format!("2:9 the axis of `energy` has no `range` {shapes}")]);
        assert_eq!(Axis::plan(&word("x"), &words((0.0, 1.0), 4)).unwrap(), Axis::Regular { low: 0.0, high: 1.0, bins: 4 });
    }
}
