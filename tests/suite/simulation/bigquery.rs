//! A small BigQuery and Cloud Scheduler: tables with a history of rows, jobs that take their time whoever waits for them,
//! snapshots as of an instant, extracts that write files and loads that read them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use strongroom::codec::arrow_schema::arrow_schema;
use strongroom::codec::avro;
use strongroom::codec::fingerprint::{Hashes, TableFingerprint};
use strongroom::google::bigquery::{
    Ids, JobFilter, JobRef, ListedDataset, ListedRoutine, ListedTable, Makes, PollPolicy, Progress, QueryOptions,
    QueryResult, Warehouse as Calls, job_failure,
};
use strongroom::google::scheduler::{Job, JobState, Schedules};
use strongroom::model::schema::{Field, FieldType, Schema};
use strongroom::model::{DatasetId, Failure, TableId};

use super::store;
use super::world::{Kind, Port, World, lock};

/// A row: its number, and the batch of ingestion that brought it.
pub type Row = (i64, i64);
pub type Rows = Arc<Vec<Row>>;

/// All that the services hold.
pub struct Warehouse {
    datasets: BTreeMap<DatasetId, Value>,
    pub tables: BTreeMap<TableId, Table>,
    jobs: BTreeMap<String, BigJob>,
    /// Cloud Scheduler: state by name.
    pub schedules: BTreeMap<String, JobState>,
    /// What every table ever held, also one that is gone by now: `None` from when it was dropped.
    ever: BTreeMap<TableId, Vec<(Timestamp, Option<Rows>)>>,
}

/// A table and what was ever in it.
pub struct Table {
    kind: &'static str,
    made: Timestamp,
    expires: Option<Timestamp>,
    pub history: Vec<(Timestamp, Rows)>,
    /// Rows are still in its streaming buffer until then.
    streaming: Option<Timestamp>,
}

struct BigJob {
    configuration: Value,
    done: bool,
    cancelled: bool,
    error: Option<(&'static str, String)>,
    statistics: Value,
}

pub fn schema() -> Schema {
    Schema::new(vec![Field::required("id", FieldType::Int64), Field::required("batch", FieldType::Int64)])
}

impl Table {
    fn new(kind: &'static str, now: Timestamp, rows: Rows) -> Self {
        Self { kind, made: now, expires: None, history: vec![(now, rows)], streaming: None }
    }

    pub fn rows(&self) -> Rows {
        self.history.last().map(|(_, rows)| rows.clone()).unwrap_or_default()
    }

    pub fn rows_at(&self, at: Timestamp) -> Option<Rows> {
        self.history.iter().rev().find(|(from, _)| *from <= at).map(|(_, rows)| rows.clone())
    }

    fn resource(&self, id: &TableId, now: Timestamp) -> Value {
        let rows = self.rows().len();
        let mut resource = json!({
            "kind": "bigquery#table",
            "id": id.to_string(),
            "tableReference": {"projectId": id.project(), "datasetId": id.dataset(), "tableId": id.table()},
            "type": self.kind,
            "schema": schema().to_json(),
            "numRows": rows.to_string(),
            "numBytes": (rows * 16).to_string(),
            "creationTime": self.made.as_millisecond().to_string(),
            "location": "EU",
        });
        if let Some(expires) = self.expires {
            resource["expirationTime"] = expires.as_millisecond().to_string().into();
        }
        if self.streaming.is_some_and(|until| now < until) {
            resource["streamingBuffer"] = json!({"estimatedRows": "1"});
        }
        resource
    }
}

impl Warehouse {
    pub fn new(now: Timestamp) -> Self {
        let dataset: DatasetId = super::DATASET.parse().expect("a name");
        let tables = super::TABLES.iter().map(|name| {
            let rows: Vec<Row> = (0..5).map(|id| (id, 0)).collect();
            (dataset.table(name).expect("a name"), Table::new("TABLE", now, Arc::new(rows)))
        });
        let mut new = Self {
            datasets: BTreeMap::from([(dataset.clone(), json!({"location": "EU"}))]),
            tables: tables.collect(),
            jobs: BTreeMap::new(),
            schedules: super::SCHEDULES.iter().map(|name| ((*name).to_string(), JobState::Enabled)).collect(),
            ever: BTreeMap::new(),
        };
        for table in new.tables.keys().cloned().collect::<Vec<_>>() {
            new.remember(&table, now);
        }
        new
    }

