//! `batch: auto`: how many rows at a time are fastest here, measured before the first unit on buffers that are thrown away.
//!
//! The rows that were chosen are written into the run's log, so that every process, and whoever goes on with the run, takes the
//! same: predictions may differ in their last bits with the batch.

use super::bind::{Bound, MOST_ROWS, USUAL_ROWS};
use super::station::{Job, Station};
use crate::Start;
use crate::onnx::feed::Feed;
use std::time::Instant;

/// What is tried: small batches stay in the cache, large ones cost less each.
const TRIED: [usize; 7] = [8, 16, 32, 64, 128, 256, MOST_ROWS];
/// A larger batch must be faster by this much, so that noise does not choose it.
const BETTER: f64 = 1.03;
/// How long each is tried, but once at least, and how many sizes in a row may be no better: on two cores all of it takes 0.1 to 0.3 s.
const SECONDS: f64 = 0.03;
const NO_BETTER: usize = 2;

impl Bound {
    /// The batch that is fastest here; none where it was said.
    pub fn settle(&self, at: &Start<'_>) -> anyhow::Result<Option<(String, u64)>> {
        if self.batch.is_some() || at.runtime.settled.contains_key(&self.settled_as()) {
            return Ok(None);
        }
        let mut station = Station::open(self, &self.processors[0], at.runtime)?;
        let (mut best, mut no_better): (Option<(usize, f64)>, _) = (None, 0);
        for rows in TRIED {
            let room = self.models.iter().map(|m| m.room(rows)).max().unwrap_or(rows);
            let feeds = self.feeds.iter().map(|plan| {
                let mut feed = Feed::new(plan.clone(), room, station.pinned.as_ref());
                feed.sketch(room);
                Some(feed)
            });
            let feeds = feeds.collect();
            let job = Job { lane: 0, rows, filled: rows, feeds };
            // The first run allocates.
            station.compute(&job)?;
            let (begun, mut fastest) = (Instant::now(), f64::INFINITY);
            while fastest.is_infinite() || begun.elapsed().as_secs_f64() < SECONDS {
                let start = Instant::now();
                station.compute(&job)?;
                fastest = fastest.min(start.elapsed().as_secs_f64() / rows as f64);
            }
            tracing::debug!(rows, microseconds_a_row = 1e6 * fastest, "batch: auto");
            if best.is_none_or(|(_, known)| fastest * BETTER < known) {
                (best, no_better) = (Some((rows, fastest)), 0);
                continue;
            }
            no_better += 1;
            if no_better == NO_BETTER {
                break;
            }
        }
        let rows = best.map_or(USUAL_ROWS, |(rows, _)| rows);
        Ok(Some((self.settled_as(), rows as u64)))
    }
}
