//! The dataflow of a pass on one worker, as the picture in [`super`] shows it: streams from readers through stages to the commit.
//!
//! Every worker builds the same one: where a step could not start there stands a stage that fails, so that channels have the same
//! numbers everywhere, and the failure is raised where it was met.

use super::operator::{self, On};
use super::pass::Pass;
use super::phase::strata;
use super::ranks::{Router, Tally};
use super::spiller::Spiller;
use super::stage::{Given, Kind, SinkPlace, Stage, StepStage};
use super::{Shared, commit, gather, parcel, regroup, source, start, timeline};
use crate::plan::{Plan, Port};
use anyhow::{Context, Result, bail};
use calostream_operators::statistics::sums::Sums;
use calostream_operators::{Shape, Work};
use std::collections::BTreeMap;
use std::sync::Arc;
use timely::dataflow::operators::{Concatenate, Probe};
use timely::dataflow::{ProbeHandle, Stream};

/// Bytes that a worker holds of an input of a step until it writes a run: what an earlier pass has kept is held already.
pub fn limit(shared: &Shared, step: &str) -> u64 {
    let kept = shared.kept.as_ref().map_or(0, |kept| kept.bytes_of(step)) / shared.threads as u64;
    shared.aside.saturating_sub(kept).max(shared.aside / 8)
}

/// Stands where a step could not start, so that the dataflow has the same form everywhere.
struct Broken;

impl Stage for Broken {
    fn take(&mut self, _: u64, _: parcel::Parcel, _: &mut Given) -> Result<()> {
        bail!("a step could not start")
    }
}

/// Builds the dataflow of a pass on this worker: what is done when everything is committed, and what says which parts are over.
pub fn build(
    worker: &mut timely::worker::Worker,
    plan: &Arc<Plan>,
    shared: &Arc<Shared>,
    pass: &Arc<Pass>,
) -> (ProbeHandle<u64>, ProbeHandle<u64>) {
    let index = worker.index();
    let whole = plan;
    let plan = plan.phases[pass.phase.number].survey.as_ref().unwrap_or(plan);
    worker.dataflow::<u64, _, _>(|scope| {
        let phase = &pass.phase;
        let mut streams: BTreeMap<Port, Stream<'_, u64, parcel::Chunk>> = BTreeMap::new();
        let mut records = Vec::new();
        if phase.regroups {
            let (of, all, plan) = (Arc::clone(pass), Arc::clone(shared), Arc::clone(plan));
            let (_, told) = source::source(scope, "runs again", 0, shared, move |reading| {
                regroup::put_aside_again(&plan, &of, &all, index, reading)
            });
            records.push(told);
        } else if phase.level == 0 {
            let mut sources = BTreeMap::new();
            let reads = index % shared.threads < shared.readers;
            for port in phase.origins.iter().filter(|_| reads) {
                match start(plan, &shared.runtime, port.step, ((index, shared.peers), None)) {
                    Ok(Work::Source(s)) => {
                        let schema = Arc::clone(&plan.steps[port.step].planned.outputs[0].schema);
                        sources.insert(port.step, (s, schema));
                    }
                    Ok(_) => shared.failure.raise(anyhow::anyhow!("`{}` is no source any more", plan.steps[port.step].name)),
                    Err(error) => shared.failure.raise(error),
                }
            }
            let (of, all) = (Arc::clone(pass), Arc::clone(shared));
            let (outputs, told) = source::source(scope, "read", phase.origins.len(), shared, move |reading| {
                if reads { source::read_parts(&of, sources, &all, reading) } else { Ok(()) }
            });
            streams.extend(phase.origins.iter().copied().zip(outputs));
            records.push(told);
        } else {
            let (of, all) = (Arc::clone(pass), Arc::clone(shared));
            let (outputs, told) = source::source(scope, "runs", phase.origins.len(), shared, move |reading| {
                gather::read_parts(&of, &all, index, reading)
            });
            records.push(told);
            for (port, stretches) in phase.origins.iter().zip(outputs) {
                let schema = Arc::clone(&plan.steps[port.step].planned.outputs[port.output].schema);
                let making = match start(whole, &shared.runtime, port.step, ((index, shared.peers), None)) {
                    Ok(Work::Join(join)) => gather::Making::Join(join, plan.steps[port.step].from.len()),
                    Ok(_) => {
                        gather::Making::Order(phase.asides.get(&port.step).map(|a| Arc::clone(&a.routing)).unwrap_or_default())
                    }
                    Err(error) => {
                        shared.failure.raise(error);
                        gather::Making::Order(Arc::default())
                    }
                };
                let placer = Box::new(gather::Placer::new(*port, Arc::clone(phase), schema, making));
                let name = format!("{} in order", plan.steps[port.step].name);
                let (mut placed, told) = operator::exchanged(scope, &name, stretches, 1, (placer, On::Thread), shared);
                records.push(told);
                streams.extend(placed.pop().map(|s| (*port, s)));
            }
        }
        for (step, planned) in plan.steps.iter().enumerate() {
            let shape = planned.planned.shape;
            if planned.level != phase.level || phase.regroups || planned.idle || matches!(shape, Shape::Source | Shape::Page) {
                continue;
            }
            let gives = match shape {
                Shape::Map | Shape::Device => !planned.goal,
                Shape::Shuffle => !planned.spills && !planned.goal,
                _ => false,
            };
            let on = match shape {
                Shape::Map | Shape::Fold => On::Worker,
                Shape::Shuffle if gives || planned.goal => On::Worker,
                _ => On::Thread,
            };
            let surveys = planned.goal && planned.planned.survey.is_some();
            let inputs = if surveys { 1 } else { planned.from.len() };
            for (input, port) in planned.from.iter().enumerate().take(inputs) {
                let Some(stream) = streams.get(port).cloned() else { continue };
                let stage: Box<dyn Stage> = match step_stage((whole, plan), shared, pass, (step, input), index) {
                    Ok(stage) => Box::new(stage),
                    Err(error) => {
                        shared.failure.raise(error);
                        Box::new(Broken)
                    }
                };
                let outputs = if gives { planned.planned.outputs.len() } else { 0 };
                let (outputs, told) = operator::stage(scope, &planned.name, stream, outputs, (stage, on), shared);
                records.push(told);
                streams.extend(outputs.into_iter().enumerate().map(|(output, s)| (Port { step, output }, s)));
            }
        }
        let over = ProbeHandle::new();
        let records = scope.concatenate(records).probe_with(&over);
        (commit::commit(scope, records, plan, pass, shared), over)
    })
}

