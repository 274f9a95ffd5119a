//! Undoing what was done to a chunk: fletcher32, gzip, lzf, lz4, zstd, shuffle.
//!
//! Filters are undone last to first; those whose bit is set in the chunk's mask were not applied. A shuffle that was applied
//! first is left as it is ([`Chunk::Planes`]): whoever needs a range of elements gathers just these, and hits are found
//! directly in the byte planes. Invariant: nothing is allocated that the chunk's own shape does not ask for, and what comes out is exactly as
//! long as the chunk.

use super::header::Filter;
use libdeflater::Decompressor;

const DEFLATE: u32 = 1;
const SHUFFLE: u32 = 2;
const FLETCHER32: u32 = 3;
const LZF: u32 = 32000;
const LZ4: u32 = 32004;
const ZSTD: u32 = 32015;

/// The values of a chunk.
#[derive(Debug)]
pub enum Chunk {
    /// The elements, one after the other.
    Plain(Vec<u8>),
    /// The first bytes of all elements, then the second bytes of all elements, ...
    Planes(Vec<u8>),
}

/// True where every filter is known here, at most one of them compresses, and a shuffle stands before it.
#[must_use]
pub fn is_known(filters: &[Filter], element_bytes: u64) -> bool {
    let packs = |f: &&Filter| matches!(f.id, DEFLATE | LZF | LZ4 | ZSTD);
    let known = filters.iter().all(|f| packs(&f) || matches!(f.id, SHUFFLE | FLETCHER32));
    let shuffled = filters.iter().position(|f| f.id == SHUFFLE);
    let fits =
        filters.iter().filter(|f| f.id == SHUFFLE).all(|f| f.values.first().is_none_or(|n| u64::from(*n) == element_bytes));
    known && fits && filters.iter().filter(packs).count() <= 1 && shuffled.is_none_or(|i| i == 0)
}

/// A decoder with its working memory.
pub struct Decoder {
    inflate: Decompressor,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inflate: Decompressor::new() }
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// The chunk of `bytes` bytes that `raw` was made of.
    pub fn decode(&mut self, mut raw: Vec<u8>, filters: &[Filter], mask: u64, bytes: usize) -> Result<Chunk, String> {
        let applied = |i: usize| i >= 64 || mask & (1 << i) == 0;
        let mut shuffled = false;
        for (i, filter) in filters.iter().enumerate().rev() {
            if !applied(i) {
                continue;
            }
            // What went into this filter: the chunk, and a checksum for each of those that came before.
            let sums = filters[..i].iter().enumerate().filter(|(j, f)| f.id == FLETCHER32 && applied(*j)).count();
            let length = bytes + 4 * sums;
            raw = match filter.id {
                FLETCHER32 => verified(raw)?,
                SHUFFLE => {
                    shuffled = true;
                    raw
                }
                DEFLATE => self.inflated(&raw, length)?,
                LZF => lzf(&raw, length)?,
                LZ4 => lz4(&raw, length)?,
                ZSTD => zstd(&raw, length)?,
                id => return Err(format!("filter {id} is not known here")),
            };
        }
        if raw.len() != bytes {
            return Err(format!("decodes to {} bytes, not {bytes}", raw.len()));
        }
        Ok(if shuffled { Chunk::Planes(raw) } else { Chunk::Plain(raw) })
    }

    fn inflated(&mut self, raw: &[u8], length: usize) -> Result<Vec<u8>, String> {
        // Deflate packs at most 1,032 to 1, so a short chunk can't ask for much memory.
        if length / 1032 > raw.len() + 64 {
            return Err(format!("{} bytes of gzip cannot hold {length}", raw.len()));
        }
        let mut out = vec![0; length];
        match self.inflate.zlib_decompress(raw, &mut out) {
            Ok(found) if found == length => Ok(out),
            Ok(found) => Err(format!("inflates to {found} bytes, not {length}")),
            Err(libdeflater::DecompressionError::InsufficientSpace) => Err(format!("inflates to more than {length} bytes")),
            Err(libdeflater::DecompressionError::BadData) => Err("its gzip data are corrupt".into()),
        }
    }
}

