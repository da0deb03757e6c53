//! Parquet columns into the table's Arrow mapping.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::int96::Nanos;
use super::parts::mask;
use super::{FORMAT, broken};
use crate::codec::CodecError;
use crate::codec::arrow_schema::{arrow_schema, bigquery_schema};
use crate::codec::cast::Caster;
use crate::model::schema::{Field, FieldType, Schema};

/// How a file is read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// A batch has at most so many rows ...
    pub batch_rows: usize,
    /// ... and about so many bytes, by the row groups' average.
    pub batch_bytes: usize,
    /// Pass over columns that the table does not have (they are not even read), instead of failing.
    pub ignore_unknown: bool,
    /// Only these row groups; `None`: all.
    pub row_groups: Option<Vec<usize>>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { batch_rows: 8192, batch_bytes: 16 << 20, ignore_unknown: false, row_groups: None }
    }
}

/// How BigQuery reads a file for which it was given no schema.
#[derive(Debug, Clone)]
pub struct Inference {
    /// `decimalTargetTypes`, in any order: the first of NUMERIC, BIGNUMERIC, STRING that is listed and holds the decimal.
    pub decimal_targets: Vec<FieldType>,
}

impl Default for Inference {
    fn default() -> Self {
        Self { decimal_targets: vec![FieldType::Numeric, FieldType::BigNumeric] }
    }
}

/// Iterates over a file's rows as batches of the table's Arrow schema. Ends after the first error.
pub struct Reader {
    inner: ParquetRecordBatchReader,
    /// Beside `inner` where the file has INT96 columns.
    nanos: Option<Nanos>,
    table: Schema,
    caster: Caster,
    row: u64,
    done: bool,
}

/// The BigQuery schema of a file, as a load without a schema finds it: instants are TIMESTAMP, lists are REPEATED.
///
/// # Errors
/// When it is no Parquet file or holds what BigQuery cannot.
pub fn infer_schema<T: ChunkReader + 'static>(input: T, how: &Inference) -> Result<Schema, CodecError> {
    let metadata = guarded(|| ArrowReaderMetadata::load(&input, options()).map_err(broken))?;
    let mut schema = bigquery_schema(metadata.schema())?;
    schema.fields.iter_mut().for_each(|f| as_loaded(f, how));
    Ok(schema)
}

/// How many rows the footer states.
///
/// # Errors
/// When it is no Parquet file.
pub fn row_count<T: ChunkReader + 'static>(input: &T) -> Result<u64, CodecError> {
    let metadata = guarded(|| ArrowReaderMetadata::load(input, options()).map_err(broken))?;
    u64::try_from(metadata.metadata().file_metadata().num_rows()).map_err(|_| broken("the count of rows is negative"))
}

impl Reader {
    /// Opens a file whose rows belong to a table of this schema.
    ///
    /// # Errors
    /// When it is no Parquet file. That its columns do not fit the table is told by the first batch.
    pub fn new<T: ChunkReader + 'static>(input: T, table: &Schema) -> Result<Self, CodecError> {
        Self::with_options(input, table, &ReadOptions::default())
    }

    /// Opens a file with options.
    ///
    /// # Errors
    /// As [`Reader::new`].
    pub fn with_options<T: ChunkReader + 'static>(
        input: T,
        table: &Schema,
        wanted: &ReadOptions,
    ) -> Result<Self, CodecError> {
        let input = Shared(Arc::new(input));
        let metadata = guarded(|| ArrowReaderMetadata::load(&input, options()).map_err(broken))?;
        check_counts(&metadata)?;
        let batch_rows = batch_rows(&metadata, wanted);
        let open = |metadata: ArrowReaderMetadata| {
            let mask = wanted.ignore_unknown.then(|| mask(&metadata, table));
            let mut builder =
                ParquetRecordBatchReaderBuilder::new_with_metadata(input.clone(), metadata).with_batch_size(batch_rows);
            if let Some(mask) = mask {
                builder = builder.with_projection(mask);
            }
            match &wanted.row_groups {
                Some(groups) => builder.with_row_groups(groups.clone()),
                None => builder,
            }
        };
        let (inner, nanos) = guarded(|| {
            let (metadata, nanos) = Nanos::beside(&metadata, open)?;
            Ok((open(metadata).build().map_err(broken)?, nanos))
        })?;
        let caster = Caster { lenient_names: false, ignore_unknown: wanted.ignore_unknown, normalise_json: true };
        Ok(Self { inner, nanos, table: table.clone(), caster, row: 0, done: false })
    }

    /// The schema of every batch.
    pub fn arrow_schema(&self) -> SchemaRef {
        arrow_schema(&self.table)
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, CodecError> {
        let Some(batch) = guarded(|| self.inner.next().transpose().map_err(broken))? else { return Ok(None) };
        if let Some(nanos) = &mut self.nanos {
            guarded(|| nanos.check(&batch))?;
        }
        let first = self.row;
        self.row += batch.num_rows() as u64;
        let cast = self.caster.batch(&batch, &self.table).map_err(|error| match error {
            CodecError::Value { row, column, message } => CodecError::Value { row: first + row, column, message },
            CodecError::Schema { column, message } if first > 0 => {
                CodecError::Schema { column, message: format!("{message} (after row {first})") }
            }
            other => other,
        })?;
        Ok(Some(cast))
    }
}

