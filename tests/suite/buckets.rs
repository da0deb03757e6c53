//! Buckets brought to what they are to be, holds, and what lifecycle rules and retention leave over years.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp, civil::Weekday, tz::TimeZone};
use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{Estate, Run};

const DAILY: &str = "demo-project-backup-daily";

/// One small table, and nothing beside it.
fn configuration(rest: &str) -> String {
    format!(
        "name = \"ai-usage-analytics\"\nhome = \"gs://demo-project-vault-home\"\n[google]\nproject = \"demo-project\"\n\
         endpoint = \"${{STRONGROOM_GOOGLE_ENDPOINT}}\"\ncredentials = \"${{STRONGROOM_GOOGLE_CREDENTIALS}}\"\n\
         [[source]]\nname = \"warehouse\"\nkind = \"bigquery\"\ndataset = \"ai_usage_analytics\"\n\
         tables = [\"dim_model_price\"]\nfingerprint = \"off\"\n{rest}"
    )
}

fn estate(rest: &str) -> Estate {
    let mut estate = Estate::seeded();
    let text = configuration(rest);
    estate.configure(|_| text);
    estate
}

fn bucket(estate: &Estate, name: &str) -> Value {
    estate.get(&format!("/storage/v1/b/{name}"))
}

#[test]
fn buckets_are_planned_as_a_difference_and_applied() {
    let estate = estate(
        "[buckets]\nsoft_delete = \"0s\"\n\
         [tiers.daily]\nkeep = \"30d\"\ndestinations = [\"gs://demo-project-backup-daily\"]\n\
         [tiers.monthly]\nkeep = \"7y\"\ndestinations = [{ place = \"gs://demo-project-cold/vault\", storage_class = \
         \"ARCHIVE\", retention_lock = \"30d\" }, \"/nowhere/at/all\"]\n",
    );
    let by_age = json!({"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]}});
    assert_eq!(estate.call(Method::PATCH, &format!("/storage/v1/b/{DAILY}"), Some(by_age)).0, 200);
    let mark = estate.mark();
    let planned = estate.strongroom(&["buckets", "plan"]);
    assert_eq!(planned.code, 7, "{}", planned.stderr);
    for expected in [
        "- rule: Delete: age 30 (would delete backups of daily whatever retention keeps)",
        "+ rule: Delete: daysSinceCustomTime 14, matchesPrefix daily/",
        "+ the bucket, in US",
        "+ storage class: ARCHIVE",
        "BigQuery extracts monthly into it",
        "/nowhere/at/all",
        "3 buckets differ",
    ] {
        assert!(planned.stdout.contains(expected), "{expected}\n{}", planned.stdout);
    }
    let sent = estate.requests(mark);
    assert!(sent.iter().all(|request| request["method"] == "GET"), "a plan changes nothing: {sent:#?}");

    let applied = estate.json(&["buckets", "apply"]);
    assert_eq!(applied["created"], json!(["demo-project-cold", "demo-project-vault-home"]));
    assert_eq!(applied["changed"], json!([DAILY]));
    estate.strongroom(&["buckets", "plan"]).ok();
    let cold = bucket(&estate, "demo-project-cold");
    assert_eq!((&cold["storageClass"], &cold["location"]), (&json!("ARCHIVE"), &json!("US")));
    assert_eq!(cold["iamConfiguration"]["publicAccessPrevention"], "enforced");
    assert_eq!(cold["retentionPolicy"]["retentionPeriod"], "2592000");
    let rules = bucket(&estate, DAILY)["lifecycle"]["rule"].clone();
    assert!(rules.as_array().unwrap().iter().all(|rule| rule["condition"]["age"] != json!(30)), "{rules}");

    // Locked only when it is named, and then for ever.
    let wrong = estate.strongroom(&["buckets", "apply", "--lock", DAILY]);
    assert_eq!(wrong.code, 4, "{}", wrong.stderr);
    assert!(wrong.stderr.contains("no retention policy to lock"), "{}", wrong.stderr);
    assert_eq!(
        estate.json(&["buckets", "apply", "--lock", "demo-project-cold"])["locked"],
        json!(["demo-project-cold"])
    );
    assert_eq!(bucket(&estate, "demo-project-cold")["retentionPolicy"]["isLocked"], json!(true));
    let shorter =
        std::fs::read_to_string(&estate.config).unwrap().replace("retention_lock = \"30d\"", "retention_lock = \"1d\"");
    std::fs::write(&estate.config, shorter).unwrap();
    let refused = estate.strongroom(&["buckets", "apply"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("nobody can shorten"), "{}", refused.stderr);
}

#[test]
fn a_held_backup_cannot_be_deleted_by_anybody() {
    let estate = estate("[tiers.daily]\nkeep = \"30d\"\ndestinations = [\"gs://demo-project-backup-daily\"]\n");
    estate.strongroom(&["buckets", "apply"]).ok();
    let name = estate.json(&["backup", "--tier", "daily"])["name"].as_str().unwrap().to_string();
    let held = estate.strongroom(&["pin", &name, "--hold", "--reason", "audit"]).ok();
    assert!(held.stdout.contains(&format!("held in gs://{DAILY}")), "{}", held.stdout);
    let keys: Vec<String> = estate.objects(DAILY).into_iter().filter(|key| key.contains(&name)).collect();
    assert!(keys.len() > 3, "{keys:?}");
    let delete = |key: &str| {
        let path = format!("/storage/v1/b/{DAILY}/o/{}", key.replace('/', "%2F"));
        estate.call(Method::DELETE, &path, None).0
    };
    for key in &keys {
        assert_eq!(delete(key), 403, "{key}");
    }
    estate.strongroom(&["unpin", &name]).ok();
    assert_eq!(delete(&keys[0]), 204, "{}", keys[0]);
}

/// A folder backed up twice without a change: the second backup is made of the first one's archive.
fn twice(directory: &std::path::Path) -> (Estate, [String; 2], String) {
    let mut estate = Estate::seeded();
    std::fs::write(directory.join("a.txt"), "content").unwrap();
    let text = format!(
        "name = \"tree\"\n[google]\nproject = \"demo-project\"\nendpoint = \"${{STRONGROOM_GOOGLE_ENDPOINT}}\"\n\
         credentials = \"anonymous\"\n[[source]]\nname = \"files\"\nkind = \"files\"\nroot = \"{}\"\n\
         [tiers.daily]\nkeep = \"30d\"\ndestinations = [\"gs://{DAILY}\"]\n",
        directory.display()
    );
    estate.configure(|_| text);
    let take = || {
        std::thread::sleep(std::time::Duration::from_millis(1100)); // names tell seconds
        estate.json(&["backup", "--tier", "daily"])
    };
    let (first, second) = (take(), take());
    let name = |manifest: &Value| manifest["name"].as_str().unwrap().to_string();
    let key = |manifest: &Value| manifest["sources"][0]["archives"][0]["object"]["key"].as_str().unwrap().to_string();
    assert_eq!(key(&first), key(&second), "it is referred to");
    let (names, key) = ([name(&first), name(&second)], key(&first));
    (estate, names, key)
}

fn object(key: &str) -> String {
    format!("/storage/v1/b/{DAILY}/o/{}", key.replace('/', "%2F"))
}

#[test]
fn what_two_held_backups_are_made_of_stays_held_for_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let (estate, [first, second], key) = twice(directory.path());
    for name in [&first, &second] {
        estate.strongroom(&["pin", name, "--hold"]).ok();
    }
    estate.strongroom(&["unpin", &first]).ok();
    assert_eq!(estate.call(Method::DELETE, &object(&key), None).0, 403, "the second one needs it");
    estate.strongroom(&["unpin", &second]).ok();
    assert_eq!(estate.call(Method::DELETE, &object(&key), None).0, 204);
}

/// A backup as the oracle knows it; days are counted from the first.
struct Kept {
    name: String,
    tier: usize,
    day: i64,
    pinned: bool,
    condemned: Option<i64>,
}

/// What a form of the test lasts and expects.
struct Form {
    days: i64,
    /// Of daily, weekly and monthly.
    keep: [i64; 3],
    grace: i64,
    /// Days on which no daily backup is taken.
    hole: std::ops::Range<i64>,
    /// Days on which the one who runs retention may not delete.
    denied: std::ops::Range<i64>,
    pin: i64,
    unpin: i64,
}

/// The lifecycle deletes so many days after retention would have.
const MARGIN: i64 = 7;
const TIERS: [&str; 3] = ["daily", "weekly", "monthly"];

#[test]
fn over_years_lifecycle_and_retention_leave_what_the_rules_say() {
    let form = match std::env::var("STRONGROOM_YEARS").ok().and_then(|years| years.parse::<i64>().ok()) {
        Some(years) => Form {
            days: 366 * years,
            keep: [30, 84, 365],
            grace: 7,
            hole: 100..140,
            denied: 200..260,
            pin: 20,
            unpin: 300,
        },
        None => Form { days: 17, keep: [5, 14, 365], grace: 1, hole: 8..9, denied: 6..15, pin: 2, unpin: 16 },
    };
    let keep = form.keep;
    let tiers: String = TIERS.iter().zip(keep).fold(String::new(), |text, (tier, keep)| {
        format!("{text}[tiers.{tier}]\nkeep = \"{keep}d\"\ndestinations = [\"gs://demo-project-backup-{tier}\"]\n")
    });
    let estate = estate(&format!("{tiers}[retention]\ngrace = \"{}d\"\n", form.grace));
    let first: Timestamp = "2027-12-25T00:00:00Z".parse().unwrap();
    let vault = Vault { estate: &estate, first };
    vault.run(0, 1, &["buckets", "apply"], "anonymous").ok();
    may_not_delete(&estate);

    let mut kept: Vec<Kept> = Vec::new();
    let (mut taken, mut removed, mut by_lifecycle, mut longest) = (0, 0, 0, 0);
    for day in 0..form.days {
        let date = first.checked_add(SignedDuration::from_hours(24 * day)).unwrap().to_zoned(TimeZone::UTC).date();
        let due = [!form.hole.contains(&day), date.weekday() == Weekday::Sunday, date.day() == 1];
        for (tier, hour) in [(0, 2), (1, 3), (2, 4)].into_iter().filter(|(tier, _)| due[*tier]) {
            let run = vault.run(day, hour, &["--json", "backup", "--tier", TIERS[tier]], "anonymous").ok();
            let name = run.data()["name"].as_str().unwrap().to_string();
            kept.push(Kept { name, tier, day, pinned: false, condemned: None });
            taken += 1;
        }
        if day == form.pin || day == form.unpin {
            let pinned = day == form.pin;
            let backup = kept.iter_mut().find(|backup| backup.tier == 0 && backup.day == form.pin).expect("it is kept");
            vault.run(day, 4, &[if pinned { "pin" } else { "unpin" }, &backup.name], "anonymous").ok();
            backup.pinned = pinned;
        }
        let denied = form.denied.contains(&day);
        let retention = vault.run(day, 5, &["retention"], if denied { "env:PRUNER_TOKEN" } else { "anonymous" });
        assert!(retention.code == 0 || (denied && retention.code == 3), "day {day}: {}", retention.stderr);

        let newest: Vec<i64> =
            (0..3).map(|tier| kept.iter().filter(|b| b.tier == tier).map(|b| b.day).max().unwrap_or(0)).collect();
        kept.retain_mut(|backup| {
            let age = newest[backup.tier] - backup.day;
            if age == 0 || age < keep[backup.tier] || backup.pinned {
                backup.condemned = None;
                return true;
            }
            let condemned = *backup.condemned.get_or_insert(day);
            let due = if denied { condemned + form.grace + MARGIN } else { condemned + form.grace };
            let gone = day > condemned && day >= due;
            removed += i32::from(gone && !denied);
            by_lifecycle += i32::from(gone && denied);
            longest = longest.max(day - backup.day);
            !gone
        });
        let expected: BTreeSet<&str> = kept.iter().map(|backup| backup.name.as_str()).collect();
        let there = listed(&estate);
        let there: BTreeSet<&str> = there.iter().map(String::as_str).collect();
        let wrong: Vec<&&str> = there.symmetric_difference(&expected).collect();
        assert!(wrong.is_empty(), "day {day} ({date}): {wrong:?}\n{}", retention.stdout);
    }
    let left = vault.run(form.days, 1, &["verify", "--all"], "anonymous").ok();
    assert!(removed > 0 && by_lifecycle > 0, "both have removed: {removed}, {by_lifecycle}");
    println!(
        "vault: {} days, {taken} backups, {removed} removed by retention, {by_lifecycle} by the lifecycle, {} left and whole, \
         the oldest removed after {longest} days; every day as the rules say\n{}",
        form.days,
        kept.len(),
        left.stdout.lines().last().unwrap_or_default()
    );
}

/// Retention may be run by somebody who may do everything in the buckets of backups but delete.
fn may_not_delete(estate: &Estate) {
    let table = json!({"principals": [{"token": "pruner", "email": "pruner@demo.example", "grants": [
        {"permissions": ["*"], "resource": "projects/_/buckets/demo-project-vault-home*"},
        {"permissions": ["storage.objects.create", "storage.objects.get", "storage.objects.list", "storage.objects.update",
            "storage.buckets.get"], "resource": "projects/_/buckets/demo-project-backup-*"},
    ]}]});
    assert_eq!(estate.call(Method::PUT, "/_sandbox/permissions", Some(table)).0, 200);
}

/// The backups that have a manifest.
fn listed(estate: &Estate) -> Vec<String> {
    let name =
        |key: String| key.strip_suffix("/manifest.json").and_then(|key| key.rsplit('/').next().map(str::to_string));
    TIERS.iter().flat_map(|tier| estate.objects(&format!("demo-project-backup-{tier}"))).filter_map(name).collect()
}

struct Vault<'a> {
    estate: &'a Estate,
    first: Timestamp,
}

impl Vault<'_> {
    /// Sets both clocks and runs the program. Each day is ten seconds late on the one before: "exactly so many days" is over.
    fn run(&self, day: i64, hour: i64, args: &[&str], credentials: &str) -> Run {
        let at = self.first.checked_add(SignedDuration::from_secs(day * 86_410 + hour * 3600)).unwrap();
        let clock = json!({"now": at.to_string()});
        assert_eq!(self.estate.call(Method::PUT, "/_sandbox/clock", Some(clock)).0, 200);
        let ahead = at.as_millisecond() - Timestamp::now().as_millisecond();
        let mut command = self.estate.command(args);
        command.env("STRONGROOM_TEST_CLOCK_AHEAD_MS", ahead.to_string());
        command.env("STRONGROOM_GOOGLE_CREDENTIALS", credentials).env("PRUNER_TOKEN", "pruner");
        Run::of(&command.output().expect("strongroom runs"))
    }
}
