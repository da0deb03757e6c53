//! Cloud Storage: the JSON API with all its ways of uploading, batches, and the common XML-style calls. This file
//! takes paths apart and calls what they mean.

pub mod objects;

#[cfg(test)]
mod allowed;
mod batch;
mod blob;
mod bucket_api;
mod buckets;
mod conditions;
mod download;
mod glob;
mod lifecycle;
mod list;
pub mod multipart;
mod object_api;
mod records;
mod store;
mod upload;
mod xml;
mod xml_upload;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

pub use buckets::project_number;
use conditions::Conditions;

use crate::core::gate::{MAX_BODY_BYTES, is_api};
use crate::core::http::{json_object, own_base, segments};
use crate::core::permissions::{Caller, Need, Subject};
use crate::core::{ApiError, Params, Sandbox};

/// How often lifecycle rules are looked at without the clock being set.
const ROUND_EVERY: Duration = Duration::from_secs(30);

/// A request to Storage, taken apart.
pub(crate) struct Call {
    pub sandbox: Arc<Sandbox>,
    pub method: Method,
    pub params: Params,
    /// The raw query string.
    pub query: String,
    pub headers: HeaderMap,
    /// `http://host:port`, for links.
    pub base: String,
    pub body: Body,
    /// Who calls, when that one may not do everything.
    pub caller: Option<Caller>,
}

impl Call {
    /// The conditions of writing an object that may be there: replacing it takes the permission to delete it.
    pub fn of_writing(&self, conditions: Conditions, bucket: &str, name: &str) -> Conditions {
        let subject = Subject::Object { bucket: bucket.into(), name: name.into() };
        let refusal = self.caller.as_ref().map(|c| c.check(&Need::new("storage.objects.delete", subject)));
        Conditions { no_overwrite: refusal.and_then(Result::err).map(|e| e.message), ..conditions }
    }

    /// # Errors
    /// 403 for one who may not create this object: a name that stands in the body the gate does not see.
    pub fn may_create(&self, bucket: &str, name: &str) -> Result<(), ApiError> {
        let subject = Subject::Object { bucket: bucket.into(), name: name.into() };
        self.caller.as_ref().map_or(Ok(()), |c| c.check(&Need::new("storage.objects.create", subject)))
    }

    /// The JSON object in the body.
    ///
    /// # Errors
    /// 400 when it is none.
    pub async fn json(&mut self) -> Result<Map<String, Value>, ApiError> {
        let body = std::mem::replace(&mut self.body, Body::empty());
        let bytes = to_bytes(body, MAX_BODY_BYTES).await.map_err(|e| ApiError::invalid(e.to_string()))?;
        match json_object(&bytes)? {
            Value::Object(map) => Ok(map),
            _ => Ok(Map::new()),
        }
    }

    /// `projection=full`.
    pub fn full(&self) -> bool {
        self.params.get("projection") == Some("full")
    }

    /// # Errors
    /// 501: Google takes keys with the request, the sandbox does not.
    fn refuse_customer_keys(&self) -> Result<(), ApiError> {
        match self.headers.keys().find(|k| k.as_str().contains("goog-encryption-key")) {
            Some(_) => Err(ApiError::not_implemented("the sandbox does not emulate customer-supplied encryption keys")),
            None => Ok(()),
        }
    }
}

/// Answers a request to any of Storage's paths.
///
/// # Errors
/// As Google words them.
pub async fn serve(sandbox: &Arc<Sandbox>, request: Request) -> Result<Response, ApiError> {
    let is_batch = request.uri().path().trim_start_matches('/').split('/').next() == Some("batch");
    if is_batch { batch::serve(sandbox, request).await } else { serve_one(sandbox, request).await }
}