impl Iterator for Reader {
    type Item = Result<RecordBatch, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_batch().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The file's own types decide, not an Arrow schema that some writer has put beside them.
pub(super) fn options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

/// A reader follows the row groups' counts; where a footer contradicts itself rows would vanish silently.
fn check_counts(metadata: &ArrowReaderMetadata) -> Result<(), CodecError> {
    let metadata = metadata.metadata();
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let rows = group.num_rows();
        let flat = group.columns().iter().filter(|c| c.column_descr().max_rep_level() == 0);
        if let Some(column) = flat.clone().find(|c| c.num_values() != rows) {
            let (name, values) = (column.column_path().string(), column.num_values());
            return Err(broken(format!(
                "row group {number} states {rows} rows, but column '{name}' has {values} values"
            )));
        }
    }
    let total: i128 = metadata.row_groups().iter().map(|g| i128::from(g.num_rows())).sum();
    let stated = metadata.file_metadata().num_rows();
    if total != i128::from(stated) {
        return Err(broken(format!("the footer states {stated} rows, but its row groups have {total}")));
    }
    Ok(())
}

fn batch_rows(metadata: &ArrowReaderMetadata, wanted: &ReadOptions) -> usize {
    let groups = metadata.metadata().row_groups();
    let widest = groups.iter().map(|g| g.total_byte_size().max(0) / g.num_rows().max(1)).max().unwrap_or(0);
    let fit = wanted.batch_bytes / usize::try_from(widest).unwrap_or(usize::MAX).max(1);
    wanted.batch_rows.min(fit).max(1)
}

fn as_loaded(field: &mut Field, how: &Inference) {
    match field.kind {
        FieldType::DateTime => field.kind = FieldType::Timestamp,
        FieldType::Numeric | FieldType::BigNumeric if !how.decimal_targets.contains(&field.kind) => {
            let wider =
                [FieldType::BigNumeric, FieldType::String].into_iter().find(|k| how.decimal_targets.contains(k));
            field.kind = match field.kind {
                FieldType::Numeric => wider.unwrap_or(FieldType::Numeric),
                _ => how.decimal_targets.iter().copied().max().unwrap_or(FieldType::Numeric),
            };
        }
        _ => field.fields.iter_mut().for_each(|f| as_loaded(f, how)),
    }
}

/// The parquet crate promises errors for malformed files; where it panics all the same, that is an error here too.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, CodecError>) -> Result<T, CodecError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let message = "the file is malformed in a way that its reader does not handle".to_owned();
        Err(CodecError::Malformed { format: FORMAT, offset: 0, message })
    })
}

/// One input for two readers.
pub(super) struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ChunkReader> Length for Shared<T> {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl<T: ChunkReader> ChunkReader for Shared<T> {
    type T = T::T;

    fn get_read(&self, start: u64) -> Result<T::T, ParquetError> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.0.get_bytes(start, length)
    }
}
