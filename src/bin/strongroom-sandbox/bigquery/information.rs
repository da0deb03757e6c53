//! The rows of `INFORMATION_SCHEMA` and `__TABLES__`: metadata as tables. Knows the columns that Google documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use serde_json::{Value, json};
use strongroom::model::schema::{Field, FieldType, Schema};

use super::civil::{parse_ms, timestamp_text};
use super::ddl;
use super::http::Caller;
use super::jobs;
use super::names::TableRef;
use super::partition::Key;
use super::registry::{self, DatasetRecord, TableRecord};
use super::rows::batch_from_json;
use super::schema;
use super::service::{BigQuery, partitioning};
use super::sql::Rows;
use super::{datasets::canonical_location, routines};
use crate::core::ApiError;

/// A dataset with its names.
pub type Named = (String, String, DatasetRecord);

/// The datasets of a project at a location, without the hidden ones.
///
/// # Errors
/// When the database fails.
pub fn datasets_in(service: &BigQuery, project: &str, location: &str) -> Result<Vec<Named>, ApiError> {
    let all = registry::list_datasets(&service.sandbox.db, project, None, usize::MAX)?;
    let here = all.into_iter().filter(|(id, r)| !id.starts_with('_') && canonical_location(r.location()) == location);
    Ok(here.map(|(id, record)| (project.to_owned(), id, record)).collect())
}

