//! `infer`: runs a network over the rows and adds what it says as columns.
//!
//! Everything about the model is checked before the run: that each of its inputs gets a column of the right shape, and that
//! each output fits its new columns. At run time rows are collected, dense, in one buffer an input until a batch is full.
//!
//! Invariants: a model batch is the next `batch` rows of a unit, however the rows were cut into Arrow batches, and the tail
//! of a unit is padded with zeros to the next of `batch`, `batch`/2, .. 1; so a prediction depends on the unit alone. A
//! batch that came in goes out whole, once, in order, when its last row is predicted.

mod bind;
mod device;
#[cfg(test)]
mod tests;

use crate::onnx::feed::Norm;
use crate::registry::Describe;
use crate::{Facts, Need, Operator, Output, Placed, Planned, Problem, Shape, Start, Work};
use anyhow::bail;
use arrow::datatypes::{DataType, Field, Schema};
use schemars::{JsonSchema, Schema as JsonSchemaOf, SchemaGenerator};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Runs an ONNX model over every row and adds its outputs as columns of `f32`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Infer {
    /// The model: an ONNX file, its weights inside.
    pub model: Placed<String>,
    /// For each input of the model the column that it reads: an image (hits or dense) or a number. Write `{ column: hcal,
    /// scale: 0.5 }` instead of the column's name to scale or normalise it on the way.
    pub inputs: BTreeMap<String, Placed<Source>>,
    /// For each output of the model that is wanted, the new column; a list of columns where it gives several values a row
    /// (`probabilities: [p_electron, p_photon]`).
    pub outputs: BTreeMap<String, Placed<Names>>,
    /// Rows that the model computes at a time.
    #[serde(default = "default_batch")]
    #[schemars(with = "usize")]
    pub batch: Placed<usize>,
    /// Where it computes.
    #[serde(default)]
    #[schemars(with = "Device")]
    pub device: Placed<Device>,
}

fn default_batch() -> Placed<usize> {
    Placed::unplaced(256)
}

/// Where a model computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// On the worker's own core.
    #[default]
    Cpu,
    /// On an NVIDIA GPU.
    Cuda,
}

/// What an input of a model reads.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Feeding {
    /// The column: an image (hits or dense) or a number.
    pub column: Placed<String>,
    /// The value of a hit that is read, where a hit has several (`energy`, `time`); the first, if not said.
    #[serde(default)]
    pub value: Option<Placed<String>>,
    /// Every value is multiplied by this.
    #[serde(default)]
    pub scale: Option<Placed<f64>>,
    /// Every value is divided by this.
    #[serde(default)]
    pub divide: Option<Placed<f64>>,
    /// A normalisation, after scaling: `none`, or `tanh_log` for `x / (|x| + 2)`.
    #[serde(default)]
    pub norm: Norm,
}

/// A column, or a column with what happens to its values.
#[derive(Debug, Clone)]
pub enum Source {
    /// Just the name of a column.
    Column(String),
    /// The whole.
    Feeding(Box<Feeding>),
}

/// A name, or a list of names.
#[derive(Debug, Clone)]
pub enum Names {
    /// One.
    One(String),
    /// As many as the output has values a row.
    Many(Vec<Placed<String>>),
}

// Both are read by hand, because serde's untagged enums lose the places of the words.
impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Source;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a column, or `{ column: .., scale: .. }`")
            }
            fn visit_str<E>(self, name: &str) -> Result<Source, E> {
                Ok(Source::Column(name.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Source, A::Error> {
                Feeding::deserialize(MapAccessDeserializer::new(map)).map(|f| Source::Feeding(Box::new(f)))
            }
        }
        from.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Names;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a new column, or a list of names")
            }
            fn visit_str<E>(self, name: &str) -> Result<Names, E> {
                Ok(Names::One(name.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Names, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Names::Many)
            }
        }
        from.deserialize_any(Either)
    }
}

impl JsonSchema for Source {
    fn schema_name() -> Cow<'static, str> {
        "ModelInput".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> JsonSchemaOf {
        let (column, feeding) = (generator.subschema_for::<String>(), generator.subschema_for::<Feeding>());
        schemars::json_schema!({ "anyOf": [column, feeding] })
    }
}

impl JsonSchema for Names {
    fn schema_name() -> Cow<'static, str> {
        "NewColumns".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> JsonSchemaOf {
        let (one, many) = (generator.subschema_for::<String>(), generator.subschema_for::<Vec<String>>());
        schemars::json_schema!({ "anyOf": [one, many] })
    }
}

impl Describe for Infer {
    const ABOUT: &'static str = "Runs an ONNX model over every row and adds what it says as columns";
    const EXAMPLE: &'static str = "predicted:\n  from: events\n  infer:\n    model: models/energy.onnx\n    inputs: { ECAL: ecal, HCAL: { column: hcal, scale: 0.5 } }\n    outputs: { energy: predicted_energy }\n    batch: 256\n";
}

impl Operator for Infer {
    fn needs(&self) -> Vec<Need> {
        vec![Need::Model(self.model.clone())]
    }

    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let [input] = inputs else {
            return Err(vec![Problem::at(&self.model, format!("`infer` reads one step, not {}", inputs.len()))]);
        };
        let bound = self.bind(facts, &input.schema)?;
        let mut fields: Vec<_> = input.schema.fields().iter().cloned().collect();
        fields.extend(bound.new_columns().map(|name| Arc::new(Field::new(name, DataType::Float32, false))));
        let added = (fields.len() - input.schema.fields().len()) * size_of::<f32>();
        let schema = Arc::new(Schema::new_with_metadata(fields, input.schema.metadata().clone()));
        let output = Output { name: String::new(), schema, row_bytes: input.row_bytes + added as u64, ..input.clone() };
        let holds = bound.holds(output.row_bytes);
        let mut planned = Planned::new(Shape::Device, vec![output]).reading(bound.reads()).holding(holds);
        planned.remarks = bound.remarks;
        Ok(planned)
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let ([input], [output]) = (at.inputs, at.outputs) else { bail!("`infer` has one input and one output") };
        let bound = match self.bind(at.facts, &input.schema) {
            Ok(bound) => bound,
            Err(problems) => bail!("`infer` was not planned: {problems:?}"),
        };
        let model = at.facts.model(&self.model).map_err(|p| anyhow::anyhow!(p.what))?;
        Ok(Work::Device(Box::new(device::Batches::open(&self.model, model, bound, output.schema.clone(), at.runtime)?)))
    }
}
