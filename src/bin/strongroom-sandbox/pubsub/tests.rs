//! Pub/Sub as a client sees it: its methods, and the same over gRPC on a real socket.

use std::future::IntoFuture;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{call, text, texts};
use crate::core::{ApiError, Options, Sandbox};

const TOPIC: &str = "projects/p/topics/top";
const SUB: &str = "projects/p/subscriptions/sub";

struct Cloud {
    sandbox: Arc<Sandbox>,
    _dir: tempfile::TempDir,
}

impl Cloud {
    async fn with(subscription: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            project: "p".into(),
            allow_external_targets: false,
            bigquery: crate::bigquery::Settings::default(),
        };
        let cloud = Self { sandbox: Sandbox::open(dir.path(), options).unwrap(), _dir: dir };
        cloud.ok("topics.create", json!({ "name": TOPIC })).await;
        let mut request = json!({ "name": SUB, "topic": TOPIC });
        request.as_object_mut().unwrap().extend(subscription.as_object().unwrap().clone());
        cloud.ok("subscriptions.create", request).await;
        cloud
    }

    async fn ask(&self, verb: &str, request: Value) -> Result<Value, ApiError> {
        call(&self.sandbox, verb, request).await
    }

    async fn ok(&self, verb: &str, request: Value) -> Value {
        self.ask(verb, request).await.unwrap()
    }

    async fn publish(&self, messages: &[(&str, &str)]) -> Vec<String> {
        let messages: Vec<Value> =
            messages.iter().map(|(d, key)| json!({ "data": STANDARD.encode(d), "orderingKey": key })).collect();
        texts(&self.ok("topics.publish", json!({ "topic": TOPIC, "messages": messages })).await, "messageIds")
    }

    /// (text, ack id) of what is delivered now.
    async fn pull(&self, most: usize) -> Vec<(String, String)> {
        let request = json!({ "subscription": SUB, "maxMessages": most, "returnImmediately": true });
        let answer = self.ok("subscriptions.pull", request).await;
        let data = |m: &Value| String::from_utf8(STANDARD.decode(text(&m["message"], "data")).unwrap()).unwrap();
        let received = answer["receivedMessages"].as_array().into_iter().flatten();
        received.map(|m| (data(m), text(m, "ackId").to_string())).collect()
    }

    async fn texts(&self) -> Vec<String> {
        self.pull(100).await.into_iter().map(|(t, _)| t).collect()
    }

    async fn ack(&self, ids: &[String]) {
        self.ok("subscriptions.acknowledge", json!({ "subscription": SUB, "ackIds": ids })).await;
    }

    fn later(&self, seconds: i64) {
        self.sandbox.set_clock_us(self.sandbox.clock.now_us() + seconds * 1_000_000).unwrap();
    }
}

#[tokio::test]
async fn a_message_is_delivered_until_it_is_acknowledged() {
    let cloud = Cloud::with(json!({})).await;
    assert_eq!(cloud.publish(&[("a", ""), ("b", "")]).await.len(), 2);
    let first = cloud.pull(1).await;
    assert_eq!(first[0].0, "a");
    assert_eq!(cloud.texts().await, ["b"], "a is on its way");
    cloud.ack(&[first[0].1.clone()]).await;
    cloud.later(11);
    let again = cloud.pull(10).await;
    assert_eq!(again.iter().map(|(t, _)| t.as_str()).collect::<Vec<_>>(), ["b"]);
    // Prolonged, then given up.
    let ids = json!([again[0].1]);
    let extend = |s: i64| json!({ "subscription": SUB, "ackIds": ids, "ackDeadlineSeconds": s });
    cloud.ok("subscriptions.modifyAckDeadline", extend(60)).await;
    cloud.later(30);
    assert!(cloud.texts().await.is_empty());
    cloud.ok("subscriptions.modifyAckDeadline", extend(0)).await;
    assert_eq!(cloud.texts().await, ["b"]);
    // Kept no longer than the subscription says.
    cloud.later(8 * 86_400);
    assert!(cloud.texts().await.is_empty());
}

#[tokio::test]
async fn keys_keep_their_order() {
    let cloud = Cloud::with(json!({ "enableMessageOrdering": true })).await;
    cloud.publish(&[("a1", "a"), ("b1", "b"), ("a2", "a"), ("x", "")]).await;
    let first = cloud.pull(1).await;
    assert_eq!(first[0].0, "a1");
    assert_eq!(cloud.texts().await, ["b1", "x"], "a2 waits for a1");
    cloud.ack(&[first[0].1.clone()]).await;
    assert_eq!(cloud.texts().await, ["a2"]);
}

