//! `write_parquet`: rows to Parquet parts that are byte-identical for the same rows.
//!
//! Hits are written as `List<Struct{cell, <value>...}>` with the cells delta-packed and the values split by byte, which
//! compresses as well as dense images do and is 3 to 5 times faster. The Arrow schema inside the file keeps shapes, units
//! and the class map; the class map is also plain key-value metadata, for readers that do not know Arrow.
//!
//! Numbers have bounds by page (the page index), so that a reader who wants events above an energy skips the others' pages.
//!
//! awkward 2.14 opens files of hits, but none that has a tensor among its columns; `columns:` makes it one without.
//!
//! Invariants: nothing in a part says when, where or by which version it was made; slices, pages and row groups end at rows
//! that depend on the rows alone (see [`crate::slices`]), never on how they came in batches.

use crate::column;
use crate::form::{Form, Images};
use crate::hits;
use crate::registry::Describe;
use crate::slices::{Slice, Slicer};
use crate::work::{Part, Sink, Staged};
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Shape, Start, Work};
use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Encoding, Type, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use schemars::JsonSchema;
use serde::Deserialize;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes in memory that are encoded at a time.
const SLICE_BYTES: u64 = 4 << 20;
/// Bytes in memory of a row group: some 160 MiB of dense images as hits.
const GROUP_BYTES: u64 = 32 << 20;
/// The most rows of a row group that the bytes don't end before.
const GROUP_ROWS: usize = 1 << 20;
/// Cells (or numbers) that the encoders are given at once: each step has its price, and hits are many.
const STEP: usize = 1 << 16;
/// The same in every part, because a version would make the bytes depend on it.
const CREATED_BY: &str = "calostream";

/// Writes rows to Parquet files: `part-00000.parquet` and so on in the step's folder.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteParquet {
    /// How the pages are compressed: `zstd` (the default), `lz4` (a quarter larger, a quarter faster) or `none`.
    #[serde(default)]
    pub compression: Compression,
    /// The level of zstd, 1 (the default, fast) to 22.
    #[serde(default)]
    pub level: Option<Placed<i32>>,
    /// Rows of a row group; by default as many as make 32 MiB in memory.
    #[serde(default)]
    pub row_group: Option<Placed<u64>>,
    /// The columns to write; by default all. The columns that say where a row came from are always written.
    #[serde(default)]
    pub columns: Option<Vec<Placed<String>>>,
    /// Images that are hits in memory: as `hits` (the default), as `dense` tensors, or as `both`.
    #[serde(default)]
    #[schemars(with = "Images")]
    pub images: Placed<Images>,
    /// Events of each file, the last one with the rest; for what a `premix` above gives. Left out, files are as large as is
    /// good for the run. Where a step in between cuts events, files have those of so many that are left.
    #[serde(default)]
    pub events_per_file: Option<Placed<u64>>,
}

/// How pages are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Zstandard.
    #[default]
    Zstd,
    /// LZ4 (raw).
    Lz4,
    /// Not at all.
    None,
}

impl Describe for WriteParquet {
    const ABOUT: &'static str = "Writes rows to Parquet files that pyarrow, awkward and polars open";
    const EXAMPLE: &'static str = "hits:\n  from: events\n  write_parquet: { compression: zstd }\n";
}

impl WriteParquet {
    fn form(&self, stream: &Schema) -> Result<Form, Vec<Problem>> {
        Form::new(stream, self.columns.as_deref(), self.images.clone())
    }

    fn properties(&self, schema: &Schema) -> anyhow::Result<WriterProperties> {
        let compression = match self.compression {
            Compression::Zstd => {
                parquet::basic::Compression::ZSTD(ZstdLevel::try_new(self.level.as_ref().map_or(1, |l| l.value))?)
            }
            Compression::Lz4 => parquet::basic::Compression::LZ4_RAW,
            Compression::None => parquet::basic::Compression::UNCOMPRESSED,
        };
        let rows = self.row_group.as_ref().map_or(GROUP_ROWS, |rows| usize::try_from(rows.value).unwrap_or(usize::MAX));
        let mut properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.into())
            .set_compression(compression)
            .set_write_batch_size(STEP)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_max_row_group_row_count(Some(rows))
            .set_key_value_metadata(Some(key_values(schema)));
        for leaf in ArrowSchemaConverter::new().convert(schema)?.columns() {
            properties = encode(properties, leaf);
        }
        Ok(properties.build())
    }
}

/// The schema's metadata for readers that do not decode the Arrow schema, in the order of the keys.
fn key_values(schema: &Schema) -> Vec<KeyValue> {
    let mut pairs: Vec<KeyValue> = schema.metadata().iter().map(|(k, v)| KeyValue::new(k.clone(), v.clone())).collect();
    pairs.sort_by(|a, b| a.key.cmp(&b.key));
    pairs
}

/// How a leaf is encoded, by what it holds.
fn encode(properties: WriterPropertiesBuilder, leaf: &parquet::schema::types::ColumnDescriptor) -> WriterPropertiesBuilder {
    let path = leaf.path().clone();
    let in_list = leaf.max_rep_level() > 0;
    let name = path.parts().last().map_or("", String::as_str);
    let encoding = match leaf.physical_type() {
        Type::FLOAT | Type::DOUBLE | Type::FIXED_LEN_BYTE_ARRAY => Some(Encoding::BYTE_STREAM_SPLIT),
        Type::INT32 | Type::INT64 if in_list && name == hits::CELL => Some(Encoding::DELTA_BINARY_PACKED),
        Type::INT64 if !in_list && name == column::ROW => Some(Encoding::DELTA_BINARY_PACKED),
        Type::INT64 if !in_list && name == column::EVENT => Some(Encoding::PLAIN),
        _ => None,
    };
    // Bounds of the cells of images tell a reader nothing and cost time.
    let statistics = if in_list { EnabledStatistics::None } else { EnabledStatistics::Page };
    let properties = properties.set_column_statistics_enabled(path.clone(), statistics);
    match encoding {
        Some(encoding) => properties.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding),
        None => properties,
    }
}

