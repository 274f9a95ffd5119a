//! Has a new order anything to do with the old one? A figure for each class of an output.
//!
//! The old order is the rank of an event in its class, over all files in the order in which they were read; the new one is its
//! place in the mix. Both are cut into ten groups of equal numbers, and Pearson's test says how likely the counts in the hundred
//! fields are where the orders are unrelated. Where a mix repeats its events, each time is a permutation of its own, with every
//! event once: they are tested one by one, and the figure is that of all together. (Looked at as one, they would be too
//! uniform: each event is there in every time.)

use crate::flow::verify::Due;
use calostream_operators::statistics::fit;
use calostream_operators::words;
use std::collections::BTreeMap;

/// A class is put into so many groups by its old and by its new order.
const GROUPS: usize = 10;
/// Below this the orders look related; chance alone does it once in a thousand classes.
const UNLIKELY: f64 = 1e-3;
/// Below this no chance does it: the order is wrong.
const IMPOSSIBLE: f64 = 1e-9;

/// What was seen of an output, in its order.
#[derive(Debug, Default)]
pub struct Seen {
    /// By stratum, and by how often its events were there before: the ranks, in the new order.
    ranks: BTreeMap<u16, BTreeMap<u32, Vec<u64>>>,
}

impl Seen {
    /// The next event of the order.
    pub fn take(&mut self, due: &Due) {
        self.ranks.entry(due.stratum).or_default().entry(due.time).or_default().push(due.rank);
    }

    /// All events.
    pub fn events(&self) -> u64 {
        self.ranks.values().flat_map(BTreeMap::values).map(|ranks| ranks.len() as u64).sum()
    }

    /// A line for each class; adds to what is wrong with the output.
    pub fn text(&self, output: &str, names: &[String], wrong: &mut Vec<String>) -> String {
        let mut text = String::new();
        for (stratum, times) in &self.ranks {
            let name = names.get(usize::from(*stratum)).map_or("all", String::as_str);
            let found = match p_value(times.values()) {
                None => String::new(),
                Some(p) if p >= UNLIKELY => format!(", old and new order are unrelated: p = {p:.3}"),
                Some(p) => {
                    if p < IMPOSSIBLE {
                        wrong.push(format!("{output}: the new order of `{name}` follows the old one (p = {p:.0e})"));
                    }
                    format!(", old and new order look related: p = {p:.0e}")
                }
            };
            let events = times.values().map(|ranks| ranks.len() as u64).sum();
            text += &format!("  {name}: {}{found}\n", words::counted(events, "event"));
        }
        text
    }
}

/// Pearson's test of independence of the ranks and their order, over all times; none for a few events.
fn p_value<'a>(times: impl Iterator<Item = &'a Vec<u64>>) -> Option<f64> {
    let found: Vec<f64> = times.filter(|ranks| ranks.len() >= 5 * GROUPS * GROUPS).map(|ranks| chi2(ranks)).collect();
    let freedom = found.len() * (GROUPS - 1) * (GROUPS - 1);
    (freedom > 0).then(|| fit::p_value(found.iter().sum(), freedom))
}

/// The squared deviations from equal numbers in all fields, in units of what is expected.
fn chi2(ranks: &[u64]) -> f64 {
    let group = |index: usize| index * GROUPS / ranks.len();
    let mut by_rank: Vec<usize> = (0..ranks.len()).collect();
    by_rank.sort_unstable_by_key(|place| (ranks[*place], *place));
    let mut counts = [[0.0_f64; GROUPS]; GROUPS];
    for (old, new) in by_rank.into_iter().enumerate() {
        counts[group(old)][group(new)] += 1.0;
    }
    let expected = ranks.len() as f64 / (GROUPS * GROUPS) as f64;
    counts.iter().flatten().map(|n| (n - expected).powi(2) / expected).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use calostream_operators::permutation::Permutation;

    /// An output whose class has these ranks in this order, time after time.
    fn seen(times: impl IntoIterator<Item = Vec<u64>>) -> Seen {
        let mut seen = Seen::default();
        for (time, ranks) in (0..).zip(times) {
            ranks.into_iter().for_each(|rank| seen.take(&Due { event: (0, rank % 5, 0), stratum: 0, rank, time }));
        }
        seen
    }

    fn text(seen: &Seen) -> (String, Vec<String>) {
        let mut wrong = Vec::new();
        (seen.text("mixed", &["a".into()], &mut wrong), wrong)
    }

    fn permuted(count: u64, time: u64) -> Vec<u64> {
        let permutation = Permutation::new(count, 7, &time.to_le_bytes());
        (0..count).map(|rank| permutation.of(rank)).collect()
    }

    #[test]
    fn files_left_in_sequence_are_noticed_though_their_rows_are_mixed() {
        // Files of 50 rows, each mixed within itself.
        let ranks: Vec<u64> = (0..40).flat_map(|file| permuted(50, file).into_iter().map(move |row| file * 50 + row)).collect();
        let (said, wrong) = text(&seen([ranks]));
        assert!(said.starts_with("  a: 2,000 events, old and new order look related: p = "), "{said}");
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("mixed: the new order of `a` follows the old one"), "{wrong:?}");
    }

    #[test]
    fn the_figure_is_uniform_for_one_time_and_for_many() {
        for times in [1, 10] {
            let figure = |mix: u64| {
                let all: Vec<Vec<u64>> = (0..times).map(|time| permuted(1000, mix * 100 + time)).collect();
                p_value(all.iter()).unwrap()
            };
            let mut found: Vec<f64> = (0..200).map(figure).collect();
            found.sort_by(f64::total_cmp);
            // Kolmogorov and Smirnov; 1.95 is passed once in a thousand.
            let far = (0..).zip(&found).map(|(i, p)| (p - f64::from(i) / 200.0).abs()).fold(0.0, f64::max);
            assert!(far * 200.0_f64.sqrt() < 1.95, "{times}: {far}, {found:?}");
        }
    }

    #[test]
    fn a_few_events_have_no_figure() {
        assert_eq!(text(&seen([permuted(499, 0)])), ("  a: 499 events\n".to_owned(), Vec::new()));
    }
}
