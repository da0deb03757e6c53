//! How requests reach the service's functions: bodies, page tokens, the caller's identity, work that blocks.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::enums;
use super::service::BigQuery;
use crate::core::faults::FailJob;
use crate::core::http::{header, json_object};
use crate::core::permissions;
use crate::core::{ApiError, Params};

/// Who calls, for row access policies and jobs: the email of a known token.
///
/// Another bearer token that is an email address (optionally `user:` or `serviceAccount:` before it) is that caller; every other
/// request comes from the project's owner.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    pub email: Option<String>,
    /// How the job that this request starts is to end.
    pub fail_job: Option<FailJob>,
}

impl Caller {
    fn of(parts: &Parts) -> Self {
        let fail_job = parts.extensions.get().cloned();
        if let Some(permissions::Caller(known)) = parts.extensions.get() {
            return Self { email: Some(known.email.clone()), fail_job };
        }
        let token = permissions::bearer(&parts.headers);
        let email = token
            .map(|t| t.strip_prefix("user:").or_else(|| t.strip_prefix("serviceAccount:")).unwrap_or(t))
            .filter(|t| t.split_once('@').is_some_and(|(a, b)| !a.is_empty() && b.contains('.')) && !t.contains(' '));
        Self { email: email.map(str::to_owned), fail_job }
    }

    /// The email that jobs carry.
    pub fn name(&self, project: &str) -> String {
        self.email.clone().unwrap_or_else(|| format!("owner@{project}.iam.gserviceaccount.com"))
    }

    /// Whether one of a policy's grantees is this caller.
    pub fn is_among(&self, grantees: &[String], project: &str) -> bool {
        let name = self.name(project).to_lowercase();
        grantees.iter().any(|g| {
            let g = g.to_lowercase();
            match g.split_once(':') {
                None => g == "allusers" || g == "allauthenticatedusers" || g == name,
                Some(("domain", domain)) => name.ends_with(&format!("@{domain}")),
                Some((_, email)) => email == name,
            }
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

/// The conditional header of writes.
#[derive(Debug, Clone)]
pub struct IfMatch(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(header(&parts.headers, "if-match").map(str::to_owned)))
    }
}

/// A JSON object with its enums named.
///
/// # Errors
/// 400 when the body is no JSON object.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let mut value = json_object(bytes)?;
    enums::name_them(&mut value);
    match value {
        Value::Object(members) => Ok(members),
        _ => Ok(Map::new()),
    }
}

/// Runs what blocks off the async threads.
///
/// # Errors
/// What `work` returns; 500 when it panicked.
pub async fn blocking<T: Send + 'static>(
    service: &Arc<BigQuery>,
    work: impl FnOnce(&Arc<BigQuery>) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let service = service.clone();
    tokio::task::spawn_blocking(move || work(&service))
        .await
        .unwrap_or_else(|e| Err(ApiError::internal(format!("a task of the sandbox broke off: {e}"))))
}

/// The size of a page: `maxResults`, or `default`, at most `most`.
///
/// # Errors
/// 400 when it is negative or no number.
pub fn page_size(params: &Params, default: usize, most: usize) -> Result<usize, ApiError> {
    match params.number("maxResults")? {
        None => Ok(default),
        Some(n) => {
            let n = usize::try_from(n).map_err(|_| ApiError::invalid(format!("Invalid value for maxResults: {n}")))?;
            Ok(if n == 0 { default } else { n.min(most) })
        }
    }
}

/// Makes a page token of a position.
pub fn page_token(position: &str) -> String {
    URL_SAFE_NO_PAD.encode(position)
}

/// Reads a page token.
///
/// # Errors
/// 400 when it is none of ours.
pub fn position(params: &Params) -> Result<Option<String>, ApiError> {
    let Some(token) = params.get("pageToken") else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(token).ok().and_then(|b| String::from_utf8(b).ok());
    bytes
        .map(Some)
        .ok_or_else(|| ApiError::invalid(format!("Invalid page token: {token}")).at("parameter", "pageToken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grantees_are_matched_by_kind() {
        let caller = Caller { email: Some("Ann@x.org".into()), ..Caller::default() };
        let among = |g: &str| caller.is_among(&[g.to_owned()], "p");
        assert!(
            among("user:ann@x.org") && among("allUsers") && among("domain:x.org") && among("allAuthenticatedUsers")
        );
        assert!(!among("user:bob@x.org") && !among("domain:y.org"));
        assert!(!Caller::default().is_among(&["user:ann@x.org".into()], "p"));
    }
}
