//! What goes into a model and what comes out of it: types, shapes, lists, normalisations, classes, images.

use super::*;
use arrow::array::{BooleanArray, Int32Array, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Float64Type, Int8Type, Int64Type};
use half::f16;
use serde_json::{Value, json};

/// Models that give back a row as it was fed, flat.
fn fed(dims: &str, source: Value, rows: &RecordBatch) -> Vec<Vec<f32>> {
    let step = echo(dims, source);
    let width: usize = dims.split('x').map(|n| n.parse::<usize>().unwrap()).product();
    let out = unit(&mut *start(&step, &rows.schema(), None), rows, &[1]);
    let columns: Vec<Vec<f32>> = (0..width).map(|k| predicted(&out, &format!("o{k}"))).collect();
    (0..rows.num_rows()).map(|row| columns.iter().map(|c| c[row]).collect()).collect()
}

fn echo(dims: &str, source: Value) -> Infer {
    let width: usize = dims.split('x').map(|n| n.parse::<usize>().unwrap()).product();
    let names: Vec<String> = (0..width).map(|k| format!("o{k}")).collect();
    infer(&path(&format!("forms.{dims}.onnx")), json!({ "x": source }), json!({ "row": names }), 2)
}

fn lists(name: &str, of: &[&[f32]]) -> (Field, ArrayRef) {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let values = Float32Array::from(of.concat());
    let offsets = OffsetBuffer::from_lengths(of.iter().map(|list| list.len()));
    let array = ListArray::new(item.clone(), offsets, Arc::new(values), None);
    (Field::new(name, DataType::List(item), false), Arc::new(array))
}

fn range(n: usize, from: f32) -> Vec<f32> {
    (0..n).map(|i| if i % 3 == 1 { 0.0 } else { from + i as f32 }).collect()
}

#[test]
fn images_are_stacked_padded_and_flattened() {
    let (a, b) = (range(36, 1.0), range(36, 100.0));
    for dense in [false, true] {
        let rows = batch(vec![images("a", &[3, 4], &a, dense), images("b", &[3, 4], &b, !dense)]);
        let both = json!({ "columns": ["a", "b"] });
        let at = |of: &[f32], row: usize, cell: usize| of[row * 12 + cell];
        for (row, found) in fed("2x3x4", both.clone(), &rows).iter().enumerate() {
            let wanted: Vec<f32> = (0..12).map(|c| at(&a, row, c)).chain((0..12).map(|c| at(&b, row, c))).collect();
            assert_eq!(*found, wanted);
        }
        for (row, found) in fed("3x4x2", both, &rows).iter().enumerate() {
            let wanted: Vec<f32> = (0..12).flat_map(|c| [at(&a, row, c), at(&b, row, c)]).collect();
            assert_eq!(*found, wanted);
        }
        for (pad, up, left) in [("end", 0, 0), ("centre", 1, 0)] {
            // 3 x 4 in 6 x 5: three rows of zeros and one column, of which one more is behind.
            let padded = |of: &[f32], row: usize| -> Vec<f32> {
                let mut image = vec![0.0; 30];
                for (y, x) in (0..3).flat_map(|y| (0..4).map(move |x| (y, x))) {
                    image[(y + up) * 5 + x + left] = at(of, row, y * 4 + x);
                }
                image
            };
            for (row, found) in fed("6x5", json!({ "column": "a", "pad": pad }), &rows).iter().enumerate() {
                assert_eq!(*found, padded(&a, row), "{pad}");
            }
            let both = json!({ "columns": ["a", { "column": "b", "scale": 2.0 }], "pad": pad });
            if pad == "end" {
                for (row, found) in fed("2x6x5", both, &rows).iter().enumerate() {
                    let doubled: Vec<f32> = padded(&b, row).iter().map(|v| 2.0 * v).collect();
                    assert_eq!(*found, [padded(&a, row), doubled].concat());
                }
            }
        }
    }
    let rows = batch(vec![images("a", &[4, 6], &range(72, 1.0), false)]);
    let flat = fed("24", json!("a"), &rows);
    assert_eq!(flat.concat(), range(72, 1.0));
}

