//! Cloud KMS v1: key rings, symmetric keys with their versions, encrypt and decrypt. The encryption is real (AES-256-GCM);
//! the keys lie in the sandbox's database in plain: real secrets do not belong here.
//!
//! A ciphertext is a byte `1`, the version's number (4 bytes, big-endian), a nonce of 12 bytes, and what AES-GCM gives.
//! Google's own layout is not published; clients must not look into it.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::core::clock::rfc3339_us;
use crate::core::gate::MAX_BODY_BYTES;
use crate::core::http::{json_object, ok, segments};
use crate::core::{ApiError, Params, Sandbox, Tx};

/// key = `projects/P/locations/L/keyRings/R`.
const RINGS: &str = "kms.rings";
/// key = `RING/cryptoKeys/K`.
const KEYS: &str = "kms.keys";
/// key = `KEY/cryptoKeyVersions/<10 digits>`.
const VERSIONS: &str = "kms.versions";
/// Google's bound on what a software key encrypts, and on the additional data.
const MAX_BYTES: usize = 64 << 10;
const HEAD_BYTES: usize = 1 + 4 + 12;

/// Whether a path is Cloud KMS's.
pub fn owns(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    parts.get(3) == Some(&"locations") && parts.get(5) == Some(&"keyRings")
}

/// Answers a request below `/v1/projects/P/locations/L/keyRings`.
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
    let parts: Vec<&str> = segments.iter().skip(1).map(String::as_str).collect();
    sandbox.db.transaction(|tx| route(sandbox, tx, &method, &parts, &params, &body)).map(ok)
}

fn route(
    sandbox: &Sandbox,
    tx: &Tx<'_>,
    method: &Method,
    parts: &[&str],
    params: &Params,
    body: &Value,
) -> Result<Value, ApiError> {
    let name = parts.join("/");
    let unknown = || ApiError::not_found(format!("the sandbox's Cloud KMS has no {method} {name}"));
    let (parent, rest) = parts.split_at(parts.len().min(4));
    let parent = parent.join("/");
    match (rest, method) {
        (["keyRings"], &Method::POST) => {
            let ring = format!("{parent}/keyRings/{}", id(params, "keyRingId")?);
            let made = json!({ "name": ring, "createTime": now(sandbox) });
            absent(tx, RINGS, &ring)?;
            tx.put(RINGS, &ring, &made)?;
            Ok(made)
        }
        (["keyRings"], &Method::GET) => list(tx, RINGS, &format!("{name}/"), "keyRings"),
        (["keyRings", _], &Method::GET) => tx.get(RINGS, &name)?.ok_or_else(|| missing("KeyRing", &name)),
        (["keyRings", ring, "cryptoKeys"], &Method::POST) => {
            let ring = format!("{parent}/keyRings/{ring}");
            tx.get(RINGS, &ring)?.ok_or_else(|| missing("KeyRing", &ring))?;
            create_key(sandbox, tx, &format!("{ring}/cryptoKeys/{}", id(params, "cryptoKeyId")?), body)
        }
        (["keyRings", _, "cryptoKeys"], &Method::GET) => list(tx, KEYS, &format!("{name}/"), "cryptoKeys"),
        (["keyRings", ring, "cryptoKeys", last], _) => {
            let (key, verb) = last.split_once(':').map_or((*last, None), |(key, verb)| (key, Some(verb)));
            let key = format!("{parent}/keyRings/{ring}/cryptoKeys/{key}");
            match (method, verb) {
                (&Method::GET, None) => shown(tx, &key),
                (&Method::POST, Some("encrypt")) => encrypt(tx, &key, body),
                (&Method::POST, Some("decrypt")) => decrypt(tx, &key, body),
                (&Method::POST, Some("updatePrimaryVersion")) => {
                    let number = body["cryptoKeyVersionId"].as_str().and_then(|text| text.parse().ok());
                    let number: u64 = number.ok_or_else(|| ApiError::invalid("crypto_key_version_id is required"))?;
                    let mut found = key_of(tx, &key)?;
                    version(tx, &key, number)?;
                    found["_primary"] = json!(number);
                    tx.put(KEYS, &key, &found)?;
                    shown(tx, &key)
                }
                _ => Err(unknown()),
            }
        }
        (["keyRings", ring, "cryptoKeys", key, "cryptoKeyVersions"], &Method::POST) => {
            let key = format!("{parent}/keyRings/{ring}/cryptoKeys/{key}");
            key_of(tx, &key)?;
            add_version(sandbox, tx, &key)
        }
        (["keyRings", ring, "cryptoKeys", key, "cryptoKeyVersions", last], _) => {
            let key = format!("{parent}/keyRings/{ring}/cryptoKeys/{key}");
            let (number, verb) = last.split_once(':').map_or((*last, None), |(number, verb)| (number, Some(verb)));
            let number = number.parse().map_err(|_| missing("CryptoKeyVersion", &name))?;
            let mut found = version(tx, &key, number)?;
            let state = match (method, verb, body["state"].as_str()) {
                (&Method::GET, None, _) => return Ok(public(found)),
                (&Method::PATCH, None, Some(state @ ("ENABLED" | "DISABLED"))) => state.to_string(),
                (&Method::POST, Some("destroy"), _) => "DESTROY_SCHEDULED".into(),
                (&Method::POST, Some("restore"), _) => "DISABLED".into(),
                _ => return Err(unknown()),
            };
            found["state"] = json!(state);
            tx.put(VERSIONS, &place(&key, number), &found)?;
            Ok(public(found))
        }
        _ => Err(unknown()),
    }
}

