//! Settings of an SQLite database.

use std::path::PathBuf;

use super::reader::Reader;
use crate::model::Period;

/// An SQLite database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteSource {
    pub path: PathBuf,
    /// How long a database that is locked is asked again.
    pub busy_timeout: Period,
    /// Whether its tables are stored as Parquet, too: for `query`, `diff` and `validate`.
    pub tables: bool,
    /// A database that is not there is passed over, and said so.
    pub optional: bool,
}

pub(super) fn read_sqlite(reader: &mut Reader<'_>) -> Option<SqliteSource> {
    let path = reader.needed_text("path", "the database's file");
    let busy_timeout = reader.parsed("busy_timeout").unwrap_or(Period::seconds(30));
    let tables = reader.flag("tables").unwrap_or(true);
    let optional = reader.flag("optional").unwrap_or(false);
    Some(SqliteSource { path: path?.into(), busy_timeout, tables, optional })
}
