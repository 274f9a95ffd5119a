//! What stands between the rows and a GPU, with the CPU in its place: its threads, its memory, its figures.

use super::super::computer::Computer;
use super::super::device::Batches;
use super::*;
use crate::meter::Doing;
use serde_json::json;
use std::collections::HashSet;
use std::sync::Mutex;

fn sweep() -> Infer {
    infer(&path("sweep/*.onnx"), json!({ "ECAL": "ecal", "HCAL": "hcal" }), json!({ "score": "p" }), 32)
}

/// The step with threads as of a GPU, in memory as of a GPU, which all who say the same name share.
fn on_threads(step: &Infer, rows: &RecordBatch, name: &str) -> Batches {
    threads(step, rows, name, None).unwrap()
}

fn threads(step: &Infer, rows: &RecordBatch, name: &str, refused: Option<&'static str>) -> anyhow::Result<Batches> {
    let known = facts(step);
    let planned = step.plan(&known, &[stream(rows.schema())]).unwrap();
    let bound = step.bind(&known, &rows.schema()).unwrap();
    let computer = Computer::threads_on_cpu(&bound, name, refused)?;
    let size = bound.batch.unwrap();
    Ok(Batches::with(computer, bound, planned.outputs[0].schema.clone(), size))
}

/// Where a device has no memory for a second session one does all; any other reason is told.
#[test]
fn a_device_goes_on_with_one_session_only_for_want_of_memory() {
    let (step, rows) = (sweep(), two_images(false));
    let wanted = unit(&mut *start(&step, &rows.schema(), None), &rows, &[]);
    let mut alone = threads(&step, &rows, "one session", Some("CUDA failure 2: out of memory")).unwrap();
    assert_eq!(unit(&mut alone, &rows, &[40]), wanted);
    let refused = threads(&step, &rows, "changed", Some("the model has changed")).map(drop).unwrap_err();
    assert_eq!(refused.to_string(), "the model has changed");
}

/// Batches of all workers, which either of the threads computes, come back to whom they belong, in their order.
#[test]
fn workers_share_the_threads_of_a_device() {
    let (step, rows) = (sweep(), two_images(false));
    let wanted = unit(&mut *start(&step, &rows.schema(), None), &rows, &[]);
    let told: Arc<Mutex<HashSet<(std::thread::ThreadId, bool)>>> = Arc::default();
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (step, rows, wanted, told) = (&step, &rows, &wanted, Arc::clone(&told));
            scope.spawn(move || {
                let mut device = on_threads(step, rows, "shared");
                let meter = work::Device::meter(&device).unwrap();
                meter.watch(move |doing, _, _| {
                    told.lock().unwrap().insert((std::thread::current().id(), doing == Doing::Computing));
                });
                work::Device::push(&mut device, rows.slice(3, 40)).unwrap_or_else(|e| panic!("{e}"));
                work::Device::forget(&mut device);
                for round in 0..20 {
                    assert_eq!(unit(&mut device, rows, &[worker + 1, 3 * round]), *wanted);
                }
                let read = meter.read();
                assert!(read.computing <= read.open && read.rows >= 20 * ROWS as u64, "{read:?}");
            });
        }
    });
    assert_eq!(told.lock().unwrap().iter().filter(|(_, computing)| *computing).count(), 2, "both threads computed");
}

/// Dense images, hits that the model makes its image of, and numbers of every type are the same to the bit.
#[test]
fn what_lies_in_the_memory_of_a_device_is_what_lies_in_ours() {
    let images = two_images(false);
    let wide = |name: &str, from: f64| {
        let values: Vec<f64> = (0..ROWS).map(|row| from * row as f64 - 7.25).collect();
        (Field::new(name, DataType::Float64, false), Arc::new(Float64Array::from(values)) as ArrayRef)
    };
    let numbers = batch(vec![wide("c0", 0.1), wide("c1", -3.0), wide("c2", 17.0)]);
    let typed = |of: &str| {
        let inputs = json!({ "x": { "columns": ["c0", "c1", "c2"] } });
        infer(&path(&format!("typed.{of}.onnx")), inputs, json!({ "same": ["s0", "s1", "s2"] }), 16)
    };
    let mut steps = vec![(classify(16), &images), (classify(16), &images)];
    steps[1].0.upload = serde_json::from_value(json!("hits")).unwrap();
    steps.extend(["float16", "double", "int64", "int32", "uint8"].map(|of| (typed(of), &numbers)));
    for (number, (step, rows)) in steps.iter().enumerate() {
        let wanted = unit(&mut *start(step, &rows.schema(), None), rows, &[5]);
        let mut device = on_threads(step, rows, &format!("memory {number}"));
        for cuts in [&[5usize, 40][..], &[], &[82]] {
            assert_eq!(unit(&mut device, rows, cuts), wanted, "step {number}");
        }
    }
}

/// A device without memory for a whole batch gets halves; without memory for a half it stops the run, with its own words.
#[test]
fn a_batch_is_halved_once_where_there_is_no_memory() {
    let rows = two_images(false);
    let step = sweep();
    let known = facts(&step);
    let planned = step.plan(&known, &[stream(rows.schema())]).unwrap();
    let wanted = unit(&mut *start(&step, &rows.schema(), None), &rows, &[]);
    let device = |room| {
        let bound = step.bind(&known, &rows.schema()).unwrap();
        let computer = Computer::with_room(&bound, room, &Runtime::default()).unwrap();
        Batches::with(computer, bound, planned.outputs[0].schema.clone(), 32)
    };
    let columns: Vec<String> = planned.outputs[0].schema.fields().iter().map(|f| f.name().clone()).collect();
    let scores = || columns.iter().filter(|name| name.starts_with("p_"));
    assert!(scores().count() > 1);
    for room in [16, 20, 31] {
        let halves = unit(&mut device(room), &rows, &[]);
        for name in scores() {
            assert_equal(&predicted(&halves, name), &predicted(&wanted, name));
        }
    }
    let Err(error) = work::Device::push(&mut device(15), rows) else { panic!("there was no memory") };
    assert!(matches!(&error, Fault::Machine(error) if format!("{error:#}").contains("out of memory")), "{error}");
}