impl Operator for WriteParquet {
    fn plan(&self, _facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let [input] = inputs else {
            return Err(vec![problem(format!("`write_parquet` takes one input, not {}", inputs.len()))]);
        };
        if input.table {
            let what = "`write_parquet` writes a stream of rows, and this input is a table";
            return Err(vec![
                problem(what).help("leave this step out: each table is written to its own step's folder, as Parquet and CSV"),
            ]);
        }
        let mut problems = Vec::new();
        let form = self.form(&input.schema).map_err(|wrong| problems.extend(wrong)).ok();
        if let Some(level) = &self.level {
            if self.compression != Compression::Zstd {
                problems.push(Problem::at(level, "`level` is zstd's").help("leave it out, or say `compression: zstd`"));
            } else if ZstdLevel::try_new(level.value).is_err() || level.value < 1 {
                problems.push(Problem::at(level, format!("zstd has no level {}", level.value)).help("1 is fast, 22 is small"));
            }
        }
        if let Some(rows) = self.row_group.as_ref().filter(|rows| rows.value == 0) {
            problems.push(Problem::at(rows, "a row group has at least one row"));
        }
        let Some(form) = form.filter(|_| problems.is_empty()) else { return Err(problems) };
        let row = form.row_bytes(input.row_bytes);
        let group = self.row_group.as_ref().map_or(GROUP_BYTES, |rows| rows.value.saturating_mul(row));
        // A group compressed, the batch of which the last rows wait, those rows in one piece and as they stand in the file, and
        // the pages being made.
        let slice = SLICE_BYTES.max(input.row_bytes);
        let holds = group.saturating_add(4 * slice.saturating_mul(row / input.row_bytes.max(1) + 1));
        Planned::new(Shape::Sink, Vec::new())
            .reading(form.reads(self.columns.is_none()))
            .holding(holds)
            .in_parts_of(self.events_per_file.as_ref())
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let input = at.inputs.first().context("one input")?;
        let form = self.form(&input.schema).map_err(|wrong| anyhow::anyhow!("`write_parquet` was not planned: {wrong:?}"))?;
        let properties = self.properties(&form.in_file)?;
        Ok(Work::Sink(Box::new(Writer { form: Arc::new(form), properties, by_bytes: self.row_group.is_none(), part: None })))
    }
}

fn problem(what: impl Into<String>) -> Problem {
    Problem { place: crate::Place::default(), what: what.into(), help: None }
}

struct Writer {
    form: Arc<Form>,
    properties: WriterProperties,
    by_bytes: bool,
    part: Option<Open>,
}

/// The part that is being written.
struct Open {
    path: PathBuf,
    name: String,
    slicer: Slicer,
    form: Arc<Form>,
    file: ArrowWriter<File>,
    group_bytes: u64,
    rows: u64,
}

impl Open {
    fn encode(&mut self, slice: &Slice, by_bytes: bool) -> anyhow::Result<()> {
        self.file.write(&self.form.of(&slice.rows)?)?;
        self.rows += slice.rows.num_rows() as u64;
        self.group_bytes += slice.bytes;
        if by_bytes && self.group_bytes >= GROUP_BYTES {
            self.file.flush()?;
            self.group_bytes = 0;
        }
        Ok(())
    }
}

impl Writer {
    fn open(&mut self) -> Result<&mut Open, Fault> {
        self.part.as_mut().ok_or_else(|| Fault::Machine(anyhow::anyhow!("no part was begun")))
    }
}

impl Sink for Writer {
    fn begin(&mut self, part: &Part<'_>) -> Result<(), Fault> {
        let name = format!("part-{:05}.parquet", part.number);
        let path = part.staging.join(&name);
        let file = File::create(&path).with_context(|| format!("can't write {}", path.display()))?;
        let file = ArrowWriter::try_new(file, self.form.in_file.clone(), Some(self.properties.clone()))?;
        let slicer = Slicer::new(self.form.stream.clone(), SLICE_BYTES, 1 << 16);
        self.part = Some(Open { path, name, slicer, form: self.form.clone(), file, group_bytes: 0, rows: 0 });
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), Fault> {
        let (by_bytes, rows) = (self.by_bytes, self.form.read(batch)?);
        let open = self.open()?;
        for slice in open.slicer.push(&rows)? {
            open.encode(&slice, by_bytes)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Staged>, Fault> {
        let by_bytes = self.by_bytes;
        let open = self.open()?;
        if let Some(slice) = open.slicer.rest()? {
            open.encode(&slice, by_bytes)?;
        }
        open.file.finish()?;
        open.file.inner().sync_all()?;
        let staged = Staged { path: open.path.clone(), name: open.name.clone(), rows: open.rows };
        self.part = None;
        Ok(vec![staged])
    }

    fn abandon(&mut self) {
        self.part = None;
    }
}

#[cfg(test)]
pub(crate) mod tests;
