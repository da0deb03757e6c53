//! What estates hold beside plain tables of plain rows: each comes back, or is refused before anything is changed.

use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{Estate, PROJECT};
use crate::warehouse::{self, TIERS, WAREHOUSE, refused, there_and_back};

/// A statement on the dataset, whose name is written `@`.
#[track_caller]
fn sql(estate: &Estate, text: &str) -> Vec<Vec<Value>> {
    estate.query(&text.replace('@', &format!("{PROJECT}.{WAREHOUSE}")))
}

/// Ids of a table's partitions with their rows.
fn partitions(estate: &Estate, table: &str) -> Vec<Vec<Value>> {
    sql(
        estate,
        &format!(
            "SELECT partition_id, total_rows FROM `@`.INFORMATION_SCHEMA.PARTITIONS WHERE table_name = '{table}' ORDER BY partition_id"
        ),
    )
}

#[test]
fn tables_without_rows_or_columns_come_back() {
    let estate = warehouse::empty(&[]);
    warehouse::make(&estate, "bare", json!({"description": "no columns yet"}));
    let schema = json!({"fields": [{"name": "i", "type": "INTEGER", "mode": "REQUIRED", "description": "a number"}]});
    warehouse::make(&estate, "empty", json!({"schema": schema, "labels": {"is": "empty"}}));
    for tier in TIERS {
        let (manifest, _) = there_and_back(&estate, tier);
        assert_eq!(manifest["sources"][0]["tables"].as_array().map(Vec::len), Some(2));
        for (table, member) in [("bare", "description"), ("empty", "labels")] {
            let resource = estate.get(&warehouse::path(table));
            assert_eq!((resource["numRows"].as_str(), resource[member].is_null()), (Some("0"), false), "{resource}");
        }
        assert_eq!(estate.get(&warehouse::path("empty"))["schema"]["fields"][0]["description"], "a number");
        estate.strongroom(&["verify", "latest"]).ok();
    }
}

#[test]
fn more_partitions_than_a_job_may_write_are_loaded_in_parts() {
    let estate = warehouse::empty(&[]);
    sql(&estate, "CREATE TABLE `@.days` (`day` DATE, n INT64 NOT NULL, note STRING) PARTITION BY `day` CLUSTER BY n");
    sql(
        &estate,
        "CREATE TABLE `@.ranges` (n INT64, s STRING) PARTITION BY RANGE_BUCKET(n, GENERATE_ARRAY(-100, 90000, 10))",
    );
    let fill = |from: &str, to: &str| {
        let days = format!("UNNEST(GENERATE_DATE_ARRAY(DATE '{from}', DATE '{to}')) AS d");
        sql(&estate, &format!("INSERT INTO `@.days` SELECT d, UNIX_DATE(d), CAST(d AS STRING) FROM {days}"));
    };
    fill("2010-01-01", "2016-12-31");
    fill("2017-01-01", "2022-04-27");
    sql(
        &estate,
        "INSERT INTO `@.days` VALUES (NULL, 0, 'nowhere'), (NULL, 1, 'nowhere'), (DATE '2010-01-01', 7, 'again')",
    );
    for (from, to) in [(-100, 20_000), (20_010, 44_890)] {
        sql(
            &estate,
            &format!("INSERT INTO `@.ranges` SELECT n, 'x' FROM UNNEST(GENERATE_ARRAY({from}, {to}, 10)) AS n"),
        );
    }
    sql(&estate, "INSERT INTO `@.ranges` VALUES (NULL, 'none'), (-5000, 'below'), (900000, 'above'), (19, 'within')");
    let tables = ["days", "ranges"];
    let before: Vec<_> = tables.iter().map(|t| (warehouse::rows(&estate, t), partitions(&estate, t))).collect();
    assert_eq!(before[0].1.len(), 4_501, "4,500 days and the rows without one");
    assert_eq!(before[1].1.len(), 4_502);

    let manifest = estate.json(&["backup", "--tier", "avro"]);
    assert_eq!(manifest["sources"][0]["tables"][0]["partition_count"], 4_501);
    warehouse::lose(&estate);
    let planned = estate.strongroom(&["restore", "latest", "--dry-run"]).ok();
    assert!(planned.stdout.contains("in parts"), "{}", planned.stdout);
    let mark = estate.mark();
    let restored = estate.json(&["restore", "latest"]);
    assert_eq!(restored["differences"], json!([]));
    for (table, before) in tables.iter().zip(before) {
        assert!((warehouse::rows(&estate, table), partitions(&estate, table)) == before, "{table}");
    }
    assert_eq!(warehouse::listed(&estate).len(), 2, "nothing is left of the way: {:?}", warehouse::listed(&estate));
    let inserts = estate.requests(mark).into_iter().filter(|request| {
        let query = request["body"]["configuration"]["query"]["query"].as_str();
        query.is_some_and(|sql| sql.starts_with("INSERT INTO"))
    });
    assert_eq!(inserts.count(), 4, "two parts each");
    assert!(warehouse::loads(&estate, mark).iter().all(|load| load["autodetect"] == false));
}

