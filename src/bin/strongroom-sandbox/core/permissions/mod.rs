//! What callers may do: each token stands for an email with permissions, and a request that needs more is refused as
//! Google refuses it. Without any token known, everyone may do everything. `needs` says what a request needs.

mod needs;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::faults::matches;
use super::http::header;
use super::{ApiError, Params};
pub use needs::{Need, Subject, of_request};

/// An answer to testIamPermissions is small.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Who is known, as `--tokens` and `PUT /_sandbox/permissions` say it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Table {
    pub principals: Vec<Principal>,
    /// Whether tokens that are not known here, and requests without one, are refused with 401.
    pub deny_others: bool,
}

/// One who calls.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// What stands after `Bearer`.
    pub token: String,
    /// Whose it is.
    pub email: String,
    #[serde(default)]
    pub grants: Vec<Grant>,
}

/// Permissions on resources; `*` stands for any text in both.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Such as `storage.objects.create` or `bigquery.*`.
    pub permissions: Vec<String>,
    /// Such as `projects/_/buckets/demo-*`; every resource when absent.
    #[serde(default = "anything")]
    pub resource: String,
}

fn anything() -> String {
    "*".into()
}

impl Principal {
    /// Whether this permission is held on this resource.
    pub fn may(&self, permission: &str, resource: &str) -> bool {
        self.grants
            .iter()
            .any(|g| matches(&g.resource, resource) && g.permissions.iter().any(|p| matches(p, permission)))
    }
}

/// The caller of a request, as an extension of it; absent when everything is allowed.
#[derive(Debug, Clone)]
pub struct Caller(pub Arc<Principal>);

impl Caller {
    /// # Errors
    /// 403 in the service's words.
    pub fn check(&self, need: &Need) -> Result<(), ApiError> {
        if self.0.may(&need.permission, &need.subject.resource()) { Ok(()) } else { Err(need.refusal(&self.0.email)) }
    }

    /// What a request that found nothing is told: who may not list a bucket does not learn what is absent.
    pub fn veil(&self, name: &str, needs: &[Need], response: Response) -> Response {
        let reads = matches!(name, "storage.objects.get" | "storage.objects.getMedia");
        let (true, 404, Some(Need { subject: Subject::Object { bucket, .. }, .. })) =
            (reads, response.status().as_u16(), needs.first())
        else {
            return response;
        };
        let list = Need::new("storage.objects.list", Subject::Bucket(bucket.clone()));
        self.check(&list).map_or_else(IntoResponse::into_response, |()| response)
    }

    /// Leaves of a testIamPermissions' answer what is held.
    ///
    /// # Errors
    /// 500 when the answer cannot be read.
    pub async fn tested(&self, subject: &Subject, response: Response) -> Result<Response, ApiError> {
        if !response.status().is_success() {
            return Ok(response);
        }
        let (mut parts, body) = response.into_parts();
        let bytes = to_bytes(body, MAX_ANSWER_BYTES).await.map_err(|e| ApiError::internal(e.to_string()))?;
        let Ok(mut answer) = serde_json::from_slice::<Value>(&bytes) else {
            return Ok(Response::from_parts(parts, Body::from(bytes)));
        };
        let resource = subject.resource();
        if let Some(asked) = answer.get_mut("permissions").and_then(Value::as_array_mut) {
            asked.retain(|p| p.as_str().is_some_and(|p| self.0.may(p, &resource)));
        }
        parts.headers.remove(CONTENT_LENGTH);
        Ok(Response::from_parts(parts, Body::from(answer.to_string())))
    }
}

/// All who are known.
#[derive(Debug, Default)]
pub struct Permissions {
    inner: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    table: Table,
    by_token: HashMap<String, Arc<Principal>>,
}

impl Permissions {
    /// Takes the place of what was known.
    ///
    /// # Errors
    /// 400 for a token that is empty or there twice, an email without `@`, an empty grant.
    pub fn set(&self, table: Table) -> Result<(), ApiError> {
        let mut by_token = HashMap::new();
        for principal in &table.principals {
            let Principal { token, email, grants } = principal;
            if token.is_empty() || token.contains(char::is_whitespace) {
                return Err(ApiError::invalid(format!("the token of '{email}' is empty or has a space in it")));
            }
            if !email.contains('@') {
                return Err(ApiError::invalid(format!("'{email}' is no email address")));
            }
            if grants.iter().any(|g| g.permissions.is_empty() || g.resource.is_empty()) {
                return Err(ApiError::invalid(format!("a grant of '{email}' names no permission or no resource")));
            }
            if by_token.insert(token.clone(), Arc::new(principal.clone())).is_some() {
                return Err(ApiError::invalid(format!("the token of '{email}' is there twice")));
            }
        }
        *self.inner.write().unwrap_or_else(PoisonError::into_inner) = Known { table, by_token };
        Ok(())
    }

    /// What is known.
    pub fn table(&self) -> Table {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).table.clone()
    }

    /// Who sent a request; None when that one may do everything.
    ///
    /// # Errors
    /// 401 for those who are not known, when they are refused.
    pub fn caller(&self, headers: &HeaderMap, params: &Params) -> Result<Option<Caller>, ApiError> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let token = bearer(headers).or_else(|| params.get("access_token"));
        if let Some(principal) = token.and_then(|t| inner.by_token.get(t)) {
            return Ok(Some(Caller(principal.clone())));
        }
        if !inner.table.deny_others {
            return Ok(None);
        }
        let (reason, message) = match token {
            Some(_) => ("authError", "Invalid Credentials"),
            None => ("required", "Login Required."),
        };
        Err(ApiError::new(401, reason, message).at("header", "Authorization"))
    }
}

/// The token of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = header(headers, "authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
