//! Strongroom: backups of a cloud analytics estate that are proven to restore.
//!
//! The modules are the floors of a house. A module names modules on strictly lower floors only
//! (`tests/suite/floors.rs` enforces it); ARCHITECTURE.md has the map.

// floor 0
pub mod model;

// floor 1: pure
pub mod codec;
pub mod config;
pub mod manifest;

// floor 2: pure planning, the saga's machine
pub mod plan;
pub mod saga;

// floor 3
pub mod google;
pub mod report;

// floor 4
pub mod store;

// floor 5
pub mod catalog;
pub mod ingestion;
#[cfg(feature = "query")]
pub mod query;
pub mod source;

// floor 6
pub mod job;

// floor 7
pub mod app;

// floor 8
pub mod worker;

// floor 9
pub mod cli;
