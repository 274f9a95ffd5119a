//! Areas under ROC curves against scikit-learn.

use super::*;
use crate::statistics::axis::AxisWords;
use crate::statistics::figure::Content;
use crate::statistics::ladder::MOST_STEPS;
use crate::statistics::rungs::ExactWord;
use crate::statistics::working_point::Numbers;
use crate::trial::{
    at, batch, bits, close, column_of, floats, fold, normal, problems, python, texts_of, uniform, with_events, word,
};
use arrow::array::RecordBatch;
use arrow::datatypes::Field;
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
        for_each: None,
        regions: None,
        at: WorkingPoints::default(),
        gain: None,
        precision: None,
        weight: None,
        bootstrap: None,
        compat: None,
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
        let axis =
            AxisWords { range: Some(Placed::unplaced((10.0, 510.0))), bins: Some(Placed::unplaced(5)), ..AxisWords::default() };
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

/// Working points at these efficiencies.
fn points(background: &[f64], signal: &[f64]) -> WorkingPoints {
    let words = |numbers: &[f64]| (!numbers.is_empty()).then(|| Placed::unplaced(Numbers::Several(numbers.to_vec())));
    WorkingPoints { background_efficiency: words(background), signal_efficiency: words(signal) }
}

fn energy_bins() -> Option<By> {
    let axis =
        AxisWords { range: Some(Placed::unplaced((10.0, 510.0))), bins: Some(Placed::unplaced(5)), ..AxisWords::default() };
    Some(Placed::unplaced(BTreeMap::from([(word("energy"), axis)])))
}

const CURVES: &str = "
from sklearn.metrics import roc_curve
klass, energy, weight = np.array(given['class']), floats(given['energy']), floats(given['weight'])
if not given['weighted']: weight = np.ones(len(klass))
cuts = [np.ones(len(klass), bool)] + [(energy >= low) & (energy < low + 100) for low in range(10, 510, 100)]
found = []
for c in (0, 2):
    for cut in cuts:
        fpr, tpr, thresholds = roc_curve(klass[cut] == c, floats(given[f'p{c}'])[cut], sample_weight=weight[cut], drop_intermediate=False)
        for b in given['background']: found += [np.interp(b, fpr, tpr), b]
        for s in given['signal']: found += [s, np.interp(s, tpr, fpr)]
answer(bits(found))
";

#[test]
fn working_points_are_those_of_sklearns_curve() {
    let rows = Rows::new(20_000);
    // Scores of float32 have a rung each at full precision; at a coarse one the ladder's error holds.
    for (weighted, precision) in [(false, MOST_STEPS), (true, MOST_STEPS), (false, 16), (true, 64)] {
        let mut roc = roc();
        roc.by = energy_bins();
        roc.weight = weighted.then(|| word("weight"));
        roc.precision = Some(Placed::unplaced(PrecisionWord::Steps(precision)));
        roc.at = points(&[0.013, 0.1, 0.5], &[0.9, 0.317]);
        let (_, summary) = fold(&roc, &rows.batch(), 3);
        let mut given = rows.given();
        given["weighted"] = weighted.into();
        given["background"] = json!([0.013, 0.1, 0.5]);
        given["signal"] = json!([0.9, 0.317]);
        let expected = floats(&python(CURVES, &given));
        let (signal, background) =
            (column_of(&summary.table, "signal_efficiency"), column_of(&summary.table, "background_efficiency"));
        let errors = column_of(&summary.table, "point_ladder_error");
        assert_eq!(expected.len(), 2 * signal.len());
        for (row, pair) in expected.chunks_exact(2).enumerate() {
            let off = (signal[row] - pair[0]).abs().max((background[row] - pair[1]).abs());
            let allowed = if precision == MOST_STEPS { 1e-12 } else { errors[row] + 1e-12 };
            assert!(off <= allowed, "row {row}: {} {} is not {pair:?}, off by {off} of {allowed}", signal[row], background[row]);
            assert!(errors[row] < if precision == MOST_STEPS { 0.006 } else { 0.1 }, "{}", errors[row]);
        }
        let rejection = column_of(&summary.table, "rejection");
        close(&rejection, &background.iter().map(|b| 1.0 / b).collect::<Vec<_>>(), 1e-14);
        // The figures: curves, rejections, areas by bin, and one for each working point by bin.
        assert_eq!(summary.figures.len(), 3 + 5);
    }
}

