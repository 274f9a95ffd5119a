//! Axes against those of boost-histogram, and what is no axis.

use super::*;
use crate::trial::{at, bits, floats, python, uniform, word};
use arrow::array::{ArrayRef, Float32Array};
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;

fn problems(words: &AxisWords) -> Vec<String> {
    let problems = Axis::plan(&at(1, 7, "energy".to_owned()), words).unwrap_err();
    let help = |p: &Problem| p.help.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
    problems.iter().map(|p| format!("{}:{} {}{}", p.place.line, p.place.column, p.what, help(p))).collect()
}

#[test]
fn slots_and_edges_are_those_of_boost_histogram() {
    let mut uniform = uniform(3);
    let regular = [(10.0, 510.0, 10), (-5.0, 5.0, 100), (0.1, 0.7, 7), (-1e-3, 1e9, 33), (1.0, 1.000_000_1, 3)];
    let mut axes: Vec<Axis> = regular.map(|(low, high, bins)| Axis::Regular { low, high, bins }).into();
    axes.push(Axis::Variable { edges: vec![10.0, 20.0, 50.0, 50.1, 510.0] });
    for axis in axes {
        let edges = axis.edges();
        let (low, high) = (edges[0], edges[edges.len() - 1]);
        let mut values: Vec<f64> = (0..2000).map(|_| low + (1.4 * uniform() - 0.2) * (high - low)).collect();
        values.extend(edges.iter().flat_map(|edge| [edge.next_down(), *edge, edge.next_up()]));
        values.extend([f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, f64::MAX, -f64::MAX]);
        let words = match &axis {
            Axis::Regular { low, high, bins } => json!({ "regular": [bins, low, high] }),
            Axis::Variable { edges } => json!({ "edges": edges }),
            Axis::Integers { .. } | Axis::Numbers { .. } | Axis::Texts { .. } => unreachable!("ranges and edges only"),
        };
        let script = "
import boost_histogram as bh
axis = bh.axis.Regular(*given['regular']) if 'regular' in given else bh.axis.Variable(given['edges'])
answer({'slots': [int(i) + 1 for i in axis.index(floats(given['x']))], 'edges': bits(axis.edges)})
";
        let mut given = words;
        given["x"] = bits(&values);
        let expected = python(script, &given);
        let found: Vec<usize> = values.iter().map(|x| axis.slot(*x)).collect();
        assert_eq!(json!(found), expected["slots"], "{axis:?}");
        assert_eq!(edges, floats(&expected["edges"]));
        assert_eq!(axis.slot(f64::NAN), axis.nan());
    }
}

#[test]
fn a_logarithmic_axis_is_that_of_boost_histogram() {
    let (range, bins) = (Some(at(1, 1, (0.5, 2000.0))), Some(at(1, 2, 37)));
    let axis = Axis::plan(&word("x"), &AxisWords { range, bins, log: Some(at(1, 3, true)), ..AxisWords::default() }).unwrap();
    let mut uniform = uniform(9);
    let values: Vec<f64> = (0..5000).map(|_| 0.1 * 5e4_f64.powf(uniform())).collect();
    let script = "
import boost_histogram as bh
axis = bh.axis.Regular(37, .5, 2000, transform=bh.axis.transform.log)
answer({'slots': [int(i) + 1 for i in axis.index(floats(given))], 'edges': bits(axis.edges)})
";
    let expected = python(script, &bits(&values));
    assert_eq!(json!(values.iter().map(|x| axis.slot(*x)).collect::<Vec<_>>()), expected["slots"]);
    crate::trial::close(&axis.edges(), &floats(&expected["edges"]), 1e-12);
    let decades = AxisWords {
        range: Some(at(1, 1, (1.0, 1000.0))),
        bins: Some(at(1, 2, 3)),
        log: Some(at(1, 3, true)),
        ..AxisWords::default()
    };
    assert_eq!(Axis::plan(&word("x"), &decades).unwrap().edges(), [1.0, 10.0, 100.0, 1000.0]);
    let wrong = AxisWords {
        range: Some(at(2, 3, (0.0, 1.0))),
        bins: Some(at(2, 9, 3)),
        log: Some(at(2, 1, true)),
        ..AxisWords::default()
    };
    assert_eq!(problems(&wrong), ["2:3 a logarithmic axis can't begin at 0 (begin above 0)"]);
}

