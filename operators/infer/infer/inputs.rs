//! Which columns go into an input of a model, and how: all that can be wrong with it.

use super::loss::loss;
use super::wishes::{Wish, order, transform, wishes};
use super::{Channels, Feeding, NormWord, Pad, Source, idle};
use crate::onnx::feed::{Cells, Part, Plan, What};
use crate::onnx::model::{Extent, Tensor};
use crate::onnx::norm::Transform;
use crate::onnx::outside::sha256;
use crate::onnx::session::Input;
use crate::onnx::tensor::Element;
use crate::{Facts, Placed, Problem, column, hits};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Value, json};
use std::sync::Arc;

/// An input of a model, fitted.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    pub input: Input,
    pub plan: Plan,
    /// What is no mistake but worth saying.
    pub remarks: Vec<String>,
    /// For the record of a run: all that it is made of.
    pub said: Value,
}

/// The form of a row of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Of this shape; a number has none.
    Fixed(Vec<usize>),
    /// As long as it is.
    List,
}

/// A way to lay columns into a row.
struct Layout {
    row: Vec<usize>,
    channels: Channels,
    /// The extents of one column in the model.
    inner: Vec<usize>,
}

/// Fits columns to an input of a model. A column that is not there was said before: then there is nothing, and no problem.
pub(super) fn fit(
    wanted: &Tensor,
    source: &Placed<Source>,
    schema: &Schema,
    facts: &Facts,
) -> Result<Option<Fitted>, Vec<Problem>> {
    let plain = Feeding::default();
    let mut names = Vec::new();
    let (single, feeding) = match &source.value {
        Source::Column(name) => (Some(Placed { value: name.clone(), place: source.place }), &plain),
        Source::Feeding(feeding) => (None, feeding.as_ref()),
    };
    let wishes = match &single {
        Some(column) => vec![Wish { column, mask: false, by: feeding }],
        None => match wishes(source, feeding, &mut names) {
            Ok(wishes) => wishes,
            Err(_) => return Ok(None),
        },
    };
    if !idle::words(source, schema).is_empty() {
        // They were said before.
        return Ok(None);
    }
    let Some(element) = Element::named(&wanted.element) else {
        let what = format!("the model's input `{}` is {}, which calostream can't feed", wanted.name, wanted.element);
        return Err(vec![Problem::at(source, what).help("export the model with inputs of float32")]);
    };
    let mut fields: Vec<&Field> = Vec::new();
    for wish in &wishes {
        let Ok(field) = column::field(schema, wish.column) else { return Ok(None) };
        fields.push(field);
    }
    let mut problems = Vec::new();
    let mut forms = Vec::new();
    for (wish, field) in wishes.iter().zip(&fields) {
        match form(field).filter(|form| !wish.mask || *form == Form::List) {
            Some(form) => forms.push(form),
            None if wish.mask => {
                let what = format!("column `{}` is no list, and a mask says where a list ends", wish.column.value);
                problems.push(Problem::at(wish.column, what));
            }
            None => {
                let what =
                    format!("column `{}` is {}, which is neither an image nor a number", wish.column.value, field.data_type());
                problems.push(Problem::at(wish.column, what));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if let Some(other) = forms.iter().position(|form| *form != forms[0]) {
        let (first, other_column) = (&wishes[0].column.value, &wishes[other].column.value);
        let what = format!(
            "`{first}` holds {} and `{other_column}` {}: columns of a stack have equal shapes",
            in_words(&forms[0]),
            in_words(&forms[other])
        );
        return Err(vec![Problem::at(wishes[other].column, what)]);
    }
    let layout = layout(wanted, feeding, &wishes, &forms[0], schema).map_err(|problem| vec![problem])?;
    let mut parts = Vec::new();
    let mut remarks = Vec::new();
    let mut of = Vec::new();
    for (channel, (wish, field)) in wishes.iter().zip(&fields).enumerate() {
        // What is wrong with it was said before.
        let Ok(transform) = transform(wish, facts) else { return Ok(None) };
        let Ok(order) = order(feeding, wish, schema) else { return Ok(None) };
        let what = match value(wish, field) {
            Ok(what) => what,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let changed = !transform.is_nothing();
        for loss in loss(field, what, changed, element) {
            remarks.push(format!("the model's input `{}` gets `{}` as {}{loss}", wanted.name, field.name(), element.name()));
        }
        let cells = cells(&layout, &forms[0], feeding, channel, wishes.len());
        of.push(of_column(wish, field, &transform, facts));
        parts.push(Part { column: wish.column.value.clone(), what, transform, cells, order });
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let plan = Plan { to: element.prepared(), hits: false, row: layout.row.iter().product(), parts };
    let mut said = json!({ "row": layout.row, "type": element.name(), "of": of });
    if wishes.len() > 1 && !layout.inner.is_empty() {
        said["channels"] = json!(layout.channels);
    }
    match (&forms[0], &feeding.pad) {
        (Form::List, _) => {
            said["first"] = json!(layout.inner.first());
            if let Some(order) = &feeding.order {
                said["order"] = json!(order.value);
            }
        }
        (Form::Fixed(have), Some(pad)) if *have != layout.inner => {
            (said["pad"], said["image"]) = (json!(pad.value), json!(have));
        }
        _ => {}
    }
    let input = Input { name: wanted.name.clone(), row: layout.row, element, hits: false };
    Ok(Some(Fitted { input, plan, remarks, said }))
}

/// What is read of a column, for the record of a run.
fn of_column(wish: &Wish<'_>, field: &Field, transform: &Transform, facts: &Facts) -> Value {
    let mut said = json!({ "column": wish.column.value });
    if wish.mask {
        said["mask"] = true.into();
        return said;
    }
    if let Some(value) =
        wish.by.value.as_ref().map(|value| value.value.clone()).or_else(|| entry_values(field).into_iter().next())
    {
        said["value"] = value.into();
    }
    let transform = transform.to_string();
    if !transform.is_empty() {
        said["transform"] = transform.into();
    }
    if let NormWord::Table(path) = &wish.by.norm.value
        && let Ok(text) = facts.text(&Placed::unplaced(path.clone()))
    {
        said["table"] = json!({ "path": path, "sha256": sha256(text.as_bytes()) });
    }
    said
}

/// The value of a hit, or of an entry of a list, that is meant.
fn value(wish: &Wish<'_>, field: &Field) -> Result<What, Problem> {
    if wish.mask {
        return Ok(What::Mask);
    }
    let Some(name) = &wish.by.value else { return Ok(What::Value(0)) };
    let names = entry_values(field);
    if names.is_empty() {
        let what = format!("`value` is of hits and of lists of records, and column `{}` is neither", wish.column.value);
        return Err(Problem::at(name, what).help("leave it out"));
    }
    let found = names.iter().position(|v| *v == name.value).ok_or_else(|| {
        Problem::at(name, format!("a hit of `{}` has no value `{}`", wish.column.value, name.value))
            .suggest(name, names.iter().map(String::as_str))
    });
    found.map(What::Value)
}

/// The names of the values of a hit, or of the entries of a list.
pub(super) fn entry_values(field: &Field) -> Vec<String> {
    if hits::is_hits(field) {
        return hits::value_names(field);
    }
    match field.data_type() {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => fields.iter().map(|f| f.name().clone()).collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The form of a row of a column: none where it holds no numbers.
pub(super) fn form(field: &Field) -> Option<Form> {
    let is_number = |of: &DataType| of.is_numeric() || *of == DataType::Boolean;
    match field.data_type() {
        DataType::List(_) if hits::is_hits(field) => hits::shape(field).map(Form::Fixed),
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => fields.iter().all(|f| is_number(f.data_type())).then_some(Form::List),
            number => is_number(number).then_some(Form::List),
        },
        DataType::FixedSizeList(item, length) if is_number(item.data_type()) => {
            Some(Form::Fixed(hits::shape(field).or_else(|| usize::try_from(*length).ok().map(|n| vec![n]))?))
        }
        number => is_number(number).then(|| Form::Fixed(Vec::new())),
    }
}

/// How the columns become a row of the input, or why they can't.
fn layout(wanted: &Tensor, feeding: &Feeding, wishes: &[Wish<'_>], form: &Form, schema: &Schema) -> Result<Layout, Problem> {
    let behind = wanted.behind_batch();
    if behind.contains(&Extent::Fixed(0)) {
        let what = format!("the model's input `{}` takes no values: its shape is {}", wanted.name, shape(&wanted.dims));
        return Err(Problem::at(wishes[0].column, what));
    }
    let stacked = feeding.columns.as_ref().map(|_| wishes.len());
    let all: Vec<Layout> = inner_shapes(behind, feeding, form).into_iter().flat_map(|inner| layouts(&inner, stacked)).collect();
    let mut fitting: Vec<Layout> = all.into_iter().filter(|l| !wanted.dims.is_empty() && fits(behind, &l.row)).collect();
    if let Some(channels) = &feeding.channels {
        fitting.retain(|l| l.channels == channels.value || l.inner.is_empty());
    }
    if let (Some(first), Some(other)) = (fitting.first(), fitting.get(1))
        && stacked.is_some_and(|n| n > 1)
        && first.channels != other.channels
        && !first.inner.is_empty()
    {
        let what = format!("the channels of the model's input `{}` may be its first axis or its last", wanted.name);
        return Err(Problem::at(wishes[0].column, what).help("write `channels: first` or `channels: last`"));
    }
    if let Some(layout) = fitting.into_iter().next() {
        return Ok(layout);
    }
    Err(misfit(wanted, feeding, wishes, form, schema))
}

/// Why columns do not become a row of the input.
fn misfit(wanted: &Tensor, feeding: &Feeding, wishes: &[Wish<'_>], form: &Form, schema: &Schema) -> Problem {
    let behind = wanted.behind_batch();
    let column = wishes[0].column;
    if wanted.dims.is_empty() {
        let what = format!("the model's input `{}` declares no shape, or one without an axis for the rows", wanted.name);
        return Problem::at(column, what).help("export the model with the input's shape, (N, ..)");
    }
    let is_list = *form == Form::List;
    if is_list && feeding.first.is_none() && !behind.is_empty() && behind.iter().all(|extent| matches!(extent, Extent::Free(_))) {
        let what = format!("the model's input `{}` does not say how many entries of `{}` it takes", wanted.name, column.value);
        return Problem::at(column, what).help("write `first: 20`, say");
    }
    let what = match (feeding.columns.as_ref().map(|_| wishes.len()), &feeding.first) {
        (None, Some(first)) if is_list => format!("{} of `{}` are read", entries(first.value), column.value),
        (None, _) => format!("column `{}` holds {}", column.value, in_words(form)),
        (Some(1), _) => format!("1 column with {} is stacked", in_words(form)),
        (Some(n), Some(first)) if is_list => format!("{n} columns, {} of each, are stacked", entries(first.value)),
        (Some(n), _) => format!("{n} columns, each with {}, are stacked", in_words(form)),
    };
    let problem = Problem::at(column, format!("{what}, the model's input `{}` wants {}", wanted.name, shape(&wanted.dims)));
    let stacked = feeding.columns.as_ref().map(|_| wishes.len());
    let by = |feeding: &Feeding| {
        let inner = inner_shapes(behind, feeding, form);
        inner.into_iter().flat_map(|inner| layouts(&inner, stacked)).any(|layout| fits(behind, &layout.row))
    };
    let padded = Feeding { pad: Some(Placed::unplaced(Pad::End)), ..feeding.clone() };
    if let Some(other) = self::fitting(schema, wanted) {
        let alone = stacked == Some(1) && other == column.value;
        let help = if alone { format!("`column: {other}` reads it as it is") } else { format!("`{other}` has that shape") };
        return problem.help(help);
    }
    match form {
        Form::Fixed(have) if !have.is_empty() && feeding.pad.is_none() && by(&padded) => {
            problem.help("`pad: end` (or `centre`) puts zeros around a smaller image")
        }
        Form::List if feeding.first.is_some() && by(&Feeding { first: None, ..feeding.clone() }) => {
            problem.help("without `first`, as many are read as the model takes")
        }
        _ => problem,
    }
}

fn entries(first: usize) -> String {
    if first == 1 { "the first entry".into() } else { format!("the first {first} entries") }
}

/// The extents that one column may have within the model.
fn inner_shapes(behind: &[Extent], feeding: &Feeding, form: &Form) -> Vec<Vec<usize>> {
    let fixed = behind.iter().filter_map(|extent| match extent {
        Extent::Fixed(n) => Some(*n),
        Extent::Free(_) => None,
    });
    match (form, &feeding.pad, &feeding.first) {
        (Form::Fixed(have), None, _) => vec![have.clone()],
        // A padded image has the model's own extents: one axis may be that of channels.
        (Form::Fixed(have), Some(_), _) => {
            let whole: Vec<usize> = fixed.collect();
            let mut shapes = vec![whole.clone()];
            if let [_, rest @ ..] = &whole[..] {
                shapes.push(rest.to_vec());
            }
            if let [rest @ .., _] = &whole[..] {
                shapes.push(rest.to_vec());
            }
            shapes.retain(|s| s.len() == have.len() && s.iter().zip(have).all(|(s, h)| s >= h));
            shapes.dedup();
            shapes
        }
        (Form::List, _, Some(first)) => vec![vec![first.value]],
        (Form::List, _, None) => {
            let mut lengths: Vec<usize> = fixed.collect();
            lengths.dedup();
            lengths.into_iter().map(|n| vec![n]).collect()
        }
    }
}

/// The rows that columns of these extents may become: with an axis of length 1 at either end, or flat; stacked, with that
/// of the channels.
fn layouts(inner: &[usize], stacked: Option<usize>) -> Vec<Layout> {
    let with = |row: Vec<usize>, channels| Layout { row, channels, inner: inner.to_vec() };
    let n = stacked.unwrap_or(1);
    let leading: Vec<usize> = [n].into_iter().chain(inner.iter().copied()).collect();
    let trailing: Vec<usize> = inner.iter().copied().chain([n]).collect();
    let mut all = Vec::new();
    if stacked.is_none() {
        all.push(with(inner.to_vec(), Channels::First));
    }
    all.push(with(leading, Channels::First));
    all.push(with(trailing, Channels::Last));
    if stacked.is_none() && inner.len() > 1 {
        all.push(with(vec![inner.iter().product()], Channels::First));
    }
    all
}

fn fits(wanted: &[Extent], row: &[usize]) -> bool {
    row.len() == wanted.len() && wanted.iter().zip(row).all(|(w, h)| *w == Extent::Fixed(*h) || matches!(w, Extent::Free(_)))
}

/// Where the cells of a column stand.
fn cells(layout: &Layout, form: &Form, feeding: &Feeding, channel: usize, channels: usize) -> Cells {
    let count: usize = layout.inner.iter().product();
    let (first, step) = match layout.channels {
        Channels::First => (channel * count, 1),
        Channels::Last => (channel, channels),
    };
    match (form, &feeding.pad) {
        (Form::Fixed(have), Some(pad)) if *have != layout.inner => {
            let places = places(have, &layout.inner, pad.value);
            Cells::Placed(places.into_iter().map(|place| (first + place * step) as u32).collect())
        }
        (Form::Fixed(_), _) if channels == 1 => Cells::All,
        _ => Cells::Strided { first, step, count },
    }
}

/// The place of each cell of an image within a larger one.
fn places(have: &[usize], within: &[usize], pad: Pad) -> Vec<usize> {
    let mut places = vec![0];
    for (h, w) in have.iter().zip(within) {
        let before = match pad {
            Pad::End => 0,
            Pad::Centre => (w - h) / 2,
        };
        places = places.iter().flat_map(|place| (0..*h).map(move |i| place * w + before + i)).collect();
    }
    places
}

/// A column that the input could read.
pub(super) fn fitting<'a>(schema: &'a Schema, wanted: &Tensor) -> Option<&'a str> {
    let could = |field: &&Arc<Field>| match form(field) {
        Some(Form::Fixed(have)) if !have.is_empty() => layouts(&have, None).iter().any(|l| fits(wanted.behind_batch(), &l.row)),
        _ => false,
    };
    schema.fields().iter().find(could).map(|f| f.name().as_str())
}

pub(super) fn shape(dims: &[Extent]) -> String {
    format!("({})", dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

pub(super) fn in_words(form: &Form) -> String {
    match form {
        Form::Fixed(extents) if extents.is_empty() => "one number a row".into(),
        Form::Fixed(extents) if extents.len() == 1 => format!("vectors of {}", extents[0]),
        Form::Fixed(extents) => format!("images of {}", extents.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ")),
        Form::List => "lists".into(),
    }
}
