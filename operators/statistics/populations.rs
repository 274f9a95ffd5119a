//! Bins of equal population: as many rows in each, between edges that are found before.
//!
//! The values climb a [ladder](crate::statistics::ladder) first, in a survey; the edges are those of the rungs at which the i-th of n parts of
//! all finite values begins, the last edge that of the highest rung. So a bin has as many rows as another to within what stands on a
//! rung (0.1 % of the value wide), and no row lies outside. Where many values are equal, bins that would be empty are left out. The
//! edges stand in the table, as those of any bins.

use crate::column;
use crate::statistics::axis::AxisWords;
use crate::statistics::binning::By;
use crate::statistics::figure::Summary;
use crate::statistics::ladder::Ladder;
use crate::statistics::sums::Sums;
use crate::work::Fold;
use crate::{Fault, Placed, Reads};
use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use std::sync::Arc;

/// Rungs in an octave.
const STEPS: u32 = 1024;

/// The columns of `by` that have such bins, each with their number.
fn asked(by: Option<&By>) -> Vec<(String, u32)> {
    let columns = by.iter().flat_map(|by| by.iter());
    columns.filter_map(|(name, words)| Some((name.value.clone(), words.populations.as_ref()?.value))).collect()
}

/// What a survey reads of the input; none where no bins of equal population are asked for.
#[must_use]
pub fn reads(by: Option<&By>) -> Option<Reads> {
    let asked = asked(by);
    (!asked.is_empty()).then(|| Reads::columns(asked.into_iter().map(|(name, _)| name)))
}

/// The survey that finds the edges.
#[must_use]
pub fn survey(by: Option<&By>) -> Box<dyn Fold> {
    Box::new(Survey { columns: asked(by).into_iter().map(|(name, _)| name).collect(), ladder: Ladder::new(STEPS) })
}

/// The same bins with the edges that a survey has found.
pub fn settled(by: Option<&By>, surveyed: Option<&Arc<Sums>>) -> anyhow::Result<Option<By>> {
    let Some(by) = by else { return Ok(None) };
    let mut settled = by.clone();
    for (index, (name, bins)) in asked(Some(by)).into_iter().enumerate() {
        let sums = surveyed.context("edges that were not found")?;
        let edges = edges(sums, Ladder::new(STEPS), index, bins);
        let words = AxisWords { edges: Some(Placed::unplaced(edges)), ..AxisWords::default() };
        let word = settled.value.iter_mut().find(|(word, _)| word.value == name);
        *word.context("a column that is not binned in")?.1 = words;
    }
    Ok(Some(settled))
}

fn edges(sums: &Sums, ladder: Ladder, column: usize, bins: u32) -> Vec<f64> {
    let (from, to) = (column as u64 * ladder.rungs(), (column as u64 + 1) * ladder.rungs());
    let rungs: Vec<(u64, i64)> =
        sums.counts().into_iter().filter(|(key, _)| (from..to).contains(key)).map(|(key, n)| (key - from, n)).collect();
    let all: i64 = rungs.iter().map(|(_, n)| n).sum();
    let (mut edges, mut seen) = (Vec::new(), 0);
    for (rung, n) in &rungs {
        // The first row of bin i is the one with so many before it.
        let begins = |i: i64| i128::from(i) * i128::from(all) / i128::from(bins);
        let next = i64::try_from(edges.len()).unwrap_or(i64::MAX);
        if (next..i64::from(bins)).any(|i| (i128::from(seen)..i128::from(seen + n)).contains(&begins(i))) {
            edges.push(ladder.bounds(*rung).0);
            // What would begin on the same rung begins with the next one, if it does at all.
        }
        seen += n;
    }
    match rungs.last() {
        Some((last, _)) => edges.push(above(ladder.bounds(*last))),
        None => edges = vec![0.0, 1.0],
    }
    edges.dedup();
    edges
}

/// The upper edge of the last bin, which does not belong to it: all of the rung does.
fn above((low, high): (f64, f64)) -> f64 {
    if high > low { high } else { high.next_up() }
}

