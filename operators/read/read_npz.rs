//! Reads events from numpy's archives of arrays (`.npz`): `read_hdf5` with other files, see [`crate::npz`].

use super::read_hdf5::{Patterns, ReadHdf5, Samples};
use crate::registry::Describe;
use crate::weights::Weights;
use crate::work::{Start, Work};
use crate::{Facts, Need, Operator, Output, Placed, Planned, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

/// Events from archives of numpy arrays.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadNpz {
    /// The layout of the archives, in which `dataset` is the name of an array: a built-in schema (cms-eml) or the path of a YAML
    /// file.
    pub schema: Placed<String>,
    /// The files, where they all are of one kind: a pattern such as `data/*.npz`, or a list of patterns.
    #[serde(default)]
    pub files: Option<Patterns>,
    /// The samples (classes), by name: a pattern or a list of patterns each. Rows carry the name in the column `sample`.
    #[serde(default)]
    pub samples: Option<Samples>,
    /// What an event of each sample counts in every statistic: `{ samples: { signal: 0.5, background: { cross_section: 12.3,
    /// luminosity: 36.1, sum_of_weights: 1e6 } } }`. Makes the column `weight`.
    #[serde(default)]
    pub weights: Option<Placed<Weights>>,
}

impl Describe for ReadNpz {
    const ABOUT: &'static str = "Reads events and their images from numpy's archives of arrays (.npz)";
    const EXAMPLE: &'static str = "electrons:\n  read_npz: { schema: cms-eml, files: \"data/*.npz\" }\n";
}

impl ReadNpz {
    fn as_hdf5(&self) -> ReadHdf5 {
        ReadHdf5 {
            schema: self.schema.clone(),
            files: self.files.clone(),
            samples: self.samples.clone(),
            weights: self.weights.clone(),
        }
    }
}

impl Operator for ReadNpz {
    fn needs(&self) -> Vec<Need> {
        self.as_hdf5().needs()
    }

    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        self.as_hdf5().plan(facts, inputs)
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        self.as_hdf5().start(at)
    }
}
