use super::*;
use crate::config;

fn parse(tiers: &str) -> Config {
    let text = format!(
        "name = \"demo\"\n[google]\nproject = \"p-1\"\n[[source]]\nname = \"w\"\nkind = \"bigquery\"\ndataset = \"d\"\n{tiers}"
    );
    config::parse(&text, &|_| None).unwrap()
}

fn found(bucket: &str, resource: Value) -> Found {
    [(bucket.to_string(), Some(resource))].into()
}

const DAILY: &str = "[tiers.daily]\nkeep = \"30d\"\ndestinations = [\"gs://demo/vault\"]\n";

fn settled(rules: Value) -> Value {
    json!({
        "name": "demo", "location": "US", "storageClass": "STANDARD", "metageneration": "3",
        "iamConfiguration": { "uniformBucketLevelAccess": { "enabled": true }, "publicAccessPrevention": "enforced" },
        "lifecycle": { "rule": rules },
    })
}

fn ours() -> Value {
    json!([
        // The order of members and the form of numbers do not matter.
        { "condition": { "matchesPrefix": ["vault/daily/"], "daysSinceCustomTime": "14" }, "action": { "type": "Delete" } },
        { "action": { "type": "AbortIncompleteMultipartUpload" }, "condition": { "age": 7 } },
    ])
}

#[test]
fn a_missing_bucket_is_made_where_the_data_is() {
    let plan = plan(&parse(DAILY), &Found::new(), &["EU".into()]);
    let bucket = &plan.buckets[0];
    assert_eq!((bucket.bucket.as_str(), bucket.create_in.as_deref()), ("demo", Some("EU")));
    assert_eq!(bucket.patch["iamConfiguration"]["publicAccessPrevention"], "enforced");
    assert_eq!(bucket.patch["lifecycle"]["rule"].as_array().unwrap().len(), 2);
    assert!(!bucket.is_settled() && bucket.problems.is_empty());
    let nowhere = super::plan(&parse(DAILY), &Found::new(), &[]);
    assert!(nowhere.buckets[0].problems[0].contains("buckets.location"));
}

#[test]
fn a_bucket_that_is_as_it_should_be_is_left_alone() {
    let plan = plan(&parse(DAILY), &found("demo", settled(ours())), &[]);
    assert!(plan.buckets[0].is_settled(), "{:#?}", plan.buckets[0]);
    assert_eq!(plan.buckets[0].metageneration, Some(3));
}

#[test]
fn rules_that_delete_backups_are_taken_away_and_others_stay() {
    let rules = json!([
        { "action": { "type": "Delete" }, "condition": { "age": 30 } },
        { "action": { "type": "Delete" }, "condition": { "age": 30, "matchesPrefix": ["vault/da"] } },
        { "action": { "type": "Delete" }, "condition": { "daysSinceCustomTime": 1, "matchesPrefix": ["vault/daily/"] } },
        { "action": { "type": "Delete" }, "condition": { "age": 3, "matchesPrefix": ["tmp/"] } },
        { "action": { "type": "Delete" }, "condition": { "age": 30, "isLive": false } },
        { "action": { "type": "Delete" }, "condition": { "numNewerVersions": 2 } },
        { "action": { "type": "SetStorageClass", "storageClass": "NEARLINE" }, "condition": { "age": 10 } },
        { "action": { "type": "AbortIncompleteMultipartUpload" }, "condition": { "age": 1 } },
    ]);
    let plan = plan(&parse(DAILY), &found("demo", settled(rules)), &[]);
    use rules::What::{Add, Keep, Remove};
    let what: Vec<_> = plan.buckets[0].lifecycle.iter().map(|rule| rule.change).collect();
    assert_eq!(what, [Remove, Remove, Remove, Keep, Keep, Keep, Keep, Keep, Add]);
    assert_eq!(plan.buckets[0].patch["lifecycle"]["rule"].as_array().unwrap().len(), 6);
    assert_eq!(plan.buckets[0].patch.as_object().unwrap().len(), 1, "nothing else is sent");
}

#[test]
fn tiers_of_one_bucket_have_their_own_class_and_one_key() {
    let key = "projects/p/locations/us/keyRings/r/cryptoKeys";
    let config = parse(&format!(
        "[tiers.daily]\nkeep = \"30d\"\ndestinations = [{{ place = \"gs://demo\", storage_class = \"STANDARD\", kms_key = \
         \"{key}/a\" }}]\n[tiers.monthly]\nkeep = \"7y\"\ndestinations = [{{ place = \"gs://demo\", storage_class = \"ARCHIVE\", \
         kms_key = \"{key}/b\" }}]\n"
    ));
    let plan = plan(&config, &found("demo", settled(json!([]))), &[]);
    let bucket = &plan.buckets[0];
    let cold = json!({
        "action": { "type": "SetStorageClass", "storageClass": "ARCHIVE" },
        "condition": { "age": 0, "matchesPrefix": ["monthly/"] },
    });
    assert!(bucket.patch["lifecycle"]["rule"].as_array().unwrap().contains(&cold));
    assert_eq!(bucket.patch.get("storageClass"), None);
    assert!(bucket.problems[0].contains("two customer-managed keys"));
}

#[test]
fn traps_are_told() {
    let config = parse(
        "[tiers.daily]\nkeep = \"30d\"\ndestinations = [{ place = \"gs://demo\", storage_class = \"COLDLINE\", retention_lock = \
         \"60d\" }]\n",
    );
    let mut resource = settled(json!([]));
    resource["softDeletePolicy"] = json!({ "retentionDurationSeconds": "604800" });
    resource["retentionPolicy"] = json!({ "retentionPeriod": "7776000", "isLocked": true });
    resource["defaultEventBasedHold"] = json!(true);
    let plan = plan(&config, &found("demo", resource), &[]);
    let told = plan.buckets[0].warnings.join("\n");
    for expected in [
        "COLDLINE is billed for 90d at least",
        "retention_lock 60d is longer",
        "BigQuery extracts",
        "for 7d more",
        "held",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert!(plan.buckets[0].problems[0].contains("is locked for 90d"));
    assert!(!plan.buckets[0].can_be_locked);
}

#[test]
fn history_is_changed_only_when_it_is_asked_for() {
    let asked =
        parse(&format!("{DAILY}[buckets]\nsoft_delete = \"0s\"\nversioning = true\nkeep_noncurrent = \"30d\"\n"));
    let plan = plan(&asked, &found("demo", settled(ours())), &[]);
    let patch = &plan.buckets[0].patch;
    assert_eq!(patch["softDeletePolicy"], json!({ "retentionDurationSeconds": "0" }));
    assert_eq!(patch["versioning"], json!({ "enabled": true }));
    assert_eq!(patch["lifecycle"]["rule"][2]["condition"], json!({ "daysSinceNoncurrentTime": 30 }));
}
