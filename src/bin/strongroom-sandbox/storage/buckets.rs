//! Buckets: creation, metadata, deletion, locks and access policies. Knows objects only as present or absent.

use serde_json::{Map, Value, json};

use super::conditions::{Conditions, not_met};
use super::records::{self, BUCKETS, Bucket, LIVE, OLD, SOFT, as_i64};
use super::store::{CLASSES, Edit};
use crate::core::clock::rfc3339_ms;
use crate::core::{ApiError, Params, Sandbox, Tx};

/// What only the server says.
const READ_ONLY: [&str; 15] = [
    "kind",
    "id",
    "selfLink",
    "name",
    "projectNumber",
    "timeCreated",
    "updated",
    "metageneration",
    "etag",
    "owner",
    "location",
    "locationType",
    "satisfiesPZS",
    "generation",
    "projectId",
];
/// Seven days: what Google gives a bucket that says nothing.
const DEFAULT_SOFT_DELETE_S: i64 = 604_800;

/// Creates a bucket.
///
/// # Errors
/// 400 for a bad name or metadata, 409 when the name is taken.
pub fn create(sandbox: &Sandbox, project: &str, draft: &Map<String, Value>) -> Result<Bucket, ApiError> {
    let name = draft.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
    check_name(&name)?;
    let location = draft.get("location").and_then(Value::as_str).filter(|l| !l.is_empty()).unwrap_or("US");
    let location = location.to_ascii_uppercase();
    let now_us = sandbox.clock.now_us();
    let now = rfc3339_ms(now_us);
    let kind = location_type(&location);
    let mut resource = Map::new();
    for (field, value) in [
        ("kind", json!("storage#bucket")),
        ("id", json!(name)),
        ("name", json!(name)),
        ("projectNumber", json!(project_number(project).to_string())),
        ("generation", json!(sandbox.clock.unique_us().to_string())),
        ("metageneration", json!("1")),
        ("location", json!(location)),
        ("locationType", json!(kind)),
        ("storageClass", json!("STANDARD")),
        ("timeCreated", json!(now)),
        ("updated", json!(now)),
        ("softDeletePolicy", json!({ "retentionDurationSeconds": DEFAULT_SOFT_DELETE_S })),
        ("iamConfiguration", json!({})),
    ] {
        resource.insert(field.into(), value);
    }
    if kind != "region" {
        resource.insert("rpo".into(), json!("DEFAULT"));
    }
    let mut bucket = Bucket { resource, project: project.into(), iam: None };
    edit(&mut bucket, draft, Edit::Patch, now_us)?;
    sandbox.db.transaction(|tx| {
        if let Some(taken) = tx.get(BUCKETS, &name)? {
            let taken: Bucket = records::parse(taken)?;
            return Err(ApiError::conflict(if taken.project == project {
                "Your previous request to create the named bucket succeeded and you already own it."
            } else {
                "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."
            }));
        }
        records::put(tx, BUCKETS, &name, &bucket)
    })?;
    Ok(bucket)
}

/// One page of a project's buckets and the token of the next.
///
/// # Errors
/// 400 for a bad parameter.
pub fn list(sandbox: &Sandbox, project: &str, params: &Params) -> Result<(Vec<Bucket>, Option<String>), ApiError> {
    let prefix = params.get("prefix").unwrap_or_default();
    let limit = params.number("maxResults")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(1000).clamp(1, 1000);
    let mut after = params.get("pageToken").map(str::to_string);
    let mut found: Vec<Bucket> = Vec::new();
    loop {
        let page = sandbox.db.scan(BUCKETS, prefix, after.as_deref(), 1000)?;
        let Some((last, _)) = page.last() else { return Ok((found, None)) };
        after = Some(last.clone());
        for (_, value) in page {
            let bucket: Bucket = records::parse(value)?;
            if bucket.project != project {
                continue;
            }
            if found.len() == limit {
                let token = found.last().map(|b| b.name().to_string());
                return Ok((found, token));
            }
            found.push(bucket);
        }
    }
}

/// Changes a bucket's metadata.
///
/// # Errors
/// 404, 412, 400 for bad metadata, 403 when a locked retention would be weakened.
pub fn update(
    sandbox: &Sandbox,
    name: &str,
    conditions: &Conditions,
    draft: &Map<String, Value>,
    how: Edit,
) -> Result<Bucket, ApiError> {
    change(sandbox, name, conditions, |bucket, _| edit(bucket, draft, how, sandbox.clock.now_us()))
}

