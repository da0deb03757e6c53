//! Whole exchanges as JSON lines (`--traffic FILE`), for those who hold them against Google's published documents: what
//! was asked, what was answered, without bulk data and without secrets. Judges nothing and changes nothing.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use futures::TryStreamExt;
use serde_json::{Map, Value, json};

use super::gate::gunzip;
use super::http::header;

/// Larger JSON documents are told by their size only.
const MAX_KEPT_BYTES: usize = 16 << 20;
/// Of a multipart upload the description is kept: it comes first and is small.
const MAX_DESCRIPTION_BYTES: usize = 256 << 10;
/// The request headers that Google's documents speak of, or that tell who asked.
const HEADERS: [&str; 9] = [
    "user-agent",
    "x-goog-api-client",
    "content-type",
    "content-range",
    "range",
    "if-match",
    "if-none-match",
    "x-upload-content-type",
    "x-goog-user-project",
];

/// The file that exchanges are written to.
pub struct Traffic(Mutex<File>);

/// One exchange under way.
pub struct Exchange {
    line: Map<String, Value>,
    headers: HeaderMap,
    body: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    total: usize,
}

impl Traffic {
    /// Opens the file to append to it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self(Mutex::new(OpenOptions::new().create(true).append(true).open(path)?)))
    }

    fn write(&self, line: Map<String, Value>) {
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = file.write_all(text.as_bytes()) {
            tracing::warn!("the traffic cannot be written: {e}");
        }
    }
}

impl Exchange {
    /// Notes the request and looks on while its body is read.
    pub fn begin(request: Request) -> (Self, Request) {
        let (parts, body) = request.into_parts();
        let mut line = Map::new();
        line.insert("method".into(), json!(parts.method.as_str()));
        line.insert("target".into(), json!(parts.uri.path_and_query().map_or("/", |target| target.as_str())));
        let told = HEADERS.iter().filter_map(|name| Some(((*name).to_string(), json!(header(&parts.headers, name)?))));
        line.insert("headers".into(), Value::Object(told.collect()));
        let bound = if boundary(&parts.headers).is_some() { MAX_DESCRIPTION_BYTES } else { MAX_KEPT_BYTES };
        let kept = Arc::new(Mutex::new(Kept::default()));
        let exchange = Self { line, headers: parts.headers.clone(), body: kept.clone() };
        if parts.method == Method::GET || parts.method == Method::HEAD {
            return (exchange, Request::from_parts(parts, body));
        }
        let watched = body.into_data_stream().inspect_ok(move |bytes| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let room = bound.saturating_sub(kept.bytes.len()).min(bytes.len());
            kept.bytes.extend_from_slice(&bytes[..room]);
            kept.total += bytes.len();
        });
        (exchange, Request::from_parts(parts, Body::from_stream(watched)))
    }

    /// Notes the answer and writes the exchange. `is_description`: the answer is no bulk data.
    pub async fn end(mut self, traffic: &Traffic, response: Response, is_description: bool) -> Response {
        self.note_request();
        let (parts, body) = response.into_parts();
        self.line.insert("status".into(), json!(parts.status.as_u16()));
        self.line.insert("answer_type".into(), json!(header(&parts.headers, "content-type")));
        let is_json = header(&parts.headers, "content-type").is_some_and(|t| t.starts_with("application/json"));
        let body = if is_description && is_json {
            match to_bytes(body, usize::MAX).await {
                Ok(bytes) => {
                    if bytes.len() <= MAX_KEPT_BYTES {
                        let answer = serde_json::from_slice(&bytes).map_or(Value::Null, redacted);
                        self.line.insert("answer".into(), answer);
                    }
                    self.line.insert("answer_bytes".into(), json!(bytes.len()));
                    Body::from(bytes)
                }
                // The body was made to break.
                Err(e) => Body::from_stream(futures::stream::once(async { Err::<Vec<u8>, _>(e) })),
            }
        } else {
            body
        };
        traffic.write(self.line);
        Response::from_parts(parts, body)
    }

    fn note_request(&mut self) {
        let Kept { bytes, total } = std::mem::take(&mut *self.body.lock().unwrap_or_else(PoisonError::into_inner));
        if total == 0 {
            return;
        }
        self.line.insert("body_bytes".into(), json!(total));
        let description = match boundary(&self.headers) {
            Some(boundary) => first_part(&bytes, &boundary).map(<[u8]>::to_vec),
            None if total > bytes.len() => None,
            None if header(&self.headers, "content-encoding") == Some("gzip") => {
                gunzip(&bytes.into()).map(|unpacked| unpacked.to_vec())
            }
            None => Some(bytes),
        };
        if let Some(body) = description.and_then(|text| serde_json::from_slice(&text).ok()) {
            self.line.insert("body".into(), redacted(body));
        }
    }
}

