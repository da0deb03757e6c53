//! Every change to objects: new generations, deletion, metadata, holds and retention, versions, soft deletion. One
//! transaction each; bytes are on disk before their metadata and are removed after it. Knows no HTTP.

use serde_json::{Map, Value, json};

use super::blob::{Blobs, Finished};
use super::conditions::Conditions;
use super::records::{self, Bucket, LIVE, OLD, Object, SOFT};
use crate::core::clock::{parse_rfc3339_us, rfc3339_ms};
use crate::core::{ApiError, Sandbox, Tx};

/// The storage classes that objects and buckets may have.
pub const CLASSES: [&str; 7] =
    ["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE", "MULTI_REGIONAL", "REGIONAL", "DURABLE_REDUCED_AVAILABILITY"];
/// What a client may say about an object.
const EDITABLE: [&str; 14] = [
    "acl",
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "contexts",
    "customTime",
    "eventBasedHold",
    "kmsKeyName",
    "metadata",
    "retention",
    "storageClass",
    "temporaryHold",
];

/// How a request's metadata meets what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// null removes, maps merge, the rest stays.
    Patch,
    /// What is not said is removed.
    Replace,
}

/// The bytes of a new generation.
#[derive(Debug, Clone)]
pub struct Content {
    pub blob: String,
    pub size: u64,
    pub crc32c: String,
    /// Composites have none.
    pub md5: Option<String>,
    pub component_count: Option<i64>,
}

/// Access to all objects.
pub struct Store<'a> {
    pub sandbox: &'a Sandbox,
    pub blobs: Blobs,
}

impl From<Finished> for Content {
    fn from(f: Finished) -> Self {
        Self { blob: f.id, size: f.size, crc32c: f.crc32c, md5: Some(f.md5), component_count: None }
    }
}

impl<'a> Store<'a> {
    pub fn new(sandbox: &'a Sandbox) -> Self {
        Self { sandbox, blobs: Blobs::new(&sandbox.dir) }
    }

    /// # Errors
    /// 404 when there is no such bucket.
    pub fn bucket(&self, name: &str) -> Result<Bucket, ApiError> {
        self.sandbox.db.transaction(|tx| records::bucket(tx, name))
    }

    /// An object (live, or of that generation) and its bucket.
    ///
    /// # Errors
    /// 404 when either does not exist.
    pub fn object(&self, bucket: &str, name: &str, generation: Option<i64>) -> Result<(Object, Bucket), ApiError> {
        self.sandbox.db.transaction(|tx| {
            let b = records::bucket(tx, bucket)?;
            let object = records::version(tx, bucket, name, generation)?;
            Ok((object.ok_or_else(|| records::no_such_object(bucket, name))?, b))
        })
    }

    /// Whether a new generation may be written now: for refusing an upload before its bytes come.
    ///
    /// # Errors
    /// As [`Store::insert`].
    pub fn check_insert(&self, bucket: &str, name: &str, conditions: &Conditions) -> Result<(), ApiError> {
        check_name(name)?;
        self.sandbox.db.transaction(|tx| {
            let b = records::bucket(tx, bucket)?;
            let current = records::live(tx, bucket, name)?;
            conditions.check_write(current.as_ref().map(Object::versions))?;
            current.map_or(Ok(()), |c| c.check_unprotected(&b, self.sandbox.clock.now_us()))
        })
    }

    /// Makes `content` the live generation of that name. When it fails, the content's blob is removed.
    ///
    /// # Errors
    /// 404 without the bucket, 412 when a condition fails, 403 when what is there is protected, 400 for bad metadata or
    /// when the checksums in `draft` differ from the content's.
    pub fn insert(
        &self,
        bucket: &str,
        name: &str,
        draft: &Map<String, Value>,
        content: Content,
        conditions: &Conditions,
    ) -> Result<(Object, Bucket), ApiError> {
        let blob = content.blob.clone();
        let mut garbage = Vec::new();
        let result = check_name(name).and_then(|()| check_sums(draft, &content)).and_then(|()| {
            self.sandbox.db.transaction(|tx| self.insert_in(tx, bucket, name, draft, content, conditions, &mut garbage))
        });
        match &result {
            Ok(_) => garbage.iter().for_each(|id| self.blobs.remove(id)),
            Err(_) => self.blobs.remove(&blob),
        }
        result
    }

