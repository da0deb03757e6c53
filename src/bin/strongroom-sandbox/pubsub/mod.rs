//! Pub/Sub v1: topics, subscriptions, snapshots and their messages, over REST and gRPC. Both ways meet in `call`, which
//! takes requests as the JSON of Google's messages.

mod delivery;
mod grpc;
mod push;
mod snapshots;
mod subscriptions;
#[cfg(test)]
mod tests;
mod topics;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::Notify;

pub use grpc::{is_grpc, serve as grpc};
pub use push::start;
pub use topics::publish;

use crate::core::gate::MAX_BODY_BYTES;
use crate::core::http::{json_object, ok, segments};
use crate::core::{ApiError, Params, Sandbox, Tx};

/// key = `projects/P/topics/T`.
const TOPICS: &str = "pubsub.topics";
/// key = `projects/P/subscriptions/S`.
const SUBSCRIPTIONS: &str = "pubsub.subscriptions";
/// key = `projects/P/snapshots/S`.
const SNAPSHOTS: &str = "pubsub.snapshots";
/// key = a resource's name.
const POLICIES: &str = "pubsub.iam";
/// What a subscription of a deleted topic has instead of it.
const DELETED: &str = "_deleted-topic_";
/// How long a pull waits for a first message.
const PULL_WAIT: Duration = Duration::from_secs(5);
/// How often those who wait look by themselves: leases run out without anybody saying so.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Wakes those who wait for messages.
static ARRIVED: Notify = Notify::const_new();

/// Whether a path is Pub/Sub's: `/v1/projects/P/topics...`.
pub fn owns(path: &str) -> bool {
    let kind = path.trim_start_matches('/').split('/').nth(3).unwrap_or_default();
    let kind = kind.split(':').next().unwrap_or_default();
    path.starts_with("/v1/projects/") && matches!(kind, "topics" | "subscriptions" | "snapshots" | "schemas")
}

/// Answers a REST request.
///
/// # Errors
/// As Google words them.
pub async fn serve(sandbox: &Arc<Sandbox>, request: Request) -> Result<Response, ApiError> {
    let params = Params::of(request.uri());
    let method = request.method().clone();
    let segments = segments(request.uri().path()).ok_or_else(|| ApiError::invalid("the path is no valid UTF-8"))?;
    let bytes = to_bytes(request.into_body(), MAX_BODY_BYTES).await.map_err(|e| ApiError::invalid(e.to_string()))?;
    let body = json_object(&bytes)?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (verb, request) = rest(&method, &parts, &params, body)
        .ok_or_else(|| ApiError::not_found(format!("the sandbox's Pub/Sub has no {method} /{}", parts.join("/"))))?;
    Ok(ok(call(sandbox, &verb, request).await?))
}

/// A REST request as the name of a method and its message.
fn rest(method: &Method, parts: &[&str], params: &Params, mut body: Value) -> Option<(String, Value)> {
    let paged = |mut request: Value| {
        for field in ["pageSize", "pageToken"] {
            if let Some(value) = params.get(field) {
                request[field] = value.parse::<i64>().map_or_else(|_| json!(value), |n| json!(n));
            }
        }
        request
    };
    match (method, parts) {
        (&Method::GET, ["v1", "projects", project, kind]) => {
            Some((format!("{kind}.list"), paged(json!({ "project": format!("projects/{project}") }))))
        }
        (&Method::GET, ["v1", "projects", project, "topics", topic, kind @ ("subscriptions" | "snapshots")]) => {
            let request = paged(json!({ "topic": format!("projects/{project}/topics/{topic}") }));
            Some((format!("topics.{kind}.list"), request))
        }
        (method, ["v1", "projects", project, kind, last]) => {
            let (id, verb) = last.split_once(':').map_or((*last, None), |(id, verb)| (id, Some(verb)));
            let one = kind.strip_suffix('s')?;
            let name = format!("projects/{project}/{kind}/{id}");
            let verb = match (method, verb) {
                (&Method::GET, None) => "get",
                (&Method::DELETE, None) => "delete",
                (&Method::PUT, None) => "create",
                (&Method::PATCH, None) => "patch",
                (&Method::GET, Some("getIamPolicy")) => "getIamPolicy",
                (&Method::POST, Some(verb)) => verb,
                _ => return None,
            };
            match verb {
                "create" => body["name"] = json!(name),
                "patch" => body[one]["name"] = json!(name),
                "getIamPolicy" | "setIamPolicy" | "testIamPermissions" => body["resource"] = json!(name),
                _ => body[one] = json!(name),
            }
            Some((format!("{kind}.{verb}"), body))
        }
        _ => None,
    }
}

