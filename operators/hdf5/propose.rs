//! A schema for a file that nobody has described yet: a first draft, as YAML with remarks.
//!
//! Columns are the datasets that are as long as the largest one; whatever else there is stands in a comment with the
//! reason. What it gives is read back by [`crate::schema::Schema::parse`].

use super::element::{Element, shape_name};
use super::header::{Dataset, Header};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Rows of at most this many numbers become one column each.
const FEW: u64 = 8;
/// Images have at least this many cells.
const IMAGE: u64 = 64;

/// A schema called `name` for files such as the one of this header.
#[must_use]
pub fn propose(header: &Header, name: &str) -> String {
    let mut text = format!(
        "# Proposed from the datasets of one file: give the columns their names and units.\nschema: {}\ncolumns:\n",
        word(name)
    );
    let largest = header.datasets.iter().filter(|d| d.rows().is_some()).max_by_key(|d| (d.dense_bytes(), d.rows()));
    let rows = largest.and_then(Dataset::rows);
    let mut names = BTreeSet::new();
    let mut left = Vec::new();
    for d in &header.datasets {
        if d.rows().is_none() || d.rows() != rows {
            left.push(format!("{}: {}, not as long as the others", d.path, d.describe()));
            continue;
        }
        for (member, element) in members(&d.element, "") {
            let inner = match element {
                Element::Array { shape, .. } => shape.clone(),
                _ => Vec::new(),
            };
            let list = matches!(element, Element::List { of, .. } if matches!(**of, Element::Number(_) | Element::Enum { .. }));
            let several = list || matches!(element, Element::Text { .. });
            if let Err(reason) = d.numbers(member.as_deref()).map(|_| ()).or_else(|e| if several { Ok(()) } else { Err(e) }) {
                left.push(reason);
                continue;
            }
            let dims: Vec<u64> = d.shape[1..].iter().chain(&inner).copied().collect();
            let last = d.path.rsplit('/').next().unwrap_or(&d.path);
            let base = member.as_ref().map_or_else(|| last.to_owned(), |m| format!("{last}_{m}"));
            let address = member.as_ref().map_or_else(String::new, |m| format!(", member: {}", word(m)));
            let address = format!("dataset: {}{address}", word(&d.path));
            let unit = d.unit.as_ref().map_or_else(String::new, |u| format!(", unit: {}", word(u)));
            let cells: u64 = dims.iter().product();
            if several && (cells > FEW || !inner.is_empty()) {
                left.push(format!("{}: {}, several for each event", d.path, d.describe()));
            } else if dims.is_empty() {
                let _ = writeln!(text, "  {}: {{ {address}{unit} }}", unique(&mut names, &base));
            } else if !several && (cells >= IMAGE || !inner.is_empty() || cells > FEW) {
                let kind = if cells >= IMAGE { "hits" } else { "dense" };
                let _ = writeln!(text, "  {}: {{ {address}, kind: {kind}, dims: {dims:?}{unit} }}", unique(&mut names, &base));
            } else {
                for flat in 0..cells {
                    let mut rest = flat;
                    let mut at: Vec<u64> = dims.iter().rev().map(|n| (rest % n, rest /= n).0).collect();
                    at.reverse();
                    let _ =
                        writeln!(text, "  {}: {{ {address}, at: {at:?}{unit} }}", unique(&mut names, &format!("{base}_{flat}")));
                }
            }
        }
    }
    for reason in left {
        let _ = writeln!(text, "# left out: {}", reason.replace('\n', " "));
    }
    for (path, reason) in &header.unreadable {
        let _ = writeln!(text, "# left out: {path}: {}", reason.replace('\n', " "));
    }
    if rows.is_none() {
        let _ =
            writeln!(text, "# no dataset has an axis of events; the file holds {}", shape_name(&[header.datasets.len() as u64]));
    }
    text
}

/// The members of a record, by their paths; the element itself where it is none.
fn members<'a>(element: &'a Element, before: &str) -> Vec<(Option<String>, &'a Element)> {
    match element {
        Element::Compound { members: all, .. } => all
            .iter()
            .flat_map(|m| {
                let path = format!("{before}{}", m.name);
                match &m.element {
                    Element::Compound { .. } => members(&m.element, &format!("{path}.")),
                    other => vec![(Some(path), other)],
                }
            })
            .collect(),
        other => vec![(None, other)],
    }
}

/// A name in lower case that an expression can use and that is not taken.
fn unique(taken: &mut BTreeSet<String>, base: &str) -> String {
    let mut name: String = base.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    while crate::column::PROVENANCE.contains(&name.as_str()) || !taken.insert(name.clone()) {
        name.push('_');
    }
    name
}

/// A word as YAML, in quotes where it needs them.
fn word(text: &str) -> String {
    let plain = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_/.-".contains(c))
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
