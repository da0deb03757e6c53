//! BigQuery v2. Resources cross this interface as JSON in Google's REST form: enums by name, 64-bit integers as
//! strings, fields that this program does not know kept.
//!
//! Two ways to the service, never both for the same call:
//!
//! - Google's official crate (google-cloud-bigquery-v2) carries jobs, queries, lists and deletions.
//! - The REST client carries the calls whose *whole resource* is saved in a backup or restored from one: datasets,
//!   tables, routines and row access policies (get, insert, patch), and IAM policies, which the crate does not have.
//!   Measured against the crate's 1.1 (`enums.rs` has the tests): it asks for `enum-encoding=int`, so an enum in a field
//!   that the crate does not know yet arrives as a bare number whose name is lost for good; it drops explicit
//!   zero values (`"scale": "0"`); and its typed messages have no `null`, by which a PATCH clears a field.

mod datasets;
mod enums;
mod jobs;
mod policies;
mod query;
mod routines;
mod tables;
mod warehouse;

use google_cloud_auth::credentials::Credentials;
use google_cloud_bigquery_v2::client;
use google_cloud_gax::retry_policy::NeverRetry;
use serde_json::Value;

use super::client_failure;
use super::error::Fault;
use super::rest::Rest;
use super::retry::{self, Attempt, Effect};
use crate::model::Failure;

pub use datasets::ListedDataset;
pub use jobs::{JobFilter, JobRef, JobState, PollPolicy, job_failure, job_state};
pub use query::{QueryOptions, QueryResult};
pub use routines::ListedRoutine;
pub use tables::{ListedTable, insertable_table};
pub use warehouse::{Ids, Makes, Progress, Warehouse};

pub(crate) const HOST: &str = "https://bigquery.googleapis.com";

/// No list is followed beyond this many entries: the sum of the pages is held in memory.
pub const MAX_LISTED: usize = 1_000_000;
/// Entries a page.
const PAGE_SIZE: u32 = 1_000;

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct BigQuery {
    rest: Rest,
    datasets: client::DatasetService,
    tables: client::TableService,
    jobs: client::JobService,
    routines: client::RoutineService,
}

impl BigQuery {
    pub(crate) async fn connect(rest: Rest, endpoint: Option<&str>, credentials: Credentials) -> Result<Self, Failure> {
        // The crate's own retry is off: there is one retry, ours.
        macro_rules! build {
            ($service:ident) => {{
                let mut builder =
                    client::$service::builder().with_credentials(credentials.clone()).with_retry_policy(NeverRetry);
                if let Some(endpoint) = endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                builder.build().await.map_err(|error| client_failure("bigquery", &error))?
            }};
        }
        Ok(Self {
            datasets: build!(DatasetService),
            tables: build!(TableService),
            jobs: build!(JobService),
            routines: build!(RoutineService),
            rest,
        })
    }

    /// One call of the official crate under our retry. On the heap: the crate's messages are large (a job is 11 kB), its
    /// futures hold several, and together they would outgrow a thread's stack in a debug build.
    async fn official<T, F>(&self, object: &str, effect: Effect, mut call: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = google_cloud_bigquery_v2::Result<T>>,
    {
        retry::run(&self.rest.retry, object, effect, |_| {
            let sent = Box::pin(call());
            async move { sent.await.map_err(|error| Fault::from_gax(object, &error)) }
        })
        .await
    }

    /// A list of the official crate, page by page: what fails and is repeated is one page, not the list. `page` takes the
    /// token, `taken` a page apart into its items and the next token.
    async fn listed<P, T, F>(
        &self,
        object: &str,
        mut page: impl FnMut(&str) -> F,
        taken: impl Fn(P) -> (Vec<T>, String),
    ) -> Result<Vec<T>, Failure>
    where
        F: Future<Output = google_cloud_bigquery_v2::Result<P>>,
    {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let (items, next) = taken(self.official(object, Effect::Read, || page(&token)).await?);
            found.extend(items);
            check_listed(object, found.len())?;
            if next.is_empty() {
                return Ok(found);
            }
            if next == token {
                return Err(malformed(object, "a page that is followed by itself"));
            }
            token = next;
        }
    }

    /// As `official` for a deletion, where "not found" after an attempt that may have worked is success.
    async fn official_delete<F>(&self, object: &str, mut call: impl FnMut() -> F) -> Result<(), Failure>
    where
        F: Future<Output = google_cloud_bigquery_v2::Result<()>>,
    {
        retry::run(&self.rest.retry, object, Effect::Idempotent, |attempt: Attempt| {
            let sent = Box::pin(call());
            async move {
                match sent.await.map_err(|error| Fault::from_gax(object, &error)) {
                    Err(Fault { failure: Failure::NotFound { .. }, .. }) if attempt.perhaps_done => Ok(()),
                    result => result,
                }
            }
        })
        .await
    }
}

/// Guards a list's length. `what` is for the message.
fn check_listed(object: &str, len: usize) -> Result<(), Failure> {
    if len <= MAX_LISTED {
        return Ok(());
    }
    Err(Failure::Invalid { object: object.into(), message: format!("lists more than {MAX_LISTED} entries") })
}

/// Whether every field that was sent is in what was read back: after a lost reply, whether an object is our own work.
/// Fields that the service adds do not matter; empty values are as good as absent ones.
fn answers(sent: &Value, read: &Value) -> bool {
    match (sent, read) {
        (Value::Object(sent), read) => sent.iter().all(|(key, value)| match read.get(key) {
            Some(found) => key == "etag" || answers(value, found),
            None => is_empty(value),
        }),
        (Value::Array(sent), Value::Array(read)) => {
            sent.len() == read.len() && sent.iter().zip(read).all(|(sent, read)| answers(sent, read))
        }
        _ => sent == read || text(sent).is_some_and(|sent| text(read).as_ref() == Some(&sent)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(_) => false,
    }
}

/// A scalar as text: the service may answer a number by a string.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

/// What a creation whose reply was lost left behind: our own work, or somebody else's.
fn own_or_exists(object: &str, sent: &Value, read: Value) -> Result<Value, Failure> {
    if answers(sent, &read) {
        return Ok(read);
    }
    let message = "was created by somebody, perhaps by this call, and differs from what was sent".to_string();
    Err(Failure::Unknown { object: object.into(), message })
}

fn string(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_string()
}

fn malformed(object: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Corrupt { object: object.into(), message: format!("unreadable answer: {error}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_own_creation_is_recognised_after_a_lost_reply() {
        let sent = json!({"schema": {"fields": [{"name": "a", "type": "INT64"}]}, "expirationTime": "5", "labels": {}});
        let read = json!({"schema": {"fields": [{"name": "a", "type": "INT64", "mode": "NULLABLE"}]},
            "expirationTime": 5, "creationTime": "1"});
        assert!(answers(&sent, &read));
        for other in [
            json!({"schema": {"fields": [{"name": "b", "type": "INT64"}]}, "expirationTime": "5"}),
            json!({"schema": {"fields": []}, "expirationTime": "5"}),
            json!({"schema": {"fields": [{"name": "a", "type": "INT64"}]}}),
        ] {
            assert!(!answers(&sent, &other), "{other}");
        }
    }
}
