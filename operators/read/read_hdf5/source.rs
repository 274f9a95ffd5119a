//! Reading the units of `read_hdf5`: batch by batch, only the columns that somebody wants or that are checked.
//!
//! Invariants: a batch is made in `next`; batches are cut at multiples of one step within a section of the file, so that they
//! are the same wherever a unit begins; each dataset is read once a batch, however many columns come from it. Rows that a
//! check cuts are counted.

use super::{BATCH_BYTES, MOST_PIECES, chunk_rows, make};
use crate::column::{provenance, provenance_fields};
use crate::facts::Found;
use crate::hdf5::element::Number;
use crate::hdf5::header::{Dataset, Header};
use crate::hdf5::images::{self, Refine};
use crate::hdf5::index::Kept;
use crate::hdf5::probe::probe_file;
use crate::hdf5::process::Reader;
use crate::hdf5::rows::{Opened, Rows};
use crate::npz;
use crate::schema::{Column, Lists, Make, Part, Resolved, SPLIT, Schema, Section, fit};
use crate::work::{Batches, Noticed, Source};
use crate::{Fault, Unit};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::buffer::MutableBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::NamedTempFile;

/// Reads units.
pub(super) struct Hdf5Source {
    pub layout: Schema,
    pub samples: Vec<String>,
    pub schema: SchemaRef,
    pub files: Vec<Found<Header>>,
    pub reader: Reader,
    /// Where long chunk indices are kept.
    pub chunks: Option<PathBuf>,
    pub noticed: Noticed,
    pub cut: u64,
    pub unpacked: Option<Unpacked>,
}

impl Source for Hdf5Source {
    fn read<'a>(&'a mut self, unit: &'a Unit) -> Result<Batches<'a>, Fault> {
        let in_one = |found: &Found<Header>| {
            let file = &found[found.binary_search_by(|file| file.path.cmp(&unit.path)).ok()?];
            Some((file.fingerprint.clone(), Arc::new(file.header.as_ref().ok()?.clone())))
        };
        let Some((fingerprint, header)) = self.files.iter().find_map(in_one) else {
            return Err(Fault::content(format!("{} was found once and is gone", unit.path)));
        };
        if fingerprint != unit.fingerprint {
            return Err(Fault::content(format!("{} has changed since its units were written down", unit.path)));
        }
        let fitted = fit(&self.layout, &header).map_err(|misfit| Fault::Content(misfit.wrong.join("; ")))?;
        let inside = |s: &Section| s.first <= unit.first && unit.first + unit.rows <= s.first + s.rows;
        let section = fitted.sections.into_iter().find(inside);
        let section = section.ok_or_else(|| Fault::content(format!("{} has not the rows of the plan", unit.path)))?;
        let (opened, header) = self.open(unit, header, &section)?;
        let mut datasets: Vec<Rows> = Vec::new();
        let mut columns = Vec::new();
        for (name, column, resolved) in section.columns {
            if !is_read(&self.schema, &name, &column) {
                continue;
            }
            let wanted = self.schema.field_with_name(&name).ok();
            for path in resolved.paths() {
                if !datasets.iter().any(|d| d.dataset().path == path) {
                    let dataset = header.dataset(path).ok_or_else(|| Fault::content(format!("no dataset `{path}`")))?;
                    let kept = self.chunks.as_deref().map(|folder| Kept { folder, fingerprint: &unit.fingerprint });
                    let rows = unit.first - section.first..unit.first - section.first + unit.rows;
                    datasets.push(Rows::of(dataset, &opened, &mut self.reader, kept, rows)?);
                }
            }
            // Planned, or read for its check alone.
            let Some(field) = wanted.or(resolved.field.as_ref()).cloned() else { continue };
            let first = resolved.paths().next().and_then(|path| datasets.iter().position(|d| d.dataset().path == path));
            columns.push(Wanted { name, column, resolved, field, dataset: first });
        }
        // Columns of one dataset stand together, so that its rows are kept no longer than they are needed.
        columns.sort_by_key(|c| c.dataset);
        // A column of one number may come from rows of many, which are read whole.
        let row: u64 = datasets.iter().map(|d| row_bytes(d.dataset(), opened.bytes)).sum();
        let chunk = chunk_rows(datasets.iter().map(Rows::dataset));
        let wanted = (BATCH_BYTES / row.max(1)).max(1);
        // Whole chunks, unless a chunk is much larger than a batch: then it is decoded once and given in pieces.
        let step = if wanted >= chunk {
            wanted / chunk * chunk
        } else if chunk <= MOST_PIECES * wanted {
            chunk
        } else {
            wanted
        };
        Ok(Box::new(Reading {
            unit,
            next: unit.first,
            step: step.min(1 << 20),
            chunk,
            section: (section.first, section.group),
            files: Files { opened, datasets, plain: None, reader: &mut self.reader },
            columns,
            samples: &self.samples,
            schema: &self.schema,
            noticed: &mut self.noticed,
            cut: &mut self.cut,
        }))
    }

