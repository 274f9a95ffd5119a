//! `reweight`: weights that give some classes the spectrum of another.
//!
//! The spectra of all classes are summed first, in a phase of its own that reads only what that takes. In a cell where the
//! class has the sum of weights `o` and the target `t`, an event of the class gets the weight `t / o` (times its own weight,
//! where it has one); an event of any other class keeps its own, or 1. So the sum of the weights of the class is the target's
//! in every cell where both have events. With `normalise: own` all weights of the class are multiplied by one number, so that
//! they add up to what the class had in those cells.
//!
//! What is not used outside the bins (`outside: zero` or `cut`) is not used of the target, either: where there is nothing of the
//! others, a network would learn that what lies there is the target.
//!
//! A weight is a function of exact sums and of its cell: the same on any machine.

use crate::column;
use crate::registry::Describe;
use crate::statistics::binning::By;
use crate::statistics::figure::{Content as Drawn, Curve, Figure, Point, Summary};
use crate::statistics::folding::gather;
use crate::statistics::spectrum::{Content, Spectrum, Where, counts, numbers, widened, with_column};
use crate::statistics::sums::Sums;
use crate::work::{Fold, Map, Mapped, Noticed, notice};
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work, words};
use anyhow::Context;
use arrow::array::{BooleanArray, Float64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

use super::select;

/// Weights that give classes the spectrum of another, as a new column.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reweight {
    /// The class whose spectrum is wanted: `signal`.
    to: Placed<String>,
    /// The classes that get weights, each by itself; all others where nothing is said.
    #[serde(default)]
    of: Option<Placed<Vec<Placed<String>>>>,
    /// One to three columns with their bins: `{ pt: { edges: [5, 7, 9, 4000] }, eta: { range: [-1.4, 1.4], bins: 19 } }`.
    by: By,
    /// The name of the new column.
    #[serde(default = "new_column")]
    column: Placed<String>,
    /// A column of weights that the events have already: spectra are made with it, and the new weight contains it.
    #[serde(default)]
    weight: Option<Placed<String>>,
    /// Events below or above the bins (or with NaN): `cell` takes underflow and overflow for cells like the others; `one`
    /// leaves such events as they are; `zero` gives them the weight 0; `cut` cuts them (both those of the wanted class, too).
    #[serde(default)]
    outside: Outside,
    /// Events in a cell where the target has none (or sums of weights are not positive): `zero`, `one` or `cut`.
    #[serde(default)]
    empty: Empty,
    /// `target`: the weights of a class add up to the target's sum; `own`: to its own; both over the cells that have events of
    /// the class and of the target.
    #[serde(default)]
    normalise: Normalise,
}

