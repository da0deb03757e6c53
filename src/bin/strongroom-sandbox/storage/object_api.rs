//! `/storage/v1/b/BUCKET/o...` but uploads and downloads: reads requests, calls the store, writes answers.

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::bucket_api::{check_etag_headers, edit_acl, not_allowed, test_permissions};
use super::conditions::Conditions;
use super::list::{self, Query};
use super::records::{self, Bucket, Object, as_i64};
use super::store::{self, Content, Edit, Store};
use super::{Call, blocking, buckets, download};
use crate::core::http::{no_content, ok};
use crate::core::{ApiError, Params, Sandbox};

/// How much one rewrite call copies to another location or class when the request names no bound.
const REWRITE_BYTES: u64 = 1 << 30;
/// Google's bound on sources of one compose call.
const MAX_SOURCES: usize = 32;

/// `GET /b/BUCKET/o`.
///
/// # Errors
/// As Google words them.
pub fn list(call: &Call, bucket: &str) -> Result<Response, ApiError> {
    if call.method != Method::GET {
        return Err(not_allowed(&call.method));
    }
    let query = Query::of(&call.params)?;
    let page = list::list(&call.sandbox, bucket, &query)?;
    let b = Store::new(&call.sandbox).bucket(bucket)?;
    let mut answer = json!({ "kind": "storage#objects" });
    if let Some(next) = page.next {
        answer["nextPageToken"] = json!(next);
    }
    if !page.prefixes.is_empty() {
        answer["prefixes"] = json!(page.prefixes);
    }
    if !page.items.is_empty() {
        answer["items"] = page.items.iter().map(|o| o.view(&call.base, &b, call.full())).collect();
    }
    Ok(ok(answer))
}

/// `/b/BUCKET/o/OBJECT`.
///
/// # Errors
/// As Google words them.
pub async fn one(mut call: Call, bucket: &str, name: &str) -> Result<Response, ApiError> {
    let conditions = Conditions::of(&call.params)?;
    let generation = call.params.number("generation")?;
    match call.method {
        Method::GET | Method::HEAD if call.params.get("alt") == Some("media") => {
            download::serve(call, bucket, name).await
        }
        Method::GET | Method::HEAD => {
            let store = Store::new(&call.sandbox);
            let (object, b) = match generation {
                Some(g) if call.params.flag("softDeleted") => store.soft_deleted(bucket, name, g)?,
                g => store.object(bucket, name, g)?,
            };
            conditions.check_read(object.versions())?;
            check_etag_headers(&call, &object.etag())?;
            Ok(ok(object.view(&call.base, &b, call.full())))
        }
        Method::PATCH | Method::PUT => {
            let how = if call.method == Method::PUT { Edit::Replace } else { Edit::Patch };
            let draft = call.json().await?;
            let override_unlocked = call.params.flag("overrideUnlockedRetention");
            let store = Store::new(&call.sandbox);
            let (object, b) = store.update(bucket, name, generation, &conditions, &draft, how, override_unlocked)?;
            Ok(ok(object.view(&call.base, &b, call.full())))
        }
        Method::DELETE => {
            Store::new(&call.sandbox).delete(bucket, name, generation, &conditions)?;
            Ok(no_content())
        }
        _ => Err(not_allowed(&call.method)),
    }
}

