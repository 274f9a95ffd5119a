//! Looks up, once and in one process, everything that the operators of a pipeline need to know of the world.
//!
//! This is the only part of planning that opens files. What could not be had is kept with its reason, so that `plan` can
//! show it where it was typed.

use crate::language::Pipeline;
use calostream_operators::read::read_parquet;
use calostream_operators::work::Runtime;
use calostream_operators::{Facts, Need, hdf5, onnx};

/// The facts that all steps of a pipeline need; each pattern and path is looked up once.
#[must_use]
pub fn probe(pipeline: &Pipeline, runtime: &Runtime) -> Facts {
    let mut facts = Facts { seed: pipeline.seed, ..Facts::default() };
    for need in pipeline.steps.iter().filter_map(|s| s.operator.as_ref()).flat_map(|o| o.needs()) {
        match need {
            Need::Hdf5(pattern) => {
                facts.hdf5.entry(pattern.value).or_insert_with_key(|p| hdf5::probe(p, runtime));
            }
            Need::Parquet(pattern) => {
                facts.parquet.entry(pattern.value).or_insert_with_key(|p| read_parquet::probe(p));
            }
            Need::Model(path) => {
                facts.models.entry(path.value).or_insert_with_key(|p| onnx::probe(p, runtime));
            }
            Need::Text(path) => {
                let read = |path: &String| std::fs::read_to_string(path).map_err(|error| format!("can't read {path}: {error}"));
                facts.texts.entry(path.value).or_insert_with_key(read);
            }
        }
    }
    facts
}
