//! Programs that are measured: how long they take, how much memory, and what they say.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What was seen of a program.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Seconds from its start to its end.
    pub seconds: f64,
    /// Seconds until a file was in the watched folder.
    pub first: Option<f64>,
    /// Bytes: the peaks of the program and of those that it started, added up, though they need not fall together.
    pub peak: u64,
    /// What it printed.
    pub said: String,
}

impl Seen {
    /// The number that it printed.
    pub fn number(&self) -> f64 {
        self.said.trim().parse().unwrap_or_else(|_| panic!("no number: {:?}", self.said))
    }
}

/// Runs a program to its end. `watched` is a folder whose first file, in whatever folder in it, is waited for.
pub fn run(command: &mut Command, watched: Option<&Path>) -> Seen {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (mut first, mut peaks) = (None, std::collections::BTreeMap::new());
    let mut looked = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if first.is_none() && watched.is_some_and(has_file) {
            first = Some(begun.elapsed().as_secs_f64());
        }
        if looked.elapsed() > Duration::from_millis(20) {
            looked = Instant::now();
            look(child.id(), &mut peaks);
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let seconds = begun.elapsed().as_secs_f64();
    let said = said(&mut child);
    assert!(status.success(), "{command:?} ended with {status}: {said}");
    Seen { seconds, first, peak: peaks.values().sum(), said }
}

fn said(child: &mut Child) -> String {
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        std::io::Read::read_to_string(&mut out, &mut said).expect("text");
    }
    said
}

/// Whether there is a file in one of the folders in this one.
fn has_file(folder: &Path) -> bool {
    let list = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    list(folder).any(|inner| list(&inner.path()).next().is_some())
}

/// Notes the peaks of a process and of all under it.
fn look(process: u32, peaks: &mut std::collections::BTreeMap<u32, u64>) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    peaks.extend(peak.map(|kib| (process, kib << 10)));
    for thread in std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.split_whitespace().filter_map(|c| c.parse().ok()).for_each(|child| look(child, peaks));
    }
}
