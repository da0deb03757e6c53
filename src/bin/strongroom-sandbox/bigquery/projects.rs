//! projects.list and projects.getServiceAccount. Projects are not made: one exists as soon as it has a dataset.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::registry;
use super::service::{BigQuery, etag};
use crate::core::ApiError;

pub async fn list(State(service): State<Arc<BigQuery>>) -> Result<Json<Value>, ApiError> {
    let mut names = BTreeSet::from([service.sandbox.options.project.clone()]);
    names.extend(registry::all_datasets(&service.sandbox.db)?.into_iter().map(|(project, _, _)| project));
    let items: Vec<Value> = names
        .iter()
        .map(|p| {
            json!({"kind": "bigquery#project", "id": p, "numericId": "1", "projectReference": {"projectId": p}, "friendlyName": p})
        })
        .collect();
    Ok(Json(
        json!({"kind": "bigquery#projectList", "etag": etag(&json!(items)), "totalItems": items.len(), "projects": items}),
    ))
}

pub async fn service_account(Path(project): Path<String>) -> Json<Value> {
    Json(json!({"kind": "bigquery#getServiceAccountResponse",
        "email": format!("bq-1@bigquery-encryption.{project}.iam.gserviceaccount.com")}))
}
