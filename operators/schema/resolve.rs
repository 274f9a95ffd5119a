//! A column against the header of one file: where its values stand, and the field that they become.

use super::column::{Address, Column, ColumnKind, Dtype, Members, Values};
use crate::Problem;
use crate::column::with_unit;
use crate::hdf5::element::{Element, Leaf, Member, Number, Pad, shape_name};
use crate::hdf5::header::{Dataset, Header, Value};
use crate::hdf5::images::{Pick, cell_value};
use crate::hdf5::rows::unknown_filter;
use crate::hits::{dense_field, hits_field};
use crate::place::Placed;
use arrow::datatypes::{DataType, Field};
use std::sync::Arc;

/// A column as it stands in one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Events; none where the value is the same for all, however many there are.
    pub rows: Option<u64>,
    /// The field that it becomes; none where the file lacks the column and so does not say.
    pub field: Option<Field>,
    /// What its values are made of.
    pub make: Make,
}

/// What the values of a column are made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Make {
    /// A number.
    Number(Part),
    /// All cells of an image.
    Dense(Part),
    /// The cells of an image that are not zero.
    Hits(Part),
    /// The same, with so many values a cell, which stand on the last axis.
    Last(Part, usize),
    /// The same, with values that each have a dataset.
    Each(Vec<Part>),
    /// The names of the values of a number: a number's name is at the place of its value.
    Named(Part, Vec<i64>),
    /// The name of the place of the 1 in a row of zeros.
    OneHot(Part),
    /// Numbers as a list.
    Numbers(Part),
    /// A text.
    Text(Lists),
    /// A list of variable length.
    List(Lists, Number),
    /// A record.
    Struct(Vec<Resolved>),
    /// So many records; those that are not valid are left out.
    Structs(usize, Vec<Part>, Option<Part>),
    /// The value of an attribute.
    Constant(Value, usize),
    /// Nothing.
    Absent,
}

/// Numbers of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The dataset.
    pub path: String,
    /// The member of its records.
    pub member: Option<String>,
    /// Where the numbers stand in a row of the file.
    pub pick: Pick,
    /// Where they stand in a row that the library hands over.
    pub packed: Pick,
    /// True where the bytes in the file are those of the numbers.
    pub plain: bool,
}

/// Texts or lists of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Lists {
    /// The dataset.
    pub path: String,
    /// The member of its records.
    pub member: Option<String>,
    /// Elements of a row, and which of them is meant.
    pub place: (usize, usize),
    /// Texts that stand in the row: the bytes of a row, the first byte of the text, its bytes, and how it ends.
    pub fixed: Option<(usize, usize, usize, Pad)>,
}

/// Bytes of one event beyond this are no event.
const MOST_ROW_BYTES: u64 = 1 << 31;
/// Cells of one image, so that a batch stays below 2^30 hits.
const MOST_CELLS: u64 = 1 << 28;
/// The names of an enum, so that two that differ are two types.
const NAMES_KEY: &str = "calostream.names";

/// Where the file lacks an optional column: the type is that of the files that have it.
const ABSENT: Resolved = Resolved { rows: None, field: None, make: Make::Absent };

impl Resolved {
    /// The numbers that have to be read.
    pub fn parts(&self) -> Vec<&Part> {
        match &self.make {
            Make::Number(p) | Make::Dense(p) | Make::Hits(p) | Make::Last(p, _) | Make::Named(p, _) => vec![p],
            Make::OneHot(p) | Make::Numbers(p) => vec![p],
            Make::Each(parts) => parts.iter().collect(),
            Make::Struct(members) => members.iter().flat_map(Self::parts).collect(),
            Make::Structs(_, parts, valid) => parts.iter().chain(valid).collect(),
            Make::Text(_) | Make::List(..) | Make::Constant(..) | Make::Absent => Vec::new(),
        }
    }

