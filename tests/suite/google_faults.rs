//! What the clients make of a network that breaks: errors, cut connections, lost replies. The sandbox does the work,
//! the proxy between breaks it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use strongroom::google::bigquery::{JobRef, PollPolicy, QueryOptions};
use strongroom::google::storage::WriteOptions;
use strongroom::google::{Credentials, Google, RetryPolicy, Settings};
use strongroom::model::{DatasetId, Failure};
use strongroom::store::{GcsStore, Store, Version, stream_of};

use crate::proxy::{Action, Proxy, first};
use crate::sandbox::Sandbox;

const PROJECT: &str = "demo-project";

async fn connect(endpoint: &str, max_attempts: u32) -> Google {
    Google::connect(Settings {
        endpoint: Some(endpoint.into()),
        credentials: Credentials::Anonymous,
        retry: RetryPolicy {
            max_attempts,
            budget: Duration::from_secs(20),
            base_delay: Duration::from_millis(5),
            max_delay: Duration::from_secs(3),
            ..RetryPolicy::default()
        },
        user_agent: "strongroom-test".into(),
    })
    .await
    .unwrap()
}

/// A sandbox with a bucket `vault`, and a client whose way there breaks.
async fn broken(rule: impl Fn(&str, &str) -> Action + Send + Sync + 'static) -> (Sandbox, Google, Proxy) {
    let sandbox = Sandbox::start();
    let direct = connect(sandbox.endpoint(), 5).await;
    direct.storage.insert_bucket(PROJECT, "vault", json!({"location": "EU"})).await.unwrap();
    let proxy = Proxy::start(sandbox.endpoint(), rule).await;
    let google = connect(proxy.endpoint(), 4).await;
    (sandbox, google, proxy)
}

/// As `broken`, with a dataset `d` too.
async fn broken_with_dataset(
    rule: impl Fn(&str, &str) -> Action + Send + Sync + 'static,
) -> (Sandbox, Google, Proxy, DatasetId) {
    let (sandbox, google, proxy) = broken(rule).await;
    let id = DatasetId::new(PROJECT, "d").unwrap();
    connect(sandbox.endpoint(), 5).await.bigquery.insert_dataset(&id, json!({"location": "EU"})).await.unwrap();
    (sandbox, google, proxy, id)
}

