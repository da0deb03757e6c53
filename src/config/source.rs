//! What is backed up: `[[source]]`.

use toml::{Table, Value};

use super::files::{FilesSource, read_files};
use super::postgres::{PostgresSource, read_postgres};
use super::reader::{Problems, Reader};
use super::secrets::{SecretsSource, read_secrets};
use super::sqlite::{SqliteSource, read_sqlite};
use super::usage::{UsageSource, read_usage};
use crate::model::{BackupName, DatasetId, Pattern, Period};

/// What a source can be, for messages.
const KINDS: &str = "bigquery, sheets, postgres, sqlite, files, secrets or usage";

/// Something that is backed up.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub name: String,
    pub kind: SourceKind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    BigQuery(BigQuerySource),
    Sheets(SheetsSource),
    Postgres(PostgresSource),
    Sqlite(SqliteSource),
    Files(FilesSource),
    Secrets(SecretsSource),
    Usage(UsageSource),
}

impl SourceKind {
    /// As in the configuration.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BigQuery(_) => "bigquery",
            Self::Sheets(_) => "sheets",
            Self::Postgres(_) => "postgres",
            Self::Sqlite(_) => "sqlite",
            Self::Files(_) => "files",
            Self::Secrets(_) => "secrets",
            Self::Usage(_) => "usage",
        }
    }

    /// Whether it is one of Google's services, reached as `[google]` says.
    pub const fn is_google(&self) -> bool {
        matches!(self, Self::BigQuery(_) | Self::Sheets(_) | Self::Secrets(_))
    }
}

/// A BigQuery dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct BigQuerySource {
    pub dataset: DatasetId,
    pub tables: Vec<Pattern>,
    pub exclude: Vec<Pattern>,
    /// Where snapshots are taken; made when it does not exist.
    pub snapshot_dataset: DatasetId,
    pub snapshots_kept: Period,
    pub manual_snapshots_kept: Period,
    pub fingerprint: FingerprintSetting,
}

/// Whether the fingerprint and the totals are computed in SQL on the snapshot (BigQuery bills the scan).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FingerprintSetting {
    Off,
    On,
    /// For tables of at most so many logical bytes.
    UpTo(u64),
}

/// Tabs of a Google Sheets spreadsheet.
#[derive(Debug, Clone, PartialEq)]
pub struct SheetsSource {
    pub spreadsheet: String,
    /// Empty: every tab.
    pub tabs: Vec<String>,
}

pub(super) fn read_source(path: &str, table: Table, project: Option<&str>, problems: &mut Problems) -> Option<Source> {
    let mut reader = Reader::new(path, table, problems);
    let name = reader.needed_text("name", "a short name; it becomes a folder of the backup");
    if let Some(name) = &name
        && let Err(error) = name.parse::<BackupName>()
    {
        reader.problem("name", error.to_string());
    }
    let kind = match reader.needed_text("kind", KINDS)?.as_str() {
        "bigquery" => read_bigquery(&mut reader, project).map(SourceKind::BigQuery),
        "sheets" => {
            let spreadsheet = reader.needed_text("spreadsheet", "the id in the spreadsheet's address");
            let tabs = reader.texts("tabs").unwrap_or_default();
            spreadsheet.map(|spreadsheet| SourceKind::Sheets(SheetsSource { spreadsheet, tabs }))
        }
        "postgres" => read_postgres(&mut reader).map(SourceKind::Postgres),
        "sqlite" => read_sqlite(&mut reader).map(SourceKind::Sqlite),
        "files" => read_files(&mut reader).map(SourceKind::Files),
        "secrets" => read_secrets(&mut reader, project).map(SourceKind::Secrets),
        "usage" => read_usage(&mut reader).map(SourceKind::Usage),
        other => {
            reader.problem("kind", format!("'{other}' is no kind of source; hint: {KINDS}"));
            return None; // the other keys mean nothing without a kind
        }
    };
    reader.finish();
    Some(Source { name: name?, kind: kind? })
}

fn read_bigquery(reader: &mut Reader, project: Option<&str>) -> Option<BigQuerySource> {
    let own_project = reader.text("project");
    let project = own_project.as_deref().or(project);
    let dataset = reader.needed_text("dataset", "the dataset's id");
    let snapshot_dataset = reader.text("snapshot_dataset");
    let patterns = |texts: Vec<String>| texts.iter().map(|text| Pattern::new(text)).collect::<Vec<_>>();
    let tables = patterns(reader.texts("tables").unwrap_or_else(|| vec!["*".into()]));
    let exclude = patterns(reader.texts("exclude").unwrap_or_default());
    let snapshots_kept = reader.parsed("snapshots_kept").unwrap_or(Period::days(7));
    let manual_snapshots_kept = reader.parsed("manual_snapshots_kept").unwrap_or(Period::days(90));
    let fingerprint = read_fingerprint(reader);

    let (project, dataset) = (project?, dataset?);
    let mut id = |key: &'static str, dataset: &str| match DatasetId::new(project, dataset) {
        Ok(id) => Some(id),
        Err(error) => {
            reader.problem(key, error.to_string());
            None
        }
    };
    let snapshots = snapshot_dataset.unwrap_or_else(|| format!("{dataset}_snapshots"));
    let dataset = id("dataset", &dataset)?;
    let snapshot_dataset = id("snapshot_dataset", &snapshots)?;
    if dataset == snapshot_dataset {
        reader.problem(
            "snapshot_dataset",
            "must be another dataset: snapshots beside the tables would be lost with them",
        );
        return None;
    }
    Some(BigQuerySource {
        dataset,
        tables,
        exclude,
        snapshot_dataset,
        snapshots_kept,
        manual_snapshots_kept,
        fingerprint,
    })
}

fn read_fingerprint(reader: &mut Reader) -> FingerprintSetting {
    match reader.take("fingerprint") {
        None => FingerprintSetting::On,
        Some(Value::String(text)) if text == "on" => FingerprintSetting::On,
        Some(Value::String(text)) if text == "off" => FingerprintSetting::Off,
        Some(Value::Integer(bytes)) if bytes >= 0 => FingerprintSetting::UpTo(bytes.unsigned_abs()),
        Some(_) => {
            reader.problem("fingerprint", "must be \"on\", \"off\" or a number of bytes");
            FingerprintSetting::On
        }
    }
}
