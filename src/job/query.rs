//! Query: SQL over a backup's files, without restoring it.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use serde_json::Value;

use super::JobError;
use super::verify::{definition, format};
use crate::catalog::Entry;
use crate::codec::row_json::ValueJson;
use crate::codec::{CodecError, parquet};
use crate::config::TableFormat;
use crate::manifest::{ObjectRecord, QueryResult, TabRecord, TableRecord};
use crate::model::schema::Schema;
use crate::model::{DatasetId, Failure, TableId};
use crate::query::{self, Relation, Rows, StoredFile, StoredTable};

/// BigQuery itself allows 16 levels of views.
const MAX_DEPTH: usize = 16;
/// A result that is held in memory has no more rows.
const MAX_ROWS: usize = 100_000;

/// Runs a query over a backup. Only the definitions and files of the tables that it names are read.
///
/// # Errors
/// `NotFound` for a table that the backup does not hold, `Invalid` when the embedded engine cannot run the query.
pub async fn run(entry: &Entry, sql: &str) -> Result<Rows, JobError> {
    let default = dataset(entry)?;
    let mut relations = Vec::new();
    resolve(entry, sql, &default, 0, &mut relations).await?;
    Ok(query::run(sql, &default, &relations).await?)
}

/// The dataset in which names are looked up: the backup's first; of a database the schema `public`, or else its first.
pub(super) fn dataset(entry: &Entry) -> Result<DatasetId, Failure> {
    let first = entry.manifest.bigquery().next().map(|source| &source.dataset);
    let schemas = || entry.manifest.tables().map(|table| table.table.dataset_id());
    let public = || schemas().find(|schema| schema.dataset() == "public");
    first.or_else(public).or_else(|| schemas().next()).cloned().ok_or_else(|| Failure::NotFound {
        object: entry.manifest.name.to_string(),
        message: "holds no tables that can be queried; hint: a database's are exported by its setting: export = true"
            .into(),
    })
}

enum Stored<'a> {
    Table(&'a TableRecord),
    View(&'a ObjectRecord),
    Tab(&'a TabRecord),
}

/// Lists what a query needs, views after what they read.
async fn resolve(
    entry: &Entry,
    sql: &str,
    default: &DatasetId,
    depth: usize,
    relations: &mut Vec<(TableId, Relation)>,
) -> Result<(), Failure> {
    let tables = entry.manifest.tables().map(|record| (record.table.clone(), Stored::Table(record)));
    let views = entry.manifest.bigquery().flat_map(|source| &source.views).filter(|view| view.kind != "EXTERNAL");
    let views = views.map(|view| (view.view.clone(), Stored::View(&view.meta)));
    // What BigQuery calls by a name stays that.
    let mut known: BTreeMap<TableId, Stored<'_>> = tabs(entry, default).collect();
    known.extend(tables.chain(views));
    for id in query::tables(sql, default)? {
        if relations.iter().any(|(other, _)| *other == id) {
            continue;
        }
        let relation = match known.get(&id) {
            Some(Stored::Table(record)) => Relation::Table(table(entry, record).await?),
            Some(Stored::Tab(record)) => Relation::Table(tab(entry, record).await?),
            Some(Stored::View(meta)) if depth < MAX_DEPTH => {
                let resource = definition(entry, meta).await?.resource;
                let kinds = ["view", "materializedView"];
                let sql = kinds.iter().find_map(|kind| resource[kind]["query"].as_str()).unwrap_or_default();
                Box::pin(resolve(entry, sql, default, depth + 1, relations)).await?;
                Relation::View(sql.into())
            }
            Some(Stored::View(_)) => {
                let message = format!("views are nested more than {MAX_DEPTH} deep");
                return Err(Failure::Invalid { object: id.to_string(), message });
            }
            None => {
                let names: Vec<String> = known.keys().take(20).map(|id| id.table().to_string()).collect();
                let message = format!("the backup holds no such table; hint: it holds {}", names.join(", "));
                return Err(Failure::NotFound { object: id.to_string(), message });
            }
        };
        relations.push((id, relation));
    }
    Ok(())
}

async fn table(entry: &Entry, record: &TableRecord) -> Result<StoredTable, Failure> {
    let corrupt = |message: String| Failure::Corrupt { object: record.table.to_string(), message };
    let definition = definition(entry, &record.meta).await?;
    let schema = Schema::from_json(&definition.schema()).map_err(|error| corrupt(error.to_string()))?;
    let format = format(record).ok_or_else(|| corrupt(format!("the format '{}' is not known", record.format)))?;
    let files = record
        .objects
        .iter()
        .map(|object| StoredFile { key: object.key.clone(), size_bytes: object.digests.size_bytes })
        .collect();
    Ok(StoredTable { schema, format, store: entry.store.clone(), files })
}

/// The tabs of spreadsheets as tables of the source's name: `source.tab`. A title that no table can have is left out.
fn tabs<'a>(entry: &'a Entry, default: &'a DatasetId) -> impl Iterator<Item = (TableId, Stored<'a>)> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    entry.manifest.sheets().flat_map(move |source| {
        let dataset = DatasetId::new(default.project(), &source.name.chars().map(plain).collect::<String>());
        source.tabs.iter().filter_map(move |tab| {
            let id = dataset.as_ref().ok()?.table(&tab.title).ok()?;
            Some((id, Stored::Tab(tab)))
        })
    })
}

