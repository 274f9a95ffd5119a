//! A serde deserializer over the tree of nodes, which finds as much wrong with a part as there is.
//!
//! A derived reader stops at its first mistake. So a mistake is written down where it is found, the entry of the map that
//! holds it is left out, and the part is read again, until nothing new is found. A key that is missed only because its
//! entry was left out is not reported.
//!
//! [`Placed`](calostream_operators::Placed) asks for the struct [`PLACED`] and gets the place of the node.

mod key;

use super::node::{Key, Node, Value};
use super::wording::Wrong;
use calostream_operators::Problem;
use calostream_operators::place::PLACED;
use key::{Name, WithPlace};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor};
use std::cell::RefCell;
use std::collections::HashSet;

/// What is remembered while one part is read, perhaps several times.
#[derive(Debug, Default)]
pub struct Reading {
    problems: RefCell<Vec<Problem>>,
    left_out: RefCell<HashSet<u32>>,
    structs: RefCell<HashSet<u32>>,
}

impl Reading {
    /// The nodes that were read as parameters by name, where the order of keys means nothing.
    pub fn structs(&self) -> HashSet<u32> {
        self.structs.borrow().clone()
    }
}

/// Reads a part with `read`, which must go through the deserializer that it is given. `name` is how messages call the part.
pub fn read<T, E: std::fmt::Display>(
    node: &Node,
    name: &str,
    reading: &Reading,
    read: impl Fn(At<'_>) -> Result<T, E>,
) -> Result<T, Vec<Problem>> {
    loop {
        let before = reading.left_out.borrow().len();
        let result = read(At { node, name, entry: false, reading });
        let again = reading.left_out.borrow().len() > before;
        match result {
            Ok(value) if reading.problems.borrow().is_empty() => return Ok(value),
            Err(_) if again => {}
            Err(error) if reading.problems.borrow().is_empty() => {
                return Err(vec![Problem { place: node.place, what: format!("`{name}`: {error}"), help: None }]);
            }
            _ => return Err(reading.problems.take()),
        }
    }
}

/// A node that is being read, and what it is called.
#[derive(Clone, Copy)]
pub struct At<'a> {
    node: &'a Node,
    name: &'a str,
    entry: bool,
    reading: &'a Reading,
}

impl<'a> At<'a> {
    fn called(&self) -> String {
        if self.entry { format!("an entry of `{}`", self.name) } else { format!("`{}`", self.name) }
    }

    fn record(&self, problem: Problem) {
        let mut problems = self.reading.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// Writes down what is wrong with this node, once.
    fn checked<T>(&self, result: Result<T, Wrong>) -> Result<T, Wrong> {
        result.map_err(|wrong| {
            let left_out = |key: &str| {
                self.node.entries().iter().any(|(k, n)| k.text == key && self.reading.left_out.borrow().contains(&n.id))
            };
            match wrong {
                Wrong::Recorded => {}
                Wrong::Missing(key) if left_out(&key) || self.misspelt(&key) => {}
                Wrong::Length(..) if self.has_items_left_out() => {}
                wrong => self.record(wrong.problem(self.node, &self.called())),
            }
            Wrong::Recorded
        })
    }

    /// True where a key was reported as unknown that was probably meant to be this one.
    fn misspelt(&self, key: &str) -> bool {
        let left_out = self.reading.left_out.borrow();
        self.node.entries().iter().filter(|(k, n)| k.text != key && left_out.contains(&n.id)).any(|(k, _)| {
            let close = Problem { place: k.place, what: String::new(), help: None }.suggest(&k.text, [key]);
            close.help.is_some_and(|help| help.starts_with("did you mean"))
        })
    }

    fn has_items_left_out(&self) -> bool {
        let left_out = self.reading.left_out.borrow();
        matches!(&self.node.value, Value::List(items) if items.iter().any(|n| left_out.contains(&n.id)))
    }

    /// Reads a part of this node; where that fails, the smallest part that holds the mistake is left out of the next reading.
    fn part<'de, T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Wrong> {
        let before = self.reading.left_out.borrow().len();
        self.checked(seed.deserialize(self)).inspect_err(|_| {
            let mut left_out = self.reading.left_out.borrow_mut();
            if left_out.len() == before {
                left_out.insert(self.node.id);
            }
        })
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Whole(n) => {
                if let Ok(n) = u64::try_from(*n) {
                    visitor.visit_u64(n)
                } else if let Ok(n) = i64::try_from(*n) {
                    visitor.visit_i64(n)
                } else {
                    visitor.visit_i128(*n)
                }
            }
            Value::Real(x) => visitor.visit_f64(*x),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(items) => self.list(items, visitor),
            Value::Map(entries) => self.map(entries, None, visitor),
        }
    }

    fn list<'de, V: Visitor<'de>>(self, items: &[Node], visitor: V) -> Result<V::Value, Wrong> {
        let mut access = Items { at: self, items: items.iter() };
        let value = visitor.visit_seq(&mut access)?;
        let left = access.items.len();
        if left > 0 {
            return Err(Wrong::Length(items.len(), format!("a list of {} values", items.len() - left)));
        }
        Ok(value)
    }

    fn map<'de, V: Visitor<'de>>(
        self,
        entries: &[(Key, Node)],
        known: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        if let Some(known) = known {
            self.reading.structs.borrow_mut().insert(self.node.id);
            for (key, value) in entries.iter().filter(|(k, _)| !known.contains(&k.text.as_str())) {
                if self.reading.left_out.borrow_mut().insert(value.id) {
                    let what = format!("unknown field `{}`", key.text);
                    let free = known.iter().filter(|k| !entries.iter().any(|(e, _)| e.text == **k)).copied();
                    let problem = Problem { place: key.place, what, help: None };
                    self.record(problem.suggest(&key.text, free.collect::<Vec<_>>()));
                }
            }
        }
        visitor.visit_map(Entries { at: self, entries: entries.iter(), value: None })
    }
}

