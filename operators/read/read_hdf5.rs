//! Reads events from HDF5 files.
//!
//! Planning checks every file's header against the schema; a file that does not fit is quarantined with its reason, as long
//! as others of its pattern do. Units are row ranges of a file, cut at the chunks of its largest image. Work reads only the columns
//! that somebody wants, batch by batch.
//!
//! Invariants: units are in order of discovery (patterns in order, files by path, samples interleaved file by file) and depend
//! on the files alone; no file is read twice.

mod patterns;
mod source;

pub use patterns::{Patterns, Samples};

use crate::column::{provenance_fields, with_samples};
use crate::hdf5::header::{Dataset, Header};
use crate::hdf5::process::{Reader, needed};
use crate::hdf5::rows::is_own;
use crate::registry::Describe;
use crate::schema::{ColumnKind, Resolved, Schema};
use crate::work::{Noticed, Start, Work};
use crate::{Facts, Need, Operator, Output, Placed, Planned, Problem, Shape, Unit, words};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use schemars::JsonSchema;
use serde::Deserialize;
use source::Hdf5Source;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Dense-equivalent bytes of a unit.
const UNIT_BYTES: u64 = 256 << 20;
/// Rows below which a unit is not cut.
const UNIT_ROWS: u64 = 4096;
/// Dense-equivalent bytes of a batch.
const BATCH_BYTES: u64 = 8 << 20;

/// Events from HDF5 files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadHdf5 {
    /// The layout of the files: a built-in schema (lcd-v1, lcd-l0, lcd-v2, next-white-waveforms, ...) or the path of a YAML file.
    pub schema: Placed<String>,
    /// The files, where they all are of one kind: a pattern such as `data/*.h5`, or a list of patterns.
    #[serde(default)]
    pub files: Option<Patterns>,
    /// The samples (classes), by name: a pattern or a list of patterns each. Rows carry the name in the column `sample`.
    #[serde(default)]
    pub samples: Option<Samples>,
}

impl Describe for ReadHdf5 {
    const ABOUT: &'static str = "Reads events and their images from HDF5 files";
    const EXAMPLE: &'static str = "events:\n  read_hdf5:\n    schema: lcd-v1\n    samples: { electron: \"data/Ele*.h5\", pion: \"data/ChPi*.h5\" }\n";
}

/// Files that do not fit, with the reason.
type Misfits = Vec<(String, String)>;

/// A file whose header fits the schema.
struct Fit<'a> {
    path: &'a str,
    fingerprint: &'a str,
    header: &'a Header,
    columns: Vec<Resolved>,
    rows: u64,
}

impl ReadHdf5 {
    /// Sample names (none for `files`) with their patterns.
    fn sources(&self) -> Vec<(Option<&str>, &[Placed<String>])> {
        let samples = self.samples.iter().flat_map(|s| &s.0).map(|(name, patterns)| (Some(name.as_str()), &patterns.0[..]));
        self.files.iter().map(|patterns| (None, &patterns.0[..])).chain(samples).collect()
    }

    fn sample_names(&self) -> Vec<String> {
        self.samples.iter().flat_map(|s| &s.0).map(|(name, _)| name.clone()).collect()
    }

    /// The files of a pattern that fit, and the reasons of those that do not.
    fn fit<'a>(schema: &Schema, pattern: &Placed<String>, facts: &'a Facts) -> Result<(Vec<Fit<'a>>, Misfits), Problem> {
        let (mut fits, mut misfits) = (Vec::new(), Vec::new());
        for file in facts.hdf5(pattern)? {
            let fit = file.header.as_ref().map_err(Clone::clone).and_then(|header| {
                let columns = resolve(schema, header)?;
                let rows = columns[0].rows;
                Ok(Fit { path: &file.path, fingerprint: &file.fingerprint, header, columns, rows })
            });
            match fit {
                Ok(fit) => fits.push(fit),
                Err(reason) => misfits.push((file.path.clone(), reason)),
            }
        }
        if fits.is_empty() {
            let problem = Problem::at(pattern, format!("no file of `{}` fits the schema `{}`", pattern.value, schema.name));
            return Err(match misfits.first() {
                Some((path, reason)) => problem.help(format!("{path}: {reason}")),
                None => problem,
            });
        }
        Ok((fits, misfits))
    }
}

