//! Types of elements: from the library's to data, and the type that the library is to convert to.

#![allow(unsafe_code)]

use super::element::{Element, Kind, Member, Number, Numbers, Pad};
use super::ffi::{Handle, Result, ask, c_string, call, checked, handle, last_error, refused};
use hdf5_metno_sys::{h5, h5t};
use std::ffi::{CStr, c_uint};

fn member_name(kind: &Handle, number: c_uint) -> Result<String> {
    let name = ask!(h5t::H5Tget_member_name(kind.0, number));
    if name.is_null() {
        return Err(last_error());
    }
    // SAFETY: a C string that the library has allocated and hands over.
    let text = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    ask!(h5::H5free_memory(name.cast()));
    Ok(text)
}

/// The type of an element as data.
pub fn element(kind: &Handle) -> Result<Element> {
    use h5t::H5T_class_t as Class;
    let bytes = ask!(h5t::H5Tget_size(kind.0)) as u64;
    if bytes == 0 {
        return Err(last_error());
    }
    let other = |what: &str| Element::Other { bytes, fixed: true, what: what.to_owned() };
    let pointer = |what: &str| Element::Other { bytes, fixed: false, what: what.to_owned() };
    Ok(match ask!(h5t::H5Tget_class(kind.0)) {
        Class::H5T_INTEGER => integer(kind, bytes)?.map_or_else(|| other("odd integers"), Element::Number),
        Class::H5T_FLOAT => float(kind, bytes)?.map_or_else(|| other("odd floats"), Element::Number),
        Class::H5T_ENUM => {
            let base = handle(call!(h5t::H5Tget_super(kind.0)))?;
            match integer(&base, bytes)? {
                Some(number) if is_boolean(kind)? => Element::Number(Number { kind: Kind::Boolean, ..number }),
                Some(number) => Element::Enum { number, names: names(kind, number)? },
                None => other("an odd enum"),
            }
        }
        Class::H5T_COMPOUND => {
            let count = call!(h5t::H5Tget_nmembers(kind.0))?.unsigned_abs();
            let members = (0..count)
                .map(|i| {
                    let offset = ask!(h5t::H5Tget_member_offset(kind.0, i)) as u64;
                    let of = element(&handle(call!(h5t::H5Tget_member_type(kind.0, i)))?)?;
                    if offset.checked_add(of.bytes()).is_none_or(|end| end > bytes) {
                        return refused("a member reaches over the end of its record");
                    }
                    Ok(Member { name: member_name(kind, i)?, offset, element: of })
                })
                .collect::<Result<_>>()?;
            Element::Compound { bytes, members }
        }
        Class::H5T_ARRAY => {
            let rank = call!(h5t::H5Tget_array_ndims(kind.0))?.unsigned_abs() as usize;
            let mut shape = vec![0u64; rank];
            call!(h5t::H5Tget_array_dims2(kind.0, shape.as_mut_ptr()))?;
            let of = Box::new(element(&handle(call!(h5t::H5Tget_super(kind.0)))?)?);
            let array = Element::Array { shape, of };
            if array.bytes() != bytes {
                return refused("an array type whose size does not fit its elements");
            }
            array
        }
        Class::H5T_STRING => {
            let pad = match ask!(h5t::H5Tget_strpad(kind.0)) {
                h5t::H5T_str_t::H5T_STR_NULLPAD => Pad::Zeros,
                h5t::H5T_str_t::H5T_STR_SPACEPAD => Pad::Spaces,
                _ => Pad::Terminated,
            };
            Element::Text { bytes, variable: call!(h5t::H5Tis_variable_str(kind.0))? > 0, pad }
        }
        // PyTables writes truth values as 8 bits.
        Class::H5T_BITFIELD => bits(kind, bytes)?.map_or_else(|| other("odd bits"), Element::Number),
        Class::H5T_OPAQUE => other("opaque bytes"),
        Class::H5T_REFERENCE => pointer("references"),
        Class::H5T_VLEN => {
            let of = Box::new(element(&handle(call!(h5t::H5Tget_super(kind.0)))?)?);
            Element::List { bytes, of }
        }
        Class::H5T_TIME => other("times"),
        _ => pointer("values of a type that calostream does not know"),
    })
}

/// h5py writes truth values as an enum of one byte with FALSE = 0 and TRUE = 1.
fn is_boolean(kind: &Handle) -> Result<bool> {
    if ask!(h5t::H5Tget_size(kind.0)) != 1 || call!(h5t::H5Tget_nmembers(kind.0))? != 2 {
        return Ok(false);
    }
    let mut found = [(String::new(), 0u8), (String::new(), 0u8)];
    for (i, member) in found.iter_mut().enumerate() {
        let number = i as c_uint;
        member.0 = member_name(kind, number)?;
        call!(h5t::H5Tget_member_value(kind.0, number, (&raw mut member.1).cast()))?;
    }
    found.sort();
    Ok(found == [("FALSE".to_owned(), 0), ("TRUE".to_owned(), 1)])
}

