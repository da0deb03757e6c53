//! A backup's table for the engine: which bytes are read, and how they become rows.

use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::BytesMut;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_optimizer::pruning::PruningPredicate;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use tokio::sync::mpsc::Sender;

use super::{PARTITIONS, prune};
use crate::codec::arrow_schema::arrow_schema;
use crate::codec::{CodecError, avro, parquet};
use crate::config::TableFormat;
use crate::model::Failure;
use crate::model::schema::Schema;
use crate::store::{Blocking, Store};

/// One request reads no more than this.
const REQUEST_BYTES: u64 = 32 << 20;

/// A table in files.
#[derive(Clone)]
pub struct StoredTable {
    pub schema: Schema,
    pub format: TableFormat,
    pub store: Arc<dyn Store>,
    pub files: Vec<StoredFile>,
}

#[derive(Debug, Clone)]
pub struct StoredFile {
    pub key: String,
    pub size_bytes: u64,
}

impl std::fmt::Debug for StoredTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredTable({} files in {})", self.files.len(), self.store.describe())
    }
}

#[async_trait]
impl TableProvider for StoredTable {
    fn schema(&self) -> SchemaRef {
        arrow_schema(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Row groups are passed over by what their footer says; the rows of the others are looked at by the engine.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Schema::new(columns.iter().map(|at| self.schema.fields[*at].clone()).collect()),
            None => self.schema.clone(),
        };
        let projected = arrow_schema(&schema);
        let predicate = match self.format {
            TableFormat::Parquet => prune::predicate(session, filters, &self.schema),
            TableFormat::Avro => None,
        };
        let lanes = self.files.len().clamp(1, PARTITIONS);
        let partitions = (0..lanes).map(|lane| {
            let files = self.files.iter().skip(lane).step_by(lanes).cloned().collect();
            let table = Self { files, ..self.clone() };
            let (schema, projected, predicate) = (schema.clone(), projected.clone(), predicate.clone());
            let lane = Lane { table, schema, projected, predicate };
            Arc::new(lane) as Arc<dyn PartitionStream>
        });
        let partitions = partitions.collect();
        Ok(Arc::new(StreamingTableExec::try_new(projected, partitions, None, None, false, limit)?))
    }
}

/// Some of a table's files, one after the other.
#[derive(Debug)]
struct Lane {
    table: StoredTable,
    /// The columns that are wanted.
    schema: Schema,
    projected: SchemaRef,
    /// What the query asks of a row.
    predicate: Option<Arc<PruningPredicate>>,
}

impl PartitionStream for Lane {
    fn schema(&self) -> &SchemaRef {
        &self.projected
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.projected.clone(), 2);
        let rows = builder.tx();
        let (table, schema, projected) = (self.table.clone(), self.schema.clone(), self.projected.clone());
        let predicate = self.predicate.clone();
        builder.spawn(async move {
            for file in &table.files {
                let (table, schema, projected, rows) = (&table, &schema, &projected, &rows);
                let reader = FileReader { table, schema, projected, predicate: predicate.as_deref(), file, rows };
                if !reader.read().await.map_err(|failure| DataFusionError::External(Box::new(failure)))? {
                    break; // nobody wants more
                }
            }
            Ok(())
        });
        builder.build()
    }
}

type RowSender = Sender<DfResult<RecordBatch>>;

struct FileReader<'a> {
    table: &'a StoredTable,
    schema: &'a Schema,
    projected: &'a SchemaRef,
    predicate: Option<&'a PruningPredicate>,
    file: &'a StoredFile,
    rows: &'a RowSender,
}

