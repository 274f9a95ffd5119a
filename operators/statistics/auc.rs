//! The area under the ROC curve and its errors, from weights on the rungs of a ladder.
//!
//! The area is the probability that a signal outscores a background, equal scores counting one half (Mann-Whitney). Its
//! statistical error is DeLong's (DeLong, DeLong, Clarke-Pearson, Biometrics 44 (1988) 837), from the spread of the
//! placement of each signal among the background and of each background among the signal; with weights, placements
//! are averaged by weight and the number is the effective one, (sum w)^2 / sum w^2, which for weights of 1 is DeLong's own
//! form. The ladder's error is what the order within rungs could change at most: half the pairs that share a rung.

/// The weights of one class on a rung.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Rows.
    pub n: i64,
    /// The sum of weights.
    pub w: f64,
    /// The sum of squared weights.
    pub w2: f64,
}

impl Load {
    /// Both together.
    pub fn plus(&mut self, other: Self) {
        self.n += other.n;
        self.w += other.w;
        self.w2 += other.w2;
    }
}

/// A rung with something on it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rung {
    /// True where all values on it are the same, so that sharing it is a true tie.
    pub exact: bool,
    /// The signal.
    pub signal: Load,
    /// The background.
    pub background: Load,
}

/// An area under a ROC curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Auc {
    /// The area.
    pub value: f64,
    /// One standard error of it, from the number of rows; none where one class has a single row.
    pub error: Option<f64>,
    /// What the precision of the ladder could have changed at most.
    pub ladder_error: f64,
    /// Rows of signal.
    pub signal: i64,
    /// Rows of background.
    pub background: i64,
    /// The curve: (background efficiency, signal efficiency) for cuts from above every score to below.
    pub curve: Vec<(f64, f64)>,
}

impl Auc {
    /// The area alone; none where there is no signal or no background.
    #[must_use]
    pub fn value_of(rungs: &[Rung]) -> Option<f64> {
        let (mut signal, mut below, mut wins) = (0.0, 0.0, 0.0);
        for rung in rungs {
            wins += rung.signal.w * (below + rung.background.w / 2.0);
            below += rung.background.w;
            signal += rung.signal.w;
        }
        (signal > 0.0 && below > 0.0).then(|| wins / (signal * below))
    }

    /// The area from rungs in ascending order; none where there is no signal or no background.
    #[must_use]
    pub fn of(rungs: &[Rung]) -> Option<Self> {
        let (mut signal, mut background) = (Load::default(), Load::default());
        for rung in rungs {
            signal.plus(rung.signal);
            background.plus(rung.background);
        }
        if !(signal.w > 0.0 && background.w > 0.0) {
            return None;
        }
        // Placements: of a signal, the share of the background below it; of a background, that of the signal above it.
        let (mut below, mut above) = (0.0, signal.w);
        let (mut wins, mut shared) = (0.0, 0.0);
        let mut placed = Vec::with_capacity(rungs.len());
        let mut curve = vec![(1.0, 1.0)];
        for Rung { exact, signal: s, background: b } in rungs {
            above -= s.w;
            let places = ((below + b.w / 2.0) / background.w, (above + s.w / 2.0) / signal.w);
            placed.push(places);
            wins += s.w * (below + b.w / 2.0);
            shared += if *exact { 0.0 } else { (s.w * b.w).abs() / 2.0 };
            below += b.w;
            curve.push((1.0 - below / background.w, above / signal.w));
        }
        if let Some(last) = curve.last_mut() {
            *last = (0.0, 0.0); // not what rounding has left
        }
        curve.reverse();
        let value = wins / (signal.w * background.w);
        let spread = |total: Load, of: fn(&Rung) -> Load, place: fn(&(f64, f64)) -> f64| {
            let effective = total.w * total.w / total.w2;
            let squares: f64 = rungs.iter().zip(&placed).map(|(rung, p)| of(rung).w2 * (place(p) - value).powi(2)).sum();
            (effective > 1.0).then(|| squares / (total.w * total.w) * effective / (effective - 1.0))
        };
        let variance = spread(signal, |r| r.signal, |p| p.0).zip(spread(background, |r| r.background, |p| p.1));
        Some(Self {
            value,
            error: variance.map(|(s, b)| (s + b).sqrt()),
            ladder_error: shared / (signal.w * background.w),
            signal: signal.n,
            background: background.n,
            curve,
        })
    }
}

