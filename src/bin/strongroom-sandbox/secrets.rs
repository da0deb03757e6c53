//! Secret Manager v1: secrets, their versions, access. Payloads are kept in the sandbox's database in plain: real
//! secrets do not belong here.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::core::clock::rfc3339_us;
use crate::core::gate::MAX_BODY_BYTES;
use crate::core::http::{json_object, ok, segments};
use crate::core::{ApiError, Params, Sandbox, Tx};

/// key = `PARENT/secrets/S`.
const SECRETS: &str = "secrets.secrets";
/// key = `PARENT/secrets/S/versions/<20 digits>`.
const VERSIONS: &str = "secrets.versions";
const STATES: [&str; 4] = ["STATE_UNSPECIFIED", "ENABLED", "DISABLED", "DESTROYED"];
/// Google's bound on a payload.
const MAX_PAYLOAD_BYTES: usize = 64 << 10;
const EDITABLE: [&str; 8] =
    ["labels", "annotations", "topics", "expireTime", "ttl", "rotation", "versionAliases", "versionDestroyTtl"];

/// Answers a request below `/v1/projects/P/secrets` (or `/v1/projects/P/locations/L/secrets`).
///
/// # Errors
/// As Google words them.
pub async fn serve(sandbox: &Arc<Sandbox>, request: Request) -> Result<Response, ApiError> {
    let params = Params::of(request.uri());
    let method = request.method().clone();
    let path = request.uri().path().to_string();
    let segments = segments(&path).ok_or_else(|| ApiError::invalid("the path is no valid UTF-8"))?;
    let bytes = to_bytes(request.into_body(), MAX_BODY_BYTES).await.map_err(|e| ApiError::invalid(e.to_string()))?;
    let body = json_object(&bytes)?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let at = parts.iter().position(|p| *p == "secrets").unwrap_or(parts.len());
    let parent = parts.get(1..at).unwrap_or_default().join("/");
    let answer = route(sandbox, &method, &parent, &parts[at..], &params, &body)?;
    Ok(ok(if params.int_enums() { in_integers(answer) } else { answer }))
}

fn route(
    sandbox: &Arc<Sandbox>,
    method: &Method,
    parent: &str,
    rest: &[&str],
    params: &Params,
    body: &Value,
) -> Result<Value, ApiError> {
    let unknown =
        || ApiError::not_found(format!("the sandbox's Secret Manager has no {method} {parent}/{}", rest.join("/")));
    match rest {
        ["secrets"] => match *method {
            Method::GET => list(sandbox, SECRETS, &format!("{parent}/secrets/"), "secrets", params),
            Method::POST => create(sandbox, parent, params, body),
            _ => Err(unknown()),
        },
        ["secrets", last] => {
            let (id, verb) = last.split_once(':').map_or((*last, None), |(id, verb)| (id, Some(verb)));
            let name = format!("{parent}/secrets/{id}");
            match (method, verb) {
                (&Method::GET, None) => sandbox.db.transaction(|tx| secret(tx, &name)).map(public),
                (&Method::PATCH, None) => update(sandbox, &name, params, body),
                (&Method::DELETE, None) => delete(sandbox, &name, params),
                (&Method::POST, Some("addVersion")) => add_version(sandbox, &name, body),
                (&Method::GET, Some("getIamPolicy")) => sandbox.db.transaction(|tx| {
                    secret(tx, &name)?;
                    Ok(tx.get("secrets.iam", &name)?.unwrap_or_else(|| json!({ "version": 1, "etag": "ACAB" })))
                }),
                (&Method::POST, Some("setIamPolicy")) => sandbox.db.transaction(|tx| {
                    secret(tx, &name)?;
                    let mut policy = body["policy"].clone();
                    // A policy's etag is bytes, that of a secret a text.
                    policy["etag"] = json!(STANDARD.encode(sandbox.clock.unique_us().to_be_bytes()));
                    tx.put("secrets.iam", &name, &policy)?;
                    Ok(policy)
                }),
                (&Method::POST, Some("testIamPermissions")) => Ok(json!({ "permissions": body["permissions"] })),
                _ => Err(unknown()),
            }
        }
        ["secrets", id, "versions"] if method == Method::GET => {
            let name = format!("{parent}/secrets/{id}");
            sandbox.db.transaction(|tx| secret(tx, &name))?;
            list_versions(sandbox, &name, params)
        }
        ["secrets", id, "versions", last] => {
            let name = format!("{parent}/secrets/{id}");
            let (version, verb) = last.split_once(':').map_or((*last, None), |(v, verb)| (v, Some(verb)));
            match (method, verb) {
                (&Method::GET, None) => sandbox.db.transaction(|tx| Ok(public(find(tx, &name, version)?.1))),
                (&Method::GET, Some("access")) => sandbox.db.transaction(|tx| access(tx, &name, version)),
                (&Method::POST, Some("enable")) => set_state(sandbox, &name, version, "ENABLED", body),
                (&Method::POST, Some("disable")) => set_state(sandbox, &name, version, "DISABLED", body),
                (&Method::POST, Some("destroy")) => set_state(sandbox, &name, version, "DESTROYED", body),
                _ => Err(unknown()),
            }
        }
        _ => Err(unknown()),
    }
}

