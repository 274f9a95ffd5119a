//! Texts and lists of variable length, which only the library can follow to where they stand in the file.
//!
//! Invariants: the library gets the memory for them out of an [`Arena`], which has no more than an answer may be long and goes
//! away with the answer, whatever the library has made of it.

use super::super::element::{Element, Kind, Leaf, Number, Numbers};
use super::super::ffi::{Failure, Result, ask, call, checked, handle, refused};
use super::super::protocol::ANSWER;
use super::super::types::{element, memory_type};
use super::{File, select};
use hdf5_metno_sys::{h5d, h5e, h5p, h5t};
use std::ffi::{CStr, c_char, c_void};

/// What was asked for, or the bytes that it would take at least.
pub enum Lists {
    /// For each element its bytes (u64), then all the bytes: texts without their padding, lists as little-endian numbers.
    Whole(Vec<u8>),
    /// More than [`ANSWER`].
    TooLarge(u64),
}

impl File {
    /// The texts or lists of these rows.
    pub fn lists(&self, path: &str, member: Option<&str>, first: u64, rows: u64) -> Result<Lists> {
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
        let bytes = elements.and_then(|n| n.checked_mul(slot + 8)).unwrap_or(u64::MAX);
        if bytes > ANSWER {
            return Ok(Lists::TooLarge(bytes));
        }
        let elements = (bytes / (slot + 8)) as usize;
        if elements == 0 {
            return Ok(Lists::Whole(Vec::new()));
        }
        // In words, because the library puts pointers into it.
        let mut slots = vec![0u64; (elements as u64 * slot).div_ceil(8) as usize];
        let numbers = Numbers { number, offset: 0, shape: Vec::new() };
        let memory = memory_type(&kind, member, &numbers)?;
        let (file_space, memory_space) = select(&object, &shape, first, rows)?;
        let mut arena = Arena { pieces: Vec::new(), used: 8 * elements as u64, refused: false };
        let transfer = handle(call!(h5p::H5Pcreate(*h5p::H5P_CLS_DATASET_XFER)))?;
        let from = (&raw mut arena).cast();
        call!(h5p::H5Pset_vlen_mem_manager(transfer.0, Some(allocate), from, Some(release), from))?;
        let into = slots.as_mut_ptr().cast();
        let read = call!(h5d::H5Dread(object.0, memory.0, memory_space.0, file_space.0, transfer.0, into));
        if arena.refused {
            ask!(h5e::H5Eclear2(h5e::H5E_DEFAULT));
            return Ok(Lists::TooLarge(arena.used));
        }
        read?;
        Ok(Lists::Whole(match element {
            Element::Text { variable: false, pad, .. } => {
                // SAFETY: `elements` slots of `slot` bytes lie within the vector.
                let bytes = unsafe { std::slice::from_raw_parts(slots.as_ptr().cast::<u8>(), elements * slot as usize) };
                packed(bytes.chunks_exact(slot as usize).map(|text| pad.trim(text)))
            }
            // SAFETY: the library has put a C string of the arena or a null pointer into each slot.
            Element::Text { .. } => packed(slots[..elements].iter().map(|pointer| unsafe { text(*pointer) })),
            _ => {
                // SAFETY: the library has put a length and a pointer to as many numbers of the arena into each slot.
                let lists = unsafe { std::slice::from_raw_parts(slots.as_ptr().cast::<h5t::hvl_t>(), elements) };
                packed(lists.iter().map(|list| unsafe { items(list, number.bytes.into()) }))
            }
        }))
    }
}

/// The memory of one answer.
struct Arena {
    /// In words, for their alignment.
    pieces: Vec<Box<[u64]>>,
    /// Bytes of the answer so far; with what was refused, where something was.
    used: u64,
    refused: bool,
}

/// Memory for a list, or none where the answer would be too long.
unsafe extern "C" fn allocate(bytes: usize, arena: *mut c_void) -> *mut c_void {
    // SAFETY: the library hands back the arena that it was given, which outlives the call that it was given for.
    let arena = unsafe { &mut *arena.cast::<Arena>() };
    arena.used = arena.used.saturating_add(bytes as u64);
    let (mut piece, words) = (Vec::<u64>::new(), bytes.div_ceil(8));
    if arena.used > ANSWER || piece.try_reserve_exact(words).is_err() || arena.pieces.try_reserve(1).is_err() {
        arena.refused = true;
        return std::ptr::null_mut();
    }
    piece.resize(words, 0);
    arena.pieces.push(piece.into_boxed_slice());
    arena.pieces.last_mut().map_or(std::ptr::null_mut(), |piece| piece.as_mut_ptr().cast())
}

/// The arena goes as a whole.
unsafe extern "C" fn release(_: *mut c_void, _: *mut c_void) {}

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

fn packed<'a>(each: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let (count, bytes) = each.clone().fold((0, 0), |(n, sum), item| (n + 1, sum + item.len()));
    let mut body = Vec::with_capacity(bytes + 8 * count);
    each.clone().for_each(|item| body.extend_from_slice(&(item.len() as u64).to_le_bytes()));
    each.for_each(|item| body.extend_from_slice(item));
    body
}
