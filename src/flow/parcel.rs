//! What travels along the edges of the dataflow: a batch of a unit, or the news that a unit or a part is over.
//!
//! Between processes a batch travels as an Arrow IPC stream. A [`Chunk`] counts as one record whatever is in it: timely
//! drops what counts as none, and with it would go the news that a file had no survivors.

use super::budget::Permit;
use super::kept::KeptRun;
use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use std::cell::OnceCell;
use std::io::{Cursor, Write};
use std::sync::Arc;
use timely::bytes::arc::Bytes;
use timely::dataflow::channels::ContainerBytes;

/// What a parcel holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// Rows of a unit, in order.
    Batch(RecordBatch),
    /// A piece of a run that is in memory, by its number: to another process it goes as a batch.
    Kept(Arc<KeptRun>, usize),
    /// The unit is over.
    UnitEnd,
    /// The part is over.
    PartEnd,
    /// The part can't be finished: a unit in it is to be quarantined. What was made of it is dropped.
    Abort,
}

/// Something on its way, with the permit for the memory it takes.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// The unit within the phase.
    pub unit: u64,
    /// The worker it is for, where it is exchanged.
    pub to: usize,
    /// What it holds.
    pub content: Content,
    /// The permit; lost between processes, where the window holds instead.
    pub permit: Option<Arc<Permit>>,
}

/// A parcel as a timely container.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The parcel; none only where timely takes it out.
    pub parcel: Option<Parcel>,
    // timely asks for the length and then for the bytes of each send: encoded once.
    encoded: OnceCell<Vec<u8>>,
}

impl Clone for Chunk {
    fn clone(&self) -> Self {
        Self { parcel: self.parcel.clone(), encoded: OnceCell::new() }
    }
}

impl Parcel {
    /// The memory of its rows.
    pub fn bytes(&self) -> u64 {
        match &self.content {
            Content::Batch(batch) => batch.get_array_memory_size() as u64,
            Content::Kept(..) | Content::UnitEnd | Content::PartEnd | Content::Abort => 0,
        }
    }
}

impl From<Parcel> for Chunk {
    fn from(parcel: Parcel) -> Self {
        Self { parcel: Some(parcel), encoded: OnceCell::new() }
    }
}

impl timely::Accountable for Chunk {
    fn record_count(&self) -> i64 {
        i64::from(self.parcel.is_some())
    }
}

impl Chunk {
    fn encode(&self) -> &[u8] {
        self.encoded.get_or_init(|| {
            let parcel = self.parcel.as_ref().expect("only full chunks are sent");
            let kind: u64 = match &parcel.content {
                Content::Batch(_) | Content::Kept(..) => 0,
                Content::UnitEnd => 1,
                Content::PartEnd => 2,
                Content::Abort => 3,
            };
            let mut bytes = Vec::new();
            for word in [kind, parcel.unit, parcel.to as u64] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            let batch = match &parcel.content {
                Content::Batch(batch) => Some(batch.clone()),
                Content::Kept(run, piece) => Some(run.piece(*piece).expect("a piece of rows that were put aside together")),
                Content::UnitEnd | Content::PartEnd | Content::Abort => None,
            };
            if let Some(batch) = batch {
                write_ipc(&batch, &mut bytes).expect("a planned batch can be written as Arrow IPC");
            }
            bytes
        })
    }
}

impl ContainerBytes for Chunk {
    fn from_bytes(bytes: Bytes) -> Self {
        let word = |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
        let length = usize::try_from(word(0)).expect("a length");
        let content = match word(1) {
            0 => Content::Batch(read_ipc(&bytes[32..8 + length]).expect("the bytes that the other process has written")),
            1 => Content::UnitEnd,
            2 => Content::PartEnd,
            _ => Content::Abort,
        };
        Parcel { unit: word(2), to: usize::try_from(word(3)).expect("a worker"), content, permit: None }.into()
    }

    fn length_in_bytes(&self) -> usize {
        8 + self.encode().len().next_multiple_of(8)
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        let bytes = self.encode();
        let padding = bytes.len().next_multiple_of(8) - bytes.len();
        let mut write = || -> std::io::Result<()> {
            writer.write_all(&(bytes.len() as u64).to_le_bytes())?;
            writer.write_all(bytes)?;
            writer.write_all(&[0; 8][..padding])
        };
        write().expect("timely's buffers take what was announced");
    }
}

/// Writes a batch as an Arrow IPC stream of its own.
pub fn write_ipc(batch: &RecordBatch, to: &mut Vec<u8>) -> Result<()> {
    let mut writer = StreamWriter::try_new(to, &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    Ok(())
}

/// Reads the batch of [`write_ipc`].
pub fn read_ipc(bytes: &[u8]) -> Result<RecordBatch> {
    let mut reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    Ok(reader.next().context("an empty Arrow IPC stream")??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};

    #[test]
    fn every_parcel_comes_back_from_its_bytes() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1001));
        let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
        for content in [Content::Batch(batch.slice(7, 101)), Content::Batch(batch.slice(0, 0)), Content::UnitEnd, Content::Abort]
        {
            let chunk = Chunk::from(Parcel { unit: 1 << 40, to: 3, content, permit: None });
            let mut bytes = Vec::new();
            chunk.into_bytes(&mut bytes);
            assert_eq!((bytes.len(), bytes.len() % 8), (chunk.length_in_bytes(), 0));
            let mut slab = timely::bytes::arc::BytesMut::from(bytes);
            let length = slab.len();
            let back = Chunk::from_bytes(slab.extract_to(length)).parcel.unwrap();
            let sent = chunk.parcel.unwrap();
            assert_eq!((back.unit, back.to), (sent.unit, sent.to));
            match (&back.content, &sent.content) {
                (Content::Batch(a), Content::Batch(b)) => assert_eq!(a, b),
                (a, b) => assert_eq!(std::mem::discriminant(a), std::mem::discriminant(b)),
            }
        }
    }
}
