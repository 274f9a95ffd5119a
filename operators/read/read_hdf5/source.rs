//! Reading the units of `read_hdf5`: batch by batch, only the columns that somebody wants.
//!
//! Invariants: a batch is made in `next`; batches are cut at multiples of one step within the file, so that they are the same
//! wherever a unit begins; each dataset is read once a batch, however many columns come from it.

use super::{BATCH_BYTES, chunk_rows};
use crate::column::{provenance, provenance_fields};
use crate::hdf5::header::Header;
use crate::hdf5::images::{self, Refine};
use crate::hdf5::process::Reader;
use crate::hdf5::rows::{Opened, Rows};
use crate::schema::{Column, ColumnKind, Resolved};
use crate::work::{Batches, Noticed, Source};
use crate::{Fault, Unit};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::MutableBuffer;
use arrow::datatypes::{Field, SchemaRef};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Reads units.
pub(super) struct Hdf5Source {
    pub columns: Vec<(String, Column)>,
    pub samples: Vec<String>,
    pub schema: SchemaRef,
    pub files: BTreeMap<String, (String, Arc<Header>)>,
    pub reader: Reader,
    pub noticed: Noticed,
}

impl Source for Hdf5Source {
    fn read<'a>(&'a mut self, unit: &'a Unit) -> Result<Batches<'a>, Fault> {
        let Some((fingerprint, header)) = self.files.get(&unit.path) else {
            return Err(Fault::content(format!("{} was found once and is gone", unit.path)));
        };
        if *fingerprint != unit.fingerprint {
            return Err(Fault::content(format!("{} has changed since its units were written down", unit.path)));
        }
        let header = header.clone();
        let opened = Opened::open(&unit.path)?;
        let mut datasets: Vec<Rows> = Vec::new();
        let mut columns = Vec::new();
        for (name, column) in &self.columns {
            let resolved = column.resolve(name, &header).map_err(Fault::Content)?;
            let dataset = header.dataset(column.path()).ok_or_else(|| Fault::content(format!("no dataset `{}`", column.path())))?;
            let known = datasets.iter().position(|d| d.dataset().path == dataset.path);
            let number = match known {
                Some(number) => number,
                None => {
                    datasets.push(Rows::new(dataset, &opened, &mut self.reader)?);
                    datasets.len() - 1
                }
            };
            columns.push(Wanted { name: name.clone(), column: column.clone(), dataset: number, resolved });
        }
        let dense: u64 = columns.iter().map(|c| c.resolved.pick.numbers() as u64 * u64::from(c.resolved.pick.number.bytes)).sum();
        let chunk = chunk_rows(datasets.iter().map(Rows::dataset));
        let wanted = (BATCH_BYTES / dense.max(1)).max(1);
        // Whole chunks, unless a chunk is much larger than a batch: then it is decoded once and given in pieces.
        let step = if wanted >= chunk { wanted / chunk * chunk } else if chunk <= 4 * wanted { chunk } else { wanted };
        Ok(Box::new(Reading {
            unit,
            next: unit.first,
            step: step.min(1 << 20),
            opened,
            datasets,
            columns,
            samples: &self.samples,
            schema: &self.schema,
            reader: &mut self.reader,
            noticed: &mut self.noticed,
        }))
    }

    fn noticed(&mut self) -> Noticed {
        std::mem::take(&mut self.noticed)
    }
}

/// A column that is read from a dataset.
struct Wanted {
    name: String,
    column: Column,
    dataset: usize,
    resolved: Resolved,
}

/// A unit being read.
struct Reading<'a> {
    unit: &'a Unit,
    next: u64,
    step: u64,
    opened: Opened,
    datasets: Vec<Rows>,
    columns: Vec<Wanted>,
    samples: &'a [String],
    schema: &'a SchemaRef,
    reader: &'a mut Reader,
    noticed: &'a mut Noticed,
}

impl Iterator for Reading<'_> {
    type Item = Result<RecordBatch, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.unit.first + self.unit.rows;
        if self.next >= end {
            return None;
        }
        // Cuts stand on multiples of the step, wherever the unit begins.
        let to = (self.next / self.step + 1).saturating_mul(self.step).min(end);
        let batch = self.batch(self.next, (to - self.next) as usize);
        // After an error there is nothing more to be had from this unit.
        self.next = if batch.is_ok() { to } else { end };
        Some(batch)
    }
}

impl Reading<'_> {
    fn batch(&mut self, first: u64, rows: usize) -> Result<RecordBatch, Fault> {
        let names = provenance_fields(self.unit.sample.is_some());
        let values = provenance(self.samples, self.unit, first, rows);
        let mut made: HashMap<String, ArrayRef> = names.iter().map(|f| f.name().clone()).zip(values).collect();
        for dataset in 0..self.datasets.len() {
            self.read_dataset(dataset, first, rows, &mut made)?;
        }
        let arrays = self.schema.fields().iter().map(|f| {
            made.remove(f.name()).ok_or_else(|| Fault::Machine(anyhow::anyhow!("the planned column `{}` is not in the schema", f.name())))
        });
        let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), arrays)?)
    }

    /// All columns of one dataset.
    fn read_dataset(&mut self, number: usize, first: u64, rows: usize, made: &mut HashMap<String, ArrayRef>) -> Result<(), Fault> {
        let source = &mut self.datasets[number];
        let mut plain = None;
        for Wanted { name, column, resolved, .. } in self.columns.iter().filter(|c| c.dataset == number) {
            let field = self.schema.field_with_name(name)?;
            let (pick, numbers) = (&resolved.pick, &resolved.numbers);
            let refine = Refine { threshold: column.threshold, drop_negative: column.drop_negative };
            let cells = pick.numbers();
            if source.by_library() || !numbers.number.plain {
                let packed = pick.packed(numbers);
                let path = source.dataset().path.clone();
                let member = column.member.as_deref();
                let values = self.reader.rows(&self.opened.path, &path, member, first, rows as u64, packed.row_bytes as u64)?;
                let values = packed.take(&values);
                made.insert(name.clone(), make(values, (rows, cells), resolved, field, refine, self.noticed)?);
                continue;
            }
            if resolved.kind == ColumnKind::Hits
                && pick.is_whole()
                && let Some(runs) = source.runs(&self.opened, first, rows)?
            {
                made.insert(name.clone(), images::hits_of_runs(&runs, cells, pick.number, field, refine, self.noticed)?);
                continue;
            }
            let bytes = match &plain {
                Some(bytes) => bytes,
                None => plain.insert(source.plain(&self.opened, first, rows)?),
            };
            made.insert(name.clone(), make(pick.take(bytes), (rows, cells), resolved, field, refine, self.noticed)?);
        }
        Ok(())
    }
}

fn make(
    values: MutableBuffer,
    (rows, cells): (usize, usize),
    resolved: &Resolved,
    field: &Field,
    refine: Refine,
    noticed: &mut Noticed,
) -> Result<ArrayRef, Fault> {
    let number = resolved.pick.number;
    match resolved.kind {
        ColumnKind::Number => images::numbers(values, rows, number, field, noticed),
        ColumnKind::Dense => images::dense(values, rows, cells, number, field, noticed),
        ColumnKind::Hits => images::hits_of_plain(&values, rows, cells, number, field, refine, noticed),
    }
}
