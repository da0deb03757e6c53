//! The way back: into a database beside what is there, compared with the record, then renamed into place.
//!
//! `{target}_strongroom_{run}` is restored into; when all is proven, one transaction renames what was there before to
//! `{target}_before_restore_{run}`, where it is kept, and the new one to `{target}`. Whatever dies before that transaction leaves
//! the target as it was.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::connect::{connect, failure, literal, quoted};
use super::inventory::{self, TableShape, execute, names, text};
use super::rows::{Reading, Taken};
use super::tools::Tool;
use super::{Postgres, dump, refusal};
use crate::manifest::{DatabaseProperties, ObjectRecord, PostgresRecord, PostgresTable};
use crate::model::{DatabaseUrl, Failure};
use crate::plan::Refusal;
use crate::source::streamed::{ItemFacts, RestoredItem, RestoredSource, StreamedRestore, Vault, Wish};
use crate::store::Blocking;

/// PostgreSQL's names are cut off here.
const NAME_BYTES: usize = 63;
/// A dump below this is restored by one job straight from the vault, unless jobs are asked for.
const SPOOLED_FROM: u64 = 64 << 20;
const JOBS: usize = 4;
/// How often the renaming is tried while somebody is connected, and how long is waited between.
const RENAMES: usize = 20;
const PAUSE: Duration = Duration::from_millis(500);
const MAX_GLOBALS_BYTES: u64 = 64 << 20;

/// One database's way back.
pub(super) struct Restore<'a> {
    postgres: &'a Postgres,
    record: &'a PostgresRecord,
    wish: &'a Wish,
    target: String,
}

/// What is known of the target's server.
struct Found {
    exists: bool,
    sessions: Vec<String>,
    missing_roles: Vec<String>,
    missing_tablespaces: Vec<String>,
}

impl<'a> Restore<'a> {
    pub fn new(postgres: &'a Postgres, record: &'a PostgresRecord, wish: &'a Wish) -> Self {
        let target = wish.target_db.clone().unwrap_or_else(|| postgres.url().database.clone());
        Self { postgres, record, wish, target }
    }

    /// What is restored into until it is proven.
    fn scratch(&self) -> String {
        fitted(&self.target, &format!("_strongroom_{}", self.wish.run))
    }

    /// What was there before.
    fn before(&self) -> String {
        fitted(&self.target, &format!("_before_restore_{}", self.wish.run))
    }

    /// What roles are called in their comments that this run made.
    fn mark(&self) -> String {
        format!("made by the strongroom restore {}", self.wish.run)
    }

    fn server(&self) -> DatabaseUrl {
        self.postgres.url().with_database(&self.postgres.settings.maintenance_db)
    }

    fn target_url(&self) -> DatabaseUrl {
        self.postgres.url().with_database(&self.target)
    }

    fn tool(&self) -> Result<Tool, Failure> {
        let digits = self.record.tool.split(") ").nth(1).unwrap_or_default();
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        self.postgres.tool("pg_restore", ("the pg_dump that took the backup", digits.parse().unwrap_or(0)))
    }

