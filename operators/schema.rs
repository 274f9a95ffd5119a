//! What events look like in a file: a data set layout as a list of columns, each with the address of its values.
//!
//! A schema is a YAML file: the built-in ones in `schemas/`, or a user's own by path. Every column has axis 0 of its dataset
//! as the axis of events, so all datasets of a schema are equally long. [`fit`] reads a schema against a file's header; a
//! writer goes the other way, from [`Schema::datasets`].

mod check;
mod column;
mod fit;
mod nearest;
mod resolve;

pub use check::{Check, Otherwise, Word};
pub use column::{Address, Column, ColumnKind, Dtype, Members, Values};
pub use fit::{Fitted, Misfit, Section, fit};
pub use nearest::nearest;
pub use resolve::{Lists, Make, Part, Resolved};

use crate::{Facts, Placed, Problem};
use column::{Columns, mistakes};
use serde::Deserialize;

/// The column that says which group of a split file a row came from.
pub const SPLIT: &str = "split";

/// The layouts that calostream brings along, by name.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("lcd-v1", include_str!("../schemas/lcd-v1.yaml")),
    ("lcd-v1-filtered", include_str!("../schemas/lcd-v1-filtered.yaml")),
    ("lcd-l0", include_str!("../schemas/lcd-l0.yaml")),
    ("lcd-merged", include_str!("../schemas/lcd-merged.yaml")),
    ("lcd-v2", include_str!("../schemas/lcd-v2.yaml")),
    ("lcd-v2-features", include_str!("../schemas/lcd-v2-features.yaml")),
    ("lcd-v3", include_str!("../schemas/lcd-v3.yaml")),
    ("lcd-v4", include_str!("../schemas/lcd-v4.yaml")),
    ("lcd-dlkit", include_str!("../schemas/lcd-dlkit.yaml")),
    ("lcd-flat-ntuple", include_str!("../schemas/lcd-flat-ntuple.yaml")),
    ("lariat-2d", include_str!("../schemas/lariat-2d.yaml")),
    ("lariat-3d", include_str!("../schemas/lariat-3d.yaml")),
    ("lariat-wires", include_str!("../schemas/lariat-wires.yaml")),
    ("next-dense", include_str!("../schemas/next-dense.yaml")),
    ("next-hits", include_str!("../schemas/next-hits.yaml")),
    ("next-white-waveforms", include_str!("../schemas/next-white-waveforms.yaml")),
    ("next-white-pmts", include_str!("../schemas/next-white-pmts.yaml")),
    ("next-white-sipms", include_str!("../schemas/next-white-sipms.yaml")),
    ("deepcalo", include_str!("../schemas/deepcalo.yaml")),
    ("calochallenge-2", include_str!("../schemas/calochallenge-2.yaml")),
    ("calochallenge-3", include_str!("../schemas/calochallenge-3.yaml")),
    ("calochallenge", include_str!("../schemas/calochallenge.yaml")),
    ("atlas-ftag", include_str!("../schemas/atlas-ftag.yaml")),
    ("cms-eml", include_str!("../schemas/cms-eml.yaml")),
];

/// A data set layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// The groups that a file is split into, each with all the datasets; none where they stand in the file itself.
    pub split: Vec<String>,
    /// The columns, in order.
    pub columns: Vec<(String, Column)>,
}

impl Schema {
    /// True where the word is a path and not the name of a built-in schema.
    #[must_use]
    pub fn is_path(word: &str) -> bool {
        word.contains('/') || word.ends_with(".yaml") || word.ends_with(".yml")
    }

    /// The schema that a word in a pipeline means.
    pub fn find(word: &Placed<String>, facts: &Facts) -> Result<Self, Vec<Problem>> {
        let (origin, text) = if Self::is_path(word) {
            (word.value.as_str(), facts.text(word).map_err(|p| vec![p])?)
        } else {
            let Some((_, text)) = BUILT_IN.iter().find(|(name, _)| *name == word.value) else {
                let problem = Problem::at(word, format!("no schema `{}`", word.value));
                return Err(vec![problem.suggest(word, BUILT_IN.iter().map(|(name, _)| *name))]);
            };
            (word.value.as_str(), *text)
        };
        Self::parse(text).map_err(|found| {
            found.into_iter().map(|(line, column, what)| Problem::at(word, format!("{origin}:{line}:{column}: {what}"))).collect()
        })
    }

    /// Reads a schema; what is wrong comes with its line and column.
    pub fn parse(text: &str) -> Result<Self, Vec<(u64, u64, String)>> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            schema: String,
            #[serde(default)]
            split: Vec<String>,
            columns: Columns,
        }
        let raw: Raw = serde_saphyr::from_str(text).map_err(|error| {
            let place = error.location().map_or((0, 0), |l| (l.line(), l.column()));
            // The first line of the message; the rest shows the text around.
            let full = error.to_string();
            vec![(place.0, place.1, full.lines().next().unwrap_or_default().to_owned())]
        })?;
        let mut wrong = Vec::new();
        for (name, column) in &raw.columns.0 {
            let place = (name.referenced.line(), name.referenced.column());
            wrong.extend(mistakes(&name.value, column).into_iter().map(|what| (place.0, place.1, what)));
        }
        if raw.columns.0.is_empty() {
            wrong.push((1, 1, "a schema needs at least one column".into()));
        }
        if wrong.is_empty() {
            let columns = raw.columns.0.into_iter().map(|(n, c)| (n.value, c)).collect();
            let split = raw.split.iter().map(|group| group.trim_matches('/').to_owned()).collect();
            Ok(Self { name: raw.schema, split, columns })
        } else {
            Err(wrong)
        }
    }

    /// The datasets, in order of first mention, each with its columns: what a writer has to fill. Of several addresses the
    /// first; attributes are none of them.
    #[must_use]
    pub fn datasets(&self) -> Vec<(&str, Vec<(&str, &Column)>)> {
        let mut datasets: Vec<(&str, Vec<(&str, &Column)>)> = Vec::new();
        for (name, column) in self.columns.iter().filter(|(_, column)| column.attribute.is_none()) {
            let each = match &column.values {
                Values::Each(each) => each.iter().map(|(_, value)| value).collect(),
                _ => vec![column],
            };
            for column in each {
                let path = column.path();
                match datasets.iter_mut().find(|(known, _)| *known == path) {
                    Some((_, columns)) => columns.push((name, column)),
                    None => datasets.push((path, vec![(name, column)])),
                }
            }
        }
        datasets
    }

    /// Why files of this layout cannot be written; none where they can.
    #[must_use]
    pub fn unwritable(&self) -> Option<String> {
        if !self.split.is_empty() {
            return Some(format!("files of `{}` are split into {}", self.name, self.split.join(", ")));
        }
        let plain = |c: &Column| c.is_plain() || (c.reshape.is_none() && matches!(c.values, Values::Each(_)));
        let (name, _) = self.columns.iter().find(|(_, c)| c.attribute.is_none() && !plain(c))?;
        Some(format!("column `{name}` of `{}` is not a dataset of its own: it can be read, not written", self.name))
    }
}