fn new_column() -> Placed<String> {
    Placed::unplaced("weight".to_owned())
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Outside {
    /// Underflow, overflow and NaN are cells.
    #[default]
    Cell,
    /// The event keeps its weight.
    One,
    /// The event gets the weight 0.
    Zero,
    /// The event is cut.
    Cut,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Empty {
    /// The event gets the weight 0.
    #[default]
    Zero,
    /// The event keeps its weight.
    One,
    /// The event is cut.
    Cut,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Normalise {
    /// To the sum of the target.
    #[default]
    Target,
    /// To the sum of the class itself.
    Own,
}

impl Describe for Reweight {
    const ABOUT: &'static str = "Gives classes the spectrum of another, by weights from the ratio of histograms";
    const EXAMPLE: &'static str = "\
weighted:
  from: events
  reweight:
    to: signal
    by: { pt: { edges: [5, 10, 20, 50, 100, 4000] }, eta: { range: [-1.4, 1.4], bins: 19 } }
";
}

/// A reweighting whose words were found right.
#[derive(Debug, Clone)]
struct Weighing {
    spectrum: Spectrum,
    to: usize,
    /// By class: true where it gets weights.
    of: Vec<bool>,
    outside: Outside,
    empty: Empty,
    normalise: Normalise,
    schema: SchemaRef,
}

/// The factor of an event's weight; none where the event is cut.
type Factor = Option<f64>;

impl Reweight {
    fn weighing(&self, schema: &Schema) -> Result<Weighing, Vec<Problem>> {
        let spectrum = Spectrum::plan(schema, &self.by, self.weight.as_ref())?;
        let mut problems = Vec::new();
        let to = gather(spectrum.classes.number(&self.to), &mut problems);
        let mut of: Vec<bool> = (0..spectrum.classes.names.len()).map(|class| Some(class) != to && self.of.is_none()).collect();
        for word in self.of.iter().flat_map(|of| of.iter()) {
            match gather(spectrum.classes.number(word), &mut problems) {
                Some(class) if Some(class) == to => {
                    problems.push(Problem::at(word, format!("`{}` has the wanted spectrum as it is", word.value)));
                }
                Some(class) => of[class] = true,
                None => {}
            }
        }
        if problems.is_empty() && !of.contains(&true) {
            problems.push(Problem::at(&self.to, "there is no other class that could be given its spectrum"));
        }
        let Some(to) = to.filter(|_| problems.is_empty()) else { return Err(problems) };
        let mut fields = spectrum.fields();
        fields.push(Field::new("n", DataType::Int64, false));
        fields.push(Field::new("n_target", DataType::Int64, false));
        fields.push(Field::new("weight", DataType::Float64, true));
        fields.push(Field::new("weight_error", DataType::Float64, true));
        let schema = Arc::new(Schema::new(fields));
        Ok(Weighing { spectrum, to, of, outside: self.outside, empty: self.empty, normalise: self.normalise, schema })
    }
}

impl Operator for Reweight {
    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let input = &inputs[0];
        let weighing = self.weighing(&input.schema)?;
        if input.schema.field_with_name(&self.column).is_ok() && !facts.narrowed {
            let what = format!("there is a column `{}` already", self.column.value);
            return Err(vec![Problem::at(&self.column, what).help("name another one: `column: new_weight`")]);
        }
        let reads = Reads::columns(weighing.spectrum.columns());
        let output = widened(input, Field::new(&self.column.value, DataType::Float64, false));
        let mut planned = Planned::new(Shape::Map, vec![output]).reading(reads.clone()).holding(weighing.spectrum.bytes());
        planned.survey = Some(reads);
        planned.cuts = self.outside == Outside::Cut || self.empty == Empty::Cut;
        Ok(planned)
    }

    fn survey(&self, at: &Start<'_>) -> anyhow::Result<Box<dyn Fold>> {
        let weighing = self.weighing(&at.inputs[0].schema).map_err(select::described)?;
        Ok(Box::new(Survey { weighing, cells: Vec::new() }))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let weighing = self.weighing(&at.inputs[0].schema).map_err(select::described)?;
        let sums = at.runtime.surveyed.as_ref().context("spectra that were not summed")?;
        let factors = weighing.factors(&weighing.spectrum.contents(sums)).concat();
        let (column, outputs) = (self.column.value.clone(), select::names(at));
        Ok(Work::Map(Box::new(Weigh { weighing, factors, column, outputs, cells: Vec::new(), noticed: Noticed::new() })))
    }
}

impl Weighing {
    /// True where a cell of this class stands for itself: the ratio is made there.
    fn has_ratio(&self, slot: usize) -> bool {
        self.outside == Outside::Cell || self.spectrum.place(slot) == Where::Inside
    }

    /// True where events of a class are changed outside the bins.
    fn touches(&self, class: usize) -> bool {
        self.of[class] || class == self.to && self.outside != Outside::One
    }

    /// The ratio of a cell, where there is one.
    fn ratio(&self, of: &Content, to: &Content) -> Option<f64> {
        (of.w > 0.0 && to.w > 0.0).then(|| to.w / of.w)
    }

    /// The number that all weights of a class are multiplied by.
    fn scale(&self, contents: &[Vec<Content>], class: usize) -> f64 {
        if self.normalise == Normalise::Target {
            return 1.0;
        }
        let (mut own, mut target) = (crate::statistics::exact::Exact::default(), crate::statistics::exact::Exact::default());
        for (slot, (of, to)) in contents[class].iter().zip(&contents[self.to]).enumerate() {
            if self.has_ratio(slot) && self.ratio(of, to).is_some() {
                own.add(of.w);
                target.add(to.w);
            }
        }
        if target.value() > 0.0 { own.value() / target.value() } else { 1.0 }
    }

    /// The factors of every class and slot.
    fn factors(&self, contents: &[Vec<Content>]) -> Vec<Vec<Factor>> {
        let of_class = |class: usize| {
            let scale = self.scale(contents, class);
            let factor = |(slot, (of, to)): (usize, (&Content, &Content))| match (self.of[class], self.has_ratio(slot)) {
                (false, true) => Some(1.0),
                (true, true) => match (self.ratio(of, to), self.empty) {
                    (Some(ratio), _) => Some(ratio * scale),
                    (None, Empty::Zero) => Some(0.0),
                    (None, Empty::One) => Some(1.0),
                    (None, Empty::Cut) => None,
                },
                (_, false) if !self.touches(class) => Some(1.0),
                (_, false) => match self.outside {
                    Outside::Cell | Outside::One => Some(1.0),
                    Outside::Zero => Some(0.0),
                    Outside::Cut => None,
                },
            };
            contents[class].iter().zip(&contents[self.to]).enumerate().map(factor).collect()
        };
        (0..contents.len()).map(of_class).collect()
    }

    /// What becomes of an event that has no ratio, in words.
    fn words(factor: Factor) -> &'static str {
        match factor {
            None => "cut",
            Some(0.0) => "weight 0",
            Some(_) => "weight as it was",
        }
    }
}

/// Sums the spectra.
struct Survey {
    weighing: Weighing,
    cells: Vec<u32>,
}

impl Fold for Survey {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        self.weighing.spectrum.add(batch, &mut self.cells, into)
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let Weighing { spectrum, to, of, .. } = &self.weighing;
        let contents = spectrum.contents(sums);
        let factors = self.weighing.factors(&contents);
        let classes: Vec<usize> = (0..of.len()).filter(|class| of[*class]).collect();
        let mut remarks = self.remarks(&contents, &factors, &classes);
        if spectrum.unweighable(sums) != 0 {
            let rows = words::counted(spectrum.unweighable(sums).unsigned_abs(), "row");
            remarks.push(format!("{rows} without a finite {}: in no spectrum", spectrum.weight.as_deref().unwrap_or("weight")));
        }
        let table = self.table(&contents, &factors, &classes)?;
        let highlights = self.highlights(&contents, &factors, &classes);
        Ok(Summary {
            table,
            histograms: Vec::new(),
            figures: self.figures(&factors, &contents, *to, &classes),
            highlights,
            remarks,
        })
    }
}

