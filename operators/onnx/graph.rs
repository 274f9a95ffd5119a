//! An ONNX model cut open: its nodes, weights, inputs and outputs by name, so that a node can be taken out or put in front.
//!
//! Only what is looked at is decoded; all else of a file stays as its bytes. Numbers of fields are those of `onnx.proto3`, which
//! never change.

use super::tensor::Element;
use super::wire::{Field, Wire, fields, put, put_number};
use anyhow::{Context, bail, ensure};
use std::collections::BTreeSet;

/// Fields of `ModelProto`.
const GRAPH: u64 = 7;
const OPSET: u64 = 8;
const FUNCTIONS: u64 = 25;
/// Fields of `GraphProto`.
const NODE: u64 = 1;
const INITIALIZER: u64 = 5;
const INPUT: u64 = 11;
const OUTPUT: u64 = 12;

/// A model, cut open.
#[derive(Debug, Clone)]
pub struct Graph<'a> {
    /// The fields of the model but for the graph.
    model: Vec<&'a [u8]>,
    /// The version of the standard operators.
    pub opset: i64,
    /// The nodes, in order.
    pub nodes: Vec<Node<'a>>,
    /// The weights by name, as they stand in the file.
    pub weights: Vec<(&'a str, &'a [u8])>,
    /// The inputs by name, as they stand in the file; weights may be among them.
    pub inputs: Vec<(&'a str, &'a [u8])>,
    /// The names of the outputs.
    pub outputs: Vec<&'a str>,
    /// All other fields of the graph, outputs among them.
    rest: Vec<&'a [u8]>,
}

/// A node.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    /// Its operator.
    pub kind: &'a str,
    /// Empty for a standard operator.
    pub domain: &'a str,
    /// The names of what it reads; empty where there is nothing.
    pub inputs: Vec<&'a str>,
    /// The names of what it makes.
    pub outputs: Vec<&'a str>,
    /// Its attributes.
    attributes: Vec<&'a [u8]>,
    whole: &'a [u8],
}

impl<'a> Graph<'a> {
    /// Cuts open the bytes of a model.
    ///
    /// # Errors
    /// Says why it can't be: it is damaged, or has what this module does not know.
    pub fn read(bytes: &'a [u8]) -> anyhow::Result<Self> {
        let (mut model, mut graph, mut opset) = (Vec::new(), None, 0);
        for field in fields(bytes)? {
            match field.number {
                GRAPH => ensure!(graph.replace(field.bytes()?).is_none(), "a model in two pieces"),
                FUNCTIONS => bail!("it has functions of its own"),
                number => {
                    if number == OPSET {
                        let (domain, version) = opset_of(field.bytes()?)?;
                        opset = if domain.is_empty() { version } else { opset };
                    }
                    model.push(field.whole);
                }
            }
        }
        let (mut nodes, mut weights, mut inputs, mut outputs, mut rest) = (vec![], vec![], vec![], vec![], vec![]);
        for field in fields(graph.context("a model without a graph")?)? {
            match field.number {
                NODE => nodes.push(Node::read(field)?),
                INITIALIZER => weights.push((named(field.bytes()?, 8)?, field.whole)),
                INPUT => inputs.push((named(field.bytes()?, 1)?, field.whole)),
                OUTPUT => {
                    outputs.push(named(field.bytes()?, 1)?);
                    rest.push(field.whole);
                }
                _ => rest.push(field.whole),
            }
        }
        Ok(Self { model, opset, nodes, weights, inputs, outputs, rest })
    }

    /// The bytes of the model, with these fields of a graph in front of its nodes.
    #[must_use]
    pub fn write(&self, front: &[u8]) -> Vec<u8> {
        let mut graph = front.to_vec();
        let nodes = self.nodes.iter().map(|node| node.whole);
        let named = self.weights.iter().chain(&self.inputs).map(|(_, whole)| *whole);
        nodes.chain(named).chain(self.rest.iter().copied()).for_each(|whole| graph.extend_from_slice(whole));
        let mut bytes = self.model.concat();
        put(&mut bytes, GRAPH, &graph);
        bytes
    }

    /// True where every node stands before those that read it.
    #[must_use]
    pub fn is_sorted(&self) -> bool {
        let mut made: BTreeSet<&str> = BTreeSet::new();
        let to_be_made: BTreeSet<&str> = self.nodes.iter().flat_map(|node| node.outputs.iter().copied()).collect();
        self.nodes.iter().all(|node| {
            let sorted = node.inputs.iter().all(|name| name.is_empty() || !to_be_made.contains(name) || made.contains(name));
            made.extend(node.outputs.iter().copied());
            sorted
        })
    }

