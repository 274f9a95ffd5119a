//! What of the models goes with what of the rows: all that is said before a run, and all that can be wrong with it.

use super::inputs::Fitted;
use super::models::{Found, One};
use super::outputs::{self, Called, NewColumn, names};
use super::{Batch, FirstLayerWord, Infer, NotFinite, Upload, inputs};
use crate::onnx::feed::Plan;
use crate::onnx::model::{Convolved, Extent, ModelFacts, Tensor};
use crate::onnx::provider::Processor;
use crate::onnx::scatter;
use crate::onnx::session::{Input, Output};
use crate::onnx::tensor::Element;
use crate::{Facts, Placed, Problem, Reads, column, words, work};
use arrow::datatypes::Schema;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most rows that `batch: auto` tries.
pub(super) const MOST_ROWS: usize = 512;
/// Sessions of a model on a GPU.
pub(super) const SESSIONS: usize = 2;
/// Rows at a time where nothing was measured (a step that is only looked at).
pub(super) const USUAL_ROWS: usize = 128;

/// The models and the columns, fitted together.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    /// What is fed: each once, however many models read it.
    pub feeds: Vec<Plan>,
    /// The models, in order.
    pub models: Vec<BoundModel>,
    /// Of a cross-validation: the column that says which model a row meets.
    pub key: Option<String>,
    /// What the models say that is taken, in order; of a cross-validation that of each of them.
    pub slots: Vec<Slot>,
    /// The new columns, in order.
    pub columns: Vec<NewColumn>,
    /// Rows of a model batch; none where it is measured.
    pub batch: Option<usize>,
    /// Where the models compute: worker by worker in turns.
    pub processors: Vec<Processor>,
    /// True where rows that are not finite are cut.
    pub cut: bool,
    /// What is no mistake but worth saying.
    pub remarks: Vec<String>,
    /// For the record of a run: the models, and what they were fed.
    pub used: serde_json::Value,
}

/// A model with what it reads and says.
#[derive(Debug, Clone)]
pub(super) struct BoundModel {
    pub path: String,
    pub facts: Arc<ModelFacts>,
    /// For each input the number of its feed.
    pub feeds: Vec<usize>,
    pub inputs: Vec<Input>,
    pub outputs: Vec<Output>,
    /// For each output the number of its slot.
    pub slots: Vec<usize>,
    /// The rows of a run, where the model takes just so many.
    pub fixed: Option<usize>,
    /// True where its first layer, a product, is computed from hits.
    pub from_hits: bool,
    /// The inputs whose first convolutions are computed from hits; what else reads them gets them among `inputs`, too.
    pub convolved: Vec<Hits>,
    /// For the record of a run: what each input is made of.
    pub said: BTreeMap<String, serde_json::Value>,
}

/// An input of which a model reads hits.
#[derive(Debug, Clone)]
pub(super) struct Hits {
    pub input: Input,
    /// The number of its feed.
    pub feed: usize,
    /// The values that are made of an event.
    pub width: usize,
}

/// What a model says that is taken.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub output: Output,
    /// For people: `` `energy` `` or, in a sweep, `` `energy` of `wide` ``.
    pub called: String,
}

impl BoundModel {
    /// The rows that its buffers must have room for, where a batch has so many.
    pub fn room(&self, batch: usize) -> usize {
        self.fixed.map_or(batch, |n| batch.next_multiple_of(n))
    }

    /// The feeds that it reads, by number.
    pub fn reads(&self) -> impl Iterator<Item = usize> {
        self.feeds.iter().copied().chain(self.convolved.iter().map(|hits| hits.feed))
    }
}

impl Bound {
    /// The columns that are read.
    pub fn reads(&self) -> Reads {
        let parts = || self.feeds.iter().flat_map(|f| &f.parts);
        let orders = parts().filter_map(|part| part.order.as_ref()).map(|order| order.column.clone());
        Reads::columns(parts().map(|part| part.column.clone()).chain(orders).chain(self.key.clone()))
    }

    /// The number of a feed; equal ones are one.
    fn feed(&mut self, plan: Plan) -> usize {
        self.feeds.iter().position(|known| *known == plan).unwrap_or_else(|| {
            self.feeds.push(plan);
            self.feeds.len() - 1
        })
    }

    /// Sets of buffers: one, or one a fold.
    pub fn lanes(&self) -> usize {
        if self.key.is_some() { self.models.len() } else { 1 }
    }

