//! What is said when a run is done: how many rows went through each step, what was noticed of them, how many events of each class
//! are in each mix. For the terminal, and for the report.

use super::finish::Remarks;
use crate::ledger::balance::StepRows;
use crate::ledger::{State, log};
use crate::plan::{Plan, Port};
use crate::report;
use calostream_operators::{Shape, column, words};
use std::collections::BTreeMap;

/// How many events of each class are in each output of a mix.
pub fn show_mixes(plan: &Plan, mixes: &BTreeMap<Port, Vec<(u64, u64)>>) -> String {
    let mut text = String::new();
    for (port, classes) in mixes {
        let step = &plan.steps[port.step];
        let names = column::samples(&step.inputs[0].schema);
        let name = plan.name_of(*port);
        let of_class = |(class, (there, taken)): (usize, &(u64, u64))| {
            let name = names.get(class).map(|name| format!("{name} ")).unwrap_or_default();
            let of = if there == taken { String::new() } else { format!(" of {}", words::count(*there)) };
            format!("{name}{}{of}", words::count(*taken))
        };
        let classes: Vec<String> = classes.iter().enumerate().map(of_class).collect();
        text.push_str(&format!("{name}: {}\n", classes.join(", ")));
    }
    text
}

/// What went through each step, as texts; the first row is the header.
fn balance_texts(plan: &Plan, rows: &[StepRows]) -> Vec<Vec<String>> {
    let mut lines = vec![["step", "rows in", "rows out", "cut", "quarantined"].map(str::to_owned).to_vec()];
    for of in rows {
        let Some(step) = plan.steps.iter().find(|s| s.name == of.step && s.planned.shape != Shape::Page) else { continue };
        let named = |(i, n): (usize, &u64)| match step.planned.outputs[i].name.as_str() {
            "" => words::count(*n),
            name => format!("{name} {}", words::count(*n)),
        };
        let out: Vec<String> = of.out.iter().enumerate().map(named).collect();
        let some = |n: u64| if n > 0 { words::count(n) } else { String::new() };
        lines.push(vec![of.step.clone(), words::count(of.came), out.join(", "), some(of.cut), some(of.quarantined)]);
    }
    lines
}

/// What was noticed and what is to be said of the steps, a line each.
pub fn notices(rows: &[StepRows], state: &State, remarks: &Remarks) -> Vec<String> {
    let of = |of: &StepRows| {
        let name = of.step.clone();
        of.noticed.iter().map(|(what, count)| format!("{name}: {} {what}", words::count(*count))).collect::<Vec<_>>()
    };
    let mut lines: Vec<String> = rows.iter().flat_map(of).collect();
    lines.extend(remarks.iter().flat_map(|(step, said)| said.iter().map(move |what| format!("{step}: {what}"))));
    if !state.unreadable.is_empty() {
        lines.push(format!("files that can't be read: {}", state.unreadable.len()));
    }
    lines
}

/// What stands behind the numbers of a run.
pub fn behind(plan: &Plan, rows: &[StepRows], text: &str, notices: &[String]) -> report::Behind {
    // By path, and not in the order in which files were found.
    let mut files: BTreeMap<(&str, &str), (u64, &str, &str)> = BTreeMap::new();
    for (step, unit) in plan.steps.iter().flat_map(|s| s.planned.units.iter().map(move |u| (s, u))) {
        let file = files.entry((&step.name, &unit.path)).or_insert((0, unit.sample.as_deref().unwrap_or(""), &unit.fingerprint));
        file.0 += unit.rows;
    }
    let mut inputs = vec![["step", "file", "class", "events", "fingerprint"].map(str::to_owned).to_vec()];
    let row = |((step, path), (rows, sample, fingerprint)): (&(&str, &str), &(u64, &str, &str))| {
        vec![(*step).to_owned(), (*path).to_owned(), (*sample).to_owned(), words::count(*rows), (*fingerprint).to_owned()]
    };
    inputs.extend(files.iter().map(row));
    let mut prints: Vec<String> = files.values().map(|(rows, sample, print)| format!("{print} {rows} {sample}\n")).collect();
    prints.sort();
    let all = files.values().map(|file| file.0).sum();
    let models = plan.facts.models.iter().filter_map(|(path, model)| Some((path, model.as_ref().ok()?)));
    let models: String = models.map(|(path, model)| format!("; model {path}, sha256 {}", model.sha256)).collect();
    let all_inputs = format!(
        "{}, {}; together {}{models}",
        words::counted(files.len() as u64, "file"),
        words::counted(all, "event"),
        log::hash(prints.concat().as_bytes())
    );
    let mut notices = notices.to_vec();
    notices.push("Every row is accounted for.".into());
    report::Behind { balance: balance_texts(plan, rows), notices, inputs, all_inputs, pipeline: text.to_owned() }
}

pub fn show_balance(plan: &Plan, rows: &[StepRows], notices: &[String]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    let mut lines = balance_texts(plan, rows).into_iter();
    table.set_header(lines.next().unwrap_or_default());
    table.add_rows(lines);
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
    let noticed: String = notices.iter().map(|line| format!("{line}\n")).collect();
    format!("{table}\n{noticed}every row is accounted for\n")
}
