//! Figures of rows as they pass: how many there are, their fingerprint, and the totals of their columns.
//!
//! The same whatever the rows were read from: a stored file, or a database.

use arrow::record_batch::RecordBatch;

use super::proof;
use crate::codec::CodecError;
use crate::codec::fingerprint::{Hashes, TableFingerprint};
use crate::codec::stats::TableStats;
use crate::model::schema::Schema;
use crate::model::{Bucket, Buckets, ColumnTotals, Fingerprint, Totals};

/// What is taken from rows as they pass.
pub struct Figures {
    row_count: u64,
    fingerprint: TableFingerprint,
    columns: TableStats,
}

impl Figures {
    /// The figures of no rows.
    pub fn of(schema: &Schema) -> Self {
        let columns = TableStats::new(&figured(schema));
        Self { row_count: 0, fingerprint: TableFingerprint::new(), columns }
    }

    /// Takes in what was taken of other rows of the same table.
    ///
    /// # Errors
    /// When they are of a table with other columns.
    pub fn merge(&mut self, other: &Self) -> Result<(), CodecError> {
        self.row_count += other.row_count;
        self.fingerprint.merge(&other.fingerprint);
        self.columns.merge(&other.columns)
    }

    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    /// The figures as they are recorded, of a table of that schema.
    pub fn totals(self, schema: &Schema) -> Totals {
        let Hashes { xor, sum, .. } = self.fingerprint.total();
        let by_byte = self.fingerprint.buckets().iter().enumerate();
        let filled = by_byte.map(|(at, rows)| (at as u8, Bucket { row_count: rows.count, sum: rows.sum }));
        let fingerprint = proof::fingerprinted(schema).is_some().then(|| {
            let buckets = Some(Buckets::new(filled));
            Fingerprint { xor, sum, buckets }
        });
        let columns = self.columns.columns.iter().map(|column| {
            let (min, max) = (column.min(), column.max());
            let summed = proof::has_sum(column.kind, [min.as_deref(), max.as_deref()]);
            ColumnTotals {
                name: column.column.clone(),
                kind: column.kind.sql_name().into(),
                null_count: column.nulls,
                sum: column.sum().filter(|_| summed),
                min,
                max,
                distinct_dates: column.distinct_dates(),
            }
        });
        Totals { row_count: self.row_count, fingerprint, columns: columns.collect() }
    }
}

/// What figures are taken from a table's batches.
pub struct Taker<'a> {
    schema: &'a Schema,
    fingerprinted: Option<Vec<usize>>,
    figured_schema: Schema,
    figured: Vec<usize>,
}

impl<'a> Taker<'a> {
    pub fn new(schema: &'a Schema) -> Self {
        let figured = proof::figured(schema);
        let figured =
            figured.filter_map(|figured| schema.fields.iter().position(|field| field.name == figured.name)).collect();
        let (fingerprinted, figured_schema) = (proof::fingerprinted(schema), self::figured(schema));
        Self { schema, fingerprinted, figured_schema, figured }
    }

    pub fn schema(&self) -> &'a Schema {
        self.schema
    }

    /// Takes in a batch of rows.
    ///
    /// # Errors
    /// When its columns are not the table's.
    pub fn take(&self, figures: &mut Figures, batch: &RecordBatch) -> Result<(), CodecError> {
        figures.row_count += batch.num_rows() as u64;
        if let Some(columns) = &self.fingerprinted {
            figures.fingerprint.add(&project(batch, columns)?)?;
        }
        figures.columns.add(&project(batch, &self.figured)?, &self.figured_schema)
    }
}

/// The columns that have figures, as a schema of their own.
fn figured(schema: &Schema) -> Schema {
    Schema::new(proof::figured(schema).cloned().collect())
}

/// The batch with these columns only.
///
/// # Errors
/// When there is no such column.
pub fn project(batch: &RecordBatch, columns: &[usize]) -> Result<RecordBatch, CodecError> {
    batch.project(columns).map_err(|error| CodecError::Schema { column: String::new(), message: error.to_string() })
}
