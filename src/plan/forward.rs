//! From steps and facts to a plan: order, schemas, the columns that are read, phases; or everything that is wrong.
//!
//! Pure. Steps are planned from top to bottom with full schemas; a step whose input failed is passed over in silence, so
//! every problem that is shown is a cause. Then the columns that nobody reads are taken out and the steps are planned again.

use super::{Plan, PlannedStep, Port, canonical, columns, levels, surveys};
use crate::language::{Pipeline, Step};
use calostream_operators::{Facts, Output, Placed, Planned, Problem, Shape, words};
use std::path::PathBuf;
use std::sync::Arc;

/// Plans a pipeline, adding to the problems that were found while it was read.
pub fn plan(pipeline: Pipeline, mut facts: Facts, mut problems: Vec<Problem>) -> Result<Plan, Vec<Problem>> {
    let read_whole = problems.is_empty();
    let mut drafts: Vec<Option<Draft>> = Vec::with_capacity(pipeline.steps.len());
    for number in 0..pipeline.steps.len() {
        let draft = draft(&pipeline.steps, number, &drafts, &facts);
        drafts.push(draft.map_err(|found| problems.extend(found)).ok());
    }
    let drafts = match drafts.into_iter().collect::<Option<Vec<_>>>() {
        Some(drafts) if problems.is_empty() && read_whole => drafts,
        _ => return Err(problems),
    };
    if !drafts.iter().any(|d| matches!(d.planned.shape, Shape::Fold | Shape::Sink | Shape::Page)) {
        let problem = Problem::at(&pipeline.name, "the pipeline makes nothing");
        return Err(vec![problem.help("end it with a step that writes files, sums up or makes a page")]);
    }
    let canonical = canonical::form(pipeline.seed, pipeline.steps.iter(), &facts);
    let hash = canonical::hash(&canonical);
    let mut remarks: Vec<(String, String)> = Vec::new();
    let mut steps: Vec<PlannedStep> = Vec::new();
    for (step, draft) in pipeline.steps.into_iter().zip(drafts) {
        let Some(operator) = step.operator else { return Err(problems) };
        steps.push(PlannedStep {
            name: step.name.value,
            place: step.name.place,
            kind: step.kind.value,
            operator: operator.into(),
            from: draft.from,
            inputs: draft.inputs,
            planned: draft.planned,
            level: 0,
            spills: false,
            counted: false,
            stage: 0,
            idle: false,
            goal: false,
        });
    }
    let found = super::feed::problems(&steps);
    if !found.is_empty() {
        return Err(found);
    }
    levels::number(&mut steps);
    facts.narrowed = true;
    let surveys = surveys::plans(&steps, &facts)?;
    columns::narrow(&mut steps, &facts, &mut remarks, false)?;
    for step in &steps {
        remarks.extend(step.planned.remarks.iter().map(|remark| (step.name.clone(), remark.clone())));
    }
    let mut found = super::parts::problems(&steps);
    found.extend(super::expected::problems(&steps));
    if !found.is_empty() {
        return Err(found);
    }
    fits(pipeline.budget.as_ref(), facts.memory, &steps)?;
    let mut plan = Plan {
        out: pipeline.out.map_or_else(|| PathBuf::from("runs").join(&pipeline.name.value), |out| PathBuf::from(out.value)),
        name: pipeline.name.value,
        about: pipeline.about,
        seed: pipeline.seed,
        budget: pipeline.budget.map(|b| b.value),
        quarantine_at_most: pipeline.quarantine_at_most,
        strict: pipeline.strict,
        steps,
        phases: Vec::new(),
        canonical,
        hash,
        facts: Arc::new(facts),
        remarks,
    };
    plan.phases = levels::phases(&plan, surveys);
    Ok(plan)
}

