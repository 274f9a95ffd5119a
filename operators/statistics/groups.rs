//! The groups that a statistic tells rows apart by: `for_each`, one or more columns, and `regions`, named selections.
//!
//! Each column is a way to tell rows apart: the samples, a truth value (`false`, `true`), or a text or whole number whose values are
//! named. Regions are one more way, whose names stand in the column [`REGION`] of the table: conditions that may overlap. A row counts
//! in every region that it fits, so many selections take one pass. A group is a value of each way; its number has the last way
//! fastest, so all numbers of groups are dense, and every loop over rows sees one column of them, whatever the groups are made of.
//!
//! A row that fits several regions stands in the batch that is summed once for each; one that is in no group does not stand there, and is
//! counted beside, under a key that no statistic uses ([`BESIDE`]). Where every row is in one group the batch is the one that came.

use crate::column;
use crate::expression::Expression;
use crate::statistics::axis::{Axis, Category};
use crate::statistics::binning::{Binning, By};
use crate::statistics::folding::{Classes, gather};
use crate::statistics::for_each::{ForEach, Regions, Told};
use crate::statistics::sums::Sums;
use crate::statistics::uhi::UhiAxis;
use crate::{Fault, Placed, Problem, words};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The column of a table that says which region a row is of.
pub const REGION: &str = "region";
/// Where a table's schema says what an event must have to stand behind a text of a column that is no column of the events, a region or a
/// predicted class: a JSON object of columns, texts and conditions.
pub const CONDITIONS_KEY: &str = "calostream.conditions";
/// Behind all keys that a statistic uses: the rows that are in no group, by the number of the way that has none for them.
pub const BESIDE: u64 = 1 << 55;

/// More groups than these are taken for a mistake.
const MOST_GROUPS: usize = 1 << 14;
/// More bins in all groups than these, too.
const MOST_BINS: usize = 1 << 26;
/// What a row has that is in no group.
const NONE: u32 = u32::MAX;

/// One way to tell rows apart.
#[derive(Debug, Clone)]
struct Way {
    /// The column of the table.
    name: String,
    /// The values, in order.
    values: Vec<String>,
    by: Says,
}

/// What says the value of a row.
#[derive(Debug, Clone)]
enum Says {
    /// A class column; a value that is none of them is a fault of the file.
    Class(Classes),
    /// A column of categories.
    Categories(Axis),
    /// Conditions, and what was typed.
    Regions(Vec<(String, Expression)>),
}

/// A value of one way, that groups with another value of it are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    way: usize,
    value: usize,
}

/// The groups that rows are told apart by; a single one without a name where nothing is asked for.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    ways: Vec<Way>,
    /// The columns that the statistic reads.
    carried: BTreeSet<String>,
    places: Vec<u32>,
}

impl Groups {
    /// The groups that are asked for, or everything that is wrong with them.
    pub fn plan(schema: &Schema, for_each: Option<&ForEach>, regions: Option<&Regions>) -> Result<Self, Vec<Problem>> {
        let (mut problems, mut ways) = (Vec::new(), Vec::new());
        let mut of_regions = regions.and_then(|regions| gather(Way::of_regions(schema, regions), &mut problems));
        for Told { column, values } in for_each.iter().flat_map(|columns| &columns.0) {
            if ways.iter().any(|way: &Way| way.name == column.value) {
                problems.push(Problem::at(column, format!("`{}` is given twice", column.value)));
            } else if regions.is_some() && column.value == REGION {
                ways.extend(of_regions.take());
            } else {
                ways.extend(gather(Way::of_column(schema, column, values.as_ref()), &mut problems));
            }
        }
        ways.extend(of_regions);
        let groups = Self { ways, ..Self::default() };
        if groups.len() > MOST_GROUPS {
            let place = for_each.and_then(|columns| columns.0.last()).map_or_else(Default::default, |told| told.column.place);
            let problem = Problem::at(&Placed { value: (), place }, format!("{} groups are too many", groups.len()));
            problems.push(problem.help(format!("stay below {MOST_GROUPS}")));
        }
        if problems.is_empty() { Ok(groups) } else { Err(problems) }
    }

    /// The groups of rows whose true class is told apart in any case, by this column.
    pub fn beside(
        schema: &Schema,
        for_each: Option<&ForEach>,
        regions: Option<&Regions>,
        truth: &Placed<String>,
    ) -> Result<Self, Vec<Problem>> {
        let twice = for_each.iter().flat_map(|columns| &columns.0).find(|told| told.column.value == truth.value);
        match twice {
            Some(Told { column, .. }) => {
                let problem =
                    Problem::at(column, format!("rows are told apart by their true class, `{}`, in any case", column.value));
                Err(vec![problem.help("leave it out")])
            }
            None => Self::plan(schema, for_each, regions),
        }
    }

