//! Finds the cells that are not zero, in the byte planes of shuffled numbers or in numbers as they stand.
//!
//! A cell is a hit unless all its bytes are 0 (+0), so this needs no arithmetic: 64 cells at a time become a mask, of which
//! zero (most of a calorimeter) is passed over at once, and the bits that are set say which bytes to gather. Hits are gathered
//! eight at a time whether there are eight or not, because branches that nobody can predict cost more than stores that
//! nobody reads. Invariant: every version writes the same cells and bits, in the order of the cells.

#[cfg(target_arch = "x86_64")]
mod wide;

/// How many cells and values must be left behind the hits of an image: what may be written there means nothing.
pub const ROOM: usize = 64;

mod sealed {
    /// Any bits are a value: what is written as bits relies on it.
    pub trait Plain {}
    impl Plain for u8 {}
    impl Plain for u16 {}
    impl Plain for u32 {}
    impl Plain for u64 {}
}

/// The index of a cell.
pub trait Cell: Copy + Default + sealed::Plain {
    /// The index as stored.
    fn of(cell: usize) -> Self;
}

impl Cell for u16 {
    #[inline]
    fn of(cell: usize) -> Self {
        cell as Self
    }
}

impl Cell for u32 {
    #[inline]
    fn of(cell: usize) -> Self {
        cell as Self
    }
}

/// The bits of a number of so many bytes.
pub trait Bits: Copy + Default + sealed::Plain {
    /// The lowest bits.
    fn of(bits: u64) -> Self;
    /// The bytes in the opposite order.
    fn swapped(self) -> Self;
}

macro_rules! bits {
    ($($t:ty)*) => { $(impl Bits for $t {
        #[inline]
        fn of(bits: u64) -> Self {
            bits as Self
        }
        #[inline]
        fn swapped(self) -> Self {
            self.swap_bytes()
        }
    })* };
}
bits!(u8 u16 u32 u64);

/// Finds the hits of an image, or of a stretch of it from cell `first` on, whose numbers are split into planes of equal
/// length, the least significant bytes first. The number of hits; their cells and bits stand at the front of `cells` and
/// `values`.
///
/// # Panics
/// Where `cells` or `values` are shorter than the planes and [`ROOM`].
pub fn planes<const SIZE: usize, C: Cell, V: Bits>(
    planes: [&[u8]; SIZE],
    first: usize,
    cells: &mut [C],
    values: &mut [V],
) -> usize {
    let planes = planes.map(|plane| &plane[..planes[0].len()]);
    assert!(cells.len().min(values.len()) >= planes[0].len() + ROOM, "no room for the hits");
    #[cfg(target_arch = "x86_64")]
    if let Some(found) = wide::planes(planes, first, cells, values) {
        return found;
    }
    planes_portable(planes, first, cells, values)
}

/// Finds the hits of an image whose numbers stand one after the other; `swapped`: the most significant byte first.
///
/// # Panics
/// Where `cells` or `values` are shorter than the image and [`ROOM`].
pub fn plain<const SIZE: usize, C: Cell, V: Bits>(image: &[u8], swapped: bool, cells: &mut [C], values: &mut [V]) -> usize {
    assert!(cells.len().min(values.len()) >= image.len() / SIZE + ROOM, "no room for the hits");
    let found = 'found: {
        #[cfg(target_arch = "x86_64")]
        if let Some(found) = wide::plain::<SIZE, C, V>(image, cells, values) {
            break 'found found;
        }
        plain_portable::<SIZE, C, V>(image, cells, values)
    };
    if swapped && SIZE > 1 {
        values[..found].iter_mut().for_each(|value| *value = value.swapped());
    }
    found
}

fn planes_portable<const SIZE: usize, C: Cell, V: Bits>(
    planes: [&[u8]; SIZE],
    first: usize,
    cells: &mut [C],
    values: &mut [V],
) -> usize {
    let count = planes[0].len();
    let (mut found, mut at) = (0, 0);
    while at + 64 <= count {
        let block: [&[u8]; SIZE] = std::array::from_fn(|b| &planes[b][at..at + 64]);
        let mut mask = 0;
        for byte in 0..8 {
            let any = block.iter().fold(0, |any, plane| any | word(&plane[8 * byte..8 * byte + 8]));
            mask |= not_zero(any) << (8 * byte);
        }
        found += gather(mask, first + at, &mut cells[found..], &mut values[found..], |i| {
            block.iter().rev().fold(0, |bits, plane| bits << 8 | u64::from(plane[i]))
        });
        at += 64;
    }
    for cell in at..count {
        let bits = planes.iter().rev().fold(0, |bits, plane| bits << 8 | u64::from(plane[cell]));
        if bits != 0 {
            (cells[found], values[found]) = (C::of(first + cell), V::of(bits));
            found += 1;
        }
    }
    found
}

fn plain_portable<const SIZE: usize, C: Cell, V: Bits>(image: &[u8], cells: &mut [C], values: &mut [V]) -> usize {
    let bits = |value: &[u8]| value.iter().rev().fold(0, |bits, b| bits << 8 | u64::from(*b));
    let mut found = 0;
    let mut blocks = image.chunks_exact(64 * SIZE);
    for (number, block) in blocks.by_ref().enumerate() {
        let mut mask = 0;
        for (byte, eight) in block.chunks_exact(8 * SIZE).enumerate() {
            if eight.chunks_exact(8).fold(0, |any, w| any | word(w)) != 0 {
                for (bit, value) in eight.chunks_exact(SIZE).enumerate() {
                    mask |= u64::from(bits(value) != 0) << (8 * byte + bit);
                }
            }
        }
        found += gather(mask, 64 * number, &mut cells[found..], &mut values[found..], |i| bits(&block[i * SIZE..][..SIZE]));
    }
    let rest = blocks.remainder();
    let first = (image.len() - rest.len()) / SIZE;
    for (i, value) in rest.chunks_exact(SIZE).enumerate() {
        if bits(value) != 0 {
            (cells[found], values[found]) = (C::of(first + i), V::of(bits(value)));
            found += 1;
        }
    }
    found
}

/// Writes the hits of 64 cells from cell `at` on; how many there are.
#[inline]
fn gather<C: Cell, V: Bits>(mut mask: u64, at: usize, cells: &mut [C], values: &mut [V], bits: impl Fn(usize) -> u64) -> usize {
    let mut found = 0;
    while mask != 0 {
        let (cells, values) = (&mut cells[found..found + 8], &mut values[found..found + 8]);
        for lane in 0..8 {
            // Of a mask without bits this is 64: some cell or other, which the next hits overwrite.
            let i = mask.trailing_zeros() as usize & 63;
            (cells[lane], values[lane]) = (C::of(at + i), V::of(bits(i)));
            found += usize::from(mask != 0);
            mask &= mask.wrapping_sub(1);
        }
    }
    found
}

/// One bit for each byte that is not 0.
#[inline]
fn not_zero(bytes: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let high = (((bytes & LOW) + LOW) | bytes) & !LOW;
    // Each product of two bits lands on a bit of its own, so nothing carries.
    (high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
}

#[cfg(test)]
mod tests;
