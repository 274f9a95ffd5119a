//! What becomes of the outputs of a model: new columns, checked before the run and made of batches in it.

use super::{Names, Taking};
use crate::hits::{self, HitsBuilder};
use crate::onnx::model::{Extent, Tensor};
use crate::onnx::session::Output;
use crate::onnx::tensor::{Element, Values};
use crate::{Placed, Problem, column, words};
use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, FixedSizeListArray, Float32Array, Float64Array, Int8Array, Int64Array,
    StringArray,
};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Float32Type, Float64Type, Int64Type, Schema};
use std::sync::Arc;

/// The value of a hit that a model made.
const VALUE: &str = "value";

/// A new column.
#[derive(Debug, Clone)]
pub(super) struct NewColumn {
    pub field: Field,
    /// The output that it is made of, by its number among all that are taken.
    pub slot: usize,
    pub take: Take,
    /// Bytes of a row, expected.
    pub bytes: u64,
}

/// How a column is made of an output.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Take {
    /// Value number so and so of each row.
    Value(usize),
    /// The class of the largest value: one dictionary for all batches.
    Argmax(Arc<StringArray>),
    /// The whole.
    Dense,
    /// The whole but for zeros, and for what is below the threshold.
    Hits(f64),
}

/// What stands for the model's name in that of a column.
pub(super) const MODEL: &str = "{model}";

