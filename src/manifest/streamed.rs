//! What the records of streamed sources have in common: those whose data passes through this process.

use jiff::Timestamp;

use super::record::{ObjectRecord, TableRecord};

/// A streamed source's part of a backup.
pub trait StreamedRecord {
    /// The source's name in the configuration.
    fn name(&self) -> &str;

    /// As in the configuration: `postgres`, `files`, ...
    fn kind(&self) -> &'static str;

    /// What it is a backup of, without secrets: an address, a path.
    fn origin(&self) -> &str;

    /// The instant that the data is of.
    fn taken_at(&self) -> Timestamp;

    /// Every object that the part consists of, tables' among them.
    fn objects(&self) -> Vec<&ObjectRecord>;

    /// Tables that can be queried; their objects are among `objects`.
    fn tables(&self) -> &[TableRecord] {
        &[]
    }

    /// What is in it, for people.
    fn items(&self) -> Vec<Item>;
}

/// A table, a file, a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub name: String,
    pub row_count: Option<u64>,
    pub size_bytes: Option<u64>,
    /// Whether rows and figures were taken of the same state as the data; `None` where there are none.
    pub proven: Option<bool>,
    /// What else is to be said of it: `has_wal`.
    pub remark: String,
}
