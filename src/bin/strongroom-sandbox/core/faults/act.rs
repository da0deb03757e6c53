//! Carries a fault out: around the serving of a request, and on the answer's body afterwards. Knows no service.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use futures::{StreamExt, stream};

use super::{Faults, Kind, Strike, When};
use crate::core::ApiError;
use crate::core::gate::{MAX_BODY_BYTES, is_json};

/// The largest answer that is cut or changed.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// A request extension: the job that this request starts ends with this error.
#[derive(Debug, Clone)]
pub struct FailJob {
    pub reason: String,
    pub message: String,
}

/// A response extension: there is no answer.
#[derive(Debug, Clone, Copy)]
struct NoAnswer;

/// What the client gets.
pub enum Outcome {
    Answer(Response),
    Nothing,
}

impl Outcome {
    /// Whether `faulty` or `alter` made it nothing.
    pub fn of(mut response: Response) -> Self {
        match response.extensions_mut().remove::<NoAnswer>() {
            Some(NoAnswer) => Self::Nothing,
            None => Self::Answer(response),
        }
    }
}

fn nothing() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(NoAnswer);
    response
}

/// Serves a request as a fault says.
pub async fn faulty(
    strike: &Strike,
    mut request: Request,
    serve: impl FnOnce(Request) -> BoxFuture<'static, Response>,
) -> Response {
    let rule = &strike.rule;
    if rule.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(rule.delay_ms)).await;
    }
    let kind = rule.kind.unwrap_or(Kind::Delay);
    let ends_here = match kind {
        Kind::Error | Kind::DiskFull => true,
        Kind::Reset | Kind::LoseReply | Kind::Stall => rule.bytes.is_none(),
        Kind::FailJob => {
            let reason = rule.reason.clone().unwrap_or_else(|| "backendError".into());
            let told =
                format!("An internal error occurred and the request could not be completed. ({reason} injected.)");
            let message = rule.message.clone().unwrap_or(told);
            request.extensions_mut().insert(FailJob { reason, message });
            false
        }
        Kind::Delay | Kind::Truncate | Kind::Corrupt | Kind::SkewClock | Kind::Any => false,
    };
    if !ends_here {
        return serve(request).await;
    }
    if rule.when == When::After {
        serve(request).await;
    } else if kind == Kind::Error || kind == Kind::DiskFull {
        // Many clients look for an answer only after they sent all: what they still send is read, within bounds.
        let _ = to_bytes(request.into_body(), MAX_BODY_BYTES).await;
    }
    let Some(error) = rule.error().filter(|_| kind == Kind::Error || kind == Kind::DiskFull) else { return nothing() };
    let mut response = error.into_response();
    if let Some(seconds) = rule.retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Cuts, changes or breaks the body of an answer, where the fault is of that kind.
///
/// # Errors
/// 500 when the body cannot be had.
pub async fn alter(faults: &Arc<Faults>, strike: &Strike, response: Response) -> Result<Response, ApiError> {
    let rule = &strike.rule;
    let kind = match rule.kind {
        Some(kind @ (Kind::Truncate | Kind::Corrupt)) => kind,
        Some(kind @ (Kind::Reset | Kind::Stall)) if rule.bytes.is_some() => kind,
        _ => return Ok(response),
    };
    let json = is_json(response.headers());
    let (mut parts, body) = response.into_parts();
    let whole = to_bytes(body, MAX_ANSWER_BYTES).await.map_err(|e| ApiError::internal(e.to_string()))?;
    if whole.is_empty() {
        // Nothing to cut or to change: the answer is lost as a whole.
        return Ok(nothing());
    }
    let at = usize::try_from(strike.draw % whole.len() as u64).unwrap_or_default();
    let wanted = rule.bytes.and_then(|bytes| usize::try_from(bytes).ok());
    let kept = wanted.unwrap_or(at).min(whole.len() - 1);
    parts.headers.remove(TRANSFER_ENCODING);
    let body = match kind {
        Kind::Truncate => {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(kept));
            Body::from(whole.slice(..kept))
        }
        Kind::Corrupt => {
            let mut changed = whole.to_vec();
            // No text has this byte: such JSON cannot be taken for another.
            changed[at] = if json { 0xff } else { changed[at] ^ 0x20 };
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(changed.len()));
            Body::from(changed)
        }
        _ => {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
            let (faults, strike, stalls) = (faults.clone(), strike.clone(), kind == Kind::Stall);
            let end = async move {
                if stalls {
                    faults.hold(strike).await;
                }
                Err(std::io::Error::other("a fault was injected"))
            };
            let begin = stream::iter([Ok::<Bytes, std::io::Error>(whole.slice(..kept))]);
            Body::from_stream(begin.chain(stream::once(end)))
        }
    };
    Ok(Response::from_parts(parts, body))
}

/// Gives no answer: holds the request first where it is stalled, then ends its connection.
pub async fn never(faults: &Arc<Faults>, strike: Option<Strike>) -> ! {
    if let Some(strike) = strike.filter(|strike| strike.rule.kind == Some(Kind::Stall)) {
        faults.hold(strike).await;
    }
    // The task that serves the connection unwinds and drops it; no panic message is printed.
    std::panic::resume_unwind(Box::new(()))
}