    /// The texts and lists that have to be read.
    pub fn lists(&self) -> Vec<&Lists> {
        match &self.make {
            Make::Text(lists) | Make::List(lists, _) => vec![lists],
            Make::Struct(members) => members.iter().flat_map(Self::lists).collect(),
            _ => Vec::new(),
        }
    }

    /// The datasets that have to be read.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.parts().into_iter().map(|p| p.path.as_str()).chain(self.lists().into_iter().map(|l| l.path.as_str()))
    }

    /// Bytes of an event with all cells kept; a guess for texts and lists.
    pub fn dense_bytes(&self) -> u64 {
        let numbers = |p: &&Part| p.pick.numbers() as u64 * u64::from(p.pick.number.bytes);
        self.parts().iter().map(numbers).sum::<u64>()
            + self.lists().iter().map(|l| l.fixed.map_or(64, |f| f.2 as u64)).sum::<u64>()
    }
}

/// The columns that a column with a star in its name stands for in this file; the column itself where it has none.
pub fn expand(name: &str, column: &Column, header: &Header) -> Vec<(String, Column)> {
    let (Some((before, after)), Some(members)) = (name.split_once('*'), &column.members) else {
        return vec![(name.to_owned(), column.clone())];
    };
    let Some((address, dataset)) = column.addresses().find_map(|a| header.dataset(&a.dataset).map(|d| (a, d))) else {
        return vec![(name.to_owned(), column.clone())];
    };
    let each = chosen(dataset, members).into_iter().map(|member| {
        let mut name = format!("{before}{}{after}", member.replace('.', "_"));
        if crate::column::PROVENANCE.contains(&name.as_str()) || name == super::SPLIT {
            name.push('_');
        }
        let array = dataset.leaf(Some(&member)).is_ok_and(|leaf| !leaf.shape.is_empty());
        let kind = array.then_some(ColumnKind::Dense);
        let address = Address { member: Some(member), ..address.clone() };
        (name, Column { members: None, kind, ..column.at_address(address) })
    });
    each.collect()
}

/// The members that are meant: without what is no column, where all are.
fn chosen(dataset: &Dataset, members: &Members) -> Vec<String> {
    fn paths(members: &[Member], before: &str, into: &mut Vec<String>) {
        for m in members {
            let path = format!("{before}{}", m.name);
            match &m.element {
                Element::Compound { members, .. } => paths(members, &format!("{path}."), into),
                Element::Other { .. } => {}
                Element::Array { of, .. } if !matches!(**of, Element::Number(_) | Element::Enum { .. }) => {}
                _ => into.push(path),
            }
        }
    }
    match members {
        Members::These(names) => names.clone(),
        Members::All => {
            let mut all = Vec::new();
            if let Element::Compound { members, .. } = &dataset.element {
                paths(members, "", &mut all);
            }
            all
        }
    }
}

impl Column {
    /// The column called `name` as it stands in a file, or why it does not.
    pub fn resolve(&self, name: &str, header: &Header) -> Result<Resolved, String> {
        if let Some(attribute) = &self.attribute {
            return self.constant(name, attribute, header);
        }
        if let Values::Each(values) = &self.values {
            let mut addresses = values.iter().flat_map(|(_, value)| value.addresses());
            if self.optional && addresses.all(|a| header.dataset(&a.dataset).is_none()) {
                return Ok(ABSENT);
            }
            return self.each(name, values, header);
        }
        let mut wrong = None;
        for address in self.addresses() {
            let Some(dataset) = header.dataset(&address.dataset) else { continue };
            if self.optional && address.member.is_some() && dataset.leaf(address.member.as_deref()).is_err() {
                continue;
            }
            match self.at_address(address).resolve_one(name, dataset) {
                Ok(resolved) => return Ok(resolved),
                Err(reason) => {
                    wrong.get_or_insert(reason);
                }
            }
        }
        let known = |a: &Address| header.unreadable.iter().find(|(path, _)| *path == a.dataset);
        let unreadable = self.addresses().find_map(|a| known(&a));
        match (wrong, unreadable) {
            (Some(reason), _) => Err(reason),
            (None, Some((path, reason))) => Err(format!("dataset `{path}` cannot be read: {reason}")),
            (None, None) if self.optional => Ok(ABSENT),
            (None, None) => Err(self.missing(header)),
        }
    }

