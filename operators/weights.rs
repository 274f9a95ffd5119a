//! Weights of samples: what an event of each sample counts, so that samples of any size make one expectation.
//!
//! A sample's weight is a number, or cross-section x luminosity / sum of weights (with the sum of the generator's weights over the whole
//! sample, not of the rows that are read); where the events have weights of their own (`times`), it is multiplied with theirs. A
//! source that is given weights makes the column [`WEIGHT`], whose field is marked: wherever it goes, a statistic that is told no `weight`
//! takes the marked column, and `weight: none` counts every row 1. `select`, `pair` and the writers keep it like the columns that say where a
//! row came from, so weights are not lost on the way.

use crate::work::{Batches, Noticed, Source};
use crate::{Fault, Placed, Planned, Problem, Start, Unit, Work, column};
use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The column of weights that a source makes.
pub const WEIGHT: &str = "weight";
/// What stands where no weights are wanted.
const NONE: &str = "none";
const MARK: &str = "calostream.weight";

/// Weights of samples, as they are written: `{ samples: { signal: 0.5, background: { cross_section: 12.3, luminosity: 36.1, sum_of_weights: 1e6 } } }`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// The weight of each sample.
    pub samples: BTreeMap<Placed<String>, Weight>,
    /// The column of the events' own weights, which are multiplied with those of the samples.
    #[serde(default)]
    pub times: Option<Placed<String>>,
}

/// What an event of a sample counts.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Weight {
    /// This.
    Number(f64),
    /// cross-section x luminosity / sum of weights.
    Expected(Expected),
}

/// What a sample's weight is made of.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The cross-section, in the inverse of the luminosity's unit.
    pub cross_section: f64,
    /// The luminosity.
    pub luminosity: f64,
    /// The sum of the generator's weights over the whole sample; the number of events where they have none.
    pub sum_of_weights: f64,
}

impl Weight {
    fn value(self) -> f64 {
        match self {
            Self::Number(value) => value,
            Self::Expected(of) => of.cross_section * of.luminosity / of.sum_of_weights,
        }
    }
}

/// The column that statistics weight rows by: the one that is named, else the one that a source has marked.
#[must_use]
pub fn of(schema: &Schema, named: Option<&Placed<String>>) -> Option<Placed<String>> {
    match named {
        Some(word) if word.value == NONE && schema.field_with_name(NONE).is_err() => None,
        Some(word) => Some(word.clone()),
        None => schema.fields().iter().find(|field| is_weight(field)).map(|field| Placed::unplaced(field.name().clone())),
    }
}

/// True for a column of weights that a source has made.
#[must_use]
pub fn is_weight(field: &Field) -> bool {
    field.metadata().contains_key(MARK)
}

/// True for a column that goes wherever its rows go: those that say where a row came from, and its weight.
#[must_use]
pub fn carried(field: &Field) -> bool {
    column::PROVENANCE.contains(&field.name().as_str()) || is_weight(field)
}

fn field() -> Field {
    Field::new(WEIGHT, DataType::Float64, false).with_metadata([(MARK.to_owned(), "true".to_owned())].into())
}