    /// Rows that wait for their batch; the dense buffers; the weights, as read and as laid out for computing; and for the
    /// activations, which ONNX Runtime does not tell, four times the dense inputs (measured on convolutions: two to three).
    pub fn holds(&self, row_bytes: u64) -> u64 {
        let batch = self.batch.unwrap_or(MOST_ROWS);
        let rows = self.models.iter().map(|m| m.room(batch)).max().unwrap_or(batch) as u64;
        let dense: u64 = self.feeds.iter().map(|f| f.row_bytes() as u64).sum();
        let convolved: usize = self.models.iter().flat_map(|m| &m.convolved).map(|hits| hits.width).sum();
        let weights: u64 = self.models.iter().map(|m| m.facts.bytes).sum();
        let (buffers, computing) =
            if self.processors.contains(&Processor::Cpu) { (1, 4 * self.models.len() as u64) } else { (SESSIONS as u64 + 1, 1) };
        let made = (convolved * size_of::<f32>()) as u64;
        rows * self.lanes() as u64 * buffers * (row_bytes + dense) + rows * (computing * dense + made) + 2 * weights
    }

    /// The name under which a measured batch is known: the same models, fed the same, have the same.
    pub fn settled_as(&self) -> String {
        let hashes: Vec<&str> = self.models.iter().map(|m| m.facts.sha256.as_str()).collect();
        let rows: Vec<String> = self.feeds.iter().map(|f| f.row.to_string()).collect();
        let on: Vec<String> = self.processors.iter().map(ToString::to_string).collect();
        format!("batch {} {} {}", on.join(","), rows.join(","), hashes.join(","))
    }

    /// Rows of a model batch: those that were said, or were measured.
    pub fn rows(&self, runtime: &work::Runtime) -> usize {
        let measured = || runtime.settled.get(&self.settled_as()).and_then(|rows| usize::try_from(*rows).ok());
        self.batch.or_else(measured).unwrap_or(USUAL_ROWS)
    }
}

impl Fitted {
    /// True where the first layer behind this input of the model may be computed from its hits.
    fn may_be_taken_as_hits(&self, input: &Tensor, schema: &Schema) -> bool {
        let is_hits = |name: &str| schema.field_with_name(name).is_ok_and(crate::hits::is_hits);
        let stays = self.input.element == Element::F32 && self.plan.may_stay_hits(is_hits);
        stays && input.row().as_ref() == Some(&self.input.row)
    }
}

impl Infer {
    /// Fits the models to the columns, or says everything that is wrong.
    pub(super) fn bind(&self, facts: &Facts, schema: &Schema) -> Result<Bound, Vec<Problem>> {
        let mut problems = Vec::new();
        let batch = match self.batch.value {
            Batch::Auto => None,
            Batch::Rows(rows) => {
                if rows == 0 {
                    problems.push(Problem::at(&self.batch, "a batch has at least one row").help("256 is a good start"));
                }
                Some(rows)
            }
        };
        let processors = self.processors(facts, &mut problems);
        self.check_inputs(facts, schema, &mut problems);
        let found = self.models(facts, &mut problems);
        self.new_names(found.as_ref(), schema, &mut problems);
        let Some(found) = found else {
            problems.sort();
            return Err(problems);
        };
        if let Some(key) = found.key {
            match column::field(schema, key) {
                Ok(field) if field.data_type().is_integer() => {}
                Ok(field) => {
                    let what = format!("column `{}` is {}, and folds go by an integer", key.value, field.data_type());
                    problems.push(Problem::at(key, what).help("an event number, say"));
                }
                Err(problem) => problems.push(problem),
            }
        }
        self.unknown_names(&found, &mut problems);
        let mut bound = Bound {
            feeds: Vec::new(),
            models: Vec::new(),
            key: found.key.map(|key| key.value.clone()),
            slots: Vec::new(),
            columns: Vec::new(),
            batch,
            processors,
            cut: self.not_finite == NotFinite::Cut,
            remarks: Vec::new(),
            used: serde_json::Value::Null,
        };
        let mut used = Vec::new();
        for one in &found.models {
            let before = problems.len();
            let model = self.fit_model(one, found.called(one), (schema, facts), &mut bound, &mut problems);
            if problems.len() > before {
                // The other models of a sweep would say the same.
                if found.models.len() > 1 {
                    let first = &mut problems[before];
                    first.what = format!("model `{}`: {}", one.name, first.what);
                }
                break;
            }
            self.check_placement(one, facts, &mut bound.remarks, &mut problems);
            used.push(record(&one.name, &model));
            bound.models.push(model);
        }
        if !problems.is_empty() {
            problems.sort();
            problems.dedup();
            return Err(problems);
        }
        bound.remarks.dedup();
        let devices: Vec<String> = bound.processors.iter().map(ToString::to_string).collect();
        let columns: Vec<&str> = bound.columns.iter().map(|column| column.field.name().as_str()).collect();
        bound.used = json!({ "devices": devices, "columns": columns, "models": used });
        Ok(bound)
    }

