//! `pair`: the two leading particles of an event side by side in one row.
//!
//! An event is either a run of rows of the same identifiers (`by: [run, event_number]`, one row a particle), or one row with
//! lists (one entry a particle). Of each event the two particles with the largest `leading` make the pair, in that order;
//! `x` becomes `x_1` and `x_2`. The other rows of the event are cut, as is an event with fewer than two, so rows in = rows
//! out + cut. Where the row came from (`sample`, `file`, `row`, `event`) is that of the first row of the event.
//!
//! With `by`, the rows of an event must be neighbours, as they are in a file that was written event by event, and are no
//! longer after `premix`. An identifier that comes back later in the unit is a content error. Identifiers that repeat
//! between files (event numbers of several runs) do no harm as long as they do not meet. A unit is read by itself: an event
//! whose rows two units share makes no pair, and its rows are counted with those of events of one particle.

use crate::column;
use crate::kinematics::{Quantity, Z_MASS, label, mass, opening, per_gev};
use crate::registry::Describe;
use crate::statistics::folding::gather;
use crate::weights::carried;
use crate::work::{Device, Noticed, notice};
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use anyhow::Context;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// What is kept of the identifiers of a unit, at most: 16 bytes each.
const HOLDS: u64 = 64 << 20;

/// Makes the pair of the two leading particles of each event.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The columns that tell events apart, where a row is a particle: `[event_number]`, or `[run, event_number]`. The rows
    /// of an event must be neighbours. Without it, a row is an event and the columns hold lists.
    #[serde(default)]
    pub by: Option<Placed<Vec<Placed<String>>>>,
    /// The columns of a particle: `pt` becomes `pt_1` and `pt_2`.
    pub columns: Placed<Vec<Placed<String>>>,
    /// The column whose two largest values make the pair.
    pub leading: Placed<String>,
    /// Also the columns `mass`, `label_1` and `label_2`.
    #[serde(default)]
    pub kinematics: Option<Kinematics>,
}

/// What the mass of a pair is made of. `label_1` is what particle 1 has (its pt, or its energy where that is given) if the
/// mass of the pair is that of the Z and particle 2 is measured well; `label_2` the other way round.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kinematics {
    /// The column of the transverse momenta, or of the energies.
    pub of: Placed<String>,
    /// Which of the two it holds.
    #[serde(default)]
    pub holds: Quantity,
    /// The column of the pseudorapidities.
    #[serde(default = "eta")]
    pub eta: Placed<String>,
    /// The column of the azimuths.
    #[serde(default = "phi")]
    pub phi: Placed<String>,
    /// The mass that the labels start from; that of the Z, in the unit of `of`, where none is given.
    #[serde(default)]
    pub mass: Option<Placed<f64>>,
}

/// The usual name of the pseudorapidity.
pub(crate) fn eta() -> Placed<String> {
    Placed::unplaced("eta".to_owned())
}

/// The usual name of the azimuth.
pub(crate) fn phi() -> Placed<String> {
    Placed::unplaced("phi".to_owned())
}

impl Describe for Pair {
    const ABOUT: &'static str = "Puts the two leading particles of each event side by side, with the mass of the pair";
    const EXAMPLE: &'static str = "\
pairs:
  from: electrons
  pair: { by: [event_number], columns: [pt, eta, phi], leading: pt, kinematics: { of: pt } }
";
}

/// The names of a column for the two particles.
pub(crate) fn names(column: &str) -> [String; 2] {
    [format!("{column}_1"), format!("{column}_2")]
}

/// A `pair` whose words were found right.
#[derive(Debug, Clone)]
struct Pairing {
    by: Option<Vec<String>>,
    columns: Vec<String>,
    leading: String,
    kinematics: Option<Made>,
    schema: SchemaRef,
}

#[derive(Debug, Clone)]
struct Made {
    of: String,
    holds: Quantity,
    eta: String,
    phi: String,
    mass: f64,
}

impl Pair {
    /// The field of one particle's value.
    fn particle(&self, schema: &Schema, name: &Placed<String>) -> Result<Field, Problem> {
        let field = column::field(schema, name)?;
        match (&self.by, field.data_type()) {
            (Some(_), _) => Ok(field.clone()),
            (None, DataType::List(item) | DataType::FixedSizeList(item, _)) if !item.data_type().is_nested() => {
                let item = Field::new(name.value.clone(), item.data_type().clone(), item.is_nullable());
                Ok(item.with_metadata(field.metadata().clone()))
            }
            (None, other) => {
                let what = format!("column `{}` is {other}, not a list of the particles of an event", name.value);
                Err(Problem::at(name, what).help("where a row is a particle, name what tells events apart: `by: [event_number]`"))
            }
        }
    }

