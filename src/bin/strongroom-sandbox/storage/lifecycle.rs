//! Lifecycle rules: what they mean for an object at an instant (pure), and the round that carries them out. Google
//! may take a day for it; here it happens when the clock is set and at a low rate. Knows no HTTP.

use serde_json::{Value, json};

use super::conditions::Conditions;
use super::records::{self, BUCKETS, Bucket, LIVE, OLD, Object, SOFT, UPLOADS, XML_UPLOADS};
use super::store::{self, CLASSES, Store};
use super::{upload, xml_upload};
use crate::core::clock::{parse_rfc3339_us, rfc3339_ms};
use crate::core::{ApiError, Sandbox};

const DAY_US: i64 = 86_400_000_000;
/// How many records one step of a round reads.
const PAGE: usize = 500;

/// What rules look at.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    pub name: &'a str,
    pub class: &'a str,
    pub created_us: i64,
    pub custom_us: Option<i64>,
    /// When it ceased to be live; `None` for live objects.
    pub noncurrent_us: Option<i64>,
    /// How many newer versions there are.
    pub newer: i64,
}

/// What is to happen to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Delete,
    SetStorageClass(String),
}

/// # Errors
/// 400 when the configuration is none that Google would take.
pub fn check(lifecycle: &Value) -> Result<(), ApiError> {
    let bad = |what: String| ApiError::invalid(format!("Invalid lifecycle configuration: {what}"));
    for rule in lifecycle["rule"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let action = &rule["action"];
        match action["type"].as_str() {
            Some("Delete" | "AbortIncompleteMultipartUpload") => {}
            Some("SetStorageClass") => {
                if !action["storageClass"].as_str().is_some_and(|c| CLASSES.contains(&c)) {
                    return Err(bad(format!("storage class {}", action["storageClass"])));
                }
            }
            _ => return Err(bad(format!("action {}", action["type"]))),
        }
        let Some(condition) = rule["condition"].as_object().filter(|c| !c.is_empty()) else {
            return Err(bad("a rule needs a condition".into()));
        };
        for (name, value) in condition {
            let sound = match name.as_str() {
                "age" | "daysSinceCustomTime" | "daysSinceNoncurrentTime" | "numNewerVersions" => {
                    records::as_i64(value).is_some_and(|n| n >= 0)
                }
                "createdBefore" | "customTimeBefore" | "noncurrentTimeBefore" => date_us(value).is_some(),
                "isLive" => value.is_boolean(),
                "matchesStorageClass" | "matchesPrefix" | "matchesSuffix" => {
                    value.as_array().is_some_and(|a| a.iter().all(Value::is_string))
                }
                _ => false,
            };
            if !sound {
                return Err(bad(format!("condition {name}: {value}")));
            }
        }
    }
    Ok(())
}

