//! Plans of drills on a small manifest.

use super::*;
use crate::manifest::{BigQueryRecord, ObjectRecord, SourceRecord, TableRecord};
use crate::model::Digests;

const SUFFIX: &str = "_drill_1";

fn config(change: impl Fn(String) -> String) -> Config {
    let text = change(include_str!("../../../examples/ai-usage-analytics.toml").into());
    let environment = |name: &str| match name {
        "GOOGLE_CLOUD_PROJECT" => Some("demo-project".into()),
        "MAPPINGS_SPREADSHEET_ID" => Some("sheet-1".into()),
        "BACKUP_BUCKET_PREFIX" => Some("demo-backup".into()),
        _ => None,
    };
    crate::config::parse(&text, &environment).unwrap()
}

fn manifest() -> Manifest {
    let at: jiff::Timestamp = "2026-08-01T02:00:00Z".parse().unwrap();
    let object = |size_bytes| ObjectRecord {
        key: "k".into(),
        digests: Digests { size_bytes, crc32c: 1, sha256: [0; 32] },
        row_count: None,
        stored: None,
    };
    let table = |name: &str, row_count| TableRecord {
        table: format!("demo-project.sales.{name}").parse().unwrap(),
        snapshot: format!("demo-project.snaps.{name}").parse().ok(),
        snapshot_expires_at: Some(at),
        meta: object(1),
        row_count,
        logical_bytes: 1,
        format: "avro".into(),
        format_reason: None,
        objects: vec![object(100_000_000)],
        partition_count: None,
        proof: None,
    };
    let source = BigQueryRecord {
        name: "warehouse".into(),
        dataset: "demo-project.sales".parse().unwrap(),
        location: "US".into(),
        meta: object(1),
        tables: vec![table("small", 3), table("large", 30), table("empty", 0)],
        views: vec![],
        routines: vec![],
    };
    let tier: crate::model::TierName = "daily".parse().unwrap();
    let text = serde_json::json!({
        "format": 1, "name": BackupName::scheduled("x", &tier, at).unwrap(), "tier": tier, "commit_id": "c", "tool": "t", "run": "r",
        "generation": 1, "started_at": at, "cut_at": at, "committed_at": at, "sources": [SourceRecord::BigQuery(source)],
        "validation": [], "pause": null, "timings": [], "previous": null, "notes": []
    });
    serde_json::from_value(text).unwrap()
}

fn drill(
    scenario: Scenario,
    table: Option<&str>,
    copies: &[&str],
    change: impl Fn(String) -> String,
) -> Result<DrillPlan, String> {
    let facts =
        DrillFacts { copies: copies.iter().map(|copy| copy.parse().unwrap()).collect(), time_travel_hours: 168 };
    let request = DrillRequest { scenario, table: table.map(String::from) };
    let told = |refusals: Vec<Refusal>| refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    plan(&config(change), ("1", SUFFIX), &request, &manifest(), &facts).map_err(told)
}

#[test]
fn only_scratch_is_changed_whatever_is_rehearsed() {
    let with_project =
        |text: String| text.replace("# recovery_project = \"another-project\"", "recovery_project = \"elsewhere-1\"");
    for scenario in Scenario::ALL.into_iter().filter(|scenario| scenario.restores()) {
        let planned = drill(scenario, None, &["gs://aaa", "gs://bbb"], with_project).unwrap();
        assert!(planned.steps.iter().all(|step| step.touches != Touches::Production), "{scenario}");
        let request = planned.restore(true);
        for target in planned.scratch.values() {
            assert!(target.dataset().ends_with(SUFFIX), "{scenario}: {target}");
        }
        assert_eq!(request.scratch, planned.scratch);
        assert_eq!(scenario.name().parse::<Scenario>().unwrap(), scenario);
    }
    for scenario in [Scenario::ServiceFailure, Scenario::KeyCompromise] {
        let planned = plan_serving(&config(|text| text), ("1", "-drill-1"), scenario).unwrap();
        assert!(planned.steps.iter().all(|step| step.touches != Touches::Production), "{scenario}");
        let service = planned.service.unwrap();
        assert_eq!(service.scratch, format!("{}-drill-1", service.original));
    }
}

#[test]
fn the_largest_table_suffers_unless_another_is_named() {
    let victim = |table| drill(Scenario::TableLoss, table, &["gs://aaa"], |text| text).map(|plan| plan.victim.unwrap());
    assert_eq!(victim(None).unwrap().scratch.to_string(), "demo-project.sales_drill_1.large");
    assert_eq!(victim(Some("small")).unwrap().scratch.to_string(), "demo-project.sales_drill_1.small");
    assert!(victim(Some("empty")).unwrap_err().contains("holds no rows"));
    assert!(victim(Some("other")).unwrap_err().contains("--table other: is not in backup"));
}

#[test]
fn a_lost_place_is_not_read_from() {
    let read = |scenario, copies: &[&str]| {
        drill(scenario, None, copies, |text| text.replace("# recovery_project", "recovery_project"))
            .map(|plan| (plan.read_from.unwrap().to_string(), plan.notes.len()))
    };
    assert_eq!(read(Scenario::Rehearsal, &["gs://aaa", "gs://bbb"]).unwrap(), ("gs://aaa".into(), 0));
    assert_eq!(read(Scenario::BucketLoss, &["gs://aaa", "/disk", "gs://bbb"]).unwrap(), ("gs://bbb".into(), 0));
    assert!(read(Scenario::BucketLoss, &["gs://aaa", "/disk"]).unwrap_err().contains("tiers.daily"));
    assert_eq!(read(Scenario::ProjectLoss, &["gs://aaa"]).unwrap(), ("gs://aaa".into(), 1), "it is told");
    assert!(drill(Scenario::ProjectLoss, None, &["gs://aaa"], |text| text).unwrap_err().contains("recovery_project"));
}
