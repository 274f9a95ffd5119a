//! Values on their way into a model and out of it, by the type that the model declares.
//!
//! Inputs are prepared in the widest type of their kind: `f32` for models that compute in `f32` or less, `f64`, `i64`, or `u64` for
//! `uint64`; truth values in `f64`, where all that is not 0 is true. What the model declares is made of that, value by value, when a
//! batch is run. Outputs come as `f32`, `f64`, or `i64` for integers and truth values.

use super::memory::{Pinned, tensor};
use anyhow::{Context, bail};
use half::f16;
use ort::session::SessionInputValue;
use ort::value::{DynValue, Tensor, TensorElementType, TensorRef};

/// The type of a model's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Element {
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Bool,
}

/// Every type with its name in ONNX and numpy.
const NAMES: [(Element, &str); 12] = [
    (Element::F16, "float16"),
    (Element::F32, "float32"),
    (Element::F64, "float64"),
    (Element::I8, "int8"),
    (Element::I16, "int16"),
    (Element::I32, "int32"),
    (Element::I64, "int64"),
    (Element::U8, "uint8"),
    (Element::U16, "uint16"),
    (Element::U32, "uint32"),
    (Element::U64, "uint64"),
    (Element::Bool, "bool"),
];

/// The type in which the values of an input are prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Prepare {
    F32,
    F64,
    I64,
    U64,
    /// In `f64`, for truth values.
    Truth,
}

impl Prepare {
    /// In words, where it has no NaN and so nothing that says that a value is missing.
    #[must_use]
    pub fn without_nan(self) -> Option<&'static str> {
        match self {
            Self::F32 | Self::F64 => None,
            Self::I64 | Self::U64 => Some("integers"),
            Self::Truth => Some("truth values"),
        }
    }
}

impl Element {
    /// The type of this name; none where calostream has no such values.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(element, _)| *element)
    }

    /// Its name in ONNX and numpy.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(element, _)| *element == self).map_or("", |(_, name)| name)
    }

    /// The type in which values are prepared.
    #[must_use]
    pub fn prepared(self) -> Prepare {
        match self {
            Self::F16 | Self::F32 => Prepare::F32,
            Self::F64 => Prepare::F64,
            Self::U64 => Prepare::U64,
            Self::Bool => Prepare::Truth,
            _ => Prepare::I64,
        }
    }

    /// True for a type with integers below 0.
    #[must_use]
    pub fn is_signed(self) -> bool {
        matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64)
    }

    /// Integers up to this are exact in it, as a power of two; and the bits of its significand, for reals.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::F16 => 11,
            Self::F32 => 24,
            Self::F64 => 53,
            Self::I8 => 7,
            Self::U8 => 8,
            Self::I16 => 15,
            Self::U16 => 16,
            Self::I32 => 31,
            Self::U32 => 32,
            Self::I64 => 63,
            Self::U64 => 64,
            Self::Bool => 1,
        }
    }

    /// Bytes of a value.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// True for a type with fractions.
    #[must_use]
    pub fn is_real(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }

    pub(super) fn of(of: TensorElementType) -> Option<Self> {
        Some(match of {
            TensorElementType::Float16 => Self::F16,
            TensorElementType::Float32 => Self::F32,
            TensorElementType::Float64 => Self::F64,
            TensorElementType::Int8 => Self::I8,
            TensorElementType::Int16 => Self::I16,
            TensorElementType::Int32 => Self::I32,
            TensorElementType::Int64 => Self::I64,
            TensorElementType::Uint8 => Self::U8,
            TensorElementType::Uint16 => Self::U16,
            TensorElementType::Uint32 => Self::U32,
            TensorElementType::Uint64 => Self::U64,
            TensorElementType::Bool => Self::Bool,
            _ => return None,
        })
    }
}

