//! What exists: records of datasets, tables, their versions, the deleted ones; read and changed in transactions.
//!
//! Knows no HTTP and no rows: a table's contents are names of data files.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::contents::DataFile;
use super::names::{At, TableRef};
use crate::core::{ApiError, Db, Tx};

/// How long deleted tables and datasets can be brought back, and the longest time travel, in milliseconds.
pub const TIME_TRAVEL_MS: i64 = 7 * 86_400_000;

const DATASETS: &str = "bq.datasets";
const TABLES: &str = "bq.tables";
const DELETED_TABLES: &str = "bq.deletedTables";
const DELETED_DATASETS: &str = "bq.deletedDatasets";

/// A dataset.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetRecord {
    /// All that a client wrote, in the form in which it is returned.
    pub resource: Map<String, Value>,
    pub created_ms: i64,
    pub modified_ms: i64,
    #[serde(default)]
    pub revision: u64,
    #[serde(default)]
    pub iam: Option<Value>,
}

/// A table, view or snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableRecord {
    /// All that a client wrote, in the form in which it is returned.
    pub resource: Map<String, Value>,
    pub created_ms: i64,
    pub modified_ms: i64,
    #[serde(default)]
    pub revision: u64,
    /// The contents through time, oldest first.
    #[serde(default)]
    pub versions: Vec<Version>,
    /// `snapshotDefinition` or `cloneDefinition`, with `baseTableReference` and its time.
    #[serde(default)]
    pub snapshot: Option<Origin>,
    #[serde(default)]
    pub clone: Option<Origin>,
    #[serde(default)]
    pub policies: Vec<Policy>,
    #[serde(default)]
    pub iam: Option<Value>,
}

/// Where a snapshot or clone came from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Origin {
    pub base: TableRef,
    pub time_ms: i64,
}

/// A row access policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    pub id: String,
    pub filter: String,
    pub grantees: Vec<String>,
    pub created_ms: i64,
    pub modified_ms: i64,
}

/// One commit to a table: files added, or (with `replace`) all that there are from then on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Version {
    /// When it was committed, microseconds since the epoch; strictly increasing within a table.
    pub us: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<DataFile>,
    /// The schema from then on, where it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

/// Contents and schema at an instant.
#[derive(Debug, Clone)]
pub struct Moment {
    pub schema: Value,
    /// In the order of their commits, with the time of each.
    pub files: Vec<(DataFile, i64)>,
    /// The instant that was asked for, microseconds since the epoch.
    pub at_us: i64,
}

impl Moment {
    /// The files whose rows have left the streaming buffer.
    #[must_use]
    pub fn settled(mut self) -> Self {
        let at = self.at_us;
        self.files.retain(|(f, _)| f.buffered_until_us <= at);
        self
    }

    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|(f, _)| f.rows).sum()
    }

    /// Logical bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(f, _)| f.bytes).sum()
    }
}

/// The text of the resource under `key`.
pub fn text<'a>(resource: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    resource.get(key).and_then(Value::as_str).filter(|t| !t.is_empty())
}

impl DatasetRecord {
    pub fn location(&self) -> &str {
        text(&self.resource, "location").unwrap_or("US")
    }

    /// How far back time travel reads, in milliseconds.
    pub fn time_travel_ms(&self) -> i64 {
        self.number("maxTimeTravelHours").map_or(TIME_TRAVEL_MS, |hours| hours * 3_600_000)
    }

    /// A number of the resource, which may stand there as text.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.resource.get(key).and_then(super::schema::int)
    }
}

impl TableRecord {
    /// A new table without contents.
    pub fn new(resource: Map<String, Value>, now_us: i64) -> Self {
        let schema = resource.get("schema").cloned();
        Self {
            resource,
            created_ms: now_us.div_euclid(1000),
            modified_ms: now_us.div_euclid(1000),
            revision: 0,
            versions: vec![Version { us: now_us, replace: true, files: vec![], schema }],
            snapshot: None,
            clone: None,
            policies: vec![],
            iam: None,
        }
    }

