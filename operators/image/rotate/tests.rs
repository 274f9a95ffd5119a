use super::*;
use crate::testing::{cells_of, images, map_with, output_of};
use crate::trial::{at, problems, python, word};
use arrow::array::RecordBatch;
use proptest::prelude::*;
use serde_json::json;

fn rotate(names: &[&str], plane: [u32; 2], angle: Option<f64>) -> Rotate {
    let images = at(1, 1, names.iter().map(|name| word(name)).collect());
    Rotate { images, plane: at(2, 1, plane), angle: angle.map(|angle| at(3, 1, angle)), draw: at(4, 1, "rotate".into()) }
}

/// Events with an image of 3 x 3 x 2 and one of 4 x 5, without symmetry.
fn batch(events: &[u64]) -> RecordBatch {
    let image = |cells: usize| (0..cells).map(|i| i as f32).collect::<Vec<_>>().repeat(events.len());
    images(events, &[(&[3, 3, 2], &image(18)), (&[4, 5], &image(20))])
}

fn run(rotate: &Rotate, batch: &RecordBatch, epoch: u64) -> RecordBatch {
    let facts = Facts { seed: 5, epoch, ..Facts::default() };
    map_with(rotate, batch, &facts).map(batch.clone()).unwrap().batch
}

#[test]
fn an_angle_turns_as_numpy_does() {
    let batch = batch(&[1]);
    for (angle, quarters) in [(0.0, 0), (90.0, 1), (180.0, 2), (270.0, 3), (-90.0, 3), (450.0, 1)] {
        for plane in [[0, 1], [1, 0]] {
            let turned = run(&rotate(&["a", "a_dense"], plane, Some(angle)), &batch, 0);
            let script = "answer(np.rot90(np.arange(18).reshape(3, 3, 2), given['k'], given['plane']).reshape(-1).tolist())";
            let expected = python(script, &json!({ "k": quarters, "plane": plane }));
            let expected: Vec<f32> = expected.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
            assert_eq!(cells_of(&turned, "a"), expected, "{angle} degrees");
            assert_eq!(cells_of(&turned, "a_dense"), expected, "{angle} degrees");
        }
    }
    let half = run(&rotate(&["b"], [0, 1], Some(180.0)), &batch, 0);
    assert_eq!(cells_of(&half, "b"), (0..20).rev().map(|i| i as f32).collect::<Vec<_>>(), "4 x 5 keeps its shape");
}

#[test]
fn angles_are_drawn_evenly_and_anew_each_epoch() {
    let events: Vec<u64> = (0..4000_u64).map(|i| crate::column::event_identity("file", i)).collect();
    let batch = batch(&events);
    let rotate = rotate(&["a", "a_dense"], [0, 1], None);
    let quarters = |batch: &RecordBatch, name: &str| -> Vec<usize> {
        let corner = |image: &[f32]| [0, 4, 16, 12].iter().position(|corner| image[*corner] == 0.0).unwrap();
        cells_of(batch, name).chunks_exact(18).map(corner).collect()
    };
    let first = quarters(&run(&rotate, &batch, 0), "a");
    assert_eq!(quarters(&run(&rotate, &batch, 0), "a_dense"), first, "images of an event turn together");
    let count = |of: &dyn Fn(usize) -> bool| (0..4000).filter(|i| of(*i)).count() as f64;
    for angle in 0..4 {
        // Four standard deviations of a quarter of 4,000.
        assert!((count(&|i| first[i] == angle) - 1000.0).abs() < 110.0);
    }
    let second = quarters(&run(&rotate, &batch, 1), "a");
    assert!((count(&|i| first[i] == second[i]) - 1000.0).abs() < 110.0, "another epoch");
}

proptest! {
    #[test]
    fn a_draw_does_not_depend_on_batches(events in prop::collection::vec(any::<u64>(), 1..30), cut in 0_usize..30) {
        let rotate = rotate(&["a", "a_dense"], [1, 0], None);
        let whole = batch(&events);
        let cut = cut.min(events.len());
        let turned = run(&rotate, &whole, 0);
        prop_assert_eq!(run(&rotate, &whole.slice(0, cut), 0), turned.slice(0, cut));
        prop_assert_eq!(run(&rotate, &whole.slice(cut, events.len() - cut), 0), turned.slice(cut, events.len() - cut));
    }
}

#[test]
fn what_would_not_keep_cells_whole_is_refused() {
    let batch = batch(&[1]);
    assert_eq!(
        problems(&rotate(&["a", "b"], [0, 2], Some(45.0)), &batch),
        [
            "2:1 `b` has no axes 0 and 2: its shape is [4, 5]",
            "2:1 axes 0 and 2 of `a` are of 3 and 2 cells (only `angle: 180` keeps the shape)",
            "3:1 45 degrees would put the energy of a cell between cells (give a multiple of 90, or leave `angle` out for a random one of these)",
        ]
    );
    let expected = ["2:1 axes 0 and 1 of `b` are of 4 and 5 cells (only `angle: 180` keeps the shape)"];
    assert_eq!(problems(&rotate(&["b"], [0, 1], None), &batch), expected);
    assert_eq!(problems(&rotate(&["a"], [1, 1], Some(90.0)), &batch), ["2:1 axis 1 alone makes no plane (plane: [0, 1])"]);
    let drawn = rotate(&["a"], [0, 1], None);
    let output = drawn.plan(&Facts::default(), &[output_of(&batch)]).unwrap().outputs.remove(0);
    let what = drawn.plan(&Facts::default(), &[output]).unwrap_err().remove(0).what;
    assert_eq!(what, "`a` has had the draw `rotate/rotate of seed 0` before, and would get the same random numbers");
}