    fn remember(&mut self, table: &TableId, now: Timestamp) {
        let rows = self.tables.get(table).map(Table::rows);
        self.ever.entry(table.clone()).or_default().push((now, rows));
    }

    /// What a table held at an instant, whatever has become of it since.
    pub fn held(&self, table: &TableId, at: Timestamp) -> Option<Rows> {
        self.ever.get(table)?.iter().rev().find(|(from, _)| *from <= at)?.1.clone()
    }

    /// When the table was made that stands there now.
    pub fn made(&self, table: &TableId) -> Option<Timestamp> {
        self.tables.get(table).map(|table| table.made)
    }

    /// Adds a row, if there is such a table.
    pub fn append(&mut self, id: &TableId, row: Row, now: Timestamp, streaming: Option<Timestamp>) -> bool {
        if let Some(table) = self.tables.get_mut(id) {
            let mut rows = table.rows().as_ref().clone();
            rows.push(row);
            table.history.push((now, Arc::new(rows)));
            table.streaming = streaming.or(table.streaming);
            self.remember(id, now);
            return true;
        }
        false
    }

    /// A job of somebody else, that writes into the dataset until it is ended.
    pub fn begin_writer(&mut self, id: &str) {
        let dataset: DatasetId = super::DATASET.parse().expect("a name");
        let to = json!({"projectId": dataset.project(), "datasetId": dataset.dataset(), "tableId": super::TABLES[0]});
        let configuration = json!({"load": {"destinationTable": to}});
        let job = BigJob { configuration, done: false, cancelled: false, error: None, statistics: Value::Null };
        self.jobs.insert(id.into(), job);
    }