    /// The field of an optional column that no file has: of a number, where `as` says which.
    #[must_use]
    pub fn guess(&self, name: &str) -> Option<Field> {
        let number = matches!(self.kind, None | Some(ColumnKind::Number)) && self.dims.is_none() && self.values == Values::One;
        self.dtype.filter(|_| number && !self.empty).map(|dtype| self.field(name, dtype.arrow()))
    }

    fn field(&self, name: &str, of: DataType) -> Field {
        with_unit(Field::new(name, of, self.nullable()), self.unit.as_deref())
    }

    /// True where events may have no value.
    fn nullable(&self) -> bool {
        self.optional && !self.empty
    }

    fn missing(&self, header: &Header) -> String {
        let paths: Vec<String> = self.addresses().map(|a| a.dataset).collect();
        let (path, all) = (paths[0].as_str(), paths.iter().map(|p| format!("`{p}`")).collect::<Vec<_>>().join(" or "));
        // The same word in other letters or in another group is what is meant most often.
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_lowercase();
        let meant = header.paths().find(|known| last(known) == last(path)).map(|known| format!("did you mean `{known}`?"));
        let help = meant.or_else(|| Problem::at(&Placed::unplaced(()), "").suggest(path, header.paths().take(20)).help);
        match help {
            Some(help) => format!("no dataset {all}; {help}"),
            None => format!("no dataset {all}; the file has no datasets"),
        }
    }

    fn constant(&self, name: &str, attribute: &str, header: &Header) -> Result<Resolved, String> {
        let owner = self.path();
        let of = if owner.is_empty() { "the file".to_owned() } else { format!("`{owner}`") };
        let mut known = header.attributes.iter().filter(|a| a.path == owner);
        let Some(found) = known.clone().find(|a| a.name == attribute) else {
            if self.optional {
                return Ok(ABSENT);
            }
            let names: Vec<&str> = known.by_ref().map(|a| a.name.as_str()).take(20).collect();
            let has = if names.is_empty() { "no attributes".to_owned() } else { names.join(", ") };
            return Err(format!("no attribute `{attribute}` of {of}; it has {has}"));
        };
        let (of_value, place) = match &found.value {
            Value::Text(_) if self.dtype.is_none() => (DataType::Utf8, 0),
            Value::Text(_) => return Err(format!("the attribute `{attribute}` of {of} is a text, no number")),
            Value::Other(what) => return Err(format!("the attribute `{attribute}` of {of} is {what}")),
            Value::Numbers { number, bytes } => {
                let count = bytes.len() / usize::from(number.bytes.max(1));
                let place = match self.at[..] {
                    [] if count == 1 => 0,
                    [place] if (place as usize) < count => place as usize,
                    _ => {
                        let what = format!("the attribute `{attribute}` of {of} holds {count} numbers");
                        return Err(format!("{what}; choose one with `at`"));
                    }
                };
                (self.dtype.map_or_else(|| number.arrow(), Dtype::arrow), place)
            }
        };
        let field = Some(self.field(name, of_value));
        Ok(Resolved { rows: None, field, make: Make::Constant(found.value.clone(), place) })
    }