#[tokio::test]
async fn snapshots_and_times_can_be_sought() {
    let cloud = Cloud::with(json!({ "retainAckedMessages": true })).await;
    cloud.publish(&[("a", ""), ("b", "")]).await;
    let both = cloud.pull(10).await;
    cloud.ack(&[both[0].1.clone()]).await;
    let snapshot = "projects/p/snapshots/snap";
    let made = cloud.ok("snapshots.create", json!({ "name": snapshot, "subscription": SUB })).await;
    assert_eq!((&made["topic"], made.get("_open")), (&json!(TOPIC), None));
    cloud.ack(&[both[1].1.clone()]).await;
    cloud.later(1);
    cloud.publish(&[("c", "")]).await;
    let seek = |request: Value| cloud.ok("subscriptions.seek", request);
    seek(json!({ "subscription": SUB, "snapshot": snapshot })).await;
    assert_eq!(cloud.texts().await, ["b", "c"]);
    seek(json!({ "subscription": SUB, "time": "1970-01-01T00:00:00Z" })).await;
    assert_eq!(cloud.texts().await, ["a", "b", "c"]);
    seek(json!({ "subscription": SUB, "time": "2100-01-01T00:00:00Z" })).await;
    assert!(cloud.texts().await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_delivered_goes_to_the_dead_letters() {
    let cloud = Cloud::with(json!({})).await;
    let (dead, letters) = ("projects/p/topics/dead", "projects/p/subscriptions/letters");
    cloud.ok("topics.create", json!({ "name": dead })).await;
    cloud.ok("subscriptions.create", json!({ "name": letters, "topic": dead })).await;
    let change = json!({ "name": SUB, "deadLetterPolicy": { "deadLetterTopic": dead, "maxDeliveryAttempts": 5 } });
    cloud.ok("subscriptions.patch", json!({ "subscription": change, "updateMask": "dead_letter_policy" })).await;
    cloud.publish(&[("a", "")]).await;
    for attempt in 0..5 {
        assert_eq!(cloud.texts().await, ["a"], "{attempt}");
        cloud.later(11);
    }
    assert!(cloud.texts().await.is_empty());
    let request = json!({ "subscription": letters, "maxMessages": 1, "returnImmediately": true });
    let found = cloud.ok("subscriptions.pull", request).await;
    let attributes = &found["receivedMessages"][0]["message"]["attributes"];
    assert_eq!(attributes["CloudPubSubDeadLetterSourceSubscription"], "sub");
}

#[tokio::test]
async fn bad_requests_are_refused_and_topics_leave_their_subscriptions_behind() {
    let cloud = Cloud::with(json!({})).await;
    for (verb, request, code) in [
        ("topics.create", json!({ "name": TOPIC }), 409),
        ("topics.create", json!({ "name": "projects/p/topics/1x" }), 400),
        ("topics.create", json!({ "name": "projects/p/topics/google" }), 400),
        ("topics.get", json!({ "topic": "projects/p/topics/none" }), 404),
        ("topics.publish", json!({ "topic": TOPIC, "messages": [{ "data": "" }] }), 400),
        ("topics.publish", json!({ "topic": "projects/p/topics/none", "messages": [{ "data": "YQ==" }] }), 404),
        ("topics.patch", json!({ "topic": { "name": TOPIC } }), 400),
        ("subscriptions.create", json!({ "name": SUB, "topic": TOPIC }), 409),
        ("subscriptions.create", json!({ "name": format!("{SUB}2"), "topic": TOPIC, "ackDeadlineSeconds": 5 }), 400),
        ("subscriptions.create", json!({ "name": format!("{SUB}2"), "topic": TOPIC, "filter": "x" }), 501),
        ("subscriptions.pull", json!({ "subscription": SUB }), 400),
        ("subscriptions.seek", json!({ "subscription": SUB }), 400),
        ("schemas.list", json!({}), 501),
    ] {
        assert_eq!(cloud.ask(verb, request.clone()).await.unwrap_err().code, code, "{verb} {request}");
    }
    cloud.publish(&[("a", "")]).await;
    let below = cloud.ok("topics.subscriptions.list", json!({ "topic": TOPIC })).await;
    assert_eq!(below["subscriptions"], json!([SUB]));
    cloud.ok("topics.delete", json!({ "topic": TOPIC })).await;
    let left = cloud.ok("subscriptions.get", json!({ "subscription": SUB })).await;
    assert_eq!(left["topic"], "_deleted-topic_");
    assert_eq!(cloud.texts().await, ["a"], "what was published is still delivered");
    cloud.ok("subscriptions.detach", json!({ "subscription": SUB })).await;
    let pull = json!({ "subscription": SUB, "maxMessages": 1, "returnImmediately": true });
    assert_eq!(cloud.ask("subscriptions.pull", pull).await.unwrap_err().status(), "FAILED_PRECONDITION");
}

/// A call over gRPC: the message in the first frame of the answer.
async fn grpc(client: &reqwest::Client, base: &str, method: &str, asked: &Value) -> Result<Value, String> {
    let (_, request, answer) = super::wire::rpc(method).unwrap();
    let service = if method.contains("Topic") || method == "Publish" { "Publisher" } else { "Subscriber" };
    let message = super::wire::encode(request, asked);
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let sent = client.post(format!("{base}/google.pubsub.v1.{service}/{method}"));
    let sent = sent.header("content-type", "application/grpc").body(frame).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    if let Some(status) = sent.headers().get("grpc-status") {
        let message = sent.headers()["grpc-message"].to_str().unwrap();
        return Err(format!("{} {message}", status.to_str().unwrap()));
    }
    let bytes = sent.bytes().await.unwrap();
    Ok(super::wire::decode(answer, &bytes[5..]).unwrap())
}

#[tokio::test]
async fn grpc_is_served_on_the_same_port() {
    use futures::StreamExt;

    let cloud = Cloud::with(json!({})).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(axum::serve(listener, crate::router(&cloud.sandbox).unwrap()).into_future());
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();

    let topic = "projects/p/topics/other";
    let made = grpc(&client, &base, "CreateTopic", &json!({ "name": topic, "labels": { "a": "b" } })).await.unwrap();
    assert_eq!(made["labels"], json!({ "a": "b" }));
    let twice = grpc(&client, &base, "CreateTopic", &json!({ "name": topic })).await.unwrap_err();
    assert!(twice.starts_with("6 Resource%20already%20exists"), "{twice}");
    let listed = grpc(&client, &base, "ListTopics", &json!({ "project": "projects/p", "pageSize": 1 })).await.unwrap();
    assert_eq!((text(&listed["topics"][0], "name"), text(&listed, "nextPageToken")), (topic, topic));

    // A stream gets what is published after it was opened, and what it acknowledges does not come again.
    let (send, receive) = tokio::sync::mpsc::channel::<Vec<u8>>(4);
    let body = futures::stream::unfold(receive, |mut r| async { Some((Ok::<_, std::io::Error>(r.recv().await?), r)) });
    let frame = |fields, value: Value| {
        let message = super::wire::encode(fields, &value);
        [vec![0], u32::try_from(message.len()).unwrap().to_be_bytes().to_vec(), message].concat()
    };
    let first = json!({ "subscription": SUB, "streamAckDeadlineSeconds": 10 });
    send.send(frame(super::wire::STREAMING_PULL, first)).await.unwrap();
    let opened = client.post(format!("{base}/google.pubsub.v1.Subscriber/StreamingPull"));
    let opened = opened.header("content-type", "application/grpc").body(reqwest::Body::wrap_stream(body));
    let mut answers = opened.send().await.unwrap().bytes_stream();
    let messages = json!([{ "data": "YQ==", "attributes": { "k": "v" } }]);
    grpc(&client, &base, "Publish", &json!({ "topic": TOPIC, "messages": messages })).await.unwrap();
    let bytes = answers.next().await.unwrap().unwrap();
    let answer = super::wire::decode(super::wire::STREAMED, &bytes[5..]).unwrap();
    let received = &answer["receivedMessages"][0];
    assert_eq!((text(&received["message"], "data"), &received["message"]["attributes"]["k"]), ("YQ==", &json!("v")));
    send.send(frame(super::wire::STREAMING_PULL, json!({ "ackIds": [received["ackId"]] }))).await.unwrap();
    drop(send);
    assert!(answers.next().await.is_none(), "the stream ends when its client is done");
    cloud.later(60);
    assert!(cloud.texts().await.is_empty());
    server.abort();
}
