//! Random draws of events, as the image operators make them.
//!
//! A draw is a function of the event's identity, the pipeline's seed, the epoch, and its purpose (operator, name, axis or
//! image): so an event gets the same one on any machine and in any batch, and another one each epoch. Steps that name the
//! same draw for different images share it, which is how images of an event move together; the same draw for the same
//! image twice would repeat its numbers, so a column writes down (in its field's metadata) what was drawn for it, and a
//! second time is a mistake.

use crate::column::{self, EVENT};
use crate::random::Random;
use crate::statistics::folding::gather;
use crate::{Facts, Fault, Placed, Problem, hits};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

const DRAWS_KEY: &str = "calostream.draws";

/// The draws of one purpose.
#[derive(Debug, Clone)]
pub struct Draws {
    seed: u64,
    epoch: u64,
    purpose: u64,
}

impl Draws {
    /// The draws of this purpose in this epoch.
    #[must_use]
    pub fn new(facts: &Facts, purpose: &str) -> Self {
        Self { seed: facts.seed, epoch: facts.epoch, purpose: xxh3_64(purpose.as_bytes()) }
    }

    /// The random numbers of an event.
    pub(crate) fn of(&self, event: u64) -> Random {
        Random::new([event, self.seed, self.epoch, self.purpose])
    }
}

/// That there are identities of events to draw by.
pub fn needs_events(schema: &Schema, word: &Placed<String>) -> Result<(), Problem> {
    match schema.field_with_name(EVENT).map(Field::data_type) {
        Ok(DataType::UInt64) => Ok(()),
        _ => Err(Problem::at(word, format!("draws need the column `{EVENT}`, which every source makes"))),
    }
}

/// The identities of the events of a batch.
pub fn events(batch: &RecordBatch) -> Result<ScalarBuffer<u64>, Fault> {
    let column = column::get(batch, EVENT);
    match column.as_primitive_opt::<UInt64Type>() {
        Some(events) if events.null_count() == 0 => Ok(events.values().clone()),
        _ => Err(Fault::content(format!("rows without an `{EVENT}`"))),
    }
}

/// The field of an image that has had this draw; a problem where it has had it before, here or in the run that wrote it.
pub fn drawn(field: &Field, purpose: &str, facts: &Facts, word: &Placed<String>) -> Result<Field, Problem> {
    let known = field.metadata().get(DRAWS_KEY);
    let mut draws: Vec<String> = known.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let draw = format!("{purpose} of seed {}", facts.seed);
    if draws.contains(&draw) {
        let what = format!("`{}` has had the draw `{draw}` before, and would get the same random numbers", field.name());
        return Err(Problem::at(word, what).help("give this one a name of its own: `draw: second`"));
    }
    draws.push(draw);
    let mut metadata = field.metadata().clone();
    metadata.insert(DRAWS_KEY.into(), serde_json::Value::from(draws).to_string());
    Ok(field.clone().with_metadata(metadata))
}

/// The image of this name and its shape.
pub fn image<'a>(schema: &'a Schema, name: &Placed<String>) -> Result<(&'a Field, Vec<usize>), Problem> {
    let field = column::field(schema, name)?;
    let held = hits::is_hits(field) || matches!(field.data_type(), DataType::FixedSizeList(..));
    match hits::shape(field).filter(|shape| held && !shape.is_empty() && shape.iter().all(|length| *length > 0)) {
        Some(shape) => Ok((field, shape)),
        None => {
            let images = schema.fields().iter().filter(|f| hits::shape(f).is_some()).map(|f| f.name().as_str());
            Err(Problem::at(name, format!("column `{}` is no image", name.value)).suggest(name, images))
        }
    }
}

/// The images that a step names, each once, as `each` changes their fields.
pub fn images(
    schema: &Schema,
    names: &Placed<Vec<Placed<String>>>,
    problems: &mut Vec<Problem>,
    mut each: impl FnMut(&Placed<String>, &Field, &[usize], &mut Vec<Problem>) -> Result<Field, Problem>,
) -> Schema {
    let (mut changed, mut seen) = (BTreeMap::new(), BTreeSet::new());
    if names.is_empty() {
        problems.push(Problem::at(names, "no image is named").help("images: [ecal, hcal]"));
    }
    for name in names.iter() {
        if !seen.insert(name.value.as_str()) {
            problems.push(Problem::at(name, format!("`{}` is named twice", name.value)));
            continue;
        }
        let field = image(schema, name).and_then(|(field, shape)| each(name, field, &shape, problems));
        changed.extend(gather(field, problems).map(|field| (name.value.as_str(), field)));
    }
    let fields =
        schema.fields().iter().map(|field| changed.remove(field.name().as_str()).unwrap_or_else(|| field.as_ref().clone()));
    Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone())
}
