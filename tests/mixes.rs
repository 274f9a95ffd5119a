//! Mixes and joins from end to end, against what numpy says of the rows that went in and came out.

mod common;

use common::Place;
use oracle::python;

/// Events of three classes with an event number, written by h5py: `a` 300, `b` 1200, `c` 700, in files of 100.
const EVENTS: &str = r#"
import sys, numpy as np, h5py
random = np.random.default_rng(7)
number = 0
for name, count in dict(a=300, b=1200, c=700).items():
    for k in range(count // 100):
        with h5py.File(f"{sys.argv[1]}/{name}_{k:02d}.h5", "w") as file:
            image = (random.random((100, 4, 5)) < 0.2) * random.random((100, 4, 5))
            file["image"] = image.astype("f4")
            file["x"] = random.normal(size=100)
            file["number"] = np.arange(number, number + 100, dtype="i8") // 2
            number += 100
"#;

const SCHEMA: &str = "schema: events\ncolumns:\n  image: { dataset: image, kind: hits, value: energy, dims: [4, 5] }\n  x: { dataset: x, kind: number }\n  \
                      number: { dataset: number, kind: number }\n";

/// What the scripts below begin with: the rows of each output of a run in their order.
const READ: &str = r#"
import sys, glob, numpy as np, pyarrow.parquet as pq, pyarrow as pa
from scipy import stats
def rows(step):
    parts = sorted(glob.glob(f"{sys.argv[1]}/{step}/*.parquet"))
    return pa.concat_tables([pq.read_table(p) for p in parts]), [pq.read_metadata(p).num_rows for p in parts]
def events(table):
    return list(zip(table["file"].to_pylist(), table["row"].to_pylist()))
def count(table):
    return {c: table["sample"].to_pylist().count(c) for c in "abc"}
"#;

fn prepared() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).expect("made");
    python(EVENTS, &[&place.path("data")]);
    place.write("events.yaml", SCHEMA);
    place
}

/// A pipeline with this premix (in YAML's flow style), whose outputs are written by steps of their names.
fn pipeline(premix: &str, before: &str, outputs: &[&str]) -> String {
    let mut text = format!(
        "pipeline: mix\nout: run\nseed: 11\nsteps:\n  events:\n    read_hdf5:\n      schema: events.yaml\n      \
         samples: {{ a: data/a_*.h5, b: data/b_*.h5, c: data/c_*.h5 }}\n{before}  mixed:\n    from: {}\n    premix: {premix}\n",
        if before.is_empty() { "events" } else { "chosen" }
    );
    let files = if outputs == [""] { "{ events_per_file: 512 }" } else { "{}" };
    for output in outputs {
        let (name, from) = if output.is_empty() { ("all", "mixed".to_owned()) } else { (*output, format!("mixed.{output}")) };
        text.push_str(&format!("  {name}:\n    from: {from}\n    write_parquet: {files}\n"));
    }
    text
}

#[track_caller]
fn run(place: &Place, text: &str) {
    place.write("mix.yaml", text);
    place.calostream(&["run", "-q", "--fresh", "-w", "2", "mix.yaml"]).code(0);
}

fn check(place: &Place, script: &str) {
    python(&format!("{READ}{script}"), &[&place.path("run")]);
}

#[test]
fn a_natural_mix_has_every_event_once_and_every_window_its_share() {
    let place = prepared();
    run(&place, &pipeline("{}", "", &[""]));
    check(
        &place,
        r#"
table, parts = rows("all")
assert parts == [512] * 4 + [2200 - 4 * 512], parts
assert len(set(events(table))) == 2200 and count(table) == dict(a=300, b=1200, c=700)
sample = np.array(table["sample"].to_pylist())
for c, n in dict(a=300, b=1200, c=700).items():
    seen = np.concatenate([[0], np.cumsum(sample == c)])
    for w in (10, 100, 777):
        got = seen[w:] - seen[:-w]
        assert np.abs(got - w * n / 2200).max() <= 6, (c, w)
    # Where an event stands has nothing to do with where it stood.
    place = np.flatnonzero(sample == c)
    before = [100 * f + r for f, r in np.array(events(table))[place]]
    assert stats.spearmanr(before, place).pvalue > 1e-4
    steps = np.diff(before)
    assert 0.3 < (steps > 0).mean() < 0.7 and (steps == 1).mean() < 0.05
"#,
    );
}

