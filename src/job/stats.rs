//! Statistics of what is kept: how many backups, how large, how old, how they grow, per tier and per destination.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{Context, JobError};
use crate::manifest::Manifest;
use crate::model::{BackupName, Failure, TierName};

/// The whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    pub at: Timestamp,
    pub backup_count: usize,
    /// Bytes of all backups' objects, each once.
    pub size_bytes: u64,
    pub newest: Option<Moment>,
    pub oldest: Option<Moment>,
    pub tiers: Vec<TierStats>,
    pub destinations: Vec<DestinationStats>,
}

/// A backup and when it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    pub backup: BackupName,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TierStats {
    pub tier: TierName,
    pub backup_count: usize,
    pub size_bytes: u64,
    pub newest: Option<Moment>,
    pub oldest: Option<Moment>,
    /// Of the newest backup.
    pub newest_bytes: u64,
    /// How much the newest is larger than the one before it, and than the oldest.
    pub grown_since_previous_bytes: Option<i64>,
    pub grown_since_oldest_bytes: Option<i64>,
    /// The latter in a day.
    pub growth_bytes_per_day: Option<i64>,
}

/// What lies in a place, whoever it is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DestinationStats {
    pub place: String,
    pub kind: &'static str,
    pub tiers: Vec<TierName>,
    pub object_count: usize,
    pub size_bytes: u64,
    /// Why it could not be looked at.
    pub problem: Option<String>,
}

/// Counts.
///
/// # Errors
/// When the catalog cannot be read; a destination that cannot be is in the outcome.
pub async fn run(context: &Context) -> Result<Stats, JobError> {
    let listing = context.catalog.list().await?;
    let manifests: Vec<&Manifest> = listing.entries.iter().map(|entry| &entry.manifest).collect();
    let tiers = context.config.tiers.keys().map(|tier| {
        let of_tier: Vec<&Manifest> = manifests.iter().filter(|manifest| manifest.tier == *tier).copied().collect();
        of_tier_stats(tier, &of_tier)
    });
    Ok(Stats {
        at: context.now(),
        backup_count: manifests.len(),
        size_bytes: size(&manifests),
        newest: manifests.first().map(|manifest| moment(manifest)),
        oldest: manifests.last().map(|manifest| moment(manifest)),
        tiers: tiers.collect(),
        destinations: destinations(context).await,
    })
}

fn moment(manifest: &Manifest) -> Moment {
    Moment { backup: manifest.name.clone(), at: manifest.started_at }
}

/// Objects that several are made of count once.
fn size(manifests: &[&Manifest]) -> u64 {
    let objects = manifests.iter().flat_map(|manifest| manifest.objects());
    objects.map(|object| (object.key.as_str(), object.stored().size_bytes)).collect::<BTreeMap<_, _>>().values().sum()
}

/// `manifests` are the newest first.
fn of_tier_stats(tier: &TierName, manifests: &[&Manifest]) -> TierStats {
    let (newest, oldest) = (manifests.first(), manifests.last());
    let difference = |from: &&Manifest| {
        let size = |manifest: &Manifest| i64::try_from(manifest.size_bytes()).unwrap_or(i64::MAX);
        Some(size(newest?) - size(from))
    };
    let since_oldest = oldest.filter(|_| manifests.len() > 1).and_then(difference);
    let days =
        newest.zip(oldest).map(|(newest, oldest)| newest.started_at.duration_since(oldest.started_at).as_hours());
    TierStats {
        tier: tier.clone(),
        backup_count: manifests.len(),
        size_bytes: size(manifests),
        newest: newest.map(|manifest| moment(manifest)),
        oldest: oldest.map(|manifest| moment(manifest)),
        newest_bytes: newest.map_or(0, |manifest| manifest.size_bytes()),
        grown_since_previous_bytes: manifests.get(1).and_then(difference),
        grown_since_oldest_bytes: since_oldest,
        growth_bytes_per_day: since_oldest.zip(days).and_then(|(grown, hours)| (grown * 24).checked_div(hours)),
    }
}

async fn destinations(context: &Context) -> Vec<DestinationStats> {
    let mut found: Vec<DestinationStats> = Vec::new();
    for (tier, settings) in &context.config.tiers {
        for place in settings.places() {
            let counted = async {
                let objects = (context.open)(place)?.list(&format!("{tier}/")).await?;
                Ok::<_, Failure>((objects.len(), objects.iter().map(|info| info.size_bytes).sum::<u64>()))
            };
            let (counted, problem) = match counted.await {
                Ok(counted) => (counted, None),
                Err(error) => ((0, 0), Some(error.to_string())),
            };
            let name = place.to_string();
            let at = found.iter().position(|other| other.place == name).unwrap_or_else(|| {
                let (tiers, kind) = (vec![], place.kind());
                found.push(DestinationStats {
                    place: name,
                    kind,
                    tiers,
                    object_count: 0,
                    size_bytes: 0,
                    problem: None,
                });
                found.len() - 1
            });
            let stats = &mut found[at];
            stats.tiers.push(tier.clone());
            stats.object_count += counted.0;
            stats.size_bytes += counted.1;
            stats.problem = stats.problem.take().or(problem);
        }
    }
    found
}
