//! BigQuery v2.

pub mod sql;

use std::sync::Arc;

use axum::Router;

use crate::core::Sandbox;

/// BigQuery's routes: `/bigquery/v2/...`, `/upload/bigquery/v2/...`, `/projects/...`. It must not set a fallback
/// (every other path goes to the other services). State is the service's own: clone the `Arc` into it.
pub fn router(_sandbox: &Arc<Sandbox>) -> Router {
    Router::new()
}
