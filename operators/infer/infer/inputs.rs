//! Which columns go into an input of a model, and how: all that can be wrong with it.

use super::{Channels, Feeding, Infer, NormWord, Pad, Source};
use crate::onnx::feed::{Cells, Part, Plan, What};
use crate::onnx::model::{Extent, Tensor};
use crate::onnx::norm::{Norm, Tables, Transform};
use crate::onnx::session::Input;
use crate::onnx::tensor::Element;
use crate::{Facts, Placed, Problem, column, hits};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;

/// An input of a model, fitted.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    pub input: Input,
    pub plan: Plan,
    /// What is no mistake but worth saying.
    pub remarks: Vec<String>,
}

/// The form of a row of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// Of this shape; a number has none.
    Fixed(Vec<usize>),
    /// As long as it is.
    List,
}

/// One column that is wanted, with what happens to it.
struct Wish<'a> {
    column: &'a Placed<String>,
    mask: bool,
    by: &'a Feeding,
}

/// A way to lay columns into a row.
struct Layout {
    row: Vec<usize>,
    channels: Channels,
    /// The extents of one column in the model.
    inner: Vec<usize>,
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
                        }
                    }
                }
            }
        }
    }
}

/// The columns of a source, or why they are not said as they must be.
fn wishes<'a>(
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

fn transform(wish: &Wish<'_>, facts: &Facts) -> Result<Transform, Vec<Problem>> {
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
    for (channel, (wish, field)) in wishes.iter().zip(&fields).enumerate() {
        // What is wrong with it was said before.
        let Ok(transform) = transform(wish, facts) else { return Ok(None) };
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
        parts.push(Part { column: wish.column.value.clone(), what, transform, cells });
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let plan = Plan { to: element.prepared(), hits: false, row: layout.row.iter().product(), parts };
    let input = Input { name: wanted.name.clone(), row: layout.row, element, hits: false };
    Ok(Some(Fitted { input, plan, remarks }))
}

/// The value of a hit, or of an entry of a list, that is meant.
fn value(wish: &Wish<'_>, field: &Field) -> Result<What, Problem> {
    if wish.mask {
        return Ok(What::Mask);
    }
    let Some(name) = &wish.by.value else { return Ok(What::Value(0)) };
    let names = entry_values(field);
    let found = names.iter().position(|v| *v == name.value).ok_or_else(|| {
        Problem::at(name, format!("a hit of `{}` has no value `{}`", wish.column.value, name.value))
            .suggest(name, names.iter().map(String::as_str))
    });
    found.map(What::Value)
}

/// The names of the values of a hit, or of the entries of a list.
fn entry_values(field: &Field) -> Vec<String> {
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
fn form(field: &Field) -> Option<Form> {
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
    let column = wishes[0].column;
    if *form == Form::List && feeding.first.is_none() && behind.iter().all(|extent| matches!(extent, Extent::Free(_))) {
        let what = format!("the model's input `{}` does not say how many entries of `{}` it takes", wanted.name, column.value);
        return Err(Problem::at(column, what).help("write `first: 20`, say"));
    }
    let what = match stacked {
        None => format!("column `{}` holds {}", column.value, in_words(form)),
        Some(n) => format!("{n} columns, each with {}, are stacked", in_words(form)),
    };
    let problem = Problem::at(column, format!("{what}, the model's input `{}` wants {}", wanted.name, shape(&wanted.dims)));
    let smaller = |have: &[usize]| {
        have.len() == behind.len()
            && have.iter().zip(behind).all(|(h, w)| matches!(w, Extent::Fixed(w) if w >= h))
            && feeding.pad.is_none()
    };
    Err(match (self::fitting(schema, wanted), form) {
        (Some(other), _) => problem.help(format!("`{other}` has that shape")),
        (None, Form::Fixed(have)) if !have.is_empty() && smaller(have) => {
            problem.help("`pad: end` (or `centre`) puts zeros around a smaller image")
        }
        _ => problem,
    })
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

/// What is lost when values of a column become those of a model, in words. Values that are `changed` are scaled or normalised before.
fn loss(field: &Field, what: What, changed: bool, to: Element) -> Vec<String> {
    let mut lost = Vec::new();
    let list = match field.data_type() {
        DataType::List(item) | DataType::FixedSizeList(item, _) => Some(item),
        _ => None,
    };
    let mut missing = field.is_nullable() || what != What::Mask && list.is_some_and(|item| item.is_nullable());
    let mut of = list.map_or(field.data_type(), |item| item.data_type()).clone();
    if let (What::Value(number), DataType::Struct(fields)) = (what, &of) {
        let Some(value) = fields.get(number + usize::from(hits::is_hits(field))).cloned() else { return lost };
        missing |= value.is_nullable();
        of = value.data_type().clone();
    }
    if missing && to.prepared().without_nan().is_some() {
        lost.push(", which can't say that a value is missing: the unit of such a row is quarantined".into());
    }
    if what == What::Mask {
        return lost;
    }
    let of_real = of.is_floating() || changed;
    let bits = match of {
        DataType::Float16 => 11,
        DataType::Float32 => 24,
        DataType::Float64 => 53,
        DataType::Int8 => 7,
        DataType::UInt8 => 8,
        DataType::Int16 => 15,
        DataType::UInt16 => 16,
        DataType::Int32 => 31,
        DataType::UInt32 => 32,
        DataType::Int64 => 63,
        DataType::UInt64 => 64,
        // A truth value is one of any type.
        _ => return lost,
    };
    let below_0 = of.is_signed_integer() && !to.is_signed();
    lost.extend(match (of_real, to) {
        (_, Element::Bool) => Some(format!(": what is not 0 is true (it holds {of})")),
        (true, _) if to.is_real() && of.is_floating() && bits > to.bits() => Some(format!(", rounded from {of}")),
        (true, _) if !to.is_real() && of.is_floating() => Some(format!(", without what stands behind the point of {of}")),
        (true, _) if !to.is_real() => Some(", without what its scale or norm puts behind the point".into()),
        (_, _) if to.is_real() && of.is_integer() && bits > to.bits() => {
            Some(format!(": integers beyond 2^{} are rounded", to.bits()))
        }
        (false, _) if !to.is_real() && (below_0 || bits > to.bits()) => {
            Some(format!(": what is beyond its ends becomes its ends (it holds {of})"))
        }
        _ => None,
    });
    if changed && of.is_integer() && bits > Element::F64.bits() && !to.is_real() && to != Element::Bool {
        lost.push(format!(", computed in float64: integers beyond 2^{} are rounded", Element::F64.bits()));
    }
    lost
}

pub(super) fn shape(dims: &[Extent]) -> String {
    format!("({})", dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn in_words(form: &Form) -> String {
    match form {
        Form::Fixed(extents) if extents.is_empty() => "one number a row".into(),
        Form::Fixed(extents) => format!("images of {}", extents.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ")),
        Form::List => "lists".into(),
    }
}
