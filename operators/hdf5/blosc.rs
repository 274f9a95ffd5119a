//! blosc: chunks cut into blocks, each filtered and packed by itself (formats 1 and 2, as README_CHUNK_FORMAT.rst of c-blosc2
//! has them), within the filters 32001 and 32026 of HDF5.
//!
//! Invariant: no length in a chunk is believed before it is compared with the room that there is; what a chunk unpacks to is as
//! long as its reader says, never as long as the chunk says.

use super::codec::{Codec, Codecs};
use super::shuffle::{planes_of_bits, unshuffle};

/// Memory that blocks are unpacked in; a few hundred KiB, because blocks are made to fit in a cache.
#[derive(Debug, Default)]
pub struct Work {
    packed: Vec<u8>,
    next: Vec<u8>,
    planes: Vec<u8>,
    first: Vec<u8>,
}

/// A chunk of blosc.
#[derive(Debug)]
pub struct Blosc<'a> {
    /// Bytes once unpacked.
    pub bytes: usize,
    /// Bytes of a block; the last may be shorter.
    pub block: usize,
    raw: &'a [u8],
    content: Content<'a>,
    element: usize,
    version: u8,
    /// What is undone, in this order.
    undo: Vec<Undo>,
}

#[derive(Debug)]
enum Content<'a> {
    Stored(&'a [u8]),
    Repeated(Vec<u8>),
    /// Where the list of the blocks' beginnings is, and whether each byte of an element is a stream of its own.
    Packed {
        starts: usize,
        split: bool,
        codec: Codec,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Undo {
    Shuffle(usize),
    Bits,
    Delta,
}

fn corrupt() -> String {
    "its blosc data are corrupt".into()
}

fn unknown(what: &str) -> String {
    format!("its blosc data are made with {what}, which is not known here")
}

impl<'a> Blosc<'a> {
    /// The chunk that begins here.
    pub fn new(raw: &'a [u8]) -> Result<Self, String> {
        let byte = |at: usize| raw.get(at).copied().ok_or_else(corrupt);
        let (version, flags, element) = (byte(0)?, byte(2)?, usize::from(byte(3)?));
        let [bytes, block, stored] = [4, 8, 12].map(|at| word(raw, at));
        let (bytes, block, stored) = (bytes?, block?, stored?);
        let raw = raw.get(..stored).ok_or_else(corrupt)?;
        if !(1..=6).contains(&version) || element == 0 || block == 0 {
            return Err(corrupt());
        }
        let extended = flags & 5 == 5;
        let head = if extended { 32 } else { 16 };
        let mut undo = Vec::new();
        let mut special = 0;
        if extended {
            let (filters, meta) = (raw.get(16..22).ok_or_else(corrupt)?, raw.get(24..30).ok_or_else(corrupt)?);
            let (kind, more) = (byte(30)?, byte(31)?);
            if more & 0x01 != 0 || kind & 1 != 0 {
                return Err(unknown(if kind & 1 != 0 { "blocks of different lengths" } else { "a dictionary" }));
            }
            if more & 0x88 != 0 {
                return Err(corrupt());
            }
            special = more >> 4 & 7;
            for (filter, meta) in filters.iter().zip(meta).rev() {
                undo.extend(match filter {
                    // Digits that were cut off are gone.
                    0 | 4 => None,
                    1 => Some(Undo::Shuffle(if *meta == 0 { element } else { usize::from(*meta) })),
                    2 => Some(Undo::Bits),
                    3 => Some(Undo::Delta),
                    other => return Err(unknown(&format!("filter {other}"))),
                });
            }
        } else if flags & 1 != 0 {
            undo.push(Undo::Shuffle(element));
        } else if flags & 4 != 0 {
            undo.push(Undo::Bits);
        }
        if undo.iter().rev().skip(1).any(|u| *u == Undo::Delta) {
            return Err(unknown("a delta between two filters"));
        }
        let content = match special {
            0 if flags & 2 != 0 => Content::Stored(raw.get(head..).and_then(|r| r.get(..bytes)).ok_or_else(corrupt)?),
            0 => {
                let codec = match flags >> 5 {
                    0 => Codec::BloscLz,
                    1 => Codec::Lz4,
                    2 => Codec::Snappy,
                    3 => Codec::Deflate,
                    4 => Codec::Zstd,
                    other => return Err(unknown(&format!("codec {other}"))),
                };
                // Before the flag there was a rule.
                let split = flags & 0x10 == 0 && (version > 2 || element <= 16 && block / element >= 128);
                Content::Packed { starts: head, split, codec }
            }
            2 if element == 4 => Content::Repeated(f32::NAN.to_le_bytes().to_vec()),
            2 if element == 8 => Content::Repeated(f64::NAN.to_le_bytes().to_vec()),
            3 if raw.len() > head => Content::Repeated(raw[head..].to_vec()),
            // Values that nobody has written are zeros as well.
            1 | 4 => Content::Repeated(vec![0]),
            _ => return Err(corrupt()),
        };
        Ok(Self { bytes, block: block.min(bytes.max(1)), raw, content, element, version, undo })
    }

    /// Unpacks the whole chunk.
    pub fn unpack(&self, codecs: &mut Codecs, work: &mut Work, into: &mut [u8]) -> Result<(), String> {
        self.fits(into)?;
        into.chunks_mut(self.block).enumerate().try_for_each(|(number, part)| self.unpack_block(codecs, work, number, part))
    }

    /// Elements of a block, where nothing but a shuffle of elements of `size` bytes was done to the blocks before they were
    /// packed: then [`Blosc::unpack_planes`] may leave it.
    pub fn planes(&self, size: usize) -> Option<usize> {
        let whole = size > 0 && self.block.is_multiple_of(size) && self.bytes.is_multiple_of(size) && self.bytes > 0;
        let packed = matches!(self.content, Content::Packed { .. });
        (packed && whole && self.undo == [Undo::Shuffle(size)]).then(|| self.block / size)
    }

    /// Unpacks the whole chunk, but leaves its blocks as they were packed.
    pub fn unpack_planes(&self, codecs: &mut Codecs, into: &mut [u8]) -> Result<(), String> {
        self.fits(into)?;
        into.chunks_mut(self.block).enumerate().try_for_each(|(number, part)| self.streams(codecs, number, part))
    }

    fn fits(&self, into: &[u8]) -> Result<(), String> {
        let fits = self.bytes == into.len();
        fits.then_some(()).ok_or_else(|| format!("decodes to {} bytes, not {}", self.bytes, into.len()))
    }

    /// Unpacks one block, which is as long as `into`. The first one comes before all others.
    pub fn unpack_block(&self, codecs: &mut Codecs, work: &mut Work, number: usize, into: &mut [u8]) -> Result<(), String> {
        match &self.content {
            Content::Stored(bytes) => {
                let begin = number * self.block;
                into.copy_from_slice(bytes.get(begin..begin + into.len()).ok_or_else(corrupt)?);
                return Ok(());
            }
            Content::Repeated(value) => {
                for part in into.chunks_mut(value.len()) {
                    part.copy_from_slice(&value[..part.len()]);
                }
                return Ok(());
            }
            Content::Packed { .. } => {}
        }
        let Some((last, before)) = self.undo.split_last() else { return self.streams(codecs, number, into) };
        let mut packed = std::mem::take(&mut work.packed);
        packed.resize(into.len(), 0);
        self.streams(codecs, number, &mut packed)?;
        for undo in before {
            let mut next = std::mem::take(&mut work.next);
            next.resize(into.len(), 0);
            self.undo(*undo, work, number, &packed, &mut next);
            work.next = std::mem::replace(&mut packed, next);
        }
        self.undo(*last, work, number, &packed, into);
        work.packed = packed;
        Ok(())
    }

    /// The streams of a block, as they were before they were packed.
    fn streams(&self, codecs: &mut Codecs, number: usize, into: &mut [u8]) -> Result<(), String> {
        let Content::Packed { starts, split, codec } = self.content else { return Err(corrupt()) };
        let mut at = word(self.raw, starts + 4 * number)?;
        let streams = if split && into.len() == self.block { self.element } else { 1 };
        let length = into.len() / streams;
        if length == 0 || length * streams != into.len() {
            return Err(corrupt());
        }
        for part in into.chunks_exact_mut(length) {
            let size = self.raw.get(at..).and_then(|r| r.first_chunk()).copied().map(i32::from_le_bytes).ok_or_else(corrupt)?;
            at += 4;
            if size <= 0 && self.version > 2 {
                // A run of one byte: zeros, or another that the size itself says.
                if size < 0 {
                    if self.raw.get(at).is_none_or(|token| token & 1 == 0) || size < -255 {
                        return Err(corrupt());
                    }
                    at += 1;
                }
                part.fill(size.unsigned_abs() as u8);
                continue;
            }
            let size = usize::try_from(size).map_err(|_| corrupt())?;
            let packed = self.raw.get(at..).and_then(|r| r.get(..size)).ok_or_else(corrupt)?;
            at += size;
            if size == length {
                part.copy_from_slice(packed);
            } else {
                codecs.unpack(codec, packed, part)?;
            }
        }
        Ok(())
    }

    fn undo(&self, undo: Undo, work: &mut Work, number: usize, from: &[u8], into: &mut [u8]) {
        match undo {
            Undo::Shuffle(size) => {
                let whole = from.len() / size * size;
                unshuffle(&from[..whole], size, 0, &mut into[..whole]);
                into[whole..].copy_from_slice(&from[whole..]);
            }
            Undo::Bits => {
                let elements = from.len() / self.element;
                let whole = if self.version > 2 || elements.is_multiple_of(8) { elements / 8 * 8 * self.element } else { 0 };
                unshuffle_bits(&from[..whole], self.element, &mut work.planes, &mut into[..whole]);
                into[whole..].copy_from_slice(&from[whole..]);
            }
            Undo::Delta => {
                let step = match self.element {
                    1 | 2 | 4 | 8 => self.element,
                    n if n % 8 == 0 => 8,
                    _ => 1,
                };
                into.copy_from_slice(from);
                let whole = from.len() / step * step;
                if number == 0 {
                    for i in step..whole {
                        into[i] ^= into[i - step];
                    }
                    work.first.clear();
                    work.first.extend_from_slice(into);
                } else {
                    into[..whole].iter_mut().zip(&work.first).for_each(|(byte, first)| *byte ^= first);
                }
            }
        }
    }
}

/// Transposed bits back to elements of `size` bytes, whose number is a multiple of 8.
pub fn unshuffle_bits(bits: &[u8], size: usize, planes: &mut Vec<u8>, into: &mut [u8]) {
    planes.resize(bits.len(), 0);
    planes_of_bits(bits, size, planes);
    unshuffle(planes, size, 0, into);
}

fn word(raw: &[u8], at: usize) -> Result<usize, String> {
    let bytes = raw.get(at..).and_then(|r| r.first_chunk()).ok_or_else(corrupt)?;
    usize::try_from(i32::from_le_bytes(*bytes)).map_err(|_| corrupt())
}
