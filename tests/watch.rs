//! A run that is kept up to date while files come, go and change: what it says is what a run from scratch says.

mod common;

use common::{Place, Running, outputs, until};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

const PIPELINE: &str = r#"
pipeline: watched
params: { out: run }
out: "${out}"
seed: 5
steps:
  events:
    read_hdf5:
      schema: lcd-v1
      samples: { electron: "data/Ele*.h5", photon: "data/Gamma*.h5" }
  hot:
    from: events
    keep: energy > 15
  files:
    from: hot
    write_parquet: {}
  filled:
    from: hot
    histogram: { axes: [{ column: energy, range: [10, 100], bins: 9 }], for_each: sample }
  weighted:
    from: hot
    histogram: { axes: [{ column: energy, range: [0, 200], bins: 4 }], weight: energy }
  spread:
    from: hot
    resolution: { of: energy, by: { energy: { range: [10, 110], bins: 4 } }, robust: 64 }
  told:
    from: hot
    derive: { high: energy > 40 }
  groups:
    from: told
    resolution:
      of: [energy]
      for_each: [sample, high]
      regions: { low: energy < 60, middle: energy > 30 and energy < 90, all: true }
      robust: 64
  variables:
    from: told
    histogram:
      of: { energy: { range: [10, 100], bins: 9 } }
      for_each: [sample, high]
      regions: { low: energy < 60, all: true }
  page:
    from: [filled, spread, groups, variables]
    report: { title: Watched }
"#;

fn prepared() -> Place {
    let place = Place::new();
    for seed in 1..=4 {
        place.showers(32, 8, seed);
    }
    place.write("watched.yaml", PIPELINE);
    fs::create_dir(place.path("away")).expect("made");
    place
}

fn start(place: &Place, rest: &str) -> Running {
    place.start(&["run", "--watch", "--rest", rest, "-q", "-w", "2", "watched.yaml"])
}

/// Tables and plots: what must not depend on the order in which files came.
fn told(place: &Place, run: &str) -> BTreeMap<String, Vec<u8>> {
    if !place.path(run).is_dir() {
        return BTreeMap::new();
    }
    let mut all = outputs(&place.path(run));
    all.retain(|name, _| !name.contains("files/"));
    all
}

/// What a run from scratch says of the files that are there.
fn from_scratch(place: &Place) -> BTreeMap<String, Vec<u8>> {
    let _ = fs::remove_dir_all(place.path("scratch"));
    place.calostream(&["run", "-q", "--set", "out=scratch", "watched.yaml"]).code(0);
    told(place, "scratch")
}

fn log(place: &Place) -> String {
    fs::read_to_string(place.path("run/commits.jsonl")).unwrap_or_default()
}

/// Waits until the watch says what a run from scratch says, and has written that it is done.
#[track_caller]
fn settled(place: &Place, what: &str) {
    let wanted = from_scratch(place);
    // Not while a round writes: a file may be gone between two looks.
    until(what, || log(place).trim_end().ends_with("{\"done\":{}}") && told(place, "run") == wanted);
    let parts = |run: &str| {
        let rows = "import sys, glob, pyarrow.parquet as pq\nt = [pq.read_table(p, columns=['event', 'energy']) for p in glob.glob(sys.argv[1])]\n\
                    print(sorted((e, x) for p in t for e, x in zip(p['event'].to_pylist(), p['energy'].to_pylist())))";
        oracle::python(rows, &[&place.path(run).join("files/*.parquet")])
    };
    assert_eq!(parts("run"), parts("scratch"), "{what}");
}

fn put_away(place: &Place, name: &str) {
    fs::rename(place.path("data").join(name), place.path("away").join(name)).expect("put away");
}

fn put_back(place: &Place, name: &str) {
    fs::rename(place.path("away").join(name), place.path("data").join(name)).expect("put back");
}

fn names(place: &Place) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(place.path("data"))
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("Ele") || name.starts_with("Gamma"))
        .collect();
    names.sort();
    names
}

