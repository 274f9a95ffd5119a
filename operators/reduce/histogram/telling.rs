//! What stands in the cells, as a table, in the UHI serialization, and drawn.

use super::Filling;
use crate::binning::Binned;
use crate::figure::{Content, Curve, Figure, Point, Summary};
use crate::sums::Sums;
use crate::uhi::{self, Storage, UhiAxis};
use crate::work::Fold;
use crate::{Fault, words};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use std::sync::Arc;

impl Fold for Filling {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        self.add_rows(batch, into)
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let (cells, powers) = (self.cells() as u64, self.powers() as u64);
        let counts: Vec<i64> = (0..cells).map(|cell| sums.count(cell)).collect();
        let power = |power: u64| -> Vec<f64> { (0..cells).map(|cell| sums.sum(powers * cell + power)).collect() };
        let rows = || -> Vec<f64> { counts.iter().map(|n| *n as f64).collect() };
        let (contents, variances) = if self.weight.is_some() { (power(0), power(1)) } else { (rows(), rows()) };
        let profile = self.profile.as_ref().map(|_| {
            let (values, squares) = (power(powers - 2), power(powers - 1));
            let cells = counts.iter().zip(contents.iter().zip(&variances)).zip(values.iter().zip(&squares));
            cells.map(|((n, (w, w2)), (wy, wy2))| Profiled::of(*n, (*w, *w2), (*wy, *wy2))).collect()
        });
        let filled = Filled { counts, contents, variances, profile };
        Ok(Summary {
            table: self.table(&filled)?,
            histograms: vec![(self.name(), self.uhi(&filled))],
            figures: self.figures(&filled),
            highlights: self.highlights(&filled),
            remarks: self.remarks(&filled, self.beside().map(|key| sums.count(key as u64))),
        })
    }
}

/// Everything in the cells, by number.
struct Filled {
    counts: Vec<i64>,
    contents: Vec<f64>,
    variances: Vec<f64>,
    profile: Option<Vec<Result<Profiled, &'static str>>>,
}

/// What a profile knows of a cell.
#[derive(Debug, Clone, Copy)]
struct Profiled {
    mean: f64,
    rms: f64,
    /// None where there is a single row.
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
        if variance < -1e-9 * square.abs() {
            return Err("negative weights leave no spread");
        }
        let rms = variance.max(0.0).sqrt();
        Ok(Self { mean, rms, error: (n > 1).then(|| rms / (w * w / w2).sqrt()) })
    }

    fn reason(of: &Result<Self, &'static str>) -> Option<&'static str> {
        match of {
            Err(reason) => Some(reason),
            Ok(Self { error: None, .. }) => Some("one row has no spread"),
            Ok(Self { rms: 0.0, .. }) => Some("all values are the same, as far as sums can tell"),
            Ok(_) => None,
        }
    }
}

impl Filling {
    fn name(&self) -> String {
        let axes = self.columns.iter().map(|c| c.column.as_str());
        self.profile.iter().map(|(name, _)| name.as_str()).chain(axes).collect::<Vec<_>>().join("-")
    }

    /// The class and the slots of a cell.
    fn slots(&self, mut cell: usize) -> (usize, Vec<usize>) {
        let mut slots = vec![0; self.columns.len()];
        for (slot, Binned { axis, .. }) in slots.iter_mut().zip(&self.columns).rev() {
            *slot = cell % axis.slots();
            cell /= axis.slots();
        }
        (cell, slots)
    }

