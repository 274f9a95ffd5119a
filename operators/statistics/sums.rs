//! Sums in groups, exact: what a fold adds to, what the ledger keeps, what merges in any order to the same bytes.
//!
//! Two things are summed by key: whole numbers ([`counts`](Sums::count)) and exact sums of f64s ([`sums`](Sums::add)); each has
//! key spaces of its own, and what a key means is the fold's affair (a bin, a bin and a power, a rung of a ladder).
//! A fold [declares](Sums::dense) how many keys from 0 on it will use for nearly every row; these lie in a slice, all others in a hash map.
//!
//! Rows with weights, which have a count and two sums each, are [added together](Sums::weigh), to cells that are small ([`Weighed`]);
//! these are settled into counts and sums before anything is encoded, so that nobody sees where a row was added.
//!
//! Invariants: a key that is not there is zero, and a zero is as if not there; equal sums are equal bytes, whatever the
//! order of adding and merging, and however many keys were declared; merging with the negated gives the empty sums.

use crate::column::Floats;
use crate::statistics::exact::Exact;
use crate::statistics::weighed::Weighed;
use crate::varint::{Reader, write_signed, write_unsigned};
use anyhow::{Context, ensure};
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The first byte of encoded sums.
const FORMAT: u8 = 1;

/// Sums by key. Equal sums are equal bytes.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    counts: Slots<i64>,
    sums: Slots<Exact>,
    /// What is not settled: rows of cell `c` are of count `c`, their weights of sum `2 c`, and the squares of these of the sum after it.
    weighed: Weighed,
    others: Vec<u32>,
}

impl Sums {
    /// The first `counts` counts and the first `sums` sums as slices, for the loop over rows to add to.
    pub fn dense(&mut self, counts: usize, sums: usize) -> (&mut [i64], &mut [Exact]) {
        (self.counts.dense(counts), self.sums.dense(sums))
    }

    /// Adds rows with weights by the number of their cells, each below `cells`: 1 to the count of the cell's number, w to the sum of twice
    /// that number, and w^2 to the sum after it. Gives the number of rows whose weight is not finite, which are added nowhere.
    pub fn weigh(&mut self, cells: usize, numbers: &[u32], weights: Floats<'_>) -> usize {
        if !self.weighed.has_room(weights.len()) {
            self.settle();
        }
        let mut others = std::mem::take(&mut self.others);
        self.weighed.add(cells, numbers, weights, &mut others);
        if 4 * others.len() > weights.len() {
            self.dense(cells, 2 * cells);
            // A unit for other weights may be better, where cells are not settled for a few rows each.
            if self.weighed.rows() > 8 * cells as u64 {
                self.settle();
            }
        }
        let mut not_finite = 0;
        for row in &others {
            let (key, w) = (u64::from(numbers[*row as usize]), weights.at(*row as usize));
            if w.is_finite() {
                self.tally(key, 1);
                self.add(2 * key, w);
                self.add(2 * key + 1, w * w);
            } else {
                not_finite += 1;
            }
        }
        self.others = others;
        not_finite
    }

    /// Makes counts and sums of all that was weighed.
    fn settle(&mut self) {
        let mut weighed = std::mem::take(&mut self.weighed);
        self.take_in(&weighed);
        weighed.clear();
        self.weighed = weighed;
    }

    fn take_in(&mut self, weighed: &Weighed) {
        if weighed.is_empty() {
            return;
        }
        let cells = weighed.cells();
        let (counts, sums) = self.dense(cells, 2 * cells);
        for (cell, (count, sums)) in counts.iter_mut().zip(sums.chunks_exact_mut(2)).enumerate() {
            *count += weighed.count(cell);
            sums.iter_mut().enumerate().for_each(|(power, sum)| weighed.add_to(cell, power, sum));
        }
    }