#[test]
fn rows_come_back_into_the_partition_of_their_arrival() {
    let estate = warehouse::empty(&[]);
    sql(&estate, "CREATE TABLE `@.daily` (n INT64, s STRING) PARTITION BY _PARTITIONDATE");
    sql(
        &estate,
        "CREATE TABLE `@.hourly` (n INT64) PARTITION BY TIMESTAMP_TRUNC(_PARTITIONTIME, HOUR) OPTIONS (require_partition_filter = TRUE)",
    );
    for (day, n) in [("2024-02-29", 1), ("2024-03-01", 2), ("2024-03-01", 3), ("2025-12-31", 4)] {
        sql(&estate, &format!("INSERT INTO `@.daily` (_PARTITIONTIME, n, s) VALUES (TIMESTAMP '{day}', {n}, NULL)"));
        let at = format!("TIMESTAMP '{day} 0{n}:00:00'");
        sql(&estate, &format!("INSERT INTO `@.hourly` (_PARTITIONTIME, n) VALUES ({at}, {n})"));
    }
    let all = |estate: &Estate| {
        let daily = sql(estate, "SELECT _PARTITIONTIME AS pt, n FROM `@.daily` ORDER BY n");
        let hourly = sql(
            estate,
            "SELECT _PARTITIONTIME AS pt, n FROM `@.hourly` WHERE _PARTITIONTIME > TIMESTAMP '2000-01-01' ORDER BY n",
        );
        (daily, hourly, partitions(estate, "daily"), partitions(estate, "hourly"))
    };
    let before = all(&estate);
    assert_eq!((before.0.len(), before.1.len(), before.2.len(), before.3.len()), (4, 4, 3, 4));
    for tier in TIERS {
        there_and_back(&estate, tier);
        assert_eq!(all(&estate), before, "{tier}");
        estate.strongroom(&["verify", "latest"]).ok();
    }
}

#[test]
fn rows_that_a_policy_hides_stand_against_a_backup() {
    let estate = warehouse::empty(&[]);
    sql(&estate, "CREATE TABLE `@.sales` AS SELECT n, IF(n < 3, 'EU', 'US') AS region FROM UNNEST([1, 2, 3, 4]) AS n");
    sql(&estate, "CREATE TABLE `@.open` AS SELECT 1 AS n");
    let policy = |id: &str, predicate: &str, grantee: &str| {
        let reference = json!({"projectId": PROJECT, "datasetId": WAREHOUSE, "tableId": "sales", "policyId": id});
        let body = json!({"rowAccessPolicyReference": reference, "filterPredicate": predicate, "grantees": [grantee]});
        estate.post(&format!("{}/rowAccessPolicies", warehouse::path("sales")), body);
    };
    policy("europe", "region = 'EU'", "user:someone@example.com");
    for args in [&["backup"][..], &["backup", "--dry-run"], &["backup", "--tier", "parquet"]] {
        let words = ["warehouse.sales", "0 of 4", "FILTER USING (TRUE)"];
        refused(&estate, &[args, if args.contains(&"--tier") { &[] } else { &["--tier", "avro"] }].concat(), &words);
    }
    // The way out that is named; the policies come back with the table.
    policy("worker", "TRUE", "allUsers");
    let before = warehouse::rows(&estate, "sales");
    assert_eq!(before.len(), 8);
    let policies = |estate: &Estate| {
        let list = estate.get(&format!("{}/rowAccessPolicies", warehouse::path("sales")));
        let each = list["rowAccessPolicies"].as_array().cloned().unwrap_or_default();
        each.iter().map(|p| (p["rowAccessPolicyReference"].clone(), p["filterPredicate"].clone())).collect::<Vec<_>>()
    };
    let saved = policies(&estate);
    assert_eq!(saved.len(), 2);
    there_and_back(&estate, "avro");
    assert_eq!((warehouse::rows(&estate, "sales"), policies(&estate)), (before, saved));
}

