//! `calostream doctor`: this machine, as calostream sees it.
//!
//! Cores and memory are what this process may use: containers and batch systems give less than the machine has.

use super::LibraryArgs;
use crate::machine;
use calostream_operators::hdf5::process::Reader;
use calostream_operators::onnx;
use calostream_operators::words;
use calostream_operators::work::Runtime;
use clap::Args;
use rustix::process::{Resource, getrlimit};
use std::path::Path;
use std::process::ExitCode;

/// What `doctor` is given.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    libraries: LibraryArgs,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// One line of what was found; `wrong` where a run would suffer from it.
struct Finding {
    what: &'static str,
    found: String,
    wrong: bool,
}

/// Prints what was found; exit code 1 where something that every run needs is missing.
pub fn doctor(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let findings = findings(args);
    if args.json {
        let all: serde_json::Map<String, serde_json::Value> =
            findings.iter().map(|f| (f.what.to_owned(), serde_json::json!({ "found": f.found, "wrong": f.wrong }))).collect();
        super::print(&(serde_json::to_string_pretty(&all)? + "\n"))?;
    } else {
        let width = findings.iter().map(|f| f.what.len()).max().unwrap_or(0);
        let line = |f: &Finding| format!("{} {:width$}  {}\n", if f.wrong { "✗" } else { "✓" }, f.what, f.found);
        super::print(&findings.iter().map(line).collect::<String>())?;
    }
    Ok(ExitCode::from(u8::from(findings.iter().any(|f| f.wrong))))
}

fn findings(args: &DoctorArgs) -> Vec<Finding> {
    let runtime = args.libraries.runtime();
    let good = |what, found: String| Finding { what, found, wrong: false };
    let either = |what, found: Result<String, String>| match found {
        Ok(found) => Finding { what, found, wrong: false },
        Err(found) => Finding { what, found, wrong: true },
    };
    let mut all = vec![
        good("calostream", env!("CARGO_PKG_VERSION").into()),
        either("HDF5", hdf5(&runtime)),
        either("ONNX Runtime", onnx_runtime(&runtime)),
        good("processor", machine::features()),
        good("cores", machine::cores().to_string()),
        good("memory", words::bytes(machine::memory())),
    ];
    let files = getrlimit(Resource::Nofile);
    let most = files.current.map_or_else(|| "no limit".into(), |n| format!("{n}"));
    let wrong = files.current.is_some_and(|n| n < 256);
    all.push(Finding {
        what: "open files",
        found: if wrong { format!("{most}: raise it with `ulimit -n`") } else { most },
        wrong,
    });
    let space = machine::free_space(Path::new(".")).ok_or_else(|| "can't be found out".to_owned());
    all.push(either("space here", space.map(|free| format!("{} free", words::bytes(free)))));
    all
}

/// The library's version, as the reader process says it: so it is known to start.
fn hdf5(runtime: &Runtime) -> Result<String, String> {
    let version = Reader::new(runtime).version().map_err(|fault| format!("HDF5 files can't be read: {fault}"))?;
    Ok(format!("{version} in {}", runtime.reader.display()))
}

fn onnx_runtime(runtime: &Runtime) -> Result<String, String> {
    let library = onnx::library::load(runtime)?;
    let providers = library.providers().join(", ");
    Ok(format!("{} at {} ({}): {providers}", library.version(), library.path.display(), library.because))
}
