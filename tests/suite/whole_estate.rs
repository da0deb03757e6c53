//! The profile ai-usage-analytics with all that lies beside its data: the repository's configuration, and the keys of Secret
//! Manager, as its example has them in comments.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{DATASET, Estate, PROJECT, Run};
use crate::postgres::redacted;

const STAGING: &str = "on-its-way";

/// The example with its commented sources, sealed.
fn everything(example: &str, recipient: &str) -> String {
    let mut text = format!("staging = \"gs://{STAGING}/here\"\n");
    let mut uncomment = false;
    for line in example.lines() {
        match line {
            "# [[source]]" => uncomment = true,
            "" => uncomment = false,
            _ => {}
        }
        let line = if uncomment { line.trim_start_matches("# ") } else { line };
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&format!("\n[sealing]\nrecipients = [\"{recipient}\"]\n"));
    text
}

fn write(root: &Path, path: &str, content: &str) {
    let file = root.join(path);
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    std::fs::write(file, content).expect("a file");
}

#[test]
fn configuration_and_keys_come_back_with_the_data() {
    let mut estate = Estate::seeded();
    estate.post(&format!("/storage/v1/b?project={PROJECT}"), json!({"name": STAGING, "location": "US"}));
    let repository = tempfile::tempdir().expect("a folder");
    let root = repository.path();
    let own = root.join("own.key").display().to_string();
    let made = estate.json(&["key", "generate", "--sealing", &own]);
    estate.configure(|example| everything(&example, made["public"].as_str().expect("a recipient")));
    for (path, content) in [
        ("infrastructure/main.tf", "resource \"google_bigquery_dataset\" \"d\" {}\n"),
        ("infrastructure/terraform.tfstate", "{\"secret\": \"in the state\"}\n"),
        (".github/workflows/daily.yml", "on: schedule\n"),
        ("docs/runbook.md", "# What to do\n"),
        ("src/main.py", "print()\n"),
        ("pyproject.toml", "[project]\n"),
    ] {
        write(root, path, content);
    }
    let run = |args: &[&str]| -> Run { Run::of(&estate.command(args).current_dir(root).output().expect("it runs")) };
    let secrets = |method: Method, path: &str| -> Value {
        let (status, answer) = estate.call(method, &format!("/v1/projects/{PROJECT}/secrets/{path}"), None);
        assert!(status < 300, "{path}: {answer}");
        answer
    };
    let key = || secrets(Method::GET, "cursor-api-key/versions/latest:access")["payload"]["data"].clone();
    let before = key();
    let payload = STANDARD.decode(before.as_str().expect("a payload")).expect("base64");
    let payload = String::from_utf8(payload).expect("a text");

    let planned = run(&["backup", "--tier", "daily", "--dry-run"]).ok();
    assert!(planned.stdout.contains("secrets/cursor-api-key"), "{}", planned.stdout);
    let backup = run(&["backup", "--tier", "daily"]).ok();
    let shown = run(&["show", "latest"]).ok();
    for seen in [&planned, &backup, &shown] {
        assert!(!seen.stdout.contains(&payload) && !seen.stderr.contains(&payload), "a key is seen");
    }
    let verified = run(&["--json", "verify", "--identity", &own]).ok().data();
    assert_eq!((&verified[0]["state"], &verified[0]["content_read"]), (&json!("complete"), &json!(true)), "{verified}");

    // The files, beside: the state of Terraform and the program are no part of them.
    let beside = root.join("beside");
    let to = beside.display().to_string();
    run(&["restore", "latest", "--source", "configuration", "--to", &to, "--identity", &own]).ok();
    let at = |path: &str| beside.join("configuration").join(path);
    assert_eq!(std::fs::read_to_string(at("docs/runbook.md")).expect("a file"), "# What to do\n");
    assert!(at(".github/workflows/daily.yml").exists() && at("pyproject.toml").exists());
    assert!(!at("infrastructure/terraform.tfstate").exists() && !at("src").exists());

    // A key that was deleted, and a table of BigQuery's against its sealed file.
    secrets(Method::DELETE, "cursor-api-key");
    run(&["restore", "latest", "--source", "keys", "--replace", "--identity", &own]).ok();
    assert_eq!(key(), before);
    let diff = run(&["diff", "latest", "--table", "dim_model_price", "--identity", &own]).ok();
    assert!(diff.stdout.contains("the same"), "{}", diff.stdout);
}

/// The runbook's commands, as its operators know them, on the example as it is.
#[test]
fn the_commands_of_ai_usage_analytics() {
    let estate = Estate::seeded();
    let mut seen = vec![];
    let mut see = |args: &[&str]| {
        let run = estate.strongroom(&[&["--quiet"], args].concat());
        let text = format!("$ strongroom {}\n{}{}(exit {})", args.join(" "), run.stdout, run.stderr, run.code);
        seen.push(redacted(&text));
    };
    for args in [
        &["backup", "--tier", "daily", "--dry-run"][..],
        &["backup", "--tier", "daily"],
        &["backup", "--manual", "before the migration"],
        &["list"],
        &["verify", "latest"],
        &["validate"],
        &["diff", "latest", "--table", "dim_model_price"],
    ] {
        see(args);
    }
    // A table is lost, and comes back.
    let table = format!("/bigquery/v2/projects/{PROJECT}/datasets/{DATASET}/tables/dim_model_price");
    assert_eq!(estate.call(Method::DELETE, &table, None).0, 204);
    for args in [
        &["validate"][..],
        &["restore", "latest", "--table", "dim_model_price", "--dry-run"],
        &["restore", "latest", "--table", "dim_model_price"],
        &["validate"],
        &["stats"],
        &["cleanup", "--dry-run"],
        &["cleanup"],
        &["schedule", "status"],
        &["status"],
    ] {
        see(args);
    }
    insta::assert_snapshot!("ai_usage_analytics", seen.join("\n\n"));
}
