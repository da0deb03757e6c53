//! `verify --catalog`: whether the catalog is what was signed, and all of it. Every place is held against the chronicle and
//! against the others; what cannot be proven is said plainly.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Context, JobError};
use crate::catalog::marks::REMOVING;
use crate::catalog::{Copy, Entry, Listing};
use crate::manifest::chronicle::{Event, Head, History};
use crate::manifest::{Doubt, DoubtKind, Statement};
use crate::model::{BackupName, Failure};
use crate::plan::witness::{self, Seen, SeenPlace};

/// What became of a check of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CatalogCheck {
    pub system: String,
    pub signed: bool,
    pub place_count: usize,
    /// In the tiers' primary places.
    pub backup_count: usize,
    /// The chronicle's end: kept elsewhere, it proves later that nothing before it was taken away.
    pub head: Option<Head>,
    /// The gravest first.
    pub doubts: Vec<Doubt>,
    /// What is no doubt, and what this check cannot prove.
    pub notes: Vec<String>,
}

impl CatalogCheck {
    pub fn passed(&self) -> bool {
        self.doubts.is_empty()
    }
}

/// Checks the catalog. `pinned` is a head that the caller has kept.
///
/// # Errors
/// When a place can neither be read nor is gone; what is wrong with the catalog are doubts.
pub async fn run(context: &Context, pinned: Option<&Head>) -> Result<CatalogCheck, JobError> {
    let mut check = CatalogCheck {
        system: context.config.name.clone(),
        signed: context.chronicle.is_some(),
        place_count: 0,
        backup_count: 0,
        head: None,
        doubts: vec![],
        notes: vec![],
    };
    let reading = match &context.chronicle {
        Some(chronicle) => Some(chronicle.read().await?),
        None => None,
    };
    let history = reading.as_ref().map(|reading| reading.history.clone()).unwrap_or_default();
    if let Some(reading) = reading {
        check.doubts.extend(reading.doubts);
        check.doubts.extend(context.marks.doubts(&history).await?);
        check.head = history.head();
        if history.last_at.is_some_and(|at| witness::is_ahead(at, context.now())) {
            let message =
                "an entry is of a time that has not come: the clock of who wrote it was wrong, or this one is";
            check.doubts.push(Doubt::new(DoubtKind::Future, "the chronicle", message));
        }
    }
    if let Some(pinned) = pinned {
        check.doubts.extend(history.knows(pinned, "the head that was kept").err());
    }
    let removing = removing(&history);
    for name in &removing {
        check.notes.push(format!("{name} is being removed; hint: strongroom retention ends it"));
    }
    for (tier, stores) in context.catalog.places() {
        let mut primary: Option<SeenPlace> = None;
        for store in stores {
            let copies = match context.catalog.copies(tier, store).await {
                Ok(copies) => copies,
                Err(Failure::NotFound { .. }) => {
                    let message = format!("the place of tier {tier} does not exist");
                    check.doubts.push(Doubt::new(DoubtKind::Removed, store.describe(), message));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            check.place_count += 1;
            let mut place = SeenPlace {
                tier: tier.clone(),
                place: store.describe(),
                primary: primary.is_none(),
                seen: vec![],
                doubted: BTreeSet::new(),
            };
            let mut links = Vec::new();
            for copy in copies {
                look_at(copy, &mut place, &mut links, &mut check.doubts);
            }
            check.doubts.extend(witness::from_the_future(&place, context.now()));
            check.doubts.extend(witness::along_the_chain(&links, &place));
            if context.chronicle.is_some() {
                check.doubts.extend(witness::against_chronicle(&place, &history, &removing));
            }
            match &primary {
                None => {
                    check.backup_count += place.seen.len() + place.doubted.len();
                    primary = Some(place);
                }
                Some(primary) => check.doubts.extend(witness::against_each_other(primary, &place)),
            }
        }
    }
    check.notes.extend(unproven(context, &history));
    check.doubts.sort();
    check.doubts.dedup();
    Ok(check)
}

/// Sorts what lies in a folder into what is vouched for and what is doubted.
fn look_at(copy: Copy, place: &mut SeenPlace, links: &mut Vec<(String, BackupName, String)>, doubts: &mut Vec<Doubt>) {
    let named = copy.folder.rsplit('/').next().and_then(|name| name.parse().ok());
    let entry = match copy.entry {
        Ok(entry) => entry,
        Err(broken) => {
            doubts.push(Doubt::new(DoubtKind::Changed, broken.place, format!("the manifest {}", broken.error)));
            place.doubted.extend(named);
            return;
        }
    };
    let statement: Option<Statement> = match copy.judged {
        Some(Ok(statement)) => statement,
        Some(Err(doubt)) => {
            doubts.push(doubt);
            place.doubted.insert(entry.manifest.name.clone());
            return;
        }
        None => None,
    };
    if let Some(previous) = &entry.manifest.previous {
        links.push((entry.manifest.name.to_string(), previous.name.clone(), previous.sha256.clone()));
    }
    let head = statement.and_then(|statement| statement.chronicle);
    place.seen.push(Seen { commit: entry.commit(vec![]), place: copy.place, head });
}

/// What this check cannot tell.
fn unproven(context: &Context, history: &History) -> Vec<String> {
    let mut notes = Vec::new();
    if context.chronicle.is_none() {
        notes.push(
            "the catalog is not signed: damage is found, but whoever can write to every place can change, remove or bring back \
             backups unseen; hint: strongroom key generate, and [signing] in the configuration"
                .to_string(),
        );
        return notes;
    }
    if context.config.tiers.values().all(|tier| tier.destinations.len() == 1) {
        notes.push(
            "there are no copies: whoever rolls the whole vault back is found only by a head that is kept elsewhere; hint: \
             --head FILE"
                .to_string(),
        );
    }
    if history.head().is_none() {
        notes.push("the chronicle is empty: the next backup begins it".to_string());
    }
    notes
}

/// The backups whose removal was begun, as the chronicle has it.
fn removing(history: &History) -> BTreeSet<BackupName> {
    history.marks.iter().filter(|(_, marks)| marks.contains_key(REMOVING)).map(|(name, _)| name.clone()).collect()
}

/// What of a listing is not as the chronicle has it; what is doubted for its signature is in the listing itself.
pub(super) fn of_listing(context: &Context, listing: &Listing, history: &History) -> Result<Vec<Doubt>, JobError> {
    let removing = removing(history);
    let mut doubts = Vec::new();
    for (tier, stores) in context.catalog.places() {
        let of_tier = |entry: &&Entry| entry.manifest.tier == *tier;
        let seen = |entry: &Entry| Seen {
            commit: entry.commit(vec![]),
            place: format!("{}: {}", entry.store.describe(), entry.manifest.name),
            head: None,
        };
        // A manifest that cannot be read is not gone: its folder bears its name.
        let named = |place: &str| place.rsplit('/').nth(1).and_then(|name| name.parse().ok());
        let broken = listing.broken.iter().filter_map(|broken| named(&broken.place));
        let doubted = listing.doubtful.iter().map(|doubtful| doubtful.entry.manifest.name.clone());
        let place = SeenPlace {
            tier: tier.clone(),
            place: stores.first().map(|store| store.describe()).unwrap_or_default(),
            primary: true,
            seen: listing.entries.iter().filter(of_tier).map(seen).collect(),
            doubted: broken.chain(doubted).collect(),
        };
        doubts.extend(witness::against_chronicle(&place, history, &removing));
    }
    Ok(doubts)
}

/// Adds to the chronicle what was committed by runs that died before they could say so.
///
/// # Errors
/// When the chronicle cannot be read at all.
pub(super) async fn catch_up(context: &Context, listing: &Listing) -> Result<(), JobError> {
    let Some(chronicle) = &context.chronicle else { return Ok(()) };
    let reading = chronicle.read().await?;
    if !reading.doubts.is_empty() {
        return Ok(()); // `verify --catalog` tells; nothing is built on what is not believed
    }
    let missing = listing.entries.iter().filter(|e| !reading.history.backups.contains_key(&e.manifest.name));
    for entry in missing {
        let places = places(context, entry);
        chronicle.append(Event::Committed(entry.commit(places)), context.now(), &context.holder).await?;
        context.observer.note(&format!("{} was not in the chronicle, and is now", entry.manifest.name));
    }
    Ok(())
}

/// Where a backup was written to, as the configuration says now.
pub(super) fn places(context: &Context, entry: &Entry) -> Vec<String> {
    let of_tier = context.catalog.places().find(|(tier, _)| **tier == entry.manifest.tier);
    of_tier.map(|(_, stores)| stores.iter().map(|store| store.describe()).collect()).unwrap_or_default()
}

/// Whether the chronicle has a backup that is nowhere to be found.
pub(super) async fn is_missing(context: &Context, backup: &BackupName) -> Result<bool, JobError> {
    let Some(chronicle) = &context.chronicle else { return Ok(false) };
    Ok(chronicle.read().await?.history.stands(backup))
}

/// A person says that a backup which is gone need not be looked for any more.
pub(super) async fn give_up(context: &Context, backup: &BackupName) -> Result<(), JobError> {
    let Some(chronicle) = &context.chronicle else { return Ok(()) };
    let history = chronicle.read().await?.history;
    let Some(fate) = history.backups.get(backup) else { return Ok(()) };
    let by = (context.now(), context.holder.as_str());
    Ok(context.marks.close(backup, &fate.commit.commit_id, by).await?)
}
