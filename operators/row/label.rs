//! `label`: the class of an event, by conditions, where no file is of one class.
//!
//! The classes take the place of the samples (column `sample`), so every step that tells classes apart does it by these: mixes,
//! areas, weights. An event is of the first class whose condition is true; where none is, it is cut and counted. The names
//! and their order are known before the run, as those of samples are.

use crate::column::{SAMPLE, with_samples};
use crate::expression::Expression;
use crate::registry::Describe;
use crate::statistics::folding::gather;
use crate::work::{Map, Mapped};
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Int8Array, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int8Type, Schema};
use schemars::{JsonSchema, Schema as JsonDocument, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::select;

/// Classes in their order, each with a SQL condition.
#[derive(Debug, Clone)]
pub struct Label(Vec<(Placed<String>, Placed<String>)>);

impl Describe for Label {
    const ABOUT: &'static str = "Says of which class an event is, by conditions; the classes take the place of the samples";
    const EXAMPLE: &'static str = "classes:\n  from: events\n  label:\n    signal: match = 2\n    background: match < 2\n";
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Ordered;
        impl<'de> Visitor<'de> for Ordered {
            type Value = Label;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of classes to conditions")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Label, A::Error> {
                let mut classes = Vec::new();
                while let Some(class) = from.next_entry()? {
                    classes.push(class);
                }
                Ok(Label(classes))
            }
        }
        from.deserialize_map(Ordered)
    }
}

impl JsonSchema for Label {
    fn schema_name() -> Cow<'static, str> {
        "Label".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> JsonDocument {
        json_schema!({
            "type": "object",
            "description": "Classes in their order, each with a SQL condition; an event is of the first class whose condition is true.",
            "additionalProperties": { "type": ["string", "boolean"] },
            "minProperties": 1
        })
    }
}

impl Label {
    fn conditions(&self, schema: &Schema) -> Result<Vec<Expression>, Vec<Problem>> {
        let (mut problems, mut seen, mut conditions) = (Vec::new(), BTreeSet::new(), Vec::new());
        for (name, text) in &self.0 {
            if !seen.insert(name.value.as_str()) {
                problems.push(Problem::at(name, format!("the class `{}` is there twice", name.value)));
            }
            conditions.extend(gather(Expression::condition(text, schema), &mut problems));
        }
        match self.0.get(i8::MAX as usize) {
            Some((name, _)) => problems.push(Problem::at(name, format!("more than {} classes", i8::MAX))),
            None if self.0.is_empty() => {
                problems.push(Problem::at(&Placed::unplaced(()), "no class is named").help("label: { signal: match = 2 }"));
            }
            None => {}
        }
        if problems.is_empty() { Ok(conditions) } else { Err(problems) }
    }

    /// The schema with the classes as samples.
    fn labelled(&self, schema: &Schema) -> Schema {
        let field = Field::new(SAMPLE, DataType::Dictionary(DataType::Int8.into(), DataType::Utf8.into()), false);
        let mut fields = schema.fields().to_vec();
        match fields.iter().position(|f| f.name() == SAMPLE) {
            Some(there) => fields[there] = Arc::new(field),
            None => fields.push(Arc::new(field)),
        }
        let names: Vec<String> = self.0.iter().map(|(name, _)| name.value.clone()).collect();
        with_samples(Schema::new_with_metadata(fields, schema.metadata().clone()), &names)
    }
}

impl Operator for Label {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let input = &inputs[0];
        let conditions = self.conditions(&input.schema)?;
        let reads: BTreeSet<String> = conditions.iter().flat_map(Expression::columns).collect();
        let schema = Arc::new(self.labelled(&input.schema));
        let output = Output { name: String::new(), schema, row_bytes: input.row_bytes + 1, ..input.clone() };
        let mut planned = Planned::new(Shape::Map, vec![output]).reading(Reads::Columns(reads));
        // Also where no row is cut: units do not say any more of which class their rows are.
        planned.cuts = true;
        Ok(planned)
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let conditions = self.conditions(&at.inputs[0].schema).map_err(select::described)?;
        let values = Arc::new(StringArray::from_iter_values(self.0.iter().map(|(name, _)| &name.value)));
        Ok(Work::Map(Box::new(Sort { conditions, values, label: self.clone(), outputs: select::names(at) })))
    }
}

