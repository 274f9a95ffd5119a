//! `noise`: Gaussian noise on the values of an image, drawn for each event.
//!
//! Noise of cells is independent, of mean 0 and width sqrt(sigma^2 + (relative * value)^2); sigma is in the value's unit.
//!
//! `on: hits` leaves empty cells empty: an image keeps its cells. `on: cells` is what electronics does: every cell gets
//! noise, so a cell without a deposit is no longer a zero and becomes a hit. A hits column then holds every cell (ten times
//! the memory of a sparse image) unless `threshold: t` drops the cells with |value| < t again, as a read-out does; these
//! are counted. In a dense column such cells become 0. Negative values stay: a read-out that cuts at 0 biases every sum.
//!
//! Values that are not finite stay as they are. A value that comes out as exactly 0 is no hit.

use crate::column;
use crate::draw::{self, Draws};
use crate::motion;
use crate::registry::Describe;
use crate::work::{Map, Mapped, Noticed, notice};
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work, hits, words};
use anyhow::{Context, ensure};
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array, ListArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Float16Type, Float64Type, UInt32Type};
use schemars::JsonSchema;
use serde::Deserialize;
use statrs::function::erf::erfc;
use std::sync::Arc;

/// Adds Gaussian noise to images: the same event gets the same noise on any machine, and another one each epoch.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// The images, hits or dense. Their noise is independent.
    pub images: Placed<Vec<Placed<String>>>,
    /// The value of a hit that gets the noise, where a hit has several (`energy` and `time`).
    #[serde(default)]
    pub value: Option<Placed<String>>,
    /// The width of the constant part, in the unit of the value.
    #[serde(default)]
    pub sigma: Option<Placed<f64>>,
    /// The width of the part that grows with the value, as a fraction of it: 0.01 is one per cent.
    #[serde(default)]
    pub relative: Option<Placed<f64>>,
    /// `hits`: cells with a value only, so that empty cells stay empty. `cells`: every cell, so that an image has a hit in
    /// every cell that is not below the threshold.
    #[serde(default)]
    pub on: Placed<On>,
    /// Cells whose value is then closer to 0 than this are dropped, in the unit of the value.
    #[serde(default)]
    pub threshold: Option<Placed<f64>>,
    /// The name of the draw. A second noise of the same image needs another one.
    #[serde(default = "name")]
    pub draw: Placed<String>,
}

/// Which cells get noise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// Those with a value.
    #[default]
    Hits,
    /// All of them.
    Cells,
}

fn name() -> Placed<String> {
    Placed::unplaced("noise".to_owned())
}

impl Describe for Noise {
    const ABOUT: &'static str = "Adds Gaussian noise to the cells of images, drawn for each event";
    const EXAMPLE: &'static str = "\
noisy:
  from: events
  noise: { images: [ecal, hcal], sigma: 0.002, relative: 0.01, on: cells, threshold: 0.006 }
";
}

/// An image that gets noise.
#[derive(Debug, Clone)]
struct Image {
    name: String,
    cells: usize,
    /// The number of the value within the hit; 0 in a dense image.
    value: usize,
    kind: DataType,
    purpose: String,
}

