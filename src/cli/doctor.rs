//! `calostream doctor`: this machine, as calostream sees it.

use super::LibraryArgs;
use clap::Args;
use std::process::ExitCode;

/// What `doctor` is given.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    libraries: LibraryArgs,
}

/// Prints what was found.
pub fn doctor(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`doctor` is not built yet {:?}", args.libraries)
}

/// The reader process.
pub fn hdf5_reader(args: &[std::ffi::OsString]) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the HDF5 reader is not built yet {args:?}")
}
