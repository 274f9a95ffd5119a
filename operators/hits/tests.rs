use super::*;
use arrow::datatypes::{Float64Type, Int16Type};
use proptest::prelude::*;

fn energy(of: DataType) -> Vec<Field> {
    vec![Field::new("energy", of, false)]
}

/// The hits of some images in a row.
fn hits<T: ArrowPrimitiveType>(shape: &[usize], images: &[T::Native], of: DataType) -> ListArray {
    let cells = shape.iter().product();
    let mut builder = HitsBuilder::<T>::default();
    for image in images.chunks_exact(cells) {
        builder.push_dense(image);
        builder.end_event();
    }
    builder.finish(&hits_field("ecal", shape, &energy(of))).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Mostly +0, and everything else that a float can be.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => Just(0.0f32),
        1 => Just(-0.0f32),
        1 => Just(f32::NAN),
        1 => any::<u32>().prop_map(f32::from_bits),
        2 => -5.0f32..5.0,
    ]
}

proptest! {
    #[test]
    fn dense_to_hits_to_dense_gives_back_every_bit(
        images in prop::collection::vec(value(), 12..120),
        cut in (0usize..6, 0usize..6),
    ) {
        let rows = images.len() / 12;
        let images = &images[..rows * 12];
        let column = hits::<Float32Type>(&[2, 3, 2], images, DataType::Float32);
        prop_assert_eq!(column.value_offsets().last().copied().unwrap() as usize, images.iter().filter(|v| v.to_bits() != 0).count());
        let (first, length) = (cut.0.min(rows), cut.1.min(rows - cut.0.min(rows)));
        let expected = bits(&images[first * 12..(first + length) * 12]);
        let mut into = vec![7.0; length * 12];
        to_dense(&column, 12, 0, first, length, &mut into).unwrap();
        prop_assert_eq!(bits(&into), expected.clone(), "rows of the whole column");
        into.fill(7.0);
        to_dense(&column.slice(first, length), 12, 0, 0, length, &mut into).unwrap();
        prop_assert_eq!(bits(&into), expected.clone(), "a slice of it");
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let dense = FixedSizeListArray::new(item, 12, Arc::new(Float32Array::from(images.to_vec())), None);
        into.fill(7.0);
        to_dense(&dense, 12, 0, first, length, &mut into).unwrap();
        prop_assert_eq!(bits(&into), expected.clone(), "a dense column");
        into.fill(7.0);
        to_dense(&dense.slice(first, length), 12, 0, 0, length, &mut into).unwrap();
        prop_assert_eq!(bits(&into), expected, "a slice of it");
    }
}

#[test]
fn cells_are_as_wide_as_the_shape_needs() {
    for (shape, of) in [([256, 256], DataType::UInt16), ([257, 256], DataType::UInt32)] {
        let cells = shape.iter().product::<usize>();
        let mut image = vec![0f32; cells];
        (image[0], image[cells - 1]) = (1.5, -2.5);
        let column = hits::<Float32Type>(&shape, &image, DataType::Float32);
        assert_eq!(column.values().as_struct().column(0).data_type(), &of);
        let mut into = vec![0.0; cells];
        to_dense(&column, cells, 0, 0, 1, &mut into).unwrap();
        assert_eq!(into, image);
    }
}

#[test]
fn other_types_are_rounded_to_f32() {
    let mut into = [9.0; 4];
    let column = hits::<Float64Type>(&[4], &[0.1, 0.0, -3.0, 0.0], DataType::Float64);
    to_dense(&column, 4, 0, 0, 1, &mut into).unwrap();
    assert_eq!(into, [0.1f32, 0.0, -3.0, 0.0]);
    let column = hits::<Int16Type>(&[4], &[0, -7, 0, 12], DataType::Int16);
    to_dense(&column, 4, 0, 0, 1, &mut into).unwrap();
    assert_eq!(into, [0.0, -7.0, 0.0, 12.0]);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let column = hits::<Float32Type>(&[4], &[0.0, 1.0, 0.0, 2.0], DataType::Float32);
    let mut into = [0.0; 3];
    let error = to_dense(&column, 3, 0, 0, 1, &mut into).unwrap_err();
    assert_eq!(error.to_string(), "a hit lies outside of the 3 cells");
    let mut into = [0.0; 8];
    assert!(to_dense(&column, 4, 0, 0, 2, &mut into).is_err(), "one row, not two");
    assert!(to_dense(&column, 4, 1, 0, 1, &mut into[..4]).is_err(), "one value, not two");
    assert!(to_dense(&Float32Array::from(vec![1.0]), 1, 0, 0, 1, &mut into[..1]).is_err(), "no image");
}

#[test]
fn fields_carry_their_shape() {
    let field = hits_field(
        "ecal",
        &[2, 3],
        &[Field::new("energy", DataType::Float32, false), Field::new("time", DataType::Float32, false)],
    );
    assert!(is_hits(&field));
    assert_eq!((shape(&field), value_names(&field)), (Some(vec![2, 3]), vec!["energy".to_owned(), "time".to_owned()]));
    let field = dense_field("wave", &[5, 7], DataType::Float32);
    assert!(!is_hits(&field));
    assert_eq!(shape(&field), Some(vec![5, 7]));
    assert_eq!(shape(&Field::new("energy", DataType::Float32, false)), None);
}

#[test]
fn a_missing_image_is_no_image_without_hits() {
    use arrow::buffer::NullBuffer;
    let known = hits::<Float32Type>(&[2, 2], &[0., 1., 0., 0., 0., 0., 0., 0., 2., 0., 0., 0.], DataType::Float32);
    let (item, offsets, values, _) = known.into_parts();
    let column = ListArray::new(item, offsets, values, Some(NullBuffer::from(vec![true, false, true])));
    let mut into = vec![7.0; 12];
    to_dense(&column, 4, 0, 0, 3, &mut into).unwrap();
    assert!(into[4..8].iter().all(|v| v.is_nan()) && into[..4] == [0., 1., 0., 0.] && into[8..] == [2., 0., 0., 0.]);
    to_dense(&column.slice(1, 2), 4, 0, 0, 2, &mut into[..8]).unwrap();
    assert!(into[..4].iter().all(|v| v.is_nan()) && into[4..8] == [2., 0., 0., 0.]);
    let dense = tensors(&column, 4, 0).unwrap();
    assert!(dense.is_null(1) && dense.null_count() == 1 && dense.values().null_count() == 0);
    to_dense(&dense, 4, 0, 1, 2, &mut into[..8]).unwrap();
    assert!(into[..4].iter().all(|v| v.is_nan()) && into[4..8] == [2., 0., 0., 0.]);
    let field = hits_field("x", &[2, 2], &energy(DataType::Float32)).with_nullable(true);
    assert!(tensor_field(&field, 0, "x_dense").unwrap().is_nullable());
}
