//! Rows of a dataset: by the own path where the layout is proven, by the reader process everywhere else.
//!
//! The own path reads chunks with `pread` and keeps those that the next rows may need, so that each is decoded once however
//! the batches are cut. Invariant: at most the chunks of the bands that the last rows touched are kept, and as many free
//! buffers as were in use at once.

use super::chunk_list::Entry;
use super::decode::{self, Chunk, Decoder};
use super::header::{Dataset, Layout};
use super::index::{Index, Kept};
pub use super::opened::Opened;
pub use super::own::{is_own, unknown_filter};
use super::process::Reader;
use crate::Fault;
use arrow::buffer::MutableBuffer;
use std::collections::HashMap;
use std::ops::Range;

/// How the values of a dataset are had.
#[derive(Debug)]
enum Method {
    Contiguous(Option<u64>),
    Chunks { index: Box<Index>, shape: Vec<usize>, kept: Vec<(u64, Option<Chunk>)> },
    Library,
}

/// Reads the rows of one dataset of one file, in any order, best from the first to the last.
#[derive(Debug)]
pub struct Rows {
    dataset: Dataset,
    method: Method,
    decoder: Decoder,
}

/// A run of rows that stand in one piece; no values where nothing but zeros is.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The values of the whole piece (a chunk).
    pub values: Option<Values<'a>>,
    /// The first row within the piece.
    pub first: usize,
    /// The number of rows.
    pub rows: usize,
}

/// The values of whole rows.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// The elements, one after the other.
    Plain(&'a [u8]),
    /// Block by block the first bytes of all elements, then the second bytes of all elements, ...
    Planes {
        /// Of the whole piece.
        bytes: &'a [u8],
        /// Elements of a block; the last one may have fewer.
        block: usize,
    },
    /// The elements, one after the other, still in the file.
    Stored(Stored<'a>),
}

/// Rows that stand in the file as they are.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    opened: &'a Opened,
    address: u64,
    dataset: &'a str,
}

impl Stored<'_> {
    /// Reads all of `into` from byte `from` on.
    pub fn read(&self, into: &mut [u8], from: usize) -> Result<(), Fault> {
        self.opened.read(into, self.address + from as u64).map_err(|fault| of(self.dataset, fault))
    }
}

/// A fault with the dataset that it is about.
fn of(dataset: &str, fault: Fault) -> Fault {
    match fault {
        Fault::Content(reason) => Fault::Content(format!("`{dataset}`: {reason}")),
        machine @ Fault::Machine(_) => machine,
    }
}

impl Rows {
    /// Prepares to read any rows; takes the chunk index where there is one.
    pub fn new(dataset: &Dataset, opened: &Opened, reader: &mut Reader) -> Result<Self, Fault> {
        Self::of(dataset, opened, reader, None, 0..u64::MAX)
    }

    /// Prepares to read `rows`; a long chunk index is taken from where it is kept, or kept there.
    pub fn of(
        dataset: &Dataset,
        opened: &Opened,
        reader: &mut Reader,
        kept: Option<Kept<'_>>,
        rows: Range<u64>,
    ) -> Result<Self, Fault> {
        let method = match &dataset.layout {
            _ if !is_own(dataset) => Method::Library,
            Layout::Contiguous { address } => Method::Contiguous(*address),
            Layout::Chunked { chunk, .. } => {
                let shape = chunk.iter().map(|n| usize::try_from(*n)).collect::<Result<_, _>>()?;
                Method::Chunks { index: Index::new(dataset, opened, reader, kept, rows)?.into(), shape, kept: Vec::new() }
            }
            _ => Method::Library,
        };
        Ok(Self { dataset: dataset.clone(), method, decoder: Decoder::default() })
    }

    /// The dataset.
    #[must_use]
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// True where the library has to be asked, member by member, with [`Reader::rows`].
    #[must_use]
    pub fn by_library(&self) -> bool {
        matches!(self.method, Method::Library)
    }

    /// Bytes of a row as they stand in the file.
    fn row_bytes(&self) -> Result<usize, Fault> {
        let bytes = self.dataset.row_elements().checked_mul(self.dataset.element.bytes());
        bytes
            .and_then(|b| usize::try_from(b).ok())
            .ok_or_else(|| Fault::content(format!("a row of `{}` is too large", self.dataset.path)))
    }

