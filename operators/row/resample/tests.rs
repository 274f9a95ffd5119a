use super::*;
use crate::column;
use crate::statistics::axis::AxisWords;
use crate::trial::{at, batch, column_of, problems, surveyed, uniform, with_events, word};

fn resample(method: Method, edges: &[f64]) -> Resample {
    let axis = AxisWords { edges: Some(Placed::unplaced(edges.to_vec())), ..AxisWords::default() };
    Resample {
        to: at(3, 9, "signal".into()),
        of: None,
        by: Placed::unplaced(BTreeMap::from([(word("pt"), axis)])),
        method,
        events: None,
        outside: Outside::Cut,
        draw: None,
    }
}

/// The rows that are taken, how many are cut and how often rows came again, and what the survey says; in batches of so many.
fn take(operator: &Resample, rows: &RecordBatch, length: usize) -> (RecordBatch, u64, u64, Summary) {
    let (planned, mut map, summary) = surveyed(operator, rows, &Facts { seed: 5, ..Facts::default() });
    let (mut batches, mut cut, mut repeated) = (Vec::new(), 0, 0);
    for first in (0..rows.num_rows()).step_by(length) {
        let mapped = map.map(rows.slice(first, length.min(rows.num_rows() - first))).unwrap();
        (cut, repeated) = (cut + mapped.cut, repeated + map.repeated());
        batches.push(mapped.batch);
    }
    (column::concat(&planned.outputs[0].schema, &batches).unwrap(), cut, repeated, summary)
}

/// A signal rising and a background falling with pt in [0, 4), 2,000 of each.
fn rows() -> RecordBatch {
    let mut random = uniform(1);
    let pt: Vec<f64> =
        (0..4000).map(|row| if row < 2000 { 4.0 * random().sqrt() } else { 4.0 * (1.0 - random().sqrt()) }).collect();
    let classes: Vec<i8> = (0..4000).map(|row| i8::from(row >= 2000)).collect();
    with_events(&batch(&["signal", "background"], &classes, &[("pt", &pt)]))
}

const EDGES: [f64; 5] = [0.0, 1.0, 2.0, 3.0, 4.0];

/// How many rows of the background are in each bin.
fn filled(rows: &RecordBatch) -> [f64; 4] {
    let (pt, classes) = (column_of(rows, "pt"), column::sample_numbers(rows).unwrap());
    let mut counts = [0.0; 4];
    pt.iter().zip(classes).filter(|(_, class)| **class == 1).for_each(|(x, _)| counts[*x as usize] += 1.0);
    counts
}

#[test]
fn both_methods_make_the_target_within_their_fluctuations_whatever_the_batches() {
    let rows = rows();
    for (method, most) in [(Method::Countup, 0.5), (Method::Pdf, 1.0)] {
        let operator = resample(method, &EDGES);
        let (taken, cut, repeated, summary) = take(&operator, &rows, 4000);
        assert_eq!(rows.num_rows() as u64 + repeated, taken.num_rows() as u64 + cut);
        let target = column_of(&summary.table, "n_target");
        for (found, target) in filled(&taken).iter().zip(target) {
            assert!((found - target).abs() < 4.0 * most * target.sqrt().max(6.0), "{method:?}: {found} of {target}");
        }
        assert_eq!(take(&operator, &rows, 37).0, taken);
        let (again, ..) = take(&Resample { draw: Some(word("second")), ..operator }, &rows, 4000);
        assert_ne!(again, taken);
    }
}

#[test]
fn the_target_itself_is_left_as_it_is_and_countup_knows_when_nothing_is_to_be_done() {
    let rows = rows();
    let same = Resample { of: Some(Placed::unplaced(vec![word("signal")])), ..resample(Method::Countup, &EDGES) };
    let (taken, cut, repeated, summary) = take(&same, &rows, 500);
    assert_eq!((taken.num_rows(), cut, repeated), (4000, 0, 0));
    assert!(summary.remarks.is_empty(), "{:?}", summary.remarks);
}

#[test]
fn what_can_not_be_made_is_said() {
    let classes = [0, 0, 0, 0, 1, 1, 1];
    let pt = [0.5, 0.5, 1.5, 9.0, 0.5, 2.5, f64::NAN];
    let rows = with_events(&batch(&["signal", "background"], &classes, &[("pt", &pt)]));
    let (taken, cut, _, summary) = take(&resample(Method::Countup, &[0.0, 1.0, 2.0, 3.0]), &rows, 10);
    let said = [
        "1 row of `signal` outside the bins of pt: cut",
        "1 row of `background` with NaN in pt: cut",
        "33.3 % of the target lies in cells without `background`, which can't be filled",
        "events of `background` are taken up to 1.33 times in the mean: they are no independent events",
    ];
    assert_eq!(summary.remarks, said);
    // Two of the background are in the bins: that is how many it gives, but for what can't be filled. The signal above is cut.
    let expected = column_of(&summary.table, "copies");
    assert!((expected[0] - 4.0 / 3.0).abs() < 1e-12 && expected[1..3] == [0.0, 0.0], "{expected:?}");
    let of = |class: i8| column::sample_numbers(&taken).unwrap().iter().filter(|c| **c == class).count();
    assert_eq!((of(0), cut), (3, 3), "signals in the bins as they are");
    assert!((1..=2).contains(&of(1)), "{taken:?}");
    let whole = Resample { outside: Outside::Cell, ..resample(Method::Countup, &[0.0, 1.0, 2.0, 3.0]) };
    let (taken, ..) = take(&whole, &rows, 10);
    assert_eq!(column::sample_numbers(&taken).unwrap().iter().filter(|c| **c == 0).count(), 4, "overflow is a cell");
    let none = with_events(&batch(&["signal", "background"], &[1, 1], &[("pt", &[0.5, 0.6])]));
    let (taken, cut, _, summary) = take(&resample(Method::Pdf, &[0.0, 1.0]), &none, 10);
    assert_eq!((taken.num_rows(), cut), (0, 2));
    assert_eq!(summary.remarks, ["nothing of `background` is taken: the target has no event in the bins"]);
}

#[test]
fn every_mistake_is_reported() {
    let rows = with_events(&batch(&["signal", "background"], &[0], &[("pt", &[1.0])]));
    let to = Resample { to: at(3, 9, "sinal".into()), ..resample(Method::Pdf, &EDGES) };
    assert_eq!(problems(&to, &rows), ["3:9 no sample `sinal` (did you mean `signal`?)"]);
    let events = |events| Resample { events: Some(at(5, 1, events)), ..resample(Method::Pdf, &EDGES) };
    assert_eq!(problems(&events(Events::All(0)), &rows), ["5:1 0 events (at least 1)"]);
    let each = BTreeMap::from([("signal".to_owned(), 5), ("pion".to_owned(), 5)]);
    let said = ["5:1 `signal` is not resampled", "5:1 no sample `pion` (there is signal, background)"];
    let mut found = problems(&events(Events::Each(each)), &rows);
    found.sort_by_key(|text| text.contains("pion"));
    assert_eq!(found, said);
    let bare = batch(&["signal", "background"], &[0], &[("pt", &[1.0])]);
    assert_eq!(problems(&resample(Method::Pdf, &EDGES), &bare), ["3:9 draws need the column `event`, which every source makes"]);
}
