//! Firing jobs: when the sandbox's clock passes their time, or when asked. Targets are HTTP (loopback only unless told
//! otherwise) and Pub/Sub topics.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{JOBS, METHODS, named, plan, text};
use crate::core::clock::{parse_rfc3339_us, rfc3339_us};
use crate::core::{ApiError, Sandbox};
use crate::pubsub;

/// How often the clock is looked at when nobody sets it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Google's longest attempt.
const MAX_DEADLINE: Duration = Duration::from_secs(1800);
const MAX_RETRIES: u64 = 5;

/// Starts what fires jobs as time goes by.
pub fn start(sandbox: &Arc<Sandbox>) {
    let sandbox = sandbox.clone();
    tokio::spawn(async move {
        let mut clock = sandbox.clock.subscribe();
        loop {
            tokio::select! {
                changed = clock.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if let Err(e) = fire_due(&sandbox) {
                tracing::warn!("the scheduler cannot read its jobs: {e}");
            }
        }
    });
}

/// Fires every enabled job whose time has come: once, however often its time came since.
fn fire_due(sandbox: &Arc<Sandbox>) -> Result<(), ApiError> {
    let now_us = sandbox.clock.now_us();
    let mut due = Vec::new();
    sandbox.db.transaction(|tx| {
        for (name, mut job) in tx.scan(JOBS, "", None, usize::MAX)? {
            if job["state"] != json!("ENABLED") {
                continue;
            }
            let before = job["scheduleTime"].clone();
            let planned = before.as_str().and_then(parse_rfc3339_us);
            plan(&mut job, now_us);
            match planned {
                Some(planned) if planned <= now_us => due.push((job.clone(), planned)),
                // Also when the clock was set back.
                _ if job["scheduleTime"] != before => {}
                _ => continue,
            }
            tx.put(JOBS, &name, &job)?;
        }
        Ok(())
    })?;
    for (job, planned) in due {
        fire(sandbox, &job, planned);
    }
    Ok(())
}

/// Calls a job's target beside the request, and records how it went.
pub fn fire(sandbox: &Arc<Sandbox>, job: &Value, schedule_us: i64) {
    let (sandbox, job) = (sandbox.clone(), job.clone());
    tokio::spawn(async move {
        let retries = job["retryConfig"]["retryCount"].as_u64().unwrap_or(0).min(MAX_RETRIES);
        let mut pause = seconds(&job["retryConfig"]["minBackoffDuration"]).unwrap_or(Duration::from_secs(5));
        let longest = seconds(&job["retryConfig"]["maxBackoffDuration"]).unwrap_or(Duration::from_secs(3600));
        for attempt in 0..=retries {
            let outcome = call(&sandbox, &job, schedule_us).await;
            let failed = outcome.is_err();
            if let Err(e) = record(&sandbox, text(&job, "name"), outcome) {
                tracing::warn!("the scheduler cannot record an attempt: {e}");
            }
            if !failed || attempt == retries {
                return;
            }
            tokio::time::sleep(pause.min(longest)).await;
            pause *= 2;
        }
    });
}

/// A google.rpc.Status of a failed attempt.
pub type Failed = (u8, String);

async fn call(sandbox: &Arc<Sandbox>, job: &Value, schedule_us: i64) -> Result<(), Failed> {
    if let Some(target) = job.get("pubsubTarget") {
        let message = json!({ "data": target["data"], "attributes": target["attributes"] });
        let published = pubsub::publish(sandbox, text(target, "topicName"), vec![message]);
        return published.map(drop).map_err(|e| (if e.code == 404 { 5 } else { 3 }, e.message));
    }
    let Some(target) = job.get("httpTarget") else {
        return Err((12, "the sandbox does not call App Engine".into()));
    };
    let uri = text(target, "uri");
    let method = named(target.get("httpMethod"), &METHODS).unwrap_or("POST");
    let method: reqwest::Method = method.parse().map_err(|_| (3, "bad method".to_string()))?;
    let body = STANDARD.decode(text(target, "body")).map_err(|e| (3, format!("the body is no base64: {e}")))?;
    let id = text(job, "name").rsplit('/').next().unwrap_or_default();
    let deadline = seconds(&job["attemptDeadline"]).unwrap_or(Duration::from_secs(180)).min(MAX_DEADLINE);
    let mut request = outgoing(sandbox, method, uri, target)?
        .timeout(deadline)
        .header("User-Agent", "Google-Cloud-Scheduler")
        .header("X-CloudScheduler", "true")
        .header("X-CloudScheduler-JobName", id)
        .header("X-CloudScheduler-ScheduleTime", rfc3339_us(schedule_us));
    let headers = target["headers"].as_object();
    for (name, value) in headers.into_iter().flatten() {
        if let Some(value) = value.as_str() {
            request = request.header(name, value);
        }
    }
    let typed = headers.is_some_and(|h| h.keys().any(|k| k.eq_ignore_ascii_case("content-type")));
    if !body.is_empty() && !typed {
        request = request.header("Content-Type", "application/octet-stream");
    }
    let response = request.body(body).send().await.map_err(|e| {
        let code = if e.is_timeout() { 4 } else { 14 };
        (code, format!("URL_UNREACHABLE: {e}"))
    })?;
    match response.status().as_u16() {
        200..=299 => Ok(()),
        400 => Err((3, "HTTP status 400".into())),
        401 => Err((16, "HTTP status 401".into())),
        403 => Err((7, "HTTP status 403".into())),
        404 => Err((5, "HTTP status 404".into())),
        409 => Err((10, "HTTP status 409".into())),
        429 => Err((8, "HTTP status 429".into())),
        503 => Err((14, "HTTP status 503".into())),
        504 => Err((4, "HTTP status 504".into())),
        other => Err((if other >= 500 { 13 } else { 2 }, format!("HTTP status {other}"))),
    }
}

/// A request to a target, with the token that its `oidcToken` asks for.
///
/// # Errors
/// When the target is on another machine and the sandbox may not call those.
pub fn outgoing(
    sandbox: &Sandbox,
    method: reqwest::Method,
    uri: &str,
    target: &Value,
) -> Result<reqwest::RequestBuilder, Failed> {
    if !sandbox.options.allow_external_targets && !is_loopback(uri) {
        let hint = "the sandbox calls this machine only; hint: --allow-external-targets";
        return Err((7, format!("'{uri}' was not called: {hint}")));
    }
    let client = client().ok_or((13, "the sandbox has no HTTP client".to_string()))?;
    let request = client.request(method, uri);
    Ok(match bearer(sandbox, target, uri) {
        Some(token) => request.header("Authorization", format!("Bearer {token}")),
        None => request,
    })
}

fn record(sandbox: &Sandbox, name: &str, outcome: Result<(), Failed>) -> Result<(), ApiError> {
    sandbox.db.transaction(|tx| {
        // The job may be gone meanwhile.
        let Some(mut job) = tx.get(JOBS, name)? else { return Ok(()) };
        job["lastAttemptTime"] = json!(rfc3339_us(sandbox.clock.now_us()));
        job["status"] = match outcome {
            Ok(()) => json!({}),
            Err((code, message)) => json!({ "code": code, "message": message }),
        };
        tx.put(JOBS, name, &job)
    })
}

/// The identity token that a target asks for.
fn bearer(sandbox: &Sandbox, target: &Value, uri: &str) -> Option<String> {
    let token = target.get("oidcToken")?;
    let audience = Some(text(token, "audience")).filter(|a| !a.is_empty()).unwrap_or(uri);
    crate::identity::token(sandbox, text(token, "serviceAccountEmail"), audience).ok()
}

fn is_loopback(uri: &str) -> bool {
    let Ok(url) = url::Url::parse(uri) else { return false };
    match url.host_str().unwrap_or_default().trim_matches(['[', ']']) {
        "localhost" => true,
        host => host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
    }
}

/// `180s`.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds: f64 = value.as_str()?.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn client() -> Option<&'static reqwest::Client> {
    static CLIENT: OnceLock<Option<reqwest::Client>> = OnceLock::new();
    let make = || reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().ok();
    CLIENT.get_or_init(make).as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for (uri, expected) in [
            ("http://127.0.0.1:8080/x", true),
            ("http://127.9.9.9/", true),
            ("http://[::1]:1/", true),
            ("http://localhost/", true),
            ("http://localhost.example.com/", false),
            ("http://10.0.0.1/", false),
            ("https://ingestion.example.com/x", false),
            ("http://127.0.0.1@example.com/", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_loopback(uri), expected, "{uri}");
        }
        assert_eq!(seconds(&json!("1.5s")), Some(Duration::from_millis(1500)));
        assert_eq!(seconds(&json!("-1s")), None);
    }
}