    /// Everything that stands against it, or what it would do.
    pub async fn look(&self) -> Result<Result<StreamedRestore, Vec<Refusal>>, Failure> {
        let url = self.server();
        let client = connect(&url).await?;
        let mut refusals = vec![];
        let object = format!("database '{}'", self.target);
        if self.target.len() > NAME_BYTES || self.target.is_empty() || self.target.contains('\0') {
            refusals.push(Refusal::new(&object, "is no name of a database", "1 to 63 bytes"));
        }
        if self.target == url.database || ["template0", "template1"].contains(&self.target.as_str()) {
            refusals.push(Refusal::new(&object, "is the server's own", "another one: --target-db NAME"));
        }
        let (server, number) = inventory::version(&client, &url).await?;
        let (then, now) = (self.record.server_version / 10_000, number / 10_000);
        if now < then {
            refusals.push(Refusal::new(
                url.server(),
                format!("is PostgreSQL {server}, the backup was taken of version {then}"),
                format!("restore into a server of version {then} or newer"),
            ));
        }
        if let Err(error) = self.tool() {
            refusals.push(refusal(error));
        }
        let found = self.find(&client).await?;
        let sql = "SELECT (rolcreatedb OR rolsuper)::text FROM pg_roles WHERE rolname = current_user";
        if text(&client, &url, sql).await? != "true" {
            let hint = format!("ALTER ROLE {} CREATEDB, or restore as a superuser", quoted(&url.user));
            refusals.push(Refusal::new(&object, format!("user '{}' may not create databases", url.user), hint));
        }
        if found.exists && !self.wish.replace {
            let hint = format!(
                "--replace puts the backup in its place and keeps it as {}_before_restore_...; --target-db NAME restores beside it",
                self.target
            );
            refusals.push(Refusal::new(&object, "exists", hint));
        } else if found.exists && !found.sessions.is_empty() {
            refusals.push(Refusal::new(&object, in_use(&found.sessions), "stop what uses it, then restore again"));
        }
        let (roles, globals) = (&found.missing_roles, self.record.globals.is_some());
        if !roles.is_empty() && !globals {
            let first = quoted(&roles[0]);
            refusals.push(Refusal::new(
                url.server(),
                format!("lacks the roles that own what is restored: {}", roles.join(", ")),
                format!("CREATE ROLE {first}; a source with globals = true saves the roles as well"),
            ));
        }
        let available = names(&client, &url, "SELECT name::text FROM pg_available_extensions").await?;
        let lacking: Vec<&str> = self.record.extensions.iter().map(|extension| extension.name.as_str()).collect();
        let lacking: Vec<&str> =
            lacking.into_iter().filter(|name| !available.iter().any(|other| other == name)).collect();
        if !lacking.is_empty() {
            refusals.push(Refusal::new(
                url.server(),
                format!("does not have the extensions {}", lacking.join(", ")),
                "install their packages on the server (Debian: postgresql-contrib, postgresql-NN-NAME)",
            ));
        }
        if !refusals.is_empty() {
            return Ok(Err(refusals));
        }
        let mut notes = vec![];
        if found.exists {
            notes.push(format!(
                "database '{0}' is kept as {0}_before_restore_{{run}}: drop it when nobody needs it any more",
                self.target
            ));
        }
        if !roles.is_empty() {
            notes.push(format!("roles that are missing are made, without passwords: {}", roles.join(", ")));
        }
        if !found.missing_tablespaces.is_empty() {
            notes.push(format!("tablespaces that are missing are left out: {}", found.missing_tablespaces.join(", ")));
        }
        let item = |table: &PostgresTable| ItemFacts {
            name: table.full_name(),
            row_count: Some(table.row_count),
            size_bytes: Some(table.size_bytes),
        };
        Ok(Ok(StreamedRestore {
            source: self.record.name.clone(),
            origin: self.record.origin.clone(),
            target: self.target_url().to_string(),
            replaces: found.exists,
            items: self.record.tables.iter().map(item).collect(),
            notes,
        }))
    }

    async fn find(&self, client: &Client) -> Result<Found, Failure> {
        let url = self.server();
        let databases = names(client, &url, "SELECT datname::text FROM pg_database").await?;
        let roles = names(client, &url, "SELECT rolname::text FROM pg_roles").await?;
        let tablespaces = names(client, &url, "SELECT spcname::text FROM pg_tablespace").await?;
        let missing = |wanted: &[String], there: &[String]| -> Vec<String> {
            wanted.iter().filter(|name| !there.contains(name)).cloned().collect()
        };
        Ok(Found {
            exists: databases.contains(&self.target),
            sessions: self.sessions(client, &self.target).await?,
            missing_roles: missing(&self.record.roles, &roles),
            missing_tablespaces: missing(&self.record.tablespaces, &tablespaces),
        })
    }

