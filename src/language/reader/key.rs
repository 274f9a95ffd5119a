//! Keys of maps as serde reads them: a text, a number or one word of several, each with its place where that is asked for.

use super::At;
use crate::language::node::{Key, Node, Value};
use crate::language::wording::Wrong;
use calostream_operators::Place;
use calostream_operators::place::PLACED;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Unexpected, Visitor};

/// A key: a text, or whatever it can be read as.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub key: &'a Key,
    pub at: At<'a>,
}

impl Name<'_> {
    /// Writes down what is wrong with this key, once.
    fn checked<T>(&self, result: Result<T, Wrong>) -> Result<T, Wrong> {
        result.map_err(|wrong| {
            if !matches!(wrong, Wrong::Recorded) {
                let text = Value::Text(self.key.text.clone());
                let node = Node { id: 0, place: self.key.place, value: text, raw: None };
                self.at.record(wrong.problem(&node, &format!("a key of `{}`", self.at.name)));
            }
            Wrong::Recorded
        })
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            self.checked(match self.key.text.parse::<$type>() {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(Wrong::invalid_type(Unexpected::Str(&self.key.text), &visitor)),
            })
        }
    )*};
}

impl<'de> Deserializer<'de> for Name<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.checked(visitor.visit_str(&self.key.text))
    }

    parsed! {
        deserialize_bool visit_bool bool, deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
        deserialize_f32 visit_f32 f32, deserialize_f64 visit_f64 f64,
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        if name == PLACED {
            return self.deserialize_struct(name, &[], visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        if name == PLACED {
            return visitor.visit_map(WithPlace { place: self.key.place, part: 0, value: Some(self) });
        }
        self.checked(Err(Wrong::Expected("a text".into())))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let word: StrDeserializer<'_, Wrong> = self.key.text.as_str().into_deserializer();
        self.checked(visitor.visit_enum(word))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The three fields of a placed value.
pub(super) struct WithPlace<D> {
    pub place: Place,
    pub part: u8,
    pub value: Option<D>,
}

impl<'de, D: Deserializer<'de, Error = Wrong>> MapAccess<'de> for WithPlace<D> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        let Some(name) = ["line", "column", "value"].get(usize::from(self.part)) else { return Ok(None) };
        let name: StrDeserializer<'_, Wrong> = (*name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Wrong> {
        self.part += 1;
        match (self.part, self.value.take()) {
            (1, value) => {
                self.value = value;
                seed.deserialize(self.place.line.into_deserializer())
            }
            (2, value) => {
                self.value = value;
                seed.deserialize(self.place.column.into_deserializer())
            }
            (_, Some(value)) => seed.deserialize(value),
            (_, None) => Err(Wrong::Other("a placed value is read once".into())),
        }
    }
}
