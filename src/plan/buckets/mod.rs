//! What buckets are to be like, held against what they are: a plan of differences that is printed or carried out.
//!
//! A bucket's lifecycle never decides what is kept: retention does, and tells the lifecycle by an object's `customTime` when its
//! backup is condemned (`job/lifecycle.rs`). So the rule that deletes counts from there, and reaches what retention itself could
//! not remove. Rules that delete backups by their age are taken away.

mod rules;
mod traps;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{Config, Destination, Tier};
use crate::model::{Place, TierName};
pub use rules::{RuleChange, What};

/// What a bucket is, in Cloud Storage's REST form; `None`: there is none of this name.
pub type Found = BTreeMap<String, Option<Value>>;

/// What is to be done about every bucket of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BucketsPlan {
    pub buckets: Vec<BucketPlan>,
    /// Places that have no settings which this program knows.
    pub not_managed: Vec<String>,
}

/// What is to be done about one bucket.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BucketPlan {
    pub bucket: String,
    /// The tiers that lie in it, and their prefixes.
    pub used_by: Vec<String>,
    /// The location in which it is made; `None`: it is there.
    pub create_in: Option<String>,
    pub changes: Vec<Change>,
    /// Every rule that is there, or will be.
    pub lifecycle: Vec<RuleChange>,
    /// What is sent: the differing parts of the resource.
    pub patch: Value,
    /// Of the resource that was looked at.
    pub metageneration: Option<i64>,
    /// Its retention policy is not locked, and the configuration asks for one.
    pub can_be_locked: bool,
    /// What costs more than it seems, or will not do what is expected.
    pub warnings: Vec<String>,
    /// What is wrong and no setting mends.
    pub problems: Vec<String>,
}

/// A setting that becomes another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    pub setting: &'static str,
    /// `None`: not set.
    pub was: Option<String>,
    pub becomes: String,
}

impl BucketPlan {
    /// Whether the bucket is as it is to be.
    pub fn is_settled(&self) -> bool {
        self.create_in.is_none() && self.patch.as_object().is_none_or(serde_json::Map::is_empty)
    }
}

/// A tier's place in a bucket.
pub(super) struct Use<'a> {
    pub tier: &'a TierName,
    pub settings: &'a Tier,
    pub destination: &'a Destination,
    /// BigQuery writes here.
    pub primary: bool,
    /// What the keys of its backups begin with.
    pub prefix: String,
}

/// The buckets that the configuration names.
pub fn names(config: &Config) -> Vec<&str> {
    uses(config).into_keys().collect()
}

fn uses(config: &Config) -> BTreeMap<&str, Vec<Use<'_>>> {
    let mut buckets: BTreeMap<&str, Vec<Use>> = BTreeMap::new();
    for (tier, settings) in &config.tiers {
        for (at, destination) in settings.destinations.iter().enumerate() {
            if let Place::Gcs { bucket, prefix } = &destination.place {
                let slash = if prefix.is_empty() { "" } else { "/" };
                let prefix = format!("{prefix}{slash}{tier}/");
                let of_tier = Use { tier, settings, destination, primary: at == 0, prefix };
                buckets.entry(bucket).or_default().push(of_tier);
            }
        }
    }
    if let Place::Gcs { bucket, .. } = &config.home {
        buckets.entry(bucket).or_default();
    }
    buckets
}

/// Plans. `datasets` are the locations of the BigQuery datasets: a bucket that is missing is made where they are.
pub fn plan(config: &Config, found: &Found, datasets: &[String]) -> BucketsPlan {
    let buckets = uses(config);
    let buckets = buckets.into_iter().map(|(bucket, uses)| {
        let resource = found.get(bucket).and_then(Option::as_ref);
        plan_bucket(config, bucket, &uses, resource, datasets)
    });
    let places = config.tiers.values().flat_map(Tier::places).chain([&config.home]);
    let mut not_managed: Vec<String> =
        places.filter(|p| !matches!(p, Place::Gcs { .. })).map(Place::to_string).collect();
    not_managed.sort();
    not_managed.dedup();
    BucketsPlan { buckets: buckets.collect(), not_managed }
}

