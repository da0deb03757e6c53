//! Least privilege: each of the four roles of `infrastructure/terraform/roles.tf` does its work, and can do nothing else. The
//! permissions are read from that file, so what is granted there is what is tried here.

use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{Estate, Run};

const VAULT: &str = "demo-project-backup-daily";
const ROLES: [&str; 4] = ["write", "read", "prune", "drill"];

const CONFIGURATION: &str = r#"
name = "ai-usage-analytics"
home = "gs://demo-project-vault-home"
staging = "gs://demo-project-staging"
[google]
project = "demo-project"
endpoint = "${STRONGROOM_GOOGLE_ENDPOINT}"
credentials = "env:TOKEN"
[[source]]
name = "warehouse"
kind = "bigquery"
dataset = "ai_usage_analytics"
tables = ["dim_model_price", "fct_usage_daily", "v_*"]
[[source]]
name = "mappings"
kind = "sheets"
spreadsheet = "sandbox-api-key-mappings"
[tiers.daily]
keep = "0s"
destinations = [{ place = "gs://demo-project-backup-daily", create_only = true }]
[retention]
grace = "0s"
"#;

/// The permissions of a role on the buckets of backups, as Terraform grants them.
fn permissions(role: &str) -> Vec<String> {
    let text = include_str!("../../infrastructure/terraform/roles.tf");
    let roles = text.split_once("roles = {").expect("the roles").1;
    let line = roles.lines().position(|line| line.trim_start().starts_with(&format!("{role} "))).expect("the role");
    let list: String = roles.lines().skip(line).collect::<Vec<_>>().join(" ");
    let list = list.split_once('[').unwrap().1.split_once(']').unwrap().0;
    list.split(',').map(|name| name.trim().trim_matches('"').to_string()).filter(|name| !name.is_empty()).collect()
}

fn estate(writer_may_create: &str) -> Estate {
    let mut estate = Estate::seeded();
    estate.configure(|_| CONFIGURATION.into());
    for bucket in ["demo-project-vault-home", "demo-project-staging"] {
        estate.post("/storage/v1/b?project=demo-project", json!({"name": bucket, "location": "US"}));
    }
    let principals: Vec<Value> = ROLES
        .iter()
        .map(|role| {
            let elsewhere = ["bigquery.*", "sheets.*", "cloudscheduler.*", "resourcemanager.*"];
            json!({"token": role, "email": format!("{role}@demo.example"), "grants": [
                {"permissions": permissions(role), "resource": match *role {
                    "write" => format!("projects/_/buckets/{VAULT}{writer_may_create}"),
                    _ => format!("projects/_/buckets/{VAULT}*"),
                }},
                {"permissions": ["storage.buckets.get"], "resource": format!("projects/_/buckets/{VAULT}")},
                {"permissions": ["*"], "resource": "projects/_/buckets/demo-project-vault-home*"},
                {"permissions": ["*"], "resource": "projects/_/buckets/demo-project-staging*"},
                {"permissions": elsewhere},
            ]})
        })
        .collect();
    let table = json!({"principals": principals});
    assert_eq!(estate.call(Method::PUT, "/_sandbox/permissions", Some(table)).0, 200);
    estate
}

fn run(estate: &Estate, role: &str, args: &[&str]) -> Run {
    let output = estate.command(args).env("TOKEN", role).output().expect("strongroom runs");
    Run::of(&output)
}

/// What Cloud Storage answers to a role that calls it directly.
fn status(estate: &Estate, role: &str, method: Method, path: &str, body: Option<&str>) -> u16 {
    estate.block_on(async {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.request(method, format!("{}{path}", estate.sandbox.endpoint())).bearer_auth(role);
        let request = body.map(|body| request.try_clone().unwrap().body(body.to_string())).unwrap_or(request);
        request.send().await.unwrap().status().as_u16()
    })
}