impl FileReader<'_> {
    /// Sends the rows of a file; false when nobody wants them any more.
    async fn read(&self) -> Result<bool, Failure> {
        match self.table.format {
            TableFormat::Parquet => self.parquet().await,
            TableFormat::Avro => self.avro().await,
        }
    }

    /// Reads the footer, then row group by row group the columns that are wanted, and no byte more.
    async fn parquet(&self) -> Result<bool, Failure> {
        let mut parts = parquet::Parts::new(self.file.size_bytes);
        let tail = parts.tail();
        self.fetch(&mut parts, tail).await?;
        let footer = parts.footer().map_err(|error| self.corrupt(&error))?;
        self.fetch(&mut parts, footer).await?;
        let footer = parquet::Footer::read(&parts).map_err(|error| self.corrupt(&error))?;
        let groups = footer.row_groups().map_err(|error| self.corrupt(&error))?;
        let wanted = match self.predicate {
            Some(predicate) => prune::wanted(predicate, &footer, &groups, &self.table.schema),
            None => vec![true; groups.len()],
        };
        for (group, row_count) in groups.into_iter().enumerate().filter(|(group, _)| wanted[*group]) {
            if self.schema.fields.is_empty() {
                if !self.send_counted(row_count).await {
                    return Ok(false);
                }
                continue;
            }
            let mut parts = parts.clone();
            for range in footer.ranges(group, self.schema) {
                self.fetch(&mut parts, range).await?;
            }
            let options = parquet::ReadOptions {
                ignore_unknown: true,
                row_groups: Some(vec![group]),
                ..parquet::ReadOptions::default()
            };
            let schema = self.schema.clone();
            let open = move || parquet::Reader::with_options(parts, &schema, &options);
            if !self.decode(open).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn avro(&self) -> Result<bool, Failure> {
        let stream = self.table.store.read(&self.file.key).await?;
        let input = Blocking::new(stream);
        // Rows are counted by decoding them; one column is enough.
        let schema = match self.schema.fields.is_empty() {
            true => Schema::new(self.table.schema.fields.iter().take(1).cloned().collect()),
            false => self.schema.clone(),
        };
        let options = avro::ReadOptions { ignore_unknown: true, ..avro::ReadOptions::default() };
        self.decode(move || avro::Reader::with_options(input, &schema, options)).await
    }

    /// Decodes on a thread that may block, and sends what comes.
    async fn decode<R: Iterator<Item = Result<RecordBatch, CodecError>>>(
        &self,
        open: impl FnOnce() -> Result<R, CodecError> + Send + 'static,
    ) -> Result<bool, Failure> {
        let (rows, projected) = (self.rows.clone(), self.projected.clone());
        let work = move || {
            for batch in open()? {
                let batch = shaped(batch?, &projected)?;
                if rows.blocking_send(Ok(batch)).is_err() {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| self.broken(error.to_string()))?.map_err(|error| self.corrupt(&error))
    }

    async fn send_counted(&self, row_count: u64) -> bool {
        let mut left = usize::try_from(row_count).unwrap_or(usize::MAX);
        while left > 0 {
            let options = RecordBatchOptions::new().with_row_count(Some(left.min(super::BATCH_ROWS)));
            let batch = RecordBatch::try_new_with_options(self.projected.clone(), vec![], &options);
            if self.rows.send(batch.map_err(DataFusionError::from)).await.is_err() {
                return false;
            }
            left -= left.min(super::BATCH_ROWS);
        }
        true
    }

    async fn fetch(&self, parts: &mut parquet::Parts, range: std::ops::Range<u64>) -> Result<(), Failure> {
        let mut bytes = BytesMut::new();
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + REQUEST_BYTES);
            let read = self.table.store.get_range(&self.file.key, at..end).await?;
            if read.len() as u64 != end - at {
                return Err(self.broken(format!("{} bytes were read where {} should lie", read.len(), end - at)));
            }
            if at == range.start && end == range.end {
                parts.add(range.start, read);
                return Ok(());
            }
            bytes.extend_from_slice(&read);
            at = end;
        }
        parts.add(range.start, bytes.freeze());
        Ok(())
    }

    fn corrupt(&self, error: &CodecError) -> Failure {
        self.broken(error.to_string())
    }

    fn broken(&self, message: String) -> Failure {
        Failure::Corrupt { object: format!("{}/{}", self.table.store.describe(), self.file.key), message }
    }
}

/// A batch without the column that was only read to count rows.
fn shaped(batch: RecordBatch, projected: &SchemaRef) -> Result<RecordBatch, CodecError> {
    if batch.num_columns() == projected.fields().len() {
        return Ok(batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(projected.clone(), vec![], &options)
        .map_err(|error| CodecError::Schema { column: String::new(), message: error.to_string() })
}
