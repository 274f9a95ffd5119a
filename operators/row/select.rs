//! `select`: the columns that go on.
//!
//! The planner takes out what nobody reads anyway; `select` says what a file shall hold. Where a row came from always goes on.

use crate::column;
use crate::registry::Describe;
use crate::weights::carried;
use crate::work::{Map, Mapped};
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The columns that go on, in this order. `sample`, `file`, `row` and `event` go on in any case.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Select(Vec<Placed<String>>);

impl Describe for Select {
    const ABOUT: &'static str = "Chooses the columns that go on; where a row came from always does";
    const EXAMPLE: &'static str = "slim:\n  from: events\n  select: [energy, eta]\n";
}

impl Operator for Select {
    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let input = &inputs[0];
        let (mut problems, mut seen, mut fields) = (Vec::new(), BTreeSet::new(), Vec::new());
        for name in &self.0 {
            match column::field(&input.schema, name) {
                Err(_) if facts.narrowed => {}
                Err(problem) => problems.push(problem),
                Ok(_) if !seen.insert(name.value.as_str()) => {
                    problems.push(Problem::at(name, format!("`{}` is named twice", name.value)));
                }
                Ok(field) => fields.push(Arc::new(field.clone())),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let kept = |field: &Field| carried(field) && !seen.contains(field.name().as_str());
        fields.extend(input.schema.fields().iter().filter(|field| kept(field)).cloned());
        let schema = Arc::new(Schema::new_with_metadata(fields, input.schema.metadata().clone()));
        let row_bytes = input.narrowed(|name| schema.index_of(name).is_ok()).row_bytes;
        let output = Output { name: String::new(), schema, row_bytes, ..input.clone() };
        Ok(Planned::new(Shape::Map, vec![output]).reading(Reads::Columns(BTreeSet::new())))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        Ok(Work::Map(Box::new(Project { outputs: names(at) })))
    }
}

struct Project {
    outputs: Vec<String>,
}

impl Map for Project {
    fn map(&mut self, batch: RecordBatch) -> Result<Mapped, Fault> {
        Ok(Mapped { batch: project(&batch, &self.outputs)?, cut: 0 })
    }
}

/// The names of the columns that must go out.
pub(crate) fn names(at: &Start<'_>) -> Vec<String> {
    at.outputs[0].schema.fields().iter().map(|f| f.name().clone()).collect()
}

/// The batch with these columns, in this order.
pub(crate) fn project(batch: &RecordBatch, names: &[String]) -> anyhow::Result<RecordBatch> {
    let schema = batch.schema();
    let indices: Result<Vec<usize>, _> = names.iter().map(|name| schema.index_of(name)).collect();
    Ok(batch.project(&indices?)?)
}

/// Problems where there should be none any more: the planner has looked.
pub(super) fn described(problems: Vec<Problem>) -> anyhow::Error {
    anyhow::anyhow!("{}", problems.into_iter().map(|p| p.what).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, map_of, output_of};
    use arrow::array::{Float64Array, UInt64Array};

    fn select(names: &[&str]) -> Select {
        Select(names.iter().map(|name| Placed::unplaced((*name).to_owned())).collect())
    }

    #[test]
    fn columns_come_in_the_order_asked_for_and_provenance_stays() {
        let batch = batch_of(vec![
            ("event", Arc::new(UInt64Array::from(vec![9]))),
            ("a", Arc::new(Float64Array::from(vec![1.0]))),
            ("b", Arc::new(Float64Array::from(vec![2.0]))),
            ("c", Arc::new(Float64Array::from(vec![3.0]))),
        ]);
        let select = select(&["c", "a"]);
        let made = map_of(&select, &batch).map(batch.clone()).unwrap();
        let names: Vec<String> = made.batch.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!((names, made.cut), (vec!["c".into(), "a".into(), "event".into()], 0));
        assert_eq!(made.batch.column(0), batch.column(3));
    }

    #[test]
    fn unknown_and_repeated_columns_are_problems() {
        let batch = batch_of(vec![("energy", Arc::new(Float64Array::from(vec![1.0])))]);
        let problems = select(&["enrgy", "energy", "energy"]).plan(&Facts::default(), &[output_of(&batch)]).unwrap_err();
        let said: Vec<&str> = problems.iter().map(|p| p.what.as_str()).collect();
        assert_eq!(said, ["no column `enrgy`", "`energy` is named twice"]);
    }
}
