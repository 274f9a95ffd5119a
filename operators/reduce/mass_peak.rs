//! The mass peak of pairs, for one or several energies of the same particles, and how much narrower one makes it.
//!
//! Rows are pairs, as [`pair`](crate::row::pair) makes them: `x_1` and `x_2` for each quantity. What is summed is a histogram of
//! `M^2 = 2 pT1 pT2 (cosh(difference of eta) - cos(difference of phi))` for each group, bin and energy; at the end the
//! [peak](crate::statistics::peak) is fitted to each, and to all bins of a group together: sigma is the width of the Crystal Ball.
//!
//! The approximate energy that the mass of the Z says a particle has is a column of the pairs, which `pair` makes.
//!
//! The improvement of energy A on the reference B is 1 - sigma_A / sigma_B. Both widths come from the same events, so their
//! errors go together and must not be added in quadrature. So they are [bootstrapped](crate::statistics::bootstrap) in
//! pairs, and the error is the spread of the improvement over the replicas.
//!
//! Key of a bin of masses: `((replica * places + place) * energies + energy) * slots + slot`, where a place is a slot of the bins
//! of a group (`group * bins + bin`, flow included) and replica 0 the data themselves. With weights, sums of w stand there, and behind all of them the sums of w^2 of replica 0.

mod shown;
mod widths;

use crate::column::{self, EVENT};
use crate::draw;
use crate::kinematics::{Quantity, Z_MASS, Z_WIDTH, mass, opening, per_gev};
use crate::registry::Describe;
use crate::row::pair::{self, names};
use crate::statistics::axis::Axis;
use crate::statistics::binning::{Binning, By};
use crate::statistics::bootstrap::{self, MOST_REPLICAS, REPLICAS};
use crate::statistics::figure::Summary;
use crate::statistics::folding::{gather, one_input, table};
use crate::statistics::for_each::{ForEach, Regions};
use crate::statistics::groups::Groups;
use crate::statistics::peak::{ALPHAS, Background, Held, Line, OF_PEAK, PARAMETERS, POWERS};
use crate::statistics::populations;
use crate::statistics::sums::Sums;
use crate::weights;
use crate::work::Fold;
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use arrow::array::RecordBatch;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

const BINS: u32 = 100;
const MOST_BINS: usize = 2000;
/// What lies on either side of the mass where no range is given, in GeV.
const REACH: f64 = 25.0;

/// The width of a mass peak, and how much narrower one energy makes it than another.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MassPeak {
    /// The energies to compare, each by the name that it had before `pair`: `[pt]`, or `[pt_cnn, pt_bdt]`.
    pub of: Placed<Vec<Placed<String>>>,
    /// Which they are: `pt` (or transverse energy), or `energy`.
    #[serde(default)]
    pub holds: Quantity,
    /// The pseudorapidity, by the name that it had before `pair`.
    #[serde(default = "pair::eta")]
    pub eta: Placed<String>,
    /// The azimuth, by the name that it had before `pair`.
    #[serde(default = "pair::phi")]
    pub phi: Placed<String>,
    /// The energy that the others are compared with; the first where none is named.
    #[serde(default)]
    pub reference: Option<Placed<String>>,
    /// The lowest and the highest mass of the fit, in the unit of the energies; 25 GeV on either side of the mass where
    /// none is given.
    #[serde(default)]
    pub range: Option<Placed<(f64, f64)>>,
    /// Bins in that range. The curve is integrated over each, so that wide ones cause no bias; 100 where nothing is said.
    #[serde(default)]
    pub bins: Option<Placed<u32>>,
    /// The mass of the particle; that of the Z where none is given.
    #[serde(default)]
    pub mass: Option<Placed<f64>>,
    /// Its width; that of the Z where none is given.
    #[serde(default)]
    pub width: Option<Placed<f64>>,
    /// Holds where the Crystal Ball's tail begins, in sigmas; fitted where none is given.
    #[serde(default)]
    pub alpha: Option<Placed<f64>>,
    /// Holds the power of the Crystal Ball's tail; fitted where none is given.
    #[serde(default)]
    pub n: Option<Placed<f64>>,
    /// The column of weights; without it the weights that the source gives its samples, if it does; `none` counts every pair 1.
    #[serde(default)]
    pub weight: Option<Placed<String>>,
    /// What lies below the peak, fitted with it: `none`, `exponential`, or `linear`. Its fraction of all pairs in the range and its slope
    /// stand in the table.
    #[serde(default)]
    pub background: Background,
    /// One or two columns of the pairs to bin in, with their bins, for a fit in each: `{ pt_1: { edges: [20, 40, 60, 100] } }`.
    #[serde(default)]
    pub by: Option<By>,
    /// The columns to tell pairs apart by, each group by itself: `sample`, `[sample, converted]`, or with the values that are told apart
    /// `{ layer: [1, 2, 3] }`.
    #[serde(default)]
    pub for_each: Option<ForEach>,
    /// Named selections, each a SQL condition: `{ central: abs(eta_1) < 1.4 and abs(eta_2) < 1.4, all: true }`. A pair counts in every
    /// one that it fits.
    #[serde(default)]
    pub regions: Option<Regions>,
    /// Replicas for the error of the improvement; 100 where nothing is said, 0 for no error.
    #[serde(default)]
    pub bootstrap: Option<Placed<u32>>,
}

