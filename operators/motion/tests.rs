use super::*;
use crate::testing::{cells_of, images};
use crate::trial::python;
use proptest::prelude::*;
use serde_json::json;

/// The hits of each event ascend, and are no more or fewer than the cells that are not zero.
pub(crate) fn keeps_the_promise(column: &dyn Array, dense: &[f32]) {
    let list = column.as_list::<i32>();
    let (hits, from) = rows_of(list).unwrap();
    let cells = cast(hits.column(0), &DataType::UInt32).unwrap();
    for ends in list.value_offsets().windows(2) {
        let of_row = &cells.as_primitive::<UInt32Type>().values()[(ends[0] - from) as usize..(ends[1] - from) as usize];
        assert!(of_row.windows(2).all(|pair| pair[0] < pair[1]), "{of_row:?}");
    }
    assert_eq!(hits.len(), dense.iter().filter(|v| v.to_bits() != 0).count());
}

#[test]
fn flips_and_turns_are_those_of_numpy() {
    for shape in [vec![4_usize, 4, 3], vec![3, 5, 5], vec![2, 3, 2], vec![6], vec![4, 4]] {
        let cells: usize = shape.iter().product();
        let mut motions = Vec::new();
        let mut said = Vec::new();
        for axis in 0..shape.len() {
            motions.push(Motion::rest(&shape).flipped(axis));
            said.push(json!({ "flip": [axis] }));
        }
        if shape.len() > 1 {
            motions.push(Motion::rest(&shape).flipped(0).flipped(1));
            said.push(json!({ "flip": [0, 1] }));
        }
        for (a, b) in (0..shape.len()).flat_map(|a| (0..shape.len()).map(move |b| (a, b))).filter(|(a, b)| a != b) {
            for quarters in 0..4 {
                if shape[a] == shape[b] || quarters % 2 == 0 {
                    motions.push(Motion::turned(&shape, [a, b], quarters));
                    said.push(json!({ "turn": [a, b], "k": quarters }));
                }
            }
        }
        let image: Vec<f32> = (0..cells).map(|cell| if cell % 3 == 0 { 0.0 } else { cell as f32 }).collect();
        let script = "
image = np.array(given['image']).reshape(given['shape'])
move = lambda m: np.flip(image, m['flip']) if 'flip' in m else np.rot90(image, m['k'], m['turn'])
answer([move(m).reshape(-1).tolist() for m in given['moves']])
";
        let expected = python(script, &json!({ "image": image, "shape": shape, "moves": said }));
        let batch = images(&vec![0; motions.len()], &[(&shape, &image.repeat(motions.len()))]);
        let which: Vec<usize> = (0..motions.len()).collect();
        for name in ["a", "a_dense"] {
            let column = moved(batch.column_by_name(name).unwrap(), &motions, &which).unwrap();
            let mut columns = batch.columns().to_vec();
            columns[batch.schema().index_of(name).unwrap()] = column.clone();
            let found = cells_of(&RecordBatch::try_new(batch.schema(), columns).unwrap(), name);
            for ((found, expected), said) in found.chunks_exact(cells).zip(expected.as_array().unwrap()).zip(&said) {
                assert_eq!(&json!(found), expected, "{said} of {shape:?} as {name}");
            }
            if name == "a" {
                keeps_the_promise(&column, &found);
            }
        }
    }
}

proptest! {
    #[test]
    fn rows_of_a_slice_are_moved_as_those_of_the_whole(
        values in prop::collection::vec(prop_oneof![3 => Just(0.0_f32), 1 => Just(-0.0_f32), 2 => -5.0_f32..5.0], 90),
        which in prop::collection::vec(0_usize..4, 10),
        first in 0_usize..10,
        length in 0_usize..10,
    ) {
        let shape = [3, 3];
        let motions: Vec<Motion> = (0..4).map(|quarters| Motion::turned(&shape, [0, 1], quarters)).collect();
        let batch = images(&[0; 10], &[(&shape, &values)]);
        let length = length.min(10 - first);
        for column in &batch.columns()[1..] {
            let whole = moved(column, &motions, &which).unwrap();
            prop_assert_eq!(whole.data_type(), column.data_type());
            let part = moved(&column.slice(first, length), &motions, &which[first..first + length]).unwrap();
            prop_assert_eq!(&part, &whole.slice(first, length));
            let back: Vec<usize> = which.iter().map(|quarters| (4 - quarters) % 4).collect();
            prop_assert_eq!(&moved(&whole, &motions, &back).unwrap(), column);
        }
    }
}

#[test]
fn a_hit_outside_of_the_image_is_refused() {
    let batch = images(&[0], &[(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])]);
    let smaller = [Motion::rest(&[5]).flipped(0)];
    assert_eq!(moved(batch.column(1), &smaller, &[0]).unwrap_err().to_string(), "a hit in cell 5 of 5");
    assert_eq!(moved(batch.column(2), &smaller, &[0]).unwrap_err().to_string(), "images of 6 cells, not 5");
}
