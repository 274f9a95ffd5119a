//! HDF5 files written chunk by chunk, byte for byte the same for the same values.
//!
//! The library has one lock for the whole process, so filters run here, outside of it (shuffle, then zlib by libdeflate),
//! and whole chunks are handed over. Datasets grow with their rows; the last chunk is padded with zeros, as the format asks.
//! Nothing that is written knows the time: times of objects are not tracked.
//!
//! A chunk may also be given as it is to stand in the file ([`Writer::append_packed`]), so that [`super::merge`] can copy those
//! of other files.

use anyhow::{Context, Result, ensure};
use hdf5_metno as library;
use hdf5_metno_sys as raw;
use libdeflater::{CompressionLvl, Compressor};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The type of a dataset's elements, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Four bytes.
    F32,
    /// Eight bytes.
    F64,
    /// Eight bytes, an integer with a sign.
    I64,
}

impl Element {
    /// Bytes of one.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

/// Values of rows, in C order.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Four bytes each.
    F32(&'a [f32]),
    /// Eight bytes each.
    F64(&'a [f64]),
    /// Eight bytes each.
    I64(&'a [i64]),
}

/// A dataset to be written: its first axis counts rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its path in the file.
    pub name: String,
    /// The shape of one row.
    pub shape: Vec<usize>,
    /// The type of its elements.
    pub element: Element,
    /// An attribute that is a list of texts: its name, and the texts.
    pub texts: Option<(String, Vec<String>)>,
}

/// How chunks are cut and filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    /// Rows of a chunk.
    pub rows: usize,
    /// Level of gzip, 1 to 9; none for no compression.
    pub gzip: Option<u8>,
    /// Whether bytes are grouped by their place in the element before they are compressed.
    pub shuffle: bool,
}

/// Compresses chunks.
pub struct Packer(Option<Compressor>);

impl Packer {
    /// As these chunks want it.
    pub fn new(chunks: Chunks) -> Result<Self> {
        let level = |level: u8| CompressionLvl::new(i32::from(level)).map_err(|_| anyhow::anyhow!("gzip level {level}"));
        Ok(Self(chunks.gzip.map(level).transpose()?.map(Compressor::new)))
    }

    /// The bytes of a chunk (shuffled, where chunks are) as they stand in the file. The same bytes give the same.
    pub fn pack(&mut self, plain: &[u8], into: &mut Vec<u8>) -> Result<()> {
        into.clear();
        match &mut self.0 {
            None => into.extend_from_slice(plain),
            Some(compressor) => {
                into.resize(compressor.zlib_compress_bound(plain.len()), 0);
                let size = compressor.zlib_compress(plain, into).context("zlib")?;
                into.truncate(size);
            }
        }
        Ok(())
    }
}

/// A file being written.
pub struct Writer {
    path: PathBuf,
    file: library::File,
    datasets: Vec<Open>,
    chunks: Chunks,
    packer: Packer,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

struct Open {
    dataset: library::Dataset,
    spec: Spec,
    rows: usize,
}

impl Writer {
    /// Creates (or replaces) the file with empty datasets.
    pub fn create(path: &Path, specs: &[Spec], chunks: Chunks) -> Result<Self> {
        ensure!(chunks.rows > 0, "a chunk needs at least one row");
        let describe = || format!("can't write {}", path.display());
        let mut options = library::File::with_options();
        let file = options
            .with_fcpl(|p| p.obj_track_times(false))
            .with_fapl(|p| p.file_locking(false))
            .create(path)
            .with_context(describe)?;
        let mut datasets = Vec::with_capacity(specs.len());
        for spec in specs {
            let builder = file.new_dataset_builder().obj_track_times(false).chunk(rows_first(chunks.rows, &spec.shape));
            let builder = if chunks.shuffle { builder.shuffle() } else { builder };
            let builder = chunks.gzip.map_or(builder.clone(), |level| builder.deflate(level));
            let mut extents = vec![library::Extent::resizable(0)];
            extents.extend(spec.shape.iter().map(|n| library::Extent::fixed(*n)));
            let builder = match spec.element {
                Element::F32 => builder.empty::<f32>(),
                Element::F64 => builder.empty::<f64>(),
                Element::I64 => builder.empty::<i64>(),
            };
            let dataset = builder.shape(library::Extents::from(extents)).create(spec.name.as_str()).with_context(describe)?;
            if let Some((name, texts)) = &spec.texts {
                let texts: Vec<library::types::VarLenUnicode> =
                    texts.iter().map(|t| t.parse()).collect::<Result<_, _>>().with_context(describe)?;
                dataset.new_attr_builder().with_data(&texts).create(name.as_str()).with_context(describe)?;
            }
            datasets.push(Open { dataset, spec: spec.clone(), rows: 0 });
        }
        let packer = Packer::new(chunks)?;
        Ok(Self { path: path.to_owned(), file, datasets, chunks, packer, plain: Vec::new(), packed: Vec::new() })
    }

