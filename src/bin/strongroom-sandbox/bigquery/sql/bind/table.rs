//! Named tables: WITH, temporary tables, the catalog's tables and views, wildcards, INFORMATION_SCHEMA; and what was read of them.

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field as ArrowField, Schema as ArrowSchema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use strongroom::model::schema::Schema;

use super::Context;
use super::coerce::{cast, constant, literal};
use super::query::{Bound, OutCol, Outer, plan_error, project};
use super::scope::{Names, Tx, same_name};
use crate::bigquery::sql::error::{Res, invalid};
use crate::bigquery::sql::syntax::ast::{Expr as Ast, Path};
use crate::bigquery::sql::syntax::parse_query;
use crate::bigquery::sql::ty::{Ty, adopt};
use crate::bigquery::sql::value::Value;
use crate::bigquery::sql::{Relation, Rows, SchemaScope, TablePath};

/// Views within views within views.
const MAX_DEPTH: usize = 16;
/// The column that holds the partition of a row of a table partitioned by ingestion time.
pub const PARTITION_TIME: &str = "_PARTITIONTIME";

/// A table's rows, loaded for one statement.
#[derive(Debug)]
pub struct Loaded {
    pub names: Vec<String>,
    pub types: Vec<Ty>,
    pub provider: Arc<MemTable>,
    pub batches: Vec<RecordBatch>,
    /// Set for tables of the catalog.
    pub path: Option<TablePath>,
}

