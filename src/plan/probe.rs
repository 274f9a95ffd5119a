//! Looks up, once and in one process, everything that the operators of a pipeline need to know of the world.
//!
//! This is the only part of planning that opens files. What could not be had is kept with its reason, so that `plan` can
//! show it where it was typed.

use crate::language::Pipeline;
use calostream_operators::facts::{FileFacts, ParquetHeader};
use calostream_operators::hdf5::header::Header;
use calostream_operators::onnx::model::ModelFacts;
use calostream_operators::work::Runtime;
use calostream_operators::{Facts, Need};

/// The facts that all steps of a pipeline need; each pattern and path is looked up once.
#[must_use]
pub fn probe(pipeline: &Pipeline, runtime: &Runtime) -> Facts {
    let mut facts = Facts { seed: pipeline.seed, ..Facts::default() };
    for need in pipeline.steps.iter().filter_map(|s| s.operator.as_ref()).flat_map(|o| o.needs()) {
        match need {
            Need::Hdf5(pattern) => {
                facts.hdf5.entry(pattern.value).or_insert_with_key(|p| hdf5(p, runtime));
            }
            Need::Parquet(pattern) => {
                facts.parquet.entry(pattern.value).or_insert_with_key(|p| parquet(p));
            }
            Need::Model(path) => {
                facts.models.entry(path.value).or_insert_with_key(|p| model(p, runtime));
            }
            Need::Text(path) => {
                facts.texts.entry(path.value).or_insert_with_key(|p| text(p));
            }
        }
    }
    facts
}

fn text(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("can't read {path}: {error}"))
}

/// The HDF5 files behind a pattern.
pub fn hdf5(pattern: &str, runtime: &Runtime) -> Result<Vec<FileFacts<Header>>, String> {
    calostream_operators::hdf5::probe(pattern, runtime)
}

/// The datasets of a file as a table for people.
#[must_use]
pub fn hdf5_table(header: &Header) -> String {
    format!("{header:?}")
}

/// A schema for files of this layout, in YAML.
pub fn hdf5_schema(_pattern: &str, _runtime: &Runtime) -> Result<String, String> {
    Err("the HDF5 reader is not built yet".into())
}

/// The HDF5 reader, in a line.
pub fn hdf5_library(_runtime: &Runtime) -> Result<String, String> {
    Err("the HDF5 reader is not built yet".into())
}

/// The Parquet files behind a pattern.
pub fn parquet(pattern: &str) -> Result<Vec<FileFacts<ParquetHeader>>, String> {
    calostream_operators::read::read_parquet::probe(pattern)
}

/// The inputs and outputs of a model.
fn model(path: &str, runtime: &Runtime) -> Result<ModelFacts, String> {
    calostream_operators::onnx::probe(path, runtime)
}

/// ONNX Runtime, in a line: version, path, providers.
pub fn onnx_library(_runtime: &Runtime) -> Result<String, String> {
    Err("inference is not built yet".into())
}
