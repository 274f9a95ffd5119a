//! The files of a step as people write them: one pattern or a list, and samples by name, each word with its place.

use crate::Placed;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use std::borrow::Cow;
use std::fmt;

/// One pattern or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns(pub Vec<Placed<String>>);

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        /// A word has the place of the whole; the words of a list have their own.
        enum OneOrMany {
            One(String),
            Many(Vec<Placed<String>>),
        }
        impl<'de> Deserialize<'de> for OneOrMany {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Either;
                impl<'de> de::Visitor<'de> for Either {
                    type Value = OneOrMany;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a pattern or a list of patterns")
                    }
                    fn visit_str<E: de::Error>(self, word: &str) -> Result<OneOrMany, E> {
                        Ok(OneOrMany::One(word.to_owned()))
                    }
                    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                        let mut many = Vec::new();
                        while let Some(word) = list.next_element()? {
                            many.push(word);
                        }
                        Ok(OneOrMany::Many(many))
                    }
                }
                from.deserialize_any(Either)
            }
        }
        let Placed { value, place } = Placed::<OneOrMany>::deserialize(from)?;
        Ok(Self(match value {
            OneOrMany::One(value) => vec![Placed { value, place }],
            OneOrMany::Many(many) => many,
        }))
    }
}

impl JsonSchema for Patterns {
    fn schema_name() -> Cow<'static, str> {
        "Patterns".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

/// Samples by name, in the order in which they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples(pub Vec<(String, Patterns)>);

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> de::Visitor<'de> for InOrder {
            type Value = Samples;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("samples by name")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Samples, A::Error> {
                let mut samples: Vec<(String, Patterns)> = Vec::new();
                while let Some((name, patterns)) = map.next_entry::<String, Patterns>()? {
                    if samples.iter().any(|(known, _)| *known == name) {
                        return Err(de::Error::custom(format!("the sample `{name}` is there twice")));
                    }
                    samples.push((name, patterns));
                }
                Ok(Samples(samples))
            }
        }
        from.deserialize_map(InOrder)
    }
}

impl JsonSchema for Samples {
    fn schema_name() -> Cow<'static, str> {
        "Samples".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let patterns = generator.subschema_for::<Patterns>();
        schemars::json_schema!({ "type": "object", "additionalProperties": patterns })
    }
}
