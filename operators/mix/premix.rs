//! `premix`: the classes in one keyed order, in the shares that were asked for, split into named parts, each event once.
//!
//! An event has a rank in its class (and split), in the order of the units. A keyed permutation of the ranks and a keyed
//! fraction give it its place: the `j`-th of `m` events stands at `(j + u) / m` of the way. So every stretch holds the classes
//! in their shares, and the order is a pure function of the seed, the classes, the ranks and how many there are: not of
//! workers, machines or restarts. The split is decided by a hash of the event's identity (or of a column, or of its file),
//! so an event stays on its side when files are added; fractions are met up to binomial fluctuation.
//!
//! The engine does the rest: it counts, permutes, routes, spills and sorts. Here is what is asked for, and [`shares`], which
//! makes numbers of it.

use crate::column::{COPY, EVENT, FILE, SAMPLE, event_key, mix, sample_numbers, samples};
use crate::registry::Describe;
use crate::work::{Lane, Share, Shuffle};
use crate::{Facts, Fault, Lanes, Operator, Output, Place, Placed, Planned, Problem, Reads, Shape, Start, Work, words};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, UInt32Type, UInt64Type};
use schemars::JsonSchema;
use serde::Deserialize;
use shares::{Asked, Refused};
use std::collections::BTreeMap;
use std::sync::Arc;

mod named;
mod shares;
use named::{Counts, Named, Shares};

/// Mixes the classes of a stream into one keyed order and splits it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Premix {
    /// `natural` (as many of each class as there are), `equal`, or a weight for each class (0 leaves a class out).
    #[serde(default)]
    shares: Shares,
    /// How many events to take: a number for all classes together, or one for each class (in place of `shares`). With a
    /// split, each output gets its fraction of it.
    #[serde(default)]
    events: Option<Placed<Counts>>,
    /// What happens where a class has fewer events than its share asks for.
    #[serde(default)]
    when_exhausted: Exhausted,
    /// Named outputs with the fraction of the events that each gets: `{ train: 0.8, test: 0.2 }`. They add up to 1.
    /// Without it (and without `folds`) there is one output with all of them.
    #[serde(default)]
    split: Option<Named>,
    /// What decides on the side of an event: its identity, or the word `file` (a file stays whole), or a column such as an
    /// event number (rows with the same value stay together).
    #[serde(default)]
    split_by: Option<Placed<String>>,
    /// So many outputs `fold0`, `fold1`, ... for a cross-validation, instead of `split`: an event with the number `x` in the
    /// column `split_by` is in fold `x % folds`.
    #[serde(default)]
    folds: Option<Placed<u8>>,
    /// The seed of the order and of the split; the pipeline's where none is given.
    #[serde(default)]
    seed: Option<u64>,
}

/// What happens where a class runs out of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Exhausted {
    /// All classes end there, in their shares.
    #[default]
    Stop,
    /// The class ends there; the others go on in their shares.
    Drop,
    /// Its events come again, in another order; the column `copy` says how often an event was there before.
    Repeat,
}

impl Describe for Premix {
    const ABOUT: &'static str = "Mixes the classes in a keyed order, in given shares, and splits them (train, test)";
    const EXAMPLE: &'static str = "mixed:\n  from: events\n  premix: { shares: equal, split: { train: 0.8, test: 0.2 } }\n";
}

/// What decides on the side of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Event,
    File,
    Column(String),
}

impl Premix {
    fn by(&self) -> By {
        match self.split_by.as_ref().map(|word| word.value.as_str()) {
            None => By::Event,
            Some("file") => By::File,
            Some(column) => By::Column(column.to_owned()),
        }
    }

    /// The names of the outputs, each with the fraction of the events that it gets.
    fn outputs(&self) -> Vec<(String, f64)> {
        match (&self.split, &self.folds) {
            (Some(Named(parts)), _) => parts.iter().map(|(name, fraction)| (name.value.clone(), fraction.value)).collect(),
            (None, Some(k)) => (0..k.value).map(|i| (format!("fold{i}"), 1.0 / f64::from(k.value))).collect(),
            (None, None) => vec![(String::new(), 1.0)],
        }
    }

    /// What was asked for of these classes.
    fn asked(&self, names: &[String]) -> Asked {
        let by_name = |Named(given): &Named| -> Vec<f64> {
            names.iter().map(|n| given.iter().find(|(c, _)| c.value == *n).map_or(0.0, |(_, w)| w.value)).collect()
        };
        let events = self.events.as_ref().map(|events| &events.value);
        let weights = match (&self.shares, events) {
            (_, Some(Counts::Each(each))) => Some(by_name(each)),
            (Shares::Natural, _) => None,
            (Shares::Equal, _) => Some(vec![1.0; names.len()]),
            (Shares::Weights(given), _) => Some(by_name(given)),
        };
        let events = match events {
            None => None,
            Some(Counts::All(n)) => Some(*n as f64),
            Some(Counts::Each(Named(each))) => Some(each.iter().map(|(_, n)| n.value).sum()),
        };
        Asked { weights, events, when_exhausted: self.when_exhausted }
    }

