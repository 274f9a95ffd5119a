//! Events as HDF5 files in the layout of a data set: the inverse of `read_hdf5`.
//!
//! A part becomes one file; images become dense again chunk by chunk. The same rows give the same bytes, however they were
//! cut into batches.

use crate::hdf5::write::{Chunks, Element, Spec, Values, Writer};
use crate::registry::Describe;
use crate::schema::{Column, Schema};
use crate::work::{Part, Sink, Staged};
use crate::{Facts, Fault, Need, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work, column, hits};
use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema as ArrowSchema};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Events as HDF5 files in the layout of a data set.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteHdf5 {
    /// The layout: which column becomes which dataset; the name of a built-in one, or the path of a file. Images are written
    /// as f32, numbers as f64.
    pub schema: Placed<String>,
    /// The name of each file. `{sample}` stands for the class and `{number}` for the number of the file, from 1, within
    /// its class where `{sample}` is in the name, else among all.
    pub file: Placed<String>,
    /// What `{sample}` is written as, by class; the class itself where it is not in here.
    #[serde(default)]
    pub names: BTreeMap<String, Placed<String>>,
    /// Events of a chunk.
    #[serde(default = "chunk")]
    pub chunk: Placed<u32>,
    /// Level of gzip, 0 (none) to 9.
    #[serde(default = "gzip")]
    pub gzip: Placed<u8>,
    /// Whether bytes are grouped by their place in the number before they are compressed.
    #[serde(default = "shuffle")]
    pub shuffle: bool,
}

fn chunk() -> Placed<u32> {
    Placed::unplaced(100)
}
fn gzip() -> Placed<u8> {
    Placed::unplaced(2)
}
fn shuffle() -> bool {
    true
}

impl Describe for WriteHdf5 {
    const ABOUT: &'static str = "Writes events to HDF5 files in the layout of a data set";
    const EXAMPLE: &'static str = r#"files:
  from: events
  write_hdf5: { schema: lcd-v1, file: "{sample}Escan_1_{number}.h5", names: { electron: Ele, photon: Gamma } }
"#;
}

/// What a dataset is made of.
#[derive(Debug, Clone)]
enum Content {
    /// An image: the column, and which value of a hit is meant.
    Image(String, usize),
    /// A number column for each place of a row, in C order.
    Numbers(Vec<String>),
}

/// One dataset of a layout.
#[derive(Debug, Clone)]
struct Dataset {
    spec: Spec,
    content: Content,
}

/// What a schema makes of the columns that come in: images become f32 and numbers f64, whatever their type in memory.
fn layout(schema: &Schema, input: &ArrowSchema) -> Result<Vec<Dataset>, Vec<String>> {
    let (mut datasets, mut wrong) = (Vec::new(), Vec::from_iter(schema.unwritable()));
    for (path, columns) in schema.datasets() {
        if columns.iter().all(|(name, column)| column.optional && input.field_with_name(name).is_err()) {
            continue;
        }
        match dataset(path, &columns, input) {
            Ok(dataset) => datasets.push(dataset),
            Err(what) => wrong.extend(what),
        }
    }
    if wrong.is_empty() { Ok(datasets) } else { Err(wrong) }
}

fn dataset(path: &str, columns: &[(&str, &Column)], input: &ArrowSchema) -> Result<Dataset, Vec<String>> {
    let missing = columns.iter().filter(|(name, _)| input.field_with_name(name).is_err());
    let missing: Vec<String> =
        missing.map(|(name, _)| format!("no column `{name}` comes in, of which `{path}` is made")).collect();
    if !missing.is_empty() {
        return Err(missing);
    }
    if columns.iter().any(|(_, column)| column.member.is_some()) {
        return Err(vec![format!("`{path}` is made of records, which can't be written")]);
    }
    let one = |what: String| vec![what];
    let made = match columns {
        [(name, column)] if input.field_with_name(name).is_ok_and(|f| hits::shape(f).is_some()) => {
            image(path, name, column, input)
        }
        _ => numbers(path, columns, input),
    };
    made.map_err(one)
}

