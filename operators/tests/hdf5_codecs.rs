//! Every codec of the own path on files that h5py and hdf5plugin write, and on chunks that somebody has damaged.

#![allow(clippy::unwrap_used)]

use calostream_operators::Fault;
use calostream_operators::hdf5::decode::{Chunk, Decoder};
use calostream_operators::hdf5::header::{Dataset, Layout};
use calostream_operators::hdf5::index::Index;
use calostream_operators::hdf5::probe;
use calostream_operators::hdf5::process::Reader;
use calostream_operators::hdf5::rows::{Opened, Rows};
use calostream_operators::work::Runtime;
use oracle::python_in;
use std::path::Path;

/// Datasets of many types and shapes, packed in every way that there is; and what h5py reads of each, in a file of its name.
const FILES: &str = "
import h5py, hdf5plugin, numpy as np, warnings
from hdf5plugin import Blosc, Blosc2, Bitshuffle, LZ4, Zstd
rng = np.random.default_rng(1)

def sparse(*shape, dtype='<f4'):
    return (rng.gamma(.5, 20, shape) * (rng.random(shape) < .12)).astype(dtype)

def smooth(*shape, dtype='<i4'):
    return (np.cumsum(rng.integers(-3, 4, int(np.prod(shape)))).reshape(shape) * 5).astype(dtype)

data = {
    'sparse': (sparse(50, 9, 7, 11), (20, 9, 7, 11)),
    'cut': (sparse(23, 17, 13), (5, 7, 13)),
    'line': (sparse(3001), (1000,)),
    'wide': (sparse(13, 101, dtype='<f8'), (6, 101)),
    'half': (sparse(40, 33, dtype='<f2'), (9, 33)),
    'big': (sparse(29, 5, 5, dtype='>f4'), (8, 5, 5)),
    'bytes': (rng.integers(0, 3, (70, 41)).astype('u1'), (70, 41)),
    'shorts': (smooth(999, 3, dtype='<i2'), (100, 3)),
    'smooth': (smooth(4000, 5), (1024, 5)),
    'noise': (rng.integers(0, 2**32, (300, 7), dtype='u4'), (64, 7)),
    'zeros': (np.zeros((90, 8, 8), 'f4'), (32, 8, 8)),
    'constant': (np.full((60, 10, 10), 2.5, 'f4'), (30, 10, 10)),
    'large': (sparse(16, 25, 25, 25), (16, 25, 25, 25)),
    'record': (np.zeros(500, [('a', '<f4'), ('b', 'u1'), ('c', '<f8')]), (100,)),
}
data['record'][0]['a'][:] = rng.random(500)

ways = {'gzip': dict(compression='gzip', shuffle=True), 'gzip9-sum': dict(compression='gzip', compression_opts=9, fletcher32=True)}
ways |= {'lzf': dict(compression='lzf'), 'lzf-shuffle-sum': dict(compression='lzf', shuffle=True, fletcher32=True)}
ways |= {'lz4': LZ4(), 'lz4-blocks': LZ4(nbytes=1000), 'zstd': Zstd(), 'zstd-shuffle': dict(**Zstd(19), shuffle=True)}
ways |= {f'blosc-{c}-{s}': Blosc(c, 5, s) for c in ('blosclz', 'lz4', 'lz4hc', 'snappy', 'zlib', 'zstd') for s in (0, 1, 2)}
ways |= {'blosc-9': Blosc('blosclz', 9, 1), 'blosc-1': Blosc('lz4', 1, 1), 'blosc-0': Blosc('lz4', 0, 1)}
ways |= {f'blosc2-{c}-{s}': Blosc2(c, 5, s) for c in ('blosclz', 'lz4', 'lz4hc', 'zlib', 'zstd') for s in (0, 1, 2)}
ways |= {'blosc2-delta': Blosc2('lz4', 5, 3), 'blosc2-trunc': Blosc2('zstd', 5, 4), 'blosc2-9': Blosc2('blosclz', 9, 1), 'blosc2-0': Blosc2('lz4', 0, 1)}
ways |= {f'bitshuffle-{c}-{n}': Bitshuffle(n, c) for c in ('none', 'lz4', 'zstd') for n in (0, 64)}

