//! The Python in which tests ask h5py, pyarrow, numpy and the others what is right: the one that `make setup` puts into `.deps/venv`.
//!
//! A script with pyarrow leaves the process where it comes to its end, without Python's own end: in that pyarrow may abort, when a
//! thread of its pool still holds a Python file and finds no interpreter any more (apache/arrow#34314). What an oracle says does not
//! hang on it, and no test is to fail by chance.
#![allow(clippy::expect_used, reason = "a test has nobody to tell of an error but its reader")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

const THE_END: &str = "
import os, sys
if 'pyarrow' in sys.modules:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
";

/// The interpreter.
pub fn interpreter() -> PathBuf {
    let program = repository().join(".deps/venv/bin/python");
    assert!(program.exists(), "{} is missing: run `make setup` first", program.display());
    program
}

/// Runs a script with these arguments; what it prints.
pub fn python(script: &str, arguments: &[impl AsRef<OsStr>]) -> String {
    said(&mut command(script), arguments)
}

/// Runs a script in a folder; what it prints.
pub fn python_in(folder: &Path, script: &str) -> String {
    said(command(script).current_dir(folder), &[""; 0])
}

/// Runs a script of the repository, by its path in it, with these arguments; what it prints.
pub fn python_file(file: &str, arguments: &[impl AsRef<OsStr>]) -> String {
    let run = "import runpy, sys\ndel sys.argv[0]\nrunpy.run_path(sys.argv[0], run_name='__main__')";
    said(command(run).arg(repository().join(file)), arguments)
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn command(script: &str) -> Command {
    let mut command = Command::new(interpreter());
    command.arg("-c").arg(format!("{script}{THE_END}"));
    command
}

fn said(command: &mut Command, arguments: &[impl AsRef<OsStr>]) -> String {
    let output = command.args(arguments).output().expect("Python starts");
    let [said, error] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "Python says:\n{said}\n{error}");
    said.into_owned()
}
