//! What proves a backup: buckets, rows that differ, queries over stored files, what is empty and what was emptied.

use serde_json::{Value, json};

use crate::estate::{DATASET, Estate, PROJECT};

const TABLES: [&str; 5] =
    ["dim_api_key_user", "dim_model_price", "fct_cost_daily", "fct_usage_daily", "stg_llm_requests"];

/// The table of a backup's manifest.
fn table<'a>(manifest: &'a Value, name: &str) -> &'a Value {
    let tables = manifest["sources"][0]["tables"].as_array().unwrap();
    tables.iter().find(|table| table["table"] == format!("{PROJECT}.{DATASET}.{name}")).unwrap()
}

fn backup(estate: &Estate, code: i32) -> Value {
    let run = estate.strongroom(&["--json", "backup"]);
    assert_eq!(run.code, code, "{run:?}");
    run.data()
}

/// Two backups of a tier must not begin in the same second.
fn a_day_later(estate: &Estate) {
    std::thread::sleep(std::time::Duration::from_millis(1100));
    estate.query("SELECT 1");
}

#[test]
fn only_an_emptied_source_raises_an_alarm() {
    let estate = Estate::seeded();
    estate.query(&format!("CREATE TABLE {DATASET}.always_empty (day DATE, cost NUMERIC, t STRING)"));
    estate.query(&format!("CREATE TABLE {DATASET}.staging AS SELECT 1 AS n"));
    let first = backup(&estate, 0);
    let empty = &table(&first, "always_empty")["proof"];
    assert_eq!(empty["row_count"], 0);
    assert_eq!(empty["fingerprint"], json!({"xor": "0", "sum": "0", "buckets": ""}));
    assert_eq!(empty["columns"][0]["distinct_dates"], 0);
    let usage = table(&first, "fct_usage_daily");
    let buckets = usage["proof"]["fingerprint"]["buckets"].as_str().unwrap();
    assert_eq!(buckets.split(' ').count(), 256, "2,683 rows fill every bucket");
    let days = estate.query(&format!("SELECT COUNT(DISTINCT usage_date) FROM {DATASET}.fct_usage_daily"));
    let columns = usage["proof"]["columns"].as_array().unwrap();
    let date = columns.iter().find(|column| column["name"] == "usage_date").unwrap();
    assert_eq!(date["distinct_dates"].to_string(), days[0][0].as_str().unwrap());

    // One table emptied, a new one, one that was always empty: told, no alarm, and all of it restores.
    a_day_later(&estate);
    estate.query(&format!("DELETE FROM {DATASET}.staging WHERE TRUE"));
    estate.query(&format!("CREATE TABLE {DATASET}.brand_new (n INT64)"));
    let second = backup(&estate, 0);
    assert_eq!(second["attention"], Value::Null);
    let notes = second["notes"].to_string();
    assert!(notes.contains(".staging: is empty, the last backup") && !notes.contains("always_empty"), "{notes}");
    estate.strongroom(&["verify"]).ok();
    let restored = estate.json(&["restore", "latest", "--into", "scratch"]);
    assert_eq!(restored["differences"], json!([]));

    // The whole source emptied.
    a_day_later(&estate);
    for name in TABLES {
        estate.query(&format!("DELETE FROM {DATASET}.{name} WHERE TRUE"));
    }
    let third = backup(&estate, 6);
    let attention = third["attention"][0].as_str().unwrap();
    assert!(attention.starts_with("source 'warehouse' is empty, the last backup"), "{attention}");
    let shown = estate.strongroom(&["show", "latest"]).ok();
    assert!(shown.stdout.contains("ATTENTION: source 'warehouse' is empty"), "{}", shown.stdout);
    // It was told; from now on it is empty as it was in the last backup.
    a_day_later(&estate);
    backup(&estate, 0);
}

/// Bytes of files that were read from the bucket since a mark.
fn bytes_read(estate: &Estate, mark: u64, below: &str) -> u64 {
    let reads = estate.requests(mark).into_iter().filter(|request| {
        let of_files = request["path"].as_str().unwrap().contains(below);
        let media = request["query"].as_str().unwrap_or_default().contains("alt=media");
        of_files && media
    });
    reads.map(|request| request["response_bytes"].as_u64().expect("a length")).sum()
}

