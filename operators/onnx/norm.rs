//! What happens to a value on its way into a model: scaled, divided, then normalised.
//!
//! Invariant: values are transformed in the type in which they are prepared (`f32` or `f64`; integers in `f64`), each operation rounded
//! once, as numpy does with an array of that type; quantile tables are looked up in `f64`. A NaN goes through.

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType, ArrowPrimitiveType, DataType, Float32Type, Float64Type, Int64Type, UInt64Type};
use serde::Deserialize;
use statrs::distribution::{ContinuousCDF, Normal};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How many standard deviations the ends of a quantile table become where the output is normal: scikit-learn's
/// `QuantileTransformer` clips there, too (the quantiles of 1e-7 and 1 - 1e-7).
const CLIP: f64 = 1e-7;

/// A type in which values are prepared.
pub trait Real: ArrowNativeType + PartialEq {
    /// The Arrow type.
    type Arrow: ArrowPrimitiveType<Native = Self>;
    /// Rounded once; integers are cut towards 0, and beyond their ends they are the ends.
    fn of(x: f64) -> Self;
    /// The values of a column of integers in this type, where it is one of integers: exactly, or the ends.
    ///
    /// # Errors
    /// Arrow fails.
    fn whole(_: &ArrayRef) -> anyhow::Result<Option<PrimitiveArray<Self::Arrow>>> {
        Ok(None)
    }
    /// Scales, divides and normalises.
    fn transform(transform: &Transform, values: &mut [Self]);
}

macro_rules! real {
    ($real:ident, $arrow:ident) => {
        impl Real for $real {
            type Arrow = $arrow;
            fn of(x: f64) -> Self {
                x as $real
            }
            fn transform(transform: &Transform, values: &mut [Self]) {
                let (scale, divide) = (transform.scale as $real, transform.divide as $real);
                if scale.to_bits() != (1.0 as $real).to_bits() {
                    values.iter_mut().for_each(|v| *v *= scale);
                }
                if divide.to_bits() != (1.0 as $real).to_bits() {
                    values.iter_mut().for_each(|v| *v /= divide);
                }
                match &transform.norm {
                    Norm::None => (),
                    Norm::TanhLog => values.iter_mut().for_each(|v| *v /= v.abs() + 2.0),
                    Norm::Log => values.iter_mut().for_each(|v| *v = v.abs().ln_1p().copysign(*v)),
                    Norm::Robust { center, scale } => {
                        let (center, scale) = (*center as $real, *scale as $real);
                        values.iter_mut().for_each(|v| *v = (*v - center) / scale);
                    }
                    Norm::Quantile(table) => values.iter_mut().for_each(|v| *v = table.at(f64::from(*v)) as $real),
                }
            }
        }
    };
}
real!(f32, Float32Type);
real!(f64, Float64Type);

macro_rules! integer {
    ($integer:ident, $arrow:ident, $other:ident, $of_other:expr) => {
        impl Real for $integer {
            type Arrow = $arrow;
            fn of(x: f64) -> Self {
                x as $integer
            }
            fn whole(column: &ArrayRef) -> anyhow::Result<Option<PrimitiveArray<$arrow>>> {
                // Of all types of integers, one of the two holds them all.
                let of = column.data_type();
                if !of.is_integer() && *of != DataType::Boolean {
                    return Ok(None);
                }
                let by_itself =
                    if $arrow::DATA_TYPE == DataType::UInt64 { of.is_unsigned_integer() } else { *of != DataType::UInt64 };
                if by_itself {
                    return Ok(Some(cast(column, &$arrow::DATA_TYPE)?.as_primitive::<$arrow>().clone()));
                }
                let other = cast(column, &$other::DATA_TYPE)?;
                Ok(Some(other.as_primitive::<$other>().unary($of_other)))
            }
            fn transform(transform: &Transform, values: &mut [Self]) {
                for value in values {
                    let mut wide = [*value as f64];
                    f64::transform(transform, &mut wide);
                    *value = Self::of(wide[0]);
                }
            }
        }
    };
}
integer!(i64, Int64Type, UInt64Type, |v| i64::try_from(v).unwrap_or(i64::MAX));
integer!(u64, UInt64Type, Int64Type, |v| u64::try_from(v).unwrap_or(0));

/// A normalisation.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Norm {
    /// As it is.
    #[default]
    None,
    /// `x / (|x| + 2)`, which is `tanh(sign(x) * log(|x| + 1) / 2)`: the "NonLinear" normalisation of the LCD and LArTPC analyses.
    TanhLog,
    /// `sign(x) * log(|x| + 1)`.
    Log,
    /// `(x - center) / scale`: scikit-learn's `RobustScaler` and `StandardScaler`.
    Robust {
        /// The median, say.
        center: f64,
        /// The distance of two quantiles, say.
        scale: f64,
    },
    /// By quantiles.
    Quantile(Arc<Quantiles>),
}

