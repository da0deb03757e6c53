//! GoogleSQL: text in, outcomes out. Tables come from a [`Catalog`]; the engine computes, the caller applies the effects.
//! It knows nothing of HTTP, jobs or storage.
#![allow(dead_code)] // until the REST side calls it

use std::sync::Arc;

use arrow::array::RecordBatch;
use serde_json::Value;

mod bind;
pub mod error;
mod exec;
mod func;
mod num;
mod stmt;
mod syntax;
#[cfg(test)]
mod tests;
mod ty;
mod udf;
mod value;

pub use error::ApiError;
pub use stmt::script::Script;

/// `project.dataset.table`, unquoted, in the spelling of the query.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TablePath {
    pub project: String,
    pub dataset: String,
    pub table: String,
}

/// Where an `INFORMATION_SCHEMA` view (or `__TABLES__`) looks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SchemaScope {
    /// `p.d.INFORMATION_SCHEMA.X` or `p.d.__TABLES__`.
    Dataset { project: String, dataset: String },
    /// `p.region-eu.INFORMATION_SCHEMA.X`; `region` is in lower case and without `region-`.
    Region { project: String, region: String },
    /// `p.INFORMATION_SCHEMA.X` or just `INFORMATION_SCHEMA.X`.
    Project { project: String },
}

/// Rows of a table or a result: `fields` are TableFieldSchema JSON (REST spelling: INTEGER, FLOAT, RECORD ...), batches are in
/// the team's Arrow mapping with the columns in the order of `fields`.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    pub fields: Vec<Value>,
    pub batches: Arc<Vec<RecordBatch>>,
}

impl Rows {
    /// How many rows there are.
    pub fn row_count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub enum Relation {
    Table {
        /// TableFieldSchema JSON, as in `tables.get`.
        fields: Vec<Value>,
        /// Columns in the order of `fields`; with `ingestion_time`, one further last column `_PARTITIONTIME` (Timestamp(us,"UTC")).
        batches: Arc<Vec<RecordBatch>>,
        /// `HOUR`, `DAY`, `MONTH` or `YEAR` for a table partitioned by ingestion time.
        ingestion_time: Option<String>,
    },
    View {
        sql: String,
        /// Written in legacy SQL.
        use_legacy_sql: bool,
        /// The view's own column names, when the view resource has a schema.
        fields: Vec<Value>,
    },
}

/// A scalar SQL routine: `body` is inlined for each call.
#[derive(Debug, Clone)]
pub struct SqlFunction {
    /// Name and StandardSqlDataType JSON; `None` = ANY TYPE.
    pub arguments: Vec<(String, Option<Value>)>,
    pub body: String,
    /// StandardSqlDataType JSON.
    pub return_type: Option<Value>,
}

/// What the engine asks of the world. Implementations answer from memory or disk; they are called synchronously.
pub trait Catalog: Send + Sync {
    /// The table, view, snapshot or materialised view with that name, as it was at `at_ms` (epoch milliseconds) if given.
    ///
    /// # Errors
    /// `notFound` with BigQuery's message when there is none (`Not found: Table p:d.t was not found in location L`).
    fn resolve(&self, path: &TablePath, at_ms: Option<i64>) -> Result<Relation, ApiError>;

    /// The routine with that name, if there is one. `path.table` holds the routine's name.
    ///
    /// # Errors
    /// When the routine exists but is no scalar SQL function.
    fn routine(&self, path: &TablePath) -> Result<Option<SqlFunction>, ApiError>;

    /// The rows of an `INFORMATION_SCHEMA` view (`TABLES`, `COLUMNS`, ... in upper case) or of `__TABLES__`.
    ///
    /// # Errors
    /// `notFound` for an unknown dataset or view.
    fn information_schema(&self, scope: &SchemaScope, view: &str) -> Result<Rows, ApiError>;

    /// The names of a dataset's tables that begin with a prefix, for wildcard tables.
    ///
    /// # Errors
    /// `notFound` for an unknown dataset.
    fn tables_with_prefix(&self, project: &str, dataset: &str, prefix: &str) -> Result<Vec<String>, ApiError>;
}

/// A query as a job or `jobs.query` states it.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub sql: String,
    /// The project that unqualified names belong to.
    pub project: String,
    /// (project, dataset) for bare table names.
    pub default_dataset: Option<(String, String)>,
    /// QueryParameter JSON: `{name?, parameterType, parameterValue}`.
    pub parameters: Vec<Value>,
    /// What CURRENT_TIMESTAMP() says, microseconds since the epoch.
    pub now_us: i64,
    pub use_legacy_sql: bool,
    /// Plan only: outcomes carry schema, referenced tables and bytes, but no rows.
    pub dry_run: bool,
    /// Where it runs, for messages ("EU").
    pub location: String,
    /// What SESSION_USER() says.
    pub user: String,
}

