//! `calostream events TABLE --bin ...`: the events behind a bin of a table, as file and row.
//!
//! The rows of the table that the bins choose say what an event must have: its columns between the edges, its texts equal. Units
//! are read again, through the steps that lie before the table, but only those that have contributed to one of these rows; where events
//! were mixed before the table, all are read, and the order of the mix, computed again, says which of them it had taken. The plan that
//! reads is the run's own with one more step, which keeps the columns that say where a row came from.

mod bins;
mod replay;

use super::load::{Load, load, load_changed, print_problems};
use super::{LibraryArgs, PipelineArgs};
use crate::flow::verify::Again;
use crate::flow::{self, Basis};
use crate::language::{Pipeline, Step};
use crate::ledger::units::Numbered;
use crate::ledger::{State, log, units};
use crate::plan::Plan;
use anyhow::{Context, Result, bail, ensure};
use bins::{Asked, Predicate};
use calostream_operators::column::{EVENT, FILE, ROW};
use calostream_operators::statistics::sums::Sums;
use calostream_operators::work::{Fold, Runtime};
use calostream_operators::write::write_parquet::WriteParquet;
use calostream_operators::{Operator, Placed, Shape, Work, words};
use clap::Args;
use replay::{Behind, Found};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// What `calostream events` is given.
#[derive(Debug, Clone, Args)]
pub struct EventsArgs {
    /// The table in its run folder: `runs/mine/resolution`, or the file in it.
    #[arg(value_name = "TABLE", value_hint = clap::ValueHint::AnyPath)]
    pub table: PathBuf,
    /// A bin, by any value in it (`energy=42`, `energy=inf` for the overflow) or by its text (`sample=electron`).
    #[arg(long = "bin", value_name = "NAME=VALUE")]
    pub bins: Vec<Asked>,
    #[command(flatten)]
    pub libraries: LibraryArgs,
}

/// The step that reads what stands before the table.
const BEHIND: &str = "events-behind";

