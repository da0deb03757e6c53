//! What answers behind a service's `uri`: a stand-in for the pipeline's container. It runs no image. `GET /health`
//! tells how the revision that has the traffic does, `POST /run-daily-job` what a run would take in; rows it never writes.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::resource::{Revision, Service};
use super::settle;
use crate::core::clock::rfc3339_us;
use crate::core::http::{json_object, segments};
use crate::core::log::LogAs;
use crate::core::{ApiError, Sandbox, Tx};
use crate::secrets;

const DAY_US: i64 = 86_400_000_000;
/// The longest back-fill that the pipeline accepts.
const MAX_DAYS: u64 = 366;

/// Answers a request below `/_services/P/L/S`.
///
/// # Errors
/// 404 where nothing is deployed, 503 where nothing is ready.
pub async fn serve(sandbox: &Arc<Sandbox>, request: Request) -> Result<Response, ApiError> {
    let method = request.method().clone();
    let path = request.uri().path().to_string();
    let segments = segments(&path).ok_or_else(|| ApiError::invalid("the path is no valid UTF-8"))?;
    let bytes = to_bytes(request.into_body(), 1 << 20).await.map_err(|e| ApiError::invalid(e.to_string()))?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let ["_services", project, location, id, rest @ ..] = parts.as_slice() else {
        return Err(ApiError::not_found(format!("no service has {path}")));
    };
    let name = format!("projects/{project}/locations/{location}/services/{id}");
    let (status, answer) = sandbox.db.transaction(|tx| {
        let Some(service) = settle::service(sandbox, tx, &name)? else {
            return Err(ApiError::not_found(format!("no service '{id}' is deployed in {location}")));
        };
        let Some(revision) = serving(tx, &service)? else {
            return Ok((503, json!({ "status": "unavailable", "error": "no revision is ready" })));
        };
        match (&method, rest) {
            (&Method::GET, ["health"]) => Ok(health(tx, &revision)),
            (&Method::POST, ["run-daily-job"]) => {
                let body = json_object(&bytes)?;
                Ok(run(sandbox, tx, &revision, &body))
            }
            _ => Ok((404, json!({ "error": format!("the service has no {method} /{}", rest.join("/")) }))),
        }
    })?;
    let mut response =
        (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), axum::Json(answer)).into_response();
    // Nothing of the estate changes, whatever the method.
    response.extensions_mut().insert(LogAs { name: None, mutating: Some(false) });
    Ok(response)
}

/// The revision with the most traffic.
fn serving(tx: &Tx<'_>, service: &Service) -> Result<Option<Revision>, ApiError> {
    let name = serving_name(service);
    let Some(name) = name else { return Ok(None) };
    settle::revision(tx, &name)
}

/// Its name.
pub fn serving_name(service: &Service) -> Option<String> {
    let resource = &service.resource;
    let targets = resource["traffic"].as_array()?;
    let target = targets.iter().max_by_key(|t| t["percent"].as_i64().unwrap_or(0))?;
    match target["revision"].as_str().filter(|r| !r.is_empty()) {
        Some(id) => {
            let id = id.rsplit('/').next().unwrap_or_default();
            Some(format!("{}/revisions/{id}", resource["name"].as_str().unwrap_or_default()))
        }
        None => resource["latestReadyRevision"].as_str().map(str::to_string),
    }
}

fn health(tx: &Tx<'_>, revision: &Revision) -> (u16, Value) {
    let mut answer = described(revision);
    match trouble(tx, revision) {
        None => {
            answer["status"] = json!("healthy");
            (200, answer)
        }
        Some(error) => {
            answer["status"] = json!("unhealthy");
            answer["error"] = json!(error);
            (503, answer)
        }
    }
}

fn run(sandbox: &Sandbox, tx: &Tx<'_>, revision: &Revision, body: &Value) -> (u16, Value) {
    let refused = |message: String| (400, json!({ "status": "refused", "error": message }));
    let mode = match body.get("mode") {
        None | Some(Value::Null) => "production",
        Some(Value::String(mode)) if mode == "dry_run" || mode == "production" => mode.as_str(),
        Some(other) => return refused(format!("mode must be \"production\" or \"dry_run\", not {other}")),
    };
    let days = match body.get("days") {
        None | Some(Value::Null) => 1,
        Some(days) => match days.as_u64().filter(|d| (1..=MAX_DAYS).contains(d)) {
            Some(days) => days,
            None => return refused(format!("days must be 1 to {MAX_DAYS}, not {days}")),
        },
    };
    let mut answer = described(revision);
    answer["mode"] = json!(mode);
    if let Some(error) = trouble(tx, revision) {
        answer["status"] = json!("failed");
        answer["error"] = json!(error);
        return (500, answer);
    }
    let now_us = sandbox.clock.now_us();
    let dates = (1..=days).rev().map(|back| {
        let at = now_us - i64::try_from(back).unwrap_or(0) * DAY_US;
        rfc3339_us(at).chars().take(10).collect::<String>()
    });
    answer["status"] = json!("ok");
    answer["usage_dates"] = dates.collect();
    (200, answer)
}

fn described(revision: &Revision) -> Value {
    let resource = &revision.resource;
    json!({
        "service": resource["service"],
        "revision": resource["name"].as_str().unwrap_or_default().rsplit('/').next(),
        "image": resource.pointer("/containers/0/image"),
        "secrets": revision.secrets,
    })
}

/// Why it does not do well: it was told so, or a key that it was started with is no longer good.
fn trouble(tx: &Tx<'_>, revision: &Revision) -> Option<String> {
    if !revision.healthy {
        let message = revision.message.clone();
        return Some(message.unwrap_or_else(|| "the container exits after its start".into()));
    }
    for version in revision.secrets.values().filter_map(Value::as_str) {
        let Some((secret, number)) = version.split_once("/versions/") else { continue };
        match secrets::state_of(tx, secret, number) {
            Ok((_, state)) if state == "ENABLED" => {}
            Ok((_, state)) => return Some(format!("the key in {version} is refused: the version is {state}")),
            Err(_) => return Some(format!("the key in {version} is refused: the version is gone")),
        }
    }
    None
}
