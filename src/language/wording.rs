//! What serde found wrong, in the words of the person who typed it.
//!
//! serde speaks of `u32`, `struct Axis` and `a tuple of size 2`; a physicist typed `bins: ten`. Every message here says which
//! word is wrong, what it is and what it should have been.

use super::node::Node;
use calostream_operators::Problem;
use serde::de::{Error, Expected, Unexpected};
use std::fmt;

/// What a reader of a part found wrong.
#[derive(Debug)]
pub enum Wrong {
    /// It was written down already, at the node where it was found.
    Recorded,
    /// Something of another type or out of range, by what was expected.
    Expected(String),
    /// A list of the wrong length, by what was expected.
    Length(usize, String),
    /// A word that is none of these.
    Word(String, Vec<&'static str>),
    /// A key that is none of these.
    Unknown(String, Vec<&'static str>),
    /// A key that is missing.
    Missing(String),
    /// Anything else, as the reader says it.
    Other(String),
}

/// The text by which [`Wrong::Recorded`] survives a reader that keeps only texts of errors.
const RECORDED: &str = "\u{0}recorded";

impl std::error::Error for Wrong {}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recorded => f.write_str(RECORDED),
            Self::Expected(what) => write!(f, "must be {what}"),
            Self::Length(_, what) => write!(f, "must be {what}"),
            Self::Word(word, _) => write!(f, "unknown word `{word}`"),
            Self::Unknown(key, _) => write!(f, "unknown field `{key}`"),
            Self::Missing(key) => write!(f, "`{key}` is missing"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl Error for Wrong {
    fn custom<T: fmt::Display>(what: T) -> Self {
        let what = what.to_string();
        if what == RECORDED { Self::Recorded } else { Self::Other(what) }
    }
    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Expected(in_words(&expected.to_string()))
    }
    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Expected(in_words(&expected.to_string()))
    }
    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::Length(length, in_words(&expected.to_string()))
    }
    fn unknown_variant(word: &str, expected: &'static [&'static str]) -> Self {
        Self::Word(word.into(), expected.to_vec())
    }
    fn unknown_field(key: &str, expected: &'static [&'static str]) -> Self {
        Self::Unknown(key.into(), expected.to_vec())
    }
    fn missing_field(key: &'static str) -> Self {
        Self::Missing(key.into())
    }
    fn duplicate_field(key: &'static str) -> Self {
        Self::Other(format!("`{key}` is given twice"))
    }
}

/// A type's name as serde gives it, in plain words.
fn in_words(expected: &str) -> String {
    match expected {
        "a string" | "a borrowed string" | "str" | "string" | "a character" | "path string" => "a text".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" | "i128" => "a whole number".into(),
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" | "u64" | "usize" | "u128" => "a whole number, 0 or above".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "`true` or `false`".into(),
        "a sequence" => "a list".into(),
        "unit" => "nothing".into(),
        nonzero if nonzero.starts_with("a nonzero") => "a whole number, 1 or above".into(),
        map if map.starts_with("struct ") && map.contains(" with ") => map.to_owned(),
        map if map.starts_with("struct ") => "a map".into(),
        words => list_length(words).map_or_else(|| words.to_owned(), |n| format!("a list of {n} values")),
    }
}

/// `2` of `a tuple of size 2`, `an array of length 2`, `struct X with 2 elements`.
fn list_length(words: &str) -> Option<usize> {
    let rest = words.strip_prefix("a tuple of size ").or_else(|| words.strip_prefix("an array of length "))?;
    rest.split(' ').next()?.parse().ok()
}

impl Wrong {
    /// The problem at the node that was read; `name` says which parameter it is.
    pub fn problem(self, node: &Node, name: &str) -> Problem {
        let at = |what: String| Problem { place: node.place, what, help: None };
        match self {
            Self::Recorded => at(RECORDED.into()),
            Self::Expected(what) => at(format!("{name} must be {what}, not {}", node.in_words())),
            Self::Length(length, what) => at(format!("{name} must be {what}, not of {length}")),
            Self::Word(word, known) => at(format!("{name} can't be `{word}`")).suggest(&word, known),
            Self::Unknown(key, known) => at(format!("unknown field `{key}`")).suggest(&key, known),
            Self::Missing(key) => at(format!("{name} needs `{key}`")),
            Self::Other(what) if what.starts_with("data did not match any variant") => {
                at(format!("{name} can't be read from {}", node.in_words()))
            }
            Self::Other(what) => at(format!("{name}: {what}")),
        }
    }
}