fn secret(tx: &Tx<'_>, name: &str) -> Result<Value, ApiError> {
    tx.get(SECRETS, name)?.ok_or_else(|| ApiError::not_found(format!("Secret [{name}] not found.")))
}

fn create(sandbox: &Sandbox, parent: &str, params: &Params, body: &Value) -> Result<Value, ApiError> {
    let id = params.get("secretId").unwrap_or_default();
    let sound = (1..=255).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if !sound {
        return Err(ApiError::invalid(format!(
            "The provided Secret ID [{id}] does not match the expected format [[a-zA-Z_0-9]+]."
        )));
    }
    // Regional secrets have no replication.
    if body.get("replication").is_none() && !parent.contains("/locations/") {
        return Err(ApiError::invalid("Secret.replication must be provided."));
    }
    let name = format!("{parent}/secrets/{id}");
    let mut secret = json!({ "name": name, "createTime": rfc3339_us(sandbox.clock.now_us()), "etag": etag(sandbox) });
    if let Some(replication) = body.get("replication") {
        secret["replication"] = replication.clone();
    }
    for field in EDITABLE {
        if let Some(value) = body.get(field).filter(|v| !v.is_null()) {
            secret[field] = value.clone();
        }
    }
    resolve_ttl(sandbox, &mut secret)?;
    sandbox.db.transaction(|tx| {
        if tx.get(SECRETS, &name)?.is_some() {
            return Err(ApiError::new(409, "alreadyExists", format!("Secret [{name}] already exists.")));
        }
        tx.put(SECRETS, &name, &secret)
    })?;
    Ok(secret)
}

fn update(sandbox: &Sandbox, name: &str, params: &Params, body: &Value) -> Result<Value, ApiError> {
    let mask = params.get("updateMask").ok_or_else(|| ApiError::invalid("The update mask must be provided."))?;
    sandbox.db.transaction(|tx| {
        let mut found = secret(tx, name)?;
        check_etag(&found, body["etag"].as_str())?;
        let Some(map) = found.as_object_mut() else { return Err(ApiError::internal("a stored secret is damaged")) };
        for path in mask.split(',') {
            let field = match path.trim() {
                "version_aliases" => "versionAliases",
                "expire_time" => "expireTime",
                "version_destroy_ttl" => "versionDestroyTtl",
                other => other,
            };
            if !EDITABLE.contains(&field) {
                return Err(ApiError::invalid(format!("Field [{field}] cannot be updated.")));
            }
            match body.get(field).filter(|v| !v.is_null()) {
                Some(value) => map.insert(field.into(), value.clone()),
                None => map.remove(field),
            };
        }
        map.insert("etag".into(), json!(etag(sandbox)));
        resolve_ttl(sandbox, &mut found)?;
        tx.put(SECRETS, name, &found)?;
        Ok(public(found))
    })
}

