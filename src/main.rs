//! calostream: detector images from HDF5 to resolution and efficiency statistics, as a streaming dataflow.
//!
//! Imports run one way: `main -> cli -> (language, plan, flow, ledger, report) -> operators`.

mod plan;
// Until the engine calls it.
#[allow(dead_code, unused_imports)]
mod report;

fn main() {}
