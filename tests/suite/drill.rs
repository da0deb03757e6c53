//! Drills: every scenario runs by itself, every injected fault is found and named, and nothing of production is touched.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::estate::{DATASET, Estate, PROJECT, Run, SHEET};
use crate::proxy::{Action, Proxy};

/// The dataset of a drill that stands there now, if one does.
pub fn scratch(estate: &Estate, project: &str) -> Vec<String> {
    let listed = estate.get(&format!("/bigquery/v2/projects/{project}/datasets"));
    let all = listed["datasets"].as_array().cloned().unwrap_or_default();
    let names = all.iter().map(|dataset| dataset["datasetReference"]["datasetId"].as_str().unwrap().to_string());
    names.filter(|name| name.contains("_drill_")).collect()
}

#[test]
fn a_rehearsal_proves_the_backup_and_leaves_nothing_behind() {
    let estate = Estate::seeded();
    estate.strongroom(&["backup"]).ok();
    let before = estate.contents(DATASET);
    let tabs = |estate: &Estate| estate.get(&format!("/v4/spreadsheets/{SHEET}?fields=sheets(properties)"));
    let (cells, had) = (estate.sheet(), tabs(&estate));
    let mark = estate.mark();
    let planned = estate.strongroom(&["drill", "--dry-run"]).ok();
    assert!(planned.stdout.contains("scratch only") && !planned.stdout.contains("PRODUCTION"), "{}", planned.stdout);
    assert!(estate.requests(mark).iter().all(|request| request["mutating"] == false));

    let mark = estate.mark();
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().to_str().unwrap();
    let report = estate.json(&["drill", "--operator", "Ann of Finance", "--report-dir", into]);
    assert_eq!((report["outcome"].as_str(), &report["findings"]), (Some("passed"), &json!([])), "{report:#}");
    let tables = report["tables"].as_array().unwrap();
    assert!(tables.len() == 5 && tables.iter().all(|table| table["proven"] == true), "{tables:#?}");
    let met = |name: &str| {
        let lines = report["objectives"].as_array().unwrap();
        let line = lines.iter().find(|line| line["objective"] == name).unwrap_or_else(|| panic!("{name}"));
        line["measured_ms"].as_i64().unwrap() < line["limit_seconds"].as_i64().unwrap() * 1000
    };
    for name in ["rto_critical", "rto_full", "rto_dashboards", "rpo_transactions", "rpo_mappings"] {
        assert!(met(name), "{name}");
    }
    let by_hand = report["checklist"].as_array().unwrap().iter().filter(|item| item["state"] == "by_hand").count();
    assert!((1..10).contains(&by_hand), "{by_hand} of 16 are left to a person");

    // Nothing of production was touched, nothing is left.
    assert_eq!((estate.contents(DATASET), scratch(&estate, PROJECT)), (before, vec![]));
    assert_eq!((estate.sheet(), tabs(&estate)), (cells, had));
    let notes = report["notes"].to_string();
    assert!(notes.contains("written to a new tab and found the same there"), "{notes}");
    for request in estate.requests(mark).iter().filter(|request| request["mutating"] == true) {
        let path = request["path"].as_str().unwrap_or_default();
        let production =
            path.contains(&format!("datasets/{DATASET}/")) || path.ends_with(&format!("datasets/{DATASET}"));
        // Cells are written to the drill's own tabs; a batchUpdate makes and removes them.
        let own_tab = path.contains("_drill_") || path.ends_with(":batchUpdate");
        assert!(!production && !path.contains(":pause") && (!path.contains("/v4/") || own_tab), "{request}");
    }
    // The report is kept, and the backup is marked.
    let drill = report["drill"].as_str().unwrap();
    let stored = estate.json(&["report", drill]);
    assert_eq!(stored, report);
    assert_eq!(estate.json(&["report"])["drill"], drill);
    let written = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), report);
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert_eq!(estate.strongroom(&["report", "--format", "html"]).ok().stdout, page);
    assert!(page.contains("Ann of Finance") && !page.contains("<script"), "{page}");
    let unknown = estate.strongroom(&["report", "no-such-drill"]);
    assert_eq!(unknown.code, 10, "{unknown:?}");
    assert!(unknown.stderr.contains(drill), "{unknown:?}");
    let listed = estate.json(&["list"]);
    let mark = &listed["backups"][0]["verified"];
    assert_eq!(
        (mark["by"].as_str(), mark["how"].as_str()),
        (Some("Ann of Finance"), Some(format!("drill {drill}").as_str()))
    );
    assert!(estate.strongroom(&["show"]).ok().stdout.contains("verified"));
    follows_the_schema(&folder.path().join("report.json"), "drill-report.v1.json");
}

