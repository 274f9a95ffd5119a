//! The scan against scikit-learn and numpy, and against the steps by themselves.

use super::*;
use crate::statistics::working_point::Numbers;
use crate::trial::{at, batch, bits, close, column_of, floats, fold, normal, problems, python, texts_of, with_events, word};
use arrow::array::RecordBatch;
use serde_json::json;

const SAMPLES: [&str; 2] = ["electron", "pion"];

struct Rows {
    classes: Vec<i8>,
    scores: [Vec<f64>; 2],
    errors: [Vec<f64>; 2],
}

fn rows(n: usize) -> Rows {
    let mut g = normal(31);
    let classes: Vec<i8> = (0..n).map(|row| i8::from(row % 3 == 0)).collect();
    let mut score = |separation: f64| -> Vec<f64> {
        classes.iter().map(|class| 1.0 / (1.0 + (-(g() + separation * (0.5 - f64::from(*class)))).exp())).collect()
    };
    let scores = [score(1.0), score(2.5)];
    let mut error = |width: f64| -> Vec<f64> { (0..n).map(|_| 0.01 + width * g()).collect() };
    let errors = [error(0.1), error(0.05)];
    Rows { classes, scores, errors }
}

impl Rows {
    fn batch(&self) -> RecordBatch {
        let [(a, b), (c, d)] = [(&self.scores[0], &self.scores[1]), (&self.errors[0], &self.errors[1])];
        batch(&SAMPLES, &self.classes, &[("p_wide", a), ("p_deep", b), ("e_wide", c), ("e_deep", d)])
    }
}

fn model(line: u32, which: &str, width: f64) -> (Placed<String>, Model) {
    let scores = BTreeMap::from([(word("electron"), word(&format!("p_{which}")))]);
    let values =
        BTreeMap::from([("width".to_owned(), Said::Number(width)), ("kind".to_owned(), Said::Text(format!("{which} CNN")))]);
    (
        at(line, 1, which.to_owned()),
        Model { scores: Some(Placed::unplaced(scores)), errors: Some(word(&format!("e_{which}"))), cuts: None, values },
    )
}

fn scan() -> Scan {
    let one = |value: f64| Some(Placed::unplaced(Numbers::One(value)));
    Scan {
        models: Placed::unplaced(BTreeMap::from([model(2, "wide", 512.0), model(3, "deep", 32.0)])),
        truth: sample(),
        for_each: None,
        regions: None,
        by: None,
        core: None,
        reference: None,
        bootstrap: None,
        fit: None,
        at: WorkingPoints { background_efficiency: one(0.1), signal_efficiency: one(0.9) },
        columns: None,
        sort: None,
        precision: None,
        weight: None,
    }
}

#[test]
fn metrics_are_those_of_sklearn_and_numpy_and_sorted_as_asked() {
    let rows = rows(6000);
    let sort = Some(Names { words: vec![word("-electron_auc")], listed: true });
    let (_, summary) = fold(&Scan { sort, ..scan() }, &rows.batch(), 3);
    let given = json!({ "class": rows.classes, "scores": rows.scores.each_ref().map(|x| bits(x)), "errors": rows.errors.each_ref().map(|x| bits(x)) });
    let script = "
from sklearn.metrics import roc_curve, roc_auc_score
truth = np.array(given['class']) == 0
out = []
for k in (1, 0):
    s, e = floats(given['scores'][k]), floats(given['errors'][k])
    fpr, tpr, _ = roc_curve(truth, s, drop_intermediate=False)
    q = np.quantile(e, [.25, .75])
    out.append([roc_auc_score(truth, s), np.interp(.1, fpr, tpr), 1 / np.interp(.9, tpr, fpr), e.mean(), e.std(), (q[1] - q[0]) / 1.349])
answer([bits(column) for column in np.array(out).T])
";
    let expected = python(script, &given);
    assert_eq!(texts_of(&summary.table, "model"), ["deep", "wide"]);
    let names = ["electron_auc", "electron_signal_efficiency_at_0.1", "electron_rejection_at_0.9", "bias", "resolution", "eiqr"];
    for (name, expected) in names.iter().zip(expected.as_array().unwrap()) {
        close(&column_of(&summary.table, name), &floats(expected), 5e-3);
    }
    assert_eq!(column_of(&summary.table, "width"), [32.0, 512.0]);
    assert_eq!(texts_of(&summary.table, "kind"), ["deep CNN", "wide CNN"]);
    assert_eq!(summary.highlights[0][..4], ["model", "kind", "width", "electron_auc"]);
    assert!(column_of(&summary.table, "electron_auc_error").iter().all(|error| *error > 0.0 && *error < 0.02));
    // The same as the step by itself, to the bit.
    let alone = fold(&scan().resolution(word("e_deep"), None), &rows.batch(), 1).1.table;
    assert_eq!(column_of(&summary.table, "resolution")[0], column_of(&alone, "resolution")[0]);
    assert_eq!(fold(&scan(), &rows.batch(), 5).0.encode(), fold(&scan(), &rows.batch(), 1).0.encode());
}

