//! What is lost when values of a column become those of a model: said before a run.

use crate::hits;
use crate::onnx::feed::What;
use crate::onnx::tensor::Element;
use arrow::datatypes::{DataType, Field};

/// What is lost when values of a column become those of a model, in words. Values that are `changed` are scaled or normalised before.
pub(super) fn loss(field: &Field, what: What, changed: bool, to: Element) -> Vec<String> {
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
        lost.push(", which can't say that a value is missing: where one is, its unit is quarantined".into());
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
