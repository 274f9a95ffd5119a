//! Many models in one pass over the data: one row a model, chosen metrics as columns, sorted as asked.
//!
//! Each model is a [`Roc`] of its scores and a [`Resolution`] of its errors, with all their formulae; their sums lie side by side, a
//! range of keys each, and their tables are where the metrics are read from. So a number in the scan is the number that the step by
//! itself would give.

use crate::column;
use crate::names::Names;
use crate::reduce::resolution::Resolution;
use crate::reduce::roc::{Against, Roc};
use crate::registry::Describe;
use crate::statistics::binning::{Binning, By, Cell};
use crate::statistics::figure::Summary;
use crate::statistics::folding::{one_input, table};
use crate::statistics::for_each::{ForEach, Regions};
use crate::statistics::groups::Groups;
use crate::statistics::populations;
use crate::statistics::rungs::PrecisionWord;
use crate::statistics::sums::Sums;
use crate::statistics::working_point::{Fixed, WorkingPoints};
use crate::work::Fold;
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work, words};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use schemars::JsonSchema;
use serde::Deserialize;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Each part of a model has so many keys.
const KEYS: u64 = 1 << 56;
/// More models than these are taken for a mistake.
const MOST_MODELS: usize = 127;
/// Rungs in an octave of errors.
const STEPS: u32 = 256;
/// What is known of errors: name, column of the resolution's table, column of the error.
const OF_ERRORS: [(&str, &str); 6] = [
    ("bias", "bias_error"),
    ("resolution", "resolution_error"),
    ("median", "ladder_error"),
    ("sigma68", "ladder_error"),
    ("half95", "half95_ladder_error"),
    ("eiqr", "eiqr_ladder_error"),
];

/// What is known of their Gaussian core.
const OF_CORES: [(&str, &str); 2] = [("core_mean", "core_mean_error"), ("core_sigma", "core_sigma_error")];

/// One row a model, with chosen metrics as columns.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scan {
    /// The models by name, each with what it has predicted for the rows: `{ wide: { scores: { electron: p_wide }, values: { width: 32 } } }`.
    pub models: Placed<BTreeMap<Placed<String>, Model>>,
    /// The column of the true class.
    #[serde(default = "sample")]
    pub truth: Placed<String>,
    /// The columns to tell rows apart by, one row of the table for each model and group: `converted`, or with the values that are told
    /// apart `{ layer: [1, 2, 3] }`, or several in a list.
    #[serde(default)]
    pub for_each: Option<ForEach>,
    /// Named selections, each a SQL condition: `{ barrel: abs(eta) < 1.4, all: true }`. A row counts in every one that it fits.
    #[serde(default)]
    pub regions: Option<Regions>,
    /// A column to bin in, with its bins, for a row of the table for each model in each bin: `{ energy: { range: [10, 510], bins: 10 } }`.
    #[serde(default)]
    pub by: Option<By>,
    /// Working points: `{ background_efficiency: 0.1, signal_efficiency: 0.9 }`.
    #[serde(default)]
    pub at: WorkingPoints,
    /// Also a Gaussian fitted to the errors within so many sigmas of its own mean on both sides, `2`: `core_mean` and `core_sigma`.
    #[serde(default)]
    pub core: Option<Placed<f64>>,
    /// The columns of the table in their order, all where nothing is said: the models' own `values`; `<class>_auc`,
    /// `<class>_signal_efficiency_at_0.1`, `<class>_rejection_at_0.9`; `bias`, `resolution`, `median`, `sigma68`, `half95`, `eiqr`; with a
    /// `core`, `core_mean` and `core_sigma`.
    #[serde(default)]
    pub columns: Option<Placed<Vec<Placed<String>>>>,
    /// The columns to sort by, the first one first, with `-` in front for the largest first: `[-electron_auc, width]`.
    #[serde(default)]
    pub sort: Option<Names>,
    /// Rungs of the ladder of scores in an octave, 256 where nothing is said, or `exact` for float32 scores.
    #[serde(default)]
    pub precision: Option<Placed<PrecisionWord>>,
    /// The column of weights; without it the weights that the source gives its samples, if it does; `none` counts every row 1.
    #[serde(default)]
    pub weight: Option<Placed<String>>,
}