macro_rules! plainly {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            self.checked(self.any(visitor))
        }
    )*};
}

impl<'de> Deserializer<'de> for At<'_> {
    type Error = Wrong;

    plainly! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_seq deserialize_map deserialize_identifier
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_string(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_string(visitor)
    }

    /// A text that looks like a number is a text where one is wanted.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.checked(match (&self.node.value, &self.node.raw) {
            (Value::Bool(b), _) => visitor.visit_string(b.to_string()),
            (_, Some(raw)) => visitor.visit_str(raw),
            _ => self.any(visitor),
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.node.value {
            Value::Null => self.checked(visitor.visit_none()),
            _ => self.checked(visitor.visit_some(self)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        if name == PLACED {
            return self.deserialize_struct(name, &[], visitor);
        }
        self.checked(visitor.visit_newtype_struct(self))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.checked(match &self.node.value {
            Value::List(items) if items.len() != length => Err(Wrong::Length(items.len(), format!("a list of {length} values"))),
            Value::List(items) => self.list(items, visitor),
            _ => Err(Wrong::Expected(format!("a list of {length} values"))),
        })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, length: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        if name == PLACED {
            return visitor.visit_map(WithPlace { place: self.node.place, part: 0, value: Some(self) });
        }
        self.checked(match &self.node.value {
            Value::Null => self.map(&[], Some(fields), visitor),
            Value::Map(entries) => self.map(entries, Some(fields), visitor),
            _ => Err(Wrong::Expected(format!("a map with {}", listed(fields)))),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.checked(match (&self.node.value, &self.node.raw) {
            (Value::Text(word), _) | (_, Some(word)) if !words.contains(&word.as_str()) => {
                Err(Wrong::Word(word.clone(), words.to_vec()))
            }
            (Value::Text(word), _) | (_, Some(word)) => visitor.visit_enum(Choice { at: self, word, content: None }),
            (Value::Bool(b), _) => visitor.visit_enum(Choice { at: self, word: &b.to_string(), content: None }),
            (Value::Map(entries), _) => match entries.as_slice() {
                [(key, node)] => {
                    let content = At { node, name: &key.text, ..self };
                    if words.contains(&key.text.as_str()) {
                        visitor.visit_enum(Choice { at: self, word: &key.text, content: Some(content) })
                    } else {
                        let what = format!("{} can't be `{}`", self.called(), key.text);
                        self.record(Problem { place: key.place, what, help: None }.suggest(&key.text, words.to_vec()));
                        Err(Wrong::Recorded)
                    }
                }
                _ => Err(Wrong::Expected(format!("one of {}", words.join(", ")))),
            },
            _ => Err(Wrong::Expected(format!("one of {}", words.join(", ")))),
        })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}

struct Items<'a> {
    at: At<'a>,
    items: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for &mut Items<'_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let left_out = self.at.reading.left_out.borrow();
        let Some(node) = self.items.find(|node| !left_out.contains(&node.id)) else { return Ok(None) };
        drop(left_out);
        At { node, entry: true, ..self.at }.part(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'a> {
    at: At<'a>,
    entries: std::slice::Iter<'a, (Key, Node)>,
    value: Option<(&'a Key, &'a Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        let left_out = self.at.reading.left_out.borrow();
        let Some((key, node)) = self.entries.find(|(_, node)| !left_out.contains(&node.id)) else { return Ok(None) };
        drop(left_out);
        self.value = Some((key, node));
        seed.deserialize(Name { key, at: self.at }).map(Some).inspect_err(|_| {
            self.at.reading.left_out.borrow_mut().insert(node.id);
        })
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Wrong> {
        let Some((key, node)) = self.value.take() else { return Err(Wrong::Other("a value without a key".into())) };
        At { node, name: &key.text, entry: false, reading: self.at.reading }.part(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        None
    }
}

/// One word of several, alone or with something in it.
struct Choice<'a, 'w> {
    at: At<'a>,
    word: &'w str,
    content: Option<At<'a>>,
}

impl<'a, 'de> EnumAccess<'de> for Choice<'a, '_> {
    type Error = Wrong;
    type Variant = Content<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'a>), Wrong> {
        let word: StrDeserializer<'_, Wrong> = self.word.into_deserializer();
        Ok((seed.deserialize(word)?, Content { at: self.at, word: self.word.to_owned(), content: self.content }))
    }
}

struct Content<'a> {
    at: At<'a>,
    word: String,
    content: Option<At<'a>>,
}

impl<'a> Content<'a> {
    fn content(&self) -> Result<At<'a>, Wrong> {
        self.content.ok_or_else(|| {
            let what = format!("{} `{}` needs something behind it", self.at.called(), self.word);
            let help = format!("write `{}: {{ {}: ... }}`", self.at.name, self.word);
            self.at.record(Problem { place: self.at.node.place, what, help: Some(help) });
            Wrong::Recorded
        })
    }
}

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        match self.content {
            Some(content) if content.node.value != Value::Null => {
                Err(Wrong::Other(format!("nothing stands behind `{}`", self.word)))
            }
            _ => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Wrong> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.content()?.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Wrong> {
        self.content()?.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests;