impl Survey {
    /// The factor with its standard error, from the squares of the weights of both classes.
    fn with_error(of: &Content, to: &Content, factor: Factor) -> Option<(f64, f64)> {
        let factor = factor?;
        let relative = (of.w2 / of.w.powi(2) + to.w2 / to.w.powi(2)).sqrt();
        Some((factor, if factor > 0.0 && relative.is_finite() { factor * relative } else { 0.0 }))
    }

    fn table(&self, contents: &[Vec<Content>], factors: &[Vec<Factor>], classes: &[usize]) -> anyhow::Result<RecordBatch> {
        let Weighing { spectrum, to, schema, .. } = &self.weighing;
        let filled = |class: usize| {
            let some = move |slot: &usize| {
                spectrum.place(*slot) == Where::Inside || contents[class][*slot].n + contents[*to][*slot].n > 0
            };
            (0..spectrum.binning.slots()).filter(some).map(move |slot| (class, slot))
        };
        let cells: Vec<(usize, usize)> = classes.iter().flat_map(|class| filled(*class)).collect();
        let mut columns = spectrum.arrays(&cells);
        columns.push(counts(cells.iter().map(|(class, slot)| contents[*class][*slot].n)));
        columns.push(counts(cells.iter().map(|(_, slot)| contents[*to][*slot].n)));
        let weight = |(class, slot): &(usize, usize)| {
            Self::with_error(&contents[*class][*slot], &contents[*to][*slot], factors[*class][*slot])
        };
        columns.push(numbers(cells.iter().map(|cell| weight(cell).map(|w| w.0))));
        columns.push(numbers(cells.iter().map(|cell| weight(cell).map(|w| w.1))));
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }

