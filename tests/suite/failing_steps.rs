//! Whatever fails, ingestion runs again, and no half backup is listed.

use serde_json::json;

use crate::estate::{Estate, JOB, PAUSED_JOB};
use crate::proxy::{Action, Proxy};

/// What is answered for as long as it is asked: no retry helps.
const DENIED: Action = Action::Answer(403, None);

/// When a request is denied.
#[derive(Clone, Copy)]
enum When {
    Always,
    /// Only the first that matches: what takes back what was done may ask the same again.
    Once,
    /// From the first request on whose path holds this text.
    After(&'static str),
}

/// A step, and which of its requests is denied: a method, and a text of its path.
const STEPS: &[(&str, When, &str, &str)] = &[
    ("prepare", When::Always, "POST", "/datasets?"),
    ("arm_resume", When::Once, "POST", "000003.json"),
    ("pause", When::Always, "POST", ":pause"),
    ("drain", When::Always, "GET", "allUsers=true"),
    ("snapshot", When::Always, "GET", "/tables/fct_usage_daily_daily_2"),
    ("resume", When::Once, "POST", ":resume"),
    ("capture", When::Always, "GET", "data%2Fwarehouse"),
    ("capture", When::Always, "POST", "meta%2Fwarehouse"),
    ("sheets", When::Always, "GET", "/values/"),
    ("validate", When::After("/values/"), "GET", "/queries/"),
    ("manifest", When::Always, "POST", "manifest.json"),
];

#[test]
fn ingestion_is_resumed_when_any_step_fails() {
    let mut estate = Estate::seeded();
    for (step, when, method, path) in STEPS {
        let state = std::sync::Mutex::new((0, false));
        let proxy = estate.block_on(Proxy::start(estate.sandbox.endpoint(), move |asked, at| {
            let (denied, seen) = &mut *state.lock().expect("the state");
            *seen |= matches!(when, When::After(text) if at.contains(text));
            let due = match when {
                When::Always => true,
                When::Once => *denied == 0,
                When::After(_) => *seen,
            };
            if !(due && asked == *method && format!("{at}?").contains(path)) {
                return Action::Pass;
            }
            *denied += 1;
            DENIED
        }));
        estate.endpoint = Some(proxy.endpoint().into());
        let run = estate.strongroom(&["backup"]);
        assert_eq!(run.code, 14, "{step}: {run:?}");
        assert!(run.stderr.contains(&format!("step '{step}")), "{step}: {run:?}");
        estate.endpoint = None;
        let states = [estate.job_state(JOB), estate.job_state(PAUSED_JOB)];
        assert_eq!(states, ["ENABLED", "PAUSED"], "{step}");
        assert_eq!(estate.json(&["list"])["backups"], json!([]), "{step}");
        // What was done was taken back: no snapshots, no files, no open run.
        assert_eq!(estate.json(&["recover", "--dry-run"])["runs"], json!([]), "{step}");
        let objects = estate.get("/storage/v1/b/demo-project-backup-daily/o?prefix=daily/");
        assert!(objects["items"].as_array().is_none_or(Vec::is_empty), "{step}: {objects}");
        if *step != "prepare" {
            assert!(estate.contents("ai_usage_analytics_snapshots").is_empty(), "{step}");
        }
    }
    estate.strongroom(&["backup"]).ok();
}

#[test]
fn a_resume_that_fails_is_tried_again_by_recover() {
    let mut estate = Estate::seeded();
    let proxy = estate.block_on(Proxy::start(estate.sandbox.endpoint(), |asked, at| {
        if asked == "POST" && at.contains(":resume") { DENIED } else { Action::Pass }
    }));
    estate.endpoint = Some(proxy.endpoint().into());
    let run = estate.strongroom(&["backup"]);
    assert_eq!(run.code, 14, "{run:?}");
    assert!(run.stderr.contains("strongroom recover"), "{run:?}");
    assert_eq!(estate.job_state(JOB), "PAUSED");
    estate.endpoint = None;
    let status = estate.strongroom(&["status"]);
    assert_eq!(status.code, 5, "{status:?}");
    let recovered = estate.json(&["recover"])["runs"].clone();
    assert_eq!(recovered.as_array().map(Vec::len), Some(1));
    assert_eq!((estate.job_state(JOB).as_str(), estate.job_state(PAUSED_JOB).as_str()), ("ENABLED", "PAUSED"));
    assert_eq!(estate.json(&["recover"])["runs"], json!([]));
}

#[test]
fn ingestion_is_resumed_after_the_process_was_killed() {
    let mut estate = Estate::seeded();
    // The first extract never gets an answer: there the process is killed.
    let proxy = estate.block_on(Proxy::start(estate.sandbox.endpoint(), |asked, at| {
        if asked == "POST" && at.contains(":resume") { Action::Stall } else { Action::Pass }
    }));
    estate.endpoint = Some(proxy.endpoint().into());
    let mut child = estate.command(&["backup"]).spawn().expect("strongroom runs");
    let begin = std::time::Instant::now();
    while proxy.count(":resume") == 0 {
        assert!(begin.elapsed().as_secs() < 120, "it never came to resume");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    child.kill().expect("it is killed");
    child.wait().expect("it is gone");
    estate.endpoint = None;
    assert_eq!(estate.job_state(JOB), "PAUSED");
    // The dead run's lease stands for two minutes: until then a recovery leaves it alone, as it might be alive.
    let locked = estate.strongroom(&["recover"]);
    assert_eq!(locked.code, 11, "{locked:?}");
    let lease = "/storage/v1/b/demo-project-backup-daily/o/_strongroom%2Flease%2Fai-usage-analytics.json";
    let mut record = estate.get(&format!("{lease}?alt=media"));
    record["expires_at"] = json!("2001-01-01T00:00:00Z");
    let upload = "/upload/storage/v1/b/demo-project-backup-daily/o?uploadType=media&name=_strongroom%2Flease%2Fai-usage-analytics.json";
    estate.post(upload, record);
    // The next run recovers first, and works.
    let run = estate.strongroom(&["backup"]).ok();
    assert!(run.stderr.contains("recovered run"), "{run:?}");
    assert_eq!((estate.job_state(JOB).as_str(), estate.job_state(PAUSED_JOB).as_str()), ("ENABLED", "PAUSED"));
    assert_eq!(estate.json(&["list"])["backups"].as_array().map(Vec::len), Some(1));
    assert_eq!(estate.json(&["recover"])["runs"], json!([]));
}
