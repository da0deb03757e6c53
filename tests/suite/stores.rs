//! Backups on storage that BigQuery does not reach: they go and come by way of staging, which is empty afterwards.

use serde_json::{Value, json};

use crate::estate::{DATASET, Estate, PROJECT};
use crate::proxy::{Action, Proxy};

const STAGING: &str = "demo-project-staging";

/// An estate whose daily backups go to these places; `staging` is `gs://demo-project-staging/on/its/way` or nothing.
fn estate(destinations: &[&str], staging: bool) -> Estate {
    let mut estate = Estate::seeded();
    estate.post(&format!("/storage/v1/b?project={PROJECT}"), json!({"name": STAGING, "location": "US"}));
    let places: Vec<String> = destinations.iter().map(|place| format!("\"{place}\"")).collect();
    let line = if staging { format!("staging = \"gs://{STAGING}/on/its/way\"\n") } else { String::new() };
    estate.configure(|text| {
        let text = text.replace("\"gs://${BACKUP_BUCKET_PREFIX}-daily\"", &places.join(", "));
        format!("{line}{text}\n[recover]\ngrace = \"0s\"\n")
    });
    estate
}

/// Everything is lost, and comes back as it was.
fn restores(estate: &Estate) -> Value {
    let (before, sheet) = (estate.contents(DATASET), estate.sheet());
    estate.lose_everything();
    let restored = estate.json(&["restore", "latest"]);
    assert_eq!(restored["differences"], json!([]));
    assert!(restored["tables"].as_array().unwrap().iter().all(|table| table["proven"] == true), "{restored}");
    assert_eq!((estate.contents(DATASET), estate.sheet()), (before, sheet));
    assert_eq!(estate.objects(STAGING), Vec::<String>::new(), "staging is empty after a restore");
    restored
}

#[test]
fn a_directory_is_a_vault_by_way_of_staging() {
    let vault = tempfile::tempdir().unwrap();
    let place = vault.path().to_str().unwrap();
    let estate = estate(&[place], true);
    let planned = estate.strongroom(&["backup", "--dry-run"]).ok().stdout;
    assert!(planned.contains("by way of gs://demo-project-staging/on/its/way, which is emptied"), "{planned}");
    let manifest = estate.json(&["backup"]);
    let keys =
        manifest["sources"][0]["tables"].as_array().unwrap().iter().flat_map(|t| t["objects"].as_array().unwrap());
    let keys: Vec<&str> = keys.map(|object| object["key"].as_str().unwrap()).collect();
    assert!(keys.len() >= 5 && keys.iter().all(|key| vault.path().join(key).is_file()), "{keys:?}");
    assert_eq!(estate.objects(STAGING), Vec::<String>::new(), "staging is empty after a backup");
    estate.strongroom(&["verify"]).ok();
    let planned = estate.strongroom(&["restore", "--replace", "--dry-run"]).ok().stdout;
    assert!(planned.contains("brought to gs://demo-project-staging/on/its/way"), "{planned}");
    restores(&estate);
    let report = estate.json(&["drill"]);
    assert_eq!((report["outcome"].as_str(), &report["findings"]), (Some("passed"), &json!([])), "{report:#}");
    assert_eq!(estate.objects(STAGING), Vec::<String>::new(), "staging is empty after a drill");
}

#[test]
fn a_directory_without_staging_is_refused_with_a_hint() {
    let vault = tempfile::tempdir().unwrap();
    let mut estate = estate(&[vault.path().to_str().unwrap()], false);
    let refused = estate.strongroom(&["backup"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("Cloud Storage only") && refused.stderr.contains("staging = "), "{refused:?}");
    let text = std::fs::read_to_string(&estate.config).unwrap();
    for (staging, expected) in [
        ("s3://bucket", "staging: s3://bucket is no bucket of Cloud Storage"),
        (
            "gs://demo-project-backup-weekly/x",
            "staging: gs://demo-project-backup-weekly/x and gs://demo-project-backup-weekly lie in",
        ),
    ] {
        estate.configure(|_| format!("staging = \"{staging}\"\n{text}"));
        let refused = estate.strongroom(&["backup"]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(expected), "{refused:?}");
    }
}

#[test]
fn a_lost_bucket_is_replaced_by_a_directory_without_being_told() {
    let copy = tempfile::tempdir().unwrap();
    let estate = estate(&["gs://demo-project-backup-daily", copy.path().to_str().unwrap()], true);
    estate.strongroom(&["backup"]).ok();
    for key in estate.objects("demo-project-backup-daily").iter().filter(|key| key.contains("/data/warehouse/")) {
        estate.delete(&format!("/storage/v1/b/demo-project-backup-daily/o/{}", key.replace('/', "%2F")));
    }
    let mark = estate.mark();
    restores(&estate);
    let loads = estate.requests(mark).iter().filter(|r| r.to_string().contains("_restores")).count();
    assert!(loads > 0, "the files were brought to staging");
}

#[test]
fn what_a_failed_run_left_in_staging_is_taken_away() {
    let vault = tempfile::tempdir().unwrap();
    let mut estate = estate(&[vault.path().to_str().unwrap()], true);
    // Nothing can be deleted there at first: the backup fails, and what is left is told.
    let proxy = estate.block_on(Proxy::start(estate.sandbox.endpoint(), |asked, at| {
        if asked == "DELETE" && at.contains(STAGING) { Action::Answer(403, None) } else { Action::Pass }
    }));
    estate.endpoint = Some(proxy.endpoint().into());
    let failed = estate.strongroom(&["backup"]);
    assert_eq!(failed.code, 14, "{failed:?}");
    assert!(failed.stderr.contains("step 'capture' failed") && failed.stderr.contains("recover"), "{failed:?}");
    assert!(!estate.objects(STAGING).is_empty());
    estate.endpoint = None;
    let planned = estate.strongroom(&["recover", "--dry-run"]).ok().stdout;
    assert!(planned.contains("gs://demo-project-staging/on/its/way/daily/"), "{planned}");
    estate.strongroom(&["recover"]).ok();
    assert_eq!(estate.objects(STAGING), Vec::<String>::new());

    // What no journal knows, and what is somebody else's.
    let put = |key: &str| {
        let name = format!("on/its/way/{key}").replace('/', "%2F");
        estate.post(&format!("/upload/storage/v1/b/{STAGING}/o?uploadType=media&name={name}"), json!("x"));
    };
    for key in ["daily/20260101/some_backup/data/a", "_restores/20260101T020000Z-abcd/daily/a", "notes/a"] {
        put(key);
    }
    let planned = estate.json(&["recover", "--dry-run"]);
    assert_eq!(planned["garbage"]["remove"].as_array().unwrap().len(), 2, "{planned}");
    estate.strongroom(&["recover"]).ok();
    assert_eq!(estate.objects(STAGING), ["on/its/way/notes/a"]);
    estate.strongroom(&["backup"]).ok();
}