#[test]
fn cuts_are_where_they_are_said_to_be() {
    let rows = Rows::new(5_000);
    let mut roc = roc();
    roc.at = points(&[0.1], &[0.8]);
    let (_, summary) = fold(&roc, &rows.batch(), 1);
    let thresholds = column_of(&summary.table, "threshold");
    let (signal, background) =
        (column_of(&summary.table, "signal_efficiency"), column_of(&summary.table, "background_efficiency"));
    for (row, threshold) in thresholds.iter().enumerate() {
        let (class, scores) = if row < 2 { (0, &rows.scores[0]) } else { (2, &rows.scores[1]) };
        let share = |is: bool| {
            let of: Vec<f64> = rows.classes.iter().zip(scores).filter(|(c, _)| (**c == class) == is).map(|(_, s)| *s).collect();
            of.iter().filter(|s| *s > threshold).count() as f64 / of.len() as f64
        };
        assert!((share(true) - signal[row]).abs() < 2e-3 && (share(false) - background[row]).abs() < 2e-3);
    }
}

#[test]
fn one_against_one_is_sklearns() {
    let rows = Rows::new(3_000);
    let mut roc = roc();
    roc.against = Against::Each;
    roc.precision = Some(Placed::unplaced(PrecisionWord::Steps(MOST_STEPS)));
    let (_, summary) = fold(&roc, &rows.batch(), 2);
    assert_eq!(texts_of(&summary.table, "class"), ["electron", "electron", "pion", "pion"]);
    assert_eq!(texts_of(&summary.table, "against"), ["photon", "pion", "electron", "photon"]);
    let script = "
from sklearn.metrics import roc_auc_score
klass = np.array(given['class'])
def of(c, b):
    cut = (klass == c) | (klass == b)
    return roc_auc_score(klass[cut] == c, floats(given[f'p{c}'])[cut])
answer(bits([of(0, 1), of(0, 2), of(2, 0), of(2, 1)]))
";
    close(&column_of(&summary.table, "auc"), &floats(&python(script, &rows.given())), 1e-12);
    // One background alone is the same as the others left out.
    roc.background = Some(Placed::unplaced(vec![word("photon")]));
    roc.against = Against::Rest;
    let (_, alone) = fold(&roc, &rows.batch(), 2);
    let (pairs, alone) = (column_of(&summary.table, "auc"), column_of(&alone.table, "auc"));
    assert_eq!(alone, [pairs[0], pairs[3]]);
}

/// Two scores for one signal, of which the first is better.
fn gain(scores: (&str, &str)) -> Roc {
    let scores = BTreeMap::from([(word("CNN"), word(scores.0)), (word("BDT"), word(scores.1))]);
    Roc {
        scores: Placed::unplaced(scores),
        signal: Some(word("electron")),
        at: points(&[0.2], &[0.8]),
        gain: Some(Placed::unplaced(Gain { of: word("CNN"), over: word("BDT") })),
        ..roc()
    }
}

