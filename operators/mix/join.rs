//! `join`: rows of two inputs that belong to one event, by a key that both recorded; never by the order of files.
//!
//! Rows pair where all key columns are equal, and the samples where both inputs have them (event numbers are counted within a
//! sample). A row whose key is missing, has no partner, or is not the only one of its input with that key is cut and counted:
//! what is ambiguous is not guessed.
//!
//! A pair has the columns of the first input, then those of the second without the key; where it came from in the second is in
//! `file_2` and `row_2`. Pairs come in the order of a hash of their keys, which does not depend on files or workers; a
//! `premix` puts them in any other.

use crate::column::{self, FILE, PROVENANCE, ROW, SAMPLE};
use crate::registry::Describe;
use crate::work::{Join as Joins, Mapped};
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use anyhow::Context;
use arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Pairs the rows of two inputs by a key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The columns that make the key, of the same names in both inputs: `[run, event_number]`. Whole numbers or texts.
    on: Vec<Placed<String>>,
}

impl Describe for Join {
    const ABOUT: &'static str = "Pairs the rows of two inputs by a key; rows without a partner are cut and counted";
    const EXAMPLE: &'static str = "both:\n  from: [planes, points]\n  join: { on: [run, event_number] }\n";
    const INPUTS: RangeInclusive<usize> = 2..=2;
}

/// The columns of the second input as the pairs have them.
const SECOND: [(&str, &str); 2] = [(FILE, "file_2"), (ROW, "row_2")];

impl Join {
    /// The key columns: the sample, where both have it, and those that were named.
    fn keys(&self, inputs: &[Output]) -> Vec<String> {
        let both = inputs.iter().all(|input| input.schema.field_with_name(SAMPLE).is_ok());
        let sample = both.then(|| SAMPLE.to_owned());
        sample.into_iter().chain(self.on.iter().map(|name| name.value.clone())).collect()
    }

    /// The type as which the values of each key are compared.
    fn types(&self, inputs: &[Output]) -> Option<Vec<DataType>> {
        let of = |name: &String| {
            let found = inputs.iter().map(|i| i.schema.field_with_name(name).map(|f| f.data_type().clone()));
            let found: Vec<DataType> = found.collect::<Result<_, _>>().ok()?;
            match &found[..] {
                all if all.iter().all(is_text) => Some(DataType::Utf8),
                [one, rest @ ..] if one.is_integer() && rest.iter().all(|t| t == one) => Some(one.clone()),
                all if all.iter().all(DataType::is_integer) => Some(DataType::Decimal128(38, 0)),
                _ => None,
            }
        };
        self.keys(inputs).iter().map(of).collect()
    }

    fn pair_schema(&self, inputs: &[Output]) -> Schema {
        let [first, second] = inputs else { return Schema::empty() };
        let mut fields = first.schema.fields().to_vec();
        let keys = self.keys(inputs);
        for field in second.schema.fields() {
            let renamed = SECOND.iter().find(|(name, _)| name == field.name());
            match renamed {
                Some((_, name)) => fields.push(Arc::new(field.as_ref().clone().with_name(*name))),
                None if PROVENANCE.contains(&field.name().as_str()) || keys.contains(field.name()) => {}
                None => fields.push(field.clone()),
            }
        }
        let mut metadata = second.schema.metadata().clone();
        metadata.extend(first.schema.metadata().clone());
        Schema::new_with_metadata(fields, metadata)
    }
}