/// What a model has predicted.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The score column of each class that is to be told from the others.
    #[serde(default)]
    pub scores: Option<Placed<BTreeMap<Placed<String>, Placed<String>>>>,
    /// The column of its errors: `(energy - predicted) / energy`, say.
    #[serde(default)]
    pub errors: Option<Placed<String>>,
    /// What else is to stand in its row: `{ width: 32, depth: 2 }`.
    #[serde(default)]
    pub values: BTreeMap<String, Said>,
}

/// What somebody wants to stand in the table.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Said {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

fn sample() -> Placed<String> {
    Placed::unplaced(column::SAMPLE.to_owned())
}

impl Describe for Scan {
    const ABOUT: &'static str = "Compares many models in one pass: one row a model, chosen metrics as columns, sorted as asked";
    const EXAMPLE: &'static str = "\
models:
  from: predicted
  scan:
    models:
      wide: { scores: { electron: p_wide }, values: { width: 512, depth: 2 } }
      deep: { scores: { electron: p_deep }, values: { width: 32, depth: 8 } }
    columns: [width, depth, electron_auc]
    sort: [-electron_auc]
";
}

/// A `scan` whose words were found right, but for the work of its parts.
struct Planning {
    /// In the order in which they are written.
    models: Vec<String>,
    parts: Vec<Part>,
    groups: Groups,
    binning: Binning,
    metrics: Vec<Metric>,
    sort: Vec<(usize, bool)>,
    schema: Arc<Schema>,
}

/// What a part of a model is.
struct Part {
    model: usize,
    operator: Box<dyn Operator>,
}

/// A column of the table.
#[derive(Debug, Clone, PartialEq)]
struct Metric {
    name: String,
    of: Of,
}

/// Where a metric comes from.
#[derive(Debug, Clone, PartialEq)]
enum Of {
    /// What somebody wrote, by model.
    Values(Vec<Option<Said>>),
    /// The area of a class.
    Auc(String),
    /// A working point of a class.
    Point(String, Fixed),
    /// A number of the errors: its column, and that of its error.
    Errors(&'static str, &'static str),
}

impl Scan {
    fn planning(&self, facts: &Facts, inputs: &[Output]) -> Result<(Planning, Vec<Planned>), Vec<Problem>> {
        let mut problems = Vec::new();
        if self.models.is_empty() || self.models.len() > MOST_MODELS {
            let what = format!("`models` takes 1 to {MOST_MODELS}, not {}", self.models.len());
            problems.push(Problem::at(&self.models, what).help("models: { wide: { scores: { electron: p_wide } } }"));
        }
        let mut models: Vec<(&Placed<String>, &Model)> = self.models.iter().collect();
        models.sort_by_key(|(name, _)| name.place);
        let (mut parts, mut planned) = (Vec::new(), Vec::new());
        for (model, (name, words)) in models.iter().enumerate() {
            if words.scores.is_none() && words.errors.is_none() {
                problems.push(Problem::at(name, format!("`{}` has neither `scores` nor `errors`", name.value)));
            }
            let roc = words.scores.clone().map(|scores| Box::new(self.roc(scores)) as Box<dyn Operator>);
            let resolution = words.errors.clone().map(|errors| Box::new(self.resolution(errors)) as Box<dyn Operator>);
            for operator in roc.into_iter().chain(resolution) {
                match operator.plan(facts, inputs) {
                    Ok(part) => planned.push(part),
                    Err(found) => problems.extend(found.into_iter().filter(|new| !problems.contains(new)).collect::<Vec<_>>()),
                }
                parts.push(Part { model, operator });
            }
        }
        let points = self.at.plan().unwrap_or_default(); // each part has said what is wrong with it
        let known = known(&models, &points, self.core.is_some());
        let mut metrics = Vec::new();
        match &self.columns {
            None => metrics.clone_from(&known),
            Some(columns) => {
                for word in &columns.value {
                    match known.iter().find(|metric| metric.name == word.value) {
                        Some(metric) if !metrics.contains(metric) => metrics.push(metric.clone()),
                        Some(_) => problems.push(Problem::at(word, format!("`{}` is given twice", word.value))),
                        None => {
                            let problem = Problem::at(word, format!("no metric `{}`", word.value));
                            problems.push(problem.suggest(word, known.iter().map(|metric| metric.name.as_str())));
                        }
                    }
                }
            }
        }
        let mut sort = Vec::new();
        for word in self.sort.iter().flat_map(|sort| &sort.words) {
            let name = word.strip_prefix('-').unwrap_or(word);
            match metrics.iter().position(|metric| metric.name == name) {
                Some(metric) => sort.push((metric, name.len() < word.len())),
                None => {
                    let problem = Problem::at(word, format!("no column `{name}` to sort by"));
                    problems.push(problem.suggest(name, metrics.iter().map(|metric| metric.name.as_str())));
                }
            }
        }
        let groups = Groups::plan(one_input(inputs)?, self.for_each.as_ref(), self.regions.as_ref());
        let binning = Binning::plan(one_input(inputs)?, self.by.as_ref(), 1);
        let (Ok(groups), Ok(binning), true) = (groups, binning, problems.is_empty()) else { return Err(problems) };
        let schema = Arc::new(table_schema(&groups, &binning, &metrics));
        let models = models.into_iter().map(|(name, _)| name.value.clone()).collect();
        Ok((Planning { models, parts, groups, binning, metrics, sort, schema }, planned))
    }

