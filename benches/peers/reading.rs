//! Reading without the engine: `read_hdf5` and `read_parquet` to hits in memory, on to dense batches, and to Parquet, on a few threads.

use anyhow::{Result, bail, ensure};
use bare::on_threads;
use calostream_operators::column;
use calostream_operators::onnx::feed::{Cells, Feed, Part, Plan, What};
use calostream_operators::onnx::norm::Transform;
use calostream_operators::onnx::tensor::Prepare;
use calostream_operators::read::read_hdf5::ReadHdf5;
use calostream_operators::read::read_parquet::{self, ReadParquet};
use calostream_operators::work::{self, Runtime, Sink, Source, Work, Worker};
use calostream_operators::write::write_parquet::WriteParquet;
use calostream_operators::{Facts, Fault, Operator, Output, Planned, Start};
use std::hint::black_box;
use std::path::{Path, PathBuf};

/// A step that reads, planned.
pub struct Reading {
    step: Box<dyn Operator>,
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
        Ok(Self { step: Box::new(step), facts, planned, runtime })
    }

    /// Of all parts in a folder.
    ///
    /// # Errors
    /// They can't be read.
    pub fn plan_parts(folder: &Path) -> Result<Self> {
        let pattern = format!("{}/*.parquet", folder.display());
        let step: ReadParquet = serde_json::from_value(serde_json::json!({ "files": pattern }))?;
        let mut facts = Facts::default();
        facts.parquet.insert(pattern.clone(), read_parquet::probe(&pattern));
        let planned = step.plan(&facts, &[]).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        Ok(Self { step: Box::new(step), facts, planned, runtime: Runtime::default() })
    }

    /// Seconds to make dense batches of 128 of the images, which are hits in memory, on so many threads.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn dense(&self, threads: usize, images: &[(&str, usize)]) -> Result<f64> {
        const BATCH: usize = 128;
        let mut source = self.source(0, 1)?;
        let mut all = Vec::new();
        for unit in &self.planned.units {
            for batch in source.read(unit).map_err(plain)? {
                let batch = batch.map_err(plain)?;
                all.extend((0..batch.num_rows()).step_by(BATCH).map(|at| batch.slice(at, BATCH.min(batch.num_rows() - at))));
            }
        }
        let plans: Vec<Plan> = images
            .iter()
            .map(|(column, cells)| {
                let part = Part {
                    column: (*column).to_owned(),
                    what: What::Value(0),
                    transform: Transform::default(),
                    cells: Cells::All,
                    order: None,
                };
                Plan { to: Prepare::F32, hits: false, row: *cells, parts: vec![part] }
            })
            .collect();
        on_threads(threads, |_, next| {
            let mut feeds: Vec<Feed> = plans.iter().map(|plan| Feed::new(plan.clone(), BATCH, None)).collect();
            while let Some(batch) = all.get(next()) {
                for (feed, plan) in feeds.iter_mut().zip(&plans) {
                    let prepared = plan.prepare(|name| column::get(batch, name)).map_err(plain)?;
                    feed.fill(&prepared, 0, batch.num_rows(), 0).map_err(plain)?;
                    black_box(&feed);
                }
            }
            Ok(())
        })
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
                let part =
                    work::Part { number: number as u64 + 1, number_in_sample: number as u64 + 1, sample: None, staging: out };
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
