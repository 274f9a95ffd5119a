//! The new order of a shuffle: each class spread evenly over the whole, every event once, a pure function of the counts.
//!
//! A row of rank `r` among the `n` of its lane (a class within an output) is the `j`-th of the new order of the lane, where `j`
//! is a keyed permutation of `r`; of the share `(rows, of)` of the lane it is taken where `j < rows`, and stands at
//! `(j + u) / of` of the way, `u` in [0, 1) a hash of seed, lane and `j`. A lane that repeats has a permutation for each time.
//! The output is the merge of its lanes by that place, cut into parts of equal numbers of events.
//!
//! Invariants: integers alone; the same on every process; in every window of the output the number of rows of each of K classes
//! is within 2 K of its share; parts are found without looking at any row.

use calostream_operators::permutation::Permutation;
use calostream_operators::work::Share;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The whole way, in units of a place.
const WHOLE: u64 = 1 << 63;
/// So many permutations of a lane that repeats are kept; those of later times are made when they are needed.
const KEPT: u64 = 64;

/// The order of one output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    seed: u64,
    lanes: Vec<LaneOrder>,
    /// For each boundary between parts (and both ends) the first row of each lane behind it.
    bounds: Vec<Vec<u64>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct LaneOrder {
    /// The number of the stratum.
    stratum: u16,
    /// Rows that there are.
    count: u64,
    share: Share,
    output: u8,
    permutations: Vec<Permutation>,
}

/// Where a row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The part.
    pub part: u32,
    /// The row within its lane.
    pub row: u64,
    /// How often it was there before.
    pub copy: u32,
}

