//! `read_parquet`: rows of Parquet files, their own or somebody else's.
//!
//! Files that calostream wrote carry where each row came from; those columns are kept as they are, so an event that went
//! through a file is still the same event. Rows of other files get them here.
//!
//! Invariants: a unit is a run of whole row groups of one file; nothing is read that nobody asked for; a file whose columns
//! are not those of the others is never read as if they were.

mod caught;
mod layout;
pub mod probe;
mod reader;

use crate::facts::{FileFacts, ParquetHeader};
use crate::registry::Describe;
use crate::weights::{self, Weights};
use crate::{Facts, Need, Operator, Output, Place, Placed, Planned, Problem, Shape, Start, Unit, Work};
use layout::Layout;
pub use probe::{probe, probe_but};
use schemars::{JsonSchema, Schema as JsonSchemaOf, SchemaGenerator, json_schema};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Bytes in memory that a unit is about.
const UNIT_BYTES: u64 = 256 << 20;
/// A unit has at least so many rows, where the file has them.
const UNIT_ROWS: u64 = 4096;

/// Reads rows from Parquet files.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadParquet {
    /// The files: a path or pattern (`runs/hits/*.parquet`), or a list of them.
    #[serde(default)]
    pub files: Option<Placed<Files>>,
    /// In place of `files`: the files of each sample (class), by its name. A sample's number is its place in this list.
    #[serde(default)]
    pub samples: Option<Placed<Samples>>,
    /// What an event of each sample counts in every statistic: `{ samples: { signal: 0.5, background: { cross_section: 12.3,
    /// luminosity: 36.1, sum_of_weights: 1e6 } } }`. Makes the column `weight`.
    #[serde(default)]
    pub weights: Option<Placed<Weights>>,
}

/// Patterns: one, or a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(pub Vec<String>);

/// Samples with their files, in the order in which they were typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples(pub Vec<(String, Placed<Files>)>);

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Files;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path or pattern, or a list of them")
            }
            fn visit_str<E>(self, one: &str) -> Result<Files, E> {
                Ok(Files(vec![one.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut many: A) -> Result<Files, A::Error> {
                let mut files = Vec::new();
                while let Some(one) = many.next_element()? {
                    files.push(one);
                }
                Ok(Files(files))
            }
        }
        from.deserialize_any(OneOrMany)
    }
}

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Samples;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of each sample with its files")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Samples, A::Error> {
                let mut samples = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    samples.push(entry);
                }
                Ok(Samples(samples))
            }
        }
        from.deserialize_map(InOrder)
    }
}

impl JsonSchema for Files {
    fn schema_name() -> Cow<'static, str> {
        "Files".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> JsonSchemaOf {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

impl JsonSchema for Samples {
    fn schema_name() -> Cow<'static, str> {
        "Samples".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> JsonSchemaOf {
        json_schema!({ "type": "object", "additionalProperties": Files::json_schema(generator) })
    }
}

impl Describe for ReadParquet {
    const ABOUT: &'static str = "Reads rows from Parquet files";
    const EXAMPLE: &'static str = "hits:\n  read_parquet:\n    files: runs/convert/hits/*.parquet\n";
}

/// A pattern and the sample that its files belong to.
type Wanted<'a> = (Option<&'a str>, Placed<String>);

impl ReadParquet {
    fn wanted(&self) -> Vec<Wanted<'_>> {
        let patterns = |files: &Placed<Files>| -> Vec<Placed<String>> {
            files.value.0.iter().map(|f| Placed { value: f.clone(), place: files.place }).collect()
        };
        let plain = self.files.iter().flat_map(patterns).map(|pattern| (None, pattern));
        let samples = self.samples.iter().flat_map(|s| &s.value.0);
        let of_samples = samples.flat_map(|(name, files)| patterns(files).into_iter().map(|p| (Some(name.as_str()), p)));
        plain.chain(of_samples).collect()
    }

    fn sample_names(&self) -> Vec<String> {
        self.samples.iter().flat_map(|s| &s.value.0).map(|(name, _)| name.clone()).collect()
    }

    /// What is wrong with the parameters by themselves.
    fn mistakes(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match (&self.files, &self.samples) {
            (None, None) => problems.push(
                Problem { place: Place::default(), what: "`read_parquet` needs `files` or `samples`".into(), help: None }
                    .help("for example `files: runs/convert/hits/*.parquet`"),
            ),
            (Some(files), Some(_)) => problems.push(Problem::at(files, "`files` and `samples` exclude each other")),
            (_, Some(samples)) if samples.0.len() > 127 => {
                problems.push(Problem::at(samples, format!("{} samples, and at most 127 can be told apart", samples.0.len())));
            }
            _ => {}
        }
        let lists = self.files.iter().chain(self.samples.iter().flat_map(|s| s.value.0.iter().map(|(_, files)| files)));
        problems.extend(lists.filter(|files| files.value.0.is_empty()).map(|files| Problem::at(files, "no file is named here")));
        problems
    }

