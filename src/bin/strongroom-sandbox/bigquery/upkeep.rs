//! A table's contents, rewritten: by a job, when partitions expire, and when streaming has left too many small files.

use arrow::array::RecordBatch;

use super::contents::DataFile;
use super::names::TableRef;
use super::partition::{Key, Partitioning};
use super::registry::{self, Change, TableRecord};
use super::service::{BigQuery, partitioning, stored_schema};
use super::{schema, tables};
use crate::core::ApiError;

/// Files up to this size are merged once there are many.
const SMALL_FILE_BYTES: u64 = 4 << 20;
const MAX_SMALL_FILES: usize = 100;

impl BigQuery {
    /// Replaces a table's settled rows by what `change` makes of them; rows in the streaming buffer stay.
    ///
    /// # Errors
    /// `notFound`, what `change` says, or that the table has changed meanwhile.
    pub fn rewrite(
        &self,
        table: &TableRef,
        change: impl FnOnce(Vec<RecordBatch>) -> Result<Vec<RecordBatch>, ApiError>,
    ) -> Result<(), ApiError> {
        let record = self.table(table)?;
        let ingestion = partitioning(&record.resource)?.is_some_and(|p| p.is_ingestion_time());
        let seen = record.version_us();
        let moment = record.current(self.now_us());
        let kept: Vec<_> =
            moment.files.iter().filter(|(f, _)| f.buffered_until_us > moment.at_us).map(|(f, _)| f.clone()).collect();
        let batches = change(self.rows(&moment.settled(), ingestion)?)?;
        let schema = stored_schema(&schema::parse(&record.schema())?, ingestion);
        let mut files = self.write_rows(&schema, &batches)?;
        files.extend(kept);
        let now_us = self.sandbox.clock.unique_us();
        registry::change_table(&self.sandbox.db, table, self.now_ms(), |before| {
            let mut record = before.ok_or_else(|| ApiError::not_found(format!("Not found: Table {table}")))?;
            if record.version_us() != seen {
                return Err(tables::concurrent(table));
            }
            record.commit(now_us, true, files, None);
            Ok(Change::Put(Box::new(record), ()))
        })
    }

    /// Merges the small settled files of a table that has very many, as streaming makes them.
    ///
    /// # Errors
    /// When a file cannot be read or written. A concurrent change is no error: the merge is left for later.
    pub fn compact(&self, table: &TableRef) -> Result<(), ApiError> {
        let record = self.table(table)?;
        let moment = record.current(self.now_us());
        let small = |f: &DataFile| f.bytes < SMALL_FILE_BYTES && f.buffered_until_us <= moment.at_us;
        if moment.files.iter().filter(|(f, _)| small(f)).count() < MAX_SMALL_FILES {
            return Ok(());
        }
        let (merge, keep): (Vec<_>, Vec<_>) = moment.files.iter().cloned().partition(|(f, _)| small(f));
        let ingestion = partitioning(&record.resource)?.is_some_and(|p| p.is_ingestion_time());
        let schema = stored_schema(&schema::parse(&record.schema())?, ingestion);
        let rows = self.rows(&registry::Moment { files: merge, ..moment.clone() }, ingestion)?;
        let merged = arrow::compute::concat_batches(&schema, &rows).map_err(|e| ApiError::internal(e.to_string()))?;
        let mut files: Vec<_> = keep.into_iter().map(|(f, _)| f).collect();
        files.extend(self.write_rows(&schema, &[merged])?);
        let seen = record.version_us();
        let now_us = self.sandbox.clock.unique_us();
        registry::change_table(&self.sandbox.db, table, self.now_ms(), |now| {
            let Some(mut record) = now.filter(|r| r.version_us() == seen) else {
                return Err(tables::concurrent(table));
            };
            record.commit(now_us, true, files, None);
            Ok(Change::Put(Box::new(record), ()))
        })
        .or(Ok(()))
    }

    /// The table after the rows of partitions that have expired by the clock were removed.
    ///
    /// # Errors
    /// `notFound`, or when rows cannot be read.
    pub fn expire_partitions(&self, table: &TableRef) -> Result<TableRecord, ApiError> {
        let record = self.table(table)?;
        let Some(layout @ Partitioning::Time { unit, expiration_ms: Some(life_ms), .. }) =
            partitioning(&record.resource)?
        else {
            return Ok(record);
        };
        if record.kind() != "TABLE" || record.current(self.now_us()).files.is_empty() {
            return Ok(record);
        }
        let horizon = self.now_us() - life_ms * 1000;
        let gone = |key: Key| match key {
            Key::Bucket(start) => unit.end(start) <= horizon,
            _ => false,
        };
        let ingestion = layout.is_ingestion_time();
        let batches = self.rows(&record.current(self.now_us()).settled(), ingestion)?;
        let mut any = false;
        for batch in &batches {
            any |= layout.batch_keys(batch)?.into_iter().any(gone);
        }
        if !any {
            return Ok(record);
        }
        self.rewrite(table, |batches| {
            batches
                .iter()
                .map(|batch| {
                    let mask = layout.batch_keys(batch)?.into_iter().map(|k| Some(!gone(k))).collect();
                    arrow::compute::filter_record_batch(batch, &mask).map_err(|e| ApiError::internal(e.to_string()))
                })
                .collect()
        })?;
        self.table(table)
    }
}