    /// Takes out the nodes that nothing needs, weights and inputs that no node reads.
    pub fn prune(&mut self) {
        let mut needed: BTreeSet<&str> = self.outputs.iter().copied().collect();
        // Nodes stand before those that read them.
        let mut kept: Vec<Node<'a>> = Vec::new();
        while let Some(node) = self.nodes.pop() {
            if node.outputs.iter().any(|name| needed.contains(name)) {
                needed.extend(node.inputs.iter().copied());
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.weights.retain(|(name, _)| needed.contains(name));
        self.inputs.retain(|(name, _)| needed.contains(name));
    }

    /// A name that nothing has.
    #[must_use]
    pub fn free_name(&self, like: &str) -> String {
        let nodes = self.nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs));
        let named = self.weights.iter().chain(&self.inputs).map(|(name, _)| name);
        let taken: BTreeSet<&str> = nodes.chain(named).chain(&self.outputs).copied().collect();
        let numbered = (1u32..).map(|n| format!("{like}/{n}"));
        numbered.into_iter().find(|name| !taken.contains(name.as_str())).unwrap_or_default()
    }

    /// The node that makes a value.
    #[must_use]
    pub fn maker(&self, of: &str) -> Option<&Node<'a>> {
        self.nodes.iter().find(|node| node.outputs.contains(&of))
    }

    /// The nodes that read a value, by number.
    #[must_use]
    pub fn readers(&self, of: &str) -> Vec<usize> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.inputs.contains(&of)).map(|(number, _)| number).collect()
    }

    /// The numbers and extents of a weight of float32; none where there is no such weight.
    ///
    /// # Errors
    /// Its bytes are not what they say.
    pub fn floats(&self, name: &str) -> anyhow::Result<Option<(Vec<i64>, Vec<f32>)>> {
        let Some(tensor) = self.tensor(name)? else { return Ok(None) };
        if tensor.element != code(Element::F32) {
            return Ok(None);
        }
        let values: Vec<f32> = match tensor.raw {
            Some(raw) => raw.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            None => tensor.floats,
        };
        check(&tensor.dims, values.len())?;
        Ok(Some((tensor.dims, values)))
    }

    /// The numbers of a weight of int64; none where there is no such weight.
    ///
    /// # Errors
    /// Its bytes are not what they say.
    pub fn integers(&self, name: &str) -> anyhow::Result<Option<Vec<i64>>> {
        let Some(tensor) = self.tensor(name)? else { return Ok(None) };
        if tensor.element != code(Element::I64) {
            return Ok(None);
        }
        let values: Vec<i64> = match tensor.raw {
            Some(raw) => raw.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            None => tensor.integers,
        };
        check(&tensor.dims, values.len())?;
        Ok(Some(values))
    }

    fn tensor(&self, name: &str) -> anyhow::Result<Option<Tensor<'a>>> {
        let bytes = match self.weights.iter().find(|(known, _)| *known == name) {
            Some((_, whole)) => Some(fields(whole)?.first().context("a weight")?.bytes()?),
            // What a node says instead of a weight.
            None => match self.maker(name).filter(|node| node.is("Constant")) {
                Some(node) => node.attribute("value", 5)?.and_then(|said| said.first().map(Field::bytes)).transpose()?,
                None => None,
            },
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let mut tensor = Tensor::default();
        for field in fields(bytes)? {
            match field.number {
                1 => field.numbers(&mut tensor.dims)?,
                2 => tensor.element = single(field)?,
                4 => match field.value {
                    Wire::Bytes(bytes) | Wire::Fixed(bytes) => {
                        tensor.floats.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
                    }
                    Wire::Number(_) => bail!("floats as whole numbers"),
                },
                7 => field.numbers(&mut tensor.integers)?,
                9 => tensor.raw = Some(field.bytes()?),
                13 => bail!("the weights are in another file"),
                // Also said where they are in this one: 0.
                14 => ensure!(single(field)? == 0, "the weights are in another file"),
                _ => {}
            }
        }
        Ok(Some(tensor))
    }
}

fn check(dims: &[i64], values: usize) -> anyhow::Result<()> {
    let wanted = dims.iter().try_fold(1i64, |product, n| product.checked_mul(*n));
    ensure!(wanted == i64::try_from(values).ok(), "a weight of {dims:?} with {values} values");
    Ok(())
}

#[derive(Default)]
struct Tensor<'a> {
    dims: Vec<i64>,
    element: i64,
    floats: Vec<f32>,
    integers: Vec<i64>,
    raw: Option<&'a [u8]>,
}

impl<'a> Node<'a> {
    fn read(field: Field<'a>) -> anyhow::Result<Self> {
        let mut node = Self { kind: "", domain: "", inputs: vec![], outputs: vec![], attributes: vec![], whole: field.whole };
        for field in fields(field.bytes()?)? {
            match field.number {
                1 => node.inputs.push(field.text()?),
                2 => node.outputs.push(field.text()?),
                4 => node.kind = field.text()?,
                5 => {
                    let attribute = field.bytes()?;
                    // A graph within may read any name from outside.
                    ensure!(fields(attribute)?.iter().all(|f| !matches!(f.number, 6 | 11)), "a node has a graph of its own");
                    node.attributes.push(attribute);
                }
                7 => node.domain = field.text()?,
                _ => {}
            }
        }
        Ok(node)
    }