    fn roc(&self, scores: Placed<BTreeMap<Placed<String>, Placed<String>>>) -> Roc {
        Roc {
            scores,
            truth: self.truth.clone(),
            signal: None,
            background: None,
            against: Against::Rest,
            by: self.by.clone(),
            for_each: self.for_each.clone(),
            regions: self.regions.clone(),
            at: self.at.clone(),
            gain: None,
            precision: self.precision.clone(),
            weight: self.weight.clone(),
            bootstrap: None,
            compat: None,
        }
    }

    fn resolution(&self, errors: Placed<String>) -> Resolution {
        Resolution {
            of: errors.into(),
            by: self.by.clone(),
            for_each: self.for_each.clone(),
            regions: self.regions.clone(),
            fit: None,
            along: None,
            weight: self.weight.clone(),
            robust: Some(Placed::unplaced(STEPS)),
            reference: None,
            ratio: None,
            core: self.core.clone(),
            bootstrap: None,
            pivot: 0.0,
            compat: None,
        }
    }
}

/// All metrics that there could be, in the order in which they are shown where none are chosen.
fn known(models: &[(&Placed<String>, &Model)], points: &[Fixed], core: bool) -> Vec<Metric> {
    let mut all: Vec<Metric> = Vec::new();
    let values: BTreeSet<&String> = models.iter().flat_map(|(_, model)| model.values.keys()).collect();
    for name in values {
        let of = Of::Values(models.iter().map(|(_, model)| model.values.get(name).cloned()).collect());
        all.push(Metric { name: name.clone(), of });
    }
    let classes: BTreeSet<&String> = models
        .iter()
        .filter_map(|(_, model)| model.scores.as_ref())
        .flat_map(|scores| scores.keys())
        .map(|name| &name.value)
        .collect();
    for class in &classes {
        all.push(Metric { name: format!("{class}_auc"), of: Of::Auc((*class).clone()) });
    }
    for (fixed, class) in points.iter().flat_map(|fixed| classes.iter().map(move |class| (fixed, class))) {
        let what = match fixed {
            Fixed::Background(_) => "signal_efficiency",
            Fixed::Signal(_) => "rejection",
        };
        all.push(Metric { name: format!("{class}_{what}_at_{}", fixed.value()), of: Of::Point((*class).clone(), *fixed) });
    }
    if models.iter().any(|(_, model)| model.errors.is_some()) {
        let known = OF_ERRORS.into_iter().chain(OF_CORES.into_iter().filter(|_| core));
        all.extend(known.map(|(name, error)| Metric { name: name.into(), of: Of::Errors(name, error) }));
    }
    all
}