#[test]
fn whatever_comes_goes_and_changes_the_tables_are_those_of_a_run_from_scratch() {
    let place = prepared();
    let all = names(&place);
    assert!(all.len() >= 8, "{all:?}");
    for name in &all[..3] {
        put_away(&place, name);
    }
    let mut running = start(&place, "0.3");
    settled(&place, "the first round");
    put_back(&place, &all[0]);
    settled(&place, "a file that comes");
    put_away(&place, &all[5]);
    settled(&place, "a file that goes");
    assert!(log(&place).contains("{\"withdrawn\":{\"file\":\"data/"), "{}", log(&place));
    put_back(&place, &all[1]);
    put_back(&place, &all[5]);
    put_away(&place, &all[6]);
    settled(&place, "several at once");
    // Written anew, with other events.
    fs::copy(place.path("away").join(&all[2]), place.path("data").join(&all[4])).expect("copied");
    settled(&place, "a file that is another one now");
    // Killed, and changed meanwhile.
    running.kill();
    running.wait(Duration::from_secs(60));
    put_back(&place, &all[6]);
    put_away(&place, &all[0]);
    let mut running = start(&place, "0.3");
    settled(&place, "what changed while nobody watched");
    // Killed in the middle of rounds.
    for (i, name) in [&all[0], &all[2]].into_iter().enumerate() {
        put_back(&place, name);
        std::thread::sleep(Duration::from_millis(450 + 60 * i as u64));
        running.kill();
        running.wait(Duration::from_secs(60));
        put_away(&place, &all[7 - i]);
        running = start(&place, "0.3");
    }
    settled(&place, "after kills");
    // A run without a watch goes on in the folder as it is.
    running.kill();
    running.wait(Duration::from_secs(60));
    place.calostream(&["run", "-q", "watched.yaml"]).code(0);
    settled(&place, "a run");
}

#[test]
fn a_signal_ends_a_watch_cleanly() {
    let place = prepared();
    let running = start(&place, "0.2");
    settled(&place, "the first round");
    let process = rustix::process::Pid::from_raw(running.process() as i32).expect("a process");
    rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("told");
    running.wait(Duration::from_secs(30)).code(0);
    assert!(!place.path("run/lock").exists());
}

#[test]
fn a_file_that_is_being_written_is_left_alone() {
    let place = prepared();
    let name = names(&place)[0].clone();
    put_away(&place, &name);
    let whole = fs::read(place.path("away").join(&name)).expect("read");
    let _running = start(&place, "1.5");
    settled(&place, "the first round");
    let before = told(&place, "run");
    for part in 1..=8 {
        fs::write(place.path("data").join(&name), &whole[..whole.len() * part / 8]).expect("written");
        std::thread::sleep(Duration::from_millis(400));
        assert!(!log(&place).contains("unreadable"), "a file that is being written was read");
    }
    assert_eq!(told(&place, "run"), before);
    settled(&place, "a file at rest");
}

#[test]
fn what_needs_all_files_is_refused_at_its_place() {
    let place = prepared();
    let text = PIPELINE.replace(
        "  filled:\n    from: hot",
        "  mixed:\n    from: hot\n    premix: { shares: equal }\n  even:\n    from: hot\n    reweight: { to: electron, by: { energy: { range: [10, 100], bins: 3 } } }\n  filled:\n    from: mixed",
    );
    place.write("mixed.yaml", &text);
    let wanted = "\
mixed.yaml:17:3: error: `mixed` can't be watched: with each file that comes, `premix` gives all events another order
   |
17 |   mixed:
   |   ^^^^^
  help: run the pipeline without `--watch`, or leave out the step
";
    for args in [&["run", "--watch", "mixed.yaml"][..], &["check", "--watch", "mixed.yaml"][..]] {
        let said = place.calostream(args).code(2);
        assert!(said.err.contains(wanted), "{}", said.err);
        assert!(
            said.err
                .contains("`even` can't be watched: with each file that comes, `reweight` knows something else of all events")
        );
    }
    place.calostream(&["check", "mixed.yaml"]).code(0);
    assert!(!place.path("run").exists());
    place.write("hosts", "localhost:1\nlocalhost:2\n");
    let said = place.calostream(&["run", "--watch", "--processes", "2", "--hosts", "hosts", "watched.yaml"]).code(1);
    assert!(said.err.contains("`--watch` is for one process"), "{}", said.err);
}
