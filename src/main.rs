//! calostream: detector images from HDF5 to resolution and efficiency statistics, as a streaming dataflow.
//!
//! Imports run one way: `main -> cli -> (language, plan, flow, feed, ledger, report) -> operators`.

mod cli;
mod feed;
mod files;
mod flow;
mod language;
mod ledger;
mod machine;
mod plan;
mod report;

fn main() -> std::process::ExitCode {
    cli::main()
}
