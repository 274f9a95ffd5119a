//! How fast hits go to Parquet and back, on one thread; the rate is that of the dense images they stand for.
//!
//! Images like those of Geant4 electrons: 25x25x25 cells, 12.7 % of them filled with numbers whose low bits are noise.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Schema};
use calostream_operators::hits::{HitsBuilder, hits_field, to_dense};
use calostream_operators::read::read_parquet::{Files, ReadParquet, probe};
use calostream_operators::work::{Part, Runtime, Worker};
use calostream_operators::write::write_parquet::{Compression, WriteParquet};
use calostream_operators::{Facts, Operator, Output, Placed, Start, Work};
use std::sync::Arc;
use std::time::Instant;

const ROWS: usize = 4000;
const CELLS: usize = 25 * 25 * 25;

fn events() -> RecordBatch {
    let field = hits_field("ecal", &[25, 25, 25], &[Field::new("energy", DataType::Float32, false)]);
    let mut hits = HitsBuilder::<Float32Type>::default();
    let mut state = 1u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    for _ in 0..ROWS {
        for cell in 0..CELLS as u32 {
            if random() < 0.127 {
                hits.cells.push(cell);
                hits.values.push(-1e-3 * (1.0 - random()).ln());
            }
        }
        hits.end_event();
    }
    let column = hits.finish(&field).expect("hits");
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(column) as ArrayRef]).expect("a batch")
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = events();
    let dense = (ROWS * CELLS * 4) as f64 / 1e6;
    let (facts, runtime) = (Facts::default(), Runtime::default());
    let inputs = [Output { name: String::new(), schema: rows.schema(), table: false, rows: None, row_bytes: 12_000 }];
    let worker = Worker { index: 0, peers: 1 };
    for compression in [Compression::Zstd, Compression::Lz4] {
        let (mut wrote, mut read, mut densified, mut bytes) = (f64::INFINITY, f64::INFINITY, f64::INFINITY, 0);
        for _ in 0..5 {
            let start = Start { worker, facts: &facts, inputs: &inputs, outputs: &[], runtime: &runtime };
            let with = WriteParquet { compression, ..WriteParquet::default() };
            let Ok(Work::Sink(mut sink)) = with.start(&start) else { panic!("a sink") };
            let clock = Instant::now();
            sink.begin(&Part { number: 1, number_in_sample: 1, sample: None, staging: folder.path() }).expect("a part");
            for first in (0..ROWS).step_by(500) {
                sink.write(&rows.slice(first, 500)).expect("written");
            }
            let path = sink.finish().expect("finished").remove(0).path;
            wrote = wrote.min(clock.elapsed().as_secs_f64());
            bytes = path.metadata().map_or(0, |m| m.len());
            let word = path.to_str().expect("a name").to_owned();
            let found = Facts { parquet: [(word.clone(), probe(&word))].into(), ..Facts::default() };
            let step = ReadParquet { files: Some(Placed::unplaced(Files(vec![word]))), samples: None, weights: None };
            let planned = step.plan(&found, &[]).expect("a plan");
            let start = Start { worker, facts: &found, inputs: &[], outputs: &planned.outputs, runtime: &runtime };
            let Ok(Work::Source(mut source)) = step.start(&start) else { panic!("a source") };
            let clock = Instant::now();
            let mut batches = Vec::new();
            for unit in &planned.units {
                batches.extend(source.read(unit).expect("a unit").map(|batch| batch.expect("a batch")));
            }
            read = read.min(clock.elapsed().as_secs_f64());
            let mut image = Vec::new();
            let mut spent = 0.0;
            for batch in &batches {
                image.resize(batch.num_rows() * CELLS, 0.0f32);
                let clock = Instant::now();
                to_dense(batch.column(0), CELLS, 0, 0, batch.num_rows(), &mut image).expect("dense");
                spent += clock.elapsed().as_secs_f64();
            }
            densified = densified.min(spent);
        }
        println!(
            "{compression:?}: write {:.0}, read {:.0}, to dense {:.0} MB/s dense-equivalent, {:.1} MB for {ROWS} events",
            dense / wrote,
            dense / read,
            dense / densified,
            bytes as f64 / 1e6
        );
    }
}
