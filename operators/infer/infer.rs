//! `infer`: runs networks over the rows and adds what they say as columns.
//!
//! Everything about the models is checked before the run: that each input gets columns of the right shape, and that each
//! output fits its new columns. At run time rows are collected, dense, in one buffer an input until a batch is full; several
//! models are fed from the same buffers where they want the same, so that an event is read, decoded and densified once.
//!
//! Invariants: a model batch is the next `batch` rows of a unit (of a fold, those of its rows), however the rows were cut into
//! Arrow batches, and the tail of a unit is computed in sizes of `batch`/2, `batch`/4, .. 1 (`tail.rs`); so a prediction depends
//! on the unit alone. A batch that came in goes out whole but for rows that are cut, once, in order, when its last row is
//! predicted.

mod auto;
mod bind;
mod computer;
mod device;
mod gpu;
mod idle;
mod inputs;
mod loss;
mod models;
mod outputs;
mod station;
mod tail;
#[cfg(test)]
mod tests;
mod wishes;
mod words;

use crate::registry::Describe;
use crate::{Facts, Need, Operator, Output, Placed, Planned, Problem, Shape, Start, Work};
use anyhow::bail;
use arrow::datatypes::Schema;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
pub use words::{
    Batch, Channels, Device, Feeding, FirstLayerWord, Folds, Models, Names, NormWord, NotFinite, Pad, Source, Taking, Upload,
};

/// Runs ONNX models over every row and adds their outputs as columns.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Infer {
    /// The model: an ONNX file. A pattern, a list, or `{ NAME: path }` is a sweep: all models run in one pass, and
    /// each has its own columns, by its name (that of its file).
    #[serde(default)]
    pub model: Option<Placed<Models>>,
    /// In place of `model`: a set for cross-validation, of which each event meets one: `{ key: event_number, models: [a.onnx, b.onnx] }`.
    #[serde(default)]
    pub folds: Option<Folds>,
    /// For each input of the model the column that it reads: an image (hits or dense), a vector, a list or a number. Write `{ column:
    /// hcal, scale: 0.5 }` instead of the column's name to scale or normalise it on the way, `{ columns: [pt, eta] }` to stack several.
    pub inputs: BTreeMap<String, Placed<Source>>,
    /// For each output of the model that is wanted, the new column; a list of columns where it gives several values a row
    /// (`probabilities: [p_electron, p_photon]`), or a map (`{ argmax: particle }`, `{ hits: denoised }`). In a sweep `{model}` in
    /// a name stands for the model's; a name without it gets the model's behind it (`energy_wide`).
    pub outputs: BTreeMap<String, Placed<Names>>,
    /// Rows that the model computes at a time; `auto` for as many as are fastest here.
    #[serde(default = "default_batch")]
    #[schemars(with = "Batch")]
    pub batch: Placed<Batch>,
    /// Where it computes: `cpu` (each worker on its own core), `cuda` or `cuda:1` (an NVIDIA GPU), `tensorrt`, or a list of GPUs. Nothing
    /// computes elsewhere than is said.
    #[serde(default)]
    #[schemars(with = "Device")]
    pub device: Placed<Device>,
    /// On a GPU: nodes of the model that it has no code for may compute on the CPU.
    #[serde(default)]
    pub allow_cpu_nodes: bool,
    /// How images of hits go to the device: `dense`, or as `hits` of which the device makes the image, so that fewer bytes cross the bus.
    #[serde(default)]
    #[schemars(with = "Upload")]
    pub upload: Placed<Upload>,
    /// On the CPU: `auto` computes first layers from hits alone where they are convolutions of images of hits or one product with all of them
    /// (the sum is the same up to its order), `dense` leaves them to ONNX Runtime.
    #[serde(default)]
    pub first_layer: FirstLayerWord,
    /// Rows for which a model says NaN or infinity: `keep` or `cut`. They are counted either way.
    #[serde(default)]
    pub not_finite: NotFinite,
}

fn default_batch() -> Placed<Batch> {
    Placed::unplaced(Batch::Rows(256))
}

impl Describe for Infer {
    const ABOUT: &'static str = "Runs ONNX models over every row and adds what they say as columns";
    const EXAMPLE: &'static str = "predicted:\n  from: events\n  infer:\n    model: models/energy.onnx\n    inputs: { ECAL: ecal, HCAL: { column: hcal, scale: 0.5 } }\n    outputs: { energy: predicted_energy }\n    batch: 256\n";
}

/// The models among what is needed.
fn models_of(needs: &[Need]) -> Vec<Placed<String>> {
    let word = |need: &Need| match need {
        Need::Model(word) | Need::Models(word) => Some(word.clone()),
        _ => None,
    };
    needs.iter().filter_map(word).collect()
}

impl Operator for Infer {
    fn needs(&self) -> Vec<Need> {
        let mut needs = self.model_needs();
        let models = models_of(&needs);
        needs.extend(self.tables().into_iter().map(Need::Text));
        for device in self.device.0.iter().filter(|word| word.as_str() != "cpu") {
            needs.push(Need::Processor(device.clone()));
            needs.push(Need::Placement(device.clone(), models.clone()));
        }
        needs
    }

    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let [input] = inputs else {
            return Err(vec![Problem::at(&self.batch, format!("`infer` reads one step, not {}", inputs.len()))]);
        };
        let bound = self.bind(facts, &input.schema)?;
        let mut fields: Vec<_> = input.schema.fields().iter().cloned().collect();
        fields.extend(bound.columns.iter().map(|column| Arc::new(column.field.clone())));
        let added: u64 = bound.columns.iter().map(|column| column.bytes).sum();
        let schema = Arc::new(Schema::new_with_metadata(fields, input.schema.metadata().clone()));
        let output = Output { name: String::new(), schema, row_bytes: input.row_bytes + added, ..input.clone() };
        let holds = bound.holds(output.row_bytes);
        let mut planned = Planned::new(Shape::Device, vec![output]).reading(bound.reads()).holding(holds);
        planned.cuts = bound.cut;
        planned.remarks = bound.remarks;
        planned.used = bound.used;
        Ok(planned)
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let ([input], [output]) = (at.inputs, at.outputs) else { bail!("`infer` has one input and one output") };
        let bound = match self.bind(at.facts, &input.schema) {
            Ok(bound) => bound,
            Err(problems) => bail!("`infer` was not planned: {problems:?}"),
        };
        Ok(Work::Device(Box::new(device::Batches::open(bound, output.schema.clone(), at)?)))
    }

    fn settle(&self, at: &Start<'_>) -> anyhow::Result<Option<(String, u64)>> {
        let [input] = at.inputs else { return Ok(None) };
        match self.bind(at.facts, &input.schema) {
            Ok(bound) => bound.settle(at),
            Err(problems) => bail!("`infer` was not planned: {problems:?}"),
        }
    }
}
