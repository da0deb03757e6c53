//! Query jobs: answers, effects on tables, and what hides rows from whom.

use super::*;

impl Server {
    /// Runs a query; the rows as lists of texts.
    async fn query(&self, sql: &str) -> Vec<Vec<String>> {
        let (status, answer) = self.query_as(None, sql).await;
        assert_eq!(status, 200, "{sql}: {answer}");
        rows_of(&answer)
    }

    async fn query_as(&self, email: Option<&str>, sql: &str) -> (StatusCode, Value) {
        let url = format!("{}/bigquery/v2/projects/p/queries", self.base);
        let body = json!({"query": sql, "useLegacySql": false, "location": "EU", "timeoutMs": 60_000});
        let mut request = self.http.post(url).body(body.to_string());
        if let Some(email) = email {
            request = request.bearer_auth(email);
        }
        let response = request.send().await.unwrap();
        (response.status(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    /// Runs a query that fails; `reason: message`.
    async fn refused(&self, sql: &str) -> String {
        let (status, answer) = self.query_as(None, sql).await;
        assert!(status.is_client_error(), "{sql}: {answer}");
        let error = &answer["error"];
        format!("{}: {}", error["errors"][0]["reason"].as_str().unwrap(), error["message"].as_str().unwrap())
    }
}

fn rows_of(answer: &Value) -> Vec<Vec<String>> {
    let text = |v: &Value| v["v"].as_str().map_or_else(|| v["v"].to_string(), str::to_owned);
    let row = |r: &Value| r["f"].as_array().unwrap().iter().map(text).collect();
    answer["rows"].as_array().into_iter().flatten().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_paged_and_kept_in_a_table() {
    let server = Server::start(Settings::default()).await;
    server.dataset(json!({})).await;
    let body = json!({"query": "SELECT n, CAST(n AS STRING) AS s FROM UNNEST(GENERATE_ARRAY(1, 5)) AS n ORDER BY n",
        "useLegacySql": false, "location": "EU", "maxResults": 2, "requestId": "once"});
    let first = server.post("queries", body.clone()).await;
    assert_eq!((&first["jobComplete"], &first["totalRows"]), (&json!(true), &json!("5")));
    assert_eq!(rows_of(&first), [["1", "1"], ["2", "2"]]);
    let id = first["jobReference"]["jobId"].as_str().unwrap();
    let token = first["pageToken"].as_str().unwrap();
    let rest = server.get(&format!("queries/{id}?location=EU&pageToken={token}")).await;
    assert_eq!((rows_of(&rest).len(), &rest["pageToken"]), (3, &Value::Null));
    assert_eq!(rest["schema"]["fields"][1], json!({"name": "s", "type": "STRING", "mode": "NULLABLE"}));
    // The same request is the same job.
    assert_eq!(server.post("queries", body).await["jobReference"]["jobId"], id);
    let job = server.get(&format!("jobs/{id}?location=EU")).await;
    let answer = &job["configuration"]["query"]["destinationTable"];
    let path =
        format!("datasets/{}/tables/{}", answer["datasetId"].as_str().unwrap(), answer["tableId"].as_str().unwrap());
    assert_eq!(server.get(&path).await["numRows"], "5");
    assert_eq!(job["statistics"]["query"]["statementType"], "SELECT");
    assert_eq!(server.get("datasets").await["datasets"].as_array().map(Vec::len), Some(1));

    let into = |write: &str| json!({"query": {"query": "SELECT 1 AS a", "useLegacySql": false, "destinationTable": table("q"), "writeDisposition": write}});
    server.good_job(into("WRITE_EMPTY")).await;
    assert!(server.bad_job(into("WRITE_EMPTY")).await.starts_with("duplicate: "));
    server.good_job(into("WRITE_APPEND")).await;
    assert_eq!(server.column("q").await, ["1", "1"]);
    server.good_job(into("WRITE_TRUNCATE")).await;
    assert_eq!(server.column("q").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dml_and_ddl_change_tables() {
    let server = Server::start(Settings::default()).await;
    server.dataset(json!({})).await;
    server.query("CREATE TABLE d.t (id INT64 NOT NULL, s STRING) OPTIONS(description='x', labels=[('a','b')])").await;
    server.query("INSERT INTO d.t (id, s) VALUES (1, 'a'), (2, 'b'), (3, NULL)").await;
    let body = json!({"query": "UPDATE d.t SET s = 'z' WHERE id >= 2", "useLegacySql": false, "location": "EU"});
    assert_eq!(server.post("queries", body).await["numDmlAffectedRows"], "2");
    server.query("DELETE FROM d.t WHERE id = 1").await;
    server.query("MERGE d.t USING (SELECT 3 AS id UNION ALL SELECT 4) AS n ON t.id = n.id WHEN MATCHED THEN UPDATE SET s = 'm' WHEN NOT MATCHED THEN INSERT (id, s) VALUES (n.id, 'new')").await;
    assert_eq!(server.query("SELECT id, s FROM d.t ORDER BY id").await, [["2", "z"], ["3", "m"], ["4", "new"]]);
    let made = server.get("datasets/d/tables/t").await;
    assert_eq!((&made["numRows"], &made["description"], &made["labels"]["a"]), (&json!("3"), &json!("x"), &json!("b")));
    server.query("ALTER TABLE d.t ADD COLUMN n NUMERIC; ALTER TABLE d.t SET OPTIONS(description='y')").await;
    assert_eq!(server.query("SELECT n FROM d.t LIMIT 1").await, [["null"]]);
    assert_eq!(server.get("datasets/d/tables/t").await["description"], "y");
    server.query("CREATE OR REPLACE TABLE d.u PARTITION BY day AS SELECT id, DATE '2024-03-01' AS day FROM d.t").await;
    assert_eq!(server.column("u$20240301").await.len(), 3);
    server.query("CREATE SNAPSHOT TABLE d.snap CLONE d.t").await;
    server.query("TRUNCATE TABLE d.t").await;
    assert_eq!(server.query("SELECT COUNT(*) FROM d.snap").await, [["3"]]);
    assert!(server.refused("DELETE FROM d.snap WHERE true").await.contains("read-only"));
    server.query("CREATE VIEW d.v AS SELECT id FROM d.snap").await;
    let view = server.get("datasets/d/tables/v").await;
    assert_eq!((&view["type"], &view["schema"]["fields"][0]["type"]), (&json!("VIEW"), &json!("INTEGER")));
    server.query("CREATE FUNCTION d.twice(x INT64) AS (x * 2)").await;
    assert_eq!(server.query("SELECT SUM(d.twice(id)) FROM d.v").await, [["18"]]);
    assert!(server.refused("DROP TABLE d.v").await.contains("VIEW"));
    server.query("DROP VIEW d.v; DROP SNAPSHOT TABLE d.snap; DROP TABLE IF EXISTS d.nothing").await;
    assert_eq!(server.call(Method::GET, "datasets/d/tables/snap", Value::Null).await.0, 404);
    assert!(server.refused("SELECT * FROM d.snap").await.starts_with("notFound: "));
    assert!(server.refused("SELEC 1").await.starts_with("invalidQuery: "));
    server.query("CREATE SCHEMA e; CREATE TABLE e.t AS SELECT 1 AS a; DROP SCHEMA e CASCADE").await;
    assert_eq!(server.call(Method::GET, "datasets/e", Value::Null).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_only_adds_and_the_streaming_buffer_is_left_alone() {
    let server = Server::start(Settings { streaming_buffer_seconds: 90, ..Settings::default() }).await;
    server.dataset(json!({})).await;
    server.table("t", id_field(), json!({})).await;
    server.insert("t", json!([{"id": 1}])).await;
    server.query("INSERT INTO d.t (id) VALUES (2)").await;
    assert_eq!(server.query("SELECT id FROM d.t ORDER BY id").await, [["1"], ["2"]]);
    let now = server.get("datasets/d/tables/t").await;
    assert_eq!((&now["numRows"], &now["streamingBuffer"]["estimatedRows"]), (&json!("1"), &json!("1")));
    assert!(server.refused("DELETE FROM d.t WHERE id = 2").await.contains("streaming buffer"));
    server.advance(91_000);
    server.query("DELETE FROM d.t WHERE id = 2").await;
    assert_eq!(server.column("t").await, ["1"]);
    let then = server.sandbox.clock.now_ms();
    server.advance(10_000);
    server.query("INSERT INTO d.t (id) VALUES (3)").await;
    let past = format!("SELECT COUNT(*) FROM d.t FOR SYSTEM_TIME AS OF TIMESTAMP_MILLIS({then})");
    assert_eq!(server.query(&past).await, [["1"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_access_policies_hide_rows_from_queries_extracts_and_listings() {
    let server = Server::start(Settings::default()).await;
    server.bucket().await;
    server.dataset(json!({})).await;
    server.table("t", id_field(), json!({})).await;
    server.insert("t", json!([{"id": 1}, {"id": 2}, {"id": 3}])).await;
    let policy = |id: &str, filter: &str, grantee: &str| json!({"rowAccessPolicyReference": {"policyId": id}, "filterPredicate": filter, "grantees": [grantee]});
    server.post("datasets/d/tables/t/rowAccessPolicies", policy("low", "id < 3", "user:ann@x.org")).await;
    server
        .query(
            "CREATE ROW ACCESS POLICY one ON d.t GRANT TO ('user:ann@x.org', 'user:bob@x.org') FILTER USING (id = 1)",
        )
        .await;
    let listed = server.get("datasets/d/tables/t/rowAccessPolicies").await;
    assert_eq!(listed["rowAccessPolicies"][0]["filterPredicate"], "id < 3");
    assert_eq!(listed["rowAccessPolicies"][1]["rowAccessPolicyReference"]["policyId"], "one");
    let seen =
        async |email: Option<&str>| rows_of(&server.query_as(email, "SELECT COUNT(*) FROM d.t").await.1)[0][0].clone();
    assert_eq!(seen(Some("ann@x.org")).await, "2");
    assert_eq!(seen(Some("bob@x.org")).await, "1");
    assert_eq!(seen(Some("eve@x.org")).await, "0");
    assert_eq!(seen(None).await, "0");
    assert!(server.column("t").await.is_empty());
    let extract = json!({"extract": {"sourceTable": table("t"), "destinationUris": ["gs://bkt/rls-*.json"], "destinationFormat": "NEWLINE_DELIMITED_JSON"}});
    server.good_job(extract.clone()).await;
    assert_eq!(server.object("rls-000000000000.json"), b"");
    let refused = server.refused("DELETE FROM d.t WHERE true").await;
    assert!(refused.contains("Access Denied"), "{refused}");
    server
        .post("datasets/d/tables/t/rowAccessPolicies", policy("all", "TRUE", "user:owner@p.iam.gserviceaccount.com"))
        .await;
    assert_eq!(seen(None).await, "3");
    server.good_job(extract).await;
    assert_eq!(server.object("rls-000000000000.json").len(), 33);
    server
        .call(
            Method::POST,
            "datasets/d/tables/t/rowAccessPolicies:batchDelete",
            json!({"policyIds": ["low", "one", "all"]}),
        )
        .await;
    assert_eq!(seen(Some("eve@x.org")).await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitioned_tables_tell_their_partitions_and_may_ask_for_a_filter() {
    let server = Server::start(Settings::default()).await;
    server.dataset(json!({})).await;
    let fields = json!([{"name": "id", "type": "INT64"}, {"name": "d", "type": "DATE"}]);
    server
        .table("t", fields, json!({"timePartitioning": {"type": "DAY", "field": "d"}, "requirePartitionFilter": true}))
        .await;
    server.query("INSERT INTO d.t VALUES (1, '2024-03-01'), (2, '2024-03-01'), (3, NULL)").await;
    assert!(server.refused("SELECT COUNT(*) FROM d.t").await.contains("without a filter over column(s) 'd'"));
    assert_eq!(server.query("SELECT COUNT(*) FROM d.t WHERE d = '2024-03-01'").await, [["2"]]);
    let partitions =
        "SELECT partition_id, total_rows FROM d.INFORMATION_SCHEMA.PARTITIONS WHERE table_name = 't' ORDER BY 1";
    assert_eq!(server.query(partitions).await, [["20240301", "2"], ["__NULL__", "1"]]);
    let meta = server.get("datasets/d/tables/t$__PARTITIONS_SUMMARY__").await;
    assert_eq!(meta["schema"]["fields"][3]["name"], "partition_id");
    let ddl = server.query("SELECT ddl FROM d.INFORMATION_SCHEMA.TABLES").await;
    assert!(
        ddl[0][0].contains("PARTITION BY d") && ddl[0][0].contains("require_partition_filter=true"),
        "{}",
        ddl[0][0]
    );

    let ingested = json!({"timePartitioning": {"type": "DAY", "expirationMs": (48 * HOUR_MS).to_string()}});
    server.table("n", id_field(), ingested).await;
    server.insert("n", json!([{"id": 7}])).await;
    assert_eq!(server.query("SELECT id, _PARTITIONTIME IS NOT NULL FROM d.n").await, [["7", "true"]]);
    server.advance(80 * HOUR_MS);
    assert!(server.query("SELECT id FROM d.n").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_plans_and_does_nothing() {
    let server = Server::start(Settings::default()).await;
    server.dataset(json!({})).await;
    server.table("t", id_field(), json!({})).await;
    server.insert("t", json!([{"id": 1}, {"id": 2}])).await;
    let dry = |sql: &str| json!({"jobReference": {"location": "EU"}, "configuration": {"dryRun": true, "query": {"query": sql, "useLegacySql": false}}});
    let planned = server.post("jobs", dry("SELECT id FROM d.t")).await;
    assert_eq!(planned["statistics"]["totalBytesProcessed"], "16");
    assert_eq!(planned["statistics"]["query"]["schema"]["fields"][0]["name"], "id");
    assert_eq!(planned["jobReference"]["jobId"], Value::Null);
    server.post("jobs", dry("DROP TABLE d.t")).await;
    assert_eq!(server.column("t").await, ["1", "2"]);
    assert_eq!(server.call(Method::POST, "jobs", dry("SELECT nope FROM d.t")).await.0, 400);
    assert_eq!(server.get("jobs").await["jobs"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_fill_what_rows_leave_out() {
    let server = Server::start(Settings::default()).await;
    server.bucket().await;
    server.dataset(json!({})).await;
    let fields = json!([{"name": "id", "type": "INT64"}, {"name": "s", "type": "STRING", "defaultValueExpression": "'none'"},
        {"name": "since", "type": "TIMESTAMP", "defaultValueExpression": "TIMESTAMP '2024-02-29 01:02:03.5+00'"}]);
    server.table("t", fields, json!({})).await;
    server.insert("t", json!([{"id": 1}, {"id": 2, "s": null, "since": "2020-01-01"}, {"id": 3, "s": "x"}])).await;
    server.put_object("four.json", b"{\"id\":4}\n");
    server.good_job(load("gs://bkt/four.json", "t", json!({"schema": {"fields": id_field()}}))).await;
    let rows = server.query("SELECT id, s, UNIX_MILLIS(since) FROM d.t ORDER BY id").await;
    let leap = "1709168523500";
    assert_eq!(rows, [["1", "none", leap], ["2", "null", "1577836800000"], ["3", "x", leap], ["4", "none", leap]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_may_be_too_dear() {
    let server = Server::start(Settings::default()).await;
    server.dataset(json!({})).await;
    server.query("CREATE TABLE d.t AS SELECT 1 AS a").await;
    let bounded = |bytes: &str| json!({"query": {"query": "SELECT a FROM d.t", "useLegacySql": false, "maximumBytesBilled": bytes}});
    assert!(server.bad_job(bounded("1000000")).await.starts_with("bytesBilledLimitExceeded: "));
    server.good_job(bounded("10485760")).await;
}