    fn pairing(&self, schema: &Schema) -> Result<Pairing, Vec<Problem>> {
        let (mut problems, mut fields, mut particle) = (Vec::new(), Vec::new(), Vec::new());
        for name in self.by.iter().flat_map(|by| by.iter()) {
            match column::field(schema, name) {
                Err(problem) => problems.push(problem),
                Ok(_) if [column::EVENT, column::ROW].contains(&name.value.as_str()) => {
                    let what = format!("`{}` is another one in every row, so no two rows would be of one event", name.value);
                    problems.push(Problem::at(name, what).help("name a column of the file's own: `by: [event_number]`"));
                }
                Ok(field) if field.data_type().is_nested() || field.data_type().is_floating() => {
                    problems.push(Problem::at(name, format!("column `{}` is {}, no identifier", name.value, field.data_type())));
                }
                Ok(field) => fields.push(field.clone()),
            }
        }
        if let Some(by) = self.by.as_ref().filter(|by| by.is_empty()) {
            problems.push(Problem::at(by, "nothing tells events apart").help("by: [event_number]"));
        }
        if self.columns.is_empty() {
            problems.push(Problem::at(&self.columns, "no column to pair").help("columns: [pt, eta, phi]"));
        }
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for name in self.columns.iter() {
            if !seen.insert(&name.value) {
                problems.push(Problem::at(name, format!("`{}` is named twice", name.value)));
                continue;
            }
            if let Some(field) = gather(self.particle(schema, name), &mut problems) {
                particle.push(field);
            }
        }
        let number = |name: &Placed<String>| -> Result<Field, Problem> {
            let field = self.particle(schema, name)?;
            let what = || Problem::at(name, format!("column `{}` holds {}s, not numbers", name.value, field.data_type()));
            if field.data_type().is_numeric() { Ok(field.clone()) } else { Err(what()) }
        };
        gather(number(&self.leading), &mut problems);
        for field in &particle {
            fields.extend(names(field.name()).map(|name| field.clone().with_name(name)));
        }
        let mut kinematics = None;
        if let Some(words) = &self.kinematics {
            for name in [&words.eta, &words.phi] {
                gather(number(name), &mut problems);
            }
            if let Some(mass) = words.mass.as_ref().filter(|mass| !(mass.value > 0.0 && mass.value.is_finite())) {
                problems.push(Problem::at(mass, format!("a mass of {}", mass.value)).help("it is above 0"));
            }
            if let Some(field) = gather(number(&words.of), &mut problems) {
                let unit = column::unit(&field);
                for name in ["mass".to_owned()].into_iter().chain(names("label")) {
                    fields.push(column::with_unit(Field::new(name, DataType::Float64, false), unit));
                }
                let mass = words.mass.as_ref().map_or(Z_MASS * per_gev(unit), |mass| mass.value);
                let [of, eta, phi] = [&words.of, &words.eta, &words.phi].map(|word| word.value.clone());
                kinematics = Some(Made { of, holds: words.holds, eta, phi, mass });
            }
        }
        let came = schema.fields().iter().filter(|field| carried(field));
        let fields: Vec<Field> =
            came.map(|field| field.as_ref().clone()).filter(|f| !fields.contains(f)).chain(fields.clone()).collect();
        let mut seen = BTreeSet::new();
        if let Some(twice) = fields.iter().find(|field| !seen.insert(field.name().as_str())) {
            problems.push(Problem::at(&self.columns, format!("two columns would be called `{}`", twice.name())));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Pairing {
            by: self.by.as_ref().map(|by| by.iter().map(|name| name.value.clone()).collect()),
            columns: self.columns.iter().map(|name| name.value.clone()).collect(),
            leading: self.leading.value.clone(),
            kinematics,
            schema: Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())),
        })
    }
}

impl Pairing {
    /// The columns of particles that are read.
    fn particles(&self) -> BTreeSet<String> {
        let made = self.kinematics.iter().flat_map(|made| [&made.of, &made.eta, &made.phi]);
        self.columns.iter().chain([&self.leading]).chain(made).cloned().collect()
    }
}

impl Operator for Pair {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let input = &inputs[0];
        let pairing = self.pairing(&input.schema)?;
        let came = pairing.schema.fields().iter().filter(|field| carried(field)).map(|field| field.name().clone());
        let reads = Reads::columns(pairing.particles().into_iter().chain(pairing.by.clone().into_iter().flatten()).chain(came));
        let row_bytes = pairing.schema.fields().iter().map(|f| f.data_type().primitive_width().unwrap_or(16) as u64).sum();
        let output = Output { name: String::new(), schema: pairing.schema.clone(), row_bytes, ..input.clone() };
        let holds = if pairing.by.is_some() { HOLDS } else { 0 };
        Ok(Planned { cuts: true, ..Planned::new(Shape::Device, vec![output]).reading(reads).holding(holds) })
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let pairing = self.pairing(&at.inputs[0].schema).map_err(super::select::described)?;
        let outputs = super::select::names(at);
        Ok(Work::Device(Box::new(Matching {
            pairing,
            outputs,
            open: None,
            ended: HashSet::new(),
            cut: 0,
            noticed: Noticed::new(),
        })))
    }
}

