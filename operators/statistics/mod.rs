//! What the numbers of tables are made of: sums that are exact and can be taken back, bins and groups, intervals, fits.
//!
//! Invariants: nothing here knows a single operator, or files; every sum is independent of the order in which its parts come; each
//! formula says where it is from.

pub mod auc;
pub mod axis;
pub mod binning;
pub mod bootstrap;
pub mod exact;
pub mod figure;
pub mod fit;
pub mod folding;
pub mod for_each;
pub mod gaussian;
pub mod groups;
pub mod interval;
pub mod ladder;
pub mod moments;
pub mod peak;
pub mod populations;
pub mod rungs;
pub mod spectrum;
pub mod sums;
pub mod uhi;
mod weighed;
pub mod working_point;
