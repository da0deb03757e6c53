//! Google's errors as `Failure`, mapped once, by HTTP status and reason. Does not know which service answered,
//! only the object that the call was about.
//!
//! The status alone is not enough: BigQuery's 403 is a rate limit (repeat), a used-up quota (do not) or a missing
//! permission (do not). <https://cloud.google.com/bigquery/docs/error-messages>,
//! <https://cloud.google.com/storage/docs/json_api/v1/status-codes>

use std::time::Duration;

use google_cloud_gax::error::rpc::{Code, StatusDetails};
use http::HeaderMap;
use serde_json::Value;

use crate::model::Failure;

/// A failed attempt: what it means, and what is known of its effect.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    pub failure: Failure,
    pub effect: Known,
    /// What the server asked for in `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// What is known of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// The service refused for good: repeating gives the same answer.
    Refused,
    /// The service refused for now, before doing anything (rate limit, no connection).
    NotDone,
    /// The service may or may not have done it (5xx, timeout, a connection lost after sending).
    Perhaps,
}

/// One answered error: status, the first reason, and the message.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Answer {
    pub status: u16,
    pub reason: String,
    pub message: String,
}

impl Fault {
    pub(crate) fn refused(failure: Failure) -> Self {
        Self { failure, effect: Known::Refused, retry_after: None }
    }

    fn transient(object: &str, message: String, effect: Known, retry_after: Option<Duration>) -> Self {
        Self { failure: Failure::Transient { object: object.into(), message }, effect, retry_after }
    }

    /// No answer within the time of an attempt.
    pub(crate) fn silence(object: &str, after: Duration) -> Self {
        let message = format!("no answer within {:.1} s", after.as_secs_f64());
        Self::transient(object, message, Known::Perhaps, None)
    }

    /// An answer that cannot be read: broken on its way, most likely. The call itself may have been carried out.
    pub(crate) fn unreadable(object: &str, what: impl std::fmt::Display) -> Self {
        let failure = Failure::Corrupt { object: object.into(), message: format!("unreadable answer: {what}") };
        Self { failure, effect: Known::Perhaps, retry_after: None }
    }

    /// An HTTP answer that is no success.
    pub(crate) fn from_answer(object: &str, answer: &Answer, headers: &HeaderMap) -> Self {
        let (failure, effect) = classify(object, answer);
        Self { failure, effect, retry_after: retry_after(headers) }
    }

    /// An HTTP answer that is no success, from its raw body.
    pub(crate) fn from_http(object: &str, status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        Self::from_answer(object, &parse_answer(status, body), headers)
    }

    /// A request that got no answer.
    pub(crate) fn from_reqwest(object: &str, error: reqwest::Error) -> Self {
        // The object says what the call was about; an address with page tokens does not help.
        let error = error.without_url();
        let message = chain(&error);
        if error.is_builder() {
            return Self::refused(Failure::Invalid { object: object.into(), message });
        }
        let effect = if error.is_connect() { Known::NotDone } else { Known::Perhaps };
        Self::transient(object, message, effect, None)
    }

    /// An error of one of Google's own crates.
    pub(crate) fn from_gax(object: &str, error: &google_cloud_gax::error::Error) -> Self {
        let none = HeaderMap::new();
        let headers = error.http_headers().unwrap_or(&none);
        if let Some(status) = error.status() {
            let reason = status.details.iter().find_map(|detail| match detail {
                StatusDetails::ErrorInfo(info) if !info.reason.is_empty() => Some(info.reason.clone()),
                _ => None,
            });
            let answer = Answer {
                status: error.http_status_code().unwrap_or_else(|| status_of_code(status.code)),
                reason: reason.unwrap_or_default(),
                message: status.message.clone(),
            };
            return Self::from_answer(object, &answer, headers);
        }
        if let Some(status) = error.http_status_code() {
            let body = error.http_payload().map_or(&[][..], |bytes| bytes.as_ref());
            return Self::from_http(object, status, headers, body);
        }
        let message = chain(error);
        let object = object.to_string();
        if error.is_authentication() {
            // Before the call was sent. A metadata server that is briefly away is worth a repeat.
            return match find_in_chain::<google_cloud_gax::error::CredentialsError>(error) {
                Some(inner) if inner.is_transient() => Self::transient(&object, message, Known::NotDone, None),
                _ => Self::refused(denied_by_credentials(object, &message)),
            };
        }
        if find_in_chain::<google_cloud_storage::error::WriteError>(error).is_some() {
            return Self::refused(Failure::Corrupt { object, message });
        }
        if error.is_binding() || error.is_serialization() {
            return Self::refused(Failure::Invalid { object, message });
        }
        if error.is_deserialization() {
            // The call was answered with success, in a form that the crate does not read.
            return Self::unreadable(&object, message);
        }
        let effect = if error.is_connect() { Known::NotDone } else { Known::Perhaps };
        Self::transient(&object, message, effect, None)
    }

