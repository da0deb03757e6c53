//! The gate in front of every service: bounds and unpacks request bodies, writes the request log, cuts partial
//! responses, and lets callers do what they may. Knows which requests carry bulk data (those stream through untouched), no service's meaning.

use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::clock::http_date;
use super::faults::{self, Asked, Kind, Outcome, Strike, faulty};
use super::fields::Selector;
use super::http::header;
use super::log::{self, Entry, LOGGED_BODY_BYTES, LogAs};
use super::permissions::{self, Caller};
use super::traffic::Exchange;
use super::{ApiError, Params, Sandbox};

/// The largest body of a request that is not an upload.
pub const MAX_BODY_BYTES: usize = 64 << 20;
/// The largest answer that a partial response is cut from.
const MAX_CUT_BYTES: usize = 256 << 20;

/// The middleware around the whole router.
pub async fn gate(State(sandbox): State<Arc<Sandbox>>, request: Request, next: Next) -> Response {
    through(&sandbox, request, move |request| Box::pin(next.run(request))).await
}

/// Passes a request through the gate: also one that came within another (a batch).
pub async fn through(
    sandbox: &Sandbox,
    request: Request,
    serve: impl FnOnce(Request) -> futures::future::BoxFuture<'static, Response>,
) -> Response {
    let started = Instant::now();
    let time = sandbox.clock.rfc3339();
    let method = request.method().to_string();
    let path = request.uri().path().to_string();
    let query = request.uri().query().unwrap_or_default().to_string();
    let user_agent = header(request.headers(), "user-agent").map(str::to_string);
    let params = Params::parse(Some(&query));
    let (service, derived) = log::name_of(&method, &path, &params);
    let (exchange, request) = match sandbox.traffic.get() {
        Some(traffic) if !unlogged(&path) => {
            let (exchange, request) = Exchange::begin(request);
            (Some((traffic, exchange)), request)
        }
        _ => (None, request),
    };
    let strike = if unlogged(&path) { None } else { strike(sandbox, &request, &params, (service, &derived)) };
    // What deployed services and the metadata server answer is no matter of Google's permissions.
    let open = unlogged(&path) || matches!(service, "other" | "container");
    let caller = if open { Ok(None) } else { sandbox.permissions.caller(request.headers(), &params) };
    let (mut response, body) = match admit(request, &params).await {
        Ok((request, body)) => {
            let serve = |request: Request| async {
                match &strike {
                    Some(strike) => faulty(strike, request, serve).await,
                    None => serve(request).await,
                }
            };
            let response = match caller {
                Ok(None) => serve(request).await,
                Ok(Some(caller)) => as_allowed(caller, (&derived, &path, &params, body.as_ref()), request, serve).await,
                Err(e) => refused(request, e).await,
            };
            (response, body)
        }
        Err(e) => (e.into_response(), None),
    };
    let said = response.extensions_mut().remove::<LogAs>().unwrap_or_default();
    let mut response = match cut(response, &params, &path).await {
        Ok(response) => response,
        Err(e) => e.into_response(),
    };
    response.headers_mut().insert(DATE, http_date(sandbox.clock.now_us()));
    if unlogged(&path) {
        return response;
    }
    if let Some(strike) = &strike {
        response = faults::alter(&sandbox.faults, strike, response).await.unwrap_or_else(IntoResponse::into_response);
    }
    let outcome = match (Outcome::of(response), exchange) {
        // An answer that is none of Google's is not held against Google's documents.
        (Outcome::Answer(response), Some((traffic, exchange))) if !strike.as_ref().is_some_and(alters) => {
            Outcome::Answer(exchange.end(traffic, response, !is_media(&params, &path)).await)
        }
        (outcome, _) => outcome,
    };
    let name = said.name.unwrap_or(derived);
    let mutating = said.mutating.unwrap_or_else(|| log::is_mutating(&method, &name));
    let (status, response_bytes) = match &outcome {
        Outcome::Answer(response) => {
            let length = header(response.headers(), "content-length").and_then(|text| text.parse().ok());
            (response.status().as_u16(), length.or_else(|| response.body().size_hint().exact()))
        }
        Outcome::Nothing => (0, None),
    };
    sandbox.log.append(Entry {
        seq: 0,
        time,
        service: service.into(),
        status,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        mutating,
        response_bytes,
        body,
        name,
        method,
        path,
        query,
        user_agent,
        fault: strike.as_ref().map(|strike| strike.label.clone()),
    });
    match outcome {
        Outcome::Answer(response) => response,
        Outcome::Nothing => faults::never(&sandbox.faults, strike).await,
    }
}

/// The fault that falls on a request, if one does. A moved clock is moved at once.
fn strike(sandbox: &Sandbox, request: &Request, params: &Params, (service, name): (&str, &str)) -> Option<Strike> {
    let length = || header(request.headers(), "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let asked = Asked {
        service,
        name,
        method: request.method().as_str(),
        path: request.uri().path(),
        mutating: log::is_mutating(request.method().as_str(), name),
        upload_bytes: (service == "storage" && carries_data(request, params)).then(length),
    };
    let strike = sandbox.faults.strike(&asked)?;
    if let (Some(Kind::SkewClock), Some(seconds)) = (strike.rule.kind, strike.rule.seconds) {
        let moved = seconds.checked_mul(1_000_000).and_then(|us| sandbox.clock.now_us().checked_add(us));
        if let Err(e) = sandbox.set_clock_us(moved.unwrap_or(-1)) {
            tracing::warn!("a fault cannot move the clock by {seconds} s: {e}");
        }
    }
    Some(strike)
}

/// Whether the answer's body is not what the service answered.
fn alters(strike: &Strike) -> bool {
    matches!(strike.rule.kind, Some(Kind::Truncate | Kind::Corrupt | Kind::Reset | Kind::Stall))
}

