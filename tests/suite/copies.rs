//! Copies: what one place has lost comes from another, without being asked for; `repair` makes all of them whole again.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{DATASET, Estate};
use crate::warehouse;

const PRIMARY: &str = "demo-project-backup-daily";
const COPY: &str = "vault-copy";
const STAGING: &str = "vault-staging";

/// The example with three places for its daily tier: two buckets and a directory.
fn estate(directory: &Path) -> Estate {
    let mut estate = Estate::seeded();
    warehouse::bucket(&estate, COPY, "US");
    warehouse::bucket(&estate, STAGING, "US");
    let local = directory.display().to_string();
    estate.configure(|text| {
        let places = format!("[\"gs://${{BACKUP_BUCKET_PREFIX}}-daily\", \"gs://{COPY}\", \"{local}\"]");
        let validation =
            "[validation]\nqueries = \"builtin\"                # or a folder of .sql files beside this file\n";
        let text = text.replace(validation, "");
        let name = "name = \"ai-usage-analytics\"\n";
        let text = text.replacen(name, &format!("{name}staging = \"gs://{STAGING}\"\n"), 1);
        text.replace("[\"gs://${BACKUP_BUCKET_PREFIX}-daily\"]", &places)
    });
    estate
}

fn path(bucket: &str, key: &str) -> String {
    let key = key.replace('/', "%2F").replace('=', "%3D");
    format!("/storage/v1/b/{bucket}/o/{key}")
}

/// Writes something else of the same size.
fn corrupt(estate: &Estate, bucket: &str, key: &str) {
    let size: usize = estate.get(&path(bucket, key))["size"].as_str().unwrap().parse().unwrap();
    let name = key.replace('/', "%2F").replace('=', "%3D");
    let url = format!("/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}");
    let (status, answer) = estate.call(Method::POST, &url, Some(json!("x".repeat(size - 2))));
    assert_eq!((status, answer["size"].as_str()), (200, Some(size.to_string().as_str())), "{answer}");
}

fn of_backup(estate: &Estate, bucket: &str, name: &str) -> Vec<String> {
    estate.objects(bucket).into_iter().filter(|key| key.contains(name)).collect()
}

/// How many objects of each place are whole after a repair or a look.
fn whole(repaired: &Value) -> Vec<(u64, u64)> {
    let places = repaired["backups"].as_array().unwrap().iter().flat_map(|backup| backup["places"].as_array().unwrap());
    places.map(|place| (place["whole_before"].as_u64().unwrap(), place["whole_after"].as_u64().unwrap())).collect()
}

#[test]
fn the_primary_is_emptied_and_all_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let estate = estate(directory.path());
    let name = estate.json(&["backup"])["name"].as_str().unwrap().to_string();
    let (before, sheet) = (estate.contents(DATASET), estate.sheet());
    let total = of_backup(&estate, PRIMARY, &name).len();

    estate.objects(PRIMARY).iter().for_each(|key| estate.delete(&path(PRIMARY, key)));
    assert_eq!(estate.objects(PRIMARY), Vec::<String>::new());
    estate.lose_everything();

    let status = estate.strongroom(&["status"]);
    assert_eq!(status.code, 5);
    assert!(status.stdout.contains("strongroom repair"), "{}", status.stdout);
    let begin = std::time::Instant::now();
    let restored = estate.strongroom(&["restore", "latest"]).ok();
    let took = begin.elapsed();
    assert!(restored.stderr.contains(&format!("read from gs://{COPY}")), "{}", restored.stderr);
    assert!(restored.stderr.contains(&format!("strongroom repair {name}")), "{}", restored.stderr);
    assert_eq!((estate.contents(DATASET), estate.sheet()), (before, sheet));
    estate.strongroom(&["query", &name, "SELECT COUNT(*) FROM dim_model_price"]).ok();

    let planned = estate.json(&["repair", "--all", "--dry-run"]);
    assert_eq!(planned["backups"][0]["objects"].as_array().unwrap().len(), total);
    assert_eq!(of_backup(&estate, PRIMARY, &name), Vec::<String>::new(), "a dry run changes nothing");
    let begin = std::time::Instant::now();
    let repaired = estate.json(&["repair", "--all"]);
    println!(
        "vault: primary emptied: {total} objects; restored from the copy in {:.1} s, repaired in {:.1} s",
        took.as_secs_f64(),
        begin.elapsed().as_secs_f64()
    );
    let total_count = u64::try_from(total).unwrap();
    assert_eq!(whole(&repaired), [(0, total_count), (total_count, total_count), (total_count, total_count)]);
    assert_eq!(of_backup(&estate, PRIMARY, &name), of_backup(&estate, COPY, &name));
    assert_eq!(whole(&estate.json(&["repair", "--all", "--deep"])), vec![(total_count, total_count); 3]);
    estate.strongroom(&["verify", &name]).ok();
}

