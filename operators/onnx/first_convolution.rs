//! The first convolutions of a network, taken out of the model, so that they can be computed from hits ([`super::convolution`]).
//!
//! Found are `Conv` of float32 (finite weights, strides and dilations 1, one group) of one image that comes from an input through nothing but
//! `Identity`, `Unsqueeze`, `Squeeze`, `Transpose`, a `Reshape` that only adds or takes away axes of length 1, and what changes each value by
//! itself (`Mul`, `Div`, `Add`, `Sub` with a number, `Relu`, `Sqrt`, `Log`) and leaves 0 where it is. Behind it, `Relu`, `LeakyRelu` and
//! `MaxPool` are taken along where nothing else reads what stands between.
//! What remains is a model that takes the values of these layers as inputs, and the images where something else reads them.

use super::convolution::{Activation, Convolution, LONGEST, Parts, Pool};
use super::graph::{self, Graph, Node};
use super::model::{self, Convolved, ModelFacts};
use super::tensor::Element;
use super::view::View;
use anyhow::{Context, ensure};

/// A convolution that was taken out.
#[derive(Debug)]
pub struct Layer {
    /// The number of the input that it reads.
    pub input: usize,
    /// The name of what it gives.
    pub name: String,
    /// The extents of that for an event.
    pub row: Vec<usize>,
    /// What computes it.
    pub convolution: Convolution,
    /// The node that makes it, by number.
    last: usize,
}

/// The inputs of a model (name, and extents of a row) of which convolutions can be taken out.
///
/// # Errors
/// The model can't be cut open.
pub fn find(bytes: &[u8], inputs: &[(&str, &[usize])]) -> anyhow::Result<Vec<Convolved>> {
    let graph = Graph::read(bytes)?;
    ensure!(graph.is_sorted(), "its nodes stand in no order");
    let layers = layers(&graph, inputs)?;
    let mut found = Vec::new();
    for (input, (name, _)) in inputs.iter().enumerate() {
        let of_input: Vec<&Layer> = layers.iter().filter(|layer| layer.input == input).collect();
        if !of_input.is_empty() {
            let width = of_input.iter().map(|layer| layer.convolution.width()).sum();
            let read_again = without(&graph, &of_input, inputs).inputs.iter().any(|(other, _)| other == name);
            found.push(Convolved { input, width, read_again });
        }
    }
    Ok(found)
}

/// Takes the first convolutions of these inputs out of a model; what remains takes the layers' values as further inputs.
fn take(bytes: &[u8], inputs: &[(&str, &[usize])], of: &[usize]) -> anyhow::Result<(Vec<Layer>, Vec<u8>)> {
    let graph = Graph::read(bytes)?;
    let mut layers = layers(&graph, inputs)?;
    layers.retain(|layer| of.contains(&layer.input));
    let mut front = Vec::new();
    for layer in &layers {
        front.extend(graph::input(&layer.name, Element::F32, "events", &layer.row));
    }
    let rest = without(&graph, &layers.iter().collect::<Vec<_>>(), inputs).write(&front);
    Ok((layers, rest))
}

/// Of a model file, which must still be the one of `facts`.
///
/// # Errors
/// It is gone or has changed.
pub fn open(path: &str, facts: &ModelFacts, of: &[&str]) -> anyhow::Result<(Vec<Layer>, Vec<u8>)> {
    let rows: Option<Vec<_>> = facts.inputs.iter().map(|input| Some((input.name.as_str(), input.row()?))).collect();
    let rows = rows.with_context(|| format!("`{path}` has an input of any extent"))?;
    let inputs: Vec<(&str, &[usize])> = rows.iter().map(|(name, row)| (*name, row.as_slice())).collect();
    let of: Vec<usize> = (0..inputs.len()).filter(|input| of.contains(&inputs[*input].0)).collect();
    take(&model::read_again(path, facts)?, &inputs, &of)
}