fn delete(sandbox: &Sandbox, name: &str, params: &Params) -> Result<Value, ApiError> {
    sandbox.db.transaction(|tx| {
        let found = secret(tx, name)?;
        check_etag(&found, params.get("etag"))?;
        for (key, _) in tx.scan(VERSIONS, &format!("{name}/versions/"), None, usize::MAX)? {
            tx.delete(VERSIONS, &key)?;
        }
        tx.delete("secrets.iam", name)?;
        tx.delete(SECRETS, name)?;
        Ok(json!({}))
    })
}

fn add_version(sandbox: &Sandbox, name: &str, body: &Value) -> Result<Value, ApiError> {
    let data = body["payload"]["data"].as_str().unwrap_or_default();
    let bytes = decode(data).ok_or_else(|| ApiError::invalid("Invalid value at 'payload.data': no valid base64"))?;
    if bytes.is_empty() || bytes.len() > MAX_PAYLOAD_BYTES {
        return Err(ApiError::invalid("The secret payload must be 1 to 65536 bytes."));
    }
    let sum = u64::from(crc32c::crc32c(&bytes));
    let said = &body["payload"]["dataCrc32c"];
    let said = said.as_u64().or_else(|| said.as_str().and_then(|s| s.parse().ok()));
    if said.is_some_and(|s| s != sum) {
        return Err(ApiError::invalid("The provided CRC32C checksum does not match the payload."));
    }
    sandbox.db.transaction(|tx| {
        let found = secret(tx, name)?;
        let prefix = format!("{name}/versions/");
        let number = found["_lastVersion"].as_u64().unwrap_or(0) + 1;
        let mut version = json!({
            "name": format!("{prefix}{number}"),
            "createTime": rfc3339_us(sandbox.clock.now_us()),
            "state": "ENABLED",
            "replicationStatus": { "automatic": {} },
            "etag": etag(sandbox),
            "_data": STANDARD.encode(&bytes),
        });
        if said.is_some() {
            version["clientSpecifiedPayloadChecksum"] = json!(true);
        }
        let mut found = found;
        found["_lastVersion"] = json!(number);
        tx.put(SECRETS, name, &found)?;
        tx.put(VERSIONS, &format!("{prefix}{number:020}"), &version)?;
        Ok(public(version))
    })
}

/// A version by number, alias or `latest`, with its key.
fn find(tx: &Tx<'_>, name: &str, version: &str) -> Result<(String, Value), ApiError> {
    let found = secret(tx, name)?;
    let missing = || ApiError::not_found(format!("Secret Version [{name}/versions/{version}] not found."));
    let number = match version {
        "latest" => found["_lastVersion"].as_u64(),
        v => v.parse().ok().or_else(|| {
            let alias = &found["versionAliases"][v];
            alias.as_u64().or_else(|| alias.as_str().and_then(|s| s.parse().ok()))
        }),
    };
    let key = format!("{name}/versions/{:020}", number.ok_or_else(missing)?);
    let value = tx.get(VERSIONS, &key)?.ok_or_else(missing)?;
    Ok((key, value))
}

/// The name and state of a version that is named by number, alias or `latest`.
///
/// # Errors
/// 404 when there is none.
pub fn state_of(tx: &Tx<'_>, secret: &str, version: &str) -> Result<(String, String), ApiError> {
    let (_, found) = find(tx, secret, version)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_string();
    Ok((text("name"), text("state")))
}

fn access(tx: &Tx<'_>, name: &str, version: &str) -> Result<Value, ApiError> {
    let (_, found) = find(tx, name, version)?;
    let state = found["state"].as_str().unwrap_or_default();
    if state != "ENABLED" {
        let name = found["name"].as_str().unwrap_or_default();
        return Err(ApiError::failed_precondition(format!("Secret Version [{name}] is in {state} state.")));
    }
    let data = found["_data"].as_str().unwrap_or_default();
    let sum = crc32c::crc32c(&STANDARD.decode(data).unwrap_or_default());
    Ok(json!({ "name": found["name"], "payload": { "data": data, "dataCrc32c": sum.to_string() } }))
}