    /// What is wrong with these bins in each group, for so many things in each.
    pub fn binned(&self, binning: &Binning, things: usize, by: Option<&By>) -> Result<(), Problem> {
        let at = Placed { value: (), place: by.map(|by| by.place).unwrap_or_default() };
        if let Some(twice) = binning.columns.iter().find(|binned| self.has(&binned.column)) {
            return Err(Problem::at(&at, format!("rows are told apart by `{}` already", twice.column)).help("leave it out here"));
        }
        let all = self.len().saturating_mul(binning.slots()).saturating_mul(things);
        let problem = || Problem::at(&at, format!("{all} bins in {} groups are too many", self.len()));
        if all > MOST_BINS { Err(problem().help(format!("stay below {MOST_BINS}"))) } else { Ok(()) }
    }

    /// The same told apart by a class column, too.
    #[must_use]
    pub fn and(mut self, classes: &Classes) -> Self {
        self.ways.extend(Way::of_classes(classes.clone()));
        self
    }

    /// The same, for a statistic that reads these columns.
    #[must_use]
    pub fn carrying(mut self, columns: impl IntoIterator<Item = String>) -> Self {
        self.carried = columns.into_iter().collect();
        self
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ways.iter().fold(1, |groups, way| groups.saturating_mul(way.values.len()))
    }

    /// True where rows are not told apart.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }

