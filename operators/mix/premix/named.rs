//! What a premix is given by name: shares and numbers of classes, fractions of parts. In the order in which they were typed.

use crate::Placed;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

/// Names, each with a number.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(transparent)]
pub(super) struct Named(
    #[schemars(with = "std::collections::BTreeMap<String, f64>")] pub(super) Vec<(Placed<String>, Placed<f64>)>,
);

/// The shares of the classes.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Shares {
    #[default]
    #[schemars(with = "String")]
    Natural,
    #[schemars(with = "String")]
    Equal,
    Weights(Named),
}

/// Numbers of events.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Counts {
    /// Of all classes together.
    #[schemars(with = "u64")]
    All(u64),
    /// Of each class.
    Each(Named),
}

struct Reads(&'static str);

enum Found {
    Number(u64),
    Word(String),
    Named(Named),
}

impl<'de> Visitor<'de> for Reads {
    type Value = Found;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
    fn visit_str<E: Error>(self, word: &str) -> Result<Found, E> {
        Ok(Found::Word(word.to_owned()))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Found, E> {
        Ok(Found::Number(number))
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Found, E> {
        u64::try_from(number).map(Found::Number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut named = Vec::new();
        while let Some(entry) = map.next_entry()? {
            named.push(entry);
        }
        Ok(Found::Named(Named(named)))
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let reads = Reads("names, each with a number");
        match from.deserialize_map(reads)? {
            Found::Named(named) => Ok(named),
            Found::Word(_) | Found::Number(_) => Err(D::Error::custom("names, each with a number, are expected")),
        }
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let reads = "a number of events, or one for each class";
        match from.deserialize_any(Reads(reads))? {
            Found::Number(n) => Ok(Self::All(n)),
            Found::Named(named) => Ok(Self::Each(named)),
            Found::Word(word) => Err(D::Error::invalid_type(Unexpected::Str(&word), &reads)),
        }
    }
}

impl<'de> Deserialize<'de> for Shares {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.deserialize_any(Reads("`natural`, `equal`, or a weight for each class"))? {
            Found::Word(word) if word == "natural" => Ok(Self::Natural),
            Found::Word(word) if word == "equal" => Ok(Self::Equal),
            Found::Word(word) => Err(D::Error::unknown_variant(&word, &["natural", "equal"])),
            Found::Named(named) => Ok(Self::Weights(named)),
            Found::Number(n) => {
                Err(D::Error::invalid_type(Unexpected::Unsigned(n), &"`natural`, `equal`, or a weight for each class"))
            }
        }
    }
}
