//! The plan of a backup.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::cost::{self, Cost};
use super::facts::{BackupFacts, BigQueryFacts, SealingKeyFacts, SheetsFacts, SourceFacts, TableFacts};
use super::staging::{self, needs_staging};
use super::streamed::StreamedPlan;
use super::{Refusal, copies, format, order};
use crate::config::{BigQuerySource, Config, FingerprintSetting, Seal, SheetsSource, SourceKind, TableFormat, Tier};
use crate::model::schema::Schema;
use crate::model::{BackupName, DatasetId, Period, Place, TableId, Terms, TierName};

/// Why a backup is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occasion {
    /// By its tier's schedule.
    Schedule,
    /// By a person, for a purpose: its snapshots are kept longer.
    Manual { purpose: String, terms: Terms },
}

/// What a backup will do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackupPlan {
    pub name: BackupName,
    pub tier: TierName,
    /// A manual backup's purpose.
    pub purpose: Option<String>,
    /// What else is said of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// The first is written to, the others are copied to.
    pub destinations: Vec<Place>,
    /// Where BigQuery writes the files first, when it cannot write into the first destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staging: Option<Place>,
    /// For whom it is sealed; `None`: its objects lie as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// The backup's folder below the destination's root.
    pub folder: String,
    /// Jobs that run and will be paused.
    pub pause: Vec<String>,
    /// Jobs that stand already and are left alone.
    pub left_alone: Vec<String>,
    pub drain_timeout: Period,
    pub resume_within: Period,
    pub sources: Vec<SourcePlan>,
    pub notes: Vec<String>,
    /// What it asks of stores and BigQuery, at most.
    pub cost: Cost,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SourcePlan {
    BigQuery(BigQueryPlan),
    Sheets(SheetsPlan),
    Streamed(StreamedPlan),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BigQueryPlan {
    pub name: String,
    pub dataset: DatasetId,
    pub location: String,
    pub snapshot_dataset: DatasetId,
    pub make_snapshot_dataset: bool,
    pub snapshots_expire_at: Timestamp,
    pub tables: Vec<TablePlan>,
    /// In dependency order; definitions only.
    pub views: Vec<TableId>,
    pub routines: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TablePlan {
    pub table: TableId,
    pub snapshot: TableId,
    pub format: TableFormat,
    pub format_reason: Option<String>,
    /// Rows and logical bytes as known when the plan was made.
    pub row_count: u64,
    pub logical_bytes: u64,
    /// The folder of the table's files below the backup's folder, without the attempt.
    pub folder: String,
    /// Partitions to extract one by one; empty: the whole table at once.
    pub partitions: Vec<String>,
    /// Whether the fingerprint and totals are computed on the snapshot (BigQuery bills `logical_bytes`).
    pub proof: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SheetsPlan {
    pub name: String,
    pub spreadsheet: String,
    pub title: String,
    pub tabs: Vec<String>,
}

impl BackupPlan {
    /// Where BigQuery writes files: below the backup's folder there.
    pub fn extracted_to(&self) -> &Place {
        self.staging.as_ref().unwrap_or(&self.destinations[0])
    }

    pub fn tables(&self) -> impl Iterator<Item = &TablePlan> {
        self.bigquery().flat_map(|source| &source.tables)
    }

    pub fn bigquery(&self) -> impl Iterator<Item = &BigQueryPlan> {
        self.sources.iter().filter_map(|source| match source {
            SourcePlan::BigQuery(source) => Some(source),
            _ => None,
        })
    }

    pub fn sheets(&self) -> impl Iterator<Item = &SheetsPlan> {
        self.sources.iter().filter_map(|source| match source {
            SourcePlan::Sheets(source) => Some(source),
            _ => None,
        })
    }

    /// Sources whose data passes through this process.
    pub fn streamed(&self) -> impl Iterator<Item = &StreamedPlan> {
        self.sources.iter().filter_map(|source| match source {
            SourcePlan::Streamed(source) => Some(source),
            _ => None,
        })
    }

    /// Why there is nothing to back up, when every source is switched off.
    pub fn skipped(&self) -> Option<String> {
        let reason = |source: &SourcePlan| match source {
            SourcePlan::Streamed(source) => source.skipped.clone(),
            _ => None,
        };
        let reasons = self.sources.iter().map(reason).collect::<Option<Vec<String>>>()?;
        Some(reasons.join("; "))
    }
}

/// The folder of a backup below a destination's root.
pub fn folder(tier: &TierName, name: &BackupName, at: Timestamp) -> String {
    format!("{tier}/{}/{name}", at.to_zoned(TimeZone::UTC).strftime("%Y%m%d"))
}

/// Plans a backup of a tier at `now`.
///
/// # Errors
/// Everything that stands against it.
pub fn plan(
    config: &Config,
    (tier_name, occasion): (&TierName, &Occasion),
    facts: &BackupFacts,
    now: Timestamp,
) -> Result<BackupPlan, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut notes = Vec::new();
    let Some(tier) = config.tiers.get(tier_name) else {
        let known: Vec<&str> = config.tiers.keys().map(TierName::as_str).collect();
        return Err(vec![Refusal::new(
            tier_name,
            "is no tier of the configuration",
            format!("one of: {}", known.join(", ")),
        )]);
    };
    let name = match occasion {
        Occasion::Schedule => BackupName::scheduled(&config.name, tier_name, now),
        Occasion::Manual { purpose, .. } => BackupName::manual(purpose, now),
    };
    let name = match name {
        Ok(name) => name,
        Err(error) => {
            return Err(vec![Refusal::new("the backup's name", error.to_string(), "shorten 'name' or the purpose")]);
        }
    };

    let mut sources = Vec::new();
    for (source, facts_of) in config.sources.iter().zip(&facts.sources) {
        match (&source.kind, facts_of) {
            (SourceKind::BigQuery(source), SourceFacts::BigQuery(found)) => {
                let kept = match occasion {
                    Occasion::Schedule => source.snapshots_kept,
                    Occasion::Manual { .. } => source.manual_snapshots_kept,
                };
                let plan = bigquery(source, found, (tier_name, tier, kept), now, &mut refusals, &mut notes);
                written_to(&plan, tier, facts, &mut refusals);
                sources.push(SourcePlan::BigQuery(plan));
            }
            (SourceKind::Sheets(source), SourceFacts::Sheets(found)) => {
                sources.push(SourcePlan::Sheets(sheets(source, found, &mut refusals)));
            }
            (kind, SourceFacts::Streamed(found)) => {
                refusals.extend(found.refusals.iter().cloned());
                if matches!(kind, SourceKind::Secrets(_)) && tier.seal.is_none() {
                    refusals.push(Refusal::new(
                        format!("source '{}'", source.name),
                        format!("holds secrets, and tier {tier_name} is not sealed"),
                        "[sealing] recipients = [\"age1...\"] (strongroom key generate --sealing), or leave the source out",
                    ));
                }
                notes.extend(found.notes.iter().cloned());
                sources.push(SourcePlan::Streamed(StreamedPlan {
                    name: found.name.clone(),
                    source: kind.name(),
                    origin: found.origin.clone(),
                    items: found.items.clone(),
                    skipped: found.skipped.clone(),
                }));
            }
            _ => refusals.push(Refusal::new(
                &source.name,
                "the inventory is of another kind of source",
                "report this as a bug",
            )),
        }
    }
    for destination in &facts.destinations {
        if destination.location.is_none() {
            let hint = "create it, or correct 'destinations' of the tier";
            refusals.push(Refusal::new(&destination.place, "does not exist, or may not be seen", hint));
        }
    }

    create_only(tier, &mut refusals, &mut notes);
    if let Some(key) = tier.seal.as_ref().and_then(|seal| seal.kms_key.as_ref()) {
        sealing_key(key, facts.sealing_key.as_ref(), &mut refusals);
    }
    copies::check((tier_name, tier), &facts.destinations, &mut refusals, &mut notes);

    let mut pause = Vec::new();
    let mut left_alone = Vec::new();
    for found in &facts.ingestion {
        match found.state.as_deref() {
            Some("ENABLED") => pause.push(found.job.clone()),
            Some(state) => left_alone.push(format!("{} ({})", found.job, state.to_lowercase())),
            None => refusals.push(Refusal::new(
                &found.job,
                "there is no such Cloud Scheduler job",
                "correct ingestion.scheduler_jobs: what is not paused may write during the cut",
            )),
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut plan = BackupPlan {
        folder: folder(tier_name, &name, now),
        name,
        tier: tier_name.clone(),
        purpose: match occasion {
            Occasion::Schedule => None,
            Occasion::Manual { purpose, .. } => Some(purpose.clone()),
        },
        terms: match occasion {
            Occasion::Schedule => None,
            Occasion::Manual { terms, .. } => Some(terms.clone()),
        },
        destinations: tier.places().cloned().collect(),
        staging: facts.staging.as_ref().map(|staging| staging.place.clone()),
        seal: tier.seal.clone(),
        pause,
        left_alone,
        drain_timeout: config.ingestion.drain_timeout,
        resume_within: config.ingestion.resume_within,
        sources,
        notes,
        cost: Cost::default(),
    };
    plan.cost = cost::of_backup(config, &plan);
    Ok(plan)
}

/// What follows from places that whoever takes the backup cannot look into.
fn create_only(tier: &Tier, refusals: &mut Vec<Refusal>, notes: &mut Vec<String>) {
    for (at, destination) in tier.destinations.iter().enumerate().filter(|(_, destination)| destination.create_only) {
        if at == 0 && tier.destinations.len() > 1 {
            refusals.push(Refusal::new(
                &destination.place,
                "cannot be read by whoever takes backups, so no copy can be made of it",
                "name a place that can be read as the tier's first destination",
            ));
        } else {
            notes.push(format!(
                "{}: objects are put in and not looked at again; the backup is not linked to the one before",
                destination.place
            ));
        }
    }
}

fn bigquery(
    source: &BigQuerySource,
    facts: &BigQueryFacts,
    (tier_name, tier, kept): (&TierName, &Tier, Period),
    now: Timestamp,
    refusals: &mut Vec<Refusal>,
    notes: &mut Vec<String>,
) -> BigQueryPlan {
    let location = facts.resource["location"].as_str().unwrap_or("US").to_string();
    if let Some(other) = &facts.snapshot_location
        && !other.eq_ignore_ascii_case(&location)
    {
        refusals.push(Refusal::new(
            &source.snapshot_dataset,
            format!(
                "is in {other}, but {} is in {location}: BigQuery does not snapshot across locations",
                source.dataset
            ),
            "name another snapshot_dataset",
        ));
    }
    for pattern in source.tables.iter().filter(|pattern| pattern.is_literal()) {
        if !facts.tables.iter().any(|table| pattern.matches(table.id.table())) {
            refusals.push(Refusal::new(
                format!("{}.{pattern}", source.dataset),
                "there is no such table",
                "correct 'tables' of the source",
            ));
        }
    }
    let taken = |table: &&TableFacts| {
        let name = table.id.table();
        source.tables.iter().any(|p| p.matches(name)) && !source.exclude.iter().any(|p| p.matches(name))
    };
    let mut tables = Vec::new();
    let mut views = Vec::new();
    for table in facts.tables.iter().filter(taken) {
        match table.kind.as_str() {
            "TABLE" => tables.extend(table_plan(source, &facts.name, table, (tier_name, tier), now, refusals, notes)),
            "VIEW" | "MATERIALIZED_VIEW" => views.push((table.id.clone(), view_sql(table))),
            "EXTERNAL" => {
                notes.push(format!(
                    "{}: an external table, its definition is kept; its files are not BigQuery's",
                    table.id
                ));
                views.push((table.id.clone(), String::new()));
            }
            kind => notes.push(format!("{}: a {kind}, left out", table.id)),
        }
    }
    let held: BTreeSet<TableId> = facts.tables.iter().filter(taken).map(|table| table.id.clone()).collect();
    for (view, sql) in &views {
        let routine = |id: &TableId| facts.routines.iter().any(|(name, _)| name == id.table());
        for missing in order::missing_in(sql, &source.dataset, &held).into_iter().filter(|id| !routine(id)) {
            notes.push(format!("{view}: reads {missing}, which this backup does not hold"));
        }
    }
    BigQueryPlan {
        name: facts.name.clone(),
        dataset: source.dataset.clone(),
        location,
        snapshot_dataset: source.snapshot_dataset.clone(),
        make_snapshot_dataset: facts.snapshot_location.is_none(),
        snapshots_expire_at: expiry(now, kept),
        tables,
        views: order::by_dependency(views),
        routines: facts.routines.iter().map(|(name, _)| name.clone()).collect(),
    }
}

fn expiry(now: Timestamp, kept: Period) -> Timestamp {
    now.checked_add(jiff::SignedDuration::from_secs(kept.as_secs() as i64)).unwrap_or(Timestamp::MAX)
}

fn view_sql(table: &TableFacts) -> String {
    let sql = |kind: &str| table.resource[kind]["query"].as_str();
    sql("view").or_else(|| sql("materializedView")).unwrap_or_default().to_string()
}

fn table_plan(
    source: &BigQuerySource,
    source_name: &str,
    table: &TableFacts,
    (tier_name, tier): (&TierName, &Tier),
    now: Timestamp,
    refusals: &mut Vec<Refusal>,
    notes: &mut Vec<String>,
) -> Option<TablePlan> {
    let rows = table.count("numRows");
    if let Some(visible) = table.visible_rows
        && visible < rows
    {
        refusals.push(Refusal::new(
            &table.id,
            format!(
                "row access policies hide rows: {visible} of {rows} can be seen, so a backup would miss the others"
            ),
            "grant the backup's service account a row access policy with FILTER USING (TRUE)",
        ));
    }
    let schema = match Schema::from_json(&table.resource["schema"]) {
        Ok(schema) => schema,
        Err(error) => {
            refusals.push(Refusal::new(&table.id, error.to_string(), "exclude the table, or report this as a bug"));
            return None;
        }
    };
    if schema.fields.is_empty() {
        notes.push(format!("{}: has no columns, its definition is kept", table.id));
    }
    let (format, format_reason) = match format::choose(&schema, tier.format) {
        Ok(chosen) => chosen,
        Err((column, kind)) => {
            refusals.push(Refusal::new(
                format!("{}.{column}", table.id),
                format!("BigQuery exports a column of type {kind} to no file that loads back as it was"),
                "keep the value as STRING, or put the table into 'exclude'",
            ));
            return None;
        }
    };
    // Backups of two tiers may begin in one second. A table's name holds no points.
    let tier_name = tier_name.as_str().replace('.', "_");
    let stamp = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let snapshot = match source.snapshot_dataset.table(&format!("{}_{tier_name}_{stamp}", table.id.table())) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            refusals.push(Refusal::new(
                &table.id,
                error.to_string(),
                "its name is too long for a snapshot's; exclude it",
            ));
            return None;
        }
    };
    let bytes = table.count("numBytes");
    let proof = match source.fingerprint {
        FingerprintSetting::On => true,
        FingerprintSetting::Off => false,
        FingerprintSetting::UpTo(limit) => bytes <= limit,
    };
    Some(TablePlan {
        table: table.id.clone(),
        snapshot,
        format,
        format_reason,
        row_count: rows,
        logical_bytes: bytes,
        folder: format!("data/{source_name}/{}", object_folder(table.id.table())),
        partitions: table.partitions.clone(),
        proof,
    })
}

/// A table's name as a part of a key: what is not a plain character is percent-encoded, byte by byte.
pub(crate) fn object_folder(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => out.push(char::from(byte)),
            // '%' itself would be read as an escape by some tools, '=' is legal everywhere.
            other => out.push_str(&format!("={other:02X}")),
        }
    }
    out
}