fn store(google: &Google) -> GcsStore {
    GcsStore::new(google.storage.clone(), "vault", "p").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_repeated_through_errors_and_cut_connections() {
    for action in [Action::Answer(503, None), Action::Cut, Action::LoseReply] {
        let (_sandbox, google, proxy, id) = broken_with_dataset(first(2, "GET /bigquery", action.clone())).await;
        assert!(google.bigquery.get_dataset(&id).await.is_ok(), "{action:?}");
        assert_eq!(google.bigquery.list_tables(&id).await, Ok(vec![]), "{action:?}");
        assert_eq!(proxy.count("GET /bigquery"), 4, "{action:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_attempts_is_bounded() {
    let (_sandbox, google, proxy, id) = broken_with_dataset(first(99, "/bigquery", Action::Answer(503, None))).await;
    let failure = google.bigquery.get_dataset(&id).await.unwrap_err();
    assert!(matches!(failure, Failure::Transient { .. }), "{failure:?}");
    assert_eq!(proxy.count("/bigquery"), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_given_the_time_that_it_asks_for() {
    let (_sandbox, google, _proxy, id) =
        broken_with_dataset(first(1, "/bigquery", Action::Answer(429, Some("1")))).await;
    let start = Instant::now();
    google.bigquery.get_dataset(&id).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_reply_was_lost_runs_once() {
    let (_sandbox, google, proxy, id) =
        broken_with_dataset(first(1, "POST /bigquery/v2/projects/demo-project/jobs", Action::LoseReply)).await;
    let job = JobRef::new(PROJECT, "only_once", Some("EU".into()));
    let sql = format!("CREATE TABLE `{id}.once` AS SELECT 1 AS a");
    let configuration = json!({"query": {"query": sql, "useLegacySql": false}});
    google.bigquery.run_job(&job, configuration, &PollPolicy::default(), &mut |_| {}).await.unwrap();
    assert_eq!(proxy.count("POST /bigquery/v2/projects/demo-project/jobs"), 2, "it was sent again");
    let options = QueryOptions { location: Some("EU".into()), ..QueryOptions::default() };
    let count =
        google.bigquery.query(PROJECT, &format!("SELECT COUNT(*) AS n FROM `{id}.once`"), &options).await.unwrap();
    assert_eq!(count.cell(0, "n"), Some(&json!("1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creations_whose_reply_was_lost_are_recognised_as_ones_own() {
    let (_sandbox, google, _proxy, id) = broken_with_dataset(first(1, "POST /bigquery", Action::LoseReply)).await;
    let id = id.table("t").unwrap();
    let resource =
        json!({"schema": {"fields": [{"name": "a", "type": "INTEGER", "mode": "NULLABLE"}]}, "labels": {"run": "1"}});
    let made = google.bigquery.insert_table(&id, resource.clone()).await.unwrap();
    assert_eq!(made["labels"], resource["labels"]);
    let again = google.bigquery.insert_table(&id, resource).await;
    assert!(matches!(again, Err(Failure::Exists { .. })), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_whose_reply_was_lost_are_done() {
    let (_sandbox, google, _proxy, id) = broken_with_dataset(first(2, "DELETE /", Action::LoseReply)).await;
    assert_eq!(google.bigquery.delete_dataset(&id, true).await, Ok(()));
    let store = store(&google);
    let version = store.put("k", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(store.delete_if_match("k", &version).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_reply_was_lost_is_ones_own_and_a_lost_race_is_not() {
    let (sandbox, google, proxy) = broken(first(1, "POST /upload", Action::LoseReply)).await;
    let store = store(&google);
    let version = store.put_if_absent("k", Bytes::from_static(b"mine")).await.unwrap();
    assert_eq!(proxy.count("POST /upload"), 2);
    assert_eq!(store.get("k").await.unwrap(), (Bytes::from_static(b"mine"), version.clone()));

    // The first attempt is lost before the server, somebody else writes, the repeat is refused: not ours.
    let direct = GcsStore::new(connect(sandbox.endpoint(), 4).await.storage, "vault", "p").unwrap();
    let (other, handle) = (direct.clone(), tokio::runtime::Handle::current());
    let raced = Proxy::start(sandbox.endpoint(), {
        let cut = first(1, "POST /upload", Action::Cut);
        move |method, path| {
            let action = cut(method, path);
            if action == Action::Cut {
                let other = other.clone();
                let write = async move { other.put_if_absent("race", Bytes::from_static(b"mine too")).await };
                tokio::task::block_in_place(|| handle.block_on(write)).unwrap();
            }
            action
        }
    })
    .await;
    let google = connect(raced.endpoint(), 4).await;
    let result = GcsStore::new(google.storage, "vault", "p")
        .unwrap()
        .put_if_absent("race", Bytes::from_static(b"mine too"))
        .await;
    assert!(matches!(result, Err(Failure::Exists { .. })), "{result:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_whose_reply_was_lost_are_done() {
    let (sandbox, google, _proxy) = broken(first(1, "POST /upload", Action::LoseReply)).await;
    let direct = GcsStore::new(connect(sandbox.endpoint(), 4).await.storage, "vault", "p").unwrap();
    let before = direct.put("lease", Bytes::from_static(b"1")).await.unwrap();
    let after = store(&google).put_if_match("lease", Bytes::from_static(b"2"), &before).await.unwrap();
    assert_eq!(direct.get("lease").await.unwrap(), (Bytes::from_static(b"2"), after));
    let stale = store(&google).put_if_match("lease", Bytes::from_static(b"3"), &Version("no number".into())).await;
    assert!(matches!(stale, Err(Failure::Precondition { .. })), "{stale:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_resumed_where_they_broke() {
    let body = Bytes::from((0..20_000_000u32).map(|n| (n % 253) as u8).collect::<Vec<_>>());
    let part = Action::TakePart(5 * (256 << 10));
    for action in [Action::Answer(503, None), Action::Cut, Action::LoseReply, part] {
        let (_sandbox, google, _proxy) = broken(first(2, "PUT /", action.clone())).await;
        let store = store(&google);
        let info =
            store.write_stream("large", stream_of(body.clone())).await.unwrap_or_else(|e| panic!("{action:?}: {e}"));
        assert_eq!((info.size_bytes, info.crc32c), (body.len() as u64, Some(crc32c::crc32c(&body))), "{action:?}");
        let mut read = store.read("large").await.unwrap();
        let mut sum = 0;
        while let Some(chunk) = read.next().await {
            sum = crc32c::crc32c_append(sum, &chunk.unwrap());
        }
        assert_eq!(sum, crc32c::crc32c(&body), "{action:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_where_they_broke() {
    let (sandbox, _, _) = broken(|_, _| Action::Pass).await;
    let body = Bytes::from((0..3_000_000u32).map(|n| (n % 253) as u8).collect::<Vec<_>>());
    store(&connect(sandbox.endpoint(), 4).await).put("large", body.clone()).await.unwrap();
    for cut in [0, 1, 100_000, 2_999_999] {
        let proxy = Proxy::start(sandbox.endpoint(), first(2, "alt=media", Action::CutBody(cut))).await;
        let store = store(&connect(proxy.endpoint(), 4).await);
        let read = strongroom::store::collect("large", store.read("large").await.unwrap(), u64::MAX).await;
        assert!(read.unwrap_or_else(|e| panic!("{cut}: {e}")) == body, "{cut}");
        assert!(proxy.count("alt=media") >= 2, "{cut}: it was broken");
        let range = store.get_range("large", 10..2_000_000).await.unwrap();
        assert!(range == body.slice(10..2_000_000), "{cut}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_sent_twice_is_unknown() {
    let (_sandbox, google, proxy) = broken(first(1, "POST /v4", Action::LoseReply)).await;
    let failure = google.sheets.create("once", &[]).await.unwrap_err();
    assert!(matches!(failure, Failure::Unknown { .. }), "{failure:?}");
    assert_eq!(proxy.count("POST /v4"), 1);
    let (_sandbox, google, proxy) = broken(first(1, ":run", Action::LoseReply)).await;
    let failure = google.scheduler.run_job("projects/demo-project/locations/l/jobs/j").await.unwrap_err();
    assert!(matches!(failure, Failure::Unknown { .. }), "{failure:?}");
    assert_eq!(proxy.count(":run"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_without_any_answer_is_unknown() {
    let (_sandbox, google, _proxy) = broken(first(99, "upload", Action::LoseReply)).await;
    let options = WriteOptions { if_generation_match: Some(0), ..WriteOptions::default() };
    // No reply to any attempt; but what is there carries this write's number.
    let known = google.storage.write_bytes("vault", "a", Bytes::from_static(b"x"), &options).await;
    assert!(known.as_ref().is_ok_and(|object| object.size_bytes == 1), "{known:?}");
    // When that cannot be seen either, the outcome is unknown.
    let (_sandbox, google, _proxy) = broken(first(99, "vault", Action::LoseReply)).await;
    let failure = google.storage.write_bytes("vault", "a", Bytes::from_static(b"x"), &options).await.unwrap_err();
    assert!(matches!(failure, Failure::Unknown { .. }), "{failure:?}");
}
