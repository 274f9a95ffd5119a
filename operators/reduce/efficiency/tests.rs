//! Efficiencies against numpy and scipy, and working points against scikit-learn.

use super::*;
use crate::statistics::axis::AxisWords;
use crate::statistics::figure::Content;
use crate::statistics::working_point::Numbers;
use crate::trial::{at, batch, bits, close, column_of, floats, fold, normal, problems, python, texts_of, uniform, word};
use proptest::prelude::*;
use serde_json::json;

const SAMPLES: [&str; 3] = ["electron", "photon", "pion"];

fn efficiency() -> Efficiency {
    Efficiency {
        cut: None,
        cuts: None,
        scores: None,
        at: WorkingPoints::default(),
        by: None,
        for_each: None,
        regions: None,
        interval: Method::ClopperPearson,
        level: None,
        precision: None,
        weight: None,
    }
}

fn bins(columns: &[(&str, (f64, f64), u32)]) -> Option<By> {
    let axis = |(name, range, bins): &(&str, (f64, f64), u32)| {
        (
            word(name),
            AxisWords { range: Some(Placed::unplaced(*range)), bins: Some(Placed::unplaced(*bins)), ..AxisWords::default() },
        )
    };
    Some(Placed::unplaced(columns.iter().map(axis).collect()))
}

struct Rows {
    classes: Vec<i8>,
    energy: Vec<f64>,
    score: Vec<f64>,
    weight: Vec<f64>,
}

impl Rows {
    fn new(n: usize) -> Self {
        let (mut u, mut g) = (uniform(1), normal(2));
        let classes: Vec<i8> = (0..n).map(|_| (u() * 3.0) as i8).collect();
        let score = classes.iter().map(|c| f64::from((1.0 / (1.0 + (f64::from(*c) - 1.0 + g()).exp())) as f32)).collect();
        Self { energy: (0..n).map(|_| 5.0 + 515.0 * u()).collect(), score, weight: (0..n).map(|_| 0.1 + u()).collect(), classes }
    }

    fn batch(&self) -> RecordBatch {
        let columns: [(&str, &[f64]); 3] = [("energy [GeV]", &self.energy), ("p", &self.score), ("weight", &self.weight)];
        batch(&SAMPLES, &self.classes, &columns)
    }

    fn given(&self) -> serde_json::Value {
        json!({ "class": self.classes, "energy": bits(&self.energy), "weight": bits(&self.weight), "p": bits(&self.score) })
    }
}

const SHARES: &str = "
from scipy.stats import beta
klass, energy, p, w = np.array(given['class']), floats(given['energy']), floats(given['p']), floats(given['weight'])
if not given['weighted']: w = np.ones(len(klass))
tail = (1 - given['level']) / 2
def numbers(rows, passes):
    wr, pr = w[rows], passes[rows]
    e = np.average(pr, weights=wr)
    v = (wr**2 * (pr - e)**2).sum() / wr.sum()**2
    n = e * (1 - e) / v
    k = e * n
    return [rows.sum(), (rows & passes).sum(), e, beta.ppf(tail, k, n - k + 1), beta.ppf(1 - tail, k + 1, n - k)]
found = []
for cut in given['cuts']:
    for c in range(3):
        for r in [np.ones(len(klass), bool)] + [(energy >= low) & (energy < low + 100) for low in range(10, 510, 100)]:
            found += numbers(r & (klass == c), p > cut)
answer(bits(found))
";

