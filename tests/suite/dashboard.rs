//! The dashboard: as a program reads it (what it shows, who may, what is refused), and as people use it in a browser.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::process::Command;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::drill_page::chromium;
use crate::estate::{DATASET, Estate, PROJECT};
use crate::worker::{Worker, with_tokens};

/// What a hostile colleague takes a backup for.
const HOSTILE: &str = "<script>alert(1)</script> & \"quotes' <img src=x onerror=alert(2)>";

/// An answer.
struct Shown {
    status: u16,
    headers: HeaderMap,
    text: String,
}

/// A browser without a screen, a script or scruples.
struct Visitor<'a> {
    estate: &'a Estate,
    worker: &'a Worker,
    http: reqwest::Client,
    cookie: Option<String>,
    host: Option<&'static str>,
}

impl<'a> Visitor<'a> {
    fn new(estate: &'a Estate, worker: &'a Worker) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { estate, worker, http, cookie: None, host: None }
    }

    fn send(&self, mut request: reqwest::RequestBuilder) -> Shown {
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        if let Some(host) = self.host {
            request = request.header("host", host);
        }
        self.estate.block_on(async {
            let response = request.send().await.expect("the worker answers");
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Shown { status, headers, text: response.text().await.expect("a text") }
        })
    }

    fn get(&self, path: &str) -> Shown {
        self.send(self.http.get(format!("{}{path}", self.worker.url)))
    }

    /// Sends a form as a page of this origin would.
    fn form_of(&self, origin: Option<&str>, path: &str, fields: &[(&str, &str)]) -> Shown {
        let mut request = self.http.post(format!("{}{path}", self.worker.url)).form(fields);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        self.send(request)
    }

    fn form(&self, path: &str, fields: &[(&str, &str)]) -> Shown {
        self.form_of(Some(&self.worker.url), path, fields)
    }

    fn sign_in(&mut self, token: &str) -> Shown {
        let shown = self.form("/ui/sign-in", &[("token", token)]);
        if let Some(cookie) = shown.headers.get("set-cookie").and_then(|value| value.to_str().ok()) {
            self.cookie = cookie.split(';').next().map(String::from);
        }
        shown
    }

    /// The fields of the form with which a page ends, with what a person types.
    fn filled(page: &str, typed: &[(&str, &str)]) -> Vec<(String, String)> {
        let form = page.rsplit("<form method=\"post\" action=\"/ui/restore\"").next().expect("a form");
        let hidden = form.split("type=\"hidden\" name=\"").skip(1);
        let pair = |text: &str| {
            let (name, rest) = text.split_once('"').expect("a name");
            (name.to_string(), rest.split("value=\"").nth(1).expect("a value").split('"').next().unwrap().to_string())
        };
        hidden.map(pair).chain(typed.iter().map(|(name, value)| ((*name).into(), (*value).into()))).collect()
    }

    fn send_filled(&self, fields: &[(String, String)]) -> Shown {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.form("/ui/restore", &fields)
    }

    /// Waits for the operation that an answer leads to.
    fn ended(&self, shown: &Shown, token: Option<&str>) -> Value {
        let path = shown.headers["location"].to_str().unwrap().replace("/ui/", "/");
        let path = format!("{path}?wait=120");
        let (_, status) = self.worker.call(self.estate, (Method::GET, &path), token, None);
        status
    }
}

/// Holds a page to what every page must keep.
fn check(path: &str, shown: &Shown) {
    let header = |name: &str| shown.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!(header("content-type"), "text/html; charset=utf-8", "{path}");
    assert_eq!((header("x-content-type-options"), header("cache-control")), ("nosniff", "no-store"), "{path}");
    let policy = header("content-security-policy");
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(part), "{path}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{path}: {policy}");
    // What the policy would refuse is not even there, nor anything of anybody else.
    let text = &shown.text;
    for forbidden in ["<script>", "style=\"", "onerror=alert", " onclick", "http://", "https://", "javascript:"] {
        let of_texts = text.replace("&lt;img src=x onerror=alert", "");
        assert!(!of_texts.contains(forbidden), "{path}: {forbidden} in\n{text}");
    }
    assert_eq!(text.matches("<h1>").count(), 1, "{path}");
    assert!(text.starts_with("<!DOCTYPE html>") && text.contains("<html lang=\"en\">"), "{path}");
}

