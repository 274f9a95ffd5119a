//! Looks up, once and in one process, everything that the operators of a pipeline need to know of the world.
//!
//! This is the only part of planning that opens files. What could not be had is kept with its reason, so that `plan` can
//! show it where it was typed.

use crate::language::Pipeline;
use crate::machine;
use calostream_operators::hdf5::cache::Cache;
use calostream_operators::read::read_parquet;
use calostream_operators::work::Runtime;
use calostream_operators::{Facts, Need, hdf5, onnx, pattern};
use std::collections::BTreeSet;

/// The facts that all steps of a pipeline need; each pattern and path is looked up once. Files that are known are not opened,
/// and those that are `hidden` (still being written, say) are not there.
#[must_use]
pub fn probe(pipeline: &Pipeline, known: &Cache, hidden: &BTreeSet<String>, runtime: &Runtime) -> Facts {
    let mut facts = Facts { seed: pipeline.seed, memory: Some(machine::memory()), ..Facts::default() };
    let needs: Vec<Need> = pipeline.steps.iter().filter_map(|s| s.operator.as_ref()).flat_map(|o| o.needs()).collect();
    // Together, because each round of reader processes costs their start.
    let hdf5: BTreeSet<&str> =
        needs.iter().filter_map(|n| if let Need::Hdf5(p) = n { Some(p.value.as_str()) } else { None }).collect();
    let hdf5: Vec<&str> = hdf5.into_iter().collect();
    let found = hdf5::probe_all(&hdf5, known, hidden, runtime);
    facts.hdf5 = hdf5.into_iter().map(str::to_owned).zip(found).collect();
    let (placements, needs): (Vec<Need>, Vec<Need>) = needs.into_iter().partition(|n| matches!(n, Need::Placement(..)));
    for need in needs {
        match need {
            Need::Hdf5(_) | Need::Placement(..) => {}
            Need::Parquet(pattern) => {
                facts.parquet.entry(pattern.value).or_insert_with_key(|p| read_parquet::probe_but(p, hidden));
            }
            Need::Model(path) => {
                facts.models.entry(path.value).or_insert_with_key(|p| onnx::probe(p, runtime));
            }
            Need::Models(pattern) => {
                let found = facts.model_sets.entry(pattern.value).or_insert_with_key(|p| pattern::matches(p));
                for path in found.iter().flatten().cloned() {
                    facts.models.entry(path).or_insert_with_key(|p| onnx::probe(p, runtime));
                }
            }
            Need::Processor(word) => {
                facts.processors.entry(word.value).or_insert_with_key(|w| onnx::provider::check(w, runtime));
            }
            Need::Text(path) => {
                let read = |path: &String| std::fs::read_to_string(path).map_err(|error| format!("can't read {path}: {error}"));
                facts.texts.entry(path.value).or_insert_with_key(read);
            }
        }
    }
    for need in placements {
        let Need::Placement(device, words) = need else { continue };
        if !matches!(facts.processors.get(&device.value), Some(Ok(()))) {
            continue;
        }
        let paths = words.iter().flat_map(|word| match facts.model_sets.get(&word.value) {
            Some(found) => found.clone().unwrap_or_default(),
            None => vec![word.value.clone()],
        });
        for path in paths.filter(|path| matches!(facts.models.get(path), Some(Ok(_)))).collect::<Vec<_>>() {
            let entry = facts.placements.entry((device.value.clone(), path));
            entry.or_insert_with_key(|(device, path)| onnx::placement::on_cpu(path, device, runtime));
        }
    }
    facts
}
