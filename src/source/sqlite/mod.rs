//! An SQLite database: copied by its own online backup under one read transaction, so that the copy is of one instant whoever
//! writes meanwhile; restored beside what is there and put in its place at once.
//!
//! A write-ahead log needs no copy of its own: what is in it is in the copy.

mod figures;
mod open;
mod place;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use serde_json::json;
use tempfile::TempDir;

use self::figures::Exported;
use self::open::{failed, open};
use super::bigquery::Definition;
use super::files::of_file;
use super::streamed::{
    Checked, Cut, ItemFacts, RestoredItem, RestoredSource, Sink, Streamed, StreamedFacts, StreamedRestore, Vault, Wish,
};
use crate::codec::digest::Digester;
use crate::config::SqliteSource;
use crate::manifest::{ObjectRecord, SourceRecord, SqliteRecord, TableFigures, TableRecord};
use crate::model::{DatasetId, Digests, Failure, TableId};
use crate::plan::Refusal;

/// Pages that are copied at once.
const PAGES: i32 = 1024;

/// A database, ready to be looked at.
pub struct Sqlite {
    name: String,
    settings: SqliteSource,
}

impl Sqlite {
    pub fn new(name: &str, settings: &SqliteSource) -> Self {
        Self { name: name.into(), settings: settings.clone() }
    }

    /// Where a restore goes: `to` is a file where it looks like one (it has an ending) and is no folder, else a folder.
    fn target(&self, wish: &Wish) -> PathBuf {
        let own = absolute(&self.settings.path);
        match &wish.to {
            None => own,
            Some(to) if to.extension().is_some() && !to.is_dir() => absolute(to),
            Some(to) => absolute(&to.join(own.file_name().unwrap_or_default())),
        }
    }
}

#[async_trait]
impl Streamed for Sqlite {
    async fn inventory(&self) -> Result<StreamedFacts, Failure> {
        let (name, settings) = (self.name.clone(), self.settings.clone());
        blocking(move || inventory(name, &settings)).await
    }

    async fn cut(&self) -> Result<Box<dyn Cut>, Failure> {
        let (name, settings) = (self.name.clone(), self.settings.clone());
        // Copied at once: another source that reads this file would take its locks away (POSIX locks go with the first file
        // descriptor of the process that is closed), so they are not held for longer than this takes.
        blocking(move || Ok(Box::new(hold(name, &settings)?) as Box<dyn Cut>)).await
    }

    async fn look(&self, record: &SourceRecord, wish: &Wish) -> Result<Result<StreamedRestore, Vec<Refusal>>, Failure> {
        let record = sqlite(record)?;
        let target = self.target(wish);
        let (shown, is_there) = (target.display().to_string(), target.symlink_metadata().is_ok());
        if is_there && !wish.replace {
            let hint = "restore beside it with --to PATH, or replace it with --replace";
            return Ok(Err(vec![Refusal::new(shown, "is there", hint)]));
        }
        if is_there {
            let at = target.clone();
            if let Some(refusal) = blocking(move || place::look(&at)).await? {
                return Ok(Err(vec![refusal]));
            }
        }
        let figures = record.figures.iter().map(|table| ItemFacts {
            name: table.table.clone(),
            row_count: Some(table.totals.row_count),
            size_bytes: None,
        });
        Ok(Ok(StreamedRestore {
            source: self.name.clone(),
            origin: record.path.clone(),
            target: shown,
            replaces: is_there,
            items: figures.collect(),
            notes: vec![],
        }))
    }

    async fn restore(&self, record: &SourceRecord, vault: &dyn Vault, wish: &Wish) -> Result<RestoredSource, Failure> {
        let record = sqlite(record)?;
        let target = self.target(wish);
        let scratch = place::scratch(&target, &wish.run);
        fetch(vault, &record.database, &scratch, &record.mode).await?;
        let (expected, into, replace) = (record.figures.clone(), target.clone(), wish.replace);
        let items = blocking(move || {
            let items = proven(&scratch, &expected)?;
            place::put(&scratch, &into, replace)?;
            Ok(items)
        })
        .await?;
        let target = target.display().to_string();
        Ok(RestoredSource { source: self.name.clone(), target, items, differences: vec![] })
    }

    async fn compare(&self, record: &SourceRecord, _vault: &dyn Vault) -> Result<Option<RestoredSource>, Failure> {
        let (record, settings) = (sqlite(record)?.clone(), self.settings.clone());
        let (path, source) = (absolute(&settings.path), self.name.clone());
        let target = path.display().to_string();
        let (items, differences) = blocking(move || compare(&path, &settings, &record.figures)).await?;
        Ok(Some(RestoredSource { source, target, items, differences }))
    }

