//! Verify: every byte and row of a stored backup against its manifest.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, stream};
use serde::Serialize;

use super::inspect::{self, TableReader};
use super::streamed::EntryVault;
use super::{Context, JobError, copies, sealing};
use crate::catalog::{Entry, MANIFEST, STATEMENT};
use crate::config::TableFormat;
use crate::manifest::{ObjectRecord, TableRecord};
use crate::model::schema::Schema;
use crate::model::{BackupName, Digests, Failure};
use crate::plan::backup::folder;
use crate::source::{self, bigquery::Definition};

/// Outcome of a verification.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    pub backup: BackupName,
    pub object_count: usize,
    pub size_bytes: u64,
    pub row_count: u64,
    pub table_count: usize,
    /// Whether rows and figures were read; of what is sealed without its key only that it lies there as it was written.
    pub content_read: bool,
    /// What the findings come to.
    pub state: VerifiedState,
    pub findings: Vec<Finding>,
    /// Where something is wrong: the other places that hold all of it, by size and checksum.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub whole_in: Vec<String>,
}

/// What a verification comes to, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifiedState {
    /// Something there is not what was written.
    Corrupt,
    /// All that is there is what was written, and something is not there.
    Missing,
    /// All lies there as it was written, and no key at hand opens it.
    Sealed,
    Complete,
}

/// How much is read of what is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every stored byte, which needs no key.
    Stored,
    /// Content too: rows and figures.
    Content,
}

/// Something that is not as the manifest says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    pub object: String,
    pub kind: FindingKind,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// An object is not there.
    Missing,
    /// An object's bytes, or the rows in it, are not what was written.
    Corrupt,
    /// An object lies among the backup's, and its manifest does not name it.
    Unexpected,
    /// No key at hand opens it.
    Sealed,
}

impl Verification {
    pub fn passed(&self) -> bool {
        self.findings.is_empty()
    }

    fn settle(&mut self) {
        self.findings.sort_by(|a, b| a.object.cmp(&b.object));
        let states = self.findings.iter().map(|finding| match finding.kind {
            FindingKind::Corrupt | FindingKind::Unexpected => VerifiedState::Corrupt,
            FindingKind::Missing => VerifiedState::Missing,
            FindingKind::Sealed => VerifiedState::Sealed,
        });
        self.state = states.min().unwrap_or(VerifiedState::Complete);
    }
}

/// Reads every object of a backup, and what is stated of its manifest: digests, rows, fingerprints, totals.
///
/// # Errors
/// When the store cannot be read at all; what is wrong with the backup are findings.
pub async fn run(context: &Context, entry: &Entry, depth: Depth) -> Result<Verification, JobError> {
    let mut verification = of_bytes(context, entry, depth).await?;
    if let Err(doubt) = context.catalog.check(entry).await? {
        let message = format!("{}: {}", doubt.kind, doubt.message);
        verification.findings.push(Finding { object: doubt.place, kind: FindingKind::Corrupt, message });
    }
    verification.findings.extend(unexpected(entry).await?);
    let here = entry.store.describe();
    if let Some(primary) = context.catalog.primary(&entry.manifest.tier).filter(|primary| primary.describe() != here) {
        let manifest = &entry.manifest;
        let key = format!("{}/{MANIFEST}", folder(&manifest.tier, &manifest.name, manifest.started_at));
        let message = format!("is not there as it was written: what is told here is of {here}");
        verification.findings.push(Finding { object: primary.address(&key), kind: FindingKind::Missing, message });
    }
    verification.findings.sort_by(|a, b| a.object.cmp(&b.object));
    if !verification.passed() {
        let others = copies::whole(context, &entry.manifest).await.unwrap_or_default();
        let others = others.iter().map(|(_, store)| store.describe());
        verification.whole_in = others.filter(|place| *place != entry.store.describe()).collect();
    }
    verification.settle();
    Ok(verification)
}

/// What lies among the backup's objects and is none. What an attempt left that was followed by another is none of them.
async fn unexpected(entry: &Entry) -> Result<Vec<Finding>, Failure> {
    let manifest = &entry.manifest;
    let folder = folder(&manifest.tier, &manifest.name, manifest.started_at);
    let known: HashSet<&str> = manifest.objects().map(|object| object.key.as_str()).collect();
    // Of `{folder}/data/{source}/{table}/{attempt}/...`: the table's folder and the attempt.
    let attempt = |key: &str| -> Option<(String, u32)> {
        let parts: Vec<&str> = key.strip_prefix(&folder)?.split('/').collect();
        match parts.as_slice() {
            ["", "data", source, table, attempt, _, ..] => Some((format!("{source}/{table}"), attempt.parse().ok()?)),
            _ => None,
        }
    };
    let last: HashMap<String, u32> = known.iter().filter_map(|key| attempt(key)).collect();
    let mut findings = Vec::new();
    for info in entry.store.list(&format!("{folder}/")).await? {
        let own = info.key.strip_prefix(&folder).map(|name| name.trim_start_matches('/'));
        let left =
            attempt(&info.key).is_some_and(|(table, attempt)| last.get(&table).is_none_or(|last| attempt < *last));
        if !known.contains(info.key.as_str()) && !matches!(own, Some(MANIFEST | STATEMENT)) && !left {
            let message = "lies there, and the manifest does not name it".into();
            findings.push(Finding { object: info.key, kind: FindingKind::Unexpected, message });
        }
    }
    Ok(findings)
}