impl Order {
    /// The order of an output, from how many rows each lane has, its share, and the rows of a part.
    #[must_use]
    pub fn new(seed: u64, output: u8, counts: &[u64], shares: &[Share], part_rows: u64) -> Self {
        let lane = |(stratum, (count, share)): (usize, (&u64, &Share))| {
            let mut lane = LaneOrder {
                stratum: u16::try_from(stratum).unwrap_or(u16::MAX),
                count: *count,
                share: if *count == 0 { Share::default() } else { *share },
                output,
                permutations: Vec::new(),
            };
            let times = if *count == 0 { 0 } else { lane.share.rows.div_ceil(*count).min(KEPT) };
            lane.permutations = (0..times).map(|time| lane.permutation(seed, time)).collect();
            lane
        };
        let lanes: Vec<LaneOrder> = counts.iter().zip(shares).enumerate().map(lane).collect();
        let mut order = Self { seed, lanes, bounds: Vec::new() };
        let (total, part_rows) = (order.rows(), part_rows.max(1));
        let parts = total.div_ceil(part_rows).max(1);
        order.bounds = (0..=parts).map(|k| order.bound((k * part_rows).min(total))).collect();
        order
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.share.rows).sum()
    }

    /// The number of parts; one where there is no row.
    #[must_use]
    pub fn parts(&self) -> u64 {
        self.bounds.len() as u64 - 1
    }

    /// Rows of a part, where none is lost.
    #[must_use]
    pub fn part_rows(&self, part: u64) -> u64 {
        let Ok(part) = usize::try_from(part) else { return 0 };
        let Some([from, to]) = self.bounds.get(part..part + 2) else { return 0 };
        to.iter().zip(from).map(|(to, from)| to - from).sum()
    }

    /// The rows `j` of a lane that a row of this rank becomes.
    fn taken(&self, stratum: u16, rank: u64) -> impl Iterator<Item = u64> {
        let lane = self.lanes.get(usize::from(stratum)).filter(|lane| rank < lane.count);
        let times = lane.map_or(0, |lane| lane.share.rows.div_ceil(lane.count));
        (0..times).filter_map(move |time| {
            let lane = lane?;
            let kept = usize::try_from(time).ok().and_then(|time| lane.permutations.get(time));
            let row = kept.map_or_else(|| lane.permutation(self.seed, time).of(rank), |p| p.of(rank));
            Some(time * lane.count + row).filter(|row| *row < lane.share.rows)
        })
    }

    /// Where a row of this rank in its lane goes: nowhere where it is not taken, several times where its lane repeats.
    pub fn seats(&self, stratum: u16, rank: u64) -> impl Iterator<Item = Seat> {
        self.taken(stratum, rank).map(move |row| {
            let lane = &self.lanes[usize::from(stratum)];
            let copy = u32::try_from(row / lane.count).unwrap_or(u32::MAX);
            Seat { part: self.part_of(stratum, row), row, copy }
        })
    }

    /// The part in which a row of a lane that there is stands.
    #[must_use]
    pub fn part_of(&self, stratum: u16, row: u64) -> u32 {
        let behind = self.bounds.partition_point(|bound| bound[usize::from(stratum)] <= row);
        u32::try_from(behind - 1).unwrap_or(u32::MAX)
    }

    /// What rows of the output are sorted by: ascending, and no two are equal.
    #[must_use]
    pub fn key(&self, stratum: u16, row: u64) -> (u64, u16, u64) {
        (self.lanes.get(usize::from(stratum)).map_or(WHOLE, |lane| lane.place(self.seed, row)), stratum, row)
    }

    /// How often a row stood in the order before.
    #[must_use]
    pub fn copy(&self, stratum: u16, row: u64) -> u32 {
        let lane = self.lanes.get(usize::from(stratum)).filter(|lane| lane.count > 0);
        lane.map_or(0, |lane| u32::try_from(row / lane.count).unwrap_or(u32::MAX))
    }

    /// Of each lane, how many rows there are and how many are taken.
    pub fn taken_of(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.lanes.iter().map(|lane| (lane.count, lane.share.rows))
    }

    /// What tells this order from another one.
    #[must_use]
    pub fn digest(&self) -> String {
        let lanes: Vec<String> =
            self.lanes.iter().map(|l| format!("{} of {} as {} of {}", l.stratum, l.count, l.share.rows, l.share.of)).collect();
        format!("seed {}, {}, {} parts", self.seed, lanes.join("; "), self.parts())
    }

    /// The first row of each lane behind the first `rows` rows of the output.
    fn bound(&self, rows: u64) -> Vec<u64> {
        let before = |place: u64| -> u64 { self.lanes.iter().map(|lane| lane.first_behind(self.seed, place)).sum() };
        // The largest place with no more rows before it.
        let (mut low, mut high) = (0, WHOLE);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if before(middle) <= rows { low = middle } else { high = middle - 1 }
        }
        let mut missing = rows - before(low);
        // Rows that stand at this very place: by lane.
        let take = |lane: &LaneOrder| {
            let first = lane.first_behind(self.seed, low);
            let more = (lane.first_behind(self.seed, low + 1) - first).min(missing);
            missing -= more;
            first + more
        };
        self.lanes.iter().map(take).collect()
    }
}

impl LaneOrder {
    fn permutation(&self, seed: u64, time: u64) -> Permutation {
        let mut purpose = [0; 11];
        purpose[0] = self.output;
        purpose[1..3].copy_from_slice(&self.stratum.to_le_bytes());
        purpose[3..].copy_from_slice(&time.to_le_bytes());
        Permutation::new(self.count, seed, &purpose)
    }

    /// The place of row `j`: ascending in `j`, below [`WHOLE`].
    fn place(&self, seed: u64, j: u64) -> u64 {
        let mut word = [0; 11];
        word[..8].copy_from_slice(&j.to_le_bytes());
        word[8..10].copy_from_slice(&self.stratum.to_le_bytes());
        word[10] = self.output;
        let fraction = xxh3_64_with_seed(&word, seed) >> 32;
        let scaled = ((u128::from(j) << 32) | u128::from(fraction)) << 31;
        u64::try_from(scaled / u128::from(self.share.of.max(1))).unwrap_or(WHOLE)
    }