/// `/b/BUCKET/o/OBJECT/...`.
///
/// # Errors
/// As Google words them.
pub async fn below(mut call: Call, bucket: &str, name: &str, rest: &[&str]) -> Result<Response, ApiError> {
    let generation = call.params.number("generation")?;
    match (rest, &call.method) {
        (["rewriteTo", "b", to_bucket, "o", to_name], &Method::POST) => {
            let draft = call.json().await?;
            rewrite(&call, (bucket, name), (to_bucket, to_name), draft)
        }
        (["copyTo", "b", to_bucket, "o", to_name], &Method::POST) => {
            let draft = call.json().await?;
            let (source, _) = source(&call, bucket, name)?;
            let conditions = call.of_writing(Conditions::of(&call.params)?, to_bucket, to_name);
            let (object, b) = copy(&call.sandbox, &source, (to_bucket, to_name), draft, &conditions)?;
            Ok(ok(object.view(&call.base, &b, call.full())))
        }
        (["moveTo", "o", to_name], &Method::POST) => {
            let draft = call.json().await?;
            let (source, b) = source(&call, bucket, name)?;
            source.check_unprotected(&b, call.sandbox.clock.now_us())?;
            let conditions = call.of_writing(Conditions::of(&call.params)?, bucket, to_name);
            let (object, b) = copy(&call.sandbox, &source, (bucket, to_name), draft, &conditions)?;
            let same = Conditions { generation: Some(source.generation()), ..Conditions::default() };
            Store::new(&call.sandbox).delete(bucket, name, None, &same)?;
            Ok(ok(object.view(&call.base, &b, call.full())))
        }
        (["compose"], &Method::POST) => {
            let body = call.json().await?;
            let conditions = call.of_writing(Conditions::of(&call.params)?, bucket, name);
            let (sandbox, bucket, name) = (call.sandbox.clone(), bucket.to_string(), name.to_string());
            let (object, b) = blocking(move || compose(&sandbox, &bucket, &name, &body, &conditions)).await?;
            Ok(ok(object.view(&call.base, &b, call.full())))
        }
        (["restore"], &Method::POST) => {
            let Some(generation) = generation else {
                return Err(ApiError::required("Required parameter: generation").at("parameter", "generation"));
            };
            let store = Store::new(&call.sandbox);
            let (source, _) = store.soft_deleted(bucket, name, generation)?;
            let conditions = call.of_writing(Conditions::of(&call.params)?, bucket, name);
            let (object, b) = copy(&call.sandbox, &source, (bucket, name), Map::new(), &conditions)?;
            Ok(ok(object.view(&call.base, &b, call.full())))
        }
        (["iam"], &Method::GET) => {
            let (object, b) = Store::new(&call.sandbox).object(bucket, name, generation)?;
            Ok(ok(object_policy(&object, &b)))
        }
        (["iam"], &Method::PUT) => {
            let wanted = Value::Object(call.json().await?);
            Ok(ok(call.sandbox.db.transaction(|tx| {
                let (mut object, b) = find(tx, bucket, name, generation)?;
                let current = object_policy(&object, &b);
                object.iam = Some(buckets::new_policy(&wanted, &current, object.iam.as_ref())?);
                store::put_back(tx, &object)?;
                Ok(object_policy(&object, &b))
            })?))
        }
        (["iam", "testPermissions"], &Method::GET) => Ok(ok(test_permissions(&call))),
        (["acl", entity @ ..], method) if entity.len() < 2 => {
            let method = method.clone();
            let draft =
                if method == Method::GET || method == Method::DELETE { Map::new() } else { call.json().await? };
            let answer = call.sandbox.db.transaction(|tx| {
                let (mut object, _) = find(tx, bucket, name, generation)?;
                let list = object.resource.entry("acl").or_insert_with(|| json!([]));
                let owner = json!({ "bucket": bucket, "object": name });
                let answer =
                    edit_acl(list, &method, draft, "storage#objectAccessControl", entity.first().copied(), owner)?;
                store::put_back(tx, &object)?;
                Ok(answer)
            })?;
            Ok(answer.map_or_else(no_content, ok))
        }
        _ => Err(ApiError::not_found(format!(
            "the sandbox's Storage has no {} .../o/OBJECT/{}",
            call.method,
            rest.join("/")
        ))),
    }
}

/// Copies `source` under a new name; `draft` replaces its metadata when it says anything of that.
///
/// # Errors
/// 404, 412, 403 when what is at the target is protected.
pub fn copy(
    sandbox: &Sandbox,
    source: &Object,
    (bucket, name): (&str, &str),
    draft: Map<String, Value>,
    conditions: &Conditions,
) -> Result<(Object, Bucket), ApiError> {
    const COPIED: [&str; 7] = [
        "cacheControl",
        "contentDisposition",
        "contentEncoding",
        "contentLanguage",
        "contentType",
        "metadata",
        "customTime",
    ];
    let says_metadata = COPIED.iter().any(|f| draft.contains_key(*f));
    let mut wanted = draft;
    // Sums and numbers in the draft are those of the source as the client knew it.
    wanted.remove("crc32c");
    wanted.remove("md5Hash");
    if !says_metadata {
        for field in COPIED {
            if let Some(value) = source.resource.get(field) {
                wanted.insert(field.into(), value.clone());
            }
        }
    }
    let store = Store::new(sandbox);
    let content = Content {
        blob: store.blobs.duplicate(&source.blob)?,
        size: source.size(),
        crc32c: source.text("crc32c").unwrap_or_default().into(),
        md5: source.text("md5Hash").map(str::to_string),
        component_count: source.resource.get("componentCount").and_then(as_i64),
    };
    store.insert(bucket, name, &wanted, content, conditions)
}