/// Lists the events behind a bin.
pub fn events(args: &EventsArgs) -> Result<ExitCode> {
    let table = std::path::absolute(&args.table)?;
    let step_folder = if table.is_dir() { table.clone() } else { table.parent().map(Path::to_owned).unwrap_or_default() };
    let step = step_folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let folder = step_folder.parent().map(Path::to_owned).unwrap_or_default();
    let written = step_folder.join(format!("{step}.parquet"));
    ensure!(folder.join("plan.json").exists() && written.exists(), "{} is no table in a run folder", args.table.display());
    let rows = bins::read(&written)?;
    let chosen = rows.choose(&args.bins)?;
    let mut state = State::default();
    log::read(&folder.join("commits.jsonl"))?.iter().for_each(|line| state.apply(line));
    let settings = super::run::last_settings(&folder)?;
    // The patterns of the inputs are relative to where the run was started.
    std::env::set_current_dir(&settings.folder).with_context(|| format!("cannot go to {}", settings.folder.display()))?;
    let set = settings.set.iter().map(|s| s.parse()).collect::<Result<_, String>>().map_err(|e| anyhow::anyhow!(e))?;
    let pipeline = PipelineArgs { file: folder.join("pipeline.yaml"), set };
    let plan_of = |loaded: Load| match loaded {
        Load::Right { plan, .. } => Ok(Some(*plan)),
        Load::Wrong { text, problems } => print_problems(&pipeline.file, &text, &problems, false).map(|()| None),
    };
    let Some(mut plan) = plan_of(load(&pipeline, &args.libraries, Some(&folder)))? else { return Ok(ExitCode::from(2)) };
    plan.out.clone_from(&folder);
    let number = plan.steps.iter().position(|s| s.name == step).with_context(|| format!("the pipeline has no step `{step}`"))?;
    ensure!(plan.steps[number].planned.shape == Shape::Fold, "`{step}` is no table");
    let stream = &plan.steps[number].inputs[0].schema;
    let keep = rows.reads(stream)?;
    let predicates = rows.predicates(&chosen, stream)?;
    let changed = load_changed(&pipeline, &args.libraries, Some(&folder), (&BTreeSet::new(), None), |pipeline| {
        behind(pipeline, &step, &keep);
    });
    let Some(reading) = plan_of(changed)? else { return Ok(ExitCode::from(2)) };
    let units = units::read(&folder.join("units.jsonl"))?;
    let mut runtime = args.libraries.runtime();
    runtime.fingerprints = Arc::new(units.iter().map(|u| (u.unit.file, u.unit.fingerprint.clone())).collect());
    let listing = Listing { plan: &plan, reading: &reading, state: &state, units: &units, folder: &folder, runtime: &runtime };
    let (touched, of_all) = listing.touched(number, &chosen)?;
    let found = listing.found(number, &predicates, &keep, touched.as_ref())?;
    let read = touched.map_or(of_all, |units| units.len());
    super::print(&text(&found, &units, &keep))?;
    eprintln!("{} in {} of {of_all} units", words::counted(found.iter().map(|f| f.times).sum(), "event"), read);
    let said = rows.count_once(&chosen, stream)?;
    if let Some(said) = said.filter(|n| *n != found.iter().map(|f| f.times).sum::<u64>()) {
        eprintln!("the table counts {said}: rows whose value is NaN or infinite are in its bin and in none of its numbers");
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds a step that reads these columns of what a table is made of, and where its rows come from.
fn behind(pipeline: &mut Pipeline, table: &str, columns: &BTreeSet<String>) {
    let Some(from) = pipeline.steps.iter().find(|s| s.name.value == table).map(|s| s.from.clone()) else { return };
    let writer = serde_json::from_value::<WriteParquet>(serde_json::json!({ "columns": columns }));
    let operator = writer.ok().map(|writer| Box::new(writer) as Box<dyn Operator>);
    pipeline.steps.push(Step {
        name: Placed::unplaced(BEHIND.to_owned()),
        from,
        from_place: None,
        kind: Placed::unplaced("write_parquet".to_owned()),
        operator,
        parameters: serde_json::Value::Null,
    });
}

/// What is known of the run.
struct Listing<'a> {
    plan: &'a Plan,
    reading: &'a Plan,
    state: &'a State,
    units: &'a [Numbered],
    folder: &'a Path,
    runtime: &'a Runtime,
}

impl Listing<'_> {
    /// The units that have contributed to these rows of a table, and how many there are that might have; none where the table was made of a
    /// new order, whose parts are no units.
    fn touched(&self, step: usize, rows: &[usize]) -> Result<(Option<BTreeSet<u64>>, usize)> {
        let bad: BTreeSet<u64> = self.units.iter().map(|u| u.number).filter(|unit| self.state.is_out(*unit)).collect();
        let source = &self.reading.steps[replay::source_of(self.plan, step)?].name;
        let all: BTreeSet<u64> =
            self.units.iter().filter(|u| u.unit.step == *source && !bad.contains(&u.number)).map(|u| u.number).collect();
        let planned = &self.plan.steps[step];
        let phase = self.plan.phase_of(planned.level);
        if !self.state.reads_files(phase) {
            return Ok((None, all.len()));
        }
        let Work::Fold(fold) = flow::again(self.plan, self.state, self.folder, self.runtime, step)? else {
            bail!("`{}` is no table", planned.name)
        };
        let contributions = File::open(self.folder.join("contributions.bin")).context("cannot open contributions.bin")?;
        let mut touched = BTreeSet::new();
        for commit in self.state.commits.values().filter(|commit| commit.phase == phase) {
            for pointer in commit.contributions.iter().filter(|pointer| pointer.step == planned.name) {
                let sums = Sums::decode(&log::contribution(&contributions, pointer)?)?;
                if self.has_rows(fold.as_ref(), &sums, rows)? {
                    touched.extend(commit.units.iter().copied());
                }
            }
        }
        touched.retain(|unit| all.contains(unit));
        Ok((Some(touched), all.len()))
    }

    /// True where sums hold anything in one of these rows.
    fn has_rows(&self, fold: &dyn Fold, sums: &Sums, rows: &[usize]) -> Result<bool> {
        let table = bins::Rows::of(fold.finish(sums)?.table)?;
        Ok(table.count(rows).is_none_or(|n| n > 0))
    }

    /// The events behind the bins, by file and row.
    fn found(
        &self,
        step: usize,
        predicates: &[Predicate],
        keep: &BTreeSet<String>,
        touched: Option<&BTreeSet<u64>>,
    ) -> Result<Vec<Found>> {
        let mut replay = Behind::new((self.reading, self.state, self.folder), self.runtime, BEHIND)?;
        let mut found: Vec<Found> = Vec::new();
        let wanted = |unit: &&Numbered| {
            replay.reads(&unit.unit)
                && !self.state.is_out(unit.number)
                && touched.is_none_or(|touched| touched.contains(&unit.number))
        };
        let units: Vec<&Numbered> = self.units.iter().filter(wanted).collect();
        for unit in units {
            replay.read(&unit.unit, predicates, keep, &mut found)?;
        }
        found.sort_by_key(|event| (event.file, event.row));
        let Some((shuffle, output)) = replay::shuffle_of(self.plan, step)? else { return Ok(found) };
        let begin = |step: usize| flow::again(self.plan, self.state, self.folder, self.runtime, step);
        let basis = Basis { plan: self.plan, state: self.state, units: self.units, folder: self.folder, start: &begin };
        let mut times: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        let candidates: BTreeSet<(u32, u64)> = found.iter().map(|event| (event.file, event.row)).collect();
        let again = Again::of(basis, self.runtime, shuffle).context("which events the mix has taken can't be computed again")?;
        again.parts(&[output], &mut |expected| {
            for (file, row, _) in expected.events.into_iter().map(|due| due.event) {
                if candidates.contains(&(file, row)) {
                    *times.entry((file, row)).or_default() += 1;
                }
            }
            Ok(())
        })?;
        found.retain_mut(|event| {
            event.times = times.get(&(event.file, event.row)).copied().unwrap_or_default();
            event.times > 0
        });
        Ok(found)
    }
}

/// The list: one event a line.
fn text(found: &[Found], units: &[Numbered], keep: &BTreeSet<String>) -> String {
    let paths: BTreeMap<u32, &str> = units.iter().map(|u| (u.unit.file, u.unit.path.as_str())).collect();
    let named: Vec<&String> =
        keep.iter().filter(|name| found.first().is_some_and(|event| event.values.contains_key(*name))).collect();
    let header: Vec<&str> = ["path", FILE, ROW, EVENT].into_iter().chain(named.iter().map(|name| name.as_str())).collect();
    let quoted =
        |text: &str| if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() };
    let mut text = header.join(",") + "\n";
    for event in found {
        let path = quoted(paths.get(&event.file).copied().unwrap_or_default());
        let values: Vec<String> = named.iter().map(|name| quoted(event.values.get(*name).map_or("", String::as_str))).collect();
        let id = event.event.map(|event| event.to_string()).unwrap_or_default();
        let line: Vec<String> = [path, event.file.to_string(), event.row.to_string(), id].into_iter().chain(values).collect();
        for _ in 0..event.times {
            text += &line.join(",");
            text.push('\n');
        }
    }
    text
}