    fn noticed(&mut self) -> Noticed {
        std::mem::take(&mut self.noticed)
    }

    fn cut(&mut self) -> u64 {
        std::mem::take(&mut self.cut)
    }
}

/// Bytes of a row in memory; of texts and lists what the size of the file allows for.
fn row_bytes(dataset: &Dataset, bytes: u64) -> u64 {
    let fixed = dataset.row_elements().saturating_mul(dataset.element.bytes());
    if dataset.element.is_fixed() {
        return fixed;
    }
    fixed.max(bytes.saturating_add(dataset.elsewhere) / dataset.rows().unwrap_or(1).max(1))
}

/// True for a column that somebody wants, or that is checked.
fn is_read(schema: &SchemaRef, name: &str, column: &Column) -> bool {
    column.check.is_some() || schema.field_with_name(name).is_ok()
}

impl Hdf5Source {
    /// The file of a unit; for an archive whose arrays are packed, a temporary file that holds those that are read.
    fn open(&mut self, unit: &Unit, header: Arc<Header>, section: &Section) -> Result<(Opened, Arc<Header>), Fault> {
        let opened = Opened::open(&unit.path)?;
        // Written to since it was planned: what is known of it counts if it is the same content all the same.
        if header.stamp.is_some_and(|stamp| stamp != opened.stamp)
            && probe_file(&unit.path, &mut self.reader)?.fingerprint != unit.fingerprint
        {
            return Err(Fault::content(format!("{} has changed since it was planned", unit.path)));
        }
        if !npz::is_npz(&opened) {
            return Ok((opened, header));
        }
        if self.unpacked.as_ref().is_none_or(|u| u.fingerprint != unit.fingerprint) {
            self.unpacked = None;
            let read = section.columns.iter().filter(|(name, column, _)| is_read(&self.schema, name, column));
            let paths: Vec<&str> = read.flat_map(|(_, _, resolved)| resolved.paths()).collect();
            let (file, header) = npz::unpacked(&unit.path, &header, &paths)?;
            self.unpacked = Some(Unpacked { fingerprint: unit.fingerprint.clone(), file, header: Arc::new(header) });
        }
        let Some(Unpacked { file, header, .. }) = &self.unpacked else { return Ok((opened, header)) };
        match file.as_ref().map(|f| f.path().to_string_lossy()) {
            Some(path) => Ok((Opened::open(&path)?, header.clone())),
            None => Ok((opened, header.clone())),
        }
    }
}

/// What was unpacked of an archive, kept for its next unit.
pub(super) struct Unpacked {
    fingerprint: String,
    file: Option<NamedTempFile>,
    header: Arc<Header>,
}

/// A column that is read.
struct Wanted {
    name: String,
    column: Column,
    resolved: Resolved,
    field: Field,
    dataset: Option<usize>,
}

/// A unit being read.
struct Reading<'a> {
    unit: &'a Unit,
    next: u64,
    step: u64,
    /// Rows of a chunk of the largest image.
    chunk: u64,
    /// The first row of the section, and its group.
    section: (u64, Option<String>),
    files: Files<'a>,
    columns: Vec<Wanted>,
    samples: &'a [String],
    schema: &'a SchemaRef,
    noticed: &'a mut Noticed,
    cut: &'a mut u64,
}

/// The datasets of an open file, and the rows that were read last.
struct Files<'a> {
    opened: Opened,
    datasets: Vec<Rows>,
    plain: Option<(usize, u64, MutableBuffer)>,
    reader: &'a mut Reader,
}

