//! The report of a backup as a document: what text and page are made of. `schemas/` has its JSON Schema.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::proven;
use crate::manifest::{Manifest, PauseRecord, StepTiming, StreamedRecord};
use crate::model::{BackupName, TierName, Totals};
use crate::plan::compare::{self, State};
use crate::plan::queries::{Expectation, ValidationQuery};

/// The version of the document.
pub const VERSION: u32 = 1;
/// Rows of a recorded answer that a report shows; the manifest has all.
const ANSWER_ROWS: usize = 12;

/// A backup, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupReport {
    pub version: u32,
    pub system: String,
    pub backup: BackupLine,
    /// What a manual backup was taken for.
    pub purpose: Option<String>,
    /// Why not all is as it should be, the gravest first.
    pub findings: Vec<String>,
    pub started_at: Timestamp,
    pub committed_at: Timestamp,
    pub steps: Vec<StepTiming>,
    /// How long ingestion stood still.
    pub pause: Option<PauseRecord>,
    pub tables: Vec<StoredTable>,
    pub view_count: usize,
    pub routine_count: usize,
    pub tabs: Vec<TabLine>,
    /// Databases, files, secrets and records of usage.
    pub sources: Vec<SourceLine>,
    pub checks: Vec<CheckLine>,
    pub copies: Vec<CopyLine>,
    /// The last proof that it restores.
    pub verified: Option<Verification>,
    /// This backup and earlier ones of its tier, the oldest first.
    pub backups: Vec<BackupLine>,
    pub run: String,
    pub notes: Vec<String>,
}

/// A backup in a few figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupLine {
    pub name: BackupName,
    pub tier: TierName,
    /// The instant of which the data is.
    pub data_of: Timestamp,
    pub size_bytes: u64,
    pub row_count: u64,
    pub commit_id: String,
    /// SHA-256 of the manifest's bytes, in hex.
    pub manifest_sha256: String,
    /// By which program it was written.
    pub tool: String,
    pub place: String,
}

/// A table of a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredTable {
    pub table: String,
    pub row_count: u64,
    /// Rows in the tier's backup before this one; absent where that had no such table.
    pub previous_row_count: Option<u64>,
    pub size_bytes: u64,
    pub file_count: usize,
    /// `avro` or `parquet`.
    pub format: String,
    /// Why not the tier's format.
    pub format_reason: Option<String>,
    /// Whether every value of every row has a part in the fingerprint that source and files agree in.
    pub proven: bool,
    pub totals: Option<Totals>,
}

/// A tab of a spreadsheet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TabLine {
    pub spreadsheet: String,
    pub tab: String,
    pub row_count: u64,
    pub column_count: u64,
}

/// A source whose data passed through the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLine {
    pub name: String,
    /// As in the configuration: `postgres`, `files`, ...
    pub kind: String,
    /// What it is a backup of, without secrets: an address, a path.
    pub origin: String,
    pub taken_at: Timestamp,
    pub items: Vec<ItemLine>,
}

/// A table, a file, a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemLine {
    pub name: String,
    pub row_count: Option<u64>,
    pub size_bytes: Option<u64>,
    /// Whether rows and figures were taken of the same state as the data; absent where there are none.
    pub proven: Option<bool>,
    pub remark: String,
}

/// What a validation query gave on the snapshots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckLine {
    pub name: String,
    pub title: String,
    pub critical: bool,
    pub state: CheckState,
    pub findings: Vec<String>,
    pub columns: Vec<String>,
    /// The first rows of the answer: texts or null.
    pub rows: Vec<Vec<Value>>,
    pub row_count: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    Passed,
    Failed,
    /// Nothing is expected of it: what a restored table gives will be held against it.
    Recorded,
}

/// A place in which the backup's objects should lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyLine {
    pub place: String,
    pub objects: usize,
    /// Objects that are missing or have changed; absent when the place cannot be read.
    pub lacking: Option<usize>,
    /// Why the place cannot be read.
    pub problem: Option<String>,
}

/// Who proved that a backup restores, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    pub at: Timestamp,
    pub by: String,
    pub how: String,
}

impl BackupLine {
    pub fn of(manifest: &Manifest, sha256: &str, place: &str) -> Self {
        Self {
            name: manifest.name.clone(),
            tier: manifest.tier.clone(),
            data_of: manifest.data_of(),
            size_bytes: manifest.size_bytes(),
            row_count: manifest.row_count(),
            commit_id: manifest.commit_id.clone(),
            manifest_sha256: sha256.into(),
            tool: manifest.tool.clone(),
            place: place.into(),
        }
    }
}

