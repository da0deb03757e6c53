//! The record of an SQLite database.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::{ObjectRecord, TableRecord};
use super::streamed::{Item, StreamedRecord};
use crate::model::Totals;
use crate::model::schema::Schema;

/// An SQLite database: the whole file as of one instant, and the figures of its tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SqliteRecord {
    pub name: String,
    /// Where the database lay, as a path of its machine.
    pub path: String,
    pub taken_at: Timestamp,
    /// The database, in one file without a log: opened by any SQLite.
    pub database: ObjectRecord,
    /// Whether a write-ahead log lay beside the database; what was in it is in the copy.
    pub has_wal: bool,
    /// `wal`, `delete`, ...
    pub journal_mode: String,
    /// The permission bits of the file, in octal.
    pub mode: String,
    pub page_count: u64,
    pub page_bytes: u64,
    /// `PRAGMA user_version`: where programs note how far their schema was migrated.
    pub user_version: i64,
    /// Every ordinary table with its figures.
    pub figures: Vec<TableFigures>,
    /// The same tables as Parquet, where that is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a table held, and as what its columns were read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableFigures {
    pub table: String,
    pub schema: Schema,
    /// Columns of mixed values, read as the literals that SQLite's `quote()` gives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quoted: Vec<String>,
    pub totals: Totals,
}

impl StreamedRecord for SqliteRecord {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn origin(&self) -> &str {
        &self.path
    }

    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    fn objects(&self) -> Vec<&ObjectRecord> {
        let tables = self.tables.iter().flat_map(|table| std::iter::once(&table.meta).chain(&table.objects));
        std::iter::once(&self.database).chain(tables).collect()
    }

    fn tables(&self) -> &[TableRecord] {
        &self.tables
    }

    fn items(&self) -> Vec<Item> {
        let wal = if self.has_wal { ", with what was in its write-ahead log" } else { "" };
        let database = Item {
            name: self.path.clone(),
            row_count: None,
            size_bytes: Some(self.database.digests.size_bytes),
            proven: Some(true),
            remark: format!("the database in one file{wal}"),
        };
        let tables = self.figures.iter().map(|table| Item {
            name: table.table.clone(),
            row_count: Some(table.totals.row_count),
            size_bytes: None,
            proven: Some(true),
            remark: String::new(),
        });
        std::iter::once(database).chain(tables).collect()
    }
}
