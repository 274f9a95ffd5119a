//! A whole schema against the header of one file: its sections, or everything that does not fit.
//!
//! A file has one section, or one for each group of the schema's `split`. Rows are numbered through all of them.

use super::column::{Address, Column, Values};
use super::resolve::{Make, Resolved, expand};
use super::{SPLIT, Schema};
use crate::hdf5::header::Header;
use arrow::datatypes::{DataType, Field};
use std::collections::BTreeSet;

/// A file as a schema sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// Its sections, by row.
    pub sections: Vec<Section>,
    /// Columns that the file lacks.
    pub absent: Vec<String>,
}

/// Rows that stand side by side in some datasets.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// The group, where the file is split.
    pub group: Option<String>,
    /// The number of its first row in the file.
    pub first: u64,
    /// Its rows.
    pub rows: u64,
    /// The columns, by name.
    pub columns: Vec<(String, Column, Resolved)>,
}

/// Why a file does not fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Misfit {
    /// Everything that is wrong.
    pub wrong: Vec<String>,
    /// How many columns fit.
    pub columns: usize,
}

impl Fitted {
    /// Rows of the file.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.sections.iter().map(|s| s.rows).sum()
    }

    /// The columns of all sections.
    pub fn columns(&self) -> impl Iterator<Item = &(String, Column, Resolved)> {
        self.sections.iter().flat_map(|s| &s.columns)
    }

    /// The fields by name; none where the file does not say what type a column has.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, Option<Field>)> {
        let mut fields: Vec<(String, Option<Field>)> = Vec::new();
        if self.sections.iter().any(|s| s.group.is_some()) {
            fields.push((SPLIT.to_owned(), Some(Field::new(SPLIT, DataType::Utf8, false))));
        }
        for (name, _, resolved) in self.columns() {
            match fields.iter_mut().find(|(known, _)| known == name) {
                Some((_, field)) if field.is_none() => *field = resolved.field.clone(),
                Some(_) => {}
                None => fields.push((name.clone(), resolved.field.clone())),
            }
        }
        fields
    }
}

/// The sections of a file, or why it does not fit.
pub fn fit(schema: &Schema, header: &Header) -> Result<Fitted, Misfit> {
    if schema.split.is_empty() {
        let (columns, rows) = section(schema, None, header)?;
        let absent = absent(&columns);
        return Ok(Fitted { sections: vec![Section { group: None, first: 0, rows, columns }], absent });
    }
    let (mut sections, mut first, mut lacks, mut misfit) = (Vec::new(), 0, BTreeSet::new(), None);
    let mut wrong = Vec::new();
    for group in &schema.split {
        if !header.paths().any(|path| path.strip_prefix(group.as_str()).is_some_and(|rest| rest.starts_with('/'))) {
            continue;
        }
        match section(schema, Some(group), header) {
            Ok((columns, rows)) => {
                lacks.extend(absent(&columns));
                sections.push(Section { group: Some(group.clone()), first, rows, columns });
                first += rows;
            }
            Err(found) => {
                wrong.extend(found.wrong.into_iter().map(|what| format!("`{group}`: {what}")));
                misfit = Some(misfit.unwrap_or(0).max(found.columns));
            }
        }
    }
    if sections.is_empty() && wrong.is_empty() {
        wrong.push(format!("no group {}", schema.split.iter().map(|g| format!("`{g}`")).collect::<Vec<_>>().join(" or ")));
    }
    let all = Fitted { sections, absent: lacks.into_iter().collect() };
    let agreed = all.fields();
    for (name, _, resolved) in all.columns() {
        let wanted = agreed.iter().find(|(known, _)| known == name).and_then(|(_, field)| field.as_ref());
        if resolved.field.as_ref().is_some_and(|field| Some(field) != wanted) {
            wrong.push(format!("column `{name}` is not of the same type and shape in all groups; say `as` or `dims`"));
        }
    }
    if wrong.is_empty() { Ok(all) } else { Err(Misfit { wrong, columns: misfit.unwrap_or(0) }) }
}

fn absent(columns: &[(String, Column, Resolved)]) -> Vec<String> {
    columns.iter().filter(|(_, _, r)| r.make == Make::Absent).map(|(name, ..)| name.clone()).collect()
}

/// A column's addresses within a group.
fn within(group: Option<&str>, column: &Column) -> Column {
    let Some(group) = group else { return column.clone() };
    let inside = |path: &str| if path.is_empty() { group.to_owned() } else { format!("{group}/{path}") };
    let values = match &column.values {
        Values::Each(each) => Values::Each(each.iter().map(|(n, c)| (n.clone(), within(Some(group), c))).collect()),
        other => other.clone(),
    };
    let other = |a: &Address| Address { dataset: inside(&a.dataset), ..a.clone() };
    Column { dataset: inside(column.path()), others: column.others.iter().map(other).collect(), values, ..column.clone() }
}

type Columns = (Vec<(String, Column, Resolved)>, u64);

fn section(schema: &Schema, group: Option<&str>, header: &Header) -> Result<Columns, Misfit> {
    let (mut columns, mut wrong): (Vec<(String, Column, Resolved)>, Vec<String>) = Default::default();
    for (name, column) in &schema.columns {
        let column = within(group, column);
        for (name, column) in expand(name, &column, header) {
            match column.resolve(&name, header) {
                Ok(_) if columns.iter().any(|(known, ..)| *known == name) => {
                    wrong.push(format!("column `{name}` is there twice; a name with a star can have letters before it"));
                }
                Ok(resolved) => {
                    let unfit = resolved.field.as_ref().zip(column.check.as_ref()).and_then(|(f, c)| c.unfit(f.data_type()));
                    wrong.extend(unfit.map(|reason| format!("column `{name}`: {reason}")));
                    columns.push((name, column, resolved));
                }
                Err(reason) => wrong.push(format!("column `{name}`: {reason}")),
            }
        }
    }
    let fitting = columns.iter().filter(|(_, _, resolved)| resolved.make != Make::Absent).count();
    let misfit = |wrong| Misfit { wrong, columns: fitting };
    if !wrong.is_empty() {
        return Err(misfit(wrong));
    }
    let mut lengths: Vec<(&str, u64)> = Vec::new();
    for (_, _, resolved) in &columns {
        let Some(rows) = resolved.rows else { continue };
        for path in resolved.paths() {
            if !lengths.iter().any(|(known, _)| *known == path) {
                lengths.push((path, rows));
            }
        }
    }
    let Some((_, rows)) = lengths.first().copied() else {
        return Err(misfit(vec!["no column has an axis of events".to_owned()]));
    };
    if lengths.iter().any(|(_, other)| *other != rows) {
        let each: Vec<String> = lengths.iter().map(|(path, rows)| format!("`{path}` has {rows}")).collect();
        let what = "datasets of unequal lengths, so rows do not belong together";
        return Err(misfit(vec![format!("{what}: {}", each.join(", "))]));
    }
    Ok((columns, rows))
}
