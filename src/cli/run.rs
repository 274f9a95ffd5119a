//! `calostream run`: from a pipeline file to committed outputs, tables and the report.
//!
//! Process 0 holds the run folder; the others wait until it is ready and read it. What a run was (host, times, versions) is
//! written into `run.json` and nowhere else.

use super::RunArgs;
use super::assemble::assemble;
use super::finish::{self, Remarks};
use super::load::{Load, load};
use super::said::{behind, notices, show_balance, show_mixes};
use crate::files;
use crate::flow::{self, Cluster, Display, Options, Shared};
use crate::ledger::balance::balance;
use crate::ledger::lock::host;
use crate::ledger::log::{Line, Unreadable};
use crate::ledger::{Ledger, State, log};
use crate::machine;
use crate::plan::spill::Sizes;
use crate::plan::{LEAST_BUDGET, Plan, PlannedStep, default_budget};
use crate::report;
use anyhow::{Context, Result, bail, ensure};
use calostream_operators::hdf5::chunk_file;
use calostream_operators::onnx::{library, provider};
use calostream_operators::statistics::figure::Summary;
use calostream_operators::words;
use calostream_operators::work::Runtime;
use calostream_operators::{Shape, Unit};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One go at a run folder, as `run.json` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Go {
    version: String,
    host: String,
    /// Seconds since 1970.
    started: u64,
    seconds: Option<f64>,
    workers: usize,
    processes: usize,
    budget: u64,
    /// What floating-point results may depend on.
    arithmetic: BTreeMap<String, String>,
    /// What else the steps used: models with their hashes, and what they were fed, by step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    used: BTreeMap<String, serde_json::Value>,
    /// What was to be said of the steps when all was done.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    remarks: Remarks,
    #[serde(flatten)]
    settings: Settings,
}

impl Go {
    /// What was to be said of the steps, now that all is done.
    pub fn say(&mut self, remarks: Remarks) -> &Remarks {
        self.remarks = remarks;
        &self.remarks
    }
}

/// How the pipeline beside it was run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The parameters that were set, as `name=value`.
    #[serde(default)]
    pub set: Vec<String>,
    /// The folder that paths are relative to.
    #[serde(default)]
    pub folder: PathBuf,
}

/// How a run folder was made last.
pub fn last_settings(folder: &Path) -> Result<Settings> {
    let last = goes(folder).pop().with_context(|| format!("{} does not say how it was made", folder.display()))?;
    Ok(last.settings)
}

impl Go {
    /// One that begins now.
    pub fn new(
        args: &RunArgs,
        plan: &Plan,
        runtime: &Runtime,
        (workers, processes, budget): (usize, usize, u64),
    ) -> Result<Self> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").into(),
            host: host(),
            started: SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or_default(),
            seconds: None,
            workers,
            processes,
            budget,
            arithmetic: arithmetic(plan, runtime),
            used: plan
                .steps
                .iter()
                .filter(|s| !s.planned.used.is_null())
                .map(|s| (s.name.clone(), s.planned.used.clone()))
                .collect(),
            remarks: Remarks::new(),
            settings: Settings {
                set: args.pipeline.set.iter().map(|s| format!("{}={}", s.name, s.value)).collect(),
                folder: std::env::current_dir()?,
            },
        })
    }
}

/// Where helpers are found, for a plan.
pub fn runtime(args: &RunArgs, plan: &Plan) -> Runtime {
    Runtime { chunks: Some(plan.out.join(chunk_file::FOLDER)), ..args.libraries.runtime() }
}

/// Opens the run folder of a plan and writes down how it is run.
pub fn open(args: &RunArgs, plan: &Plan, text: &str, go: &Go) -> Result<Ledger> {
    let ledger = Ledger::open(&plan.out, &plan.canonical, &plan.hash, args.fresh)?;
    chunk_file::sweep(&plan.out.join(chunk_file::FOLDER), &fingerprints(plan));
    same_arithmetic(&ledger, go, args.mixed_hardware)?;
    write_go(&plan.out, go)?;
    files::write_whole(&plan.out.join("pipeline.yaml"), text.as_bytes())?;
    Ok(ledger)
}

