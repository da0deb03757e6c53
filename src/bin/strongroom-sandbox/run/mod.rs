//! Cloud Run Admin API v2: services, their revisions, the operations that deploy them, and what answers behind a
//! service's `uri`. This file takes paths apart; containers are not run: `container` stands in for them.

mod admin;
mod container;
mod enums;
mod operations;
mod resource;
mod services;
mod settle;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};

pub use admin::{overview, serve as admin};
pub use container::serve as container;

use crate::core::gate::MAX_BODY_BYTES;
use crate::core::http::{json_object, ok, own_base, segments};
use crate::core::permissions;
use crate::core::{ApiError, Params, Sandbox};

/// key = `projects/P/locations/L/services/S`; see `resource::Service`.
const SERVICES: &str = "run.services";
/// key = `SERVICE/revisions/R`; see `resource::Revision`.
const REVISIONS: &str = "run.revisions";
/// key = `projects/P/locations/L/operations/O`: the operation as it is answered.
const OPERATIONS: &str = "run.operations";
/// key = a service's name.
const POLICIES: &str = "run.iam";

/// A request, taken apart.
struct Call<'a> {
    sandbox: &'a Arc<Sandbox>,
    params: Params,
    body: Value,
    /// `http://HOST` as the client named this server.
    base: String,
    /// The email that the caller says to be.
    caller: String,
}

/// Answers a request below `/v2/projects/P/locations/L`.
///
/// # Errors
/// As Google words them.
pub async fn serve(sandbox: &Arc<Sandbox>, request: Request) -> Result<Response, ApiError> {
    let params = Params::of(request.uri());
    let method = request.method().clone();
    let segments = segments(request.uri().path()).ok_or_else(|| ApiError::invalid("the path is no valid UTF-8"))?;
    let base = own_base(request.headers(), sandbox.base_url());
    let known = request.extensions().get().map(|permissions::Caller(known)| known.email.clone());
    let caller = known.unwrap_or_else(|| format!("owner@{}.iam.gserviceaccount.com", sandbox.options.project));
    let bytes = to_bytes(request.into_body(), MAX_BODY_BYTES).await.map_err(|e| ApiError::invalid(e.to_string()))?;
    let mut body = json_object(&bytes)?;
    enums::as_names(&mut body);
    let integers = params.int_enums();
    let call = Call { sandbox, params, body, base, caller };
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let mut answer = match parts.as_slice() {
        ["v2", "projects", project, "locations", location, rest @ ..] => {
            let parent = format!("projects/{project}/locations/{location}");
            route(&call, &method, &parent, rest).await
        }
        _ => Err(unknown(&method, &parts.join("/"))),
    }?;
    if integers {
        enums::as_integers(&mut answer);
    }
    Ok(ok(answer))
}

async fn route(call: &Call<'_>, method: &Method, parent: &str, rest: &[&str]) -> Result<Value, ApiError> {
    let missing = || unknown(method, &format!("v2/{parent}/{}", rest.join("/")));
    let verb_of = |last: &str| match last.split_once(':') {
        Some((id, verb)) => (id.to_string(), Some(verb.to_string())),
        None => (last.to_string(), None),
    };
    match (method, rest) {
        (&Method::GET, ["services"]) => services::list(call, parent),
        (&Method::POST, ["services"]) => services::create(call, parent),
        (method, ["services", last]) => {
            let (id, verb) = verb_of(last);
            let name = format!("{parent}/services/{id}");
            match (method, verb.as_deref()) {
                (&Method::GET, None) => services::get(call, &name),
                (&Method::PATCH, None) => services::patch(call, &name),
                (&Method::DELETE, None) => services::delete(call, &name),
                (&Method::GET, Some("getIamPolicy")) => services::policy(call, &name),
                (&Method::POST, Some("setIamPolicy")) => services::set_policy(call, &name),
                (&Method::POST, Some("testIamPermissions")) => services::test_permissions(call, &name),
                _ => Err(missing()),
            }
        }
        (&Method::GET, ["services", service, "revisions"]) => {
            services::list_revisions(call, &format!("{parent}/services/{service}"))
        }
        (method, ["services", service, "revisions", id]) => {
            let name = format!("{parent}/services/{service}/revisions/{id}");
            match *method {
                Method::GET => services::get_revision(call, &name),
                Method::DELETE => services::delete_revision(call, &name),
                _ => Err(missing()),
            }
        }
        (&Method::GET, ["operations"]) => operations::list(call, parent),
        (method, ["operations", last]) => {
            let (id, verb) = verb_of(last);
            let name = format!("{parent}/operations/{id}");
            match (method, verb.as_deref()) {
                (&Method::GET, None) => operations::get(call, &name),
                (&Method::DELETE, None) => operations::delete(call, &name),
                (&Method::POST, Some("wait")) => operations::wait(call, &name).await,
                _ => Err(missing()),
            }
        }
        _ => Err(missing()),
    }
}

fn unknown(method: &Method, path: &str) -> ApiError {
    ApiError::not_found(format!("the sandbox's Cloud Run has no {method} /{path}"))
}

/// Deployments take real time: the sandbox's clock may be set back while one is under way.
fn machine_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A page of what lies below a prefix: the documents, and the token of the next page.
fn page(found: Vec<(String, Value)>, params: &Params, field: &str) -> Result<Value, ApiError> {
    let size = params.number("pageSize")?.and_then(|n| usize::try_from(n).ok());
    let size = size.filter(|n| *n > 0).unwrap_or(100).min(1000);
    let after = params.get("pageToken").unwrap_or_default();
    let mut rest: Vec<(String, Value)> = found.into_iter().filter(|(key, _)| key.as_str() > after).collect();
    let more = rest.len() > size;
    rest.truncate(size);
    let next = rest.last().filter(|_| more).map(|(key, _)| key.clone());
    let mut answer = json!({ field: rest.into_iter().map(|(_, v)| v).collect::<Vec<_>>() });
    if let Some(next) = next {
        answer["nextPageToken"] = json!(next);
    }
    Ok(answer)
}
