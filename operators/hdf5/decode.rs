//! Undoing what was done to a chunk: fletcher32, gzip, lzf, lz4, zstd, blosc, blosc2, bitshuffle, shuffle.
//!
//! Filters are undone last to first; those whose bit is set in the chunk's mask were not applied. A shuffle that was applied
//! first, of the whole chunk or (blosc, bitshuffle) block by block, is left as it is ([`Chunk::Planes`]): whoever needs a range
//! of elements gathers just these, and hits are found directly in the byte planes. Invariants: nothing is allocated that the chunk's own shape does not ask for, and what comes out is exactly as
//! long as the chunk. Buffers are kept, because new pages cost as much as unpacking does.

use super::blosc::{Blosc, Work, unshuffle_bits};
use super::blosc2;
use super::codec::{Codec, Codecs};
use super::header::Filter;
pub use super::shuffle::gather;

const DEFLATE: u32 = 1;
const SHUFFLE: u32 = 2;
const FLETCHER32: u32 = 3;
const LZF: u32 = 32000;
const BLOSC: u32 = 32001;
const LZ4: u32 = 32004;
const BITSHUFFLE: u32 = 32008;
const ZSTD: u32 = 32015;
const BLOSC2: u32 = 32026;

/// Free buffers that are looked at for one that fits.
const LOOKED_AT: usize = 8;

/// The values of a chunk.
#[derive(Debug)]
pub enum Chunk {
    /// The elements, one after the other.
    Plain(Vec<u8>),
    /// Block by block the first bytes of all elements, then the second bytes of all elements, ...
    Planes {
        /// As many as the chunk has.
        bytes: Vec<u8>,
        /// Elements of a block; the last one may have fewer.
        block: usize,
    },
}

/// True where every filter is known here, at most one of them compresses, and a shuffle stands before it.
#[must_use]
pub fn is_known(filters: &[Filter], element_bytes: u64) -> bool {
    let packs = |f: &&Filter| matches!(f.id, DEFLATE | LZF | BLOSC | LZ4 | BITSHUFFLE | ZSTD | BLOSC2);
    let known = filters.iter().all(|f| packs(&f) || matches!(f.id, SHUFFLE | FLETCHER32));
    let shuffled = filters.iter().position(|f| f.id == SHUFFLE);
    let fits =
        filters.iter().filter(|f| f.id == SHUFFLE).all(|f| f.values.first().is_none_or(|n| u64::from(*n) == element_bytes));
    known && fits && filters.iter().filter(packs).count() <= 1 && shuffled.is_none_or(|i| i == 0)
}

/// A decoder with its working memory.
#[derive(Default)]
pub struct Decoder {
    codecs: Codecs,
    work: Work,
    /// Buffers that are free again, of whatever length they last had.
    free: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// A buffer of this length; what is in it means nothing.
    pub fn buffer(&mut self, length: usize) -> Vec<u8> {
        // The last ones: where chunks are small there are many, and they are all alike.
        let last = self.free.iter().enumerate().rev().take(LOOKED_AT);
        let fits = last.filter(|(_, b)| b.capacity() >= length).min_by_key(|(_, b)| b.capacity());
        match fits.map(|(i, _)| i) {
            Some(i) => {
                let mut buffer = self.free.swap_remove(i);
                buffer.resize(length, 0);
                buffer
            }
            None => {
                // Packed chunks are of about one length: one that is too short makes way for one with an eighth to spare.
                self.free.pop();
                let mut buffer = Vec::with_capacity(length + length / 8);
                buffer.resize(length, 0);
                buffer
            }
        }
    }

    /// Takes back the buffer of a chunk that nobody needs any more.
    pub fn free(&mut self, chunk: Chunk) {
        let (Chunk::Plain(bytes) | Chunk::Planes { bytes, .. }) = chunk;
        self.free.push(bytes);
    }

