//! calostream: detector images from HDF5 to resolution and efficiency statistics, as a streaming dataflow.
//!
//! Imports run one way: `main -> cli -> (language, plan, flow, ledger, report) -> operators`.
#![allow(dead_code)]

mod flow;
mod ledger;
mod plan;

fn main() {}
