//! Buckets and objects as they are stored: the API's resource plus what only the sandbox needs. How they look from
//! outside, and where they lie in the database. Knows no HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::clock::{parse_rfc3339_us, rfc3339_ms};
use crate::core::http::encode;
use crate::core::{ApiError, Tx};

/// key = bucket.
pub const BUCKETS: &str = "storage.buckets";
/// Live objects; key = `bucket/name`.
pub const LIVE: &str = "storage.live";
/// Noncurrent versions; key = `bucket/name\0generation`.
pub const OLD: &str = "storage.old";
/// Soft-deleted versions; key as in [`OLD`].
pub const SOFT: &str = "storage.soft";
/// Resumable uploads; key = upload id.
pub const UPLOADS: &str = "storage.uploads";
/// Multipart uploads of the XML API; key = upload id.
pub const XML_UPLOADS: &str = "storage.xml_uploads";

/// A bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bucket {
    pub resource: Map<String, Value>,
    pub project: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam: Option<Value>,
}

/// One generation of an object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Object {
    pub resource: Map<String, Value>,
    /// The blob that holds its bytes.
    pub blob: String,
    /// When its retention began: its creation, or the release of its event-based hold.
    pub retained_from_us: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam: Option<Value>,
}

impl Bucket {
    pub fn name(&self) -> &str {
        text(&self.resource, "name")
    }

    pub fn metageneration(&self) -> i64 {
        number(&self.resource, "metageneration")
    }

    pub fn etag(&self) -> String {
        etag(self.metageneration(), 0)
    }

    /// `EU`, `US-CENTRAL1`.
    pub fn location(&self) -> &str {
        text(&self.resource, "location")
    }

    pub fn storage_class(&self) -> &str {
        text(&self.resource, "storageClass")
    }

    pub fn versioning(&self) -> bool {
        self.resource.get("versioning").is_some_and(|v| v["enabled"] == json!(true))
    }

    /// How long deleted objects can be restored, seconds; 0 = not at all.
    pub fn soft_delete_s(&self) -> i64 {
        self.resource.get("softDeletePolicy").map_or(0, |p| as_i64(&p["retentionDurationSeconds"]).unwrap_or(0))
    }

    /// The retention policy's period, seconds; 0 = none.
    pub fn retention_s(&self) -> i64 {
        self.resource.get("retentionPolicy").map_or(0, |p| as_i64(&p["retentionPeriod"]).unwrap_or(0))
    }

    pub fn default_event_based_hold(&self) -> bool {
        self.resource.get("defaultEventBasedHold") == Some(&json!(true))
    }

    /// The resource as the API answers it.
    pub fn view(&self, base: &str, full: bool) -> Value {
        let mut out = self.resource.clone();
        out.insert("selfLink".into(), json!(format!("{base}/storage/v1/b/{}", encode(self.name()))));
        out.insert("etag".into(), json!(self.etag()));
        if full {
            let owners = format!("project-owners-{}", text(&self.resource, "projectNumber"));
            out.insert("owner".into(), json!({ "entity": owners }));
            out.entry("acl").or_insert_with(|| json!([]));
        } else {
            out.remove("acl");
            out.remove("defaultObjectAcl");
        }
        Value::Object(out)
    }
}

impl Object {
    pub fn bucket(&self) -> &str {
        text(&self.resource, "bucket")
    }

    pub fn name(&self) -> &str {
        text(&self.resource, "name")
    }

    pub fn generation(&self) -> i64 {
        number(&self.resource, "generation")
    }

    pub fn metageneration(&self) -> i64 {
        number(&self.resource, "metageneration")
    }

    /// (generation, metageneration), as conditions look at it.
    pub fn versions(&self) -> (i64, i64) {
        (self.generation(), self.metageneration())
    }

    pub fn size(&self) -> u64 {
        self.resource.get("size").and_then(as_i64).and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
    }

    pub fn text(&self, field: &str) -> Option<&str> {
        self.resource.get(field).and_then(Value::as_str)
    }

    /// Microseconds of a time field.
    pub fn time_us(&self, field: &str) -> Option<i64> {
        self.text(field).and_then(parse_rfc3339_us)
    }

    pub fn storage_class(&self) -> &str {
        text(&self.resource, "storageClass")
    }

    pub fn flag(&self, field: &str) -> bool {
        self.resource.get(field) == Some(&json!(true))
    }

    pub fn etag(&self) -> String {
        etag(self.generation(), self.metageneration())
    }

    /// Until when the object may not be deleted or replaced, by the bucket's policy and its own.
    pub fn retained_until_us(&self, bucket: &Bucket) -> Option<i64> {
        let own = self.resource.get("retention").and_then(|r| r["retainUntilTime"].as_str()).and_then(parse_rfc3339_us);
        let policy = (bucket.retention_s() > 0 && !self.flag("eventBasedHold"))
            .then(|| self.retained_from_us.saturating_add(bucket.retention_s().saturating_mul(1_000_000)));
        own.max(policy)
    }

