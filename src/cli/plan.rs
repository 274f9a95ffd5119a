//! `calostream plan`: phases and steps with their schemas, units, rows and bytes.

use super::load::{Load, load, print_problems, print_remarks};
use super::{LibraryArgs, PipelineArgs};
use crate::machine;
use crate::plan::{Plan, PlannedStep, default_budget, spill};
use arrow::datatypes::{DataType, Field};
use calostream_operators::words;
use calostream_operators::{Output, Problem, Reads, Shape, column, hits};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::ExitCode;

/// What `plan` is given.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    libraries: LibraryArgs,
    /// The plan as JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the plan; exit code 2 where the pipeline is wrong.
pub fn plan(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    match load(&args.pipeline, &args.libraries, None) {
        Load::Wrong { text, problems } => {
            print_problems(&args.pipeline.file, &text, &problems, args.json)?;
            Ok(ExitCode::from(2))
        }
        Load::Right { plan, text, remarks, .. } => {
            if args.json {
                super::print(&(serde_json::to_string_pretty(&as_json(&plan))? + "\n"))?;
            } else {
                let shown = |r: &Problem| plan.remarks.iter().any(|(_, what)| *what == r.what);
                let others: Vec<Problem> = remarks.into_iter().filter(|r| !shown(r)).collect();
                print_remarks(&args.pipeline.file, &text, &others);
                super::print(&as_text(&plan))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn as_text(plan: &Plan) -> String {
    let mut out = format!("{}\n", plan.name);
    if let Some(about) = &plan.about {
        let _ = writeln!(out, "{about}");
    }
    let _ = writeln!(out, "run folder {}, seed {}, plan {}\n", plan.out.display(), plan.seed, &plan.hash[..16]);
    for (number, phase) in plan.phases.iter().enumerate() {
        let _ = write!(out, "phase {} of {}", number + 1, plan.phases.len());
        match &phase.survey {
            Some(survey) => out += &survey_text(survey),
            None => {
                out.push('\n');
                for step in plan.steps.iter().filter(|s| s.level == phase.level) {
                    out += &step_text(plan, step);
                }
            }
        }
        out.push('\n');
    }
    out
}

/// What a phase does that only surveys.
fn survey_text(plan: &Plan) -> String {
    let counts = plan.steps.iter().all(|s| !s.goal || s.counted);
    let mut out = if counts { ": counts rows\n" } else { ": surveys rows\n" }.to_owned();
    for step in plan.steps.iter().filter(|s| s.goal) {
        let what = if step.counted { "how many rows go where" } else { "what it must know before it works" };
        let _ = writeln!(out, "  {}: {what}", step.name);
    }
    for step in plan.steps.iter().filter(|s| !s.idle && s.planned.shape == Shape::Source) {
        let columns = step.planned.outputs[0].schema.fields();
        let read: Vec<&str> =
            columns.iter().map(|f| f.name().as_str()).filter(|name| !column::PROVENANCE.contains(name)).collect();
        let images = columns.iter().any(|f| hits::shape(f).is_some());
        let (read, images) = match (read.is_empty(), images) {
            (true, _) => ("no column".to_owned(), ""),
            (false, true) => (read.join(", "), " (images are read twice, because a cut needs them)"),
            (false, false) => (read.join(", "), ""),
        };
        let _ = writeln!(out, "  {}: reads {read}{images}", step.name);
    }
    out
}

fn step_text(plan: &Plan, step: &PlannedStep) -> String {
    let from: Vec<String> = step.from.iter().map(|port| port_name(plan, port.step, port.output)).collect();
    let from = if from.is_empty() { String::new() } else { format!(" from {}", from.join(", ")) };
    let mut out = format!("  {}: {}{from}\n", step.name, step.kind);
    let planned = &step.planned;
    if planned.shape == Shape::Source {
        let files: BTreeSet<&str> = planned.units.iter().map(|u| u.path.as_str()).collect();
        let rows: u64 = planned.units.iter().map(|u| u.rows).sum();
        let bytes: u64 = planned.units.iter().map(|u| u.rows * u.row_bytes).sum();
        let [files, units] =
            [(files.len(), "file"), (planned.units.len(), "unit")].map(|(n, what)| words::counted(n as u64, what));
        let _ = writeln!(out, "    {files}, {units}, {}, about {} in memory", words::counted(rows, "row"), words::bytes(bytes));
    }
    for (path, reason) in &planned.quarantined {
        let _ = writeln!(out, "    quarantined: {path}: {reason}");
    }
    for (reads, port) in planned.reads.iter().zip(&step.from) {
        if let Reads::Columns(columns) = reads {
            let names: Vec<&str> = columns.iter().map(String::as_str).collect();
            let names = if names.is_empty() { "no column".to_owned() } else { names.join(", ") };
            let of = if step.from.len() > 1 { format!(" of {}", port_name(plan, port.step, port.output)) } else { String::new() };
            let _ = writeln!(out, "    reads {names}{of}");
        }
    }
    if let Some(rows) = &planned.rows_per_part {
        let _ = writeln!(out, "    makes files of {}", words::counted(rows.value, "event"));
    }
    if let Some(assembled) = &planned.assembled {
        let file = &assembled.file;
        let _ = match assembled.parts_stay {
            true => writeln!(out, "    makes `{file}` of all parts in the end, which stay beside it"),
            false => {
                writeln!(out, "    makes `{file}` of all parts in the end; they are removed then, until then the disk holds both")
            }
        };
    }
    if step.spills {
        out += &spill_text(plan, step);
    }
    if planned.holds > 0 {
        let _ = writeln!(out, "    holds up to {} on each worker", words::bytes(planned.holds));
    }
    for output in &planned.outputs {
        out += &output_text(step, output);
    }
    for (_, remark) in plan.remarks.iter().filter(|(name, _)| *name == step.name) {
        let _ = writeln!(out, "    remark: {remark}");
    }
    out
}

/// What is put aside, on this machine.
fn spill_text(plan: &Plan, step: &PlannedStep) -> String {
    let number = plan.steps.iter().position(|s| s.name == step.name).unwrap_or_default();
    let budget = plan.budget.unwrap_or_else(|| default_budget(machine::memory()));
    let workers = machine::cores() as u64;
    let Some(spill::Forecast { bytes, runs, parts, piece, open }) = spill::forecast(plan, number, budget, workers) else {
        return "    puts its rows aside, nobody knows how many\n".into();
    };
    let (runs, parts) = (words::counted(runs, "run"), words::counted(parts, "part"));
    let mut out = format!(
        "    puts aside up to {} in {runs} of {parts} (about {} each), one pass; here {} open at a time\n",
        words::bytes(bytes),
        words::bytes(piece),
        words::counted(open.min(spill::OPEN as u64), "run"),
    );
    if open > spill::OPEN as u64 {
        let _ = writeln!(out, "    remark: so many runs are read in short pieces; a larger `budget` makes fewer");
    }
    out
}

fn port_name(plan: &Plan, step: usize, output: usize) -> String {
    let step = &plan.steps[step];
    match step.planned.outputs[output].name.as_str() {
        "" => step.name.clone(),
        name => format!("{}.{name}", step.name),
    }
}

fn output_text(step: &PlannedStep, output: &Output) -> String {
    let name = if output.name.is_empty() { String::new() } else { format!(" {}.{}", step.name, output.name) };
    let kind = if output.table { "table" } else { "rows" };
    let most = output.rows.map_or_else(String::new, |rows| format!(", at most {}", words::count(rows)));
    let mut out = format!("    gives {kind}{name}{most}, about {} a row\n", words::bytes(output.row_bytes));
    let width = output.schema.fields().iter().map(|f| f.name().len()).max().unwrap_or(0);
    for field in output.schema.fields() {
        let unit = column::unit(field).map_or_else(String::new, |unit| format!(" [{unit}]"));
        let _ = writeln!(out, "      {:width$}  {}{unit}", field.name(), type_words(field));
    }
    out
}

/// The type of a column as people say it: `hits 25x25x24 {cell: u16, energy: f32}`.
pub fn type_words(field: &Field) -> String {
    let shape = hits::shape(field).map(|shape| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"));
    match (field.data_type(), shape) {
        (DataType::List(item), Some(shape)) => match item.data_type() {
            DataType::Struct(fields) => {
                let fields: Vec<String> = fields.iter().map(|f| format!("{}: {}", f.name(), scalar(f.data_type()))).collect();
                format!("hits {shape} {{{}}}", fields.join(", "))
            }
            other => format!("hits {shape} {}", scalar(other)),
        },
        (DataType::FixedSizeList(item, _), Some(shape)) => format!("dense {shape} {}", scalar(item.data_type())),
        (other, _) => scalar(other),
    }
}

fn scalar(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "true or false".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Dictionary(_, value) => format!("{} (dictionary)", scalar(value)),
        DataType::List(item) | DataType::LargeList(item) => format!("list of {}", scalar(item.data_type())),
        other => other.to_string().replace("UInt", "u").replace("Int", "i").replace("Float", "f"),
    }
}

fn as_json(plan: &Plan) -> Value {
    let outputs = |step: &PlannedStep| -> Vec<Value> {
        step.planned
            .outputs
            .iter()
            .map(|o| {
                let columns: Vec<Value> = o
                    .schema
                    .fields()
                    .iter()
                    .map(|f| json!({ "name": f.name(), "type": type_words(f), "unit": column::unit(f) }))
                    .collect();
                json!({ "name": o.name, "table": o.table, "rows": o.rows, "row_bytes": o.row_bytes, "columns": columns })
            })
            .collect()
    };
    let reads = |step: &PlannedStep| -> Vec<Value> {
        step.planned
            .reads
            .iter()
            .map(|r| match r {
                Reads::All => Value::Null,
                Reads::Columns(columns) => columns.iter().map(String::as_str).collect(),
            })
            .collect()
    };
    let steps: Vec<Value> = plan
        .steps
        .iter()
        .map(|step| {
            json!({
                "name": step.name,
                "operator": step.kind,
                "shape": step.planned.shape,
                "phase": plan.phase_of(step.level),
                "from": step.from.iter().map(|p| port_name(plan, p.step, p.output)).collect::<Vec<_>>(),
                "reads": reads(step),
                "holds": step.planned.holds,
                "assembled": step.planned.assembled.as_ref().map(|a| json!({ "file": a.file, "parts_stay": a.parts_stay })),
                "units": step.planned.units,
                "quarantined": step.planned.quarantined,
                "outputs": outputs(step),
            })
        })
        .collect();
    json!({
        "name": plan.name, "about": plan.about, "out": plan.out, "seed": plan.seed, "budget": plan.budget,
        "phases": plan.phases.len(), "hash": plan.hash, "canonical": plan.canonical, "steps": steps, "remarks": plan.remarks,
    })
}
