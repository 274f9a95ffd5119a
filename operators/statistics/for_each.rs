//! How it is written what rows are told apart by: columns (`for_each`) and named selections (`regions`); see [`crate::statistics::groups`].

use crate::Placed;
use crate::statistics::axis::Category;
use schemars::{JsonSchema, Schema as JsonDocument, SchemaGenerator, json_schema};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Named selections, each a SQL condition: `{ barrel: abs(eta) < 1.4, endcap: abs(eta) > 1.5, all: true }`.
pub type Regions = Placed<BTreeMap<Placed<String>, Placed<String>>>;

/// The columns to tell rows apart by: `sample`, `[sample, converted]`, `[sample, { layer: [1, 2, 3] }]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForEach(pub Vec<Told>);

/// A column to tell rows apart by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The column.
    pub column: Placed<String>,
    /// Its values that are told apart, where they are not known otherwise.
    pub values: Option<Placed<Vec<Category>>>,
}

impl From<Placed<String>> for ForEach {
    fn from(column: Placed<String>) -> Self {
        Self(vec![Told { column, values: None }])
    }
}

impl<'de> Deserialize<'de> for ForEach {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Placed { value, place } = Placed::<Written>::deserialize(from)?;
        Ok(Self(match value {
            Written::Word(value) => vec![Told { column: Placed { value, place }, values: None }],
            Written::Columns(columns) => columns,
        }))
    }
}

/// A word, or columns in a list or a map.
enum Written {
    Word(String),
    Columns(Vec<Told>),
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
        f.write_str("a column, a list of columns, or columns with their values as in `{ layer: [1, 2, 3] }`")
    }

    fn visit_str<E>(self, word: &str) -> Result<Written, E> {
        Ok(Written::Word(word.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Written, A::Error> {
        let mut columns = Vec::new();
        while let Some(ForEach(more)) = from.next_element()? {
            columns.extend(more);
        }
        Ok(Written::Columns(columns))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Written, A::Error> {
        let mut columns = Vec::new();
        while let Some((column, values)) = from.next_entry()? {
            columns.push(Told { column, values: Some(values) });
        }
        Ok(Written::Columns(columns))
    }
}

impl JsonSchema for ForEach {
    fn schema_name() -> Cow<'static, str> {
        "ForEach".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> JsonDocument {
        let values = json_schema!({ "type": "array", "items": { "type": ["string", "integer"] } });
        let map = json_schema!({ "type": "object", "additionalProperties": values, "minProperties": 1 });
        let columns = json_schema!({ "type": "array", "items": { "anyOf": [{ "type": "string" }, map] } });
        json_schema!({ "anyOf": [{ "type": "string" }, columns, map] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_word_a_list_and_columns_with_values_are_read() {
        let read = |json: serde_json::Value| serde_json::from_value::<ForEach>(json);
        let names = |of: &ForEach| of.0.iter().map(|told| told.column.value.clone()).collect::<Vec<_>>();
        assert_eq!(names(&read(json!("sample")).unwrap()), ["sample"]);
        let several = read(json!(["sample", { "layer": [1, 2] }, "hot"])).unwrap();
        assert_eq!(names(&several), ["sample", "layer", "hot"]);
        let values = several.0[1].values.as_ref().unwrap();
        assert_eq!(values.value, [Category::Number(1), Category::Number(2)]);
        assert_eq!(read(json!({ "region": ["a", "b"] })).unwrap().0[0].values.as_ref().unwrap().len(), 2);
        assert!(read(json!(3)).unwrap_err().to_string().contains("expected a column, a list of columns"));
    }
}