    /// Hits whose values each have a dataset.
    fn each(&self, name: &str, values: &[(String, Column)], header: &Header) -> Result<Resolved, String> {
        let (mut parts, mut fields): (Vec<Part>, Vec<Field>) = Default::default();
        let mut first: Option<(u64, Vec<u64>)> = None;
        for (value, column) in values {
            let column = Column { kind: Some(ColumnKind::Dense), value: None, dims: self.dims.clone(), ..column.clone() };
            let resolved = column.resolve(value, header).map_err(|e| format!("value `{value}`: {e}"))?;
            let (Make::Dense(part), Some(field)) = (resolved.make, resolved.field) else {
                return Err(format!("value `{value}` is no image"));
            };
            let DataType::FixedSizeList(item, _) = field.data_type() else {
                return Err(format!("value `{value}` is no image"));
            };
            let shape: Vec<u64> = crate::hits::shape(&field).unwrap_or_default().iter().map(|n| *n as u64).collect();
            let this = (resolved.rows.unwrap_or(0), shape);
            match &first {
                None => first = Some(this),
                Some(other) if *other == this => {}
                Some((rows, shape)) => {
                    return Err(format!(
                        "the values of a cell stand side by side: `{}` has {} events of shape {}, `{}` {rows} of shape {}",
                        part.path,
                        this.0,
                        shape_name(&this.1),
                        parts[0].path,
                        shape_name(shape)
                    ));
                }
            }
            fields.push(with_unit(Field::new(value, item.data_type().clone(), false), column.unit.as_deref()));
            parts.push(part);
        }
        let Some((rows, shape)) = first else { return Err("no values".into()) };
        let shape = self.shaped(&shape)?;
        let field = with_unit(hits_field(name, &shape, &fields).with_nullable(self.nullable()), self.unit.as_deref());
        Ok(Resolved { rows: Some(rows), field: Some(field), make: Make::Each(parts) })
    }

    /// The shape of an image, as it is to be seen.
    fn shaped(&self, dims: &[u64]) -> Result<Vec<usize>, String> {
        let shape = self.reshape.as_deref().unwrap_or(dims);
        if shape.iter().try_fold(1u64, |n, m| n.checked_mul(*m)) != Some(dims.iter().product()) {
            return Err(format!("{} cells do not make the shape {}", dims.iter().product::<u64>(), shape_name(shape)));
        }
        Ok(shape.iter().map(|n| *n as usize).collect())
    }

    /// The column at its only address.
    fn resolve_one(&self, name: &str, dataset: &Dataset) -> Result<Resolved, String> {
        if let Some(reason) = unknown_filter(dataset) {
            return Err(reason);
        }
        let path = &dataset.path;
        let Some(rows) = dataset.rows() else { return Err(format!("`{path}` is a single value, it has no axis of events")) };
        if dataset.row_elements().saturating_mul(dataset.element.bytes()) > MOST_ROW_BYTES {
            return Err(format!("`{path}` is {}: one event is too large", dataset.describe()));
        }
        if let Some(members) = &self.members {
            return self.records(name, dataset, rows, members);
        }
        let leaf = dataset.leaf(self.member.as_deref())?;
        let (field, make) = match leaf.element {
            Element::Text { .. } | Element::List { .. } => self.list(name, dataset, &leaf)?,
            _ => self.numbers(name, dataset, &leaf)?,
        };
        Ok(Resolved { rows: Some(rows), field: Some(field), make })
    }

