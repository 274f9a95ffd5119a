//! The run folder: what was found, what is done, and what may be trusted after a kill.
//!
//! One folder a run (`out:`):
//!
//! | file | holds | written by |
//! |---|---|---|
//! | `lock` | who is at work here | process 0 |
//! | `plan.json` | the plan that the folder belongs to | process 0, once |
//! | `units.jsonl` | what was found to read | process 0, appended |
//! | `commits.jsonl`, `contributions.bin` | what is done ([`log`]) | process 0, appended |
//! | `quarantine.jsonl` | what could not be used, and why | process 0, from the log |
//! | `run.json` | host, times, versions, workers, settings, models | process 0 |
//! | `speed.json` | what the steps' threads did in the last go, those of process 0 | process 0 |
//! | `pipeline.yaml` | the pipeline as it was run last | process 0 |
//! | `headers.zst` | headers of the inputs, so that planning need not open them again (`hdf5::cache`) | process 0 |
//! | `.chunks/` | where the chunks of the inputs are, where these are many (`hdf5::chunk_file`) | every process |
//! | `.spill/` | what a shuffle has put aside, unless `--scratch` says where | every process; removed when the run is done |
//! | `.staging/` | files under way | every process; emptied at the start |
//! | `<step>/` | parts and tables | every process, by renaming |
//! | `<step>/` | what a sink has made of all its parts, which may be removed then | process 0, when all is committed |
//!
//! Invariants: a name that the log does not know is no output; nothing but `run.json`, the log's order of lines and one
//! block of the report depends on when, where and by how many workers the run was done.

pub mod balance;
pub mod lock;
pub mod log;
pub mod sums;
pub mod units;

use crate::files;
use anyhow::{Context, Result, bail, ensure};
use calostream_operators::Unit;
use log::{Assembled, Commit, FileMade, Line, Log, Quarantine};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use units::Numbered;

/// Lines to commit, each with its contributions.
pub type Settled = Vec<(Line, Vec<Contribution>)>;

/// What a part contributes that is too large for a line.
#[derive(Debug, Clone)]
pub struct Contribution {
    /// Which of the commits of the line it belongs to.
    pub commit: usize,
    /// The step.
    pub step: String,
    /// What it is.
    pub bytes: Vec<u8>,
}

/// What the log says, with what was taken back left out.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The digest on which each phase began.
    pub basis: BTreeMap<usize, String>,
    /// The level of each phase that began.
    pub levels: BTreeMap<usize, usize>,
    /// The sizes of a run and of the least piece, by which rows are put aside.
    pub sizes: Option<(u64, u64)>,
    /// What was measured once, by name.
    pub settled: BTreeMap<String, u64>,
    /// What is done, by phase and part.
    pub commits: BTreeMap<(usize, u64), Commit>,
    /// What is quarantined, by phase and unit.
    pub quarantined: BTreeMap<(usize, u64), Quarantine>,
    /// Quarantined units of phase 0 whose file has been repaired: nothing of them is lost, and nothing is tried again.
    pub replaced: BTreeSet<u64>,
    /// Units that were taken back, because their file is gone or is another one now.
    pub withdrawn: BTreeSet<u64>,
    /// Files that could not be read when the run began.
    pub unreadable: Vec<log::Unreadable>,
    /// What was put together last of the parts of a step. It counts where
    /// [`State::parts_basis`] of the step is still its own.
    pub assembled: BTreeMap<String, Assembled>,
    /// True where nothing was committed since the tables were written.
    pub done: bool,
}

