//! One HTML page that needs nothing else: no network, no script, no second file.
//!
//! Everything but the block between [`RUN_BEGINS`] and [`RUN_ENDS`] is a function of the summaries, so two pages of the same
//! inputs differ there alone.

use super::format::cells;
use super::terminal::is_number;
use arrow::array::RecordBatch;
use calostream_operators::column;
use calostream_operators::statistics::figure::Summary;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// What only this run knows (host, times, versions), as names and values in the order in which they are shown.
#[derive(Debug, Clone, Default)]
pub struct RunFacts(pub Vec<(String, String)>);

/// What stands behind the numbers: a function of the pipeline, its inputs and the log.
#[derive(Debug, Clone, Default)]
pub struct Behind {
    /// What went through each step, the first row the header.
    pub balance: Vec<Vec<String>>,
    /// What else is to be said of it.
    pub notices: Vec<String>,
    /// The input files, the first row the header.
    pub inputs: Vec<Vec<String>>,
    /// The input files in a sentence.
    pub all_inputs: String,
    /// The pipeline file.
    pub pipeline: String,
}

/// Where the only part that may differ between runs begins.
pub const RUN_BEGINS: &str = "<!-- this run: begin -->";
/// Where it ends.
pub const RUN_ENDS: &str = "<!-- this run: end -->";

/// The most rows of a table that a page shows.
const ROWS: usize = 50;