/// What the rules ask for at `now_us`: deletion before all else, else the coldest class.
pub fn decide(lifecycle: &Value, facts: &Facts<'_>, now_us: i64) -> Option<Action> {
    let rules = lifecycle["rule"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut coldest: Option<&str> = None;
    for rule in rules.iter().filter(|r| holds(&r["condition"], facts, now_us)) {
        match rule["action"]["type"].as_str() {
            Some("Delete") => return Some(Action::Delete),
            Some("SetStorageClass") => {
                let class = rule["action"]["storageClass"].as_str().unwrap_or_default();
                if coldness(class) > coldness(coldest.unwrap_or(facts.class)) {
                    coldest = Some(class);
                }
            }
            _ => {}
        }
    }
    coldest.map(|c| Action::SetStorageClass(c.to_string()))
}

/// Whether an unfinished upload begun at `created_us` is to be aborted.
pub fn aborts(lifecycle: &Value, name: &str, created_us: i64, now_us: i64) -> bool {
    let facts = Facts { name, class: "", created_us, custom_us: None, noncurrent_us: None, newer: 0 };
    let rules = lifecycle["rule"].as_array().map(Vec::as_slice).unwrap_or_default();
    rules.iter().any(|r| {
        r["action"]["type"] == json!("AbortIncompleteMultipartUpload") && holds(&r["condition"], &facts, now_us)
    })
}

/// All conditions of a rule hold.
fn holds(condition: &Value, facts: &Facts<'_>, now_us: i64) -> bool {
    let Some(condition) = condition.as_object() else { return false };
    condition.iter().all(|(name, value)| {
        let days_since = |from: Option<i64>| match (from, records::as_i64(value)) {
            (Some(from), Some(days)) => now_us.saturating_sub(from) >= days.saturating_mul(DAY_US),
            _ => false,
        };
        let before = |at: Option<i64>| match (at, date_us(value)) {
            (Some(at), Some(date)) => at < date,
            _ => false,
        };
        let any = |test: &dyn Fn(&str) -> bool| {
            value.as_array().is_some_and(|a| a.iter().filter_map(Value::as_str).any(test))
        };
        match name.as_str() {
            "age" => days_since(Some(facts.created_us)),
            "createdBefore" => before(Some(facts.created_us)),
            "customTimeBefore" => before(facts.custom_us),
            "daysSinceCustomTime" => days_since(facts.custom_us),
            "daysSinceNoncurrentTime" => days_since(facts.noncurrent_us),
            "noncurrentTimeBefore" => before(facts.noncurrent_us),
            "isLive" => value.as_bool() == Some(facts.noncurrent_us.is_none()),
            "numNewerVersions" => records::as_i64(value).is_some_and(|n| facts.newer >= n),
            "matchesStorageClass" => any(&|c| c == facts.class),
            "matchesPrefix" => any(&|p| facts.name.starts_with(p)),
            "matchesSuffix" => any(&|s| facts.name.ends_with(s)),
            _ => false,
        }
    })
}

fn coldness(class: &str) -> u8 {
    match class {
        "NEARLINE" => 1,
        "COLDLINE" => 2,
        "ARCHIVE" => 3,
        _ => 0,
    }
}

/// Midnight UTC of `YYYY-MM-DD`.
fn date_us(value: &Value) -> Option<i64> {
    value.as_str().and_then(|d| parse_rfc3339_us(&format!("{}T00:00:00Z", d.get(..10)?)))
}

/// One round over everything: rules, soft-deleted objects past their time, abandoned uploads.
///
/// # Errors
/// When the database fails. What is protected is left alone.
pub fn round(sandbox: &Sandbox) -> Result<(), ApiError> {
    let now_us = sandbox.clock.now_us();
    for (_, value) in sandbox.db.scan(BUCKETS, "", None, usize::MAX)? {
        let bucket: Bucket = records::parse(value)?;
        let Some(lifecycle) = bucket.resource.get("lifecycle") else { continue };
        let noncurrent = newer_counts(sandbox, &bucket)?;
        each(sandbox, LIVE, &format!("{}/", bucket.name()), |object| {
            apply(sandbox, &bucket, lifecycle, &object, 0, now_us)
        })?;
        for (object, newer) in noncurrent {
            apply(sandbox, &bucket, lifecycle, &object, newer, now_us)?;
        }
    }
    let mut gone = Vec::new();
    each(sandbox, SOFT, "", |object| {
        if object.time_us("hardDeleteTime").is_some_and(|t| t <= now_us) {
            sandbox.db.delete(SOFT, &object.version_key())?;
            gone.push(object.blob);
        }
        Ok(())
    })?;
    let store = Store::new(sandbox);
    gone.iter().for_each(|id| store.blobs.remove(id));
    upload::expire(sandbox, UPLOADS, now_us)?;
    xml_upload::expire(sandbox, XML_UPLOADS, now_us)
}

/// The noncurrent versions of a bucket, each with the number of newer ones.
fn newer_counts(sandbox: &Sandbox, bucket: &Bucket) -> Result<Vec<(Object, i64)>, ApiError> {
    let mut old: Vec<Object> = Vec::new();
    each(sandbox, OLD, &format!("{}/", bucket.name()), |object| {
        old.push(object);
        Ok(())
    })?;
    let mut out = Vec::with_capacity(old.len());
    let mut newer = 0;
    // Keys sort by name, then generation: from the back, each version has one newer one more.
    for at in (0..old.len()).rev() {
        if old.get(at + 1).is_none_or(|next| next.name() != old[at].name()) {
            let live = sandbox.db.get(LIVE, &old[at].live_key())?;
            newer = i64::from(live.is_some());
        } else {
            newer += 1;
        }
        out.push((old[at].clone(), newer));
    }
    Ok(out)
}

fn apply(
    sandbox: &Sandbox,
    bucket: &Bucket,
    lifecycle: &Value,
    object: &Object,
    newer: i64,
    now_us: i64,
) -> Result<(), ApiError> {
    let facts = Facts {
        name: object.name(),
        class: object.storage_class(),
        created_us: object.time_us("timeCreated").unwrap_or(now_us),
        custom_us: object.time_us("customTime"),
        noncurrent_us: object.time_us("timeDeleted"),
        newer,
    };
    let result = match decide(lifecycle, &facts, now_us) {
        None => return Ok(()),
        Some(Action::Delete) => {
            // The record may have changed since it was read: only this generation goes.
            let same = Conditions { generation: Some(object.generation()), ..Conditions::default() };
            let generation = facts.noncurrent_us.map(|_| object.generation());
            Store::new(sandbox).delete(bucket.name(), object.name(), generation, &same)
        }
        Some(Action::SetStorageClass(class)) => sandbox.db.transaction(|tx| {
            let found = records::version(tx, bucket.name(), object.name(), Some(object.generation()))?;
            let Some(mut object) = found else { return Ok(()) };
            object.resource.insert("storageClass".into(), json!(class));
            object.resource.insert("timeStorageClassUpdated".into(), json!(rfc3339_ms(now_us)));
            store::put_back(tx, &object)
        }),
    };
    match result {
        // Protected, or changed meanwhile.
        Err(e) if matches!(e.code, 403 | 404 | 412) => Ok(()),
        other => other,
    }
}

fn each(
    sandbox: &Sandbox,
    space: &str,
    prefix: &str,
    mut work: impl FnMut(Object) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let mut after: Option<String> = None;
    loop {
        let page = sandbox.db.scan(space, prefix, after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        for (_, value) in page {
            work(records::parse(value)?)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts<'static> {
        Facts {
            name: "tmp/a.avro",
            class: "STANDARD",
            created_us: 10 * DAY_US,
            custom_us: Some(15 * DAY_US),
            noncurrent_us: None,
            newer: 0,
        }
    }

    #[test]
    fn every_condition_is_judged() {
        let live = facts();
        let old = Facts { noncurrent_us: Some(18 * DAY_US), newer: 2, ..facts() };
        let now = 20 * DAY_US;
        for (condition, facts, expected) in [
            (json!({ "age": 10 }), &live, true),
            (json!({ "age": 11 }), &live, false),
            (json!({ "age": 0 }), &live, true),
            (json!({ "createdBefore": "1970-01-12" }), &live, true),
            (json!({ "createdBefore": "1970-01-11" }), &live, false),
            (json!({ "customTimeBefore": "1970-01-17" }), &live, true),
            (json!({ "daysSinceCustomTime": 5 }), &live, true),
            (json!({ "daysSinceCustomTime": 6 }), &live, false),
            (json!({ "daysSinceCustomTime": 0 }), &Facts { custom_us: None, ..facts() }, false),
            (json!({ "isLive": true }), &live, true),
            (json!({ "isLive": true }), &old, false),
            (json!({ "isLive": false }), &old, true),
            (json!({ "numNewerVersions": 2 }), &old, true),
            (json!({ "numNewerVersions": 3 }), &old, false),
            (json!({ "numNewerVersions": 1 }), &live, false),
            (json!({ "daysSinceNoncurrentTime": 2 }), &old, true),
            (json!({ "daysSinceNoncurrentTime": 3 }), &old, false),
            (json!({ "daysSinceNoncurrentTime": 0 }), &live, false),
            (json!({ "noncurrentTimeBefore": "1970-01-20" }), &old, true),
            (json!({ "matchesPrefix": ["x", "tmp/"] }), &live, true),
            (json!({ "matchesPrefix": ["x"] }), &live, false),
            (json!({ "matchesSuffix": [".avro"], "age": 1 }), &live, true),
            (json!({ "matchesSuffix": [".avro"], "age": 99 }), &live, false),
            (json!({ "matchesStorageClass": ["NEARLINE"] }), &live, false),
            (json!({ "matchesStorageClass": ["STANDARD"] }), &live, true),
        ] {
            assert_eq!(holds(&condition, facts, now), expected, "{condition}");
        }
    }

    #[test]
    fn deletion_wins_then_the_coldest_class_and_never_a_warmer_one() {
        let set = |class: &str| json!({ "action": { "type": "SetStorageClass", "storageClass": class }, "condition": { "age": 1 } });
        let rules = json!({ "rule": [set("NEARLINE"), set("ARCHIVE"), set("COLDLINE")] });
        let now = 20 * DAY_US;
        assert_eq!(decide(&rules, &facts(), now), Some(Action::SetStorageClass("ARCHIVE".into())));
        let archived = Facts { class: "ARCHIVE", ..facts() };
        assert_eq!(decide(&rules, &archived, now), None);
        let with_delete =
            json!({ "rule": [set("NEARLINE"), { "action": { "type": "Delete" }, "condition": { "age": 1 } }] });
        assert_eq!(decide(&with_delete, &facts(), now), Some(Action::Delete));
        assert_eq!(decide(&json!({}), &facts(), now), None);
        let abort =
            json!({ "rule": [{ "action": { "type": "AbortIncompleteMultipartUpload" }, "condition": { "age": 7 } }] });
        assert!(aborts(&abort, "x", 10 * DAY_US, now) && !aborts(&abort, "x", 14 * DAY_US, now));
        assert_eq!(decide(&abort, &facts(), now), None);
    }

    #[test]
    fn bad_rules_are_refused() {
        let rule =
            |action: Value, condition: Value| check(&json!({ "rule": [{ "action": action, "condition": condition }] }));
        assert!(rule(json!({ "type": "Delete" }), json!({ "age": 3 })).is_ok());
        for (action, condition) in [
            (json!({ "type": "Delete" }), json!({})),
            (json!({ "type": "Remove" }), json!({ "age": 3 })),
            (json!({ "type": "SetStorageClass" }), json!({ "age": 3 })),
            (json!({ "type": "Delete" }), json!({ "age": -1 })),
            (json!({ "type": "Delete" }), json!({ "ages": 3 })),
            (json!({ "type": "Delete" }), json!({ "createdBefore": "soon" })),
        ] {
            assert!(rule(action.clone(), condition.clone()).is_err(), "{action} {condition}");
        }
    }
}
