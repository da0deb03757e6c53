//! Uploads of the JSON API: media, multipart and resumable. Bytes go to disk as they come, whatever their number.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header as names};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::blob::{Blobs, Finished, fresh_id};
use super::bucket_api::not_allowed;
use super::conditions::Conditions;
use super::multipart::{Event, Parser, part_header};
use super::object_api::{draft_of_params, sums_of_header};
use super::records::{self, Bucket, Object, UPLOADS};
use super::store::Store;
use super::{Call, blocking};
use crate::core::http::{encode, header, json_object, ok};
use crate::core::{ApiError, Sandbox};

/// Resumable uploads keep bytes in multiples of this, and refuse smaller pieces but the last.
const QUANTUM: u64 = 256 << 10;
/// A metadata part larger than this is none.
const MAX_METADATA_BYTES: usize = 1 << 20;
/// How long a resumable upload can be gone on with.
const SESSION_US: i64 = 7 * 86_400_000_000;

/// A resumable upload between its requests. Its bytes are in `uploads/<id>`; how many came is that file's length.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    bucket: String,
    name: String,
    draft: Map<String, Value>,
    conditions: Conditions,
    /// What the client said in the beginning.
    size: Option<u64>,
    created_us: i64,
    /// The object, once it is complete.
    #[serde(default)]
    done: Option<Object>,
}

/// `/upload/storage/v1/b/BUCKET/o`.
///
/// # Errors
/// As Google words them.
pub async fn serve(call: Call, bucket: &str) -> Result<Response, ApiError> {
    if let Some(id) = call.params.get("upload_id").map(str::to_string) {
        return go_on(call, &id).await;
    }
    if !matches!(call.method, Method::POST | Method::PUT) {
        return Err(not_allowed(&call.method));
    }
    let content_type = header(&call.headers, "content-type").unwrap_or_default().to_string();
    match call.params.get("uploadType") {
        Some("resumable") => begin(call, bucket).await,
        Some("multipart") => multipart(call, bucket, &content_type).await,
        None if content_type.starts_with("multipart/related") => multipart(call, bucket, &content_type).await,
        Some("media") | None => media(call, bucket, content_type).await,
        Some(other) => Err(ApiError::invalid(format!("Invalid upload type: {other}")).at("parameter", "uploadType")),
    }
}

async fn media(mut call: Call, bucket: &str, content_type: String) -> Result<Response, ApiError> {
    let name = call.params.get("name").map(str::to_string);
    let name = name.ok_or_else(|| ApiError::required("Required parameter: name").at("parameter", "name"))?;
    let mut draft = Map::new();
    if !content_type.is_empty() {
        draft.insert("contentType".into(), json!(content_type));
    }
    draft_of_params(&call.params, &mut draft);
    draft_of_headers(&call.headers, &mut draft);
    let conditions = call.of_writing(Conditions::of(&call.params)?, bucket, &name);
    let body = std::mem::replace(&mut call.body, Body::empty());
    let (object, b) = store_body(&call.sandbox, bucket, &name, &draft, &conditions, body).await?;
    Ok(ok(object.view(&call.base, &b, call.full())))
}

/// Stores a whole body as an object.
///
/// # Errors
/// As [`Store::insert`]; 400 when the body breaks off.
pub async fn store_body(
    sandbox: &std::sync::Arc<Sandbox>,
    bucket: &str,
    name: &str,
    draft: &Map<String, Value>,
    conditions: &Conditions,
    body: Body,
) -> Result<(Object, Bucket), ApiError> {
    let store = Store::new(sandbox);
    if let Err(e) = store.check_insert(bucket, name, conditions) {
        drain(body).await;
        return Err(e);
    }
    let finished = blob_of(&store.blobs, body).await?;
    store.insert(bucket, name, draft, finished.into(), conditions)
}

/// Reads what a refused client still sends, within bounds: many clients only look for an answer after they sent all.
async fn drain(body: Body) {
    let mut stream = body.into_data_stream();
    let mut left: usize = 64 << 20;
    while let Some(Ok(piece)) = stream.next().await {
        left = left.saturating_sub(piece.len());
        if left == 0 {
            return;
        }
    }
}

/// Writes a body to a new blob.
///
/// # Errors
/// 400 when the body breaks off, 500 when the disk fails.
pub async fn blob_of(blobs: &Blobs, body: Body) -> Result<Finished, ApiError> {
    let mut writer = blobs.create()?;
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        writer.write_all(&piece.map_err(|e| broke_off(&e))?)?;
    }
    blocking(move || Ok(writer.finish()?)).await
}

