//! The sandbox's BigQuery.

pub mod sql;