#[test]
fn efficiencies_and_intervals_are_those_of_numpy_and_scipy() {
    let rows = Rows::new(20_000);
    for (weighted, level) in [(false, ONE_SIGMA), (true, 0.95)] {
        let cuts = BTreeMap::from([(word("loose"), word("p > 0.25")), (word("tight"), word("p > 0.75"))]);
        let operator = Efficiency {
            cuts: Some(Placed::unplaced(cuts)),
            by: bins(&[("energy", (10.0, 510.0), 5)]),
            for_each: Some(word("sample").into()),
            level: Some(Placed::unplaced(level)),
            weight: weighted.then(|| word("weight")),
            ..efficiency()
        };
        let (_, summary) = fold(&operator, &rows.batch(), 4);
        let mut given = rows.given();
        (given["weighted"], given["level"], given["cuts"]) = (weighted.into(), level.into(), json!([0.25, 0.75]));
        let expected = floats(&python(SHARES, &given));
        for (column, name) in ["n", "passed", "efficiency", "efficiency_low", "efficiency_high"].iter().enumerate() {
            let expected: Vec<f64> = expected.iter().skip(column).step_by(5).copied().collect();
            close(&column_of(&summary.table, name), &expected, 1e-9);
        }
        assert_eq!(texts_of(&summary.table, "cut")[17..19], ["loose", "tight"]);
        assert_eq!(texts_of(&summary.table, "sample")[5..7], ["electron", "photon"]);
        assert_eq!(summary.figures.len(), 2);
        let Content::Curves { curves, .. } = &summary.figures[1].content else { panic!("curves") };
        let (point, low) = (curves[2].points[4], column_of(&summary.table, "efficiency_low")[35]);
        assert_eq!((curves[2].label.as_str(), point.x, curves.len()), ("pion", 460.0, 3));
        assert!((point.y - point.y_error - low).abs() < 1e-12 && point.y_error_up != Some(point.y_error));
    }
}

#[test]
fn working_points_are_those_of_all_rows_and_what_passes_is_exact() {
    let rows = Rows::new(10_000);
    for weighted in [false, true] {
        let operator = Efficiency {
            scores: Some(Placed::unplaced(BTreeMap::from([(word("electron"), word("p"))]))),
            at: WorkingPoints {
                background_efficiency: Some(Placed::unplaced(Numbers::Several(vec![0.05, 0.2]))),
                signal_efficiency: Some(Placed::unplaced(Numbers::One(0.9))),
            },
            by: bins(&[("energy", (10.0, 510.0), 2)]),
            precision: Some(Placed::unplaced(PrecisionWord::Steps(1 << 23))),
            weight: weighted.then(|| word("weight")),
            ..efficiency()
        };
        let (_, summary) = fold(&operator, &rows.batch(), 3);
        let script = "
from sklearn.metrics import roc_curve
klass, energy, p, w = np.array(given['class']), floats(given['energy']), floats(given['p']), floats(given['weight'])
if not given['weighted']: w = np.ones(len(klass))
fpr, tpr, t = roc_curve(klass == 0, p, sample_weight=w, drop_intermediate=False)
cuts = [t[fpr <= .05 + 1e-12][-1], t[fpr <= .2 + 1e-12][-1], t[np.argmax(tpr >= .9 - 1e-12)]]
bins = [np.ones(len(klass), bool), (energy >= 10) & (energy < 260), (energy >= 260) & (energy < 510)]
found = [[cut, ((p >= cut) & r & (klass == c)).sum(), np.average((p >= cut)[r & (klass == c)], weights=w[r & (klass == c)])]
    for cut in cuts for c in range(3) for r in bins]
answer(bits(found))
";
        let mut given = rows.given();
        given["weighted"] = weighted.into();
        let expected = floats(&python(script, &given));
        for (column, name) in ["threshold", "passed", "efficiency"].iter().enumerate() {
            let expected: Vec<f64> = expected.iter().skip(column).step_by(3).copied().collect();
            // A cut stands right above the last background that fails; scikit-learn's is the next score that passes.
            close(&column_of(&summary.table, name), &expected, if column == 0 { 1e-3 } else { 1e-9 });
        }
        let Content::Matrix { columns, rows, shares, texts } = &summary.figures[2].content else { panic!("a matrix") };
        assert_eq!((columns.len(), rows.len(), shares.len(), texts.len()), (1, 3, 3, 3));
        assert!((shares[0] - 0.9).abs() < 1e-3);
    }
}

