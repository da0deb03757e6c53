//! The sandbox's faults, as a person sets them: each kind as an ordinary client meets it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::Estate;

/// A file that anybody may write, and a bucket to write it to.
fn estate() -> Estate {
    let estate = Estate::new(&[]);
    estate.post("/storage/v1/b?project=demo-project", json!({"name": "bkt"}));
    estate
}

fn set(estate: &Estate, rules: Value) {
    let (status, body) = estate.call(Method::PUT, "/_sandbox/faults", Some(rules));
    assert_eq!(status, 200, "{body}");
}

/// One request without any retry: status, `Retry-After` and body, or how it failed.
fn ask(estate: &Estate, method: Method, path: &str, body: &str) -> Result<(u16, String, Vec<u8>), String> {
    let url = format!("{}{path}", estate.sandbox.endpoint());
    estate.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().unwrap();
        let request = client.request(method, url).header("content-type", "application/json").body(body.to_string());
        let kind =
            |error: reqwest::Error| if error.is_timeout() { "timeout".to_string() } else { "broken".to_string() };
        let response = request.send().await.map_err(kind)?;
        let after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_string());
        let status = response.status().as_u16();
        Ok((status, after.unwrap_or_default(), response.bytes().await.map_err(kind)?.to_vec()))
    })
}

const UPLOAD: &str = "/upload/storage/v1/b/bkt/o?uploadType=media&name=";
const BODY: &str = "0123456789012345678901234567890123456789";

fn exists(estate: &Estate, name: &str) -> bool {
    estate.objects("bkt").iter().any(|found| found == name)
}

#[test]
fn errors_resets_and_stalls_come_before_or_after_the_effect() {
    let estate = estate();
    for (index, (rule, expected)) in [
        (json!({"kind": "error", "status": 429, "retry_after_s": 3}), Ok((429, "3"))),
        (json!({"kind": "error", "status": 412, "reason": "conditionNotMet"}), Ok((412, ""))),
        (json!({"kind": "reset"}), Err("broken")),
        (json!({"kind": "stall"}), Err("timeout")),
        (json!({"kind": "stall", "bytes": 10}), Err("timeout")),
        (json!({"kind": "reset", "bytes": 10}), Err("broken")),
    ]
    .into_iter()
    .enumerate()
    {
        for when in ["before", "after"] {
            let name = format!("{index}-{when}");
            let mut rule = rule.clone();
            rule["name"] = json!("storage.objects.insert");
            rule["when"] = json!(when);
            let within = rule["bytes"].is_number();
            set(&estate, json!([rule]));
            let asked = ask(&estate, Method::POST, &format!("{UPLOAD}{name}"), BODY);
            let asked = asked.map(|(status, after, _)| (status, after));
            assert_eq!(asked, expected.map(|(s, a)| (s, a.to_string())).map_err(str::to_string), "{rule}");
            assert_eq!(exists(&estate, &name), when == "after" || within, "{rule}");
            let told = estate.get("/_sandbox/faults");
            assert_eq!((&told["faults"][0]["used"], told["counters"].as_object().unwrap().len()), (&json!(1), 1));
            let logged = estate.requests(0);
            let logged = logged.iter().rev().find(|entry| entry["query"].as_str().is_some_and(|q| q.ends_with(&name)));
            assert_eq!(&logged.unwrap()["fault"], told["counters"].as_object().unwrap().keys().next().unwrap());
        }
    }
}

