//! Statistics of what is kept: how many backups, how large, how old, how they grow, per tier and per destination.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{Context, JobError};
use crate::manifest::Manifest;
use crate::model::{BackupName, Failure, TierName};
use crate::plan::cost;

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
    /// What keeping it costs; `None` without a price list.
    pub cost: Option<Monthly>,
}

/// An amount for every month, in the price list's currency.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Monthly {
    pub currency: String,
    pub amount: f64,
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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DestinationStats {
    pub place: String,
    pub kind: &'static str,
    pub tiers: Vec<TierName>,
    pub object_count: usize,
    pub size_bytes: u64,
    /// Bytes by storage class, as the configuration has it, or the kind's usual one.
    pub by_class: BTreeMap<String, u64>,
    /// What keeping them costs a month; `None` where the price list does not say.
    pub cost_per_month: Option<f64>,
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
    let destinations = destinations(context).await;
    let cost = context.config.prices.as_ref().map(|prices| Monthly {
        currency: prices.currency.clone(),
        amount: destinations.iter().filter_map(|place| place.cost_per_month).sum(),
    });
    Ok(Stats {
        at: context.now(),
        backup_count: manifests.len(),
        size_bytes: size(&manifests),
        newest: manifests.first().map(|manifest| moment(manifest)),
        oldest: manifests.last().map(|manifest| moment(manifest)),
        tiers: tiers.collect(),
        destinations,
        cost,
    })
}

fn moment(manifest: &Manifest) -> Moment {
    Moment { backup: manifest.name.clone(), at: manifest.started_at }
}

/// Objects that several are made of count once.
fn size(manifests: &[&Manifest]) -> u64 {
    let objects = manifests.iter().flat_map(|manifest| manifest.objects());
    objects.map(|object| (object.key.as_str(), object.in_store().size_bytes)).collect::<BTreeMap<_, _>>().values().sum()
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
        for destination in &settings.destinations {
            let place = &destination.place;
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
                    by_class: BTreeMap::new(),
                    cost_per_month: None,
                    problem: None,
                });
                found.len() - 1
            });
            let stats = &mut found[at];
            stats.tiers.push(tier.clone());
            stats.object_count += counted.0;
            stats.size_bytes += counted.1;
            let class = cost::class_of(destination);
            *stats.by_class.entry(class.unwrap_or("directory").into()).or_default() += counted.1;
            let prices = context.config.prices.as_ref();
            if let Some(amount) = prices.and_then(|prices| cost::storage(prices, place, class, counted.1)) {
                *stats.cost_per_month.get_or_insert(0.0) += amount;
            }
            stats.problem = stats.problem.take().or(problem);
        }
    }
    found
}