#[test]
fn bins_of_two_columns_make_a_map() {
    let rows = Rows::new(500);
    let by = bins(&[("energy", (10.0, 510.0), 3), ("p", (0.0, 1.0), 2)]);
    let operator = Efficiency { cut: Some(word("p > 0.5")), by, ..efficiency() };
    let (_, summary) = fold(&operator, &rows.batch(), 3);
    assert_eq!(summary.table.num_rows(), 1 + 6);
    let Content::Heat { x_edges, y_edges, values, .. } = &summary.figures[0].content else { panic!("a map") };
    assert_eq!((x_edges.len(), y_edges.len()), (4, 3));
    assert_eq!(values[..], [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    let inside: f64 = column_of(&summary.table, "n")[1..].iter().sum();
    assert_eq!(inside, rows.energy.iter().filter(|e| (10.0..510.0).contains(*e)).count() as f64);
}

#[test]
fn what_cannot_be_known_says_why() {
    let rows = batch(
        &SAMPLES,
        &[0, 0, 0, 1, 1],
        &[("p", &[0.9, f64::NAN, 0.1, 0.9, 0.2]), ("w", &[1.0, 1.0, 1.0, 2.0, -0.5]), ("z", &[0.0, 0.0, f64::NAN, 1.0, -1.0])],
    );
    let operator = Efficiency { cut: Some(word("p > 0.5")), for_each: Some(word("sample").into()), ..efficiency() };
    let (_, summary) = fold(&operator, &rows, 2);
    assert_eq!(texts_of(&summary.table, "reason"), ["", "", "no rows"]);
    assert_eq!(column_of(&summary.table, "efficiency")[..2], [1.0 / 3.0, 0.5]);
    assert_eq!(summary.highlights[1][3], "-");
    assert_eq!(summary.remarks[1], "1 row for which p > 0.5 is unknown (a value is missing or NaN) do not pass");
    // The same cut the other way round: what is unknown passes neither.
    let (_, summary) = fold(&Efficiency { cut: Some(word("not (p > 0.5)")), ..operator.clone() }, &rows, 2);
    assert_eq!(column_of(&summary.table, "efficiency")[0], 1.0 / 3.0);
    let (_, summary) = fold(&Efficiency { weight: Some(word("w")), ..operator.clone() }, &rows, 2);
    assert_eq!(texts_of(&summary.table, "reason"), ["", "negative weights leave no efficiency between 0 and 1", "no rows"]);
    assert_eq!(column_of(&summary.table, "efficiency")[1], 2.0 / 1.5);
    let (_, summary) = fold(&Efficiency { weight: Some(word("z")), ..operator }, &rows, 2);
    let reason = "the sum of weights is not positive";
    assert_eq!(texts_of(&summary.table, "reason"), [reason, reason, "no rows"]);
    assert_eq!(summary.remarks[2], "1 row without a finite z in no efficiency");
    let points = Efficiency {
        scores: Some(Placed::unplaced(BTreeMap::from([(word("pion"), word("p"))]))),
        at: WorkingPoints { signal_efficiency: Some(Placed::unplaced(Numbers::One(0.5))), background_efficiency: None },
        ..efficiency()
    };
    let (_, summary) = fold(&points, &rows, 2);
    assert_eq!(texts_of(&summary.table, "reason"), ["no signal, so no working point"; 3]);
    assert!(column_of(&summary.table, "threshold").iter().all(|t| t.is_nan()));
    assert_eq!(summary.remarks[2], "1 row with p NaN or infinite in no efficiency of pion");
    // Ties everywhere: all pass at a signal efficiency, none at a background efficiency.
    let ties = batch(&SAMPLES, &[0, 0, 1, 1], &[("p", &[0.5; 4])]);
    let points = Efficiency {
        scores: Some(Placed::unplaced(BTreeMap::from([(word("electron"), word("p"))]))),
        at: WorkingPoints {
            signal_efficiency: Some(Placed::unplaced(Numbers::One(0.5))),
            background_efficiency: Some(Placed::unplaced(Numbers::One(0.5))),
        },
        ..efficiency()
    };
    let (_, summary) = fold(&points, &ties, 2);
    assert_eq!(column_of(&summary.table, "passed"), [0.0, 0.0, 0.0, 2.0, 2.0, 0.0]);
}

#[test]
fn mistakes_have_places() {
    let rows = Rows::new(3).batch();
    let both = Efficiency { cut: Some(at(2, 1, "p >".into())), cuts: Some(at(3, 1, BTreeMap::new())), ..efficiency() };
    assert_eq!(
        problems(&both, &rows),
        ["3:1 an efficiency is either of a `cut`, of `cuts`, or of `scores` (cut: p_electron > 0.5)"]
    );
    let mut wrong = Efficiency { cut: Some(at(2, 1, "q + 1".into())), ..efficiency() };
    wrong.level = Some(at(3, 1, 95.0));
    wrong.for_each = Some(at(4, 1, "energy".to_owned()).into());
    wrong.weight = Some(at(5, 1, "v".into()));
    wrong.at.signal_efficiency = Some(at(6, 1, Numbers::One(0.5)));
    wrong.precision = Some(at(7, 1, PrecisionWord::Steps(3)));
    assert_eq!(
        problems(&wrong, &rows),
        [
            "2:1 no column `q` (did you mean `p`?)",
            "3:1 95 is no confidence level between 0 and 1 (for 95 % write 0.95)",
            "4:1 column `energy` is Float64, not a class (bin in it with `by`, or make a region of it: regions: { high: energy > 1 })",
            "5:1 no column `v` (did you mean `p`?)",
            "6:1 a cut has no working points (they are of `scores`: { electron: p_electron })",
            "7:1 a cut has no precision (leave it out)",
        ]
    );
    let scores = |class: &str| Some(at(2, 1, BTreeMap::from([(at(2, 3, class.into()), at(2, 9, "energy".into()))])));
    let none = Efficiency { scores: scores("electrom"), ..efficiency() };
    assert_eq!(
        problems(&none, &rows),
        [
            "2:1 scores without a working point (at: { signal_efficiency: 0.9 })",
            "2:3 no sample `electrom` (did you mean `electron`?)",
        ]
    );
    let three = bins(&[("energy", (0.0, 1.0), 1), ("p", (0.0, 1.0), 1), ("weight", (0.0, 1.0), 1)]);
    let three = Efficiency { cut: Some(word("p > 0")), by: three.map(|by| at(4, 4, by.value)), ..efficiency() };
    assert!(problems(&three, &rows)[0].starts_with("4:4 `by` takes one to 2 columns, not 3"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn sums_do_not_depend_on_how_rows_are_cut_or_ordered(n in 1_usize..150, pieces in 1_usize..20, weighted in any::<bool>(), points in any::<bool>()) {
        let rows = Rows::new(n).batch();
        let mut operator = Efficiency { for_each: Some(word("sample").into()), weight: weighted.then(|| word("weight")), ..efficiency() };
        if points {
            operator.scores = Some(Placed::unplaced(BTreeMap::from([(word("electron"), word("p"))])));
            operator.at.signal_efficiency = Some(Placed::unplaced(Numbers::One(0.5)));
        } else {
            operator.cut = Some(word("p > 0.5"));
        }
        let backwards = arrow::array::UInt64Array::from_iter_values((0..n as u64).rev());
        let reversed = arrow::compute::take_record_batch(&rows, &backwards).unwrap();
        let ((sums, summary), (again, other)) = (fold(&operator, &rows, 1), fold(&operator, &reversed, pieces));
        prop_assert_eq!(sums.encode(), again.encode());
        prop_assert_eq!(format!("{:?}", summary.table), format!("{:?}", other.table));
        // A slow and obvious count.
        if !points {
            let obvious = |class| Rows::new(n).classes.iter().zip(&Rows::new(n).score).filter(|(c, p)| **c == class && **p > 0.5).count();
            let passed = column_of(&summary.table, "passed");
            for class in 0..3 {
                prop_assert_eq!(passed[class as usize], obvious(class) as f64);
            }
        }
    }
}