impl Iterator for Reading<'_> {
    type Item = Result<RecordBatch, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.unit.first + self.unit.rows;
        if self.next >= end {
            return None;
        }
        // Cuts stand on multiples of the step, and between chunks that are larger, wherever the unit begins: of these one at a
        // time is in memory.
        let before = self.section.0;
        let multiple = |of: u64| before + ((self.next - before) / of + 1).saturating_mul(of);
        let to = multiple(self.step).min(if self.chunk > self.step { multiple(self.chunk) } else { end }).min(end);
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
        let mut made: HashMap<&str, ArrayRef> = HashMap::new();
        if let Some(group) = &self.section.1 {
            made.insert(SPLIT, Arc::new(StringArray::from(vec![group.as_str(); rows])));
        }
        made.extend(names.iter().map(|f| f.name().as_str()).zip(values));
        let mut keep = vec![true; rows];
        self.files.plain = None;
        for Wanted { name, column, resolved, field, .. } in &self.columns {
            let refine = Refine { threshold: column.threshold, drop_negative: column.drop_negative };
            let array = self.files.make(resolved, field, refine, (first - self.section.0, rows), self.noticed)?;
            if let Some(check) = column.check.as_ref().filter(|_| resolved.make != Make::Absent) {
                check.apply(name, &array, self.unit.sample.as_deref(), first, &mut keep, self.noticed)?;
            }
            made.insert(name, array);
        }
        let arrays = self.schema.fields().iter().map(|f| {
            let array = made.remove(f.name().as_str());
            array.ok_or_else(|| Fault::Machine(anyhow::anyhow!("the planned column `{}` is not in the schema", f.name())))
        });
        let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), arrays)?;
        let cut = keep.iter().filter(|k| !**k).count();
        if cut == 0 {
            return Ok(batch);
        }
        *self.cut += cut as u64;
        Ok(filter_record_batch(&batch, &BooleanArray::from(keep))?)
    }
}