#[test]
fn a_gain_and_its_error_are_those_of_a_bootstrap_in_numpy() {
    let (mut u, mut g) = (uniform(11), normal(12));
    let n = 6000;
    let classes: Vec<i8> = (0..n).map(|_| (3.0 * u()) as i8).collect();
    let common: Vec<f64> = classes.iter().map(|c| if *c == 0 { 1.5 + g() } else { g() }).collect();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let cnn: Vec<f64> = common.iter().map(|x| sigmoid(x + 0.3 * g())).collect();
    let bdt: Vec<f64> = common.iter().map(|x| sigmoid(x + 0.8 * g())).collect();
    let weight: Vec<f64> = (0..n).map(|_| 0.2 + u()).collect();
    let batch = with_events(&batch(&SAMPLES, &classes, &[("cnn", &cnn), ("bdt", &bdt), ("weight", &weight)]));
    let script = "
from sklearn.metrics import roc_curve, auc
signal, w0 = np.array(given['class']) == 0, floats(given['weight']) if given['weighted'] else np.ones(len(given['class']))
def numbers(w):
    got = {}
    for k in ('cnn', 'bdt'):
        fpr, tpr, _ = roc_curve(signal, floats(given[k]), sample_weight=w, drop_intermediate=False)
        got[k] = auc(fpr, tpr), np.interp(.2, fpr, tpr), 1 / np.interp(.8, tpr, fpr)
    a, b = np.array(got['cnn']), np.array(got['bdt'])
    return np.concatenate([[a[0] - b[0]], a[1:] - b[1:], a[1:] / b[1:] - 1, a, b])
rng = np.random.default_rng(1)
keep = w0 > 0
toys = [numbers(w0 * rng.poisson(1, len(w0)) + 1e-12) for _ in range(400)]
answer([bits(numbers(w0)), bits(np.std(toys, axis=0, ddof=1))])
";
    for weighted in [false, true] {
        let mut roc = gain(("cnn", "bdt"));
        roc.precision = Some(Placed::unplaced(PrecisionWord::Steps(1 << 16)));
        roc.weight = weighted.then(|| word("weight"));
        roc.bootstrap = Some(Placed::unplaced(400));
        let (_, summary) = fold(&roc, &batch, 3);
        let given =
            json!({ "class": classes, "cnn": bits(&cnn), "bdt": bits(&bdt), "weight": bits(&weight), "weighted": weighted });
        let answer = python(script, &given);
        let (values, errors) = (floats(&answer[0]), floats(&answer[1]));
        // Rows: BDT at background 20 %, at signal 80 %, then CNN at both.
        let of = |name: &str| column_of(&summary.table, name);
        let pick = |name: &str| of(name)[2..].to_vec();
        close(&[pick("auc_gain")[0]], &values[..1], 1e-3);
        close(&pick("gain"), &values[1..3], 1e-3);
        close(&pick("relative_gain"), &values[3..5], 1e-3);
        // Two samples of 400 replicas each: their spreads agree to some 5 %, and the coarse ladder's to a few more.
        close(&[pick("auc_gain_error")[0]], &errors[..1], 0.15);
        close(&pick("gain_error"), &errors[1..3], 0.2);
        close(&pick("relative_gain_error"), &errors[3..5], 0.2);
        close(&[of("auc_error")[2], of("auc_error")[0]], &[errors[5], errors[8]], 0.15);
        if weighted {
            let half = (of("signal_efficiency_high")[2] - of("signal_efficiency_low")[2]) / 2.0;
            close(&[half], &[errors[6]], 0.2);
        }
        assert_eq!(texts_of(&summary.table, "over"), ["", "", "BDT", "BDT"]);
        assert!(of("gain")[..2].iter().all(|gain| gain.is_nan()), "of the one that is compared with there is no gain");
        assert_eq!(texts_of(&summary.table, "score"), ["BDT", "BDT", "CNN", "CNN"]);
        assert_eq!(
            summary.highlights[0][5..],
            [
                "signal [%]\nat background 20 %",
                "rejection\nat signal 80 %",
                "AUC\nover BDT",
                "gain over BDT [%]\nat background 20 %",
                "gain over BDT [%]\nat signal 80 %"
            ]
        );
        assert_eq!(summary.highlights[1][7..], ["-", "-", "-"]);
        assert!(texts_of(&summary.table, "reason").iter().all(String::is_empty));
    }
    // The errors of weighted areas without a bootstrap are DeLong's with effective counts, which come to the same.
    let mut roc = gain(("cnn", "bdt"));
    roc.weight = Some(word("weight"));
    let drawn = column_of(&fold(&roc, &batch, 1).1.table, "auc_error");
    roc.bootstrap = Some(Placed::unplaced(0));
    let (_, summary) = fold(&roc, &batch, 1);
    close(&column_of(&summary.table, "auc_error"), &drawn, 0.3);
    let reasons = "a gain without the bootstrap has no error; intervals of weighted working points are the bootstrap's, which is turned off";
    assert_eq!(texts_of(&summary.table, "reason")[2], reasons);
}