impl Describe for MassPeak {
    const ABOUT: &'static str = "Fits the width of the Z peak of pairs, and gives how much narrower one energy makes it";
    const EXAMPLE: &'static str = "\
peak:
  from: pairs
  mass_peak: { of: [pt_cnn, pt_bdt], reference: pt_bdt, range: [66, 116], bins: 100 }
# In bins of a column of the pairs, above a background that falls: `by: { pt_1: { edges: [20, 40, 60, 100] } }`, `background: exponential`
";
}

/// A `mass_peak` whose words were found right.
#[derive(Debug)]
struct Weighing {
    of: Vec<String>,
    holds: Quantity,
    eta: String,
    phi: String,
    reference: usize,
    axis: Axis,
    line: Line,
    held: Held,
    unit: Option<String>,
    weight: Option<String>,
    groups: Groups,
    binning: Binning,
    /// The axis that plots go along.
    along: usize,
    replicas: u32,
    seed: u64,
    schema: Arc<Schema>,
    numbers: Vec<u32>,
    places: Vec<u32>,
}

impl MassPeak {
    /// Both columns of a quantity.
    fn two<'a>(schema: &'a Schema, word: &Placed<String>) -> Result<&'a Field, Problem> {
        let there = |name: &String| column::number(schema, &Placed { value: name.clone(), place: word.place });
        let [first, second] = names(&word.value);
        let field = there(&first).and_then(|field| there(&second).map(|_| field));
        field.map_err(|problem| match schema.field_with_name(&first).is_err() {
            true => {
                let known = schema.fields().iter().filter_map(|f| f.name().strip_suffix("_1"));
                Problem::at(word, format!("no columns `{first}` and `{second}`")).suggest(&word.value, known)
            }
            false => problem,
        })
    }

    fn weighing(&self, schema: &Schema, seed: u64) -> Result<Weighing, Vec<Problem>> {
        let (mut problems, mut seen) = (Vec::new(), BTreeSet::new());
        if self.of.is_empty() {
            problems.push(Problem::at(&self.of, "no energy to make a mass of").help("of: [pt]"));
        }
        let mut unit: Option<Option<&str>> = None;
        for word in self.of.iter() {
            if !seen.insert(word.value.as_str()) {
                problems.push(Problem::at(word, format!("`{}` is named twice", word.value)));
            }
            let Some(field) = gather(Self::two(schema, word), &mut problems) else { continue };
            match unit {
                Some(first) if first != column::unit(field) => {
                    let [first, own] = [first, column::unit(field)].map(|unit| unit.unwrap_or("no unit"));
                    problems.push(Problem::at(word, format!("`{}` is in {own}, the first energy in {first}", word.value)));
                }
                _ => unit = Some(column::unit(field)),
            }
        }
        for word in [&self.eta, &self.phi] {
            gather(Self::two(schema, word), &mut problems);
        }
        let unit = unit.flatten();
        let reference = match &self.reference {
            None => 0,
            Some(word) => self.of.iter().position(|name| name.value == word.value).unwrap_or_else(|| {
                let problem = Problem::at(word, format!("`{}` is not one of the energies", word.value));
                problems.push(problem.suggest(word, self.of.iter().map(|name| name.value.as_str())));
                0
            }),
        };
        for (what, value) in [("mass", &self.mass), ("width", &self.width)] {
            if let Some(value) = value.as_ref().filter(|value| !(value.value > 0.0 && value.value.is_finite())) {
                problems.push(Problem::at(value, format!("a {what} of {}", value.value)).help("it is above 0"));
            }
        }
        for (what, value, [low, high]) in [("alpha", &self.alpha, ALPHAS), ("n", &self.n, POWERS)] {
            if let Some(value) = value.as_ref().filter(|value| !(low..=high).contains(&value.value)) {
                problems
                    .push(Problem::at(value, format!("{what} of {}", value.value)).help(format!("it lies from {low} to {high}")));
            }
        }
        let gev = per_gev(unit);
        let line = Line {
            mass: self.mass.as_ref().map_or(Z_MASS * gev, |mass| mass.value),
            width: self.width.as_ref().map_or(Z_WIDTH * gev, |width| width.value),
        };
        let axis = self.axis(line, gev, &mut problems);
        if let Some(weight) = &self.weight {
            gather(column::number(schema, weight), &mut problems);
        }
        let replicas = self.bootstrap.as_ref().map_or(REPLICAS, |replicas| replicas.value);
        if let Some(word) = self.bootstrap.as_ref().filter(|word| word.value == 1 || word.value > MOST_REPLICAS) {
            let problem = Problem::at(word, format!("{} replicas", word.value));
            problems.push(problem.help(format!("give 2 to {MOST_REPLICAS}, or 0 for no error")));
        }
        let replicas = if self.of.len() > 1 { replicas } else { 0 };
        if replicas > 0 {
            let word = self.bootstrap.as_ref().map_or_else(
                || Placed { value: String::new(), place: self.of.place },
                |word| Placed { value: String::new(), place: word.place },
            );
            problems.extend(draw::needs_events(schema, &word).err().map(|problem| problem.help("or give `bootstrap: 0`")));
        }
        let groups = gather(Groups::plan(schema, self.for_each.as_ref(), self.regions.as_ref()), &mut problems);
        let binning = gather(Binning::plan(schema, self.by.as_ref(), 2), &mut problems);
        if let (Some(groups), Some(binning), Some(axis)) = (&groups, &binning, &axis) {
            let things = self.of.len() * axis.slots() * (1 + replicas as usize);
            gather(groups.binned(binning, things, self.by.as_ref()), &mut problems);
        }
        let (Some(groups), Some(binning), Some(axis), true) = (groups, binning, axis, problems.is_empty()) else {
            return Err(problems);
        };
        let first = self.by.iter().flat_map(|by| by.keys()).min_by_key(|name| name.place);
        let along = first.and_then(|first| binning.columns.iter().position(|c| c.column == first.value)).unwrap_or_default();
        let schema = Arc::new(table_schema(&groups, &binning, self.background, unit));
        let mut weighing = Weighing {
            of: self.of.iter().map(|word| word.value.clone()).collect(),
            holds: self.holds,
            eta: self.eta.value.clone(),
            phi: self.phi.value.clone(),
            reference,
            axis,
            line,
            held: Held {
                alpha: self.alpha.as_ref().map(|a| a.value),
                n: self.n.as_ref().map(|n| n.value),
                background: self.background,
            },
            unit: unit.map(str::to_owned),
            weight: self.weight.as_ref().map(|w| w.value.clone()),
            groups,
            binning,
            along,
            replicas,
            seed,
            schema,
            numbers: Vec::new(),
            places: Vec::new(),
        };
        weighing.groups = weighing.groups.clone().carrying(weighing.reads());
        Ok(weighing)
    }

    fn axis(&self, line: Line, gev: f64, problems: &mut Vec<Problem>) -> Option<Axis> {
        let usual = Placed::unplaced((line.mass - REACH * gev, line.mass + REACH * gev));
        let range = self.range.clone().unwrap_or(usual);
        let bins = self.bins.clone().unwrap_or(Placed::unplaced(BINS));
        let (low, high) = range.value;
        let words = crate::statistics::axis::AxisWords {
            range: Some(range.clone()),
            bins: Some(bins.clone()),
            ..crate::statistics::axis::AxisWords::default()
        };
        let axis = gather(Axis::plan(&Placed::unplaced("mass".into()), &words), problems)?;
        if !(low < line.mass && line.mass < high && low >= 0.0) {
            let what = format!("the mass of {} does not lie in the range [{low}, {high}]", line.mass);
            problems.push(Problem::at(&range, what).help("the range is in the unit of the energies"));
        }
        if axis.bins() < 10 || axis.bins() > MOST_BINS {
            problems.push(Problem::at(&bins, format!("{} bins", bins.value)).help(format!("give 10 to {MOST_BINS}")));
        }
        Some(axis)
    }
}

