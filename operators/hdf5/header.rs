//! What is in an HDF5 file, as data: every dataset with its shape, type, layout and filters.

/// The datasets of a file, in the order of their paths.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Header {}