struct Matching {
    pairing: Pairing,
    outputs: Vec<String>,
    /// The rows of the event that may go on in the next batch.
    open: Option<RecordBatch>,
    /// The events of this unit that are over.
    ended: HashSet<u64>,
    cut: u64,
    noticed: Noticed,
}

/// The events of some rows: for each the row whose place it keeps, and the entries of its two particles.
#[derive(Debug, Default)]
struct Pairs {
    rows: Vec<u32>,
    one: Vec<u32>,
    other: Vec<u32>,
}

impl Pairs {
    /// Takes the two of an event's entries with the largest values, the first of equal ones, NaN last; none of fewer than two.
    fn take(&mut self, row: usize, entries: std::ops::Range<usize>, leading: &Float64Array) -> bool {
        let value = |i: usize| if leading.is_null(i) || leading.value(i).is_nan() { f64::NEG_INFINITY } else { leading.value(i) };
        let mut best: [Option<usize>; 2] = [None, None];
        for i in entries {
            if best[0].is_none_or(|first| value(i) > value(first)) {
                best = [Some(i), best[0]];
            } else if best[1].is_none_or(|second| value(i) > value(second)) {
                best[1] = Some(i);
            }
        }
        let [Some(one), Some(other)] = best else { return false };
        self.rows.push(row as u32);
        self.one.push(one as u32);
        self.other.push(other as u32);
        true
    }
}

impl Matching {
    /// The pairs of rows that are events with lists.
    fn of_lists(&mut self, batch: &RecordBatch) -> Result<RecordBatch, Fault> {
        let mut offsets: Option<Vec<i32>> = None;
        let mut particles = Vec::new();
        for name in self.pairing.particles() {
            let list = column::get(batch, &name);
            let list = match list.data_type() {
                DataType::FixedSizeList(item, _) => cast(list, &DataType::List(item.clone()))?,
                _ => list.clone(),
            };
            let list = list.as_list_opt::<i32>().with_context(|| format!("`{name}` is no list"))?;
            let first = list.value_offsets()[0];
            let lengths = list.value_offsets().windows(2).enumerate();
            // A missing list may stand over entries; it has none.
            if let Some((row, _)) = lengths.clone().find(|(row, ends)| list.is_null(*row) && ends[0] != ends[1]) {
                return Err(Fault::content(format!("`{name}` is missing in row {row} of a batch")));
            }
            let of_this: Vec<i32> = list.value_offsets().iter().map(|offset| offset - first).collect();
            match &offsets {
                Some(offsets) if *offsets != of_this => {
                    return Err(Fault::content(format!("`{name}` has other lengths than the other lists of its event")));
                }
                _ => offsets = Some(of_this),
            }
            let last = list.value_offsets()[list.len()];
            particles.push((name, list.values().slice(first as usize, (last - first) as usize)));
        }
        let offsets = offsets.unwrap_or_default();
        let leading = numbers(&particles, &self.pairing.leading)?;
        let mut pairs = Pairs::default();
        for (row, ends) in offsets.windows(2).enumerate() {
            if !pairs.take(row, ends[0] as usize..ends[1] as usize, &leading) {
                self.lonely(1);
            }
        }
        self.made(batch, &particles, &pairs)
    }

    /// The pairs of the events that are over in these rows: all but the last, or all of them.
    fn of_rows(&mut self, batch: &RecordBatch, all: bool) -> Result<Option<RecordBatch>, Fault> {
        let by: Vec<ArrayRef> = self.pairing.by.iter().flatten().map(|name| column::get(batch, name).clone()).collect();
        let sorts = by.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let identities = RowConverter::new(sorts)?.convert_columns(&by)?;
        let particles: Vec<(String, ArrayRef)> =
            self.pairing.particles().into_iter().map(|name| (name.clone(), column::get(batch, &name).clone())).collect();
        let leading = numbers(&particles, &self.pairing.leading)?;
        let (mut pairs, mut first) = (Pairs::default(), 0);
        for row in 1..=batch.num_rows() {
            if row < batch.num_rows() && identities.row(row) == identities.row(first) {
                continue;
            }
            if row == batch.num_rows() && !all {
                break;
            }
            if !self.ended.insert(xxh3_64(identities.row(first).as_ref())) {
                let names = self.pairing.by.iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let value = |column: &ArrayRef| arrow::util::display::array_value_to_string(column, first).unwrap_or_default();
                let values = by.iter().map(value).collect::<Vec<_>>().join(", ");
                return Err(Fault::content(format!("rows of the event {names} = {values} are not neighbours")));
            }
            if pairs.take(first, first..row, &leading) {
                self.cut += (row - first - 1) as u64;
            } else {
                self.lonely(row - first);
            }
            first = row;
        }
        self.open = (first < batch.num_rows()).then(|| batch.slice(first, batch.num_rows() - first));
        if pairs.rows.is_empty() {
            return Ok(None);
        }
        self.made(batch, &particles, &pairs).map(Some)
    }

