//! What all folds have in common: one input, a class for each row, a table as output.

use crate::column;
use crate::{Fault, Output, Placed, Problem, words};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef};
use std::sync::Arc;

/// Where a table's schema says that it has the numbers of an older code.
pub const COMPAT_KEY: &str = "calostream.compat";

/// The only input of a fold.
pub fn one_input(inputs: &[Output]) -> Result<&Schema, Vec<Problem>> {
    match inputs {
        [input] => Ok(&input.schema),
        _ => Err(vec![Problem::at(&Placed::unplaced(()), format!("this step takes one input, not {}", inputs.len()))]),
    }
}

/// The output of a fold: a table of at most so many rows.
#[must_use]
pub fn table(schema: SchemaRef, rows: usize) -> Output {
    let row_bytes = schema.fields().len() as u64 * 8;
    Output { name: String::new(), schema, table: true, rows: Some(rows as u64), row_bytes }
}

/// The classes that rows are told apart by: the samples, or a single one without a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// The column, if there is one.
    pub column: Option<String>,
    /// The names, by number.
    pub names: Vec<String>,
}

impl Classes {
    /// The classes of a dictionary column; its values must be known before the run, as those of `sample` are.
    pub fn plan(schema: &Schema, column: Option<&Placed<String>>) -> Result<Self, Problem> {
        let Some(word) = column else { return Ok(Self { column: None, names: vec![String::new()] }) };
        let field = column::field(schema, word)?;
        if !matches!(field.data_type(), DataType::Dictionary(..)) {
            let what = format!("column `{}` is {}, not a class", word.value, field.data_type());
            return Err(Problem::at(word, what).suggest(&word.value, dictionaries(schema)));
        }
        if word.value != column::SAMPLE {
            let what = format!("the values of `{}` are not known before the run", word.value);
            return Err(Problem::at(word, what).help("only `sample` is"));
        }
        let names = column::samples(schema);
        if names.is_empty() {
            return Err(
                Problem::at(word, "no names of samples are known here").help("a source names them: `samples: { electron: .. }`")
            );
        }
        Ok(Self { column: Some(word.value.clone()), names })
    }

    /// The number of a class, or that there is none of this name.
    pub fn number(&self, word: &Placed<String>) -> Result<usize, Problem> {
        self.names.iter().position(|name| *name == word.value).ok_or_else(|| {
            Problem::at(word, format!("no sample `{}`", word.value)).suggest(word, self.names.iter().map(String::as_str))
        })
    }

    /// The class number of each row.
    pub fn numbers(&self, batch: &RecordBatch, into: &mut Vec<u32>) -> Result<(), Fault> {
        into.clear();
        let Some(name) = &self.column else {
            into.resize(batch.num_rows(), 0);
            return Ok(());
        };
        let column = column::get(batch, name);
        let dictionary = column.as_any_dictionary_opt().ok_or_else(|| Fault::content(format!("`{name}` is not a dictionary")))?;
        if column.null_count() > 0 {
            return Err(Fault::content(format!("{} without a `{name}`", words::counted(column.null_count() as u64, "row"))));
        }
        let values = cast(dictionary.values(), &DataType::Utf8)?;
        let number = |value: Option<&str>| self.names.iter().position(|name| Some(name.as_str()) == value).map(|n| n as u32);
        let known: Vec<Option<u32>> = values.as_string::<i32>().iter().map(number).collect();
        let mut unknown = None;
        let mut class = |key: usize| {
            known.get(key).copied().flatten().unwrap_or_else(|| {
                unknown = Some(key);
                0
            })
        };
        match column.as_dictionary_opt::<Int8Type>() {
            Some(small) => {
                // Each key is looked up once, and a row's in a table that has them all.
                let keys = small.keys().values();
                let mut seen = [false; 256];
                keys.iter().for_each(|key| seen[usize::from(*key as u8)] = true);
                let mut classes = [0; 256];
                (0..256).filter(|key| seen[*key]).for_each(|key| classes[key] = class(key as u8 as i8 as usize));
                into.extend(keys.iter().map(|key| classes[usize::from(*key as u8)]));
            }
            None => into.extend(dictionary.normalized_keys().into_iter().map(class)),
        }
        match unknown {
            None => Ok(()),
            Some(key) => {
                let value = values.as_string::<i32>();
                let value = if key < value.len() { value.value(key) } else { "" };
                Err(Fault::content(format!("`{value}` is not one of the samples {}", self.names.join(", "))))
            }
        }
    }

    /// The field of the class column in a table.
    #[must_use]
    pub fn field(&self) -> Option<Field> {
        self.column.as_ref().map(|name| Field::new(name, DataType::Utf8, false))
    }

    /// What to call a class where there may be none: its name, or `otherwise`.
    #[must_use]
    pub fn label<'a>(&'a self, class: usize, otherwise: &'a str) -> &'a str {
        if self.column.is_some() { &self.names[class] } else { otherwise }
    }
}

fn dictionaries(schema: &Schema) -> impl Iterator<Item = &str> {
    let is_dictionary = |field: &&Arc<Field>| matches!(field.data_type(), DataType::Dictionary(..));
    schema.fields().iter().filter(is_dictionary).map(|field| field.name().as_str())
}

/// Keeps the values of what is right and the problems of what is not, so that all of a step are reported at once.
pub fn gather<T>(result: Result<T, impl Into<Problems>>, problems: &mut Vec<Problem>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(found) => {
            problems.extend(found.into().0);
            None
        }
    }
}

/// One problem or several.
#[derive(Debug)]
pub struct Problems(pub Vec<Problem>);

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl From<Vec<Problem>> for Problems {
    fn from(problems: Vec<Problem>) -> Self {
        Self(problems)
    }
}