/// Counts the values on the rungs of a ladder, column by column.
struct Survey {
    columns: Vec<String>,
    ladder: Ladder,
}

impl Fold for Survey {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        for (index, name) in (0..).zip(&self.columns) {
            for x in column::floats(batch, name)?.iter().filter(|x| x.is_finite()) {
                into.tally(index * self.ladder.rungs() + self.ladder.rung(*x), 1);
            }
        }
        Ok(())
    }

    fn finish(&self, _: &Sums) -> anyhow::Result<Summary> {
        // The edges stand in the table that is made with them.
        let table = RecordBatch::new_empty(Arc::new(Schema::empty()));
        Ok(Summary { table, histograms: Vec::new(), figures: Vec::new(), highlights: Vec::new(), remarks: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::batch_of;
    use crate::trial::{uniform, word};
    use arrow::array::Float64Array;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn by(bins: u32) -> By {
        let words = AxisWords { populations: Some(Placed::unplaced(bins)), ..AxisWords::default() };
        Placed::unplaced(BTreeMap::from([(word("x"), words)]))
    }

    fn found(values: &[f64], bins: u32) -> Vec<f64> {
        let by = by(bins);
        let (mut survey, mut sums) = (survey(Some(&by)), Sums::default());
        survey.add(&batch_of(vec![("x", Arc::new(Float64Array::from(values.to_vec())))]), &mut sums).unwrap();
        let settled = settled(Some(&by), Some(&Arc::new(sums))).unwrap().unwrap();
        settled.value.into_values().next().unwrap().edges.unwrap().value
    }

    fn filled(values: &[f64], edges: &[f64]) -> Vec<usize> {
        edges.windows(2).map(|e| values.iter().filter(|x| (e[0]..e[1]).contains(*x)).count()).collect()
    }

    #[test]
    fn bins_have_equal_numbers_of_rows_and_none_is_outside() {
        let mut random = uniform(9);
        let values: Vec<f64> = (0..20_000).map(|_| 10.0 + 500.0 * random().powi(3)).collect();
        let edges = found(&values, 10);
        let counts = filled(&values, &edges);
        assert_eq!((counts.len(), counts.iter().sum::<usize>()), (10, 20_000));
        // The first bins lie where a rung holds most.
        assert!(counts.iter().all(|n| n.abs_diff(2000) < 60), "{counts:?}");
    }

    #[test]
    fn equal_values_make_fewer_bins_and_no_value_makes_one() {
        assert_eq!(filled(&[3.0; 7], &found(&[3.0; 7], 4)), [7]);
        assert_eq!(
            filled(&[1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 5.0], &found(&[1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 5.0], 4)).len(),
            2
        );
        assert_eq!(found(&[f64::NAN, f64::INFINITY], 3), [0.0, 1.0]);
        assert_eq!(filled(&[0.0, 0.0, -1.0, 1.0], &found(&[0.0, 0.0, -1.0, 1.0], 2)).iter().sum::<usize>(), 4);
    }

    #[test]
    fn edges_that_were_not_found_are_no_edges() {
        assert!(settled(Some(&by(3)), None).is_err());
        assert!(reads(Some(&by(3))).is_some() && reads(None).is_none());
    }

    proptest! {
        #[test]
        fn every_finite_row_is_in_a_bin_and_no_bin_is_empty(
            values in proptest::collection::vec(prop_oneof![any::<f64>(), -5.0..5.0f64, Just(0.0), Just(1.5)], 1..60),
            bins in 1u32..12,
        ) {
            let finite: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
            let edges = found(&values, bins);
            prop_assert!(edges.windows(2).all(|e| e[0] < e[1]), "{:?}", edges);
            prop_assert!(edges.len() <= bins as usize + 1);
            let counts = filled(&finite, &edges);
            prop_assert_eq!(counts.iter().sum::<usize>(), finite.len());
            prop_assert!(finite.is_empty() || counts.iter().all(|n| *n > 0), "{:?} {:?}", edges, counts);
        }
    }
}