#[test]
fn where_a_class_runs_out_it_stops_drops_or_repeats() {
    let place = prepared();
    run(&place, &pipeline("{ shares: equal }", "", &[""]));
    check(
        &place,
        "table, _ = rows('all')\nassert count(table) == dict(a=300, b=300, c=300) and len(set(events(table))) == 900\n",
    );
    run(&place, &pipeline("{ shares: { a: 1, b: 2, c: 1 }, when_exhausted: drop }", "", &[""]));
    check(
        &place,
        r#"
table, _ = rows("all")
assert count(table) == dict(a=300, b=1200, c=700) and len(set(events(table))) == 2200
first = table.slice(0, 1100)
assert abs(count(first)["b"] - 550) <= 6 and abs(count(first)["a"] - 275) <= 6, count(first)
assert count(table.slice(1800))["a"] == 0
"#,
    );
    run(&place, &pipeline("{ shares: equal, when_exhausted: repeat, events: 2400 }", "", &[""]));
    check(
        &place,
        r#"
table, _ = rows("all")
assert count(table) == dict(a=800, b=800, c=800)
seen = {}
for c, e, n in zip(table["sample"].to_pylist(), events(table), table["copy"].to_pylist()):
    seen.setdefault((c, e), []).append(n)
for c, n in dict(a=300, b=1200, c=700).items():
    times = [copies for (k, _), copies in seen.items() if k == c]
    assert all(copies == list(range(len(copies))) for copies in times), c
    assert max(map(len, times)) == -(-800 // n) and len(times) == min(n, 800), c
"#,
    );
    run(&place, &pipeline("{ events: { a: 10, b: 20, c: 0 } }", "", &[""]));
    check(&place, "table, _ = rows('all')\nassert count(table) == dict(a=10, b=20, c=0)\n");
}

#[test]
fn cuts_before_a_mix_are_counted_so_that_shares_are_exact() {
    let place = prepared();
    let cut = "  chosen:\n    from: events\n    keep: x > 0.5\n";
    run(&place, &pipeline("{ shares: equal, events: 150 }", cut, &[""]));
    check(
        &place,
        "table, _ = rows('all')\nassert count(table) == dict(a=50, b=50, c=50) and min(table['x'].to_pylist()) > 0.5\n",
    );
}

#[test]
fn splits_are_disjoint_exhaustive_and_stay_when_files_are_added() {
    let place = prepared();
    let sides = "train = set(events(rows('train')[0]))\ntest = set(events(rows('test')[0]))\nassert not train & test and len(train | test) == N\n";
    run(&place, &pipeline("{ split: { train: 0.75, test: 0.25 } }", "", &["train", "test"]));
    let kept = "numbers = lambda s: sorted(zip(rows(s)[0]['x'].to_pylist(), rows(s)[0]['number'].to_pylist()))\n";
    check(
        &place,
        &format!(
            "N = 2200\n{sides}{kept}assert abs(len(train) - 1650) < 4 * (2200 * 0.75 * 0.25) ** 0.5\nimport json\njson.dump(numbers('train'), open(sys.argv[1] + '/../before.json', 'w'))\n"
        ),
    );
    std::fs::copy(place.path("data/a_00.h5"), place.path("moved.h5")).expect("copied");
    std::fs::rename(place.path("data/c_06.h5"), place.path("data/a_99.h5")).expect("moved");
    run(&place, &pipeline("{ split: { train: 0.75, test: 0.25 } }", "", &["train", "test"]));
    check(
        &place,
        &format!(
            "N = 2200\n{sides}{kept}import json\nassert numbers('train') == [tuple(n) for n in json.load(open(sys.argv[1] + '/../before.json'))]\n"
        ),
    );

    // Rows of one event number (there are two of each) stay together, and files stay whole.
    run(&place, &pipeline("{ split: { train: 0.6, test: 0.4 }, split_by: number }", "", &["train", "test"]));
    check(
        &place,
        &format!("N = 2200\n{sides}\nn = lambda s: set(rows(s)[0]['number'].to_pylist())\nassert not n('train') & n('test')\n"),
    );
    run(&place, &pipeline("{ split: { train: 0.5, test: 0.5 }, split_by: file }", "", &["train", "test"]));
    check(
        &place,
        &format!("N = 2200\n{sides}\nassert not {{f for f, _ in train}} & {{f for f, _ in test}} and len(train) % 100 == 0\n"),
    );
    run(&place, &pipeline("{ folds: 3, split_by: number }", "", &["fold0", "fold1", "fold2"]));
    check(
        &place,
        "for k in range(3):\n    assert all(n % 3 == k for n in rows(f'fold{k}')[0]['number'].to_pylist())\nassert sum(rows(f'fold{k}')[0].num_rows for k in range(3)) == 2200\n",
    );
}

#[test]
fn a_mix_of_which_only_sums_are_made_puts_nothing_aside() {
    let place = prepared();
    let sums =
        "  sums:\n    from: mixed.test\n    histogram: { axes: [{ column: x, range: [-3, 3], bins: 6 }], for_each: sample }\n";
    let premix = "{ shares: equal, split: { train: 0.5, test: 0.5 } }";
    let selected = pipeline(premix, "", &[]) + sums;
    run(&place, &selected);
    let of_selection = common::tables(&place.path("run"), &["sums"]);
    place.write("mix.yaml", &(pipeline(premix, "", &["test"]) + sums));
    place.calostream(&["run", "-q", "--out", "spilled", "mix.yaml"]).code(0);
    let of_mix = common::tables(&place.path("spilled"), &["sums"]);
    let csv = |tables: &std::collections::BTreeMap<String, Vec<u8>>| tables["sums/sums.csv"].clone();
    assert!(csv(&of_selection) == csv(&of_mix), "a selection takes the same events");
    place.write("mix.yaml", &selected);
    let said = place.calostream(&["plan", "mix.yaml"]).code(0);
    assert!(said.out.contains("phase 2 of 2"), "{}", said.out);
}

#[test]
fn what_cannot_be_mixed_is_said() {
    let place = prepared();
    for (premix, code, said) in [
        ("{ shares: { a: 1, b: 1, d: 2 } }", 2, "no class `d`"),
        ("{ shares: { a: 0, b: 0, c: 0 } }", 2, "all shares are 0"),
        ("{ shares: { a: 1, b: -1, c: 0 } }", 2, "a share of -1"),
        ("{ shares: al }", 2, "`shares` can't be `al`"),
        ("{ split: { train: 0.5, test: 0.6 } }", 2, "the fractions add up to 1.1"),
        ("{ split: { train: 0.5, test: 0.5 }, split_by: x }", 2, "`x` is Float64, which is no key"),
        ("{ split_by: number }", 2, "`split_by` without a `split`"),
        ("{ folds: 5 }", 2, "`folds` without a column of numbers to divide"),
        ("{ events: 0 }", 2, "0 events"),
        ("{ seed: -1 }", 2, "seed"),
        ("{ seed: 18446744073709551616 }", 2, "seed"),
        (
            "{ shares: { a: 1000000000, b: 1, c: 1 }, when_exhausted: repeat }",
            2,
            "11:28: error: a mix of 1.200e12 events would be made of 2,200",
        ),
        ("{ events: 100000000000, when_exhausted: repeat }", 2, "a mix of 1.000e11 events would be made of 2,200"),
        ("{ events: 100000000000, shares: equal }", 0, ""),
    ] {
        place.write("mix.yaml", &pipeline(premix, "", &[""]));
        let found = place.calostream(&["check", "mix.yaml"]).code(code);
        assert!(found.err.contains(said), "{premix}: {}", found.err);
    }
    place.write("mix.yaml", &pipeline("{ split: { train: 0.5, test: 0.5 }, split_by: nosuch }", "", &["train"]));
    let found = place.calostream(&["check", "mix.yaml"]).code(2);
    assert!(found.err.contains("no column `nosuch`"), "{}", found.err);
    let known = found.err.split("help").nth(1).expect("a help").split(|c: char| !c.is_alphanumeric()).filter(|w| *w == "file");
    assert_eq!(known.count(), 1, "{}", found.err);
    // What is said of rows that came again before works.
    let again =
        "  even:\n    from: events\n    resample: { to: b, by: { x: { range: [-3, 3], bins: 4 } } }\n  chosen:\n    from: even\n";
    let repeated = |before: &str| {
        place.write("mix.yaml", &pipeline("{ shares: equal, when_exhausted: repeat }", before, &[""]));
        place.calostream(&["check", "mix.yaml"])
    };
    let found = repeated(&format!("{again}    keep: x > 0\n")).code(2);
    let help = "leave it out with a `select` before; `derive: { taken: copy }` before that keeps it as `taken`";
    assert!(found.err.contains("the column `copy` would be there twice") && found.err.contains(help), "{}", found.err);
    let renamed =
        again.replace("chosen", "kept") + "    derive: { taken: copy }\n  chosen:\n    from: kept\n    select: [x, taken]\n";
    repeated(&renamed).code(0);
    let cut = "  chosen:\n    from: events\n    keep: sample != 'b'\n";
    place.write("mix.yaml", &pipeline("{ shares: equal }", cut, &[""]));
    let found = place.calostream(&["run", "-q", "mix.yaml"]).code(1);
    let wanted = "step `mixed`: the class `b` has no events, but a share; give it a share of 0 to leave it out";
    assert!(found.err.contains(wanted), "{}", found.err);
    // Behind a cut it is known when all events are counted.
    let cut = "  chosen:\n    from: events\n    keep: x > 0\n";
    place.write("mix.yaml", &pipeline("{ events: 100000000000, when_exhausted: repeat }", cut, &[""]));
    place.calostream(&["check", "mix.yaml"]).code(0);
    let found = place.calostream(&["run", "-q", "--fresh", "mix.yaml"]).code(1);
    assert!(found.err.contains("step `mixed`: a mix of 1.000e11 events would be made of 1,"), "{}", found.err);
}

#[test]
fn the_plan_counts_rows_that_come_again_and_those_that_are_left_out() {
    let place = prepared();
    let planned = |premix: &str, outputs: &[&str]| {
        place.write("mix.yaml", &pipeline(premix, "", outputs));
        let said = place.calostream(&["plan", "--json", "mix.yaml"]).code(0);
        let plan: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        let of = plan["steps"][1]["puts_aside"].clone();
        let row = plan["steps"][0]["outputs"][0]["row_bytes"].as_u64().expect("bytes");
        assert_eq!(of["bytes"].as_u64(), of["rows"].as_u64().map(|rows| rows * row), "{premix}");
        (of["rows"].as_u64().expect("rows"), of["parts"].as_u64().expect("parts"))
    };
    let again = |premix: &str, wanted: &str| {
        place.write("mix.yaml", &pipeline(premix, "", &[""]));
        let said = place.calostream(&["plan", "mix.yaml"]).code(0);
        assert_eq!(said.out.lines().find(|line| line.contains("rows again")).unwrap_or_default().trim(), wanted);
    };
    assert_eq!(planned("{}", &[""]), (2200, 5));
    assert_eq!(planned("{ events: 300000, when_exhausted: repeat }", &[""]), (300_000, 586));
    assert_eq!(planned("{ shares: equal, when_exhausted: repeat }", &[""]), (3600, 8));
    assert_eq!(planned("{ shares: equal }", &[""]), (900, 2));
    // Nobody reads the other half.
    assert_eq!(planned("{ split: { train: 0.5, test: 0.5 } }", &["train"]).0, 1100);
    again("{ events: 300000, when_exhausted: repeat }", "takes rows again: 300,000 of 2,200");
    again("{ shares: equal }", "");
}

#[test]
fn a_number_of_events_that_is_not_met_is_said() {
    let place = prepared();
    place.write("mix.yaml", &pipeline("{ shares: equal, events: 3000 }", "", &[""]));
    let said = place.calostream(&["run", "mix.yaml"]).code(0);
    assert!(said.out.contains("mixed: 900 of the 3,000 events that were asked for: `a` ran out\n"), "{}", said.out);
    assert!(place.read("run/run.json").contains("900 of the 3,000 events that were asked for"));
    place.write("mix.yaml", &pipeline("{ shares: equal, events: 900 }", "", &[""]));
    let said = place.calostream(&["run", "--fresh", "mix.yaml"]).code(0);
    assert!(!said.out.contains("asked for"), "{}", said.out);
}

/// Planes and points of the same events in other files, in another order, some missing, some twice.
const PAIRS: &str = r#"
import sys, numpy as np, h5py
random = np.random.default_rng(3)
for kind, files, label in (("planes", 3, "p"), ("points", 5, "q")):
    numbers = random.permutation(1000)[:900]
    numbers[:7] = numbers[7:14]
    for k, part in enumerate(np.array_split(numbers, files)):
        with h5py.File(f"{sys.argv[1]}/{kind}_{files - k}.h5", "w") as file:
            file["event_number"] = part.astype("i4" if kind == "planes" else "u8")
            file[label] = part * (1.5 if kind == "planes" else 3.0)
"#;

#[test]
fn rows_are_paired_by_what_both_recorded_and_not_by_their_files() {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).expect("made");
    python(PAIRS, &[&place.path("data")]);
    for (name, column) in [("planes", "p"), ("points", "q")] {
        let schema = format!(
            "schema: {name}\ncolumns:\n  event_number: {{ dataset: event_number, kind: number }}\n  {column}: {{ dataset: {column}, kind: number }}\n"
        );
        place.write(&format!("{name}.yaml"), &schema);
    }
    place.write(
        "pairs.yaml",
        "pipeline: pairs\nout: run\nsteps:\n  planes:\n    read_hdf5: { schema: planes.yaml, files: data/planes_*.h5 }\n  \
         points:\n    read_hdf5: { schema: points.yaml, files: data/points_*.h5 }\n  both:\n    from: [planes, points]\n    \
         join: { on: [event_number] }\n  pairs:\n    from: both\n    write_parquet: {}\n",
    );
    let mut all = Vec::new();
    for workers in ["1", "2", "3"] {
        let said = place.calostream(&["run", "--json", "--fresh", "-w", workers, "pairs.yaml"]).code(0);
        all.push(common::outputs(&place.path("run")));
        let said: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        let script = r#"
import sys, glob, json, numpy as np, h5py, pyarrow.dataset as ds
read = lambda kind, name: np.concatenate([h5py.File(f)[name][:] for f in sorted(glob.glob(f"{sys.argv[1]}/../data/{kind}_*.h5"))])
once = lambda a: {int(n) for n in a if (a == n).sum() == 1}
wanted = once(read("planes", "event_number")) & once(read("points", "event_number"))
table = ds.dataset(sys.argv[1] + "/pairs", format="parquet").to_table()
assert sorted(table["event_number"].to_pylist()) == sorted(wanted)
n, p, q = (np.array(table[c]) for c in ("event_number", "p", "q"))
assert (p == 1.5 * n).all() and (q == 3.0 * n).all()
units = map(json.loads, open(sys.argv[1] + "/units.jsonl"))
files = {unit["file"]: f"{sys.argv[1]}/../{unit['path']}" for unit in units}
for number, file, row in zip(n, table["file_2"].to_pylist(), table["row_2"].to_pylist()):
    assert h5py.File(files[file])["event_number"][row] == number
print(len(wanted))
"#;
        let pairs: u64 = python(script, &[&place.path("run")]).trim().parse().expect("a number");
        let balance = said["balance"].as_array().expect("steps").iter().find(|s| s["step"] == "both").expect("the join");
        assert_eq!((balance["in"].as_u64(), balance["out"][0].as_u64()), (Some(1800), Some(pairs)));
        assert_eq!(balance["cut"].as_u64(), Some(1800 - 2 * pairs), "rows without a partner are counted");
    }
    assert!(all.iter().all(|one| *one == all[0]), "workers do not change a byte");
}

