//! What tails do not change, from ladders: quantiles, widths, the Gaussian core; their errors from the replicas of the bootstrap.
//!
//! Quantiles are those of numpy's `inverted_cdf`, known to within a rung: what that could change is half the rung's width, and of a
//! width between two quantiles the mean of both. In a replica a quantile lies between the ends of a coarse rung as if values were
//! spread evenly there, so it moves with every event that is drawn more or less often.

use super::Measuring;
use super::measuring::{OnRung, Summed};
use crate::statistics::bootstrap::{quantile, spread};
use crate::statistics::gaussian::{Core, Loaded};
use crate::statistics::ladder::Ladder;
use crate::words;

/// Of a normal distribution: at -1, 0 and 1 sigma; of a quarter and three; of the central 95 %.
const QUANTILES: [f64; 7] = [0.158_655_253_931_457_05, 0.5, 0.841_344_746_068_542_9, 0.25, 0.75, 0.025, 0.975];
/// The distance of the quartiles of a normal distribution, in sigmas, as it is always quoted.
const QUARTILES: f64 = 1.349;
/// What is read of a ladder, in order.
pub(super) const NAMES: [&str; 4] = ["median", "sigma68", "half95", "eiqr"];
pub(super) const EIQR: usize = 3;
pub(super) const HALF95: usize = 2;

/// A number read from a ladder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub value: f64,
    /// What the ladder could change.
    pub ladder_error: f64,
    /// One standard error, where there is a bootstrap.
    pub error: Option<f64>,
}

/// A comparison with the reference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Improved {
    pub value: f64,
    pub error: Option<f64>,
    pub ladder_error: f64,
}

/// What is known of a bin from its ladder.
#[derive(Debug, Clone)]
pub(super) struct Robust {
    /// In the order of [`NAMES`]; none where nothing stands on the ladder. Of one row, only the median means something.
    pub read: Option<[Read; 4]>,
    pub core: Option<Core>,
    /// Of eIQR and of half95.
    pub improved: Option<[Improved; 2]>,
    pub reasons: Vec<String>,
    /// True where nothing can have a width.
    one_row: bool,
    /// The numbers of each replica.
    played: Vec<Option<[f64; 4]>>,
}

/// The four numbers from the seven quantiles.
fn numbers([low, median, high, first, third, least, most]: [f64; 7]) -> [f64; 4] {
    [median, (high - low) / 2.0, (most - least) / 2.0, (third - first) / QUARTILES]
}

impl Measuring {
    /// What the ladders of these groups together say.
    pub(super) fn robust(&self, summed: &Summed<'_>, ladder: Ladder, (group, rows): (usize, i64)) -> Robust {
        let rungs = summed.rungs(group);
        let one_row = rows == 1;
        let mut robust = Robust {
            read: self.read(ladder, &rungs),
            core: None,
            improved: None,
            reasons: Vec::new(),
            one_row,
            played: Vec::new(),
        };
        let Some(read) = &mut robust.read else {
            robust.reasons.push("nothing with a positive weight stands on the ladder".into());
            return robust;
        };
        if let Some(replicas) = &self.replicas {
            let cells = summed.replicas(group);
            let all = |loads: &Vec<(f64, f64, f64)>| {
                let found = QUANTILES.map(|q| quantile(loads, q));
                found.iter().all(Option::is_some).then(|| numbers(found.map(Option::unwrap_or_default)))
            };
            robust.played = replicas.loads([&cells[..]].into_iter()).iter().map(all).collect();
            for (number, read) in read.iter_mut().enumerate() {
                match spread(robust.played.iter().map(|played| played.map(|numbers| numbers[number]))) {
                    Ok(error) if error > 0.0 => read.error = Some(error),
                    Ok(_) => robust.reasons.push("no errors of the quantiles: the replicas do not differ".into()),
                    Err(reason) => robust.reasons.push(format!("no errors of the quantiles: {reason}")),
                }
            }
        }
        if let Some(within) = self.core {
            let loaded = |(rung, w, w2): &OnRung| {
                let (low, high) = ladder.bounds(*rung);
                Loaded { low, high, w: *w, w2: *w2 }
            };
            let loaded: Vec<Loaded> = rungs.iter().map(loaded).collect();
            let start = (read[0].value - self.pivot, read[1].value);
            match Core::fit(&loaded, |x| ladder.bounds(ladder.rung(x)).0, within, start) {
                Ok(core) => {
                    let range = (core.range.0 + self.pivot, core.range.1 + self.pivot);
                    robust.core = Some(Core { mean: core.mean + self.pivot, range, ..core });
                }
                Err(reason) => robust.reasons.push(reason),
            }
        }
        robust
    }

    fn read(&self, ladder: Ladder, rungs: &[OnRung]) -> Option<[Read; 4]> {
        let loads: Vec<(u64, f64)> = rungs.iter().map(|(rung, w, _)| (*rung, *w)).collect();
        let found = QUANTILES.map(|q| ladder.quantile(&loads, q));
        if found.iter().any(Option::is_none) {
            return None;
        }
        let ends = found.map(Option::unwrap_or_default);
        let middle = ends.map(|(low, high)| f64::midpoint(low, high));
        let half = ends.map(|(low, high)| (high - low) / 2.0);
        let values = numbers(middle);
        let both = |a: usize, b: usize, scale: f64| (half[a] + half[b]) / scale;
        let errors = [half[1], both(0, 2, 2.0), both(5, 6, 2.0), both(3, 4, QUARTILES)];
        Some(std::array::from_fn(|i| Read {
            value: values[i] + if i == 0 { self.pivot } else { 0.0 },
            ladder_error: errors[i],
            error: None,
        }))
    }
}

impl Robust {
    /// A number by its place in [`NAMES`].
    pub(super) fn number(&self, number: usize) -> Option<&Read> {
        self.read.as_ref().filter(|_| number == 0 || !self.one_row).map(|read| &read[number])
    }

    /// What is gained over a reference, event by event.
    pub(super) fn improve(&mut self, reference: &Self) {
        let (Some(own), Some(other)) = (&self.read, &reference.read) else { return };
        if self.one_row || other[EIQR].value <= 0.0 || other[HALF95].value <= 0.0 {
            self.reasons.push("no reIQR: the reference has no width".into());
            return;
        }
        let mut reasons = Vec::new();
        let improved = [EIQR, HALF95].map(|number| {
            let ratio = own[number].value / other[number].value;
            let pairs = self.played.iter().zip(&reference.played);
            let played = pairs.map(|(own, other)| Some(1.0 - (*own)?[number] / (*other)?[number]));
            let error = spread(played).map_err(|reason| reasons.push(format!("no error of reIQR: {reason}"))).ok();
            let relative = |read: &[Read; 4]| read[number].ladder_error / read[number].value.max(f64::MIN_POSITIVE);
            Improved { value: 1.0 - ratio, error, ladder_error: ratio * (relative(own) + relative(other)) }
        });
        if self.played.is_empty() {
            reasons = vec!["reIQR without the bootstrap has no error".into()];
        }
        self.improved = Some(improved);
        self.reasons.extend(reasons);
    }

    /// A remark where the ladder is coarser than the numbers are known.
    pub(super) fn too_coarse(&self, n: f64) -> Option<String> {
        let read = self.read.as_ref()?;
        let (width, error) = (read[1].value, read[1].ladder_error);
        (width > 0.0 && error > width / (2.0 * n).sqrt()).then(|| {
            format!("the ladder could change sigma68 by {} %, more than its error", words::significant(100.0 * error / width, 2))
        })
    }
}