/// Locks the bucket's retention policy for good.
///
/// # Errors
/// 404, 412, 400 without a policy or without the required condition.
pub fn lock_retention(sandbox: &Sandbox, name: &str, conditions: &Conditions) -> Result<Bucket, ApiError> {
    if conditions.metageneration.is_none() {
        return Err(
            ApiError::required("Required parameter: ifMetagenerationMatch").at("parameter", "ifMetagenerationMatch")
        );
    }
    change(sandbox, name, conditions, |bucket, _| {
        match bucket.resource.get_mut("retentionPolicy").and_then(Value::as_object_mut) {
            Some(policy) => {
                policy.insert("isLocked".into(), json!(true));
                Ok(())
            }
            None => Err(ApiError::invalid("The bucket has no retention policy to lock.")),
        }
    })
}

/// Deletes an empty bucket.
///
/// # Errors
/// 404, 412, 409 when there are objects, current or not.
pub fn delete(sandbox: &Sandbox, name: &str, conditions: &Conditions) -> Result<(), ApiError> {
    let store = super::store::Store::new(sandbox);
    let mut garbage: Vec<String> = Vec::new();
    sandbox.db.transaction(|tx| {
        let bucket = records::bucket(tx, name)?;
        conditions.check_write(Some((0, bucket.metageneration())))?;
        let prefix = format!("{name}/");
        for space in [LIVE, OLD] {
            if !tx.scan(space, &prefix, None, 1)?.is_empty() {
                return Err(ApiError::conflict("The bucket you tried to delete is not empty."));
            }
        }
        for (key, value) in tx.scan(SOFT, &prefix, None, usize::MAX)? {
            garbage.push(records::parse::<records::Object>(value)?.blob);
            tx.delete(SOFT, &key)?;
        }
        tx.delete(BUCKETS, name)?;
        Ok(())
    })?;
    garbage.iter().for_each(|id| store.blobs.remove(id));
    Ok(())
}

/// The access policy of a bucket or object.
pub fn policy(resource_id: String, stored: Option<&Value>, project: &str, version: i64) -> Value {
    let mut policy = stored.cloned().unwrap_or_else(|| {
        let owners = json!([format!("projectEditor:{project}"), format!("projectOwner:{project}")]);
        json!({
            "version": 1,
            "etag": records::etag(version, 0),
            "bindings": [
                { "role": "roles/storage.legacyBucketOwner", "members": owners },
                { "role": "roles/storage.legacyBucketReader", "members": [format!("projectViewer:{project}")] },
            ],
        })
    });
    if let Some(map) = policy.as_object_mut() {
        map.remove("_count");
    }
    policy["kind"] = json!("storage#policy");
    policy["resourceId"] = json!(resource_id);
    policy
}

/// The policy to store when `wanted` replaces `current`, which was answered for `stored`.
///
/// # Errors
/// 412 when `wanted` was read from an older one, 400 when it is no policy.
pub fn new_policy(wanted: &Value, current: &Value, stored: Option<&Value>) -> Result<Value, ApiError> {
    if wanted["etag"].as_str().is_some_and(|e| !e.is_empty() && Some(e) != current["etag"].as_str()) {
        return Err(not_met());
    }
    let bindings = wanted.get("bindings").cloned().unwrap_or_else(|| json!([]));
    let sound = |b: &Value| b["role"].is_string() && b["members"].is_array();
    if !bindings.as_array().is_some_and(|a| a.iter().all(sound)) {
        return Err(ApiError::invalid("Invalid value for 'bindings': a list of {role, members} is needed"));
    }
    let version = stored.and_then(|s| s["_count"].as_i64()).unwrap_or(1) + 1;
    Ok(json!({
        "version": wanted["version"].as_i64().unwrap_or(1),
        "etag": records::etag(version, 0),
        "bindings": bindings,
        "_count": version,
    }))
}

/// Stores a bucket's new access policy and answers it.
///
/// # Errors
/// 404, 412, 400.
pub fn set_policy(sandbox: &Sandbox, name: &str, wanted: &Value) -> Result<Value, ApiError> {
    sandbox.db.transaction(|tx| {
        let mut bucket = records::bucket(tx, name)?;
        let id = format!("projects/_/buckets/{name}");
        let current = policy(id.clone(), bucket.iam.as_ref(), &bucket.project, 1);
        bucket.iam = Some(new_policy(wanted, &current, bucket.iam.as_ref())?);
        records::put(tx, BUCKETS, name, &bucket)?;
        Ok(policy(id, bucket.iam.as_ref(), &bucket.project, 1))
    })
}