/// The rest of a model. Inputs that were convolved and that nothing else reads are gone; all others stay, since they are fed.
fn without<'a>(graph: &Graph<'a>, layers: &[&Layer], inputs: &[(&str, &[usize])]) -> Graph<'a> {
    let mut rest = graph.clone();
    let mut number = 0;
    rest.nodes.retain(|_| {
        number += 1;
        layers.iter().all(|layer| layer.last != number - 1)
    });
    rest.prune();
    let kept: Vec<&str> = rest.inputs.iter().map(|(name, _)| *name).collect();
    let fed = |name: &str| inputs.iter().position(|(input, _)| *input == name);
    let stays = |name: &str| fed(name).is_some_and(|input| layers.iter().all(|layer| layer.input != input));
    rest.inputs.extend(graph.inputs.iter().filter(|(name, _)| !kept.contains(name) && stays(name)));
    rest
}

fn layers(graph: &Graph<'_>, inputs: &[(&str, &[usize])]) -> anyhow::Result<Vec<Layer>> {
    let mut layers = Vec::new();
    for (number, node) in graph.nodes.iter().enumerate().filter(|(_, node)| node.is("Conv")) {
        layers.extend(layer(graph, (number, node), inputs)?);
    }
    Ok(layers)
}

fn layer(graph: &Graph<'_>, (number, node): (usize, &Node<'_>), inputs: &[(&str, &[usize])]) -> anyhow::Result<Option<Layer>> {
    let ([of, weights], &[output]) = (&node.inputs[..node.inputs.len().min(2)], &node.outputs[..]) else { return Ok(None) };
    let Some((dims, weights)) = graph.floats(weights)? else { return Ok(None) };
    let Some(dims) = dims.iter().map(|n| usize::try_from(*n).ok()).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let ([filters, channels, kernel @ ..], Some(view)) = (&dims[..], View::of(graph, of, inputs)?) else { return Ok(None) };
    let [channel, image @ ..] = &view.axes[..] else { return Ok(None) };
    let bias = match node.inputs.get(2).filter(|name| !name.is_empty()) {
        None => vec![0.0; *filters],
        Some(name) => match graph.floats(name)? {
            Some((of, bias)) if of.len() == 1 && bias.len() == *filters => bias,
            _ => return Ok(None),
        },
    };
    let one = |name: &str| anyhow::Ok(node.integers(name)?.is_none_or(|all| all.iter().all(|n| *n == 1)));
    let fits = (1..=3).contains(&kernel.len())
        // Cells that hold nothing must add nothing.
        && weights.iter().all(|weight| weight.is_finite())
        && kernel.len() == image.len()
        && channel.0 == *channels
        && kernel.last().is_some_and(|n| *n <= LONGEST)
        && node.integer("group")?.unwrap_or(1) == 1
        && node
            .integers("kernel_shape")?
            .is_none_or(|n| n.iter().map(|n| usize::try_from(*n).ok()).eq(kernel.iter().map(|n| Some(*n))))
        && one("strides")?
        && one("dilations")?;
    let Some(pads) = fits.then(|| pads(node, kernel)).transpose()?.flatten() else { return Ok(None) };
    let rank = image.len();
    let (activation, pool, last) = behind(graph, number, rank)?;
    let parts = Parts {
        axes: rank,
        channels: *channels,
        image: three(&image.iter().map(|(extent, _)| *extent).collect::<Vec<_>>(), 1),
        cells: view.cells(),
        steps: view.steps,
        kernel: three(kernel, 1),
        pads: three(&pads, (0, 0)),
        weights,
        bias,
        activation,
        pool,
    };
    // What makes something of nothing is no sparse image; what does not fit is left to ONNX Runtime, which says what is wrong.
    let Ok(convolution) = Convolution::new(parts) else { return Ok(None) };
    let name = graph.nodes[last].outputs.first().copied().unwrap_or(output);
    if graph.outputs.contains(&name) {
        return Ok(None);
    }
    let [filters, out @ ..] = convolution.row();
    let row = [filters].into_iter().chain(out[3 - rank..].iter().copied()).collect();
    Ok(Some(Layer { input: view.input, name: name.to_owned(), row, convolution, last }))
}

