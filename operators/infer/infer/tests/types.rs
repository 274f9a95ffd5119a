//! The types of a model: integers go in as they are, and what is missing is never a number.

use super::*;
use arrow::array::{BooleanArray, Float64Array, Int8Array, Int64Array, ListArray, UInt64Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Int64Type;
use serde_json::{Value, json};

/// A model of three values of this type, which gives them back.
fn typed(name: &str, source: Value) -> Infer {
    infer(&path(&format!("typed.{name}.onnx")), json!({ "x": source }), json!({ "same": ["s0", "s1", "s2"] }), 4)
}

fn three(columns: [ArrayRef; 3]) -> RecordBatch {
    let named = columns.into_iter().enumerate().map(|(k, column)| {
        let field = Field::new(format!("c{k}"), column.data_type().clone(), column.null_count() > 0);
        (field, column)
    });
    batch(named.collect())
}

fn remarks(step: &Infer, rows: &RecordBatch) -> Vec<String> {
    step.plan(&facts(step), &[stream(rows.schema())]).unwrap().remarks
}

fn said(step: &Infer, rows: &RecordBatch, k: usize) -> Vec<i64> {
    let out = unit(&mut *start(step, &rows.schema(), None), rows, &[1]);
    out.column_by_name(&format!("s{k}")).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn integers_go_in_exactly() {
    let large = vec![i64::MAX, (1 << 53) + 1, i64::MIN, -5];
    let unsigned = vec![u64::MAX, (1 << 60) + 1, 7, 0];
    let rows = three([
        Arc::new(Int64Array::from(large.clone())),
        Arc::new(UInt64Array::from(unsigned.clone())),
        Arc::new(Int8Array::from(vec![-128, 127, 0, 1])),
    ]);
    let all = json!({ "columns": ["c0", "c1", "c2"] });
    let step = typed("int64", all.clone());
    assert_eq!(said(&step, &rows, 0), large);
    assert_eq!(said(&step, &rows, 1), [i64::MAX, (1 << 60) + 1, 7, 0]);
    assert_eq!(said(&step, &rows, 2), [-128, 127, 0, 1]);
    let clipped = "the model's input `x` gets `c1` as int64: what is beyond its ends becomes its ends (it holds UInt64)";
    assert_eq!(remarks(&step, &rows), [clipped], "nothing is lost of the others");

    // What is below 0 is 0 in a type without a sign, and an integer of 8 bits has its own ends.
    let small = three([
        Arc::new(Int64Array::from(large.clone())),
        Arc::new(UInt64Array::from(vec![(1 << 60) + 1, 300, 7, 0])),
        Arc::new(Int8Array::from(vec![-128, 127, 0, 1])),
    ]);
    let step = typed("uint64", all.clone());
    assert_eq!(said(&step, &small, 0), [i64::MAX, (1 << 53) + 1, 0, 0]);
    assert_eq!(said(&step, &small, 1), [(1 << 60) + 1, 300, 7, 0]);
    assert_eq!(said(&step, &small, 2), [0, 127, 0, 1]);
    assert_eq!(remarks(&step, &small).len(), 2, "of the columns with a sign");
    let step = typed("int8", all);
    assert_eq!(said(&step, &small, 0), [127, 127, -128, -5]);
    assert_eq!(said(&step, &small, 1), [127, 127, 7, 0]);

    // What is scaled is computed as float64, as numpy does.
    let step = typed("int64", json!({ "columns": ["c0", { "column": "c2", "scale": 0.5 }, { "column": "c0", "divide": 2.0 }] }));
    assert_eq!(said(&step, &rows, 0), large);
    assert_eq!(said(&step, &rows, 1), [-64, 63, 0, 0]);
    assert_eq!(said(&step, &rows, 2), [1 << 62, 1 << 52, -(1 << 62), -2]);
    assert_eq!(
        remarks(&step, &rows),
        [
            "the model's input `x` gets `c2` as int64, without what its scale or norm puts behind the point",
            "the model's input `x` gets `c0` as int64, without what its scale or norm puts behind the point",
            "the model's input `x` gets `c0` as int64, computed in float64: integers beyond 2^53 are rounded",
        ]
    );
}

#[test]
fn what_is_not_0_is_true() {
    let rows = three([
        Arc::new(Float64Array::from(vec![0.5, 0.0, -0.0, -7.0])),
        Arc::new(Int64Array::from(vec![i64::MIN, 0, 1, -1])),
        Arc::new(BooleanArray::from(vec![true, false, true, false])),
    ]);
    let step = typed("bool", json!({ "columns": ["c0", "c1", "c2"] }));
    let out = unit(&mut *start(&step, &rows.schema(), None), &rows, &[1]);
    let wanted = [[true, false, false, true], [true, false, true, true], [true, false, true, false]];
    for (k, wanted) in wanted.into_iter().enumerate() {
        let found = out.column_by_name(&format!("s{k}")).unwrap().as_boolean();
        assert_eq!(*found, BooleanArray::from(wanted.to_vec()), "c{k}");
    }
    assert_eq!(
        remarks(&step, &rows),
        [
            "the model's input `x` gets `c0` as bool: what is not 0 is true (it holds Float64)",
            "the model's input `x` gets `c1` as bool: what is not 0 is true (it holds Int64)",
        ]
    );
}

#[test]
fn what_is_missing_is_nan_or_the_fault_of_the_data() {
    let whole = |of: Vec<Option<i64>>| -> ArrayRef { Arc::new(Int64Array::from(of)) };
    let reals = |of: Vec<Option<f64>>| -> ArrayRef { Arc::new(Float64Array::from(of)) };
    let truths = |of: Vec<Option<bool>>| -> ArrayRef { Arc::new(BooleanArray::from(of)) };
    let fine = || whole(vec![Some(1), Some(2), Some(3)]);
    let all = json!({ "columns": ["c0", "c1", "c2"] });
    for bad in [
        whole(vec![Some(1), None, Some(2)]),
        reals(vec![Some(1.0), None, Some(2.0)]),
        reals(vec![Some(1.0), Some(f64::NAN), Some(2.0)]),
        truths(vec![Some(true), None, Some(false)]),
    ] {
        let rows = three([fine(), bad, fine()]);
        for (name, of) in [("int64", "integers"), ("uint8", "integers"), ("uint64", "integers"), ("bool", "truth values")] {
            let step = typed(name, all.clone());
            let mut device = start(&step, &rows.schema(), None);
            // The row before it is fine.
            assert!(device.push(rows.slice(0, 1)).is_ok());
            match device.push(rows.slice(1, 1)) {
                Err(Fault::Content(reason)) => assert!(
                    reason.starts_with(&format!(
                        "column `c1`: a value is missing or NaN, and the model takes {of}, which can't say so;"
                    )),
                    "{reason}"
                ),
                other => panic!("{name}: {other:?}"),
            }
            let can_be_missing = rows.schema().field(1).is_nullable();
            let remark = format!("the model's input `x` gets `c1` as {name}, which can't say that a value is missing");
            assert_eq!(remarks(&step, &rows).iter().any(|r| r.starts_with(&remark)), can_be_missing, "{name}");
        }
        let step = typed("double", all.clone());
        let out = unit(&mut *start(&step, &rows.schema(), None), &rows, &[]);
        let found = out.column_by_name("s1").unwrap().as_primitive::<arrow::datatypes::Float64Type>();
        assert!(found.value(1).is_nan() && !found.value(0).is_nan() && found.null_count() == 0);
    }
}

#[test]
fn what_is_missing_in_lists() {
    // [1, null, 3, NaN], missing, [], and an entry that is missing behind what is taken.
    let item = Arc::new(Field::new("item", DataType::Float64, true));
    let values = Float64Array::from(vec![Some(1.0), None, Some(3.0), Some(f64::NAN), Some(5.0), Some(6.0), Some(7.0), None]);
    let offsets = OffsetBuffer::from_lengths([4, 0, 0, 4]);
    let there = NullBuffer::from(vec![true, false, true, true]);
    let list: ArrayRef = Arc::new(ListArray::new(item.clone(), offsets, Arc::new(values), Some(there)));
    let rows = batch(vec![(Field::new("l", DataType::List(item), true), list)]);
    let step = typed("int64", json!("l"));
    let mut device = start(&step, &rows.schema(), None);
    for row in [0, 1] {
        let pushed = device.push(rows.slice(row, 1));
        assert!(matches!(&pushed, Err(Fault::Content(why)) if why.starts_with("column `l`: a value is missing")), "{pushed:?}");
        device.forget();
    }
    for (row, wanted) in [(2, [0, 0, 0]), (3, [5, 6, 7])] {
        let out = unit(&mut *device, &rows.slice(row, 1), &[]);
        let found = [0, 1, 2].map(|k| out.column_by_name(&format!("s{k}")).unwrap().as_primitive::<Int64Type>().value(0));
        assert_eq!(found, wanted);
    }
}
