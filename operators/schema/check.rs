//! What has to be true of the values of a column, and what happens to a row of which it is not.
//!
//! Invariants: a row is counted at the first check that it fails; a value that is missing because its file lacks the column
//! fails none.

use crate::Fault;
use crate::work::{Noticed, notice};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Float64Type};
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::fmt;

/// What has to be true of each value.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The least and the greatest value that are right; NaN is not.
    #[serde(default)]
    pub range: Option<[f64; 2]>,
    /// No NaN, no infinity.
    #[serde(default)]
    pub finite: bool,
    /// The values that are right.
    #[serde(default)]
    pub one_of: Vec<Word>,
    /// The values that are right in each sample, by the name of the sample in any letters; other samples are not checked.
    #[serde(default)]
    pub class: BTreeMap<String, Vec<f64>>,
    /// What happens to a row of which it is not true.
    #[serde(default, rename = "else")]
    pub otherwise: Otherwise,
}

/// What happens to a row that fails a check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// It is cut and counted.
    #[default]
    Cut,
    /// Its unit is quarantined.
    Quarantine,
}

/// A number or a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = Word;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a text")
            }
            fn visit_bool<E>(self, truth: bool) -> Result<Word, E> {
                Ok(Word::Number(f64::from(u8::from(truth))))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Word, E> {
                Ok(Word::Number(number as f64))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Word, E> {
                Ok(Word::Number(number as f64))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Word, E> {
                Ok(Word::Number(number))
            }
            fn visit_str<E>(self, text: &str) -> Result<Word, E> {
                Ok(Word::Text(text.to_owned()))
            }
        }
        from.deserialize_any(Either)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// What a value is that fails, and whether a number does.
type Rule<'a> = (String, Box<dyn Fn(f64) -> bool + 'a>);

impl Check {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.range.is_none() && !self.finite && self.one_of.is_empty() && self.class.is_empty() {
            wrong.push("a `check` says `range`, `finite`, `one_of` or `class`".to_owned());
        }
        if self.range.is_some_and(|[low, high]| low.is_nan() || high.is_nan() || low > high) {
            wrong.push("a `range` is the least and the greatest value, in this order".to_owned());
        }
        let texts = self.one_of.iter().filter(|w| matches!(w, Word::Text(_))).count();
        if texts > 0 && (texts < self.one_of.len() || self.range.is_some() || self.finite || !self.class.is_empty()) {
            wrong.push("texts are checked by a `one_of` of texts alone".to_owned());
        }
        wrong
    }

    /// True where texts are checked and not numbers.
    fn of_texts(&self) -> bool {
        matches!(self.one_of.first(), Some(Word::Text(_)))
    }

    /// Why values of this type cannot be checked so; none where they can.
    #[must_use]
    pub fn unfit(&self, values: &DataType) -> Option<String> {
        match (leaves(values), self.of_texts()) {
            (DataType::Utf8, true) => None,
            (DataType::Utf8, false) => Some("texts are checked by a `one_of` of texts".into()),
            (_, true) => Some("numbers are not checked by texts".into()),
            (DataType::Boolean, _) => None,
            (leaf, _) if leaf.is_numeric() => None,
            (leaf, _) => Some(format!("{leaf} cannot be checked")),
        }
    }

    /// Takes the rows that fail out of `keep`, and counts them; an error where they quarantine the unit.
    pub fn apply(
        &self,
        column: &str,
        values: &ArrayRef,
        sample: Option<&str>,
        first: u64,
        keep: &mut [bool],
        noticed: &mut Noticed,
    ) -> Result<(), Fault> {
        for (what, rule) in self.rules(sample) {
            let failed = if self.of_texts() { self.texts_that_fail(values)? } else { numbers_that_fail(values, &rule)? };
            let mut count = 0;
            for (row, keep) in keep.iter_mut().enumerate().filter(|(row, _)| failed[*row]) {
                if self.otherwise == Otherwise::Quarantine {
                    return Err(Fault::Content(format!("row {}: `{column}` is {what}", first + row as u64)));
                }
                count += usize::from(*keep);
                *keep = false;
            }
            notice(noticed, count, || format!("rows cut because `{column}` is {what}"));
        }
        Ok(())
    }

    /// The checks one by one.
    fn rules<'a>(&'a self, sample: Option<&str>) -> Vec<Rule<'a>> {
        let mut rules: Vec<Rule<'a>> = Vec::new();
        if self.finite {
            rules.push(("not finite".into(), Box::new(|v| !v.is_finite())));
        }
        if let Some([low, high]) = self.range {
            rules.push((format!("not in {low} to {high}"), Box::new(move |v| !(low..=high).contains(&v))));
        }
        if !self.one_of.is_empty() {
            let known: Vec<String> = self.one_of.iter().map(Word::to_string).collect();
            let right = |v| self.one_of.iter().any(|w| matches!(w, Word::Number(n) if *n == v));
            rules.push((format!("none of {}", known.join(", ")), Box::new(move |v| !right(v))));
        }
        let class = sample.and_then(|sample| self.class.iter().find(|(name, _)| name.eq_ignore_ascii_case(sample)));
        if let Some((_, right)) = class {
            let sample = sample.unwrap_or_default();
            rules.push((format!("not that of the sample `{sample}`"), Box::new(move |v| !right.contains(&v))));
        }
        rules
    }

    fn texts_that_fail(&self, values: &ArrayRef) -> Result<Vec<bool>, Fault> {
        let texts = cast(values, &DataType::Utf8)?;
        let right = |text: &str| self.one_of.iter().any(|w| matches!(w, Word::Text(t) if t == text));
        Ok(texts.as_string::<i32>().iter().map(|text| !text.is_some_and(right)).collect())
    }
}

/// The type of the values themselves: those of an image or of a list.
fn leaves(of: &DataType) -> &DataType {
    match of {
        DataType::List(item) | DataType::FixedSizeList(item, _) => match item.data_type() {
            DataType::Struct(fields) => fields.get(1).map_or(item.data_type(), |f| f.data_type()),
            other => other,
        },
        DataType::Dictionary(_, of) => of,
        other => other,
    }
}

/// A row fails where one of its values does.
fn numbers_that_fail(values: &ArrayRef, fails: &dyn Fn(f64) -> bool) -> Result<Vec<bool>, Fault> {
    let floats = |array: &ArrayRef| -> Result<Float64Array, Fault> {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        Ok(cast_with_options(array, &DataType::Float64, &options)?.as_primitive::<Float64Type>().clone())
    };
    let any = |array: &ArrayRef, ends: &mut dyn Iterator<Item = (usize, usize)>| -> Result<Vec<bool>, Fault> {
        let columns = match array.as_struct_opt() {
            // The cell comes first.
            Some(hit) => hit.columns()[1..].iter().map(&floats).collect::<Result<Vec<_>, _>>()?,
            None => vec![floats(array)?],
        };
        Ok(ends.map(|(from, to)| columns.iter().any(|c| c.values()[from..to].iter().any(|v| fails(*v)))).collect())
    };
    if let Some(list) = values.as_list_opt::<i32>() {
        let ends: Vec<usize> = list.value_offsets().iter().map(|o| *o as usize).collect();
        return any(list.values(), &mut ends.windows(2).map(|w| (w[0], w[1])));
    }
    if let Some(list) = values.as_fixed_size_list_opt() {
        let length = list.value_length() as usize;
        return any(list.values(), &mut (0..list.len()).map(|row| (row * length, (row + 1) * length)));
    }
    Ok(floats(values)?.iter().map(|v| v.is_none_or(fails)).collect())
}