/// Three of one, two or three: the first are filled up.
fn three<T: Copy>(of: &[T], with: T) -> [T; 3] {
    let mut three = [with; 3];
    three[3 - of.len()..].copy_from_slice(of);
    three
}

/// The zeros in front of an image and behind it, along each axis; none where it is padded in another way.
fn pads(node: &Node<'_>, kernel: &[usize]) -> anyhow::Result<Option<Vec<(usize, usize)>>> {
    let same = |less: &dyn Fn(usize) -> usize| kernel.iter().map(|n| (less(n - 1), n - 1 - less(n - 1))).collect::<Vec<_>>();
    Ok(match node.text("auto_pad")?.unwrap_or("NOTSET") {
        "VALID" => Some(vec![(0, 0); kernel.len()]),
        "SAME_UPPER" => Some(same(&|all| all / 2)),
        "SAME_LOWER" => Some(same(&|all| all.div_ceil(2))),
        "NOTSET" => {
            let said = node.integers("pads")?.unwrap_or_else(|| vec![0; 2 * kernel.len()]);
            let said: Option<Vec<usize>> = said.iter().map(|n| usize::try_from(*n).ok()).collect();
            said.filter(|said| said.len() == 2 * kernel.len()).map(|said| {
                let (before, behind) = said.split_at(kernel.len());
                before.iter().copied().zip(behind.iter().copied()).collect()
            })
        }
        _ => None,
    })
}

/// What follows a convolution that can be taken along, and the node that is the last of it.
fn behind(graph: &Graph<'_>, mut last: usize, rank: usize) -> anyhow::Result<(Activation, Option<Pool>, usize)> {
    let (mut activation, mut pool) = (Activation::None, None);
    while let &[output] = &graph.nodes[last].outputs[..] {
        let &[reader] = &graph.readers(output)[..] else { break };
        let node = &graph.nodes[reader];
        if graph.outputs.contains(&output) || node.inputs[..] != [output] || node.outputs.len() != 1 {
            break;
        }
        if activation == Activation::None && node.is("Relu") {
            activation = Activation::Relu;
        } else if activation == Activation::None && node.is("LeakyRelu") {
            let by = node.real("alpha")?.unwrap_or(0.01);
            if !(by >= 0.0 && by.is_finite()) {
                break;
            }
            activation = Activation::Leaky(by);
        } else if pool.is_none() && node.is("MaxPool") {
            pool = windows(node, rank)?;
            if pool.is_none() {
                break;
            }
        } else {
            break;
        }
        last = reader;
    }
    Ok((activation, pool, last))
}

/// The windows of a `MaxPool`; none where they are padded, dilated or cut off.
fn windows(node: &Node<'_>, rank: usize) -> anyhow::Result<Option<Pool>> {
    let extents = |name: &str| {
        let said = node.integers(name)?.unwrap_or_else(|| vec![1; rank]);
        let said: Option<Vec<usize>> = said.iter().map(|n| usize::try_from(*n).ok()).collect();
        anyhow::Ok(said.filter(|said| said.len() == rank && !said.contains(&0)).map(|said| three(&said, 1)))
    };
    let all = |name: &str, value: i64| anyhow::Ok(node.integers(name)?.is_none_or(|all| all.iter().all(|n| *n == value)));
    let plain = matches!(node.text("auto_pad")?.unwrap_or("NOTSET"), "NOTSET" | "VALID")
        && node.integer("ceil_mode")?.unwrap_or(0) == 0
        && node.integers("kernel_shape")?.is_some()
        && all("pads", 0)?
        && all("dilations", 1)?;
    let (kernel, strides) = (extents("kernel_shape")?, extents("strides")?);
    Ok(kernel.zip(strides).filter(|_| plain).map(|(kernel, strides)| Pool { kernel, strides }))
}
