//! In which order, and to which partial sums, ONNX Runtime adds the products of a convolution on a CPU.
//!
//! Sums of a few hundred products differ by their order in the last digits, and a network can magnify that twentyfold. So a convolution
//! from hits adds as MLAS does, of which there are three ways (`MlasConv`, and `NchwcTransformer` for images of two axes):
//!
//! - as a product of matrices, (filter, channel and kernel) times (channel and kernel, place): in the order of channels and kernel, some
//!   128 products to a partial sum, more where there are few places (`MLAS_SGEMM_STRIDEK`);
//! - images of two axes with fewer channels than a vector holds: in the same order, all to one sum;
//! - images of two axes with more, where they are a multiple of four: the channels of one vector to a partial sum, in the order of the kernel,
//!   channels last.
//!
//! For one place of the result, the order of the kernel is that of the cells.

/// Products of a partial sum, and places, in a product of matrices.
const STRIDES: (usize, usize) = (128, 128);
/// Channels must be a multiple of these to be laid out in vectors.
const ALIGNED: usize = 4;

/// How the products of a place are summed, by their numbers in (channel, kernel).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summing {
    all: usize,
    /// Products of a partial sum.
    each: usize,
    /// Channels of a partial sum, where they come last in it.
    vector: Option<usize>,
}

impl Summing {
    /// Of a convolution over so many axes, with so many channels, weights of a channel, and places.
    pub(super) fn of(axes: usize, channels: usize, kernel: usize, places: usize) -> Self {
        Self::with_vectors(axes, channels, kernel, places, vector())
    }

    fn with_vectors(axes: usize, channels: usize, kernel: usize, places: usize, vector: usize) -> Self {
        let all = channels * kernel;
        if axes == 2 && channels < vector {
            return Self { all, each: all, vector: None };
        }
        if axes == 2 && channels.is_multiple_of(ALIGNED) {
            return Self { all, each: vector * kernel, vector: Some(vector) };
        }
        let (mut each, mut along) = STRIDES;
        while places < all && along > 16 && along / 2 >= places {
            (each, along) = (2 * each, along / 2);
        }
        Self { all, each, vector: None }
    }

    /// The products of each partial sum.
    pub(super) fn partial(self) -> impl Iterator<Item = std::ops::Range<usize>> {
        (0..self.all).step_by(self.each).map(move |first| first..(first + self.each).min(self.all))
    }

    /// How hits get into the order of the sums; none where it is that of their cells already. `cells` are the places of cells in (channel,
    /// image).
    pub(super) fn order(self, cells: &[u32], image: [usize; 3]) -> Option<Order> {
        let places = image.iter().product::<usize>().max(1) as u64;
        let rank = |cell: &u32| {
            let (channel, place) = (u64::from(*cell) / places, u64::from(*cell) % places);
            match self.vector.map(|vector| vector as u64) {
                None => u64::from(*cell),
                Some(vector) => ((channel / vector) * places + place) * vector + channel % vector,
            }
        };
        let bucket = |cell: &u32| (u64::from(*cell) / places) as usize / self.vector.unwrap_or(1);
        if cells.is_sorted_by_key(rank) {
            return None;
        }
        let buckets: Vec<u32> = cells.iter().map(|cell| bucket(cell) as u32).collect();
        let number = buckets.iter().max().map_or(0, |last| *last as usize + 1);
        Some(Order { ranks: cells.iter().map(rank).collect(), buckets, number })
    }
}

/// Channels of a vector: of AVX-512, or of AVX.
fn vector() -> usize {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        return 16;
    }
    8
}

/// An order of cells.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// Of each cell.
    ranks: Vec<u64>,
    /// The channel of each cell, or its vector of channels: those of lower ones have lower ranks.
    buckets: Vec<u32>,
    number: usize,
}

impl Order {
    /// Sorts what has cells; `room` is kept from one time to the next.
    pub(super) fn sort<T: Copy>(&self, hits: &mut Vec<T>, cell: impl Fn(&T) -> u32, room: &mut Vec<T>) {
        let Some(first) = hits.first().copied() else { return };
        let rank = |hit: &T| self.ranks[cell(hit) as usize];
        // By buckets first, in which the order of cells mostly is that of ranks.
        let mut starts = vec![0_usize; self.number + 1];
        hits.iter().for_each(|hit| starts[self.buckets[cell(hit) as usize] as usize + 1] += 1);
        (0..self.number).for_each(|bucket| starts[bucket + 1] += starts[bucket]);
        room.clear();
        room.resize(hits.len(), first);
        for hit in &*hits {
            let at = &mut starts[self.buckets[cell(hit) as usize] as usize];
            room[*at] = *hit;
            *at += 1;
        }
        std::mem::swap(hits, room);
        if !hits.is_sorted_by_key(rank) {
            hits.sort_by_key(rank);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where partial sums end.
    fn ends(axes: usize, channels: usize, kernel: usize, places: usize) -> Vec<usize> {
        Summing::with_vectors(axes, channels, kernel, places, 16).partial().map(|sum| sum.end).collect()
    }

    #[test]
    fn partial_sums_are_those_of_its_ways() {
        assert_eq!(ends(3, 1, 64, 10_000), [64]);
        assert_eq!(ends(2, 25, 9, 529), [128, 225]);
        assert_eq!(ends(3, 25, 9, 40), [225]);
        assert_eq!(ends(2, 3, 49, 900), [147]);
        assert_eq!(ends(2, 20, 9, 900), [144, 180]);
    }

    #[test]
    fn hits_are_sorted_into_the_order_of_sums() {
        // The channel is the last axis of four places and 20 channels.
        let cells: Vec<u32> = (0..80).map(|cell| cell % 20 * 4 + cell / 20).collect();
        for (axes, wanted) in [(3, vec![0, 20, 40, 60, 1, 21]), (2, vec![0, 1, 2, 3, 4, 5])] {
            let order = Summing::with_vectors(axes, 20, 9, 900, 16).order(&cells, [1, 2, 2]).unwrap();
            let (mut hits, mut room) = ((0..80).collect::<Vec<u32>>(), Vec::new());
            order.sort(&mut hits, |hit| *hit, &mut room);
            assert_eq!(hits[..6], wanted, "{axes} axes");
            if axes == 2 {
                assert_eq!(hits[14..18], [14, 15, 20, 21]);
                assert_eq!(hits[64..68], [16, 17, 18, 19]);
            }
        }
        assert!(Summing::with_vectors(3, 20, 9, 900, 16).order(&(0..80).collect::<Vec<_>>(), [1, 2, 2]).is_none());
    }
}