/// Runs a pipeline.
pub fn run(args: RunArgs) -> Result<ExitCode> {
    let start = Instant::now();
    let (mut plan, text, remarks, headers) = match load(&args.pipeline, &args.libraries, args.out.as_deref()) {
        Load::Right { plan, text, remarks, headers } => (*plan, text, remarks, headers),
        Load::Wrong { text, problems } => {
            super::load::print_problems(&args.pipeline.file, &text, &problems, args.json)?;
            return Ok(ExitCode::from(2));
        }
    };
    if let Some(feed) = plan.steps.iter().find(|s| s.planned.feeds) {
        let file = args.pipeline.file.display();
        eprintln!("calostream: `{}` feeds a program and writes no files: use `calostream feed {file}`", feed.name);
        return Ok(ExitCode::from(2));
    }
    if let Some(out) = &args.out {
        plan.out.clone_from(out);
    }
    let (mut cluster, workers) = cluster(&args, &plan)?;
    if cluster.process == 0 && !args.quiet {
        super::load::print_remarks(&args.pipeline.file, &text, &remarks);
    }
    let runtime = runtime(&args, &plan);
    let (budget, readers) = shares(&plan, workers, cluster.on_this_host().1)?;
    let plan = Arc::new(plan);
    let mut options = Options {
        workers,
        readers,
        budget,
        scratch: args.scratch.clone(),
        sizes: Sizes::of_environment()?,
        runtime: runtime.clone(),
    };
    let mut go = Go::new(&args, &plan, &runtime, (workers, cluster.processes, budget))?;
    let shared = if cluster.process == 0 {
        let mut ledger = open(&args, &plan, &text, &go)?;
        headers.keep(&plan);
        settle(&mut ledger, &plan, &runtime)?;
        let new = discover(&mut ledger, &plan)?;
        // What was repaired is known by now; the rest is tried as it is.
        if args.retry_quarantined && ledger.state.in_quarantine().next().is_some() {
            ledger.commit(vec![(Line::Retry {}, Vec::new())])?;
        }
        if !args.quiet && !ledger.state.commits.is_empty() {
            let reading = plan.phase_of(0);
            let done = ledger.state.commits.values().filter(|c| c.phase == reading).map(|c| c.units.len()).sum::<usize>();
            eprintln!("going on in {}: {done} of {} units are done, {new} are new", plan.out.display(), ledger.units.len());
        }
        ledger.sweep(&sinks(&plan))?;
        if ledger.state.sizes.is_none() {
            let (run, piece) = flow::sizes(&plan, &options);
            ledger.commit(vec![(Line::Sizes { run, piece }, Vec::new())])?;
        }
        take_back(&mut cluster, &mut ledger, &plan, &runtime, (true, args.quiet))?;
        cluster.ready(digest(&plan.out)?.as_bytes())?;
        // Nothing is written before all have read.
        cluster.gather(b"")?;
        let (units, state) = (ledger.units.clone(), ledger.state.clone());
        options.runtime.settled = Arc::new(state.settled.clone());
        Shared::new(&plan, &options, &cluster, units, state, Some(ledger))?
    } else {
        see(&plan.out, &cluster.ready(b"")?)?;
        let missing = flow::lost::missing(&read_state(&plan.out)?, &plan.out, false);
        cluster.gather(&serde_json::to_vec(&missing)?)?;
        see(&plan.out, &cluster.ready(b"")?)?;
        let (units, state) = (crate::ledger::units::read(&plan.out.join("units.jsonl"))?, read_state(&plan.out)?);
        cluster.gather(b"")?;
        options.runtime.settled = Arc::new(state.settled.clone());
        Shared::new(&plan, &options, &cluster, units, state, None)?
    };
    let (process, processes) = (cluster.process, cluster.processes);
    args.trace.is_some().then(flow::timeline::begin);
    let display = Display::start(&plan, &shared, args.quiet || args.json || process != 0);
    let outcome = flow::run(&plan, &shared, cluster);
    drop(display);
    if let Some(path) = &args.trace {
        // Each process has a file of its own.
        let path = if process == 0 { path.clone() } else { PathBuf::from(format!("{}.{process}", path.display())) };
        flow::timeline::write(&path, process)?;
    }
    let outcome = outcome.with_context(|| format!("the run has stopped; what is committed stays in {}", plan.out.display()))?;
    shared.clear_scratch();
    if process != 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let (mut speed, devices) = shared.speed(&plan, start.elapsed().as_secs_f64());
    // What the other processes did is not gathered.
    (speed["process"], speed["processes"]) = (process.into(), processes.into());
    files::write_whole(&plan.out.join("speed.json"), &serde_json::to_vec_pretty(&speed)?)?;
    let mut ledger = outcome.ledger.context("process 0 holds the run folder")?;
    let (rows, wrong) = balance(&plan, &outcome.state, &outcome.unit_rows);
    let sums = |step: &str| finish::sums(&plan, &outcome.state, step);
    let summaries = finish::summaries(&plan, &sums, &outcome.state, &runtime)?;
    let notices = notices(&rows, &outcome.state, go.say(finish::remarks(&plan, &summaries, &outcome.mixes)));
    let behind = behind(&plan, &rows, &text, &notices);
    let pages = write_results(&plan, &summaries, &behind, (&runtime, &mut go, start))?;
    ensure!(wrong.is_empty(), "the balance does not add up:\n  {}", wrong.join("\n  "));
    assemble(&plan, &mut ledger, &options, args.quiet || args.json)?;
    // Parts that were done again with other rows may have left files under names that are not used any more.
    ledger.sweep(&sinks(&plan))?;
    done(&mut ledger, &go)?;
    let lost = ledger.state.lost();
    if args.json {
        let result = serde_json::json!({
            "out": plan.out, "seconds": go.seconds, "balance": rows, "remarks": go.remarks, "quarantined": lost,
            "reports": pages.reports,
        });
        super::print(&format!("{result}\n"))?;
    } else {
        super::print(&pages.highlights)?;
        if !args.quiet {
            super::print(&show_balance(&plan, &rows, &notices))?;
            super::print(&show_mixes(&plan, &outcome.mixes))?;
            for device in &devices {
                let of = if processes > 1 { format!(" (of process 0 of {processes})") } else { String::new() };
                super::print(&format!("{}{of}\n", device.words()))?;
            }
        }
        for report in &pages.reports {
            super::print(&format!("report: {report}\n"))?;
        }
        if pages.reports.is_empty() {
            super::print(&format!("done: {}\n", plan.out.display()))?;
        }
    }
    if lost > 0 {
        let are = if lost == 1 { "1 file or unit is" } else { &format!("{} files or units are", words::count(lost as u64)) };
        eprintln!("{are} quarantined; why: {}", plan.out.join("quarantine.jsonl").display());
        return Ok(ExitCode::from(3));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be measured once is measured, if it is not known, and stands in the log before the first unit.
pub fn settle(ledger: &mut Ledger, plan: &Plan, runtime: &Runtime) -> Result<()> {
    let known = Runtime { settled: Arc::new(ledger.state.settled.clone()), ..runtime.clone() };
    for (name, value) in flow::settle(plan, &known)? {
        ledger.commit(vec![(Line::Settled { name, value }, Vec::new())])?;
    }
    Ok(())
}

/// The files that are read, by what they hold.
fn fingerprints(plan: &Plan) -> BTreeSet<&str> {
    plan.steps.iter().flat_map(|s| &s.planned.units).map(|u| u.fingerprint.as_str()).collect()
}

/// The steps that write files.
pub fn sinks(plan: &Plan) -> Vec<String> {
    plan.steps.iter().filter(|s| s.planned.shape == Shape::Sink).map(|s| s.name.clone()).collect()
}

/// What the log of a folder says.
fn read_state(folder: &Path) -> Result<State> {
    let mut state = State::default();
    log::read(&folder.join("commits.jsonl"))?.iter().for_each(|line| state.apply(line));
    Ok(state)
}

/// What the lists in a run folder hold, in short.
fn digest(folder: &Path) -> Result<String> {
    let (mut text, commits) = (log::whole_lines(&folder.join("units.jsonl"))?, log::whole_lines(&folder.join("commits.jsonl"))?);
    text.push_str(&commits);
    Ok(log::hash(text.as_bytes()))
}

/// Waits until this process sees the run folder as process 0 does: a shared file system may show it later, and processes
/// that don't know the same would do parts twice.
fn see(folder: &Path, digest_there: &[u8]) -> Result<()> {
    let start = Instant::now();
    while digest(folder)?.as_bytes() != digest_there {
        ensure!(start.elapsed().as_secs() < 120, "{} is not what process 0 sees there; is it shared?", folder.display());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    Ok(())
}

/// Takes back the parts whose spills, or whose files, are gone and will be needed, as far as any of the processes knows; where
/// it is asked for, those whose files are `outputs`, too.
pub fn take_back(
    cluster: &mut Cluster,
    ledger: &mut Ledger,
    plan: &Plan,
    runtime: &Runtime,
    (outputs, quiet): (bool, bool),
) -> Result<()> {
    if outputs {
        let gone: Vec<String> = ledger.state.missing(&plan.out).iter().map(|f| format!("{}/{}", f.step, f.name)).collect();
        if let (Some(first), false) = (gone.first(), quiet) {
            let are = if gone.len() == 1 { "1 file is" } else { &format!("{} files are", words::count(gone.len() as u64)) };
            eprintln!(
                "{are} not there any more, or not as long as written, and made again: {first}{}",
                if gone.len() > 1 { ", ..." } else { "" }
            );
        }
        // What was put together of parts is put together again.
        let whole = |step: &String| ledger.state.assembled_of(step).is_none_or(|a| a.files.iter().all(|f| f.is_whole(&plan.out)));
        let again: Vec<String> = ledger.state.assembled.keys().filter(|step| !whole(step)).cloned().collect();
        again.iter().for_each(|step| drop(ledger.state.assembled.remove(step)));
    }
    cluster.ready(digest(&plan.out)?.as_bytes())?;
    let mut missing = flow::lost::missing(&ledger.state, &plan.out, true);
    for heard in cluster.gather(b"")? {
        missing.extend(serde_json::from_slice::<Vec<(usize, u64)>>(&heard)?);
    }
    let files = flow::lost::files(plan, &ledger.state, outputs);
    let parts = flow::lost::again(plan, &ledger.state, &ledger.units, (runtime, &cluster.names), missing, &files)?;
    if !parts.is_empty() {
        if !quiet {
            let are = if parts.len() == 1 { "part is" } else { "parts are" };
            eprintln!("{} {are} done again: what they had made is gone", parts.len());
        }
        ledger.commit(vec![(Line::Lost { parts }, Vec::new())])?;
    }
    Ok(())
}

/// Where the reports are, and what is said first.
pub struct Written {
    pub reports: Vec<String>,
    pub highlights: String,
}

/// Writes down that all is done.
pub fn done(ledger: &mut Ledger, go: &Go) -> Result<()> {
    if !ledger.state.done {
        ledger.commit(vec![(Line::Done {}, Vec::new())])?;
    }
    write_go(&ledger.folder, go)
}

/// Tables, plots and pages, from the sums of each fold.
pub fn write_results(
    plan: &Plan,
    summaries: &BTreeMap<usize, Summary>,
    behind: &report::Behind,
    (runtime, go, start): (&Runtime, &mut Go, Instant),
) -> Result<Written> {
    for (step, summary) in summaries {
        report::write_summary(&plan.out, &plan.steps[*step].name, summary)?;
    }
    go.seconds = Some(start.elapsed().as_secs_f64());
    let mut reports = Vec::new();
    for (step, page) in finish::pages(plan, runtime)? {
        let of = &plan.steps[step];
        let sections: Vec<(String, Summary)> =
            of.from.iter().filter_map(|p| summaries.get(&p.step).map(|s| (plan.steps[p.step].name.clone(), s.clone()))).collect();
        let facts = run_facts(go);
        let html = report::page(&page.title, page.about.as_deref().or(plan.about.as_deref()), &sections, behind, &facts);
        let path = plan.out.join(&of.name).join("report.html");
        files::write_whole(&path, html.as_bytes())?;
        reports.push(path.display().to_string());
    }
    let all: Vec<_> = summaries.iter().map(|(step, s)| (plan.steps[*step].name.clone(), s.clone())).collect();
    Ok(Written { reports, highlights: report::highlights(&all) })
}

fn run_facts(go: &Go) -> report::RunFacts {
    let mut facts = vec![
        ("calostream".to_owned(), go.version.clone()),
        ("host".to_owned(), go.host.clone()),
        (
            "workers".to_owned(),
            if go.processes == 1 {
                go.workers.to_string()
            } else {
                format!("{} in each of {} processes", go.workers, go.processes)
            },
        ),
        ("seconds".to_owned(), go.seconds.map(|s| format!("{s:.1}")).unwrap_or_default()),
    ];
    facts.extend(go.arithmetic.iter().map(|(k, v)| (k.clone(), v.clone())));
    report::RunFacts(facts)
}

/// All units of all sources, sources taken in turn.
pub fn units(plan: &Plan) -> Vec<Unit> {
    let lists: Vec<Vec<Unit>> = plan
        .steps
        .iter()
        .filter(|s| s.planned.shape == Shape::Source)
        .map(|s| s.planned.units.iter().map(|u| Unit { step: s.name.clone(), ..u.clone() }).collect())
        .collect();
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|i| lists.iter().filter_map(move |l| l.get(i)).cloned()).collect()
}

/// Puts the units of a plan into the list of the ledger; how many are new.
pub fn discover(ledger: &mut Ledger, plan: &Plan) -> Result<usize> {
    let found = units(plan);
    let unreadable: Vec<Unreadable> = plan
        .steps
        .iter()
        .flat_map(|s| s.planned.quarantined.iter().map(|(what, reason)| (s.name.clone(), what.clone(), reason.clone())))
        .map(|(step, what, reason)| Unreadable { step, what, reason })
        .collect();
    if let Some(first) = unreadable.first().filter(|_| plan.strict) {
        bail!("{}: {} (`on_error: stop`)", first.what, first.reason);
    }
    if unreadable != ledger.state.unreadable {
        ledger.commit(vec![(Line::Unreadable(unreadable.clone()), Vec::new())])?;
    }
    let share = unreadable.len() as f64 / (unreadable.len() + found.len()).max(1) as f64;
    if let Some(first) = unreadable.first().filter(|_| share > plan.quarantine_at_most) {
        bail!(
            "{} can't be read, more than `quarantine_at_most: {}` allows; the first: {}: {} (all of them: {})",
            words::counted(unreadable.len() as u64, "file"),
            plan.quarantine_at_most,
            first.what,
            first.reason,
            ledger.folder.join("quarantine.jsonl").display()
        );
    }
    ledger.discover(&found)
}

/// The bytes that batches under way may take (the budget less what the steps hold), and how many workers read.
///
/// What a reader holds may be much (a chunk of 1 GiB): then as many read at once as the budget has room for.
pub fn shares(plan: &Plan, workers: usize, processes_here: usize) -> Result<(u64, usize)> {
    let budget = plan.budget.unwrap_or_else(|| default_budget(machine::memory()) / processes_here as u64);
    let (sources, others): (Vec<_>, Vec<_>) = plan.steps.iter().partition(|s| s.planned.shape == Shape::Source);
    let held = |steps: &[&PlannedStep]| steps.iter().map(|s| s.planned.holds).sum::<u64>();
    let (reading, working) = (held(&sources), held(&others) * workers as u64);
    let batches = LEAST_BUDGET * workers as u64;
    let least = reading + working + batches;
    ensure!(
        budget >= least,
        "the budget of {} is too small: the steps hold up to {} on {workers} workers, and batches need {}; at least `budget: {}`, or fewer workers",
        words::bytes(budget),
        words::bytes(reading + working),
        words::bytes(batches),
        words::bytes(least)
    );
    let readers = (budget - working - batches).checked_div(reading).map_or(workers, |n| workers.min(n as usize));
    Ok((budget - working - reading * readers as u64, readers))
}

/// Which processes there are, from the command line or from SLURM's variables, and the workers of this one.
fn cluster(args: &RunArgs, plan: &Plan) -> Result<(Cluster, usize)> {
    let workers = args.workers();
    if args.processes.is_none() && args.hosts.is_none() {
        let Some(step) = super::slurm::step()? else { return Ok((Cluster::alone(), workers)) };
        let secret = super::slurm::secret(&plan.out, &step)?;
        let cluster = Cluster::connect((step.process, workers), &step.hosts, &flow::secret(&secret)?, &plan.hash);
        if step.process == 0 {
            // Everybody has read it, or will not come.
            let _ = std::fs::remove_file(&secret);
        }
        return Ok((cluster?, workers));
    }
    let (count, process) = (args.processes.unwrap_or(1) as usize, args.process as usize);
    if count == 1 {
        return Ok((Cluster::alone(), workers));
    }
    let path = args.hosts.as_ref().context("`--processes` needs `--hosts FILE`: one host:port a line")?;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let hosts: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    ensure!(process < count, "process {process} of {count}: they are numbered from 0");
    ensure!(hosts.len() >= count, "{} has {} hosts, not {count}", path.display(), hosts.len());
    let secret = args.secret.as_ref().context("`--processes` needs `--secret FILE` (16 bytes or more, mode 0600)")?;
    let cluster = Cluster::connect((process, workers), &hosts[..count], &flow::secret(secret)?, &plan.hash)?;
    Ok((cluster, workers))
}

/// What floating-point results may depend on, beside the inputs.
fn arithmetic(plan: &Plan, runtime: &Runtime) -> BTreeMap<String, String> {
    let mut found = BTreeMap::from([("processor".to_owned(), machine::features())]);
    if !plan.facts.models.is_empty() {
        let version = library::load(runtime).map(library::Library::version);
        found.insert("onnxruntime".to_owned(), version.unwrap_or_else(|reason| reason));
    }
    if !plan.facts.processors.is_empty() {
        found.insert("gpu".to_owned(), provider::gpus().join(", "));
    }
    found
}

/// A run goes on only where it gives the same bits, unless it is told that bits may differ.
fn same_arithmetic(ledger: &Ledger, go: &Go, mixed: bool) -> Result<()> {
    if mixed || ledger.state.commits.is_empty() {
        return Ok(());
    }
    let Some(last) = goes(&ledger.folder).pop() else { return Ok(()) };
    for (what, now) in &go.arithmetic {
        let before = last.arithmetic.get(what);
        if before.is_some_and(|b| b != now) {
            bail!(
                "this run began with another {what} (`{}`, here `{now}`), and bits may differ; go on with --mixed-hardware, or begin with --fresh",
                before.map_or("", String::as_str)
            );
        }
    }
    Ok(())
}

fn goes(folder: &Path) -> Vec<Go> {
    std::fs::read(folder.join("run.json")).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
}

/// Writes this go behind the earlier ones, or over itself.
fn write_go(folder: &Path, go: &Go) -> Result<()> {
    let mut all = goes(folder);
    all.retain(|g| (g.started, &g.host) != (go.started, &go.host));
    all.push(go.clone());
    files::write_whole(&folder.join("run.json"), &serde_json::to_vec_pretty(&all)?)
}
