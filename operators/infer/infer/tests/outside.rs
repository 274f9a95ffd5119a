//! Models whose weights lie in files beside them.

use super::*;
use serde_json::json;

fn copied(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::copy(cases().join("outside").join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn of(model: &Path) -> Infer {
    let outputs = json!({ "energy": "e", "probabilities": ["p0", "p1", "p2", "p3"] });
    infer(model.to_str().unwrap(), json!({ "ECAL": "ecal", "HCAL": "hcal" }), outputs, 32)
}

#[test]
fn weights_beside_a_model_are_its_own() {
    let rows = two_images(false);
    for name in ["one", "each", "node"] {
        let step = of(&cases().join(format!("outside/{name}.onnx")));
        let out = unit(&mut *start(&step, &rows.schema(), None), &rows, &[]);
        assert_equal(&predicted(&out, "e"), &case("two_images.energy"));
        let used = step.plan(&facts(&step), &[stream(rows.schema())]).unwrap().used;
        let model = &used["models"][0];
        // Its first layers are found, too.
        assert_eq!(model["convolved_from_hits"], json!(["ECAL"]), "{name}");
        let files = model["files"].as_array().unwrap();
        assert_eq!(files.len(), if name == "each" { 5 } else { 2 }, "{files:?}");
        assert!(files[0]["path"].as_str().unwrap().ends_with(&format!("/{name}.onnx")) && files[0]["sha256"] != model["sha256"]);
    }
    let x = batch(vec![numbers("x", &[2.0, -4.0])]);
    let step = infer(&path("outside/branch.onnx"), json!({ "x": "x" }), json!({ "y": "y" }), 2);
    assert_eq!(predicted(&unit(&mut *start(&step, &x.schema(), None), &x, &[]), "y"), [5.0, -10.0]);
}

#[test]
fn weights_that_changed_are_another_model() {
    let folder = copied(&["one.onnx", "weights.bin"]);
    let step = of(&folder.path().join("one.onnx"));
    let before = facts(&step);
    let inputs = [stream(two_images(false).schema())];
    let planned = step.plan(&before, &inputs).unwrap();
    let beside = folder.path().join("weights.bin");
    let mut weights = std::fs::read(&beside).unwrap();
    *weights.last_mut().unwrap() ^= 1;
    std::fs::write(&beside, weights).unwrap();
    let runtime = Runtime::default();
    let at = Start {
        worker: Worker { index: 0, peers: 1 },
        facts: &before,
        inputs: &inputs,
        outputs: &planned.outputs,
        runtime: &runtime,
    };
    let Err(error) = step.start(&at) else { panic!("other weights were taken") };
    assert!(format!("{error:#}").contains("has changed since the pipeline was planned"), "{error:#}");
    let hash = |facts: &Facts| facts.models.values().next().unwrap().as_ref().unwrap().sha256.clone();
    assert_ne!(hash(&facts(&step)), hash(&before));
}

#[test]
fn weights_that_cannot_be_had() {
    let folder = copied(&["one.onnx", "weights.bin"]);
    let (model, beside) = (folder.path().join("one.onnx"), folder.path().join("weights.bin"));
    let model = model.to_str().unwrap();
    let why = || onnx::probe(model, &Runtime::default()).unwrap_err();
    let whole = std::fs::read(&beside).unwrap();
    std::fs::write(&beside, &whole[..whole.len() - 1]).unwrap();
    assert!(why().contains("its weights are in `weights.bin`, which is too short"), "{}", why());
    std::fs::remove_file(&beside).unwrap();
    let gone = format!("its weights are in `weights.bin`, and there is no {}: they stay beside the model", beside.display());
    assert_eq!(why(), format!("`{model}` can't be used: {gone}"));
    // A file elsewhere is not read, whoever made the model.
    let text = std::fs::read(model).unwrap();
    let at = text.windows(11).position(|w| w == b"weights.bin").unwrap();
    let other = [&text[..at], b"../eights.b", &text[at + 11..]].concat();
    std::fs::write(model, other).unwrap();
    assert!(
        why().contains("its weights are in `../eights.b`, and only files within the model's own folder are read"),
        "{}",
        why()
    );
}