fn set_state(sandbox: &Sandbox, name: &str, version: &str, state: &str, body: &Value) -> Result<Value, ApiError> {
    sandbox.db.transaction(|tx| {
        let (key, mut found) = find(tx, name, version)?;
        check_etag(&found, body["etag"].as_str())?;
        let name = found["name"].as_str().unwrap_or_default().to_string();
        if found["state"] == json!("DESTROYED") {
            return Err(ApiError::failed_precondition(format!(
                "Secret Version [{name}] is already in DESTROYED state."
            )));
        }
        found["state"] = json!(state);
        found["etag"] = json!(etag(sandbox));
        if state == "DESTROYED" {
            found["destroyTime"] = json!(rfc3339_us(sandbox.clock.now_us()));
            if let Some(map) = found.as_object_mut() {
                map.remove("_data");
            }
        }
        tx.put(VERSIONS, &key, &found)?;
        Ok(public(found))
    })
}

fn list(sandbox: &Sandbox, space: &str, prefix: &str, field: &str, params: &Params) -> Result<Value, ApiError> {
    let size = page_size(params)?;
    let total = sandbox.db.scan(space, prefix, None, usize::MAX)?.len();
    let mut found = sandbox.db.scan(space, prefix, params.get("pageToken"), size + 1)?;
    let more = found.len() > size;
    found.truncate(size);
    let next = if more { found.last().map(|(key, _)| key.clone()) } else { None };
    let items: Vec<Value> = found.into_iter().map(|(_, v)| public(v)).collect();
    let mut answer = json!({ field: items, "totalSize": total });
    if let Some(next) = next {
        answer["nextPageToken"] = json!(next);
    }
    Ok(answer)
}

/// Newest first, as Google lists versions.
fn list_versions(sandbox: &Sandbox, name: &str, params: &Params) -> Result<Value, ApiError> {
    let size = page_size(params)?;
    let mut all = sandbox.db.scan(VERSIONS, &format!("{name}/versions/"), None, usize::MAX)?;
    if let Some(state) =
        params.get("filter").and_then(|f| f.strip_prefix("state:").or_else(|| f.strip_prefix("state=")))
    {
        all.retain(|(_, v)| v["state"] == json!(state.trim()));
    }
    all.reverse();
    let total = all.len();
    let from = params.get("pageToken").map_or(0, |t| all.iter().position(|(k, _)| k.as_str() < t).unwrap_or(total));
    let page: Vec<(String, Value)> = all.into_iter().skip(from).take(size).collect();
    let mut answer = json!({ "totalSize": total });
    if from + page.len() < total
        && let Some((key, _)) = page.last()
    {
        answer["nextPageToken"] = json!(key);
    }
    answer["versions"] = page.into_iter().map(|(_, v)| public(v)).collect();
    Ok(answer)
}

fn page_size(params: &Params) -> Result<usize, ApiError> {
    let wanted = params.number("pageSize")?.and_then(|n| usize::try_from(n).ok());
    Ok(wanted.filter(|n| *n > 0).unwrap_or(25_000).min(25_000))
}

/// Without what only the sandbox knows.
fn public(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.retain(|k, _| !k.starts_with('_'));
    }
    value
}

fn in_integers(mut answer: Value) -> Value {
    let change = |version: &mut Value| {
        if let Some(n) = version["state"].as_str().and_then(|s| STATES.iter().position(|n| *n == s)) {
            version["state"] = json!(n);
        }
    };
    if answer.get("state").is_some() {
        change(&mut answer);
    }
    answer.get_mut("versions").and_then(Value::as_array_mut).into_iter().flatten().for_each(change);
    answer
}

fn check_etag(found: &Value, said: Option<&str>) -> Result<(), ApiError> {
    match said.filter(|s| !s.is_empty()) {
        Some(said) if Some(said) != found["etag"].as_str() => {
            Err(ApiError::failed_precondition("The etag provided does not match the current one."))
        }
        _ => Ok(()),
    }
}