impl Noise {
    fn image(&self, field: &Field, shape: &[usize], word: &Placed<String>) -> Result<Image, Problem> {
        let values: Vec<(String, DataType)> = match field.data_type() {
            DataType::FixedSizeList(item, _) => vec![(item.name().clone(), item.data_type().clone())],
            DataType::List(item) => match item.data_type() {
                DataType::Struct(fields) => fields.iter().skip(1).map(|f| (f.name().clone(), f.data_type().clone())).collect(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        let names = || values.iter().map(|(name, _)| name.as_str());
        let value = match (&self.value, values.len()) {
            (Some(value), 1..) if hits::is_hits(field) => names().position(|name| name == value.value).ok_or_else(|| {
                Problem::at(value, format!("a hit of `{}` has no `{}`", word.value, value.value)).suggest(value, names())
            })?,
            (None, 2..) => {
                let what = format!("a hit of `{}` has several values", word.value);
                return Err(Problem::at(word, what).help(format!("say which: `value: {}`", values[0].0)));
            }
            _ => 0,
        };
        let (value_name, kind) = values.get(value).cloned().ok_or_else(|| Problem::at(word, "hits without a value"))?;
        if !kind.is_floating() {
            let what = format!("`{}` holds {kind}s, which would round the noise away", word.value);
            return Err(Problem::at(word, what).help("a schema may say `values: float32`"));
        }
        if self.on.value == On::Cells && values.len() > 1 {
            let other = names().find(|name| *name != value_name).unwrap_or_default();
            let what = format!("noise on all cells of `{}` would make hits without a `{other}`", word.value);
            return Err(Problem::at(&self.on, what).help("on: hits"));
        }
        let purpose = format!("noise/{}/{value_name}", self.draw.value);
        Ok(Image { name: word.value.clone(), cells: shape.iter().product(), value, kind, purpose })
    }

    fn width(width: Option<&Placed<f64>>) -> f64 {
        width.map_or(0.0, |width| width.value)
    }

    /// How many cells without a deposit become hits, of so many.
    fn lit(&self, cells: usize) -> f64 {
        let (sigma, threshold) = (Self::width(self.sigma.as_ref()), Self::width(self.threshold.as_ref()));
        cells as f64 * erfc(threshold / (sigma * std::f64::consts::SQRT_2))
    }

    fn widths(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (what, width) in [("a sigma", &self.sigma), ("a relative width", &self.relative), ("a threshold", &self.threshold)] {
            if let Some(width) = width.as_ref().filter(|width| !(width.value > 0.0 && width.value.is_finite())) {
                problems.push(Problem::at(width, format!("{what} of {}", width.value)).help("it is above 0"));
            }
        }
        if self.sigma.is_none() && self.relative.is_none() {
            problems.push(Problem::at(&self.images, "noise of no width").help("give `sigma:`, `relative:`, or both"));
        }
        if self.on.value == On::Cells && self.sigma.is_none() && self.relative.is_some() {
            let what = "relative noise leaves empty cells empty";
            problems.push(Problem::at(&self.on, what).help("give `sigma:` too, or `on: hits`"));
        }
        problems
    }
}

impl Operator for Noise {
    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let input = &inputs[0];
        let mut problems = self.widths();
        let (mut remarks, mut row_bytes, mut cells) = (Vec::new(), input.row_bytes, 0);
        let schema = draw::images(&input.schema, &self.images, &mut problems, |name, field, shape, _| {
            let image = self.image(field, shape, name)?;
            if hits::is_hits(field) && self.on.value == On::Cells {
                cells = cells.max(image.cells as u64);
                let lit = self.lit(image.cells);
                let bytes = if image.cells > 1 << 16 { 4 } else { 2 } + image.kind.primitive_width().unwrap_or(8);
                row_bytes += (lit * bytes as f64) as u64;
                let which = match &self.threshold {
                    None => format!("every one of the {} cells", words::count(image.cells as u64)),
                    Some(_) => format!("some {} of {} empty cells", words::significant(lit, 2), words::count(image.cells as u64)),
                };
                remarks.push(format!("noise makes a hit of {which} of an image of `{}`", image.name));
            }
            draw::drawn(field, &image.purpose, facts, &self.draw)
        });
        problems.extend(draw::needs_events(&input.schema, &self.draw).err());
        if !problems.is_empty() {
            return Err(problems);
        }
        let reads = self.images.iter().map(|word| word.value.clone()).chain([column::EVENT.to_owned()]);
        let output = Output { name: String::new(), schema: Arc::new(schema), row_bytes, ..input.clone() };
        Ok(Planned { remarks, ..Planned::new(Shape::Map, vec![output]).reading(Reads::columns(reads)).holding(8 * cells) })
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let mut images = Vec::new();
        for word in self.images.iter() {
            let image = draw::image(&at.inputs[0].schema, word).and_then(|(field, shape)| self.image(field, &shape, word));
            let image = image.map_err(|problem| anyhow::anyhow!(problem.what))?;
            let draws = Draws::new(at.facts, &format!("{}/{}", image.purpose, image.name));
            images.push((image, draws));
        }
        let [sigma, relative, threshold] = [&self.sigma, &self.relative, &self.threshold].map(|w| Self::width(w.as_ref()));
        Ok(Work::Map(Box::new(Adding {
            images,
            widths: Widths { sigma, relative, threshold },
            all: self.on.value == On::Cells,
            noticed: Noticed::new(),
        })))
    }
}

#[derive(Debug, Clone, Copy)]
struct Widths {
    sigma: f64,
    relative: f64,
    threshold: f64,
}

impl Widths {
    /// A value with noise, as the column's type holds it.
    fn noisy(self, value: f64, normal: f64, kind: &DataType) -> f64 {
        if !value.is_finite() {
            return value;
        }
        let noisy = value + self.sigma.hypot(self.relative * value) * normal;
        match kind {
            DataType::Float16 => <Float16Type as ArrowPrimitiveType>::Native::from_f64(noisy).to_f64(),
            DataType::Float32 => f64::from(noisy as f32),
            _ => noisy,
        }
    }

    fn below(self, value: f64) -> bool {
        value.abs() < self.threshold
    }
}

struct Adding {
    images: Vec<(Image, Draws)>,
    widths: Widths,
    all: bool,
    noticed: Noticed,
}

impl Map for Adding {
    fn map(&mut self, batch: RecordBatch) -> Result<Mapped, Fault> {
        let events = draw::events(&batch)?;
        let mut columns = batch.columns().to_vec();
        for (image, draws) in &self.images {
            let at = batch.schema_ref().index_of(&image.name)?;
            let one = One { image, draws, widths: self.widths, events: &events };
            let made = match (columns[at].as_any().downcast_ref::<FixedSizeListArray>(), columns[at].as_list_opt::<i32>()) {
                (Some(dense), _) => one.dense(dense, self.all),
                (None, Some(list)) if self.all => one.cells(list),
                (None, Some(list)) => one.hits(list),
                (None, None) => Err(anyhow::anyhow!("no image")),
            };
            let (column, dropped) = made.map_err(|reason| Fault::content(format!("`{}`: {reason:#}", image.name)))?;
            columns[at] = column;
            notice(&mut self.noticed, dropped, || format!("noisy cells of `{}` below the threshold dropped", image.name));
        }
        Ok(Mapped { batch: RecordBatch::try_new(batch.schema(), columns)?, cut: 0 })
    }

    fn noticed(&mut self) -> Noticed {
        std::mem::take(&mut self.noticed)
    }
}

/// One image of a batch.
struct One<'a> {
    image: &'a Image,
    draws: &'a Draws,
    widths: Widths,
    events: &'a [u64],
}

impl One<'_> {
    /// The numbers that get noise, and the hits that they are in.
    fn numbers(&self, values: &ArrayRef) -> anyhow::Result<Float64Array> {
        ensure!(values.null_count() == 0, "{} missing", words::counted(values.null_count() as u64, "value"));
        Ok(cast(values, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    }

    /// The column with noise on its hits, and how many were dropped.
    fn hits(&self, list: &ListArray) -> anyhow::Result<(ArrayRef, usize)> {
        let (hits, from) = motion::rows_of(list)?;
        let numbers = self.numbers(hits.column(self.image.value + 1))?;
        let (mut kept, mut noisy, mut offsets, mut dropped) = (Vec::new(), Vec::new(), vec![0], 0);
        for (ends, event) in list.value_offsets().windows(2).zip(self.events) {
            let mut random = self.draws.of(*event);
            for i in (ends[0] - from) as usize..(ends[1] - from) as usize {
                let value = self.widths.noisy(numbers.value(i), random.normal(), &self.image.kind);
                if self.widths.below(value) {
                    dropped += 1;
                } else if value.to_bits() != 0 {
                    kept.push(i as u32);
                    noisy.push(value);
                }
            }
            offsets.push(i32::try_from(kept.len())?);
        }
        let kept = UInt32Array::from(kept);
        let mut columns = Vec::new();
        for (number, values) in hits.columns().iter().enumerate() {
            columns.push(if number == self.image.value + 1 {
                cast(&Float64Array::from(std::mem::take(&mut noisy)), values.data_type())?
            } else {
                take(values, &kept, None)?
            });
        }
        Ok((motion::with_offsets(list, offsets, columns)?, dropped))
    }

    /// The column with noise on every cell, and how many cells are below the threshold.
    fn cells(&self, list: &ListArray) -> anyhow::Result<(ArrayRef, usize)> {
        let (hits, from) = motion::rows_of(list)?;
        let numbers = self.numbers(hits.column(1))?;
        let index = cast(hits.column(0), &DataType::UInt32)?;
        let index = index.as_primitive::<UInt32Type>();
        let (mut cells, mut noisy, mut offsets, mut dropped) = (Vec::new(), Vec::new(), vec![0], 0);
        let mut image = vec![0.0; self.image.cells];
        for (ends, event) in list.value_offsets().windows(2).zip(self.events) {
            image.fill(0.0);
            for i in (ends[0] - from) as usize..(ends[1] - from) as usize {
                let slot = image.get_mut(index.value(i) as usize);
                *slot.with_context(|| {
                    format!("a hit in cell {} of {}", index.value(i), words::count(self.image.cells as u64))
                })? = numbers.value(i);
            }
            let mut random = self.draws.of(*event);
            for (cell, value) in (0_u32..).zip(&image) {
                let value = self.widths.noisy(*value, random.normal(), &self.image.kind);
                if self.widths.below(value) {
                    dropped += 1;
                } else if value.to_bits() != 0 {
                    cells.push(cell);
                    noisy.push(value);
                }
            }
            offsets.push(i32::try_from(cells.len()).context("more hits than a batch holds")?);
        }
        let cells = cast(&UInt32Array::from(cells), hits.column(0).data_type())?;
        let noisy = cast(&Float64Array::from(noisy), hits.column(1).data_type())?;
        Ok((motion::with_offsets(list, offsets, vec![cells, noisy])?, dropped))
    }

    /// The dense column with noise, and how many cells with a value were set to 0.
    fn dense(&self, dense: &FixedSizeListArray, all: bool) -> anyhow::Result<(ArrayRef, usize)> {
        let cells = usize::try_from(dense.value_length())?;
        ensure!(cells == self.image.cells, "images of {cells} cells, not {}", self.image.cells);
        let mut numbers = self.numbers(dense.values())?.values().to_vec();
        let mut dropped = 0;
        for (image, event) in numbers.chunks_exact_mut(cells).zip(self.events) {
            let mut random = self.draws.of(*event);
            for value in image.iter_mut().filter(|value| all || value.to_bits() != 0) {
                *value = self.widths.noisy(*value, random.normal(), &self.image.kind);
                if self.widths.below(*value) {
                    *value = 0.0;
                    dropped += 1;
                }
            }
        }
        let values = cast(&Float64Array::from(numbers), dense.values().data_type())?;
        Ok((motion::dense_like(dense, values)?, dropped))
    }
}

#[cfg(test)]
mod tests;
