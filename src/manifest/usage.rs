//! Usage records in a backup.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::ObjectRecord;
use super::streamed::{Item, StreamedRecord};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageRecord {
    pub name: String,
    /// The database's address without its password, and the table.
    pub origin: String,
    pub taken_at: Timestamp,
    pub table: String,
    /// `sqlite` or `postgres`.
    pub dialect: String,
    /// In the order of the documents; the first says when.
    pub columns: Vec<UsageColumn>,
    /// How the database writes the time: `native`, `text`, `text_space`, `seconds`, `milliseconds`.
    pub time_form: String,
    /// One, or one a month.
    pub documents: Vec<UsageDocument>,
}

/// A column that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageColumn {
    pub name: String,
    /// As the database declares it.
    #[serde(rename = "type")]
    pub declared: String,
    pub anonymised: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageDocument {
    /// `usage-backup-2026-11-21.json`.
    pub file: String,
    pub object: ObjectRecord,
    pub record_count: u64,
    pub date_range: DateRange,
    pub aggregates: Aggregates,
    /// The sum of the records' fingerprints (FarmHash of a record as it is written), in hex.
    pub fingerprint: String,
}

/// From when to when records are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DateRange {
    pub start: Option<String>,
    pub end: Option<String>,
}

/// What a document sums up.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Aggregates {
    pub total_requests: u64,
    pub total_tokens: i64,
    /// To a thousandth; `null` where nothing was measured.
    pub avg_response_time: Option<f64>,
    /// The part of the requests whose status is below 400, to a thousandth.
    pub success_rate: Option<f64>,
}

impl UsageRecord {
    pub fn record_count(&self) -> u64 {
        self.documents.iter().map(|document| document.record_count).sum()
    }
}

impl StreamedRecord for UsageRecord {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "usage"
    }

    fn origin(&self) -> &str {
        &self.origin
    }

    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    fn objects(&self) -> Vec<&ObjectRecord> {
        self.documents.iter().map(|document| &document.object).collect()
    }

    fn items(&self) -> Vec<Item> {
        let item = |document: &UsageDocument| Item {
            name: document.file.clone(),
            row_count: Some(document.record_count),
            size_bytes: Some(document.object.digests.size_bytes),
            proven: Some(true),
            remark: match self.columns.iter().filter(|column| column.anonymised).count() {
                0 => String::new(),
                _ => "anonymised".into(),
            },
        };
        self.documents.iter().map(item).collect()
    }
}
