//! Bias and resolution of quantities in bins of others, for each class, with errors and fits.
//!
//! In each bin: n, the exact sums of y (each binned column), d, d^2, d^3 and d^4, where d = x - pivot and each summand is rounded
//! once per operation; with weights: w, w^2, w y, w d, .., w d^4. From these, at the end:
//!
//! * bias = mean of x, its error resolution / sqrt(n);
//! * resolution = RMS about the mean, normalised by n (numpy's `std` with `ddof=0`), its error resolution / sqrt(2 n), which is
//!   right for normal distributions, and sqrt((m4 - m2^2) / (4 m2 n)), which is right for all (m2, m4 the central moments);
//! * with weights, means are weighted and n is the effective number (sum w)^2 / sum w^2.
//!
//! Where `robust` is asked for, d also climbs a [ladder](crate::statistics::ladder) in each bin, from which come the numbers that tails do not
//! change ([`robust`]): median, half-widths of the central 68.27 % and 95 %, eIQR = (P75 - P25) / 1.349, the improvement over a
//! reference, reIQR = 1 - eIQR / eIQR of the reference, and the [Gaussian core](crate::statistics::gaussian), with what the ladder's precision could
//! change at most. Their errors are the spread of the replicas of the [bootstrap](crate::statistics::bootstrap), which draws all quantities of an
//! event together.
//!
//! Rows whose x (or weight) is NaN or infinite are counted beside, and so are those outside the bins. A number that can't be had is
//! null, and the column `reason` says why.
//!
//! [`measuring`] makes sums of rows and moments of sums, [`robust`] reads ladders and replicas, [`fitting`] has the calorimeter fit,
//! [`telling`] makes tables and plots, [`remarks`] says the rest.

mod fitting;
mod measuring;
mod remarks;
mod robust;
mod telling;
mod told;

use crate::column;
use crate::names::Names;
use crate::registry::Describe;
use crate::statistics::binning::{Binning, By};
use crate::statistics::bootstrap::{MOST_REPLICAS, REPLICAS, Replicas};
use crate::statistics::folding::{gather, one_input, table};
use crate::statistics::for_each::{ForEach, Regions};
use crate::statistics::groups::{Groups, Reference};
use crate::statistics::ladder::{Ladder, MOST_STEPS};
use crate::statistics::populations;
use crate::weights;
use crate::work::Fold;
use crate::{Facts, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use arrow::datatypes::{DataType, Schema};
pub use fitting::FITS_KEY;
use measuring::Keys;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// More columns to bin in than these are taken for a mistake.
const MOST_AXES: usize = 8;
/// Rungs in an octave where a ladder is needed and nothing is said.
const STEPS: u32 = 256;

/// Bias and resolution of columns in bins of others.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// The column whose mean (bias) and spread (resolution) are wanted, or several: `relative_error`, `[cnn_error, bdt_error]`.
    pub of: Names,
    /// The columns to bin in, with their bins: `{ energy: { range: [10, 510], bins: 10 } }`; without it all rows are one bin.
    #[serde(default)]
    pub by: Option<By>,
    /// The columns to tell rows apart by, each group by itself: `sample`, `[sample, converted]`, or with the values that are told apart
    /// `{ layer: [1, 2, 3] }`.
    #[serde(default)]
    pub for_each: Option<ForEach>,
    /// Named selections, each a SQL condition: `{ barrel: abs(eta) < 1.4, all: true }`. A row counts in every one that it fits.
    #[serde(default)]
    pub regions: Option<Regions>,
    /// `calorimeter` fits sigma/E = a/sqrt(E) (+) b (+) c/E (stochastic, constant, noise) to the resolution against the mean of the
    /// column that is named by `along`.
    #[serde(default)]
    pub fit: Option<Placed<FitWord>>,
    /// The binned column that plots and fits go along, where there are several: the first one where nothing is said.
    #[serde(default)]
    pub along: Option<Placed<String>>,
    /// The column of weights; without it the weights that the source gives its samples, if it does; `none` counts every row 1.
    #[serde(default)]
    pub weight: Option<Placed<String>>,
    /// Also the median, the half-widths of the central 68.27 % (sigma68) and 95 % (half95), and eIQR, from a ladder of so many
    /// rungs in an octave: 256 makes them good to 0.2 %.
    #[serde(default)]
    pub robust: Option<Placed<u32>>,
    /// The column that all others are compared with: reIQR = 1 - eIQR / eIQR of the reference, with its error from the paired
    /// bootstrap.
    #[serde(default)]
    pub reference: Option<Placed<String>>,
    /// The class (or another value that rows are told apart by), or the column of `of`, that the others are divided by in a panel below the
    /// plots of widths; the `reference` where nothing is said, `none` for no panel.
    #[serde(default)]
    pub ratio: Option<Placed<String>>,
    /// Also a Gaussian fitted within so many sigmas of its own mean on both sides: `2`.
    #[serde(default)]
    pub core: Option<Placed<f64>>,
    /// Replicas of the bootstrap, for the errors of medians, widths and eIQR: 100 with a `reference`, else 0. A hundred hold 0.6 MB for
    /// each bin and quantity; with weights 1.9 MB.
    #[serde(default)]
    pub bootstrap: Option<Placed<u32>>,
    /// A value near those of `of`, subtracted before squares are summed and before the ladder is climbed. Needed where the values are more
    /// than some 10^5 times as large as their spread, and for ratios that lie around 1 (`pivot: 1`).
    #[serde(default)]
    pub pivot: f64,
    /// Reproduces the numbers of an older code where they differ from the right ones, and says so.
    #[serde(default)]
    pub compat: Option<Placed<Compat>>,
}

