//! `feed`: rows to a program that trains on them, as batches of a fixed size, epoch after epoch (`calostream feed`).
//!
//! The step says what a batch is: how many rows, which columns, images as dense float32 tensors or as hits, and how well rows
//! are mixed. In which order rows come, and how they are handed over, is the engine's. What is fed ends with two columns of
//! its own, `epoch` and `position`: whoever goes on after the last position that it has used misses nothing.

mod rows;
#[cfg(test)]
mod tests;

use crate::feeding::{Feeding, Last, Rows};
use crate::registry::Describe;
use crate::{Facts, Operator, Output, Placed, Planned, Problem, Shape, Start, Work};
use anyhow::Context;
use rows::DenseRows;
use schemars::JsonSchema;
use serde::Deserialize;

/// The column with the epoch of a row, from 0.
pub const EPOCH: &str = "epoch";
/// The column with the place of a row in the order of its epoch, from 0.
pub const POSITION: &str = "position";

/// What rows take that wait for their turn, where nobody says how many they are ...
const WINDOW_BYTES: u64 = 128 << 20;
/// ... no fewer than so many, which mix well enough ...
const WINDOW_LEAST: u64 = 1 << 10;
/// ... and no more than so many, which mix as well as more would.
const WINDOW_MOST: u64 = 1 << 16;
/// Batches that are on their way to the program at once: made, encoded, handed over.
const BATCHES: u64 = 8;

/// Feeds a training program with batches (`calostream feed`).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Feed {
    /// Rows of a batch: the same in each, also where one file ends and another begins.
    pub batch: Placed<u64>,
    /// The columns; by default all. Those that say where a row came from always come along.
    pub columns: Option<Vec<Placed<String>>>,
    /// Images that are hits in memory: as `dense` float32 tensors (the default), or as `hits`.
    #[schemars(with = "Shown")]
    pub images: Placed<Shown>,
    /// How far a row is moved in the order, at most, by a draw of its own; so many rows are held in memory. By default as many
    /// as 128 MiB hold, between 1024 and 65536.
    pub window: Option<Placed<u64>>,
    /// How many files (or pieces of large ones) are read side by side, rows taken from each in turn; of each sample at least one.
    pub files_at_once: Placed<u32>,
    /// What becomes of the last rows of an epoch where they are fewer than a batch: `keep` (a short batch, the default) or
    /// `drop`.
    pub last: Last,
}

/// How images are fed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// As dense float32 tensors: a column for each value of a hit (`ecal`; `ecal_energy` and `ecal_time` where there are several).
    #[default]
    Dense,
    /// As hits: lists of cells and values.
    Hits,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            batch: Placed::unplaced(128),
            columns: None,
            images: Placed::default(),
            window: None,
            files_at_once: Placed::unplaced(4),
            last: Last::Keep,
        }
    }
}

impl Describe for Feed {
    const ABOUT: &'static str = "Feeds a training program with batches, epoch after epoch (`calostream feed`)";
    const EXAMPLE: &'static str = "batches:\n  from: events\n  feed: { batch: 128, columns: [ecal, energy] }\n";
}

impl Feed {
    fn window(&self, row_bytes: u64) -> u64 {
        let most = || (WINDOW_BYTES / row_bytes.max(1)).clamp(WINDOW_LEAST, WINDOW_MOST);
        self.window.as_ref().map_or_else(most, |window| window.value)
    }

    fn rows(&self, input: &Output) -> Result<DenseRows, Vec<Problem>> {
        let images = Placed { place: self.images.place, value: self.images.value == Shown::Dense };
        DenseRows::new(&input.schema, self.columns.as_deref(), images)
    }
}

impl Operator for Feed {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let [input] = inputs else {
            return Err(vec![Problem::at(&self.batch, format!("`feed` takes one input, not {}", inputs.len()))]);
        };
        if input.table {
            let problem = Problem::at(&self.images, "`feed` feeds a stream of rows, and this input is a table");
            return Err(vec![problem.help("name a step that gives rows")]);
        }
        let mut problems = Vec::new();
        if self.batch.value == 0 {
            problems.push(Problem::at(&self.batch, "a batch needs at least one row").help("batch: 128"));
        }
        if let Some(none) = self.window.as_ref().filter(|window| window.value == 0) {
            problems.push(Problem::at(none, "a window of no rows").help("1 leaves rows as they come; thousands mix them"));
        }
        if self.files_at_once.value == 0 {
            problems.push(Problem::at(&self.files_at_once, "rows come from at least one file").help("files_at_once: 4"));
        }
        let rows = self.rows(input).map_err(|found| problems.extend(found)).ok();
        let Some(rows) = rows.filter(|_| problems.is_empty()) else { return Err(problems) };
        let window = self.window(input.row_bytes);
        let waiting = window.saturating_mul(input.row_bytes);
        let handed = self.batch.value.saturating_mul(rows.row_bytes(input.row_bytes)).saturating_mul(BATCHES);
        let mut planned = Planned::new(Shape::Sink, Vec::new()).holding(waiting.saturating_add(handed));
        planned.reads = vec![rows.reads(self.columns.is_none())];
        planned.feeds = true;
        Ok(planned)
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let input = at.inputs.first().context("one input")?;
        let rows = self.rows(input).map_err(|wrong| anyhow::anyhow!("`feed` was not planned: {wrong:?}"))?;
        Ok(Work::Feed(Box::new(Feeding {
            batch: usize::try_from(self.batch.value)?,
            window: self.window(input.row_bytes),
            files_at_once: self.files_at_once.value as usize,
            last: self.last,
            rows: Box::new(rows),
        })))
    }
}
