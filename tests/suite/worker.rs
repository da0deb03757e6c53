//! The worker as its callers see it: Cloud Scheduler, operators with curl, monitoring, and those who may not.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{DATASET, Estate, JOB, PROJECT};

const TOKENS: [(&str, &str); 3] = [("viewer", "look"), ("operator", "work"), ("admin", "rule")];

/// A worker on a free port; killed with the test.
pub struct Worker {
    child: Child,
    pub url: String,
    pub http: reqwest::Client,
}

impl Worker {
    pub fn start(estate: &Estate) -> Self {
        let mut command = estate.command(&["serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the worker starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).expect("it says where it listens");
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_default().to_string();
        assert!(!url.is_empty(), "{line}");
        Self { child, url, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    /// A call with a token; gives status and body.
    pub fn call(
        &self,
        estate: &Estate,
        (method, path): (Method, &str),
        token: Option<&str>,
        body: Option<Value>,
    ) -> (u16, Value) {
        estate.block_on(async {
            let mut request = self.http.request(method, format!("{}{path}", self.url));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            if let Some(body) = body {
                request = request.json(&body);
            }
            let response = request.send().await.expect("the worker answers");
            let status = response.status().as_u16();
            let text = response.text().await.unwrap();
            (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
        })
    }

    pub fn get(&self, estate: &Estate, path: &str) -> (u16, Value) {
        self.call(estate, (Method::GET, path), None, None)
    }

    pub fn post(&self, estate: &Estate, path: &str, body: Value) -> (u16, Value) {
        self.call(estate, (Method::POST, path), None, Some(body))
    }
}

impl Worker {
    /// The most memory that it ever had, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration in which callers are asked who they are.
pub fn with_tokens(estate: &mut Estate, more: &str) {
    let mut worker = format!("\n[worker]\n{more}\n");
    for (role, token) in TOKENS {
        let digest = strongroom::codec::digest::Digests::of(token.as_bytes()).sha256_hex();
        worker
            .push_str(&format!("[[worker.token]]\nname = \"the {role}\"\nrole = \"{role}\"\nsha256 = \"{digest}\"\n"));
    }
    estate.configure(|text| text + &worker);
}

#[test]
fn a_day_with_the_worker() {
    let estate = Estate::seeded();
    let worker = Worker::start(&estate);
    assert_eq!(worker.get(&estate, "/health"), (200, json!({"status": "alive"})));
    let (status, ready) = worker.get(&estate, "/ready");
    assert_eq!((status, &ready["ready"]), (503, &json!(false)), "there is no backup yet");

    // The call of the runbook changes nothing.
    let mark = estate.mark();
    let (status, plan) = worker.post(&estate, "/run-daily-job", json!({"mode": "dry_run", "days": 1}));
    assert_eq!(status, 200, "{plan}");
    assert_eq!(plan["days"].as_array().unwrap().len(), 1);
    assert_eq!(plan["days"][0]["backups"], json!([]));
    assert!(plan["plan"]["sources"].as_array().is_some_and(|sources| sources.len() == 2), "{plan}");
    let changing: Vec<Value> = estate
        .requests(mark)
        .into_iter()
        .filter(|request| {
            request["mutating"] == true && !request["path"].as_str().unwrap_or_default().contains("audit")
        })
        .collect();
    assert_eq!(changing, Vec::<Value>::new());

    let (status, operation) = worker.post(&estate, "/run-daily-job?wait=300", json!({"mode": "run", "tier": "daily"}));
    assert_eq!((status, &operation["state"]), (200, &json!("done")), "{operation}");
    let name = operation["result"]["name"].as_str().unwrap().to_string();
    assert!(operation["steps"].as_array().unwrap().iter().any(|step| step["name"] == "capture"), "{operation}");
    let (_, listed) = worker.get(&estate, "/backup/list");
    assert_eq!(listed["backups"][0]["name"], name.as_str());
    assert_eq!(worker.get(&estate, "/ready").0, 200);
    let (_, status) = worker.get(&estate, "/backup/status");
    assert_eq!(status["retention_days"]["daily"], 30);
    assert_eq!(status["next_backups"].as_array().unwrap().len(), 3, "{status}");
    let (_, metrics) = worker.get(&estate, "/metrics");
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("backup_total{tier=\"daily\"} 1\n"), "{metrics}");
    let (_, shown) = worker.get(&estate, &format!("/backup/{name}"));
    assert_eq!(shown["manifest"]["name"], name.as_str());
    let (status, verified) = worker.post(&estate, &format!("/backup/{name}/verify?wait=120"), json!({}));
    assert_eq!((status, &verified["state"]), (200, &json!("done")), "{verified}");

    // A restore of what is lost, after its plan was looked at.
    let table = format!("/bigquery/v2/projects/{PROJECT}/datasets/{DATASET}/tables/fct_cost_daily");
    estate.delete(&table);
    let wanted = json!({"backup_name": name, "tables": ["fct_cost_daily"], "dry_run": true});
    let (status, plan) = worker.post(&estate, "/backup/restore", wanted);
    assert_eq!(status, 200, "{plan}");
    assert_eq!(plan["plan"]["datasets"][0]["tables"].as_array().unwrap().len(), 1, "{plan}");
    assert_eq!(estate.call(Method::GET, &table, None).0, 404);
    let (status, restored) =
        worker.post(&estate, "/backup/restore?wait=120", json!({"backup_name": name, "tables": ["fct_cost_daily"]}));
    assert_eq!((status, &restored["state"]), (200, &json!("done")), "{restored}");
    estate.get(&table);

    // What destroys must be said twice.
    let path = format!("/backup/{name}");
    let refused = worker.call(&estate, (Method::DELETE, &path), None, None);
    assert_eq!(refused.0, 428, "{refused:?}");
    let refused = worker.post(&estate, "/backup/restore", json!({"backup_name": name, "replace": true}));
    assert_eq!(refused.0, 428, "{refused:?}");
    let condemned = worker.call(&estate, (Method::DELETE, &format!("{path}?confirm={name}&wait=60")), None, None);
    assert!(condemned.0 == 200 || condemned.0 == 409, "{condemned:?}");

    // Who did what is in the vault.
    std::thread::sleep(Duration::from_millis(500));
    let log: Vec<String> = estate.objects("demo-project-backup-daily");
    let audit: Vec<&String> = log.iter().filter(|key| key.contains("/audit/")).collect();
    assert!(!audit.is_empty(), "{log:?}");
}

#[test]
fn bad_calls_are_problems_that_say_what_is_wrong() {
    let estate = Estate::seeded();
    let worker = Worker::start(&estate);
    let post = |path: &str, body: Value| worker.post(&estate, path, body);
    for (answer, status, said) in [
        (worker.get(&estate, "/nothing/here"), 404, "openapi.json"),
        (worker.call(&estate, (Method::PUT, "/backup/list"), None, None), 405, "other methods"),
        (post("/run-daily-job", json!({"mode": "walk"})), 400, "dry_run"),
        (post("/run-daily-job", json!({"mode": "dry_run", "days": 0})), 400, "1 to 366"),
        (post("/run-daily-job", json!({"mode": "dry_run", "tier": "hourly"})), 409, "is no tier"),
        (post("/run-daily-job", json!({"mode": "dry_run", "day": 1})), 400, "unknown field"),
        (post("/backup/create", json!([])), 400, "the body"),
        (post("/backup/create?wait=99999", json!({})), 400, "3500"),
        (post("/backup/create?weight=1", json!({})), 400, "unknown field"),
        (post("/backup/restore", json!({"backup_name": "../x"})), 400, "hint"),
        (post("/backup/restore", json!({"backup_name": "nobody", "dry_run": true})), 404, "nobody"),
        (post("/backup/restore", json!({"into": "a-b", "dry_run": true})), 400, "dataset"),
        (worker.get(&estate, "/backup/nobody"), 404, "nobody"),
        (worker.get(&estate, "/operations/nobody"), 404, "operation"),
        (worker.get(&estate, "/operations/..%2F..%2Flease"), 404, "operation"),
        (post("/operations/nobody/cancel", json!({})), 404, "operation"),
        (post("/drill", json!({"scenario": "meteor"})), 400, "scenario"),
    ] {
        assert_eq!(answer.0, status, "{answer:?}");
        assert!(answer.1["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{said}: {answer:?}");
        assert!(
            answer.1["type"].as_str().is_some_and(|kind| kind.starts_with("urn:strongroom:problem:")),
            "{answer:?}"
        );
    }
    // Too much, not JSON, and a page of another site.
    let send = |request: reqwest::RequestBuilder| {
        estate.block_on(async { request.send().await.expect("an answer").status().as_u16() })
    };
    let create = || worker.http.post(format!("{}/backup/create", worker.url));
    assert_eq!(send(create().header("content-type", "application/json").body(" ".repeat(1 << 20))), 413);
    assert_eq!(send(create().header("content-type", "text/xml").body("<a/>")), 415);
    assert_eq!(send(create().header("origin", "https://elsewhere.example").json(&json!({"dry_run": true}))), 403);
    let document = worker.get(&estate, "/openapi.json").1;
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn callers_are_known_and_may_do_what_their_role_says() {
    let mut estate = Estate::seeded();
    with_tokens(&mut estate, "");
    let worker = Worker::start(&estate);
    let call = |method: Method, path: &str, token: Option<&str>| {
        let body = (method == Method::POST).then(|| json!({}));
        worker.call(&estate, (method, path), token, body).0
    };
    for public in ["/health", "/openapi.json"] {
        assert_eq!(call(Method::GET, public, None), 200, "{public}");
    }
    for path in ["/backup/list", "/backup/status", "/backup/next-backup", "/metrics", "/operations"] {
        assert_eq!(call(Method::GET, path, None), 401, "{path}");
        assert_eq!(call(Method::GET, path, Some("guess")), 401, "{path}");
        assert_eq!(call(Method::GET, path, Some("look")), 200, "{path}");
    }
    for path in ["/backup/create", "/backup/run-now", "/backup/cleanup", "/recover", "/drill", "/backup/latest/verify"]
    {
        assert_eq!(call(Method::POST, path, None), 401, "{path}");
        assert_eq!(call(Method::POST, path, Some("look")), 403, "{path}");
    }
    let replace = json!({"replace": true, "confirm": "latest"});
    for (token, status) in [(None, 401), (Some("look"), 403), (Some("work"), 403), (Some("rule"), 404)] {
        let asked = (Method::POST, "/backup/restore?wait=60");
        assert_eq!(worker.call(&estate, asked, token, Some(replace.clone())).0, status, "{token:?}");
        if token != Some("rule") {
            assert_eq!(call(Method::DELETE, "/backup/x?confirm=x", token), status, "{token:?}");
        }
    }
    // The token's digest is not the token.
    let digest = strongroom::codec::digest::Digests::of(b"rule").sha256_hex();
    assert_eq!(call(Method::GET, "/backup/list", Some(&digest)), 401);
    // A viewer may look at plans.
    let asked = (Method::POST, "/run-daily-job");
    assert_eq!(worker.call(&estate, asked, Some("look"), Some(json!({"mode": "dry_run"}))).0, 200);
}

#[test]
fn anybody_on_the_network_is_refused_before_it_begins() {
    let estate = Estate::seeded();
    let run = estate.strongroom(&["serve", "--listen", "0.0.0.0:0"]);
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("nobody would be asked"), "{}", run.stderr);
}

#[test]
fn a_scheduler_triggers_one_run_however_often_it_repeats() {
    let mut estate = Estate::seeded();
    let account = "scheduler@demo-project.iam.gserviceaccount.com";
    let more = format!(
        "audience = \"https://backups.example\"\n[[worker.caller]]\nemail = \"{account}\"\nrole = \"operator\"\n"
    );
    with_tokens(&mut estate, &more);
    let worker = Worker::start(&estate);
    let job = format!("projects/{PROJECT}/locations/us-central1/jobs/backup-daily");
    let target = |audience: &str, email: &str| {
        json!({
            "name": job, "schedule": "0 2 * * *", "timeZone": "UTC", "attemptDeadline": "320s",
            "httpTarget": {
                "uri": format!("{}/run-daily-job?wait=300", worker.url), "httpMethod": "POST",
                "headers": {"Content-Type": "application/json"},
                // {"mode":"run"}
                "body": "eyJtb2RlIjoicnVuIn0=",
                "oidcToken": {"serviceAccountEmail": email, "audience": audience},
            },
        })
    };
    let jobs = format!("/v1/projects/{PROJECT}/locations/us-central1/jobs");
    let run = |target: Value| -> Value {
        estate.call(Method::DELETE, &format!("/v1/{job}"), None);
        estate.post(&jobs, target);
        estate.post(&format!("/v1/{job}:run"), json!({}));
        for _ in 0..1200 {
            let state = estate.get(&format!("/v1/{job}"));
            if state["lastAttemptTime"].is_string() {
                return state["status"].clone();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the job was not attempted");
    };
    // Made for somebody else, or by somebody else: 401 and 403.
    assert_eq!(run(target("https://elsewhere.example", account))["code"], 16);
    assert_eq!(run(target("https://backups.example", "nobody@demo-project.iam.gserviceaccount.com"))["code"], 7);
    assert_eq!(run(target("https://backups.example", account)), json!({}));
    let backups = || {
        let (_, listed) = worker.call(&estate, (Method::GET, "/backup/list"), Some("look"), None);
        listed["backups"].as_array().unwrap().len()
    };
    assert_eq!(backups(), 1);

    // The same schedule time, delivered again and again, to this worker and to another one.
    let other = Worker::start(&estate);
    let deliver = |to: &Worker| {
        let request = to.http.post(format!("{}/run-daily-job?wait=300", to.url)).bearer_auth("work");
        let request = request
            .header("x-cloudscheduler-jobname", "backup-daily")
            .header("x-cloudscheduler-scheduletime", "2026-11-21T02:00:00Z")
            .json(&json!({"mode": "run"}));
        async move {
            let response = request.send().await.expect("an answer");
            (response.status().as_u16(), response.json::<Value>().await.expect("JSON"))
        }
    };
    let answers = estate.block_on(async { futures::join!(deliver(&worker), deliver(&other), deliver(&worker)) });
    let ids: Vec<&Value> = [&answers.0, &answers.1, &answers.2].iter().map(|answer| &answer.1["id"]).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{answers:?}");
    let again = estate.block_on(deliver(&other));
    assert!(matches!(again.0, 200 | 202 | 409), "{again:?}");
    assert_eq!(backups(), 2);
    assert_eq!(estate.job_state(JOB), "ENABLED");
}

#[test]
fn a_signal_in_the_middle_of_a_run_resumes_ingestion() {
    let estate = Estate::new(&["--seed", "ai-usage-analytics", "--job-delay-ms", "300"]);
    let mut worker = Worker::start(&estate);
    let (status, operation) = worker.post(&estate, "/backup/run-now", json!({}));
    assert_eq!(status, 202, "{operation}");
    let id = operation["id"].as_str().unwrap().to_string();
    for _ in 0..600 {
        if estate.job_state(JOB) == "PAUSED" {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(estate.job_state(JOB), "PAUSED");
    let told = std::time::Instant::now();
    let killed = std::process::Command::new("kill").arg("-TERM").arg(worker.child.id().to_string()).status();
    assert!(killed.is_ok_and(|status| status.success()));
    worker.child.wait().expect("it ends");
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    // What it could not take back by itself, the next one does.
    let next = Worker::start(&estate);
    let (status, done) = next.post(&estate, "/backup/run-now?wait=300", json!({}));
    assert_eq!((status, &done["state"]), (200, &json!("done")), "{done}");
    assert_eq!(estate.job_state(JOB), "ENABLED");
    let (_, known) = next.get(&estate, &format!("/operations/{id}"));
    assert_eq!((&known["verb"], &known["state"]), (&json!("backup"), &json!("failed")), "{known}");
}

/// What a valid call may be answered with besides success: it is refused as a whole, or lacks the confirmation that names its
/// target.
const SCHEMATHESIS: &str = r#"[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422", "428", "429", "5xx"]
"#;

/// Calls of every kind, made of the API's own description: whatever is sent, the answer is as it says.
#[test]
fn schemathesis_finds_nothing() {
    let Some(python) = std::env::var_os("STRONGROOM_PYTHON") else {
        println!("skipped: STRONGROOM_PYTHON names no Python with schemathesis; scripts/test installs one");
        return;
    };
    let program = std::path::Path::new(&python).with_file_name("schemathesis");
    let mut estate = Estate::new(&[]);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let database = rusqlite::Connection::open(path("app.db")).unwrap();
    database.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2);").unwrap();
    let (file, vault) = (path("app.db"), path("vault"));
    estate.configure(|_| {
        format!(
            "name = \"small\"\n[[source]]\nname = \"app\"\nkind = \"sqlite\"\npath = \"{file}\"\n\
             [tiers.daily]\nkeep = \"30d\"\nschedule = \"0 2 * * *\"\ndestinations = [\"{vault}\"]\n"
        )
    });
    let text = std::fs::read_to_string(&estate.config).unwrap();
    with_tokens(&mut estate, "");
    let tokens = std::fs::read_to_string(&estate.config).unwrap();
    let tokens = tokens[tokens.find("\n[worker]").expect("the tokens")..].to_string();
    estate.configure(|_| text + &tokens);
    estate.json(&["backup"]);
    let worker = Worker::start(&estate);
    std::fs::write(path("schemathesis.toml"), SCHEMATHESIS).unwrap();
    let run = std::process::Command::new(program)
        .current_dir(directory.path())
        .args(["--config-file", "schemathesis.toml", "run", &format!("{}/openapi.json", worker.url)])
        .args(["--header", "Authorization: Bearer rule", "--phases", "examples,coverage,fuzzing", "--seed", "7"])
        .args(["--max-examples", "10", "--request-timeout", "60", "--continue-on-failure", "--no-color"])
        .output()
        .expect("schemathesis runs");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    let tested = said.lines().find(|line| line.trim_start().starts_with("Tested:")).unwrap_or_default();
    let count: usize = tested.split_whitespace().last().and_then(|count| count.parse().ok()).unwrap_or(0);
    assert!(count >= 19, "{said}");
}
