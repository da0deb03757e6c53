//! `/_sandbox/services`: how services do, and trouble on demand. For tests and drills; Google has nothing like it.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::container::serving_name;
use super::resource::{Failure, Service};
use super::{SERVICES, settle};
use crate::core::http::{ok, segments};
use crate::core::{ApiError, Sandbox, Tx};

/// What can be asked of a service; what is absent stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Change {
    /// Whether the revision that has the traffic answers well; the next deployment is well again.
    healthy: Option<bool>,
    /// Whether the service is said to be ready.
    ready: Option<bool>,
    /// What callers of an unhealthy service are told.
    message: Option<String>,
    deploy_ms: Option<u64>,
    failing_deployments: Option<u64>,
}

/// Answers `GET /_sandbox/services` and `GET|PUT /_sandbox/services/P/L/S`.
///
/// # Errors
/// 404 for an unknown service, 400 for a bad body.
pub async fn serve(sandbox: &Arc<Sandbox>, request: Request) -> Result<Response, ApiError> {
    let method = request.method().clone();
    let segments = segments(request.uri().path()).ok_or_else(|| ApiError::invalid("the path is no valid UTF-8"))?;
    let bytes = to_bytes(request.into_body(), 1 << 16).await.map_err(|e| ApiError::invalid(e.to_string()))?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (&method, parts.as_slice()) {
        (&Method::GET, ["_sandbox", "services"]) => Ok(ok(json!({ "services": overview(sandbox)? }))),
        (&Method::GET | &Method::PUT, ["_sandbox", "services", project, location, id]) => {
            let name = format!("projects/{project}/locations/{location}/services/{id}");
            let change = if method == Method::PUT {
                serde_json::from_slice(&bytes)
                    .map_err(|e| ApiError::invalid(format!("the body must say how the service is to do: {e}")))?
            } else {
                Change::default()
            };
            let state = sandbox.db.transaction(|tx| {
                let service = settle::service(sandbox, tx, &name)?;
                let mut service = service
                    .ok_or_else(|| ApiError::not_found(format!("no service '{id}' is deployed in {location}")))?;
                if method == Method::PUT {
                    apply(sandbox, tx, &mut service, change)?;
                }
                summary(tx, &service)
            })?;
            Ok(ok(state))
        }
        _ => Err(ApiError::not_found(format!("the sandbox has no {method} /{}", parts.join("/")))),
    }
}

fn apply(sandbox: &Sandbox, tx: &Tx<'_>, service: &mut Service, change: Change) -> Result<(), ApiError> {
    if let Some(ms) = change.deploy_ms {
        service.behaviour.deploy_ms = ms;
    }
    if let Some(count) = change.failing_deployments {
        service.behaviour.failing_deployments = count;
    }
    let serving = serving_name(service);
    if let Some(healthy) = change.healthy {
        let revision = serving.as_deref().map(|name| settle::revision(tx, name)).transpose()?.flatten();
        let Some(mut revision) = revision else {
            return Err(ApiError::invalid("the service has no revision that serves; hint: wait for its deployment"));
        };
        revision.healthy = healthy;
        revision.message = change.message.clone();
        settle::store_revision(tx, &revision)?;
    }
    if let Some(ready) = change.ready {
        let id = serving.as_deref().and_then(|name| name.rsplit('/').next()).unwrap_or_default().to_string();
        let failure = (!ready).then(|| Failure {
            reason: "HEALTH_CHECK_CONTAINER_ERROR".into(),
            message: change.message.unwrap_or_else(|| {
                format!("Revision '{id}' is not ready and cannot serve traffic. The container exited with an error.")
            }),
        });
        settle::ready(sandbox, &mut service.resource, failure.as_ref());
    }
    settle::store(tx, service)
}

/// Every service in short, also for the page at `/`.
///
/// # Errors
/// When the database fails.
pub fn overview(sandbox: &Sandbox) -> Result<Vec<Value>, ApiError> {
    sandbox.db.transaction(|tx| {
        let mut all = Vec::new();
        for (name, _) in tx.scan(SERVICES, "", None, 1000)? {
            if let Some(service) = settle::service(sandbox, tx, &name)? {
                all.push(summary(tx, &service)?);
            }
        }
        Ok(all)
    })
}

fn summary(tx: &Tx<'_>, service: &Service) -> Result<Value, ApiError> {
    let serving = serving_name(service);
    let revision = serving.as_deref().map(|name| settle::revision(tx, name)).transpose()?.flatten();
    Ok(json!({
        "name": service.resource["name"],
        "ready": service.resource["terminalCondition"]["state"],
        "healthy": revision.as_ref().is_some_and(|r| r.healthy),
        "revision": serving.as_deref().and_then(|name| name.rsplit('/').next()),
        "image": revision.as_ref().and_then(|r| r.resource.pointer("/containers/0/image").cloned()),
        "deploy_ms": service.behaviour.deploy_ms,
        "failing_deployments": service.behaviour.failing_deployments,
    }))
}
