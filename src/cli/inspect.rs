//! `calostream inspect`: what is in HDF5 and Parquet files.

use super::LibraryArgs;
use super::plan::type_words;
use anyhow::Context;
use calostream_operators::facts::{FileFacts, ParquetHeader};
use calostream_operators::hdf5::header::{self, Header};
use calostream_operators::hdf5::propose::propose;
use calostream_operators::read::read_parquet;
use calostream_operators::schema::nearest;
use calostream_operators::words;
use calostream_operators::{column, hdf5};
use clap::Args;
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
    #[arg(long, alias = "schema")]
    write_schema: bool,
    /// Print all attributes, and the whole of each.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    libraries: LibraryArgs,
}

/// Prints what is in the files; exit code 1 where one can't be read.
pub fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let runtime = args.libraries.runtime();
    let mut failed = false;
    for name in &args.files {
        let found = if is_parquet(name)? {
            anyhow::ensure!(!args.write_schema, "{name}: a Parquet file carries its schema; `--write-schema` is for HDF5");
            read_parquet::probe(name).map(|files| files.iter().map(parquet_text).collect::<Vec<_>>())
        } else if args.write_schema {
            hdf5::probe(name, &runtime).map(|files| vec![schema_text(name, &files)])
        } else {
            hdf5::probe(name, &runtime).map(|files| files.iter().map(|file| hdf5_text(file, args.all)).collect())
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

fn hdf5_text(file: &FileFacts<Header>, all: bool) -> Result<String, String> {
    let mut out = heading(file);
    let header = file.header.as_ref().map_err(|reason| format!("{}: {reason}", file.path))?;
    for line in header::table(header, all).lines() {
        let _ = writeln!(out, "  {line}");
    }
    if header.datasets.is_empty() {
        out.push_str("  no datasets\n");
        return Ok(out);
    }
    let _ = writeln!(out, "{}", nearest(header));
    Ok(out)
}

fn parquet_text(file: &FileFacts<ParquetHeader>) -> Result<String, String> {
    let mut out = heading(file);
    let header = file.header.as_ref().map_err(|reason| format!("{}: {reason}", file.path))?;
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

/// A schema for files like the first readable one.
fn schema_text(name: &str, files: &[FileFacts<Header>]) -> Result<String, String> {
    let mut reason = format!("{name}: no file");
    for file in files {
        match &file.header {
            Ok(header) => return Ok(propose(header, "my-layout")),
            Err(why) => reason = format!("{}: {why}", file.path),
        }
    }
    Err(reason)
}
