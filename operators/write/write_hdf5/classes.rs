//! The class map: which class has which number, and so which place in a row of zeros and one 1.
//!
//! It comes from the schema where that has names for the places of a dataset, else from `classes`, else from the names that
//! come in, sorted. It is never made of what happens to occur in the data: the same pipeline gives the same map.

use super::WriteHdf5;
use crate::column::{self, SAMPLE};
use crate::schema::Schema;
use crate::{Fault, Place, Placed, Problem};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema as ArrowSchema};
use std::collections::{BTreeMap, BTreeSet};

/// A class map, and the column that says of which class an event is.
#[derive(Debug, Clone, PartialEq)]
pub struct Classes {
    /// The column.
    pub column: String,
    /// The classes as they are called in the file, in the order of their numbers.
    pub map: Vec<String>,
    /// What a class is called that is not called as it comes.
    names: BTreeMap<String, String>,
    /// Classes of the map of which no event can come.
    pub idle: Vec<String>,
}

/// The names that the values of a column can have, where that is known before the run.
fn known(input: &ArrowSchema, name: &str) -> Option<Vec<String>> {
    if name == SAMPLE {
        return Some(column::samples(input));
    }
    serde_json::from_str(input.field_with_name(name).ok()?.metadata().get("calostream.names")?).ok()
}

/// The schema's dataset with names for its places: the column's name, and the names.
fn of_schema(schema: &Schema) -> Option<(&str, &[String], bool)> {
    let found = schema.columns.iter().find(|(_, c)| !c.one_hot.is_empty());
    found.map(|(name, c)| (name.as_str(), &c.one_hot[..], c.optional))
}

impl Classes {
    /// The classes that the parameters and the schema ask for; none where they ask for none, or where it was said what is
    /// wrong.
    pub fn find(of: &WriteHdf5, schema: &Schema, input: &ArrowSchema, problems: &mut Vec<Problem>) -> Option<Self> {
        let wished = of.one_hot.as_ref().or(of.index.as_ref());
        let in_schema = of_schema(schema);
        if in_schema.is_none() && wished.is_none() {
            if let Some(classes) = &of.classes {
                let problem = Problem::at(classes, "nothing is written that has classes");
                problems.push(problem.help("`one_hot: OneHot` or `index: index` writes them"));
            }
            return None;
        }
        let column = in_schema.map(|(name, ..)| name).filter(|name| input.field_with_name(name).is_ok()).unwrap_or(SAMPLE);
        let text = |of: &DataType| match of {
            DataType::Dictionary(_, values) => **values == DataType::Utf8,
            other => *other == DataType::Utf8,
        };
        if !input.field_with_name(column).is_ok_and(|f| text(f.data_type())) {
            if in_schema.is_some_and(|(_, _, optional)| optional) && wished.is_none() {
                return None;
            }
            problems.push(match (in_schema, wished) {
                (Some((name, ..)), _) => {
                    Problem::at(&of.schema, format!("neither `{name}` nor `{SAMPLE}` comes in with a class"))
                }
                (None, Some(word)) => Problem::at(word, format!("no `{SAMPLE}` comes in that says the class")),
                (None, None) => return None,
            });
            if let Some(problem) = problems.last_mut() {
                problem.help = Some("a source makes `sample` of `samples: { class: files }`".into());
            }
            return None;
        }
        let called = |class: &String| of.names.get(class).map_or(class, |n| &n.value).clone();
        let come: Option<BTreeSet<String>> = known(input, column).map(|names| names.iter().map(called).collect());
        let map = match (in_schema, &of.classes, &come) {
            (Some((name, map, _)), given, _) => {
                if let Some(given) = given.as_ref().filter(|given| given.iter().map(|c| &c.value).ne(map)) {
                    let problem = Problem::at(given, format!("the schema says of `{name}`: {}, in this order", map.join(", ")));
                    problems.push(problem.help("leave `classes` out, or write a schema of your own"));
                }
                map.to_vec()
            }
            (None, Some(given), _) => {
                twice(given, problems);
                given.iter().map(|class| class.value.clone()).collect()
            }
            (None, None, Some(come)) => come.iter().cloned().collect(),
            (None, None, None) => return None,
        };
        let place = of.classes.as_ref().map_or(of.schema.place, |c| c.place);
        for class in come.iter().flatten().filter(|class| !map.contains(class)) {
            let from = of.names.iter().find(|(_, name)| name.value == *class);
            let place = from.map_or(place, |(_, name)| name.place);
            let problem = Problem { place, what: format!("class `{class}` is not in the class map"), help: None };
            let problem = problem.suggest(class, map.iter().map(String::as_str));
            let help = problem.help.as_deref().unwrap_or_default();
            let help = if from.is_some() { help.to_owned() } else { format!("{help}; or say `names: {{ {class}: ... }}`") };
            problems.push(problem.help(help));
        }
        let idle = map.iter().filter(|class| come.as_ref().is_some_and(|come| !come.contains(*class))).cloned().collect();
        let names = of.names.iter().map(|(class, name)| (class.clone(), name.value.clone())).collect();
        Some(Self { column: column.to_owned(), map, names, idle })
    }

    /// The number of the class of each row.
    pub fn of(&self, batch: &RecordBatch) -> Result<Vec<usize>, Fault> {
        let column = cast(column::get(batch, &self.column), &DataType::Utf8)?;
        let column = column.as_string::<i32>();
        let number = |row: usize| {
            if column.is_null(row) {
                return Err(Fault::content(format!("`{}` is missing: the event has no class", self.column)));
            }
            let class = column.value(row);
            let called = self.names.get(class).map_or(class, String::as_str);
            let number = self.map.iter().position(|c| c == called);
            number.ok_or_else(|| Fault::content(format!("class `{called}` is not in the class map {}", self.map.join(", "))))
        };
        (0..column.len()).map(number).collect()
    }
}

/// The classes that come in by their names, where there may be some: for the check of `names`.
pub fn that_come(schema: Option<&Schema>, input: &ArrowSchema) -> Vec<String> {
    let mut all = column::samples(input);
    all.extend(schema.and_then(of_schema).and_then(|(name, ..)| known(input, name)).unwrap_or_default());
    all
}

fn twice(given: &Placed<Vec<Placed<String>>>, problems: &mut Vec<Problem>) {
    let place = |word: &Placed<String>| if word.place == Place::default() { given.place } else { word.place };
    if given.is_empty() {
        problems.push(Problem::at(given, "a class map without classes").help("leave `classes` out for all, sorted by name"));
    }
    for (number, class) in given.iter().enumerate() {
        if given[..number].iter().any(|before| before.value == class.value) {
            let (place, what) = (place(class), format!("class `{}` is twice in the class map", class.value));
            problems.push(Problem { place, what, help: Some("each class has one number: its place in the list, from 0".into()) });
        }
    }
}