    /// Where a number of events was typed, or what makes it large.
    fn place_of_numbers(&self) -> Place {
        match (&self.events, &self.shares) {
            (Some(events), _) => events.place,
            (None, Shares::Weights(Named(weights))) => {
                let largest = weights.iter().max_by(|a, b| a.1.value.total_cmp(&b.1.value));
                largest.map(|(_, weight)| weight.place).unwrap_or_default()
            }
            _ => Place::default(),
        }
    }

    fn check_split(&self, schema: &Schema) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(Named(parts)) = &self.split {
            let sum: f64 = parts.iter().map(|p| p.1.value).sum();
            match parts.first() {
                None => problems.push(nowhere("a split without parts")),
                Some((name, _)) if (sum - 1.0).abs() > 1e-9 => {
                    problems.push(Problem::at(name, format!("the fractions add up to {sum}")).help("they must add up to 1"));
                }
                Some(_) => {}
            }
            for (name, fraction) in parts {
                if !(0.0..=1.0).contains(&fraction.value) {
                    problems.push(Problem::at(fraction, format!("a fraction of {}", fraction.value)).help("between 0 and 1"));
                }
                if parts.iter().filter(|(other, _)| other.value == name.value).count() > 1 {
                    problems.push(Problem::at(name, format!("the part `{}` is there twice", name.value)));
                }
            }
            if parts.len() > usize::from(u8::MAX) {
                problems.push(nowhere("a split into more than 255 parts"));
            }
        }
        if let Some(k) = &self.folds {
            if self.split.is_some() {
                problems.push(Problem::at(k, "both `split` and `folds`").help("one of them"));
            }
            if k.value < 2 {
                problems.push(Problem::at(k, format!("{} folds", k.value)).help("at least 2"));
            }
            let numbered = matches!(self.by(), By::Column(_));
            if !numbered {
                let what = "`folds` without a column of numbers to divide";
                problems.push(Problem::at(k, what).help("say which: `split_by: event_number`"));
            }
        }
        if let (Some(word), By::Column(column)) = (&self.split_by, self.by()) {
            match schema.field_with_name(&column) {
                Err(_) => {
                    // `file` is among them: the column that says where a row is from, and the word that keeps files whole.
                    let known = schema.fields().iter().map(|f| f.name().as_str());
                    problems.push(Problem::at(word, format!("no column `{column}`")).suggest(&column, known));
                }
                Ok(field) if !(field.data_type().is_integer() || is_text(field.data_type()) && self.folds.is_none()) => {
                    let what = format!("`{column}` is {}, which is no key", field.data_type());
                    problems.push(Problem::at(word, what).help("a column of whole numbers (or, without `folds`, of texts)"));
                }
                Ok(_) => {}
            }
        }
        if let (Some(word), None, None) = (&self.split_by, &self.split, &self.folds) {
            problems.push(Problem::at(word, "`split_by` without a `split`").help("add `split: { train: 0.8, test: 0.2 }`"));
        }
        problems
    }

    /// Problems and remarks.
    fn check_shares(&self, names: &[String]) -> (Vec<Problem>, Vec<String>) {
        let (mut problems, mut remarks) = (Vec::new(), Vec::new());
        let events = self.events.as_ref().map(|events| &events.value);
        let by_class = match (&self.shares, events) {
            (Shares::Weights(named), Some(Counts::Each(each))) => {
                let place = each.0.first().or(named.0.first()).map(|(class, _)| class.place).unwrap_or_default();
                let help = "numbers of each class say their shares as well";
                problems.push(Problem { place, what: "both `shares` and numbers of each class".into(), help: Some(help.into()) });
                Some(("a share", named))
            }
            (Shares::Weights(named), _) => Some(("a share", named)),
            (_, Some(Counts::Each(each))) => Some(("a number", each)),
            _ => None,
        };
        if names.is_empty() && (by_class.is_some() || !matches!(self.shares, Shares::Natural)) {
            problems.push(nowhere(&format!("shares by class need the column `{SAMPLE}`, which a source makes from `samples:`")));
        }
        if let Some((what, Named(weights))) = by_class {
            for (class, weight) in weights {
                if !names.contains(&class.value) && !names.is_empty() {
                    let known = names.iter().map(String::as_str);
                    problems.push(Problem::at(class, format!("no class `{}`", class.value)).suggest(class, known));
                }
                if weights.iter().filter(|(other, _)| other.value == class.value).count() > 1 {
                    problems.push(Problem::at(class, format!("the class `{}` is there twice", class.value)));
                }
                if !(weight.value >= 0.0 && weight.value.is_finite()) {
                    problems.push(Problem::at(weight, format!("{what} of {}", weight.value)).help("a number from 0 on"));
                } else if weight.value == 0.0 {
                    remarks.push(format!("`{}` has {what} of 0: none of its events are used", class.value));
                }
            }
            let missing: Vec<_> =
                names.iter().filter(|n| weights.iter().all(|(c, _)| c.value != **n)).map(String::as_str).collect();
            if let (Some((class, _)), false) = (weights.first(), missing.is_empty()) {
                problems.push(Problem::at(class, format!("no share for {}", missing.join(", "))).help("0 leaves a class out"));
            }
            if let (Some((class, _)), true) = (weights.first(), weights.iter().all(|(_, w)| w.value == 0.0)) {
                problems.push(Problem::at(class, "all shares are 0"));
            }
        }
        if let Some(n) = self.events.as_ref().filter(|n| matches!(n.value, Counts::All(0))) {
            problems.push(Problem::at(n, "0 events").help("at least 1"));
        }
        (problems, remarks)
    }
}

