//! A file that is open for `pread`: what is asked for lies within it, a short read is an error of the data, any other I/O error
//! one of the machine.

use crate::stamp::Stamp;
use crate::{Fault, meter};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// A file that is open for `pread`.
#[derive(Debug)]
pub struct Opened {
    /// The path, for the reader process and for messages.
    pub path: String,
    /// Its length when it was opened.
    pub bytes: u64,
    /// What the system said of it then.
    pub stamp: Stamp,
    file: File,
}

impl Opened {
    /// Opens a file.
    pub fn open(path: &str) -> Result<Self, Fault> {
        // A pipe would keep whoever opens it waiting for its other end.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let open = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = open.map_err(|e| anyhow::Error::new(e).context(format!("cannot open {path}")))?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(Fault::content("it is not a regular file"));
        }
        Ok(Self { path: path.to_owned(), bytes: found.len(), stamp: Stamp::of(&found), file })
    }

    /// Fills `into` from byte `address` on.
    pub fn read(&self, into: &mut [u8], address: u64) -> Result<(), Fault> {
        if address.checked_add(into.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(Fault::content(format!("{} bytes from byte {address} on, in a file of {}", into.len(), self.bytes)));
        }
        meter::reading(|| self.file.read_exact_at(into, address)).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Fault::content(format!("the file ends before byte {}", address + into.len() as u64)),
            _ => Fault::Machine(anyhow::Error::new(error).context(format!("reading {}", self.path))),
        })
    }
}