/// What stands against the place that BigQuery writes into.
fn written_to(plan: &BigQueryPlan, tier: &Tier, facts: &BackupFacts, refusals: &mut Vec<Refusal>) {
    let Some(primary) = facts.destinations.first() else { return };
    let dataset = (&plan.dataset, plan.location.as_str());
    if needs_staging(tier) {
        return staging::check(&primary.place, dataset, facts.staging.as_ref(), refusals);
    }
    staging::check_location(dataset, primary, refusals);
    if primary.retention_locked {
        refusals.push(Refusal::new(
            &primary.place,
            "has a locked retention policy, under which BigQuery's extract may fail (it rewrites files)",
            "name a bucket without a lock first, and the locked one as a copy",
        ));
    }
}

/// Whether the key can wrap a backup's identity now. One that cannot be looked at is asked to before anything is paused.
fn sealing_key(key: &str, facts: Option<&SealingKeyFacts>, refusals: &mut Vec<Refusal>) {
    let (message, hint) = match facts {
        Some(SealingKeyFacts::Missing) => {
            ("there is no such Cloud KMS key".to_string(), "create it, or correct sealing.kms_key")
        }
        Some(SealingKeyFacts::Found { purpose, .. }) if purpose != "ENCRYPT_DECRYPT" => {
            (format!("is a key for {purpose}"), "name one for ENCRYPT_DECRYPT")
        }
        Some(SealingKeyFacts::Found { state, .. }) if state.as_deref() != Some("ENABLED") => {
            let state = state.as_deref().unwrap_or("missing").to_lowercase();
            (
                format!("its primary version is {state}: nothing can be sealed with it"),
                "enable it, or make another the primary",
            )
        }
        Some(SealingKeyFacts::Hidden | SealingKeyFacts::Found { .. }) | None => return,
    };
    refusals.push(Refusal::new(key, message, hint));
}

fn sheets(source: &SheetsSource, facts: &SheetsFacts, refusals: &mut Vec<Refusal>) -> SheetsPlan {
    let tabs = if source.tabs.is_empty() { facts.tabs.clone() } else { source.tabs.clone() };
    for tab in tabs.iter().filter(|tab| !facts.tabs.contains(tab)) {
        refusals.push(Refusal::new(
            format!("spreadsheet '{}', tab '{tab}'", facts.title),
            "there is no such tab",
            format!("its tabs are: {}", facts.tabs.join(", ")),
        ));
    }
    SheetsPlan { name: facts.name.clone(), spreadsheet: facts.spreadsheet.clone(), title: facts.title.clone(), tabs }
}

/// Where an object's definition lies below the backup's folder.
pub fn meta_key(source: &str, object: &str) -> String {
    format!("meta/{source}/{}.json", object_folder(object))
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
