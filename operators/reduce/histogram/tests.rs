//! Histograms against `hist` filled with the same numbers.

use super::*;
use crate::trial::{at, batch, bits, column_of, floats, fold, normal, problems, python, uniform, word};
use proptest::prelude::*;
use serde_json::json;

const SAMPLES: [&str; 3] = ["electron", "photon", "pion"];

fn axis(column: &str, low: f64, high: f64, bins: u32) -> HistogramAxis {
    let (range, bins) = (Some(Placed::unplaced((low, high))), Some(Placed::unplaced(bins)));
    HistogramAxis { column: word(column), range, bins, edges: None }
}

fn edges(column: &str, edges: &[f64]) -> HistogramAxis {
    HistogramAxis { column: word(column), edges: Some(Placed::unplaced(edges.to_vec())), ..HistogramAxis::default() }
}

fn histogram(axes: Vec<HistogramAxis>) -> Histogram {
    Histogram { axes: Placed::unplaced(axes), weight: None, for_each: None }
}

struct Rows {
    classes: Vec<i8>,
    energy: Vec<f64>,
    eta: Vec<f64>,
    weight: Vec<f64>,
}

impl Rows {
    fn new(n: usize) -> Self {
        let (mut u, mut g) = (uniform(1), normal(2));
        let classes = (0..n).map(|_| (u() * 3.0) as i8).collect();
        let energy = (0..n).map(|_| (u() * 560.0).round()).collect(); // many on edges
        let eta = (0..n).map(|i| if i % 97 == 0 { f64::INFINITY } else { g() }).collect();
        Self { classes, energy, eta, weight: (0..n).map(|_| g() + 0.5).collect() }
    }

    fn batch(&self) -> RecordBatch {
        batch(&SAMPLES, &self.classes, &[("energy [GeV]", &self.energy), ("eta", &self.eta), ("weight", &self.weight)])
    }

    fn given(&self, summary: &Summary) -> serde_json::Value {
        json!({ "uhi": summary.histograms[0].1, "class": self.classes, "samples": SAMPLES,
            "energy": bits(&self.energy), "eta": bits(&self.eta), "weight": bits(&self.weight) })
    }
}

/// Loads the UHI JSON in `hist`, compares it with `axes` filled in Python, and answers with its values and variances.
const COMPARE: &str = "
import hist, boost_histogram.serialization
energy, eta, weight = (floats(given[k]) for k in ('energy', 'eta', 'weight'))
names = np.array(given['samples'])[given['class']]
def compare(axes, columns, weight=None):
    ours = hist.Hist(boost_histogram.serialization.from_uhi(given['uhi']))
    theirs = hist.Hist(*axes, storage=hist.storage.Weight())
    theirs.fill(*columns, weight=weight)
    assert ours.axes == theirs.axes, (ours.axes, theirs.axes)
    assert [a.name for a in ours.axes] == [a.name for a in theirs.axes]
    np.testing.assert_allclose(ours.values(flow=True), theirs.values(flow=True), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.variances(flow=True), theirs.variances(flow=True), rtol=1e-12)
    answer({'values': bits(ours.values(flow=True)), 'variances': bits(ours.variances(flow=True)), 'label': ours.axes[-1].label})
";

#[test]
fn one_axis_is_that_of_hist_with_its_flow() {
    let rows = Rows::new(20_000);
    let (_, summary) = fold(&histogram(vec![axis("energy", 10.0, 510.0, 50)]), &rows.batch(), 7);
    let script = format!("{COMPARE}\ncompare([hist.axis.Regular(50, 10, 510, name='energy', label='energy [GeV]')], [energy])");
    let found = python(&script, &rows.given(&summary));
    assert_eq!(found["label"], "energy [GeV]");
    assert_eq!(column_of(&summary.table, "content"), floats(&found["values"]));
    assert_eq!(column_of(&summary.table, "variance"), floats(&found["variances"]));
    assert_eq!(column_of(&summary.table, "energy_low")[..2], [f64::NEG_INFINITY, 10.0]);
    assert_eq!(column_of(&summary.table, "energy_high")[50..], [510.0, f64::INFINITY]);
    let low = rows.energy.iter().filter(|e| **e < 10.0).count();
    let high = rows.energy.iter().filter(|e| **e >= 510.0).count();
    assert_eq!(summary.remarks, ["energy below 10", "energy at or above 510"].iter().zip([low, high]).map(|(what, n)| format!("{} with {what}", crate::words::counted(n as u64, "row"))).collect::<Vec<_>>());
    assert_eq!(summary.highlights, [vec!["events", "in range"], vec!["20000", &(20_000 - low - high).to_string()]]);
    let Content::Steps { edges, series, .. } = &summary.figures[0].content else { panic!("steps") };
    assert_eq!((edges.len(), series[0].1.len(), summary.figures[0].x.as_str()), (51, 50, "energy [GeV]"));
}

