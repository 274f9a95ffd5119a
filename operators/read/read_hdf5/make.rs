//! From what was read of a dataset to the array of a column.
//!
//! Invariants: every array has one value for each row; a text whose bytes are no UTF-8 is repaired and counted.

use crate::Fault;
use crate::hdf5::element::{Kind, Number};
use crate::hdf5::header::Value;
use crate::hdf5::images;
use crate::work::{Noticed, notice};
use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, DictionaryArray, FixedSizeListArray, Int16Array, ListArray, StringArray,
    StringBuilder, StructArray, UInt32Array, UInt64Array, make_array, new_empty_array, new_null_array,
};
use arrow::buffer::{MutableBuffer, NullBuffer, OffsetBuffer};
use arrow::compute::{cast, filter, take};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int16Type};
use std::sync::Arc;

/// A column of rows without values; where there has to be one, of empty ones.
pub(super) fn absent(field: &Field, rows: usize) -> Result<ArrayRef, Fault> {
    match field.data_type() {
        DataType::List(item) if !field.is_nullable() => {
            let lengths = OffsetBuffer::from_lengths(std::iter::repeat_n(0, rows));
            Ok(Arc::new(ListArray::try_new(item.clone(), lengths, new_empty_array(item.data_type()), None)?))
        }
        // The cells of an image that is not there are no nulls of their own.
        DataType::FixedSizeList(item, cells) => {
            let bytes = rows * *cells as usize * item.data_type().primitive_width().unwrap_or(0);
            let zeros = ArrayData::builder(item.data_type().clone()).len(rows * *cells as usize);
            let zeros = make_array(zeros.add_buffer(MutableBuffer::from_len_zeroed(bytes).into()).build()?);
            let nulls = Some(NullBuffer::new_null(rows));
            Ok(Arc::new(FixedSizeListArray::try_new(item.clone(), *cells, zeros, nulls)?))
        }
        _ => Ok(new_null_array(field.data_type(), rows)),
    }
}

/// The same value for all rows.
pub(super) fn constant(
    value: &Value,
    place: usize,
    field: &Field,
    rows: usize,
    noticed: &mut Noticed,
) -> Result<ArrayRef, Fault> {
    match value {
        Value::Text(text) => Ok(Arc::new(StringArray::from(vec![text.as_str(); rows]))),
        Value::Numbers { number, bytes } => {
            let size = usize::from(number.bytes);
            let one = bytes.get(place * size..(place + 1) * size).unwrap_or_default();
            let mut values = MutableBuffer::with_capacity(one.len());
            values.extend_from_slice(one);
            let one = images::numbers(values, 1, *number, field, noticed)?;
            Ok(take(&one, &UInt32Array::from(vec![0; rows]), None)?)
        }
        Value::Other(what) => Err(Fault::Content(format!("`{}` is {what}", field.name()))),
    }
}

/// Texts of so many bytes each, one after the other.
pub(super) fn texts<'a>(texts: impl Iterator<Item = &'a [u8]>, name: &str, noticed: &mut Noticed) -> ArrayRef {
    let (mut column, mut broken) = (StringBuilder::new(), 0);
    for text in texts {
        let whole = String::from_utf8_lossy(text);
        broken += usize::from(matches!(whole, std::borrow::Cow::Owned(_)));
        column.append_value(whole);
    }
    notice(noticed, broken, || format!("texts of `{name}` that are not UTF-8, repaired"));
    Arc::new(column.finish())
}

/// The items of a list field.
fn item(field: &Field) -> Result<&Arc<Field>, Fault> {
    match field.data_type() {
        DataType::List(item) => Ok(item),
        other => Err(anyhow::anyhow!("`{}` is {other}, no list", field.name()).into()),
    }
}

/// Lists of these lengths, of numbers that stand one after the other.
pub(super) fn lists(
    lengths: impl Iterator<Item = usize>,
    bytes: &[u8],
    number: Number,
    field: &Field,
    noticed: &mut Noticed,
) -> Result<ArrayRef, Fault> {
    let item = item(field)?;
    let mut values = MutableBuffer::with_capacity(bytes.len());
    values.extend_from_slice(bytes);
    let count = bytes.len() / usize::from(number.bytes).max(1);
    let inner = Field::new(field.name(), item.data_type().clone(), false);
    let values = images::numbers(values, count, number, &inner, noticed)?;
    Ok(Arc::new(ListArray::try_new(item.clone(), OffsetBuffer::from_lengths(lengths), values, None)?))
}

/// Records of arrays that are equally long.
pub(super) fn records(members: Vec<ArrayRef>, fields: &Fields) -> Result<ArrayRef, Fault> {
    Ok(Arc::new(StructArray::try_new(fields.clone(), members, None)?))
}

/// The fields of the records in a list field.
pub(super) fn record_fields(field: &Field) -> Result<&Fields, Fault> {
    match field.data_type() {
        DataType::Struct(fields) => Ok(fields),
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => Ok(fields),
            other => Err(anyhow::anyhow!("`{}` is a list of {other}, not of records", field.name()).into()),
        },
        other => Err(anyhow::anyhow!("`{}` is {other}, not records", field.name()).into()),
    }
}

/// `count` records for each row, without those that are not valid.
pub(super) fn several(
    members: Vec<ArrayRef>,
    count: usize,
    rows: usize,
    valid: Option<&ArrayRef>,
    field: &Field,
) -> Result<ArrayRef, Fault> {
    let mut records = records(members, record_fields(field)?)?;
    let mut lengths = vec![count; rows];
    if let Some(valid) = valid {
        let keep: BooleanArray = cast(valid, &DataType::Boolean)?.as_boolean().clone();
        records = filter(&records, &keep)?;
        lengths = (0..rows).map(|row| keep.slice(row * count, count).true_count()).collect();
    }
    Ok(Arc::new(ListArray::try_new(item(field)?.clone(), OffsetBuffer::from_lengths(lengths), records, None)?))
}

