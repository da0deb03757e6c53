//! Cloud Run as a client sees it: deploy, redeploy, fail, rotate a key.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::Method;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::core::{Options, Sandbox, gate};

const PARENT: &str = "/v2/projects/p/locations/us-central1";

struct Cloud {
    sandbox: Arc<Sandbox>,
    _dir: tempfile::TempDir,
}

impl Cloud {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            project: "p".into(),
            allow_external_targets: false,
            bigquery: crate::bigquery::Settings::default(),
        };
        Self { sandbox: Sandbox::open(dir.path(), options).unwrap(), _dir: dir }
    }

    /// Status and answer, through the gate as every request goes.
    async fn call(&self, method: Method, path: impl AsRef<str>, body: Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path.as_ref()).header("host", "127.0.0.1:9");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let sandbox = self.sandbox.clone();
        let response = gate::through(&self.sandbox, request, |request| {
            Box::pin(async move {
                let path = request.uri().path().to_string();
                let result = match path.split('/').nth(1) {
                    Some("_services") => super::container(&sandbox, request).await,
                    Some("_sandbox") => super::admin(&sandbox, request).await,
                    Some("v1") => crate::secrets::serve(&sandbox, request).await,
                    _ => super::serve(&sandbox, request).await,
                };
                result.unwrap_or_else(IntoResponse::into_response)
            })
        })
        .await;
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.call(Method::GET, path, json!({})).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Waits for what a call started; gives the operation.
    async fn done(&self, started: (u16, Value)) -> Value {
        let (status, operation) = started;
        assert_eq!(status, 200, "{operation}");
        assert_eq!(operation.get("done"), None, "a deployment takes time");
        let name = operation["name"].as_str().unwrap();
        let (status, ended) = self.call(Method::POST, &format!("/v2/{name}:wait"), json!({ "timeout": "20s" })).await;
        assert_eq!((status, &ended["done"]), (200, &json!(true)), "{ended}");
        ended
    }

    async fn deploy(&self, id: &str, template: Value) -> Value {
        let path = format!("{PARENT}/services?serviceId={id}");
        self.done(self.call(Method::POST, &path, json!({ "template": template })).await).await
    }
}

fn image(name: &str) -> Value {
    json!({ "containers": [{ "image": name }] })
}