    /// `TABLE`, `VIEW`, `MATERIALIZED_VIEW`, `SNAPSHOT` or `EXTERNAL`.
    pub fn kind(&self) -> &'static str {
        if self.snapshot.is_some() {
            "SNAPSHOT"
        } else if self.resource.contains_key("view") {
            "VIEW"
        } else if self.resource.contains_key("materializedView") {
            "MATERIALIZED_VIEW"
        } else if self.resource.contains_key("externalDataConfiguration") {
            "EXTERNAL"
        } else {
            "TABLE"
        }
    }

    /// Whether it stores rows of its own.
    pub fn has_rows(&self) -> bool {
        matches!(self.kind(), "TABLE" | "SNAPSHOT")
    }

    /// The schema now.
    pub fn schema(&self) -> Value {
        self.resource.get("schema").cloned().unwrap_or_else(|| json!({"fields": []}))
    }

    /// When it stops to exist, milliseconds since the epoch.
    pub fn expires_ms(&self) -> Option<i64> {
        self.resource.get("expirationTime").and_then(super::schema::int).filter(|ms| *ms > 0)
    }

    /// Contents at `at_us`; `None` when it lies before the first version that is kept.
    pub fn moment(&self, at_us: i64) -> Option<Moment> {
        let upto = self.versions.partition_point(|v| v.us <= at_us);
        let past = &self.versions[..upto];
        let base = past.iter().rposition(|v| v.replace)?;
        let files = past[base..].iter().flat_map(|v| v.files.iter().map(move |f| (f.clone(), v.us))).collect();
        let schema = past.iter().rev().find_map(|v| v.schema.clone()).unwrap_or_else(|| self.schema());
        Some(Moment { schema, files, at_us })
    }

    /// Contents now.
    pub fn current(&self, now_us: i64) -> Moment {
        let at = self.versions.last().map_or(now_us, |v| v.us.max(now_us));
        let moment = self.moment(at);
        // What has left the buffer is judged by the clock, even when it was set back.
        moment.map_or(Moment { schema: self.schema(), files: vec![], at_us: now_us }, |m| Moment { at_us: now_us, ..m })
    }

    /// The time of the last commit.
    pub fn version_us(&self) -> i64 {
        self.versions.last().map_or(0, |v| v.us)
    }

    /// Adds a version and forgets those beyond time travel.
    pub fn commit(&mut self, now_us: i64, replace: bool, files: Vec<DataFile>, schema: Option<Value>) {
        let us = now_us.max(self.version_us() + 1);
        if let Some(schema) = &schema {
            self.resource.insert("schema".into(), schema.clone());
        }
        self.versions.push(Version { us, replace, files, schema });
        self.modified_ms = us.div_euclid(1000).max(self.modified_ms);
        let horizon = now_us - TIME_TRAVEL_MS * 1000;
        let old = self.versions.partition_point(|v| v.us <= horizon);
        if let Some(base) = self.versions[..old].iter().rposition(|v| v.replace) {
            let schema = self.versions[..=base].iter().rev().find_map(|v| v.schema.clone());
            self.versions.drain(..base);
            if let Some(first) = self.versions.first_mut() {
                first.schema = schema;
            }
        }
    }

    /// Files of all versions.
    pub fn all_files(&self) -> impl Iterator<Item = &DataFile> {
        self.versions.iter().flat_map(|v| v.files.iter())
    }
}

/// A deleted table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tombstone {
    pub record: TableRecord,
    pub deleted_ms: i64,
    /// Set when the table went with its dataset.
    #[serde(default)]
    pub with_dataset: bool,
}

/// A deleted dataset.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DatasetTombstone {
    pub record: DatasetRecord,
    pub deleted_ms: i64,
}

fn decode<T: for<'a> Deserialize<'a>>(value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value).map_err(|e| ApiError::internal(format!("a stored BigQuery record is damaged: {e}")))
}

fn encode<T: Serialize>(record: &T) -> Result<Value, ApiError> {
    serde_json::to_value(record).map_err(|e| ApiError::internal(format!("cannot encode a BigQuery record: {e}")))
}

/// The key of a dataset's record; followed by `/` it is the prefix of its tables.
pub fn dataset_key(project: &str, dataset: &str) -> String {
    format!("{project}/{dataset}")
}

/// # Errors
/// When the database fails.
pub fn dataset(db: &Db, project: &str, id: &str) -> Result<Option<DatasetRecord>, ApiError> {
    db.get(DATASETS, &dataset_key(project, id))?.map(decode).transpose()
}

