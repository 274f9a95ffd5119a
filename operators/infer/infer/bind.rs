//! What of the model goes with what of the rows: all that is said before a run, and all that can be wrong with it.

use super::{Device, Feeding, Infer, Names, Source};
use crate::onnx::feed::{Norm, Transform};
use crate::onnx::model::{Extent, FLOAT, ModelFacts, Tensor};
use crate::onnx::session::{Input, Output};
use crate::{Facts, Placed, Problem, Reads, column, hits};
use arrow::datatypes::{DataType, Field, Schema};

/// The model and the columns, fitted together.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    /// The inputs, in the model's order.
    pub inputs: Vec<BoundInput>,
    /// The outputs that are wanted, in the model's order, each with its new columns.
    pub outputs: Vec<(Output, Vec<String>)>,
    /// Rows of a model batch.
    pub batch: usize,
    /// True where the model takes full batches only.
    pub full_batches_only: bool,
    /// What is no mistake but worth saying.
    pub remarks: Vec<String>,
    model_bytes: u64,
}

/// An input of the model and its column.
#[derive(Debug, Clone)]
pub(super) struct BoundInput {
    pub input: Input,
    pub column: String,
    /// The number of the value within a hit.
    pub value: usize,
    pub transform: Transform,
}

impl BoundInput {
    pub fn cells(&self) -> usize {
        self.input.row.iter().product()
    }
}

impl Bound {
    pub fn new_columns(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().flat_map(|(_, names)| names.iter().map(String::as_str))
    }

    pub fn reads(&self) -> Reads {
        Reads::columns(self.inputs.iter().map(|i| i.column.clone()))
    }

    /// Rows that wait for their batch; the dense buffers; the weights, as read and as laid out for computing; and for the
    /// activations, which ONNX Runtime does not tell, four times the dense inputs (measured on convolutions: two to three).
    pub fn holds(&self, row_bytes: u64) -> u64 {
        let dense: usize = self.inputs.iter().map(|i| i.cells() * size_of::<f32>()).sum();
        self.batch as u64 * (row_bytes + 5 * dense as u64) + 2 * self.model_bytes
    }
}

impl Infer {
    /// Fits the model to the columns, or says everything that is wrong.
    pub(super) fn bind(&self, facts: &Facts, schema: &Schema) -> Result<Bound, Vec<Problem>> {
        let mut problems = Vec::new();
        if *self.batch == 0 {
            problems.push(Problem::at(&self.batch, "a batch has at least one row").help("256 is a good start"));
        }
        if *self.device == Device::Cuda {
            problems.push(
                Problem::at(&self.device, "inference on a GPU is not there yet")
                    .help("write `device: cpu`; every worker computes on a core of its own"),
            );
        }
        let columns = self.columns(schema, &mut problems);
        self.new_names(schema, &mut problems);
        let model = match facts.model(&self.model) {
            Ok(model) => model,
            Err(problem) => {
                problems.push(problem);
                return Err(problems);
            }
        };
        let inputs = self.fit_inputs(model, schema, &columns, &mut problems);
        let outputs = self.fit_outputs(model, &mut problems);
        let full_batches_only = self.batch_axis(model, &mut problems);
        if !problems.is_empty() {
            problems.sort();
            return Err(problems);
        }
        let narrowed = columns.iter().filter(|(_, _, field)| loses_bits(field));
        let remarks = narrowed.map(|(name, _, field)| format!("the model's input `{name}` gets `{}` as float32", field.name())).collect();
        Ok(Bound { inputs, outputs, batch: *self.batch, full_batches_only, remarks, model_bytes: model.bytes })
    }

