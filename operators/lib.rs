//! What an operator is, and the list of all of them.
//!
//! An operator is three things kept apart, because they happen at three times: its *parameters*, as read from a pipeline
//! file; its *plan*, a pure function from facts and input schemas to output schemas or to everything that is wrong; and its
//! *work*, a value that says which of a few shapes it has, so that the engine (which this crate does not know) can
//! schedule, count, spill and commit it.
//!
//! A new operator is one file and one line in [`registry!`] below.
//!
//! Invariants: `plan` touches no file and no clock; `start` is called once a worker and never while planning; what runs on a
//! dataflow thread never waits.

#[cfg(test)]
mod bad_input;
pub mod column;
pub mod draw;
pub mod error;
pub mod expression;
pub mod facts;
pub mod feeding;
pub mod form;
pub mod hdf5;
pub mod hits;
pub mod kept;
pub mod kinematics;
pub mod meter;
pub mod motion;
pub mod names;
pub mod npz;
pub mod onnx;
pub mod pattern;
pub mod permutation;
pub mod place;
pub mod planned;
mod random;
pub mod registry;
pub mod schema;
pub mod shower;
pub mod slices;
pub mod stamp;
pub mod statistics;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod trial;
pub mod varint;
pub mod weights;
mod wide;
pub mod words;
pub mod work;

pub use error::Fault;
pub use facts::{Facts, Need};
pub use place::{Place, Placed, Problem};
pub use planned::{Assembled, Lanes, Output, Planned, Reads, Shape, Unit};
pub use work::{Start, Work, Worker};

use std::fmt::Debug;

/// A step's parameters, as read from a pipeline file.
pub trait Operator: Debug + Send + Sync {
    /// What has to be looked up in the world (files, models) before [`plan`](Self::plan) can be pure.
    fn needs(&self) -> Vec<Need> {
        Vec::new()
    }

    /// What this step makes of its inputs, or everything that is wrong with it.
    ///
    /// Pure. The planner calls it twice: with the full input schemas, and again with the columns that nobody reads taken
    /// out; so it must look columns up by name and never by number.
    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>>;

    /// What sums up the first input before the work of this step begins, where it was planned to
    /// ([`Planned::survey`]); what came out is there at the start ([`work::Runtime::surveyed`]). The inputs have just the
    /// columns that were asked for.
    ///
    /// The table is the step's own and not one that another step has made: so nobody has to write two steps, with axes that
    /// agree, for a weight or for bins of equal population.
    fn survey(&self, _: &Start<'_>) -> anyhow::Result<Box<dyn work::Fold>> {
        anyhow::bail!("there is nothing to survey")
    }

    /// Of a shuffle: how many rows of each class go out at each output, from how many of each class come; about so many, where that
    /// is decided row by row. Without counts, just one number for each output, where it follows from what was asked for. None where
    /// nobody knows; a problem where it is more than can be meant. Pure.
    fn forecast(&self, _: &[Output], _: Option<&[u64]>) -> Result<Option<Vec<Vec<u64>>>, Problem> {
        Ok(None)
    }

    /// Of a shuffle: what of a made output is not as it was asked for, from how many rows of each class there were and how many
    /// were taken. Pure.
    fn fell_short(&self, _: &[Output], _output: usize, _classes: &[(u64, u64)]) -> Option<String> {
        None
    }

    /// The work of this step on one worker. Opens files, sessions, buffers; lists nothing.
    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work>;

    /// What has to be measured here, once and by one process, before the first unit, and is the same for the whole run from then
    /// on (how many rows a model takes at a time): a name and a number, which come back in [`work::Runtime::settled`]. Most have none.
    fn settle(&self, _: &Start<'_>) -> anyhow::Result<Option<(String, u64)>> {
        Ok(None)
    }
}

registry::registry! {
    /// Sources.
    read {
        generate_showers => GenerateShowers,
        read_hdf5 => ReadHdf5,
        read_npz => ReadNpz,
        read_parquet => ReadParquet,
    }
    /// Row by row: cuts, derived variables, the choice of columns.
    row {
        keep => Keep,
        derive => Derive,
        select => Select,
        label => Label,
        pair => Pair,
        reweight => Reweight,
        resample => Resample,
    }
    /// Images: augmentation, row by row.
    image {
        flip => Flip,
        rotate => Rotate,
        noise => Noise,
    }
    /// New orders.
    mix {
        premix => Premix,
        join => Join,
    }
    /// Networks.
    infer {
        infer => Infer,
    }
    /// Sums, and what people quote of them.
    reduce {
        histogram => Histogram,
        resolution => Resolution,
        roc => Roc,
        efficiency => Efficiency,
        confusion => Confusion,
        mass_peak => MassPeak,
        scan => Scan,
    }
    /// Files and pages.
    write {
        write_hdf5 => WriteHdf5,
        write_parquet => WriteParquet,
        write_arrow => WriteArrow,
        feed => Feed,
        report => Report,
    }
}
