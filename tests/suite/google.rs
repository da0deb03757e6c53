//! The clients of `google/` and the stores against the sandbox: over the wire, with Google's own crates on our side and
//! an independent reading of the protocol on the other.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use strongroom::google::bigquery::{
    JobFilter, JobRef, JobState, PollPolicy, QueryOptions, insertable_table, job_state,
};
use strongroom::google::scheduler::JobState as SchedulerState;
use strongroom::google::sheets::{Input, Render, a1};
use strongroom::google::storage::{ListOptions, WriteOptions};
use strongroom::google::{Credentials, Google, RetryPolicy, Settings};
use strongroom::model::{DatasetId, Failure, TableId};
use strongroom::store::{self, GcsStore, Store};

use crate::sandbox::Sandbox;

const PROJECT: &str = "demo-project";

fn retry() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 5,
        budget: Duration::from_secs(20),
        base_delay: Duration::from_millis(10),
        max_delay: Duration::from_millis(100),
        ..RetryPolicy::default()
    }
}

async fn connect(endpoint: &str) -> Google {
    Google::connect(Settings {
        endpoint: Some(endpoint.into()),
        credentials: Credentials::Anonymous,
        retry: retry(),
        user_agent: "strongroom-test".into(),
    })
    .await
    .unwrap()
}

async fn start() -> (Sandbox, Google) {
    let sandbox = Sandbox::start();
    let google = connect(sandbox.endpoint()).await;
    (sandbox, google)
}

fn dataset(name: &str) -> DatasetId {
    DatasetId::new(PROJECT, name).unwrap()
}

/// A resource with rare fields of every sort, and one that nobody knows.
fn rich_table() -> Value {
    json!({
        "friendlyName": "Daily usage", "description": "äöü", "labels": {"team": "finance", "empty": ""},
        "schema": {"fields": [
            {"name": "id", "type": "INTEGER", "mode": "REQUIRED", "description": "key"},
            {"name": "day", "type": "DATE", "mode": "NULLABLE"},
            {"name": "cost", "type": "NUMERIC", "mode": "NULLABLE", "precision": "10", "scale": "2", "roundingMode": "ROUND_HALF_EVEN"},
            {"name": "tags", "type": "STRING", "mode": "REPEATED", "maxLength": "20"},
            {"name": "who", "type": "RECORD", "mode": "NULLABLE", "fields": [
                {"name": "name", "type": "STRING", "mode": "NULLABLE", "collation": "und:ci"},
                {"name": "at", "type": "TIMESTAMP", "mode": "NULLABLE", "defaultValueExpression": "CURRENT_TIMESTAMP()"}]}
        ]},
        "timePartitioning": {"type": "DAY", "field": "day", "expirationMs": "864000000000"},
        "clustering": {"fields": ["id"]}, "requirePartitionFilter": true,
        "defaultRoundingMode": "ROUND_HALF_EVEN", "maxStaleness": "0-0 0 4:0:0",
        "tableConstraints": {"primaryKey": {"columns": ["id"]}},
        "fieldOfTomorrow": {"mode": "SOMETHING_NEW", "count": "7"}
    })
}