    pub fn end_writer(&mut self, id: &str) {
        self.jobs.remove(id);
    }
}

/// A worker's way to BigQuery and Scheduler.
pub struct SimGoogle {
    pub port: Arc<Port>,
}

fn not_found(what: impl ToString) -> Failure {
    Failure::NotFound { object: what.to_string(), message: "not found (simulated)".into() }
}

fn exists(what: impl ToString) -> Failure {
    Failure::Exists { object: what.to_string(), message: "already exists (simulated)".into() }
}

fn invalid(what: impl ToString, message: impl ToString) -> Failure {
    Failure::Invalid { object: what.to_string(), message: message.to_string() }
}

fn id_of(reference: &Value) -> (TableId, Option<String>) {
    let text = |name: &str| reference[name].as_str().unwrap_or_default();
    let (table, at) =
        text("tableId").split_once('@').map_or((text("tableId"), None), |(a, b)| (a, Some(b.to_string())));
    let id = format!("{}.{}.{table}", text("projectId"), text("datasetId"));
    (id.parse().unwrap_or_else(|_| panic!("{id} is a table's name")), at)
}

pub fn batch_of(rows: &[Row]) -> RecordBatch {
    let column = |pick: fn(&Row) -> i64| Arc::new(rows.iter().map(pick).collect::<Int64Array>());
    RecordBatch::try_new(arrow_schema(&schema()), vec![column(|r| r.0), column(|r| r.1)]).expect("two columns")
}

pub fn read_avro(bytes: &[u8]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in avro::Reader::new(bytes, &schema()).expect("an Avro file") {
        let batch = batch.expect("rows");
        let column = |n: usize| batch.column(n).as_primitive::<Int64Type>().values().to_vec();
        rows.extend(column(0).into_iter().zip(column(1)));
    }
    rows
}

fn write_avro(rows: &[Row]) -> Vec<u8> {
    let mut writer = avro::Writer::new(Vec::new(), &schema(), avro::Codec::Null, true).expect("a writer");
    writer.write(&batch_of(rows)).expect("rows");
    writer.finish().expect("a file")
}

/// What the proof's query gives.
fn proof(rows: &[Row]) -> Vec<(String, Value)> {
    let mut fingerprint = TableFingerprint::new();
    fingerprint.add(&batch_of(rows)).expect("rows");
    let Hashes { count, xor, sum, .. } = fingerprint.total();
    let filled = fingerprint.buckets().iter().enumerate().filter(|(_, bucket)| bucket.count > 0);
    let buckets: Vec<String> = filled.map(|(at, bucket)| format!("{at}:{}:{}", bucket.count, bucket.sum)).collect();
    let text = |value: Option<String>| value.map_or(Value::Null, Value::from);
    let some = |value: String| (count > 0).then_some(value);
    let mut cells = vec![
        ("n".to_string(), json!(count.to_string())),
        ("x".into(), text(some(xor.to_string()))),
        ("s".into(), text(some(sum.to_string()))),
        ("buckets".into(), text(some(buckets.join(" ")))),
    ];
    for (i, pick) in [|r: &Row| r.0, |r: &Row| r.1].into_iter().enumerate() {
        let values = rows.iter().map(pick);
        cells.push((format!("nulls_{i}"), json!("0")));
        cells.push((format!("min_{i}"), text(values.clone().min().map(|v| v.to_string()))));
        cells.push((format!("max_{i}"), text(values.clone().max().map(|v| v.to_string()))));
        cells.push((format!("sum_{i}"), text(some(values.sum::<i64>().to_string()))));
    }
    cells
}

/// Does a job, when its time has come.
fn carry_out(world: &World, configuration: &Value) -> Result<Value, (&'static str, String)> {
    let now = world.now();
    let mut warehouse = lock(&world.warehouse);
    if let Some(copy) = configuration.get("copy") {
        let (source, at) = id_of(&copy["sourceTable"]);
        let (target, _) = id_of(&copy["destinationTable"]);
        let at = at.and_then(|ms| ms.parse().ok()).and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let found = warehouse.tables.get(&source).ok_or(("notFound", format!("{source} is not there")))?;
        let rows = match at {
            Some(at) => found.rows_at(at).ok_or(("invalid", format!("{source} was not there at {at}")))?,
            None => found.rows(),
        };
        if copy["writeDisposition"] == "WRITE_EMPTY" && warehouse.tables.contains_key(&target) {
            return Err(("duplicate", format!("{target} is there already")));
        }
        let snapshot = copy["operationType"] == "SNAPSHOT";
        let mut table = Table::new(if snapshot { "SNAPSHOT" } else { "TABLE" }, now, rows);
        table.expires = copy["destinationExpirationTime"].as_str().and_then(|text| text.parse().ok());
        warehouse.tables.insert(target.clone(), table);
        warehouse.remember(&target, now);
        return Ok(Value::Null);
    }
    if let Some(extract) = configuration.get("extract") {
        let (source, _) = id_of(&extract["sourceTable"]);
        let rows = warehouse.tables.get(&source).ok_or(("notFound", format!("{source} is not there")))?.rows();
        drop(warehouse);
        let pattern = extract["destinationUris"][0].as_str().unwrap_or_default();
        let (bucket, key) = store::resolve(world, pattern).ok_or(("invalid", format!("{pattern} is no place")))?;
        let middle = if rows.len() > 12 { rows.len() / 2 } else { rows.len() };
        let parts: Vec<&[Row]> =
            if middle == rows.len() { vec![&rows] } else { vec![&rows[..middle], &rows[middle..]] };
        for (n, part) in parts.iter().enumerate() {
            if store::forgets(world) {
                continue;
            }
            let key = key.replace('*', &format!("{n:012}"));
            bucket.write(&key, write_avro(part).into()).map_err(|error| ("backendError", error.to_string()))?;
        }
        return Ok(json!({"extract": {"destinationUriFileCounts": [parts.len().to_string()]}}));
    }
    if let Some(load) = configuration.get("load") {
        let (target, _) = id_of(&load["destinationTable"]);
        let mut rows = Vec::new();
        for uri in load["sourceUris"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let found = store::resolve(world, uri).and_then(|(bucket, key)| bucket.peek(key));
            rows.extend(read_avro(&found.ok_or(("notFound", format!("{uri} is not there")))?));
        }
        let table = warehouse.tables.get_mut(&target).ok_or(("notFound", format!("{target} is not there")))?;
        if !table.rows().is_empty() {
            return Err(("duplicate", format!("{target} is not empty")));
        }
        let count = rows.len();
        table.history.push((now, Arc::new(rows)));
        warehouse.remember(&target, now);
        return Ok(json!({"load": {"outputRows": count.to_string()}}));
    }
    Err(("invalid", format!("no job that is simulated: {configuration}")))
}

/// The job's way through the service: nobody's death ends it.
async fn run_its_course(world: Arc<World>, id: String, configuration: Value) {
    world.pause(Duration::from_millis(50), Duration::from_secs(8)).await;
    let cancelled = lock(&world.warehouse).jobs.get(&id).is_none_or(|job| job.cancelled);
    let outcome =
        if cancelled { Err(("stopped", "was cancelled".to_string())) } else { carry_out(&world, &configuration) };
    if let Some(job) = lock(&world.warehouse).jobs.get_mut(&id) {
        job.done = true;
        match outcome {
            Ok(statistics) => job.statistics = statistics,
            Err(error) => job.error = Some(error),
        }
    }
}

impl SimGoogle {
    async fn look<T: Send + 'static>(
        &self,
        what: impl ToString,
        read: impl FnOnce(&mut Warehouse, Timestamp) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let world = self.port.world.clone();
        let read = move || read(&mut lock(&world.warehouse), world.now());
        self.port.call(Kind::Look, what.to_string(), read).await
    }

