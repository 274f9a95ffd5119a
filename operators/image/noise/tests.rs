use super::*;
use crate::hits::hits_field;
use crate::testing::{cells_of, images, map_with, output_of};
use crate::trial::{at, bits, problems, python, word};
use arrow::array::{ListArray, StructArray, UInt16Array, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::Schema;
use proptest::prelude::*;
use serde_json::json;

fn noise(names: &[&str], sigma: Option<f64>, relative: Option<f64>, on: On, threshold: Option<f64>) -> Noise {
    let width = |line, width: Option<f64>| width.map(|width| at(line, 1, width));
    Noise {
        images: at(1, 1, names.iter().map(|name| word(name)).collect()),
        value: None,
        sigma: width(2, sigma),
        relative: width(3, relative),
        on: at(4, 1, on),
        threshold: width(5, threshold),
        draw: at(6, 1, "noise".into()),
    }
}

/// Events with an image of 50 x 40 cells, every tenth of them at 10.
fn batch(events: u64) -> RecordBatch {
    let events: Vec<u64> = (0..events).map(|i| column::event_identity("file", i)).collect();
    let image: Vec<f32> = (0..2000).map(|i| if i % 10 == 0 { 10.0 } else { 0.0 }).collect();
    images(&events, &[(&[50, 40], &image.repeat(events.len()))])
}

fn run(noise: &Noise, batch: &RecordBatch, epoch: u64) -> (RecordBatch, Noticed) {
    let facts = Facts { seed: 5, epoch, ..Facts::default() };
    let mut map = map_with(noise, batch, &facts);
    let mapped = map.map(batch.clone()).unwrap();
    assert_eq!(mapped.cut, 0);
    (mapped.batch, map.noticed())
}

/// The difference that noise made, over its expected width.
fn pulls(before: &RecordBatch, after: &RecordBatch, name: &str, filled: bool, width: impl Fn(f64) -> f64) -> Vec<f64> {
    let pairs = cells_of(before, name).into_iter().zip(cells_of(after, name));
    let chosen = pairs.filter(|(before, _)| (*before != 0.0) == filled);
    chosen.map(|(before, after)| (f64::from(after) - f64::from(before)) / width(f64::from(before))).collect()
}

/// Asserts that numbers are normal of mean 0 and width 1, by three tests of scipy.
fn assert_normal(pulls: &[f64]) {
    let script = "
from scipy import stats
x = floats(given)
answer({'mean': stats.ttest_1samp(x, 0).pvalue, 'ks': stats.kstest(x, 'norm').pvalue,
        'width': float(2 * min(stats.chi2.cdf((x**2).sum(), len(x)), stats.chi2.sf((x**2).sum(), len(x))))})
";
    let p = python(script, &bits(pulls));
    for test in ["mean", "ks", "width"] {
        assert!(p[test].as_f64().unwrap() > 1e-3, "{test} of {} pulls: {p}", pulls.len());
    }
}

#[test]
fn noise_is_normal_of_the_width_that_was_asked_for() {
    let batch = batch(100);
    for (name, on) in [("a", On::Hits), ("a_dense", On::Hits), ("a", On::Cells), ("a_dense", On::Cells)] {
        let (noisy, _) = run(&noise(&[name], Some(0.2), Some(0.03), on, None), &batch, 0);
        assert_normal(&pulls(&batch, &noisy, name, true, |value| 0.2_f64.hypot(0.03 * value)));
        let empty = pulls(&batch, &noisy, name, false, |_| 0.2);
        match on {
            On::Hits => assert!(empty.iter().all(|pull| *pull == 0.0), "empty cells stay empty"),
            On::Cells => assert_normal(&empty),
        }
    }
}

#[test]
fn cells_and_images_and_epochs_are_independent() {
    let batch = batch(100);
    let constant = noise(&["a", "a_dense"], Some(0.2), None, On::Hits, None);
    let (first, _) = run(&constant, &batch, 0);
    assert_eq!(run(&constant, &batch, 0).0, first, "the same each time");
    let of = |noisy: &RecordBatch, name| pulls(&batch, noisy, name, true, |_| 0.2);
    let (first, other, second) = (of(&first, "a"), of(&first, "a_dense"), of(&run(&constant, &batch, 1).0, "a"));
    let named = Noise { draw: at(6, 1, "second".into()), ..constant.clone() };
    let named = of(&run(&named, &batch, 0).0, "a");
    let shifted: Vec<f64> = first[1..].to_vec();
    let next_event: Vec<f64> = first[200..].to_vec();
    for (what, numbers) in [("image", &other), ("epoch", &second), ("draw", &named), ("cell", &shifted), ("event", &next_event)] {
        let product: f64 = first.iter().zip(numbers).map(|(x, y)| x * y).sum();
        let correlation = product / numbers.len() as f64;
        // Four standard deviations of the correlation of 20,000 independent pairs.
        assert!(correlation.abs() < 4.0 / (numbers.len() as f64).sqrt(), "another {what}: {correlation}");
    }
}

#[test]
fn a_threshold_drops_what_is_near_zero_and_says_how_many() {
    let batch = batch(20);
    for on in [On::Hits, On::Cells] {
        let (noisy, noticed) = run(&noise(&["a", "a_dense"], Some(0.2), Some(0.5), on, Some(0.6)), &batch, 0);
        let lists = noisy.column_by_name("a").unwrap().as_list::<i32>();
        let hits = lists.values().len();
        let cells = cells_of(&noisy, "a");
        assert!(cells.iter().all(|value| *value == 0.0 || value.abs() >= 0.6));
        assert!(cells.iter().any(|value| *value < 0.0), "negative values stay");
        assert_eq!(hits, cells.iter().filter(|value| **value != 0.0).count());
        let gone = (if on == On::Hits { 4000 } else { 40_000 }) - hits;
        assert!(gone > 0);
        assert_eq!(noticed["noisy cells of `a` below the threshold dropped"], gone as u64);
        let cells = lists.values().as_struct().column(0).as_primitive::<arrow::datatypes::UInt16Type>().values();
        for ends in lists.value_offsets().windows(2) {
            assert!(cells[ends[0] as usize..ends[1] as usize].windows(2).all(|pair| pair[0] < pair[1]), "cells ascend");
        }
        if on == On::Cells {
            let lit = cells_of(&batch, "a").iter().zip(cells_of(&noisy, "a")).filter(|(b, a)| **b == 0.0 && *a != 0.0).count();
            // 36,000 empty cells at three sigma on either side: 97 expected.
            assert!((60..140).contains(&lit), "{lit} cells");
            let planned = noise(&["a"], Some(0.2), None, on, Some(0.6)).plan(&Facts::default(), &[output_of(&batch)]).unwrap();
            assert_eq!(planned.remarks, ["noise makes a hit of some 5.4 of 2,000 empty cells of an image of `a`"]);
        }
    }
}

proptest! {
    #[test]
    fn noise_does_not_depend_on_batches_or_order(
        events in prop::collection::vec(any::<u64>(), 2..12),
        values in prop::collection::vec(prop_oneof![3 => Just(0.0_f32), 1 => Just(-0.0_f32), 1 => Just(f32::NAN), 4 => -5.0_f32..5.0], 12 * 6),
        cut in 0_usize..12,
        all: bool,
    ) {
        let on = if all { On::Cells } else { On::Hits };
        let whole = images(&events, &[(&[2, 3], &values[..6 * events.len()])]);
        let noise = noise(&["a", "a_dense"], Some(1.0), None, on, Some(0.5));
        let (noisy, _) = run(&noise, &whole, 0);
        prop_assert_eq!(noisy.column(1).data_type(), whole.column(1).data_type());
        let cut = cut.min(events.len());
        for (first, length) in [(0, cut), (cut, events.len() - cut), (1, 1)] {
            let (part, _) = run(&noise, &whole.slice(first, length), 0);
            prop_assert_eq!(cells_of(&part, "a").iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
                cells_of(&noisy.slice(first, length), "a").iter().map(|v| v.to_bits()).collect::<Vec<_>>());
            prop_assert_eq!(part.column(2).to_data(), noisy.column(2).slice(first, length).to_data());
        }
        for (before, after) in cells_of(&whole, "a").iter().zip(cells_of(&noisy, "a")) {
            prop_assert!(before.is_nan() == after.is_nan(), "what is not finite stays as it is");
        }
    }
}

/// Hits with an energy and a time.
fn timed() -> RecordBatch {
    let values = [Field::new("energy", DataType::Float32, false), Field::new("time", DataType::Float32, false)];
    let field = hits_field("a", &[2, 2], &values);
    let DataType::List(item) = field.data_type() else { panic!("hits") };
    let DataType::Struct(fields) = item.data_type() else { panic!("hits") };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt16Array::from(vec![0, 3, 1])),
        Arc::new(arrow::array::Float32Array::from(vec![100.0, 0.01, 50.0])),
        Arc::new(arrow::array::Float32Array::from(vec![1.0, 2.0, 3.0])),
    ];
    let hits = StructArray::new(fields.clone(), columns, None);
    let list = ListArray::new(item.clone(), OffsetBuffer::new(vec![0, 2, 3].into()), Arc::new(hits), None);
    let fields = vec![Field::new("event", DataType::UInt64, false), field];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(UInt64Array::from(vec![1, 2])), Arc::new(list)]).unwrap()
}

