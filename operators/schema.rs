//! What events look like in a file: a data set layout as a list of columns, each with the address of its values.
//!
//! A schema is a YAML file: the built-in ones in `schemas/`, or a user's own by path. Every column has axis 0 of its dataset
//! as the axis of events, so all datasets of a schema are equally long. Reading resolves a column against a file's
//! header; a writer goes the other way, from [`Schema::datasets`].

use crate::column::with_unit;
use crate::hdf5::header::{Dataset, Header, Numbers, shape_name};
use crate::hdf5::images::{Pick, cell_value};
use crate::hdf5::rows::unknown_filter;
use crate::hits::{dense_field, hits_field};
use crate::{Facts, Placed, Problem};
use arrow::datatypes::{DataType, Field};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_saphyr::Spanned;

/// The layouts that calostream brings along, by name.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("lcd-v1", include_str!("../schemas/lcd-v1.yaml")),
    ("lcd-l0", include_str!("../schemas/lcd-l0.yaml")),
    ("lcd-v2", include_str!("../schemas/lcd-v2.yaml")),
    ("next-white-waveforms", include_str!("../schemas/next-white-waveforms.yaml")),
    ("next-white-pmts", include_str!("../schemas/next-white-pmts.yaml")),
    ("next-white-sipms", include_str!("../schemas/next-white-sipms.yaml")),
];

/// A data set layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// The columns, in order.
    pub columns: Vec<(String, Column)>,
}

/// A column and the address of its values.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The path of the dataset.
    pub dataset: String,
    /// The member, where the elements of the dataset are records (`a.b` for a member of a member).
    #[serde(default)]
    pub member: Option<String>,
    /// Fixed places on the axes behind axis 0, from the first on: `at: [0, 1]` takes `dataset[:, 0, 1]`.
    #[serde(default)]
    pub at: Vec<u64>,
    /// How the values are kept. Left out: a number where one is left for each event, else hits.
    #[serde(default)]
    pub kind: Option<ColumnKind>,
    /// The name of a hit's value (`energy`).
    #[serde(default)]
    pub value: Option<String>,
    /// The unit of the values.
    #[serde(default)]
    pub unit: Option<String>,
    /// The type in memory, where it is not that of the file (`as: f32`).
    #[serde(default, rename = "as")]
    pub dtype: Option<Dtype>,
    /// Hits of a magnitude below this are dropped.
    #[serde(default)]
    pub threshold: Option<f64>,
    /// Hits below 0 are dropped.
    #[serde(default)]
    pub drop_negative: bool,
    /// The shape of an image; files of another shape are refused. Left out: that of most files.
    #[serde(default)]
    pub dims: Option<Vec<u64>>,
}

/// How the values of a column are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    /// One number for each event.
    Number,
    /// The cells that are not zero.
    Hits,
    /// All cells.
    Dense,
}

/// A type of number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Dtype {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    F32,
    F64,
}

impl Dtype {
    /// As Arrow calls it.
    #[must_use]
    pub fn arrow(self) -> DataType {
        match self {
            Self::I8 => DataType::Int8,
            Self::I16 => DataType::Int16,
            Self::I32 => DataType::Int32,
            Self::I64 => DataType::Int64,
            Self::U8 => DataType::UInt8,
            Self::U16 => DataType::UInt16,
            Self::U32 => DataType::UInt32,
            Self::U64 => DataType::UInt64,
            Self::F16 => DataType::Float16,
            Self::F32 => DataType::Float32,
            Self::F64 => DataType::Float64,
        }
    }
}

/// A column as it stands in one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Events.
    pub rows: u64,
    /// The field that it becomes.
    pub field: Field,
    /// How it is kept.
    pub kind: ColumnKind,
    /// Lengths of its axes behind axis 0.
    pub dims: Vec<usize>,
    /// Where its numbers stand in a row.
    pub pick: Pick,
    /// The numbers within an element.
    pub numbers: Numbers,
}

/// Bytes of one event beyond this are no event.
const MOST_ROW_BYTES: u64 = 1 << 31;
/// Cells of one image, so that a batch stays below 2^30 hits.
const MOST_CELLS: u64 = 1 << 28;

impl Schema {
    /// True where the word is a path and not the name of a built-in schema.
    #[must_use]
    pub fn is_path(word: &str) -> bool {
        word.contains('/') || word.ends_with(".yaml") || word.ends_with(".yml")
    }

