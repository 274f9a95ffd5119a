//! Lists in another order than they stand, against numpy.

use super::*;
use arrow::array::{ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Fields;
use serde_json::{Value, json};

/// The lists of the oracle, as lists of numbers and as one of records.
fn rows() -> RecordBatch {
    let offsets = OffsetBuffer::from_lengths(case("order.lengths").iter().map(|n| *n as usize));
    let values = |name: &str| -> ArrayRef { Arc::new(Float32Array::from(case(name))) };
    let list = |name: &str, values: ArrayRef| -> (Field, ArrayRef) {
        let item = Arc::new(Field::new("item", values.data_type().clone(), false));
        let list = ListArray::new(item.clone(), offsets.clone(), values, None);
        (Field::new(name, DataType::List(item), false), Arc::new(list))
    };
    let members: Fields = ["pt", "dr"].map(|name| Field::new(name, DataType::Float32, false)).to_vec().into();
    let records = StructArray::new(members, vec![values("order.pt"), values("order.dr")], None);
    let shorter = OffsetBuffer::from_lengths(case("order.lengths").iter().map(|n| (*n as usize).min(3)));
    let few = Float32Array::from(vec![1.0; *shorter.last().unwrap() as usize]);
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let other: ArrayRef = Arc::new(ListArray::new(item.clone(), shorter, Arc::new(few), None));
    batch(vec![
        list("pt", values("order.pt")),
        list("dr", values("order.dr")),
        list("tracks", Arc::new(records)),
        (Field::new("few", DataType::List(item), false), other),
        numbers("n", &[1.0; ROWS]),
    ])
}

fn step(dims: &str, source: Value) -> Infer {
    infer(&path(&format!("forms.{dims}.onnx")), json!({ "x": source }), json!({ "row": { "dense": "o" } }), 32)
}

fn fed(dims: &str, source: Value) -> Vec<f32> {
    let rows = rows();
    let out = unit(&mut *start(&step(dims, source), &rows.schema(), None), &rows, &[7, 30]);
    out.column_by_name("o").unwrap().as_fixed_size_list().values().as_primitive::<Float32Type>().values().to_vec()
}

#[test]
fn lists_are_ordered_as_numpy_does() {
    for (order, wanted) in [("dr", "order.rising"), ("-dr", "order.falling"), ("-pt", "order.hardest")] {
        let wanted = case(wanted);
        assert_eq!(fed("5", json!({ "column": "pt", "order": order })), wanted, "{order}");
        assert_eq!(fed("5", json!({ "column": "tracks", "value": "pt", "order": order })), wanted, "{order} of records");
        // A list beside it goes along, and a mask has as many entries as before.
        let stacked =
            fed("3x5", json!({ "columns": ["pt", { "column": "pt", "scale": 2.0 }, { "mask": "pt" }], "order": order }));
        for ((stacked, wanted), length) in stacked.chunks(15).zip(wanted.chunks(5)).zip(case("order.lengths")) {
            assert_eq!(stacked[..5], *wanted);
            assert_eq!(stacked[5..10], wanted.iter().map(|v| 2.0 * v).collect::<Vec<_>>());
            assert_eq!(stacked[10..].iter().sum::<f32>(), length.min(5.0));
        }
    }
    let rows = rows();
    let by_another = step("5", json!({ "column": "pt", "order": "-dr" }));
    let planned = by_another.plan(&facts(&by_another), &[stream(rows.schema())]).unwrap();
    assert_eq!(planned.reads, [crate::Reads::columns(["pt", "dr"])]);
    assert_eq!(planned.used["models"][0]["inputs"]["x"]["order"], "-dr");
}

#[test]
fn orders_that_are_wrong_are_said() {
    let rows = rows();
    let check = |source: Value| {
        let step = step("5", source);
        wrong(&step, &facts(&step), &rows.schema())
    };
    for (source, wanted) in [
        (json!({ "column": "pt", "order": "-eta" }), "no column `eta`"),
        (json!({ "column": "pt", "order": "n" }), "`n` is no list of numbers, by which the entries of `pt` could be ordered"),
        (json!({ "column": "n", "order": "pt" }), "`order` is of lists, and column `n` holds one number a row"),
        (json!({ "mask": "pt", "order": "dr" }), "`order` does nothing to a mask"),
        (json!({ "columns": [{ "column": "pt", "order": "dr" }] }), "`order` is of the whole stack"),
    ] {
        let said = check(source.clone());
        assert!(said[0].contains(wanted), "{source}: {said:?}");
    }
    let step = step("5", json!({ "column": "pt", "order": "few" }));
    match start(&step, &rows.schema(), None).push(rows.clone()) {
        Err(Fault::Content(reason)) => {
            assert!(
                reason.starts_with("column `pt`: a row has ") && reason.ends_with("3 of `few`, by which they are ordered"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_list_that_is_missing_has_no_order() {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let list = |name: &str, lengths: [usize; 3], there: [bool; 3]| -> (Field, ArrayRef) {
        let values = Float32Array::from_iter_values((0..lengths.iter().sum()).map(|n: usize| n as f32));
        let nulls = Some(NullBuffer::from(there.to_vec()));
        let array = ListArray::new(item.clone(), OffsetBuffer::from_lengths(lengths), Arc::new(values), nulls);
        (Field::new(name, DataType::List(item.clone()), true), Arc::new(array))
    };
    // The second is missing, the third has no value to order by.
    let rows = batch(vec![list("a", [2, 0, 2], [true, false, true]), list("b", [2, 3, 2], [true, true, false])]);
    let step = step("5", json!({ "column": "a", "order": "-b" }));
    let mut device = start(&step, &rows.schema(), None);
    let out = unit(&mut *device, &rows.slice(0, 2), &[]);
    let found = out.column_by_name("o").unwrap().as_fixed_size_list().values().as_primitive::<Float32Type>().values().to_vec();
    assert_eq!(found[..5], [1.0, 0.0, 0.0, 0.0, 0.0]);
    assert!(found[5..].iter().all(|v| v.is_nan()), "{found:?}");
    let pushed = device.push(rows.slice(2, 1));
    assert!(matches!(&pushed, Err(Fault::Content(why)) if why.contains("a row has 2 entries, and 0 of `b`")), "{pushed:?}");
}