/// What can be fitted to a resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FitWord {
    /// sigma/E = a/sqrt(E) (+) b (+) c/E.
    Calorimeter,
}

/// Codes whose numbers can be reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// The LCD regression of 2017 as it was published: points at the centres of equal parts of [10, 500], terms between 0 and 1000 %,
    /// errors as large as the scatter of the points says.
    LcdNips,
    /// The library of that regression: points at the centres of equal parts of [0, 500], the terms added linearly, every
    /// point counting the same.
    LcdLibrary,
    /// DeepCalo: (P75 - P25) / 1.349 is its eIQR, and here too.
    Deepcalo,
}

impl Compat {
    /// Its word.
    fn word(self) -> &'static str {
        match self {
            Self::LcdNips => "lcd-nips",
            Self::LcdLibrary => "lcd-library",
            Self::Deepcalo => "deepcalo",
        }
    }
}

impl Describe for Resolution {
    const ABOUT: &'static str = "Gives mean and spread of columns in bins of others, with errors, quantiles and fits";
    const EXAMPLE: &'static str = "\
# With more: `of: [cnn_error, bdt_error]`, `by: { energy: {..}, eta: {..} }`, and for numbers that tails do not change
#   robust: 256              median, half-widths of the central 68 % and 95 %, eIQR
#   reference: bdt_error     reIQR = 1 - eIQR / eIQR of the reference, with its error, and the ratio to it below each plot
#   core: 2                  a Gaussian within two of its sigmas
resolution:
  from: pulls
  resolution:
    of: relative_error
    by: { energy: { range: [10, 510], bins: 10 } }
    for_each: sample
    fit: calorimeter
";
}

/// A column whose spread is wanted.
#[derive(Debug, Clone)]
struct Quantity {
    column: String,
    label: String,
    /// From the column's numbers to per cent; none for a column with a unit of its own, or of numbers that are no shares.
    percent: Option<f64>,
}

/// What the panel of ratios divides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The group with this value, each quantity by its own.
    Group(Reference),
    /// This quantity, each group by its own.
    Quantity(usize),
}

/// A resolution whose words were found right.
#[derive(Debug, Clone)]
struct Measuring {
    quantities: Vec<Quantity>,
    /// True where the table says which quantity a row is of.
    told_apart: bool,
    /// The number of the reference.
    reference: Option<usize>,
    /// What the panel of ratios divides by, if there is one.
    over: Option<Over>,
    binning: Binning,
    /// The axis that plots and fits go along.
    along: usize,
    groups: Groups,
    weight: Option<String>,
    pivot: f64,
    fit: bool,
    core: Option<f64>,
    ladder: Option<Ladder>,
    replicas: Option<Replicas>,
    compat: Option<Compat>,
    seed: u64,
    keys: Keys,
    schema: Arc<Schema>,
    hand: measuring::Hand,
}

impl Resolution {
    fn quantities(&self, schema: &Schema, problems: &mut Vec<Problem>) -> (Vec<Quantity>, Option<usize>) {
        let mut quantities: Vec<Quantity> = Vec::new();
        let mut reference = None;
        if self.of.words.is_empty() {
            problems.push(Problem::at(&Placed::unplaced(()), "`of` names no column").help("of: relative_error"));
        }
        for (word, compared) in
            self.of.words.iter().map(|word| (word, false)).chain(self.reference.iter().map(|word| (word, true)))
        {
            let known = quantities.iter().position(|q| q.column == word.value);
            if let (Some(_), false) = (known, compared) {
                problems.push(Problem::at(word, format!("`{}` is given twice", word.value)));
            } else if let Some(number) = known {
                reference = Some(number);
            } else if let Some(field) = gather(column::number(schema, word), problems) {
                let percent = match column::unit(field) {
                    None => Some(100.0),
                    Some("%") => Some(1.0),
                    Some(_) => None,
                };
                reference = compared.then_some(quantities.len()).or(reference);
                quantities.push(Quantity { column: word.value.clone(), label: column::label(schema, word), percent });
            }
        }
        if let (Some(word), 1, Some(0)) = (&self.reference, quantities.len(), reference) {
            problems
                .push(Problem::at(word, format!("`{}` is compared with itself", word.value)).help("name another column in `of`"));
        }
        (quantities, reference)
    }

