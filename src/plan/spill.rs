//! What a shuffle will put aside: how many bytes, in how many runs, read back in what pieces. For `plan`, and for the flow, which
//! holds as much as is said here.
//!
//! A run is as large as memory allows, and has a piece for every part of the new order; so the pieces are the longer the more
//! memory there is. Of each run a stretch of at least [`READ`] bytes is read ahead, so that pieces may be shorter than one good
//! read.

use super::parts::Rows;
use super::{Plan, Port};
use anyhow::Context;

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
    /// Bytes of all rows that may come.
    pub bytes: u64,
    /// Runs, at least.
    pub runs: u64,
    /// Parts of the new order.
    pub parts: u64,
    /// Bytes of a piece.
    pub piece: u64,
    /// Runs that one worker has open at a time.
    pub open: u64,
}

/// The forecast for a shuffle that spills, with a budget for a process and its workers; none where nobody knows how many rows
/// there are.
#[must_use]
pub fn forecast(plan: &Plan, step: usize, budget: u64, workers: u64) -> Option<Forecast> {
    let planned = &plan.steps[step];
    let bytes = |input: &calostream_operators::Output| Some(input.rows? * input.row_bytes);
    let bytes: u64 = planned.inputs.iter().map(bytes).sum::<Option<u64>>()?;
    let rows: u64 = planned.inputs.iter().map(|i| i.rows).sum::<Option<u64>>()?;
    let run = (held(plan, budget).0 / workers).max(1);
    let runs = bytes.div_ceil(run).max(1);
    let (Rows::About(of_part) | Rows::Just(of_part)) = Rows::of(&plan.steps, Port { step, output: 0 });
    let parts = rows.div_ceil(of_part.max(1)).max(1);
    let open = runs.div_ceil(workers);
    Some(Forecast { bytes, runs, parts, piece: bytes / runs / parts, open })
}
