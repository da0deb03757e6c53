//! Plans and manifests to text that people read; JSON is their own serialization.

mod backup;
mod drill;
mod human;
mod restore;
mod retention;
mod table;

pub use backup::{manifest, manifest_line, plan as backup_plan};
pub use drill::{
    BackupLine, DrillLine, DrillReport, Outcome, Signature, TableLine, VERSION as DRILL_VERSION, page as drill_page,
    plan as drill_plan, text as drill_text,
};
pub use human::{bytes, duration, thousands};
pub use restore::plan as restore_plan;
pub use retention::plan as retention_plan;
pub use table::{Align, Table};
