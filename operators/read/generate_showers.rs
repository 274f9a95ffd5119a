//! Generated showers in the LCD geometry: events without files, for trying things, for tests and for measuring speed.
//!
//! An event depends on (seed, class, index) alone, so units may be cut, read and repeated in any way; see
//! [`crate::shower`] for what the events are.

use crate::column::{self, with_samples, with_unit};
use crate::hits::{HitsBuilder, hits_field};
use crate::registry::Describe;
use crate::shower::{Class, ECAL_SHAPE, Generator, HCAL_SHAPE, Image, Particle, VERSION};
use crate::weights::{self, Weights};
use crate::work::{Batches, Source};
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Shape, Start, Unit, Work};
use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef};
use schemars::{JsonSchema, Schema as JsonSchemaValue, SchemaGenerator};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// Rows of a batch.
const BATCH: u64 = 128;
/// Bytes of an event as hits, on the average over energies and classes.
const ROW_BYTES: u64 = 16_000;

/// Showers made up on the spot: electrons, photons, neutral and charged pions in an LCD-like calorimeter.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateShowers {
    /// The classes, in the order of their numbers.
    #[serde(default = "classes")]
    pub classes: Vec<Placed<Class>>,
    /// Events of each class: one number for all, or one by class.
    pub events: Events,
    /// Energies are flat between these, GeV.
    #[serde(default = "energy")]
    pub energy: Placed<[f64; 2]>,
    /// Events of one unit of work; with a writer behind, of one file.
    #[serde(default = "events_per_file")]
    pub events_per_file: Placed<u64>,
    /// Where the random numbers start; the pipeline's seed if there is none.
    #[serde(default)]
    pub seed: Option<u64>,
    /// What an event of each sample counts in every statistic: `{ samples: { signal: 0.5, background: { cross_section: 12.3,
    /// luminosity: 36.1, sum_of_weights: 1e6 } } }`. Makes the column `weight`.
    #[serde(default)]
    pub weights: Option<Placed<Weights>>,
}

fn classes() -> Vec<Placed<Class>> {
    Class::ALL.map(Placed::unplaced).to_vec()
}
fn energy() -> Placed<[f64; 2]> {
    Placed::unplaced([10.0, 510.0])
}
fn events_per_file() -> Placed<u64> {
    Placed::unplaced(500)
}

impl Describe for GenerateShowers {
    const ABOUT: &'static str = "Makes up showers in an LCD-like calorimeter";
    const EXAMPLE: &'static str = "events:\n  generate_showers: { classes: [electron, pion], events: 1000, energy: [10, 510] }\n";
}

/// How many events: of each class the same, or by class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Events {
    /// Of each class.
    Each(u64),
    /// By class.
    Of(BTreeMap<Class, u64>),
}

impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Events;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of events, or a number by class")
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Events, E> {
                Ok(Events::Each(n))
            }
            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Events, E> {
                u64::try_from(n).map(Events::Each).map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(n), &self))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Events, A::Error> {
                let mut of = BTreeMap::new();
                while let Some((class, events)) = map.next_entry()? {
                    of.insert(class, events);
                }
                Ok(Events::Of(of))
            }
        }
        from.deserialize_any(Either)
    }
}

impl JsonSchema for Events {
    fn schema_name() -> Cow<'static, str> {
        "Events".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> JsonSchemaValue {
        let by_class = generator.subschema_for::<BTreeMap<Class, u64>>();
        schemars::json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0 }, by_class] })
    }
}

impl GenerateShowers {
    fn events(&self, class: Class) -> u64 {
        match &self.events {
            Events::Each(n) => *n,
            Events::Of(of) => of.get(&class).copied().unwrap_or(0),
        }
    }

    /// What an event is a function of, beside its class and index.
    fn fingerprint(&self, class: Class, seed: u64) -> String {
        let [low, high] = self.energy.value.map(f64::to_bits);
        let text = format!("generate_showers {VERSION} {} {seed} {low:016x} {high:016x}", class.name());
        format!("{:032x}", xxh3_128(text.as_bytes()))
    }

    /// The units, the classes taking turns.
    fn units(&self, seed: u64) -> Vec<Unit> {
        let per_file = self.events_per_file.value;
        let most = self.classes.iter().map(|c| self.events(c.value).div_ceil(per_file)).max().unwrap_or(0);
        let unit = |class: Class, number: u64| {
            let first = number * per_file;
            let rows = self.events(class).saturating_sub(first).min(per_file);
            (rows > 0).then(|| Unit {
                step: String::new(),
                sample: Some(class.name().into()),
                path: format!("generated/{}", class.name()),
                fingerprint: self.fingerprint(class, seed),
                first,
                rows,
                file: 0,
                row_bytes: ROW_BYTES,
                alone: true,
            })
        };
        (0..most).flat_map(|number| self.classes.iter().filter_map(move |class| unit(class.value, number))).collect()
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let [low, high] = self.energy.value;
        if !(low > 0.0 && high >= low && high <= 10_000.0) {
            problems.push(
                Problem::at(&self.energy, format!("no range of energies: {low} to {high} GeV"))
                    .help("from more than 0 up to at most 10000, such as [10, 510]"),
            );
        }
        if self.events_per_file.value == 0 {
            problems.push(Problem::at(&self.events_per_file, "a file needs at least one event"));
        }
        for (k, class) in self.classes.iter().enumerate() {
            if self.classes[..k].iter().any(|c| c.value == class.value) {
                problems.push(Problem::at(class, format!("`{}` is listed twice", class.name())));
            }
        }
        if let Events::Of(of) = &self.events {
            for class in of.keys().filter(|class| !self.classes.iter().any(|c| c.value == **class)) {
                let place = self.classes.first().map(|c| c.place).unwrap_or_default();
                let what = format!("`events` has `{}`, which is not among the classes", class.name());
                problems.push(Problem { place, what, help: None });
            }
        }
        problems
    }
}

