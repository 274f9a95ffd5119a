//! Sums to numbers: areas, working points, gains, each with its error, or why it has none.

use super::{Compat, Contest, Scoring};
use crate::statistics::auc::{Auc, Load, Rung};
use crate::statistics::bootstrap::spread;
use crate::statistics::rungs::{Counted, Layout, OnRung};
use crate::statistics::working_point::{Crossing, Fixed, Pair};

/// What is known of a contest in a bin, or in all.
pub(super) struct Measured {
    pub signal: i64,
    pub background: i64,
    pub auc: Option<Auc>,
    /// The error of the area.
    pub auc_error: Option<f64>,
    /// The working points, as they were asked for.
    pub points: Vec<Option<WorkingPoint>>,
    /// Why something is missing.
    pub reasons: Vec<String>,
    /// The same of each replica.
    played: Vec<Played>,
}

/// A working point.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkingPoint {
    pub fixed: Fixed,
    pub at: Pair,
    /// The interval of the efficiency that is not fixed.
    pub interval: Option<(f64, f64)>,
    /// The score at which is cut.
    pub threshold: f64,
    /// How far the efficiency that is not fixed could be off because of the ladder.
    pub ladder_error: f64,
}

/// A number with its error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    pub value: f64,
    pub error: Option<f64>,
}

/// What one score has over another.
pub(super) struct Gained {
    /// Difference of the areas.
    pub auc: Option<Value>,
    /// For each working point, the difference and the relative increase of the signal efficiency or of the rejection.
    pub points: Vec<Option<(Value, Value)>>,
    pub reasons: Vec<String>,
}

/// What a replica says.
struct Played {
    auc: Option<f64>,
    points: Vec<Option<Pair>>,
}

impl WorkingPoint {
    /// One over the background efficiency; none where no background is left.
    pub fn rejection(&self) -> Option<f64> {
        inverse(self.at.background)
    }

    /// The interval of an efficiency: its own, or where it is fixed none.
    pub fn signal_interval(&self) -> Option<(f64, f64)> {
        self.interval.filter(|_| matches!(self.fixed, Fixed::Background(_)))
    }

    /// The same of the background.
    pub fn background_interval(&self) -> Option<(f64, f64)> {
        self.interval.filter(|_| matches!(self.fixed, Fixed::Signal(_)))
    }

    /// The ends of the rejection's interval; the upper one may be none while the lower one is known.
    pub fn rejection_interval(&self) -> (Option<f64>, Option<f64>) {
        self.background_interval().map_or((None, None), |(low, high)| (inverse(high), inverse(low)))
    }

    /// What is not fixed, as people compare it: signal efficiency, or rejection.
    fn merit(fixed: Fixed, at: Pair) -> Option<f64> {
        match fixed {
            Fixed::Background(_) => Some(at.signal),
            Fixed::Signal(_) => inverse(at.background),
        }
    }
}

fn inverse(efficiency: f64) -> Option<f64> {
    (efficiency > 0.0).then(|| 1.0 / efficiency)
}

/// (signal, background) of each rung, from the highest.
fn descending(rungs: &[Rung]) -> impl Iterator<Item = (f64, f64)> + Clone {
    rungs.iter().rev().map(|rung| (rung.signal.w, rung.background.w))
}

impl Scoring {
    /// Every contest in these slots.
    pub(super) fn measure(&self, counted: &Counted, contest: &Contest, slots: &[usize]) -> Measured {
        let groups = |sides: &[usize]| {
            let groups =
                slots.iter().flat_map(|slot| sides.iter().map(|side| self.counter.layout.group(*slot, contest.score, *side)));
            groups.collect::<Vec<_>>()
        };
        let (own, others) = (groups(&[0]), groups(&contest.background));
        let [signal, background] = [&own, &others].map(|groups| counted.rows(groups.iter().copied()));
        let [on_signal, on_background] = [&own, &others].map(|groups| counted.on_rungs(groups.iter().copied()));
        let (numbers, rungs) = rungs(&self.counter.layout, &on_signal, &on_background);
        let mut measured = Measured {
            signal,
            background,
            auc: Auc::of(&rungs).filter(|auc| auc.value.is_finite()),
            auc_error: None,
            points: Vec::new(),
            reasons: Vec::new(),
            played: Vec::new(),
        };
        let total = |loads: &[OnRung]| loads.iter().map(|(_, load)| load.w).sum::<f64>();
        measured.reasons.extend(missing("signal", signal, total(&on_signal)));
        measured.reasons.extend(missing("background", background, total(&on_background)));
        if measured.auc.is_none() && measured.reasons.is_empty() {
            measured.reasons.push("products of the weights are too small or too large for a number".into());
        }
        if let Some(replicas) = &self.counter.layout.replicas {
            let cells = |groups: &Vec<usize>| counted.cells(replicas, groups.clone().into_iter());
            measured.played = replicas.pairs(cells(&own), cells(&others)).iter().map(|rungs| self.play(rungs)).collect();
        }
        self.auc_error(&mut measured);
        for (number, fixed) in self.points.iter().enumerate() {
            let point = self.point(&mut measured, (number, *fixed), &numbers, &rungs);
            measured.points.push(point);
        }
        measured
    }