#[test]
fn what_was_written_is_proven_and_one_changed_byte_is_named() {
    let place = prepared();
    let cut = "  chosen:\n    from: events\n    keep: x > -0.5\n";
    for (premix, before) in [("{ shares: equal, split: { train: 0.5, test: 0.5 }, when_exhausted: repeat }", cut), ("{}", "")] {
        let outputs: &[&str] = if before.is_empty() { &[""] } else { &["train", "test"] };
        run(&place, &pipeline(premix, before, outputs));
        let said = place.calostream(&["verify", "run"]).code(0).complains("");
        assert!(said.out.contains("with the hashes of the log\nmixed"), "{}", said.out);
        let enough = before.is_empty();
        assert_eq!(said.out.contains("old and new order are unrelated: p = 0."), enough, "{}", said.out);
    }
    let changed = place.path("run/all/part-00003.parquet");
    let whole = std::fs::read(&changed).expect("a part");
    let mut bad = whole.clone();
    bad[whole.len() / 2] ^= 1;
    std::fs::write(&changed, &bad).expect("changed");
    let said = place.calostream(&["verify", "run"]).code(1);
    assert!(said.err.contains("all/part-00003.parquet: its bytes have changed"), "{}", said.err);
    assert!(said.out.starts_with("run: 4 of 5 files with the hashes of the log\n"), "{}", said.out);
    // Two parts in each other's place, with a log that says so: the hashes fit, the order does not.
    std::fs::write(&changed, &whole).expect("as it was");
    let swap = r#"
import sys, json, os
run, two, three = sys.argv[1], "part-00002.parquet", "part-00003.parquet"
os.rename(f"{run}/all/{two}", f"{run}/all/x"); os.rename(f"{run}/all/{three}", f"{run}/all/{two}"); os.rename(f"{run}/all/x", f"{run}/all/{three}")
lines = [json.loads(line) for line in open(f"{run}/commits.jsonl")]
files = {f["name"]: f for line in lines for c in ([line["commit"]] if "commit" in line else []) for f in c.get("files", [])}
for what in ("bytes", "hash"):
    files[two][what], files[three][what] = files[three][what], files[two][what]
open(f"{run}/commits.jsonl", "w").writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
"#;
    python(swap, &[&place.path("run")]);
    let said = place.calostream(&["verify", "run"]).code(1);
    assert!(said.err.contains("wrong: all, part 2: row 0 is file "), "{}", said.err);
}

