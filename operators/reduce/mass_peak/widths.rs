//! The widths that the fits give, and how much narrower one energy is than the reference: read from the sums at the end.

use super::Weighing;
use crate::statistics::binning::Cell;
use crate::statistics::bootstrap::spread;
use crate::statistics::peak::{Peak, Spectrum};
use crate::statistics::sums::Sums;

/// What is known of one energy in a bin of a group, or in all of them.
pub(super) struct Width {
    pub group: usize,
    pub cell: Option<Cell>,
    pub energy: usize,
    /// In each slot of the axis.
    pub counts: Vec<i64>,
    pub contents: Vec<f64>,
    pub variances: Option<Vec<f64>>,
    pub peak: Result<Peak, String>,
    /// What it is better by than the reference; none for the reference itself.
    pub improvement: Option<Improvement>,
}

impl Width {
    /// True where both are of the same pairs.
    pub(super) fn beside(&self, other: &Self) -> bool {
        self.group == other.group && self.cell == other.cell
    }
}

/// 1 - sigma / sigma of the reference, and its error, or why there is none.
pub(super) struct Improvement {
    pub value: Result<f64, String>,
    pub error: Result<f64, String>,
}

impl Weighing {
    /// The places of a bin of a group; without one, all of them.
    pub(super) fn places(&self, group: usize, cell: Option<&Cell>) -> std::ops::Range<usize> {
        let first = group * self.binning.slots();
        cell.map_or(first..first + self.binning.slots(), |cell| first + cell.slot..first + cell.slot + 1)
    }

    /// The rows in each slot of the axis, in some places together.
    pub(super) fn counts(&self, sums: &Sums, places: std::ops::Range<usize>, energy: usize) -> Vec<i64> {
        let count = |slot: usize| places.clone().map(|place| sums.count((self.cell(0, place, energy) + slot) as u64)).sum();
        (0..self.axis.slots()).map(count).collect()
    }

    /// The contents of the slots of a replica (0 for the data), and the sums of the squared weights where there are any.
    pub(super) fn contents(
        &self,
        sums: &Sums,
        replica: usize,
        places: std::ops::Range<usize>,
        energy: usize,
    ) -> (Vec<f64>, Option<Vec<f64>>) {
        let keys = |slot: usize| places.clone().map(move |place| (self.cell(replica, place, energy) + slot) as u64);
        let slots = 0..self.axis.slots();
        match &self.weight {
            None => (slots.map(|slot| keys(slot).map(|key| sums.count(key)).sum::<i64>() as f64).collect(), None),
            Some(_) => {
                let square = |slot: usize| sums.sum_over(keys(slot).map(|key| self.all() as u64 + key));
                let squares = (replica == 0).then(|| slots.clone().map(square).collect());
                (slots.map(|slot| sums.sum_over(keys(slot))).collect(), squares)
            }
        }
    }

    pub(super) fn in_range<'a, T>(&self, slots: &'a [T]) -> &'a [T] {
        &slots[1..=self.axis.bins()]
    }

    pub(super) fn fitted(&self, sums: &Sums) -> Vec<Width> {
        let edges = self.axis.edges();
        let cells: Vec<Option<Cell>> = [None].into_iter().chain(self.binning.cells().into_iter().map(Some)).collect();
        let mut widths = Vec::new();
        for (group, cell) in (0..self.groups.len()).flat_map(|group| cells.iter().map(move |cell| (group, cell))) {
            let places = || self.places(group, cell.as_ref());
            let mut beside: Vec<Width> = (0..self.of.len())
                .map(|energy| {
                    let (contents, variances) = self.contents(sums, 0, places(), energy);
                    let counts = self.counts(sums, places(), energy);
                    let squares = variances.as_ref().map(|v| self.in_range(v));
                    let spectrum = Spectrum { edges: &edges, contents: self.in_range(&contents), variances: squares };
                    let peak = Peak::fit(&spectrum, self.line, self.held);
                    Width { group, cell: cell.clone(), energy, counts, contents, variances, peak, improvement: None }
                })
                .collect();
            let improvements = self.improvements(sums, &edges, &beside);
            beside.iter_mut().zip(improvements).for_each(|(width, improvement)| width.improvement = improvement);
            widths.extend(beside);
        }
        widths
    }

    fn improvements(&self, sums: &Sums, edges: &[f64], widths: &[Width]) -> Vec<Option<Improvement>> {
        let replica = |number: usize, width: &Width| -> Option<f64> {
            let peak = width.peak.as_ref().ok()?;
            let (contents, _) = self.contents(sums, number, self.places(width.group, width.cell.as_ref()), width.energy);
            // A replica of weighted rows is fitted as if its weights were equal: its errors are not asked for.
            let spectrum = Spectrum { edges, contents: self.in_range(&contents), variances: None };
            peak.refit(&spectrum, self.line).ok()
        };
        let replicas: Vec<Vec<Option<f64>>> = match self.of.len() {
            1 => Vec::new(),
            _ => (1..=self.replicas as usize).map(|number| widths.iter().map(|width| replica(number, width)).collect()).collect(),
        };
        let one = |width: &Width| -> Option<Improvement> {
            if width.energy == self.reference {
                return None;
            }
            let sigma = |width: &Width| width.peak.as_ref().map(|peak| peak.values()[1]).map_err(Clone::clone);
            let value = match (sigma(width), sigma(&widths[self.reference])) {
                (Ok(own), Ok(reference)) => Ok(1.0 - own / reference),
                (Err(reason), _) => Err(reason),
                (_, Err(reason)) => Err(format!("no width of the reference: {reason}")),
            };
            let played = || replicas.iter().map(|widths| Some(1.0 - widths[width.energy]? / widths[self.reference]?));
            let error = match (&value, self.replicas) {
                (Err(reason), _) => Err(reason.clone()),
                (_, 0) => Err("no replicas were asked for".into()),
                _ => spread(played()),
            };
            Some(Improvement { value, error })
        };
        widths.iter().map(one).collect()
    }
}