    fn lonely(&mut self, rows: usize) {
        self.cut += rows as u64;
        notice(&mut self.noticed, 1, || "events with fewer than two particles cut".into());
    }

    /// The rows of pairs.
    fn made(&self, batch: &RecordBatch, particles: &[(String, ArrayRef)], pairs: &Pairs) -> Result<RecordBatch, Fault> {
        let [rows, one, other] = [&pairs.rows, &pairs.one, &pairs.other].map(|indices| UInt32Array::from(indices.clone()));
        let of = |name: &str| -> anyhow::Result<&ArrayRef> {
            Ok(&particles.iter().find(|(n, _)| n == name).with_context(|| format!("no `{name}`"))?.1)
        };
        let mut made: Vec<(String, ArrayRef)> = Vec::new();
        for name in &self.pairing.columns {
            for (name_of, entries) in names(name).into_iter().zip([&one, &other]) {
                made.push((name_of, take(of(name)?, entries, None)?));
            }
        }
        if let Some(Made { of: energy, holds, eta, phi, mass: of_z }) = &self.pairing.kinematics {
            let two = |name: &str| -> anyhow::Result<[Vec<f64>; 2]> {
                let [a, b] = [&one, &other].map(|entries| floats(&take(of(name)?, entries, None)?));
                Ok([a?, b?])
            };
            let (energy, eta, phi) = (two(energy)?, two(eta)?, two(phi)?);
            let mut columns: [Vec<f64>; 3] = std::array::from_fn(|_| Vec::with_capacity(pairs.rows.len()));
            for i in 0..pairs.rows.len() {
                let eta = [eta[0][i], eta[1][i]];
                let pt: [f64; 2] = std::array::from_fn(|k| holds.pt(energy[k][i], eta[k]));
                let opening = opening(eta, [phi[0][i], phi[1][i]]);
                columns[0].push(mass(pt, opening));
                for k in 0..2 {
                    columns[k + 1].push(holds.of_pt(label(*of_z, pt[1 - k], opening), eta[k]));
                }
            }
            let made_names = ["mass".to_owned()].into_iter().chain(names("label"));
            made.extend(made_names.zip(columns).map(|(name, values)| (name, Arc::new(Float64Array::from(values)) as ArrayRef)));
        }
        let schema = Schema::new_with_metadata(
            self.outputs.iter().map(|name| self.pairing.schema.field_with_name(name).cloned()).collect::<Result<Vec<_>, _>>()?,
            self.pairing.schema.metadata().clone(),
        );
        let column = |name: &String| match made.iter().find(|(n, _)| n == name) {
            Some((_, column)) => Ok(column.clone()),
            None => take(column::get(batch, name), &rows, None),
        };
        let columns = self.outputs.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(pairs.rows.len()));
        Ok(RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)?)
    }
}

/// A column of particles as numbers.
fn numbers(particles: &[(String, ArrayRef)], name: &str) -> anyhow::Result<Float64Array> {
    let (_, column) = particles.iter().find(|(n, _)| n == name).with_context(|| format!("no `{name}`"))?;
    Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// Numbers, a missing one as NaN.
fn floats(column: &ArrayRef) -> anyhow::Result<Vec<f64>> {
    Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().iter().map(|v| v.unwrap_or(f64::NAN)).collect())
}

impl Device for Matching {
    fn push(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>, Fault> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        if self.pairing.by.is_none() {
            return Ok(vec![self.of_lists(&batch)?]);
        }
        let rows = match self.open.take() {
            None => batch,
            Some(open) => column::concat(&batch.schema(), [&open, &batch])?,
        };
        Ok(self.of_rows(&rows, false)?.into_iter().collect())
    }

    fn end(&mut self) -> Result<Vec<RecordBatch>, Fault> {
        let last = match self.open.take() {
            None => None,
            Some(open) => self.of_rows(&open, true)?,
        };
        self.ended.clear();
        Ok(last.into_iter().collect())
    }

    fn forget(&mut self) {
        self.open = None;
        self.ended.clear();
    }

    fn cut(&mut self) -> u64 {
        std::mem::take(&mut self.cut)
    }

    fn noticed(&mut self) -> Noticed {
        std::mem::take(&mut self.noticed)
    }
}

#[cfg(test)]
mod tests;