    /// The chunk of `bytes` bytes, elements of `size`, that `raw` was made of.
    pub fn decode(
        &mut self,
        mut raw: Vec<u8>,
        filters: &[Filter],
        mask: u64,
        bytes: usize,
        size: usize,
    ) -> Result<Chunk, String> {
        let applied = |i: usize| i >= 64 || mask & (1 << i) == 0;
        let mut planes = None;
        for (i, filter) in filters.iter().enumerate().rev() {
            if !applied(i) {
                continue;
            }
            // What went into this filter: the chunk, and a checksum for each of those that came before.
            let sums = filters[..i].iter().enumerate().filter(|(j, f)| f.id == FLETCHER32 && applied(*j)).count();
            let length = bytes + 4 * sums;
            match filter.id {
                FLETCHER32 => verify(&mut raw)?,
                SHUFFLE => planes = Some((bytes / size.max(1)).max(1)),
                _ => {
                    possible(filter, &raw, length)?;
                    let mut out = self.buffer(length);
                    let first = !(0..i).any(applied);
                    planes = self.unpack(filter, &raw, &mut out, first.then_some(size))?;
                    self.free.push(std::mem::replace(&mut raw, out));
                }
            }
        }
        if raw.len() != bytes {
            return Err(format!("decodes to {} bytes, not {bytes}", raw.len()));
        }
        Ok(match planes {
            Some(block) => Chunk::Planes { bytes: raw, block },
            None => Chunk::Plain(raw),
        })
    }

    /// Undoes a filter that packs. Where it has a shuffle in it of elements of `split` bytes, that is left: then it says how
    /// many elements stand in a block.
    fn unpack(&mut self, filter: &Filter, raw: &[u8], out: &mut [u8], split: Option<usize>) -> Result<Option<usize>, String> {
        let Self { codecs, work, .. } = self;
        match filter.id {
            DEFLATE => codecs.unpack(Codec::Deflate, raw, out)?,
            LZF => codecs.unpack(Codec::Lzf, raw, out)?,
            ZSTD => codecs.unpack(Codec::Zstd, raw, out)?,
            LZ4 => lz4(codecs, raw, out)?,
            BLOSC => {
                let chunk = Blosc::new(raw)?;
                if let Some(block) = split.and_then(|size| chunk.planes(size)) {
                    chunk.unpack_planes(codecs, out)?;
                    return Ok(Some(block));
                }
                chunk.unpack(codecs, work, out)?;
            }
            BLOSC2 => blosc2::unpack(codecs, work, raw, out)?,
            BITSHUFFLE => bitshuffle(codecs, filter, raw, out)?,
            id => return Err(format!("filter {id} is not known here")),
        }
        Ok(None)
    }
}

/// An error where so few packed bytes cannot hold so many: a short chunk must not ask for much memory.
fn possible(filter: &Filter, raw: &[u8], length: usize) -> Result<(), String> {
    let (name, ratio) = match filter.id {
        DEFLATE => ("gzip", 1032),
        LZF => ("lzf", 264),
        LZ4 => ("lz4", 255),
        _ => return Ok(()),
    };
    if length / ratio > raw.len() + 64 {
        return Err(format!("{} bytes of {name} cannot hold {length}", raw.len()));
    }
    Ok(())
}

/// Takes off a correct checksum.
fn verify(raw: &mut Vec<u8>) -> Result<(), String> {
    let Some(at) = raw.len().checked_sub(4) else { return Err("too short for its checksum".into()) };
    let stored = [raw[at], raw[at + 1], raw[at + 2], raw[at + 3]];
    let sum = fletcher32(&raw[..at]);
    // Versions of the library before 1.6.3 wrote the halves with their bytes swapped on little-endian machines.
    let swapped = [stored[1], stored[0], stored[3], stored[2]];
    if sum != u32::from_le_bytes(stored) && sum != u32::from_le_bytes(swapped) {
        return Err("its checksum (fletcher32) is wrong".into());
    }
    raw.truncate(at);
    Ok(())
}