async fn multipart(mut call: Call, bucket: &str, content_type: &str) -> Result<Response, ApiError> {
    let mut parser = Parser::new(content_type)?;
    let store = Store::new(&call.sandbox);
    let mut writer = store.blobs.create()?;
    let mut metadata: Vec<u8> = Vec::new();
    let mut media_type: Option<String> = None;
    let mut part = 0;
    let mut stream = std::mem::replace(&mut call.body, Body::empty()).into_data_stream();
    while let Some(piece) = stream.next().await {
        for event in parser.feed(&piece.map_err(|e| broke_off(&e))?)? {
            match event {
                Event::Part(headers) => {
                    part += 1;
                    if part_header(&headers, "content-transfer-encoding")
                        .is_some_and(|v| v.eq_ignore_ascii_case("base64"))
                    {
                        return Err(ApiError::not_implemented("the sandbox does not decode base64 parts"));
                    }
                    if part == 2 {
                        media_type = part_header(&headers, "content-type").map(str::to_string);
                    }
                }
                Event::Data(data) if part == 1 => {
                    if metadata.len() + data.len() > MAX_METADATA_BYTES {
                        return Err(ApiError::new(413, "uploadTooLarge", "The metadata part is too large."));
                    }
                    metadata.extend_from_slice(&data);
                }
                Event::Data(data) if part == 2 => writer.write_all(&data)?,
                Event::Data(_) | Event::PartEnd | Event::End => {}
            }
        }
    }
    parser.finish()?;
    if part != 2 {
        return Err(ApiError::new(
            400,
            "badContent",
            format!("Multipart upload must have exactly two parts: metadata and media; this one has {part}"),
        ));
    }
    let mut draft = json_object(&metadata)?.as_object().cloned().unwrap_or_default();
    draft_of_params(&call.params, &mut draft);
    draft_of_headers(&call.headers, &mut draft);
    if !draft.contains_key("contentType")
        && let Some(kind) = media_type
    {
        draft.insert("contentType".into(), json!(kind));
    }
    let name = name_of(&call, &draft)?;
    call.may_create(bucket, &name)?;
    let conditions = call.of_writing(Conditions::of(&call.params)?, bucket, &name);
    let finished = blocking(move || Ok(writer.finish()?)).await?;
    let (object, b) = store.insert(bucket, &name, &draft, finished.into(), &conditions)?;
    Ok(ok(object.view(&call.base, &b, call.full())))
}

async fn begin(mut call: Call, bucket: &str) -> Result<Response, ApiError> {
    let mut draft = call.json().await?;
    let name = name_of(&call, &draft)?;
    draft_of_params(&call.params, &mut draft);
    draft_of_headers(&call.headers, &mut draft);
    if !draft.contains_key("contentType")
        && let Some(kind) = header(&call.headers, "x-upload-content-type").filter(|k| !k.is_empty())
    {
        draft.insert("contentType".into(), json!(kind));
    }
    let size = header(&call.headers, "x-upload-content-length").and_then(|v| v.parse().ok());
    let conditions = call.of_writing(Conditions::of(&call.params)?, bucket, &name);
    let id = open_session(&call.sandbox, bucket, &name, draft, conditions, size)?;
    Ok(session_response(&call.base, bucket, &name, &id, StatusCode::OK))
}

/// Begins a resumable upload and gives its id.
///
/// # Errors
/// As [`Store::check_insert`].
pub fn open_session(
    sandbox: &Sandbox,
    bucket: &str,
    name: &str,
    draft: Map<String, Value>,
    conditions: Conditions,
    size: Option<u64>,
) -> Result<String, ApiError> {
    Store::new(sandbox).check_insert(bucket, name, &conditions)?;
    let id = format!("{}{}", fresh_id(), fresh_id());
    let session = Session {
        bucket: bucket.into(),
        name: name.into(),
        draft,
        conditions,
        size,
        created_us: sandbox.clock.now_us(),
        done: None,
    };
    let path = path_of(&sandbox.dir, &id);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::create(path)?;
    sandbox.db.transaction(|tx| records::put(tx, UPLOADS, &id, &session))?;
    Ok(id)
}