/// Names and types of a view's columns: `name TYPE`, with `*` for arrays of text.
struct Columns(&'static str);

impl Columns {
    fn schema(&self) -> Schema {
        let fields = self.0.split(',').map(|column| {
            let mut parts = column.split_whitespace();
            let (name, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("STRING"));
            match kind {
                "STRING*" => Field::repeated(name, FieldType::String),
                "ERROR" => record(name, &["reason", "location", "debug_info", "message"], false),
                "TABLE" => record(name, &["project_id", "dataset_id", "table_id"], false),
                "TABLE*" => record(name, &["project_id", "dataset_id", "table_id"], true),
                "LABEL*" => record(name, &["key", "value"], true),
                kind => Field::nullable(name, kind.parse().unwrap_or(FieldType::String)),
            }
        });
        Schema::new(fields.collect())
    }
}

fn record(name: &str, members: &[&str], repeated: bool) -> Field {
    use strongroom::model::schema::Mode;
    let inner = members.iter().map(|m| Field::nullable(*m, FieldType::String)).collect();
    Field::record(name, if repeated { Mode::Repeated } else { Mode::Nullable }, inner)
}

const TABLES: Columns = Columns(
    "table_catalog, table_schema, table_name, table_type, managed_table_type, is_insertable_into, is_fine_grained_mutations_enabled, is_typed, is_change_history_enabled, creation_time TIMESTAMP, base_table_catalog, base_table_schema, base_table_name, snapshot_time_ms TIMESTAMP, ddl, default_collation_name, upsert_stream_apply_watermark TIMESTAMP",
);
const COLUMNS: Columns = Columns(
    "table_catalog, table_schema, table_name, column_name, ordinal_position INT64, is_nullable, data_type, is_generated, generation_expression, is_stored, is_hidden, is_updatable, is_system_defined, is_partitioning_column, clustering_ordinal_position INT64, collation_name, column_default, rounding_mode, policy_tags STRING*",
);
const FIELD_PATHS: Columns = Columns(
    "table_catalog, table_schema, table_name, column_name, field_path, data_type, description, collation_name, rounding_mode, policy_tags STRING*",
);
const PARTITIONS: Columns = Columns(
    "table_catalog, table_schema, table_name, partition_id, total_rows INT64, total_logical_bytes INT64, total_billable_bytes INT64, last_modified_time TIMESTAMP, storage_tier",
);
const SUMMARY: Columns = Columns(
    "project_id, dataset_id, table_id, partition_id, creation_time INT64, creation_timestamp TIMESTAMP, last_modified_time INT64, last_modified_timestamp TIMESTAMP",
);
/// The decorator of the meta-table of a table's partitions.
pub const PARTITIONS_SUMMARY: &str = "__PARTITIONS_SUMMARY__";
const TABLE_OPTIONS: Columns =
    Columns("table_catalog, table_schema, table_name, option_name, option_type, option_value");
const VIEWS: Columns =
    Columns("table_catalog, table_schema, table_name, view_definition, check_option, use_standard_sql");
const ROUTINES: Columns = Columns(
    "specific_catalog, specific_schema, specific_name, routine_catalog, routine_schema, routine_name, routine_type, data_type, routine_body, routine_definition, external_language, is_deterministic, security_type, created TIMESTAMP, last_altered TIMESTAMP, ddl",
);
const SNAPSHOTS: Columns = Columns(
    "table_catalog, table_schema, table_name, base_table_catalog, base_table_schema, base_table_name, snapshot_time TIMESTAMP",
);
const CONSTRAINTS: Columns = Columns(
    "constraint_catalog, constraint_schema, constraint_name, table_catalog, table_schema, table_name, constraint_type, is_deferrable, initially_deferred, enforced",
);
const KEY_USAGE: Columns = Columns(
    "constraint_catalog, constraint_schema, constraint_name, table_catalog, table_schema, table_name, column_name, ordinal_position INT64, position_in_unique_constraint INT64",
);
const SCHEMATA: Columns = Columns(
    "catalog_name, schema_name, schema_owner, creation_time TIMESTAMP, last_modified_time TIMESTAMP, location, ddl, default_collation_name",
);
const SCHEMATA_OPTIONS: Columns = Columns("catalog_name, schema_name, option_name, option_type, option_value");
const STORAGE: Columns = Columns(
    "project_id, project_number INT64, table_catalog, table_schema, table_name, creation_time TIMESTAMP, total_rows INT64, total_partitions INT64, total_logical_bytes INT64, active_logical_bytes INT64, long_term_logical_bytes INT64, current_physical_bytes INT64, total_physical_bytes INT64, active_physical_bytes INT64, long_term_physical_bytes INT64, time_travel_physical_bytes INT64, storage_last_modified_time TIMESTAMP, deleted BOOL, table_type, managed_table_type, fail_safe_physical_bytes INT64, table_deletion_reason, table_deletion_time TIMESTAMP",
);
const JOBS: Columns = Columns(
    "creation_time TIMESTAMP, project_id, project_number INT64, user_email, job_id, job_type, statement_type, priority, start_time TIMESTAMP, end_time TIMESTAMP, query, state, reservation_id, total_bytes_processed INT64, total_slot_ms INT64, error_result ERROR, cache_hit BOOL, destination_table TABLE, referenced_tables TABLE*, labels LABEL*, total_bytes_billed INT64, parent_job_id",
);
const DUNDER_TABLES: Columns = Columns(
    "project_id, dataset_id, table_id, creation_time INT64, last_modified_time INT64, row_count INT64, size_bytes INT64, type INT64",
);

/// Milliseconds as a timestamp value.
fn time(ms: i64) -> Value {
    json!(timestamp_text(ms))
}

fn yes(flag: bool) -> &'static str {
    if flag { "YES" } else { "NO" }
}

