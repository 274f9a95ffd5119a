//! What a shuffle will put aside: how many bytes, in how many runs, read back in what pieces. For `plan`, and for the flow, which
//! holds as much as is said here.
//!
//! What fits in memory stays there. Else a run is as large as memory allows, and has a piece for every part of the new order; so
//! the pieces are the longer the more memory there is. Where they would be shorter than one good read ([`READ`]), rows are put
//! aside twice (see [`grain`]); so that with runs of R bytes pieces are long up to R * R / READ bytes of parts.

use super::parts::{PLACE_BYTES, Rows};
use super::{Plan, Port, expected};
use anyhow::Context;
use calostream_operators::Lanes;

/// Bytes that are read at a time of a run that has more.
pub const READ: u64 = 256 << 10;
/// Runs that a worker has open at a time, with what was read ahead of each.
pub const OPEN: usize = 256;

/// What a run and its pieces are measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of a run, where it is not what memory allows. Then nothing stays in memory, either.
    pub run: Option<u64>,
    /// Bytes below which no piece should be.
    pub piece: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { run: None, piece: READ }
    }
}

impl Sizes {
    /// Those of `CALOSTREAM_SPILL=RUN,PIECE` (bytes), by which tests and benches have spills where memory needs none.
    pub fn of_environment() -> anyhow::Result<Self> {
        let Ok(text) = std::env::var("CALOSTREAM_SPILL") else { return Ok(Self::default()) };
        let (run, piece) = text.split_once(',').unwrap_or((&text, ""));
        let number = |text: &str| text.parse::<u64>().ok().filter(|n| *n > 0).context("CALOSTREAM_SPILL is RUN,PIECE in bytes");
        Ok(Self { run: Some(number(run)?), piece: if piece.is_empty() { READ } else { number(piece)? } })
    }
}

/// Bytes that one input of a shuffle holds in a process until runs are written; and how many such inputs are at work at a time.
#[must_use]
pub fn held(plan: &Plan, budget: u64) -> (u64, u64) {
    let levels = 0..=plan.steps.iter().map(|s| s.level).max().unwrap_or(0);
    let inputs = |level| plan.steps.iter().filter(|s| s.spills && s.level == level).map(|s| s.from.len() as u64).sum::<u64>();
    // What the level before has left in memory is read while this one puts aside.
    let at_work = levels.map(|level| inputs(level) + level.checked_sub(1).map_or(0, inputs)).max().unwrap_or(0);
    (budget / 3 / at_work.max(1), at_work)
}

/// How many parts of the new order, in a row, share a piece in the first pass: 1 where one pass is enough, because pieces are
/// not below `least` with runs of so many bytes; else about the root of the number of parts, so that both passes have pieces of
/// about one size.
#[must_use]
pub fn grain(bytes: u64, parts: u64, run: u64, least: u64) -> u64 {
    let runs = bytes.div_ceil(run.max(1));
    if runs <= 1 || parts < 4 || bytes / runs / parts >= least {
        return 1;
    }
    let root = parts.isqrt();
    root + u64::from(root * root < parts)
}

/// What a shuffle will put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// Rows that may come.
    pub there: u64,
    /// Rows that are put aside: fewer where a mix leaves some out, more where it takes them again.
    pub rows: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Parts of the new order.
    pub parts: u64,
    /// How often rows are put aside: not at all where they stay in memory.
    pub passes: u64,
    /// Runs of each pass, at least.
    pub runs: u64,
    /// Bytes of a piece, of the pass in which they are shortest.
    pub piece: u64,
    /// Runs that one worker has open at a time, at most.
    pub open: u64,
}

impl Forecast {
    /// Bytes that are on disk before anything is removed.
    #[must_use]
    pub fn on_disk(&self) -> u64 {
        self.bytes.saturating_mul(self.passes)
    }
}

/// The forecast for a shuffle that spills, with a budget for a process and its workers; none where nobody knows how many rows
/// there are.
#[must_use]
pub fn forecast(plan: &Plan, step: usize, budget: u64, workers: u64) -> Option<Forecast> {
    let planned = &plan.steps[step];
    let there = planned.inputs.iter().map(|i| i.rows).sum::<Option<u64>>();
    let read = |output: &usize| plan.takers(Port { step, output: *output }).next().is_some();
    let (rows, bytes, parts) = match expected::taken(&plan.steps, step).ok().flatten() {
        Some(taken) => {
            let of: Vec<(u64, usize)> = (0..taken.len()).filter(read).map(|o| (taken[o].iter().sum(), o)).collect();
            let rows: u64 = of.iter().map(|(rows, _)| rows).sum();
            let parts = of.iter().map(|(rows, output)| rows.div_ceil(of_part(plan, step, *output)).max(1)).sum::<u64>();
            (rows, rows.saturating_mul(planned.inputs[0].row_bytes), parts.max(1))
        }
        // Rows come again, and nobody knows how often.
        None if planned.planned.outputs.iter().any(|o| o.rows.is_none()) => return None,
        None => {
            let bytes = |input: &calostream_operators::Output| Some(input.rows? * input.row_bytes);
            let bytes: u64 = planned.inputs.iter().map(bytes).sum::<Option<u64>>()?;
            (there?, bytes, there?.div_ceil(of_part(plan, step, 0)).max(1))
        }
    };
    let there = there.unwrap_or(rows);
    let held = held(plan, budget).0;
    let once = Forecast { there, rows, bytes, parts, passes: 0, runs: 0, piece: 0, open: 0 };
    if bytes.saturating_add(rows.saturating_mul(PLACE_BYTES)) <= held {
        return Some(once);
    }
    let run = (held / workers).max(1);
    let runs = bytes.div_ceil(run).max(1);
    // Keys of a join are spread over the parts by their hash, in one pass.
    let grain = if planned.planned.lanes == Lanes::None { 1 } else { grain(bytes, parts, run, READ) };
    let open = |runs: u64| runs.div_ceil(workers).min(OPEN as u64);
    if grain == 1 {
        return Some(Forecast { passes: 1, runs, piece: bytes / runs / parts, open: open(runs), ..once });
    }
    let buckets = parts.div_ceil(grain);
    let piece = (bytes / runs / buckets).min((bytes / buckets).min(run) / grain);
    Some(Forecast { passes: 2, runs, piece, open: open(runs), ..once })
}

/// Rows of a part of an output.
fn of_part(plan: &Plan, step: usize, output: usize) -> u64 {
    let (Rows::About(rows) | Rows::Just(rows)) = Rows::of(&plan.steps, Port { step, output });
    rows.max(1)
}
