//! Sheets v4: spreadsheets, their sheets, and values. Knows no formulas and no formats.

mod a1;
mod cells;
mod spreadsheets;
mod values;

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};

use crate::core::gate::MAX_BODY_BYTES;
use crate::core::http::{json_object, ok, segments};
use crate::core::{ApiError, Params, Sandbox};

/// Answers a request below `/v4`.
///
/// # Errors
/// As Google words them.
pub async fn serve(sandbox: &Arc<Sandbox>, request: Request) -> Result<Response, ApiError> {
    let params = Params::of(request.uri());
    let method = request.method().clone();
    let path = request.uri().path().to_string();
    let segments = segments(&path).ok_or_else(|| ApiError::invalid("the path is no valid UTF-8"))?;
    let bytes = to_bytes(request.into_body(), MAX_BODY_BYTES).await.map_err(|e| ApiError::invalid(e.to_string()))?;
    let body = json_object(&bytes)?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let answer = route(sandbox, &method, &parts, &params, &body).map_err(in_sheets_words)?;
    Ok(ok(answer))
}

fn route(
    sandbox: &Arc<Sandbox>,
    method: &Method,
    parts: &[&str],
    params: &Params,
    body: &Value,
) -> Result<Value, ApiError> {
    let not_here = || ApiError::not_found(format!("the sandbox's Sheets has no {method} /{}", parts.join("/")));
    let post = method == Method::POST;
    match parts {
        ["v4", "spreadsheets"] if post => spreadsheets::create(sandbox, body),
        ["v4", "spreadsheets", id] => match id.split_once(':') {
            None if method == Method::GET => spreadsheets::get(sandbox, id, params),
            Some((id, "batchUpdate")) if post => spreadsheets::batch_update(sandbox, id, body),
            Some((_, "getByDataFilter")) => Err(unsupported("spreadsheets.getByDataFilter")),
            _ => Err(not_here()),
        },
        ["v4", "spreadsheets", id, values] if values.starts_with("values:") => match &values["values:".len()..] {
            "batchGet" if method == Method::GET => values::batch_get(sandbox, id, params),
            "batchUpdate" if post => values::batch_update(sandbox, id, body),
            "batchClear" if post => values::batch_clear(sandbox, id, body),
            other => Err(unsupported(&format!("spreadsheets.values.{other}"))),
        },
        ["v4", "spreadsheets", id, "values", range] => {
            let verb =
                ["append", "clear"].into_iter().find_map(|v| Some((range.strip_suffix(v)?.strip_suffix(':')?, v)));
            match (method, verb) {
                (&Method::GET, _) => values::get(sandbox, id, range, params),
                (&Method::PUT, _) => values::update(sandbox, id, range, params, body),
                (&Method::POST, Some((range, "append"))) => values::append(sandbox, id, range, params, body),
                (&Method::POST, Some((range, _))) => values::clear(sandbox, id, range),
                _ => Err(not_here()),
            }
        }
        ["v4", "spreadsheets", _, "sheets", ..] => Err(unsupported("spreadsheets.sheets.copyTo")),
        ["v4", "spreadsheets", _, "developerMetadata", ..] => Err(unsupported("spreadsheets.developerMetadata")),
        _ => Err(not_here()),
    }
}

fn unsupported(what: &str) -> ApiError {
    ApiError::not_implemented(format!("the sandbox does not emulate {what}"))
}

/// Sheets names the reason `badRequest` where others say `invalid`.
fn in_sheets_words(mut e: ApiError) -> ApiError {
    if e.code == 400 {
        e.reason = "badRequest".into();
    }
    e
}

/// `{spreadsheetId, title}` of every spreadsheet, for the page at `/`.
///
/// # Errors
/// When the database fails.
pub fn overview(sandbox: &Sandbox) -> Result<Vec<Value>, ApiError> {
    let found = sandbox.db.scan(spreadsheets::SPREADSHEETS, "", None, 1000)?;
    Ok(found
        .into_iter()
        .map(|(id, s)| {
            let tabs: Vec<&str> = s["sheets"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|s| s["properties"]["title"].as_str())
                .collect();
            json!({ "id": id, "title": s["properties"]["title"], "tabs": tabs.join(", ") })
        })
        .collect())
}