impl State {
    /// Takes in a line. The same function reads the log and follows a run, so that both see the same.
    pub fn apply(&mut self, line: &Line) {
        self.done = matches!(line, Line::Done {});
        match line {
            Line::Begin { phase, level, basis } => {
                self.levels.insert(*phase, *level);
                if self.basis.get(phase).is_some_and(|b| b != basis) {
                    self.commits.retain(|(p, _), _| p < phase);
                    self.quarantined.retain(|(p, _), _| p < phase);
                    self.basis.retain(|p, _| p < phase);
                }
                self.basis.insert(*phase, basis.clone());
            }
            Line::Sizes { run, piece } => self.sizes = Some((*run, *piece)),
            Line::Settled { name, value } => {
                self.settled.insert(name.clone(), *value);
            }
            Line::Commit(_) | Line::Together(_) => {
                self.commits.extend(line.commits().iter().map(|commit| ((commit.phase, commit.part), commit.clone())));
            }
            Line::Quarantine(q) => {
                self.quarantined.insert((q.phase, q.unit), q.clone());
            }
            Line::Lost { parts } => self.remove(|part, _| parts.contains(part)),
            Line::Replaced { units } => self.replaced.extend(units),
            Line::Withdrawn { units, .. } => {
                self.withdrawn.extend(units);
                let reads: BTreeSet<usize> =
                    self.commits.keys().map(|(phase, _)| *phase).filter(|phase| self.reads_files(*phase)).collect();
                self.remove(|(phase, _), c| {
                    reads.contains(phase) && c.units.iter().chain(&c.left_out).any(|u| units.contains(u))
                });
                self.quarantined.retain(|(phase, unit), _| !(reads.contains(phase) && units.contains(unit)));
            }
            Line::Retry {} => {
                let again: BTreeSet<_> = self.in_quarantine().map(|q| (q.phase, q.unit)).collect();
                self.quarantined.retain(|unit, _| !again.contains(unit));
                // A part that was committed without a unit is done again with it.
                self.remove(|(phase, _), c| c.quarantined_among(&again, *phase));
            }
            Line::Unreadable(files) => self.unreadable.clone_from(files),
            Line::Assembled(assembled) => {
                self.assembled.insert(assembled.step.clone(), assembled.clone());
            }
            Line::Done {} => {}
        }
    }

    /// Takes back commits, and with them all whose rows stand in a run with theirs: a run counts as a whole or not at all.
    fn remove(&mut self, gone: impl Fn(&(usize, u64), &Commit) -> bool) {
        let mut parts: BTreeSet<(usize, u64)> = self.commits.iter().filter(|(p, c)| gone(p, c)).map(|(p, _)| *p).collect();
        loop {
            let runs: BTreeSet<&log::Spill> = parts.iter().filter_map(|p| self.commits.get(p)).flat_map(|c| &c.spills).collect();
            let more = self.commits.iter().filter(|(p, c)| !parts.contains(p) && c.spills.iter().any(|s| runs.contains(s)));
            let more: Vec<_> = more.map(|(p, _)| *p).collect();
            if more.is_empty() {
                break;
            }
            parts.extend(more);
        }
        self.commits.retain(|part, _| !parts.contains(part));
    }

    /// True where the units of a phase are the written-down ones.
    pub fn reads_files(&self, phase: usize) -> bool {
        self.levels.get(&phase).copied().unwrap_or(phase) == 0
    }

    /// The phase in which the written-down units are read, not only counted; none before it began.
    pub fn reading_phase(&self) -> Option<usize> {
        self.levels.iter().filter(|(_, level)| **level == 0).map(|(phase, _)| *phase).max()
    }

    /// True for a written-down unit that is quarantined.
    pub fn is_bad(&self, unit: u64) -> bool {
        self.quarantined.keys().any(|(phase, u)| *u == unit && self.reads_files(*phase))
    }

    /// True for a written-down unit of which nothing came: it is quarantined, or was taken back.
    pub fn is_out(&self, unit: u64) -> bool {
        self.is_bad(unit) || self.withdrawn.contains(&unit)
    }

    /// The files of a step's parts, in the order of the parts.
    pub fn parts_of<'a>(&'a self, step: &'a str) -> impl Iterator<Item = &'a FileMade> {
        self.commits.values().flat_map(|c| &c.files).filter(move |f| f.step == step)
    }

    /// A digest of the files of a step's parts.
    pub fn parts_basis(&self, step: &str) -> String {
        let line = |f: &FileMade| format!("{} {} {} {}\n", f.name, f.rows, f.bytes, f.hash);
        log::hash(self.parts_of(step).map(line).collect::<String>().as_bytes())
    }

    /// What was put together of the parts of a step, where it was and the parts are still those.
    pub fn assembled_of(&self, step: &str) -> Option<&Assembled> {
        self.assembled.get(step).filter(|a| a.basis == self.parts_basis(step))
    }

