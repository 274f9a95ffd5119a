//! The axis along which rows are put into bins.
//!
//! Bins are half-open, `[low, high)`, and the last edge belongs to the overflow: as in boost-histogram and `hist`, whose
//! arithmetic is kept to the bit, and not as in numpy, which closes the last bin. Every value has a slot: 0 is the
//! underflow, `1..=bins` the bins, then the overflow, then NaN (which boost-histogram would put into the overflow).
//!
//! Categories are bins too, in the order in which they are named: everything else is in their overflow, nulls and NaN are beside, and
//! the underflow is always empty. Along a plot, category `i` (from 1) lies between `i - 1/2` and `i + 1/2`.

use crate::column::{self, Floats};
use crate::{Placed, Problem};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use multiversion::multiversion;
use schemars::JsonSchema;
use serde::Deserialize;

/// More bins than these are taken for a mistake.
const MOST_BINS: u32 = 1 << 24;

/// How an axis is written: `{ range: [10, 510], bins: 10 }`, `{ range: [1, 1000], bins: 30, log: true }`,
/// `{ edges: [10, 20, 50, 100] }`, `{ populations: 10 }`, `{ integers: [0, 9] }` or `{ categories: [barrel, endcap] }`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AxisWords {
    /// The lowest and the highest edge of bins of equal width.
    #[serde(default)]
    pub range: Option<Placed<(f64, f64)>>,
    /// The number of bins of equal width.
    #[serde(default)]
    pub bins: Option<Placed<u32>>,
    /// True for bins of equal width in the logarithm.
    #[serde(default)]
    pub log: Option<Placed<bool>>,
    /// The edges of bins of any width, ascending.
    #[serde(default)]
    pub edges: Option<Placed<Vec<f64>>>,
    /// The first and the last whole number, each with a bin of its own: `[0, 9]` makes ten.
    #[serde(default)]
    pub integers: Option<Placed<(i64, i64)>>,
    /// So many bins with as many rows in each: the edges are found in a survey of all rows (in the `by` of a table).
    #[serde(default)]
    pub populations: Option<Placed<u32>>,
    /// The values that have a bin each: texts, or whole numbers.
    #[serde(default)]
    pub categories: Option<Placed<Vec<Category>>>,
}

/// A value that has a bin of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Category {
    /// A whole number: a particle's code, say.
    Number(i64),
    /// A text.
    Text(String),
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
    /// A bin for each of so many whole numbers.
    Integers {
        /// The first one.
        first: i64,
        /// The number of bins.
        bins: u32,
    },
    /// Bins between ascending edges.
    Variable {
        /// `bins + 1` edges.
        edges: Vec<f64>,
    },
    /// A bin for each of these texts.
    Texts {
        /// The texts.
        names: Vec<String>,
    },
    /// A bin for each of these numbers.
    Numbers {
        /// The numbers.
        values: Vec<i64>,
    },
}

impl Axis {
    /// The axis of these words, or what is wrong with them; `name` is the column, for problems that have no better place.
    pub fn plan(name: &Placed<String>, words: &AxisWords) -> Result<Self, Vec<Problem>> {
        const SHAPES: &str = "write `range: [low, high]` and `bins: n`, or `edges: [..]`";
        let AxisWords { range, bins, log, edges, integers, populations, categories } = words;
        let places = [
            edges.as_ref().map(|word| word.place),
            integers.as_ref().map(|word| word.place),
            categories.as_ref().map(|word| word.place),
            populations.as_ref().map(|word| word.place),
        ];
        let ways = places.iter().flatten().count() + usize::from(range.is_some() || bins.is_some() || log.is_some());
        if ways > 1 {
            let place = places.into_iter().flatten().max().unwrap_or_default();
            let at = Placed { value: (), place };
            return Err(vec![Problem::at(&at, "an axis has either `edges`, or `range` and `bins`").help(SHAPES)]);
        }
        match (range, bins) {
            (Some(range), Some(bins)) => {
                let regular = Self::regular(range, bins)?;
                if log.as_ref().is_some_and(|log| log.value) {
                    Self::log(range, bins.value).map_err(|p| vec![p])
                } else {
                    Ok(regular)
                }
            }
            (Some(range), None) => {
                Err(vec![Problem::at(range, format!("the axis of `{}` has no `bins`", name.value)).help(SHAPES)])
            }
            (None, Some(bins)) => {
                Err(vec![Problem::at(bins, format!("the axis of `{}` has no `range`", name.value)).help(SHAPES)])
            }
            (None, None) => {
                if let Some(word) = edges {
                    return Self::variable(word).map_err(|problem| vec![problem]);
                }
                if let Some(word) = populations {
                    return Err(vec![
                        Problem::at(word, "the edges of equal populations are not known here")
                            .help("they are for the `by` of `resolution`, `roc`, `efficiency` and `confusion`"),
                    ]);
                }
                if let Some(word) = integers {
                    return Self::integers(word).map_err(|problem| vec![problem]);
                }
                if let Some(word) = categories {
                    return Self::categories(word).map_err(|problem| vec![problem]);
                }
                Err(vec![Problem::at(name, format!("the axis of `{}` has no bins", name.value)).help(SHAPES)])
            }
        }
    }

