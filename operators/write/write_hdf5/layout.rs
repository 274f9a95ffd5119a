//! What a schema makes of the columns that come in: the datasets of a file, each with what it is filled from.
//!
//! Images become f32 and numbers f64, whatever their type in memory. Classes become a row of zeros and one 1 (f32, as
//! networks take them), or the class's number (i64).

use super::classes::Classes;
use crate::hdf5::write::{Element, Spec};
use crate::schema::{Column, Schema};
use crate::{Placed, column, hits};
use arrow::datatypes::{DataType, Schema as ArrowSchema};

/// What a dataset is made of.
#[derive(Debug, Clone)]
pub enum Content {
    /// An image: the column, and which value of a hit is meant.
    Image(String, usize),
    /// A number column for each place of a row, in C order.
    Numbers(Vec<String>),
    /// A row of zeros with a 1 at the number of the class.
    OneHot,
    /// The number of the class.
    Index,
}

/// One dataset of a layout.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Its name, shape and type.
    pub spec: Spec,
    /// What it is made of.
    pub content: Content,
}

impl Dataset {
    /// A row of zeros and one 1 for each event.
    pub fn one_hot(name: &str, classes: &Classes) -> Self {
        let texts = Some((super::CLASSES.to_owned(), classes.map.clone()));
        let spec = Spec { name: name.into(), shape: vec![classes.map.len()], element: Element::F32, texts };
        Self { spec, content: Content::OneHot }
    }

    /// The number of each event's class.
    pub fn index(name: &str, classes: &Classes) -> Self {
        let texts = Some((super::CLASSES.to_owned(), classes.map.clone()));
        Self { spec: Spec { name: name.into(), shape: Vec::new(), element: Element::I64, texts }, content: Content::Index }
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.spec.shape.iter().product::<usize>() * self.spec.element.bytes()
    }
}

/// The datasets of a schema, filled from columns that come in.
pub fn layout(schema: &Schema, input: &ArrowSchema, classes: Option<&Classes>) -> Result<Vec<Dataset>, Vec<String>> {
    let (mut datasets, mut wrong) = (Vec::new(), Vec::from_iter(schema.unwritable()));
    for (path, columns) in schema.datasets() {
        if let [(_, column)] = &columns[..]
            && !column.one_hot.is_empty()
        {
            match classes {
                Some(classes) if classes.map == column.one_hot => datasets.push(Dataset::one_hot(path, classes)),
                Some(_) => wrong.push(format!("`{path}` has other classes than the dataset before it; a file has one class map")),
                // It was said why, or the dataset is optional.
                None => {}
            }
            continue;
        }
        if columns.iter().all(|(name, column)| column.optional && input.field_with_name(name).is_err()) {
            continue;
        }
        match dataset(path, &columns, input) {
            Ok(dataset) => datasets.push(dataset),
            Err(what) => wrong.extend(what),
        }
    }
    if wrong.is_empty() { Ok(datasets) } else { Err(wrong) }
}

fn dataset(path: &str, columns: &[(&str, &Column)], input: &ArrowSchema) -> Result<Dataset, Vec<String>> {
    let missing = columns.iter().filter(|(name, _)| input.field_with_name(name).is_err());
    let missing: Vec<String> =
        missing.map(|(name, _)| format!("no column `{name}` comes in, of which `{path}` is made")).collect();
    if !missing.is_empty() {
        return Err(missing);
    }
    if columns.iter().any(|(_, column)| column.member.is_some()) {
        return Err(vec![format!("`{path}` is made of records, which can't be written")]);
    }
    let one = |what: String| vec![what];
    let made = match columns {
        [(name, column)] if input.field_with_name(name).is_ok_and(|f| hits::shape(f).is_some()) => {
            image(path, name, column, input)
        }
        _ => numbers(path, columns, input),
    };
    made.map_err(one)
}

fn image(path: &str, name: &str, column: &Column, input: &ArrowSchema) -> Result<Dataset, String> {
    let field = input.field_with_name(name).map_err(|e| e.to_string())?;
    let shape = hits::shape(field).unwrap_or_default();
    let wanted: Option<Vec<usize>> = column.dims.as_ref().map(|d| d.iter().map(|n| *n as usize).collect());
    if wanted.as_ref().is_some_and(|w| *w != shape) || !column.at.is_empty() {
        return Err(format!("column `{name}` is an image of {shape:?}, `{path}` is not"));
    }
    let value = if hits::is_hits(field) {
        let names = hits::value_names(field);
        let place = names.iter().position(|n| n == column.value_name());
        place.ok_or_else(|| format!("the hits of `{name}` have no `{}`; there is {}", column.value_name(), names.join(", ")))?
    } else {
        0
    };
    if value_type(field.data_type(), value) != Some(&DataType::Float32) {
        return Err(format!("the values of `{name}` are not f32, which `{path}` is written as"));
    }
    Ok(Dataset {
        spec: Spec { name: path.into(), shape, element: Element::F32, texts: None },
        content: Content::Image(name.into(), value),
    })
}

/// The type of a value of an image.
fn value_type(image: &DataType, value: usize) -> Option<&DataType> {
    match image {
        DataType::FixedSizeList(item, _) => Some(item.data_type()),
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => fields.get(value + 1).map(|f| f.data_type()),
            _ => None,
        },
        _ => None,
    }
}

fn numbers(path: &str, columns: &[(&str, &Column)], input: &ArrowSchema) -> Result<Dataset, String> {
    for (name, _) in columns {
        column::number(input, &Placed::unplaced((*name).to_owned())).map_err(|p| p.what)?;
    }
    let axes = columns.first().map_or(0, |(_, c)| c.at.len());
    if columns.iter().any(|(_, c)| c.at.len() != axes) {
        return Err(format!("the columns of `{path}` are at places with different numbers of axes"));
    }
    let length = |axis: usize| columns.iter().map(|(_, c)| c.at[axis] as usize + 1).max().unwrap_or(1);
    let shape: Vec<usize> = (0..axes).map(length).collect();
    let mut places: Vec<Option<String>> = vec![None; shape.iter().product::<usize>().min(1 << 16)];
    for (name, column) in columns {
        let flat = column.at.iter().zip(&shape).fold(0, |n, (at, length)| n * length + *at as usize);
        match places.get_mut(flat) {
            Some(place @ None) => *place = Some((*name).to_owned()),
            _ => return Err(format!("two columns are at place {:?} of `{path}`", column.at)),
        }
    }
    let filled = places.iter().flatten().count();
    let all = places.len();
    let names: Vec<String> = places.into_iter().flatten().collect();
    if filled < all {
        return Err(format!("a row of `{path}` has the shape {shape:?}, and only {filled} of its places have a column"));
    }
    Ok(Dataset { spec: Spec { name: path.into(), shape, element: Element::F64, texts: None }, content: Content::Numbers(names) })
}
