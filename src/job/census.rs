//! Census: which places hold which backups whole, as listings tell, held against each tier's copy policy. Reads no object.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::{Context, copies};
use crate::catalog::{Entry, MANIFEST};
use crate::config::Destination;
use crate::model::{BackupName, Failure, TierName};
use crate::plan::backup::folder;
use crate::plan::copies::Standing;
use crate::store::ObjectInfo;

/// The copies of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupCopies {
    pub backup: BackupName,
    pub tier: TierName,
    /// Whole copies, the kinds of storage they are on, and how many are offsite.
    #[serde(flatten)]
    pub standing: Standing,
    /// The tier's destinations.
    pub destination_count: usize,
    /// What is missing to the tier's policy.
    pub short: Vec<String>,
    /// The places that lack objects of it, and how many; its manifest counts as one.
    pub lacking: BTreeMap<String, usize>,
    /// Places that may only be put into: counted, and not looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_trust: Vec<String>,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Census {
    /// The newest first.
    pub backups: Vec<BackupCopies>,
    /// Places that could not be looked at, and why.
    pub unseen: Vec<String>,
}

/// Counts the copies of these backups: every place is listed once.
pub async fn run(context: &Context, entries: &[Entry]) -> Census {
    let mut census = Census::default();
    let mut by_tier: BTreeMap<&TierName, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        by_tier.entry(&entry.manifest.tier).or_default().push(entry);
    }
    for (tier, entries) in by_tier {
        let Some(settings) = context.config.tiers.get(tier) else { continue };
        // Objects may lie in folders of other tiers' backups.
        let mut roots: BTreeSet<String> = BTreeSet::from([format!("{tier}/")]);
        let objects = entries.iter().flat_map(|entry| entry.manifest.objects());
        roots.extend(objects.filter_map(|object| Some(format!("{}/", object.key.split_once('/')?.0))));
        let mut whole: Vec<Vec<&Destination>> = vec![vec![]; entries.len()];
        let mut lacking: Vec<BTreeMap<String, usize>> = vec![BTreeMap::new(); entries.len()];
        let (on_trust, seen): (Vec<&Destination>, Vec<&Destination>) =
            settings.destinations.iter().partition(|destination| destination.create_only);
        whole.iter_mut().for_each(|whole| whole.extend(&on_trust));
        for destination in seen {
            let listed = match list(context, destination, &roots).await {
                Ok(listed) => listed,
                Err(error) => {
                    census.unseen.push(error.to_string());
                    continue;
                }
            };
            for (n, entry) in entries.iter().enumerate() {
                match missing(entry, &listed) {
                    0 => whole[n].push(destination),
                    count => drop(lacking[n].insert(destination.place.to_string(), count)),
                }
            }
        }
        for ((entry, whole), lacking) in entries.iter().zip(whole).zip(lacking) {
            let standing = Standing::of(whole);
            census.backups.push(BackupCopies {
                backup: entry.manifest.name.clone(),
                tier: tier.clone(),
                standing,
                destination_count: settings.destinations.len(),
                short: standing.shortfall(settings.copies),
                lacking,
                on_trust: on_trust.iter().map(|destination| destination.place.to_string()).collect(),
            });
        }
    }
    census
}

type Listed = HashMap<String, ObjectInfo>;

async fn list(context: &Context, destination: &Destination, roots: &BTreeSet<String>) -> Result<Listed, Failure> {
    let store = (context.open)(&destination.place)?;
    let mut listed = Listed::new();
    for root in roots {
        match store.list(root).await {
            Ok(found) => listed.extend(found.into_iter().map(|info| (info.key.clone(), info))),
            Err(Failure::NotFound { .. }) => {} // the place is gone: it holds nothing
            Err(error) => return Err(error),
        }
    }
    Ok(listed)
}

/// How much of a backup a place lacks.
fn missing(entry: &Entry, listed: &Listed) -> usize {
    let manifest = &entry.manifest;
    let own = format!("{}/{MANIFEST}", folder(&manifest.tier, &manifest.name, manifest.started_at));
    let told = listed.get(&own).is_some_and(|info| info.size_bytes == entry.manifest_size_bytes);
    let bad = |key: &str, digests| listed.get(key).is_none_or(|info| copies::fault(info, digests).is_some());
    let objects = manifest.objects().filter(|object| bad(&object.key, object.stored())).count();
    objects + usize::from(!told)
}
