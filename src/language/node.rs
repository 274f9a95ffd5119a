//! A pipeline file as a tree of nodes, each with the place where it was typed.
//!
//! The file is parsed once (by serde-saphyr, which knows anchors, merges and quoting); every part is then read from the tree
//! on its own, so that one mistake does not hide the others. A plain scalar keeps its text, because `schema: 1.10` means
//! the text `1.10` where a text is wanted. Maps keep the order of the file.

use calostream_operators::{Place, Problem};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, NonFiniteFloatPolicy, Spanned};
use std::fmt;

/// One node of the tree.
#[derive(Debug, Clone)]
pub struct Node {
    /// Unique within a file: what a problem is remembered by.
    pub id: u32,
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub value: Value,
    /// How a scalar that is not a text was typed (`1.10`, `0x1f`).
    pub raw: Option<String>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Whole(i128),
    /// Any other number.
    Real(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file; keys are unique.
    Map(Vec<(Key, Node)>),
}

/// The key of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// What was typed.
    pub text: String,
    /// Where.
    pub place: Place,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Node {
    /// The entries of a map; none for anything else.
    #[must_use]
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value as a person would call it: `` `ten` ``, `a list`.
    #[must_use]
    pub fn in_words(&self) -> String {
        match (&self.value, &self.raw) {
            (Value::Null, _) => "nothing".into(),
            (Value::Text(text), _) | (_, Some(text)) => format!("`{text}`"),
            (Value::Bool(b), _) => format!("`{b}`"),
            (Value::Whole(n), _) => format!("`{n}`"),
            (Value::Real(x), _) => format!("`{x}`"),
            (Value::List(_), _) => "a list".into(),
            (Value::Map(_), _) => "a map".into(),
        }
    }
}

/// Parses a whole file. On success the tree comes with the problems that did not keep it from being read (keys given twice).
pub fn parse(text: &str) -> Result<(Node, Vec<Problem>), Problem> {
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.non_finite_float_policy = NonFiniteFloatPolicy::PassThrough;
    options.strict_booleans = true;
    options.with_snippet = false;
    let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options).map_err(|error| syntax(text, &error))?;
    let mut making = Making { text, next: 0, problems: Vec::new() };
    let node = making.node(raw);
    Ok((node, making.problems))
}

fn place(at: Location) -> Place {
    Place { line: u32::try_from(at.line()).unwrap_or(0), column: u32::try_from(at.column()).unwrap_or(0) }
}

/// What the parser says, without its own way of naming the place.
fn syntax(text: &str, error: &serde_saphyr::Error) -> Problem {
    let at = error.location().map(place).unwrap_or_default();
    let said = error.without_snippet().to_string();
    let said = said.split(" at line ").next().unwrap_or(&said).trim_end_matches(['.', ':']).to_owned();
    let said = said.rsplit_once(": line ").map_or(said.as_str(), |(s, _)| s).to_owned();
    let problem = Problem { place: at, what: format!("this is not YAML: {said}"), help: None };
    let line = text.lines().nth(at.line.saturating_sub(1) as usize).unwrap_or_default();
    if line.contains('\t') && line.trim_start_matches(' ').starts_with('\t') {
        return problem.help("indent with spaces, not with tabs");
    }
    if line.contains("${") && line.contains(": ${") || line.contains("[${") {
        return problem.help("inside `{ }` and `[ ]` a parameter stands in quotes: \"${name}\"");
    }
    problem
}

struct Making<'t> {
    text: &'t str,
    next: u32,
    problems: Vec<Problem>,
}

impl Making<'_> {
    fn node(&mut self, from: Spanned<Raw>) -> Node {
        let at = if from.defined.line() == 0 { from.referenced } else { from.defined };
        let begin = if matches!(from.value, Raw::Text(_)) { self.inside(at) } else { place(at) };
        self.next += 1;
        let id = self.next;
        let mut raw = None;
        let value = match from.value {
            Raw::Null => Value::Null,
            Raw::Text(text) => Value::Text(text),
            Raw::Bool(b) => Value::Bool(b),
            Raw::Whole(n) => {
                raw = self.typed(at);
                Value::Whole(n)
            }
            Raw::Real(x) => {
                raw = self.typed(at);
                Value::Real(x)
            }
            Raw::List(items) => Value::List(items.into_iter().map(|item| self.node(item)).collect()),
            Raw::Map(entries) => {
                let mut map: Vec<(Key, Node)> = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let at = if key.defined.line() == 0 { key.referenced } else { key.defined };
                    let key = Key { text: key.value, place: place(at) };
                    if let Some((first, _)) = map.iter().find(|(k, _)| k.text == key.text) {
                        let what = format!("`{}` is given twice", key.text);
                        let help = format!("the first is in line {}", first.place.line);
                        self.problems.push(Problem { place: key.place, what, help: Some(help) });
                        continue;
                    }
                    let value = self.node(value);
                    map.push((key, value));
                }
                Value::Map(map)
            }
        };
        Node { id, place: begin, value, raw }
    }

    /// Where the text itself begins: behind the quote, or in the line below `|`.
    fn inside(&self, at: Location) -> Place {
        let place = place(at);
        let start = at.span().byte_offset().and_then(|o| usize::try_from(o).ok()).and_then(|o| self.text.get(o..));
        match start.and_then(|rest| rest.chars().next()) {
            Some('"' | '\'') => Place { column: place.column + 1, ..place },
            Some('|' | '>') => {
                let line = self.text.lines().nth(place.line as usize).unwrap_or_default();
                let indent = line.len() - line.trim_start_matches(' ').len();
                Place { line: place.line + 1, column: u32::try_from(indent).unwrap_or(0) + 1 }
            }
            _ => place,
        }
    }

    /// The text of a plain scalar.
    fn typed(&self, at: Location) -> Option<String> {
        let start = usize::try_from(at.span().byte_offset()?).ok()?;
        let length = usize::try_from(at.span().byte_len()?).ok()?;
        self.text.get(start..start + length).map(|text| text.trim().to_owned())
    }
}

/// A node as the parser gives it.
enum Raw {
    Null,
    Bool(bool),
    Whole(i128),
    Real(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Raw;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_bool<E>(self, b: bool) -> Result<Raw, E> {
                Ok(Raw::Bool(b))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Raw, E> {
                Ok(Raw::Whole(n.into()))
            }
            fn visit_u64<E>(self, n: u64) -> Result<Raw, E> {
                Ok(Raw::Whole(n.into()))
            }
            fn visit_i128<E>(self, n: i128) -> Result<Raw, E> {
                Ok(Raw::Whole(n))
            }
            fn visit_f64<E>(self, x: f64) -> Result<Raw, E> {
                Ok(Raw::Real(x))
            }
            fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
                Ok(Raw::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = from.next_element()? {
                    items.push(item);
                }
                Ok(Raw::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = from.next_entry()? {
                    entries.push(entry);
                }
                Ok(Raw::Map(entries))
            }
        }
        from.deserialize_any(Any)
    }
}
