use super::*;
use crate::statistics::axis::AxisWords;
use crate::trial::{at, batch, column_of, problems, surveyed, word};
use std::collections::BTreeMap;

fn axis(edges: &[f64]) -> AxisWords {
    AxisWords { edges: Some(Placed::unplaced(edges.to_vec())), ..AxisWords::default() }
}

fn reweight(edges: &[f64]) -> Reweight {
    Reweight {
        to: at(3, 9, "signal".into()),
        of: None,
        by: Placed::unplaced(BTreeMap::from([(word("pt"), axis(edges))])),
        column: new_column(),
        weight: None,
        outside: Outside::Cell,
        empty: Empty::Zero,
        normalise: Normalise::Target,
    }
}

/// The weights of the rows that go on, how many are cut, what is noticed, and what the survey says.
fn weigh(operator: &Reweight, rows: &RecordBatch) -> (Vec<f64>, u64, Noticed, Summary) {
    let (planned, mut map, summary) = surveyed(operator, rows, &Facts::default());
    let mapped = map.map(rows.clone()).unwrap();
    assert_eq!(mapped.batch.schema(), planned.outputs[0].schema);
    (column_of(&mapped.batch, "weight"), mapped.cut, map.noticed(), summary)
}

/// Two classes: in [0, 1) two signals and one background, in [1, 2) one and two, in [2, 3) signals only, in [3, 4)
/// backgrounds only; one of each above, one background with NaN.
fn rows() -> RecordBatch {
    let classes = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1];
    let pt = [0.5, 0.5, 1.5, 2.5, 9.0, 0.5, 1.5, 1.5, 3.5, 9.0, f64::NAN];
    batch(&["signal", "background"], &classes, &[("pt", &pt)])
}

const EDGES: [f64; 5] = [0.0, 1.0, 2.0, 3.0, 4.0];

#[test]
fn weights_are_ratios_and_the_rest_is_as_declared_and_counted() {
    let (weights, cut, noticed, summary) = weigh(&reweight(&EDGES), &rows());
    assert_eq!(weights, [1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 0.5, 0.5, 0.0, 1.0, 0.0]);
    assert_eq!((cut, noticed), (0, Noticed::from([("rows in cells without the target: weight 0".into(), 2)])));
    let said = [
        "1 row of `signal` outside the bins of pt: cells of their own",
        "1 row of `background` outside the bins of pt: cells of their own",
        "1 row of `background` with NaN in pt: cells of their own",
        "2 rows of `background` in cells without `signal` (or with sums that are not positive): weight 0",
        "20.0 % of `signal` lies in cells without `background`, which no weight can make",
    ];
    assert_eq!(summary.remarks, said);
    // The four bins, the overflow and NaN.
    assert_eq!(column_of(&summary.table, "weight")[..3], [2.0, 0.5, 0.0]);
    assert_eq!(summary.table.num_rows(), 6);

    let operator = Reweight { outside: Outside::Cut, empty: Empty::One, ..reweight(&EDGES) };
    let (weights, cut, noticed, summary) = weigh(&operator, &rows());
    // The signal above the bins is cut, too: there is no background left.
    assert_eq!((weights, cut), (vec![1.0, 1.0, 1.0, 1.0, 2.0, 0.5, 0.5, 1.0], 3));
    assert_eq!(noticed, Noticed::from([("rows outside the bins: cut".into(), 3)]));
    assert_eq!(summary.remarks[0], "1 row of `signal` outside the bins of pt: cut");
    assert_eq!(
        summary.remarks.last().unwrap(),
        "25.0 % of `signal` lies in cells without `background`, which no weight can make"
    );

    let operator = Reweight { outside: Outside::Zero, empty: Empty::Cut, ..reweight(&EDGES) };
    let (weights, cut, noticed, _) = weigh(&operator, &rows());
    assert_eq!((weights, cut), (vec![1.0, 1.0, 1.0, 1.0, 0.0, 2.0, 0.5, 0.5, 0.0, 0.0], 1));
    let wanted = [("rows in cells without the target: cut", 1), ("rows outside the bins: weight 0", 3)];
    assert_eq!(noticed, Noticed::from(wanted.map(|(what, n)| (what.to_owned(), n))));

    let operator = Reweight { outside: Outside::One, ..reweight(&EDGES) };
    let (weights, cut, noticed, _) = weigh(&operator, &rows());
    assert_eq!((weights, cut), (vec![1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 0.5, 0.5, 0.0, 1.0, 1.0], 0));
    let wanted = [("rows in cells without the target: weight 0", 1), ("rows outside the bins: weight as it was", 2)];
    assert_eq!(noticed, Noticed::from(wanted.map(|(what, n)| (what.to_owned(), n))));
}

