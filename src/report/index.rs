//! `backup_metadata.json`: the backups as an index for people and their scripts. Derived from manifests and marks, never read by
//! this program.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::manifest::{Manifest, SourceRecord};
use crate::model::{BackupName, Kind, TierName};
use crate::plan::retention::Expiry;

/// The name of its object.
pub const INDEX: &str = "backup_metadata.json";

/// A backup, and what is said of it.
pub struct Indexed<'a> {
    pub manifest: &'a Manifest,
    /// By whom and when a restore was proven.
    pub verified: Option<(String, Timestamp)>,
    /// By whom and when its change was said to be verified.
    pub approved: Option<(String, Timestamp)>,
    pub condemned: bool,
    pub expiry: Expiry,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct IndexEntry {
    created: Timestamp,
    /// `null`: not by itself.
    expires: Option<Timestamp>,
    tier: TierName,
    status: &'static str,
    verified: bool,
    verified_by: Option<String>,
    verified_date: Option<Timestamp>,
    retention: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change_ticket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creator: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    files: BTreeMap<String, FileEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct FileEntry {
    size: u64,
    /// SHA-256 in hex.
    hash: String,
    /// Whether a database's log lies beside it; `null` for what is no database.
    has_wal: Option<bool>,
}

/// The index as JSON. `tiers` have a section also while they hold nothing, as have `daily`, `pre_change` and `manual`.
pub fn index<'a>(tiers: impl IntoIterator<Item = &'a TierName>, backups: &[Indexed<'a>]) -> Vec<u8> {
    let usual = ["daily", "pre_change", "manual"].map(String::from);
    let mut sections: BTreeMap<String, BTreeMap<&BackupName, IndexEntry>> = BTreeMap::new();
    for name in usual.into_iter().chain(tiers.into_iter().map(ToString::to_string)) {
        sections.entry(name).or_default();
    }
    for backup in backups {
        let manifest = backup.manifest;
        let section = manifest.kind().map_or_else(|| manifest.tier.to_string(), |kind| kind.to_string());
        sections.entry(section).or_default().insert(&manifest.name, entry(backup));
    }
    let mut bytes = serde_json::to_vec_pretty(&sections).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn entry(backup: &Indexed<'_>) -> IndexEntry {
    let manifest = backup.manifest;
    let change = manifest.kind() == Some(Kind::PreChange);
    let said = if change { &backup.approved } else { &backup.verified };
    let status = match (change, backup.condemned, said.is_some()) {
        (true, true, _) => "retired",
        (true, false, true) => "verified",
        (true, false, false) => "pending_verification",
        (false, true, _) => "expired",
        (false, false, true) => "verified",
        (false, false, false) => "active",
    };
    let file = |object: &crate::manifest::ObjectRecord| {
        let stored = object.in_store();
        (object.key.clone(), FileEntry { size: stored.size_bytes, hash: stored.sha256_hex(), has_wal: None })
    };
    let files = manifest.objects().map(file).chain(manifest.sources.iter().flat_map(own_files)).collect();
    let terms = manifest.terms.as_ref();
    IndexEntry {
        created: manifest.committed_at,
        expires: backup.expiry.at,
        tier: manifest.tier.clone(),
        status,
        verified: said.is_some(),
        verified_by: said.as_ref().map(|(by, _)| by.clone()),
        verified_date: said.as_ref().map(|(_, at)| *at),
        retention: backup.expiry.policy.clone(),
        description: manifest.purpose.clone().filter(|_| change),
        purpose: manifest.purpose.clone().filter(|_| !change),
        change_ticket: terms.and_then(|terms| terms.ticket.clone()),
        creator: terms.and_then(|terms| terms.creator.clone()),
        notes: manifest.notes.clone(),
        files,
    }
}

/// Files and databases by their own paths, below the source's name.
fn own_files(source: &SourceRecord) -> Vec<(String, FileEntry)> {
    match source {
        SourceRecord::Files(source) => source
            .files
            .iter()
            .map(|file| {
                let entry = FileEntry { size: file.size_bytes, hash: file.sha256.clone(), has_wal: None };
                (format!("{}/{}", source.name, file.path), entry)
            })
            .collect(),
        SourceRecord::Sqlite(source) => {
            let digests = &source.database.digests;
            let name = source.path.rsplit('/').next().unwrap_or_default();
            let has_wal = Some(source.has_wal);
            let entry = FileEntry { size: digests.size_bytes, hash: digests.sha256_hex(), has_wal };
            vec![(format!("{}/{name}", source.name), entry)]
        }
        _ => vec![],
    }
}
