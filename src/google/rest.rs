//! A small JSON client over reqwest, for the calls that Google's crates cannot carry. Knows one auth, one retry, one
//! error; does not know any service. Each module that uses it says why.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use http::{Extensions, HeaderMap, Method, StatusCode};
use serde_json::Value;
use url::Url;

use super::error::Fault;
use super::retry::{self, Attempt, Effect, RetryPolicy};
use crate::model::Failure;

/// Answers above this size are refused: metadata is small, and pages are bounded by the caller.
const MAX_ANSWER_BYTES: usize = 64 << 20;
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One service's JSON API. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rest {
    http: reqwest::Client,
    base: Url,
    credentials: Credentials,
    pub retry: Arc<RetryPolicy>,
}

/// One call, said completely.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub method: Method,
    /// The path's parts, not yet encoded: a part may hold `/`.
    pub path: Vec<String>,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
    pub if_match: Option<String>,
    /// What the call is about, for messages.
    pub object: String,
    pub effect: Effect,
}

/// An answer that is not interpreted yet.
pub(crate) struct Raw {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Raw {
    pub(crate) fn fault(&self, object: &str) -> Fault {
        Fault::from_http(object, self.status.as_u16(), &self.headers, &self.body)
    }
}

impl Call {
    fn new(method: Method, effect: Effect, object: impl Into<String>, path: &[&str]) -> Self {
        let path = path.iter().map(ToString::to_string).collect();
        Self { method, path, query: vec![], body: None, if_match: None, object: object.into(), effect }
    }

    pub(crate) fn get(object: impl Into<String>, path: &[&str]) -> Self {
        Self::new(Method::GET, Effect::Read, object, path)
    }

    pub(crate) fn post(object: impl Into<String>, path: &[&str], effect: Effect, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, effect, object, path) }
    }

    /// Without a body, where none is described.
    pub(crate) fn post_nothing(object: impl Into<String>, path: &[&str], effect: Effect) -> Self {
        Self::new(Method::POST, effect, object, path)
    }

    pub(crate) fn put(object: impl Into<String>, path: &[&str], body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PUT, Effect::Idempotent, object, path) }
    }

    /// A merge patch: the same patch twice leaves what the first one left.
    pub(crate) fn patch(object: impl Into<String>, path: &[&str], body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PATCH, Effect::Idempotent, object, path) }
    }

    pub(crate) fn delete(object: impl Into<String>, path: &[&str]) -> Self {
        Self::new(Method::DELETE, Effect::Idempotent, object, path)
    }

    /// Only if the resource is at this etag. A repeat after a lost reply would be refused, hence "once".
    pub(crate) fn if_match(mut self, etag: Option<&str>) -> Self {
        if let Some(etag) = etag {
            self.if_match = Some(etag.to_string());
            self.effect = Effect::Once;
        }
        self
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    pub(crate) fn query_if(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }
}

impl Rest {
    /// `base` is scheme, host and port, e.g. `https://bigquery.googleapis.com`.
    pub(crate) fn new(
        http: reqwest::Client,
        base: &str,
        credentials: Credentials,
        retry: Arc<RetryPolicy>,
    ) -> Result<Self, Failure> {
        let invalid = |message: String| Failure::Invalid { object: format!("endpoint '{base}'"), message };
        let base = Url::parse(base).map_err(|error| invalid(error.to_string()))?;
        if base.cannot_be_a_base() || !matches!(base.scheme(), "http" | "https") {
            return Err(invalid("not an address; hint: write it as http://host:port".into()));
        }
        Ok(Self { http, base, credentials, retry })
    }

    /// Makes the call and reads the answer; an empty answer is `Null`.
    ///
    /// # Errors
    /// As mapped by `error.rs`, after the retry.
    pub(crate) async fn call(&self, call: &Call) -> Result<Value, Failure> {
        retry::run(&self.retry, &call.object, call.effect, |_| self.attempt(call)).await
    }

    /// As `call`, where "exists already" after an attempt that may have worked is answered by `Ok(None)`: somebody has
    /// to look whose work it is.
    pub(crate) async fn create(&self, call: &Call) -> Result<Option<Value>, Failure> {
        self.create_where(call, |fault| matches!(fault.failure, Failure::Exists { .. })).await
    }

