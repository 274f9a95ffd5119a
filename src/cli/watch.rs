//! `calostream run --watch`: a run that goes on when it is done, and takes in what comes.
//!
//! Files are looked for again and again (by polling, so that it works on any file system). One that comes counts when its size
//! and time have rested; one that goes, or is written anew, is taken back. Each round is a go at the run folder as `run` makes
//! it, in one process, which keeps the ledger and the [totals](crate::flow::totals): so a round costs what has changed, and
//! a watch that is killed is gone on with by the same command, or by `run`.
//!
//! ```text
//!   patterns --(poll)--> files at rest --> plan --> withdrawn lines, new units --> flow --> totals --> tables, report --> sweep
//! ```
//!
//! Killed between any two of these, the next watch finds the same files and the same log, and goes on: what was withdrawn is
//! so in the log before anything that came of it is removed.

use super::RunArgs;
use super::assemble::assemble;
use super::finish;
use super::load::{Load, keep, load_changed, print_problems, print_remarks};
use super::run::{self, Go};
use super::said;
use crate::flow::totals::Totals;
use crate::flow::{self, Cluster, Display, Options, Shared};
use crate::language;
use crate::ledger::Ledger;
use crate::ledger::balance::balance;
use crate::plan::spill::Sizes;
use crate::plan::{Plan, watch};
use anyhow::{Context, Result, bail, ensure};
use calostream_operators::hdf5::cache::Cache;
use calostream_operators::pattern::matches;
use calostream_operators::work::Runtime;
use calostream_operators::{Need, words};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// The longest time between two looks.
const POLL: Duration = Duration::from_secs(10);
/// The shortest.
const QUICK: Duration = Duration::from_millis(100);

/// Runs a pipeline, and again with every change of its files, until it is told to stop.
pub fn watch(args: &RunArgs) -> Result<ExitCode> {
    ensure!(args.processes.is_none_or(|n| n == 1) && args.hosts.is_none(), "`--watch` is for one process");
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let rest = Duration::try_from_secs_f64(args.rest).context("`--rest` is a number of seconds")?;
    let poll = (rest / 4).clamp(QUICK, POLL);
    let mut files = Files { rest, seen: BTreeMap::new() };
    let (mut watched, mut last): (Option<Watched>, Option<BTreeMap<String, Stamp>>) = (None, None);
    let mut known = None;
    let mut worst = ExitCode::SUCCESS;
    // What is wrong is said at once, whether files are at rest or not.
    if plan(args, &BTreeSet::new(), &mut known, true)?.is_none() {
        return Ok(ExitCode::from(2));
    }
    loop {
        let begun = Instant::now();
        let found = files.look(&patterns(args)?);
        if last.as_ref() != Some(&found.rested) && found.all {
            if let Some(Planned { plan, text }) = plan(args, &found.hidden, &mut known, false)? {
                let round = match &mut watched {
                    Some(watched) => watched.round(args, plan, begun),
                    None => {
                        let watched = watched.insert(Watched::open(args, &plan, &text)?);
                        known.iter().for_each(|known| keep(known, &plan.out));
                        watched.round(args, plan, begun)
                    }
                };
                match round {
                    Ok(code) => worst = code,
                    // What was under way is done by the next one.
                    Err(_) if stop.load(Ordering::Relaxed) => break,
                    Err(error) => return Err(error),
                }
            }
            last = Some(found.rested);
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let until = Instant::now() + poll;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(poll.min(QUICK));
        }
    }
    if let (Some(known), Some(Watched { ledger: Some(ledger), .. })) = (known, watched) {
        keep(&known, &ledger.folder);
    }
    if !args.quiet {
        eprintln!("the watch is over; the same command goes on with it");
    }
    Ok(worst)
}

/// The patterns of the files that a pipeline reads.
fn patterns(args: &RunArgs) -> Result<BTreeSet<String>> {
    let text =
        std::fs::read_to_string(&args.pipeline.file).with_context(|| format!("cannot read {}", args.pipeline.file.display()))?;
    let pipeline = language::read(&text, &args.pipeline.set).0;
    let needs = pipeline.iter().flat_map(|p| &p.steps).filter_map(|s| s.operator.as_ref()).flat_map(|o| o.needs());
    let pattern = |need| match need {
        Need::Hdf5(word) | Need::Parquet(word) => Some(word.value),
        Need::Model(_) | Need::Models(_) | Need::Text(_) | Need::Processor(_) | Need::Placement(..) => None,
    };
    Ok(needs.filter_map(pattern).collect())
}