    #[allow(clippy::too_many_arguments, reason = "the body of `insert`, apart only for the transaction")]
    fn insert_in(
        &self,
        tx: &Tx<'_>,
        bucket: &str,
        name: &str,
        draft: &Map<String, Value>,
        content: Content,
        conditions: &Conditions,
        garbage: &mut Vec<String>,
    ) -> Result<(Object, Bucket), ApiError> {
        let b = records::bucket(tx, bucket)?;
        let current = records::live(tx, bucket, name)?;
        conditions.check_write(current.as_ref().map(Object::versions))?;
        let now_us = self.sandbox.clock.now_us();
        let mut generation = self.sandbox.clock.unique_us();
        if let Some(current) = current {
            current.check_unprotected(&b, now_us)?;
            // Also when the clock was set back.
            generation = generation.max(current.generation() + 1);
            if b.versioning() {
                archive(tx, current, now_us)?;
            } else {
                bury(tx, &b, current, now_us, garbage)?;
            }
        }
        let now = rfc3339_ms(now_us);
        let mut resource = Map::new();
        for (field, value) in [
            ("name", json!(name)),
            ("bucket", json!(bucket)),
            ("generation", json!(generation.to_string())),
            ("metageneration", json!("1")),
            ("storageClass", json!(b.storage_class())),
            ("size", json!(content.size.to_string())),
            ("crc32c", json!(content.crc32c)),
            ("timeCreated", json!(now)),
            ("updated", json!(now)),
            ("timeStorageClassUpdated", json!(now)),
            ("timeFinalized", json!(now)),
        ] {
            resource.insert(field.into(), value);
        }
        if let Some(md5) = &content.md5 {
            resource.insert("md5Hash".into(), json!(md5));
        }
        if let Some(count) = content.component_count {
            resource.insert("componentCount".into(), json!(count));
        }
        if b.default_event_based_hold() {
            resource.insert("eventBasedHold".into(), json!(true));
        }
        let mut object = Object { resource, blob: content.blob, retained_from_us: now_us, iam: None };
        edit(&mut object, &b, draft, Edit::Patch, now_us, false)?;
        records::put(tx, LIVE, &object.live_key(), &object)?;
        Ok((object, b))
    }

    /// Changes an object's metadata.
    ///
    /// # Errors
    /// 404, 412, 400 for bad metadata, 403 when its retention is locked.
    #[allow(clippy::too_many_arguments, reason = "each says another thing about one edit")]
    pub fn update(
        &self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
        conditions: &Conditions,
        draft: &Map<String, Value>,
        how: Edit,
        override_unlocked: bool,
    ) -> Result<(Object, Bucket), ApiError> {
        self.sandbox.db.transaction(|tx| {
            let b = records::bucket(tx, bucket)?;
            let mut object =
                records::version(tx, bucket, name, generation)?.ok_or_else(|| records::no_such_object(bucket, name))?;
            conditions.check_write(Some(object.versions()))?;
            let now_us = self.sandbox.clock.now_us();
            // A class changes by rewrite only.
            let mut draft = draft.clone();
            draft.remove("storageClass");
            edit(&mut object, &b, &draft, how, now_us, override_unlocked)?;
            let next = object.metageneration() + 1;
            object.resource.insert("metageneration".into(), json!(next.to_string()));
            object.resource.insert("updated".into(), json!(rfc3339_ms(now_us)));
            put_back(tx, &object)?;
            Ok((object, b))
        })
    }

    /// Deletes an object: without a generation the live one (which becomes noncurrent where versions are kept), with
    /// one exactly that, for good.
    ///
    /// # Errors
    /// 404, 412, 403 when a hold or retention protects it.
    pub fn delete(
        &self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
        conditions: &Conditions,
    ) -> Result<(), ApiError> {
        let mut garbage = Vec::new();
        self.sandbox.db.transaction(|tx| {
            let b = records::bucket(tx, bucket)?;
            let object =
                records::version(tx, bucket, name, generation)?.ok_or_else(|| records::no_such_object(bucket, name))?;
            conditions.check_write(Some(object.versions()))?;
            self.delete_in(tx, &b, object, generation.is_none(), &mut garbage)
        })?;
        garbage.iter().for_each(|id| self.blobs.remove(id));
        Ok(())
    }