    /// The same with everything settled.
    fn settled(&self) -> Cow<'_, Self> {
        if self.weighed.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut settled = Self { counts: self.counts.clone(), sums: self.sums.clone(), ..Self::default() };
        settled.take_in(&self.weighed);
        Cow::Owned(settled)
    }

    /// Adds the sum of a key to another.
    fn add_to(&self, key: u64, to: &mut Exact) {
        if let Some(sum) = self.sums.get(key) {
            to.plus(sum);
        }
        self.weighed.add_to((key / 2) as usize, (key % 2) as usize, to);
    }

    /// Adds to the count of a key.
    #[inline]
    pub fn tally(&mut self, key: u64, n: i64) {
        *self.counts.slot(key) += n;
    }

    /// Adds to the exact sum of a key.
    #[inline]
    pub fn add(&mut self, key: u64, x: f64) {
        self.sums.slot(key).add(x);
    }

    /// The count of a key.
    #[must_use]
    pub fn count(&self, key: u64) -> i64 {
        self.counts.get(key).copied().unwrap_or_default() + self.weighed.count(key as usize)
    }

    /// The sum of a key, rounded once.
    #[must_use]
    pub fn sum(&self, key: u64) -> f64 {
        self.sum_over([key])
    }

    /// The sum over several keys, added exactly and rounded once.
    #[must_use]
    pub fn sum_over(&self, keys: impl IntoIterator<Item = u64>) -> f64 {
        let mut total = Exact::default();
        keys.into_iter().for_each(|key| self.add_to(key, &mut total));
        total.value()
    }

    /// All counts that are not zero, by ascending key.
    #[must_use]
    pub fn counts(&self) -> Vec<(u64, i64)> {
        self.settled().counts.entries(|n| *n != 0).into_iter().map(|(key, n)| (key, *n)).collect()
    }

    /// All sums that are not zero, by ascending key, rounded once.
    #[must_use]
    pub fn sums(&self) -> Vec<(u64, f64)> {
        self.settled().sums.entries(|sum| !sum.is_zero()).into_iter().map(|(key, sum)| (key, sum.value())).collect()
    }

    /// All sums that are not zero, by ascending key, as they are.
    #[must_use]
    pub fn exact_sums(&self) -> Vec<(u64, Exact)> {
        self.settled().sums.entries(|sum| !sum.is_zero()).into_iter().map(|(key, sum)| (key, sum.clone())).collect()
    }

    /// Makes the count of a key this.
    pub fn set_count(&mut self, key: u64, n: i64) {
        self.settle();
        *self.counts.slot(key) = n;
    }

    /// Makes the sum of a key this.
    pub fn set_sum(&mut self, key: u64, sum: Exact) {
        self.settle();
        *self.sums.slot(key) = sum;
    }

    /// Adds what another worker or unit has summed. Exact, so the order does not matter.
    pub fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts, |to, n| *to += n);
        self.sums.merge(&other.sums, Exact::plus);
        if !self.weighed.merge(&other.weighed) {
            self.take_in(&other.weighed);
        }
    }

    /// Adds what was summed under keys that begin at 0, under keys that begin at `first`.
    pub fn merge_at(&mut self, first: u64, other: &Self) {
        let other = other.settled();
        for (key, n) in other.counts.entries(|n| *n != 0) {
            *self.counts.slot(first + key) += n;
        }
        for (key, sum) in other.sums.entries(|sum| !sum.is_zero()) {
            self.sums.slot(first + key).plus(sum);
        }
    }

    /// The keys of a range, which then begin at 0.
    #[must_use]
    pub fn between(&self, keys: std::ops::Range<u64>) -> Self {
        let (mut of, this) = (Self::default(), self.settled());
        for (key, n) in this.counts.entries(|n| *n != 0).into_iter().filter(|(key, _)| keys.contains(key)) {
            *of.counts.slot(key - keys.start) += n;
        }
        for (key, sum) in this.sums.entries(|sum| !sum.is_zero()).into_iter().filter(|(key, _)| keys.contains(key)) {
            of.sums.slot(key - keys.start).plus(sum);
        }
        of
    }

    /// Makes it what takes the sums back: merging it where they were merged leaves what was there before.
    pub fn negate(&mut self) {
        self.settle();
        self.counts.each(|n| *n = -*n);
        self.sums.each(Exact::negate);
    }

    /// True where nothing was added, or all was taken back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let this = self.settled();
        this.counts.entries(|n| *n != 0).is_empty() && this.sums.entries(|sum| !sum.is_zero()).is_empty()
    }

    /// Canonical bytes: keys in order, zeros and zero digits dropped.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        fn keyed<T>(into: &mut Vec<u8>, entries: &[(u64, T)], each: impl Fn(&mut Vec<u8>, &T)) {
            write_unsigned(into, entries.len() as u64);
            let mut next = 0;
            for (key, value) in entries {
                write_unsigned(into, key - next);
                each(into, value);
                next = key.saturating_add(1);
            }
        }
        let (mut bytes, this) = (vec![FORMAT], self.settled());
        keyed(&mut bytes, &this.counts.entries(|n| *n != 0), |into, n| write_signed(into, **n));
        keyed(&mut bytes, &this.sums.entries(|sum| !sum.is_zero()), |into, sum| sum.encode(into));
        bytes
    }

    /// Reads [`encode`](Self::encode)'s bytes.
    pub fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        fn keyed<'a, T>(from: &mut Reader<'a>, each: impl Fn(&mut Reader<'a>) -> anyhow::Result<T>) -> anyhow::Result<Slots<T>> {
            let mut slots = Slots { dense: Vec::new(), sparse: HashMap::default() };
            let mut next = Some(0_u64);
            for _ in 0..from.unsigned()? {
                let step = from.unsigned()?;
                let key = next.and_then(|next| next.checked_add(step)).context("a key beyond the last")?;
                slots.sparse.insert(key, each(from)?);
                next = key.checked_add(1);
            }
            Ok(slots)
        }
        let mut from = Reader(bytes);
        let [format] = from.take()?;
        ensure!(format == FORMAT, "sums in format {format}, not {FORMAT}");
        let (counts, sums) = (keyed(&mut from, Reader::signed)?, keyed(&mut from, Exact::decode)?);
        let sums = Self { counts, sums, ..Self::default() };
        ensure!(from.0.is_empty(), "{} bytes after the end of the sums", from.0.len());
        Ok(sums)
    }
}