    fn replicas(&self, schema: &Schema, problems: &mut Vec<Problem>) -> Option<Replicas> {
        let number = match (&self.bootstrap, &self.reference) {
            (Some(word), _) => {
                if word.value > MOST_REPLICAS {
                    let problem = Problem::at(word, format!("{} replicas", word.value));
                    problems.push(problem.help(format!("give up to {MOST_REPLICAS}; 100 know an error to 7 %")));
                } else if word.value == 1 {
                    problems.push(Problem::at(word, "1 replica has no spread").help("give 100, or 0 for none"));
                }
                word.value.min(MOST_REPLICAS)
            }
            (None, Some(_)) => REPLICAS,
            (None, None) => 0,
        };
        let drawn = schema.field_with_name(column::EVENT).is_ok_and(|field| *field.data_type() == DataType::UInt64);
        if number > 0 && !drawn {
            let place = self.bootstrap.as_ref().map(|word| word.place).or(self.reference.as_ref().map(|word| word.place));
            let at = Placed { value: (), place: place.unwrap_or_default() };
            let what = "the bootstrap draws events by the column `event`, which does not come here";
            problems.push(Problem::at(&at, what).help("keep it where columns are selected"));
        }
        (number > 0).then(|| Replicas::new(number, self.weight.is_some()))
    }

    /// The ladder, where one is asked for or needed.
    fn ladder(&self, problems: &mut Vec<Problem>) -> Option<Ladder> {
        if let Some(steps) = self.robust.as_ref().filter(|steps| steps.value == 0 || steps.value > MOST_STEPS) {
            problems
                .push(Problem::at(steps, format!("{} rungs in an octave", steps.value)).help(format!("give 1 to {MOST_STEPS}")));
        }
        if let Some(core) = self.core.as_ref().filter(|core| !(core.value >= 0.5 && core.value <= 10.0)) {
            let problem = Problem::at(core, format!("a core of {} sigmas on both sides", core.value));
            problems.push(problem.help("give a number from 0.5 to 10: 2, say"));
        }
        let needed = self.core.is_some() || self.reference.is_some() || self.bootstrap.as_ref().is_some_and(|n| n.value > 0);
        self.robust.as_ref().map(|steps| steps.value).or(needed.then_some(STEPS)).map(Ladder::new)
    }

    /// What the panel of ratios divides by.
    fn over(&self, quantities: &[Quantity], groups: &Groups, problems: &mut Vec<Problem>) -> Option<Over> {
        let word = self.ratio.as_ref()?;
        if word.value == "none" {
            return None;
        }
        if let Some(number) = quantities.iter().position(|q| q.column == word.value).filter(|_| quantities.len() > 1) {
            return Some(Over::Quantity(number));
        }
        gather(groups.reference(word), problems).map(Over::Group)
    }

    /// The axis to go along: the one that is named, or the first as they are written.
    fn along(&self, binning: &Binning, problems: &mut Vec<Problem>) -> usize {
        let find = |name: &str| binning.columns.iter().position(|c| c.column == name);
        if let Some(word) = &self.along {
            if find(word).is_none() {
                let problem = Problem::at(word, format!("`{}` is not binned in", word.value));
                problems.push(problem.suggest(word, binning.columns.iter().map(|c| c.column.as_str())));
            }
            return find(word).unwrap_or_default();
        }
        let first = self.by.iter().flat_map(|by| by.keys()).min_by_key(|name| name.place);
        first.and_then(|name| find(name)).unwrap_or_default()
    }

