//! Histograms against `hist` filled with the same numbers.

use super::*;
use crate::statistics::figure::{Content, Summary};
use crate::trial::{at, batch, bits, column_of, floats, fold, normal, problems, python, uniform, word};
use proptest::prelude::*;
use serde_json::json;

const SAMPLES: [&str; 3] = ["electron", "photon", "pion"];

fn axis(column: &str, low: f64, high: f64, bins: u32) -> HistogramAxis {
    let (range, bins) = (Some(Placed::unplaced((low, high))), Some(Placed::unplaced(bins)));
    HistogramAxis { column: word(column), range, bins, ..HistogramAxis::default() }
}

fn edges(column: &str, edges: &[f64]) -> HistogramAxis {
    HistogramAxis { column: word(column), edges: Some(Placed::unplaced(edges.to_vec())), ..HistogramAxis::default() }
}

fn histogram(axes: Vec<HistogramAxis>) -> Histogram {
    Histogram {
        axes: Some(Placed::unplaced(axes)),
        of: None,
        weight: None,
        for_each: None,
        regions: None,
        profile: None,
        ratio: None,
    }
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
    assert_eq!(
        summary.remarks,
        ["energy below 10", "energy at or above 510"]
            .iter()
            .zip([low, high])
            .map(|(what, n)| format!("{} with {what}", crate::words::counted(n as u64, "row")))
            .collect::<Vec<_>>()
    );
    assert_eq!(summary.highlights, [vec!["events", "in range"], vec!["20000", &(20_000 - low - high).to_string()]]);
    let Content::Steps { edges, series, .. } = &summary.figures[0].content else { panic!("steps") };
    assert_eq!((edges.len(), series[0].contents.len(), summary.figures[0].x.as_str()), (51, 50, "energy [GeV]"));
}

