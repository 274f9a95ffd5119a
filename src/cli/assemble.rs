//! The end of a run, after the last commit of a part: sinks that make one file of all their parts are asked to.
//!
//! Done by process 0 alone. Data first, log last: the sink writes and fsyncs the file in the staging folder, it is renamed to
//! its name, and then the log says so, with a digest of the parts that it was made of. Only then are the parts removed, where
//! the sink keeps none. A kill leaves one of these, and the next run goes on from it:
//!
//! | killed | there is | the next run |
//! |---|---|---|
//! | while it is written | a file in `.staging` | removes it when it opens the folder, and begins again |
//! | after the renaming | a file that the log does not know, or knows as it was | sweeps it (or replaces it), and begins again |
//! | after the log's line | the file and the parts, or some of them | removes the parts |
//!
//! What was put together counts as long as the log has the same parts. When parts change (files were added, a unit is tried
//! again), it stays where it is until another takes its place; parts that are gone are done again first ([`crate::flow::lost`]).

use super::finish;
use crate::files;
use crate::flow::Options;
use crate::ledger::Ledger;
use crate::ledger::log::{self, Assembled, FileMade, Line};
use crate::plan::{Plan, PlannedStep};
use anyhow::{Context, Result, bail, ensure};
use calostream_operators::work::{Assembly, Finished, Staged};
use calostream_operators::{Fault, Work, words};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Makes the files of all steps that make one of their parts, and removes the parts that they take the place of.
pub fn assemble(plan: &Plan, ledger: &mut Ledger, options: &Options, quiet: bool) -> Result<()> {
    for (number, step) in plan.steps.iter().enumerate() {
        let Some(planned) = &step.planned.assembled else { continue };
        let name = &step.name;
        if ledger.state.assembled_of(name).is_none() {
            let parts: Vec<FileMade> = ledger.state.parts_of(name).cloned().collect();
            if !quiet {
                let (count, bytes) = (words::counted(parts.len() as u64, "part"), parts.iter().map(|p| p.bytes).sum());
                eprintln!("{name}: putting {count} ({}) together to {}", words::bytes(bytes), planned.file);
            }
            let made = make(plan, (number, step), &parts, options).with_context(|| {
                let folder = plan.out.display();
                format!(
                    "step `{name}`: {} is not put together; the parts stay in {folder}, and the same command does it",
                    planned.file
                )
            })?;
            let basis = ledger.state.parts_basis(name);
            let line = Assembled { step: name.clone(), basis, files: made, instead: !planned.parts_stay };
            ledger.commit(vec![(Line::Assembled(line), Vec::new())])?;
        }
        if !planned.parts_stay {
            for part in ledger.state.parts_of(name) {
                match std::fs::remove_file(plan.out.join(name).join(&part.name)) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(e).with_context(|| format!("cannot remove {} of `{name}`", part.name));
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// The files of one step, in place.
fn make(plan: &Plan, (number, step): (usize, &PlannedStep), parts: &[FileMade], options: &Options) -> Result<Vec<FileMade>> {
    let folder = plan.out.join(&step.name);
    let staging = plan.out.join(".staging").join(format!("{}-assembled", step.name));
    files::make_folder(&staging)?;
    let finished: Vec<Finished> = parts.iter().map(|p| Finished { path: folder.join(&p.name), rows: p.rows }).collect();
    let staged = stoppable(|stop| {
        let Work::Sink(mut sink) = finish::start(plan, number, &options.runtime)? else {
            bail!("`{}` is no sink any more", step.name)
        };
        let check = |n: usize| same(&finished[n].path, &parts[n]);
        let all = Assembly {
            files: &finished,
            check: &check,
            staging: &staging,
            threads: options.workers,
            memory: options.budget,
            stop,
        };
        match sink.assemble(&all) {
            Ok(staged) => Ok(staged),
            Err(Fault::Content(reason)) => bail!("{reason}"),
            Err(Fault::Machine(error)) if stop() => Err(error.context("stopped by a signal")),
            Err(Fault::Machine(error)) => Err(error),
        }
    });
    let made = staged.and_then(|staged| {
        let (rows, of) = (staged.iter().map(|f| f.rows).sum::<u64>(), parts.iter().map(|p| p.rows).sum::<u64>());
        ensure!(rows == of, "{rows} rows were put together of {of}");
        settle(&step.name, &folder, &staged)
    });
    // Whatever is left of it (on a disk that is full, say) makes room.
    let _ = std::fs::remove_dir_all(&staging);
    made
}

fn settle(step: &str, folder: &Path, staged: &[Staged]) -> Result<Vec<FileMade>> {
    let mut made = Vec::new();
    for file in staged {
        let (bytes, hash) = log::hash_file(&file.path)?;
        files::settle(&file.path, &folder.join(&file.name))?;
        made.push(FileMade { step: step.to_owned(), name: file.name.clone(), rows: file.rows, bytes, hash });
    }
    Ok(made)
}

/// An error where a part's file is not what was committed.
fn same(path: &Path, part: &FileMade) -> Result<()> {
    let (bytes, hash) = log::hash_file(path)?;
    ensure!(
        (bytes, &hash) == (part.bytes, &part.hash),
        "{} is not what was written; remove it, and the same command makes it again",
        path.display()
    );
    Ok(())
}

/// Does something that asks whether a signal wants it to stop.
fn stoppable<T>(what: impl FnOnce(&dyn Fn() -> bool) -> Result<T>) -> Result<T> {
    let flag = Arc::new(AtomicBool::new(false));
    let mut listening = Vec::new();
    for signal in [SIGTERM, SIGINT] {
        listening.push(signal_hook::flag::register(signal, Arc::clone(&flag))?);
    }
    let done = what(&|| flag.load(Ordering::Relaxed));
    for id in listening {
        signal_hook::low_level::unregister(id);
    }
    done
}