/// How many rows a DML statement touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Affected {
    pub inserted: i64,
    pub updated: i64,
    pub deleted: i64,
}

/// What kind of thing a DROP, UNDROP or ALTER names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    Table,
    SnapshotTable,
    ExternalTable,
    View,
    MaterializedView,
    Schema,
    Function,
    Procedure,
    TableFunction,
}

/// What the statement wants done. The engine has done none of it.
#[derive(Debug, Clone)]
pub enum Effect {
    /// A SELECT (or a script statement without effects): `Outcome::rows` is the answer.
    None,
    /// `resource` is a Table resource (tableReference, schema, timePartitioning, clustering, description, labels, view, ...);
    /// `rows` are the contents for AS SELECT.
    CreateTable {
        resource: Value,
        or_replace: bool,
        if_not_exists: bool,
        rows: Option<Rows>,
    },
    /// A Table resource with `view` or `materializedView`; `schema` is the query's.
    CreateView {
        resource: Value,
        or_replace: bool,
        if_not_exists: bool,
    },
    /// CREATE TABLE ... COPY | CLONE | CREATE SNAPSHOT TABLE ... CLONE. `operation` is jobs.copy's operationType (COPY, CLONE,
    /// SNAPSHOT; RESTORE for a clone of a snapshot is the caller's to see); `resource` has tableReference and the options.
    CopyTable {
        operation: &'static str,
        source: TablePath,
        at_ms: Option<i64>,
        resource: Value,
        or_replace: bool,
        if_not_exists: bool,
    },
    /// CREATE TABLE ... LIKE: the source's schema, partitioning, clustering and options, overridden by those in `resource`.
    CreateTableLike {
        source: TablePath,
        resource: Value,
        or_replace: bool,
        if_not_exists: bool,
        rows: Option<Rows>,
    },
    /// The whole new contents of a table, columns as in `Relation::Table::batches` (with `_PARTITIONTIME` where it had one).
    ReplaceRows {
        table: TablePath,
        rows: Rows,
        affected: Affected,
    },
    /// For `Schema`, `path.table` is empty; `cascade` only there.
    Drop {
        kind: ObjectKind,
        path: TablePath,
        if_exists: bool,
        cascade: bool,
    },
    /// Merge-patch for a table's, view's or dataset's resource (null removes; labels replace as a whole).
    AlterOptions {
        kind: ObjectKind,
        path: TablePath,
        patch: Value,
        if_exists: bool,
    },
    /// ALTER TABLE ADD/DROP/RENAME/ALTER COLUMN: the whole new `fields`; `rows` is set when the stored data change with them.
    AlterSchema {
        table: TablePath,
        fields: Vec<Value>,
        rows: Option<Rows>,
    },
    RenameTable {
        table: TablePath,
        new_name: String,
        if_exists: bool,
    },
    /// `resource` is a Dataset resource.
    CreateSchema {
        resource: Value,
        if_not_exists: bool,
    },
    /// `resource` is a Routine resource.
    CreateRoutine {
        resource: Value,
        or_replace: bool,
        if_not_exists: bool,
    },
    /// `grantees` as in `user:a@b.c`; `filter` is the predicate's text.
    CreateRowAccessPolicy {
        table: TablePath,
        name: String,
        grantees: Vec<String>,
        filter: String,
        or_replace: bool,
        if_not_exists: bool,
    },
    /// `name` is `None` for DROP ALL ROW ACCESS POLICIES.
    DropRowAccessPolicy {
        table: TablePath,
        name: Option<String>,
        if_exists: bool,
    },
    /// GRANT and REVOKE: `roles/...` for members on a table, view or dataset (`path.table` empty).
    Grant {
        kind: ObjectKind,
        path: TablePath,
        roles: Vec<String>,
        members: Vec<String>,
        revoke: bool,
    },
    /// `options` are EXPORT DATA's (uri, format, compression, overwrite, header, field_delimiter, use_avro_logical_types), names in lower case.
    ExportData {
        options: Value,
        rows: Rows,
    },
    /// LOAD DATA: `configuration` is a JobConfigurationLoad.
    LoadData {
        configuration: Value,
    },
}

/// What came of one statement.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Google's `statistics.query.statementType`: SELECT, INSERT, CREATE_TABLE_AS_SELECT, DROP_TABLE, ...
    pub statement_type: &'static str,
    /// The answer of a SELECT; its `fields` are also set for a dry run, and empty for DDL and DML.
    pub rows: Rows,
    /// Tables that were read, views replaced by what they read.
    pub referenced: Vec<TablePath>,
    /// Logical bytes of the columns that were read.
    pub bytes_processed: i64,
    pub effect: Effect,
}
