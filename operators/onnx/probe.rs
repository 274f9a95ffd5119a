//! A model looked at before it computes: its inputs and outputs, what it says of itself, and why it can't be used.

use super::library::Library;
use super::model::{self, Extent, ModelFacts, Tensor, Whole};
use super::provider::Processor;
use super::session::make;
use super::tensor::Element;
use super::{first_convolution, first_layer, library};
use crate::stamp::Stamp;
use crate::work::Runtime;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{Outlet, ValueType};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// What was found out of a file, and when it was there: a watch asks again and again.
static KNOWN: Mutex<BTreeMap<String, (Vec<Stamped>, ModelFacts)>> = Mutex::new(BTreeMap::new());

/// A file as it was.
type Stamped = (PathBuf, Stamp);

/// A file as it is; none where it is not there, or was written to just now.
fn stamped(path: PathBuf) -> Option<Stamped> {
    let stamp = Stamp::of(&std::fs::metadata(&path).ok()?);
    stamp.settled(SystemTime::now()).then_some((path, stamp))
}

/// Looks at a model file.
///
/// # Errors
/// Says in words why it is no model that can be used.
pub fn probe(path: &str, runtime: &Runtime) -> Result<ModelFacts, String> {
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_as_before = |of: &Stamped| stamped(of.0.clone()).as_ref() == Some(of);
    if let Some((_, facts)) = known().get(path).filter(|(before, _)| before.iter().all(is_as_before)) {
        return Ok(facts.clone());
    }
    let own = stamped(path.into());
    let Whole { bytes, sha256, files } = model::read(path)?;
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    // What changes while it is read was written to just now.
    let beside = files.iter().skip(1).map(|file| stamped(folder.join(&file.path)));
    let stamps: Option<Vec<Stamped>> = std::iter::once(own).chain(beside).collect();
    let library = library::load(runtime)?;
    let look = look(&bytes, library).map_err(|reason| format!("`{path}` can't be used: {reason}"))?;
    let rows: Option<Vec<Vec<usize>>> = look.inputs.iter().map(Tensor::row).collect();
    let inputs: Vec<(&str, &[usize])> =
        look.inputs.iter().zip(rows.iter().flatten()).map(|(input, row)| (input.name.as_str(), row.as_slice())).collect();
    // Where an extent is free, there are no inputs here, and no layer is found.
    let found = || anyhow::Ok((first_layer::find(&bytes, &inputs)?, first_convolution::find(&bytes, &inputs)?));
    let (closed, first_layer, convolved) = match found() {
        Ok((layer, convolved)) => (None, layer.map(|layer| layer.width), convolved),
        Err(error) => (Some(format!("{error:#}")), None, Vec::new()),
    };
    let bytes = bytes.len() as u64;
    let Look { inputs, outputs, about } = look;
    let facts = ModelFacts { inputs, outputs, sha256, bytes, files, closed, first_layer, convolved, about };
    if let Some(stamps) = stamps {
        known().insert(path.to_owned(), (stamps, facts.clone()));
    }
    Ok(facts)
}

/// What ONNX Runtime says of a model.
struct Look {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    about: BTreeMap<String, String>,
}

/// Looks at a model. It is opened on the CPU, without any optimisation.
fn look(bytes: &[u8], library: &Library) -> Result<Look, String> {
    let session = make(bytes, library, GraphOptimizationLevel::Disable, &Processor::Cpu).map_err(|error| explain(&error))?;
    let mut about = BTreeMap::new();
    if let Ok(metadata) = session.metadata() {
        let mut note = |key: &str, value: Option<String>| {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                about.insert(key.to_owned(), value);
            }
        };
        note("producer", metadata.producer());
        note("description", metadata.description());
        note("domain", metadata.domain());
        note("graph", metadata.name());
        note("version", metadata.version().filter(|v| *v != 0 && *v != i64::MAX).map(|v| v.to_string()));
        for key in metadata.custom_keys().unwrap_or_default() {
            note(&format!("metadata.{key}"), metadata.custom(&key));
        }
    }
    if let Some(opset) = session.opset_for_domain("") {
        about.insert("opset".into(), opset.to_string());
    }
    Ok(Look {
        inputs: session.inputs().iter().map(tensor_of).collect(),
        outputs: session.outputs().iter().map(tensor_of).collect(),
        about,
    })
}

/// What ONNX Runtime says, and what can be done about it.
fn explain(error: &ort::Error) -> String {
    let message = error.message().trim();
    // Some begin with the place in ONNX Runtime's own source, and the signature of a function.
    let message = message.strip_prefix('/').and_then(|m| m.split_once(") ")).map_or(message, |(_, rest)| rest);
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let what = if has(&["external data", "model_path must not be empty", "External data", "external initializer"]) {
        "some of its weights are in another file; save it as one (`onnx.save(onnx.load(path), path, save_as_external_data=False)`)"
    } else if has(&["Protobuf parsing failed", "No graph was found", "Failed to load model because protobuf"]) {
        "it is no ONNX model, or only a part of one (was it copied whole?)"
    } else if has(&[
        "is under development and support for this is limited",
        "Current official support for domain",
        "Unsupported model IR version",
    ]) {
        "it is of a newer version of ONNX than this ONNX Runtime knows; export it with a lower opset, or use a newer ONNX Runtime"
    } else if has(&[
        "is not a registered function/op",
        "No Op registered for",
        "Could not find an implementation",
        "Fatal error: ",
    ]) {
        "it has an operator that this ONNX Runtime does not know"
    } else {
        return format!("ONNX Runtime says: {message}");
    };
    format!("{what}; ONNX Runtime says: {message}")
}

fn tensor_of(outlet: &Outlet) -> Tensor {
    let name = outlet.name().to_owned();
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, dimension_symbols } => {
            let dims = shape.iter().zip(dimension_symbols.iter());
            let dims = dims.map(|(n, symbol)| usize::try_from(*n).map_or_else(|_| Extent::Free(symbol.clone()), Extent::Fixed));
            let element = Element::of(*ty).map_or_else(|| ty.to_string().to_lowercase(), |element| element.name().to_owned());
            Tensor { name, element, dims: dims.collect() }
        }
        ValueType::Sequence(_) => Tensor { name, element: "a sequence".into(), dims: Vec::new() },
        ValueType::Map { .. } => Tensor { name, element: "a map".into(), dims: Vec::new() },
        ValueType::Optional(_) => Tensor { name, element: "an optional value".into(), dims: Vec::new() },
    }
}