impl Context<'_> {
    /// A table in FROM, and its hidden columns.
    ///
    /// # Errors
    /// `notFound`, or what is wrong with a view.
    pub fn named_table(
        &self,
        path: &Path,
        as_of: Option<&Ast>,
        names: &Names,
        outer: Outer,
    ) -> Res<(Bound, Vec<(String, Tx)>)> {
        if let [name] = path.parts.as_slice() {
            if let Some(cte) = names.cte(name) {
                return Ok((self.cte(&cte, names, outer)?, vec![]));
            }
            if let Some(rows) = self.session.tables.get(&name.to_lowercase()) {
                let loaded = self.load(&format!("temp {}", name.to_lowercase()), rows, None, false)?;
                return self.scan(&loaded);
            }
        }
        if let Some((scope, view)) = system_view(path, names) {
            let key = format!("{scope:?} {view}");
            let rows = self.catalog.information_schema(&scope, &view)?;
            let loaded = self.load(&key, &rows, None, false)?;
            return self.scan(&loaded);
        }
        let table = self.table_path(path, names)?;
        let at_ms = self.as_of_ms(names, as_of)?;
        if table.table.ends_with('*') {
            return self.wildcard(&table, at_ms);
        }
        match self.catalog.resolve(&table, at_ms)? {
            Relation::Table { fields, batches, ingestion_time } => {
                let key = format!("{table:?} {at_ms:?}");
                let rows = Rows { fields, batches };
                let loaded = self.load(&key, &rows, Some(table), ingestion_time.is_some())?;
                self.scan(&loaded)
            }
            Relation::View { sql, use_legacy_sql, fields } => {
                Ok((self.view(&table, &sql, use_legacy_sql, &fields, names)?, vec![]))
            }
        }
    }

    fn view(
        &self,
        path: &TablePath,
        sql: &str,
        legacy: bool,
        fields: &[serde_json::Value],
        names: &Names,
    ) -> Res<Bound> {
        if names.depth >= MAX_DEPTH {
            return Err(invalid(format!("Exceeded the maximum depth of {MAX_DEPTH} nested views")));
        }
        let sql = if legacy { crate::bigquery::sql::stmt::legacy::translate(sql) } else { sql.to_owned() };
        let inside = Names {
            sql: Rc::from(sql.as_str()),
            project: path.project.clone(),
            dataset: Some((path.project.clone(), path.dataset.clone())),
            ctes: None,
            depth: names.depth + 1,
        };
        let query = parse_query(&sql)?;
        let mut bound = self.query(&query, &inside, Outer { parent: None, captures: None, base: None })?;
        if bound.value
            && let Some(cols) = self.unwrap_value(&bound)?
        {
            bound = cols;
        }
        if fields.len() == bound.cols.len() {
            for (col, field) in bound.cols.iter_mut().zip(fields) {
                if let Some(name) = field.get("name").and_then(serde_json::Value::as_str) {
                    col.name = Some(name.to_owned());
                }
            }
        }
        Ok(bound)
    }

    /// A query of structs as one of their fields.
    ///
    /// # Errors
    /// DataFusion's.
    pub fn unwrap_value(&self, bound: &Bound) -> Res<Option<Bound>> {
        let Ty::Struct(fields) = &bound.cols[0].ty else { return Ok(None) };
        let row = bound.cols[0].tx();
        let row = Tx { lit: None, ..row };
        let mut items = Vec::new();
        let mut cols = Vec::new();
        for (n, (name, ty)) in fields.iter().enumerate() {
            let id = self.id();
            items.push((super::expr::struct_field(row.clone(), n).e, id.clone()));
            let name = if name.is_empty() { None } else { Some(name.clone()) };
            cols.push(OutCol { name, id, ty: ty.clone(), lit: None });
        }
        Ok(Some(Bound { plan: project(bound.plan.clone(), items)?, cols, value: false, rid: None }))
    }

    fn wildcard(&self, path: &TablePath, at_ms: Option<i64>) -> Res<(Bound, Vec<(String, Tx)>)> {
        let prefix = path.table.trim_end_matches('*');
        let mut tables = self.catalog.tables_with_prefix(&path.project, &path.dataset, prefix)?;
        tables.sort();
        let mut parts = Vec::new();
        for table in tables {
            let part = TablePath { table: table.clone(), ..path.clone() };
            if let Relation::Table { fields, batches, ingestion_time } = self.catalog.resolve(&part, at_ms)? {
                let key = format!("{part:?} {at_ms:?}");
                let loaded = self.load(&key, &Rows { fields, batches }, Some(part), ingestion_time.is_some())?;
                let (bound, _) = self.scan(&loaded)?;
                parts.push((table[prefix.len()..].to_owned(), bound));
            }
        }
        // The last table's schema is that of all.
        let Some((_, model)) = parts.last().cloned() else {
            return Err(invalid(format!("{}:{}.{} does not match any table.", path.project, path.dataset, path.table)));
        };
        let mut bounds = Vec::new();
        for (suffix, bound) in parts {
            let mut items = Vec::new();
            let mut cols = Vec::new();
            for want in &model.cols {
                let name = want.name.clone().unwrap_or_default();
                let have = bound.cols.iter().find(|c| c.name.as_deref().is_some_and(|n| same_name(n, &name)));
                let e = match have {
                    Some(col) => cast(Tx { lit: None, soft: false, ..col.tx() }, &want.ty, false)?.e,
                    None => constant(&want.ty, &Value::Null)?,
                };
                let id = self.id();
                items.push((e, id.clone()));
                cols.push(OutCol { name: Some(name), id, ty: want.ty.clone(), lit: None });
            }
            let id = self.id();
            items.push((literal(Ty::String, Value::Str(suffix))?.e, id.clone()));
            cols.push(OutCol { name: Some("_TABLE_SUFFIX".into()), id, ty: Ty::String, lit: None });
            bounds.push(Bound { plan: project(bound.plan, items)?, cols, value: false, rid: None });
        }
        let names = self.names();
        let mut all = self.combine("UNION", true, bounds, &names, 0)?;
        let hidden = all.cols.pop().map(|c| ("_TABLE_SUFFIX".to_owned(), Tx::column(&c.id, c.ty)));
        Ok((all, hidden.into_iter().collect()))
    }

    /// Loads rows once in a statement.
    ///
    /// # Errors
    /// When the rows are not what their fields say.
    pub fn load(&self, key: &str, rows: &Rows, path: Option<TablePath>, ingestion_time: bool) -> Res<Rc<LoadedTable>> {
        if let Some(found) = self.loaded.borrow().iter().find(|l| l.key == key) {
            return Ok(found.clone());
        }
        let value = serde_json::Value::Array(rows.fields.clone());
        let schema = Schema::from_json(&value).map_err(|e| invalid(e.to_string()))?;
        let mut names: Vec<String> = schema.fields.iter().map(|f| f.name.clone()).collect();
        let mut types: Vec<Ty> = schema.fields.iter().map(Ty::of_field).collect();
        if ingestion_time {
            names.push(PARTITION_TIME.into());
            types.push(Ty::Timestamp);
        }
        let fields: Vec<ArrowField> =
            types.iter().enumerate().map(|(n, ty)| ArrowField::new(format!("f{n}"), ty.arrow(), true)).collect();
        let arrow = Arc::new(ArrowSchema::new(fields));
        let mut batches = Vec::with_capacity(rows.batches.len());
        for batch in rows.batches.iter() {
            if batch.num_columns() != types.len() {
                return Err(invalid(format!(
                    "Internal: {key} has {} columns of data for {} columns of its schema",
                    batch.num_columns(),
                    types.len()
                )));
            }
            let columns: Vec<ArrayRef> =
                batch.columns().iter().zip(&types).map(|(c, t)| adopt(c, t)).collect::<Res<_>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            batches.push(RecordBatch::try_new_with_options(arrow.clone(), columns, &options).map_err(plan_error)?);
        }
        let provider = MemTable::try_new(arrow, vec![batches.clone()]).map_err(plan_error)?;
        let loaded = Rc::new(LoadedTable {
            key: key.to_owned(),
            scan: format!("t{}", self.loaded.borrow().len()),
            table: Loaded { names, types, provider: Arc::new(provider), batches, path },
        });
        let count: usize = loaded.table.batches.iter().map(RecordBatch::num_rows).sum();
        let mut reads = self.reads.borrow_mut();
        reads.rows += count;
        if let Some(path) = &loaded.table.path {
            reads.tables.insert(path.clone());
        }
        self.loaded.borrow_mut().push(loaded.clone());
        Ok(loaded)
    }

    /// A scan of a loaded table, with columns of its own.
    ///
    /// # Errors
    /// DataFusion's.
    pub fn scan(&self, loaded: &LoadedTable) -> Res<(Bound, Vec<(String, Tx)>)> {
        let source = provider_as_source(loaded.table.provider.clone());
        let plan = LogicalPlanBuilder::scan(loaded.scan.clone(), source, None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(plan_error)?;
        let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let mut items = Vec::new();
        let mut cols = Vec::new();
        let mut hidden = Vec::new();
        for ((e, name), ty) in columns.into_iter().zip(&loaded.table.names).zip(&loaded.table.types) {
            let id = self.id();
            items.push((e, id.clone()));
            if name == PARTITION_TIME {
                let time = Tx::column(&id, Ty::Timestamp);
                hidden.push(("_PARTITIONDATE".to_owned(), cast(time.clone(), &Ty::Date, false)?));
                hidden.push((name.clone(), time));
            } else {
                cols.push(OutCol { name: Some(name.clone()), id, ty: ty.clone(), lit: None });
            }
        }
        Ok((Bound { plan: project(plan, items)?, cols, value: false, rid: None }, hidden))
    }

    /// Counts the bytes of the columns that an optimised plan still reads.
    pub fn note_reads(&self, plan: &LogicalPlan) {
        let mut scans: Vec<(String, Vec<usize>)> = Vec::new();
        let _ = plan.apply(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let all = (0..scan.source.schema().fields().len()).collect();
                scans.push((scan.table_name.table().to_owned(), scan.projection.clone().unwrap_or(all)));
            }
            Ok(TreeNodeRecursion::Continue)
        });
        let loaded = self.loaded.borrow();
        for (name, columns) in scans {
            let Some(table) = loaded.iter().find(|l| l.scan == name && l.table.path.is_some()) else { continue };
            for n in columns {
                let key = format!("{name}.{n}");
                let known = self.reads.borrow().columns.contains_key(&key);
                if !known && let Some(ty) = table.table.types.get(n) {
                    let bytes = table.table.batches.iter().map(|b| logical_bytes(b.column(n), ty)).sum();
                    self.reads.borrow_mut().columns.insert(key, bytes);
                }
            }
        }
    }
}

