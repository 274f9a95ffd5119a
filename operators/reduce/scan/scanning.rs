//! A scan at work: the sums of its parts side by side, and the table that is put together from theirs.

use super::metric::{Entry, Metric, Of, Part, Spot, reason};
use crate::statistics::binning::{Binning, Cell};
use crate::statistics::figure::Summary;
use crate::statistics::groups::Groups;
use crate::statistics::sums::Sums;
use crate::work::Fold;
use crate::{Fault, words};
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema};
use std::cmp::Ordering;
use std::sync::Arc;

/// Each part of a model has so many keys.
const KEYS: u64 = 1 << 56;

/// A `scan` at work.
pub(super) struct Scanning {
    pub models: Vec<String>,
    pub groups: Groups,
    pub binning: Binning,
    pub metrics: Vec<Metric>,
    pub sort: Vec<(usize, bool)>,
    pub schema: Arc<Schema>,
    /// The number of a model, what the part is of it, and its work.
    pub folds: Vec<(usize, Part, Box<dyn Fold>)>,
}

/// A row of the table.
struct Row<'a> {
    model: usize,
    group: usize,
    cell: Option<&'a Cell>,
    entries: Vec<Entry>,
    reason: Option<String>,
}

impl Fold for Scanning {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        for (number, (_, _, fold)) in self.folds.iter_mut().enumerate() {
            let mut own = Sums::default();
            fold.add(batch, &mut own)?;
            into.merge_at(number as u64 * KEYS, &own);
        }
        Ok(())
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let mut tables: Vec<Vec<(Part, RecordBatch)>> = vec![Vec::new(); self.models.len()];
        let mut remarks: Vec<String> = Vec::new();
        for (number, (model, part, fold)) in self.folds.iter().enumerate() {
            let first = number as u64 * KEYS;
            let summary = fold.finish(&sums.between(first..first + KEYS))?;
            tables[*model].push((part.clone(), summary.table));
            for remark in summary.remarks.into_iter().filter(|remark| !remark.starts_with("resolution is")) {
                let remark = if remark.contains(" row") { format!("{}: {remark}", self.models[*model]) } else { remark };
                if !remarks.contains(&remark) {
                    remarks.push(remark);
                }
            }
        }
        let cells = self.binning.cells();
        let cells: Vec<Option<&Cell>> = if self.binning.is_empty() { vec![None] } else { cells.iter().map(Some).collect() };
        let mut rows = Vec::new();
        for (model, parts) in tables.iter().enumerate() {
            for (group, cell) in (0..self.groups.len()).flat_map(|group| cells.iter().map(move |cell| (group, *cell))) {
                let spot = self.spot(group, cell);
                let entries = self.metrics.iter().map(|metric| metric.entry(model, &spot, parts)).collect();
                rows.push(Row { model, group, cell, entries, reason: reason(parts, &spot) });
            }
        }
        rows.sort_by(|a, b| {
            let orders = self.sort.iter().map(|(metric, down)| a.entries[*metric].compare(&b.entries[*metric], *down));
            orders.fold(Ordering::Equal, Ordering::then)
        });
        let bare = self.metrics.iter().filter(|metric| metric.climbs() && !metric.error);
        let bare: Vec<&str> = bare.map(|metric| metric.name.as_str()).collect();
        if !bare.is_empty() {
            remarks.push(format!("without replicas (`bootstrap: 100`) there are no errors of {}", bare.join(", ")));
        }
        Ok(Summary {
            table: self.table(&rows)?,
            histograms: Vec::new(),
            figures: Vec::new(),
            highlights: self.highlights(&rows),
            remarks,
        })
    }
}

impl Scanning {
    /// How the tables of parts tell a group and a bin apart.
    fn spot(&self, group: usize, cell: Option<&Cell>) -> Spot {
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
        Spot { name: self.groups.label(group, "all"), texts, edges }
    }

    fn table(&self, rows: &[Row<'_>]) -> anyhow::Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &self.models[row.model])))];
        columns.extend(self.groups.arrays(rows.iter().map(|row| row.group)));
        columns.extend(self.binning.arrays(rows.iter().map(|row| row.cell)));
        for (number, metric) in self.metrics.iter().enumerate() {
            let entries = || rows.iter().map(|row| &row.entries[number]);
            if *self.schema.field_with_name(&metric.name)?.data_type() == DataType::Utf8 {
                columns.push(Arc::new(entries().map(Entry::text).collect::<StringArray>()));
                continue;
            }
            columns.push(Arc::new(entries().map(Entry::number).collect::<Float64Array>()));
            if metric.error {
                columns.push(Arc::new(entries().map(|entry| entry.error).collect::<Float64Array>()));
            }
            if metric.climbs() {
                columns.push(Arc::new(entries().map(|entry| entry.ladder_error).collect::<Float64Array>()));
            }
        }
        columns.push(Arc::new(rows.iter().map(|row| row.reason.as_deref()).collect::<StringArray>()));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn highlights(&self, rows: &[Row<'_>]) -> Vec<Vec<String>> {
        let header = ["model"].into_iter().chain(self.groups.columns()).map(str::to_owned).chain(self.binning.names());
        let header = header.chain(self.metrics.iter().map(|metric| metric.name.clone())).collect();
        let shown = |(entry, metric): (&Entry, &Metric)| match (entry.number(), &metric.of) {
            (Some(number), Of::Values(_)) => words::plain(number),
            (Some(number), _) => words::with_error(number, entry.error.unwrap_or(f64::NAN)),
            (None, _) => entry.text().unwrap_or_else(|| "-".into()),
        };
        let bin = |cell: Option<&Cell>| match (cell, self.binning.columns.first()) {
            (Some(cell), Some(binned)) => Some(match binned.axis.names() {
                Some(names) => names[cell.category(0)].clone(),
                None => format!("{} to {}", words::plain(cell.edges[0].0), words::plain(cell.edges[0].1)),
            }),
            _ => None,
        };
        let line = |row: &Row<'_>| {
            let named = [self.models[row.model].as_str()].into_iter().chain(self.groups.values(row.group));
            let named = named.map(str::to_owned).chain(bin(row.cell));
            named.chain(row.entries.iter().zip(&self.metrics).map(shown)).collect()
        };
        [header].into_iter().chain(rows.iter().map(line)).collect()
    }
}
