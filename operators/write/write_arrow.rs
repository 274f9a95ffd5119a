//! `write_arrow`: rows to Arrow IPC files that are byte-identical for the same rows.
//!
//! The file is what is in memory: pyarrow and polars map it and have every column at once, several times as fast as from
//! Parquet and about as many times larger. Invariants as of [`super::write_parquet`].

use crate::form::{Form, Images};
use crate::registry::Describe;
use crate::slices::Slicer;
use crate::work::{Part, Sink, Staged};
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Shape, Start, Work};
use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use schemars::JsonSchema;
use serde::Deserialize;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes in memory of a record batch in the file.
const SLICE_BYTES: u64 = 16 << 20;

/// Writes rows to Arrow IPC files: `part-00001.arrow` and so on in the step's folder.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteArrow {
    /// How buffers are compressed: `none` (the default: readers map the file), `lz4` or `zstd`.
    #[serde(default)]
    pub compression: Compression,
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

/// How buffers are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4 (frames).
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Describe for WriteArrow {
    const ABOUT: &'static str = "Writes rows to Arrow IPC files that pyarrow and polars map into memory";
    const EXAMPLE: &'static str = "hits:\n  from: events\n  write_arrow: { columns: [ecal, energy] }\n";
}

impl WriteArrow {
    fn form(&self, stream: &Schema) -> Result<Form, Vec<Problem>> {
        Form::new(stream, self.columns.as_deref(), self.images.clone())
    }
}

impl Operator for WriteArrow {
    fn plan(&self, _facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let [input] = inputs else {
            return Err(vec![Problem::at(&self.images, format!("`write_arrow` takes one input, not {}", inputs.len()))]);
        };
        if input.table {
            return Err(vec![
                Problem::at(&self.images, "`write_arrow` writes a stream of rows, and this input is a table")
                    .help("leave this step out: each table is written to its own step's folder, as Parquet and CSV"),
            ]);
        }
        let form = self.form(&input.schema)?;
        // The batch of which the last rows wait, those rows in one piece, as they stand in the file, and as bytes.
        let slice = SLICE_BYTES.max(input.row_bytes);
        let holds = slice.saturating_mul(2 + 2 * form.row_bytes(input.row_bytes) / input.row_bytes.max(1));
        Planned::new(Shape::Sink, Vec::new())
            .reading(form.reads(self.columns.is_none()))
            .holding(holds)
            .in_parts_of(self.events_per_file.as_ref())
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let input = at.inputs.first().context("one input")?;
        let form = self.form(&input.schema).map_err(|wrong| anyhow::anyhow!("`write_arrow` was not planned: {wrong:?}"))?;
        let compression = match self.compression {
            Compression::None => None,
            Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
            Compression::Zstd => Some(CompressionType::ZSTD),
        };
        let options = IpcWriteOptions::default().try_with_compression(compression)?;
        Ok(Work::Sink(Box::new(Writer { form: Arc::new(form), options, part: None })))
    }
}

struct Writer {
    form: Arc<Form>,
    options: IpcWriteOptions,
    part: Option<Open>,
}

/// The part that is being written.
struct Open {
    path: PathBuf,
    name: String,
    slicer: Slicer,
    file: FileWriter<File>,
    rows: u64,
}

impl Open {
    fn append(&mut self, form: &Form, rows: &RecordBatch) -> anyhow::Result<()> {
        self.file.write(&form.of(rows)?)?;
        self.rows += rows.num_rows() as u64;
        Ok(())
    }
}

