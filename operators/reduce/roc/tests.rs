//! Areas under ROC curves against scikit-learn.

use super::*;
use crate::axis::AxisWords;
use crate::figure::Content;
use arrow::array::RecordBatch;
use crate::trial::{at, batch, bits, column_of, floats, fold, normal, problems, python, uniform, word};
use proptest::prelude::*;
use serde_json::json;

const SAMPLES: [&str; 3] = ["electron", "photon", "pion"];

fn roc() -> Roc {
    let scores = [("electron", "p_electron"), ("pion", "p_pion")].map(|(class, score)| (word(class), word(score)));
    Roc {
        scores: Placed::unplaced(BTreeMap::from(scores)),
        truth: sample(),
        signal: None,
        background: None,
        against: Against::Rest,
        by: None,
        at: WorkingPoints::default(),
        gain: None,
        precision: None,
        weight: None,
        bootstrap: None,
    }
}

struct Rows {
    classes: Vec<i8>,
    energy: Vec<f64>,
    scores: [Vec<f64>; 2],
    weight: Vec<f64>,
}

impl Rows {
    /// Softmax-like float32 scores that crowd at 0 and at 1, better at higher energies.
    fn new(n: usize) -> Self {
        let (mut u, mut g) = (uniform(1), normal(2));
        let classes: Vec<i8> = (0..n).map(|_| (u() * 3.0) as i8).collect();
        let energy: Vec<f64> = (0..n).map(|_| 5.0 + 515.0 * u()).collect();
        let mut score = |class: i8| {
            let logit = |(c, e): (&i8, &f64)| (if *c == class { 3.0 } else { -3.0 }) * (0.3 + e / 500.0) + 4.0 * g();
            let sigmoid = |x: f64| f64::from((1.0 / (1.0 + (-x).exp())) as f32);
            classes.iter().zip(&energy).map(logit).map(sigmoid).collect()
        };
        let scores = [score(0), score(2)];
        Self { energy, scores, weight: (0..n).map(|_| 0.1 + u()).collect(), classes }
    }

    fn batch(&self) -> RecordBatch {
        let columns: [(&str, &[f64]); 4] = [
            ("energy [GeV]", &self.energy),
            ("p_electron", &self.scores[0]),
            ("p_pion", &self.scores[1]),
            ("weight", &self.weight),
        ];
        batch(&SAMPLES, &self.classes, &columns)
    }

    fn given(&self) -> serde_json::Value {
        json!({ "class": self.classes, "energy": bits(&self.energy), "weight": bits(&self.weight),
            "p0": bits(&self.scores[0]), "p2": bits(&self.scores[1]) })
    }
}

const SKLEARN: &str = "
from sklearn.metrics import roc_auc_score
klass, energy, weight = np.array(given['class']), floats(given['energy']), floats(given['weight'])
if not given['weighted']: weight = np.ones(len(klass))
cuts = [np.ones(len(klass), bool)] + [(energy >= low) & (energy < low + 100) for low in range(10, 510, 100)]
answer(bits([roc_auc_score(klass[cut] == c, floats(given[f'p{c}'])[cut], sample_weight=weight[cut]) for c in (0, 2) for cut in cuts]))
";

#[test]
fn areas_are_those_of_sklearn_within_the_error_of_the_ladder() {
    let rows = Rows::new(30_000);
    for (weighted, precision) in [(false, None), (false, Some(2)), (true, None), (true, Some(8)), (false, Some(MOST_STEPS))] {
        let mut roc = roc();
        let axis = AxisWords { range: Some(Placed::unplaced((10.0, 510.0))), bins: Some(Placed::unplaced(5)), edges: None };
        roc.by = Some(Placed::unplaced(BTreeMap::from([(word("energy"), axis)])));
        roc.weight = weighted.then(|| word("weight"));
        roc.precision = precision.map(|steps| Placed::unplaced(PrecisionWord::Steps(steps)));
        let (_, summary) = fold(&roc, &rows.batch(), 4);
        let mut given = rows.given();
        given["weighted"] = weighted.into();
        let expected = floats(&python(SKLEARN, &given));
        let (found, errors) = (column_of(&summary.table, "auc"), column_of(&summary.table, "ladder_error"));
        assert_eq!(found.len(), expected.len());
        for ((found, expected), error) in found.iter().zip(&expected).zip(&errors) {
            assert!((found - expected).abs() <= error + 1e-12, "{found} is not {expected} within {error}");
            assert!(*error < if precision == Some(2) { 0.05 } else { 0.02 });
            // Scores at full precision share a rung only where they are equal, and these count one half in both.
            if precision == Some(MOST_STEPS) {
                assert!((found - expected).abs() < 1e-12);
            }
        }
        let n: f64 = column_of(&summary.table, "signal")[1..6].iter().sum();
        let in_range = rows.classes.iter().zip(&rows.energy).filter(|(c, e)| **c == 0 && (10.0..510.0).contains(*e)).count();
        assert_eq!(n, in_range as f64);
        assert_eq!(summary.figures.len(), 2);
        let Content::Curves { curves, .. } = &summary.figures[1].content else { panic!("curves") };
        assert_eq!((curves[1].label.as_str(), curves[1].points[0].x, curves[1].points.len()), ("pion", 60.0, 5));
    }
}

