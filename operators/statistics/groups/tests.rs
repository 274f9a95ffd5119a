//! Groups against a slow obvious version: every row asked for every region, one after the other.

use super::*;
use crate::testing::batch_of;
use crate::trial::{at, batch, word};
use arrow::array::{BooleanArray, Float64Array, Int32Array};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

fn regions(named: &[(&str, &str)]) -> Regions {
    let named =
        named.iter().zip(1..).map(|((name, text), line)| (at(line, 1, (*name).to_owned()), at(line, 9, (*text).to_owned())));
    at(1, 1, named.collect::<BTreeMap<_, _>>())
}

fn for_each(json: serde_json::Value) -> ForEach {
    serde_json::from_value(json).unwrap()
}

fn plan(rows: &RecordBatch, columns: Option<&ForEach>, of: Option<&Regions>) -> Groups {
    let all: Vec<String> = rows.schema().fields().iter().map(|f| f.name().clone()).collect();
    Groups::plan(&rows.schema(), columns, of).unwrap().carrying(all)
}

fn problems(rows: &RecordBatch, columns: Option<&ForEach>, of: Option<&Regions>) -> Vec<String> {
    let found = Groups::plan(&rows.schema(), columns, of).unwrap_err();
    let help = |p: &Problem| p.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    found.iter().map(|p| format!("{}:{} {}{}", p.place.line, p.place.column, p.what, help(p))).collect()
}

#[test]
fn a_row_counts_in_every_region_that_it_fits() {
    let rows = batch(&["electron", "photon"], &[0, 1, 1, 0], &[("eta", &[0.5, 1.45, -2.0, f64::NAN])]);
    // Not in the order of the alphabet: in that in which they are written.
    let of = regions(&[("wide", "abs(eta) < 3"), ("barrel", "abs(eta) < 1.4"), ("all", "true")]);
    let mut groups = plan(&rows, Some(&for_each(json!(["region", "sample"]))), Some(&of));
    assert_eq!((groups.len(), groups.columns().collect::<Vec<_>>()), (6, vec!["region", "sample"]));
    let (mut numbers, mut sums) = (Vec::new(), Sums::default());
    let entered = groups.enter(&rows, &mut numbers, &mut sums).unwrap();
    let names: Vec<String> = numbers.iter().map(|number| groups.name(*number as usize).unwrap()).collect();
    let wanted =
        ["wide, electron", "barrel, electron", "all, electron", "wide, photon", "all, photon", "wide, photon", "all, photon"];
    assert_eq!(names, [&wanted[..], &["all, electron"]].concat());
    let eta = column::numbers(&entered, "eta").unwrap();
    assert_eq!(eta[..7], [0.5, 0.5, 0.5, 1.45, 1.45, -2.0, -2.0]);
    assert!(groups.remarks(&sums).is_empty());
    let said: serde_json::Value = serde_json::from_str(&groups.metadata()[CONDITIONS_KEY]).unwrap();
    assert_eq!(said, json!({ "region": { "wide": "abs(eta) < 3", "barrel": "abs(eta) < 1.4", "all": "true" } }));
    assert_eq!(groups.reads(), ["eta", "sample"].map(str::to_owned).into());
    // Where nothing is asked for there is a region at the end all the same.
    let groups = plan(&rows, Some(&word("sample").into()), Some(&of));
    assert_eq!(groups.columns().collect::<Vec<_>>(), ["sample", "region"]);
    assert_eq!((groups.suffix(5).as_str(), groups.whose(5).as_str()), ("-photon-all", "photon, all: "));
}

#[test]
fn truth_values_texts_and_numbers_make_groups_and_what_is_none_of_them_is_counted() {
    let rows = batch_of(vec![
        ("hot", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)]))),
        ("layer", Arc::new(Int32Array::from(vec![Some(3), Some(1), Some(1), Some(7)]))),
        ("side", Arc::new(StringArray::from(vec!["a", "b", "a", "a"]))),
        ("x", Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0, 4.0]))),
    ]);
    let columns = for_each(json!(["hot", { "layer": [1, 3] }, { "side": ["b", "a"] }]));
    let mut groups = plan(&rows, Some(&columns), None);
    let (mut numbers, mut sums) = (Vec::new(), Sums::default());
    let entered = groups.enter(&rows, &mut numbers, &mut sums).unwrap();
    assert_eq!(column::numbers(&entered, "x").unwrap(), [1.0, 2.0]);
    let names: Vec<String> = numbers.iter().map(|number| groups.name(*number as usize).unwrap()).collect();
    assert_eq!(names, ["true, 3, a", "false, 1, b"]);
    let remarks = groups.remarks(&sums);
    assert_eq!(
        remarks,
        ["1 row with hot missing or another value, in no group", "1 row with layer missing or another value, in no group"]
    );
    let arrays = groups.arrays([0, 7].into_iter());
    let texts: Vec<Vec<&str>> = arrays.iter().map(|a| a.as_string::<i32>().iter().flatten().collect()).collect();
    assert_eq!(texts, [["false", "true"], ["1", "3"], ["b", "a"]]);
}

