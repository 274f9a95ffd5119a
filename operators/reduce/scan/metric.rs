//! The metrics of a scan: which there are, and where in the tables of a model's parts each of them stands.

use super::{Model, Said};
use crate::reduce::resolution::FITS_KEY;
use crate::statistics::fit::{NAMES as TERMS, TERMS as LETTERS};
use crate::statistics::working_point::Fixed;
use crate::{Placed, words};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// What is known of errors, and in which column what the ladder could change in it.
const OF_ERRORS: [(&str, Option<&str>); 6] = [
    ("bias", None),
    ("resolution", None),
    ("median", Some("ladder_error")),
    ("sigma68", Some("ladder_error")),
    ("half95", Some("half95_ladder_error")),
    ("eiqr", Some("eiqr_ladder_error")),
];
/// What is known of them beside the errors of a reference.
const OF_REFERENCE: [(&str, Option<&str>); 2] =
    [("reiqr", Some("reiqr_ladder_error")), ("reiqr95", Some("reiqr95_ladder_error"))];
/// What is known of their Gaussian core.
const OF_CORES: [(&str, Option<&str>); 2] = [("core_mean", None), ("core_sigma", None)];

/// A step that says something of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// The [`Roc`](crate::reduce::roc::Roc) of its scores.
    Scores,
    /// The [`Resolution`](crate::reduce::resolution::Resolution) of its errors, which are in this column.
    Errors(String),
    /// The same in bins, with the calorimeter fit.
    Fit,
    /// The [`Efficiency`](crate::reduce::efficiency::Efficiency) of its cuts.
    Cuts,
}

/// A column of the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Metric {
    pub name: String,
    pub of: Of,
    /// True where it has an error.
    pub error: bool,
}

impl Metric {
    fn new(name: impl Into<String>, of: Of) -> Self {
        Self { name: name.into(), error: !matches!(of, Of::Values(_)), of }
    }
}

/// Where a metric comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Of {
    /// What somebody wrote, by model.
    Values(Vec<Option<Said>>),
    /// The area of a class.
    Auc(String),
    /// A working point of a class.
    Point(String, Fixed),
    /// A number of the errors, by the name of its column, and the column of what the ladder could change.
    Errors(&'static str, Option<&'static str>),
    /// A term of the calorimeter fit.
    Term(usize),
    /// The efficiency of a cut.
    Cut(String),
}

/// What a scan is asked for, as far as it says which metrics there are.
pub(super) struct Asked<'a> {
    pub points: &'a [Fixed],
    pub core: bool,
    pub reference: bool,
    pub fit: bool,
    pub bootstrap: bool,
}

impl Asked<'_> {
    /// All metrics that there could be, in the order in which they are shown where none are chosen.
    pub fn metrics(&self, models: &[(&Placed<String>, &Model)]) -> Vec<Metric> {
        let mut all: Vec<Metric> = Vec::new();
        let values: BTreeSet<&String> = models.iter().flat_map(|(_, model)| model.values.keys()).collect();
        for name in values {
            let of = Of::Values(models.iter().map(|(_, model)| model.values.get(name).cloned()).collect());
            all.push(Metric::new(name, of));
        }
        let classes: BTreeSet<&String> = models.iter().flat_map(|(_, model)| model.classes()).collect();
        for class in &classes {
            all.push(Metric::new(format!("{class}_auc"), Of::Auc((*class).clone())));
        }
        for (fixed, class) in self.points.iter().flat_map(|fixed| classes.iter().map(move |class| (fixed, class))) {
            let name = format!("{class}_{}_at_{}", read_at(*fixed), fixed.value());
            all.push(Metric::new(name, Of::Point((*class).clone(), *fixed)));
        }
        let cuts: BTreeSet<&String> =
            models.iter().flat_map(|(_, model)| model.cuts.iter().flat_map(|cuts| cuts.keys())).map(|cut| &cut.value).collect();
        all.extend(cuts.into_iter().map(|cut| Metric::new(format!("{cut}_efficiency"), Of::Cut(cut.clone()))));
        if models.iter().any(|(_, model)| model.errors.is_some()) {
            let asked = OF_REFERENCE.into_iter().filter(|_| self.reference).chain(OF_CORES.into_iter().filter(|_| self.core));
            let numbers = OF_ERRORS.into_iter().chain(asked);
            // Those from a ladder have the spread of the replicas.
            let error = |ladder: Option<_>| ladder.is_none() || self.bootstrap;
            let metric = |(name, ladder)| Metric { error: error(ladder), ..Metric::new(name, Of::Errors(name, ladder)) };
            all.extend(numbers.map(metric));
            let terms = TERMS.iter().enumerate().filter(|_| self.fit);
            all.extend(terms.map(|(term, name)| Metric::new(*name, Of::Term(term))));
        }
        all
    }
}

/// What is read where this is fixed.
fn read_at(fixed: Fixed) -> &'static str {
    match fixed {
        Fixed::Background(_) => "signal_efficiency",
        Fixed::Signal(_) => "rejection",
    }
}

/// A group, and a bin where there are some, as the tables of parts tell them apart.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    /// What fits call the group.
    pub name: String,
    /// What a row of a part's table has that is of it: texts, and edges.
    pub texts: Vec<(String, String)>,
    pub edges: Vec<(String, f64)>,
}

impl Spot {
    /// True for a row of a part's table that is of it.
    pub fn has(&self, table: &RecordBatch, row: usize) -> bool {
        let edge = |(name, is): &(String, f64)| number(table, row, name) == Some(*is);
        self.texts.iter().all(|(name, is)| text(table, row, name) == Some(is)) && self.edges.iter().all(edge)
    }
}

