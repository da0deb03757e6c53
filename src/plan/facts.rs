//! What the inventory found: the world as the plans see it.

use serde_json::Value;

use super::streamed::StreamedFacts;
use crate::model::{DatasetId, Place, TableId};

/// All that a backup's plan rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupFacts {
    pub sources: Vec<SourceFacts>,
    /// The tier's destinations, in the configuration's order.
    pub destinations: Vec<DestinationFacts>,
    /// The staging bucket, where the tier needs one and one is named.
    pub staging: Option<DestinationFacts>,
    pub ingestion: Vec<IngestionFacts>,
    /// Of the Cloud KMS key that the tier is sealed with.
    pub sealing_key: Option<SealingKeyFacts>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SourceFacts {
    BigQuery(BigQueryFacts),
    Sheets(SheetsFacts),
    Streamed(StreamedFacts),
}

#[derive(Debug, Clone, PartialEq)]
pub struct BigQueryFacts {
    /// The source's name in the configuration.
    pub name: String,
    pub dataset: DatasetId,
    /// The dataset's whole resource.
    pub resource: Value,
    /// Every table of the dataset, of every kind.
    pub tables: Vec<TableFacts>,
    /// Names and whole resources.
    pub routines: Vec<(String, Value)>,
    /// The snapshot dataset's location; `None` when it does not exist yet.
    pub snapshot_location: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TableFacts {
    pub id: TableId,
    /// As BigQuery says: `TABLE`, `VIEW`, `MATERIALIZED_VIEW`, `EXTERNAL`, `SNAPSHOT`.
    pub kind: String,
    /// The whole resource.
    pub resource: Value,
    pub row_policies: Vec<Value>,
    /// The IAM policy; `None` when the table has none of its own.
    pub iam: Option<Value>,
    /// Rows that this program may see; asked only where a row access policy exists.
    pub visible_rows: Option<u64>,
    /// Ids of the partitions; asked only of tables partitioned by ingestion time.
    pub partitions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SheetsFacts {
    pub name: String,
    pub spreadsheet: String,
    pub title: String,
    /// Every tab, in order.
    pub tabs: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DestinationFacts {
    pub place: Place,
    /// `None`: it does not exist.
    pub location: Option<String>,
    /// A locked retention policy is on the bucket.
    pub retention_locked: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SealingKeyFacts {
    Missing,
    /// Whoever may encrypt need not be allowed to look.
    Hidden,
    Found {
        purpose: String,
        /// Of the version that encrypts.
        state: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct IngestionFacts {
    pub job: String,
    /// `ENABLED`, `PAUSED`, `DISABLED`, ... ; `None`: there is no such job.
    pub state: Option<String>,
}

impl TableFacts {
    /// An int64 of the resource, which Google's JSON writes as a text.
    pub fn count(&self, key: &str) -> u64 {
        count(&self.resource, key)
    }
}

/// An int64 of a resource, which Google's JSON writes as a text.
pub fn count(resource: &Value, key: &str) -> u64 {
    match &resource[key] {
        Value::String(text) => text.parse().unwrap_or(0),
        other => other.as_u64().unwrap_or(0),
    }
}
