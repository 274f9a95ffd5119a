//! The own decoding against slow and obvious versions of it: filters, chunks cut along every axis, hits of byte planes.

#![allow(clippy::unwrap_used)]

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, UInt16Type};
use calostream_operators::hdf5::decode::{Chunk, Decoder, gather};
use calostream_operators::hdf5::element::{Kind, Number};
use calostream_operators::hdf5::header::Filter;
use calostream_operators::hdf5::images::{Refine, hits_of_plain, hits_of_runs};
use calostream_operators::hdf5::rows::{Run, Values};
use calostream_operators::hits::hits_field;
use calostream_operators::work::Noticed;
use proptest::prelude::*;

fn filter(id: u32) -> Filter {
    Filter { id, name: String::new(), values: Vec::new(), available: true }
}

fn shuffled(bytes: &[u8], size: usize) -> Vec<u8> {
    (0..size).flat_map(|b| bytes.iter().skip(b).step_by(size).copied()).collect()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut packer = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
    let mut out = vec![0; packer.zlib_compress_bound(bytes.len())];
    let length = packer.zlib_compress(bytes, &mut out).unwrap();
    out.truncate(length);
    out
}

fn number(bytes: u8, big_endian: bool) -> Number {
    Number { kind: Kind::Float, bytes, stored: bytes.into(), big_endian, plain: true }
}

/// Shuffled block by block.
fn in_blocks(bytes: &[u8], size: usize, block: usize) -> Vec<u8> {
    bytes.chunks(block * size).flat_map(|part| shuffled(part, size)).collect()
}

/// Cells that are mostly zero, with the odd ones of the field.
fn cell() -> impl Strategy<Value = f64> {
    prop_oneof![8 => Just(0.0), 1 => Just(-0.0), 1 => Just(f64::NAN), 1 => any::<f64>(), 1 => Just(1e-40)]
}

