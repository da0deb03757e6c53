//! The plan of a drill: what is rehearsed, on what, step by step, and what it is held against.

pub mod checklist;
pub mod objectives;
pub mod recovery;
mod scenario;

use std::collections::BTreeMap;

use serde::Serialize;

use super::restore::RestoreRequest;
use super::{Refusal, staging};
use crate::config::Config;
use crate::manifest::Manifest;
use crate::model::{BackupName, DatasetId, Pattern, Place, TableId};
use recovery::{AccidentFacts, Recovery, Way};
pub use scenario::Scenario;

/// What a person asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct DrillRequest {
    pub scenario: Scenario,
    /// The table that suffers, where one does; otherwise the one with the most rows.
    pub table: Option<String>,
}

/// What the plan needs to know.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DrillFacts {
    /// Where whole copies of the backup lie, the primary first.
    pub copies: Vec<Place>,
    /// How far back BigQuery remembers a table of the backup's datasets, in hours.
    pub time_travel_hours: u64,
}

/// What a drill will do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DrillPlan {
    pub drill: String,
    pub scenario: Scenario,
    pub title: String,
    /// Absent where no data is restored.
    pub backup: Option<BackupName>,
    /// Which copy of the backup is read.
    pub read_from: Option<Place>,
    /// The scratch dataset that stands for each of the backup's.
    pub scratch: BTreeMap<DatasetId, DatasetId>,
    /// The table that suffers, in its scratch dataset.
    pub victim: Option<Victim>,
    /// What stands for the ingestion service and its key.
    pub service: Option<Double>,
    pub secret: Option<Double>,
    pub steps: Vec<PlannedStep>,
    pub notes: Vec<String>,
}

/// The table that suffers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Victim {
    pub source: TableId,
    pub scratch: TableId,
    pub row_count: u64,
    pub recovery: Recovery,
}

/// Something of production, and what stands for it in the drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Double {
    pub original: String,
    pub scratch: String,
}

/// A step as people read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStep {
    pub what: String,
    pub touches: Touches,
}

/// What a step changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Touches {
    Nothing,
    /// Only what the drill itself has made.
    Scratch,
    Production,
}

impl DrillPlan {
    /// A restore into the scratch datasets: of everything, or of the table that suffers.
    pub fn restore(&self, only_the_victim: bool) -> RestoreRequest {
        let victim = self.victim.as_ref().filter(|_| only_the_victim);
        RestoreRequest {
            tables: victim.map(|victim| Pattern::new(victim.source.table())).into_iter().collect(),
            replace: only_the_victim,
            scratch: self.scratch.clone(),
            ..RestoreRequest::default()
        }
    }
}

/// Plans a drill that restores data. `suffix` ends the names of the scratch datasets.
///
/// # Errors
/// Everything that stands against it.
pub fn plan(
    config: &Config,
    (drill, suffix): (&str, &str),
    request: &DrillRequest,
    manifest: &Manifest,
    facts: &DrillFacts,
) -> Result<DrillPlan, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut notes = Vec::new();
    let scenario = request.scenario;
    let another_project = match (scenario, &config.drill.recovery_project) {
        (Scenario::ProjectLoss, Some(project)) => Some(project.as_str()),
        (Scenario::ProjectLoss, None) => {
            let hint = "say in the configuration into which project: [drill] recovery_project = \"...\"";
            refusals.push(Refusal::new("drill.recovery_project", "is not set", hint));
            None
        }
        _ => None,
    };
    let mut scratch = BTreeMap::new();
    for source in manifest.bigquery() {
        let project = another_project.unwrap_or(source.dataset.project());
        match DatasetId::new(project, &format!("{}{suffix}", source.dataset.dataset())) {
            Ok(id) => drop(scratch.insert(source.dataset.clone(), id)),
            Err(error) => refusals.push(Refusal::new(&source.dataset, error.to_string(), "restore it by hand")),
        }
    }
    if scratch.is_empty() {
        let hint =
            "databases and files are rehearsed by a restore beside: strongroom restore --target-db NAME, or --to PATH";
        refusals.push(Refusal::new(&manifest.name, "holds no BigQuery dataset", hint));
    }
    let read_from = read_from(config, scenario, manifest, facts, &mut refusals, &mut notes);
    let victim = if scenario.hits_one_table() {
        match victim(config, request, manifest, facts, &scratch) {
            Ok(victim) => Some(victim),
            Err(refusal) => {
                refusals.push(refusal);
                None
            }
        }
    } else {
        None
    };
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let steps = steps(scenario, manifest, &scratch, victim.as_ref());
    let (title, backup) = (scenario.title().into(), Some(manifest.name.clone()));
    let (service, secret) = (None, None);
    Ok(DrillPlan {
        drill: drill.into(),
        scenario,
        title,
        backup,
        read_from,
        scratch,
        victim,
        service,
        secret,
        steps,
        notes,
    })
}

