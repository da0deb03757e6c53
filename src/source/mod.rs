//! What can be backed up, one file or folder a kind: its inventory, its capture, its restore.
//!
//! Does not know the saga, the catalog or the configuration's text.

pub mod bigquery;
pub mod files;
pub mod postgres;
pub mod secrets;
pub mod sheets;
pub mod sqlite;
pub mod streamed;
#[cfg(test)]
mod testing;
pub mod usage;

use self::streamed::{Checked, Vault};
use crate::manifest::SourceRecord;
use crate::model::Failure;

/// Holds what a source's objects contain against its record: no system that it was taken of is asked.
///
/// # Errors
/// The vault's own; `Corrupt` when an object's content is not of its format.
pub async fn check(record: &SourceRecord, vault: &dyn Vault) -> Result<Checked, Failure> {
    match record {
        SourceRecord::Postgres(record) => postgres::check(record, vault).await,
        SourceRecord::Sqlite(record) => sqlite::check(record, vault).await,
        SourceRecord::Files(record) => files::check(record, vault).await,
        _ => Ok(Checked::default()),
    }
}