fn is_text(of: &DataType) -> bool {
    matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..))
}

fn nowhere(what: &str) -> Problem {
    Problem { place: Place::default(), what: what.to_owned(), help: None }
}

impl Operator for Premix {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let input = &inputs[0];
        let names = samples(&input.schema);
        let (mut problems, remarks) = self.check_shares(&names);
        problems.extend(self.check_split(&input.schema));
        if input.schema.field_with_name(EVENT).is_err() {
            problems.push(nowhere(&format!("premix needs the column `{EVENT}`, which every source makes")));
        }
        let repeats = self.when_exhausted == Exhausted::Repeat;
        if repeats && input.schema.field_with_name(COPY).is_ok() {
            let help =
                format!("leave it out with a `select` before; `derive: {{ taken: {COPY} }}` before that keeps it as `taken`");
            problems.push(Problem { help: Some(help), ..nowhere(&format!("the column `{COPY}` would be there twice")) });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut schema = input.schema.clone();
        if repeats {
            let mut fields = schema.fields().to_vec();
            fields.push(Arc::new(Field::new(COPY, DataType::UInt32, false)));
            schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        }
        let named = self.outputs().into_iter().map(|(name, _)| name);
        let rows = if repeats { None } else { input.rows };
        let outputs = named.map(|name| Output { name, schema: schema.clone(), rows, ..input.clone() }).collect();
        let mut reads = vec![EVENT.to_owned()];
        if input.schema.field_with_name(SAMPLE).is_ok() {
            reads.push(SAMPLE.into());
        }
        match self.by() {
            By::Event => {}
            By::File => reads.push(FILE.into()),
            By::Column(column) => reads.push(column),
        }
        let mut planned = Planned::new(Shape::Shuffle, outputs).reading(Reads::columns(reads));
        let split = self.split.is_some() || self.folds.is_some();
        planned.lanes = if split { Lanes::Rows } else { Lanes::Samples };
        planned.remarks = remarks;
        Ok(planned)
    }

    fn forecast(&self, inputs: &[Output], counts: Option<&[u64]>) -> Result<Option<Vec<Vec<u64>>>, Problem> {
        let names = samples(&inputs[0].schema);
        let asked = self.asked(&names);
        let Some(counts) = counts else {
            let again = self.when_exhausted == Exhausted::Repeat;
            let all = asked.events.filter(|_| again);
            return Ok(all.map(|all| self.outputs().iter().map(|(_, of)| vec![(all * of).round() as u64]).collect()));
        };
        let mut found = Vec::new();
        for (_, fraction) in self.outputs() {
            let of_output: Vec<u64> = counts.iter().map(|n| (*n as f64 * fraction).ceil() as u64).collect();
            match asked.shares(&of_output, fraction, &names) {
                Ok(shares) => found.push(shares.into_iter().map(|share| share.rows).collect()),
                // The run may find events that the counts do not tell of.
                Err(Refused::Missing(_)) => return Ok(None),
                Err(what) => return Err(Problem { place: self.place_of_numbers(), what: what.to_string(), help: None }),
            }
        }
        Ok(Some(found))
    }

