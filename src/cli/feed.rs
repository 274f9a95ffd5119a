//! `calostream feed`: the batches of a pipeline for a program that trains on them.
//!
//! A consumer that goes away is the usual end of a training, so that is no failure: the feed says how far it was and ends.
//! The run folder holds a lock for each rank, the headers of the inputs, and what the order follows from.

use super::load::{Load, load, print_problems, print_remarks};
use super::{LibraryArgs, PipelineArgs};
use crate::feed::outlet::{Outlet, To};
use crate::feed::told::Manner;
use crate::feed::{self, End, Going, Options};
use crate::files;
use crate::flow;
use crate::ledger::lock::{self, Lock};
use crate::ledger::units;
use crate::machine;
use crate::plan::{Plan, default_budget};
use anyhow::{Context, Result, bail, ensure};
use calostream_operators::hdf5::chunk_file;
use calostream_operators::work::Runtime;
use calostream_operators::{Unit, words};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What `calostream feed` is given.
#[derive(Debug, Args)]
pub struct FeedArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    libraries: LibraryArgs,
    /// Where batches go, as an Arrow IPC stream: `-` (standard output), unix:PATH or tcp:127.0.0.1:PORT.
    #[arg(long, value_name = "PLACE", default_value = "-")]
    to: To,
    /// How many epochs there are, counted from epoch 0, or `endless`.
    #[arg(long, value_name = "N", default_value = "1")]
    epochs: Epochs,
    /// Which consumer this is for, from 0.
    #[arg(long, value_name = "I", default_value_t = 0)]
    rank: u64,
    /// How many consumers share each epoch.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    of: u64,
    /// Go on from here: the position after the last row that was used; an epoch alone for its beginning.
    #[arg(long, value_name = "EPOCH[:POSITION]")]
    start: Option<Start>,
    /// Rows of a batch, instead of the pipeline's.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Which feed, where the pipeline has several.
    #[arg(long, value_name = "NAME")]
    step: Option<String>,
    /// Threads that read, and as many that make batches [default: the available cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    workers: Option<u32>,
    /// The run folder, instead of the pipeline's `out`.
    #[arg(long, value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    out: Option<PathBuf>,
    /// No progress, only problems.
    #[arg(short, long)]
    quiet: bool,
    /// Progress and summary as JSON, one object a line, on standard error.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

/// How many epochs; none without an end.
#[derive(Debug, Clone, Copy)]
struct Epochs(Option<u32>);

impl FromStr for Epochs {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match (word, word.parse()) {
            ("endless", _) => Ok(Self(None)),
            (_, Ok(0)) => Err("no epoch would be fed".into()),
            (_, Ok(many)) => Ok(Self(Some(many))),
            _ => Err("a number, or `endless`".into()),
        }
    }
}

/// An epoch and a position in it, or its beginning.
#[derive(Debug, Clone, Copy)]
struct Start(u32, Option<u64>);

impl FromStr for Start {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let parsed = match word.split_once(':') {
            Some((epoch, position)) => epoch.parse().ok().zip(position.parse().ok().map(Some)),
            None => word.parse().ok().map(|epoch| (epoch, None)),
        };
        parsed.map(|(epoch, position)| Self(epoch, position)).ok_or_else(|| "an epoch and a position, as in 3:12800".into())
    }
}