impl PartialEq for Sums {
    fn eq(&self, other: &Self) -> bool {
        let (this, other) = (self.settled(), other.settled());
        this.counts.entries(|n| *n != 0) == other.counts.entries(|n| *n != 0)
            && this.sums.entries(|sum| !sum.is_zero()) == other.sums.entries(|sum| !sum.is_zero())
    }
}

impl Eq for Sums {}

/// Values by key: those below `dense.len()` in the slice, all others in the map.
#[derive(Debug, Clone, Default)]
struct Slots<T> {
    dense: Vec<T>,
    sparse: HashMap<u64, T, BuildHasherDefault<KeyHasher>>,
}

impl<T: Default> Slots<T> {
    fn dense(&mut self, length: usize) -> &mut [T] {
        if self.dense.len() < length {
            self.dense.resize_with(length, T::default);
            for (key, value) in self.sparse.extract_if(|key, _| *key < length as u64) {
                self.dense[key as usize] = value;
            }
        }
        &mut self.dense[..length]
    }

    #[inline]
    fn slot(&mut self, key: u64) -> &mut T {
        match usize::try_from(key).ok().and_then(|key| self.dense.get_mut(key)) {
            Some(slot) => slot,
            None => self.sparse.entry(key).or_default(),
        }
    }

    fn get(&self, key: u64) -> Option<&T> {
        let dense = usize::try_from(key).ok().and_then(|key| self.dense.get(key));
        dense.or_else(|| self.sparse.get(&key))
    }

    /// What is not skipped, by ascending key.
    fn entries(&self, keep: impl Fn(&T) -> bool) -> Vec<(u64, &T)> {
        let dense = self.dense.iter().enumerate().map(|(key, value)| (key as u64, value));
        let mut entries: Vec<_> = dense.filter(|(_, value)| keep(value)).collect();
        let start = entries.len();
        entries.extend(self.sparse.iter().map(|(key, value)| (*key, value)).filter(|(_, value)| keep(value)));
        entries[start..].sort_unstable_by_key(|(key, _)| *key);
        entries
    }

    fn merge(&mut self, other: &Self, add: impl Fn(&mut T, &T)) {
        let length = self.dense.len().max(other.dense.len());
        for (to, from) in self.dense(length).iter_mut().zip(&other.dense) {
            add(to, from);
        }
        for (key, value) in &other.sparse {
            add(self.slot(*key), value);
        }
    }

