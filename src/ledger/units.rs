//! The written-down list of units, and how small ones share a part.
//!
//! `units.jsonl` is only ever appended to: a unit keeps its number, its part and the number of its file for as long as the
//! run folder lives, so that everything that was named after them stays right when files are added.

use super::log::whole_lines;
use crate::files;
use anyhow::{Context, Result, ensure};
use calostream_operators::Unit;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Units of one step and sample are put together into a part until it holds a share of all bytes before it, no fewer and no
/// more than this: early parts are small, so that a short list gives every worker something to do until the end, and those
/// of a long list are large.
const PART_SHARE: u64 = 32;
const PART_LEAST: u64 = 8 << 20;
const PART_MOST: u64 = 64 << 20;

/// A unit with its number and its part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// The number of the unit, from 0.
    pub number: u64,
    /// The part that it belongs to.
    pub part: u64,
    /// The unit.
    #[serde(flatten)]
    pub unit: Unit,
}

/// Reads the list; an empty one where there is none. A line without an end is ignored.
pub fn read(path: &Path) -> Result<Vec<Numbered>> {
    let parse = |line: &str| serde_json::from_str(line).with_context(|| format!("{} is damaged", path.display()));
    whole_lines(path)?.lines().map(parse).collect()
}

/// What of `found` is not in `known` yet, numbered; and the known units that it stands for. Units that were `withdrawn` are not
/// known any more, but their numbers are.
///
/// An error where a known file has changed, unless all of its units are `bad`: then it has been repaired, and its new units
/// replace the bad ones.
pub fn added(
    known: &[Numbered],
    found: &[Unit],
    bad: &dyn Fn(u64) -> bool,
    withdrawn: &BTreeSet<u64>,
) -> Result<(Vec<Numbered>, Vec<u64>)> {
    let mut files: BTreeMap<(&str, &str, &str), u32> = BTreeMap::new();
    let mut paths: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for k in known {
        files.insert((&k.unit.step, &k.unit.path, &k.unit.fingerprint), k.unit.file);
        if withdrawn.contains(&k.number) {
            continue;
        }
        paths.insert((&k.unit.step, &k.unit.path), &k.unit.fingerprint);
        seen.insert((&k.unit.step, &k.unit.path, &k.unit.fingerprint, k.unit.first));
    }
    let mut next_file = known.iter().map(|k| k.unit.file + 1).max().unwrap_or(0);
    let mut next_part = known.iter().map(|k| k.part + 1).max().unwrap_or(0);
    let mut open: BTreeMap<(&str, Option<&str>), (u64, u64)> = BTreeMap::new();
    let (mut new, mut replaced) = (Vec::new(), BTreeSet::new());
    let bytes = |unit: &Unit| unit.rows * unit.row_bytes;
    let mut all: u64 = known.iter().map(|k| bytes(&k.unit)).sum();
    for unit in found {
        if let Some(before) = paths.get(&(unit.step.as_str(), unit.path.as_str())).filter(|f| **f != unit.fingerprint) {
            let here = |k: &&Numbered| !withdrawn.contains(&k.number) && (&k.unit.step, &k.unit.path) == (&unit.step, &unit.path);
            let of_file = || known.iter().filter(here);
            let old: Vec<u64> = of_file().filter(|k| k.unit.fingerprint != unit.fingerprint).map(|k| k.number).collect();
            let repaired = old.iter().all(|u| bad(*u));
            replaced.extend(old);
            ensure!(
                repaired,
                "{} has changed since this run folder read it (fingerprint {} then, {} now); run with --fresh, or into another `out`",
                unit.path,
                before,
                unit.fingerprint
            );
        }
        if seen.contains(&(&unit.step, &unit.path, &unit.fingerprint, unit.first)) {
            continue;
        }
        let file = *files.entry((&unit.step, &unit.path, &unit.fingerprint)).or_insert_with(|| {
            next_file += 1;
            next_file - 1
        });
        let (bytes, full) = (bytes(unit), (all / PART_SHARE).clamp(PART_LEAST, PART_MOST));
        all += bytes;
        let key = (unit.step.as_str(), unit.sample.as_deref());
        let part = match open.get_mut(&key) {
            Some((part, held)) if !unit.alone && *held + bytes <= full => {
                *held += bytes;
                *part
            }
            _ => {
                let part = next_part;
                next_part += 1;
                open.insert(key, (part, if unit.alone { PART_MOST } else { bytes }));
                part
            }
        };
        let unit = Unit { file, ..unit.clone() };
        new.push(Numbered { number: (known.len() + new.len()) as u64, part, unit });
    }
    Ok((new, replaced.into_iter().collect()))
}

