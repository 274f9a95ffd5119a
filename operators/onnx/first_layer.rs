//! The first layer of a dense network, taken out of the model, so that it can be computed from hits.
//!
//! Where all images go flat, side by side, into one product with a matrix of weights, most of what is multiplied are zeros: the product over
//! hits alone is the same up to the order of the sum. Found are `Gemm` and `MatMul` of float32 behind `Flatten`, `Reshape` to two axes,
//! `Identity` and `Concat`; what stands behind the layer stays a model, which takes the layer's values as its only input.

use super::graph::{self, Graph, Node};
use super::tensor::Element;
use anyhow::ensure;

/// The first layer, and what stands behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstLayer {
    /// For each input of the model its first row in `weights`: they follow one another, however the model has put them side by side.
    pub offsets: Vec<usize>,
    /// How many values it gives.
    pub width: usize,
    /// A row of `width` weights for each cell of the inputs.
    pub weights: Vec<f32>,
    /// What is added to each value; none for a product alone.
    pub bias: Option<Vec<f32>>,
    /// The rest of the model.
    pub rest: Vec<u8>,
    /// Its input, which is (N, `width`).
    pub name: String,
}

/// The first layer of a model with these inputs (name, and extents of a row); none where it has no such.
///
/// # Errors
/// The model can't be cut open.
pub fn find(bytes: &[u8], inputs: &[(&str, &[usize])]) -> anyhow::Result<Option<FirstLayer>> {
    let graph = Graph::read(bytes)?;
    ensure!(graph.is_sorted(), "its nodes stand in no order");
    for (number, node) in graph.nodes.iter().enumerate() {
        let [of, weights, ..] = node.inputs[..] else { continue };
        if !(node.is("Gemm") || node.is("MatMul")) || node.outputs.len() != 1 {
            continue;
        }
        let Some((parts, true)) = trace(&graph, of, inputs)? else { continue };
        let Some(mut layer) = layer(&graph, node, weights)? else { continue };
        let cells = |input: usize| inputs[input].1.iter().product::<usize>();
        let (mut first, mut offsets) = (0, vec![None; inputs.len()]);
        for part in parts {
            if offsets[part].replace(first).is_some() {
                return Ok(None);
            }
            first += cells(part);
        }
        let Some(offsets) = offsets.into_iter().collect::<Option<Vec<_>>>() else { continue };
        if layer.weights.len() != first * layer.width || graph.outputs.contains(&node.outputs[0]) {
            continue;
        }
        let mut rest = graph.clone();
        rest.nodes.remove(number);
        rest.prune();
        if rest.inputs.iter().any(|(name, _)| inputs.iter().any(|(input, _)| input == name)) {
            continue;
        }
        node.outputs[0].clone_into(&mut layer.name);
        layer.rest = rest.write(&graph::input(&layer.name, Element::F32, "events", &[layer.width]));
        let mut ordered = Vec::with_capacity(layer.weights.len());
        for (input, from) in offsets.into_iter().enumerate() {
            layer.offsets.push(ordered.len() / layer.width.max(1));
            ordered.extend_from_slice(&layer.weights[from * layer.width..(from + cells(input)) * layer.width]);
        }
        layer.weights = ordered;
        return Ok(Some(layer));
    }
    Ok(None)
}

/// The inputs that a value is made of, side by side, and whether it is flat; none where it is made otherwise.
fn trace(graph: &Graph<'_>, value: &str, inputs: &[(&str, &[usize])]) -> anyhow::Result<Option<(Vec<usize>, bool)>> {
    if let Some(input) = inputs.iter().position(|(name, _)| *name == value) {
        return Ok(Some((vec![input], inputs[input].1.len() == 1)));
    }
    let Some(node) = graph.maker(value) else { return Ok(None) };
    let first = || node.inputs.first().copied().unwrap_or_default();
    if node.is("Identity") {
        return trace(graph, first(), inputs);
    }
    let flat = if node.is("Flatten") {
        node.integer("axis")?.unwrap_or(1) == 1
    } else if node.is("Reshape") {
        let shape = graph.integers(node.inputs.get(1).copied().unwrap_or_default())?;
        let of = trace(graph, first(), inputs)?
            .map(|(parts, _)| parts.iter().map(|p| inputs[*p].1.iter().product::<usize>()).sum::<usize>());
        match (shape.as_deref(), of) {
            (Some([0, -1]), _) => true,
            (Some([0 | -1, n]), Some(cells)) => usize::try_from(*n) == Ok(cells),
            _ => false,
        }
    } else {
        if !node.is("Concat") || !matches!(node.integer("axis")?, Some(1 | -1)) {
            return Ok(None);
        }
        let mut all = Vec::new();
        for part in &node.inputs {
            match trace(graph, part, inputs)? {
                Some((parts, true)) => all.extend(parts),
                _ => return Ok(None),
            }
        }
        return Ok(Some((all, true)));
    };
    Ok(if flat { trace(graph, first(), inputs)?.map(|(parts, _)| (parts, true)) } else { None })
}

/// The weights of a layer; none where they are no constants of float32, or the product is of another kind.
fn layer(graph: &Graph<'_>, node: &Node<'_>, weights: &str) -> anyhow::Result<Option<FirstLayer>> {
    let Some((dims, mut weights)) = graph.floats(weights)? else { return Ok(None) };
    let [rows, columns] = dims[..] else { return Ok(None) };
    let (rows, columns) = (usize::try_from(rows)?, usize::try_from(columns)?);
    let is_one = |value: Option<f32>| value.is_none_or(|v| v.to_bits() == 1f32.to_bits());
    let mut width = columns;
    let mut bias = None;
    if node.is("Gemm") {
        if node.integer("transA")?.unwrap_or(0) != 0 || !is_one(node.real("alpha")?) || !is_one(node.real("beta")?) {
            return Ok(None);
        }
        if node.integer("transB")?.unwrap_or(0) != 0 {
            weights = (0..columns).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| weights[r * columns + c]).collect();
            width = rows;
        }
        if let Some(name) = node.inputs.get(2).filter(|name| !name.is_empty()) {
            match graph.floats(name)? {
                Some((dims, values)) if matches!(dims[..], [_] | [1, _]) && values.len() == width => bias = Some(values),
                _ => return Ok(None),
            }
        }
    }
    Ok(Some(FirstLayer { offsets: Vec::new(), width, weights, bias, rest: Vec::new(), name: String::new() }))
}
