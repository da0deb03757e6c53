//! Object bytes on their way out: whole, in ranges, unpacked. Streams from the disk, never holds an object.

use std::io::{Read, Seek, SeekFrom};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header as names};
use axum::response::{IntoResponse, Response};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::Call;
use super::bucket_api::{check_etag_headers, not_allowed};
use super::conditions::Conditions;
use super::records::Object;
use super::store::Store;
use crate::core::ApiError;
use crate::core::http::header;

/// The piece in which bytes are read.
const PIECE_BYTES: usize = 256 << 10;

/// What a `Range` header asks of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Everything: no range, or one that servers may ignore.
    All,
    /// From the first to the last byte, both included.
    Part(u64, u64),
    /// Nothing of the object lies in the range: 416.
    Unsatisfiable,
}

/// Answers with an object's bytes.
///
/// # Errors
/// 404, 412, 304, 416.
pub async fn serve(call: Call, bucket: &str, name: &str) -> Result<Response, ApiError> {
    if !matches!(call.method, Method::GET | Method::HEAD) {
        return Err(not_allowed(&call.method));
    }
    let generation = call.params.number("generation")?;
    let store = Store::new(&call.sandbox);
    let (object, _) = match store.object(bucket, name, generation) {
        Err(e) if e.code == 404 && !e.message.starts_with("The specified bucket") => {
            return Ok((StatusCode::NOT_FOUND, format!("No such object: {bucket}/{name}")).into_response());
        }
        other => other?,
    };
    Conditions::of(&call.params)?.check_read(object.versions())?;
    check_etag_headers(&call, &object.etag())?;
    let file = store.blobs.open(&object.blob)?;
    media(&call, &object, file)
}

/// The bytes with their headers.
///
/// # Errors
/// 416 when the range is outside, 500 when the disk fails.
pub fn media(call: &Call, object: &Object, mut file: std::fs::File) -> Result<Response, ApiError> {
    let mut headers = media_headers(object);
    let gzipped = object.text("contentEncoding") == Some("gzip");
    let accepts = header(&call.headers, "accept-encoding").is_some_and(|v| v.contains("gzip"));
    let keeps = object.text("cacheControl").is_some_and(|v| v.contains("no-transform"));
    if gzipped && !accepts && !keeps {
        headers.remove(names::CONTENT_ENCODING);
        headers.insert(names::WARNING, HeaderValue::from_static("214 UploadServer gunzipped"));
        let body = if call.method == Method::HEAD { Body::empty() } else { unpacked(file) };
        return Ok((headers, body).into_response());
    }
    let size = object.size();
    let wanted = header(&call.headers, "range").map_or(Wanted::All, |r| parse_range(r, size));
    let (status, from, length) = match wanted {
        Wanted::All => (StatusCode::OK, 0, size),
        Wanted::Part(first, last) => {
            insert(&mut headers, names::CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
            (StatusCode::PARTIAL_CONTENT, first, last - first + 1)
        }
        Wanted::Unsatisfiable => {
            insert(&mut headers, names::CONTENT_RANGE, &format!("bytes */{size}"));
            let e = ApiError::new(416, "requestedRangeNotSatisfiable", "Request range not satisfiable");
            headers.remove(names::CONTENT_TYPE);
            let mut response = e.into_response();
            response.headers_mut().extend(headers);
            return Ok(response);
        }
    };
    headers.insert(names::CONTENT_LENGTH, HeaderValue::from(length));
    let body = if call.method == Method::HEAD {
        Body::empty()
    } else {
        file.seek(SeekFrom::Start(from))?;
        let reader = tokio::fs::File::from_std(file).take(length);
        Body::from_stream(ReaderStream::with_capacity(reader, PIECE_BYTES))
    };
    Ok((status, headers, body).into_response())
}

/// `bytes=a-b`, `bytes=a-`, `bytes=-n`. Several ranges and other units are ignored, as HTTP allows.
pub fn parse_range(text: &str, size: u64) -> Wanted {
    let Some(spec) = text.trim().strip_prefix("bytes=") else { return Wanted::All };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::All };
    let (first, last) = (first.trim(), last.trim());
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => Wanted::All,
        (Ok(first), _) if first >= size && (last.is_empty() || last.parse::<u64>().is_ok()) => Wanted::Unsatisfiable,
        (Ok(first), Ok(last)) => Wanted::Part(first, last.min(size - 1)),
        (Ok(first), Err(_)) if last.is_empty() => Wanted::Part(first, size - 1),
        (Err(_), Ok(0)) if first.is_empty() => Wanted::Unsatisfiable,
        (Err(_), Ok(_)) if first.is_empty() && size == 0 => Wanted::Unsatisfiable,
        (Err(_), Ok(n)) if first.is_empty() => Wanted::Part(size.saturating_sub(n), size - 1),
        _ => Wanted::All,
    }
}

