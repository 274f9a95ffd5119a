//! The search for hits with AVX-512: a mask and a compression instruct the machine instead of branches.
//!
//! Here and nowhere else the search is unsafe, for loads and stores of vectors and for instructions that not every machine
//! has. Room is looked at before, and the types are sealed integers, of which any bits are a value. Numbers of four bytes only:
//! images have these.

#![allow(unsafe_code)]

use super::{Bits, Cell, ROOM};
use std::arch::x86_64::*;

/// Hits of byte planes; none where this machine or this size is not for it.
pub(super) fn planes<const SIZE: usize, C: Cell, V: Bits>(
    planes: [&[u8]; SIZE],
    first: usize,
    cells: &mut [C],
    values: &mut [V],
) -> Option<usize> {
    let [a, b, c, d] = *<&[&[u8]; 4]>::try_from(&planes[..]).ok()?;
    if !fits(cells, values, a.len()) || [b, c, d].iter().any(|plane| plane.len() != a.len()) {
        return None;
    }
    // SAFETY: the machine has the instructions, the planes are of one length, and the hits have room.
    Some(unsafe { planes_of_four([a, b, c, d], first, cells, values) })
}

/// Hits of numbers as they stand; none where this machine or this size is not for it.
pub(super) fn plain<const SIZE: usize, C: Cell, V: Bits>(image: &[u8], cells: &mut [C], values: &mut [V]) -> Option<usize> {
    if SIZE != 4 || !fits(cells, values, image.len() / 4) {
        return None;
    }
    // SAFETY: the machine has the instructions, and the hits have room.
    Some(unsafe { plain_of_four(image, cells, values) })
}

fn fits<C: Cell, V: Bits>(cells: &[C], values: &[V], count: usize) -> bool {
    let room = cells.len().min(values.len()) >= count + ROOM;
    room && size_of::<V>() == 4
        && matches!(size_of::<C>(), 2 | 4)
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("popcnt")
}

/// # Safety
/// The features are there; `cells` and `values` are of 2 or 4 and of 4 bytes, and longer by [`ROOM`] than the four planes,
/// which are of one length.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
unsafe fn planes_of_four<C: Cell, V: Bits>(planes: [&[u8]; 4], first: usize, cells: &mut [C], values: &mut [V]) -> usize {
    let count = planes[0].len();
    // SAFETY: any bytes are a vector of bytes.
    let lanes: __m512i = unsafe { std::mem::transmute(std::array::from_fn::<u8, 64, _>(|i| i as u8)) };
    let (cells, values) = (cells.as_mut_ptr(), values.as_mut_ptr().cast::<u32>());
    let (mut found, mut at) = (0, 0);
    while at < count {
        let here = if count - at < 64 { !0 >> (64 - (count - at)) } else { !0 };
        // SAFETY: bytes beyond the ends of the planes are masked out, so nothing there is read.
        let [a, b, c, d] = planes.map(|plane| unsafe { _mm512_maskz_loadu_epi8(here, plane.as_ptr().add(at).cast()) });
        let any = _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d));
        let mask = _mm512_test_epi8_mask(any, any);
        if mask != 0 {
            let hits = mask.count_ones() as usize;
            let index = _mm512_maskz_compress_epi8(mask, lanes);
            let bytes = [a, b, c, d].map(|plane| _mm512_maskz_compress_epi8(mask, plane));
            // SAFETY: 64 may be written behind the hits so far, which are no more than the cells so far.
            unsafe {
                let (cells, values) = (cells.add(found), values.add(found));
                put_lanes(index, first + at, hits, cells);
                put_values::<0>(bytes, values);
                if hits > 16 {
                    put_values::<1>(bytes, values.add(16));
                }
                if hits > 32 {
                    put_values::<2>(bytes, values.add(32));
                    put_values::<3>(bytes, values.add(48));
                }
            }
            found += hits;
        }
        at += 64;
    }
    found
}