    /// A change: the oracle sees that whoever asks for it holds the lease.
    async fn change<T: Send + 'static>(
        &self,
        what: impl ToString,
        write: impl FnOnce(&mut Warehouse, Timestamp) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let what = what.to_string();
        super::check::before_service(&self.port, &what);
        let world = self.port.world.clone();
        let write = move || write(&mut lock(&world.warehouse), world.now());
        self.port.call(Kind::Service, what, write).await
    }
}

fn job_resource(job: &JobRef, found: &BigJob) -> Value {
    let mut resource = json!({
        "jobReference": {"projectId": job.project, "jobId": job.job_id, "location": "EU"},
        "configuration": found.configuration,
        "statistics": found.statistics,
        "user_email": "somebody",
        "status": {"state": if found.done { "DONE" } else { "RUNNING" }},
    });
    if let Some((reason, message)) = &found.error {
        resource["status"]["errorResult"] = json!({"reason": reason, "message": message});
    }
    resource
}

#[async_trait]
impl Calls for SimGoogle {
    async fn list_datasets(&self, _project: &str) -> Result<Vec<ListedDataset>, Failure> {
        unreachable!("no job lists datasets")
    }

    async fn get_dataset(&self, id: &DatasetId) -> Result<Value, Failure> {
        let id = id.clone();
        self.look(format!("get_dataset {id}"), move |warehouse, _| {
            warehouse.datasets.get(&id).cloned().ok_or_else(|| not_found(&id))
        })
        .await
    }

    async fn insert_dataset(&self, id: &DatasetId, resource: Value) -> Result<Value, Failure> {
        let id = id.clone();
        self.change(format!("insert_dataset {id}"), move |warehouse, _| {
            if warehouse.datasets.contains_key(&id) {
                return Err(exists(&id));
            }
            warehouse.datasets.insert(id, resource.clone());
            Ok(resource)
        })
        .await
    }

    async fn patch_dataset(&self, id: &DatasetId, changes: Value, _etag: Option<&str>) -> Result<Value, Failure> {
        let id = id.clone();
        self.change(format!("patch_dataset {id}"), move |warehouse, _| {
            let found = warehouse.datasets.get_mut(&id).ok_or_else(|| not_found(&id))?;
            for (key, value) in changes.as_object().into_iter().flatten() {
                found[key] = value.clone();
            }
            Ok(found.clone())
        })
        .await
    }

    async fn delete_dataset(&self, id: &DatasetId, delete_contents: bool) -> Result<(), Failure> {
        let id = id.clone();
        self.change(format!("delete_dataset {id}"), move |warehouse, _| {
            if !delete_contents && warehouse.tables.keys().any(|table| *table.dataset_id() == id) {
                return Err(invalid(&id, "is in use"));
            }
            warehouse.datasets.remove(&id).map(drop).ok_or_else(|| not_found(&id))
        })
        .await
    }

    async fn list_tables(&self, dataset: &DatasetId) -> Result<Vec<ListedTable>, Failure> {
        let dataset = dataset.clone();
        self.look(format!("list_tables {dataset}"), move |warehouse, _| {
            let of_it = warehouse.tables.iter().filter(|(id, _)| *id.dataset_id() == dataset);
            Ok(of_it
                .map(|(id, table)| ListedTable {
                    id: id.clone(),
                    kind: table.kind.into(),
                    labels: vec![],
                    creation_time_ms: table.made.as_millisecond(),
                    expiration_time_ms: None,
                })
                .collect())
        })
        .await
    }

