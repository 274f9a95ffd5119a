//! The frame in which the filter 32026 puts a chunk of blosc 2: a header, the chunk, where it begins, a trailer (as
//! README_CFRAME_FORMAT.rst and README_B2ND_METALAYER.rst of c-blosc2 have them).
//!
//! Where the chunk has more than one axis, its blocks are little boxes of it, filled up beyond its edges; each is unpacked by
//! itself and copied to where it belongs. Invariant: nothing is allocated but one block, which is no larger than the chunk.

use super::blosc::{Blosc, Work};
use super::codec::Codecs;

fn corrupt() -> String {
    "its blosc2 frame is corrupt".into()
}

/// Unpacks the one chunk of a frame.
pub fn unpack(codecs: &mut Codecs, work: &mut Work, raw: &[u8], into: &mut [u8]) -> Result<(), String> {
    if raw.get(2..10) != Some(b"b2frame\0") {
        return Err(corrupt());
    }
    let head = usize::try_from(number(raw, 0x0b, 4)?).map_err(|_| corrupt())?;
    let packed = usize::try_from(number(raw, 0x27, 8)?).map_err(|_| corrupt())?;
    let mut place = [0; 8];
    let list = head.checked_add(packed).and_then(|at| raw.get(at..)).ok_or_else(corrupt)?;
    Blosc::new(list)?.unpack(codecs, &mut Work::default(), &mut place).map_err(|_| corrupt())?;
    let place = u64::from_le_bytes(place);
    if place >> 63 != 0 {
        // A chunk of nothing but one value is not there at all; values that nobody has written are zeros as well.
        return match place >> 56 & 0x7f {
            1 | 4 => {
                into.fill(0);
                Ok(())
            }
            _ => Err("its blosc2 frame holds a special value that is not known here".into()),
        };
    }
    let begin = usize::try_from(place).ok().and_then(|p| p.checked_add(head)).ok_or_else(corrupt)?;
    let chunk = Blosc::new(raw.get(begin..).ok_or_else(corrupt)?)?;
    match boxes(raw)? {
        Some(boxes) => boxes.unpack(codecs, work, &chunk, into),
        None => chunk.unpack(codecs, work, into),
    }
}

/// A chunk of more than one axis.
struct Boxes {
    /// Lengths of its axes.
    shape: Vec<usize>,
    /// Those of a block.
    block: Vec<usize>,
}

/// The shapes of the chunk and of its blocks, where the frame says that they have more than one axis.
fn boxes(raw: &[u8]) -> Result<Option<Boxes>, String> {
    let names = number(raw, 0x5c, 2)?;
    let mut at = 0x5e;
    for _ in 0..names {
        let length = usize::from(raw.get(at).ok_or_else(corrupt)? & 0x1f);
        let name = raw.get(at + 1..at + 1 + length).ok_or_else(corrupt)?;
        let content = number(raw, at + length + 2, 4)?;
        at += length + 6;
        if name != b"b2nd" && name != b"caterva" {
            continue;
        }
        // A word on its length, then the version and the number of axes.
        let mut at = usize::try_from(content).map_err(|_| corrupt())?.saturating_add(5);
        let axes = usize::try_from(number(raw, at.saturating_add(2), 1)?).map_err(|_| corrupt())?;
        at = at.saturating_add(3);
        let mut lengths = |bytes: usize| -> Result<Vec<usize>, String> {
            at = at.saturating_add(1);
            let length = |axis: usize| {
                let length = number(raw, at.saturating_add(axis * (bytes + 1) + 1), bytes)?;
                usize::try_from(length).ok().filter(|n| *n > 0).ok_or_else(corrupt)
            };
            let lengths = (0..axes).map(length).collect::<Result<_, _>>()?;
            at = at.saturating_add(axes * (bytes + 1));
            Ok(lengths)
        };
        let (shape, chunk, block) = (lengths(8)?, lengths(4)?, lengths(4)?);
        if axes == 0 || shape != chunk || block.iter().zip(&chunk).any(|(b, c)| b > c) {
            return Err(corrupt());
        }
        return Ok(Some(Boxes { shape, block }));
    }
    Ok(None)
}

impl Boxes {
    fn unpack(&self, codecs: &mut Codecs, work: &mut Work, chunk: &Blosc<'_>, into: &mut [u8]) -> Result<(), String> {
        let Self { shape, block } = self;
        let product = |lengths: &[usize]| lengths.iter().try_fold(1_usize, |n, l| n.checked_mul(*l)).ok_or_else(corrupt);
        let grid: Vec<usize> = shape.iter().zip(block).map(|(s, b)| s.div_ceil(*b)).collect();
        let (elements, blocks) = (product(shape)?, product(&grid)?);
        let size = into.len() / elements;
        // No block is larger than the chunk, so nothing overflows once this holds.
        let fits = size > 0 && size * elements == into.len();
        if !fits || product(block)? * size != chunk.block || blocks.checked_mul(chunk.block) != Some(chunk.bytes) {
            return Err(corrupt());
        }
        let mut part = vec![0; chunk.block];
        let mut origin = vec![0; shape.len()];
        for number in 0..blocks {
            chunk.unpack_block(codecs, work, number, &mut part)?;
            let mut rest = number;
            for (axis, count) in grid.iter().enumerate().rev() {
                origin[axis] = rest % count * block[axis];
                rest /= count;
            }
            put(&part, block, &origin, shape, size, into);
        }
        Ok(())
    }
}

/// Copies what of a block lies within the chunk to where it belongs.
fn put(part: &[u8], block: &[usize], origin: &[usize], shape: &[usize], size: usize, into: &mut [u8]) {
    let ([rows, block @ ..], [first, origin @ ..], [end, shape @ ..]) = (block, origin, shape) else { return };
    let rows = (*rows).min(end - first);
    let (from, to) = (block.iter().product::<usize>() * size, shape.iter().product::<usize>() * size);
    if block == shape {
        into[first * to..(first + rows) * to].copy_from_slice(&part[..rows * from]);
        return;
    }
    for (part, into) in part.chunks_exact(from).zip(into[first * to..].chunks_exact_mut(to)).take(rows) {
        put(part, block, origin, shape, size, into);
    }
}

/// A big-endian number of so many bytes.
fn number(raw: &[u8], at: usize, bytes: usize) -> Result<u64, String> {
    let bytes = raw.get(at..).and_then(|r| r.get(..bytes)).ok_or_else(corrupt)?;
    Ok(bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
}