proptest! {
    #[test]
    fn filters_come_off(bytes in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 8..2000), mask in 0u64..4) {
        let bytes = &bytes[..bytes.len() / 8 * 8];
        let mut raw = if mask & 1 == 0 { shuffled(bytes, 8) } else { bytes.to_vec() };
        if mask & 2 == 0 {
            raw = deflated(&raw);
        }
        let decoded = Decoder::default().decode(raw, &[filter(2), filter(1)], mask, bytes.len(), 8).unwrap();
        let found = match decoded {
            Chunk::Plain(found) => found,
            Chunk::Planes { bytes: planes, block } => {
                let mut found = vec![0; bytes.len()];
                gather(&planes, block, 8, 0, &mut found);
                found
            }
        };
        prop_assert_eq!(found, bytes);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(raw in prop::collection::vec(any::<u8>(), 0..300), id in prop::sample::select(vec![1u32, 3, 32000, 32001, 32004, 32008, 32015, 32026]), length in 0usize..5000) {
        if let Ok(Chunk::Plain(bytes) | Chunk::Planes { bytes, .. }) = Decoder::default().decode(raw, &[filter(id)], 0, length, 4) {
            prop_assert_eq!(bytes.len(), length);
        }
    }

    #[test]
    fn gathering_a_range(values in prop::collection::vec(any::<u64>(), 1..60), size in prop::sample::select(vec![1usize, 2, 4, 8]), from in 0usize..60, count in 0usize..60, block in 1usize..70) {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()[..size].to_vec()).collect();
        let from = from.min(values.len());
        let count = count.min(values.len() - from);
        let mut found = vec![0; count * size];
        gather(&in_blocks(&bytes, size, block), block, size, from, &mut found);
        prop_assert_eq!(&found[..], &bytes[from * size..(from + count) * size]);
    }

    #[test]
    fn hits_of_planes_are_the_cells_that_are_not_zero(
        values in prop::collection::vec(cell(), 0..400), cells in 1usize..40, first in 0usize..3, block in 1usize..300, big_endian: bool, threshold in prop::option::of(0.0f64..2.0), drop_negative: bool,
    ) {
        let rows = values.len() / cells;
        let values = &values[..rows * cells];
        let first = first.min(rows);
        let bytes: Vec<u8> = values.iter().flat_map(|v| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() }).collect();
        let planes = in_blocks(&bytes, 8, block);
        let little: Vec<u8> = values[first * cells..].iter().flat_map(|v| v.to_le_bytes()).collect();
        for out in [DataType::Float64, DataType::Float32] {
            let field = hits_field("image", &[cells], &[Field::new("value", out.clone(), false)]);
            let refine = Refine { threshold, drop_negative };
            let mut noticed = [Noticed::new(), Noticed::new()];
            let run = Run { values: Some(Values::Planes { bytes: &planes, block }), first, rows: rows - first };
            let fused = hits_of_runs(&[run], cells, number(8, big_endian), &field, refine, &mut noticed[0]).unwrap_or_else(|e| panic!("{e}"));
            let plain = hits_of_plain(&little, rows - first, cells, number(8, false), &field, refine, &mut noticed[1]).unwrap_or_else(|e| panic!("{e}"));
            let read = &values[first * cells..];
            let negative = read.iter().filter(|v| drop_negative && **v < 0.0).count();
            let dropped = read.iter().filter(|v| v.to_bits() != 0 && !(drop_negative && **v < 0.0) && threshold.is_some_and(|t| v.abs() < t)).count();
            for noticed in noticed {
                let count = |what: &str| noticed.get(what).map_or(0, |n| *n as usize);
                prop_assert_eq!(count("negative cells of `image` dropped"), negative);
                prop_assert_eq!(count("cells of `image` dropped below the threshold"), dropped);
                let rounded = read.iter().filter(|v| v.to_bits() != 0 && !v.is_nan() && f64::from(**v as f32) != **v).count();
                prop_assert_eq!(count("values of `image` rounded to Float32"), if out == DataType::Float32 { rounded } else { 0 });
            }
            for column in [&fused, &plain] {
                let list = column.as_list::<i32>();
                prop_assert_eq!(list.len(), rows - first);
                for (row, image) in values[first * cells..].chunks(cells).enumerate() {
                    let kept = |v: &f64| !(threshold.is_some_and(|t| v.abs() < t) || drop_negative && *v < 0.0);
                    let slow: Vec<(u16, u64)> = image.iter().enumerate().filter(|(_, v)| kept(v)).filter_map(|(cell, v)| {
                        let bits = if out == DataType::Float64 { v.to_bits() } else { u64::from((*v as f32).to_bits()) };
                        (bits != 0).then_some((cell as u16, bits))
                    }).collect();
                    let hits = list.value(row);
                    let cells = hits.as_struct().column(0).as_primitive::<UInt16Type>().values().to_vec();
                    let bits: Vec<u64> = match out {
                        DataType::Float64 => hits.as_struct().column(1).as_primitive::<Float64Type>().values().iter().map(|v| v.to_bits()).collect(),
                        _ => hits.as_struct().column(1).as_primitive::<Float32Type>().values().iter().map(|v| u64::from(v.to_bits())).collect(),
                    };
                    prop_assert_eq!(cells.into_iter().zip(bits).collect::<Vec<_>>(), slow);
                }
            }
        }
    }
}

#[test]
fn many_small_chunks_cost_as_much_each_as_a_few() {
    // A batch of a dataset in chunks of 64 bytes: 131,072 of them. Looking through all free buffers for each took minutes.
    let (mut decoder, begun) = (Decoder::default(), std::time::Instant::now());
    for _ in 0..3 {
        let chunks: Vec<Vec<u8>> = (0..131_072).map(|_| decoder.buffer(64)).collect();
        chunks.into_iter().for_each(|bytes| decoder.free(Chunk::Plain(bytes)));
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}