    /// True where a column of the table has this name.
    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.ways.iter().any(|way| way.name == column)
    }

    /// The names of the table's columns that say which group a row is of.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.ways.iter().map(|way| way.name.as_str())
    }

    /// The columns that say which group a row is of.
    #[must_use]
    pub fn reads(&self) -> BTreeSet<String> {
        let mut reads = BTreeSet::new();
        for way in &self.ways {
            match &way.by {
                Says::Class(_) | Says::Categories(_) => {
                    reads.insert(way.name.clone());
                }
                Says::Regions(regions) => reads.extend(regions.iter().flat_map(|(_, condition)| condition.columns())),
            }
        }
        reads
    }

    /// The values of a group, one for each column.
    pub fn values(&self, group: usize) -> impl Iterator<Item = &str> {
        self.ways.iter().enumerate().map(move |(number, way)| way.values[group / self.stride(number) % way.values.len()].as_str())
    }

    fn stride(&self, number: usize) -> usize {
        self.ways[number + 1..].iter().map(|way| way.values.len()).product()
    }

    /// A group, as legends and remarks call it: `electron, barrel`; none where rows are not told apart.
    #[must_use]
    pub fn name(&self, group: usize) -> Option<String> {
        (!self.ways.is_empty()).then(|| self.values(group).collect::<Vec<_>>().join(", "))
    }

    /// What to call a group where there may be none: its name, or `otherwise`.
    #[must_use]
    pub fn label(&self, group: usize, otherwise: &str) -> String {
        self.name(group).unwrap_or_else(|| otherwise.to_owned())
    }

    /// `electron, barrel: `, in front of a remark.
    #[must_use]
    pub fn whose(&self, group: usize) -> String {
        self.name(group).map(|name| name + ": ").unwrap_or_default()
    }

    /// What is put behind the name of a file: `-electron-barrel`.
    #[must_use]
    pub fn suffix(&self, group: usize) -> String {
        self.values(group).flat_map(|value| ["-", value]).collect()
    }

    /// The value of this name that groups are compared with, in whichever column it stands.
    pub fn reference(&self, word: &Placed<String>) -> Result<Reference, Problem> {
        if self.ways.is_empty() {
            return Err(Problem::at(word, "one curve has no ratio").help("for_each: sample"));
        }
        let ways = self.ways.iter().enumerate();
        let found = ways.filter_map(|(way, of)| Some(Reference { way, value: of.values.iter().position(|v| *v == word.value)? }));
        let all = || self.ways.iter().flat_map(|way| way.values.iter().map(String::as_str));
        let missing = || Problem::at(word, format!("no group `{}`", word.value)).suggest(word, all());
        found.into_iter().next().ok_or_else(missing)
    }

    /// The group that one is compared with: of the same values but for that of the reference; itself where it has that.
    #[must_use]
    pub fn partner(&self, group: usize, Reference { way, value }: Reference) -> usize {
        let (stride, values) = (self.stride(way), self.ways[way].values.len());
        group + value * stride - group / stride % values * stride
    }

    /// What a reference is called.
    #[must_use]
    pub fn value(&self, Reference { way, value }: Reference) -> &str {
        &self.ways[way].values[value]
    }

    /// The fields of a table.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        self.columns().map(|name| Field::new(name, DataType::Utf8, false))
    }

    /// The columns of these fields, for rows of the table that are each of a group.
    #[must_use]
    pub fn arrays(&self, rows: impl Iterator<Item = usize> + Clone) -> Vec<ArrayRef> {
        let of = |(number, way): (usize, &Way)| -> ArrayRef {
            let stride = self.stride(number);
            Arc::new(StringArray::from_iter_values(rows.clone().map(|group| &way.values[group / stride % way.values.len()])))
        };
        self.ways.iter().enumerate().map(of).collect()
    }

    /// The axes of a histogram.
    #[must_use]
    pub fn axes(&self) -> Vec<UhiAxis<'_>> {
        self.ways.iter().map(|way| UhiAxis::Classes(&way.values, &way.name)).collect()
    }

    /// What a table's schema says of its regions.
    #[must_use]
    pub fn metadata(&self) -> HashMap<String, String> {
        self.metadata_with([])
    }

    /// The same, with the conditions that stand behind the texts of other columns.
    #[must_use]
    pub fn metadata_with(&self, others: impl IntoIterator<Item = (&'static str, Map<String, Value>)>) -> HashMap<String, String> {
        let mut all: Map<String, Value> = others.into_iter().map(|(column, texts)| (column.to_owned(), texts.into())).collect();
        for way in &self.ways {
            let Says::Regions(regions) = &way.by else { continue };
            let texts = way.values.iter().zip(regions).map(|(name, (text, _))| (name.clone(), text.as_str().into()));
            all.insert(way.name.clone(), texts.collect::<Map<_, _>>().into());
        }
        if all.is_empty() { HashMap::new() } else { HashMap::from([(CONDITIONS_KEY.to_owned(), Value::from(all).to_string())]) }
    }

    /// The rows that are in a group, with its number, each as often as it is in one; what is in none is counted beside.
    pub fn enter<'a>(
        &mut self,
        batch: &'a RecordBatch,
        numbers: &mut Vec<u32>,
        into: &mut Sums,
    ) -> Result<Cow<'a, RecordBatch>, Fault> {
        if let [Way { by: Says::Class(classes), .. }] = &self.ways[..] {
            classes.numbers(batch, numbers)?;
            return Ok(Cow::Borrowed(batch));
        }
        numbers.clear();
        numbers.resize(batch.num_rows(), 0);
        let (mut out, mut regions) = (false, None);
        for number in 0..self.ways.len() {
            let (stride, way) = (self.stride(number), &self.ways[number]);
            // The number of the first value, and whether a row may have none.
            let first = match &way.by {
                Says::Class(classes) => {
                    classes.numbers(batch, &mut self.places)?;
                    0
                }
                Says::Categories(axis) => {
                    self.places.clear();
                    self.places.resize(batch.num_rows(), 0);
                    axis.refine_by(batch, &way.name, &mut self.places)?;
                    1
                }
                Says::Regions(conditions) => {
                    regions = Some((number, stride as u32, conditions));
                    continue;
                }
            };
            let (values, mut without) = (first..first + way.values.len() as u32, 0);
            for (number, place) in numbers.iter_mut().zip(&self.places) {
                if values.contains(place) {
                    *number = number.saturating_add((place - first) * stride as u32);
                } else {
                    (*number, without) = (NONE, without + 1);
                }
            }
            if without > 0 {
                into.tally(BESIDE + number as u64, without);
                out = true;
            }
        }
        if !out && regions.is_none() {
            return Ok(Cow::Borrowed(batch));
        }
        let rows = match regions {
            None => (0..).zip(&*numbers).filter(|(_, number)| **number != NONE).map(|(row, number)| (row, *number)).collect(),
            Some((number, stride, conditions)) => {
                let fits = conditions.iter().map(|(_, condition)| condition.evaluate(batch)).collect::<Result<Vec<_>, _>>()?;
                let mut rows: Vec<(u32, u32)> = Vec::with_capacity(batch.num_rows());
                let mut without = 0;
                for (row, number) in numbers.iter().enumerate() {
                    let before = rows.len();
                    for (region, fits) in (0..).zip(&fits) {
                        if fits.is_valid(row) && fits.as_boolean().value(row) {
                            rows.push((row as u32, number.saturating_add(region * stride)));
                        }
                    }
                    without += i64::from(rows.len() == before);
                    if *number == NONE {
                        rows.truncate(before);
                    }
                }
                if without > 0 {
                    into.tally(BESIDE + number as u64, without);
                }
                rows
            }
        };
        numbers.clear();
        numbers.extend(rows.iter().map(|(_, number)| *number));
        if rows.len() == batch.num_rows() && (0..).zip(&rows).all(|(row, (taken, _))| row == *taken) {
            return Ok(Cow::Borrowed(batch));
        }
        let taken: UInt32Array = rows.into_iter().map(|(row, _)| row).collect::<Vec<u32>>().into();
        let schema = batch.schema();
        let carried: Vec<usize> =
            (0..schema.fields().len()).filter(|field| self.carried.contains(schema.field(*field).name())).collect();
        let columns = carried.iter().map(|field| take(batch.column(*field), &taken, None)).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(taken.len()));
        Ok(Cow::Owned(RecordBatch::try_new_with_options(Arc::new(schema.project(&carried)?), columns, &options)?))
    }

    /// What is to be said of rows that are in no group.
    #[must_use]
    pub fn remarks(&self, sums: &Sums) -> Vec<String> {
        let said = |(number, way): (u64, &Way)| {
            let n = sums.count(BESIDE + number).unsigned_abs();
            let what = match &way.by {
                Says::Regions(_) => "in no region".to_owned(),
                Says::Class(_) | Says::Categories(_) => format!("with {} missing or another value, in no group", way.name),
            };
            (n > 0).then(|| format!("{} {what}", words::counted(n, "row")))
        };
        (0..).zip(&self.ways).filter_map(said).collect()
    }
}

