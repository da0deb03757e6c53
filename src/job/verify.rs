//! Verify: every byte and row of a stored backup against its manifest.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, stream};
use serde::Serialize;

use super::inspect::{self, TableReader};
use super::{Context, JobError, copies};
use crate::catalog::{Entry, MANIFEST, STATEMENT};
use crate::config::TableFormat;
use crate::manifest::{BigQueryRecord, ObjectRecord, TableRecord};
use crate::model::schema::Schema;
use crate::model::{BackupName, Failure};
use crate::plan::backup::folder;
use crate::source::bigquery::Definition;

/// Outcome of a verification.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    pub backup: BackupName,
    pub object_count: usize,
    pub size_bytes: u64,
    pub row_count: u64,
    pub table_count: usize,
    pub findings: Vec<Finding>,
    /// Where something is wrong: the other places that hold all of it, by size and checksum.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub whole_in: Vec<String>,
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
}

impl Verification {
    pub fn passed(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Reads every object of a backup, and what is stated of its manifest: digests, rows, fingerprints, totals.
///
/// # Errors
/// When the store cannot be read at all; what is wrong with the backup are findings.
pub async fn run(context: &Context, entry: &Entry) -> Result<Verification, JobError> {
    let mut verification = of_bytes(context, entry).await?;
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
pub(super) async fn of_bytes(context: &Context, entry: &Entry) -> Result<Verification, JobError> {
    let manifest = &entry.manifest;
    let mut findings = Vec::new();
    let tables: Vec<(&BigQueryRecord, &TableRecord)> =
        manifest.bigquery().flat_map(|source| source.tables.iter().map(move |table| (source, table))).collect();
    let in_tables: HashSet<&str> =
        tables.iter().flat_map(|(_, table)| &table.objects).map(|object| object.key.as_str()).collect();

    // What is no table file: definitions, sheets.
    let others: Vec<&ObjectRecord> = manifest.objects().filter(|o| !in_tables.contains(o.key.as_str())).collect();
    let checked: Vec<Result<Vec<Finding>, Failure>> = stream::iter(others)
        .map(|object| plain(entry, object))
        .buffer_unordered(context.config.parallel)
        .collect()
        .await;
    for found in checked {
        findings.extend(found?);
    }

    let total = tables.len();
    let mut done = 0;
    let mut checks = stream::iter(tables.iter().map(|(_, record)| *record))
        .map(|record| async move { (record, table(entry, record).await) })
        .buffer_unordered(context.config.parallel);
    while let Some((record, found)) = checks.next().await {
        findings.extend(found?);
        done += 1;
        context.observer.progress("verify", done, total, record.table.table());
    }
    drop(checks);

    findings.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(Verification {
        backup: manifest.name.clone(),
        object_count: manifest.objects().count(),
        size_bytes: manifest.size_bytes(),
        row_count: manifest.row_count(),
        table_count: total,
        findings,
        whole_in: vec![],
    })
}

async fn plain(entry: &Entry, object: &ObjectRecord) -> Result<Vec<Finding>, Failure> {
    judge_object(object, inspect::digests(entry.store.as_ref(), &object.key).await)
}

/// What reading an object gave, held against its record.
fn judge_object(object: &ObjectRecord, read: Result<crate::model::Digests, Failure>) -> Result<Vec<Finding>, Failure> {
    let finding = |kind, message: String| Ok(vec![Finding { object: object.key.clone(), kind, message }]);
    match read {
        Ok(found) if found == object.digests => Ok(vec![]),
        Ok(found) => {
            let (a, b) = (&object.digests, &found);
            let message = if a.size_bytes == b.size_bytes {
                format!("its SHA-256 is {}, written was {}", b.sha256_hex(), a.sha256_hex())
            } else {
                format!("has {} bytes, written were {}", b.size_bytes, a.size_bytes)
            };
            finding(FindingKind::Corrupt, message)
        }
        Err(Failure::NotFound { .. }) => finding(FindingKind::Missing, "is not there".into()),
        Err(Failure::Corrupt { message, .. }) => finding(FindingKind::Corrupt, message),
        Err(error) => Err(error),
    }
}

async fn table(entry: &Entry, record: &TableRecord) -> Result<Vec<Finding>, Failure> {
    let broken = |message: String| Finding { object: record.table.to_string(), kind: FindingKind::Corrupt, message };
    let definition = match definition(entry, &record.meta).await {
        Ok(definition) => definition,
        // Told by the check of the object itself; without a schema the rows cannot be read.
        Err(Failure::NotFound { .. } | Failure::Corrupt { .. }) => return Ok(vec![]),
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
        match reader.read(entry.store.as_ref(), &object.key).await {
            Ok((digests, rows)) => {
                findings.extend(judge_object(object, Ok(digests))?);
                if object.row_count != Some(rows) {
                    let message = format!("holds {rows} rows, written were {}", object.row_count.unwrap_or(0));
                    findings.push(Finding { object: object.key.clone(), kind: FindingKind::Corrupt, message });
                }
            }
            Err(error) => findings.extend(judge_object(object, Err(error))?),
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
    if crate::model::Digests::of(&bytes) != object.digests {
        let place = format!("{}/{}", entry.store.describe(), object.key);
        return Err(Failure::Corrupt { object: place, message: "is not what was written".into() });
    }
    Ok(bytes)
}
