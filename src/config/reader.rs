//! Reads typed values out of a TOML table and notes every problem on the way, each with its path.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use toml::{Table, Value};

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path of the key: `tiers.daily.keep`, `source[0].dataset`.
    pub path: String,
    pub message: String,
}

/// All that is wrong with a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    found: Vec<Problem>,
    /// Every key that was asked for, given or not.
    asked: BTreeSet<String>,
}

impl Problems {
    pub(super) fn add(&mut self, path: &str, message: impl Into<String>) {
        // A value that the environment lacks was reported already: what follows from it is noise.
        if !self.found.iter().any(|problem| problem.path == path) {
            self.found.push(Problem { path: path.into(), message: message.into() });
        }
    }

    pub(super) fn syntax(error: &toml::de::Error, text: &str) -> Self {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        let found = vec![Problem { path: format!("line {line}"), message: error.message().into() }];
        Self { found, asked: BTreeSet::new() }
    }

    /// Every key that was asked for, given or not.
    pub(super) fn asked(&self) -> impl Iterator<Item = &str> {
        self.asked.iter().map(String::as_str)
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.found.iter()
    }

    pub fn len(&self) -> usize {
        self.found.len()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.found.len() == 1 { "problem" } else { "problems" };
        write!(f, "the configuration has {} {plural}:", self.found.len())?;
        for problem in &self.found {
            write!(f, "\n  {}: {}", problem.path, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A table being read: what is not taken by the end is an unknown key.
pub(super) struct Reader<'a> {
    path: String,
    table: Table,
    known: Vec<&'static str>,
    problems: &'a mut Problems,
}

impl<'a> Reader<'a> {
    pub fn new(path: &str, table: Table, problems: &'a mut Problems) -> Self {
        Self { path: path.into(), table, known: Vec::new(), problems }
    }

    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }

    pub fn problem(&mut self, key: &str, message: impl Into<String>) {
        let path = self.path_of(key);
        self.problems.add(&path, message);
    }

    pub fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    pub fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        let path = self.path_of(key);
        self.problems.asked.insert(path);
        self.table.remove(key)
    }

    /// A string, or `None` when it is absent or empty.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(text),
            other => {
                self.problem(key, format!("must be a string, not {}", kind(&other)));
                None
            }
        }
    }

    pub fn needed_text(&mut self, key: &'static str, hint: &str) -> Option<String> {
        let reported = self.problems.len();
        let text = self.text(key);
        if text.is_none() && self.problems.len() == reported {
            self.problem(key, format!("is missing; hint: {hint}"));
        }
        text
    }

    /// A string parsed into `T`; absent gives `None`, wrong gives a problem and `None`.
    pub fn parsed<T: FromStr>(&mut self, key: &'static str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        let text = self.text(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(key, error.to_string());
                None
            }
        }
    }

    pub fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        match self.take(key)? {
            Value::Array(items) => {
                let mut texts = Vec::new();
                for (i, item) in items.into_iter().enumerate() {
                    match item {
                        Value::String(text) => texts.push(text),
                        other => {
                            let path = format!("{}[{i}]", self.path_of(key));
                            self.problems.add(&path, format!("must be a string, not {}", kind(&other)));
                        }
                    }
                }
                Some(texts)
            }
            other => {
                self.problem(key, format!("must be a list of strings, not {}", kind(&other)));
                None
            }
        }
    }

    pub fn count(&mut self, key: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(key)?;
        match value.as_integer().and_then(|n| u64::try_from(n).ok()).filter(|n| range.contains(n)) {
            Some(n) => Some(n),
            None => {
                self.problem(key, format!("must be a whole number from {} to {}", range.start(), range.end()));
                None
            }
        }
    }

    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        match self.take(key)? {
            Value::Boolean(on) => Some(on),
            other => {
                self.problem(key, format!("must be true or false, not {}", kind(&other)));
                None
            }
        }
    }

    pub fn tables(&mut self, key: &'static str) -> Vec<(String, Table)> {
        let path = self.path_of(key);
        match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => items
                .into_iter()
                .enumerate()
                .filter_map(|(i, item)| match item {
                    Value::Table(table) => Some((format!("{path}[{i}]"), table)),
                    other => {
                        self.problems.add(&format!("{path}[{i}]"), format!("must be a table, not {}", kind(&other)));
                        None
                    }
                })
                .collect(),
            Some(other) => {
                self.problem(key, format!("must be written as [[{key}]], not as {}", kind(&other)));
                Vec::new()
            }
        }
    }

    pub fn table(&mut self, key: &'static str) -> Option<(String, Table)> {
        let path = self.path_of(key);
        match self.take(key)? {
            Value::Table(table) => Some((path, table)),
            other => {
                self.problem(key, format!("must be a table [{path}], not {}", kind(&other)));
                None
            }
        }
    }

    /// Reports what nobody asked for, with the nearest known key.
    pub fn finish(self) {
        for key in self.table.keys() {
            let near = self.known.iter().filter(|k| close(k, key)).min_by_key(|k| k.len().abs_diff(key.len()));
            let hint = match near {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("known keys: {}", self.known.join(", ")),
            };
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            self.problems.add(&path, format!("is no known key; hint: {hint}"));
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// Whether two keys differ by at most two edits (Levenshtein).
fn close(a: &str, b: &str) -> bool {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()] <= 2
}
