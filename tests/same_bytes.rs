//! Same inputs, same bytes: whatever the workers and the processes, and whether what goes between them is serialized.

mod common;

use common::{EVERYTHING, Place, assert_same, outputs, tables, two_processes};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(180);

#[test]
fn workers_and_processes_do_not_change_a_byte() {
    let place = Place::new();
    place.showers(48, 16, 1);
    place.model("tiny.onnx", ["ECAL", "HCAL"]);
    place.write("everything.yaml", EVERYTHING);
    place.calostream(&["run", "everything.yaml", "-w", "1", "--out", "w1"]).code(0);
    let one = outputs(&place.path("w1"));
    for wanted in [
        "copies/electron_1.h5",
        "copies/copies.h5",
        "training/part-00001.parquet",
        "augmented/part-00001.parquet",
        "ordered/part-00002.parquet",
        "errors/errors.csv",
        "errors/relative_error.json",
        "resolution/resolution.svg",
        "auc/auc.parquet",
        "variables/relative_error.json",
        "groups/groups.parquet",
        "curves/roc.svg",
        "shares/identified_at_signal_efficiency_0.5-true-low.svg",
        "matrices/confusion-all.svg",
        "models/models.csv",
        "page/report.html",
    ] {
        assert!(one.contains_key(wanted), "{wanted} is missing; there is {:?}", one.keys());
    }
    for workers in ["2", "3"] {
        place.calostream(&["run", "everything.yaml", "-w", workers, "--out", "more"]).code(0);
        assert_same(&format!("{workers} workers"), &one, &outputs(&place.path("more")));
        std::fs::remove_dir_all(place.path("more")).expect("removed");
    }
    let serialized =
        place.command(&["run", "everything.yaml", "-w", "3", "--out", "serialized"]).env("CALOSTREAM_SERIALIZED", "1").output();
    assert!(serialized.expect("it starts").status.success());
    assert_same("serialized", &one, &outputs(&place.path("serialized")));

    let [first, second] = two_processes(&place, "2").map(|args| {
        let mut all = vec!["run", "everything.yaml", "--out", "two"];
        all.extend(args.iter().map(String::as_str));
        place.start(&all)
    });
    first.wait(LONG).code(0);
    second.wait(LONG).code(0).complains("");
    assert_same("two processes", &one, &outputs(&place.path("two")));
    let log = place.read("two/run.json");
    assert!(log.contains("\"processes\": 2"), "{log}");
}

#[test]
fn the_order_of_files_does_not_change_a_table() {
    let place = Place::new();
    place.showers(48, 16, 1);
    place.model("tiny.onnx", ["ECAL", "HCAL"]);
    // Which events a mix takes of a class that has too many goes by their order.
    place.write("everything.yaml", &EVERYTHING.replace("from: mixed.test", "from: events"));
    place.calostream(&["run", "everything.yaml", "--out", "one"]).code(0);
    let mut names: Vec<String> = std::fs::read_dir(place.path("data"))
        .expect("data")
        .map(|entry| entry.expect("a file").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    // The files of each sample change names, the first for the last.
    for sample in names.chunk_by(|a, b| a.split('_').next() == b.split('_').next()) {
        for name in sample {
            std::fs::rename(place.path(&format!("data/{name}")), place.path(&format!("data/old-{name}"))).expect("renamed");
        }
        for (name, other) in sample.iter().zip(sample.iter().rev()) {
            std::fs::rename(place.path(&format!("data/old-{name}")), place.path(&format!("data/{other}"))).expect("renamed");
        }
    }
    place.calostream(&["run", "everything.yaml", "--out", "two"]).code(0);
    let steps = ["errors", "resolution", "auc", "variables", "groups", "curves", "shares", "matrices", "models", "spectra"];
    let [one, two] = ["one", "two"].map(|run| tables(&place.path(run), &steps));
    assert!(one.len() > 2 * steps.len());
    assert_same("files in another order", &one, &two);
    assert_ne!(place.read("one/units.jsonl"), place.read("two/units.jsonl"), "the order was another one");
}

#[test]
fn the_seed_changes_the_order() {
    let place = Place::new();
    let pipeline = |seed: u32| {
        format!(
            "pipeline: order\nout: run-{seed}\nseed: {seed}\nsteps:\n  made:\n    generate_showers: {{ events: 40, energy: [10, 12], seed: 1 }}\n  \
             mixed:\n    from: made\n    premix: {{}}\n  ordered:\n    from: mixed\n    write_parquet: {{}}\n"
        )
    };
    for seed in [1, 2] {
        place.write("order.yaml", &pipeline(seed));
        place.calostream(&["run", "-q", "order.yaml"]).code(0);
    }
    let (one, two) = (outputs(&place.path("run-1")), outputs(&place.path("run-2")));
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    assert_ne!(one, two, "another seed, another order");
}