#[test]
fn each_role_does_its_work_and_can_do_nothing_else() {
    let estate = estate("*");
    let backup = |estate: &Estate| {
        // Names are made of seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let run = run(estate, "write", &["--json", "backup", "--tier", "daily"]).ok();
        run.data()["name"].as_str().expect("a name").to_string()
    };
    let first = backup(&estate);
    assert_eq!(estate.objects("demo-project-staging"), Vec::<String>::new(), "staging is emptied");
    let key = estate.objects(VAULT).into_iter().find(|key| key.contains("/data/")).expect("a file");
    let object = format!("/storage/v1/b/{VAULT}/o/{}", key.replace('/', "%2F"));
    let upload =
        |name: &str| format!("/upload/storage/v1/b/{VAULT}/o?uploadType=media&name={}", name.replace('/', "%2F"));

    // Who writes reads, replaces, deletes and lists nothing.
    assert_eq!(status(&estate, "write", Method::GET, &format!("{object}?alt=media"), None), 403);
    assert_eq!(status(&estate, "write", Method::DELETE, &object, None), 403);
    assert_eq!(status(&estate, "write", Method::POST, &upload(&key), Some("other")), 403);
    assert_eq!(status(&estate, "write", Method::GET, &format!("/storage/v1/b/{VAULT}/o"), None), 403);
    for verb in [&["list"][..], &["verify", &first], &["restore", &first, "--into", "elsewhere"], &["retention"]] {
        let refused = run(&estate, "write", verb);
        assert_eq!(refused.code, 14, "{verb:?}: {}{}", refused.stdout, refused.stderr);
    }

    // Who reads changes nothing.
    run(&estate, "read", &["verify", &first]).ok();
    assert!(run(&estate, "read", &["list"]).ok().stdout.contains(&first));
    assert_eq!(status(&estate, "read", Method::DELETE, &object, None), 403);
    assert_eq!(status(&estate, "read", Method::POST, &upload("daily/x"), Some("x")), 403);

    // Who rehearses restores from what he may only read.
    run(&estate, "drill", &["drill", &first]).ok();
    assert_eq!(status(&estate, "drill", Method::DELETE, &object, None), 403);

    // Who removes sees to it that what is needed stays.
    let second = backup(&estate);
    run(&estate, "prune", &["pin", &second]).ok();
    for _ in 0..2 {
        run(&estate, "prune", &["retention"]).ok();
    }
    let third = backup(&estate);
    for _ in 0..2 {
        run(&estate, "prune", &["retention"]).ok();
    }
    let listed = run(&estate, "read", &["list"]).ok().stdout;
    // The first was verified by the drill, the second is pinned.
    for name in [&first, &second, &third] {
        assert!(listed.contains(name), "{name}: {listed}");
    }
    run(&estate, "prune", &["unpin", &second]).ok();
    for _ in 0..2 {
        run(&estate, "prune", &["retention"]).ok();
    }
    let listed = run(&estate, "read", &["list"]).ok().stdout;
    assert!(!listed.contains(&second) && listed.contains(&first) && listed.contains(&third), "{listed}");
}

#[test]
fn what_a_failed_backup_leaves_is_removed_by_who_prunes() {
    // Everything but statement and manifest.
    let estate = estate("/objects/daily/*/*/*/*/*");
    let failed = run(&estate, "write", &["backup", "--tier", "daily"]);
    assert!(failed.code == 14 || failed.code == 1, "{}: {}", failed.code, failed.stderr);
    assert!(failed.stderr.contains("storage.objects.create"), "{}", failed.stderr);
    let left = estate.objects(VAULT);
    assert!(left.iter().any(|key| key.contains("/data/")), "its writer cannot delete it: {left:?}");
    assert_eq!(run(&estate, "read", &["status"]).code, 5, "a dead run needs attention");

    run(&estate, "prune", &["recover"]).ok();
    let left = estate.objects(VAULT);
    assert!(left.iter().all(|key| key.ends_with("/manifest.json")), "only a tombstone is left: {left:?}");
    assert!(!run(&estate, "read", &["list"]).ok().stdout.contains("_daily_backup_"));
}
