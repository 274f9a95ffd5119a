//! `calostream doctor`: this machine, as calostream sees it.
//!
//! Cores and memory are what this process may use: containers and batch systems give less than the machine has.

use super::LibraryArgs;
use crate::plan::probe;
use crate::words;
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
        let all: serde_json::Map<String, serde_json::Value> = findings
            .iter()
            .map(|f| (f.what.to_owned(), serde_json::json!({ "found": f.found, "wrong": f.wrong })))
            .collect();
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
    let cores = std::thread::available_parallelism().map(|n| n.to_string()).map_err(|e| e.to_string());
    let mut all = vec![
        good("calostream", env!("CARGO_PKG_VERSION").into()),
        either("HDF5", probe::hdf5_library(&runtime)),
        either("ONNX Runtime", probe::onnx_library(&runtime)),
        either("cores", cores),
        either("memory", memory().ok_or_else(|| "can't be found out".into())),
    ];
    let files = getrlimit(Resource::Nofile);
    let most = files.current.map_or_else(|| "no limit".into(), |n| format!("{n}"));
    let wrong = files.current.is_some_and(|n| n < 256);
    all.push(Finding { what: "open files", found: if wrong { format!("{most}: raise it with `ulimit -n`") } else { most }, wrong });
    let space = rustix::fs::statvfs(".").map(|s| s.f_bavail * s.f_frsize);
    all.push(either("space here", space.map(|free| format!("{} free", words::bytes(free))).map_err(|e| e.to_string())));
    all
}

/// What this process may use: the smallest of the machine's memory and the limits of the control groups that it is in.
fn memory() -> Option<String> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok()?;
    let machine = machine.lines().find_map(|l| l.strip_prefix("MemTotal:"))?.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10;
    Some(match group_limit(Path::new("/sys/fs/cgroup")).filter(|limit| *limit < machine) {
        Some(limit) => format!("{} (a limit of the control group; the machine has {})", words::bytes(limit), words::bytes(machine)),
        None => words::bytes(machine),
    })
}

/// The smallest memory limit on the way from the root of the control groups (v2, or the memory controller of v1) to ours.
fn group_limit(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut least = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (base, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            c if c.split(',').any(|c| c == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let limit = std::fs::read_to_string(base.join(group).join(file)).ok().and_then(|t| t.trim().parse::<u64>().ok());
            least = limit.into_iter().chain(least).min();
        }
    }
    least
}