#[test]
fn default_expirations_take_nothing_away() {
    let hour = 3_600_000;
    let defaults = json!({"defaultTableExpirationMs": (10 * hour).to_string(), "defaultPartitionExpirationMs": (5 * hour).to_string()});
    let estate = warehouse::beside(&[], defaults.clone());
    warehouse::bucket(&estate, "vault-avro", "US");
    warehouse::bucket(&estate, "vault-parquet", "US");
    let schema = json!({"fields": [{"name": "day", "type": "DATE"}, {"name": "n", "type": "INTEGER"}]});
    for table in ["expiring", "lasting"] {
        warehouse::make(&estate, table, json!({"schema": schema}));
    }
    warehouse::make(&estate, "parted", json!({"schema": schema, "timePartitioning": {"type": "DAY", "field": "day"}}));
    // Two that do not follow the defaults.
    let patch = |table: &str, body: Value| {
        let (status, answer) = estate.call(Method::PATCH, &warehouse::path(table), Some(body));
        assert_eq!(status, 200, "{answer}");
    };
    patch("lasting", json!({"expirationTime": null}));
    patch(
        "parted",
        json!({"expirationTime": null, "timePartitioning": {"type": "DAY", "field": "day", "expirationMs": null}}),
    );
    for table in ["expiring", "lasting", "parted"] {
        sql(&estate, &format!("INSERT INTO `@.{table}` VALUES (DATE '2001-02-03', 1), (DATE '2024-02-29', 2)"));
    }
    let expirations = |estate: &Estate| {
        ["expiring", "lasting", "parted"].map(|table| {
            let found = estate.get(&warehouse::path(table));
            (
                found["numRows"].clone(),
                found["expirationTime"].clone(),
                found["timePartitioning"]["expirationMs"].clone(),
            )
        })
    };
    let before = expirations(&estate);
    assert!(before[0].1.is_string() && before[1].1.is_null() && before[2].2.is_null(), "{before:?}");
    assert!(before.iter().all(|(rows, ..)| rows == "2"), "{before:?}");

    let manifest = estate.json(&["backup", "--tier", "avro"]);
    // The snapshots' own end, not the dataset's default.
    let snapshots = estate.get(&format!("/bigquery/v2/projects/{PROJECT}/datasets/{WAREHOUSE}_snapshots/tables"));
    let ends: Vec<&Value> = snapshots["tables"].as_array().unwrap().iter().map(|t| &t["expirationTime"]).collect();
    let week: jiff::Timestamp =
        manifest["sources"][0]["tables"][0]["snapshot_expires_at"].as_str().unwrap().parse().unwrap();
    assert!(ends.iter().all(|end| end.as_str() == Some(&week.as_millisecond().to_string())), "{ends:?}");

    // The dataset with its defaults is still there, only the tables are lost.
    for table in ["expiring", "lasting", "parted"] {
        estate.delete(&warehouse::path(table));
    }
    assert_eq!(estate.json(&["restore", "latest"])["differences"], json!([]));
    assert_eq!(expirations(&estate), before);
    // All is lost.
    warehouse::lose(&estate);
    assert_eq!(estate.json(&["restore", "latest"])["differences"], json!([]));
    assert_eq!(expirations(&estate), before);
    let dataset = estate.get(&format!("/bigquery/v2/projects/{PROJECT}/datasets/{WAREHOUSE}"));
    for (key, value) in defaults.as_object().unwrap() {
        assert_eq!(&dataset[key], value, "{key}");
    }
    // Nothing vanishes that was not to.
    estate.call(Method::PUT, "/_sandbox/clock", Some(json!({"advance_ms": 9 * hour})));
    assert_eq!(expirations(&estate), before);
}

