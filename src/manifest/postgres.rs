//! A PostgreSQL database in a backup.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::{ObjectRecord, TableRecord};
use super::streamed::{Item, StreamedRecord};
use crate::model::schema::Schema;
use crate::model::{Fingerprint, Totals};

/// A database as of one exported snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PostgresRecord {
    pub name: String,
    /// The database's URL without its password.
    pub origin: String,
    /// The server's clock when the snapshot was taken.
    pub taken_at: Timestamp,
    /// `server_version` and `server_version_num`.
    pub server: String,
    pub server_version: u32,
    /// What wrote the dump: `pg_dump (PostgreSQL) 15.18`.
    pub tool: String,
    pub database: DatabaseProperties,
    pub dump: DumpRecord,
    /// `pg_dumpall --globals-only --no-role-passwords`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub globals: Option<ObjectRecord>,
    /// Every table that holds rows, in order of schema and name.
    pub tables: Vec<PostgresTable>,
    /// Where sequences stood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequences: Vec<SequenceRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_objects: Option<LargeObjects>,
    /// Roles that own something, or have rights on it.
    pub roles: Vec<String>,
    pub extensions: Vec<ExtensionRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tablespaces: Vec<String>,
    /// Tables as files that can be queried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<TableRecord>,
}

/// What a dump does not hold, since it is said when a database is made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DatabaseProperties {
    pub name: String,
    pub owner: String,
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    /// `libc`, `icu` or `builtin`; before PostgreSQL 15 always the first.
    pub provider: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    pub connection_limit: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// `ALTER DATABASE ... SET name = value`; with a role `ALTER ROLE ... IN DATABASE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<DatabaseSetting>,
    /// Rights on the database itself; `None`: the default ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<DatabaseGrant>>,
    /// Whether there was a schema `public`, which every new database has.
    pub has_public: bool,
    pub size_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSetting {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    pub name: String,
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseGrant {
    /// `None`: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// `CONNECT`, `CREATE` or `TEMPORARY`.
    pub privilege: String,
    pub grantable: bool,
}

/// The dump itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DumpRecord {
    /// `custom` or `directory`.
    pub format: String,
    /// Bytes as `pg_restore` reads them, before they were compressed.
    pub size_bytes: u64,
    /// One of the custom format; of the directory format its files, by their names. Each compressed by zstd.
    pub objects: Vec<ObjectRecord>,
    /// The settings of its session that decide how values are written, and that a dump does not make itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// A table's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PostgresTable {
    pub schema: String,
    pub table: String,
    pub row_count: u64,
    pub size_bytes: u64,
    /// How its columns were read, in BigQuery's types; what those do not hold was read as text.
    pub columns: Schema,
    /// Of the rows as the dump holds them: each row in COPY's text form hashed by FARM_FINGERPRINT (one above 1 MiB: its
    /// SHA-256), in any order. Absent when the dump's format was not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// From a second pass under the dump's snapshot, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Totals>,
}

impl PostgresTable {
    /// `schema.table`, for people.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceRecord {
    pub schema: String,
    pub sequence: String,
    /// Absent while it was never used. No part of the snapshot: the dump may hold a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_value: Option<i64>,
    pub increment: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cycles: bool,
}

/// All large objects together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjects {
    pub count: u64,
    pub size_bytes: u64,
    /// MD5 of each object's id and content's MD5, in order of ids: it finds accidents.
    pub digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionRecord {
    pub name: String,
    pub version: String,
}

impl StreamedRecord for PostgresRecord {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn origin(&self) -> &str {
        &self.origin
    }

    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    fn objects(&self) -> Vec<&ObjectRecord> {
        let exports = self.exports.iter().flat_map(|table| std::iter::once(&table.meta).chain(&table.objects));
        self.dump.objects.iter().chain(&self.globals).chain(exports).collect()
    }

    fn tables(&self) -> &[TableRecord] {
        &self.exports
    }

    fn items(&self) -> Vec<Item> {
        let item = |table: &PostgresTable| Item {
            name: table.full_name(),
            row_count: Some(table.row_count),
            size_bytes: Some(table.size_bytes),
            proven: Some(table.fingerprint.is_some() || table.proof.is_some()),
            remark: String::new(),
        };
        let large = self.large_objects.iter().map(|all| Item {
            name: "large objects".into(),
            row_count: Some(all.count),
            size_bytes: Some(all.size_bytes),
            proven: Some(true),
            remark: String::new(),
        });
        self.tables.iter().map(item).chain(large).collect()
    }
}
