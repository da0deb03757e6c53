//! Tables, views and snapshots: lists and deletions by the official crate, whole resources by REST (see the module's
//! head).

use serde_json::{Value, json};

use super::{BigQuery, PAGE_SIZE, datasets, malformed, own_or_exists};
use crate::google::rest::Call;
use crate::google::retry::Effect;
use crate::model::{DatasetId, Failure, TableId};

/// One line of a dataset's list of tables.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedTable {
    pub id: TableId,
    /// `TABLE`, `VIEW`, `EXTERNAL`, `MATERIALIZED_VIEW`, `SNAPSHOT`, or what the service adds one day.
    pub kind: String,
    pub labels: Vec<(String, String)>,
    /// Milliseconds since 1970; 0 when the service does not say.
    pub creation_time_ms: i64,
    pub expiration_time_ms: Option<i64>,
}

/// What the service computes and an insert must not or need not carry.
/// <https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#Table>: "Output only".
const OUTPUT_ONLY: [&str; 25] = [
    "kind",
    "etag",
    "id",
    "selfLink",
    "numBytes",
    "numPhysicalBytes",
    "numLongTermBytes",
    "numRows",
    "numTimeTravelPhysicalBytes",
    "numTotalLogicalBytes",
    "numActiveLogicalBytes",
    "numLongTermLogicalBytes",
    "numCurrentPhysicalBytes",
    "numTotalPhysicalBytes",
    "numActivePhysicalBytes",
    "numLongTermPhysicalBytes",
    "numPartitions",
    "creationTime",
    "lastModifiedTime",
    "type",
    "location",
    "streamingBuffer",
    "snapshotDefinition",
    "cloneDefinition",
    "replicas",
];

/// A resource from `get_table` made ready for `insert_table` at `target`: what the service computes is left out, all
/// else is kept, also what this program does not know.
pub fn insertable_table(resource: &Value, target: &TableId) -> Value {
    let mut kept = resource.clone();
    if let Some(fields) = kept.as_object_mut() {
        fields.retain(|key, _| !OUTPUT_ONLY.contains(&key.as_str()));
    }
    // A materialized view's last refresh is an observation, not a definition.
    if let Some(view) = kept.get_mut("materializedView").and_then(Value::as_object_mut) {
        view.remove("lastRefreshTime");
    }
    kept["tableReference"] = reference(target);
    kept
}

impl BigQuery {
    /// All tables of a dataset (views, snapshots and external tables too), sorted by name.
    ///
    /// # Errors
    /// `NotFound` for the dataset, and as mapped by `error.rs`.
    pub async fn list_tables(&self, dataset: &DatasetId) -> Result<Vec<ListedTable>, Failure> {
        let about = format!("dataset {dataset}");
        let items = self
            .listed(
                &about,
                |token| {
                    self.tables
                        .list_tables()
                        .set_project_id(dataset.project())
                        .set_dataset_id(dataset.dataset())
                        .set_max_results(PAGE_SIZE)
                        .set_page_token(token)
                        .send()
                },
                |page| (page.tables, page.next_page_token),
            )
            .await?;
        let mut listed = items
            .into_iter()
            .map(|item| {
                let name = item.table_reference.map(|reference| reference.table_id).unwrap_or_default();
                let id = dataset.table(&name).map_err(|error| malformed(&about, error))?;
                let mut labels: Vec<_> = item.labels.into_iter().collect();
                labels.sort();
                Ok(ListedTable {
                    id,
                    kind: item.r#type,
                    labels,
                    creation_time_ms: item.creation_time,
                    expiration_time_ms: Some(item.expiration_time).filter(|time| *time != 0),
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        listed.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listed)
    }

    /// The whole resource, as the service gives it.
    ///
    /// # Errors
    /// `NotFound`, and as mapped by `error.rs`.
    pub async fn get_table(&self, id: &TableId) -> Result<Value, Failure> {
        self.rest.call(&Call::get(object(id), &path(id))).await
    }

    /// Creates a table, view or external table from a resource; its `tableReference` is set to `id`.
    ///
    /// # Errors
    /// `Exists`, and as mapped by `error.rs`.
    pub async fn insert_table(&self, id: &TableId, mut resource: Value) -> Result<Value, Failure> {
        resource["tableReference"] = reference(id);
        let call = Call::post(object(id), &path(id)[..7], Effect::Idempotent, resource.clone());
        match self.rest.create(&call).await? {
            Some(created) => Ok(created),
            None => own_or_exists(&object(id), &resource, self.get_table(id).await?),
        }
    }

    /// Merges `changes` into the resource; `null` clears a field. With an `etag` only if nobody changed it since.
    ///
    /// # Errors
    /// `Precondition` when the etag does not match, and as mapped by `error.rs`.
    pub async fn patch_table(&self, id: &TableId, changes: Value, etag: Option<&str>) -> Result<Value, Failure> {
        let call = Call::patch(object(id), &path(id), changes.clone()).if_match(etag);
        match self.rest.call(&call).await {
            // The reply was lost: what is there tells whether the patch was taken.
            Err(unknown @ Failure::Unknown { .. }) => match self.get_table(id).await {
                Ok(read) if super::answers(&changes, &read) => Ok(read),
                _ => Err(unknown),
            },
            outcome => outcome,
        }
    }

    /// Deletes a table, view or snapshot.
    ///
    /// # Errors
    /// `NotFound`, and as mapped by `error.rs`.
    pub async fn delete_table(&self, id: &TableId) -> Result<(), Failure> {
        self.official_delete(&object(id), || {
            self.tables
                .delete_table()
                .set_project_id(id.project())
                .set_dataset_id(id.dataset())
                .set_table_id(id.table())
                .send()
        })
        .await
    }
}

pub(super) fn object(id: &TableId) -> String {
    format!("table {id}")
}

pub(super) fn path(id: &TableId) -> [&str; 8] {
    let [a, b, c, d, e, f] = datasets::path(id.dataset_id());
    [a, b, c, d, e, f, "tables", id.table()]
}

fn reference(id: &TableId) -> Value {
    json!({"projectId": id.project(), "datasetId": id.dataset(), "tableId": id.table()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insertable_resource_keeps_what_it_does_not_know() {
        let target: TableId = "proj-b.restored.t".parse().unwrap();
        let resource = json!({
            "kind": "bigquery#table", "etag": "x", "id": "a:b.c", "selfLink": "s", "type": "TABLE", "location": "EU",
            "numRows": "3", "creationTime": "1", "lastModifiedTime": "2", "streamingBuffer": {"estimatedRows": "1"},
            "tableReference": {"projectId": "a", "datasetId": "b", "tableId": "c"},
            "schema": {"fields": [{"name": "n", "type": "NUMERIC", "scale": "0", "roundingMode": "ROUND_HALF_EVEN"}]},
            "fieldOfTomorrow": {"mode": "SOMETHING"}, "labels": {"a": ""}, "requirePartitionFilter": false
        });
        insta::assert_json_snapshot!(insertable_table(&resource, &target), @r#"
        {
          "tableReference": {
            "projectId": "proj-b",
            "datasetId": "restored",
            "tableId": "t"
          },
          "schema": {
            "fields": [
              {
                "name": "n",
                "type": "NUMERIC",
                "scale": "0",
                "roundingMode": "ROUND_HALF_EVEN"
              }
            ]
          },
          "fieldOfTomorrow": {
            "mode": "SOMETHING"
          },
          "labels": {
            "a": ""
          },
          "requirePartitionFilter": false
        }
        "#);
    }
}
