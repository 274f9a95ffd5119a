//! Efficiencies to a table, plots, the mis-identification matrix and the few lines that people read first.

use super::{Of, Tested, Testing};
use crate::statistics::auc::Load;
use crate::statistics::binning::{Binning, Cell};
use crate::statistics::figure::{Content, Curve, Figure, Point, Summary};
use crate::statistics::interval::Efficiency;
use crate::statistics::sums::Sums;
use crate::statistics::working_point::Fixed;
use crate::work::Fold;
use crate::{Fault, words};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;

pub(super) fn table_schema(of: &Of, binning: &Binning, weighted: bool) -> Schema {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let float = |name: &str, nullable| Field::new(name, DataType::Float64, nullable);
    let mut fields = match of {
        Of::Cuts(_) => vec![text("cut", false)],
        Of::Points { .. } => vec![text("score", false), text("fixed", false), float("at", false), float("threshold", true)],
    };
    fields.extend(of.groups().fields());
    fields.extend(binning.fields());
    fields.extend(["n", "passed"].map(|name| Field::new(name, DataType::Int64, false)));
    fields.extend(weighted.then(|| float("n_effective", true)));
    fields.extend(["efficiency", "efficiency_low", "efficiency_high"].map(|name| float(name, true)));
    fields.push(text("reason", true));
    Schema::new_with_metadata(fields, of.groups().metadata())
}

/// An efficiency in a cell or in all rows.
struct Line<'a> {
    test: usize,
    group: usize,
    cell: Option<&'a Cell>,
    n: i64,
    passed: i64,
    found: Result<Efficiency, String>,
}

impl Line<'_> {
    fn value(&self) -> Option<&Efficiency> {
        self.found.as_ref().ok()
    }

    fn ends(&self) -> Option<(f64, f64)> {
        self.value()?.interval
    }

    fn reason(&self) -> Option<String> {
        match &self.found {
            Err(reason) => Some(reason.clone()),
            Ok(found) if found.interval.is_none() => Some("negative weights leave no efficiency between 0 and 1".into()),
            Ok(_) => None,
        }
    }

    /// In per cent.
    fn shown(&self) -> String {
        let Some(found) = self.value() else { return "-".into() };
        words::with_ends(100.0 * found.value, found.interval.map(|(low, high)| (100.0 * low, Some(100.0 * high))))
    }
}

impl Fold for Testing {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        match &mut self.of {
            Of::Cuts(cuts) => cuts.add(batch, self.weight.as_ref(), into),
            Of::Points { counter, .. } => counter.add(batch, into),
        }
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let tested = self.of.tested(sums, self.weight.is_some());
        let cells = self.of.binning().cells();
        let mut lines = Vec::new();
        for (test, tested) in tested.iter().enumerate() {
            for group in 0..self.of.groups().len() {
                lines.push(self.line((test, tested), group, None));
                lines.extend(cells.iter().map(|cell| self.line((test, tested), group, Some(cell))));
            }
        }
        Ok(Summary {
            table: self.table(&tested, &lines)?,
            histograms: Vec::new(),
            figures: self.figures(&tested, &lines),
            highlights: self.highlights(&tested, &lines),
            remarks: self.remarks(sums),
        })
    }
}

