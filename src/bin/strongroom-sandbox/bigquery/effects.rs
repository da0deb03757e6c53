//! What statements want done, done: DDL, DML, grants, exports. The engine computed it; here it happens.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use strongroom::model::schema::Schema;

use super::catalog::{Snapshot, access_denied, path_json, table_ref};
use super::http::blocking;
use super::jobs::copy::{Operation, Order, Write, perform};
use super::jobs::{Context, extract, load};
use super::names::{At, Decorated, TableRef};
use super::query::{put_new, stored};
use super::registry::{self, Change, Policy, change_table};
use super::schema;
use super::service::{BigQuery, partitioning, stored_schema};
use super::sql::{Affected, Effect, ObjectKind, Rows, TablePath};
use super::{datasets, iam, policies, routines, tables};
use crate::core::ApiError;

/// What a statement changed, for the job's statistics.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    pub affected: Option<Affected>,
    pub ddl_target: Option<Value>,
    pub ddl_operation: Option<&'static str>,
    pub statistics: Map<String, Value>,
}

fn ddl(target: Value, operation: &'static str) -> Applied {
    Applied { ddl_target: Some(target), ddl_operation: Some(operation), ..Applied::default() }
}

/// Applies one statement's effect.
///
/// # Errors
/// What BigQuery says: `notFound`, `duplicate`, `invalid`, `invalidQuery`.
pub async fn apply(
    context: &Context,
    catalog: &Arc<Snapshot>,
    statement: &'static str,
    effect: Effect,
) -> Result<Applied, ApiError> {
    match effect {
        Effect::None => Ok(Applied::default()),
        Effect::ExportData { options, rows } => {
            let schema = schema::parse(&schema::canonical(&json!({"fields": rows.fields})))?;
            let batches = stored(&json!({"fields": rows.fields}), &rows, false)?;
            let count = rows.row_count();
            let (files, _) = extract::export_data(context, &options, schema, Arc::new(batches)).await?;
            let mut applied = Applied::default();
            applied.statistics.insert(
                "exportDataStatistics".into(),
                json!({"fileCount": files.to_string(), "rowCount": count.to_string()}),
            );
            Ok(applied)
        }
        Effect::LoadData { configuration } => {
            let mut inner = context.clone();
            inner.configuration = json!({"load": configuration});
            inner.upload = None;
            let done = load::run(inner).await.map_err(|f| *f.error)?;
            let statistics = done.statistics.get("load").map(|l| json!({"loadQueryStatistics": l})).unwrap_or_default();
            let statistics = statistics.as_object().cloned().unwrap_or_default();
            Ok(Applied { statistics, ..Applied::default() })
        }
        other => {
            let (context, catalog) = (context.clone(), catalog.clone());
            let service = context.service.clone();
            blocking(&service, move |service| apply_here(service, &context, &catalog, statement, other)).await
        }
    }
}

