//! Buckets and their lifecycle, by REST (see the module's head).

use serde_json::{Value, json};

use super::Storage;
use crate::google::rest::Call;
use crate::google::retry::Effect;
use crate::model::Failure;

/// What a backup tool has to know of a bucket. `resource` has the rest, in REST form.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    pub name: String,
    /// E.g. `EU`, `EUROPE-WEST3`.
    pub location: String,
    /// E.g. `STANDARD`, `NEARLINE`, `ARCHIVE`.
    pub storage_class: String,
    /// For conditional patches.
    pub metageneration: i64,
    /// `lifecycle.rule`, in REST form.
    pub lifecycle_rules: Vec<Value>,
    pub versioning: bool,
    pub uniform_access: bool,
    pub retention: Option<Retention>,
    /// How long deleted objects are kept; 0 for none.
    pub soft_delete_s: u64,
    pub default_event_based_hold: bool,
    pub resource: Value,
}

/// A bucket's retention policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub period_s: u64,
    /// Locked: it can neither be removed nor shortened, by nobody.
    pub locked: bool,
}

impl Bucket {
    fn from_resource(resource: Value) -> Result<Self, Failure> {
        let text = |key: &str| resource.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
        let name = text("name");
        if name.is_empty() {
            return Err(Failure::Corrupt { object: "bucket".into(), message: "unreadable answer: no name".into() });
        }
        let flag = |pointer: &str| resource.pointer(pointer).and_then(Value::as_bool).unwrap_or_default();
        let number = |pointer: &str| resource.pointer(pointer).and_then(super::objects::integer).unwrap_or_default();
        let rules = resource.pointer("/lifecycle/rule").and_then(Value::as_array);
        let retention = resource.get("retentionPolicy").filter(|policy| policy.is_object());
        Ok(Self {
            location: text("location"),
            storage_class: text("storageClass"),
            metageneration: number("/metageneration"),
            lifecycle_rules: rules.cloned().unwrap_or_default(),
            versioning: flag("/versioning/enabled"),
            uniform_access: flag("/iamConfiguration/uniformBucketLevelAccess/enabled"),
            retention: retention.map(|_| Retention {
                period_s: number("/retentionPolicy/retentionPeriod").unsigned_abs(),
                locked: flag("/retentionPolicy/isLocked"),
            }),
            soft_delete_s: number("/softDeletePolicy/retentionDurationSeconds").unsigned_abs(),
            default_event_based_hold: flag("/defaultEventBasedHold"),
            name,
            resource,
        })
    }
}

impl Storage {
    /// # Errors
    /// `NotFound`, `Denied`, and as mapped by `error.rs`.
    pub async fn get_bucket(&self, name: &str) -> Result<Bucket, Failure> {
        Bucket::from_resource(self.rest.call(&Call::get(object(name), &path(name))).await?)
    }

    /// Creates a bucket from a resource; its name is set.
    ///
    /// # Errors
    /// `Exists` (names are Google-wide: perhaps somebody else's), and as mapped by `error.rs`.
    pub async fn insert_bucket(&self, project: &str, name: &str, mut resource: Value) -> Result<Bucket, Failure> {
        resource["name"] = json!(name);
        let call =
            Call::post(object(name), &["storage", "v1", "b"], Effect::Idempotent, resource).query("project", project);
        match self.rest.create(&call).await? {
            Some(created) => Bucket::from_resource(created),
            // After a lost reply. A foreign bucket of this name would be denied here.
            None => self.get_bucket(name).await,
        }
    }

    /// Merges `changes` into the resource (`lifecycle`, `labels`, ...); `null` clears a field.
    ///
    /// # Errors
    /// `Precondition` when the metageneration does not match, and as mapped by `error.rs`.
    pub async fn patch_bucket(
        &self,
        name: &str,
        changes: Value,
        if_metageneration_match: Option<i64>,
    ) -> Result<Bucket, Failure> {
        let mut call =
            Call::patch(object(name), &path(name), changes).query_if("ifMetagenerationMatch", if_metageneration_match);
        if if_metageneration_match.is_some() {
            call.effect = Effect::Once;
        }
        Bucket::from_resource(self.rest.call(&call).await?)
    }

    /// Locks the bucket's retention policy: from here on it can only be made longer, by nobody otherwise.
    ///
    /// # Errors
    /// `Precondition` when the bucket has changed since it was looked at, and as mapped by `error.rs`.
    pub async fn lock_retention(&self, name: &str, metageneration: i64) -> Result<Bucket, Failure> {
        let parts = ["storage", "v1", "b", name, "lockRetentionPolicy"];
        let call = Call::post_nothing(object(name), &parts, Effect::Once);
        Bucket::from_resource(self.rest.call(&call.query("ifMetagenerationMatch", metageneration)).await?)
    }

    /// Deletes an empty bucket.
    ///
    /// # Errors
    /// `Exists` (Google's "conflict") when it is not empty, and as mapped by `error.rs`.
    pub async fn delete_bucket(&self, name: &str) -> Result<(), Failure> {
        self.rest.remove(&Call::delete(object(name), &path(name))).await
    }

    /// Which of these permissions (`storage.objects.create`, ...) the caller has on a bucket.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn test_bucket_permissions(&self, name: &str, permissions: &[&str]) -> Result<Vec<String>, Failure> {
        let mut call = Call::get(object(name), &["storage", "v1", "b", name, "iam", "testPermissions"]);
        for permission in permissions {
            call = call.query("permissions", permission);
        }
        let answer = self.rest.call(&call).await?;
        let granted = answer.get("permissions").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(granted.iter().filter_map(|permission| permission.as_str().map(str::to_string)).collect())
    }
}

fn object(name: &str) -> String {
    format!("bucket {name}")
}

fn path(name: &str) -> [&str; 4] {
    ["storage", "v1", "b", name]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_read_with_numbers_as_strings() {
        let resource = json!({"name": "b", "location": "EU", "storageClass": "NEARLINE", "metageneration": "7",
            "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]},
            "retentionPolicy": {"retentionPeriod": "86400", "isLocked": true},
            "softDeletePolicy": {"retentionDurationSeconds": "604800"},
            "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": true}}});
        let bucket = Bucket::from_resource(resource).unwrap();
        assert_eq!((bucket.metageneration, bucket.soft_delete_s, bucket.lifecycle_rules.len()), (7, 604_800, 1));
        assert_eq!(bucket.retention, Some(Retention { period_s: 86_400, locked: true }));
        assert!(bucket.uniform_access && !bucket.versioning);
        assert!(Bucket::from_resource(json!({})).is_err());
    }
}