#[test]
fn two_axes_for_each_sample_with_weights_are_those_of_hist() {
    let rows = Rows::new(20_000);
    let mut histogram = histogram(vec![edges("energy", &[10.0, 20.0, 50.0, 510.0]), axis("eta", -2.0, 2.0, 8)]);
    histogram.weight = Some(word("weight"));
    histogram.for_each = Some(word("sample").into());
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
fn logarithms_integers_and_categories_on_three_axes_are_those_of_hist() {
    let rows = Rows::new(20_000);
    let log = HistogramAxis { log: Some(Placed::unplaced(true)), ..axis("energy", 0.7, 511.3, 9) };
    let hits: Vec<f64> = rows.eta.iter().map(|eta| (3.0 * eta).floor()).collect();
    let pdg: Vec<f64> = rows
        .classes
        .iter()
        .zip(&rows.energy)
        .map(|(c, e)| if *e > 500.0 { 13.0 } else { [11.0, 22.0, 211.0][*c as usize] })
        .collect();
    let batch =
        batch(&SAMPLES, &rows.classes, &[("energy", &rows.energy), ("hits", &hits), ("pdg", &pdg), ("weight", &rows.weight)]);
    let integers = HistogramAxis { column: word("hits"), integers: Some(Placed::unplaced((-4, 5))), ..HistogramAxis::default() };
    let numbers = [211, 11, 22].map(Category::Number).to_vec();
    let codes = HistogramAxis { column: word("pdg"), categories: Some(Placed::unplaced(numbers)), ..HistogramAxis::default() };
    let texts = vec![Category::Text("pion".into()), Category::Text("electron".into())];
    let names = HistogramAxis { column: word("sample"), categories: Some(Placed::unplaced(texts)), ..HistogramAxis::default() };
    let histogram = Histogram { weight: Some(word("weight")), ..histogram(vec![log, integers, codes, names]) };
    let (_, summary) = fold(&histogram, &batch, 3);
    let mut given = rows.given(&summary);
    (given["hits"], given["pdg"]) = (bits(&hits), bits(&pdg));
    let script = format!(
        "{COMPARE}
hits, pdg = floats(given['hits']), floats(given['pdg'])
ours = hist.Hist(boost_histogram.serialization.from_uhi(given['uhi']))
axes = [hist.axis.Regular(9, .7, 511.3, transform=hist.axis.transform.log, name='energy'), hist.axis.Regular(10, -4, 6, name='hits'),
        hist.axis.IntCategory([211, 11, 22], name='pdg'), hist.axis.StrCategory(['pion', 'electron'], name='sample2')]
theirs = hist.Hist(*axes, storage=hist.storage.Weight())
theirs.fill(energy, hits, pdg.astype(int), names, weight=weight)
np.testing.assert_allclose(ours.axes[0].edges, theirs.axes[0].edges, rtol=1e-12)
assert list(ours.axes[2]) == [211, 11, 22] and list(ours.axes[3]) == ['pion', 'electron']
np.testing.assert_allclose(ours.values(flow=True), theirs.values(flow=True), rtol=1e-12, atol=1e-11)
np.testing.assert_allclose(ours.variances(flow=True), theirs.variances(flow=True), rtol=1e-12)
answer(bits(ours.values(flow=True)))"
    );
    // An axis of `hist` cannot be called `sample`; the names of ours do not matter here.
    for axis in given["uhi"]["axes"].as_array_mut().unwrap() {
        if axis["metadata"]["name"] == "sample" {
            axis["metadata"]["name"] = "sample2".into();
        }
    }
    let found = python(&script, &given);
    assert_eq!(column_of(&summary.table, "content"), floats(&found));
    assert_eq!(crate::trial::texts_of(&summary.table, "pdg")[..9], ["211", "211", "211", "11", "11", "11", "22", "22", "22"]);
    assert_eq!(crate::trial::texts_of(&summary.table, "sample")[..3], ["pion", "electron", "other"]);
    assert!(summary.remarks.iter().any(|remark| remark.ends_with("with pdg of another category")), "{:?}", summary.remarks);
}

#[test]
fn profiles_are_those_of_hist() {
    let rows = Rows::new(20_000);
    let y: Vec<f64> = rows
        .energy
        .iter()
        .zip(&rows.weight)
        .enumerate()
        .map(|(i, (e, w))| if i % 500 == 0 { f64::NAN } else { 0.1 * e + w * w })
        .collect();
    let positive: Vec<f64> = rows.weight.iter().map(|w| w.abs() + 0.1).collect();
    let batch = batch(&SAMPLES, &rows.classes, &[("energy", &rows.energy), ("y [GeV]", &y), ("w", &positive)]);
    for weighted in [false, true] {
        let mut step = histogram(vec![axis("energy", 10.0, 510.0, 20)]);
        (step.profile, step.weight) = (Some(word("y")), weighted.then(|| word("w")));
        let (_, summary) = fold(&step, &batch, 4);
        let given = json!({ "uhi": summary.histograms[0].1, "energy": bits(&rows.energy), "y": bits(&y), "w": bits(&positive), "weighted": weighted });
        let script = "
import hist, boost_histogram.serialization
ours = hist.Hist(boost_histogram.serialization.from_uhi(given['uhi']))
energy, y, w = (floats(given[k]) for k in ('energy', 'y', 'w'))
good = np.isfinite(y)
theirs = hist.Hist(hist.axis.Regular(20, 10, 510, name='energy'), storage=hist.storage.WeightedMean() if given['weighted'] else hist.storage.Mean())
theirs.fill(energy[good], sample=y[good], **({'weight': w[good]} if given['weighted'] else {}))
assert type(ours.storage_type()) == type(theirs.storage_type())
np.testing.assert_allclose(ours.values(flow=True), theirs.values(flow=True), rtol=1e-10)
np.testing.assert_allclose(ours.variances(flow=True), theirs.variances(flow=True), rtol=1e-8)
cell = np.digitize(energy[good], np.linspace(10, 510, 21))
rows = []
for i in range(22):
    x, v = y[good][cell == i], w[good][cell == i] if given['weighted'] else np.ones((cell == i).sum())
    mean = np.average(x, weights=v); rms = np.sqrt(np.average((x - mean)**2, weights=v))
    rows.append([mean, rms / np.sqrt(v.sum()**2 / (v**2).sum()), rms])
answer([bits(column) for column in np.array(rows).T])
";
        let expected = python(script, &given);
        for (name, expected) in ["mean", "mean_error", "rms"].iter().zip(expected.as_array().unwrap()) {
            crate::trial::close(&column_of(&summary.table, name), &floats(expected), 1e-9);
        }
        assert!(summary.remarks.contains(&"40 rows with y NaN or infinite, in no bin".to_owned()), "{:?}", summary.remarks);
        let Content::Curves { curves, .. } = &summary.figures[0].content else { panic!("curves") };
        assert_eq!((curves[0].points.len(), summary.figures[0].y.as_str()), (20, "mean of y [GeV]"));
    }
    let few = crate::trial::batch(
        &SAMPLES,
        &[0; 5],
        &[("energy", &[0.5, 1.5, 1.6, 2.5, 2.6]), ("y", &[1.0, 2.0, 2.0, 1.0, 2.0]), ("w", &[1.0, 1.0, 1.0, 1.0, -1.0])],
    );
    let mut step = histogram(vec![axis("energy", 0.0, 4.0, 4)]);
    (step.profile, step.weight) = (Some(word("y")), Some(word("w")));
    let (_, summary) = fold(&step, &few, 2);
    let expected = [
        "one row has no spread",
        "all values are the same, or too close for sums at their distance from 0",
        "the weights do not sum to more than 0",
        "no rows",
    ];
    assert_eq!(crate::trial::texts_of(&summary.table, "reason")[1..5], expected);
    assert!(column_of(&summary.table, "mean_error")[1].is_nan());
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
            ..HistogramAxis::default()
        },
        HistogramAxis { column: at(4, 5, "sample".into()), ..axis("", 0.0, 1.0, 1) },
    ]);
    wrong.weight = Some(at(5, 9, "weigth".into()));
    wrong.for_each = Some(at(6, 9, "energy".to_owned()).into());
    assert_eq!(
        problems(&wrong, &rows),
        [
            "3:5 no column `enrgy` (did you mean `energy`?)",
            "3:20 0 bins (give 1 to 16777216)",
            "3:30 the range is reversed (write [1, 5])",
            "4:5 column `sample` is Dictionary(Int8, Utf8), not a number",
            "5:9 no column `weigth` (there is sample, energy)",
            "6:9 column `energy` is Float64, not a class (bin in it with `by`, or make a region of it: regions: { high: energy > 1 })",
        ]
    );
    let none = Histogram { axes: Some(at(2, 3, Vec::new())), ..histogram(Vec::new()) };
    assert_eq!(problems(&none, &rows), ["2:3 a histogram needs an axis (- { column: energy, range: [0, 100], bins: 50 })"]);
    let twice = histogram(vec![
        axis("energy", 0.0, 1.0, 1),
        HistogramAxis { column: at(4, 5, "energy".into()), ..axis("", 0.0, 1.0, 1) },
    ]);
    assert_eq!(problems(&twice, &rows), ["4:5 a second axis of `energy`"]);
    let mut large = histogram(vec![axis("energy", 0.0, 1.0, 1 << 24)]);
    large.for_each = Some(word("sample").into());
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

