//! What stands in the cells, as a table, in the UHI serialization, and drawn.

use super::{Filling, Part};
use crate::column;
use crate::statistics::binning::Binned;
use crate::statistics::figure::{Content, Curve, Figure, Point, Steps, Summary};
use crate::statistics::groups::{REGION, Reference};
use crate::statistics::moments::{is_lost, rounding};
use crate::statistics::sums::Sums;
use crate::statistics::uhi::{self, Storage, UhiAxis};
use crate::work::Fold;
use crate::{Fault, words};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;

/// More groups than these are not among what people read first.
const MOST_LINES: usize = 60;

impl Fold for Filling {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        self.add_rows(batch, into)
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let filled: Vec<Filled<'_>> = self.parts.iter().map(|part| self.filled(part, sums)).collect();
        let mut remarks: Vec<String> = filled.iter().flat_map(|filled| self.outside(filled)).collect();
        remarks.extend(self.remarks(sums));
        Ok(Summary {
            table: self.table(&filled)?,
            histograms: filled.iter().map(|filled| (self.name(filled.part), self.uhi(filled))).collect(),
            figures: filled.iter().flat_map(|filled| self.figures(filled)).collect(),
            highlights: self.highlights(&filled),
            remarks,
        })
    }
}

/// Everything in the cells of a part, by number.
struct Filled<'a> {
    part: &'a Part,
    counts: Vec<i64>,
    contents: Vec<f64>,
    variances: Vec<f64>,
    profile: Option<Vec<Result<Profiled, &'static str>>>,
}

/// A row of the table: a part, a cell of it, its group and its slots.
type Row<'a> = (&'a Filled<'a>, usize, (usize, Vec<usize>));

/// What a profile knows of a cell.
#[derive(Debug, Clone, Copy)]
struct Profiled {
    n: i64,
    mean: f64,
    /// None where there is a single row, or where sums can't tell.
    rms: Option<f64>,
    error: Option<f64>,
}

impl Profiled {
    fn of(n: i64, (w, w2): (f64, f64), (wy, wy2): (f64, f64)) -> Result<Self, &'static str> {
        if n == 0 {
            return Err("no rows");
        }
        if !(w > 0.0 && w2 > 0.0) {
            return Err("the weights do not sum to more than 0");
        }
        let mean = wy / w;
        let (square, variance) = (wy2 / w, wy2 / w - mean * mean);
        if !(mean.is_finite() && variance.is_finite()) {
            return Err("the squares of the values are too large for a number");
        }
        if variance < -1e-9 * square.abs() {
            return Err("negative weights leave no spread");
        }
        if !w2.is_finite() {
            return Err("the squares of the weights are too large for a number");
        }
        let told = n > 1 && (square == 0.0 || !is_lost(variance, rounding(2, square)));
        let rms = told.then(|| variance.sqrt());
        Ok(Self { n, mean, rms, error: rms.map(|rms| rms / (w / w2 * w).sqrt()) })
    }

    fn reason(of: &Result<Self, &'static str>) -> Option<&'static str> {
        match of {
            Err(reason) => Some(reason),
            Ok(Self { n: 1, .. }) => Some("one row has no spread"),
            Ok(Self { rms: None, .. }) => Some("all values are the same, or too close for sums at their distance from 0"),
            Ok(Self { rms: Some(0.0), .. }) => Some("all values are the same"),
            Ok(_) => None,
        }
    }
}

impl Part {
    /// The group and the slots of a cell.
    fn slots(&self, mut cell: usize) -> (usize, Vec<usize>) {
        let mut slots = vec![0; self.columns.len()];
        for (slot, Binned { axis, .. }) in slots.iter_mut().zip(&self.columns).rev() {
            *slot = cell % axis.slots();
            cell /= axis.slots();
        }
        (cell, slots)
    }

    /// The cells that stand in the table.
    fn shown_cells(&self) -> Vec<usize> {
        let shown = |cell: &usize| {
            let (_, slots) = self.slots(*cell);
            slots.iter().zip(&self.columns).all(|(slot, c)| Self::shown_slots(&c.axis).contains(slot))
        };
        (0..self.cells).filter(shown).collect()
    }