#[test]
fn every_page_that_can_be_reached_shows_what_there_is_and_nothing_else() {
    let estate = Estate::seeded();
    estate.strongroom(&["backup", "--manual", HOSTILE]).ok();
    let manifest = estate.json(&["backup"]);
    let name = manifest["name"].as_str().unwrap();
    estate.strongroom(&["drill"]).ok();
    let worker = Worker::start(&estate);
    let visitor = Visitor::new(&estate, &worker);

    // From the overview to all that it leads to.
    let (mut known, mut waiting) = (BTreeSet::new(), VecDeque::from(["/".to_string()]));
    let mut pages = std::collections::BTreeMap::new();
    while let Some(path) = waiting.pop_front() {
        if !known.insert(path.clone()) || path.ends_with(".css") {
            continue;
        }
        let shown = visitor.get(&path.replace("&amp;", "&"));
        assert_eq!(shown.status, 200, "{path}: {}", shown.text);
        check(&path, &shown);
        let links =
            shown.text.split("href=\"/").skip(1).map(|rest| format!("/{}", rest.split(['"', '#']).next().unwrap()));
        waiting.extend(links);
        pages.insert(path, shown.text);
    }
    assert!(pages.len() >= 9, "{:?}", pages.keys());

    let overview = &pages["/"];
    for said in [
        "All is well",
        "Would be lost now",
        "Time to recover (RTO)",
        "1 of 2",
        "not verified yet",
        "What comes next",
        "&lt;script&gt;alert(1)",
    ] {
        assert!(overview.contains(said), "{said}: {overview}");
    }
    let shown = &pages[&format!("/ui/backups/{name}")];
    for record in manifest["sources"][0]["tables"].as_array().unwrap() {
        let table = record["table"].as_str().unwrap().rsplit('.').next().unwrap();
        let rows = strongroom::report::thousands(record["row_count"].as_u64().unwrap());
        assert!(shown.contains(&format!("{table}</th><td class=\"n\">{rows}</td>")), "{table} {rows}: {shown}");
        assert!(shown.contains(record["objects"][0]["sha256"].as_str().unwrap()), "{table}");
    }
    let drill = pages.keys().find(|path| path.starts_with("/ui/drills/")).expect("the drill's page");
    assert!(pages[drill].contains("Passed: everything came back, in time"));

    // Verified by its button, which is a form of that page.
    let verify = format!("/ui/backups/{name}/verify");
    assert_eq!(visitor.form(&verify, &[]).status, 403);
    let token = shown.split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let begun = visitor.form(&verify, &[("form_token", token)]);
    assert_eq!(begun.status, 303, "{}", begun.text);
    assert_eq!(visitor.ended(&begun, None)["result"]["state"], "complete");
    let page = visitor.get(begun.headers["location"].to_str().unwrap());
    assert!(
        page.text.contains(&format!("Verify: {name}")) && page.text.contains("<strong>Done</strong>"),
        "{}",
        page.text
    );
    check("verify", &page);

    // What is not there is a page, too; programs get problems as before.
    for (path, status) in [
        ("/ui/nothing", 404),
        ("/ui/backups/nobody", 404),
        ("/ui/backups/..%2Fx", 400),
        ("/ui/drills/none", 404),
        ("/ui/operations/none", 404),
        ("/ui/restore?backup=nobody", 404),
        ("/ui/backups?tier=%3Cscript%3E", 400),
    ] {
        let shown = visitor.get(path);
        assert_eq!(shown.status, status, "{path}: {}", shown.text);
        check(path, &shown);
    }
    assert_eq!(worker.get(&estate, "/nothing").1["status"], 404);
    for (path, kind) in [("/ui/style.css", "text/css"), ("/ui/live.js", "text/javascript")] {
        let shown = visitor.get(path);
        assert!(shown.status == 200 && shown.headers["content-type"].to_str().unwrap().starts_with(kind), "{path}");
    }

    // Another name that leads to this machine (DNS rebinding) sees nothing where nobody is asked who he is.
    let elsewhere = Visitor { host: Some("evil.example:8000"), ..Visitor::new(&estate, &worker) };
    for path in ["/", "/ui/operations", "/ui/restore"] {
        let shown = elsewhere.get(path);
        assert!(shown.status == 403 && !shown.text.contains(name), "{path}: {}", shown.text);
    }
}