fn table_schema(groups: &Groups, binning: &Binning, background: Background, unit: Option<&str>) -> Schema {
    let mut fields: Vec<Field> = groups.fields().collect();
    fields.extend(binning.fields());
    fields.push(Field::new("of", DataType::Utf8, false));
    fields.push(Field::new("pairs", DataType::Int64, false));
    let over = unit.map(|unit| format!("1/{unit}"));
    for (i, name) in PARAMETERS.iter().enumerate().take(fitted(background)) {
        let unit = match (i, background) {
            (0 | 1, _) => unit,
            (5, Background::Exponential) => over.as_deref(),
            _ => None,
        };
        for name in [(*name).to_owned(), format!("{name}_error")] {
            fields.push(column::with_unit(Field::new(name, DataType::Float64, true), unit));
        }
    }
    fields.push(Field::new("chi2", DataType::Float64, true));
    fields.push(Field::new("ndf", DataType::Int64, true));
    fields.extend(["improvement", "improvement_error"].map(|name| Field::new(name, DataType::Float64, true)));
    fields.push(Field::new("reason", DataType::Utf8, true));
    Schema::new_with_metadata(fields, groups.metadata())
}

/// How many parameters are fitted.
fn fitted(background: Background) -> usize {
    if background == Background::None { OF_PEAK } else { PARAMETERS.len() }
}