    /// The elements of `rows` rows from `first` on, as they stand in the file but for the filters.
    pub fn plain(&mut self, opened: &Opened, first: u64, rows: usize) -> Result<MutableBuffer, Fault> {
        let row_bytes = self.row_bytes()?;
        let mut out = MutableBuffer::from_len_zeroed(rows * row_bytes);
        if let Some(fill) = &self.dataset.fill {
            out.as_slice_mut().chunks_exact_mut(fill.len()).for_each(|element| element.copy_from_slice(fill));
        }
        self.load(opened, first, rows)?;
        match &self.method {
            Method::Contiguous(None) => {}
            Method::Contiguous(Some(address)) => {
                self.place(*address, first, rows, row_bytes)
                    .and_then(|at| opened.read(out.as_slice_mut(), at))
                    .map_err(|fault| self.at(fault))?;
            }
            Method::Chunks { index, shape, kept } => {
                let size = usize::try_from(self.dataset.element.bytes())?;
                let whole: Vec<usize> = self.dataset.shape.iter().map(|n| usize::try_from(*n)).collect::<Result<_, _>>()?;
                for (number, chunk) in kept {
                    if let Some(chunk) = chunk {
                        let offset: Vec<usize> =
                            index.grid().offset(*number).into_iter().map(usize::try_from).collect::<Result<_, _>>()?;
                        place(chunk, size, shape, &offset, &whole, usize::try_from(first)?, rows, out.as_slice_mut());
                    }
                }
            }
            Method::Library => return Err(Fault::content(format!("`{}` is read by the library", self.dataset.path))),
        }
        Ok(out)
    }

    /// The same rows piece by piece as they lie in memory or in the file, where every piece has whole rows and what was never
    /// written is zeros.
    pub fn runs<'a>(&'a mut self, opened: &'a Opened, first: u64, rows: usize) -> Result<Option<Vec<Run<'a>>>, Fault> {
        if self.dataset.fill.is_some() {
            return Ok(None);
        }
        let row_bytes = self.row_bytes()?;
        let shape = match &self.method {
            Method::Library => return Ok(None),
            Method::Contiguous(None) => return Ok(Some(vec![Run { values: None, first: 0, rows }])),
            Method::Contiguous(Some(address)) => {
                let address = self.place(*address, first, rows, row_bytes).map_err(|fault| self.at(fault))?;
                let stored = Stored { opened, address, dataset: &self.dataset.path };
                return Ok(Some(vec![Run { values: Some(Values::Stored(stored)), first: 0, rows }]));
            }
            Method::Chunks { shape, .. } => shape,
        };
        let whole_rows = shape.iter().zip(&self.dataset.shape).skip(1).all(|(c, n)| *c as u64 == *n);
        if !whole_rows {
            return Ok(None);
        }
        let height = shape[0] as u64;
        self.load(opened, first, rows)?;
        let Method::Chunks { kept, .. } = &self.method else { return Ok(None) };
        let end = first + rows as u64;
        let mut runs = Vec::new();
        for (number, chunk) in kept {
            let (from, to) = (first.max(number * height), end.min((number + 1) * height));
            if from >= to {
                continue;
            }
            let values = chunk.as_ref().map(|chunk| match chunk {
                Chunk::Planes { bytes, block } => Values::Planes { bytes, block: *block },
                Chunk::Plain(bytes) => Values::Plain(bytes),
            });
            runs.push(Run { values, first: usize::try_from(from - number * height)?, rows: usize::try_from(to - from)? });
        }
        Ok(Some(runs))
    }

    /// Where rows of a contiguous dataset begin in the file.
    fn place(&self, address: u64, first: u64, rows: usize, row_bytes: usize) -> Result<u64, Fault> {
        let bytes = |rows: u64| rows.checked_mul(row_bytes as u64);
        let at = bytes(first).and_then(|o| o.checked_add(address));
        let end = at.and_then(|at| at.checked_add(bytes(rows as u64)?));
        at.filter(|_| end.is_some()).ok_or_else(|| Fault::content("it lies outside of the file"))
    }