#[test]
fn what_cannot_be_known_says_why() {
    let none = f64::NAN;
    let rows = |classes: &[i8], cnn: &[f64], weight: &[f64]| {
        let n = classes.len();
        with_events(&batch(
            &SAMPLES,
            classes,
            &[("cnn", cnn), ("bdt", &vec![0.5; n]), ("weight", weight), ("energy", &vec![20.0; n])],
        ))
    };
    let told = |rows: &RecordBatch, weighted: bool| {
        let mut roc = gain(("cnn", "bdt"));
        roc.weight = weighted.then(|| word("weight"));
        roc.by = energy_bins();
        let (_, summary) = fold(&roc, rows, 2);
        let lines = summary.table.num_rows();
        let (reasons, areas) = (texts_of(&summary.table, "reason"), column_of(&summary.table, "auc"));
        for line in 0..lines {
            let missing = |reason: &str| reason == "no signal" || reason == "no background" || reason.contains("do not sum");
            assert_eq!(areas[line].is_nan(), reasons[line].split("; ").any(missing), "{}", reasons[line]);
        }
        // All rows by the CNN, at a fixed background.
        reasons[12].clone()
    };
    assert_eq!(told(&rows(&[], &[], &[]), false), "no background; no signal");
    assert_eq!(told(&rows(&[0, 0], &[0.1, 0.2], &[1.0, 1.0]), false), "no background");
    assert_eq!(told(&rows(&[1], &[none], &[1.0]), false), "no background; no signal");
    let one = told(&rows(&[0, 1], &[0.9, 0.1], &[1.0, 1.0]), false);
    assert!(one.contains("an area from a single row of signal or background has no error"), "{one}");
    assert!(one.contains("no error of the gain: only"), "{one}");
    let zero = told(&rows(&[0, 1, 1], &[0.9, 0.1, 0.5], &[0.0, 1.0, 1.0]), true);
    assert_eq!(zero, "the weights of the signal do not sum to more than 0");
    let negative = told(&rows(&[0, 1, 1], &[0.9, 0.1, 0.5], &[1.0, 1.0, -2.0]), true);
    assert_eq!(negative, "the weights of the background do not sum to more than 0");
    // Constant scores: one half, and the ladder cannot know that they are equal; the gain is known to be nothing.
    let ties = rows(&[0, 0, 1, 1, 2, 0], &[0.5; 6], &[1.0; 6]);
    let (_, summary) = fold(&gain(("cnn", "bdt")), &ties, 3);
    assert_eq!(column_of(&summary.table, "auc"), [0.5; 4]);
    assert_eq!(column_of(&summary.table, "ladder_error"), [0.5; 4]);
    assert_eq!(column_of(&summary.table, "signal_efficiency")[0], 0.2);
    assert_eq!(column_of(&summary.table, "auc_gain")[2..], [0.0; 2]);
    // Huge weights are in no replica.
    let (_, summary) = fold(
        &Roc { weight: Some(word("weight")), ..gain(("cnn", "bdt")) },
        &rows(&[0, 1, 1], &[0.9, 0.1, 0.5], &[1e15, 1.0, 1.0]),
        1,
    );
    assert_eq!(summary.remarks.last().unwrap(), "2 rows with a weight beyond 10^11 in no replica");
    assert!(texts_of(&summary.table, "reason")[0].contains("only 0 of 100 replicas have a value"));
    // Perfect separation: no background is left, and the rejection has a lower end alone.
    let apart = rows(&[0, 0, 0, 1, 1, 2], &[0.9, 0.8, 0.7, 0.1, 0.2, 0.3], &[1.0; 6]);
    let (_, summary) = fold(&gain(("cnn", "bdt")), &apart, 1);
    let (rejection, low) = (column_of(&summary.table, "rejection")[3], column_of(&summary.table, "rejection_low")[3]);
    assert!(rejection.is_nan() && low > 1.0 && low < 10.0, "{low}");
    assert!(texts_of(&summary.table, "reason")[3].contains("no background is left, so the rejection has no upper end"));
}

#[test]
fn exact_ladders_are_for_float32_scores_of_known_number() {
    let rows = Rows::new(100).batch();
    let mut roc = roc();
    roc.precision = Some(at(5, 5, PrecisionWord::Exact(ExactWord::Exact)));
    let found = problems(&roc, &rows);
    assert_eq!(found.len(), 3);
    assert_eq!(
        found[0],
        "5:5 `p_electron` is no float32, so its values cannot all be told apart (derive `cast(p_electron as real)`, or give a number of rungs up to 8388608)"
    );
    assert_eq!(
        found[2],
        "5:5 how many rows come is not known before the run, so `exact` may not fit the memory (give a number of rungs, as in `precision: 256`)"
    );
}

