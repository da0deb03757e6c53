//! The types of the record. FORMAT.md describes their JSON.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::files::FilesRecord;
use super::postgres::PostgresRecord;
use super::secrets::SecretsRecord;
use super::sqlite::SqliteRecord;
use super::streamed::StreamedRecord;
use super::usage::UsageRecord;
use crate::model::{BackupName, DatasetId, Digests, Encoding, Kind, Recipient, TableId, Terms, TierName, Totals};

/// A committed backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this record; see [`super::FORMAT`].
    pub format: u32,
    /// The configuration's `name`. Where it is given there is a statement beside the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    pub name: BackupName,
    pub tier: TierName,
    /// What a manual backup was taken for; `None` for one by schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// What else is said of a backup by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// Random, made by the writer: tells its own manifest from another's after a lost reply.
    pub commit_id: String,
    pub tool: String,
    pub run: String,
    /// The lease's generation under which the backup was written.
    pub generation: u64,
    pub started_at: Timestamp,
    /// The one instant of which every table was snapshotted.
    pub cut_at: Option<Timestamp>,
    pub committed_at: Timestamp,
    pub sources: Vec<SourceRecord>,
    /// Results of the validation queries, computed on the snapshots.
    pub validation: Vec<QueryResult>,
    pub pause: Option<PauseRecord>,
    pub timings: Vec<StepTiming>,
    /// The backup committed before this one in the same tier.
    pub previous: Option<Previous>,
    /// What a person should know: formats chosen, things taken as definitions only.
    pub notes: Vec<String>,
    /// What somebody must look at: a source that was full in the last backup and is empty in this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attention: Vec<String>,
    /// Who can open its objects; `None`: they are not sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing: Option<SealingRecord>,
}

/// Who can open a sealed backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealingRecord {
    /// Everybody who can, identities that Cloud KMS wraps among them.
    pub recipients: Vec<Recipient>,
    /// The backup's own identity, which only Cloud KMS can unwrap, and those of backups whose objects it refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kms: Vec<WrappedIdentity>,
}

/// An identity that was drawn for one backup, encrypted by Cloud KMS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedIdentity {
    /// `projects/P/locations/L/keyRings/R/cryptoKeys/K`.
    pub key: String,
    /// The backup for which it was drawn; Cloud KMS unwraps it under that name only.
    pub backup: BackupName,
    pub recipient: Recipient,
    /// The identity's text, encrypted; base64.
    pub ciphertext: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    pub name: BackupName,
    /// SHA-256 of its manifest's bytes, in hex.
    pub sha256: String,
}

/// A source's part of a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SourceRecord {
    BigQuery(BigQueryRecord),
    Sheets(SheetsRecord),
    Postgres(Box<PostgresRecord>),
    Sqlite(SqliteRecord),
    Files(FilesRecord),
    Secrets(SecretsRecord),
    Usage(UsageRecord),
}

impl SourceRecord {
    /// The source's name in the configuration.
    pub fn name(&self) -> &str {
        match self {
            Self::BigQuery(source) => &source.name,
            Self::Sheets(source) => &source.name,
            other => other.streamed().map_or("", StreamedRecord::name),
        }
    }

    /// What a source holds whose data passed through this process; `None` where Google's services wrote it.
    pub fn streamed(&self) -> Option<&dyn StreamedRecord> {
        match self {
            Self::BigQuery(_) | Self::Sheets(_) => None,
            Self::Postgres(source) => Some(source.as_ref()),
            Self::Sqlite(source) => Some(source),
            Self::Files(source) => Some(source),
            Self::Secrets(source) => Some(source),
            Self::Usage(source) => Some(source),
        }
    }

    /// Every object that it consists of.
    pub fn objects(&self) -> Vec<&ObjectRecord> {
        match self {
            Self::BigQuery(source) => std::iter::once(&source.meta)
                .chain(source.tables.iter().flat_map(|t| std::iter::once(&t.meta).chain(&t.objects)))
                .chain(source.views.iter().map(|v| &v.meta))
                .chain(source.routines.iter().map(|r| &r.meta))
                .collect(),
            Self::Sheets(source) => source.tabs.iter().flat_map(|tab| [&tab.cells, &tab.csv, &tab.parquet]).collect(),
            other => other.streamed().map(StreamedRecord::objects).unwrap_or_default(),
        }
    }

    /// Its tables whose rows are files that can be read: of a dataset, or exported by a database.
    pub fn tables(&self) -> &[TableRecord] {
        match self {
            Self::BigQuery(source) => &source.tables,
            Self::Sheets(_) => &[],
            other => other.streamed().map(StreamedRecord::tables).unwrap_or_default(),
        }
    }

    /// Rows of all that holds rows.
    pub fn row_count(&self) -> u64 {
        match self {
            Self::BigQuery(source) => source.tables.iter().map(|table| table.row_count).sum(),
            Self::Sheets(source) => source.tabs.iter().map(|tab| tab.row_count).sum(),
            other => other.streamed().map(rows).unwrap_or_default(),
        }
    }
}

