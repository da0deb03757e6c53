//! `/upload/.../jobs`: load jobs that bring their file along, in one multipart request or a resumable session.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde_json::{Map, Value};

use super::http::{Caller, object};
use super::jobs::api::accept;
use super::service::BigQuery;
use crate::core::http::{header, own_base};
use crate::core::{ApiError, Params};
use crate::storage::multipart::{Event, Parser};

/// The description of a job may take this much.
const MAX_METADATA_BYTES: usize = 16 << 20;

/// Files on their way to a load job, and the sessions that bring them.
pub struct Uploads {
    dir: PathBuf,
    next: AtomicU64,
    sessions: Mutex<HashMap<String, Session>>,
}

#[derive(Clone)]
struct Session {
    project: String,
    caller: Caller,
    body: Map<String, Value>,
    path: PathBuf,
    received: u64,
    /// The job as it was answered, for a client that lost the answer and asks again.
    done: Option<Value>,
}

impl Uploads {
    /// Opens the directory and removes what an earlier process left.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(dir: PathBuf) -> std::io::Result<Self> {
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir, next: AtomicU64::new(1), sessions: Mutex::default() })
    }

    fn file(&self) -> PathBuf {
        self.dir.join(format!("upload-{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `POST /upload/.../jobs` in all its forms.
pub async fn post(
    State(service): State<Arc<BigQuery>>,
    Path(project): Path<String>,
    caller: Caller,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    match params.get("uploadType") {
        Some("multipart") => multipart(&service, &project, &caller, &parts.headers, body).await,
        Some("resumable") => begin(&service, &project, caller, &parts.headers, body).await,
        _ => Err(ApiError::invalid("uploadType must be multipart or resumable")),
    }
}

async fn multipart(
    service: &Arc<BigQuery>,
    project: &str,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut parser = Parser::new(header(headers, "content-type").unwrap_or_default())?;
    let path = service.uploads.file();
    let mut file = File::create_new(&path)?;
    let mut metadata = vec![];
    let mut part = 0;
    let mut stream = body.into_data_stream();
    let mut closed = false;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| ApiError::invalid(format!("the request's body broke off: {e}")))?;
        for event in parser.feed(&chunk)? {
            match event {
                Event::Part(_) => part += 1,
                Event::Data(bytes) if part == 1 => {
                    metadata.extend_from_slice(&bytes);
                    if metadata.len() > MAX_METADATA_BYTES {
                        return Err(ApiError::invalid("the job's description is too large"));
                    }
                }
                Event::Data(bytes) => file.write_all(&bytes)?,
                Event::PartEnd => {}
                Event::End => closed = true,
            }
        }
    }
    drop(file);
    if part < 2 || !closed {
        let _ = std::fs::remove_file(&path);
        return Err(ApiError::new(400, "badContent", "A multipart upload needs two parts: the job and the file"));
    }
    match accept(service, project, caller, object(&metadata)?, Some(path.clone())).await {
        Ok(job) => Ok(Json(job).into_response()),
        Err(error) => {
            let _ = std::fs::remove_file(&path);
            Err(error)
        }
    }
}

async fn begin(
    service: &Arc<BigQuery>,
    project: &str,
    caller: Caller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes = to_bytes(body, MAX_METADATA_BYTES).await.map_err(|e| ApiError::invalid(e.to_string()))?;
    let body = object(&bytes)?;
    let path = service.uploads.file();
    File::create_new(&path)?;
    let id = format!("{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>());
    let session = Session { project: project.to_owned(), caller, body, path, received: 0, done: None };
    service.uploads.lock().insert(id.clone(), session);
    let base = own_base(headers, service.sandbox.base_url());
    let location = format!("{base}/upload/bigquery/v2/projects/{project}/jobs?uploadType=resumable&upload_id={id}");
    let mut response = StatusCode::OK.into_response();
    let value = HeaderValue::from_str(&location).map_err(|e| ApiError::internal(e.to_string()))?;
    response.headers_mut().insert("location", value);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-guploader-uploadid", value);
    }
    Ok(response)
}

/// `PUT` on the session's address: bytes, or a question how many have come.
pub async fn put(State(service): State<Arc<BigQuery>>, params: Params, request: Request) -> Result<Response, ApiError> {
    let id = params.get("upload_id").unwrap_or_default().to_owned();
    let missing = || ApiError::not_found(format!("Not found: upload session {id}"));
    let session = service.uploads.lock().get(&id).cloned().ok_or_else(missing)?;
    if let Some(job) = session.done {
        return Ok(Json(job).into_response());
    }
    let (parts, body) = request.into_parts();
    let range = Range::of(header(&parts.headers, "content-range"))?;
    let mut received = session.received;
    if let Some(from) = range.from {
        if from > received {
            return Err(ApiError::new(
                503,
                "backendError",
                format!("the upload has {received} bytes, not {from}; ask with 'bytes */*'"),
            ));
        }
        let mut skip = received - from;
        let mut file = OpenOptions::new().append(true).open(&session.path)?;
        let mut stream = body.into_data_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|e| ApiError::invalid(format!("the request's body broke off: {e}")))?;
            let jump = skip.min(chunk.len() as u64);
            skip -= jump;
            let fresh = &chunk[usize::try_from(jump).unwrap_or(0)..];
            file.write_all(fresh)?;
            received += fresh.len() as u64;
            if let Some(entry) = service.uploads.lock().get_mut(&id) {
                entry.received = received;
            }
        }
    }
    let complete = match range.total {
        Total::Known(total) => received >= total,
        Total::ThisMuch => true,
        Total::Open => false,
    };
    if !complete {
        let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
        if received > 0
            && let Ok(value) = HeaderValue::from_str(&format!("bytes=0-{}", received - 1))
        {
            response.headers_mut().insert("range", value);
        }
        return Ok(response);
    }
    let job = accept(&service, &session.project, &session.caller, session.body, Some(session.path)).await?;
    if let Some(entry) = service.uploads.lock().get_mut(&id) {
        entry.done = Some(job.clone());
    }
    Ok(Json(job).into_response())
}

