//! Several processes on one run: the same bytes as one, and when one fails the others stop, resumable.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PIPELINE: &str = "\
pipeline: mix
params: { out: out }
out: \"${out}\"
seed: 11
steps:
  showers:
    generate_showers: { events: 300, energy: [10, 510], events_per_file: 50 }
  mixed:
    from: showers
    premix: { shares: equal, split: { train: 0.5, test: 0.5 } }
  files:
    from: mixed.train
    write_parquet: {}
  energies:
    from: mixed.test
    histogram: { axes: [{ column: energy, range: [0, 520], bins: 26 }] }
";

fn start(folder: &Path, out: &str, more: &[&str]) -> Child {
    let set = format!("out={}", folder.join(out).display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_calostream"));
    command.arg("run").arg(folder.join("mix.yaml")).args(["--quiet", "--workers", "1", "--set", &set]).args(more);
    // Little as it is, it is put aside.
    command.env("CALOSTREAM_SPILL", "1000000,1");
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Two processes, each with a scratch; what they ended with and said.
fn two(folder: &Path, out: &str, scratch: [&str; 2]) -> [(Option<i32>, String); 2] {
    let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (hosts, secret) = (folder.join("hosts"), folder.join("secret"));
    fs::write(&hosts, format!("{}\n{}\n", port(), port())).unwrap();
    fs::write(&secret, "a secret of some length").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let (hosts, secret) = (hosts.display().to_string(), secret.display().to_string());
    let words = |n: &'static str, scratch| {
        vec!["--processes", "2", "--process", n, "--hosts", &hosts, "--secret", &secret, "--scratch", scratch]
    };
    let both = [start(folder, out, &words("0", scratch[0])), start(folder, out, &words("1", scratch[1]))];
    both.map(|child| {
        let ended = child.wait_with_output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    })
}

fn outputs(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = ["files", "energies"].iter().flat_map(|step| fs::read_dir(folder.join(step)).unwrap());
    files.map(|f| f.unwrap().path()).map(|p| (p.file_name().unwrap().display().to_string(), fs::read(p).unwrap())).collect()
}

#[test]
fn processes_give_the_same_bytes_and_stop_together() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("mix.yaml"), PIPELINE).unwrap();
    let scratch = folder.join("scratch").display().to_string();
    assert!(start(folder, "one", &[]).wait().unwrap().success());
    assert!(!folder.join("one/.spill").exists(), "what was put aside is removed");

    // A scratch outside of the run folder is seen by both: each run is read by one of them.
    let ended = two(folder, "two", [&scratch, &scratch]);
    assert!(ended.iter().all(|e| e.0 == Some(0)), "{ended:?}");
    assert!(outputs(&folder.join("one")) == outputs(&folder.join("two")));
    let speed = |run: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(folder.join(run).join("speed.json")).unwrap()).unwrap()
    };
    for (run, processes) in [("one", 1), ("two", 2)] {
        let speed = speed(run);
        assert_eq!((speed["process"].as_u64(), speed["processes"].as_u64()), (Some(0), Some(processes)), "{run}");
    }
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "what was put aside is removed");

    // One can't write: both stop, and what both had put aside is gone when it goes on elsewhere.
    let ended = two(folder, "three", [&scratch, "/proc/no-scratch"]);
    assert!(ended.iter().all(|e| e.0 == Some(1)), "{ended:?}");
    assert!(ended[0].1.contains("another process has stopped"), "{}", ended[0].1);
    assert!(ended[1].1.contains("/proc/no-scratch"), "{}", ended[1].1);
    let _ = fs::remove_dir_all(&scratch);
    assert!(start(folder, "three", &["--scratch", &scratch]).wait().unwrap().success());
    assert!(outputs(&folder.join("one")) == outputs(&folder.join("three")));
}
