//! Confusion matrices against scikit-learn.

use super::*;
use crate::statistics::axis::AxisWords;
use crate::trial::{at, batch, bits, close, column_of, floats, fold, problems, python, texts_of, uniform, word};
use proptest::prelude::*;
use serde_json::json;

const SAMPLES: [&str; 3] = ["electron", "photon", "pion"];

fn confusion() -> Confusion {
    let scores = [("electron", "p0"), ("photon", "p1"), ("pion", "p2")].map(|(class, score)| (word(class), word(score)));
    Confusion {
        scores: Placed::unplaced(BTreeMap::from(scores)),
        threshold: None,
        truth: sample(),
        by: None,
        for_each: None,
        regions: None,
        interval: Method::Wilson,
        weight: None,
    }
}

/// Rows with scores of few digits, so that some are equal, and a weight.
fn rows(n: usize) -> (Vec<i8>, Vec<Vec<f64>>) {
    let mut u = uniform(4);
    let classes: Vec<i8> = (0..n).map(|_| (u() * 3.0) as i8).collect();
    let mut score =
        |class: i8| classes.iter().map(|c| ((u() + if *c == class { 0.4 } else { 0.0 }) * 20.0).round() / 20.0).collect();
    let mut columns: Vec<Vec<f64>> = (0..3).map(&mut score).collect();
    columns.push((0..n).map(|_| 0.1 + u()).collect());
    columns.push((0..n).map(|_| 520.0 * u()).collect());
    (classes, columns)
}

fn as_batch((classes, columns): &(Vec<i8>, Vec<Vec<f64>>)) -> RecordBatch {
    let names = ["p0", "p1", "p2", "weight", "energy [GeV]"];
    let columns: Vec<(&str, &[f64])> = names.into_iter().zip(columns.iter().map(Vec::as_slice)).collect();
    batch(&SAMPLES, classes, &columns)
}

const SKLEARN: &str = "
from sklearn.metrics import confusion_matrix
klass, p, w, energy = np.array(given['class']), np.stack([floats(c) for c in given['p']], 1), floats(given['w']), floats(given['energy'])
taken = p.argmax(1)
if given['threshold'] is not None: taken = np.where(p.max(1) >= given['threshold'], taken, 3)
labels = range(3 if given['threshold'] is None else 4)
out = []
for r in [np.ones(len(klass), bool)] + [(energy >= low) & (energy < low + 250) for low in (10, 260)]:
    n = confusion_matrix(klass[r], taken[r], labels=labels)[:3]
    c = confusion_matrix(klass[r], taken[r], labels=labels, sample_weight=w[r] if given['weighted'] else None)[:3]
    out.append(np.stack([n, c, c / c.sum(1, keepdims=True)], -1).reshape(-1))
answer(bits(np.concatenate(out)))
";

#[test]
fn matrices_are_sklearns() {
    let rows = rows(5000);
    for (weighted, threshold) in [(false, None), (true, None), (false, Some(0.8)), (true, Some(0.95))] {
        let axis =
            AxisWords { range: Some(Placed::unplaced((10.0, 510.0))), bins: Some(Placed::unplaced(2)), ..AxisWords::default() };
        let operator = Confusion {
            by: Some(Placed::unplaced(BTreeMap::from([(word("energy"), axis)]))),
            threshold: threshold.map(Placed::unplaced),
            weight: weighted.then(|| word("weight")),
            ..confusion()
        };
        let (_, summary) = fold(&operator, &as_batch(&rows), 4);
        let p: Vec<_> = rows.1[..3].iter().map(|column| bits(column)).collect();
        let given = json!({ "class": rows.0, "p": p, "w": bits(&rows.1[3]), "energy": bits(&rows.1[4]), "threshold": threshold, "weighted": weighted });
        let expected = floats(&python(SKLEARN, &given));
        let of = |column: usize| expected.iter().skip(column).step_by(3).copied().collect::<Vec<_>>();
        close(&column_of(&summary.table, "n"), &of(0), 0.0);
        if weighted {
            close(&column_of(&summary.table, "content"), &of(1), 1e-12);
        }
        let (share, low, high) =
            (column_of(&summary.table, "share"), column_of(&summary.table, "share_low"), column_of(&summary.table, "share_high"));
        close(&share, &of(2), 1e-12);
        assert!((0..share.len()).all(|i| low[i] <= share[i] && share[i] <= high[i]));
        let Content::Matrix { columns, rows, shares, .. } = &summary.figures[0].content else { panic!("a matrix") };
        assert_eq!((columns.len(), rows.len()), (if threshold.is_some() { 4 } else { 3 }, 3));
        assert_eq!(shares[..], share[..shares.len()]);
        assert_eq!(texts_of(&summary.table, "predicted")[..2], ["electron", "photon"]);
        assert!(summary.remarks.last().unwrap().ends_with("with two largest scores that are equal, taken for the first class"));
    }
}