impl MassPeak {
    /// The same with the weights that it takes where it is told none.
    fn weighed(&self, schema: &Schema) -> Self {
        Self { weight: weights::of(schema, self.weight.as_ref()), ..self.clone() }
    }
}

impl Operator for MassPeak {
    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let this = self.weighed(one_input(inputs)?);
        let weighing = this.weighing(one_input(inputs)?, facts.seed)?;
        let reads = Reads::Columns(weighing.reads());
        let bytes = weighing.all() * 8 + if weighing.weight.is_some() { (weighing.all() + weighing.cells()) * 112 } else { 0 };
        let rows = weighing.groups.len() * (1 + weighing.binning.len()) * weighing.of.len();
        let planned = Planned::new(Shape::Fold, vec![table(weighing.schema, rows)]).reading(reads).holding(bytes as u64);
        Ok(Planned { survey: populations::reads(self.by.as_ref()), ..planned })
    }

    fn survey(&self, _: &Start<'_>) -> anyhow::Result<Box<dyn Fold>> {
        Ok(populations::survey(self.by.as_ref()))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let schema = one_input(at.inputs).map_err(|_| anyhow::anyhow!("a mass_peak of one input"))?;
        let by = populations::settled(self.by.as_ref(), at.runtime.surveyed.as_ref())?;
        let this = Self { by, ..self.clone() }.weighed(schema);
        let weighing = this.weighing(schema, at.facts.seed).map_err(|problems| anyhow::anyhow!("{}", problems[0].what))?;
        Ok(Work::Fold(Box::new(weighing)))
    }
}

