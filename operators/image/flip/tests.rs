use super::*;
use crate::testing::{cells_of, images, map_with, output_of};
use crate::trial::{at, word};
use arrow::array::RecordBatch;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn flip(names: &[&str], axes: &[u32], probability: f64, draw: &str) -> Flip {
    let images = at(1, 1, names.iter().map(|name| word(name)).collect());
    let axes = at(2, 1, axes.iter().map(|axis| at(2, 2, *axis)).collect());
    Flip { images, axes, probability: at(3, 1, probability), draw: at(4, 1, draw.to_owned()) }
}

const SHAPES: [&[usize]; 2] = [&[3, 4], &[3, 2, 2]];

/// Events whose images are all different and without symmetry.
fn batch(events: &[u64]) -> RecordBatch {
    let image = |cells: usize, event: &u64| (0..cells).map(|i| i as f32 + (*event % 97) as f32 / 100.0).collect::<Vec<_>>();
    let values = [12, 12].map(|cells| events.iter().flat_map(|event| image(cells, event)).collect::<Vec<f32>>());
    images(events, &[(SHAPES[0], &values[0]), (SHAPES[1], &values[1])])
}

fn run(flip: &Flip, batch: &RecordBatch, seed: u64, epoch: u64) -> RecordBatch {
    let facts = Facts { seed, epoch, ..Facts::default() };
    map_with(flip, batch, &facts).map(batch.clone()).unwrap().batch
}

/// For each event whether axis 0 and axis 1 are flipped, as is seen in an image without symmetry.
fn seen(batch: &RecordBatch, name: &str) -> Vec<(bool, bool)> {
    let values = cells_of(batch, name);
    let stride = if name.starts_with('a') { [4, 1] } else { [4, 2] };
    values.chunks_exact(12).map(|image| (image[0] > image[stride[0]], image[0] > image[stride[1]])).collect()
}

proptest! {
    #[test]
    fn a_draw_belongs_to_the_event_and_not_to_its_place(
        mut events in prop::collection::vec(any::<u64>(), 1..40),
        cut in 0_usize..40,
        turn in 0_usize..40,
    ) {
        let flip = flip(&["a", "a_dense", "b"], &[0, 1], 0.5, "flip");
        let of: BTreeMap<u64, _> = events.iter().copied().zip(seen(&run(&flip, &batch(&events), 3, 0), "a")).collect();
        let turn = turn % events.len();
        events.rotate_left(turn);
        let whole = batch(&events);
        let cut = cut.min(events.len());
        for part in [whole.slice(0, cut), whole.slice(cut, events.len() - cut)] {
            let flipped = run(&flip, &part, 3, 0);
            let expected: Vec<_> = crate::draw::events(&part).unwrap().iter().map(|event| of[event]).collect();
            for image in ["a", "a_dense", "b"] {
                prop_assert_eq!(&seen(&flipped, image), &expected, "images of an event move together: {}", image);
            }
        }
    }
}

#[test]
fn always_twice_is_as_before() {
    let batch = batch(&[1, 2, 3]);
    let flip = flip(&["a", "b", "b_dense"], &[0, 1], 1.0, "flip");
    let once = run(&flip, &batch, 1, 0);
    assert!(seen(&once, "a").iter().all(|seen| *seen == (true, true)));
    let twice = run(&flip, &once, 1, 0);
    assert_eq!(twice.columns(), batch.columns());
    let planned = flip.plan(&Facts::default(), &[output_of(&batch)]).unwrap();
    assert_eq!(planned.reads, [Reads::columns(["a", "b", "b_dense"])], "no draw, no event");
}

#[test]
fn axes_are_drawn_independently_at_their_rate_and_anew_each_epoch() {
    let events: Vec<u64> = (0..4000_u64).map(|i| crate::column::event_identity("file", i)).collect();
    let batch = batch(&events);
    let rate = |seen: &[(bool, bool)], of: fn(&(bool, bool)) -> bool| seen.iter().filter(|s| of(s)).count() as f64 / 4000.0;
    let thirty = flip(&["a"], &[0, 1], 0.3, "flip");
    let first = seen(&run(&thirty, &batch, 3, 0), "a");
    // Four standard deviations of a fraction of 4,000.
    for (found, expected) in [(rate(&first, |s| s.0), 0.3), (rate(&first, |s| s.1), 0.3), (rate(&first, |s| s.0 && s.1), 0.09)] {
        assert!((found - expected).abs() < 4.0 * (expected * (1.0 - expected) / 4000.0_f64).sqrt(), "{found} is not {expected}");
    }
    assert_eq!(seen(&run(&thirty, &batch, 3, 0), "a"), first, "the same each time");
    let other = flip(&["a"], &[0, 1], 0.3, "other");
    for (what, again) in
        [("epoch", run(&thirty, &batch, 3, 1)), ("seed", run(&thirty, &batch, 4, 0)), ("name", run(&other, &batch, 3, 0))]
    {
        let again = seen(&again, "a");
        let equal = again.iter().zip(&first).filter(|(x, y)| x.0 == y.0).count() as f64 / 4000.0;
        // Independent draws agree in 0.3^2 + 0.7^2 of the events.
        assert!((equal - 0.58).abs() < 0.032, "another {what}: {equal} agree");
    }
}

#[test]
fn every_mistake_is_said_at_once() {
    let batch = batch(&[1]);
    let mut wrong = flip(&["a", "event", "a", "ecal"], &[0, 2, 0], 1.5, "flip");
    let problems = crate::trial::problems(&wrong, &batch);
    assert_eq!(
        problems,
        [
            "0:0 `a` is named twice",
            "0:0 column `event` is no image (there is a, a_dense, b, b_dense)",
            "0:0 no column `ecal` (there is event, a, a_dense, b, b_dense)",
            "2:2 `a` has no axis 2: its shape is [3, 4] (axes go from 0 to 1)",
            "2:2 axis 0 is named twice",
            "3:1 a probability of 1.5 (it is above 0, and 1 for always)",
        ]
    );
    wrong.probability = at(3, 1, 0.5);
    wrong.images = at(1, 1, vec![]);
    wrong.axes = at(2, 1, vec![]);
    let no_events = batch.project(&[1, 2]).unwrap();
    let problems = crate::trial::problems(&wrong, &no_events);
    let expected = [
        "1:1 no image is named (images: [ecal, hcal])",
        "2:1 no axis to flip (axes: [0, 1])",
        "4:1 draws need the column `event`, which every source makes",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn the_same_draw_twice_for_one_image_is_refused() {
    let batch = batch(&[1]);
    let first = flip(&["a"], &[0], 0.5, "flip");
    let mut output = first.plan(&Facts::default(), &[output_of(&batch)]).unwrap().outputs.remove(0);
    let problem = first.plan(&Facts::default(), &[output.clone()]).unwrap_err().remove(0);
    assert_eq!(problem.what, "`a` has had the draw `flip/flip/0 of seed 0` before, and would get the same random numbers");
    for fine in [flip(&["b"], &[0], 0.5, "flip"), flip(&["a"], &[1], 0.5, "flip"), flip(&["a"], &[0], 0.5, "second")] {
        output = fine.plan(&Facts::default(), &[output]).unwrap().outputs.remove(0);
    }
    let other_seed = Facts { seed: 1, ..Facts::default() };
    assert!(first.plan(&other_seed, &[output]).is_ok(), "what another run wrote may be flipped anew");
}