/// Changes a bucket inside one transaction; its metageneration rises.
///
/// # Errors
/// 404, 412, and what `work` says.
pub fn change(
    sandbox: &Sandbox,
    name: &str,
    conditions: &Conditions,
    work: impl FnOnce(&mut Bucket, &Tx<'_>) -> Result<(), ApiError>,
) -> Result<Bucket, ApiError> {
    sandbox.db.transaction(|tx| {
        let mut bucket = records::bucket(tx, name)?;
        conditions.check_write(Some((0, bucket.metageneration())))?;
        work(&mut bucket, tx)?;
        let next = bucket.metageneration() + 1;
        bucket.resource.insert("metageneration".into(), json!(next.to_string()));
        bucket.resource.insert("updated".into(), json!(sandbox.clock.rfc3339()));
        records::put(tx, BUCKETS, name, &bucket)?;
        Ok(bucket)
    })
}

/// Applies what a client said, then brings the parts that the server completes into their form.
fn edit(bucket: &mut Bucket, draft: &Map<String, Value>, how: Edit, now_us: i64) -> Result<(), ApiError> {
    let before = bucket.resource.clone();
    if how == Edit::Replace {
        const KEPT: [&str; 4] = ["storageClass", "softDeletePolicy", "rpo", "iamConfiguration"];
        bucket.resource.retain(|k, _| READ_ONLY.contains(&k.as_str()) || KEPT.contains(&k.as_str()));
    }
    for (field, value) in draft {
        // A second location in a patch is a no-op at Google as well.
        if READ_ONLY.contains(&field.as_str()) {
            continue;
        }
        merge(&mut bucket.resource, field, value);
    }
    let now = rfc3339_ms(now_us);
    let class = bucket.storage_class().to_ascii_uppercase();
    if !CLASSES.contains(&class.as_str()) {
        return Err(ApiError::invalid(format!("Invalid storage class: {class}")));
    }
    bucket.resource.insert("storageClass".into(), json!(class));
    complete_iam_configuration(bucket, &before);
    complete_period(bucket, &before, "softDeletePolicy", "retentionDurationSeconds", &now)?;
    complete_period(bucket, &before, "retentionPolicy", "retentionPeriod", &now)?;
    check_lock(&before, bucket)?;
    if let Some(lifecycle) = bucket.resource.get("lifecycle") {
        let none = lifecycle["rule"].as_array().is_none_or(Vec::is_empty);
        if none {
            bucket.resource.remove("lifecycle");
        } else {
            super::lifecycle::check(&bucket.resource["lifecycle"])?;
        }
    }
    if let Some(labels) = bucket.resource.get("labels") {
        let sound = labels.as_object().is_some_and(|m| m.values().all(Value::is_string));
        if !sound {
            return Err(ApiError::invalid("Invalid value for 'labels': texts are needed"));
        }
        if labels.as_object().is_some_and(Map::is_empty) {
            bucket.resource.remove("labels");
        }
    }
    Ok(())
}

/// JSON merge patch: null removes, maps merge, everything else replaces.
fn merge(map: &mut Map<String, Value>, field: &str, value: &Value) {
    match (map.get_mut(field), value) {
        (_, Value::Null) => {
            map.remove(field);
        }
        (Some(Value::Object(old)), Value::Object(new)) => {
            for (key, inner) in new {
                merge(old, key, inner);
            }
        }
        (_, Value::Object(new)) => {
            let mut fresh = Map::new();
            for (key, inner) in new {
                merge(&mut fresh, key, inner);
            }
            map.insert(field.into(), Value::Object(fresh));
        }
        _ => {
            map.insert(field.into(), value.clone());
        }
    }
}

fn complete_iam_configuration(bucket: &mut Bucket, before: &Map<String, Value>) {
    let configuration = bucket.resource.entry("iamConfiguration").or_insert_with(|| json!({}));
    let enabled = configuration["uniformBucketLevelAccess"]["enabled"] == json!(true);
    let was = before.get("iamConfiguration").is_some_and(|c| c["uniformBucketLevelAccess"]["enabled"] == json!(true));
    let mut access = json!({ "enabled": enabled });
    if enabled {
        let kept = before.get("iamConfiguration").map(|c| c["uniformBucketLevelAccess"]["lockedTime"].clone());
        access["lockedTime"] = match kept {
            Some(time) if was && time.is_string() => time,
            _ => json!("2099-01-01T00:00:00.000Z"),
        };
    }
    configuration["bucketPolicyOnly"] = access.clone();
    configuration["uniformBucketLevelAccess"] = access;
    if !configuration["publicAccessPrevention"].is_string() {
        configuration["publicAccessPrevention"] = json!("inherited");
    }
}

/// A period of seconds travels as text and knows since when it is in force.
fn complete_period(
    bucket: &mut Bucket,
    before: &Map<String, Value>,
    field: &str,
    period: &str,
    now: &str,
) -> Result<(), ApiError> {
    let Some(policy) = bucket.resource.get_mut(field) else { return Ok(()) };
    let seconds = as_i64(&policy[period])
        .filter(|s| (0..=3_155_760_000).contains(s))
        .ok_or_else(|| ApiError::invalid(format!("Invalid value for '{field}.{period}': {}", policy[period])))?;
    let unchanged = before.get(field).filter(|b| as_i64(&b[period]) == Some(seconds));
    let effective = unchanged.map(|b| b["effectiveTime"].clone()).filter(Value::is_string);
    policy[period] = json!(seconds.to_string());
    policy["effectiveTime"] = effective.unwrap_or_else(|| json!(now));
    if field == "retentionPolicy" && seconds == 0 {
        bucket.resource.remove(field);
    }
    Ok(())
}

fn check_lock(before: &Map<String, Value>, bucket: &mut Bucket) -> Result<(), ApiError> {
    let old = before.get("retentionPolicy").filter(|p| p["isLocked"] == json!(true));
    let Some(old) = old else { return Ok(()) };
    let old_period = as_i64(&old["retentionPeriod"]).unwrap_or(0);
    if bucket.retention_s() < old_period {
        return Err(ApiError::forbidden(
            "forbidden",
            format!("Cannot reduce retention duration of a locked Retention Policy for bucket '{}'.", bucket.name()),
        ));
    }
    if let Some(policy) = bucket.resource.get_mut("retentionPolicy") {
        policy["isLocked"] = json!(true);
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(ApiError::required("Required parameter: name").at("parameter", "name"));
    }
    let longest = if name.contains('.') { 222 } else { 63 };
    let edges = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ok = (3..=longest).contains(&name.len())
        && name.chars().all(|c| edges(c) || "-_.".contains(c))
        && name.starts_with(edges)
        && name.ends_with(edges)
        && !name.contains("..")
        && !name.starts_with("goog")
        && name.split('.').all(|part| (1..=63).contains(&part.len()))
        && name.parse::<std::net::Ipv4Addr>().is_err();
    if ok { Ok(()) } else { Err(ApiError::invalid(format!("Invalid bucket name: '{name}'")).at("parameter", "name")) }
}

/// `multi-region`, `dual-region` or `region`.
fn location_type(location: &str) -> &'static str {
    match location {
        "US" | "EU" | "ASIA" => "multi-region",
        "NAM4" | "EUR4" | "EUR5" | "EUR7" | "EUR8" | "ASIA1" => "dual-region",
        _ => "region",
    }
}

