//! Rows of one unit, batch by batch: only the columns that are asked for, each batch decoded when it is.
//!
//! The Parquet crate reports a failed disk and a broken file alike, and may panic on bytes that nobody wrote; so the file is
//! read through [`Input`], which remembers what the system said, and every call is [`caught`].

use super::caught::caught;
use super::layout::Layout;
use super::probe::{in_memory, leaf_bytes};
use crate::column::{self, SAMPLE};
use crate::hits::retyped;
use crate::work::{Batches, Source};
use crate::{Fault, Unit, meter};
use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int8Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int8Type, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes in memory that a batch is about.
const BATCH_BYTES: u64 = 8 << 20;
/// The most rows of a batch.
const BATCH_ROWS: u64 = 1 << 16;

/// A file, read by place. What the system said when a read failed is kept beside it.
#[derive(Clone)]
struct Input {
    file: Arc<File>,
    bytes: u64,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl Input {
    fn open(path: &str) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self { bytes: file.metadata()?.len(), file: Arc::new(file), failed: Arc::default() })
    }

    /// The file is wrong, or, where the system said so, the machine.
    fn fault(&self, path: &str, reason: &str) -> Fault {
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Fault::Machine(anyhow::Error::new(error).context(format!("can't read {path}"))),
            None => Fault::content(format!("{path} can't be decoded: {reason}")),
        }
    }

    fn kept(&self, error: io::Error) -> io::Error {
        if let Some(code) = error.raw_os_error() {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(io::Error::from_raw_os_error(code));
        }
        error
    }
}

/// A file, read from a place on.
struct Tail {
    input: Input,
    at: u64,
}

impl Read for Tail {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.file.read_at(into, self.at).map_err(|error| self.input.kept(error))?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Input {
    type T = BufReader<Tail>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(Tail { input: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.bytes) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} of {}", self.bytes)));
        }
        let mut bytes = vec![0; length];
        meter::reading(|| self.file.read_exact_at(&mut bytes, start)).map_err(|error| self.kept(error))?;
        Ok(bytes.into())
    }
}

/// Reads units.
pub(super) struct Reader {
    schema: SchemaRef,
    /// For each column its name in the file; none where it is made here.
    in_file: Vec<Option<String>>,
    samples: Vec<String>,
    open: Option<(String, Input, ArrowReaderMetadata)>,
}

impl Reader {
    /// A reader of the columns `asked`.
    pub(super) fn new(layout: &Layout, asked: &SchemaRef) -> Self {
        let in_file = asked.fields().iter().map(|f| layout.in_file(f.name()).map(str::to_owned)).collect();
        Self { schema: asked.clone(), in_file, samples: layout.samples().to_vec(), open: None }
    }

    fn open(&mut self, path: &str) -> Result<(Input, ArrowReaderMetadata), Fault> {
        if let Some((known, input, metadata)) = &self.open
            && known == path
        {
            return Ok((input.clone(), metadata.clone()));
        }
        let input =
            Input::open(path).map_err(|error| Fault::from(anyhow::Error::new(error).context(format!("can't open {path}"))))?;
        let metadata = caught(|| ArrowReaderMetadata::load(&input, ArrowReaderOptions::new()))
            .map_err(|reason| input.fault(path, &reason))?;
        self.open = Some((path.to_owned(), input.clone(), metadata.clone()));
        Ok((input, metadata))
    }
}

/// The row groups that are exactly the rows of a unit.
fn groups_of(unit: &Unit, metadata: &ArrowReaderMetadata) -> Option<Vec<usize>> {
    let (mut groups, mut at) = (Vec::new(), 0u64);
    for (number, group) in metadata.metadata().row_groups().iter().enumerate() {
        let end = at.checked_add(u64::try_from(group.num_rows()).ok()?)?;
        if at >= unit.first && end <= unit.first + unit.rows && end > at {
            groups.push(number);
        }
        at = end;
    }
    let rows = |n: &usize| metadata.metadata().row_group(*n).num_rows();
    (groups.iter().map(rows).sum::<i64>() == i64::try_from(unit.rows).ok()?).then_some(groups)
}