/// A rewrite: at once within one location and class, else in bounded steps with a token between them.
fn rewrite(
    call: &Call,
    (bucket, name): (&str, &str),
    (to_bucket, to_name): (&str, &str),
    draft: Map<String, Value>,
) -> Result<Response, ApiError> {
    let (source, source_bucket) = source(call, bucket, name)?;
    let conditions = call.of_writing(Conditions::of(&call.params)?, to_bucket, to_name);
    let store = Store::new(&call.sandbox);
    store.check_insert(to_bucket, to_name, &conditions)?;
    let target = store.bucket(to_bucket)?;
    let class = draft.get("storageClass").and_then(Value::as_str).unwrap_or(target.storage_class());
    let moves_bytes = target.location() != source_bucket.location() || class != source.storage_class();
    let mut rewritten = match call.params.get("rewriteToken") {
        Some(token) => progress(token, source.generation())?,
        None => 0,
    };
    let step = match call.params.number("maxBytesRewrittenPerCall")? {
        None => REWRITE_BYTES,
        Some(n) if n >= 1 << 20 && n % (1 << 20) == 0 => n.unsigned_abs(),
        Some(n) => {
            return Err(ApiError::invalid(format!("maxBytesRewrittenPerCall must be a multiple of 1048576, not {n}")));
        }
    };
    rewritten = if moves_bytes { (rewritten + step).min(source.size()) } else { source.size() };
    let mut answer = json!({
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": rewritten.to_string(),
        "objectSize": source.size().to_string(),
        "done": rewritten == source.size(),
    });
    if rewritten == source.size() {
        let (object, b) = copy(&call.sandbox, &source, (to_bucket, to_name), draft, &conditions)?;
        answer["resource"] = object.view(&call.base, &b, call.full());
    } else {
        answer["rewriteToken"] = json!(URL_SAFE_NO_PAD.encode(format!("{} {rewritten}", source.generation())));
    }
    Ok(ok(answer))
}

fn progress(token: &str, generation: i64) -> Result<u64, ApiError> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (of, rewritten) = text.split_once(' ')?;
        (of.parse() == Ok(generation)).then(|| rewritten.parse().ok())?
    };
    read().ok_or_else(|| ApiError::invalid("Invalid rewrite token").at("parameter", "rewriteToken"))
}

/// Joins objects of one bucket.
fn compose(
    sandbox: &Arc<Sandbox>,
    bucket: &str,
    name: &str,
    body: &Map<String, Value>,
    conditions: &Conditions,
) -> Result<(Object, Bucket), ApiError> {
    let sources = body.get("sourceObjects").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if sources.is_empty() {
        return Err(ApiError::required("You must provide at least one source component."));
    }
    if sources.len() > MAX_SOURCES {
        return Err(ApiError::invalid(format!(
            "The number of source components provided ({}) exceeds the maximum ({MAX_SOURCES})",
            sources.len()
        )));
    }
    let store = Store::new(sandbox);
    store.check_insert(bucket, name, conditions)?;
    let mut objects = Vec::new();
    for source in sources {
        let source_name = source["name"].as_str().unwrap_or_default();
        let (object, _) = store.object(bucket, source_name, as_i64(&source["generation"]))?;
        let condition = as_i64(&source["objectPreconditions"]["ifGenerationMatch"]);
        Conditions { generation: condition, ..Conditions::default() }.check_write(Some(object.versions()))?;
        objects.push(object);
    }
    let mut writer = store.blobs.create()?;
    let mut count = 0;
    for object in &objects {
        writer.copy_from(&mut store.blobs.open(&object.blob)?)?;
        count += object.resource.get("componentCount").and_then(as_i64).unwrap_or(1);
    }
    let content = Content { md5: None, component_count: Some(count), ..writer.finish()?.into() };
    let mut draft = body.get("destination").and_then(Value::as_object).cloned().unwrap_or_default();
    draft.remove("crc32c");
    if !draft.contains_key("contentType")
        && let Some(kind) = objects.first().and_then(|o| o.text("contentType"))
    {
        draft.insert("contentType".into(), json!(kind));
    }
    store.insert(bucket, name, &draft, content, conditions)
}

fn source(call: &Call, bucket: &str, name: &str) -> Result<(Object, Bucket), ApiError> {
    let generation = call.params.number("sourceGeneration")?;
    let found = Store::new(&call.sandbox).object(bucket, name, generation)?;
    Conditions::of_source(&call.params)?.check_write(Some(found.0.versions()))?;
    Ok(found)
}

fn find(
    tx: &crate::core::Tx<'_>,
    bucket: &str,
    name: &str,
    generation: Option<i64>,
) -> Result<(Object, Bucket), ApiError> {
    let b = records::bucket(tx, bucket)?;
    let object = records::version(tx, bucket, name, generation)?;
    Ok((object.ok_or_else(|| records::no_such_object(bucket, name))?, b))
}

fn object_policy(object: &Object, bucket: &Bucket) -> Value {
    let id = format!("projects/_/buckets/{}/objects/{}", object.bucket(), object.name());
    buckets::policy(id, object.iam.as_ref(), &bucket.project, 1)
}

/// Reads the `x-goog-hash`-like sums of a header into a draft.
pub fn sums_of_header(value: &str, draft: &mut Map<String, Value>) {
    for sum in value.split(',') {
        match sum.trim().split_once('=') {
            Some(("crc32c", v)) => draft.insert("crc32c".into(), json!(v)),
            Some(("md5", v)) => draft.insert("md5Hash".into(), json!(v)),
            _ => None,
        };
    }
}

/// What the query of an upload says about the object, beside its metadata.
pub fn draft_of_params(params: &Params, draft: &mut Map<String, Value>) {
    for field in ["contentEncoding", "kmsKeyName"] {
        if let Some(value) = params.get(field) {
            draft.insert(field.into(), json!(value));
        }
    }
}