/// A loaded table under the name of its scans.
#[derive(Debug)]
pub struct LoadedTable {
    key: String,
    pub scan: String,
    pub table: Loaded,
}

/// The size of a column by BigQuery's rules (https://cloud.google.com/bigquery/pricing#data).
pub fn logical_bytes(array: &dyn Array, ty: &Ty) -> i64 {
    let present = (array.len() - array.null_count()) as i64;
    match ty {
        Ty::Bool => present,
        Ty::String | Ty::Json | Ty::Geography => {
            let text = array.as_string::<i32>();
            2 * present
                + (0..text.len()).filter(|i| text.is_valid(*i)).map(|i| i64::from(text.value_length(i))).sum::<i64>()
        }
        Ty::Bytes => {
            let bytes = array.as_binary::<i32>();
            2 * present
                + (0..bytes.len()).filter(|i| bytes.is_valid(*i)).map(|i| i64::from(bytes.value_length(i))).sum::<i64>()
        }
        Ty::Numeric | Ty::Interval | Ty::Range(_) => 16 * present,
        Ty::BigNumeric => 32 * present,
        Ty::Struct(fields) => {
            let columns = array.as_struct().columns();
            columns.iter().zip(fields.iter()).map(|(c, (_, t))| logical_bytes(c, t)).sum()
        }
        Ty::Array(element) => {
            let list = array.as_list::<i32>();
            let (first, last) = (list.offsets()[0] as usize, list.offsets()[list.len()] as usize);
            logical_bytes(&list.values().slice(first, last - first), element)
        }
        _ => 8 * present,
    }
}