#[test]
fn columns_are_chosen_and_models_without_a_metric_come_last() {
    let mut step = scan();
    step.columns = Some(Placed::unplaced(vec![word("electron_auc"), word("width")]));
    step.sort = Some(word("electron_auc").into());
    step.models.value.insert(
        at(1, 1, "none".into()),
        Model { scores: None, errors: Some(word("e_wide")), cuts: None, values: BTreeMap::new() },
    );
    let (_, summary) = fold(&step, &rows(500).batch(), 2);
    assert_eq!(texts_of(&summary.table, "model"), ["wide", "deep", "none"]);
    assert_eq!(summary.highlights[3], ["none", "-", "-"]);
    let one_class = batch(
        &SAMPLES,
        &[0; 3],
        &[("p_wide", &[0.1, 0.2, 0.3]), ("p_deep", &[0.1; 3]), ("e_wide", &[0.0; 3]), ("e_deep", &[f64::NAN; 3])],
    );
    let (_, summary) = fold(&scan(), &one_class, 1);
    assert!(column_of(&summary.table, "electron_auc").iter().all(|auc| auc.is_nan()));
    assert_eq!(texts_of(&summary.table, "reason"), ["all values are the same; no background", "no background; no rows"]);
}

#[test]
fn mistakes_have_places() {
    let mut wrong = scan();
    wrong.columns = Some(Placed::unplaced(vec![at(5, 1, "electron_uac".into()), at(5, 2, "width".into())]));
    wrong.sort = Some(at(6, 1, "-bias".to_owned()).into());
    wrong
        .models
        .value
        .insert(at(1, 1, "empty".into()), Model { scores: None, errors: None, cuts: None, values: BTreeMap::new() });
    wrong.models.value.values_mut().last().unwrap().errors = Some(at(7, 1, "e_wdie".into()));
    assert_eq!(
        problems(&wrong, &rows(3).batch()),
        [
            "1:1 `empty` has neither `scores` nor `errors` nor `cuts`",
            "5:1 no metric `electron_uac` (did you mean `electron_auc`?)",
            "6:1 no column `bias` to sort by (there is width)",
            "7:1 no column `e_wdie` (did you mean `e_wide`?)",
        ]
    );
}

#[test]
fn each_group_has_a_row_of_each_model_and_is_what_its_rows_alone_would_give() {
    let rows = rows(3000);
    let batch = rows.batch();
    let conditions = [("narrow", "abs(e_wide) < 0.1"), ("all", "e_wide is not null")];
    let named = conditions.iter().zip(1..).map(|((name, text), line)| (at(line, 1, (*name).to_owned()), word(text)));
    let columns = ["electron_auc", "bias", "electron_rejection_at_0.9"].map(word).to_vec();
    let scan = Scan { columns: Some(Placed::unplaced(columns)), regions: Some(Placed::unplaced(named.collect())), ..scan() };
    let (_, grouped) = fold(&scan, &batch, 2);
    assert_eq!(texts_of(&grouped.table, "model"), ["wide", "wide", "deep", "deep"]);
    assert_eq!(texts_of(&grouped.table, "region"), ["narrow", "all", "narrow", "all"]);
    let alone = Scan { regions: None, ..scan };
    for (number, narrow) in [true, false].into_iter().enumerate() {
        let kept: arrow::array::BooleanArray = rows.errors[0].iter().map(|e| Some(!narrow || e.abs() < 0.1)).collect();
        let own = arrow::compute::filter_record_batch(&batch, &kept).unwrap();
        let (_, single) = fold(&alone, &own, 1);
        for column in ["electron_auc", "electron_auc_error", "bias", "electron_rejection_at_0.9"] {
            let (all, one) = (column_of(&grouped.table, column), column_of(&single.table, column));
            assert_eq!([all[number], all[2 + number]], [one[0], one[1]], "{column} {narrow}");
        }
    }
    assert_eq!(grouped.highlights[0][..2], ["model", "region"]);
}