    /// The schema that a word in a pipeline means.
    pub fn find(word: &Placed<String>, facts: &Facts) -> Result<Self, Vec<Problem>> {
        let (origin, text) = if Self::is_path(word) {
            (word.value.as_str(), facts.text(word).map_err(|p| vec![p])?)
        } else {
            let Some((_, text)) = BUILT_IN.iter().find(|(name, _)| *name == word.value) else {
                let problem = Problem::at(word, format!("no schema `{}`", word.value));
                return Err(vec![problem.suggest(word, BUILT_IN.iter().map(|(name, _)| *name))]);
            };
            (word.value.as_str(), *text)
        };
        Self::parse(text).map_err(|found| {
            found.into_iter().map(|(line, column, what)| Problem::at(word, format!("{origin}:{line}:{column}: {what}"))).collect()
        })
    }

    /// Reads a schema; what is wrong comes with its line and column.
    pub fn parse(text: &str) -> Result<Self, Vec<(u64, u64, String)>> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            schema: String,
            columns: Columns,
        }
        let raw: Raw = serde_saphyr::from_str(text).map_err(|error| {
            let place = error.location().map_or((0, 0), |l| (l.line(), l.column()));
            // The first line of the message; the rest shows the text around.
            let full = error.to_string();
            vec![(place.0, place.1, full.lines().next().unwrap_or_default().to_owned())]
        })?;
        let mut wrong = Vec::new();
        for (name, column) in &raw.columns.0 {
            let place = (name.referenced.line(), name.referenced.column());
            wrong.extend(mistakes(&name.value, column).into_iter().map(|what| (place.0, place.1, what)));
        }
        if raw.columns.0.is_empty() {
            wrong.push((1, 1, "a schema needs at least one column".into()));
        }
        if wrong.is_empty() {
            Ok(Self { name: raw.schema, columns: raw.columns.0.into_iter().map(|(n, c)| (n.value, c)).collect() })
        } else {
            Err(wrong)
        }
    }

    /// The datasets, in order of first mention, each with its columns: what a writer has to fill.
    #[must_use]
    pub fn datasets(&self) -> Vec<(&str, Vec<(&str, &Column)>)> {
        let mut datasets: Vec<(&str, Vec<(&str, &Column)>)> = Vec::new();
        for (name, column) in &self.columns {
            let path = column.path();
            match datasets.iter_mut().find(|(known, _)| *known == path) {
                Some((_, columns)) => columns.push((name, column)),
                None => datasets.push((path, vec![(name, column)])),
            }
        }
        datasets
    }
}

fn mistakes(name: &str, column: &Column) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut say = |what: String| wrong.push(format!("column `{name}`: {what}"));
    if crate::column::PROVENANCE.contains(&name) {
        say("this name says where a row came from".into());
    }
    if column.path().is_empty() {
        say("`dataset` is empty".into());
    }
    let image = !matches!(column.kind, Some(ColumnKind::Number));
    if !image && column.dims.is_some() {
        say("a number has no `dims`".into());
    }
    if matches!(column.kind, Some(ColumnKind::Number | ColumnKind::Dense))
        && (column.threshold.is_some() || column.value.is_some() || column.drop_negative)
    {
        say("`threshold`, `drop_negative` and `value` are for hits".into());
    }
    if column.threshold.is_some_and(|t| t.is_nan() || t <= 0.0) {
        say("a `threshold` is above 0".into());
    }
    if column.value.as_deref() == Some(crate::hits::CELL) {
        say("the value of a hit cannot be called `cell`".into());
    }
    if column.dims.as_ref().is_some_and(|d| d.is_empty() || d.contains(&0)) {
        say("`dims` are lengths above 0".into());
    }
    wrong
}

impl Column {
    /// The path of the dataset without slashes at its ends.
    #[must_use]
    pub fn path(&self) -> &str {
        self.dataset.trim_matches('/')
    }

    /// The name of a hit's value.
    #[must_use]
    pub fn value_name(&self) -> &str {
        self.value.as_deref().unwrap_or("value")
    }

