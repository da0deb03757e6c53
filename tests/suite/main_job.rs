//! The main job as its operators see it: back up, lose everything, restore, and nothing is missing.

use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{DATASET, Estate, JOB, PAUSED_JOB, PROJECT, SHEET};

#[test]
fn everything_that_was_lost_comes_back() {
    let estate = Estate::seeded();
    let (before, sheet) = (estate.contents(DATASET), estate.sheet());
    assert!(before.values().map(Vec::len).sum::<usize>() > 10_000, "real data is in it");
    let definitions = definitions(&estate, DATASET);

    for tier in ["daily", "weekly", "monthly"] {
        let manifest = estate.json(&["backup", "--tier", tier]);
        assert_eq!(manifest["tier"], tier);
        let formats: Vec<&str> = manifest["sources"][0]["tables"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t["format"].as_str().unwrap())
            .collect();
        let expected = if tier == "monthly" { "parquet" } else { "avro" };
        assert!(formats.contains(&expected), "{tier}: {formats:?}");
    }
    assert_eq!(estate.job_state(JOB), "ENABLED");
    assert_eq!(estate.job_state(PAUSED_JOB), "PAUSED");
    let listed = estate.json(&["list"]);
    assert_eq!(listed["backups"].as_array().unwrap().len(), 3);

    for tier in ["daily", "monthly"] {
        estate.lose_everything();
        assert_eq!(estate.sheet(), Value::Null);
        let restored = estate.json(&["restore", "latest", "--tier", tier]);
        assert_eq!(restored["differences"], json!([]), "{tier}");
        for table in restored["tables"].as_array().unwrap() {
            assert_eq!(table["proven"], true, "{tier}: {table}");
        }
        assert_eq!(estate.contents(DATASET), before, "{tier}");
        assert_eq!(estate.sheet(), sheet, "{tier}");
        assert_eq!(self::definitions(&estate, DATASET), definitions, "{tier}");
        assert_eq!(estate.job_state(JOB), "ENABLED");
    }
    let validation = estate.json(&["validate", "--backup", "latest"]);
    let verdicts = validation["verdicts"].as_array().unwrap();
    assert!(verdicts.len() > 10 && verdicts.iter().all(|verdict| verdict["state"] == "passed"), "{verdicts:?}");
    estate.strongroom(&["verify", "--all"]).ok();
    estate.strongroom(&["show", "latest"]).ok();
    estate.strongroom(&["status"]).ok();
}

/// The resources of a dataset's tables, without what a restore cannot bring back.
fn definitions(estate: &Estate, dataset: &str) -> Vec<Value> {
    let path = format!("/bigquery/v2/projects/{PROJECT}/datasets/{dataset}/tables");
    let list = estate.get(&format!("{path}?maxResults=1000"));
    let ids = list["tables"].as_array().cloned().unwrap_or_default();
    ids.iter()
        .map(|table| {
            let id = table["tableReference"]["tableId"].as_str().unwrap();
            let mut resource = estate.get(&format!("{path}/{id}"));
            let fields = resource.as_object_mut().unwrap();
            for computed in ["etag", "creationTime", "lastModifiedTime"] {
                fields.remove(computed);
            }
            resource
        })
        .collect()
}

#[test]
fn a_dry_run_changes_nothing() {
    let estate = Estate::seeded();
    estate.strongroom(&["backup", "--tier", "daily"]).ok();
    // A run that died leaves something to recover: its journal is written by hand.
    let mark = estate.mark();
    for args in [
        &["backup", "--tier", "daily", "--dry-run"][..],
        &["backup", "--tier", "monthly", "--dry-run"],
        &["list"],
        &["show"],
        &["verify", "--dry-run"],
        &["verify"],
        &["restore", "--replace", "--dry-run"],
        &["restore", "--into", "scratch", "--dry-run"],
        &["validate", "--dry-run"],
        &["pause", "--dry-run"],
        &["resume", "--dry-run"],
        &["recover", "--dry-run"],
        &["status"],
    ] {
        let run = estate.strongroom(args).ok();
        assert!(!run.stdout.is_empty(), "{args:?} says nothing");
    }
    let mutating: Vec<Value> =
        estate.requests(mark).into_iter().filter(|request| request["mutating"] == true).collect();
    assert!(estate.requests(mark).len() > 50, "requests are logged");
    assert!(mutating.is_empty(), "{mutating:#?}");
}

