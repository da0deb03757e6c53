//! Policies as an operator sees them: backups before a change, by hand and in an emergency; how many copies there must be; the index,
//! the statistics, and what `status` tells.

use std::path::Path;

use serde_json::{Value, json};

use crate::estate::Estate;
use crate::warehouse;

const PRIMARY: &str = "demo-project-backup-daily";
const COPY: &str = "vault-copy";

/// One small table, kept in two buckets and a directory.
fn estate(directory: &Path) -> Estate {
    let mut estate = Estate::seeded();
    warehouse::bucket(&estate, COPY, "EU");
    configure(&mut estate, directory, |text| text);
    estate
}

fn configure(estate: &mut Estate, directory: &Path, change: impl FnOnce(String) -> String) {
    let local = directory.display().to_string();
    estate.configure(|text| {
        let small = "dataset = \"ai_usage_analytics\"\ntables = [\"dim_model_price\"]";
        let text = text.replace("dataset = \"ai_usage_analytics\"", small);
        let validation =
            "[validation]\nqueries = \"builtin\"                # or a folder of .sql files beside this file\n";
        let text = text.replace(validation, "");
        let places = format!(
            "[\"gs://${{BACKUP_BUCKET_PREFIX}}-daily\", {{ place = \"gs://{COPY}\", offsite = true }}, \"{local}\"]\n\
             copies = {{ count = 3, kinds = 2, offsite = 1 }}"
        );
        let text = text.replace("[\"gs://${BACKUP_BUCKET_PREFIX}-daily\"]", &places);
        change(format!("{text}\n[retention]\ngrace = \"0s\"\n[watch]\nfree_space_below = 0.0\n"))
    });
}

fn index(estate: &Estate, bucket: &str) -> Value {
    estate.get(&format!("/storage/v1/b/{bucket}/o/backup_metadata.json?alt=media"))
}

