//! Datasets: lists and deletions by the official crate, whole resources by REST (see the module's head).

use serde_json::{Value, json};

use super::{BigQuery, own_or_exists};
use crate::google::rest::Call;
use crate::google::retry::Effect;
use crate::model::{DatasetId, Failure};

/// One line of a project's list of datasets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDataset {
    pub id: DatasetId,
    /// E.g. `EU`, `europe-west3`.
    pub location: String,
    pub labels: Vec<(String, String)>,
}

/// Version 3 shows the conditions of access entries; older ones hide them, and a write would then drop them.
const ACCESS_POLICY_VERSION: u8 = 3;

impl BigQuery {
    /// All datasets of a project, hidden ones left out, sorted by name.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn list_datasets(&self, project: &str) -> Result<Vec<ListedDataset>, Failure> {
        let object = format!("project {project}");
        let mut listed = self
            .listed(
                &object,
                |token| self.datasets.list_datasets().set_project_id(project).set_page_token(token).send(),
                |page| (page.datasets, page.next_page_token),
            )
            .await?
            .into_iter()
            .map(|item| {
                let name = item.dataset_reference.map(|reference| reference.dataset_id).unwrap_or_default();
                let id = DatasetId::new(project, &name).map_err(|error| super::malformed(&object, error))?;
                let mut labels: Vec<_> = item.labels.into_iter().collect();
                labels.sort();
                Ok(ListedDataset { id, location: item.location, labels })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        listed.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listed)
    }

    /// The whole resource, access entries with their conditions.
    ///
    /// # Errors
    /// `NotFound`, and as mapped by `error.rs`.
    pub async fn get_dataset(&self, id: &DatasetId) -> Result<Value, Failure> {
        self.rest.call(&Call::get(object(id), &path(id)).query("accessPolicyVersion", ACCESS_POLICY_VERSION)).await
    }

    /// Creates a dataset from a resource; its `datasetReference` is set to `id`.
    ///
    /// # Errors
    /// `Exists`, and as mapped by `error.rs`.
    pub async fn insert_dataset(&self, id: &DatasetId, mut resource: Value) -> Result<Value, Failure> {
        resource["datasetReference"] = json!({"projectId": id.project(), "datasetId": id.dataset()});
        let call = Call::post(object(id), &path(id)[..5], Effect::Idempotent, resource.clone())
            .query("accessPolicyVersion", ACCESS_POLICY_VERSION);
        match self.rest.create(&call).await? {
            Some(created) => Ok(created),
            None => own_or_exists(&object(id), &resource, self.get_dataset(id).await?),
        }
    }

    /// Merges `changes` into the resource; `null` clears a field. With an `etag` only if nobody changed it since.
    ///
    /// # Errors
    /// `Precondition` when the etag does not match, and as mapped by `error.rs`.
    pub async fn patch_dataset(&self, id: &DatasetId, changes: Value, etag: Option<&str>) -> Result<Value, Failure> {
        let call =
            Call::patch(object(id), &path(id), changes.clone()).query("accessPolicyVersion", ACCESS_POLICY_VERSION);
        match self.rest.call(&call.if_match(etag)).await {
            // The reply was lost: what is there tells whether the patch was taken.
            Err(unknown @ Failure::Unknown { .. }) => match self.get_dataset(id).await {
                Ok(read) if super::answers(&changes, &read) => Ok(read),
                _ => Err(unknown),
            },
            outcome => outcome,
        }
    }

    /// Deletes a dataset; with `delete_contents` also its tables, otherwise a dataset that is not empty is refused.
    ///
    /// # Errors
    /// `Precondition` when it is not empty, and as mapped by `error.rs`.
    pub async fn delete_dataset(&self, id: &DatasetId, delete_contents: bool) -> Result<(), Failure> {
        self.official_delete(&object(id), || {
            self.datasets
                .delete_dataset()
                .set_project_id(id.project())
                .set_dataset_id(id.dataset())
                .set_delete_contents(delete_contents)
                .send()
        })
        .await
    }
}

fn object(id: &DatasetId) -> String {
    format!("dataset {id}")
}

pub(super) fn path(id: &DatasetId) -> [&str; 6] {
    ["bigquery", "v2", "projects", id.project(), "datasets", id.dataset()]
}