impl BackupReport {
    /// The report of a backup. `previous` is the tier's backup before it.
    pub fn of(
        (system, backup, manifest): (&str, BackupLine, &Manifest),
        previous: Option<&Manifest>,
        queries: &[ValidationQuery],
        copies: Vec<CopyLine>,
        verified: Option<Verification>,
        backups: Vec<BackupLine>,
    ) -> Self {
        let checks = checks(manifest, queries);
        Self {
            version: VERSION,
            system: system.into(),
            purpose: manifest.purpose.clone(),
            findings: findings(manifest, &checks, &copies),
            started_at: manifest.started_at,
            committed_at: manifest.committed_at,
            steps: manifest.timings.clone(),
            pause: manifest.pause.clone(),
            tables: tables(manifest, previous),
            view_count: manifest.bigquery().map(|source| source.views.len()).sum(),
            routine_count: manifest.bigquery().map(|source| source.routines.len()).sum(),
            tabs: tabs(manifest),
            sources: manifest.streamed().map(source).collect(),
            checks,
            copies,
            verified,
            backups,
            run: manifest.run.clone(),
            notes: manifest.notes.clone(),
            backup,
        }
    }

    /// Whether something is missing or wrong, not only worth a look.
    pub(super) fn broken(&self) -> bool {
        self.copies.iter().all(|copy| copy.lacking != Some(0))
    }
}

fn findings(manifest: &Manifest, checks: &[CheckLine], copies: &[CopyLine]) -> Vec<String> {
    let lacking = copies.iter().filter_map(|copy| match (copy.lacking, &copy.problem) {
        (Some(0), _) => None,
        (Some(lacking), _) => {
            Some(format!("{}: {lacking} of {} objects are missing or have changed", copy.place, copy.objects))
        }
        (None, problem) => Some(format!("{}: {}", copy.place, problem.as_deref().unwrap_or("cannot be read"))),
    });
    let failed = checks.iter().filter(|check| check.state == CheckState::Failed);
    let failed = failed.map(|check| {
        let what = check.findings.first().map_or("failed", String::as_str);
        format!("{}: {what}", if check.title.is_empty() { &check.name } else { &check.title })
    });
    lacking.chain(manifest.attention.iter().cloned()).chain(failed).collect()
}

fn tables(manifest: &Manifest, previous: Option<&Manifest>) -> Vec<StoredTable> {
    let before: BTreeMap<_, u64> = previous
        .iter()
        .flat_map(|manifest| manifest.bigquery())
        .flat_map(|source| &source.tables)
        .map(|record| (&record.table, record.row_count))
        .collect();
    let records = manifest.bigquery().flat_map(|source| &source.tables);
    let stored = |record: &crate::manifest::TableRecord| StoredTable {
        table: record.table.to_string(),
        row_count: record.row_count,
        previous_row_count: before.get(&record.table).copied(),
        size_bytes: record.objects.iter().map(|object| object.digests.size_bytes).sum(),
        file_count: record.objects.len(),
        format: record.format.clone(),
        format_reason: record.format_reason.clone(),
        proven: proven(record) == "rows and figures",
        totals: record.proof.clone().map(Totals::without_buckets),
    };
    records.map(stored).collect()
}

fn tabs(manifest: &Manifest) -> Vec<TabLine> {
    let line = |source: &crate::manifest::SheetsRecord| -> Vec<TabLine> {
        let lines = source.tabs.iter().map(|tab| TabLine {
            spreadsheet: source.title.clone(),
            tab: tab.title.clone(),
            row_count: tab.row_count,
            column_count: tab.column_count,
        });
        lines.collect()
    };
    manifest.sheets().flat_map(line).collect()
}

fn source(record: &dyn StreamedRecord) -> SourceLine {
    let item = |item: crate::manifest::Item| ItemLine {
        name: item.name,
        row_count: item.row_count,
        size_bytes: item.size_bytes,
        proven: item.proven,
        remark: item.remark,
    };
    SourceLine {
        name: record.name().into(),
        kind: record.kind().into(),
        origin: record.origin().into(),
        taken_at: record.taken_at(),
        items: record.items().into_iter().map(item).collect(),
    }
}

/// The recorded answers, held against what their queries expect today.
fn checks(manifest: &Manifest, queries: &[ValidationQuery]) -> Vec<CheckLine> {
    let cut = manifest.data_of();
    let check = |result: &crate::manifest::QueryResult| {
        let query = queries.iter().find(|query| query.name == result.name);
        let verdict = query
            .filter(|query| query.expect != Expectation::Recorded)
            .map(|query| compare::judge(query, None, result, cut));
        let state = match verdict.as_ref().map(|verdict| verdict.state) {
            Some(State::Passed) => CheckState::Passed,
            Some(State::Failed) => CheckState::Failed,
            Some(State::NotCompared | State::NotRun) | None => CheckState::Recorded,
        };
        CheckLine {
            name: result.name.clone(),
            title: query.map(|query| query.title.clone()).unwrap_or_default(),
            critical: query.is_some_and(|query| query.critical),
            state,
            findings: verdict.map(|verdict| verdict.findings).unwrap_or_default(),
            columns: result.columns.clone(),
            rows: result.rows.iter().take(ANSWER_ROWS).cloned().collect(),
            row_count: result.rows.len(),
        }
    };
    manifest.validation.iter().map(check).collect()
}