fn image(path: &str, name: &str, column: &Column, input: &ArrowSchema) -> Result<Dataset, String> {
    let field = input.field_with_name(name).map_err(|e| e.to_string())?;
    let shape = hits::shape(field).unwrap_or_default();
    let wanted: Option<Vec<usize>> = column.dims.as_ref().map(|d| d.iter().map(|n| *n as usize).collect());
    if wanted.as_ref().is_some_and(|w| *w != shape) || !column.at.is_empty() {
        return Err(format!("column `{name}` is an image of {shape:?}, `{path}` is not"));
    }
    let value = if hits::is_hits(field) {
        let names = hits::value_names(field);
        let place = names.iter().position(|n| n == column.value_name());
        place.ok_or_else(|| format!("the hits of `{name}` have no `{}`; there is {}", column.value_name(), names.join(", ")))?
    } else {
        0
    };
    if value_type(field.data_type(), value) != Some(&DataType::Float32) {
        return Err(format!("the values of `{name}` are not f32, which `{path}` is written as"));
    }
    Ok(Dataset { spec: Spec { name: path.into(), shape, element: Element::F32 }, content: Content::Image(name.into(), value) })
}

/// The type of a value of an image.
fn value_type(image: &DataType, value: usize) -> Option<&DataType> {
    match image {
        DataType::FixedSizeList(item, _) => Some(item.data_type()),
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => fields.get(value + 1).map(|f| f.data_type()),
            _ => None,
        },
        _ => None,
    }
}

fn numbers(path: &str, columns: &[(&str, &Column)], input: &ArrowSchema) -> Result<Dataset, String> {
    for (name, _) in columns {
        column::number(input, &Placed::unplaced((*name).to_owned())).map_err(|p| p.what)?;
    }
    let axes = columns.first().map_or(0, |(_, c)| c.at.len());
    if columns.iter().any(|(_, c)| c.at.len() != axes) {
        return Err(format!("the columns of `{path}` are at places with different numbers of axes"));
    }
    let length = |axis: usize| columns.iter().map(|(_, c)| c.at[axis] as usize + 1).max().unwrap_or(1);
    let shape: Vec<usize> = (0..axes).map(length).collect();
    let mut places: Vec<Option<String>> = vec![None; shape.iter().product::<usize>().min(1 << 16)];
    for (name, column) in columns {
        let flat = column.at.iter().zip(&shape).fold(0, |n, (at, length)| n * length + *at as usize);
        match places.get_mut(flat) {
            Some(place @ None) => *place = Some((*name).to_owned()),
            _ => return Err(format!("two columns are at place {:?} of `{path}`", column.at)),
        }
    }
    let filled = places.iter().flatten().count();
    let all = places.len();
    let names: Vec<String> = places.into_iter().flatten().collect();
    if filled < all {
        return Err(format!("a row of `{path}` has the shape {shape:?}, and only {filled} of its places have a column"));
    }
    Ok(Dataset { spec: Spec { name: path.into(), shape, element: Element::F64 }, content: Content::Numbers(names) })
}

impl WriteHdf5 {
    fn check_name(&self, problems: &mut Vec<Problem>) {
        let mut rest = self.file.value.replace("{number}", "").replace("{sample}", "");
        if !self.file.contains("{number}") {
            problems.push(Problem::at(&self.file, "the files would overwrite each other").help("the name needs `{number}`"));
        }
        if let Some((_, word)) = rest.split_once('{') {
            let word = word.split('}').next().unwrap_or_default().to_owned();
            problems.push(
                Problem::at(&self.file, format!("`{{{word}}}` stands for nothing")).help("there is `{sample}` and `{number}`"),
            );
        }
        for name in self.names.values() {
            rest.push_str(name);
        }
        if rest.contains(['/', '\\', '\0']) {
            problems.push(Problem::at(&self.file, "a name, not a path: the files go into the folder of the step"));
        }
    }

