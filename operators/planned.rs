//! What a step was planned to be: its outputs, what it reads, the shape of its work.
//!
//! Everything here is data that the planner combines: phases follow from [`Shape`], the columns that need not be read at
//! all from [`Reads`], the memory check from `holds`.

use crate::{Placed, Problem};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One output of a step: a stream of batches, or a table that is there when its fold has settled.
#[derive(Debug, Clone)]
pub struct Output {
    /// The name behind the dot (`train` in `mixed.train`); empty for the only output of a step.
    pub name: String,
    /// The columns. Units, tensor shapes and the sample names are in its metadata (see [`crate::hits`], [`crate::column`]).
    pub schema: SchemaRef,
    /// True for a table (the result of a fold).
    pub table: bool,
    /// An upper bound of the rows, where it is known.
    pub rows: Option<u64>,
    /// Expected bytes of a row in memory.
    pub row_bytes: u64,
}

impl Output {
    /// The same with only the columns for which `keep` is true.
    ///
    /// Columns of a fixed width take what they take; what is left of `row_bytes` is shared by the others in proportion to
    /// their dense images, which is right up to the filling that the images of one event share.
    #[must_use]
    pub fn narrowed(&self, keep: impl Fn(&str) -> bool) -> Self {
        let (mut fields, mut fixed, mut fixed_all, mut free, mut free_all) = (Vec::new(), 0, 0, 0.0, 0.0);
        for field in self.schema.fields() {
            let kept = keep(field.name());
            match fixed_bytes(field.data_type()) {
                Some(bytes) => {
                    fixed_all += bytes;
                    fixed += if kept { bytes } else { 0 };
                }
                None => {
                    let bytes = dense_bytes(field);
                    free_all += bytes;
                    free += if kept { bytes } else { 0.0 };
                }
            }
            if kept {
                fields.push(Arc::clone(field));
            }
        }
        let shared = self.row_bytes.saturating_sub(fixed_all) as f64;
        let row_bytes = fixed + if free_all > 0.0 { (shared * free / free_all).ceil() as u64 } else { 0 };
        let schema = Arc::new(Schema::new_with_metadata(fields, self.schema.metadata().clone()));
        Self { schema, row_bytes: row_bytes.max(1), ..self.clone() }
    }
}

/// The bytes of a value, where all values have as many.
fn fixed_bytes(data_type: &DataType) -> Option<u64> {
    match data_type {
        DataType::Boolean => Some(1),
        DataType::Dictionary(key, _) => fixed_bytes(key),
        DataType::FixedSizeList(item, length) => Some(fixed_bytes(item.data_type())? * u64::try_from(*length).ok()?),
        DataType::Struct(fields) => fields.iter().map(|f| fixed_bytes(f.data_type())).sum(),
        other => other.primitive_width().map(|bytes| bytes as u64),
    }
}

/// The bytes that an image would take with every cell filled; a guess for texts and lists without a shape.
fn dense_bytes(field: &Field) -> f64 {
    let cells = crate::hits::shape(field).map_or(16.0, |shape| shape.iter().product::<usize>() as f64);
    match field.data_type() {
        DataType::List(item) => cells * fixed_bytes(item.data_type()).unwrap_or(8) as f64,
        _ => 16.0,
    }
}

/// The shape of a step's work, known before it starts; see [`crate::Work`] for what each may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Reads units.
    Source,
    /// Batch to batch, never waits.
    Map,
    /// Batch to batch on a thread of its own.
    Device,
    /// Gives each row a place in a new order, or brings rows of equal keys together; ends a phase.
    Shuffle,
    /// Batches to exact sums, and sums to a table.
    Fold,
    /// Stages parts that the engine commits.
    Sink,
    /// Makes a page of tables, at the end.
    Page,
}

/// Which columns of an input a step reads for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reads {
    /// Every column there is.
    All,
    /// Just these; what else comes in is passed on if somebody downstream reads it (Map, Device, Shuffle) or is not read at
    /// all (Fold, Sink).
    Columns(BTreeSet<String>),
}

impl Reads {
    /// Just these columns.
    pub fn columns<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::Columns(names.into_iter().map(Into::into).collect())
    }
}

