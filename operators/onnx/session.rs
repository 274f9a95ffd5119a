//! A network that computes: on the CPU one session a worker, on one thread, of the bytes that were looked at; on a GPU two.
//!
//! Why one thread: workers are the parallelism, so that results do not depend on how a sum was split over threads, and the
//! pools of several sessions do not fight for the cores. Why no spinning: between batches the core belongs to the dataflow.

use super::library::{self, Library};
use super::memory::Pinned;
use super::model::{self, ModelFacts};
use super::provider::Processor;
use super::scatter::{self, Scattered};
use super::tensor::{self, Element, Fed, Values, given};
use crate::meter::{Doing, Meter};
use crate::work::Runtime;
use anyhow::{Context, anyhow, ensure};
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Sessions are made one at a time: making them at once has crashed execution providers.
static MAKING: Mutex<()> = Mutex::new(());

/// A network that computes.
#[derive(Debug)]
pub struct Network {
    session: Session,
    inputs: Vec<Input>,
    /// For the inputs that get hits, in their order, the inputs that stand for them.
    scattered: Vec<Scattered>,
    outputs: Vec<Output>,
    /// For inputs that are made anew for each run.
    pinned: Option<Pinned>,
}

/// An input as it will be fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name in the model.
    pub name: String,
    /// The extents of a row.
    pub row: Vec<usize>,
    /// The type that the model declares.
    pub element: Element,
    /// True where it gets hits and makes the image itself.
    pub hits: bool,
}

/// An output as it will be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its name in the model.
    pub name: String,
    /// The number of values in a row.
    pub width: usize,
    /// The type that the model declares.
    pub element: Element,
}

impl Network {
    /// Opens the model at `path`, which must still be the one of `facts`.
    ///
    /// # Errors
    /// The file is gone or has changed, or ONNX Runtime refuses it.
    pub fn open(
        path: &str,
        facts: &ModelFacts,
        (inputs, outputs): (Vec<Input>, Vec<Output>),
        on: &Processor,
        runtime: &Runtime,
    ) -> anyhow::Result<Self> {
        let start = Instant::now();
        let bytes = model::read_again(path, facts)?;
        let read = start.elapsed();
        let library = library::load(runtime).map_err(|e| anyhow!(e))?;
        let (bytes, scattered) = with_hits(bytes, &inputs).map_err(|e| anyhow!("`{path}` can't take hits: {e:#}"))?;
        let session = make(&bytes, library, GraphOptimizationLevel::All, on)
            .with_context(|| format!("opening the model `{path}` on {on}"))?;
        tracing::debug!(path, %on, ?read, all = ?start.elapsed(), "a session");
        let pinned = on.pinned(&session);
        Ok(Self { session, inputs, scattered, outputs, pinned })
    }

    /// The memory that the device reads by itself on which it computes; the CPU needs none.
    #[must_use]
    pub fn pinned(&self, on: &Processor) -> Option<Pinned> {
        on.pinned(&self.session)
    }

    /// As if the memory of the CPU were that of a device: for tests of everything but the device.
    #[cfg(test)]
    pub fn pin_on_cpu(&mut self) -> Pinned {
        let of = || Pinned::of(&self.session, ort::memory::AllocationDevice::CPU, 0).unwrap();
        self.pinned = Some(of());
        of()
    }

    /// Opens a model that is the rest of one, behind its first layer.
    ///
    /// # Errors
    /// ONNX Runtime refuses it.
    pub fn open_rest(
        (path, bytes): (&str, &[u8]),
        (inputs, outputs): (Vec<Input>, Vec<Output>),
        runtime: &Runtime,
    ) -> anyhow::Result<Self> {
        let library = library::load(runtime).map_err(|e| anyhow!(e))?;
        let session = make(bytes, library, GraphOptimizationLevel::All, &Processor::Cpu)
            .with_context(|| format!("opening what stands behind the first layer of `{path}`"))?;
        Ok(Self { session, inputs, scattered: Vec::new(), outputs, pinned: None })
    }

