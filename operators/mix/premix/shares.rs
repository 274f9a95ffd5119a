//! From what was asked for, and how many events each class has, to how many are taken of each and how they are spread.
//!
//! With the weights `w` of the classes and `T` the length of the mix, class `c` asks for `w_c T` events. Where it has fewer:
//!
//! - `stop`: `T` is as large as the scarcest class allows; every class keeps its share to the end.
//! - `drop`: a class gives what it has and ends early; it stands as dense as its share says until then.
//! - `repeat`: what is missing comes again.
//!
//! `T` follows from the number of events where one is given; else it is the largest for which nobody is asked for more than
//! there is (`stop`), or the smallest for which everything is used (`drop`, `repeat`). Three classes with 100, 400 and 1000
//! events, equal shares, no number: `stop` takes 100 of each; `drop` all 1500, of which the first 300 are mixed evenly, the
//! next 600 are of two classes, and the last 600 of one; `repeat` takes 1000 of each, ten times those of the first class.

use super::Exhausted;
use crate::words;
use crate::work::Share;
use std::fmt;

/// A mix has at most so many times the events that there are ...
const MOST_TIMES: u64 = 1000;
/// ... or so many, where that is more. Beyond that a number is a slip: the files of such a mix would not fit anywhere.
const MOST: u64 = 10_000_000;

/// What was asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// By class; none for as many as there are.
    pub(super) weights: Option<Vec<f64>>,
    /// Of all classes together.
    pub(super) events: Option<f64>,
    /// What happens where a class has too few.
    pub(super) when_exhausted: Exhausted,
}

/// Why what was asked for can't be had.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refused {
    /// A class has a share, and no events.
    Missing(String),
    /// So many events would be made of so many.
    TooMany(f64, u64),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => {
                write!(f, "the class `{name}` has no events, but a share; give it a share of 0 to leave it out")
            }
            Self::TooMany(rows, of) => write!(
                f,
                "a mix of {} events would be made of {}; a mix has at most {} times the events that there are, or {} where that is \
                 more: ask for fewer `events`, or for `shares` that are closer to each other",
                words::significant(*rows, 4),
                words::count(*of),
                words::count(MOST_TIMES),
                words::count(MOST)
            ),
        }
    }
}

impl Asked {
    /// The share of each class in an output that gets this fraction of the events, from how many it has there.
    pub(super) fn shares(&self, counts: &[u64], fraction: f64, names: &[String]) -> Result<Vec<Share>, Refused> {
        let natural: Vec<f64>;
        let weights = match &self.weights {
            Some(weights) => weights,
            None => {
                natural = counts.iter().map(|n| *n as f64).collect();
                &natural
            }
        };
        let weight = |class: usize| weights.get(class).copied().unwrap_or(0.0);
        let wanted: Vec<usize> = (0..counts.len()).filter(|class| weight(*class) > 0.0).collect();
        if let (Some(class), true) = (wanted.iter().find(|class| counts[**class] == 0), self.weights.is_some()) {
            let name = names.get(*class).map_or("", String::as_str);
            return Err(Refused::Missing(name.to_owned()));
        }
        let sum: f64 = wanted.iter().map(|class| weight(*class)).sum();
        let lengths = || wanted.iter().map(|class| counts[*class] as f64 / weight(*class));
        let (shortest, longest) = (lengths().fold(f64::INFINITY, f64::min), lengths().fold(0.0, f64::max));
        let asked = self.events.filter(|_| sum > 0.0).map(|events| events * fraction / sum);
        let length = match (asked, self.when_exhausted) {
            (None, Exhausted::Stop) => shortest,
            (None, Exhausted::Drop | Exhausted::Repeat) => longest,
            (Some(length), Exhausted::Stop) => length.min(shortest),
            (Some(length), Exhausted::Drop | Exhausted::Repeat) => length,
        };
        let exact: Vec<f64> =
            (0..counts.len()).map(|class| if weight(class) > 0.0 { weight(class) * length } else { 0.0 }).collect();
        let (all, there) = (exact.iter().sum::<f64>(), counts.iter().sum::<u64>());
        if self.when_exhausted == Exhausted::Repeat && all > MOST_TIMES.saturating_mul(there).max(MOST) as f64 {
            return Err(Refused::TooMany(all, there));
        }
        let of = whole(&exact);
        let rows = |class: usize| match self.when_exhausted {
            Exhausted::Repeat if counts[class] > 0 => of[class],
            _ => of[class].min(counts[class]),
        };
        Ok((0..counts.len()).map(|class| Share { rows: rows(class), of: of[class].max(rows(class)) }).collect())
    }