/// Changes a dataset, or makes it: `change` gets what is there.
///
/// # Errors
/// What `change` says, or the database.
pub fn change_dataset<R>(
    db: &Db,
    project: &str,
    id: &str,
    change: impl FnOnce(Option<DatasetRecord>) -> Result<(DatasetRecord, R), ApiError>,
) -> Result<R, ApiError> {
    let key = dataset_key(project, id);
    db.transaction(|tx| {
        let before = tx.get(DATASETS, &key)?.map(decode).transpose()?;
        let (after, result) = change(before)?;
        tx.put(DATASETS, &key, &encode(&after)?)?;
        Ok(result)
    })
}

/// A page of datasets: ids after `after`.
///
/// # Errors
/// When the database fails.
pub fn list_datasets(
    db: &Db,
    project: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, DatasetRecord)>, ApiError> {
    let prefix = format!("{project}/");
    let after = after.map(|id| format!("{prefix}{id}"));
    let rows = db.scan(DATASETS, &prefix, after.as_deref(), limit)?;
    rows.into_iter().map(|(key, value)| Ok((key[prefix.len()..].to_owned(), decode(value)?))).collect()
}

/// Every dataset of every project.
///
/// # Errors
/// When the database fails.
pub fn all_datasets(db: &Db) -> Result<Vec<(String, String, DatasetRecord)>, ApiError> {
    let rows = db.scan(DATASETS, "", None, usize::MAX)?;
    rows.into_iter()
        .filter_map(|(key, value)| {
            let (project, id) = key.split_once('/')?;
            Some(decode(value).map(|record| (project.to_owned(), id.to_owned(), record)))
        })
        .collect()
}

/// # Errors
/// When the database fails.
pub fn table(db: &Db, table: &TableRef) -> Result<Option<TableRecord>, ApiError> {
    db.get(TABLES, &table.key())?.map(decode).transpose()
}

/// A page of a dataset's tables: ids after `after`.
///
/// # Errors
/// When the database fails.
pub fn list_tables(
    db: &Db,
    project: &str,
    dataset: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, TableRecord)>, ApiError> {
    let prefix = format!("{}/", dataset_key(project, dataset));
    let after = after.map(|id| format!("{prefix}{id}"));
    let rows = db.scan(TABLES, &prefix, after.as_deref(), limit)?;
    rows.into_iter().map(|(key, value)| Ok((key[prefix.len()..].to_owned(), decode(value)?))).collect()
}

/// What a change makes of a table's record.
pub enum Change<R> {
    Put(Box<TableRecord>, R),
    /// The table ceases to exist; it can be reached by time travel.
    Delete(R),
    Keep(R),
}

/// Changes, makes or deletes a table: `change` gets what is there. `revision` is counted up here.
///
/// # Errors
/// `notFound` when the dataset does not exist; what `change` says; the database.
pub fn change_table<R>(
    db: &Db,
    table: &TableRef,
    now_ms: i64,
    change: impl FnOnce(Option<TableRecord>) -> Result<Change<R>, ApiError>,
) -> Result<R, ApiError> {
    db.transaction(|tx| {
        if tx.get(DATASETS, &dataset_key(&table.project, &table.dataset))?.is_none() {
            return Err(ApiError::not_found(format!("Not found: Dataset {}:{}", table.project, table.dataset)));
        }
        let mut before: Option<TableRecord> = tx.get(TABLES, &table.key())?.map(decode).transpose()?;
        if let Some(expired) = before.as_ref().and_then(TableRecord::expires_ms).filter(|ms| *ms <= now_ms) {
            bury(tx, table, before.take(), expired, false)?;
        }
        let revision = before.as_ref().map_or(0, |r| r.revision);
        let old = before.clone();
        match change(before)? {
            Change::Keep(result) => Ok(result),
            Change::Delete(result) => {
                bury(tx, table, old, now_ms, false)?;
                Ok(result)
            }
            Change::Put(mut record, result) => {
                // A table that was replaced by a new one remains reachable by time travel.
                if old.as_ref().is_some_and(|o| o.created_ms != record.created_ms) {
                    bury(tx, table, old, now_ms, false)?;
                }
                record.revision = revision + 1;
                tx.put(TABLES, &table.key(), &encode(&record)?)?;
                Ok(result)
            }
        }
    })
}

fn bury(
    tx: &Tx<'_>,
    table: &TableRef,
    record: Option<TableRecord>,
    deleted_ms: i64,
    with_dataset: bool,
) -> Result<(), ApiError> {
    let Some(record) = record else { return Ok(()) };
    tx.delete(TABLES, &table.key())?;
    let stone = Tombstone { record, deleted_ms, with_dataset };
    let mut key = format!("{}/{deleted_ms:015}", table.key());
    while tx.get(DELETED_TABLES, &key)?.is_some() {
        key.push('+');
    }
    tx.put(DELETED_TABLES, &key, &encode(&stone)?)
}

