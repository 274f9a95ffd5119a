//! One word or a list of them, each with its place: `of: pull`, `of: [pull, linear_pull]`.

use crate::Placed;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;

/// One word or several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The words.
    pub words: Vec<Placed<String>>,
    /// True where they were written as a list, be it of one.
    pub listed: bool,
}

impl From<Placed<String>> for Names {
    fn from(word: Placed<String>) -> Self {
        Self { words: vec![word], listed: false }
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Placed { value, place } = Placed::<Written>::deserialize(from)?;
        Ok(match value {
            Written::One(value) => Placed { value, place }.into(),
            Written::Several(words) => Self { words, listed: true },
        })
    }
}

enum Written {
    One(String),
    Several(Vec<Placed<String>>),
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(WrittenVisitor)
    }
}

struct WrittenVisitor;

impl<'de> Visitor<'de> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word or a list of words")
    }

    fn visit_str<E>(self, word: &str) -> Result<Written, E> {
        Ok(Written::One(word.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Written, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = from.next_element()? {
            words.push(word);
        }
        Ok(Written::Several(words))
    }
}

impl JsonSchema for Names {
    fn schema_name() -> Cow<'static, str> {
        "Names".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (one, several) = (generator.subschema_for::<String>(), generator.subschema_for::<Vec<String>>());
        schemars::json_schema!({ "anyOf": [one, several] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_no_list() {
        let read = |text: &str| serde_json::from_str::<Names>(text);
        let one = read("\"pull\"").unwrap();
        assert_eq!((one.words.len(), one.listed), (1, false));
        let several = read("[\"a\", \"b\"]").unwrap();
        assert_eq!((several.words[1].value.as_str(), several.listed), ("b", true));
        assert!(read("3").unwrap_err().to_string().contains("expected a word or a list of words"));
    }
}
