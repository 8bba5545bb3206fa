//! `lpm schema`: the JSON schema of lpm.toml, made from the table of settings. Editors that know TOML complete and
//! check by it (`#:schema lpm-toml.schema.json` in the first line of the file).

use serde_json::{Map, Value, json};

use crate::config::table::{self, Default, Row};
use crate::config::value::{Form, Kind};
use crate::error::Error;
use crate::launch::print_json;
use crate::supervisor::Ending;

/// Prints the schema.
///
/// # Errors
/// Standard output cannot be written.
pub fn schema() -> Result<Ending, Error> {
    print_json(&document())
}

/// The schema (JSON Schema, draft 7, which editors of TOML know).
pub fn document() -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "lpm.toml",
        "description": "Settings of a stack that lpm runs, beside its Procfile.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "stack": table_of("Settings of the stack as a whole.", Row::is_of_stack),
            "defaults": table_of("Settings of every instance.", Row::is_of_processes),
            "process": {
                "description": "Settings of a process type (web) or an instance (\"web.2\").",
                "type": "object",
                "additionalProperties": { "$ref": "#/properties/defaults" },
            },
        },
    })
}

fn table_of(description: &str, is_here: fn(&Row) -> bool) -> Value {
    let rows = table::rows().filter(|row| is_here(row));
    let properties: Map<String, Value> = rows.map(|row| (row.key.to_owned(), property(row))).collect();
    json!({
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

fn property(row: &Row) -> Value {
    let mut property = form(row.kind);
    let object = property.as_object_mut().expect("each form is an object");
    object.insert("description".to_owned(), json!(row.means));
    if let Default::Value(text) = row.default {
        object.insert("default".to_owned(), json!(text));
    }
    property
}

/// Every value may be written as text; a number or a truth value also as what it is.
fn form(kind: Kind) -> Value {
    let size = json!({ "type": ["string", "integer"], "pattern": r"^([0-9]+(\.[0-9]+)?[KMGT%]?|infinity)$" });
    match kind {
        Kind::Memory | Kind::Swap | Kind::Tasks => size,
        Kind::Cpu => json!({
            "type": ["string", "number"],
            "minimum": 0.01,
            "pattern": r"^([0-9]+(\.[0-9]+)?%?|infinity)$",
        }),
        Kind::Weight => json!({
            "type": ["string", "integer"], "minimum": 1, "maximum": 10_000, "pattern": "^[0-9]+$",
        }),
        Kind::Number { least, most, .. } => json!({
            "type": ["string", "integer"], "minimum": least, "maximum": most, "pattern": "^-?[0-9]+$",
        }),
        Kind::Span => json!({ "type": ["string", "number"], "minimum": 0 }),
        Kind::Bool => {
            json!({ "anyOf": [{ "type": "boolean" }, { "enum": ["yes", "no", "true", "false", "on", "off", "1", "0", 1, 0] }] })
        }
        Kind::Word { words, .. } => json!({ "enum": words() }),
        Kind::Signal => json!({ "type": ["string", "integer"], "minimum": 1, "maximum": 64 }),
        Kind::Directory | Kind::Sinks => json!({ "type": "string" }),
        Kind::Variables => json!({
            "type": "object",
            "additionalProperties": { "type": ["string", "number", "boolean"] },
        }),
        Kind::Text(Form::Port) => {
            json!({ "type": ["string", "integer"], "minimum": 1, "maximum": 65_535, "pattern": "^[0-9]+$" })
        }
        Kind::Text(Form::PortStep) => {
            json!({ "type": ["string", "integer"], "minimum": 0, "maximum": 65_535, "pattern": "^[0-9]+$" })
        }
        Kind::Text(Form::Address) => json!({ "type": ["string", "integer"] }),
        Kind::Text(Form::Name | Form::Counts | Form::Sinks | Form::Rotation | Form::Kept) => {
            json!({ "type": "string" })
        }
    }
}
