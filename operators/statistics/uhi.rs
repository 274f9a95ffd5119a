//! Histograms in the UHI serialization (schema 1): JSON that `hist` and `boost-histogram` load.
//!
//! The storage is `weighted` (sums of weights and of their squares), or that of a profile, always with all flow bins; what is NaN in
//! any coordinate is in no bin.

use crate::column::SAMPLE;
use crate::statistics::axis::Axis;
use serde_json::{Value, json};

/// One axis of a histogram.
#[derive(Debug, Clone)]
pub enum UhiAxis<'a> {
    /// Bins along a quantity: the axis, its name and its label.
    Bins(&'a Axis, &'a str, &'a str),
    /// Groups: the values, and the column that has them; the name of the axis of samples is `class`.
    Classes(&'a [String], &'a str),
}

impl UhiAxis<'_> {
    /// Numbers along this axis in the order of [`histogram`]'s arguments: the slots of an axis, or the classes.
    fn slots(&self) -> usize {
        match self {
            Self::Bins(axis, ..) => axis.slots(),
            Self::Classes(names, _) => names.len(),
        }
    }

    /// The slots that go into the file; none for the overflow of classes, where nothing can be.
    fn stored(&self) -> Vec<Option<usize>> {
        match self {
            Self::Bins(axis, ..) => (usize::from(axis.names().is_some())..axis.nan()).map(Some).collect(),
            Self::Classes(names, _) => (0..names.len()).map(Some).chain([None]).collect(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Bins(Axis::Regular { low, high, bins }, name, label) => json!({
                "type": "regular", "lower": low, "upper": high, "bins": bins,
                "underflow": true, "overflow": true, "circular": false, "metadata": { "name": name, "label": label },
            }),
            // As boost-histogram writes its axis of integers, which it makes of this again.
            Self::Bins(Axis::Integers { first, bins }, name, label) => json!({
                "type": "regular", "lower": first, "upper": first + i64::from(*bins), "bins": bins,
                "underflow": true, "overflow": true, "circular": false, "metadata": { "name": name, "label": label },
                "writer_info": { "boost-histogram": { "orig_type": "Integer" } },
            }),
            Self::Bins(Axis::Variable { edges }, name, label) => json!({
                "type": "variable", "edges": edges,
                "underflow": true, "overflow": true, "circular": false, "metadata": { "name": name, "label": label },
            }),
            Self::Bins(Axis::Texts { names }, name, label) => json!({
                "type": "category_str", "categories": names, "flow": true, "metadata": { "name": name, "label": label },
            }),
            Self::Bins(Axis::Numbers { values }, name, label) => json!({
                "type": "category_int", "categories": values, "flow": true, "metadata": { "name": name, "label": label },
            }),
            // `hist` keeps the name `sample` for itself.
            Self::Classes(names, label) => {
                let name = if *label == SAMPLE { "class" } else { label };
                json!({
                    "type": "category_str", "categories": names, "flow": true, "metadata": { "name": name, "label": label },
                })
            }
        }
    }
}

/// What the cells hold.
#[derive(Debug, Clone, Copy)]
pub enum Storage<'a> {
    /// Sums of weights, and of their squares.
    Weighted(&'a [f64], &'a [f64]),
    /// Of a profile of rows that count 1: rows, means, and variances normalised by rows less one.
    Mean([&'a [f64]; 3]),
    /// Of a profile of weighted rows: sums of weights, of their squares, means, and variances normalised by
    /// `sum w - sum w^2 / sum w`.
    WeightedMean([&'a [f64]; 4]),
}

/// The histogram whose cell `number` (slots of the axes, the last fastest) holds what stands in the storage under it.
#[must_use]
pub fn histogram(axes: &[UhiAxis<'_>], storage: Storage<'_>) -> Value {
    let all = |named: &[(&str, &[f64])], kind: &str| {
        let mut object = serde_json::Map::from_iter([("type".to_owned(), Value::from(kind))]);
        object.extend(named.iter().map(|(name, cells)| ((*name).to_owned(), nested(axes, cells, Some(0)))));
        Value::from(object)
    };
    let storage = match storage {
        Storage::Weighted(values, variances) => all(&[("values", values), ("variances", variances)], "weighted"),
        Storage::Mean([counts, values, variances]) => {
            all(&[("counts", counts), ("values", values), ("variances", variances)], "mean")
        }
        Storage::WeightedMean([w, w2, values, variances]) => {
            let named = [("sum_of_weights", w), ("sum_of_weights_squared", w2), ("values", values), ("variances", variances)];
            all(&named, "weighted_mean")
        }
    };
    json!({
        "uhi_schema": 1,
        "axes": axes.iter().map(UhiAxis::json).collect::<Vec<_>>(),
        "storage": storage,
        "metadata": {},
    })
}

/// Arrays in arrays, as JSON has no other way to say a shape.
fn nested(axes: &[UhiAxis<'_>], cells: &[f64], at: Option<usize>) -> Value {
    let Some((axis, inner)) = axes.split_first() else { return at.map_or(0.0, |number| cells[number]).into() };
    let number = |slot: Option<usize>| Some(at? * axis.slots() + slot?);
    axis.stored().into_iter().map(|slot| nested(inner, cells, number(slot))).collect()
}