#[test]
fn a_backup_that_is_missing_or_old_is_told_in_words() {
    let mut estate = Estate::seeded();
    {
        let worker = Worker::start(&estate);
        let shown = Visitor::new(&estate, &worker).get("/");
        assert!(shown.text.contains("NOT SAFE: there is no backup"), "{}", shown.text);
        check("/", &shown);
    }
    let documents = tempfile::tempdir().unwrap();
    std::fs::write(documents.path().join("a <b>.txt"), "text").unwrap();
    rusqlite::Connection::open(documents.path().join("app.db"))
        .and_then(|database| {
            database.execute_batch("CREATE TABLE rates (id INTEGER); INSERT INTO rates VALUES (1), (2)")
        })
        .unwrap();
    let (root, database) =
        (documents.path().display().to_string(), documents.path().join("app.db").display().to_string());
    let more = format!(
        "\n[[source]]\nname = \"documents\"\nkind = \"files\"\nroot = \"{root}\"\n\n[[source]]\nname = \"app\"\nkind = \"sqlite\"\npath = \"{database}\"\n"
    );
    estate.configure(|text| text + &more);
    let backup = estate.json(&["backup"]);
    let name = backup["name"].as_str().unwrap();
    {
        // Sources of every kind are on its page, and can be chosen for a restore.
        let worker = Worker::start(&estate);
        let visitor = Visitor::new(&estate, &worker);
        let shown = visitor.get(&format!("/ui/backups/{name}"));
        for said in ["files: documents", "sqlite: app", "rates", "Items proven", root.as_str()] {
            assert!(shown.text.contains(said), "{said}: {}", shown.text);
        }
        check("backup", &shown);
        let shown = visitor.get(&format!("/ui/restore?backup={name}"));
        assert!(shown.text.contains(&root) && shown.text.contains(&database), "{}", shown.text);
        check("restore", &shown);
        // Back to where it was: something is there, and stays.
        let shown = visitor.get(&format!("/ui/restore/plan?backup={name}&source=app&where=own"));
        assert!(
            shown.status == 409 && shown.text.contains("What stands against it"),
            "{} {}",
            shown.status,
            shown.text
        );
        check("plan", &shown);
    }
    estate.configure(|text| text.replace("rpo_transactions = \"24h\"", "rpo_transactions = \"1s\""));
    let worker = Worker::start(&estate);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let shown = Visitor::new(&estate, &worker).get("/");
    assert!(shown.text.contains("NOT SAFE: the newest backup is too old"), "{}", shown.text);
    check("/", &shown);
}

