//! `calostream operators`: the list, or one of them explained.

use clap::Args;
use std::process::ExitCode;

/// What `operators` is given.
#[derive(Debug, Args)]
pub struct OperatorsArgs {
    /// The operator to explain.
    name: Option<String>,
}

/// Prints the list, or what one operator takes.
pub fn operators(args: &OperatorsArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`operators` is not built yet {:?}", args.name)
}