/// The names of an enum with their values, by value.
fn names(kind: &Handle, number: Number) -> Result<Vec<(String, i64)>> {
    let count = call!(h5t::H5Tget_nmembers(kind.0))?.unsigned_abs().min(1 << 15);
    let mut names = Vec::new();
    for i in 0..count {
        // As long as the longest integer that `integer` accepts.
        let mut bytes = [0u8; 8];
        call!(h5t::H5Tget_member_value(kind.0, i, bytes.as_mut_ptr().cast()))?;
        let stored = (number.stored as usize).clamp(1, 8);
        if number.big_endian {
            bytes[..stored].reverse();
        }
        let spare = 64 - 8 * stored as u32;
        let raw = u64::from_le_bytes(bytes) << spare;
        let value = if number.kind == Kind::Signed { (raw as i64) >> spare } else { (raw >> spare) as i64 };
        names.push((member_name(kind, i)?, value));
    }
    names.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    names.dedup_by_key(|n| n.1);
    Ok(names)
}

/// A field of 8, 16, 32 or 64 bits, as h5py does an integer without a sign.
fn bits(kind: &Handle, stored: u64) -> Result<Option<Number>> {
    let whole = ask!(h5t::H5Tget_precision(kind.0)) as u64 == stored * 8 && call!(h5t::H5Tget_offset(kind.0))? == 0;
    let big_endian = matches!(ask!(h5t::H5Tget_order(kind.0)), h5t::H5T_order_t::H5T_ORDER_BE);
    let number = Number { kind: Kind::Unsigned, bytes: stored as u8, stored, big_endian, plain: true };
    Ok((whole && matches!(stored, 1 | 2 | 4 | 8)).then_some(number))
}

/// An integer of 1 to 8 bytes; none for anything wider.
fn integer(kind: &Handle, stored: u64) -> Result<Option<Number>> {
    let bits = ask!(h5t::H5Tget_precision(kind.0)) as u64;
    let offset = call!(h5t::H5Tget_offset(kind.0))?;
    let signed = match ask!(h5t::H5Tget_sign(kind.0)) {
        h5t::H5T_sign_t::H5T_SGN_NONE => Kind::Unsigned,
        h5t::H5T_sign_t::H5T_SGN_2 => Kind::Signed,
        _ => return Ok(None),
    };
    let big_endian = match ask!(h5t::H5Tget_order(kind.0)) {
        h5t::H5T_order_t::H5T_ORDER_LE | h5t::H5T_order_t::H5T_ORDER_NONE => false,
        h5t::H5T_order_t::H5T_ORDER_BE => true,
        _ => return Ok(None),
    };
    if bits == 0 || stored > 8 {
        return Ok(None);
    }
    let bytes = stored.next_power_of_two() as u8;
    let plain = bits == stored * 8 && offset == 0 && u64::from(bytes) == stored;
    Ok(Some(Number { kind: signed, bytes, stored, big_endian, plain }))
}

/// A float as the smallest IEEE type that holds it; none where there is none.
fn float(kind: &Handle, stored: u64) -> Result<Option<Number>> {
    let big_endian = match ask!(h5t::H5Tget_order(kind.0)) {
        h5t::H5T_order_t::H5T_ORDER_LE => false,
        h5t::H5T_order_t::H5T_ORDER_BE => true,
        h5t::H5T_order_t::H5T_ORDER_VAX => false,
        _ => return Ok(None),
    };
    let (mut sign, mut at, mut exponent, mut mantissa_at, mut mantissa) = (0usize, 0usize, 0usize, 0usize, 0usize);
    call!(h5t::H5Tget_fields(kind.0, &raw mut sign, &raw mut at, &raw mut exponent, &raw mut mantissa_at, &raw mut mantissa))?;
    let bytes = match (exponent, mantissa) {
        (0..=5, 0..=10) => 2,
        (0..=8, 0..=23) => 4,
        (0..=11, 0..=52) => 8,
        _ => return Ok(None),
    };
    let standard = match bytes {
        2 => (15, 10, 5, 0, 10, 15),
        4 => (31, 23, 8, 0, 23, 127),
        _ => (63, 52, 11, 0, 52, 1023),
    };
    let plain = stored == u64::from(bytes)
        && (sign, at, exponent, mantissa_at, mantissa, ask!(h5t::H5Tget_ebias(kind.0))) == standard
        && matches!(ask!(h5t::H5Tget_norm(kind.0)), h5t::H5T_norm_t::H5T_NORM_IMPLIED)
        && !matches!(ask!(h5t::H5Tget_order(kind.0)), h5t::H5T_order_t::H5T_ORDER_VAX);
    Ok(Some(Number { kind: Kind::Float, bytes, stored, big_endian, plain }))
}

