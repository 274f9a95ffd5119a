//! The bare loop of the benches: it knows where the chunks are, and only reads, unpacks and unshuffles them.
//!
//! A crate of its own, so that it is compiled as calostream's own decoding is; it shares none of that.

use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant;

/// Seconds of work that threads share by taking numbers, from the first to the last of them.
///
/// # Errors
/// What the work says.
pub fn on_threads(threads: usize, work: impl Fn(usize, &dyn Fn() -> usize) -> Result<()> + Sync) -> Result<f64> {
    let (next, begin) = (AtomicUsize::new(0), Barrier::new(threads + 1));
    let run = |index| {
        begin.wait();
        work(index, &|| next.fetch_add(1, Ordering::Relaxed))
    };
    let run = &run;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|index| scope.spawn(move || run(index))).collect();
        begin.wait();
        let begun = Instant::now();
        for thread in threads {
            thread.join().ok().context("a thread")??;
        }
        Ok(begun.elapsed().as_secs_f64())
    })
}

/// A chunk of images: where it is, and how many bytes it unpacks to.
#[derive(Debug, Clone)]
struct Chunk {
    file: Arc<File>,
    begin: u64,
    packed: usize,
    bytes: usize,
}

/// What does nothing but read and unpack.
#[derive(Debug)]
pub struct Bare {
    layout: String,
    chunks: Vec<Chunk>,
}

impl Bare {
    /// The chunks of a layout, from the list that `layouts.py` wrote.
    ///
    /// # Errors
    /// The list is not what was written.
    pub fn new(list: &Path, layout: &str) -> Result<Self> {
        let (mut chunks, mut last): (_, Option<(String, Arc<File>)>) = (Vec::new(), None);
        for line in std::fs::read_to_string(list)?.lines() {
            let [of, path, begin, packed, bytes] = line.split('\t').collect::<Vec<_>>()[..] else { bail!("{line}") };
            if of != layout {
                continue;
            }
            let file = match &last {
                Some((known, file)) if known == path => file.clone(),
                _ => Arc::new(File::open(path)?),
            };
            last = Some((path.to_owned(), file.clone()));
            chunks.push(Chunk { file, begin: begin.parse()?, packed: packed.parse()?, bytes: bytes.parse()? });
        }
        ensure!(!chunks.is_empty(), "no chunks of {layout}");
        Ok(Self { layout: layout.to_owned(), chunks })
    }

    /// Bytes of the images.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    /// Seconds on so many threads, into buffers that are used again and again.
    ///
    /// # Errors
    /// A chunk can't be unpacked.
    pub fn seconds(&self, threads: usize) -> Result<f64> {
        on_threads(threads, |_, next| {
            let (mut raw, mut planes, mut dense) = (Vec::new(), Vec::new(), Vec::new());
            let (mut inflate, mut zstd) = (libdeflater::Decompressor::new(), zstd::bulk::Decompressor::new()?);
            while let Some(chunk) = self.chunks.get(next()) {
                raw.resize(chunk.packed, 0);
                planes.resize(chunk.bytes, 0);
                dense.resize(chunk.bytes, 0);
                chunk.file.read_exact_at(&mut raw, chunk.begin)?;
                let found = match self.layout.as_str() {
                    "gzip" => inflate.zlib_decompress(&raw, &mut planes)?,
                    "zstd" => zstd.decompress_to_buffer(&raw, &mut planes)?,
                    "lzf" => {
                        planes = lzf::decompress(&raw, chunk.bytes).map_err(|e| anyhow::anyhow!("{e:?}"))?;
                        planes.len()
                    }
                    "lz4" => lz4(&raw, &mut planes)?,
                    "blosc" => blosc(&raw, &mut planes, &mut dense)?,
                    "contiguous" => raw.len(),
                    other => bail!("{other}"),
                };
                ensure!(found == chunk.bytes, "{found} bytes of {}", chunk.bytes);
                if !matches!(self.layout.as_str(), "blosc" | "contiguous") {
                    unshuffle(&planes, &mut dense);
                }
                black_box((&raw, &dense));
            }
            Ok(())
        })
    }
}

fn lz4(raw: &[u8], out: &mut [u8]) -> Result<usize> {
    let word = |at: usize| u32::from_be_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]) as usize;
    let (mut at, mut found) = (12, 0);
    for part in out.chunks_mut(word(8)) {
        let packed = &raw[at + 4..][..word(at)];
        if packed.len() == part.len() {
            part.copy_from_slice(packed);
        } else {
            lz4::block::decompress_to_buffer(packed, Some(i32::try_from(part.len())?), part)?;
        }
        (at, found) = (at + 4 + packed.len(), found + part.len());
    }
    Ok(found)
}

/// Blocks, each of four streams of one byte plane each (the last block of one stream).
fn blosc(raw: &[u8], work: &mut [u8], out: &mut [u8]) -> Result<usize> {
    let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]) as usize;
    ensure!(raw[2] == 0x21 && raw[3] == 4, "flags {:#x}", raw[2]);
    let block = word(8);
    let mut found = 0;
    for (number, into) in out.chunks_mut(block).enumerate() {
        let mut at = word(16 + 4 * number);
        let work = &mut work[..into.len()];
        let streams = if into.len() == block { 4 } else { 1 };
        for part in work.chunks_exact_mut(into.len() / streams) {
            let packed = &raw[at + 4..][..word(at)];
            if packed.len() == part.len() {
                part.copy_from_slice(packed);
            } else {
                lz4::block::decompress_to_buffer(packed, Some(i32::try_from(part.len())?), part)?;
            }
            at += 4 + packed.len();
        }
        unshuffle(work, into);
        found += into.len();
    }
    Ok(found)
}

fn unshuffle(planes: &[u8], dense: &mut [u8]) {
    let n = planes.len() / 4;
    let [a, b, c, d] = [0, 1, 2, 3].map(|b| &planes[b * n..][..n]);
    for ((((cell, a), b), c), d) in dense.chunks_exact_mut(4).zip(a).zip(b).zip(c).zip(d) {
        cell.copy_from_slice(&u32::from_le_bytes([*a, *b, *c, *d]).to_le_bytes());
    }
}
