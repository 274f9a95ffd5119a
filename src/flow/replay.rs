//! Units read again when a run is over, on one thread, through the steps without a branch behind their source: to say which
//! events are behind a bin, and to prove an order.
//!
//! What comes out of a unit is what came out of it in the run, batch by batch: steps are begun anew with what their surveys
//! found, and give the rest of a unit at its end.

use anyhow::{Result, bail};
use arrow::array::RecordBatch;
use calostream_operators::work::{Device, Map, Source};
use calostream_operators::{Fault, Unit, Work};

/// A step behind the source.
enum Way {
    Map(Box<dyn Map>),
    Device(Box<dyn Device>),
}

/// Steps at work: a source, and what its batches go through.
pub struct Replay {
    source: Box<dyn Source>,
    ways: Vec<Way>,
}

impl Replay {
    /// The source first, then the steps behind it in their order: maps and devices.
    pub fn new(steps: impl IntoIterator<Item = Result<Work>>) -> Result<Self> {
        let mut steps = steps.into_iter();
        let Some(Work::Source(source)) = steps.next().transpose()? else { bail!("a source that is none") };
        let way = |work| match work? {
            Work::Map(map) => Ok(Way::Map(map)),
            Work::Device(device) => Ok(Way::Device(device)),
            _ => bail!("a step that is no map"),
        };
        Ok(Self { source, ways: steps.map(way).collect::<Result<_>>()? })
    }

    /// True where rows are as the source gives them.
    pub fn is_direct(&self) -> bool {
        self.ways.is_empty()
    }

    /// Gives `end` what comes out of a unit.
    pub fn read(&mut self, unit: &Unit, end: &mut dyn FnMut(&RecordBatch) -> Result<(), Fault>) -> Result<(), Fault> {
        let Self { source, ways } = self;
        for batch in source.read(unit)? {
            through(ways, batch?, end)?;
        }
        for way in 0..ways.len() {
            let Way::Device(device) = &mut ways[way] else { continue };
            for batch in device.end()? {
                through(&mut ways[way + 1..], batch, end)?;
            }
        }
        Ok(())
    }
}

/// Takes a batch through these steps.
fn through(ways: &mut [Way], batch: RecordBatch, end: &mut dyn FnMut(&RecordBatch) -> Result<(), Fault>) -> Result<(), Fault> {
    let Some((way, others)) = ways.split_first_mut() else { return end(&batch) };
    let made = match way {
        Way::Map(map) => vec![map.map(batch)?.batch],
        Way::Device(device) => device.push(batch)?,
    };
    made.into_iter().try_for_each(|batch| through(others, batch, end))
}
