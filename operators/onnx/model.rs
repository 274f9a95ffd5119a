//! What a model wants and gives, as data.

/// The inputs and outputs of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelFacts {}
