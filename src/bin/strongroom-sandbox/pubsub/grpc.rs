//! gRPC as far as Pub/Sub needs it: frames, statuses, unary calls and the streaming pull, on the sandbox's own port
//! (HTTP/2 without TLS, as every client with PUBSUB_EMULATOR_HOST speaks it).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use futures::{Stream, StreamExt};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::wire::{self, STREAMED, STREAMING_PULL};
use super::{ARRIVED, LOOK_EVERY, call, delivery, text, texts};
use crate::core::gate::MAX_BODY_BYTES;
use crate::core::http::{encode, header};
use crate::core::{ApiError, Sandbox};

/// The largest message of a client; Pub/Sub takes 10 MB.
const MAX_MESSAGE_BYTES: usize = 32 << 20;
/// How many messages one answer of a stream holds at most.
const BATCH: usize = 100;
/// Clients take a silent stream for a broken one.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// Whether a request speaks gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    header(headers, "content-type").is_some_and(|t| t.starts_with("application/grpc"))
}

/// Answers any gRPC request; errors are answers too.
pub async fn serve(sandbox: &Arc<Sandbox>, request: Request) -> Response {
    let path = request.uri().path().to_string();
    let method = match path.trim_start_matches('/').split_once('/') {
        Some(("google.pubsub.v1.Publisher" | "google.pubsub.v1.Subscriber", method)) => method.to_string(),
        _ => String::new(),
    };
    if method == "StreamingPull" {
        return streaming_pull(sandbox.clone(), request.into_body());
    }
    let Some((verb, asked, answered)) = wire::rpc(&method) else {
        return failed(&ApiError::not_implemented(format!("the sandbox has no gRPC method {path}")));
    };
    let result = async {
        let bytes = to_bytes(request.into_body(), MAX_BODY_BYTES).await;
        let bytes = bytes.map_err(|e| ApiError::invalid(format!("the request broke off: {e}")))?;
        let mut buffer = bytes.to_vec();
        let message = next_message(&mut buffer)?.ok_or_else(|| ApiError::invalid("the request holds no message"))?;
        let request = wire::decode(asked, &message).ok_or_else(|| ApiError::invalid("the message is damaged"))?;
        call(sandbox, verb, request).await
    };
    match result.await {
        Ok(answer) => {
            let frames = [Frame::data(framed(&wire::encode(answered, &answer))), Frame::trailers(status_of(None))];
            response(Body::new(StreamBody::new(futures::stream::iter(frames.map(Ok::<_, std::io::Error>)))))
        }
        Err(e) => failed(&e),
    }
}

// ----------------------------------------------------------------------------------------------- The streaming pull

type Sender = mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>;

fn streaming_pull(sandbox: Arc<Sandbox>, body: Body) -> Response {
    let (send, receive) = mpsc::channel(8);
    tokio::spawn(async move {
        let end = match stream(&sandbox, body, &send).await {
            Ok(()) => status_of(None),
            Err(e) => status_of(Some(&e)),
        };
        let _ = send.send(Ok(Frame::trailers(end))).await;
    });
    let frames = futures::stream::unfold(receive, |mut receive| async { Some((receive.recv().await?, receive)) });
    response(Body::new(StreamBody::new(frames)))
}

/// What one stream knows.
#[derive(Default)]
struct State {
    subscription: String,
    deadline_s: Option<i64>,
    most: Option<usize>,
    /// What its client has and has not answered for.
    outstanding: HashSet<String>,
}

async fn stream(sandbox: &Arc<Sandbox>, body: Body, send: &Sender) -> Result<(), ApiError> {
    let mut requests = Box::pin(messages(body));
    let mut state = State::default();
    let mut said = tokio::time::Instant::now();
    loop {
        let arrived = ARRIVED.notified();
        if !state.subscription.is_empty() {
            let room = state.most.map_or(BATCH, |most| most.saturating_sub(state.outstanding.len())).min(BATCH);
            let found = sandbox
                .db
                .transaction(|tx| delivery::lease(sandbox, tx, &state.subscription, room, state.deadline_s))?;
            if !found.is_empty() || said.elapsed() >= HEARTBEAT {
                state.outstanding.extend(found.iter().map(|m| text(m, "ackId").to_string()));
                let full = found.len() == room;
                let answer = json!({ "receivedMessages": found, "subscriptionProperties": {} });
                said = tokio::time::Instant::now();
                if send.send(Ok(Frame::data(framed(&wire::encode(STREAMED, &answer))))).await.is_err() {
                    return Ok(());
                }
                if full && state.most.is_none() {
                    continue;
                }
            }
        }
        tokio::select! {
            () = send.closed() => return Ok(()),
            request = requests.next() => match request {
                Some(request) => take(sandbox, &mut state, &request?)?,
                None => return Ok(()),
            },
            _ = tokio::time::timeout(LOOK_EVERY, arrived) => {}
        }
    }
}