    /// An error while getting a token.
    pub(crate) fn from_credentials(object: &str, error: &google_cloud_gax::error::CredentialsError) -> Self {
        let message = chain(error);
        if error.is_transient() {
            Self::transient(object, message, Known::NotDone, None)
        } else {
            Self::refused(denied_by_credentials(object.into(), &message))
        }
    }
}

/// What a finished job's `errorResult` means.
pub(crate) fn job_failure(object: &str, reason: &str, message: &str) -> Failure {
    let answer = Answer { status: 400, reason: reason.into(), message: message.into() };
    classify(object, &answer).0
}

/// The status and reason as a failure, and whether the call may have had its effect.
pub(crate) fn classify(object: &str, answer: &Answer) -> (Failure, Known) {
    let object = object.to_string();
    let message = text_of(answer);
    match answer.reason.as_str() {
        "rateLimitExceeded"
        | "userRateLimitExceeded"
        | "jobRateLimitExceeded"
        | "RATE_LIMIT_EXCEEDED"
        | "tableUnavailable" => (Failure::Transient { object, message }, Known::NotDone),
        "backendError" | "internalError" | "jobBackendError" | "jobInternalError" | "badGateway" | "timeout" => {
            (Failure::Transient { object, message }, Known::Perhaps)
        }
        "quotaExceeded" | "dailyLimitExceeded" | "billingNotEnabled" | "billingTierLimitExceeded" => {
            let message =
                format!("{message}; hint: the project's quota or billing stands in the way; raise it or wait");
            (Failure::Denied { object, message }, Known::Refused)
        }
        "accessDenied" | "forbidden" | "insufficientPermissions" | "blocked" | "IAM_PERMISSION_DENIED" => {
            (Failure::Denied { object, message }, Known::Refused)
        }
        "duplicate" | "alreadyExists" => (Failure::Exists { object, message }, Known::Refused),
        // "conflict": a bucket of this name exists (storage), or an update raced with another one (bigquery).
        "notFound" => (Failure::NotFound { object, message }, Known::Refused),
        "conditionNotMet" | "resourceInUse" | "stopped" | "retentionPolicyNotMet" | "objectUnderActiveHold" => {
            (Failure::Precondition { object, message }, Known::Refused)
        }
        _ => match answer.status {
            401 | 403 => (Failure::Denied { object, message }, Known::Refused),
            404 | 410 => (Failure::NotFound { object, message }, Known::Refused),
            409 => (Failure::Exists { object, message }, Known::Refused),
            412 | 304 => (Failure::Precondition { object, message }, Known::Refused),
            429 => (Failure::Transient { object, message }, Known::NotDone),
            408 | 500..=599 => (Failure::Transient { object, message }, Known::Perhaps),
            _ => (Failure::Invalid { object, message }, Known::Refused),
        },
    }
}

/// Reads `{"error": {"code", "message", "errors": [{"reason", ..}], "details": [{"reason"}]}}`, or keeps a part of the text.
pub(crate) fn parse_answer(status: u16, body: &[u8]) -> Answer {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let error = parsed.as_ref().and_then(|value| value.get("error"));
    let Some(error) = error.filter(|error| error.is_object()) else {
        let text = String::from_utf8_lossy(&body[..body.len().min(500)]).trim().to_string();
        return Answer { status, reason: String::new(), message: text };
    };
    let first = |list: &str| {
        let items = error.get(list).and_then(Value::as_array)?;
        items.iter().find_map(|item| item.get("reason").and_then(Value::as_str)).map(str::to_string)
    };
    Answer {
        status,
        reason: first("errors").or_else(|| first("details")).unwrap_or_default(),
        message: error.get("message").and_then(Value::as_str).unwrap_or_default().to_string(),
    }
}

fn text_of(answer: &Answer) -> String {
    let Answer { status, reason, message } = answer;
    let message = if message.is_empty() { "no message" } else { message.as_str() };
    if reason.is_empty() { format!("{message} (HTTP {status})") } else { format!("{message} ({reason})") }
}

fn denied_by_credentials(object: String, message: &str) -> Failure {
    let hint = "hint: check the service account's key, or run `gcloud auth application-default login`";
    Failure::Denied { object, message: format!("no token: {message}; {hint}") }
}

/// `Retry-After`: seconds, or a date, which is held against the server's own clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text("retry-after")?;
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp());
    time(asked)?.duration_since(time(text("date")?)?).try_into().ok()
}

fn status_of_code(code: Code) -> u16 {
    match code {
        Code::InvalidArgument | Code::OutOfRange => 400,
        Code::FailedPrecondition => 412,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists => 409,
        Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
        _ => 500,
    }
}