/// The rows of a view over these datasets.
///
/// # Errors
/// `notFound` for a view that there is none of.
pub fn rows(
    service: &Arc<BigQuery>,
    project: &str,
    datasets: &[Named],
    view: &str,
    caller: &Caller,
) -> Result<Rows, ApiError> {
    let (columns, rows) = match view {
        "TABLES" => (TABLES, each_table(service, datasets, tables_row)?),
        "COLUMNS" => (COLUMNS, each_table(service, datasets, columns_rows)?),
        "COLUMN_FIELD_PATHS" => (FIELD_PATHS, each_table(service, datasets, field_path_rows)?),
        "PARTITIONS" => (PARTITIONS, partitions(service, datasets)?),
        "TABLE_OPTIONS" => (TABLE_OPTIONS, each_table(service, datasets, option_rows)?),
        "VIEWS" => (VIEWS, each_table(service, datasets, view_row)?),
        "ROUTINES" => (ROUTINES, routine_rows(service, datasets)?),
        "TABLE_SNAPSHOTS" => (SNAPSHOTS, each_table(service, datasets, snapshot_row)?),
        "TABLE_CONSTRAINTS" => (CONSTRAINTS, each_table(service, datasets, constraint_rows)?),
        "KEY_COLUMN_USAGE" => (KEY_USAGE, each_table(service, datasets, key_rows)?),
        "SCHEMATA" => (SCHEMATA, datasets.iter().map(schema_row).collect()),
        "SCHEMATA_OPTIONS" => (SCHEMATA_OPTIONS, datasets.iter().flat_map(schema_option_rows).collect()),
        "TABLE_STORAGE" | "TABLE_STORAGE_BY_PROJECT" => (STORAGE, each_table(service, datasets, storage_row)?),
        "JOBS" | "JOBS_BY_PROJECT" => (JOBS, job_rows(service, project, None)?),
        "JOBS_BY_USER" => (JOBS, job_rows(service, project, Some(&caller.name(project)))?),
        "__TABLES__" | "__TABLES_SUMMARY__" => (DUNDER_TABLES, each_table(service, datasets, dunder_row)?),
        _ => return Err(ApiError::not_found(format!("Not found: Table {project}:INFORMATION_SCHEMA.{view}"))),
    };
    let schema = columns.schema();
    let batch =
        batch_from_json(&schema, &rows).map_err(|e| ApiError::internal(format!("INFORMATION_SCHEMA.{view}: {e}")))?;
    let json = schema::canonical(&schema.to_json());
    Ok(Rows { fields: json["fields"].as_array().cloned().unwrap_or_default(), batches: Arc::new(vec![batch]) })
}

/// A table with its dataset, as the makers of rows get it.
struct Entry<'a> {
    service: &'a BigQuery,
    table: TableRef,
    record: TableRecord,
}

impl Entry<'_> {
    /// A row that begins with the three names of the table.
    fn row(&self, rest: Value) -> Value {
        let mut out = json!({"table_catalog": self.table.project, "table_schema": self.table.dataset, "table_name": self.table.table});
        for (key, value) in rest.as_object().into_iter().flatten() {
            out[key] = value.clone();
        }
        out
    }

    fn fields(&self) -> Vec<Value> {
        self.record.schema()["fields"].as_array().cloned().unwrap_or_default()
    }
}

fn entries<'a>(service: &'a BigQuery, datasets: &[Named]) -> Result<Vec<Entry<'a>>, ApiError> {
    let now = service.now_ms();
    let mut out = vec![];
    for (project, dataset, _) in datasets {
        for (id, record) in registry::list_tables(&service.sandbox.db, project, dataset, None, usize::MAX)? {
            if record.expires_ms().is_none_or(|ms| ms > now) {
                out.push(Entry { service, table: TableRef::new(project, dataset, &id), record });
            }
        }
    }
    Ok(out)
}

fn each_table(
    service: &BigQuery,
    datasets: &[Named],
    make: fn(&Entry<'_>) -> Vec<Value>,
) -> Result<Vec<Value>, ApiError> {
    Ok(entries(service, datasets)?.iter().flat_map(make).collect())
}

fn kind_word(record: &TableRecord) -> &'static str {
    match record.kind() {
        "TABLE" if record.clone.is_some() => "CLONE",
        "TABLE" => "BASE TABLE",
        "MATERIALIZED_VIEW" => "MATERIALIZED VIEW",
        kind => kind,
    }
}

