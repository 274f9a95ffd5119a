//! `calostream status`: what a run folder says of itself. Reads only, so it may be asked while the run is at work.

use super::StatusArgs;
use crate::ledger::{State, log, units};
use anyhow::{Result, ensure};
use calostream_operators::words;
use std::process::ExitCode;

/// Prints how far a run is.
pub fn status(args: StatusArgs) -> Result<ExitCode> {
    let folder = &args.folder;
    ensure!(folder.join("plan.json").exists(), "{} is no run folder (it has no plan.json)", folder.display());
    let units = units::read(&folder.join("units.jsonl"))?;
    let mut state = State::default();
    log::read(&folder.join("commits.jsonl"))?.iter().for_each(|line| state.apply(line));
    let reading = state.reading_phase().unwrap_or(0);
    let first: Vec<_> = state.commits.values().filter(|c| c.phase == reading).collect();
    let done: usize = first.iter().map(|c| c.units.len()).sum();
    let mut units = units;
    units.retain(|u| !state.withdrawn.contains(&u.number));
    let rows: u64 = units.iter().map(|u| u.unit.rows).sum();
    let committed: std::collections::BTreeSet<u64> = first.iter().flat_map(|c| c.units.iter().copied()).collect();
    let read: u64 = units.iter().filter(|u| committed.contains(&u.number)).map(|u| u.unit.rows).sum();
    let later: std::collections::BTreeMap<usize, usize> =
        state.commits.keys().filter(|(p, _)| *p > reading).fold(Default::default(), |mut m, (p, _)| {
            *m.entry(*p).or_default() += 1;
            m
        });
    let made = state.files();
    let (files, bytes) = (made.len(), made.iter().map(|f| f.bytes).sum::<u64>());
    // While a run is at work, its files come and go.
    let missing: Vec<String> = if state.done { state.missing(folder) } else { Vec::new() }
        .iter()
        .map(|file| format!("{}/{}", file.step, file.name))
        .collect();
    let running = folder.join("lock").exists();
    if args.json {
        let found = serde_json::json!({
            "done": state.done, "locked": running, "units": units.len(), "units_done": done, "rows": rows, "rows_done": read,
            "later_parts_done": later, "files": files, "bytes": bytes, "missing": missing,
            "quarantined": state.in_quarantine().collect::<Vec<_>>(), "unreadable": state.unreadable,
        });
        super::print(&format!("{found}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    let word = match (state.done, running) {
        (true, _) => "done",
        (false, true) => "at work (or killed: its lock is there)",
        (false, false) => "stopped; run it again to go on",
    };
    text += &format!("{}: {word}\n", folder.display());
    text += &format!("  units   {} of {} ({} of {} rows)\n", done, units.len(), words::count(read), words::count(rows));
    for (phase, parts) in later {
        text += &format!("  phase {phase} {}\n", words::counted(parts as u64, "part"));
    }
    text += &format!("  files   {} ({})\n", words::count(files as u64), words::bytes(bytes));
    if let Some(first) = missing.first() {
        let (many, more) = (words::counted(missing.len() as u64, "file"), if missing.len() > 1 { ", ..." } else { "" });
        text += &format!("  missing {many}, or not as long as written: {first}{more}; `calostream run` makes them again\n");
    }
    for q in state.in_quarantine() {
        text += &format!("  quarantined: {}: {}\n", q.what, q.reason);
    }
    for file in &state.unreadable {
        text += &format!("  can't be read: {}: {}\n", file.what, file.reason);
    }
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