/// The deleted tables of that name, the latest last.
///
/// # Errors
/// When the database fails.
pub fn tombstones(db: &Db, table: &TableRef) -> Result<Vec<Tombstone>, ApiError> {
    let rows = db.scan(DELETED_TABLES, &format!("{}/", table.key()), None, usize::MAX)?;
    rows.into_iter().map(|(_, value)| decode(value)).collect()
}

/// Deletes a dataset with its tables.
///
/// # Errors
/// `notFound`; `resourceInUse` when it has tables and `contents` is false.
pub fn delete_dataset(db: &Db, project: &str, id: &str, contents: bool, now_ms: i64) -> Result<(), ApiError> {
    let key = dataset_key(project, id);
    db.transaction(|tx| {
        let Some(value) = tx.get(DATASETS, &key)? else {
            return Err(ApiError::not_found(format!("Not found: Dataset {project}:{id}")));
        };
        let prefix = format!("{key}/");
        let tables = tx.scan(TABLES, &prefix, None, usize::MAX)?;
        let mut buried = vec![];
        for (table_key, value) in tables {
            let record: TableRecord = decode(value)?;
            let expired = record.expires_ms().filter(|ms| *ms <= now_ms);
            if expired.is_none() && !contents {
                return Err(ApiError::new(400, "resourceInUse", format!("Dataset {project}:{id} is still in use")));
            }
            buried.push((TableRef::new(project, id, &table_key[prefix.len()..]), record, expired));
        }
        let routines = tx.scan(super::routines::SPACE, &prefix, None, usize::MAX)?;
        if !routines.is_empty() && !contents {
            return Err(ApiError::new(400, "resourceInUse", format!("Dataset {project}:{id} is still in use")));
        }
        for (key, _) in routines {
            tx.delete(super::routines::SPACE, &key)?;
        }
        for (table, record, expired) in buried {
            bury(tx, &table, Some(record), expired.unwrap_or(now_ms), expired.is_none())?;
        }
        tx.delete(DATASETS, &key)?;
        let stone = DatasetTombstone { record: decode(value)?, deleted_ms: now_ms };
        tx.put(DELETED_DATASETS, &format!("{key}/{now_ms:015}"), &encode(&stone)?)
    })
}

/// Brings a deleted dataset back, with the tables that went with it.
///
/// # Errors
/// `notFound` when none was deleted within time travel at or before `at_ms`; `duplicate` when the name is in use.
pub fn undelete_dataset(db: &Db, project: &str, id: &str, at_ms: Option<i64>, now_ms: i64) -> Result<(), ApiError> {
    let key = dataset_key(project, id);
    db.transaction(|tx| {
        if tx.get(DATASETS, &key)?.is_some() {
            return Err(ApiError::duplicate(format!("Already Exists: Dataset {project}:{id}")));
        }
        let prefix = format!("{key}/");
        let mut found = None;
        for (stone_key, value) in tx.scan(DELETED_DATASETS, &prefix, None, usize::MAX)? {
            let stone: DatasetTombstone = decode(value)?;
            if stone.deleted_ms >= now_ms - TIME_TRAVEL_MS && at_ms.is_none_or(|at| stone.deleted_ms <= at) {
                found = Some((stone_key, stone));
            }
        }
        let Some((stone_key, stone)) = found else {
            return Err(ApiError::not_found(format!("Not found: Dataset {project}:{id}")));
        };
        tx.delete(DELETED_DATASETS, &stone_key)?;
        tx.put(DATASETS, &key, &encode(&stone.record)?)?;
        for (table_stone_key, value) in tx.scan(DELETED_TABLES, &prefix, None, usize::MAX)? {
            let table: Tombstone = decode(value)?;
            let name = table_stone_key[prefix.len()..].split('/').next().unwrap_or_default();
            if table.with_dataset && table.deleted_ms == stone.deleted_ms {
                tx.put(TABLES, &format!("{prefix}{name}"), &encode(&table.record)?)?;
                tx.delete(DELETED_TABLES, &table_stone_key)?;
            }
        }
        Ok(())
    })
}

