//! What is in an HDF5 file, as data: every dataset with its shape, type, layout and filters.
//!
//! A header is taken once, by the reader process, and travels as JSON; planning needs nothing else of a file. Invariant: sizes
//! in a header that [`Header::check`] accepts multiply without overflow and are not larger than a file of that size can hold.

use super::chunk_list::ChunkList;
use super::element::{Element, Leaf, Number, Numbers, shape_name};
use crate::stamp::Stamp;
use crate::words;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// The datasets of a file, in the order of their paths.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// What can be described.
    pub datasets: Vec<Dataset>,
    /// Paths of what can't be, with the library's reason.
    pub unreadable: Vec<(String, String)>,
    /// The file as the system knew it when this was taken.
    #[serde(default)]
    pub stamp: Option<Stamp>,
    /// Attributes of the file, of its groups and of its datasets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
}

/// An attribute that is short enough to travel with the header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// The path of the object that has it; empty for the file.
    pub path: String,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// A number or a list of them.
    Numbers {
        /// What kind; plain and little-endian.
        number: Number,
        /// The bytes of all of them.
        bytes: Vec<u8>,
    },
    /// A text.
    Text(String),
    /// What is no column, in words.
    Other(String),
}

/// One dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    /// The path from the root group, without the first slash.
    pub path: String,
    /// Lengths of the axes; none for a single value.
    pub shape: Vec<u64>,
    /// What the axes may grow to; none where there is no bound.
    pub max_shape: Vec<Option<u64>>,
    /// True for a null dataspace, which has no values at all.
    pub null: bool,
    /// The type of an element.
    pub element: Element,
    /// Where the values are.
    pub layout: Layout,
    /// What was done to each chunk, in the order in which it was done.
    pub filters: Vec<Filter>,
    /// The bytes of one element where nothing was written; none for zeros.
    pub fill: Option<Vec<u8>>,
    /// Bytes that the values take in the file.
    pub stored: u64,
    /// The unit, where an attribute says it.
    pub unit: Option<String>,
    /// A hash of the chunk index, or of the address of contiguous values.
    pub index_hash: u64,
    /// The chunk index, where it is short enough to be carried along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<ChunkList>,
    /// Bytes of the other files that the values are in (virtual and external datasets).
    #[serde(default)]
    pub elsewhere: u64,
}

/// Where values are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// In one piece, at this byte of the file; none where nothing was written yet.
    Contiguous {
        /// The first byte.
        address: Option<u64>,
    },
    /// In chunks of this shape.
    Chunked {
        /// Lengths of a chunk's axes.
        chunk: Vec<u64>,
        /// True where chunks that reach over the edge are kept without filters.
        bare_edges: bool,
        /// True where the index stands in another order than the library believes when it lists it (an extensible array
        /// along another axis than the first, `H5D__earray_idx_iterate_cb`): the places that it says are wrong.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        turned: bool,
    },
    /// Within the object header.
    Compact,
    /// Put together from other datasets.
    Virtual,
    /// In other files.
    External,
}

/// A filter of the pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// Its registered number.
    pub id: u32,
    /// The name that the file gives it.
    pub name: String,
    /// Its parameters.
    pub values: Vec<u32>,
    /// True where the library has it; the own path knows some that the library does not.
    pub available: bool,
}

/// Chunks that were never written take no bytes, so a file may hold much less than its datasets say. Beyond this a header is
/// not believed.
const BELIEVED_RATIO: u64 = 100_000;
/// What is believed of any file.
const BELIEVED_BYTES: u64 = 1 << 30;
/// One event takes memory at once, so less is believed of it: wire images, the emptiest there are, pack a hundredfold.
const BELIEVED_ROW_RATIO: u64 = 256;
/// What is believed of one event of any file.
const BELIEVED_ROW_BYTES: u64 = 64 << 20;
/// Chunks that one event may be cut into.
const MOST_CHUNKS_IN_A_ROW: u64 = 1 << 16;

impl Header {
    /// The dataset at a path (with or without the first slash).
    #[must_use]
    pub fn dataset(&self, path: &str) -> Option<&Dataset> {
        let path = path.trim_matches('/');
        self.datasets.iter().find(|d| d.path == path)
    }

    /// The paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.datasets.iter().map(|d| d.path.as_str())
    }

    /// Moves what cannot be true in a file of `bytes` bytes from `datasets` to `unreadable`.
    pub fn check(&mut self, bytes: u64) {
        let unreadable = &mut self.unreadable;
        self.datasets.retain(|d| {
            let Some(reason) = d.lie(bytes) else { return true };
            unreadable.push((d.path.clone(), reason));
            false
        });
    }
}