#[tokio::test]
async fn a_service_is_deployed_changed_and_deleted() {
    let cloud = Cloud::new();
    let made = cloud.deploy("pipeline", image("gcr.io/p/i:1")).await;
    let service = &made["response"];
    assert_eq!(service["@type"], "type.googleapis.com/google.cloud.run.v2.Service");
    assert_eq!(service["uri"], "http://127.0.0.1:9/_services/p/us-central1/pipeline");
    assert_eq!((&service["generation"], &service["observedGeneration"]), (&json!("1"), &json!("1")));
    assert_eq!(service["terminalCondition"]["state"], "CONDITION_SUCCEEDED");
    assert_eq!(service["latestReadyRevision"], service["latestCreatedRevision"]);
    let first = service["latestReadyRevision"].as_str().unwrap().to_string();
    assert!(first.contains("/services/pipeline/revisions/pipeline-00001-"), "{first}");
    let path = format!("{PARENT}/services/pipeline");
    let twice =
        cloud.call(Method::POST, format!("{PARENT}/services?serviceId=pipeline"), json!({ "template": image("i") }));
    assert_eq!(twice.await.0, 409);

    // A label alone makes no revision; another image does, and so does force.
    let patch =
        |query: &str, body: Value| cloud.call(Method::PATCH, format!("{PARENT}/services/pipeline?{query}"), body);
    let ended = cloud.done(patch("updateMask=labels", json!({ "labels": { "a": "b" } })).await).await;
    assert_eq!(ended["response"]["latestReadyRevision"], json!(first));
    let ended = cloud
        .done(patch("update_mask=x&updateMask=template", json!({ "template": image("gcr.io/p/i:2") })).await)
        .await;
    let second = ended["response"]["latestReadyRevision"].as_str().unwrap();
    assert!(second.contains("pipeline-00002-"), "{second}");
    assert_eq!(ended["response"]["labels"], json!({ "a": "b" }));
    let whole = cloud.get(&path).await;
    let ended = cloud.done(patch("forceNewRevision=true", whole.clone()).await).await;
    assert!(ended["response"]["latestReadyRevision"].as_str().unwrap().contains("pipeline-00003-"));
    assert_eq!(ended["response"]["generation"], "4");
    let revisions = cloud.get(&format!("{path}/revisions?pageSize=2")).await;
    assert_eq!(revisions["revisions"].as_array().unwrap().len(), 2);
    let next = revisions["nextPageToken"].as_str().unwrap();
    let rest = cloud.get(&format!("{path}/revisions?pageToken={next}")).await;
    assert_eq!((rest["revisions"].as_array().unwrap().len(), rest.get("nextPageToken")), (1, None));

    // What was read is stale now.
    let (status, error) = patch("", whole).await;
    assert_eq!((status, &error["error"]["status"]), (409, &json!("ABORTED")));
    for (query, body) in [
        ("updateMask=uri", json!({})),
        ("updateMask=template", json!({ "template": {} })),
        ("updateMask=traffic", json!({ "traffic": [{ "revision": "pipeline-none", "percent": 100 }] })),
    ] {
        assert_eq!(patch(query, body).await.0, 400, "{query}");
    }
    // Only looked at.
    let before = cloud.get(&path).await;
    let (status, checked) = patch("validateOnly=true", json!({ "template": image("gcr.io/p/i:9") })).await;
    assert_eq!((status, &checked["done"]), (200, &json!(true)));
    assert_eq!(cloud.get(&path).await, before);

    let integers = cloud.get(&format!("{path}?%24alt=json%3Benum-encoding%3Dint")).await;
    assert_eq!((&integers["ingress"], &integers["terminalCondition"]["state"]), (&json!(1), &json!(4)));
    let (status, _) = cloud.call(Method::DELETE, &path, json!({})).await;
    assert_eq!((status, cloud.call(Method::GET, &path, json!({})).await.0), (200, 404));
    assert_eq!(cloud.get(&format!("{PARENT}/services")).await["services"], json!([]));
    let operations = cloud.get(&format!("{PARENT}/operations?filter=done%3Dtrue")).await;
    assert_eq!(operations["operations"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn an_unhealthy_service_is_well_after_a_redeployment() {
    let cloud = Cloud::new();
    cloud.deploy("s", image("gcr.io/p/i:1")).await;
    let at = "/_services/p/us-central1/s";
    let health = || cloud.call(Method::GET, "/_services/p/us-central1/s/health", json!({}));
    let dry = || {
        cloud.call(Method::POST, "/_services/p/us-central1/s/run-daily-job", json!({ "mode": "dry_run", "days": 2 }))
    };
    assert_eq!(health().await.1["status"], "healthy");
    cloud.sandbox.set_clock_us(crate::core::clock::parse_rfc3339_us("2026-03-02T12:00:00Z").unwrap()).unwrap();
    let (status, ran) = dry().await;
    assert_eq!((status, &ran["usage_dates"]), (200, &json!(["2026-02-28", "2026-03-01"])));
    for bad in [json!({ "mode": "maybe" }), json!({ "days": 0 }), json!({ "days": "1" })] {
        assert_eq!(cloud.call(Method::POST, &format!("{at}/run-daily-job"), bad).await.0, 400);
    }

    let trouble = json!({ "healthy": false, "ready": false, "message": "out of memory" });
    let (status, state) = cloud.call(Method::PUT, "/_sandbox/services/p/us-central1/s", trouble).await;
    assert_eq!((status, &state["healthy"]), (200, &json!(false)));
    let (status, answer) = health().await;
    assert_eq!((status, &answer["error"]), (503, &json!("out of memory")));
    assert_eq!(dry().await.0, 500);
    let path = format!("{PARENT}/services/s");
    let condition = cloud.get(&path).await["terminalCondition"].clone();
    assert_eq!((&condition["state"], &condition["message"]), (&json!("CONDITION_FAILED"), &json!("out of memory")));

    // A label mends nothing.
    let label = cloud.call(Method::PATCH, format!("{path}?updateMask=labels"), json!({ "labels": { "a": "b" } })).await;
    assert_eq!(cloud.done(label).await["error"]["message"], "out of memory");
    // The first redeployment fails and leaves the traffic where it was.
    cloud.call(Method::PUT, "/_sandbox/services/p/us-central1/s", json!({ "failing_deployments": 1 })).await;
    let force = format!("{path}?forceNewRevision=true&updateMask=template");
    let same = json!({ "template": image("gcr.io/p/i:1") });
    let failed = cloud.done(cloud.call(Method::PATCH, &force, same.clone()).await).await;
    assert_eq!((&failed["error"]["code"], failed.get("response")), (&json!(9), None));
    let service = cloud.get(&path).await;
    assert_ne!(service["latestReadyRevision"], service["latestCreatedRevision"]);
    assert_eq!(service["terminalCondition"]["revisionReason"], "HEALTH_CHECK_CONTAINER_ERROR");
    assert_eq!(health().await.0, 503);

    cloud.done(cloud.call(Method::PATCH, &force, same).await).await;
    assert_eq!((health().await.0, dry().await.0), (200, 200));
    let (status, _) = cloud.call(Method::PUT, "/_sandbox/services/p/us-central1/s", json!({ "helthy": true })).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_rotated_key_is_taken_up_by_a_new_revision() {
    let cloud = Cloud::new();
    let secret = "/v1/projects/p/secrets";
    let add =
        || cloud.call(Method::POST, "/v1/projects/p/secrets/key:addVersion", json!({ "payload": { "data": "b25l" } }));
    let variable =
        json!({ "name": "KEY", "valueSource": { "secretKeyRef": { "secret": "key", "version": "latest" } } });
    let template = json!({ "containers": [{ "image": "i", "env": [variable] }] });

    let failed = cloud.deploy("s", template.clone()).await;
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.contains("projects/p/secrets/key/versions/latest was not found"), "{message}");
    assert_eq!(cloud.call(Method::GET, "/_services/p/us-central1/s/health", json!({})).await.0, 503);

    cloud.call(Method::POST, &format!("{secret}?secretId=key"), json!({ "replication": { "automatic": {} } })).await;
    add().await;
    let restart = || async {
        let path = format!("{PARENT}/services/s?forceNewRevision=true&updateMask=template");
        cloud.done(cloud.call(Method::PATCH, &path, json!({ "template": template })).await).await
    };
    assert!(restart().await.get("response").is_some());
    let health = || cloud.call(Method::GET, "/_services/p/us-central1/s/health", json!({}));
    assert_eq!(health().await.1["secrets"]["KEY"], "projects/p/secrets/key/versions/1");

    add().await;
    assert_eq!(health().await.1["secrets"]["KEY"], "projects/p/secrets/key/versions/1", "it was not started again");
    cloud.call(Method::POST, &format!("{secret}/key/versions/1:disable"), json!({})).await;
    let (status, answer) = health().await;
    assert!(status == 503 && answer["error"].as_str().unwrap().contains("DISABLED"), "{answer}");
    restart().await;
    let (status, answer) = health().await;
    assert_eq!((status, &answer["secrets"]["KEY"]), (200, &json!("projects/p/secrets/key/versions/2")));
}