/// Serves a request, however it came.
///
/// # Errors
/// As Google words them.
async fn call(sandbox: &Arc<Sandbox>, verb: &str, request: Value) -> Result<Value, ApiError> {
    match verb {
        "subscriptions.pull" => return pull(sandbox, &request).await,
        "topics.publish" => {
            let messages = request["messages"].as_array().cloned().unwrap_or_default();
            return Ok(json!({ "messageIds": publish(sandbox, text(&request, "topic"), messages)? }));
        }
        _ => {}
    }
    let answer = sandbox.db.transaction(|tx| match verb {
        "topics.create" => topics::create(tx, &request),
        "topics.get" => topics::load(tx, text(&request, "topic")),
        "topics.list" => list(tx, TOPICS, "topics", &request),
        "topics.patch" => topics::patch(tx, &request),
        "topics.delete" => topics::delete(tx, text(&request, "topic")),
        "topics.subscriptions.list" => topics::below(tx, SUBSCRIPTIONS, "subscriptions", &request),
        "topics.snapshots.list" => topics::below(tx, SNAPSHOTS, "snapshots", &request),
        "subscriptions.create" => subscriptions::create(tx, &request),
        "subscriptions.get" => subscriptions::load(tx, text(&request, "subscription")),
        "subscriptions.list" => list(tx, SUBSCRIPTIONS, "subscriptions", &request),
        "subscriptions.patch" => subscriptions::patch(tx, &request),
        "subscriptions.delete" => subscriptions::delete(tx, text(&request, "subscription")),
        "subscriptions.detach" => subscriptions::detach(tx, text(&request, "subscription")),
        "subscriptions.modifyPushConfig" => subscriptions::modify_push(tx, &request),
        "subscriptions.acknowledge" => {
            delivery::acknowledge(tx, text(&request, "subscription"), &texts(&request, "ackIds"))
        }
        "subscriptions.modifyAckDeadline" => {
            let seconds = request["ackDeadlineSeconds"].as_i64().unwrap_or(0);
            let ids = texts(&request, "ackIds");
            delivery::extend(tx, text(&request, "subscription"), &ids, seconds, sandbox.clock.now_us())
        }
        "subscriptions.seek" => snapshots::seek(tx, &request, sandbox.clock.now_us()),
        "snapshots.create" => snapshots::create(tx, &request, sandbox.clock.now_us()),
        "snapshots.get" => snapshots::load(tx, text(&request, "snapshot")).map(public),
        "snapshots.list" => list(tx, SNAPSHOTS, "snapshots", &request),
        "snapshots.patch" => snapshots::patch(tx, &request),
        "snapshots.delete" => snapshots::delete(tx, text(&request, "snapshot")),
        _ => match verb.rsplit_once('.') {
            Some(("topics" | "subscriptions" | "snapshots", verb)) => iam(tx, verb, &request),
            _ => Err(ApiError::not_implemented(format!("the sandbox's Pub/Sub does not emulate {verb}"))),
        },
    })?;
    ARRIVED.notify_waiters();
    Ok(answer)
}