    async fn take_back(&self, _record: &SourceRecord, wish: &Wish) -> Result<(), Failure> {
        let (target, run) = (self.target(wish), wish.run.clone());
        blocking(move || place::take_back(&target, &run)).await
    }
}

fn inventory(name: String, settings: &SqliteSource) -> Result<StreamedFacts, Failure> {
    let path = absolute(&settings.path);
    let origin = path.display().to_string();
    let mut facts = StreamedFacts { name, origin: origin.clone(), ..StreamedFacts::default() };
    let meta = match std::fs::metadata(&path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && settings.optional => {
            facts.skipped = Some(format!("{origin} does not exist, and is optional"));
            return Ok(facts);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let hint = "source.path names the database's file; optional = true where it may be missing";
            facts.refusals.push(Refusal::new(origin, "does not exist", hint));
            return Ok(facts);
        }
        Err(error) => return Err(open::of_io(&path, &error)),
    };
    let log_bytes = std::fs::metadata(place::aside(&path, "-wal")).map_or(0, |meta| meta.len());
    let looked = open(&path, settings.busy_timeout.as_duration())
        .and_then(|connection| figures::tables(&connection).map_err(|error| failed(&path, &error)));
    match looked {
        Ok(tables) => {
            let size_bytes = Some(meta.len() + log_bytes);
            facts.items.push(ItemFacts { name: origin, row_count: None, size_bytes });
            facts.items.extend(tables.ordinary.into_iter().map(|name| ItemFacts { name, ..ItemFacts::default() }));
        }
        Err(Failure::Invalid { object, message } | Failure::Precondition { object, message }) => {
            let (message, hint) =
                message.split_once("; hint: ").unwrap_or((&message, "sqlite3 FILE .tables says more"));
            facts.refusals.push(Refusal::new(object, message, hint));
        }
        Err(error) => return Err(error),
    }
    Ok(facts)
}

/// The database as it is now against the figures of a backup, within one read transaction.
fn compare(
    path: &Path,
    settings: &SqliteSource,
    expected: &[TableFigures],
) -> Result<(Vec<RestoredItem>, Vec<String>), Failure> {
    let of = |error: rusqlite::Error| failed(path, &error);
    let connection = open(path, settings.busy_timeout.as_duration())?;
    connection.execute_batch("BEGIN").map_err(of)?;
    let there = figures::tables(&connection).map_err(of)?.ordinary;
    let (mut items, mut differences) = (vec![], vec![]);
    for table in expected {
        let (mut row_count, mut difference) = (None, Some("is not there".to_string()));
        if there.contains(&table.table) {
            match figures::of_schema(&connection, table) {
                Ok(found) => (row_count, difference) = (Some(found.row_count), table.totals.difference(&found)),
                // Its columns are others, or hold what they did not hold then.
                Err(error) => difference = Some(error.of(path, &table.table).to_string()),
            }
        }
        items.push(RestoredItem {
            name: table.table.clone(),
            row_count,
            expected_row_count: Some(table.totals.row_count),
            proven: Some(difference.is_none()),
        });
        differences.extend(difference.map(|difference| format!("{}: {difference}", table.table)));
    }
    let new = there.iter().filter(|name| expected.iter().all(|table| table.table != **name));
    differences.extend(new.map(|name| format!("{name}: is no table of the backup")));
    Ok((items, differences))
}

/// A copy of the database as of one instant.
struct State {
    name: String,
    settings: SqliteSource,
    path: PathBuf,
    has_wal: bool,
    journal_mode: String,
    taken_at: Timestamp,
    /// Removed with this.
    folder: TempDir,
    file: PathBuf,
}

