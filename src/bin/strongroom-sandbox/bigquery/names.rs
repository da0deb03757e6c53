//! Table references with their decorators: `t@1700000000000`, `t@-3600000`, `t@0`, `t$20240301`.
//!
//! Knows the grammar only; what a decorator reads is the business of the table's versions.

use std::fmt;

use serde_json::{Value, json};

use crate::core::ApiError;

/// `project`, `dataset` and `table`, in the spelling of the caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct TableRef {
    pub project: String,
    pub dataset: String,
    pub table: String,
}

/// The instant that a decorator or `FOR SYSTEM_TIME AS OF` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Milliseconds since the epoch.
    Ms(i64),
    /// Milliseconds before now.
    Ago(i64),
    /// `@0`: the oldest contents that time travel still has.
    Oldest,
}

/// A table with what stands behind `@` or `$`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decorated {
    pub table: TableRef,
    pub at: Option<At>,
    pub partition: Option<String>,
}

impl TableRef {
    pub fn new(project: &str, dataset: &str, table: &str) -> Self {
        Self { project: project.into(), dataset: dataset.into(), table: table.into() }
    }

    /// The key of the table's record.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.project, self.dataset, self.table)
    }

    /// The `TableReference` of the REST API.
    pub fn json(&self) -> Value {
        json!({"projectId": self.project, "datasetId": self.dataset, "tableId": self.table})
    }

    /// Reads a `TableReference`; the project defaults to the caller's.
    ///
    /// # Errors
    /// When `datasetId` or `tableId` is missing or malformed.
    pub fn from_json(value: &Value, project: &str, what: &str) -> Result<Decorated, ApiError> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
        let project = text("projectId").unwrap_or(project);
        let missing = |field: &str| ApiError::required(format!("Required parameter is missing: {what}.{field}"));
        let dataset = text("datasetId").ok_or_else(|| missing("datasetId"))?;
        let table = text("tableId").ok_or_else(|| missing("tableId"))?;
        Decorated::parse(project, dataset, table)
    }
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}.{}", self.project, self.dataset, self.table)
    }
}

impl Decorated {
    /// Splits the decorators off a table id and checks the names.
    ///
    /// # Errors
    /// `invalid` when a name or decorator is malformed.
    pub fn parse(project: &str, dataset: &str, table: &str) -> Result<Self, ApiError> {
        check_dataset_id(dataset)?;
        let (rest, at) = match table.split_once('@') {
            Some((rest, at)) => (rest, Some(parse_at(table, at)?)),
            None => (table, None),
        };
        let (name, partition) = match rest.split_once('$') {
            Some((name, id)) if !id.is_empty() => (name, Some(id.to_owned())),
            Some(_) => return Err(invalid_table(table)),
            None => (rest, None),
        };
        check_table_id(name)?;
        Ok(Self { table: TableRef::new(project, dataset, name), at, partition })
    }

    /// # Errors
    /// When a decorator is present.
    pub fn plain(self) -> Result<TableRef, ApiError> {
        if self.at.is_some() || self.partition.is_some() {
            let id = &self.table.table;
            return Err(ApiError::invalid(format!("Table decorators are not allowed here: table {id}.")));
        }
        Ok(self.table)
    }
}

fn parse_at(id: &str, text: &str) -> Result<At, ApiError> {
    // Range decorators (`@a-b`) are legacy SQL and read changes, not contents.
    match text.parse::<i64>() {
        Ok(0) => Ok(At::Oldest),
        Ok(ms) if ms < 0 => Ok(At::Ago(-ms)),
        Ok(ms) => Ok(At::Ms(ms)),
        Err(_) => Err(ApiError::invalid(format!("Invalid time travel decorator in table ID \"{id}\"."))),
    }
}

fn invalid_table(id: &str) -> ApiError {
    ApiError::invalid(format!(
        "Invalid table ID \"{id}\". Table IDs must be alphanumeric (plus underscores, dashes, and spaces) and must be at most 1024 characters long. Also, Table decorators cannot be used."
    ))
}

/// # Errors
/// `invalid` when the id breaks BigQuery's rules (Unicode categories L, M, N, Pc, Pd, Zs; at most 1,024 bytes).
pub fn check_table_id(id: &str) -> Result<(), ApiError> {
    let ok = (1..=1024).contains(&id.len())
        && id
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ') || (!c.is_ascii() && !c.is_control()));
    if ok { Ok(()) } else { Err(invalid_table(id)) }
}

/// # Errors
/// `invalid` when the id is not 1 to 1,024 letters, digits and underscores.
pub fn check_dataset_id(id: &str) -> Result<(), ApiError> {
    let ok = (1..=1024).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if ok {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "Invalid dataset ID \"{id}\". Dataset IDs must be alphanumeric (plus underscores and dashes) and must be at most 1024 characters long."
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(table: &str) -> Result<Decorated, ApiError> {
        Decorated::parse("p", "d", table)
    }

    #[test]
    fn decorators_are_split_off() {
        let d = parse("t$20240301").unwrap();
        assert_eq!((d.table.table.as_str(), d.partition.as_deref(), d.at), ("t", Some("20240301"), None));
        assert_eq!(parse("t@1700000000000").unwrap().at, Some(At::Ms(1_700_000_000_000)));
        assert_eq!(parse("t@-3600000").unwrap().at, Some(At::Ago(3_600_000)));
        assert_eq!(parse("t@0").unwrap().at, Some(At::Oldest));
        assert_eq!(parse("fct usage-daily").unwrap().table.to_string(), "p:d.fct usage-daily");
    }

    #[test]
    fn bad_names_are_refused() {
        for id in ["", "a/b", "t$", "t@soon", "a`b", "a.b"] {
            assert!(parse(id).is_err(), "{id}");
        }
        assert!(Decorated::parse("p", "d.e", "t").is_err());
    }
}
