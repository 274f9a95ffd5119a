//! The machinery behind the one list of operators.
//!
//! The list drives everything that has to know all operators: the reading of pipeline files, `calostream operators`, the
//! JSON Schema of the language and "did you mean". So a new operator cannot be forgotten in any of them.

use crate::Operator;
use std::ops::RangeInclusive;

/// Reads the parameters of an operator from a node of a pipeline file.
pub type Reader = fn(&mut dyn erased_serde::Deserializer<'_>) -> Result<Box<dyn Operator>, erased_serde::Error>;

/// What is known of an operator without a pipeline: enough to read, list, explain and check it.
pub struct Entry {
    /// The word that people type.
    pub name: &'static str,
    /// One line: what it does.
    pub about: &'static str,
    /// A step in YAML that is valid as it stands (its files may be missing).
    pub example: &'static str,
    /// How many inputs a step may name in `from`; none for a source.
    pub inputs: RangeInclusive<usize>,
    /// The folder it lives in, which says what kind of operator it is (`read`, `row`, ...).
    pub folder: &'static str,
    /// Reads the parameters from a node of the pipeline file.
    pub read: Reader,
    /// The JSON Schema of the parameters.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
}

/// What an operator's parameter struct says of itself for the list.
pub trait Describe {
    /// One line: what it does.
    const ABOUT: &'static str;
    /// A step in YAML that is valid as it stands (its files may be missing).
    const EXAMPLE: &'static str;
    /// How many inputs a step may name in `from`. Sources (the folder `read`) never take any.
    const INPUTS: RangeInclusive<usize> = 1..=1;
}

/// Declares the modules of the operators, folder by folder, and the ordered list [`OPERATORS`](crate::OPERATORS).
macro_rules! registry {
    ($($(#[$about:meta])* $folder:ident { $($name:ident => $kind:ident),* $(,)? })*) => {
        $($(#[$about])* pub mod $folder { $(pub mod $name;)* })*
        /// Every operator that a pipeline may name, in the order in which they are listed to people.
        pub const OPERATORS: &[registry::Entry] = &[$($(registry::Entry {
            name: stringify!($name),
            about: <$folder::$name::$kind as registry::Describe>::ABOUT,
            example: <$folder::$name::$kind as registry::Describe>::EXAMPLE,
            inputs: registry::inputs(stringify!($folder), <$folder::$name::$kind as registry::Describe>::INPUTS),
            folder: stringify!($folder),
            read: |from| erased_serde::deserialize::<$folder::$name::$kind>(from).map(|o| Box::new(o) as Box<dyn Operator>),
            schema: |generator| generator.subschema_for::<$folder::$name::$kind>(),
        },)*)*];
    };
}
pub(crate) use registry;

/// The inputs that an operator of this folder takes.
pub(crate) const fn inputs(folder: &str, own: RangeInclusive<usize>) -> RangeInclusive<usize> {
    if let [b'r', b'e', b'a', b'd'] = folder.as_bytes() { 0..=0 } else { own }
}

/// The operator called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    crate::OPERATORS.iter().find(|e| e.name == name)
}
