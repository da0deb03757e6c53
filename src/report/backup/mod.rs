//! Reports of backups: the document, and what is made of it for people.

mod document;
mod page;
mod text;

pub use document::{BackupLine, BackupReport, CheckLine, CheckState, CopyLine, StoredTable, Verification};
pub use page::{body, page};
pub(super) use text::item_table;
pub use text::{manifest, manifest_line, plan, report as text};

use crate::manifest::TableRecord;

fn proven(record: &TableRecord) -> &'static str {
    match &record.proof {
        Some(proof) if proof.fingerprint.is_some() => "rows and figures",
        Some(_) => "figures",
        None => "row count",
    }
}