/// An error with its causes, each said once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// The first cause of this type.
pub(crate) fn find_in_chain<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<E>() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use google_cloud_gax::error::Error;

    use super::*;

    fn body(code: u16, reason: &str) -> String {
        format!(
            r#"{{"error": {{"code": {code}, "message": "text", "status": "X", "errors": [{{"reason": "{reason}", "domain": "global", "message": "text"}}]}}}}"#
        )
    }

    fn word(failure: &Failure) -> &'static str {
        match failure {
            Failure::NotFound { .. } => "not found",
            Failure::Exists { .. } => "exists",
            Failure::Precondition { .. } => "precondition",
            Failure::Denied { .. } => "denied",
            Failure::Invalid { .. } => "invalid",
            Failure::Transient { .. } => "transient",
            Failure::Unknown { .. } => "unknown",
            Failure::Corrupt { .. } => "corrupt",
            Failure::Sealed { .. } => "sealed",
        }
    }

    /// Status, reason, what it means, what is known of the effect.
    const TABLE: [(u16, &str, &str, Known); 23] = [
        (403, "rateLimitExceeded", "transient", Known::NotDone),
        (403, "userRateLimitExceeded", "transient", Known::NotDone),
        (403, "quotaExceeded", "denied", Known::Refused),
        (403, "accessDenied", "denied", Known::Refused),
        (403, "forbidden", "denied", Known::Refused),
        (403, "retentionPolicyNotMet", "precondition", Known::Refused),
        (401, "authError", "denied", Known::Refused),
        (400, "invalid", "invalid", Known::Refused),
        (400, "invalidQuery", "invalid", Known::Refused),
        (400, "resourceInUse", "precondition", Known::Refused),
        (400, "rateLimitExceeded", "transient", Known::NotDone),
        (404, "notFound", "not found", Known::Refused),
        (409, "duplicate", "exists", Known::Refused),
        (409, "alreadyExists", "exists", Known::Refused),
        (409, "conflict", "exists", Known::Refused),
        (412, "conditionNotMet", "precondition", Known::Refused),
        (416, "requestedRangeNotSatisfiable", "invalid", Known::Refused),
        (429, "rateLimitExceeded", "transient", Known::NotDone),
        (500, "internalError", "transient", Known::Perhaps),
        (502, "badGateway", "transient", Known::Perhaps),
        (503, "backendError", "transient", Known::Perhaps),
        (503, "", "transient", Known::Perhaps),
        (504, "", "transient", Known::Perhaps),
    ];

    #[test]
    fn the_status_and_the_reason_decide_by_both_ways() {
        for (status, reason, means, effect) in TABLE {
            let text = body(status, reason);
            let by_rest = Fault::from_http("table p.d.t", status, &HeaderMap::new(), text.as_bytes());
            let crate_status = google_cloud_gax::error::rpc::Status::try_from(&bytes::Bytes::from(text)).unwrap();
            let error = Error::service_with_http_metadata(crate_status, Some(status), Some(HeaderMap::new()));
            for fault in [by_rest, Fault::from_gax("table p.d.t", &error)] {
                assert_eq!((word(&fault.failure), fault.effect), (means, effect), "{status} {reason}");
                assert!(fault.failure.to_string().starts_with("table p.d.t: "), "{}", fault.failure);
            }
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_quoted_in_part() {
        let page = format!("<html>{}</html>", "x".repeat(10_000));
        let fault = Fault::from_http("o", 502, &HeaderMap::new(), page.as_bytes());
        assert!(fault.failure.to_string().len() < 700);
        assert_eq!(fault.effect, Known::Perhaps);
        assert_eq!(parse_answer(500, b"[1]").message, "[1]");
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, http::HeaderValue::from_static("7"))]);
        let fault = Fault::from_http("o", 429, &headers, b"");
        assert_eq!(fault.retry_after, Some(Duration::from_secs(7)));
        let asked = |after: &'static str, now: &'static str| {
            let value = http::HeaderValue::from_static;
            let headers = [(http::header::RETRY_AFTER, value(after)), (http::header::DATE, value(now))];
            Fault::from_http("o", 503, &HeaderMap::from_iter(headers), b"").retry_after
        };
        let date = "Wed, 21 Oct 2026 07:28:00 GMT";
        assert_eq!(asked(date, "Wed, 21 Oct 2026 07:27:40 GMT"), Some(Duration::from_secs(20)));
        assert_eq!(asked(date, "Wed, 21 Oct 2026 07:29:00 GMT"), None);
        assert_eq!(asked("soon", date), None);
    }

    #[test]
    fn a_call_without_an_answer_may_have_been_done_unless_it_never_left() {
        assert_eq!(Fault::from_gax("o", &Error::connect("refused")).effect, Known::NotDone);
        assert_eq!(Fault::from_gax("o", &Error::io("reset")).effect, Known::Perhaps);
        assert_eq!(Fault::from_gax("o", &Error::timeout("slow")).effect, Known::Perhaps);
        assert!(matches!(Fault::from_gax("o", &Error::deser("no")).failure, Failure::Corrupt { .. }));
        assert!(matches!(Fault::from_gax("o", &Error::ser("no")).failure, Failure::Invalid { .. }));
    }
}
