//! The language: from a YAML file to steps, with the place of every word and everything that is wrong.
//!
//! What is read here is names and parameters; what they mean together (which columns there are, what a model wants) is
//! [`crate::plan`]'s. A step that could not be read is kept without its operator, so that the steps behind it are not
//! blamed for it.

mod node;
mod params;
mod reader;
pub mod schema;
pub mod show;
mod wording;

pub use params::Setting;

use calostream_operators::registry::{self, Entry};
use calostream_operators::{OPERATORS, Operator, Place, Placed, Problem};
use node::{Key, Node, Value};
use params::Params;
use reader::Reading;
use serde::Deserialize;
use std::collections::HashSet;

/// A pipeline as it was typed.
#[derive(Debug)]
pub struct Pipeline {
    /// Its name.
    pub name: Placed<String>,
    /// What it shows.
    pub about: Option<String>,
    /// The run folder.
    pub out: Option<Placed<String>>,
    /// The seed of everything random.
    pub seed: u64,
    /// Bytes of data under way in one process.
    pub budget: Option<Placed<u64>>,
    /// The share of units that may be quarantined.
    pub quarantine_at_most: f64,
    /// True for `on_error: stop`.
    pub strict: bool,
    /// The steps, in the order of the file.
    pub steps: Vec<Step>,
    /// Remarks that are no mistakes.
    pub remarks: Vec<Problem>,
}

/// A step as it was typed.
#[derive(Debug)]
pub struct Step {
    /// Its name.
    pub name: Placed<String>,
    /// Where its inputs come from, in order.
    pub from: Vec<Placed<String>>,
    /// Where `from` was typed.
    pub from_place: Option<Place>,
    /// The word of its operator.
    pub kind: Placed<String>,
    /// The operator with its parameters; none where something is wrong with them, which was reported.
    pub operator: Option<Box<dyn Operator>>,
    /// The parameters after substitution, keys of structs sorted: equal for equal meaning.
    pub parameters: serde_json::Value,
}

/// Every word that may stand at the top of a pipeline file.
pub const TOP: [&str; 9] = ["pipeline", "about", "params", "out", "seed", "budget", "quarantine_at_most", "on_error", "steps"];

/// Reads a pipeline from the text of a file. What can be read is there even where problems were found, unless the text is no YAML.
pub fn read(text: &str, settings: &[Setting]) -> (Option<Pipeline>, Vec<Problem>) {
    let (mut root, mut problems) = match node::parse(text) {
        Ok(parsed) => parsed,
        Err(problem) => return (None, vec![problem]),
    };
    let Value::Map(entries) = &mut root.value else {
        let what = format!("a pipeline is a map with `pipeline` and `steps`, not {}", root.in_words());
        return (None, vec![Problem { place: root.place, what, help: None }]);
    };
    let mut params = Params::new(entries.iter().find(|(k, _)| k.text == "params").map(|(_, n)| n), settings, &mut problems);
    for (key, _) in entries.iter().filter(|(k, _)| !TOP.contains(&k.text.as_str())) {
        problems.push(unknown_top(key));
    }
    for (_, node) in entries.iter_mut().filter(|(k, _)| k.text != "params") {
        params.replace(node, &mut problems);
    }
    let top = Top { entries };
    let name = top.read::<Placed<String>>("pipeline", &mut problems);
    if top.get("pipeline").is_none() {
        let problem = Problem { place: root_place(entries), what: "the pipeline has no name".into(), help: None };
        problems.push(problem.help("begin with `pipeline: a-name`"));
    }
    let budget = top.read::<Placed<Bytes>>("budget", &mut problems);
    let quarantine = top.read::<Placed<f64>>("quarantine_at_most", &mut problems);
    if let Some(share) = quarantine.as_ref().filter(|s| !(0.0..=1.0).contains(&s.value)) {
        problems.push(Problem::at(share, format!("`quarantine_at_most` is a share from 0 to 1, not `{}`", share.value)));
    }
    let on_error = top.read::<OnError>("on_error", &mut problems);
    let mut pipeline = Pipeline {
        name: name.unwrap_or_default(),
        about: top.read("about", &mut problems),
        out: top.read("out", &mut problems),
        seed: top.read("seed", &mut problems).unwrap_or_default(),
        budget: budget.map(|b| Placed { value: b.value.0, place: b.place }),
        quarantine_at_most: quarantine.map_or(0.01, |q| q.value),
        strict: on_error == Some(OnError::Stop),
        steps: Vec::new(),
        remarks: Vec::new(),
    };
    match top.get("steps") {
        Some(node) => read_steps(node, &mut pipeline.steps, &mut problems),
        None => problems.push(Problem { place: root_place(entries), what: "the pipeline has no `steps`".into(), help: None }),
    }
    for (name, place) in params.unused() {
        let unused = Problem { place, what: format!("nothing uses the parameter `{name}`"), help: None };
        match settings.iter().find(|s| s.name == name) {
            Some(set) => problems.push(unused.help(format!("so `--set {name}={}` changes nothing", set.value))),
            None => pipeline.remarks.push(unused),
        }
    }
    (Some(pipeline), problems)
}