#[test]
fn the_other_values_of_a_hit_stay_with_it() {
    let batch = timed();
    let mut energy = noise(&["a"], None, Some(0.1), On::Hits, Some(1.0));
    assert_eq!(problems(&energy, &batch), ["0:0 a hit of `a` has several values (say which: `value: energy`)"]);
    energy.value = Some(at(7, 1, "energi".into()));
    assert_eq!(problems(&energy, &batch), ["7:1 a hit of `a` has no `energi` (did you mean `energy`?)"]);
    energy.value = Some(at(7, 1, "energy".into()));
    let (noisy, noticed) = run(&energy, &batch, 0);
    let hits = noisy.column(1).as_list::<i32>().values().as_struct().clone();
    assert_eq!(hits.column(2).as_ref(), &arrow::array::Float32Array::from(vec![1.0, 3.0]) as &dyn Array);
    assert_eq!(hits.column(0).as_ref(), &UInt16Array::from(vec![0, 1]) as &dyn Array);
    assert_eq!(noticed.values().sum::<u64>(), 1);
    energy.on = at(4, 1, On::Cells);
    energy.sigma = Some(at(2, 1, 1.0));
    assert_eq!(problems(&energy, &batch), ["4:1 noise on all cells of `a` would make hits without a `time` (on: hits)"]);
}