#[test]
fn numbers_become_vectors_and_vectors_are_read() {
    let columns: Vec<Vec<f32>> = (0..5).map(|k| (0..4).map(|row| (10 * k + row) as f32 + 0.5).collect()).collect();
    let mut all: Vec<(Field, ArrayRef)> = columns.iter().enumerate().map(|(k, v)| numbers(&format!("n{k}"), v)).collect();
    let flat: Vec<f32> = (0..4).flat_map(|row| columns.iter().map(move |c| c[row])).collect();
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let vector = FixedSizeListArray::new(item.clone(), 5, Arc::new(Float32Array::from(flat.clone())), None);
    all.push((Field::new("vector", DataType::FixedSizeList(item, 5), false), Arc::new(vector)));
    let rows = batch(all);
    assert_eq!(fed("5", json!({ "columns": ["n0", "n1", "n2", "n3", "n4"] }), &rows).concat(), flat);
    assert_eq!(fed("5", json!("vector"), &rows).concat(), flat);
    let said = echo("5", json!({ "columns": ["n0", "n1"] }));
    assert_eq!(
        wrong(&said, &facts(&said), &rows.schema()),
        ["0:0 2 columns, each with one number a row, are stacked, the model's input `x` wants (N, 5) | `vector` has that shape"]
    );
}

#[test]
fn lists_are_filled_up_and_have_a_mask() {
    let pt: [&[f32]; 4] = [&[3.0, 2.0], &[], &[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0], &[1.0, 1.0, 1.0, 1.0, 1.0]];
    let eta: Vec<Vec<f32>> = pt.iter().map(|list| list.iter().map(|v| -v / 2.0).collect()).collect();
    let eta: Vec<&[f32]> = eta.iter().map(Vec::as_slice).collect();
    let rows = batch(vec![lists("pt", &pt), lists("eta", &eta)]);
    let padded = |list: &[f32]| -> Vec<f32> { (0..5).map(|i| list.get(i).copied().unwrap_or(0.0)).collect() };
    let mask = |list: &[f32]| -> Vec<f32> { (0..5).map(|i| f32::from(i < list.len())).collect() };
    assert_eq!(fed("5", json!("pt"), &rows), pt.map(padded));
    assert_eq!(fed("5", json!({ "mask": "pt" }), &rows), pt.map(mask));
    // What fills up is 0, whatever the normalisation makes of 0.
    let stacked = json!({ "columns": ["pt", { "column": "eta", "norm": "log" }, { "mask": "pt" }] });
    let log = |list: &[f32]| padded(&list.iter().map(|v| v.signum() * v.abs().ln_1p()).collect::<Vec<_>>());
    for (found, (pt, eta)) in fed("3x5", stacked.clone(), &rows).iter().zip(pt.iter().zip(&eta)) {
        assert_equal(found, &[padded(pt), log(eta), mask(pt)].concat());
    }
    for (found, (pt, eta)) in fed("5x3", stacked, &rows).iter().zip(pt.iter().zip(&eta)) {
        let (pt, eta, mask) = (padded(pt), log(eta), mask(pt));
        let wanted: Vec<f32> = (0..5).flat_map(|i| [pt[i], eta[i], mask[i]]).collect();
        assert_equal(found, &wanted);
    }
    let step = echo("5", json!("pt"));
    let mut device = start(&step, &rows.schema(), None);
    unit(&mut *device, &rows, &[]);
    assert_eq!(device.noticed(), work::Noticed::from([("rows with more entries of `pt` than the model takes".to_owned(), 1)]));
}