/// Plans a drill of the ingestion service or its key. `suffix` ends the names of the doubles.
///
/// # Errors
/// Settings that it needs and that are missing.
pub fn plan_serving(
    config: &Config,
    (drill, suffix): (&str, &str),
    scenario: Scenario,
) -> Result<DrillPlan, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let double = |name: &String, longest: usize| {
        let (parent, id) = name.rsplit_once('/').unwrap_or(("", name));
        let kept: String = id.chars().take(longest - suffix.len()).collect();
        Double { original: name.clone(), scratch: format!("{parent}/{kept}{suffix}") }
    };
    // https://cloud.google.com/run/docs/deploying: a service's name has at most 49 characters.
    let service = config.service.as_ref().map(|service| double(&service.name, 49));
    let mut secret = None;
    if scenario == Scenario::KeyCompromise {
        secret = config.secrets.first().map(|name| double(name, 255));
        if secret.is_none() {
            let hint = "name the keys: [secrets] names = [\"projects/P/secrets/S\"]";
            refusals.push(Refusal::new("secrets.names", "is not set", hint));
        }
    } else if service.is_none() {
        let hint = "name the ingestion service: [service] name = \"projects/P/locations/L/services/S\"";
        refusals.push(Refusal::new("service.name", "is not set", hint));
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut notes = Vec::new();
    if service.is_none() {
        notes.push("no [service] is configured: nothing is restarted with the new key".into());
    } else if config.service.as_ref().is_some_and(|service| service.dry_run.is_none()) {
        notes.push("service.dry_run is not set: the service is asked for its health only".into());
    }
    let steps = serving_steps(config, service.as_ref(), secret.as_ref());
    let title = scenario.title().into();
    let (backup, read_from, scratch, victim) = (None, None, BTreeMap::new(), None);
    Ok(DrillPlan {
        drill: drill.into(),
        scenario,
        title,
        backup,
        read_from,
        scratch,
        victim,
        service,
        secret,
        steps,
        notes,
    })
}

fn serving_steps(config: &Config, service: Option<&Double>, secret: Option<&Double>) -> Vec<PlannedStep> {
    use Touches::{Nothing, Scratch};
    let mut steps = Vec::new();
    let mut step = |touches, what: String| steps.push(PlannedStep { what, touches });
    if let Some(secret) = secret {
        step(Scratch, format!("make {} with a random key, as the double of {}", secret.scratch, secret.original));
    }
    if let Some(service) = service {
        step(Nothing, format!("read the description of {}", service.original));
        step(Scratch, format!("deploy {} by it", service.scratch));
    }
    if let Some(secret) = secret {
        step(
            Scratch,
            format!("store a new version in {}, disable the old one, see that it is refused", secret.scratch),
        );
    }
    if let (Some(service), Some(settings)) = (service, &config.service) {
        step(Scratch, format!("deploy a new revision of {}", service.scratch));
        let dry_run =
            settings.dry_run.as_ref().map(|path| format!(", call its {path} without effect")).unwrap_or_default();
        step(Nothing, format!("ask its {}{dry_run}", settings.health));
    }
    if secret.is_some() {
        step(
            Nothing,
            format!(
                "see that every secret of the configuration ({}) is there, and search the usage for anomalies",
                config.secrets.len()
            ),
        );
    }
    step(Scratch, "remove the doubles".into());
    step(Nothing, "hold times against the objectives, fill the checklist, store the report".into());
    steps
}

