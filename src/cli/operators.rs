//! `calostream operators`: the list, or one of them explained.
//!
//! Everything comes from the operator itself: its line and its example from the list of operators, its parameters from the
//! types that read them and their comments.

use anyhow::Result;
use calostream_operators::registry::{self, Entry};
use calostream_operators::{OPERATORS, Place, Problem};
use clap::Args;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::ExitCode;

/// What `operators` is given.
#[derive(Debug, Args)]
pub struct OperatorsArgs {
    /// The operator to explain; all are listed without it.
    name: Option<String>,
    /// As JSON, with the JSON Schema of the parameters.
    #[arg(long)]
    json: bool,
}

/// Prints the list, or what one operator takes. Exit code 2 where there is no such operator.
pub fn operators(args: &OperatorsArgs) -> Result<ExitCode> {
    let Some(name) = &args.name else {
        if args.json {
            let all: Vec<Value> = OPERATORS.iter().map(as_json).collect();
            super::print(&(serde_json::to_string_pretty(&all)? + "\n"))?;
        } else {
            super::print(&list())?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let Some(entry) = registry::find(name) else {
        let problem = Problem { place: Place::default(), what: format!("no operator `{name}`"), help: None };
        let problem = problem.suggest(name, OPERATORS.iter().map(|e| e.name));
        eprintln!("calostream: {}; {}", problem.what, problem.help.unwrap_or_default());
        return Ok(ExitCode::from(2));
    };
    if args.json {
        super::print(&(serde_json::to_string_pretty(&as_json(entry))? + "\n"))?;
    } else {
        super::print(&explained(entry))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list() -> String {
    let width = OPERATORS.iter().map(|e| e.name.len()).max().unwrap_or(0);
    let (mut out, mut folder) = (String::new(), "");
    for entry in OPERATORS {
        if entry.folder != folder {
            folder = entry.folder;
            let _ = writeln!(out, "{}{folder}", if out.is_empty() { "" } else { "\n" });
        }
        let _ = writeln!(out, "  {:width$}  {}", entry.name, entry.about);
    }
    out + "\n`calostream operators NAME` explains one.\n"
}

fn schema(entry: &Entry) -> (Value, Map<String, Value>) {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let schema = (entry.schema)(&mut generator).to_value();
    (schema, generator.take_definitions(true))
}

fn as_json(entry: &Entry) -> Value {
    let (mut schema, definitions) = schema(entry);
    if let Some(object) = schema.as_object_mut() {
        object.insert("$defs".into(), definitions.into());
    }
    json!({ "name": entry.name, "folder": entry.folder, "about": entry.about, "example": entry.example, "parameters": schema })
}

fn explained(entry: &Entry) -> String {
    let inputs = match (*entry.inputs.start(), *entry.inputs.end()) {
        (_, 0) => "a source: no `from`".into(),
        (1, 1) => "one input".into(),
        (least, usize::MAX) => format!("{least} inputs or more"),
        (least, most) if least == most => format!("{least} inputs"),
        (least, most) => format!("{least} to {most} inputs"),
    };
    let mut out = format!("{}: {}\n({inputs})\n\n", entry.name, entry.about);
    let (schema, definitions) = schema(entry);
    let mut words = Words { definitions: &definitions, used: Vec::new(), seen: BTreeSet::new() };
    let root = words.resolved(&schema).clone();
    words.section(&mut out, entry.name, &root);
    while let Some(name) = words.used.pop() {
        let definition = words.definitions[&name].clone();
        words.section(&mut out, &name, &definition);
    }
    let _ = writeln!(out, "example:");
    for line in entry.example.lines() {
        let _ = writeln!(out, "  {line}");
    }
    out
}

/// JSON Schema in words.
struct Words<'a> {
    definitions: &'a Map<String, Value>,
    used: Vec<String>,
    seen: BTreeSet<String>,
}

impl Words<'_> {
    fn resolved<'s>(&'s self, schema: &'s Value) -> &'s Value {
        definition_name(schema).and_then(|name| self.definitions.get(name)).unwrap_or(schema)
    }

    /// A map of parameters, or whatever stands behind the operator's word.
    fn section(&mut self, out: &mut String, name: &str, schema: &Value) {
        let Some(properties) = schema["properties"].as_object() else {
            let words = self.words_of(schema);
            let _ = writeln!(out, "{name}: {words}");
            describe(out, schema, "  ");
            for choice in schema["oneOf"].as_array().into_iter().flatten() {
                if let (Some(word), Some(text)) = (choice["const"].as_str(), choice["description"].as_str()) {
                    let _ = writeln!(out, "  {word}: {}", one_line(text));
                }
            }
            out.push('\n');
            return;
        };
        let _ = writeln!(out, "{name}:");
        let required: BTreeSet<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (key, property) in properties {
            let words = self.words(property);
            let rest = match &property["default"] {
                _ if required.contains(key.as_str()) => "needed".into(),
                Value::Null => "may be left out".into(),
                default => format!("default {default}"),
            };
            let _ = writeln!(out, "  {key}: {words} ({rest})");
            describe(out, property, "    ");
        }
        out.push('\n');
    }

    fn words(&mut self, schema: &Value) -> String {
        if let Some(name) = definition_name(schema) {
            let definition = &self.definitions[name];
            let is_map = definition["properties"].is_object() || definition["oneOf"].is_array();
            if is_map && plain_words(definition).is_none() {
                if self.seen.insert(name.to_owned()) {
                    self.used.insert(0, name.to_owned());
                }
                return name.to_owned();
            }
            let definition = definition.clone();
            return self.words_of(&definition);
        }
        self.words_of(schema)
    }

    fn words_of(&mut self, schema: &Value) -> String {
        if let Some(words) = plain_words(schema) {
            return words;
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(choices) = schema[key].as_array() {
                let words: Vec<String> = choices.iter().filter(|c| c["type"] != "null").map(|c| self.choice(c)).collect();
                return words.join(", or ");
            }
        }
        if let Some(parts) = schema["allOf"].as_array() {
            return parts.iter().map(|p| self.words(p)).collect::<Vec<_>>().join(" and ");
        }
        let types = schema["type"].as_array().map_or_else(
            || schema["type"].as_str().into_iter().collect::<Vec<_>>(),
            |types| types.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
        );
        let words: Vec<String> = types.into_iter().map(|t| self.type_words(t, schema)).collect();
        if words.is_empty() { "anything".into() } else { words.join(" or ") }
    }

    fn choice(&mut self, schema: &Value) -> String {
        match schema["properties"].as_object().filter(|p| p.len() == 1 && schema["$ref"].is_null()) {
            Some(one) => {
                let parts: Vec<String> = one.iter().map(|(key, inner)| format!("{key}: {}", self.words(inner))).collect();
                format!("{{ {} }}", parts.join(", "))
            }
            None => self.words(schema),
        }
    }

    fn type_words(&mut self, name: &str, schema: &Value) -> String {
        match name {
            "string" => "text".into(),
            "integer" => match schema["minimum"].as_f64() {
                Some(least) if least >= 0.0 => format!("whole number from {least}"),
                _ => "whole number".into(),
            },
            "boolean" => "true or false".into(),
            "array" => match schema["prefixItems"].as_array() {
                Some(items) => {
                    let items: Vec<String> = items.iter().map(|i| self.words(i)).collect();
                    format!("[{}]", items.join(", "))
                }
                None if schema["items"].is_object() => format!("list of {}", grouped(self.words(&schema["items"]))),
                None => "list".into(),
            },
            "object" => match &schema["additionalProperties"] {
                inner @ Value::Object(_) => format!("map of names to {}", grouped(self.words(inner))),
                _ => "map".into(),
            },
            other => other.into(),
        }
    }
}

/// In parentheses where it is a choice, which would not end where what is around it goes on.
fn grouped(words: String) -> String {
    if words.contains(" or ") { format!("({})", words.replace(", or ", " or ")) } else { words }
}

/// `one of a, b` for a choice of words alone.
fn plain_words(schema: &Value) -> Option<String> {
    let words: Vec<&str> = match (schema["enum"].as_array(), schema["oneOf"].as_array(), schema["const"].as_str()) {
        (Some(words), ..) => words.iter().filter_map(Value::as_str).collect(),
        (_, Some(choices), _) => choices.iter().map(|c| c["const"].as_str()).collect::<Option<_>>()?,
        (.., Some(word)) => vec![word],
        _ => return None,
    };
    Some(if let [one] = words[..] { one.to_owned() } else { format!("one of {}", words.join(", ")) })
}

fn definition_name(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

fn describe(out: &mut String, schema: &Value, indent: &str) {
    for line in schema["description"].as_str().unwrap_or_default().lines() {
        let _ = writeln!(out, "{indent}{line}");
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
