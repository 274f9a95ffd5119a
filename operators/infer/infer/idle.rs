//! Words of an input that could change nothing: each is a mistake of its own, since whoever wrote it expects something of it.

use super::inputs::{Form, form, in_words};
use super::wishes::wishes;
use super::{Feeding, NormWord, Source};
use crate::{Place, Placed, Problem, column};
use arrow::datatypes::Schema;

/// The words of an input that change nothing.
pub(super) fn words(source: &Placed<Source>, schema: &Schema) -> Vec<Problem> {
    let (Source::Feeding(feeding), mut names) = (&source.value, Vec::new()) else { return Vec::new() };
    let Ok(wishes) = wishes(source, feeding, &mut names) else { return Vec::new() };
    let mut problems = Vec::new();
    if let Some(columns) = &feeding.columns {
        let own: Vec<&Feeding> = columns.iter().filter_map(|inner| inner.value.own()).collect();
        for (word, place) in own.iter().flat_map(|own| of_the_whole(own)) {
            let what = format!("`{word}` is of the whole stack, and does nothing at one of its columns");
            problems.push(at(place, what).help("write it beside `columns`"));
        }
        if own.len() == columns.len() {
            for (word, place) in of_values(feeding) {
                let what = format!("`{word}` beside `columns` does nothing: each of the columns is a map, and has its own words");
                problems.push(at(place, what).help("write it into the maps of the columns that it is for"));
            }
        }
    }
    for wish in &wishes {
        if wish.mask && wish.by.mask.is_some() {
            for (word, place) in of_values(wish.by) {
                problems.push(at(place, format!("`{word}` does nothing to a mask: it is 1 where a list has an entry, else 0")));
            }
        }
    }
    let Some(form) = wishes.first().and_then(|wish| form(column::field(schema, wish.column).ok()?)) else { return problems };
    let of = |word: &str, place: Place, of: &str| {
        let holds = format!("column `{}` holds {}", wishes[0].column.value, in_words(&form));
        at(place, format!("`{word}` is of {of}, and {holds}"))
    };
    let is_number = form == Form::Fixed(Vec::new());
    if let Some(pad) = feeding.pad.as_ref().filter(|_| is_number || form == Form::List) {
        let problem = of("pad", pad.place, "images");
        problems.push(if is_number { problem } else { problem.help("zeros are put behind a short list by themselves") });
    }
    if let Some(channels) = feeding.channels.as_ref().filter(|_| is_number) {
        problems.push(of("channels", channels.place, "images and lists"));
    }
    match &feeding.first {
        Some(first) if form != Form::List => problems.push(of("first", first.place, "lists")),
        Some(first) if first.value == 0 => {
            problems.push(at(first.place, "no entries are read with `first: 0`".into()).help("write `first: 20`, say"));
        }
        _ => {}
    }
    if let Some(order) = feeding.order.as_ref() {
        if form != Form::List {
            problems.push(of("order", order.place, "lists"));
        } else if wishes.iter().all(|wish| wish.mask) {
            problems.push(at(order.place, "`order` does nothing to a mask: it has as many entries in any order".into()));
        }
    }
    problems
}

impl Source {
    /// The words of a map.
    fn own(&self) -> Option<&Feeding> {
        match self {
            Self::Column(_) => None,
            Self::Feeding(own) => Some(own),
        }
    }
}

fn at(place: Place, what: String) -> Problem {
    Problem { place, what, help: None }
}

/// The words about where columns stand that were said, each with its place.
fn of_the_whole(feeding: &Feeding) -> Vec<(&'static str, Place)> {
    let words = [
        ("channels", feeding.channels.as_ref().map(|word| word.place)),
        ("pad", feeding.pad.as_ref().map(|word| word.place)),
        ("first", feeding.first.as_ref().map(|word| word.place)),
        ("order", feeding.order.as_ref().map(|word| word.place)),
    ];
    words.into_iter().filter_map(|(word, place)| Some((word, place?))).collect()
}

/// The words about values that were said, each with its place.
fn of_values(feeding: &Feeding) -> Vec<(&'static str, Place)> {
    let words = [
        ("value", feeding.value.as_ref().map(|word| word.place)),
        ("scale", feeding.scale.as_ref().map(|word| word.place)),
        ("divide", feeding.divide.as_ref().map(|word| word.place)),
        ("norm", Some(feeding.norm.place).filter(|_| feeding.norm.value != NormWord::None)),
    ];
    words.into_iter().filter_map(|(word, place)| Some((word, place?))).collect()
}