/// What happens to a value: first the factor, then the divisor, then the norm.
#[derive(Debug, Clone, PartialEq)]
pub struct Transform {
    /// Multiplies.
    pub scale: f64,
    /// Divides. Not the same as a factor of the inverse: it is rounded once less.
    pub divide: f64,
    /// The normalisation at the end.
    pub norm: Norm,
}

impl Default for Transform {
    fn default() -> Self {
        Self { scale: 1.0, divide: 1.0, norm: Norm::None }
    }
}

impl Transform {
    /// What an empty cell becomes.
    #[must_use]
    pub fn of_nothing<R: Real>(&self) -> R {
        let mut nothing = [R::default()];
        R::transform(self, &mut nothing);
        nothing[0]
    }

    /// True where values stay as they are.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// In words, for the record of a run: `/ 150, x / (|x| + 2)`; nothing where values stay as they are.
impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if self.scale.to_bits() != 1f64.to_bits() {
            words.push(format!("* {}", self.scale));
        }
        if self.divide.to_bits() != 1f64.to_bits() {
            words.push(format!("/ {}", self.divide));
        }
        match &self.norm {
            Norm::None => {}
            Norm::TanhLog => words.push("x / (|x| + 2)".into()),
            Norm::Log => words.push("sign(x) log(|x| + 1)".into()),
            Norm::Robust { center, scale } => words.push(format!("(x - {center}) / {scale}")),
            Norm::Quantile(table) => {
                let to = if table.normal { "a normal distribution" } else { "[0, 1]" };
                words.push(format!("{} quantiles to {to}", table.quantiles.len()));
            }
        }
        f.write_str(&words.join(", "))
    }
}

/// The quantiles of a distribution at equal steps, by which it becomes uniform or normal.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantiles {
    /// Ascending, two at least.
    quantiles: Vec<f64>,
    /// To a normal distribution, not to a uniform one.
    normal: bool,
}

impl Quantiles {
    /// As scikit-learn's `QuantileTransformer`: linear between the quantiles; where many quantiles are equal, the middle of
    /// their steps.
    fn at(&self, x: f64) -> f64 {
        let q = &self.quantiles;
        if x.is_nan() {
            return x;
        }
        let steps = (q.len() - 1) as f64;
        // The first quantile above x, and the first that is not below.
        let (above, from) = (q.partition_point(|q| *q <= x), q.partition_point(|q| *q < x));
        let p = if from == q.len() {
            1.0
        } else if above == 0 {
            0.0
        } else if above == from {
            let (low, high) = (q[from - 1], q[from]);
            ((from - 1) as f64 + (x - low) / (high - low)) / steps
        } else if from == 0 {
            // At the ends, scikit-learn takes the end itself.
            0.0
        } else if above == q.len() {
            1.0
        } else {
            (from as f64 + (above - 1) as f64) / 2.0 / steps
        };
        if !self.normal {
            return p;
        }
        Normal::standard().inverse_cdf(p.clamp(CLIP, 1.0 - CLIP))
    }
}

/// The tables of a file: for each column its own.
///
/// `{ "pt": { "center": 31.2, "scale": 12.5 }, "eta": { "quantiles": [-2.5, .., 2.5], "output": "normal" } }`
#[derive(Debug, Clone, Deserialize)]
pub struct Tables(BTreeMap<String, Table>);

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Table {
    Robust {
        center: f64,
        scale: f64,
    },
    Quantile {
        quantiles: Vec<f64>,
        #[serde(default)]
        output: Distribution,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Distribution {
    #[default]
    Uniform,
    Normal,
}

impl Tables {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// It is no such table.
    pub fn read(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|e| {
            let wanted = "{ \"COLUMN\": { \"center\": 1.5, \"scale\": 2 } }, or { \"COLUMN\": { \"quantiles\": [0, 1, 3], \"output\": \"normal\" } }";
            format!("is no table of normalisations ({e}); it holds {wanted}")
        })
    }

    /// The columns that it knows.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The normalisation of a column; none where the file has none.
    ///
    /// # Errors
    /// It is not one.
    pub fn norm(&self, column: &str) -> Result<Option<Norm>, String> {
        match self.0.get(column) {
            None => Ok(None),
            Some(Table::Robust { center, scale }) => {
                if !center.is_finite() || !scale.is_finite() || *scale == 0.0 {
                    return Err(format!(
                        "the scale {scale} of `{column}` (about {center}) is no scale: a finite number other than 0 is"
                    ));
                }
                Ok(Some(Norm::Robust { center: *center, scale: *scale }))
            }
            Some(Table::Quantile { quantiles, output }) => {
                if quantiles.len() < 2 || !quantiles.is_sorted() || quantiles.iter().any(|q| !q.is_finite()) {
                    return Err(format!("the quantiles of `{column}` are not two or more finite numbers in ascending order"));
                }
                let normal = *output == Distribution::Normal;
                Ok(Some(Norm::Quantile(Arc::new(Quantiles { quantiles: quantiles.clone(), normal }))))
            }
        }
    }
}
