//! A PostgreSQL database: dumped by `pg_dump` under one exported snapshot, its rows counted and fingerprinted as they pass (and
//! read once more under that snapshot where totals or exports are asked for); restored by `pg_restore` beside what is there, compared, and
//! put in place by renaming.

mod check;
mod connect;
mod decode;
mod dump;
mod inventory;
mod pipe;
mod restore;
mod rows;
mod tools;

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

pub use self::check::check;
pub(super) use self::connect::connect;
use self::dump::{Dump, Dumped};
use self::inventory::{OLDEST, TableShape, execute, names, text};
use self::rows::{Export, ReadTable, Reading, Taken, table_id};
use self::tools::Tool;
use super::bigquery::Definition;
use super::streamed::{Cut, ItemFacts, RestoredSource, Sink, Streamed, StreamedFacts, StreamedRestore, Vault, Wish};
use crate::codec::fingerprint::Hashes;
use crate::config::{DumpFormat, PostgresSource};
use crate::manifest::{
    DatabaseProperties, DumpRecord, ExtensionRecord, PostgresRecord, SequenceRecord, SourceRecord, TableRecord,
};
use crate::model::{DatabaseUrl, Failure};
use crate::plan::Refusal;

/// Connections that read tables at once, beside `pg_dump`'s.
const READERS: usize = 4;
/// Names in one LOCK statement.
const LOCKED_AT_ONCE: usize = 500;
/// How often the cut is tried again when a table is dropped just then.
const CUTS: usize = 3;

/// A source of this kind, ready to be looked at.
pub struct Postgres {
    name: String,
    settings: PostgresSource,
}

impl Postgres {
    pub fn new(name: &str, settings: &PostgresSource) -> Self {
        Self { name: name.into(), settings: settings.clone() }
    }

    fn url(&self) -> &DatabaseUrl {
        &self.settings.url
    }

    fn tool(&self, name: &str, than: (&str, u32)) -> Result<Tool, Failure> {
        tools::find(name, self.settings.tools.as_deref(), than)
    }

    /// What stands against a backup by this user.
    async fn denied(&self, client: &Client) -> Result<Vec<Refusal>, Failure> {
        let url = self.url();
        let user = &url.user;
        let own = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'";
        let sql = format!(
            "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p', 'm', 'S') AND {own} \
             AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')) ORDER BY 1"
        );
        let mut refusals = vec![];
        let unreadable = names(client, url, &sql).await?;
        if !unreadable.is_empty() {
            refusals.push(Refusal::new(
                &self.name,
                format!("user '{user}' may not read {}", listed(&unreadable)),
                format!("GRANT pg_read_all_data TO \"{user}\"; before PostgreSQL 14 USAGE on the schema and SELECT on all in it"),
            ));
            return Ok(refusals);
        }
        let sql = format!(
            "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p') AND {own} AND row_security_active(c.oid) ORDER BY 1"
        );
        let hidden = names(client, url, &sql).await?;
        if !hidden.is_empty() {
            refusals.push(Refusal::new(
                &self.name,
                format!("row level security hides rows of {} from user '{user}'", listed(&hidden)),
                format!("ALTER ROLE \"{user}\" BYPASSRLS, or take backups as the tables' owner"),
            ));
        }
        Ok(refusals)
    }
}

