//! `calostream inspect`: what is in HDF5 and Parquet files.

use super::LibraryArgs;
use super::plan::type_words;
use crate::words;
use anyhow::Context;
use calostream_operators::facts::{FileFacts, ParquetHeader};
use calostream_operators::hdf5::header::{self, Dataset, Element, Header};
use calostream_operators::read::read_parquet;
use calostream_operators::{column, hdf5};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::process::ExitCode;

/// What `inspect` is given.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The files, or patterns in quotes.
    #[arg(required = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    files: Vec<String>,
    /// Print a schema for HDF5 files of this layout, to save and edit.
    #[arg(long)]
    schema: bool,
    #[command(flatten)]
    libraries: LibraryArgs,
}

/// Prints what is in the files; exit code 1 where one can't be read.
pub fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let runtime = args.libraries.runtime();
    let mut failed = false;
    for name in &args.files {
        let found = if is_parquet(name)? {
            anyhow::ensure!(!args.schema, "{name}: a Parquet file carries its schema; `--schema` is for HDF5");
            read_parquet::probe(name).map(|files| files.into_iter().map(parquet_text).collect::<Vec<_>>())
        } else if args.schema {
            hdf5::probe(name, &runtime).map(|files| vec![schema_text(name, files)])
        } else {
            hdf5::probe(name, &runtime).map(|files| files.into_iter().map(hdf5_text).collect())
        };
        for text in found.unwrap_or_else(|reason| vec![Err(format!("{name}: {reason}"))]) {
            match text {
                Ok(text) => super::print(&text)?,
                Err(reason) => {
                    failed = true;
                    eprintln!("calostream: {reason}");
                }
            }
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

/// Parquet by its last four bytes, or by name where it is a pattern.
fn is_parquet(name: &str) -> anyhow::Result<bool> {
    let mut file = match File::open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound && name.contains(['*', '?', '[']) => {
            return Ok(name.ends_with(".parquet"));
        }
        Err(error) => return Err(error).with_context(|| format!("can't open {name}")),
    };
    let mut magic = [0; 4];
    let ended = file.seek(SeekFrom::End(-4)).and_then(|_| file.read_exact(&mut magic));
    Ok(ended.is_ok() && &magic == b"PAR1")
}

fn heading<H>(file: &FileFacts<H>) -> String {
    format!("{}: {}, fingerprint {}\n", file.path, words::bytes(file.bytes), file.fingerprint)
}

fn hdf5_text(file: FileFacts<Header>) -> Result<String, String> {
    let mut out = heading(&file);
    let header = file.header.map_err(|reason| format!("{}: {reason}", file.path))?;
    for line in header::table(&header).lines() {
        let _ = writeln!(out, "  {line}");
    }
    Ok(out)
}

fn parquet_text(file: FileFacts<ParquetHeader>) -> Result<String, String> {
    let mut out = heading(&file);
    let header = file.header.map_err(|reason| format!("{}: {reason}", file.path))?;
    let _ = writeln!(
        out,
        "  {} rows in {} row groups, {} uncompressed",
        words::count(header.row_groups.iter().sum()),
        header.row_groups.len(),
        words::bytes(header.uncompressed)
    );
    let width = header.schema.fields().iter().map(|f| f.name().len()).max().unwrap_or(0);
    for field in header.schema.fields() {
        let unit = column::unit(field).map_or_else(String::new, |unit| format!(" [{unit}]"));
        let _ = writeln!(out, "  {:width$}  {}{unit}", field.name(), type_words(field));
    }
    let samples = column::samples(&header.schema);
    if !samples.is_empty() {
        let _ = writeln!(out, "  samples: {}", samples.join(", "));
    }
    Ok(out)
}

/// A schema for files like the first readable one: every dataset of numbers whose axis 0 is as long as that of most.
fn schema_text(name: &str, files: Vec<FileFacts<Header>>) -> Result<String, String> {
    let (mut reason, mut found) = (format!("{name}: no file"), None);
    for file in files {
        match file.header {
            Ok(header) => {
                found = Some((file.path, header));
                break;
            }
            Err(why) => reason = format!("{}: {why}", file.path),
        }
    }
    let (path, header) = found.ok_or(reason)?;
    let mut lengths: BTreeMap<u64, usize> = BTreeMap::new();
    for rows in header.datasets.iter().filter_map(Dataset::rows) {
        *lengths.entry(rows).or_default() += 1;
    }
    let Some((rows, _)) = lengths.into_iter().max_by_key(|(_, datasets)| *datasets) else {
        return Err(format!("{path}: no dataset has an axis of events"));
    };
    let mut out = format!("# Made from {path}. Give the columns better names, say their units, take out what is not needed.\n");
    let _ = writeln!(out, "schema: my-layout\ncolumns:");
    let mut names = BTreeSet::new();
    for dataset in &header.datasets {
        if dataset.rows() != Some(rows) {
            let _ = writeln!(out, "  # {}: {}, not an event a row", dataset.path, dataset.describe());
            continue;
        }
        let members: Vec<Option<&str>> = match &dataset.element {
            Element::Compound { members, .. } => members.iter().map(|m| Some(m.name.as_str())).collect(),
            _ => vec![None],
        };
        for member in members {
            let _ = writeln!(out, "{}", column_line(dataset, member, &mut names));
        }
    }
    Ok(out)
}

fn column_line(dataset: &Dataset, member: Option<&str>, names: &mut BTreeSet<String>) -> String {
    let full = member.map_or_else(|| dataset.path.clone(), |m| format!("{}.{m}", dataset.path));
    let numbers = match dataset.numbers(member) {
        Ok(numbers) => numbers,
        Err(reason) => return format!("  # {full}: {reason}"),
    };
    let last = member.unwrap_or_else(|| dataset.path.rsplit('/').next().unwrap_or_default());
    let mut name = word(last);
    if !names.insert(name.clone()) {
        name = word(&full);
        names.insert(name.clone());
    }
    let mut said = vec![format!("dataset: {}", quoted(&dataset.path))];
    said.extend(member.map(|m| format!("member: {}", quoted(m))));
    let dims: Vec<u64> = dataset.shape.iter().skip(1).chain(&numbers.shape).copied().collect();
    if !dims.is_empty() {
        let dims: Vec<String> = dims.iter().map(u64::to_string).collect();
        said.push(format!("kind: hits, value: value, dims: [{}]", dims.join(", ")));
    }
    said.extend(dataset.unit.as_ref().map(|unit| format!("unit: {}", quoted(unit))));
    format!("  {name}: {{ {} }}", said.join(", "))
}

/// A name as a column has it: lower case, letters, digits and `_`.
fn word(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    if plain.starts_with(|c: char| c.is_ascii_alphabetic()) { plain } else { format!("column_{plain}") }
}

/// A text in YAML, in quotes where it needs them.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.'))
        && !matches!(text, "true" | "false" | "null");
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
