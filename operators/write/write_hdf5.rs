//! Events as HDF5 files in the layout of a data set: the inverse of `read_hdf5`.
//!
//! A part becomes one file; images become dense again chunk by chunk. The same rows give the same bytes, however they were
//! cut into batches.
//!
//! With `merged`, all parts become one file in the end, for trainers that open one. The parts are written as ever, at the
//! same time on all workers. When every part of the run is committed, process 0 puts their chunks behind each other (in the
//! order of the parts, so in that of the rows) into a file in its staging folder, fsyncs it, renames it to its name, and
//! writes a line into the log; then the parts are removed, unless `file` names them. What a kill leaves at any instant is
//! there whole or done again: before the line the parts are there and the file does not count, after it the file counts and
//! what is left of the parts is removed by the next run. So until the line is written the disk holds both. A full disk stops
//! the run; what was written of the file is removed, the parts stay, and the same command puts them together later. Should
//! files be added to the inputs afterwards, the parts that are gone are made again, from the inputs.
//!
//! What it takes: a few chunks of memory on each thread ([`crate::hdf5::merge`]). Chunks of parts with a multiple of `chunk`
//! rows are copied as they are, and so the engine cuts a new order (premix) into such parts; behind other parts they are
//! spliced and compressed again. The file's bytes are a function of its rows in their order, not of the parts.
//!
//! Classes: `one_hot` and `index` add a dataset each, of the class map in [`classes`]; a schema may have one as well. The map
//! stands in the file, in the attribute [`CLASSES`] of either dataset: a list of texts, by number.

mod classes;
mod layout;
mod sink;

use crate::hdf5::write::Chunks;
use crate::registry::Describe;
use crate::schema::Schema;
use crate::work::Part;
use crate::{Assembled, Facts, Need, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use anyhow::Context;
use arrow::datatypes::Schema as ArrowSchema;
use classes::{Classes, that_come};
use layout::{Content, Dataset, layout};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The attribute with the class map: the name of each class, in the order of their numbers.
pub const CLASSES: &str = "classes";

/// Events as HDF5 files in the layout of a data set.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteHdf5 {
    /// The layout: which column becomes which dataset; the name of a built-in one, or the path of a file. Images are written
    /// as f32, numbers as f64.
    pub schema: Placed<String>,
    /// The name of each file. `{sample}` stands for the class and `{number}` for the number of the file, from 1, within
    /// its class where `{sample}` is in the name, else among all.
    #[serde(default)]
    pub file: Option<Placed<String>>,
    /// The name of one file with all events in their order, put together of the others when all are written. The others are
    /// removed then, unless `file` names them.
    #[serde(default)]
    pub merged: Option<Placed<String>>,
    /// What a class is called in the files (and as `{sample}` in their names), by class; the class itself where it is not in
    /// here.
    #[serde(default)]
    pub names: BTreeMap<String, Placed<String>>,
    /// The name of a dataset (`OneHot`, say) with a row of zeros and one 1 for each event: at the number of its class.
    #[serde(default)]
    pub one_hot: Option<Placed<String>>,
    /// The name of a dataset (`index`, say) with the number of each event's class.
    #[serde(default)]
    pub index: Option<Placed<String>>,
    /// The classes in the order of their numbers, from 0, as they are called in the files; sorted by name where it is left
    /// out. It is written as the attribute `classes` of the datasets that `one_hot` and `index` name.
    #[serde(default)]
    pub classes: Option<Placed<Vec<Placed<String>>>>,
    /// Events of each file, the last one with the rest; for what a `premix` above gives. Left out, files are as large as is
    /// good for the run. Where a step in between cuts events, files have those of so many that are left.
    #[serde(default)]
    pub events_per_file: Option<Placed<u64>>,
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
    const ABOUT: &'static str = "Writes events to HDF5 files in the layout of a data set, or to a single one";
    const EXAMPLE: &'static str = r#"files:
  from: events
  write_hdf5:
    schema: lcd-v1
    file: "{sample}Escan_1_{number}.h5"
    merged: all.h5
    names: { electron: Ele, photon: Gamma }
    one_hot: OneHot
    index: index
    classes: [Gamma, Ele]
"#;
}

