//! Reads events from HDF5 files.
//!
//! Planning checks every file's header against the schema; a file that does not fit is quarantined with its reason, as long
//! as others of its pattern do. Units are row ranges of a file, cut at the chunks of its largest image. Work reads only the columns
//! that somebody wants, batch by batch.
//!
//! A row that fails a check of the schema is cut by the source and counted, or costs its unit; such columns are read whether
//! or not somebody wants them, so that the events of a run do not depend on what is made of them.
//!
//! Invariants: units are in order of discovery (patterns in order, files by path, samples interleaved file by file) and depend
//! on the files alone; no file is read twice.

mod make;
mod patterns;
mod source;

pub use patterns::{Patterns, Samples};

use crate::column::{provenance_fields, with_samples};
use crate::hdf5::header::{Dataset, Header};
use crate::hdf5::process::{RESIDENT, Reader, answer, needed};
use crate::hdf5::rows::is_own;
use crate::registry::Describe;
use crate::schema::{Fitted, Make, Schema, Section, fit};
use crate::weights::{self, Weights};
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
/// A chunk that is larger than so many batches is decoded once and given in pieces.
const MOST_PIECES: u64 = 4;

/// Events from HDF5 files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadHdf5 {
    /// The layout of the files: a built-in schema (lcd-v1, next-white-waveforms, atlas-ftag, ...; `calostream inspect` says which fits) or the path of a YAML file.
    pub schema: Placed<String>,
    /// The files, where they all are of one kind: a pattern such as `data/*.h5`, or a list of patterns.
    #[serde(default)]
    pub files: Option<Patterns>,
    /// The samples (classes), by name: a pattern or a list of patterns each. Rows carry the name in the column `sample`.
    #[serde(default)]
    pub samples: Option<Samples>,
    /// What an event of each sample counts in every statistic: `{ samples: { signal: 0.5, background: { cross_section: 12.3,
    /// luminosity: 36.1, sum_of_weights: 1e6 } } }`. Makes the column `weight`.
    #[serde(default)]
    pub weights: Option<Placed<Weights>>,
}

impl Describe for ReadHdf5 {
    const ABOUT: &'static str = "Reads events and their images from HDF5 files";
    const EXAMPLE: &'static str =
        "events:\n  read_hdf5:\n    schema: lcd-v1\n    samples: { electron: \"data/Ele*.h5\", pion: \"data/ChPi*.h5\" }\n";
}

/// Files that do not fit, with the reason.
type Misfits = Vec<(String, String)>;