/// The answer to the beginning of a resumable upload: where to send its bytes.
pub fn session_response(base: &str, bucket: &str, name: &str, id: &str, status: StatusCode) -> Response {
    let location = format!(
        "{base}/upload/storage/v1/b/{}/o?uploadType=resumable&name={}&upload_id={id}",
        encode(bucket),
        encode(name)
    );
    let mut response = (status, Body::empty()).into_response();
    for (name, value) in [("location", location.as_str()), ("x-guploader-uploadid", id)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(names::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// Which bytes a request says it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    /// First and last byte; `None` for a request that carries none. Without a last one the request holds the rest.
    bytes: Option<(u64, Option<u64>)>,
    total: Option<u64>,
}

/// `bytes 0-9/10`, `bytes 0-9/*`, `bytes */10`, `bytes */*`, and `bytes 0-*/*` as Google's Node client sends it.
fn parse_content_range(text: &str) -> Option<Range> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let total = match total.trim() {
        "*" => None,
        n => Some(n.parse().ok()?),
    };
    if range.trim() == "*" {
        return Some(Range { bytes: None, total });
    }
    let (first, last) = range.split_once('-')?;
    let first: u64 = first.trim().parse().ok()?;
    let last: Option<u64> = match last.trim() {
        "*" => None,
        n => Some(n.parse().ok()?),
    };
    let sound = last.is_none_or(|last| first <= last && total.is_none_or(|t| last < t));
    sound.then_some(Range { bytes: Some((first, last)), total })
}

async fn go_on(mut call: Call, id: &str) -> Result<Response, ApiError> {
    let gone = || ApiError::not_found("The upload session does not exist (any more).");
    let valid = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let found = if valid { call.sandbox.db.get(UPLOADS, id)? } else { None };
    let session: Session = records::parse(found.ok_or_else(gone)?)?;
    if call.sandbox.clock.now_us() - session.created_us > SESSION_US {
        return Err(ApiError::new(410, "gone", "The upload session is over."));
    }
    let path = path_of(&call.sandbox.dir, id);
    if call.method == Method::DELETE {
        call.sandbox.db.delete(UPLOADS, id)?;
        let _ = fs::remove_file(&path);
        let status = StatusCode::from_u16(499).unwrap_or(StatusCode::NO_CONTENT);
        return Ok(status.into_response());
    }
    if !matches!(call.method, Method::PUT | Method::POST) {
        return Err(not_allowed(&call.method));
    }
    if let Some(object) = &session.done {
        let b = Store::new(&call.sandbox).bucket(&session.bucket)?;
        return Ok(ok(object.view(&call.base, &b, call.full())));
    }
    let said = header(&call.headers, "content-range");
    let range = match said {
        Some(text) => parse_content_range(text)
            .ok_or_else(|| ApiError::invalid(format!("Failed to parse Content-Range header '{text}'.")))?,
        // Without the header the request holds all there is.
        None => Range { bytes: Some((0, None)), total: None },
    };
    let file = OpenOptions::new().append(true).open(&path).map_err(|_| gone())?;
    if file.try_lock().is_err() {
        return Err(ApiError::new(503, "backendError", "Another request of this upload is under way."));
    }
    if said.is_none() {
        file.set_len(0)?;
    }
    let body = std::mem::replace(&mut call.body, Body::empty());
    let received = match range.bytes {
        None => file.metadata()?.len(),
        Some((first, last)) => receive(&file, body, first, last).await?,
    };
    let total = match range.bytes {
        None => range.total,
        Some((_, None)) => range.total.or(Some(received)),
        Some((_, Some(_))) => range.total.or(session.size),
    };
    if total != Some(received) {
        if range.total.is_some_and(|t| received > t) {
            return Err(ApiError::invalid(format!("{received} bytes came, more than the total that was said.")));
        }
        if let (Some((_, Some(last))), Some(total)) = (range.bytes, range.total)
            && last + 1 == total
        {
            return Err(ApiError::invalid("The request holds fewer bytes than its Content-Range says."));
        }
        // Only whole quanta are kept, as at Google: honest clients go on from the Range that is answered.
        let kept = received / QUANTUM * QUANTUM;
        file.set_len(kept)?;
        return Ok(incomplete(id, kept));
    }
    if session.size.is_some_and(|s| s != received) {
        return Err(ApiError::invalid(format!(
            "{received} bytes came; X-Upload-Content-Length said {}.",
            session.size.unwrap_or_default()
        )));
    }
    finish(call, id, session, path).await
}

/// Appends the body from where the file ends; gives the file's new length.
async fn receive(mut file: &File, body: Body, first: u64, last: Option<u64>) -> Result<u64, ApiError> {
    let mut length = file.metadata()?.len();
    if first > length {
        return Err(ApiError::new(
            503,
            "backendError",
            format!(
                "Invalid request. According to the Content-Range header, the upload offset is {first} byte(s), which exceeds already uploaded size of {length} byte(s)."
            ),
        ));
    }
    let mut position = first;
    let mut stream = body.into_data_stream();
    let mut broken = None;
    while let Some(piece) = stream.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(e) => {
                broken = Some(broke_off(&e));
                break;
            }
        };
        // What is there already is not written again.
        let skip = usize::try_from(length.saturating_sub(position)).unwrap_or(usize::MAX).min(piece.len());
        position += piece.len() as u64;
        if last.is_some_and(|last| position > last.saturating_add(1)) {
            return Err(ApiError::invalid("The request holds more bytes than its Content-Range says."));
        }
        file.write_all(&piece[skip..])?;
        length += (piece.len() - skip) as u64;
    }
    if let Some(e) = broken {
        file.set_len(length / QUANTUM * QUANTUM)?;
        return Err(e);
    }
    Ok(length)
}

