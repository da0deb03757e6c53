//! The documented commands of two systems, as their operators know them, and what they see.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Server, clean};
use crate::estate::Run;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// Runs the program by an example's configuration, as an operator would, in a directory of their own.
struct Profile<'a> {
    server: &'a Server,
    config: String,
    database: &'a str,
    environment: Vec<(&'static str, String)>,
}

impl Profile<'_> {
    fn run(&self, args: &[&str]) -> Run {
        let mut command = self.server.command(Path::new(&self.config), self.database, args);
        command.current_dir(self.server.directory.path()).envs(self.environment.iter().cloned()).arg("--quiet");
        clean(Run::of(&command.output().expect("strongroom runs")))
    }

    /// What a person sees, with what changes from run to run taken out.
    fn seen(&self, args: &[&str]) -> String {
        let run = self.run(args);
        let text = format!("$ strongroom {}\n{}{}(exit {})", args.join(" "), run.stdout, run.stderr, run.code);
        let directory = self.server.directory.path().display().to_string();
        let text =
            text.replace(&format!("127.0.0.1:{}", self.server.port), "127.0.0.1:PORT").replace(&directory, "DIR");
        redacted(&text)
    }
}

/// Digits of times, sizes and durations become `#`; counts of rows stay, they are the point.
pub fn redacted(text: &str) -> String {
    let volatile = [
        (r"\d{8}T\d{6}Z-[0-9a-f]{8}", "RUN"),
        (r"\d{4}-\d{2}-\d{2}T\d{2}[-:]\d{2}[-:]\d{2}(\.\d+)?Z", "TIME"),
        (r"\d{4}-\d{2}-\d{2}( \d{2}:\d{2}(:\d{2})?)?( UTC)?", "TIME"),
        (r"\d{8}_\d{4}_", "TIME_"),
        (r"[-+]?\b\d+(\.\d+)? ?(B|KiB|MiB|GiB|TiB|bytes)\b", "SIZE"),
        (r"\b(\d+ h )?(\d+ min )?\d+(\.\d+)? (ms|s|min)\b", "DURATION"),
        (r"PostgreSQL\)? \d+(\.\d+)?[^;\n]*", "PostgreSQL VERSION"),
        (r"\b\d+ %", "PERCENT"),
        (r" {2,}", "  "),
    ];
    let mut text = text.to_string();
    for (pattern, with) in volatile {
        text = regex::Regex::new(pattern).expect("a pattern").replace_all(&text, with).into_owned();
    }
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

const INVOICES: &str = "CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE invoices (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL REFERENCES customers,
        total numeric(12, 2) NOT NULL, due date, details jsonb);
    INSERT INTO customers SELECT i, 'Customer ' || i FROM generate_series(1, 20) i;
    INSERT INTO invoices (customer, total, due, details)
        SELECT 1 + i % 20, i * 1.25, date '2026-01-01' + i % 90, '{\"lines\": 2}' FROM generate_series(1, 500) i;";

#[test]
fn the_commands_of_tellbill() {
    let Some(server) = Server::start() else { return };
    server.sql("postgres", "CREATE DATABASE tellbill");
    server.sql("tellbill", INVOICES);
    // The example, with a validation query beside it.
    let example = std::fs::read_to_string(format!("{EXAMPLES}/tellbill.toml")).expect("the example");
    let queries = server.directory.path().join("queries");
    std::fs::create_dir(&queries).expect("a folder");
    let query = "-- name: invoices_have_customers\n-- title: Every invoice has its customer.\n-- expect: no_rows\n\
        -- critical: yes\nSELECT i.id FROM `${project_id}.${dataset}.invoices` AS i\n\
        LEFT JOIN `${project_id}.${dataset}.customers` AS c ON c.id = i.customer WHERE c.id IS NULL;\n";
    std::fs::write(queries.join("invoices_have_customers.sql"), query).expect("a query");
    let config = server.directory.path().join("tellbill.toml");
    // How full this machine's file system is, is not the matter.
    let example = example.replace("free_space_below = 0.1", "free_space_below = 0.0");
    std::fs::write(&config, format!("{example}\n[validation]\nqueries = \"queries\"\n")).expect("a configuration");
    let profile = Profile {
        server: &server,
        config: config.display().to_string(),
        database: "tellbill",
        environment: vec![("BACKUP_DIR", "./backups".into()), ("BACKUP_RETENTION_DAYS", "30".into())],
    };
    let mut seen = vec![];
    for args in [
        &["backup", "--tier", "daily", "--dry-run"][..],
        &["backup", "--tier", "daily"],
        &["backup", "--tier", "weekly"],
        &["backup", "--tier", "monthly"],
        &["list"],
        &["stats"],
        &["verify", "latest"],
        &["restore", "latest"],
        &["restore", "latest", "--replace", "--dry-run"],
        &["restore", "latest", "--replace"],
        &["query", "latest", "SELECT COUNT(*) AS invoices, SUM(total) AS total FROM public.invoices"],
        &["validate", "--offline"],
        &["cleanup", "--dry-run"],
        &["cleanup"],
        &["status"],
        &["schedule", "status"],
        &["schedule", "stop", "--by", "ann"],
        &["schedule", "status"],
        &["schedule", "start", "--by", "ann"],
    ] {
        seen.push(profile.seen(args));
    }
    insta::assert_snapshot!("tellbill", seen.join("\n\n"));
    assert_eq!(server.sql("tellbill", "SELECT count(*), sum(total) FROM invoices"), "500|156562.50");
}

