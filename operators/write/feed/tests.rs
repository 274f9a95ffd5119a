//! Batches of rows, against `hits::to_dense` and plain picking.

use super::*;
use crate::hits::{HitsBuilder, dense_field, hits_field, shape, to_dense};
use crate::testing::{images, output_of};
use crate::{Fault, column};
use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array, ListArray, RecordBatch, StringDictionaryBuilder, StructArray,
    UInt16Array, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int32Type, Schema, UInt64Type};
use proptest::prelude::*;
use std::sync::Arc;

fn rows_of(batch: &RecordBatch, dense: bool) -> DenseRows {
    DenseRows::new(&batch.schema(), None, Placed::unplaced(dense)).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The cells of one row of an image column.
fn cells(batch: &RecordBatch, name: &str, row: usize) -> Vec<u32> {
    let count: usize = shape(batch.schema().field_with_name(name).unwrap()).unwrap().iter().product();
    let mut into = vec![7.0; count];
    to_dense(batch.column_by_name(name).unwrap(), count, 0, row, 1, &mut into).unwrap();
    bits(&into)
}

fn value() -> impl Strategy<Value = f32> {
    prop_oneof![6 => Just(0.0f32), 1 => Just(-0.0f32), 1 => Just(f32::NAN), 2 => -5.0f32..5.0]
}

proptest! {
    #[test]
    fn every_picked_row_is_the_row_it_was(
        filled in prop::collection::vec(value(), 12 * 9),
        picks in prop::collection::vec((0..3usize, 0..3usize), 0..20),
        dense: bool,
    ) {
        let events: Vec<u64> = (100..109).collect();
        let whole = images(&events, &[(&[2, 3, 2], &filled)]);
        let rows = rows_of(&whole, dense);
        // Slices, because that is what sources and cuts give.
        let parts: Vec<RecordBatch> = (0..3).map(|i| rows.prepare(&whole.slice(3 * i, 3)).unwrap()).collect();
        let parts: Vec<&RecordBatch> = parts.iter().collect();
        let positions: Vec<u64> = (0..picks.len() as u64).map(|p| 2 * p).collect();
        let made = rows.gather(&parts, &picks, 7, positions.clone()).unwrap();
        prop_assert_eq!(made.schema(), rows.schema().clone());
        prop_assert_eq!(made.column_by_name(POSITION).unwrap().as_primitive::<UInt64Type>().values().to_vec(), positions);
        for (row, (part, at)) in picks.iter().enumerate() {
            let from = 3 * part + at;
            prop_assert_eq!(made.column_by_name("event").unwrap().as_primitive::<UInt64Type>().value(row), events[from]);
            prop_assert_eq!(cells(&made, "a", row), cells(&whole, "a", from));
            prop_assert_eq!(cells(&made, "a_dense", row), cells(&whole, "a_dense", from));
        }
        let tensor = matches!(made.schema().field_with_name("a").unwrap().data_type(), DataType::FixedSizeList(..));
        prop_assert_eq!(tensor, dense);
    }
}

/// Hits with two values of 64 bits; the second image is missing.
fn doubles() -> RecordBatch {
    let fields = [Field::new("energy", DataType::Float64, false), Field::new("time", DataType::Float64, false)];
    let field = hits_field("ecal", &[2, 2], &fields).with_nullable(true);
    let mut builder = HitsBuilder::<Float64Type>::default();
    for image in [[0.5, 0.0, 0.25, 0.0], [0.0; 4], [0.0, 0.1, 0.0, 0.0]] {
        builder.push_dense(&image);
        builder.end_event();
    }
    let one = builder.finish(&hits_field("ecal", &[2, 2], &fields[..1])).unwrap();
    let hits = one.values().as_struct();
    let time: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]));
    let DataType::List(item) = field.data_type() else { panic!("hits") };
    let DataType::Struct(of) = item.data_type() else { panic!("hits") };
    let both = StructArray::new(of.clone(), vec![hits.column(0).clone(), hits.column(1).clone(), time], None);
    let missing = NullBuffer::from(vec![true, false, true]);
    let list = ListArray::new(item.clone(), one.offsets().clone(), Arc::new(both), Some(missing));
    let mut names = StringDictionaryBuilder::<Int32Type>::new();
    ["x", "y", "x"].iter().for_each(|name| names.append_value(name));
    let names: ArrayRef = Arc::new(names.finish());
    let schema = Schema::new(vec![field, Field::new("name", names.data_type().clone(), false)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(list), names]).unwrap()
}