fn now(sandbox: &Sandbox) -> String {
    rfc3339_us(sandbox.clock.now_us())
}

fn missing(what: &str, name: &str) -> ApiError {
    ApiError::not_found(format!("{what} {name} not found."))
}

fn id<'a>(params: &'a Params, parameter: &str) -> Result<&'a str, ApiError> {
    let id = params.get(parameter).unwrap_or_default();
    let sound = (1..=63).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    sound
        .then_some(id)
        .ok_or_else(|| ApiError::invalid(format!("{parameter} '{id}' does not match [a-zA-Z0-9_-]{{1,63}}")))
}

fn absent(tx: &Tx<'_>, space: &str, name: &str) -> Result<(), ApiError> {
    match tx.get(space, name)? {
        Some(_) => Err(ApiError::new(409, "alreadyExists", format!("{name} already exists."))),
        None => Ok(()),
    }
}

fn list(tx: &Tx<'_>, space: &str, prefix: &str, field: &str) -> Result<Value, ApiError> {
    let found = tx.scan(space, prefix, None, usize::MAX)?;
    let mut items = Vec::new();
    for (name, value) in found {
        items.push(if space == KEYS { shown(tx, &name)? } else { value });
    }
    Ok(json!({ field: items, "totalSize": items.len() }))
}

fn create_key(sandbox: &Sandbox, tx: &Tx<'_>, name: &str, body: &Value) -> Result<Value, ApiError> {
    let purpose = body["purpose"].as_str().unwrap_or_default();
    if purpose != "ENCRYPT_DECRYPT" {
        return Err(ApiError::not_implemented(format!("the sandbox has no keys for '{purpose}'")));
    }
    absent(tx, KEYS, name)?;
    let mut key = json!({ "name": name, "purpose": purpose, "createTime": now(sandbox) });
    key["versionTemplate"] = json!({ "protectionLevel": "SOFTWARE", "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION" });
    for field in ["labels", "rotationPeriod", "nextRotationTime"] {
        if let Some(value) = body.get(field) {
            key[field] = value.clone();
        }
    }
    if let Some(level) = body["versionTemplate"].get("protectionLevel") {
        key["versionTemplate"]["protectionLevel"] = level.clone();
    }
    tx.put(KEYS, name, &key)?;
    add_version(sandbox, tx, name)?;
    key["_primary"] = json!(1);
    key["_last"] = json!(1);
    tx.put(KEYS, name, &key)?;
    shown(tx, name)
}

fn add_version(sandbox: &Sandbox, tx: &Tx<'_>, key: &str) -> Result<Value, ApiError> {
    let mut found = key_of(tx, key)?;
    let number = found["_last"].as_u64().unwrap_or(0) + 1;
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| ApiError::internal("this machine has no randomness"))?;
    let version = json!({
        "name": format!("{key}/cryptoKeyVersions/{number}"),
        "state": "ENABLED",
        "protectionLevel": found["versionTemplate"]["protectionLevel"],
        "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION",
        "createTime": now(sandbox),
        "generateTime": now(sandbox),
        "_key": STANDARD.encode(bytes),
    });
    found["_last"] = json!(number);
    tx.put(KEYS, key, &found)?;
    tx.put(VERSIONS, &place(key, number), &version)?;
    Ok(public(version))
}

fn place(key: &str, number: u64) -> String {
    format!("{key}/cryptoKeyVersions/{number:010}")
}

