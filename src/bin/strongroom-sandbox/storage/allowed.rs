//! Tests: what a caller with few permissions can and cannot do to objects.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::Method;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use crate::core::{Options, Sandbox, gate};

async fn call(sandbox: &Arc<Sandbox>, method: Method, uri: &str, token: &str, body: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(uri).header("authorization", format!("Bearer {token}"));
    let kind = if body.starts_with("--") { "multipart/related; boundary=x" } else { "text/plain" };
    let request = request.header("content-type", kind).body(Body::from(body.to_string())).unwrap();
    let inner = sandbox.clone();
    let response = gate::through(sandbox, request, |request| {
        Box::pin(async move { super::serve(&inner, request).await.unwrap_or_else(IntoResponse::into_response) })
    })
    .await;
    let (status, location) = (response.status().as_u16(), response.headers().get("location").cloned());
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let mut answer: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    if let Some(location) = location {
        answer = json!({ "location": location.to_str().unwrap() });
    }
    (status, answer)
}

/// A sandbox with the bucket `vault`, and the tokens `creator` (creates only), `reader` (reads, does not list) and `keeper`.
fn vault() -> (Arc<Sandbox>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options =
        Options { project: "p".into(), allow_external_targets: false, bigquery: crate::bigquery::Settings::default() };
    let sandbox = Sandbox::open(dir.path(), options).unwrap();
    let bucket = json!({ "name": "vault" });
    super::buckets::create(&sandbox, "p", bucket.as_object().unwrap_or(&Map::new())).unwrap();
    let principal = |name: &str, permissions: &[&str]| {
        json!({
            "token": name,
            "email": format!("{name}@p.iam.gserviceaccount.com"),
            "grants": [{ "permissions": permissions, "resource": "projects/_/buckets/vault*" }],
        })
    };
    let table = json!({ "principals": [
        principal("creator", &["storage.objects.create"]),
        principal("reader", &["storage.objects.get"]),
        principal("keeper", &["storage.objects.*", "storage.buckets.get"]),
    ]});
    sandbox.permissions.set(serde_json::from_value(table).unwrap()).unwrap();
    (sandbox, dir)
}

const OBJECT: &str = "/storage/v1/b/vault/o/a%2Fb";
const UPLOAD: &str = "/upload/storage/v1/b/vault/o?uploadType=media&name=a%2Fb";

#[tokio::test]
async fn who_may_only_create_neither_reads_nor_replaces_nor_deletes() {
    let (sandbox, _dir) = vault();
    let absent = format!("{UPLOAD}&ifGenerationMatch=0");
    let (status, made) = call(&sandbox, Method::POST, &absent, "creator", "one").await;
    assert_eq!((status, &made["size"]), (200, &json!("3")));
    // The condition is judged first; without one it is a question of permission.
    assert_eq!(call(&sandbox, Method::POST, &absent, "creator", "two").await.0, 412);
    let (status, error) = call(&sandbox, Method::POST, UPLOAD, "creator", "two").await;
    assert_eq!((status, &error["error"]["errors"][0]["reason"]), (403, &json!("forbidden")));
    let message = error["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("creator@p.iam.gserviceaccount.com does not have storage.objects.delete access to the"),
        "{message}"
    );
    // The name of a multipart upload stands in its body.
    let parts = |name: &str| {
        format!(
            "--x\r\nContent-Type: application/json\r\n\r\n{{\"name\":\"{name}\"}}\r\n--x\r\nContent-Type: text/plain\r\n\r\ntwo\r\n--x--\r\n"
        )
    };
    let multipart = "/upload/storage/v1/b/vault/o?uploadType=multipart";
    for (token, name, expected) in [("creator", "a/b", 403), ("reader", "a/m", 403), ("creator", "a/m", 200)] {
        let (status, answer) = call(&sandbox, Method::POST, multipart, token, &parts(name)).await;
        assert_eq!(status, expected, "{token} {name} {answer}");
    }
    let refused = [
        (Method::GET, OBJECT.to_string()),
        (Method::GET, format!("{OBJECT}?alt=media")),
        (Method::GET, "/vault/a/b".into()),
        (Method::PUT, "/vault/a/b".into()),
        (Method::PATCH, OBJECT.into()),
        (Method::DELETE, OBJECT.into()),
        (Method::GET, "/storage/v1/b/vault/o".into()),
        (Method::GET, "/storage/v1/b/vault".into()),
        (Method::POST, format!("{OBJECT}/rewriteTo/b/vault/o/c")),
        (Method::POST, "/upload/storage/v1/b/vault/o?uploadType=resumable&name=a%2Fb".into()),
        (Method::POST, "/storage/v1/b/vault/o/c/compose".into()),
    ];
    for (method, uri) in refused {
        let body = if uri.ends_with("compose") { r#"{"sourceObjects":[{"name":"a/b"}]}"# } else { "{}" };
        assert_eq!(call(&sandbox, method.clone(), &uri, "creator", body).await.0, 403, "{method} {uri}");
    }
    let (_, kept) = call(&sandbox, Method::GET, &format!("{OBJECT}?alt=json"), "keeper", "").await;
    assert_eq!(kept["generation"], made["generation"]);
    // Another bucket is another matter, whatever its name.
    assert_eq!(call(&sandbox, Method::GET, "/storage/v1/b/other/o/x", "keeper", "").await.0, 403);
    // Who is not known may do all, as ever.
    assert_eq!(call(&sandbox, Method::POST, UPLOAD, "somebody", "two").await.0, 200);
    assert_eq!(call(&sandbox, Method::DELETE, OBJECT, "keeper", "").await.0, 204);
}

#[tokio::test]
async fn an_upload_that_was_begun_keeps_the_rights_of_its_beginning() {
    let (sandbox, _dir) = vault();
    let begin = "/upload/storage/v1/b/vault/o?uploadType=resumable&name=a%2Fb";
    let (status, begun) = call(&sandbox, Method::POST, begin, "creator", "{}").await;
    assert_eq!(status, 200);
    let session = begun["location"].as_str().unwrap().trim_start_matches("http://127.0.0.1").to_string();
    // Meanwhile somebody else made the object: it is not replaced.
    assert_eq!(call(&sandbox, Method::POST, UPLOAD, "keeper", "two").await.0, 200);
    assert_eq!(call(&sandbox, Method::PUT, &session, "keeper", "one").await.0, 403);
}

#[tokio::test]
async fn what_is_held_is_told_and_what_is_absent_only_to_those_who_list() {
    let (sandbox, _dir) = vault();
    let asked =
        "/storage/v1/b/vault/iam/testPermissions?permissions=storage.objects.get&permissions=storage.objects.delete";
    for (token, held) in [
        ("reader", json!(["storage.objects.get"])),
        ("creator", json!([])),
        ("keeper", json!(["storage.objects.get", "storage.objects.delete"])),
    ] {
        let (status, answer) = call(&sandbox, Method::GET, asked, token, "").await;
        assert_eq!((status, &answer["permissions"]), (200, &held), "{token}");
    }
    assert_eq!(call(&sandbox, Method::GET, OBJECT, "keeper", "").await.0, 404);
    let (status, error) = call(&sandbox, Method::GET, OBJECT, "reader", "").await;
    assert!(status == 403 && error["error"]["message"].as_str().unwrap().contains("storage.objects.list"), "{error}");
}
