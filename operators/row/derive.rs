//! `derive`: new columns from expressions.

use crate::expression::Expression;
use crate::registry::Describe;
use crate::work::{Map, Mapped};
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use schemars::{JsonSchema, Schema as JsonDocument, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// New columns, each with a SQL expression; an expression may use the columns above it.
#[derive(Debug, Clone)]
pub struct Derive(Vec<(Placed<String>, Placed<String>)>);

impl Describe for Derive {
    const ABOUT: &'static str = "Adds columns that are computed from others";
    const EXAMPLE: &'static str =
        "pulls:\n  from: predicted\n  derive:\n    error: energy - predicted_energy\n    relative_error: error / energy\n";
}

impl<'de> Deserialize<'de> for Derive {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Ordered;
        impl<'de> Visitor<'de> for Ordered {
            type Value = Derive;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of new columns to expressions")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Derive, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = from.next_entry()? {
                    columns.push(column);
                }
                Ok(Derive(columns))
            }
        }
        from.deserialize_map(Ordered)
    }
}

impl JsonSchema for Derive {
    fn schema_name() -> Cow<'static, str> {
        "Derive".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> JsonDocument {
        json_schema!({
            "type": "object",
            "description": "New columns, each with a SQL expression; an expression may use the columns above it.",
            "additionalProperties": { "type": ["string", "number", "boolean"] },
            "minProperties": 1
        })
    }
}

impl Derive {
    /// Every new column with its expression, or everything that is wrong with them.
    fn columns(&self, schema: &Schema) -> Result<Vec<(Field, Expression)>, Vec<Problem>> {
        let (mut fields, mut problems) = (schema.fields().to_vec(), Vec::new());
        let mut columns = Vec::new();
        for (name, text) in &self.0 {
            if let Some(there) = fields.iter().find(|f| *f.name() == name.value) {
                let what = format!("there is a column `{}` already", name.value);
                let from_input = schema.field_with_name(there.name()).is_ok();
                let problem = Problem::at(name, what);
                problems.push(if from_input { problem.help("give the new one another name") } else { problem });
                continue;
            }
            match Expression::parse(text, &Schema::new(fields.clone())) {
                Ok(expression) if *expression.data_type() == DataType::Null => {
                    problems.push(Problem::at(text, format!("`{}` has no value", text.value)));
                }
                Ok(expression) => {
                    let field = Field::new(&name.value, expression.data_type().clone(), expression.nullable());
                    fields.push(field.clone().into());
                    columns.push((field, expression));
                }
                Err(found) => {
                    // A stand-in, so that the expressions below are not blamed for this one.
                    fields.push(Field::new(&name.value, DataType::Float64, true).into());
                    problems.extend(found);
                }
            }
        }
        if problems.is_empty() { Ok(columns) } else { Err(problems) }
    }
}

impl Operator for Derive {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let input = &inputs[0];
        let columns = self.columns(&input.schema)?;
        let mut fields = input.schema.fields().to_vec();
        let (mut reads, mut row_bytes) = (BTreeSet::new(), input.row_bytes);
        for (field, expression) in columns {
            reads.extend(expression.columns().into_iter().filter(|name| input.schema.field_with_name(name).is_ok()));
            row_bytes += field.data_type().primitive_width().unwrap_or(16) as u64;
            fields.push(field.into());
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, input.schema.metadata().clone()));
        let output = Output { name: String::new(), schema, row_bytes, ..input.clone() };
        Ok(Planned::new(Shape::Map, vec![output]).reading(Reads::Columns(reads)))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let columns = self.columns(&at.inputs[0].schema).map_err(super::select::described)?;
        Ok(Work::Map(Box::new(Add { columns, outputs: super::select::names(at) })))
    }
}

struct Add {
    columns: Vec<(Field, Expression)>,
    outputs: Vec<String>,
}