#[test]
fn a_backup_is_asked_without_restoring_it() {
    let estate = Estate::seeded();
    // One wide column beside narrow ones, several row groups' worth.
    estate.query(&format!(
        "CREATE TABLE {DATASET}.wide AS SELECT n, SHA256(CAST(n AS STRING)) AS digest, REPEAT('x', 10) AS same, \
         DATE_ADD(DATE '2024-01-01', INTERVAL CAST(MOD(n, 700) AS INT64) DAY) AS day, \
         CAST(n AS NUMERIC) / 3 AS share FROM UNNEST(GENERATE_ARRAY(1, 50000)) AS n"
    ));
    let manifest = estate.strongroom(&["--json", "backup", "--tier", "monthly"]).ok().data();
    let stored = table(&manifest, "wide");
    assert_eq!(stored["format"], "parquet");
    let size = stored["objects"][0]["size_bytes"].as_u64().unwrap();

    // Only the columns that are named are read, and the footer.
    let mark = estate.mark();
    let mine = estate.json(&["query", "latest", "SELECT SUM(n) AS total, COUNT(*) AS c FROM wide WHERE n > 10"]);
    assert_eq!(mine["rows"], json!([["1250024945", "49990"]]));
    let read = bytes_read(&estate, mark, "wide");
    // 50,000 INT64: 400 kB at most, the digests alone are 1.6 MB.
    assert!(read < 450_000 && read * 4 < size, "{read} bytes of {size}");
    let digests = json!(["query", "latest", "SELECT COUNT(DISTINCT digest) AS c FROM wide"]);
    let mark = estate.mark();
    let args: Vec<&str> = digests.as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    assert_eq!(estate.json(&args)["rows"], json!([["50000"]]));
    let read = bytes_read(&estate, mark, "wide");
    // 32 bytes a digest and its length; nothing in it compresses.
    let column = 50_000 * 36;
    assert!(read * 10 <= column * 12, "{read} bytes were read of a column of {column}");
    let mark = estate.mark();
    assert_eq!(estate.json(&["query", "latest", "SELECT COUNT(*) AS c FROM wide"])["rows"], json!([["50000"]]));
    assert!(bytes_read(&estate, mark, "wide") < 20_000, "counting reads footers only");

    // What no row group can hold is not looked for in any: only the footer is read.
    for filter in ["n > 60000", "day < DATE '2023-12-31'", "n < 0 AND same = 'x'", "n IN (0, 50001)"] {
        let mark = estate.mark();
        let sql = format!("SELECT COUNT(*) AS c FROM wide WHERE {filter}");
        assert_eq!(estate.json(&["query", "latest", &sql])["rows"], json!([["0"]]), "{filter}");
        let read = bytes_read(&estate, mark, "wide");
        assert!(read < 20_000, "{filter}: {read} bytes");
    }
    for filter in
        ["n = 50000", "day >= DATE '2025-01-01' AND n < 701", "n IS NULL OR n = 1", "NOT (n > 1)", "share > 16666"]
    {
        let sql = format!("SELECT COUNT(*) AS c FROM wide WHERE {filter}");
        let live = sql.replace("FROM wide", &format!("FROM {DATASET}.wide"));
        assert_eq!(estate.json(&["query", "latest", &sql])["rows"], json!(estate.query(&live)), "{filter}");
    }

    // Every spelling of a table's name, views too, the same answers as the warehouse gives.
    for sql in [
        "SELECT COUNT(*) AS c, SUM(cost_usd) AS s, MIN(usage_date) AS d FROM fct_cost_daily",
        &format!("SELECT COUNT(*) AS c, SUM(cost_usd) AS s, MIN(usage_date) AS d FROM {DATASET}.fct_cost_daily"),
        &format!(
            "SELECT COUNT(*) AS c, SUM(cost_usd) AS s, MIN(usage_date) AS d FROM `{PROJECT}.{DATASET}.fct_cost_daily`"
        ),
        &format!(
            "SELECT COUNT(*) AS c, SUM(cost_usd) AS s, MIN(usage_date) AS d FROM `{PROJECT}`.{DATASET}.`fct_cost_daily` AS t"
        ),
    ] {
        let live = sql.replace("FROM fct", &format!("FROM {DATASET}.fct"));
        assert_eq!(estate.json(&["query", "latest", sql])["rows"], json!(estate.query(&live)), "{sql}");
    }
    let sql = "SELECT platform, DATE_TRUNC(usage_date, MONTH) AS m, COUNTIF(user_id IS NULL) AS nobody, \
               SUM(IF(requests > 1, 1, 0)) AS busy, MAX(DATE_DIFF(DATE '2030-01-01', usage_date, DAY)) AS d \
               FROM fct_usage_daily GROUP BY platform, m ORDER BY platform, m";
    let live = sql.replace("FROM fct", &format!("FROM {DATASET}.fct"));
    assert_eq!(estate.json(&["query", "latest", sql])["rows"], json!(estate.query(&live)));

    let csv = estate.strongroom(&["query", "latest", "--format", "csv", "SELECT n, day FROM wide ORDER BY n LIMIT 2"]);
    assert_eq!(csv.ok().stdout, "n,day\n1,2024-01-02\n2,2024-01-03\n");
    let json =
        estate.strongroom(&["query", "latest", "--format", "json", "SELECT n / 2 AS h FROM wide ORDER BY n LIMIT 1"]);
    assert_eq!(json.ok().stdout, "{\"h\":0.5}\n");

    for (sql, says) in [
        ("DELETE FROM wide", "can only be read"),
        ("SELECT * FROM nothing_of_the_kind", "the backup holds no such table; hint: it holds dim_api_key_user"),
        ("SELECT ML.PREDICT(1)", "the embedded engine"),
        ("SELECT", "query: "),
        ("SELECT no_such_column FROM wide", "no_such_column"),
    ] {
        let run = estate.strongroom(&["query", "latest", sql]);
        assert_eq!(run.code, 1, "{sql}: {run:?}");
        assert!(run.stderr.contains(says) && run.stdout.is_empty(), "{sql}: {run:?}");
    }

    // Avro files, and views over them.
    estate.strongroom(&["backup", "--tier", "daily"]).ok();
    let avro = estate.json(&["list"])["backups"][0]["name"].as_str().unwrap().to_string();
    for sql in [
        "SELECT COUNT(*) AS c FROM fct_cost_daily",
        "SELECT platform, SUM(cost_usd) AS s FROM fct_cost_daily GROUP BY platform ORDER BY platform",
        "SELECT COUNT(*) AS c FROM vw_daily_totals",
    ] {
        let live = sql.replace("FROM ", &format!("FROM {DATASET}."));
        assert_eq!(estate.json(&["query", &avro, sql])["rows"], json!(estate.query(&live)), "{sql}");
    }

    // A spreadsheet's tab is a table of texts, named by its source and its title.
    let rows = estate.sheet().as_array().unwrap().len() - 1;
    let sql = "SELECT COUNT(*) AS c FROM mappings.mappings";
    assert_eq!(estate.json(&["query", "latest", sql])["rows"], json!([[rows.to_string()]]));
    let sql =
        "SELECT COUNT(*) AS c FROM mappings.mappings AS m JOIN dim_api_key_user AS u ON m.api_key_id = u.api_key_id";
    assert_ne!(estate.json(&["query", "latest", sql])["rows"], json!([["0"]]));

    // The validation queries over the files alone.
    let mark = estate.mark();
    let run = estate.strongroom(&["--json", "validate", "--offline"]);
    let verdicts = run.data()["verdicts"].as_array().unwrap().clone();
    let not_run: Vec<&Value> = verdicts.iter().filter(|verdict| verdict["state"] == "not_run").collect();
    let failed: Vec<&Value> = verdicts.iter().filter(|verdict| verdict["state"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(not_run.len() * 4 < verdicts.len(), "{not_run:#?}");
    assert_eq!(run.code, if not_run.is_empty() { 0 } else { 8 }, "{run:?}");
    assert!(estate.requests(mark).iter().all(|request| request["service"] == "storage"), "nothing else is asked");
}

/// Every kind of difference, found in few buckets and shown as rows.
#[test]
fn rows_that_differ_are_shown() {
    let estate = Estate::seeded();
    estate.query(&format!(
        "CREATE TABLE {DATASET}.ledger (id INT64, seen_at TIMESTAMP, cost NUMERIC, note STRING, PRIMARY KEY (id) NOT ENFORCED)"
    ));
    estate.query(&format!(
        "INSERT INTO {DATASET}.ledger SELECT n, TIMESTAMP_MICROS(n * 1000000), CAST(n AS NUMERIC) / 4, 'row' \
         FROM UNNEST(GENERATE_ARRAY(1, 2000)) AS n"
    ));
    estate.query(&format!("CREATE TABLE {DATASET}.twins AS SELECT 'a' AS a, 1 AS b FROM UNNEST([1, 2, 3])"));
    estate.strongroom(&["backup"]).ok();
    let same = estate.json(&["diff", "latest"]);
    assert!(same["tables"].as_array().unwrap().iter().all(|table| table["differing_buckets"] == json!([])), "{same}");

    estate.query(&format!("UPDATE {DATASET}.ledger SET cost = cost + NUMERIC '0.000000001' WHERE id = 5"));
    estate.query(&format!(
        "UPDATE {DATASET}.ledger SET seen_at = TIMESTAMP_ADD(seen_at, INTERVAL 1 MICROSECOND), note = 'new' WHERE id = 6"
    ));
    estate.query(&format!("DELETE FROM {DATASET}.ledger WHERE id = 7"));
    estate.query(&format!("INSERT INTO {DATASET}.ledger (id, note) VALUES (9999, 'intruder')"));
    estate.query(&format!("INSERT INTO {DATASET}.twins VALUES ('a', 1), ('a', 1)"));
    let run = estate.strongroom(&["--json", "diff", "latest", "--table", "ledger", "--table", "twins"]);
    assert_eq!(run.code, 7, "{run:?}");
    let tables = run.data()["tables"].as_array().unwrap().clone();
    let ledger = &tables[0];
    assert_eq!((&ledger["removed_rows"], &ledger["added_rows"]), (&json!(3), &json!(3)), "{ledger}");
    let buckets = ledger["differing_buckets"].as_array().unwrap().len();
    assert!((2..=6).contains(&buckets), "{buckets} buckets");
    let rows = ledger["rows"].as_array().unwrap();
    let of = |kind: &str| rows.iter().filter(|row| row["difference"] == kind).cloned().collect::<Vec<_>>();
    let (changed, removed, added) = (of("changed"), of("removed"), of("added"));
    assert_eq!((changed.len(), removed.len(), added.len()), (2, 1, 1), "{rows:#?}");
    let five = changed.iter().find(|row| row["before"]["id"] == 5).unwrap();
    assert_eq!((&five["columns"], &five["after"]["cost"]), (&json!(["cost"]), &json!("1.250000001")));
    let six = changed.iter().find(|row| row["before"]["id"] == 6).unwrap();
    assert_eq!(six["columns"], json!(["seen_at", "note"]));
    assert_eq!((&removed[0]["row"]["id"], &added[0]["row"]["id"]), (&json!(7), &json!(9999)));
    let twins = &tables[1];
    assert_eq!(twins["rows"], json!([{"difference": "added", "row": {"a": "a", "b": 1}, "times": 2}]), "{twins}");

    let text = estate.strongroom(&["diff", "latest", "--table", "ledger", "--limit", "1"]);
    assert_eq!(text.code, 7);
    assert!(text.stdout.contains("3 rows removed, 3 added") && text.stdout.contains("hint: --limit N"), "{text:?}");
    // A table that is gone, one with other columns, one that is not in the backup.
    estate.query(&format!("DROP TABLE {DATASET}.twins"));
    estate.query(&format!("ALTER TABLE {DATASET}.ledger ADD COLUMN more STRING"));
    let text = estate.strongroom(&["diff", "latest", "--table", "ledger", "--table", "twins"]);
    assert_eq!(text.code, 7);
    assert!(text.stdout.contains("column more (STRING) is new"), "{text:?}");
    assert!(text.stdout.contains("3 rows removed, 3 added") && text.stdout.contains("twins: is not there"), "{text:?}");
    // Columns that are gone, new, of another type and in another place: the others are compared all the same.
    estate.query(&format!(
        "CREATE OR REPLACE TABLE {DATASET}.ledger AS SELECT cost, id, CAST(note AS BYTES) AS note, 1 AS more FROM {DATASET}.ledger"
    ));
    let run = estate.strongroom(&["--json", "diff", "latest", "--table", "ledger"]);
    let ledger = &run.data()["tables"][0];
    let changes =
        ["seen_at (TIMESTAMP) is gone", "note was STRING, is BYTES", "more (INT64) is new", "order is another"];
    assert_eq!((run.code, &ledger["columns"]), (7, &json!(changes)), "{run:?}");
    // Of the two rows that were changed, one was in a column that is gone.
    assert_eq!((&ledger["removed_rows"], &ledger["added_rows"]), (&json!(2), &json!(2)), "{ledger}");
    let five = &ledger["rows"][0];
    assert_eq!((&five["columns"], &five["before"]), (&json!(["cost"]), &json!({"id": 5, "cost": "1.25"})), "{ledger}");
    estate.query(&format!("CREATE OR REPLACE TABLE {DATASET}.ledger AS SELECT 7 AS other"));
    let text = estate.strongroom(&["diff", "latest", "--table", "ledger"]);
    assert!(text.code == 7 && text.stdout.contains("column other (INT64) is new"), "{text:?}");
    let none = estate.strongroom(&["diff", "latest", "--table", "nothing"]);
    assert!(none.code == 1 && none.stderr.contains("holds no such table"), "{none:?}");
}
