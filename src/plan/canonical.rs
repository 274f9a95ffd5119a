//! What a plan is, apart from its inputs: the thing that a run folder belongs to.
//!
//! Two plans with the same canonical form make the same bytes of the same inputs. So it holds the steps with their
//! parameters, the texts of schemas and the hashes of models, the seed and the version of the format; and it leaves out
//! where things are (the run folder, the patterns of the input files, the path of a model) and what only says how fast the
//! work is done, or when it is given up (the budget, `on_error`).

use crate::language::Step;
use calostream_operators::{Facts, Need};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// The version of everything that is written into a run folder.
pub const FORMAT: u32 = 4;

/// The canonical form of a pipeline.
#[must_use]
pub fn form<'a>(seed: u64, steps: impl Iterator<Item = &'a Step>, facts: &Facts) -> Value {
    let mut all = Map::new();
    for step in steps {
        let mut words = BTreeMap::new();
        for need in step.operator.iter().flat_map(|o| o.needs()) {
            match need {
                Need::Hdf5(word) | Need::Parquet(word) => words.insert(word.value, "(input)".to_owned()),
                Need::Model(word) => {
                    let hash = facts.models.get(&word.value).and_then(|m| m.as_ref().ok()).map(|m| format!("model {}", m.sha256));
                    words.insert(word.value, hash.unwrap_or_default())
                }
                Need::Models(word) => {
                    // The names of the files are in those of columns, their folders nowhere.
                    let name =
                        |path: &str| Path::new(path).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
                    let hash = |path: &str| facts.models.get(path)?.as_ref().ok().map(|m| m.sha256.clone());
                    let each = |path: &String| format!("{} {}", name(path), hash(path).unwrap_or_default());
                    let paths = facts.model_sets.get(&word.value).and_then(|m| m.as_ref().ok());
                    let all: Vec<String> = paths.into_iter().flatten().map(each).collect();
                    words.insert(word.value, format!("models {}", all.join(", ")))
                }
                // The word itself is part of the parameters; what is there is not.
                Need::Processor(_) | Need::Placement(..) => continue,
                Need::Text(word) => {
                    let text = facts.texts.get(&word.value).and_then(|t| t.as_ref().ok());
                    words.insert(word.value, text.map(|t| format!("text {}", sha256(t.as_bytes()))).unwrap_or_default())
                }
            };
        }
        let mut said = Map::new();
        if !step.from.is_empty() {
            said.insert("from".into(), step.from.iter().map(|f| f.value.as_str()).collect());
        }
        said.insert(step.kind.value.clone(), replaced(&step.parameters, &words));
        all.insert(step.name.value.clone(), said.into());
    }
    json!({ "format": FORMAT, "seed": seed, "steps": all })
}

fn replaced(value: &Value, words: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => words.get(text).unwrap_or(text).as_str().into(),
        Value::Array(items) => items.iter().map(|item| replaced(item, words)).collect(),
        Value::Object(entries) => Value::Object(entries.iter().map(|(k, v)| (k.clone(), replaced(v, words))).collect()),
        other => other.clone(),
    }
}

/// The hash of a canonical form.
#[must_use]
pub fn hash(form: &Value) -> String {
    sha256(form.to_string().as_bytes())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The first difference between two canonical forms, named: ``steps.pulls.derive.error: was `x`, now `y` ``.
#[must_use]
pub fn difference(was: &Value, now: &Value) -> Option<String> {
    differ("", was, now)
}

fn differ(at: &str, was: &Value, now: &Value) -> Option<String> {
    let below = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match (was, now) {
        _ if was == now && same_order(was, now) => None,
        (Value::Object(a), Value::Object(b)) => {
            let gone = a.iter().find(|(k, _)| !b.contains_key(*k));
            let come = b.iter().find(|(k, _)| !a.contains_key(*k));
            if let Some((key, value)) = gone {
                return Some(format!("{}: was {}, is gone", below(key), shown(value)));
            }
            if let Some((key, value)) = come {
                return Some(format!("{}: was not there, now {}", below(key), shown(value)));
            }
            let order = |m: &Map<String, Value>| m.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            a.iter()
                .find_map(|(k, v)| differ(&below(k), v, &b[k]))
                .or_else(|| (order(a) != order(b)).then(|| format!("{at}: the order was {}, now {}", order(a), order(b))))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (x, y))| differ(&format!("{at}[{i}]"), x, y))
        }
        _ => Some(format!("{at}: was {}, now {}", shown(was), shown(now))),
    }
}

fn same_order(a: &Value, b: &Value) -> bool {
    // As text, because the order of parameters counts.
    let (a, b) = (a.to_string(), b.to_string());
    a == b
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let was = json!({ "seed": 1, "steps": { "pulls": { "derive": { "relative_error": "x", "b": 1 } } } });
        let mut now = was.clone();
        assert_eq!(difference(&was, &now), None);
        now["steps"]["pulls"]["derive"]["relative_error"] = "y".into();
        assert_eq!(difference(&was, &now).unwrap(), "steps.pulls.derive.relative_error: was `x`, now `y`");
        let now = json!({ "seed": 1, "steps": { "pulls": { "derive": { "b": 1, "relative_error": "x" } } } });
        assert_ne!(hash(&was), hash(&now));
        assert_eq!(difference(&was, &now).unwrap(), "steps.pulls.derive: the order was relative_error, b, now b, relative_error");
        let now = json!({ "seed": 1, "steps": {} });
        assert!(difference(&was, &now).unwrap().starts_with("steps.pulls: was `{"));
        assert_eq!(difference(&json!([1, 2]), &json!([1])).unwrap(), ": was `[1,2]`, now `[1]`");
    }
}
