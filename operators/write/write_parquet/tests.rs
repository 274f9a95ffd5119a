use super::*;
use crate::hits::{HitsBuilder, dense_field, hits_field};
use crate::work::{Runtime, Worker};
use crate::{Place, Reads, Unit};
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float32Type, SchemaRef};
use oracle::python;
use proptest::prelude::*;
use std::path::Path;
use tempfile::TempDir;

/// Events of two samples with hits, a dense image, a number and a name; the same for the same `rows`.
pub(crate) fn events(rows: usize) -> RecordBatch {
    let samples = ["electron".to_owned(), "pion".to_owned()];
    let images = [Field::new("energy", DataType::Float32, false)];
    let (ecal, wave) = (hits_field("ecal", &[5, 5, 5], &images), dense_field("wave", &[2, 3], DataType::Float32));
    let mut hits = HitsBuilder::<Float32Type>::default();
    let noise = |row: usize, cell: usize| (row * 7919 + cell * 104_729) % 1009;
    for row in 0..rows {
        let cell = |cell| if noise(row, cell) < 200 { noise(row, cell) as f32 / 8.0 - 1.0 } else { 0.0 };
        hits.push_dense(&(0..125).map(cell).collect::<Vec<f32>>());
        hits.end_event();
    }
    let values = Float32Array::from_iter_values((0..rows * 6).map(|i| i as f32 / 3.0));
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(hits.finish(&ecal).unwrap()),
        Arc::new(FixedSizeListArray::new(item, 6, Arc::new(values), None)),
        Arc::new(Float32Array::from_iter_values((0..rows).map(|row| noise(row, 3) as f32))),
        Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("event {row}")))),
    ];
    let energy = column::with_unit(Field::new("energy", DataType::Float32, false), Some("GeV"));
    let mut fields = vec![ecal, wave, energy, Field::new("name", DataType::Utf8, false)];
    fields.extend(column::provenance_fields(true));
    let schema = Arc::new(column::with_samples(Schema::new(fields), &samples));
    // The second sample comes first, so that the class map and the order of appearance differ.
    let halves = [(1, rows / 2), (0, rows - rows / 2)].map(|(sample, rows)| {
        let (step, path) = (String::new(), String::new());
        let unit = Unit {
            step,
            alone: false,
            sample: Some(samples[sample].clone()),
            path,
            fingerprint: format!("f{sample}"),
            first: 0,
            rows: rows as u64,
            file: sample as u32,
            row_bytes: 1,
        };
        let columns = column::provenance(&samples, &unit, 0, rows);
        RecordBatch::try_new(Arc::new(Schema::new(column::provenance_fields(true))), columns).unwrap()
    });
    columns.extend(column::concat(&halves[0].schema(), &halves).unwrap().columns().iter().cloned());
    RecordBatch::try_new(schema, columns).unwrap()
}

/// The output of a step that gives such rows.
pub(crate) fn output(schema: SchemaRef) -> Output {
    Output { name: String::new(), schema, table: false, rows: None, row_bytes: 1000 }
}

/// Writes rows as a part, in batches of these lengths; the file's path.
pub(crate) fn write(with: &WriteParquet, rows: &RecordBatch, batches: &[usize], into: &Path) -> PathBuf {
    let runtime = Runtime::default();
    let inputs = [output(rows.schema())];
    let facts = Facts::default();
    with.plan(&facts, &inputs).unwrap();
    let start = Start { worker: Worker { index: 0, peers: 1 }, facts: &facts, inputs: &inputs, outputs: &[], runtime: &runtime };
    let Work::Sink(mut sink) = with.start(&start).unwrap() else { panic!("a sink") };
    sink.begin(&Part { number: 1, number_in_sample: 1, sample: None, staging: into }).unwrap();
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
    assert_eq!(staged.len(), 1);
    assert_eq!((staged[0].name.as_str(), staged[0].rows), ("part-00001.parquet", rows.num_rows() as u64));
    staged[0].path.clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_bytes_depend_on_the_rows_alone(
        rows in 1usize..1500,
        batches in prop::collection::vec(1usize..700, 1..6),
        lz4 in any::<bool>(),
        row_group in prop::option::of(1u64..400),
    ) {
        let folder = TempDir::new().unwrap();
        let rows = events(rows);
        let compression = if lz4 { Compression::Lz4 } else { Compression::Zstd };
        let with = WriteParquet { compression, row_group: row_group.map(Placed::unplaced), ..WriteParquet::default() };
        let whole = std::fs::read(write(&with, &rows, &[rows.num_rows()], folder.path())).unwrap();
        let pieces = std::fs::read(write(&with, &rows, &batches, folder.path())).unwrap();
        prop_assert!(whole == pieces, "{} and {} bytes", whole.len(), pieces.len());
    }
}