    /// Who is connected to a database.
    async fn sessions(&self, client: &Client, database: &str) -> Result<Vec<String>, Failure> {
        let sql = format!(
            "SELECT COALESCE(NULLIF(application_name, ''), backend_type) || ' (' || COALESCE(usename::text, 'unknown') || ')' \
             FROM pg_stat_activity WHERE datname = {} AND pid <> pg_backend_pid() AND backend_type = 'client backend' ORDER BY 1",
            literal(database)
        );
        names(client, &self.server(), &sql).await
    }

    /// Restores, compares, and puts in place.
    pub async fn run(&self, vault: &dyn Vault) -> Result<RestoredSource, Failure> {
        let url = self.server();
        let client = connect(&url).await?;
        let found = self.find(&client).await?;
        if found.exists && !self.wish.replace {
            let object = self.target_url().to_string();
            return Err(Failure::Exists { object, message: "hint: --replace, or --target-db NAME".into() });
        }
        if let Some(globals) = self.record.globals.as_ref().filter(|_| !found.missing_roles.is_empty()) {
            self.make_roles(&client, &found.missing_roles, globals, vault).await?;
        }
        let scratch = self.scratch();
        drop_database(&client, &url, &scratch).await?;
        execute(&client, &url, &create_sql(&scratch, &self.record.database)).await?;
        let inside = self.postgres.url().with_database(&scratch);
        if !self.record.database.has_public {
            let client = connect(&inside).await?;
            execute(&client, &inside, "DROP SCHEMA IF EXISTS public").await?;
        }
        self.load(&inside, vault, found.missing_tablespaces.is_empty()).await?;
        let (items, differences) = self.compare(&inside).await?;
        let mut target = self.target_url().to_string();
        if differences.is_empty() {
            for sql in property_sql(&scratch, &self.record.database) {
                execute(&client, &url, &sql).await?;
            }
            self.put_in_place(&client, found.exists).await?;
            self.forget_marks(&client).await?;
            if found.exists {
                target = format!("{target}; what was there before is kept as {}", self.before());
            }
        } else {
            self.take_back().await?;
        }
        Ok(RestoredSource { source: self.record.name.clone(), target, items, differences })
    }

    /// `pg_restore`: by one job straight from the vault, or by several from a file beside it.
    async fn load(&self, inside: &DatabaseUrl, vault: &dyn Vault, tablespaces: bool) -> Result<(), Failure> {
        let tool = self.tool()?;
        let settings = &self.postgres.settings;
        let mut command = tool.command(inside);
        command.args(["--exit-on-error", "--dbname", &inside.database]);
        if !tablespaces {
            command.arg("--no-tablespaces");
        }
        let spooled = match settings.jobs {
            Some(jobs) => jobs > 1,
            None => self.record.dump.size_bytes >= SPOOLED_FROM,
        };
        let jobs = settings.jobs.unwrap_or(JOBS).to_string();
        let broken = Arc::default();
        let done = match self.record.dump.objects.as_slice() {
            [object] if self.record.dump.format == "custom" && (!spooled || !self.room()) => {
                let input = content(vault.read(object).await?, &broken)?;
                dump::run(&tool, inside, command, Some(input)).await
            }
            [object] if self.record.dump.format == "custom" => {
                let file = self.spool_path(".dump");
                let written = spool(vault, object, &file, &broken).await;
                command.args(["--jobs", &jobs]).arg(&file);
                let done = match written {
                    Ok(()) => dump::run(&tool, inside, command, None).await,
                    Err(error) => Err(error),
                };
                let _ = std::fs::remove_file(&file); // taken back by `take_back` if it is still there
                done
            }
            objects => {
                let folder = self.spool_path("");
                std::fs::create_dir_all(&folder).map_err(|error| self.local(&error))?;
                let mut written = Ok(());
                for object in objects {
                    written = match file_name(object) {
                        Some(name) => spool(vault, object, &folder.join(name), &broken).await,
                        None => {
                            Err(Failure::Corrupt { object: object.key.clone(), message: "is no file of a dump".into() })
                        }
                    };
                    if written.is_err() {
                        break;
                    }
                }
                command.args(["--jobs", &jobs]).arg(&folder);
                let done = match written {
                    Ok(()) => dump::run(&tool, inside, command, None).await,
                    Err(error) => Err(error),
                };
                let _ = std::fs::remove_dir_all(&folder);
                done
            }
        };
        let cause = broken.lock().unwrap_or_else(PoisonError::into_inner).take();
        match cause {
            Some(cause) => Err(cause), // what the vault said counts more than what followed from it
            None => done,
        }?;
        let client = connect(inside).await?;
        execute(&client, inside, "ANALYZE").await
    }