    fn highlights(&self, contents: &[Vec<Content>], factors: &[Vec<Factor>], classes: &[usize]) -> Vec<Vec<String>> {
        let header = ["class", "events", "sum of weights", "effective events", "target"];
        let mut lines = vec![header.map(str::to_owned).to_vec()];
        let target = self.of_target(contents, factors);
        for class in classes {
            let of = contents[*class].iter().zip(&factors[*class]);
            let events: i64 = contents[*class].iter().map(|c| c.n).sum();
            let w: f64 = of.clone().map(|(c, f)| c.w * f.unwrap_or(0.0)).sum();
            let w2: f64 = of.map(|(c, f)| c.w2 * f.unwrap_or(0.0).powi(2)).sum();
            let effective = if w2 > 0.0 { w * w / w2 } else { 0.0 };
            let line = [words::with_error(w, w2.sqrt()), words::significant(effective, 4), words::significant(target, 6)];
            lines.push(
                [self.weighing.spectrum.classes.names[*class].clone(), events.to_string()].into_iter().chain(line).collect(),
            );
        }
        lines
    }

    /// The sum of the target's weights, of what is used of it.
    fn of_target(&self, contents: &[Vec<Content>], factors: &[Vec<Factor>]) -> f64 {
        let to = self.weighing.to;
        contents[to].iter().zip(&factors[to]).map(|(c, factor)| c.w * factor.unwrap_or(0.0)).sum()
    }

    fn remarks(&self, contents: &[Vec<Content>], factors: &[Vec<Factor>], classes: &[usize]) -> Vec<String> {
        let Weighing { spectrum, to, outside, empty, .. } = &self.weighing;
        let made = match outside {
            Outside::Cell => "cells of their own",
            Outside::One => "weight as it was",
            Outside::Zero => "weight 0",
            Outside::Cut => "cut",
        };
        let touched = |class: usize| classes.contains(&class) || self.weighing.touches(class);
        let mut remarks = spectrum.remarks(contents, touched, made);
        let made = match empty {
            Empty::Zero => "weight 0",
            Empty::One => "weight as it was",
            Empty::Cut => "cut",
        };
        let all = self.of_target(contents, factors);
        for class in classes {
            let (mut without, mut missed) = (0, 0.0);
            for (slot, (of, to)) in contents[*class].iter().zip(&contents[*to]).enumerate() {
                if self.weighing.has_ratio(slot) && self.weighing.ratio(of, to).is_none() {
                    without += of.n;
                    missed += to.w;
                }
            }
            let (name, target) = (&spectrum.classes.names[*class], &spectrum.classes.names[*to]);
            if without != 0 {
                let rows = words::counted(without.unsigned_abs(), "row");
                remarks
                    .push(format!("{rows} of `{name}` in cells without `{target}` (or with sums that are not positive): {made}"));
            }
            if missed > 0.0 {
                let share = words::significant(100.0 * missed / all, 3);
                remarks.push(format!("{share} % of `{target}` lies in cells without `{name}`, which no weight can make"));
            }
        }
        remarks
    }