#[test]
fn highlights_give_the_area_with_both_errors() {
    let rows = batch(
        &SAMPLES,
        &[0, 0, 0, 1, 2, 2],
        &[("p_electron", &[0.9, 0.9, 0.2, 0.1, 0.3, 0.3]), ("p_pion", &[0.5, 0.5, 0.5, f64::NAN, 0.5, f64::INFINITY])],
    );
    let (_, summary) = fold(&roc(), &rows, 2);
    // Electrons win 3 + 3 + 1 of 9 pairs, and no pair shares a rung.
    assert_eq!(summary.highlights[1], ["electron", "3", "3", "0.78 ± 0.25", "at most 0"]);
    // All scores are equal: half of 3 x 1 pairs, and the ladder can't know that they are.
    assert_eq!(summary.highlights[2], ["pion", "1", "3", "0.5000", "at most 0.50"]);
    assert_eq!(summary.remarks[1..], ["2 rows with p_pion NaN or infinite in no curve of pion"]);
    assert_eq!(summary.table.num_columns(), 7);
}

#[test]
fn a_class_without_rows_has_no_area() {
    let rows = batch(&SAMPLES, &[0, 1], &[("p_electron", &[0.9, 0.1]), ("p_pion", &[0.1, 0.2])]);
    let (_, summary) = fold(&roc(), &rows, 1);
    assert_eq!(summary.highlights[2], ["pion", "0", "2", "-", "-"]);
    assert!(column_of(&summary.table, "auc")[1].is_nan());
}

#[test]
fn mistakes_have_places() {
    let rows = batch(&SAMPLES, &[0], &[("energy", &[1.0]), ("p_electron", &[1.0])]);
    let mut wrong = roc();
    wrong.scores = at(3, 1, BTreeMap::from([(at(3, 5, "electrom".into()), at(3, 15, "p_electrn".into()))]));
    wrong.by = Some(at(4, 5, BTreeMap::from([(at(4, 8, "energy".into()), AxisWords::default())])));
    wrong.precision = Some(at(5, 5, PrecisionWord::Steps(0)));
    wrong.weight = Some(at(6, 5, "w".into()));
    assert_eq!(
        problems(&wrong, &rows),
        [
            "3:5 no sample `electrom` (did you mean `electron`?)",
            "3:15 no column `p_electrn` (did you mean `p_electron`?)",
            "4:8 the axis of `energy` has no bins (write `range: [low, high]` and `bins: n`, or `edges: [..]`)",
            "5:5 0 rungs in an octave (give 1 to 8388608)",
            "6:5 no column `w` (there is sample, energy, p_electron)",
        ]
    );
    let mut truth = roc();
    truth.truth = at(2, 2, "energy".into());
    truth.scores = at(3, 1, BTreeMap::new());
    assert_eq!(
        problems(&truth, &rows),
        [
            "2:2 column `energy` is Float64, not a class (there is sample)",
            "3:1 `scores` names no class (scores: { electron: p_electron })",
        ]
    );
}

proptest! {
    #[test]
    fn sums_do_not_depend_on_how_rows_are_cut(n in 1_usize..200, pieces in 1_usize..20) {
        let batch = Rows::new(n).batch();
        let mut roc = roc();
        prop_assert_eq!(fold(&roc, &batch, pieces).0.encode(), fold(&roc, &batch, 1).0.encode());
        roc.weight = Some(word("weight"));
        prop_assert_eq!(fold(&roc, &batch, pieces).0.encode(), fold(&roc, &batch, 1).0.encode());
    }
}