#[test]
fn values_come_in_the_type_of_the_model() {
    let values: Vec<Vec<f64>> =
        vec![vec![0.1, -2.5, 1e9 + 0.5, 7.0], vec![65_519.0, 3.99, -0.0, 300.0], vec![1e-5, 0.99, 255.0, 1.0]];
    let column = |k: usize| -> (Field, ArrayRef) {
        (Field::new(format!("c{k}"), DataType::Float64, false), Arc::new(Float64Array::from(values[k].clone())))
    };
    let rows = batch((0..3).map(column).collect());
    let run = |name: &str| {
        let inputs = json!({ "x": { "columns": ["c0", "c1", "c2"] } });
        let outputs = json!({ "same": ["s0", "s1", "s2"], "small": ["b0", "b1", "b2"] });
        let step = infer(&path(&format!("typed.{name}.onnx")), inputs, outputs, 4);
        let remarks = step.plan(&facts(&step), &[stream(rows.schema())]).unwrap().remarks;
        (unit(&mut *start(&step, &rows.schema(), None), &rows, &[]), remarks)
    };
    let (out, remarks) = run("float16");
    for (k, values) in values.iter().enumerate() {
        // Prepared as f32, as numpy would have it before `astype(float16)`.
        let wanted: Vec<f32> = values.iter().map(|v| f16::from_f32(*v as f32).to_f32()).collect();
        assert_eq!(predicted(&out, &format!("s{k}")), wanted);
    }
    assert_eq!(remarks[0], "the model's input `x` gets `c0` as float16, rounded from Float64");
    let (out, remarks) = run("double");
    assert!(remarks.is_empty(), "{remarks:?}");
    for (k, values) in values.iter().enumerate() {
        assert_eq!(out.column_by_name(&format!("s{k}")).unwrap().as_primitive::<Float64Type>().values()[..], *values);
        let small: BooleanArray = values.iter().map(|v| Some(*v < 1.0)).collect();
        assert_eq!(out.column_by_name(&format!("b{k}")).unwrap().as_boolean(), &small);
    }
    for (name, convert) in [
        ("int64", &(|v: f64| v as i64) as &dyn Fn(f64) -> i64),
        ("int32", &|v: f64| i64::from(v as i32)),
        ("uint8", &|v: f64| i64::from(v as u8)),
    ] {
        let (out, remarks) = run(name);
        for (k, values) in values.iter().enumerate() {
            let wanted: Vec<i64> = values.iter().map(|v| convert(*v)).collect();
            assert_eq!(out.column_by_name(&format!("s{k}")).unwrap().as_primitive::<Int64Type>().values()[..], wanted, "{name}");
        }
        assert_eq!(
            remarks[0],
            format!("the model's input `x` gets `c0` as {name}, without what stands behind the point of Float64")
        );
    }
    let whole: ArrayRef = Arc::new(Int64Array::from(vec![(1 << 53) - 1, -5, 0]));
    let small: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let rows = batch(vec![(Field::new("a", DataType::Int64, false), whole), (Field::new("b", DataType::Int32, false), small)]);
    let inputs = json!({ "x": { "columns": ["a", "b", "b"] } });
    let step = infer(&path("typed.int64.onnx"), inputs, json!({ "same": ["s0", "s1", "s2"] }), 4);
    let out = unit(&mut *start(&step, &rows.schema(), None), &rows, &[]);
    assert_eq!(out.column_by_name("s0").unwrap().as_primitive::<Int64Type>().values()[..], [(1 << 53) - 1, -5, 0]);
}

