use serde_json::{Value, json};

use super::super::facts::DestinationFacts;
use super::*;

fn config(change: impl Fn(String) -> String) -> Config {
    let text = change(include_str!("../../examples/ai-usage-analytics.toml").into());
    let environment = |name: &str| match name {
        "GOOGLE_CLOUD_PROJECT" => Some("demo-project".into()),
        "MAPPINGS_SPREADSHEET_ID" => Some("sheet-1".into()),
        "BACKUP_BUCKET_PREFIX" => Some("demo-backup".into()),
        _ => None,
    };
    crate::config::parse(&text, &environment).unwrap()
}

fn table(name: &str, kind: &str, resource: Value) -> TableFacts {
    TableFacts {
        id: format!("demo-project.ai_usage_analytics.{name}").parse().unwrap(),
        kind: kind.into(),
        resource,
        row_policies: vec![],
        iam: None,
        visible_rows: None,
        partitions: vec![],
    }
}

fn plain(name: &str, kind: &str) -> TableFacts {
    let schema = json!({"fields": [{"name": "id", "type": "INTEGER"}, {"name": "c", "type": kind}]});
    table(name, "TABLE", json!({"schema": schema, "numRows": "10", "numBytes": "1000"}))
}

fn view(name: &str, sql: &str) -> TableFacts {
    table(name, "VIEW", json!({"view": {"query": sql}}))
}

fn facts(tables: Vec<TableFacts>) -> BackupFacts {
    let destination = |bucket: &str| DestinationFacts {
        place: format!("gs://{bucket}").parse().unwrap(),
        location: Some("US".into()),
        retention_locked: false,
    };
    BackupFacts {
        sources: vec![
            SourceFacts::BigQuery(BigQueryFacts {
                name: "warehouse".into(),
                dataset: "demo-project.ai_usage_analytics".parse().unwrap(),
                resource: json!({"location": "US"}),
                tables,
                routines: vec![],
                snapshot_location: None,
            }),
            SourceFacts::Sheets(SheetsFacts {
                name: "mappings".into(),
                spreadsheet: "sheet-1".into(),
                title: "Keys".into(),
                tabs: vec!["mappings".into(), "other".into()],
            }),
        ],
        destinations: vec![destination("demo-backup-daily")],
        staging: None,
        ingestion: vec![super::super::facts::IngestionFacts {
            job: "projects/demo-project/locations/us-central1/jobs/daily-usage-analytics".into(),
            state: Some("ENABLED".into()),
        }],
    }
}

fn now() -> Timestamp {
    "2026-08-01T02:00:00Z".parse().unwrap()
}

fn tier(name: &str) -> TierName {
    name.parse().unwrap()
}

#[test]
fn a_plan_says_everything_that_will_be_done() {
    let tables = vec![
        plain("fct_usage_daily", "STRING"),
        plain("with_datetime", "DATETIME"),
        view("a_view", "select * from `demo-project.ai_usage_analytics.z_view`"),
        view("z_view", "select 1"),
        table("old_snapshot", "SNAPSHOT", json!({})),
    ];
    let plan = plan(&config(|text| text), (&tier("daily"), &Occasion::Schedule), &facts(tables), now()).unwrap();
    insta::assert_json_snapshot!(plan);
}

