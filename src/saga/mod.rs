//! A run of steps with a log that survives the process, and undos that are data.
//!
//! Knows nothing of backups, stores or services: what a step does is a future that the job hands in, where the log is
//! kept is behind [`Journal`], and an undo is a JSON value that the job, or a later `recover`, carries out.

mod log;
mod runner;

pub use log::{Entry, Log, LogError, Outcome, Record};
pub use runner::{Clock, Done, Journal, Observer, Saga, SagaError};