impl WriteHdf5 {
    fn check_names(&self, samples: &[String], problems: &mut Vec<Problem>) {
        if self.file.is_none() && self.merged.is_none() {
            let what = "the files have no name".to_owned();
            let help = Some("`file: \"{sample}_{number}.h5\"` names one for each part, `merged: all.h5` a single one".into());
            problems.push(Problem { place: self.schema.place, what, help });
        }
        let path = |text: &str| text.contains(['/', '\\', '\0']) || ["", ".", ".."].contains(&text);
        if let Some(file) = &self.file {
            let mut rest = file.value.replace("{number}", "").replace("{sample}", "");
            if !file.contains("{number}") {
                problems.push(Problem::at(file, "the files would overwrite each other").help("the name needs `{number}`"));
            }
            if let Some(word) = word(&rest) {
                let problem = Problem::at(file, format!("`{{{word}}}` stands for nothing"));
                problems.push(problem.help("there is `{sample}` and `{number}`"));
            }
            self.names.values().for_each(|name| rest.push_str(name));
            if rest.contains(['/', '\\', '\0']) {
                problems.push(Problem::at(file, "a name, not a path: the files go into the folder of the step"));
            }
        }
        if let Some(merged) = &self.merged {
            if let Some(word) = word(merged) {
                let problem = Problem::at(merged, format!("`{{{word}}}` stands for nothing: there is one file"));
                problems.push(problem.help("`file` names one for each part"));
            } else if path(merged) {
                problems.push(Problem::at(merged, "a name, not a path: the file goes into the folder of the step"));
            } else if self.file.as_ref().is_some_and(|file| self.may_be_part(file, merged, samples)) {
                problems.push(Problem::at(merged, format!("a part may be called `{}` as well", merged.value)));
            }
        }
        for name in [&self.one_hot, &self.index].into_iter().flatten() {
            if name.contains('\0') || name.split('/').any(|step| ["", ".", ".."].contains(&step)) {
                problems.push(Problem::at(name, format!("`{}` is no name of a dataset", name.value)).help("such as `OneHot`"));
            }
        }
    }