/// The dictionary of a field of names, as [`crate::schema`] makes it.
fn dictionary(keys: Vec<Option<i16>>, field: &Field) -> Result<ArrayRef, Fault> {
    let names = field.metadata().get("calostream.names").and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
    let names = names.ok_or_else(|| anyhow::anyhow!("`{}` has no names", field.name()))?;
    let values = Arc::new(StringArray::from_iter_values(names));
    Ok(Arc::new(DictionaryArray::<Int16Type>::try_new(Int16Array::from(keys), values)?))
}

/// The names of numbers: that of `values[i]` is the i-th. A number without a name is missing, and counted.
pub(super) fn named(numbers: &ArrayRef, values: &[i64], field: &Field, noticed: &mut Noticed) -> Result<ArrayRef, Fault> {
    let numbers = cast(numbers, &DataType::Float64)?;
    let name = |v: &f64| values.iter().position(|known| *known as f64 == *v).and_then(|i| i16::try_from(i).ok());
    let keys: Vec<Option<i16>> = numbers.as_primitive::<Float64Type>().values().iter().map(name).collect();
    notice(noticed, keys.iter().filter(|k| k.is_none()).count(), || format!("values of `{}` without a name", field.name()));
    dictionary(keys, field)
}

/// The name of the place of the only number that is not zero. A row without one is missing, and counted.
pub(super) fn one_hot(numbers: &ArrayRef, rows: usize, field: &Field, noticed: &mut Noticed) -> Result<ArrayRef, Fault> {
    let numbers = cast(numbers, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>().values();
    let each = numbers.len() / rows.max(1);
    let place = |row: &[f64]| {
        let mut hot = row.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, _)| i);
        hot.next().filter(|_| hot.next().is_none()).and_then(|i| i16::try_from(i).ok())
    };
    let keys: Vec<Option<i16>> = numbers.chunks_exact(each.max(1)).map(place).collect();
    notice(noticed, keys.iter().filter(|k| k.is_none()).count(), || format!("rows of `{}` without one 1", field.name()));
    dictionary(keys, field)
}

/// Hits of several values a cell, each given with all cells: a cell is a hit unless all of its values are +0.
/// A threshold and `drop_negative` look at the first value.
pub(super) fn hits_of_values(
    values: Vec<ArrayRef>,
    cells: usize,
    field: &Field,
    refine: images::Refine,
    noticed: &mut Noticed,
) -> Result<ArrayRef, Fault> {
    let (item, fields) = (item(field)?, record_fields(field)?);
    let total = values.first().map_or(0, Array::len);
    let mut hot = vec![false; total];
    for value in &values {
        let data = value.to_data();
        let width = value.data_type().primitive_width().unwrap_or(1).max(1);
        let bytes = &data.buffers()[0].as_slice()[data.offset() * width..];
        hot.iter_mut().zip(bytes.chunks_exact(width)).for_each(|(hot, v)| *hot |= v.iter().any(|b| *b != 0));
    }
    if refine != images::Refine::default()
        && let Some(first) = values.first()
    {
        let first = cast(first, &DataType::Float64)?;
        let (mut negative, mut small) = (0, 0);
        for (hot, value) in hot.iter_mut().zip(first.as_primitive::<Float64Type>().values()).filter(|(hot, _)| **hot) {
            if refine.drop_negative && *value < 0.0 {
                (*hot, negative) = (false, negative + 1);
            } else if refine.threshold.is_some_and(|t| value.abs() < t) {
                (*hot, small) = (false, small + 1);
            }
        }
        notice(noticed, negative, || format!("negative cells of `{}` dropped", field.name()));
        notice(noticed, small, || format!("cells of `{}` dropped below the threshold", field.name()));
    }
    let lengths: Vec<usize> = hot.chunks_exact(cells.max(1)).map(|row| row.iter().filter(|h| **h).count()).collect();
    let places = UInt64Array::from_iter_values(hot.iter().enumerate().filter(|(_, h)| **h).map(|(i, _)| i as u64));
    let cell = UInt32Array::from_iter_values(places.values().iter().map(|i| (i % cells.max(1) as u64) as u32));
    let mut columns = vec![cast(&(Arc::new(cell) as ArrayRef), fields[0].data_type())?];
    for value in &values {
        columns.push(take(value, &places, None)?);
    }
    let hits = Arc::new(StructArray::try_new(fields.clone(), columns, None)?);
    Ok(Arc::new(ListArray::try_new(item.clone(), OffsetBuffer::from_lengths(lengths), hits, None)?))
}

/// All cells as one array of numbers, of the type of a value of the cell.
pub(super) fn cells(
    values: MutableBuffer,
    count: usize,
    number: Number,
    to: &DataType,
    name: &str,
    noticed: &mut Noticed,
) -> Result<ArrayRef, Fault> {
    // A truth value is kept as 0 or 1.
    let number = if number.kind == Kind::Boolean { Number { kind: Kind::Unsigned, ..number } } else { number };
    images::numbers(values, count, number, &Field::new(name, to.clone(), false), noticed)
}

/// Every `of`-th value from `place` on.
pub(super) fn every(values: &ArrayRef, of: usize, place: usize) -> Result<ArrayRef, Fault> {
    let places = UInt64Array::from_iter_values((place..values.len()).step_by(of).map(|i| i as u64));
    Ok(take(values, &places, None)?)
}