#[test]
fn an_exact_ladder_tells_all_float32_scores_apart() {
    let rows = Rows::new(4000);
    let wide = rows.batch();
    let narrow = |field: &Arc<Field>| match field.name().starts_with("p_") {
        true => Arc::new(Field::new(field.name(), DataType::Float32, false)),
        false => field.clone(),
    };
    let fields: Vec<_> = wide.schema().fields().iter().map(narrow).collect();
    let columns =
        wide.columns().iter().zip(&fields).map(|(column, field)| arrow::compute::cast(column, field.data_type()).unwrap());
    let schema = Arc::new(Schema::new_with_metadata(fields.clone(), wide.schema().metadata().clone()));
    let batch = RecordBatch::try_new(schema, columns.collect()).unwrap();
    let mut roc = roc();
    roc.precision = Some(Placed::unplaced(PrecisionWord::Exact(ExactWord::Exact)));
    roc.at = points(&[0.1], &[0.5]);
    let inputs = [Output { rows: Some(4000), ..crate::trial::stream(&batch) }];
    let (facts, runtime) = (Facts::default(), crate::work::Runtime::default());
    let planned = roc.plan(&facts, &inputs).unwrap();
    assert!(planned.holds >= 24 * 8000 && planned.holds < 1 << 20, "as many rungs as rows at most: {}", planned.holds);
    let worker = crate::Worker { index: 0, peers: 1 };
    let start = Start { worker, facts: &facts, inputs: &inputs, outputs: &planned.outputs, runtime: &runtime };
    let Work::Fold(mut fold) = roc.start(&start).unwrap() else { panic!("a fold") };
    let mut sums = crate::statistics::sums::Sums::default();
    fold.add(&batch, &mut sums).unwrap();
    let table = fold.finish(&sums).unwrap().table;
    assert_eq!(column_of(&table, "ladder_error"), [0.0; 4]);
    assert_eq!(column_of(&table, "point_ladder_error"), [0.0; 4]);
    // A cut is a score that is there.
    for (row, threshold) in column_of(&table, "threshold").iter().enumerate() {
        assert!(rows.scores[row / 2].contains(threshold), "{threshold:e}");
    }
}

#[test]
fn mistakes_in_working_points_and_gains_have_places() {
    let rows = Rows::new(10).batch();
    let mut wrong = gain(("p_electron", "p_pion"));
    wrong.signal = Some(at(3, 1, "electrom".into()));
    wrong.background = Some(at(3, 9, vec![at(3, 10, "pion".into()), at(3, 15, "muon".into())]));
    wrong.at.background_efficiency = Some(at(4, 1, Numbers::One(20.0)));
    wrong.at.signal_efficiency = Some(at(4, 9, Numbers::Several(vec![0.5, 0.5, 0.0])));
    wrong.gain = Some(at(5, 1, Gain { of: at(5, 2, "CNM".into()), over: at(5, 9, "BDT".into()) }));
    wrong.bootstrap = Some(at(6, 1, 100));
    assert_eq!(
        problems(&wrong, &rows),
        [
            "3:1 no sample `electrom` (did you mean `electron`?)",
            "3:15 no sample `muon` (did you mean `pion`?)",
            "4:1 20 is no efficiency between 0 and 1 (for 20 % write 0.2)",
            "4:9 0 is no efficiency between 0 and 1",
            "4:9 0.5 is given twice",
            "5:2 no score `CNM` (did you mean `CNN`?)",
            "6:1 the bootstrap draws events by the column `event`, which does not come here (keep it where columns are selected)",
        ]
    );
    let mut without = roc();
    without.gain = Some(at(5, 1, Gain { of: at(5, 2, "electron".into()), over: at(5, 9, "pion".into()) }));
    without.bootstrap = Some(at(6, 1, 1));
    assert_eq!(
        problems(&without, &rows),
        [
            "5:1 a gain is of two scores for the same class (name the class: `signal: electron`)",
            "6:1 1 replica has no spread (give 100, or 0 for none)",
        ]
    );
    let mut alone = gain(("p_electron", "p_pion"));
    alone.background = Some(at(3, 9, vec![at(3, 10, "electron".into())]));
    alone.gain = Some(at(5, 1, Gain { of: at(5, 2, "BDT".into()), over: at(5, 9, "BDT".into()) }));
    let found = problems(&alone, &with_events(&rows));
    assert_eq!(found[2..], ["3:10 `electron` is the signal", "5:9 `BDT` has no gain over itself"]);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn replicas_do_not_depend_on_the_order_of_rows_or_on_how_they_are_cut(n in 1_usize..100, pieces in 1_usize..20) {
        let batch = with_events(&Rows::new(n).batch());
        let mut roc = roc();
        roc.weight = Some(word("weight"));
        roc.bootstrap = Some(Placed::unplaced(10));
        roc.at = points(&[0.1], &[0.9]);
        let backwards = arrow::array::UInt64Array::from_iter_values((0..n as u64).rev());
        let reversed = arrow::compute::take_record_batch(&batch, &backwards).unwrap();
        let (sums, summary) = fold(&roc, &batch, 1);
        let (again, other) = fold(&roc, &reversed, pieces);
        prop_assert_eq!(sums.encode(), again.encode());
        prop_assert_eq!(format!("{:?}", summary.table), format!("{:?}", other.table));
        prop_assert_eq!(summary.figures, other.figures);
    }
}

