//! A catalog in memory that applies what the engine asks for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use serde_json::{Value, json};
use strongroom::codec::row_json::RowJson;

use crate::bigquery::sql::{
    ApiError, Catalog, Effect, ObjectKind, Outcome, Query, Relation, Rows, SchemaScope, Script, SqlFunction, TablePath,
};

#[derive(Default)]
pub struct Memory {
    tables: Mutex<HashMap<TablePath, Relation>>,
    routines: Mutex<HashMap<TablePath, Value>>,
}

fn path_of(resource: &Value, kind: &str, name: &str) -> TablePath {
    let text = |key: &str| resource[kind][key].as_str().unwrap_or_default().to_owned();
    TablePath { project: text("projectId"), dataset: text("datasetId"), table: text(name) }
}

impl Memory {
    /// Does what an outcome asks for.
    pub fn apply(&self, outcome: &Outcome) -> Result<(), ApiError> {
        let mut tables = self.tables.lock().unwrap();
        match &outcome.effect {
            Effect::CreateTable { resource, rows, .. } => {
                let fields = resource["schema"]["fields"].as_array().cloned().unwrap_or_default();
                let batches = rows.as_ref().map(|r| r.batches.clone()).unwrap_or_default();
                let partitioning = resource.get("timePartitioning").filter(|p| p.get("field").is_none());
                let ingestion_time = partitioning.and_then(|p| p["type"].as_str()).map(str::to_owned);
                tables.insert(
                    path_of(resource, "tableReference", "tableId"),
                    Relation::Table { fields, batches, ingestion_time },
                );
            }
            Effect::CreateView { resource, .. } => {
                let definition = resource.get("view").or_else(|| resource.get("materializedView")).unwrap();
                let view = Relation::View {
                    sql: definition["query"].as_str().unwrap_or_default().to_owned(),
                    use_legacy_sql: false,
                    fields: resource["schema"]["fields"].as_array().cloned().unwrap_or_default(),
                };
                tables.insert(path_of(resource, "tableReference", "tableId"), view);
            }
            Effect::ReplaceRows { table, rows, .. } => {
                if let Some(Relation::Table { batches, .. }) = tables.get_mut(table) {
                    *batches = rows.batches.clone();
                }
            }
            Effect::AlterSchema { table, fields, rows } => {
                if let Some(Relation::Table { fields: f, batches, .. }) = tables.get_mut(table) {
                    *f = fields.clone();
                    if let Some(rows) = rows {
                        *batches = rows.batches.clone();
                    }
                }
            }
            Effect::CopyTable { source, resource, .. } => {
                let copy = tables.get(source).cloned().unwrap();
                tables.insert(path_of(resource, "tableReference", "tableId"), copy);
            }
            Effect::CreateRoutine { resource, .. } => {
                let path = path_of(resource, "routineReference", "routineId");
                self.routines.lock().unwrap().insert(path, resource.clone());
            }
            Effect::Drop { kind: ObjectKind::Table | ObjectKind::View, path, .. } => {
                tables.remove(path);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Catalog for Memory {
    fn resolve(&self, path: &TablePath, _: Option<i64>) -> Result<Relation, ApiError> {
        let found = self.tables.lock().unwrap().get(path).cloned();
        found.ok_or_else(|| {
            let name = format!("{}:{}.{}", path.project, path.dataset, path.table);
            ApiError::not_found(format!("Not found: Table {name} was not found in location EU"))
        })
    }

    fn routine(&self, path: &TablePath) -> Result<Option<SqlFunction>, ApiError> {
        Ok(self.routines.lock().unwrap().get(path).map(|r| SqlFunction {
            arguments: r["arguments"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|a| (a["name"].as_str().unwrap_or_default().to_owned(), a.get("dataType").cloned()))
                .collect(),
            body: r["definitionBody"].as_str().unwrap_or_default().to_owned(),
            return_type: r.get("returnType").cloned(),
        }))
    }

    fn information_schema(&self, _: &SchemaScope, view: &str) -> Result<Rows, ApiError> {
        let mut names: Vec<String> = self.tables.lock().unwrap().keys().map(|p| p.table.clone()).collect();
        names.sort();
        if view == "TABLES" {
            let column: arrow::array::StringArray = names.into_iter().map(Some).collect();
            let fields = vec![json!({ "name": "table_name", "type": "STRING", "mode": "NULLABLE" })];
            let schema = strongroom::model::schema::Schema::from_json(&json!(fields)).unwrap();
            let schema = strongroom::codec::arrow_schema::arrow_schema(&schema);
            let batch = RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap();
            return Ok(Rows { fields, batches: Arc::new(vec![batch]) });
        }
        Err(ApiError::not_found(format!("no view {view}")))
    }

    fn tables_with_prefix(&self, project: &str, dataset: &str, prefix: &str) -> Result<Vec<String>, ApiError> {
        let tables = self.tables.lock().unwrap();
        let mine =
            tables.keys().filter(|p| p.project == project && p.dataset == dataset && p.table.starts_with(prefix));
        Ok(mine.map(|p| p.table.clone()).collect())
    }
}

/// A query of the tests: project `p`, dataset `p.d`, at 2024-05-06 07:08:09.
pub fn query(sql: &str) -> Query {
    Query {
        sql: sql.to_owned(),
        project: "p".into(),
        default_dataset: Some(("p".into(), "d".into())),
        now_us: 1_714_979_289_000_000,
        location: "EU".into(),
        user: "who@example.com".into(),
        ..Query::default()
    }
}

/// Runs a script to its end and applies all effects; the outcomes.
pub fn run(memory: &Arc<Memory>, query: Query) -> Result<Vec<Outcome>, ApiError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let catalog: Arc<dyn Catalog> = memory.clone();
    runtime.block_on(async {
        let mut script = Script::new(query)?;
        let mut outcomes = Vec::new();
        while let Some(outcome) = script.next(&catalog).await? {
            memory.apply(&outcome)?;
            outcomes.push(outcome);
        }
        Ok(outcomes)
    })
}

/// Rows as JSON texts, byte for byte as TO_JSON_STRING.
pub fn json_rows(rows: &Rows) -> Vec<String> {
    let mut out = Vec::new();
    for batch in rows.batches.iter() {
        let writer = RowJson::new(batch).unwrap();
        for row in 0..batch.num_rows() {
            let mut text = Vec::new();
            writer.write(row, &mut text);
            out.push(String::from_utf8(text).unwrap());
        }
    }
    out
}