impl Sink for Writer {
    fn begin(&mut self, part: &Part<'_>) -> Result<(), Fault> {
        let name = format!("part-{:05}.arrow", part.number);
        let path = part.staging.join(&name);
        let file = File::create(&path).with_context(|| format!("can't write {}", path.display()))?;
        let file = FileWriter::try_new_with_options(file, &self.form.in_file, self.options.clone())?;
        let slicer = Slicer::new(self.form.stream.clone(), SLICE_BYTES, 1 << 16);
        self.part = Some(Open { path, name, slicer, file, rows: 0 });
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), Fault> {
        let (form, rows) = (self.form.clone(), self.form.read(batch)?);
        let open = self.part.as_mut().context("no part was begun")?;
        for slice in open.slicer.push(&rows)? {
            open.append(&form, &slice.rows)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Staged>, Fault> {
        let mut open = self.part.take().context("no part was begun")?;
        if let Some(slice) = open.slicer.rest()? {
            open.append(&self.form, &slice.rows)?;
        }
        open.file.finish()?;
        open.file.get_ref().sync_all()?;
        Ok(vec![Staged { path: open.path, name: open.name, rows: open.rows }])
    }

    fn abandon(&mut self) {
        self.part = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::{Runtime, Worker};
    use crate::write::write_parquet::tests::{events, output};
    use oracle::python;
    use std::path::Path;

    fn write(with: &WriteArrow, rows: &RecordBatch, batches: &[usize], into: &Path) -> PathBuf {
        let (inputs, facts, runtime) = ([output(rows.schema())], Facts::default(), Runtime::default());
        with.plan(&facts, &inputs).unwrap();
        let start =
            Start { worker: Worker { index: 0, peers: 1 }, facts: &facts, inputs: &inputs, outputs: &[], runtime: &runtime };
        let Work::Sink(mut sink) = with.start(&start).unwrap() else { panic!("a sink") };
        sink.begin(&Part { number: 3, number_in_sample: 1, sample: None, staging: into }).unwrap();
        let mut at = 0;
        for length in batches.iter().cycle() {
            let length = (*length).min(rows.num_rows() - at);
            sink.write(&rows.slice(at, length)).unwrap();
            at += length;
            if at == rows.num_rows() {
                break;
            }
        }
        let staged = sink.finish().unwrap();
        assert_eq!((staged[0].name.as_str(), staged[0].rows), ("part-00003.arrow", rows.num_rows() as u64));
        staged[0].path.clone()
    }

    #[test]
    fn the_bytes_depend_on_the_rows_alone() {
        let (folder, rows) = (tempfile::tempdir().unwrap(), events(1700));
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let with = WriteArrow { compression, ..WriteArrow::default() };
            let whole = std::fs::read(write(&with, &rows, &[1700], folder.path())).unwrap();
            let pieces = std::fs::read(write(&with, &rows, &[1, 333, 70], folder.path())).unwrap();
            assert!(whole == pieces, "{compression:?}: {} and {} bytes", whole.len(), pieces.len());
        }
    }

    #[test]
    fn pyarrow_and_polars_read_hits_and_the_same_densely() {
        let (folder, rows) = (tempfile::tempdir().unwrap(), events(300));
        let with = WriteArrow { images: Placed::unplaced(Images::Both), compression: Compression::Lz4, ..WriteArrow::default() };
        let path = write(&with, &rows, &[100], folder.path());
        let script = "
import sys, numpy, pyarrow, polars
table = pyarrow.ipc.open_file(sys.argv[1]).read_all()
assert table.num_rows == 300, table.num_rows
noise = lambda row, cell: (row * 7919 + cell * 104729) % 1009
row, cell = numpy.meshgrid(numpy.arange(300), numpy.arange(125), indexing='ij')
dense = numpy.where(noise(row, cell) < 200, noise(row, cell) / 8 - 1, 0).astype('f4')
tensor = table['ecal_dense'].combine_chunks()
assert tensor.type.shape == [5, 5, 5], tensor.type
assert (tensor.to_numpy_ndarray().reshape(300, 125) == dense).all()
hits = table['ecal'].to_pylist()
assert all({h['cell']: h['energy'] for h in hits[i]} == {int(c): float(dense[i, c]) for c in numpy.nonzero(dense[i])[0]} for i in range(300))
frame = polars.read_ipc(sys.argv[1], columns=['energy', 'sample', 'ecal'])
assert frame.height == 300 and frame['ecal'].list.len().sum() == (dense != 0).sum()
print('equal')";
        assert_eq!(python(script, &[&path]), "equal\n");
    }
}
