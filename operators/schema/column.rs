//! A column of a schema as people write it: where its values are, and what becomes of them.
//!
//! Invariant: a column that [`mistakes`] has nothing to say of is one form of column and no mixture of two.

use super::check::Check;
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// A column and the address of its values.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Column {
    /// The path of the dataset (the first of its addresses); empty where the value is an attribute or in `values`.
    pub dataset: String,
    /// The member, where the elements of the dataset are records (`a.b` for a member of a member).
    pub member: Option<String>,
    /// Fixed places on the axes behind axis 0, from the first on: `at: [0, 1]` takes `dataset[:, 0, 1]`.
    pub at: Vec<u64>,
    /// A fixed place on the last axis: `at: [":", 1]` takes `dataset[:, ..., 1]`.
    pub last: Option<u64>,
    /// Where else the values may be: the first address that fits counts.
    pub others: Vec<Address>,
    /// Members of records that become a struct, or a column each where the name of this column has a star.
    pub members: Option<Members>,
    /// The name of an attribute (of `dataset`, else of the file), which is the same for each event of a file.
    pub attribute: Option<String>,
    /// Several values of one cell.
    pub values: Values,
    /// How the values are kept. Left out: a number where one is left for each event, else hits.
    pub kind: Option<ColumnKind>,
    /// The name of a hit's value (`energy`).
    pub value: Option<String>,
    /// The unit of the values.
    pub unit: Option<String>,
    /// The type in memory, where it is not that of the file (`as: f32`).
    pub dtype: Option<Dtype>,
    /// Hits of a magnitude below this are dropped.
    pub threshold: Option<f64>,
    /// Hits below 0 are dropped.
    pub drop_negative: bool,
    /// The shape of an image; files of another shape are refused. Left out: that of most files.
    pub dims: Option<Vec<u64>>,
    /// The shape that an image gets, where the file has its cells in one row.
    pub reshape: Option<Vec<u64>>,
    /// True where a file may lack it: its events have no value then (null), or what `absent` says.
    pub optional: bool,
    /// True where events of a file that lacks it have no hits, or an empty list, instead of no value.
    pub empty: bool,
    /// The names of a number's values.
    pub names: BTreeMap<i64, String>,
    /// The names of the places of a row of zeros and one 1.
    pub one_hot: Vec<String>,
    /// The member that says which records of a row are real.
    pub valid: Option<String>,
    /// What has to be true of each value.
    pub check: Option<Check>,
}

/// Where values are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Address {
    /// The path of the dataset.
    pub dataset: String,
    /// The member.
    pub member: Option<String>,
    /// Fixed places on the axes behind axis 0.
    pub at: Vec<u64>,
    /// A fixed place on the last axis.
    pub last: Option<u64>,
}

/// Which members of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Members {
    /// All of them.
    All,
    /// These.
    These(Vec<String>),
}

/// Several values of one cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Values {
    /// Just one.
    #[default]
    One,
    /// The places of the last axis, by name.
    Last(Vec<String>),
    /// A dataset each.
    Each(Vec<(String, Column)>),
}

/// How the values of a column are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    /// One number for each event.
    Number,
    /// The cells that are not zero.
    Hits,
    /// All cells.
    Dense,
    /// The numbers of an event as a list.
    List,
}

/// A type of number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Dtype {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    F32,
    F64,
}

impl Dtype {
    /// As Arrow calls it.
    #[must_use]
    pub fn arrow(self) -> arrow::datatypes::DataType {
        use arrow::datatypes::DataType;
        match self {
            Self::I8 => DataType::Int8,
            Self::I16 => DataType::Int16,
            Self::I32 => DataType::Int32,
            Self::I64 => DataType::Int64,
            Self::U8 => DataType::UInt8,
            Self::U16 => DataType::UInt16,
            Self::U32 => DataType::UInt32,
            Self::U64 => DataType::UInt64,
            Self::F16 => DataType::Float16,
            Self::F32 => DataType::Float32,
            Self::F64 => DataType::Float64,
        }
    }
}