written = 0
for way, how in ways.items():
    with h5py.File(way + '.h5', 'w') as f:
        for name, (values, chunks) in data.items():
            try:
                f.create_dataset(name, data=values, chunks=chunks, **how)
            except Exception:
                continue
            written += 1
        for name in f:
            f[name][...].tofile(f'{way}.{name}.bin')
print(written)
";

/// Every dataset of every file in the folder.
fn each(folder: &Path, mut look: impl FnMut(&Dataset, &Opened, &mut Reader, &str)) -> usize {
    let runtime = Runtime { reader: env!("CARGO_BIN_EXE_calostream-reader").into(), ..Runtime::default() };
    let mut reader = Reader::new(&runtime);
    let mut seen = 0;
    for file in probe(&format!("{}/*.h5", folder.display()), &runtime).unwrap().iter() {
        let opened = Opened::open(&file.path).unwrap_or_else(|e| panic!("{e}"));
        let header = file.header.as_ref().unwrap();
        assert_eq!(header.unreadable, []);
        for dataset in &header.datasets {
            look(dataset, &opened, &mut reader, Path::new(&file.path).file_stem().unwrap().to_str().unwrap());
            seen += 1;
        }
    }
    seen
}

#[test]
fn every_codec_gives_what_h5py_reads_and_survives_damage() {
    let folder = tempfile::tempdir().unwrap();
    let written: usize = python_in(folder.path(), FILES).trim().parse().unwrap();
    assert!(written > 600, "{written} datasets were written");
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let seen = each(folder.path(), |dataset, opened, reader, way| {
        let mut rows = Rows::new(dataset, opened, reader).unwrap_or_else(|e| panic!("{e}"));
        assert!(!rows.by_library(), "{way} {}", dataset.path);
        let expected = std::fs::read(folder.path().join(format!("{way}.{}.bin", dataset.path))).unwrap();
        // In steps that are no multiples of a chunk.
        let (length, mut found) = (dataset.shape[0], Vec::new());
        let step = (length / 3).max(1);
        for first in (0..length).step_by(step as usize) {
            let part = rows.plain(opened, first, step.min(length - first) as usize);
            found.extend_from_slice(part.unwrap_or_else(|e| panic!("{way} {}: {e}", dataset.path)).as_slice());
        }
        assert!(found == expected, "{way} {}", dataset.path);
        damage(dataset, opened, reader, &mut random);
    });
    assert_eq!(seen, written);
}

/// Chunks with bytes changed, cut off, or claimed to be of another length: an error or a chunk of that length, never a panic.
fn damage(dataset: &Dataset, opened: &Opened, reader: &mut Reader, random: &mut impl FnMut(usize) -> usize) {
    let mut index = Index::new(dataset, opened, reader, None, 0..u64::MAX).unwrap_or_else(|e| panic!("{e}"));
    index.reach(0..1).unwrap_or_else(|e| panic!("{e}"));
    let Layout::Chunked { .. } = &dataset.layout else { panic!("not chunked") };
    let bytes = usize::try_from(dataset.chunk_bytes().unwrap()).unwrap();
    let entry = index.get(0).unwrap();
    let mut raw = vec![0; usize::try_from(entry.size).unwrap()];
    opened.read(&mut raw, entry.address).unwrap_or_else(|e: Fault| panic!("{e}"));
    let mut decoder = Decoder::default();
    for _ in 0..if raw.len() < 10_000 { 40 } else { 10 } {
        let mut bad = raw.clone();
        for _ in 0..1 + random(3) {
            // Headers and lengths are at the front.
            let within = if random(2) == 0 { bad.len().min(120) } else { bad.len() };
            let at = random(within);
            bad[at] = [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)];
        }
        if random(4) == 0 {
            bad.truncate(random(bad.len()));
        }
        let length = if random(8) == 0 { bytes + random(64) } else { bytes };
        let size = usize::try_from(dataset.element.bytes()).unwrap();
        if let Ok(Chunk::Plain(found) | Chunk::Planes { bytes: found, .. }) =
            decoder.decode(bad, &dataset.filters, entry.mask, length, size)
        {
            assert_eq!(found.len(), length);
        }
    }
}