fn tables_row(entry: &Entry<'_>) -> Vec<Value> {
    let record = &entry.record;
    let origin = record.snapshot.as_ref().or(record.clone.as_ref());
    let base = |f: fn(&TableRef) -> &String| origin.map(|o| f(&o.base).clone());
    vec![entry.row(json!({
        "table_type": kind_word(record),
        "managed_table_type": record.has_rows().then_some("NATIVE"),
        "is_insertable_into": yes(record.kind() == "TABLE"),
        "is_fine_grained_mutations_enabled": "NO",
        "is_typed": "NO",
        "is_change_history_enabled": "NO",
        "creation_time": time(record.created_ms),
        "base_table_catalog": base(|t| &t.project),
        "base_table_schema": base(|t| &t.dataset),
        "base_table_name": base(|t| &t.table),
        "snapshot_time_ms": origin.map(|o| time(o.time_ms)),
        "ddl": ddl::table_ddl(&entry.table, record),
        "default_collation_name": record.resource.get("defaultCollation").and_then(Value::as_str).unwrap_or("NULL"),
    }))]
}

fn columns_rows(entry: &Entry<'_>) -> Vec<Value> {
    let resource = &entry.record.resource;
    let layout = partitioning(resource).ok().flatten();
    let clustering: Vec<&str> = resource
        .get("clustering")
        .and_then(|c| c["fields"].as_array())
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let parsed = schema::parse(&entry.record.schema()).map(|s| s.fields).unwrap_or_default();
    entry
        .fields()
        .iter()
        .zip(parsed)
        .enumerate()
        .map(|(i, (json, field))| {
            let name = &field.name;
            let partitions = layout.as_ref().is_some_and(|l| l.column().eq_ignore_ascii_case(name));
            let cluster = clustering.iter().position(|c| c.eq_ignore_ascii_case(name)).map(|p| p + 1);
            entry.row(json!({
                "column_name": name,
                "ordinal_position": i + 1,
                "is_nullable": ddl::is_nullable(field.mode),
                "data_type": ddl::column_type(json),
                "is_generated": "NEVER",
                "is_hidden": "NO",
                "is_system_defined": "NO",
                "is_partitioning_column": yes(partitions),
                "clustering_ordinal_position": cluster,
                "collation_name": json["collation"].as_str().unwrap_or("NULL"),
                "column_default": json["defaultValueExpression"].as_str().unwrap_or("NULL"),
                "rounding_mode": json["roundingMode"].as_str(),
                "policy_tags": json["policyTags"]["names"].as_array().cloned().unwrap_or_default(),
            }))
        })
        .collect()
}

fn field_path_rows(entry: &Entry<'_>) -> Vec<Value> {
    fn walk(entry: &Entry<'_>, column: &str, path: &str, field: &Value, out: &mut Vec<Value>) {
        out.push(entry.row(json!({
            "column_name": column,
            "field_path": path,
            "data_type": ddl::column_type(field),
            "description": field["description"].as_str(),
            "collation_name": field["collation"].as_str().unwrap_or("NULL"),
            "rounding_mode": field["roundingMode"].as_str(),
            "policy_tags": field["policyTags"]["names"].as_array().cloned().unwrap_or_default(),
        })));
        for inner in field["fields"].as_array().into_iter().flatten() {
            walk(entry, column, &format!("{path}.{}", inner["name"].as_str().unwrap_or_default()), inner, out);
        }
    }
    let mut out = vec![];
    for field in entry.fields() {
        let name = field["name"].as_str().unwrap_or_default().to_owned();
        walk(entry, &name, &name, &field, &mut out);
    }
    out
}

fn partitions(service: &BigQuery, datasets: &[Named]) -> Result<Vec<Value>, ApiError> {
    let mut out = vec![];
    for entry in entries(service, datasets)?.iter().filter(|e| e.record.kind() == "TABLE") {
        out.extend(partition_rows(entry)?);
    }
    Ok(out)
}

