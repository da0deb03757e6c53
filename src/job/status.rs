//! Status: is there a backup, is it young enough, does ingestion run, did a run die.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::census::{self, BackupCopies};
use super::recover::{self, Recovered};
use super::retention::{self, Look};
use super::{Context, JobError, capture};
use crate::catalog::{Damaged, Entry};
use crate::config::Tier;
use crate::ingestion;
use crate::model::{BackupName, TierName};
use crate::plan::watch::{self, Alert, SpaceFacts, Watched};
use crate::store::Space;

/// The state of the whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    pub at: Timestamp,
    pub tiers: Vec<TierStatus>,
    /// How many whole copies each backup has, and where they fall short of the tier's policy; the newest first.
    pub copies: Vec<BackupCopies>,
    /// Sizes, times and spaces out of line, and what ends or waits.
    pub alerts: Vec<Alert>,
    pub ingestion: BTreeMap<String, String>,
    /// Runs that were opened and not closed: alive, or dead and to be recovered.
    pub open_runs: Vec<Recovered>,
    pub broken_manifests: Vec<String>,
    /// Age of the newest data in any backup, in seconds; what would be lost now.
    pub rpo_seconds: Option<i64>,
    pub rpo_objective_seconds: u64,
    /// What a person should look at.
    pub findings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TierStatus {
    pub tier: TierName,
    pub backup_count: usize,
    pub size_bytes: u64,
    pub latest: Option<BackupName>,
    pub latest_at: Option<Timestamp>,
}

impl Status {
    pub fn content(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Looks at everything; changes nothing.
///
/// # Errors
/// When the catalog or ingestion cannot be looked at.
pub async fn run(context: &Context) -> Result<Status, JobError> {
    let at = context.now();
    let look = retention::look(context).await?;
    let listing = &look.listing;
    let census = census::run(context, &listing.entries).await;
    let mut tiers = Vec::new();
    for tier in context.config.tiers.keys() {
        let of_tier: Vec<_> = listing.entries.iter().filter(|entry| entry.manifest.tier == *tier).collect();
        let latest = of_tier.first().map(|entry| &entry.manifest);
        tiers.push(TierStatus {
            tier: tier.clone(),
            backup_count: of_tier.len(),
            size_bytes: of_tier.iter().map(|entry| entry.manifest.size_bytes()).sum(),
            latest: latest.map(|manifest| manifest.name.clone()),
            latest_at: latest.map(|manifest| capture::instant(manifest.cut_at, manifest.started_at)),
        });
    }
    let mut ingestion_states = BTreeMap::new();
    for (job, state) in ingestion::observe(&context.google, &context.config.ingestion.scheduler_jobs).await? {
        let state = state.as_ref().map_or_else(|| "MISSING".to_string(), ingestion::state_name);
        ingestion_states.insert(job, state);
    }
    let newest = tiers.iter().filter_map(|tier| tier.latest_at).max();
    let rpo = newest.map(|newest| at.duration_since(newest).max(SignedDuration::ZERO).as_secs());
    let mut status = Status {
        at,
        tiers,
        copies: census.backups,
        alerts: alerts(context, &look).await,
        ingestion: ingestion_states,
        open_runs: recover::open(context).await?,
        broken_manifests: listing
            .broken
            .iter()
            .map(|broken| format!("{}: {}", broken.place, broken.error))
            .chain(listing.doubtful.iter().map(|doubtful| doubtful.doubt.to_string()))
            .chain(listing.damaged.iter().map(|damaged| {
                let Damaged { backup, place, message, read_from } = damaged;
                format!("{place}: {message}; {read_from} has it; hint: strongroom repair {backup}")
            }))
            .chain(
                census
                    .unseen
                    .iter()
                    .chain(&listing.unseen)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .map(|unseen| format!("a copy cannot be looked at: {unseen}")),
            )
            .collect(),
        rpo_seconds: rpo,
        rpo_objective_seconds: context.config.objectives.rpo_transactions.as_secs(),
        findings: vec![],
    };
    status.findings = findings(&status);
    Ok(status)
}

async fn alerts(context: &Context, look: &Look) -> Vec<Alert> {
    let config = &context.config;
    let watched = |entry: &Entry| {
        let manifest = &entry.manifest;
        let marks = look.marks.get(&manifest.name).cloned().unwrap_or_default();
        // A tier's own rules let go as others come: that is no news.
        let told = manifest.kind().is_some() || marks.pinned.is_some();
        Watched {
            name: manifest.name.clone(),
            tier: manifest.tier.clone(),
            kind: manifest.kind(),
            started_at: manifest.started_at,
            committed_at: manifest.committed_at,
            size_bytes: manifest.size_bytes(),
            verified_at: marks.verified.map(|mark| mark.at),
            approved: marks.approved.is_some(),
            expires: told.then(|| retention::expiry(context, look, entry).at).flatten(),
        }
    };
    let backups: Vec<Watched> = look.listing.entries.iter().map(watched).collect();
    let mut spaces: BTreeMap<String, SpaceFacts> = BTreeMap::new();
    for place in config.tiers.values().flat_map(Tier::places) {
        // What cannot be looked at is told with the copies.
        let Ok(store) = (context.open)(place) else { continue };
        if let Ok(Some(Space { free_bytes, total_bytes })) = store.space().await {
            let place = store.describe();
            spaces.insert(place.clone(), SpaceFacts { place, free_bytes, total_bytes });
        }
    }
    let spaces: Vec<SpaceFacts> = spaces.into_values().collect();
    watch::alerts((&config.watch, &config.tiers), &backups, &spaces, context.now())
}

fn findings(status: &Status) -> Vec<String> {
    let mut findings = Vec::new();
    match status.rpo_seconds {
        None => findings.push("there is no backup; hint: strongroom backup --tier daily".into()),
        Some(age) if age > i64::try_from(status.rpo_objective_seconds).unwrap_or(i64::MAX) => findings.push(format!(
            "the newest backup is {} h old, the objective is {} h; hint: strongroom backup --tier daily",
            age / 3600,
            status.rpo_objective_seconds / 3600
        )),
        Some(_) => {}
    }
    for (job, state) in &status.ingestion {
        match state.as_str() {
            "ENABLED" => {}
            "MISSING" => findings.push(format!("{job}: there is no such Cloud Scheduler job")),
            state => findings.push(format!("{job} is {}; hint: strongroom resume", state.to_lowercase())),
        }
    }
    for copies in status.copies.iter().filter(|copies| !copies.short.is_empty()) {
        let lacking: Vec<String> =
            copies.lacking.iter().map(|(place, n)| format!("{place} lacks {n} objects")).collect();
        let places = if lacking.is_empty() { String::new() } else { format!(" ({})", lacking.join(", ")) };
        findings.push(format!(
            "{} has {}{places}; hint: strongroom repair {}",
            copies.backup,
            copies.short.join(", "),
            copies.backup
        ));
    }
    findings.extend(status.alerts.iter().map(ToString::to_string));
    for run in &status.open_runs {
        findings.push(format!(
            "run {} ({} {}) is not finished; hint: strongroom recover, if it is dead",
            run.run, run.verb, run.subject
        ));
    }
    findings.extend(status.broken_manifests.iter().cloned());
    findings
}
