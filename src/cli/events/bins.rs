//! The bins of a table: which rows somebody means, and what an event must have to be in them.
//!
//! Regions and predicted classes are no columns of the events: what stands behind them are conditions that the table's schema says.

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Schema};
use calostream_operators::Placed;
use calostream_operators::expression::Expression;
use calostream_operators::statistics::groups::{CONDITIONS_KEY, REGION};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// Columns that count the rows of a bin: those of `resolution`, `histogram`, `efficiency`, `confusion` (together).
const COUNTS: [&[&str]; 4] = [&["n"], &["count"], &["signal", "background"], &["passed", "failed"]];

/// A bin that somebody asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    name: String,
    value: String,
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(Self { name: name.into(), value: value.into() }),
            _ => Err("a bin is named as NAME=VALUE: energy=42, sample=electron".into()),
        }
    }
}

/// What an event must have: numbers between edges, texts, and what its region, its true and its predicted class ask for.
#[derive(Debug, Clone)]
pub struct Predicate {
    edges: BTreeMap<String, (f64, f64)>,
    texts: BTreeMap<String, Wanted>,
    /// By what they are: column and text.
    conditions: BTreeMap<(String, String), Expression>,
}

/// What a text must be.
#[derive(Debug, Clone, PartialEq)]
enum Wanted {
    /// This.
    Text(String),
    /// None of these: the bin of all other categories.
    Other(BTreeSet<String>),
}

/// What that bin is called.
const OTHER: &str = "other";

/// The rows of a table, with what names them.
pub struct Rows {
    table: RecordBatch,
    /// Lower and upper edges of binned columns.
    edges: BTreeMap<String, Vec<Option<(f64, f64)>>>,
    texts: BTreeMap<String, Vec<Option<String>>>,
    /// The conditions of the texts of columns that no event has.
    conditions: BTreeMap<String, BTreeMap<String, String>>,
}

/// The rows of a table's file.
pub fn read(path: &Path) -> Result<Rows> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    // The schema of the batches does not say what that of the file says.
    let metadata = reader.schema().metadata().clone();
    let batches = reader.build()?.collect::<Result<Vec<_>, _>>()?;
    let first = batches.first().with_context(|| format!("{} has no rows", path.display()))?;
    let table = arrow::compute::concat_batches(&first.schema(), &batches)?;
    let schema = table.schema().as_ref().clone().with_metadata(metadata);
    Rows::of(table.with_schema(Arc::new(schema))?)
}

impl Rows {
    /// The rows of a table.
    pub fn of(table: RecordBatch) -> Result<Self> {
        let (mut edges, mut texts) = (BTreeMap::new(), BTreeMap::new());
        let schema = table.schema();
        let floats = |name: &str| -> Option<Vec<Option<f64>>> {
            Some(table.column_by_name(name)?.as_primitive_opt::<Float64Type>()?.iter().collect())
        };
        for field in schema.fields() {
            let name = field.name();
            if *field.data_type() == DataType::Utf8 && name != "reason" {
                let column = table.column_by_name(name).context("a column")?.as_string::<i32>();
                texts.insert(name.clone(), column.iter().map(|text| text.map(str::to_owned)).collect());
            }
            let Some(base) = name.strip_suffix("_low").filter(|base| *base != "core") else { continue };
            if schema.field_with_name(base).is_ok() {
                continue; // the interval of a value
            }
            if let (Some(low), Some(high)) = (floats(name), floats(&format!("{base}_high"))) {
                edges.insert(base.to_owned(), low.into_iter().zip(high).map(|(low, high)| low.zip(high)).collect());
            }
        }
        let conditions = schema.metadata().get(CONDITIONS_KEY).map(|said| serde_json::from_str(said)).transpose();
        Ok(Self { table, edges, texts, conditions: conditions.context("the table's conditions")?.unwrap_or_default() })
    }

    /// The columns of the events that say in which bins they are.
    pub fn reads(&self, stream: &Schema) -> Result<BTreeSet<String>> {
        let is_column = |name: &String| !self.conditions.contains_key(name) && stream.field_with_name(name).is_ok();
        let mut reads: BTreeSet<String> = self.columns().into_iter().filter(is_column).collect();
        for text in self.conditions.values().flat_map(BTreeMap::values) {
            reads.extend(condition(text, stream)?.columns());
        }
        Ok(reads)
    }

    /// What bins can be asked for.
    pub fn columns(&self) -> Vec<String> {
        self.edges.keys().chain(self.texts.keys()).cloned().collect()
    }

    /// The rows that are meant.
    pub fn choose(&self, asked: &[Asked]) -> Result<Vec<usize>> {
        let known = || self.columns().join(", ");
        ensure!(!asked.is_empty(), "which bin? The table has bins of {}: --bin NAME=VALUE", known());
        let mut chosen: BTreeSet<usize> = (0..self.table.num_rows()).collect();
        for Asked { name, value } in asked {
            if let Some(edges) = self.edges.get(name) {
                let Ok(x) = value.parse::<f64>() else { bail!("--bin {name}={value}: not a number") };
                let inside = |row: &usize| {
                    edges[*row].is_some_and(|(low, high)| (low <= x && x < high) || (x == high && high.is_infinite()))
                };
                chosen.retain(inside);
            } else if let Some(texts) = self.texts.get(name) {
                chosen.retain(|row| texts[*row].as_deref() == Some(value));
            } else {
                bail!("the table has no bins of `{name}`; it has those of {}", known());
            }
        }
        let said = || asked.iter().map(|a| format!("{}={}", a.name, a.value)).collect::<Vec<_>>().join(", ");
        ensure!(!chosen.is_empty(), "the table has no bin with {}", said());
        Ok(chosen.into_iter().collect())
    }