/// Turns tables that have expired into deleted ones.
///
/// # Errors
/// When the database fails.
pub fn bury_expired(db: &Db, now_ms: i64) -> Result<(), ApiError> {
    for (key, value) in db.scan(TABLES, "", None, usize::MAX)? {
        let mut parts = key.splitn(3, '/');
        let (Some(project), Some(dataset), Some(table)) = (parts.next(), parts.next(), parts.next()) else { continue };
        if decode::<TableRecord>(value)?.expires_ms().is_some_and(|ms| ms <= now_ms) {
            // `change_table` buries what has expired before it looks.
            change_table(db, &TableRef::new(project, dataset, table), now_ms, |_| Ok(Change::Keep(())))?;
        }
    }
    Ok(())
}

/// Names of all data files that time travel may still read; forgets tombstones that it no longer may.
///
/// # Errors
/// When the database fails.
pub fn live_files(db: &Db, now_ms: i64) -> Result<std::collections::HashSet<String>, ApiError> {
    let mut live = std::collections::HashSet::new();
    for (_, value) in db.scan(TABLES, "", None, usize::MAX)? {
        live.extend(decode::<TableRecord>(value)?.all_files().map(|f| f.name.clone()));
    }
    for (key, value) in db.scan(DELETED_TABLES, "", None, usize::MAX)? {
        let stone: Tombstone = decode(value)?;
        if stone.deleted_ms < now_ms - TIME_TRAVEL_MS {
            db.delete(DELETED_TABLES, &key)?;
        } else {
            live.extend(stone.record.all_files().map(|f| f.name.clone()));
        }
    }
    Ok(live)
}

/// The instant of a decorator, microseconds since the epoch; the last microsecond of its millisecond.
///
/// # Errors
/// `invalid` when it lies in the future or beyond time travel.
pub fn instant_us(at: At, table: &TableRef, now_us: i64, window_ms: i64) -> Result<i64, ApiError> {
    let now_ms = now_us.div_euclid(1000);
    let oldest = now_ms - window_ms;
    let ms = match at {
        At::Oldest => return Ok(oldest * 1000),
        At::Ms(ms) => ms,
        At::Ago(ms) => now_ms - ms,
    };
    if ms > now_ms {
        return Err(ApiError::invalid(format!(
            "Invalid snapshot time {ms} for Table {table}@{ms}. Cannot read a time in the future."
        )));
    }
    if ms < oldest {
        return Err(ApiError::invalid(format!(
            "Invalid snapshot time {ms} for Table {table}@{ms}. Cannot read before {oldest}."
        )));
    }
    Ok(ms * 1000 + 999)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, rows: u64, until: i64) -> DataFile {
        DataFile { name: name.into(), rows, bytes: rows, buffered_until_us: until }
    }

    #[test]
    fn a_moment_sees_what_was_committed_by_then() {
        let mut table = TableRecord::new(Map::new(), 1_000);
        table.commit(2_000, false, vec![file("a", 1, 0)], None);
        table.commit(3_000, false, vec![file("b", 2, 5_000)], None);
        table.commit(4_000, true, vec![file("c", 4, 0)], Some(json!({"fields":[{"name":"x"}]})));
        assert!(table.moment(999).is_none());
        let rows = |us| table.moment(us).unwrap().rows();
        assert_eq!([rows(1_000), rows(2_500), rows(3_000), rows(4_000)], [0, 1, 3, 4]);
        assert_eq!(table.moment(3_500).unwrap().settled().rows(), 1);
        assert_eq!(table.moment(3_500).unwrap().schema, table.moment(1_000).unwrap().schema);
        assert_eq!(table.current(9_000).schema["fields"][0]["name"], "x");
        // The clock was set back: commits still follow each other.
        table.commit(100, false, vec![file("d", 1, 0)], None);
        assert_eq!(table.version_us(), 4_001);
        assert_eq!(table.current(100).rows(), 5);
    }

    #[test]
    fn versions_beyond_time_travel_are_forgotten_but_not_what_they_still_show() {
        let day = 86_400_000_000;
        let mut table = TableRecord::new(Map::new(), 0);
        table.commit(day, true, vec![file("a", 1, 0)], None);
        table.commit(2 * day, false, vec![file("b", 1, 0)], None);
        table.commit(20 * day, false, vec![file("c", 1, 0)], None);
        assert_eq!(table.versions.len(), 3);
        assert!(table.moment(day - 1).is_none());
        assert_eq!(table.moment(13 * day).unwrap().rows(), 2);
    }
}