#[derive(Debug, PartialEq, Eq)]
enum Total {
    Known(u64),
    /// No range at all: the body is the rest.
    ThisMuch,
    Open,
}

#[derive(Debug, PartialEq, Eq)]
struct Range {
    /// `None`: no bytes, only a question.
    from: Option<u64>,
    total: Total,
}

impl Range {
    /// `bytes 0-99/100`, `bytes 0-99/*`, `bytes */100`, `bytes */*`, or nothing.
    fn of(header: Option<&str>) -> Result<Self, ApiError> {
        let Some(text) = header else { return Ok(Self { from: Some(0), total: Total::ThisMuch }) };
        let bad = || ApiError::invalid(format!("Invalid Content-Range: {text}"));
        let (span, total) = text
            .trim()
            .strip_prefix("bytes")
            .and_then(|t| t.trim_start_matches([' ', '=']).split_once('/'))
            .ok_or_else(bad)?;
        let total = if total == "*" { Total::Open } else { Total::Known(total.parse().map_err(|_| bad())?) };
        let from = match span {
            "*" => None,
            span => Some(span.split('-').next().and_then(|f| f.parse().ok()).ok_or_else(bad)?),
        };
        Ok(Self { from, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_resumable_uploads() {
        let of = |t| Range::of(Some(t)).unwrap();
        assert_eq!(of("bytes 0-99/100"), Range { from: Some(0), total: Total::Known(100) });
        assert_eq!(of("bytes 100-199/*"), Range { from: Some(100), total: Total::Open });
        assert_eq!(of("bytes */7"), Range { from: None, total: Total::Known(7) });
        assert_eq!(Range::of(None).unwrap().total, Total::ThisMuch);
        assert!(Range::of(Some("bytes x/y")).is_err());
    }
}
