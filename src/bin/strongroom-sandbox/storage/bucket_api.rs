//! `/storage/v1/b...` but objects: reads requests, calls `buckets`, writes answers.

use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};

use super::conditions::Conditions;
use super::records::{self, BUCKETS, Bucket};
use super::store::{Edit, Store};
use super::{Call, buckets};
use crate::core::ApiError;
use crate::core::http::{header, no_content, ok};

/// `/b`.
///
/// # Errors
/// As Google words them.
pub async fn collection(mut call: Call) -> Result<Response, ApiError> {
    let project = call.params.get("project").unwrap_or(&call.sandbox.options.project).to_string();
    match call.method {
        Method::GET => {
            let (found, next) = buckets::list(&call.sandbox, &project, &call.params)?;
            let items: Vec<Value> = found.iter().map(|b| b.view(&call.base, call.full())).collect();
            let mut answer = json!({ "kind": "storage#buckets" });
            if !items.is_empty() {
                answer["items"] = json!(items);
            }
            if let Some(next) = next {
                answer["nextPageToken"] = json!(next);
            }
            Ok(ok(answer))
        }
        Method::POST => {
            let draft = call.json().await?;
            let bucket = buckets::create(&call.sandbox, &project, &draft)?;
            Ok(ok(bucket.view(&call.base, call.full())))
        }
        _ => Err(not_allowed(&call.method)),
    }
}

/// `/b/BUCKET`.
///
/// # Errors
/// As Google words them.
pub async fn one(mut call: Call, name: &str) -> Result<Response, ApiError> {
    let conditions = Conditions::of(&call.params)?;
    let bucket = match call.method {
        Method::GET => {
            let bucket = Store::new(&call.sandbox).bucket(name)?;
            conditions.check_read((0, bucket.metageneration()))?;
            check_etag(&call, &bucket)?;
            bucket
        }
        Method::PATCH | Method::PUT => {
            let how = if call.method == Method::PUT { Edit::Replace } else { Edit::Patch };
            let draft = call.json().await?;
            check_etag(&call, &Store::new(&call.sandbox).bucket(name)?)?;
            buckets::update(&call.sandbox, name, &conditions, &draft, how)?
        }
        Method::DELETE => {
            buckets::delete(&call.sandbox, name, &conditions)?;
            return Ok(no_content());
        }
        _ => return Err(not_allowed(&call.method)),
    };
    Ok(ok(bucket.view(&call.base, call.full())))
}

/// `/b/BUCKET/...`.
///
/// # Errors
/// As Google words them.
pub async fn below(mut call: Call, name: &str, rest: &[&str]) -> Result<Response, ApiError> {
    let bucket = Store::new(&call.sandbox).bucket(name)?;
    match (rest, &call.method) {
        (["iam"], &Method::GET) => {
            let id = format!("projects/_/buckets/{name}");
            Ok(ok(buckets::policy(id, bucket.iam.as_ref(), &bucket.project, 1)))
        }
        (["iam"], &Method::PUT) => {
            let wanted = Value::Object(call.json().await?);
            Ok(ok(buckets::set_policy(&call.sandbox, name, &wanted)?))
        }
        (["iam", "testPermissions"], &Method::GET) => Ok(ok(test_permissions(&call))),
        (["lockRetentionPolicy"], &Method::POST) => {
            let conditions = Conditions::of(&call.params)?;
            let bucket = buckets::lock_retention(&call.sandbox, name, &conditions)?;
            Ok(ok(bucket.view(&call.base, call.full())))
        }
        (["storageLayout"], &Method::GET) => Ok(ok(json!({
            "kind": "storage#storageLayout",
            "bucket": name,
            "location": bucket.location(),
            "locationType": bucket.resource["locationType"],
            "hierarchicalNamespace": { "enabled": false },
        }))),
        // None can be made: gcloud asks for them before it removes a bucket.
        (["managedFolders"], &Method::GET) => Ok(ok(json!({ "kind": "storage#managedFolders" }))),
        (["notificationConfigs"], &Method::GET) => Ok(ok(json!({ "kind": "storage#notifications" }))),
        (["acl"], _) => acl(&mut call, name, "acl", "storage#bucketAccessControl", None).await,
        (["acl", entity], _) => acl(&mut call, name, "acl", "storage#bucketAccessControl", Some(entity)).await,
        (["defaultObjectAcl"], _) => {
            acl(&mut call, name, "defaultObjectAcl", "storage#objectAccessControl", None).await
        }
        (["defaultObjectAcl", entity], _) => {
            acl(&mut call, name, "defaultObjectAcl", "storage#objectAccessControl", Some(entity)).await
        }
        _ => Err(ApiError::not_implemented(format!(
            "the sandbox does not emulate {} /b/BUCKET/{}",
            call.method,
            rest.join("/")
        ))),
    }
}