impl Testing {
    fn line<'a>(&self, (test, tested): (usize, &Tested), group: usize, cell: Option<&'a Cell>) -> Line<'a> {
        let groups = self.of.groups().len();
        let slots = cell.map_or(0..self.of.binning().slots(), |cell| cell.slot..cell.slot + 1);
        let (mut passed, mut failed) = (Load::default(), Load::default());
        for slot in slots {
            passed.plus(tested.loads[slot * groups + group].0);
            failed.plus(tested.loads[slot * groups + group].1);
        }
        let found = match tested.thresholds.get(group) {
            Some(Err(reason)) => Err(reason.clone()),
            _ => Efficiency::of(passed, failed, self.method, self.level).map_err(str::to_owned),
        };
        Line { test, group, cell, n: passed.n + failed.n, passed: passed.n, found }
    }

    fn table(&self, tested: &[Tested], lines: &[Line<'_>]) -> anyhow::Result<RecordBatch> {
        let text =
            |f: &dyn Fn(&Line<'_>) -> Option<String>| -> ArrayRef { Arc::new(lines.iter().map(f).collect::<StringArray>()) };
        let float =
            |f: &dyn Fn(&Line<'_>) -> Option<f64>| -> ArrayRef { Arc::new(lines.iter().map(f).collect::<Float64Array>()) };
        let whole = |f: fn(&Line<'_>) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(lines.iter().map(f))) };
        let mut columns = vec![text(&|line| Some(tested[line.test].name.clone()))];
        if matches!(self.of, Of::Points { .. }) {
            columns.push(text(&|line| Some(tested[line.test].fixed?.word().to_owned())));
            columns.push(float(&|line| Some(tested[line.test].fixed?.value())));
            columns.push(float(&|line| tested[line.test].thresholds[line.group].as_ref().ok().copied()));
        }
        columns.extend(self.of.groups().arrays(lines.iter().map(|line| line.group)));
        columns.extend(self.of.binning().arrays(lines.iter().map(|line| line.cell)));
        columns.extend([whole(|line| line.n), whole(|line| line.passed)]);
        if self.weight.is_some() {
            columns.push(float(&|line| Some(line.value()?.effective)));
        }
        columns.push(float(&|line| Some(line.value()?.value)));
        columns.push(float(&|line| Some(line.ends()?.0)));
        columns.push(float(&|line| Some(line.ends()?.1)));
        columns.push(text(&|line| line.reason()));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn test_name(&self, tested: &Tested) -> String {
        match (&tested.fixed, &self.of) {
            (Some(fixed), Of::Points { points, .. }) if points.len() > 1 => format!("{} at {}", tested.name, fixed.label()),
            _ => tested.name.clone(),
        }
    }

    fn figures(&self, tested: &[Tested], lines: &[Line<'_>]) -> Vec<Figure> {
        let mut figures = self.matrices(tested, lines);
        match &self.of.binning().columns[..] {
            [] => {}
            [bins] => {
                let curve = |label: String, test: usize, group: usize| {
                    let of = lines.iter().filter(|line| line.test == test && line.group == group);
                    Curve { label, points: of.filter_map(point).collect(), line: Vec::new() }
                };
                let figure = |name: String, title: String, curves| Figure {
                    name,
                    title,
                    x: bins.label.clone(),
                    y: "efficiency".into(),
                    content: Content::Curves { curves, log_y: false },
                };
                let groups = self.of.groups();
                if groups.len() > 1 {
                    for (test, tested) in tested.iter().enumerate() {
                        let curves = (0..groups.len()).map(|group| curve(groups.label(group, "all"), test, group)).collect();
                        let name = self.test_name(tested);
                        figures.push(figure(file_name(&name), format!("Efficiency of {name} against {}", bins.column), curves));
                    }
                } else {
                    let curves = tested.iter().enumerate().map(|(test, tested)| curve(self.test_name(tested), test, 0)).collect();
                    figures.push(figure("efficiency".into(), format!("Efficiency against {}", bins.column), curves));
                }
            }
            [x, y, ..] => {
                for (test, tested) in tested.iter().enumerate() {
                    for group in 0..self.of.groups().len() {
                        let of = lines.iter().filter(|line| line.test == test && line.group == group && line.cell.is_some());
                        let name = [self.test_name(tested)].into_iter().chain(self.of.groups().name(group));
                        let name = name.collect::<Vec<_>>().join(", ");
                        figures.push(Figure {
                            name: file_name(&name),
                            title: format!("Efficiency of {name}"),
                            x: x.label.clone(),
                            y: y.label.clone(),
                            content: Content::Heat {
                                x_edges: x.axis.edges(),
                                y_edges: y.axis.edges(),
                                values: of.map(|line| line.value().map_or(f64::NAN, |found| found.value)).collect(),
                                log: false,
                            },
                        });
                    }
                }
            }
        }
        figures
    }

    /// The mis-identification matrix at each working point, in each group.
    fn matrices(&self, tested: &[Tested], lines: &[Line<'_>]) -> Vec<Figure> {
        let Of::Points { signals, points, counter, .. } = &self.of else { return Vec::new() };
        let (classes, groups) = (&counter.classes.names, &counter.groups);
        let matrix = |(point, fixed): (usize, &Fixed), group: usize| {
            let tests: Vec<usize> = (0..tested.len()).filter(|test| test % points.len() == point).collect();
            let rows = (0..classes.len()).flat_map(|class| tests.iter().map(move |test| (group * classes.len() + class, *test)));
            let found: Vec<&Line<'_>> = rows
                .filter_map(|(group, test)| lines.iter().find(|l| l.test == test && l.group == group && l.cell.is_none()))
                .collect();
            let whose = groups.name(group).map(|group| format!(", {group}")).unwrap_or_default();
            Figure {
                name: format!("identified_at_{}_{}{}", fixed.word(), fixed.value(), groups.suffix(group)),
                title: format!("Share of each class that passes, at {} [%]{whose}", fixed.label()),
                x: "identified as".into(),
                y: "true class".into(),
                content: Content::Matrix {
                    columns: signals.iter().map(|(name, _)| name.clone()).collect(),
                    rows: classes.clone(),
                    shares: found.iter().map(|line| line.value().map_or(f64::NAN, |found| found.value)).collect(),
                    texts: found.iter().map(|line| line.shown()).collect(),
                },
            }
        };
        (0..groups.len()).flat_map(|group| points.iter().enumerate().map(move |point| matrix(point, group))).collect()
    }

    /// For a cut the groups stand side by side; for a working point, which each group has its own of, the classes do.
    fn highlights(&self, tested: &[Tested], lines: &[Line<'_>]) -> Vec<Vec<String>> {
        let groups = self.of.groups();
        let Of::Points { counter, .. } = &self.of else {
            let mut header = vec!["cut".to_owned()];
            header.extend((0..groups.len()).map(|group| format!("{} [%]", groups.label(group, "efficiency"))));
            let line = |(test, tested): (usize, &Tested)| {
                let whole = lines.iter().filter(|line| line.test == test && line.cell.is_none());
                [tested.name.clone()].into_iter().chain(whole.map(Line::shown)).collect()
            };
            return [header].into_iter().chain(tested.iter().enumerate().map(line)).collect();
        };
        let classes = &counter.classes.names;
        let mut header: Vec<String> = ["score", "working point"].map(String::from).to_vec();
        header.extend(counter.groups.columns().map(str::to_owned));
        header.push("threshold".into());
        header.extend(classes.iter().map(|class| format!("{class} [%]")));
        let mut told = vec![header];
        for (test, tested) in tested.iter().enumerate() {
            for group in 0..counter.groups.len() {
                let mut line = vec![tested.name.clone(), tested.fixed.map_or_else(String::new, Fixed::label)];
                line.extend(counter.groups.values(group).map(str::to_owned));
                let own = group * classes.len()..(group + 1) * classes.len();
                line.push(tested.thresholds[own.start].as_ref().map_or_else(|_| "-".into(), |t| words::significant(*t, 4)));
                let whole = lines.iter().filter(|line| line.test == test && line.cell.is_none() && own.contains(&line.group));
                line.extend(whole.map(Line::shown));
                told.push(line);
            }
        }
        told
    }

    fn remarks(&self, sums: &Sums) -> Vec<String> {
        let level = words::significant(100.0 * self.level, 4);
        let counts = if self.weight.is_some() { ", of effective counts" } else { "" };
        let mut remarks = vec![format!("intervals are those of {} at {level} %{counts}", self.method.name())];
        match &self.of {
            Of::Cuts(cuts) => {
                for (cut, (name, _)) in cuts.cuts.iter().enumerate() {
                    let unknown = sums.count(cuts.unknown(cut) as u64);
                    if unknown != 0 {
                        let rows = words::counted(unknown.unsigned_abs(), "row");
                        remarks.push(format!("{rows} for which {name} is unknown (a value is missing or NaN) do not pass"));
                    }
                }
                let unweighable = sums.count(cuts.unweighable() as u64);
                if let (Some(weight), true) = (&self.weight, unweighable != 0) {
                    let rows = words::counted(unweighable.unsigned_abs(), "row");
                    remarks.push(format!("{rows} without a finite {weight} in no efficiency"));
                }
            }
            Of::Points { counter, signals, .. } => {
                let of = if counter.groups.is_empty() { "all rows" } else { "all rows of its group" };
                remarks.push(format!("a working point is that of {of}, between two rungs of the ladder"));
                for (score, (name, _)) in signals.iter().enumerate() {
                    let odd = counter.odd(sums, score);
                    if odd != 0 {
                        let column = &counter.scores[score].column;
                        let what = self.weight.as_ref().map_or_else(|| column.clone(), |weight| format!("{column} or {weight}"));
                        remarks.push(format!(
                            "{} with {what} NaN or infinite in no efficiency of {name}",
                            words::counted(odd, "row")
                        ));
                    }
                }
            }
        }
        remarks.extend(self.of.groups().remarks(sums));
        remarks
    }
}

/// An efficiency in a bin, with the distances of the ends of its interval.
fn point(line: &Line<'_>) -> Option<Point> {
    let (low, high) = line.cell?.edges[0];
    let found = line.value()?;
    let (from, to) = found.interval.unwrap_or((found.value, found.value));
    let (x, x_error) = (f64::midpoint(low, high), (high - low) / 2.0);
    let distance = |end: f64| (end - found.value).abs();
    Some(Point { x, x_error, y: found.value, y_error: distance(from), y_error_up: Some(distance(to)) })
}

/// A file's name in letters, digits and the few signs that names have.
fn file_name(name: &str) -> String {
    let mut file = "efficiency".to_owned();
    for word in name.split(|c: char| !(c.is_alphanumeric() || c == '.' || c == '-')).filter(|word| !word.is_empty()) {
        file.push('_');
        file.push_str(word);
    }
    file
}
