//! The plan of the buckets as text.

use serde_json::Value;

use crate::plan::buckets::{BucketPlan, BucketsPlan, What};

/// Every bucket with what differs, `+` for what comes, `-` for what goes, `~` for what changes.
pub fn plan(plan: &BucketsPlan) -> String {
    let mut out: String = plan.buckets.iter().map(bucket).collect();
    for place in &plan.not_managed {
        out.push_str(&format!("{place}\n  not a bucket of Cloud Storage: its settings are not looked at\n"));
    }
    let open = plan.buckets.iter().filter(|bucket| !bucket.is_settled()).count();
    out.push_str(&match open {
        0 => "every bucket is as it is to be\n".to_string(),
        1 => "1 bucket differs\n".to_string(),
        n => format!("{n} buckets differ\n"),
    });
    out
}

fn bucket(bucket: &BucketPlan) -> String {
    let used_by = if bucket.used_by.is_empty() { "journal and lease".into() } else { bucket.used_by.join(", ") };
    let mut out = format!("gs://{}: {used_by}\n", bucket.bucket);
    if let Some(location) = &bucket.create_in {
        out.push_str(&format!("  + the bucket, in {location}\n"));
    }
    for change in &bucket.changes {
        out.push_str(&match &change.was {
            Some(was) => format!("  ~ {}: {was} -> {}\n", change.setting, change.becomes),
            None => format!("  + {}: {}\n", change.setting, change.becomes),
        });
    }
    for change in &bucket.lifecycle {
        let sign = match change.change {
            What::Keep => ' ',
            What::Add => '+',
            What::Remove => '-',
        };
        out.push_str(&format!("  {sign} rule: {} ({})\n", rule(&change.rule), change.why));
    }
    if bucket.can_be_locked {
        out.push_str(&format!("    the policy is not locked: buckets apply --lock {}\n", bucket.bucket));
    }
    for warning in &bucket.warnings {
        out.push_str(&format!("  warning: {warning}\n"));
    }
    for problem in &bucket.problems {
        out.push_str(&format!("  problem: {problem}\n"));
    }
    out
}

/// `Delete: age 30, matchesPrefix a, b`.
fn rule(rule: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let mut out = rule["action"]["type"].as_str().unwrap_or("?").to_string();
    if let Some(class) = rule["action"]["storageClass"].as_str() {
        out.push_str(&format!(" {class}"));
    }
    for (at, (name, value)) in rule["condition"].as_object().into_iter().flatten().enumerate() {
        let value = match value {
            Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
            other => text(other),
        };
        out.push_str(&format!("{} {name} {value}", if at == 0 { ":" } else { "," }));
    }
    out
}