fn schema(classes: &[Placed<Class>]) -> SchemaRef {
    let samples: Vec<String> = classes.iter().map(|c| c.name().to_owned()).collect();
    let gev = |field| with_unit(field, Some("GeV"));
    let value = [gev(Field::new("energy", DataType::Float32, false))];
    let mut fields = column::provenance_fields(true);
    fields.push(Field::new("pdg", DataType::Int32, false));
    fields.push(gev(Field::new("energy", DataType::Float64, false)));
    fields.push(hits_field("ecal", &ECAL_SHAPE, &value));
    fields.push(hits_field("hcal", &HCAL_SHAPE, &value));
    Arc::new(with_samples(Schema::new(fields), &samples))
}

impl Operator for GenerateShowers {
    fn plan(&self, facts: &Facts, _inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let rows = self.classes.iter().map(|c| self.events(c.value)).sum();
        let output =
            Output { name: String::new(), schema: schema(&self.classes), table: false, rows: Some(rows), row_bytes: ROW_BYTES };
        let mut planned = Planned::new(Shape::Source, vec![output]);
        planned.units = self.units(self.seed.unwrap_or(facts.seed));
        weights::plan(self.weights.as_ref(), planned)
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        weights::start(self.weights.as_ref(), at, || Ok(schema(&self.classes)), |at| self.start_shooting(at))
    }
}

impl GenerateShowers {
    fn start_shooting(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let seed = self.seed.unwrap_or(at.facts.seed);
        let schema = at.outputs.first().map_or_else(|| schema(&self.classes), |o| o.schema.clone());
        let samples = self.classes.iter().map(|c| c.name().to_owned()).collect();
        Ok(Work::Source(Box::new(Gun { generator: Generator::new(seed, self.energy.value), schema, samples })))
    }
}

/// The source.
struct Gun {
    generator: Generator,
    schema: SchemaRef,
    samples: Vec<String>,
}

impl Source for Gun {
    fn read<'a>(&'a mut self, unit: &'a Unit) -> Result<Batches<'a>, Fault> {
        let named = |class: &&Class| unit.sample.as_deref() == Some(class.name());
        let class = *Class::ALL.iter().find(named).ok_or_else(|| anyhow::anyhow!("no class for unit {}", unit.path))?;
        let end = unit.first + unit.rows;
        let mut next = unit.first;
        Ok(Box::new(std::iter::from_fn(move || {
            let first = next;
            next = (first + BATCH).min(end);
            (first < next).then(|| self.batch(unit, class, first, next).map_err(Fault::from))
        })))
    }
}

impl Gun {
    fn batch(&mut self, unit: &Unit, class: Class, first: u64, end: u64) -> anyhow::Result<RecordBatch> {
        let wants = |name: &str| self.schema.field_with_name(name).ok();
        let (ecal, hcal) = (wants("ecal").cloned(), wants("hcal").cloned());
        let (mut in_ecal, mut in_hcal) = (HitsBuilder::<Float32Type>::default(), HitsBuilder::<Float32Type>::default());
        let rows = usize::try_from(end - first)?;
        let (mut pdg, mut energy) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for index in first..end {
            let mut add = |particle: Particle| {
                pdg.push(particle.pdg);
                energy.push(particle.energy);
            };
            if ecal.is_none() && hcal.is_none() {
                add(self.generator.particle(class, index));
                continue;
            }
            let (particle, Image { ecal: ecal_cells, hcal: hcal_cells, .. }) = self.generator.event(class, index);
            add(particle);
            collect(ecal_cells, &mut in_ecal);
            collect(hcal_cells, &mut in_hcal);
        }
        let provenance = column::provenance(&self.samples, unit, first, rows);
        let mut made: Vec<(&str, ArrayRef)> = column::PROVENANCE.into_iter().zip(provenance).collect();
        made.push(("pdg", Arc::new(Int32Array::from(pdg))));
        made.push(("energy", Arc::new(Float64Array::from(energy))));
        if let Some(field) = ecal {
            made.push(("ecal", Arc::new(in_ecal.finish(&field)?)));
        }
        if let Some(field) = hcal {
            made.push(("hcal", Arc::new(in_hcal.finish(&field)?)));
        }
        let columns = self.schema.fields().iter().map(|f| {
            let found = made.iter().find(|(name, _)| name == f.name());
            found.map(|(_, array)| array.clone()).ok_or_else(|| anyhow::anyhow!("no column `{}` is generated", f.name()))
        });
        let columns = columns.collect::<anyhow::Result<Vec<_>>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

/// Ends an event of these cells.
fn collect(cells: &[f32], into: &mut HitsBuilder<Float32Type>) {
    for (cell, energy) in (0u32..).zip(cells) {
        if *energy != 0.0 {
            into.cells.push(cell);
            into.values.push(*energy);
        }
    }
    into.end_event();
}

#[cfg(test)]
pub(crate) mod tests;