/// Answers any request but a batch.
///
/// # Errors
/// As Google words them.
async fn serve_one(sandbox: &Arc<Sandbox>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_string();
    let call = Call {
        sandbox: sandbox.clone(),
        method: parts.method,
        params: Params::of(&parts.uri),
        query: parts.uri.query().unwrap_or_default().to_string(),
        base: own_base(&parts.headers, sandbox.base_url()),
        caller: parts.extensions.get().cloned(),
        headers: parts.headers,
        body,
    };
    call.refuse_customer_keys()?;
    let segments = segments(&path).ok_or_else(|| ApiError::invalid("the path is no valid UTF-8"))?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let result = match parts.as_slice() {
        ["upload" | "resumable", ..] => {
            let at = parts.windows(2).position(|w| w == ["storage", "v1"]);
            match at.map(|at| &parts[at + 2..]) {
                Some(["b", bucket, "o"]) => upload::serve(call, bucket).await,
                _ => Err(no_such_path(&call.method, &path)),
            }
        }
        ["download", "storage", "v1", "b", bucket, "o", object] => download::serve(call, bucket, object).await,
        ["storage", "v1", rest @ ..] => json_api(call, rest, &path).await,
        [bucket, ..] if !is_api(&path) => {
            let object = segments[1..].join("/");
            return xml::serve(call, bucket, &object).await;
        }
        _ => Err(no_such_path(&call.method, &path)),
    };
    match result {
        // 304 has no body.
        Err(e) if e.code == 304 => Ok(axum::http::StatusCode::NOT_MODIFIED.into_response()),
        other => other,
    }
}

async fn json_api(call: Call, rest: &[&str], path: &str) -> Result<Response, ApiError> {
    match rest {
        ["b"] => bucket_api::collection(call).await,
        ["b", bucket] => bucket_api::one(call, bucket).await,
        ["b", _, "o"] if call.method == Method::POST => Err(ApiError::new(
            400,
            "wrongUrlForUpload",
            format!(
                "Upload requests must be uploaded to /upload/*; re-send request to \"{}/upload{path}\".",
                call.base
            ),
        )),
        ["b", bucket, "o"] => object_api::list(&call, bucket),
        ["b", bucket, "o", object] => object_api::one(call, bucket, object).await,
        ["b", bucket, "o", object, rest @ ..] => object_api::below(call, bucket, object, rest).await,
        ["b", bucket, rest @ ..] => bucket_api::below(call, bucket, rest).await,
        ["projects", project, "serviceAccount"] => Ok(bucket_api::service_account(project)),
        _ => Err(no_such_path(&call.method, path)),
    }
}

/// Brings everything that depends on time up to date.
///
/// # Errors
/// When the database fails.
pub async fn tick(sandbox: &Arc<Sandbox>) -> Result<(), ApiError> {
    let sandbox = sandbox.clone();
    blocking(move || lifecycle::round(&sandbox)).await
}

/// Removes leftovers of a kill and starts what acts as time goes by.
///
/// # Errors
/// When the data directory cannot be read.
pub fn start(sandbox: &Arc<Sandbox>) -> Result<(), ApiError> {
    let mut used = HashSet::new();
    for space in [records::LIVE, records::OLD, records::SOFT] {
        for (_, value) in sandbox.db.scan(space, "", None, usize::MAX)? {
            used.extend(value["blob"].as_str().map(str::to_string));
        }
    }
    used.extend(xml_upload::blobs(sandbox)?);
    blob::Blobs::new(&sandbox.dir).sweep(&used)?;
    let sandbox = sandbox.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(ROUND_EVERY).await;
            if let Err(e) = tick(&sandbox).await {
                tracing::warn!("a lifecycle round failed: {e}");
            }
        }
    });
    Ok(())
}

/// Every bucket in short, for the page at `/`. Objects are counted up to a bound.
///
/// # Errors
/// When the database fails.
pub fn overview(sandbox: &Sandbox) -> Result<Vec<Value>, ApiError> {
    const COUNTED: usize = 20_000;
    let mut out = Vec::new();
    for (name, value) in sandbox.db.scan(records::BUCKETS, "", None, 1000)? {
        let bucket: records::Bucket = records::parse(value)?;
        let objects = sandbox.db.scan(records::LIVE, &format!("{name}/"), None, COUNTED)?;
        let bytes: i64 = objects.iter().filter_map(|(_, o)| records::as_i64(&o["resource"]["size"])).sum();
        let rules = bucket.resource.get("lifecycle").and_then(|l| l["rule"].as_array()).map_or(0, Vec::len);
        out.push(json!({
            "name": name,
            "location": bucket.location(),
            "class": bucket.storage_class(),
            "objects": objects.len(),
            "bytes": bytes,
            "rules": rules,
        }));
    }
    Ok(out)
}

/// Runs work that waits for the disk beside the async threads.
///
/// # Errors
/// What `work` returned.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| ApiError::internal(e.to_string()))?
}

fn no_such_path(method: &Method, path: &str) -> ApiError {
    ApiError::not_found(format!("the sandbox's Storage has no {method} {path}"))
}