    /// The files that are outputs of the run: all parts, but for those that another file has taken the place of.
    pub fn files(&self) -> Vec<&FileMade> {
        let current: Vec<&Assembled> = self.assembled.keys().filter_map(|step| self.assembled_of(step)).collect();
        let parts = self.commits.values().flat_map(|c| &c.files);
        let parts = parts.filter(|f| !current.iter().any(|a| a.instead && a.step == f.step));
        parts.chain(current.iter().flat_map(|a| &a.files)).collect()
    }

    /// The outputs that are not in the folder, or have another size than they were committed with. Looks at each, and reads none.
    pub fn missing(&self, folder: &Path) -> Vec<&FileMade> {
        self.files().into_iter().filter(|file| !file.is_whole(folder)).collect()
    }

    /// How many units and files could not be used.
    pub fn lost(&self) -> usize {
        self.in_quarantine().count() + self.unreadable.len()
    }

    /// What is quarantined and not repaired.
    pub fn in_quarantine(&self) -> impl Iterator<Item = &Quarantine> {
        self.quarantined.values().filter(|q| !self.reads_files(q.phase) || !self.replaced.contains(&q.unit))
    }
}

impl Commit {
    fn quarantined_among(&self, units: &BTreeSet<(usize, u64)>, phase: usize) -> bool {
        self.left_out.iter().any(|u| units.contains(&(phase, *u)))
    }
}

/// A run folder, held by the process that writes its log.
#[derive(Debug)]
pub struct Ledger {
    /// The folder.
    pub folder: PathBuf,
    /// The units, in order.
    pub units: Vec<units::Numbered>,
    /// What is done.
    pub state: State,
    log: Log,
    lock: lock::Lock,
}

impl Ledger {
    /// Opens the run folder of a plan, or says why it can't be used. `fresh` removes what is in it.
    pub fn open(folder: &Path, canonical: &serde_json::Value, hash: &str, fresh: bool) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the run folder {}", folder.display()))?;
        let lock = lock::Lock::take(folder)?;
        let plan_path = folder.join("plan.json");
        if fresh {
            remove_run(folder)?;
        }
        let _ = std::fs::remove_dir_all(folder.join(".staging"));
        match std::fs::read(&plan_path) {
            Ok(bytes) => {
                let before: serde_json::Value =
                    serde_json::from_slice(&bytes).context("plan.json is damaged; run with --fresh")?;
                if &before != canonical {
                    let difference =
                        crate::plan::difference(&before, canonical).unwrap_or_else(|| "the order of parameters".into());
                    bail!(
                        "{} belongs to another plan:\n  {}\nRun with --fresh to replace what is there, or into another `out`",
                        folder.display(),
                        difference
                    );
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let strangers = folder.join("commits.jsonl").exists() || folder.join("units.jsonl").exists();
                ensure!(!strangers, "{} holds a run without its plan.json; run with --fresh", folder.display());
                files::write_whole(&plan_path, &serde_json::to_vec_pretty(canonical)?)?;
            }
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", plan_path.display())),
        }
        tracing::debug!(%hash, folder = %folder.display(), "run folder");
        let units = units::read(&folder.join("units.jsonl"))?;
        let lines = log::read(&folder.join("commits.jsonl"))?;
        let mut state = State::default();
        lines.iter().for_each(|line| state.apply(line));
        let log = Log::open(folder, &lines)?;
        Ok(Self { folder: folder.to_owned(), units, state, log, lock })
    }

    /// Writes down what was found and is not known yet; how many units are new.
    pub fn discover(&mut self, found: &[Unit]) -> Result<usize> {
        let bad = |unit: u64| self.state.is_bad(unit);
        let (new, replaced) = units::added(&self.units, found, &bad, &self.state.withdrawn)?;
        units::append(&self.folder.join("units.jsonl"), &new)?;
        self.units.extend_from_slice(&new);
        if replaced.iter().any(|u| !self.state.replaced.contains(u)) {
            self.commit(vec![(Line::Replaced { units: replaced }, Vec::new())])?;
        }
        Ok(new.len())
    }

    /// Takes back the units of files that are not among those found any more, or are others now; how many files these are.
    pub fn withdraw(&mut self, found: &[Unit]) -> Result<usize> {
        let there: BTreeSet<(&str, &str, &str)> =
            found.iter().map(|u| (u.step.as_str(), u.path.as_str(), u.fingerprint.as_str())).collect();
        let mut gone: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for Numbered { number, unit, .. } in self.units.iter().filter(|u| !self.state.withdrawn.contains(&u.number)) {
            if !there.contains(&(unit.step.as_str(), unit.path.as_str(), unit.fingerprint.as_str())) {
                gone.entry(&unit.path).or_default().insert(*number);
            }
        }
        let lines: Settled =
            gone.into_iter().map(|(file, units)| (Line::Withdrawn { file: file.to_owned(), units }, Vec::new())).collect();
        let files = lines.len();
        self.commit(lines)?;
        Ok(files)
    }

