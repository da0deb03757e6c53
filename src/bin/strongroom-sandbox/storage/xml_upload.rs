//! Multipart uploads of the XML API (`?uploads`, `?uploadId=`): parts in any order, joined at the end. These are what
//! the lifecycle action AbortIncompleteMultipartUpload is about.

use std::collections::BTreeMap;

use axum::body::{Body, to_bytes};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::blob::{Finished, fresh_id};
use super::bucket_api::not_allowed;
use super::conditions::Conditions;
use super::records::{self, XML_UPLOADS};
use super::store::{Content, Store, check_name};
use super::upload::blob_of;
use super::xml::{draft_of_headers, escape, xml, xml_etag};
use super::{Call, blocking, lifecycle};
use crate::core::{ApiError, Sandbox};

/// A list of parts is small.
const MAX_LIST_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Upload {
    bucket: String,
    name: String,
    draft: Map<String, Value>,
    created_us: i64,
    parts: BTreeMap<u32, Part>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Part {
    blob: String,
    size: u64,
    etag: String,
}

/// Answers `?uploads` and `?uploadId=`.
///
/// # Errors
/// 404 for an unknown upload, 400 for bad parts.
pub async fn serve(mut call: Call, bucket: &str, name: &str) -> Result<Response, ApiError> {
    let Some(id) = call.params.get("uploadId").map(str::to_string) else {
        return if call.method == Method::POST { begin(&call, bucket, name) } else { Err(not_allowed(&call.method)) };
    };
    let found = call.sandbox.db.get(XML_UPLOADS, &id)?;
    let upload: Upload =
        records::parse(found.ok_or_else(|| ApiError::not_found("The requested upload was not found."))?)?;
    if upload.bucket != bucket || upload.name != name {
        return Err(ApiError::not_found("The requested upload was not found."));
    }
    match call.method {
        Method::PUT => {
            let number = call.params.number("partNumber")?.and_then(|n| u32::try_from(n).ok());
            let number =
                number.filter(|n| (1..=10_000).contains(n)).ok_or_else(|| ApiError::invalid("Invalid partNumber"))?;
            let body = std::mem::replace(&mut call.body, Body::empty());
            let finished = blob_of(&Store::new(&call.sandbox).blobs, body).await?;
            let etag = put_part(&call.sandbox, &id, number, finished)?;
            Ok(([("etag", etag)], Body::empty()).into_response())
        }
        Method::GET => Ok(parts_xml(&upload, &id)),
        Method::DELETE => {
            abort(&call.sandbox, &id, &upload)?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Method::POST => {
            let body = std::mem::replace(&mut call.body, Body::empty());
            let bytes = to_bytes(body, MAX_LIST_BYTES).await.map_err(|e| ApiError::invalid(e.to_string()))?;
            let wanted = wanted_parts(&String::from_utf8_lossy(&bytes))?;
            let conditions = call.of_writing(Conditions::of_headers(&call.headers)?, bucket, name);
            let sandbox = call.sandbox.clone();
            let object = blocking(move || complete(&sandbox, &id, &upload, &wanted, &conditions)).await?;
            Ok(xml(
                StatusCode::OK,
                &format!(
                    "<CompleteMultipartUploadResult><Location>{}/{bucket}/{}</Location><Bucket>{bucket}</Bucket><Key>{}</Key><ETag>{}</ETag></CompleteMultipartUploadResult>",
                    call.base,
                    escape(name),
                    escape(name),
                    escape(&object),
                ),
            ))
        }
        _ => Err(not_allowed(&call.method)),
    }
}

fn begin(call: &Call, bucket: &str, name: &str) -> Result<Response, ApiError> {
    check_name(name)?;
    Store::new(&call.sandbox).bucket(bucket)?;
    let upload = Upload {
        bucket: bucket.into(),
        name: name.into(),
        draft: draft_of_headers(&call.headers)?,
        created_us: call.sandbox.clock.now_us(),
        parts: BTreeMap::new(),
    };
    let id = fresh_id();
    call.sandbox.db.transaction(|tx| records::put(tx, XML_UPLOADS, &id, &upload))?;
    Ok(xml(
        StatusCode::OK,
        &format!(
            "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
            escape(name)
        ),
    ))
}

fn put_part(sandbox: &Sandbox, id: &str, number: u32, finished: Finished) -> Result<String, ApiError> {
    let hex: String = STANDARD.decode(&finished.md5).unwrap_or_default().iter().map(|b| format!("{b:02x}")).collect();
    let etag = format!("\"{hex}\"");
    let part = Part { blob: finished.id.clone(), size: finished.size, etag: etag.clone() };
    let blobs = Store::new(sandbox).blobs;
    let replaced = sandbox.db.transaction(|tx| {
        let found = tx.get(XML_UPLOADS, id)?;
        let mut upload: Upload =
            records::parse(found.ok_or_else(|| ApiError::not_found("The requested upload was not found."))?)?;
        let old = upload.parts.insert(number, part);
        records::put(tx, XML_UPLOADS, id, &upload)?;
        Ok(old)
    });
    match replaced {
        Ok(old) => {
            if let Some(old) = old {
                blobs.remove(&old.blob);
            }
            Ok(etag)
        }
        Err(e) => {
            blobs.remove(&finished.id);
            Err(e)
        }
    }
}

fn complete(
    sandbox: &Sandbox,
    id: &str,
    upload: &Upload,
    wanted: &[(u32, String)],
    conditions: &Conditions,
) -> Result<String, ApiError> {
    let store = Store::new(sandbox);
    let mut writer = store.blobs.create()?;
    if wanted.is_empty() || wanted.windows(2).any(|w| w[0].0 >= w[1].0) {
        return Err(ApiError::invalid("The parts must be listed in ascending order, at least one."));
    }
    for (number, etag) in wanted {
        let part =
            upload.parts.get(number).filter(|p| etag.is_empty() || p.etag.trim_matches('"') == etag.trim_matches('"'));
        let part =
            part.ok_or_else(|| ApiError::invalid(format!("Part {number} was not uploaded or its etag differs.")))?;
        writer.copy_from(&mut store.blobs.open(&part.blob)?)?;
    }
    let content = Content { md5: None, component_count: i64::try_from(wanted.len()).ok(), ..writer.finish()?.into() };
    let (object, _) = store.insert(&upload.bucket, &upload.name, &upload.draft, content, conditions)?;
    abort(sandbox, id, upload)?;
    Ok(xml_etag(&object))
}

/// Forgets an upload and its parts.
fn abort(sandbox: &Sandbox, id: &str, upload: &Upload) -> Result<(), ApiError> {
    sandbox.db.delete(XML_UPLOADS, id)?;
    let blobs = Store::new(sandbox).blobs;
    upload.parts.values().for_each(|p| blobs.remove(&p.blob));
    Ok(())
}

/// (number, etag) of every `<Part>`, in the order of the list.
fn wanted_parts(text: &str) -> Result<Vec<(u32, String)>, ApiError> {
    let inside = |text: &str, tag: &str| -> Option<String> {
        let from = text.find(&format!("<{tag}>"))? + tag.len() + 2;
        let to = from + text[from..].find(&format!("</{tag}>"))?;
        Some(text[from..to].trim().replace("&quot;", "\""))
    };
    text.split("<Part>")
        .skip(1)
        .map(|part| {
            let number = inside(part, "PartNumber").and_then(|n| n.parse().ok());
            let number = number.ok_or_else(|| ApiError::invalid("A part of the list has no valid PartNumber."))?;
            Ok((number, inside(part, "ETag").unwrap_or_default()))
        })
        .collect()
}

fn parts_xml(upload: &Upload, id: &str) -> Response {
    let mut out = format!(
        "<ListPartsResult><Bucket>{}</Bucket><Key>{}</Key><UploadId>{id}</UploadId><IsTruncated>false</IsTruncated>",
        upload.bucket,
        escape(&upload.name)
    );
    for (number, part) in &upload.parts {
        out.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag><Size>{}</Size></Part>",
            escape(&part.etag),
            part.size
        ));
    }
    out.push_str("</ListPartsResult>");
    xml(StatusCode::OK, &out)
}

