//! Names of BigQuery's datasets and tables, checked once at the edge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is no valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a {what}; hint: {hint}")]
pub struct InvalidName {
    pub what: &'static str,
    pub text: String,
    pub hint: &'static str,
}

/// `project.dataset`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DatasetId {
    project: String,
    dataset: String,
}

/// `project.dataset.table`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TableId {
    dataset: DatasetId,
    table: String,
}

const PROJECT_HINT: &str = "6 to 30 lowercase letters, digits and hyphens, optionally prefixed by 'domain:'";
const DATASET_HINT: &str = "1 to 1024 letters, digits and underscores";
const TABLE_HINT: &str = "1 to 1024 bytes of letters, digits, marks, underscores, dashes and spaces";

impl DatasetId {
    /// # Errors
    /// When either part breaks BigQuery's rules for names.
    pub fn new(project: &str, dataset: &str) -> Result<Self, InvalidName> {
        let project_ok = (1..=100).contains(&project.len())
            && project.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '_'));
        if !project_ok {
            return Err(InvalidName { what: "project", text: project.into(), hint: PROJECT_HINT });
        }
        let dataset_ok =
            (1..=1024).contains(&dataset.len()) && dataset.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !dataset_ok {
            return Err(InvalidName { what: "dataset", text: dataset.into(), hint: DATASET_HINT });
        }
        Ok(Self { project: project.into(), dataset: dataset.into() })
    }

    pub fn project(&self) -> &str {
        &self.project
    }

    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// # Errors
    /// When the table's name breaks BigQuery's rules.
    pub fn table(&self, table: &str) -> Result<TableId, InvalidName> {
        // https://cloud.google.com/bigquery/docs/tables#table_naming: Unicode categories L, M, N, Pc, Pd, Zs.
        let ok = (1..=1024).contains(&table.len())
            && table
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ') || (!c.is_ascii() && !c.is_control()));
        if !ok {
            return Err(InvalidName { what: "table", text: table.into(), hint: TABLE_HINT });
        }
        Ok(TableId { dataset: self.clone(), table: table.into() })
    }
}

impl TableId {
    pub fn dataset_id(&self) -> &DatasetId {
        &self.dataset
    }

    pub fn project(&self) -> &str {
        &self.dataset.project
    }

    pub fn dataset(&self) -> &str {
        &self.dataset.dataset
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    /// The name between back quotes, for use in a query. Names hold no back quotes by construction.
    pub fn sql(&self) -> String {
        format!("`{self}`")
    }
}

impl fmt::Display for DatasetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.project, self.dataset)
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.dataset, self.table)
    }
}

impl FromStr for DatasetId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (project, dataset) = text.rsplit_once('.').ok_or_else(|| InvalidName {
            what: "dataset",
            text: text.into(),
            hint: "write it as project.dataset",
        })?;
        Self::new(project, dataset)
    }
}

impl FromStr for TableId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (dataset, table) = text.rsplit_once('.').ok_or_else(|| InvalidName {
            what: "table",
            text: text.into(),
            hint: "write it as project.dataset.table",
        })?;
        dataset.parse::<DatasetId>()?.table(table)
    }
}

impl From<DatasetId> for String {
    fn from(id: DatasetId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for DatasetId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<TableId> for String {
    fn from(id: TableId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for TableId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_printed() {
        let id: TableId = "my-project.sales.fct usage-daily".parse().unwrap();
        assert_eq!((id.project(), id.dataset(), id.table()), ("my-project", "sales", "fct usage-daily"));
        assert_eq!(id.to_string(), "my-project.sales.fct usage-daily");
    }

    #[test]
    fn a_name_that_could_leave_its_quotes_is_refused() {
        for text in ["p.d.a`b", "p.d;x.t", "p", "p.d.", "p`.d.t", "p.d.a/b", "p.d.$x"] {
            assert!(text.parse::<TableId>().is_err(), "{text}");
        }
    }
}