#[test]
fn a_tenth_of_every_place_is_bad_and_all_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let estate = estate(directory.path());
    let name = estate.json(&["backup"])["name"].as_str().unwrap().to_string();
    let before = estate.contents(DATASET);
    let keys: Vec<String> =
        of_backup(&estate, PRIMARY, &name).into_iter().filter(|key| !key.ends_with("statement.json")).collect();

    // Another tenth in each place, so that none is whole: manifests, definitions and rows among them.
    let manifest = keys.iter().position(|key| key.ends_with("/manifest.json")).unwrap();
    let rows: Vec<usize> = (0..keys.len()).filter(|at| keys[*at].ends_with(".avro")).collect();
    let in_primary = [manifest, rows[0], rows[3]];
    in_primary.iter().for_each(|at| corrupt(&estate, PRIMARY, &keys[*at]));
    // What is bad in both buckets is in the directory only: BigQuery gets it by way of staging.
    let in_copy = [rows[1], rows[2], rows[3]];
    in_copy.iter().for_each(|at| corrupt(&estate, COPY, &keys[*at]));
    // The directory keeps no checksums: what has its size is found by reading only.
    let file = directory.path().join(&keys[rows[1]]);
    let size = std::fs::metadata(&file).unwrap().len() as usize;
    std::fs::write(&file, vec![b'x'; size]).unwrap();
    assert!(in_primary.len() * 10 >= keys.len(), "{}", keys.len());
    estate.lose_everything();

    let verified = estate.strongroom(&["verify", &name]);
    assert_eq!(verified.code, 12, "{verified:?}");
    assert!(verified.stdout.contains("strongroom repair"), "{}", verified.stdout);
    let restored = estate.strongroom(&["restore", &name]).ok();
    assert!(restored.stderr.contains("objects of the backup, or they have changed"), "{}", restored.stderr);
    assert_eq!(estate.contents(DATASET), before);
    assert_eq!(estate.objects(STAGING), Vec::<String>::new());
    estate.strongroom(&["diff", &name]).ok();

    let repaired = estate.json(&["repair", &name]);
    let objects = repaired["backups"][0]["objects"].as_array().unwrap().clone();
    assert_eq!(objects.len(), 7, "{objects:#?}");
    assert!(objects.iter().all(|object| object["state"] == "corrupt" && object["outcome"] == "mended"), "{objects:#?}");
    let again = estate.json(&["repair", &name, "--deep"]);
    assert_eq!(again["backups"][0]["objects"], json!([]));
    estate.strongroom(&["verify", &name]).ok();

    // What is bad everywhere is named.
    for bucket in [PRIMARY, COPY] {
        corrupt(&estate, bucket, &keys[rows[0]]);
    }
    std::fs::remove_file(directory.path().join(&keys[rows[0]])).unwrap();
    let lost = estate.strongroom(&["repair", &name]);
    assert_eq!(lost.code, 12, "{lost:?}");
    assert!(lost.stdout.contains(&format!("{}: missing: LOST", keys[rows[0]])), "{}", lost.stdout);
    let lost = estate.strongroom(&["restore", &name, "--into", "elsewhere"]);
    assert_eq!(lost.code, 12, "{lost:?}");
    println!("vault: {} objects in 3 places, 7 bad: restored, mended; one bad everywhere: named", keys.len());
}
