//! Work on bytes that nobody may have written: the Parquet crate may panic on them, and that is an error like any other.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The work, its errors as sentences, a panic too.
pub(super) fn caught<T, E: Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("its bytes make no sense".into()),
    }
}