/// Copies the database under one read transaction.
fn hold(name: String, settings: &SqliteSource) -> Result<State, Failure> {
    let path = absolute(&settings.path);
    let of = |error: rusqlite::Error| failed(&path, &error);
    let has_wal = has_wal(&path);
    let connection = open(&path, settings.busy_timeout.as_duration())?;
    // From its first read on, the connection sees the database as it is now.
    connection.execute_batch("BEGIN").map_err(of)?;
    let first = "SELECT count(*) FROM sqlite_schema";
    connection.query_row(first, [], |row| row.get::<_, i64>(0)).map_err(of)?;
    let taken_at = now();
    let journal_mode = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(of)?;
    let folder = tempfile::tempdir().map_err(open::local)?;
    let file = folder.path().join("database.sqlite");
    let mut to = Connection::open(&file).map_err(of)?;
    {
        let backup = Backup::new(&connection, &mut to).map_err(of)?;
        let deadline = Instant::now() + settings.busy_timeout.as_duration();
        loop {
            match backup.step(PAGES).map_err(of)? {
                StepResult::Done => break,
                StepResult::More => {}
                _ if Instant::now() > deadline => {
                    let message = format!(
                        "is locked for longer than {}; hint: raise source.busy_timeout, or stop what writes",
                        settings.busy_timeout
                    );
                    return Err(Failure::Precondition { object: path.display().to_string(), message });
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
    drop(connection);
    // One file, without a log beside it: its header says so, too.
    to.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0)).map_err(of)?;
    Ok(State { name, settings: settings.clone(), path: path.clone(), has_wal, journal_mode, taken_at, folder, file })
}

#[async_trait]
impl Cut for State {
    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    async fn capture(self: Box<Self>, sink: &dyn Sink) -> Result<SourceRecord, Failure> {
        let (name, has_wal, taken_at) = (self.name.clone(), self.has_wal, self.taken_at);
        let (wants_tables, path) = (self.settings.tables, self.path.display().to_string());
        let mode = std::fs::metadata(&self.path).map_or(0o600, |meta| meta.mode() & 0o777);
        let copy = blocking(move || look_into(*self)).await?;
        let same = match sink.last() {
            // The same bytes hold the same rows: what lies there already is referred to.
            Some(SourceRecord::Sqlite(last)) if last.database.digests == copy.digests => Some(last.clone()),
            _ => None,
        };
        let database = match &same {
            Some(last) => last.database.clone(),
            None => sink.stream("database.sqlite", of_file(File::open(&copy.file).map_err(open::local)?)).await?,
        };
        let mut notes = copy.notes;
        let mut tables = Vec::new();
        match same.filter(|last| !last.tables.is_empty()) {
            _ if !wants_tables => {}
            Some(last) => tables = last.tables,
            None => {
                for (n, exported) in copy.tables.iter().enumerate() {
                    let table = &exported.figures.table;
                    sink.progress(n + 1, copy.tables.len(), table);
                    match DatasetId::new(&name, "main").and_then(|dataset| dataset.table(table)) {
                        Ok(id) => tables.push(table_record(id, n, exported, sink).await?),
                        Err(error) => notes.push(format!("{path}: {table}: is in the database only: {error}")),
                    }
                }
            }
        }
        Ok(SourceRecord::Sqlite(SqliteRecord {
            name,
            path,
            taken_at,
            database,
            has_wal,
            journal_mode: copy.journal_mode,
            mode: format!("{mode:o}"),
            page_count: copy.page_count,
            page_bytes: copy.page_bytes,
            user_version: copy.user_version,
            figures: copy.tables.into_iter().map(|exported| exported.figures).collect(),
            tables,
            notes,
        }))
    }
}

/// A copy of the database, and what is in it.
struct Copy {
    /// Removed with this.
    _folder: TempDir,
    file: PathBuf,
    digests: Digests,
    journal_mode: String,
    page_count: u64,
    page_bytes: u64,
    user_version: i64,
    tables: Vec<Exported>,
    notes: Vec<String>,
}

/// Looks at the copy: whether it is whole, and what is in it.
fn look_into(state: State) -> Result<Copy, Failure> {
    let State { path, settings, journal_mode, folder, file, .. } = state;
    let of = |error: rusqlite::Error| failed(&path, &error);
    let to = Connection::open(&file).map_err(of)?;
    figures::check(&to, &path)?;
    let number = |pragma: &str| to.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0)).map_err(of);
    let (page_count, page_bytes) = (number("page_count")?.unsigned_abs(), number("page_size")?.unsigned_abs());
    let user_version = number("user_version")?;
    let listed = figures::tables(&to).map_err(of)?;
    let mut notes = listed.notes(&path);
    let mut tables = Vec::new();
    for name in listed.ordinary {
        let parquet = settings.tables.then(|| folder.path().join(format!("{}.parquet", tables.len())));
        let exported = figures::export(&to, &name, parquet.as_deref()).map_err(|error| error.of(&path, &name))?;
        notes.extend(exported.notes.iter().map(|note| format!("{}: {name}: {note}", path.display())));
        tables.push(exported);
    }
    drop(to);
    let digests = digest(&file).map_err(open::local)?;
    Ok(Copy { _folder: folder, file, digests, journal_mode, page_count, page_bytes, user_version, tables, notes })
}

