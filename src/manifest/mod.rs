//! The stored record of a backup: what was taken, when, and how to prove that it is whole.
//!
//! A backup exists when its manifest exists. Beside it lies a statement of its digest, and over all the chronicle of what was
//! committed and removed; both are signed where there is a key. Knows nothing of where they are kept.

pub mod chronicle;
mod doubt;
mod read;
mod record;
pub mod signed;
mod statement;

pub use doubt::{Doubt, DoubtKind};
pub use read::{FORMAT, ManifestError, read, write};
pub use record::{
    BigQueryRecord, Manifest, ObjectRecord, PauseRecord, Previous, QueryResult, RoutineRecord, SheetsRecord,
    SourceRecord, StepTiming, TabRecord, TableRecord, ViewRecord, folder_of,
};
pub use statement::{Found, Statement, judge};