    fn processors(&self, facts: &Facts, problems: &mut Vec<Problem>) -> Vec<Processor> {
        let mut processors = Vec::new();
        let place = self.device.place;
        for word in &self.device.0 {
            let word =
                if word.place == crate::Place::default() { Placed { value: word.value.clone(), place } } else { word.clone() };
            match Processor::named(&word, self.allow_cpu_nodes) {
                None => {
                    let what = format!("`{}` is no device", word.value);
                    problems.push(Problem::at(&word, what).help("there are `cpu`, `cuda`, `cuda:1` and `tensorrt`"));
                }
                Some(Processor::Cpu) if self.device.0.len() > 1 => {
                    problems.push(Problem::at(&word, "a list of devices is of GPUs: results of a CPU have other bits"));
                }
                Some(Processor::Cpu) => processors.push(Processor::Cpu),
                Some(on) => {
                    if let Err(problem) = facts.processor(&word) {
                        let help = "nothing computes on the CPU in its place; write `device: cpu` for that";
                        problems.push(if problem.help.is_none() { problem.help(help) } else { problem });
                    }
                    processors.push(on);
                }
            }
        }
        if self.device.0.is_empty() {
            problems.push(Problem::at(&self.device, "the list of devices is empty").help("write `device: cpu`"));
        }
        processors
    }

    /// Names the nodes that a GPU leaves to the CPU: a mistake, or a remark where that is permitted.
    fn check_placement(&self, one: &One<'_>, facts: &Facts, remarks: &mut Vec<String>, problems: &mut Vec<Problem>) {
        for word in &self.device.0 {
            let place = if word.place == crate::Place::default() { self.device.place } else { word.place };
            let at = Placed { value: (), place };
            match facts.placements.get(&(word.value.clone(), one.path.clone())) {
                Some(Ok(nodes)) if !nodes.is_empty() => {
                    let what = format!(
                        "{} of {} would compute on the CPU, not on `{}`: {}",
                        words::counted(nodes.len() as u64, "node"),
                        one.path,
                        word.value,
                        some(nodes)
                    );
                    if self.allow_cpu_nodes {
                        remarks.push(what);
                    } else {
                        problems.push(Problem::at(&at, what).help("`allow_cpu_nodes: true` permits that"));
                    }
                }
                Some(Err(reason)) => problems.push(Problem::at(&at, reason.clone())),
                _ => {}
            }
        }
    }