#[test]
fn without_groups_the_batch_is_the_one_that_came() {
    let rows = batch(&["a", "b"], &[0, 1], &[("x", &[1.0, 2.0])]);
    for columns in [None, Some(word("sample").into())] {
        let mut groups = plan(&rows, columns.as_ref(), None);
        let mut numbers = vec![9; 7];
        let entered = groups.enter(&rows, &mut numbers, &mut Sums::default()).unwrap();
        assert!(matches!(entered, Cow::Borrowed(_)));
        assert_eq!(numbers, if columns.is_some() { [0, 1] } else { [0, 0] });
    }
    // A region of all rows takes no copy either.
    let mut groups = plan(&rows, None, Some(&regions(&[("all", "x > 0")])));
    assert!(matches!(groups.enter(&rows, &mut Vec::new(), &mut Sums::default()).unwrap(), Cow::Borrowed(_)));
    assert_eq!(plan(&rows, None, None).name(0), None);
}

#[test]
fn mistakes_are_told_all_at_once() {
    let rows = batch(&["a"], &[0], &[("x", &[1.0])]);
    let columns = ForEach(vec![
        Told { column: at(3, 1, "sampel".to_owned()), values: None },
        Told { column: at(3, 9, "x".to_owned()), values: None },
        Told { column: at(4, 1, "sample".to_owned()), values: None },
        Told { column: at(5, 1, "sample".to_owned()), values: None },
    ]);
    let found = problems(&rows, Some(&columns), Some(&regions(&[("low", "x <"), ("high", "x + 1")])));
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found[0].starts_with("1:9 `x <` is no expression"), "{}", found[0]);
    assert_eq!(found[2], "3:1 no column `sampel` (did you mean `sample`?)");
    let binned = "3:9 column `x` is Float64, not a class (bin in it with `by`, or make a region of it: regions: { high: x > 1 })";
    assert_eq!(found[3], binned);
    assert_eq!(found[4], "5:1 `sample` is given twice");
    let texts = batch_of(vec![("region", Arc::new(StringArray::from(vec!["barrel"])))]);
    let unknown = "0:0 the values of `region` are not known before the run (name them: { region: [barrel, endcap] })";
    assert_eq!(problems(&texts, Some(&word("region").into()), None), [unknown]);
    let there = problems(&texts, None, Some(&regions(&[("a", "true")])));
    assert!(there[0].starts_with("1:1 there is a column `region` already"), "{there:?}");
    assert_eq!(problems(&rows, None, Some(&regions(&[])))[0], "1:1 `regions` names none (regions: { barrel: abs(eta) < 1.4 })");
}

proptest! {
    #[test]
    fn groups_are_those_of_one_row_after_the_other(
        rows in prop::collection::vec((0_i8..3, -3.0..3.0_f64, prop::option::of(0_i32..4)), 0..50),
        edges in prop::collection::vec(-3.0..3.0_f64, 1..5),
    ) {
        let classes: Vec<i8> = rows.iter().map(|row| row.0).collect();
        let x: Vec<f64> = rows.iter().map(|row| row.1).collect();
        let plain = batch(&["a", "b", "c"], &classes, &[("x", &x)]);
        let layers: ArrayRef = Arc::new(rows.iter().map(|row| row.2).collect::<Int32Array>());
        let fields: Vec<_> =
            plain.schema().fields().iter().cloned().chain([Arc::new(Field::new("layer", DataType::Int32, true))]).collect();
        let schema = Schema::new_with_metadata(fields, plain.schema().metadata().clone());
        let all = RecordBatch::try_new(Arc::new(schema), plain.columns().iter().cloned().chain([layers]).collect()).unwrap();
        let texts: Vec<(String, String)> = edges.iter().enumerate().map(|(i, e)| (format!("r{i}"), format!("x > {e}"))).collect();
        let named: Vec<(&str, &str)> = texts.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let columns = for_each(json!(["sample", { "layer": [2, 0] }]));
        let mut groups = plan(&all, Some(&columns), Some(&regions(&named)));
        let (mut numbers, mut sums) = (Vec::new(), Sums::default());
        let entered = groups.enter(&all, &mut numbers, &mut sums).unwrap().into_owned();
        let found: Vec<(String, f64)> =
            numbers.iter().map(|n| groups.name(*n as usize).unwrap()).zip(column::numbers(&entered, "x").unwrap()).collect();
        let mut wanted = Vec::new();
        let (mut no_layer, mut no_region) = (0, 0);
        for (class, x, layer) in &rows {
            let fits: Vec<usize> = (0..edges.len()).filter(|i| *x > edges[*i]).collect();
            no_region += i64::from(fits.is_empty());
            let Some(layer) = layer.filter(|layer| [2, 0].contains(layer)) else { no_layer += 1; continue };
            let sample = ["a", "b", "c"][*class as usize];
            wanted.extend(fits.iter().map(|region| (format!("{sample}, {layer}, r{region}"), *x)));
        }
        prop_assert_eq!(found, wanted);
        prop_assert_eq!([sums.count(BESIDE + 1), sums.count(BESIDE + 2)], [no_layer, no_region]);
    }
}