    fn spool_path(&self, ending: &str) -> PathBuf {
        let folder = self.postgres.settings.scratch.as_ref().map_or_else(std::env::temp_dir, PathBuf::from);
        folder.join(format!("strongroom-{}-{}{ending}", self.wish.run, self.record.name))
    }

    /// Whether the dump finds room beside the vault; if not, one job reads it from there.
    fn room(&self) -> bool {
        let folder = self.postgres.settings.scratch.as_ref().map_or_else(std::env::temp_dir, PathBuf::from);
        let free = rustix::fs::statvfs(&folder).map(|space| space.f_bavail.saturating_mul(space.f_frsize));
        free.is_ok_and(|free| free > self.record.dump.size_bytes.saturating_mul(11) / 10)
    }

    fn local(&self, error: &std::io::Error) -> Failure {
        dump::scratch_failure(self.postgres.settings.scratch.as_deref(), error)
    }

    /// Reads every table as it was read for the backup, and holds all figures against the record.
    pub async fn compare(&self, inside: &DatabaseUrl) -> Result<(Vec<RestoredItem>, Vec<String>), Failure> {
        let client = connect(inside).await?;
        let mut differences = vec![];
        let mut shapes = inventory::tables(&client, inside).await?;
        for shape in &mut shapes {
            match self.record.tables.iter().find(|table| (&table.schema, &table.table) == (&shape.schema, &shape.table))
            {
                Some(table) => shape.read_as(&table.columns),
                None => differences.push(format!("{}: is no table of the backup", shape.full_name())),
            }
        }
        let recorded: HashMap<(&str, &str), &PostgresTable> =
            self.record.tables.iter().map(|table| ((table.schema.as_str(), table.table.as_str()), table)).collect();
        let taken = |shape: &TableShape| match recorded.get(&(shape.schema.as_str(), shape.table.as_str())) {
            Some(table) if table.fingerprint.is_some() => Taken::Rows,
            Some(table) if table.proof.is_some() => Taken::Totals,
            _ => Taken::Count,
        };
        let silent = |_: usize, _: usize, _: &str| {};
        let reading = Reading {
            url: inside,
            snapshot: None,
            parallel: self.wish.parallel.clamp(1, super::READERS),
            taken: &taken,
            settings: &self.record.dump.settings,
            export: None,
            progress: &silent,
        };
        let read = reading.all(shapes).await?;
        let mut items = vec![];
        for table in &self.record.tables {
            let name = table.full_name();
            let found = read.iter().map(|read| &read.table);
            let found = { found }.find(|other| (&other.schema, &other.table) == (&table.schema, &table.table));
            let difference = match found {
                None => Some("is not there".to_string()),
                Some(found) if found.columns != table.columns => Some("has other columns".into()),
                Some(found) if found.row_count != table.row_count => {
                    Some(format!("{} rows, expected {}", found.row_count, table.row_count))
                }
                Some(found) if table.fingerprint.is_some() => {
                    (found.fingerprint != table.fingerprint).then(|| "has other rows than the dump".into())
                }
                Some(found) => {
                    let figures = table.proof.as_ref().zip(found.proof.as_ref());
                    figures.and_then(|(then, now)| then.difference(now))
                }
            };
            items.push(RestoredItem {
                name: name.clone(),
                row_count: found.map(|found| found.row_count),
                expected_row_count: Some(table.row_count),
                proven: (table.fingerprint.is_some() || table.proof.is_some()).then_some(difference.is_none()),
            });
            differences.extend(difference.map(|difference| format!("{name}: {difference}")));
        }
        self.compare_others(&client, inside, &mut items, &mut differences).await?;
        Ok((items, differences))
    }

