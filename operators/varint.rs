//! Whole numbers in as few bytes as they need: seven bits a byte, the lowest first (LEB128), signed ones zigzag.
//!
//! One number has one encoding, so equal values are equal bytes; what is read may come from a damaged file and never panics.

use anyhow::{Context, bail};

/// Appends an unsigned number.
pub fn write_unsigned(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Appends a signed number.
pub fn write_signed(into: &mut Vec<u8>, value: i64) {
    write_unsigned(into, ((value << 1) ^ (value >> 63)) as u64);
}

/// Reads from the front of some bytes.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    /// The next `N` bytes.
    pub fn take<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>().context("the bytes end too early")?;
        self.0 = rest;
        Ok(*first)
    }

    /// An unsigned number.
    pub fn unsigned(&mut self) -> anyhow::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("a number in an encoding that was never written")
    }

    /// A signed number.
    pub fn signed(&mut self) -> anyhow::Result<i64> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}
