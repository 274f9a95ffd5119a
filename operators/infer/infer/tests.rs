//! Against ONNX Runtime in Python, and against a slow obvious order of rows.

mod devices;
mod forms;
mod from_hits;
mod orders;
mod outside;
mod sweeps;
mod types;

use super::*;
use crate::onnx::model::{Convolved, ModelFacts};
use crate::work::{self, Runtime, Worker};
use crate::{Fault, Place, column, hits, onnx, pattern};
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Float64Array, RecordBatch, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float32Type, SchemaRef, UInt64Type};
use oracle::python_file;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

const ROWS: usize = 83;

/// Runs the oracle; what it writes is in the folder.
fn oracle(arguments: &[&str]) {
    println!("{}", python_file("operators/infer/infer/oracle.py", arguments));
}

/// What is an exact match but for the order of sums: |a - b| <= 1e-6 max(|b|, the output's scale).
fn assert_equal(ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    let scale = theirs.iter().filter(|b| b.is_finite()).fold(0f32, |s, b| s.max(b.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(same || (a - b).abs() <= 1e-6 * b.abs().max(scale), "value {i}: {a}, ONNX Runtime in Python says {b}");
    }
}

fn cases() -> &'static Path {
    static CASES: OnceLock<TempDir> = OnceLock::new();
    let made = CASES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        oracle(&["cases", folder.path().to_str().unwrap()]);
        folder
    });
    made.path()
}

