//! What a dataset holds.

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use crate::config::BigQuerySource;
use crate::google::Google;
use crate::google::bigquery::{ListedTable, QueryOptions};
use crate::model::{DatasetId, Failure, TableId};
use crate::plan::facts::{BigQueryFacts, TableFacts, count};
use crate::plan::partitions::every_row;

/// Lists the dataset and looks at everything in it that the source takes.
///
/// # Errors
/// When the dataset or something in it cannot be read; `NotFound` names the dataset.
pub async fn inventory(
    google: &Google,
    name: &str,
    source: &BigQuerySource,
    parallel: usize,
) -> Result<BigQueryFacts, Failure> {
    let resource = google.bigquery.get_dataset(&source.dataset).await?;
    let snapshot_location = match google.bigquery.get_dataset(&source.snapshot_dataset).await {
        Ok(found) => Some(found["location"].as_str().unwrap_or_default().to_string()),
        Err(Failure::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    let listed = google.bigquery.list_tables(&source.dataset).await?;
    let taken = listed.into_iter().filter(|table| {
        let name = table.id.table();
        source.tables.iter().any(|p| p.matches(name)) && !source.exclude.iter().any(|p| p.matches(name))
    });
    let location = resource["location"].as_str().map(String::from);
    let mut tables: Vec<TableFacts> = stream::iter(taken.collect::<Vec<_>>())
        .map(|listed| table(google, listed, location.clone()))
        .buffer_unordered(parallel)
        .try_collect()
        .await?;
    tables.sort_by(|a, b| a.id.cmp(&b.id));
    let routines = routines(google, &source.dataset, parallel).await?;
    let (name, dataset) = (name.to_string(), source.dataset.clone());
    Ok(BigQueryFacts { name, dataset, resource, tables, routines, snapshot_location })
}

async fn table(google: &Google, listed: ListedTable, location: Option<String>) -> Result<TableFacts, Failure> {
    let ListedTable { id, kind, .. } = listed;
    let resource = google.bigquery.get_table(&id).await?;
    let is_table = kind == "TABLE";
    let (row_policies, iam) = policies(google, &id, is_table).await?;
    let visible_rows = match row_policies.is_empty() || count(&resource, "numRows") == 0 {
        true => None,
        false => Some(visible_rows(google, &id, &resource, location.clone()).await?),
    };
    let by_ingestion = resource["timePartitioning"].is_object() && resource["timePartitioning"]["field"].is_null();
    let partitions = if is_table && by_ingestion { partitions(google, &id, location).await? } else { vec![] };
    Ok(TableFacts { id, kind, resource, row_policies, iam, visible_rows, partitions })
}

/// A table's row access policies, and the IAM policy where it has one of its own.
pub(super) async fn policies(
    google: &Google,
    id: &TableId,
    is_table: bool,
) -> Result<(Vec<Value>, Option<Value>), Failure> {
    let rows = if is_table { row_policies(google, id).await? } else { vec![] };
    let iam = Some(google.bigquery.get_table_iam(id).await?).filter(|policy| !empty_policy(policy));
    Ok((rows, iam))
}

/// The table's row access policies with their grantees, which only the policy's own IAM policy tells
/// (<https://cloud.google.com/bigquery/docs/reference/rest/v2/rowAccessPolicies#RowAccessPolicy>: `grantees` is input only).
async fn row_policies(google: &Google, id: &TableId) -> Result<Vec<Value>, Failure> {
    let mut policies = google.bigquery.list_row_access_policies(id).await?;
    for policy in &mut policies {
        let name = policy["rowAccessPolicyReference"]["policyId"].as_str().unwrap_or_default().to_string();
        let iam = google.bigquery.get_row_access_policy_iam(id, &name).await?;
        let members = iam["bindings"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|b| b["members"].as_array().into_iter().flatten());
        policy["grantees"] = members.cloned().collect();
    }
    Ok(policies)
}

fn empty_policy(policy: &Value) -> bool {
    policy["bindings"].as_array().is_none_or(Vec::is_empty)
}

/// Rows that this program may see. An extract silently leaves out those that a row access policy hides
/// (<https://cloud.google.com/bigquery/docs/using-row-level-security-with-features#extract_jobs>).
async fn visible_rows(
    google: &Google,
    id: &TableId,
    resource: &Value,
    location: Option<String>,
) -> Result<u64, Failure> {
    let options = QueryOptions { location, ..QueryOptions::default() };
    let sql = format!("SELECT COUNT(*) AS n FROM {}{}", id.sql(), every_row(resource));
    let result = google.bigquery.query(id.project(), &sql, &options).await?;
    let n = result.cell(0, "n").and_then(Value::as_str).and_then(|n| n.parse().ok());
    n.ok_or_else(|| Failure::Corrupt { object: id.to_string(), message: "COUNT(*) gave no number".into() })
}

/// The partitions of a table partitioned by ingestion time: files do not carry `_PARTITIONTIME`, so each is taken alone.
async fn partitions(google: &Google, id: &TableId, location: Option<String>) -> Result<Vec<String>, Failure> {
    let sql = format!(
        "SELECT partition_id FROM `{}.{}`.INFORMATION_SCHEMA.PARTITIONS WHERE table_name = @name AND partition_id IS NOT NULL ORDER BY partition_id",
        id.project(),
        id.dataset()
    );
    let parameters = vec![serde_json::json!({
        "name": "name", "parameterType": {"type": "STRING"}, "parameterValue": {"value": id.table()}
    })];
    let options = QueryOptions { location, parameters, ..QueryOptions::default() };
    let result = google.bigquery.query(id.project(), &sql, &options).await?;
    Ok(result.rows.iter().filter_map(|row| row.first()?.as_str().map(String::from)).collect())
}

async fn routines(google: &Google, dataset: &DatasetId, parallel: usize) -> Result<Vec<(String, Value)>, Failure> {
    let listed = google.bigquery.list_routines(dataset).await?;
    let mut routines: Vec<(String, Value)> = stream::iter(listed)
        .map(|listed| async move {
            let resource = google.bigquery.get_routine(dataset, &listed.name).await?;
            Ok::<_, Failure>((listed.name, resource))
        })
        .buffer_unordered(parallel)
        .try_collect()
        .await?;
    routines.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(routines)
}
