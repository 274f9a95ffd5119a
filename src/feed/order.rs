//! The order of an epoch: a pure function of the seed, the epoch and the list of pieces (units), known without any data.
//!
//! Three levels. The pieces of each class are permuted, and a few of them lie open side by side: rows come from them in turn, a
//! grain at a time. The classes (of pieces that are of one class) are merged so that each has its share everywhere: its `j`-th
//! of `m` grains stands at `(2j + 1) / 2m` of the way. That numbers the rows: `g`. Then each row is delayed by a draw of its own,
//! `key = g + u * window` with `u` in [0, 1), and rows stand in the order of their keys; the rank of its key is a row's position.
//!
//! Delays rather than a buffer from which rows are drawn, because then what has to be known of a position is near it: `key` of a
//! row is at least `g` and less than `g + window`, so the row at position `p` has a `g` above `p - window` and below `p + window`.
//! Hence a feed can begin anywhere, ranks are ranges of positions, and as soon as `window` rows are in memory each row that
//! is read lets one go: no burst, no pause.
//!
//! Integers alone; nothing depends on threads, machines or memory.

use calostream_operators::Unit;
use calostream_operators::column::mix;
use calostream_operators::permutation::Permutation;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Rows that are taken from a piece at a time.
const GRAIN: u64 = 16;

/// Pieces of one class (or all, where they are of none), and the lanes that read them.
#[derive(Debug, Clone)]
struct Stratum {
    pieces: Vec<usize>,
    grains: u64,
    lanes: Range<usize>,
}

/// The orders of all epochs.
#[derive(Debug, Clone)]
pub struct Order {
    seed: u64,
    window: u64,
    rows: Vec<u64>,
    strata: Vec<Stratum>,
    total: u64,
}

/// Rows of a piece that follow each other: `rows` of them from `first` on, numbered from `g` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grain {
    /// Who reads them.
    pub lane: usize,
    /// The piece.
    pub piece: usize,
    /// The first row in the piece.
    pub first: u64,
    /// How many.
    pub rows: u64,
    /// The number of the first.
    pub g: u64,
}

impl Order {
    /// The order of these pieces, of which so many lie open at once (of each class at least one).
    pub fn new(units: &[Unit], seed: u64, window: u64, at_once: usize) -> Self {
        let mut classes: Vec<Option<&str>> = Vec::new();
        for unit in units {
            if !classes.contains(&unit.sample.as_deref()) {
                classes.push(unit.sample.as_deref());
            }
        }
        let mut strata: Vec<Stratum> = Vec::new();
        for class in &classes {
            let of = |(_, unit): &(usize, &Unit)| unit.sample.as_deref() == *class && unit.rows > 0;
            let pieces: Vec<usize> = units.iter().enumerate().filter(of).map(|(number, _)| number).collect();
            let grains = pieces.iter().map(|piece| units[*piece].rows.div_ceil(GRAIN)).sum();
            if !pieces.is_empty() {
                strata.push(Stratum { pieces, grains, lanes: 0..1 });
            }
        }
        // One each; the others where there are the most rows a lane.
        for _ in strata.len()..at_once {
            let open = strata.iter_mut().filter(|stratum| stratum.lanes.end < stratum.pieces.len());
            let more = open.max_by(|a, b| (a.grains * b.lanes.end as u64).cmp(&(b.grains * a.lanes.end as u64)));
            more.into_iter().for_each(|stratum| stratum.lanes.end += 1);
        }
        let mut lane = 0;
        for stratum in &mut strata {
            stratum.lanes = lane..lane + stratum.lanes.end;
            lane = stratum.lanes.end;
        }
        let rows: Vec<u64> = units.iter().map(|unit| unit.rows).collect();
        Self { seed, window, total: rows.iter().sum(), rows, strata }
    }

    /// Rows of an epoch.
    pub fn rows(&self) -> u64 {
        self.total
    }

    /// How far a row is moved, at most.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// How many pieces are read side by side.
    pub fn lanes(&self) -> usize {
        self.strata.last().map_or(0, |last| last.lanes.end)
    }

    /// The positions of rank `rank` of `of`.
    pub fn positions(&self, rank: u64, of: u64) -> Range<u64> {
        let bound = |rank: u64| (u128::from(self.total) * u128::from(rank) / u128::from(of.max(1))) as u64;
        bound(rank)..bound(rank + 1)
    }