    /// How many of a group's rows are in no bin.
    fn outside(&self, counts: &[i64]) -> u64 {
        let inside =
            |cell: &usize| self.slots(*cell).1.iter().zip(&self.columns).all(|(slot, c)| (1..=c.axis.bins()).contains(slot));
        (0..counts.len()).filter(|cell| !inside(cell)).map(|cell| counts[cell].unsigned_abs()).sum()
    }
}

impl Filling {
    pub(super) fn table_schema(&self, input: &Schema) -> Schema {
        let mut fields: Vec<Field> = self.told_apart.then(|| Field::new("quantity", DataType::Utf8, false)).into_iter().collect();
        fields.extend(self.groups.fields());
        for Binned { column: name, unit, axis, .. } in self.parts.iter().flat_map(|part| &part.columns) {
            if axis.names().is_some() {
                fields.push(Field::new(name, DataType::Utf8, self.told_apart));
                continue;
            }
            for edge in ["low", "high"] {
                let field = Field::new(format!("{name}_{edge}"), DataType::Float64, self.told_apart);
                fields.push(column::with_unit(field, unit.as_deref()));
            }
        }
        fields.push(Field::new("count", DataType::Int64, false));
        fields.push(Field::new("content", DataType::Float64, false));
        fields.push(Field::new("variance", DataType::Float64, false));
        if let Some((name, _)) = &self.profile {
            let unit = input.field_with_name(name).ok().and_then(column::unit);
            let of = |name: &str| column::with_unit(Field::new(name, DataType::Float64, true), unit);
            fields.extend(["mean", "mean_error", "rms"].map(of));
            fields.push(Field::new("reason", DataType::Utf8, true));
        }
        Schema::new_with_metadata(fields, self.groups.metadata())
    }