#[test]
fn what_lies_among_the_parts_and_inputs_that_have_changed_are_named() {
    let place = prepared();
    run(&place, &pipeline("{}", "", &[""]));
    std::fs::copy(place.path("run/all/part-00001.parquet"), place.path("run/all/part-00099.parquet")).expect("copied");
    place.write("run/all/notes.txt", "mine");
    let said = place.calostream(&["verify", "run"]).code(1);
    let wanted = format!(
        "wrong: {}: the run has not written it; remove it, or keep it elsewhere\n",
        place.path("run/all/part-00099.parquet").canonicalize().expect("a path").display()
    );
    assert_eq!(said.err, wanted);
    assert!(said.out.starts_with("run: 5 files with") && said.out.contains("mixed: 2,200 events in all"), "{}", said.out);
    std::fs::remove_file(place.path("run/all/part-00099.parquet")).expect("removed");
    place.calostream(&["verify", "run"]).code(0).complains("");

    let input = place.path("data/a_00.h5");
    let whole = std::fs::read(&input).expect("an input");
    std::fs::copy(place.path("data/a_01.h5"), &input).expect("changed");
    let said = place.calostream(&["verify", "run"]).code(1);
    assert!(said.err.starts_with("wrong: data/a_00.h5 has changed since this run folder read it (fingerprint "), "{}", said.err);
    // What was removed is no reason to doubt what was made of it.
    std::fs::remove_file(&input).expect("removed");
    let said = place.calostream(&["verify", "run"]).code(0);
    assert!(said.out.contains("inputs: 1 file not found any more\nmixed: 2,200 events in all"), "{}", said.out);
    std::fs::write(&input, whole).expect("as it was");
    place.calostream(&["verify", "run"]).code(0).complains("");
}