    /// Removes one record inside a transaction; `keep_version`: where versions are kept, a live one becomes noncurrent.
    ///
    /// # Errors
    /// 403 when a hold or retention protects it.
    pub fn delete_in(
        &self,
        tx: &Tx<'_>,
        bucket: &Bucket,
        object: Object,
        keep_version: bool,
        garbage: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let now_us = self.sandbox.clock.now_us();
        object.check_unprotected(bucket, now_us)?;
        let live = is_live(&object);
        tx.delete(if live { LIVE } else { OLD }, &if live { object.live_key() } else { object.version_key() })?;
        if live && keep_version && bucket.versioning() {
            archive(tx, object, now_us)
        } else {
            bury(tx, bucket, object, now_us, garbage)
        }
    }

    /// A soft-deleted generation.
    ///
    /// # Errors
    /// 404 when there is none (any more).
    pub fn soft_deleted(&self, bucket: &str, name: &str, generation: i64) -> Result<(Object, Bucket), ApiError> {
        self.sandbox.db.transaction(|tx| {
            let b = records::bucket(tx, bucket)?;
            let found = tx.get(SOFT, &records::version_key(bucket, name, generation))?;
            let object: Object = records::parse(found.ok_or_else(|| records::no_such_object(bucket, name))?)?;
            Ok((object, b))
        })
    }
}

/// Whether the record is a live object (noncurrent ones know when they ceased to be).
pub fn is_live(object: &Object) -> bool {
    !object.resource.contains_key("timeDeleted") && !object.resource.contains_key("softDeleteTime")
}

/// Writes a changed record back to where it lies.
///
/// # Errors
/// When the database fails.
pub fn put_back(tx: &Tx<'_>, object: &Object) -> Result<(), ApiError> {
    if is_live(object) {
        records::put(tx, LIVE, &object.live_key(), object)
    } else {
        records::put(tx, OLD, &object.version_key(), object)
    }
}

/// # Errors
/// 400 for a name that Storage does not take.
pub fn check_name(name: &str) -> Result<(), ApiError> {
    let problem = match name {
        "" => "Required".to_string(),
        "." | ".." => format!("The object name '{name}' is not allowed."),
        n if n.len() > 1024 => {
            "The maximum object length is 1024 characters, but got a name with more bytes".to_string()
        }
        n if n.contains(['\r', '\n', '\0']) => "Disallowed unicode characters present in object name".to_string(),
        n if n.starts_with(".well-known/acme-challenge/") => format!("The object name '{name}' is not allowed."),
        _ => return Ok(()),
    };
    Err(if name.is_empty() { ApiError::required(problem) } else { ApiError::invalid(problem) })
}

/// Noncurrent from now on.
fn archive(tx: &Tx<'_>, mut object: Object, now_us: i64) -> Result<(), ApiError> {
    object.resource.insert("timeDeleted".into(), json!(rfc3339_ms(now_us)));
    records::put(tx, OLD, &object.version_key(), &object)
}

/// Soft-deleted where the bucket says so, gone otherwise.
fn bury(
    tx: &Tx<'_>,
    bucket: &Bucket,
    mut object: Object,
    now_us: i64,
    garbage: &mut Vec<String>,
) -> Result<(), ApiError> {
    let seconds = bucket.soft_delete_s();
    if seconds <= 0 {
        garbage.push(object.blob);
        return Ok(());
    }
    object.resource.insert("softDeleteTime".into(), json!(rfc3339_ms(now_us)));
    object.resource.insert("hardDeleteTime".into(), json!(rfc3339_ms(now_us + seconds * 1_000_000)));
    records::put(tx, SOFT, &object.version_key(), &object)
}

fn check_sums(draft: &Map<String, Value>, content: &Content) -> Result<(), ApiError> {
    let check = |field: &str, words: &str, calculated: Option<&str>| match (draft.get(field), calculated) {
        (Some(Value::String(said)), Some(calculated)) if said != calculated => Err(ApiError::invalid(format!(
            "Provided {words} \"{said}\" doesn't match calculated {words} \"{calculated}\"."
        ))),
        _ => Ok(()),
    };
    check("crc32c", "CRC32C", Some(&content.crc32c))?;
    check("md5Hash", "MD5 hash", content.md5.as_deref())
}