#[test]
fn tables_do_what_scikit_learn_does() {
    let rows = batch(vec![numbers("x", &case("table.x"))]);
    for name in ["robust", "uniform", "normal"] {
        let source = json!({ "column": "x", "norm": { "table": path(&format!("{name}.json")) } });
        let step = infer(&path("forms.1.onnx"), json!({ "x": source }), json!({ "row": "o" }), 16);
        let out = predicted(&unit(&mut *start(&step, &rows.schema(), None), &rows, &[]), "o");
        let theirs = case(&format!("table.{name}"));
        for (row, (a, b)) in out.iter().zip(&theirs).enumerate() {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{name}, row {row}: {a}, scikit-learn says {b}");
        }
        let used = step.plan(&facts(&step), &[stream(rows.schema())]).unwrap().used;
        let said = used["models"][0]["inputs"]["x"]["of"][0]["transform"].as_str().unwrap();
        assert!(said.starts_with(if name == "robust" { "(x - " } else { "101 quantiles to " }), "{said}");
        let table = path(&format!("{name}.json"));
        let sha256 = crate::onnx::outside::sha256(&std::fs::read(&table).unwrap());
        assert_eq!(used["models"][0]["inputs"]["x"]["of"][0]["table"], json!({ "path": table, "sha256": sha256 }));
    }
    let check = |norm: Value| {
        let step = infer(&path("forms.1.onnx"), json!({ "x": { "column": "x", "norm": norm } }), json!({ "row": "o" }), 16);
        wrong(&step, &facts(&step), &rows.schema())
    };
    assert!(check(json!({ "table": "no/such.json" }))[0].contains("can't read no/such.json"));
    let file = path("robust.json").replace("robust", "other");
    for (text, wanted) in [
        (r#"{"y": {"center": 1, "scale": 2}}"#, "has no table of `x` | did you mean `y`?"),
        (r#"{"x": {"center": 1, "scale": 0}}"#, "is no scale"),
        (r#"{"x": {"quantiles": [1, 0]}}"#, "ascending order"),
        ("[1]", "is no table of normalisations"),
    ] {
        std::fs::write(&file, text).unwrap();
        let said = check(json!({ "table": file }));
        assert!(said[0].contains(wanted), "{said:?}");
    }
    assert!(check(json!({ "constant": 0.0 }))[0].contains("0 is no factor"));
}

#[test]
fn all_that_an_input_is_made_of_is_written_down() {
    let rows = batch(vec![
        images("a", &[3, 4], &range(12, 1.0), false),
        images("b", &[3, 4], &range(12, 1.0), true),
        lists("l", &[&[1.0, 2.0]]),
        numbers("n", &[1.0]),
    ]);
    let said = |dims: &str, source: Value| {
        let step = echo(dims, source);
        step.plan(&facts(&step), &[stream(rows.schema())]).unwrap().used["models"][0]["inputs"]["x"].clone()
    };
    let both = json!({ "columns": ["a", { "column": "b", "scale": 2.0 }], "pad": "centre" });
    assert_eq!(
        said("2x6x5", both),
        json!({
            "row": [2, 6, 5], "type": "float32", "channels": "first", "pad": "centre", "image": [3, 4],
            "of": [{ "column": "a", "value": "energy" }, { "column": "b", "transform": "* 2" }],
        })
    );
    assert_eq!(
        said("5x3", json!({ "columns": ["l", { "mask": "l" }, { "column": "l", "norm": "log" }] })),
        json!({
            "row": [5, 3], "type": "float32", "channels": "last", "first": 5,
            "of": [{ "column": "l" }, { "column": "l", "mask": true }, { "column": "l", "transform": "sign(x) log(|x| + 1)" }],
        })
    );
    assert_eq!(said("1", json!("n")), json!({ "row": [1], "type": "float32", "of": [{ "column": "n" }] }));
}

#[test]
fn an_output_is_taken_in_several_ways() {
    let rows = two_images(false);
    let mut step = classify(32);
    let taking =
        json!({ "argmax": "particle", "classes": ["a", "b", "c", "d"], "dense": "all", "hits": "likely", "threshold": 0.25 });
    step.outputs = serde_json::from_value(json!({ "probabilities": taking })).unwrap();
    let out = unit(&mut *start(&step, &rows.schema(), None), &rows, &[7]);
    let theirs = case("two_images.probabilities");
    let particle = out.column_by_name("particle").unwrap().as_dictionary::<Int8Type>();
    let all = out.column_by_name("all").unwrap().as_fixed_size_list();
    assert_equal(all.values().as_primitive::<Float32Type>().values(), &theirs);
    let likely = out.column_by_name("likely").unwrap();
    let mut dense = vec![0.0; theirs.len()];
    hits::to_dense(likely, 4, 0, 0, ROWS, &mut dense).unwrap();
    let field = out.schema().field_with_name("likely").unwrap().clone();
    assert_eq!((hits::shape(&field), hits::is_hits(&field)), (Some(vec![4]), true));
    for (row, probabilities) in theirs.chunks_exact(4).enumerate() {
        let best = (0..4).max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b])).unwrap();
        assert_eq!(particle.keys().value(row), best as i8);
        let cut: Vec<f32> = probabilities.iter().map(|p| if *p < 0.25 { 0.0 } else { *p }).collect();
        assert_equal(&dense[4 * row..4 * row + 4], &cut);
    }
    let check = |taking: Value| {
        let mut step = classify(32);
        step.outputs = serde_json::from_value(json!({ "probabilities": taking })).unwrap();
        wrong(&step, &facts(&step), &rows.schema())
    };
    assert!(check(json!({ "argmax": "particle" }))[0].contains("4 values a row, and there are 0 classes"));
    let twice = check(json!({ "argmax": "particle", "classes": ["a", "b", "a", "d"] }));
    assert!(twice[0].contains("the class `a` is named twice"), "{twice:?}");
    assert!(check(json!({ "columns": ["a"] }))[0].contains("has 4 values a row, and 1 column is named"));
    assert!(check(json!({}))[0].contains("gets no column"));
    assert!(check(json!({ "dense": "x", "threshold": 1.0 }))[0].contains("a threshold is a magnitude"));
    assert!(check(json!({ "dense": "ecal" }))[0].contains("there is a column `ecal` already"));
}

