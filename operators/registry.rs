//! The machinery behind the one list of operators.
//!
//! The list drives everything that has to know all operators: the reading of pipeline files, `calostream operators`, the
//! JSON Schema of the language and "did you mean". So a new operator cannot be forgotten in any of them.

use crate::Operator;

/// What is known of an operator without a pipeline: enough to read, list, explain and check it.
pub struct Entry {
    /// The word that people type.
    pub name: &'static str,
    /// One line: what it does.
    pub about: &'static str,
    /// A step in YAML that is valid as it stands (its files may be missing).
    pub example: &'static str,
    /// Reads the parameters from a node of the pipeline file.
    pub read: fn(&mut dyn erased_serde::Deserializer<'_>) -> Result<Box<dyn Operator>, erased_serde::Error>,
    /// The JSON Schema of the parameters.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
}

/// What an operator's parameter struct says of itself for the list.
pub trait Describe {
    /// One line: what it does.
    const ABOUT: &'static str;
    /// A step in YAML that is valid as it stands (its files may be missing).
    const EXAMPLE: &'static str;
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
            read: |from| erased_serde::deserialize::<$folder::$name::$kind>(from).map(|o| Box::new(o) as Box<dyn Operator>),
            schema: |generator| generator.subschema_for::<$folder::$name::$kind>(),
        },)*)*];
    };
}
pub(crate) use registry;

/// The operator called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    crate::OPERATORS.iter().find(|e| e.name == name)
}
