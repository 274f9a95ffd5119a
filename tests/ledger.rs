//! The run folder: running again, another plan, added and changed files, locks.

mod common;

use common::{EVERYTHING, Place, STREAMING, assert_same, outputs, tables, until};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

fn streaming() -> Place {
    let place = Place::new();
    place.showers(20, 10, 1);
    place.write("run.yaml", STREAMING);
    place
}

fn times(place: &Place, step: &str) -> BTreeMap<String, SystemTime> {
    let entries = std::fs::read_dir(place.path("run").join(step)).expect("the step's folder");
    let named =
        |e: std::fs::DirEntry| (e.file_name().to_string_lossy().into_owned(), e.metadata().expect("m").modified().expect("t"));
    entries.map(|e| named(e.expect("an entry"))).collect()
}

#[test]
fn running_again_does_nothing_new() {
    let place = streaming();
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    let (before, parts, log) = (outputs(&place.path("run")), times(&place, "parts"), place.read("run/commits.jsonl"));
    let said = place.calostream(&["run", "run.yaml"]).code(0);
    assert!(said.err.starts_with("going on in run: 4 of 4 units are done, 0 are new\n"), "{}", said.err);
    assert!(said.out.ends_with("every row is accounted for\ndone: run\n"), "{}", said.out);
    assert_eq!(times(&place, "parts"), parts, "the parts were not touched");
    assert_eq!(place.read("run/commits.jsonl"), log, "nothing was committed");
    assert_same("again", &before, &outputs(&place.path("run")));
    let runs: serde_json::Value = serde_json::from_str(&place.read("run/run.json")).expect("JSON");
    assert!(!runs.as_array().expect("runs").is_empty());
}

#[test]
fn another_plan_is_refused_and_fresh_replaces() {
    let place = streaming();
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    place.write("run.yaml", &STREAMING.replace("bins: 10", "bins: 5"));
    let said = place.calostream(&["run", "-q", "run.yaml"]).code(1);
    assert!(said.err.starts_with("calostream: run belongs to another plan:\n  "), "{}", said.err);
    assert!(said.err.contains("bins") && said.err.contains("10") && said.err.contains('5'), "{}", said.err);
    assert!(said.err.ends_with("\nRun with --fresh to replace what is there, or into another `out`\n"), "{}", said.err);
    place.write("run/mine.txt", "kept");
    place.calostream(&["run", "-q", "run.yaml", "--fresh"]).code(0);
    assert_eq!(place.read("run/mine.txt"), "kept", "what is not the run's stays");
    place.calostream(&["run", "-q", "run.yaml", "--out", "elsewhere"]).code(0);
    assert_same("fresh", &outputs(&place.path("elsewhere")), &outputs(&place.path("run")));
}

#[test]
fn added_files_are_found_and_only_they_are_read() {
    let place = streaming();
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    let parts = times(&place, "parts");
    place.showers(20, 20, 2);
    let said = place.calostream(&["run", "run.yaml"]).code(0);
    assert!(said.err.starts_with("going on in run: 4 of 6 units are done, 2 are new\n"), "{}", said.err);
    let now = times(&place, "parts");
    assert_eq!(now.len(), parts.len() + 2, "{now:?}");
    for (name, time) in &parts {
        assert_eq!(now.get(name), Some(time), "{name} was not touched");
    }
    place.calostream(&["run", "-q", "run.yaml", "--out", "fresh"]).code(0);
    let of = ["energies"];
    assert_same("with added files", &tables(&place.path("fresh"), &of), &tables(&place.path("run"), &of));
}

#[test]
fn with_a_new_order_added_files_change_everything_behind_it() {
    let place = Place::new();
    place.showers(24, 12, 1);
    place.model("tiny.onnx", ["ECAL", "HCAL"]);
    place.write("run.yaml", EVERYTHING);
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    let before = outputs(&place.path("run"));
    place.showers(12, 12, 2);
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    place.calostream(&["run", "-q", "run.yaml", "--out", "fresh"]).code(0);
    let of = ["errors", "resolution", "auc", "energies"];
    let (fresh, now) = (tables(&place.path("fresh"), &of), tables(&place.path("run"), &of));
    assert_same("with added files", &fresh, &now);
    assert_ne!(before["errors/errors.csv"], now["errors/errors.csv"], "the added files count");
    let rows = |run: &str| {
        let script =
            "import sys, glob, pyarrow.parquet as p\nprint(sum(p.read_table(f).num_rows for f in glob.glob(sys.argv[1] + '/*')))";
        oracle::python(script, &[&place.path(run).join("training")])
    };
    assert_eq!(rows("run"), rows("fresh"));
}

#[test]
fn a_changed_file_is_refused_by_name() {
    let place = streaming();
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    place.showers(10, 10, 3);
    std::fs::rename(place.path("data/EleEscan_3_1.h5"), place.path("data/EleEscan_1_2.h5")).expect("replaced");
    let said = place.calostream(&["run", "-q", "run.yaml"]).code(1);
    let begin = "calostream: data/EleEscan_1_2.h5 has changed since this run folder read it (fingerprint ";
    assert!(said.err.starts_with(begin), "{}", said.err);
    assert!(said.err.ends_with("; run with --fresh, or into another `out`\n"), "{}", said.err);
    place.calostream(&["run", "-q", "run.yaml", "--fresh"]).code(0);
}

#[test]
fn one_run_at_a_time_and_a_killed_one_keeps_nobody_out() {
    let place = Place::new();
    let pipeline = "pipeline: long\nout: run\nsteps:\n  made:\n    generate_showers: { events: 20000, events_per_file: 50 }\n  \
                    parts:\n    from: made\n    write_parquet: {}\n";
    place.write("run.yaml", pipeline);
    let mut first = place.start(&["run", "-q", "run.yaml", "-w", "1"]);
    let log = place.path("run/commits.jsonl");
    until("the first commit", || std::fs::read_to_string(&log).is_ok_and(|t| t.contains("{\"commit\"")));
    let status = place.calostream(&["status", "run"]).code(0);
    assert!(status.out.starts_with("run: at work"), "{}", status.out);
    let host = this_host();
    let message = format!(
        "calostream: another run is at work in run (host {host}, process {}); wait for it, or choose another `out`\n",
        first.process()
    );
    place.calostream(&["run", "-q", "run.yaml"]).code(1).complains(&message);
    first.kill();
    assert_eq!(first.wait(Duration::from_secs(20)).code, None);
    assert!(place.path("run/lock").exists(), "a killed run leaves its lock");
    place.write("run.yaml", &pipeline.replace("20000", "20"));
    // The lock is taken over: what is refused now is the other plan.
    let said = place.calostream(&["run", "-q", "run.yaml"]).code(1);
    assert!(said.err.starts_with("calostream: run belongs to another plan:"), "{}", said.err);
    assert!(!place.path("run/lock").exists());
    place.calostream(&["run", "-q", "run.yaml", "--fresh"]).code(0);
}

fn this_host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name").trim().to_owned()
}

#[test]
fn status_says_how_far_a_run_is() {
    let place = streaming();
    let said = place.calostream(&["status", "run"]).code(1);
    assert_eq!(said.err, "calostream: run is no run folder (it has no plan.json)\n");
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    let said = place.calostream(&["status", "run"]).code(0);
    assert!(said.out.starts_with("run: done\n  units   4 of 4 (40 of 40 rows)\n  files   2 ("), "{}", said.out);
    let json = place.calostream(&["status", "--json", "run"]).code(0);
    let json: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((&json["done"], &json["rows_done"]), (&true.into(), &40.into()));
}