struct Sort {
    conditions: Vec<Expression>,
    values: ArrayRef,
    label: Label,
    outputs: Vec<String>,
}

impl Map for Sort {
    fn map(&mut self, batch: RecordBatch) -> Result<Mapped, Fault> {
        let mut classes: Vec<Option<i8>> = vec![None; batch.num_rows()];
        for (class, condition) in (0..).zip(&self.conditions) {
            let is = condition.evaluate(&batch)?;
            let is = is.as_boolean();
            for (row, of) in classes.iter_mut().enumerate().filter(|(_, of)| of.is_none()) {
                *of = (is.is_valid(row) && is.value(row)).then_some(class);
            }
        }
        let cut = classes.iter().filter(|class| class.is_none()).count();
        let kept: BooleanArray = classes.iter().map(|class| Some(class.is_some())).collect();
        let batch = if cut == 0 { batch } else { filter_record_batch(&batch, &kept)? };
        let keys: Int8Array = classes.into_iter().flatten().map(Some).collect();
        let column: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::try_new(keys, Arc::clone(&self.values))?);
        let schema = self.label.labelled(&batch.schema());
        let mut columns = batch.columns().to_vec();
        match batch.schema().index_of(SAMPLE) {
            Ok(there) => columns[there] = column,
            Err(_) => columns.push(column),
        }
        let labelled = RecordBatch::try_new(Arc::new(schema), columns)?;
        Ok(Mapped { batch: select::project(&labelled, &self.outputs)?, cut: cut as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, map_of};
    use crate::trial::{at, problems, texts_of, word};
    use arrow::array::Float64Array;
    use arrow::compute::cast;

    fn label(classes: &[(&str, &str)]) -> Label {
        Label(classes.iter().map(|(name, text)| (word(name), word(text))).collect())
    }

    #[test]
    fn an_event_is_of_the_first_class_that_it_fits_and_of_none_it_is_cut() {
        let batch = batch_of(vec![("x", Arc::new(Float64Array::from(vec![Some(2.0), Some(0.5), None, Some(-1.0), Some(3.0)])))]);
        let label = label(&[("signal", "x > 1"), ("background", "x > 0"), ("never", "x > 2")]);
        let planned = label.plan(&Facts::default(), &[crate::testing::output_of(&batch)]).unwrap();
        let mapped = map_of(&label, &batch).map(batch).unwrap();
        assert_eq!((mapped.cut, mapped.batch.schema()), (2, Arc::clone(&planned.outputs[0].schema)));
        assert_eq!(crate::column::samples(&mapped.batch.schema()), ["signal", "background", "never"]);
        let texts = cast(mapped.batch.column_by_name(SAMPLE).unwrap(), &DataType::Utf8).unwrap();
        let texts = RecordBatch::try_from_iter([("sample", texts)]).unwrap();
        assert_eq!(texts_of(&texts, "sample"), ["signal", "background", "signal"]);
    }

    #[test]
    fn classes_take_the_place_of_samples() {
        let batch = crate::trial::batch(&["all"], &[0, 0], &[("x", &[1.0, -1.0])]);
        let mapped = map_of(&label(&[("plus", "x > 0"), ("minus", "x <= 0")]), &batch).map(batch).unwrap();
        assert_eq!(crate::column::sample_numbers(&mapped.batch), Some(&[0, 1][..]));
        assert_eq!(mapped.batch.num_columns(), 2);
    }

    #[test]
    fn every_mistake_is_reported() {
        let batch = batch_of(vec![("x", Arc::new(Float64Array::from(vec![1.0])))]);
        let wrong = Label(vec![
            (at(1, 1, "a".to_owned()), at(1, 4, "x + 1".to_owned())),
            (at(2, 1, "a".to_owned()), at(2, 4, "y > 1".to_owned())),
        ]);
        let said = problems(&wrong, &batch);
        let wanted = [
            "1:4 `x + 1` is a number, not true or false (compare it with something, as in `x + 1 > 0`)",
            "2:1 the class `a` is there twice",
            "2:4 no column `y` (did you mean `x`?)",
        ];
        assert_eq!(said, wanted);
        assert_eq!(problems(&Label(Vec::new()), &batch), ["0:0 no class is named (label: { signal: match = 2 })"]);
    }
}