async fn with_dataset(google: &Google, name: &str) -> DatasetId {
    let id = dataset(name);
    google.bigquery.insert_dataset(&id, json!({"location": "EU", "labels": {"a": "b"}})).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datasets_are_made_changed_listed_and_deleted() {
    let (_sandbox, google) = start().await;
    let bigquery = &google.bigquery;
    let id = with_dataset(&google, "one").await;
    with_dataset(&google, "two").await;
    assert!(matches!(bigquery.insert_dataset(&id, json!({})).await, Err(Failure::Exists { .. })));
    assert!(matches!(bigquery.get_dataset(&dataset("none")).await, Err(Failure::NotFound { .. })));

    let resource = bigquery.get_dataset(&id).await.unwrap();
    assert_eq!((&resource["location"], &resource["labels"]["a"]), (&json!("EU"), &json!("b")));
    let etag = resource["etag"].as_str().unwrap().to_string();
    let changed = bigquery.patch_dataset(&id, json!({"labels": {"a": null, "c": "d"}}), Some(&etag)).await.unwrap();
    assert_eq!(changed["labels"], json!({"c": "d"}));
    let stale = bigquery.patch_dataset(&id, json!({"description": "x"}), Some(&etag)).await;
    assert!(matches!(stale, Err(Failure::Precondition { .. })), "{stale:?}");

    let listed = bigquery.list_datasets(PROJECT).await.unwrap();
    let names: Vec<_> = listed.iter().map(|dataset| (dataset.id.dataset(), dataset.location.as_str())).collect();
    assert_eq!(names, [("one", "EU"), ("two", "EU")]);

    bigquery.insert_table(&id.table("t").unwrap(), json!({"schema": {"fields": []}})).await.unwrap();
    let refused = bigquery.delete_dataset(&id, false).await;
    assert!(matches!(refused, Err(Failure::Precondition { .. })), "{refused:?}");
    bigquery.delete_dataset(&id, true).await.unwrap();
    assert!(matches!(bigquery.delete_dataset(&id, true).await, Err(Failure::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_table_resource_survives_get_and_insert() {
    let (_sandbox, google) = start().await;
    let bigquery = &google.bigquery;
    let id = with_dataset(&google, "d").await;
    let (first, second) = (id.table("first").unwrap(), id.table("second").unwrap());
    bigquery.insert_table(&first, rich_table()).await.unwrap();
    let got = bigquery.get_table(&first).await.unwrap();
    for (key, value) in rich_table().as_object().unwrap() {
        assert_eq!(&got[key], value, "{key} as it was sent");
    }
    bigquery.insert_table(&second, insertable_table(&got, &second)).await.unwrap();
    let again = bigquery.get_table(&second).await.unwrap();
    let mut expected = insertable_table(&got, &second);
    expected["tableReference"] = again["tableReference"].clone();
    assert_eq!(insertable_table(&again, &second), expected);
    assert!(matches!(bigquery.insert_table(&second, rich_table()).await, Err(Failure::Exists { .. })));

    let patched =
        bigquery.patch_table(&second, json!({"description": null, "labels": {"team": "x"}}), None).await.unwrap();
    assert_eq!((patched.get("description"), &patched["labels"]), (None, &json!({"team": "x", "empty": ""})));

    bigquery
        .insert_table(&id.table("v").unwrap(), json!({"view": {"query": "SELECT 1 AS x", "useLegacySql": false}}))
        .await
        .unwrap();
    let kinds: Vec<_> =
        bigquery.list_tables(&id).await.unwrap().into_iter().map(|t| (t.id.table().to_string(), t.kind)).collect();
    let want = [("first", "TABLE"), ("second", "TABLE"), ("v", "VIEW")].map(|(a, b)| (a.to_string(), b.to_string()));
    assert_eq!(kinds, want);
    bigquery.delete_table(&first).await.unwrap();
    assert!(matches!(bigquery.get_table(&first).await, Err(Failure::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_read_to_their_last_page() {
    let (_sandbox, google) = start().await;
    let id = with_dataset(&google, "many").await;
    for n in 0..60 {
        google
            .bigquery
            .insert_table(&id.table(&format!("t{n:03}")).unwrap(), json!({"schema": {"fields": []}}))
            .await
            .unwrap();
    }
    assert_eq!(google.bigquery.list_tables(&id).await.unwrap().len(), 60);
    let empty = dataset("nothing");
    assert!(matches!(google.bigquery.list_tables(&empty).await, Err(Failure::NotFound { .. })));
}

fn options() -> QueryOptions {
    QueryOptions { location: Some("EU".into()), timeout: Duration::from_secs(60), ..QueryOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_give_their_rows_and_their_errors() {
    let (_sandbox, google) = start().await;
    let bigquery = &google.bigquery;
    with_dataset(&google, "d").await;
    let sql = "SELECT @n AS n, 'text' AS s, CAST(NULL AS STRING) AS z, [1, 2] AS l, STRUCT(1 AS a, 'b' AS b) AS r";
    let parameters =
        vec![json!({"name": "n", "parameterType": {"type": "INT64"}, "parameterValue": {"value": "9007199254740993"}})];
    let result = bigquery.query(PROJECT, sql, &QueryOptions { parameters, ..options() }).await.unwrap();
    assert_eq!(result.rows.len(), 1);
    assert_eq!(result.cell(0, "n"), Some(&json!("9007199254740993")));
    assert_eq!((result.cell(0, "s"), result.cell(0, "z")), (Some(&json!("text")), Some(&Value::Null)));
    assert_eq!(result.cell(0, "l"), Some(&json!([{"v": "1"}, {"v": "2"}])));
    assert_eq!(result.cell(0, "r"), Some(&json!({"f": [{"v": "1"}, {"v": "b"}]})));
    assert_eq!(result.cell(0, "none"), None);

    let wrong = bigquery.query(PROJECT, "SELECT nothing FROM nowhere.at_all", &options()).await;
    assert!(matches!(wrong, Err(Failure::NotFound { .. } | Failure::Invalid { .. })), "{wrong:?}");
    let wrong = bigquery.query(PROJECT, "SELEKT 1", &options()).await;
    assert!(matches!(wrong, Err(Failure::Invalid { .. })), "{wrong:?}");

    let many = "SELECT n FROM UNNEST(GENERATE_ARRAY(1, 25000)) AS n ORDER BY n";
    let result = bigquery.query(PROJECT, many, &options()).await.unwrap();
    assert_eq!(result.rows.len(), 25_000, "three pages");
    assert_eq!(result.rows[24_999], [json!("25000")]);
    let refused = bigquery.query(PROJECT, many, &QueryOptions { max_rows: 24_999, ..options() }).await;
    assert!(matches!(refused, Err(Failure::Invalid { .. })), "{refused:?}");

    let dry = bigquery.query(PROJECT, "SELECT 1 AS one", &QueryOptions { dry_run: true, ..options() }).await.unwrap();
    assert_eq!((dry.rows.len(), job_state(&dry.job)), (0, JobState::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_job_id_twice_is_one_job() {
    let (_sandbox, google) = start().await;
    let bigquery = &google.bigquery;
    let id = with_dataset(&google, "d").await;
    let query = |sql: &str| json!({"query": {"query": sql, "useLegacySql": false}});
    let job = JobRef::new(PROJECT, "strongroom_run_1_step_2", Some("EU".into()));
    bigquery.query(PROJECT, "CREATE TABLE d.t AS SELECT 1 AS a", &options()).await.unwrap();
    let insert = query("INSERT INTO d.t (a) VALUES (2)");
    let mut seen = 0;
    bigquery.run_job(&job, insert.clone(), &PollPolicy::default(), &mut |_| seen += 1).await.unwrap();
    assert!(seen >= 1);
    let again = bigquery.run_job(&job, insert, &PollPolicy::default(), &mut |_| {}).await.unwrap();
    assert_eq!(JobRef::of(&again), job);
    let count = bigquery.query(PROJECT, "SELECT COUNT(*) AS n FROM d.t", &options()).await.unwrap();
    assert_eq!(count.cell(0, "n"), Some(&json!("2")), "the insert ran once");
    let other = bigquery.insert_job(&job, query("SELECT 3")).await;
    assert!(matches!(other, Err(Failure::Exists { .. })), "{other:?}");

    let listed = bigquery.list_jobs(PROJECT, &JobFilter { all_users: true, ..JobFilter::default() }).await.unwrap();
    assert!(listed.iter().any(|listed| JobRef::of(listed).job_id == job.job_id));
    let active = bigquery.list_jobs(PROJECT, &JobFilter { only_active: true, ..JobFilter::default() }).await.unwrap();
    assert!(active.iter().all(|job| job_state(job) != JobState::Done), "{active:?}");
    let missing = bigquery.get_job(&JobRef::new(PROJECT, "none", Some("EU".into()))).await;
    assert!(matches!(missing, Err(Failure::NotFound { .. })), "{missing:?}");
    let _ = bigquery.cancel_job(&job).await;
    let _ = id;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_extracts_and_loads_go_through() {
    let (_sandbox, google) = start().await;
    let bigquery = &google.bigquery;
    let id = with_dataset(&google, "d").await;
    google.storage.insert_bucket(PROJECT, "vault-eu", json!({"location": "EU"})).await.unwrap();
    let reference = |table: &str| json!({"projectId": PROJECT, "datasetId": "d", "tableId": table});
    let job = |name: &str| JobRef::new(PROJECT, name, Some("EU".into()));
    let poll = PollPolicy::default();

    let rows: String = (1..=100).map(|n| format!("{{\"a\": {n}, \"s\": \"{n}\"}}\n")).collect();
    google.storage.write_bytes("vault-eu", "in.json", rows.into(), &WriteOptions::default()).await.unwrap();
    let schema = json!({"fields": [{"name": "a", "type": "INTEGER", "mode": "NULLABLE"}, {"name": "s", "type": "STRING", "mode": "NULLABLE"}]});
    let load = json!({"load": {"sourceUris": ["gs://vault-eu/in.json"], "destinationTable": reference("t"),
        "sourceFormat": "NEWLINE_DELIMITED_JSON", "schema": schema}});
    bigquery.run_job(&job("first"), load, &poll, &mut |_| {}).await.unwrap();

    let snapshot = json!({"copy": {"sourceTable": reference("t"), "destinationTable": reference("t_snap"),
        "operationType": "SNAPSHOT", "destinationExpirationTime": "2099-01-01T00:00:00Z", "writeDisposition": "WRITE_EMPTY"}});
    let done = bigquery.run_job(&job("snap"), snapshot, &poll, &mut |_| {}).await.unwrap();
    assert_eq!(done["configuration"]["copy"]["operationType"], "SNAPSHOT", "enums have names");
    let resource = bigquery.get_table(&id.table("t_snap").unwrap()).await.unwrap();
    assert_eq!((&resource["type"], &resource["numRows"]), (&json!("SNAPSHOT"), &json!("100")));
    assert_eq!(resource["expirationTime"], "4070908800000");

    let extract = json!({"extract": {"sourceTable": reference("t_snap"), "destinationUris": ["gs://vault-eu/x/part-*.avro"],
        "destinationFormat": "AVRO", "compression": "DEFLATE", "useAvroLogicalTypes": true}});
    bigquery.run_job(&job("extract"), extract, &poll, &mut |_| {}).await.unwrap();
    let parts = google
        .storage
        .list_objects("vault-eu", &ListOptions { prefix: "x/".into(), ..ListOptions::default() })
        .await
        .unwrap();
    assert!(parts.objects.iter().any(|object| object.name == "x/part-000000000000.avro"), "{parts:?}");

    let schema = bigquery.get_table(&id.table("t").unwrap()).await.unwrap()["schema"].clone();
    bigquery.insert_table(&id.table("back").unwrap(), json!({"schema": schema.clone()})).await.unwrap();
    let load = json!({"load": {"sourceUris": ["gs://vault-eu/x/part-*.avro"], "destinationTable": reference("back"), "sourceFormat": "AVRO",
        "schema": schema, "createDisposition": "CREATE_NEVER", "writeDisposition": "WRITE_EMPTY", "useAvroLogicalTypes": true,
        "ignoreUnknownValues": false, "decimalTargetTypes": ["NUMERIC", "BIGNUMERIC"]}});
    let done = bigquery.run_job(&job("load"), load, &poll, &mut |_| {}).await.unwrap();
    assert_eq!(done["statistics"]["load"]["outputRows"], "100");
    assert_eq!(done["configuration"]["load"]["decimalTargetTypes"], json!(["NUMERIC", "BIGNUMERIC"]));

    let missing = json!({"extract": {"sourceTable": reference("none"), "destinationUris": ["gs://vault-eu/y"], "destinationFormat": "AVRO"}});
    let failed = bigquery.run_job(&job("missing"), missing, &poll, &mut |_| {}).await;
    assert!(matches!(failed, Err(Failure::NotFound { .. })), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_read_and_written() {
    let (_sandbox, google) = start().await;
    let bigquery = &google.bigquery;
    let table: TableId = with_dataset(&google, "d").await.table("t").unwrap();
    bigquery.insert_table(&table, json!({"schema": {"fields": [{"name": "a", "type": "INTEGER"}]}})).await.unwrap();
    assert_eq!(bigquery.list_row_access_policies(&table).await.unwrap(), Vec::<Value>::new());
    let policy = json!({"rowAccessPolicyReference": {"policyId": "only_big"}, "filterPredicate": "a > 5", "grantees": ["user:a@example.com"]});
    bigquery.insert_row_access_policy(&table, policy.clone()).await.unwrap();
    let again = bigquery.insert_row_access_policy(&table, policy).await;
    assert!(matches!(again, Err(Failure::Exists { .. })), "{again:?}");
    let listed = bigquery.list_row_access_policies(&table).await.unwrap();
    assert_eq!((listed.len(), &listed[0]["filterPredicate"]), (1, &json!("a > 5")));
    let who = bigquery.get_row_access_policy_iam(&table, "only_big").await.unwrap();
    assert!(who.to_string().contains("user:a@example.com"), "{who}");

    let iam = json!({"bindings": [{"role": "roles/bigquery.dataViewer", "members": ["user:b@example.com"]}]});
    bigquery.set_table_iam(&table, iam.clone()).await.unwrap();
    assert_eq!(bigquery.get_table_iam(&table).await.unwrap()["bindings"], iam["bindings"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routines_are_carried_whole() {
    let (_sandbox, google) = start().await;
    let bigquery = &google.bigquery;
    let id = with_dataset(&google, "d").await;
    let routine = json!({"routineType": "SCALAR_FUNCTION", "language": "SQL", "definitionBody": "x + 1",
        "arguments": [{"name": "x", "dataType": {"typeKind": "INT64"}}], "determinismLevel": "DETERMINISTIC"});
    bigquery.insert_routine(&id, "inc", routine.clone()).await.unwrap();
    let got = bigquery.get_routine(&id, "inc").await.unwrap();
    for (key, value) in routine.as_object().unwrap() {
        assert_eq!(&got[key], value, "{key}");
    }
    let names: Vec<_> = bigquery.list_routines(&id).await.unwrap().into_iter().map(|routine| routine.name).collect();
    assert_eq!(names, ["inc"]);
    bigquery.insert_routine(&id, "copy", got).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_store_conforms() {
    let (_sandbox, google) = start().await;
    google.storage.insert_bucket(PROJECT, "vault", json!({"location": "EU"})).await.unwrap();
    for prefix in ["", "deep/inside"] {
        let store = GcsStore::new(google.storage.clone(), "vault", prefix).unwrap();
        store::conformance::run(&store).await;
    }
    let store = GcsStore::new(google.storage.clone(), "no-such-bucket", "").unwrap();
    assert!(matches!(store.head("a").await, Err(Failure::NotFound { .. })), "a missing bucket is no missing object");
    assert_eq!(store.describe(), "gs://no-such-bucket");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_and_objects_are_managed() {
    let (_sandbox, google) = start().await;
    let storage = &google.storage;
    let made =
        storage.insert_bucket(PROJECT, "b-one", json!({"location": "EU", "storageClass": "NEARLINE"})).await.unwrap();
    assert_eq!((made.name.as_str(), made.location.as_str(), made.storage_class.as_str()), ("b-one", "EU", "NEARLINE"));
    assert!(matches!(storage.insert_bucket(PROJECT, "b-one", json!({})).await, Err(Failure::Exists { .. })));
    let rules = json!({"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]}});
    let patched = storage.patch_bucket("b-one", rules.clone(), Some(made.metageneration)).await.unwrap();
    assert_eq!(json!(patched.lifecycle_rules), rules["lifecycle"]["rule"]);
    let stale = storage.patch_bucket("b-one", rules, Some(made.metageneration)).await;
    assert!(matches!(stale, Err(Failure::Precondition { .. })), "{stale:?}");

    let options = WriteOptions {
        if_generation_match: Some(0),
        content_type: Some("text/plain".into()),
        metadata: vec![("k".into(), "v".into())],
        ..WriteOptions::default()
    };
    let written = storage.write_bytes("b-one", "dir/a b+c%20ü", Bytes::from_static(b"hello"), &options).await.unwrap();
    assert_eq!(written.crc32c, Some(crc32c::crc32c(b"hello")));
    let got = storage.get_object("b-one", "dir/a b+c%20ü", None).await.unwrap();
    assert_eq!((got.size_bytes, got.content_type.as_str(), got.metadata["k"].as_str()), (5, "text/plain", "v"));
    assert_eq!((got.generation, got.name.as_str()), (written.generation, "dir/a b+c%20ü"));
    let again = storage.write_bytes("b-one", "dir/a b+c%20ü", Bytes::from_static(b"other"), &options).await;
    assert!(matches!(again, Err(Failure::Precondition { .. })), "{again:?}");

    let held = storage
        .patch_object("b-one", "dir/a b+c%20ü", json!({"temporaryHold": true}), Some(got.metageneration))
        .await
        .unwrap();
    assert!(held.temporary_hold);
    let refused = storage.delete_object("b-one", "dir/a b+c%20ü", None).await;
    assert!(matches!(refused, Err(Failure::Denied { .. } | Failure::Precondition { .. })), "{refused:?}");
    storage.patch_object("b-one", "dir/a b+c%20ü", json!({"temporaryHold": false}), None).await.unwrap();

    storage.insert_bucket(PROJECT, "b-two", json!({"location": "US"})).await.unwrap();
    let copy = storage.rewrite_object(("b-one", "dir/a b+c%20ü"), ("b-two", "copy"), Some(0)).await.unwrap();
    assert_eq!((copy.crc32c, copy.bucket.as_str()), (written.crc32c, "b-two"));
    let again = storage.rewrite_object(("b-one", "dir/a b+c%20ü"), ("b-two", "copy"), Some(0)).await;
    assert!(matches!(again, Err(Failure::Precondition { .. })), "{again:?}");

    let (bytes, generation) = storage.read_all("b-two", "copy", None, 100).await.unwrap();
    assert_eq!((bytes.as_ref(), generation), (b"hello".as_slice(), copy.generation));
    assert!(matches!(storage.read_all("b-two", "copy", None, 4).await, Err(Failure::Invalid { .. })));
    storage.delete_object("b-two", "copy", Some(copy.generation)).await.unwrap();
    assert!(matches!(storage.delete_object("b-two", "copy", None).await, Err(Failure::NotFound { .. })));
    storage.delete_bucket("b-two").await.unwrap();
    let refused = storage.delete_bucket("b-one").await;
    assert!(matches!(refused, Err(Failure::Exists { .. } | Failure::Precondition { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_lists_and_large_objects_come_whole() {
    let (_sandbox, google) = start().await;
    let storage = &google.storage;
    storage.insert_bucket(PROJECT, "big", json!({})).await.unwrap();
    let writes = (0..1_050).map(|n| {
        let storage = storage.clone();
        async move {
            storage.write_bytes("big", &format!("many/{n:05}"), Bytes::new(), &WriteOptions::default()).await.map(drop)
        }
    });
    futures::stream::iter(writes).buffer_unordered(16).for_each(async |done| done.unwrap()).await;
    let all =
        storage.list_objects("big", &ListOptions { prefix: "many/".into(), ..ListOptions::default() }).await.unwrap();
    assert_eq!((all.objects.len(), all.next), (1_050, None), "more than one page");

    // Three parts of 8 MiB and a bit, written and read without being held.
    let chunk = Bytes::from((0..100_003u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    let (count, mut crc) = (260, 0);
    for _ in 0..count {
        crc = crc32c::crc32c_append(crc, &chunk);
    }
    let source = futures::stream::iter((0..count).map({
        let chunk = chunk.clone();
        move |_| Ok(chunk.clone())
    }));
    let written = storage.write_stream("big", "large", source.boxed(), &WriteOptions::default()).await.unwrap();
    assert_eq!((written.size_bytes, written.crc32c), (chunk.len() as u64 * count as u64, Some(crc)));
    let (mut stream, _) = storage.read_stream("big", "large", None).await.unwrap();
    let (mut size, mut sum) = (0, 0);
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.unwrap();
        size += bytes.len() as u64;
        sum = crc32c::crc32c_append(sum, &bytes);
    }
    assert_eq!((size, Some(sum)), (written.size_bytes, written.crc32c));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sheets_are_read_and_written() {
    let (_sandbox, google) = start().await;
    let sheets = &google.sheets;
    let made = sheets.create("Mappings", &["it's one"]).await.unwrap();
    let range = a1("it's one", Some("A1:C3"));
    let rows = vec![
        vec![json!("name"), json!("rate"), json!("ok")],
        vec![json!("=x"), json!(1.5), json!(true)],
        vec![json!("äöü/%"), json!(42), json!(false)],
    ];
    assert_eq!(sheets.write_values(&made.id, &range, &rows, Input::Raw).await.unwrap(), 9);
    let read = sheets.read_values(&made.id, &a1("it's one", None), Render::Values).await.unwrap();
    assert_eq!(read, rows);
    let tab = sheets.add_sheet(&made.id, "second", 50, 4).await.unwrap();
    assert_eq!((tab.title.as_str(), tab.row_count, tab.column_count), ("second", 50, 4));
    assert!(matches!(sheets.add_sheet(&made.id, "second", 50, 4).await, Err(Failure::Invalid { .. })));
    let seen = sheets.get(&made.id).await.unwrap();
    let titles: Vec<_> = seen.sheets.iter().map(|sheet| sheet.title.as_str()).collect();
    assert_eq!((seen.title.as_str(), titles), ("Mappings", vec!["it's one", "second"]));
    sheets.clear_values(&made.id, &range).await.unwrap();
    let read = sheets.read_values(&made.id, &range, Render::Formulas).await.unwrap();
    assert_eq!(read, Vec::<Vec<Value>>::new());
    assert!(matches!(sheets.get("no-such-sheet").await, Err(Failure::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scheduler_jobs_are_paused_and_resumed() {
    let (sandbox, google) = start().await;
    let parent = format!("projects/{PROJECT}/locations/europe-west3");
    let http = reqwest::Client::new();
    for n in 0..3 {
        let name = format!("{parent}/jobs/ingest-{n}");
        let job = json!({"name": name, "schedule": "0 3 * * *", "timeZone": "Europe/Berlin",
            "httpTarget": {"uri": format!("{}/_sandbox/health", sandbox.endpoint()), "httpMethod": "GET"}});
        let made = http.post(format!("{}/v1/{parent}/jobs", sandbox.endpoint())).json(&job).send().await.unwrap();
        assert!(made.status().is_success(), "{}", made.text().await.unwrap());
    }
    let scheduler = &google.scheduler;
    let jobs = scheduler.list_jobs(PROJECT, "europe-west3").await.unwrap();
    assert_eq!(jobs.len(), 3);
    let name = jobs[1].name.clone();
    assert_eq!((jobs[1].state.clone(), jobs[1].schedule.as_str()), (SchedulerState::Enabled, "0 3 * * *"));
    assert_eq!(scheduler.pause_job(&name).await.unwrap().state, SchedulerState::Paused);
    assert_eq!(scheduler.get_job(&name).await.unwrap().state, SchedulerState::Paused);
    assert_eq!(scheduler.resume_job(&name).await.unwrap().state, SchedulerState::Enabled);
    scheduler.run_job(&name).await.unwrap();
    let missing = scheduler.get_job(&format!("{parent}/jobs/none")).await;
    assert!(matches!(missing, Err(Failure::NotFound { .. })), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_is_transient_for_reads() {
    let google = {
        let (_sandbox, google) = start().await;
        google
    };
    let failure = google.bigquery.get_dataset(&dataset("d")).await.unwrap_err();
    assert!(matches!(failure, Failure::Transient { .. }), "{failure:?}");
    assert!(failure.to_string().contains("demo-project.d"), "{failure}");
    let failure = google.storage.get_bucket("b").await.unwrap_err();
    assert!(matches!(failure, Failure::Transient { .. }), "{failure:?}");
    // Nothing was sent: the effect certainly did not happen.
    let failure = google.scheduler.run_job("projects/p/locations/l/jobs/j").await.unwrap_err();
    assert!(matches!(failure, Failure::Transient { .. }), "{failure:?}");
}

/// A service that answers only who has a token for it, and the service of Google's that gives such tokens:
/// https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateIdToken and
/// https://cloud.google.com/run/docs/authenticating/service-to-service.
async fn guarded_service() -> String {
    use axum::extract::{Path, Request};
    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use axum::routing::{any, post};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let audience = format!("{endpoint}/service");
    let tokens = post(move |Path(account): Path<String>, axum::Json(body): axum::Json<Value>| async move {
        if body != json!({"audience": audience, "includeEmail": true}) {
            return (StatusCode::BAD_REQUEST, axum::Json(json!({"error": {"code": 400, "message": body.to_string()}})));
        }
        if account != "caller@demo-project.iam.gserviceaccount.com:generateIdToken" {
            return (
                StatusCode::FORBIDDEN,
                axum::Json(json!({"error": {"code": 403, "message": "may not be impersonated"}})),
            );
        }
        (StatusCode::OK, axum::Json(json!({"token": "a.b.c"})))
    });
    let service = any(|request: Request| async move {
        let token = request.headers().get("authorization").map(|value| value.as_bytes().to_vec());
        match token.as_deref() {
            Some(b"Bearer a.b.c") => (StatusCode::OK, format!("{} {}", request.method(), request.uri().path())),
            _ => (StatusCode::UNAUTHORIZED, "who calls?".to_string()),
        }
        .into_response()
    });
    let router = axum::Router::new()
        .route("/v1/projects/-/serviceAccounts/{account}", tokens)
        .route("/service/{*path}", service);
    tokio::spawn(async move { axum::serve(listener, router).await });
    endpoint
}

#[tokio::test]
async fn a_service_that_asks_who_calls_is_called_in_the_name_of_an_account() {
    let endpoint = guarded_service().await;
    let google = connect(&endpoint).await;
    let service = json!({"uri": format!("{endpoint}/service")});
    let caller = Some("caller@demo-project.iam.gserviceaccount.com");
    let call = |path, body, caller| google.run.call_service(&service, path, body, caller);
    assert_eq!(call("/health", None, caller).await.unwrap(), (200, "GET /service/health".into()));
    assert_eq!(call("/run", Some("{}"), caller).await.unwrap(), (200, "POST /service/run".into()));
    assert_eq!(call("/health", None, None).await.unwrap().0, 401, "without a name");
    let denied = call("/health", None, Some("other@demo-project.iam.gserviceaccount.com")).await.unwrap_err();
    assert!(matches!(&denied, Failure::Denied { object, .. } if object.contains("other@demo-project")), "{denied:?}");
}
