//! Validate: the queries of `sql/validation`, held against what was recorded at the cut or what their headers say.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{Context, JobError};
use crate::google::bigquery::QueryOptions;
use crate::manifest::{Manifest, QueryResult};
use crate::model::{BackupName, DatasetId, Failure};
use crate::plan::compare::{self, State, Verdict};
use crate::plan::queries::{self, ValidationQuery};

/// Outcome of a validation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Validation {
    pub dataset: DatasetId,
    /// The backup whose recorded results were compared with.
    pub backup: Option<BackupName>,
    pub verdicts: Vec<Verdict>,
    /// Whether the backup's files were asked instead of a dataset.
    pub offline: bool,
}

impl Validation {
    /// Whether no critical check failed.
    pub fn passed(&self) -> bool {
        !self.verdicts.iter().any(|verdict| verdict.critical && verdict.state == State::Failed)
    }

    /// Whether every query was run.
    pub fn complete(&self) -> bool {
        !self.verdicts.iter().any(|verdict| verdict.state == State::NotRun)
    }
}

/// Runs the queries on `dataset`, against what `backup` recorded. The age of data is counted up to `at`: of live data
/// that is now, of what a restore brought back it is the backup's cut.
///
/// # Errors
/// When the dataset is not there, or BigQuery cannot be asked.
pub async fn run(
    context: &Context,
    dataset: &DatasetId,
    backup: Option<&Manifest>,
    at: Timestamp,
) -> Result<Validation, JobError> {
    let resource = context.google.bigquery.get_dataset(dataset).await?;
    let location = resource["location"].as_str().unwrap_or_default();
    let mut verdicts = Vec::new();
    for (i, query) in context.queries.iter().enumerate() {
        let sql = queries::on_dataset(&query.sql, dataset);
        let recorded = backup.and_then(|backup| backup.validation.iter().find(|recorded| recorded.name == query.name));
        verdicts.push(match run_query(context, dataset.project(), location, query, &sql).await {
            Ok(result) => compare::judge(query, recorded, &result, at),
            // A table is gone, or has other columns: the other checks are told as well.
            Err(Failure::NotFound { message, .. } | Failure::Invalid { message, .. }) => {
                compare::unanswered(query, message)
            }
            Err(error) => return Err(error.into()),
        });
        context.observer.progress("validate", i + 1, context.queries.len(), &query.name);
    }
    let backup = backup.map(|backup| backup.name.clone());
    Ok(Validation { dataset: dataset.clone(), backup, verdicts, offline: false })
}

/// Runs the queries over a backup's files, with nothing restored, against what the backup recorded. What the embedded
/// engine cannot run is told, and has not passed.
///
/// # Errors
/// When the files cannot be read.
#[cfg(feature = "query")]
pub async fn offline(context: &Context, entry: &crate::catalog::Entry) -> Result<Validation, JobError> {
    let entry = &super::copies::readable(context, entry).await?;
    let entry = &super::sealing::open(context, entry).await?;
    let dataset = super::query::dataset(entry)?;
    let cut = entry.manifest.data_of();
    let mut verdicts = Vec::new();
    for (i, query) in context.queries.iter().enumerate() {
        let sql = queries::on_dataset(&query.sql, &dataset);
        let recorded = entry.manifest.validation.iter().find(|recorded| recorded.name == query.name);
        let answered = async {
            let rows = super::query::run(entry, &sql).await?;
            Ok::<_, JobError>(super::query::collect(&query.name, rows).await?)
        };
        verdicts.push(match answered.await {
            Ok((mut result, floats)) => {
                if let Some(recorded) = recorded {
                    settle_floats(&mut result, &floats, recorded);
                }
                compare::judge(query, recorded, &result, cut)
            }
            Err(JobError::Failure(Failure::Invalid { message, .. })) => compare::not_run(query, message),
            Err(JobError::Failure(Failure::NotFound { object, message })) => {
                compare::not_run(query, format!("{object}: {message}"))
            }
            Err(error) => return Err(error),
        });
        context.observer.progress("validate", i + 1, context.queries.len(), &query.name);
    }
    let backup = Some(entry.manifest.name.clone());
    Ok(Validation { dataset, backup, verdicts, offline: true })
}

/// Another engine adds FLOAT64s in another order and prints them otherwise: what is as close as that is the same.
#[cfg(feature = "query")]
fn settle_floats(result: &mut QueryResult, floats: &[bool], recorded: &QueryResult) {
    const ROUNDING: f64 = 1e-9;
    for (row, before) in result.rows.iter_mut().zip(&recorded.rows) {
        for ((cell, before), _) in row.iter_mut().zip(before).zip(floats).filter(|(_, float)| **float) {
            let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
            if let (Some(a), Some(b)) = (number(before), number(cell))
                && (a == b || (a - b).abs() <= ROUNDING * a.abs())
            {
                *cell = before.clone();
            }
        }
    }
}

pub(super) async fn run_query(
    context: &Context,
    project: &str,
    location: &str,
    query: &ValidationQuery,
    sql: &str,
) -> Result<QueryResult, Failure> {
    let options = QueryOptions { location: Some(location.into()), ..QueryOptions::default() };
    let result =
        context.google.bigquery.query(project, sql, &options).await.map_err(|error| name(&query.name, error))?;
    let fields = result.schema["fields"].as_array().cloned().unwrap_or_default();
    let columns = fields.iter().map(|field| field["name"].as_str().unwrap_or_default().to_string()).collect();
    let rows: Vec<Vec<Value>> = result.rows;
    Ok(QueryResult { name: query.name.clone(), columns, rows })
}

/// Says which query it was.
fn name(query: &str, error: Failure) -> Failure {
    match error {
        Failure::Invalid { message, .. } => Failure::Invalid { object: format!("validation query {query}"), message },
        Failure::NotFound { message, .. } => Failure::NotFound { object: format!("validation query {query}"), message },
        other => other,
    }
}
