//! The rules of a bucket's lifecycle: which there are to be, and what becomes of those that are there.
//!
//! Facts: <https://cloud.google.com/storage/docs/lifecycle>.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Use;
use crate::config::Config;
use crate::model::{Period, StorageClass};

/// How much later than retention the lifecycle deletes: retention removes a backup as a whole, its manifest first.
const MARGIN_DAYS: u64 = 7;
/// Unfinished multipart uploads are billed and not listed.
const ABORT_AFTER_DAYS: u64 = 7;

/// A rule, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleChange {
    pub change: What,
    /// In Cloud Storage's REST form.
    pub rule: Value,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Keep,
    Add,
    Remove,
}

impl RuleChange {
    pub(super) fn differs(&self) -> bool {
        self.change != What::Keep
    }

    /// The rule, if it is in force afterwards.
    pub(super) fn stays(&self) -> Option<&Value> {
        (self.change != What::Remove).then_some(&self.rule)
    }
}

/// The class that all tiers of a bucket ask for.
pub(super) fn common_class(uses: &[Use<'_>]) -> Option<StorageClass> {
    let mut classes = uses.iter().map(|of| of.destination.storage_class);
    let first = classes.next()??;
    classes.all(|class| class == Some(first)).then_some(first)
}

pub(super) fn plan(config: &Config, uses: &[Use<'_>], there: &Value) -> Vec<RuleChange> {
    let there = there.as_array().map(Vec::as_slice).unwrap_or_default();
    let wanted = wanted(config, uses);
    let mut changes: Vec<RuleChange> = there
        .iter()
        .map(|rule| {
            let (change, why) = match wanted.iter().find(|(ours, _)| same(ours, rule)) {
                Some((_, why)) => (What::Keep, why.clone()),
                None => judge(rule, uses),
            };
            RuleChange { change, rule: rule.clone(), why }
        })
        .collect();
    for (rule, why) in wanted {
        let stands_in = |change: &RuleChange| {
            change.change == What::Keep
                && (same(&change.rule, &rule) || aborts_soon(&change.rule) && aborts_soon(&rule))
        };
        if !changes.iter().any(stands_in) {
            changes.push(RuleChange { change: What::Add, rule, why });
        }
    }
    changes
}

fn wanted(config: &Config, uses: &[Use<'_>]) -> Vec<(Value, String)> {
    let mut rules = Vec::new();
    let prefixes: Vec<&str> = uses.iter().map(|of| of.prefix.as_str()).collect();
    if !prefixes.is_empty() {
        let days = days(config.retention.grace) + MARGIN_DAYS;
        let condition = json!({ "daysSinceCustomTime": days, "matchesPrefix": prefixes });
        let why = format!("what retention condemned {days} days ago and could not remove");
        rules.push((json!({ "action": { "type": "Delete" }, "condition": condition }), why));
    }
    if let Some(period) = config.buckets.keep_noncurrent {
        let condition = json!({ "daysSinceNoncurrentTime": days(period) });
        let why = format!("versions that were replaced or deleted {period} ago");
        rules.push((json!({ "action": { "type": "Delete" }, "condition": condition }), why));
    }
    if common_class(uses).is_none() {
        let mut by_class: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for of in uses {
            if let Some(class) = of.destination.storage_class.filter(|class| class.min_days > 0) {
                by_class.entry(class.as_str()).or_default().push(&of.prefix);
            }
        }
        for (class, prefixes) in by_class {
            let action = json!({ "type": "SetStorageClass", "storageClass": class });
            let rule = json!({ "action": action, "condition": { "age": 0, "matchesPrefix": prefixes } });
            rules.push((rule, format!("the storage class of {}", prefixes.join(", "))));
        }
    }
    let abort =
        json!({ "action": { "type": "AbortIncompleteMultipartUpload" }, "condition": { "age": ABORT_AFTER_DAYS } });
    rules.push((abort, "uploads that were never finished".into()));
    rules
}

/// What becomes of a rule that is not one of ours.
fn judge(rule: &Value, uses: &[Use<'_>]) -> (What, String) {
    let none = Map::new();
    let condition = rule["condition"].as_object().unwrap_or(&none);
    let has = |names: &[&str]| names.iter().any(|name| condition.contains_key(*name));
    let live = condition.get("isLive") != Some(&json!(false))
        && !has(&["daysSinceNoncurrentTime", "noncurrentTimeBefore", "numNewerVersions"]);
    let reached = uses.iter().find(|of| reaches(condition, &of.prefix));
    match (rule["action"]["type"].as_str(), reached) {
        (Some("Delete"), Some(of)) if live && has(&["daysSinceCustomTime", "customTimeBefore"]) => {
            (What::Remove, format!("is for other settings of {} than there are now", of.tier))
        }
        (Some("Delete"), Some(of)) if live => {
            (What::Remove, format!("would delete backups of {} whatever retention keeps", of.tier))
        }
        _ => (What::Keep, "not of this program, and it touches no backup that is kept".into()),
    }
}

/// Whether a rule can match objects below a prefix.
fn reaches(condition: &Map<String, Value>, prefix: &str) -> bool {
    let Some(prefixes) = condition.get("matchesPrefix").and_then(Value::as_array) else { return true };
    prefixes.iter().filter_map(Value::as_str).any(|other| other.starts_with(prefix) || prefix.starts_with(other))
}

fn aborts_soon(rule: &Value) -> bool {
    let condition = rule["condition"].as_object();
    rule["action"]["type"] == json!("AbortIncompleteMultipartUpload")
        && condition.is_some_and(|c| c.len() == 1 && number(&c["age"]).is_some_and(|days| days <= 30))
}

/// Whether two rules say the same, whatever the order of their parts and the form of their numbers.
fn same(a: &Value, b: &Value) -> bool {
    canonical(&a["action"]) == canonical(&b["action"]) && canonical(&a["condition"]) == canonical(&b["condition"])
}

fn canonical(part: &Value) -> BTreeMap<String, Vec<String>> {
    let members = part.as_object().into_iter().flatten().map(|(name, value)| {
        let mut texts: Vec<String> = match value {
            Value::Array(items) => items.iter().map(text).collect(),
            other => vec![text(other)],
        };
        texts.sort();
        (name.clone(), texts)
    });
    members.collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Whole days, never fewer than the period.
fn days(period: Period) -> u64 {
    period.as_secs().div_ceil(86_400)
}