fn partition_rows(entry: &Entry<'_>) -> Result<Vec<Value>, ApiError> {
    let now = entry.service.now_us();
    let record = &entry.record;
    let moment = record.current(now);
    let row = |id: Option<String>, rows: u64, bytes: u64, us: i64| {
        entry.row(json!({"partition_id": id, "total_rows": rows, "total_logical_bytes": bytes,
            "total_billable_bytes": bytes, "last_modified_time": time(us.div_euclid(1000)), "storage_tier": "ACTIVE"}))
    };
    let Some(layout) = partitioning(&record.resource)? else {
        let settled = moment.settled();
        return Ok(vec![row(None, settled.rows(), settled.bytes(), record.modified_ms * 1000)]);
    };
    let ingestion = layout.is_ingestion_time();
    let mut found: BTreeMap<Key, (u64, u64, i64)> = BTreeMap::new();
    for (file, us) in &moment.files {
        let alone = registry::Moment { files: vec![(file.clone(), *us)], ..moment.clone() };
        for batch in entry.service.rows(&alone, ingestion)? {
            let per_row = super::cells::logical_bytes(&batch) / (batch.num_rows().max(1) as u64);
            for key in layout.batch_keys(&batch)? {
                let key = if file.buffered_until_us > now { Key::Unpartitioned } else { key };
                let slot = found.entry(key).or_default();
                slot.0 += 1;
                slot.1 += per_row;
                slot.2 = slot.2.max(*us);
            }
        }
    }
    Ok(found.into_iter().map(|(key, (rows, bytes, us))| row(Some(layout.id(key)), rows, bytes, us)).collect())
}

/// The meta-table `table$__PARTITIONS_SUMMARY__` of legacy SQL: its schema and its rows.
///
/// # Errors
/// `invalid` when the table is not partitioned.
pub fn partitions_summary(service: &BigQuery, table: &TableRef) -> Result<(Value, RecordBatch), ApiError> {
    let record = service.table(table)?;
    if partitioning(&record.resource)?.is_none() {
        return Err(ApiError::invalid(format!("Cannot list the partitions of {table}: the table is not partitioned.")));
    }
    let entry = Entry { service, table: table.clone(), record };
    let rows: Vec<Value> = partition_rows(&entry)?
        .iter()
        .map(|row| {
            json!({"project_id": table.project, "dataset_id": table.dataset, "table_id": table.table,
                "partition_id": row["partition_id"], "creation_time": entry.record.created_ms,
                "creation_timestamp": time(entry.record.created_ms),
                "last_modified_time": row["last_modified_time"].as_str().and_then(parse_ms),
                "last_modified_timestamp": row["last_modified_time"]})
        })
        .collect();
    let schema = SUMMARY.schema();
    let batch = batch_from_json(&schema, &rows)?;
    Ok((schema::canonical(&schema.to_json()), batch))
}

fn option_rows(entry: &Entry<'_>) -> Vec<Value> {
    let options = ddl::table_options(&entry.record.resource);
    let row = |(name, kind, value): ddl::Setting| {
        entry.row(json!({"option_name": name, "option_type": kind, "option_value": value}))
    };
    options.into_iter().map(row).collect()
}

fn view_row(entry: &Entry<'_>) -> Vec<Value> {
    let Some(view) = entry.record.resource.get("view") else { return vec![] };
    let legacy = view["useLegacySql"].as_bool().unwrap_or(false);
    vec![entry.row(json!({"view_definition": view["query"], "use_standard_sql": yes(!legacy)}))]
}

fn snapshot_row(entry: &Entry<'_>) -> Vec<Value> {
    let Some(origin) = &entry.record.snapshot else { return vec![] };
    vec![entry.row(json!({"base_table_catalog": origin.base.project, "base_table_schema": origin.base.dataset,
        "base_table_name": origin.base.table, "snapshot_time": time(origin.time_ms)}))]
}