/// Fletcher's checksum as the library computes it (H5checksum.c): big-endian words, an odd last byte as the upper half.
fn fletcher32(bytes: &[u8]) -> u32 {
    let fold = |s: u32| (s & 0xffff) + (s >> 16);
    let (mut one, mut two) = (0u32, 0u32);
    // 360 words are the most that cannot overflow.
    for block in bytes.chunks(720) {
        for pair in block.chunks(2) {
            one += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b));
            two += one;
        }
        (one, two) = (fold(one), fold(two));
    }
    fold(two) << 16 | fold(one)
}

/// The frame of the registered LZ4 filter: length (u64), block length (u32), then each block with its length (u32), big-endian.
fn lz4(codecs: &mut Codecs, raw: &[u8], out: &mut [u8]) -> Result<(), String> {
    let block = framed(raw, out.len(), "lz4")?;
    let mut at = 12;
    for part in out.chunks_mut(block) {
        let packed = piece(raw, &mut at, "lz4")?;
        if packed.len() == part.len() {
            part.copy_from_slice(packed);
        } else {
            codecs.unpack(Codec::Lz4, packed, part)?;
        }
    }
    Ok(())
}

/// Bits of elements transposed block by block, and each block packed where the filter says so (bshuf_h5filter.c).
fn bitshuffle(codecs: &mut Codecs, filter: &Filter, raw: &[u8], out: &mut [u8]) -> Result<(), String> {
    let value = |i: usize| filter.values.get(i).map_or(0, |v| *v as usize);
    let size = value(2);
    if size == 0 || !out.len().is_multiple_of(size) {
        return Err("its bitshuffle filter is of another type".into());
    }
    let codec = match value(4) {
        0 => None,
        2 => Some(Codec::Lz4),
        3 => Some(Codec::Zstd),
        other => return Err(format!("bitshuffle with codec {other} is not known here")),
    };
    let elements = match codec {
        Some(_) => framed(raw, out.len(), "bitshuffle")? / size,
        None if value(3) == 0 => (8192 / size / 8 * 8).max(128),
        None => value(3),
    };
    if elements == 0 || !elements.is_multiple_of(8) {
        return Err("its bitshuffle data are corrupt".into());
    }
    let (mut at, mut bits, mut planes) = (if codec.is_some() { 12 } else { 0 }, Vec::new(), Vec::new());
    let whole = out.len() / size / 8 * 8 * size;
    let (blocks, rest) = out.split_at_mut(whole);
    let next = |at: &mut usize, length: usize| -> Result<&[u8], String> {
        let bytes = raw.get(*at..).and_then(|r| r.get(..length)).ok_or("its bitshuffle data are corrupt")?;
        *at += length;
        Ok(bytes)
    };
    for part in blocks.chunks_mut(elements.saturating_mul(size)) {
        let bits = match codec {
            Some(codec) => {
                bits.resize(part.len(), 0);
                codecs.unpack(codec, piece(raw, &mut at, "bitshuffle")?, &mut bits)?;
                &bits[..]
            }
            None => next(&mut at, part.len())?,
        };
        unshuffle_bits(bits, size, &mut planes, part);
    }
    // Elements that make no eight are kept as they are.
    rest.copy_from_slice(next(&mut at, rest.len())?);
    Ok(())
}

/// Bytes of a block, from a header that says this length and that.
fn framed(raw: &[u8], length: usize, name: &str) -> Result<usize, String> {
    let whole = raw.first_chunk().map(|b| u64::from_be_bytes(*b));
    if whole != Some(length as u64) {
        return Err(format!("its {name} data are not of {length} bytes"));
    }
    let block = raw.get(8..).and_then(|r| r.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b));
    if block == 0 { Err(format!("its {name} data are corrupt")) } else { Ok(block as usize) }
}

/// The next packed block, which says its length.
fn piece<'a>(raw: &'a [u8], at: &mut usize, name: &str) -> Result<&'a [u8], String> {
    let rest = raw.get(*at..).unwrap_or_default();
    let length = rest.first_chunk().map(|b| u32::from_be_bytes(*b) as usize);
    let bytes = length.and_then(|length| rest.get(4..).and_then(|r| r.get(..length)));
    let bytes = bytes.ok_or_else(|| format!("its {name} data are corrupt"))?;
    *at += 4 + bytes.len();
    Ok(bytes)
}