fn key_of(tx: &Tx<'_>, key: &str) -> Result<Value, ApiError> {
    tx.get(KEYS, key)?.ok_or_else(|| missing("CryptoKey", key))
}

fn version(tx: &Tx<'_>, key: &str, number: u64) -> Result<Value, ApiError> {
    let name = || format!("{key}/cryptoKeyVersions/{number}");
    tx.get(VERSIONS, &place(key, number))?.ok_or_else(|| missing("CryptoKeyVersion", &name()))
}

fn public(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.retain(|field, _| !field.starts_with('_'));
    }
    value
}

/// A key as clients see it, with its primary version.
fn shown(tx: &Tx<'_>, key: &str) -> Result<Value, ApiError> {
    let found = key_of(tx, key)?;
    let primary = version(tx, key, found["_primary"].as_u64().unwrap_or(1))?;
    let mut found = public(found);
    found["primary"] = public(primary);
    Ok(found)
}

/// The cipher of a version that is enabled.
fn cipher(version: &Value) -> Result<LessSafeKey, ApiError> {
    let (name, state) = (version["name"].as_str().unwrap_or_default(), version["state"].as_str().unwrap_or_default());
    if state != "ENABLED" {
        return Err(ApiError::failed_precondition(format!("{name} is not enabled, current state is: {state}.")));
    }
    let bytes = version["_key"].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| ApiError::internal("a stored key is damaged"))?;
    Ok(LessSafeKey::new(key))
}

/// A field of bytes, and whether its checksum was sent; a wrong one is refused.
fn checked(body: &Value, field: &str) -> Result<(Vec<u8>, bool), ApiError> {
    let text = body[field].as_str().unwrap_or_default();
    let wrong = || ApiError::invalid(format!("Invalid value at '{field}': Base64 decoding failed"));
    let bytes = STANDARD.decode(text).map_err(|_| wrong())?;
    let said = &body[format!("{field}Crc32c")];
    let said = said.as_u64().or_else(|| said.as_str().and_then(|text| text.parse().ok()));
    if said.is_some_and(|said| said != u64::from(crc32c::crc32c(&bytes))) {
        return Err(ApiError::invalid(format!(
            "The checksum in field {field}_crc32c did not match the data in field {field}."
        )));
    }
    Ok((bytes, said.is_some()))
}

fn encrypt(tx: &Tx<'_>, key: &str, body: &Value) -> Result<Value, ApiError> {
    let found = key_of(tx, key)?;
    let number = found["_primary"].as_u64().unwrap_or(1);
    let version = version(tx, key, number)?;
    let cipher = cipher(&version)?;
    let (mut bytes, plain_checked) = checked(body, "plaintext")?;
    let (context, context_checked) = checked(body, "additionalAuthenticatedData")?;
    if bytes.len() > MAX_BYTES || context.len() > MAX_BYTES {
        return Err(ApiError::invalid("Plaintext and additional authenticated data must not exceed 64 KiB."));
    }
    let mut nonce = [0; 12];
    rand::fill(&mut nonce).map_err(|_| ApiError::internal("this machine has no randomness"))?;
    let failed = |_| ApiError::internal("AES-GCM failed");
    cipher
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut bytes)
        .map_err(failed)?;
    let mut out = vec![1];
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&nonce);
    out.append(&mut bytes);
    let mut answer = json!({
        "name": version["name"],
        "ciphertext": STANDARD.encode(&out),
        "ciphertextCrc32c": crc32c::crc32c(&out).to_string(),
        "protectionLevel": version["protectionLevel"],
    });
    // False is left out, as in all of Google's JSON.
    for (field, told) in
        [("verifiedPlaintextCrc32c", plain_checked), ("verifiedAdditionalAuthenticatedDataCrc32c", context_checked)]
    {
        if told {
            answer[field] = json!(true);
        }
    }
    Ok(answer)
}

