//! What is proven of a mix does not depend on how its inputs are cut into files.

mod common;

use common::Place;
use oracle::python;

#[track_caller]
fn run(place: &Place, text: &str) {
    place.write("mix.yaml", text);
    place.calostream(&["run", "-q", "--fresh", "-w", "2", "mix.yaml"]).code(0);
}

#[test]
fn the_old_order_is_that_of_the_class_and_not_of_the_file() {
    let place = Place::new();
    let many = r#"
import sys, os, pyarrow as pa, pyarrow.parquet as pq
for k in range(200):
    pq.write_table(pa.table({"x": pa.array([float(5 * k + i) for i in range(5)])}), f"{sys.argv[1]}/f{k:03d}.parquet")
"#;
    std::fs::create_dir(place.path("data")).expect("made");
    python(many, &[&place.path("data")]);
    let text = |before: &str, premix: &str| {
        format!(
            "pipeline: many\nout: run\nsteps:\n  events:\n    read_parquet: {{ files: data/*.parquet }}\n{before}  mixed:\n    from: {}\n    \
             premix: {premix}\n  all:\n    from: mixed\n    write_parquet: {{}}\n",
            if before.is_empty() { "events" } else { "chosen" }
        )
    };
    let cut = "  chosen:\n    from: events\n    keep: x >= 100\n";
    for (before, premix) in [("", "{}"), ("", "{ events: 7000, when_exhausted: repeat }"), (cut, "{}")] {
        run(&place, &text(before, premix));
        let said = place.calostream(&["verify", "run"]).code(0).complains("");
        let p = said.out.split("are unrelated: p = ").nth(1).and_then(|p| p.trim().parse::<f64>().ok());
        assert!(p.is_some_and(|p| (0.001..0.999).contains(&p)), "{premix}: {}", said.out);
    }
}

#[test]
fn a_file_without_a_row_that_is_kept_is_no_trouble_not_even_when_it_comes_later() {
    let place = Place::new();
    let write = |name: &str, x: &str| {
        let script = format!(
            "import sys, pyarrow as pa, pyarrow.parquet as pq\npq.write_table(pa.table({{'x': pa.array([{x}] * 10)}}), sys.argv[1] + '/{name}.parquet')\n"
        );
        python(&script, &[&place.path("data")]);
    };
    std::fs::create_dir(place.path("data")).expect("made");
    write("one", "1.0");
    write("two", "-1.0");
    let text = "pipeline: kept\nout: run\nsteps:\n  events:\n    read_parquet: { files: data/*.parquet }\n  chosen:\n    from: events\n    \
                keep: x > 0\n  mixed:\n    from: chosen\n    premix: {}\n  all:\n    from: mixed\n    write_parquet: {}\n";
    run(&place, text);
    let verified = || {
        let said = place.calostream(&["verify", "run"]).code(0).complains("");
        assert!(said.out.contains("mixed: 10 events in all"), "{}", said.out);
    };
    verified();
    write("three", "-2.0");
    place.calostream(&["run", "-q", "mix.yaml"]).code(0);
    verified();
}