#[test]
fn who_is_not_signed_in_sees_nothing_and_a_viewer_changes_nothing() {
    let mut estate = Estate::seeded();
    with_tokens(&mut estate, "");
    let name = estate.json(&["backup"])["name"].as_str().unwrap().to_string();
    let worker = Worker::start(&estate);
    let mut visitor = Visitor::new(&estate, &worker);
    let backup = format!("/ui/backups/{name}");
    for path in ["/", &backup, "/ui/restore", "/ui/operations", "/ui/drills", "/ui/nothing"] {
        let shown = visitor.get(path);
        assert_eq!((shown.status, shown.headers["location"].to_str().unwrap()), (303, "/ui/sign-in"), "{path}");
        assert!(!shown.text.contains(&name), "{path}");
    }
    check("/ui/sign-in", &visitor.get("/ui/sign-in"));
    let refused = visitor.sign_in("guess");
    assert_eq!((refused.status, refused.headers.get("set-cookie")), (401, None));
    assert!(refused.text.contains("not accepted") && !refused.text.contains("guess"), "{}", refused.text);
    // Another site cannot sign its own token in.
    let planted = visitor.form_of(Some("https://evil.example"), "/ui/sign-in", &[("token", "look")]);
    assert_eq!((planted.status, planted.headers.get("set-cookie")), (403, None));

    let shown = visitor.sign_in("look");
    assert_eq!(shown.status, 303);
    let cookie = shown.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains("look"), "{cookie}");
    for path in ["/", &backup, "/ui/restore", "/ui/operations"] {
        let shown = visitor.get(path);
        assert_eq!(shown.status, 200, "{path}");
        check(path, &shown);
        assert!(shown.text.contains("the viewer (viewer)") && !shown.text.contains("Verify it now"), "{path}");
    }
    // The plan may be looked at; it cannot be carried out.
    let plan = format!("/ui/restore/plan?backup={name}&source=warehouse&where=beside&into=beside");
    let source = estate.json(&["show", &name])["sources"][0]["name"].as_str().unwrap().to_string();
    let plan = plan.replace("source=warehouse", &format!("source={source}"));
    let shown = visitor.get(&plan);
    assert!(shown.status == 200 && shown.text.contains("takes an operator"), "{}", shown.text);
    check(&plan, &shown);
    let token = shown.text.split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_string();
    for (path, fields) in [
        (
            "/ui/restore",
            vec![
                ("backup", name.as_str()),
                ("source", &source),
                ("into", "beside"),
                ("confirm", "demo-project.beside"),
            ],
        ),
        (&format!("{backup}/verify"), vec![]),
        ("/ui/operations/x/cancel", vec![]),
    ] {
        let mut fields = fields;
        fields.push(("form_token", &token));
        let shown = visitor.form(path, &fields);
        assert_eq!(shown.status, 403, "{path}: {}", shown.text);
        assert!(shown.text.contains("the viewer is viewer"), "{}", shown.text);
    }
    // The cookie is the dashboard's: the API knows tokens only.
    let api = visitor.get("/backup/list");
    assert_eq!(api.status, 401);
    // Signed out is signed out, also for who kept the cookie.
    assert_eq!(visitor.form("/ui/sign-out", &[("form_token", "wrong")]).status, 403);
    assert_eq!(visitor.form("/ui/sign-out", &[("form_token", &token)]).status, 303);
    assert_eq!(visitor.get("/").status, 303);
}