/// Feeds.
pub fn feed(args: &FeedArgs) -> Result<ExitCode> {
    let begun = Instant::now();
    if args.rank >= args.of {
        eprintln!("calostream: rank {} of {}: ranks are numbered from 0 to {}", args.rank, args.of, args.of - 1);
        return Ok(ExitCode::from(2));
    }
    let (mut plan, text, remarks, headers) = match load(&args.pipeline, &args.libraries, args.out.as_deref()) {
        Load::Right { plan, text, remarks, headers } => (*plan, text, remarks, headers),
        Load::Wrong { text, problems } => {
            // Standard output is for batches alone.
            print_problems(&args.pipeline.file, &text, &problems, false)?;
            return Ok(ExitCode::from(2));
        }
    };
    if let Some(out) = &args.out {
        plan.out.clone_from(out);
    }
    if !args.quiet && !args.json {
        print_remarks(&args.pipeline.file, &text, &remarks);
    }
    let step = match step(&plan, args.step.as_deref()) {
        Ok(step) => step,
        Err(error) => {
            eprintln!("calostream: {error:#}");
            return Ok(ExitCode::from(2));
        }
    };
    readable(&plan)?;
    let units = numbered(&plan, step)?;
    let fingerprints = units.iter().map(|u| (u.file, u.fingerprint.clone())).collect();
    let chunks = Some(plan.out.join(chunk_file::FOLDER));
    let runtime = Runtime { chunks, fingerprints: Arc::new(fingerprints), ..args.libraries.runtime() };
    let runtime = Runtime { settled: Arc::new(flow::settle(&plan, &runtime)?), ..runtime };
    let options = Options {
        step,
        workers: args.workers.map_or_else(machine::cores, |w| w as usize),
        budget: plan.budget.unwrap_or_else(|| default_budget(machine::memory()) / args.of),
        batch: args.batch.map(|b| b as usize),
        rank: (args.rank, args.of),
        start: args.start.map(|Start(epoch, position)| (epoch, position)),
        epochs: args.epochs.0,
        manner: if args.json {
            Manner::Json
        } else if args.quiet {
            Manner::Quiet
        } else {
            Manner::Words
        },
        runtime,
    };
    let plan = Arc::new(plan);
    let going = Arc::new(Going::new(&plan, units, options)?);
    let name = &plan.steps[step].name;
    let lock = lock(&plan.out, name, (args.rank, args.of))?;
    headers.keep(&plan);
    same_order(&plan.out, name, &going.digest(), args.start.is_some())?;
    let outlet = Outlet::open(&args.to)?;
    let lock = Arc::new(Mutex::new(Some(lock)));
    on_signal(&going, &args.to, &lock)?;
    if !args.quiet && !args.json {
        eprintln!("feeding {}", going.about());
    }
    // Whoever starts the feed waits for this line: it is said whatever is asked for.
    outlet.name().iter().for_each(|name| eprintln!("waiting for a consumer at {name}"));
    let end = feed::run(&going, |vain| outlet.accept(vain));
    drop(outlet);
    drop(lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    let end = end.with_context(|| format!("the feed has stopped{}", so_far(&going)))?;
    going.told.sum_up(begun, matches!(end, End::All));
    match end {
        End::All if going.told.lost() > 0 => {
            eprintln!("{} of files were left out, from where they are wrong", words::counted(going.told.lost() as u64, "piece"));
            Ok(ExitCode::from(3))
        }
        End::All => Ok(ExitCode::SUCCESS),
        End::Gone => {
            if !args.quiet {
                eprintln!("the consumer went away{}", so_far(&going));
            }
            Ok(ExitCode::SUCCESS)
        }
        End::Failed => bail!("the feed has stopped{}", so_far(&going)),
    }
}

/// How far it was, in words.
fn so_far(going: &Going) -> String {
    match going.told.reached() {
        Some((epoch, position)) => format!(
            "; batches up to epoch {epoch}, position {position}, were handed over (a consumer that has used them all goes on with `--start {epoch}:{position}`)"
        ),
        None => " before the first batch".into(),
    }
}

/// The number of the step that feeds.
fn step(plan: &Plan, wanted: Option<&str>) -> Result<usize> {
    let feeds: Vec<usize> = (0..plan.steps.len()).filter(|step| plan.steps[*step].planned.feeds).collect();
    let names = || feeds.iter().map(|step| plan.steps[*step].name.as_str()).collect::<Vec<_>>().join(", ");
    match (feeds.as_slice(), wanted) {
        ([], _) => bail!("the pipeline feeds nobody: end it with a step of the operator `feed`, or use `calostream run`"),
        (_, Some(name)) => {
            let found = feeds.iter().copied().find(|step| plan.steps[*step].name == name);
            found.with_context(|| format!("no step `{name}` that feeds; there is {}", names()))
        }
        ([one], None) => Ok(*one),
        (_, None) => bail!("the pipeline has several feeds: say which with `--step` ({})", names()),
    }
}

/// Files that can't be read were named as remarks; an error where they are more than the pipeline allows.
fn readable(plan: &Plan) -> Result<()> {
    for step in &plan.steps {
        let Some((path, reason)) = step.planned.quarantined.first() else { continue };
        ensure!(!plan.strict, "{path}: {reason} (`on_error: stop`)");
        let (bad, good) = (step.planned.quarantined.len(), step.planned.units.len());
        let most = plan.quarantine_at_most;
        let many = words::counted(bad as u64, "file");
        ensure!(
            bad as f64 / (bad + good) as f64 <= most,
            "{many} can't be read, more than `quarantine_at_most: {most}` allows; the first: {path}: {reason}"
        );
    }
    Ok(())
}

/// The units of the source of a feed, their files numbered.
fn numbered(plan: &Plan, feed: usize) -> Result<Vec<Unit>> {
    let mut at = &plan.steps[feed];
    while let Some(port) = at.from.first() {
        at = &plan.steps[port.step];
    }
    let (numbered, _) = units::added(&[], &at.planned.units, &|_| false, &BTreeSet::new())?;
    Ok(numbered.into_iter().map(|n| n.unit).collect())
}

/// The lock of a rank: two consumers of the same would see the same events. So would some of consumers that are so many, and some
/// of others that are another number: who is at work in a folder shares it with all others that are.
fn lock(out: &Path, step: &str, (rank, of): (u64, u64)) -> Result<Lock> {
    files::make_folder(out)?;
    let which = if of == 1 { format!("`{step}`") } else { format!("rank {rank} of {of} of `{step}`") };
    let taken = format!("{which} is fed already from {}", out.display());
    let help = "each consumer has a rank of its own (`--rank I --of N`); another training over the same files takes another folder, `--out FOLDER`";
    let lock = Lock::take_named(out, &format!("feed-{step}-{rank}-of-{of}.lock"), &taken, help)?;
    // With one's own lock in hand: of two that come at a time, at least one sees the other.
    let others = std::fs::read_dir(out)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let others = others.filter_map(|name| {
        let (rank, of) = name.strip_prefix(&format!("feed-{step}-"))?.strip_suffix(".lock")?.split_once("-of-")?;
        Some((rank.parse::<u64>().ok()?, of.parse::<u64>().ok()?, name.clone()))
    });
    let others: Vec<_> = others.filter(|(_, other, _)| *other != of).collect();
    // Together, because a lock of another machine is watched for a while.
    let held = std::thread::scope(|scope| {
        let looking: Vec<_> = others.iter().map(|other| (other, scope.spawn(|| lock::holder(out, &other.2)))).collect();
        looking.into_iter().find_map(|(other, found)| Some((other, found.join().ok()??)))
    });
    match held {
        None => Ok(lock),
        Some(((rank, other, _), owner)) => bail!(
            "`{step}` is fed already from {} to {}, among them rank {rank}{owner}, and this would be one of {of}: they would see \
             the same events; {help}",
            out.display(),
            words::counted(*other, "consumer"),
        ),
    }
}

/// Writes down what the order follows from, or, for a training that goes on, refuses another one.
fn same_order(out: &Path, step: &str, digest: &str, goes_on: bool) -> Result<()> {
    let path = out.join(format!("feed-{step}.order"));
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    if goes_on {
        ensure!(
            known.is_empty() || known.trim() == digest,
            "the order is another one than that of the training that is to go on: its files, its seed, its `window` or \
             `files_at_once` were others ({}); remove {} to begin there all the same",
            step,
            path.display()
        );
    }
    if known.trim() != digest {
        files::write_whole(&path, format!("{digest}\n").as_bytes())?;
    }
    Ok(())
}

/// A signal ends the feed: it says how far it was, and leaves neither socket nor lock.
fn on_signal(going: &Arc<Going>, to: &To, lock: &Arc<Mutex<Option<Lock>>>) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (going, to, lock) = (Arc::clone(going), to.clone(), Arc::clone(lock));
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            eprintln!("calostream: stopped by {name}{}", so_far(&going));
            if let To::Unix(path) = to {
                let _ = std::fs::remove_file(path);
            }
            drop(lock.lock().unwrap_or_else(PoisonError::into_inner).take());
            std::process::exit(1);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop).context("cannot start a thread")
}