fn plan_bucket(
    config: &Config,
    bucket: &str,
    uses: &[Use<'_>],
    resource: Option<&Value>,
    datasets: &[String],
) -> BucketPlan {
    let mut settings =
        Settings { is: resource.cloned().unwrap_or_else(|| json!({})), changes: vec![], patch: json!({}) };
    let mut problems = Vec::new();
    let wanted = config.buckets.location.clone();
    let create_in = match resource {
        Some(resource) => {
            let location = resource["location"].as_str().unwrap_or_default();
            if let Some(wanted) = wanted.filter(|wanted| !wanted.eq_ignore_ascii_case(location)) {
                let hint = "hint: a bucket cannot be moved: name another one, or correct buckets.location";
                problems.push(format!("is in {location}, not in {wanted}; {hint}"));
            }
            None
        }
        None => {
            let location = wanted.or_else(|| datasets.first().cloned());
            if location.is_none() {
                problems.push("is missing, and where to make it is not known; hint: buckets.location".into());
            }
            location
        }
    };
    settings.access();
    settings.class(uses);
    settings.key(uses, &mut problems);
    settings.history(config);
    settings.lock(uses, &mut problems);
    let lifecycle = rules::plan(config, uses, &settings.is["lifecycle"]["rule"]);
    if lifecycle.iter().any(RuleChange::differs) {
        let rules: Vec<Value> = lifecycle.iter().filter_map(RuleChange::stays).cloned().collect();
        settings.patch["lifecycle"] = json!({ "rule": rules });
    }
    let warnings = traps::warnings(config, uses, &settings.is);
    let locked = settings.is["retentionPolicy"]["isLocked"] == json!(true);
    let used_by = uses.iter().map(|of| format!("{} ({})", of.tier, of.prefix)).collect();
    BucketPlan {
        bucket: bucket.into(),
        used_by,
        create_in,
        changes: settings.changes,
        lifecycle,
        patch: settings.patch,
        metageneration: resource.and_then(|resource| super::facts::count(resource, "metageneration").try_into().ok()),
        can_be_locked: uses.iter().any(|of| of.destination.retention_lock.is_some()) && !locked,
        warnings,
        problems,
    }
}

/// The settings of a bucket while they are compared.
struct Settings {
    is: Value,
    changes: Vec<Change>,
    patch: Value,
}

impl Settings {
    /// Notes a change, unless the setting is as it is to be.
    fn set(&mut self, setting: &'static str, was: Option<String>, becomes: &str, patch: impl FnOnce(&mut Value)) {
        if was.as_deref() != Some(becomes) {
            self.changes.push(Change { setting, was, becomes: becomes.into() });
            patch(&mut self.patch);
        }
    }

    fn text(&self, pointer: &str) -> Option<String> {
        self.is.pointer(pointer).and_then(Value::as_str).map(str::to_string)
    }

    /// Who may read is said by IAM alone, and never "everybody".
    fn access(&mut self) {
        let uniform = self.is.pointer("/iamConfiguration/uniformBucketLevelAccess/enabled");
        let uniform = uniform.and_then(Value::as_bool).map(on_off);
        self.set("uniform bucket-level access", uniform, "on", |patch| {
            patch["iamConfiguration"]["uniformBucketLevelAccess"] = json!({ "enabled": true });
        });
        let prevention = self.text("/iamConfiguration/publicAccessPrevention");
        self.set("public access prevention", prevention, "enforced", |patch| {
            patch["iamConfiguration"]["publicAccessPrevention"] = json!("enforced");
        });
    }

    /// The class of new objects, where all tiers in the bucket agree on one; otherwise rules of the lifecycle say it.
    fn class(&mut self, uses: &[Use<'_>]) {
        if let Some(class) = rules::common_class(uses) {
            let was = self.text("/storageClass");
            self.set("storage class", was, class.as_str(), |patch| patch["storageClass"] = json!(class.as_str()));
        }
    }

    fn key(&mut self, uses: &[Use<'_>], problems: &mut Vec<String>) {
        let mut keys: Vec<&str> = uses.iter().filter_map(|of| of.destination.kms_key.as_deref()).collect();
        keys.dedup();
        match keys.as_slice() {
            [] => {}
            [key] => {
                let was = self.text("/encryption/defaultKmsKeyName");
                self.set("customer-managed key", was, key, |patch| {
                    patch["encryption"] = json!({ "defaultKmsKeyName": key });
                });
            }
            _ => problems.push("is to have two customer-managed keys; hint: a bucket has one: divide the tiers".into()),
        }
    }

    /// What is kept of what is deleted.
    fn history(&mut self, config: &Config) {
        if let Some(period) = config.buckets.soft_delete {
            let was =
                self.is.get("softDeletePolicy").map(|policy| super::facts::count(policy, "retentionDurationSeconds"));
            let was = was.map(|seconds| crate::model::Period::seconds(seconds).to_string());
            self.set("soft delete", was, &period.to_string(), |patch| {
                patch["softDeletePolicy"] = json!({ "retentionDurationSeconds": period.as_secs().to_string() });
            });
        }
        if let Some(on) = config.buckets.versioning {
            let was = self.is.pointer("/versioning/enabled").and_then(Value::as_bool).unwrap_or(false);
            self.set("versioning", Some(on_off(was)), &on_off(on), |patch| {
                patch["versioning"] = json!({ "enabled": on })
            });
        }
    }

    fn lock(&mut self, uses: &[Use<'_>], problems: &mut Vec<String>) {
        let Some(wanted) = uses.iter().filter_map(|of| of.destination.retention_lock).max() else { return };
        let seconds = super::facts::count(&self.is["retentionPolicy"], "retentionPeriod");
        let was = (seconds > 0).then(|| crate::model::Period::seconds(seconds).to_string());
        if self.is["retentionPolicy"]["isLocked"] == json!(true) && wanted.as_secs() < seconds {
            let was = was.unwrap_or_default();
            problems.push(format!(
                "is locked for {was}: nobody can shorten that to {wanted}; hint: correct retention_lock"
            ));
            return;
        }
        self.set("retention policy", was, &wanted.to_string(), |patch| {
            patch["retentionPolicy"] = json!({ "retentionPeriod": wanted.as_secs().to_string() });
        });
    }
}

fn on_off(on: bool) -> String {
    if on { "on".into() } else { "off".into() }
}

#[cfg(test)]
mod tests;