/// A number of a table, where there is one.
fn number(table: &RecordBatch, row: usize, name: &str) -> Option<f64> {
    let column = table.column_by_name(name)?.as_primitive_opt::<Float64Type>()?;
    column.is_valid(row).then(|| column.value(row))
}

/// A text of a table, where there is one.
pub(super) fn text<'a>(table: &'a RecordBatch, row: usize, name: &str) -> Option<&'a str> {
    let column = table.column_by_name(name)?.as_string_opt::<i32>()?;
    column.is_valid(row).then(|| column.value(row))
}

/// What stands in a cell of the table.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    value: Option<Said>,
    pub error: Option<f64>,
    /// What the ladder could change.
    pub ladder_error: Option<f64>,
}

impl Entry {
    fn of(value: Option<f64>, error: Option<f64>) -> Self {
        Self { value: value.map(Said::Number), error, ladder_error: None }
    }

    pub fn number(&self) -> Option<f64> {
        if let Some(Said::Number(number)) = &self.value { Some(*number) } else { None }
    }

    pub fn text(&self) -> Option<String> {
        match self.value.as_ref()? {
            Said::Number(number) => Some(words::plain(*number)),
            Said::Text(text) => Some(text.clone()),
        }
    }

    /// Which stands first: nothing comes last in either direction.
    pub fn compare(&self, other: &Self, descending: bool) -> Ordering {
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

impl Metric {
    /// What stands in the row of a model whose parts have these tables.
    pub fn entry(&self, model: usize, spot: &Spot, parts: &[(Part, RecordBatch)]) -> Entry {
        // The row of the spot in the table of a part of which this holds as well.
        let find = |part: &dyn Fn(&Part) -> bool, holds: &dyn Fn(&RecordBatch, usize) -> bool| {
            let tables = parts.iter().filter(|(is, _)| part(is)).map(|(_, table)| table);
            let row = |table: &RecordBatch| (0..table.num_rows()).find(|row| spot.has(table, *row) && holds(table, *row));
            tables.filter_map(|table| Some((table.clone(), row(table)?))).next()
        };
        // A number with half its interval, or with the error that stands beside it.
        let with_interval = |(table, row): (RecordBatch, usize), name: &str| {
            let [low, high] = ["low", "high"].map(|end| number(&table, row, &format!("{name}_{end}")));
            Entry::of(number(&table, row, name), low.zip(high).map(|(low, high)| (high - low) / 2.0))
        };
        let found = match &self.of {
            Of::Values(cells) => Some(Entry { value: cells[model].clone(), ..Entry::default() }),
            Of::Auc(class) => find(&|part| *part == Part::Scores, &|table, row| text(table, row, "class") == Some(class))
                .map(|(table, row)| Entry::of(number(&table, row, "auc"), number(&table, row, "auc_error"))),
            Of::Point(class, fixed) => {
                let here = |table: &RecordBatch, row: usize| {
                    text(table, row, "class") == Some(class)
                        && text(table, row, "fixed") == Some(fixed.word())
                        && number(table, row, "at") == Some(fixed.value())
                };
                find(&|part| *part == Part::Scores, &here).map(|row| with_interval(row, read_at(*fixed)))
            }
            Of::Cut(cut) => find(&|part| *part == Part::Cuts, &|table, row| text(table, row, "cut") == Some(cut))
                .map(|row| with_interval(row, "efficiency")),
            Of::Errors(name, ladder) => {
                let own = parts.iter().find_map(|(part, _)| if let Part::Errors(own) = part { Some(own) } else { None });
                // Beside a reference, the table has rows of that, too.
                let own = |table: &RecordBatch, row: usize| {
                    text(table, row, "quantity").is_none_or(|quantity| own.is_some_and(|own| own == quantity))
                };
                find(&|part| matches!(part, Part::Errors(_)), &own).map(|(table, row)| Entry {
                    ladder_error: ladder.and_then(|ladder| number(&table, row, ladder)),
                    ..Entry::of(number(&table, row, name), number(&table, row, &format!("{name}_error")))
                })
            }
            Of::Term(term) => fit(parts, spot).map(|fit| {
                let term = &fit[LETTERS[*term]];
                Entry::of(term["value"].as_f64(), term["error"].as_f64())
            }),
        };
        found.unwrap_or_default()
    }

    /// True where a ladder could change it.
    pub fn climbs(&self) -> bool {
        matches!(self.of, Of::Errors(_, Some(_)))
    }
}

/// The fit of a group.
fn fit(parts: &[(Part, RecordBatch)], spot: &Spot) -> Option<Value> {
    let (_, table) = parts.iter().find(|(part, _)| *part == Part::Fit)?;
    let said: Value = serde_json::from_str(table.schema_ref().metadata().get(FITS_KEY)?).ok()?;
    said["fits"].get(&spot.name).cloned()
}

/// Why a model's parts have no numbers for a spot, where they have none.
pub(super) fn reason(parts: &[(Part, RecordBatch)], spot: &Spot) -> Option<String> {
    let mut reasons: BTreeSet<String> = BTreeSet::new();
    for (part, table) in parts {
        if *part == Part::Fit {
            let failed = fit(parts, spot).and_then(|fit| fit["failed"].as_str().map(str::to_owned));
            reasons.extend(failed.map(|why| format!("no fit: {why}")));
        } else {
            let rows = (0..table.num_rows()).filter(|row| spot.has(table, *row));
            reasons.extend(rows.filter_map(|row| text(table, row, "reason").map(str::to_owned)));
        }
    }
    (!reasons.is_empty()).then(|| reasons.into_iter().collect::<Vec<_>>().join("; "))
}
