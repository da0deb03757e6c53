//! What the catalog shows, held against what the chronicle says. Pure: what was seen, and when it is now, are arguments.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::manifest::chronicle::{Commit, Head, History};
use crate::manifest::{Doubt, DoubtKind};
use crate::model::{BackupName, TierName};

use super::retention::CLOCK_SKEW;

/// A backup in one place that its statement vouches for.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub commit: Commit,
    /// The whole address of its manifest.
    pub place: String,
    /// The chronicle's end when the backup was committed, where its statement was read.
    pub head: Option<Head>,
}

/// A place that holds backups of a tier.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenPlace {
    pub tier: TierName,
    /// The place's address.
    pub place: String,
    /// Copies need not hold what was taken before they were copies.
    pub primary: bool,
    pub seen: Vec<Seen>,
    /// Backups that are there, and are doubted for other reasons.
    pub doubted: BTreeSet<BackupName>,
}

/// Holds one place against the chronicle. `removing` are the backups whose removal was begun.
pub fn against_chronicle(at: &SeenPlace, history: &History, removing: &BTreeSet<BackupName>) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    for seen in &at.seen {
        if let Some(Err(doubt)) = seen.head.as_ref().map(|head| history.knows(head, &seen.place)) {
            doubts.push(doubt);
        }
        let Some(fate) = history.backups.get(&seen.commit.backup) else {
            let message = "it was committed, and the chronicle ends before that: the run died before it could say so (the next \
                           backup or retention enters it), or somebody has cut the chronicle's end off";
            doubts.push(Doubt::new(DoubtKind::RolledBack, &seen.place, message));
            continue;
        };
        if let Some(removed_at) = fate.removed_at {
            let message = format!("it was removed at {removed_at}, and is there again");
            doubts.push(Doubt::new(DoubtKind::Replayed, &seen.place, message));
        } else if !same(&fate.commit, &seen.commit) {
            let message = "it is another than the chronicle has under this name";
            doubts.push(Doubt::new(DoubtKind::Changed, &seen.place, message));
        }
    }
    let here: BTreeSet<&BackupName> = at.seen.iter().map(|seen| &seen.commit.backup).chain(&at.doubted).collect();
    for (name, fate) in &history.backups {
        let expected = fate.commit.tier == at.tier
            && fate.removed_at.is_none()
            && (at.primary || fate.commit.places.contains(&at.place));
        if expected && !here.contains(name) && !removing.contains(name) {
            let place = format!("{}/{name}", at.place);
            let message = "it was committed and is gone, and nobody who is trusted has removed it; hint: \
                           copy it back from another place, or give it up: strongroom delete --now";
            doubts.push(Doubt::new(DoubtKind::Removed, place, message));
        }
    }
    doubts
}

fn same(a: &Commit, b: &Commit) -> bool {
    (&a.backup, &a.tier, &a.commit_id, &a.manifest_sha256) == (&b.backup, &b.tier, &b.commit_id, &b.manifest_sha256)
}

/// Holds the copies against the primary, without a chronicle: what is in both must be the same.
pub fn against_each_other(primary: &SeenPlace, copy: &SeenPlace) -> Vec<Doubt> {
    let first: BTreeMap<&BackupName, &Seen> = primary.seen.iter().map(|seen| (&seen.commit.backup, seen)).collect();
    let mut doubts = Vec::new();
    for seen in &copy.seen {
        match first.get(&seen.commit.backup) {
            Some(other) if same(&other.commit, &seen.commit) => {}
            Some(other) => {
                let message = format!("it is another than {}", other.place);
                doubts.push(Doubt::new(DoubtKind::Changed, &seen.place, message));
            }
            None if primary.doubted.contains(&seen.commit.backup) => {}
            None => {
                let place = format!("{}/{}", primary.place, seen.commit.backup);
                let message = format!("it is in the copy {} only", copy.place);
                doubts.push(Doubt::new(DoubtKind::Removed, place, message));
            }
        }
    }
    doubts
}

/// Holds each manifest against the one that names it as the one before it: the chain of a tier.
pub fn along_the_chain(links: &[(String, BackupName, String)], at: &SeenPlace) -> Vec<Doubt> {
    let known: BTreeMap<&BackupName, &Seen> = at.seen.iter().map(|seen| (&seen.commit.backup, seen)).collect();
    let mut doubts = Vec::new();
    for (from, previous, sha256) in links {
        if let Some(seen) = known.get(previous).filter(|seen| seen.commit.manifest_sha256 != *sha256) {
            let message = format!("it is another than {from} has seen before it");
            doubts.push(Doubt::new(DoubtKind::Changed, &seen.place, message));
        }
    }
    doubts
}

/// What is of a time that has not come.
pub fn from_the_future(at: &SeenPlace, now: Timestamp) -> Vec<Doubt> {
    let ahead = at.seen.iter().filter(|seen| is_ahead(seen.commit.started_at, now));
    ahead
        .map(|seen| {
            let message = format!("it is dated {}: retention neither counts nor removes it", seen.commit.started_at);
            Doubt::new(DoubtKind::Future, &seen.place, message)
        })
        .collect()
}

/// Whether a time is further ahead than clocks differ.
pub fn is_ahead(at: Timestamp, now: Timestamp) -> bool {
    at > now.checked_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX)
}