impl Dataset {
    /// Length of axis 0; none for a single value or none at all.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        if self.null { None } else { self.shape.first().copied() }
    }

    /// Bytes of all values; none where that overflows.
    #[must_use]
    pub fn dense_bytes(&self) -> Option<u64> {
        if self.null {
            return Some(0);
        }
        // An axis of length 0 must not hide an overflow of the others.
        self.shape.iter().map(|n| (*n).max(1)).try_fold(self.element.bytes(), u64::checked_mul)
    }

    /// What a file of `bytes` bytes cannot hold, though the dataset says so; none where it may be true.
    ///
    /// What is accepted here bounds the memory that is asked for later: for a row, for a chunk, for the chunks of a row.
    #[must_use]
    pub fn lie(&self, bytes: u64) -> Option<String> {
        let bytes = bytes.saturating_add(self.elsewhere);
        let Some(dense) = self.dense_bytes() else { return Some("its size overflows".into()) };
        if dense > bytes.saturating_mul(BELIEVED_RATIO).saturating_add(BELIEVED_BYTES) {
            return Some(format!("says that it holds {dense} bytes, which a file of {bytes} bytes cannot"));
        }
        let row = if self.null { 0 } else { self.row_elements().saturating_mul(self.element.bytes()) };
        let stored = if matches!(self.layout, Layout::Virtual | Layout::External) { bytes } else { self.stored };
        if row > stored.saturating_mul(BELIEVED_ROW_RATIO).saturating_add(BELIEVED_ROW_BYTES) {
            return Some(format!("says that a row of it takes {row} bytes, which is not believed of {stored} bytes in the file"));
        }
        let chunk = match self.chunk_bytes() {
            Ok(chunk) => chunk,
            Err(reason) => return Some(reason),
        };
        if !matches!(self.layout, Layout::Chunked { .. }) {
            return None;
        }
        // Only chunks that were written take memory, and nothing unpacks to more than its codec can.
        let unpacked = self.filters.iter().map(Filter::best_ratio).max().unwrap_or(1);
        let largest = self.largest_chunk();
        if self.stored > 0 && chunk > largest.saturating_mul(unpacked).saturating_add(1 << 20) {
            return Some(format!("says that a chunk of it holds {chunk} bytes, which {largest} bytes in the file cannot"));
        }
        let band = self.chunks_in_a_row();
        (band > MOST_CHUNKS_IN_A_ROW).then(|| format!("says that each row of it is cut into {band} chunks"))
    }

    /// Bytes of a whole chunk (0 for other layouts), or why it cannot be one.
    pub fn chunk_bytes(&self) -> Result<u64, String> {
        let Layout::Chunked { chunk, .. } = &self.layout else { return Ok(0) };
        if chunk.len() != self.shape.len() || chunk.contains(&0) {
            return Err(format!("a chunk of shape {chunk:?} in a dataset of shape {:?}", self.shape));
        }
        // The format keeps the size of a chunk in 32 bits up to version 4 of the layout message.
        match chunk.iter().copied().try_fold(self.element.bytes(), u64::checked_mul) {
            Some(bytes) if bytes <= 1 << 32 => Ok(bytes),
            _ => Err(format!("a chunk of shape {chunk:?} is larger than 4 GiB")),
        }
    }

    /// Bytes of the largest chunk as it is stored, or an upper bound.
    #[must_use]
    pub fn largest_chunk(&self) -> u64 {
        let rank = self.shape.len();
        let records = self.chunks.as_ref().and_then(|list| list.unpack(rank).ok());
        records.map_or(self.stored, |r| r.chunks_exact(rank + 3).map(|c| c[rank + 1]).max().unwrap_or(0))
    }

    /// Chunks that a row is cut into; 1 for other layouts.
    #[must_use]
    pub fn chunks_in_a_row(&self) -> u64 {
        let Layout::Chunked { chunk, .. } = &self.layout else { return 1 };
        self.shape.iter().zip(chunk).skip(1).map(|(n, c)| n.div_ceil(*c)).fold(1, u64::saturating_mul)
    }

    /// Rows of a chunk; 1 for other layouts.
    #[must_use]
    pub fn chunk_rows(&self) -> u64 {
        match &self.layout {
            Layout::Chunked { chunk, .. } => chunk.first().copied().unwrap_or(1).max(1),
            _ => 1,
        }
    }

    /// Elements of one row.
    #[must_use]
    pub fn row_elements(&self) -> u64 {
        self.shape.iter().skip(1).product()
    }

    /// What the elements are made of: of the member, where they are records.
    pub fn leaf(&self, member: Option<&str>) -> Result<Leaf<'_>, String> {
        self.element.leaf(member).map_err(|e| format!("`{}` {e}", self.path))
    }

    /// The numbers in each element: of the member, where the elements are records.
    pub fn numbers(&self, member: Option<&str>) -> Result<Numbers, String> {
        let Leaf { element, offset, shape } = self.leaf(member)?;
        match element {
            Element::Number(number) | Element::Enum { number, .. } => Ok(Numbers { number: *number, offset, shape }),
            Element::Compound { members, .. } => {
                let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
                Err(format!("`{}` holds records; say which `member`: {}", self.path, names.join(", ")))
            }
            other => Err(format!("`{}` holds {}, not numbers", self.path, other.name())),
        }
    }

    /// `float32 (300, 25, 25, 25)`.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{} {}", self.element.name(), shape_name(&self.shape))
    }
}

