//! What the SQL engine sees of the service: tables as they were when a statement first read them, views, routines and the
//! information schema.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use serde_json::{Value, json};

use super::datasets::canonical_location;
use super::http::Caller;
use super::names::{At, Decorated, TableRef};
use super::partition::{Partitioning, Unit};
use super::registry::{self, TableRecord};
use super::service::{BigQuery, partitioning};
use super::sql::{Catalog, Relation, Rows, SchemaScope, SqlFunction, TablePath};
use super::{information, policies, routines};
use crate::core::ApiError;

/// Ends the name under which a table with row access policies is read without them; no client can write it.
const RAW: char = '\u{2063}';

/// The catalog of one query.
pub struct Snapshot {
    service: Arc<BigQuery>,
    project: String,
    location: String,
    caller: Caller,
    /// Which version of each table was read, and how many rows it had.
    seen: Mutex<HashMap<TableRef, (i64, u64)>>,
    /// Tables of which the caller sees some rows only.
    filtered: Mutex<Vec<TableRef>>,
}

impl Snapshot {
    pub fn new(service: &Arc<BigQuery>, project: &str, location: &str, caller: &Caller) -> Self {
        Self {
            service: service.clone(),
            project: project.to_owned(),
            location: location.to_owned(),
            caller: caller.clone(),
            seen: Mutex::default(),
            filtered: Mutex::default(),
        }
    }

    /// The version and row count of a table as the last statement read it; forgotten afterwards.
    pub fn take_seen(&self, table: &TableRef) -> Option<(i64, u64)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(table)
    }

    /// The engine takes a table whose rows are filtered for a view; its complaint is put into BigQuery's words.
    pub fn explain(&self, error: ApiError) -> ApiError {
        let filtered = self.filtered.lock().unwrap_or_else(PoisonError::into_inner);
        match filtered.iter().find(|t| error.message.contains(&t.to_string()) && error.message.contains("VIEW")) {
            Some(table) => access_denied(table),
            None => error,
        }
    }

    fn missing(&self, table: &TableRef) -> ApiError {
        ApiError::not_found(format!("Not found: Table {table} was not found in location {}", self.location))
    }

    fn dataset(&self, project: &str, dataset: &str) -> Result<registry::DatasetRecord, ApiError> {
        let missing = || {
            ApiError::not_found(format!(
                "Not found: Dataset {project}:{dataset} was not found in location {}",
                self.location
            ))
        };
        let found = registry::dataset(&self.service.sandbox.db, project, dataset)?.ok_or_else(missing)?;
        if canonical_location(found.location()) != self.location {
            return Err(missing());
        }
        Ok(found)
    }

    fn find(&self, table: &TableRef) -> Result<TableRecord, ApiError> {
        self.dataset(&table.project, &table.dataset)?;
        let gone = |e: ApiError| if e.code == 404 { self.missing(table) } else { e };
        self.service.expire_partitions(table).map_err(gone)
    }

    fn rows_of(&self, table: &TableRef, record: &TableRecord, at_ms: Option<i64>) -> Result<Relation, ApiError> {
        let service = &self.service;
        let now_us = service.now_us();
        let moment = match at_ms {
            None => {
                let moment = record.current(now_us);
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.insert(table.clone(), (record.version_us(), moment.rows()));
                moment
            }
            Some(ms) => {
                let window = self.dataset(&table.project, &table.dataset)?.time_travel_ms();
                let at_us = registry::instant_us(At::Ms(ms), table, now_us, window)?;
                record.moment(at_us).ok_or_else(|| {
                    let created = record.created_ms;
                    ApiError::invalid(format!(
                        "Invalid snapshot time {ms} for Table {table}@{ms}. Cannot read before {created}."
                    ))
                })?
            }
        };
        let layout = partitioning(&record.resource)?;
        let ingestion = layout.as_ref().is_some_and(Partitioning::is_ingestion_time);
        let unit = match &layout {
            Some(Partitioning::Time { unit, field: None, .. }) => Some(match unit {
                Unit::Hour => "HOUR",
                Unit::Day => "DAY",
                Unit::Month => "MONTH",
                Unit::Year => "YEAR",
            }),
            _ => None,
        };
        Ok(Relation::Table {
            fields: moment.schema["fields"].as_array().cloned().unwrap_or_default(),
            batches: Arc::new(service.rows(&moment, ingestion)?),
            ingestion_time: unit.map(str::to_owned),
        })
    }
}

