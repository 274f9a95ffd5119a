//! The JSON Schema of the language, so that editors complete and check pipeline files while they are typed.

use calostream_operators::OPERATORS;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The JSON Schema of a pipeline file.
#[must_use]
pub fn pipeline() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut operators = Map::new();
    let mut one_of = Vec::new();
    for entry in OPERATORS {
        let mut schema = (entry.schema)(&mut generator).to_value();
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".into(), entry.about.into());
            object.insert("examples".into(), json!([entry.example]));
        }
        let parametrized = json!({ "anyOf": [schema, { "$ref": "#/$defs/parameter" }] });
        operators.insert(entry.name.into(), parametrized);
        one_of.push(json!({ "required": [entry.name] }));
    }
    let from = json!({
        "description": "Where the input comes from: a step above this one, `step.output` where it has several, or a list.",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }]
    });
    operators.insert("from".into(), from);
    let mut step = json!({
        "type": "object",
        "description": "A step: `from` (none for a source) and exactly one operator.",
        "properties": operators,
        "additionalProperties": false,
    });
    if !one_of.is_empty() {
        step["oneOf"] = one_of.into();
    }
    let mut definitions = generator.take_definitions(true);
    definitions.insert("step".into(), step);
    definitions.insert(
        "parameter".into(),
        json!({ "type": "string", "pattern": "^\\$\\{[^}]+\\}$", "description": "A parameter in place of a whole value." }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "calostream pipeline",
        "type": "object",
        "required": ["pipeline", "steps"],
        "additionalProperties": false,
        "properties": {
            "pipeline": { "type": "string", "description": "The name of the pipeline." },
            "about": { "type": "string", "description": "What it shows, in a sentence." },
            "params": { "type": "object", "description": "Values used as `${name}`; overridden with --set name=value." },
            "out": { "type": "string", "description": "The run folder." },
            "seed": { "anyOf": [{ "type": "integer", "minimum": 0 }, { "$ref": "#/$defs/parameter" }],
                      "default": 0, "description": "The seed of everything random." },
            "budget": { "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string" }],
                        "description": "Bytes of data under way in one process, as a number or as \"4 GiB\"." },
            "quarantine_at_most": { "anyOf": [{ "type": "number", "minimum": 0, "maximum": 1 }, { "$ref": "#/$defs/parameter" }],
                                    "default": 0.01, "description": "The share of units that may be quarantined before the run stops." },
            "on_error": { "enum": ["quarantine", "stop"], "default": "quarantine",
                          "description": "What a unit with wrong content does: it is quarantined, or it stops the run." },
            "steps": { "type": "object", "description": "The steps, from top to bottom.",
                       "propertyNames": { "pattern": "^[A-Za-z][A-Za-z0-9_]*$" },
                       "additionalProperties": { "$ref": "#/$defs/step" } }
        },
        "$defs": definitions
    })
}