/// What the model is called in the names of columns.
#[derive(Debug, Clone, Copy)]
pub(super) enum Called<'a> {
    /// Nothing: it is one of several folds.
    Nothing,
    /// So, where a name says `{model}`.
    Alone(&'a str),
    /// So, in every name.
    InSweep(&'a str),
}

/// The name of a new column, with its place: in a sweep it has the model's name in it.
fn named(name: &Placed<String>, model: Called<'_>) -> Placed<String> {
    let value = match model {
        Called::Alone(model) | Called::InSweep(model) if name.contains(MODEL) => name.replace(MODEL, model),
        Called::Nothing | Called::Alone(_) => name.value.clone(),
        Called::InSweep(model) => format!("{}_{model}", name.value),
    };
    Placed { value, place: name.place }
}

/// The names that an entry of `outputs` gives, each with its place.
pub(super) fn names(new: &Placed<Names>, model: Called<'_>) -> Vec<Placed<String>> {
    let each = |name: &Placed<String>| named(name, model);
    match &new.value {
        Names::One(name) => vec![named(&Placed { value: name.clone(), place: new.place }, model)],
        Names::Many(many) => many.iter().map(each).collect(),
        Names::Taking(taking) => {
            let columns = taking.columns.iter().flat_map(|c| c.iter());
            columns.chain(&taking.argmax).chain(&taking.dense).chain(&taking.hits).map(each).collect()
        }
    }
}

/// Why an output has not as many rows as went in, where its shape says so. The inputs may have a `batch` that is fixed.
fn wrong_rows(given: &Tensor, batch: Option<usize>) -> Option<String> {
    let shape = super::inputs::shape(&given.dims);
    match (given.dims.first(), batch) {
        (None, _) => Some(format!("the model's output `{}` declares no shape, or one without an axis for the rows", given.name)),
        (Some(Extent::Fixed(rows)), Some(batch)) if *rows != batch => {
            let asked = words::counted(batch as u64, "row");
            Some(format!("the model's output `{}` is {shape}, and its inputs have {asked} each time", given.name))
        }
        (Some(Extent::Fixed(rows)), None) => {
            let rows = words::counted(*rows as u64, "row");
            Some(format!("the model's output `{}` has {rows}, however many go in: its shape is {shape}", given.name))
        }
        _ => None,
    }
}

/// Fits an output to its new columns. The model's inputs may have a `batch` that is fixed.
pub(super) fn fit(
    given: &Tensor,
    new: &Placed<Names>,
    (slot, model): (usize, Called<'_>),
    batch: Option<usize>,
    schema: &Schema,
) -> Result<(Output, Vec<NewColumn>), Vec<Problem>> {
    let wrong = |what: String| Problem::at(new, what);
    let Some(element) = Element::named(&given.element) else {
        return Err(vec![wrong(format!("the model's output `{}` is {}, which can't be taken", given.name, given.element))]);
    };
    if let Some(what) = wrong_rows(given, batch) {
        return Err(vec![wrong(what).help("a prediction is of one row; export the model with a free first axis, (N, ..)")]);
    }
    if given.behind_batch().contains(&Extent::Fixed(0)) {
        let shape = super::inputs::shape(&given.dims);
        return Err(vec![wrong(format!("the model's output `{}` has no values: its shape is {shape}", given.name))]);
    }
    let plain = match &new.value {
        Names::One(name) => {
            let one = Placed { value: name.clone(), place: new.place };
            Taking { columns: Some(Placed { value: vec![one], place: new.place }), ..Taking::default() }
        }
        Names::Many(many) => Taking { columns: Some(Placed { value: many.clone(), place: new.place }), ..Taking::default() },
        Names::Taking(taking) => taking.as_ref().clone(),
    };
    if names(new, model).is_empty() {
        return Err(vec![
            wrong(format!("the model's output `{}` gets no column", given.name)).help("write the name of a new column"),
        ]);
    }
    let mut problems = Vec::new();
    let mut columns: Vec<NewColumn> = Vec::new();
    let scalar = scalar(element);
    let value_bytes = scalar.primitive_width().unwrap_or(1) as u64;
    // A free axis is taken at the word of who names the columns.
    let asked = plain.columns.as_ref().map(|c| c.len());
    let width = given.width().or(asked);
    let said = given.width().unwrap_or_default();
    if let Some(many) = &plain.columns {
        if width != Some(many.len()) {
            let what = format!("the model's output `{}` has {said} values a row, and {} named", given.name, are(many.len()));
            let whole = if said > 8 { "; `{ dense: NAME }` or `{ hits: NAME }` takes it as a whole" } else { "" };
            problems.push(wrong(what).help(format!("its shape is {}{whole}", super::inputs::shape(&given.dims))));
        }
        for (number, name) in many.iter().enumerate() {
            let field = Field::new(named(name, model).value, scalar.clone(), false);
            columns.push(NewColumn { field, slot, take: Take::Value(number), bytes: value_bytes });
        }
    }
    if let Some(name) = &plain.argmax {
        let classes = plain.classes.as_ref().map_or_else(|| column::samples(schema), |c| c.value.clone());
        let place = plain.classes.as_ref().map_or(name.place, |c| c.place);
        if classes.len() != said || said > 127 {
            let what =
                format!("the model's output `{}` has {said} values a row, and there are {} classes", given.name, classes.len());
            let known = if plain.classes.is_some() { "`classes`" } else { "the samples, where `classes` is not said," };
            let help = format!("{known} must be as many as the values, in their order; at most 127");
            problems.push(Problem { place, what, help: Some(help) });
        }
        let classes_type = DataType::Dictionary(DataType::Int8.into(), DataType::Utf8.into());
        if let Some(twice) = (1..classes.len()).find(|n| classes[..*n].contains(&classes[*n])) {
            let what = format!("the class `{}` is named twice, for two values of the model's output", classes[twice]);
            problems.push(Problem { place, what, help: Some("each value has a class of its own".into()) });
        }
        let field = Field::new(named(name, model).value, classes_type, true);
        columns.push(NewColumn { field, slot, take: Take::Argmax(Arc::new(StringArray::from_iter_values(classes))), bytes: 1 });
    } else if let Some(classes) = &plain.classes {
        problems.push(Problem::at(classes, "classes are of `argmax`, which is not asked for"));
    }
    if let Some(threshold) = &plain.threshold
        && (plain.hits.is_none() || threshold.is_nan() || **threshold < 0.0)
    {
        problems.push(Problem::at(threshold, "a threshold is a magnitude below which `hits` are left out"));
    }
    for (name, is_dense) in [(&plain.dense, true), (&plain.hits, false)] {
        let Some(name) = name else { continue };
        let extents: Option<Vec<usize>> = given.behind_batch().iter().map(fixed).collect();
        let Some(extents) = extents.filter(|e| !e.is_empty()) else {
            let what = format!("the model's output `{}` has no fixed extents: {}", given.name, super::inputs::shape(&given.dims));
            problems.push(Problem::at(name, what).help("an image has; a single value is taken as a column"));
            continue;
        };
        if scalar == DataType::Boolean {
            problems.push(Problem::at(name, format!("the model's output `{}` is bool, and images are of numbers", given.name)));
            continue;
        }
        let (full, cells) = (named(name, model).value, extents.iter().product::<usize>() as u64);
        let (field, take, bytes) = if is_dense {
            (hits::dense_field(&full, &extents, scalar.clone()), Take::Dense, cells * value_bytes)
        } else {
            let threshold = plain.threshold.as_ref().map_or(0.0, |t| t.value);
            let field = hits::hits_field(&full, &extents, &[Field::new(VALUE, scalar.clone(), false)]);
            (field, Take::Hits(threshold), cells * (value_bytes + 2))
        };
        columns.push(NewColumn { field, slot, take, bytes });
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok((Output { name: given.name.clone(), width: width.unwrap_or(1), element }, columns))
}

fn fixed(extent: &Extent) -> Option<usize> {
    match extent {
        Extent::Fixed(n) => Some(*n),
        Extent::Free(_) => None,
    }
}

fn are(n: usize) -> String {
    if n == 1 { "1 column is".into() } else { format!("{n} columns are") }
}

/// The type of a column of single values.
fn scalar(of: Element) -> DataType {
    match of {
        Element::F16 | Element::F32 => DataType::Float32,
        Element::F64 => DataType::Float64,
        Element::Bool => DataType::Boolean,
        _ => DataType::Int64,
    }
}

impl NewColumn {
    /// The column of an output with so many values a row.
    pub fn make(&self, said: &Values, width: usize) -> anyhow::Result<ArrayRef> {
        match &self.take {
            Take::Value(number) => Ok(self.values(said, *number, width)),
            Take::Argmax(classes) => {
                let keys = match said {
                    Values::F32(v) => largest(v, width, f32::is_nan),
                    Values::F64(v) => largest(v, width, f64::is_nan),
                    Values::I64(v) => largest(v, width, |_| false),
                };
                Ok(Arc::new(DictionaryArray::try_new(Int8Array::from(keys), classes.clone())?))
            }
            Take::Dense => {
                let DataType::FixedSizeList(item, length) = self.field.data_type() else { anyhow::bail!("a dense column") };
                let values = self.values(said, 0, 1);
                Ok(Arc::new(FixedSizeListArray::try_new(item.clone(), *length, values, None)?))
            }
            Take::Hits(threshold) => match said {
                Values::F32(v) => self.hits::<Float32Type>(v, width, |v| f64::from(v.abs()) < *threshold),
                Values::F64(v) => self.hits::<Float64Type>(v, width, |v| v.abs() < *threshold),
                Values::I64(v) => self.hits::<Int64Type>(v, width, |v| (v.unsigned_abs() as f64) < *threshold),
            },
        }
    }

    /// Every `width`-th value, from number `first` on.
    fn values(&self, said: &Values, first: usize, width: usize) -> ArrayRef {
        fn strided<T: Copy>(of: &[T], first: usize, width: usize) -> Vec<T> {
            if width == 1 { of.to_vec() } else { of.iter().skip(first).step_by(width).copied().collect() }
        }
        match said {
            Values::F32(v) => Arc::new(Float32Array::from(strided(v, first, width))),
            Values::F64(v) => Arc::new(Float64Array::from(strided(v, first, width))),
            Values::I64(v) if *self.field.data_type() == DataType::Boolean => {
                Arc::new(BooleanArray::from_iter(strided(v, first, width).into_iter().map(|v| Some(v != 0))))
            }
            Values::I64(v) => Arc::new(Int64Array::from(strided(v, first, width))),
        }
    }

    fn hits<T: ArrowPrimitiveType>(
        &self,
        said: &[T::Native],
        width: usize,
        below: impl Fn(T::Native) -> bool,
    ) -> anyhow::Result<ArrayRef> {
        let mut hits = HitsBuilder::<T>::default();
        for image in said.chunks_exact(width) {
            let begin = hits.cells.len();
            hits.push_dense(image);
            // The builder knows what a hit is; the threshold is ours.
            let mut kept = begin;
            for hit in begin..hits.cells.len() {
                if !below(hits.values[hit]) {
                    (hits.cells[kept], hits.values[kept]) = (hits.cells[hit], hits.values[hit]);
                    kept += 1;
                }
            }
            hits.cells.truncate(kept);
            hits.values.truncate(kept);
            hits.end_event();
        }
        let column: Arc<dyn Array> = Arc::new(hits.finish(&self.field)?);
        Ok(column)
    }
}

/// The number of the largest value of each row, of equal ones the first; none where one is NaN.
fn largest<T: Copy + PartialOrd>(values: &[T], width: usize, is_nan: impl Fn(T) -> bool) -> Vec<Option<i8>> {
    let of_row = |row: &[T]| {
        if row.iter().any(|v| is_nan(*v)) {
            return None;
        }
        let best = (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
        i8::try_from(best).ok()
    };
    values.chunks_exact(width).map(of_row).collect()
}

/// Rows with a value that is not finite.
pub(super) fn not_finite(said: &Values, width: usize) -> Vec<bool> {
    match said {
        Values::F32(v) => v.chunks_exact(width).map(|row| row.iter().any(|v| !v.is_finite())).collect(),
        Values::F64(v) => v.chunks_exact(width).map(|row| row.iter().any(|v| !v.is_finite())).collect(),
        Values::I64(_) => Vec::new(),
    }
}