    fn measuring(&self, schema: &Schema, seed: u64) -> Result<Measuring, Vec<Problem>> {
        let mut problems = Vec::new();
        let (quantities, reference) = self.quantities(schema, &mut problems);
        let binning = gather(Binning::plan(schema, self.by.as_ref(), MOST_AXES), &mut problems);
        let along = binning.as_ref().map_or(0, |binning| self.along(binning, &mut problems));
        if let Some(weight) = &self.weight {
            gather(column::number(schema, weight), &mut problems);
        }
        let ladder = self.ladder(&mut problems);
        let groups = gather(Groups::plan(schema, self.for_each.as_ref(), self.regions.as_ref()), &mut problems);
        let replicas = self.replicas(schema, &mut problems);
        if let Some(fit) = &self.fit {
            if let Some(quantity) = quantities.iter().find(|q| q.percent.is_none()) {
                let what = format!("the calorimeter fit is of a relative resolution, and {} has a unit", quantity.label);
                problems.push(Problem::at(fit, what).help("derive (predicted - true) / true first"));
            }
            if let Some(binned) = binning.as_ref().and_then(|b| b.columns.get(along)).filter(|b| b.axis.names().is_some()) {
                let what = format!("a fit goes along an energy, and `{}` has categories", binned.column);
                problems.push(Problem::at(fit, what).help("along: energy"));
            }
            if self.by.is_none() {
                let what = "a fit goes along a column, and `by` names none";
                problems.push(Problem::at(fit, what).help("by: { energy: { range: [10, 510], bins: 10 } }"));
            }
        }
        if let (Some(binning), Some(groups)) = (&binning, &groups) {
            gather(groups.binned(binning, quantities.len(), self.by.as_ref()), &mut problems);
        }
        let over = groups.as_ref().and_then(|groups| self.over(&quantities, groups, &mut problems));
        let over = over.or(reference.map(Over::Quantity).filter(|_| self.ratio.is_none()));
        let (Some(binning), Some(groups), true) = (binning, groups, problems.is_empty()) else { return Err(problems) };
        let weighted = self.weight.is_some();
        let keys = Keys::new((&binning, groups.len(), quantities.len()), weighted, ladder, replicas.as_ref());
        let mut measuring = Measuring {
            told_apart: self.of.listed || quantities.len() > 1,
            quantities,
            reference,
            over,
            binning,
            along,
            groups,
            weight: self.weight.as_ref().map(|w| w.value.clone()),
            pivot: self.pivot,
            fit: self.fit.is_some(),
            core: self.core.as_ref().map(|core| core.value),
            ladder,
            replicas,
            compat: self.compat.as_ref().map(|compat| compat.value),
            seed,
            keys,
            schema: Arc::new(Schema::empty()),
            hand: measuring::Hand::default(),
        };
        measuring.groups = measuring.groups.clone().carrying(measuring.reads());
        measuring.schema = Arc::new(measuring.table_schema(schema));
        Ok(measuring)
    }
}

impl Resolution {
    /// The same with the weights that it takes where it is told none.
    fn weighed(&self, schema: &Schema) -> Self {
        Self { weight: weights::of(schema, self.weight.as_ref()), ..self.clone() }
    }
}

impl Operator for Resolution {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let this = self.weighed(one_input(inputs)?);
        let measuring = this.measuring(one_input(inputs)?, 0)?;
        let rows = measuring.quantities.len() * measuring.groups.len() * measuring.binning.len().max(1);
        let reads = Reads::Columns(measuring.reads());
        let bytes = measuring.bytes(inputs[0].rows);
        let planned = Planned::new(Shape::Fold, vec![table(measuring.schema, rows)]).reading(reads).holding(bytes);
        Ok(Planned { survey: populations::reads(self.by.as_ref()), ..planned })
    }

    fn survey(&self, _: &Start<'_>) -> anyhow::Result<Box<dyn Fold>> {
        Ok(populations::survey(self.by.as_ref()))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let schema = one_input(at.inputs).map_err(|_| anyhow::anyhow!("a resolution of one input"))?;
        let by = populations::settled(self.by.as_ref(), at.runtime.surveyed.as_ref())?;
        let this = Self { by, ..self.clone() }.weighed(schema);
        let measuring = this.measuring(schema, at.facts.seed).map_err(|problems| anyhow::anyhow!("{}", problems[0].what))?;
        Ok(Work::Fold(Box::new(measuring)))
    }
}

impl Measuring {
    /// The columns that are read.
    fn reads(&self) -> BTreeSet<String> {
        let event = self.replicas.as_ref().map(|_| column::EVENT.to_owned());
        let quantities = self.quantities.iter().map(|q| q.column.clone());
        let others = self.groups.reads().into_iter().chain(self.weight.clone()).chain(event);
        quantities.chain(self.binning.names()).chain(others).collect()
    }

    /// The share of the column's numbers that is shown: in per cent where all quantities are relative.
    fn percent(&self) -> bool {
        self.quantities.iter().all(|q| q.percent.is_some())
    }
}

#[cfg(test)]
mod tests;