#[test]
fn infinities_are_counted_and_cut_where_asked() {
    let rows = batch(vec![numbers("x", &[1.0, 0.0, f32::NAN, 4.0, 0.0])]);
    for cut in [false, true] {
        let not_finite = if cut { "cut" } else { "keep" };
        let step = step(json!({
            "model": path("inverse.onnx"), "inputs": { "x": "x" }, "outputs": { "y": "y" }, "batch": 2, "not_finite": not_finite,
        }));
        assert_eq!(step.plan(&facts(&step), &[stream(rows.schema())]).unwrap().cuts, cut);
        let mut device = start(&step, &rows.schema(), None);
        for _ in 0..2 {
            let out = unit(&mut *device, &rows, &[3]);
            let row = out.column_by_name("row").unwrap().as_primitive::<UInt64Type>().values().to_vec();
            let wanted: &[u64] = if cut { &[0, 3] } else { &[0, 1, 2, 3, 4] };
            assert_eq!(row, wanted);
            assert_eq!(device.cut(), if cut { 3 } else { 0 });
            assert_eq!(device.noticed(), work::Noticed::from([("rows whose `y` is NaN or infinite".to_owned(), 3)]));
        }
    }
}

#[test]
fn a_fixed_batch_runs_and_is_said() {
    let image = images("image", &[6, 5], &case("fixed.image"), false);
    let rows = batch(vec![numbers("eta", &case("fixed.eta")), image, numbers("phi", &case("fixed.phi"))]);
    let inputs = json!({ "image": "image", "eta": "eta", "phi": "phi" });
    for size in [1, 3, 8, 20, 256] {
        let step = infer(&path("fixed.onnx"), inputs.clone(), json!({ "score": "score" }), size);
        let out = unit(&mut *start(&step, &rows.schema(), None), &rows, &[30]);
        assert_equal(&predicted(&out, "score"), &case("fixed.score"));
        let remarks = step.plan(&facts(&step), &[stream(rows.schema())]).unwrap().remarks;
        assert_eq!(remarks.iter().any(|r| r.contains("takes 8 rows at a time, no more and no less")), size != 8, "{remarks:?}");
    }
}

#[test]
fn a_batch_is_measured_once() {
    let rows = two_images(false);
    let step = step(json!({
        "model": path("two_images.onnx"), "inputs": { "ECAL": "ecal", "HCAL": "hcal" }, "outputs": { "energy": "e" }, "batch": "auto",
    }));
    let known = facts(&step);
    let inputs = [stream(rows.schema())];
    let outputs = step.plan(&known, &inputs).unwrap().outputs;
    let mut runtime = Runtime::default();
    let worker = Worker { index: 0, peers: 1 };
    let settle =
        |runtime: &Runtime| step.settle(&Start { worker, facts: &known, inputs: &inputs, outputs: &outputs, runtime }).unwrap();
    let (name, size) = settle(&runtime).expect("a batch");
    assert!([8, 16, 32, 64, 128, 256, 512].contains(&size), "{size}");
    assert!(name.starts_with("batch cpu 441,45 "), "{name}");
    runtime.settled = Arc::new(BTreeMap::from([(name, 5)]));
    assert_eq!(settle(&runtime), None);
    let bound = step.bind(&known, &rows.schema()).unwrap();
    assert_eq!(bound.rows(&runtime), 5);
}