fn is_text(of: &DataType) -> bool {
    match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

impl Operator for Join {
    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let mut problems = Vec::new();
        if self.on.is_empty() {
            let what = "no key to pair rows by".to_owned();
            problems.push(Problem { place: crate::Place::default(), what, help: Some("name it: `on: [event_number]`".into()) });
        }
        for name in &self.on {
            let missing = inputs.iter().find_map(|input| column::field(&input.schema, name).err());
            if let Some(problem) = missing {
                problems.push(problem);
                continue;
            }
            let one = Self { on: vec![name.clone()] };
            if one.types(inputs).is_none() {
                let types: Vec<String> = inputs
                    .iter()
                    .filter_map(|i| i.schema.field_with_name(name).ok())
                    .map(|f| f.data_type().to_string())
                    .collect();
                let what = format!("`{}` is {}, which is no key", name.value, types.join(" and "));
                problems.push(Problem::at(name, what).help("a column of whole numbers, or of texts, in both inputs"));
            }
        }
        if let [first, second] = inputs {
            let keys = self.keys(inputs);
            let own = |name: &str| PROVENANCE.contains(&name) || keys.iter().any(|key| key == name);
            let both = first.schema.fields().iter().filter(|f| !own(f.name()) && second.schema.field_with_name(f.name()).is_ok());
            let both: Vec<String> = both.map(|f| format!("`{}`", f.name())).collect();
            // The second time only those are left that somebody reads, and the pairs had none of them twice.
            if !both.is_empty() && !facts.narrowed {
                let (are, what) = if both.len() == 1 { ("is", "it") } else { ("are", "them") };
                let what_is = format!("{} {are} in both inputs", both.join(", "));
                let help = format!("leave {what} out of one of them with `select`, or name {what} in `on`");
                problems.push(Problem { place: crate::Place::default(), what: what_is, help: Some(help) });
            }
            let samples: Vec<Vec<String>> = inputs.iter().map(|i| column::samples(&i.schema)).collect();
            if samples[0] != samples[1] && samples.iter().all(|s| !s.is_empty()) {
                let what = format!("the samples of the inputs differ: {}; {}", samples[0].join(", "), samples[1].join(", "));
                problems.push(Problem {
                    place: crate::Place::default(),
                    what,
                    help: Some("name the same ones in the same order".into()),
                });
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let schema = Arc::new(self.pair_schema(inputs));
        let rows = inputs.iter().filter_map(|i| i.rows).min();
        let row_bytes = inputs.iter().map(|i| i.row_bytes).sum();
        let output = Output { name: String::new(), schema, table: false, rows, row_bytes };
        let mut planned = Planned::new(Shape::Shuffle, vec![output]);
        planned.reads = vec![Reads::columns(self.keys(inputs)); inputs.len()];
        Ok(planned)
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let types = self.types(at.inputs).context("keys that can't be compared")?;
        let schema = Arc::new(self.pair_schema(at.inputs));
        Ok(Work::Join(Box::new(Pairing { keys: self.keys(at.inputs), types, schema })))
    }
}

struct Pairing {
    keys: Vec<String>,
    types: Vec<DataType>,
    schema: SchemaRef,
}

impl Pairing {
    /// The keys of all rows, and which of them are missing.
    fn rows(&self, batch: &RecordBatch) -> Result<(Rows, Vec<bool>), Fault> {
        let cast = |(name, to): (&String, &DataType)| cast(column::get(batch, name), to);
        let columns: Vec<ArrayRef> = self.keys.iter().zip(&self.types).map(cast).collect::<Result<_, _>>()?;
        let missing = (0..batch.num_rows()).map(|row| columns.iter().any(|c| c.is_null(row))).collect();
        let fields = self.types.iter().map(|of| SortField::new(of.clone())).collect();
        Ok((RowConverter::new(fields)?.convert_columns(&columns)?, missing))
    }
}

impl Joins for Pairing {
    fn keys(&mut self, _: usize, batch: &RecordBatch, keys: &mut Vec<u64>) -> Result<(), Fault> {
        let (rows, _) = self.rows(batch)?;
        keys.extend(rows.iter().map(|row| xxh3_64(row.as_ref())));
        Ok(())
    }

    fn join(&mut self, inputs: &[RecordBatch]) -> Result<Mapped, Fault> {
        let all: u64 = inputs.iter().map(|batch| batch.num_rows() as u64).sum();
        // By key, for each input, the only row that has it.
        let mut found: BTreeMap<(u64, OwnedRow), Vec<Vec<u64>>> = BTreeMap::new();
        for (input, batch) in inputs.iter().enumerate() {
            let (rows, missing) = self.rows(batch)?;
            for ((number, row), missing) in (0..).zip(rows.iter()).zip(missing) {
                if !missing {
                    let key = (xxh3_64(row.as_ref()), row.owned());
                    found.entry(key).or_insert_with(|| vec![Vec::new(); inputs.len()])[input].push(number);
                }
            }
        }
        let pairs: Vec<Vec<u64>> =
            found.into_values().filter(|of| of.iter().all(|rows| rows.len() == 1)).map(|of| of.concat()).collect();
        let chosen: Vec<UInt64Array> = (0..inputs.len()).map(|i| pairs.iter().map(|pair| pair[i]).collect()).collect();
        let column = |field: &Arc<Field>| -> anyhow::Result<ArrayRef> {
            let second = SECOND.iter().find(|(_, name)| name == field.name()).map(|(name, _)| *name);
            let of_first = inputs[0].column_by_name(field.name()).filter(|_| second.is_none());
            let (from, rows) = match of_first {
                Some(from) => (from, &chosen[0]),
                None => (column::get(&inputs[1], second.unwrap_or(field.name())), &chosen[1]),
            };
            Ok(take(from, rows, None)?)
        };
        let columns = self.schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        let cut = all - inputs.len() as u64 * batch.num_rows() as u64;
        Ok(Mapped { batch, cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, output_of};
    use arrow::array::{AsArray, Float32Array, Int32Array, Int64Array, StringArray};
    use arrow::datatypes::{Float32Type, UInt32Type};
    use proptest::prelude::*;

    fn join(on: &[&str]) -> Join {
        Join { on: on.iter().map(|name| Placed::unplaced((*name).to_owned())).collect() }
    }

    fn work(join: &Join, inputs: &[RecordBatch]) -> Box<dyn Joins> {
        let outputs: Vec<Output> = inputs.iter().map(output_of).collect();
        let facts = Facts::default();
        let planned = join.plan(&facts, &outputs).unwrap();
        let worker = crate::Worker { index: 0, peers: 1 };
        let start = Start {
            worker,
            facts: &facts,
            inputs: &outputs,
            outputs: &planned.outputs,
            runtime: &crate::work::Runtime::default(),
        };
        let Work::Join(work) = join.start(&start).unwrap() else { panic!("no join") };
        work
    }

    proptest! {
        #[test]
        fn pairs_are_those_of_the_slow_way(a in prop::collection::vec(prop::option::of(0i32..30), 0..40), b in prop::collection::vec(prop::option::of(0i64..30), 0..40)) {
            let value = |n: usize| Arc::new(Float32Array::from_iter_values((0..n).map(|i| i as f32))) as ArrayRef;
            let first = batch_of(vec![("n", Arc::new(Int32Array::from(a.clone()))), ("x", value(a.len()))]);
            let second = batch_of(vec![("n", Arc::new(Int64Array::from(b.clone()))), ("y", value(b.len()))]);
            let inputs = [first, second];
            let mut join = work(&join(&["n"]), &inputs);
            let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
            join.keys(0, &inputs[0], &mut of_a).unwrap();
            join.keys(1, &inputs[1], &mut of_b).unwrap();
            for (i, x) in a.iter().enumerate() {
                for (j, y) in b.iter().enumerate() {
                    if x.is_some() && x.map(i64::from) == *y {
                        prop_assert_eq!(of_a[i], of_b[j]);
                    }
                }
            }
            let joined = join.join(&inputs).unwrap();
            let once = |of: &[i64], n: i64| of.iter().filter(|m| **m == n).count() == 1;
            let (known_a, known_b): (Vec<i64>, Vec<i64>) = (a.iter().flatten().map(|n| i64::from(*n)).collect(), b.iter().flatten().copied().collect());
            let mut slow = Vec::new();
            for n in 0..30i64 {
                if once(&known_a, n) && once(&known_b, n) {
                    let i = a.iter().position(|m| m.map(i64::from) == Some(n)).unwrap();
                    let j = b.iter().position(|m| *m == Some(n)).unwrap();
                    slow.push((i as i32, j as i32));
                }
            }
            let get = |name: &str| joined.batch.column_by_name(name).unwrap().as_primitive::<Float32Type>().values().to_vec();
            let mut pairs: Vec<(i32, i32)> = get("x").iter().zip(get("y")).map(|(x, y)| (*x as i32, y as i32)).collect();
            pairs.sort_unstable();
            slow.sort_unstable();
            prop_assert_eq!(joined.cut as usize, a.len() + b.len() - 2 * slow.len());
            prop_assert_eq!(pairs, slow);
        }
    }

    #[test]
    fn where_the_second_row_came_from_is_kept() {
        let of = |files: &[u32], texts: &[&str]| {
            batch_of(vec![
                (FILE, Arc::new(arrow::array::UInt32Array::from(files.to_vec())) as ArrayRef),
                ("id", Arc::new(StringArray::from(texts.to_vec()))),
            ])
        };
        let inputs = [of(&[1, 1], &["a", "b"]), of(&[7, 8], &["b", "c"])];
        let joined = work(&join(&["id"]), &inputs).join(&inputs).unwrap();
        let file = |name: &str| joined.batch.column_by_name(name).unwrap().as_primitive::<UInt32Type>().values().to_vec();
        assert_eq!((file(FILE), file("file_2"), joined.cut), (vec![1], vec![7], 2));
    }

    #[test]
    fn what_is_no_key_is_said() {
        let x: ArrayRef = Arc::new(Float32Array::from(vec![1.0]));
        let inputs = [
            output_of(&batch_of(vec![("x", x.clone()), ("y", x.clone())])),
            output_of(&batch_of(vec![("x", x.clone()), ("y", x)])),
        ];
        let problems = join(&["x", "z"]).plan(&Facts::default(), &inputs).unwrap_err();
        let said: Vec<&str> = problems.iter().map(|p| p.what.as_str()).collect();
        assert_eq!(said, ["`x` is Float32 and Float32, which is no key", "no column `z`", "`y` is in both inputs"]);
    }
}