/// Applies what a client said to an object.
fn edit(
    object: &mut Object,
    bucket: &Bucket,
    draft: &Map<String, Value>,
    how: Edit,
    now_us: i64,
    override_unlocked: bool,
) -> Result<(), ApiError> {
    let now = rfc3339_ms(now_us);
    let released = object.flag("eventBasedHold");
    for field in EDITABLE {
        let absent = match draft.get(field) {
            Some(Value::Null) => true,
            // What a full update leaves out goes, but for what an object always has.
            None => {
                how == Edit::Replace
                    && !matches!(field, "storageClass" | "customTime" | "retention" | "acl" | "kmsKeyName")
            }
            Some(_) => false,
        };
        if absent {
            match field {
                "customTime" if object.resource.contains_key(field) => {
                    return Err(ApiError::invalid("Custom time cannot be removed once set."));
                }
                "retention" => check_retention_change(object, None, now_us, override_unlocked)?,
                "storageClass" => continue,
                _ => {}
            }
            object.resource.remove(field);
            continue;
        }
        let Some(value) = draft.get(field) else { continue };
        let new = match field {
            "metadata" => {
                let old = if how == Edit::Patch { object.resource.get(field) } else { None };
                merged_metadata(old, value)?
            }
            "customTime" => {
                let at = value.as_str().and_then(parse_rfc3339_us).ok_or_else(|| bad(field, value))?;
                if object.time_us(field).is_some_and(|old| at < old) {
                    return Err(ApiError::invalid("Custom time cannot be set to an earlier time."));
                }
                json!(rfc3339_ms(at))
            }
            "storageClass" => {
                let class = value.as_str().filter(|c| CLASSES.contains(c)).ok_or_else(|| bad(field, value))?;
                if class != object.storage_class() {
                    object.resource.insert("timeStorageClassUpdated".into(), json!(now));
                }
                value.clone()
            }
            "eventBasedHold" | "temporaryHold" => json!(value.as_bool().ok_or_else(|| bad(field, value))?),
            "retention" => {
                let until = value["retainUntilTime"].as_str().and_then(parse_rfc3339_us);
                let enabled = bucket.resource.get("objectRetention").is_some_and(|r| r["mode"] == json!("Enabled"));
                if !enabled && until.is_some() {
                    return Err(ApiError::invalid("Object retention is not enabled on the bucket."));
                }
                check_retention_change(object, Some(value), now_us, override_unlocked)?;
                value.clone()
            }
            "acl" | "contexts" => value.clone(),
            _ => json!(value.as_str().ok_or_else(|| bad(field, value))?),
        };
        object.resource.insert(field.into(), new);
    }
    if released && !object.flag("eventBasedHold") {
        object.retained_from_us = now_us;
    }
    Ok(())
}

fn check_retention_change(
    object: &Object,
    new: Option<&Value>,
    now_us: i64,
    override_unlocked: bool,
) -> Result<(), ApiError> {
    let Some(old) = object.resource.get("retention") else { return Ok(()) };
    let until = |r: &Value| r["retainUntilTime"].as_str().and_then(parse_rfc3339_us);
    let Some(old_until) = until(old).filter(|u| *u > now_us) else { return Ok(()) };
    let weaker = new.and_then(until).is_none_or(|u| u < old_until)
        || (old["mode"] == json!("Locked") && new.is_some_and(|n| n["mode"] != json!("Locked")));
    if weaker && (old["mode"] == json!("Locked") || !override_unlocked) {
        return Err(ApiError::forbidden(
            "forbidden",
            "The object's retention cannot be reduced or removed; hint: an unlocked one needs overrideUnlockedRetention=true.",
        ));
    }
    Ok(())
}

fn merged_metadata(old: Option<&Value>, new: &Value) -> Result<Value, ApiError> {
    let mut out = old.and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, value) in new.as_object().ok_or_else(|| bad("metadata", new))? {
        match value {
            Value::Null => {
                out.remove(key);
            }
            Value::String(_) => {
                out.insert(key.clone(), value.clone());
            }
            // Google's servers read other scalars as text.
            Value::Bool(_) | Value::Number(_) => {
                out.insert(key.clone(), json!(value.to_string()));
            }
            _ => return Err(bad("metadata", value)),
        }
    }
    Ok(Value::Object(out))
}