#[test]
fn two_axes_for_each_sample_with_weights_are_those_of_hist() {
    let rows = Rows::new(20_000);
    let mut histogram = histogram(vec![edges("energy", &[10.0, 20.0, 50.0, 510.0]), axis("eta", -2.0, 2.0, 8)]);
    histogram.weight = Some(word("weight"));
    histogram.for_each = Some(word("sample"));
    let (_, summary) = fold(&histogram, &rows.batch(), 3);
    let script = format!(
        "{COMPARE}
axes = [hist.axis.StrCategory(given['samples'], name='class', label='sample'),
        hist.axis.Variable([10, 20, 50, 510], name='energy', label='energy [GeV]'), hist.axis.Regular(8, -2, 2, name='eta', label='eta')]
compare(axes, [names, energy, eta], weight)"
    );
    let found = python(&script, &rows.given(&summary));
    // The table has every cell of the classes; hist has one more class, for what is none of them.
    let values = floats(&found["values"]);
    assert_eq!(column_of(&summary.table, "content"), values[..3 * 5 * 10]);
    assert!(values[3 * 5 * 10..].iter().all(|v| *v == 0.0));
    assert_eq!(summary.figures.len(), 3);
    assert_eq!(summary.figures[1].name, "energy-eta-photon");
    let Content::Heat { values, .. } = &summary.figures[1].content else { panic!("heat") };
    let content = column_of(&summary.table, "content");
    let photons: Vec<f64> = (1..4).flat_map(|i| content[50 + 10 * i + 1..][..8].to_vec()).collect();
    assert_eq!(values, &photons);
}

#[test]
fn nan_is_counted_and_in_no_bin() {
    let rows =
        batch(&SAMPLES, &[0; 5], &[("x", &[0.5, f64::NAN, 0.5, 0.5, 7.0]), ("w", &[1.0, 1.0, f64::NAN, f64::INFINITY, 2.0])]);
    let mut histogram = histogram(vec![axis("x", 0.0, 1.0, 1)]);
    let (_, summary) = fold(&histogram, &rows, 2);
    assert_eq!(column_of(&summary.table, "count"), [0.0, 3.0, 1.0]);
    assert_eq!(summary.remarks, ["1 row with x at or above 1", "1 row with x NaN, in no bin"]);
    histogram.weight = Some(word("w"));
    let (_, summary) = fold(&histogram, &rows, 2);
    assert_eq!(column_of(&summary.table, "content"), [0.0, 1.0, 2.0]);
    assert_eq!(column_of(&summary.table, "variance"), [0.0, 1.0, 4.0]);
    assert_eq!(summary.remarks[2], "2 rows without a finite w, in no bin");
}

#[test]
fn mistakes_have_places() {
    let rows = batch(&SAMPLES, &[0], &[("energy", &[1.0])]);
    let mut wrong = histogram(vec![
        HistogramAxis {
            column: at(3, 5, "enrgy".into()),
            bins: Some(at(3, 20, 0)),
            range: Some(at(3, 30, (5.0, 1.0))),
            edges: None,
        },
        HistogramAxis { column: at(4, 5, "sample".into()), ..axis("", 0.0, 1.0, 1) },
    ]);
    wrong.weight = Some(at(5, 9, "weigth".into()));
    wrong.for_each = Some(at(6, 9, "energy".into()));
    assert_eq!(
        problems(&wrong, &rows),
        [
            "3:5 no column `enrgy` (did you mean `energy`?)",
            "3:20 0 bins (give 1 to 16777216)",
            "3:30 the range is reversed (write [1, 5])",
            "4:5 column `sample` is Dictionary(Int8, Utf8), not a number",
            "5:9 no column `weigth` (there is sample, energy)",
            "6:9 column `energy` is Float64, not a class (there is sample)",
        ]
    );
    let none = Histogram { axes: at(2, 3, Vec::new()), weight: None, for_each: None };
    assert_eq!(problems(&none, &rows), ["2:3 a histogram needs an axis (- { column: energy, range: [0, 100], bins: 50 })"]);
    let twice = histogram(vec![
        axis("energy", 0.0, 1.0, 1),
        HistogramAxis { column: at(4, 5, "energy".into()), ..axis("", 0.0, 1.0, 1) },
    ]);
    assert_eq!(problems(&twice, &rows), ["4:5 a second axis of `energy`"]);
    let mut large = histogram(vec![axis("energy", 0.0, 1.0, 1 << 24)]);
    large.for_each = Some(word("sample"));
    assert_eq!(problems(&large, &rows), ["0:0 50331657 cells are too many (stay below 33554432)"]);
}

proptest! {
    #[test]
    fn sums_do_not_depend_on_how_rows_are_cut(n in 1_usize..200, pieces in 1_usize..20) {
        let rows = Rows::new(n);
        let mut histogram = histogram(vec![axis("energy", 10.0, 510.0, 5)]);
        histogram.weight = Some(word("weight"));
        prop_assert_eq!(fold(&histogram, &rows.batch(), pieces).0.encode(), fold(&histogram, &rows.batch(), 1).0.encode());
    }
}
