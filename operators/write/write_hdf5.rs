//! Events as HDF5 files in the layout of a data set: the inverse of `read_hdf5`.
//!
//! A part becomes one file; images become dense again chunk by chunk. The same rows give the same bytes, however they were
//! cut into batches.

use crate::hdf5::write::{Chunks, Element, Spec, Values, Writer};
use crate::registry::Describe;
use crate::work::{Part, Sink, Staged};
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work, column, hits};
use anyhow::Context;
use arrow::array::RecordBatch;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Events as HDF5 files in the layout of a data set.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteHdf5 {
    /// The layout: which column becomes which dataset.
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
    const ABOUT: &'static str = "Events as HDF5 files in the layout of a data set.";
    const EXAMPLE: &'static str = r#"files:
  from: events
  write_hdf5: { schema: lcd-v1, file: "{sample}Escan_1_{number}.h5", names: { electron: Ele, photon: Gamma } }
"#;
}

/// What a dataset is made of.
#[derive(Debug, Clone)]
enum Content {
    /// An image of f32 values.
    Image(String),
    /// One number of each of these columns.
    Numbers(Vec<String>),
}

/// One dataset of a layout.
#[derive(Debug, Clone)]
struct Dataset {
    spec: Spec,
    content: Content,
}

/// The layouts that can be written.
const LAYOUTS: [&str; 1] = ["lcd-v1"];

/// The datasets of a layout.
fn layout(name: &Placed<String>) -> Result<Vec<Dataset>, Problem> {
    if name.value != LAYOUTS[0] {
        return Err(Problem::at(name, format!("no layout `{}`", name.value)).suggest(name, LAYOUTS));
    }
    let image = |name: &str, column: &str, shape: [usize; 3]| Dataset {
        spec: Spec { name: name.into(), shape: shape.to_vec(), element: Element::F32 },
        content: Content::Image(column.into()),
    };
    Ok(vec![
        image("ECAL", "ecal", [25, 25, 25]),
        image("HCAL", "hcal", [5, 5, 60]),
        Dataset {
            spec: Spec { name: "target".into(), shape: vec![2], element: Element::F64 },
            content: Content::Numbers(vec!["pdg".into(), "energy".into()]),
        },
    ])
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

    fn check_columns(&self, input: &Output, datasets: &[Dataset], problems: &mut Vec<Problem>) {
        for dataset in datasets {
            match &dataset.content {
                Content::Image(name) => match column::field(&input.schema, &Placed { value: name.clone(), place: self.schema.place }) {
                    Err(problem) => problems.push(problem),
                    Ok(field) if hits::shape(field).as_ref() != Some(&dataset.spec.shape) => problems.push(Problem::at(
                        &self.schema,
                        format!("column `{name}` is no image of {:?}, which {} is", dataset.spec.shape, dataset.spec.name),
                    )),
                    Ok(_) => {}
                },
                Content::Numbers(names) => {
                    for name in names {
                        let name = Placed { value: name.clone(), place: self.schema.place };
                        problems.extend(column::number(&input.schema, &name).err());
                    }
                }
            }
        }
    }

    fn chunks(&self) -> Chunks {
        Chunks { rows: self.chunk.value as usize, gzip: (self.gzip.value > 0).then_some(self.gzip.value), shuffle: self.shuffle }
    }
}

impl Operator for WriteHdf5 {
    fn plan(&self, _facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let mut problems = Vec::new();
        self.check_name(&mut problems);
        if self.chunk.value == 0 {
            problems.push(Problem::at(&self.chunk, "a chunk needs at least one event"));
        }
        if self.gzip.value > 9 {
            problems.push(Problem::at(&self.gzip, format!("gzip has no level {}", self.gzip.value)).help("0 to 9"));
        }
        let datasets = layout(&self.schema).map_err(|p| problems.push(p)).unwrap_or_default();
        match inputs {
            [input] if !input.table => {
                self.check_classes(&column::samples(&input.schema), &mut problems);
                self.check_columns(input, &datasets, &mut problems);
            }
            _ => problems.push(Problem::at(&self.schema, "write_hdf5 takes the events of one step")),
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let columns = datasets.iter().flat_map(|d| match &d.content {
            Content::Image(name) => vec![name.clone()],
            Content::Numbers(names) => names.clone(),
        });
        // A chunk of each dataset, as values, as bytes and compressed.
        let row: usize = datasets.iter().map(|d| d.spec.shape.iter().product::<usize>() * 8).sum();
        let holds = 3 * row as u64 * u64::from(self.chunk.value);
        Ok(Planned::new(Shape::Sink, Vec::new()).reading(Reads::columns(columns)).holding(holds))
    }

    fn start(&self, _at: &Start<'_>) -> anyhow::Result<Work> {
        let datasets = layout(&self.schema).map_err(|p| anyhow::anyhow!(p.what))?;
        Ok(Work::Sink(Box::new(Files { parameters: self.clone(), datasets, open: None })))
    }
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
        let number = if pattern.contains("{sample}") { part.number_in_sample } else { part.number + 1 };
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
                (Content::Image(name), Pending::F32(values)) => {
                    hits::to_dense(column::get(batch, name), row, 0, first, rows, &mut values[target])?;
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