    async fn get_table(&self, id: &TableId) -> Result<Value, Failure> {
        let id = id.clone();
        self.look(format!("get_table {id}"), move |warehouse, now| {
            warehouse.tables.get(&id).map(|table| table.resource(&id, now)).ok_or_else(|| not_found(&id))
        })
        .await
    }

    async fn insert_table(&self, id: &TableId, resource: Value) -> Result<Value, Failure> {
        let id = id.clone();
        self.change(format!("insert_table {id}"), move |warehouse, now| {
            if warehouse.tables.contains_key(&id) {
                return Err(exists(&id));
            }
            let mut table = Table::new("TABLE", now, Rows::default());
            let ms = resource["expirationTime"].as_str().and_then(|text| text.parse().ok());
            table.expires = ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
            let made = table.resource(&id, now);
            warehouse.tables.insert(id.clone(), table);
            warehouse.remember(&id, now);
            Ok(made)
        })
        .await
    }

    async fn patch_table(&self, id: &TableId, _changes: Value, _etag: Option<&str>) -> Result<Value, Failure> {
        self.get_table(id).await
    }

    async fn delete_table(&self, id: &TableId) -> Result<(), Failure> {
        let id = id.clone();
        self.change(format!("delete_table {id}"), move |warehouse, now| {
            warehouse.tables.remove(&id).ok_or_else(|| not_found(&id))?;
            warehouse.remember(&id, now);
            Ok(())
        })
        .await
    }

    async fn list_routines(&self, _dataset: &DatasetId) -> Result<Vec<ListedRoutine>, Failure> {
        Ok(vec![])
    }

    async fn get_routine(&self, _dataset: &DatasetId, name: &str) -> Result<Value, Failure> {
        Err(not_found(name))
    }

    async fn insert_routine(&self, _dataset: &DatasetId, name: &str, _resource: Value) -> Result<Value, Failure> {
        Err(invalid(name, "there are no routines here"))
    }

    async fn list_row_access_policies(&self, _table: &TableId) -> Result<Vec<Value>, Failure> {
        Ok(vec![])
    }

    async fn insert_row_access_policy(&self, table: &TableId, _resource: Value) -> Result<Value, Failure> {
        Err(invalid(table, "there are no policies here"))
    }

    async fn get_row_access_policy_iam(&self, table: &TableId, _policy: &str) -> Result<Value, Failure> {
        Err(not_found(table))
    }

    async fn get_table_iam(&self, _table: &TableId) -> Result<Value, Failure> {
        Ok(json!({}))
    }

    async fn set_table_iam(&self, _table: &TableId, policy: Value) -> Result<Value, Failure> {
        Ok(policy)
    }

    async fn insert_job(&self, job: &JobRef, configuration: Value) -> Result<Value, Failure> {
        let (job, world) = (job.clone(), self.port.world.clone());
        self.change(format!("insert_job {}", job.job_id), move |warehouse, _| {
            // The same id is the same job, however often it is sent.
            if !warehouse.jobs.contains_key(&job.job_id) {
                let new = BigJob {
                    configuration: configuration.clone(),
                    done: false,
                    cancelled: false,
                    error: None,
                    statistics: Value::Null,
                };
                warehouse.jobs.insert(job.job_id.clone(), new);
                tokio::task::spawn_local(run_its_course(world, job.job_id.clone(), configuration));
            }
            Ok(job_resource(&job, &warehouse.jobs[&job.job_id]))
        })
        .await
    }

    async fn get_job(&self, job: &JobRef) -> Result<Value, Failure> {
        let job = job.clone();
        self.look(format!("get_job {}", job.job_id), move |warehouse, _| {
            let found = warehouse.jobs.get(&job.job_id).ok_or_else(|| not_found(&job.job_id))?;
            Ok(job_resource(&job, found))
        })
        .await
    }