    fn check_classes(&self, samples: &[String], problems: &mut Vec<Problem>) {
        for (class, name) in &self.names {
            if !samples.contains(class) {
                let known = samples.iter().map(String::as_str);
                problems.push(Problem::at(name, format!("no class `{class}` comes in")).suggest(class, known));
            }
        }
        let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
        for class in samples {
            let name = self.names.get(class).map_or(class.as_str(), |n| n.as_str());
            if let Some(other) = taken.insert(name, class) {
                let place = self.names.get(class).or(self.names.get(other)).map(|n| n.place).unwrap_or_default();
                let what = format!("`{other}` and `{class}` are both called `{name}`");
                problems.push(Problem { place, what, help: Some("each class needs a name of its own".into()) });
            }
        }
    }

    fn chunks(&self) -> Chunks {
        Chunks { rows: self.chunk.value as usize, gzip: (self.gzip.value > 0).then_some(self.gzip.value), shuffle: self.shuffle }
    }
}

impl Operator for WriteHdf5 {
    fn needs(&self) -> Vec<Need> {
        Schema::is_path(&self.schema).then(|| Need::Text(self.schema.clone())).into_iter().collect()
    }

    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let mut problems = Vec::new();
        self.check_name(&mut problems);
        if self.chunk.value == 0 {
            problems.push(Problem::at(&self.chunk, "a chunk needs at least one event"));
        }
        if self.gzip.value > 9 {
            problems.push(Problem::at(&self.gzip, format!("gzip has no level {}", self.gzip.value)).help("0 to 9"));
        }
        let mut datasets = Vec::new();
        let schema = Schema::find(&self.schema, facts).map_err(|p| problems.extend(p)).ok();
        match inputs {
            [input] if !input.table => {
                self.check_classes(&column::samples(&input.schema), &mut problems);
                match schema.map_or(Ok(Vec::new()), |schema| layout(&schema, &input.schema)) {
                    Ok(found) => datasets = found,
                    Err(wrong) => problems.extend(wrong.into_iter().map(|what| Problem::at(&self.schema, what))),
                }
            }
            _ => problems.push(Problem::at(&self.schema, "write_hdf5 takes the events of one step")),
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let columns = datasets.iter().flat_map(|d| match &d.content {
            Content::Image(name, _) => vec![name.clone()],
            Content::Numbers(names) => names.clone(),
        });
        // A chunk of each dataset, as values, as bytes and compressed.
        let row: usize = datasets.iter().map(|d| d.spec.shape.iter().product::<usize>() * 8).sum();
        let holds = 3 * row as u64 * u64::from(self.chunk.value);
        Ok(Planned::new(Shape::Sink, Vec::new()).reading(Reads::columns(columns)).holding(holds))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let schema = Schema::find(&self.schema, at.facts).map_err(|p| anyhow::anyhow!("{}", said(p.iter().map(|p| &p.what))))?;
        let input = at.inputs.first().context("write_hdf5 takes the events of one step")?;
        let datasets = layout(&schema, &input.schema).map_err(|wrong| anyhow::anyhow!("{}", said(&wrong)))?;
        Ok(Work::Sink(Box::new(Files { parameters: self.clone(), datasets, open: None })))
    }
}

fn said<'a>(wrong: impl IntoIterator<Item = &'a String>) -> String {
    wrong.into_iter().map(String::as_str).collect::<Vec<_>>().join("; ")
}

/// The sink: one file at a time.
struct Files {
    parameters: WriteHdf5,
    datasets: Vec<Dataset>,
    open: Option<OpenFile>,
}

struct OpenFile {
    name: String,
    path: PathBuf,
    rows: u64,
    writer: Writer,
    /// A chunk under way of each dataset.
    pending: Vec<Pending>,
    /// Rows in it.
    filled: usize,
}