#[test]
fn a_restore_is_begun_by_naming_the_target_of_the_plan_that_was_shown() {
    let mut estate = Estate::seeded();
    with_tokens(&mut estate, "");
    let manifest = estate.json(&["backup"]);
    let (name, source) = (manifest["name"].as_str().unwrap(), manifest["sources"][0]["name"].as_str().unwrap());
    let worker = Worker::start(&estate);
    let mut visitor = Visitor::new(&estate, &worker);
    visitor.sign_in("work");
    let path =
        format!("/ui/restore/plan?backup={name}&source={source}&where=beside&into=scratch&table=dim_model_price");
    let page = visitor.get(&path);
    assert!(page.status == 200 && page.text.contains("demo-project.scratch"), "{}", page.text);
    let absent = || estate.call(Method::GET, &format!("/bigquery/v2/projects/{PROJECT}/datasets/scratch"), None).0;
    let filled = Visitor::filled(&page.text, &[("confirm", "demo-project.scratch")]);
    let with = |name: &str, value: Option<&str>| -> Vec<(String, String)> {
        let kept = filled.iter().filter(|(field, _)| field != name).cloned();
        kept.chain(value.map(|value| (name.to_string(), value.to_string()))).collect()
    };

    // From elsewhere, without the session's token, without the name, of another plan.
    let pairs: Vec<(&str, &str)> = filled.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for origin in [None, Some("https://evil.example"), Some("null")] {
        assert_eq!(visitor.form_of(origin, "/ui/restore", &pairs).status, 403, "{origin:?}");
    }
    for (fields, status, said) in [
        (with("form_token", None), 403, "another session"),
        (with("form_token", Some("guess")), 403, "another session"),
        (with("confirm", None), 422, "not the target"),
        (with("confirm", Some("demo-project.ai_usage_analytics")), 422, "not the target"),
        (with("plan", Some("0")), 422, "has changed"),
        (with("table", Some("fct_cost_daily")), 422, "has changed"),
        (with("source", Some("nobody")), 400, "no such source"),
        (with("backup", Some("nobody")), 404, "nobody"),
        (with("into", Some("a-b")), 400, "dataset"),
    ] {
        let shown = visitor.send_filled(&fields);
        assert!(shown.status == status && shown.text.contains(said), "{said}: {} {}", shown.status, shown.text);
        check("/ui/restore", &shown);
    }
    assert_eq!(absent(), 404);
    // JSON is the API's.
    let request = visitor.http.post(format!("{}/ui/restore", worker.url)).header("origin", &worker.url);
    assert_eq!(visitor.send(request.json(&json!({"backup": name}))).status, 415);

    let begun = visitor.send_filled(&filled);
    assert_eq!(begun.status, 303, "{}", begun.text);
    // The button pressed twice.
    let again = visitor.send_filled(&filled);
    assert_eq!(begun.headers["location"], again.headers["location"]);
    let status = visitor.ended(&begun, Some("work"));
    assert_eq!((&status["state"], &status["by"]), (&json!("done"), &json!("the operator")), "{status}");
    let shown = visitor.get(begun.headers["location"].to_str().unwrap());
    assert!(shown.text.contains("What came back") && shown.text.contains("yes, proven"), "{}", shown.text);
    check("operation", &shown);
    let count = |dataset: &str| estate.query(&format!("SELECT COUNT(*) FROM `{PROJECT}.{dataset}.dim_model_price`"));
    assert_eq!(count("scratch"), count(DATASET));
    let tables = estate.get(&format!("/bigquery/v2/projects/{PROJECT}/datasets/scratch/tables"));
    assert_eq!(tables["tables"].as_array().map(Vec::len), Some(1), "{tables}");

    // Where something is, the plan is refused, and says why.
    let own = format!("/ui/restore/plan?backup={name}&source={source}&where=own");
    let shown = visitor.get(&own);
    assert!(shown.status == 409 && shown.text.contains("fct_cost_daily"), "{} {}", shown.status, shown.text);
    check(&own, &shown);
}