    async fn compare_others(
        &self,
        client: &Client,
        inside: &DatabaseUrl,
        items: &mut Vec<RestoredItem>,
        differences: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let sequences = inventory::sequences(client, inside).await?;
        for then in &self.record.sequences {
            let name = format!("sequence {}.{}", then.schema, then.sequence);
            let now = sequences.iter().find(|now| (&now.schema, &now.sequence) == (&then.schema, &then.sequence));
            // A sequence moves on outside of snapshots: the dump's state is the recorded one, or later.
            let behind = match (now, then.last_value) {
                (None, _) => Some("is not there".to_string()),
                (Some(_), None) => None,
                (Some(now), Some(_)) if now.last_value.is_none() => Some("has begun anew".into()),
                (Some(now), Some(value)) => {
                    let value_now = now.last_value.unwrap_or(value);
                    let behind = if then.increment > 0 { value_now < value } else { value_now > value };
                    (behind && !then.cycles).then(|| format!("stands at {value_now}, expected {value} or later"))
                }
            };
            differences.extend(behind.map(|behind| format!("{name}: {behind}")));
        }
        let large = inventory::large_objects(client, inside).await?;
        if large != self.record.large_objects {
            differences.push("large objects: are not those of the backup".into());
        }
        if let Some(then) = &self.record.large_objects {
            items.push(RestoredItem {
                name: "large objects".into(),
                row_count: large.as_ref().map(|now| now.count),
                expected_row_count: Some(then.count),
                proven: Some(large.as_ref() == Some(then)),
            });
        }
        let extensions = inventory::extensions(client, inside).await?;
        for then in &self.record.extensions {
            if !extensions.iter().any(|now| now.name == then.name) {
                differences.push(format!("extension {}: is not there", then.name));
            }
        }
        Ok(())
    }