/// A few names, and how many more.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[async_trait]
impl Streamed for Postgres {
    async fn inventory(&self) -> Result<StreamedFacts, Failure> {
        let url = self.url();
        let client = connect::connect(url).await?;
        let (server, number) = inventory::version(&client, url).await?;
        let mut facts = StreamedFacts { name: self.name.clone(), origin: url.to_string(), ..StreamedFacts::default() };
        if number < OLDEST {
            let hint = "PostgreSQL 12 and newer can be backed up";
            facts.refusals.push(Refusal::new(&self.name, format!("the server is PostgreSQL {server}"), hint));
            return Ok(facts);
        }
        let mut needed = vec!["pg_dump"];
        needed.extend(self.settings.globals.then_some("pg_dumpall"));
        for tool in needed {
            if let Err(error) = self.tool(tool, ("the server", number / 10_000)) {
                facts.refusals.push(refusal(error));
            }
        }
        facts.refusals.extend(self.denied(&client).await?);
        let tables = inventory::tables(&client, url).await?;
        facts.notes = notes(&self.name, &tables, self.settings.export.is_some());
        let sql = "SELECT count(*)::text FROM pg_class WHERE relkind = 'f'";
        let foreign: u64 = text(&client, url, sql).await?.parse().unwrap_or(0);
        if foreign > 0 {
            facts.notes.push(format!("source '{}': {foreign} foreign tables as definitions only", self.name));
        }
        facts.items = tables
            .into_iter()
            .map(|table| ItemFacts { name: table.full_name(), row_count: None, size_bytes: Some(table.size_bytes) })
            .collect();
        Ok(facts)
    }

    async fn cut(&self) -> Result<Box<dyn Cut>, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match PostgresCut::take(&self.name, &self.settings).await? {
                Some(cut) => return Ok(Box::new(cut)),
                None if tries < CUTS => {}
                None => {
                    let message = "tables are dropped all the time; hint: try again when that is over".into();
                    return Err(Failure::Transient { object: self.url().to_string(), message });
                }
            }
        }
    }

    async fn look(&self, record: &SourceRecord, wish: &Wish) -> Result<Result<StreamedRestore, Vec<Refusal>>, Failure> {
        restore::Restore::new(self, own(record)?, wish).look().await
    }

    async fn restore(&self, record: &SourceRecord, vault: &dyn Vault, wish: &Wish) -> Result<RestoredSource, Failure> {
        restore::Restore::new(self, own(record)?, wish).run(vault).await
    }

    async fn compare(&self, record: &SourceRecord, _vault: &dyn Vault) -> Result<Option<RestoredSource>, Failure> {
        let (record, wish) = (own(record)?, Wish { parallel: READERS, ..Wish::default() });
        let (items, differences) = restore::Restore::new(self, record, &wish).compare(self.url()).await?;
        let (source, target) = (self.name.clone(), self.url().to_string());
        Ok(Some(RestoredSource { source, target, items, differences }))
    }

    async fn take_back(&self, record: &SourceRecord, wish: &Wish) -> Result<(), Failure> {
        restore::Restore::new(self, own(record)?, wish).take_back().await
    }
}

fn own(record: &SourceRecord) -> Result<&PostgresRecord, Failure> {
    match record {
        SourceRecord::Postgres(record) => Ok(record),
        other => Err(Failure::Invalid { object: other.name().into(), message: "is no PostgreSQL database".into() }),
    }
}

/// A failure as a refusal, which is told together with the others.
fn refusal(failure: Failure) -> Refusal {
    let text = match &failure {
        Failure::Invalid { object, message } => (object.clone(), message.clone()),
        other => ("postgres".into(), other.to_string()),
    };
    let (message, hint) = text.1.split_once("; hint: ").unwrap_or((&text.1, ""));
    Refusal::new(text.0, message, hint)
}

/// What a person should know of how the tables are read.
fn notes(source: &str, tables: &[TableShape], exported: bool) -> Vec<String> {
    if !exported {
        return vec![];
    }
    let mut kinds: Vec<&str> = tables
        .iter()
        .flat_map(|table| &table.columns)
        .filter(|column| column.wire.is_none())
        .map(|column| column.kind.as_str())
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut notes = vec![];
    if !kinds.is_empty() {
        notes.push(format!("source '{source}': columns of type {} are exported as text", kinds.join(", ")));
    }
    let unfit = tables.iter().filter(|table| table_id(source, table).is_none()).map(TableShape::full_name);
    let unfit: Vec<String> = unfit.collect();
    if !unfit.is_empty() {
        notes.push(format!("source '{source}': not exported, since SQL could not name them: {}", listed(&unfit)));
    }
    notes
}

