//! `calostream inspect`: what is in HDF5 and Parquet files.

use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `inspect` is given.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The files.
    #[arg(required = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// Print a schema file for data of this layout, to save and edit.
    #[arg(long)]
    schema: bool,
}

/// Prints what is in the files.
pub fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`inspect` is not built yet ({} files, schema: {})", args.files.len(), args.schema)
}
