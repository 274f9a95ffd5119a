//! What is read by the own path, what by the library, and what by nobody.

use super::decode;
use super::header::{Dataset, Layout};

/// True where the own path reads this dataset; else the library does.
#[must_use]
pub fn is_own(dataset: &Dataset) -> bool {
    match &dataset.layout {
        _ if !dataset.element.is_fixed() => false,
        Layout::Contiguous { .. } => dataset.filters.is_empty(),
        Layout::Chunked { bare_edges, turned, .. } => {
            !bare_edges && !turned && decode::is_known(&dataset.filters, dataset.element.bytes())
        }
        Layout::Compact | Layout::Virtual | Layout::External => false,
    }
}

/// Why nobody here can read the values of this dataset; none where somebody can.
#[must_use]
pub fn unknown_filter(dataset: &Dataset) -> Option<String> {
    if is_own(dataset) {
        return None;
    }
    let unknown = dataset.filters.iter().find(|f| !f.available)?;
    Some(format!(
        "`{}` went through a filter that is not known here: {} ({}, number {})",
        dataset.path,
        unknown.label(),
        unknown.name,
        unknown.id
    ))
}
