//! Every mistake that a person can make in a pipeline file, with the exact text that `calostream check` answers.
//!
//! A case is a YAML file in `tests/cases/language` and the expected text beside it. Arguments stand behind `#` in its first
//! line. `CALOSTREAM_COMPLETE=1 cargo test --release --test language` writes what is expected anew, to be read before it is
//! committed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/language")
}

fn calostream(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_calostream"));
    command.current_dir(folder()).args(args).output().expect("calostream starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn mistakes_are_told_as_expected() {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder()).expect("cases").map(|e| e.expect("case").path()).collect();
    cases.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    cases.sort();
    assert!(cases.len() > 8, "the cases are there");
    let mut differing = Vec::new();
    for case in cases {
        let name = case.file_name().expect("a name").to_str().expect("UTF-8");
        let source = std::fs::read_to_string(&case).expect("a case");
        let mut args = vec!["check", name];
        args.extend(source.lines().next().and_then(|line| line.strip_prefix("# ")).into_iter().flat_map(str::split_whitespace));
        let output = calostream(&args);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert_eq!(text(&output.stdout), "", "{name}");
        let expected = case.with_extension("txt");
        if std::env::var_os("CALOSTREAM_COMPLETE").is_some() {
            std::fs::write(&expected, &output.stderr).expect("written");
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        if text(&output.stderr) != wanted {
            differing.push(format!("{name}:\n{}\nexpected:\n{wanted}", text(&output.stderr)));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn mistakes_are_told_to_programs_as_json() {
    let output = calostream(&["check", "--json", "steps.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["file"], "steps.yaml");
    assert_eq!(said["problems"][1]["place"], serde_json::json!({ "line": 6, "column": 5 }));
    assert_eq!(said["problems"][1]["what"], "step `both` has a second operator `select`");
}

#[test]
fn wrong_usage_is_2_and_a_missing_file_is_2() {
    assert_eq!(calostream(&["chekc"]).status.code(), Some(2));
    assert_eq!(calostream(&["check", "--set", "novalue", "steps.yaml"]).status.code(), Some(2));
    let missing = calostream(&["check", "missing.yaml"]);
    assert_eq!(missing.status.code(), Some(2));
    let wanted = "missing.yaml: error: can't be read: No such file or directory (os error 2)\n\n1 mistake in missing.yaml\n";
    assert_eq!(text(&missing.stderr), wanted);
}

#[test]
fn an_operator_explains_itself() {
    let list = calostream(&["operators"]);
    assert_eq!(list.status.code(), Some(0));
    assert!(text(&list.stdout).contains("  keep"), "{}", text(&list.stdout));
    let keep = calostream(&["operators", "keep"]);
    let wanted = "keep: Keeps the rows for which a condition is true; the others are cut and counted\n(one input)\n\nkeep: text\n  \
                  A condition, as a SQL expression. Rows for which it is false, or unknown because a value is missing or NaN, are \
                  cut.\n\nexample:\n  hot:\n    from: events\n    keep: energy > 20 and abs(eta) < 2.5\n";
    assert_eq!(text(&keep.stdout), wanted);
    let unknown = calostream(&["operators", "kepe"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(text(&unknown.stderr), "calostream: no operator `kepe`; did you mean `keep`?\n");
}

#[test]
fn the_schema_of_the_language_knows_every_operator() {
    let output = calostream(&["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let list = calostream(&["operators", "--json"]);
    let operators: serde_json::Value = serde_json::from_slice(&list.stdout).expect("JSON");
    let step = &schema["$defs"]["step"];
    for operator in operators.as_array().expect("a list") {
        let name = operator["name"].as_str().expect("a name");
        assert!(step["properties"][name]["anyOf"][0].is_object(), "{name}");
        assert!(step["oneOf"].as_array().expect("choices").contains(&serde_json::json!({ "required": [name] })), "{name}");
    }
    assert!(!schema.to_string().contains("#/$defs/step/$defs"));
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = calostream(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("operators"), "{shell}");
    }
}

#[test]
fn a_plan_shows_phases_steps_and_the_columns_that_are_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("plan.yaml");
    let pipeline = "pipeline: plan\nsteps:\n  showers:\n    generate_showers: { events: 10 }\n  hot:\n    from: showers\n    \
                    keep: energy > 20\n  mixed:\n    from: hot\n    premix: {}\n  files:\n    from: mixed\n    write_parquet: {}\n  \
                    spectrum:\n    from: hot\n    histogram: { axes: [{ column: energy, range: [0, 510], bins: 10 }] }\n";
    std::fs::write(&file, pipeline).expect("written");
    let run = |args: &[&str]| {
        let output = calostream(&[args, &[file.to_str().expect("UTF-8")]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert!(run(&["check"]).ends_with("plan.yaml: right (5 steps, 3 phases)\n"));
    let plan: serde_json::Value = serde_json::from_str(&run(&["plan", "--json"])).expect("JSON");
    let steps = plan["steps"].as_array().expect("steps");
    let phases: Vec<u64> = steps.iter().map(|s| s["phase"].as_u64().expect("a phase")).collect();
    assert_eq!(phases, [1, 1, 1, 2, 1]);
    let said = run(&["plan"]);
    for line in [
        "phase 1 of 3: counts rows",
        "  showers: reads energy",
        "phase 2 of 3",
        "  hot: keep from showers",
        "    reads energy",
        "phase 3 of 3",
        "  files: write_parquet from mixed",
    ] {
        assert!(said.lines().any(|l| l == line), "{line:?} in\n{said}");
    }
    // A `select` may name columns that nobody reads.
    let narrow = pipeline
        .replace("write_parquet: {}", "histogram: { axes: [{ column: pdg, range: [0, 300], bins: 10 }] }")
        .replace("  mixed:\n    from: hot", "  few:\n    from: hot\n    select: [pdg, ecal]\n  mixed:\n    from: few");
    std::fs::write(&file, narrow).expect("written");
    let plan: serde_json::Value = serde_json::from_str(&run(&["plan", "--json"])).expect("JSON");
    let columns = plan["steps"][0]["outputs"][0]["columns"].as_array().expect("columns").iter();
    let columns: Vec<&str> = columns.map(|c| c["name"].as_str().expect("a name")).collect();
    assert_eq!(columns, ["sample", "file", "row", "event", "pdg", "energy"]);
}
