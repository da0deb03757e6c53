//! Errors over HTTP: `application/problem+json` (RFC 9457), with the exit code that the command line would have given.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::app::{self, Exit};
use crate::job::JobError;
use crate::model::Failure;
use crate::plan::Refusal;

/// What went wrong with a call.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// A stable name, such as `refused`.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refusals: Vec<Refusal>,
}

impl Problem {
    pub fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        let kind = format!("urn:strongroom:problem:{kind}");
        Self { kind, title, status: status.as_u16(), detail: detail.into(), refusals: vec![] }
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    pub fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub const fn title(&self) -> &'static str {
        self.title
    }

    /// What stands against a plan.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }
}

impl From<JobError> for Problem {
    fn from(error: JobError) -> Self {
        let exit = app::of_error(&error);
        let status = match exit {
            Exit::Refused | Exit::Locked => StatusCode::CONFLICT,
            Exit::NotFound => StatusCode::NOT_FOUND,
            Exit::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
            // Not the caller's rights, but the worker's own.
            Exit::Denied => StatusCode::BAD_GATEWAY,
            _ => of_failure(&error),
        };
        let kind = exit.name().replace('_', "-");
        let detail = error.to_string();
        let refusals = if let JobError::Refused(refusals) = error { refusals } else { vec![] };
        Self { refusals, ..Self::new(status, &kind, detail) }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        JobError::from(failure).into()
    }
}

fn of_failure(error: &JobError) -> StatusCode {
    match error {
        JobError::Step { cause, .. } => of_failure(cause),
        JobError::Failure(Failure::Transient { .. } | Failure::Unknown { .. }) => StatusCode::SERVICE_UNAVAILABLE,
        JobError::Failure(Failure::Precondition { .. } | Failure::Exists { .. }) => StatusCode::CONFLICT,
        JobError::Failure(Failure::Invalid { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("10"));
            }
            _ => {}
        }
        // For pages, which say the same in their own form.
        response.extensions_mut().insert(self);
        response
    }
}