async fn table_record(
    table: TableId,
    number: usize,
    exported: &Exported,
    sink: &dyn Sink,
) -> Result<TableRecord, Failure> {
    let TableFigures { schema, totals, .. } = &exported.figures;
    let resource = json!({
        "kind": "sqlite#table",
        "tableReference": {"projectId": table.project(), "datasetId": table.dataset(), "tableId": table.table()},
        "type": "TABLE",
        "schema": schema.to_json(),
        "numRows": totals.row_count.to_string(),
        "sql": exported.sql,
    });
    let definition = Definition { resource, row_access_policies: vec![], iam_policy: None };
    // Names of tables differ in more than keys may hold.
    let folder = format!("table-{number:04}-{}", table.table());
    let meta = sink.put(&format!("{folder}/table.json"), Bytes::from(definition.to_bytes())).await?;
    let mut objects = Vec::new();
    if let Some(file) = exported.file.as_ref().filter(|_| !schema.fields.is_empty()) {
        let content = of_file(File::open(file).map_err(open::local)?);
        let mut object = sink.stream(&format!("{folder}/part-000000000000.parquet"), content).await?;
        object.row_count = Some(totals.row_count);
        objects.push(object);
    }
    Ok(TableRecord {
        table,
        snapshot: None,
        snapshot_expires_at: None,
        meta,
        row_count: totals.row_count,
        logical_bytes: objects.iter().map(|object| object.digests.size_bytes).sum(),
        format: "parquet".into(),
        format_reason: None,
        objects,
        partition_count: None,
        proof: Some(totals.clone()),
    })
}

/// Writes the database beside its place; its digests are checked on the way.
async fn fetch(vault: &dyn Vault, object: &ObjectRecord, scratch: &Path, mode: &str) -> Result<(), Failure> {
    let io = |error: std::io::Error| open::of_io(scratch, &error);
    if let Some(folder) = scratch.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    place::remove(scratch)?;
    let mut file = File::options().write(true).create_new(true).open(scratch).map_err(io)?;
    let mode = u32::from_str_radix(mode, 8).unwrap_or(0o600) & 0o777;
    file.set_permissions(std::fs::Permissions::from_mode(mode | 0o600)).map_err(io)?;
    let mut content = vault.read(object).await?;
    while let Some(piece) = content.next().await {
        file.write_all(&piece?).map_err(io)?;
    }
    file.sync_all().map_err(io)
}

/// The restored database, checked whole and held against the figures that were taken of it.
fn proven(file: &Path, expected: &[TableFigures]) -> Result<Vec<RestoredItem>, Failure> {
    let connection = Connection::open(file).map_err(|error| failed(file, &error))?;
    figures::check(&connection, file)?;
    let mut items = Vec::new();
    for table in expected {
        let found = figures::of_schema(&connection, table).map_err(|error| error.of(file, &table.table))?;
        if let Some(difference) = table.totals.difference(&found) {
            let message = format!("table {} is not what was backed up: {difference}", table.table);
            return Err(Failure::Corrupt { object: file.display().to_string(), message });
        }
        items.push(RestoredItem {
            name: table.table.clone(),
            row_count: Some(found.row_count),
            expected_row_count: Some(table.totals.row_count),
            proven: Some(true),
        });
    }
    drop(connection);
    // What SQLite may have made beside it while it was read.
    for ending in place::LOGS {
        place::remove(&place::aside(file, ending))?;
    }
    Ok(items)
}

/// Holds a stored database against the figures that were taken of it: on a copy in the directory for temporary files.
///
/// # Errors
/// The vault's own; when there is no room for the copy.
pub async fn check(record: &SqliteRecord, vault: &dyn Vault) -> Result<Checked, Failure> {
    let folder = tempfile::tempdir().map_err(open::local)?;
    let file = folder.path().join("database");
    fetch(vault, &record.database, &file, "600").await?;
    let expected = record.figures.clone();
    let checked = blocking(move || proven(&file, &expected)).await;
    let objects = vec![record.database.key.clone()];
    match checked {
        Ok(_) => Ok(Checked { objects, differences: vec![] }),
        Err(Failure::Corrupt { message, .. }) => Ok(Checked { objects, differences: vec![message] }),
        Err(error) => Err(error),
    }
}

/// Whether a log with something in it lies beside the database.
fn has_wal(path: &Path) -> bool {
    std::fs::metadata(place::aside(path, "-wal")).is_ok_and(|meta| meta.len() > 0)
}

fn digest(file: &Path) -> std::io::Result<Digests> {
    let mut digester = Digester::new();
    let mut input = File::open(file)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(digester.finish()),
            length => digester.update(&buffer[..length]),
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

fn sqlite(record: &SourceRecord) -> Result<&SqliteRecord, Failure> {
    match record {
        SourceRecord::Sqlite(record) => Ok(record),
        other => {
            Err(Failure::Invalid { object: other.name().into(), message: "is no SQLite database in the backup".into() })
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| Failure::Invalid { object: "database".into(), message: error.to_string() })?
}