#[test]
fn a_stalled_request_is_seen_and_let_go() {
    let estate = estate();
    set(&estate, json!([{"kind": "stall", "when": "after", "mutating": true, "nth": 2}]));
    assert!(ask(&estate, Method::POST, &format!("{UPLOAD}first"), BODY).is_ok());
    std::thread::scope(|scope| {
        let held = scope.spawn(|| ask(&estate, Method::POST, &format!("{UPLOAD}second"), BODY));
        while estate.get("/_sandbox/faults")["faults"][0]["stalled"] != 1 {
            assert!(!held.is_finished(), "it was never held");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(exists(&estate, "second"), "the effect is there by then");
        estate.delete("/_sandbox/faults");
        assert_eq!(held.join().unwrap().map(|(status, ..)| status), Err("broken".into()));
    });
}

#[test]
fn bodies_are_cut_and_changed() {
    let estate = estate();
    assert!(ask(&estate, Method::POST, &format!("{UPLOAD}o"), BODY).is_ok());
    let get = |path: &str| ask(&estate, Method::GET, path, "").map(|(_, _, body)| body);
    let media = "/storage/v1/b/bkt/o/o?alt=media";
    for seed in 0..20 {
        set(&estate, json!([{"kind": "corrupt", "seed": seed, "times": 0}]));
        let changed = get(media).unwrap();
        let differing = changed.iter().zip(BODY.as_bytes()).filter(|(a, b)| a != b).count();
        assert_eq!((changed.len(), differing), (BODY.len(), 1));
        assert_eq!(changed, {
            set(&estate, json!([{"kind": "corrupt", "seed": seed, "times": 0}]));
            get(media).unwrap()
        });
        assert!(serde_json::from_slice::<Value>(&get("/storage/v1/b/bkt").unwrap()).is_err());
        set(&estate, json!([{"kind": "truncate", "seed": seed, "times": 0}]));
        let cut = get(media).unwrap();
        assert!(cut.len() < BODY.len() && BODY.as_bytes().starts_with(&cut));
        assert!(serde_json::from_slice::<Value>(&get("/storage/v1/b/bkt").unwrap()).is_err());
    }
}

#[test]
fn a_job_fails_late_and_a_disk_fills_and_a_clock_is_skewed() {
    let estate = estate();
    let dataset = json!({"datasetReference": {"datasetId": "d"}, "location": "US"});
    estate.post("/bigquery/v2/projects/demo-project/datasets", dataset);
    estate.query("CREATE TABLE d.t AS SELECT 1 AS a");
    set(&estate, json!([{"kind": "fail_job", "reason": "internalError", "times": 2}]));
    let run = |id: &str, configuration: Value| {
        let jobs = "/bigquery/v2/projects/demo-project/jobs";
        let reference = json!({"jobId": id, "projectId": "demo-project", "location": "US"});
        estate.post(jobs, json!({"jobReference": reference, "configuration": configuration}));
        loop {
            let job = estate.get(&format!("{jobs}/{id}?location=US"));
            if job["status"]["state"] == "DONE" {
                return job["status"]["errorResult"]["reason"].clone();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let table = |name: &str| json!({"projectId": "demo-project", "datasetId": "d", "tableId": name});
    let copy = json!({"copy": {"sourceTable": table("t"), "destinationTable": table("u")}});
    let extract = json!({"extract": {"sourceTable": table("t"), "destinationUris": ["gs://bkt/x-*.csv"]}});
    assert_eq!(run("one", copy.clone()), "internalError");
    assert_eq!(run("two", extract), "internalError");
    assert_eq!(estate.objects("bkt"), ["x-000000000000.csv"], "an extract that fails late leaves its files");
    let copied = estate.call(Method::GET, "/bigquery/v2/projects/demo-project/datasets/d/tables/u", None);
    assert_eq!(copied.0, 404, "a copy that fails changes nothing");
    assert_eq!(run("three", copy), Value::Null);

    set(&estate, json!([{"kind": "disk_full", "bytes": 50}]));
    let put = |name: &str| ask(&estate, Method::POST, &format!("{UPLOAD}{name}"), BODY).unwrap();
    assert_eq!((put("a").0, put("b").0, put("c").0), (200, 403, 403));
    assert!(String::from_utf8_lossy(&put("d").2).contains("quotaExceeded"));

    set(&estate, json!([{"kind": "skew_clock", "seconds": 86400, "name": "storage.buckets.get"}]));
    let before = estate.get("/_sandbox/clock")["now_ms"].as_i64().unwrap();
    estate.get("/storage/v1/b/bkt");
    let after = estate.query("SELECT UNIX_MILLIS(CURRENT_TIMESTAMP())")[0][0].as_str().unwrap().parse::<i64>().unwrap();
    assert!((86_400_000..86_460_000).contains(&(after - before)), "{before} {after}");
    let date = estate.block_on(async {
        let response = reqwest::get(format!("{}/storage/v1/b/bkt", estate.sandbox.endpoint())).await.unwrap();
        response.headers()["date"].to_str().unwrap().to_string()
    });
    let date = jiff::fmt::rfc2822::parse(&date).unwrap().timestamp().as_millisecond();
    assert!((date - after).abs() < 5_000, "the Date header tells the sandbox's time");
}

#[test]
fn the_example_is_taken_and_a_wrong_file_is_explained() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/faults.toml");
    let estate = Estate::new(&["--faults", example]);
    let told = estate.get("/_sandbox/faults");
    assert_eq!(told["faults"].as_array().unwrap().len(), 5);
    let make = || ask(&estate, Method::POST, "/storage/v1/b?project=p", r#"{"name": "bkt"}"#);
    let (first, after, _) = make().unwrap();
    assert_eq!((first, after.as_str()), (429, "1"));
    assert_eq!(make().unwrap().0, 429);
    // The third that may change something: made, but nobody is told.
    assert_eq!(make(), Err("timeout".into()));
    assert_eq!(estate.call(Method::GET, "/storage/v1/b/bkt", None).0, 200);
    assert_eq!(estate.get("/_sandbox/faults")["counters"], json!({"error 429 before": 2, "stall after": 1}));

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[[fault]]\nstatus = 503\n\n[[fault]]\nkind = \"error\"\n").unwrap();
    let data = tempfile::tempdir().unwrap();
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_strongroom-sandbox"))
        .args(["--data", data.path().to_str().unwrap(), "--faults", file.path().to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(!run.status.success() && said.contains("fault 2: needs a status; hint: docs/sandbox.md"), "{said}");
}
