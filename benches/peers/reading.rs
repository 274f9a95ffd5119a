//! Reading without the engine: `read_hdf5` to hits in memory, and on to Parquet, on a few threads.

use anyhow::{Result, bail, ensure};
use bare::on_threads;
use calostream_operators::read::read_hdf5::ReadHdf5;
use calostream_operators::work::{Part, Runtime, Sink, Source, Work, Worker};
use calostream_operators::write::write_parquet::WriteParquet;
use calostream_operators::{Facts, Fault, Operator, Output, Planned, Start};
use std::hint::black_box;
use std::path::{Path, PathBuf};

/// A `read_hdf5` step that is planned.
pub struct Reading {
    step: ReadHdf5,
    facts: Facts,
    planned: Planned,
    runtime: Runtime,
}

impl Reading {
    /// Of all files in a folder.
    ///
    /// # Errors
    /// They can't be read.
    pub fn plan(folder: &Path, reader: PathBuf) -> Result<Self> {
        let pattern = format!("{}/*.h5", folder.display());
        let step: ReadHdf5 = serde_json::from_value(serde_json::json!({ "schema": "lcd-v1", "files": pattern }))?;
        let runtime = Runtime { reader, ..Runtime::default() };
        let mut facts = Facts::default();
        facts.hdf5.insert(pattern.clone(), calostream_operators::hdf5::probe(&pattern, &runtime));
        let planned = step.plan(&facts, &[]).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        ensure!(planned.quarantined.is_empty(), "{:?}", planned.quarantined);
        Ok(Self { step, facts, planned, runtime })
    }

    fn source(&self, index: usize, peers: usize) -> Result<Box<dyn Source>> {
        let worker = Worker { index, peers };
        let start = Start { worker, facts: &self.facts, inputs: &[], outputs: &self.planned.outputs, runtime: &self.runtime };
        let Work::Source(source) = self.step.start(&start)? else { bail!("`read_hdf5` is no source") };
        Ok(source)
    }

    fn sink(&self, index: usize, peers: usize) -> Result<Box<dyn Sink>> {
        let (worker, step) = (Worker { index, peers }, WriteParquet::default());
        let inputs: &[Output] = &self.planned.outputs;
        let start = Start { worker, facts: &self.facts, inputs, outputs: &[], runtime: &self.runtime };
        let Work::Sink(sink) = step.start(&start)? else { bail!("`write_parquet` is no sink") };
        Ok(sink)
    }

    /// Seconds to hits in memory, on so many threads.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn hits(&self, threads: usize) -> Result<f64> {
        let units = &self.planned.units;
        on_threads(threads, |index, next| {
            let mut source = self.source(index, threads)?;
            while let Some(unit) = units.get(next()) {
                for batch in source.read(unit).map_err(plain)? {
                    black_box(batch.map_err(plain)?);
                }
            }
            Ok(())
        })
    }

    /// Seconds to Parquet: each thread reads a unit and writes it to a part of its own.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub fn parquet(&self, threads: usize, out: &Path) -> Result<f64> {
        let _ = std::fs::remove_dir_all(out);
        std::fs::create_dir_all(out)?;
        let units = &self.planned.units;
        on_threads(threads, |index, next| {
            let (mut source, mut sink) = (self.source(index, threads)?, self.sink(index, threads)?);
            loop {
                let number = next();
                let Some(unit) = units.get(number) else { return Ok(()) };
                let part = Part { number: number as u64 + 1, number_in_sample: number as u64 + 1, sample: None, staging: out };
                sink.begin(&part).map_err(plain)?;
                for batch in source.read(unit).map_err(plain)? {
                    sink.write(&batch.map_err(plain)?).map_err(plain)?;
                }
                sink.finish().map_err(plain)?;
            }
        })
    }
}

fn plain(fault: Fault) -> anyhow::Error {
    anyhow::anyhow!("{fault}")
}
