//! Makes a dataset and what is in it again from saved definitions.

use serde_json::{Map, Value, json};

use super::{Definition, inventory};
use crate::google::Google;
use crate::google::bigquery::insertable_table;
use crate::model::{DatasetId, Failure, TableId};
use crate::plan::{compare, queries};

/// Fields of a dataset that the service computes.
const OUTPUT_ONLY: &[&str] = &[
    "kind",
    "etag",
    "id",
    "selfLink",
    "creationTime",
    "lastModifiedTime",
    "type",
    "datasetReference",
    "satisfiesPzs",
    "satisfiesPzi",
    "tags",
];

/// Fields that are set last: defaults would change tables that were made before they were set, and access may name views
/// that are not there yet.
const SET_LAST: &[&str] = &[
    "defaultTableExpirationMs",
    "defaultPartitionExpirationMs",
    "defaultCollation",
    "defaultRoundingMode",
    "defaultEncryptionConfiguration",
    "access",
];

/// Makes a dataset, without what [`finish_dataset`] sets.
///
/// # Errors
/// When BigQuery refuses; `Exists` is no failure.
pub async fn make_dataset(google: &Google, target: &DatasetId, saved: &Definition) -> Result<(), Failure> {
    let mut resource = fields_of(saved);
    resource.retain(|key, _| !OUTPUT_ONLY.contains(&key.as_str()) && !SET_LAST.contains(&key.as_str()));
    match google.bigquery.insert_dataset(target, Value::Object(resource)).await {
        Ok(_) | Err(Failure::Exists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Sets what was held back when a dataset was made: default expirations, and access when it is the dataset of old.
///
/// # Errors
/// When BigQuery refuses.
pub async fn finish_dataset(
    google: &Google,
    target: &DatasetId,
    saved: &Definition,
    in_place: bool,
) -> Result<(), Failure> {
    let mut changes = fields_of(saved);
    changes.retain(|key, _| SET_LAST.contains(&key.as_str()) && (in_place || key != "access"));
    if changes.is_empty() {
        return Ok(());
    }
    google.bigquery.patch_dataset(target, Value::Object(changes), None).await.map(drop)
}

fn fields_of(saved: &Definition) -> Map<String, Value> {
    saved.resource.as_object().cloned().unwrap_or_default()
}

/// Makes an empty table by its whole saved resource.
///
/// A time of expiration that has passed since (before `now_ms`) is left out: the table would vanish at once.
///
/// # Errors
/// When BigQuery refuses; `Exists` when it is there.
pub async fn make_table(google: &Google, target: &TableId, saved: &Definition, now_ms: i64) -> Result<(), Failure> {
    let mut resource = insertable_table(&saved.resource, target);
    if let Some(constraints) = resource.get_mut("tableConstraints").and_then(Value::as_object_mut) {
        constraints.remove("foreignKeys"); // see tie_table
    }
    let expires = resource["expirationTime"].as_str().and_then(|text| text.parse::<i64>().ok());
    if expires.is_some_and(|at| at <= now_ms)
        && let Some(fields) = resource.as_object_mut()
    {
        fields.remove("expirationTime");
    }
    let wanted = resource["expirationTime"].clone();
    let made = google.bigquery.insert_table(target, resource).await?;
    if made["expirationTime"] != wanted {
        // The dataset's default was applied: the saved table had none, or another.
        google.bigquery.patch_table(target, json!({"expirationTime": wanted}), None).await?;
    }
    let (made, wanted) = (&made["timePartitioning"], &saved.resource["timePartitioning"]);
    if wanted.is_object() && made["expirationMs"] != wanted["expirationMs"] {
        // The same for its partitions, or what is loaded into old ones would vanish at once.
        let mut partitioning = wanted.clone();
        partitioning["expirationMs"] = wanted["expirationMs"].clone();
        google.bigquery.patch_table(target, json!({"timePartitioning": partitioning}), None).await?;
    }
    Ok(())
}

/// Sets a table's foreign keys: only when the tables that they refer to are there. Of those that cannot be set the
/// comparison tells.
///
/// # Errors
/// When BigQuery fails.
pub async fn tie_table(
    google: &Google,
    source: &DatasetId,
    target: &TableId,
    saved: &Definition,
) -> Result<(), Failure> {
    if saved.resource["tableConstraints"]["foreignKeys"].as_array().is_none_or(Vec::is_empty) {
        return Ok(());
    }
    let constraints = constraints(&saved.resource, source, target.dataset_id());
    match google.bigquery.patch_table(target, json!({"tableConstraints": constraints}), None).await {
        Ok(_) | Err(Failure::NotFound { .. } | Failure::Invalid { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A table's constraints, where tables of `source` have become those of `target`.
pub fn constraints(resource: &Value, source: &DatasetId, target: &DatasetId) -> Value {
    let mut constraints = resource["tableConstraints"].clone();
    for key in constraints["foreignKeys"].as_array_mut().into_iter().flatten() {
        let table = &mut key["referencedTable"];
        let text = |name: &str| table[name].as_str().unwrap_or_default();
        if (text("projectId"), text("datasetId")) == (source.project(), source.dataset()) {
            table["projectId"] = target.project().into();
            table["datasetId"] = target.dataset().into();
        }
    }
    constraints
}

/// Makes a view, materialized view or external table; mentions of `source`'s tables become `target`'s.
///
/// # Errors
/// When BigQuery refuses.
pub async fn make_view(
    google: &Google,
    source: &DatasetId,
    target: &TableId,
    saved: &Definition,
) -> Result<(), Failure> {
    let mut resource = insertable_table(&saved.resource, target);
    for kind in ["view", "materializedView"] {
        if let Some(query) = resource[kind]["query"].as_str() {
            let moved = moved(query, source, target.dataset_id());
            resource[kind]["query"] = moved.into();
            // A view's schema is what its query gives; sent along, it could contradict it.
            if let Some(fields) = resource.as_object_mut()
                && kind == "materializedView"
            {
                fields.remove("schema");
            }
        }
    }
    google.bigquery.insert_table(target, resource).await.map(drop)
}

/// Makes a routine; mentions of `source`'s tables become `target`'s.
///
/// # Errors
/// When BigQuery refuses.
pub async fn make_routine(
    google: &Google,
    source: &DatasetId,
    (target, name): (&DatasetId, &str),
    saved: &Definition,
) -> Result<(), Failure> {
    let mut resource = saved.resource.clone();
    if let Some(fields) = resource.as_object_mut() {
        fields.retain(|key, _| !matches!(key.as_str(), "etag" | "creationTime" | "lastModifiedTime"));
    }
    if let Some(body) = resource["definitionBody"].as_str() {
        resource["definitionBody"] = moved(body, source, target).into();
    }
    google.bigquery.insert_routine(target, name, resource).await.map(drop)
}

fn moved(sql: &str, source: &DatasetId, target: &DatasetId) -> String {
    if source == target {
        return sql.into();
    }
    queries::redirect(sql, &|id| {
        (id.dataset_id() == source).then(|| target.table(id.table()).ok().map(|id| id.sql())).flatten()
    })
}

/// The fields in which a dataset differs from its saved definition. A dataset beside the old one keeps its own access.
pub fn dataset_differences(saved: &Definition, found: &Value, in_place: bool) -> Vec<String> {
    let ignored: Vec<&str> =
        OUTPUT_ONLY.iter().copied().chain((!in_place).then_some("access")).chain(["location"]).collect();
    compare::resources(&saved.resource, found, &ignored)
}

/// The row access policies and IAM bindings in which a table or view differs from its saved definition.
///
/// # Errors
/// When they cannot be read.
pub async fn policy_differences(google: &Google, id: &TableId, saved: &Definition) -> Result<Vec<String>, Failure> {
    let is_table = saved.resource["type"].as_str().unwrap_or("TABLE") == "TABLE";
    let (rows, iam) = inventory::policies(google, id, is_table).await?;
    Ok(compare::policies((&saved.row_access_policies, saved.iam_policy.as_ref()), (&rows, iam.as_ref())))
}

/// Gives a table that was overwritten its labels, texts and policies back: copies bring rows, not all else.
///
/// # Errors
/// When BigQuery refuses.
pub async fn repair(google: &Google, target: &TableId, before: &Value, saved: &Definition) -> Result<(), Failure> {
    let found = google.bigquery.get_table(target).await?;
    let kept = |key: &&String| !compare::NOT_COMPARED.contains(&key.as_str()) && key.as_str() != "schema";
    let keys = |resource: &Value| {
        resource.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect::<Vec<_>>()
    };
    let mut changes = Map::new();
    for key in keys(before).iter().chain(&keys(&found)).filter(kept) {
        if before[key] != found[key] {
            changes.insert(key.clone(), before[key].clone());
        }
    }
    if !changes.is_empty() {
        google.bigquery.patch_table(target, Value::Object(changes), None).await?;
    }
    if policy_differences(google, target, saved).await?.is_empty() {
        return Ok(());
    }
    apply_policies(google, target, saved).await
}

/// Sets a table's row access policies and IAM policy: last, so that nothing is loaded through them.
///
/// # Errors
/// When BigQuery refuses.
pub async fn apply_policies(google: &Google, target: &TableId, saved: &Definition) -> Result<(), Failure> {
    for policy in &saved.row_access_policies {
        google.bigquery.insert_row_access_policy(target, policy.clone()).await?;
    }
    if let Some(policy) = &saved.iam_policy {
        let mut policy = policy.clone();
        if let Some(fields) = policy.as_object_mut() {
            fields.remove("etag"); // of the old table
        }
        google.bigquery.set_table_iam(target, policy).await?;
    }
    Ok(())
}
