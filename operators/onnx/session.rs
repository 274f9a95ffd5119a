//! A network that computes: one session a worker, on one thread, of the bytes that were looked at.
//!
//! Why one thread: workers are the parallelism, so that results do not depend on how a sum was split over threads, and the
//! pools of several sessions do not fight for the cores. Why no spinning: between batches the core belongs to the dataflow.

use super::library::{self, Library};
use super::model::{self, Extent, ModelFacts, Tensor};
use crate::work::Runtime;
use anyhow::{Context, anyhow, ensure};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};
use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Sessions are made one at a time: making them at once has crashed execution providers.
static MAKING: Mutex<()> = Mutex::new(());

/// A network that computes.
#[derive(Debug)]
pub struct Network {
    session: Session,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
}

/// An input as it will be fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name in the model.
    pub name: String,
    /// The extents of a row.
    pub row: Vec<usize>,
}

/// An output as it will be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its name in the model.
    pub name: String,
    /// The number of values in a row.
    pub width: usize,
}

impl Network {
    /// Opens the model at `path`, which must still be the one of `facts`.
    ///
    /// # Errors
    /// The file is gone or has changed, or ONNX Runtime refuses it.
    pub fn open(
        path: &str,
        facts: &ModelFacts,
        inputs: Vec<Input>,
        outputs: Vec<Output>,
        runtime: &Runtime,
    ) -> anyhow::Result<Self> {
        let start = Instant::now();
        let (bytes, sha256) = model::read(path).map_err(|e| anyhow!(e))?;
        let read = start.elapsed();
        ensure!(
            sha256 == facts.sha256,
            "the model `{path}` has changed since the pipeline was planned (SHA-256 {sha256}, it was {}); run again",
            facts.sha256
        );
        let library = library::load(runtime).map_err(|e| anyhow!(e))?;
        let session =
            make(&bytes, library, GraphOptimizationLevel::All).with_context(|| format!("opening the model `{path}`"))?;
        tracing::debug!(path, ?read, all = ?start.elapsed(), "a session");
        Ok(Self { session, inputs, outputs })
    }

    /// Runs a batch of `rows` rows: `inputs` in the order of [`open`](Self::open), each `rows` times its row; the values of
    /// each output (`rows` x width) are appended to `outputs`.
    ///
    /// # Errors
    /// ONNX Runtime fails, or an output has another shape than the model said.
    pub fn run(&mut self, rows: usize, inputs: &[&[f32]], outputs: &mut [Vec<f32>]) -> anyhow::Result<()> {
        let mut named: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for (input, values) in self.inputs.iter().zip(inputs) {
            let shape: Vec<usize> = [rows].into_iter().chain(input.row.iter().copied()).collect();
            named.push((Cow::Borrowed(input.name.as_str()), TensorRef::from_array_view((shape, *values))?.into()));
        }
        let results = self.session.run(named).context("ONNX Runtime")?;
        for (output, into) in self.outputs.iter().zip(outputs) {
            let value = results.get(&output.name).with_context(|| format!("the model gave no output `{}`", output.name))?;
            let (shape, values) = value.try_extract_tensor::<f32>()?;
            ensure!(
                shape.first() == Some(&i64::try_from(rows)?) && values.len() == rows * output.width,
                "the model's output `{}` came as {shape:?}: {} values for each of {rows} rows were expected",
                output.name,
                output.width
            );
            into.extend_from_slice(values);
        }
        Ok(())
    }
}

/// The inputs and outputs of a model.
pub(super) fn look(bytes: &[u8], library: &Library) -> Result<(Vec<Tensor>, Vec<Tensor>), String> {
    let session = make(bytes, library, GraphOptimizationLevel::Disable).map_err(|error| explain(&error))?;
    Ok((session.inputs().iter().map(tensor).collect(), session.outputs().iter().map(tensor).collect()))
}

fn explain(error: &ort::Error) -> String {
    let message = error.message().trim();
    if message.contains("external data") || message.contains("model_path must not be empty") {
        return "its weights are in another file; save it as one (`onnx.save(onnx.load(path), path, save_as_external_data=False)`)".into();
    }
    format!("ONNX Runtime says: {message}")
}

fn make(bytes: &[u8], library: &Library, level: GraphOptimizationLevel) -> ort::Result<Session> {
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    Session::builder(library.environment())?
        .with_optimization_level(level)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_deterministic_compute(true)?
        .commit_from_memory(bytes)
}

fn tensor(outlet: &Outlet) -> Tensor {
    let name = outlet.name().to_owned();
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, dimension_symbols } => {
            let dims = shape.iter().zip(dimension_symbols.iter());
            let dims = dims.map(|(n, symbol)| usize::try_from(*n).map_or_else(|_| Extent::Free(symbol.clone()), Extent::Fixed));
            Tensor { name, element: element(*ty), dims: dims.collect() }
        }
        ValueType::Sequence(_) => Tensor { name, element: "a sequence".into(), dims: Vec::new() },
        ValueType::Map { .. } => Tensor { name, element: "a map".into(), dims: Vec::new() },
        ValueType::Optional(_) => Tensor { name, element: "an optional value".into(), dims: Vec::new() },
    }
}

/// As ONNX and numpy write it.
fn element(of: TensorElementType) -> String {
    match of {
        TensorElementType::Float32 => model::FLOAT.into(),
        TensorElementType::Float64 => "float64".into(),
        TensorElementType::Float16 => "float16".into(),
        TensorElementType::Int64 => "int64".into(),
        TensorElementType::Int32 => "int32".into(),
        TensorElementType::String => "string".into(),
        other => other.to_string(),
    }
}