    async fn wait_job(&self, job: &JobRef, poll: &PollPolicy, _progress: Progress<'_>) -> Result<Value, Failure> {
        let begin = tokio::time::Instant::now();
        loop {
            let seen = Calls::get_job(self, job).await?;
            if seen["status"]["state"] == "DONE" {
                return Ok(seen);
            }
            if begin.elapsed() > poll.deadline {
                return Err(Failure::Unknown { object: job.job_id.clone(), message: "still runs".into() });
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    async fn run_job(
        &self,
        job: &JobRef,
        configuration: Value,
        poll: &PollPolicy,
        progress: Progress<'_>,
    ) -> Result<Value, Failure> {
        self.insert_job(job, configuration).await?;
        let done = self.wait_job(job, poll, progress).await?;
        job_failure(&done).map_or(Ok(done), Err)
    }

    async fn complete_job(&self, id: Ids<'_>, make: Makes<'_>, poll: &PollPolicy) -> Result<Value, Failure> {
        let mut attempt = 0;
        loop {
            let job = id(attempt);
            self.insert_job(&job, make(attempt)).await?;
            let done = self.wait_job(&job, poll, &mut |_| {}).await?;
            match job_failure(&done) {
                Some(Failure::Transient { .. }) if attempt < 3 => attempt += 1,
                failure => return failure.map_or(Ok(done), Err),
            }
        }
    }

    async fn list_jobs(&self, project: &str, filter: &JobFilter) -> Result<Vec<Value>, Failure> {
        let (project, filter) = (project.to_string(), filter.clone());
        self.look("list_jobs", move |warehouse, _| {
            let jobs = warehouse.jobs.iter().filter(|(_, job)| !filter.only_active || !job.done);
            Ok(jobs.map(|(id, job)| job_resource(&JobRef::new(&project, id, Some("EU".into())), job)).collect())
        })
        .await
    }

    async fn cancel_job(&self, job: &JobRef) -> Result<(), Failure> {
        let job = job.job_id.clone();
        self.change(format!("cancel_job {job}"), move |warehouse, _| {
            let found = warehouse.jobs.get_mut(&job).ok_or_else(|| not_found(&job))?;
            found.cancelled = true;
            Ok(())
        })
        .await
    }

    async fn query(&self, _project: &str, sql: &str, _options: &QueryOptions) -> Result<QueryResult, Failure> {
        let sql = sql.to_string();
        self.look("query", move |warehouse, now| {
            let cells = if sql.contains("CURRENT_TIMESTAMP()") {
                vec![("now".to_string(), json!(now.as_millisecond().to_string()))]
            } else {
                let name = sql.rsplit_once("FROM `").and_then(|(_, rest)| rest.split('`').next()).unwrap_or_default();
                let id: TableId = name.parse().map_err(|_| invalid(&sql, "is no query that is simulated"))?;
                proof(&warehouse.tables.get(&id).ok_or_else(|| not_found(&id))?.rows())
            };
            let fields: Vec<Value> = cells.iter().map(|(name, _)| json!({"name": name})).collect();
            let rows = vec![cells.into_iter().map(|(_, value)| value).collect()];
            Ok(QueryResult { schema: json!({"fields": fields}), rows, total_bytes_processed: 0, job: Value::Null })
        })
        .await
    }
}

fn schedule(name: &str, state: JobState) -> Job {
    Job {
        name: name.into(),
        description: String::new(),
        schedule: "0 2 * * *".into(),
        time_zone: "UTC".into(),
        state,
        schedule_time: None,
        last_attempt_time: None,
    }
}

impl SimGoogle {
    async fn switch(&self, name: &str, state: JobState) -> Result<Job, Failure> {
        let name = name.to_string();
        let what = format!("{} {name}", if state == JobState::Paused { "pause" } else { "resume" });
        self.change(what, move |warehouse, _| {
            let found = warehouse.schedules.get_mut(&name).ok_or_else(|| not_found(&name))?;
            *found = state.clone();
            Ok(schedule(&name, state))
        })
        .await
    }
}

#[async_trait]
impl Schedules for SimGoogle {
    async fn list_jobs(&self, _project: &str, _location: &str) -> Result<Vec<Job>, Failure> {
        unreachable!("no job lists schedules")
    }

    async fn get_job(&self, name: &str) -> Result<Job, Failure> {
        let name = name.to_string();
        self.look(format!("get schedule {name}"), move |warehouse, _| {
            let state = warehouse.schedules.get(&name).ok_or_else(|| not_found(&name))?;
            Ok(schedule(&name, state.clone()))
        })
        .await
    }

    async fn pause_job(&self, name: &str) -> Result<Job, Failure> {
        self.switch(name, JobState::Paused).await
    }

    async fn resume_job(&self, name: &str) -> Result<Job, Failure> {
        self.switch(name, JobState::Enabled).await
    }

    async fn run_job(&self, name: &str) -> Result<Job, Failure> {
        Err(invalid(name, "nobody runs it by hand"))
    }
}

/// Whether a time has come.
pub fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}