#[test]
fn row_groups_end_by_bytes_whatever_the_batches() {
    let folder = TempDir::new().unwrap();
    let one = events(3000);
    let rows = concat_batches(&one.schema(), &vec![one; 80]).unwrap();
    let with = WriteParquet::default();
    let path = write(&with, &rows, &[rows.num_rows()], folder.path());
    let whole = std::fs::read(&path).unwrap();
    let metadata =
        parquet::arrow::arrow_reader::ArrowReaderMetadata::load(&File::open(&path).unwrap(), Default::default()).unwrap();
    let groups: Vec<i64> =
        metadata.metadata().row_groups().iter().map(parquet::file::metadata::RowGroupMetaData::num_rows).collect();
    assert!(groups.len() > 1, "{groups:?}");
    assert_eq!(groups.iter().sum::<i64>(), 240_000);
    assert!(std::fs::read(write(&with, &rows, &[1013, 77, 4999], folder.path())).unwrap() == whole);
}

#[test]
fn python_reads_the_same_values() {
    let folder = TempDir::new().unwrap();
    let rows = events(300);
    // awkward 2.14 reads no tensors, so it gets a file without the dense column.
    let columns = ["ecal", "energy", "name"].map(|name| Placed::unplaced(name.to_owned()));
    let jagged =
        write(&WriteParquet { columns: Some(columns.to_vec()), ..WriteParquet::default() }, &rows, &[100], folder.path());
    std::fs::rename(jagged, folder.path().join("jagged.parquet")).unwrap();
    let path = write(&WriteParquet::default(), &rows, &[100], folder.path());
    let said = python(
        r#"
import sys, json, numpy, awkward, pyarrow.parquet
table = pyarrow.parquet.read_table(sys.argv[1])
array = awkward.from_parquet(sys.argv[2])
noise = lambda row, cell: (row * 7919 + cell * 104729) % 1009
row, cell = numpy.meshgrid(numpy.arange(300), numpy.arange(125), indexing="ij")
dense = numpy.where(noise(row, cell) < 200, noise(row, cell) / 8 - 1, 0).astype("f4")
ecal = array.ecal
back = numpy.zeros((300, 125), "f4")
back[numpy.repeat(numpy.arange(300), awkward.num(ecal)), awkward.to_numpy(awkward.flatten(ecal.cell))] = awkward.to_numpy(awkward.flatten(ecal.energy))
assert (back == dense).all()
print(ecal.type)
assert awkward.to_list(array.sample[:1]) == ["pion"] and (awkward.to_numpy(array.energy) == table["energy"].to_numpy()).all()
wave = table["wave"]
print(wave.type)
assert (wave.combine_chunks().to_numpy_ndarray() == (numpy.arange(1800, dtype="f4") / numpy.float32(3)).reshape(300, 2, 3)).all()
print(table["sample"].type, table["sample"][0], table["sample"][299])
print(table.schema.metadata[b"calostream.samples"].decode(), table.schema.field("energy").metadata[b"unit"].decode())
footer = pyarrow.parquet.ParquetFile(sys.argv[1])
print(footer.metadata.created_by, sorted(k.decode() for k in footer.metadata.metadata))
group = footer.metadata.row_group(0)
for i in range(group.num_columns):
    column = group.column(i)
    if column.path_in_schema in ("ecal.list.item.cell", "ecal.list.item.energy", "sample"):
        print(column.path_in_schema, column.compression, [e for e in column.encodings if e != "RLE"])
assert table["event"].to_numpy().dtype == numpy.uint64 and len(set(table["event"].to_pylist())) == 300
"#,
        &[&path, &folder.path().join("jagged.parquet")],
    );
    let expected = r#"300 * var * {cell: uint16, energy: float32}
extension<arrow.fixed_shape_tensor[value_type=float, shape=[2,3]]>
string pion electron
["electron","pion"] GeV
calostream ['ARROW:schema', 'calostream.samples']
ecal.list.item.cell ZSTD ['DELTA_BINARY_PACKED']
ecal.list.item.energy ZSTD ['BYTE_STREAM_SPLIT']
sample ZSTD ['PLAIN', 'RLE_DICTIONARY']
"#;
    assert_eq!(said, expected);
}