    /// The first row whose place is at or behind this one.
    fn first_behind(&self, seed: u64, place: u64) -> u64 {
        // The j-th row stands between j and j + 1 of `of`: two rows are left to look at.
        let about = u128::from(place) * u128::from(self.share.of) / u128::from(WHOLE);
        let mut row = u64::try_from(about).unwrap_or(u64::MAX).saturating_sub(1).min(self.share.rows);
        while row < self.share.rows && self.place(seed, row) < place {
            row += 1;
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lanes() -> impl Strategy<Value = Vec<(u64, Share)>> {
        let lane = (0u64..300, 0u64..700, 0u64..100).prop_map(|(count, rows, more)| (count, Share { rows, of: rows + more }));
        prop::collection::vec(lane, 1..5)
    }

    fn order(seed: u64, lanes: &[(u64, Share)], part_rows: u64) -> Order {
        let (counts, shares): (Vec<u64>, Vec<Share>) = lanes.iter().copied().unzip();
        Order::new(seed, 1, &counts, &shares, part_rows)
    }

    proptest! {
        #[test]
        fn every_seat_is_taken_once_and_parts_are_cuts_of_the_order(seed: u64, lanes in lanes(), part_rows in 1u64..400) {
            let order = order(seed, &lanes, part_rows);
            let mut all = Vec::new();
            for (stratum, (count, share)) in lanes.iter().enumerate() {
                let stratum = u16::try_from(stratum).unwrap();
                let mut rows = Vec::new();
                for rank in 0..*count {
                    for seat in order.seats(stratum, rank) {
                        prop_assert_eq!((u64::from(seat.copy), seat.copy), (seat.row / count, order.copy(stratum, seat.row)));
                        rows.push(seat.row);
                        all.push((order.key(stratum, seat.row), seat.part));
                    }
                }
                rows.sort_unstable();
                let expected = if *count == 0 { 0 } else { share.rows };
                prop_assert_eq!(rows, (0..expected).collect::<Vec<_>>());
            }
            all.sort_unstable();
            prop_assert_eq!(all.len() as u64, order.rows());
            for (place, (_, part)) in all.iter().enumerate() {
                prop_assert_eq!(u64::from(*part), place as u64 / part_rows);
            }
            let rows: Vec<u64> = (0..order.parts()).map(|part| order.part_rows(part)).collect();
            prop_assert_eq!(rows.iter().sum::<u64>(), order.rows());
            prop_assert!(rows.iter().rev().skip(1).all(|n| *n == part_rows));
        }

        #[test]
        fn every_window_holds_the_classes_in_their_shares(seed: u64, counts in prop::collection::vec(20u64..300, 2..5), window in 1usize..200) {
            let lanes: Vec<(u64, Share)> = counts.iter().map(|n| (*n, Share { rows: *n, of: *n })).collect();
            let order = order(seed, &lanes, 1000);
            let mut all: Vec<_> = (0..u16::try_from(counts.len()).unwrap())
                .flat_map(|s| (0..counts[usize::from(s)]).map(move |row| (s, row)))
                .map(|(s, row)| order.key(s, row))
                .collect();
            all.sort_unstable();
            let total: u64 = counts.iter().sum();
            let within = 2.0 * counts.len() as f64;
            for seen in all.windows(window.min(all.len())) {
                for (stratum, count) in counts.iter().enumerate() {
                    let found = seen.iter().filter(|(_, s, _)| usize::from(*s) == stratum).count() as f64;
                    let share = seen.len() as f64 * *count as f64 / total as f64;
                    prop_assert!((found - share).abs() <= within, "{found} of class {stratum} in {}, share {share}", seen.len());
                }
            }
        }
    }

    #[test]
    fn a_class_that_ends_early_is_as_dense_as_its_share_until_then() {
        let order = order(3, &[(100, Share { rows: 100, of: 1000 }), (1000, Share { rows: 1000, of: 1000 })], 200);
        let of_part = |part: usize| order.bounds[part + 1][0] - order.bounds[part][0];
        assert!(of_part(0) >= 98 && of_part(1) <= 2 && of_part(3) == 0, "{:?}", order.bounds);
    }

    #[test]
    fn a_thousand_million_events_are_no_trouble() {
        let n = 1 << 30;
        let order = order(1, &[(n, Share { rows: n, of: n }), (3 * n, Share { rows: 3 * n, of: 3 * n })], 1 << 20);
        assert_eq!((order.parts(), order.part_rows(77)), (4096, 1 << 20));
        let seats: Vec<Seat> = order.seats(1, 12345).collect();
        assert_eq!(seats.len(), 1);
        assert!(
            order.bounds[seats[0].part as usize][1] <= seats[0].row && seats[0].row < order.bounds[seats[0].part as usize + 1][1]
        );
    }
}