fn apply_here(
    service: &Arc<BigQuery>,
    context: &Context,
    catalog: &Snapshot,
    statement: &'static str,
    effect: Effect,
) -> Result<Applied, ApiError> {
    match effect {
        Effect::None | Effect::ExportData { .. } | Effect::LoadData { .. } => Ok(Applied::default()),
        Effect::CreateTable { resource, or_replace, if_not_exists, rows } => {
            create_table(service, resource, or_replace, if_not_exists, rows)
        }
        Effect::CreateView { resource, or_replace, if_not_exists } => {
            create_table(service, resource, or_replace, if_not_exists, None)
        }
        Effect::CreateTableLike { source, resource, or_replace, if_not_exists, rows } => {
            let from = service.table(&table_ref(&source))?;
            let mut merged = from.resource;
            merged.shift_remove("expirationTime");
            for (key, value) in resource.as_object().cloned().unwrap_or_default() {
                merged.insert(key, value);
            }
            create_table(service, Value::Object(merged), or_replace, if_not_exists, rows)
        }
        Effect::CopyTable { operation, source, at_ms, resource, or_replace, if_not_exists } => {
            let table = reference(&resource)?;
            if if_not_exists && service.find_table(&table)?.is_some() {
                return Ok(ddl(table.json(), "SKIP"));
            }
            let mut options = resource.as_object().cloned().unwrap_or_default();
            let expires_ms = options.get("expirationTime").and_then(schema::int);
            tables::strip(&mut options);
            options.shift_remove("expirationTime");
            let order = Order {
                sources: vec![Decorated { table: table_ref(&source), at: at_ms.map(At::Ms), partition: None }],
                destination: Decorated { table: table.clone(), at: None, partition: None },
                operation: match operation {
                    "SNAPSHOT" => Operation::Snapshot,
                    "CLONE" => Operation::Clone,
                    "RESTORE" => Operation::Restore,
                    _ => Operation::Copy,
                },
                create: true,
                write: if or_replace { Write::Truncate } else { Write::Empty },
                expires_ms,
                options,
            };
            if !or_replace && service.find_table(&table)?.is_some() {
                return Err(ApiError::duplicate(format!("Already Exists: Table {table}")));
            }
            perform(service, &order)?;
            Ok(ddl(table.json(), if or_replace { "REPLACE" } else { "CREATE" }))
        }
        Effect::ReplaceRows { table, rows, affected } => {
            replace_rows(service, context, catalog, statement, &table_ref(&table), &rows, affected)?;
            Ok(Applied { affected: Some(affected), ..Applied::default() })
        }
        Effect::Drop { kind, path, if_exists, cascade } => drop_object(service, kind, &path, if_exists, cascade),
        Effect::AlterOptions { kind, path, patch, if_exists } => alter_options(service, kind, &path, &patch, if_exists),
        Effect::AlterSchema { table, fields, rows } => alter_schema(service, &table, &fields, rows),
        Effect::RenameTable { table, new_name, if_exists } => rename(service, &table, &new_name, if_exists),
        Effect::CreateSchema { resource, if_not_exists } => {
            let id = &resource["datasetReference"];
            let (project, dataset) =
                (id["projectId"].as_str().unwrap_or(&context.project), id["datasetId"].as_str().unwrap_or_default());
            let mut members = resource.as_object().cloned().unwrap_or_default();
            members.shift_remove("datasetReference");
            if !members.contains_key("location") {
                members.insert("location".into(), json!(context.location));
            }
            datasets::create(service, project, dataset, members, if_not_exists)?;
            Ok(Applied { ddl_operation: Some("CREATE"), ..Applied::default() })
        }
        Effect::CreateRoutine { resource, or_replace, if_not_exists } => {
            let id = resource["routineReference"].clone();
            let (project, dataset) =
                (id["projectId"].as_str().unwrap_or(&context.project), id["datasetId"].as_str().unwrap_or_default());
            routines::put(
                service,
                project,
                dataset,
                resource.as_object().cloned().unwrap_or_default(),
                or_replace,
                if_not_exists,
            )?;
            let mut applied = Applied { ddl_operation: Some("CREATE"), ..Applied::default() };
            applied.statistics.insert("ddlTargetRoutine".into(), id);
            Ok(applied)
        }
        Effect::CreateRowAccessPolicy { table, name, grantees, filter, or_replace, if_not_exists } => {
            let table = table_ref(&table);
            let now = service.now_ms();
            policies::change(service, &table, |policies| {
                let fresh = Policy { id: name.clone(), filter, grantees, created_ms: now, modified_ms: now };
                match policies.iter_mut().find(|p| p.id == name) {
                    Some(_) if if_not_exists => {}
                    Some(slot) if or_replace => *slot = fresh,
                    Some(_) => {
                        return Err(ApiError::duplicate(format!(
                            "Already Exists: Row access policy {name} on table {table}"
                        )));
                    }
                    None => policies.push(fresh),
                }
                Ok(())
            })?;
            Ok(ddl(table.json(), "CREATE"))
        }
        Effect::DropRowAccessPolicy { table, name, if_exists } => {
            let table = table_ref(&table);
            policies::change(service, &table, |policies| {
                let before = policies.len();
                policies.retain(|p| name.as_ref().is_some_and(|n| *n != p.id));
                if let (Some(name), true) = (&name, policies.len() == before && !if_exists) {
                    return Err(ApiError::not_found(format!("Not found: Row access policy {name} on table {table}")));
                }
                Ok(())
            })?;
            Ok(ddl(table.json(), "DROP"))
        }
        Effect::Grant { path, roles, members, revoke, .. } => {
            if path.table.is_empty() {
                registry::change_dataset(&service.sandbox.db, &path.project, &path.dataset, |before| {
                    let mut record = before.ok_or_else(|| {
                        ApiError::not_found(format!("Not found: Dataset {}:{}", path.project, path.dataset))
                    })?;
                    record.iam = Some(iam::grant(record.iam.as_ref(), &roles, &members, revoke));
                    Ok((record, ()))
                })?;
            } else {
                let table = table_ref(&path);
                change_table(&service.sandbox.db, &table, service.now_ms(), |before| {
                    let mut record = before.ok_or_else(|| ApiError::not_found(format!("Not found: Table {table}")))?;
                    record.iam = Some(iam::grant(record.iam.as_ref(), &roles, &members, revoke));
                    Ok(Change::Put(Box::new(record), ()))
                })?;
            }
            Ok(Applied::default())
        }
    }
}

