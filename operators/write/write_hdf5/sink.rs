//! The work: rows to chunks of all datasets, part by part; and, in the end, the parts to one file.

use super::WriteHdf5;
use super::classes::Classes;
use super::layout::{Content, Dataset};
use crate::hdf5::merge::merge;
use crate::hdf5::write::{Element, Spec, Values, Writer};
use crate::work::{Assembly, Part, Sink, Staged};
use crate::{Fault, column, hits};
use anyhow::Context;
use arrow::array::RecordBatch;
use std::path::PathBuf;

/// The sink: one file at a time.
pub struct Files {
    /// As they were typed.
    pub parameters: WriteHdf5,
    /// What a file holds.
    pub datasets: Vec<Dataset>,
    /// The class map, where the file has one.
    pub classes: Option<Classes>,
    /// The file under way.
    pub open: Option<OpenFile>,
}

/// A file under way.
pub struct OpenFile {
    name: String,
    path: PathBuf,
    rows: u64,
    writer: Writer,
    /// A chunk under way of each dataset.
    pending: Vec<Pending>,
    /// Rows in it.
    filled: usize,
}

/// The values of a chunk, room for all of its rows.
enum Pending {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
}

impl Pending {
    fn new(spec: &Spec, rows: usize) -> Self {
        let cells = rows * spec.shape.iter().product::<usize>();
        match spec.element {
            Element::F32 => Self::F32(vec![0.0; cells]),
            Element::F64 => Self::F64(vec![0.0; cells]),
            Element::I64 => Self::I64(vec![0; cells]),
        }
    }

    fn first(&self, values: usize) -> Values<'_> {
        match self {
            Self::F32(v) => Values::F32(&v[..values]),
            Self::F64(v) => Values::F64(&v[..values]),
            Self::I64(v) => Values::I64(&v[..values]),
        }
    }
}

impl OpenFile {
    /// Copies rows `first..first + rows` of the batch, of these classes, behind those that are pending.
    fn fill(
        &mut self,
        datasets: &[Dataset],
        (batch, classes): (&RecordBatch, &[usize]),
        first: usize,
        rows: usize,
    ) -> anyhow::Result<()> {
        for (dataset, pending) in datasets.iter().zip(&mut self.pending) {
            let row: usize = dataset.spec.shape.iter().product();
            let target = self.filled * row..(self.filled + rows) * row;
            let of_rows = || classes.get(first..first + rows).context("rows without classes");
            match (&dataset.content, pending) {
                (Content::Image(name, value), Pending::F32(values)) => {
                    hits::to_dense(column::get(batch, name), row, *value, first, rows, &mut values[target])?;
                }
                (Content::Numbers(names), Pending::F64(values)) => {
                    for (place, name) in names.iter().enumerate() {
                        let numbers = column::numbers(batch, name)?;
                        for (to, from) in values[target.clone()].chunks_exact_mut(row).zip(&numbers[first..first + rows]) {
                            to[place] = *from;
                        }
                    }
                }
                (Content::OneHot, Pending::F32(values)) => {
                    for (to, class) in values[target].chunks_exact_mut(row).zip(of_rows()?) {
                        to.fill(0.0);
                        to[*class] = 1.0;
                    }
                }
                (Content::Index, Pending::I64(values)) => {
                    for (to, class) in values[target].iter_mut().zip(of_rows()?) {
                        *to = i64::try_from(*class)?;
                    }
                }
                _ => anyhow::bail!("dataset {} has another type than its columns", dataset.spec.name),
            }
        }
        self.filled += rows;
        self.rows += rows as u64;
        Ok(())
    }

    fn flush(&mut self, datasets: &[Dataset]) -> anyhow::Result<()> {
        if self.filled > 0 {
            for (k, (dataset, pending)) in datasets.iter().zip(&self.pending).enumerate() {
                let row: usize = dataset.spec.shape.iter().product();
                self.writer.append(k, self.filled, pending.first(self.filled * row))?;
            }
        }
        self.filled = 0;
        Ok(())
    }
}

impl Files {
    fn specs(&self) -> Vec<Spec> {
        self.datasets.iter().map(|d| d.spec.clone()).collect()
    }
}

impl Sink for Files {
    fn begin(&mut self, part: &Part<'_>) -> Result<(), Fault> {
        let name = self.parameters.part_name(part)?;
        let path = part.staging.join(&name);
        let chunks = self.parameters.chunks();
        let writer = Writer::create(&path, &self.specs(), chunks)?;
        let pending = self.datasets.iter().map(|d| Pending::new(&d.spec, chunks.rows)).collect();
        self.open = Some(OpenFile { name, path, rows: 0, writer, pending, filled: 0 });
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), Fault> {
        let open = self.open.as_mut().context("a batch came before its part")?;
        let classes = self.classes.as_ref().map_or_else(|| Ok(Vec::new()), |classes| classes.of(batch))?;
        let chunk = self.parameters.chunks().rows;
        let mut first = 0;
        while first < batch.num_rows() {
            let rows = (chunk - open.filled).min(batch.num_rows() - first);
            open.fill(&self.datasets, (batch, &classes), first, rows)?;
            first += rows;
            if open.filled == chunk {
                open.flush(&self.datasets)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Staged>, Fault> {
        let mut open = self.open.take().context("a part ended that had not begun")?;
        open.flush(&self.datasets)?;
        open.writer.finish()?;
        Ok(vec![Staged { path: open.path, name: open.name, rows: open.rows }])
    }

    fn abandon(&mut self) {
        if let Some(open) = self.open.take() {
            drop(open.writer);
            // Staged files that nobody commits are swept with their folder; one that is left behind does no harm.
            let _ = std::fs::remove_file(open.path);
        }
    }

    fn assemble(&mut self, all: &Assembly<'_>) -> Result<Vec<Staged>, Fault> {
        let Some(name) = &self.parameters.merged else { return Ok(Vec::new()) };
        let path = all.staging.join(&name.value);
        let rows = merge(all, &path, &self.specs(), self.parameters.chunks())?;
        Ok(vec![Staged { path, name: name.value.clone(), rows }])
    }
}
