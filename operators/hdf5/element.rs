//! The type of a dataset's elements: numbers, records, small arrays, texts, lists, and what stands at the end of a member's path.

use arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type};
use serde::{Deserialize, Serialize};

/// The type of an element.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Element {
    /// A number.
    Number(Number),
    /// A record.
    Compound {
        /// Bytes of a record in the file.
        bytes: u64,
        /// Its members.
        members: Vec<Member>,
    },
    /// A small array in each element.
    Array {
        /// Its lengths.
        shape: Vec<u64>,
        /// What it is made of.
        of: Box<Element>,
    },
    /// A number whose values have names.
    Enum {
        /// The number.
        number: Number,
        /// The names with their values, by value.
        names: Vec<(String, i64)>,
    },
    /// A text.
    Text {
        /// Bytes in the file where the length is fixed, else of the library's pointer.
        bytes: u64,
        /// True where each text has a length of its own.
        variable: bool,
        /// How a text that is shorter than its bytes ends.
        pad: Pad,
    },
    /// Lists of variable length.
    List {
        /// Bytes of the library's pointer.
        bytes: u64,
        /// What they are made of.
        of: Box<Element>,
    },
    /// What calostream makes no columns of.
    Other {
        /// Bytes of an element: in the file if `fixed`, else of the library's pointer to it.
        bytes: u64,
        /// True where an element stands in the file as so many bytes (not so: lists and text of variable length, references).
        fixed: bool,
        /// What it is, in words ("text", "opaque").
        what: String,
    },
}

/// How a text that is shorter than its bytes ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pad {
    /// With a zero byte, whatever comes after it.
    Terminated,
    /// With zeros.
    Zeros,
    /// With spaces.
    Spaces,
}

impl Pad {
    /// The text without what fills it up.
    #[must_use]
    pub fn trim(self, bytes: &[u8]) -> &[u8] {
        let end = match self {
            Self::Terminated => bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()),
            Self::Zeros => bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1),
            Self::Spaces => bytes.iter().rposition(|b| *b != b' ').map_or(0, |last| last + 1),
        };
        &bytes[..end]
    }
}

/// A member of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where it begins within the record.
    pub offset: u64,
    /// Its type.
    pub element: Element,
}

/// A kind of number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An integer with a sign.
    Signed,
    /// An integer without.
    Unsigned,
    /// IEEE 754.
    Float,
    /// 0 or 1 (h5py's enum of FALSE and TRUE).
    Boolean,
}

/// A number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Number {
    /// What kind.
    pub kind: Kind,
    /// Bytes of the value once read.
    pub bytes: u8,
    /// Bytes in the file.
    pub stored: u64,
    /// Whether the most significant byte comes first in the file.
    pub big_endian: bool,
    /// True where the bytes in the file are those of the value; else the library has to convert (odd precisions, bfloat16).
    pub plain: bool,
}

/// A column of numbers within the elements of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// The number.
    pub number: Number,
    /// Where it begins within the element.
    pub offset: u64,
    /// Lengths of the small arrays in each element, outermost first.
    pub shape: Vec<u64>,
}

/// What stands at the end of a member's path.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf<'a> {
    /// Its type, no small array.
    pub element: &'a Element,
    /// Where it begins within the element of the dataset.
    pub offset: u64,
    /// Lengths of the small arrays around it, outermost first.
    pub shape: Vec<u64>,
}

