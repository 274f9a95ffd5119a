//! The wire format of protocol buffers, as far as it takes to cut an ONNX file into its parts and put them together again.
//!
//! A message is a sequence of fields, each a number, a kind, and bytes. What is not looked into goes through as it stood, so
//! that nothing of a model is lost that this module knows nothing of. Damaged bytes are an error.
//!
//! <https://protobuf.dev/programming-guides/encoding/>

use anyhow::{Context, bail, ensure};

/// A field of a message.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// Its number.
    pub number: u64,
    /// What it holds.
    pub value: Wire<'a>,
    /// The whole field, with its number.
    pub whole: &'a [u8],
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub enum Wire<'a> {
    /// A number.
    Number(u64),
    /// A message, a text, or numbers in a row.
    Bytes(&'a [u8]),
    /// Four or eight bytes.
    Fixed(&'a [u8]),
}

impl<'a> Field<'a> {
    /// The bytes of a message, of a text.
    pub fn bytes(&self) -> anyhow::Result<&'a [u8]> {
        match self.value {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => bail!("field {} is no message", self.number),
        }
    }

    /// A text.
    pub fn text(&self) -> anyhow::Result<&'a str> {
        std::str::from_utf8(self.bytes()?).context("a text that is no UTF-8")
    }

    /// Appends the whole numbers of the field, one or several in a row.
    pub fn numbers(&self, into: &mut Vec<i64>) -> anyhow::Result<()> {
        match self.value {
            Wire::Number(number) => into.push(number as i64),
            Wire::Bytes(mut bytes) => {
                while !bytes.is_empty() {
                    into.push(varint(&mut bytes)? as i64);
                }
            }
            Wire::Fixed(_) => bail!("field {} is no whole number", self.number),
        }
        Ok(())
    }
}

/// The fields of a message.
pub fn fields(mut message: &[u8]) -> anyhow::Result<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let begin = message;
        let key = varint(&mut message)?;
        let value = match key & 7 {
            0 => Wire::Number(varint(&mut message)?),
            1 => Wire::Fixed(take(&mut message, 8)?),
            2 => {
                let length = varint(&mut message)?;
                Wire::Bytes(take(&mut message, length)?)
            }
            5 => Wire::Fixed(take(&mut message, 4)?),
            kind => bail!("a field of kind {kind}"),
        };
        fields.push(Field { number: key >> 3, value, whole: &begin[..begin.len() - message.len()] });
    }
    Ok(fields)
}

fn take<'a>(message: &mut &'a [u8], length: u64) -> anyhow::Result<&'a [u8]> {
    let length = usize::try_from(length)?;
    ensure!(length <= message.len(), "a field of {length} bytes where {} are left", message.len());
    let (taken, rest) = message.split_at(length);
    *message = rest;
    Ok(taken)
}

/// A number, as any writer may have written it: also longer than it must be.
fn varint(message: &mut &[u8]) -> anyhow::Result<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = message.split_first().context("a number without an end")?;
        *message = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number of more than ten bytes")
}

/// Appends a field with a message or a text.
pub fn put(into: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    crate::varint::write_unsigned(into, number << 3 | 2);
    crate::varint::write_unsigned(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

/// Appends a field with a whole number.
pub fn put_number(into: &mut Vec<u8>, number: u64, value: i64) {
    crate::varint::write_unsigned(into, number << 3);
    crate::varint::write_unsigned(into, value as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_put_is_found(parts in prop::collection::vec((1..3000u64, any::<i64>(), prop::collection::vec(any::<u8>(), 0..40)), 0..10)) {
            let mut message = Vec::new();
            for (number, value, bytes) in &parts {
                put_number(&mut message, *number, *value);
                put(&mut message, number + 1, bytes);
            }
            let found = fields(&message).unwrap();
            prop_assert_eq!(found.len(), 2 * parts.len());
            prop_assert_eq!(found.iter().flat_map(|f| f.whole.to_vec()).collect::<Vec<_>>(), message.clone());
            for (pair, (number, value, bytes)) in found.chunks(2).zip(&parts) {
                let mut numbers = Vec::new();
                pair[0].numbers(&mut numbers).unwrap();
                prop_assert_eq!((pair[0].number, &numbers[..], pair[1].number, pair[1].bytes().unwrap()), (*number, &[*value][..], number + 1, &bytes[..]));
            }
        }

        #[test]
        fn damaged_bytes_are_errors_at_most(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(found) = fields(&bytes) {
                prop_assert_eq!(found.iter().map(|f| f.whole.len()).sum::<usize>(), bytes.len());
            }
        }
    }
}