impl Weighing {
    /// The columns that are read.
    fn reads(&self) -> BTreeSet<String> {
        let two = self.of.iter().chain([&self.eta, &self.phi]).flat_map(|name| names(name));
        let others = self.weight.clone().into_iter().chain((self.replicas > 0).then(|| EVENT.to_owned()));
        two.chain(others).chain(self.groups.reads()).chain(self.binning.names()).collect()
    }

    /// The slots of the bins of all groups.
    fn all_places(&self) -> usize {
        self.groups.len() * self.binning.slots()
    }

    /// The bins of the data, in all places and of all energies.
    fn cells(&self) -> usize {
        self.all_places() * self.of.len() * self.axis.slots()
    }

    /// The bins of the data and of all replicas.
    fn all(&self) -> usize {
        self.cells() * (1 + self.replicas as usize)
    }

    fn cell(&self, replica: usize, place: usize, energy: usize) -> usize {
        ((replica * self.all_places() + place) * self.of.len() + energy) * self.axis.slots()
    }

    fn two(batch: &RecordBatch, name: &str) -> anyhow::Result<[ScalarBuffer<f64>; 2]> {
        let [one, other] = names(name).map(|name| column::floats(batch, &name));
        Ok([one?, other?])
    }
}

impl Fold for Weighing {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        let batch = &*self.groups.enter(batch, &mut self.numbers, into)?;
        let rows = batch.num_rows();
        self.binning.numbers(batch, &mut self.places)?;
        let bins = self.binning.slots() as u32;
        self.places.iter_mut().zip(&self.numbers).for_each(|(place, group)| *place += *group * bins);
        let (eta, phi) = (Self::two(batch, &self.eta)?, Self::two(batch, &self.phi)?);
        let mut cells: Vec<u32> = Vec::with_capacity(self.of.len() * rows);
        for (energy, name) in self.of.iter().enumerate() {
            let energies = Self::two(batch, name)?;
            for row in 0..rows {
                let eta = [eta[0][row], eta[1][row]];
                let pt = std::array::from_fn(|k| self.holds.pt(energies[k][row], eta[k]));
                let mass = mass(pt, opening(eta, [phi[0][row], phi[1][row]]));
                // What is no number has no mass; what is infinite has none either.
                let slot = self.axis.slot(if mass.is_finite() { mass } else { f64::NAN });
                cells.push((self.cell(0, self.places[row] as usize, energy) + slot) as u32);
            }
        }
        let weights = self.weight.as_ref().map(|weight| column::floats(batch, weight)).transpose()?;
        let weight = |row: usize| weights.as_ref().map_or(1.0, |weights| weights[row]);
        let (all, of_data) = (self.all(), self.cells());
        let sums = if weights.is_some() { all + of_data } else { 0 };
        let (counts, sums) = into.dense(all + 1, sums);
        counts[all] += (0..rows).filter(|row| !weight(*row).is_finite()).count() as i64;
        let usable: Vec<usize> = (0..rows).filter(|row| weight(*row).is_finite()).collect();
        for row in &usable {
            for energy in 0..self.of.len() {
                let cell = cells[energy * rows + row] as usize;
                counts[cell] += 1;
                if weights.is_some() {
                    sums[cell].add(weight(*row));
                    sums[all + cell].add(weight(*row) * weight(*row));
                }
            }
        }
        if self.replicas == 0 {
            return Ok(());
        }
        let events = draw::events(batch)?;
        let mut times = vec![0; self.replicas as usize];
        for row in usable {
            bootstrap::counts(events[row], self.seed, &mut times);
            for (replica, times) in times.iter().enumerate().filter(|(_, times)| **times > 0) {
                for energy in 0..self.of.len() {
                    let cell = (1 + replica) * of_data + cells[energy * rows + row] as usize;
                    if weights.is_some() {
                        sums[cell].add(*times as f64 * weight(row));
                    } else {
                        counts[cell] += times;
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let widths = self.fitted(sums);
        Ok(Summary {
            table: self.table(&widths)?,
            histograms: (0..self.of.len()).map(|energy| self.histogram(sums, energy)).collect(),
            figures: self.figures(&widths),
            highlights: self.highlights(&widths),
            remarks: self.remarks(&widths, sums),
        })
    }
}

#[cfg(test)]
mod tests;
