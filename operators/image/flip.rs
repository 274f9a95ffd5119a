//! `flip`: images the other way round along axes, drawn for each event, or always.
//!
//! Each axis has a draw of its own. All images of the step are flipped together: what is mirrored in one calorimeter is so in
//! the one behind it. Cells change places and nothing else: `flip` with probability 1, twice, gives back every bit.

use crate::draw::{self, Draws};
use crate::motion::{Choice, Motion, Moving};
use crate::registry::Describe;
use crate::{Facts, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work, column};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Flips images along axes: the same event gets the same draw on any machine, and another one each epoch.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flip {
    /// The images, hits or dense, which are flipped together.
    pub images: Placed<Vec<Placed<String>>>,
    /// The axes, from 0 as in numpy. Each is flipped or not by a draw of its own.
    pub axes: Placed<Vec<Placed<u32>>>,
    /// How often an axis is flipped; 1 for always.
    #[serde(default = "half")]
    pub probability: Placed<f64>,
    /// The name of the draw. Steps of the same name flip the same events along an axis.
    #[serde(default = "name")]
    pub draw: Placed<String>,
}

fn half() -> Placed<f64> {
    Placed::unplaced(0.5)
}

fn name() -> Placed<String> {
    Placed::unplaced("flip".to_owned())
}

impl Describe for Flip {
    const ABOUT: &'static str = "Flips images along axes, drawn for each event or always";
    const EXAMPLE: &'static str = "mirrored:\n  from: events\n  flip: { images: [ecal, hcal], axes: [0, 1] }\n";
}

impl Flip {
    fn always(&self) -> bool {
        self.probability.value >= 1.0
    }

    fn purpose(&self, axis: u32) -> String {
        format!("flip/{}/{axis}", self.draw.value)
    }

    /// The axes that are flipped by choice number `choice`.
    fn chosen(&self, choice: usize) -> impl Iterator<Item = usize> {
        self.axes.iter().enumerate().filter(move |(i, _)| choice >> i & 1 == 1).map(|(_, axis)| axis.value as usize)
    }
}

impl Operator for Flip {
    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let input = &inputs[0];
        let (mut problems, mut seen) = (Vec::new(), BTreeSet::new());
        if !(self.probability.value > 0.0 && self.probability.value <= 1.0) {
            let problem = Problem::at(&self.probability, format!("a probability of {}", self.probability.value));
            problems.push(problem.help("it is above 0, and 1 for always"));
        }
        if self.axes.is_empty() {
            problems.push(Problem::at(&self.axes, "no axis to flip").help("axes: [0, 1]"));
        }
        for axis in self.axes.iter().filter(|axis| !seen.insert(axis.value)) {
            problems.push(Problem::at(axis, format!("axis {} is named twice", axis.value)));
        }
        let drawn: &[Placed<u32>] = if self.always() { &[] } else { &self.axes };
        let schema = draw::images(&input.schema, &self.images, &mut problems, |name, field, shape, problems| {
            for axis in self.axes.iter().filter(|axis| axis.value as usize >= shape.len()) {
                let what = format!("`{}` has no axis {}: its shape is {shape:?}", name.value, axis.value);
                problems.push(Problem::at(axis, what).help(format!("axes go from 0 to {}", shape.len() - 1)));
            }
            drawn.iter().try_fold(field.clone(), |field, axis| draw::drawn(&field, &self.purpose(axis.value), facts, &self.draw))
        });
        if !self.always() {
            problems.extend(draw::needs_events(&input.schema, &self.draw).err());
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let reads = self.images.iter().map(|word| word.value.clone());
        let reads = reads.chain((!self.always()).then(|| column::EVENT.to_owned()));
        let output = Output { name: String::new(), schema: Arc::new(schema), ..input.clone() };
        Ok(Planned::new(Shape::Map, vec![output]).reading(Reads::columns(reads)))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let choices = 1_usize << self.axes.len();
        let mut images = Vec::new();
        for word in self.images.iter() {
            let (_, shape) = draw::image(&at.inputs[0].schema, word).map_err(|problem| anyhow::anyhow!(problem.what))?;
            let motion = |choice| self.chosen(choice).fold(Motion::rest(&shape), Motion::flipped);
            images.push((word.value.clone(), (0..choices).map(motion).collect()));
        }
        let choice = if self.always() {
            Choice::Fixed(choices - 1)
        } else {
            let draws: Vec<Draws> = self.axes.iter().map(|axis| Draws::new(at.facts, &self.purpose(axis.value))).collect();
            let probability = self.probability.value;
            let flipped = move |event, draws: &Draws| usize::from(draws.of(event).uniform() < probability);
            Choice::Drawn(Box::new(move |event| draws.iter().enumerate().map(|(i, draws)| flipped(event, draws) << i).sum()))
        };
        Ok(Work::Map(Box::new(Moving { images, choice })))
    }
}

#[cfg(test)]
mod tests;
