//! The rows of a unit that do not fill a batch of B.
//!
//! Sessions see batches of B, B/2, B/4, .. 1 rows and no others, so that their arenas do not grow. On a GPU, where each run costs more
//! than some padding, a tail is one of them, padded. On a CPU, where a row costs much the same in a small batch (the network of
//! `make bench`, 5 million weights: 399 µs at 128 rows, 408 at 32, 484 at 8), a tail is several of them, and only where little is
//! missing the last is padded.

/// The smallest of `batch`, `batch`/2, .. 1 that holds `rows`, where `1 <= rows <= batch`.
pub(super) fn padded(rows: usize, batch: usize) -> usize {
    let mut size = batch;
    while size / 2 >= rows {
        size /= 2;
    }
    size
}

/// The sizes of the runs that take `rows` rows between them, each of `batch`, `batch`/2, .. 1.
pub(super) fn halves(mut rows: usize, batch: usize) -> Vec<usize> {
    let (mut sizes, mut batch) = (Vec::new(), batch);
    while rows > 0 {
        let size = padded(rows, batch);
        if size - rows <= (size / 8).max(4) {
            sizes.push(size);
            break;
        }
        batch = size / 2;
        sizes.push(batch);
        rows -= batch;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tails_have_few_sizes_and_little_padding(rows in 1_usize..2000, more in 0_usize..2000) {
            let batch = rows + more;
            let all: Vec<usize> = std::iter::successors(Some(batch), |b| Some(b / 2).filter(|b| *b > 0)).collect();
            prop_assert_eq!(padded(rows, batch), *all.iter().rev().find(|b| **b >= rows).unwrap());
            let sizes = halves(rows, batch);
            let sum: usize = sizes.iter().sum();
            prop_assert!(sizes.iter().all(|size| all.contains(size)) && sizes.is_sorted_by(|a, b| a >= b), "{:?}", sizes);
            prop_assert!(rows <= sum && sum <= padded(rows, batch) && sum - rows <= (rows / 7).max(4), "{:?}", sizes);
        }
    }

    #[test]
    fn a_tail_is_computed_in_halves() {
        assert_eq!(halves(104, 128), [64, 32, 8]);
        assert_eq!(halves(120, 128), [128]);
        assert_eq!(halves(128, 128), [128]);
        assert_eq!(halves(1, 128), [1]);
        assert_eq!(halves(13, 25), [12, 1]);
    }
}
