//! The compressions by themselves: a piece of packed bytes to a piece of known length.
//!
//! Invariants: what is written is exactly as long as what is asked for, or it is an error; no length that packed bytes claim
//! is believed before it is compared with the room that there is; nothing is allocated here.

use libdeflater::{DecompressionError, Decompressor};

/// A compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Deflate, with zlib's header and checksum.
    Deflate,
    /// Marc Lehmann's LZF, the default "fast" compression of h5py.
    Lzf,
    /// An LZ4 block.
    Lz4,
    /// Zstandard frames.
    Zstd,
    /// Snappy, raw.
    Snappy,
    /// blosc's own.
    BloscLz,
}

/// Unpacks; holds what the libraries need to work with.
pub struct Codecs {
    inflate: Decompressor,
    zstd: zstd::bulk::Decompressor<'static>,
}

impl Default for Codecs {
    fn default() -> Self {
        Self { inflate: Decompressor::new(), zstd: zstd::bulk::Decompressor::default() }
    }
}

impl Codecs {
    /// Fills `into`.
    pub fn unpack(&mut self, codec: Codec, packed: &[u8], into: &mut [u8]) -> Result<(), String> {
        let asked = into.len();
        let corrupt = || format!("its {} data are corrupt", codec.name());
        let found = match codec {
            Codec::Deflate => match self.inflate.zlib_decompress(packed, into) {
                Ok(found) => found,
                Err(DecompressionError::InsufficientSpace) => return Err(format!("inflates to more than {asked} bytes")),
                Err(DecompressionError::BadData) => return Err(corrupt()),
            },
            Codec::Lzf => lzf(packed, into).ok_or_else(corrupt)?,
            Codec::Lz4 => {
                let most = i32::try_from(asked).map_err(|_| "lz4 blocks hold at most 2 GiB")?;
                lz4::block::decompress_to_buffer(packed, Some(most), into).map_err(|_| corrupt())?
            }
            Codec::Zstd => self.zstd.decompress_to_buffer(packed, into).map_err(|e| format!("{}: {e}", corrupt()))?,
            Codec::Snappy => snap::raw::Decoder::new().decompress(packed, into).map_err(|_| corrupt())?,
            Codec::BloscLz => blosclz(packed, into).ok_or_else(corrupt)?,
        };
        if found == asked { Ok(()) } else { Err(format!("decodes to {found} bytes, not {asked}")) }
    }
}

impl Codec {
    fn name(self) -> &'static str {
        match self {
            Self::Deflate => "gzip",
            Self::Lzf => "lzf",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
            Self::BloscLz => "blosclz",
        }
    }
}

fn lzf(packed: &[u8], out: &mut [u8]) -> Option<usize> {
    let (mut from, mut at) = (0, 0);
    while let Some(control) = packed.get(from) {
        let control = usize::from(*control);
        from += 1;
        if control < 32 {
            literal(packed, &mut from, out, &mut at, control + 1)?;
            continue;
        }
        let mut length = control >> 5;
        if length == 7 {
            length += usize::from(*packed.get(from)?);
            from += 1;
        }
        let back = ((control & 31) << 8) + usize::from(*packed.get(from)?) + 1;
        from += 1;
        again(out, &mut at, back, length + 2)?;
    }
    Some(at)
}

/// FastLZ as blosc has it (blosclz.c): like LZF, with distances and lengths that may go on.
fn blosclz(packed: &[u8], out: &mut [u8]) -> Option<usize> {
    const NEAR: usize = 8191;
    let (mut from, mut at) = (0, 0);
    let mut first = true;
    while let Some(control) = packed.get(from) {
        // The highest bits of the first byte say which level packed it; it is a literal.
        let control = usize::from(*control) & if first { 31 } else { 255 };
        first = false;
        from += 1;
        if control < 32 {
            literal(packed, &mut from, out, &mut at, control + 1)?;
            continue;
        }
        let mut length = (control >> 5) - 1;
        let high = (control & 31) << 8;
        if length == 6 {
            loop {
                let more = usize::from(*packed.get(from)?);
                from += 1;
                length += more;
                if more != 255 {
                    break;
                }
            }
        }
        let low = usize::from(*packed.get(from)?);
        from += 1;
        let mut back = high + low + 1;
        if low == 255 && high == 31 << 8 {
            let far = packed.get(from..from + 2)?;
            back = (usize::from(far[0]) << 8) + usize::from(far[1]) + NEAR + 1;
            from += 2;
        }
        again(out, &mut at, back, length + 3)?;
    }
    Some(at)
}

/// Copies bytes that stand as they are.
#[inline]
fn literal(packed: &[u8], from: &mut usize, out: &mut [u8], at: &mut usize, length: usize) -> Option<()> {
    // A copy of fixed length is one instruction; what it writes too much is written over.
    if let (Some(bytes), Some(into)) = (packed.get(*from..*from + 32), out.get_mut(*at..*at + 32)) {
        into.copy_from_slice(bytes);
    } else {
        out.get_mut(*at..*at + length)?.copy_from_slice(packed.get(*from..*from + length)?);
    }
    *from += length;
    *at += length;
    Some(())
}

/// Writes once more what stands `back` bytes before; the copy may run into itself.
#[inline]
fn again(out: &mut [u8], at: &mut usize, back: usize, length: usize) -> Option<()> {
    let start = at.checked_sub(back)?;
    let end = *at + length;
    if end > out.len() {
        return None;
    }
    if back == 1 {
        let byte = out[start];
        out[*at..end].fill(byte);
    } else if back >= 16 && end + 16 <= out.len() {
        for step in (0..length).step_by(16) {
            out.copy_within(start + step..start + step + 16, *at + step);
        }
    } else {
        for i in 0..length {
            out[*at + i] = out[start + i];
        }
    }
    *at = end;
    Some(())
}