    /// The classes of which nothing is left, where a mix has fewer events than were asked for: from how many of each there were
    /// and how many were taken.
    pub(super) fn short(&self, classes: &[(u64, u64)], fraction: f64) -> Option<(u64, Vec<usize>)> {
        let wanted = (self.events? * fraction).round() as u64;
        let taken: u64 = classes.iter().map(|(_, taken)| taken).sum();
        let ran_out = |class: &usize| classes[*class].0 > 0 && classes[*class].0 == classes[*class].1;
        (taken < wanted).then(|| (wanted, (0..classes.len()).filter(ran_out).collect()))
    }
}

/// Whole numbers of the same sum (rounded), each within one of what it was: the largest remainders are rounded up.
fn whole(exact: &[f64]) -> Vec<u64> {
    // What is whole but for the last digits is whole.
    let near = |x: f64| if (x - x.round()).abs() < 1e-6 { x.round() } else { x };
    let exact: Vec<f64> = exact.iter().map(|x| near(*x)).collect();
    let mut whole: Vec<u64> = exact.iter().map(|x| x.floor() as u64).collect();
    let missing = (exact.iter().sum::<f64>().round() as u64).saturating_sub(whole.iter().sum());
    let mut order: Vec<usize> = (0..exact.len()).filter(|i| exact[*i].fract() > 0.0).collect();
    order.sort_by(|a, b| exact[*b].fract().total_cmp(&exact[*a].fract()).then(a.cmp(b)));
    for i in order.into_iter().take(usize::try_from(missing).unwrap_or(usize::MAX)) {
        whole[i] += 1;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(counts: &[u64], weights: Option<&[f64]>, events: Option<f64>, when_exhausted: Exhausted) -> Vec<(u64, u64)> {
        let asked = Asked { weights: weights.map(<[f64]>::to_vec), events, when_exhausted };
        let names = ["a", "b", "c"].map(String::from);
        asked.shares(counts, 1.0, &names).unwrap().into_iter().map(|s| (s.rows, s.of)).collect()
    }

    #[test]
    fn the_example_of_the_documentation() {
        let (counts, equal) = (&[100, 400, 1000], Some(&[1.0; 3][..]));
        assert_eq!(rows(counts, equal, None, Exhausted::Stop), [(100, 100); 3]);
        assert_eq!(rows(counts, equal, None, Exhausted::Drop), [(100, 1000), (400, 1000), (1000, 1000)]);
        assert_eq!(rows(counts, equal, None, Exhausted::Repeat), [(1000, 1000); 3]);
    }

    #[test]
    fn numbers_are_met_as_far_as_there_are_events() {
        let counts = &[100, 400, 1000];
        assert_eq!(rows(counts, None, Some(150.0), Exhausted::Stop), [(10, 10), (40, 40), (100, 100)]);
        assert_eq!(rows(counts, None, Some(3000.0), Exhausted::Stop), [(100, 100), (400, 400), (1000, 1000)]);
        assert_eq!(rows(counts, None, Some(3000.0), Exhausted::Repeat), [(200, 200), (800, 800), (2000, 2000)]);
        let weights = Some(&[0.5, 0.25, 0.25][..]);
        assert_eq!(rows(counts, weights, Some(1001.0), Exhausted::Drop), [(100, 501), (250, 250), (250, 250)]);
        assert_eq!(rows(counts, weights, Some(1000.0), Exhausted::Stop), [(100, 100), (50, 50), (50, 50)]);
        assert_eq!(rows(counts, Some(&[2.0, 1.0, 0.0]), None, Exhausted::Stop), [(100, 100), (50, 50), (0, 0)]);
        // A natural mix does without the classes that are not there.
        assert_eq!(rows(&[5, 0, 7], None, None, Exhausted::Stop), [(5, 5), (0, 0), (7, 7)]);
    }

    #[test]
    fn a_class_without_events_is_said_by_name() {
        let asked = Asked { weights: Some(vec![1.0, 1.0]), events: None, when_exhausted: Exhausted::Stop };
        let error = asked.shares(&[3, 0], 1.0, &["a".into(), "pi0".into()]).unwrap_err().to_string();
        assert!(error.contains("`pi0` has no events"), "{error}");
    }

    #[test]
    fn what_nobody_can_mean_is_refused_before_it_is_made() {
        let names = ["a", "b", "c"].map(String::from);
        let refused = |weights: Option<Vec<f64>>, events: Option<f64>, when_exhausted| {
            let asked = Asked { weights, events, when_exhausted };
            asked.shares(&[100_000; 3], 1.0, &names).err()
        };
        let far = Some(vec![1e9, 1.0, 1.0]);
        let said = refused(far.clone(), None, Exhausted::Repeat).unwrap().to_string();
        assert!(said.starts_with("a mix of 1.000e14 events would be made of 300,000; "), "{said}");
        assert!(refused(None, Some(1e11), Exhausted::Repeat).is_some());
        assert_eq!(refused(None, Some(3e8), Exhausted::Repeat), None);
        // Nothing comes again: there is nothing to be refused.
        assert_eq!(refused(far.clone(), None, Exhausted::Drop), None);
        assert_eq!(refused(far, None, Exhausted::Stop), None);
        // A few events may come very often.
        let asked = Asked { weights: None, events: Some(1e7), when_exhausted: Exhausted::Repeat };
        assert!(asked.shares(&[10], 1.0, &[]).is_ok());
    }

    #[test]
    fn classes_that_ran_out_are_named_where_numbers_are_not_met() {
        let asked = |events| Asked { weights: Some(vec![1.0; 3]), events, when_exhausted: Exhausted::Stop };
        let classes = [(100, 100), (400, 100), (1000, 100)];
        assert_eq!(asked(Some(3000.0)).short(&classes, 1.0), Some((3000, vec![0])));
        assert_eq!(asked(Some(3000.0)).short(&classes, 0.1), None);
        assert_eq!(asked(None).short(&classes, 1.0), None);
    }

    proptest! {
        #[test]
        fn no_class_gives_more_than_it_has_unless_it_repeats(counts in prop::collection::vec(1u64..1000, 1..5), w in prop::collection::vec(0.01f64..5.0, 5), events in prop::option::of(1.0f64..5000.0)) {
            let names: Vec<String> = (0..5).map(|i| i.to_string()).collect();
            for when_exhausted in [Exhausted::Stop, Exhausted::Drop, Exhausted::Repeat] {
                let asked = Asked { weights: Some(w[..counts.len()].to_vec()), events, when_exhausted };
                let shares = asked.shares(&counts, 1.0, &names).unwrap();
                prop_assert!(shares.iter().all(|s| s.rows <= s.of));
                if when_exhausted != Exhausted::Repeat {
                    prop_assert!(shares.iter().zip(&counts).all(|(s, n)| s.rows <= *n));
                }
                let total: u64 = shares.iter().map(|s| s.of).sum();
                if let (Some(events), true) = (events, when_exhausted != Exhausted::Stop) {
                    prop_assert_eq!(total, events.round() as u64);
                }
            }
        }
    }
}