    /// True where a part of this pattern can have this name.
    fn may_be_part(&self, file: &str, name: &str, samples: &[String]) -> bool {
        let mixed = ["mixed".to_owned()];
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        samples.iter().chain(&mixed).any(|sample| {
            let pattern = file.replace("{sample}", self.names.get(sample).map_or(sample, |n| n));
            let (before, behind) = pattern.split_once("{number}").unwrap_or((&pattern, ""));
            name.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind)).is_some_and(is_number)
        })
    }

    fn check_classes(&self, known: &[String], samples: &[String], problems: &mut Vec<Problem>) {
        for (class, name) in &self.names {
            if !known.contains(class) {
                let known = known.iter().map(String::as_str);
                problems.push(Problem::at(name, format!("no class `{class}` comes in")).suggest(class, known));
            }
        }
        if self.file.is_none() {
            // Several may be one class: particle and antiparticle, say.
            return;
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

    /// The name of a part's file.
    fn part_name(&self, part: &Part<'_>) -> anyhow::Result<String> {
        let Some(pattern) = &self.file else {
            let merged = self.merged.as_ref().context("files without a name")?;
            // Not `.h5` at its end: who looks for the file must not find its parts.
            return Ok(format!("{}.part-{:05}", merged.value, part.number));
        };
        let sample = part.sample.unwrap_or("mixed");
        let sample = self.names.get(sample).map_or(sample, |n| n.as_str());
        let number = if pattern.contains("{sample}") { part.number_in_sample } else { part.number };
        Ok(pattern.replace("{number}", &number.to_string()).replace("{sample}", sample))
    }

    /// What a file holds, and its class map; everything that is wrong is put behind the problems.
    fn datasets(&self, schema: &Schema, input: &ArrowSchema, problems: &mut Vec<Problem>) -> (Vec<Dataset>, Option<Classes>) {
        let classes = Classes::find(self, schema, input, problems);
        let mut datasets = match layout(schema, input, classes.as_ref()) {
            Ok(datasets) => datasets,
            Err(wrong) => {
                problems.extend(wrong.into_iter().map(|what| Problem::at(&self.schema, what)));
                Vec::new()
            }
        };
        if let Some(classes) = &classes {
            let one_hot = self.one_hot.iter().map(|name| (name, Dataset::one_hot(name, classes)));
            let index = self.index.iter().map(|name| (name, Dataset::index(name, classes)));
            for (name, dataset) in one_hot.chain(index).collect::<Vec<_>>() {
                let within = |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
                let taken = |d: &&Dataset| within(&d.spec.name, name) || within(name, &d.spec.name);
                if let Some(other) = datasets.iter().find(taken) {
                    let what = format!("there is a dataset `{}` already", other.spec.name);
                    problems.push(Problem::at(name, what).help("choose another name"));
                }
                datasets.push(dataset);
            }
        }
        (datasets, classes)
    }
}

/// What stands in braces.
fn word(text: &str) -> Option<String> {
    let (_, word) = text.split_once('{')?;
    Some(word.split('}').next().unwrap_or_default().to_owned())
}

impl Operator for WriteHdf5 {
    fn needs(&self) -> Vec<Need> {
        Schema::is_path(&self.schema).then(|| Need::Text(self.schema.clone())).into_iter().collect()
    }

    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let mut problems = Vec::new();
        let samples = inputs.first().map(|input| crate::column::samples(&input.schema)).unwrap_or_default();
        self.check_names(&samples, &mut problems);
        if self.chunk.value == 0 {
            problems.push(Problem::at(&self.chunk, "a chunk needs at least one event"));
        }
        if self.gzip.value > 9 {
            problems.push(Problem::at(&self.gzip, format!("gzip has no level {}", self.gzip.value)).help("0 to 9"));
        }
        let schema = Schema::find(&self.schema, facts).map_err(|p| problems.extend(p)).ok();
        let (mut datasets, mut classes) = (Vec::new(), None);
        match inputs {
            [input] if !input.table => {
                self.check_classes(&that_come(schema.as_ref(), &input.schema), &samples, &mut problems);
                if let Some(schema) = &schema {
                    (datasets, classes) = self.datasets(schema, &input.schema, &mut problems);
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
            Content::OneHot | Content::Index => classes.iter().map(|c| c.column.clone()).collect(),
        });
        // A chunk of each dataset, as values, as bytes and compressed.
        let row: usize = datasets.iter().map(Dataset::row_bytes).sum();
        let holds = 3 * row as u64 * u64::from(self.chunk.value);
        let mut planned = Planned::new(Shape::Sink, Vec::new()).reading(Reads::columns(columns)).holding(holds);
        planned.assembled = self.merged.as_ref().map(|name| Assembled {
            file: name.value.clone(),
            parts_stay: self.file.is_some(),
            grain: u64::from(self.chunk.value),
        });
        let idle = classes.iter().flat_map(|c| &c.idle);
        planned.remarks.extend(idle.map(|class| format!("no event of class `{class}` comes in")));
        planned.in_parts_of(self.events_per_file.as_ref())
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let said = |problems: &[Problem]| problems.iter().map(|p| p.what.as_str()).collect::<Vec<_>>().join("; ");
        let schema = Schema::find(&self.schema, at.facts).map_err(|p| anyhow::anyhow!("{}", said(&p)))?;
        let input = at.inputs.first().context("write_hdf5 takes the events of one step")?;
        let mut problems = Vec::new();
        let (datasets, classes) = self.datasets(&schema, &input.schema, &mut problems);
        anyhow::ensure!(problems.is_empty(), "{}", said(&problems));
        Ok(Work::Sink(Box::new(sink::Files { parameters: self.clone(), datasets, classes, open: None })))
    }
}

#[cfg(test)]
mod tests;
