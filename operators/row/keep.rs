//! `keep`: the rows for which a condition is true.

use crate::expression::Expression;
use crate::registry::Describe;
use crate::work::{Map, Mapped};
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use anyhow::Context;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use schemars::JsonSchema;
use serde::Deserialize;

/// A condition, as a SQL expression. Rows for which it is false, or unknown because a value is missing or NaN, are cut.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Keep(Placed<String>);

impl Describe for Keep {
    const ABOUT: &'static str = "Keeps the rows for which a condition is true; the others are cut and counted";
    const EXAMPLE: &'static str = "hot:\n  from: events\n  keep: energy > 20 and abs(eta) < 2.5\n";
}

impl Operator for Keep {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let input = &inputs[0];
        let condition = Expression::condition(&self.0, &input.schema)?;
        let reads = Reads::Columns(condition.columns());
        let mut planned = Planned::new(Shape::Map, vec![Output { name: String::new(), ..input.clone() }]).reading(reads);
        planned.cuts = true;
        if condition.columns().is_empty() {
            planned.remarks.push(format!("`{}` is the same for every row", self.0.value));
        }
        Ok(planned)
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let condition = Expression::condition(&self.0, &at.inputs[0].schema);
        let condition = condition.map_err(super::select::described).context("keep")?;
        let outputs = super::select::names(at);
        Ok(Work::Map(Box::new(Cut { condition, outputs })))
    }
}

struct Cut {
    condition: Expression,
    outputs: Vec<String>,
}

impl Map for Cut {
    fn map(&mut self, batch: RecordBatch) -> Result<Mapped, Fault> {
        let condition = self.condition.evaluate(&batch)?;
        // A NULL is no `true`, so `filter` cuts the row.
        let kept = filter_record_batch(&super::select::project(&batch, &self.outputs)?, condition.as_boolean())?;
        let cut = (batch.num_rows() - kept.num_rows()) as u64;
        Ok(Mapped { batch: kept, cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, map_of, output_of};
    use arrow::array::{Float64Array, Int64Array};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn keep(text: &str) -> Keep {
        Keep(Placed::unplaced(text.into()))
    }

    #[test]
    fn a_null_and_a_nan_are_cut_by_a_condition_and_by_its_opposite() {
        let batch = batch_of(vec![("x", Arc::new(Float64Array::from(vec![Some(1.0), None, Some(f64::NAN), Some(-1.0)])))]);
        for (text, kept) in [("x > 0", 1), ("not (x > 0)", 1), ("isnan(x)", 1), ("x is null", 1), ("true", 4)] {
            let mapped = map_of(&keep(text), &batch).map(batch.clone()).unwrap();
            assert_eq!((mapped.batch.num_rows(), mapped.cut), (kept, 4 - kept as u64), "{text}");
        }
    }

    #[test]
    fn a_condition_must_be_true_or_false() {
        let batch = batch_of(vec![("x", Arc::new(Float64Array::from(vec![1.0])))]);
        let problems = keep("x + 1").plan(&Facts::default(), &[output_of(&batch)]).unwrap_err();
        assert_eq!(problems[0].what, "`x + 1` is a number, not true or false");
        assert_eq!(problems[0].help.as_deref(), Some("compare it with something, as in `x + 1 > 0`"));
    }

    #[test]
    fn a_condition_on_nothing_is_remarked() {
        let batch = batch_of(vec![("x", Arc::new(Float64Array::from(vec![1.0])))]);
        let planned = keep("1 = 1").plan(&Facts::default(), &[output_of(&batch)]).unwrap();
        assert_eq!(planned.remarks, ["`1 = 1` is the same for every row"]);
        assert_eq!(planned.reads, [Reads::columns([""; 0])]);
    }

    proptest! {
        #[test]
        fn every_row_is_kept_or_cut_however_batches_are_made(
            rows in proptest::collection::vec((proptest::option::of(-5i64..5), proptest::option::of(-5i64..5)), 0..60),
            at in 0usize..60,
        ) {
            let a = Int64Array::from(rows.iter().map(|r| r.0).collect::<Vec<_>>());
            let b = Int64Array::from(rows.iter().map(|r| r.1).collect::<Vec<_>>());
            let batch = batch_of(vec![("a", Arc::new(a)), ("b", Arc::new(b))]);
            let slow = rows.iter().filter(|(a, b)| match (a, b) {
                (Some(a), Some(b)) => *b != 0 && a / b > 1 && a % b == 0,
                _ => false,
            });
            let mut work = map_of(&keep("b <> 0 and a / b > 1 and a % b = 0"), &batch);
            let whole = work.map(batch.clone()).unwrap();
            prop_assert_eq!(whole.batch.num_rows(), slow.count());
            prop_assert_eq!(whole.batch.num_rows() as u64 + whole.cut, batch.num_rows() as u64);
            let at = at.min(batch.num_rows());
            let first = work.map(batch.slice(0, at)).unwrap();
            let second = work.map(batch.slice(at, batch.num_rows() - at)).unwrap();
            let both = arrow::compute::concat_batches(&whole.batch.schema(), [&first.batch, &second.batch]).unwrap();
            prop_assert_eq!(both, whole.batch);
            prop_assert_eq!(first.cut + second.cut, whole.cut);
        }
    }
}