/// The bytes before a correct checksum.
fn verified(mut raw: Vec<u8>) -> Result<Vec<u8>, String> {
    let Some(at) = raw.len().checked_sub(4) else { return Err("too short for its checksum".into()) };
    let stored = [raw[at], raw[at + 1], raw[at + 2], raw[at + 3]];
    let sum = fletcher32(&raw[..at]);
    // Versions of the library before 1.6.3 wrote the halves with their bytes swapped on little-endian machines.
    let swapped = [stored[1], stored[0], stored[3], stored[2]];
    if sum != u32::from_le_bytes(stored) && sum != u32::from_le_bytes(swapped) {
        return Err("its checksum (fletcher32) is wrong".into());
    }
    raw.truncate(at);
    Ok(raw)
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

/// Marc Lehmann's LZF, the default "fast" compression of h5py.
fn lzf(raw: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let bad = || "its lzf data are corrupt".to_owned();
    let mut out: Vec<u8> = Vec::with_capacity(length.min(raw.len().saturating_mul(264)));
    let mut from = raw.iter().copied();
    while let Some(control) = from.next() {
        let control = usize::from(control);
        if control < 32 {
            let before = out.len();
            out.extend(from.by_ref().take(control + 1));
            if out.len() != before + control + 1 {
                return Err(bad());
            }
        } else {
            let mut run = control >> 5;
            if run == 7 {
                run += usize::from(from.next().ok_or_else(bad)?);
            }
            let back = ((control & 31) << 8) + usize::from(from.next().ok_or_else(bad)?) + 1;
            let start = out.len().checked_sub(back).ok_or_else(bad)?;
            for i in start..start + run + 2 {
                out.push(out[i]);
            }
        }
        if out.len() > length {
            return Err(bad());
        }
    }
    Ok(out)
}

/// The frame of the registered LZ4 filter: length (u64), block length (u32), then each block with its length (u32), big-endian.
fn lz4(raw: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let bad = || "its lz4 data are corrupt".to_owned();
    let word = |at: usize| raw.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
    if word(0) != Some(length >> 32) || word(4) != Some(length & 0xffff_ffff) || length / 255 > raw.len() {
        return Err(format!("its lz4 data are not of {length} bytes"));
    }
    let block = word(8).filter(|b| *b > 0).ok_or_else(bad)?;
    let mut out = vec![0; length];
    let mut at = 12;
    for part in out.chunks_mut(block) {
        let packed = word(at).ok_or_else(bad)?;
        let bytes = raw.get(at + 4..).and_then(|r| r.get(..packed)).ok_or_else(bad)?;
        if packed == part.len() {
            part.copy_from_slice(bytes);
        } else if lz4_flex::block::decompress_into(bytes, part).map_err(|_| bad())? != part.len() {
            return Err(bad());
        }
        at += 4 + packed;
    }
    Ok(out)
}

fn zstd(raw: &[u8], length: usize) -> Result<Vec<u8>, String> {
    // A corrupt frame must not ask for more than the chunk's own shape does; the buffer is that of the chunk.
    let mut out = vec![0; length];
    let found = zstd::bulk::decompress_to_buffer(raw, &mut out).map_err(|e| format!("its zstd data are corrupt: {e}"))?;
    if found == length { Ok(out) } else { Err(format!("decodes to {found} bytes, not {length}")) }
}

/// Gathers the elements `first..` of `size` bytes from the byte planes into `into`.
pub fn unshuffle(planes: &[u8], size: usize, first: usize, into: &mut [u8]) {
    let elements = planes.len() / size;
    let count = into.len() / size;
    if count == 0 {
        return;
    }
    let plane = |b: usize| &planes[b * elements + first..][..count];
    match size {
        1 => into.copy_from_slice(plane(0)),
        2 => {
            for ((out, a), b) in into.chunks_exact_mut(2).zip(plane(0)).zip(plane(1)) {
                out.copy_from_slice(&[*a, *b]);
            }
        }
        4 => {
            let planes = plane(0).iter().zip(plane(1)).zip(plane(2).iter().zip(plane(3)));
            for (out, ((a, b), (c, d))) in into.chunks_exact_mut(4).zip(planes) {
                out.copy_from_slice(&[*a, *b, *c, *d]);
            }
        }
        _ => {
            for b in 0..size {
                for (out, byte) in into[b..].iter_mut().step_by(size).zip(plane(b)) {
                    *out = *byte;
                }
            }
        }
    }
}