fn decrypt(tx: &Tx<'_>, key: &str, body: &Value) -> Result<Value, ApiError> {
    let found = key_of(tx, key)?;
    let (bytes, _) = checked(body, "ciphertext")?;
    let (context, _) = checked(body, "additionalAuthenticatedData")?;
    let failed = || ApiError::invalid("Decryption failed: the ciphertext is invalid.");
    let number = match bytes.get(..5) {
        Some([1, number @ ..]) => u32::from_be_bytes(number.try_into().map_err(|_| failed())?),
        _ => return Err(failed()),
    };
    let nonce: [u8; 12] = bytes.get(5..HEAD_BYTES).and_then(|nonce| nonce.try_into().ok()).ok_or_else(failed)?;
    let version = version(tx, key, number.into()).map_err(|_| failed())?;
    let cipher = cipher(&version)?;
    let mut rest = bytes[HEAD_BYTES..].to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let plain = cipher.open_in_place(nonce, Aad::from(context), &mut rest).map_err(|_| failed())?;
    let mut answer = json!({
        "plaintext": STANDARD.encode(&*plain),
        "plaintextCrc32c": crc32c::crc32c(plain).to_string(),
        "protectionLevel": version["protectionLevel"],
    });
    if u64::from(number) == found["_primary"].as_u64().unwrap_or(1) {
        answer["usedPrimary"] = json!(true);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Options;

    #[test]
    fn what_is_encrypted_is_decrypted_under_the_same_key_and_context_only() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            project: "p".into(),
            allow_external_targets: false,
            bigquery: crate::bigquery::Settings::default(),
        };
        let sandbox = Sandbox::open(dir.path(), options).unwrap();
        let call = |method: Method, path: &str, query: &str, body: Value| {
            let path = format!("projects/p/locations/eu/{path}");
            let parts: Vec<&str> = path.split('/').collect();
            sandbox.db.transaction(|tx| route(&sandbox, tx, &method, &parts, &Params::parse(Some(query)), &body))
        };
        let key = "keyRings/r/cryptoKeys/k";
        let purpose = json!({ "purpose": "ENCRYPT_DECRYPT" });
        let make = || call(Method::POST, "keyRings/r/cryptoKeys", "cryptoKeyId=k", purpose.clone());
        assert_eq!(make().unwrap_err().code, 404);
        call(Method::POST, "keyRings", "keyRingId=r", json!({})).unwrap();
        assert_eq!(make().unwrap()["primary"]["state"], "ENABLED");
        assert_eq!(make().unwrap_err().code, 409);

        let post = |verb: &str, body: Value| call(Method::POST, &format!("{key}{verb}"), "", body);
        let crc = |bytes: &[u8]| crc32c::crc32c(bytes).to_string();
        let plain = json!({ "plaintext": STANDARD.encode("secret"), "plaintextCrc32c": crc(b"secret"),
            "additionalAuthenticatedData": STANDARD.encode("a") });
        let sealed = post(":encrypt", plain.clone()).unwrap();
        assert_eq!(sealed["name"], "projects/p/locations/eu/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1");
        assert_eq!(
            (&sealed["verifiedPlaintextCrc32c"], sealed.get("verifiedAdditionalAuthenticatedDataCrc32c")),
            (&json!(true), None)
        );
        let open = |text: &Value, context: &str| {
            post(":decrypt", json!({ "ciphertext": text, "additionalAuthenticatedData": STANDARD.encode(context) }))
        };
        let opened = open(&sealed["ciphertext"], "a").unwrap();
        assert_eq!((&opened["plaintext"], &opened["plaintextCrc32c"]), (&plain["plaintext"], &json!(crc(b"secret"))));
        assert_eq!(open(&sealed["ciphertext"], "b").unwrap_err().code, 400);
        assert_eq!(open(&json!("AAAA"), "a").unwrap_err().code, 400);
        let wrong = json!({ "plaintext": STANDARD.encode("secret"), "plaintextCrc32c": "1" });
        assert_eq!(post(":encrypt", wrong).unwrap_err().code, 400);

        // A new version encrypts from when it is the primary; the old one still decrypts, until it is disabled.
        assert!(post("/cryptoKeyVersions", json!({})).unwrap()["name"].as_str().unwrap().ends_with("/2"));
        assert_eq!(
            post(":updatePrimaryVersion", json!({ "cryptoKeyVersionId": "2" })).unwrap()["primary"]["state"],
            "ENABLED"
        );
        assert!(post(":encrypt", plain).unwrap()["name"].as_str().unwrap().ends_with("/2"));
        assert_eq!(open(&sealed["ciphertext"], "a").unwrap().get("usedPrimary"), None);
        call(Method::PATCH, &format!("{key}/cryptoKeyVersions/1"), "", json!({ "state": "DISABLED" })).unwrap();
        assert_eq!(open(&sealed["ciphertext"], "a").unwrap_err().code, 400);
        let shown = call(Method::GET, key, "", json!({})).unwrap();
        assert!(!shown.to_string().contains("\"_"), "{shown}");
    }
}
