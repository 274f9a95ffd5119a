use super::*;
use crate::report::plot::tests::gallery;
use arrow::array::{ArrayRef, Float64Array, StringArray};
use std::sync::Arc;

fn sections() -> Vec<(String, Summary)> {
    let samples: ArrayRef = Arc::new(StringArray::from_iter_values((0..60).map(|i| format!("electron <{i}>"))));
    let widths: ArrayRef = Arc::new(Float64Array::from_iter_values((0..60).map(|i| f64::from(i) / 7.0)));
    let table = RecordBatch::try_from_iter([("sample", samples), ("sigma", widths)]).unwrap();
    let rows = [
        ["sample", "sampling [% √GeV]", "constant [%]"],
        ["electron", "15.2 ± 0.1", "0.70 ± 0.02"],
        ["pion", "114 ± 3", "1.0 ± 0.4"],
    ];
    let summary = |figures: &[usize], highlights: bool| Summary {
        table: table.clone(),
        histograms: Vec::new(),
        figures: figures.iter().map(|i| gallery()[*i].clone()).collect(),
        highlights: if highlights { rows.iter().map(|r| r.map(str::to_owned).to_vec()).collect() } else { Vec::new() },
        remarks: if highlights { vec!["the fit of pion is at its bound c = 0".into()] } else { Vec::new() },
    };
    vec![
        ("resolution".into(), summary(&[0], true)),
        ("spectra".into(), summary(&[2, 3, 5], false)),
        ("separation".into(), summary(&[1, 4], false)),
    ]
}

fn behind() -> Behind {
    let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
    Behind {
        balance: vec![row(["step", "rows in", "rows out"]), row(["events", "12,000", "12,000"])],
        notices: vec!["events: 3 negative cells of `ecal` dropped".into()],
        inputs: std::iter::once(row(["file", "events", "fingerprint"]))
            .chain((0..60).map(|i| row([&format!("data/Ele_<{i}>.h5"), "200", "0123abcd"])))
            .collect(),
        all_inputs: "60 files, 12,000 events; together 0123456789abcdef".into(),
        pipeline: "pipeline: resolution\nsteps: <none>\n".into(),
    }
}

fn run(host: &str) -> RunFacts {
    let facts = [("host", host), ("started", "2026-11-22 03:00:00 UTC"), ("took", "41 s on 2 workers"), ("calostream", "0.1.0")];
    RunFacts(facts.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec())
}

#[test]
fn pages_of_two_runs_differ_in_one_block() {
    let about = Some("The CNN trained on electrons, applied to four particles.");
    let pages = ["node-1", "node-2"].map(|host| page("Energy resolution", about, &sections(), &behind(), &run(host)));
    assert_ne!(pages[0], pages[1]);
    let without = |page: &str| {
        let (before, rest) = page.split_once(RUN_BEGINS).unwrap();
        format!("{before}{}", rest.split_once(RUN_ENDS).unwrap().1)
    };
    assert_eq!(without(&pages[0]), without(&pages[1]));
    if let Some(folder) = std::env::var_os("CALOSTREAM_GALLERY") {
        std::fs::write(std::path::Path::new(&folder).join("page.html"), &pages[0]).unwrap();
    }
}

#[test]
fn the_page_stands_alone_and_shows_everything() {
    let page = page("Energy <resolution>", None, &sections(), &behind(), &run("node-1"));
    for address in ["http://", "https://", "src=", "<script", "@import", "url("] {
        let others = page.matches(address).count();
        let own = page.matches("http://www.w3.org/2000/svg").count() * usize::from(address == "http://")
            + page.matches("url(#frame-").count() * usize::from(address == "url(");
        assert_eq!(others, own, "{address}");
    }
    assert!(page.contains("Energy &lt;resolution&gt;") && page.contains("electron &lt;3&gt;"));
    assert_eq!(page.matches("<svg").count(), 6);
    assert!(page.contains("Files: 60, the first 50") && page.contains("Ele_&lt;3&gt;") && page.contains("steps: &lt;none&gt;"));
    assert!(page.contains("12,000") && page.contains("negative cells of `ecal` dropped"));
    assert!(page.contains("Table: 60 rows, the first 50") && !page.contains("electron &lt;50&gt;"));
    assert!(page.find("15.2 ± 0.1").unwrap() < page.find("<svg").unwrap(), "highlights come first");
    assert!(page.contains("the fit of pion is at its bound"));
    let ids: Vec<&str> = page.split("clipPath id=\"").skip(1).filter_map(|t| t.split('"').next()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "names are unique in the page: {ids:?}");
}