    fn filled<'a>(&self, part: &'a Part, sums: &Sums) -> Filled<'a> {
        let (first, powers) = (part.first as u64, self.powers() as u64);
        let cells = || first..first + part.cells as u64;
        let counts: Vec<i64> = cells().map(|cell| sums.count(cell)).collect();
        let power = |power: u64| -> Vec<f64> { cells().map(|cell| sums.sum(powers * cell + power)).collect() };
        let rows = || -> Vec<f64> { counts.iter().map(|n| *n as f64).collect() };
        let (contents, variances) = if self.weight.is_some() { (power(0), power(1)) } else { (rows(), rows()) };
        let profile = self.profile.as_ref().map(|_| {
            let (values, squares) = (power(powers - 2), power(powers - 1));
            let cells = counts.iter().zip(contents.iter().zip(&variances)).zip(values.iter().zip(&squares));
            cells.map(|((n, (w, w2)), (wy, wy2))| Profiled::of(*n, (*w, *w2), (*wy, *wy2))).collect()
        });
        Filled { part, counts, contents, variances, profile }
    }

    fn name(&self, part: &Part) -> String {
        let axes = part.columns.iter().map(|c| c.column.as_str());
        self.profile.iter().map(|(name, _)| name.as_str()).chain(axes).collect::<Vec<_>>().join("-")
    }

    fn table(&self, filled: &[Filled<'_>]) -> anyhow::Result<RecordBatch> {
        let mut rows: Vec<Row<'_>> = Vec::new();
        for filled in filled {
            rows.extend(filled.part.shown_cells().into_iter().map(|cell| (filled, cell, filled.part.slots(cell))));
        }
        let mut columns: Vec<ArrayRef> = Vec::new();
        if self.told_apart {
            let quantities = rows.iter().map(|(filled, ..)| &filled.part.columns[0].column);
            columns.push(Arc::new(StringArray::from_iter_values(quantities)));
        }
        columns.extend(self.groups.arrays(rows.iter().map(|(_, _, (group, _))| *group)));
        for of in filled {
            for (number, Binned { axis, .. }) in of.part.columns.iter().enumerate() {
                let slots: Vec<Option<usize>> = rows
                    .iter()
                    .map(|(filled, _, (_, slots))| std::ptr::eq(filled.part, of.part).then(|| slots[number]))
                    .collect();
                if let Some(names) = axis.names() {
                    let name = |slot: &Option<usize>| slot.map(|slot| names.get(slot - 1).map_or("other", String::as_str));
                    columns.push(Arc::new(slots.iter().map(name).collect::<StringArray>()));
                    continue;
                }
                let edges: Vec<f64> = [f64::NEG_INFINITY].into_iter().chain(axis.edges()).chain([f64::INFINITY]).collect();
                for end in 0..2 {
                    columns.push(Arc::new(slots.iter().map(|slot| slot.map(|slot| edges[slot + end])).collect::<Float64Array>()));
                }
            }
        }
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|(filled, cell, _)| filled.counts[*cell]))));
        columns.push(Arc::new(Float64Array::from_iter_values(rows.iter().map(|(filled, cell, _)| filled.contents[*cell]))));
        columns.push(Arc::new(Float64Array::from_iter_values(rows.iter().map(|(filled, cell, _)| filled.variances[*cell]))));
        if self.profile.is_some() {
            let none = Err("no rows");
            let profiled = |(filled, cell, _): &Row<'_>| filled.profile.as_ref().map_or(none, |profile| profile[*cell]);
            let of = |f: fn(&Profiled) -> Option<f64>| -> ArrayRef {
                Arc::new(rows.iter().map(|row| profiled(row).as_ref().ok().and_then(f)).collect::<Float64Array>())
            };
            columns.extend([of(|p| Some(p.mean)), of(|p| p.error), of(|p| p.rms)]);
            columns.push(Arc::new(rows.iter().map(|row| Profiled::reason(&profiled(row))).collect::<StringArray>()));
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn uhi(&self, filled: &Filled<'_>) -> serde_json::Value {
        let bins = filled.part.columns.iter().map(|c| UhiAxis::Bins(&c.axis, &c.column, &c.label));
        let axes: Vec<UhiAxis<'_>> = self.groups.axes().into_iter().chain(bins).collect();
        let Some(profile) = &filled.profile else {
            return uhi::histogram(&axes, Storage::Weighted(&filled.contents, &filled.variances));
        };
        let means: Vec<f64> = profile.iter().map(|p| p.as_ref().map_or(0.0, |p| p.mean)).collect();
        // JSON knows no NaN: what has no spread is written with none.
        let variance = |cell: usize| {
            let (w, w2) = (filled.contents[cell], filled.variances[cell]);
            profile[cell].as_ref().ok().and_then(|p| p.rms).map_or(0.0, |rms| rms * rms * w / (w - w2 / w))
        };
        let variances: Vec<f64> = (0..profile.len()).map(variance).map(|v| if v.is_finite() { v } else { 0.0 }).collect();
        let storage = if self.weight.is_some() {
            Storage::WeightedMean([&filled.contents, &filled.variances, &means, &variances])
        } else {
            Storage::Mean([&filled.contents, &means, &variances])
        };
        uhi::histogram(&axes, storage)
    }

    fn entries(&self) -> String {
        if let Some((_, label)) = &self.profile {
            return format!("mean of {label}");
        }
        self.weight.as_ref().map_or_else(|| "events".into(), |w| format!("events weighted by {w}"))
    }

    /// What lies outside of an axis, as a legend says it.
    fn flow(&self, x: &Binned, contents: &[f64]) -> String {
        let amount = |content: f64| {
            if self.weight.is_none() { words::count(content as u64) } else { words::significant(content, 3) }
        };
        let places = if x.axis.names().is_some() { ["", "others"] } else { ["below", "above"] };
        let said = [0, x.axis.bins() + 1].into_iter().zip(places).filter(|(slot, _)| contents[*slot] != 0.0);
        let said: Vec<String> = said.map(|(slot, place)| format!("{} {place}", amount(contents[slot]))).collect();
        if said.is_empty() { said.concat() } else { format!(" ({})", said.join(", ")) }
    }

    /// What is in the bins, with the panel of ratios where one is asked for.
    fn compared(&self, edges: Vec<f64>, series: Vec<Steps>) -> Content {
        let ratios = self.ratio.map(|reference| (reference, self.ratios(&edges, &series, reference)));
        let content = Content::Steps { edges, series, log_y: false };
        let Some((reference, ratios)) = ratios else { return content };
        Content::Compared { content: Box::new(content), y: format!("/ {}", self.groups.value(reference)), ratios }
    }

    /// The contents of each group over those of its reference, in the middle of the bins.
    fn ratios(&self, edges: &[f64], series: &[Steps], reference: Reference) -> Vec<Curve> {
        let point = |steps: &Steps, bin: usize| {
            let (low, high) = (edges[bin], edges[bin + 1]);
            let (x, x_error) = (f64::midpoint(low, high), (high - low) / 2.0);
            Point { x, x_error, y: steps.contents[bin], y_error: steps.errors[bin], y_error_up: None }
        };
        let curve = |(group, steps): (usize, &Steps)| {
            let partner = self.groups.partner(group, reference);
            let bins = (0..steps.contents.len()).filter(|bin| group != partner && steps.contents[*bin] != 0.0);
            let points = bins.filter_map(|bin| point(steps, bin).over(&point(&series[partner], bin))).collect();
            let names = [group, partner].map(|group| self.groups.label(group, ""));
            Curve { label: names.join(" / "), points, line: Vec::new() }
        };
        series.iter().enumerate().map(curve).collect()
    }

    fn figures(&self, filled: &Filled<'_>) -> Vec<Figure> {
        let per_group = filled.contents.len() / self.groups.len();
        let (name, y) = (self.name(filled.part), self.entries());
        let title = |what: String| self.profile.as_ref().map_or(what.clone(), |(of, _)| format!("mean of {of} against {what}"));
        match (&filled.part.columns[..], &filled.profile) {
            ([x], Some(profile)) => {
                let edges = x.axis.edges();
                let curve = |(group, cells): (usize, &[Result<Profiled, &str>])| {
                    let point = |(cell, ends): (&Result<Profiled, &str>, &[f64])| {
                        let cell = cell.as_ref().ok()?;
                        let (x, x_error) = (f64::midpoint(ends[0], ends[1]), (ends[1] - ends[0]) / 2.0);
                        Some(Point { x, x_error, y: cell.mean, y_error: cell.error.unwrap_or_default(), y_error_up: None })
                    };
                    let points = cells[1..].iter().zip(edges.windows(2)).filter_map(point).collect();
                    Curve { label: self.groups.label(group, &name), points, line: Vec::new() }
                };
                let curves = profile.chunks_exact(per_group).enumerate().map(curve).collect();
                let content = Content::Curves { curves, log_y: false };
                vec![Figure { title: title(x.column.clone()), name, x: x.label.clone(), y, content }]
            }
            ([x], None) => {
                let bins = 1..=x.axis.bins();
                let cells = filled.contents.chunks_exact(per_group).zip(filled.variances.chunks_exact(per_group));
                let steps = |(group, (contents, variances)): (usize, (&[f64], &[f64]))| Steps {
                    label: self.groups.label(group, &x.column) + &self.flow(x, contents),
                    contents: contents[bins.clone()].to_vec(),
                    errors: variances[bins.clone()].iter().map(|v| v.sqrt()).collect(),
                };
                let content = self.compared(x.axis.edges(), cells.enumerate().map(steps).collect());
                vec![Figure { title: x.column.clone(), name, x: x.label.clone(), y, content }]
            }
            ([x, y], profile) => {
                let means = |cell: &Result<Profiled, &str>| cell.as_ref().map_or(f64::NAN, |cell| cell.mean);
                let shown: Vec<f64> =
                    profile.as_ref().map_or_else(|| filled.contents.clone(), |profile| profile.iter().map(means).collect());
                let heat = |(group, contents): (usize, &[f64])| {
                    let values = contents.chunks_exact(y.axis.slots()).skip(1).take(x.axis.bins());
                    let values = values.flat_map(|row| row[1..=y.axis.bins()].to_vec()).collect();
                    let whose = self.groups.name(group).map(|group| format!(", {group}")).unwrap_or_default();
                    let outside = filled.part.outside(&filled.counts[group * per_group..(group + 1) * per_group]);
                    let outside = if outside == 0 { String::new() } else { format!(" ({} outside)", words::count(outside)) };
                    Figure {
                        name: format!("{name}{}", self.groups.suffix(group)),
                        title: title(format!("{} against {}", y.column, x.column)) + &whose + &outside,
                        x: x.label.clone(),
                        y: y.label.clone(),
                        content: Content::Heat {
                            x_edges: x.axis.edges(),
                            y_edges: y.axis.edges(),
                            values,
                            log: profile.is_none(),
                        },
                    }
                };
                shown.chunks_exact(per_group).enumerate().map(heat).collect()
            }
            _ => Vec::new(),
        }
    }

    fn highlights(&self, filled: &[Filled<'_>]) -> Vec<Vec<String>> {
        let mut header: Vec<String> = self.told_apart.then(|| "quantity".to_owned()).into_iter().collect();
        header.extend(self.groups.columns().map(str::to_owned));
        header.extend(["events".into(), "in range".into()]);
        if self.weight.is_some() {
            header.push("sum of weights in range".into());
        }
        let mut lines = vec![header];
        for filled in filled {
            let per_group = filled.counts.len() / self.groups.len();
            for group in 0..self.groups.len() {
                let (mut all, mut inside, mut content, mut variance) = (0, 0, 0.0, 0.0);
                for cell in group * per_group..(group + 1) * per_group {
                    all += filled.counts[cell];
                    let slots = filled.part.slots(cell).1;
                    if slots.iter().zip(&filled.part.columns).all(|(slot, c)| (1..=c.axis.bins()).contains(slot)) {
                        inside += filled.counts[cell];
                        content += filled.contents[cell];
                        variance += filled.variances[cell];
                    }
                }
                let mut line: Vec<String> = self.told_apart.then(|| filled.part.columns[0].column.clone()).into_iter().collect();
                line.extend(self.groups.values(group).map(str::to_owned));
                line.extend([all.to_string(), inside.to_string()]);
                if self.weight.is_some() {
                    line.push(words::with_error(content, f64::sqrt(variance)));
                }
                lines.push(line);
            }
        }
        let more = lines.len().saturating_sub(MOST_LINES + 1);
        lines.truncate(MOST_LINES + 1);
        if more > 0 {
            let width = lines[0].len();
            lines.push([format!("and {more} more")].into_iter().chain(vec![String::new(); width - 1]).collect());
        }
        lines
    }

    /// Rows outside the bins of a part.
    fn outside(&self, filled: &Filled<'_>) -> Vec<String> {
        let mut remarks = Vec::new();
        // A row stands in every region that it fits, so regions are told apart.
        let groups = if self.groups.has(REGION) { (0..self.groups.len()).map(Some).collect() } else { vec![None] };
        let columns = filled.part.columns.iter().enumerate();
        for ((i, Binned { column: name, axis, .. }), group) in columns.flat_map(|c| groups.iter().map(move |group| (c, *group))) {
            let mut outside = [0; 3];
            let whose = group.map(|group| self.groups.whose(group)).unwrap_or_default();
            let rows = |n: i64| format!("{whose}{}", words::counted(n.unsigned_abs(), "row"));
            for (cell, n) in filled.counts.iter().enumerate().filter(|(_, n)| **n != 0) {
                let (own, slots) = filled.part.slots(cell);
                if group.is_some_and(|group| group != own) {
                    continue;
                }
                match slots[i] {
                    0 => outside[0] += n,
                    slot if slot == axis.nan() => outside[2] += n,
                    slot if slot > axis.bins() => outside[1] += n,
                    _ => {}
                }
            }
            if axis.names().is_some() {
                let others = [(outside[1], "of another category"), (outside[2], "missing, in no bin")];
                remarks
                    .extend(others.iter().filter(|(n, _)| *n != 0).map(|(n, what)| format!("{} with {name} {what}", rows(*n))));
                continue;
            }
            let edges = axis.edges();
            let (low, high) = (edges[0], edges[edges.len() - 1]);
            if outside[0] != 0 {
                remarks.push(format!("{} with {name} below {low}", rows(outside[0])));
            }
            if outside[1] != 0 {
                remarks.push(format!("{} with {name} at or above {high}", rows(outside[1])));
            }
            if outside[2] != 0 {
                remarks.push(format!("{} with {name} NaN, in no bin", rows(outside[2])));
            }
        }
        remarks
    }

    fn remarks(&self, sums: &Sums) -> Vec<String> {
        // Each part has counted them.
        let [unweighable, unmeasured] = self.beside().map(|key| sums.count(key as u64).unsigned_abs() / self.parts.len() as u64);
        let regions = if self.groups.has(REGION) { " (once for each region)" } else { "" };
        let rows = |n: u64| words::counted(n, "row") + regions;
        let mut remarks = Vec::new();
        if let (Some(weight), true) = (&self.weight, unweighable != 0) {
            remarks.push(format!("{} without a finite {weight}, in no bin", rows(unweighable)));
        }
        if let (Some((profiled, _)), true) = (&self.profile, unmeasured != 0) {
            remarks.push(format!("{} with {profiled} NaN or infinite, in no bin", rows(unmeasured)));
        }
        remarks.extend(self.groups.remarks(sums));
        remarks
    }
}