    fn fell_short(&self, inputs: &[Output], output: usize, classes: &[(u64, u64)]) -> Option<String> {
        let names = samples(&inputs[0].schema);
        let (wanted, ran_out) = self.asked(&names).short(classes, self.outputs().get(output)?.1)?;
        let taken = words::count(classes.iter().map(|(_, taken)| taken).sum());
        let named: Vec<String> = ran_out.iter().filter_map(|class| names.get(*class)).map(|name| format!("`{name}`")).collect();
        let why = match (named.len(), classes.len()) {
            (0, _) => "there are no more".to_owned(),
            (n, all) if n == all => "there are no more".to_owned(),
            _ => format!("{} ran out", named.join(", ")),
        };
        Some(format!("{taken} of the {} events that were asked for: {why}", words::count(wanted)))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let names = samples(&at.inputs[0].schema);
        let (mut bounds, mut sum) = (Vec::new(), 0.0);
        for (_, fraction) in self.outputs() {
            sum += fraction;
            bounds.push(sum);
        }
        Ok(Work::Shuffle(Box::new(Mixing {
            seed: self.seed.unwrap_or(at.facts.seed),
            asked: self.asked(&names),
            outputs: self.outputs(),
            names,
            bounds,
            by: self.by(),
            folds: self.folds.as_ref().map(|k| k.value),
            fingerprints: at.runtime.fingerprints.clone(),
        })))
    }
}

struct Mixing {
    seed: u64,
    asked: Asked,
    outputs: Vec<(String, f64)>,
    names: Vec<String>,
    /// Upper bounds of the outputs.
    bounds: Vec<f64>,
    by: By,
    folds: Option<u8>,
    fingerprints: Arc<BTreeMap<u32, String>>,
}

impl Mixing {
    /// The output of each row.
    fn sides(&self, batch: &RecordBatch) -> Result<Vec<u8>, Fault> {
        if self.bounds.len() == 1 {
            return Ok(vec![0; batch.num_rows()]);
        }
        if let (Some(k), By::Column(column)) = (self.folds, &self.by) {
            let numbers = crate::column::get(batch, column);
            // Of a negative number the remainder is taken that is not negative.
            let fold = |number: i128| u8::try_from(number.rem_euclid(i128::from(k))).unwrap_or_default();
            return Ok(integers(numbers)?.into_iter().map(fold).collect());
        }
        let keys: Vec<u64> = match &self.by {
            By::Event => {
                let events = crate::column::get(batch, EVENT).as_primitive::<UInt64Type>().values();
                events.iter().map(|event| event_key(*event, self.seed, "split")).collect()
            }
            By::File => {
                let files = crate::column::get(batch, FILE).as_primitive::<UInt32Type>().values();
                let key = |file: &u32| {
                    let known =
                        self.fingerprints.get(file).map_or(u64::from(*file), |f| xxhash_rust::xxh3::xxh3_64(f.as_bytes()));
                    event_key(known, self.seed, "split")
                };
                files.iter().map(key).collect()
            }
            By::Column(column) => {
                let column = crate::column::get(batch, column);
                if is_text(column.data_type()) {
                    let texts = cast(column, &DataType::Utf8)?;
                    let texts = texts.as_string::<i32>();
                    let key = |text: Option<&str>| xxhash_rust::xxh3::xxh3_64(text.unwrap_or_default().as_bytes());
                    texts.iter().map(|text| event_key(key(text), self.seed, "split")).collect()
                } else {
                    let key = |number: i128| event_key(mix((number as u128 >> 64) as u64) ^ number as u64, self.seed, "split");
                    integers(column)?.into_iter().map(key).collect()
                }
            }
        };
        let last = self.bounds.len() - 1;
        let side = |key: u64| {
            let u = (key >> 11) as f64 / (1u64 << 53) as f64;
            // The last part takes what rounding left of 1.
            self.bounds.iter().take(last).position(|b| u < *b).unwrap_or(last) as u8
        };
        Ok(keys.into_iter().map(side).collect())
    }
}

/// Whole numbers of any type; 0 where there is none.
fn integers(column: &ArrayRef) -> Result<Vec<i128>, Fault> {
    let widened = cast(column, &DataType::Decimal128(38, 0))?;
    let numbers = widened.as_primitive::<arrow::datatypes::Decimal128Type>();
    Ok(numbers.iter().map(Option::unwrap_or_default).collect())
}

impl Shuffle for Mixing {
    fn lanes(&mut self, batch: &RecordBatch, lanes: &mut Vec<Option<Lane>>) -> Result<(), Fault> {
        let classes = sample_numbers(batch);
        for (row, output) in self.sides(batch)?.into_iter().enumerate() {
            let stratum = classes.map_or(0, |c| u16::try_from(c[row]).unwrap_or_default());
            lanes.push(Some(Lane { output, stratum }));
        }
        Ok(())
    }

    fn shares(&self, counts: &[Vec<u64>]) -> anyhow::Result<Vec<Vec<Share>>> {
        let each = counts.iter().zip(&self.outputs);
        each.map(|(counts, (output, fraction))| {
            let found = self.asked.shares(counts, *fraction, &self.names);
            found.map_err(|what| if output.is_empty() { anyhow::anyhow!(what) } else { anyhow::anyhow!("`{output}`: {what}") })
        })
        .collect()
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}
