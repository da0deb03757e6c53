//! What Strongroom does, one file a verb: plan, then a saga of steps, then a record.

pub mod backup;
mod capture;
mod context;
pub mod diff;
pub mod ingest;
pub mod inspect;
mod parallel;
<<<<<<< HEAD
pub mod pin;
=======
#[cfg(feature = "query")]
pub mod query;
>>>>>>> 78c4d37 (Proof: 256 buckets, rows that differ, SQL over stored files, emptied sources, a million mutations)
pub mod recover;
pub mod restore;
pub mod retention;
mod run;
pub mod status;
pub mod validate;
pub mod verify;

pub use context::{Context, JobError};