/// Appends to the list: all of `new` or, after a kill, nothing of it, because which units share a part is decided for all
/// that are found together.
pub fn append(path: &Path, new: &[Numbered]) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let mut text = whole_lines(path)?.into_bytes();
    for unit in new {
        serde_json::to_writer(&mut text, unit)?;
        text.push(b'\n');
    }
    files::write_whole(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write;

    fn unit(path: &str, sample: &str, rows: u64) -> Unit {
        Unit {
            step: "events".into(),
            sample: Some(sample.into()),
            path: path.into(),
            fingerprint: format!("of-{path}"),
            first: 0,
            rows,
            file: 0,
            row_bytes: 1 << 20,
            alone: false,
        }
    }

    #[test]
    fn small_units_share_a_part_and_added_files_get_new_numbers() {
        let found = [unit("a", "e", 2), unit("b", "g", 6), unit("c", "e", 3), unit("d", "e", 4)];
        let first = added(&[], &found, &|_| false, &BTreeSet::new()).unwrap().0;
        assert_eq!(first.iter().map(|n| n.part).collect::<Vec<_>>(), [0, 1, 0, 2]);
        assert_eq!(first.iter().map(|n| n.unit.file).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let more = [unit("0", "e", 1), found[0].clone(), found[1].clone(), found[2].clone(), found[3].clone()];
        let second = added(&first, &more, &|_| false, &BTreeSet::new()).unwrap().0;
        assert_eq!(second.len(), 1);
        assert_eq!((second[0].number, second[0].part, second[0].unit.file), (4, 3, 4));
        let mut changed = found[2].clone();
        changed.fingerprint = "other".into();
        assert!(
            added(&first, std::slice::from_ref(&changed), &|_| false, &BTreeSet::new())
                .unwrap_err()
                .to_string()
                .contains("c has changed since")
        );
        let (repaired, replaced) = added(&first, &[changed], &|unit| unit == 2, &BTreeSet::new()).unwrap();
        assert_eq!((repaired.len(), repaired[0].number, replaced), (1, 4, vec![2]));
    }

    #[test]
    fn a_file_that_was_withdrawn_may_come_again() {
        let found = [unit("a", "e", 2), unit("b", "g", 6)];
        let first = added(&[], &found, &|_| false, &BTreeSet::new()).unwrap().0;
        let again = added(&first, &found, &|_| false, &BTreeSet::from([0])).unwrap().0;
        assert_eq!(again.iter().map(|n| (n.number, n.part, n.unit.file)).collect::<Vec<_>>(), [(2, 2, 0)]);
        let changed = Unit { fingerprint: "other".into(), ..unit("a", "e", 2) };
        let (new, replaced) = added(&first, &[changed], &|_| false, &BTreeSet::from([0])).unwrap();
        assert_eq!((new.len(), new[0].unit.file, replaced.len()), (1, 2, 0));
    }

    #[test]
    fn parts_grow_with_what_is_before_them_and_no_other_way() {
        let files: Vec<Unit> = (0..10_000).map(|i| unit(&format!("{i:05}"), "e", 1)).collect();
        let parts = |units: &[Numbered]| {
            let mut sizes: BTreeMap<u64, u64> = BTreeMap::new();
            units.iter().for_each(|n| *sizes.entry(n.part).or_default() += n.unit.rows);
            sizes.into_values().collect::<Vec<_>>()
        };
        let all = added(&[], &files, &|_| false, &BTreeSet::new()).unwrap().0;
        let sizes = parts(&all);
        assert!(sizes.len() < 300 && sizes[0] == 8 && sizes[sizes.len() - 2] == 64, "{} parts: {sizes:?}", sizes.len());
        // A shorter list is the beginning of a longer one.
        let few = added(&[], &files[..700], &|_| false, &BTreeSet::new()).unwrap().0;
        assert_eq!(few[..], all[..700]);
    }

    #[test]
    fn a_line_without_an_end_is_ignored_and_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("units.jsonl");
        let all = added(&[], &[unit("a", "e", 20), unit("b", "g", 60)], &|_| false, &BTreeSet::new()).unwrap().0;
        append(&path, &all[..1]).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"number\":1,\"pa").unwrap();
        assert_eq!(read(&path).unwrap(), all[..1]);
        append(&path, &all[1..]).unwrap();
        assert_eq!(read(&path).unwrap(), all);
    }
}