fn reference(resource: &Value) -> Result<TableRef, ApiError> {
    TableRef::from_json(&resource["tableReference"], "", "tableReference")?.plain()
}

fn create_table(
    service: &BigQuery,
    resource: Value,
    or_replace: bool,
    if_not_exists: bool,
    rows: Option<Rows>,
) -> Result<Applied, ApiError> {
    let table = reference(&resource)?;
    let owner = service.dataset(&table.project, &table.dataset)?;
    let before = service.find_table(&table)?;
    if let Some(before) = &before {
        if if_not_exists {
            return Ok(ddl(table.json(), "SKIP"));
        }
        if !or_replace {
            return Err(ApiError::duplicate(format!("Already Exists: Table {table}")));
        }
        let is_view = resource.get("view").is_some();
        if before.kind() == "SNAPSHOT" || is_view != (before.kind() == "VIEW") {
            return Err(ApiError::invalid(format!("Cannot replace {table}: it is currently a {}.", before.kind())));
        }
    }
    let mut members = resource.as_object().cloned().unwrap_or_default();
    tables::strip(&mut members);
    let members = tables::prepare(service, &owner, members)?;
    put_new(service, &table, members, &rows.unwrap_or_default(), or_replace)?;
    Ok(ddl(table.json(), if before.is_some() { "REPLACE" } else { "CREATE" }))
}

