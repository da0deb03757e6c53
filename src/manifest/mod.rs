//! The stored record of a backup: what was taken, when, and how to prove that it is whole.
//!
//! A backup exists when its manifest exists. Beside it lies a statement of its digest, and over all the chronicle of what was
//! committed and removed; both are signed where there is a key. Knows nothing of where they are kept.

pub mod chronicle;
mod doubt;
mod files;
mod postgres;
mod read;
mod record;
mod secrets;
pub mod signed;
mod sqlite;
mod statement;
mod streamed;
pub mod usage;

pub use doubt::{Doubt, DoubtKind};
pub use files::{ArchiveRecord, FilesRecord, ListedFile};
pub use postgres::{
    DatabaseGrant, DatabaseProperties, DatabaseSetting, DumpRecord, ExtensionRecord, LargeObjects, PostgresRecord,
    PostgresTable, SequenceRecord,
};
pub use read::{FORMAT, ManifestError, UNSEALED_FORMAT, read, write};
pub use record::{
    BigQueryRecord, Manifest, ObjectRecord, PauseRecord, Previous, QueryResult, RoutineRecord, SealingRecord,
    SheetsRecord, SourceRecord, StepTiming, StoredForm, TabRecord, TableRecord, ViewRecord, WrappedIdentity, folder_of,
};
pub use secrets::{SecretEntry, SecretsRecord};
pub use sqlite::{SqliteRecord, TableFigures};
pub use statement::{Found, Statement, judge};
pub use streamed::{Item, StreamedRecord};
pub use usage::UsageRecord;
