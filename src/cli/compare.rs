//! `calostream compare A B`: do two results agree?
//!
//! A result is a table (Parquet), a histogram (UHI JSON), or a run folder with all of its tables and histograms. Numbers are
//! matched by what names their row: texts and the edges of bins. They agree when they are as close as their errors allow, or with
//! `--tolerance` as close as that.
//!
//! Of two run folders the predictions that networks wrote into parts are compared, too, row by row, to a tolerance that is said with
//! them: see [`predictions`].
//!
//! Among many numbers some are far apart by chance. So `--sigmas 3` is asked of all of them together: each may be so far off that the
//! chance that any one is, is that of 3 sigma (Bonferroni), which for 1,000 numbers is 4.7 sigma of each. Exit code 0: they agree; 1: they
//! differ; 2: they can't be compared.

mod numbers;
mod predictions;

use anyhow::{Result, bail, ensure};
use calostream_operators::statistics::interval;
use calostream_operators::words;
use clap::Args;
use numbers::{Number, Numbers};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `calostream compare` is given.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// A table (Parquet), a histogram (JSON), or a run folder.
    #[arg(value_name = "A", value_hint = clap::ValueHint::AnyPath)]
    pub a: PathBuf,
    /// What it is compared with.
    #[arg(value_name = "B", value_hint = clap::ValueHint::AnyPath)]
    pub b: PathBuf,
    /// How unlikely a difference must be that counts, of all numbers together.
    #[arg(long, value_name = "N", default_value_t = 3.0, conflicts_with = "tolerance")]
    pub sigmas: f64,
    /// Compare all numbers, whatever their errors, to this relative precision; 0 for equal.
    #[arg(long, value_name = "T")]
    pub tolerance: Option<f64>,
}

/// Differences that are told one by one.
const TOLD: usize = 20;