    /// A text or a list of variable length for each event.
    fn list(&self, name: &str, dataset: &Dataset, leaf: &Leaf<'_>) -> Result<(Field, Make), String> {
        let path = &dataset.path;
        if matches!(self.kind, Some(ColumnKind::Hits | ColumnKind::Dense)) {
            return Err(format!("`{path}` holds {}, not numbers", leaf.element.name()));
        }
        let (before, rest) = self.fixed(dataset)?;
        if self.last.is_some() || rest.iter().chain(&leaf.shape).any(|n| *n != 1) {
            return Err(format!("`{path}` is {}: several for each event; choose one with `at`", dataset.describe()));
        }
        let stride = dataset.element.bytes() as usize;
        let mut lists = Lists {
            path: path.clone(),
            member: self.member.clone(),
            place: (dataset.row_elements() as usize, before),
            fixed: None,
        };
        match leaf.element {
            Element::Text { bytes, variable, pad } => {
                if self.empty {
                    return Err(format!("`{path}` holds text; only hits and lists can be empty"));
                }
                if self.dtype.is_some() || self.kind.is_some() {
                    return Err(format!("`{path}` holds text; `as` and `kind` are for numbers"));
                }
                let start = before * stride + leaf.offset as usize;
                let row_bytes = dataset.row_elements() as usize * stride;
                lists.fixed = (!variable).then_some((row_bytes, start, *bytes as usize, *pad));
                Ok((self.field(name, DataType::Utf8), Make::Text(lists)))
            }
            Element::List { of, .. } => {
                let (Element::Number(number) | Element::Enum { number, .. }) = of.as_ref() else {
                    return Err(format!("`{path}` holds lists of {}, not of numbers", of.name()));
                };
                if !matches!(self.kind, None | Some(ColumnKind::List)) {
                    return Err(format!("`{path}` holds lists of variable length: `kind: list`, or none"));
                }
                let item = self.dtype.map_or_else(|| number.arrow(), Dtype::arrow);
                let field = self.field(name, DataType::List(Arc::new(Field::new("item", item, false))));
                Ok((field, Make::List(lists, *number)))
            }
            other => Err(format!("`{path}` holds {}", other.name())),
        }
    }