/// What a source makes when it is given weights: the same with a column more.
pub fn plan(weights: Option<&Placed<Weights>>, mut planned: Planned) -> Result<Planned, Vec<Problem>> {
    let (Some(word), Some(output)) = (weights, planned.outputs.first_mut()) else { return Ok(planned) };
    let mut problems = Vec::new();
    let samples = column::samples(&output.schema);
    if samples.is_empty() {
        problems.push(
            Problem::at(word, "weights are of samples, and there are none").help("give the files as `samples: { name: .. }`"),
        );
    }
    for (name, weight) in &word.samples {
        if !samples.is_empty() && !samples.contains(&name.value) {
            let problem = Problem::at(name, format!("no sample `{}`", name.value));
            problems.push(problem.suggest(name, samples.iter().map(String::as_str)));
        }
        if !weight.value().is_finite() {
            let problem = Problem::at(name, format!("the weight of `{}` is {}", name.value, weight.value()));
            problems.push(problem.help("cross_section x luminosity / sum_of_weights, all of them finite, the last not 0"));
        }
    }
    let missing: Vec<&str> =
        samples.iter().filter(|sample| !word.samples.keys().any(|name| name.value == **sample)).map(String::as_str).collect();
    if !missing.is_empty() {
        let what = format!("no weight of {}", missing.join(", "));
        problems.push(Problem::at(word, what).help("give one to each sample; 1 where an event counts 1"));
    }
    if output.schema.field_with_name(WEIGHT).is_ok() {
        problems.push(
            Problem::at(word, format!("the files have a column `{WEIGHT}` already")).help("give it another name in the schema"),
        );
    }
    if let Some(times) = &word.times {
        problems.extend(column::number(&output.schema, times).err());
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let fields: Vec<_> = output.schema.fields().iter().cloned().chain([Arc::new(field())]).collect();
    output.schema = Arc::new(Schema::new_with_metadata(fields, output.schema.metadata().clone()));
    output.row_bytes += 8;
    planned.units.iter_mut().for_each(|unit| unit.row_bytes += 8);
    Ok(planned)
}

/// The work of a source that was given weights; `plain` starts it without them, `whole` is the schema of all that it gives.
pub fn start(
    weights: Option<&Placed<Weights>>,
    at: &Start<'_>,
    whole: impl FnOnce() -> anyhow::Result<SchemaRef>,
    plain: impl FnOnce(&Start<'_>) -> anyhow::Result<Work>,
) -> anyhow::Result<Work> {
    let (Some(weights), Some(output)) = (weights, at.outputs.first()) else { return plain(at) };
    if output.schema.field_with_name(WEIGHT).is_err() {
        return plain(at); // nobody reads it
    }
    let mut fields: Vec<_> = output.schema.fields().iter().filter(|field| !is_weight(field)).cloned().collect();
    let times = weights.times.as_ref().map(|times| times.value.clone());
    if let Some(times) = times.as_ref().filter(|times| output.schema.field_with_name(times).is_err()) {
        fields.push(Arc::new(whole()?.field_with_name(times)?.clone()));
    }
    let mut without = output.clone();
    without.schema = Arc::new(Schema::new_with_metadata(fields, output.schema.metadata().clone()));
    let Work::Source(source) = plain(&Start { outputs: &[without], ..*at })? else { anyhow::bail!("a source that is none") };
    let samples = weights.samples.iter().map(|(name, weight)| (name.value.clone(), weight.value())).collect();
    Ok(Work::Source(Box::new(Weighing { source, samples, times, schema: output.schema.clone() })))
}

/// A source whose rows get weights.
struct Weighing {
    source: Box<dyn Source>,
    samples: BTreeMap<String, f64>,
    times: Option<String>,
    schema: SchemaRef,
}

impl Source for Weighing {
    fn read<'a>(&'a mut self, unit: &'a Unit) -> Result<Batches<'a>, Fault> {
        let Self { source, samples, times, schema } = self;
        let weight = unit.sample.as_ref().and_then(|sample| samples.get(sample)).copied();
        let weight = weight.ok_or_else(|| anyhow::anyhow!("no weight of the sample of {}", unit.path))?;
        let weighed = move |batch: RecordBatch| -> Result<RecordBatch, Fault> {
            let own = times.as_ref().map(|times| column::floats(&batch, times)).transpose()?;
            let values: Float64Array = match own {
                None => vec![weight; batch.num_rows()].into(),
                Some(own) => own.iter().map(|own| weight * own).collect::<Vec<_>>().into(),
            };
            let values: ArrayRef = Arc::new(values);
            let column =
                |field: &Arc<Field>| if is_weight(field) { values.clone() } else { column::get(&batch, field.name()).clone() };
            Ok(RecordBatch::try_new(schema.clone(), schema.fields().iter().map(column).collect())?)
        };
        Ok(Box::new(source.read(unit)?.map(move |batch| batch.and_then(&weighed))))
    }

    fn noticed(&mut self) -> Noticed {
        self.source.noticed()
    }

    fn cut(&mut self) -> u64 {
        self.source.cut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{at, batch, word};
    use crate::{Output, Shape};

    fn weights(samples: &[(&str, Weight)], times: Option<&str>) -> Placed<Weights> {
        let samples = samples.iter().zip(2..).map(|((name, weight), line)| (at(line, 1, (*name).to_owned()), *weight)).collect();
        at(1, 1, Weights { samples, times: times.map(word) })
    }

    fn planned(columns: &[(&str, &[f64])]) -> Planned {
        let schema = batch(&["signal", "background"], &[0], columns).schema();
        Planned::new(Shape::Source, vec![Output { name: String::new(), schema, table: false, rows: None, row_bytes: 8 }])
    }

    #[test]
    fn every_sample_has_a_weight_that_is_a_number() {
        let expected = |sum_of_weights| Weight::Expected(Expected { cross_section: 2.0, luminosity: 10.0, sum_of_weights });
        let good = weights(&[("signal", Weight::Number(0.5)), ("background", expected(100.0))], Some("gen"));
        let made = plan(Some(&good), planned(&[("gen", &[1.0])])).unwrap();
        assert!(is_weight(made.outputs[0].schema.field_with_name(WEIGHT).unwrap()));
        assert_eq!(expected(100.0).value(), 0.2);
        let wrong = weights(&[("signl", Weight::Number(1.0)), ("background", expected(0.0))], Some("gne"));
        let mut problems = plan(Some(&wrong), planned(&[("gen", &[1.0]), ("weight", &[1.0])])).unwrap_err();
        problems.sort();
        let said: Vec<String> = problems.iter().map(|p| format!("{}:{} {}", p.place.line, p.place.column, p.what)).collect();
        assert_eq!(
            said,
            [
                "0:0 no column `gne`",
                "1:1 no weight of signal",
                "1:1 the files have a column `weight` already",
                "2:1 no sample `signl`",
                "3:1 the weight of `background` is inf"
            ]
        );
    }

    #[test]
    fn a_statistic_takes_the_marked_column_unless_it_is_told() {
        let made =
            plan(Some(&weights(&[("signal", Weight::Number(1.0)), ("background", Weight::Number(1.0))], None)), planned(&[]));
        let schema = made.unwrap().outputs[0].schema.clone();
        assert_eq!(of(&schema, None).unwrap().value, WEIGHT);
        assert_eq!(of(&schema, Some(&word("other"))).unwrap().value, "other");
        assert_eq!(of(&schema, Some(&word("none"))), None);
        assert_eq!(of(&planned(&[("weight", &[1.0])]).outputs[0].schema, None), None);
    }
}
