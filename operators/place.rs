//! Where a word stands in a file that a person wrote, and what is wrong with it.
//!
//! Every parameter that refers to something else (a column, a step, a file) is [`Placed`], so that whatever is found wrong
//! with it later can be shown where it was typed.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

/// A line and a column, both counted from 1; 0 where the value was not typed by anybody (a default).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// A value together with where it was typed.
///
/// It is read as a newtype of the name [`PLACED`]. The reader of pipeline files knows that name and answers with a map of
/// `line`, `column` and `value`; any other deserializer (and serde's buffer for untagged enums) yields the value without a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed<T> {
    /// What was typed.
    pub value: T,
    /// Where.
    pub place: Place,
}

/// The name by which [`Placed`] asks a deserializer for the place.
pub const PLACED: &str = "$calostream::Placed";

impl<T> Placed<T> {
    /// A value that nobody typed.
    pub fn unplaced(value: T) -> Self {
        Self { value, place: Place::default() }
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_newtype_struct(PLACED, PlacedVisitor(PhantomData))
    }
}

struct PlacedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PlacedVisitor<T> {
    type Value = Placed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Placed<T>, D::Error> {
        T::deserialize(from).map(Placed::unplaced)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Placed<T>, A::Error> {
        let (mut place, mut value) = (Place::default(), None);
        while let Some(field) = from.next_key::<String>()? {
            match field.as_str() {
                "line" => place.line = from.next_value()?,
                "column" => place.column = from.next_value()?,
                _ => value = Some(from.next_value()?),
            }
        }
        Ok(Placed { value: value.ok_or_else(|| A::Error::missing_field("value"))?, place })
    }
}

impl<T: JsonSchema> JsonSchema for Placed<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// One thing that is wrong with a pipeline: where, what, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where it was typed.
    pub place: Place,
    /// What is wrong.
    pub what: String,
    /// What would be right, where that can be said.
    pub help: Option<String>,
}

impl Problem {
    /// A problem at a placed word.
    pub fn at<T>(word: &Placed<T>, what: impl Into<String>) -> Self {
        Self { place: word.place, what: what.into(), help: None }
    }

    /// The same with what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// "Did you mean" where a known word is close to `typed`, else the list of what there is.
    #[must_use]
    pub fn suggest<'a>(self, typed: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let close =
            known.iter().map(|k| (strsim::damerau_levenshtein(typed, k), *k)).filter(|(d, k)| *d <= 1 + k.len() / 4).min();
        match close {
            Some((_, k)) => self.help(format!("did you mean `{k}`?")),
            None if known.is_empty() => self,
            None => self.help(format!("there is {}", known.join(", "))),
        }
    }
}