fn table_schema(groups: &Groups, binning: &Binning, metrics: &[Metric]) -> Schema {
    let mut fields = vec![Field::new("model", DataType::Utf8, false)];
    fields.extend(groups.fields());
    fields.extend(binning.fields());
    for metric in metrics {
        if let Of::Values(cells) = &metric.of {
            let numbers = cells.iter().flatten().all(|cell| matches!(cell, Said::Number(_)));
            fields.push(Field::new(&metric.name, if numbers { DataType::Float64 } else { DataType::Utf8 }, true));
        } else {
            fields.push(Field::new(&metric.name, DataType::Float64, true));
            fields.push(Field::new(format!("{}_error", metric.name), DataType::Float64, true));
        }
    }
    fields.push(Field::new("reason", DataType::Utf8, true));
    Schema::new_with_metadata(fields, groups.metadata())
}

impl Operator for Scan {
    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        one_input(inputs)?;
        let (planning, parts) = self.planning(facts, inputs)?;
        let reads = parts.iter().flat_map(|part| &part.reads).flat_map(|reads| match reads {
            Reads::Columns(columns) => columns.iter().cloned().collect::<Vec<_>>(),
            Reads::All => Vec::new(),
        });
        let reads = Reads::columns(reads);
        let holds = parts.iter().map(|part| part.holds).sum();
        let rows = planning.models.len() * planning.groups.len() * planning.binning.len().max(1);
        let planned = Planned::new(Shape::Fold, vec![table(planning.schema, rows)]).reading(reads).holding(holds);
        Ok(Planned { survey: populations::reads(self.by.as_ref()), ..planned })
    }

    fn survey(&self, _: &Start<'_>) -> anyhow::Result<Box<dyn Fold>> {
        Ok(populations::survey(self.by.as_ref()))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let by = populations::settled(self.by.as_ref(), at.runtime.surveyed.as_ref())?;
        let this = Self { by, ..self.clone() };
        let (planning, _) = this.planning(at.facts, at.inputs).map_err(|problems| anyhow::anyhow!("{}", problems[0].what))?;
        let mut folds = Vec::new();
        for part in &planning.parts {
            let Work::Fold(fold) = part.operator.start(at)? else { anyhow::bail!("a part of a scan is no fold") };
            folds.push((part.model, fold));
        }
        let Planning { models, groups, binning, metrics, sort, schema, .. } = planning;
        Ok(Work::Fold(Box::new(Scanning { models, groups, binning, metrics, sort, schema, folds })))
    }
}

/// A `scan` at work.
struct Scanning {
    models: Vec<String>,
    groups: Groups,
    binning: Binning,
    metrics: Vec<Metric>,
    sort: Vec<(usize, bool)>,
    schema: Arc<Schema>,
    folds: Vec<(usize, Box<dyn Fold>)>,
}

/// A row of the table: a model, where it is of, and what stands there.
type Row = (usize, Spot, Vec<Entry>);

/// A group, and a bin where there are some.
#[derive(Debug, Clone)]
struct Spot {
    group: usize,
    cell: Option<Cell>,
    /// What a row of a part's table has that is of it: texts, and edges.
    texts: Vec<(String, String)>,
    edges: Vec<(String, f64)>,
}

impl Spot {
    /// True for a row of a part's table that is of it.
    fn has(&self, table: &RecordBatch, row: usize) -> bool {
        let text = |(name, is): &(String, String)| {
            let texts = table.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            texts.is_some_and(|texts| texts.is_valid(row) && texts.value(row) == is)
        };
        let edge = |(name, is): &(String, f64)| {
            let numbers = table.column_by_name(name).and_then(|column| column.as_primitive_opt::<Float64Type>());
            numbers.is_some_and(|numbers| numbers.is_valid(row) && numbers.value(row) == *is)
        };
        self.texts.iter().all(text) && self.edges.iter().all(edge)
    }
}

/// A number in the table, or a text.
#[derive(Debug, Clone, Default)]
struct Entry {
    value: Option<Said>,
    error: Option<f64>,
}

impl Entry {
    fn number(&self) -> Option<f64> {
        if let Some(Said::Number(number)) = &self.value { Some(*number) } else { None }
    }

    fn text(&self) -> Option<String> {
        match self.value.as_ref()? {
            Said::Number(number) => Some(words::plain(*number)),
            Said::Text(text) => Some(text.clone()),
        }
    }