impl Catalog for Snapshot {
    fn resolve(&self, path: &TablePath, at_ms: Option<i64>) -> Result<Relation, ApiError> {
        let (name, raw) = path.table.strip_suffix(RAW).map_or((path.table.as_str(), false), |name| (name, true));
        let decorated = Decorated::parse(&path.project, &path.dataset, name)?;
        if decorated.partition.is_some() || decorated.at.is_some() {
            return Err(ApiError::new(
                400,
                "invalidQuery",
                format!("Table decorators are not supported in standard SQL: {name}"),
            ));
        }
        let table = decorated.table;
        let record = self.find(&table)?;
        match record.kind() {
            "TABLE" | "SNAPSHOT" => {}
            "EXTERNAL" => {
                return Err(ApiError::not_implemented(format!(
                    "queries of external tables are not supported by the sandbox: {table}"
                )));
            }
            kind => {
                let view = &record.resource[if kind == "VIEW" { "view" } else { "materializedView" }];
                return Ok(Relation::View {
                    sql: view["query"].as_str().unwrap_or_default().to_owned(),
                    use_legacy_sql: view["useLegacySql"].as_bool().unwrap_or(false),
                    fields: record.schema()["fields"].as_array().cloned().unwrap_or_default(),
                });
            }
        }
        let filter = if raw { None } else { policies::filter_for(&record, &self.caller, &table) };
        match filter {
            None => self.rows_of(&table, &record, at_ms),
            Some(predicate) => {
                self.filtered.lock().unwrap_or_else(PoisonError::into_inner).push(table.clone());
                let time = at_ms.map_or(String::new(), |ms| format!(" FOR SYSTEM_TIME AS OF TIMESTAMP_MILLIS({ms})"));
                let TableRef { project, dataset, table: name } = &table;
                Ok(Relation::View {
                    sql: format!("SELECT * FROM `{project}`.`{dataset}`.`{name}{RAW}`{time} WHERE {predicate}"),
                    use_legacy_sql: false,
                    fields: record.schema()["fields"].as_array().cloned().unwrap_or_default(),
                })
            }
        }
    }

    fn routine(&self, path: &TablePath) -> Result<Option<SqlFunction>, ApiError> {
        let Some(routine) = routines::find(&self.service, &path.project, &path.dataset, &path.table)? else {
            return Ok(None);
        };
        let kind = routine["routineType"].as_str().unwrap_or_default();
        let language = routine["language"].as_str().unwrap_or("SQL");
        if kind != "SCALAR_FUNCTION" || language != "SQL" {
            return Err(ApiError::not_implemented(format!(
                "routine {}.{} is a {kind} in {language}; the sandbox runs scalar SQL functions only",
                path.dataset, path.table
            )));
        }
        let arguments = routine["arguments"].as_array().into_iter().flatten().map(|a| {
            let any = a["argumentKind"] == "ANY_TYPE";
            (a["name"].as_str().unwrap_or_default().to_owned(), a.get("dataType").filter(|_| !any).cloned())
        });
        Ok(Some(SqlFunction {
            arguments: arguments.collect(),
            body: routine["definitionBody"].as_str().unwrap_or_default().to_owned(),
            return_type: routine.get("returnType").cloned(),
        }))
    }

    fn information_schema(&self, scope: &SchemaScope, view: &str) -> Result<Rows, ApiError> {
        let datasets = match scope {
            SchemaScope::Dataset { project, dataset } => {
                vec![(project.clone(), dataset.clone(), self.dataset(project, dataset)?)]
            }
            SchemaScope::Region { project, region } => {
                information::datasets_in(&self.service, project, &canonical_location(region))?
            }
            SchemaScope::Project { project } => information::datasets_in(&self.service, project, &self.location)?,
        };
        let project = match scope {
            SchemaScope::Dataset { project, .. }
            | SchemaScope::Region { project, .. }
            | SchemaScope::Project { project } => project,
        };
        let project = if project.is_empty() { &self.project } else { project };
        information::rows(&self.service, project, &datasets, view, &self.caller)
    }

    fn tables_with_prefix(&self, project: &str, dataset: &str, prefix: &str) -> Result<Vec<String>, ApiError> {
        self.dataset(project, dataset)?;
        let now = self.service.now_ms();
        let tables = registry::list_tables(&self.service.sandbox.db, project, dataset, None, usize::MAX)?;
        Ok(tables
            .into_iter()
            .filter(|(id, r)| id.starts_with(prefix) && r.has_rows() && r.expires_ms().is_none_or(|ms| ms > now))
            .map(|(id, _)| id)
            .collect())
    }
}

/// DML needs all rows of its table.
pub fn access_denied(table: &TableRef) -> ApiError {
    let message =
        format!("Access Denied: DML over table {table} needs all its rows, and a row access policy hides some.");
    ApiError::forbidden("accessDenied", message)
}

/// A catalog of one table: whatever is asked for is that.
pub struct Adhoc {
    pub fields: Vec<Value>,
    pub batches: Arc<Vec<RecordBatch>>,
}

impl Catalog for Adhoc {
    fn resolve(&self, _: &TablePath, _: Option<i64>) -> Result<Relation, ApiError> {
        Ok(Relation::Table { fields: self.fields.clone(), batches: self.batches.clone(), ingestion_time: None })
    }

    fn routine(&self, _: &TablePath) -> Result<Option<SqlFunction>, ApiError> {
        Ok(None)
    }

    fn information_schema(&self, _: &SchemaScope, view: &str) -> Result<Rows, ApiError> {
        Err(ApiError::not_found(format!("Not found: {view} cannot be read in this place")))
    }

    fn tables_with_prefix(&self, _: &str, _: &str, _: &str) -> Result<Vec<String>, ApiError> {
        Ok(vec![])
    }
}

/// `TableReference` JSON of an engine's path.
pub fn path_json(path: &TablePath) -> Value {
    json!({"projectId": path.project, "datasetId": path.dataset, "tableId": path.table})
}

/// The service's reference of an engine's path.
pub fn table_ref(path: &TablePath) -> TableRef {
    TableRef::new(&path.project, &path.dataset, &path.table)
}