    fn table(&self, filled: &Filled) -> anyhow::Result<RecordBatch> {
        let shown = |cell: &usize| {
            let (_, slots) = self.slots(*cell);
            slots.iter().zip(&self.columns).all(|(slot, c)| Self::shown_slots(&c.axis).contains(slot))
        };
        let cells: Vec<usize> = (0..filled.counts.len()).filter(shown).collect();
        let mut columns: Vec<ArrayRef> = Vec::new();
        if self.classes.column.is_some() {
            let names = cells.iter().map(|cell| &self.classes.names[self.slots(*cell).0]);
            columns.push(Arc::new(StringArray::from_iter_values(names)));
        }
        for (number, Binned { axis, .. }) in self.columns.iter().enumerate() {
            let slots: Vec<usize> = cells.iter().map(|cell| self.slots(*cell).1[number]).collect();
            if let Some(names) = axis.names() {
                let name = |slot: &usize| names.get(slot - 1).map_or("other", String::as_str);
                columns.push(Arc::new(StringArray::from_iter_values(slots.iter().map(name))));
                continue;
            }
            let edges: Vec<f64> = [f64::NEG_INFINITY].into_iter().chain(axis.edges()).chain([f64::INFINITY]).collect();
            for end in 0..2 {
                columns.push(Arc::new(Float64Array::from_iter_values(slots.iter().map(|slot| edges[slot + end]))));
            }
        }
        columns.push(Arc::new(Int64Array::from_iter_values(cells.iter().map(|cell| filled.counts[*cell]))));
        columns.push(Arc::new(Float64Array::from_iter_values(cells.iter().map(|cell| filled.contents[*cell]))));
        columns.push(Arc::new(Float64Array::from_iter_values(cells.iter().map(|cell| filled.variances[*cell]))));
        if let Some(profile) = &filled.profile {
            let of = |f: fn(&Profiled) -> Option<f64>| -> ArrayRef {
                Arc::new(cells.iter().map(|cell| profile[*cell].as_ref().ok().and_then(f)).collect::<Float64Array>())
            };
            columns.extend([of(|p| Some(p.mean)), of(|p| p.error), of(|p| p.error.map(|_| p.rms))]);
            columns.push(Arc::new(cells.iter().map(|cell| Profiled::reason(&profile[*cell])).collect::<StringArray>()));
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn uhi(&self, filled: &Filled) -> serde_json::Value {
        let classes = self.classes.column.as_ref().map(|name| UhiAxis::Classes(&self.classes.names, name));
        let bins = self.columns.iter().map(|c| UhiAxis::Bins(&c.axis, &c.column, &c.label));
        let axes: Vec<UhiAxis<'_>> = classes.into_iter().chain(bins).collect();
        let Some(profile) = &filled.profile else {
            return uhi::histogram(&axes, Storage::Weighted(&filled.contents, &filled.variances));
        };
        let means: Vec<f64> = profile.iter().map(|p| p.as_ref().map_or(0.0, |p| p.mean)).collect();
        // JSON knows no NaN: what has no spread is written with none.
        let variance = |cell: usize| {
            let (w, w2) = (filled.contents[cell], filled.variances[cell]);
            profile[cell].as_ref().ok().filter(|p| p.error.is_some()).map_or(0.0, |p| p.rms * p.rms * w / (w - w2 / w))
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

    fn figures(&self, filled: &Filled) -> Vec<Figure> {
        let per_class = filled.contents.len() / self.classes.names.len();
        let (name, y) = (self.name(), self.entries());
        let title = |what: String| self.profile.as_ref().map_or(what.clone(), |(of, _)| format!("mean of {of} against {what}"));
        match (&self.columns[..], &filled.profile) {
            ([x], Some(profile)) => {
                let edges = x.axis.edges();
                let curve = |(class, cells): (usize, &[Result<Profiled, &str>])| {
                    let point = |(cell, ends): (&Result<Profiled, &str>, &[f64])| {
                        let cell = cell.as_ref().ok()?;
                        let (x, x_error) = (f64::midpoint(ends[0], ends[1]), (ends[1] - ends[0]) / 2.0);
                        Some(Point { x, x_error, y: cell.mean, y_error: cell.error.unwrap_or_default(), y_error_up: None })
                    };
                    let points = cells[1..].iter().zip(edges.windows(2)).filter_map(point).collect();
                    Curve { label: self.classes.label(class, &name).to_owned(), points, line: Vec::new() }
                };
                let curves = profile.chunks_exact(per_class).enumerate().map(curve).collect();
                let content = Content::Curves { curves, log_y: false };
                vec![Figure { title: title(x.column.clone()), name, x: x.label.clone(), y, content }]
            }
            ([x], None) => {
                let bins = 1..=x.axis.bins();
                let series = self.classes.names.iter().zip(filled.contents.chunks_exact(per_class));
                let series = series.enumerate().map(|(class, (_, contents))| {
                    (self.classes.label(class, &x.column).to_owned(), contents[bins.clone()].to_vec())
                });
                let content = Content::Steps { edges: x.axis.edges(), series: series.collect(), log_y: false };
                vec![Figure { title: x.column.clone(), name, x: x.label.clone(), y, content }]
            }
            ([x, y], profile) => {
                let means = |cell: &Result<Profiled, &str>| cell.as_ref().map_or(f64::NAN, |cell| cell.mean);
                let shown: Vec<f64> =
                    profile.as_ref().map_or_else(|| filled.contents.clone(), |profile| profile.iter().map(means).collect());
                let heat = |(class, contents): (usize, &[f64])| {
                    let values = contents.chunks_exact(y.axis.slots()).skip(1).take(x.axis.bins());
                    let values = values.flat_map(|row| row[1..=y.axis.bins()].to_vec()).collect();
                    let suffix =
                        self.classes.column.as_ref().map(|_| format!("-{}", self.classes.names[class])).unwrap_or_default();
                    let whose =
                        self.classes.column.as_ref().map(|_| format!(", {}", self.classes.names[class])).unwrap_or_default();
                    Figure {
                        name: format!("{name}{suffix}"),
                        title: title(format!("{} against {}", y.column, x.column)) + &whose,
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
                shown.chunks_exact(per_class).enumerate().map(heat).collect()
            }
            _ => Vec::new(),
        }
    }

    fn highlights(&self, filled: &Filled) -> Vec<Vec<String>> {
        let mut lines: Vec<Vec<String>> = vec![self.classes.column.clone().into_iter().collect()];
        lines[0].extend(["events".into(), "in range".into()]);
        if self.weight.is_some() {
            lines[0].push("sum of weights in range".into());
        }
        let per_class = filled.counts.len() / self.classes.names.len();
        for (class, name) in self.classes.names.iter().enumerate() {
            let (mut all, mut inside, mut content, mut variance) = (0, 0, 0.0, 0.0);
            for cell in class * per_class..(class + 1) * per_class {
                all += filled.counts[cell];
                if self.slots(cell).1.iter().zip(&self.columns).all(|(slot, c)| (1..=c.axis.bins()).contains(slot)) {
                    inside += filled.counts[cell];
                    content += filled.contents[cell];
                    variance += filled.variances[cell];
                }
            }
            let mut line: Vec<String> = self.classes.column.iter().map(|_| name.clone()).collect();
            line.extend([all.to_string(), inside.to_string()]);
            if self.weight.is_some() {
                line.push(words::with_error(content, f64::sqrt(variance)));
            }
            lines.push(line);
        }
        lines
    }

    fn remarks(&self, filled: &Filled, [unweighable, unmeasured]: [i64; 2]) -> Vec<String> {
        let mut remarks = Vec::new();
        let rows = |n: i64| words::counted(n.unsigned_abs(), "row");
        for (i, Binned { column: name, axis, .. }) in self.columns.iter().enumerate() {
            let mut outside = [0; 3];
            for (cell, n) in filled.counts.iter().enumerate().filter(|(_, n)| **n != 0) {
                match self.slots(cell).1[i] {
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
        if let (Some(weight), true) = (&self.weight, unweighable != 0) {
            remarks.push(format!("{} without a finite {weight}, in no bin", rows(unweighable)));
        }
        if let (Some((profiled, _)), true) = (&self.profile, unmeasured != 0) {
            remarks.push(format!("{} with {profiled} NaN or infinite, in no bin", rows(unmeasured)));
        }
        remarks
    }
}
