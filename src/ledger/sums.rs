//! What the parts of a run have contributed to the sums of a step: added up, in any order, to the same.

use super::{State, log};
use anyhow::{Context, Result};
use calostream_operators::statistics::sums::Sums;
use std::fs::File;
use std::path::Path;

/// The sums of a step over all parts that are committed in some of the phases.
pub fn of(state: &State, folder: &Path, step: &str, in_phase: impl Fn(usize) -> bool) -> Result<Sums> {
    let path = folder.join("contributions.bin");
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut sums = Sums::default();
    let commits = state.commits.values().filter(|c| in_phase(c.phase));
    for pointer in commits.flat_map(|c| &c.contributions).filter(|p| p.step == step) {
        sums.merge(&Sums::decode(&log::contribution(&file, pointer)?)?);
    }
    Ok(sums)
}
