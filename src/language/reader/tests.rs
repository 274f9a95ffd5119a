//! What is right is read with its places; every mistake is found at its place, once.

use super::super::node;
use super::*;
use calostream_operators::{Place, Placed};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Axis {
    column: Placed<String>,
    bins: u32,
    #[serde(default)]
    range: Option<(f64, f64)>,
    #[serde(default)]
    kind: Kind,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Linear,
    Log,
    Edges(Vec<f64>),
    Steps {
        width: f64,
    },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Loose {
    Word(Placed<String>),
    Many(Vec<u8>),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Histogram {
    axes: Vec<Axis>,
    #[serde(default)]
    by: BTreeMap<Placed<String>, Axis>,
    #[serde(default)]
    weights: BTreeMap<u8, bool>,
    #[serde(default)]
    loose: Option<Loose>,
    title: String,
}

fn read_text(text: &str) -> Result<Histogram, Vec<String>> {
    let (node, _) = node::parse(text).unwrap();
    let shown = |p: Problem| {
        let help = p.help.map(|h| format!(" ({h})")).unwrap_or_default();
        format!("{}:{} {}{help}", p.place.line, p.place.column, p.what)
    };
    read(&node, "histogram", &Reading::default(), |at| {
        let mut at = <dyn erased_serde::Deserializer<'_>>::erase(at);
        erased_serde::deserialize::<Histogram>(&mut at)
    })
    .map_err(|mut found| {
        found.sort();
        found.into_iter().map(shown).collect()
    })
}

#[test]
fn what_is_right_is_read_with_its_places() {
    let text = "title: 1.10\naxes:\n  - { column: 'eta', bins: 10, range: [-2, 2.5] }\n  - { column: pt, bins: 0x10, kind: log }\n\
                by:\n  pt: { column: x, bins: 1, kind: { edges: [1, 2] } }\n  eta: { column: x, bins: 1, kind: { steps: { width: 2 } } }\n\
                weights: { 3: true }\nloose: [1]\n";
    let histogram = read_text(text).unwrap();
    assert_eq!(histogram.title, "1.10");
    let axis = &histogram.axes[0];
    assert_eq!((axis.column.value.as_str(), axis.column.place), ("eta", Place { line: 3, column: 16 }));
    assert_eq!((axis.bins, axis.range), (10, Some((-2.0, 2.5))));
    assert_eq!((histogram.axes[1].bins, &histogram.axes[1].kind), (16, &Kind::Log));
    let places: Vec<(&str, u32)> = histogram.by.keys().map(|k| (k.value.as_str(), k.place.line)).collect();
    assert_eq!(places, [("eta", 7), ("pt", 6)]);
    assert_eq!(histogram.weights, BTreeMap::from([(3, true)]));
    assert_eq!(histogram.loose, Some(Loose::Many(vec![1])));
    let word = read_text("{ title: x, axes: [], loose: word }").unwrap().loose;
    assert_eq!(word, Some(Loose::Word(Placed::unplaced("word".into()))));
}

#[test]
fn every_mistake_is_found_at_its_place() {
    let text = "tittle: x\naxes:\n  - { column: eta, bin: 10, range: [-2] }\n  - { column: [pt], bins: ten, kind: lgo }\n  - 3\n\
                by: { a: { column: x, bins: -1, kind: edges }, b: { column: x, bins: 1.5, kind: { lin: 1 } } }\n\
                weights: { x: true, 7: yes }\nloose: { a: 1 }\n";
    assert_eq!(
        read_text(text).unwrap_err(),
        [
            "1:1 unknown field `tittle` (did you mean `title`?)",
            "3:20 unknown field `bin` (did you mean `bins`?)",
            "3:36 `range` must be a list of 2 values, not of 1",
            "4:15 `column` must be a text, not a list",
            "4:27 `bins` must be a whole number, 0 or above, not `ten`",
            "4:38 `kind` can't be `lgo` (did you mean `log`?)",
            "5:5 an entry of `axes` must be a map with `column`, `bins`, `range`, `kind`, not `3`",
            "6:29 `bins` must be a whole number, 0 or above, not `-1`",
            "6:39 `kind` `edges` needs something behind it (write `kind: { edges: ... }`)",
            "6:70 `bins` must be a whole number, 0 or above, not `1.5`",
            "6:83 `kind` can't be `lin` (there is linear, log, edges, steps)",
            "7:12 a key of `weights` must be a whole number from 0 to 255, not `x`",
            "7:24 `7` must be `true` or `false`, not `yes`",
            "8:8 `loose` can't be read from a map",
        ]
    );
}

#[test]
fn what_is_missing_is_said_once_and_only_where_it_is_missing() {
    assert_eq!(read_text("title: x").unwrap_err(), ["1:1 `histogram` needs `axes`"]);
    assert_eq!(read_text("{ title: x, axes: [{ column: x }] }").unwrap_err(), ["1:20 an entry of `axes` needs `bins`"]);
    assert_eq!(
        read_text("[]").unwrap_err(),
        ["1:1 `histogram` must be a map with `axes`, `by`, `weights`, `loose`, `title`, not a list"]
    );
}
