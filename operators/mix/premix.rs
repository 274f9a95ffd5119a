//! `premix`: the classes in one order, in the shares that were asked for, split into named parts, each event once.
//!
//! The key of an event within its class is a hash of its identity under the seed: the order does not depend on workers,
//! machines, the order of files or restarts. The split is a second hash of the identity, so an event stays on its side when
//! files are added. The engine puts the classes together so that every stretch holds them in their shares.
//!
//! Shares: `all` keeps every event; `equal`, or weights by class, keep as many as the scarcest class allows. What is left
//! out (those of the highest keys) is counted as cut.

use crate::column::{EVENT, SAMPLE, event_key, sample_numbers, samples};
use crate::registry::Describe;
use crate::work::{Route, Shuffle};
use crate::{Facts, Fault, Operator, Output, Place, Placed, Planned, Problem, Reads, Shape, Start, Work};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use schemars::JsonSchema;
use serde::Deserialize;

/// Mixes the classes of a stream into one keyed order and splits it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Premix {
    /// `all` (every event), `equal` (as many of each class as of the scarcest), or a weight for each class.
    #[serde(default)]
    shares: Shares,
    /// Named outputs with the fraction of the events that each gets: `{ train: 0.8, test: 0.2 }`. They add up to 1.
    /// Without it there is one output with all of them.
    #[serde(default)]
    split: Option<Split>,
    /// The seed of the order and of the split; the pipeline's where none is given.
    #[serde(default)]
    seed: Option<u64>,
}

/// Names in the order in which they were typed, each with a number.
type Named = Vec<(Placed<String>, Placed<f64>)>;

#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(untagged)]
enum Shares {
    #[default]
    #[schemars(with = "String")]
    All,
    #[schemars(with = "String")]
    Equal,
    #[schemars(with = "std::collections::BTreeMap<String, f64>")]
    Weights(Named),
}

#[derive(Debug, Clone, JsonSchema)]
#[schemars(transparent)]
struct Split(#[schemars(with = "std::collections::BTreeMap<String, f64>")] Named);

/// Reads a map in order, or (where allowed) a word.
struct NamedOrWord {
    word: bool,
}

enum Found {
    Word(String),
    Named(Named),
}

impl<'de> serde::de::Visitor<'de> for NamedOrWord {
    type Value = Found;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.word { "`all`, `equal`, or a weight for each class" } else { "names, each with a fraction" })
    }
    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Found, E> {
        if self.word { Ok(Found::Word(word.to_owned())) } else { Err(E::invalid_type(serde::de::Unexpected::Str(word), &self)) }
    }
    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut named = Vec::new();
        while let Some(entry) = map.next_entry()? {
            named.push(entry);
        }
        Ok(Found::Named(named))
    }
}

impl<'de> Deserialize<'de> for Shares {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.deserialize_any(NamedOrWord { word: true })? {
            Found::Word(word) if word == "all" => Ok(Self::All),
            Found::Word(word) if word == "equal" => Ok(Self::Equal),
            Found::Word(word) => Err(serde::de::Error::unknown_variant(&word, &["all", "equal"])),
            Found::Named(named) => Ok(Self::Weights(named)),
        }
    }
}

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.deserialize_any(NamedOrWord { word: false })? {
            Found::Named(named) => Ok(Self(named)),
            Found::Word(_) => Ok(Self(Vec::new())),
        }
    }
}

impl Describe for Premix {
    const ABOUT: &'static str = "Mixes the classes in a keyed order, in given shares, and splits them (train, test)";
    const EXAMPLE: &'static str = "mixed:\n  from: events\n  premix: { shares: equal, split: { train: 0.8, test: 0.2 } }\n";
}