/// A time to live becomes a time to expire at.
fn resolve_ttl(sandbox: &Sandbox, secret: &mut Value) -> Result<(), ApiError> {
    let Some(ttl) = secret.as_object_mut().and_then(|m: &mut Map<String, Value>| m.remove("ttl")) else {
        return Ok(());
    };
    let seconds: Option<f64> = ttl.as_str().and_then(|t| t.strip_suffix('s')).and_then(|t| t.parse().ok());
    let seconds =
        seconds.filter(|s| (60.0..1e10).contains(s)).ok_or_else(|| ApiError::invalid(format!("Invalid ttl: {ttl}")))?;
    secret["expireTime"] = json!(rfc3339_us(sandbox.clock.now_us() + (seconds * 1e6) as i64));
    Ok(())
}

fn etag(sandbox: &Sandbox) -> String {
    format!("\"{:x}\"", sandbox.clock.unique_us())
}

/// Base64, with either alphabet: clients differ.
fn decode(text: &str) -> Option<Vec<u8>> {
    let standard = text.replace('-', "+").replace('_', "/");
    let padded = standard.trim_end_matches('=');
    base64::engine::general_purpose::STANDARD_NO_PAD.decode(padded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Options;

    #[test]
    fn versions_are_added_accessed_and_destroyed() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            project: "p".into(),
            allow_external_targets: false,
            bigquery: crate::bigquery::Settings::default(),
        };
        let sandbox = Sandbox::open(dir.path(), options).unwrap();
        let call = |method: Method, rest: &[&str], query: &str, body: Value| {
            route(&sandbox, &method, "projects/p", rest, &Params::parse(Some(query)), &body)
        };
        let automatic = json!({ "replication": { "automatic": {} }, "labels": { "a": "b" } });
        call(Method::POST, &["secrets"], "secretId=s", automatic.clone()).unwrap();
        assert_eq!(call(Method::POST, &["secrets"], "secretId=s", automatic).unwrap_err().code, 409);
        for data in ["b25l", "dHdv", "AP_-"] {
            call(Method::POST, &["secrets", "s:addVersion"], "", json!({ "payload": { "data": data } })).unwrap();
        }
        let access = |v: &str| call(Method::GET, &["secrets", "s", "versions", &format!("{v}:access")], "", json!({}));
        assert_eq!(access("latest").unwrap()["payload"]["data"], "AP/+");
        assert_eq!(access("1").unwrap()["payload"]["data"], "b25l");
        assert_eq!(access("9").unwrap_err().code, 404);
        let post = |v: &str| call(Method::POST, &["secrets", "s", "versions", v], "", json!({}));
        assert_eq!(post("1:disable").unwrap()["state"], "DISABLED");
        assert_eq!((access("1").unwrap_err().code, access("1").unwrap_err().status()), (400, "FAILED_PRECONDITION"));
        post("1:enable").unwrap();
        assert!(access("1").is_ok());
        post("3:destroy").unwrap();
        assert_eq!(access("latest").unwrap_err().code, 400);
        let page = call(Method::GET, &["secrets", "s", "versions"], "pageSize=2", json!({})).unwrap();
        let names: Vec<&str> =
            page["versions"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["projects/p/secrets/s/versions/3", "projects/p/secrets/s/versions/2"]);
        let token = format!("pageToken={}", page["nextPageToken"].as_str().unwrap());
        let page = call(Method::GET, &["secrets", "s", "versions"], &token, json!({})).unwrap();
        assert_eq!((page["versions"].as_array().unwrap().len(), page.get("nextPageToken")), (1, None));
        assert!(!page.to_string().contains("_data"));
        let bad = json!({ "payload": { "data": "b25l", "dataCrc32c": "1" } });
        assert_eq!(call(Method::POST, &["secrets", "s:addVersion"], "", bad).unwrap_err().code, 400);
        call(Method::DELETE, &["secrets", "s"], "", json!({})).unwrap();
        assert_eq!(access("1").unwrap_err().code, 404);
    }
}