    /// The flat place that `at` fixes on the first axes, and the lengths of the axes behind them.
    fn fixed<'a>(&self, dataset: &'a Dataset) -> Result<(usize, &'a [u64]), String> {
        let (path, trailing) = (&dataset.path, &dataset.shape[1..]);
        let short = |places: usize| {
            let axes = trailing.len();
            Err(format!("`{path}` is {}; `at` has {places} places for {axes} axes", dataset.describe()))
        };
        if self.at.len() > trailing.len() {
            return short(self.at.len());
        }
        if let Some((place, length)) = self.at.iter().zip(trailing).find(|(a, n)| a >= n) {
            return Err(format!("`{path}` is {}; `at` asks for place {place} of {length}", dataset.describe()));
        }
        let rest = &trailing[self.at.len()..];
        let flat = self.at.iter().zip(trailing).fold(0, |n, (a, length)| n * *length as usize + *a as usize);
        Ok((flat * rest.iter().product::<u64>() as usize, rest))
    }

    /// The numbers of an event as a column.
    fn numbers(&self, name: &str, dataset: &Dataset, leaf: &Leaf<'_>) -> Result<(Field, Make), String> {
        let path = &dataset.path;
        let number = dataset.numbers(self.member.as_deref())?.number;
        let (dims, part) = self.part(dataset, leaf, number)?;
        let names = match leaf.element {
            Element::Enum { names, .. } if self.names.is_empty() => names.iter().map(|(n, v)| (*v, n.clone())).collect(),
            _ => self.names.iter().map(|(v, n)| (*v, n.clone())).collect::<Vec<_>>(),
        };
        let named = self.dtype.is_none() && !names.is_empty() && matches!(self.kind, None | Some(ColumnKind::Number));
        let single = dims.is_empty() && self.dims.is_none() && self.reshape.is_none() && self.values == Values::One;
        let kind = self.kind.unwrap_or(if single { ColumnKind::Number } else { ColumnKind::Hits });
        let several = dims.iter().product::<u64>();
        if !self.one_hot.is_empty() {
            if dims != [self.one_hot.len() as u64] {
                let what = format!("a row of {} numbers is wanted, one for each name", self.one_hot.len());
                return Err(format!("`{path}` is {}; {what}", dataset.describe()));
            }
            return Ok((self.named_field(name, &self.one_hot), Make::OneHot(part)));
        }
        if kind == ColumnKind::Number && several != 1 {
            return Err(format!("`{path}` is {}: {several} numbers for each event; choose one with `at`", dataset.describe()));
        }
        if self.empty && !matches!(kind, ColumnKind::Hits | ColumnKind::List) {
            return Err(format!("`{path}` is {}: only hits and lists can be empty", dataset.describe()));
        }
        if named && (single || self.kind.is_some()) {
            let (values, names): (Vec<i64>, Vec<String>) = names.into_iter().unzip();
            return Ok((self.named_field(name, &names), Make::Named(part, values)));
        }
        let dtype = self.dtype.map(Dtype::arrow);
        if kind == ColumnKind::Number {
            return Ok((self.field(name, dtype.unwrap_or_else(|| number.arrow())), Make::Number(part)));
        }
        let wanted = self.dims.as_ref().filter(|wanted| match &self.values {
            Values::Last(_) => dims.split_last().is_none_or(|(_, cells)| cells != &wanted[..]),
            _ => **wanted != dims,
        });
        if let Some(wanted) = wanted {
            let (found, wanted) = (shape_name(&dims), shape_name(wanted));
            return Err(format!("`{path}` is {}; an event has the shape {found}, not {wanted}", dataset.describe()));
        }
        if dims.is_empty() && kind != ColumnKind::List {
            return Err(format!("`{path}` is {}: one number for each event is no image", dataset.describe()));
        }
        if several > MOST_CELLS {
            return Err(format!("`{path}` is {}: one event is too large", dataset.describe()));
        }
        let value = dtype.unwrap_or_else(|| cell_value(number));
        let (field, make) = match (kind, &self.values) {
            (ColumnKind::List, _) => {
                let item = Arc::new(Field::new("item", value, false));
                return Ok((self.field(name, DataType::List(item)), Make::Numbers(part)));
            }
            (ColumnKind::Dense, _) => (dense_field(name, &self.shaped(&dims)?, value), Make::Dense(part)),
            (_, Values::Last(names)) => {
                let Some((last, cells)) = dims.split_last().filter(|(last, _)| **last == names.len() as u64) else {
                    let what = format!("the last axis has a place for each of {}", names.join(", "));
                    return Err(format!("`{path}` is {}; {what}", dataset.describe()));
                };
                let fields: Vec<Field> = names.iter().map(|n| Field::new(n, value.clone(), false)).collect();
                (hits_field(name, &self.shaped(cells)?, &fields), Make::Last(part, *last as usize))
            }
            _ => {
                let value = with_unit(Field::new(self.value_name(), value, false), self.unit.as_deref());
                (hits_field(name, &self.shaped(&dims)?, &[value]), Make::Hits(part))
            }
        };
        Ok((with_unit(field.with_nullable(self.nullable()), self.unit.as_deref()), make))
    }

    fn named_field(&self, name: &str, names: &[String]) -> Field {
        let of = DataType::Dictionary(DataType::Int16.into(), DataType::Utf8.into());
        let mut metadata = std::collections::HashMap::new();
        metadata.insert(NAMES_KEY.to_owned(), serde_json::json!(names).to_string());
        // A value without a name is missing.
        with_unit(Field::new(name, of, true).with_metadata(metadata), self.unit.as_deref())
    }

    /// A record for each event, or several.
    fn records(&self, name: &str, dataset: &Dataset, rows: u64, members: &Members) -> Result<Resolved, String> {
        let path = &dataset.path;
        let (_, rest) = self.fixed(dataset)?;
        let names = chosen(dataset, members);
        if names.is_empty() {
            return Err(format!("`{path}` is {}, no records", dataset.describe()));
        }
        let each = |member: &String| {
            let array = dataset.leaf(Some(member)).map(|leaf| !leaf.shape.is_empty())?;
            let kind = (array || !rest.is_empty()).then_some(ColumnKind::Dense);
            let column =
                Column { dataset: path.clone(), member: Some(member.clone()), kind, at: self.at.clone(), ..Self::default() };
            column.resolve_one(&member.replace('.', "_"), dataset)
        };
        let mut columns = Vec::new();
        for member in &names {
            let resolved = match each(member) {
                Err(_) if !rest.is_empty() && *members == Members::All => continue,
                resolved => resolved?,
            };
            // Among several records, what is no plain number is left out where nobody named it.
            let plain = matches!(&resolved.make, Make::Dense(p) if p.pick.numbers() == rest.iter().product::<u64>() as usize);
            if rest.is_empty() || plain {
                columns.push(resolved);
            } else if matches!(members, Members::These(_)) {
                return Err(format!("`{path}` holds several records a row; of those `{member}` is no plain number"));
            }
        }
        let valid = self.valid.as_ref().map(each).transpose()?;
        if rest.is_empty() {
            if self.valid.is_some() {
                return Err(format!(
                    "`{path}` is {}: one record for each event, so `valid` has nothing to choose",
                    dataset.describe()
                ));
            }
            let fields: Vec<Field> = columns.iter().filter_map(|c| c.field.clone()).collect();
            let field = Some(self.field(name, DataType::Struct(fields.into())));
            return Ok(Resolved { rows: Some(rows), field, make: Make::Struct(columns) });
        }
        let (mut fields, mut parts) = (Vec::new(), Vec::new());
        for column in columns {
            // What is something else was left out or refused above.
            let (Make::Dense(part), Some(field)) = (column.make, &column.field) else { continue };
            fields.push(Field::new(field.name(), part.pick.number.arrow(), false));
            parts.push(part);
        }
        let valid = match valid.map(|v| v.make) {
            Some(Make::Dense(part)) => Some(part),
            None => None,
            Some(_) => return Err(format!("`{path}`: the member that `valid` names is no truth value")),
        };
        let item = Field::new("item", DataType::Struct(fields.into()), false);
        let field = Some(self.field(name, DataType::List(Arc::new(item))));
        let count = rest.iter().product::<u64>() as usize;
        Ok(Resolved { rows: Some(rows), field, make: Make::Structs(count, parts, valid) })
    }

    /// The numbers of a row that are meant, and their shape.
    fn part(&self, dataset: &Dataset, leaf: &Leaf<'_>, number: Number) -> Result<(Vec<u64>, Part), String> {
        let path = &dataset.path;
        let (before, rest) = self.fixed(dataset)?;
        let mut dims: Vec<u64> = rest.iter().chain(&leaf.shape).copied().collect();
        let (stride, offset) = (dataset.element.bytes() as usize, leaf.offset as usize);
        let (size, bytes) = (number.stored as usize, usize::from(number.bytes));
        let each: usize = leaf.shape.iter().product::<u64>() as usize;
        let elements = dataset.row_elements() as usize;
        let groups = rest.iter().product::<u64>() as usize;
        let in_file = Pick { number, row_bytes: elements * stride, start: before * stride + offset, groups, stride, each };
        let little = Number { big_endian: false, plain: true, stored: number.bytes.into(), ..number };
        let wide = each * bytes;
        let packed = Pick { number: little, row_bytes: elements * wide, start: before * wide, groups, stride: wide, each };
        let mut part = Part { path: path.clone(), member: self.member.clone(), pick: in_file, packed, plain: number.plain };
        let Some(last) = self.last else { return Ok((dims, part)) };
        let Some(length) = dims.pop().filter(|n| last < *n && leaf.shape.len() < 2) else {
            let what = format!("`{path}` is {}; `at` asks for place {last} of the last axis", dataset.describe());
            return Err(what);
        };
        for (pick, size, element) in [(&mut part.pick, size, stride), (&mut part.packed, bytes, wide)] {
            let one = if leaf.shape.is_empty() { element } else { size };
            pick.start += last as usize * one;
            if leaf.shape.is_empty() {
                pick.groups /= length as usize;
                pick.stride *= length as usize;
            }
            pick.each = 1;
        }
        Ok((dims, part))
    }
}
