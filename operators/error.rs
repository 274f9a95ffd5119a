//! The two ways in which work fails.
//!
//! What is wrong with the data costs a unit (it is quarantined with its reason and the run goes on). What is wrong with the
//! machine (a full disk, a stale mount) stops the run, resumable. The difference decides what a user loses, so it is a type.

use arrow::error::ArrowError;
use parquet::errors::ParquetError;
use std::{fmt, io};

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
        Self::Machine(as_the_system_said(error.into()))
    }
}

/// What the system said, where a crate has put it into an error of its own, which would say it twice; what we have said of it stays.
fn as_the_system_said(error: anyhow::Error) -> anyhow::Error {
    let of_a_crate = |error: &&(dyn std::error::Error + 'static)| error.is::<ParquetError>() || error.is::<ArrowError>();
    let said: Vec<String> = error.chain().take_while(|error| !of_a_crate(error)).map(ToString::to_string).collect();
    // Finds what is below all that was said, and leaves that out.
    let bare: anyhow::Error = match error.downcast::<ParquetError>() {
        Ok(ParquetError::External(inner)) => match inner.downcast::<io::Error>() {
            Ok(of_the_system) => (*of_the_system).into(),
            Err(inner) => ParquetError::External(inner).into(),
        },
        Ok(other) => other.into(),
        Err(error) => match error.downcast::<ArrowError>() {
            Ok(ArrowError::IoError(_, of_the_system)) => of_the_system.into(),
            Ok(other) => other.into(),
            Err(error) => return error,
        },
    };
    said.into_iter().rev().fold(bare, anyhow::Error::context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_once() {
        let full = || io::Error::from_raw_os_error(28);
        let (parquet, arrow) = (ParquetError::External(Box::new(full())), ArrowError::IoError("writing".into(), full()));
        for fault in [Fault::from(full()), Fault::from(parquet), Fault::from(arrow)] {
            assert_eq!(fault.to_string(), "No space left on device (os error 28)");
            let Fault::Machine(error) = fault else { panic!("a disk is no content") };
            assert_eq!(error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error), Some(28));
        }
    }

    #[test]
    fn what_was_said_of_an_error_of_a_crate_stays() {
        let full = || io::Error::from_raw_os_error(28);
        let (parquet, arrow) = (ParquetError::External(Box::new(full())), ArrowError::IoError("writing".into(), full()));
        for bare in [anyhow::Error::from(full()), parquet.into(), arrow.into()] {
            let fault = Fault::from(bare.context("cannot write x").context("rows can't be put aside in scratch"));
            let wanted = "rows can't be put aside in scratch: cannot write x: No space left on device (os error 28)";
            assert_eq!(fault.to_string(), wanted);
            let Fault::Machine(error) = fault else { panic!("a disk is no content") };
            assert_eq!(error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error), Some(28));
        }
        let fault = Fault::from(anyhow::Error::from(ParquetError::General("odd".into())).context("reading x"));
        assert_eq!(fault.to_string(), "reading x: Parquet error: odd");
    }
}
