//! Cloud Scheduler v1: jobs, their states, and what fires them. Knows HTTP and Pub/Sub targets.

mod cron;
mod fire;

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};

use crate::core::clock::rfc3339_us;
use crate::core::gate::MAX_BODY_BYTES;
use crate::core::http::{json_object, ok, segments};
use crate::core::mask::{camel, put_at};
use crate::core::{ApiError, Params, Sandbox};
use cron::Schedule;
pub use fire::{outgoing, start};

/// key = `projects/P/locations/L/jobs/J`.
pub const JOBS: &str = "scheduler.jobs";

const STATES: [&str; 5] = ["STATE_UNSPECIFIED", "ENABLED", "PAUSED", "DISABLED", "UPDATE_FAILED"];
const METHODS: [&str; 8] = ["HTTP_METHOD_UNSPECIFIED", "POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"];
/// What a client may say about a job.
const EDITABLE: [&str; 8] = [
    "description",
    "pubsubTarget",
    "appEngineHttpTarget",
    "httpTarget",
    "schedule",
    "timeZone",
    "retryConfig",
    "attemptDeadline",
];

/// Answers a request below `/v1/projects/P/locations`.
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
    let view = |job: Value| ok(if params.int_enums() { in_integers(job) } else { job });
    match (&method, parts.as_slice()) {
        (&Method::GET, ["v1", "projects", project, "locations"]) => {
            Ok(ok(json!({ "locations": [location(project, "us-central1")] })))
        }
        (&Method::GET, ["v1", "projects", project, "locations", name]) => Ok(ok(location(project, name))),
        (method, ["v1", "projects", project, "locations", place, "jobs"]) => {
            let parent = format!("projects/{project}/locations/{place}");
            match *method {
                Method::GET => {
                    let mut answer = list(sandbox, &parent, &params)?;
                    if params.int_enums() {
                        for job in answer["jobs"].as_array_mut().into_iter().flatten() {
                            *job = in_integers(job.take());
                        }
                    }
                    Ok(ok(answer))
                }
                Method::POST => create(sandbox, &parent, &body).map(view),
                _ => Err(unknown(method, &parts)),
            }
        }
        (method, ["v1", "projects", project, "locations", place, "jobs", last]) => {
            let (id, verb) = last.split_once(':').map_or((*last, None), |(id, verb)| (id, Some(verb)));
            let name = format!("projects/{project}/locations/{place}/jobs/{id}");
            match (method, verb) {
                (&Method::GET, None) => load(sandbox, &name).map(view),
                (&Method::PATCH, None) => update(sandbox, &name, &params, &body).map(view),
                (&Method::DELETE, None) => {
                    if sandbox.db.delete(JOBS, &name)? {
                        Ok(ok(json!({})))
                    } else {
                        Err(no_such_job())
                    }
                }
                (&Method::POST, Some("pause")) => set_state(sandbox, &name, "PAUSED").map(view),
                (&Method::POST, Some("resume")) => set_state(sandbox, &name, "ENABLED").map(view),
                (&Method::POST, Some("run")) => {
                    let job = load(sandbox, &name)?;
                    fire::fire(sandbox, &job, sandbox.clock.now_us());
                    Ok(view(job))
                }
                _ => Err(unknown(method, &parts)),
            }
        }
        _ => Err(unknown(&method, &parts)),
    }
}

fn unknown(method: &Method, parts: &[&str]) -> ApiError {
    ApiError::not_found(format!("the sandbox's Cloud Scheduler has no {method} /{}", parts.join("/")))
}

fn no_such_job() -> ApiError {
    ApiError::not_found("Job not found.")
}

fn location(project: &str, name: &str) -> Value {
    json!({ "name": format!("projects/{project}/locations/{name}"), "locationId": name })
}

fn load(sandbox: &Sandbox, name: &str) -> Result<Value, ApiError> {
    sandbox.db.get(JOBS, name)?.ok_or_else(no_such_job)
}

fn list(sandbox: &Sandbox, parent: &str, params: &Params) -> Result<Value, ApiError> {
    let size =
        params.number("pageSize")?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(500).min(500);
    let prefix = format!("{parent}/jobs/");
    let mut found = sandbox.db.scan(JOBS, &prefix, params.get("pageToken"), size + 1)?;
    let more = found.len() > size;
    found.truncate(size);
    let next = if more { found.last().map(|(key, _)| key.clone()) } else { None };
    let mut answer = json!({ "jobs": found.into_iter().map(|(_, job)| job).collect::<Vec<_>>() });
    if let Some(next) = next {
        answer["nextPageToken"] = json!(next);
    }
    Ok(answer)
}