    /// One transaction: until it is done, nothing has changed.
    async fn put_in_place(&self, client: &Client, exists: bool) -> Result<(), Failure> {
        let url = self.server();
        let (target, scratch, before) = (quoted(&self.target), quoted(&self.scratch()), quoted(&self.before()));
        let mut sql = String::from("BEGIN;");
        if exists {
            sql.push_str(&format!("ALTER DATABASE {target} RENAME TO {before};"));
        }
        sql.push_str(&format!("ALTER DATABASE {scratch} RENAME TO {target}; COMMIT"));
        for tries in 1.. {
            let Err(error) = client.batch_execute(&sql).await else { break };
            let _ = client.batch_execute("ROLLBACK").await; // the connection says so itself when it is lost
            let in_the_way = error.code() == Some(&SqlState::OBJECT_IN_USE);
            if in_the_way && tries < RENAMES {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let object = self.target_url().to_string();
            if in_the_way {
                let sessions = self.sessions(client, &self.target).await?;
                let message = format!(
                    "{}, so it cannot be replaced: nothing was changed; hint: stop what uses it, then restore again",
                    in_use(&sessions)
                );
                return Err(Failure::Precondition { object, message });
            }
            if error.is_closed() {
                let message = "the connection was lost while the databases were renamed".into();
                return Err(Failure::Unknown { object, message });
            }
            return Err(failure(&url, &error));
        }
        Ok(())
    }

    /// Makes the roles that are missing, as the globals of the backup have them.
    async fn make_roles(
        &self,
        client: &Client,
        missing: &[String],
        globals: &ObjectRecord,
        vault: &dyn Vault,
    ) -> Result<(), Failure> {
        let url = self.server();
        let broken = Arc::default();
        let input = content(vault.read(globals).await?, &broken)?;
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            input.take(MAX_GLOBALS_BYTES).read_to_string(&mut text).map(|_| text)
        });
        let corrupt = |message: String| Failure::Corrupt { object: globals.key.clone(), message };
        let text = read.await.map_err(|error| corrupt(error.to_string()))?;
        let text = text.map_err(|error| corrupt(error.to_string()))?;
        execute(client, &url, "BEGIN").await?;
        let mut known = names(client, &url, "SELECT rolname::text FROM pg_roles").await?;
        known.extend(missing.iter().cloned());
        for statement in role_statements(&text, missing, &known) {
            execute(client, &url, &statement).await?;
        }
        for role in missing {
            let exists = format!("SELECT count(*)::text FROM pg_roles WHERE rolname = {}", literal(role));
            if inventory::text(client, &url, &exists).await? != "1" {
                execute(client, &url, &format!("CREATE ROLE {}", quoted(role))).await?;
            }
            execute(client, &url, &format!("COMMENT ON ROLE {} IS {}", quoted(role), literal(&self.mark()))).await?;
        }
        execute(client, &url, "COMMIT").await
    }

    async fn marked(&self, client: &Client) -> Result<Vec<String>, Failure> {
        let sql = format!(
            "SELECT rolname::text FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = {} ORDER BY 1",
            literal(&self.mark())
        );
        names(client, &self.server(), &sql).await
    }

    /// What was made stays.
    async fn forget_marks(&self, client: &Client) -> Result<(), Failure> {
        for role in self.marked(client).await? {
            execute(client, &self.server(), &format!("COMMENT ON ROLE {} IS NULL", quoted(&role))).await?;
        }
        Ok(())
    }

    /// Takes back what did not come to its end. When the renaming is done, everything is.
    pub async fn take_back(&self) -> Result<(), Failure> {
        let url = self.server();
        let client = connect(&url).await?;
        let scratch = self.scratch();
        let sql = format!("SELECT count(*)::text FROM pg_database WHERE datname = {}", literal(&scratch));
        let in_place = text(&client, &url, &sql).await? == "0";
        drop_database(&client, &url, &scratch).await?;
        let before = format!("SELECT count(*)::text FROM pg_database WHERE datname = {}", literal(&self.target));
        // Without a scratch database the run had renamed it, or not made it yet: roles that own nothing are then of no use.
        let keeps = in_place && text(&client, &url, &before).await? != "0";
        for role in self.marked(&client).await? {
            let owns = format!(
                "SELECT count(*)::text FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = \
                 (SELECT oid FROM pg_roles WHERE rolname = {})",
                literal(&role)
            );
            let sql = match keeps && text(&client, &url, &owns).await? != "0" {
                true => format!("COMMENT ON ROLE {} IS NULL", quoted(&role)),
                false => format!("DROP ROLE {}", quoted(&role)),
            };
            execute(&client, &url, &sql).await?;
        }
        for path in [self.spool_path(".dump"), self.spool_path("")] {
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(self.local(&error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// `name` with an ending, so long as names may be.
fn fitted(name: &str, ending: &str) -> String {
    let mut room = NAME_BYTES.saturating_sub(ending.len()).min(name.len());
    while !name.is_char_boundary(room) {
        room -= 1;
    }
    format!("{}{ending}", &name[..room])
}

fn in_use(sessions: &[String]) -> String {
    match sessions {
        [] => "is in use".into(),
        [one] => format!("is in use by {one}"),
        [first, ..] => format!("is in use by {} sessions, such as {first}", sessions.len()),
    }
}

/// Drops a database of a run's own, whoever is in it: a `pg_restore` that outlived its run.
async fn drop_database(client: &Client, url: &DatabaseUrl, name: &str) -> Result<(), Failure> {
    let end = format!(
        "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE datname = {} AND pid <> pg_backend_pid()",
        literal(name)
    );
    for tries in 1.. {
        names(client, url, &end).await?;
        match client.batch_execute(&format!("DROP DATABASE IF EXISTS {}", quoted(name))).await {
            Ok(()) => break,
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) && tries < RENAMES => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(failure(url, &error)),
        }
    }
    Ok(())
}

fn create_sql(name: &str, properties: &DatabaseProperties) -> String {
    let mut sql = format!(
        "CREATE DATABASE {} TEMPLATE template0 OWNER {} ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        quoted(name),
        quoted(&properties.owner),
        literal(&properties.encoding),
        literal(&properties.collate),
        literal(&properties.ctype)
    );
    if let Some(locale) = &properties.locale {
        match properties.provider.as_str() {
            "icu" => sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(locale))),
            "builtin" => sql.push_str(&format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(locale))),
            _ => {}
        }
    }
    sql
}