/// # Safety
/// 16 values may be written.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
unsafe fn put_values<const QUARTER: i32>(planes: [__m512i; 4], values: *mut u32) {
    let [a, b, c, d] = planes.map(|plane| _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<QUARTER>(plane)));
    let low = _mm512_or_si512(a, _mm512_slli_epi32::<8>(b));
    let high = _mm512_or_si512(_mm512_slli_epi32::<16>(c), _mm512_slli_epi32::<24>(d));
    // SAFETY: as promised.
    unsafe { _mm512_storeu_si512(values.cast(), _mm512_or_si512(low, high)) }
}

/// # Safety
/// 64 cells may be written.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
unsafe fn put_lanes<C: Cell>(lanes: __m512i, at: usize, hits: usize, cells: *mut C) {
    // SAFETY: as promised; each store is of 64 bytes.
    unsafe {
        if size_of::<C>() == 2 {
            let base = _mm512_set1_epi16(at as i16);
            let put = |half, cells: *mut C| _mm512_storeu_si512(cells.cast(), _mm512_add_epi16(base, _mm512_cvtepu8_epi16(half)));
            put(_mm512_castsi512_si256(lanes), cells);
            if hits > 32 {
                put(_mm512_extracti64x4_epi64::<1>(lanes), cells.add(32));
            }
        } else {
            let base = _mm512_set1_epi32(at as i32);
            let put = |part, cells: *mut C| _mm512_storeu_si512(cells.cast(), _mm512_add_epi32(base, _mm512_cvtepu8_epi32(part)));
            put(_mm512_extracti32x4_epi32::<0>(lanes), cells);
            if hits > 16 {
                put(_mm512_extracti32x4_epi32::<1>(lanes), cells.add(16));
                put(_mm512_extracti32x4_epi32::<2>(lanes), cells.add(32));
                put(_mm512_extracti32x4_epi32::<3>(lanes), cells.add(48));
            }
        }
    }
}

/// # Safety
/// The features are there; `cells` and `values` are of 2 or 4 and of 4 bytes, and longer by [`ROOM`] than the image.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
unsafe fn plain_of_four<C: Cell, V: Bits>(image: &[u8], cells: &mut [C], values: &mut [V]) -> usize {
    let count = image.len() / 4;
    let (from, cells, values) = (image.as_ptr().cast::<i32>(), cells.as_mut_ptr(), values.as_mut_ptr().cast::<i32>());
    let ascending = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let (mut found, mut at) = (0, 0);
    while at < count {
        let four: [__m512i; 4] = std::array::from_fn(|i| {
            let begin = at + 16 * i;
            let here = if begin >= count {
                0
            } else if count - begin < 16 {
                !0 >> (16 - (count - begin))
            } else {
                !0
            };
            // SAFETY: numbers beyond the end of the image are masked out, so nothing there is read.
            unsafe { _mm512_maskz_loadu_epi32(here, from.wrapping_add(begin)) }
        });
        let any = _mm512_or_si512(_mm512_or_si512(four[0], four[1]), _mm512_or_si512(four[2], four[3]));
        if _mm512_test_epi32_mask(any, any) != 0 {
            for (i, numbers) in four.into_iter().enumerate() {
                let mask = _mm512_test_epi32_mask(numbers, numbers);
                let lanes = _mm512_add_epi32(_mm512_set1_epi32((at + 16 * i) as i32), ascending);
                let lanes = _mm512_maskz_compress_epi32(mask, lanes);
                // SAFETY: 64 may be written behind the hits so far, which are no more than the cells so far.
                unsafe {
                    _mm512_storeu_si512(values.add(found).cast(), _mm512_maskz_compress_epi32(mask, numbers));
                    match size_of::<C>() {
                        2 => _mm256_storeu_si256(cells.add(found).cast(), _mm512_cvtepi32_epi16(lanes)),
                        _ => _mm512_storeu_si512(cells.add(found).cast(), lanes),
                    }
                }
                found += mask.count_ones() as usize;
            }
        }
        at += 64;
    }
    found
}
