//! Errors as Google's HTTP APIs answer them. Knows the envelope and the names of statuses, no service.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error of an emulated service: `{"error":{"code","message","errors":[..],"status"}}`.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// The HTTP status.
    pub code: u16,
    /// Google's reason, such as `notFound` or `invalidQuery`.
    pub reason: String,
    /// What a person reads.
    pub message: String,
    /// The canonical status (`NOT_FOUND`); derived from the code when absent.
    pub status: Option<&'static str>,
    /// The parameter or place in question.
    pub location: Option<Box<str>>,
    /// `parameter`, `header`, `other`.
    pub location_type: Option<&'static str>,
    /// Entries for `error.details`, as the newer APIs send them.
    pub details: Box<[Value]>,
}

impl ApiError {
    /// An error with this HTTP status and reason.
    pub fn new(code: u16, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: message.into(),
            status: None,
            location: None,
            location_type: None,
            details: Box::default(),
        }
    }

    /// 400 `invalid`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid", message)
    }

    /// 400 `required`.
    pub fn required(message: impl Into<String>) -> Self {
        Self::new(400, "required", message)
    }

    /// 400 `FAILED_PRECONDITION`.
    pub fn failed_precondition(message: impl Into<String>) -> Self {
        Self { status: Some("FAILED_PRECONDITION"), ..Self::new(400, "failedPrecondition", message) }
    }

    /// 403 with the given reason.
    pub fn forbidden(reason: &str, message: impl Into<String>) -> Self {
        Self::new(403, reason, message)
    }

    /// 404 `notFound`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "notFound", message)
    }

    /// 409 `duplicate` (BigQuery's word).
    pub fn duplicate(message: impl Into<String>) -> Self {
        Self::new(409, "duplicate", message)
    }

    /// 409 `conflict` (Storage's word).
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "conflict", message)
    }

    /// 412 `conditionNotMet`.
    pub fn precondition(message: impl Into<String>) -> Self {
        Self {
            location: Some("If-Match".into()),
            location_type: Some("header"),
            ..Self::new(412, "conditionNotMet", message)
        }
    }

    /// 501 `notImplemented`: Google can, this sandbox cannot.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(501, "notImplemented", message)
    }

    /// 500 `internalError`: a fault of the sandbox.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "internalError", message)
    }

    /// The same error with the place in question.
    #[must_use]
    pub fn at(mut self, location_type: &'static str, location: impl Into<Box<str>>) -> Self {
        self.location_type = Some(location_type);
        self.location = Some(location.into());
        self
    }

    /// The same error with this canonical status.
    #[must_use]
    pub fn with_status(mut self, status: &'static str) -> Self {
        self.status = Some(status);
        self
    }

    /// The canonical status.
    pub fn status(&self) -> &'static str {
        self.status.unwrap_or(match self.code {
            400 | 411 | 413 => "INVALID_ARGUMENT",
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            409 => "ALREADY_EXISTS",
            412 => "FAILED_PRECONDITION",
            416 => "OUT_OF_RANGE",
            429 => "RESOURCE_EXHAUSTED",
            501 => "UNIMPLEMENTED",
            503 => "UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            _ => "INTERNAL",
        })
    }

    /// BigQuery's ErrorProto: what stands in a job's `status.errorResult`.
    pub fn error_proto(&self) -> Value {
        let mut proto = json!({ "reason": self.reason, "message": self.message });
        if let Some(location) = &self.location {
            proto["location"] = json!(location);
        }
        proto
    }

    /// The envelope that goes over the wire.
    pub fn body(&self) -> Value {
        let mut entry = json!({ "message": self.message, "domain": "global", "reason": self.reason });
        if let Some(location) = &self.location {
            entry["location"] = json!(location);
            entry["locationType"] = json!(self.location_type.unwrap_or("other"));
        }
        let mut error =
            json!({ "code": self.code, "message": self.message, "errors": [entry], "status": self.status() });
        if !self.details.is_empty() {
            error["details"] = json!(self.details);
        }
        json!({ "error": error })
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.code, self.reason, self.message)
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if self.code >= 500 {
            tracing::warn!(code = self.code, reason = %self.reason, "{}", self.message);
        }
        (status, axum::Json(self.body())).into_response()
    }
}

impl From<std::io::Error> for ApiError {
    fn from(e: std::io::Error) -> Self {
        ApiError::internal(format!("the sandbox's disk failed: {e}"))
    }
}