/// What a database has beside what is in it.
fn property_sql(name: &str, properties: &DatabaseProperties) -> Vec<String> {
    let database = quoted(name);
    let mut sql = vec![];
    if properties.connection_limit >= 0 {
        sql.push(format!("ALTER DATABASE {database} CONNECTION LIMIT {}", properties.connection_limit));
    }
    if let Some(comment) = &properties.comment {
        sql.push(format!("COMMENT ON DATABASE {database} IS {}", literal(comment)));
    }
    for setting in &properties.settings {
        let of = match &setting.role {
            Some(role) => format!("ROLE {} IN DATABASE {database}", quoted(role)),
            None => format!("DATABASE {database}"),
        };
        sql.push(format!("ALTER {of} SET {} TO {}", quoted_setting(&setting.name), setting_value(setting)));
    }
    if let Some(grants) = &properties.grants {
        let known = ["CONNECT", "CREATE", "TEMPORARY"];
        // What everybody may with a new database, unless it was taken from them.
        for privilege in ["CONNECT", "TEMPORARY"] {
            if !grants.iter().any(|grant| grant.role.is_none() && grant.privilege == privilege) {
                sql.push(format!("REVOKE {privilege} ON DATABASE {database} FROM PUBLIC"));
            }
        }
        for grant in grants.iter().filter(|grant| known.contains(&grant.privilege.as_str())) {
            let role = grant.role.as_deref().map_or_else(|| "PUBLIC".into(), quoted);
            let option = if grant.grantable && grant.role.is_some() { " WITH GRANT OPTION" } else { "" };
            sql.push(format!("GRANT {} ON DATABASE {database} TO {role}{option}", grant.privilege));
        }
    }
    sql
}

/// Names of settings may have a prefix: `plpgsql.variable_conflict`.
fn quoted_setting(name: &str) -> String {
    name.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

/// The value as SQL: settings that are lists of names are kept quoted as such.
fn setting_value(setting: &crate::manifest::DatabaseSetting) -> String {
    let lists = [
        "search_path",
        "temp_tablespaces",
        "session_preload_libraries",
        "shared_preload_libraries",
        "local_preload_libraries",
    ];
    if !lists.contains(&setting.name.to_lowercase().as_str()) {
        return literal(&setting.value);
    }
    let (mut parts, mut part, mut inside) = (vec![], String::new(), false);
    let mut letters = setting.value.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if inside && letters.peek() == Some(&'"') => {
                letters.next();
                part.push('"');
            }
            '"' => inside = !inside,
            ',' if !inside => parts.push(std::mem::take(&mut part)),
            ' ' if !inside => {}
            other => part.push(other),
        }
    }
    parts.push(part);
    parts.iter().map(|part| literal(part)).collect::<Vec<_>>().join(", ")
}

/// The statements of `pg_dumpall --globals-only --quote-all-identifiers` that make these roles, and make them members of, or
/// give them, roles that are known.
fn role_statements(globals: &str, missing: &[String], known: &[String]) -> Vec<String> {
    let names = |text: &str, roles: &[String]| {
        let begins = |role: &String| text.strip_prefix(&quoted(role)).is_some_and(|rest| !rest.starts_with('"'));
        roles.iter().any(begins)
    };
    let wanted = |line: &&str| {
        if let Some(role) = line.strip_prefix("CREATE ROLE ").or_else(|| line.strip_prefix("ALTER ROLE ")) {
            return names(role, missing);
        }
        let Some((granted, to)) = line.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" TO ")) else {
            return false;
        };
        (names(granted, missing) || names(to, missing)) && names(granted, known) && names(to, known)
    };
    globals
        .lines()
        .filter(|line| line.ends_with(';'))
        .filter(wanted)
        .map(|line| line.split(" GRANTED BY ").next().unwrap_or(line).trim_end_matches(';').to_string())
        .collect()
}