    /// The layout that the files have in common, with the files that have another; see [`Layout::common`].
    fn found<'a>(&self, facts: &'a Facts) -> Result<Found<'a>, Vec<Problem>> {
        let mut problems = self.mistakes();
        let wanted = self.wanted();
        let mut files = Vec::new();
        let mut seen: BTreeMap<&str, &Placed<String>> = BTreeMap::new();
        for (sample, pattern) in &wanted {
            match facts.parquet(pattern) {
                Ok(found) => {
                    for file in found {
                        if let Some(before) = seen.insert(&file.path, pattern) {
                            let what = format!("{} is matched by `{}` and by `{}`", file.path, before.value, pattern.value);
                            problems.push(Problem::at(pattern, what).help("each event may come once"));
                        }
                        files.push((sample.map(str::to_owned), pattern.clone(), file));
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut quarantined = Vec::new();
        let mut readable = Vec::new();
        for (sample, pattern, file) in files {
            match &file.header {
                Ok(header) => readable.push(Known { sample, pattern, file, header }),
                Err(reason) => quarantined.push((file.path.clone(), reason.clone())),
            }
        }
        if readable.is_empty() {
            let (place, reason) = (wanted[0].1.clone(), quarantined.first().map_or("", |(_, reason)| reason.as_str()));
            return Err(vec![Problem::at(&place, format!("none of the files can be read: {reason}"))]);
        }
        let layout = Layout::common(&mut readable, &mut quarantined, &self.sample_names()).map_err(|problem| vec![problem])?;
        Ok(Found { layout, files: readable, quarantined })
    }
}

/// A file that can be read.
struct Known<'a> {
    sample: Option<String>,
    pattern: Placed<String>,
    file: &'a FileFacts<ParquetHeader>,
    header: &'a ParquetHeader,
}

struct Found<'a> {
    layout: Layout,
    files: Vec<Known<'a>>,
    quarantined: Vec<(String, String)>,
}

impl Operator for ReadParquet {
    fn needs(&self) -> Vec<Need> {
        self.wanted().into_iter().map(|(_, pattern)| Need::Parquet(pattern)).collect()
    }

    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        if !inputs.is_empty() {
            let what = "`read_parquet` begins a pipeline and takes no `from`".into();
            return Err(vec![Problem { place: Place::default(), what, help: None }]);
        }
        let Found { layout, files, quarantined } = self.found(facts)?;
        let rows: u64 = files.iter().map(|f| f.header.row_groups.iter().sum::<u64>()).sum();
        let bytes: u64 = files.iter().map(|f| f.header.uncompressed).sum();
        let provenance = if layout.adds_provenance() { 21 } else { 0 };
        let row_bytes = bytes.div_ceil(rows.max(1)) + provenance;
        let output = Output { name: String::new(), schema: layout.schema(), table: false, rows: Some(rows), row_bytes };
        let mut planned = Planned::new(Shape::Source, vec![output]);
        planned.units = files.iter().flat_map(|f| units(f, provenance)).collect();
        planned.remarks = layout.remarks();
        planned.remarks.extend(quarantined.iter().map(|(path, reason)| format!("{path} is quarantined: {reason}")));
        planned.quarantined = quarantined;
        weights::plan(self.weights.as_ref(), planned)
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let whole = || match self.plan(at.facts, &[]) {
            Ok(planned) => Ok(planned.outputs[0].schema.clone()),
            Err(problems) => Err(anyhow::anyhow!("{}", problems[0].what)),
        };
        weights::start(self.weights.as_ref(), at, whole, |at| self.start_reading(at))
    }
}

impl ReadParquet {
    fn start_reading(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let Ok(Found { layout, .. }) = self.found(at.facts) else { anyhow::bail!("the files are not those of the plan") };
        let asked = &at.outputs.first().ok_or_else(|| anyhow::anyhow!("one output"))?.schema;
        Ok(Work::Source(Box::new(reader::Reader::new(&layout, asked))))
    }
}

/// Runs of whole row groups of a file, each of about [`UNIT_BYTES`] and at least [`UNIT_ROWS`] rows.
fn units(known: &Known<'_>, provenance: u64) -> Vec<Unit> {
    let groups = &known.header.row_groups;
    let rows: u64 = groups.iter().sum();
    let row_bytes = known.header.uncompressed.div_ceil(rows.max(1)) + provenance;
    let unit = |first: u64, end: u64| Unit {
        alone: false,
        step: String::new(),
        sample: known.sample.clone(),
        path: known.file.path.clone(),
        fingerprint: known.file.fingerprint.clone(),
        first,
        rows: end - first,
        file: 0,
        row_bytes,
    };
    let (mut units, mut first, mut end) = (Vec::new(), 0, 0);
    for group in groups {
        end += group;
        if end - first >= UNIT_ROWS && (end - first).saturating_mul(row_bytes) >= UNIT_BYTES {
            units.push(unit(first, end));
            first = end;
        }
    }
    if end > first {
        units.push(unit(first, end));
    }
    units
}

#[cfg(test)]
mod tests;