/// What of a file must rest: its inode, its size, and when it was written to. Not when its inode was changed, which a new link
/// or another owner does.
type Stamp = (u64, u64, (i64, i64));

/// The files that match, as they were seen.
struct Files {
    rest: Duration,
    seen: BTreeMap<String, (Stamp, Instant, bool)>,
}

/// What a look at the files finds.
struct Found {
    /// Those at rest.
    rested: BTreeMap<String, Stamp>,
    /// Those that are being written.
    hidden: BTreeSet<String>,
    /// True where of each pattern a file is at rest, or none is there.
    all: bool,
}

impl Files {
    fn look(&mut self, patterns: &BTreeSet<String>) -> Found {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let matched: Vec<Vec<String>> = patterns.iter().filter_map(|pattern| matches(pattern).ok()).collect();
        let mut seen = BTreeMap::new();
        for path in matched.iter().flatten().cloned() {
            // One that is gone by now is not seen.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            let stamp: Stamp = (metadata.ino(), metadata.len(), (metadata.mtime(), metadata.mtime_nsec()));
            let known = self.seen.get(&path).filter(|(before, ..)| *before == stamp).copied();
            // A clock of another machine may be wrong: its word counts only for what was there before this watch looked.
            let first = || {
                let old = metadata.modified().ok().and_then(|time| clock.duration_since(time).ok());
                let old = !self.seen.contains_key(&path) && old.is_some_and(|age| age >= self.rest);
                (stamp, now, old)
            };
            let (stamp, since, old) = known.unwrap_or_else(first);
            seen.insert(path, (stamp, since, old || now.duration_since(since) >= self.rest));
        }
        self.seen = seen;
        let rested = self.seen.iter().filter(|(_, seen)| seen.2).map(|(path, seen)| (path.clone(), seen.0)).collect();
        let hidden = self.seen.iter().filter(|(_, seen)| !seen.2).map(|(path, _)| path.clone()).collect();
        let rests = |path: &String| self.seen.get(path).is_some_and(|seen| seen.2);
        let all = matched.iter().all(|paths| paths.iter().any(rests));
        Found { rested, hidden, all }
    }
}

/// A plan, and the text that it was made of.
struct Planned {
    plan: Plan,
    text: String,
}

/// The plan over the files at rest; none where something is wrong, which is said. What is `known` of files stays in memory.
fn plan(args: &RunArgs, hidden: &BTreeSet<String>, known: &mut Option<Cache>, first: bool) -> Result<Option<Planned>> {
    match load_changed(&args.pipeline, &args.libraries, args.out.as_deref(), (hidden, known.take()), |_| ()) {
        Load::Wrong { text, problems } => {
            print_problems(&args.pipeline.file, &text, &problems, args.json)?;
            Ok(None)
        }
        Load::Right { plan, text, remarks, headers } => {
            let mut plan = *plan;
            if let Some(out) = &args.out {
                plan.out.clone_from(out);
            }
            let problems = watch::problems(&plan);
            if !problems.is_empty() {
                print_problems(&args.pipeline.file, &text, &problems, args.json)?;
                return Ok(None);
            }
            if first && !args.quiet {
                print_remarks(&args.pipeline.file, &text, &remarks);
            }
            *known = Some(headers.after(&plan));
            Ok(Some(Planned { plan, text }))
        }
    }
}

/// Parts that are not done. No more workers are wanted than there are of these: each opens sessions and buffers of its own.
fn due(ledger: &Ledger) -> usize {
    let state = &ledger.state;
    let here = ledger.units.iter().filter(|u| !state.withdrawn.contains(&u.number));
    here.map(|u| u.part).filter(|part| !state.commits.contains_key(&(0, *part))).collect::<BTreeSet<_>>().len()
}

/// A run folder that is kept up to date.
struct Watched {
    /// None while a round is under way that has failed.
    ledger: Option<Ledger>,
    totals: Totals,
    hash: String,
    text: String,
    go: Go,
    runtime: Runtime,
}

