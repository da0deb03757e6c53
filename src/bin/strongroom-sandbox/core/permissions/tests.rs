//! The table of permissions, request by request.

use serde_json::json;

use super::*;
use crate::core::log::name_of;

fn worker(permissions: &[&str], resource: &str) -> Principal {
    Principal {
        token: "t".into(),
        email: "worker@p.iam.gserviceaccount.com".into(),
        grants: vec![Grant {
            permissions: permissions.iter().map(ToString::to_string).collect(),
            resource: resource.into(),
        }],
    }
}

fn needs(method: &str, path: &str, body: Value) -> Vec<String> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let params = Params::parse(Some(query));
    let name = name_of(method, path, &params).1;
    let (needs, _) = of_request(&name, path, &params, Some(&body));
    needs.iter().map(|n| format!("{} {}", n.permission, n.subject.resource())).collect()
}

#[test]
fn requests_need_what_googles_tables_say() {
    let object = "projects/_/buckets/b/objects/a/x";
    let table = "projects/p/datasets/d/tables/t";
    let reference = json!({ "projectId": "p", "datasetId": "d", "tableId": "t@123" });
    let extract = json!({ "sourceTable": reference, "destinationUris": ["gs://b/a/x"] });
    for (method, path, body, expected) in [
        ("POST", "/upload/storage/v1/b/b/o?name=a%2Fx", json!({}), vec![format!("storage.objects.create {object}")]),
        ("PUT", "/upload/storage/v1/b/b/o?name=a%2Fx&upload_id=7", json!({}), vec![]),
        ("GET", "/storage/v1/b/b/o/a%2Fx?alt=media", json!({}), vec![format!("storage.objects.get {object}")]),
        ("GET", "/b/a/x", json!({}), vec![format!("storage.objects.get {object}")]),
        ("GET", "/storage/v1/b/b/o", json!({}), vec!["storage.objects.list projects/_/buckets/b".into()]),
        ("PATCH", "/storage/v1/b/b", json!({}), vec!["storage.buckets.update projects/_/buckets/b".into()]),
        (
            "POST",
            "/storage/v1/b/b/o/a%2Fx/rewriteTo/b/c/o/y",
            json!({}),
            vec![
                format!("storage.objects.get {object}"),
                "storage.objects.create projects/_/buckets/c/objects/y".into(),
            ],
        ),
        ("GET", "/bigquery/v2/projects/p/datasets/d/tables/t", json!({}), vec![format!("bigquery.tables.get {table}")]),
        (
            "GET",
            "/bigquery/v2/projects/p/datasets/d/tables/t/data",
            json!({}),
            vec![format!("bigquery.tables.getData {table}")],
        ),
        (
            "POST",
            "/bigquery/v2/projects/p/datasets/d/tables",
            json!({}),
            vec!["bigquery.tables.create projects/p/datasets/d".into()],
        ),
        (
            "POST",
            "/bigquery/v2/projects/p/jobs",
            json!({ "configuration": { "extract": extract } }),
            vec![
                "bigquery.jobs.create projects/p".into(),
                format!("bigquery.tables.export {table}"),
                format!("storage.objects.create {object}"),
                format!("storage.objects.delete {object}"),
            ],
        ),
        (
            "POST",
            "/v1/projects/p/locations/l/jobs/j:resume",
            json!({}),
            vec!["cloudscheduler.jobs.enable projects/p/locations/l/jobs/j".into()],
        ),
        (
            "GET",
            "/v1/projects/p/secrets/s/versions/latest:access",
            json!({}),
            vec!["secretmanager.versions.access projects/p/secrets/s/versions/latest".into()],
        ),
        (
            "POST",
            "/v1/projects/p/secrets/s:addVersion",
            json!({}),
            vec!["secretmanager.versions.add projects/p/secrets/s".into()],
        ),
        (
            "POST",
            "/v1/projects/p/locations/l/keyRings/r/cryptoKeys/k:decrypt",
            json!({}),
            vec!["cloudkms.cryptoKeyVersions.useToDecrypt projects/p/locations/l/keyRings/r/cryptoKeys/k".into()],
        ),
        (
            "GET",
            "/v1/projects/p/locations/l/keyRings/r/cryptoKeys/k",
            json!({}),
            vec!["cloudkms.cryptoKeys.get projects/p/locations/l/keyRings/r/cryptoKeys/k".into()],
        ),
        (
            "PATCH",
            "/v2/projects/p/locations/l/services/s",
            json!({}),
            vec!["run.services.update projects/p/locations/l/services/s".into()],
        ),
        (
            "GET",
            "/v2/projects/p/locations/l/services/s/revisions/r",
            json!({}),
            vec!["run.revisions.get projects/p/locations/l/services/s/revisions/r".into()],
        ),
        (
            "POST",
            "/v1/projects/p/subscriptions/s:pull",
            json!({}),
            vec!["pubsub.subscriptions.consume projects/p/subscriptions/s".into()],
        ),
        (
            "PUT",
            "/v4/spreadsheets/x/values/A1",
            json!({}),
            vec!["sheets.spreadsheets.values.update spreadsheets/x".into()],
        ),
    ] {
        assert_eq!(needs(method, path, body), expected, "{method} {path}");
    }
}

#[test]
fn grants_are_patterns_of_permissions_and_resources() {
    let creator = worker(&["storage.objects.create", "bigquery.*"], "*");
    assert!(creator.may("storage.objects.create", "x") && creator.may("bigquery.tables.get", "y"));
    assert!(!creator.may("storage.objects.delete", "x"));
    let elsewhere = worker(&["storage.*"], "projects/_/buckets/a*");
    assert!(elsewhere.may("storage.objects.get", "projects/_/buckets/ab/objects/x"));
    assert!(!elsewhere.may("storage.objects.get", "projects/_/buckets/b/objects/x"));
}

#[test]
fn tokens_are_known_or_refused() {
    let permissions = Permissions::default();
    let headers = |token: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        headers
    };
    let none = Params::default();
    assert!(permissions.caller(&headers("t"), &none).unwrap().is_none());
    let table = Table { principals: vec![worker(&["bigquery.*"], "*")], deny_others: true };
    permissions.set(table.clone()).unwrap();
    let caller = permissions.caller(&headers("t"), &none).unwrap().unwrap();
    let need = Need::new("storage.objects.get", Subject::Object { bucket: "b".into(), name: "o".into() });
    let error = caller.check(&need).unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), (403, "forbidden"));
    assert!(error.message.starts_with("worker@p.iam.gserviceaccount.com does not have storage.objects.get access"));
    assert_eq!(permissions.caller(&headers("other"), &none).unwrap_err().code, 401);
    assert_eq!(permissions.caller(&HeaderMap::new(), &none).unwrap_err().reason, "required");
    let twice = Table { principals: [table.principals.clone(), table.principals].concat(), deny_others: false };
    assert!(permissions.set(twice).unwrap_err().message.contains("twice"));
    assert!(serde_json::from_str::<Table>(r#"{"principal":[]}"#).is_err());
}

#[test]
fn the_example_of_the_documentation_is_valid() {
    let text = include_str!("../../../../../docs/sandbox.md");
    let from = text.find("    deny_others").unwrap();
    let example: String = text[from..].split("\n`*`").next().unwrap().replace("\n    ", "\n");
    let table: Table = toml::from_str(example.trim()).unwrap();
    assert!(table.deny_others && table.principals[0].may("bigquery.tables.get", "projects/p"));
    Permissions::default().set(table).unwrap();
}
