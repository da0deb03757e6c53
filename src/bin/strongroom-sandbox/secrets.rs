//! Secret Manager.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;

use crate::core::{ApiError, Sandbox};

/// Answers a request.
///
/// # Errors
/// As the service words them.
pub async fn serve(_sandbox: &Arc<Sandbox>, request: Request) -> Result<Response, ApiError> {
    Err(ApiError::not_found(format!("no {}", request.uri().path())))
}