impl Map for Add {
    fn map(&mut self, batch: RecordBatch) -> Result<Mapped, Fault> {
        let (mut fields, mut arrays) = (batch.schema().fields().to_vec(), batch.columns().to_vec());
        let metadata = batch.schema().metadata().clone();
        let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let mut wide = batch;
        for (field, expression) in &self.columns {
            arrays.push(expression.evaluate(&wide)?);
            fields.push(field.clone().into());
            let schema = Arc::new(Schema::new_with_metadata(fields.clone(), metadata.clone()));
            wide = RecordBatch::try_new_with_options(schema, arrays.clone(), &rows)?;
        }
        Ok(Mapped { batch: super::select::project(&wide, &self.outputs)?, cut: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, map_of, output_of};
    use arrow::array::{Array, AsArray, Float32Array, Float64Array, Int64Array};
    use arrow::datatypes::{Float64Type, Int64Type};

    fn derive(columns: &[(&str, &str)]) -> Derive {
        let word = |text: &str| Placed::unplaced(text.to_owned());
        Derive(columns.iter().map(|(name, text)| (word(name), word(text))).collect())
    }

    #[test]
    fn later_columns_use_earlier_ones() {
        let batch = batch_of(vec![
            ("energy", Arc::new(Float32Array::from(vec![100.0, 50.0]))),
            ("predicted", Arc::new(Float32Array::from(vec![90.0, 60.0]))),
        ]);
        let derive = derive(&[("error", "energy - predicted"), ("relative", "error / energy")]);
        let planned = derive.plan(&Facts::default(), &[output_of(&batch)]).unwrap();
        assert_eq!(planned.reads, [Reads::columns(["energy", "predicted"])]);
        let made = map_of(&derive, &batch).map(batch).unwrap();
        assert_eq!(made.cut, 0);
        assert_eq!(made.batch.schema(), planned.outputs[0].schema);
        let relative = arrow::compute::cast(made.batch.column_by_name("relative").unwrap(), &DataType::Float64).unwrap();
        let wanted = [f64::from(10f32 / 100f32), f64::from(-10f32 / 50f32)];
        assert_eq!(relative.as_primitive::<Float64Type>().values(), &wanted);
    }

    #[test]
    fn whole_numbers_divide_as_in_sql_and_by_zero_to_null() {
        let batch =
            batch_of(vec![("a", Arc::new(Int64Array::from(vec![7, -7, 7]))), ("b", Arc::new(Int64Array::from(vec![2, 2, 0])))]);
        let derive = derive(&[("q", "a / b"), ("r", "a % b"), ("x", "a / 2.0"), ("z", "1 / 0")]);
        let made = map_of(&derive, &batch).map(batch).unwrap().batch;
        let whole = |name: &str| made.column_by_name(name).unwrap().as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
        assert_eq!(whole("q"), [Some(3), Some(-3), None]);
        assert_eq!(whole("r"), [Some(1), Some(-1), None]);
        assert_eq!(made.column_by_name("x").unwrap().as_primitive::<Float64Type>().values(), &[3.5, -3.5, 3.5]);
        assert_eq!(made.column_by_name("z").unwrap().logical_null_count(), 3);
    }

    #[test]
    fn what_fails_elsewhere_is_nan_or_null_here() {
        let batch = batch_of(vec![("x", Arc::new(Float64Array::from(vec![-4.0, f64::NAN, 9.0])))]);
        let derive = derive(&[("root", "sqrt(x)"), ("log", "ln(x)"), ("byte", "cast(x * 100 as tinyint)")]);
        let made = map_of(&derive, &batch).map(batch).unwrap().batch;
        let real = |name: &str| made.column_by_name(name).unwrap().as_primitive::<Float64Type>().values().to_vec();
        assert!(real("root")[0].is_nan() && real("root")[1].is_nan() && real("root")[2] == 3.0);
        assert!(real("log")[0].is_nan() && real("log")[2] == 9f64.ln());
        assert_eq!(made.column_by_name("byte").unwrap().logical_null_count(), 3);
    }

    #[test]
    fn every_mistake_is_reported() {
        let batch = batch_of(vec![("energy", Arc::new(Float64Array::from(vec![1.0])))]);
        let derive = derive(&[
            ("energy", "1"),
            ("a", "enrgy + etta"),
            ("b", "a + sqrd(energy)"),
            ("b", "1"),
            ("c", "energy +"),
            ("d", "random()"),
        ]);
        let problems = derive.plan(&Facts::default(), &[output_of(&batch)]).unwrap_err();
        let said: Vec<(&str, Option<&str>)> = problems.iter().map(|p| (p.what.as_str(), p.help.as_deref())).collect();
        let (random, said) = said.split_last().unwrap();
        assert_eq!(random.0, "no function `random`");
        assert!(random.1.unwrap().starts_with("there is abs, acos,"));
        assert_eq!(
            said,
            [
                ("there is a column `energy` already", Some("give the new one another name")),
                ("no column `enrgy`", Some("did you mean `energy`?")),
                ("no column `etta`", Some("there is energy")),
                ("no function `sqrd`", Some("did you mean `sqrt`?")),
                ("there is a column `b` already", None),
                ("`energy +` is no expression: expected an expression, found its end", None),
            ]
        );
    }
}