#[test]
fn numbers_of_older_codes_are_reproduced_and_said() {
    let rows = Rows::new(3000);
    let axis = AxisWords { edges: Some(Placed::unplaced(vec![5.0, 6.0, 100.0, 300.0, 520.0])), ..AxisWords::default() };
    let step = Roc {
        by: Some(Placed::unplaced(BTreeMap::from([(word("energy"), axis)]))),
        signal: Some(word("electron")),
        scores: Placed::unplaced(BTreeMap::from([(word("network"), word("p_electron"))])),
        at: WorkingPoints {
            background_efficiency: Some(Placed::unplaced(Numbers::Several(vec![0.1, 0.2]))),
            ..WorkingPoints::default()
        },
        precision: Some(Placed::unplaced(PrecisionWord::Steps(MOST_STEPS))),
        compat: Some(Placed::unplaced(Compat::Eml)),
        ..roc()
    };
    let (_, summary) = fold(&step, &rows.batch(), 3);
    let script = "
from sklearn.metrics import roc_curve
truth, energy, score = np.array(given['class']) == 0, floats(given['energy']), floats(given['p0'])
out = []
for low, high in ((0, 1000), (5, 6), (6, 100), (100, 300), (300, 520)):
    cut = (low < energy) & (energy < high)
    for bkgeff in (.1, .2):
        if cut.sum() <= 10: out.append([np.nan, np.nan]); continue
        fpr, tpr, _ = roc_curve(truth[cut], score[cut])
        idx = np.where(fpr > bkgeff)[0][0]
        out.append([tpr[idx], fpr[idx]])
answer([bits(column) for column in np.array(out).T])
";
    let expected = python(script, &rows.given());
    for (name, expected) in ["signal_efficiency", "background_efficiency"].iter().zip(expected.as_array().unwrap()) {
        close(&column_of(&summary.table, name), &floats(expected), 1e-12);
    }
    assert!(column_of(&summary.table, "signal_efficiency").iter().any(|e| e.is_nan()), "a bin of few rows");
    assert!(texts_of(&summary.table, "reason")[2].contains("compat: eml leaves out bins of 10 rows or fewer"));
    assert_eq!(summary.table.schema().metadata()["calostream.compat"], "eml");
    assert!(summary.remarks[1].starts_with("compat: eml: signal efficiencies"), "{:?}", summary.remarks);
    let (_, summary) = fold(&Roc { compat: Some(Placed::unplaced(Compat::Dlkit)), ..step }, &rows.batch(), 3);
    let Content::Curves { curves, .. } = &summary.figures[1].content else { panic!("curves") };
    assert_eq!(curves[0].points.iter().map(|point| point.x).collect::<Vec<_>>()[1..], [6.0, 100.0, 300.0]);
    assert!(summary.remarks[1].starts_with("compat: dlkit: numbers in bins are drawn at the lower edges"));
}