/// A request within a stream: the first says what is wanted, all may acknowledge and prolong.
fn take(sandbox: &Arc<Sandbox>, state: &mut State, bytes: &[u8]) -> Result<(), ApiError> {
    let request = wire::decode(STREAMING_PULL, bytes).ok_or_else(|| ApiError::invalid("the message is damaged"))?;
    if state.subscription.is_empty() {
        state.subscription = text(&request, "subscription").to_string();
        if state.subscription.is_empty() {
            return Err(ApiError::invalid("The first request of a stream must name the subscription."));
        }
        let most = request["maxOutstandingMessages"].as_i64().and_then(|n| usize::try_from(n).ok());
        state.most = most.filter(|n| *n > 0);
    }
    if let Some(seconds) = request["streamAckDeadlineSeconds"].as_i64().filter(|s| *s > 0) {
        state.deadline_s = Some(seconds.clamp(10, 600));
    }
    let acked = texts(&request, "ackIds");
    let moved = texts(&request, "modifyDeadlineAckIds");
    let seconds: Vec<i64> =
        request["modifyDeadlineSeconds"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
    if seconds.len() != moved.len() {
        return Err(ApiError::invalid("There must be as many deadlines as ack ids to modify."));
    }
    let now_us = sandbox.clock.now_us();
    sandbox.db.transaction(|tx| {
        if !acked.is_empty() {
            delivery::acknowledge(tx, &state.subscription, &acked)?;
        }
        for (id, seconds) in moved.iter().zip(&seconds) {
            delivery::extend(tx, &state.subscription, std::slice::from_ref(id), *seconds, now_us)?;
        }
        Ok(())
    })?;
    let given_up = moved.iter().zip(&seconds).filter(|(_, s)| **s == 0).map(|(id, _)| id);
    for id in acked.iter().chain(given_up) {
        state.outstanding.remove(id);
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------- Framing

/// The messages in a body, as they come.
fn messages(body: Body) -> impl Stream<Item = Result<Vec<u8>, ApiError>> {
    futures::stream::unfold((body.into_data_stream(), Vec::new()), |(mut stream, mut buffer)| async {
        loop {
            match next_message(&mut buffer) {
                Ok(Some(message)) => return Some((Ok(message), (stream, buffer))),
                Ok(None) => {}
                Err(e) => return Some((Err(e), (stream, buffer))),
            }
            // A client that breaks off is gone, as one that ends.
            buffer.extend_from_slice(&stream.next().await?.ok()?);
        }
    })
}

/// Takes a whole message off the front.
fn next_message(buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, ApiError> {
    let Some((head, rest)) = buffer.split_first_chunk::<5>() else { return Ok(None) };
    if head[0] != 0 {
        return Err(ApiError::not_implemented("the sandbox takes no compressed gRPC messages"));
    }
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(ApiError::new(429, "resourceExhausted", format!("a message of {length} bytes is too large")));
    }
    let Some(message) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
    buffer.drain(..5 + length);
    Ok(Some(message))
}

fn framed(message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(message.len() + 5);
    out.push(0);
    out.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(message);
    out.into()
}

fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// An answer of nothing but a status.
fn failed(error: &ApiError) -> Response {
    let mut response = response(Body::empty());
    response.headers_mut().extend(status_of(Some(error)));
    response
}

fn status_of(error: Option<&ApiError>) -> HeaderMap {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let mut headers = HeaderMap::new();
    let code = error.map_or(0, |e| NAMES.iter().position(|n| *n == e.status()).unwrap_or(2));
    headers.insert("grpc-status", HeaderValue::from(code));
    if let Some(value) = error.and_then(|e| HeaderValue::from_str(&encode(&e.message)).ok()) {
        headers.insert("grpc-message", value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_wherever_they_end() {
        let mut buffer = [framed(b"one").to_vec(), framed(b"").to_vec(), vec![0, 0, 0]].concat();
        assert_eq!(next_message(&mut buffer).unwrap().unwrap(), b"one");
        assert_eq!(next_message(&mut buffer).unwrap().unwrap(), b"");
        assert_eq!(next_message(&mut buffer).unwrap(), None);
        buffer.extend([0, 2, b'x']);
        assert_eq!(next_message(&mut buffer).unwrap(), None);
        assert!(next_message(&mut vec![1, 0, 0, 0, 0]).is_err());
        assert!(next_message(&mut vec![0, 255, 0, 0, 0]).is_err());
    }

    #[test]
    fn statuses_are_googles_numbers() {
        let headers = status_of(Some(&ApiError::not_found("no é")));
        assert!(headers["grpc-status"] == "5" && headers["grpc-message"] == "no%20%C3%A9", "{headers:?}");
    }
}
