//! SQL over stored files: the embedded engine (DataFusion) with BigQuery's names, types and the commonest of its functions.
//!
//! A table reads the files of one backup through its store: of Parquet only the footers and the columns that a query
//! needs, of those row groups that can hold what it asks for; of Avro whole files. Does not know manifests: whoever calls says which tables there are and where they lie.

mod dialect;
mod functions;
mod prune;
mod scan;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::view::ViewTable;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, TableProvider,
};
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;

use crate::model::{DatasetId, Failure, TableId};
pub use scan::{StoredFile, StoredTable};

/// What sorts, joins and aggregates may hold before they spill to disk.
const MEMORY_BYTES: usize = 512 << 20;
const BATCH_ROWS: usize = 8192;
const PARTITIONS: usize = 4;

/// Something that a query can name.
#[derive(Clone)]
pub enum Relation {
    Table(StoredTable),
    /// By its query.
    View(String),
}

/// The rows of a query, as they come.
pub struct Rows {
    schema: SchemaRef,
    stream: SendableRecordBatchStream,
}

/// The tables that a query names, as far as names can tell: missing parts are `default`'s.
///
/// # Errors
/// `Invalid` when it is no query.
pub fn tables(sql: &str, default: &DatasetId) -> Result<Vec<TableId>, Failure> {
    let state = SessionStateBuilder::new().with_config(config(default)).build();
    let statement = dialect::parse(sql)?;
    let references = state.resolve_table_references(&statement).map_err(|error| failure(&error))?;
    references.iter().map(|reference| table_id(reference, default)).collect()
}

/// Runs a query over `relations`; a view may only name relations before it.
///
/// # Errors
/// `Invalid` when the engine does not understand the query, `Corrupt` when a file cannot be read.
pub async fn run(sql: &str, default: &DatasetId, relations: &[(TableId, Relation)]) -> Result<Rows, Failure> {
    let session = session(default)?;
    for (id, relation) in relations {
        let provider: Arc<dyn TableProvider> = match relation {
            Relation::Table(table) => Arc::new(table.clone()),
            Relation::View(sql) => {
                let named =
                    |failure: Failure| Failure::Invalid { object: format!("view {id}"), message: message(failure) };
                let plan = session.state().statement_to_plan(dialect::prepare(sql).map_err(named)?).await;
                Arc::new(ViewTable::new(plan.map_err(|error| named(failure(&error)))?, Some(sql.clone())))
            }
        };
        register(&session, id, provider).map_err(|error| failure(&error))?;
    }
    let plan = session.state().statement_to_plan(dialect::prepare(sql)?).await.map_err(|error| failure(&error))?;
    let frame = session.execute_logical_plan(plan).await.map_err(|error| failure(&error))?;
    let stream = frame.execute_stream().await.map_err(|error| failure(&error))?;
    Ok(Rows { schema: stream.schema(), stream })
}

impl Rows {
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows; `None` after the last.
    ///
    /// # Errors
    /// `Invalid` when a value has no answer, `Corrupt` when a file cannot be read.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        self.stream.next().await.transpose().map_err(|error| failure(&error))
    }
}

fn config(default: &DatasetId) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_batch_size(BATCH_ROWS)
        .with_target_partitions(PARTITIONS)
        .with_default_catalog_and_schema(default.project(), default.dataset())
        .with_create_default_catalog_and_schema(false);
    let parser = &mut config.options_mut().sql_parser;
    parser.dialect = dialect::DIALECT;
    // Table names are case-sensitive in BigQuery.
    parser.enable_ident_normalization = false;
    parser.map_string_types_to_utf8view = false;
    parser.default_null_ordering = "nulls_min".into();
    config
}

fn session(default: &DatasetId) -> Result<SessionContext, Failure> {
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(MEMORY_BYTES, 1.0).build_arc();
    let state = SessionStateBuilder::new()
        .with_config(config(default))
        .with_runtime_env(runtime.map_err(|error| failure(&error))?)
        .with_expr_planners(vec![Arc::new(dialect::Division)])
        .with_default_features()
        .with_type_planner(Arc::new(dialect::Types))
        .build();
    let session = SessionContext::new_with_state(state);
    functions::register(&session).map_err(|error| failure(&error))?;
    Ok(session)
}

fn register(session: &SessionContext, id: &TableId, provider: Arc<dyn TableProvider>) -> Result<(), DataFusionError> {
    let catalog = match session.catalog(id.project()) {
        Some(catalog) => catalog,
        None => {
            let made: Arc<dyn CatalogProvider> = Arc::new(MemoryCatalogProvider::new());
            session.register_catalog(id.project(), made.clone());
            made
        }
    };
    let dataset = id.dataset_id();
    if catalog.schema(dataset.dataset()).is_none() {
        let made: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
        catalog.register_schema(dataset.dataset(), made)?;
    }
    session.register_table(TableReference::full(id.project(), dataset.dataset(), id.table()), provider)?;
    Ok(())
}

fn table_id(reference: &TableReference, default: &DatasetId) -> Result<TableId, Failure> {
    let project = reference.catalog().unwrap_or(default.project());
    let dataset = reference.schema().unwrap_or(default.dataset());
    let id = DatasetId::new(project, dataset).and_then(|dataset| dataset.table(reference.table()));
    id.map_err(|error| Failure::Invalid { object: format!("table {reference}"), message: error.to_string() })
}

fn message(failure: Failure) -> String {
    match failure {
        Failure::Invalid { message, .. } => message,
        other => other.to_string(),
    }
}

/// What the engine says, in one line and for people.
fn failure(error: &DataFusionError) -> Failure {
    let root = error.find_root();
    if let DataFusionError::External(inner) = root
        && let Some(failure) = inner.downcast_ref::<Failure>()
    {
        return failure.clone();
    }
    let text = root.strip_backtrace();
    let text = ["Error during planning: ", "SQL error: ", "This feature is not implemented: ", "Execution error: "]
        .iter()
        .fold(text.as_str(), |text, prefix| text.strip_prefix(prefix).unwrap_or(text))
        .to_string();
    let message = format!(
        "the embedded engine cannot run it: {text}; hint: it speaks DataFusion's SQL with some of BigQuery's functions \
         (`strongroom query --help`)"
    );
    Failure::Invalid { object: "query".into(), message }
}

/// The names of a result's columns.
pub fn columns(schema: &SchemaRef) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}