fn root_place(entries: &[(Key, Node)]) -> Place {
    entries.first().map_or(Place { line: 1, column: 1 }, |(key, _)| key.place)
}

fn unknown_top(key: &Key) -> Problem {
    let problem = Problem { place: key.place, what: format!("unknown field `{}`", key.text), help: None };
    if registry::find(&key.text).is_some() { problem.help("operators stand in `steps`") } else { problem.suggest(&key.text, TOP) }
}

struct Top<'a> {
    entries: &'a [(Key, Node)],
}

impl Top<'_> {
    fn get(&self, name: &str) -> Option<&Node> {
        self.entries.iter().find(|(k, _)| k.text == name).map(|(_, n)| n)
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, name: &str, problems: &mut Vec<Problem>) -> Option<T> {
        reader::read(self.get(name)?, name, &Reading::default(), |at| T::deserialize(at))
            .map_err(|found| problems.extend(found))
            .ok()
    }
}

/// What happens to a unit whose content is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnError {
    Quarantine,
    Stop,
}

/// Bytes: a whole number, or a number with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Bytes(u64);

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no number of bytes; write 4294967296 or \"4 GiB\"");
        let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = (text[..split].trim().replace('_', ""), text[split..].trim());
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let scale: u64 = match unit {
            "" | "B" => 1,
            "kB" => 1000,
            "MB" => 1000 * 1000,
            "GB" => 1000 * 1000 * 1000,
            "TB" => 1000 * 1000 * 1000 * 1000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(wrong()),
        };
        let bytes = number * scale as f64;
        if bytes >= 1.0 && bytes < u64::MAX as f64 { Ok(Self(bytes as u64)) } else { Err(wrong()) }
    }
}