#[test]
fn each_bin_has_a_row_of_each_model_and_the_numbers_of_the_steps_by_themselves() {
    let rows = rows(4000);
    let batch = rows.batch();
    let axis = crate::statistics::axis::AxisWords { edges: Some(Placed::unplaced(vec![-1.0, 0.0, 1.0])), ..Default::default() };
    let by = Some(Placed::unplaced(BTreeMap::from([(word("e_wide"), axis)])));
    let columns = ["electron_auc", "core_sigma", "eiqr"].map(word).to_vec();
    let scan = Scan { by: by.clone(), core: Some(Placed::unplaced(2.0)), columns: Some(Placed::unplaced(columns)), ..scan() };
    let (_, summary) = fold(&scan, &batch, 3);
    assert_eq!(texts_of(&summary.table, "model"), ["wide", "wide", "deep", "deep"]);
    assert_eq!(column_of(&summary.table, "e_wide_low"), [-1.0, 0.0, -1.0, 0.0]);
    let alone = scan.resolution(word("e_deep"), None);
    let (_, resolution) = fold(&alone, &batch, 1);
    for (column, of) in [("core_sigma", "core_sigma"), ("core_sigma_error", "core_sigma_error"), ("eiqr", "eiqr")] {
        assert_eq!(column_of(&summary.table, column)[2..], column_of(&resolution.table, of)[..], "{column}");
    }
    let scores = scan.models.value.values().next().unwrap().scores.clone().unwrap();
    let (_, roc) = fold(&scan.roc(scores), &batch, 1);
    // The first rows of the table are of all bins, two for each working point.
    assert_eq!(
        column_of(&summary.table, "electron_auc")[2..],
        [column_of(&roc.table, "auc")[2], column_of(&roc.table, "auc")[4]]
    );
}

/// Electrons whose errors get smaller with energy as a calorimeter's do, once well measured and once worse.
fn measured(n: usize) -> RecordBatch {
    let (mut g, mut u) = (normal(7), crate::trial::uniform(8));
    let energy: Vec<f64> = (0..n).map(|_| 10.0 + 490.0 * u()).collect();
    let mut errors = |stochastic: f64| -> Vec<f64> { energy.iter().map(|e| g() * (stochastic / e.sqrt()).hypot(0.01)).collect() };
    let (good, bad) = (errors(0.2), errors(0.4));
    with_events(&batch(&SAMPLES, &vec![0; n], &[("energy", &energy), ("e_good", &good), ("e_bad", &bad)]))
}

fn of_errors(line: u32, which: &str) -> (Placed<String>, Model) {
    let cut = BTreeMap::from([(word("close"), word(&format!("abs(e_{which}) < 0.02")))]);
    let errors = Some(word(&format!("e_{which}")));
    (at(line, 1, which.to_owned()), Model { scores: None, errors, cuts: Some(Placed::unplaced(cut)), values: BTreeMap::new() })
}

fn of_energies() -> Scan {
    let axis = crate::statistics::axis::AxisWords {
        range: Some(Placed::unplaced((10.0, 500.0))),
        bins: Some(Placed::unplaced(7)),
        ..Default::default()
    };
    Scan {
        models: Placed::unplaced(BTreeMap::from([of_errors(2, "good"), of_errors(3, "bad")])),
        reference: Some(at(5, 1, "bad".to_owned())),
        fit: Some(Placed { value: BTreeMap::from([(word("energy"), axis)]), place: at(6, 1, ()).place }),
        at: WorkingPoints::default(),
        ..scan()
    }
}