#[test]
fn integers_and_categories_have_a_bin_each() {
    let integers = AxisWords { integers: Some(at(1, 1, (-1, 2))), ..AxisWords::default() };
    let axis = Axis::plan(&word("x"), &integers).unwrap();
    assert_eq!([-2.0, -1.0, 0.0, 2.0, 3.0].map(|x| axis.slot(x)), [0, 1, 2, 4, 5]);
    assert_eq!([-1.1, -0.9, 2.9, f64::INFINITY, f64::NAN].map(|x| axis.slot(x)), [0, 1, 4, 5, 6]);
    for (first, last) in (-3..4).flat_map(|first| (first..300).step_by(7).map(move |last| (first, last))) {
        let axis =
            Axis::plan(&word("x"), &AxisWords { integers: Some(at(1, 1, (first, last))), ..AxisWords::default() }).unwrap();
        let edges: Vec<f64> = (first..=last + 1).map(|i| i as f64).collect();
        assert_eq!(axis.edges(), edges);
        assert!(edges.iter().enumerate().all(|(i, x)| axis.slot(*x) == i + 1), "{first} to {last}");
    }
    let of = |categories: Vec<Category>| AxisWords { categories: Some(at(3, 1, categories)), ..AxisWords::default() };
    let axis = Axis::plan(&word("x"), &of(vec![Category::Number(211), Category::Number(11)])).unwrap();
    assert_eq!([11.0, 211.0, 22.0, f64::NAN].map(|x| axis.slot(x)), [2, 1, 3, 4]);
    let text = |text: &str| Category::Text(text.to_owned());
    let rows = crate::trial::batch(&["electron", "photon", "pion"], &[2, 0, 1, 2], &[]);
    let axis = Axis::plan_column(&rows.schema(), &word("sample"), &of(vec![text("pion"), text("photon")])).unwrap();
    let mut numbers = vec![0; 4];
    axis.refine_by(&rows, "sample", &mut numbers).unwrap();
    assert_eq!(numbers, [1, 3, 2, 1]);
    assert_eq!(problems(&of(vec![text("a"), text("a")])), ["3:1 `a` is given twice"]);
    assert_eq!(problems(&of(Vec::new())), ["3:1 `categories` names none ([barrel, endcap], or [11, 22, 211])"]);
    let both = AxisWords { integers: Some(at(5, 1, (0, 1))), ..of(vec![text("a")]) };
    assert!(problems(&both)[0].starts_with("5:1 an axis has either `edges`, or `range` and `bins`"));
    let wrong =
        Axis::plan_column(&crate::trial::batch(&["a"], &[0], &[("x", &[1.0])]).schema(), &word("x"), &of(vec![text("a")]));
    assert_eq!(wrong.unwrap_err()[0].what, "column `x` is Float64, not text");
}

/// Ranges of every kind: whole numbers, powers of two, any.
fn range() -> impl Strategy<Value = (f64, f64)> {
    let masked = |mask: u64| {
        let end = move |bits: u64| f64::from_bits(bits & mask);
        (any::<u64>(), any::<u64>()).prop_map(move |(a, b)| (end(a).min(end(b)), end(a).max(end(b))))
    };
    let whole = (-9_i32..9, 1_i32..100).prop_map(|(low, width)| (f64::from(low), f64::from(low + width)));
    let any = prop_oneof![2 => whole, 1 => masked(!0), 1 => masked(!0 << 52), 1 => masked(!0 << 40)];
    any.prop_filter("a range", |(low, high)| low < high && (high - low).is_finite())
}