    /// The numbers `g` that rows at these positions may have.
    pub fn numbers(&self, positions: &Range<u64>) -> Range<u64> {
        if positions.is_empty() {
            return positions.start..positions.start;
        }
        positions.start.saturating_sub(self.window)..positions.end.saturating_add(self.window).min(self.total)
    }

    /// Where rows stand: they are in the order of this and, where it is equal, of `g`. Above 32 fractional bits it is `g` plus a delay.
    pub fn keys(&self, epoch: u32) -> impl Fn(u64) -> u128 + use<> {
        let (key, window) = (xxh3_64_with_seed(b"feed/window", mix(self.seed ^ u64::from(epoch) << 32)), u128::from(self.window));
        move |g| (u128::from(g) << 32) + u128::from(mix(g ^ key) >> 32) * window
    }

    /// The grains of an epoch that have a number in this range, cut to it.
    pub fn grains(&self, epoch: u32, numbers: Range<u64>) -> impl Iterator<Item = Grain> + '_ {
        let cut = move |grain: Grain| {
            let (from, to) = (grain.g.max(numbers.start), (grain.g + grain.rows).min(numbers.end));
            (from < to).then(|| Grain { first: grain.first + from - grain.g, rows: to - from, g: from, ..grain })
        };
        let end = numbers.end;
        Walk::new(self, epoch).take_while(move |grain| grain.g < end).filter_map(cut)
    }

    /// What each lane reads in an epoch: pieces in order, with the rows that are wanted of each.
    pub fn lists(&self, epoch: u32, numbers: Range<u64>) -> Vec<Vec<(usize, Range<u64>)>> {
        let mut lists: Vec<Vec<(usize, Range<u64>)>> = vec![Vec::new(); self.lanes()];
        for grain in self.grains(epoch, numbers) {
            let list = &mut lists[grain.lane];
            match list.last_mut() {
                Some((piece, rows)) if *piece == grain.piece => rows.end = grain.first + grain.rows,
                _ => list.push((grain.piece, grain.first..grain.first + grain.rows)),
            }
        }
        lists
    }
}

/// One class on the way through an epoch.
struct Way {
    pieces: std::vec::IntoIter<usize>,
    /// Pieces that lie open: lane, piece, next row.
    open: Vec<(usize, usize, u64)>,
    turn: usize,
    given: u64,
    grains: u64,
}

/// The grains of an epoch from its beginning.
struct Walk<'a> {
    rows: &'a [u64],
    ways: Vec<Way>,
    g: u64,
}

impl<'a> Walk<'a> {
    fn new(order: &'a Order, epoch: u32) -> Self {
        let way = |(number, stratum): (usize, &Stratum)| {
            let purpose = format!("feed/pieces/{number}/{epoch}");
            let count = stratum.pieces.len() as u64;
            let permutation = Permutation::new(count, order.seed, purpose.as_bytes());
            let pieces: Vec<usize> = (0..count).map(|i| stratum.pieces[permutation.of(i) as usize]).collect();
            let mut pieces = pieces.into_iter();
            let open = stratum.lanes.clone().zip(pieces.by_ref()).map(|(lane, piece)| (lane, piece, 0)).collect();
            Way { pieces, open, turn: 0, given: 0, grains: stratum.grains }
        };
        Self { rows: &order.rows, ways: order.strata.iter().enumerate().map(way).collect(), g: 0 }
    }
}