#[test]
fn references_fits_and_cuts_give_the_numbers_of_the_steps_by_themselves() {
    let (step, rows) = (of_energies(), measured(20_000));
    let (_, summary) = fold(&step, &rows, 3);
    assert_eq!(texts_of(&summary.table, "model"), ["good", "bad"]);
    let number = |name: &str, model: usize| column_of(&summary.table, name)[model];
    let [good, bad] = ["good", "bad"].map(|which| of_errors(1, which).1);
    // Beside the reference: of each row the numbers of its own errors.
    let beside = step.resolution(word("e_good"), Some(word("e_bad")));
    let (_, beside) = fold(&beside, &rows, 1);
    assert_eq!(texts_of(&beside.table, "quantity"), ["e_good", "e_bad"]);
    for name in ["bias", "bias_error", "eiqr", "eiqr_error", "eiqr_ladder_error", "reiqr", "reiqr_error", "reiqr95_ladder_error"]
    {
        assert_eq!(number(name, 0), column_of(&beside.table, name)[0], "{name}");
    }
    assert!(number("reiqr", 0) > 0.3 && number("reiqr_error", 0) > 0.0 && number("reiqr", 1).is_nan());
    assert_eq!(number("eiqr_error", 1), column_of(&beside.table, "eiqr_error")[1], "the reference has errors, too");
    // The fits.
    for (model, words) in [&good, &bad].into_iter().enumerate() {
        let parts = step.parts(words, None);
        let (_, fit) = parts.iter().find(|(part, _)| *part == Part::Fit).unwrap();
        let fit = fold(&**fit, &rows, 1).1.table;
        let fits: serde_json::Value =
            serde_json::from_str(&fit.schema().metadata()[crate::reduce::resolution::FITS_KEY]).unwrap();
        for (name, letter) in [("stochastic", "a"), ("constant", "b")] {
            let term = &fits["fits"]["all"][letter];
            assert_eq!(Some(number(name, model)), term["value"].as_f64());
            assert_eq!(Some(number(&format!("{name}_error"), model)), term["error"].as_f64());
        }
        let truth = [0.2, 0.4][model];
        let (term, error) = (number("stochastic", model), number("stochastic_error", model));
        assert!((term - truth).abs() < 4.0 * error && error < 0.1 * truth, "{term} ± {error}");
        // The cuts, counted here.
        let errors = column_of(&rows, &format!("e_{}", ["good", "bad"][model]));
        let share = errors.iter().filter(|e| e.abs() < 0.02).count() as f64 / errors.len() as f64;
        close(&[number("close_efficiency", model)], &[share], 1e-12);
        close(&[number("close_efficiency_error", model)], &[(share * (1.0 - share) / 20_000.0).sqrt()], 0.02);
    }
    assert_eq!(fold(&step, &rows, 5).0.encode(), fold(&step, &rows, 1).0.encode());
}

#[test]
fn what_a_ladder_changes_is_not_taken_for_an_error() {
    let (_, bare) = fold(&Scan { reference: None, ..of_energies() }, &measured(3000), 1);
    assert!(bare.table.column_by_name("eiqr_error").is_none());
    assert!(column_of(&bare.table, "eiqr_ladder_error").iter().all(|error| *error > 0.0));
    let said = "without replicas (`bootstrap: 100`) there are no errors of median, sigma68, half95, eiqr";
    assert!(bare.remarks.iter().any(|remark| remark == said), "{:?}", bare.remarks);
    let (_, drawn) = fold(&Scan { reference: None, bootstrap: Some(at(4, 1, 50)), ..of_energies() }, &measured(3000), 1);
    assert!(column_of(&drawn.table, "eiqr_error").iter().all(|error| *error > 0.0));
    assert!(!drawn.remarks.iter().any(|remark| remark.contains("without replicas")), "{:?}", drawn.remarks);
}

#[test]
fn a_fit_that_fails_is_null_with_its_reason() {
    let (_, summary) = fold(&of_energies(), &measured(3), 1);
    assert!(column_of(&summary.table, "stochastic").iter().all(|term| term.is_nan()));
    assert!(texts_of(&summary.table, "reason").iter().all(|reason| reason.contains("no fit: ")), "{:?}", summary.table);
}

#[test]
fn references_and_fits_that_cannot_be_are_said() {
    let mut wrong = of_energies();
    wrong.reference = Some(at(5, 1, "bda".to_owned()));
    wrong.by = wrong.fit.clone();
    assert_eq!(
        problems(&wrong, &measured(3)),
        [
            "5:1 no model `bda` (did you mean `bad`?)",
            "6:1 a fit goes along its own bins, and `by` asks for a row in each of others (make two scans)",
        ]
    );
    let mut bare = of_energies();
    bare.models.value.values_mut().for_each(|model| model.errors = None);
    let found = problems(&bare, &measured(3));
    assert_eq!(found[0], "5:1 `bad` has no `errors` to compare with");
    let mut cut = of_energies();
    cut.models.value.values_mut().for_each(|model| {
        model.cuts = Some(Placed::unplaced(BTreeMap::from([(word("close"), at(9, 3, "e_goood < 1".to_owned()))])));
    });
    assert!(problems(&cut, &measured(3)).iter().all(|problem| problem.starts_with("9:")), "{:?}", problems(&cut, &measured(3)));
}
