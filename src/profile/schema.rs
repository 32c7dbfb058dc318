//! The JSON Schema of profiles and packs, for editors: made from the description, so that it
//! cannot say anything else than the loader.

use serde_json::{Map, Value, json};

use super::describe::{Key, LEVEL, PACK, Shape, Text};
use crate::model::{Bytes, Count, Quantity, Span};

/// The schema of a level file, and as `$defs/pack` that of a pack.
pub fn schema() -> String {
    let mut schema = table(&LEVEL);
    if let Value::Object(object) = &mut schema {
        object.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("title".to_owned(), json!("Rung profile"));
        object.insert("$defs".to_owned(), json!({ "pack": table(&PACK) }));
    }
    format!("{schema:#}\n")
}

/// Every key a level file may have, as a path (`filesystem.tmp.size`), in the description's order.
pub fn key_paths() -> Vec<String> {
    fn walk(keys: &[Key], prefix: &str, paths: &mut Vec<String>) {
        for key in keys {
            let path = if prefix.is_empty() {
                key.name.to_owned()
            } else {
                format!("{prefix}.{}", key.name)
            };
            paths.push(path.clone());
            inside(&key.shape, &path, paths);
        }
    }
    fn inside(shape: &Shape, path: &str, paths: &mut Vec<String>) {
        match shape {
            Shape::Table(keys) => walk(keys, path, paths),
            Shape::List(of) | Shape::Map(_, of) => inside(of, path, paths),
            Shape::Either(shapes) => shapes.iter().for_each(|it| inside(it, path, paths)),
            Shape::Text(_)
            | Shape::Bool
            | Shape::Whole(..)
            | Shape::Choice(_)
            | Shape::Size
            | Shape::Count
            | Shape::Time => {}
        }
    }
    let mut paths = Vec::new();
    walk(&LEVEL, "", &mut paths);
    paths
}

fn table(keys: &[Key]) -> Value {
    let mut properties = Map::new();
    for key in keys {
        let mut property = shape(&key.shape);
        if let Value::Object(object) = &mut property {
            object.insert("description".to_owned(), json!(key.doc));
        }
        properties.insert(key.name.to_owned(), property);
    }
    let mut object = Map::new();
    object.insert("type".to_owned(), json!("object"));
    object.insert("properties".to_owned(), Value::Object(properties));
    let required: Vec<&str> = keys.iter().filter(|it| it.required).map(|it| it.name).collect();
    if !required.is_empty() {
        object.insert("required".to_owned(), json!(required));
    }
    object.insert("additionalProperties".to_owned(), json!(false));
    Value::Object(object)
}

fn shape(of: &Shape) -> Value {
    match of {
        Shape::Text(text) => match pattern(*text) {
            Some(pattern) => json!({ "type": "string", "pattern": pattern }),
            None => json!({ "type": "string" }),
        },
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Whole(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Shape::Choice(words) => json!({ "enum": words }),
        Shape::Size => quantity::<Bytes>(),
        Shape::Count => {
            json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, quantity::<Count>()] })
        }
        Shape::Time => quantity::<Span>(),
        Shape::List(of) => json!({ "type": "array", "items": shape(of) }),
        Shape::Table(keys) => table(keys),
        Shape::Map(text, of) => {
            let mut object = json!({ "type": "object", "additionalProperties": shape(of) });
            if let (Value::Object(object), Some(pattern)) = (&mut object, pattern(*text)) {
                object.insert("propertyNames".to_owned(), json!({ "pattern": pattern }));
            }
            object
        }
        Shape::Either(shapes) => {
            json!({ "anyOf": shapes.iter().map(shape).collect::<Vec<_>>() })
        }
    }
}

/// What an editor can check; the loader checks more.
fn pattern(text: Text) -> Option<&'static str> {
    Some(match text {
        Text::Name => "^[a-z0-9_-]+$",
        Text::RuleId => "^[a-z0-9_-]+(\\.[a-z0-9_-]+)*$",
        Text::ReadPath | Text::WritePath | Text::HiddenPath => "^(/|~/)",
        Text::WorkspacePath => "^[^/~]",
        Text::Host => "^((\\*\\.)?[a-z0-9.-]+|[0-9a-f.:/]+)$",
        Text::Ports => "^[1-9][0-9]*-[1-9][0-9]*$",
        Text::Range => "^[0-9a-f.:]+(/[0-9]+)?$",
        Text::Resolver => "^[0-9a-f.:\\[\\]]+$",
        Text::Variable => "^[A-Za-z_][A-Za-z0-9_]*$",
        Text::Program | Text::ProgramPattern | Text::Caller => "^[^/]+$",
        Text::GuardedVariable => "^[A-Za-z_][A-Za-z0-9_]*\\*?$",
        Text::OptionName => "^[-+]",
        Text::Method => "^[A-Z]+$",
        Text::UrlPath => "^/",
        Text::Sentence | Text::VariableValue | Text::Word | Text::Example => return None,
    })
}

fn quantity<Q: Quantity>() -> Value {
    let units: Vec<&str> = Q::UNITS.iter().map(|it| it.0).filter(|it| !it.is_empty()).collect();
    let optional = if Q::UNITS.iter().any(|it| it.0.is_empty()) { "?" } else { "" };
    json!({ "type": "string", "pattern": format!("^[0-9]+ ?({}){optional}$", units.join("|")) })
}