#[test]
fn progress_is_told_while_it_goes_on() {
    let estate = Estate::new(&["--seed", "ai-usage-analytics", "--job-delay-ms", "150"]);
    let worker = Worker::start(&estate);
    let visitor = Visitor::new(&estate, &worker);
    let (status, operation) = worker.post(&estate, "/backup/run-now", json!({}));
    assert_eq!(status, 202, "{operation}");
    let id = operation["id"].as_str().unwrap();
    let page = visitor.get(&format!("/ui/operations/{id}"));
    check("operation", &page);
    // For who has no script: the page asks again.
    assert!(
        page.text.contains("<noscript><meta http-equiv=\"refresh\"") && page.text.contains("/events"),
        "{}",
        page.text
    );
    let told = visitor.get(&format!("/ui/operations/{id}/events"));
    assert_eq!(told.headers["content-type"], "text/event-stream");
    let events: Vec<Value> = told
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(events.len() >= 4, "{}", told.text);
    let (last, before) = events.split_last().unwrap();
    assert!(last["over"] == true && before.iter().all(|event| event["over"] == false), "{}", told.text);
    assert!(
        before.iter().any(|event| event["state"].as_str().is_some_and(|text| text.starts_with("Running: "))),
        "{}",
        told.text
    );
    let over = visitor.get(&format!("/ui/operations/{id}"));
    assert!(over.text.contains("<strong>Done</strong>") && !over.text.contains("refresh"), "{}", over.text);
    check("operation", &over);

    // One that is cancelled says so; its button is a form of this page.
    let (_, operation) = worker.post(&estate, "/backup/run-now", json!({}));
    let path = format!("/ui/operations/{}", operation["id"].as_str().unwrap());
    let page = visitor.get(&path);
    let token = page.text.split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(visitor.form(&format!("{path}/cancel"), &[]).status, 403);
    let shown = visitor.form(&format!("{path}/cancel"), &[("form_token", token)]);
    assert_eq!(shown.status, 303, "{}", shown.text);
    let status = visitor.ended(&shown, None);
    assert_eq!(status["state"], "cancelled", "{status}");
    assert!(visitor.get(&path).text.contains("Cancelled: what was done was taken back"));
}

/// The whole way in a browser. The driver is a Node package that scripts/test installs.
#[test]
fn people_use_it_in_a_browser() {
    let (Some(chromium), Ok(home)) = (chromium(), std::env::var("STRONGROOM_PLAYWRIGHT")) else {
        println!("skipped: there is no Chromium or no Playwright; scripts/test installs both");
        return;
    };
    let mut estate = Estate::new(&["--seed", "ai-usage-analytics", "--job-delay-ms", "30"]);
    with_tokens(&mut estate, "");
    estate.strongroom(&["backup", "--manual", HOSTILE]).ok();
    estate.strongroom(&["backup", "--tier", "weekly"]).ok();
    let manifest = estate.json(&["backup"]);
    let name = manifest["name"].as_str().unwrap();
    estate.strongroom(&["drill"]).ok();
    let worker = Worker::start(&estate);
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard");
    std::fs::create_dir_all(&shots).unwrap();
    let output = Command::new("node")
        .arg(Path::new(&home).join("dashboard.mjs"))
        .args([&worker.url, name, "scratch", shots.to_str().unwrap(), "work"])
        .env("STRONGROOM_CHROMIUM", chromium)
        .output()
        .expect("node runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&seen["serious"], &seen["errors"], &seen["overflow"]), (&json!([]), &json!([]), &json!([])));
    assert!(seen["axe"].as_u64().unwrap() > 300, "{}", seen["axe"]);
    assert_eq!((&seen["door"], &seen["after"]), (&json!("Sign in"), &json!("Sign in")));
    assert_eq!(seen["verdict"], "All is well", "{seen}");
    assert_eq!(seen["listed"].as_array().unwrap().len(), 3, "{}", seen["listed"]);
    assert_eq!(seen["backup"], "Whole: every object lies where it should");
    assert_eq!(seen["tables"].as_array().map(Vec::len), manifest["sources"][0]["tables"].as_array().map(Vec::len));
    assert!(seen["plan"][0].as_str().unwrap().contains("scratch"), "{}", seen["plan"]);
    assert!(seen["refused"].as_str().unwrap().contains("not the target"));
    // Several states of the steps were seen without the page being loaded again.
    assert!(seen["steps"].as_array().unwrap().len() >= 2, "{}", seen["steps"]);
    assert_eq!((&seen["outcome"], &seen["drill"]), (&json!("Done"), &json!("Passed: everything came back, in time")));
    let restored = seen["restored"].as_array().unwrap();
    assert!(
        restored.len() == 5 && restored.iter().all(|row| row.as_str().unwrap().contains("yes, proven")),
        "{restored:?}"
    );
    let count = |dataset: &str| estate.query(&format!("SELECT COUNT(*) FROM `{PROJECT}.{dataset}.stg_llm_requests`"));
    assert_eq!(count("scratch"), count(DATASET));
}
