//! `calostream status`: (the engine's)

use super::StatusArgs;
use std::process::ExitCode;

/// Shows how far a run is.
pub fn status(_args: StatusArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`status` is not built yet")
}
