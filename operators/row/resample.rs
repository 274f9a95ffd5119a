//! `resample`: events are taken again, or not at all, so that classes get the spectrum of another.
//!
//! The spectra of all classes are counted first, in a phase of its own. A class that is to give `N` events has, in a cell with
//! `o` of its events and `t` of the `T` of the target, `m = N t / (T o)` for each of them:
//!
//! * `countup`: an event is taken `floor(m + u)` times, `u` uniform in [0, 1) by its key: as often as `m` says, to within one;
//! * `pdf`: it is taken a Poisson number of times, of mean `m`: drawing with replacement, each event by its importance.
//!
//! Both methods are those of the flavour-tagging code umami (umami-preprocessing), which draws batch by batch from one stream
//! of random numbers. Here each event draws for itself, from the seed and its identity: so what is taken depends on no batch,
//! file or worker, and the number that is taken is N only up to its fluctuation, which is printed (of `countup` at most half a
//! root of N, of `pdf` a root of N). The column `copy` says how often an event was there before.

use crate::column::{COPY, EVENT};
use crate::draw::{self, Draws};
use crate::registry::Describe;
use crate::statistics::binning::By;
use crate::statistics::figure::Summary;
use crate::statistics::folding::gather;
use crate::statistics::spectrum::{Content, Spectrum, Where, counts, numbers, widened, with_column};
use crate::statistics::sums::Sums;
use crate::work::{Fold, Map, Mapped};
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work, words};
use anyhow::Context;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::select;

/// A mean number of copies above this is taken for a mistake.
const MOST_COPIES: f64 = 1e6;

/// Takes events again, or not at all, so that classes get the spectrum of another.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resample {
    /// The class whose spectrum is wanted, or `flat`: as many in every bin in which the class has any.
    to: Placed<String>,
    /// The classes that are resampled, each by itself; all others where nothing is said.
    #[serde(default)]
    of: Option<Placed<Vec<Placed<String>>>>,
    /// One to three columns with their bins: `{ pt: { edges: [20, 30, 50, 100, 250] }, eta: { range: [0, 2.5], bins: 5 } }`.
    by: By,
    /// `countup`, as often as the ratio says to within one; or `pdf`, drawn with replacement.
    #[serde(default)]
    method: Method,
    /// How many events each class gives: a number, or one for each class. As many as it has (in the bins, where the others are
    /// cut) where nothing is said.
    #[serde(default)]
    events: Option<Placed<Events>>,
    /// Events below or above the bins (or with NaN): `cut`, those of the wanted class, too; or `cell`, which takes underflow and
    /// overflow for cells like the others.
    #[serde(default)]
    outside: Outside,
    /// The name of this draw, where a pipeline resamples twice.
    #[serde(default)]
    draw: Option<Placed<String>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Method {
    /// As often as the ratio says, to within one.
    #[default]
    Countup,
    /// Drawn with replacement.
    Pdf,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Outside {
    /// The event is cut.
    #[default]
    Cut,
    /// Underflow, overflow and NaN are cells.
    Cell,
}

/// How many events.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Events {
    /// Of each class.
    All(u64),
    /// By class.
    Each(BTreeMap<String, u64>),
}

impl Describe for Resample {
    const ABOUT: &'static str = "Takes events again, or not at all, so that classes get the spectrum of another";
    const EXAMPLE: &'static str = "\
even:
  from: events
  resample:
    to: signal
    by: { pt: { edges: [20, 30, 50, 100, 250] }, eta: { range: [0, 2.5], bins: 5 } }
    method: countup
";
}

/// A resampling whose words were found right.
#[derive(Debug, Clone)]
struct Sampling {
    spectrum: Spectrum,
    /// The target; none for a flat one.
    to: Option<usize>,
    /// By class: true where it is resampled.
    of: Vec<bool>,
    /// By class: how many events are asked for.
    events: Vec<Option<u64>>,
    method: Method,
    outside: Outside,
    schema: SchemaRef,
}