impl Source for Reader {
    fn read<'a>(&'a mut self, unit: &'a Unit) -> Result<Batches<'a>, Fault> {
        let (input, metadata) = self.open(&unit.path)?;
        let changed = || Fault::content(format!("{} is not the file that was planned", unit.path));
        let groups = groups_of(unit, &metadata).ok_or_else(changed)?;
        let roots = self.in_file.iter().flatten().map(|name| metadata.schema().index_of(name).map_err(|_| changed()));
        let roots = roots.collect::<Result<Vec<usize>, Fault>>()?;
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let widths = leaf_bytes(metadata.schema());
        let bytes = |group: &usize| in_memory(metadata.metadata().row_group(*group), &widths, |leaf| mask.leaf_included(leaf));
        let row_bytes = (groups.iter().map(bytes).sum::<u64>() / unit.rows.max(1)).max(1);
        let rows = (BATCH_BYTES / row_bytes).clamp(1, BATCH_ROWS);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(input.clone(), metadata)
            .with_row_groups(groups)
            .with_projection(mask)
            .with_batch_size(usize::try_from(rows)?);
        let rows = caught(|| builder.build()).map_err(|reason| input.fault(&unit.path, &reason))?;
        let classes = Arc::new(StringArray::from_iter_values(&self.samples));
        Ok(Box::new(Rows { reader: self, unit, input, rows, classes, next: unit.first, broken: false }))
    }
}

/// The batches of a unit that are still to come.
struct Rows<'a> {
    reader: &'a Reader,
    unit: &'a Unit,
    input: Input,
    rows: ParquetRecordBatchReader,
    classes: ArrayRef,
    next: u64,
    broken: bool,
}

impl Iterator for Rows<'_> {
    type Item = Result<RecordBatch, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let batch = match caught(|| self.rows.next().transpose()) {
            Ok(Some(batch)) => self.dress(&batch),
            Ok(None) if self.next == self.unit.first + self.unit.rows => return None,
            Ok(None) => Err(self.input.fault(&self.unit.path, "rows are missing")),
            Err(reason) => Err(self.input.fault(&self.unit.path, &reason)),
        };
        self.broken = batch.is_err();
        Some(batch)
    }
}

impl Rows<'_> {
    /// The columns that were asked for, in their order and of their types.
    fn dress(&mut self, batch: &RecordBatch) -> Result<RecordBatch, Fault> {
        let (unit, schema) = (self.unit, &self.reader.schema);
        let wrong = |reason: String| Fault::content(format!("{} can't be decoded: {reason}", unit.path));
        let (names, made) = if self.reader.in_file.iter().any(Option::is_none) {
            let made = column::provenance(&self.reader.samples, unit, self.next, batch.num_rows());
            (column::provenance_fields(unit.sample.is_some()), made)
        } else {
            Default::default()
        };
        let mut columns = Vec::with_capacity(self.reader.in_file.len());
        for (field, in_file) in schema.fields().iter().zip(&self.reader.in_file) {
            let column = match in_file {
                Some(name) => {
                    let column = batch.column_by_name(name).ok_or_else(|| wrong(format!("no column `{name}`")))?;
                    if field.name() == SAMPLE {
                        self.renumber(column).map_err(wrong)?
                    } else if column.data_type() == field.data_type() {
                        column.clone()
                    } else {
                        caught(|| retyped(column, field.data_type())).map_err(wrong)?
                    }
                }
                None => {
                    let number = names.iter().position(|f| f.name() == field.name());
                    let number =
                        number.ok_or_else(|| Fault::Machine(anyhow::anyhow!("nothing makes column `{}`", field.name())))?;
                    made[number].clone()
                }
            };
            columns.push(column);
        }
        self.next += batch.num_rows() as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|error| wrong(error.to_string()))
    }

    /// The samples by their numbers in the class map: a file lists only those that it has, in the order in which they come.
    fn renumber(&self, column: &ArrayRef) -> Result<ArrayRef, String> {
        let of = DataType::Dictionary(DataType::Int8.into(), DataType::Utf8.into());
        let column = caught(|| cast(column, &of))?;
        let column = column.as_dictionary::<Int8Type>();
        if column.null_count() > 0 {
            return Err("a row without a sample".into());
        }
        let mut numbers = Vec::new();
        for name in column.values().as_string::<i32>() {
            let number = name.and_then(|name| self.reader.samples.iter().position(|s| s == name));
            numbers.push(number.and_then(|n| i8::try_from(n).ok()));
        }
        let number = |key: &i8| usize::try_from(*key).ok().and_then(|key| numbers.get(key).copied().flatten());
        let keys: Option<Vec<i8>> = column.keys().values().iter().map(number).collect();
        let keys = keys.ok_or("a sample that is not in the file's class map")?;
        let numbered = DictionaryArray::<Int8Type>::try_new(Int8Array::from(keys), self.classes.clone());
        numbered.map(|array| Arc::new(array) as ArrayRef).map_err(|error| error.to_string())
    }
}