    /// What an event must have to be in these rows: one of these.
    pub fn predicates(&self, rows: &[usize], stream: &Schema) -> Result<Vec<Predicate>> {
        let mut predicates: Vec<Predicate> = Vec::new();
        for row in rows {
            let edges = self.edges.iter().filter_map(|(name, edges)| Some((name.clone(), edges[*row]?))).collect();
            let wanted = |texts: &Vec<Option<String>>| match texts[*row].clone()? {
                other if other == OTHER => {
                    Some(Wanted::Other(texts.iter().flatten().filter(|text| *text != OTHER).cloned().collect()))
                }
                text => Some(Wanted::Text(text)),
            };
            // What the events do not have, the name of a score, say, is not asked for.
            let asked = |name: &str| !self.conditions.contains_key(name) && stream.field_with_name(name).is_ok();
            let texts = self.texts.iter().filter(|(name, _)| asked(name));
            let texts = texts.filter_map(|(name, texts)| Some((name.clone(), wanted(texts)?))).collect();
            let mut conditions = BTreeMap::new();
            for (name, known) in &self.conditions {
                let Some(text) = self.texts.get(name).and_then(|texts| texts[*row].clone()) else { continue };
                let said = known.get(&text).with_context(|| format!("the table does not say what `{text}` is"))?;
                conditions.insert((name.clone(), text), condition(said, stream)?);
            }
            let predicate = Predicate { edges, texts, conditions };
            if !predicates.iter().any(|known| known.is(&predicate)) {
                predicates.push(predicate);
            }
        }
        Ok(predicates)
    }

    /// True where no row of data can stand in two of these: they are of one quantity and one region.
    fn apart(&self, rows: &[usize]) -> bool {
        let one = |name: &&str| {
            let texts = self.texts.get(*name);
            texts.is_none_or(|texts| rows.iter().map(|row| &texts[*row]).collect::<BTreeSet<_>>().len() < 2)
        };
        ["quantity", REGION].iter().all(one)
    }

    /// How many rows of data stand behind these rows of the table, where it says so and each is counted in one alone: rows of several scores
    /// or working points in one bin are of the same data.
    pub fn count_once(&self, rows: &[usize], stream: &Schema) -> Result<Option<u64>> {
        let mut known: Vec<(Predicate, usize)> = Vec::new();
        for row in rows {
            for predicate in self.predicates(&[*row], stream)? {
                if !known.iter().any(|(other, _)| other.is(&predicate)) {
                    known.push((predicate, *row));
                }
            }
        }
        let rows: Vec<usize> = known.into_iter().map(|(_, row)| row).collect();
        Ok(self.count(&rows).filter(|_| self.apart(&rows)))
    }

    /// The sum of the counts of these rows, where the table has some.
    pub fn count(&self, rows: &[usize]) -> Option<u64> {
        let integers = |name: &&str| self.table.column_by_name(name).is_some_and(|c| c.data_type().is_integer());
        let names = COUNTS.iter().find(|names| names.iter().all(&integers))?;
        let mut all = 0;
        for name in *names {
            let column = cast(self.table.column_by_name(name)?, &DataType::Int64).ok()?;
            let column = column.as_primitive::<arrow::datatypes::Int64Type>();
            all += rows.iter().filter(|row| **row < column.len()).map(|row| column.value(*row)).sum::<i64>();
        }
        u64::try_from(all).ok()
    }
}

/// A region's condition on the events.
fn condition(text: &str, stream: &Schema) -> Result<Expression> {
    Expression::condition(&Placed::unplaced(text.to_owned()), stream)
        .map_err(|problems| anyhow::anyhow!("{}", problems.first().map_or("a region", |problem| problem.what.as_str())))
}

impl Predicate {
    /// True where both ask for the same.
    fn is(&self, other: &Self) -> bool {
        self.edges == other.edges && self.texts == other.texts && self.conditions.keys().eq(other.conditions.keys())
    }

    /// Which rows of a batch fit.
    pub fn fits(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let mut fits = vec![true; batch.num_rows()];
        for (name, (low, high)) in &self.edges {
            let column = batch.column_by_name(name).with_context(|| format!("the events have no column `{name}`"))?;
            let numbers = cast(column, &DataType::Float64)?;
            let inside = numbers
                .as_primitive::<Float64Type>()
                .iter()
                .map(|x| x.is_some_and(|x| *low <= x && (x < *high || high.is_infinite())));
            fits.iter_mut().zip(inside).for_each(|(fits, inside)| *fits &= inside);
        }
        for (name, wanted) in &self.texts {
            let Some(column) = batch.column_by_name(name) else { continue };
            // Categories that are numbers are written as whole ones.
            let column = if column.data_type().is_floating() { &cast(column, &DataType::Int64)? } else { column };
            let texts = cast(column, &DataType::Utf8)?;
            let equal = texts.as_string::<i32>().iter().map(|text| match wanted {
                Wanted::Text(wanted) => text == Some(wanted),
                Wanted::Other(others) => text.is_some_and(|text| !others.contains(text)),
            });
            fits.iter_mut().zip(equal).for_each(|(fits, equal)| *fits &= equal);
        }
        for condition in self.conditions.values() {
            let inside = condition.evaluate(batch).map_err(|fault| anyhow::anyhow!("{fault}"))?;
            fits.iter_mut().zip(inside.as_boolean()).for_each(|(fits, inside)| *fits &= inside == Some(true));
        }
        Ok(fits.into())
    }
}