/// All columns of a schema in one file, or everything that does not fit.
fn resolve(schema: &Schema, header: &Header) -> Result<Vec<Resolved>, String> {
    let (mut columns, mut wrong) = (Vec::new(), Vec::new());
    for (name, column) in &schema.columns {
        match column.resolve(name, header) {
            Ok(resolved) => columns.push(resolved),
            Err(reason) => wrong.push(format!("column `{name}`: {reason}")),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    let mut lengths: Vec<(&str, u64)> = Vec::new();
    for ((_, column), resolved) in schema.columns.iter().zip(&columns) {
        if !lengths.iter().any(|(path, _)| *path == column.path()) {
            lengths.push((column.path(), resolved.rows));
        }
    }
    if lengths.windows(2).any(|w| w[0].1 != w[1].1) {
        let each: Vec<String> = lengths.iter().map(|(path, rows)| format!("`{path}` has {rows}")).collect();
        return Err(format!("datasets of unequal lengths, so rows do not belong together: {}", each.join(", ")));
    }
    Ok(columns)
}

/// Bytes of an event when all cells are kept.
fn dense_row_bytes(columns: &[Resolved]) -> u64 {
    columns.iter().map(|c| c.pick.numbers() as u64 * u64::from(c.pick.number.bytes)).sum()
}

/// Expected bytes of an event in memory: hits take about what they take when compressed, and never more than all cells.
fn expected_row_bytes(fit: &Fit<'_>, schema: &Schema) -> u64 {
    let each = schema.columns.iter().zip(&fit.columns).map(|((_, column), resolved)| {
        let dense = resolved.pick.numbers() as u64 * u64::from(resolved.pick.number.bytes);
        let dataset = fit.header.dataset(column.path());
        let packed = dataset.filter(|d| !d.filters.is_empty()).map(|d| d.stored * 3 / 2 / fit.rows.max(1));
        match (resolved.kind, packed) {
            (ColumnKind::Hits, Some(packed)) => packed.min(2 * dense).max(dense / 64),
            _ => dense,
        }
    });
    // The columns that every row carries.
    25 + each.sum::<u64>()
}

/// Rows of a chunk of the dataset whose values take the most bytes.
fn chunk_rows<'a>(datasets: impl Iterator<Item = &'a Dataset>) -> u64 {
    datasets.max_by_key(|d| (d.row_elements().saturating_mul(d.element.bytes()), std::cmp::Reverse(&d.path))).map_or(1, Dataset::chunk_rows)
}

impl Operator for ReadHdf5 {
    fn needs(&self) -> Vec<Need> {
        let patterns = self.sources().into_iter().flat_map(|(_, patterns)| patterns).cloned().map(Need::Hdf5);
        let schema = Schema::is_path(&self.schema).then(|| Need::Text(self.schema.clone()));
        schema.into_iter().chain(patterns).collect()
    }

    fn plan(&self, facts: &Facts, _: &[Output]) -> Result<Planned, Vec<Problem>> {
        let mut problems = Vec::new();
        let sources = self.sources();
        match (&self.files, &self.samples) {
            (None, None) => problems.push(Problem::at(&self.schema, "nothing to read").help("give `samples` or `files`")),
            (Some(_), Some(_)) => {
                problems.push(Problem::at(&self.schema, "both `samples` and `files`").help("files that belong to a sample go under `samples`"));
            }
            _ if sources.iter().all(|(_, patterns)| patterns.is_empty()) => {
                problems.push(Problem::at(&self.schema, "nothing to read: the list of patterns is empty"));
            }
            _ => {}
        }
        if sources.len() > 127 {
            problems.push(Problem::at(&self.schema, format!("{} samples; there may be 127", sources.len())));
        }
        let schema = Schema::find(&self.schema, facts).map_err(|found| problems.extend(found)).ok();
        let Some(schema) = schema else { return Err(problems) };
        let mut quarantined = Vec::new();
        let mut remarks = Vec::new();
        let mut groups: Vec<(Option<&str>, Vec<Fit<'_>>)> = Vec::new();
        let mut seen: HashMap<&str, Option<&str>> = HashMap::new();
        for (sample, patterns) in &sources {
            let mut files = Vec::new();
            for pattern in *patterns {
                match Self::fit(&schema, pattern, facts) {
                    Ok((fits, misfits)) => {
                        for fit in fits {
                            match seen.insert(fit.path, *sample) {
                                None => files.push(fit),
                                Some(other) if other == *sample => remarks.push(format!("{} is matched twice and read once", fit.path)),
                                Some(other) => {
                                    let (other, this) = (other.unwrap_or_default(), sample.unwrap_or_default());
                                    let what = format!("{} would be both `{other}` and `{this}`", fit.path);
                                    problems.push(Problem::at(pattern, what).help("make the patterns narrower"));
                                }
                            }
                        }
                        quarantined.extend(misfits.into_iter().filter(|(path, _)| !seen.contains_key(path.as_str())));
                    }
                    Err(problem) => problems.push(problem),
                }
            }
            groups.push((*sample, files));
        }
        let agreed = agree(&schema, &mut groups, &mut quarantined);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut fields = provenance_fields(self.samples.is_some());
        fields.extend(agreed);
        let output_schema = with_samples(ArrowSchema::new(fields), &self.sample_names());
        let all: Vec<&Fit<'_>> = groups.iter().flat_map(|(_, files)| files).collect();
        remarks.extend(doubles(&all));
        let empty = all.iter().filter(|f| f.rows == 0).count();
        if empty > 0 {
            remarks.push(format!("{empty} of {} without events", words::counted(all.len() as u64, "file")));
        }
        let holds = all.iter().map(|fit| held(fit, &schema)).max().unwrap_or(0);
        let mut units = Vec::new();
        let most = groups.iter().map(|(_, files)| files.len()).max().unwrap_or(0);
        for nth in 0..most {
            for (sample, files) in &groups {
                if let Some(fit) = files.get(nth) {
                    cut(fit, *sample, &schema, &mut units);
                }
            }
        }
        let rows = units.iter().map(|u: &Unit| u.rows).sum();
        let row_bytes = units.iter().map(|u| u.row_bytes).max().unwrap_or(0);
        let output = Output { name: String::new(), schema: Arc::new(output_schema), table: false, rows: Some(rows), row_bytes };
        let mut planned = Planned::new(Shape::Source, vec![output]).holding(holds);
        planned.units = units;
        planned.remarks = remarks;
        quarantined.sort();
        quarantined.dedup();
        planned.quarantined = quarantined;
        Ok(planned)
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let schema = Schema::find(&self.schema, at.facts)
            .map_err(|problems| anyhow::anyhow!("{}", problems.into_iter().map(|p| p.what).collect::<Vec<_>>().join("; ")))?;
        let output = at.outputs.first().ok_or_else(|| anyhow::anyhow!("read_hdf5 without an output"))?;
        let mut files = BTreeMap::new();
        let mut most = 0;
        for pattern in self.sources().into_iter().flat_map(|(_, patterns)| patterns) {
            for file in at.facts.hdf5(pattern).map_err(|p| anyhow::anyhow!(p.what))? {
                if let Ok(header) = &file.header {
                    let datasets = schema.columns.iter().filter_map(|(_, c)| header.dataset(c.path()));
                    most = datasets.map(needed).max().unwrap_or(0).max(most);
                    files.insert(file.path.clone(), (file.fingerprint.clone(), Arc::new(header.clone())));
                }
            }
        }
        let columns = schema.columns.into_iter().filter(|(name, _)| output.schema.field_with_name(name).is_ok()).collect();
        Ok(Work::Source(Box::new(Hdf5Source {
            noticed: Noticed::new(),
            columns,
            samples: self.sample_names(),
            schema: output.schema.clone(),
            files,
            reader: Reader::new(at.runtime).allowing(most),
        })))
    }
}

/// Files may differ (float32 here, float64 there): what most of them have is what is read, and the others are quarantined.
fn agree(schema: &Schema, groups: &mut [(Option<&str>, Vec<Fit<'_>>)], quarantined: &mut Vec<(String, String)>) -> Vec<Field> {
    let mut kinds: Vec<(Vec<Field>, usize)> = Vec::new();
    for fit in groups.iter().flat_map(|(_, files)| files) {
        let fields: Vec<Field> = fit.columns.iter().map(|c| c.field.clone()).collect();
        match kinds.iter_mut().find(|(known, _)| *known == fields) {
            Some((_, count)) => *count += 1,
            None => kinds.push((fields, 1)),
        }
    }
    // Of equally frequent ones the first.
    let Some((agreed, _)) = kinds.into_iter().rev().max_by_key(|(_, count)| *count) else { return Vec::new() };
    for (_, files) in groups {
        files.retain(|fit| {
            let odd = schema.columns.iter().zip(&fit.columns).zip(&agreed).find(|((_, c), field)| c.field != **field);
            let Some((((name, _), found), wanted)) = odd else { return true };
            let what = format!(
                "column `{name}` is {}, not {} as in most files; say `as` or `dims` in the schema to choose",
                describe(&found.field),
                describe(wanted)
            );
            quarantined.push((fit.path.to_owned(), what));
            false
        });
    }
    agreed
}

/// `float32 of shape [25, 25, 25]`.
fn describe(field: &Field) -> String {
    let value = match field.data_type() {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => fields.get(1).map_or_else(String::new, |f| f.data_type().to_string()),
            other => other.to_string(),
        },
        DataType::FixedSizeList(item, _) => item.data_type().to_string(),
        other => other.to_string(),
    };
    match crate::hits::shape(field) {
        Some(shape) => format!("{value} of shape {shape:?}"),
        None => value,
    }
}

/// Files of the same content under two names: their events would count twice, with the same identities.
fn doubles(files: &[&Fit<'_>]) -> Vec<String> {
    let mut first: HashMap<&str, &str> = HashMap::new();
    files
        .iter()
        .filter_map(|fit| first.insert(fit.fingerprint, fit.path).map(|other| format!("{} has the same content as {other}", fit.path)))
        .collect()
}

/// The units of a file.
fn cut(fit: &Fit<'_>, sample: Option<&str>, schema: &Schema, units: &mut Vec<Unit>) {
    let chunk = chunk_rows(schema.columns.iter().filter_map(|(_, c)| fit.header.dataset(c.path())));
    let wanted = (UNIT_BYTES / dense_row_bytes(&fit.columns).max(1)).max(UNIT_ROWS);
    let step = wanted.div_ceil(chunk).saturating_mul(chunk);
    let row_bytes = expected_row_bytes(fit, schema);
    let mut first = 0;
    while first < fit.rows {
        // A short end goes with the unit before it.
        let left = fit.rows - first;
        let rows = if left < step.saturating_add(UNIT_ROWS) { left } else { step };
        units.push(Unit {
            alone: false,
            step: String::new(),
            sample: sample.map(str::to_owned),
            path: fit.path.to_owned(),
            fingerprint: fit.fingerprint.to_owned(),
            first,
            rows,
            file: 0,
            row_bytes,
        });
        first += rows;
    }
}

/// Bytes that reading a file may hold beside the batch: the chunks that the rows of a batch touch, the dense rows, the reader process.
fn held(fit: &Fit<'_>, schema: &Schema) -> u64 {
    let datasets = schema.columns.iter().filter_map(|(_, c)| fit.header.dataset(c.path()));
    let chunks = datasets.map(|d| {
        let band = d.row_elements().saturating_mul(d.element.bytes()).saturating_mul(d.chunk_rows());
        match (is_own(d), d.stored) {
            // No chunk was ever written.
            (true, 0) => 0,
            (true, _) => band.saturating_mul(2).saturating_add(needed(d)),
            (false, _) => needed(d),
        }
    });
    chunks.fold(2 * BATCH_BYTES + (64 << 20), u64::saturating_add)
}
