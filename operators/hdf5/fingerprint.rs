//! The fingerprint of a file's content: what an event's identity starts from.
//!
//! A hash of the size, the dataset headers with their chunk indices, and 64 blocks of 4 KiB spread over the file. It holds
//! no path and no time, so that a copied file is the same file; it does not read the whole, so that planning 10,000 files is quick.

use super::header::Header;
use super::opened::Opened;
use crate::Fault;
use xxhash_rust::xxh3::Xxh3;

const BLOCKS: u64 = 64;
const BLOCK: u64 = 4096;

/// The fingerprint, as 32 hexadecimal digits.
pub fn fingerprint(opened: &Opened, header: Option<&Header>) -> Result<String, Fault> {
    let mut hash = Xxh3::new();
    hash.update(&opened.bytes.to_le_bytes());
    if let Some(header) = header {
        for d in &header.datasets {
            // What the library can make of it is not content.
            let filters: Vec<_> = d.filters.iter().map(|f| (f.id, &f.values)).collect();
            hash.update(&serde_json::to_vec(&(
                &d.path,
                &d.shape,
                &d.element,
                &d.layout,
                filters,
                &d.fill,
                d.stored,
                d.index_hash,
            ))?);
        }
    }
    if opened.bytes <= BLOCKS * BLOCK {
        let mut all = vec![0; usize::try_from(opened.bytes)?];
        opened.read(&mut all, 0)?;
        hash.update(&all);
    } else {
        let mut block = vec![0; BLOCK as usize];
        for i in 0..BLOCKS {
            // The first block begins at the first byte, the last one ends at the last.
            let at = u128::from(opened.bytes - BLOCK) * u128::from(i) / u128::from(BLOCKS - 1);
            opened.read(&mut block, u64::try_from(at)?)?;
            hash.update(&block);
        }
    }
    Ok(format!("{:032x}", hash.digest128()))
}
