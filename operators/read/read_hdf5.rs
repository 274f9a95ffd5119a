//! Reads events from HDF5 files.
//!
//! Planning checks every file's header against the schema; a file that does not fit is quarantined with its reason, as long
//! as others of its pattern do. Units are row ranges of a file, cut at the chunks of its largest image. Work reads only the columns
//! that somebody wants, batch by batch.
//!
//! Invariants: units are in order of discovery (patterns in order, files by path, samples interleaved file by file) and depend
//! on the files alone; no file is read twice.

use crate::column::{provenance, provenance_fields, with_samples};
use crate::hdf5::header::{Dataset, Header};
use crate::hdf5::images::{self, Refine};
use crate::hdf5::process::Reader;
use crate::hdf5::rows::{Opened, Rows, is_own};
use crate::registry::Describe;
use crate::schema::{Column, ColumnKind, Resolved, Schema};
use crate::work::{Batches, Source, Start, Work};
use crate::{Facts, Fault, Need, Operator, Output, Placed, Planned, Problem, Shape, Unit};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
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
    const ABOUT: &'static str = "reads events and their images from HDF5 files";
    const EXAMPLE: &'static str = "events:\n  read_hdf5:\n    schema: lcd-v1\n    samples: { electron: \"data/Ele*.h5\", pion: \"data/ChPi*.h5\" }\n";
}

/// One pattern or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns(pub Vec<Placed<String>>);

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        /// A word has the place of the whole; the words of a list have their own.
        enum OneOrMany {
            One(String),
            Many(Vec<Placed<String>>),
        }
        impl<'de> Deserialize<'de> for OneOrMany {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Either;
                impl<'de> de::Visitor<'de> for Either {
                    type Value = OneOrMany;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a pattern or a list of patterns")
                    }
                    fn visit_str<E: de::Error>(self, word: &str) -> Result<OneOrMany, E> {
                        Ok(OneOrMany::One(word.to_owned()))
                    }
                    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                        let mut many = Vec::new();
                        while let Some(word) = list.next_element()? {
                            many.push(word);
                        }
                        Ok(OneOrMany::Many(many))
                    }
                }
                from.deserialize_any(Either)
            }
        }
        let Placed { value, place } = Placed::<OneOrMany>::deserialize(from)?;
        Ok(Self(match value {
            OneOrMany::One(value) => vec![Placed { value, place }],
            OneOrMany::Many(many) => many,
        }))
    }
}

impl JsonSchema for Patterns {
    fn schema_name() -> Cow<'static, str> {
        "Patterns".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

/// Samples by name, in the order in which they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples(pub Vec<(String, Patterns)>);

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> de::Visitor<'de> for InOrder {
            type Value = Samples;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("samples by name")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Samples, A::Error> {
                let mut samples: Vec<(String, Patterns)> = Vec::new();
                while let Some((name, patterns)) = map.next_entry::<String, Patterns>()? {
                    if samples.iter().any(|(known, _)| *known == name) {
                        return Err(de::Error::custom(format!("the sample `{name}` is there twice")));
                    }
                    samples.push((name, patterns));
                }
                Ok(Samples(samples))
            }
        }
        from.deserialize_map(InOrder)
    }
}