impl Files<'_> {
    /// The numbers of a part, little-endian, one after the other.
    fn numbers(&mut self, part: &Part, first: u64, rows: usize) -> Result<(MutableBuffer, Number), Fault> {
        let number = self.dataset(&part.path)?;
        if self.datasets[number].by_library() || !part.plain {
            let (member, bytes) = (part.member.as_deref(), part.packed.row_bytes as u64);
            let values = self.reader.rows(&self.opened.path, &part.path, member, first, rows as u64, bytes)?;
            return Ok((part.packed.take(&values), part.packed.number));
        }
        let pick = part.pick;
        Ok((pick.take(self.plain(number, first, rows)?), pick.number))
    }

    /// The rows of a dataset as they stand in the file but for the filters.
    fn plain(&mut self, number: usize, first: u64, rows: usize) -> Result<&MutableBuffer, Fault> {
        if self.plain.as_ref().is_none_or(|(n, f, _)| (*n, *f) != (number, first)) {
            self.plain = None;
            self.plain = Some((number, first, self.datasets[number].plain(&self.opened, first, rows)?));
        }
        self.plain.as_ref().map(|(.., bytes)| bytes).ok_or_else(|| Fault::content("no rows"))
    }

    fn dataset(&self, path: &str) -> Result<usize, Fault> {
        let found = self.datasets.iter().position(|d| d.dataset().path == path);
        found.ok_or_else(|| Fault::content(format!("no dataset `{path}`")))
    }

    /// The texts or lists of rows: the bytes of each, and all the bytes.
    fn lists(&mut self, lists: &Lists, first: u64, rows: usize) -> Result<(Vec<usize>, Vec<u8>), Fault> {
        let (each, place) = lists.place;
        let member = lists.member.as_deref();
        let range = (first, rows as u64, each as u64);
        let (lengths, bytes) = self.reader.lists(&self.opened.path, &lists.path, member, range)?;
        if each == 1 {
            return Ok((lengths, bytes));
        }
        let (mut chosen, mut kept, mut at) = (Vec::with_capacity(rows), Vec::new(), 0);
        for (i, length) in lengths.into_iter().enumerate() {
            if i % each == place {
                chosen.push(length);
                kept.extend_from_slice(&bytes[at..at + length]);
            }
            at += length;
        }
        Ok((chosen, kept))
    }

    /// The array of a column.
    fn make(
        &mut self,
        resolved: &Resolved,
        field: &Field,
        refine: Refine,
        (first, rows): (u64, usize),
        noticed: &mut Noticed,
    ) -> Result<ArrayRef, Fault> {
        match &resolved.make {
            Make::Number(part) => {
                let (values, number) = self.numbers(part, first, rows)?;
                images::numbers(values, rows, number, field, noticed)
            }
            Make::Dense(part) => {
                let (values, number) = self.numbers(part, first, rows)?;
                images::dense(values, rows, part.pick.numbers(), number, field, noticed)
            }
            Make::Hits(part) => {
                let (cells, source) = (part.pick.numbers(), self.dataset(&part.path)?);
                if part.plain
                    && part.pick.is_whole()
                    && !self.datasets[source].by_library()
                    && let Some(runs) = self.datasets[source].runs(&self.opened, first, rows)?
                {
                    return images::hits_of_runs(&runs, cells, part.pick.number, field, refine, noticed);
                }
                let (values, number) = self.numbers(part, first, rows)?;
                images::hits_of_plain(&values, rows, cells, number, field, refine, noticed)
            }
            Make::Last(part, of) => {
                let to = make::record_fields(field)?[1].data_type();
                let (values, number) = self.numbers(part, first, rows)?;
                let all = make::cells(values, rows * part.pick.numbers(), number, to, field.name(), noticed)?;
                let values = (0..*of).map(|place| make::every(&all, *of, place)).collect::<Result<_, _>>()?;
                make::hits_of_values(values, part.pick.numbers() / of, field, refine, noticed)
            }
            Make::Each(parts) => {
                let cells = parts.first().map_or(0, |p| p.pick.numbers());
                let mut all = Vec::new();
                for (part, value) in parts.iter().zip(make::record_fields(field)?.iter().skip(1)) {
                    let (values, number) = self.numbers(part, first, rows)?;
                    all.push(make::cells(values, rows * cells, number, value.data_type(), value.name(), noticed)?);
                }
                make::hits_of_values(all, cells, field, refine, noticed)
            }
            Make::Named(part, values) => {
                let numbers = self.array(part, first, rows, noticed)?;
                make::named(&numbers, values, field, noticed)
            }
            Make::OneHot(part) => {
                let numbers = self.array(part, first, rows, noticed)?;
                make::one_hot(&numbers, rows, field, noticed)
            }
            Make::Numbers(part) => {
                let (values, number) = self.numbers(part, first, rows)?;
                make::lists(std::iter::repeat_n(part.pick.numbers(), rows), &values, number, field, noticed)
            }
            Make::Text(Lists { path, fixed: Some((row_bytes, start, bytes, pad)), .. })
                if !self.datasets[self.dataset(path)?].by_library() =>
            {
                let number = self.dataset(path)?;
                let plain = self.plain(number, first, rows)?;
                let texts = plain.chunks_exact((*row_bytes).max(1)).map(|row| pad.trim(&row[*start..*start + *bytes]));
                Ok(make::texts(texts, field.name(), noticed))
            }
            Make::Text(lists) => {
                let (lengths, bytes) = self.lists(lists, first, rows)?;
                let mut at = 0;
                let texts = lengths.iter().map(|length| {
                    at += length;
                    &bytes[at - length..at]
                });
                Ok(make::texts(texts, field.name(), noticed))
            }
            Make::List(lists, number) => {
                let (lengths, bytes) = self.lists(lists, first, rows)?;
                let number = Number { big_endian: false, plain: true, stored: number.bytes.into(), ..*number };
                let size = usize::from(number.bytes.max(1));
                make::lists(lengths.iter().map(|bytes| bytes / size), &bytes, number, field, noticed)
            }
            Make::Struct(members) => {
                let fields = make::record_fields(field)?;
                let each = members.iter().zip(fields).map(|(m, f)| self.make(m, f, refine, (first, rows), noticed));
                make::records(each.collect::<Result<_, _>>()?, fields)
            }
            Make::Structs(count, parts, valid) => {
                let each = parts.iter().zip(make::record_fields(field)?);
                let each = each.map(|(part, of)| self.typed(part, of, first, rows, noticed)).collect::<Result<_, _>>()?;
                let valid = valid.as_ref().map(|part| self.array(part, first, rows, noticed)).transpose()?;
                make::several(each, *count, rows, valid.as_ref(), field)
            }
            Make::Constant(value, place) => make::constant(value, *place, field, rows, noticed),
            Make::Absent => make::absent(field, rows),
        }
    }

    /// All numbers of a part as one array of the type that they have in the file.
    fn array(&mut self, part: &Part, first: u64, rows: usize, noticed: &mut Noticed) -> Result<ArrayRef, Fault> {
        let of: DataType = part.pick.number.arrow();
        self.typed(part, &Field::new(&part.path, of, false), first, rows, noticed)
    }

    fn typed(&mut self, part: &Part, field: &Field, first: u64, rows: usize, noticed: &mut Noticed) -> Result<ArrayRef, Fault> {
        let (values, number) = self.numbers(part, first, rows)?;
        images::numbers(values, rows * part.pick.numbers(), number, field, noticed)
    }
}