/// Prepared values of one input.
#[derive(Debug, Clone, Copy)]
pub enum Fed<'a> {
    /// For models of `f32` or less.
    F32(&'a [f32]),
    /// For `f64` and truth values.
    F64(&'a [f64]),
    /// For integers.
    I64(&'a [i64]),
    /// For `uint64`.
    U64(&'a [u64]),
    /// Hits, for models that take them so.
    Hits(FedHits<'a>),
}

/// The hits of some rows.
#[derive(Debug, Clone, Copy)]
pub struct FedHits<'a> {
    /// Where the hits of row `i` begin and end: at `ends[i]` and `ends[i + 1]`; one more than there are rows.
    pub ends: &'a [usize],
    /// The cells of all hits, each within its row.
    pub cells: &'a [u32],
    /// The values of all hits.
    pub values: &'a [f32],
}

/// What a model gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Of `float16` (exactly) and `float32`.
    F32(Vec<f32>),
    /// Of `float64`.
    F64(Vec<f64>),
    /// Of integers, and 0 or 1 of truth values.
    I64(Vec<i64>),
}

impl Values {
    /// `length` zeros as an output of this type comes.
    #[must_use]
    pub fn zeros(of: Element, length: usize) -> Self {
        match of {
            Element::F16 | Element::F32 => Self::F32(vec![0.0; length]),
            Element::F64 => Self::F64(vec![0.0; length]),
            _ => Self::I64(vec![0; length]),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::I64(v) => v.len(),
        }
    }

    /// How many bytes they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len() * if matches!(self, Self::F32(_)) { 4 } else { 8 }
    }

    /// True where there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets them, and keeps the room.
    pub fn clear(&mut self) {
        match self {
            Self::F32(v) => v.clear(),
            Self::F64(v) => v.clear(),
            Self::I64(v) => v.clear(),
        }
    }

    /// Puts `count` of the values `from`, beginning with number `first`, at number `at`.
    pub fn put(&mut self, at: usize, from: &Self, first: usize, count: usize) {
        match (self, from) {
            (Self::F32(to), Self::F32(from)) => to[at..at + count].copy_from_slice(&from[first..first + count]),
            (Self::F64(to), Self::F64(from)) => to[at..at + count].copy_from_slice(&from[first..first + count]),
            (Self::I64(to), Self::I64(from)) => to[at..at + count].copy_from_slice(&from[first..first + count]),
            _ => debug_assert!(false, "an output has one type"),
        }
    }

    /// Appends what an output holds.
    pub(super) fn take(&mut self, of: Element, value: &DynValue) -> anyhow::Result<()> {
        macro_rules! append {
            ($to:ident, $from:ty, $each:expr) => {
                $to.extend(value.try_extract_tensor::<$from>()?.1.iter().map($each))
            };
        }
        match (self, of) {
            (Self::F32(to), Element::F32) => to.extend_from_slice(value.try_extract_tensor::<f32>()?.1),
            (Self::F32(to), Element::F16) => append!(to, f16, |v| v.to_f32()),
            (Self::F64(to), Element::F64) => to.extend_from_slice(value.try_extract_tensor::<f64>()?.1),
            (Self::I64(to), Element::I64) => to.extend_from_slice(value.try_extract_tensor::<i64>()?.1),
            (Self::I64(to), Element::I32) => append!(to, i32, |v| i64::from(*v)),
            (Self::I64(to), Element::I16) => append!(to, i16, |v| i64::from(*v)),
            (Self::I64(to), Element::I8) => append!(to, i8, |v| i64::from(*v)),
            (Self::I64(to), Element::U32) => append!(to, u32, |v| i64::from(*v)),
            (Self::I64(to), Element::U16) => append!(to, u16, |v| i64::from(*v)),
            (Self::I64(to), Element::U8) => append!(to, u8, |v| i64::from(*v)),
            (Self::I64(to), Element::Bool) => append!(to, bool, |v| i64::from(*v)),
            (Self::I64(to), Element::U64) => {
                for value in value.try_extract_tensor::<u64>()?.1 {
                    to.push(i64::try_from(*value).context("an output of uint64 does not fit into int64")?);
                }
            }
            _ => bail!("an output is not {}, as the model said", of.name()),
        }
        Ok(())
    }
}

/// The tensors of hits, for a model that makes its image of them: places in the whole batch, values, the number of cells, and the
/// shape.
pub(super) fn scattered<'a>(
    to: Element,
    row: &[usize],
    hits: FedHits<'_>,
    pinned: Option<&Pinned>,
) -> anyhow::Result<[SessionInputValue<'a>; 4]> {
    let rows = hits.ends.len().saturating_sub(1);
    let cells: usize = row.iter().product();
    i32::try_from(rows * cells).context("a batch of more than 2^31 cells")?;
    let (first, last) = (hits.ends.first().copied().unwrap_or(0), hits.ends.last().copied().unwrap_or(0));
    let places = hits.ends.windows(2).enumerate().flat_map(|(number, of)| {
        let before = (number * cells) as u32;
        hits.cells[of[0]..of[1]].iter().map(move |cell| (before + cell) as i32)
    });
    let values = &hits.values[first..last];
    let count = vec![values.len()];
    let places = tensor(count.clone(), places, pinned)?;
    let values: SessionInputValue<'a> = match to {
        Element::F32 => tensor(count, values.iter().copied(), pinned)?.into(),
        Element::F16 => tensor(count, values.iter().map(|v| f16::from_f32(*v)), pinned)?.into(),
        other => bail!("hits for a model of {}", other.name()),
    };
    let shape: Vec<i64> = [rows].iter().chain(row).map(|n| *n as i64).collect();
    Ok([
        places.into(),
        values,
        Tensor::from_array((vec![1], vec![(rows * cells) as i64]))?.into(),
        Tensor::from_array((vec![shape.len()], shape))?.into(),
    ])
}

