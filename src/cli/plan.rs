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
    for (number, phase) in plan.main_phases().enumerate() {
        let _ = write!(out, "phase {} of {}", number + 1, plan.main_phases().count());
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
    let from: Vec<String> = step.from.iter().map(|port| plan.name_of(*port)).collect();
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
            let of = if step.from.len() > 1 { format!(" of {}", plan.name_of(*port)) } else { String::new() };
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
        let text = forecast(plan, step).map(|forecast| forecast_text(&forecast));
        out += &text.unwrap_or_else(|| "    puts its rows aside, nobody knows how many\n".into());
    }
    if planned.holds > 0 {
        let _ = writeln!(out, "    holds up to {} on each worker", words::bytes(planned.holds));
    }
    if planned.shape == Shape::Fold {
        let most = words::bytes(planned.holds);
        let _ =
            writeln!(out, "    keeps what each part has added, to take it back: up to {most} a part, less where bins are empty");
    }
    for output in &planned.outputs {
        out += &output_text(step, output);
    }
    for (_, remark) in plan.remarks.iter().filter(|(name, _)| *name == step.name) {
        let _ = writeln!(out, "    remark: {remark}");
    }
    out
}

/// What is put aside, on this machine; none where nobody knows.
fn forecast(plan: &Plan, step: &PlannedStep) -> Option<spill::Forecast> {
    let number = plan.steps.iter().position(|s| s.name == step.name)?;
    let (whole, workers) = (plan.budget.unwrap_or_else(|| default_budget(machine::memory())), machine::cores());
    // What batches may take; the whole where it is too little for so many workers, which `run` says.
    let budget = super::run::shares(plan, workers, 1).map_or(whole, |(batches, _)| batches);
    spill::forecast(plan, number, budget, workers as u64)
}

/// The forecast as JSON.
fn puts_aside(plan: &Plan, step: &PlannedStep) -> Option<Value> {
    forecast(plan, step).map(|f| {
        json!({
            "rows": f.rows, "bytes": f.bytes, "parts": f.parts, "passes": f.passes, "runs": f.runs, "piece_bytes": f.piece,
            "bytes_on_disk": f.on_disk(), "open_files": f.open,
        })
    })
}

