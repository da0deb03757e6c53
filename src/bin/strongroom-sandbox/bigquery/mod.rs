//! BigQuery v2: datasets, tables, rows, jobs, policies and routines, on the REST API of Google's published description.
//!
//! `registry` holds what exists, `contents` the rows, `service` both together; the files named after resources answer
//! requests. `sql` is the engine, which knows nothing of all this.

mod answers;
mod catalog;
mod cells;
mod civil;
mod contents;
mod datasets;
mod ddl;
mod defaults;
mod detect;
mod effects;
mod enums;
mod files;
mod http;
mod iam;
mod information;
mod jobs;
mod names;
mod partition;
mod picks;
mod policies;
mod projects;
mod query;
mod registry;
mod routines;
mod rows;
mod schema;
mod service;
pub mod sql;
mod tabledata;
mod tables;
mod upkeep;
mod upload;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};

use crate::core::{ApiError, Sandbox};
use service::BigQuery;

/// Choices of the command line for BigQuery.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long rows of insertAll stay in the streaming buffer, in seconds of the sandbox's clock; 0: not at all.
    pub streaming_buffer_seconds: i64,
    /// A shard of an extract holds about so many logical bytes.
    pub extract_shard_bytes: u64,
    /// Every job stays PENDING and RUNNING so long, each.
    pub job_delay_ms: u64,
    /// Refuses loads and extracts between a dataset and a bucket elsewhere, as BigQuery does.
    pub check_bucket_locations: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            streaming_buffer_seconds: 0,
            extract_shard_bytes: 1 << 30,
            job_delay_ms: 0,
            check_bucket_locations: false,
        }
    }
}

/// BigQuery's routes: `/bigquery/v2/...`, `/upload/bigquery/v2/...`, and both without the prefix, for clients whose
/// endpoint implies it. Every other path goes to the other services.
///
/// # Errors
/// When the stored state cannot be opened.
pub fn router(sandbox: &Arc<Sandbox>) -> Result<Router, ApiError> {
    let service = BigQuery::open(sandbox)?;
    service.keep_sweeping();
    let mut router = Router::new();
    for base in ["/bigquery/v2/projects", "/projects"] {
        router = routes(router, base);
    }
    for base in ["/upload/bigquery/v2/projects", "/resumable/upload/bigquery/v2/projects", "/upload/projects"] {
        router = router.route(&format!("{base}/{{project}}/jobs"), post(upload::post).put(upload::put));
    }
    Ok(router.with_state(service))
}

fn routes(router: Router<Arc<BigQuery>>, base: &str) -> Router<Arc<BigQuery>> {
    let at = |rest: &str| format!("{base}/{{project}}{rest}");
    let dataset = "/datasets/{dataset}";
    let table = format!("{dataset}/tables/{{table}}");
    let policies = format!("{table}/rowAccessPolicies");
    let routine = format!("{dataset}/routines/{{routine}}");
    router
        .route(base, get(projects::list))
        .route(&at("/serviceAccount"), get(projects::service_account))
        .route(&at("/datasets"), get(datasets::list).post(datasets::insert))
        .route(
            &at(dataset),
            get(datasets::get)
                .patch(datasets::patch)
                .put(datasets::update)
                .delete(datasets::delete)
                .post(datasets::custom),
        )
        .route(&at(&format!("{dataset}/tables")), get(tables::list).post(tables::insert))
        .route(
            &at(&table),
            get(tables::get).patch(tables::patch).put(tables::update).delete(tables::delete).post(tables::custom),
        )
        .route(&at(&format!("{table}/data")), get(tabledata::list))
        .route(&at(&format!("{table}/insertAll")), post(tabledata::insert_all))
        .route(&at(&policies), get(policies::list).post(policies::insert))
        .route(&at(&format!("{policies}:batchDelete")), post(policies::batch_delete))
        .route(
            &at(&format!("{policies}/{{policy}}")),
            get(policies::get).put(policies::update).delete(policies::delete).post(policies::custom),
        )
        .route(&at(&format!("{dataset}/routines")), get(routines::list).post(routines::insert))
        .route(&at(&routine), get(routines::get).put(routines::update).delete(routines::delete).post(routines::custom))
        .route(&at(&format!("{dataset}/models")), get(routines::models))
        .route(&at("/jobs"), get(jobs::api::list).post(jobs::api::insert))
        .route(&at("/jobs/{job}"), get(jobs::api::get))
        .route(&at("/jobs/{job}/cancel"), post(jobs::api::cancel))
        .route(&at("/jobs/{job}/delete"), delete(jobs::api::delete))
        .route(&at("/queries"), post(answers::query))
        .route(&at("/queries/{job}"), get(answers::results))
}

#[cfg(test)]
mod tests;
