//! CREATE: tables, views, snapshots, schemas, routines, policies, as resources of the REST API.

use serde_json::{Map, Value as Json, json};
use strongroom::model::schema::{Field, Schema};

use super::options::Resource;
use super::types::{field_json, standard_type};
use crate::bigquery::sql::bind::Context;
use crate::bigquery::sql::bind::coerce::{cast, coerce, cost};
use crate::bigquery::sql::bind::query::{Bound, OutCol, project};
use crate::bigquery::sql::bind::scope::Names;
use crate::bigquery::sql::error::{Res, invalid, unsupported};
use crate::bigquery::sql::syntax::ast::{
    Column, CreateMode, CreateTable, Expr as Ast, ForeignKey, Function, Name, Path, Query, TableSource,
};
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::{Effect, ObjectKind, Outcome, Rows, TablePath};

/// A table's name in REST.
pub fn table_reference(path: &TablePath) -> Json {
    json!({ "projectId": path.project, "datasetId": path.dataset, "tableId": path.table })
}

impl Context<'_> {
    /// The field of a column as written.
    ///
    /// # Errors
    /// Unknown types and options.
    pub fn column_json(&self, names: &Names, column: &Column) -> Res<Json> {
        let Some(kind) = &column.kind else {
            return Err(invalid(format!("Column {} has no type at {}", column.name.text, names.place(column.name.at))));
        };
        let mut field = field_json(&column.name.text, kind, column.rest.not_null)?;
        if let Some((text, _)) = &column.rest.default {
            field.insert("defaultValueExpression".into(), json!(text));
        }
        if let Some(collation) = &column.rest.collate {
            field.insert("collation".into(), json!(collation));
        }
        self.apply_options(names, &column.rest.options, Resource::Column, &mut field, false)?;
        Ok(Json::Object(field))
    }

    /// CREATE TABLE and CREATE SNAPSHOT TABLE.
    ///
    /// # Errors
    /// As BigQuery says it.
    pub fn create_table(&self, create: &CreateTable, names: &Names) -> Res<Outcome> {
        let path = self.table_path(&create.path, names)?;
        let mut resource = Map::from_iter([("tableReference".to_owned(), table_reference(&path))]);
        self.apply_options(names, &create.options, Resource::Table, &mut resource, false)?;
        if let Some(expr) = &create.partition_by {
            self.partition_by(names, expr, &mut resource)?;
        }
        if !create.cluster_by.is_empty() {
            let fields: Vec<&str> = create.cluster_by.iter().map(|n| n.text.as_str()).collect();
            resource.insert("clustering".into(), json!({ "fields": fields }));
        }
        if let Some(collation) = &create.collate {
            resource.insert("defaultCollation".into(), json!(collation));
        }
        if let Some(constraints) = self.constraints(create, names)? {
            resource.insert("tableConstraints".into(), constraints);
        }
        let CreateMode { or_replace, if_not_exists, .. } = create.mode;
        let columns: Option<Vec<Json>> = match &create.columns {
            Some(columns) if columns.iter().all(|c| c.kind.is_some()) => {
                Some(columns.iter().map(|c| self.column_json(names, c)).collect::<Res<_>>()?)
            }
            _ => None,
        };
        match &create.source {
            TableSource::None => {
                let Some(fields) = columns else {
                    return Err(invalid("Table creation requires a schema or an AS SELECT clause"));
                };
                Schema::from_json(&Json::Array(fields.clone())).map_err(|e| invalid(e.to_string()))?;
                check_columns(&resource, &fields)?;
                resource.insert("schema".into(), json!({ "fields": fields }));
                let effect =
                    Effect::CreateTable { resource: Json::Object(resource), or_replace, if_not_exists, rows: None };
                Ok(self.outcome("CREATE_TABLE", Rows::default(), effect))
            }
            TableSource::Query(query) => {
                let (fields, rows) = self.select_into(query, names, create.columns.as_deref(), columns)?;
                check_columns(&resource, &fields)?;
                resource.insert("schema".into(), json!({ "fields": fields }));
                let rows = (!self.query.dry_run).then_some(rows);
                let effect = Effect::CreateTable { resource: Json::Object(resource), or_replace, if_not_exists, rows };
                Ok(self.outcome("CREATE_TABLE_AS_SELECT", Rows::default(), effect))
            }
            TableSource::Like(source, query) => {
                let source = self.table_path(source, names)?;
                let rows = match query {
                    Some(query) => Some(self.select_into(query, names, None, None)?.1).filter(|_| !self.query.dry_run),
                    None => None,
                };
                let kind = if query.is_some() { "CREATE_TABLE_AS_SELECT" } else { "CREATE_TABLE" };
                let effect = Effect::CreateTableLike {
                    source,
                    resource: Json::Object(resource),
                    or_replace,
                    if_not_exists,
                    rows,
                };
                Ok(self.outcome(kind, Rows::default(), effect))
            }
            TableSource::Copy(source) => {
                self.copy("COPY", "CREATE_TABLE_COPY", source, None, resource, create.mode, names)
            }
            TableSource::Clone(source, as_of) => {
                self.copy("CLONE", "CREATE_TABLE_CLONE", source, as_of.as_ref(), resource, create.mode, names)
            }
            TableSource::Snapshot(source, as_of) => {
                self.copy("SNAPSHOT", "CREATE_SNAPSHOT_TABLE", source, as_of.as_ref(), resource, create.mode, names)
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of the statement")]
    fn copy(
        &self,
        operation: &'static str,
        kind: &'static str,
        source: &Path,
        as_of: Option<&Ast>,
        resource: Map<String, Json>,
        mode: CreateMode,
        names: &Names,
    ) -> Res<Outcome> {
        let source = self.table_path(source, names)?;
        let at_ms = self.as_of_ms(names, as_of)?;
        // What does not exist is said at once, in a dry run too.
        self.catalog.resolve(&source, at_ms)?;
        self.reads.borrow_mut().tables.insert(source.clone());
        let effect = Effect::CopyTable {
            operation,
            source,
            at_ms,
            resource: Json::Object(resource),
            or_replace: mode.or_replace,
            if_not_exists: mode.if_not_exists,
        };
        Ok(self.outcome(kind, Rows::default(), effect))
    }

    /// The fields and rows of AS SELECT, with the column list's names and types where there is one.
    fn select_into(
        &self,
        query: &Query,
        names: &Names,
        list: Option<&[Column]>,
        typed: Option<Vec<Json>>,
    ) -> Res<(Vec<Json>, Rows)> {
        let (mut bound, mut fields) = match list {
            None => self.top(query, names)?,
            Some(list) => {
                let mut bound = self.query(query, names, crate::bigquery::sql::bind::query::Outer::default())?;
                if bound.value
                    && let Some(unwrapped) = self.unwrap_value(&bound)?
                {
                    bound = unwrapped;
                }
                if list.len() != bound.cols.len() {
                    return Err(invalid(format!(
                        "The number of columns in the column definition list does not match the number of columns produced by the query: {} vs {}",
                        list.len(),
                        bound.cols.len()
                    )));
                }
                for (col, column) in bound.cols.iter_mut().zip(list) {
                    col.name = Some(column.name.text.clone());
                }
                let fields = self.result_fields(&bound)?;
                (bound, fields)
            }
        };
        if let Some(cols) = bound.cols.iter().find(|c| c.name.is_none()) {
            return Err(invalid(format!(
                "CREATE TABLE columns must be named, but column of type {} has no name",
                cols.ty
            )));
        }
        let Some(json) = typed else {
            let rows = self.rows(&bound, &fields)?;
            return Ok((rows.fields.clone(), rows));
        };
        let schema = Schema::from_json(&Json::Array(json.clone())).map_err(|e| invalid(e.to_string()))?;
        bound = self.assigned(&bound, &schema.fields)?;
        fields = schema.fields;
        let rows = self.rows(&bound, &fields)?;
        Ok((json.clone(), Rows { fields: json, ..rows }))
    }

    /// A query's columns as those of a table.
    ///
    /// # Errors
    /// Types that cannot be assigned.
    pub fn assigned(&self, bound: &Bound, fields: &[Field]) -> Res<Bound> {
        let mut items = Vec::new();
        let mut cols = Vec::new();
        for (col, field) in bound.cols.iter().zip(fields) {
            let ty = Ty::of_field(field);
            let tx = col.tx();
            if cost(&tx, &ty).is_none() && !assignable(&tx.ty, &ty) {
                return Err(invalid(format!(
                    "Query column {} has type {} which cannot be inserted into column {}, which has type {ty}",
                    cols.len() + 1,
                    tx.ty,
                    field.name
                )));
            }
            let tx = if cost(&tx, &ty).is_some() { coerce(tx, &ty)? } else { cast(tx, &ty, false)? };
            let tx = self.parameterised(tx, &type_parameters(field), false)?;
            let id = self.id();
            items.push((tx.e, id.clone()));
            cols.push(OutCol { name: Some(field.name.clone()), id, ty, lit: None });
        }
        Ok(Bound { plan: project(bound.plan.clone(), items)?, cols, value: false, rid: None })
    }

    fn constraints(&self, create: &CreateTable, names: &Names) -> Res<Option<Json>> {
        let mut primary: Vec<String> = create.primary_key.iter().map(|n| n.text.clone()).collect();
        let mut foreign = Vec::new();
        for column in create.columns.iter().flatten() {
            if column.rest.primary_key {
                primary.push(column.name.text.clone());
            }
            if let Some((table, columns)) = &column.rest.references {
                let key = ForeignKey {
                    name: None,
                    columns: vec![column.name.clone()],
                    table: table.clone(),
                    references: columns.clone(),
                };
                foreign.push(self.foreign_key(&key, names)?);
            }
        }
        for key in &create.foreign_keys {
            foreign.push(self.foreign_key(key, names)?);
        }
        if primary.is_empty() && foreign.is_empty() {
            return Ok(None);
        }
        let mut out = Map::new();
        if !primary.is_empty() {
            out.insert("primaryKey".into(), json!({ "columns": primary }));
        }
        if !foreign.is_empty() {
            out.insert("foreignKeys".into(), json!(foreign));
        }
        Ok(Some(Json::Object(out)))
    }

    /// A foreign key in REST.
    ///
    /// # Errors
    /// Lists of different lengths.
    pub fn foreign_key(&self, key: &ForeignKey, names: &Names) -> Res<Json> {
        if key.columns.len() != key.references.len() {
            return Err(invalid("A foreign key and what it references must have as many columns"));
        }
        let table = self.table_path(&key.table, names)?;
        let pairs = key.columns.iter().zip(&key.references);
        let columns: Vec<Json> =
            pairs.map(|(c, r)| json!({ "referencingColumn": c.text, "referencedColumn": r.text })).collect();
        let mut out = json!({ "referencedTable": table_reference(&table), "columnReferences": columns });
        if let Some(name) = &key.name {
            out["name"] = json!(name);
        }
        Ok(out)
    }

    /// CREATE VIEW and CREATE MATERIALIZED VIEW.
    ///
    /// # Errors
    /// As BigQuery says it.
    #[allow(clippy::too_many_arguments, reason = "the parts of the statement")]
    pub fn create_view(
        &self,
        mode: CreateMode,
        path: &Path,
        columns: &[(Name, Vec<(Name, Ast)>)],
        options: &[(Name, Ast)],
        partition_by: Option<&Ast>,
        cluster_by: &[Name],
        query: &Query,
        text: &str,
        materialized: bool,
        names: &Names,
    ) -> Res<Outcome> {
        let path = self.table_path(path, names)?;
        let (bound, fields) = self.top(query, names)?;
        if !columns.is_empty() && columns.len() != fields.len() {
            return Err(invalid(format!(
                "View column list has {} columns, but the view's query has {} columns",
                columns.len(),
                fields.len()
            )));
        }
        drop(bound);
        let mut list = Vec::new();
        for (n, field) in fields.iter().enumerate() {
            let Json::Object(mut json) = field.to_json() else { continue };
            if let Some((name, options)) = columns.get(n) {
                json.insert("name".into(), json!(name.text));
                self.apply_options(names, options, Resource::Column, &mut json, false)?;
            }
            list.push(Json::Object(json));
        }
        let kind = if materialized { Resource::MaterializedView } else { Resource::View };
        let mut resource = Map::from_iter([("tableReference".to_owned(), table_reference(&path))]);
        let definition = if materialized {
            json!({ "query": text, "enableRefresh": true, "refreshIntervalMs": "1800000" })
        } else {
            json!({ "query": text, "useLegacySql": false })
        };
        resource.insert(if materialized { "materializedView" } else { "view" }.into(), definition);
        resource.insert("schema".into(), json!({ "fields": list }));
        self.apply_options(names, options, kind, &mut resource, false)?;
        if let Some(expr) = partition_by {
            self.partition_by(names, expr, &mut resource)?;
        }
        if !cluster_by.is_empty() {
            let fields: Vec<&str> = cluster_by.iter().map(|n| n.text.as_str()).collect();
            resource.insert("clustering".into(), json!({ "fields": fields }));
        }
        let effect = Effect::CreateView {
            resource: Json::Object(resource),
            or_replace: mode.or_replace,
            if_not_exists: mode.if_not_exists,
        };
        Ok(self.outcome(if materialized { "CREATE_MATERIALIZED_VIEW" } else { "CREATE_VIEW" }, Rows::default(), effect))
    }

    /// CREATE SCHEMA.
    ///
    /// # Errors
    /// Unknown options.
    pub fn create_schema(
        &self,
        mode: CreateMode,
        path: &Path,
        options: &[(Name, Ast)],
        collate: Option<&String>,
        names: &Names,
    ) -> Res<Outcome> {
        let path = self.dataset_path(path, names)?;
        let mut resource = Map::from_iter([(
            "datasetReference".to_owned(),
            json!({ "projectId": path.project, "datasetId": path.dataset }),
        )]);
        self.apply_options(names, options, Resource::Schema, &mut resource, false)?;
        if let Some(collation) = collate {
            resource.insert("defaultCollation".into(), json!(collation));
        }
        let effect = Effect::CreateSchema { resource: Json::Object(resource), if_not_exists: mode.if_not_exists };
        Ok(self.outcome("CREATE_SCHEMA", Rows::default(), effect))
    }

    /// `project.dataset` or `dataset`; the table's part is empty.
    ///
    /// # Errors
    /// More parts than that.
    pub fn dataset_path(&self, path: &Path, names: &Names) -> Res<TablePath> {
        let (project, dataset) = match path.parts.as_slice() {
            [dataset] => (names.project.clone(), dataset.clone()),
            [project, dataset] => (project.clone(), dataset.clone()),
            _ => return Err(invalid(format!("Invalid dataset name: `{}`", path.parts.join(".")))),
        };
        Ok(TablePath { project, dataset, table: String::new() })
    }

    /// CREATE FUNCTION that stays.
    ///
    /// # Errors
    /// Unknown types.
    pub fn create_function(&self, function: &Function, names: &Names) -> Res<Outcome> {
        let path = self.table_path(&function.path, names)?;
        let mut arguments = Vec::new();
        for (name, kind) in &function.arguments {
            arguments.push(match standard_type(kind)? {
                Some(ty) => json!({ "name": name.text, "dataType": ty }),
                None => json!({ "name": name.text, "argumentKind": "ANY_TYPE" }),
            });
        }
        let language = if function.language.eq_ignore_ascii_case("SQL") { "SQL" } else { "JAVASCRIPT" };
        let mut resource = Map::from_iter([
            (
                "routineReference".to_owned(),
                json!({ "projectId": path.project, "datasetId": path.dataset, "routineId": path.table }),
            ),
            (
                "routineType".to_owned(),
                json!(if function.aggregate { "AGGREGATE_FUNCTION" } else { "SCALAR_FUNCTION" }),
            ),
            ("language".to_owned(), json!(language)),
            ("arguments".to_owned(), json!(arguments)),
            ("definitionBody".to_owned(), json!(function.body)),
        ]);
        if let Some(ty) = function.returns.as_ref().map(standard_type).transpose()?.flatten() {
            resource.insert("returnType".into(), ty);
        }
        for (name, value) in self.plain_options(names, &function.options)? {
            match name.as_str() {
                "description" => {
                    resource.insert("description".into(), value);
                }
                "library" => {
                    resource.insert("importedLibraries".into(), value);
                }
                other => return Err(unsupported(format!("the option {other} of a function"))),
            }
        }
        let effect = Effect::CreateRoutine {
            resource: Json::Object(resource),
            or_replace: function.mode.or_replace,
            if_not_exists: function.mode.if_not_exists,
        };
        Ok(self.outcome("CREATE_FUNCTION", Rows::default(), effect))
    }

    /// DROP of anything.
    ///
    /// # Errors
    /// Names without a dataset.
    pub fn drop_object(&self, kind: &str, path: &Path, if_exists: bool, cascade: bool, names: &Names) -> Res<Outcome> {
        let (kind, statement) = match kind {
            "TABLE" => (ObjectKind::Table, "DROP_TABLE"),
            "SNAPSHOT TABLE" => (ObjectKind::SnapshotTable, "DROP_SNAPSHOT_TABLE"),
            "EXTERNAL TABLE" => (ObjectKind::ExternalTable, "DROP_EXTERNAL_TABLE"),
            "VIEW" => (ObjectKind::View, "DROP_VIEW"),
            "MATERIALIZED VIEW" => (ObjectKind::MaterializedView, "DROP_MATERIALIZED_VIEW"),
            "SCHEMA" => (ObjectKind::Schema, "DROP_SCHEMA"),
            "FUNCTION" => (ObjectKind::Function, "DROP_FUNCTION"),
            "PROCEDURE" => (ObjectKind::Procedure, "DROP_PROCEDURE"),
            _ => (ObjectKind::TableFunction, "DROP_TABLE_FUNCTION"),
        };
        let path =
            if kind == ObjectKind::Schema { self.dataset_path(path, names)? } else { self.table_path(path, names)? };
        Ok(self.outcome(statement, Rows::default(), Effect::Drop { kind, path, if_exists, cascade }))
    }
}

/// Assignments that are no implicit casts, but that INSERT and CREATE TABLE AS make.
fn assignable(from: &Ty, to: &Ty) -> bool {
    matches!(
        (from, to),
        (Ty::Float64, Ty::Numeric | Ty::BigNumeric) | (Ty::Array(_), Ty::Array(_)) | (Ty::Struct(_), Ty::Struct(_))
    ) && crate::bigquery::sql::func::cast::castable(from, to)
        && !matches!((from, to), (Ty::Float64, _))
}

/// The type of a field with its parameters, as written.
pub fn type_parameters(field: &Field) -> crate::bigquery::sql::syntax::ast::TypeName {
    let mut params: Vec<u64> = Vec::new();
    if field.mode != strongroom::model::schema::Mode::Repeated {
        params.extend(field.precision.map(u64::from));
        params.extend(field.scale.map(u64::from));
        params.extend(field.max_length);
    }
    crate::bigquery::sql::syntax::ast::TypeName::Simple(field.kind.sql_name().into(), params)
}

/// Partitioning and clustering columns must be columns.
fn check_columns(resource: &Map<String, Json>, fields: &[Json]) -> Res<()> {
    let find = |name: &str| {
        fields.iter().find(|f| f.get("name").and_then(Json::as_str).is_some_and(|n| n.eq_ignore_ascii_case(name)))
    };
    for key in ["timePartitioning", "rangePartitioning"] {
        let Some(name) = resource.get(key).and_then(|p| p.get("field")).and_then(Json::as_str) else { continue };
        let field = find(name).ok_or_else(|| {
            invalid(format!("The field specified for partitioning cannot be found in the schema: {name}"))
        })?;
        let ty = field.get("type").and_then(Json::as_str).unwrap_or_default();
        let fits =
            if key == "rangePartitioning" { ty == "INTEGER" } else { matches!(ty, "DATE" | "TIMESTAMP" | "DATETIME") };
        if !fits {
            return Err(invalid(format!(
                "The field specified for partitioning has a type that cannot partition: {name} is {ty}"
            )));
        }
    }
    let clustering = resource.get("clustering").and_then(|c| c.get("fields")).and_then(Json::as_array);
    for name in clustering.into_iter().flatten().filter_map(Json::as_str) {
        if find(name.split('.').next().unwrap_or(name)).is_none() {
            return Err(invalid(format!("The field specified for clustering cannot be found in the schema: {name}")));
        }
    }
    Ok(())
}