impl Column {
    /// The path of the dataset without slashes at its ends.
    #[must_use]
    pub fn path(&self) -> &str {
        self.dataset.trim_matches('/')
    }

    /// The name of a hit's value.
    #[must_use]
    pub fn value_name(&self) -> &str {
        self.value.as_deref().unwrap_or("value")
    }

    /// All addresses, the preferred one first.
    pub fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        let first =
            Address { dataset: self.path().to_owned(), member: self.member.clone(), at: self.at.clone(), last: self.last };
        std::iter::once(first).chain(self.others.iter().cloned())
    }

    /// The same column at one address.
    #[must_use]
    pub fn at_address(&self, address: Address) -> Self {
        let Address { dataset, member, at, last } = address;
        Self { dataset, member, at, last, others: Vec::new(), ..self.clone() }
    }
}

impl Column {
    /// True where a dataset of one number, one image, or one class for each event is all there is to it, so that a writer can
    /// make it.
    pub(super) fn is_plain(&self) -> bool {
        let place = self.last.is_none() && self.reshape.is_none() && self.kind != Some(ColumnKind::List);
        place
            && self.members.is_none()
            && self.names.is_empty()
            && self.values == Values::One
            && (self.one_hot.is_empty() || self.at.is_empty())
    }
}

/// Everything that is wrong with the column called `name`.
pub fn mistakes(name: &str, column: &Column) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut say = |what: &str| wrong.push(format!("column `{name}`: {what}"));
    if crate::column::PROVENANCE.contains(&name) || name == super::SPLIT {
        say("this name says where a row came from");
    }
    let each = matches!(column.values, Values::Each(_));
    if column.path().is_empty() && column.attribute.is_none() && !each {
        say("`dataset` is missing or empty");
    }
    if column.others.iter().any(|a| a.dataset.is_empty()) {
        say("an address without a `dataset`");
    }
    let number = column.kind == Some(ColumnKind::Number);
    if number && column.dims.is_some() {
        say("a number has no `dims`");
    }
    if matches!(column.kind, Some(ColumnKind::Number | ColumnKind::Dense | ColumnKind::List))
        && (column.threshold.is_some() || column.value.is_some() || column.drop_negative)
    {
        say("`threshold`, `drop_negative` and `value` are for hits");
    }
    if column.threshold.is_some_and(|t| t.is_nan() || t <= 0.0) {
        say("a `threshold` is above 0");
    }
    if column.value.as_deref() == Some(crate::hits::CELL) {
        say("the value of a hit cannot be called `cell`");
    }
    for (what, dims) in [("dims", &column.dims), ("reshape", &column.reshape)] {
        if dims.as_ref().is_some_and(|d| d.is_empty() || d.contains(&0)) {
            say(&format!("`{what}` are lengths above 0"));
        }
    }
    let image = matches!(column.kind, Some(ColumnKind::Hits | ColumnKind::Dense))
        || column.dims.is_some()
        || column.reshape.is_some()
        || column.values != Values::One;
    if column.empty && matches!(column.kind, Some(ColumnKind::Number | ColumnKind::Dense)) {
        say("only hits and lists can be empty: `absent: empty` says that there are none, `optional: true` that nobody knows");
    }
    let names = match &column.values {
        Values::One => Vec::new(),
        Values::Last(names) => names.iter().map(String::as_str).collect(),
        Values::Each(each) => each.iter().map(|(name, _)| name.as_str()).collect(),
    };
    if names.contains(&crate::hits::CELL) || (1..names.len()).any(|i| names[..i].contains(&names[i])) {
        say("`values` have names of their own, and none is `cell`");
    }
    if column.values != Values::One && (names.is_empty() || !matches!(column.kind, None | Some(ColumnKind::Hits))) {
        say("`values` are those of hits, at least one");
    }
    if let Values::Each(each) = &column.values {
        if !column.path().is_empty() {
            say("each of the `values` has its own `dataset`; the column has none");
        }
        for (value, inner) in each {
            let plain = Column {
                dataset: inner.dataset.clone(),
                member: inner.member.clone(),
                at: inner.at.clone(),
                last: inner.last,
                others: inner.others.clone(),
                unit: inner.unit.clone(),
                dtype: inner.dtype,
                value: Some(value.clone()),
                ..Column::default()
            };
            if *inner != plain || inner.path().is_empty() {
                say(&format!("the value `{value}` has a `dataset`, and may have `member`, `at`, `as` and `unit`"));
            }
        }
    }
    let star = name.matches('*').count();
    if star > 1 || (star == 1 && column.members.is_none()) {
        say("a star in a name stands for the `member`s: write `member: \"*\"`, or list them");
    }
    if column.members.is_some() && (column.kind.is_some() || !column.names.is_empty() || !column.one_hot.is_empty()) {
        say("members of records are kept as they are: no `kind`, `names` or `one_hot`");
    }
    if column.valid.is_some() && (column.members.is_none() || star > 0) {
        say("`valid` is for a struct of several `member`s");
    }
    if column.attribute.is_some() && (image || column.kind.is_some() || column.members.is_some() || column.member.is_some()) {
        say("an attribute is a number or a text");
    }
    if !column.one_hot.is_empty() && (image || column.kind.is_some() || !column.names.is_empty()) {
        say("`one_hot` makes names of a row of numbers: no `kind`, `dims` or `names`");
    }
    if let Some(check) = &column.check {
        if star > 0 || column.members.is_some() {
            say("members of records are checked by a column of their own");
        }
        check.mistakes().iter().for_each(|what| say(what));
    }
    wrong
}