impl Resample {
    fn sampling(&self, schema: &Schema) -> Result<Sampling, Vec<Problem>> {
        let spectrum = Spectrum::plan(schema, &self.by, None)?;
        let (mut problems, names) = (Vec::new(), spectrum.classes.names.clone());
        let flat = self.to.value == "flat" && !names.contains(&self.to.value);
        let to = if flat { None } else { gather(spectrum.classes.number(&self.to), &mut problems) };
        let mut of: Vec<bool> = (0..names.len()).map(|class| (flat || Some(class) != to) && self.of.is_none()).collect();
        for word in self.of.iter().flat_map(|of| of.iter()) {
            if let Some(class) = gather(spectrum.classes.number(word), &mut problems) {
                of[class] = true;
            }
        }
        let mut events = vec![None; names.len()];
        match self.events.as_ref().map(|e| (e, &e.value)) {
            None => {}
            Some((place, Events::All(0))) => problems.push(Problem::at(place, "0 events").help("at least 1")),
            Some((_, Events::All(n))) => events.fill(Some(*n)),
            Some((place, Events::Each(each))) => {
                for (name, n) in each {
                    match names.iter().position(|known| known == name) {
                        Some(class) if of[class] => events[class] = Some(*n),
                        Some(_) => problems.push(Problem::at(place, format!("`{name}` is not resampled"))),
                        None => {
                            let problem = Problem::at(place, format!("no sample `{name}`"));
                            problems.push(problem.suggest(name, names.iter().map(String::as_str)));
                        }
                    }
                }
            }
        }
        if problems.is_empty() && !of.contains(&true) {
            problems.push(Problem::at(&self.to, "there is no other class that could be given its spectrum"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut fields = spectrum.fields();
        fields.push(Field::new("n", DataType::Int64, false));
        fields.push(Field::new("n_target", DataType::Int64, true));
        fields.push(Field::new("copies", DataType::Float64, true));
        let schema = Arc::new(Schema::new(fields));
        Ok(Sampling { spectrum, to, of, events, method: self.method, outside: self.outside, schema })
    }
}

impl Operator for Resample {
    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let input = &inputs[0];
        let sampling = self.sampling(&input.schema)?;
        draw::needs_events(&input.schema, &self.to).map_err(|problem| vec![problem])?;
        if input.schema.field_with_name(COPY).is_ok() && !facts.narrowed {
            let problem = Problem::at(&self.to, format!("there is a column `{COPY}` already"));
            return Err(vec![problem.help(format!(
                "leave it out with a `select` before; `derive: {{ taken: {COPY} }}` before that keeps it as `taken`"
            ))]);
        }
        let survey = Reads::columns(sampling.spectrum.columns());
        let reads = Reads::columns(sampling.spectrum.columns().chain([EVENT.to_owned()]));
        let output = Output { rows: None, ..widened(input, Field::new(COPY, DataType::UInt32, false)) };
        let mut planned = Planned::new(Shape::Map, vec![output]).reading(reads).holding(sampling.spectrum.bytes());
        planned.survey = Some(survey);
        planned.cuts = true;
        Ok(planned)
    }

    fn survey(&self, at: &Start<'_>) -> anyhow::Result<Box<dyn Fold>> {
        let sampling = self.sampling(&at.inputs[0].schema).map_err(select::described)?;
        Ok(Box::new(Survey { sampling, cells: Vec::new() }))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let sampling = self.sampling(&at.inputs[0].schema).map_err(select::described)?;
        let sums = at.runtime.surveyed.as_ref().context("spectra that were not counted")?;
        let means = sampling.means(&sampling.spectrum.contents(sums)).concat();
        let purpose = format!("resample {}", self.draw.as_ref().map_or("", |word| word.value.as_str()));
        // Which events are taken is the sample itself, and not an augmentation: the same in every epoch.
        let draws = Draws::new(&Facts { epoch: 0, seed: at.facts.seed, ..Facts::default() }, &purpose);
        let outputs = select::names(at);
        Ok(Work::Map(Box::new(Take { sampling, means, draws, outputs, cells: Vec::new(), repeated: 0 })))
    }
}

impl Sampling {
    /// True where a slot is one of those that events are taken from.
    fn is_cell(&self, slot: usize) -> bool {
        self.outside == Outside::Cell || self.spectrum.place(slot) == Where::Inside
    }

    /// True where events of a class are not simply passed on.
    fn touches(&self, class: usize) -> bool {
        self.of[class] || Some(class) == self.to
    }

    /// What the target has in each slot that is a cell, for a class.
    fn target(&self, contents: &[Vec<Content>], class: usize) -> Vec<i64> {
        let target = |(slot, own): (usize, &Content)| match self.to {
            _ if !self.is_cell(slot) => 0,
            Some(to) => contents[to][slot].n,
            None => i64::from(own.n > 0),
        };
        contents[class].iter().enumerate().map(target).collect()
    }

    /// How often an event of each class and slot is taken in the mean.
    fn means(&self, contents: &[Vec<Content>]) -> Vec<Vec<f64>> {
        let of_class = |class: usize| {
            if !self.of[class] {
                // Where nothing of the others is left, the target would be alone.
                let taken = |slot: usize| if self.touches(class) && !self.is_cell(slot) { 0.0 } else { 1.0 };
                return (0..contents[class].len()).map(taken).collect();
            }
            let target = self.target(contents, class);
            let all: i64 = target.iter().sum();
            let own: i64 =
                (0..contents[class].len()).filter(|slot| self.is_cell(*slot)).map(|slot| contents[class][slot].n).sum();
            let events = self.events[class].map_or(own as f64, |n| n as f64);
            let mean = |(of, to): (&Content, &i64)| {
                // In this order a class that has the target's spectrum as it is gets 1, and not nearly 1.
                if of.n > 0 && all > 0 { (events * *to as f64) / (all as f64 * of.n as f64) } else { 0.0 }
            };
            contents[class].iter().zip(&target).map(mean).collect()
        };
        (0..contents.len()).map(of_class).collect()
    }
}

/// Counts the spectra.
struct Survey {
    sampling: Sampling,
    cells: Vec<u32>,
}

impl Fold for Survey {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        self.sampling.spectrum.add(batch, &mut self.cells, into)
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let Sampling { spectrum, of, method, outside, schema, .. } = &self.sampling;
        let contents = spectrum.contents(sums);
        let means = self.sampling.means(&contents);
        let made = if *outside == Outside::Cut { "cut" } else { "cells of their own" };
        let mut remarks = spectrum.remarks(&contents, |class| self.sampling.touches(class), made);
        let mut highlights = vec![["class", "events", "taken (expected)", "most copies"].map(str::to_owned).to_vec()];
        let mut cells = Vec::new();
        let mut targets = Vec::new();
        for class in (0..of.len()).filter(|class| of[*class]) {
            let (name, target) = (&spectrum.classes.names[class], self.sampling.target(&contents, class));
            let all: i64 = target.iter().sum();
            if all == 0 {
                remarks.push(format!("nothing of `{name}` is taken: the target has no event in the bins"));
            }
            let missed: i64 = target.iter().zip(&contents[class]).filter(|(_, own)| own.n == 0).map(|(to, _)| to).sum();
            if missed > 0 {
                let share = words::significant(100.0 * missed as f64 / all as f64, 3);
                remarks.push(format!("{share} % of the target lies in cells without `{name}`, which can't be filled"));
            }
            let (mut own, mut taken, mut variance, mut most) = (0, 0.0, 0.0, 0.0_f64);
            for (content, mean) in contents[class].iter().zip(&means[class]) {
                own += content.n;
                taken += content.n as f64 * mean;
                variance += content.n as f64 * if *method == Method::Pdf { *mean } else { mean.fract() * (1.0 - mean.fract()) };
                most = most.max(*mean);
            }
            anyhow::ensure!(most <= MOST_COPIES, "each event of `{name}` in some cell would be taken {most:.0} times");
            if most > 1.0 {
                let most = words::significant(most, 3);
                remarks
                    .push(format!("events of `{name}` are taken up to {most} times in the mean: they are no independent events"));
            }
            let line = [name.clone(), own.to_string(), words::with_error(taken, variance.sqrt()), words::significant(most, 3)];
            highlights.push(line.to_vec());
            for (slot, content) in contents[class].iter().enumerate() {
                if spectrum.place(slot) == Where::Inside || content.n > 0 || target[slot] > 0 {
                    cells.push((class, slot));
                    targets.push(self.sampling.to.map(|to| contents[to][slot].n));
                }
            }
        }
        let mut columns = spectrum.arrays(&cells);
        columns.push(counts(cells.iter().map(|(class, slot)| contents[*class][*slot].n)));
        columns.push(Arc::new(targets.into_iter().collect::<arrow::array::Int64Array>()));
        columns.push(numbers(cells.iter().map(|(class, slot)| Some(means[*class][*slot]))));
        let table = RecordBatch::try_new(Arc::clone(schema), columns)?;
        Ok(Summary { table, histograms: Vec::new(), figures: Vec::new(), highlights, remarks })
    }
}

/// Takes each event as often as it is to be taken.
struct Take {
    sampling: Sampling,
    means: Vec<f64>,
    draws: Draws,
    outputs: Vec<String>,
    cells: Vec<u32>,
    repeated: u64,
}

impl Map for Take {
    fn map(&mut self, batch: RecordBatch) -> Result<Mapped, Fault> {
        self.sampling.spectrum.cells(&batch, &mut self.cells)?;
        let events = draw::events(&batch)?;
        let (slots, mut cut) = (self.sampling.spectrum.binning.slots(), 0);
        let (mut rows, mut copies) = (Vec::with_capacity(batch.num_rows()), Vec::with_capacity(batch.num_rows()));
        for ((row, cell), event) in (0..).zip(&self.cells).zip(events.iter()) {
            let mean = self.means[*cell as usize];
            let times = if !self.sampling.of[*cell as usize / slots] {
                u32::from(mean > 0.0)
            } else if mean == 0.0 {
                0
            } else {
                match self.sampling.method {
                    Method::Countup => (mean + self.draws.of(*event).uniform()) as u32,
                    Method::Pdf => self.draws.of(*event).poisson(mean),
                }
            };
            cut += u64::from(times == 0);
            self.repeated += u64::from(times.saturating_sub(1));
            rows.extend(std::iter::repeat_n(row, times as usize));
            copies.extend(0..times);
        }
        let taken = take_record_batch(&batch, &UInt32Array::from(rows))?;
        let wide = with_column(&taken, COPY, DataType::UInt32, Arc::new(UInt32Array::from(copies)))?;
        Ok(Mapped { batch: select::project(&wide, &self.outputs)?, cut })
    }

    fn repeated(&mut self) -> u64 {
        std::mem::take(&mut self.repeated)
    }
}

#[cfg(test)]
mod tests;