    /// Which stands first: nothing comes last in either direction.
    fn compare(&self, other: &Self, descending: bool) -> Ordering {
        let order = match (&self.value, &other.value) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Greater,
            (_, None) => return Ordering::Less,
            (Some(Said::Number(a)), Some(Said::Number(b))) => a.total_cmp(b),
            _ => self.text().cmp(&other.text()),
        };
        if descending { order.reverse() } else { order }
    }
}

impl Fold for Scanning {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        for (number, (_, fold)) in self.folds.iter_mut().enumerate() {
            let mut own = Sums::default();
            fold.add(batch, &mut own)?;
            into.merge_at(number as u64 * KEYS, &own);
        }
        Ok(())
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let mut tables: Vec<Vec<RecordBatch>> = vec![Vec::new(); self.models.len()];
        let mut remarks: Vec<String> = Vec::new();
        for (number, (model, fold)) in self.folds.iter().enumerate() {
            let first = number as u64 * KEYS;
            let summary = fold.finish(&sums.between(first..first + KEYS))?;
            tables[*model].push(summary.table);
            for remark in summary.remarks.into_iter().filter(|remark| !remark.starts_with("resolution is")) {
                let remark = if remark.contains(" row") { format!("{}: {remark}", self.models[*model]) } else { remark };
                if !remarks.contains(&remark) {
                    remarks.push(remark);
                }
            }
        }
        let spots = self.spots();
        let row = |model: usize, spot: &Spot| -> Row {
            (model, spot.clone(), self.metrics.iter().map(|metric| metric.entry(model, spot, &tables[model])).collect())
        };
        let mut rows: Vec<Row> = (0..self.models.len())
            .flat_map(|model| spots.iter().map(move |spot| (model, spot)))
            .map(|(m, s)| row(m, s))
            .collect();
        rows.sort_by(|(_, _, a), (_, _, b)| {
            let orders = self.sort.iter().map(|(metric, descending)| a[*metric].compare(&b[*metric], *descending));
            orders.fold(Ordering::Equal, Ordering::then)
        });
        Ok(Summary {
            table: self.table(&rows, &tables)?,
            histograms: Vec::new(),
            figures: Vec::new(),
            highlights: self.highlights(&rows),
            remarks,
        })
    }
}

impl Metric {
    /// What stands in the row of a model whose tables these are.
    fn entry(&self, model: usize, spot: &Spot, tables: &[RecordBatch]) -> Entry {
        let found = |row: Option<(&RecordBatch, usize)>, value: &str, error: &str| {
            let number = |name: &str| {
                let (table, row) = row?;
                let column = table.column_by_name(name)?.as_primitive_opt::<Float64Type>()?;
                column.is_valid(row).then(|| column.value(row))
            };
            Entry { value: number(value).map(Said::Number), error: number(error) }
        };
        let texts = |table: &RecordBatch, row: usize, name: &str, is: &str| {
            table.column_by_name(name).is_some_and(|c| c.as_string::<i32>().value(row) == is)
        };
        let find = |fits: &dyn Fn(&RecordBatch, usize) -> bool| {
            let here = |table: &RecordBatch, row: usize| spot.has(table, row) && fits(table, row);
            tables.iter().find_map(|table| (0..table.num_rows()).find(|row| here(table, *row)).map(|row| (table, row)))
        };
        match &self.of {
            Of::Values(cells) => Entry { value: cells[model].clone(), error: None },
            Of::Auc(class) => found(find(&|table, row| texts(table, row, "class", class)), "auc", "auc_error"),
            Of::Point(class, fixed) => {
                let here = |table: &RecordBatch, row: usize| {
                    let at = table.column_by_name("at").map(|c| c.as_primitive::<Float64Type>().value(row));
                    texts(table, row, "class", class) && texts(table, row, "fixed", fixed.word()) && at == Some(fixed.value())
                };
                let what = match fixed {
                    Fixed::Background(_) => "signal_efficiency",
                    Fixed::Signal(_) => "rejection",
                };
                let row = find(&here);
                let (low, high) = (format!("{what}_low"), format!("{what}_high"));
                let ends = [found(row, &low, &low), found(row, &high, &high)].map(|end| end.number());
                let error = if let [Some(low), Some(high)] = ends { Some((high - low) / 2.0) } else { None };
                Entry { error, ..found(row, what, what) }
            }
            Of::Errors(value, error) => found(find(&|table, _| table.column_by_name("resolution").is_some()), value, error),
        }
    }
}