#[test]
fn own_weights_are_kept_and_sums_without_sense_make_no_weight() {
    let rows = batch(
        &["signal", "background"],
        &[0, 0, 1, 1, 1, 1],
        &[("pt", &[0.5, 1.5, 0.5, 0.5, 1.5, 1.5]), ("w", &[3.0, 1.0, 1.0, 0.5, 1.0, -2.0])],
    );
    let operator = Reweight { weight: Some(word("w")), ..reweight(&[0.0, 1.0, 2.0]) };
    let (weights, ..) = weigh(&operator, &rows);
    // 3 / 1.5 in the first bin; the second bin of the background has a negative sum.
    assert_eq!(weights, [3.0, 1.0, 2.0, 1.0, 0.0, -0.0]);
    let operator = Reweight { normalise: Normalise::Own, ..operator };
    let (weights, ..) = weigh(&operator, &rows);
    assert_eq!(weights[2] + weights[3], 1.5);
}

#[test]
fn a_weight_that_is_no_number_is_in_no_spectrum() {
    let rows = batch(&["signal", "background"], &[0, 1, 1], &[("pt", &[0.5, 0.5, 0.5]), ("w", &[1.0, 2.0, f64::NAN])]);
    let operator = Reweight { weight: Some(word("w")), ..reweight(&[0.0, 1.0]) };
    let (weights, _, _, summary) = weigh(&operator, &rows);
    assert_eq!(weights[..2], [1.0, 1.0]);
    assert!(weights[2].is_nan());
    assert_eq!(summary.remarks, ["1 row without a finite w: in no spectrum"]);
}

#[test]
fn an_empty_class_and_an_empty_target_give_no_weights_and_say_so() {
    let rows = batch(&["signal", "background"], &[1, 1], &[("pt", &[0.5, 1.5])]);
    let (weights, _, _, summary) = weigh(&reweight(&[0.0, 1.0, 2.0]), &rows);
    assert_eq!(weights, [0.0, 0.0]);
    assert!(summary.remarks[0].starts_with("2 rows of `background` in cells without `signal`"), "{:?}", summary.remarks);
    let rows = batch(&["signal", "background"], &[0, 0], &[("pt", &[0.5, 1.5])]);
    let (weights, _, _, summary) = weigh(&reweight(&[0.0, 1.0, 2.0]), &rows);
    assert_eq!(weights, [1.0, 1.0]);
    assert_eq!(summary.remarks, ["100 % of `signal` lies in cells without `background`, which no weight can make"]);
}

#[test]
fn every_mistake_is_reported() {
    let rows = batch(&["signal", "background"], &[0], &[("pt", &[1.0]), ("weight", &[1.0])]);
    let wrong =
        Reweight { to: at(3, 9, "signl".into()), of: Some(Placed::unplaced(vec![at(4, 1, "pion".into())])), ..reweight(&EDGES) };
    let said = problems(&wrong, &rows);
    assert_eq!(said, ["3:9 no sample `signl` (did you mean `signal`?)", "4:1 no sample `pion` (there is signal, background)"]);
    assert_eq!(
        problems(&reweight(&EDGES), &rows),
        ["0:0 there is a column `weight` already (name another one: `column: new_weight`)"]
    );
    let itself =
        Reweight { of: Some(Placed::unplaced(vec![at(4, 1, "signal".into())])), column: word("new"), ..reweight(&EDGES) };
    assert_eq!(problems(&itself, &rows), ["4:1 `signal` has the wanted spectrum as it is"]);
}