/// The values of a chunk, room for all of its rows.
enum Pending {
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Pending {
    fn first(&self, values: usize) -> Values<'_> {
        match self {
            Self::F32(v) => Values::F32(&v[..values]),
            Self::F64(v) => Values::F64(&v[..values]),
        }
    }
}

impl Files {
    fn name(&self, part: &Part<'_>) -> String {
        let pattern = &self.parameters.file.value;
        let sample = part.sample.unwrap_or("mixed");
        let sample = self.parameters.names.get(sample).map_or(sample, |n| n.as_str());
        let number = if pattern.contains("{sample}") { part.number_in_sample } else { part.number };
        pattern.replace("{number}", &number.to_string()).replace("{sample}", sample)
    }
}

impl OpenFile {
    /// Copies rows `first..first + rows` of the batch behind those that are pending.
    fn fill(&mut self, datasets: &[Dataset], batch: &RecordBatch, first: usize, rows: usize) -> anyhow::Result<()> {
        for (dataset, pending) in datasets.iter().zip(&mut self.pending) {
            let row: usize = dataset.spec.shape.iter().product();
            let target = self.filled * row..(self.filled + rows) * row;
            match (&dataset.content, pending) {
                (Content::Image(name, value), Pending::F32(values)) => {
                    hits::to_dense(column::get(batch, name), row, *value, first, rows, &mut values[target])?;
                }
                (Content::Numbers(names), Pending::F64(values)) => {
                    for (place, name) in names.iter().enumerate() {
                        let numbers = column::numbers(batch, name)?;
                        for (to, from) in values[target.clone()].chunks_exact_mut(row).zip(&numbers[first..first + rows]) {
                            to[place] = *from;
                        }
                    }
                }
                _ => anyhow::bail!("dataset {} has another type than its columns", dataset.spec.name),
            }
        }
        self.filled += rows;
        self.rows += rows as u64;
        Ok(())
    }

    fn flush(&mut self, datasets: &[Dataset]) -> anyhow::Result<()> {
        if self.filled > 0 {
            for (k, (dataset, pending)) in datasets.iter().zip(&self.pending).enumerate() {
                let row: usize = dataset.spec.shape.iter().product();
                self.writer.append(k, self.filled, pending.first(self.filled * row))?;
            }
        }
        self.filled = 0;
        Ok(())
    }
}

impl Sink for Files {
    fn begin(&mut self, part: &Part<'_>) -> Result<(), Fault> {
        let name = self.name(part);
        let path = part.staging.join(&name);
        let specs: Vec<Spec> = self.datasets.iter().map(|d| d.spec.clone()).collect();
        let chunks = self.parameters.chunks();
        let writer = Writer::create(&path, &specs, chunks)?;
        let pending = specs.iter().map(|spec| {
            let cells = chunks.rows * spec.shape.iter().product::<usize>();
            match spec.element {
                Element::F32 => Pending::F32(vec![0.0; cells]),
                Element::F64 => Pending::F64(vec![0.0; cells]),
            }
        });
        self.open = Some(OpenFile { name, path, rows: 0, writer, pending: pending.collect(), filled: 0 });
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), Fault> {
        let open = self.open.as_mut().context("a batch came before its part")?;
        let chunk = self.parameters.chunks().rows;
        let mut first = 0;
        while first < batch.num_rows() {
            let rows = (chunk - open.filled).min(batch.num_rows() - first);
            open.fill(&self.datasets, batch, first, rows)?;
            first += rows;
            if open.filled == chunk {
                open.flush(&self.datasets)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Staged>, Fault> {
        let mut open = self.open.take().context("a part ended that had not begun")?;
        open.flush(&self.datasets)?;
        open.writer.finish()?;
        Ok(vec![Staged { path: open.path, name: open.name, rows: open.rows }])
    }

    fn abandon(&mut self) {
        if let Some(open) = self.open.take() {
            drop(open.writer);
            // Staged files that nobody commits are swept with their folder; one that is left behind does no harm.
            let _ = std::fs::remove_file(open.path);
        }
    }
}

#[cfg(test)]
mod tests;