fn floats(path: &Path) -> Vec<f32> {
    std::fs::read(path).unwrap().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn case(name: &str) -> Vec<f32> {
    floats(&cases().join(name))
}

/// An image column, as hits or dense.
fn images(name: &str, shape: &[usize], values: &[f32], dense: bool) -> (Field, ArrayRef) {
    let cells: usize = shape.iter().product();
    if dense {
        let field = hits::dense_field(name, shape, DataType::Float32);
        let DataType::FixedSizeList(item, length) = field.data_type() else { unreachable!() };
        let array = FixedSizeListArray::new(item.clone(), *length, Arc::new(Float32Array::from(values.to_vec())), None);
        return (field, Arc::new(array));
    }
    let field = hits::hits_field(name, shape, &[Field::new("energy", DataType::Float32, false)]);
    let mut hits = hits::HitsBuilder::<Float32Type>::default();
    for image in values.chunks_exact(cells) {
        for (cell, value) in image.iter().enumerate().filter(|(_, v)| v.to_bits() != 0) {
            hits.cells.push(cell as u32);
            hits.values.push(*value);
        }
        hits.end_event();
    }
    let column = hits.finish(&field).unwrap();
    (field, Arc::new(column))
}

fn numbers(name: &str, values: &[f32]) -> (Field, ArrayRef) {
    let wide: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
    (Field::new(name, DataType::Float64, false), Arc::new(Float64Array::from(wide)))
}

/// These columns, and the row number.
fn batch(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let rows = columns[0].1.len() as u64;
    let (mut fields, mut arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    fields.push(Field::new(column::ROW, DataType::UInt64, false));
    arrays.push(Arc::new(UInt64Array::from_iter_values(0..rows)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn infer(model: &str, inputs: serde_json::Value, outputs: serde_json::Value, batch: usize) -> Infer {
    step(serde_json::json!({ "model": model, "inputs": inputs, "outputs": outputs, "batch": batch }))
}

/// Parameters with places as the reader of pipelines gives them: 1:1, and 2:7 for a name in a list.
fn step(parameters: serde_json::Value) -> Infer {
    let mut read: Infer = serde_json::from_value(parameters).unwrap();
    let place = Place { line: 1, column: 1 };
    read.batch.place = place;
    if let Some(model) = &mut read.model {
        model.place = place;
    }
    read.inputs.values_mut().for_each(|source| source.place = place);
    for names in read.outputs.values_mut() {
        names.place = place;
        if let Names::Many(many) = &mut names.value {
            many.iter_mut().for_each(|name| name.place = Place { line: 2, column: 7 });
        }
    }
    read
}

fn facts(infer: &Infer) -> Facts {
    let (mut facts, runtime) = (Facts::default(), Runtime::default());
    for need in infer.needs() {
        match need {
            Need::Model(path) => drop(facts.models.insert(path.value.clone(), onnx::probe(&path, &runtime))),
            Need::Models(words) => {
                let found = pattern::matches(&words);
                for path in found.iter().flatten() {
                    facts.models.insert(path.clone(), onnx::probe(path, &runtime));
                }
                facts.model_sets.insert(words.value, found);
            }
            Need::Text(path) => {
                let text = std::fs::read_to_string(&path.value).map_err(|e| format!("can't read {}: {e}", path.value));
                facts.texts.insert(path.value, text);
            }
            Need::Processor(word) => drop(facts.processors.insert(word.value.clone(), onnx::provider::check(&word, &runtime))),
            Need::Placement(..) => {}
            other => panic!("{other:?}"),
        }
    }
    facts
}

fn stream(schema: SchemaRef) -> Output {
    Output { name: String::new(), schema, table: false, rows: None, row_bytes: 100 }
}

/// The work, as the engine starts it; with only these columns wanted behind it.
fn start(infer: &Infer, schema: &SchemaRef, wanted: Option<&[&str]>) -> Box<dyn work::Device> {
    let facts = facts(infer);
    let inputs = [stream(schema.clone())];
    let mut planned = infer.plan(&facts, &inputs).unwrap();
    if let Some(wanted) = wanted {
        let fields = planned.outputs[0].schema.fields().iter().filter(|f| wanted.contains(&f.name().as_str())).cloned();
        planned.outputs[0].schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    }
    let runtime = Runtime::default();
    let worker = Worker { index: 0, peers: 1 };
    let at = Start { worker, facts: &facts, inputs: &inputs, outputs: &planned.outputs, runtime: &runtime };
    match infer.start(&at).unwrap() {
        Work::Device(device) => device,
        _ => panic!("infer is a device"),
    }
}

/// One unit, pushed in slices of these lengths (the last one takes the rest).
fn unit(device: &mut dyn work::Device, rows: &RecordBatch, cuts: &[usize]) -> RecordBatch {
    let mut out = Vec::new();
    let mut first = 0;
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let take = cut.min(rows.num_rows() - first);
        out.extend(device.push(rows.slice(first, take)).unwrap_or_else(|e| panic!("{e}")));
        first += take;
    }
    out.extend(device.end().unwrap_or_else(|e| panic!("{e}")));
    let schema = out[0].schema();
    concat_batches(&schema, &out).unwrap()
}

fn predicted(batch: &RecordBatch, name: &str) -> Vec<f32> {
    batch.column_by_name(name).unwrap().as_primitive::<Float32Type>().values().to_vec()
}

fn two_images(dense: bool) -> RecordBatch {
    let ecal = images("ecal", &[7, 7, 9], &case("two_images.ECAL"), dense);
    batch(vec![ecal, images("hcal", &[3, 3, 5], &case("two_images.HCAL"), !dense)])
}

fn path(name: &str) -> String {
    cases().join(name).to_str().unwrap().to_owned()
}

fn classify(batch: usize) -> Infer {
    let outputs = serde_json::json!({ "energy": "e", "probabilities": ["p0", "p1", "p2", "p3"] });
    infer(&path("two_images.onnx"), serde_json::json!({ "ECAL": "ecal", "HCAL": "hcal" }), outputs, batch)
}

#[test]
fn hits_and_dense_images_as_in_python() {
    for dense in [false, true] {
        let rows = two_images(dense);
        let out = unit(&mut *start(&classify(32), &rows.schema(), None), &rows, &[5, 40, 0, 1]);
        assert_equal(&predicted(&out, "e"), &case("two_images.energy"));
        let theirs = case("two_images.probabilities");
        for k in 0..4 {
            let theirs: Vec<f32> = theirs.iter().skip(k).step_by(4).copied().collect();
            assert_equal(&predicted(&out, &format!("p{k}")), &theirs);
        }
        let names: Vec<_> = out.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["ecal", "hcal", "row", "e", "p0", "p1", "p2", "p3"]);
        assert_eq!(out.project(&[0, 1, 2]).unwrap(), rows);
    }
}

#[test]
fn channels_and_numbers_as_in_python() {
    for (name, size) in [("leading", 16), ("trailing", 100), ("fixed", 8)] {
        let image = images("image", &[6, 5], &case(&format!("{name}.image")), false);
        let eta = numbers("eta", &case(&format!("{name}.eta")));
        let rows = batch(vec![eta, image, numbers("phi", &case(&format!("{name}.phi")))]);
        let inputs = serde_json::json!({ "image": "image", "eta": "eta", "phi": "phi" });
        let step = infer(&path(&format!("{name}.onnx")), inputs, serde_json::json!({ "score": "score" }), size);
        let out = unit(&mut *start(&step, &rows.schema(), None), &rows, &[30]);
        assert_equal(&predicted(&out, "score"), &case(&format!("{name}.score")));
    }
}

#[test]
fn the_shower_network_as_in_python() {
    let Some(corpus) = std::env::var_os("CALOSTREAM_CORPUS").map(PathBuf::from) else {
        println!("CALOSTREAM_CORPUS is not set: skipped");
        return;
    };
    let lcd = corpus.join("lcd/derived_from_lcd_trained_weights");
    let model = lcd.join("3dgan_discriminator_energy_regression_ecal25.onnx");
    let data = lcd.join("3dgan_generated_electrons_ecal25.h5");
    let folder = tempfile::tempdir().unwrap();
    let (model, data, at) = (model.to_str().unwrap(), data.to_str().unwrap(), folder.path().to_str().unwrap());
    oracle(&["run", model, data, "ECAL", at]);
    let rows = batch(vec![images("ecal", &[25, 25, 25], &floats(&folder.path().join("images")), false)]);
    assert_eq!(rows.num_rows(), 200);
    let outputs = serde_json::json!({ "generation": "real", "auxiliary": "energy", "ecal_sum": "sum" });
    let step = infer(model, serde_json::json!({ "ECAL": "ecal" }), outputs, 64);
    let out = unit(&mut *start(&step, &rows.schema(), Some(&["row", "real", "energy", "sum"])), &rows, &[150]);
    assert_eq!(out.num_columns(), 4);
    for (ours, theirs) in [("real", "generation"), ("energy", "auxiliary"), ("sum", "ecal_sum")] {
        assert_equal(&predicted(&out, ours), &floats(&folder.path().join(theirs)));
    }
}

#[test]
fn values_are_transformed_as_numpy_does() {
    let values = case("scaled.x");
    let rows = batch(vec![images("x", &[4, 4], &values, false)]);
    let tanh_log = |x: f64| (x.signum() * (x.abs() + 1.0).ln() / 2.0).tanh();
    type Obvious<'a> = &'a dyn Fn(f64) -> f64;
    let tries: [(serde_json::Value, Obvious<'_>); 4] = [
        (serde_json::json!({ "column": "x" }), &|x| x),
        (serde_json::json!({ "column": "x", "divide": 150.0 }), &|x| x / 150.0),
        (serde_json::json!({ "column": "x", "norm": "tanh_log" }), &tanh_log),
        (serde_json::json!({ "column": "x", "scale": 4.0, "norm": "nonlinear" }), &|x| tanh_log(4.0 * x)),
    ];
    for (source, obvious) in tries {
        let step = infer(&path("scaled.onnx"), serde_json::json!({ "x": source }), serde_json::json!({ "sum": "s" }), 32);
        let out = unit(&mut *start(&step, &rows.schema(), None), &rows, &[]);
        let theirs: Vec<f32> =
            values.chunks_exact(16).map(|image| image.iter().map(|v| obvious(f64::from(*v))).sum::<f64>() as f32).collect();
        assert_equal(&predicted(&out, "s"), &theirs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// However a unit is cut into batches, every row comes out once, in order, with the same bits; and a unit that went
    /// before, whole or forgotten, leaves no trace.
    #[test]
    fn cuts_change_nothing(cuts in prop::collection::vec(0..ROWS, 0..12), size in 1_usize..100, before in 0..ROWS) {
        let rows = two_images(false);
        let whole = unit(&mut *start(&classify(size), &rows.schema(), None), &rows, &[]);
        let mut device = start(&classify(size), &rows.schema(), None);
        device.push(rows.slice(0, before)).unwrap_or_else(|e| panic!("{e}"));
        device.forget();
        for _ in 0..2 {
            let cut = unit(&mut *device, &rows, &cuts);
            let order = cut.column_by_name("row").unwrap().as_primitive::<UInt64Type>().values().to_vec();
            prop_assert_eq!(order, (0..ROWS as u64).collect::<Vec<_>>());
            prop_assert_eq!(&cut, &whole);
        }
    }
}

#[test]
fn an_empty_unit_and_a_nan() {
    let values = [f32::NAN, 1.0].map(|v| [[v; 1], [0.0; 1]].concat()).concat();
    let values: Vec<f32> = values
        .chunks_exact(2)
        .flat_map(|pair| [pair[0], pair[1], 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0.])
        .collect();
    let rows = batch(vec![images("x", &[4, 4], &values, false)]);
    let step = infer(&path("scaled.onnx"), serde_json::json!({ "x": "x" }), serde_json::json!({ "sum": "s" }), 32);
    let mut device = start(&step, &rows.schema(), None);
    assert!(device.end().unwrap_or_else(|e| panic!("{e}")).is_empty());
    let out = predicted(&unit(&mut *device, &rows, &[]), "s");
    assert!(out[0].is_nan() && out[1] == 1.0);
}

#[test]
fn a_hit_outside_the_image_is_the_fault_of_the_data() {
    let (field, _) = images("x", &[4, 4], &[0.0; 16], false);
    let mut outside = hits::HitsBuilder::<Float32Type>::default();
    outside.cells.push(16);
    outside.values.push(1.0);
    outside.end_event();
    let column: ArrayRef = Arc::new(outside.finish(&field).unwrap());
    let rows = batch(vec![(field, column)]);
    let step = infer(&path("scaled.onnx"), serde_json::json!({ "x": "x" }), serde_json::json!({ "sum": "s" }), 32);
    match start(&step, &rows.schema(), None).push(rows) {
        Err(Fault::Content(reason)) => assert_eq!(reason, "column `x`: a hit lies outside of the 16 cells"),
        other => panic!("{other:?}"),
    }
}

/// What is wrong, as `LINE:COLUMN what | help`.
fn wrong(infer: &Infer, facts: &Facts, schema: &SchemaRef) -> Vec<String> {
    let problems = infer.plan(facts, &[stream(schema.clone())]).unwrap_err();
    let say = |p: Problem| format!("{}:{} {} | {}", p.place.line, p.place.column, p.what, p.help.unwrap_or_default());
    problems.into_iter().map(say).collect()
}

#[test]
fn what_is_wrong_is_said() {
    let rows = two_images(false);
    let schema = rows.schema();
    let fine = classify(256);
    let facts = facts(&fine);
    let check = |change: &dyn Fn(&mut Infer)| {
        let mut step = fine.clone();
        change(&mut step);
        wrong(&step, &facts, &schema)
    };
    let source = |name: &str| Placed { value: Source::Column(name.into()), place: Place { line: 3, column: 4 } };
    let new = |name: &str| Placed { value: Names::One(name.into()), place: Place { line: 5, column: 6 } };

    assert_eq!(
        check(&|s| drop(s.inputs.insert("ECAL".into(), source("hcal")))),
        ["3:4 column `hcal` holds images of 3 x 3 x 5, the model's input `ECAL` wants (N, 7, 7, 9) | `ecal` has that shape"]
    );
    assert_eq!(
        check(&|s| drop(s.inputs.insert("ECAL".into(), source("row")))),
        ["3:4 column `row` holds one number a row, the model's input `ECAL` wants (N, 7, 7, 9) | `ecal` has that shape"]
    );
    assert_eq!(check(&|s| drop(s.inputs.insert("ECAL".into(), source("ecl")))), ["3:4 no column `ecl` | did you mean `ecal`?"]);
    assert_eq!(
        check(&|s| {
            s.inputs.remove("ECAL");
            s.inputs.insert("ECALL".into(), source("ecal"));
        }),
        [
            "1:1 the model's input `ECAL` gets no column | under `inputs`, write `ECAL: ecal`",
            "3:4 the model has no input `ECALL` | did you mean `ECAL`?"
        ]
    );
    assert_eq!(
        check(&|s| drop(s.outputs.insert("enrgy".into(), new("x")))),
        ["5:6 the model has no output `enrgy` | did you mean `energy`?"]
    );
    assert_eq!(
        check(&|s| drop(s.outputs.insert("probabilities".into(), new("p")))),
        ["5:6 the model's output `probabilities` has 4 values a row, and 1 column is named | its shape is (N, 4)"]
    );
    assert_eq!(
        check(&|s| drop(s.outputs.insert("energy".into(), new("ecal")))),
        ["5:6 there is a column `ecal` already | choose a new name"]
    );
    assert_eq!(
        check(&|s| drop(s.outputs.insert("energy".into(), new("p1")))),
        ["2:7 the column `p1` is given twice | choose another name"]
    );
    assert_eq!(check(&|s| s.batch.value = Batch::Rows(0)), ["1:1 a batch has at least one row | 256 is a good start"]);
    assert_eq!(
        check(&|s| s.outputs.clear()),
        ["1:1 none of the model's outputs is taken | write `outputs: { OUTPUT: new_column }`"]
    );
    assert_eq!(
        check(&|s| {
            s.batch.value = Batch::Rows(0);
            s.inputs.insert("HCAL".into(), source("nothing"));
        }),
        ["1:1 a batch has at least one row | 256 is a good start", "3:4 no column `nothing` | there is ecal, hcal, row"]
    );
}

#[test]
fn models_that_cannot_be_had() {
    let runtime = Runtime::default();
    assert_eq!(onnx::probe("no/such.onnx", &runtime).unwrap_err(), "there is no model `no/such.onnx`");
    let broken = path("broken.onnx");
    let reason = onnx::probe(&broken, &runtime).unwrap_err();
    assert!(reason.starts_with(&format!("`{broken}` can't be used: it is no ONNX model, or only a part of one")), "{reason}");

    for (name, wanted) in [
        ("empty", "it is no ONNX model"),
        ("page", "it is no ONNX model, or only a part of one (was it copied whole?); ONNX Runtime says: "),
        ("cut", "it is no ONNX model, or only a part of one (was it copied whole?); ONNX Runtime says: "),
        ("unknown", "it has an operator that this ONNX Runtime does not know; ONNX Runtime says: "),
        ("custom", "it has an operator that this ONNX Runtime does not know; ONNX Runtime says: "),
        ("future", "it is of a newer version of ONNX than this ONNX Runtime knows; export it with a lower opset, or use a newer"),
    ] {
        let path = path(&format!("{name}.onnx"));
        let reason = onnx::probe(&path, &runtime).unwrap_err();
        assert!(reason.starts_with(&format!("`{path}` can't be used: {wanted}")), "{name}: {reason}");
    }
    let texts = infer(&path("texts.onnx"), serde_json::json!({ "x": "row" }), serde_json::json!({ "y": "new" }), 1);
    assert_eq!(
        wrong(&texts, &facts(&texts), &two_images(false).schema()),
        [
            "1:1 the model's input `x` is string, which calostream can't feed | export the model with inputs of float32",
            "1:1 the model's output `y` is string, which can't be taken | "
        ]
    );

    let missing = infer("no/such.onnx", serde_json::json!({ "x": "ecl" }), serde_json::json!({ "y": "row" }), 1);
    assert_eq!(
        wrong(&missing, &facts(&missing), &two_images(false).schema()),
        [
            "1:1 no column `ecl` | did you mean `ecal`?",
            "1:1 there is a column `row` already | choose a new name",
            "1:1 there is no model `no/such.onnx` | "
        ]
    );
}

#[test]
fn a_model_that_changed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("model.onnx");
    std::fs::copy(cases().join("scaled.onnx"), &copy).unwrap();
    let step = infer(copy.to_str().unwrap(), serde_json::json!({ "x": "x" }), serde_json::json!({ "sum": "s" }), 4);
    let facts = facts(&step);
    let schema = batch(vec![images("x", &[4, 4], &[0.0; 16], false)]).schema();
    let inputs = [stream(schema)];
    let planned = step.plan(&facts, &inputs).unwrap();
    assert_eq!(planned.reads, [crate::Reads::Columns(BTreeSet::from(["x".to_owned()]))]);
    std::fs::copy(cases().join("two_images.onnx"), &copy).unwrap();
    let runtime = Runtime::default();
    let worker = Worker { index: 0, peers: 1 };
    let at = Start { worker, facts: &facts, inputs: &inputs, outputs: &planned.outputs, runtime: &runtime };
    let Err(error) = step.start(&at) else { panic!("another model was taken") };
    assert!(format!("{error:#}").contains("has changed since the pipeline was planned"), "{error:#}");
}

#[test]
fn what_a_model_wants_and_gives() {
    let ModelFacts { inputs, outputs, sha256, bytes, files, closed, first_layer, convolved, about } =
        onnx::probe(&path("two_images.onnx"), &Runtime::default()).unwrap();
    let say = |tensors: &[onnx::model::Tensor]| tensors.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(say(&inputs), ["ECAL float32(N, 7, 7, 9)", "HCAL float32(N, 3, 3, 5)"]);
    assert_eq!(say(&outputs), ["energy float32(N, 1)", "probabilities float32(N, 4)"]);
    assert_eq!((sha256.len(), bytes), (64, std::fs::metadata(path("two_images.onnx")).unwrap().len()));

    assert_eq!(files, []);
    assert_eq!((closed, first_layer), (None, None), "a convolution stands in front of the first product");
    assert_eq!(convolved, [Convolved { input: 0, width: 3 * 3 * 3 * 4, read_again: false }]);

    assert_eq!((about["opset"].as_str(), about["producer"].as_str()), ("17", "oracle"));

    let library = onnx::library::load(&Runtime::default()).unwrap();
    assert!(library.path.is_absolute() && library.version().starts_with("1."), "{} of {}", library.version(), library.build());
    assert_eq!(library.providers(), ["CPUExecutionProvider"]);
}