fn read_steps(node: &Node, steps: &mut Vec<Step>, problems: &mut Vec<Problem>) {
    let Value::Map(entries) = &node.value else {
        let what = format!("`steps` must be a map of steps, each with a name, not {}", node.in_words());
        problems.push(Problem { place: node.place, what, help: None });
        return;
    };
    if entries.is_empty() {
        problems.push(Problem { place: node.place, what: "the pipeline has no steps".into(), help: None });
    }
    for (key, node) in entries {
        if !is_name(&key.text) {
            let what = format!("`{}` is no name for a step", key.text);
            let help = "a name is letters, digits and `_`, and begins with a letter";
            problems.push(Problem { place: key.place, what, help: Some(help.into()) });
        }
        steps.push(read_step(key, node, problems));
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn read_step(key: &Key, node: &Node, problems: &mut Vec<Problem>) -> Step {
    let name = Placed { value: key.text.clone(), place: key.place };
    let mut step = Step {
        kind: Placed { value: String::new(), place: key.place },
        name,
        from: Vec::new(),
        from_place: None,
        operator: None,
        parameters: serde_json::Value::Null,
    };
    let at_name = |what: String| Problem { place: key.place, what, help: None };
    if !matches!(node.value, Value::Map(_)) {
        let what = format!("step `{}` must be a map with `from` and one operator, not {}", key.text, node.in_words());
        problems.push(Problem { place: if node.value == Value::Null { key.place } else { node.place }, what, help: None });
        return step;
    }
    let mut operators: Vec<(&Key, &Node, &'static Entry)> = Vec::new();
    let mut strange = false;
    for (word, node) in node.entries() {
        if word.text == "from" {
            step.from_place = Some(word.place);
            match read_from(node) {
                Ok(from) => step.from = from,
                Err(found) => {
                    problems.extend(found);
                    strange = true;
                }
            }
        } else if let Some(entry) = registry::find(&word.text) {
            operators.push((word, node, entry));
        } else {
            let problem = Problem { place: word.place, what: format!("no operator `{}`", word.text), help: None };
            let close = problem.clone().suggest(&word.text, OPERATORS.iter().map(|e| e.name).chain(["from"]));
            let close = close.help.filter(|help| help.starts_with("did you mean"));
            problems.push(problem.help(close.unwrap_or_else(|| "see `calostream operators`".into())));
            strange = true;
        }
    }
    for (word, _, _) in operators.iter().skip(1) {
        let what = format!("step `{}` has a second operator `{}`", key.text, word.text);
        let help = format!("a step has one operator; `{}` needs a step of its own", word.text);
        problems.push(Problem { place: word.place, what, help: Some(help) });
    }
    let Some((word, node, entry)) = operators.first() else {
        if !strange {
            problems.push(at_name(format!("step `{}` has no operator", key.text)).help("see `calostream operators`"));
        }
        return step;
    };
    step.kind = Placed { value: word.text.clone(), place: word.place };
    let inputs = &entry.inputs;
    if step.from_place.is_none() && *inputs.start() > 0 {
        let problem = Problem { place: key.place, what: format!("step `{}` has no `from`", key.text), help: None };
        problems.push(problem.help(format!("`{}` works on the output of a step above it: add `from: ...`", entry.name)));
        strange = true;
    } else if let Some(place) = step.from_place.filter(|_| *inputs.end() == 0) {
        let what = format!("`{}` is a source and takes no `from`", entry.name);
        problems.push(Problem { place, what, help: Some("take `from` out".into()) });
        strange = true;
    } else if step.from_place.is_some() && !strange && !inputs.contains(&step.from.len()) {
        let wanted = match (*inputs.start(), *inputs.end()) {
            (1, 1) => "one input".into(),
            (least, most) if least == most => format!("{least} inputs"),
            (least, usize::MAX) => format!("at least {least} inputs"),
            (least, most) => format!("{least} to {most} inputs"),
        };
        let what = format!("`{}` takes {wanted}, not {}", entry.name, step.from.len());
        problems.push(Problem { place: step.from_place.unwrap_or(key.place), what, help: None });
        strange = true;
    }
    let reading = Reading::default();
    let result = reader::read(node, entry.name, &reading, |at| {
        let mut at = <dyn erased_serde::Deserializer<'_>>::erase(at);
        (entry.read)(&mut at)
    });
    match result {
        Ok(operator) if !strange && operators.len() == 1 => step.operator = Some(operator),
        Ok(_) => {}
        Err(found) => problems.extend(found),
    }
    step.parameters = canonical(node, &reading.structs());
    step
}

fn read_from(node: &Node) -> Result<Vec<Placed<String>>, Vec<Problem>> {
    #[derive(Deserialize)]
    struct One(Placed<String>);
    let reading = Reading::default();
    match node.value {
        Value::List(_) => reader::read(node, "from", &reading, |at| Vec::<Placed<String>>::deserialize(at)),
        Value::Text(_) => reader::read(node, "from", &reading, |at| One::deserialize(at)).map(|one| vec![one.0]),
        _ => {
            let what = format!("`from` must be the name of a step or a list of names, not {}", node.in_words());
            Err(vec![Problem { place: node.place, what, help: None }])
        }
    }
}

/// A node as JSON; keys are sorted where they are the names of parameters, and keep their order where a person chose them.
fn canonical(node: &Node, structs: &HashSet<u32>) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(b) => (*b).into(),
        Value::Whole(n) => i64::try_from(*n).map_or_else(|_| n.to_string().into(), Into::into),
        Value::Real(x) if x.is_finite() => (*x).into(),
        Value::Real(x) => x.to_string().into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(|item| canonical(item, structs)).collect(),
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().map(|(k, n)| (k.text.clone(), canonical(n, structs))).collect();
            if structs.contains(&node.id) {
                entries.sort_by(|a, b| a.0.cmp(&b.0));
            }
            serde_json::Value::Object(entries.into_iter().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step_of(example: &str) -> String {
        let body: String = example.lines().map(|line| format!("  {line}\n")).collect();
        format!("pipeline: example\nsteps:\n{body}")
    }

    #[test]
    fn every_operators_example_is_read() {
        for entry in OPERATORS {
            let (pipeline, problems) = read(&step_of(entry.example), &[]);
            assert_eq!(problems, [], "the example of `{}`", entry.name);
            let steps = pipeline.unwrap().steps;
            assert_eq!(steps.len(), 1, "the example of `{}` is one step", entry.name);
            assert_eq!(steps[0].kind.value, entry.name);
        }
    }

    #[test]
    fn a_source_takes_no_from() {
        let Some(source) = OPERATORS.iter().find(|e| e.folder == "read") else {
            println!("skipped: no source is built in");
            return;
        };
        let text = step_of(source.example);
        let (first, rest) = text.split_once(&format!("    {}:", source.name)).unwrap();
        let (_, problems) = read(&format!("{first}    from: x\n    {}:{rest}", source.name), &[]);
        assert_eq!(problems[0].what, format!("`{}` is a source and takes no `from`", source.name));
        assert_eq!(problems[0].place, Place { line: 4, column: 5 });
    }

    #[test]
    fn parameters_keep_their_type_as_a_whole_and_become_text_inside_one() {
        let text = "pipeline: p${n}\nparams: { n: 7, seed: 1, x: \"${n}/a\" }\nseed: ${seed}\nout: \"${x}/${n}\"\nsteps: {}\n";
        let (pipeline, _) = read(text, &["seed=0x1f".parse().unwrap()]);
        let pipeline = pipeline.unwrap();
        assert_eq!(pipeline.name.value, "p7");
        assert_eq!(pipeline.seed, 31);
        let out = pipeline.out.unwrap();
        assert_eq!((out.value.as_str(), out.place), ("7/a/7", Place { line: 4, column: 7 }));
    }

    #[test]
    fn the_order_of_a_map_is_that_of_the_file_and_reaches_the_canonical_form() {
        let text = "pipeline: p\nsteps:\n  s:\n    from: x\n    derive: { z: 1, a: z + 1, m: a }\n";
        let (pipeline, problems) = read(text, &[]);
        assert_eq!(problems, []);
        let step = &pipeline.unwrap().steps[0];
        assert_eq!(step.parameters.to_string(), r#"{"z":1,"a":"z + 1","m":"a"}"#);
        let debug = format!("{:?}", step.operator);
        let at = |word: &str| debug.find(&format!("\"{word}\"")).unwrap();
        assert!(at("z") < at("z + 1") && at("z + 1") < at("m"), "{debug}");
    }

    #[test]
    fn bytes_are_numbers_with_units() {
        let read = |text: &str| Bytes::try_from(text.to_owned()).map(|b| b.0);
        assert_eq!(read("4 GiB"), Ok(4 << 30));
        assert_eq!(read("1.5kB"), Ok(1500));
        assert_eq!(read("1_000"), Ok(1000));
        assert!(read("4 parsec").is_err() && read("-1").is_err() && read("nan").is_err() && read("").is_err());
    }
}