    /// As `create`, for the faults that may be traces of one's own work.
    pub(crate) async fn create_where(
        &self,
        call: &Call,
        own_perhaps: impl Fn(&Fault) -> bool,
    ) -> Result<Option<Value>, Failure> {
        retry::run(&self.retry, &call.object, call.effect, async |attempt: Attempt| match self.attempt(call).await {
            Err(fault) if attempt.perhaps_done && own_perhaps(&fault) => Ok(None),
            result => result.map(Some),
        })
        .await
    }

    /// As `call` for a deletion, where "not found" after an attempt that may have worked is success.
    pub(crate) async fn remove(&self, call: &Call) -> Result<(), Failure> {
        retry::run(&self.retry, &call.object, call.effect, async |attempt: Attempt| match self.attempt(call).await {
            Err(Fault { failure: Failure::NotFound { .. }, .. }) if attempt.perhaps_done => Ok(()),
            result => result.map(drop),
        })
        .await
    }

    /// The address of a path, for `raw`.
    pub(crate) fn address(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// One attempt, whatever is answered. Credentials go to this service only, not to where an answer pointed.
    pub(crate) async fn raw(
        &self,
        object: &str,
        method: Method,
        url: &Url,
        headers: &[(&'static str, String)],
        body: Bytes,
    ) -> Result<Raw, Fault> {
        let mut request = self.http.request(method, url.clone()).timeout(self.retry.attempt_timeout);
        if url.origin() == self.base.origin() {
            // (Callers of `raw` may have no deadline around it.)
            let limit = self.retry.attempt_timeout;
            let token = tokio::time::timeout(limit, self.auth(object)).await;
            request = request.headers(token.unwrap_or_else(|_| Err(Fault::silence(object, limit)))?);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.header("content-length", body.len()).body(body);
        let response = request.send().await.map_err(|error| Fault::from_reqwest(object, error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Raw { status, headers, body: read_bounded(object, response).await? })
    }

    async fn attempt(&self, call: &Call) -> Result<Value, Fault> {
        let object = &call.object;
        let mut request = self.http.request(call.method.clone(), self.url(call)).headers(self.auth(object).await?);
        if call.method == Method::POST && call.body.is_none() {
            request = request.header("content-length", 0); // Google asks for it
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        } else if call.method == Method::POST {
            request = request.header("content-length", "0");
        }
        if let Some(etag) = &call.if_match {
            request = request.header("if-match", etag);
        }
        let response = request.send().await.map_err(|error| Fault::from_reqwest(object, error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_bounded(object, response).await?;
        if !status.is_success() {
            return Err(Fault::from_http(object, status.as_u16(), &headers, &body));
        }
        // An answer that was cut off must not pass for an empty list.
        if body.is_empty() && (status == StatusCode::NO_CONTENT || call.method == Method::DELETE) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| Fault::unreadable(object, error))
    }

    fn url(&self, call: &Call) -> Url {
        let mut url = self.address(&call.path.iter().map(String::as_str).collect::<Vec<_>>());
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        url
    }

    async fn auth(&self, object: &str) -> Result<HeaderMap, Fault> {
        match self.credentials.headers(Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => Ok(data),
            Ok(CacheableResource::NotModified) => Ok(HeaderMap::new()),
            Err(error) => Err(Fault::from_credentials(object, &error)),
        }
    }
}

/// A list whose next page is the one just read would be read for ever.
///
/// # Errors
/// `Corrupt` when the service gives the same token again.
pub(crate) fn check_advances(object: &str, token: Option<&str>, next: Option<&str>) -> Result<(), Failure> {
    if token.is_none() || token != next {
        return Ok(());
    }
    let message = "the service gives the same page of a list again and again".to_string();
    Err(Failure::Corrupt { object: object.into(), message })
}

async fn read_bounded(object: &str, mut response: reqwest::Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Fault::from_reqwest(object, error))? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            let message = format!("the answer is larger than {MAX_ANSWER_BYTES} bytes");
            return Err(Fault::refused(Failure::Invalid { object: object.into(), message }));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