/// (name, kind, columns) of a table's constraints.
fn constraints(entry: &Entry<'_>) -> Vec<(String, &'static str, Vec<String>)> {
    let Some(all) = entry.record.resource.get("tableConstraints") else { return vec![] };
    let texts =
        |v: &Value| v.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    let mut out = vec![];
    let primary = texts(&all["primaryKey"]["columns"]);
    if !primary.is_empty() {
        out.push((format!("{}.pk$", entry.table.table), "PRIMARY KEY", primary));
    }
    for (i, key) in all["foreignKeys"].as_array().into_iter().flatten().enumerate() {
        let columns = key["columnReferences"].as_array().into_iter().flatten();
        let columns = columns.filter_map(|c| c["referencingColumn"].as_str()).map(str::to_owned).collect();
        let name = key["name"].as_str().map_or_else(|| format!("fk${}", i + 1), str::to_owned);
        out.push((format!("{}.{name}", entry.table.table), "FOREIGN KEY", columns));
    }
    out
}

fn constraint_rows(entry: &Entry<'_>) -> Vec<Value> {
    let row = |(name, kind, _)| {
        entry.row(json!({"constraint_catalog": entry.table.project, "constraint_schema": entry.table.dataset,
            "constraint_name": name, "constraint_type": kind, "is_deferrable": "NO", "initially_deferred": "NO", "enforced": "NO"}))
    };
    constraints(entry).into_iter().map(row).collect()
}

fn key_rows(entry: &Entry<'_>) -> Vec<Value> {
    let mut out = vec![];
    for (name, kind, columns) in constraints(entry) {
        for (i, column) in columns.iter().enumerate() {
            out.push(entry.row(
                json!({"constraint_catalog": entry.table.project, "constraint_schema": entry.table.dataset,
                "constraint_name": name, "column_name": column, "ordinal_position": i + 1,
                "position_in_unique_constraint": (kind == "FOREIGN KEY").then_some(i + 1)}),
            ));
        }
    }
    out
}

fn storage_row(entry: &Entry<'_>) -> Vec<Value> {
    let record = &entry.record;
    if !record.has_rows() {
        return vec![];
    }
    let settled = record.current(entry.service.now_us()).settled();
    let past: u64 = record.all_files().map(|f| f.bytes).sum();
    vec![entry.row(json!({
        "project_id": entry.table.project,
        "project_number": 1,
        "creation_time": time(record.created_ms),
        "total_rows": settled.rows(),
        "total_partitions": 0,
        "total_logical_bytes": settled.bytes(),
        "active_logical_bytes": settled.bytes(),
        "long_term_logical_bytes": 0,
        "current_physical_bytes": settled.bytes(),
        "total_physical_bytes": past,
        "active_physical_bytes": past,
        "long_term_physical_bytes": 0,
        "time_travel_physical_bytes": past.saturating_sub(settled.bytes()),
        "storage_last_modified_time": time(record.modified_ms),
        "deleted": false,
        "table_type": kind_word(record),
        "managed_table_type": "NATIVE",
        "fail_safe_physical_bytes": 0,
    }))]
}

fn dunder_row(entry: &Entry<'_>) -> Vec<Value> {
    let record = &entry.record;
    let settled = record.current(entry.service.now_us()).settled();
    let kind = match record.kind() {
        "VIEW" => 2,
        "EXTERNAL" => 3,
        "MATERIALIZED_VIEW" => 4,
        "SNAPSHOT" => 5,
        _ => 1,
    };
    vec![json!({"project_id": entry.table.project, "dataset_id": entry.table.dataset, "table_id": entry.table.table,
        "creation_time": record.created_ms, "last_modified_time": record.modified_ms, "row_count": settled.rows(),
        "size_bytes": settled.bytes(), "type": kind})]
}

fn schema_row((project, id, record): &Named) -> Value {
    let options: Vec<String> =
        ddl::dataset_options(&record.resource).iter().map(|(n, _, v)| format!("  {n}={v}")).collect();
    json!({
        "catalog_name": project,
        "schema_name": id,
        "creation_time": time(record.created_ms),
        "last_modified_time": time(record.modified_ms),
        "location": record.location(),
        "ddl": format!("CREATE SCHEMA `{project}.{id}`\nOPTIONS(\n{}\n);", options.join(",\n")),
        "default_collation_name": record.resource.get("defaultCollation").and_then(Value::as_str).unwrap_or("NULL"),
    })
}

