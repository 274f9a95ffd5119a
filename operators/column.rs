//! Columns by name: what every row carries, how units are written down, and how a number is read from any numeric column.
//!
//! Four columns say where a row came from and travel with it wherever it goes; `select` keeps them:
//! `sample` (dictionary of the class names), `file` (number of the file in `units.jsonl`), `row` (row in that file) and
//! `event` (identity: hash of the file's content fingerprint and the row, from which every random key starts).

use crate::{Placed, Problem};
use arrow::array::{
    AnyDictionaryArray, Array, ArrayRef, AsArray, DictionaryArray, Int8Array, ListArray, RecordBatch, StringArray, StructArray,
    UInt32Array, UInt64Array,
};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int8Type, Schema, SchemaRef};
use std::collections::HashMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The class a row belongs to: a dictionary whose values are the schema's [`samples`].
pub const SAMPLE: &str = "sample";
/// The number of the file in `units.jsonl`.
pub const FILE: &str = "file";
/// The row in that file.
pub const ROW: &str = "row";
/// The identity of the event.
pub const EVENT: &str = "event";
/// How often the event stood in the order before: 0, or more where a mix repeats events.
pub const COPY: &str = "copy";
/// The columns that say where a row came from.
pub const PROVENANCE: [&str; 4] = [SAMPLE, FILE, ROW, EVENT];

const SAMPLES_KEY: &str = "calostream.samples";
const UNIT_KEY: &str = "unit";

/// The provenance fields; `sample` only where there are samples.
#[must_use]
pub fn provenance_fields(with_sample: bool) -> Vec<Field> {
    let mut fields = Vec::new();
    if with_sample {
        fields.push(Field::new(SAMPLE, DataType::Dictionary(DataType::Int8.into(), DataType::Utf8.into()), false));
    }
    fields.push(Field::new(FILE, DataType::UInt32, false));
    fields.push(Field::new(ROW, DataType::UInt64, false));
    fields.push(Field::new(EVENT, DataType::UInt64, false));
    fields
}

/// The provenance columns of `rows` rows from `first` on, in the order of [`provenance_fields`].
#[must_use]
pub fn provenance(samples: &[String], unit: &crate::Unit, first: u64, rows: usize) -> Vec<ArrayRef> {
    let mut columns: Vec<ArrayRef> = Vec::new();
    if let Some(sample) = &unit.sample {
        let index = samples.iter().position(|s| s == sample).unwrap_or_default();
        let keys = Int8Array::from(vec![i8::try_from(index).unwrap_or_default(); rows]);
        let values = Arc::new(StringArray::from_iter_values(samples));
        columns.push(Arc::new(DictionaryArray::<Int8Type>::new(keys, values)));
    }
    let range = first..first + rows as u64;
    columns.push(Arc::new(UInt32Array::from(vec![unit.file; rows])));
    columns.push(Arc::new(UInt64Array::from_iter_values(range.clone())));
    columns.push(Arc::new(UInt64Array::from_iter_values(range.map(|row| event_identity(&unit.fingerprint, row)))));
    columns
}

/// The identity of an event: hash(content fingerprint of its file, row).
#[must_use]
pub fn event_identity(fingerprint: &str, row: u64) -> u64 {
    xxh3_64_with_seed(fingerprint.as_bytes(), mix(row))
}

/// A key for an event: a hash of its identity under a seed and a purpose, uniform over `u64`.
#[must_use]
pub fn event_key(event: u64, seed: u64, purpose: &str) -> u64 {
    mix(event ^ xxh3_64_with_seed(purpose.as_bytes(), seed))
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014): a bijection of `u64` whose every output bit depends on every input bit.
#[must_use]
pub fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The batches in one. Arrow's own `concat_batches` would give the samples new numbers (or drop those that do not occur)
/// where two batches hold the same class map at different places in memory, as batches of two files do.
pub fn concat<'a>(schema: &SchemaRef, batches: impl IntoIterator<Item = &'a RecordBatch>) -> anyhow::Result<RecordBatch> {
    let batches = share_samples(batches)?;
    Ok(arrow::compute::concat_batches(schema, &batches)?)
}

