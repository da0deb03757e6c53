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