/// A tab's values: columns of texts, named by its first row.
async fn tab(entry: &Entry, record: &TabRecord) -> Result<StoredTable, Failure> {
    let (key, size_bytes) = (&record.parquet.key, record.parquet.digests.size_bytes);
    let object = format!("{}/{key}", entry.store.describe());
    if record.column_count == 0 {
        return Err(Failure::Invalid { object, message: "the tab is empty: it has no columns".into() });
    }
    let corrupt = |error: CodecError| Failure::Corrupt { object: object.clone(), message: error.to_string() };
    let mut parts = parquet::Parts::new(size_bytes);
    let tail = parts.tail();
    parts.add(tail.start, entry.store.get_range(key, tail).await?);
    let footer = parts.footer().map_err(corrupt)?;
    parts.add(footer.start, entry.store.get_range(key, footer).await?);
    let schema = parquet::infer_schema(parts, &parquet::Inference::default()).map_err(corrupt)?;
    let files = vec![StoredFile { key: key.clone(), size_bytes }];
    Ok(StoredTable { schema, format: TableFormat::Parquet, store: entry.store.clone(), files })
}

/// A batch's cells as texts, by row: numbers in decimal, times as in TO_JSON_STRING, records and arrays as JSON.
///
/// # Errors
/// When a column's type has no counterpart in BigQuery.
pub fn cells(batch: &RecordBatch) -> Result<Vec<Vec<Option<String>>>, Failure> {
    let invalid = |message: String| Failure::Invalid { object: "query".into(), message };
    let schema = batch.schema();
    let mut rows = vec![Vec::with_capacity(batch.num_columns()); batch.num_rows()];
    let mut out = Vec::new();
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let nulls = array.logical_nulls();
        let json = ValueJson::new(field, array).map_err(|error| invalid(error.to_string()))?;
        for (row, cells) in rows.iter_mut().enumerate() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) || array.data_type() == &DataType::Null {
                cells.push(None);
                continue;
            }
            out.clear();
            json.write(row, &mut out);
            cells.push(Some(match serde_json::from_slice(&out) {
                Ok(Value::String(text)) => text,
                _ => String::from_utf8_lossy(&out).into_owned(),
            }));
        }
    }
    Ok(rows)
}

/// A query's whole result with cells as BigQuery's REST API gives them, and which columns are FLOAT64.
pub(super) async fn collect(name: &str, mut rows: Rows) -> Result<(QueryResult, Vec<bool>), Failure> {
    let columns = query::columns(rows.schema());
    let kinds: Vec<DataType> = rows.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let mut all = Vec::new();
    while let Some(batch) = rows.next().await? {
        let texts = cells(&batch)?;
        for (row, texts) in texts.into_iter().enumerate() {
            let cell = |(column, text): (usize, Option<String>)| match (&kinds[column], text) {
                (_, None) => Value::Null,
                // TIMESTAMP goes as microseconds.
                (DataType::Timestamp(_, Some(_)), Some(text)) => {
                    let instants = batch.column(column).as_primitive_opt::<TimestampMicrosecondType>();
                    Value::String(instants.map_or(text, |instants| instants.value(row).to_string()))
                }
                (_, Some(text)) => Value::String(text),
            };
            all.push(texts.into_iter().enumerate().map(cell).collect());
        }
        if all.len() > MAX_ROWS {
            let message = format!("more than {MAX_ROWS} rows; hint: aggregate, or add a LIMIT");
            return Err(Failure::Invalid { object: name.into(), message });
        }
    }
    let floats = kinds.iter().map(DataType::is_floating).collect();
    Ok((QueryResult { name: name.into(), columns, rows: all }, floats))
}
