//! `calostream run`: (the engine's)

use super::RunArgs;
use std::process::ExitCode;

/// Runs a pipeline.
pub fn run(_args: RunArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`run` is not built yet")
}
