//! Routines (functions, procedures): lists by the official crate, whole resources by REST (see the module's head).

use google_cloud_gax::paginator::ItemPaginator;
use serde_json::{Value, json};

use super::{BigQuery, PAGE_SIZE, check_listed, datasets, own_or_exists};
use crate::google::rest::Call;
use crate::google::retry::Effect;
use crate::model::{DatasetId, Failure};

/// One line of a dataset's list of routines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRoutine {
    pub dataset: DatasetId,
    /// Letters, digits and underscores.
    pub name: String,
}

impl BigQuery {
    /// All routines of a dataset, sorted by name.
    ///
    /// # Errors
    /// `NotFound` for the dataset, and as mapped by `error.rs`.
    pub async fn list_routines(&self, dataset: &DatasetId) -> Result<Vec<ListedRoutine>, Failure> {
        let about = format!("dataset {dataset}");
        let items = self
            .official(&about, Effect::Read, || async {
                let mut items = self
                    .routines
                    .list_routines()
                    .set_project_id(dataset.project())
                    .set_dataset_id(dataset.dataset())
                    .set_max_results(PAGE_SIZE)
                    .by_item();
                let mut found = Vec::new();
                while let Some(item) = items.next().await {
                    found.push(item?.routine_reference.map(|reference| reference.routine_id).unwrap_or_default());
                    if found.len() > super::MAX_LISTED {
                        break;
                    }
                }
                Ok(found)
            })
            .await?;
        check_listed(&about, items.len())?;
        let mut listed: Vec<_> =
            items.into_iter().map(|name| ListedRoutine { dataset: dataset.clone(), name }).collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// The whole resource.
    ///
    /// # Errors
    /// `NotFound`, and as mapped by `error.rs`.
    pub async fn get_routine(&self, dataset: &DatasetId, name: &str) -> Result<Value, Failure> {
        self.rest.call(&Call::get(object(dataset, name), &path(dataset, name))).await
    }

    /// Creates a routine from a resource; its `routineReference` is set.
    ///
    /// # Errors
    /// `Exists`, and as mapped by `error.rs`.
    pub async fn insert_routine(&self, dataset: &DatasetId, name: &str, mut resource: Value) -> Result<Value, Failure> {
        if let Some(fields) = resource.as_object_mut() {
            fields.retain(|key, _| !["etag", "creationTime", "lastModifiedTime"].contains(&key.as_str()));
        }
        resource["routineReference"] =
            json!({"projectId": dataset.project(), "datasetId": dataset.dataset(), "routineId": name});
        let about = object(dataset, name);
        let call = Call::post(&about, &path(dataset, name)[..7], Effect::Idempotent, resource.clone());
        match self.rest.create(&call).await? {
            Some(created) => Ok(created),
            None => own_or_exists(&about, &resource, self.get_routine(dataset, name).await?),
        }
    }
}

fn object(dataset: &DatasetId, name: &str) -> String {
    format!("routine {dataset}.{name}")
}

fn path<'a>(dataset: &'a DatasetId, name: &'a str) -> [&'a str; 8] {
    let [a, b, c, d, e, f] = datasets::path(dataset);
    [a, b, c, d, e, f, "routines", name]
}
