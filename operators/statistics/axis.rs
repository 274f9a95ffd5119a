//! The axis along which rows are put into bins.
//!
//! Bins are half-open, `[low, high)`, and the last edge belongs to the overflow: as in boost-histogram and `hist`, whose
//! arithmetic is kept to the bit, and not as in numpy, which closes the last bin. Every value has a slot: 0 is the
//! underflow, `1..=bins` the bins, then the overflow, then NaN (which boost-histogram would put into the overflow).
//!
//! Categories are bins too, in the order in which they are named: everything else is in their overflow, nulls and NaN are beside, and
//! the underflow is always empty. Along a plot, category `i` (from 1) lies between `i - 1/2` and `i + 1/2`.

mod slots;

use crate::column::{self, Floats};
use crate::{Placed, Problem};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use schemars::JsonSchema;
use serde::Deserialize;
use slots::{double_whole, regular};

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

#[cfg(test)]
mod tests;