#[test]
fn an_output_has_a_row_for_each_that_went_in() {
    let rows = batch(vec![numbers("n", &[1.0, 2.0, 3.0])]);
    let check = |name: &str, inputs: Value| {
        let step = infer(&path(&format!("{name}.onnx")), inputs, json!({ "y": "o" }), 2);
        wrong(&step, &facts(&step), &rows.schema())
    };
    let of_one = "a prediction is of one row; export the model with a free first axis, (N, ..)";
    for (name, wanted) in [
        ("rows.mean", "the model's output `y` has 1 row, however many go in: its shape is (1)"),
        ("rows.none", "the model's output `y` declares no shape, or one without an axis for the rows"),
        ("rows.eight", "the model's output `y` is (1), and its inputs have 8 rows each time"),
    ] {
        assert_eq!(check(name, json!({ "x": "n" })), [format!("1:1 {wanted} | {of_one}")]);
    }
    let said = check("rows.two", json!({ "a": "n", "b": "n" }));
    assert!(said[0].contains("have different first axes, and each row is one of all: `b` is (4)"), "{said:?}");
    let step = infer(&path("shape.nothing.onnx"), json!({ "x": "n" }), json!({ "y": { "dense": "o" } }), 2);
    let said = wrong(&step, &facts(&step), &rows.schema());
    assert!(said.iter().any(|p| p.contains("the model's output `y` has no values: its shape is (N, 0)")), "{said:?}");
}

#[test]
fn words_that_change_nothing_are_said() {
    let rows = batch(vec![
        images("a", &[2, 3], &range(18, 1.0), true),
        images("v", &[3], &range(9, 1.0), true),
        numbers("n", &[1.0, 2.0, 3.0]),
        numbers("m", &[1.0, 2.0, 3.0]),
        lists("l", &[&[1.0], &[], &[2.0]]),
        lists("k", &[&[1.0], &[], &[2.0]]),
    ]);
    let check = |dims: &str, source: Value| {
        let step = echo(dims, source);
        wrong(&step, &facts(&step), &rows.schema())
            .into_iter()
            .map(|p| p.split_once(' ').unwrap().1.to_owned())
            .collect::<Vec<_>>()
    };
    for (dims, source, wanted) in [
        (
            "2x2",
            json!({ "columns": [{ "column": "l", "first": 2 }, "k"] }),
            "`first` is of the whole stack, and does nothing at one of its columns | write it beside `columns`",
        ),
        (
            "2x6x5",
            json!({ "columns": [{ "column": "a", "pad": "end" }, "a"], "pad": "centre" }),
            "`pad` is of the whole stack, and does nothing at one of its columns | write it beside `columns`",
        ),
        (
            "2x2",
            json!({ "columns": ["l", { "column": "k", "channels": "last" }] }),
            "`channels` is of the whole stack, and does nothing at one of its columns | write it beside `columns`",
        ),
        (
            "5",
            json!({ "mask": "l", "scale": 5.0 }),
            "`scale` does nothing to a mask: it is 1 where a list has an entry, else 0 | ",
        ),
        (
            "2x2",
            json!({ "columns": ["l", { "mask": "l", "norm": "log" }], "channels": "first" }),
            "`norm` does nothing to a mask: it is 1 where a list has an entry, else 0 | ",
        ),
        (
            "2x2",
            json!({ "columns": [{ "column": "l" }, { "mask": "l" }], "channels": "first", "divide": 2.0 }),
            "`divide` beside `columns` does nothing: each of the columns is a map, and has its own words | write it into the maps of the columns that it is for",
        ),
        (
            "5",
            json!({ "column": "l", "pad": "centre" }),
            "`pad` is of images, and column `l` holds lists | zeros are put behind a short list by themselves",
        ),
        ("1", json!({ "column": "n", "pad": "end" }), "`pad` is of images, and column `n` holds one number a row | "),
        ("1", json!({ "column": "n", "first": 4 }), "`first` is of lists, and column `n` holds one number a row | "),
        (
            "1",
            json!({ "column": "n", "channels": "last" }),
            "`channels` is of images and lists, and column `n` holds one number a row | ",
        ),
        (
            "6x5",
            json!({ "column": "a", "first": 5 , "pad": "end" }),
            "`first` is of lists, and column `a` holds images of 2 x 3 | ",
        ),
        ("5", json!({ "column": "l", "first": 0 }), "no entries are read with `first: 0` | write `first: 20`, say"),
        (
            "1",
            json!({ "column": "n", "value": "pt" }),
            "`value` is of hits and of lists of records, and column `n` is neither | leave it out",
        ),
        // What does not fit, and what would.
        (
            "5",
            json!({ "column": "l", "first": 3 }),
            "the first 3 entries of `l` are read, the model's input `x` wants (N, 5) | without `first`, as many are read as the model takes",
        ),
        (
            "3x5",
            json!({ "columns": ["l", "k"], "first": 3 }),
            "2 columns, the first 3 entries of each, are stacked, the model's input `x` wants (N, 3, 5) | ",
        ),
        (
            "6x5",
            json!({ "columns": ["v", "v"] }),
            "2 columns, each with vectors of 3, are stacked, the model's input `x` wants (N, 6, 5) | ",
        ),
        (
            "5",
            json!({ "columns": ["v", "v"] }),
            "2 columns, each with vectors of 3, are stacked, the model's input `x` wants (N, 5) | ",
        ),
        (
            "3",
            json!({ "columns": ["v"] }),
            "1 column with vectors of 3 is stacked, the model's input `x` wants (N, 3) | `column: v` reads it as it is",
        ),
        ("5", json!({ "columns": ["a"] }), "1 column with images of 2 x 3 is stacked, the model's input `x` wants (N, 5) | "),
        (
            "2x6x5",
            json!({ "columns": ["a", "a"] }),
            "2 columns, each with images of 2 x 3, are stacked, the model's input `x` wants (N, 2, 6, 5) | `pad: end` (or `centre`) puts zeros around a smaller image",
        ),
    ] {
        assert_eq!(check(dims, source.clone()), [wanted], "{dims} {source}");
    }
    let of_shape = |name: &str, source: Value| {
        let step = infer(&path(&format!("shape.{name}.onnx")), json!({ "x": source }), json!({ "y": { "dense": "o" } }), 2);
        wrong(&step, &facts(&step), &rows.schema())
    };
    let said = of_shape("number", json!("l"));
    assert!(said.iter().any(|p| p.ends_with("column `l` holds lists, the model's input `x` wants (N) | ")), "{said:?}");
    for name in ["none", "scalar"] {
        let said = of_shape(name, json!("n"));
        assert!(
            said.iter().any(|p| p.contains("`x` declares no shape, or one without an axis for the rows | export")),
            "{said:?}"
        );
    }
    let said = of_shape("nothing", json!("l"));
    assert!(said.iter().any(|p| p.contains("the model's input `x` takes no values: its shape is (N, 0)")), "{said:?}");
}