async fn finish(call: Call, id: &str, mut session: Session, path: PathBuf) -> Result<Response, ApiError> {
    draft_of_headers(&call.headers, &mut session.draft);
    let sandbox = call.sandbox.clone();
    let id = id.to_string();
    let (object, b) = blocking(move || {
        let store = Store::new(&sandbox);
        let finished = store.blobs.adopt(&path)?;
        let Session { bucket, name, draft, conditions, .. } = &session;
        let result = store.insert(bucket, name, draft, finished.into(), conditions);
        match result {
            Ok((object, b)) => {
                session.done = Some(object.clone());
                sandbox.db.transaction(|tx| records::put(tx, UPLOADS, &id, &session))?;
                Ok((object, b))
            }
            Err(e) => {
                sandbox.db.delete(UPLOADS, &id)?;
                Err(e)
            }
        }
    })
    .await?;
    Ok(ok(object.view(&call.base, &b, call.full())))
}

fn incomplete(id: &str, kept: u64) -> Response {
    let mut response = (StatusCode::PERMANENT_REDIRECT, Body::empty()).into_response();
    let headers = response.headers_mut();
    headers.insert(names::CONTENT_LENGTH, HeaderValue::from_static("0"));
    if kept > 0
        && let Ok(value) = HeaderValue::from_str(&format!("bytes=0-{}", kept - 1))
    {
        headers.insert(names::RANGE, value);
    }
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert("x-guploader-uploadid", value);
    }
    response
}

/// Forgets sessions past their time.
///
/// # Errors
/// When the database fails.
pub fn expire(sandbox: &Sandbox, space: &str, now_us: i64) -> Result<(), ApiError> {
    for (id, value) in sandbox.db.scan(space, "", None, usize::MAX)? {
        if now_us - value["created_us"].as_i64().unwrap_or(0) > SESSION_US {
            sandbox.db.delete(space, &id)?;
            let _ = fs::remove_file(path_of(&sandbox.dir, &id));
        }
    }
    Ok(())
}

fn path_of(data: &Path, id: &str) -> PathBuf {
    data.join("uploads").join(id)
}

fn name_of(call: &Call, draft: &Map<String, Value>) -> Result<String, ApiError> {
    let name = call.params.get("name").or_else(|| draft.get("name").and_then(Value::as_str));
    name.map(str::to_string).ok_or_else(|| ApiError::required("Required parameter: name").at("parameter", "name"))
}

/// Checksums that came as headers.
fn draft_of_headers(headers: &HeaderMap, draft: &mut Map<String, Value>) {
    for value in headers.get_all("x-goog-hash").iter().filter_map(|v| v.to_str().ok()) {
        sums_of_header(value, draft);
    }
}

fn broke_off(e: &axum::Error) -> ApiError {
    ApiError::invalid(format!("the request's body broke off: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        let some = |bytes, total| Some(Range { bytes, total });
        for (text, expected) in [
            ("bytes 0-9/10", some(Some((0, Some(9))), Some(10))),
            ("bytes 0-9/*", some(Some((0, Some(9))), None)),
            ("bytes 5-*/*", some(Some((5, None)), None)),
            ("bytes 5-*/10", some(Some((5, None)), Some(10))),
            ("bytes */10", some(None, Some(10))),
            ("bytes */*", some(None, None)),
            ("bytes=0-9/10", None),
            ("bytes 9-0/10", None),
            ("bytes 0-10/10", None),
            ("bytes x/10", None),
            ("", None),
        ] {
            assert_eq!(parse_content_range(text), expected, "{text}");
        }
    }
}
