//! Which built-in schema a file has, or which one it nearly has, and what differs.

use super::fit::{Misfit, fit};
use super::resolve::{Make, expand};
use super::{BUILT_IN, Schema};
use crate::hdf5::header::Header;
use crate::words;

/// Differences that are named; more are counted.
const NAMED: usize = 4;
/// Where a smaller part of the columns fits, nothing is near.
const NEAR: f64 = 0.25;

/// A few lines for people: what the file is, or nearly is.
#[must_use]
pub fn nearest(header: &Header) -> String {
    let schemas = BUILT_IN.iter().filter_map(|(name, text)| Some((*name, Schema::parse(text).ok()?)));
    let mut fits: Vec<(usize, String)> = Vec::new();
    let mut near: Option<(f64, &str, Misfit)> = None;
    for (name, schema) in schemas {
        match fit(&schema, header) {
            Ok(fitted) => {
                let there = fitted.columns().filter(|(_, _, r)| r.make != Make::Absent).count();
                let rows = words::counted(fitted.rows(), "event");
                let lacks = match &fitted.absent[..] {
                    [] => String::new(),
                    names => format!(", without {}", names.join(", ")),
                };
                fits.push((there, format!("fits the schema `{name}`: {rows}{lacks}")));
            }
            Err(misfit) => {
                let columns: usize = schema.columns.iter().map(|(n, c)| expand(n, c, header).len()).sum();
                let score = misfit.columns as f64 / columns.max(1) as f64;
                if score > near.as_ref().map_or(NEAR, |(best, ..)| *best) {
                    near = Some((score, name, misfit));
                }
            }
        }
    }
    // The one that makes use of most of what is there; of equal ones the first.
    fits.sort_by_key(|(there, _)| std::cmp::Reverse(*there));
    if !fits.is_empty() {
        return fits.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
    }
    let Some((_, name, misfit)) = near else { return "fits no built-in schema; none is near".to_owned() };
    let mut lines = vec![format!("fits no built-in schema; the nearest is `{name}`, but for:")];
    lines.extend(misfit.wrong.iter().take(NAMED).map(|what| format!("  {what}")));
    if misfit.wrong.len() > NAMED {
        lines.push(format!("  and {} more", misfit.wrong.len() - NAMED));
    }
    lines.join("\n")
}