/// Payloads of secrets and tokens leave nothing behind but their form.
fn redacted(mut body: Value) -> Value {
    if let Some(data) = body.pointer_mut("/payload/data") {
        *data = Value::from("UkVEQUNURUQ=");
    }
    if let Some(plain) = body.get_mut("plaintext") {
        *plain = Value::from("UkVEQUNURUQ=");
    }
    for name in ["access_token", "id_token", "refresh_token"] {
        if let Some(token) = body.get_mut(name) {
            *token = Value::from("REDACTED");
        }
    }
    body
}

/// The boundary of a multipart body.
fn boundary(headers: &HeaderMap) -> Option<String> {
    let kind = header(headers, "content-type").filter(|kind| kind.starts_with("multipart/"))?;
    let at = kind.find("boundary=")? + "boundary=".len();
    Some(kind[at..].split(';').next()?.trim().trim_matches(['"', '\'']).to_string())
}

/// What stands between the first part's headers and the second delimiter.
fn first_part<'a>(bytes: &'a [u8], boundary: &str) -> Option<&'a [u8]> {
    let find = |text: &[u8], needle: &[u8]| text.windows(needle.len()).position(|window| window == needle);
    let delimiter = format!("--{boundary}");
    let begin = find(bytes, delimiter.as_bytes())? + delimiter.len();
    let rest = &bytes[begin..];
    let part = &rest[..find(rest, delimiter.as_bytes())?];
    let (at, skip) = match (find(part, b"\r\n\r\n"), find(part, b"\n\n")) {
        (Some(crlf), Some(lf)) if lf < crlf => (lf, 2),
        (Some(crlf), _) => (crlf, 4),
        (None, Some(lf)) => (lf, 2),
        (None, None) => return None,
    };
    Some(&part[at + skip..])
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn exchange(request: Request, answer: &'static str) -> Value {
        let file = tempfile::NamedTempFile::new().unwrap();
        let traffic = Traffic::open(file.path()).unwrap();
        let (exchange, request) = Exchange::begin(request);
        to_bytes(request.into_body(), usize::MAX).await.unwrap();
        let response = Response::builder().header("content-type", "application/json").body(answer.into()).unwrap();
        let response = exchange.end(&traffic, response, true).await;
        assert_eq!(to_bytes(response.into_body(), usize::MAX).await.unwrap(), answer);
        serde_json::from_str(&std::fs::read_to_string(file.path()).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn an_exchange_is_kept_whole_without_its_secrets() {
        let request = Request::post("/v1/projects/p/secrets/s:addVersion?alt=json")
            .header("authorization", "Bearer x")
            .header("content-type", "application/json")
            .body(Body::from(r#"{"payload": {"data": "c2VjcmV0"}}"#))
            .unwrap();
        let line = exchange(request, r#"{"name": "n", "access_token": "t"}"#).await;
        assert_eq!(line["target"], "/v1/projects/p/secrets/s:addVersion?alt=json");
        assert_eq!(line["body"], json!({"payload": {"data": "UkVEQUNURUQ="}}));
        assert_eq!(line["answer"], json!({"name": "n", "access_token": "REDACTED"}));
        assert_eq!(line["headers"], json!({"content-type": "application/json"}));
        assert_eq!(line["status"], 200);
    }

    #[tokio::test]
    async fn of_a_multipart_upload_the_description_is_kept() {
        for end in ["\r\n", "\n"] {
            let body = format!(
                "--b{end}Content-Type: application/json{end}{end}{{\"name\":\"n\"}}{end}--b{end}{end}DATA{end}--b--"
            );
            let request = Request::post("/upload/storage/v1/b/x/o?uploadType=multipart")
                .header("content-type", "multipart/related; boundary=\"b\"")
                .body(Body::from(body.clone()))
                .unwrap();
            let line = exchange(request, "{}").await;
            assert_eq!((&line["body"], &line["body_bytes"]), (&json!({"name": "n"}), &json!(body.len())));
        }
    }
}
