//! Four kinds of storage: what a store promises, on real servers, and backups on storage that BigQuery does not reach. They go
//! and come by way of staging, which is empty afterwards.

use serde_json::{Value, json};
use strongroom::model::Failure;
use strongroom::store::{Store, conformance};

use crate::clouds::{self, ACCOUNT, ACCOUNT_KEY, BUCKET};
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

/// How long the generated stream is: `STRONGROOM_STREAM_BYTES=5368709120` for the long form.
fn stream_bytes() -> u64 {
    std::env::var("STRONGROOM_STREAM_BYTES").ok().and_then(|text| text.parse().ok()).unwrap_or(40 << 20)
}

/// All that a store promises, a long stream in bounded memory, and what a missing bucket is.
async fn conforms(what: &str, store: &dyn Store, missing: &dyn Store) {
    let begin = std::time::Instant::now();
    conformance::run(store).await;
    let suite = begin.elapsed();
    let (begin, size) = (std::time::Instant::now(), stream_bytes());
    conformance::long_stream(store, size).await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default().trim().to_string();
    println!(
        "vault: conformance of {what}: suite {:.1} s; a stream of {size} bytes there and back {:.1} s, peak memory {peak}",
        suite.as_secs_f64(),
        begin.elapsed().as_secs_f64()
    );
    assert!(store.site().await.unwrap().is_some());
    assert_eq!(missing.site().await.unwrap(), None, "a missing bucket is no place");
    for outcome in [
        missing.head("a").await.map(drop),
        missing.list("").await.map(drop),
        missing.put_if_absent("a", "x".into()).await.map(drop),
        missing.get("a").await.map(drop),
    ] {
        assert!(matches!(outcome, Err(Failure::NotFound { .. })), "{outcome:?}");
    }
}

#[test]
fn s3_keeps_what_a_store_promises() {
    let Some(server) = clouds::s3() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = server.s3_store("some/prefix");
    assert_eq!(store.describe(), "s3://vault/some/prefix");
    runtime.block_on(async {
        let missing = clouds::s3_at(&server.endpoint, "no-such-bucket");
        conforms("S3 (moto)", &store, &missing).await;
    });
}

#[test]
fn azure_keeps_what_a_store_promises() {
    let Some(server) = clouds::azure() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = server.azure_store(BUCKET, "some/prefix");
    assert_eq!(store.describe(), "az://vault/some/prefix");
    runtime.block_on(async {
        conforms("Azure (Azurite)", &store, &server.azure_store("no-such-container", "")).await;
    });
}

/// What the program finds S3 and Azure by.
fn with_clouds(estate: &mut Estate, s3: &clouds::Server, azure: &clouds::Server) {
    estate.environment = vec![
        ("AWS_ACCESS_KEY_ID".into(), "test".into()),
        ("AWS_SECRET_ACCESS_KEY".into(), "hidden-key".into()),
        ("AZURE_STORAGE_KEY".into(), ACCOUNT_KEY.into()),
    ];
    let text = std::fs::read_to_string(&estate.config).unwrap();
    let (s3, azure) = (&s3.endpoint, &azure.endpoint);
    let sections = format!("[s3]\nendpoint = \"{s3}\"\n[azure]\naccount = \"{ACCOUNT}\"\nendpoint = \"{azure}\"\n");
    estate.configure(|_| format!("{text}\n{sections}"));
}

#[test]
fn a_backup_on_each_kind_of_storage_comes_back_and_so_does_one_on_all_four() {
    let (Some(s3), Some(azure)) = (clouds::s3(), clouds::azure()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().to_str().unwrap();
    let places = ["gs://demo-project-backup-daily", "s3://vault/a/b", "az://vault/a/b", directory];
    for (n, place) in places.iter().enumerate() {
        // The primary is of this kind; the last has copies on all the others.
        let all: Vec<&str> = std::iter::once(*place).chain(places.iter().copied().filter(|p| p != place)).collect();
        let destinations = if n == 1 { all.as_slice() } else { &all[..1] };
        let mut estate = estate(destinations, true);
        with_clouds(&mut estate, &s3, &azure);
        let begin = std::time::Instant::now();
        let manifest = estate.json(&["backup"]);
        estate.strongroom(&["verify"]).ok();
        let (before, sheet) = (estate.contents(DATASET), estate.sheet());
        let restored = restores(&estate);
        assert_eq!((estate.contents(DATASET), estate.sheet()), (before, sheet), "{place}");
        let tables = restored["tables"].as_array().unwrap().len();
        let rows = restored["tables"].as_array().unwrap().iter().map(|t| t["row_count"].as_u64().unwrap()).sum::<u64>();
        println!(
            "vault: {} destination(s), {place} first: {tables} tables, {rows} rows backed up, verified, lost, restored, compared in {:.1} s",
            destinations.len(),
            begin.elapsed().as_secs_f64()
        );
        if n == 1 {
            // Every copy holds the same bytes.
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let key = manifest["sources"][0]["tables"][0]["objects"][0]["key"].as_str().unwrap();
            let there = std::fs::read(std::path::Path::new(directory).join(key)).unwrap();
            runtime.block_on(async {
                assert_eq!(s3.s3_store("a/b").get(key).await.unwrap().0, there);
                assert_eq!(azure.azure_store(BUCKET, "a/b").get(key).await.unwrap().0, there);
            });
            // The primary is emptied: the next copy stands in without being told.
            runtime.block_on(async {
                for info in s3.s3_store("a/b").list("daily/").await.unwrap() {
                    if info.key.contains("/data/") {
                        s3.s3_store("a/b").delete(&info.key).await.unwrap();
                    }
                }
            });
            restores(&estate);
        }
        // The next one begins with an empty vault.
        std::fs::remove_dir_all(directory).unwrap();
        std::fs::create_dir(directory).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            for store in [s3.s3_store("a/b"), azure.azure_store(BUCKET, "a/b")] {
                for info in store.list("").await.unwrap() {
                    store.delete(&info.key).await.unwrap();
                }
            }
        });
    }
}

#[test]
fn credentials_that_are_wrong_are_told_without_being_shown() {
    let (Some(s3), Some(azure)) = (clouds::s3(), clouds::azure()) else { return };
    let mut estate = estate(&["az://vault"], true);
    with_clouds(&mut estate, &s3, &azure);
    let wrong = "aGlkZGVuLXdyb25nLWtleQ==";
    estate.environment.retain(|(name, _)| name != "AZURE_STORAGE_KEY");
    let none = estate.strongroom(&["list"]);
    assert_ne!(none.code, 0, "{none:?}");
    estate.environment.push(("AZURE_STORAGE_KEY".into(), wrong.into()));
    let denied = estate.strongroom(&["list"]);
    assert_ne!(denied.code, 0, "{denied:?}");
    assert!(denied.stderr.contains("az://vault") && denied.stderr.contains("permission denied"), "{denied:?}");
    assert!(!format!("{denied:?}").contains(wrong), "{denied:?}");
}
