//! `${NAME}` and `${NAME:-default}` in the strings of a configuration.
//!
//! Works on parsed strings, so that a value from the environment can never change the configuration's structure.

use toml::{Table, Value};

use super::reader::Problems;

pub(super) fn table(table: Table, environment: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) -> Table {
    table.into_iter().map(|(key, value)| (key.clone(), walk(value, &key, environment, problems))).collect()
}

fn walk(value: Value, path: &str, environment: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) -> Value {
    match value {
        Value::String(text) => Value::String(expand(&text, path, environment, problems)),
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .enumerate()
                .map(|(i, item)| walk(item, &format!("{path}[{i}]"), environment, problems))
                .collect(),
        ),
        Value::Table(inner) => Value::Table(
            inner
                .into_iter()
                .map(|(key, value)| {
                    let value = walk(value, &format!("{path}.{key}"), environment, problems);
                    (key, value)
                })
                .collect(),
        ),
        other => other,
    }
}

fn expand(text: &str, path: &str, environment: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let Some(length) = rest[start..].find('}') else {
            problems.add(path, format!("'{text}' has a '${{' without its '}}'"));
            return out;
        };
        let inside = &rest[start + 2..start + length];
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        match environment(name).filter(|value| !value.is_empty()).or(default.map(String::from)) {
            Some(value) => out.push_str(&value),
            None => problems.add(
                path,
                format!(
                    "the environment variable {name} is not set; hint: export {name}=..., or write ${{{name}:-default}}"
                ),
            ),
        }
        rest = &rest[start + length + 1..];
    }
    out + rest
}

/// The variables that a text takes in.
pub(super) fn variables(text: &str) -> Vec<String> {
    let names = text.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    names.map(|(inside, _)| inside.split(":-").next().unwrap_or(inside).to_string()).collect()
}