impl Operator for Premix {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let input = &inputs[0];
        let mut problems = Vec::new();
        let names = samples(&input.schema);
        let nowhere = |what: String| Problem { place: Place::default(), what, help: None };
        if input.schema.field_with_name(EVENT).is_err() {
            problems.push(nowhere(format!("premix needs the column `{EVENT}`, which every source makes")));
        }
        let by_class = !matches!(self.shares, Shares::All);
        if by_class && names.is_empty() {
            problems.push(nowhere(format!("shares by class need the column `{SAMPLE}`, which a source makes from `samples:`")));
        }
        if let Shares::Weights(weights) = &self.shares {
            for (class, weight) in weights {
                if !names.contains(&class.value) && !names.is_empty() {
                    let known = names.iter().map(String::as_str);
                    problems.push(Problem::at(class, format!("no class `{}`", class.value)).suggest(class, known));
                }
                if !(weight.value >= 0.0 && weight.value.is_finite()) {
                    problems.push(Problem::at(weight, format!("a share of {}", weight.value)).help("a share is a number from 0 on"));
                }
            }
            let missing: Vec<_> = names.iter().filter(|n| weights.iter().all(|(c, _)| c.value != **n)).map(String::as_str).collect();
            if let (Some((class, _)), false) = (weights.first(), missing.is_empty()) {
                problems.push(Problem::at(class, format!("no share for {}", missing.join(", "))).help("0 leaves a class out"));
            }
            if let (Some((class, _)), true) = (weights.first(), weights.iter().all(|(_, w)| w.value == 0.0)) {
                problems.push(Problem::at(class, "all shares are 0"));
            }
        }
        let mut outputs = Vec::new();
        match &self.split {
            None => outputs.push(Output { name: String::new(), ..input.clone() }),
            Some(Split(parts)) => {
                let sum: f64 = parts.iter().map(|p| p.1.value).sum();
                if let (Some((name, _)), true) = (parts.first(), (sum - 1.0).abs() > 1e-9) {
                    problems.push(Problem::at(name, format!("the fractions add up to {sum}")).help("they must add up to 1"));
                }
                if parts.is_empty() {
                    problems.push(nowhere("a split without parts".into()));
                }
                for (name, fraction) in parts {
                    if !(0.0..=1.0).contains(&fraction.value) {
                        problems.push(Problem::at(fraction, format!("a fraction of {}", fraction.value)).help("between 0 and 1"));
                    }
                    outputs.push(Output { name: name.value.clone(), ..input.clone() });
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut reads = vec![EVENT];
        if input.schema.field_with_name(SAMPLE).is_ok() {
            reads.push(SAMPLE);
        }
        // A run in memory, and once more while it is sorted.
        Ok(Planned::new(Shape::Shuffle, outputs).reading(Reads::columns(reads)).holding(2 * (48 << 20)))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let seed = self.seed.unwrap_or(at.facts.seed);
        let names = samples(&at.inputs[0].schema);
        let weights = match &self.shares {
            Shares::All => None,
            Shares::Equal => Some(vec![1.0; names.len()]),
            Shares::Weights(given) => {
                Some(names.iter().map(|n| given.iter().find(|(c, _)| c.value == *n).map_or(0.0, |(_, w)| w.value)).collect())
            }
        };
        let mut bounds = Vec::new();
        let mut sum = 0.0;
        for (_, fraction) in self.split.iter().flat_map(|s| &s.0) {
            sum += fraction.value;
            bounds.push(sum);
        }
        Ok(Work::Shuffle(Box::new(Mixing { seed, weights, bounds })))
    }
}

struct Mixing {
    seed: u64,
    /// By class; none to keep all.
    weights: Option<Vec<f64>>,
    /// Upper bounds of the splits; empty for one output.
    bounds: Vec<f64>,
}

impl Shuffle for Mixing {
    fn route(&mut self, batch: &RecordBatch, routes: &mut Vec<Route>) -> Result<(), Fault> {
        let events = crate::column::get(batch, EVENT).as_primitive::<UInt64Type>().values();
        let classes = sample_numbers(batch);
        for (row, event) in events.iter().enumerate() {
            let u = (event_key(*event, self.seed, "split") >> 11) as f64 / (1u64 << 53) as f64;
            // The last part takes what rounding left of 1.
            let last = self.bounds.len().saturating_sub(1);
            let output = self.bounds.iter().take(last).position(|b| u < *b).unwrap_or(last);
            let stratum = classes.map_or(0, |c| u16::try_from(c[row]).unwrap_or_default());
            routes.push(Route { output: u8::try_from(output)?, stratum, key: event_key(*event, self.seed, "premix") });
        }
        Ok(())
    }

    fn keep(&self, counts: &[Vec<u64>]) -> Vec<Vec<u64>> {
        let Some(weights) = &self.weights else { return counts.to_vec() };
        counts.iter().map(|of_output| shares(of_output, weights)).collect()
    }
}

/// As many of each class as its weight asks for, as far as the scarcest class allows.
fn shares(counts: &[u64], weights: &[f64]) -> Vec<u64> {
    let weight = |class: usize| weights.get(class).copied().unwrap_or(0.0);
    // A class that is not there at all would leave nothing: it counts as scarce only where its weight asks for it.
    let per_weight = weights
        .iter()
        .enumerate()
        .filter(|(_, w)| **w > 0.0)
        .map(|(class, w)| counts.get(class).copied().unwrap_or(0) as f64 / w)
        .fold(f64::INFINITY, f64::min);
    counts.iter().enumerate().map(|(class, n)| ((per_weight * weight(class)).round() as u64).min(*n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_follow_the_scarcest_class() {
        assert_eq!(shares(&[100, 30, 50], &[1.0, 1.0, 1.0]), [30, 30, 30]);
        assert_eq!(shares(&[100, 30, 50], &[2.0, 1.0, 0.0]), [60, 30, 0]);
        assert_eq!(shares(&[100, 30], &[1.0, 1.0, 1.0]), [0, 0]);
    }

    proptest! {
        #[test]
        fn no_class_gives_more_than_it_has(counts in prop::collection::vec(0u64..1000, 1..5), w in prop::collection::vec(0.01f64..5.0, 5)) {
            let kept = shares(&counts, &w[..counts.len()]);
            prop_assert!(kept.iter().zip(&counts).all(|(k, n)| k <= n));
            prop_assert!(kept.iter().zip(&counts).any(|(k, n)| k == n));
        }
    }
}
