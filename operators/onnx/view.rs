//! An input of a model as some value shows it: what was done to it is moving and adding of axes, and steps that change each value by
//! itself. So each cell of a value is one of the input, and hits can stand for it.

use super::convolution::Step;
use super::graph::{Graph, Node};
use anyhow::Context;

/// An input as some nodes show it.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// The number of the input.
    pub input: usize,
    /// The axes behind the batch: their extents, and from one to the next how many cells of the input.
    pub axes: Vec<(usize, usize)>,
    /// What each value has become, in order.
    pub steps: Vec<Step>,
}

impl View {
    /// The input that a value shows; none where the value is made otherwise.
    pub fn of(graph: &Graph<'_>, value: &str, inputs: &[(&str, &[usize])]) -> anyhow::Result<Option<Self>> {
        if let Some(input) = inputs.iter().position(|(name, _)| *name == value) {
            return Ok(Self::whole(input, inputs[input].1));
        }
        let Some(node) = graph.maker(value) else { return Ok(None) };
        if let Some((of, step)) = step(graph, node)? {
            let mut view = Self::of(graph, of, inputs)?;
            view.iter_mut().for_each(|view| view.steps.push(step));
            return Ok(view);
        }
        if !["Identity", "Unsqueeze", "Squeeze", "Reshape", "Transpose"].iter().any(|kind| node.is(kind)) {
            return Ok(None);
        }
        match Self::of(graph, input(node, 0), inputs)? {
            Some(view) => view.moved(graph, node),
            None => Ok(None),
        }
    }

    /// An input itself; none where it has more cells than have numbers.
    fn whole(input: usize, row: &[usize]) -> Option<Self> {
        let mut step = 1usize;
        let mut axes: Vec<(usize, usize)> = Vec::new();
        for extent in row.iter().rev() {
            axes.push((*extent, step));
            step = step.checked_mul(*extent).filter(|cells| u32::try_from(*cells).is_ok())?;
        }
        axes.reverse();
        Some(Self { input, axes, steps: Vec::new() })
    }

    /// Behind a node that moves axes, or adds or takes away some of length 1.
    fn moved(mut self, graph: &Graph<'_>, node: &Node<'_>) -> anyhow::Result<Option<Self>> {
        if node.is("Unsqueeze") {
            let added = node.integers("axes")?.or(graph.integers(input(node, 1))?).map_or(0, |axes| axes.len());
            let Some(axes) = axes(graph, node, self.axes.len() + 1 + added)? else { return Ok(None) };
            for axis in axes {
                if axis - 1 > self.axes.len() {
                    return Ok(None);
                }
                self.axes.insert(axis - 1, (1, 0));
            }
        } else if node.is("Squeeze") {
            let Some(axes) = axes(graph, node, self.axes.len() + 1)? else { return Ok(None) };
            for axis in axes.into_iter().rev() {
                if self.axes.get(axis - 1).is_none_or(|(extent, _)| *extent != 1) {
                    return Ok(None);
                }
                self.axes.remove(axis - 1);
            }
        } else if node.is("Transpose") {
            let order = node.integers("perm")?;
            let order: Option<Vec<usize>> = order.and_then(|order| order.iter().map(|n| usize::try_from(*n).ok()).collect());
            let Some([0, order @ ..]) = order.as_deref() else { return Ok(None) };
            let moved: Option<Vec<_>> = order.iter().map(|n| self.axes.get(n.checked_sub(1)?).copied()).collect();
            let Some(moved) = moved.filter(|moved| moved.len() == self.axes.len()) else { return Ok(None) };
            self.axes = moved;
        } else if node.is("Reshape") {
            let Some(shape) = graph.integers(input(node, 1))? else { return Ok(None) };
            // There a 0 is no axis that stays, but an extent.
            let is_empty = node.integer("allowzero")?.unwrap_or(0) != 0 && shape.contains(&0);
            return Ok(self.reshape(&shape).filter(|_| !is_empty));
        }
        Ok(Some(self))
    }

