//! What tests of `read_hdf5` share: files made by h5py, the step that reads them, and what planning looks up.

use calostream_operators::hdf5::probe;
use calostream_operators::read::read_hdf5::{Patterns, ReadHdf5, Samples};
use calostream_operators::work::Runtime;
use calostream_operators::{Facts, Need, Operator, Placed};
use std::path::Path;

/// The program that reads what only the library can.
pub fn runtime() -> Runtime {
    Runtime { reader: env!("CARGO_BIN_EXE_calostream-reader").into(), ..Runtime::default() }
}

/// Runs a Python script in `folder`, with numpy, h5py and json imported; what it prints.
pub fn python(folder: &Path, script: &str) -> String {
    oracle::python_in(folder, &format!("import h5py, numpy as np, json\nnp.random.seed(1)\n{script}"))
}

/// Reads the files of a pattern.
pub fn files(schema: &str, pattern: &str) -> ReadHdf5 {
    ReadHdf5 { schema: Placed::unplaced(schema.into()), files: Some(patterns(pattern)), samples: None, weights: None }
}

/// Reads samples, each with the pattern of its files.
pub fn samples(schema: &str, samples: &[(&str, impl AsRef<str>)]) -> ReadHdf5 {
    let each = samples.iter().map(|(name, pattern)| ((*name).to_owned(), patterns(pattern.as_ref())));
    ReadHdf5 { schema: Placed::unplaced(schema.into()), files: None, samples: Some(Samples(each.collect())), weights: None }
}

fn patterns(pattern: &str) -> Patterns {
    Patterns(vec![Placed::unplaced(pattern.to_owned())])
}

/// What planning needs to know of the world.
pub fn look_up(step: &ReadHdf5) -> Facts {
    let mut facts = Facts::default();
    for need in step.needs() {
        match need {
            Need::Hdf5(pattern) => {
                facts.hdf5.insert(pattern.value.clone(), probe(&pattern, &runtime()));
            }
            Need::Text(path) => {
                facts.texts.insert(path.value.clone(), std::fs::read_to_string(&path.value).map_err(|e| e.to_string()));
            }
            other => panic!("{other:?}"),
        }
    }
    facts
}
