//! The window: rows wait until all rows before them in the order have been read, and leave as batches.
//!
//! Rows are read in the order of their numbers `g` and leave in the order of their keys ([`super::order`]). Before the first
//! batch the window is filled, and it stays so across the ends of epochs: each batch that is read lets one go.
//!
//! Lanes give rows in lumps (what a file is decoded in), and nothing while they open the next file. So a part of the window is a
//! reservoir: batches leave at an even pace ([`Pace`]), which is as fast as rows have come on average, and a little faster or
//! slower as the reservoir fills or drains. What is fed does not depend on it, only when.

use super::Going;
use super::lane::{Chunk, Picked};
use super::order::Grain;
use super::quality::Quality;
use anyhow::{Result, bail, ensure};
use calostream_operators::feeding::Last;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

/// A row that waits, or the hole that a cut has left.
struct Waiting {
    key: u128,
    g: u64,
    row: Option<Row>,
}

/// A row that is there.
struct Row {
    chunk: Arc<Chunk>,
    at: usize,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    // The heap gives its largest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.key, other.g).cmp(&(self.key, self.g))
    }
}

/// What is next.
enum Ready {
    Row {
        epoch: u32,
        position: u64,
        count: u64,
        row: Row,
    },
    /// The epoch is over.
    End {
        epoch: u32,
        count: u64,
    },
}

/// A lane as it is read from.
struct Lane {
    receive: Receiver<Chunk>,
    chunk: Option<Arc<Chunk>>,
    at: usize,
}

impl Lane {
    /// The row at this place of a piece; none where it was cut. `None` for what is not known before the next chunk.
    fn row(&mut self, epoch: u32, grain: Grain, place: u64) -> Option<Option<Row>> {
        let chunk = self.chunk.as_ref().filter(|c| c.epoch == epoch && c.piece == grain.piece)?;
        while chunk.places.get(self.at).is_some_and(|found| *found < place) {
            self.at += 1;
        }
        if chunk.places.get(self.at) == Some(&place) {
            return Some(Some(Row { chunk: Arc::clone(chunk), at: self.at }));
        }
        (place < chunk.until).then_some(None)
    }
}

/// When batches leave.
struct Pace {
    /// What there is room for.
    full: u64,
    /// What is kept in any case: half of the window is what rows wait for each other in, the rest is for fluctuations of that.
    least: u64,
    batch: u64,
    /// The mean of seconds between two batches lately, without those in which nobody took them.
    mean: f64,
    last: Instant,
    sent: u64,
    /// How many batches in a row have left when there was no room for more.
    pressed: u64,
}

impl Pace {
    fn new(window: u64, batch: u64) -> Self {
        let least = window - 3 * window / 8;
        Self { full: window, least, batch, mean: 0.0, last: Instant::now(), sent: 0, pressed: 0 }
    }

    /// How long the next batch is to wait with so many rows held; none where it is to wait for rows.
    fn wait(&self, held: u64) -> Option<Duration> {
        let missing = self.full.saturating_sub(held) as f64 / (self.full - self.least).max(1) as f64;
        let due = Duration::from_secs_f64(self.mean * (0.6 + 1.2 * missing));
        (missing < 1.0).then(|| due.saturating_sub(self.last.elapsed()))
    }

    /// A batch leaves, with so many rows held.
    fn leaves(&mut self, held: u64) {
        let since = self.last.elapsed().as_secs_f64();
        self.pressed = if held >= self.full { self.pressed + 1 } else { 0 };
        if self.sent == 0 {
            // The time in which the window was filled.
            self.mean = since * self.batch as f64 / self.full as f64;
        } else if self.pressed > (self.full - self.least) / self.batch {
            // More than a lump: rows come faster than they leave.
            self.mean *= 0.75;
        } else {
            // Over many lumps.
            self.mean += (since - self.mean) / (self.sent + 1).min(128) as f64;
        }
        self.sent += 1;
    }

    /// It was taken.
    fn left(&mut self) {
        self.last = Instant::now();
    }
}

/// What mixes: ends when all epochs are mixed, or nobody listens.
pub struct Mixing<'a> {
    going: &'a Going,
    lanes: Vec<Lane>,
    to: Vec<SyncSender<Picked>>,
    waiting: BinaryHeap<Waiting>,
    ready: VecDeque<Ready>,
    /// Rows (and holes) that have left the heap so far.
    left: u64,
    /// Rows of this epoch so far.
    rows: u64,
    /// Ends of epochs among what is ready.
    ends: usize,
    sent: usize,
    pace: Pace,
    quality: Quality,
}

impl<'a> Mixing<'a> {
    /// What mixes what these lanes read, for these makers of batches, in turn.
    pub fn new(going: &'a Going, lanes: Vec<Receiver<Chunk>>, to: Vec<SyncSender<Picked>>) -> Self {
        let lanes = lanes.into_iter().map(|receive| Lane { receive, chunk: None, at: 0 }).collect();
        let (waiting, ready, quality) = (BinaryHeap::new(), VecDeque::new(), Quality::new(going));
        let pace = Pace::new(going.order.window(), going.feeding.batch as u64);
        Self { going, lanes, to, waiting, ready, left: 0, rows: 0, ends: 0, sent: 0, pace, quality }
    }