    /// For each cell of the input its number in the view.
    pub fn cells(&self) -> Vec<u32> {
        let count = self.axes.iter().map(|(extent, _)| extent).product();
        let mut cells = vec![0; count];
        for number in 0..count {
            let (mut rest, mut cell) = (number, 0);
            for (extent, step) in self.axes.iter().rev() {
                cell += rest % extent * step;
                rest /= extent;
            }
            cells[cell] = number as u32;
        }
        cells
    }

    /// With other extents: axes of length 1 come and go, the others stay.
    fn reshape(mut self, shape: &[i64]) -> Option<Self> {
        let [0 | -1, shape @ ..] = shape else { return None };
        let mut known: Vec<Option<usize>> = Vec::new();
        for (axis, n) in shape.iter().enumerate() {
            known.push(match n {
                -1 => None,
                0 => Some(self.axes.get(axis)?.0),
                n => Some(usize::try_from(*n).ok()?),
            });
        }
        let all: usize = self.axes.iter().map(|(extent, _)| extent).product();
        let there: usize = known.iter().flatten().product();
        let mut old = self.axes.iter().filter(|(extent, _)| *extent != 1).copied();
        let mut axes = Vec::new();
        for extent in known {
            let extent = extent.or_else(|| all.checked_div(there))?;
            axes.push(if extent == 1 { (1, 0) } else { old.next().filter(|(known, _)| *known == extent)? });
        }
        if old.next().is_some() {
            return None;
        }
        self.axes = axes;
        Some(self)
    }
}

fn input<'a>(node: &Node<'a>, number: usize) -> &'a str {
    node.inputs.get(number).copied().unwrap_or_default()
}

/// The axes that a node adds or takes away, in order; none where one is the batch.
fn axes(graph: &Graph<'_>, node: &Node<'_>, rank: usize) -> anyhow::Result<Option<Vec<usize>>> {
    let said = match node.integers("axes")? {
        None => graph.integers(input(node, 1))?,
        said => said,
    };
    let rank = i64::try_from(rank).context("a rank")?;
    let whole = |n: i64| usize::try_from(if n < 0 { n + rank } else { n }).ok().filter(|n| *n > 0);
    let axes: Option<Vec<usize>> = said.and_then(|said| said.into_iter().map(whole).collect());
    // Where no axis is named, all of length 1 are meant, the batch too if it is one.
    Ok(axes.filter(|axes| !axes.is_empty()).map(|mut axes| {
        axes.sort_unstable();
        axes.dedup();
        axes
    }))
}

/// What a node does to each value by itself, and of which value; none where it does something else.
fn step<'a>(graph: &Graph<'a>, node: &Node<'a>) -> anyhow::Result<Option<(&'a str, Step)>> {
    let (first, second) = (input(node, 0), input(node, 1));
    for (kind, step) in [("Relu", Step::Relu), ("Sqrt", Step::Sqrt), ("Log", Step::Log)] {
        if node.is(kind) {
            return Ok(Some((first, step)));
        }
    }
    let number = |name: &str| {
        let of_one =
            |(dims, values): (Vec<i64>, Vec<f32>)| (dims.is_empty() || dims == [1]).then(|| values.first().copied()).flatten();
        anyhow::Ok(graph.floats(name)?.and_then(of_one))
    };
    let either = || {
        anyhow::Ok(match number(second)? {
            Some(by) => Some((first, by)),
            None => number(first)?.map(|by| (second, by)),
        })
    };
    Ok(if node.is("Mul") {
        either()?.map(|(of, by)| (of, Step::Times(by)))
    } else if node.is("Add") {
        either()?.map(|(of, more)| (of, Step::Plus(more)))
    } else if node.is("Div") {
        number(second)?.map(|by| (first, Step::Over(by)))
    } else if node.is("Sub") {
        number(second)?.map(|less| (first, Step::Plus(-less)))
    } else {
        None
    })
}