/// The tensor that a model gets: in place where the types agree, else converted. Reals that become integers lose their
/// fraction, as in C and numpy; beyond the ends they are the ends. (What has no NaN gets none: [`super::ready`].)
pub(super) fn given<'a>(
    to: Element,
    shape: Vec<usize>,
    fed: Fed<'a>,
    pinned: Option<&Pinned>,
) -> anyhow::Result<SessionInputValue<'a>> {
    macro_rules! each {
        ($of:expr, $convert:expr) => {
            tensor(shape, $of.iter().map($convert), pinned)?.into()
        };
    }
    macro_rules! integer {
        ($integer:ident) => {
            match fed {
                Fed::F32(of) => each!(of, |v| *v as $integer),
                Fed::F64(of) => each!(of, |v| *v as $integer),
                Fed::I64(of) => {
                    each!(of, |v| $integer::try_from(*v).unwrap_or(if *v < 0 { $integer::MIN } else { $integer::MAX }))
                }
                Fed::U64(of) => each!(of, |v| $integer::try_from(*v).unwrap_or($integer::MAX)),
                Fed::Hits(_) => bail!("hits for a model that takes dense values"),
            }
        };
    }
    Ok(match (to, fed) {
        (Element::F32, Fed::F32(of)) => TensorRef::from_array_view((shape, of))?.into(),
        (Element::F64, Fed::F64(of)) => TensorRef::from_array_view((shape, of))?.into(),
        (Element::I64, Fed::I64(of)) => TensorRef::from_array_view((shape, of))?.into(),
        (Element::U64, Fed::U64(of)) => TensorRef::from_array_view((shape, of))?.into(),
        (Element::F16, Fed::F32(of)) => each!(of, |v| f16::from_f32(*v)),
        (Element::F16, Fed::F64(of)) => each!(of, |v| f16::from_f64(*v)),
        (Element::F32, Fed::F64(of)) => each!(of, |v| *v as f32),
        (Element::F64, Fed::F32(of)) => each!(of, |v| f64::from(*v)),
        (Element::Bool, Fed::F32(of)) => each!(of, |v| *v != 0.0),
        (Element::Bool, Fed::F64(of)) => each!(of, |v| *v != 0.0),
        (Element::I8, _) => integer!(i8),
        (Element::I16, _) => integer!(i16),
        (Element::I32, _) => integer!(i32),
        (Element::I64, _) => integer!(i64),
        (Element::U8, _) => integer!(u8),
        (Element::U16, _) => integer!(u16),
        (Element::U32, _) => integer!(u32),
        (Element::U64, _) => integer!(u64),
        (_, _) => bail!("values for a model of {} were prepared in another type", to.name()),
    })
}