#[test]
fn each_value_of_a_hit_is_a_tensor_missing_images_are_nan_and_texts_are_texts() {
    let batch = doubles();
    let rows = rows_of(&batch, true);
    let names: Vec<&str> = rows.schema().fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["ecal_energy", "ecal_time", "name", EPOCH, POSITION]);
    let made = rows.gather(&[&rows.prepare(&batch).unwrap()], &[(0, 2), (0, 1), (0, 0)], 0, vec![0, 1, 2]).unwrap();
    let of = |name: &str| {
        made.column_by_name(name).unwrap().as_fixed_size_list().values().as_primitive::<Float32Type>().values().to_vec()
    };
    let (energy, time) = (of("ecal_energy"), of("ecal_time"));
    assert_eq!((&energy[..4], &energy[8..]), (&[0.0, 0.1, 0.0, 0.0][..], &[0.5, 0.0, 0.25, 0.0][..]));
    assert_eq!((&time[..4], &time[8..]), (&[0.0, 3.0, 0.0, 0.0][..], &[1.0, 0.0, 2.0, 0.0][..]));
    assert!(energy[4..8].iter().chain(&time[4..8]).all(|v| v.is_nan()));
    assert_eq!(column::get(&made, "name").as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["x", "y", "x"]);
}

#[test]
fn what_cannot_be_an_image_is_a_fault_of_its_unit() {
    let batch = images(&[1, 2], &[(&[2, 2], &[1.0; 8])]);
    let rows = rows_of(&batch, true);
    let hits = column::get(&batch, "a").as_list::<i32>();
    let of = hits.values().as_struct();
    let outside: ArrayRef = Arc::new(UInt16Array::from(vec![0, 1, 2, 3, 0, 1, 2, 4]));
    let wrong = StructArray::new(of.fields().clone(), vec![outside, of.column(1).clone()], None);
    let DataType::List(item) = hits.data_type() else { panic!("hits") };
    let wrong: ArrayRef = Arc::new(ListArray::new(item.clone(), hits.offsets().clone(), Arc::new(wrong), None));
    let mut columns = batch.columns().to_vec();
    columns[1] = wrong;
    let fault = rows.prepare(&RecordBatch::try_new(batch.schema(), columns).unwrap()).unwrap_err();
    assert!(matches!(&fault, Fault::Content(said) if said == "column `a`: a hit in cell 4 of 4"), "{fault}");
}

#[test]
fn dense_images_of_other_numbers_become_those_of_32_bits() {
    let field = dense_field("a", &[3], DataType::Float64);
    let values = Arc::new(Float64Array::from(vec![0.1, 0.0, 2.0]));
    let DataType::FixedSizeList(item, _) = field.data_type() else { panic!("dense") };
    let column: ArrayRef = Arc::new(FixedSizeListArray::new(item.clone(), 3, values, None));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap();
    let rows = rows_of(&batch, true);
    let made = rows.gather(&[&rows.prepare(&batch).unwrap()], &[(0, 0)], 0, vec![0]).unwrap();
    let values = made.column(0).as_fixed_size_list().values().as_primitive::<Float32Type>().values().to_vec();
    assert_eq!(values, [0.1, 0.0, 2.0]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let batch = RecordBatch::try_from_iter([("epoch", Arc::new(UInt64Array::from(vec![1])) as ArrayRef)]).unwrap();
    let zero = || Placed::unplaced(0);
    let feed = Feed { batch: zero(), window: Some(zero()), files_at_once: Placed::unplaced(0), ..Feed::default() };
    let said: Vec<String> = feed.plan(&Facts::default(), &[output_of(&batch)]).unwrap_err().into_iter().map(|p| p.what).collect();
    assert_eq!(
        said,
        [
            "a batch needs at least one row",
            "a window of no rows",
            "rows come from at least one file",
            "two columns of a batch would be called `epoch`"
        ]
    );
    let table = Output { table: true, ..output_of(&batch) };
    assert!(Feed::default().plan(&Facts::default(), &[table]).is_err());
}

#[test]
fn the_window_is_as_large_as_its_bytes_allow() {
    let feed = Feed::default();
    assert_eq!([1, 10 << 10, 1 << 30].map(|row_bytes| feed.window(row_bytes)), [65_536, 13_107, 1024]);
}