    fn each(&mut self, change: impl Fn(&mut T)) {
        self.dense.iter_mut().chain(self.sparse.values_mut()).for_each(change);
    }
}

/// Spreads keys, which are dense in places, over a hash table: the finalizer of splitmix64. Keys are ours, so no one can aim at it.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, key: u64) {
        let mut x = (self.0 ^ key).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = x ^ (x >> 31);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Row = (u64, i64, f64);

    /// Rows into slices where the key is below `dense`, else one by one.
    fn sums(rows: &[Row], dense: usize) -> Sums {
        let mut sums = Sums::default();
        for (key, n, x) in rows {
            if *key < dense as u64 {
                let (counts, exact) = sums.dense(dense, dense);
                counts[*key as usize] += n;
                exact[*key as usize].add(*x);
            } else {
                sums.tally(*key, *n);
                sums.add(*key, *x);
            }
        }
        sums
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let key = prop_oneof![0_u64..8, any::<u64>(), Just(u64::MAX)];
        prop::collection::vec((key, -3_i64..4, prop_oneof![-1e3..1e3, any::<f64>()]), 0..40)
    }

    /// Weights as they come, and as they should not.
    fn weight() -> impl Strategy<Value = f64> {
        let float = any::<u32>().prop_map(|bits| f64::from(f32::from_bits(bits)));
        let special =
            prop::sample::select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::MAX, 1e-300, f64::from(f32::MAX), 1e-45]);
        let near = (-1.0_f32..1.0).prop_map(f64::from);
        let far = (-1.0_f32..1.0, -40_i32..40).prop_map(|(m, e)| f64::from(m) * f64::from(e).exp2());
        prop_oneof![8 => near, 2 => far, 1 => float, 1 => any::<f64>(), 1 => special]
    }

    proptest! {
        #[test]
        fn sums_are_equal_bytes_however_they_were_made(rows in rows(), cut in 0_usize..40, dense in 0_usize..10) {
            let whole = sums(&rows, 0);
            let (left, right) = rows.split_at(cut.min(rows.len()));
            let mut merged = sums(right, dense);
            merged.merge(&Sums::decode(&sums(left, 4).encode()).unwrap());
            prop_assert_eq!(merged.encode(), whole.encode());
            prop_assert_eq!(&merged, &whole);
            prop_assert_eq!(&Sums::decode(&whole.encode()).unwrap(), &whole);
            let mut back = whole.clone();
            back.negate();
            merged.merge(&back);
            prop_assert!(merged.is_empty());
            prop_assert_eq!(merged.encode(), Sums::default().encode());
        }

        #[test]
        fn counts_are_those_of_a_map(rows in rows(), dense in 0_usize..10) {
            let mut expected: BTreeMap<u64, i64> = BTreeMap::new();
            rows.iter().for_each(|(key, n, _)| *expected.entry(*key).or_default() += n);
            expected.retain(|_, n| *n != 0);
            let sums = sums(&rows, dense);
            prop_assert_eq!(sums.counts(), expected.iter().map(|(key, n)| (*key, *n)).collect::<Vec<_>>());
            prop_assert!(expected.iter().all(|(key, n)| sums.count(*key) == *n));
        }

        #[test]
        fn rows_that_are_weighed_are_those_that_are_added_one_by_one(
            blocks in prop::collection::vec(prop::collection::vec((0_u32..6, weight()), 1..30), 1..6),
            others in prop::collection::vec(prop::collection::vec((0_u32..6, weight()), 1..30), 0..3),
            tallied in rows(),
        ) {
            let add = |sums: &mut (Sums, Sums), rows: &[(u32, f64)]| {
                let (weighed, slow) = sums;
                let (numbers, weights): (Vec<u32>, Vec<f64>) = rows.iter().copied().unzip();
                let small: Vec<f32> = weights.iter().map(|w| *w as f32).collect();
                let all_small = small.iter().zip(&weights).all(|(small, w)| f64::from(*small) == *w);
                let floats = if all_small { Floats::Single(&small) } else { Floats::Double(&weights) };
                let odd = weighed.weigh(6, &numbers, floats);
                assert_eq!(odd, weights.iter().filter(|w| !w.is_finite()).count());
                for (number, w) in rows.iter().filter(|(_, w)| w.is_finite()) {
                    slow.tally(u64::from(*number), 1);
                    slow.add(2 * u64::from(*number), *w);
                    slow.add(2 * u64::from(*number) + 1, w * w);
                }
                for key in 0..14 {
                    assert_eq!((weighed.count(key), weighed.sum(key)), (slow.count(key), slow.sum(key)));
                }
            };
            let (mut one, mut two) = (<(Sums, Sums)>::default(), (sums(&tallied, 3), sums(&tallied, 0)));
            blocks.iter().for_each(|rows| add(&mut one, rows));
            others.iter().for_each(|rows| add(&mut two, rows));
            prop_assert_eq!(one.0.encode(), one.1.encode());
            prop_assert_eq!(one.0.is_empty(), one.1.is_empty());
            prop_assert_eq!(one.0.counts(), one.1.counts());
            prop_assert_eq!(one.0.sums(), one.1.sums());
            prop_assert_eq!(one.0.between(1..5), one.1.between(1..5));
            prop_assert_eq!(one.0.sum_over(0..9), one.1.sum_over(0..9));
            let (mut at, mut slow_at) = (two.0.clone(), two.1.clone());
            at.merge_at(5, &one.0);
            slow_at.merge_at(5, &one.1);
            prop_assert_eq!(at.encode(), slow_at.encode());
            one.0.merge(&two.0);
            one.1.merge(&two.1);
            prop_assert_eq!(one.0.encode(), one.1.encode());
            prop_assert_eq!(&one.0, &one.1);
            two.0.negate();
            two.1.negate();
            one.0.merge(&two.0);
            one.1.merge(&two.1);
            prop_assert_eq!(one.0.encode(), one.1.encode());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Sums::decode(&[&[FORMAT], &bytes[..]].concat());
        }
    }

    #[test]
    fn weights_go_on_being_weighed_when_they_become_others() {
        let (mut weighed, mut slow) = (Sums::default(), Sums::default());
        let mut normal = crate::trial::normal(5);
        for scale in [1.0, 1e6, 1e-12, 3e30, 1.0] {
            for _ in 0..6 {
                let numbers: Vec<u32> = (0..40).map(|row| row % 3).collect();
                let weights: Vec<f64> = numbers.iter().map(|_| f64::from((scale * normal()) as f32)).collect();
                assert_eq!(weighed.weigh(3, &numbers, Floats::Double(&weights)), 0);
                for (number, w) in numbers.iter().zip(&weights) {
                    slow.tally(u64::from(*number), 1);
                    slow.add(2 * u64::from(*number), *w);
                    slow.add(2 * u64::from(*number) + 1, w * w);
                }
                assert_eq!(weighed.encode(), slow.encode());
            }
        }
    }

    #[test]
    fn sums_lie_side_by_side_and_come_apart() {
        let (a, b) = (sums(&[(0, 1, 0.5), (7, 2, 1.5)], 2), sums(&[(3, 4, -1.0)], 9));
        let mut both = Sums::default();
        both.merge_at(0, &a);
        both.merge_at(100, &b);
        both.merge_at(100, &b);
        assert_eq!(both.between(0..100), a);
        let mut twice = b.clone();
        twice.merge(&b);
        assert_eq!(both.between(100..200), twice);
        assert_eq!((both.count(103), both.sum(103)), (8, -2.0));
    }

    #[test]
    fn cut_off_bytes_are_refused() {
        let bytes = sums(&[(3, 1, 0.1), (u64::MAX, 2, f64::NAN)], 4).encode();
        for length in 0..bytes.len() {
            assert!(Sums::decode(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
        assert_eq!(Sums::decode(&[9]).unwrap_err().to_string(), "sums in format 9, not 1");
        assert_eq!(Sums::decode(&[1, 0, 0, 7]).unwrap_err().to_string(), "1 bytes after the end of the sums");
    }

    #[test]
    fn a_sum_over_keys_is_exact() {
        let sums = sums(&[(0, 1, 1e100), (1, 1, 1.0), (2, 1, -1e100)], 2);
        assert_eq!(sums.sum_over([0, 1, 2, 7]), 1.0);
        assert_eq!(sums.sum(1), 1.0);
        assert_eq!(sums.sum(9), 0.0);
    }
}