impl Way {
    fn of_classes(classes: Classes) -> Option<Self> {
        let name = classes.column.clone()?;
        Some(Self { name, values: classes.names.clone(), by: Says::Class(classes) })
    }

    fn of_column(schema: &Schema, column: &Placed<String>, values: Option<&Placed<Vec<Category>>>) -> Result<Self, Vec<Problem>> {
        if values.is_none() && column.value == column::SAMPLE {
            let classes = Classes::plan(schema, Some(column)).map_err(|problem| vec![problem])?;
            return Ok(Self { name: column.value.clone(), values: classes.names.clone(), by: Says::Class(classes) });
        }
        let field = column::field(schema, column).map_err(|problem| vec![problem])?;
        let kind = match field.data_type() {
            DataType::Dictionary(_, kind) => kind,
            kind => kind,
        };
        let text = matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let (axis, names) = match values {
            None if *kind == DataType::Boolean => {
                (Axis::Numbers { values: vec![0, 1] }, Some(["false", "true"].map(str::to_owned).to_vec()))
            }
            None if text || kind.is_integer() => {
                let some = if text { "[barrel, endcap]" } else { "[1, 2, 3]" };
                let problem = Problem::at(column, format!("the values of `{}` are not known before the run", column.value));
                return Err(vec![problem.help(format!("name them: {{ {}: {some} }}", column.value))]);
            }
            None => {
                let problem = Problem::at(column, format!("column `{}` is {kind}, not a class", column.value));
                let help = format!("bin in it with `by`, or make a region of it: regions: {{ high: {} > 1 }}", column.value);
                return Err(vec![problem.help(help)]);
            }
            Some(_) if *kind == DataType::Boolean => {
                let problem = Problem::at(column, format!("`{}` is true or false", column.value));
                return Err(vec![problem.help("leave the values out")]);
            }
            Some(values) => {
                let words = crate::statistics::axis::AxisWords { categories: Some(values.clone()), ..Default::default() };
                let axis = Axis::plan_column(schema, column, &words)?;
                let names = axis.names();
                (axis, names)
            }
        };
        Ok(Self { name: column.value.clone(), values: names.unwrap_or_default(), by: Says::Categories(axis) })
    }

    fn of_regions(schema: &Schema, regions: &Regions) -> Result<Self, Vec<Problem>> {
        let (mut problems, mut values, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
        if regions.is_empty() {
            problems.push(Problem::at(regions, "`regions` names none").help("regions: { barrel: abs(eta) < 1.4 }"));
        }
        if schema.field_with_name(REGION).is_ok() {
            let problem = Problem::at(regions, format!("there is a column `{REGION}` already"));
            problems.push(problem.help(format!("tell rows apart by it with `for_each: {REGION}`, or take it out with `select`")));
        }
        let mut written: Vec<_> = regions.iter().collect();
        written.sort_by_key(|(name, _)| name.place);
        for (name, text) in written {
            values.push(name.value.clone());
            conditions.extend(gather(Expression::condition(text, schema), &mut problems).map(|c| (text.value.clone(), c)));
        }
        if problems.is_empty() {
            Ok(Self { name: REGION.to_owned(), values, by: Says::Regions(conditions) })
        } else {
            Err(problems)
        }
    }
}

#[cfg(test)]
mod tests;
