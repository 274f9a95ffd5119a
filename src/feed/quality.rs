//! How well an epoch was mixed, measured on the rows as they were fed.
//!
//! Three figures: how much class shares differ from batch to batch, beside what drawing at random would give (below 1: more
//! even than that); how the place of a row among all inputs and its place in the epoch are correlated (0: not at all); and how
//! many neighbours come from the same piece of a file, beside how many would at random.

use super::Going;
use super::lane::Picked;
use calostream_operators::column;
use serde::Serialize;

/// What was measured of an epoch.
#[derive(Debug, Clone, Serialize)]
pub struct Mixed {
    /// The epoch.
    pub epoch: u32,
    /// Rows that were fed.
    pub rows: u64,
    /// Standard deviation of class counts in full batches over that of random draws; none where there is nothing to compare.
    pub class_spread: Option<f64>,
    /// The correlation of the place in the inputs with the place in the epoch.
    pub correlation: f64,
    /// The share of neighbours from the same piece.
    pub same_piece: f64,
    /// What that share would be at random.
    pub same_piece_at_random: f64,
}

/// What is added up.
pub struct Quality {
    /// For each piece the rows of all pieces before it.
    before: Vec<u64>,
    random: f64,
    batch: usize,
    rows: u64,
    /// Of full batches: their number, and for each class the sum of its counts and of their squares.
    batches: u64,
    counts: Vec<(u64, u64)>,
    /// Sums of x, y, xx, yy, xy, of places as shares of the whole, from the middle.
    sums: [f64; 5],
    same: u64,
    last: Option<usize>,
    total: f64,
}

impl Quality {
    /// Nothing measured yet.
    pub fn new(going: &Going) -> Self {
        let rows = going.units.iter().map(|unit| unit.rows);
        let before = rows.clone().scan(0, |sum, rows| Some(std::mem::replace(sum, *sum + rows))).collect();
        let total = going.order.rows().max(1) as f64;
        let random = rows.map(|rows| (rows as f64 / total).powi(2)).sum();
        let batch = going.feeding.batch;
        Self { before, random, batch, total, rows: 0, batches: 0, counts: Vec::new(), sums: [0.0; 5], same: 0, last: None }
    }

    /// Adds the rows of a batch.
    pub fn add(&mut self, picked: &Picked) {
        let classes: Vec<Option<&[i8]>> =
            picked.chunks.iter().map(|chunk| chunk.batch.as_ref().and_then(column::sample_numbers)).collect();
        let mut counts = vec![0_u64; 128];
        for (position, (chunk, at)) in picked.positions.iter().zip(&picked.rows) {
            let of = &picked.chunks[*chunk];
            self.same += u64::from(self.last.replace(of.piece) == Some(of.piece));
            let x = (self.before[of.piece] + of.places[*at]) as f64 / self.total - 0.5;
            let y = *position as f64 / self.total - 0.5;
            self.sums.iter_mut().zip([x, y, x * x, y * y, x * y]).for_each(|(sum, more)| *sum += more);
            let class = classes[*chunk].and_then(|c| usize::try_from(c[*at]).ok());
            class.into_iter().for_each(|class| counts[class] += 1);
        }
        self.rows += picked.rows.len() as u64;
        if picked.rows.len() == self.batch {
            self.batches += 1;
            self.counts.resize(128, (0, 0));
            for ((sum, squares), count) in self.counts.iter_mut().zip(counts) {
                *sum += count;
                *squares += count * count;
            }
        }
    }

    /// The epoch is over.
    pub fn end(&mut self, epoch: u32) -> Mixed {
        let n = self.rows.max(1) as f64;
        let [x, y, xx, yy, xy] = self.sums.map(|sum| sum / n);
        let (vx, vy) = (xx - x * x, yy - y * y);
        let correlation = if vx > 0.0 && vy > 0.0 { (xy - x * y) / (vx * vy).sqrt() } else { 0.0 };
        let (batches, batch) = (self.batches as f64, self.batch as f64);
        let spread = |(sum, squares): &(u64, u64)| {
            let mean = *sum as f64 / batches;
            let share = mean / batch;
            (*squares as f64 / batches - mean * mean, batch * share * (1.0 - share))
        };
        let (seen, drawn) = self.counts.iter().map(spread).fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1));
        let class_spread = (self.batches > 1 && drawn > 0.0).then(|| (seen.max(0.0) / drawn).sqrt());
        let mixed = Mixed {
            epoch,
            rows: self.rows,
            class_spread,
            correlation,
            same_piece: self.same as f64 / n,
            same_piece_at_random: self.random,
        };
        (self.rows, self.batches, self.same, self.last, self.sums) = (0, 0, 0, None, [0.0; 5]);
        self.counts.clear();
        mixed
    }
}

impl std::fmt::Display for Mixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use calostream_operators::words::counted;
        write!(f, "epoch {}: {}; ", self.epoch, counted(self.rows, "event"))?;
        if let Some(spread) = self.class_spread {
            write!(f, "class shares of batches spread {spread:.2} times as much as at random; ")?;
        }
        let (same, random) = (100.0 * self.same_piece, 100.0 * self.same_piece_at_random);
        write!(
            f,
            "old and new order correlate by {:.3}; {same:.1} % of neighbours are of the same piece of a file ",
            self.correlation
        )?;
        write!(f, "({random:.1} % at random)")
    }
}
