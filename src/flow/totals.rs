//! The totals of all sums while inputs come and go, kept by differential dataflow.
//!
//! A cell of a step's sums (a count or an exact sum, by its key) is a record, and what a part contributes to it is the
//! difference: integers and exact sums are groups, so a part that goes takes back just what it had added, and totals after any
//! sequence of additions and removals are those of a run from scratch, to the byte. Time is the number of the change. What is
//! read back at each time are the cells that have changed.
//!
//! The ledger is the state: what is here is made of it at the start (the contributions of all parts added up first, because each
//! record costs), and follows it. The dataflow has a thread of its own, which sleeps between changes.

use crate::ledger::log::{self, Pointer};
use crate::ledger::{State, log::Commit};
use anyhow::{Context, Result, anyhow};
use calostream_operators::statistics::exact::Exact;
use calostream_operators::statistics::sums::Sums;
use calostream_operators::varint::Reader;
use differential_dataflow::difference::{IsZero, Semigroup};
use differential_dataflow::input::InputSession;
use differential_dataflow::operators::CountTotal;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use timely::dataflow::operators::Probe;

/// The totals of the steps of a run.
pub struct Totals {
    /// What was taken in, by phase and part.
    followed: BTreeMap<(usize, u64), Vec<Pointer>>,
    sums: BTreeMap<String, Sums>,
    names: Vec<String>,
    send: Option<Sender<Change>>,
    receive: Receiver<Change>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Cells with what is added to them or, on the way back, with what they hold now.
#[derive(Debug, Default)]
struct Change {
    counts: Vec<(Cell, i64)>,
    sums: Vec<(Cell, Sum)>,
}

/// A step, and a key of its sums.
type Cell = (u32, u64);

/// An exact sum as a difference. Equal sums are equal bytes, and are ordered by these.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sum(Exact);

impl Sum {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.encode(&mut bytes);
        bytes
    }
}

impl PartialOrd for Sum {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sum {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bytes().cmp(&other.bytes())
    }
}

impl IsZero for Sum {
    fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

impl Semigroup for Sum {
    fn plus_equals(&mut self, other: &Self) {
        self.0.plus(&other.0);
    }
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.bytes())
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(from)?;
        Exact::decode(&mut Reader(&bytes)).map(Self).map_err(D::Error::custom)
    }
}

impl Totals {
    /// Nothing yet.
    pub fn start() -> Result<Self> {
        let (send, changes) = channel();
        let (answers, receive) = channel();
        let thread = std::thread::Builder::new().name("totals".into()).spawn(move || keep(changes, answers))?;
        let (followed, sums, names) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Ok(Self { followed, sums, names, send: Some(send), receive, thread: Some(thread) })
    }

    /// The totals of a step.
    pub fn of(&self, step: &str) -> Sums {
        self.sums.get(step).cloned().unwrap_or_default()
    }

    /// Follows the ledger: adds what has come since, and takes back what has gone.
    pub fn follow(&mut self, state: &State, folder: &Path) -> Result<()> {
        let path = folder.join("contributions.bin");
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let same = |part: &(usize, u64), of: &[Pointer]| state.commits.get(part).is_some_and(|c| c.contributions == of);
        let gone: Vec<_> = self.followed.extract_if(.., |part, of| !same(part, of)).flat_map(|(_, of)| of).collect();
        let new = |c: &&Commit| !self.followed.contains_key(&(c.phase, c.part));
        let come: Vec<((usize, u64), Vec<Pointer>)> =
            state.commits.values().filter(new).map(|c| ((c.phase, c.part), c.contributions.clone())).collect();
        let mut changed: BTreeMap<String, Sums> = BTreeMap::new();
        let contribution = |pointer: &Pointer| Sums::decode(&log::contribution(&file, pointer)?);
        for pointer in &gone {
            let mut back = contribution(pointer)?;
            back.negate();
            changed.entry(pointer.step.clone()).or_default().merge(&back);
        }
        for pointer in come.iter().flat_map(|(_, of)| of) {
            changed.entry(pointer.step.clone()).or_default().merge(&contribution(pointer)?);
        }
        self.followed.extend(come);
        self.apply(&changed)
    }