#[test]
fn the_commands_of_brownie() {
    let Some(server) = Server::start() else { return };
    server.sql("postgres", "CREATE DATABASE brownie_metadata");
    server.sql("brownie_metadata", "CREATE TABLE incidents (id serial PRIMARY KEY, title text); INSERT INTO incidents (title) SELECT 'incident ' || i FROM generate_series(1, 50) i;");
    let vault = server.directory.path().join("vault").display().to_string();
    let example = std::fs::read_to_string(format!("{EXAMPLES}/brownie.toml")).expect("the example");
    let config = server.directory.path().join("brownie.toml");
    std::fs::write(&config, format!("{example}\n[watch]\nfree_space_below = 0.0\n")).expect("a configuration");
    let profile = Profile {
        server: &server,
        config: config.display().to_string(),
        database: "brownie_metadata",
        environment: vec![("BACKUP_DESTINATION", vault), ("BACKUP_SCHEDULE", "0 2 * * *".into())],
    };
    let mut seen = vec![];
    for args in [
        &["backup", "--name", "pre-deployment-backup", "--dry-run"][..],
        &["backup", "--name", "pre-deployment-backup"],
        &["backup"],
        &["list"],
        &["restore", "pre-deployment-backup", "--target-db", "brownie_metadata_test"],
        &["verify", "pre-deployment-backup"],
        &["stats"],
        &["cleanup"],
        &["status"],
        &["schedule", "--status"],
        &["schedule", "next"],
    ] {
        seen.push(profile.seen(args));
    }
    // What is deleted is named in full, and twice.
    let listed = profile.run(&["list"]).ok().stdout;
    let name = listed.split_whitespace().find(|word| word.ends_with("_pre-deployment-backup")).expect("it is listed");
    seen.push(profile.seen(&["delete", name, "--confirm", name]));
    insta::assert_snapshot!("brownie", seen.join("\n\n"));
    assert_eq!(server.sql("brownie_metadata_test", "SELECT count(*) FROM incidents"), "50");
}

/// The calls of the document, as its operators make them with curl.
#[test]
fn the_calls_of_brownie() {
    let Some(server) = Server::start() else { return };
    server.sql("postgres", "CREATE DATABASE brownie_metadata");
    server.sql("brownie_metadata", "CREATE TABLE incidents (id serial PRIMARY KEY, title text); INSERT INTO incidents (title) SELECT 'incident ' || i FROM generate_series(1, 50) i;");
    let vault = server.directory.path().join("vault").display().to_string();
    let config = format!("{EXAMPLES}/brownie.toml");
    let mut command =
        server.command(Path::new(&config), "brownie_metadata", &["serve", "--listen", "127.0.0.1:0", "--schedule"]);
    command.current_dir(server.directory.path()).env("BACKUP_DESTINATION", vault);
    let mut worker = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the worker starts");
    let mut line = String::new();
    BufReader::new(worker.stdout.take().expect("its output")).read_line(&mut line).expect("it says where it listens");
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_default().to_string();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let call = |method: Method, path: &str, body: Value| -> (u16, Value) {
        runtime.block_on(async {
            let request = http.request(method, format!("{url}{path}"));
            let request = if body.is_null() { request } else { request.json(&body) };
            let response = request.send().await.expect("the worker answers");
            let status = response.status().as_u16();
            (status, serde_json::from_str(&response.text().await.expect("a body")).unwrap_or_default())
        })
    };
    let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let (status, made) =
            call(Method::POST, "/backup/create?wait=120", json!({"backup_name": "my-backup-2024-01-15"}));
        assert_eq!((status, &made["state"]), (200, &json!("done")), "{made}");
        let name = made["result"]["name"].as_str().expect("its name").to_string();
        assert!(name.ends_with("my-backup-2024-01-15"), "{name}");
        let (status, listed) = call(Method::GET, "/backup/list", Value::Null);
        assert_eq!((status, &listed["backups"][0]["name"]), (200, &json!(name)), "{listed}");

        let body = json!({"backup_name": name, "target_database": "brownie_metadata_test"});
        let (status, restored) = call(Method::POST, "/backup/restore?wait=120", body.clone());
        assert_eq!((status, &restored["state"]), (200, &json!("done")), "{restored}");
        assert_eq!(server.sql("brownie_metadata_test", "SELECT count(*) FROM incidents"), "50");
        let (status, refused) = call(Method::POST, "/backup/restore?wait=120", body);
        assert_eq!(status, 409, "there is a database of that name now: {refused}");

        let (status, health) = call(Method::GET, "/backup/status", Value::Null);
        assert_eq!(status, 200, "{health}");
        let (status, next) = call(Method::GET, "/backup/next-backup", Value::Null);
        assert!(status == 200 && next["next_backups"][0]["tier"] == "daily", "{next}");
        let (status, cleaned) = call(Method::POST, "/backup/cleanup?wait=120", json!({}));
        assert_eq!((status, &cleaned["state"]), (200, &json!("done")), "{cleaned}");
        let (status, now) = call(Method::POST, "/backup/run-now?wait=120", json!({}));
        assert_eq!((status, &now["state"]), (200, &json!("done")), "{now}");
    }));
    let _ = worker.kill();
    let _ = worker.wait();
    if let Err(panic) = tried {
        std::panic::resume_unwind(panic);
    }
}
