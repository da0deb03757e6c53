//! Statements: from a syntax tree to an outcome.

pub mod alter;
pub mod create;
pub mod dml;
pub mod legacy;
pub mod merge;
pub mod options;
pub mod params;
pub mod run;
pub mod script;
pub mod types;