/// `INFORMATION_SCHEMA.X` or `__TABLES__`, if the path is one.
fn system_view(path: &Path, names: &Names) -> Option<(SchemaScope, String)> {
    let parts = &path.parts;
    if let Some(n) = parts.iter().position(|p| p.eq_ignore_ascii_case("INFORMATION_SCHEMA")) {
        let view = parts.get(n + 1)?.to_uppercase();
        let scope = match &parts[..n] {
            [] => match &names.dataset {
                Some((project, dataset)) => SchemaScope::Dataset { project: project.clone(), dataset: dataset.clone() },
                None => SchemaScope::Project { project: names.project.clone() },
            },
            [one] => scope_named(&names.project, one),
            [project, one] => scope_named(project, one),
            _ => return None,
        };
        return Some((scope, view));
    }
    let last = parts.last()?;
    if !last.eq_ignore_ascii_case("__TABLES__") && !last.eq_ignore_ascii_case("__TABLES_SUMMARY__") {
        return None;
    }
    let scope = match &parts[..parts.len() - 1] {
        [] => {
            let (project, dataset) = names.dataset.clone()?;
            SchemaScope::Dataset { project, dataset }
        }
        [dataset] => SchemaScope::Dataset { project: names.project.clone(), dataset: dataset.clone() },
        [project, dataset] => SchemaScope::Dataset { project: project.clone(), dataset: dataset.clone() },
        _ => return None,
    };
    Some((scope, last.to_uppercase()))
}

fn scope_named(project: &str, name: &str) -> SchemaScope {
    match name.to_lowercase().strip_prefix("region-") {
        Some(region) => SchemaScope::Region { project: project.to_owned(), region: region.to_owned() },
        None => SchemaScope::Dataset { project: project.to_owned(), dataset: name.to_owned() },
    }
}