/// Compares two results; exit code 1 where they differ.
pub fn compare(args: &CompareArgs) -> Result<ExitCode> {
    match differences(args) {
        Ok((said, agree)) => {
            super::print(&said)?;
            Ok(if agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => {
            eprintln!("calostream: {error:#}");
            Ok(ExitCode::from(2))
        }
    }
}

/// A number of A beside that of B, and how far they are apart.
struct Pair<'a> {
    of: &'a str,
    key: &'a numbers::Key,
    a: &'a Number,
    b: &'a Number,
    /// In sigmas, or relative; infinite where only one has a value. None where they can't be compared.
    apart: Option<f64>,
}

fn differences(args: &CompareArgs) -> Result<(String, bool)> {
    ensure!(args.sigmas > 0.0, "--sigmas {} is not above 0", args.sigmas);
    ensure!(args.tolerance.is_none_or(|t| t >= 0.0), "--tolerance is below 0");
    let [a, b] = [results(&args.a)?, results(&args.b)?];
    let mut said = String::new();
    let mut agree = true;
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    for name in names {
        let (Some(of_a), Some(of_b)) = (a.get(name), b.get(name)) else {
            let only = if a.contains_key(name) { &args.a } else { &args.b };
            said += &format!("{name}: only in {}\n", only.display());
            agree = false;
            continue;
        };
        let mut alone = [Vec::new(), Vec::new()];
        alone[0].extend(of_a.keys().filter(|key| !of_b.contains_key(*key)));
        alone[1].extend(of_b.keys().filter(|key| !of_a.contains_key(*key)));
        for (alone, whose) in alone.iter().zip([&args.a, &args.b]).filter(|(alone, _)| !alone.is_empty()) {
            agree = false;
            let first = alone[0].words();
            said +=
                &format!("{name}: {} only in {}, as {first}\n", words::counted(alone.len() as u64, "number"), whose.display());
        }
        for (key, a) in of_a {
            let Some(b) = of_b.get(key) else { continue };
            let apart = match args.tolerance {
                Some(_) => relative(a, b),
                None => sigmas(a, b),
            };
            pairs.push(Pair { of: name, key, a, b, apart });
        }
    }
    let compared: Vec<&Pair<'_>> = pairs.iter().filter(|pair| pair.apart.is_some()).collect();
    let least = match args.tolerance {
        Some(tolerance) => tolerance,
        None => interval::sigmas_of(interval::chance_beyond(args.sigmas) / compared.len().max(1) as f64),
    };
    let mut far: Vec<&Pair<'_>> = compared.iter().filter(|pair| pair.apart.is_some_and(|apart| apart > least)).copied().collect();
    far.sort_by(|x, y| y.apart.unwrap_or_default().total_cmp(&x.apart.unwrap_or_default()));
    for pair in far.iter().take(TOLD) {
        let apart = match (pair.apart.filter(|apart| apart.is_finite()), args.tolerance) {
            (None, _) => String::new(),
            (Some(apart), None) => format!(" ({} sigma)", words::significant(apart, 2)),
            (Some(apart), Some(_)) => format!(" ({} of the value)", words::significant(apart, 2)),
        };
        said += &format!("{}: {}: {} against {}{apart}\n", pair.of, pair.key.words(), pair.a.words(), pair.b.words());
    }
    if far.len() > TOLD {
        said += &format!("and {} more\n", far.len() - TOLD);
    }
    let how = match args.tolerance {
        Some(tolerance) => format!("to {tolerance:e} of their value"),
        None => format!("to {} sigma each, {} of all together", words::significant(least, 2), words::plain(args.sigmas)),
    };
    let beside = pairs.len() - compared.len();
    let beside =
        if beside > 0 { format!("; {beside} without an error are not compared (--tolerance does)") } else { String::new() };
    said += &format!("{} compared {how}, {} differ{beside}\n", words::counted(compared.len() as u64, "number"), far.len());
    if args.tolerance.is_none() {
        let squares: Vec<f64> =
            compared.iter().filter_map(|pair| pair.apart).filter(|apart| apart.is_finite()).map(|z| z * z).collect();
        said += &format!("sum of squares over errors: {} of {}\n", words::significant(squares.iter().sum(), 4), squares.len());
    }
    let both = args.a.is_dir() && args.b.is_dir();
    let predictions = if both { predictions::compare(&args.a, &args.b, args.tolerance)? } else { (String::new(), 0, true) };
    let (of_predictions, columns, predictions_agree) = predictions;
    said += &of_predictions;
    ensure!(!compared.is_empty() || !agree || columns > 0, "there is no number to compare");
    Ok((said, agree && predictions_agree && far.is_empty()))
}

/// How far two numbers are apart in units of their error; none where there is no error.
fn sigmas(a: &Number, b: &Number) -> Option<f64> {
    match (a.value, b.value) {
        (None, None) => None,
        (Some(x), Some(y)) => {
            let error = a.error?.hypot(b.error?);
            Some(if x == y { 0.0 } else { (x - y).abs() / error })
        }
        _ => a.error.or(b.error).map(|_| f64::INFINITY),
    }
}

/// How far two numbers are apart, of the larger one.
fn relative(a: &Number, b: &Number) -> Option<f64> {
    match (a.value, b.value) {
        (None, None) => None,
        (Some(x), Some(y)) => Some(if x == y { 0.0 } else { (x - y).abs() / x.abs().max(y.abs()) }),
        _ => Some(f64::INFINITY),
    }
}

/// The results behind a path, by name.
fn results(path: &Path) -> Result<BTreeMap<String, Numbers>> {
    ensure!(path.exists(), "{} is not there", path.display());
    if !path.is_dir() {
        return Ok(BTreeMap::from([("result".to_owned(), numbers::of_file(path)?)]));
    }
    let mut results = BTreeMap::new();
    for folder in entries(path)?.into_iter().filter(|folder| folder.is_dir()) {
        let Some(step) = folder.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let table = folder.join(format!("{step}.parquet"));
        if !table.exists() {
            continue;
        }
        results.insert(step.to_owned(), numbers::of_file(&table)?);
        for histogram in entries(&folder)?.into_iter().filter(|file| file.extension().is_some_and(|e| e == "json")) {
            let name = histogram.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            results.insert(format!("{step}/{name}"), numbers::of_file(&histogram)?);
        }
    }
    if results.is_empty() && predictions::predicted(path).is_empty() {
        bail!("{} has no tables: is it a run folder, and is the run done?", path.display());
    }
    Ok(results)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