/// The batches with one class map in memory, so that Arrow's kernels that join them (`concat`, `interleave`) keep the
/// samples' numbers; other dictionaries likewise, where they are equal. An error where the class maps differ.
pub fn share_samples<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> anyhow::Result<Vec<RecordBatch>> {
    let mut shared: HashMap<String, ArrayRef> = HashMap::new();
    let mut share = |batch: &RecordBatch| -> anyhow::Result<RecordBatch> {
        let mut columns = batch.columns().to_vec();
        let mut changed = false;
        for (field, column) in batch.schema_ref().fields().iter().zip(&mut columns) {
            let Some(dictionary) = column.as_any_dictionary_opt() else { continue };
            let Some(values) = shared.get(field.name()) else {
                shared.insert(field.name().clone(), dictionary.values().clone());
                continue;
            };
            if Arc::ptr_eq(values, dictionary.values()) {
                continue;
            }
            let equal = values == dictionary.values();
            anyhow::ensure!(equal || field.name() != SAMPLE, "batches of different class maps can't be joined");
            if equal {
                *column = dictionary.with_values(values.clone());
                changed = true;
            }
        }
        if changed { Ok(RecordBatch::try_new(batch.schema(), columns)?) } else { Ok(batch.clone()) }
    };
    batches.into_iter().map(&mut share).collect()
}

/// Rows of several batches (each as batch and row). The batches have one dictionary in memory for each column that has one
/// (see [`share_samples`]), which stays as it is: arrow's own `interleave` would put together as many of it as there are batches.
pub fn interleave(batches: &[&RecordBatch], rows: &[(usize, usize)]) -> anyhow::Result<Vec<ArrayRef>> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let column = |number: usize| -> anyhow::Result<ArrayRef> {
        let of_all = || batches.iter().map(|batch| batch.column(number));
        let Some(dictionary) = first.column(number).as_any_dictionary_opt() else {
            let arrays: Vec<&ArrayRef> = of_all().collect();
            return interleave_lists(&arrays, rows).unwrap_or_else(|| interleave_any(&arrays, rows));
        };
        let keys: Vec<&dyn Array> = of_all().filter_map(|c| c.as_any_dictionary_opt()).map(AnyDictionaryArray::keys).collect();
        let keys = arrow::compute::interleave(&keys, rows)?;
        let data = keys.to_data().into_builder().data_type(first.column(number).data_type().clone());
        Ok(arrow::array::make_array(data.child_data(vec![dictionary.values().to_data()]).build()?))
    };
    (0..first.num_columns()).map(column).collect()
}

fn interleave_any(arrays: &[&ArrayRef], rows: &[(usize, usize)]) -> anyhow::Result<ArrayRef> {
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    Ok(arrow::compute::interleave(&arrays, rows)?)
}

/// Rows of lists of structs, member by member: arrow copies lists of numbers row by row, and those of structs number by number.
/// None where these are no such lists, or where a struct may be null.
fn interleave_lists(arrays: &[&ArrayRef], rows: &[(usize, usize)]) -> Option<anyhow::Result<ArrayRef>> {
    let lists = arrays.iter().map(|array| array.as_list_opt::<i32>()).collect::<Option<Vec<_>>>()?;
    let whole = |list: &&ListArray| list.values().as_struct_opt().filter(|items| items.nulls().is_none()).cloned();
    let structs = lists.iter().map(whole).collect::<Option<Vec<_>>>()?;
    let DataType::List(item) = arrays.first()?.data_type() else { return None };
    let DataType::Struct(fields) = item.data_type() else { return None };
    let member = |number: usize| -> anyhow::Result<ArrayRef> {
        let of = |(list, items): (&&ListArray, &StructArray)| -> anyhow::Result<ArrayRef> {
            let (values, nulls) = (items.column(number).clone(), list.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(fields[number].clone(), list.offsets().clone(), values, nulls)?))
        };
        let members = lists.iter().zip(&structs).map(of).collect::<anyhow::Result<Vec<_>>>()?;
        interleave_any(&members.iter().collect::<Vec<_>>(), rows)
    };
    let join = || -> anyhow::Result<ArrayRef> {
        let members = (0..fields.len()).map(member).collect::<anyhow::Result<Vec<_>>>()?;
        let first = members.first().map(AsArray::as_list::<i32>).ok_or_else(|| anyhow::anyhow!("a struct without members"))?;
        let items = members.iter().map(|m| m.as_list::<i32>().values().clone()).collect();
        let items = StructArray::try_new(fields.clone(), items, None)?;
        let list = ListArray::try_new(item.clone(), first.offsets().clone(), Arc::new(items), first.nulls().cloned())?;
        Ok(Arc::new(list))
    };
    (!fields.is_empty()).then(join)
}

/// The same schema, knowing its samples (the class map: a sample's number is its place in the list).
#[must_use]
pub fn with_samples(schema: Schema, samples: &[String]) -> Schema {
    let mut metadata = schema.metadata.clone();
    metadata.insert(SAMPLES_KEY.into(), serde_json::Value::from(samples.to_vec()).to_string());
    schema.with_metadata(metadata)
}