fn schema_option_rows((project, id, record): &Named) -> Vec<Value> {
    let row = |(name, kind, value): ddl::Setting| json!({"catalog_name": project, "schema_name": id, "option_name": name, "option_type": kind, "option_value": value});
    ddl::dataset_options(&record.resource).into_iter().map(row).collect()
}

fn routine_rows(service: &BigQuery, datasets: &[Named]) -> Result<Vec<Value>, ApiError> {
    let mut out = vec![];
    for (project, dataset, _) in datasets {
        for (id, routine) in routines::all(service, project, dataset)? {
            let language = routine["language"].as_str().unwrap_or("SQL");
            let kind = match routine["routineType"].as_str().unwrap_or_default() {
                "SCALAR_FUNCTION" | "AGGREGATE_FUNCTION" => "FUNCTION",
                "TABLE_VALUED_FUNCTION" => "TABLE FUNCTION",
                other => other,
            };
            let ms = |key: &str| schema::int(&routine[key]).map(time);
            out.push(json!({
                "specific_catalog": project, "specific_schema": dataset, "specific_name": id,
                "routine_catalog": project, "routine_schema": dataset, "routine_name": id,
                "routine_type": kind,
                "data_type": routine["returnType"]["typeKind"].as_str(),
                "routine_body": if language == "SQL" { "SQL" } else { "EXTERNAL" },
                "routine_definition": routine["definitionBody"].as_str(),
                "external_language": (language != "SQL").then_some(language),
                "is_deterministic": routine["determinismLevel"].as_str().map(|d| yes(d == "DETERMINISTIC")),
                "created": ms("creationTime"),
                "last_altered": ms("lastModifiedTime"),
            }));
        }
    }
    Ok(out)
}

fn job_rows(service: &BigQuery, project: &str, user: Option<&str>) -> Result<Vec<Value>, ApiError> {
    let mut out = vec![];
    for job in jobs::newest_first(service, project)? {
        if user.is_some_and(|u| u != job.user) {
            continue;
        }
        let config = &job.configuration[job.kind().to_lowercase()];
        let query = job.statistics.get("query").cloned().unwrap_or_default();
        let table =
            |t: &Value| json!({"project_id": t["projectId"], "dataset_id": t["datasetId"], "table_id": t["tableId"]});
        let labels = job.configuration["labels"].as_object().into_iter().flatten();
        let bytes = job.statistics.get("totalBytesProcessed").and_then(schema::int);
        out.push(json!({
            "creation_time": time(job.created_ms),
            "project_id": job.project,
            "project_number": 1,
            "user_email": job.user,
            "job_id": job.id,
            "job_type": job.kind(),
            "statement_type": query["statementType"].as_str(),
            "priority": "INTERACTIVE",
            "start_time": job.started_ms.map(time),
            "end_time": job.ended_ms.map(time),
            "query": config["query"].as_str(),
            "state": job.state,
            "total_bytes_processed": bytes,
            "total_slot_ms": job.started_ms.map(|_| 1),
            "error_result": job.error.as_ref().map(|e| json!({"reason": e["reason"], "message": e["message"]})),
            "cache_hit": (job.kind() == "QUERY").then_some(false),
            "destination_table": config.get("destinationTable").map(table),
            "referenced_tables": query["referencedTables"].as_array().map(|l| l.iter().map(table).collect::<Vec<_>>()).unwrap_or_default(),
            "labels": labels.map(|(k, v)| json!({"key": k, "value": v})).collect::<Vec<_>>(),
            "total_bytes_billed": bytes,
            "parent_job_id": job.parent,
        }));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_lists_are_schemas() {
        for columns in [TABLES, COLUMNS, FIELD_PATHS, PARTITIONS, JOBS, STORAGE, DUNDER_TABLES, CONSTRAINTS] {
            let schema = columns.schema();
            assert!(schema::parse(&schema.to_json()).is_ok(), "{}", columns.0);
        }
        assert_eq!(JOBS.schema().field("error_result").map(|f| f.kind), Some(FieldType::Struct));
    }
}
