//! Cloud Storage.

pub mod objects;

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

/// Starts what acts as time goes by.
///
/// # Errors
/// When the data directory cannot be read.
pub fn start(_sandbox: &Arc<Sandbox>) -> Result<(), ApiError> {
    Ok(())
}