#[test]
fn a_restore_never_goes_over_data_unasked() {
    let estate = Estate::seeded();
    estate.strongroom(&["backup"]).ok();
    let before = estate.contents(DATASET);
    let sheet = estate.sheet();

    let mark = estate.mark();
    let refused = estate.strongroom(&["restore"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(
        refused.stderr.contains("never overwrites data unasked") && refused.stderr.contains("--replace"),
        "{refused:?}"
    );
    assert!(estate.requests(mark).iter().all(|request| request["mutating"] == false));

    // Beside it: the source is left alone, ingestion too.
    let mark = estate.mark();
    let restored = estate.json(&["restore", "--into", "drill_scratch"]);
    assert_eq!(restored["differences"], json!([]));
    let beside = estate.contents("drill_scratch");
    assert_eq!(before.keys().collect::<Vec<_>>(), beside.keys().collect::<Vec<_>>());
    for (table, rows) in &before {
        assert_eq!(&beside[table], rows, "{table}");
    }
    assert_eq!((estate.contents(DATASET), estate.sheet()), (before.clone(), sheet));
    let touched = estate.requests(mark).into_iter().filter(|r| r["mutating"] == true);
    for request in touched {
        let path = request["path"].as_str().unwrap_or_default().to_string();
        assert!(!path.contains(":pause") && !path.contains(&format!("datasets/{DATASET}/")), "{request}");
    }

    // One table, changed since, replaced; a snapshot of it is kept.
    let table = "fct_cost_daily";
    estate.query(&format!("DELETE FROM `{PROJECT}.{DATASET}.{table}` WHERE TRUE"));
    estate.query(&format!("INSERT INTO `{PROJECT}.{DATASET}.dim_api_key_user` SELECT * FROM `{PROJECT}.{DATASET}.dim_api_key_user` LIMIT 1"));
    let changed = estate.contents(DATASET);
    let restored = estate.json(&["restore", "--table", table, "--replace"]);
    assert_eq!(restored["tables"].as_array().unwrap().len(), 1);
    let after = estate.contents(DATASET);
    assert_eq!(after[table], before[table]);
    assert_eq!(after["dim_api_key_user"], changed["dim_api_key_user"], "only what was asked for");

    let restored = estate.json(&["restore", "--table", "dim_*", "--replace"]);
    assert_eq!(restored["differences"], json!([]));
    assert_eq!(estate.contents(DATASET), before);
    let snapshots = estate.contents("ai_usage_analytics_snapshots");
    assert!(
        snapshots.keys().any(|name| name.starts_with("dim_api_key_user_before_restore_")),
        "{:?}",
        snapshots.keys()
    );

    let unknown = estate.strongroom(&["restore", "--table", "nothing_like_it", "--replace"]);
    assert_eq!(unknown.code, 4, "{unknown:?}");
    assert!(unknown.stderr.contains("matches no table"), "{unknown:?}");
}

#[test]
fn the_pause_is_short() {
    let estate = Estate::new(&["--seed", "ai-usage-analytics"]);
    let path = format!("/bigquery/v2/projects/{PROJECT}/datasets/{DATASET}/tables");
    for i in 0..200 {
        let body = json!({
            "tableReference": {"projectId": PROJECT, "datasetId": DATASET, "tableId": format!("small_{i:03}")},
            "schema": {"fields": [{"name": "id", "type": "INTEGER", "mode": "REQUIRED"}]},
        });
        estate.post(&path, body);
    }
    let mark = estate.mark();
    let manifest = estate.json(&["backup"]);
    assert_eq!(manifest["sources"][0]["tables"].as_array().unwrap().len(), 205);
    let requests = estate.requests(mark);
    let at = |what: &dyn Fn(&Value) -> bool| -> Vec<u64> {
        requests.iter().filter(|r| what(r)).map(|r| r["seq"].as_u64().expect("a number")).collect()
    };
    let job = |kind: &'static str| {
        move |request: &Value| {
            request["name"] == "bigquery.jobs.insert" && request["body"]["configuration"][kind].is_object()
        }
    };
    let ends_with =
        |end: &'static str| move |r: &Value| r["method"] == "POST" && r["path"].as_str().unwrap().ends_with(end);
    let (pause, resume) = (at(&ends_with(":pause")), at(&ends_with(":resume")));
    let (snapshots, extracts) = (at(&job("copy")), at(&job("extract")));
    assert_eq!((pause.len(), resume.len(), snapshots.len()), (1, 1, 205), "one job runs, one was paused already");
    assert!(pause[0] < snapshots[0] && snapshots[204] < resume[0] && resume[0] < extracts[0]);

    // In between: only what drain and snapshot need.
    let between = requests.iter().filter(|r| (pause[0] + 1..resume[0]).contains(&r["seq"].as_u64().unwrap()));
    for request in between {
        let name = request["name"].as_str().unwrap_or_default();
        let allowed = [
            "bigquery.tables.get",
            "bigquery.jobs.list",
            "bigquery.jobs.insert",
            "bigquery.jobs.get",
            "bigquery.jobs.query",
            "bigquery.jobs.getQueryResults",
            // Whether somebody resumed ingestion during the cut.
            "cloudscheduler.projects.locations.jobs.get",
        ];
        // The journal and the lease's renewal are written all along.
        let own = request["path"].as_str().unwrap_or_default().contains("/o") && name.starts_with("storage.objects");
        assert!(allowed.contains(&name) || own, "{name} while ingestion is paused");
    }
    let seconds = |a: &Value, b: &Value| {
        let at = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        at(b).duration_since(at(a)).as_secs_f64()
    };
    let paused = seconds(&manifest["pause"]["paused_at"], &manifest["pause"]["resumed_at"]);
    let total = seconds(&manifest["started_at"], &manifest["committed_at"]);
    assert!(paused < total, "{paused} {total}");
    let text = estate.strongroom(&["show", "latest"]).ok().stdout;
    assert!(text.contains("ingestion paused"), "{text}");
    println!("205 tables: ingestion paused {paused:.2} s of {total:.2} s");
}

#[test]
fn bad_input_gets_one_clear_error_and_changes_nothing() {
    let mut estate = Estate::seeded();
    estate.strongroom(&["backup"]).ok();

    let refused = |estate: &Estate, args: &[&str], code: i32, texts: &[&str]| {
        let mark = estate.mark();
        let run = estate.strongroom(args);
        assert_eq!(run.code, code, "{args:?}: {run:?}");
        for text in texts {
            assert!(run.stderr.contains(text), "{args:?} should say '{text}': {}", run.stderr);
        }
        let changed: Vec<Value> = estate.requests(mark).into_iter().filter(|r| r["mutating"] == true).collect();
        assert!(changed.is_empty(), "{args:?}: {changed:#?}");
    };

    // Five errors at once.
    estate.configure(|text| {
        text.replace("name = \"ai-usage-analytics\"", "name = \"../x\"")
            .replace("dataset = \"ai_usage_analytics\"", "datset = \"x\"")
            .replace("keep = \"30d\"", "keep = \"soon\"")
            .replace("format = \"parquet\"", "format = \"xml\"")
            .replace("drain_timeout = \"10m\"", "drain_timeout = 10")
    });
    refused(
        &estate,
        &["backup"],
        2,
        &["name:", "datset", "tiers.daily.keep", "tiers.monthly.format", "ingestion.drain_timeout"],
    );
    // An unknown table, tab and scheduler job, and a bucket that is not there: all four.
    estate.configure(|text| {
        text.replace("# tables = [\"*\"]  ", "tables = [\"fct_*\", \"no_such_table\"] # ")
            .replace("tabs = [\"mappings\"]", "tabs = [\"no_such_tab\"]")
            .replace("jobs/daily-usage-analytics", "jobs/no-such-job")
            .replace("-daily\"", "-nowhere\"")
    });
    let missing =
        ["no_such_table", "no_such_tab", "no-such-job", "demo-project-backup-nowhere: does not exist", "4 things"];
    refused(&estate, &["backup"], 4, &missing);
    estate.configure(|text| text.replace("dataset = \"ai_usage_analytics\"", "dataset = \"elsewhere\""));
    refused(&estate, &["backup"], 1, &["elsewhere", "not found"]);
    estate.configure(|text| text);
    refused(&estate, &["backup", "--tier", "hourly"], 4, &["hourly", "daily, monthly, weekly"]);
    refused(&estate, &["show", "no-such-backup"], 10, &["no backup 'no-such-backup'", "strongroom list"]);
    refused(&estate, &["restore", "--at", "2001-01-01T00:00:00Z"], 10, &["2001-01-01"]);
    refused(&estate, &["frobnicate"], 2, &["frobnicate"]);
    estate.config = "no-such-file.toml".into();
    refused(&estate, &["list"], 2, &["no-such-file.toml", "--config"]);
}

#[test]
fn what_was_tampered_with_is_found() {
    let estate = Estate::seeded();
    let manifest = estate.json(&["backup"]);
    let bucket = "demo-project-backup-daily";
    let name = manifest["name"].as_str().unwrap();
    let object = |key: &str| format!("/storage/v1/b/{bucket}/o/{}", key.replace('/', "%2F"));
    let read = |key: &str| -> Vec<u8> {
        let url = format!("{}{}?alt=media", estate.sandbox.endpoint(), object(key));
        estate.block_on(async { reqwest::get(url).await.unwrap().bytes().await.unwrap().to_vec() })
    };
    let write = |key: &str, bytes: Vec<u8>| {
        let url = format!(
            "{}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={}",
            estate.sandbox.endpoint(),
            key.replace('/', "%2F")
        );
        let response = estate.block_on(async { reqwest::Client::new().post(url).body(bytes).send().await.unwrap() });
        assert!(response.status().is_success(), "{response:?}");
    };

    // One byte of a data file.
    let key = manifest["sources"][0]["tables"][0]["objects"][0]["key"].as_str().unwrap().to_string();
    let good = read(&key);
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    write(&key, bad);
    let run = estate.strongroom(&["--json", "verify", name]);
    assert_eq!(run.code, 12, "{run:?}");
    assert_eq!(run.data()[0]["findings"][0]["object"], key.as_str());
    assert_eq!(run.data()[0]["findings"][0]["kind"], "corrupt");
    // Gone.
    estate.delete(&object(&key));
    let run = estate.strongroom(&["--json", "verify", name]);
    assert_eq!((run.code, run.data()[0]["findings"][0]["kind"].as_str()), (22, Some("missing")));
    write(&key, good);
    estate.strongroom(&["verify", name]).ok();

    // A definition that was changed is not restored from, and nothing is changed.
    let meta = manifest["sources"][0]["tables"][0]["meta"]["key"].as_str().unwrap().to_string();
    let good = read(&meta);
    write(&meta, [good.as_slice(), b" "].concat());
    estate.lose_everything();
    let run = estate.strongroom(&["restore"]);
    assert_eq!(run.code, 12, "{run:?}");
    assert!(run.stderr.contains("is not what was written"), "{run:?}");
    let (status, _) = estate.call(Method::GET, &format!("/bigquery/v2/projects/{PROJECT}/datasets/{DATASET}"), None);
    assert_eq!((status, estate.job_state(JOB).as_str()), (404, "ENABLED"));
    write(&meta, good);

    // The manifest, truncated; and one of a newer version.
    let manifest_key = format!("{}/manifest.json", key.split("/data/").next().unwrap());
    let good = read(&manifest_key);
    write(&manifest_key, good[..good.len() / 2].to_vec());
    let run = estate.strongroom(&["restore", name]);
    assert_eq!(run.code, 12, "{run:?}");
    assert!(run.stderr.contains("truncated"), "{run:?}");
    let newer = String::from_utf8(good.clone()).unwrap().replacen("\"format\": 1", "\"format\": 99", 1);
    write(&manifest_key, newer.into_bytes());
    let run = estate.strongroom(&["show", name]);
    assert_eq!(run.code, 12, "{run:?}");
    assert!(run.stderr.contains("format 99"), "{run:?}");
    assert_eq!(estate.strongroom(&["list"]).code, 12);
    write(&manifest_key, good);
    estate.strongroom(&["restore", name]).ok();
}

#[test]
fn ingestion_is_paused_and_resumed_by_hand() {
    let estate = Estate::seeded();
    let paused = estate.json(&["pause"]);
    assert_eq!((paused["changed"].as_array().unwrap().len(), estate.job_state(JOB).as_str()), (1, "PAUSED"));
    // A backup of an estate that a person has paused leaves it paused.
    let manifest = estate.json(&["backup"]);
    assert_eq!((manifest["pause"].clone(), estate.job_state(JOB).as_str()), (Value::Null, "PAUSED"));
    assert_eq!(estate.strongroom(&["status"]).code, 5);
    estate.strongroom(&["resume"]).ok();
    assert_eq!(estate.job_state(JOB), "ENABLED");
    estate.strongroom(&["status"]).ok();
    // By hand, before a change.
    let manual = estate.json(&["backup", "--manual", "before the change"]);
    let name = manual["name"].as_str().unwrap();
    assert!(name.ends_with("_before_the_change"), "{name}");
    let again = estate.strongroom(&["backup", "--manual", "before the change"]);
    let same_minute = again.code == 1 && again.stderr.contains("was begun already");
    assert!(same_minute || again.code == 0, "{again:?}");
    estate.strongroom(&["verify", name]).ok();
    // Cells keep their types, and a text that looks like a formula stays a text.
    let range = format!("/v4/spreadsheets/{SHEET}/values/mappings!J1:L2?valueInputOption=RAW");
    let body = json!({"values": [["=1+1", true, 0.1], ["", "é", 1e15]]});
    let (status, answer) = estate.call(Method::PUT, &range, Some(body));
    assert_eq!(status, 200, "{answer}");
    let typed = |estate: &Estate| {
        estate.get(&format!("/v4/spreadsheets/{SHEET}/values/mappings!A1:L5?valueRenderOption=FORMULA"))
    };
    let (sheet, formulas) = (estate.sheet(), typed(&estate));
    estate.strongroom(&["backup", "--tier", "weekly"]).ok();
    estate.lose_everything();
    estate.strongroom(&["restore", "--tier", "weekly"]).ok();
    assert_eq!((estate.sheet(), typed(&estate)), (sheet, formulas));
}
