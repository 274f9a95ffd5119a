//! `rotate`: images turned by multiples of 90 degrees in the plane of two axes, by a fixed angle or one drawn for each event.
//!
//! Only these angles take cells to cells; any other would have to share the energy of a cell among its new neighbours, which
//! changes the sums that everything downstream is made of. All images of the step are turned together.

use crate::draw::{self, Draws};
use crate::motion::{Choice, Motion, Moving};
use crate::registry::Describe;
use crate::{Facts, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work, column};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Turns images by multiples of 90 degrees: the same event gets the same draw on any machine, and another one each epoch.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// The images, hits or dense, which are turned together.
    pub images: Placed<Vec<Placed<String>>>,
    /// The two axes of the plane, from 0. A positive angle turns the first towards the second, as numpy's `rot90` does.
    pub plane: Placed<[u32; 2]>,
    /// The angle in degrees, a multiple of 90. Without it, one of 0, 90, 180 and 270 is drawn for each event.
    #[serde(default)]
    pub angle: Option<Placed<f64>>,
    /// The name of the draw. Steps of the same name turn the same events by the same angle.
    #[serde(default = "name")]
    pub draw: Placed<String>,
}

fn name() -> Placed<String> {
    Placed::unplaced("rotate".to_owned())
}

impl Describe for Rotate {
    const ABOUT: &'static str = "Turns images by multiples of 90 degrees, drawn for each event or fixed";
    const EXAMPLE: &'static str = "turned:\n  from: events\n  rotate: { images: [ecal, hcal], plane: [0, 1] }\n";
}

impl Rotate {
    /// Quarter turns, where the angle is fixed; none for an angle that is no multiple of 90 degrees.
    fn quarters(&self) -> Option<usize> {
        let quarters = self.angle.as_ref()?.value / 90.0;
        (quarters.fract() == 0.0 && quarters.abs() < 1e6).then_some((quarters as i64).rem_euclid(4) as usize)
    }

    fn purpose(&self) -> String {
        format!("rotate/{}", self.draw.value)
    }
}

impl Operator for Rotate {
    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let input = &inputs[0];
        let mut problems = Vec::new();
        if let Some(angle) = self.angle.as_ref().filter(|_| self.quarters().is_none()) {
            let what = format!("{} degrees would put the energy of a cell between cells", angle.value);
            problems.push(Problem::at(angle, what).help("give a multiple of 90, or leave `angle` out for a random one of these"));
        }
        let [a, b] = self.plane.value;
        if a == b {
            problems.push(Problem::at(&self.plane, format!("axis {a} alone makes no plane")).help("plane: [0, 1]"));
        }
        let schema = draw::images(&input.schema, &self.images, &mut problems, |name, field, shape, problems| {
            match (shape.get(a as usize), shape.get(b as usize)) {
                (Some(one), Some(other)) if one != other && self.quarters().is_none_or(|q| q % 2 == 1) => {
                    let what = format!("axes {a} and {b} of `{}` are of {one} and {other} cells", name.value);
                    problems.push(Problem::at(&self.plane, what).help("only `angle: 180` keeps the shape"));
                }
                (Some(_), Some(_)) => {}
                _ => {
                    let what = format!("`{}` has no axes {a} and {b}: its shape is {shape:?}", name.value);
                    problems.push(Problem::at(&self.plane, what));
                }
            }
            if self.angle.is_some() { Ok(field.clone()) } else { draw::drawn(field, &self.purpose(), facts, &self.draw) }
        });
        if self.angle.is_none() {
            problems.extend(draw::needs_events(&input.schema, &self.draw).err());
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let reads = self.images.iter().map(|word| word.value.clone());
        let reads = reads.chain(self.angle.is_none().then(|| column::EVENT.to_owned()));
        let output = Output { name: String::new(), schema: Arc::new(schema), ..input.clone() };
        Ok(Planned::new(Shape::Map, vec![output]).reading(Reads::columns(reads)))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let plane = self.plane.value.map(|axis| axis as usize);
        let mut images = Vec::new();
        for word in self.images.iter() {
            let (_, shape) = draw::image(&at.inputs[0].schema, word).map_err(|problem| anyhow::anyhow!(problem.what))?;
            images.push((word.value.clone(), (0..4).map(|quarters| Motion::turned(&shape, plane, quarters)).collect()));
        }
        let choice = match self.quarters() {
            Some(quarters) => Choice::Fixed(quarters),
            None => {
                let draws = Draws::new(at.facts, &self.purpose());
                Choice::Drawn(Box::new(move |event| (draws.of(event).bits() >> 62) as usize))
            }
        };
        Ok(Work::Map(Box::new(Moving { images, choice })))
    }
}

#[cfg(test)]
mod tests;
