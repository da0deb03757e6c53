//! The stored record of a backup: what was taken, when, and how to prove that it is whole.
//!
//! A backup exists when its manifest exists. Knows nothing of where manifests are kept.

mod read;
mod record;

pub use read::{FORMAT, ManifestError, read, write};
pub use record::{
    BigQueryRecord, Manifest, ObjectRecord, PauseRecord, Previous, QueryResult, RoutineRecord, SheetsRecord,
    SourceRecord, StepTiming, TabRecord, TableRecord, ViewRecord,
};