    fn figures(&self, factors: &[Vec<Factor>], contents: &[Vec<Content>], to: usize, classes: &[usize]) -> Vec<Figure> {
        let spectrum = &self.weighing.spectrum;
        let cells = spectrum.binning.cells();
        let title = format!("Weights to the spectrum of {}", spectrum.classes.names[to]);
        let weight =
            |class: usize, slot: usize| Self::with_error(&contents[class][slot], &contents[to][slot], factors[class][slot]);
        match &spectrum.binning.columns[..] {
            [x] => {
                let point = |class: usize| {
                    let points = cells.iter().filter_map(move |cell| {
                        let ((low, high), (y, y_error)) = (cell.edges[0], weight(class, cell.slot)?);
                        Some(Point { x: f64::midpoint(low, high), x_error: (high - low) / 2.0, y, y_error, y_error_up: None })
                    });
                    Curve { label: spectrum.classes.names[class].clone(), points: points.collect(), line: Vec::new() }
                };
                let curves = classes.iter().map(|class| point(*class)).collect();
                let content = Drawn::Curves { curves, log_y: false };
                vec![Figure { name: "weights".into(), title, x: x.label.clone(), y: "weight".into(), content }]
            }
            [x, y] => {
                let heat = |class: &usize| Figure {
                    name: format!("weights-{}", spectrum.classes.names[*class]),
                    title: format!("{title}: {}", spectrum.classes.names[*class]),
                    x: x.label.clone(),
                    y: y.label.clone(),
                    content: Drawn::Heat {
                        x_edges: x.axis.edges(),
                        y_edges: y.axis.edges(),
                        values: cells.iter().map(|cell| factors[*class][cell.slot].unwrap_or(0.0)).collect(),
                        log: true,
                    },
                };
                classes.iter().map(heat).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Gives each event its weight.
struct Weigh {
    weighing: Weighing,
    factors: Vec<Factor>,
    column: String,
    outputs: Vec<String>,
    cells: Vec<u32>,
    noticed: Noticed,
}

impl Map for Weigh {
    fn map(&mut self, batch: RecordBatch) -> Result<Mapped, Fault> {
        let Self { weighing, factors, cells, .. } = self;
        weighing.spectrum.cells(&batch, cells)?;
        let own = weighing.spectrum.weight.as_ref().map(|w| column::floats(&batch, w)).transpose()?;
        let of = |row: usize, cell: u32| factors[cell as usize].map(|factor| factor * own.as_ref().map_or(1.0, |w| w[row]));
        let weights: Vec<Factor> = cells.iter().enumerate().map(|(row, cell)| of(row, *cell)).collect();
        self.notice();
        let kept = weights.iter().filter(|w| w.is_some()).count();
        let cut = (weights.len() - kept) as u64;
        let batch = if cut == 0 {
            batch
        } else {
            filter_record_batch(&batch, &weights.iter().map(|w| Some(w.is_some())).collect::<BooleanArray>())?
        };
        let column = Arc::new(weights.into_iter().flatten().collect::<Float64Array>());
        let wide = with_column(&batch, &self.column, DataType::Float64, column)?;
        Ok(Mapped { batch: select::project(&wide, &self.outputs)?, cut })
    }

    fn noticed(&mut self) -> Noticed {
        std::mem::take(&mut self.noticed)
    }
}

impl Weigh {
    /// Counts the rows in hand whose weight is no ratio.
    fn notice(&mut self) {
        let slots = self.weighing.spectrum.binning.slots();
        let (mut outside, mut empty) = ([0; 3], [0; 3]);
        let which = |factor: Factor| match factor {
            None => 0,
            Some(0.0) => 1,
            Some(_) => 2,
        };
        for cell in &self.cells {
            let (class, slot) = (*cell as usize / slots, *cell as usize % slots);
            let factor = self.factors[*cell as usize];
            if self.weighing.touches(class) && !self.weighing.has_ratio(slot) {
                outside[which(factor)] += 1;
            } else if self.weighing.of[class] && which(factor) < 2 {
                empty[which(factor)] += 1;
            }
        }
        for (what, counts) in [("outside the bins", outside), ("in cells without the target", empty)] {
            for (count, factor) in counts.into_iter().zip([None, Some(0.0), Some(1.0)]) {
                notice(&mut self.noticed, count, || format!("rows {what}: {}", Weighing::words(factor)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
