//! What a model reads: the dense batch buffer of one input, filled from hits, dense images or numbers.
//!
//! Invariants: a transform maps 0 to 0, so empty cells stay empty; values become `float32` with one rounding and are
//! transformed in `float32`, as numpy does with a `float32` array; a NaN goes through.

use crate::{Fault, hits};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float32Type};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// A non-linear normalisation of an input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// As it is.
    #[default]
    None,
    /// `x / (|x| + 2)`, which is `tanh(sign(x) * log(|x| + 1) / 2)`: the "NonLinear" normalisation of the LCD and LArTPC analyses.
    #[serde(alias = "nonlinear")]
    TanhLog,
}

/// What happens to a value on its way into a model: first the factor, then the divisor, then the norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transform {
    /// Multiplies.
    pub scale: f32,
    /// Divides. Not the same as a factor of the inverse: it is rounded once less.
    pub divide: f32,
    /// The normalisation at the end.
    pub norm: Norm,
}

impl Default for Transform {
    fn default() -> Self {
        Self { scale: 1.0, divide: 1.0, norm: Norm::None }
    }
}

impl Transform {
    fn apply(self, values: &mut [f32]) {
        let Self { scale, divide, norm } = self;
        if scale.to_bits() != 1f32.to_bits() {
            values.iter_mut().for_each(|v| *v *= scale);
        }
        if divide.to_bits() != 1f32.to_bits() {
            values.iter_mut().for_each(|v| *v /= divide);
        }
        match norm {
            Norm::None => (),
            Norm::TanhLog => values.iter_mut().for_each(|v| *v /= v.abs() + 2.0),
        }
    }
}

/// The batch buffer of one input.
#[derive(Debug)]
pub struct Feed {
    cells: usize,
    value: usize,
    transform: Transform,
    values: Vec<f32>,
}

impl Feed {
    /// A buffer for `batch` rows of `cells` values; `value` is the number of the value within a hit.
    #[must_use]
    pub fn new(batch: usize, cells: usize, value: usize, transform: Transform) -> Self {
        Self { cells, value, transform, values: vec![0.0; batch * cells] }
    }

    /// Puts the rows `first..first + rows` of a column that went through [`prepare`] at row `at` of the buffer.
    ///
    /// # Errors
    /// A hit that is not in the image.
    pub fn fill(&mut self, column: &dyn Array, first: usize, rows: usize, at: usize) -> Result<(), Fault> {
        let into = &mut self.values[at * self.cells..(at + rows) * self.cells];
        match column.as_primitive_opt::<Float32Type>() {
            Some(numbers) => into.copy_from_slice(&numbers.values()[first..first + rows]),
            None => {
                hits::to_dense(column, self.cells, self.value, first, rows, into)
                    .map_err(|e| Fault::content(format!("{e:#}")))?;
            }
        }
        self.transform.apply(into);
        Ok(())
    }

    /// Zeroes the rows `from..to`.
    pub fn pad(&mut self, from: usize, to: usize) {
        self.values[from * self.cells..to * self.cells].fill(0.0);
    }

    /// The first `rows` rows.
    #[must_use]
    pub fn rows(&self, rows: usize) -> &[f32] {
        &self.values[..rows * self.cells]
    }
}

/// The column with its values as `float32` (a null number is NaN); hits and dense images keep their form.
///
/// # Errors
/// The values are no numbers.
pub fn prepare(column: &ArrayRef) -> Result<ArrayRef, Fault> {
    let wanted = narrowed(column.data_type());
    let column = if wanted == *column.data_type() { column.clone() } else { cast(column, &wanted)? };
    match column.as_primitive_opt::<Float32Type>() {
        Some(numbers) if numbers.null_count() > 0 => {
            Ok(Arc::new(arrow::array::Float32Array::from_iter_values(numbers.iter().map(|v| v.unwrap_or(f32::NAN)))))
        }
        _ => Ok(column),
    }
}

fn narrowed(from: &DataType) -> DataType {
    let as_float = |f: &Arc<Field>| Arc::new(f.as_ref().clone().with_data_type(DataType::Float32));
    match from {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => {
                let fields = fields.iter().enumerate().map(|(i, f)| if i == 0 { f.clone() } else { as_float(f) });
                let hit = DataType::Struct(Fields::from_iter(fields));
                DataType::List(Arc::new(item.as_ref().clone().with_data_type(hit)))
            }
            _ => from.clone(),
        },
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(as_float(item), *length),
        _ => DataType::Float32,
    }
}