    /// Runs a batch of `rows` rows: `inputs` in the order of [`open`](Self::open), each `rows` times its row; the values of
    /// each output (`rows` x width) are appended to `outputs`.
    ///
    /// # Errors
    /// ONNX Runtime fails, or an output has another shape than the model said.
    pub fn run(&mut self, rows: usize, inputs: &[Fed<'_>], outputs: &mut [Values], meter: &Meter) -> anyhow::Result<()> {
        let named = meter.during(Doing::Upload, || self.name(rows, inputs))?;
        meter.during(Doing::Computing, || {
            let results = self.session.run(named).context("ONNX Runtime")?;
            for (output, into) in self.outputs.iter().zip(outputs) {
                let value = results.get(&output.name).with_context(|| format!("the model gave no output `{}`", output.name))?;
                let shape = value.dtype().tensor_shape().context("an output is no tensor")?;
                ensure!(
                    shape.first() == Some(&i64::try_from(rows)?)
                        && shape.iter().product::<i64>() == i64::try_from(rows * output.width)?,
                    "the model's output `{}` came as {shape:?}: {} values for each of {rows} rows were expected",
                    output.name,
                    output.width
                );
                into.take(output.element, value).with_context(|| format!("the model's output `{}`", output.name))?;
            }
            Ok(())
        })
    }

    /// The inputs of a run, in the types of the model, by their names.
    fn name<'a>(&self, rows: usize, inputs: &[Fed<'a>]) -> anyhow::Result<Vec<(String, SessionInputValue<'a>)>> {
        let pinned = self.pinned.as_ref();
        let mut named = Vec::with_capacity(inputs.len());
        let mut scattered = self.scattered.iter();
        for (input, fed) in self.inputs.iter().zip(inputs) {
            if let (Fed::Hits(hits), Some(names)) = (fed, input.hits.then(|| scattered.next()).flatten()) {
                let names = [&names.places, &names.values, &names.cells, &names.shape];
                let tensors = tensor::scattered(input.element, &input.row, *hits, pinned)?;
                named.extend(names.into_iter().cloned().zip(tensors));
                continue;
            }
            let shape: Vec<usize> = [rows].into_iter().chain(input.row.iter().copied()).collect();
            named.push((input.name.clone(), given(input.element, shape, *fed, pinned)?));
        }
        Ok(named)
    }

    /// Computes once, of inputs of any shape (in the order of [`open`](Self::open)): each output with its shape.
    ///
    /// # Errors
    /// ONNX Runtime fails.
    pub fn compute(&mut self, inputs: &[(Vec<usize>, Fed<'_>)]) -> anyhow::Result<Vec<(Vec<i64>, Values)>> {
        let mut named: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for (input, (shape, fed)) in self.inputs.iter().zip(inputs) {
            named.push((Cow::Borrowed(input.name.as_str()), given(input.element, shape.clone(), *fed, self.pinned.as_ref())?));
        }
        let results = self.session.run(named).context("ONNX Runtime")?;
        let each = self.outputs.iter().map(|output| {
            let value = results.get(&output.name).with_context(|| format!("the model gave no output `{}`", output.name))?;
            let mut values = Values::zeros(output.element, 0);
            values.take(output.element, value)?;
            Ok((value.dtype().tensor_shape().context("an output is no tensor")?.to_vec(), values))
        });
        each.collect()
    }
}

/// The model with hits in place of the images of the inputs that get hits.
fn with_hits(bytes: Vec<u8>, inputs: &[Input]) -> anyhow::Result<(Vec<u8>, Vec<Scattered>)> {
    let images: Vec<_> = inputs.iter().filter(|i| i.hits).map(|i| (i.name.as_str(), i.element, i.row.as_slice())).collect();
    if images.is_empty() { Ok((bytes, Vec::new())) } else { scatter::in_front(&bytes, &images) }
}

/// What ONNX Runtime says while it opens a model, at its most talkative; the session is thrown away.
pub(super) fn told_while_opened(bytes: &[u8], library: &Library, on: &Processor) -> ort::Result<Vec<String>> {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let into = Arc::clone(&told);
    let logger = Arc::new(move |_: LogLevel, _: &str, _: &str, _: &str, message: &str| {
        into.lock().unwrap_or_else(PoisonError::into_inner).push(message.to_owned());
    });
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let builder = builder(library, GraphOptimizationLevel::All)?.with_logger(logger)?.with_log_level(LogLevel::Verbose)?;
    drop(on.prepare(builder)?.commit_from_memory(bytes)?);
    Ok(std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner)))
}

pub(super) fn make(bytes: &[u8], library: &Library, level: GraphOptimizationLevel, on: &Processor) -> ort::Result<Session> {
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    on.prepare(builder(library, level)?)?.commit_from_memory(bytes)
}

fn builder(library: &Library, level: GraphOptimizationLevel) -> ort::Result<SessionBuilder> {
    let builder: SessionBuilder = Session::builder(library.environment())?
        .with_optimization_level(level)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_deterministic_compute(true)?;
    Ok(builder)
}
