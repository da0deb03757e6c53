//! A state of a table, as it can be asked for its rows: files of a backup, or what BigQuery holds.

use std::collections::HashMap;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use serde_json::Value;

use super::columns::Common;
use crate::catalog::Entry;
use crate::codec::CodecError;
use crate::codec::farm::farm_fingerprint;
use crate::codec::fingerprint::TableFingerprint;
use crate::codec::row_json::RowJson;
use crate::config::TableFormat;
use crate::google::bigquery::{QueryOptions, QueryResult};
use crate::job::{Context, inspect};
use crate::manifest::TableRecord;
use crate::model::schema::Schema;
use crate::model::{Bucket, Buckets, Failure, TableId, Totals};
use crate::plan::diff::Row;
use crate::plan::{figures, proof};

/// Rows of a table, in the columns that are compared.
#[async_trait]
pub(super) trait Side: Send + Sync {
    /// How many rows there are, and their hashes by bucket; no buckets when no column has a canonical form.
    async fn buckets(&self) -> Result<(u64, Option<Buckets>), Failure>;

    /// How often each hash of some buckets is there.
    async fn hashes(&self, buckets: &[u8]) -> Result<HashMap<i64, u64>, Failure>;

    /// The rows of some hashes, with how often they are meant.
    async fn rows(&self, wanted: HashMap<i64, u64>) -> Result<Vec<(Row, u64)>, Failure>;
}

pub(super) fn buckets_of(totals: &Totals) -> Option<Buckets> {
    totals.fingerprint.as_ref().and_then(|fingerprint| fingerprint.buckets.clone())
}

/// A table's files in a backup.
pub(super) struct Stored<'a> {
    pub entry: &'a Entry,
    pub record: &'a TableRecord,
    pub schema: &'a Schema,
    pub format: TableFormat,
    pub common: &'a Common,
    /// Whether the columns that are compared are all of this side's, in its order.
    pub whole: bool,
}

#[async_trait]
impl Side for Stored<'_> {
    async fn buckets(&self) -> Result<(u64, Option<Buckets>), Failure> {
        let rows = self.record.row_count;
        if self.whole
            && let Some(buckets) = self.record.proof.as_ref().and_then(buckets_of)
        {
            return Ok((rows, Some(buckets)));
        }
        if proof::fingerprinted(&self.common.schema).is_none() {
            return Ok((rows, None));
        }
        let take = |rows: &mut TableFingerprint, hash: i64, _: &[u8]| rows.add_hash(hash);
        let found = self.scan(TableFingerprint::new(), take).await?;
        let by_byte = found.buckets().iter().enumerate();
        let buckets = by_byte.map(|(at, rows)| (at as u8, Bucket { row_count: rows.count, sum: rows.sum }));
        Ok((rows, Some(Buckets::new(buckets))))
    }

    async fn hashes(&self, buckets: &[u8]) -> Result<HashMap<i64, u64>, Failure> {
        let mut wanted = [false; Buckets::COUNT];
        buckets.iter().for_each(|at| wanted[usize::from(*at)] = true);
        let hashes = HashMap::new();
        self.scan(hashes, move |hashes: &mut HashMap<i64, u64>, hash, _| {
            if wanted[usize::from(hash as u8)] {
                *hashes.entry(hash).or_default() += 1;
            }
        })
        .await
    }

    async fn rows(&self, wanted: HashMap<i64, u64>) -> Result<Vec<(Row, u64)>, Failure> {
        if wanted.is_empty() {
            return Ok(vec![]);
        }
        let held = wanted.clone();
        let rows = self
            .scan(HashMap::new(), move |rows: &mut HashMap<i64, Vec<u8>>, hash, json: &[u8]| {
                if held.contains_key(&hash) {
                    rows.entry(hash).or_insert_with(|| json.to_vec());
                }
            })
            .await?;
        parsed(&self.record.table, rows, &wanted)
    }
}

