//! Errors in BigQuery's words.

pub use crate::core::ApiError;
