//! Routines (functions, procedures): lists by the official crate, whole resources by REST (see the module's head).

use serde_json::{Value, json};

use super::{BigQuery, PAGE_SIZE, datasets, own_or_exists};
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
            .listed(
                &about,
                |token| {
                    self.routines
                        .list_routines()
                        .set_project_id(dataset.project())
                        .set_dataset_id(dataset.dataset())
                        .set_max_results(PAGE_SIZE)
                        .set_page_token(token)
                        .send()
                },
                |page| (page.routines, page.next_page_token),
            )
            .await?;
        let names =
            items.into_iter().map(|item| item.routine_reference.map(|name| name.routine_id).unwrap_or_default());
        let mut listed: Vec<_> = names.map(|name| ListedRoutine { dataset: dataset.clone(), name }).collect();
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