fn create(sandbox: &Arc<Sandbox>, parent: &str, body: &Value) -> Result<Value, ApiError> {
    let name = match body["name"].as_str() {
        Some(name) if !name.is_empty() => {
            let id = name.strip_prefix(&format!("{parent}/jobs/"));
            let id = id.filter(|id| {
                (1..=500).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            });
            id.map(|_| name.to_string()).ok_or_else(|| {
                ApiError::invalid(
                    "Job name must match its parent and be 1 to 500 letters, digits, hyphens or underscores.",
                )
            })?
        }
        _ => format!("{parent}/jobs/{:020}", rand::random::<u64>()),
    };
    let mut job = json!({
        "name": name,
        "state": "ENABLED",
        "timeZone": "Etc/UTC",
        "attemptDeadline": "180s",
        "retryConfig": { "maxRetryDuration": "0s", "minBackoffDuration": "5s", "maxBackoffDuration": "3600s", "maxDoublings": 5 },
    });
    for field in EDITABLE {
        if let Some(value) = body.get(field).filter(|v| !v.is_null()) {
            lay_over(&mut job[field], value);
        }
    }
    complete(sandbox, &mut job)?;
    sandbox.db.transaction(|tx| {
        if tx.get(JOBS, &name)?.is_some() {
            return Err(ApiError::new(409, "alreadyExists", format!("Job {name} already exists.")));
        }
        tx.put(JOBS, &name, &job)
    })?;
    Ok(job)
}

fn update(sandbox: &Arc<Sandbox>, name: &str, params: &Params, body: &Value) -> Result<Value, ApiError> {
    let mask: Vec<String> = match params.get("updateMask") {
        Some(mask) => mask.split(',').map(|p| camel(p.trim())).collect(),
        None => EDITABLE.iter().filter(|f| body.get(**f).is_some()).map(|f| (*f).to_string()).collect(),
    };
    sandbox.db.transaction(|tx| {
        let mut job = tx.get(JOBS, name)?.ok_or_else(no_such_job)?;
        for path in &mask {
            let mut steps = path.split('.');
            let first = steps.next().unwrap_or_default();
            if !EDITABLE.contains(&first) {
                return Err(ApiError::invalid(format!("Field '{path}' cannot be updated.")));
            }
            let pointer: String = path.split('.').map(|s| format!("/{s}")).collect();
            put_at(&mut job, path, body.pointer(&pointer).cloned().filter(|v| !v.is_null()));
        }
        complete(sandbox, &mut job)?;
        tx.put(JOBS, name, &job)?;
        Ok(job)
    })
}

fn set_state(sandbox: &Arc<Sandbox>, name: &str, state: &str) -> Result<Value, ApiError> {
    sandbox.db.transaction(|tx| {
        let mut job = tx.get(JOBS, name)?.ok_or_else(no_such_job)?;
        if job["state"] != json!(state) {
            job["state"] = json!(state);
            if state == "ENABLED" {
                plan(&mut job, sandbox.clock.now_us());
            }
            tx.put(JOBS, name, &job)?;
        }
        Ok(job)
    })
}

/// Checks a job and fills in what the server says of it.
fn complete(sandbox: &Sandbox, job: &mut Value) -> Result<(), ApiError> {
    let targets = ["pubsubTarget", "appEngineHttpTarget", "httpTarget"];
    if targets.iter().filter(|t| job.get(**t).is_some()).count() != 1 {
        return Err(ApiError::invalid("Job must have exactly one target."));
    }
    if job["timeZone"].as_str().is_none_or(str::is_empty) {
        job["timeZone"] = json!("Etc/UTC");
    }
    if schedule_of(job).is_none() {
        return Err(ApiError::invalid(format!(
            "Schedule or timezone is invalid: '{}' in '{}'.",
            text(job, "schedule"),
            text(job, "timeZone")
        )));
    }
    if let Some(target) = job.get_mut("httpTarget").and_then(Value::as_object_mut) {
        let uri = target.get("uri").and_then(Value::as_str).unwrap_or_default();
        let sound = url::Url::parse(uri).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        if !sound {
            return Err(ApiError::invalid(format!("HttpTarget.uri must be a valid http or https URL, not '{uri}'.")));
        }
        let method = named(target.get("httpMethod"), &METHODS).unwrap_or("POST").to_string();
        target.insert("httpMethod".into(), json!(method));
    }
    let now_us = sandbox.clock.now_us();
    job["userUpdateTime"] = json!(rfc3339_us(now_us));
    plan(job, now_us);
    Ok(())
}