#[test]
fn rows_in_the_streaming_buffer_are_waited_for_or_nothing_is_taken() {
    let mut estate = warehouse::empty(&["--streaming-buffer-seconds", "4"]);
    sql(&estate, "CREATE TABLE `@.events` (n INT64)");
    let stream = |estate: &Estate, n: i64| {
        let body = json!({"rows": [{"json": {"n": n}}]});
        let answer = estate.post(&format!("{}/insertAll", warehouse::path("events")), body);
        assert_eq!(answer["insertErrors"], Value::Null, "{answer}");
        assert!(estate.get(&warehouse::path("events"))["streamingBuffer"].is_object(), "the row is in the buffer");
    };
    stream(&estate, 1);
    let manifest = estate.json(&["backup", "--tier", "avro"]);
    assert_eq!(manifest["sources"][0]["tables"][0]["row_count"], 1, "the row was waited for");

    warehouse::configure(&mut estate, |text| {
        format!("{text}\n[ingestion]\ndrain_timeout = \"1s\"\nresume_within = \"10m\"\n")
    });
    stream(&estate, 2);
    let run = estate.strongroom(&["backup", "--tier", "parquet"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("warehouse.events") && run.stderr.contains("streaming buffer"), "{run:?}");
    assert_eq!(estate.json(&["list"])["backups"].as_array().map(Vec::len), Some(1), "no half backup");
    assert_eq!(estate.json(&["recover", "--dry-run"])["runs"], json!([]));
}

#[test]
fn a_view_over_a_missing_table_does_not_stop_a_restore() {
    let estate = warehouse::empty(&[]);
    sql(&estate, "CREATE TABLE `@.base` AS SELECT 1 AS n");
    sql(&estate, "CREATE TABLE `@.gone` AS SELECT 2 AS n");
    sql(&estate, "CREATE VIEW `@.sound` AS SELECT n FROM `@.base`");
    sql(&estate, "CREATE VIEW `@.broken` AS SELECT n FROM `@.gone`");
    sql(&estate, "CREATE VIEW `@.above` AS SELECT n FROM `@.broken`");
    estate.delete(&warehouse::path("gone"));
    let planned = estate.strongroom(&["backup", "--tier", "avro", "--dry-run"]).ok();
    assert!(planned.stdout.contains("broken") && planned.stdout.contains("warehouse.gone"), "{}", planned.stdout);
    let manifest = estate.json(&["backup", "--tier", "avro"]);
    assert!(manifest["notes"].to_string().contains("warehouse.gone"), "{}", manifest["notes"]);
    warehouse::lose(&estate);
    let run = estate.strongroom(&["--json", "restore", "latest"]);
    assert_eq!(run.code, 3, "{run:?}");
    let differences = run.data()["differences"].to_string();
    assert!(differences.contains("warehouse.broken") && differences.contains("warehouse.above"), "{differences}");
    let mut listed: Vec<String> = warehouse::listed(&estate).into_iter().map(|(id, _)| id).collect();
    listed.sort();
    assert_eq!(listed, ["base", "sound"]);
    assert_eq!(sql(&estate, "SELECT n FROM `@.sound`"), [["1"]]);
}

#[test]
fn a_column_more_than_a_table_may_have_is_refused() {
    let estate = warehouse::empty(&[]);
    let fields: Vec<Value> = (0..10_001).map(|i| json!({"name": format!("c{i}"), "type": "INTEGER"})).collect();
    let body = json!({
        "tableReference": {"projectId": PROJECT, "datasetId": WAREHOUSE, "tableId": "widest"},
        "schema": {"fields": fields},
    });
    let tables = format!("/bigquery/v2/projects/{PROJECT}/datasets/{WAREHOUSE}/tables");
    let (status, answer) = estate.call(Method::POST, &tables, Some(body));
    assert!(status == 400 && answer.to_string().contains("10000"), "{status} {answer}");
}

#[test]
fn a_bucket_in_another_location_is_refused_with_the_reason() {
    let mut estate = warehouse::beside(&["--check-locations"], json!({"location": "europe-west1"}));
    warehouse::bucket(&estate, "vault-avro", "US");
    warehouse::bucket(&estate, "vault-parquet", "EUROPE-WEST1");
    sql(&estate, "CREATE TABLE `@.t` AS SELECT 1 AS n");
    let words = ["gs://vault-avro", "is in US", "europe-west1", "own location only", "hint:"];
    refused(&estate, &["backup", "--tier", "avro"], &words);
    refused(&estate, &["backup", "--tier", "avro", "--dry-run"], &words);
    warehouse::configure(&mut estate, |text| format!("home = \"gs://vault-parquet\"\n{text}"));
    there_and_back(&estate, "parquet");
    // Nor does a restore go into a dataset that is elsewhere.
    let elsewhere = json!({"datasetReference": {"projectId": PROJECT, "datasetId": "elsewhere"}, "location": "US"});
    estate.post(&format!("/bigquery/v2/projects/{PROJECT}/datasets"), elsewhere);
    refused(&estate, &["restore", "latest", "--into", "elsewhere"], &["is in US", "europe-west1"]);
}
