//! Datasets, tables, rows and the jobs that need no SQL.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn contents_can_be_read_as_they_were_also_of_a_deleted_table() {
    let server = Server::start(Settings::default()).await;
    server.dataset(json!({})).await;
    server.table("t", id_field(), json!({"description": "kept"})).await;
    server.insert("t", json!([{"id": 1}])).await;
    server.advance(HOUR_MS);
    let then = server.sandbox.clock.now_ms();
    server.advance(HOUR_MS);
    server.insert("t", json!([{"id": 2}])).await;
    server.good_job(copy(&format!("t@{then}"), "snap", json!({"operationType": 2}))).await;
    assert_eq!(server.column("snap").await, ["1"]);
    assert_eq!(server.column(&format!("t@-{HOUR_MS}")).await, ["1"]);
    let snapshot = server.get("datasets/d/tables/snap").await;
    assert_eq!((&snapshot["type"], &snapshot["description"]), (&json!("SNAPSHOT"), &json!("kept")));
    assert_eq!(snapshot["snapshotDefinition"]["baseTableReference"]["tableId"], "t");

    let late = server.sandbox.clock.now_ms();
    server.advance(1000);
    let (status, _) = server.call(Method::DELETE, "datasets/d/tables/t", Value::Null).await;
    assert_eq!(status, 204);
    server.advance(HOUR_MS);
    server.good_job(copy(&format!("t@{late}"), "back", json!({}))).await;
    assert_eq!(server.column("back").await, ["1", "2"]);
    assert!(server.bad_job(copy("t", "no", json!({}))).await.starts_with("notFound: Not found: Table p:d.t"));
    server.advance(8 * 24 * HOUR_MS);
    assert!(server.bad_job(copy(&format!("t@{then}"), "no", json!({}))).await.starts_with("invalid: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_the_streaming_buffer_are_seen_by_readers_but_not_copied_extracted_or_counted() {
    let server = Server::start(Settings { streaming_buffer_seconds: 90, ..Settings::default() }).await;
    server.bucket().await;
    server.dataset(json!({})).await;
    server.table("t", id_field(), json!({})).await;
    server.insert("t", json!([{"id": 1}, {"id": 2}])).await;
    let fresh = server.get("datasets/d/tables/t").await;
    assert_eq!(fresh["numRows"], "0");
    assert_eq!(fresh["streamingBuffer"]["estimatedRows"], "2");
    assert_eq!(server.column("t").await, ["1", "2"]);
    server.good_job(copy("t", "early", json!({}))).await;
    assert_eq!(server.get("datasets/d/tables/early").await["numRows"], "0");
    let extract = |name: &str| {
        json!({"extract": {"sourceTable": table("t"), "destinationUris": [format!("gs://bkt/{name}-*.json")],
            "destinationFormat": "NEWLINE_DELIMITED_JSON"}})
    };
    server.good_job(extract("early")).await;
    assert_eq!(server.object("early-000000000000.json"), b"");
    server.advance(91_000);
    let settled = server.get("datasets/d/tables/t").await;
    assert_eq!((&settled["numRows"], &settled["streamingBuffer"]), (&json!("2"), &Value::Null));
    server.good_job(extract("late")).await;
    assert_eq!(server.object("late-000000000000.json"), b"{\"id\":\"1\"}\n{\"id\":\"2\"}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_replaced_alone_and_takes_no_other_rows() {
    let server = Server::start(Settings::default()).await;
    server.bucket().await;
    server.dataset(json!({})).await;
    let fields = json!([{"name": "id", "type": "INT64"}, {"name": "d", "type": "DATE"}]);
    server.table("t", fields, json!({"timePartitioning": {"type": "DAY", "field": "d"}})).await;
    server.insert("t", json!([{"id": 1, "d": "2024-03-01"}, {"id": 2, "d": "2024-03-02"}])).await;
    server.put_object("one.json", b"{\"id\":9,\"d\":\"2024-03-01\"}\n");
    server.put_object("two.json", b"{\"id\":8,\"d\":\"2024-03-02\"}\n");
    let truncate = json!({"writeDisposition": "WRITE_TRUNCATE"});
    server.good_job(load("gs://bkt/one.json", "t$20240301", truncate.clone())).await;
    let mut ids = server.column("t").await;
    ids.sort();
    assert_eq!(ids, ["2", "9"]);
    assert_eq!(server.column("t$20240302").await, ["2"]);
    let refused = server.bad_job(load("gs://bkt/two.json", "t$20240301", truncate)).await;
    assert!(refused.contains("Some rows belong to different partitions"), "{refused}");
    server.good_job(copy("t$20240302", "other", json!({}))).await;
    assert_eq!(server.column("other").await, ["2"]);
    server.call(Method::DELETE, "datasets/d/tables/t$20240301", Value::Null).await;
    assert_eq!(server.column("t").await, ["2"]);

    server.table("n", json!([{"name": "id", "type": "INT64"}]), json!({"timePartitioning": {"type": "DAY"}})).await;
    server.put_object("n.json", b"{\"id\":5}\n");
    server.good_job(load("gs://bkt/n.json", "n$20240229", json!({}))).await;
    assert_eq!(server.column("n$20240229").await, ["5"]);
    assert!(server.column("n$20240228").await.is_empty());
    server.good_job(copy("n$20240229", "n$20240228", json!({"writeDisposition": "WRITE_TRUNCATE"}))).await;
    assert_eq!(server.column("n$20240228").await, ["5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dispositions_protect_tables() {
    let server = Server::start(Settings::default()).await;
    server.bucket().await;
    server.dataset(json!({"defaultTableExpirationMs": (48 * HOUR_MS).to_string()})).await;
    server
        .table(
            "t",
            json!([{"name":"id","type":"INT64","mode":"REQUIRED"}]),
            json!({"tableConstraints": {"primaryKey": {"columns": ["id"]}}}),
        )
        .await;
    server.put_object("a.json", b"{\"id\":1}\n");
    server.put_object("null.json", b"{}\n");
    server.put_object("more.json", b"{\"id\":2,\"s\":\"x\"}\n");
    server.good_job(load("gs://bkt/a.json", "t", json!({}))).await;
    assert!(
        server
            .bad_job(load("gs://bkt/a.json", "t", json!({"writeDisposition": "WRITE_EMPTY"})))
            .await
            .starts_with("duplicate: ")
    );
    assert!(
        server
            .bad_job(load(
                "gs://bkt/a.json",
                "new",
                json!({"createDisposition": "CREATE_NEVER", "schema": {"fields": id_field()}})
            ))
            .await
            .starts_with("notFound: ")
    );
    assert!(server.bad_job(load("gs://bkt/null.json", "t", json!({}))).await.starts_with("invalid: "));
    assert!(server.bad_job(load("gs://bkt/more.json", "t", json!({}))).await.contains("too many errors"));
    server.good_job(load("gs://bkt/more.json", "t", json!({"ignoreUnknownValues": true}))).await;
    assert_eq!(server.column("t").await, ["1", "2"]);
    server.good_job(load("gs://bkt/a.json", "t", json!({"writeDisposition": "WRITE_TRUNCATE_DATA"}))).await;
    let kept = server.get("datasets/d/tables/t").await;
    assert_eq!((&kept["numRows"], &kept["tableConstraints"]["primaryKey"]["columns"][0]), (&json!("1"), &json!("id")));
    let grown = json!({"schema": {"fields": [{"name":"id","type":"INT64"},{"name":"s","type":"STRING"}]}, "writeDisposition": "WRITE_TRUNCATE"});
    server.good_job(load("gs://bkt/more.json", "t", grown)).await;
    let replaced = server.get("datasets/d/tables/t").await;
    assert_eq!(replaced["schema"]["fields"].as_array().map(Vec::len), Some(2));
    assert_eq!(replaced["tableConstraints"], Value::Null);

    // A snapshot takes the dataset's default expiration unless it has one of its own.
    server.good_job(copy("t", "s1", json!({"operationType": "SNAPSHOT"}))).await;
    assert!(server.get("datasets/d/tables/s1").await["expirationTime"].is_string());
    server
        .good_job(copy(
            "t",
            "s2",
            json!({"operationType": "SNAPSHOT", "destinationExpirationTime": "2100-01-01T00:00:00Z"}),
        ))
        .await;
    server.advance(49 * HOUR_MS);
    assert_eq!(server.call(Method::GET, "datasets/d/tables/s1", Value::Null).await.0, 404);
    assert!(server.bad_job(load("gs://bkt/a.json", "s2", json!({}))).await.contains("read-only"));
    server.good_job(copy("s2", "restored", json!({"operationType": "RESTORE"}))).await;
    assert_eq!(server.get("datasets/d/tables/restored").await["type"], "TABLE");
    assert_eq!(server.column("restored").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn job_ids_are_used_once_and_jobs_have_a_place() {
    let server = Server::start(Settings { job_delay_ms: 100, ..Settings::default() }).await;
    server.dataset(json!({})).await;
    server.table("t", id_field(), json!({})).await;
    let body = json!({"jobReference": {"jobId": "mine"}, "configuration": copy("t", "u", json!({}))});
    let job = server.post("jobs", body.clone()).await;
    assert_eq!((&job["status"]["state"], &job["jobReference"]["location"]), (&json!("PENDING"), &json!("EU")));
    let (status, error) = server.call(Method::POST, "jobs", body).await;
    assert_eq!((status.as_u16(), &error["error"]["errors"][0]["reason"]), (409, &json!("duplicate")));
    assert_eq!(server.call(Method::GET, "jobs/mine?location=us-east1", Value::Null).await.0, 404);
    let elsewhere = json!({"jobReference": {"location": "US"}, "configuration": copy("t", "v", json!({}))});
    assert_eq!(server.call(Method::POST, "jobs", elsewhere).await.0, 404);
    let cancelled = server.post("jobs/mine/cancel?location=", Value::Null).await;
    assert_eq!(cancelled["kind"], "bigquery#jobCancelResponse");
    tokio::time::sleep(Duration::from_millis(400)).await;
    let job = server.get("jobs/mine?location=EU").await;
    assert_eq!((&job["status"]["state"], &job["status"]["errorResult"]["reason"]), (&json!("DONE"), &json!("stopped")));
    assert_eq!(server.get("jobs?stateFilter=0&projection=full").await["jobs"].as_array().map(Vec::len), Some(1));
    assert_eq!(server.get("jobs?stateFilter=running").await["jobs"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_leaves_no_job_running_and_no_half_table() {
    let server = Server::start(Settings { job_delay_ms: 10_000, ..Settings::default() }).await;
    server.dataset(json!({})).await;
    server.table("t", id_field(), json!({})).await;
    server.insert("t", json!([{"id": 1}])).await;
    let body = json!({"jobReference": {"jobId": "cut"}, "configuration": copy("t", "u", json!({}))});
    server.post("jobs", body).await;
    let server = Server::open(server.crash_image(), Settings::default()).await;
    let job = server.get("jobs/cut").await;
    assert_eq!(
        (&job["status"]["state"], &job["status"]["errorResult"]["reason"]),
        (&json!("DONE"), &json!("backendError"))
    );
    assert_eq!(server.call(Method::GET, "datasets/d/tables/u", Value::Null).await.0, 404);
    assert_eq!(server.column("t").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_uploaded_in_one_request_or_in_pieces() {
    let server = Server::start(Settings::default()).await;
    server.dataset(json!({})).await;
    let job = |t: &str| json!({"configuration": {"load": {"destinationTable": table(t), "sourceFormat": "CSV", "schema": {"fields": id_field()}}}});
    let url = format!("{}/upload/bigquery/v2/projects/p/jobs", server.base);
    // Some clients end lines with a bare LF.
    let body =
        format!("--b\nContent-Type: application/json\n\n{}\n--b\nContent-Type: */*\n\n1\n2\n\n--b--", job("one"));
    let answer = server
        .http
        .post(format!("{url}?uploadType=multipart"))
        .header("content-type", "multipart/related; boundary=b")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());

    let begun =
        server.http.post(format!("{url}?uploadType=resumable")).body(job("two").to_string()).send().await.unwrap();
    let session = begun.headers()["location"].to_str().unwrap().to_owned();
    let piece = |range: &'static str, bytes: &'static str| {
        server.http.put(&session).header("content-range", range).body(bytes).send()
    };
    let first = piece("bytes 0-3/*", "3\n4\n").await.unwrap();
    assert_eq!((first.status().as_u16(), first.headers()["range"].to_str().unwrap()), (308, "bytes=0-3"));
    let asked = piece("bytes */*", "").await.unwrap();
    assert_eq!(asked.headers()["range"], "bytes=0-3");
    // A piece that is sent again counts once.
    let last = piece("bytes 2-5/6", "4\n5\n").await.unwrap();
    assert_eq!(last.status(), 200);
    // Both jobs end when they end, in any order.
    for table in ["datasets/d/tables/one", "datasets/d/tables/two"] {
        for _ in 0..6000 {
            if server.call(Method::GET, table, Value::Null).await.0 == 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(server.column("one").await, ["1", "2"]);
    assert_eq!(server.column("two").await, ["3", "4", "5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_kept_whole_and_patched() {
    let server = Server::start(Settings::default()).await;
    server
        .dataset(json!({"labels": {"a": "1", "b": "2"}, "isCaseInsensitive": true, "futureSetting": {"x": [1]}}))
        .await;
    let (status, patched) =
        server.call(Method::PATCH, "datasets/d", json!({"labels": {"a": null, "c": "3"}, "description": "x"})).await;
    assert_eq!(status, 200);
    assert_eq!(patched["labels"], json!({"b": "2", "c": "3"}));
    assert_eq!(patched["futureSetting"], json!({"x": [1]}));
    let fields = json!([{"name": "s", "type": "STRING", "policyTags": {"names": ["t"]}, "maxLength": 20, "defaultValueExpression": "'x'"}]);
    server
        .table(
            "t",
            fields,
            json!({"maxStaleness": "0-0 0 1:0:0", "defaultRoundingMode": 1, "resourceTags": {"k": "v"}}),
        )
        .await;
    let made = server.get("datasets/d/tables/t?selectedFields=&view=0").await;
    assert_eq!(made["schema"]["fields"][0]["maxLength"], "20");
    // As bq sends it when it changes something else.
    let (status, same) =
        server.call(Method::PATCH, "datasets/d/tables/t", json!({"schema": null, "resourceTags": {"k": "v"}})).await;
    assert_eq!(status, 200);
    assert_eq!(same["schema"], made["schema"]);
    assert_eq!(made["schema"]["fields"][0]["policyTags"]["names"][0], "t");
    assert_eq!(made["defaultRoundingMode"], "ROUND_HALF_AWAY_FROM_ZERO");
    assert_eq!((&made["maxStaleness"], &made["resourceTags"]["k"]), (&json!("0-0 0 1:0:0"), &json!("v")));
    let smaller = json!({"schema": {"fields": [{"name": "other", "type": "STRING"}]}});
    assert_eq!(server.call(Method::PATCH, "datasets/d/tables/t", smaller).await.0, 400);

    assert_eq!(server.call(Method::DELETE, "datasets/d", Value::Null).await.0, 400);
    assert_eq!(server.call(Method::DELETE, "datasets/d?deleteContents=true", Value::Null).await.0, 204);
    assert_eq!(server.get("datasets").await["datasets"], Value::Null);
    server.post("datasets/d:undelete", json!({})).await;
    assert_eq!(server.get("datasets/d/tables/t").await["maxStaleness"], "0-0 0 1:0:0");
}

#[tokio::test(flavor = "multi_thread")]
async fn insert_ids_are_remembered_and_pages_go_on() {
    let server = Server::start(Settings::default()).await;
    server.dataset(json!({})).await;
    server.table("t", json!([{"name": "a", "type": "INT64"}, {"name": "b", "type": "STRING"}]), json!({})).await;
    let rows: Vec<Value> = (0..5).map(|i| json!({"insertId": format!("r{i}"), "json": {"a": i, "b": "x"}})).collect();
    for _ in 0..2 {
        server.post("datasets/d/tables/t/insertAll", json!({ "rows": rows })).await;
    }
    let page = server.get("datasets/d/tables/t/data?maxResults=2&selectedFields=b&startIndex=2").await;
    assert_eq!((&page["totalRows"], &page["rows"][0]), (&json!("5"), &json!({"f": [{"v": "x"}]})));
    let token = page["pageToken"].as_str().unwrap();
    let rest = server.get(&format!("datasets/d/tables/t/data?pageToken={token}")).await;
    assert_eq!((rest["rows"].as_array().map(Vec::len), &rest["pageToken"]), (Some(1), &Value::Null));
    let bad = json!({"rows": [{"json": {"a": "x"}}, {"json": {"a": 7}}], "skipInvalidRows": true});
    let errors = server.post("datasets/d/tables/t/insertAll", bad).await;
    assert_eq!(
        (errors["insertErrors"].as_array().map(Vec::len), &errors["insertErrors"][0]["index"]),
        (Some(1), &json!(0))
    );
    assert_eq!(server.column("t").await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_extracts_are_sharded() {
    let server = Server::start(Settings { extract_shard_bytes: 80, ..Settings::default() }).await;
    server.bucket().await;
    server.dataset(json!({})).await;
    server.table("t", id_field(), json!({})).await;
    let rows: Vec<Value> = (0..25).map(|i| json!({ "id": i })).collect();
    server.insert("t", json!(rows)).await;
    let extract = |uri: &str, format: &str| json!({"extract": {"sourceTable": table("t"), "destinationUris": [uri], "destinationFormat": format}});
    assert!(
        server
            .bad_job(extract("gs://bkt/one.avro", "AVRO"))
            .await
            .contains("too large to be exported to a single file")
    );
    for format in ["AVRO", "PARQUET"] {
        let name = format.to_lowercase();
        let job = server.good_job(extract(&format!("gs://bkt/{name}/*"), format)).await;
        assert_eq!(job["statistics"]["extract"]["destinationUriFileCounts"], json!(["3"]));
        assert_eq!(job["statistics"]["extract"]["inputBytes"], "200");
        let back = json!({"sourceFormat": format});
        let job = server.good_job(load(&format!("gs://bkt/{name}/*"), &name, back)).await;
        assert_eq!(job["statistics"]["load"]["outputRows"], "25");
        assert_eq!(server.column(&name).await, (0..25).map(|i| i.to_string()).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn selected_fields_reach_into_structs() {
    let server = Server::start(Settings::default()).await;
    server.dataset(json!({})).await;
    let inner = json!([{"name": "x", "type": "INT64"}, {"name": "y", "type": "STRING"}]);
    let fields = json!([
        {"name": "id", "type": "INT64"},
        {"name": "s", "type": "RECORD", "fields": inner},
        {"name": "r", "type": "RECORD", "mode": "REPEATED", "fields": inner},
    ]);
    server.table("t", fields, json!({})).await;
    server
        .insert("t", json!([{"id": 1, "s": {"x": 2, "y": "a"}, "r": [{"x": 3, "y": "b"}, {"x": 4}]}, {"id": 5}]))
        .await;
    let data = |names: &str| format!("datasets/d/tables/t/data?selectedFields={names}");
    let rows = server.get(&data("r.y,s.x")).await["rows"].clone();
    let item = |v: Value| json!({"v": {"f": [{ "v": v }]}});
    let first = json!({"f": [item(json!("2")), {"v": [item(json!("b")), item(json!(null))]}]});
    assert_eq!(rows, json!([first, {"f": [{"v": null}, {"v": []}]}]));
    assert_eq!(server.get(&data("s.x,s")).await["rows"], server.get(&data("S")).await["rows"]);
    let (status, error) = server.call(Method::GET, &data("s.z"), Value::Null).await;
    assert!(status == 400 && error.to_string().contains("Field s.z not found"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_in_avro_files_do_not_load_into_datetime() {
    let server = Server::start(Settings::default()).await;
    server.bucket().await;
    server.dataset(json!({})).await;
    let inner = json!([{"name": "at", "type": "DATETIME"}]);
    let fields = json!([{"name": "id", "type": "INT64"}, {"name": "s", "type": "RECORD", "fields": inner}]);
    server.table("t", fields.clone(), json!({})).await;
    server.insert("t", json!([{"id": 1, "s": {"at": "2026-01-31T02:00:00"}}])).await;
    for (written, read) in [(false, true), (true, false), (true, true)] {
        let uri = format!("gs://bkt/{written}-{read}/*");
        let extract = json!({"sourceTable": table("t"), "destinationUris": [uri], "destinationFormat": "AVRO", "useAvroLogicalTypes": written});
        server.good_job(json!({ "extract": extract })).await;
        let how = json!({"sourceFormat": "AVRO", "schema": {"fields": fields}, "useAvroLogicalTypes": read});
        if written && read {
            server.good_job(load(&uri, "annotated", how)).await;
            continue;
        }
        let refused = server.bad_job(load(&uri, "back", how)).await;
        assert!(refused.contains("s.at. Configured schema: datetime; Avro file: string"), "{refused}");
    }
    let extract =
        json!({"sourceTable": table("t"), "destinationUris": ["gs://bkt/p/*"], "destinationFormat": "PARQUET"});
    server.good_job(json!({ "extract": extract })).await;
    let how = json!({"sourceFormat": "PARQUET", "schema": {"fields": fields}});
    server.good_job(load("gs://bkt/p/*", "back", how)).await;
    assert_eq!(server.column("back").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_elsewhere_are_refused_when_asked_for() {
    let server = Server::start(Settings { check_bucket_locations: true, ..Settings::default() }).await;
    server.bucket().await;
    server.dataset(json!({})).await;
    server.table("t", id_field(), json!({})).await;
    let extract =
        json!({"extract": {"sourceTable": table("t"), "destinationUris": ["gs://bkt/*"], "destinationFormat": "AVRO"}});
    let refused = server.bad_job(extract).await;
    assert_eq!(refused, "invalid: Cannot read and write in different locations: source: EU, destination: US");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_nobody_can_reach_leave_the_disk() {
    let server = Server::start(Settings::default()).await;
    server.dataset(json!({})).await;
    server.table("t", id_field(), json!({})).await;
    server.insert("t", json!([{"id": 1}])).await;
    let expires = (server.sandbox.clock.now_ms() + HOUR_MS).to_string();
    server.table("e", id_field(), json!({"expirationTime": expires})).await;
    server.insert("e", json!([{"id": 2}])).await;
    let service = super::super::service::BigQuery::open(&server.sandbox).unwrap();
    let files = || std::fs::read_dir(server.sandbox.dir.join("bigquery/data")).unwrap().count();
    server.advance(24 * HOUR_MS);
    service.sweep(Duration::ZERO).unwrap();
    assert_eq!(files(), 2, "time travel still reads both");
    server.advance(8 * 24 * HOUR_MS);
    service.sweep(Duration::ZERO).unwrap();
    assert_eq!(files(), 1);
    assert_eq!(server.column("t").await, ["1"]);
}