/// An exported snapshot, and the connection that keeps it.
struct PostgresCut {
    name: String,
    settings: PostgresSource,
    client: Client,
    snapshot: String,
    taken_at: Timestamp,
    server: (String, u32),
    tables: Vec<TableShape>,
    properties: DatabaseProperties,
    extensions: Vec<ExtensionRecord>,
    roles: Vec<String>,
    sequences: Vec<SequenceRecord>,
    tablespaces: Vec<String>,
}

impl PostgresCut {
    /// Locks every table against changes of its definition and against TRUNCATE, which no snapshot outlives, and only then
    /// takes the snapshot. `None` when a table was dropped meanwhile.
    async fn take(name: &str, settings: &PostgresSource) -> Result<Option<Self>, Failure> {
        let url = &settings.url;
        let client = connect::connect(url).await?;
        let server = inventory::version(&client, url).await?;
        let tables = inventory::tables(&client, url).await?;
        execute(&client, url, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '10s'")
            .await?;
        for tables in tables.chunks(LOCKED_AT_ONCE) {
            let names: Vec<String> = tables.iter().map(|table| format!("ONLY {}", table.sql_name())).collect();
            let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
            if let Err(error) = client.batch_execute(&sql).await {
                let dropped = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
                if error.code().is_some_and(|code| dropped.contains(code)) {
                    return Ok(None);
                }
                return Err(connect::failure(url, &error));
            }
        }
        let snapshot = text(&client, url, "SELECT pg_export_snapshot()").await?;
        let taken_at = inventory::now(&client, url).await?;
        let tables = inventory::tables(&client, url).await?;
        let properties = inventory::properties(&client, url).await?;
        let roles = inventory::roles(&client, url, &properties).await?;
        Ok(Some(Self {
            name: name.into(),
            settings: settings.clone(),
            snapshot,
            taken_at,
            server,
            tables,
            extensions: inventory::extensions(&client, url).await?,
            roles,
            // Now, since the dump reads them later: no sequence of it may be behind.
            sequences: inventory::sequences(&client, url).await?,
            tablespaces: inventory::tablespaces(&client, url).await?,
            properties,
            client,
        }))
    }

    async fn dump(&self, tool: &Tool, sink: &dyn Sink) -> Result<Dumped, Failure> {
        let dump = Dump { url: &self.settings.url, tool, snapshot: &self.snapshot, sink };
        match self.settings.format {
            DumpFormat::Custom => dump.custom().await,
            DumpFormat::Directory => {
                dump.directory(self.settings.jobs.unwrap_or(READERS), self.settings.scratch.as_deref()).await
            }
        }
    }

    /// The dump, and every table's figures: those of the rows in it, and others where they are asked for, or the rows in it
    /// could not be read.
    async fn read(&self, tool: &Tool, sink: &dyn Sink) -> Result<(DumpRecord, Vec<ReadTable>), Failure> {
        let progress = |done: usize, total: usize, what: &str| sink.progress(done, total, what);
        let none = BTreeMap::new();
        let reading = Reading {
            url: &self.settings.url,
            snapshot: Some(&self.snapshot),
            parallel: READERS,
            taken: &|_| Taken::Totals,
            settings: &none,
            export: self.settings.export.map(|format| Export { format, source: &self.name, sink }),
            progress: &progress,
        };
        let twice = self.settings.totals || self.settings.export.is_some();
        let second = if twice { self.tables.clone() } else { vec![] };
        let (Dumped { record, tables }, mut read) =
            futures::future::try_join(self.dump(tool, sink), reading.all(second)).await?;
        let Some(dumped) = tables else {
            if !twice {
                read = reading.all(self.tables.clone()).await?;
            }
            return Ok((record, read));
        };
        let dumped: HashMap<(&str, &str), &Hashes> =
            dumped.iter().map(|table| ((table.schema.as_str(), table.table.as_str()), &table.rows)).collect();
        if !twice {
            read = self.tables.iter().cloned().map(ReadTable::of).collect();
        }
        for read in &mut read {
            let table = &mut read.table;
            let corrupt = |message: String| Failure::Corrupt { object: table.full_name(), message };
            let rows = dumped.get(&(table.schema.as_str(), table.table.as_str()));
            let rows = rows.ok_or_else(|| corrupt("is not in what pg_dump wrote".into()))?;
            if twice && rows.count != table.row_count {
                let message = format!("pg_dump wrote {} rows, the snapshot has {}", rows.count, table.row_count);
                return Err(corrupt(message));
            }
            (table.row_count, table.fingerprint) = (rows.count, Some(rows::fingerprint(rows)));
        }
        Ok((record, read))
    }

    /// The table's record, where it was exported.
    async fn export(&self, read: &ReadTable, sink: &dyn Sink) -> Result<Option<TableRecord>, Failure> {
        let Some((format, object)) = &read.export else { return Ok(None) };
        let table = &read.table;
        let Some(id) = table_id(&self.name, &read.shape) else { return Ok(None) };
        let columns = read.shape.columns.iter().map(|column| json!({"name": column.name, "type": column.kind}));
        let resource = json!({
            "kind": "postgresql#table",
            "tableReference": {"projectId": self.name, "datasetId": table.schema, "tableId": table.table},
            "type": "TABLE",
            "schema": table.columns.to_json(),
            "numRows": table.row_count.to_string(),
            "numBytes": table.size_bytes.to_string(),
            "postgresql": {"columns": columns.collect::<Vec<_>>()},
        });
        let definition = Definition { resource, row_access_policies: vec![], iam_policy: None };
        let name = format!("tables/{}/{}/definition.json", table.schema, table.table);
        let meta = sink.put(&name, Bytes::from(definition.to_bytes())).await?;
        Ok(Some(TableRecord {
            table: id,
            snapshot: None,
            snapshot_expires_at: None,
            meta,
            row_count: table.row_count,
            logical_bytes: table.size_bytes,
            format: format.extension().into(),
            format_reason: (self.settings.export != Some(*format))
                .then(|| "Avro does not hold the names of its columns".into()),
            objects: vec![object.clone()],
            partition_count: None,
            proof: table.proof.clone(),
        }))
    }
}

#[async_trait]
impl Cut for PostgresCut {
    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    async fn capture(self: Box<Self>, sink: &dyn Sink) -> Result<SourceRecord, Failure> {
        let url = &self.settings.url;
        let major = self.server.1 / 10_000;
        let tool = tools::find("pg_dump", self.settings.tools.as_deref(), ("the server", major))?;
        let (mut dump, read) = self.read(&tool, sink).await?;
        dump.settings = inventory::text_settings(&self.client, url).await?;
        let globals = match self.settings.globals {
            true => {
                let tool = tools::find("pg_dumpall", self.settings.tools.as_deref(), ("the server", major))?;
                Some(dump::globals(&tool, url, sink).await?)
            }
            false => None,
        };
        let mut exports = vec![];
        for read in &read {
            exports.extend(self.export(read, sink).await?);
        }
        let large_objects = inventory::large_objects(&self.client, url).await?;
        execute(&self.client, url, "COMMIT").await?; // the snapshot stood to the end, or this fails
        let cut = *self;
        Ok(SourceRecord::Postgres(Box::new(PostgresRecord {
            name: cut.name,
            origin: cut.settings.url.to_string(),
            taken_at: cut.taken_at,
            server: cut.server.0,
            server_version: cut.server.1,
            tool: tool.version,
            database: cut.properties,
            dump,
            globals,
            tables: read.into_iter().map(|read| read.table).collect(),
            sequences: cut.sequences,
            large_objects,
            roles: cut.roles,
            extensions: cut.extensions,
            tablespaces: cut.tablespaces,
            exports,
        })))
    }
}
