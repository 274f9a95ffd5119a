//! A summary as files: its table as Parquet and CSV, its histograms as UHI JSON, its figures as SVG.
//!
//! Each file is written beside its place, fsynced and renamed, so that whoever looks sees the old one or the new one.

use anyhow::Context;
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use calostream_operators::statistics::figure::Summary;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Writes a summary into `folder/step`; the files that it made, in order.
///
/// The table is `<step>.parquet` and `<step>.csv`, each histogram `<name>.json`, each figure `<name>.svg`.
pub fn write_summary(folder: &Path, step: &str, summary: &Summary) -> anyhow::Result<Vec<PathBuf>> {
    let folder = folder.join(step);
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    let mut files = vec![(format!("{step}.parquet"), parquet(&summary.table)?), (format!("{step}.csv"), csv(&summary.table)?)];
    for (name, histogram) in &summary.histograms {
        files.push((format!("{}.json", file_name(name)), format!("{histogram:#}\n").into_bytes()));
    }
    for figure in &summary.figures {
        files.push((format!("{}.svg", file_name(&figure.name)), super::svg(figure, "frame").into_bytes()));
    }
    let mut paths = Vec::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        crate::files::write_whole(&path, &bytes)?;
        paths.push(path);
    }
    Ok(paths)
}

/// A name that is one word of a path.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' }).collect()
}

fn parquet(table: &RecordBatch) -> anyhow::Result<Vec<u8>> {
    let properties = WriterProperties::builder()
        .set_created_by("calostream".into())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, table.schema(), Some(properties))?;
    writer.write(table)?;
    writer.close()?;
    Ok(bytes)
}

fn csv(table: &RecordBatch) -> anyhow::Result<Vec<u8>> {
    let flat = |(field, column): (&Arc<Field>, &ArrayRef)| -> anyhow::Result<(Field, ArrayRef)> {
        let known = field.data_type().is_primitive()
            || matches!(field.data_type(), DataType::Utf8 | DataType::Boolean | DataType::Dictionary(..));
        if known {
            return Ok((field.as_ref().clone(), column.clone()));
        }
        let options = FormatOptions::default();
        let text = ArrayFormatter::try_new(column, &options)?;
        let texts: StringArray = (0..column.len()).map(|row| Some(text.value(row).to_string())).collect();
        Ok((Field::new(field.name(), DataType::Utf8, true), Arc::new(texts)))
    };
    let columns = table.schema_ref().fields().iter().zip(table.columns()).map(flat).collect::<Result<Vec<_>, _>>()?;
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let mut bytes = Vec::new();
    if !fields.is_empty() {
        arrow::csv::Writer::new(&mut bytes).write(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, ListArray};
    use arrow::datatypes::Int32Type;

    fn summary() -> Summary {
        let names: ArrayRef = Arc::new(StringArray::from(vec!["electron", "pion, charged"]));
        let lists: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), Some(2)]), Some(vec![])]));
        let table = RecordBatch::try_from_iter([
            ("sample", names),
            ("n", Arc::new(Int64Array::from(vec![3, 4])) as ArrayRef),
            ("mean", Arc::new(Float64Array::from(vec![0.1, f64::NAN])) as ArrayRef),
            ("edges", lists),
        ]);
        let histograms = vec![("a/b".to_owned(), serde_json::json!({ "uhi_schema": 1, "axes": [] }))];
        Summary { table: table.unwrap(), histograms, figures: Vec::new(), highlights: Vec::new(), remarks: Vec::new() }
    }

    #[test]
    fn a_summary_becomes_files_and_the_same_bytes_again() {
        let folder = tempfile::tempdir().unwrap();
        let paths = write_summary(folder.path(), "pulls", &summary()).unwrap();
        let names: Vec<_> = paths.iter().map(|p| p.strip_prefix(folder.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["pulls/pulls.parquet", "pulls/pulls.csv", "pulls/a_b.json"]);
        let read = |i: usize| std::fs::read(&paths[i]).unwrap();
        let csv = "sample,n,mean,edges\nelectron,3,0.1,\"[1, 2]\"\n\"pion, charged\",4,NaN,[]\n";
        assert_eq!(String::from_utf8(read(1)).unwrap(), csv);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&read(2)).unwrap(), summary().histograms[0].1);
        let first: Vec<_> = (0..3).map(read).collect();
        write_summary(folder.path(), "pulls", &summary()).unwrap();
        assert_eq!((0..3).map(read).collect::<Vec<_>>(), first);
        assert_eq!(std::fs::read_dir(folder.path().join("pulls")).unwrap().count(), 3, "nothing is left beside them");
        let mut back =
            parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(std::fs::File::open(&paths[0]).unwrap(), 10).unwrap();
        let back = back.next().unwrap().unwrap();
        assert_eq!(format!("{:?}", back.columns()), format!("{:?}", summary().table.columns()));
    }
}
