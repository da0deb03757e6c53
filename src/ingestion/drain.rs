//! Waits until nothing writes into a dataset: no running writers, no rows in streaming buffers.
//!
//! Snapshots and extracts omit rows in a streaming buffer, so a cut before they are settled would lose them
//! (<https://cloud.google.com/bigquery/docs/table-snapshots-intro#limitations>).

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use tokio::time::Instant;

use crate::google::Google;
use crate::google::bigquery::JobFilter;
use crate::model::{DatasetId, Failure, TableId};

/// The tables as they are once nothing writes into them.
#[derive(Debug)]
pub struct Drained {
    pub resources: BTreeMap<TableId, Value>,
    pub waited: Duration,
}

/// Waits until `tables` are at rest and gives their whole resources.
///
/// `waiting` is told what is waited for.
///
/// # Errors
/// `Precondition` when something still writes after `timeout`, naming it.
pub async fn drain(
    google: &Google,
    dataset: &DatasetId,
    tables: &[TableId],
    timeout: Duration,
    parallel: usize,
    waiting: &(dyn Fn(&str) + Sync),
) -> Result<Drained, Failure> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(500);
    loop {
        let resources = resources(google, tables, parallel).await?;
        let mut busy = writers(google, dataset).await?;
        busy.extend(resources.iter().filter_map(|(table, resource)| {
            let buffer = resource.get("streamingBuffer")?;
            let rows = buffer["estimatedRows"].as_str().unwrap_or("some");
            Some(format!("{table} has {rows} rows in its streaming buffer"))
        }));
        let Some(first) = busy.first() else { return Ok(Drained { resources, waited: begin.elapsed() }) };
        if begin.elapsed() + pause > timeout {
            let more = if busy.len() > 1 { format!(" (and {} more)", busy.len() - 1) } else { String::new() };
            let message = format!(
                "is still written to after {} s: {first}{more}; hint: stop what writes outside ingestion.scheduler_jobs, or raise ingestion.drain_timeout",
                timeout.as_secs()
            );
            return Err(Failure::Precondition { object: dataset.to_string(), message });
        }
        waiting(first);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

async fn resources(google: &Google, tables: &[TableId], parallel: usize) -> Result<BTreeMap<TableId, Value>, Failure> {
    stream::iter(tables.to_vec())
        .map(|table| async move {
            let resource = google.bigquery.get_table(&table).await?;
            Ok((table, resource))
        })
        .buffer_unordered(parallel)
        .try_collect()
        .await
}

/// Jobs of anybody that are not done and write into the dataset.
async fn writers(google: &Google, dataset: &DatasetId) -> Result<Vec<String>, Failure> {
    let filter = JobFilter { only_active: true, all_users: true, ..JobFilter::default() };
    let jobs = google.bigquery.list_jobs(dataset.project(), &filter).await?;
    Ok(jobs.iter().filter(|job| writes_into(job, dataset)).map(describe).collect())
}

fn describe(job: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_string();
    format!("job {} of {} is running", text(&job["jobReference"]["jobId"]), text(&job["user_email"]))
}

/// Whether a job's destination is in the dataset. Queries always have one: what a SELECT gives goes into a hidden
/// dataset, what a DML statement changes is its target.
fn writes_into(job: &Value, dataset: &DatasetId) -> bool {
    let configuration = &job["configuration"];
    ["load", "copy", "query"].iter().any(|kind| {
        let table = &configuration[kind]["destinationTable"];
        let project = table["projectId"].as_str().unwrap_or(dataset.project());
        table["datasetId"].as_str() == Some(dataset.dataset()) && project == dataset.project()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_writer_is_told_from_a_reader() {
        let dataset: DatasetId = "p.d".parse().unwrap();
        let job = |kind: &str, dataset: &str| json!({"configuration": {kind: {"destinationTable": {"projectId": "p", "datasetId": dataset, "tableId": "t"}}}});
        for (job, expected) in [
            (job("load", "d"), true),
            (job("copy", "d"), true),
            (job("query", "d"), true),
            (job("query", "_hidden"), false),
            (
                json!({"configuration": {"extract": {"sourceTable": {"projectId": "p", "datasetId": "d", "tableId": "t"}}}}),
                false,
            ),
        ] {
            assert_eq!(writes_into(&job, &dataset), expected, "{job}");
        }
    }
}
