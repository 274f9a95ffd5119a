//! Several models in one pass: sweeps, folds, what they share.

use super::*;
use arrow::array::Int64Array;
use serde_json::json;

const SWEEP: [&str; 4] = ["w16-d1", "w16-d2", "w32-d3", "w8-d1"];

fn theirs(model: &str) -> Vec<f32> {
    case(&format!("sweep.{model}"))
}

fn sweep(model: serde_json::Value, score: &str) -> Infer {
    step(json!({ "model": model, "inputs": { "ECAL": "ecal", "HCAL": "hcal" }, "outputs": { "score": score }, "batch": 32 }))
}

#[test]
fn a_sweep_says_what_its_models_say_one_by_one() {
    let rows = two_images(false);
    let pattern = path("sweep/*.onnx");
    let step = sweep(json!(pattern), "p");
    let bound = step.bind(&facts(&step), &rows.schema()).unwrap();
    assert_eq!((bound.feeds.len(), bound.models.len()), (2, 4), "all models read the same two buffers");
    let out = unit(&mut *start(&step, &rows.schema(), None), &rows, &[5, 40, 0, 1]);
    for model in SWEEP {
        let ours = predicted(&out, &format!("p_{}", model.replace('-', "_")));
        assert_equal(&ours, &theirs(model));
        let alone = sweep(json!(path(&format!("sweep/{model}.onnx"))), "p");
        let alone = unit(&mut *start(&alone, &rows.schema(), None), &rows, &[]);
        assert_eq!(predicted(&alone, "p"), ours);
    }
}

#[test]
fn models_have_names() {
    let rows = two_images(false);
    let columns = |step: &Infer| -> Vec<String> {
        let planned = step.plan(&facts(step), &[stream(rows.schema())]).unwrap();
        planned.outputs[0].schema.fields().iter().skip(3).map(|f| f.name().clone()).collect()
    };
    let (first, second) = (path("sweep/w8-d1.onnx"), path("sweep/w16-d2.onnx"));
    assert_eq!(columns(&sweep(json!([first, second]), "p")), ["p_w8_d1", "p_w16_d2"]);
    assert_eq!(columns(&sweep(json!({ "wide": second, "a": first }), "{model}_p")), ["wide_p", "a_p"]);
    assert_eq!(columns(&sweep(json!([first]), "p")), ["p_w8_d1"]);
    assert_eq!(columns(&sweep(json!(first), "p")), ["p"]);

    // A model alone is called so where it is asked for, and then its name is part of the plan.
    assert_eq!(columns(&sweep(json!(first), "{model}_p")), ["w8_d1_p"]);
    assert!(matches!(&sweep(json!(first), "{model}_p").needs()[..], [Need::Models(word)] if word.value == first));
    assert!(matches!(&sweep(json!(first), "p").needs()[..], [Need::Model(word)] if word.value == first));
    let folder = tempfile::tempdir().unwrap();
    let nameless = folder.path().join("-\u{fc}.onnx").to_str().unwrap().to_owned();
    std::fs::copy(&first, &nameless).unwrap();
    for (model, name) in [(json!([nameless]), "p"), (json!(nameless), "{model}_p")] {
        let step = sweep(model, name);
        let said = wrong(&step, &facts(&step), &rows.schema());
        assert!(said[0].contains("has no letter (a to z) or digit for the names of columns | give it one:"), "{said:?}");
    }
    assert_eq!(columns(&sweep(json!({ "a": nameless }), "p")), ["p_a"]);
    assert_eq!(columns(&sweep(json!(nameless), "p")), ["p"]);

    let twice = sweep(json!([first, path("sweep/w8-d1.onnx")]), "p");
    let said = wrong(&twice, &facts(&twice), &rows.schema());
    assert!(said[0].contains("two models are called `w8_d1`"), "{said:?}");
    let none = sweep(json!(path("sweep/nothing*.onnx")), "p");
    let said = wrong(&none, &facts(&none), &rows.schema());
    assert!(said[0].starts_with("1:1 ") && said[0].contains("nothing*.onnx"), "{said:?}");
    let other = sweep(json!([first, path("scaled.onnx")]), "p");
    let said = wrong(&other, &facts(&other), &rows.schema());
    assert_eq!(said[0], "0:0 model `scaled`: the model's input `x` gets no column | under `inputs`, write `x: COLUMN`");
}