/// The stage of an input of a step.
fn step_stage(
    (whole, plan): (&Plan, &Plan),
    shared: &Arc<Shared>,
    pass: &Pass,
    (step, input): (usize, usize),
    worker: usize,
) -> Result<StepStage> {
    let planned = &plan.steps[step];
    let outputs = &planned.planned.outputs;
    let routing = || pass.phase.routings.get(&step).cloned().context("a shuffle whose rows were not counted");
    let spill = |router| -> Result<Kind> {
        let routing = routing()?;
        let read = |output| whole.takers(Port { step, output }).next().is_some();
        let parts = (0..outputs.len()).map(|output| if read(output) { routing.pieces(output).0 } else { 0 }).collect();
        let schema = &planned.inputs[input].schema;
        let limit = limit(shared, &planned.name);
        let spiller = Spiller::new((&planned.name, input), schema, shared.scratch.clone(), parts, limit);
        let spiller = spiller.in_pieces_of(routing.pieces(0).1).until(&shared.failure);
        Ok(Kind::Spill(router, Box::new(spiller.keeping(shared.kept.clone())), input))
    };
    let surveyed = pass.phase.surveyed.get(&step).cloned();
    let kind = match start(plan, &shared.runtime, step, ((worker, shared.peers), surveyed))? {
        Work::Map(map) => Kind::Map(map),
        Work::Device(device) => {
            if let Some(meter) = device.meter() {
                timeline::follow(&meter, &planned.name);
                shared.devices.add(step, meter);
            }
            Kind::Device(device)
        }
        Work::Fold(fold) => Kind::Fold(fold, Sums::default()),
        Work::Sink(sink) => {
            let place = SinkPlace {
                folder: shared.folder.join(&planned.name),
                staging: shared.folder.join(".staging").join(format!("{}-{worker}", planned.name)),
            };
            Kind::Sink { sink, place, begun: false }
        }
        Work::Shuffle(shuffle) if planned.goal => Kind::Count(Tally::new(shuffle, outputs.len(), strata(plan, step))),
        Work::Shuffle(shuffle) if planned.spills => spill(Router::shuffle(shuffle, routing()?))?,
        Work::Shuffle(shuffle) => Kind::Select(Router::shuffle(shuffle, routing()?)),
        Work::Join(join) => spill(Router::join(join, input, routing()?))?,
        Work::Source(_) | Work::Page(_) | Work::Feed(_) => {
            bail!("`{}` was planned as another shape than it started as", planned.name)
        }
    };
    let schemas = match planned.planned.shape {
        _ if matches!(kind, Kind::Fold(..)) => Vec::new(),
        Shape::Sink => Vec::new(),
        _ => outputs.iter().map(|o| Arc::clone(&o.schema)).collect(),
    };
    let counter = Arc::clone(&shared.counters[step]);
    Ok(StepStage::new((step, &planned.name), schemas, kind, (Arc::clone(&pass.phase), counter)))
}
