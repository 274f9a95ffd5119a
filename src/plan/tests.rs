//! The planner on operators that do nothing but plan.

use super::{Plan, plan, spill};
use crate::language::{Pipeline, Step};
use arrow::datatypes::{DataType, Field, Schema};
use calostream_operators::{Facts, Lanes, Operator, Output, Place, Placed, Planned, Problem, Reads, Shape, Start, Unit, Work};
use std::sync::Arc;

/// Makes these columns of its inputs, under these outputs.
#[derive(Debug, Clone)]
struct Fake {
    shape: Shape,
    adds: Vec<&'static str>,
    reads: Option<Vec<&'static str>>,
    outputs: Vec<&'static str>,
    table: bool,
    holds: u64,
    /// Of a source: files, and the rows of each.
    files: (u64, u64),
}

impl Fake {
    fn new(shape: Shape) -> Self {
        let ends = matches!(shape, Shape::Sink | Shape::Page);
        let outputs = if ends { vec![] } else { vec![""] };
        Self { shape, adds: vec![], reads: None, outputs, table: shape == Shape::Fold, holds: 0, files: (1, 10) }
    }
    fn adds(mut self, columns: &[&'static str]) -> Self {
        self.adds = columns.to_vec();
        self
    }
    fn reads(mut self, columns: &[&'static str]) -> Self {
        self.reads = Some(columns.to_vec());
        self
    }
    fn outputs(mut self, names: &[&'static str]) -> Self {
        self.outputs = names.to_vec();
        self
    }
}

impl Operator for Fake {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let first = inputs.first();
        let mut fields: Vec<Arc<Field>> =
            first.filter(|_| self.shape != Shape::Fold).map(|i| i.schema.fields().to_vec()).unwrap_or_default();
        for read in self.reads.iter().flatten() {
            if !inputs.iter().any(|i| i.schema.field_with_name(read).is_ok()) {
                return Err(vec![Problem { place: Place::default(), what: format!("no column `{read}`"), help: None }]);
            }
        }
        fields.extend(self.adds.iter().map(|name| Arc::new(Field::new(*name, DataType::Float64, false))));
        let row_bytes = 8 * fields.len() as u64;
        let rows = if self.shape == Shape::Source { Some(self.files.0 * self.files.1) } else { first.and_then(|i| i.rows) };
        let schema = Arc::new(Schema::new(fields));
        let output =
            |name: &&str| Output { name: (*name).into(), schema: Arc::clone(&schema), table: self.table, rows, row_bytes };
        let mut planned = Planned::new(self.shape, self.outputs.iter().map(output).collect()).holding(self.holds);
        planned.reads = inputs.iter().map(|_| self.reads.clone().map_or(Reads::All, Reads::columns)).collect();
        if self.shape == Shape::Source {
            planned.units.extend((0..self.files.0).map(|file| Unit {
                step: String::new(),
                sample: None,
                path: format!("{file}.h5"),
                fingerprint: "f".into(),
                first: 0,
                rows: self.files.1,
                file: 0,
                row_bytes,
                alone: false,
            }));
        }
        Ok(planned)
    }

    fn start(&self, _: &Start<'_>) -> anyhow::Result<Work> {
        anyhow::bail!("a fake does no work")
    }
}

/// A pipeline of these steps; step `n` stands in line `n + 1`.
fn pipeline(steps: Vec<(&str, &[&str], Option<Fake>)>) -> Pipeline {
    let word = |text: &str, line: usize, column| Placed {
        value: text.to_owned(),
        place: Place { line: u32::try_from(line + 1).unwrap(), column },
    };
    let step = |(line, (name, from, fake)): (usize, (&str, &[&str], Option<Fake>))| Step {
        name: word(name, line, 1),
        from: from.iter().map(|f| word(f, line, 5)).collect(),
        from_place: None,
        kind: word("fake", line, 9),
        operator: fake.map(|f| Box::new(f) as Box<dyn Operator>),
        parameters: serde_json::json!({ "line": line }),
    };
    Pipeline {
        name: word("test", 0, 1),
        about: None,
        out: None,
        seed: 3,
        budget: None,
        quarantine_at_most: 0.01,
        strict: false,
        steps: steps.into_iter().enumerate().map(step).collect(),
        remarks: vec![],
    }
}

fn planned(steps: Vec<(&str, &[&str], Option<Fake>)>) -> Result<Plan, Vec<String>> {
    let shown = |p: &Problem| {
        let help = p.help.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
        format!("{}:{} {}{help}", p.place.line, p.place.column, p.what)
    };
    plan(pipeline(steps), Facts::default(), vec![]).map_err(|found| found.iter().map(shown).collect())
}

fn columns(plan: &Plan, step: usize, output: usize) -> Vec<&str> {
    plan.steps[step].planned.outputs[output].schema.fields().iter().map(|f| f.name().as_str()).collect()
}

fn source() -> Option<Fake> {
    Some(Fake::new(Shape::Source).adds(&["event", "a", "b", "c", "d"]))
}

#[test]
fn columns_that_nobody_reads_are_taken_out_all_the_way_up() {
    let plan = planned(vec![
        ("events", &[], source()),
        ("hot", &["events"], Some(Fake::new(Shape::Map).reads(&["a"]))),
        ("mixed", &["hot"], Some(Fake::new(Shape::Shuffle).reads(&[]).outputs(&["train", "test"]))),
        ("more", &["mixed.test"], Some(Fake::new(Shape::Map).reads(&["b"]).adds(&["x", "y"]))),
        ("sums", &["more"], Some(Fake::new(Shape::Fold).reads(&["x", "c"]).adds(&["mean"]))),
        ("page", &["sums"], Some(Fake::new(Shape::Page))),
    ])
    .unwrap();
    assert_eq!(columns(&plan, 0, 0), ["event", "a", "b", "c"]);
    assert_eq!(columns(&plan, 1, 0), ["event", "b", "c"]);
    assert_eq!(columns(&plan, 2, 0), ["event"]);
    assert_eq!(columns(&plan, 2, 1), ["event", "b", "c"]);
    assert_eq!(columns(&plan, 3, 0), ["event", "c", "x"]);
    assert_eq!(columns(&plan, 4, 0), ["mean"]);
    let unit = &plan.steps[0].planned.units[0];
    assert_eq!((unit.step.as_str(), unit.row_bytes), ("events", 32));
    assert_eq!(plan.steps[0].planned.outputs[0].row_bytes, 32);
    assert_eq!(plan.remarks, [("mixed".to_owned(), "nobody reads the output `train` of `mixed`".to_owned())]);
    for step in &plan.steps {
        for (port, input) in step.from.iter().zip(&step.inputs) {
            assert_eq!(input.schema, plan.steps[port.step].planned.outputs[port.output].schema, "{}", step.name);
        }
    }
}

#[test]
fn a_table_of_a_fold_and_the_output_of_a_shuffle_are_of_the_next_phase() {
    let plan = planned(vec![
        ("events", &[], source()),
        ("weights", &["events"], Some(Fake::new(Shape::Fold).adds(&["w"]))),
        ("early", &["events"], Some(Fake::new(Shape::Page))),
        ("weighted", &["events", "weights"], Some(Fake::new(Shape::Map))),
        ("mixed", &["weighted"], Some(Fake::new(Shape::Shuffle))),
        ("files", &["mixed"], Some(Fake::new(Shape::Sink))),
        ("sums", &["weighted"], Some(Fake::new(Shape::Fold).adds(&["n"]))),
        ("page", &["weights"], Some(Fake::new(Shape::Page))),
    ])
    .unwrap();
    let phases: Vec<usize> = plan.steps.iter().map(|s| s.level).collect();
    assert_eq!((plan.main_phases().count(), phases), (3, vec![0, 0, 2, 1, 1, 2, 1, 2]));
    assert_eq!(plan.remarks, []);
}

#[test]
fn ten_terabytes_in_a_hundred_thousand_files_are_foreseen() {
    let names: Vec<&str> = (0..1250).map(|i| &*Box::leak(format!("c{i}").into_boxed_str())).collect();
    let mut source = Fake::new(Shape::Source).adds(&names);
    source.files = (100_000, 10_000);
    let steps = vec![
        ("events", &[][..], Some(source)),
        ("mixed", &["events"][..], Some(Fake::new(Shape::Shuffle))),
        ("files", &["mixed"][..], Some(Fake::new(Shape::Sink))),
    ];
    let mut plan = planned(steps).unwrap();
    plan.steps[1].planned.lanes = Lanes::Samples;
    let with = |budget, workers| spill::forecast(&plan, 1, budget, workers).unwrap();
    let laptop = with(4 << 30, 4);
    assert_eq!((laptop.bytes, laptop.runs, laptop.passes), (10_000_000_000_000, 27_940, 2));
    assert!(laptop.piece >= spill::READ && laptop.open == spill::OPEN as u64, "{laptop:?}");
    // Were all of it in one pass, pieces would be this short.
    assert!(laptop.bytes / laptop.runs / laptop.parts < 2000, "{laptop:?}");
    let large = with(256 << 30, 32);
    assert!(large.open < spill::OPEN as u64 && large.piece > 1 << 20, "{large:?}");
    assert_eq!(spill::held(&plan, 3 << 30), (1 << 30, 1));
}

#[test]
fn names_that_mean_nothing_are_told_and_what_hangs_on_them_is_not() {
    let found = planned(vec![
        ("events", &[], source()),
        ("mixed", &["events"], Some(Fake::new(Shape::Shuffle).outputs(&["train", "test"]))),
        ("a", &["mixed.tset"], Some(Fake::new(Shape::Map))),
        ("b", &["mixed"], Some(Fake::new(Shape::Map))),
        ("c", &["events.test"], Some(Fake::new(Shape::Map))),
        ("d", &["evnets"], Some(Fake::new(Shape::Map))),
        ("e", &["g"], Some(Fake::new(Shape::Map))),
        ("f", &["f"], Some(Fake::new(Shape::Map))),
        ("g", &["events"], Some(Fake::new(Shape::Map).reads(&["nothing"]))),
        ("h", &["g", "a"], Some(Fake::new(Shape::Map))),
        ("sink", &["events"], Some(Fake::new(Shape::Sink))),
        ("i", &["sink"], Some(Fake::new(Shape::Map))),
        ("unread", &["events"], None),
        ("j", &["unread"], Some(Fake::new(Shape::Map))),
    ])
    .unwrap_err();
    assert_eq!(
        found,
        [
            "3:5 `mixed` has no output `tset` (did you mean `mixed.test`?)",
            "4:5 `mixed` has several outputs (say which: mixed.train, mixed.test)",
            "5:5 `events` has no output `test` (it has one output: write `events`)",
            "6:5 no step `evnets` above `d` (did you mean `events`?)",
            "7:5 no step `g` above `e` (`g` stands below; a step reads only steps above it)",
            "8:5 no step `f` above `f` (a step can't read its own output)",
            "9:9 no column `nothing`",
            "12:5 `sink` has no output: `fake` is an end",
        ]
    );
}

#[test]
fn a_pipeline_must_make_something() {
    let found = planned(vec![("events", &[], source()), ("hot", &["events"], Some(Fake::new(Shape::Map)))]).unwrap_err();
    assert_eq!(found, ["1:1 the pipeline makes nothing (end it with a step that writes files, sums up or makes a page)"]);
}

#[test]
fn a_budget_below_what_the_steps_hold_is_refused() {
    let mut holding = Fake::new(Shape::Sink);
    holding.holds = 3 << 30;
    let steps = || vec![("events", &[][..], source()), ("files", &["events"][..], Some(holding.clone()))];
    let found = |budget: Option<u64>, memory: Option<u64>, more: bool| {
        let mut all = steps();
        all.extend(more.then(|| ("others", &["events"][..], Some(holding.clone()))));
        let mut pipeline = pipeline(all);
        pipeline.budget = budget.map(|value| Placed { value, place: Place { line: 9, column: 9 } });
        let found = plan(pipeline, Facts { memory, ..Facts::default() }, vec![]).err();
        found.map(|mut p| p.remove(0)).map(|p| (p.place.line, p.what, p.help.unwrap_or_default()))
    };
    // One step alone is too much: the problem is there. All of them together: it is the budget's.
    let (line, what, help) = found(Some(1 << 30), None, false).unwrap();
    assert_eq!((line, what.as_str()), (2, "`files` holds up to 3.00 GiB on one worker, and batches need room"));
    assert_eq!(help, "at least `budget: 3136 MiB`; it is 1.00 GiB");
    let (line, what, help) = found(Some(4 << 30), None, true).unwrap();
    assert_eq!((line, what.as_str()), (9, "the steps hold up to 6.00 GiB on one worker, and batches need room"));
    assert_eq!(help, "at least `budget: 6208 MiB`; most of it is held by `others`; it is 4.00 GiB");
    // Nobody named a budget: what this machine allows counts.
    let (line, _, help) = found(None, Some(5 << 30), false).unwrap();
    assert_eq!((line, help.as_str()), (2, "at least `budget: 3136 MiB`; here it is 3.00 GiB, 60 % of 5.00 GiB"));
    assert_eq!(found(None, Some(6 << 30), false), None);
    assert_eq!(found(Some(3136 << 20), Some(1 << 30), false), None);
}

#[test]
fn the_hash_knows_the_steps_and_the_seed_but_not_where_the_run_is() {
    let steps = || vec![("events", &[][..], source()), ("files", &["events"][..], Some(Fake::new(Shape::Sink)))];
    let with = |change: fn(&mut Pipeline)| {
        let mut pipeline = pipeline(steps());
        change(&mut pipeline);
        plan(pipeline, Facts::default(), vec![]).unwrap()
    };
    let plain = with(|_| ());
    assert_eq!(plain.hash, with(|p| p.out = Some(Placed::unplaced("elsewhere".into()))).hash);
    assert_eq!(plain.hash, with(|p| p.about = Some("x".into())).hash);
    let other = with(|p| p.seed = 4);
    assert_ne!(plain.hash, other.hash);
    assert_eq!(super::difference(&plain.canonical, &other.canonical).unwrap(), "seed: was `3`, now `4`");
    let other = with(|p| p.steps[0].parameters = serde_json::json!({ "line": 7 }));
    let wanted = "steps.events.fake.line: was `0`, now `7`";
    assert_eq!(super::difference(&plain.canonical, &other.canonical).unwrap(), wanted);
}