/// Serves a request as far as its caller may: refused when a permission is lacking, the answer cut to what is theirs.
async fn as_allowed<F: Future<Output = Response>>(
    caller: Caller,
    (name, path, params, body): (&str, &str, &Params, Option<&Value>),
    mut request: Request,
    serve: impl FnOnce(Request) -> F,
) -> Response {
    let (needs, tested) = permissions::of_request(name, path, params, body);
    for need in &needs {
        if let Err(e) = caller.check(need) {
            return refused(request, e).await;
        }
    }
    request.extensions_mut().insert(caller.clone());
    let response = caller.veil(name, &needs, serve(request).await);
    match tested {
        Some(subject) => caller.tested(&subject, response).await.unwrap_or_else(IntoResponse::into_response),
        None => response,
    }
}

/// Many clients look for an answer only after they sent all: what they still send is read, within bounds.
async fn refused(request: Request, error: ApiError) -> Response {
    let _ = to_bytes(request.into_body(), MAX_BODY_BYTES).await;
    error.into_response()
}

/// Administration is not logged and has no faults.
fn unlogged(path: &str) -> bool {
    path.starts_with("/_sandbox") || path == "/" || path == "/favicon.ico"
}

/// Whether the body is data to be stored, as opposed to a request that describes something.
fn carries_data(request: &Request, params: &Params) -> bool {
    let path = request.uri().path();
    // Streams of messages, which may never end.
    if header(request.headers(), "content-type").is_some_and(|t| t.starts_with("application/grpc")) {
        return true;
    }
    let upload = path.starts_with("/upload/") || path.starts_with("/resumable/");
    let starts_resumable = params.get("uploadType") == Some("resumable")
        && request.method() == axum::http::Method::POST
        && params.get("upload_id").is_none();
    if upload {
        return !starts_resumable;
    }
    // XML-style: PUT /BUCKET/OBJECT. None of the JSON APIs begins like this.
    request.method() == axum::http::Method::PUT && !is_api(path)
}

/// Whether the path belongs to a JSON API (and not to a bucket's name, XML-style).
pub fn is_api(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(
        first,
        "" | "bigquery"
            | "storage"
            | "upload"
            | "download"
            | "resumable"
            | "batch"
            | "v1"
            | "v2"
            | "v4"
            | "_services"
            | "projects"
            | "discovery"
            | "_sandbox"
    ) || first.starts_with('$')
}

/// Reads the bodies that are not data: bounded, unpacked when gzipped, and a copy for the log.
async fn admit(request: Request, params: &Params) -> Result<(Request, Option<Value>), ApiError> {
    if carries_data(&request, params) {
        return Ok((request, None));
    }
    let (mut parts, body) = request.into_parts();
    let too_large =
        || ApiError::new(413, "uploadTooLarge", format!("Request is too large; the bound is {MAX_BODY_BYTES} bytes."));
    let mut bytes = to_bytes(body, MAX_BODY_BYTES).await.map_err(|e| {
        // axum hides the kind of this error: a broken connection reads the same as a body over the bound.
        if e.to_string().contains("limit") {
            too_large()
        } else {
            ApiError::invalid(format!("the request's body broke off: {e}"))
        }
    })?;
    if header(&parts.headers, "content-encoding") == Some("gzip") {
        bytes = gunzip(&bytes).ok_or_else(|| ApiError::invalid("the request's body is no valid gzip"))?;
        parts.headers.remove(CONTENT_ENCODING);
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    }
    let logged = if !bytes.is_empty() && bytes.len() <= LOGGED_BODY_BYTES {
        serde_json::from_slice::<Value>(&bytes).ok().map(redact)
    } else {
        None
    };
    Ok((Request::from_parts(parts, Body::from(bytes)), logged))
}

/// Secret payloads do not belong into a log, not even into that of a sandbox.
fn redact(mut body: Value) -> Value {
    if let Some(data) = body.pointer_mut("/payload/data") {
        *data = Value::from("REDACTED");
    }
    if let Some(plain) = body.get_mut("plaintext") {
        *plain = Value::from("REDACTED");
    }
    body
}

/// `None` when it is no gzip or too large.
pub fn gunzip(bytes: &Bytes) -> Option<Bytes> {
    let mut out = Vec::new();
    let bound = MAX_BODY_BYTES as u64 + 1;
    flate2::read::MultiGzDecoder::new(bytes.as_ref()).take(bound).read_to_end(&mut out).ok()?;
    (out.len() <= MAX_BODY_BYTES).then(|| out.into())
}

/// Applies `fields=` to a successful JSON answer.
async fn cut(response: Response, params: &Params, path: &str) -> Result<Response, ApiError> {
    let Some(fields) = params.get("fields").or_else(|| params.get("$fields")) else { return Ok(response) };
    if !response.status().is_success() || is_media(params, path) || !is_json(response.headers()) {
        return Ok(response);
    }
    let selector = Selector::parse(fields)?;
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, MAX_CUT_BYTES).await.map_err(|e| ApiError::internal(e.to_string()))?;
    let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
        return Ok(Response::from_parts(parts, Body::from(bytes)));
    };
    let cut = serde_json::to_vec(&selector.apply(&value)).map_err(|e| ApiError::internal(e.to_string()))?;
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(cut.len()));
    Ok(Response::from_parts(parts, Body::from(cut)))
}

/// Whether the answer is an object's data, whatever type it has.
fn is_media(params: &Params, path: &str) -> bool {
    params.get("alt") == Some("media") || path.starts_with("/download/") || !is_api(path)
}

pub fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|v| v.starts_with("application/json"))
}
