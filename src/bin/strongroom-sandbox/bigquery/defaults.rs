//! `defaultValueExpression`: columns that rows leave out get what their expression computes.

use std::sync::Arc;

use arrow::array::RecordBatch;
use serde_json::{Map, Value, json};
use strongroom::codec::ndjson;

use super::catalog::Snapshot;
use super::http::Caller;
use super::schema;
use super::service::BigQuery;
use super::sql::{Catalog, Query, Script};
use crate::core::ApiError;

/// (column, expression) of the top-level columns that have a default.
pub fn of(schema: &Value) -> Vec<(String, String)> {
    let fields = schema["fields"].as_array().into_iter().flatten();
    fields
        .filter_map(|f| Some((f["name"].as_str()?.to_owned(), f["defaultValueExpression"].as_str()?.to_owned())))
        .collect()
}

/// Computes expressions `count` times, as columns of these names. Blocks; call it off the async threads.
///
/// # Errors
/// What the engine says of an expression.
pub fn compute(
    service: &Arc<BigQuery>,
    project: &str,
    columns: &[(String, String)],
    count: usize,
) -> Result<Vec<RecordBatch>, ApiError> {
    Ok(run(service, project, columns, count)?.1)
}

fn run(
    service: &Arc<BigQuery>,
    project: &str,
    columns: &[(String, String)],
    count: usize,
) -> Result<(Value, Vec<RecordBatch>), ApiError> {
    let list: Vec<String> = columns.iter().map(|(name, expression)| format!("({expression}) AS `{name}`")).collect();
    let caller = Caller::default();
    let query = Query {
        sql: format!("SELECT {} FROM UNNEST(GENERATE_ARRAY(1, {count}))", list.join(", ")),
        project: project.to_owned(),
        now_us: service.now_us(),
        user: caller.name(project),
        ..Query::default()
    };
    let catalog: Arc<dyn Catalog> = Arc::new(Snapshot::new(service, project, "US", &caller));
    let mut script = Script::new(query)?;
    let outcome = tokio::runtime::Handle::current().block_on(script.next(&catalog))?;
    let rows = outcome.map(|o| o.rows).unwrap_or_default();
    Ok((json!({"fields": rows.fields}), rows.batches.to_vec()))
}

/// Gives rows of JSON the members that they lack and that have a default; `None` when no row lacks one.
///
/// # Errors
/// What the engine says of an expression.
pub fn fill(
    service: &Arc<BigQuery>,
    project: &str,
    table_schema: &Value,
    rows: &[&Value],
) -> Result<Option<Vec<Value>>, ApiError> {
    let lacks = |row: &Value, name: &str| {
        row.as_object().is_some_and(|members| !members.keys().any(|k| k.eq_ignore_ascii_case(name)))
    };
    let needed: Vec<_> = of(table_schema).into_iter().filter(|(n, _)| rows.iter().any(|r| lacks(r, n))).collect();
    if needed.is_empty() {
        return Ok(None);
    }
    let (json, batches) = run(service, project, &needed, rows.len())?;
    let computed = schema::parse(&json)?;
    let wanted = strongroom::codec::arrow_schema::arrow_schema(&computed);
    let failed = |e: strongroom::codec::CodecError| ApiError::invalid(format!("a default value cannot be used: {e}"));
    let mut writer = ndjson::Writer::new(vec![], &computed);
    for batch in &batches {
        writer.write(&super::service::adapt(batch, &wanted)?).map_err(failed)?;
    }
    let lines = writer.finish().map_err(failed)?;
    let values = serde_json::Deserializer::from_slice(&lines).into_iter::<Map<String, Value>>();
    let filled = rows.iter().zip(values).map(|(row, defaults)| {
        let mut out = (*row).clone();
        for (name, value) in defaults.unwrap_or_default() {
            if lacks(row, &name) {
                out[&name] = value;
            }
        }
        out
    });
    Ok(Some(filled.collect()))
}