    /// The columns that are named, as (input of the model, how it is fed, field).
    fn columns<'a>(&self, schema: &'a Schema, problems: &mut Vec<Problem>) -> Vec<(&str, Feeding, &'a Field)> {
        let mut columns = Vec::new();
        for (name, source) in &self.inputs {
            let feeding = match &source.value {
                Source::Column(column) => Feeding {
                    column: Placed { value: column.clone(), place: source.place },
                    value: None,
                    scale: None,
                    divide: None,
                    norm: Norm::None,
                },
                Source::Feeding(feeding) => feeding.as_ref().clone(),
            };
            for factor in [&feeding.scale, &feeding.divide].into_iter().flatten() {
                if !factor.is_finite() || **factor == 0.0 || !(**factor as f32).is_normal() {
                    problems.push(Problem::at(factor, format!("{} is no factor: a finite number other than 0 is", factor.value)));
                }
            }
            match column::field(schema, &feeding.column) {
                Ok(field) => columns.push((name.as_str(), feeding, field)),
                Err(problem) => problems.push(problem),
            }
        }
        columns
    }

    fn new_names(&self, schema: &Schema, problems: &mut Vec<Problem>) {
        let mut seen: Vec<String> = Vec::new();
        if self.outputs.is_empty() {
            problems.push(Problem::at(&self.model, "none of the model's outputs is taken").help("write `outputs: { OUTPUT: new_column }`"));
        }
        for name in self.outputs.values().flat_map(names) {
            let problem = if schema.field_with_name(&name).is_ok() {
                Problem::at(&name, format!("there is a column `{}` already", name.value)).help("choose a new name")
            } else if seen.contains(&name.value) {
                Problem::at(&name, format!("the column `{}` is given twice", name.value)).help("choose another name")
            } else {
                seen.push(name.value);
                continue;
            };
            problems.push(problem);
        }
    }

    fn fit_inputs(
        &self,
        model: &ModelFacts,
        schema: &Schema,
        columns: &[(&str, Feeding, &Field)],
        problems: &mut Vec<Problem>,
    ) -> Vec<BoundInput> {
        for (name, source) in self.inputs.iter().filter(|(name, _)| model.inputs.iter().all(|i| i.name != **name)) {
            let known = model.inputs.iter().map(|i| i.name.as_str());
            problems.push(Problem::at(source, format!("the model has no input `{name}`")).suggest(name, known));
        }
        let mut bound = Vec::new();
        for wanted in &model.inputs {
            if !self.inputs.contains_key(&wanted.name) {
                let fitting = fitting(schema, wanted).unwrap_or("COLUMN");
                problems.push(
                    Problem::at(&self.model, format!("the model's input `{}` gets no column", wanted.name))
                        .help(format!("under `inputs`, write `{}: {fitting}`", wanted.name)),
                );
            }
            let Some((_, feeding, field)) = columns.iter().find(|(name, ..)| *name == wanted.name) else { continue };
            match fit(wanted, feeding, field, schema) {
                Ok(input) => bound.push(input),
                Err(problem) => problems.push(problem),
            }
        }
        bound
    }

    fn fit_outputs(&self, model: &ModelFacts, problems: &mut Vec<Problem>) -> Vec<(Output, Vec<String>)> {
        for (name, new) in self.outputs.iter().filter(|(name, _)| model.outputs.iter().all(|o| o.name != **name)) {
            let known = model.outputs.iter().map(|o| o.name.as_str());
            problems.push(Problem::at(new, format!("the model has no output `{name}`")).suggest(name, known));
        }
        let mut bound = Vec::new();
        for given in &model.outputs {
            let Some(new) = self.outputs.get(&given.name) else { continue };
            let columns: Vec<String> = names(new).into_iter().map(|n| n.value).collect();
            if given.element != FLOAT {
                let what = format!("the model's output `{}` is {}, and only {FLOAT} can be taken", given.name, given.element);
                problems.push(Problem::at(new, what));
            } else if given.width().is_some_and(|width| width != columns.len()) || given.dims.is_empty() {
                let width = given.width().unwrap_or_default();
                let what = format!("the model's output `{}` has {width} values a row, and {} named", given.name, are(columns.len()));
                problems.push(Problem::at(new, what).help(format!("its shape is {}", shape(&given.dims))));
            } else {
                bound.push((Output { name: given.name.clone(), width: columns.len() }, columns));
            }
        }
        bound
    }

    /// True where the model takes full batches only.
    fn batch_axis(&self, model: &ModelFacts, problems: &mut Vec<Problem>) -> bool {
        let fixed = |t: &Tensor| match t.dims.first() {
            Some(Extent::Fixed(n)) => Some(*n),
            _ => None,
        };
        let Some(rows) = model.inputs.iter().find_map(fixed) else { return false };
        if rows != *self.batch {
            problems.push(
                Problem::at(&self.batch, format!("the model takes {rows} rows at a time, no more and no less; `batch` is {}", self.batch.value))
                    .help(format!("write `batch: {rows}`, or export the model with a free batch axis")),
            );
        }
        true
    }
}

