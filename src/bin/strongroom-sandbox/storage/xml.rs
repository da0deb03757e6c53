//! The XML-style calls that many tools use: `GET|PUT|HEAD|DELETE /BUCKET/OBJECT`, listings of `/BUCKET`. Errors and
//! listings are XML; the objects are those of the JSON API.

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, header as names};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::bucket_api::not_allowed;
use super::conditions::Conditions;
use super::download::{insert, media, media_headers};
use super::list::{self, Query};
use super::object_api::{copy, sums_of_header};
use super::records::Object;
use super::store::Store;
use super::{Call, buckets, upload, xml_upload};
use crate::core::ApiError;
use crate::core::http::{decode, encode, header};

/// Answers an XML-style request; errors become XML too.
///
/// # Errors
/// None: they are in the answer.
pub async fn serve(call: Call, bucket: &str, object: &str) -> Result<Response, ApiError> {
    let head = call.method == Method::HEAD;
    let result =
        if object.is_empty() { bucket_level(call, bucket).await } else { object_level(call, bucket, object).await };
    Ok(result.unwrap_or_else(|e| error(&e, head)))
}

async fn bucket_level(call: Call, bucket: &str) -> Result<Response, ApiError> {
    match call.method {
        Method::GET => listing(&call, bucket),
        Method::HEAD => Store::new(&call.sandbox).bucket(bucket).map(|_| StatusCode::OK.into_response()),
        Method::PUT => {
            let draft = json!({ "name": bucket });
            let project = header(&call.headers, "x-goog-project-id").unwrap_or(&call.sandbox.options.project);
            buckets::create(&call.sandbox, project, draft.as_object().unwrap_or(&Map::new()))?;
            Ok(StatusCode::OK.into_response())
        }
        Method::DELETE => {
            buckets::delete(&call.sandbox, bucket, &Conditions::default())?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        _ => Err(not_allowed(&call.method)),
    }
}

async fn object_level(mut call: Call, bucket: &str, name: &str) -> Result<Response, ApiError> {
    let conditions = Conditions::of_headers(&call.headers)?;
    let generation = call.params.number("generation")?;
    let is_upload = call.params.get("uploadId").is_some() || flag_in_query(&call, "uploads");
    match call.method {
        _ if is_upload => xml_upload::serve(call, bucket, name).await,
        Method::GET | Method::HEAD => {
            let store = Store::new(&call.sandbox);
            let (object, _) = store.object(bucket, name, generation)?;
            conditions.check_read(object.versions())?;
            let file = store.blobs.open(&object.blob)?;
            let mut response = media(&call, &object, file)?;
            add_xml_headers(&object, response.headers_mut());
            Ok(response)
        }
        Method::PUT => {
            let draft = draft_of_headers(&call.headers)?;
            let conditions = call.of_writing(conditions, bucket, name);
            if let Some(source) =
                header(&call.headers, "x-goog-copy-source").or_else(|| header(&call.headers, "x-amz-copy-source"))
            {
                return copy_from(&call, source, (bucket, name), draft, &conditions);
            }
            let body = std::mem::replace(&mut call.body, Body::empty());
            let (object, _) = upload::store_body(&call.sandbox, bucket, name, &draft, &conditions, body).await?;
            let mut headers = HeaderMap::new();
            add_xml_headers(&object, &mut headers);
            for name in [
                "x-goog-hash",
                "x-goog-generation",
                "x-goog-metageneration",
                "x-goog-stored-content-length",
                "x-goog-stored-content-encoding",
            ] {
                if let Some(value) = media_headers(&object).remove(name) {
                    headers.insert(name, value);
                }
            }
            Ok((headers, Body::empty()).into_response())
        }
        Method::POST if header(&call.headers, "x-goog-resumable") == Some("start") => {
            let draft = draft_of_headers(&call.headers)?;
            let conditions = call.of_writing(conditions, bucket, name);
            let id = upload::open_session(&call.sandbox, bucket, name, draft, conditions, None)?;
            Ok(upload::session_response(&call.base, bucket, name, &id, StatusCode::CREATED))
        }
        Method::DELETE => {
            Store::new(&call.sandbox).delete(bucket, name, generation, &conditions)?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        _ => Err(not_allowed(&call.method)),
    }
}

fn copy_from(
    call: &Call,
    source: &str,
    target: (&str, &str),
    draft: Map<String, Value>,
    conditions: &Conditions,
) -> Result<Response, ApiError> {
    let source = decode(source.trim_start_matches('/')).unwrap_or_default();
    let (bucket, name) =
        source.split_once('/').ok_or_else(|| ApiError::invalid("the copy source must be BUCKET/OBJECT"))?;
    let (source, _) = Store::new(&call.sandbox).object(bucket, name, None)?;
    let (object, _) = copy(&call.sandbox, &source, target, draft, conditions)?;
    let body = format!(
        "<CopyObjectResult><LastModified>{}</LastModified><ETag>{}</ETag></CopyObjectResult>",
        object.text("updated").unwrap_or_default(),
        escape(&xml_etag(&object)),
    );
    Ok(xml(StatusCode::OK, &body))
}

fn listing(call: &Call, bucket: &str) -> Result<Response, ApiError> {
    let v2 = call.params.get("list-type") == Some("2");
    let encoded = call.params.get("encoding-type") == Some("url");
    let show = |text: &str| if encoded { encode(text).replace("%2F", "/") } else { escape(text) };
    let text = |name: &str| call.params.get(name).map(str::to_string);
    let limit = call.params.number("max-keys")?.unwrap_or(1000).clamp(0, 1000);
    let query = Query {
        prefix: text("prefix").unwrap_or_default(),
        delimiter: text("delimiter"),
        // `start-after` and `marker` exclude what they name: the least longer name comes next.
        start_offset: text("start-after").or_else(|| text("marker")).map(|n| format!("{n}\u{1}")),
        limit: usize::try_from(limit).unwrap_or(1000).max(1),
        page_token: text("continuation-token"),
        ..Query::default()
    };
    let page = list::list(&call.sandbox, bucket, &query)?;
    let mut out = format!(
        "<ListBucketResult xmlns=\"http://doc.s3.amazonaws.com/2006-03-01\"><Name>{}</Name><Prefix>{}</Prefix><MaxKeys>{limit}</MaxKeys>",
        escape(bucket),
        show(&query.prefix),
    );
    if let Some(delimiter) = &query.delimiter {
        out.push_str(&format!("<Delimiter>{}</Delimiter>", show(delimiter)));
    }
    if encoded {
        out.push_str("<EncodingType>url</EncodingType>");
    }
    out.push_str(&format!("<IsTruncated>{}</IsTruncated>", page.next.is_some()));
    if v2 {
        out.push_str(&format!("<KeyCount>{}</KeyCount>", page.items.len() + page.prefixes.len()));
        if let Some(next) = &page.next {
            out.push_str(&format!("<NextContinuationToken>{}</NextContinuationToken>", escape(next)));
        }
    } else if page.next.is_some()
        && let Some(last) = page.items.last().map(Object::name).max(page.prefixes.last().map(String::as_str))
    {
        out.push_str(&format!("<NextMarker>{}</NextMarker>", show(last)));
    }
    for object in &page.items {
        out.push_str(&format!(
            "<Contents><Key>{}</Key><Generation>{}</Generation><MetaGeneration>{}</MetaGeneration><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size><StorageClass>{}</StorageClass></Contents>",
            show(object.name()),
            object.generation(),
            object.metageneration(),
            object.text("updated").unwrap_or_default(),
            escape(&xml_etag(object)),
            object.size(),
            object.storage_class(),
        ));
    }
    for prefix in &page.prefixes {
        out.push_str(&format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", show(prefix)));
    }
    out.push_str("</ListBucketResult>");
    Ok(xml(StatusCode::OK, &out))
}

/// What the headers of a write say about the object.
///
/// # Errors
/// 400 for a bad header.
pub fn draft_of_headers(headers: &HeaderMap) -> Result<Map<String, Value>, ApiError> {
    let mut draft = Map::new();
    let mut metadata = Map::new();
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        let field = match name.as_str() {
            "content-type" => "contentType",
            "cache-control" => "cacheControl",
            "content-disposition" => "contentDisposition",
            "content-encoding" => "contentEncoding",
            "content-language" => "contentLanguage",
            "x-goog-storage-class" => "storageClass",
            "x-goog-custom-time" => "customTime",
            "content-md5" => "md5Hash",
            "x-goog-hash" => {
                sums_of_header(value, &mut draft);
                continue;
            }
            other => {
                if let Some(key) = other.strip_prefix("x-goog-meta-").or_else(|| other.strip_prefix("x-amz-meta-")) {
                    metadata.insert(key.into(), json!(value));
                }
                continue;
            }
        };
        // S3 clients say `aws-chunked`, which is no property of the object.
        if field == "contentEncoding" && value.contains("aws-chunked") {
            return Err(ApiError::not_implemented("the sandbox does not read aws-chunked bodies"));
        }
        draft.insert(field.into(), json!(value));
    }
    if !metadata.is_empty() {
        draft.insert("metadata".into(), Value::Object(metadata));
    }
    Ok(draft)
}

/// The quoted MD5 in hex, as the XML API has it; composites have none and show their etag.
pub fn xml_etag(object: &Object) -> String {
    let md5 = object.text("md5Hash").and_then(|m| STANDARD.decode(m).ok());
    match md5 {
        Some(bytes) => format!("\"{}\"", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        None => format!("\"{}\"", object.etag()),
    }
}

/// An XML answer.
pub fn xml(status: StatusCode, body: &str) -> Response {
    let text = format!("<?xml version='1.0' encoding='UTF-8'?>{body}");
    (status, [(names::CONTENT_TYPE, "application/xml; charset=UTF-8")], text).into_response()
}

/// Text as it can stand in XML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Whether a parameter without a value stands in the query (`?uploads`).
fn flag_in_query(call: &Call, name: &str) -> bool {
    call.query.split('&').any(|p| p == name || p.strip_suffix('=') == Some(name))
}

fn add_xml_headers(object: &Object, headers: &mut HeaderMap) {
    insert(headers, names::ETAG, &xml_etag(object));
    for (key, value) in object.resource.get("metadata").and_then(Value::as_object).into_iter().flatten() {
        if let (Ok(name), Some(value)) = (format!("x-goog-meta-{key}").parse(), value.as_str()) {
            insert(headers, name, value);
        }
    }
}

fn error(e: &ApiError, head: bool) -> Response {
    let status = StatusCode::from_u16(e.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if e.code == 304 || head {
        return status.into_response();
    }
    let code = match e.code {
        404 if e.message.contains("bucket") => "NoSuchBucket",
        404 => "NoSuchKey",
        409 if e.message.contains("not empty") => "BucketNotEmpty",
        409 => "BucketAlreadyOwnedByYou",
        412 => "PreconditionFailed",
        403 => "AccessDenied",
        416 => "InvalidRange",
        405 => "MethodNotAllowed",
        501 => "NotImplemented",
        400 => "InvalidArgument",
        _ => "InternalError",
    };
    xml(status, &format!("<Error><Code>{code}</Code><Message>{}</Message></Error>", escape(&e.message)))
}