#[test]
fn ratios_and_what_lies_outside_are_in_the_plot() {
    let rows = Rows::new(20_000);
    let mut wanted = histogram(vec![axis("energy", 100.0, 500.0, 4)]);
    (wanted.for_each, wanted.weight, wanted.ratio) = (Some(word("sample").into()), Some(word("weight")), Some(word("photon")));
    let (_, summary) = fold(&wanted, &rows.batch(), 3);
    let Content::Compared { content, y, ratios } = &summary.figures[0].content else { panic!("a panel") };
    let Content::Steps { series, .. } = &**content else { panic!("steps") };
    let (content, variance) = (column_of(&summary.table, "content"), column_of(&summary.table, "variance"));
    assert_eq!((y.as_str(), ratios.len(), ratios[1].points.len()), ("/ photon", 3, 0));
    for class in [0, 2] {
        for (bin, point) in ratios[class].points.iter().enumerate() {
            let (own, other) = (6 * class + 1 + bin, 6 + 1 + bin);
            assert_eq!(series[class].errors[bin], variance[own].sqrt());
            let relative = |cell: usize| variance[cell].sqrt() / content[cell];
            let ratio = content[own] / content[other];
            assert!(
                (point.y - ratio).abs() < 1e-12 && (point.y_error - ratio * relative(own).hypot(relative(other))).abs() < 1e-12
            );
        }
    }
    let outside = |slot: usize| crate::words::significant(content[slot], 3);
    assert_eq!(series[0].label, format!("{} ({} below, {} above)", SAMPLES[0], outside(0), outside(5)));
    wanted.ratio = Some(word("photn"));
    assert!(wanted.filling(&rows.batch().schema()).expect_err("no such class")[0].what.contains("no group `photn`"));
    wanted.for_each = None;
    assert!(wanted.filling(&rows.batch().schema()).expect_err("no classes")[0].what.contains("one curve has no ratio"));
}