#[test]
fn what_is_used_is_written_down() {
    let rows = two_images(false);
    let step = sweep(json!([path("sweep/w8-d1.onnx")]), "p");
    let used = step.plan(&facts(&step), &[stream(rows.schema())]).unwrap().used;
    let model = &used["models"][0];
    assert_eq!(model["name"], "w8_d1");
    assert_eq!(model["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(model["about"]["producer"], "oracle");
    assert_eq!(
        model["inputs"]["ECAL"],
        json!({ "row": [7, 7, 9], "type": "float32", "of": [{ "column": "ecal", "value": "energy" }] })
    );
}

/// Model `i` of `k` for the events whose key is `i` modulo `k`, in batches of their own.
#[test]
fn folds_go_by_the_key() {
    let two = two_images(false);
    let keys: Vec<i64> = (0..ROWS as i64).map(|row| (row * 7919) % 31 - 15).collect();
    let (mut fields, mut columns) = (two.schema().fields().to_vec(), two.columns().to_vec());
    fields.push(Arc::new(Field::new("number", DataType::Int64, false)));
    columns.push(Arc::new(Int64Array::from(keys.clone())));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let models: Vec<String> = SWEEP[..3].iter().map(|m| path(&format!("sweep/{m}.onnx"))).collect();
    let step = step(json!({
        "folds": { "key": "number", "models": models },
        "inputs": { "ECAL": "ecal", "HCAL": "hcal" }, "outputs": { "score": "p" }, "batch": 8,
    }));
    let said: Vec<Vec<f32>> = SWEEP[..3].iter().map(|m| theirs(m)).collect();
    let wanted: Vec<f32> = keys.iter().enumerate().map(|(row, key)| said[key.rem_euclid(3) as usize][row]).collect();
    let whole = unit(&mut *start(&step, &rows.schema(), None), &rows, &[]);
    assert_equal(&predicted(&whole, "p"), &wanted);
    let mut device = start(&step, &rows.schema(), None);
    for cuts in [&[1_usize, 30, 2][..], &[82], &[]] {
        assert_eq!(unit(&mut *device, &rows, cuts), whole);
    }

    let schema = rows.schema();
    let check = |change: &dyn Fn(&mut Infer)| {
        let mut step = step.clone();
        change(&mut step);
        wrong(&step, &facts(&step), &schema)
    };
    let key = |name: &str| Placed { value: name.to_owned(), place: Place { line: 4, column: 4 } };
    assert_eq!(
        check(&|s| s.folds.as_mut().unwrap().key = key("ecal")),
        ["4:4 column `ecal` is List(non-null Struct(\"cell\": non-null UInt16, \"energy\": non-null Float32), field: 'item'), and folds go by an \
          integer | an event number, say"]
        .map(|s| s.replace("List(non-null Struct(\"cell\": non-null UInt16, \"energy\": non-null Float32), field: 'item')", &schema.field(0).data_type().to_string()))
    );
    assert!(
        check(&|s| s.folds.as_mut().unwrap().models.value[1].value = path("two_images.onnx"))[0].contains("has not the outputs")
    );
    assert!(check(&|s| s.model = Some(Placed::unplaced(Models::One("x.onnx".into()))))[0].contains("two ways to say"));
    assert!(check(&|s| s.folds = None)[0].contains("no model is named"));
    let named = || Placed { value: Names::One("{model}_p".into()), place: Place { line: 7, column: 3 } };
    assert_eq!(
        check(&|s| drop(s.outputs.insert("score".into(), named()))),
        [
            "7:3 `{model}` in `{model}_p` stands for a model's name, and of folds each event meets another | name the column without it"
        ]
    );
}