impl JsonSchema for Samples {
    fn schema_name() -> Cow<'static, str> {
        "Samples".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let patterns = generator.subschema_for::<Patterns>();
        schemars::json_schema!({ "type": "object", "additionalProperties": patterns })
    }
}

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
    fn fit<'a>(schema: &Schema, pattern: &Placed<String>, facts: &'a Facts) -> Result<(Vec<Fit<'a>>, Vec<(String, String)>), Problem> {
        let (mut fits, mut misfits) = (Vec::new(), Vec::new());
        for file in facts.hdf5(pattern)? {
            let fit = file.header.as_ref().map_err(|reason| reason.clone()).and_then(|header| {
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
            remarks.push(format!("{empty} of {} files hold no events", all.len()));
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
        for pattern in self.sources().into_iter().flat_map(|(_, patterns)| patterns) {
            for file in at.facts.hdf5(pattern).map_err(|p| anyhow::anyhow!(p.what))? {
                if let Ok(header) = &file.header {
                    files.insert(file.path.clone(), (file.fingerprint.clone(), Arc::new(header.clone())));
                }
            }
        }
        let columns = schema.columns.into_iter().filter(|(name, _)| output.schema.field_with_name(name).is_ok()).collect();
        Ok(Work::Source(Box::new(Hdf5Source {
            columns,
            samples: self.sample_names(),
            schema: output.schema.clone(),
            files,
            reader: Reader::new(at.runtime),
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
        if is_own(d) { band.saturating_mul(2) } else { 0 }
    });
    chunks.fold(2 * BATCH_BYTES + (64 << 20), u64::saturating_add)
}

/// Reads units.
struct Hdf5Source {
    columns: Vec<(String, Column)>,
    samples: Vec<String>,
    schema: SchemaRef,
    files: BTreeMap<String, (String, Arc<Header>)>,
    reader: Reader,
}

impl Source for Hdf5Source {
    fn read<'a>(&'a mut self, unit: &'a Unit) -> Result<Batches<'a>, Fault> {
        let Some((fingerprint, header)) = self.files.get(&unit.path) else {
            return Err(anyhow::anyhow!("{} was not looked up", unit.path).into());
        };
        if *fingerprint != unit.fingerprint {
            return Err(Fault::content(format!("{} has changed since its units were written down", unit.path)));
        }
        let header = header.clone();
        let opened = Opened::open(&unit.path)?;
        let mut datasets: Vec<Rows> = Vec::new();
        let mut columns = Vec::new();
        for (name, column) in &self.columns {
            let resolved = column.resolve(name, &header).map_err(Fault::Content)?;
            let dataset = header.dataset(column.path()).ok_or_else(|| Fault::content(format!("no dataset `{}`", column.path())))?;
            let known = datasets.iter().position(|d| d.dataset().path == dataset.path);
            let number = match known {
                Some(number) => number,
                None => {
                    datasets.push(Rows::new(dataset, &opened, &mut self.reader)?);
                    datasets.len() - 1
                }
            };
            columns.push(Wanted { name: name.clone(), column: column.clone(), dataset: number, resolved });
        }
        let dense: u64 = columns.iter().map(|c| c.resolved.pick.numbers() as u64 * u64::from(c.resolved.pick.number.bytes)).sum();
        let chunk = chunk_rows(datasets.iter().map(Rows::dataset));
        let wanted = (BATCH_BYTES / dense.max(1)).max(1);
        // Whole chunks, unless a chunk is much larger than a batch: then it is decoded once and given in pieces.
        let step = if wanted >= chunk { wanted / chunk * chunk } else if chunk <= 4 * wanted { chunk } else { wanted };
        Ok(Box::new(Reading {
            unit,
            next: unit.first,
            step: step.min(1 << 20),
            opened,
            datasets,
            columns,
            samples: &self.samples,
            schema: &self.schema,
            reader: &mut self.reader,
        }))
    }
}

/// A column that is read from a dataset.
struct Wanted {
    name: String,
    column: Column,
    dataset: usize,
    resolved: Resolved,
}

/// A unit being read.
struct Reading<'a> {
    unit: &'a Unit,
    next: u64,
    step: u64,
    opened: Opened,
    datasets: Vec<Rows>,
    columns: Vec<Wanted>,
    samples: &'a [String],
    schema: &'a SchemaRef,
    reader: &'a mut Reader,
}

impl Iterator for Reading<'_> {
    type Item = Result<RecordBatch, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.unit.first + self.unit.rows;
        if self.next >= end {
            return None;
        }
        // Cuts stand on multiples of the step, wherever the unit begins.
        let to = (self.next / self.step + 1).saturating_mul(self.step).min(end);
        let batch = self.batch(self.next, (to - self.next) as usize);
        // After an error there is nothing more to be had from this unit.
        self.next = if batch.is_ok() { to } else { end };
        Some(batch)
    }
}

impl Reading<'_> {
    fn batch(&mut self, first: u64, rows: usize) -> Result<RecordBatch, Fault> {
        let names = provenance_fields(self.unit.sample.is_some());
        let values = provenance(self.samples, self.unit, first, rows);
        let mut made: HashMap<String, ArrayRef> = names.iter().map(|f| f.name().clone()).zip(values).collect();
        for dataset in 0..self.datasets.len() {
            self.read_dataset(dataset, first, rows, &mut made)?;
        }
        let arrays = self.schema.fields().iter().map(|f| {
            made.remove(f.name()).ok_or_else(|| Fault::Machine(anyhow::anyhow!("the planned column `{}` is not in the schema", f.name())))
        });
        let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), arrays)?)
    }

    /// All columns of one dataset.
    fn read_dataset(&mut self, number: usize, first: u64, rows: usize, made: &mut HashMap<String, ArrayRef>) -> Result<(), Fault> {
        let source = &mut self.datasets[number];
        let mut plain = None;
        for Wanted { name, column, resolved, .. } in self.columns.iter().filter(|c| c.dataset == number) {
            let field = self.schema.field_with_name(name)?;
            let (pick, numbers) = (&resolved.pick, &resolved.numbers);
            let refine = Refine { threshold: column.threshold };
            let cells = pick.numbers();
            if source.by_library() || !numbers.number.plain {
                let packed = pick.packed(numbers);
                let path = source.dataset().path.clone();
                let member = column.member.as_deref();
                let values = self.reader.rows(&self.opened.path, &path, member, first, rows as u64, packed.row_bytes as u64)?;
                let values = packed.take(&values);
                made.insert(name.clone(), make(values, rows, cells, resolved, field, refine)?);
                continue;
            }
            if resolved.kind == ColumnKind::Hits
                && pick.is_whole()
                && let Some(runs) = source.planes(&self.opened, first, rows)?
            {
                made.insert(name.clone(), images::hits_of_planes(&runs, cells, pick.number, field, refine)?);
                continue;
            }
            let bytes = match &plain {
                Some(bytes) => bytes,
                None => plain.insert(source.plain(&self.opened, first, rows)?),
            };
            made.insert(name.clone(), make(pick.take(bytes), rows, cells, resolved, field, refine)?);
        }
        Ok(())
    }
}

fn make(
    values: arrow::buffer::MutableBuffer,
    rows: usize,
    cells: usize,
    resolved: &Resolved,
    field: &Field,
    refine: Refine,
) -> Result<ArrayRef, Fault> {
    let number = resolved.pick.number;
    match resolved.kind {
        ColumnKind::Number => images::numbers(values, rows, number, field),
        ColumnKind::Dense => images::dense(values, rows, cells, number, field),
        ColumnKind::Hits => images::hits_of_plain(&values, rows, cells, number, field, refine),
    }
}