fn replace_rows(
    service: &BigQuery,
    context: &Context,
    catalog: &Snapshot,
    statement: &str,
    table: &TableRef,
    rows: &Rows,
    affected: Affected,
) -> Result<(), ApiError> {
    let record = service.table(table)?;
    let words = |message: String| ApiError::new(400, "invalidQuery", message);
    match record.kind() {
        "TABLE" => {}
        "SNAPSHOT" => return Err(words(format!("Cannot modify table snapshot {table}: snapshots are read-only."))),
        kind => return Err(words(format!("Cannot modify {table}: it is currently a {kind}."))),
    }
    if policies::filter_for(&record, &context.caller, table).is_some() {
        return Err(access_denied(table));
    }
    let (seen_us, seen_rows) = catalog.take_seen(table).unwrap_or((record.version_us(), 0));
    let ingestion = partitioning(&record.resource)?.is_some_and(|p| p.is_ingestion_time());
    let schema_json = record.schema();
    let mut batches = stored(&schema_json, rows, ingestion)?;
    let wanted = stored_schema(&schema::parse(&schema_json)?, ingestion);
    let total = rows.row_count() as u64;
    let inserted = u64::try_from(affected.inserted).unwrap_or(0);
    // An INSERT only adds: what was there before stays in its own files, also in the streaming buffer.
    let only_adds =
        statement == "INSERT" && affected.updated == 0 && affected.deleted == 0 && total == seen_rows + inserted;
    if only_adds {
        batches = tail(&batches, inserted);
    } else if record.current(service.now_us()).files.iter().any(|(f, _)| f.buffered_until_us > service.now_us()) {
        return Err(words(format!(
            "{statement} statement over table {table} would affect rows in the streaming buffer, which is not supported"
        )));
    }
    if let Some(layout) = partitioning(&record.resource)? {
        load::check_partition_count(&layout, &batches)?;
    }
    let files = service.write_rows(&wanted, &batches)?;
    let now_us = service.sandbox.clock.unique_us();
    change_table(&service.sandbox.db, table, service.now_ms(), |now| {
        let mut record = now.ok_or_else(|| ApiError::not_found(format!("Not found: Table {table}")))?;
        if record.schema() != schema_json {
            return Err(tables::concurrent(table));
        }
        if only_adds {
            record.commit(now_us, false, files, None);
            return Ok(Change::Put(Box::new(record), ()));
        }
        // What was appended since this statement read the table came after it.
        let later: Vec<_> = record.versions.iter().filter(|v| v.us > seen_us).cloned().collect();
        if later.iter().any(|v| v.replace) {
            return Err(tables::concurrent(table));
        }
        let mut all = files;
        all.extend(later.into_iter().flat_map(|v| v.files));
        record.commit(now_us, true, all, None);
        Ok(Change::Put(Box::new(record), ()))
    })
}

fn tail(batches: &[arrow::array::RecordBatch], count: u64) -> Vec<arrow::array::RecordBatch> {
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    let mut out = vec![];
    for batch in batches.iter().rev() {
        if left == 0 {
            break;
        }
        let take = batch.num_rows().min(left);
        out.push(batch.slice(batch.num_rows() - take, take));
        left -= take;
    }
    out.reverse();
    out
}

fn drop_object(
    service: &BigQuery,
    kind: ObjectKind,
    path: &TablePath,
    if_exists: bool,
    cascade: bool,
) -> Result<Applied, ApiError> {
    let skipped = |error: ApiError, target: Value| {
        if if_exists && error.code == 404 { Ok(ddl(target, "SKIP")) } else { Err(error) }
    };
    let wanted: &[&str] = match kind {
        ObjectKind::Schema => {
            let done =
                registry::delete_dataset(&service.sandbox.db, &path.project, &path.dataset, cascade, service.now_ms());
            return match done {
                Ok(()) => Ok(Applied { ddl_operation: Some("DROP"), ..Applied::default() }),
                Err(error) if if_exists && error.code == 404 => {
                    Ok(Applied { ddl_operation: Some("SKIP"), ..Applied::default() })
                }
                Err(error) => Err(error),
            };
        }
        ObjectKind::Function | ObjectKind::Procedure | ObjectKind::TableFunction => {
            let done = routines::remove(service, &path.project, &path.dataset, &path.table);
            return match done {
                Ok(()) => Ok(Applied { ddl_operation: Some("DROP"), ..Applied::default() }),
                Err(error) if if_exists && error.code == 404 => {
                    Ok(Applied { ddl_operation: Some("SKIP"), ..Applied::default() })
                }
                Err(error) => Err(error),
            };
        }
        ObjectKind::Table => &["TABLE"],
        ObjectKind::SnapshotTable => &["SNAPSHOT"],
        ObjectKind::ExternalTable => &["EXTERNAL"],
        ObjectKind::View => &["VIEW"],
        ObjectKind::MaterializedView => &["MATERIALIZED_VIEW"],
    };
    let table = table_ref(path);
    let record = match service.table(&table) {
        Ok(record) => record,
        Err(error) => return skipped(error, table.json()),
    };
    if !wanted.contains(&record.kind()) {
        return Err(ApiError::new(
            400,
            "invalidQuery",
            format!("{table} is not allowed for this operation because it is currently a {}.", record.kind()),
        ));
    }
    tables::remove(service, &table)?;
    Ok(ddl(table.json(), "DROP"))
}

