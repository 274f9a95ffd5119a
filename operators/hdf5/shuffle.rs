//! Byte planes back to elements: HDF5's shuffle filter and the one inside of blosc, and bitshuffle's transposed bits.

/// Gathers the elements `first..` of `size` bytes from byte planes of `block` elements each (the last may have fewer).
pub fn gather(planes: &[u8], block: usize, size: usize, mut first: usize, mut into: &mut [u8]) {
    while !into.is_empty() {
        let begin = first / block * block;
        let of_block = &planes[begin * size..];
        let of_block = &of_block[..of_block.len().min(block * size)];
        let (part, rest) = into.split_at_mut(into.len().min(of_block.len() - (first - begin) * size));
        unshuffle(of_block, size, first - begin, part);
        first += part.len() / size;
        into = rest;
    }
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
                out.copy_from_slice(&u16::from_le_bytes([*a, *b]).to_le_bytes());
            }
        }
        4 => {
            let planes = plane(0).iter().zip(plane(1)).zip(plane(2).iter().zip(plane(3)));
            for (out, ((a, b), (c, d))) in into.chunks_exact_mut(4).zip(planes) {
                let bits = u32::from(*a) | u32::from(*b) << 8 | u32::from(*c) << 16 | u32::from(*d) << 24;
                out.copy_from_slice(&bits.to_le_bytes());
            }
        }
        8 => {
            let planes: [&[u8]; 8] = std::array::from_fn(plane);
            for (block, out) in into.chunks_mut(8 * 16).enumerate() {
                // In small steps, so that all planes' lines stay in the first cache.
                for (b, plane) in planes.iter().enumerate() {
                    for (out, byte) in out[b..].iter_mut().step_by(8).zip(&plane[16 * block..]) {
                        *out = *byte;
                    }
                }
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

/// Transposed bits back to byte planes: of each byte of the elements, the lowest bits of all elements, then the next, ... Both
/// are of `size` bytes an element, and the number of elements is a multiple of 8.
pub fn planes_of_bits(bits: &[u8], size: usize, planes: &mut [u8]) {
    let elements = bits.len() / size;
    let eighth = elements / 8;
    if eighth == 0 {
        return;
    }
    for (rows, plane) in bits.chunks_exact(elements).zip(planes.chunks_exact_mut(elements)) {
        let rows: [&[u8]; 8] = std::array::from_fn(|bit| &rows[bit * eighth..][..eighth]);
        for (at, out) in plane.chunks_exact_mut(8).enumerate() {
            let byte = |bit: usize| rows[bit][at];
            let word = u64::from_le_bytes(std::array::from_fn(byte));
            // Most of an image's bits are zero.
            let turned = if word == 0 { 0 } else { transposed(word) };
            out.copy_from_slice(&turned.to_le_bytes());
        }
    }
}

/// Eight bytes as a square of bits, rows for columns (Warren, "Hacker's Delight", 7-3).
fn transposed(mut x: u64) -> u64 {
    for (shift, mask) in [(7, 0x00aa_00aa_00aa_00aa), (14, 0x0000_cccc_0000_cccc), (28, 0x0000_0000_f0f0_f0f0)] {
        let t = (x ^ (x >> shift)) & mask;
        x ^= t ^ (t << shift);
    }
    x
}
