//! A chunk index in few bytes, so that headers can carry it: some ten bytes a chunk instead of fifty.
//!
//! Chunks mostly follow each other, on the grid and in the file, so what is kept is how each differs from the one before it
//! ([`crate::varint`]). Any numbers go in and come out the same; whoever uses them checks them ([`super::index::Index`]).

use crate::varint::{Reader, write_signed, write_unsigned};
use anyhow::{Context, ensure};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// One chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its number on the grid, C order.
    pub number: u64,
    /// Where it begins in the file.
    pub address: u64,
    /// Bytes in the file.
    pub size: u64,
    /// Bit i set: filter i was not applied.
    pub mask: u64,
}

/// The chunks of a dataset: offsets, address, size and filter mask of each, packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkList(Arc<[u8]>);

impl ChunkList {
    /// Packs records of `rank` offsets, address, size, mask.
    #[must_use]
    pub fn pack(rank: usize, records: &[u64]) -> Self {
        let mut bytes = Vec::new();
        let mut before = vec![0u64; rank + 1];
        for record in records.chunks_exact(rank + 3) {
            let (place, rest) = record.split_at(rank + 1);
            for (now, before) in place.iter().zip(&before) {
                write_signed(&mut bytes, now.wrapping_sub(*before).cast_signed());
            }
            rest.iter().for_each(|n| write_unsigned(&mut bytes, *n));
            before.copy_from_slice(place);
            // The next one is expected right behind this one.
            before[rank] = before[rank].wrapping_add(rest[0]);
        }
        Self(bytes.into())
    }

    /// What [`ChunkList::bytes`] gave.
    #[must_use]
    pub fn of(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// The packed records.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The records again.
    pub fn unpack(&self, rank: usize) -> anyhow::Result<Vec<u64>> {
        let mut from = Reader(&self.0);
        let mut records = Vec::new();
        let mut before = vec![0u64; rank + 1];
        while !from.0.is_empty() {
            for before in &mut before {
                *before = before.wrapping_add(from.signed()?.cast_unsigned());
                records.push(*before);
            }
            let size = from.unsigned()?;
            records.extend([size, from.unsigned()?]);
            before[rank] = before[rank].wrapping_add(size);
        }
        Ok(records)
    }
}

impl Serialize for ChunkList {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let text: String =
            self.0.iter().flat_map(|b| [b >> 4, b & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect();
        to.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for ChunkList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok()).context("not hexadecimal");
        let bytes = || {
            ensure!(text.len().is_multiple_of(2), "half a byte");
            text.as_bytes()
                .chunks_exact(2)
                .map(|pair| Ok(digit(pair[0])? << 4 | digit(pair[1])?))
                .collect::<anyhow::Result<Vec<u8>>>()
        };
        bytes().map(|bytes| Self(bytes.into())).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_numbers_come_back(rank in 1usize..5, numbers in prop::collection::vec(any::<u64>(), 0..60)) {
            let whole = &numbers[..numbers.len() / (rank + 3) * (rank + 3)];
            let list = ChunkList::pack(rank, whole);
            prop_assert_eq!(list.unpack(rank).unwrap(), whole);
            let text = serde_json::to_string(&list).unwrap();
            prop_assert_eq!(serde_json::from_str::<ChunkList>(&text).unwrap(), list);
        }

        #[test]
        fn damaged_lists_do_not_panic(rank in 0usize..5, bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = ChunkList(bytes.into()).unpack(rank);
        }
    }

    #[test]
    fn a_usual_index_takes_few_bytes() {
        let records: Vec<u64> = (0..1000).flat_map(|i| [i * 100, 0, 0, 0, 4096 + i * 700_000, 700_000, 0]).collect();
        let list = ChunkList::pack(4, &records);
        assert!(list.0.len() <= 10 * 1000, "{}", list.0.len());
        assert_eq!(list.unpack(4).unwrap(), records);
        assert!(serde_json::from_str::<ChunkList>("\"0g\"").is_err() && serde_json::from_str::<ChunkList>("\"0\"").is_err());
    }
}
