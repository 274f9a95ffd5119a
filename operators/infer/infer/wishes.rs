//! The columns that an input is to read, and what is to happen to their values: what can be wrong with that whatever the model is.

use super::inputs::{Form, entry_values, form};
use super::{Feeding, Infer, NormWord, Source, idle};
use crate::onnx::feed::Order;
use crate::onnx::norm::{Norm, Tables, Transform};
use crate::{Facts, Placed, Problem, column};
use arrow::datatypes::Schema;

/// One column that is wanted, with what happens to it.
pub(super) struct Wish<'a> {
    pub column: &'a Placed<String>,
    pub mask: bool,
    pub by: &'a Feeding,
}

impl Infer {
    /// The files of normalisations, each once.
    pub(super) fn tables(&self) -> Vec<Placed<String>> {
        let mut tables: Vec<Placed<String>> = Vec::new();
        let mut note = |feeding: &Feeding| {
            if let NormWord::Table(path) = &feeding.norm.value {
                tables.push(Placed { value: path.clone(), place: feeding.norm.place });
            }
        };
        for source in self.inputs.values() {
            let Source::Feeding(feeding) = &source.value else { continue };
            note(feeding);
            for inner in feeding.columns.iter().flat_map(|c| c.iter()) {
                if let Source::Feeding(feeding) = &inner.value {
                    note(feeding);
                }
            }
        }
        tables
    }

    /// What can be wrong with the inputs whatever the model is: factors, names of columns, tables.
    pub(super) fn check_inputs(&self, facts: &Facts, schema: &Schema, problems: &mut Vec<Problem>) {
        for source in self.inputs.values() {
            let plain = Feeding::default();
            let mut names = Vec::new();
            let wishes = match &source.value {
                Source::Column(column) => {
                    names.push(Placed { value: column.clone(), place: source.place });
                    Ok(names.iter().map(|column| Wish { column, mask: false, by: &plain }).collect())
                }
                Source::Feeding(feeding) => wishes(source, feeding, &mut names),
            };
            match wishes {
                Err(problem) => problems.push(problem),
                Ok(wishes) => {
                    for wish in wishes {
                        if let Err(found) = transform(&wish, facts) {
                            // The words of a stack count for all of its columns, and are wrong once.
                            problems.extend(found.into_iter().filter(|p| !problems.contains(p)).collect::<Vec<_>>());
                        }
                        if let Err(problem) = column::field(schema, wish.column) {
                            problems.push(problem);
                        } else if let Source::Feeding(feeding) = &source.value
                            && let Err(problem) = order(feeding, &wish, schema)
                            && !problems.contains(&problem)
                        {
                            problems.push(problem);
                        }
                    }
                    problems.extend(idle::words(source, schema));
                }
            }
        }
    }
}

/// The columns of a source, or why they are not said as they must be.
pub(super) fn wishes<'a>(
    source: &Placed<Source>,
    feeding: &'a Feeding,
    names: &'a mut Vec<Placed<String>>,
) -> Result<Vec<Wish<'a>>, Problem> {
    let said = [feeding.column.is_some(), feeding.columns.is_some(), feeding.mask.is_some()];
    if said.iter().filter(|said| **said).count() != 1 {
        let problem = Problem::at(source, "an input reads one of `column`, `columns` and `mask`");
        return Err(problem.help("`{ column: ecal }`, `{ columns: [pt, eta] }` or `{ mask: track_pt }`"));
    }
    if let Some(column) = &feeding.column {
        return Ok(vec![Wish { column, mask: false, by: feeding }]);
    }
    if let Some(column) = &feeding.mask {
        return Ok(vec![Wish { column, mask: true, by: feeding }]);
    }
    let columns =
        feeding.columns.as_ref().filter(|c| !c.is_empty()).ok_or_else(|| Problem::at(source, "no columns are stacked"))?;
    names.extend(columns.iter().map(|inner| match &inner.value {
        Source::Column(name) => Placed { value: name.clone(), place: inner.place },
        Source::Feeding(_) => Placed::default(),
    }));
    let each = columns.iter().zip(names.iter()).map(|(inner, name)| match &inner.value {
        Source::Column(_) => Ok(Wish { column: name, mask: false, by: feeding }),
        Source::Feeding(own) => match (&own.column, &own.mask) {
            (Some(column), None) if own.columns.is_none() => Ok(Wish { column, mask: false, by: own }),
            (None, Some(column)) if own.columns.is_none() => Ok(Wish { column, mask: true, by: own }),
            _ => Err(Problem::at(inner, "a column of a stack is one `column`, or one `mask`")),
        },
    });
    each.collect()
}

/// By what the entries of a list are ordered: a value of its own entries, else another list.
pub(super) fn order(of: &Feeding, wish: &Wish<'_>, schema: &Schema) -> Result<Option<Order>, Problem> {
    let Some(word) = of.order.as_ref().filter(|_| !wish.mask) else { return Ok(None) };
    let (name, falling) = word.strip_prefix('-').map_or((word.as_str(), false), |name| (name, true));
    let own = column::field(schema, wish.column)?;
    if let Some(value) = entry_values(own).iter().position(|value| value == name) {
        return Ok(Some(Order { column: wish.column.value.clone(), value, falling }));
    }
    let by = column::field(schema, &Placed { value: name.to_owned(), place: word.place })?;
    if form(by) != Some(Form::List) || !entry_values(by).is_empty() {
        let what = format!("`{name}` is no list of numbers, by which the entries of `{}` could be ordered", wish.column.value);
        return Err(Problem::at(word, what));
    }
    Ok(Some(Order { column: name.to_owned(), value: 0, falling }))
}

pub(super) fn transform(wish: &Wish<'_>, facts: &Facts) -> Result<Transform, Vec<Problem>> {
    let mut problems = Vec::new();
    let by = wish.by;
    let constant = match by.norm.value {
        NormWord::Constant(value) => Some(Placed { value, place: by.norm.place }),
        _ => None,
    };
    for factor in [&by.scale, &by.divide, &constant].into_iter().flatten() {
        if !factor.is_finite() || **factor == 0.0 || !(**factor as f32).is_normal() {
            problems.push(Problem::at(factor, format!("{} is no factor: a finite number other than 0 is", factor.value)));
        }
    }
    if by.divide.is_some() && constant.is_some() {
        problems.push(Problem::at(&by.norm, "`divide` and `norm: { constant: .. }` are the same").help("write one of them"));
    }
    let norm = match &by.norm.value {
        NormWord::None | NormWord::Constant(_) => Norm::None,
        NormWord::TanhLog => Norm::TanhLog,
        NormWord::Log => Norm::Log,
        NormWord::Table(path) => {
            let word = Placed { value: path.clone(), place: by.norm.place };
            table(&word, wish.column, facts).unwrap_or_else(|problem| {
                problems.push(problem);
                Norm::None
            })
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let factor = |f: &Option<Placed<f64>>| f.as_ref().map_or(1.0, |f| f.value);
    Ok(Transform { scale: factor(&by.scale), divide: factor(&by.divide) * factor(&constant), norm })
}

fn table(path: &Placed<String>, column: &Placed<String>, facts: &Facts) -> Result<Norm, Problem> {
    let wrong = |what: String| Problem::at(path, format!("`{}` {what}", path.value));
    let tables = Tables::read(facts.text(path)?).map_err(wrong)?;
    let norm = tables.norm(column).map_err(|what| Problem::at(path, format!("`{}`: {what}", path.value)))?;
    norm.ok_or_else(|| {
        Problem::at(path, format!("`{}` has no table of `{}`", path.value, column.value)).suggest(column, tables.columns())
    })
}
