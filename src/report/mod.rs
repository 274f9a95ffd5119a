//! What people see of a run: tables, plots, one page, and the few numbers that go to the terminal.
//!
//! Invariant: everything but the block "This run" of the page is a function of the summaries, to the byte.

mod format;
mod page;
mod plot;
mod tables;
mod terminal;

pub use page::{Behind, RunFacts, page};
pub use plot::svg;
pub use tables::write_summary;
pub use terminal::highlights;
