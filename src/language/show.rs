//! Problems as rustc prints them: where, what, the line itself with a caret under the word, and what would be right.

use calostream_operators::Problem;
use serde::Serialize;
use std::fmt::Write;

/// Problems sorted by place, each once; those without a place come first.
#[must_use]
pub fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort();
    problems.dedup();
    problems
}

/// One problem, as text.
#[must_use]
pub fn one(file: &str, text: &str, kind: &str, problem: &Problem) -> String {
    let mut out = String::new();
    let place = problem.place;
    if place.line == 0 {
        let _ = writeln!(out, "{file}: {kind}: {}", problem.what);
    } else {
        let _ = writeln!(out, "{file}:{}:{}: {kind}: {}", place.line, place.column, problem.what);
        if let Some(line) = text.lines().nth(place.line as usize - 1) {
            let number = place.line.to_string();
            let margin = " ".repeat(number.len());
            let before: String = line.chars().take(place.column.saturating_sub(1) as usize).collect();
            let rest: String = line.chars().skip(place.column.saturating_sub(1) as usize).collect();
            let blank: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let _ = writeln!(out, "{margin} |\n{number} | {}", line.trim_end());
            let _ = writeln!(out, "{margin} | {blank}{}", "^".repeat(width(&rest)));
        }
    }
    if let Some(help) = &problem.help {
        let _ = writeln!(out, "  help: {help}");
    }
    out
}

/// How many characters the word at the start of a line's rest has.
fn width(rest: &str) -> usize {
    if let Some(end) = rest.find('}').filter(|_| rest.starts_with("${")) {
        return rest[..=end].chars().count();
    }
    rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | '*' | '$')).count().max(1)
}

/// All problems and how many they are, as text.
#[must_use]
pub fn all(file: &str, text: &str, problems: &[Problem]) -> String {
    let mut out = String::new();
    for problem in problems {
        out += &one(file, text, "error", problem);
        out.push('\n');
    }
    let count = problems.len();
    let _ = writeln!(out, "{count} {} in {file}", if count == 1 { "mistake" } else { "mistakes" });
    out
}

/// All problems for programs: one JSON document.
#[must_use]
pub fn json(file: &str, problems: &[Problem], remarks: &[Problem]) -> String {
    #[derive(Serialize)]
    struct All<'a> {
        file: &'a str,
        problems: &'a [Problem],
        remarks: &'a [Problem],
    }
    serde_json::to_string_pretty(&All { file, problems, remarks }).unwrap_or_default()
}
