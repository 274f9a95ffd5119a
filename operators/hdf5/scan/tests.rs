//! Every version of the search against the obvious one.

use super::*;
use proptest::prelude::*;

/// Images of all sizes, with runs of zeros longer than a step of the search, and cells of which only one byte is not zero.
fn images() -> impl Strategy<Value = Vec<u64>> {
    let cell = prop_oneof![4 => Just(0), 1 => any::<u64>(), 1 => (0_u32..64).prop_map(|bit| 1 << bit)];
    let run = prop_oneof![Just(vec![0; 70]), prop::collection::vec(cell, 0..90), prop::collection::vec(1..u64::MAX, 0..70)];
    prop::collection::vec(run, 0..5).prop_map(|runs| runs.concat())
}

fn check<const SIZE: usize, C: Cell + PartialEq + std::fmt::Debug, V: Bits + PartialEq + std::fmt::Debug>(image: &[u64]) {
    let bytes: Vec<[u8; 8]> = image.iter().map(|v| v.to_le_bytes()).collect();
    let split: [Vec<u8>; SIZE] = std::array::from_fn(|b| bytes.iter().map(|v| v[b]).collect());
    let together: Vec<u8> = bytes.iter().flat_map(|v| v[..SIZE].to_vec()).collect();
    let swapped: Vec<u8> = bytes.iter().flat_map(|v| v[..SIZE].iter().rev().copied().collect::<Vec<_>>()).collect();
    let all: Vec<(C, V)> = image.iter().enumerate().map(|(i, v)| (C::of(i), V::of(*v))).collect();
    let zero = V::default();
    let slow: Vec<(C, V)> = all.into_iter().filter(|(_, v)| *v != zero).collect();
    let room = image.len() + ROOM;
    let found = |find: &dyn Fn(&mut [C], &mut [V]) -> usize| {
        let (mut cells, mut values) = (vec![C::of(7); room], vec![V::of(7); room]);
        let found = find(&mut cells, &mut values);
        cells.into_iter().zip(values).take(found).collect::<Vec<_>>()
    };
    let parts: [&[u8]; SIZE] = std::array::from_fn(|b| &split[b][..]);
    assert_eq!(found(&|c, v| planes(parts, 0, c, v)), slow);
    assert_eq!(found(&|c, v| planes_portable(parts, 0, c, v)), slow);
    assert_eq!(found(&|c, v| plain::<SIZE, C, V>(&together, false, c, v)), slow);
    assert_eq!(found(&|c, v| plain::<SIZE, C, V>(&swapped, true, c, v)), slow);
    assert_eq!(found(&|c, v| plain_portable::<SIZE, C, V>(&together, c, v)), slow);
}

proptest! {
    #[test]
    fn hits_are_the_cells_that_are_not_zero(image in images()) {
        check::<1, u16, u8>(&image);
        check::<2, u32, u16>(&image);
        check::<4, u16, u32>(&image);
        check::<4, u32, u32>(&image);
        check::<8, u16, u64>(&image);
    }
}

#[test]
fn the_last_cells_of_the_largest_image_with_short_indices() {
    let mut image = vec![0_u64; 1 << 16];
    for cell in [0, 1, 32_767, 32_768, 65_471, 65_534, 65_535] {
        image[cell] = 1;
    }
    check::<4, u16, u32>(&image);
}

#[test]
#[should_panic(expected = "no room")]
fn hits_without_room_are_refused() {
    planes([&[1_u8; 100][..]; 4], 0, &mut [0_u16; 100], &mut [0_u32; 100]);
}