impl Value {
    /// The value of a number, a text in quotes, or what it is.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Self::Numbers { number, bytes } => {
                let values: Vec<String> = bytes.chunks_exact(number.bytes.max(1).into()).map(|b| number.show(b)).collect();
                match &values[..] {
                    [one] => one.clone(),
                    many => format!("[{}]", many.join(", ")),
                }
            }
            Self::Other(what) => what.clone(),
        }
    }
}

impl Layout {
    /// In a word or two.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Contiguous { .. } => "contiguous".into(),
            Self::Chunked { chunk, .. } => format!("chunks {}", shape_name(chunk)),
            Self::Compact => "compact".into(),
            Self::Virtual => "virtual".into(),
            Self::External => "external".into(),
        }
    }
}

impl Filter {
    /// How many bytes one packed byte may stand for at most.
    fn best_ratio(&self) -> u64 {
        match self.id {
            // These do not pack.
            2 | 3 => 1,
            1 => 1032,
            // A zstd block of 128 KiB of one value takes four bytes; nothing else that is in use does better.
            _ => 33_000,
        }
    }

    /// `gzip 2`, `shuffle`, `lzf`.
    #[must_use]
    pub fn label(&self) -> String {
        match (self.id, self.values.first()) {
            (1, Some(level)) => format!("gzip {level}"),
            (1, None) => "gzip".into(),
            (2, _) => "shuffle".into(),
            (3, _) => "fletcher32".into(),
            (4, _) => "szip".into(),
            (5, _) => "nbit".into(),
            (6, _) => "scaleoffset".into(),
            (32000, _) => "lzf".into(),
            (32001, _) => "blosc".into(),
            (32004, _) => "lz4".into(),
            (32008, _) => "bitshuffle".into(),
            (32013, _) => "zfp".into(),
            (32015, _) => "zstd".into(),
            (32026, _) => "blosc2".into(),
            (id, _) => format!("filter {id}"),
        }
    }
}

/// Attributes of one object that are shown, and of a file; tables of PyTables have several of each column.
const SHOWN: (usize, usize) = (4, 24);
/// Characters of an attribute that are shown.
const SHOWN_TEXT: usize = 100;

/// The datasets as a table for people: path, shape, type, layout, filters, bytes on disk; and attributes, the first of them
/// or `all`.
#[must_use]
pub fn table(header: &Header, all: bool) -> String {
    let mut rows = vec![["dataset", "shape", "type", "layout", "filters", "bytes", "unit"].map(str::to_owned)];
    for d in &header.datasets {
        let filters: Vec<String> = d.filters.iter().map(Filter::label).collect();
        let shape = if d.null { "none".into() } else { shape_name(&d.shape) };
        let unit = d.unit.clone().unwrap_or_default();
        rows.push([d.path.clone(), shape, d.element.name(), d.layout.name(), filters.join(" + "), d.stored.to_string(), unit]);
    }
    let widths: Vec<usize> = (0..7).map(|c| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
    }
    for (path, reason) in &header.unreadable {
        let _ = writeln!(text, "{path}: {reason}");
    }
    let (mut of_file, mut of_object, mut before) = (0, 0, None);
    for Attribute { path, name, value } in &header.attributes {
        of_object = if before == Some(path) { of_object + 1 } else { 0 };
        before = Some(path);
        if !all && (of_object >= SHOWN.0 || of_file >= SHOWN.1) {
            continue;
        }
        of_file += 1;
        let mut value = value.describe();
        if let Some((end, _)) = value.char_indices().nth(SHOWN_TEXT).filter(|_| !all) {
            value.replace_range(end.., "...");
        }
        let _ = writeln!(text, "{}: {name} = {value}", if path.is_empty() { "the file" } else { path });
    }
    if of_file < header.attributes.len() {
        let more = words::counted((header.attributes.len() - of_file) as u64, "more attribute");
        let _ = writeln!(text, "and {more}; `--all` shows them");
    }
    text
}