    /// Mixes all epochs.
    pub fn run(&mut self) -> Result<()> {
        let going = self.going;
        for (epoch, positions) in going.epochs() {
            let (numbers, key) = (going.order.numbers(&positions), going.order.keys(epoch));
            // See `order`: of the rows from `numbers.start` on, so many stand before the first position that is wanted.
            let mut position = numbers.start;
            for grain in going.order.grains(epoch, numbers) {
                for i in 0..grain.rows {
                    let row = loop {
                        match self.lanes[grain.lane].row(epoch, grain, grain.first + i) {
                            Some(row) => break row,
                            None if self.more(grain.lane)? => {}
                            None => return Ok(()),
                        }
                    };
                    let g = grain.g + i;
                    self.waiting.push(Waiting { key: key(g), g, row });
                }
                let below = u128::from(grain.g + grain.rows) << 32;
                while self.waiting.peek().is_some_and(|waiting| waiting.key < below) {
                    self.leave(epoch, &mut position, &positions);
                }
                if !self.send()? {
                    return Ok(());
                }
            }
            while !self.waiting.is_empty() {
                self.leave(epoch, &mut position, &positions);
            }
            ensure!(position >= positions.end, "an epoch ended at position {position} of {}", positions.end);
            // Who is fed for ever would wait for ever.
            ensure!(
                self.rows > 0 || positions != going.own(),
                "no event of epoch {epoch} is left: the steps before the feed cut all"
            );
            self.rows = 0;
            self.ready.push_back(Ready::End { epoch, count: self.left });
            self.ends += 1;
        }
        while !self.ready.is_empty() && self.one() {}
        Ok(())
    }

    /// Waits for the next chunk of a lane, and lets batches leave meanwhile; false where nobody listens any more.
    fn more(&mut self, lane: usize) -> Result<bool> {
        loop {
            let soon = self.due().unwrap_or(Duration::MAX).min(Duration::from_millis(50));
            match self.lanes[lane].receive.recv_timeout(soon) {
                Ok(chunk) => {
                    self.lanes[lane].chunk = Some(Arc::new(chunk));
                    self.lanes[lane].at = 0;
                    return Ok(true);
                }
                Err(RecvTimeoutError::Timeout) if self.send()? => {}
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => bail!("a lane has ended before its time"),
            }
        }
    }

    fn leave(&mut self, epoch: u32, position: &mut u64, wanted: &std::ops::Range<u64>) {
        let Some(Waiting { row, .. }) = self.waiting.pop() else { return };
        self.left += 1;
        if let Some(row) = row.filter(|_| wanted.contains(position)) {
            self.rows += 1;
            self.ready.push_back(Ready::Row { epoch, position: *position, count: self.left, row });
        }
        *position += 1;
    }

    /// Rows that are held, and the holes between them.
    fn held(&self) -> u64 {
        let first = match self.ready.front() {
            Some(Ready::Row { count, .. } | Ready::End { count, .. }) => *count,
            None => self.left,
        };
        self.waiting.len() as u64 + (self.left - first)
    }

    /// How long the next batch is to wait; none where there is none yet.
    fn due(&self) -> Option<Duration> {
        let enough = self.ready.len() - self.ends >= self.going.feeding.batch || self.ends > 0;
        // Until the window is full for the first time, nothing leaves.
        let begun = self.sent > 0 || self.held() >= self.pace.full;
        if enough && begun { self.pace.wait(self.held()) } else { None }
    }

    /// Sends what is due; false where nobody listens any more.
    fn send(&mut self) -> Result<bool> {
        while let Some(wait) = self.due() {
            if !wait.is_zero() {
                if self.held() < self.pace.full {
                    break;
                }
                std::thread::sleep(wait);
            }
            if !self.one() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends the next batch; false where nobody listens any more.
    fn one(&mut self) -> bool {
        let held = self.held();
        let Some(picked) = self.pick() else { return true };
        self.pace.leaves(held);
        let to = self.sent % self.to.len();
        self.sent += 1;
        let sent = self.to[to].send(picked).is_ok();
        self.pace.left();
        sent
    }

    /// The next batch; none where the epoch ends with nothing to give.
    fn pick(&mut self) -> Option<Picked> {
        let (batch, last) = (self.going.feeding.batch, self.going.feeding.last);
        let mut picked: Option<Picked> = None;
        let mut known: BTreeMap<*const Chunk, usize> = BTreeMap::new();
        while let Some(next) = self.ready.pop_front() {
            match next {
                Ready::Row { epoch, position, row, .. } => {
                    let new = || Picked { epoch, positions: Vec::new(), chunks: Vec::new(), rows: Vec::new() };
                    let picked = picked.get_or_insert_with(new);
                    let chunk = *known.entry(Arc::as_ptr(&row.chunk)).or_insert(picked.chunks.len());
                    if chunk == picked.chunks.len() {
                        picked.chunks.push(row.chunk);
                    }
                    picked.positions.push(position);
                    picked.rows.push((chunk, row.at));
                    if picked.rows.len() == batch {
                        self.quality.add(picked);
                        break;
                    }
                }
                Ready::End { epoch, .. } => {
                    self.ends -= 1;
                    if last == Last::Drop {
                        let rest = picked.take().map_or(0, |picked| picked.rows.len());
                        self.going.told.dropped(rest as u64);
                    }
                    picked.iter().for_each(|picked| self.quality.add(picked));
                    self.going.told.epoch(self.quality.end(epoch));
                    break;
                }
            }
        }
        picked
    }
}
