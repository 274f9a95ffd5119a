//! The words of `infer`: how people name models, inputs, outputs and devices.
//!
//! Words that may be said in several ways (a name, or a map) are read by hand, because serde's untagged enums lose the places of
//! the words.

use crate::Placed;
use schemars::{JsonSchema, Schema as JsonSchemaOf, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// The model, or the models of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub enum Models {
    /// A path, or a pattern (then it is a sweep).
    One(String),
    /// A sweep: paths and patterns.
    Many(Vec<Placed<String>>),
    /// A sweep: paths by the names that the models are to have.
    Named(Vec<(String, Placed<String>)>),
}

/// A set of models of which each event meets one, by cross-validation.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Folds {
    /// An integer column: model number `i`, from 0, is applied to the events whose `key % k` is `i` (never negative), where `k` is the
    /// number of models.
    pub key: Placed<String>,
    /// The models: a list of paths, in the order of the folds.
    pub models: Placed<Vec<Placed<String>>>,
}

/// What an input of a model reads.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Feeding {
    /// The column: an image (hits or dense), a vector, a list or a number.
    #[serde(default)]
    pub column: Option<Placed<String>>,
    /// Several columns of equal shape, stacked as channels (numbers become a vector). Each is a name, or `{ column: .., norm: .. }`
    /// where its values are treated otherwise than those of the rest.
    #[serde(default)]
    pub columns: Option<Placed<Vec<Placed<Source>>>>,
    /// 1 for each entry of this list, 0 where it has ended: the mask of a padded list.
    #[serde(default)]
    pub mask: Option<Placed<String>>,
    /// The value of a hit (or of an entry of a list) that is read, where it has several (`energy`, `time`); the first, if not said.
    #[serde(default)]
    pub value: Option<Placed<String>>,
    /// Every value is multiplied by this.
    #[serde(default)]
    pub scale: Option<Placed<f64>>,
    /// Every value is divided by this.
    #[serde(default)]
    pub divide: Option<Placed<f64>>,
    /// A normalisation, after scaling.
    #[serde(default)]
    pub norm: Placed<NormWord>,
    /// Where the channels of `columns` stand, where the model's shape does not tell.
    #[serde(default)]
    pub channels: Option<Placed<Channels>>,
    /// Where an image that is smaller than the model's stands in it; zeros are around it.
    #[serde(default)]
    pub pad: Option<Placed<Pad>>,
    /// How many entries of a list are read, where the model's shape does not tell. Lists that are shorter are filled up with zeros.
    #[serde(default)]
    pub first: Option<Placed<usize>>,
    /// By what the entries of a list are ordered before the first are taken: a value of the entries, or another list with as many (`dr` from the
    /// smallest on, `-pt` from the largest on). Equal ones stay in their order, those without a value are the last.
    #[serde(default)]
    pub order: Option<Placed<String>>,
}

/// A normalisation.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormWord {
    /// As it is.
    #[default]
    None,
    /// `x / (|x| + 2)`, which is `tanh(sign(x) * log(|x| + 1) / 2)`: also `nonlinear`.
    #[serde(alias = "nonlinear")]
    TanhLog,
    /// `sign(x) * log(|x| + 1)`.
    Log,
    /// Divided by this constant.
    Constant(f64),
    /// By the table of a column in this JSON file: `{ "pt": { "center": 31.2, "scale": 12.5 } }` for `(x - center) / scale`, or
    /// `{ "pt": { "quantiles": [0, 1, 5], "output": "normal" } }` for quantiles.
    Table(String),
}

/// Where channels stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// In front of the axes of the image.
    First,
    /// Behind them.
    Last,
}

/// Where a small image stands in a large one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pad {
    /// At the beginning: zeros at the end of each axis.
    End,
    /// In the middle: of an odd number of zeros the one more at the end.
    Centre,
}

/// How images of hits go to a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Upload {
    /// Made dense here.
    #[default]
    Dense,
    /// As hits: the device makes the image.
    Hits,
}

/// How first layers are computed: products with images, and convolutions of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirstLayerWord {
    /// On the CPU from hits, where images of hits go into them as they are.
    #[default]
    Auto,
    /// By ONNX Runtime, from dense images.
    Dense,
}

/// A column, or a column with what happens to its values.
#[derive(Debug, Clone)]
pub enum Source {
    /// Just the name of a column.
    Column(String),
    /// The whole.
    Feeding(Box<Feeding>),
}

/// What becomes of an output of a model.
#[derive(Debug, Clone)]
pub enum Names {
    /// One new column, of the one value a row.
    One(String),
    /// As many new columns as the output has values a row.
    Many(Vec<Placed<String>>),
    /// In several ways at once.
    Taking(Box<Taking>),
}