#[test]
fn every_mistake_is_said_at_once() {
    let batch = batch(1);
    assert_eq!(
        problems(&noise(&["event", "a", "a"], Some(-1.0), Some(f64::NAN), On::Hits, Some(0.0)), &batch),
        [
            "0:0 `a` is named twice",
            "0:0 column `event` is no image (there is a, a_dense)",
            "2:1 a sigma of -1 (it is above 0)",
            "3:1 a relative width of NaN (it is above 0)",
            "5:1 a threshold of 0 (it is above 0)",
        ]
    );
    assert_eq!(
        problems(&noise(&["a"], None, None, On::Hits, None), &batch),
        ["1:1 noise of no width (give `sigma:`, `relative:`, or both)"]
    );
    let relative = noise(&["a"], None, Some(0.1), On::Cells, None);
    assert_eq!(problems(&relative, &batch), ["4:1 relative noise leaves empty cells empty (give `sigma:` too, or `on: hits`)"]);
    let twice = noise(&["a"], Some(1.0), None, On::Hits, None);
    let output = twice.plan(&Facts::default(), &[output_of(&batch)]).unwrap().outputs.remove(0);
    let what = twice.plan(&Facts::default(), &[output]).unwrap_err().remove(0).what;
    assert_eq!(what, "`a` has had the draw `noise/noise/energy of seed 0` before, and would get the same random numbers");
    assert_eq!(json!(twice.draw.value), "noise");
}
