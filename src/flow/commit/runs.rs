//! Which parts are committed together: those whose rows stand in one run.
//!
//! A part that puts rows aside says so, once for each input of each shuffle, and waits for as many runs. Parts that wait for
//! a run in common, even by way of others, are one group. Invariant: a group is given when all of its parts are over and all
//! of its runs are written; until then it is kept.

use super::super::stage::Record;
use super::Group;
use std::collections::{BTreeMap, BTreeSet};

/// Parts that are over, and runs.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Parts that are over, with their records.
    over: BTreeMap<u64, Vec<Record>>,
    /// Runs that are written and not given yet.
    runs: Vec<Record>,
}

impl Runs {
    /// A run is written.
    pub(super) fn written(&mut self, run: Record) {
        self.runs.push(run);
    }

    /// All that will be said of a part, but for its runs.
    pub(super) fn said(&mut self, part: u64, records: Vec<Record>) {
        self.over.insert(part, records);
    }

    /// True where nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.over.is_empty()
    }

    /// The groups that are complete, in order.
    pub(super) fn complete(&mut self) -> Vec<Group> {
        let mut groups = Vec::new();
        let mut seen: BTreeSet<u64> = BTreeSet::new();
        let parts: Vec<u64> = self.over.keys().copied().collect();
        for part in parts {
            if seen.contains(&part) {
                continue;
            }
            let group = self.group(part);
            seen.extend(&group);
            if group.iter().all(|part| self.is_complete(*part)) {
                groups.push(self.give(&group));
            }
        }
        groups
    }

    /// All parts that share a run with this one, or with one that does.
    fn group(&self, part: u64) -> BTreeSet<u64> {
        let mut group = BTreeSet::from([part]);
        loop {
            let before = group.len();
            for parts in self.runs.iter().map(parts_of) {
                if parts.iter().any(|p| group.contains(p)) {
                    group.extend(parts);
                }
            }
            if group.len() == before {
                return group;
            }
        }
    }

    /// True for a part that is over and whose runs are written: all of them, or none where it has a fault.
    fn is_complete(&self, part: u64) -> bool {
        let Some(records) = self.over.get(&part) else { return false };
        let waits = records.iter().filter(|r| matches!(r, Record::Aside { .. })).count();
        let written = self.runs.iter().filter(|run| parts_of(run).contains(&part)).count();
        waits == written
    }

    fn give(&mut self, group: &BTreeSet<u64>) -> Group {
        let mut given: Group = group.iter().filter_map(|part| self.over.remove(part).map(|records| (*part, records))).collect();
        let (of_group, others) =
            std::mem::take(&mut self.runs).into_iter().partition(|run| parts_of(run).iter().any(|p| group.contains(p)));
        self.runs = others;
        let of_group: Vec<Record> = of_group;
        for (part, records) in &mut given {
            records.extend(of_group.iter().filter(|run| parts_of(run).contains(part)).cloned());
        }
        given
    }
}

fn parts_of(run: &Record) -> &[u64] {
    match run {
        Record::Run { parts, .. } => parts,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::log::Spill;

    fn run(step: usize, parts: &[u64]) -> Record {
        let spill =
            Spill { step: "s".into(), path: "r".into(), host: String::new(), input: 0, first: parts[0], in_memory: false };
        Record::Run { step, spill, index: Vec::new(), parts: parts.to_vec() }
    }

    fn parts(groups: &[Group]) -> Vec<Vec<u64>> {
        groups.iter().map(|g| g.iter().map(|(part, _)| *part).collect()).collect()
    }

    #[test]
    fn parts_wait_for_their_runs_and_for_each_other() {
        let aside = |step| Record::Aside { step, input: 0 };
        let mut runs = Runs::default();
        runs.said(1, vec![aside(0), aside(3)]);
        runs.said(2, vec![]);
        runs.said(4, vec![aside(0), aside(3)]);
        assert_eq!(parts(&runs.complete()), [[2]]);
        runs.written(run(0, &[1, 6]));
        runs.written(run(3, &[1, 4]));
        assert!(runs.complete().is_empty());
        runs.said(6, vec![aside(0)]);
        assert!(runs.complete().is_empty(), "4 waits for another run");
        runs.written(run(0, &[4]));
        let groups = runs.complete();
        assert_eq!(parts(&groups), [[1, 4, 6]]);
        assert_eq!(groups[0][0].1.len(), 4);
        assert!(runs.is_empty() && runs.runs.is_empty());
    }
}