/// Reads every object of a backup: whether it is what its manifest says, whoever wrote that.
pub(super) async fn of_bytes(context: &Context, entry: &Entry, depth: Depth) -> Result<Verification, JobError> {
    let manifest = &entry.manifest;
    let mut findings = Vec::new();
    let opened = match depth {
        _ if manifest.sealing.is_none() => Some(entry.clone()),
        Depth::Stored => None,
        Depth::Content => match sealing::open(context, entry).await {
            Ok(opened) => Some(opened),
            Err(Failure::Sealed { object, message }) => {
                findings.push(Finding { object, kind: FindingKind::Sealed, message });
                None
            }
            Err(error) => return Err(error.into()),
        },
    };
    let tables: Vec<&TableRecord> = match &opened {
        Some(_) => manifest.tables().collect(),
        None => vec![],
    };
    let in_tables: HashSet<&str> =
        tables.iter().flat_map(|table| &table.objects).map(|object| object.key.as_str()).collect();

    let (mut in_sources, mut doubts) = (HashSet::new(), Vec::new());
    for record in opened.iter().flat_map(|_| &manifest.sources) {
        match source::check(record, &EntryVault { store: opened.as_ref().unwrap_or(entry).store.clone() }).await {
            Ok(checked) => {
                in_sources.extend(checked.objects);
                findings.extend(checked.differences.into_iter().map(|message| {
                    let object = format!("source '{}'", record.name());
                    Finding { object, kind: FindingKind::Corrupt, message }
                }));
            }
            Err(Failure::Corrupt { object, message }) => {
                doubts.push((record, Finding { object, kind: FindingKind::Corrupt, message }));
            }
            // Told by the check of the object itself.
            Err(Failure::NotFound { .. } | Failure::Sealed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }

    // What is no table file: definitions, sheets; all of it, where the content is not read.
    let read = |object: &&ObjectRecord| in_tables.contains(object.key.as_str()) || in_sources.contains(&object.key);
    let others: Vec<&ObjectRecord> = manifest.objects().filter(|object| !read(object)).collect();
    let checked: Vec<Result<Vec<Finding>, Failure>> = stream::iter(others)
        .map(|object| plain(entry, opened.as_ref(), object))
        .buffer_unordered(context.config.parallel)
        .collect()
        .await;
    for found in checked {
        findings.extend(found?);
    }

    for (record, doubt) in doubts {
        // Where an object's bytes are not what was written, that says more.
        if !record.objects().iter().any(|object| findings.iter().any(|finding| finding.object == object.key)) {
            findings.push(doubt);
        }
    }

    let total = tables.len();
    let mut done = 0;
    let mut checks = stream::iter(tables.iter().copied())
        .map(|record| {
            let opened = opened.as_ref().unwrap_or(entry);
            async move { (record, table(entry, opened, record).await) }
        })
        .buffer_unordered(context.config.parallel);
    while let Some((record, found)) = checks.next().await {
        findings.extend(found?);
        done += 1;
        context.observer.progress("verify", done, total, record.table.table());
    }
    drop(checks);

    let mut verification = Verification {
        backup: manifest.name.clone(),
        object_count: manifest.objects().count(),
        size_bytes: manifest.size_bytes(),
        row_count: manifest.row_count(),
        table_count: manifest.tables().count(),
        content_read: opened.is_some(),
        state: VerifiedState::Complete,
        findings,
        whole_in: vec![],
    };
    verification.settle();
    Ok(verification)
}

/// An object's content, or what is stored of it where it is not opened.
async fn plain(entry: &Entry, opened: Option<&Entry>, object: &ObjectRecord) -> Result<Vec<Finding>, Failure> {
    match opened {
        Some(opened) => {
            let read = inspect::digests(opened.store.as_ref(), &object.key).await;
            judge_content(entry, object, read).await
        }
        None => judge_object(object, object.in_store(), inspect::digests(entry.store.as_ref(), &object.key).await),
    }
}

/// As `judge_object`. A byte that was changed where the key is wrapped looks like another's key: what is stored decides.
async fn judge_content(
    entry: &Entry,
    object: &ObjectRecord,
    read: Result<Digests, Failure>,
) -> Result<Vec<Finding>, Failure> {
    let findings = judge_object(object, &object.digests, read)?;
    if !findings.iter().any(|finding| finding.kind == FindingKind::Sealed) {
        return Ok(findings);
    }
    let stored = judge_object(object, object.in_store(), inspect::digests(entry.store.as_ref(), &object.key).await)?;
    Ok(if stored.is_empty() { findings } else { stored })
}

/// What reading an object gave, held against its record.
fn judge_object(
    object: &ObjectRecord,
    expected: &Digests,
    read: Result<Digests, Failure>,
) -> Result<Vec<Finding>, Failure> {
    let finding = |kind, message: String| Ok(vec![Finding { object: object.key.clone(), kind, message }]);
    match read {
        Ok(found) if found == *expected => Ok(vec![]),
        Ok(found) => {
            let (a, b) = (expected, &found);
            let message = if a.size_bytes == b.size_bytes {
                format!("its SHA-256 is {}, written was {}", b.sha256_hex(), a.sha256_hex())
            } else {
                format!("has {} bytes, written were {}", b.size_bytes, a.size_bytes)
            };
            finding(FindingKind::Corrupt, message)
        }
        Err(Failure::NotFound { .. }) => finding(FindingKind::Missing, "is not there".into()),
        Err(Failure::Corrupt { message, .. }) => finding(FindingKind::Corrupt, message),
        Err(Failure::Sealed { message, .. }) => finding(FindingKind::Sealed, message),
        Err(error) => Err(error),
    }
}

async fn table(entry: &Entry, opened: &Entry, record: &TableRecord) -> Result<Vec<Finding>, Failure> {
    let broken = |message: String| Finding { object: record.table.to_string(), kind: FindingKind::Corrupt, message };
    let definition = match definition(opened, &record.meta).await {
        Ok(definition) => definition,
        // Told by the check of the object itself; without a schema the rows cannot be read.
        Err(Failure::NotFound { .. } | Failure::Corrupt { .. } | Failure::Sealed { .. }) => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let schema = match Schema::from_json(&definition.schema()) {
        Ok(schema) => schema,
        Err(error) => return Ok(vec![broken(error.to_string())]),
    };
    let Some(format) = format(record) else {
        return Ok(vec![broken(format!("the format '{}' is not known", record.format))]);
    };
    let mut reader = TableReader::new(&schema, format);
    let mut findings = Vec::new();
    for object in &record.objects {
        match reader.read(opened.store.as_ref(), &object.key).await {
            Ok((digests, rows)) => {
                findings.extend(judge_object(object, &object.digests, Ok(digests))?);
                if object.row_count != Some(rows) {
                    let message = format!("holds {rows} rows, written were {}", object.row_count.unwrap_or(0));
                    findings.push(Finding { object: object.key.clone(), kind: FindingKind::Corrupt, message });
                }
            }
            Err(error) => findings.extend(judge_content(entry, object, Err(error)).await?),
        }
    }
    if !findings.is_empty() {
        return Ok(findings); // counts of what could not be read say nothing new
    }
    let read = reader.finish();
    if read.row_count != record.row_count {
        findings.push(broken(format!("its files hold {} rows, the snapshot had {}", read.row_count, record.row_count)));
    }
    if let Some(difference) = record.proof.as_ref().and_then(|proof| proof.difference(&read)) {
        findings.push(broken(format!("its files differ from the snapshot: {difference}")));
    }
    Ok(findings)
}

pub(super) fn format(record: &TableRecord) -> Option<TableFormat> {
    [TableFormat::Avro, TableFormat::Parquet].into_iter().find(|format| format.extension() == record.format)
}

/// Reads a definition, checked against its digest.
pub(super) async fn definition(entry: &Entry, object: &ObjectRecord) -> Result<Definition, Failure> {
    let bytes = checked(entry, object).await?;
    let corrupt =
        |error: serde_json::Error| Failure::Corrupt { object: object.key.clone(), message: error.to_string() };
    serde_json::from_slice(&bytes).map_err(corrupt)
}

/// Reads a small object, checked against its digest.
pub(super) async fn checked(entry: &Entry, object: &ObjectRecord) -> Result<bytes::Bytes, Failure> {
    let (bytes, _) = entry.store.get(&object.key).await?;
    if Digests::of(&bytes) != object.digests {
        let place = format!("{}/{}", entry.store.describe(), object.key);
        return Err(Failure::Corrupt { object: place, message: "is not what was written".into() });
    }
    Ok(bytes)
}