/// The words of a column as they are typed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    dataset: OneOrMany<RawAddress>,
    #[serde(default)]
    member: OneOrMany<String>,
    #[serde(default)]
    at: Option<Vec<At>>,
    #[serde(default)]
    attribute: Option<String>,
    #[serde(default)]
    values: RawValues,
    #[serde(default)]
    kind: Option<ColumnKind>,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default, rename = "as")]
    dtype: Option<Dtype>,
    #[serde(default)]
    threshold: Option<f64>,
    #[serde(default)]
    drop_negative: bool,
    #[serde(default)]
    dims: Option<Vec<u64>>,
    #[serde(default)]
    reshape: Option<Vec<u64>>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    absent: Option<Absent>,
    #[serde(default)]
    names: BTreeMap<i64, String>,
    #[serde(default)]
    one_hot: Vec<String>,
    #[serde(default)]
    valid: Option<String>,
    #[serde(default)]
    check: Option<Check>,
}

/// What events of a file that lacks the column have.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Absent {
    Null,
    Empty,
}

impl TryFrom<Raw> for Column {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let whole = Place::of(raw.at.as_deref())?;
        let (member, members) = match raw.member {
            OneOrMany(None) => (None, None),
            OneOrMany(Some(many)) if many.iter().any(|m| m == "*") => (None, Some(Members::All)),
            OneOrMany(Some(mut many)) if many.len() == 1 => (many.pop(), None),
            OneOrMany(Some(many)) => (None, Some(Members::These(many))),
        };
        let mut addresses = Vec::new();
        for address in raw.dataset.0.unwrap_or_default() {
            let place = match &address.at {
                Some(at) => Place::of(Some(at))?,
                None => whole.clone(),
            };
            let dataset = address.dataset.trim_matches('/').to_owned();
            let member = address.member.or_else(|| member.clone());
            addresses.push(Address { dataset, member, at: place.first, last: place.last });
        }
        let nowhere = Address { at: whole.first, last: whole.last, ..Address::default() };
        let first = if addresses.is_empty() { nowhere } else { addresses.remove(0) };
        Ok(Self {
            dataset: first.dataset,
            member: first.member,
            at: first.at,
            last: first.last,
            others: addresses,
            members,
            attribute: raw.attribute,
            values: raw.values.0,
            kind: raw.kind,
            value: raw.value,
            unit: raw.unit,
            dtype: raw.dtype,
            threshold: raw.threshold,
            drop_negative: raw.drop_negative,
            dims: raw.dims,
            reshape: raw.reshape,
            optional: raw.optional || raw.absent.is_some(),
            empty: matches!(raw.absent, Some(Absent::Empty)),
            names: raw.names,
            one_hot: raw.one_hot,
            valid: raw.valid,
            check: raw.check,
        })
    }
}

