//! Calls of the HDF5 library: identifiers that are released once, and its error stack in one line.
//!
//! Raw calls instead of the safe crate: that one panics on types it does not know, and one odd dataset must not cost the
//! others. Everything unsafe about a call is in two macros of one shape; they are used on the reader process's one thread only.

#![allow(unsafe_code)]

use hdf5_metno_sys::{h5, h5e, h5i};
use std::ffi::{CStr, CString, c_int, c_uint, c_void};

/// Why a request cannot be answered.
#[derive(Debug)]
pub enum Failure {
    /// The library says no.
    Refused(String),
    /// The operating system says no.
    Machine(String),
}

/// What a call gives.
pub type Result<T> = std::result::Result<T, Failure>;

/// The library's or our own no.
pub fn refused<T>(reason: impl Into<String>) -> Result<T> {
    Err(Failure::Refused(reason.into()))
}

/// What a call returns where it failed.
pub trait Returned: Copy {
    /// True for the library's error codes.
    fn failed(self) -> bool;
}
impl Returned for i64 {
    fn failed(self) -> bool {
        self < 0
    }
}
impl Returned for i32 {
    fn failed(self) -> bool {
        self < 0
    }
}

/// What was returned, or the error stack.
pub fn checked<T: Returned>(returned: T) -> Result<T> {
    if returned.failed() { Err(last_error()) } else { Ok(returned) }
}

/// One call of the library, with its error stack as the error.
macro_rules! call {
    ($module:ident::$function:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: one thread; identifiers come from live `Handle`s or are the library's own; every pointer is to a live buffer
        // of at least the length that the library documents for it, checked where the call is written.
        checked(unsafe { $module::$function($($argument),*) })
    };
}

/// The same for calls whose result is no error code.
macro_rules! ask {
    ($module:ident::$function:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: as in `call!`.
        unsafe { $module::$function($($argument),*) }
    };
}

pub(super) use {ask, call};

/// An identifier of the library, released when dropped.
pub struct Handle(pub i64);

impl Drop for Handle {
    fn drop(&mut self) {
        ask!(h5i::H5Idec_ref(self.0));
    }
}

/// Owns an identifier.
pub fn handle(id: Result<i64>) -> Result<Handle> {
    id.map(Handle)
}

/// Opens the library, without its habit of printing.
pub fn start() {
    ask!(h5::H5open());
    ask!(h5e::H5Eset_auto2(h5e::H5E_DEFAULT, None, std::ptr::null_mut()));
}

/// The error stack in one line: what was tried, and the innermost reason.
pub fn last_error() -> Failure {
    unsafe extern "C" fn each(_: c_uint, error: *const h5e::H5E_error2_t, into: *mut c_void) -> c_int {
        // SAFETY: the library hands a valid record; `into` is the vector below, which outlives the walk.
        let (error, lines) = unsafe { (&*error, &mut *into.cast::<Vec<String>>()) };
        if !error.desc.is_null() {
            // SAFETY: a C string that lives as long as the record.
            lines.push(unsafe { CStr::from_ptr(error.desc) }.to_string_lossy().into_owned());
        }
        0
    }
    let mut lines: Vec<String> = Vec::new();
    ask!(h5e::H5Ewalk2(h5e::H5E_DEFAULT, h5e::H5E_WALK_UPWARD, Some(each), (&raw mut lines).cast()));
    ask!(h5e::H5Eclear2(h5e::H5E_DEFAULT));
    let lines: Vec<String> = lines.into_iter().map(|l| l.replace("synchronously ", "")).collect();
    let text = match (lines.last(), lines.first()) {
        (Some(outer), Some(inner)) if lines.len() > 1 => format!("{outer} ({inner})"),
        (Some(only), _) => only.clone(),
        _ => "the HDF5 library gives no reason".into(),
    };
    // EIO, ESTALE: the disk or the mount is at fault, not the file.
    if lines.iter().any(|l| l.contains("errno = 5,") || l.contains("errno = 116,")) {
        Failure::Machine(text)
    } else {
        Failure::Refused(text)
    }
}

/// A string for the library.
pub fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Failure::Refused(format!("{text:?} holds a zero byte")))
}
