//! Texts and lists of variable length, which only the library can follow to where they stand in the file.
//!
//! Invariants: what the library has allocated is given back to it; an answer is never larger than the other side takes.

use super::super::ffi::{Failure, Handle, Result, ask, call, checked, handle, refused};
use super::super::header::{Element, Kind, Leaf, Number, Numbers};
use super::super::process::MOST_BODY;
use super::super::types::{element, memory_type};
use super::{File, select};
use hdf5_metno_sys::{h5d, h5p, h5t};
use std::ffi::{CStr, c_char};

impl File {
    /// For each element of these rows its bytes (u64), then all the bytes: texts without their padding, lists as little-endian
    /// numbers.
    pub fn lists(&self, path: &str, member: Option<&str>, first: u64, rows: u64) -> Result<Vec<u8>> {
        let object = self.dataset(path)?;
        let (null, shape, _) = self.space(&object)?;
        let length = shape.first().copied().unwrap_or(1);
        if null || first.checked_add(rows).is_none_or(|end| end > length) {
            return refused(format!("rows {first} to {} of {length}", first.saturating_add(rows)));
        }
        let kind = handle(call!(h5d::H5Dget_type(object.0)))?;
        let whole = element(&kind)?;
        let Leaf { element, shape: inner, .. } = whole.leaf(member).map_err(|e| Failure::Refused(format!("`{path}` {e}")))?;
        let byte = Number { kind: Kind::Unsigned, bytes: 1, stored: 1, big_endian: false, plain: true };
        let (number, slot) = match element {
            Element::Text { bytes, .. } => (byte, *bytes),
            Element::List { of, .. } => match of.as_ref() {
                Element::Number(number) | Element::Enum { number, .. } => (*number, size_of::<h5t::hvl_t>() as u64),
                other => return refused(format!("`{path}` holds lists of {}, not of numbers", other.name())),
            },
            other => return refused(format!("`{path}` holds {}, no texts or lists", other.name())),
        };
        let elements = shape.iter().skip(1).chain(&inner).try_fold(rows, |n, m| n.checked_mul(*m));
        let Some(bytes) = elements.and_then(|n| n.checked_mul(slot + 8)).filter(|n| *n <= MOST_BODY) else {
            return refused(format!("{rows} rows of `{path}` are too large to be read at once"));
        };
        let elements = (bytes / (slot + 8)) as usize;
        if elements == 0 {
            return Ok(Vec::new());
        }
        // In words, because the library puts pointers into it.
        let mut slots = vec![0u64; (elements as u64 * slot).div_ceil(8) as usize];
        let numbers = Numbers { number, offset: 0, shape: Vec::new() };
        let memory = memory_type(&kind, member, &numbers)?;
        let (file_space, memory_space) = select(&object, &shape, first, rows)?;
        let into = slots.as_mut_ptr();
        call!(h5d::H5Dread(object.0, memory.0, memory_space.0, file_space.0, h5p::H5P_DEFAULT, into.cast()))?;
        let answer = match element {
            Element::Text { variable: false, pad, .. } => {
                // SAFETY: `elements` slots of `slot` bytes lie within the vector.
                let bytes = unsafe { std::slice::from_raw_parts(slots.as_ptr().cast::<u8>(), elements * slot as usize) };
                return packed(path, bytes.chunks_exact(slot as usize).map(|text| pad.trim(text)));
            }
            // SAFETY: the library has put a C string or a null pointer into each slot.
            Element::Text { .. } => packed(path, slots[..elements].iter().map(|pointer| unsafe { text(*pointer) })),
            _ => {
                // SAFETY: the library has put a length and a pointer to as many numbers into each slot.
                let lists = unsafe { std::slice::from_raw_parts(slots.as_ptr().cast::<h5t::hvl_t>(), elements) };
                packed(path, lists.iter().map(|list| unsafe { items(list, number.bytes.into()) }))
            }
        };
        reclaim(&memory, &memory_space, &mut slots);
        answer
    }
}

fn reclaim(memory: &Handle, space: &Handle, slots: &mut [u64]) {
    ask!(h5t::H5Treclaim(memory.0, space.0, h5p::H5P_DEFAULT, slots.as_mut_ptr().cast()));
}

/// # Safety
/// The word is null or points to a C string that outlives the result.
unsafe fn text<'a>(pointer: u64) -> &'a [u8] {
    let pointer = pointer as usize as *const c_char;
    // SAFETY: as the caller says.
    if pointer.is_null() { &[] } else { unsafe { CStr::from_ptr(pointer) }.to_bytes() }
}

/// # Safety
/// The list holds as many numbers of `size` bytes as it says, which outlive the result.
unsafe fn items<'a>(list: &h5t::hvl_t, size: usize) -> &'a [u8] {
    if list.p.is_null() || list.len == 0 {
        return &[];
    }
    // SAFETY: as the caller says; the library has allocated so many bytes, so the product does not overflow.
    unsafe { std::slice::from_raw_parts(list.p.cast::<u8>(), list.len * size) }
}

fn packed<'a>(path: &str, each: impl Iterator<Item = &'a [u8]> + Clone) -> Result<Vec<u8>> {
    let (count, bytes) = each.clone().fold((0u64, 0u64), |(n, sum), item| (n + 1, sum.saturating_add(item.len() as u64)));
    if bytes.saturating_add(8 * count) > MOST_BODY {
        return refused(format!("the lists of `{path}` are too large to be read at once"));
    }
    let mut body = Vec::with_capacity((bytes + 8 * count) as usize);
    each.clone().for_each(|item| body.extend_from_slice(&(item.len() as u64).to_le_bytes()));
    each.for_each(|item| body.extend_from_slice(item));
    Ok(body)
}
