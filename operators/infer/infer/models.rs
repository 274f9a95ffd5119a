//! Which models there are, by which names, and what is known of each.

use super::outputs::{Called, MODEL, names};
use super::{Infer, Models};
use crate::onnx::model::ModelFacts;
use crate::{Facts, Need, Placed, Problem};
use std::path::Path;

/// The models of a step, found.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// The models, in order.
    pub models: Vec<One<'a>>,
    /// True where each has columns of its own, by its name.
    pub sweep: bool,
    /// Of a cross-validation: the column that says which model an event meets.
    pub key: Option<&'a Placed<String>>,
}

/// A model of a step.
#[derive(Debug)]
pub(super) struct One<'a> {
    /// Its name in the names of columns.
    pub name: String,
    /// Its path.
    pub path: String,
    /// Where it was typed.
    pub word: Placed<()>,
    /// What is known of it.
    pub facts: &'a ModelFacts,
}

impl Found<'_> {
    /// What one of them is called in the names of columns.
    pub fn called<'a>(&self, one: &'a One<'_>) -> Called<'a> {
        match self.key {
            Some(_) => Called::Nothing,
            None if self.sweep => Called::InSweep(&one.name),
            None => Called::Alone(&one.name),
        }
    }
}

/// True for a pattern, not a path.
fn is_pattern(word: &str) -> bool {
    word.contains(['*', '?', '['])
}

/// A name that may stand in an expression: of what is no letter, digit or `_`, nothing is left but one `_`.
fn plain(name: &str) -> String {
    let mut plain = String::new();
    for c in name.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => plain.push(c),
            _ if plain.ends_with('_') => {}
            _ => plain.push('_'),
        }
    }
    plain
}

impl Infer {
    /// The names of new columns that say `{model}`.
    fn of_the_model(&self) -> impl Iterator<Item = Placed<String>> {
        self.outputs.values().flat_map(|new| names(new, Called::Nothing)).filter(|name| name.contains(MODEL))
    }

    pub(super) fn model_needs(&self) -> Vec<Need> {
        let need = |word: &Placed<String>| if is_pattern(word) { Need::Models(word.clone()) } else { Need::Model(word.clone()) };
        let listed: Vec<Need> = match self.model.as_ref().map(|m| (&m.value, m.place)) {
            // Where the name of the file is part of a column's, it is part of the plan, as in a list.
            Some((Models::One(path), place)) if self.of_the_model().next().is_some() => {
                vec![Need::Models(Placed { value: path.clone(), place })]
            }
            Some((Models::One(path), place)) => vec![need(&Placed { value: path.clone(), place })],
            // In a list the name of a file is part of the plan.
            Some((Models::Many(words), _)) => words.iter().cloned().map(Need::Models).collect(),
            Some((Models::Named(words), _)) => words.iter().map(|(_, word)| Need::Model(word.clone())).collect(),
            None => Vec::new(),
        };
        let folds = self.folds.iter().flat_map(|folds| folds.models.iter().cloned().map(Need::Model));
        listed.into_iter().chain(folds).collect()
    }

    /// The models, or everything that is wrong with them.
    pub(super) fn models<'a>(&'a self, facts: &'a Facts, problems: &mut Vec<Problem>) -> Option<Found<'a>> {
        let before = problems.len();
        let mut models: Vec<One<'a>> = Vec::new();
        let mut add = |name: String, word: &Placed<String>, problems: &mut Vec<Problem>| match facts.model(word) {
            Ok(facts) => models.push(One { name, path: word.value.clone(), word: at(word), facts }),
            Err(problem) => problems.push(problem),
        };
        let mut pattern = |word: &Placed<String>, problems: &mut Vec<Problem>| match facts.models_of(word) {
            Ok(paths) => {
                for path in paths {
                    add(stem(path), &Placed { value: path.clone(), place: word.place }, problems);
                }
            }
            Err(problem) => problems.push(problem),
        };
        let (sweep, key) = match (&self.model, &self.folds) {
            (Some(model), None) => {
                let place = model.place;
                match &model.value {
                    Models::One(path) if is_pattern(path) => {
                        pattern(&Placed { value: path.clone(), place }, problems);
                        (true, None)
                    }
                    Models::One(path) if self.of_the_model().next().is_some() => {
                        pattern(&Placed { value: path.clone(), place }, problems);
                        (false, None)
                    }
                    Models::One(path) => {
                        add(stem(path), &Placed { value: path.clone(), place }, problems);
                        (false, None)
                    }
                    Models::Many(words) => {
                        words.iter().for_each(|word| pattern(word, problems));
                        (true, None)
                    }
                    Models::Named(words) => {
                        words.iter().for_each(|(name, word)| add(name.clone(), word, problems));
                        (true, None)
                    }
                }
            }
            (None, Some(folds)) => {
                folds.models.iter().for_each(|word| add(stem(word), word, problems));
                for name in self.of_the_model() {
                    let what =
                        format!("`{MODEL}` in `{}` stands for a model's name, and of folds each event meets another", name.value);
                    problems.push(Problem::at(&name, what).help("name the column without it"));
                }
                (false, Some(&folds.key))
            }
            (Some(_), Some(folds)) => {
                let what = "`model` and `folds` are two ways to say which models run";
                problems.push(Problem::at(&folds.models, what).help("write one of them"));
                return None;
            }
            (None, None) => {
                let what = "no model is named";
                problems.push(
                    Problem::at(&self.batch, what).help("write `model: path.onnx`, or `folds: { key: COLUMN, models: [..] }`"),
                );
                return None;
            }
        };
        if problems.len() > before {
            return None;
        }
        if models.is_empty() {
            let nothing = self.model.as_ref().map(at).or_else(|| self.folds.as_ref().map(|f| at(&f.models)));
            problems.push(Problem::at(&nothing.unwrap_or_default(), "the list of models is empty").help("name one at least"));
            return None;
        }
        let by_file = !matches!(self.model.as_ref().map(|m| &m.value), Some(Models::Named(_)));
        if by_file && (sweep || self.of_the_model().next().is_some()) {
            for model in models.iter().filter(|model| model.name.chars().all(|c| c == '_')) {
                let what =
                    format!("the name of the file {} has no letter (a to z) or digit for the names of columns", model.path);
                problems.push(Problem::at(&model.word, what).help("give it one: `model: { NAME: path }`"));
            }
        }
        if sweep {
            for (i, model) in models.iter().enumerate() {
                if let Some(other) = models[..i].iter().find(|other| other.name == model.name) {
                    let what = format!("two models are called `{}`: {} and {}", model.name, other.path, model.path);
                    let help = "give them names: `model: { first: path, second: path }`";
                    problems.push(Problem::at(&model.word, what).help(help));
                }
            }
        }
        (problems.len() == before).then_some(Found { models, sweep, key })
    }
}

fn stem(path: &str) -> String {
    plain(&Path::new(path).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default())
}

fn at<T>(word: &Placed<T>) -> Placed<()> {
    Placed { value: (), place: word.place }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_stand_in_expressions() {
        assert_eq!(stem("models/width-32.depth 1.onnx"), "width_32_depth_1");
        assert_eq!(stem("a/energy.onnx"), "energy");
        assert!(is_pattern("models/*.onnx") && !is_pattern("models/energy.onnx"));
    }
}
