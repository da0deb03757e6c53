//! What a configuration is put together of: the file, over it the environment's well-known variables, over them the command
//! line. Every value keeps where it came from.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use super::reader::Problems;
use super::{environment, interpolate};

/// What there is to put together.
pub struct Layers<'a> {
    /// The file's text; `None`: there is none, and the environment alone must do.
    pub file: Option<&'a str>,
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// `KEY=VALUE` of the command line.
    pub flags: &'a [String],
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Flag(&'static str),
    /// The variable's name.
    Environment(String),
    /// The variables that the file's text takes in.
    File(Vec<String>),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(names) if names.is_empty() => f.write_str("file"),
            Self::File(names) => write!(f, "file, by environment {}", names.join(", ")),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The table of a configuration, and whence each of its values.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Merged {
    pub table: Table,
    origins: BTreeMap<String, Origin>,
}

impl Merged {
    /// Puts all together. What is wrong with the environment or the command line is noted.
    pub fn of(layers: &Layers<'_>, problems: &mut Problems) -> Result<Self, Problems> {
        let text = layers.file.unwrap_or_default();
        let raw: Table = text.parse().map_err(|error: toml::de::Error| Problems::syntax(&error, text))?;
        let mut origins = BTreeMap::new();
        for (path, value) in leaves(&raw) {
            let variables = value.as_str().map(interpolate::variables).unwrap_or_default();
            origins.insert(path, Origin::File(variables));
        }
        let table = interpolate::table(raw, layers.environment, problems);
        let mut merged = Self { table, origins };
        environment::lay(&mut merged, layers.file, layers.environment, problems);
        for setting in layers.flags {
            merged.lay_flag(setting, problems);
        }
        Ok(merged)
    }

    /// Where the value at a path comes from; a path below a value that was set whole has that one's origin.
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or(Origin::Default)
    }

    pub fn set(&mut self, path: &str, value: Value, origin: Origin) -> bool {
        let keys = keys_of(path);
        let Some(slot) = slot(&mut self.table, &keys) else { return false };
        *slot = value;
        self.origins.retain(|other, _| !lies_in(other, path));
        let set = std::mem::replace(slot, Value::Boolean(false));
        for (below, _) in leaves_at(path, &set) {
            self.origins.insert(below, origin.clone());
        }
        if let Some(slot) = self::slot(&mut self.table, &keys) {
            *slot = set;
        }
        true
    }

    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut keys = keys_of(path).into_iter();
        let mut value = self.table.get(keys.next()?.name()?)?;
        for key in keys {
            value = match key {
                Key::Name(name) => value.get(name)?,
                Key::At(index) => value.get(index)?,
            };
        }
        Some(value)
    }

    /// Takes away what is at a path, so that the rest can be looked at.
    pub fn without(&mut self, path: &str) -> bool {
        let mut keys = keys_of(path);
        while let Some(last) = keys.pop() {
            let removed = match (parent(&mut self.table, &keys), &last) {
                (Some(Parent::Table(table)), Key::Name(name)) => table.remove(name).is_some(),
                (Some(Parent::Array(items)), Key::At(index)) if *index < items.len() => {
                    items.remove(*index);
                    true
                }
                _ => false,
            };
            if removed {
                return true;
            }
        }
        false
    }

    fn lay_flag(&mut self, setting: &str, problems: &mut Problems) {
        let Some((path, text)) = setting.split_once('=').map(|(path, text)| (path.trim(), text.trim())) else {
            problems.add("--set", "is no setting; hint: --set tiers.daily.keep=60d");
            return;
        };
        // As in the file, where it is written so; else a text.
        let value = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
        let value = value.unwrap_or_else(|| Value::String(text.into()));
        if !self.set(path, value, Origin::Flag("--set")) {
            problems.add("--set", format!("'{path}' is no key; hint: --set tiers.daily.keep=60d"));
        }
    }

    /// Every value with its path, as the file would have them.
    pub fn leaves(&self) -> Vec<(String, Value)> {
        leaves(&self.table)
    }
}

#[derive(Debug, PartialEq)]
enum Key {
    Name(String),
    At(usize),
}

impl Key {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::At(_) => None,
        }
    }
}

/// `a.b[0].c` in its parts.
fn keys_of(path: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    for part in path.split('.') {
        let (name, indices) = part.split_once('[').unwrap_or((part, ""));
        keys.push(Key::Name(name.into()));
        keys.extend(indices.split('[').filter_map(|index| index.trim_end_matches(']').parse().ok()).map(Key::At));
    }
    keys
}

enum Parent<'a> {
    Table(&'a mut Table),
    Array(&'a mut Vec<Value>),
}

fn parent<'a>(table: &'a mut Table, keys: &[Key]) -> Option<Parent<'a>> {
    let mut at = Parent::Table(table);
    for key in keys {
        let value = match (at, key) {
            (Parent::Table(table), Key::Name(name)) => table.get_mut(name)?,
            (Parent::Array(items), Key::At(index)) => items.get_mut(*index)?,
            _ => return None,
        };
        at = match value {
            Value::Table(table) => Parent::Table(table),
            Value::Array(items) => Parent::Array(items),
            _ => return None,
        };
    }
    Some(at)
}

/// The place of a value; tables on the way, and an element behind the last, are made.
fn slot<'a>(table: &'a mut Table, keys: &[Key]) -> Option<&'a mut Value> {
    let (first, rest) = keys.split_first()?;
    let name = first.name().filter(|name| !name.is_empty())?;
    let made = match rest.first() {
        Some(Key::At(_)) => Value::Array(vec![]),
        _ => Value::Table(Table::new()),
    };
    let mut value = table.entry(name).or_insert(made);
    for (i, key) in rest.iter().enumerate() {
        let made = match rest.get(i + 1) {
            Some(Key::At(_)) => Value::Array(vec![]),
            _ => Value::Table(Table::new()),
        };
        value = match (value, key) {
            (Value::Table(table), Key::Name(name)) if !name.is_empty() => table.entry(name).or_insert(made),
            (Value::Array(items), Key::At(index)) => {
                if items.len() == *index {
                    items.push(made);
                }
                items.get_mut(*index)?
            }
            _ => return None,
        };
    }
    Some(value)
}

fn lies_in(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn leaves(table: &Table) -> Vec<(String, Value)> {
    table.iter().flat_map(|(key, value)| leaves_at(key, value)).collect()
}

/// A list of plain values is one value.
fn leaves_at(path: &str, value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Table(table) => {
            table.iter().flat_map(|(key, value)| leaves_at(&format!("{path}.{key}"), value)).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(i, item)| leaves_at(&format!("{path}[{i}]"), item)).collect()
        }
        plain => vec![(path.into(), plain.clone())],
    }
}
