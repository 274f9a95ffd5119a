//! The two ways in which work fails.
//!
//! What is wrong with the data costs a unit (it is quarantined with its reason and the run goes on). What is wrong with the
//! machine (a full disk, a stale mount) stops the run, resumable. The difference decides what a user loses, so it is a type.

use std::fmt;

/// Why work could not be done.
#[derive(Debug)]
pub enum Fault {
    /// The data are wrong: this unit is quarantined.
    Content(String),
    /// The machine is wrong, or calostream is: the run stops and can be resumed.
    Machine(anyhow::Error),
}

impl Fault {
    /// The data are wrong.
    pub fn content(reason: impl Into<String>) -> Self {
        Self::Content(reason.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(reason) => f.write_str(reason),
            Self::Machine(error) => write!(f, "{error:#}"),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Machine(error.into())
    }
}
