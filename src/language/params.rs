//! `${name}`: a value written once and set from outside.
//!
//! It stands for a whole value and keeps its type, or it is a piece of a text; nowhere else, so never in a key. It is
//! replaced in the tree, whose places stay, so that whatever is wrong with a value is shown where it is used. A parameter
//! may use those above it.

use super::node::{self, Node, Value};
use calostream_operators::{Place, Problem};
use std::collections::BTreeSet;

/// One `--set name=value`.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The parameter.
    pub name: String,
    /// Its value, as YAML.
    pub value: String,
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self { name: name.into(), value: value.into() }),
            _ => Err("a parameter is set as name=value".into()),
        }
    }
}

/// The parameters of a pipeline with their values.
#[derive(Debug, Default)]
pub struct Params {
    values: Vec<(String, Place, Option<Node>)>,
    used: BTreeSet<String>,
}

impl Params {
    /// Reads the `params` of a pipeline and overrides them from outside.
    pub fn new(params: Option<&Node>, settings: &[Setting], problems: &mut Vec<Problem>) -> Self {
        let mut all = Self::default();
        if let Some(node) = params
            && !matches!(node.value, Value::Map(_) | Value::Null)
        {
            let what = format!("`params` must be a map of names to values, not {}", node.in_words());
            problems.push(Problem { place: node.place, what, help: None });
        }
        for (key, node) in params.map(Node::entries).unwrap_or_default() {
            let mut node = node.clone();
            if let Some(set) = settings.iter().rev().find(|s| s.name == key.text) {
                match node::parse(&set.value) {
                    Ok((value, _)) => node = moved(&value, node.place, &mut 0),
                    Err(problem) => {
                        let what = format!("--set {}={}: {}", set.name, set.value, problem.what);
                        problems.push(Problem { place: key.place, what, help: problem.help });
                    }
                }
            }
            let found = problems.len();
            all.replace(&mut node, problems);
            let value = (problems.len() == found).then_some(node);
            all.values.push((key.text.clone(), key.place, value));
        }
        for set in settings.iter().filter(|s| !all.values.iter().any(|(name, ..)| *name == s.name)) {
            let what = format!("--set {}: the pipeline has no parameter `{}`", set.name, set.name);
            let known = all.values.iter().map(|(name, ..)| name.as_str());
            problems.push(Problem { place: Place::default(), what, help: None }.suggest(&set.name, known));
        }
        all
    }

    /// Parameters that nothing uses, where they are written.
    pub fn unused(&self) -> impl Iterator<Item = (&str, Place)> {
        self.values.iter().filter(|(name, ..)| !self.used.contains(name)).map(|(name, place, _)| (name.as_str(), *place))
    }

    /// Replaces every `${name}` in a tree.
    pub fn replace(&mut self, node: &mut Node, problems: &mut Vec<Problem>) {
        match &mut node.value {
            Value::List(items) => items.iter_mut().for_each(|item| self.replace(item, problems)),
            Value::Map(entries) => {
                for (key, value) in entries {
                    if key.text.contains("${") {
                        let what = format!("a name can't have a parameter in it: `{}`", key.text);
                        let help = Some("`${...}` stands for a whole value, or as text inside a value".into());
                        problems.push(Problem { place: key.place, what, help });
                    }
                    self.replace(value, problems);
                }
            }
            Value::Text(text) if text.contains("${") => {
                let text = text.clone();
                self.replace_text(node, &text, problems);
            }
            _ => {}
        }
    }

    fn replace_text(&mut self, node: &mut Node, text: &str, problems: &mut Vec<Problem>) {
        let (mut made, mut rest) = (String::new(), text);
        while let Some(start) = rest.find("${") {
            let before = text[..text.len() - rest.len() + start].chars().count();
            let column = node.place.column + if text.contains('\n') { 0 } else { u32::try_from(before).unwrap_or(0) };
            let at = |what: String| Problem { place: Place { column, ..node.place }, what, help: None };
            let Some(length) = rest[start + 2..].find('}') else {
                problems.push(at("`${` without `}`".into()));
                return;
            };
            let name = &rest[start + 2..start + 2 + length];
            self.used.insert(name.to_owned());
            let Some((_, _, value)) = self.values.iter().find(|(known, ..)| known == name) else {
                let known = self.values.iter().map(|(name, ..)| name.as_str());
                let problem = at(format!("no parameter `{name}`"));
                problems.push(if self.values.is_empty() {
                    problem.help("the pipeline has no `params`")
                } else {
                    problem.suggest(name, known)
                });
                return;
            };
            let Some(value) = value else { return };
            if value.value == Value::Null {
                problems.push(at(format!("parameter `{name}` has no value")).help(format!("give it one: --set {name}=...")));
                return;
            }
            if start == 0 && rest.len() == length + 3 && made.is_empty() {
                let mut next = node.id << 12;
                *node = moved(value, node.place, &mut next);
                return;
            }
            made.push_str(&rest[..start]);
            match (&value.value, &value.raw) {
                (Value::Text(text), _) | (_, Some(text)) => made.push_str(text),
                (Value::Bool(b), _) => made.push_str(&b.to_string()),
                _ => {
                    let problem = at(format!("parameter `{name}` is {}, which can't stand inside a text", value.in_words()));
                    problems.push(problem);
                    return;
                }
            }
            rest = &rest[start + length + 3..];
        }
        made.push_str(rest);
        node.value = Value::Text(made);
    }
}

/// A copy of a tree whose every node is placed where it is used, with numbers of its own.
fn moved(node: &Node, place: Place, next: &mut u32) -> Node {
    *next += 1;
    let id = *next | 1 << 31;
    let value = match &node.value {
        Value::List(items) => Value::List(items.iter().map(|item| moved(item, place, next)).collect()),
        Value::Map(entries) => {
            Value::Map(entries.iter().map(|(k, n)| (super::node::Key { place, ..k.clone() }, moved(n, place, next))).collect())
        }
        other => other.clone(),
    };
    Node { id, place, value, raw: node.raw.clone() }
}