/// The names of an entry of `outputs`, each with its place.
fn names(new: &Placed<Names>) -> Vec<Placed<String>> {
    match &new.value {
        Names::One(name) => vec![Placed { value: name.clone(), place: new.place }],
        Names::Many(names) => names.clone(),
    }
}

/// Fits a column to an input of the model.
fn fit(wanted: &Tensor, feeding: &Feeding, field: &Field, schema: &Schema) -> Result<BoundInput, Problem> {
    let column = &feeding.column;
    if wanted.element != FLOAT {
        let what = format!("the model's input `{}` is {}, and calostream feeds {FLOAT}", wanted.name, wanted.element);
        return Err(Problem::at(column, what).help(format!("export the model with inputs of {FLOAT}")));
    }
    let Some(extents) = extents(field) else {
        let what = format!("column `{}` is {}, which is neither an image nor a number", column.value, field.data_type());
        return Err(Problem::at(column, what));
    };
    let Some(row) = row_shape(wanted.behind_batch(), &extents).filter(|_| !wanted.dims.is_empty()) else {
        let what = format!(
            "column `{}` holds {}, the model's input `{}` wants {}",
            column.value,
            in_words(&extents),
            wanted.name,
            shape(&wanted.dims)
        );
        let problem = Problem::at(column, what);
        return Err(match fitting(schema, wanted) {
            Some(other) => problem.help(format!("`{other}` has that shape")),
            None => problem,
        });
    };
    let values = hits::value_names(field);
    let value = match &feeding.value {
        None => 0,
        Some(name) => values.iter().position(|v| *v == name.value).ok_or_else(|| {
            Problem::at(name, format!("a hit of `{}` has no value `{}`", column.value, name.value))
                .suggest(name, values.iter().map(String::as_str))
        })?,
    };
    let factor = |f: &Option<Placed<f64>>| f.as_ref().map_or(1.0, |f| f.value as f32);
    let transform = Transform { scale: factor(&feeding.scale), divide: factor(&feeding.divide), norm: feeding.norm };
    Ok(BoundInput { input: Input { name: wanted.name.clone(), row }, column: column.value.clone(), value, transform })
}

/// The extents of a row of a column: none for a single number.
fn extents(field: &Field) -> Option<Vec<usize>> {
    match field.data_type() {
        DataType::List(_) | DataType::FixedSizeList(..) => hits::shape(field),
        DataType::Boolean => Some(Vec::new()),
        number if number.is_numeric() => Some(Vec::new()),
        _ => None,
    }
}

/// The row shape by which a model reads a column, which may have one more axis of length 1 (a channel) at either end.
fn row_shape(wanted: &[Extent], have: &[usize]) -> Option<Vec<usize>> {
    let same = |row: &[usize]| row.len() == wanted.len() && wanted.iter().zip(row).all(|(w, h)| *w == Extent::Fixed(*h) || matches!(w, Extent::Free(_)));
    let leading: Vec<usize> = [1].into_iter().chain(have.iter().copied()).collect();
    let trailing: Vec<usize> = have.iter().copied().chain([1]).collect();
    [have.to_vec(), leading, trailing].into_iter().find(|row| same(row))
}

/// A column that the input could read.
fn fitting<'a>(schema: &'a Schema, wanted: &Tensor) -> Option<&'a str> {
    let fits = |field: &&std::sync::Arc<Field>| extents(field).is_some_and(|e| !e.is_empty() && row_shape(wanted.behind_batch(), &e).is_some());
    schema.fields().iter().find(fits).map(|f| f.name().as_str())
}

fn loses_bits(field: &Field) -> bool {
    let value = match field.data_type() {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => fields.get(1).map(|f| f.data_type().clone()),
            _ => None,
        },
        DataType::FixedSizeList(item, _) => Some(item.data_type().clone()),
        _ => None,
    };
    value == Some(DataType::Float64)
}

fn shape(dims: &[Extent]) -> String {
    format!("({})", dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn in_words(extents: &[usize]) -> String {
    match extents {
        [] => "one number a row".into(),
        _ => format!("images of {}", extents.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ")),
    }
}

fn are(n: usize) -> String {
    if n == 1 { "1 column is".into() } else { format!("{n} columns are") }
}
