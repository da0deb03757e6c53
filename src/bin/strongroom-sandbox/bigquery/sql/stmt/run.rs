//! Running a bound query: its result in the sandbox's mapping, or for a dry run only its schema.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use strongroom::codec::arrow_schema::arrow_schema;
use strongroom::model::schema::{Field, Schema};
use tokio::runtime::Handle;

use crate::bigquery::sql::bind::Context;
use crate::bigquery::sql::bind::query::{Bound, Outer, project};
use crate::bigquery::sql::bind::scope::{Names, column};
use crate::bigquery::sql::error::{Res, invalid};
use crate::bigquery::sql::exec::{collect, optimise};
use crate::bigquery::sql::syntax::ast::Query;
use crate::bigquery::sql::ty::release;
use crate::bigquery::sql::{Effect, Outcome, Rows, TablePath};

/// From so many rows on, a query is worth two partitions, and its rows come in any order.
const PARALLEL_ROWS: usize = 200_000;

impl Context<'_> {
    /// Binds a statement's query and gives its columns names and types for a result.
    ///
    /// # Errors
    /// As BigQuery says it; also duplicate names.
    pub fn top(&self, query: &Query, names: &Names) -> Res<(Bound, Vec<Field>)> {
        let mut bound = self.query(query, names, Outer::default())?;
        if bound.value
            && let Some(unwrapped) = self.unwrap_value(&bound)?
        {
            bound = unwrapped;
        }
        let fields = self.result_fields(&bound)?;
        Ok((bound, fields))
    }

    /// Names (`f0_` for those without) and types of a result.
    ///
    /// # Errors
    /// Duplicate names, arrays of arrays.
    pub fn result_fields(&self, bound: &Bound) -> Res<Vec<Field>> {
        let mut anonymous = 0;
        let mut seen = HashSet::new();
        let mut fields = Vec::with_capacity(bound.cols.len());
        for col in &bound.cols {
            let name = match &col.name {
                Some(name) => name.clone(),
                None => {
                    anonymous += 1;
                    format!("f{}_", anonymous - 1)
                }
            };
            if !seen.insert(name.to_lowercase()) {
                return Err(invalid(format!(
                    "Duplicate column names in the result are not supported. Found duplicate(s): {name}"
                )));
            }
            fields.push(col.ty.to_field(&name)?);
        }
        Ok(fields)
    }

    /// Runs a bound query (not in a dry run) and gives its rows as the fields say.
    ///
    /// # Errors
    /// What the query's functions say.
    pub fn rows(&self, bound: &Bound, fields: &[Field]) -> Res<Rows> {
        let plan = project(bound.plan.clone(), bound.cols.iter().map(|c| (column(&c.id), c.id.clone())).collect())?;
        self.note_reads(&optimise(&plan)?);
        let json: Vec<serde_json::Value> = fields.iter().map(Field::to_json).collect();
        if self.query.dry_run {
            return Ok(Rows { fields: json, batches: Arc::default() });
        }
        let parallel = self.reads.borrow().rows > PARALLEL_ROWS;
        let batches = Handle::current().block_on(collect(plan, parallel))?;
        let batches =
            batches.iter().filter(|b| b.num_rows() > 0).map(|b| released(b, fields)).collect::<Res<Vec<_>>>()?;
        Ok(Rows { fields: json, batches: Arc::new(batches) })
    }

    /// An outcome with what has been read so far.
    pub fn outcome(&self, statement_type: &'static str, rows: Rows, effect: Effect) -> Outcome {
        let reads = self.reads.borrow();
        let referenced: Vec<TablePath> = reads.tables.iter().cloned().collect();
        Outcome { statement_type, rows, referenced, bytes_processed: reads.columns.values().sum(), effect }
    }
}

/// A batch from inside a plan as a batch of a table.
///
/// # Errors
/// NULLs where none may be.
pub fn released(batch: &RecordBatch, fields: &[Field]) -> Res<RecordBatch> {
    let schema = arrow_schema(&Schema::new(fields.to_vec()));
    let columns = batch.columns().iter().zip(fields).map(|(c, f)| release(c, f)).collect::<Res<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|e| invalid(e.to_string()))
}