impl Stored<'_> {
    /// Shows every row of the files, as hash and JSON.
    async fn scan<T: Send + 'static>(
        &self,
        mut state: T,
        take: impl Fn(&mut T, i64, &[u8]) + Clone + Send + 'static,
    ) -> Result<T, Failure> {
        let compared = proof::fingerprinted(&self.common.schema).unwrap_or_default();
        // In the order that is compared, whatever this side's is.
        let names = compared.iter().map(|at| &self.common.schema.fields[*at].name);
        let columns: Vec<usize> =
            names.filter_map(|name| self.schema.fields.iter().position(|field| field.name == *name)).collect();
        for object in &self.record.objects {
            let (take, columns) = (take.clone(), columns.clone());
            let of_batch = move |state: &mut T, batch: RecordBatch| -> Result<(), CodecError> {
                let rows = RowJson::new(&figures::project(&batch, &columns)?)?;
                let mut text = Vec::new();
                for row in 0..batch.num_rows() {
                    text.clear();
                    rows.write(row, &mut text);
                    take(state, farm_fingerprint(&text), &text);
                }
                Ok(())
            };
            let store = self.entry.store.as_ref();
            state = inspect::scan(store, &object.key, (self.schema, self.format), state, of_batch).await?;
        }
        Ok(state)
    }
}

/// What BigQuery holds.
pub(super) struct There<'a> {
    pub context: &'a Context,
    pub table: &'a TableId,
    pub location: &'a str,
    pub common: &'a Common,
    /// What the table's partitions ask of a query.
    pub filter: String,
}

#[async_trait]
impl Side for There<'_> {
    async fn buckets(&self) -> Result<(u64, Option<Buckets>), Failure> {
        let schema = &self.common.schema;
        let sql = proof::sql_of(self.table, (schema, self.row_sql().as_deref()), &self.filter);
        let totals = inspect::totals(self.table, schema, &self.query(&sql, 1).await?)?;
        Ok((totals.row_count, buckets_of(&totals)))
    }

    async fn hashes(&self, buckets: &[u8]) -> Result<HashMap<i64, u64>, Failure> {
        let sql = proof::hashes_sql(self.table, &self.row(), &self.filter, buckets);
        let result = self.query(&sql, usize::MAX).await?;
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<i64>().ok());
        let pairs = result.rows.iter().map(|row| Some((number(row.first()?)?, number(row.get(1)?)? as u64)));
        pairs.collect::<Option<_>>().ok_or_else(|| odd(self.table))
    }

    async fn rows(&self, wanted: HashMap<i64, u64>) -> Result<Vec<(Row, u64)>, Failure> {
        let mut rows = HashMap::new();
        // A query's text is bounded by BigQuery.
        let mut hashes: Vec<i64> = wanted.keys().copied().collect();
        hashes.sort_unstable();
        for some in hashes.chunks(1000) {
            let sql = proof::rows_sql(self.table, &self.row(), &self.filter, some);
            for row in &self.query(&sql, usize::MAX).await?.rows {
                let text = |at: usize| row.get(at).and_then(Value::as_str);
                let hash = text(0).and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| odd(self.table))?;
                rows.insert(hash, text(1).ok_or_else(|| odd(self.table))?.as_bytes().to_vec());
            }
        }
        parsed(self.table, rows, &wanted)
    }
}

impl There<'_> {
    async fn query(&self, sql: &str, max_rows: usize) -> Result<QueryResult, Failure> {
        let options = QueryOptions { location: Some(self.location.into()), max_rows, ..QueryOptions::default() };
        self.context.google.bigquery.query(self.table.project(), sql, &options).await
    }

    /// A row of the table as it is compared.
    fn row_sql(&self) -> Option<String> {
        let schema = &self.common.schema;
        if self.common.part { proof::columns_sql(schema) } else { proof::row_sql(schema) }
    }

    fn row(&self) -> String {
        self.row_sql().unwrap_or_else(|| "''".into())
    }
}

fn parsed(
    table: &TableId,
    rows: HashMap<i64, Vec<u8>>,
    wanted: &HashMap<i64, u64>,
) -> Result<Vec<(Row, u64)>, Failure> {
    let mut parsed = Vec::new();
    for (hash, json) in rows {
        let row: Row = serde_json::from_slice(&json).map_err(|_| odd(table))?;
        parsed.push((hash, row, wanted.get(&hash).copied().unwrap_or(1)));
    }
    parsed.sort_by_key(|(hash, ..)| *hash);
    Ok(parsed.into_iter().map(|(_, row, times)| (row, times)).collect())
}

fn odd(table: &TableId) -> Failure {
    Failure::Corrupt { object: table.to_string(), message: "the query of its rows gave something else".into() }
}
