//! What is known of Parquet files before planning: those that match a pattern, with their schemas and row groups.
//!
//! A file that is no Parquet file is a fact, not an error: it is quarantined by the plan. A disk that does not answer is an
//! error, because nothing is known of the file then.

use super::caught::caught;
use crate::facts::{FileFacts, Found, ParquetHeader};
use crate::pattern::seen;
use arrow::datatypes::{DataType, Schema};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::RowGroupMetaData;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Files are looked at by so many threads, because on a network each look is a wait.
const THREADS: usize = 8;
/// The sampled blocks of a fingerprint: how many, and their bytes.
const BLOCKS: u64 = 16;
const BLOCK: u64 = 4096;

/// The Parquet files that match a pattern, by path; a sentence where there is none or they can't be looked at.
pub fn probe(pattern: &str) -> Result<Found<ParquetHeader>, String> {
    probe_but(pattern, &BTreeSet::new())
}

/// The same without the files that are hidden.
pub fn probe_but(pattern: &str, hidden: &BTreeSet<String>) -> Result<Found<ParquetHeader>, String> {
    let files = seen(pattern, hidden)?;
    let chunk = files.len().div_ceil(THREADS);
    std::thread::scope(|scope| {
        let looking = |paths: &[String]| paths.iter().map(|path| look(path)).collect::<Result<Vec<_>, _>>();
        let threads: Vec<_> = files.chunks(chunk).map(|paths| scope.spawn(move || looking(paths))).collect();
        let mut facts = Vec::new();
        for thread in threads {
            facts.extend(thread.join().map_err(|_| format!("looking at `{pattern}` broke off"))??);
        }
        Ok(Arc::new(facts))
    })
}

fn look(path: &str) -> Result<FileFacts<ParquetHeader>, String> {
    let failed = |error: &io::Error| format!("can't read {path}: {error}");
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => {
            let header = Err(format!("can't be opened: {error}"));
            return Ok(FileFacts { path: path.into(), bytes: 0, fingerprint: String::new(), header });
        }
        Err(error) => return Err(failed(&error)),
    };
    let found = file.metadata().map_err(|e| failed(&e))?;
    if found.is_dir() {
        let header = Err("it is a folder; name the files in it".to_owned());
        return Ok(FileFacts { path: path.into(), bytes: 0, fingerprint: String::new(), header });
    }
    let bytes = found.len();
    let fingerprint = fingerprint(&file, bytes).map_err(|e| failed(&e))?;
    let header = match caught(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())) {
        Ok(metadata) => Ok(header(&metadata)),
        Err(reason) => Err(format!("no readable Parquet file: {reason}")),
    };
    Ok(FileFacts { path: path.into(), bytes, fingerprint, header })
}

/// A hash of the size, the footer (where every column chunk and its size stands) and blocks spread over the file.
fn fingerprint(file: &File, bytes: u64) -> io::Result<String> {
    let mut hash = Xxh3::new();
    hash.update(&bytes.to_le_bytes());
    let mut buffer = Vec::new();
    let mut add = |from: u64, length: u64| {
        buffer.resize(usize::try_from(length).unwrap_or_default(), 0);
        file.read_exact_at(&mut buffer, from)?;
        hash.update(&buffer);
        Ok::<_, io::Error>(buffer.first_chunk::<4>().map_or(0, |length| u64::from(u32::from_le_bytes(*length))))
    };
    if bytes <= BLOCKS * BLOCK {
        add(0, bytes)?;
    } else {
        let footer = add(bytes - 8, 8)?.min(bytes - 8);
        add(bytes - 8 - footer, footer)?;
        for block in 0..BLOCKS {
            add((bytes - BLOCK) / (BLOCKS - 1) * block, BLOCK)?;
        }
    }
    Ok(format!("{:032x}", hash.digest128()))
}

fn header(metadata: &ArrowReaderMetadata) -> ParquetHeader {
    let groups = metadata.metadata().row_groups();
    let widths = leaf_bytes(metadata.schema());
    ParquetHeader {
        schema: metadata.schema().clone(),
        row_groups: groups.iter().map(|g| u64::try_from(g.num_rows()).unwrap_or_default()).collect(),
        uncompressed: groups.iter().map(|g| in_memory(g, &widths, |_| true)).sum(),
    }
}

/// Bytes of a value of each leaf in memory, in the order of the file's columns; none where values have no fixed size.
pub(super) fn leaf_bytes(schema: &Schema) -> Vec<Option<u64>> {
    fn leaves(of: &DataType, into: &mut Vec<Option<u64>>) {
        match of {
            DataType::Struct(fields) => fields.iter().for_each(|f| leaves(f.data_type(), into)),
            DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) | DataType::Map(f, _) => {
                leaves(f.data_type(), into);
            }
            DataType::Dictionary(key, _) => into.push(key.primitive_width().map(|w| w as u64)),
            DataType::Boolean => into.push(Some(1)),
            DataType::FixedSizeBinary(bytes) => into.push(u64::try_from(*bytes).ok()),
            other => into.push(other.primitive_width().map(|w| w as u64)),
        }
    }
    let mut widths = Vec::new();
    schema.fields().iter().for_each(|f| leaves(f.data_type(), &mut widths));
    widths
}

/// Bytes in memory of the decoded leaves of a row group that are `included`. Encoded sizes would mislead: cells that are
/// delta-packed take half of what they take in memory.
pub(super) fn in_memory(group: &RowGroupMetaData, widths: &[Option<u64>], included: impl Fn(usize) -> bool) -> u64 {
    let bytes = |(leaf, column): (usize, &parquet::file::metadata::ColumnChunkMetaData)| {
        if !included(leaf) {
            return 0;
        }
        let count = |n: i64| u64::try_from(n).unwrap_or_default();
        match widths.get(leaf).copied().flatten() {
            Some(width) => count(column.num_values()).saturating_mul(width),
            None => count(column.uncompressed_size()),
        }
    };
    group.columns().iter().enumerate().map(bytes).fold(0, u64::saturating_add)
}