    /// Decodes the chunks that these rows touch, in order, and forgets the others.
    fn load(&mut self, opened: &Opened, first: u64, rows: usize) -> Result<(), Fault> {
        let chunk_bytes = usize::try_from(self.dataset.chunk_bytes().map_err(Fault::Content)?)?;
        let Method::Chunks { index, kept, .. } = &mut self.method else { return Ok(()) };
        let numbers = index.grid().numbers(first..first + rows as u64);
        let (low, high) = (numbers.start, numbers.end);
        index.reach(numbers)?;
        let (old, gone): (Vec<_>, Vec<_>) =
            std::mem::take(kept).into_iter().partition(|(number, _)| (low..high).contains(number));
        gone.into_iter().filter_map(|(_, chunk)| chunk).for_each(|chunk| self.decoder.free(chunk));
        let mut old: HashMap<u64, Option<Chunk>> = old.into_iter().collect();
        for number in low..high {
            let decoded = match old.remove(&number) {
                Some(chunk) => (number, chunk),
                None => {
                    let chunk = match index.get(number) {
                        Some(entry) => Some(chunk(opened, &self.dataset, &mut self.decoder, entry, chunk_bytes).map_err(
                            |fault| match fault {
                                Fault::Content(reason) => Fault::Content(format!(
                                    "chunk {:?} of `{}`: {reason}",
                                    index.grid().offset(number),
                                    self.dataset.path
                                )),
                                machine @ Fault::Machine(_) => machine,
                            },
                        )?),
                        None => None,
                    };
                    (number, chunk)
                }
            };
            kept.push(decoded);
        }
        Ok(())
    }

    fn at(&self, fault: Fault) -> Fault {
        of(&self.dataset.path, fault)
    }
}

fn chunk(opened: &Opened, dataset: &Dataset, decoder: &mut Decoder, entry: Entry, bytes: usize) -> Result<Chunk, Fault> {
    let mut raw = decoder.buffer(usize::try_from(entry.size)?);
    opened.read(&mut raw, entry.address)?;
    let size = usize::try_from(dataset.element.bytes())?;
    decoder.decode(raw, &dataset.filters, entry.mask, bytes, size).map_err(Fault::Content)
}

/// Copies the part of a chunk that lies in rows `first..first + rows` of a dataset of shape `whole` to where it belongs in
/// `out` (those rows). `shape` and `offset` are the chunk's, in elements of `size` bytes.
#[allow(clippy::too_many_arguments)]
fn place(
    chunk: &Chunk,
    size: usize,
    shape: &[usize],
    offset: &[usize],
    whole: &[usize],
    first: usize,
    rows: usize,
    out: &mut [u8],
) {
    let rank = shape.len();
    // The range of each axis, in the chunk's own coordinates; what reaches over the edge is left out.
    let low = first.saturating_sub(offset[0]);
    let high = (first + rows).min(whole[0]).saturating_sub(offset[0]).min(shape[0]);
    if low >= high {
        return;
    }
    let length: Vec<usize> = (0..rank).map(|d| if d == 0 { high - low } else { shape[d].min(whole[d] - offset[d]) }).collect();
    // Trailing axes that the chunk spans make one run.
    let mut flat = rank - 1;
    while flat > 0 && length[flat] == whole[flat] && shape[flat] == whole[flat] {
        flat -= 1;
    }
    let run: usize = length[flat..].iter().product();
    let stride = |lengths: &[usize], d: usize| lengths[d + 1..].iter().product::<usize>();
    let mut at = vec![0; flat];
    loop {
        let (mut from, mut to) = (0, 0);
        for (d, begin) in offset.iter().enumerate() {
            let own = at.get(d).copied().unwrap_or(0) + if d == 0 { low } else { 0 };
            from += own * stride(shape, d);
            to += (own + begin - if d == 0 { first } else { 0 }) * stride(whole, d);
        }
        let into = &mut out[to * size..(to + run) * size];
        match chunk {
            Chunk::Plain(bytes) => into.copy_from_slice(&bytes[from * size..(from + run) * size]),
            Chunk::Planes { bytes, block } => decode::gather(bytes, *block, size, from, into),
        }
        // The next run: an odometer over the axes before `flat`.
        let mut d = flat;
        loop {
            if d == 0 {
                return;
            }
            d -= 1;
            at[d] += 1;
            if at[d] < length[d] {
                break;
            }
            at[d] = 0;
        }
    }
}
