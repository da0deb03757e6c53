//! `/_sandbox/...`: health, the clock, the request log, faults, permissions. Knows no service.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};

use crate::core::clock::{parse_rfc3339_us, rfc3339_us};
use crate::core::http::{json_object, no_content, ok};
use crate::core::permissions::Table;
use crate::core::{ApiError, Params, Sandbox};

/// How many log entries one answer holds at most.
const PAGE: usize = 10_000;

/// Answers a request below `/_sandbox`.
///
/// # Errors
/// 400 for a bad clock, 404 for an unknown path.
pub async fn serve(sandbox: &Arc<Sandbox>, request: Request) -> Result<Response, ApiError> {
    let path = request.uri().path().trim_start_matches("/_sandbox").trim_matches('/').to_string();
    let params = Params::of(request.uri());
    let method = request.method().clone();
    match (path.as_str(), &method) {
        ("health", &Method::GET) => Ok(ok(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))),
        ("clock", &Method::GET) => Ok(ok(clock(sandbox))),
        ("clock", &Method::PUT | &Method::POST) => {
            let bytes = to_bytes(request.into_body(), 4096).await.map_err(|e| ApiError::invalid(e.to_string()))?;
            sandbox.set_clock_us(wanted_us(sandbox, &json_object(&bytes)?)?)?;
            // Who asks next sees what the new time brought.
            crate::storage::tick(sandbox).await?;
            Ok(ok(clock(sandbox)))
        }
        ("requests", &Method::GET) => {
            let since = u64::try_from(params.number("since")?.unwrap_or(0)).unwrap_or(0);
            let limit = params.number("limit")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(PAGE).clamp(1, PAGE);
            let (entries, next) = sandbox.log.since(since, limit);
            Ok(ok(json!({ "requests": entries, "next": next })))
        }
        ("requests", &Method::DELETE) => {
            sandbox.log.clear()?;
            Ok(no_content())
        }
        ("faults", &Method::GET) => Ok(ok(json!(sandbox.faults.told()))),
        ("faults", &Method::PUT) => {
            let bytes = to_bytes(request.into_body(), 1 << 20).await.map_err(|e| ApiError::invalid(e.to_string()))?;
            let rules = serde_json::from_slice(&bytes)
                .map_err(|e| ApiError::invalid(format!("the body must be a list of faults: {e}")))?;
            sandbox.faults.set(rules)?;
            Ok(ok(json!(sandbox.faults.told())))
        }
        ("faults", &Method::DELETE) => {
            sandbox.faults.set(Vec::new())?;
            Ok(no_content())
        }
        ("permissions", &Method::GET) => Ok(ok(json!(sandbox.permissions.table()))),
        ("permissions", &Method::PUT) => {
            let bytes = to_bytes(request.into_body(), 1 << 20).await.map_err(|e| ApiError::invalid(e.to_string()))?;
            let table = serde_json::from_slice(&bytes)
                .map_err(|e| ApiError::invalid(format!("the body must say who may do what: {e}")))?;
            sandbox.permissions.set(table)?;
            Ok(ok(json!(sandbox.permissions.table())))
        }
        ("permissions", &Method::DELETE) => {
            sandbox.permissions.set(Table::default())?;
            Ok(no_content())
        }
        _ => Err(ApiError::not_found(format!("the sandbox has no {method} /_sandbox/{path}"))),
    }
}

fn clock(sandbox: &Sandbox) -> Value {
    let us = sandbox.clock.now_us();
    json!({ "now": rfc3339_us(us), "now_ms": us.div_euclid(1000) })
}

fn wanted_us(sandbox: &Sandbox, body: &Value) -> Result<i64, ApiError> {
    if let Some(now) = body["now"].as_str() {
        return parse_rfc3339_us(now).ok_or_else(|| {
            ApiError::invalid(format!("'{now}' is not a time; hint: write it as 2026-01-31T02:00:00Z"))
        });
    }
    if let Some(ms) = body["advance_ms"].as_i64() {
        return ms
            .checked_mul(1000)
            .and_then(|us| sandbox.clock.now_us().checked_add(us))
            .ok_or_else(|| ApiError::invalid("advance_ms is too large"));
    }
    Err(ApiError::invalid("the body needs \"now\" (RFC 3339) or \"advance_ms\" (a whole number)"))
}
