//! What tests of the statistics share: batches made of numbers, folds run over them, and Python to compare with.

use crate::column;
use crate::statistics::figure::Summary;
use crate::statistics::sums::Sums;
use crate::work::{Map, Runtime};
use crate::{Facts, Operator, Output, Place, Placed, Planned, Start, Work, Worker};
use arrow::array::{ArrayRef, AsArray, DictionaryArray, Float64Array, Int8Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Int8Type, Schema};
use oracle::python_in;
use serde_json::Value;
use std::sync::Arc;

/// A word at a place.
pub fn at<T>(line: u32, column: u32, value: T) -> Placed<T> {
    Placed { value, place: Place { line, column } }
}

/// A word without a place.
pub fn word(value: &str) -> Placed<String> {
    Placed::unplaced(value.to_owned())
}

/// Rows of these samples, by number, and these columns: `energy [GeV]` is a column with a unit.
pub fn batch(samples: &[&str], classes: &[i8], columns: &[(&str, &[f64])]) -> RecordBatch {
    let names: Vec<String> = samples.iter().map(|s| (*s).to_owned()).collect();
    let mut fields = vec![Field::new(column::SAMPLE, DataType::Dictionary(DataType::Int8.into(), DataType::Utf8.into()), false)];
    let values = Arc::new(StringArray::from_iter_values(&names));
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(DictionaryArray::<Int8Type>::new(Int8Array::from(classes.to_vec()), values))];
    for (name, values) in columns {
        let (name, unit) = name.strip_suffix(']').and_then(|n| n.split_once(" [")).map_or((*name, None), |(n, u)| (n, Some(u)));
        fields.push(column::with_unit(Field::new(name, DataType::Float64, false), unit));
        arrays.push(Arc::new(Float64Array::from(values.to_vec())));
    }
    RecordBatch::try_new(Arc::new(column::with_samples(Schema::new(fields), &names)), arrays).unwrap()
}

/// The same with identities of events: the numbers of the rows.
pub fn with_events(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let event = Arc::new(Field::new(column::EVENT, DataType::UInt64, false));
    let fields: Vec<_> = schema.fields().iter().cloned().chain([event]).collect();
    let events: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..batch.num_rows() as u64));
    let columns = batch.columns().iter().cloned().chain([events]).collect();
    RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())), columns).unwrap()
}

/// The texts of a table's column; empty where there is none.
pub fn texts_of(table: &RecordBatch, name: &str) -> Vec<String> {
    let texts = column::get(table, name).as_string::<i32>();
    texts.iter().map(|text| text.unwrap_or_default().to_owned()).collect()
}

/// The stream that such batches make.
pub fn stream(batch: &RecordBatch) -> Output {
    Output { name: String::new(), schema: batch.schema(), table: false, rows: None, row_bytes: 8 }
}

/// The problems of a step on rows like these, as people see them: `line:column what (help)`.
pub fn problems(operator: &dyn Operator, batch: &RecordBatch) -> Vec<String> {
    let mut problems = operator.plan(&Facts::default(), &[stream(batch)]).expect_err("problems");
    problems.sort();
    let text = |p: &crate::Problem| {
        let help = p.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}:{} {}{help}", p.place.line, p.place.column, p.what)
    };
    problems.iter().map(text).collect()
}

/// Plans and runs a fold over a batch cut into pieces, each summed by itself; merged from last to first.
pub fn fold(operator: &dyn Operator, batch: &RecordBatch, pieces: usize) -> (Sums, Summary) {
    let inputs = [stream(batch)];
    let facts = Facts::default();
    let planned = operator.plan(&facts, &inputs).unwrap();
    let runtime = Runtime::default();
    let worker = Worker { index: 0, peers: 1 };
    let start = Start { worker, facts: &facts, inputs: &inputs, outputs: &planned.outputs, runtime: &runtime };
    let Work::Fold(mut fold) = operator.start(&start).unwrap() else { panic!("a fold") };
    let length = batch.num_rows().div_ceil(pieces).max(1);
    let parts: Vec<Sums> = (0..batch.num_rows())
        .step_by(length)
        .map(|first| {
            let mut sums = Sums::default();
            fold.add(&batch.slice(first, length.min(batch.num_rows() - first)), &mut sums).unwrap();
            sums
        })
        .collect();
    let mut sums = Sums::default();
    parts.iter().rev().for_each(|part| sums.merge(part));
    let summary = fold.finish(&sums).unwrap();
    assert_eq!(summary.table.schema().fields(), planned.outputs[0].schema.fields());
    (sums, summary)
}

/// A map that surveys all rows first: its plan, its work, and what the survey says.
pub fn surveyed(operator: &dyn Operator, rows: &RecordBatch, facts: &Facts) -> (Planned, Box<dyn Map>, Summary) {
    let inputs = [stream(rows)];
    let planned = operator.plan(facts, &inputs).unwrap();
    let worker = Worker { index: 0, peers: 1 };
    let mut runtime = Runtime::default();
    let start = Start { worker, facts, inputs: &inputs, outputs: &planned.outputs, runtime: &runtime };
    let (mut survey, mut sums) = (operator.survey(&start).unwrap(), Sums::default());
    survey.add(rows, &mut sums).unwrap();
    let summary = survey.finish(&sums).unwrap();
    runtime.surveyed = Some(Arc::new(sums));
    let start = Start { worker, facts, inputs: &inputs, outputs: &planned.outputs, runtime: &runtime };
    let Work::Map(map) = operator.start(&start).unwrap() else { panic!("a map") };
    (planned, map, summary)
}

/// Runs a Python script that finds `given` (JSON) and prints JSON.
pub fn python(script: &str, given: &Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let prelude = "import json, sys, numpy as np\n\
        given = json.load(open('given.json'))\n\
        floats = lambda bits: np.array(bits, dtype=np.uint64).view(np.float64)\n\
        bits = lambda values: [int(b) for b in np.asarray(values, dtype=np.float64).reshape(-1).view(np.uint64)]\n\
        answer = lambda it: print(json.dumps(it))\n";
    std::fs::write(folder.path().join("given.json"), given.to_string()).unwrap();
    serde_json::from_str(&python_in(folder.path(), &format!("{prelude}{script}"))).unwrap()
}

/// The bits of floats: how they go to Python unharmed, NaN and infinities too.
pub fn bits(values: &[f64]) -> Value {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Floats from their bits.
pub fn floats(bits: &Value) -> Vec<f64> {
    bits.as_array().unwrap().iter().map(|b| f64::from_bits(b.as_u64().unwrap())).collect()
}

/// A column of a table.
pub fn column_of(table: &RecordBatch, name: &str) -> Vec<f64> {
    column::numbers(table, name).unwrap()
}

/// Numbers that look random, uniform in [0, 1), the same each time.
pub fn uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut row = 0;
    move || {
        row += 1;
        (column::event_key(row, seed, "trial") >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Numbers that look normal, the same each time (Box, Muller 1958).
pub fn normal(seed: u64) -> impl FnMut() -> f64 {
    let mut uniform = uniform(seed);
    move || (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
}

/// Asserts that numbers are equal to a relative precision.
pub fn close(found: &[f64], expected: &[f64], relative: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let equal = f.to_bits() == e.to_bits() || (f.is_nan() && e.is_nan()) || (f - e).abs() <= relative * e.abs();
        assert!(equal, "number {i}: {f:e} is not {e:e}");
    }
}
