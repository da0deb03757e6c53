//! ALTER.

use arrow::array::ArrayRef;
use serde_json::{Map, Value as Json, json};
use strongroom::model::schema::Schema;

use super::options::Resource;
use super::types::field_json;
use crate::bigquery::sql::bind::Context;
use crate::bigquery::sql::bind::scope::{Names, same_name};
use crate::bigquery::sql::error::{Res, invalid, unsupported};
use crate::bigquery::sql::syntax::ast::{Alter, Name, Path};
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::value::{Value, build};
use crate::bigquery::sql::{Effect, ObjectKind, Outcome, Relation, Rows, TablePath};

impl Context<'_> {
    /// ALTER TABLE, VIEW, MATERIALIZED VIEW, SCHEMA. All actions of one statement are of one kind.
    ///
    /// # Errors
    /// Missing columns, actions that are not supported.
    pub fn alter(&self, kind: &str, path: &Path, if_exists: bool, actions: &[Alter], names: &Names) -> Res<Outcome> {
        let (object, resource, statement) = match kind {
            "TABLE" => (ObjectKind::Table, Resource::Table, "ALTER_TABLE"),
            "VIEW" => (ObjectKind::View, Resource::View, "ALTER_VIEW"),
            "MATERIALIZED VIEW" => {
                (ObjectKind::MaterializedView, Resource::MaterializedView, "ALTER_MATERIALIZED_VIEW")
            }
            _ => (ObjectKind::Schema, Resource::Schema, "ALTER_SCHEMA"),
        };
        let path =
            if object == ObjectKind::Schema { self.dataset_path(path, names)? } else { self.table_path(path, names)? };
        let mut patch = Map::new();
        let mut schema_changes = Vec::new();
        for action in actions {
            match action {
                Alter::SetOptions(options) => self.apply_options(names, options, resource, &mut patch, true)?,
                Alter::SetCollate(text) => {
                    patch.insert("defaultCollation".into(), json!(text));
                }
                Alter::RenameTo(name) => {
                    let effect = Effect::RenameTable { table: path, new_name: name.text.clone(), if_exists };
                    return Ok(self.outcome(statement, Rows::default(), effect));
                }
                Alter::AddPrimaryKey(columns) => {
                    let columns: Vec<&str> = columns.iter().map(|c| c.text.as_str()).collect();
                    patch.insert("tableConstraints".into(), json!({ "primaryKey": { "columns": columns } }));
                }
                Alter::DropPrimaryKey => {
                    patch.insert("tableConstraints".into(), json!({ "primaryKey": null }));
                }
                Alter::AddForeignKey(key) => {
                    let key = self.foreign_key(key, names)?;
                    patch.insert("tableConstraints".into(), json!({ "foreignKeys": [key] }));
                }
                Alter::DropConstraint { .. } => return Err(unsupported("ALTER TABLE DROP CONSTRAINT")),
                other => schema_changes.push(other),
            }
        }
        if schema_changes.is_empty() {
            let effect = Effect::AlterOptions { kind: object, path, patch: Json::Object(patch), if_exists };
            return Ok(self.outcome(statement, Rows::default(), effect));
        }
        if !patch.is_empty() {
            return Err(unsupported("ALTER TABLE with options and columns in one statement"));
        }
        let effect = self.alter_schema(&path, &schema_changes, names)?;
        Ok(self.outcome(statement, Rows::default(), effect))
    }

    fn alter_schema(&self, path: &TablePath, actions: &[&Alter], names: &Names) -> Res<Effect> {
        let Relation::Table { fields, batches, ingestion_time } = self.catalog.resolve(path, None)? else {
            return Err(invalid(format!("{}:{}.{} is not a table", path.project, path.dataset, path.table)));
        };
        let original = fields.clone();
        let mut fields = fields;
        // For each new column the old one that its data come from.
        let mut origin: Vec<Option<usize>> = (0..fields.len()).map(Some).collect();
        let place = |fields: &[Json], name: &Name, optional: bool| -> Res<Option<usize>> {
            let found = fields
                .iter()
                .position(|f| same_name(f.get("name").and_then(Json::as_str).unwrap_or_default(), &name.text));
            match found {
                None if !optional => Err(invalid(format!(
                    "Column {} was not found in table {} at {}",
                    name.text,
                    path.table,
                    names.place(name.at)
                ))),
                found => Ok(found),
            }
        };
        let set = |fields: &mut Vec<Json>, n: usize, key: &str, value: Json| {
            if let Some(Json::Object(field)) = fields.get_mut(n) {
                if value.is_null() {
                    field.remove(key);
                } else {
                    field.insert(key.to_owned(), value);
                }
            }
        };
        for action in actions {
            match action {
                Alter::AddColumn { column, if_not_exists } => {
                    if place(&fields, &column.name, true)?.is_some() {
                        if *if_not_exists {
                            continue;
                        }
                        return Err(invalid(format!(
                            "Column already exists: {} at {}",
                            column.name.text,
                            names.place(column.name.at)
                        )));
                    }
                    if column.rest.not_null {
                        return Err(invalid(format!(
                            "Cannot add required fields to an existing schema. (field: {})",
                            column.name.text
                        )));
                    }
                    fields.push(self.column_json(names, column)?);
                    origin.push(None);
                }
                Alter::DropColumn { name, if_exists } => {
                    if let Some(n) = place(&fields, name, *if_exists)? {
                        fields.remove(n);
                        origin.remove(n);
                    }
                }
                Alter::RenameColumn { name, to, if_exists } => {
                    if let Some(n) = place(&fields, name, *if_exists)? {
                        if place(&fields, to, true)?.is_some_and(|m| m != n) {
                            return Err(invalid(format!("Column already exists: {}", to.text)));
                        }
                        set(&mut fields, n, "name", json!(to.text));
                    }
                }
                Alter::SetColumnOptions { name, options, if_exists } => {
                    if let Some(n) = place(&fields, name, *if_exists)? {
                        let mut patch = Map::new();
                        self.apply_options(names, options, Resource::Column, &mut patch, true)?;
                        for (key, value) in patch {
                            set(&mut fields, n, &key, value);
                        }
                    }
                }
                Alter::DropNotNull { name, if_exists } => {
                    if let Some(n) = place(&fields, name, *if_exists)? {
                        set(&mut fields, n, "mode", json!("NULLABLE"));
                    }
                }
                Alter::SetDefault { name, text, if_exists, .. } => {
                    if let Some(n) = place(&fields, name, *if_exists)? {
                        set(&mut fields, n, "defaultValueExpression", json!(text));
                    }
                }
                Alter::DropDefault { name, if_exists } => {
                    if let Some(n) = place(&fields, name, *if_exists)? {
                        set(&mut fields, n, "defaultValueExpression", Json::Null);
                    }
                }
                Alter::SetDataType { name, kind, if_exists } => {
                    if let Some(n) = place(&fields, name, *if_exists)? {
                        let shown = fields[n].get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
                        for key in ["type", "precision", "scale", "maxLength", "fields", "rangeElementType"] {
                            set(&mut fields, n, key, Json::Null);
                        }
                        for (key, value) in field_json(&shown, kind, false)? {
                            if key != "mode" {
                                set(&mut fields, n, &key, value);
                            }
                        }
                    }
                }
                _ => return Err(unsupported("this action of ALTER TABLE with others")),
            }
        }
        if fields.is_empty() {
            return Err(invalid("Cannot drop all columns of a table"));
        }
        let schema = Schema::from_json(&Json::Array(fields.clone())).map_err(|e| invalid(e.to_string()))?;
        let was = Schema::from_json(&Json::Array(original)).map_err(|e| invalid(e.to_string()))?;
        for (field, origin) in schema.fields.iter().zip(&origin) {
            let Some(from) = origin.and_then(|n| was.fields.get(n)) else { continue };
            let (from, to) = (Ty::of_field(from), Ty::of_field(field));
            let widens = matches!(
                (&from, &to),
                (Ty::Int64, Ty::Numeric | Ty::BigNumeric | Ty::Float64) | (Ty::Numeric, Ty::BigNumeric | Ty::Float64)
            );
            if !from.same(&to) && !widens {
                return Err(invalid(format!(
                    "ALTER TABLE ALTER COLUMN SET DATA TYPE requires that the existing column type ({from}) is assignable to the new type ({to})"
                )));
            }
        }
        // The data follow: new columns are NULL, wider types are cast.
        let mut out = Vec::with_capacity(batches.len());
        let mut all_fields = schema.fields.clone();
        let hidden = ingestion_time.is_some().then(|| {
            strongroom::model::schema::Field::nullable(
                "_PARTITIONTIME",
                strongroom::model::schema::FieldType::Timestamp,
            )
        });
        all_fields.extend(hidden.clone());
        for batch in batches.iter() {
            let mut columns: Vec<ArrayRef> = Vec::with_capacity(all_fields.len());
            for (field, origin) in schema.fields.iter().zip(&origin) {
                let ty = Ty::of_field(field);
                let old = origin.and_then(|n| Some((was.fields.get(n)?, batch.columns().get(n)?)));
                columns.push(match old {
                    None => build(&ty, &vec![Value::Null; batch.num_rows()]).map_err(invalid)?,
                    Some((from, column)) => {
                        let from_ty = Ty::of_field(from);
                        let inner = crate::bigquery::sql::ty::adopt(column, &from_ty)?;
                        if from_ty.same(&ty) { inner } else { widened(&inner, &from_ty, &ty)? }
                    }
                });
            }
            if hidden.is_some()
                && let Some(last) = batch.columns().last()
            {
                columns.push(crate::bigquery::sql::ty::adopt(last, &Ty::Timestamp)?);
            }
            let released = columns
                .iter()
                .zip(&all_fields)
                .map(|(c, f)| crate::bigquery::sql::ty::release(c, f))
                .collect::<Res<Vec<_>>>()?;
            let arrow = strongroom::codec::arrow_schema::arrow_schema(&Schema::new(all_fields.clone()));
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            out.push(
                arrow::array::RecordBatch::try_new_with_options(arrow, released, &options)
                    .map_err(|e| invalid(e.to_string()))?,
            );
        }
        let rows = Rows { fields: fields.clone(), batches: std::sync::Arc::new(out) };
        Ok(Effect::AlterSchema { table: path.clone(), fields, rows: Some(rows) })
    }
}

fn widened(column: &ArrayRef, from: &Ty, to: &Ty) -> Res<ArrayRef> {
    let reader = crate::bigquery::sql::value::Reader::new(column.as_ref(), from);
    let values: Result<Vec<Value>, String> =
        (0..column.len()).map(|i| crate::bigquery::sql::func::cast::cast_value(&reader.get(i), from, to)).collect();
    build(to, &values.map_err(invalid)?).map_err(invalid)
}