#[test]
fn words_that_are_wrong_are_said() {
    let rows = batch(vec![
        images("a", &[2], &range(6, 1.0), true),
        images("b", &[2], &range(6, 1.0), true),
        lists("l", &[&[1.0], &[], &[2.0]]),
    ]);
    let check = |dims: &str, source: Value| {
        let step = echo(dims, source);
        wrong(&step, &facts(&step), &rows.schema())
    };
    let both = json!({ "columns": ["a", "b"] });
    assert!(check("2x2", both)[0].contains("may be its first axis or its last | write `channels: first` or `channels: last`"));
    let last = fed("2x2", json!({ "columns": ["a", "b"], "channels": "last" }), &rows);
    assert_eq!(last[0], [1.0, 1.0, 0.0, 0.0]);
    assert!(
        check("5", json!({ "column": "a", "mask": "l" }))[0].contains("an input reads one of `column`, `columns` and `mask`")
    );
    assert!(check("5", json!({ "mask": "a" }))[0].contains("column `a` is no list"));
    assert!(check("3x5", json!({ "columns": ["a", "l"] }))[0].contains("columns of a stack have equal shapes"));
    assert!(check("5", json!("a"))[0].contains("`pad: end` (or `centre`) puts zeros around a smaller image"));
    assert_eq!(fed("5", json!({ "column": "a", "pad": "end" }), &rows)[0], [1.0, 0.0, 0.0, 0.0, 0.0]);

    let device = |word: Value| {
        let step = step(json!({
            "model": path("forms.5.onnx"), "inputs": { "x": { "column": "a", "pad": "end" } }, "outputs": { "row": { "dense": "r" } }, "device": word,
        }));
        wrong(&step, &facts(&step), &rows.schema())
    };
    assert!(device(json!("gpu"))[0].contains("`gpu` is no device | there are `cpu`, `cuda`, `cuda:1` and `tensorrt`"));
    assert!(device(json!(["cpu", "cuda"])).iter().any(|p| p.contains("a list of devices is of GPUs")));
    if onnx::provider::check("cuda", &Runtime::default()).is_err() {
        let said = device(json!("cuda"));
        assert!(
            said[0].contains("looked for in")
                && said[0].ends_with("nothing computes on the CPU in its place; write `device: cpu` for that"),
            "{said:?}"
        );
    }
}