    fn new_names(&self, found: Option<&Found<'_>>, schema: &Schema, problems: &mut Vec<Problem>) {
        let mut seen: Vec<String> = Vec::new();
        if self.outputs.is_empty() {
            let place = self.model.as_ref().map_or(self.batch.place, |m| m.place);
            let what = "none of the model's outputs is taken".to_owned();
            problems.push(Problem { place, what, help: Some("write `outputs: { OUTPUT: new_column }`".into()) });
        }
        let models: Vec<Called<'_>> = match found {
            Some(found) if found.key.is_none() => found.models.iter().map(|one| found.called(one)).collect(),
            _ => vec![Called::Nothing],
        };
        for model in models {
            for name in self.outputs.values().flat_map(|new| names(new, model)) {
                let problem = if schema.field_with_name(&name).is_ok() {
                    Problem::at(&name, format!("there is a column `{}` already", name.value)).help("choose a new name")
                } else if seen.contains(&name.value) {
                    Problem::at(&name, format!("the column `{}` is given twice", name.value)).help("choose another name")
                } else {
                    seen.push(name.value);
                    continue;
                };
                problems.push(problem);
            }
        }
    }

    /// Inputs and outputs that no model has.
    fn unknown_names(&self, found: &Found<'_>, problems: &mut Vec<Problem>) {
        let inputs = || found.models.iter().flat_map(|m| &m.facts.inputs).map(|i| i.name.as_str());
        let outputs = || found.models.iter().flat_map(|m| &m.facts.outputs).map(|o| o.name.as_str());
        let once = |names: Vec<&str>| -> Vec<String> {
            let mut once: Vec<String> = Vec::new();
            for name in names {
                if !once.iter().any(|known| known == name) {
                    once.push(name.to_owned());
                }
            }
            once
        };
        for (name, source) in self.inputs.iter().filter(|(name, _)| inputs().all(|i| i != **name)) {
            let known = once(inputs().collect());
            problems.push(
                Problem::at(source, format!("the model has no input `{name}`")).suggest(name, known.iter().map(String::as_str)),
            );
        }
        for (name, new) in self.outputs.iter().filter(|(name, _)| outputs().all(|o| o != **name)) {
            let known = once(outputs().collect());
            problems.push(
                Problem::at(new, format!("the model has no output `{name}`")).suggest(name, known.iter().map(String::as_str)),
            );
        }
    }

    fn fit_model(
        &self,
        one: &One<'_>,
        name: Called<'_>,
        (schema, facts): (&Schema, &Facts),
        bound: &mut Bound,
        problems: &mut Vec<Problem>,
    ) -> BoundModel {
        let mut model = BoundModel {
            path: one.path.clone(),
            facts: Arc::new(one.facts.clone()),
            feeds: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            slots: Vec::new(),
            fixed: None,
            from_hits: false,
            convolved: Vec::new(),
            said: BTreeMap::new(),
        };
        let mut all = Vec::new();
        for wanted in &one.facts.inputs {
            let Some(source) = self.inputs.get(&wanted.name) else {
                let fitting = inputs::fitting(schema, wanted).unwrap_or("COLUMN");
                problems.push(
                    Problem::at(&one.word, format!("the model's input `{}` gets no column", wanted.name))
                        .help(format!("under `inputs`, write `{}: {fitting}`", wanted.name)),
                );
                continue;
            };
            match inputs::fit(wanted, source, schema, facts) {
                Ok(None) => {}
                Ok(Some(fitted)) => all.push(fitted),
                Err(found) => problems.extend(found),
            }
        }
        model.from_hits = self.leave_hits(one, schema, bound, &mut all, problems);
        let convolved = if model.from_hits { Vec::new() } else { self.convolved(one, schema, bound, &all) };
        for (number, fitted) in all.into_iter().enumerate() {
            model.said.insert(fitted.input.name.clone(), fitted.said);
            bound.remarks.extend(fitted.remarks.into_iter().filter(|r| !bound.remarks.contains(r)).collect::<Vec<_>>());
            if let Some(Convolved { width, read_again, .. }) = convolved.iter().find(|convolved| convolved.input == number) {
                let plan = Plan { hits: true, ..fitted.plan.clone() };
                model.convolved.push(Hits { input: fitted.input.clone(), feed: bound.feed(plan), width: *width });
                if !read_again {
                    continue;
                }
            }
            model.feeds.push(bound.feed(fitted.plan));
            model.inputs.push(fitted.input);
        }
        let fixed = |input: &Tensor| match input.dims.first() {
            Some(Extent::Fixed(n)) => Some(*n),
            _ => None,
        };
        model.fixed = one.facts.inputs.iter().find_map(fixed);
        if let Some(other) = one.facts.inputs.iter().find(|input| fixed(input).is_some_and(|n| model.fixed != Some(n))) {
            let what = format!(
                "the model's inputs have different first axes, and each row is one of all: `{}` is {}",
                other.name,
                inputs::shape(&other.dims)
            );
            problems.push(Problem::at(&one.word, what).help("export the model with a free first axis, (N, ..)"));
        }
        self.fit_outputs(one, name, schema, (&mut model, bound), problems);
        match (model.fixed, bound.batch) {
            (Some(0), _) => problems.push(Problem::at(&one.word, "the model takes no rows: its batch axis is 0")),
            (Some(n), batch) if batch != Some(n) => bound.remarks.push(format!(
                "{} takes {n} {} at a time, no more and no less: it runs so, slower than with a free batch axis",
                one.path,
                if n == 1 { "row" } else { "rows" }
            )),
            _ => {}
        }
        model
    }

    /// Leaves images of hits as hits where the model gets them so; true where its first layer is computed from them.
    fn leave_hits(&self, one: &One<'_>, schema: &Schema, bound: &Bound, all: &mut [Fitted], problems: &mut Vec<Problem>) -> bool {
        let is_hits = |name: &str| schema.field_with_name(name).is_ok_and(crate::hits::is_hits);
        if self.upload.value == Upload::Hits {
            if let Some(reason) = &one.facts.closed {
                problems.push(Problem::at(&self.upload, format!("{} can't get hits: {reason}", one.path)));
            }
            let opset: i64 = one.facts.about.get("opset").and_then(|opset| opset.parse().ok()).unwrap_or(0);
            if opset < scatter::OPSET {
                let what = format!("{} can't get hits: it is of opset {opset}", one.path);
                problems.push(Problem::at(&self.upload, what).help(format!("export it with opset {} or later", scatter::OPSET)));
            }
            for fitted in all.iter_mut().filter(|fitted| fitted.plan.may_stay_hits(is_hits)) {
                (fitted.plan.hits, fitted.input.hits) = (true, true);
            }
            if !all.iter().any(|fitted| fitted.plan.hits) {
                let what = format!("no input of {} gets images of hits alone in which an empty cell stays 0", one.path);
                problems.push(Problem::at(&self.upload, what).help("write `upload: dense`"));
            }
            return false;
        }
        let from_hits = self.may_compute_from_hits(one, bound, all)
            && one.facts.first_layer.is_some()
            && bound.key.is_none()
            && all.iter().zip(&one.facts.inputs).all(|(fitted, input)| fitted.may_be_taken_as_hits(input, schema));
        all.iter_mut().for_each(|fitted| fitted.plan.hits = from_hits);
        from_hits
    }

    fn may_compute_from_hits(&self, one: &One<'_>, bound: &Bound, all: &[Fitted]) -> bool {
        let is_fixed = one.facts.inputs.iter().any(|input| matches!(input.dims.first(), Some(Extent::Fixed(_))));
        self.first_layer == FirstLayerWord::Auto
            && self.upload.value == Upload::Dense
            && bound.processors == [Processor::Cpu]
            && !is_fixed
            && all.len() == one.facts.inputs.len()
    }

    /// The inputs whose first convolutions are computed from hits.
    fn convolved(&self, one: &One<'_>, schema: &Schema, bound: &Bound, all: &[Fitted]) -> Vec<Convolved> {
        let taken = one.facts.convolved.iter().filter(|convolved| {
            let (fitted, input) = (&all[convolved.input], &one.facts.inputs[convolved.input]);
            fitted.may_be_taken_as_hits(input, schema)
        });
        if self.may_compute_from_hits(one, bound, all) { taken.copied().collect() } else { Vec::new() }
    }

    fn fit_outputs(
        &self,
        one: &One<'_>,
        name: Called<'_>,
        schema: &Schema,
        (model, bound): (&mut BoundModel, &mut Bound),
        problems: &mut Vec<Problem>,
    ) {
        let folds = bound.key.is_some();
        let first = bound.models.is_empty();
        for given in &one.facts.outputs {
            let Some(new) = self.outputs.get(&given.name) else { continue };
            let slot = if folds { model.slots.len() } else { bound.slots.len() };
            match outputs::fit(given, new, (slot, name), model.fixed, schema) {
                Err(found) => problems.extend(found),
                Ok((output, columns)) => {
                    if !folds || first {
                        let of = match name {
                            Called::InSweep(name) => format!(" of `{name}`"),
                            Called::Nothing | Called::Alone(_) => String::new(),
                        };
                        bound.slots.push(Slot { output: output.clone(), called: format!("`{}`{of}", output.name) });
                        bound.columns.extend(columns);
                    } else if bound.slots.get(slot).is_none_or(|known| known.output != output) {
                        let what = format!("{} gives another `{}` than {}", one.path, output.name, bound.models[0].path);
                        problems.push(Problem::at(&one.word, what).help("models of folds have equal outputs"));
                    }
                    model.outputs.push(output);
                    model.slots.push(slot);
                }
            }
        }
        if problems.is_empty() && model.outputs.is_empty()
            || folds && problems.is_empty() && model.slots.len() != bound.slots.len()
        {
            problems.push(Problem::at(&one.word, format!("{} has not the outputs that are taken", one.path)));
        }
    }
}

/// The first few of many names.
fn some(names: &[String]) -> String {
    const FEW: usize = 8;
    let mut said = names.iter().take(FEW).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > FEW {
        said += &format!(" and {} more", names.len() - FEW);
    }
    said
}

/// What the record of a run says of a model.
fn record(name: &str, model: &BoundModel) -> serde_json::Value {
    let first_layer = match (model.from_hits, model.convolved.is_empty()) {
        (true, _) => "from hits",
        (false, false) => "convolution from hits",
        (false, true) => "by ONNX Runtime",
    };
    let mut said = json!({
        "name": name,
        "path": model.path,
        "sha256": model.facts.sha256,
        "bytes": model.facts.bytes,
        "about": model.facts.about,
        "inputs": model.said,
        "first_layer": first_layer,
        "convolved_from_hits": model.convolved.iter().map(|hits| hits.input.name.as_str()).collect::<Vec<_>>(),
    });
    if !model.facts.files.is_empty() {
        let files = model.facts.files.iter();
        said["files"] = files.map(|file| json!({ "path": file.path, "sha256": file.sha256, "bytes": file.bytes })).collect();
    }
    said
}