impl Watched {
    fn open(args: &RunArgs, plan: &Plan, text: &str) -> Result<Self> {
        let workers = args.workers();
        let runtime = Runtime { kept: Some(Arc::default()), ..run::runtime(args, plan) };
        let (budget, _) = run::shares(plan, workers, 1)?;
        let go = Go::new(args, plan, &runtime, (workers, 1, budget))?;
        let mut ledger = run::open(args, plan, text, &go)?;
        run::settle(&mut ledger, plan, &runtime)?;
        let runtime = Runtime { settled: Arc::new(ledger.state.settled.clone()), ..runtime };
        Ok(Self { ledger: Some(ledger), totals: Totals::start()?, hash: plan.hash.clone(), text: text.to_owned(), go, runtime })
    }

    /// Brings everything up to date with the files of this plan.
    fn round(&mut self, args: &RunArgs, plan: Plan, start: Instant) -> Result<ExitCode> {
        if plan.hash != self.hash {
            bail!("the pipeline (or a model, or a schema) is another one than when the watch began; start it again");
        }
        let mut ledger = self.ledger.take().context("a round before this one has failed")?;
        let withdrawn = ledger.withdraw(&run::units(&plan))?;
        let new = run::discover(&mut ledger, &plan)?;
        let (workers, plan) = (args.workers().min(due(&ledger).max(1)), Arc::new(plan));
        let (budget, readers) = run::shares(&plan, workers, 1)?;
        let (scratch, runtime) = (args.scratch.clone(), self.runtime.clone());
        let options = Options { workers, readers, budget, scratch, sizes: Sizes::default(), runtime };
        run::take_back(&mut Cluster::alone(), &mut ledger, &plan, &self.runtime, (false, args.quiet))?;
        let (units, state) = (ledger.units.clone(), ledger.state.clone());
        let shared = Shared::new(&plan, &options, &Cluster::alone(), units, state, Some(ledger))?;
        let display = Display::start(&plan, &shared, args.quiet || args.json);
        let outcome = flow::run(&plan, &shared, Cluster::alone());
        drop(display);
        let outcome =
            outcome.with_context(|| format!("the watch has stopped; what is committed stays in {}", plan.out.display()))?;
        shared.clear_scratch();
        let mut ledger = outcome.ledger.context("this process holds the run folder")?;
        self.totals.follow(&outcome.state, &plan.out)?;
        let (rows, wrong) = balance(&plan, &outcome.state, &outcome.unit_rows);
        let totals = &self.totals;
        let summaries = finish::summaries(&plan, &|step| Ok(totals.of(step)), &outcome.state, &self.runtime)?;
        let remarks = self.go.say(finish::remarks(&plan, &summaries, &outcome.mixes));
        let behind = said::behind(&plan, &rows, &self.text, &said::notices(&rows, &outcome.state, remarks));
        let pages = run::write_results(&plan, &summaries, &behind, (&self.runtime, &mut self.go, start))?;
        ensure!(wrong.is_empty(), "the balance does not add up:\n  {}", wrong.join("\n  "));
        assemble(&plan, &mut ledger, &options, args.quiet || args.json)?;
        ledger.sweep(&run::sinks(&plan))?;
        run::done(&mut ledger, &self.go)?;
        let files = ledger.units.iter().filter(|u| !ledger.state.withdrawn.contains(&u.number));
        let files = files.map(|u| u.unit.file).collect::<BTreeSet<_>>().len();
        let (seconds, lost) = (start.elapsed().as_secs_f64(), ledger.state.lost());
        if args.json {
            let told = serde_json::json!({
                "files": files, "new_units": new, "withdrawn_files": withdrawn, "seconds": seconds, "balance": rows,
                "quarantined": lost, "reports": pages.reports,
            });
            super::print(&format!("{told}\n"))?;
        } else {
            let parts = [
                words::counted(files as u64, "file"),
                format!("{} new", words::counted(new as u64, "unit")),
                format!("{} withdrawn", words::counted(withdrawn as u64, "file")),
            ];
            let lost = if lost > 0 { format!(", {lost} quarantined") } else { String::new() };
            let where_to = pages.reports.first().map_or_else(|| plan.out.display().to_string(), Clone::clone);
            super::print(&format!("{}{lost}: up to date in {seconds:.2} s, {where_to}\n", parts.join(", ")))?;
        }
        self.ledger = Some(ledger);
        Ok(if lost > 0 { ExitCode::from(3) } else { ExitCode::SUCCESS })
    }
}