fn bad(field: &str, value: &Value) -> ApiError {
    ApiError::invalid(format!("Invalid value for field '{field}': {value}")).at("parameter", field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Options;
    use crate::storage::buckets;
    use std::io::Write;
    use std::sync::Arc;

    fn sandbox(bucket: Value) -> (tempfile::TempDir, Arc<Sandbox>) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            project: "p".into(),
            allow_external_targets: false,
            bigquery: crate::bigquery::Settings::default(),
        };
        let sandbox = Sandbox::open(dir.path(), options).unwrap();
        buckets::create(&sandbox, "p", bucket.as_object().unwrap()).unwrap();
        (dir, sandbox)
    }

    fn write(store: &Store<'_>, name: &str, text: &str, conditions: &Conditions) -> Result<Object, ApiError> {
        let mut writer = store.blobs.create().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        let content = writer.finish().unwrap().into();
        store.insert("bkt", name, &Map::new(), content, conditions).map(|r| r.0)
    }

    #[test]
    fn versions_are_kept_and_generations_rise() {
        let (_dir, sandbox) = sandbox(json!({ "name": "bkt", "versioning": { "enabled": true } }));
        let store = Store::new(&sandbox);
        let none = Conditions::default();
        let a = write(&store, "x", "1", &none).unwrap();
        sandbox.set_clock_us(1_000_000).unwrap();
        let b = write(&store, "x", "2", &none).unwrap();
        assert!(b.generation() > a.generation());
        assert!(store.object("bkt", "x", Some(a.generation())).is_ok());
        store.delete("bkt", "x", None, &none).unwrap();
        assert_eq!(store.object("bkt", "x", None).unwrap_err().code, 404);
        assert!(store.object("bkt", "x", Some(b.generation())).is_ok());
        store.delete("bkt", "x", Some(b.generation()), &none).unwrap();
        assert!(store.soft_deleted("bkt", "x", b.generation()).is_ok());
    }

    #[test]
    fn conditions_holds_and_retention_protect() {
        let bucket = json!({ "name": "bkt", "retentionPolicy": { "retentionPeriod": "60" }, "softDeletePolicy": { "retentionDurationSeconds": 0 } });
        let (_dir, sandbox) = sandbox(bucket);
        let store = Store::new(&sandbox);
        let none = Conditions::default();
        let absent = Conditions { generation: Some(0), ..Conditions::default() };
        let first = write(&store, "x", "1", &absent).unwrap();
        assert_eq!(write(&store, "x", "2", &absent).unwrap_err().code, 412);
        let e = store.delete("bkt", "x", None, &none).unwrap_err();
        assert_eq!((e.code, e.reason.as_str()), (403, "retentionPolicyNotMet"));
        sandbox.set_clock_us(sandbox.clock.now_us() + 61_000_000).unwrap();
        let hold = json!({ "temporaryHold": true });
        store.update("bkt", "x", None, &none, hold.as_object().unwrap(), Edit::Patch, false).unwrap();
        assert_eq!(write(&store, "x", "2", &none).unwrap_err().reason, "objectUnderActiveHold");
        let release = json!({ "temporaryHold": false });
        let (o, _) = store.update("bkt", "x", None, &none, release.as_object().unwrap(), Edit::Patch, false).unwrap();
        assert_eq!(o.versions(), (first.generation(), 3));
        store.delete("bkt", "x", None, &none).unwrap();
        assert!(store.blobs.open(&first.blob).is_err());
    }

    #[test]
    fn metadata_is_patched_and_checked() {
        let (_dir, sandbox) = sandbox(json!({ "name": "bkt" }));
        let store = Store::new(&sandbox);
        let none = Conditions::default();
        write(&store, "x", "1", &none).unwrap();
        let patch = |v: Value, how| {
            store.update("bkt", "x", None, &none, v.as_object().unwrap(), how, false).map(|r| r.0.resource)
        };
        patch(json!({ "metadata": { "a": "1", "b": "2" }, "contentType": "t/x" }), Edit::Patch).unwrap();
        let r = patch(json!({ "metadata": { "a": null, "c": "3" } }), Edit::Patch).unwrap();
        assert_eq!(r["metadata"], json!({ "b": "2", "c": "3" }));
        assert_eq!(r["contentType"], "t/x");
        let r =
            patch(json!({ "metadata": { "z": "1" }, "customTime": "2030-01-01T00:00:00Z" }), Edit::Replace).unwrap();
        assert_eq!((r.get("contentType"), &r["metadata"]), (None, &json!({ "z": "1" })));
        assert!(patch(json!({ "customTime": "2029-01-01T00:00:00Z" }), Edit::Patch).is_err());
        let r = patch(json!({ "storageClass": "COLDLINE" }), Edit::Patch).unwrap();
        assert_eq!(r["storageClass"], "STANDARD", "that takes a rewrite");
    }
}