/// The little-endian type of a number.
fn little_endian(number: Number) -> Result<Handle> {
    let known = match (number.kind, number.bytes) {
        (Kind::Signed | Kind::Boolean, 1) => *h5t::H5T_STD_I8LE,
        (Kind::Signed, 2) => *h5t::H5T_STD_I16LE,
        (Kind::Signed, 4) => *h5t::H5T_STD_I32LE,
        (Kind::Signed | Kind::Boolean, _) => *h5t::H5T_STD_I64LE,
        (Kind::Unsigned, 1) => *h5t::H5T_STD_U8LE,
        (Kind::Unsigned, 2) => *h5t::H5T_STD_U16LE,
        (Kind::Unsigned, 4) => *h5t::H5T_STD_U32LE,
        (Kind::Unsigned, _) => *h5t::H5T_STD_U64LE,
        (Kind::Float, 8) => *h5t::H5T_IEEE_F64LE,
        (Kind::Float, _) => *h5t::H5T_IEEE_F32LE,
    };
    let copy = handle(call!(h5t::H5Tcopy(known)))?;
    if number.kind == Kind::Float && number.bytes == 2 {
        call!(h5t::H5Tset_fields(copy.0, 15, 10, 5, 0, 10))?;
        call!(h5t::H5Tset_size(copy.0, 2))?;
        call!(h5t::H5Tset_ebias(copy.0, 15))?;
    }
    Ok(copy)
}

/// What the library is to make of an element: the number, in the small arrays that it stands in, in a record of the one
/// member that is asked for (the library leaves out the others).
pub fn memory_type(kind: &Handle, member: Option<&str>, numbers: &Numbers) -> Result<Handle> {
    match ask!(h5t::H5Tget_class(kind.0)) {
        h5t::H5T_class_t::H5T_COMPOUND => {
            let path = member.unwrap_or_default();
            let count = call!(h5t::H5Tget_nmembers(kind.0))?.unsigned_abs();
            for i in 0..count {
                let name = member_name(kind, i)?;
                let rest = match path.strip_prefix(name.as_str()) {
                    Some("") => None,
                    Some(rest) if rest.starts_with('.') => Some(&rest[1..]),
                    _ => continue,
                };
                let of = memory_type(&handle(call!(h5t::H5Tget_member_type(kind.0, i)))?, rest, numbers)?;
                let bytes = ask!(h5t::H5Tget_size(of.0));
                let record = handle(call!(h5t::H5Tcreate(h5t::H5T_class_t::H5T_COMPOUND, bytes)))?;
                let name = c_string(&name)?;
                call!(h5t::H5Tinsert(record.0, name.as_ptr(), 0, of.0))?;
                return Ok(record);
            }
            refused(format!("no member `{path}`"))
        }
        h5t::H5T_class_t::H5T_ARRAY => {
            let rank = call!(h5t::H5Tget_array_ndims(kind.0))?.unsigned_abs();
            let mut shape = vec![0u64; rank as usize];
            call!(h5t::H5Tget_array_dims2(kind.0, shape.as_mut_ptr()))?;
            let of = memory_type(&handle(call!(h5t::H5Tget_super(kind.0)))?, member, numbers)?;
            handle(call!(h5t::H5Tarray_create2(of.0, rank, shape.as_ptr())))
        }
        h5t::H5T_class_t::H5T_BITFIELD => {
            let known = match numbers.number.bytes {
                1 => *h5t::H5T_STD_B8LE,
                2 => *h5t::H5T_STD_B16LE,
                4 => *h5t::H5T_STD_B32LE,
                _ => *h5t::H5T_STD_B64LE,
            };
            handle(call!(h5t::H5Tcopy(known)))
        }
        h5t::H5T_class_t::H5T_STRING => handle(call!(h5t::H5Tcopy(kind.0))),
        h5t::H5T_class_t::H5T_VLEN => {
            let of = memory_type(&handle(call!(h5t::H5Tget_super(kind.0)))?, member, numbers)?;
            handle(call!(h5t::H5Tvlen_create(of.0)))
        }
        _ => little_endian(numbers.number),
    }
}