fn forecast_text(forecast: &spill::Forecast) -> String {
    if forecast.rows > forecast.there {
        let again = format!("    takes rows again: {} of {}\n", words::count(forecast.rows), words::count(forecast.there));
        return again + &forecast_text(&spill::Forecast { there: forecast.rows, ..*forecast });
    }
    let (bytes, parts) = (words::bytes(forecast.bytes), words::counted(forecast.parts, "part"));
    let runs = words::counted(forecast.runs, "run");
    let passes = match forecast.passes {
        0 => {
            return format!(
                "    mixes up to {bytes} into {parts} in memory and puts nothing aside; killed, it reads again what was in memory\n"
            );
        }
        1 => "in one pass",
        _ => "in two passes",
    };
    format!(
        "    puts aside up to {bytes} in {runs} of {parts} {passes}, in pieces of about {}; on disk {}; on each worker {} open at a time\n    \
         killed, it goes on with the runs that are complete; where a `--scratch` is gone, its rows are read again\n",
        words::bytes(forecast.piece),
        words::bytes(forecast.on_disk()),
        words::counted(forecast.open, "file"),
    )
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
                "phase": plan.main_phases().position(|p| p.level == step.level && p.survey.is_none()),
                "from": step.from.iter().map(|p| plan.name_of(*p)).collect::<Vec<_>>(),
                "reads": reads(step),
                "holds": step.planned.holds,
                "puts_aside": step.spills.then(|| puts_aside(plan, step)).flatten(),
                "assembled": step.planned.assembled.as_ref().map(|a| json!({ "file": a.file, "parts_stay": a.parts_stay })),
                "units": step.planned.units,
                "quarantined": step.planned.quarantined,
                "outputs": outputs(step),
            })
        })
        .collect();
    json!({
        "name": plan.name, "about": plan.about, "out": plan.out, "seed": plan.seed, "budget": plan.budget,
        "phases": plan.main_phases().count(), "hash": plan.hash, "canonical": plan.canonical, "steps": steps, "remarks": plan.remarks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{language, plan};
    use arrow::datatypes::Schema;
    use calostream_operators::Facts;
    use calostream_operators::facts::{FileFacts, ParquetHeader};
    use std::sync::Arc;
    use std::time::Instant;

    /// A mix of `files` files of 100 MB (in memory) that are not there, with this budget.
    fn mix(files: u64, budget: &str, events_per_file: &str) -> Plan {
        let text = format!(
            "pipeline: large\nbudget: {budget}\nsteps:\n  events:\n    read_parquet: {{ files: \"*.parquet\" }}\n  mixed:\n    \
             from: events\n    premix: {{}}\n  parts:\n    from: mixed\n    write_parquet: {{ {events_per_file} }}\n"
        );
        let image = DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Float32, false)), 2500);
        let schema = Arc::new(Schema::new(vec![Field::new("image", image, false)]));
        let header = |_| ParquetHeader { schema: Arc::clone(&schema), row_groups: vec![5000; 2], uncompressed: 100_000_000 };
        let file = |n: u64| FileFacts {
            path: format!("{n:06}.parquet"),
            bytes: 50_000_000,
            fingerprint: format!("{n:032x}"),
            header: Ok(header(n)),
        };
        let found = (0..files).map(file).collect();
        let facts = Facts { parquet: [("*.parquet".to_owned(), Ok(Arc::new(found)))].into(), ..Facts::default() };
        let (pipeline, problems) = language::read(&text, &[]);
        plan::plan(pipeline.unwrap(), facts, problems).unwrap()
    }

    fn forecast_of(plan: &Plan, budget: u64, workers: u64) -> spill::Forecast {
        spill::forecast(plan, 1, budget, workers).unwrap()
    }

    #[test]
    fn ten_terabytes_in_a_hundred_thousand_files_take_two_passes_and_are_planned_in_seconds() {
        let begun = Instant::now();
        let plan = mix(100_000, "4 GiB", "");
        let text = as_text(&plan);
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
        assert!(text.contains("100,000 files, 100,000 units, 1,000,000,000 rows, about 9.1"), "{text}");
        assert!(text.contains("in two passes, in pieces of about "), "{text}");
        assert!(text.contains("phase 1 of 2"), "{text}");
        let said = as_json(&plan)["steps"][1]["puts_aside"].clone();
        assert_eq!((said["passes"].as_u64(), said["bytes_on_disk"].as_u64()), (Some(2), Some(2 * plan_bytes(&plan))));
        for (budget, workers) in [(4 << 30, 4), (16 << 30, 16), (256 << 30, 32)] {
            let of = forecast_of(&plan, budget, workers);
            assert!(of.passes == 2 && of.piece >= spill::READ && of.open <= spill::OPEN as u64, "{budget}: {of:?}");
        }
        let said = forecast_text(&forecast_of(&plan, 4 << 30, 4));
        let wanted = "    puts aside up to 9.11 TiB in 27,996 runs of 200,361 parts in two passes, in pieces of about 780 KiB; \
                      on disk 18.2 TiB; on each worker 256 files open at a time\n    \
                      killed, it goes on with the runs that are complete; where a `--scratch` is gone, its rows are read again\n";
        assert_eq!(said, wanted);
    }

    fn plan_bytes(plan: &Plan) -> u64 {
        plan.steps[1].inputs.iter().map(|i| i.rows.unwrap() * i.row_bytes).sum()
    }

    #[test]
    fn what_fits_stays_in_memory_and_two_passes_come_when_pieces_would_be_short() {
        let small = mix(2, "1 GiB", "");
        assert_eq!(forecast_of(&small, 1 << 30, 2).passes, 0);
        assert!(forecast_text(&forecast_of(&small, 1 << 30, 2)).contains("in memory and puts nothing aside"));
        let mut passes = Vec::new();
        for files in [4, 10, 100, 200, 400, 800, 10_000] {
            let of = forecast_of(&mix(files, "1 GiB", ""), 1 << 30, 2);
            assert!(of.passes == 0 || of.piece >= spill::READ, "{files}: {of:?}");
            passes.push(of.passes);
        }
        assert_eq!(passes, [1, 1, 1, 1, 2, 2, 2]);
    }
}
