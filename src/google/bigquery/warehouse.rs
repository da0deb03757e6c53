//! The calls of BigQuery as a trait: the client makes them, a simulation in the tests answers them. Every method is
//! described where the client defines it.

use async_trait::async_trait;
use serde_json::Value;

use super::{
    BigQuery, JobFilter, JobRef, ListedDataset, ListedRoutine, ListedTable, PollPolicy, QueryOptions, QueryResult,
};
use crate::model::{DatasetId, Failure, TableId};

/// Is shown every look at a job.
pub type Progress<'a> = &'a mut (dyn FnMut(&Value) + Send);

/// The id of a job's attempt, counted from 0.
pub type Ids<'a> = &'a (dyn Fn(u32) -> JobRef + Send + Sync);
/// The configuration of a job's attempt.
pub type Makes<'a> = &'a (dyn Fn(u32) -> Value + Send + Sync);

/// One list of the calls: the trait, and the client's own way of making them.
macro_rules! calls {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        /// What the program calls of BigQuery.
        #[async_trait]
        pub trait Warehouse: Send + Sync {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer, Failure>;)*
        }

        #[async_trait]
        impl Warehouse for BigQuery {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer, Failure> {
                BigQuery::$name(self, $($argument),*).await
            })*
        }
    };
}

calls! {
    list_datasets(project: &str) -> Vec<ListedDataset>;
    get_dataset(id: &DatasetId) -> Value;
    insert_dataset(id: &DatasetId, resource: Value) -> Value;
    patch_dataset(id: &DatasetId, changes: Value, etag: Option<&str>) -> Value;
    delete_dataset(id: &DatasetId, delete_contents: bool) -> ();
    list_tables(dataset: &DatasetId) -> Vec<ListedTable>;
    get_table(id: &TableId) -> Value;
    insert_table(id: &TableId, resource: Value) -> Value;
    patch_table(id: &TableId, changes: Value, etag: Option<&str>) -> Value;
    delete_table(id: &TableId) -> ();
    list_routines(dataset: &DatasetId) -> Vec<ListedRoutine>;
    get_routine(dataset: &DatasetId, name: &str) -> Value;
    insert_routine(dataset: &DatasetId, name: &str, resource: Value) -> Value;
    list_row_access_policies(table: &TableId) -> Vec<Value>;
    insert_row_access_policy(table: &TableId, resource: Value) -> Value;
    get_row_access_policy_iam(table: &TableId, policy: &str) -> Value;
    get_table_iam(table: &TableId) -> Value;
    set_table_iam(table: &TableId, policy: Value) -> Value;
    insert_job(job: &JobRef, configuration: Value) -> Value;
    get_job(job: &JobRef) -> Value;
    wait_job(job: &JobRef, poll: &PollPolicy, progress: Progress<'_>) -> Value;
    run_job(job: &JobRef, configuration: Value, poll: &PollPolicy, progress: Progress<'_>) -> Value;
    complete_job(id: Ids<'_>, make: Makes<'_>, poll: &PollPolicy) -> Value;
    list_jobs(project: &str, filter: &JobFilter) -> Vec<Value>;
    cancel_job(job: &JobRef) -> ();
    query(project: &str, sql: &str, options: &QueryOptions) -> QueryResult;
}
