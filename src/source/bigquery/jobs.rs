//! The jobs that BigQuery runs for a backup: snapshots, extracts, loads. Each has a deterministic id, so that sending it
//! again is not doing it again.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config::TableFormat;
use crate::google::Google;
use crate::google::bigquery::{JobFilter, JobRef, PollPolicy, QueryOptions};
use crate::model::{DatasetId, Failure, TableId};

/// Makes the ids of a run's jobs.
#[derive(Debug, Clone)]
pub struct JobIds {
    pub run: String,
    pub project: String,
    pub location: String,
}

impl JobIds {
    /// The id of the `index`-th job of a kind, in its `attempt`-th attempt.
    pub fn job(&self, kind: &str, index: usize, attempt: u32) -> JobRef {
        let id = format!("{}_{kind}_{index}_{attempt}", prefix(&self.run));
        JobRef::new(&self.project, id, Some(self.location.clone()))
    }
}

/// How the ids of a run's jobs begin.
fn prefix(run: &str) -> String {
    format!("strongroom_{}", run.replace(['.', ':'], "-"))
}

/// Ends the jobs that a run has left under way, so that nothing more is written.
///
/// # Errors
/// `Unknown` when one still runs after two minutes.
pub async fn settle(google: &Google, project: &str, run: &str) -> Result<(), Failure> {
    let filter = JobFilter { only_active: true, ..JobFilter::default() };
    let prefix = prefix(run);
    let active = google.bigquery.list_jobs(project, &filter).await?;
    let own =
        active.iter().filter(|job| job["jobReference"]["jobId"].as_str().is_some_and(|id| id.starts_with(&prefix)));
    for job in own.map(JobRef::of) {
        match google.bigquery.cancel_job(&job).await {
            Ok(()) | Err(Failure::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let poll = PollPolicy { deadline: Duration::from_secs(120), ..PollPolicy::default() };
        // Done is enough, one way or the other.
        match google.bigquery.wait_job(&job, &poll, &mut |_| {}).await {
            Ok(_) | Err(Failure::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Runs a job until it succeeded; each attempt has an id of its own.
pub(super) async fn run(
    google: &Google,
    ids: &JobIds,
    (kind, index): (&str, usize),
    make: impl Fn(u32) -> Value + Send + Sync,
) -> Result<Value, Failure> {
    let id = |attempt| ids.job(kind, index, attempt);
    google.bigquery.complete_job(&id, &make, &PollPolicy::default()).await
}

fn reference(table: &TableId, decorator: &str) -> Value {
    json!({"projectId": table.project(), "datasetId": table.dataset(), "tableId": format!("{}{decorator}", table.table())})
}

/// The service's own time: the cut must not depend on this machine's clock.
///
/// # Errors
/// When the service cannot be asked.
pub async fn cut_instant(google: &Google, project: &str, location: &str) -> Result<Timestamp, Failure> {
    let options = QueryOptions { location: Some(location.into()), ..QueryOptions::default() };
    let result = google.bigquery.query(project, "SELECT UNIX_MILLIS(CURRENT_TIMESTAMP()) AS now", &options).await?;
    let millis = result.cell(0, "now").and_then(Value::as_str).and_then(|text| text.parse::<i64>().ok());
    millis
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .ok_or_else(|| Failure::Corrupt { object: project.into(), message: "BigQuery's time is no number".into() })
}

/// Makes the dataset for snapshots when there is none.
///
/// # Errors
/// When it cannot be made.
pub async fn ensure_snapshot_dataset(google: &Google, id: &DatasetId, location: &str) -> Result<bool, Failure> {
    let resource = json!({
        "location": location,
        "description": "Table snapshots taken by strongroom; each expires by itself.",
        "labels": {"managed-by": "strongroom"}
    });
    match google.bigquery.insert_dataset(id, resource).await {
        Ok(_) => Ok(true),
        Err(Failure::Exists { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes a snapshot of `table` as it was at `at`, and gives the snapshot's whole resource.
///
/// # Errors
/// When BigQuery refuses or fails.
pub async fn snapshot(
    google: &Google,
    ids: &JobIds,
    index: usize,
    (table, at): (&TableId, Option<Timestamp>),
    (snapshot, expires_at): (&TableId, Timestamp),
) -> Result<Value, Failure> {
    let decorator = at.map(|at| format!("@{}", at.as_millisecond())).unwrap_or_default();
    run(google, ids, ("snapshot", index), |_| {
        json!({"copy": {
            "sourceTable": reference(table, &decorator),
            "destinationTable": reference(snapshot, ""),
            "operationType": "SNAPSHOT",
            "createDisposition": "CREATE_IF_NEEDED",
            "writeDisposition": "WRITE_EMPTY",
            "destinationExpirationTime": expires_at.to_string(),
        }})
    })
    .await?;
    google.bigquery.get_table(snapshot).await
}

/// Makes a table again from its snapshot.
///
/// # Errors
/// When BigQuery refuses or fails.
pub async fn unsnapshot(
    google: &Google,
    ids: &JobIds,
    index: usize,
    snapshot: &TableId,
    table: &TableId,
) -> Result<(), Failure> {
    from_snapshot(google, ids, index, (snapshot, table), "WRITE_EMPTY").await
}

/// Replaces a table's rows by those of a snapshot of it.
///
/// # Errors
/// When BigQuery refuses or fails.
pub async fn put_back(
    google: &Google,
    ids: &JobIds,
    index: usize,
    snapshot: &TableId,
    table: &TableId,
) -> Result<(), Failure> {
    from_snapshot(google, ids, index, (snapshot, table), "WRITE_TRUNCATE").await
}

async fn from_snapshot(
    google: &Google,
    ids: &JobIds,
    index: usize,
    (snapshot, table): (&TableId, &TableId),
    disposition: &str,
) -> Result<(), Failure> {
    let make = |_| {
        json!({"copy": {
            "sourceTable": reference(snapshot, ""),
            "destinationTable": reference(table, ""),
            "operationType": "RESTORE",
            "createDisposition": "CREATE_IF_NEEDED",
            "writeDisposition": disposition,
        }})
    };
    run(google, ids, ("unsnapshot", index), make).await.map(drop)
}

/// Extracts a snapshot (or one partition of it) into files.
///
/// `uri` answers, for an attempt, the pattern with one `*` of the files to write: every attempt has a folder of its own.
/// Gives that pattern of the attempt that succeeded, and how many files BigQuery says it wrote.
///
/// # Errors
/// When BigQuery refuses or fails.
pub async fn extract(
    google: &Google,
    ids: &JobIds,
    index: usize,
    (snapshot, partition): (&TableId, Option<&str>),
    format: TableFormat,
    uri: &(dyn Fn(u32) -> String + Send + Sync),
) -> Result<(String, u64), Failure> {
    let decorator = partition.map(|partition| format!("${partition}")).unwrap_or_default();
    let used = std::sync::Mutex::new(String::new());
    let job = run(google, ids, ("extract", index), |attempt| {
        let pattern = uri(attempt);
        if let Ok(mut used) = used.lock() {
            used.clone_from(&pattern);
        }
        let (name, compression) = match format {
            TableFormat::Avro => ("AVRO", "DEFLATE"),
            TableFormat::Parquet => ("PARQUET", "ZSTD"),
        };
        json!({"extract": {
            "sourceTable": reference(snapshot, &decorator),
            "destinationUris": [pattern],
            "destinationFormat": name,
            "compression": compression,
            "useAvroLogicalTypes": format == TableFormat::Avro,
        }})
    })
    .await?;
    let counts = &job["statistics"]["extract"]["destinationUriFileCounts"][0];
    let count = counts.as_str().and_then(|text| text.parse().ok()).or(counts.as_u64());
    let object = snapshot.to_string();
    let count =
        count.ok_or(Failure::Corrupt { object, message: "the extract job reports no count of files".into() })?;
    Ok((used.into_inner().unwrap_or_default(), count))
}

/// Loads files into an existing empty table, by its own schema, and gives the rows that BigQuery says it loaded.
///
/// # Errors
/// When BigQuery refuses or fails.
pub async fn load(
    google: &Google,
    ids: &JobIds,
    index: usize,
    (table, partition): (&TableId, Option<&str>),
    (format, schema): (TableFormat, &Value),
    uris: &[String],
) -> Result<u64, Failure> {
    let decorator = partition.map(|partition| format!("${partition}")).unwrap_or_default();
    let job = run(google, ids, ("load", index), |_| {
        let mut load = json!({
            "sourceUris": uris,
            "destinationTable": reference(table, &decorator),
            "schema": schema,
            "createDisposition": "CREATE_NEVER",
            // Not WRITE_TRUNCATE, which replaces the schema and drops constraints and policy tags.
            "writeDisposition": if partition.is_some() { "WRITE_APPEND" } else { "WRITE_EMPTY" },
            "ignoreUnknownValues": false,
            "autodetect": false,
        });
        match format {
            TableFormat::Avro => {
                load["sourceFormat"] = "AVRO".into();
                load["useAvroLogicalTypes"] = true.into();
                load["decimalTargetTypes"] = json!(["NUMERIC", "BIGNUMERIC"]);
            }
            TableFormat::Parquet => {
                load["sourceFormat"] = "PARQUET".into();
                load["decimalTargetTypes"] = json!(["NUMERIC", "BIGNUMERIC"]);
                // Files of other writers hold lists in LIST form; without effect on BigQuery's own repeated fields.
                load["parquetOptions"] = json!({"enableListInference": true});
                // Flexible names as they are, whatever the project's own setting would make of them.
                load["columnNameCharacterMap"] = "STRICT".into();
            }
        }
        json!({"load": load})
    })
    .await?;
    let rows = job["statistics"]["load"]["outputRows"].as_str().and_then(|text| text.parse().ok());
    rows.ok_or_else(|| Failure::Corrupt {
        object: table.to_string(),
        message: "the load job reports no count of rows".into(),
    })
}

/// Deletes tables; one that is gone already is no failure.
///
/// # Errors
/// The first that could not be deleted.
pub async fn drop_tables(google: &Google, tables: &[TableId], parallel: usize) -> Result<(), Failure> {
    stream::iter(tables.to_vec())
        .map(|table| async move {
            match google.bigquery.delete_table(&table).await {
                Ok(()) | Err(Failure::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .buffer_unordered(parallel)
        .try_collect::<Vec<()>>()
        .await
        .map(drop)
}