/// Refuses what does not even fit into the budget on one worker.
fn fits(named: Option<&Placed<u64>>, memory: Option<u64>, steps: &[PlannedStep]) -> Result<(), Vec<Problem>> {
    let Some(budget) = named.map(|b| b.value).or_else(|| memory.map(super::default_budget)) else { return Ok(()) };
    let holds: u64 = steps.iter().map(|s| s.planned.holds).sum();
    let least = holds + super::LEAST_BUDGET;
    let Some(most) = steps.iter().max_by_key(|s| s.planned.holds).filter(|_| least > budget) else { return Ok(()) };
    let alone = most.planned.holds + super::LEAST_BUDGET > budget;
    let place = named.filter(|_| !alone).map_or(most.place, |b| b.place);
    let who = if alone { format!("`{}` holds", most.name) } else { "the steps hold".to_owned() };
    let what = format!(
        "{who} up to {} on one worker, and batches need room",
        words::bytes(if alone { most.planned.holds } else { holds })
    );
    let mut help = format!("at least `budget: {} MiB`", least.div_ceil(1 << 20));
    if !alone {
        help += &format!("; most of it is held by `{}`", most.name);
    }
    match memory.filter(|_| named.is_none()) {
        Some(memory) => help += &format!("; here it is {}, 60 % of {}", words::bytes(budget), words::bytes(memory)),
        None => help += &format!("; it is {}", words::bytes(budget)),
    }
    Err(vec![Problem { place, what, help: Some(help) }])
}

/// A step as it was planned with full schemas.
struct Draft {
    from: Vec<Port>,
    inputs: Vec<Output>,
    planned: Planned,
}

/// Plans one step; an empty list of problems where what it stands on failed.
fn draft(steps: &[Step], number: usize, drafts: &[Option<Draft>], facts: &Facts) -> Result<Draft, Vec<Problem>> {
    let step = &steps[number];
    let (mut from, mut inputs, mut problems, mut passed_over) = (Vec::new(), Vec::new(), Vec::new(), false);
    for word in &step.from {
        match resolve(steps, number, drafts, word) {
            Ok(Some((port, output))) => {
                from.push(port);
                inputs.push(output);
            }
            Ok(None) => passed_over = true,
            Err(problem) => problems.push(problem),
        }
    }
    let Some(operator) = step.operator.as_ref().filter(|_| problems.is_empty() && !passed_over) else { return Err(problems) };
    let mut planned = operator.plan(facts, &inputs).map_err(|found| columns::placed(found, step.kind.place))?;
    for unit in &mut planned.units {
        unit.step.clone_from(&step.name.value);
    }
    Ok(Draft { from, inputs, planned })
}

/// The output that a word of `from` means; none where its step failed.
fn resolve(
    steps: &[Step],
    number: usize,
    drafts: &[Option<Draft>],
    word: &Placed<String>,
) -> Result<Option<(Port, Output)>, Problem> {
    let (name, output) = word.split_once('.').map_or((word.as_str(), None), |(n, o)| (n, Some(o)));
    let own = &steps[number].name.value;
    let Some(index) = steps[..number].iter().position(|s| s.name.value == name) else {
        let problem = Problem::at(word, format!("no step `{name}` above `{own}`"));
        return Err(if name == own {
            problem.help("a step can't read its own output")
        } else if steps[number..].iter().any(|s| s.name.value == name) {
            problem.help(format!("`{name}` stands below; a step reads only steps above it"))
        } else {
            problem.suggest(name, steps[..number].iter().map(|s| s.name.value.as_str()))
        });
    };
    let Some(draft) = &drafts[index] else { return Ok(None) };
    let outputs = &draft.planned.outputs;
    let full = |o: &Output| format!("{name}.{}", o.name);
    let names: Vec<String> = outputs.iter().filter(|o| !o.name.is_empty()).map(full).collect();
    let found = match output {
        Some(output) => outputs.iter().position(|o| o.name == output && !o.name.is_empty()),
        None if outputs.len() == 1 => Some(0),
        None => None,
    };
    if let Some(output) = found {
        return Ok(Some((Port { step: index, output }, outputs[output].clone())));
    }
    let kind = &steps[index].kind.value;
    Err(match output {
        _ if outputs.is_empty() => Problem::at(word, format!("`{name}` has no output: `{kind}` is an end")),
        None => Problem::at(word, format!("`{name}` has several outputs")).help(format!("say which: {}", names.join(", "))),
        Some(output) if names.is_empty() => {
            let problem = Problem::at(word, format!("`{name}` has no output `{output}`"));
            problem.help(format!("it has one output: write `{name}`"))
        }
        Some(output) => {
            Problem::at(word, format!("`{name}` has no output `{output}`")).suggest(word, names.iter().map(String::as_str))
        }
    })
}