impl Scanning {
    /// All groups and bins.
    fn spots(&self) -> Vec<Spot> {
        let cells: Vec<Option<Cell>> =
            if self.binning.is_empty() { vec![None] } else { self.binning.cells().into_iter().map(Some).collect() };
        let spot = |group: usize, cell: &Option<Cell>| {
            let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let mut texts: Vec<_> = self.groups.columns().zip(self.groups.values(group)).map(|(n, v)| of(n, v)).collect();
            let mut edges = Vec::new();
            for (binned, cell) in self.binning.columns.iter().zip(cell) {
                let name = &binned.column;
                match binned.axis.names() {
                    Some(names) => texts.push((name.clone(), names[cell.category(0)].clone())),
                    None => {
                        let (low, high) = cell.edges[0];
                        edges.extend([(format!("{name}_low"), low), (format!("{name}_high"), high)]);
                    }
                }
            }
            Spot { group, cell: cell.clone(), texts, edges }
        };
        (0..self.groups.len()).flat_map(|group| cells.iter().map(move |cell| (group, cell))).map(|(g, c)| spot(g, c)).collect()
    }

    fn table(&self, rows: &[Row], tables: &[Vec<RecordBatch>]) -> anyhow::Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &self.models[row.0])))];
        columns.extend(self.groups.arrays(rows.iter().map(|row| row.1.group)));
        columns.extend(self.binning.arrays(rows.iter().map(|row| row.1.cell.as_ref())));
        for (number, metric) in self.metrics.iter().enumerate() {
            let entries = || rows.iter().map(|row| &row.2[number]);
            if *self.schema.field_with_name(&metric.name)?.data_type() == DataType::Utf8 {
                columns.push(Arc::new(entries().map(Entry::text).collect::<StringArray>()));
                continue;
            }
            columns.push(Arc::new(entries().map(Entry::number).collect::<Float64Array>()));
            if !matches!(metric.of, Of::Values(_)) {
                columns.push(Arc::new(entries().map(|entry| entry.error).collect::<Float64Array>()));
            }
        }
        let reason = |(model, spot, _): &Row| {
            let mut reasons: Vec<String> = Vec::new();
            for table in &tables[*model] {
                let Some(said) = table.column_by_name("reason").and_then(|said| said.as_string_opt::<i32>()) else { continue };
                let rows = (0..table.num_rows()).filter(|row| said.is_valid(*row) && spot.has(table, *row));
                reasons.extend(rows.map(|row| said.value(row).to_owned()));
            }
            reasons.sort();
            reasons.dedup();
            (!reasons.is_empty()).then(|| reasons.join("; "))
        };
        columns.push(Arc::new(rows.iter().map(reason).collect::<StringArray>()));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn highlights(&self, rows: &[Row]) -> Vec<Vec<String>> {
        let header = ["model"].into_iter().chain(self.groups.columns()).map(str::to_owned).chain(self.binning.names());
        let header = header.chain(self.metrics.iter().map(|metric| metric.name.clone())).collect();
        let shown = |(entry, metric): (&Entry, &Metric)| match (entry.number(), &metric.of) {
            (Some(number), Of::Values(_)) => words::plain(number),
            (Some(number), _) => words::with_error(number, entry.error.unwrap_or(f64::NAN)),
            (None, _) => entry.text().unwrap_or_else(|| "-".into()),
        };
        let bin = |spot: &Spot| match (&spot.cell, self.binning.columns.first()) {
            (Some(cell), Some(binned)) => Some(match binned.axis.names() {
                Some(names) => names[cell.category(0)].clone(),
                None => format!("{} to {}", words::plain(cell.edges[0].0), words::plain(cell.edges[0].1)),
            }),
            _ => None,
        };
        let line = |(model, spot, entries): &Row| {
            let named = [self.models[*model].as_str()].into_iter().chain(self.groups.values(spot.group));
            let named = named.map(str::to_owned).chain(bin(spot));
            named.chain(entries.iter().zip(&self.metrics).map(shown)).collect()
        };
        [header].into_iter().chain(rows.iter().map(line)).collect()
    }
}

#[cfg(test)]
mod tests;