#[test]
fn outputs_that_are_gone_or_cut_short_are_noticed_and_made_again() {
    let place = prepared();
    let text = pipeline("{}", "", &[""]) + "  plain:\n    from: events\n    write_parquet: {}\n";
    run(&place, &text);
    let wanted = common::outputs(&place.path("run"));
    std::fs::remove_file(place.path("run/all/part-00002.parquet")).expect("removed");
    let short = std::fs::OpenOptions::new().write(true).open(place.path("run/all/part-00003.parquet")).expect("opened");
    short.set_len(100).expect("cut");
    let plain = std::fs::read_dir(place.path("run/plain")).expect("a folder").next().expect("a part").expect("a part");
    std::fs::remove_file(plain.path()).expect("removed");
    let said = place.calostream(&["status", "run"]).code(0);
    assert!(said.out.contains("missing 3 files, or not as long as written: "), "{}", said.out);
    let said = place.calostream(&["run", "mix.yaml"]).code(0);
    assert!(said.err.contains("3 files are not there any more, or not as long as written, and made again: "), "{}", said.err);
    common::assert_same("made again", &wanted, &common::outputs(&place.path("run")));
    let said = place.calostream(&["status", "run"]).code(0);
    assert!(said.out.contains("run: done\n") && !said.out.contains("missing"), "{}", said.out);
    place.calostream(&["verify", "run"]).code(0).complains("");
    let said = place.calostream(&["run", "mix.yaml"]).code(0);
    assert!(!said.err.contains("again"), "{}", said.err);
}