    /// The column called `name` as it stands in a file, or why it does not.
    pub fn resolve(&self, name: &str, header: &Header) -> Result<Resolved, String> {
        let Some(dataset) = header.dataset(self.path()) else { return Err(missing(self.path(), header)) };
        let numbers = dataset.numbers(self.member.as_deref())?;
        if let Some(reason) = unknown_filter(dataset) {
            return Err(reason);
        }
        let path = &dataset.path;
        let Some(rows) = dataset.rows() else { return Err(format!("`{path}` is a single value, it has no axis of events")) };
        let trailing = &dataset.shape[1..];
        if self.at.len() > trailing.len() {
            return Err(format!(
                "`{path}` is {}; `at` has {} places for {} axes",
                dataset.describe(),
                self.at.len(),
                trailing.len()
            ));
        }
        if let Some((place, length)) = self.at.iter().zip(trailing).find(|(a, n)| a >= n) {
            return Err(format!("`{path}` is {}; `at` asks for place {place} of {length}", dataset.describe()));
        }
        let dims: Vec<u64> = trailing[self.at.len()..].iter().chain(&numbers.shape).copied().collect();
        let kind =
            self.kind.unwrap_or(if dims.is_empty() && self.dims.is_none() { ColumnKind::Number } else { ColumnKind::Hits });
        if kind == ColumnKind::Number && !dims.is_empty() {
            return Err(format!(
                "`{path}` is {}: {} numbers for each event; choose one with `at`",
                dataset.describe(),
                dims.iter().product::<u64>()
            ));
        }
        if let Some(wanted) = self.dims.as_ref().filter(|w| **w != dims) {
            return Err(format!(
                "`{path}` is {}; an event has the shape {}, not {}",
                dataset.describe(),
                shape_name(&dims),
                shape_name(wanted)
            ));
        }
        if kind != ColumnKind::Number && dims.is_empty() {
            return Err(format!("`{path}` is {}: one number for each event is no image", dataset.describe()));
        }
        if dims.iter().product::<u64>() > MOST_CELLS
            || dataset.row_elements().saturating_mul(dataset.element.bytes()) > MOST_ROW_BYTES
        {
            return Err(format!("`{path}` is {}: one event is too large", dataset.describe()));
        }
        let shape: Vec<usize> = dims.iter().map(|n| *n as usize).collect();
        let dtype = self.dtype.map(Dtype::arrow);
        let field = match kind {
            ColumnKind::Number => Field::new(name, dtype.unwrap_or_else(|| numbers.number.arrow()), false),
            ColumnKind::Dense => dense_field(name, &shape, dtype.unwrap_or_else(|| cell_value(numbers.number))),
            ColumnKind::Hits => {
                let value = Field::new(self.value_name(), dtype.unwrap_or_else(|| cell_value(numbers.number)), false);
                hits_field(name, &shape, &[with_unit(value, self.unit.as_deref())])
            }
        };
        let field = with_unit(field, self.unit.as_deref());
        let pick = self.pick(dataset, &numbers);
        Ok(Resolved { rows, field, kind, dims: shape, pick, numbers })
    }

    /// Where the numbers stand in a row of the dataset.
    fn pick(&self, dataset: &Dataset, numbers: &Numbers) -> Pick {
        let trailing: Vec<usize> = dataset.shape[1..].iter().map(|n| *n as usize).collect();
        let groups: usize = trailing[self.at.len()..].iter().product();
        // The flat number of the first element: the fixed places in C order, then zeros.
        let first = self.at.iter().zip(&trailing).fold(0, |n, (a, length)| n * length + *a as usize) * groups;
        let stride = dataset.element.bytes() as usize;
        Pick {
            number: numbers.number,
            row_bytes: trailing.iter().product::<usize>() * stride,
            start: first * stride + numbers.offset as usize,
            groups,
            stride,
            each: numbers.shape.iter().product::<u64>() as usize,
        }
    }
}

fn missing(path: &str, header: &Header) -> String {
    if let Some((_, reason)) = header.unreadable.iter().find(|(p, _)| p == path) {
        return format!("dataset `{path}` cannot be read: {reason}");
    }
    // The same word in other letters or in another group is what is meant most often.
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_lowercase();
    let meant = header.paths().find(|known| last(known) == last(path)).map(|known| format!("did you mean `{known}`?"));
    let help = meant.or_else(|| Problem::at(&Placed::unplaced(()), "").suggest(path, header.paths().take(20)).help);
    match help {
        Some(help) => format!("no dataset `{path}`; {help}"),
        None => format!("no dataset `{path}`; the file has no datasets"),
    }
}

/// Columns in the order in which they were written.
struct Columns(Vec<(Spanned<String>, Column)>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Columns;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("columns by name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    columns.push(entry);
                }
                Ok(Columns(columns))
            }
        }
        from.deserialize_map(Each)
    }
}