    /// Commits lines. Contributions come as bytes and are put behind the others first.
    pub fn commit(&mut self, mut settled: Settled) -> Result<Vec<Line>> {
        if settled.is_empty() {
            return Ok(Vec::new());
        }
        self.lock.check()?;
        let mut lines = Vec::with_capacity(settled.len());
        for (line, contributions) in &mut settled {
            let commits = match line {
                Line::Commit(commit) => std::slice::from_mut(commit),
                Line::Together(commits) => commits,
                _ => &mut [],
            };
            for Contribution { commit, step, bytes } in contributions.drain(..) {
                let commit = commits.get_mut(commit).context("a contribution to nothing")?;
                commit.contributions.push(self.log.contribute(&step, &bytes)?);
            }
            lines.push(line.clone());
        }
        self.log.commit(&lines)?;
        lines.iter().for_each(|line| self.state.apply(line));
        let tells = |l: &Line| {
            matches!(
                l,
                Line::Quarantine(_) | Line::Unreadable(_) | Line::Replaced { .. } | Line::Withdrawn { .. } | Line::Retry {}
            )
        };
        if lines.iter().any(tells) {
            write_quarantine(&self.folder, &self.state)?;
        }
        Ok(lines)
    }
}

/// `quarantine.jsonl`: what could not be used, and why, for people.
fn write_quarantine(folder: &Path, state: &State) -> Result<()> {
    let mut text = Vec::new();
    for file in &state.unreadable {
        serde_json::to_writer(&mut text, file)?;
        text.push(b'\n');
    }
    for q in state.in_quarantine() {
        serde_json::to_writer(&mut text, q)?;
        text.push(b'\n');
    }
    files::write_whole(&folder.join("quarantine.jsonl"), &text)
}

impl Ledger {
    /// Removes files in the steps' folders that the log does not know: what a kill, or a part done again, left behind.
    ///
    /// What was put together of other parts stays until the new file takes its place.
    pub fn sweep(&self, steps: &[String]) -> Result<()> {
        let parts = self.state.commits.values().flat_map(|c| &c.files);
        let known = parts.chain(self.state.assembled.values().flat_map(|a| &a.files));
        let known: BTreeSet<(&str, &str)> = known.map(|f| (f.step.as_str(), f.name.as_str())).collect();
        for step in steps {
            let Ok(entries) = std::fs::read_dir(self.folder.join(step)) else { continue };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.file_type()?.is_file() && !known.contains(&(step.as_str(), name.as_str())) {
                    std::fs::remove_file(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
                }
            }
        }
        Ok(())
    }
}

/// Removes what a run made, and nothing else: a run folder may be a folder in which people keep other things.
///
/// The log goes first, for good, and the plan last: a removal that was cut short leaves a run that has done nothing.
fn remove_run(folder: &Path) -> Result<()> {
    let made: Vec<String> = match std::fs::read(folder.join("plan.json")) {
        Ok(bytes) => {
            let plan: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            plan["steps"].as_object().map(|steps| steps.keys().cloned().collect()).unwrap_or_default()
        }
        Err(_) => Vec::new(),
    };
    let remove = |name: &str, how: fn(PathBuf) -> std::io::Result<()>| match how(folder.join(name)) {
        Err(e) if !matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Err(e).with_context(|| format!("cannot remove {}", folder.join(name).display()))
        }
        _ => Ok(()),
    };
    remove("commits.jsonl", std::fs::remove_file)?;
    files::sync_folder(folder)?;
    for name in made.iter().map(String::as_str).chain([".staging", ".spill"]) {
        remove(name, std::fs::remove_dir_all)?;
    }
    for name in ["contributions.bin", "units.jsonl", "quarantine.jsonl", "run.json", "pipeline.yaml", "report.html", "plan.json"]
    {
        remove(name, std::fs::remove_file)?;
    }
    Ok(())
}