    /// The axis of these words over a column: of numbers, or where it has categories of texts.
    pub fn plan_column(schema: &Schema, name: &Placed<String>, words: &AxisWords) -> Result<Self, Vec<Problem>> {
        let (mut problems, mut axis) = (Vec::new(), None);
        match Self::plan(name, words) {
            Ok(planned) => axis = Some(planned),
            Err(found) => problems = found,
        }
        let field = match &axis {
            Some(Self::Texts { .. }) => column::field(schema, name).map_err(|problem| vec![problem]).and_then(|field| {
                let text = |of: &DataType| matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
                match field.data_type() {
                    of if text(of) => Ok(()),
                    DataType::Dictionary(_, of) if text(of) => Ok(()),
                    other => {
                        let problem = Problem::at(name, format!("column `{}` is {other}, not text", name.value));
                        Err(vec![problem.help("its categories are whole numbers: `categories: [11, 22]`")])
                    }
                }
            }),
            _ => column::number(schema, name).map(|_| ()).map_err(|problem| vec![problem]),
        };
        problems.splice(0..0, field.err().into_iter().flatten());
        match axis.filter(|_| problems.is_empty()) {
            Some(axis) => Ok(axis),
            None => Err(problems),
        }
    }

    /// Bins between these edges, wherever they come from; why there are none.
    pub fn between(edges: Vec<f64>) -> Result<Self, String> {
        if edges.len() < 2 {
            return Err(format!("{} edges make no bin", edges.len()));
        }
        if let Some(edge) = edges.iter().find(|edge| !edge.is_finite()) {
            return Err(format!("the edge {edge} is not finite"));
        }
        match edges.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(format!("the edges do not ascend: {} is followed by {}", pair[0], pair[1])),
            None => Ok(Self::Variable { edges }),
        }
    }

    /// Bins of equal width in the logarithm: `low (high / low)^(i / bins)`.
    fn log(range: &Placed<(f64, f64)>, bins: u32) -> Result<Self, Problem> {
        let (low, high) = range.value;
        if low <= 0.0 {
            return Err(Problem::at(range, format!("a logarithmic axis can't begin at {low}")).help("begin above 0"));
        }
        // To 14 digits, so that what should be 10 is 10.
        let rounded = |x: f64| format!("{x:.13e}").parse().unwrap_or(x);
        let inner = (1..bins).map(|i| rounded(low * (high / low).powf(f64::from(i) / f64::from(bins))));
        let edges = [low].into_iter().chain(inner).chain([high]).collect();
        Self::between(edges).map_err(|what| Problem::at(range, what).help("give fewer bins"))
    }

    fn integers(word: &Placed<(i64, i64)>) -> Result<Self, Problem> {
        let (first, last) = word.value;
        if first > last {
            return Err(Problem::at(word, "the integers are reversed").help(format!("write [{last}, {first}]")));
        }
        let bins = i128::from(last) - i128::from(first) + 1;
        if bins > i128::from(MOST_BINS) || first.abs() >= 1 << 52 || last.abs() >= 1 << 52 {
            return Err(Problem::at(word, format!("{bins} bins")).help(format!("give 1 to {MOST_BINS}")));
        }
        Ok(Self::Integers { first, bins: bins as u32 })
    }

    fn categories(word: &Placed<Vec<Category>>) -> Result<Self, Problem> {
        let all = &word.value;
        if all.is_empty() {
            return Err(Problem::at(word, "`categories` names none").help("[barrel, endcap], or [11, 22, 211]"));
        }
        let say = |category: &Category| match category {
            Category::Number(number) => number.to_string(),
            Category::Text(text) => text.clone(),
        };
        if let Some((_, twice)) = all.iter().enumerate().find(|(i, category)| all[..*i].contains(category)) {
            return Err(Problem::at(word, format!("`{}` is given twice", say(twice))));
        }
        let numbers = all.iter().map(|category| if let Category::Number(number) = category { Some(*number) } else { None });
        Ok(match numbers.collect::<Option<Vec<i64>>>() {
            Some(values) => Self::Numbers { values },
            None => Self::Texts { names: all.iter().map(say).collect() },
        })
    }

    /// The names of the bins, where they are categories.
    #[must_use]
    pub fn names(&self) -> Option<Vec<String>> {
        match self {
            Self::Texts { names } => Some(names.clone()),
            Self::Numbers { values } => Some(values.iter().map(i64::to_string).collect()),
            Self::Regular { .. } | Self::Integers { .. } | Self::Variable { .. } => None,
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
        Self::between(edges.value.clone()).map_err(|what| {
            let problem = Problem::at(edges, what);
            if edges.len() < 2 {
                problem.help("give at least two")
            } else if edges.iter().any(|edge| !edge.is_finite()) {
                problem.help("what lies outside is counted in the flow bins")
            } else {
                problem
            }
        })
    }

    /// The number of bins, without the flow.
    #[must_use]
    pub fn bins(&self) -> usize {
        match self {
            Self::Regular { bins, .. } | Self::Integers { bins, .. } => *bins as usize,
            Self::Variable { edges } => edges.len() - 1,
            Self::Texts { names } => names.len(),
            Self::Numbers { values } => values.len(),
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

    /// Goes one axis deeper by a column of a batch, as [`Axis::plan_column`] has found it right.
    pub fn refine_by(&self, batch: &RecordBatch, name: &str, numbers: &mut [u32]) -> anyhow::Result<()> {
        let Self::Texts { names } = self else {
            return column::with_floats(batch, name, |values| match (self, values) {
                (Self::Regular { low, high, bins }, values) => regular(*low, high - low, *bins, values, numbers),
                (_, Floats::Double(values)) => self.refine(values, numbers),
                (_, Floats::Single(values)) => {
                    let values: Vec<f64> = values.iter().map(|x| f64::from(*x)).collect();
                    self.refine(&values, numbers);
                }
            });
        };
        let (slots, nan) = (self.slots() as u32, self.nan() as u32);
        let slot = |text: &str| names.iter().position(|name| name == text).map_or(nan - 1, |i| i as u32 + 1);
        let column = column::get(batch, name);
        if let Some(dictionary) = column.as_any_dictionary_opt().filter(|dictionary| !dictionary.values().is_empty()) {
            let values = arrow::compute::cast(dictionary.values(), &DataType::Utf8)?;
            let known: Vec<u32> = values.as_string::<i32>().iter().map(|text| text.map_or(nan, slot)).collect();
            for (row, (number, key)) in numbers.iter_mut().zip(dictionary.normalized_keys()).enumerate() {
                *number = *number * slots + if column.is_null(row) { nan } else { known[key] };
            }
            return Ok(());
        }
        let texts = arrow::compute::cast(column, &DataType::Utf8)?;
        for (number, text) in numbers.iter_mut().zip(texts.as_string::<i32>()) {
            *number = *number * slots + text.map_or(nan, slot);
        }
        Ok(())
    }

    /// Goes one axis deeper: each row's number becomes `number * slots + slot of its value`.
    pub fn refine(&self, values: &[f64], numbers: &mut [u32]) {
        let (slots, nan) = (self.slots() as u32, self.nan() as u32);
        match self {
            Self::Regular { low, high, bins } => regular(*low, high - low, *bins, Floats::Double(values), numbers),
            Self::Integers { first, bins } => double_whole((*first as f64, f64::from(*bins)), values, numbers),
            Self::Variable { edges } => {
                for (number, x) in numbers.iter_mut().zip(values) {
                    let slot = if x.is_nan() { nan } else { edges.partition_point(|edge| edge <= x) as u32 };
                    *number = *number * slots + slot;
                }
            }
            Self::Numbers { values: known } => {
                for (number, x) in numbers.iter_mut().zip(values) {
                    let found = known.iter().position(|value| *value as f64 == *x).map_or(nan - 1, |i| i as u32 + 1);
                    *number = *number * slots + if x.is_nan() { nan } else { found };
                }
            }
            // Numbers are none of the texts.
            Self::Texts { .. } => numbers.iter_mut().for_each(|number| *number = *number * slots + nan - 1),
        }
    }

    /// All `bins + 1` edges; of categories, those between which they are drawn.
    #[must_use]
    pub fn edges(&self) -> Vec<f64> {
        match self {
            Self::Variable { edges } => edges.clone(),
            Self::Texts { .. } | Self::Numbers { .. } => (0..=self.bins()).map(|i| i as f64 + 0.5).collect(),
            Self::Integers { first, bins } => (0..=*bins).map(|i| (first + i64::from(i)) as f64).collect(),
            Self::Regular { low, high, bins } => (0..=*bins)
                .map(|i| {
                    let z = f64::from(i) / f64::from(*bins);
                    (1.0 - z) * low + z * (low + (high - low))
                })
                .collect(),
        }
    }
}

/// [`Axis::refine`] by bins of equal width.
fn regular(low: f64, width: f64, bins: u32, values: Floats<'_>, numbers: &mut [u32]) {
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
fn double_whole((low, bins): (f64, f64), values: &[f64], numbers: &mut [u32]) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{at, bits, floats, python, uniform, word};
    use arrow::array::{ArrayRef, Float32Array};
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::Arc;

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
                Axis::Integers { .. } | Axis::Numbers { .. } | Axis::Texts { .. } => unreachable!("ranges and edges only"),
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
    fn a_logarithmic_axis_is_that_of_boost_histogram() {
        let (range, bins) = (Some(at(1, 1, (0.5, 2000.0))), Some(at(1, 2, 37)));
        let axis = Axis::plan(&word("x"), &AxisWords { range, bins, log: Some(at(1, 3, true)), ..AxisWords::default() }).unwrap();
        let mut uniform = uniform(9);
        let values: Vec<f64> = (0..5000).map(|_| 0.1 * 5e4_f64.powf(uniform())).collect();
        let script = "
import boost_histogram as bh
axis = bh.axis.Regular(37, .5, 2000, transform=bh.axis.transform.log)
answer({'slots': [int(i) + 1 for i in axis.index(floats(given))], 'edges': bits(axis.edges)})
";
        let expected = python(script, &bits(&values));
        assert_eq!(json!(values.iter().map(|x| axis.slot(*x)).collect::<Vec<_>>()), expected["slots"]);
        crate::trial::close(&axis.edges(), &floats(&expected["edges"]), 1e-12);
        let decades = AxisWords {
            range: Some(at(1, 1, (1.0, 1000.0))),
            bins: Some(at(1, 2, 3)),
            log: Some(at(1, 3, true)),
            ..AxisWords::default()
        };
        assert_eq!(Axis::plan(&word("x"), &decades).unwrap().edges(), [1.0, 10.0, 100.0, 1000.0]);
        let wrong = AxisWords {
            range: Some(at(2, 3, (0.0, 1.0))),
            bins: Some(at(2, 9, 3)),
            log: Some(at(2, 1, true)),
            ..AxisWords::default()
        };
        assert_eq!(problems(&wrong), ["2:3 a logarithmic axis can't begin at 0 (begin above 0)"]);
    }

    #[test]
    fn integers_and_categories_have_a_bin_each() {
        let integers = AxisWords { integers: Some(at(1, 1, (-1, 2))), ..AxisWords::default() };
        let axis = Axis::plan(&word("x"), &integers).unwrap();
        assert_eq!([-2.0, -1.0, 0.0, 2.0, 3.0].map(|x| axis.slot(x)), [0, 1, 2, 4, 5]);
        assert_eq!([-1.1, -0.9, 2.9, f64::INFINITY, f64::NAN].map(|x| axis.slot(x)), [0, 1, 4, 5, 6]);
        for (first, last) in (-3..4).flat_map(|first| (first..300).step_by(7).map(move |last| (first, last))) {
            let axis =
                Axis::plan(&word("x"), &AxisWords { integers: Some(at(1, 1, (first, last))), ..AxisWords::default() }).unwrap();
            let edges: Vec<f64> = (first..=last + 1).map(|i| i as f64).collect();
            assert_eq!(axis.edges(), edges);
            assert!(edges.iter().enumerate().all(|(i, x)| axis.slot(*x) == i + 1), "{first} to {last}");
        }
        let of = |categories: Vec<Category>| AxisWords { categories: Some(at(3, 1, categories)), ..AxisWords::default() };
        let axis = Axis::plan(&word("x"), &of(vec![Category::Number(211), Category::Number(11)])).unwrap();
        assert_eq!([11.0, 211.0, 22.0, f64::NAN].map(|x| axis.slot(x)), [2, 1, 3, 4]);
        let text = |text: &str| Category::Text(text.to_owned());
        let rows = crate::trial::batch(&["electron", "photon", "pion"], &[2, 0, 1, 2], &[]);
        let axis = Axis::plan_column(&rows.schema(), &word("sample"), &of(vec![text("pion"), text("photon")])).unwrap();
        let mut numbers = vec![0; 4];
        axis.refine_by(&rows, "sample", &mut numbers).unwrap();
        assert_eq!(numbers, [1, 3, 2, 1]);
        assert_eq!(problems(&of(vec![text("a"), text("a")])), ["3:1 `a` is given twice"]);
        assert_eq!(problems(&of(Vec::new())), ["3:1 `categories` names none ([barrel, endcap], or [11, 22, 211])"]);
        let both = AxisWords { integers: Some(at(5, 1, (0, 1))), ..of(vec![text("a")]) };
        assert!(problems(&both)[0].starts_with("5:1 an axis has either `edges`, or `range` and `bins`"));
        let wrong =
            Axis::plan_column(&crate::trial::batch(&["a"], &[0], &[("x", &[1.0])]).schema(), &word("x"), &of(vec![text("a")]));
        assert_eq!(wrong.unwrap_err()[0].what, "column `x` is Float64, not text");
    }

    /// Ranges of every kind: whole numbers, powers of two, any.
    fn range() -> impl Strategy<Value = (f64, f64)> {
        let masked = |mask: u64| {
            let end = move |bits: u64| f64::from_bits(bits & mask);
            (any::<u64>(), any::<u64>()).prop_map(move |(a, b)| (end(a).min(end(b)), end(a).max(end(b))))
        };
        let whole = (-9_i32..9, 1_i32..100).prop_map(|(low, width)| (f64::from(low), f64::from(low + width)));
        let any = prop_oneof![2 => whole, 1 => masked(!0), 1 => masked(!0 << 52), 1 => masked(!0 << 40)];
        any.prop_filter("a range", |(low, high)| low < high && (high - low).is_finite())
    }

    proptest! {
        #[test]
        fn slots_are_those_that_a_branch_for_each_case_gives(
            (low, high) in range(),
            bins in prop_oneof![1_u32..20, Just(MOST_BINS), 1..MOST_BINS],
            bits in prop::collection::vec(any::<u64>(), 1..20),
            shares in prop::collection::vec(-0.5..1.5, 1..20),
            numbers in prop::collection::vec(0_u32..200, 50),
        ) {
            let axis = Axis::Regular { low, high, bins };
            let mut values: Vec<f64> = bits.into_iter().map(f64::from_bits).collect();
            values.extend(shares.iter().map(|share| low + share * (high - low)));
            values.extend([low, high, low.next_down(), high.next_down(), -0.0, 0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
            let slot = |x: f64| {
                let z = (x - low) / (high - low);
                let bin = if z >= 0.0 { ((z * f64::from(bins)) as u32).saturating_add(1) } else { 0 };
                let slot = if z < 1.0 { bin } else { bins + 1 };
                if x.is_nan() { bins + 2 } else { slot }
            };
            let numbers = &numbers[..values.len()];
            let expected: Vec<u32> = numbers.iter().zip(&values).map(|(n, x)| n.wrapping_mul(bins + 3).wrapping_add(slot(*x))).collect();
            let mut refined = numbers.to_vec();
            axis.refine(&values, &mut refined);
            prop_assert_eq!(&refined, &expected, "{} to {}: {:?}", low, high, values);
            let small: Vec<f32> = values.iter().map(|x| *x as f32).collect();
            let widened: Vec<f64> = small.iter().map(|x| f64::from(*x)).collect();
            let batch = RecordBatch::try_from_iter([("x", Arc::new(Float32Array::from(small)) as ArrayRef)]).unwrap();
            let (mut of_small, mut of_widened) = (numbers.to_vec(), numbers.to_vec());
            axis.refine_by(&batch, "x", &mut of_small).unwrap();
            axis.refine(&widened, &mut of_widened);
            prop_assert_eq!(of_small, of_widened);
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
        let words = |range, bins| AxisWords { range: Some(at(2, 3, range)), bins: Some(at(2, 9, bins)), ..AxisWords::default() };
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
