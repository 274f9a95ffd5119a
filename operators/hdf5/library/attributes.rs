//! Short attributes: numbers and texts that say something of a whole file, group or dataset.
//!
//! Invariant: an attribute that cannot be read costs itself, never the object that has it.

use super::super::element::{Element, Leaf, Number, Numbers};
use super::super::ffi::{Handle, Result, ask, call, checked, handle, last_error};
use super::super::header::{Attribute, Value};
use super::super::types::{element, memory_type};
use hdf5_metno_sys::{h5, h5a, h5p, h5s, h5t};
use std::ffi::{CStr, c_char};

/// More attributes of one object are not looked at.
const MOST: u64 = 64;
/// More values or bytes of one attribute are not kept.
const MOST_VALUES: i64 = 64;
const MOST_TEXT: usize = 4096;

/// The attributes of an open object.
pub fn of(object: &Handle, path: &str) -> Vec<Attribute> {
    let (here, no) = (c".".as_ptr(), h5p::H5P_DEFAULT);
    let open = |number| {
        let by = (h5::H5_INDEX_NAME, h5::H5_ITER_INC);
        handle(call!(h5a::H5Aopen_by_idx(object.0, here, by.0, by.1, number, no, no))).ok()
    };
    // The first that is not there ends it.
    (0..MOST).map_while(open).filter_map(|attribute| one(&attribute, path).ok()).collect()
}

fn one(attribute: &Handle, path: &str) -> Result<Attribute> {
    let mut name = [0 as c_char; 257];
    if ask!(h5a::H5Aget_name(attribute.0, 256, name.as_mut_ptr())) < 0 {
        return Err(last_error());
    }
    // SAFETY: 257 bytes, of which the library was told 256 and the last is zero.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    Ok(Attribute { path: path.to_owned(), name, value: value(attribute)? })
}

fn value(attribute: &Handle) -> Result<Value> {
    let kind = handle(call!(h5a::H5Aget_type(attribute.0)))?;
    let space = handle(call!(h5a::H5Aget_space(attribute.0)))?;
    let count = ask!(h5s::H5Sget_simple_extent_npoints(space.0));
    let whole = element(&kind)?;
    let many = || Value::Other(format!("{count} values of {}", whole.name()));
    Ok(match whole.leaf(None) {
        Ok(Leaf { element: Element::Number(number) | Element::Enum { number, .. }, shape, .. })
            if shape.is_empty() && (1..=MOST_VALUES).contains(&count) =>
        {
            let memory = memory_type(&kind, None, &Numbers { number: *number, offset: 0, shape: Vec::new() })?;
            let mut bytes = vec![0u8; count as usize * usize::from(number.bytes)];
            call!(h5a::H5Aread(attribute.0, memory.0, bytes.as_mut_ptr().cast()))?;
            let number = Number { stored: number.bytes.into(), big_endian: false, plain: true, ..*number };
            Value::Numbers { number, bytes }
        }
        Ok(Leaf { element: Element::Text { variable: true, .. }, shape, .. }) if count == 1 && shape.is_empty() => {
            let mut pointer: *mut c_char = std::ptr::null_mut();
            call!(h5a::H5Aread(attribute.0, kind.0, (&raw mut pointer).cast()))?;
            if pointer.is_null() {
                return Ok(Value::Text(String::new()));
            }
            // SAFETY: the library has allocated a C string and hands it over.
            let text = unsafe { CStr::from_ptr(pointer) }.to_bytes();
            let text = short(text);
            ask!(h5::H5free_memory(pointer.cast()));
            text
        }
        Ok(Leaf { element: Element::Text { bytes, pad, .. }, shape, .. })
            if count == 1 && shape.is_empty() && *bytes <= MOST_TEXT as u64 =>
        {
            let mut text = vec![0u8; *bytes as usize];
            let memory = handle(call!(h5t::H5Tcopy(kind.0)))?;
            call!(h5a::H5Aread(attribute.0, memory.0, text.as_mut_ptr().cast()))?;
            short(pad.trim(&text))
        }
        _ => many(),
    })
}

fn short(text: &[u8]) -> Value {
    match std::str::from_utf8(text) {
        Ok(text) if text.len() <= MOST_TEXT => Value::Text(text.to_owned()),
        Ok(_) => Value::Other(format!("a text of {} bytes", text.len())),
        Err(_) => Value::Other("a text that is not UTF-8".to_owned()),
    }
}