    /// Appends one chunk to a dataset: `rows` rows, as many as a chunk has, or fewer in the last.
    pub fn append(&mut self, dataset: usize, rows: usize, values: Values<'_>) -> Result<()> {
        let Self { path, datasets, chunks, .. } = &*self;
        let spec = &datasets[dataset].spec;
        let row: usize = spec.shape.iter().product();
        let cells = chunks.rows * row;
        match (values, spec.element) {
            (Values::F32(v), Element::F32) if v.len() == rows * row => {
                bytes(v, f32::to_le_bytes, cells, chunks.shuffle, &mut self.plain);
            }
            (Values::F64(v), Element::F64) if v.len() == rows * row => {
                bytes(v, f64::to_le_bytes, cells, chunks.shuffle, &mut self.plain);
            }
            (Values::I64(v), Element::I64) if v.len() == rows * row => {
                bytes(v, i64::to_le_bytes, cells, chunks.shuffle, &mut self.plain);
            }
            _ => anyhow::bail!("the values do not fit {} of {}", spec.name, path.display()),
        }
        let mut packed = std::mem::take(&mut self.packed);
        self.packer.pack(&self.plain, &mut packed)?;
        let done = self.append_packed(dataset, rows, &packed);
        self.packed = packed;
        done
    }

    /// Appends one chunk as it is to stand in the file, which is [packed](Packer::pack); see [`append`](Self::append).
    pub fn append_packed(&mut self, dataset: usize, rows: usize, packed: &[u8]) -> Result<()> {
        let (open, chunk) = (&mut self.datasets[dataset], self.chunks.rows);
        ensure!(rows <= chunk && open.rows % chunk == 0, "chunks of {} must be whole", open.spec.name);
        let offset = open.rows;
        open.rows += rows;
        open.dataset
            .resize(rows_first(open.rows, &open.spec.shape))
            .and_then(|()| write_chunk(&open.dataset, offset, open.spec.shape.len(), packed))
            .with_context(|| format!("can't write {}", self.path.display()))
    }

    /// Closes the file; its bytes are on disk when this returns.
    pub fn finish(self) -> Result<()> {
        let Self { path, file, datasets, .. } = self;
        let describe = || format!("can't write {}", path.display());
        drop(datasets);
        file.flush().with_context(describe)?;
        file.close().with_context(describe)?;
        File::options().write(true).open(&path).and_then(|f| f.sync_all()).with_context(describe)
    }
}

fn rows_first(rows: usize, shape: &[usize]) -> Vec<usize> {
    std::iter::once(rows).chain(shape.iter().copied()).collect()
}

/// The bytes of a chunk of `cells` elements, zero behind the values: plane by plane where they are shuffled.
fn bytes<T: Copy, const N: usize>(values: &[T], split: fn(T) -> [u8; N], cells: usize, shuffle: bool, into: &mut Vec<u8>) {
    into.clear();
    into.resize(cells * N, 0);
    if shuffle {
        for (plane, target) in into.chunks_exact_mut(cells).enumerate() {
            for (byte, value) in target.iter_mut().zip(values) {
                *byte = split(*value)[plane];
            }
        }
    } else {
        for (target, value) in into.chunks_exact_mut(N).zip(values) {
            target.copy_from_slice(&split(*value));
        }
    }
}

/// Hands a filtered chunk to the library.
#[allow(unsafe_code)]
fn write_chunk(dataset: &library::Dataset, row: usize, inner: usize, packed: &[u8]) -> library::Result<()> {
    let mut offset = vec![0u64; inner + 1];
    offset[0] = row as u64;
    library::sync::sync(|| {
        // SAFETY: the dataset's handle is open as long as `dataset` is borrowed; `offset` has an entry for each of its
        // axes and `packed` has the length that is given; the library keeps neither. `sync` holds the library's lock.
        let code = unsafe {
            raw::h5d::H5Dwrite_chunk(
                dataset.id(),
                raw::h5p::H5P_DEFAULT,
                0,
                offset.as_ptr(),
                packed.len(),
                packed.as_ptr().cast(),
            )
        };
        if code < 0 { Err(library::Error::query().unwrap_or_else(|e| e)) } else { Ok(()) }
    })
}