/// The file's name within a dump in the directory format.
pub(super) fn file_name(object: &ObjectRecord) -> Option<String> {
    let name = object.key.rsplit('/').next()?;
    let name = name.strip_suffix(".age").unwrap_or(name).strip_suffix(".zst")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (!name.starts_with('.') && name.chars().all(plain)).then(|| name.to_string())
}

pub(super) type Broken = Arc<Mutex<Option<Failure>>>;

/// An object's content, decompressed; to be read on a thread that may block.
pub(super) fn content(stream: crate::store::ByteStream, broken: &Broken) -> Result<Box<dyn Read + Send>, Failure> {
    let input = Noting { inner: Blocking::new(stream), broken: broken.clone() };
    let decoder = zstd::stream::read::Decoder::new(input)
        .map_err(|error| Failure::Corrupt { object: "dump".into(), message: error.to_string() })?;
    Ok(Box::new(decoder))
}

/// Keeps what the vault failed with: on its way through readers it would become a text.
struct Noting {
    inner: Blocking,
    broken: Broken,
}

impl Read for Noting {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(out);
        if read.is_err() {
            *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = self.inner.failed().cloned();
        }
        read
    }
}

async fn spool(
    vault: &dyn Vault,
    object: &ObjectRecord,
    path: &std::path::Path,
    broken: &Broken,
) -> Result<(), Failure> {
    let mut input = content(vault.read(object).await?, broken)?;
    let local = {
        let path = path.display().to_string();
        move |error: std::io::Error| Failure::Invalid { object: path.clone(), message: error.to_string() }
    };
    let target = path.to_path_buf();
    let copied = tokio::task::spawn_blocking(move || {
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.write(true).create_new(true).open(target)?;
        std::io::copy(&mut input, &mut file)?;
        file.flush()
    });
    copied.await.map_err(|error| local(std::io::Error::other(error)))?.map_err(local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::DatabaseSetting;

    #[test]
    fn names_are_told_apart_by_the_run_however_long_they_are() {
        assert_eq!(fitted("tellbill", "_strongroom_r1"), "tellbill_strongroom_r1");
        let long = fitted(&"ü".repeat(40), "_strongroom_20260801T020000Z-0123abcd");
        assert!(long.len() <= NAME_BYTES && long.ends_with("_strongroom_20260801T020000Z-0123abcd"), "{long}");
    }

    #[test]
    fn roles_are_made_of_the_lines_about_them() {
        let globals = "CREATE ROLE \"app\";\nALTER ROLE \"app\" WITH NOSUPERUSER LOGIN;\nCREATE ROLE \"apple\";\n\
            CREATE ROLE \"other\";\nGRANT \"readers\" TO \"app\" WITH INHERIT TRUE GRANTED BY \"postgres\";\n\
            GRANT \"readers\" TO \"other\";\nGRANT \"gone\" TO \"app\";\nCOMMENT ON ROLE \"app\" IS 'the';\n";
        assert_eq!(
            role_statements(globals, &["app".into()], &["app".into(), "readers".into(), "other".into()]),
            [
                "CREATE ROLE \"app\"",
                "ALTER ROLE \"app\" WITH NOSUPERUSER LOGIN",
                "GRANT \"readers\" TO \"app\" WITH INHERIT TRUE"
            ]
        );
    }

    #[test]
    fn settings_are_values_never_statements() {
        let value = |name: &str, value: &str| {
            setting_value(&DatabaseSetting { role: None, name: name.into(), value: value.into() })
        };
        assert_eq!(value("work_mem", "64MB'; DROP TABLE x; --"), "'64MB''; DROP TABLE x; --'");
        assert_eq!(value("search_path", "\"$user\", app, \"a\"\"b\""), "'$user', 'app', 'a\"b'");
    }
}