#[test]
fn a_damaged_spill_is_named_and_made_again_where_it_is_removed() {
    let place = prepared();
    place.write("mix.yaml", &pipeline("{ shares: natural }", "", &[""]));
    place.calostream(&["run", "-q", "--out", "whole", "mix.yaml"]).code(0);
    // Something is in the way of the files: the run stops when its rows are put aside.
    std::fs::create_dir(place.path("run")).expect("made");
    place.write("run/all", "");
    place.spilling("1000000,1", &["run", "-q", "-w", "2", "mix.yaml"]).code(1);
    std::fs::remove_file(place.path("run/all")).expect("out of the way");
    let spills = || {
        let found = std::fs::read_dir(place.path("run/.spill")).expect("spills").map(|e| e.expect("an entry").path());
        found.collect::<Vec<_>>()
    };
    let spill = spills().pop().expect("a spill");
    let mut bytes = std::fs::read(&spill).expect("its bytes");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&spill, bytes).expect("damaged");
    let said = place.spilling("1000000,1", &["run", "-q", "mix.yaml"]).code(1);
    let name = spill.file_name().expect("a name").to_string_lossy();
    assert!(
        said.err.contains(&format!("{name} is damaged or can't be read; where it is removed, the run makes it again")),
        "{}",
        said.err
    );
    std::fs::remove_file(&spill).expect("removed");
    let said = place.spilling("1000000,1", &["run", "mix.yaml"]).code(0);
    assert!(said.err.contains(" done again: what they had made is gone"), "{}", said.err);
    assert!(!place.path("run/.spill").exists(), "what was put aside is removed in the end");
    common::assert_same("after a damaged spill", &common::outputs(&place.path("whole")), &common::outputs(&place.path("run")));
}

