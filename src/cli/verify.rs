//! `calostream verify`: is what a run has written what it must be?
//!
//! Every file has the length and the hash that the log says, and no file lies among them that the log does not know: who reads
//! the folder would read it, too. The inputs are those that were read, by their fingerprints. Every mix that was written holds each selected event once (or as
//! often as it repeats), each at its place: the order is computed again from the inputs and compared event by event. What
//! can't be proven so (rows that were paired, mixes of mixes, files without the numbers of files and rows) is named.

use super::load::{Load, load_changed, print_problems};
use super::{LibraryArgs, PipelineArgs, VerifyArgs};
use crate::flow::verify::{Again, Event, Expected};
use crate::flow::{self, Basis, Phase};
use crate::ledger::units::{self, Numbered};
use crate::ledger::{State, log};
use crate::plan::{Plan, Port};
use anyhow::{Context, Result, ensure};
use arrow::array::{AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{UInt32Type, UInt64Type};
use arrow::ipc::reader::FileReader;
use calostream_operators::hdf5::cache::Cache;
use calostream_operators::work::Runtime;
use calostream_operators::{Shape, column, words};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

mod uniform;
use uniform::Seen;

/// Verifies a run folder; exit code 1 where something is not what it must be.
pub fn verify(args: &VerifyArgs) -> Result<ExitCode> {
    let folder = std::path::absolute(&args.folder)?;
    ensure!(folder.join("plan.json").exists(), "{} is no run folder (it has no plan.json)", args.folder.display());
    let mut state = State::default();
    log::read(&folder.join("commits.jsonl"))?.iter().for_each(|line| state.apply(line));
    ensure!(state.done, "{} is not done; run it again to go on", args.folder.display());
    let mut wrong = changed_files(&folder, &state);
    let (all, right) = (state.files().len(), state.files().len() - wrong.len());
    let of = if right < all { format!("{} of ", words::count(right as u64)) } else { String::new() };
    let mut said = format!("{}: {of}{} with the hashes of the log\n", args.folder.display(), words::counted(all as u64, "file"));
    let files_are_right = wrong.is_empty();
    wrong.extend(strangers(&folder, &state)?);
    if files_are_right {
        let settings = super::run::last_settings(&folder)?;
        // The patterns of the inputs are relative to where the run was started.
        std::env::set_current_dir(&settings.folder).with_context(|| format!("cannot go to {}", settings.folder.display()))?;
        let set = settings.set.iter().map(|s| s.parse()).collect::<Result<_, String>>().map_err(|e| anyhow::anyhow!(e))?;
        let pipeline = PipelineArgs { file: folder.join("pipeline.yaml"), set };
        let libraries = LibraryArgs { onnxruntime: args.libraries.onnxruntime.clone() };
        // What the folder knows of the inputs is not believed: each is looked at.
        let (hidden, known) = (BTreeSet::new(), Some(Cache::default()));
        let mut plan = match load_changed(&pipeline, &libraries, Some(&folder), (&hidden, known), |_| ()) {
            Load::Right { plan, .. } => *plan,
            Load::Wrong { text, problems } => {
                print_problems(&pipeline.file, &text, &problems, false)?;
                return Ok(ExitCode::from(2));
            }
        };
        plan.out.clone_from(&folder);
        let units = units::read(&folder.join("units.jsonl"))?;
        let (changed, missing) = changed_inputs(&plan, &state, &units);
        if missing > 0 {
            said += &format!("inputs: {} not found any more\n", words::counted(missing, "file"));
        }
        if changed.is_empty() {
            said += &orders(&plan, &state, &units, libraries.runtime(), &mut wrong)?;
        } else {
            said += "orders are not verified: inputs have changed\n";
        }
        wrong.extend(changed);
    }
    super::print(&said)?;
    for what in &wrong {
        eprintln!("wrong: {what}");
    }
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What of the files is not as the log says.
fn changed_files(folder: &Path, state: &State) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in state.files() {
        let path = folder.join(&file.step).join(&file.name);
        match log::hash_file(&path) {
            Err(error) => wrong.push(format!("{error:#}")),
            Ok((bytes, _)) if bytes != file.bytes => {
                wrong.push(format!("{}: {bytes} bytes, where {} were written", path.display(), file.bytes));
            }
            Ok((_, hash)) if hash != file.hash => wrong.push(format!("{}: its bytes have changed", path.display())),
            Ok(_) => {}
        }
    }
    wrong
}

/// Files beside the parts of a step that look like parts, and that the log does not know.
fn strangers(folder: &Path, state: &State) -> Result<Vec<String>> {
    // Parts that are put together to one file are known; where they should have been removed, the next run does it.
    let files = state.commits.values().flat_map(|c| &c.files).chain(state.assembled.values().flat_map(|a| &a.files));
    let mut steps: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in files {
        steps.entry(&file.step).or_default().insert(&file.name);
    }
    let mut found = Vec::new();
    for (step, known) in steps {
        let kinds: BTreeSet<_> = known.iter().filter_map(|name| Path::new(name).extension()).collect();
        let Ok(entries) = std::fs::read_dir(folder.join(step)) else { continue };
        for entry in entries {
            let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
            let alike = path.extension().is_some_and(|kind| kinds.contains(kind));
            if alike && path.is_file() && !name.to_str().is_some_and(|name| known.contains(name)) {
                found.push(format!("{}: the run has not written it; remove it, or keep it elsewhere", path.display()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The inputs that are others than those that were read, in words; and how many are not found any more.
fn changed_inputs(plan: &Plan, state: &State, units: &[Numbered]) -> (Vec<String>, u64) {
    let sources = || plan.steps.iter().filter(|step| step.planned.shape == Shape::Source);
    let mut now: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut unreadable: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for step in sources() {
        now.extend(step.planned.units.iter().map(|u| ((step.name.as_str(), u.path.as_str()), u.fingerprint.as_str())));
        unreadable.extend(step.planned.quarantined.iter().map(|(path, why)| ((step.name.as_str(), path.as_str()), why.as_str())));
    }
    let mut then: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let used = |u: &&Numbered| !state.is_out(u.number) && !state.replaced.contains(&u.number);
    then.extend(units.iter().filter(used).map(|u| ((u.unit.step.as_str(), u.unit.path.as_str()), u.unit.fingerprint.as_str())));
    let (mut changed, mut missing) = (Vec::new(), 0);
    for ((step, path), then) in then {
        match (now.get(&(step, path)), unreadable.get(&(step, path))) {
            (Some(now), _) if *now == then => {}
            (Some(now), _) => {
                changed.push(format!("{path} has changed since this run folder read it (fingerprint {then} then, {now} now)"));
            }
            (None, Some(why)) => changed.push(format!("{path} has changed since this run folder read it: {why}")),
            (None, None) => missing += 1,
        }
    }
    (changed, missing)
}

/// Compares the mixes with what they must be; what was found, for people.
fn orders(plan: &Plan, state: &State, units: &[Numbered], mut runtime: Runtime, wrong: &mut Vec<String>) -> Result<String> {
    runtime.fingerprints = Arc::new(units.iter().map(|u| (u.unit.file, u.unit.fingerprint.clone())).collect());
    let begin = |step: usize| flow::start(plan, &runtime, step, ((0, 1), None));
    let basis = Basis { plan, state, units, folder: &plan.out, start: &begin };
    let mut said = String::new();
    for (step, planned) in plan.steps.iter().enumerate().filter(|(_, s)| s.planned.shape == Shape::Shuffle && s.spills) {
        let again = match Again::of(basis, &runtime, step) {
            Ok(again) => again,
            Err(why) => {
                said += &format!("{}: its order is not verified: {why:#}\n", planned.name);
                continue;
            }
        };
        let mut outputs: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for output in 0..planned.planned.outputs.len() {
            let sinks = sinks(plan, Port { step, output });
            if !sinks.is_empty() {
                outputs.insert(output, sinks);
            }
        }
        let mut parts: BTreeMap<(usize, Port, u64), u64> = BTreeMap::new();
        for sink in outputs.values().flatten() {
            let number = plan.phase_of(plan.steps[*sink].level);
            let phase = Phase::of(basis, number)?;
            parts.extend((0..).zip(&phase.parts).map(|(part, p)| ((number, p.origin, p.number_in_origin), part)));
        }
        let mut seen: BTreeMap<usize, Seen> = BTreeMap::new();
        let chosen: Vec<usize> = outputs.keys().copied().collect();
        again.parts(&chosen, &mut |expected| {
            let seen = seen.entry(expected.port.output).or_default();
            for sink in &outputs[&expected.port.output] {
                let number = plan.phase_of(plan.steps[*sink].level);
                let part = parts.get(&(number, expected.port, expected.part)).copied();
                compare((plan, state), (*sink, number, part), &expected, wrong)?;
            }
            expected.events.iter().for_each(|due| seen.take(due));
            Ok(())
        })?;
        let names = column::samples(&planned.inputs[0].schema);
        for (output, seen) in seen {
            let name = plan.name_of(Port { step, output });
            let sinks: Vec<&str> = outputs[&output].iter().map(|sink| plan.steps[*sink].name.as_str()).collect();
            said += &format!("{name}: {} in {}\n", words::counted(seen.events(), "event"), sinks.join(", "));
            said += &seen.text(&name, &names, wrong);
        }
    }
    Ok(said)
}

/// The steps that write all rows of an output, in their order.
fn sinks(plan: &Plan, port: Port) -> Vec<usize> {
    let mut found = Vec::new();
    for (step, _) in plan.takers(port) {
        let planned = &plan.steps[step].planned;
        match planned.shape {
            Shape::Sink => found.push(step),
            Shape::Map | Shape::Device if !planned.cuts => found.extend(sinks(plan, Port { step, output: 0 })),
            _ => {}
        }
    }
    found
}

/// Compares a part with what it must hold.
fn compare(
    (plan, state): (&Plan, &State),
    (sink, phase, part): (usize, usize, Option<u64>),
    expected: &Expected,
    wrong: &mut Vec<String>,
) -> Result<()> {
    let name = &plan.steps[sink].name;
    let Some(part) = part else { return Ok(()) };
    let files = state.commits.get(&(phase, part)).map_or(&[][..], |c| &c.files);
    let files = files.iter().filter(|f| f.step == *name);
    let mut events = Vec::new();
    for file in files {
        let path = plan.out.join(name).join(&file.name);
        let Some(of_file) = events_of(&path).with_context(|| format!("reading {}", path.display()))? else { return Ok(()) };
        events.extend(of_file);
    }
    let due = expected.events.iter().map(|due| &due.event);
    let place = format!("{name}, part {}", expected.part + 1);
    if let Some((row, (found, due))) = events.iter().zip(due).enumerate().find(|(_, (found, due))| found != due) {
        let say = |(file, row, copy): &Event| {
            format!("file {file}, row {row}{}", if *copy > 0 { format!(", copy {copy}") } else { String::new() })
        };
        wrong.push(format!("{place}: row {row} is {}; it must be {}", say(found), say(due)));
    } else if events.len() != expected.events.len() {
        wrong.push(format!("{place}: {} events; it must have {}", events.len(), expected.events.len()));
    }
    Ok(())
}

/// The events of a file in their order; none where it does not say which they are.
fn events_of(path: &Path) -> Result<Option<Vec<Event>>> {
    let wanted = [column::FILE, column::ROW, column::COPY];
    let batches: Vec<RecordBatch> = match path.extension().and_then(|e| e.to_str()) {
        Some("parquet") => {
            let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
            let mask = ProjectionMask::columns(builder.parquet_schema(), wanted);
            builder.with_projection(mask).build()?.collect::<Result<_, _>>()?
        }
        Some("arrow") => {
            let schema = FileReader::try_new(File::open(path)?, None)?.schema();
            let columns = wanted.iter().filter_map(|name| schema.index_of(name).ok()).collect();
            FileReader::try_new_buffered(File::open(path)?, Some(columns))?.collect::<Result<_, _>>()?
        }
        _ => return Ok(None),
    };
    let mut events = Vec::new();
    for batch in batches {
        let (Some(files), Some(rows)) = (batch.column_by_name(column::FILE), batch.column_by_name(column::ROW)) else {
            return Ok(None);
        };
        let (files, rows) = (files.as_primitive::<UInt32Type>(), rows.as_primitive::<UInt64Type>());
        let copies =
            batch.column_by_name(column::COPY).and_then(|c| c.as_primitive_opt::<UInt32Type>()).map(PrimitiveArray::values);
        let copy = |row: usize| copies.map_or(0, |c| c[row]);
        events.extend((0..batch.num_rows()).map(|row| (files.value(row), rows.value(row), copy(row))));
    }
    Ok(Some(events))
}
