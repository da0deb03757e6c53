//! Partial responses: `fields=a,b/c,items(name,size)`. Also the dotted form of the newer APIs. Knows no resource.

use serde_json::{Map, Value};

use super::ApiError;

/// A parsed selector: names with what is selected below them; nothing below means the whole value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector(Vec<(String, Selector)>);

impl Selector {
    /// # Errors
    /// 400 when parentheses do not match or a name is missing.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut rest = text;
        let selector = list(&mut rest, 0).filter(|_| rest.is_empty());
        selector.ok_or_else(|| {
            ApiError::new(400, "invalidParameter", format!("Invalid field selection {text}")).at("parameter", "fields")
        })
    }

    /// What of `value` the selector asks for.
    pub fn apply(&self, value: &Value) -> Value {
        if self.0.is_empty() {
            return value.clone();
        }
        match value {
            Value::Object(map) => {
                let mut out = Map::new();
                for (key, inner) in map {
                    let mut picked: Option<Value> = None;
                    for (_, below) in self.0.iter().filter(|(name, _)| name == key || name == "*") {
                        let part = below.apply(inner);
                        picked = Some(match picked {
                            None => part,
                            Some(other) => merge(other, part),
                        });
                    }
                    // A selected object of which nothing is left is not sent.
                    let empty = |v: &Value| v.as_object().is_some_and(Map::is_empty) && *v != *inner;
                    if let Some(part) = picked.filter(|p| !empty(p)) {
                        out.insert(key.clone(), part);
                    }
                }
                Value::Object(out)
            }
            Value::Array(items) => Value::Array(items.iter().map(|v| self.apply(v)).collect()),
            other => other.clone(),
        }
    }
}

fn merge(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Object(mut a), Value::Object(b)) => {
            for (key, value) in b {
                let merged = match a.remove(&key) {
                    Some(old) => merge(old, value),
                    None => value,
                };
                a.insert(key, merged);
            }
            Value::Object(a)
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            Value::Array(a.into_iter().zip(b).map(|(a, b)| merge(a, b)).collect())
        }
        (_, b) => b,
    }
}

fn list(rest: &mut &str, depth: usize) -> Option<Selector> {
    if depth > 32 {
        return None;
    }
    let mut entries = Vec::new();
    loop {
        entries.push(path(rest, depth)?);
        match rest.strip_prefix(',') {
            Some(after) => *rest = after,
            None => return Some(Selector(entries)),
        }
    }
}

fn path(rest: &mut &str, depth: usize) -> Option<(String, Selector)> {
    let end = rest.find([',', '/', '.', '(', ')']).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    let name = name.trim();
    if name.is_empty() || depth > 32 {
        return None;
    }
    *rest = after;
    let below = if let Some(after) = rest.strip_prefix(['/', '.']) {
        *rest = after;
        Selector(vec![path(rest, depth + 1)?])
    } else if let Some(after) = rest.strip_prefix('(') {
        *rest = after;
        let inner = list(rest, depth + 1)?;
        *rest = rest.strip_prefix(')')?;
        inner
    } else {
        Selector::default()
    };
    Some((name.to_string(), below))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selections_keep_what_they_name() {
        let value = json!({ "kind": "k", "items": [{ "a": 1, "b": { "c": 2, "d": 3 } }, { "b": {} }], "n": "t" });
        let pick = |f: &str| Selector::parse(f).unwrap().apply(&value);
        assert_eq!(pick("n,items/a"), json!({ "items": [{ "a": 1 }, {}], "n": "t" }));
        assert_eq!(pick("items(a,b/c)"), json!({ "items": [{ "a": 1, "b": { "c": 2 } }, { "b": {} }] }));
        assert_eq!(pick("items.b.c,items.b.d")["items"][0], json!({ "b": { "c": 2, "d": 3 } }));
        assert_eq!(pick("*"), value);
        assert_eq!(pick("nosuch"), json!({}));
        for bad in ["a(", "a)", ",", "a(b", "a//b"] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
    }
}