/// Runs of one piece for each part, and in two passes: of some 20 kB, where no piece could be as long as is asked for.
const ONE_PASS: &str = "20000,1";
const TWO_PASSES: &str = "20000,100000";

#[test]
fn in_memory_in_one_pass_and_in_two_passes_a_mix_is_the_same() {
    let place = prepared();
    let premix = "{ shares: equal, when_exhausted: repeat, events: 6000, split: { train: 0.8, test: 0.2 } }";
    let text = pipeline(premix, "", &["train", "test"]).replace("write_parquet: {}", "write_parquet: { events_per_file: 256 }");
    place.write("mix.yaml", &text);
    place.calostream(&["run", "-q", "-w", "1", "--out", "whole", "mix.yaml"]).code(0);
    let log = place.read("whole/commits.jsonl");
    assert!(log.contains("\"in_memory\":true") && !log.contains("again"), "{log}");
    let wanted = common::outputs(&place.path("whole"));
    assert_eq!(wanted.len(), 24);
    for (sizes, workers) in [(ONE_PASS, "1"), (ONE_PASS, "3"), (TWO_PASSES, "1"), (TWO_PASSES, "2"), (TWO_PASSES, "3")] {
        let out = format!("{}-{workers}", sizes.len());
        place.spilling(sizes, &["run", "-q", "-w", workers, "--out", &out, "mix.yaml"]).code(0);
        let log = place.read(&format!("{out}/commits.jsonl"));
        assert!(!log.contains("\"in_memory\":true"), "{log}");
        assert_eq!(log.contains("-again-"), sizes == TWO_PASSES, "{log}");
        common::assert_same(&format!("{sizes}, {workers} workers"), &wanted, &common::outputs(&place.path(&out)));
        assert!(!place.path(&format!("{out}/.spill")).exists());
        place.calostream(&["verify", &out]).code(0);
    }
    let both = common::two_processes(&place, "1").map(|args| {
        let mut all = vec!["run", "-q", "--out", "two", "mix.yaml"];
        all.extend(args.iter().map(String::as_str));
        place.command(&all).env("CALOSTREAM_SPILL", TWO_PASSES).spawn().expect("started")
    });
    for mut process in both {
        assert!(process.wait().expect("ended").success());
    }
    common::assert_same("two processes", &wanted, &common::outputs(&place.path("two")));
}