/// Which copy is read: for lost places one that is not in them.
fn read_from(
    config: &Config,
    scenario: Scenario,
    manifest: &Manifest,
    facts: &DrillFacts,
    refusals: &mut Vec<Refusal>,
    notes: &mut Vec<String>,
) -> Option<Place> {
    let others = || facts.copies.iter().skip(1);
    let by_staging = others().find(|_| config.staging.is_some());
    let another = others().find(|place| staging::reaches(place)).or(by_staging).cloned();
    match scenario {
        Scenario::BucketLoss if another.is_none() => {
            refusals.push(Refusal::new(
                &manifest.tier,
                "has no whole copy of the backup in a second bucket: what is lost with the first is lost for good",
                format!("add one: [tiers.{}] destinations = [\"gs://first\", \"gs://second\"]", manifest.tier),
            ));
            None
        }
        Scenario::BucketLoss => another,
        Scenario::ProjectLoss => {
            if another.is_none() {
                let only = facts.copies.first().map(ToString::to_string).unwrap_or_default();
                notes.push(format!("the only copy is {only}: were it in the lost project, nothing would come back"));
            }
            another.or_else(|| facts.copies.first().cloned())
        }
        _ => facts.copies.first().cloned(),
    }
}

fn victim(
    config: &Config,
    request: &DrillRequest,
    manifest: &Manifest,
    facts: &DrillFacts,
    scratch: &BTreeMap<DatasetId, DatasetId>,
) -> Result<Victim, Refusal> {
    let tables = || manifest.bigquery().flat_map(|source| &source.tables);
    let found = match &request.table {
        Some(name) => tables().find(|table| table.table.table() == name),
        None => tables().max_by_key(|table| table.row_count),
    };
    let show = format!("strongroom show {} lists the tables", manifest.name);
    let asked = request.table.as_deref().map_or("the largest table".to_string(), |name| format!("--table {name}"));
    let table = found.ok_or_else(|| Refusal::new(&asked, format!("is not in backup {}", manifest.name), &show))?;
    if table.row_count == 0 {
        return Err(Refusal::new(&table.table, "holds no rows that could be lost", show));
    }
    let recovery = match request.scenario {
        Scenario::AccidentalDeletion => recovery::after_deletion(AccidentFacts {
            window_seconds: facts.time_travel_hours * 3600,
            noticed_after_seconds: config.drill.noticed_after.as_secs(),
            size_bytes: table.objects.iter().map(|object| object.digests.size_bytes).sum(),
        }),
        Scenario::CorruptedRows => recovery::after_corruption(),
        _ => recovery::after_table_loss(),
    };
    let dataset = scratch.get(table.table.dataset_id()).unwrap_or(table.table.dataset_id());
    let place = dataset.table(table.table.table());
    let place = place.map_err(|error| Refusal::new(&table.table, error.to_string(), "name another table"))?;
    Ok(Victim { source: table.table.clone(), scratch: place, row_count: table.row_count, recovery })
}

fn steps(
    scenario: Scenario,
    manifest: &Manifest,
    scratch: &BTreeMap<DatasetId, DatasetId>,
    victim: Option<&Victim>,
) -> Vec<PlannedStep> {
    use Touches::{Nothing, Scratch};
    let targets: Vec<String> = scratch.values().map(ToString::to_string).collect();
    let targets = targets.join(", ");
    let mut steps = Vec::new();
    let mut step = |touches, what: String| steps.push(PlannedStep { what, touches });
    let restore = format!("restore {} into {targets}", manifest.name);
    if victim.is_some() || scenario == Scenario::DatasetLoss {
        step(Scratch, format!("{restore}, as the copy that is broken"));
    }
    if let Some(Victim { scratch: table, recovery, .. }) = victim {
        step(
            Scratch,
            match scenario {
                Scenario::TableLoss => format!("delete {table}"),
                Scenario::AccidentalDeletion => format!("delete half of the rows of {table}"),
                _ => format!("change figures in {table}"),
            },
        );
        step(Nothing, format!("find the damage by comparing {table} with the backup"));
        step(
            Scratch,
            match recovery.way {
                Way::TimeTravel => format!("put {table} back as it was before, from BigQuery's own memory"),
                Way::Files => format!("restore {table} from the backup's files"),
            },
        );
    } else {
        if scenario == Scenario::DatasetLoss {
            step(Scratch, format!("delete {targets} with everything in it, and see that it is gone"));
        }
        step(Scratch, restore);
    }
    step(Nothing, "compare definitions, policies, rows and figures with the backup".into());
    step(Nothing, "run the validation queries, and ask every view for its rows".into());
    if manifest.sheets().next().is_some() {
        let cells = "write the spreadsheet's cells to new tabs beside its own, compare them, and remove the tabs";
        step(Scratch, cells.into());
    }
    step(Scratch, format!("remove {targets}"));
    step(Nothing, "hold times against the objectives, fill the checklist, store the report".into());
    steps
}

#[cfg(test)]
mod tests;