/// Messages, as soon as there are any.
async fn pull(sandbox: &Arc<Sandbox>, request: &Value) -> Result<Value, ApiError> {
    let most = request["maxMessages"].as_u64().filter(|n| *n > 0);
    let most = most.ok_or_else(|| ApiError::invalid("The max_messages value must be a positive number."))?;
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(1000);
    let began = tokio::time::Instant::now();
    loop {
        let arrived = ARRIVED.notified();
        let found =
            sandbox.db.transaction(|tx| delivery::lease(sandbox, tx, text(request, "subscription"), most, None))?;
        if !found.is_empty() {
            return Ok(json!({ "receivedMessages": found }));
        }
        if request["returnImmediately"] == json!(true) || began.elapsed() >= PULL_WAIT {
            return Ok(json!({}));
        }
        let _ = tokio::time::timeout(LOOK_EVERY, arrived).await;
    }
}

fn iam(tx: &Tx<'_>, verb: &str, request: &Value) -> Result<Value, ApiError> {
    let name = text(request, "resource");
    match name.split('/').nth(2) {
        Some("topics") => drop(topics::load(tx, name)?),
        Some("subscriptions") => drop(subscriptions::load(tx, name)?),
        _ => drop(snapshots::load(tx, name)?),
    }
    match verb {
        "getIamPolicy" => Ok(tx.get(POLICIES, name)?.unwrap_or_else(|| json!({ "etag": "ACAB" }))),
        "setIamPolicy" => {
            let mut policy = request["policy"].clone();
            policy["etag"] = json!(format!("{:x}", crc32c::crc32c(policy.to_string().as_bytes())));
            tx.put(POLICIES, name, &policy)?;
            Ok(policy)
        }
        "testIamPermissions" => Ok(json!({ "permissions": request["permissions"] })),
        _ => Err(ApiError::not_implemented(format!("the sandbox's Pub/Sub does not emulate {verb}"))),
    }
}

fn list(tx: &Tx<'_>, space: &str, field: &str, request: &Value) -> Result<Value, ApiError> {
    let prefix = format!("{}/{field}/", text(request, "project"));
    let found = tx.scan(space, &prefix, None, usize::MAX)?;
    Ok(page(found.into_iter().map(|(key, value)| (key, public(value))).collect(), field, request))
}

/// A page of what was found.
fn page(found: Vec<(String, Value)>, field: &str, request: &Value) -> Value {
    let size = request["pageSize"].as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(1000);
    let after = text(request, "pageToken");
    let mut rest: Vec<(String, Value)> = found.into_iter().filter(|(key, _)| key.as_str() > after).collect();
    let more = rest.len() > size;
    rest.truncate(size);
    let next = rest.last().filter(|_| more).map(|(key, _)| key.clone());
    let mut answer = json!({ field: rest.into_iter().map(|(_, v)| v).collect::<Vec<_>>() });
    if let Some(next) = next {
        answer["nextPageToken"] = json!(next);
    }
    answer
}

/// Without what only the sandbox knows.
fn public(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.retain(|k, _| !k.starts_with('_'));
    }
    value
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    value[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
}

fn missing(name: &str) -> ApiError {
    let resource = name.rsplit('/').next().unwrap_or_default();
    ApiError::not_found(format!("Resource not found (resource={resource})."))
}

fn exists(name: &str) -> ApiError {
    let resource = name.rsplit('/').next().unwrap_or_default();
    ApiError::new(409, "alreadyExists", format!("Resource already exists in the project (resource={resource})."))
}

/// `projects/P/KIND/ID` with an id as Google takes them.
fn check_name(name: &str, kind: &str) -> Result<(), ApiError> {
    let parts: Vec<&str> = name.split('/').collect();
    let sound = match parts.as_slice() {
        ["projects", project, of, id] => {
            !project.is_empty()
                && *of == kind
                && (3..=255).contains(&id.len())
                && id.starts_with(|c: char| c.is_ascii_alphabetic())
                && !id.starts_with("goog")
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~+%".contains(&b))
        }
        _ => false,
    };
    if sound { Ok(()) } else { Err(ApiError::invalid(format!("Invalid [{kind}] name: (name={name})"))) }
}