/// The sample names that a schema knows, in the order of their numbers.
#[must_use]
pub fn samples(schema: &Schema) -> Vec<String> {
    schema.metadata.get(SAMPLES_KEY).and_then(|s| serde_json::from_str(s).ok()).unwrap_or_default()
}

/// The field with its unit (`GeV`, `mm`) written down.
#[must_use]
pub fn with_unit(field: Field, unit: Option<&str>) -> Field {
    let Some(unit) = unit else { return field };
    let mut metadata: HashMap<String, String> = field.metadata().clone();
    metadata.insert(UNIT_KEY.into(), unit.into());
    field.with_metadata(metadata)
}

/// The unit of a field.
#[must_use]
pub fn unit(field: &Field) -> Option<&str> {
    field.metadata().get(UNIT_KEY).map(String::as_str)
}

/// `name [unit]`, as axes are labelled.
#[must_use]
pub fn label(schema: &Schema, name: &str) -> String {
    match schema.field_with_name(name).ok().and_then(unit) {
        Some(unit) => format!("{name} [{unit}]"),
        None => name.to_owned(),
    }
}

/// The field of this name; a problem with a suggestion where there is none.
pub fn field<'a>(schema: &'a Schema, name: &Placed<String>) -> Result<&'a Field, Problem> {
    schema.field_with_name(name).map_err(|_| {
        Problem::at(name, format!("no column `{}`", name.value)).suggest(name, schema.fields().iter().map(|f| f.name().as_str()))
    })
}

/// The field of this name, which must hold numbers or truth values.
pub fn number<'a>(schema: &'a Schema, name: &Placed<String>) -> Result<&'a Field, Problem> {
    let field = field(schema, name)?;
    match field.data_type() {
        t if t.is_numeric() => Ok(field),
        DataType::Boolean => Ok(field),
        other => Err(Problem::at(name, format!("column `{}` is {other}, not a number", name.value))),
    }
}

/// A column by name. Panics if it is not there: the planner has looked.
#[must_use]
pub fn get<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    batch.column_by_name(name).unwrap_or_else(|| panic!("planned column `{name}` is not in {:?}", batch.schema()))
}

/// The values of a numeric column as f64 (a null is NaN).
pub fn numbers(batch: &RecordBatch, name: &str) -> anyhow::Result<Vec<f64>> {
    let cast = arrow::compute::cast(get(batch, name), &DataType::Float64)?;
    let values = cast.as_primitive::<Float64Type>();
    if values.null_count() == 0 {
        return Ok(values.values().to_vec());
    }
    Ok(values.iter().map(|v| v.unwrap_or(f64::NAN)).collect())
}

/// The number of each row's sample.
#[must_use]
pub fn sample_numbers(batch: &RecordBatch) -> Option<&[i8]> {
    batch.column_by_name(SAMPLE).map(|c| &c.as_dictionary::<Int8Type>().keys().values()[..])
}

/// Numbers as they are in memory.
#[derive(Debug, Clone, Copy)]
pub enum Floats<'a> {
    /// float32s.
    Single(&'a [f32]),
    /// float64s.
    Double(&'a [f64]),
}

impl Floats<'_> {
    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Self::Single(values) => values.len(),
            Self::Double(values) => values.len(),
        }
    }

    /// True where there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// One of them.
    #[must_use]
    #[inline]
    pub fn at(self, row: usize) -> f64 {
        match self {
            Self::Single(values) => f64::from(values[row]),
            Self::Double(values) => values[row],
        }
    }
}