    /// # Errors
    /// 403 when a hold or retention protects the object now.
    pub fn check_unprotected(&self, bucket: &Bucket, now_us: i64) -> Result<(), ApiError> {
        let path = format!("{}/{}", self.bucket(), self.name());
        for (field, words) in [("temporaryHold", "Temporary hold"), ("eventBasedHold", "Event-Based hold")] {
            if self.flag(field) {
                return Err(ApiError::forbidden(
                    "objectUnderActiveHold",
                    format!(
                        "Object '{path}' is under active {words} and cannot be deleted, overwritten or archived until hold is removed."
                    ),
                ));
            }
        }
        match self.retained_until_us(bucket) {
            Some(until) if until > now_us => Err(ApiError::forbidden(
                "retentionPolicyNotMet",
                format!(
                    "Object '{path}' is subject to bucket's retention policy or object retention and cannot be deleted or overwritten until {}",
                    rfc3339_ms(until)
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The resource as the API answers it.
    pub fn view(&self, base: &str, bucket: &Bucket, full: bool) -> Value {
        let (b, o) = (encode(self.bucket()), encode(self.name()));
        let generation = self.generation();
        let mut out = Map::new();
        out.insert("kind".into(), json!("storage#object"));
        out.insert("id".into(), json!(format!("{}/{}/{generation}", self.bucket(), self.name())));
        out.insert("selfLink".into(), json!(format!("{base}/storage/v1/b/{b}/o/{o}")));
        out.insert(
            "mediaLink".into(),
            json!(format!("{base}/download/storage/v1/b/{b}/o/{o}?generation={generation}&alt=media")),
        );
        out.extend(self.resource.clone());
        out.insert("etag".into(), json!(self.etag()));
        if bucket.retention_s() > 0
            && let Some(until) = self.retained_until_us(bucket)
        {
            out.insert("retentionExpirationTime".into(), json!(rfc3339_ms(until)));
        }
        if full {
            let owners = format!("project-owners-{}", text(&bucket.resource, "projectNumber"));
            out.insert("owner".into(), json!({ "entity": owners }));
            out.entry("acl").or_insert_with(|| json!([]));
        } else {
            out.remove("acl");
        }
        Value::Object(out)
    }

    /// The key of this generation in [`OLD`] and [`SOFT`].
    pub fn version_key(&self) -> String {
        version_key(self.bucket(), self.name(), self.generation())
    }

    /// The key in [`LIVE`].
    pub fn live_key(&self) -> String {
        live_key(self.bucket(), self.name())
    }
}

pub fn live_key(bucket: &str, name: &str) -> String {
    format!("{bucket}/{name}")
}

pub fn version_key(bucket: &str, name: &str, generation: i64) -> String {
    format!("{bucket}/{name}\0{generation:020}")
}

/// # Errors
/// 404 when there is none, 500 when the record is damaged.
pub fn bucket(tx: &Tx<'_>, name: &str) -> Result<Bucket, ApiError> {
    match tx.get(BUCKETS, name)? {
        Some(value) => parse(value),
        None => Err(ApiError::not_found("The specified bucket does not exist.")),
    }
}

/// # Errors
/// 500 when the record is damaged.
pub fn live(tx: &Tx<'_>, bucket: &str, name: &str) -> Result<Option<Object>, ApiError> {
    tx.get(LIVE, &live_key(bucket, name))?.map(parse).transpose()
}

/// The live object, or that generation of it, live or noncurrent.
///
/// # Errors
/// 500 when a record is damaged.
pub fn version(tx: &Tx<'_>, bucket: &str, name: &str, generation: Option<i64>) -> Result<Option<Object>, ApiError> {
    let current = live(tx, bucket, name)?;
    let Some(generation) = generation else { return Ok(current) };
    if let Some(current) = current
        && current.generation() == generation
    {
        return Ok(Some(current));
    }
    tx.get(OLD, &version_key(bucket, name, generation))?.map(parse).transpose()
}

/// # Errors
/// When the database fails.
pub fn put(tx: &Tx<'_>, space: &str, key: &str, record: &impl Serialize) -> Result<(), ApiError> {
    let value = serde_json::to_value(record).map_err(|e| ApiError::internal(e.to_string()))?;
    tx.put(space, key, &value)
}

/// # Errors
/// 500 when the record is damaged.
pub fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value).map_err(|e| ApiError::internal(format!("a stored record is damaged: {e}")))
}

/// 404 for an object.
pub fn no_such_object(bucket: &str, name: &str) -> ApiError {
    ApiError::not_found(format!("No such object: {bucket}/{name}"))
}

/// Storage's etag: a protobuf of one or two integers that are not 0, as Google's look.
pub fn etag(first: i64, second: i64) -> String {
    let mut bytes = Vec::new();
    for (tag, value) in [(0x08, first), (0x10, second)] {
        if value == 0 {
            continue;
        }
        bytes.push(tag);
        let mut rest = value.unsigned_abs();
        while rest >= 0x80 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    STANDARD.encode(bytes)
}

/// An integer that travels as number or text.
pub fn as_i64(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str().and_then(|s| s.parse().ok()))
}

fn text<'a>(map: &'a Map<String, Value>, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn number(map: &Map<String, Value>, field: &str) -> i64 {
    map.get(field).and_then(as_i64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_look_like_googles() {
        // A bucket at metageneration 1 has the etag CAE= in Google's documentation.
        assert_eq!(etag(1, 0), "CAE=");
        assert_eq!(etag(300, 1), STANDARD.encode([0x08, 0xac, 0x02, 0x10, 0x01]));
    }
}