    fn auc_error(&self, measured: &mut Measured) {
        let Some(auc) = &measured.auc else { return };
        if self.counter.weight.is_none() || self.counter.layout.replicas.is_none() {
            measured.auc_error = auc.error;
            if auc.error.is_none() {
                measured.reasons.push("an area from a single row of signal or background has no error".into());
            } else if auc.error == Some(0.0) {
                measured
                    .reasons
                    .push("every signal is above every background, of which DeLong's error knows nothing but 0".into());
            }
        } else {
            match spread(measured.played.iter().map(|played| played.auc)) {
                Ok(error) => {
                    measured.auc_error = Some(error);
                    if error == 0.0 {
                        measured.reasons.push("the area is the same in all replicas, whose spread knows nothing but 0".into());
                    }
                }
                Err(reason) => measured.reasons.push(format!("no error of the area: {reason}")),
            }
        }
    }

    fn play(&self, rungs: &[(f64, f64)]) -> Played {
        let load = |w: f64| Load { n: 0, w, w2: 0.0 };
        let rung = |(s, b): &(f64, f64)| Rung { exact: false, signal: load(*s), background: load(*b) };
        let rungs: Vec<Rung> = rungs.iter().map(rung).collect();
        let sums = sums(&rungs);
        let points = self.points.iter().map(|fixed| fixed.cross(descending(&rungs), sums).map(|crossing| crossing.at));
        Played { auc: Auc::value_of(&rungs), points: points.collect() }
    }

    fn point(
        &self,
        measured: &mut Measured,
        (number, fixed): (usize, Fixed),
        numbers: &[u64],
        rungs: &[Rung],
    ) -> Option<WorkingPoint> {
        let sums = sums(rungs);
        if let (Some(Compat::Eml), Fixed::Background(target)) = (self.compat, fixed) {
            if measured.signal + measured.background <= 10 {
                measured.reasons.push("compat: eml leaves out bins of 10 rows or fewer".into());
                return None;
            }
            let (at, rung) = first_above(rungs, target, sums)?;
            let threshold = self.counter.layout.bounds(numbers[rung]).0;
            return Some(WorkingPoint { fixed, at, interval: None, threshold, ladder_error: 0.0 });
        }
        let crossing = fixed.cross(descending(rungs), sums)?;
        let rung = crossing.rung.map(|from_above| numbers.len() - 1 - from_above);
        let threshold = rung.map_or(f64::NEG_INFINITY, |rung| {
            let (low, high) = self.counter.layout.bounds(numbers[rung]);
            high - crossing.share * (high - low)
        });
        let exact = rung.is_none_or(|rung| rungs[rung].exact);
        let off = |Crossing { at, around, .. }: Crossing| {
            let [value, one, other] = [at, around.0, around.1].map(|pair| fixed.free(pair));
            (value - one).abs().max((other - value).abs())
        };
        let interval = if self.counter.weight.is_none() {
            let rows = (measured.signal as f64, measured.background as f64);
            fixed.interval(&crossing, rows, sums, descending(rungs))
        } else {
            let free = |played: &Played| played.points[number].map(|pair| fixed.free(pair));
            let value = fixed.free(crossing.at);
            match spread(measured.played.iter().map(free)) {
                Ok(error) => Some(((value - error).max(0.0), (value + error).min(1.0))),
                Err(_) if self.counter.layout.replicas.is_none() => {
                    measured.reasons.push("intervals of weighted working points are the bootstrap's, which is turned off".into());
                    None
                }
                Err(reason) => {
                    measured.reasons.push(format!("no interval: {reason}"));
                    None
                }
            }
        };
        if crossing.at.background <= 0.0 {
            measured.reasons.push("no background is left, so the rejection has no upper end".into());
        }
        let at = crossing.at;
        Some(WorkingPoint { fixed, at, interval, threshold, ladder_error: if exact { 0.0 } else { off(crossing) } })
    }