proptest! {
    #[test]
    fn slots_are_those_that_a_branch_for_each_case_gives(
        (low, high) in range(),
        bins in prop_oneof![1_u32..20, Just(MOST_BINS), 1..MOST_BINS],
        bits in prop::collection::vec(any::<u64>(), 1..20),
        shares in prop::collection::vec(-0.5..1.5, 1..20),
        numbers in prop::collection::vec(0_u32..200, 50),
    ) {
        let axis = Axis::Regular { low, high, bins };
        let mut values: Vec<f64> = bits.into_iter().map(f64::from_bits).collect();
        values.extend(shares.iter().map(|share| low + share * (high - low)));
        values.extend([low, high, low.next_down(), high.next_down(), -0.0, 0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        let slot = |x: f64| {
            let z = (x - low) / (high - low);
            let bin = if z >= 0.0 { ((z * f64::from(bins)) as u32).saturating_add(1) } else { 0 };
            let slot = if z < 1.0 { bin } else { bins + 1 };
            if x.is_nan() { bins + 2 } else { slot }
        };
        let numbers = &numbers[..values.len()];
        let expected: Vec<u32> = numbers.iter().zip(&values).map(|(n, x)| n.wrapping_mul(bins + 3).wrapping_add(slot(*x))).collect();
        let mut refined = numbers.to_vec();
        axis.refine(&values, &mut refined);
        prop_assert_eq!(&refined, &expected, "{} to {}: {:?}", low, high, values);
        let small: Vec<f32> = values.iter().map(|x| *x as f32).collect();
        let widened: Vec<f64> = small.iter().map(|x| f64::from(*x)).collect();
        let batch = RecordBatch::try_from_iter([("x", Arc::new(Float32Array::from(small)) as ArrayRef)]).unwrap();
        let (mut of_small, mut of_widened) = (numbers.to_vec(), numbers.to_vec());
        axis.refine_by(&batch, "x", &mut of_small).unwrap();
        axis.refine(&widened, &mut of_widened);
        prop_assert_eq!(of_small, of_widened);
    }
}

#[test]
fn numbers_are_refined_axis_by_axis() {
    let (a, b) = (Axis::Regular { low: 0.0, high: 2.0, bins: 2 }, Axis::Variable { edges: vec![0.0, 1.0] });
    let mut numbers = vec![0, 0, 1, 1];
    a.refine(&[0.5, 1.5, -1.0, f64::NAN], &mut numbers);
    assert_eq!(numbers, [1, 2, 5, 9]);
    b.refine(&[0.5, 2.0, -1.0, f64::NAN], &mut numbers);
    assert_eq!(numbers, [5, 10, 20, 39]);
}

#[test]
fn mistakes_have_places() {
    let words = |range, bins| AxisWords { range: Some(at(2, 3, range)), bins: Some(at(2, 9, bins)), ..AxisWords::default() };
    assert_eq!(problems(&words((0.0, 1.0), 0)), ["2:9 0 bins (give 1 to 16777216)"]);
    assert_eq!(problems(&words((510.0, 10.0), 5)), ["2:3 the range is reversed (write [10, 510])"]);
    assert_eq!(problems(&words((1.0, 1.0), 0)), ["2:9 0 bins (give 1 to 16777216)", "2:3 the range [1, 1] is empty"]);
    let infinite = "2:3 the range is not finite (what lies outside is counted in the flow bins)";
    assert_eq!(problems(&words((f64::NEG_INFINITY, 1.0), 5)), [infinite]);
    assert_eq!(problems(&words((-f64::MAX, f64::MAX), 5)), [infinite]);
    let edges = |edges: &[f64]| AxisWords { edges: Some(at(4, 5, edges.to_vec())), ..AxisWords::default() };
    assert_eq!(problems(&edges(&[1.0])), ["4:5 1 edges make no bin (give at least two)"]);
    assert_eq!(problems(&edges(&[1.0, 3.0, 3.0, 2.0])), ["4:5 the edges do not ascend: 3 is followed by 3"]);
    assert_eq!(
        problems(&edges(&[1.0, f64::NAN])),
        ["4:5 the edge NaN is not finite (what lies outside is counted in the flow bins)"]
    );
    let shapes = "(write `range: [low, high]` and `bins: n`, or `edges: [..]`)";
    assert_eq!(problems(&AxisWords::default()), [format!("1:7 the axis of `energy` has no bins {shapes}")]);
    let both = AxisWords { edges: Some(at(4, 5, vec![0.0, 1.0])), ..words((0.0, 1.0), 1) };
    assert_eq!(problems(&both), [format!("4:5 an axis has either `edges`, or `range` and `bins` {shapes}")]);
    let no_bins = AxisWords { bins: None, ..words((0.0, 1.0), 1) };
    assert_eq!(problems(&no_bins), [format!("2:3 the axis of `energy` has no `bins` {shapes}")]);
    let no_range = AxisWords { range: None, ..words((0.0, 1.0), 1) };
    assert_eq!(problems(&no_range), [format!("2:9 the axis of `energy` has no `range` {shapes}")]);
    assert_eq!(Axis::plan(&word("x"), &words((0.0, 1.0), 4)).unwrap(), Axis::Regular { low: 0.0, high: 1.0, bins: 4 });
}