/// A stable stand-in for the number that Google gives a project.
pub fn project_number(project: &str) -> u64 {
    let hash =
        project.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    100_000_000_000 + hash % 800_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> Bucket {
        let resource = json!({ "name": "b", "storageClass": "STANDARD", "metageneration": "1" });
        Bucket { resource: resource.as_object().unwrap().clone(), project: "p".into(), iam: None }
    }

    fn apply(bucket: &mut Bucket, draft: Value) -> Result<(), ApiError> {
        edit(bucket, draft.as_object().unwrap(), Edit::Patch, 1_000_000)
    }

    #[test]
    fn patches_merge_and_the_server_completes() {
        let mut b = bucket();
        apply(
            &mut b,
            json!({ "labels": { "a": "1", "b": "2" }, "retentionPolicy": { "retentionPeriod": 60 }, "name": "x" }),
        )
        .unwrap();
        assert_eq!(b.name(), "b");
        assert_eq!(
            b.resource["retentionPolicy"],
            json!({ "retentionPeriod": "60", "effectiveTime": "1970-01-01T00:00:01.000Z" })
        );
        apply(&mut b, json!({ "labels": { "a": null, "c": "3" } })).unwrap();
        assert_eq!(b.resource["labels"], json!({ "b": "2", "c": "3" }));
        apply(&mut b, json!({ "labels": null, "retentionPolicy": null })).unwrap();
        assert!(!b.resource.contains_key("labels") && b.retention_s() == 0);
    }

    #[test]
    fn a_locked_retention_only_grows() {
        let mut b = bucket();
        apply(&mut b, json!({ "retentionPolicy": { "retentionPeriod": "60" } })).unwrap();
        b.resource["retentionPolicy"]["isLocked"] = json!(true);
        assert_eq!(
            apply(&mut b.clone(), json!({ "retentionPolicy": { "retentionPeriod": 59 } })).unwrap_err().code,
            403
        );
        assert_eq!(apply(&mut b.clone(), json!({ "retentionPolicy": null })).unwrap_err().code, 403);
        apply(&mut b, json!({ "retentionPolicy": { "retentionPeriod": 61 } })).unwrap();
        assert_eq!(b.resource["retentionPolicy"]["isLocked"], json!(true));
    }

    #[test]
    fn names_follow_the_rules() {
        for good in ["abc", "a-b_c.d", "1bucket9"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "ab", "Abc", "-abc", "abc-", "a..b", "goog-x", "1.2.3.4", "a/b", &long] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