    /// What one contest has over another, event by event.
    pub(super) fn gained(&self, of: &Measured, over: &Measured) -> Gained {
        let mut reasons = Vec::new();
        let drawn = !of.played.is_empty();
        if !drawn {
            reasons.push("a gain without the bootstrap has no error".to_owned());
        }
        let mut error = |values: &mut dyn Iterator<Item = Option<f64>>| match spread(values) {
            Ok(error) => {
                if error == 0.0 {
                    reasons.push("a gain is the same in all replicas, whose spread knows nothing but 0".to_owned());
                }
                Some(error)
            }
            Err(reason) => {
                if drawn {
                    reasons.push(format!("no error of the gain: {reason}"));
                }
                None
            }
        };
        let both = || of.played.iter().zip(&over.played);
        let auc = of
            .auc
            .as_ref()
            .zip(over.auc.as_ref())
            .map(|(a, b)| Value { value: a.value - b.value, error: error(&mut both().map(|(a, b)| Some(a.auc? - b.auc?))) });
        let mut points = Vec::new();
        for (number, fixed) in self.points.iter().enumerate() {
            let merit = |measured: &Measured| WorkingPoint::merit(*fixed, measured.points[number]?.at);
            let (Some(a), Some(b)) = (merit(of), merit(over)) else {
                points.push(None);
                continue;
            };
            let played = |a: &Played, b: &Played| {
                WorkingPoint::merit(*fixed, a.points[number]?).zip(WorkingPoint::merit(*fixed, b.points[number]?))
            };
            let difference = Value { value: a - b, error: error(&mut both().map(|(a, b)| played(a, b).map(|(a, b)| a - b))) };
            let ratio =
                Value { value: a / b - 1.0, error: error(&mut both().map(|(a, b)| played(a, b).map(|(a, b)| a / b - 1.0))) };
            points.push((b > 0.0).then_some((difference, ratio)));
        }
        if points.iter().any(Option::is_none) && of.auc.is_some() {
            reasons.push("a gain over nothing, or of a rejection without background, has no value".to_owned());
        }
        reasons.sort();
        reasons.dedup();
        Gained { auc, points, reasons }
    }
}

fn sums(rungs: &[Rung]) -> (f64, f64) {
    rungs.iter().fold((0.0, 0.0), |(s, b), rung| (s + rung.signal.w, b + rung.background.w))
}

/// The first point of scikit-learn's `roc_curve` (which leaves out those on straight lines) that has a background efficiency above
/// this one, and its rung; none where there is no signal or no background.
fn first_above(rungs: &[Rung], target: f64, (signal, background): (f64, f64)) -> Option<(Pair, usize)> {
    if !(signal > 0.0 && background > 0.0) {
        return None;
    }
    let (mut s, mut b) = (0.0, 0.0);
    let points: Vec<(f64, f64)> = descending(rungs)
        .map(|(of_signal, of_background)| {
            (s, b) = (s + of_signal, b + of_background);
            (s, b)
        })
        .collect();
    let bends = |i: usize| {
        let ([before, here], after) = ([points[i - 1], points[i]], points[i + 1]);
        after.0 - 2.0 * here.0 + before.0 != 0.0 || after.1 - 2.0 * here.1 + before.1 != 0.0
    };
    let kept = |i: &usize| *i == 0 || i + 1 == points.len() || bends(*i);
    let first = (0..points.len()).filter(kept).find(|i| points[*i].1 / background > target)?;
    Some((Pair { signal: points[first].0 / signal, background: points[first].1 / background }, points.len() - 1 - first))
}

fn missing(what: &str, rows: i64, sum: f64) -> Option<String> {
    match (rows, sum > 0.0) {
        (0, _) => Some(format!("no {what}")),
        (_, false) => Some(format!("the weights of the {what} do not sum to more than 0")),
        _ => None,
    }
}

/// Signal and background by rung, both ascending.
fn rungs(layout: &Layout, signal: &[OnRung], background: &[OnRung]) -> (Vec<u64>, Vec<Rung>) {
    let (mut numbers, mut rungs) = (Vec::new(), Vec::new());
    let (mut signal, mut background) = (signal.iter().peekable(), background.iter().peekable());
    loop {
        let next = [signal.peek(), background.peek()].into_iter().flatten().map(|(rung, _)| *rung).min();
        let Some(next) = next else { return (numbers, rungs) };
        let take = |from: &mut std::iter::Peekable<std::slice::Iter<'_, OnRung>>| {
            from.next_if(|(rung, _)| *rung == next).map(|(_, load)| *load).unwrap_or_default()
        };
        let exact = layout.precision.exact || layout.ladder.is_exact(next);
        rungs.push(Rung { exact, signal: take(&mut signal), background: take(&mut background) });
        numbers.push(next);
    }
}