const STYLE: &str = "
:root { color-scheme: light dark; color: #1d2327; background: #fff; }
body { font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; max-width: 76rem; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; } h2 { font-size: 1.3rem; margin: 2.6rem 0 .8rem; padding-top: .8rem; border-top: 1px solid #d8dde2; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; } .about { font-size: 1.1rem; color: #454d55; max-width: 46rem; margin: 0 0 1rem; }
p, .run td { overflow-wrap: anywhere; } nav { display: flex; flex-wrap: wrap; } nav a { margin-right: 1.1rem; } a { color: #1f6fb2; text-decoration: none; } a:hover { text-decoration: underline; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .3rem 0; }
th, td { padding: .28rem .8rem; text-align: left; white-space: nowrap; border-bottom: 1px solid #e6eaed; } th { border-bottom: 2px solid #9aa5ae; }
.n { text-align: right; } tbody tr:nth-child(even) { background: #f6f8f9; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1.2rem; } figure { margin: 0; max-width: 45rem; break-inside: avoid; }
figure svg { width: 100%; height: auto; border: 1px solid #e6eaed; border-radius: 4px; }
details { margin: 1rem 0; } summary { cursor: pointer; color: #1f6fb2; } .quiet { color: #69737c; font-size: .9rem; }
ul.remarks { margin: .8rem 0; padding: .6rem 1rem .6rem 2rem; background: #fff8e5; border-left: 4px solid #ffa90e; font-size: .92rem; }
.run { margin-top: 3rem; padding: .4rem 1rem .8rem; background: #f6f8f9; border: 1px solid #d8dde2; border-radius: 4px; } .run td { border: 0; padding: .1rem .8rem .1rem 0; white-space: normal; }
pre { font-size: .85rem; line-height: 1.4; background: #f6f8f9; padding: .8rem 1rem; border-radius: 4px; }
@media (prefers-color-scheme: dark) {
 :root { color: #dfe4e8; background: #15191d; } h2 { border-color: #39424a; } .about { color: #b4bdc5; } a, summary { color: #7fb9ea; } .quiet { color: #9aa5ae; }
 th, td { border-color: #2b3238; } th { border-color: #69737c; } tbody tr:nth-child(even), .run, pre { background: #1c2126; } .run { border-color: #39424a; }
 ul.remarks { background: #2b2415; } figure svg { border-color: #c9d0d6; filter: invert(.91) hue-rotate(180deg); }
}
@media print { :root { color: #1d2327; background: #fff; } figure svg { filter: none; } body { max-width: none; padding: 0; font-size: 11pt; } nav, summary { display: none; } h2 { break-after: avoid; } table, tr { break-inside: avoid; } .figures { grid-template-columns: 1fr 1fr; } }
";

/// The page: highlights first, then each step with its figures, remarks and table, then what stands behind them, and at the end
/// what only this run knows.
#[must_use]
pub fn page(title: &str, about: Option<&str>, sections: &[(String, Summary)], behind: &Behind, run: &RunFacts) -> String {
    let shown_first = || sections.iter().filter(|(_, summary)| summary.highlights.len() > 1);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    @if let Some(about) = about { p.about { (about) } }
                    @if sections.len() > 1 { nav { @for (step, _) in sections { a href={ "#" (step) } { (step) } } } }
                }
                main {
                    @for (step, summary) in shown_first() {
                        section {
                            h3 { a href={ "#" (step) } { (step) } }
                            (highlights(&summary.highlights))
                        }
                    }
                    @for (number, (step, summary)) in sections.iter().enumerate() { (section(number, step, summary)) }
                    (stands_behind(behind))
                }
                (PreEscaped(RUN_BEGINS))
                (this_run(run))
                (PreEscaped(RUN_ENDS))
            }
        }
    }
    .into_string()
}

fn section(number: usize, step: &str, summary: &Summary) -> Markup {
    let frame = |figure: usize| format!("frame-{number}-{figure}");
    html! {
        section id=(step) {
            h2 { (step) }
            @if !summary.figures.is_empty() {
                div.figures {
                    @for (i, figure) in summary.figures.iter().enumerate() {
                        figure { (PreEscaped(super::svg(figure, &frame(i)))) }
                    }
                }
            }
            @if !summary.remarks.is_empty() {
                ul.remarks { @for remark in &summary.remarks { li { (remark) } } }
            }
            (table(step, &summary.table))
        }
    }
}

fn highlights(rows: &[Vec<String>]) -> Markup {
    let class = |cell: &str| is_number(cell).then_some("n");
    html! {
        div.scroll { table {
            @for (number, row) in rows.iter().enumerate() {
                @if number == 0 {
                    thead { tr { @for (i, cell) in row.iter().enumerate() { th class=[rows.get(1).and_then(|r| r.get(i)).and_then(|c| class(c))] { (cell) } } } }
                } @else {
                    tr { @for cell in row { td class=[class(cell)] { (cell) } } }
                }
            }
        } }
    }
}

fn table(step: &str, table: &RecordBatch) -> Markup {
    let rows = table.num_rows();
    let columns: Vec<Vec<String>> = table.columns().iter().map(|c| cells(c, ROWS)).collect();
    let schema = table.schema();
    let number = |i: usize| schema.field(i).data_type().is_numeric().then_some("n");
    html! {
        @if !columns.is_empty() {
            details {
                summary { "Table: " (rows) " rows" @if rows > ROWS { ", the first " (ROWS) } }
                div.scroll { table {
                    thead { tr { @for (i, field) in schema.fields().iter().enumerate() { th class=[number(i)] { (column::label(&schema, field.name())) } } } }
                    tbody { @for row in 0..rows.min(ROWS) { tr { @for (i, column) in columns.iter().enumerate() { td class=[number(i)] { (column[row]) } } } } }
                } }
                p.quiet { "The whole table is " code { (step) ".parquet" } " and " code { (step) ".csv" } " in the step's folder." }
            }
        }
    }
}

fn stands_behind(behind: &Behind) -> Markup {
    let shown = &behind.inputs[..behind.inputs.len().min(ROWS + 1)];
    html! {
        section id="behind" {
            h2 { "Behind the numbers" }
            @if behind.balance.len() > 1 {
                h3 { "Every event" }
                (highlights(&behind.balance))
                @for notice in &behind.notices { p.quiet { (notice) } }
            }
            @if shown.len() > 1 {
                h3 { "Inputs" }
                p { (behind.all_inputs) }
                details {
                    summary { "Files: " (behind.inputs.len() - 1) @if shown.len() < behind.inputs.len() { ", the first " (ROWS) } }
                    (highlights(shown))
                }
            }
            @if !behind.pipeline.is_empty() {
                h3 { "Pipeline" }
                details { summary { "The file as it was run" } pre.scroll { code { (behind.pipeline) } } }
            }
        }
    }
}

fn this_run(run: &RunFacts) -> Markup {
    html! {
        footer.run {
            h3 { "This run" }
            table { @for (name, value) in &run.0 { tr { td.quiet { (name) } td { (value) } } } }
        }
    }
}

#[cfg(test)]
mod tests;