#[test]
fn three_copies_on_two_kinds_one_offsite() {
    let directory = tempfile::tempdir().unwrap();
    let mut estate = estate(directory.path());
    let name = estate.json(&["backup"])["name"].as_str().unwrap().to_string();
    let status = estate.strongroom(&["status"]).ok();
    assert!(status.stdout.contains("3 of 3") && status.stdout.contains("met"), "{}", status.stdout);
    let copies = estate.json(&["status"])["copies"][0].clone();
    assert_eq!((&copies["copies"], &copies["kinds"], &copies["offsite"]), (&json!(3), &json!(2), &json!(2)));

    // A copy is lost, and with it a kind of storage.
    let folder = std::fs::read_dir(directory.path().join("daily")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_dir_all(&folder).unwrap();
    let status = estate.strongroom(&["status"]);
    assert_eq!(status.code, 5, "{status:?}");
    let told = format!("{name} has 2 of 3 copies, 1 of 2 kinds of storage");
    assert!(status.stdout.contains(&told) && status.stdout.contains("strongroom repair"), "{}", status.stdout);
    estate.strongroom(&["repair", "--all"]).ok();
    estate.strongroom(&["status"]).ok();

    // What the destinations cannot give is refused before anything is done.
    configure(&mut estate, directory.path(), |text| text.replace("kinds = 2", "kinds = 3"));
    let refused = estate.strongroom(&["backup", "--dry-run"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("2 of 3 kinds of storage"), "{}", refused.stderr);
    configure(&mut estate, directory.path(), |text| text.replace("count = 3, kinds = 2", "count = 1, kinds = 2"));
    assert_eq!(estate.strongroom(&["status"]).code, 2, "two kinds in one copy");
}

#[test]
fn a_backup_before_a_change_is_kept_until_the_change_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let mut estate = estate(directory.path());
    configure(&mut estate, directory.path(), |text| {
        text.replace("grace = \"0s\"", "grace = \"0s\"\nkeep_pre_change = \"0s\"\nkeep_manual = \"1d\"")
    });
    assert_eq!(estate.strongroom(&["backup", "--kind", "pre_change"]).code, 2, "a change is described");
    let change =
        ["backup", "--kind", "pre_change", "--description", "new price table", "--ticket", "OPS-17", "--by", "ann"];
    let change = estate.json(&change);
    let name = change["name"].as_str().unwrap();
    assert!(name.ends_with("_new_price_table"), "{name}");
    assert_eq!(change["terms"], json!({"kind": "pre_change", "ticket": "OPS-17", "creator": "ann"}));
    let emergency = ["backup", "--kind", "emergency", "--description", "disk makes noises", "--keep", "5d"];
    let emergency = estate.json(&emergency)["name"].as_str().unwrap().to_string();
    let manual = estate.json(&["backup", "--manual", "for the audit"])["name"].as_str().unwrap().to_string();
    estate.json(&["backup"]);

    let plan = estate.strongroom(&["retention", "--dry-run"]).ok().stdout;
    for told in ["its change is not verified yet", "emergency, to ", "by hand, to "] {
        assert!(plan.contains(told), "'{told}' is not in {plan}");
    }
    for bucket in [PRIMARY, COPY] {
        let index = index(&estate, bucket);
        let entry = &index["pre_change"][name];
        assert_eq!((&entry["status"], &entry["retention"]), (&json!("pending_verification"), &json!("until_verified")));
        assert_eq!((&entry["change_ticket"], &entry["description"]), (&json!("OPS-17"), &json!("new price table")));
        assert_eq!(entry["expires"], Value::Null);
        let file = entry["files"].as_object().unwrap().iter().next().unwrap();
        assert!(file.0.starts_with("daily/") && file.1["hash"].as_str().unwrap().len() == 64, "{file:?}");
        assert_eq!(index["emergency"][&emergency]["retention"], "days_5");
        assert_eq!(index["manual"][&manual]["purpose"], "for the audit");
        assert_eq!(index["daily"].as_object().unwrap().values().next().unwrap()["status"], "active");
    }
    // With less than a week to go, what a person asked for is told.
    let status = estate.strongroom(&["status"]);
    assert_eq!(status.code, 5, "{status:?}");
    assert!(status.stdout.contains(&format!("{emergency}: is kept to")), "{}", status.stdout);

    let refused = estate.strongroom(&["approve", &manual]);
    assert_eq!(refused.code, 4, "{refused:?}");
    let approved = estate.strongroom(&["approve", name, "--by", "bob", "--note", "prices match"]).ok();
    assert!(approved.stdout.contains("is verified by bob"), "{}", approved.stdout);
    let entry = index(&estate, COPY)["pre_change"][name].clone();
    assert_eq!((&entry["status"], &entry["verified_by"]), (&json!("verified"), &json!("bob")));
    // Rules are counted back from the newest backup: there must be one after the approval.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    estate.json(&["backup"]);
    estate.strongroom(&["retention"]).ok();
    assert_eq!(index(&estate, COPY)["pre_change"][name]["status"], "retired");
    let retained = estate.json(&["retention"]);
    assert_eq!(retained["removed"], json!([name]));
    assert_eq!(index(&estate, PRIMARY)["pre_change"], json!({}));
}

#[test]
fn the_index_is_made_again_and_statistics_add_up() {
    let directory = tempfile::tempdir().unwrap();
    let estate = estate(directory.path());
    let names: Vec<String> = (0..2)
        .map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1100));
            estate.json(&["backup"])["name"].as_str().unwrap().to_string()
        })
        .collect();
    let good = index(&estate, COPY);
    let file = directory.path().join("backup_metadata.json");
    std::fs::write(&file, "nonsense").unwrap();
    estate.strongroom(&["list"]).ok();
    let planned = estate.strongroom(&["catalog", "rebuild", "--dry-run"]).ok();
    assert!(planned.stdout.contains("would be written") && std::fs::read_to_string(&file).unwrap() == "nonsense");
    let rebuilt = estate.json(&["catalog", "rebuild"]);
    assert_eq!(
        rebuilt["written"].as_array().unwrap().len(),
        5,
        "two buckets, a directory, weekly and monthly: {rebuilt}"
    );
    assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).unwrap(), good);

    let stats = estate.json(&["stats"]);
    assert_eq!((&stats["backup_count"], &stats["newest"]["backup"]), (&json!(2), &json!(names[1])));
    assert_eq!(stats["oldest"]["backup"], json!(names[0]));
    let daily = stats["tiers"].as_array().unwrap().iter().find(|tier| tier["tier"] == "daily").unwrap();
    assert_eq!((&daily["backup_count"], &daily["grown_since_previous_bytes"]), (&json!(2), &json!(0)));
    let places = stats["destinations"].as_array().unwrap();
    let of_daily: Vec<&Value> = places.iter().filter(|place| place["tiers"] == json!(["daily"])).collect();
    assert_eq!(of_daily.len(), 3);
    // Each place holds the same, and the manifests and statements beside the objects.
    assert!(of_daily.iter().all(|place| place["size_bytes"] == of_daily[0]["size_bytes"]), "{of_daily:?}");
    assert!(of_daily[0]["size_bytes"].as_u64().unwrap() > stats["size_bytes"].as_u64().unwrap());
    let text = estate.strongroom(&["stats"]).ok().stdout;
    assert!(text.contains("in all: 2 backups") && text.contains("gs://vault-copy"), "{text}");
}
