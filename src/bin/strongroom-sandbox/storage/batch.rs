//! `/batch/storage/v1`: a `multipart/mixed` body of whole requests, answered in their order. Each goes the way it
//! would go alone and is logged as such.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse, Response};

use super::bucket_api;
use super::multipart::{Event, Parser, part_header};
use crate::core::gate::{self, MAX_BODY_BYTES};
use crate::core::http::{header, own_base};
use crate::core::{ApiError, Sandbox};

/// Google's bound on requests in one batch.
const MAX_CALLS: usize = 100;

/// Answers a batch.
///
/// # Errors
/// 400 for a body that is no batch; errors of single requests stand in their parts.
pub async fn serve(sandbox: &Arc<Sandbox>, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        return Err(bucket_api::not_allowed(&head.method));
    }
    let base = own_base(&head.headers, sandbox.base_url());
    let mut parser = Parser::new(header(&head.headers, "content-type").unwrap_or_default())?;
    let bytes = to_bytes(body, MAX_BODY_BYTES).await.map_err(|e| ApiError::invalid(e.to_string()))?;
    let mut parts: Vec<(Option<String>, Vec<u8>)> = Vec::new();
    for event in parser.feed(&bytes)? {
        match event {
            Event::Part(headers) => parts.push((part_header(&headers, "content-id").map(str::to_string), Vec::new())),
            Event::Data(data) => {
                if let Some(part) = parts.last_mut() {
                    part.1.extend(data);
                }
            }
            Event::PartEnd | Event::End => {}
        }
    }
    parser.finish()?;
    if parts.len() > MAX_CALLS {
        return Err(ApiError::invalid(format!("The batch holds {} requests; the bound is {MAX_CALLS}.", parts.len())));
    }
    let boundary = format!("batch_{}", super::blob::fresh_id());
    let mut out = Vec::new();
    for (id, text) in parts {
        let response = match request_of(&text, &base) {
            Ok(mut request) => {
                // The batch's own credentials stand for those of its calls that have none.
                if let Some(said) = head.headers.get("authorization") {
                    request.headers_mut().entry("authorization").or_insert_with(|| said.clone());
                }
                one(sandbox, request).await
            }
            Err(e) => e.into_response(),
        };
        out.extend_from_slice(format!("--{boundary}\r\nContent-Type: application/http\r\n").as_bytes());
        if let Some(id) = id {
            // `<x>` is answered by `<response-x>`.
            let inner = id.trim_start_matches('<').trim_end_matches('>');
            out.extend_from_slice(format!("Content-ID: <response-{inner}>\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        write_response(response, &mut out).await?;
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Ok(([("content-type", format!("multipart/mixed; boundary={boundary}"))], out).into_response())
}

/// The request in a part. Its target may be a path or a whole URL.
fn request_of(text: &[u8], base: &str) -> Result<Request, ApiError> {
    let bad = |what: &str| ApiError::new(400, "badContent", format!("Failed to parse a request of the batch: {what}"));
    let start = text.iter().position(|b| !b.is_ascii_whitespace()).ok_or_else(|| bad("it is empty"))?;
    let text = &text[start..];
    let end_of = |needle: &[u8]| text.windows(needle.len()).position(|w| w == needle).map(|at| (at, at + needle.len()));
    let (head_end, body_start) = match (end_of(b"\r\n\r\n"), end_of(b"\n\n")) {
        (Some(a), Some(b)) if b.0 < a.0 => b,
        (Some(a), _) => a,
        (None, Some(b)) => b,
        (None, None) => (text.len(), text.len()),
    };
    let head = String::from_utf8_lossy(&text[..head_end]);
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split_whitespace();
    let method: Method = words.next().unwrap_or_default().parse().map_err(|_| bad("it has no method"))?;
    let target = words.next().ok_or_else(|| bad("it has no target"))?;
    let target = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let mut request = Request::builder().method(method).uri(target);
    let host = base.trim_start_matches("http://");
    request = request.header("host", host);
    for (name, value) in lines.filter_map(|l| l.split_once(':')) {
        let name = name.trim().parse::<HeaderName>();
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value.trim()))
            && !matches!(name.as_str(), "host" | "content-length" | "transfer-encoding")
        {
            request = request.header(name, value);
        }
    }
    request.body(Body::from(text[body_start..].to_vec())).map_err(|e| bad(&e.to_string()))
}

/// Only Storage's own requests go into its batches; a batch in a batch does not.
async fn one(sandbox: &Arc<Sandbox>, request: Request) -> Response {
    if !request.uri().path().starts_with("/storage/v1/") {
        return ApiError::not_found(format!("no {} in a batch", request.uri().path())).into_response();
    }
    let inner = sandbox.clone();
    gate::through(sandbox, request, move |request| {
        Box::pin(async move { super::serve_one(&inner, request).await.unwrap_or_else(IntoResponse::into_response) })
    })
    .await
}

async fn write_response(response: Response, out: &mut Vec<u8>) -> Result<(), ApiError> {
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, MAX_BODY_BYTES).await.map_err(|e| ApiError::internal(e.to_string()))?;
    let reason = parts.status.canonical_reason().unwrap_or("");
    out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_u16()).as_bytes());
    for (name, value) in &parts.headers {
        if name != "content-length" {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(&bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_from_their_parts() {
        for end in ["\r\n", "\n"] {
            let text = format!("PATCH http://x/storage/v1/b/y?a=1 HTTP/1.1{end}If-Match: z{end}{end}{{\"a\":1}}");
            let request = request_of(text.as_bytes(), "http://h:1").unwrap();
            assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::PATCH, "/storage/v1/b/y?a=1"));
            assert_eq!(header(request.headers(), "if-match"), Some("z"));
        }
        let request = request_of(b"DELETE /storage/v1/b/y/o/z HTTP/1.1\r\n", "http://h:1").unwrap();
        assert_eq!(request.uri().path(), "/storage/v1/b/y/o/z");
        assert!(request_of(b"  ", "").is_err() && request_of(b"GET", "").is_err());
    }
}
