//! Plans and manifests to text that people read, backups and drills also to pages; JSON is their own serialization.

mod backup;
mod buckets;
mod drill;
mod garbage;
mod human;
mod index;
mod metrics;
pub(crate) mod page;
mod restore;
mod retention;
mod table;

pub use backup::{
    BackupLine, BackupReport, CopyLine, Verification, body as backup_body, manifest, manifest_line,
    page as backup_page, plan as backup_plan, text as backup_text,
};
pub use buckets::plan as buckets_plan;
pub use drill::{
    DrillLine, DrillReport, Outcome, Signature, TableLine, VERSION as DRILL_VERSION, body as drill_body,
    page as drill_page, plan as drill_plan, text as drill_text,
};
pub use garbage::plan as garbage_plan;
pub use human::{bytes, duration, plural, thousands};
pub use index::{INDEX, Indexed, index};
pub use metrics::{BackupSample, CopiesSample, Samples, metrics};
pub use restore::plan as restore_plan;
pub use retention::plan as retention_plan;
pub use table::{Align, Table};
