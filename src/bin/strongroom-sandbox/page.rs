//! The page at `/`: what the sandbox holds, for a person.

use std::sync::Arc;

use axum::response::{Html, IntoResponse, Response};

use crate::core::{ApiError, Sandbox};

/// The page.
///
/// # Errors
/// When the state cannot be read.
pub fn serve(sandbox: &Arc<Sandbox>) -> Result<Response, ApiError> {
    Ok(Html(format!("<title>Sandbox</title><p>{}", sandbox.base_url())).into_response())
}