fn rows(source: &dyn StreamedRecord) -> u64 {
    source.items().iter().filter_map(|item| item.row_count).sum()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BigQueryRecord {
    pub name: String,
    pub dataset: DatasetId,
    pub location: String,
    /// The dataset's whole resource.
    pub meta: ObjectRecord,
    pub tables: Vec<TableRecord>,
    /// In the order in which they can be made again.
    pub views: Vec<ViewRecord>,
    pub routines: Vec<RoutineRecord>,
}

/// A table with its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableRecord {
    pub table: TableId,
    /// BigQuery's; other databases have none that last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<TableId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_expires_at: Option<Timestamp>,
    /// The table's whole resource, row access policies and IAM policy at the cut.
    pub meta: ObjectRecord,
    /// Rows of the snapshot, as BigQuery reports them.
    pub row_count: u64,
    /// Logical bytes of the snapshot, as BigQuery reports them.
    pub logical_bytes: u64,
    /// `avro` or `parquet`.
    pub format: String,
    /// Why not the tier's format.
    pub format_reason: Option<String>,
    pub objects: Vec<ObjectRecord>,
    /// How many partitions the table had at the cut; absent when it is not partitioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_count: Option<u64>,
    /// Counted and summed by the database on the snapshot; absent when the setting is off.
    pub proof: Option<Totals>,
}

/// A view, materialized view or external table: its definition is all there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewRecord {
    pub view: TableId,
    /// `VIEW`, `MATERIALIZED_VIEW` or `EXTERNAL`.
    pub kind: String,
    pub meta: ObjectRecord,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutineRecord {
    pub name: String,
    pub meta: ObjectRecord,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SheetsRecord {
    pub name: String,
    pub spreadsheet: String,
    pub title: String,
    pub taken_at: Timestamp,
    pub tabs: Vec<TabRecord>,
}

/// A tab of a spreadsheet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TabRecord {
    pub title: String,
    pub row_count: u64,
    pub column_count: u64,
    /// The raw cells with their types and formulas, as JSON: what a restore writes back.
    pub cells: ObjectRecord,
    /// The same values for people and queries.
    pub csv: ObjectRecord,
    pub parquet: ObjectRecord,
}

/// An object of the vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// The key below the destination's root.
    pub key: String,
    #[serde(flatten)]
    pub digests: Digests,
    /// Rows in the object, when it holds rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_count: Option<u64>,
    /// What lies in the store, where it is not the content itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Box<StoredForm>>,
}

/// An object's bytes as they lie in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredForm {
    #[serde(flatten)]
    pub digests: Digests,
    /// What was done to the content, in this order.
    pub encodings: Vec<Encoding>,
}

impl ObjectRecord {
    /// The digests of what lies in the store: checked without any key.
    pub fn in_store(&self) -> &Digests {
        self.stored.as_ref().map_or(&self.digests, |stored| &stored.digests)
    }

    pub fn is_sealed(&self) -> bool {
        self.stored.is_some()
    }
}

/// The recorded result of a validation query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryResult {
    pub name: String,
    pub columns: Vec<String>,
    /// Cells as BigQuery's REST API gives them: texts or null.
    pub rows: Vec<Vec<Value>>,
}

/// How long ingestion stood still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRecord {
    pub jobs: Vec<String>,
    pub paused_at: Timestamp,
    pub resumed_at: Timestamp,
}

/// When a step of the saga ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTiming {
    pub step: String,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
}

impl Manifest {
    /// Every object that the backup consists of, beside the manifest.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRecord> {
        self.sources.iter().flat_map(SourceRecord::objects)
    }

    /// Every table whose rows are files that can be read.
    pub fn tables(&self) -> impl Iterator<Item = &TableRecord> {
        self.sources.iter().flat_map(SourceRecord::tables)
    }

    /// The backup's own folder below a destination's root, as its objects' keys begin, and those of other backups whose
    /// objects it is made of.
    pub fn folders(&self) -> BTreeSet<String> {
        self.objects().filter_map(|object| folder_of(&object.key)).map(String::from).collect()
    }

    pub fn bigquery(&self) -> impl Iterator<Item = &BigQueryRecord> {
        self.sources.iter().filter_map(|source| match source {
            SourceRecord::BigQuery(source) => Some(source),
            _ => None,
        })
    }

    pub fn sheets(&self) -> impl Iterator<Item = &SheetsRecord> {
        self.sources.iter().filter_map(|source| match source {
            SourceRecord::Sheets(source) => Some(source),
            _ => None,
        })
    }

    /// What sources hold whose data passed through this process.
    pub fn streamed(&self) -> impl Iterator<Item = &dyn StreamedRecord> {
        self.sources.iter().filter_map(SourceRecord::streamed)
    }

    /// What kind of backup by hand it is; `None` for one by schedule.
    pub fn kind(&self) -> Option<Kind> {
        self.terms.as_ref().map(|terms| terms.kind).or(self.purpose.as_ref().map(|_| Kind::Manual))
    }

    /// The instant of which the data is.
    pub fn data_of(&self) -> Timestamp {
        self.cut_at.unwrap_or(self.started_at)
    }

    pub fn size_bytes(&self) -> u64 {
        self.objects().map(|object| object.digests.size_bytes).sum()
    }

    pub fn row_count(&self) -> u64 {
        let sources = self.sources.iter().filter(|source| !matches!(source, SourceRecord::Sheets(_)));
        sources.map(SourceRecord::row_count).sum()
    }
}

/// The backup's folder that a key lies in: `{tier}/{day}/{backup}`.
pub fn folder_of(key: &str) -> Option<&str> {
    let (at, _) = key.match_indices('/').nth(2)?;
    Some(&key[..at])
}

impl PauseRecord {
    pub fn duration(&self) -> jiff::SignedDuration {
        self.resumed_at.duration_since(self.paused_at)
    }
}
