//! Running plans: DataFusion's session, a runtime of its own, errors in BigQuery's words.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::runtime::{Builder, Runtime};

use super::error::{ApiError, Res, invalid};
use super::udf::message_of;

/// DataFusion walks plans recursively, with large frames in debug builds.
const STACK_BYTES: usize = 64 << 20;
const BATCH_ROWS: usize = 8192;

/// The engine's own runtime: a query must not hold up the threads that answer requests.
pub fn runtime() -> Res<&'static Runtime> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(64)
            .thread_stack_size(STACK_BYTES)
            .thread_name("sql")
            .enable_all()
            .build()
            .map_err(|e| e.to_string())
    });
    made.as_ref().map_err(|e| ApiError::internal(format!("The SQL engine has no runtime: {e}")))
}

fn session(parallel: bool) -> &'static SessionContext {
    static SESSIONS: [OnceLock<SessionContext>; 2] = [OnceLock::new(), OnceLock::new()];
    SESSIONS[usize::from(parallel)].get_or_init(|| {
        let partitions = if parallel { 2 } else { 1 };
        let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(BATCH_ROWS);
        SessionContext::new_with_config(config)
    })
}

/// Runs a plan. With `parallel`, rows without ORDER BY come in any order.
///
/// # Errors
/// What a function or DataFusion says, as `invalidQuery`.
pub async fn collect(plan: LogicalPlan, parallel: bool) -> Res<Vec<RecordBatch>> {
    let frame = session(parallel).execute_logical_plan(plan).await.map_err(|e| error_of(&e.to_string()))?;
    // Partition by partition: what a query does not order comes in the same order each time.
    let partitions = frame.collect_partitioned().await.map_err(|e| error_of(&e.to_string()))?;
    Ok(partitions.into_iter().flatten().collect())
}

/// Optimises a plan that will be run many times.
///
/// # Errors
/// As [`collect`].
pub fn optimise(plan: &LogicalPlan) -> Res<LogicalPlan> {
    session(false).state().optimize(plan).map_err(|e| error_of(&e.to_string()))
}

/// Runs a plan from within a function: on a thread and a runtime of its own, so that it waits for nobody.
///
/// # Errors
/// As [`collect`].
pub fn collect_nested(plan: LogicalPlan) -> Res<Vec<RecordBatch>> {
    on_thread(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| ApiError::internal(format!("The SQL engine has no runtime: {e}")))?;
        runtime.block_on(collect(plan, false))
    })
}

/// Runs something on a thread with a deep stack; a panic there is an error here.
///
/// # Errors
/// What the function says, or that it panicked.
pub fn on_thread<T: Send + 'static>(f: impl FnOnce() -> Res<T> + Send + 'static) -> Res<T> {
    let thread = std::thread::Builder::new().name("sql".into()).stack_size(STACK_BYTES).spawn(f);
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(panicked(panic.as_ref())),
        Err(e) => Err(ApiError::internal(format!("The SQL engine has no thread: {e}"))),
    }
}

/// The error for a panic in the engine: the query cannot be run, the sandbox goes on.
pub fn panicked(panic: &(dyn Any + Send)) -> ApiError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    invalid(format!("The sandbox's SQL engine failed on this query: {}", text.unwrap_or("panic")))
}

/// DataFusion's error as BigQuery's.
pub fn error_of(text: &str) -> ApiError {
    match message_of(text) {
        Some(message) => invalid(message),
        None => {
            let line = text.lines().next().unwrap_or_default();
            invalid(format!("The sandbox's SQL engine cannot run this query: {line}"))
        }
    }
}

/// A table whose rows are set before each run.
pub struct Hole {
    schema: SchemaRef,
    rows: Mutex<Vec<RecordBatch>>,
}

impl Hole {
    pub fn new(schema: SchemaRef) -> Arc<Self> {
        Arc::new(Self { schema, rows: Mutex::new(vec![]) })
    }

    pub fn fill(&self, batches: Vec<RecordBatch>) {
        *self.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = batches;
    }
}

impl fmt::Debug for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hole")
    }
}

#[async_trait]
impl TableProvider for Hole {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let rows = self.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let exec = MemorySourceConfig::try_new_exec(&[rows], self.schema.clone(), projection.cloned())?;
        Ok(exec)
    }
}
