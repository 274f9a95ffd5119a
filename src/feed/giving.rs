//! Batches to bytes, on threads, and bytes to the consumer.
//!
//! Batch number `n` is made by maker `n mod makers` and taken from it in turn, so the stream is the same however many there are.
//! What a maker does: rows are picked into their dense places, and encoded as one Arrow IPC message. The one that hands over
//! only writes; where it waits says who is slower: for a batch (the consumer waits for data), or in writing it (data wait for
//! the consumer).

use super::Going;
use super::lane::Picked;
use super::told::Waits;
use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow::ipc::writer::{DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message};
use std::io::{ErrorKind, Write};
use std::sync::mpsc::{Receiver, SyncSender};

/// A batch as it goes over.
pub struct Encoded {
    epoch: u32,
    /// The position after its last row.
    next: u64,
    rows: u64,
    dictionaries: Vec<EncodedData>,
    message: EncodedData,
}

/// How a stream of the feed's schema is encoded: the numbers of dictionaries are given once, by the schema.
struct Encoder {
    tracker: DictionaryTracker,
    options: IpcWriteOptions,
    schema: Option<EncodedData>,
    context: IpcWriteContext,
}

impl Encoder {
    fn new(going: &Going) -> Self {
        let (mut tracker, options) = (DictionaryTracker::new(false), IpcWriteOptions::default());
        let schema = going.feeding.rows.schema();
        let schema = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &options);
        Self { tracker, options, schema: Some(schema), context: IpcWriteContext::default() }
    }
}

/// What a maker of batches does, until nothing comes or nobody listens.
pub fn make(going: &Going, receive: &Receiver<Picked>, send: &SyncSender<Encoded>) -> Result<()> {
    let mut encoder = Encoder::new(going);
    while let Ok(picked) = receive.recv() {
        let batches: Vec<&RecordBatch> = picked.chunks.iter().filter_map(|chunk| chunk.batch.as_ref()).collect();
        let next = picked.positions.last().map_or(0, |last| last + 1);
        let batch = going.feeding.rows.gather(&batches, &picked.rows, picked.epoch, picked.positions)?;
        drop(batches);
        // What waited may go before the batch is encoded.
        drop(picked.chunks);
        let Encoder { tracker, options, context, .. } = &mut encoder;
        let (dictionaries, message) = IpcDataGenerator::default().encode(&batch, tracker, options, context)?;
        let encoded = Encoded { epoch: picked.epoch, next, rows: batch.num_rows() as u64, dictionaries, message };
        drop(batch);
        if send.send(encoded).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// How handing over came to its end.
pub enum End {
    /// Everything was handed over.
    All,
    /// The consumer went away.
    Gone,
    /// The makers ended before everything was made: something failed.
    Failed,
}

/// Hands over what the makers make, in turn.
pub fn give(going: &Going, makers: &[Receiver<Encoded>], to: &mut dyn Write) -> Result<End> {
    let mut encoder = Encoder::new(going);
    let Some(schema) = encoder.schema.take() else { return Ok(End::Failed) };
    let mut dictionaries_sent = false;
    if gone(write_message(&mut *to, schema, &encoder.options).and_then(|_| Ok(to.flush()?)))? {
        return Ok(End::Gone);
    }
    for maker in makers.iter().cycle() {
        let Ok(encoded) = maker.recv() else { break };
        going.told.waits(Waits::Data);
        let Encoded { epoch, next, rows, dictionaries, message } = encoded;
        let bytes = message.arrow_data.len() as u64;
        let written = (|| {
            if !std::mem::replace(&mut dictionaries_sent, true) {
                for dictionary in dictionaries {
                    write_message(&mut *to, dictionary, &encoder.options)?;
                }
            }
            write_message(&mut *to, message, &encoder.options)?;
            Ok(to.flush()?)
        })();
        if gone(written)? {
            return Ok(End::Gone);
        }
        going.told.given((epoch, next), rows, bytes);
        // Before the first batch, whoever starts the feed waits, and that says nothing of its pace.
        going.told.waits(Waits::Consumer);
    }
    going.told.waits(Waits::Nobody);
    if going.failure.raised() {
        return Ok(End::Failed);
    }
    // The end of an Arrow IPC stream.
    let end = to.write_all(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).and_then(|()| to.flush());
    Ok(if gone(end.map_err(Into::into))? { End::Gone } else { End::All })
}

/// True where the consumer went away.
fn gone<T>(written: Result<T, arrow::error::ArrowError>) -> Result<bool> {
    let left = |kind| matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted);
    match written {
        Ok(_) => Ok(false),
        Err(arrow::error::ArrowError::IoError(_, error)) if left(error.kind()) => Ok(true),
        Err(error) => Err(error).context("the batch could not be handed over"),
    }
}