#[test]
fn a_single_score_is_cut_on_and_what_is_odd_is_counted() {
    let rows = batch(
        &SAMPLES[..2],
        &[0, 0, 0, 1, 1],
        &[("p", &[0.5, 0.4, f64::NAN, 0.9, f64::INFINITY]), ("w", &[1.0, 1.0, 1.0, -1.0, 1.0])],
    );
    let one = |threshold: f64, weight: Option<&str>| Confusion {
        scores: Placed::unplaced(BTreeMap::from([(word("electron"), word("p"))])),
        threshold: Some(Placed::unplaced(threshold)),
        weight: weight.map(word),
        ..confusion()
    };
    let (_, summary) = fold(&one(0.5, None), &rows, 2);
    assert_eq!(texts_of(&summary.table, "truth"), ["electron", "electron", "photon", "photon"]);
    assert_eq!(texts_of(&summary.table, "predicted"), ["electron", "none", "electron", "none"]);
    assert_eq!(column_of(&summary.table, "n"), [1.0, 1.0, 2.0, 0.0]);
    assert_eq!(summary.remarks[2], "1 row with a NaN among the scores in no matrix");
    let (_, summary) = fold(&one(0.5, Some("w")), &rows, 2);
    assert_eq!(
        texts_of(&summary.table, "reason"),
        ["", "", "the sum of weights is not positive", "the sum of weights is not positive"]
    );
    assert!(column_of(&summary.table, "share")[2].is_nan());
    let (_, summary) = fold(&one(0.5, None), &rows.slice(0, 0), 1);
    assert_eq!(texts_of(&summary.table, "reason"), ["no rows"; 4]);
    assert_eq!(summary.highlights[1], ["electron", "0", "-", "-"]);
}

#[test]
fn mistakes_have_places() {
    let rows = as_batch(&rows(3));
    let mut wrong = confusion();
    wrong.scores = at(2, 1, BTreeMap::from([(at(2, 3, "electrom".into()), at(2, 9, "p9".into()))]));
    wrong.weight = Some(at(3, 1, "w".into()));
    assert_eq!(
        problems(&wrong, &rows),
        [
            "2:1 one score is always the largest (give a `threshold`, or more scores)",
            "2:3 no sample `electrom` (did you mean `electron`?)",
            "2:9 no column `p9` (did you mean `p0`?)",
            "3:1 no column `w` (there is sample, p0, p1, p2, weight, energy)",
        ]
    );
    let none = Confusion { scores: at(2, 1, BTreeMap::new()), threshold: Some(at(3, 1, f64::NAN)), ..confusion() };
    assert_eq!(problems(&none, &rows), ["2:1 `scores` names no class (scores: { electron: p_electron })"]);
    let odd = Confusion { threshold: Some(at(3, 1, f64::NAN)), ..confusion() };
    assert_eq!(problems(&odd, &rows), ["3:1 the threshold NaN is not finite"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn sums_do_not_depend_on_how_rows_are_cut_or_ordered(n in 1_usize..150, pieces in 1_usize..20, weighted in any::<bool>()) {
        let batch = as_batch(&rows(n));
        let operator = Confusion { weight: weighted.then(|| word("weight")), ..confusion() };
        let backwards = arrow::array::UInt64Array::from_iter_values((0..n as u64).rev());
        let reversed = arrow::compute::take_record_batch(&batch, &backwards).unwrap();
        let ((sums, summary), (again, other)) = (fold(&operator, &batch, 1), fold(&operator, &reversed, pieces));
        prop_assert_eq!(sums.encode(), again.encode());
        prop_assert_eq!(format!("{:?}", summary.table), format!("{:?}", other.table));
        prop_assert_eq!(column_of(&summary.table, "n").iter().sum::<f64>(), n as f64);
    }
}