/// Holds a report against the schema that the program comes with, by a validator of somebody else.
pub fn follows_the_schema(report: &std::path::Path, schema: &str) {
    let Some(python) = std::env::var_os("STRONGROOM_PYTHON") else {
        println!("skipped: STRONGROOM_PYTHON names no Python with jsonschema; scripts/test installs one");
        return;
    };
    let check = "import json, sys, jsonschema; s = json.load(open(sys.argv[1])); r = json.load(open(sys.argv[2])); \
        V = jsonschema.Draft202012Validator; V.check_schema(s); V(s).validate(r); \
        r['surprise'] = 1; assert not V(s).is_valid(r)";
    let schema = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(schema);
    let output = std::process::Command::new(python).args(["-c", check]).arg(schema).arg(report).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An estate with a copy of its backups and a project to recover into: every scenario can be rehearsed.
pub fn ready_for_everything() -> Estate {
    let mut estate = Estate::seeded();
    let bucket = json!({"name": "demo-project-backup-copy", "location": "US"});
    estate.post(&format!("/storage/v1/b?project={PROJECT}"), bucket);
    estate.configure(|text| {
        text.replace("-daily\"]", "-daily\", \"gs://${BACKUP_BUCKET_PREFIX}-copy\"]")
            .replace("# recovery_project = \"another-project\"", "recovery_project = \"recovery-project\"")
    });
    estate
}

#[test]
fn every_loss_is_rehearsed_on_a_copy() {
    let mut estate = ready_for_everything();
    estate.strongroom(&["backup"]).ok();
    let before = estate.contents(DATASET);
    for (scenario, told) in [
        ("dataset-loss", "deleted as a whole"),
        ("table-loss", "forgotten by BigQuery"),
        ("accidental-deletion", "remembers the table for 168 h"),
        ("corrupted-rows", "nobody knows when"),
        ("bucket-loss", "demo-project-backup-copy"),
        ("project-loss", "another project"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let report = estate.json(&["drill", "--scenario", scenario, "--report-dir", folder.path().to_str().unwrap()]);
        assert_eq!((report["outcome"].as_str(), &report["findings"]), (Some("passed"), &json!([])), "{report:#}");
        assert_eq!(report["tables"].as_array().unwrap().len(), 5, "{scenario}");
        let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
        assert!(page.contains(told), "{scenario} should tell '{told}'");
        assert_eq!(scratch(&estate, PROJECT), Vec::<String>::new(), "{scenario}");
        if scenario == "project-loss" {
            assert_eq!(scratch(&estate, "recovery-project"), Vec::<String>::new(), "{scenario}");
        }
    }
    assert_eq!(estate.contents(DATASET), before);
    let refused = estate.strongroom(&["drill", "--scenario", "table-loss", "--table", "no_such_table"]);
    assert_eq!(refused.code, 4, "{refused:?}");

    // The accident was noticed too late for BigQuery's own memory.
    estate.configure(|text| text.replace("# noticed_after = \"1h\"", "noticed_after = \"8d\""));
    let planned = estate.strongroom(&["drill", "--scenario", "accidental-deletion", "--dry-run"]).ok();
    assert!(planned.stdout.contains("the backup's files are the only way"), "{}", planned.stdout);
    for (scenario, hint) in [("project-loss", "recovery_project"), ("bucket-loss", "destinations")] {
        let refused = estate.strongroom(&["drill", "--scenario", scenario]);
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(refused.stderr.contains(hint), "{refused:?}");
    }
}

#[test]
fn the_service_and_its_key_are_rehearsed_on_doubles() {
    let mut estate = Estate::seeded();
    let services = |estate: &Estate| {
        let listed = estate.get(&format!("/v2/projects/{PROJECT}/locations/us-central1/services"));
        listed["services"].as_array().unwrap().iter().map(|service| service["name"].clone()).collect::<Vec<_>>()
    };
    let secrets = |estate: &Estate| {
        let listed = estate.get(&format!("/v1/projects/{PROJECT}/secrets"));
        listed["secrets"].as_array().unwrap().iter().map(|secret| secret["name"].clone()).collect::<Vec<_>>()
    };
    let before = (services(&estate), secrets(&estate));
    for (scenario, steps) in [
        ("service-failure", &["describe", "setup_service", "deploy", "health", "dry_run", "teardown"][..]),
        ("key-compromise", &["rotate", "revoke", "restart", "health", "dry_run", "secrets", "anomalies", "teardown"]),
    ] {
        let mark = estate.mark();
        let report = estate.json(&["drill", "--scenario", scenario]);
        assert_eq!((report["outcome"].as_str(), &report["findings"]), (Some("passed"), &json!([])), "{report:#}");
        let phases: Vec<&str> =
            report["phases"].as_array().unwrap().iter().map(|p| p["step"].as_str().unwrap()).collect();
        assert!(steps.iter().all(|step| phases.contains(step)), "{scenario}: {phases:?}");
        let pipeline = report["objectives"].as_array().unwrap().iter().find(|line| line["objective"] == "rto_pipeline");
        assert!(pipeline.unwrap()["measured_ms"].as_i64().unwrap() > 0, "{pipeline:?}");
        let seen = |point: &str| {
            let items = report["checklist"].as_array().unwrap();
            items.iter().find(|item| item["point"] == point).unwrap()["state"].as_str().unwrap().to_string()
        };
        assert_eq!((seen("health").as_str(), seen("pipeline").as_str()), ("passed", "passed"));
        assert_eq!(seen("secrets"), if scenario == "key-compromise" { "passed" } else { "by_hand" });
        // Only doubles were changed, and they are gone.
        assert_eq!((services(&estate), secrets(&estate)), before);
        for request in estate.requests(mark).iter().filter(|request| request["mutating"] == true) {
            let path = request["path"].as_str().unwrap_or_default();
            let made = path.ends_with("/services") || path.ends_with("/secrets");
            let serving = path.contains("/services/") || path.contains("/secrets/");
            assert!(made || !serving || path.contains("-drill-"), "{request}");
        }
    }
    // A deployment fails: the drill says so, and leaves nothing.
    let control = format!("/_sandbox/services/{PROJECT}/us-central1/ai-usage-analytics-pipeline");
    let (status, answer) = estate.call(reqwest::Method::PUT, &control, Some(json!({"healthy": true})));
    assert_eq!(status, 200, "{answer}");
    let proxy = estate.block_on(Proxy::start(estate.sandbox.endpoint(), |method, path| {
        if method == "PATCH" && path.contains("-drill-") { Action::Answer(403, None) } else { Action::Pass }
    }));
    estate.endpoint = Some(proxy.endpoint().into());
    let run = estate.strongroom(&["--json", "drill", "--scenario", "service-failure"]);
    assert_eq!((run.code, &run.data()["outcome"]), (14, &json!("not_finished")), "{run:?}");
    estate.endpoint = None;
    assert_eq!((services(&estate), secrets(&estate)), before);

    estate.configure(|text| text.split("[service]").next().unwrap().to_string());
    for (scenario, hint) in [("service-failure", "[service] name"), ("key-compromise", "[secrets] names")] {
        let refused = estate.strongroom(&["drill", "--scenario", scenario]);
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(refused.stderr.contains(hint), "{refused:?}");
    }
}

#[test]
fn a_restore_falls_over_to_the_copy() {
    let mut estate = Estate::seeded();
    let bucket = json!({"name": "demo-project-backup-copy", "location": "US"});
    estate.post(&format!("/storage/v1/b?project={PROJECT}"), bucket);
    estate.configure(|text| text.replace("-daily\"]", "-daily\", \"gs://${BACKUP_BUCKET_PREFIX}-copy\"]"));
    let manifest = estate.json(&["backup"]);
    let before = estate.contents(DATASET);
    let objects = |estate: &Estate, prefix: &str| -> Vec<String> {
        let listed = estate.get(&format!("/storage/v1/b/demo-project-backup-daily/o?prefix={prefix}"));
        listed["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|o| o["name"].as_str().unwrap().replace('/', "%2F"))
            .collect()
    };
    let delete =
        |estate: &Estate, key: &str| estate.delete(&format!("/storage/v1/b/demo-project-backup-daily/o/{key}"));

    // One object is missing.
    let key = manifest["sources"][0]["tables"][0]["objects"][0]["key"].as_str().unwrap().replace('/', "%2F");
    delete(&estate, &key);
    estate.lose_everything();
    let run = estate.strongroom(&["restore"]).ok();
    assert!(run.stderr.contains("1 are read from gs://demo-project-backup-copy"), "{run:?}");
    assert_eq!(estate.contents(DATASET), before);

    // The bucket itself is gone.
    for key in objects(&estate, "") {
        delete(&estate, &key);
    }
    estate.delete("/storage/v1/b/demo-project-backup-daily");
    estate.lose_everything();
    let run = estate.strongroom(&["restore"]).ok();
    assert!(run.stderr.contains("journal and lease are kept in gs://demo-project-backup-copy"), "{run:?}");
    assert_eq!(estate.contents(DATASET), before);
}

/// A fault, what an outsider does to the scratch dataset between load and comparison, and what the drill must say.
pub struct Fault {
    pub name: &'static str,
    /// SQL; `{}` stands for the scratch dataset.
    sql: &'static str,
    /// Or a call: method, path below the scratch dataset, body.
    call: Option<(&'static str, &'static str, &'static str)>,
    says: &'static [&'static str],
}

pub const FAULTS: &[Fault] = &[
    Fault {
        name: "a row dropped",
        sql: "DELETE FROM `{}.dim_api_key_user` WHERE api_key_id = (SELECT MIN(api_key_id) FROM `{}.dim_api_key_user`)",
        call: None,
        says: &["dim_api_key_user", "36 rows"],
    },
    Fault {
        name: "a row duplicated",
        sql: "INSERT INTO `{}.dim_api_key_user` SELECT * FROM `{}.dim_api_key_user` LIMIT 1",
        call: None,
        says: &["dim_api_key_user", "38 rows"],
    },
    Fault {
        name: "one microsecond off",
        sql: "UPDATE `{}.fct_usage_daily` SET last_request_at = TIMESTAMP_ADD(last_request_at, INTERVAL 1 MICROSECOND) WHERE last_request_at = (SELECT MAX(last_request_at) FROM `{}.fct_usage_daily`)",
        call: None,
        says: &["fct_usage_daily", "last_request_at"],
    },
    Fault {
        name: "the last digit of a NUMERIC",
        sql: "UPDATE `{}.fct_cost_daily` SET cost_usd = cost_usd + NUMERIC '0.000000001' WHERE cost_usd = (SELECT MAX(cost_usd) FROM `{}.fct_cost_daily`)",
        call: None,
        says: &["fct_cost_daily", "cost_usd"],
    },
    Fault {
        name: "a view missing",
        sql: "",
        call: Some(("DELETE", "/tables/vw_finance_summary", "")),
        says: &["vw_finance_summary", "the view is not there"],
    },
    Fault {
        name: "a label lost",
        sql: "",
        call: Some(("PATCH", "/tables/fct_usage_daily", r#"{"labels": {"owner": null}}"#)),
        says: &["fct_usage_daily", "labels"],
    },
    Fault {
        name: "two columns' values swapped",
        sql: "UPDATE `{}.fct_usage_daily` SET input_tokens = output_tokens, output_tokens = input_tokens WHERE TRUE",
        call: None,
        says: &["fct_usage_daily", "input_tokens"],
    },
    Fault {
        name: "two columns' places swapped",
        sql: "CREATE OR REPLACE TABLE `{}.dim_model_price` AS SELECT * EXCEPT (model), model FROM `{}.dim_model_price`",
        call: None,
        says: &["dim_model_price", "schema"],
    },
    Fault {
        name: "an empty partition",
        sql: "DELETE FROM `{}.fct_usage_daily` WHERE usage_date = (SELECT MIN(usage_date) FROM `{}.fct_usage_daily`)",
        call: None,
        says: &["fct_usage_daily", "column usage_date:", "days have rows"],
    },
    Fault {
        name: "a row access policy missing",
        sql: "",
        call: Some(("DELETE", "/tables/dim_api_key_user/rowAccessPolicies/everybody", "")),
        says: &["dim_api_key_user", "row access policy everybody is missing"],
    },
    Fault {
        name: "an IAM binding missing",
        sql: "",
        call: Some(("POST", "/tables/fct_cost_daily:setIamPolicy", r#"{"policy": {"bindings": []}}"#)),
        says: &["fct_cost_daily", "IAM role roles/bigquery.dataViewer is missing"],
    },
];

#[test]
fn every_fault_of_a_restore_fails_the_drill_and_is_named() {
    let mut estate = Estate::seeded();
    // Without validation queries: the comparison alone must find each.
    estate.configure(|text| {
        let text = text.replace("# exclude = [\"tmp_*\"]", "exclude = [\"stg_*\"]");
        text.replace("[validation]\nqueries = \"builtin\"", "# no validation")
    });
    let table = |name: &str| format!("/bigquery/v2/projects/{PROJECT}/datasets/{DATASET}/tables/{name}");
    let policy = json!({
        "rowAccessPolicyReference": {"policyId": "everybody"}, "filterPredicate": "TRUE", "grantees": ["allAuthenticatedUsers"]
    });
    estate.post(&format!("{}/rowAccessPolicies", table("dim_api_key_user")), policy);
    let binding = json!({"role": "roles/bigquery.dataViewer", "members": ["group:finance@example.com"]});
    estate.post(&format!("{}:setIamPolicy", table("fct_cost_daily")), json!({"policy": {"bindings": [binding]}}));
    estate.strongroom(&["backup"]).ok();

    for fault in FAULTS {
        let proxy = outsider(&estate, fault);
        estate.endpoint = Some(proxy.endpoint().into());
        let run = estate.strongroom(&["--json", "drill"]);
        estate.endpoint = None;
        assert!(matches!(run.code, 3 | 13), "{}: {run:?}", fault.name);
        let report = run.data();
        assert_eq!(report["outcome"], "failed", "{}", fault.name);
        let findings: Vec<&str> =
            report["findings"].as_array().unwrap().iter().map(|finding| finding.as_str().unwrap()).collect();
        let named = findings.iter().any(|finding| fault.says.iter().all(|text| finding.contains(text)));
        assert!(named, "{} should be named by {:?}: {findings:#?}", fault.name, fault.says);
        println!("{}: {}", fault.name, findings[0]);
        assert_eq!(scratch(&estate, PROJECT), Vec::<String>::new(), "{}", fault.name);
    }
    // No false alarm, and none of the failed drills has marked the backup.
    assert_eq!(estate.json(&["list"])["backups"][0]["verified"], Value::Null);
    estate.strongroom(&["drill"]).ok();
}

/// A drill that somebody spoils, with its report in a folder.
pub fn struck(estate: &mut Estate, fault: &str, folder: &std::path::Path) -> Run {
    let proxy = outsider(estate, FAULTS.iter().find(|known| known.name == fault).expect("a known fault"));
    estate.endpoint = Some(proxy.endpoint().into());
    let run = estate.strongroom(&["--json", "drill", "--report-dir", folder.to_str().unwrap()]);
    estate.endpoint = None;
    run
}

/// The plan looks whether the scratch dataset is there, the comparison begins with looking at it again: before that is
/// answered, all is loaded, and the outsider strikes.
pub fn outsider(estate: &Estate, fault: &'static Fault) -> Proxy {
    let looks = AtomicUsize::new(0);
    let upstream = estate.sandbox.endpoint().to_string();
    estate.block_on(Proxy::start(estate.sandbox.endpoint(), move |method, path| {
        let dataset = path.split("/datasets/").nth(1).and_then(|rest| rest.split('?').next()).unwrap_or_default();
        let looked_at = method == "GET" && dataset.contains("_drill_") && !dataset.contains('/');
        if looked_at && looks.fetch_add(1, Ordering::SeqCst) == 1 {
            strike(&upstream, dataset, fault);
        }
        Action::Pass
    }))
}

/// Does to the scratch dataset what the fault says, as somebody else would.
fn strike(endpoint: &str, dataset: &str, fault: &'static Fault) {
    let base = format!("{endpoint}/bigquery/v2/projects/{PROJECT}");
    let (method, url, body) = match fault.call {
        Some((method, path, body)) => (method, format!("{base}/datasets/{dataset}{path}"), body.to_string()),
        None => {
            let sql = fault.sql.replace("{}", &format!("{PROJECT}.{dataset}"));
            let query = json!({"query": sql, "useLegacySql": false, "timeoutMs": 60000});
            ("POST", format!("{base}/queries"), query.to_string())
        }
    };
    let text = send(method, url, body);
    assert!(!text.contains("errorResult"), "{}: {text}", fault.name);
}

/// Calls the sandbox from a rule of a proxy, which is no async function: in a thread with a runtime of its own.
fn send(method: &'static str, url: String, body: String) -> String {
    let call = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let request = client.request(method.parse().unwrap(), url).header("content-type", "application/json");
            let answer = request.body(body).send().await.unwrap();
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert!(status.is_success(), "{status} {text}");
            text
        })
    };
    std::thread::spawn(call).join().expect("the outsider strikes")
}

#[test]
fn a_spreadsheet_is_written_beside_itself_and_compared() {
    let mut estate = Estate::seeded();
    estate.strongroom(&["backup"]).ok();
    let tabs = |estate: &Estate| {
        let found = estate.get(&format!("/v4/spreadsheets/{SHEET}?fields=sheets(properties)"));
        found["sheets"].as_array().unwrap().iter().map(|tab| tab["properties"]["title"].clone()).collect::<Vec<_>>()
    };
    let had = tabs(&estate);

    // What was written is not what is there then: somebody strikes before it is read.
    let struck = AtomicUsize::new(0);
    let upstream = estate.sandbox.endpoint().to_string();
    let proxy = estate.block_on(Proxy::start(estate.sandbox.endpoint(), move |method, path| {
        if method == "GET" && path.contains("/values/") && path.contains("_drill_") {
            let tab = path.split("/values/").nth(1).and_then(|rest| rest.split('?').next()).unwrap_or_default();
            if struck.fetch_add(1, Ordering::SeqCst) == 0 {
                let url = format!("{upstream}/v4/spreadsheets/{SHEET}/values/{tab}!A2?valueInputOption=RAW");
                send("PUT", url, json!({"values": [["somebody else's"]]}).to_string());
            }
        }
        Action::Pass
    }));
    estate.endpoint = Some(proxy.endpoint().into());
    let run = estate.strongroom(&["--json", "drill"]);
    let report = run.data();
    assert_eq!(report["outcome"], "failed", "{run:?}");
    assert!(report["findings"][0].as_str().unwrap().contains("its cells differ"), "{}", report["findings"]);
    assert_eq!(tabs(&estate), had, "the tab is removed all the same");

    // It may only be read, as the accounts of drills often may.
    let proxy = estate.block_on(Proxy::start(estate.sandbox.endpoint(), |method, path| {
        if method == "POST" && path.ends_with(":batchUpdate") { Action::Answer(403, None) } else { Action::Pass }
    }));
    estate.endpoint = Some(proxy.endpoint().into());
    let report = estate.json(&["drill"]);
    assert_eq!(report["outcome"], "passed");
    assert!(report["notes"].to_string().contains("may only be read"), "{}", report["notes"]);

    // A step after it fails: the tab is taken back.
    let written = AtomicUsize::new(0);
    let proxy = estate.block_on(Proxy::start(estate.sandbox.endpoint(), move |method, path| {
        let cells = method == "GET" && path.contains("/values/") && path.contains("_drill_");
        if cells && written.fetch_add(1, Ordering::SeqCst) == 1 { Action::Answer(403, None) } else { Action::Pass }
    }));
    estate.endpoint = Some(proxy.endpoint().into());
    let run = estate.strongroom(&["--json", "drill"]);
    assert_eq!((run.code, &run.data()["outcome"]), (14, &json!("not_finished")), "{run:?}");
    estate.endpoint = None;
    assert_eq!((tabs(&estate), scratch(&estate, PROJECT)), (had, vec![]));
}

#[test]
fn a_drill_that_cannot_finish_is_cleaned_up_and_reported() {
    let mut estate = Estate::seeded();
    estate.strongroom(&["backup"]).ok();
    // A step fails.
    let proxy = estate.block_on(Proxy::start(estate.sandbox.endpoint(), |method, path| {
        if method == "GET" && path.contains("_drill_") && path.contains("/tables/") {
            return Action::Answer(403, None);
        }
        Action::Pass
    }));
    estate.endpoint = Some(proxy.endpoint().into());
    let run = estate.strongroom(&["--json", "drill"]);
    assert_eq!(run.code, 14, "{run:?}");
    let report = run.data();
    assert_eq!(report["outcome"], "not_finished");
    let phases = report["phases"].as_array().unwrap();
    assert!(phases.iter().any(|phase| phase["step"] == "compare" && phase["outcome"] == "failed"), "{phases:#?}");
    assert!(phases.iter().any(|phase| phase["step"] == "scratch" && phase["outcome"] == "undone"), "{phases:#?}");
    estate.endpoint = None;
    assert_eq!(scratch(&estate, PROJECT), Vec::<String>::new());
    assert_eq!(estate.json(&["report"])["outcome"], "not_finished", "also the report of a failed drill is kept");

    // It is killed.
    let proxy = estate.block_on(Proxy::start(estate.sandbox.endpoint(), |method, path| {
        if method == "GET" && path.contains("_drill_") && path.contains("/tables/") {
            Action::Stall
        } else {
            Action::Pass
        }
    }));
    estate.endpoint = Some(proxy.endpoint().into());
    let mut child = estate.command(&["drill"]).spawn().expect("strongroom runs");
    let begin = std::time::Instant::now();
    // The comparison looks at the dataset, as the plan has done, and then at its tables.
    while proxy.count("GET /bigquery/v2/projects/demo-project/datasets/ai_usage_analytics_drill_") < 3 {
        assert!(begin.elapsed().as_secs() < 120, "it never came to the comparison");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    child.kill().expect("it is killed");
    child.wait().expect("it is gone");
    estate.endpoint = None;
    assert_eq!(scratch(&estate, PROJECT).len(), 1);
    let lease = "/storage/v1/b/demo-project-backup-daily/o/_strongroom%2Flease%2Fai-usage-analytics.json";
    let mut record = estate.get(&format!("{lease}?alt=media"));
    record["expires_at"] = json!("2001-01-01T00:00:00Z");
    let upload = "/upload/storage/v1/b/demo-project-backup-daily/o?uploadType=media&name=_strongroom%2Flease%2Fai-usage-analytics.json";
    estate.post(upload, record);
    let recovered = estate.json(&["recover"])["runs"].clone();
    assert!(recovered[0]["undo"].to_string().contains("scratch"), "{recovered}");
    assert_eq!(scratch(&estate, PROJECT), Vec::<String>::new());
}