#[test]
fn what_was_in_memory_or_is_lost_of_either_pass_is_made_again() {
    let place = prepared();
    let text = pipeline("{}", "", &[""]).replace("events_per_file: 512", "events_per_file: 100");
    place.write("mix.yaml", &text);
    place.calostream(&["run", "-q", "--out", "whole", "mix.yaml"]).code(0);
    let wanted = common::outputs(&place.path("whole"));
    for (sizes, lost) in [(None, ""), (Some(TWO_PASSES), ""), (Some(TWO_PASSES), "again"), (Some(TWO_PASSES), "mixed")] {
        let out = format!("out-{}-{lost}", sizes.is_some());
        let run = || match sizes {
            Some(sizes) => place.spilling(sizes, &["run", "-w", "2", "--out", &out, "mix.yaml"]),
            None => place.calostream(&["run", "-w", "2", "--out", &out, "mix.yaml"]),
        };
        // Something is in the way of the files: the run stops when all rows are put aside.
        std::fs::create_dir(place.path(&out)).expect("made");
        place.write(&format!("{out}/all"), "");
        run().code(1);
        std::fs::remove_file(place.path(&format!("{out}/all"))).expect("out of the way");
        let spills = std::fs::read_dir(place.path(&format!("{out}/.spill"))).into_iter().flatten();
        let spills: Vec<_> = spills.map(|e| e.expect("an entry").path()).collect();
        assert_eq!(spills.is_empty(), sizes.is_none());
        let (again, first): (Vec<_>, Vec<_>) = spills.iter().partition(|path| path.to_string_lossy().contains("-again-"));
        assert_eq!(again.is_empty(), sizes.is_none());
        match lost {
            "again" => std::fs::remove_file(again[again.len() / 2]).expect("removed"),
            // The first pass is over: nobody looks for what it has made.
            "mixed" => first.iter().for_each(|path| std::fs::remove_file(path).expect("removed")),
            _ => {}
        }
        let said = run().code(0);
        let done_again = said.err.contains("done again: what they had made is gone");
        assert_eq!(done_again, sizes.is_none() || lost == "again", "{out}: {}", said.err);
        common::assert_same(&out, &wanted, &common::outputs(&place.path(&out)));
    }
}

#[test]
fn an_input_that_has_changed_since_it_was_counted_is_refused() {
    let place = prepared();
    let cut = "  chosen:\n    from: events\n    keep: x > 0\n";
    place.write("mix.yaml", &pipeline("{ shares: natural }", cut, &[""]));
    std::fs::create_dir(place.path("run")).expect("made");
    place.write("run/all", "");
    place.calostream(&["run", "-q", "mix.yaml"]).code(1);
    std::fs::copy(place.path("data/a_01.h5"), place.path("data/a_00.h5")).expect("changed");
    let said = place.calostream(&["run", "-q", "mix.yaml"]).code(1);
    assert!(said.err.contains("a_00.h5 has changed since this run folder read it"), "{}", said.err);
}
