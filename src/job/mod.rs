//! What Strongroom does, one file a verb: plan, then a saga of steps, then a record.

pub mod backup;
pub mod buckets;
mod capture;
pub mod census;
mod contents;
mod context;
pub mod copies;
pub mod diff;
pub mod drill;
mod garbage;
pub mod index;
pub mod ingest;
pub mod inspect;
mod lifecycle;
pub mod listing;
mod parallel;
pub mod pin;
#[cfg(feature = "query")]
pub mod query;
pub mod recover;
pub mod removal;
pub mod repair;
pub mod report;
pub mod restore;
pub mod retention;
pub mod rotation;
mod run;
pub mod schedule;
pub mod sealing;
pub mod sign;
mod staging;
pub mod stats;
pub mod status;
mod streamed;
pub mod usage;
pub mod validate;
pub mod verify;
pub mod witness;

pub use context::{Context, JobError, Opener};
pub use run::new_id as new_run_id;