    fn apply(&mut self, changed: &BTreeMap<String, Sums>) -> Result<()> {
        let mut change = Change::default();
        for (step, sums) in changed {
            let step = self.number(step)?;
            change.counts.extend(sums.counts().into_iter().map(|(key, n)| ((step, key), n)));
            change.sums.extend(sums.exact_sums().into_iter().map(|(key, sum)| ((step, key), Sum(sum))));
        }
        let send = self.send.as_ref().context("the totals are closed")?;
        send.send(change).map_err(|_| anyhow!("the totals broke off"))?;
        let now = self.receive.recv().map_err(|_| anyhow!("the totals broke off"))?;
        for ((step, key), n) in now.counts {
            self.sums_of(step).set_count(key, n);
        }
        for ((step, key), sum) in now.sums {
            self.sums_of(step).set_sum(key, sum.0);
        }
        Ok(())
    }

    fn number(&mut self, step: &str) -> Result<u32> {
        let known = self.names.iter().position(|name| name == step);
        let number = known.unwrap_or_else(|| {
            self.names.push(step.to_owned());
            self.names.len() - 1
        });
        Ok(u32::try_from(number)?)
    }

    fn sums_of(&mut self, step: u32) -> &mut Sums {
        self.sums.entry(self.names[step as usize].clone()).or_default()
    }
}

impl Drop for Totals {
    fn drop(&mut self) {
        self.send = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes changes, one after the other, and answers each with the cells that it changed.
fn keep(changes: Receiver<Change>, answers: Sender<Change>) {
    // What goes in must be `Sync`, though one thread alone has it.
    let changes = Mutex::new(changes);
    timely::execute_directly(move |worker| {
        let changes = changes.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (mut counts, mut sums) = (InputSession::<u64, Cell, i64>::new(), InputSession::<u64, Cell, Sum>::new());
        let told: Rc<RefCell<Change>> = Rc::default();
        let (of_counts, of_sums) = (Rc::clone(&told), Rc::clone(&told));
        let probe = worker.dataflow(|scope| {
            let (probe, _) = counts
                .to_collection(scope)
                .count_total()
                .inspect(move |((cell, n), _, r)| of_counts.borrow_mut().counts.push((*cell, if *r > 0 { *n } else { 0 })))
                .probe();
            sums.to_collection(scope)
                .count_total()
                .inspect(move |((cell, sum), _, r)| {
                    let now = if *r > 0 { sum.clone() } else { Sum(Exact::default()) };
                    of_sums.borrow_mut().sums.push((*cell, now));
                })
                .inner
                .probe_with(&probe);
            probe
        });
        for (time, change) in (1..).zip(changes) {
            change.counts.into_iter().for_each(|(cell, n)| counts.update(cell, n));
            change.sums.into_iter().for_each(|(cell, sum)| sums.update(cell, sum));
            counts.advance_to(time);
            counts.flush();
            sums.advance_to(time);
            sums.flush();
            while probe.less_than(&time) {
                worker.step();
            }
            let mut now = std::mem::take(&mut *told.borrow_mut());
            // A cell that changes is told twice, as it was and as it is: what was has become nothing, and comes first.
            now.counts.sort_by_key(|(cell, n)| (*cell, *n != 0));
            now.sums.sort_by_key(|(cell, sum)| (*cell, !sum.is_zero()));
            if answers.send(now).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sums(cells: &[(u64, i64, f64)]) -> Sums {
        let mut sums = Sums::default();
        for (key, n, x) in cells {
            sums.tally(*key, *n);
            sums.add(*key, *x);
        }
        sums
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn totals_after_any_sequence_are_those_of_what_is_left(
            parts in proptest::collection::vec(proptest::collection::vec((0u64..6, 0i64..3, -1e3f64..1e3), 0..8), 1..8),
            steps in proptest::collection::vec(0usize..8, 1..20),
        ) {
            let mut totals = Totals::start().unwrap();
            let mut there = vec![false; parts.len()];
            for part in steps {
                let part = part % parts.len();
                let mut change = sums(&parts[part]);
                if there[part] {
                    change.negate();
                }
                there[part] = !there[part];
                let changed = BTreeMap::from(["a", "b"].map(|step| (step.to_owned(), change.clone())));
                totals.apply(&changed).unwrap();
                let mut whole = Sums::default();
                parts.iter().zip(&there).filter(|(_, there)| **there).for_each(|(part, _)| whole.merge(&sums(part)));
                prop_assert_eq!(totals.of("a").encode(), whole.encode());
                prop_assert_eq!(totals.of("b").encode(), whole.encode());
            }
        }
    }
}