    /// True for a standard operator of this name.
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        self.kind == kind && matches!(self.domain, "" | "ai.onnx")
    }

    /// The fields of this number of an attribute; none where it is not said. A number that is 0 may be left out of it (`proto3`).
    fn attribute(&self, name: &str, number: u64) -> anyhow::Result<Option<Vec<Field<'a>>>> {
        for attribute in &self.attributes {
            if named(attribute, 1)? == name {
                return Ok(Some(fields(attribute)?.into_iter().filter(|field| field.number == number).collect()));
            }
        }
        Ok(None)
    }

    /// A whole number among its attributes; none where it is not said.
    ///
    /// # Errors
    /// The attribute is damaged.
    pub fn integer(&self, name: &str) -> anyhow::Result<Option<i64>> {
        self.attribute(name, 3)?.map(|said| said.first().copied().map_or(Ok(0), single)).transpose()
    }

    /// Whole numbers among its attributes; none where they are not said.
    ///
    /// # Errors
    /// The attribute is damaged.
    pub fn integers(&self, name: &str) -> anyhow::Result<Option<Vec<i64>>> {
        let mut all = Vec::new();
        self.attribute(name, 8)?.iter().flatten().try_for_each(|field| field.numbers(&mut all))?;
        Ok(Some(all).filter(|all| !all.is_empty()))
    }

    /// A text among its attributes; none where it is not said.
    ///
    /// # Errors
    /// The attribute is damaged.
    pub fn text(&self, name: &str) -> anyhow::Result<Option<&'a str>> {
        self.attribute(name, 4)?.and_then(|said| said.first().map(Field::text)).transpose()
    }

    /// A real number among its attributes; none where it is not said.
    ///
    /// # Errors
    /// The attribute is damaged.
    pub fn real(&self, name: &str) -> anyhow::Result<Option<f32>> {
        Ok(self.attribute(name, 2)?.map(|said| match said.first().map(|field| field.value) {
            Some(Wire::Fixed(bytes)) => bytes.first_chunk().map_or(0.0, |b| f32::from_le_bytes(*b)),
            _ => 0.0,
        }))
    }
}

fn single(field: Field<'_>) -> anyhow::Result<i64> {
    let mut numbers = Vec::new();
    field.numbers(&mut numbers)?;
    numbers.first().copied().context("a number")
}

/// The text of a field of a message; empty where it is not there.
fn named(message: &[u8], number: u64) -> anyhow::Result<&str> {
    fields(message)?.into_iter().find(|f| f.number == number).map_or(Ok(""), |f| f.text())
}

fn opset_of(message: &[u8]) -> anyhow::Result<(&str, i64)> {
    let version = fields(message)?.into_iter().find(|f| f.number == 2).map(single).transpose()?;
    let domain = named(message, 1)?;
    Ok((if domain == "ai.onnx" { "" } else { domain }, version.unwrap_or(0)))
}

/// The number of a type in `TensorProto.DataType`.
#[must_use]
pub fn code(of: Element) -> i64 {
    match of {
        Element::F32 => 1,
        Element::U8 => 2,
        Element::I8 => 3,
        Element::U16 => 4,
        Element::I16 => 5,
        Element::I32 => 6,
        Element::I64 => 7,
        Element::Bool => 9,
        Element::F16 => 10,
        Element::F64 => 11,
        Element::U32 => 12,
        Element::U64 => 13,
    }
}

/// A node as a field of a graph, with attributes that are made already.
#[must_use]
pub fn node(kind: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut node = Vec::new();
    inputs.iter().for_each(|name| put(&mut node, 1, name.as_bytes()));
    put(&mut node, 2, output.as_bytes());
    put(&mut node, 3, output.as_bytes());
    put(&mut node, 4, kind.as_bytes());
    attributes.iter().for_each(|attribute| put(&mut node, 5, attribute));
    let mut field = Vec::new();
    put(&mut field, NODE, &node);
    field
}

/// An attribute that is one zero of a type.
#[must_use]
pub fn zero(name: &str, of: Element, bytes: usize) -> Vec<u8> {
    let mut tensor = Vec::new();
    put_number(&mut tensor, 1, 1);
    put_number(&mut tensor, 2, code(of));
    put(&mut tensor, 9, &vec![0; bytes]);
    let mut attribute = Vec::new();
    put(&mut attribute, 1, name.as_bytes());
    put(&mut attribute, 5, &tensor);
    put_number(&mut attribute, 20, 4);
    attribute
}

/// An input as a field of a graph: its first axis is free, the others have these extents.
#[must_use]
pub fn input(name: &str, of: Element, axis: &str, row: &[usize]) -> Vec<u8> {
    let mut shape = Vec::new();
    let mut free = Vec::new();
    put(&mut free, 2, axis.as_bytes());
    put(&mut shape, 1, &free);
    for extent in row {
        let mut fixed = Vec::new();
        put_number(&mut fixed, 1, *extent as i64);
        put(&mut shape, 1, &fixed);
    }
    let (mut tensor, mut kind, mut value, mut field) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    put_number(&mut tensor, 1, code(of));
    put(&mut tensor, 2, &shape);
    put(&mut kind, 1, &tensor);
    put(&mut value, 1, name.as_bytes());
    put(&mut value, 2, &kind);
    put(&mut field, INPUT, &value);
    field
}