#[test]
fn everything_that_stands_against_a_backup_is_told_at_once() {
    let mut hidden = plain("hidden_rows", "STRING");
    hidden.visible_rows = Some(7);
    let mut facts = facts(vec![hidden, plain("spans", "INTERVAL"), plain("ok", "STRING")]);
    facts.destinations[0].location = Some("EUROPE-WEST1".into());
    facts.ingestion[0].state = None;
    if let SourceFacts::BigQuery(bigquery) = &mut facts.sources[0] {
        bigquery.snapshot_location = Some("EU".into());
    }
    let config = config(|text| text.replace("tabs = [\"mappings\"]", "tabs = [\"gone\"]"));
    let refusals = plan(&config, (&tier("daily"), &Occasion::Schedule), &facts, now()).unwrap_err();
    insta::assert_snapshot!(refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    assert_eq!(refusals.len(), 6);
}

#[test]
fn a_manual_backup_keeps_its_snapshots_longer() {
    let manual = Occasion::Manual { purpose: "before the move".into(), terms: Terms::default() };
    let facts = facts(vec![plain("t", "STRING")]);
    let plan = plan(&config(|text| text), (&tier("daily"), &manual), &facts, now()).unwrap();
    assert_eq!(plan.name.as_str(), "20260801_0200_before_the_move");
    assert_eq!(plan.bigquery().next().unwrap().snapshots_expire_at.to_string(), "2026-10-30T02:00:00Z");
}

#[test]
fn a_copy_policy_that_cannot_be_met_is_refused_and_one_failure_domain_is_told() {
    let copies = |text: String| {
        let daily = "destinations = [\"gs://${BACKUP_BUCKET_PREFIX}-daily\"]";
        text.replacen(
            daily,
            "destinations = [\"gs://one\", \"gs://two\"]\ncopies = { count = 3, kinds = 2, offsite = 1 }",
            1,
        )
    };
    let mut facts = facts(vec![plain("t", "STRING")]);
    facts.destinations = ["gs://one", "gs://two"]
        .map(|place| DestinationFacts { place: place.parse().unwrap(), ..facts.destinations[0].clone() })
        .into();
    let refusals = plan(&config(copies), (&tier("daily"), &Occasion::Schedule), &facts, now()).unwrap_err();
    let told = refusals[0].to_string();
    assert!(
        told.contains("tiers.daily.copies: asks for more") && told.contains("2 of 3 copies, 1 of 2 kinds"),
        "{told}"
    );
    let two = |text| copies(text).replace("count = 3, kinds = 2", "count = 2");
    let plan = plan(&config(two), (&tier("daily"), &Occasion::Schedule), &facts, now()).unwrap();
    assert!(plan.notes[0].contains("gs://one and gs://two are in one failure domain (gcs in US)"), "{:?}", plan.notes);
}

#[test]
fn a_monthly_backup_is_parquet() {
    let facts = facts(vec![plain("fct_usage_daily", "STRING")]);
    let monthly = plan(&config(|text| text), (&tier("monthly"), &Occasion::Schedule), &facts, now()).unwrap();
    assert_eq!(monthly.tables().next().unwrap().format, TableFormat::Parquet);
}

#[test]
fn what_bigquery_cannot_write_into_needs_staging_beside_the_dataset() {
    let config = config(|text| text.replace("gs://${BACKUP_BUCKET_PREFIX}-daily", "/backups"));
    let mut facts = facts(vec![plain("fct_usage_daily", "STRING")]);
    facts.destinations[0].place = "/backups".parse().unwrap();
    facts.destinations[0].location = Some("local".into());
    let planned = |facts: &BackupFacts| plan(&config, (&tier("daily"), &Occasion::Schedule), facts, now());
    let refused = |facts: &BackupFacts| {
        planned(facts).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(
        refused(&facts).contains("/backups: BigQuery works with files in Cloud Storage only"),
        "{}",
        refused(&facts)
    );
    assert!(refused(&facts).contains("hint: name a bucket in the dataset's location"), "{}", refused(&facts));

    let staging = |location: Option<&str>, retention_locked| {
        Some(DestinationFacts {
            place: "gs://staging/a".parse().unwrap(),
            location: location.map(String::from),
            retention_locked,
        })
    };
    for (found, expected) in [
        (staging(Some("EU"), false), "gs://staging/a: is in EU, but demo-project.ai_usage_analytics is in US"),
        (staging(None, false), "gs://staging/a: does not exist"),
        (staging(Some("US"), true), "gs://staging/a: has a locked retention policy"),
    ] {
        facts.staging = found;
        assert!(refused(&facts).starts_with(expected), "{}", refused(&facts));
    }
    facts.staging = staging(Some("us-central1"), false);
    assert_eq!(planned(&facts).unwrap().extracted_to().to_string(), "gs://staging/a");
}

#[test]
fn fingerprints_are_bounded_by_size_when_asked() {
    for (setting, expected) in [("\"on\"", true), ("\"off\"", false), ("1000", true), ("999", false)] {
        let config = config(|text| text.replace("# fingerprint = \"on\"", &format!("fingerprint = {setting}")));
        let plan =
            plan(&config, (&tier("daily"), &Occasion::Schedule), &facts(vec![plain("t", "STRING")]), now()).unwrap();
        assert_eq!(plan.tables().next().unwrap().proof, expected, "{setting}");
    }
}

#[test]
fn a_name_becomes_a_safe_folder() {
    assert_eq!(object_folder("fct_usage-daily"), "fct_usage-daily");
    assert_eq!(object_folder("../é"), "=2E=2E=2F=C3=A9");
}

#[test]
fn a_table_of_more_columns_than_bigquery_allows_is_refused() {
    let tier = "daily".parse().unwrap();
    let fields: Vec<Value> = (0..10_001).map(|i| json!({"name": format!("c{i}"), "type": "BOOLEAN"})).collect();
    let wide = table("wide", "TABLE", json!({"schema": {"fields": fields}, "numRows": "1", "numBytes": "1"}));
    let config = config(|text| text);
    let now = "2026-08-01T02:00:00Z".parse().unwrap();
    let refusals = plan(&config, (&tier, &Occasion::Schedule), &facts(vec![wide]), now).unwrap_err();
    assert!(
        refusals[0].to_string().contains("ai_usage_analytics.wide: schema field '': more than 10000 fields"),
        "{refusals:?}"
    );
}
