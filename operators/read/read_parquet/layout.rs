//! The columns that the files of a step have in common, and where each of them comes from.
//!
//! Lists and texts with 64-bit offsets (as awkward and polars write them) become those with 32-bit offsets, which is what
//! every operator reads; a batch is far smaller than either holds.

use super::Known;
use crate::Problem;
use crate::column::{self, EVENT, FILE, PROVENANCE, ROW, SAMPLE};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is read, and as what.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Each column that is taken from the file: its name there and the field that it becomes.
    taken: Vec<(String, Field)>,
    /// Which columns are made here.
    made: Vec<Field>,
    /// The class map.
    samples: Vec<String>,
}

/// What has to be the same in all files, by column.
type Form = BTreeMap<String, (DataType, Option<Vec<usize>>)>;

fn form(schema: &Schema) -> Form {
    let entry = |f: &FieldRef| (f.name().clone(), (becomes(f), crate::hits::shape(f)));
    schema.fields().iter().map(entry).collect()
}

/// The type that a column is read as.
fn becomes(field: &Field) -> DataType {
    narrow(&crate::hits::dense_type(field, false))
}

/// The same type with 32-bit offsets.
fn narrow(of: &DataType) -> DataType {
    let item = |f: &FieldRef| Arc::new(f.as_ref().clone().with_data_type(narrow(f.data_type())));
    match of {
        DataType::LargeList(f) | DataType::List(f) => DataType::List(item(f)),
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(item(f), *n),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(item).collect()),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

/// The first thing in which a file differs from the others.
fn difference(here: &Form, there: &Form, other: &str) -> String {
    for (name, (form, shape)) in there {
        match here.get(name) {
            None => return format!("it has no column `{name}`, which {other} has"),
            Some((found, _)) if found != form => return format!("its column `{name}` is {found}, and {form} in {other}"),
            Some((_, found)) if found != shape => {
                return format!("its column `{name}` has shape {found:?}, and {shape:?} in {other}");
            }
            Some(_) => {}
        }
    }
    let extra = here.keys().find(|name| !there.contains_key(*name));
    format!("it has a column `{}`, which {other} has not", extra.map_or("", String::as_str))
}

impl Layout {
    /// The layout of all of these files. One odd file among many is moved to the quarantine; more are a problem.
    pub(super) fn common(
        files: &mut Vec<Known<'_>>,
        quarantined: &mut Vec<(String, String)>,
        samples: &[String],
    ) -> Result<Self, Problem> {
        let forms: Vec<Form> = files.iter().map(|f| form(&f.header.schema)).collect();
        // Each form with its first file and how many have it: files are many, forms are few.
        let mut kinds: Vec<(usize, usize)> = Vec::new();
        for (file, form) in forms.iter().enumerate() {
            match kinds.iter_mut().find(|(first, _)| forms[*first] == *form) {
                Some((_, count)) => *count += 1,
                None => kinds.push((file, 1)),
            }
        }
        let most = kinds.iter().map(|(_, count)| *count).max().unwrap_or_default();
        let usual = kinds.iter().find(|(_, count)| *count == most).map_or(0, |(first, _)| *first);
        let odd: Vec<(usize, String)> = (0..files.len())
            .filter(|i| forms[*i] != forms[usual])
            .map(|i| (i, difference(&forms[i], &forms[usual], &files[usual].file.path)))
            .collect();
        if (files.len() < 3 || odd.len() > (files.len() / 100).max(1))
            && let Some((i, how)) = odd.first()
        {
            let what = format!("{} is not like the other files: {how}", files[*i].file.path);
            return Err(Problem::at(&files[*i].pattern, what).help("read files of another form in a step of their own"));
        }
        for (i, how) in odd.into_iter().rev() {
            let known = files.remove(i);
            quarantined.push((known.file.path.clone(), how));
        }
        Self::of(files, samples)
    }

    fn of(files: &[Known<'_>], samples: &[String]) -> Result<Self, Problem> {
        let schema = &files[0].header.schema;
        let is = |name: &str, of: &DataType| schema.field_with_name(name).is_ok_and(|f| f.data_type() == of);
        let known_rows = is(FILE, &DataType::UInt32) && is(ROW, &DataType::UInt64) && is(EVENT, &DataType::UInt64);
        let mut classes: Vec<String> = samples.to_vec();
        if classes.is_empty() && known_rows {
            for name in files.iter().flat_map(|f| column::samples(&f.header.schema)) {
                if !classes.contains(&name) {
                    classes.push(name);
                }
            }
        }
        if classes.len() > 127 {
            let what = format!("the files have {} samples together, and at most 127 can be told apart", classes.len());
            return Err(Problem::at(&files[0].pattern, what));
        }
        let keeps_sample = known_rows && samples.is_empty() && !classes.is_empty() && schema.field_with_name(SAMPLE).is_ok();
        if samples.is_empty() && !keeps_sample {
            classes.clear();
        }
        let mut made = column::provenance_fields(!samples.is_empty());
        if known_rows {
            made.retain(|f| f.name() == SAMPLE);
        }
        let mut taken = Vec::new();
        for field in schema.fields() {
            let name = field.name();
            let ours = if name == SAMPLE { keeps_sample } else { known_rows && PROVENANCE.contains(&name.as_str()) };
            if ours && name == SAMPLE {
                taken.extend(column::provenance_fields(true).into_iter().take(1).map(|f| (name.clone(), f)));
                continue;
            }
            if name == SAMPLE && known_rows && !samples.is_empty() {
                continue;
            }
            let clash = !ours && PROVENANCE.contains(&name.as_str());
            let called = if clash { format!("{name}_in_file") } else { name.clone() };
            let nullable = files.iter().any(|f| f.header.schema.field_with_name(name).is_ok_and(Field::is_nullable));
            let kept = field.as_ref().clone().with_name(called).with_data_type(becomes(field)).with_nullable(nullable && !ours);
            taken.push((name.clone(), kept));
        }
        Ok(Self { taken, made, samples: classes })
    }

    /// The class map.
    pub(super) fn samples(&self) -> &[String] {
        &self.samples
    }

    /// The columns as they go on.
    pub(super) fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self.taken.iter().map(|(_, f)| f).chain(&self.made).cloned().collect();
        let schema = Schema::new(fields);
        Arc::new(if self.samples.is_empty() { schema } else { column::with_samples(schema, &self.samples) })
    }

    /// True where rows get their provenance here.
    pub(super) fn adds_provenance(&self) -> bool {
        self.made.iter().any(|f| f.name() == EVENT)
    }

    /// The name in the file of a column; none where it is made here.
    pub(super) fn in_file(&self, name: &str) -> Option<&str> {
        self.taken.iter().find(|(_, f)| f.name() == name).map(|(name, _)| name.as_str())
    }

    /// What a reader of the plan should know.
    pub(super) fn remarks(&self) -> Vec<String> {
        let renamed = self.taken.iter().filter(|(name, f)| name != f.name());
        renamed.map(|(name, f)| format!("the files' own column `{name}` is called `{}` here", f.name())).collect()
    }
}
