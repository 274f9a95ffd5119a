//! A model that takes hits in place of dense images: it makes its image itself, where it computes.
//!
//! In front of an image `X` of the model come `ConstantOfShape` (zeros), `ScatterElements` (the hits) and `Reshape`, and in place of `X`
//! it has the inputs `X/where/1` (places in the whole batch, int32), `X/values/1`, `X/cells/1` (how many cells the batch has) and
//! `X/shape/1`. So some 8 bytes a hit go to a device and not 4 a cell. A cell has one hit at most, so nothing depends on the order in
//! which a device writes; cells without a hit are +0, as in the dense buffer: the model sees the same bits.

use super::graph::{Graph, input, node, zero};
use super::tensor::Element;
use anyhow::ensure;

/// `ScatterElements` is in the standard operators from this version on.
pub const OPSET: i64 = 11;

/// The inputs that stand for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scattered {
    /// Places in the whole batch.
    pub places: String,
    /// Values at these places.
    pub values: String,
    /// The cells of the whole batch.
    pub cells: String,
    /// The shape of the whole batch.
    pub shape: String,
}

/// The model with hits in place of these images (name, type, and extents of a row), and the inputs that stand for each.
///
/// # Errors
/// A sentence: why it can't be done with this model.
pub fn in_front(bytes: &[u8], images: &[(&str, Element, &[usize])]) -> anyhow::Result<(Vec<u8>, Vec<Scattered>)> {
    let mut graph = Graph::read(bytes)?;
    ensure!(graph.opset >= OPSET, "it is of opset {}, and what makes an image of hits is there from {OPSET} on", graph.opset);
    let (mut front, mut made) = (Vec::new(), Vec::new());
    for (name, element, row) in images {
        ensure!(graph.inputs.iter().any(|(known, _)| known == name), "it has no input `{name}`");
        ensure!(!graph.outputs.contains(name), "its input `{name}` is an output, too");
        let new = |what: &str| graph.free_name(&format!("{name}/{what}"));
        let of = Scattered { places: new("where"), values: new("values"), cells: new("cells"), shape: new("shape") };
        let (zeros, flat) = (new("zeros"), new("flat"));
        for (input_name, of, axis, row) in [
            (&of.places, Element::I32, "hits", &[][..]),
            (&of.values, *element, "hits", &[]),
            (&of.cells, Element::I64, "one", &[]),
            (&of.shape, Element::I64, "axes", &[]),
        ] {
            front.extend(input(input_name, of, &format!("{name}/{axis}"), row));
        }
        front.extend(node("ConstantOfShape", &[&of.cells], &zeros, &[zero("value", *element, element.bytes())]));
        front.extend(node("ScatterElements", &[&zeros, &of.places, &of.values], &flat, &[]));
        front.extend(node("Reshape", &[&flat, &of.shape], name, &[]));
        ensure!(row.iter().product::<usize>() > 0, "its input `{name}` has no cells");
        made.push(of);
    }
    graph.inputs.retain(|(known, _)| images.iter().all(|(name, ..)| known != name));
    Ok((graph.write(&front), made))
}