/// The ways to take an output.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Taking {
    /// New columns, one for each value of a row.
    #[serde(default)]
    pub columns: Option<Placed<Vec<Placed<String>>>>,
    /// A new column with the class of the largest value of a row (of equal ones the first; none where a value is NaN).
    #[serde(default)]
    pub argmax: Option<Placed<String>>,
    /// The classes, in the order of the values; where they are not said, the names of the samples.
    #[serde(default)]
    pub classes: Option<Placed<Vec<String>>>,
    /// A new column with the whole output as a dense image (a vector, where it has one axis).
    #[serde(default)]
    pub dense: Option<Placed<String>>,
    /// A new column with the whole output as hits.
    #[serde(default)]
    pub hits: Option<Placed<String>>,
    /// Values of `hits` whose magnitude is below this are left out.
    #[serde(default)]
    pub threshold: Option<Placed<f64>>,
}

/// What becomes of rows for which a model says NaN or infinity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotFinite {
    /// They go on, and are counted.
    #[default]
    Keep,
    /// They are cut, and are counted.
    Cut,
}

/// Rows that the models compute at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// So many.
    Rows(usize),
    /// As many as are fastest here: measured before the first unit, and the same for the whole run.
    Auto,
}

/// Where models compute: one device, or several that share the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device(pub Vec<Placed<String>>);

impl Default for Device {
    fn default() -> Self {
        Self(vec![Placed::unplaced("cpu".into())])
    }
}

/// Reads a word that may be a text, a list or a map.
macro_rules! by_hand {
    ($type:ident, $expecting:literal, { $($visit:item)* }) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Any;
                impl<'de> Visitor<'de> for Any {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    $($visit)*
                }
                from.deserialize_any(Any)
            }
        }
    };
}

by_hand!(Models, "the path of a model, a pattern, a list of them, or `{ NAME: path }`", {
    fn visit_str<E>(self, path: &str) -> Result<Models, E> {
        Ok(Models::One(path.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Models, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Models::Many)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Models, A::Error> {
        let mut named = Vec::new();
        while let Some(entry) = map.next_entry()? {
            named.push(entry);
        }
        Ok(Models::Named(named))
    }
});

by_hand!(Source, "a column, or `{ column: .., scale: .. }`", {
    fn visit_str<E>(self, name: &str) -> Result<Source, E> {
        Ok(Source::Column(name.to_owned()))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Source, A::Error> {
        Feeding::deserialize(MapAccessDeserializer::new(map)).map(|f| Source::Feeding(Box::new(f)))
    }
});

by_hand!(Names, "the name of a new column, a list of names, or `{ columns: [..], argmax: .., dense: .., hits: .. }`", {
    fn visit_str<E>(self, name: &str) -> Result<Names, E> {
        Ok(Names::One(name.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Names, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Names::Many)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Names, A::Error> {
        Taking::deserialize(MapAccessDeserializer::new(map)).map(|taking| Names::Taking(Box::new(taking)))
    }
});

by_hand!(Batch, "a number of rows, or `auto`", {
    fn visit_u64<E: Error>(self, rows: u64) -> Result<Batch, E> {
        usize::try_from(rows).map(Batch::Rows).map_err(E::custom)
    }
    fn visit_i64<E: Error>(self, rows: i64) -> Result<Batch, E> {
        usize::try_from(rows).map(Batch::Rows).map_err(|_| E::custom(format!("{rows} is no number of rows")))
    }
    fn visit_str<E: Error>(self, word: &str) -> Result<Batch, E> {
        if word == "auto" {
            Ok(Batch::Auto)
        } else {
            Err(E::custom(format!("`{word}` is no number of rows; write a number, or `auto`")))
        }
    }
});

by_hand!(Device, "`cpu`, `cuda`, `cuda:1`, `tensorrt`, or a list of GPUs", {
    fn visit_str<E>(self, word: &str) -> Result<Device, E> {
        Ok(Device(vec![Placed::unplaced(word.to_owned())]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Device, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Device)
    }
});

/// The JSON Schema of a word that may be said in several ways.
macro_rules! any_of {
    ($type:ident, $name:literal, $generator:ident, $either:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema($generator: &mut SchemaGenerator) -> JsonSchemaOf {
                let either = $either;
                json_schema!({ "anyOf": either })
            }
        }
    };
}

any_of!(
    Models,
    "Models",
    generator,
    [
        generator.subschema_for::<String>(),
        generator.subschema_for::<Vec<String>>(),
        generator.subschema_for::<BTreeMap<String, String>>()
    ]
);
any_of!(Source, "ModelInput", generator, [generator.subschema_for::<String>(), generator.subschema_for::<Feeding>()]);
any_of!(
    Names,
    "NewColumns",
    generator,
    [generator.subschema_for::<String>(), generator.subschema_for::<Vec<String>>(), generator.subschema_for::<Taking>()]
);
any_of!(Batch, "BatchRows", generator, [generator.subschema_for::<usize>(), json_schema!({ "const": "auto" })]);
any_of!(Device, "ModelDevice", generator, [generator.subschema_for::<String>(), generator.subschema_for::<Vec<String>>()]);