/// The headers that tell of an object, also for the XML API.
pub fn media_headers(object: &Object) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let text = |field: &str| object.text(field).unwrap_or_default();
    let mut hash = format!("crc32c={}", text("crc32c"));
    if let Some(md5) = object.text("md5Hash") {
        hash.push_str(&format!(",md5={md5}"));
    }
    for (name, value) in [
        ("x-goog-hash", hash),
        ("x-goog-generation", object.generation().to_string()),
        ("x-goog-metageneration", object.metageneration().to_string()),
        ("x-goog-stored-content-encoding", object.text("contentEncoding").unwrap_or("identity").into()),
        ("x-goog-stored-content-length", object.size().to_string()),
        ("x-goog-storage-class", object.storage_class().to_string()),
        ("content-type", object.text("contentType").unwrap_or("application/octet-stream").into()),
        ("accept-ranges", "bytes".into()),
        ("etag", object.etag()),
        ("last-modified", http_date(object.time_us("updated").unwrap_or(0))),
    ] {
        insert(&mut headers, HeaderName::from_static(name), &value);
    }
    for (field, name) in [
        ("contentEncoding", names::CONTENT_ENCODING),
        ("contentDisposition", names::CONTENT_DISPOSITION),
        ("contentLanguage", names::CONTENT_LANGUAGE),
        ("cacheControl", names::CACHE_CONTROL),
    ] {
        if let Some(value) = object.text(field) {
            insert(&mut headers, name, value);
        }
    }
    headers
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us)
        .map(|t| t.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .unwrap_or_default()
}

/// Sets a header unless its value cannot stand in one.
pub fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A gzipped file as the bytes inside it.
fn unpacked(file: std::fs::File) -> Body {
    let (send, receive) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(4);
    tokio::task::spawn_blocking(move || {
        let mut reader = flate2::read::MultiGzDecoder::new(file);
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let result = reader.read(&mut piece);
            let end = matches!(result, Ok(0) | Err(_));
            let item = result.map(|n| {
                piece.truncate(n);
                Bytes::from(piece)
            });
            if send.blocking_send(item).is_err() || end {
                return;
            }
        }
    });
    Body::from_stream(futures::stream::unfold(receive, |mut receive| async {
        receive.recv().await.map(|item| (item, receive))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        for (text, size, expected) in [
            ("bytes=0-9", 100, Wanted::Part(0, 9)),
            ("bytes=10-19", 15, Wanted::Part(10, 14)),
            ("bytes=10-", 15, Wanted::Part(10, 14)),
            ("bytes=-5", 15, Wanted::Part(10, 14)),
            ("bytes=-50", 15, Wanted::Part(0, 14)),
            ("bytes=15-", 15, Wanted::Unsatisfiable),
            ("bytes=15-20", 15, Wanted::Unsatisfiable),
            ("bytes=0-", 0, Wanted::Unsatisfiable),
            ("bytes=-5", 0, Wanted::Unsatisfiable),
            ("bytes=-0", 5, Wanted::Unsatisfiable),
            ("bytes=5-2", 15, Wanted::All),
            ("bytes=a-b", 15, Wanted::All),
            ("bytes=0-1,3-4", 15, Wanted::All),
            ("rows=0-1", 15, Wanted::All),
            ("bytes=", 15, Wanted::All),
        ] {
            assert_eq!(parse_range(text, size), expected, "{text} of {size}");
        }
    }

    #[test]
    fn dates_are_written_as_http_wants_them() {
        assert_eq!(http_date(784_111_777_000_000), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