impl Number {
    /// A value of this kind from its little-endian bytes, in words.
    pub fn show(self, bytes: &[u8]) -> String {
        let mut eight = [0; 8];
        eight[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
        let bits = u64::from_le_bytes(eight);
        let spare = 64 - 8 * u32::from(self.bytes.clamp(1, 8));
        match (self.kind, self.bytes) {
            (Kind::Boolean, _) => (bits != 0).to_string(),
            (Kind::Unsigned, _) => bits.to_string(),
            (Kind::Signed, _) => (((bits << spare) as i64) >> spare).to_string(),
            (Kind::Float, 2) => <Float16Type as ArrowPrimitiveType>::Native::from_bits(bits as u16).to_string(),
            (Kind::Float, 4) => f32::from_bits(bits as u32).to_string(),
            (Kind::Float, _) => f64::from_bits(bits).to_string(),
        }
    }

    /// The type of the column that it becomes.
    #[must_use]
    pub fn arrow(&self) -> DataType {
        match (self.kind, self.bytes) {
            (Kind::Boolean, _) => DataType::Boolean,
            (Kind::Signed, 1) => DataType::Int8,
            (Kind::Signed, 2) => DataType::Int16,
            (Kind::Signed, 4) => DataType::Int32,
            (Kind::Signed, _) => DataType::Int64,
            (Kind::Unsigned, 1) => DataType::UInt8,
            (Kind::Unsigned, 2) => DataType::UInt16,
            (Kind::Unsigned, 4) => DataType::UInt32,
            (Kind::Unsigned, _) => DataType::UInt64,
            (Kind::Float, 2) => DataType::Float16,
            (Kind::Float, 4) => DataType::Float32,
            (Kind::Float, _) => DataType::Float64,
        }
    }

    /// As numpy calls it (`float32`), with the byte order where it is the less usual one.
    #[must_use]
    pub fn name(&self) -> String {
        let kind = match self.kind {
            Kind::Boolean => return "bool".into(),
            Kind::Signed => "int",
            Kind::Unsigned => "uint",
            Kind::Float => "float",
        };
        let order = if self.big_endian && self.bytes > 1 { " big-endian" } else { "" };
        format!("{kind}{}{order}", u32::from(self.bytes) * 8)
    }
}

impl Element {
    /// Bytes in the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Number(number) | Self::Enum { number, .. } => number.stored,
            Self::Compound { bytes, .. } | Self::Text { bytes, .. } | Self::List { bytes, .. } | Self::Other { bytes, .. } => {
                *bytes
            }
            Self::Array { shape, of } => shape.iter().copied().fold(of.bytes(), u64::saturating_mul),
        }
    }

    /// True where the bytes in the file are all there is to it: no member points elsewhere.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        match self {
            Self::Number(_) | Self::Enum { .. } => true,
            Self::Text { variable, .. } => !variable,
            Self::List { .. } => false,
            Self::Compound { members, .. } => members.iter().all(|m| m.element.is_fixed()),
            Self::Array { of, .. } => of.is_fixed(),
            Self::Other { fixed, .. } => *fixed,
        }
    }

    /// In words.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Number(number) => number.name(),
            Self::Enum { number, names } => format!("{} of {} names", number.name(), names.len()),
            Self::Text { .. } => "text".into(),
            Self::List { of, .. } => format!("lists of {}", of.name()),
            Self::Compound { members, .. } => {
                let members: Vec<String> = members.iter().map(|m| format!("{}: {}", m.name, m.element.name())).collect();
                format!("{{{}}}", members.join(", "))
            }
            Self::Array { shape, of } => format!("{} {}", of.name(), shape_name(shape)),
            Self::Other { what, .. } => what.clone(),
        }
    }

    /// What stands at the end of a member's path (`a.b`; none for the element itself).
    pub fn leaf(&self, member: Option<&str>) -> Result<Leaf<'_>, String> {
        match (self, member) {
            (Self::Array { shape, of }, _) => {
                let mut leaf = of.leaf(member)?;
                if member.is_some() {
                    return Err("holds arrays of records, which cannot be a column".into());
                }
                leaf.shape.splice(0..0, shape.iter().copied());
                Ok(leaf)
            }
            (Self::Compound { members, .. }, Some(name)) => {
                let inner = |m: &&Member| name == m.name || name.strip_prefix(&m.name).is_some_and(|rest| rest.starts_with('.'));
                let Some(m) = members.iter().find(inner) else {
                    let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
                    return Err(format!("has no member `{name}`; it has {}", names.join(", ")));
                };
                let mut leaf = m.element.leaf(name.strip_prefix(&m.name).and_then(|rest| rest.strip_prefix('.')))?;
                leaf.offset += m.offset;
                Ok(leaf)
            }
            (_, None) => Ok(Leaf { element: self, offset: 0, shape: Vec::new() }),
            (Self::Number(_), Some(name)) => Err(format!("holds plain numbers, no member `{name}`")),
            (other, Some(name)) => Err(format!("holds {}, no member `{name}`", other.name())),
        }
    }
}

/// `(300, 25, 25, 25)`, as numpy prints it.
#[must_use]
pub fn shape_name(shape: &[u64]) -> String {
    match shape {
        [one] => format!("({one},)"),
        many => format!("({})", many.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
    }
}