fn alter_options(
    service: &BigQuery,
    kind: ObjectKind,
    path: &TablePath,
    patch: &Value,
    if_exists: bool,
) -> Result<Applied, ApiError> {
    // Labels replace as a whole: those that are not named again go.
    let with_labels = |old: Option<&Value>| {
        let mut patch = patch.clone();
        if let (Some(old), Some(new)) =
            (old.and_then(Value::as_object), patch.get_mut("labels").and_then(Value::as_object_mut))
        {
            for key in old.keys() {
                new.entry(key.clone()).or_insert(Value::Null);
            }
        }
        patch
    };
    if kind == ObjectKind::Schema {
        let record = match service.dataset(&path.project, &path.dataset) {
            Ok(record) => record,
            Err(error) if if_exists && error.code == 404 => {
                return Ok(Applied { ddl_operation: Some("SKIP"), ..Applied::default() });
            }
            Err(error) => return Err(error),
        };
        datasets::change(
            service,
            &path.project,
            &path.dataset,
            None,
            &with_labels(record.resource.get("labels")),
            false,
        )?;
        return Ok(Applied { ddl_operation: Some("ALTER"), ..Applied::default() });
    }
    let table = table_ref(path);
    let record = match service.table(&table) {
        Ok(record) => record,
        Err(error) if if_exists && error.code == 404 => return Ok(ddl(table.json(), "SKIP")),
        Err(error) => return Err(error),
    };
    tables::apply(service, &table, None, &with_labels(record.resource.get("labels")), false)?;
    Ok(ddl(table.json(), "ALTER"))
}

fn alter_schema(
    service: &BigQuery,
    path: &TablePath,
    fields: &[Value],
    rows: Option<Rows>,
) -> Result<Applied, ApiError> {
    let table = table_ref(path);
    let record = service.table(&table)?;
    if record.kind() != "TABLE" {
        return Err(ApiError::new(
            400,
            "invalidQuery",
            format!("{table} is not allowed for this operation because it is currently a {}.", record.kind()),
        ));
    }
    let new_schema = schema::canonical(&json!({"fields": fields}));
    let parsed: Schema = schema::parse(&new_schema)?;
    let ingestion = partitioning(&record.resource)?.is_some_and(|p| p.is_ingestion_time());
    let files = match &rows {
        None => None,
        Some(rows) => {
            let wanted = stored_schema(&parsed, ingestion);
            Some(service.write_rows(&wanted, &stored(&new_schema, rows, ingestion)?)?)
        }
    };
    let seen = record.version_us();
    let now_us = service.sandbox.clock.unique_us();
    change_table(&service.sandbox.db, &table, service.now_ms(), |now| {
        let mut record = now.ok_or_else(|| ApiError::not_found(format!("Not found: Table {table}")))?;
        if record.version_us() != seen {
            return Err(tables::concurrent(&table));
        }
        match files {
            None => record.commit(now_us, false, vec![], Some(new_schema)),
            Some(files) => record.commit(now_us, true, files, Some(new_schema)),
        }
        Ok(Change::Put(Box::new(record), ()))
    })?;
    Ok(ddl(path_json(path), "ALTER"))
}

fn rename(service: &BigQuery, path: &TablePath, new_name: &str, if_exists: bool) -> Result<Applied, ApiError> {
    let from = table_ref(path);
    let to = TableRef::new(&path.project, &path.dataset, new_name);
    super::names::check_table_id(new_name)?;
    let record = match service.table(&from) {
        Ok(record) => record,
        Err(error) if if_exists && error.code == 404 => return Ok(ddl(from.json(), "SKIP")),
        Err(error) => return Err(error),
    };
    change_table(&service.sandbox.db, &to, service.now_ms(), |before| match before {
        Some(_) => Err(ApiError::duplicate(format!("Already Exists: Table {to}"))),
        None => Ok(Change::Put(Box::new(record), ())),
    })?;
    tables::remove(service, &from)?;
    Ok(ddl(to.json(), "ALTER"))
}