/// Sets when the job fires next.
pub fn plan(job: &mut Value, now_us: i64) {
    let next = schedule_of(job).and_then(|s| s.next_after(now_us));
    match (next, job.as_object_mut()) {
        (Some(next), _) => job["scheduleTime"] = json!(rfc3339_us(next)),
        (None, Some(map)) => {
            map.remove("scheduleTime");
        }
        (None, None) => {}
    }
}

fn schedule_of(job: &Value) -> Option<Schedule> {
    Schedule::parse(text(job, "schedule"), text(job, "timeZone"))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// An enum that came as a name or as an integer.
fn named(value: Option<&Value>, names: &[&'static str]) -> Option<&'static str> {
    let value = value?;
    let by_number = || value.as_u64().and_then(|n| names.get(usize::try_from(n).ok()?).copied());
    let found = value.as_str().and_then(|s| names.iter().find(|n| **n == s).copied()).or_else(by_number)?;
    (found != names[0]).then_some(found)
}

/// The job with its enums as integers.
fn in_integers(mut job: Value) -> Value {
    let number = |value: &Value, names: &[&str]| value.as_str().and_then(|s| names.iter().position(|n| *n == s));
    if let Some(state) = number(&job["state"], &STATES) {
        job["state"] = json!(state);
    }
    if let Some(method) = job.pointer_mut("/httpTarget/httpMethod")
        && let Some(n) = number(method, &METHODS)
    {
        *method = json!(n);
    }
    job
}

/// Maps merge, all else replaces.
fn lay_over(target: &mut Value, value: &Value) {
    match (target, value) {
        (Value::Object(old), Value::Object(new)) => old.extend(new.clone()),
        (target, value) => *target = value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Options;

    #[test]
    fn jobs_go_through_their_states() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            project: "p".into(),
            allow_external_targets: false,
            bigquery: crate::bigquery::Settings::default(),
        };
        let sandbox = Sandbox::open(dir.path(), options).unwrap();
        let now = crate::core::clock::parse_rfc3339_us("2026-11-21T03:00:00Z").unwrap();
        sandbox.set_clock_us(now).unwrap();
        let parent = "projects/p/locations/l";
        let name = format!("{parent}/jobs/j");
        let body = json!({ "name": name, "schedule": "0 2 * * *", "httpTarget": { "uri": "http://127.0.0.1/x", "httpMethod": 1 } });
        let job = create(&sandbox, parent, &body).unwrap();
        assert_eq!((&job["state"], &job["httpTarget"]["httpMethod"]), (&json!("ENABLED"), &json!("POST")));
        assert_eq!(job["scheduleTime"], "2026-11-22T02:00:00.000000Z");
        assert_eq!(in_integers(job)["state"], 1);
        assert_eq!(create(&sandbox, parent, &body).unwrap_err().code, 409);
        assert_eq!(set_state(&sandbox, &name, "PAUSED").unwrap()["state"], "PAUSED");
        let mask = Params::parse(Some("updateMask=schedule,http_target.uri"));
        let change = json!({ "schedule": "30 3 * * 0", "httpTarget": { "uri": "http://127.0.0.1/y" } });
        let job = update(&sandbox, &name, &mask, &change).unwrap();
        assert_eq!(
            (&job["state"], &job["httpTarget"]["uri"], &job["httpTarget"]["httpMethod"]),
            (&json!("PAUSED"), &json!("http://127.0.0.1/y"), &json!("POST"))
        );
        for bad in
            [json!({ "schedule": "never" }), json!({ "httpTarget": null }), json!({ "timeZone": "Mars/Olympus" })]
        {
            let mask = Params::parse(Some(&format!("updateMask={}", bad.as_object().unwrap().keys().next().unwrap())));
            assert_eq!(update(&sandbox, &name, &mask, &bad).unwrap_err().code, 400, "{bad}");
        }
        assert_eq!(load(&sandbox, "projects/p/locations/l/jobs/none").unwrap_err().code, 404);
    }
}
