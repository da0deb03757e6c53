//! (configuration, facts, now) to plans: what would be done, all of it, before anything is.
//!
//! Pure: `now` and every name that must be unique are arguments. A dry run prints a plan and stops.

pub mod archives;
pub mod backup;
pub mod buckets;
pub mod compare;
pub mod copies;
pub mod cost;
pub mod diff;
pub mod drill;
pub mod emptied;
pub mod facts;
pub mod figures;
mod format;
pub mod garbage;
mod order;
pub mod partitions;
pub mod proof;
pub mod queries;
pub mod restore;
pub mod retention;
#[cfg(test)]
mod retention_tests;
pub mod schedule;
pub mod staging;
pub mod streamed;
pub mod watch;
pub mod witness;

use serde::Serialize;

/// Why a plan cannot be made; a plan's refusals are told all at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What it is about: a table, a bucket, a job.
    pub object: String,
    pub message: String,
    pub hint: String,
}

impl Refusal {
    pub(crate) fn new(object: impl ToString, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { object: object.to_string(), message: message.into(), hint: hint.into() }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; hint: {}", self.object, self.message, self.hint)
    }
}