#[test]
fn chosen_columns_keep_where_a_row_came_from() {
    let with = WriteParquet { columns: Some(vec![Placed::unplaced("energy".into())]), ..WriteParquet::default() };
    let planned = with.plan(&Facts::default(), &[output(events(1).schema())]).unwrap();
    assert_eq!(planned.reads, [Reads::columns(["energy", "event", "file", "row", "sample"])]);
    let folder = TempDir::new().unwrap();
    let path = write(&with, &events(10), &[10], folder.path());
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let names: Vec<String> = reader.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["energy", "sample", "file", "row", "event"]);
}

#[test]
fn mistakes_are_told_all_at_once() {
    let place = |line| Place { line, column: 1 };
    let with = WriteParquet {
        level: Some(Placed { value: 40, place: place(2) }),
        row_group: Some(Placed { value: 0, place: place(3) }),
        columns: Some(vec![Placed { value: "energi".into(), place: place(4) }]),
        ..WriteParquet::default()
    };
    let problems = with.plan(&Facts::default(), &[output(events(1).schema())]).unwrap_err();
    let mut said: Vec<(u32, &str)> = problems.iter().map(|p| (p.place.line, p.what.as_str())).collect();
    said.sort_unstable();
    assert_eq!(said, [(2, "zstd has no level 40"), (3, "a row group has at least one row"), (4, "no column `energi`")]);
    let table = Output { table: true, ..output(events(1).schema()) };
    let problems = WriteParquet::default().plan(&Facts::default(), &[table]).unwrap_err();
    assert!(problems[0].help.as_ref().unwrap().contains("leave this step out"), "{problems:?}");
}

#[test]
fn images_are_written_as_hits_as_tensors_or_as_both() {
    let (folder, rows) = (TempDir::new().unwrap(), events(300));
    let mut paths = Vec::new();
    for (name, images) in [("hits", Images::Hits), ("dense", Images::Dense), ("both", Images::Both)] {
        let columns = ["ecal", "energy"].map(|name| Placed::unplaced(name.to_owned()));
        let with = WriteParquet { columns: Some(columns.to_vec()), images: Placed::unplaced(images), ..WriteParquet::default() };
        paths.push(folder.path().join(name));
        std::fs::rename(write(&with, &rows, &[77], folder.path()), paths.last().unwrap()).unwrap();
    }
    let said = python(
        r#"
import sys, numpy, pyarrow.parquet, polars, duckdb
hits, dense, both = (pyarrow.parquet.read_table(path) for path in sys.argv[1:])
for table in (hits, dense, both):
    print([name for name in table.column_names if name not in ("sample", "file", "row", "event")])
image = dense["ecal"].combine_chunks().to_numpy_ndarray()
assert image.shape == (300, 5, 5, 5) and (both["ecal_dense"].combine_chunks().to_numpy_ndarray() == image).all()
assert both["ecal"] == hits["ecal"]
for i, row in enumerate(hits["ecal"].to_pylist()):
    back = numpy.zeros(125, "f4")
    for hit in row:
        back[hit["cell"]] = hit["energy"]
    assert (back == image[i].ravel()).all()
group = pyarrow.parquet.ParquetFile(sys.argv[1]).metadata.row_group(0)
indexed = {group.column(i).path_in_schema: group.column(i).has_column_index for i in range(group.num_columns)}
assert indexed["energy"] and indexed["row"] and not indexed["ecal.list.item.energy"], indexed
assert polars.read_parquet(sys.argv[3])["ecal"].list.len().sum() == numpy.count_nonzero(image)
assert duckdb.sql(f"select sum(len(ecal)) from read_parquet('{sys.argv[1]}')").fetchall()[0][0] == numpy.count_nonzero(image)
"#,
        &paths.iter().map(PathBuf::as_path).collect::<Vec<_>>(),
    );
    assert_eq!(said, "['ecal', 'energy']\n['ecal', 'energy']\n['ecal', 'ecal_dense', 'energy']\n");
}