/// Does something with the values of a numeric column as they are in memory: float32s without a null, or what [`floats`] makes of them.
pub fn with_floats<T>(batch: &RecordBatch, name: &str, with: impl FnOnce(Floats<'_>) -> T) -> anyhow::Result<T> {
    match get(batch, name).as_primitive_opt::<Float32Type>().filter(|small| small.null_count() == 0) {
        Some(small) => Ok(with(Floats::Single(small.values()))),
        None => Ok(with(Floats::Double(&floats(batch, name)?))),
    }
}

/// A batch in blocks of so many rows, with the number of the first row of each; of the columns only those of these names.
pub fn blocks(
    batch: &RecordBatch,
    at_once: usize,
    names: &[&str],
) -> anyhow::Result<impl Iterator<Item = (usize, RecordBatch)> + use<>> {
    let mut columns = names.iter().map(|name| batch.schema_ref().index_of(name)).collect::<Result<Vec<usize>, _>>()?;
    columns.sort_unstable();
    columns.dedup();
    let batch = batch.project(&columns)?;
    let rows = batch.num_rows();
    Ok((0..rows).step_by(at_once).map(move |first| (first, batch.slice(first, at_once.min(rows - first)))))
}

/// The values of a numeric column as f64 (a null is NaN), without a copy where it holds f64s and no null.
pub fn floats(batch: &RecordBatch, name: &str) -> anyhow::Result<ScalarBuffer<f64>> {
    // Arrow's cast asks of each value whether it can be had.
    if let Some(small) = get(batch, name).as_primitive_opt::<Float32Type>().filter(|small| small.null_count() == 0) {
        return Ok(small.values().iter().map(|x| f64::from(*x)).collect::<Vec<f64>>().into());
    }
    let cast = arrow::compute::cast(get(batch, name), &DataType::Float64)?;
    let values = cast.as_primitive::<Float64Type>();
    if values.null_count() == 0 {
        return Ok(values.values().clone());
    }
    Ok(values.iter().map(|v| v.unwrap_or(f64::NAN)).collect::<Vec<f64>>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_lists_of_structs_are_those_that_arrow_takes() {
        use arrow::array::{Float32Array, UInt16Array};
        use arrow::buffer::{NullBuffer, OffsetBuffer};
        let list = |lengths: &[usize], nulls: Option<Vec<bool>>| -> ArrayRef {
            let count: usize = lengths.iter().sum();
            let cells: ArrayRef = Arc::new(UInt16Array::from_iter_values((0..count).map(|i| i as u16)));
            let values: ArrayRef = Arc::new(Float32Array::from_iter((0..count).map(|i| (i % 3 > 0).then_some(i as f32))));
            let fields = vec![Field::new("cell", DataType::UInt16, false), Field::new("energy", DataType::Float32, true)];
            let items = StructArray::new(fields.into(), vec![cells, values], None);
            let field = Arc::new(Field::new_list_field(items.data_type().clone(), false));
            let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
            Arc::new(ListArray::new(field, offsets, Arc::new(items), nulls.map(NullBuffer::from)))
        };
        let (one, two) = (list(&[3, 0, 5, 1], None), list(&[2, 2, 0], Some(vec![true, true, false])));
        let sliced = one.slice(1, 3);
        let arrays = [&one, &two, &sliced];
        for rows in [vec![(0, 2), (1, 0), (2, 1), (0, 1), (1, 2), (2, 2), (0, 2)], vec![(2, 0)], vec![]] {
            let made = interleave_lists(&arrays, &rows).unwrap().unwrap();
            assert_eq!(&made, &interleave_any(&arrays, &rows).unwrap());
            made.to_data().validate_full().unwrap();
        }
        let numbers: ArrayRef = Arc::new(UInt64Array::from(vec![1]));
        assert!(interleave_lists(&[&numbers], &[(0, 0)]).is_none());
    }

    #[test]
    fn joined_batches_keep_the_numbers_of_their_samples() {
        let samples = ["electron", "photon", "pion"].map(str::to_owned);
        let schema = Arc::new(with_samples(Schema::new(provenance_fields(true)), &samples));
        let batch = |sample: &str, file, rows| {
            let (step, path, fingerprint) = (String::new(), String::new(), format!("{file}"));
            let unit = crate::Unit {
                step,
                sample: Some(sample.into()),
                path,
                fingerprint,
                first: 0,
                rows: 9,
                file,
                row_bytes: 1,
                alone: false,
            };
            RecordBatch::try_new(schema.clone(), provenance(&samples, &unit, 0, rows)).unwrap()
        };
        let batches = [batch("pion", 0, 2), batch("electron", 1, 1), batch("pion", 2, 1)];
        let joined = concat(&schema, &batches).unwrap();
        assert_eq!(sample_numbers(&joined).unwrap(), [2, 2, 0, 2]);
        let values: Vec<_> =
            get(&joined, SAMPLE).as_dictionary::<Int8Type>().values().as_string::<i32>().iter().flatten().collect();
        assert_eq!(values, samples);
        let others = ["pion".to_owned()];
        let unit = crate::Unit {
            step: String::new(),
            sample: Some("pion".into()),
            path: String::new(),
            fingerprint: String::new(),
            first: 0,
            rows: 1,
            file: 0,
            row_bytes: 1,
            alone: false,
        };
        let other = RecordBatch::try_new(schema.clone(), provenance(&others, &unit, 0, 1)).unwrap();
        assert!(concat(&schema, [&batches[0], &other]).is_err());
    }
}
