//! Models that get hits: that make their image themselves, and whose first layer is computed from them.

use super::*;
use crate::onnx::provider::Processor;
use serde_json::json;

fn both_as_hits() -> RecordBatch {
    let ecal = images("ecal", &[7, 7, 9], &case("two_images.ECAL"), false);
    batch(vec![ecal, images("hcal", &[3, 3, 5], &case("two_images.HCAL"), false)])
}

fn of(model: &str, more: serde_json::Value) -> Infer {
    let mut all =
        json!({ "model": path(model), "inputs": { "ECAL": "ecal", "HCAL": "hcal" }, "outputs": { "score": "p" }, "batch": 16 });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    step(all)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// To the bit, whichever of the images are hits, however rows come, with normalisations, and with a row that has no value.
#[test]
fn a_model_that_makes_its_image_says_what_it_says_of_a_dense_one() {
    let mut rows = vec![both_as_hits(), two_images(false), two_images(true)];
    let whole = both_as_hits();
    let list = whole.column(0).as_list::<i32>();
    let nulls = arrow::buffer::NullBuffer::from_iter((0..ROWS).map(|row| row != 7));
    let DataType::List(item) = list.data_type() else { unreachable!() };
    let missing = arrow::array::ListArray::new(item.clone(), list.offsets().clone(), list.values().clone(), Some(nulls));
    let fields: Vec<_> = whole.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let columns = vec![Arc::new(missing) as ArrayRef, whole.column(1).clone(), whole.column(2).clone()];
    rows.push(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap());
    for rows in rows {
        for ecal in [json!("ecal"), json!({ "column": "ecal", "norm": "nonlinear" })] {
            let with = |upload: &str| {
                let mut step = classify(16);
                step.first_layer = FirstLayerWord::Dense;
                step.inputs.insert("ECAL".into(), serde_json::from_value(ecal.clone()).unwrap());
                step.upload = serde_json::from_value(json!(upload)).unwrap();
                step
            };
            let dense = unit(&mut *start(&with("dense"), &rows.schema(), None), &rows, &[5, 40, 0, 1]);
            let bound = with("hits").bind(&facts(&with("hits")), &rows.schema()).unwrap();
            assert!(bound.models[0].inputs.iter().any(|input| input.hits));
            let mut device = start(&with("hits"), &rows.schema(), None);
            for cuts in [&[5usize, 40, 0, 1][..], &[82], &[]] {
                let hits = unit(&mut *device, &rows, cuts);
                for column in ["e", "p0", "p3"] {
                    assert_eq!(bits(&predicted(&hits, column)), bits(&predicted(&dense, column)), "{column}");
                }
            }
        }
    }
}

/// A model that takes just 8 rows at a time gets the hits of just 8.
#[test]
fn a_batch_in_pieces_has_the_hits_of_each() {
    let image = images("image", &[6, 5], &case("fixed.image"), false);
    let rows = batch(vec![image, numbers("eta", &case("fixed.eta")), numbers("phi", &case("fixed.phi"))]);
    let inputs = json!({ "image": "image", "eta": "eta", "phi": "phi" });
    for upload in ["dense", "hits"] {
        let mut step = infer(&path("fixed.onnx"), inputs.clone(), json!({ "score": "score" }), 32);
        step.upload = serde_json::from_value(json!(upload)).unwrap();
        let out = unit(&mut *start(&step, &rows.schema(), None), &rows, &[30]);
        assert_equal(&predicted(&out, "score"), &case("fixed.score"));
    }
}

#[test]
fn what_cannot_get_hits_says_so() {
    let dense = batch(vec![
        images("ecal", &[7, 7, 9], &case("two_images.ECAL"), true),
        images("hcal", &[3, 3, 5], &case("two_images.HCAL"), true),
    ]);
    let step = of("sweep/w8-d1.onnx", json!({ "upload": "hits" }));
    let said = wrong(&step, &facts(&step), &dense.schema());
    assert!(said[0].contains("gets images of hits alone") && said[0].ends_with("| write `upload: dense`"), "{said:?}");
    let mut old = facts(&step);
    let model = old.models.values_mut().next().unwrap().as_mut().unwrap();
    model.about.insert("opset".into(), "9".into());
    model.closed = Some("it has functions of its own".into());
    let said = wrong(&step, &old, &both_as_hits().schema());
    assert!(
        said.iter().any(|s| s.contains("it is of opset 9")) && said.iter().any(|s| s.contains("functions of its own")),
        "{said:?}"
    );
}

/// As ONNX Runtime in Python within 1e-6 of the scale; to the bit however rows come, and whatever other models there are.
#[test]
fn first_layers_from_hits_as_in_python() {
    let rows = both_as_hits();
    for (name, taken) in [("matmul", true), ("transposed", true), ("half", false), ("twice", false)] {
        let step = of(&format!("layers/{name}.onnx"), json!({}));
        let bound = step.bind(&facts(&step), &rows.schema()).unwrap();
        assert_eq!((bound.models[0].from_hits, bound.feeds[0].hits), (taken, taken), "{name}");
        let mut device = start(&step, &rows.schema(), None);
        let ours = predicted(&unit(&mut *device, &rows, &[5, 40, 0, 1]), "p");
        assert_equal(&ours, &case(&format!("layers.{name}")));
        assert_eq!(bits(&predicted(&unit(&mut *device, &rows, &[81]), "p")), bits(&ours));
        let dense = of(&format!("layers/{name}.onnx"), json!({ "first_layer": "dense" }));
        assert!(!dense.bind(&facts(&dense), &rows.schema()).unwrap().models[0].from_hits);
    }
    let sweep = of("sweep/*.onnx", json!({}));
    let bound = sweep.bind(&facts(&sweep), &rows.schema()).unwrap();
    assert!(bound.models.iter().all(|model| model.from_hits));
    assert_eq!(bound.feeds.len(), 2);
    let all = unit(&mut *start(&sweep, &rows.schema(), None), &rows, &[5, 40, 0, 1]);
    for model in ["w16-d1", "w16-d2", "w32-d3", "w8-d1"] {
        let ours = predicted(&all, &format!("p_{}", model.replace('-', "_")));
        assert_equal(&ours, &case(&format!("sweep.{model}")));
        let alone = of(&format!("sweep/{model}.onnx"), json!({}));
        let alone = unit(&mut *start(&alone, &rows.schema(), None), &rows, &[]);
        assert_eq!(bits(&predicted(&alone, "p")), bits(&ours), "{model}");
    }
    // Layers that put the images side by side in other orders are computed together, too.
    let orders = of("layers/*.onnx", json!({}));
    let said = unit(&mut *start(&orders, &rows.schema(), None), &rows, &[40]);
    for model in ["matmul", "transposed", "half", "twice"] {
        assert_equal(&predicted(&said, &format!("p_{model}")), &case(&format!("layers.{model}")));
    }
    assert_eq!(bound.used["models"][0]["first_layer"], "from hits");
    // Where one of the images is dense, or on a GPU, the layer is ONNX Runtime's.
    assert!(sweep.bind(&facts(&sweep), &two_images(false).schema()).unwrap().models.iter().all(|model| !model.from_hits));
}

/// As ONNX Runtime in Python within 1e-6 of the scale, whether an image is dense or hits; to the bit however rows come.
#[test]
fn first_convolutions_from_hits_as_in_python() {
    let rows = both_as_hits();
    for (name, taken, feeds) in [
        ("deep", &["ECAL", "HCAL"][..], &[][..]),
        ("layers", &["ECAL"], &["HCAL"]),
        ("beside", &["ECAL"], &["ECAL", "HCAL"]),
        ("logarithm", &["ECAL"], &["HCAL"]),
        ("strided", &["HCAL"], &["ECAL", "HCAL"]),
        ("unread", &["ECAL"], &["HCAL"]),
        ("infinite", &[], &["ECAL", "HCAL"]),
    ] {
        let step = of(&format!("convolutions/{name}.onnx"), json!({}));
        let bound = step.bind(&facts(&step), &rows.schema()).unwrap();
        assert_eq!(bound.used["models"][0]["convolved_from_hits"], json!(taken), "{name}");
        let layer = if taken.is_empty() { "by ONNX Runtime" } else { "convolution from hits" };
        assert_eq!(bound.used["models"][0]["first_layer"], layer, "{name}");
        let inputs: Vec<&str> = bound.models[0].inputs.iter().map(|input| input.name.as_str()).collect();
        assert_eq!(inputs, feeds, "{name}");
        let mut device = start(&step, &rows.schema(), None);
        let ours = predicted(&unit(&mut *device, &rows, &[5, 40, 0, 1]), "p");
        assert_equal(&ours, &case(&format!("convolutions.{name}")));
        assert_eq!(bits(&predicted(&unit(&mut *device, &rows, &[81]), "p")), bits(&ours), "{name}");
        for half in [two_images(false), two_images(true)] {
            let mixed = predicted(&unit(&mut *start(&step, &half.schema(), None), &half, &[]), "p");
            assert_equal(&mixed, &ours);
        }
        let dense = of(&format!("convolutions/{name}.onnx"), json!({ "first_layer": "dense" }));
        assert!(dense.bind(&facts(&dense), &rows.schema()).unwrap().models[0].convolved.is_empty());
    }
    let sweep = of("convolutions/*.onnx", json!({}));
    let all = unit(&mut *start(&sweep, &rows.schema(), None), &rows, &[40]);
    for model in ["deep", "layers", "beside", "logarithm", "strided", "unread", "infinite"] {
        assert_equal(&predicted(&all, &format!("p_{model}")), &case(&format!("convolutions.{model}")));
    }
}

/// What ONNX Runtime would refuse when it runs is left to it, and so is an image of more cells than have numbers.
#[test]
fn convolutions_that_are_left() {
    for name in ["zero", "bias", "large"] {
        let facts = onnx::probe(&path(&format!("left.{name}.onnx")), &Runtime::default()).unwrap();
        assert_eq!((facts.closed, facts.convolved), (None, vec![]), "{name}");
    }
}

/// Nodes that a GPU leaves to the CPU are named where the device was typed, or remarked on where they are permitted.
#[test]
fn nodes_on_the_cpu_are_named() {
    let rows = both_as_hits();
    let step = of("sweep/w8-d1.onnx", json!({ "device": "cuda" }));
    let mut known = facts(&step);
    known.processors.insert("cuda".into(), Ok(()));
    let key = ("cuda".to_owned(), path("sweep/w8-d1.onnx"));
    known.placements.insert(key.clone(), Ok(vec!["Det (head/det)".into(), "Reshape (flat)".into()]));
    let said = wrong(&step, &known, &rows.schema());
    let named = format!("2 nodes of {} would compute on the CPU, not on `cuda`: Det (head/det), Reshape (flat)", key.1);
    assert_eq!(said, [format!("0:0 {named} | `allow_cpu_nodes: true` permits that")]);
    let permitted = of("sweep/w8-d1.onnx", json!({ "device": "cuda", "allow_cpu_nodes": true }));
    let bound = permitted.bind(&known, &rows.schema()).unwrap();
    assert_eq!(bound.remarks, [named]);
    assert_eq!(bound.processors, [Processor::named("cuda", true).unwrap()]);
    assert!(!bound.models[0].from_hits);
    known.placements.insert(key, Err("`x` can't be opened on cuda:0".into()));
    assert!(wrong(&step, &known, &rows.schema())[0].contains("can't be opened on cuda:0"));
}