/// `/projects/PROJECT/serviceAccount`.
pub fn service_account(project: &str) -> Response {
    let number = buckets::project_number(project);
    ok(json!({
        "kind": "storage#serviceAccount",
        "email_address": format!("service-{number}@gs-project-accounts.iam.gserviceaccount.com"),
    }))
}

/// Every permission that was asked for; the gate leaves what a caller with few of them holds.
pub fn test_permissions(call: &Call) -> Value {
    let permissions: Vec<&str> = call.params.all("permissions").collect();
    json!({ "kind": "storage#testIamPermissionsResponse", "permissions": permissions })
}

/// 405.
pub fn not_allowed(method: &Method) -> ApiError {
    ApiError::new(405, "methodNotAllowed", format!("The method {method} is not allowed here."))
}

/// Access control lists are kept and given back, never enforced.
async fn acl(call: &mut Call, name: &str, field: &str, kind: &str, entity: Option<&str>) -> Result<Response, ApiError> {
    let draft = if matches!(call.method, Method::POST | Method::PUT | Method::PATCH) {
        call.json().await?
    } else {
        Default::default()
    };
    let method = call.method.clone();
    let work = |bucket: &mut Bucket| -> Result<Option<Value>, ApiError> {
        let list = bucket.resource.entry(field).or_insert_with(|| json!([]));
        edit_acl(list, &method, draft, kind, entity, json!({ "bucket": name }))
    };
    let answer = if call.method == Method::GET {
        work(&mut Store::new(&call.sandbox).bucket(name)?)?
    } else {
        call.sandbox.db.transaction(|tx| {
            let mut bucket = records::bucket(tx, name)?;
            let answer = work(&mut bucket)?;
            records::put(tx, BUCKETS, name, &bucket)?;
            Ok(answer)
        })?
    };
    Ok(answer.map_or_else(no_content, ok))
}

/// One call on an access control list; `None` answers 204.
///
/// # Errors
/// 400 without an entity, 404 for one that is not there.
pub fn edit_acl(
    list: &mut Value,
    method: &Method,
    mut draft: serde_json::Map<String, Value>,
    kind: &str,
    entity: Option<&str>,
    owner: Value,
) -> Result<Option<Value>, ApiError> {
    let Some(items) = list.as_array_mut() else { return Err(ApiError::internal("an access control list is damaged")) };
    let absent = |e: &str| ApiError::not_found(format!("The specified ACL entry was not found: {e}"));
    match (method, entity) {
        (&Method::GET, None) => Ok(Some(json!({ "kind": format!("{kind}s"), "items": items }))),
        (&Method::GET, Some(e)) => items.iter().find(|i| i["entity"] == e).cloned().map(Some).ok_or_else(|| absent(e)),
        (&Method::DELETE, Some(e)) => {
            let before = items.len();
            items.retain(|i| i["entity"] != e);
            if items.len() == before { Err(absent(e)) } else { Ok(None) }
        }
        (&Method::POST | &Method::PUT | &Method::PATCH, _) => {
            if let Some(e) = entity {
                draft.insert("entity".into(), json!(e));
            }
            let Some(entity) = draft.get("entity").cloned() else { return Err(ApiError::required("Required: entity")) };
            items.retain(|i| i["entity"] != entity);
            draft.insert("kind".into(), json!(kind));
            draft.insert("etag".into(), json!("CAE="));
            draft.extend(owner.as_object().cloned().unwrap_or_default());
            items.push(Value::Object(draft.clone()));
            Ok(Some(Value::Object(draft)))
        }
        _ => Err(not_allowed(method)),
    }
}

fn check_etag(call: &Call, bucket: &Bucket) -> Result<(), ApiError> {
    check_etag_headers(call, &bucket.etag())
}

/// `If-Match` and `If-None-Match`.
///
/// # Errors
/// 412 or 304.
pub fn check_etag_headers(call: &Call, etag: &str) -> Result<(), ApiError> {
    let names = |value: &str| value == "*" || value.split(',').any(|v| v.trim().trim_matches('"') == etag);
    if header(&call.headers, "if-match").is_some_and(|v| !names(v)) {
        return Err(super::conditions::not_met());
    }
    let reads = matches!(call.method, Method::GET | Method::HEAD);
    match header(&call.headers, "if-none-match") {
        Some(v) if names(v) && reads => Err(super::conditions::not_modified()),
        Some(v) if names(v) => Err(super::conditions::not_met()),
        _ => Ok(()),
    }
}