/// An address as it is typed: a path, or a path with its places.
struct RawAddress {
    dataset: String,
    member: Option<String>,
    at: Option<Vec<At>>,
}

impl<'de> Deserialize<'de> for RawAddress {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            dataset: String,
            #[serde(default)]
            member: Option<String>,
            #[serde(default)]
            at: Option<Vec<At>>,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawAddress;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or { dataset, member, at }")
            }
            fn visit_str<E>(self, path: &str) -> Result<RawAddress, E> {
                Ok(RawAddress { dataset: path.to_owned(), member: None, at: None })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawAddress, A::Error> {
                let Whole { dataset, member, at } = Whole::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(RawAddress { dataset, member, at })
            }
        }
        from.deserialize_any(Either)
    }
}

/// A place on an axis, or `:` for all of it.
enum At {
    Place(u64),
    All,
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = At;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a place from 0, or \":\"")
            }
            fn visit_u64<E>(self, place: u64) -> Result<At, E> {
                Ok(At::Place(place))
            }
            fn visit_i64<E: de::Error>(self, place: i64) -> Result<At, E> {
                u64::try_from(place).map(At::Place).map_err(|_| E::invalid_value(de::Unexpected::Signed(place), &self))
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<At, E> {
                if word == ":" { Ok(At::All) } else { Err(E::invalid_value(de::Unexpected::Str(word), &self)) }
            }
        }
        from.deserialize_any(Either)
    }
}

/// `at`, in the two forms that a row can be cut in: the first axes fixed, or the last.
#[derive(Clone, Default)]
struct Place {
    first: Vec<u64>,
    last: Option<u64>,
}

impl Place {
    fn of(at: Option<&[At]>) -> Result<Self, String> {
        let at = at.unwrap_or_default();
        let all = at.iter().filter(|a| matches!(a, At::All)).count();
        let places: Vec<u64> = at.iter().filter_map(|a| if let At::Place(n) = a { Some(*n) } else { None }).collect();
        match at {
            _ if all == 0 => Ok(Self { first: places, last: None }),
            [.., At::Place(last)] if all == at.len() - 1 => Ok(Self { first: Vec::new(), last: Some(*last) }),
            _ => Err("`at` fixes the first axes (`[0, 1]`) or the last one (`[\":\", 1]`)".into()),
        }
    }
}

/// The values of a cell as they are typed.
#[derive(Default)]
struct RawValues(Values);

impl<'de> Deserialize<'de> for RawValues {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawValues;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names of the places of the last axis, or a dataset by name")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RawValues, A::Error> {
                let names = Vec::deserialize(de::value::SeqAccessDeserializer::new(list))?;
                Ok(RawValues(Values::Last(names)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawValues, A::Error> {
                let mut each = Vec::new();
                while let Some((name, column)) = map.next_entry::<String, Column>()? {
                    let value = Some(column.value.clone().unwrap_or_else(|| name.clone()));
                    each.push((name, Column { value, ..column }));
                }
                Ok(RawValues(Values::Each(each)))
            }
        }
        from.deserialize_any(Either)
    }
}

/// One word (or map), or a list of them; none where it was left out.
struct OneOrMany<T>(Option<Vec<T>>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a list of words")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Self::Value, E> {
                Ok(OneOrMany(Some(vec![T::deserialize(de::value::StrDeserializer::new(word))?])))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Ok(OneOrMany(Some(vec![T::deserialize(de::value::MapAccessDeserializer::new(map))?])))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Ok(OneOrMany(Some(Vec::deserialize(de::value::SeqAccessDeserializer::new(list))?)))
            }
        }
        from.deserialize_any(Either(PhantomData))
    }
}

/// Columns in the order in which they were written.
pub(super) struct Columns(pub Vec<(Spanned<String>, Column)>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Columns;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("columns by name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    columns.push(entry);
                }
                Ok(Columns(columns))
            }
        }
        from.deserialize_map(Each)
    }
}