/// Aborts what lifecycle rules say.
///
/// # Errors
/// When the database fails.
pub fn expire(sandbox: &Sandbox, space: &str, now_us: i64) -> Result<(), ApiError> {
    for (id, value) in sandbox.db.scan(space, "", None, usize::MAX)? {
        let upload: Upload = records::parse(value)?;
        let bucket = sandbox.db.transaction(|tx| records::bucket(tx, &upload.bucket));
        let aborts = match bucket {
            Ok(bucket) => bucket
                .resource
                .get("lifecycle")
                .is_some_and(|l| lifecycle::aborts(l, &upload.name, upload.created_us, now_us)),
            Err(e) => e.code == 404,
        };
        if aborts {
            abort(sandbox, &id, &upload)?;
        }
    }
    Ok(())
}

/// All blobs that unfinished uploads hold.
///
/// # Errors
/// When the database fails.
pub fn blobs(sandbox: &Sandbox) -> Result<Vec<String>, ApiError> {
    let mut out = Vec::new();
    for (_, value) in sandbox.db.scan(XML_UPLOADS, "", None, usize::MAX)? {
        out.extend(records::parse::<Upload>(value)?.parts.into_values().map(|p| p.blob));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_parts_are_read() {
        let text = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&quot;ab&quot;</ETag></Part>\n<Part><ETag>\"cd\"</ETag><PartNumber> 2 </PartNumber></Part></CompleteMultipartUpload>";
        assert_eq!(wanted_parts(text).unwrap(), [(1, "\"ab\"".to_string()), (2, "\"cd\"".to_string())]);
        assert!(wanted_parts("<Part><PartNumber>x</PartNumber></Part>").is_err());
        assert!(wanted_parts("").unwrap().is_empty());
    }
}