/// What a step makes of its inputs.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The shape of the work.
    pub shape: Shape,
    /// The outputs, in order; none for a sink or a page.
    pub outputs: Vec<Output>,
    /// What is read of each input, in the order of `from`.
    pub reads: Vec<Reads>,
    /// Bytes that the work may hold on one worker, beside the batch in hand.
    pub holds: u64,
    /// What a source has to read, in order of discovery; empty for everything else.
    pub units: Vec<Unit>,
    /// Remarks for `plan` and `check` that are no mistakes (a file that will be quarantined, a cut that keeps all).
    pub remarks: Vec<String>,
    /// What a sink makes of all its parts in the end; none where the parts are all there is.
    pub assembled: Option<Assembled>,
    /// How many rows each part of a sink is to have, where somebody asked for it: a new order above is cut into such parts (the
    /// last one has the rest), and anything else is refused.
    pub rows_per_part: Option<Placed<u64>>,
    /// Files that were found unreadable at plan time, with the reason: they go to the quarantine list and are counted.
    pub quarantined: Vec<(String, String)>,
    /// What else the run's record is to say of this step (models with their hashes, say).
    pub used: serde_json::Value,
    /// Of a map or a device: true where it may cut rows, or makes others of them.
    pub cuts: bool,
    /// Of a shuffle: what has to be known before its order is.
    pub lanes: Lanes,
    /// Of a sink: true where its rows go to a program (`calostream feed`) and not into files.
    pub feeds: bool,
    /// Of a map or a fold that must know something of all rows before it looks at the first one (edges, weights): the columns
    /// of its first input from which that is summed ([`crate::Operator::survey`]), in a phase before; they are among those
    /// that it reads.
    pub survey: Option<Reads>,
}

/// What decides on the lane of a row (see [`crate::work::Shuffle`]), and so how lanes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lanes {
    /// Nothing: a join, which needs no counts.
    #[default]
    None,
    /// The sample alone: where units are of one sample and no row is cut, the headers say how many there are.
    Samples,
    /// The columns that the step reads: rows are counted before they are read as a whole.
    Rows,
}

impl Planned {
    /// A step of this shape that reads everything and holds nothing.
    #[must_use]
    pub fn new(shape: Shape, outputs: Vec<Output>) -> Self {
        Self {
            shape,
            outputs,
            reads: Vec::new(),
            holds: 0,
            units: Vec::new(),
            remarks: Vec::new(),
            assembled: None,
            rows_per_part: None,
            quarantined: Vec::new(),
            used: serde_json::Value::Null,
            cuts: false,
            lanes: Lanes::None,
            feeds: false,
            survey: None,
        }
    }

    /// The same, reading only `reads` of its one input.
    #[must_use]
    pub fn reading(mut self, reads: Reads) -> Self {
        self.reads = vec![reads];
        self
    }

    /// The same, in parts of so many rows; a problem where that is none.
    pub fn in_parts_of(mut self, rows: Option<&Placed<u64>>) -> Result<Self, Vec<Problem>> {
        if let Some(none) = rows.filter(|rows| rows.value == 0) {
            return Err(vec![Problem::at(none, "a file needs at least one event")]);
        }
        self.rows_per_part = rows.cloned();
        Ok(self)
    }

    /// The same, holding up to this many bytes on a worker.
    #[must_use]
    pub fn holding(mut self, bytes: u64) -> Self {
        self.holds = bytes;
        self
    }
}

/// The file that a sink makes of all parts of its step when every one of them is committed ([`crate::work::Sink::assemble`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// Its name in the step's folder.
    pub file: String,
    /// Whether the parts stay beside it. Where they don't, the engine removes them once the file is committed.
    pub parts_stay: bool,
    /// A part whose rows are a multiple of this is the least work to put together: where the engine cuts a new order into
    /// parts, it cuts it so.
    pub grain: u64,
}

/// What one worker reads and one commit covers: a row range of one file.
///
/// Written down in `units.jsonl` and never changed, so it holds nothing that depends on the machine or on the workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The step that reads it.
    pub step: String,
    /// The class that the rows belong to, where the source says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<String>,
    /// The file, as the pipeline's pattern found it.
    pub path: String,
    /// The fingerprint of the file's content: size, chunk index and sampled bytes; no path, no time.
    pub fingerprint: String,
    /// The first row.
    pub first: u64,
    /// The number of rows.
    pub rows: u64,
    /// The number of the file: files in order of first appearance. Given by the ledger.
    #[serde(default)]
    pub file: u32,
    /// Expected bytes of one row in memory, for the budget.
    pub row_bytes: u64,
    /// True where it must not share a part with others (a file that is made, say).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
}