/// A file whose header fits the schema.
struct Fit<'a> {
    path: &'a str,
    bytes: u64,
    fingerprint: &'a str,
    header: &'a Header,
    fitted: Fitted,
    fields: Vec<(String, Option<Field>)>,
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
        for file in facts.hdf5(pattern)?.iter() {
            let fit = file.header.as_ref().map_err(Clone::clone).and_then(|header| {
                let fitted = fit(schema, header).map_err(|misfit| misfit.wrong.join("; "))?;
                let fields = fitted.fields();
                Ok(Fit { path: &file.path, bytes: file.bytes, fingerprint: &file.fingerprint, header, fitted, fields })
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

/// Bytes of an event when all cells are kept.
fn dense_row_bytes(section: &Section) -> u64 {
    section.columns.iter().map(|(_, _, resolved)| resolved.dense_bytes()).sum()
}

/// Expected bytes of an event in memory: hits take about what they take when compressed, and never more than all cells.
fn expected_row_bytes(fit: &Fit<'_>, section: &Section) -> u64 {
    let each = section.columns.iter().map(|(_, _, resolved)| {
        let dense = resolved.dense_bytes();
        if !matches!(resolved.make, Make::Hits(_) | Make::Last(..) | Make::Each(_)) {
            return dense;
        }
        let datasets = resolved.paths().filter_map(|path| fit.header.dataset(path)).filter(|d| !d.filters.is_empty());
        match datasets.map(|d| d.stored * 3 / 2 / d.rows().unwrap_or(1).max(1)).sum() {
            0 => dense,
            packed => packed.min(2 * dense).max(dense / 64),
        }
    });
    // The columns that every row carries.
    25 + each.sum::<u64>()
}

/// The datasets of a section.
fn datasets<'a>(header: &'a Header, section: &'a Section) -> impl Iterator<Item = &'a Dataset> {
    section.columns.iter().flat_map(|(_, _, resolved)| resolved.paths()).filter_map(|path| header.dataset(path))
}

/// The dataset whose values take the most bytes.
fn largest<'a>(datasets: impl Iterator<Item = &'a Dataset>) -> Option<&'a Dataset> {
    datasets.max_by_key(|d| (d.row_elements().saturating_mul(d.element.bytes()), std::cmp::Reverse(&d.path)))
}

/// Rows of a chunk of the largest dataset.
fn chunk_rows<'a>(datasets: impl Iterator<Item = &'a Dataset>) -> u64 {
    largest(datasets).map_or(1, Dataset::chunk_rows)
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
                problems.push(
                    Problem::at(&self.schema, "both `samples` and `files`")
                        .help("files that belong to a sample go under `samples`"),
                );
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
                                Some(other) if other == *sample => {
                                    remarks.push(format!("{} is matched twice and read once", fit.path));
                                }
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
        let agreed = agree(&mut groups, &mut quarantined);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut fields = provenance_fields(self.samples.is_some());
        fields.extend(agreed);
        let output_schema = with_samples(ArrowSchema::new(fields), &self.sample_names());
        let all: Vec<&Fit<'_>> = groups.iter().flat_map(|(_, files)| files).collect();
        remarks.extend(doubles(&all));
        remarks.extend(absent(&all, &output_schema));
        let empty = all.iter().filter(|f| f.fitted.rows() == 0).count();
        if empty > 0 {
            remarks.push(format!("{empty} of {} without events", words::counted(all.len() as u64, "file")));
        }
        let holds = all.iter().map(|fit| held(fit)).max().unwrap_or(0);
        let mut units = Vec::new();
        let most = groups.iter().map(|(_, files)| files.len()).max().unwrap_or(0);
        for nth in 0..most {
            for (sample, files) in &groups {
                if let Some(fit) = files.get(nth) {
                    cut(fit, *sample, &mut units);
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

impl ReadHdf5 {
    fn start_reading(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let schema = Schema::find(&self.schema, at.facts)
            .map_err(|problems| anyhow::anyhow!("{}", problems.into_iter().map(|p| p.what).collect::<Vec<_>>().join("; ")))?;
        let output = at.outputs.first().ok_or_else(|| anyhow::anyhow!("read_hdf5 without an output"))?;
        let mut files = Vec::new();
        let mut most = 0;
        for pattern in self.sources().into_iter().flat_map(|(_, patterns)| patterns) {
            let found = at.facts.hdf5(pattern).map_err(|p| anyhow::anyhow!(p.what))?;
            for (file, header) in found.iter().filter_map(|file| Some((file, file.header.as_ref().ok()?))) {
                let sections = fit(&schema, header).map(|fitted| fitted.sections).unwrap_or_default();
                most = sections.iter().flat_map(|s| datasets(header, s)).map(|d| needed(d, file.bytes)).fold(most, u64::max);
            }
            files.push(Arc::clone(found));
        }
        Ok(Work::Source(Box::new(Hdf5Source {
            noticed: Noticed::new(),
            cut: 0,
            unpacked: None,
            layout: schema,
            samples: self.sample_names(),
            schema: output.schema.clone(),
            files,
            reader: Reader::new(at.runtime).allowing(most),
            chunks: at.runtime.chunks.clone(),
        })))
    }
}

/// Files may differ (float32 here, float64 there): what most of them have is what is read, and the others are quarantined.
/// Of equally frequent ones the first counts. A column that no file has, and whose type nobody says, is none.
fn agree(groups: &mut [(Option<&str>, Vec<Fit<'_>>)], quarantined: &mut Vec<(String, String)>) -> Vec<Field> {
    fn most<T: PartialEq>(all: impl Iterator<Item = T>) -> Option<T> {
        let mut kinds: Vec<(T, usize)> = Vec::new();
        for one in all {
            match kinds.iter_mut().find(|(known, _)| *known == one) {
                Some((_, count)) => *count += 1,
                None => kinds.push((one, 1)),
            }
        }
        kinds.into_iter().rev().max_by_key(|(_, count)| *count).map(|(kind, _)| kind)
    }
    // By reference, because there may be a hundred thousand files.
    fn field<'a>(fit: &'a Fit<'_>, name: &str) -> Option<&'a Field> {
        fit.fields.iter().find(|(n, _)| n == name).and_then(|(_, f)| f.as_ref())
    }
    let fits = || groups.iter().flat_map(|(_, files)| files);
    let names = most(fits().map(|f| f.fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())).unwrap_or_default();
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let guess =
        |name: &str| fits().flat_map(|fit| fit.fitted.columns()).find(|(n, ..)| n == name).and_then(|(n, c, _)| c.guess(n));
    let agreed: Vec<Option<Field>> =
        names.iter().map(|name| most(fits().filter_map(|fit| field(fit, name))).cloned().or_else(|| guess(name))).collect();
    for (_, files) in groups.iter_mut() {
        files.retain(|fit| {
            let own: Vec<&String> = fit.fields.iter().map(|(name, _)| name).collect();
            let extra = own.iter().find(|name| !names.contains(name)).map(|name| format!("column `{name}` is not in most files"));
            let lack =
                names.iter().find(|name| !own.contains(name)).map(|name| format!("column `{name}` of most files is missing"));
            let odd = names.iter().zip(&agreed).find_map(|(name, wanted)| {
                let (found, wanted) = (field(fit, name)?, wanted.as_ref()?);
                (found != wanted).then(|| {
                    let (found, wanted) = (describe(found), describe(wanted));
                    format!(
                        "column `{name}` is {found}, not {wanted} as in most files; say `as` or `dims` in the schema to choose"
                    )
                })
            });
            let Some(what) = extra.or(lack).or(odd) else { return true };
            quarantined.push((fit.path.to_owned(), what));
            false
        });
    }
    agreed.into_iter().flatten().collect()
}

/// What is said of columns that files lack.
fn absent(files: &[&Fit<'_>], schema: &ArrowSchema) -> Vec<String> {
    let mut lacking: BTreeMap<&str, usize> = BTreeMap::new();
    files.iter().flat_map(|f| &f.fitted.absent).for_each(|name| *lacking.entry(name).or_default() += 1);
    let say = |(name, count): (&str, usize)| {
        let of = words::counted(files.len() as u64, "file");
        match schema.field_with_name(name) {
            Ok(field) if field.is_nullable() => format!("{count} of {of} without `{name}`: no value there"),
            Ok(_) => format!("{count} of {of} without `{name}`: empty there"),
            Err(_) => format!("no file has `{name}`, so it is no column; its `as` would make it one without values"),
        }
    };
    lacking.into_iter().map(say).collect()
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
        .filter_map(|fit| {
            first.insert(fit.fingerprint, fit.path).map(|other| format!("{} has the same content as {other}", fit.path))
        })
        .collect()
}

/// The units of a file.
fn cut(fit: &Fit<'_>, sample: Option<&str>, units: &mut Vec<Unit>) {
    for section in &fit.fitted.sections {
        let chunk = chunk_rows(datasets(fit.header, section));
        let wanted = (UNIT_BYTES / dense_row_bytes(section).max(1)).max(UNIT_ROWS);
        let step = wanted.div_ceil(chunk).saturating_mul(chunk);
        let row_bytes = expected_row_bytes(fit, section);
        let (mut first, end) = (section.first, section.first + section.rows);
        while first < end {
            // A short end goes with the unit before it.
            let left = end - first;
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
}

/// Bytes that reading a file may hold beside the batch: the chunks that the rows of a batch touch, the dense rows, the reader
/// process.
fn held(fit: &Fit<'_>) -> u64 {
    let of_section = |section| {
        let all: Vec<&Dataset> = datasets(fit.header, section).collect();
        let largest = largest(all.iter().copied()).map(|d| d.path.as_str());
        let chunks = all.iter().map(|d| decoded(d, largest == Some(d.path.as_str())));
        let reader = all.iter().map(|d| needed(d, fit.bytes)).max().unwrap_or(0);
        let lists = all.iter().filter(|d| !d.element.is_fixed()).map(|d| answer(d, fit.bytes)).max().unwrap_or(0);
        // The dense rows that a batch is made of: a small chunk is one batch, and a row is not cut.
        let row = all.iter().map(|d| d.row_elements().saturating_mul(d.element.bytes())).max().unwrap_or(0);
        let rows = row.max(MOST_PIECES * BATCH_BYTES) + RESIDENT;
        // An answer, and the lists that it becomes.
        chunks.fold(rows, u64::saturating_add).saturating_add(reader).saturating_add(2 * lists)
    };
    fit.fitted.sections.iter().map(of_section).max().unwrap_or(0)
}

/// Bytes of the decoded chunks of a dataset that are in memory, and of the packed one that is being decoded. Batches are cut at
/// the chunks of the largest image, so that one band of its chunks is enough; those of others touch two.
fn decoded(d: &Dataset, largest: bool) -> u64 {
    let chunk = d.chunk_bytes().unwrap_or(0);
    // No chunk was ever written, or there are none.
    if !is_own(d) || d.stored == 0 || chunk == 0 {
        return 0;
    }
    let band = chunk.saturating_mul(d.chunks_in_a_row());
    let kept = if largest { band.max(BATCH_BYTES) } else { band.saturating_mul(2).saturating_add(BATCH_BYTES) };
    // A buffer has an eighth to spare.
    kept.saturating_add(chunk.min(d.largest_chunk())) / 8 * 9
}
