//! Update masks: a dotted path, in either spelling, names what of a resource changes. Knows no resource.

use serde_json::{Map, Value, json};

/// Sets or removes what a dotted path names.
pub fn put_at(target: &mut Value, path: &str, value: Option<Value>) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else { return };
    match (rest, value) {
        (Some(rest), value) => put_at(map.entry(first).or_insert_with(|| json!({})), rest, value),
        (None, Some(value)) => {
            map.insert(first.into(), value);
        }
        (None, None) => {
            map.remove(first);
        }
    }
}

/// `http_target.uri` -> `httpTarget.uri`.
pub fn camel(text: &str) -> String {
    let mut out = String::new();
    let mut up = false;
    for c in text.chars() {
        match c {
            '_' => up = true,
            c if up => {
                out.extend(c.to_uppercase());
                up = false;
            }
            c => out.push(c),
        }
    }
    out
}
