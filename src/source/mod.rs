//! What can be backed up, one file a kind: its inventory, its capture, its restore.
//!
//! Does not know the saga, the catalog or the configuration's text.

pub mod bigquery;
pub mod sheets;