impl Iterator for Walk<'_> {
    type Item = Grain;

    fn next(&mut self) -> Option<Grain> {
        let far = |a: &Way, b: &Way| {
            let at = |way: &Way, other: &Way| u128::from(2 * way.given + 1) * u128::from(other.grains);
            at(a, b).cmp(&at(b, a))
        };
        let way = self.ways.iter_mut().filter(|way| !way.open.is_empty()).min_by(|a, b| far(a, b))?;
        let (lane, piece, first) = way.open[way.turn];
        let rows = GRAIN.min(self.rows[piece] - first);
        let grain = Grain { lane, piece, first, rows, g: self.g };
        self.g += rows;
        way.given += 1;
        way.open[way.turn].2 += rows;
        if first + rows < self.rows[piece] {
            way.turn += 1;
        } else if let Some(next) = way.pieces.next() {
            way.open[way.turn] = (lane, next, 0);
            way.turn += 1;
        } else {
            way.open.remove(way.turn);
        }
        if way.turn >= way.open.len() {
            way.turn = 0;
        }
        Some(grain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(sample: Option<u8>, rows: u64) -> Unit {
        let sample = sample.map(|s| format!("\"sample\":\"{s}\",")).unwrap_or_default();
        let text = format!(r#"{{"step":"s",{sample}"path":"p","fingerprint":"f","first":0,"rows":{rows},"row_bytes":8}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn units() -> impl Strategy<Value = Vec<Unit>> {
        let one = (proptest::option::of(0..3u8), 0..90u64).prop_map(|(sample, rows)| unit(sample, rows));
        proptest::collection::vec(one, 0..12)
    }

    /// The rows of an epoch in their order, made the slow way: each as piece and row.
    fn whole(order: &Order, epoch: u32) -> Vec<(usize, u64)> {
        let key = order.keys(epoch);
        let mut rows: Vec<(u128, u64, (usize, u64))> = Vec::new();
        for grain in order.grains(epoch, 0..u64::MAX) {
            for i in 0..grain.rows {
                rows.push((key(grain.g + i), grain.g + i, (grain.piece, grain.first + i)));
            }
        }
        rows.sort_unstable();
        rows.into_iter().map(|(_, _, row)| row).collect()
    }

    proptest! {
        #[test]
        fn every_row_has_one_place_in_each_epoch(units in units(), seed: u64, epoch in 0..3u32, at_once in 1..6usize) {
            let order = Order::new(&units, seed, 50, at_once);
            let mut rows = whole(&order, epoch);
            rows.sort_unstable();
            let all: Vec<(usize, u64)> =
                units.iter().enumerate().flat_map(|(piece, unit)| (0..unit.rows).map(move |row| (piece, row))).collect();
            prop_assert_eq!(rows, all);
        }

        /// What `numbers` says is enough: from these rows alone a range of positions comes out as it is in the whole.
        #[test]
        fn a_range_of_positions_needs_the_rows_near_it(units in units(), seed: u64, window in 1..70u64, a: u64, b: u64) {
            let order = Order::new(&units, seed, window, 3);
            let whole = whole(&order, 1);
            let (a, b) = (a % (order.rows() + 1), b % (order.rows() + 1));
            let positions = a.min(b)..a.max(b);
            let (numbers, key) = (order.numbers(&positions), order.keys(1));
            let mut rows: Vec<(u128, u64, (usize, u64))> = Vec::new();
            for grain in order.grains(1, numbers.clone()) {
                rows.extend((0..grain.rows).map(|i| (key(grain.g + i), grain.g + i, (grain.piece, grain.first + i))));
            }
            rows.sort_unstable();
            let skipped = (positions.start - numbers.start) as usize;
            let near: Vec<_> = rows.into_iter().skip(skipped).take((positions.end - positions.start) as usize).map(|r| r.2).collect();
            prop_assert_eq!(&near[..], &whole[positions.start as usize..positions.end as usize]);
        }

        #[test]
        fn ranks_share_the_positions(units in units(), of in 1..5u64) {
            let order = Order::new(&units, 1, 10, 2);
            let all: Vec<u64> = (0..of).flat_map(|rank| order.positions(rank, of)).collect();
            prop_assert_eq!(all, (0..order.rows()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn each_class_has_its_share_everywhere_and_no_epoch_is_like_another() {
        let units: Vec<Unit> = (0..60).map(|i| unit(Some(i % 3), [500, 1000, 200][i as usize % 3])).collect();
        let order = Order::new(&units, 7, 512, 4);
        let (first, second) = (whole(&order, 0), whole(&order, 1));
        assert_eq!(first, whole(&order, 0));
        let moved = first.iter().zip(&second).filter(|(a, b)| a != b).count();
        assert!(moved > first.len() * 99 / 100, "{moved} of {}", first.len());
        for window in first.chunks_exact(1024) {
            for (class, share) in [(0, 5.0 / 17.0), (1, 10.0 / 17.0), (2, 2.0 / 17.0)] {
                let count = window.iter().filter(|(piece, _)| piece % 3 == class).count() as f64;
                let sigma = f64::sqrt(1024.0 * share * (1.0 - share));
                assert!((count - 1024.0 * share).abs() < 4.0 * sigma, "{count} of class {class}");
            }
        }
    }

    #[test]
    fn delays_are_below_the_window() {
        let order = Order::new(&[unit(None, 10)], 3, 100, 1);
        let key = order.keys(0);
        assert!((0..1000).all(|g| (g..g + 100).contains(&((key(g) >> 32) as u64))));
    }
}