/// A curve with the points left out that nobody could see: closer than `step` to the last one in both directions.
#[must_use]
pub fn thinned(curve: &[(f64, f64)], step: f64) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (i, point) in curve.iter().enumerate() {
        let far = |last: &(f64, f64)| (point.0 - last.0).abs() >= step || (point.1 - last.1).abs() >= step;
        if i + 1 == curve.len() || kept.last().is_none_or(far) {
            kept.push(*point);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Rungs of scores that are whole numbers: all ties are true ones where `exact`.
    fn rungs(rows: &[(u8, bool, f64)], exact: bool) -> Vec<Rung> {
        let mut rungs: BTreeMap<u8, Rung> = BTreeMap::new();
        for (score, is_signal, w) in rows {
            let rung = rungs.entry(*score).or_insert(Rung { exact, ..Rung::default() });
            if *is_signal { &mut rung.signal } else { &mut rung.background }.plus(Load { n: 1, w: *w, w2: w * w });
        }
        rungs.into_values().collect()
    }

    proptest! {
        #[test]
        fn the_area_is_the_share_of_pairs_won(
            rows in prop::collection::vec((0_u8..12, any::<bool>(), prop_oneof![Just(1.0), 0.1..3.0]), 0..60),
        ) {
            let (mut won, mut all, mut tied) = (0.0, 0.0, 0.0);
            for (s, _, ws) in rows.iter().filter(|row| row.1) {
                for (b, _, wb) in rows.iter().filter(|row| !row.1) {
                    all += ws * wb;
                    won += ws * wb * if s > b { 1.0 } else if s == b { 0.5 } else { 0.0 };
                    tied += if s == b { ws * wb } else { 0.0 };
                }
            }
            match Auc::of(&rungs(&rows, false)) {
                None => prop_assert_eq!(all, 0.0),
                Some(auc) => {
                    prop_assert!((auc.value - won / all).abs() < 1e-12);
                    prop_assert!((Auc::value_of(&rungs(&rows, false)).unwrap() - auc.value).abs() < 1e-12);
                    prop_assert!((auc.ladder_error - tied / all / 2.0).abs() < 1e-12);
                    let trapezoids: f64 = auc.curve.windows(2).map(|p| (p[1].0 - p[0].0) * (p[0].1 + p[1].1) / 2.0).sum();
                    prop_assert!((trapezoids - auc.value).abs() < 1e-12);
                    prop_assert_eq!((auc.curve[0], auc.curve[auc.curve.len() - 1]), ((0.0, 0.0), (1.0, 1.0)));
                    prop_assert_eq!(Auc::of(&rungs(&rows, true)).unwrap().ladder_error, 0.0);
                }
            }
        }

        #[test]
        fn the_error_is_delongs(rows in prop::collection::vec((0_u8..12, any::<bool>(), Just(1.0)), 4..60)) {
            let scores = |is: bool| rows.iter().filter(|row| row.1 == is).map(|row| f64::from(row.0)).collect::<Vec<_>>();
            let (signal, background) = (scores(true), scores(false));
            let psi = |s: f64, b: f64| if s > b { 1.0 } else if s == b { 0.5 } else { 0.0 };
            let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
            let variance = |v: &[f64]| v.iter().map(|x| (x - mean(v)).powi(2)).sum::<f64>() / (v.len() as f64 - 1.0) / v.len() as f64;
            let v10: Vec<f64> = signal.iter().map(|s| mean(&background.iter().map(|b| psi(*s, *b)).collect::<Vec<_>>())).collect();
            let v01: Vec<f64> = background.iter().map(|b| mean(&signal.iter().map(|s| psi(*s, *b)).collect::<Vec<_>>())).collect();
            if let Some(auc) = Auc::of(&rungs(&rows, true)) {
                match auc.error {
                    None => prop_assert!(signal.len() == 1 || background.len() == 1),
                    Some(error) => prop_assert!((error.powi(2) - variance(&v10) - variance(&v01)).abs() < 1e-12),
                }
            }
        }
    }

    #[test]
    fn delongs_error_covers_the_true_area_as_often_as_it_should() {
        // Normal scores a distance of 1 apart: the true area is Phi(1 / sqrt 2).
        let truth = 0.5 * statrs::function::erf::erfc(-0.5);
        let mut g = crate::trial::normal(5);
        let (toys, mut covered) = (2000, 0);
        for _ in 0..toys {
            let mut rows: Vec<(f64, bool)> = (0..500).map(|row| (g() + f64::from(row % 3 == 0), row % 3 == 0)).collect();
            rows.sort_by(|a, b| a.0.total_cmp(&b.0));
            let one = Load { n: 1, w: 1.0, w2: 1.0 };
            let rung = |(_, is): &(f64, bool)| {
                let (signal, background) = if *is { (one, Load::default()) } else { (Load::default(), one) };
                Rung { exact: true, signal, background }
            };
            let auc = Auc::of(&rows.iter().map(rung).collect::<Vec<_>>()).unwrap();
            covered += usize::from((auc.value - truth).abs() <= auc.error.unwrap());
        }
        let share = covered as f64 / f64::from(toys);
        assert!((share - crate::statistics::interval::ONE_SIGMA).abs() < 0.02, "{share}");
    }

    #[test]
    fn what_cannot_be_seen_is_left_out_of_a_curve() {
        let curve: Vec<(f64, f64)> = (0..=1024).map(|i| (f64::from(i) / 1024.0, 1.0)).collect();
        let thin = thinned(&curve, 1.0 / 128.0);
        assert_eq!((thin.len(), thin[0], thin[thin.len() - 1]), (129, (0.0, 1.0), (1.0, 1.0)));
    }
}
