//! INSERT, UPDATE, DELETE, TRUNCATE: computed as the whole new contents of the table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat, filter, interleave};
use arrow::datatypes::{Field as ArrowField, Int64Type, Schema as ArrowSchema};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use serde_json::Value as Json;
use strongroom::codec::value::MICROS_PER_DAY;
use strongroom::model::schema::{Field, FieldType, Schema};
use tokio::runtime::Handle;

use super::create::type_parameters;
use super::run::released;
use crate::bigquery::sql::bind::Context;
use crate::bigquery::sql::bind::coerce::{cast, coerce, constant, cost};
use crate::bigquery::sql::bind::expr::{at_place, make_struct, struct_field};
use crate::bigquery::sql::bind::from::Rel;
use crate::bigquery::sql::bind::query::{Bound, Outer, filter as keep, plan_error, project};
use crate::bigquery::sql::bind::scope::{Env, Names, Scope, ScopeCol, Source, Tx, column, same_name};
use crate::bigquery::sql::bind::subquery::constant_value;
use crate::bigquery::sql::bind::table::PARTITION_TIME;
use crate::bigquery::sql::error::{Res, invalid};
use crate::bigquery::sql::exec::collect;
use crate::bigquery::sql::func::time::floor_day;
use crate::bigquery::sql::syntax::ast::{Expr as Ast, From, InsertSource, Kind, Name, Path};
use crate::bigquery::sql::syntax::parse_expression;
use crate::bigquery::sql::ty::{Ty, adopt};
use crate::bigquery::sql::value::{Value, build};
use crate::bigquery::sql::{Affected, Effect, Outcome, Relation, Rows, TablePath};

/// The table that a statement changes.
pub struct Target {
    pub path: TablePath,
    pub json: Vec<Json>,
    /// With `_PARTITIONTIME` last where the table has it.
    pub fields: Vec<Field>,
    pub types: Vec<Ty>,
    pub granularity: Option<String>,
    /// All rows in one batch, as inside plans.
    pub columns: Vec<ArrayRef>,
    pub rows: usize,
}

impl Target {
    /// Where a column is.
    ///
    /// # Errors
    /// No such column.
    pub fn position(&self, names: &Names, name: &Name) -> Res<usize> {
        let found = self.fields.iter().position(|f| same_name(&f.name, &name.text));
        found.ok_or_else(|| {
            invalid(format!(
                "Column {} is not present in table {} at {}",
                name.text,
                self.path.table,
                names.place(name.at)
            ))
        })
    }

    /// How many of the fields are the table's own columns.
    pub fn visible(&self) -> usize {
        self.fields.len() - usize::from(self.granularity.is_some())
    }
}

impl Context<'_> {
    /// Loads a table to change it.
    ///
    /// # Errors
    /// `notFound`; views cannot be changed.
    pub fn target(&self, path: &Path, names: &Names) -> Res<Target> {
        if let [name] = path.parts.as_slice()
            && let Some(rows) = self.session.tables.get(&name.to_lowercase())
        {
            let path = TablePath { project: String::new(), dataset: String::new(), table: name.clone() };
            return make_target(path, rows.fields.clone(), &rows.batches, None);
        }
        let path = self.table_path(path, names)?;
        match self.catalog.resolve(&path, None)? {
            Relation::Table { fields, batches, ingestion_time } => {
                self.reads.borrow_mut().tables.insert(path.clone());
                make_target(path, fields, &batches, ingestion_time)
            }
            Relation::View { .. } => Err(invalid(format!(
                "{}:{}.{} is not allowed for this operation because it is currently a VIEW.",
                path.project, path.dataset, path.table
            ))),
        }
    }

    /// A relation over arrays, with a hidden column that numbers the rows.
    ///
    /// # Errors
    /// DataFusion's.
    pub fn memory(
        &self,
        names: &[String],
        types: &[Ty],
        columns: &[ArrayRef],
        rows: usize,
        alias: Option<String>,
        hidden: usize,
    ) -> Res<(Rel, String)> {
        let mut fields: Vec<ArrowField> =
            types.iter().enumerate().map(|(n, t)| ArrowField::new(format!("f{n}"), t.arrow(), true)).collect();
        fields.push(ArrowField::new("row", arrow::datatypes::DataType::Int64, false));
        let schema = Arc::new(ArrowSchema::new(fields));
        let mut arrays = columns.to_vec();
        arrays.push(Arc::new(Int64Array::from_iter_values(0..rows as i64)));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options).map_err(plan_error)?;
        let table = MemTable::try_new(schema, vec![vec![batch]]).map_err(plan_error)?;
        let plan = LogicalPlanBuilder::scan(format!("m{}", self.id()), provider_as_source(Arc::new(table)), None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(plan_error)?;
        let scanned: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let mut items = Vec::new();
        let mut cols = Vec::new();
        for (n, e) in scanned.into_iter().enumerate() {
            let id = self.id();
            items.push((e, id.clone()));
            if let (Some(name), Some(ty)) = (names.get(n), types.get(n)) {
                let hidden = n >= types.len() - hidden;
                cols.push(ScopeCol { name: name.clone(), tx: Tx::column(&id, ty.clone()), hidden, merged: false });
            }
        }
        let row = items.last().map(|(_, id)| id.clone()).unwrap_or_default();
        let scope = Scope { sources: vec![Source { alias, cols, value: None }], using: vec![] };
        Ok((Rel { plan: project(plan, items)?, scope }, row))
    }

    /// The target as a relation.
    ///
    /// # Errors
    /// DataFusion's.
    pub fn target_rel(&self, target: &Target, alias: Option<&Name>) -> Res<(Rel, String)> {
        let names: Vec<String> = target.fields.iter().map(|f| f.name.clone()).collect();
        let alias = alias.map_or_else(|| target.path.table.clone(), |a| a.text.clone());
        let hidden = target.fields.len() - target.visible();
        self.memory(&names, &target.types, &target.columns, target.rows, Some(alias), hidden)
    }

    /// Runs a plan whose columns are as listed.
    ///
    /// # Errors
    /// What the functions in it say.
    pub fn run_columns(
        &self,
        plan: datafusion::logical_expr::LogicalPlan,
        items: Vec<(Expr, String)>,
        types: &[Ty],
    ) -> Res<(Vec<ArrayRef>, usize)> {
        let plan = project(plan, items)?;
        self.note_reads(&crate::bigquery::sql::exec::optimise(&plan)?);
        if self.query.dry_run {
            return Ok((types.iter().map(|t| build(t, &[])).collect::<Result<_, _>>().map_err(invalid)?, 0));
        }
        let batches = Handle::current().block_on(collect(plan, false))?;
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let mut columns = Vec::with_capacity(types.len());
        for (n, ty) in types.iter().enumerate() {
            let parts: Vec<&dyn Array> = batches.iter().map(|b| b.column(n).as_ref()).collect();
            columns.push(if parts.is_empty() {
                build(ty, &[]).map_err(invalid)?
            } else {
                concat(&parts).map_err(plan_error)?
            });
        }
        Ok((columns, rows))
    }

    /// The outcome of a changed table.
    ///
    /// # Errors
    /// NULLs in REQUIRED columns.
    pub fn replaced(
        &self,
        kind: &'static str,
        target: Target,
        columns: &[ArrayRef],
        rows: usize,
        affected: Affected,
    ) -> Res<Outcome> {
        // Its own rows were read, all columns of them.
        let own: i64 = target
            .columns
            .iter()
            .zip(&target.types)
            .map(|(c, t)| crate::bigquery::sql::bind::table::logical_bytes(c.as_ref(), t))
            .sum();
        if kind != "INSERT" && kind != "TRUNCATE_TABLE" {
            self.reads.borrow_mut().columns.insert("target".into(), own);
        }
        let mut batches = vec![];
        if rows > 0 {
            let schema = Arc::new(ArrowSchema::new(
                target
                    .types
                    .iter()
                    .enumerate()
                    .map(|(n, t)| ArrowField::new(format!("f{n}"), t.arrow(), true))
                    .collect::<Vec<_>>(),
            ));
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let batch = RecordBatch::try_new_with_options(schema, columns.to_vec(), &options).map_err(plan_error)?;
            batches.push(released(&batch, &target.fields)?);
        }
        let rows = Rows { fields: target.json, batches: Arc::new(batches) };
        Ok(self.outcome(kind, Rows::default(), Effect::ReplaceRows { table: target.path, rows, affected }))
    }

    /// A value as a column of the table takes it.
    ///
    /// # Errors
    /// Types that cannot be assigned.
    pub fn assign(&self, env: &Env, at: usize, value: Tx, field: &Field) -> Res<Tx> {
        let ty = Ty::of_field(field);
        if cost(&value, &ty).is_none() {
            return Err(env.error(
                at,
                &format!(
                    "Value has type {} which cannot be inserted into column {}, which has type {ty}",
                    value.ty, field.name
                ),
            ));
        }
        let value = coerce(value, &ty).map_err(|e| at_place(env, at, e))?;
        self.parameterised(value, &type_parameters(field), false)
    }

    /// What a column gets when a statement gives it nothing.
    ///
    /// # Errors
    /// A default that is none.
    pub fn default_of(&self, target: &Target, n: usize) -> Res<Tx> {
        let ty = &target.types[n];
        if target.fields[n].name == PARTITION_TIME {
            let unit = target.granularity.as_deref().unwrap_or("DAY");
            let now = self.query.now_us;
            let at = match unit {
                "HOUR" => now - now.rem_euclid(3_600_000_000),
                unit => floor_day(now.div_euclid(MICROS_PER_DAY), unit).map_err(invalid)? * MICROS_PER_DAY,
            };
            return Ok(Tx {
                lit: Some(Value::Timestamp(at)),
                ..Tx::new(constant(ty, &Value::Timestamp(at))?, ty.clone())
            });
        }
        let text = target.json.get(n).and_then(|f| f.get("defaultValueExpression")).and_then(Json::as_str);
        let Some(text) = text.filter(|t| !t.is_empty()) else {
            return Ok(Tx { lit: Some(Value::Null), ..Tx::new(constant(ty, &Value::Null)?, ty.clone()) });
        };
        let names = self.names_for(text);
        let scope = Scope::default();
        let env = Env::new(&names, &scope, "DEFAULT");
        let tx = self.expr(&env, &parse_expression(text)?)?;
        let tx = if cost(&tx, ty).is_some() { coerce(tx, ty)? } else { cast(tx, ty, false)? };
        self.parameterised(tx, &type_parameters(&target.fields[n]), false)
    }

    /// INSERT.
    ///
    /// # Errors
    /// As BigQuery says it.
    pub fn insert(&self, path: &Path, columns: &[Name], source: &InsertSource, names: &Names) -> Res<Outcome> {
        let target = self.target(path, names)?;
        let positions: Vec<usize> = if columns.is_empty() {
            (0..target.visible()).collect()
        } else {
            columns.iter().map(|c| target.position(names, c)).collect::<Res<_>>()?
        };
        for (n, p) in positions.iter().enumerate() {
            if positions[..n].contains(p) {
                return Err(invalid(format!("INSERT has columns with duplicate name: {}", target.fields[*p].name)));
            }
        }
        let (new, count) = match source {
            InsertSource::Values(rows) => self.insert_values(&target, &positions, rows, names)?,
            InsertSource::Query(query) => {
                let mut bound = self.query(query, names, Outer::default())?;
                if bound.value
                    && let Some(unwrapped) = self.unwrap_value(&bound)?
                {
                    bound = unwrapped;
                }
                self.insert_query(&target, &positions, &bound)?
            }
        };
        let mut columns = Vec::with_capacity(target.types.len());
        for (old, new) in target.columns.iter().zip(&new) {
            columns.push(concat(&[old.as_ref(), new.as_ref()]).map_err(plan_error)?);
        }
        let rows = target.rows + count;
        let affected = Affected { inserted: count as i64, ..Affected::default() };
        self.replaced("INSERT", target, &columns, rows, affected)
    }

    fn insert_values(
        &self,
        target: &Target,
        positions: &[usize],
        rows: &[Vec<Ast>],
        names: &Names,
    ) -> Res<(Vec<ArrayRef>, usize)> {
        let scope = Scope::default();
        let env = Env::new(names, &scope, "INSERT VALUES");
        let mut values: Vec<Vec<Value>> = vec![Vec::with_capacity(rows.len()); target.types.len()];
        for row in rows {
            if row.len() != positions.len() {
                let at = row.first().map_or(0, |e| e.at);
                return Err(env.error(
                    at,
                    &format!("Inserted row has wrong column count; Has {}, expected {}", row.len(), positions.len()),
                ));
            }
            for (n, column) in values.iter_mut().enumerate() {
                let given = positions.iter().position(|p| *p == n).map(|i| &row[i]);
                let tx = match given {
                    Some(ast) if *ast.kind != Kind::Default => {
                        let tx = self.expr(&env, ast)?;
                        self.assign(&env, ast.at, tx, &target.fields[n])?
                    }
                    _ => self.default_of(target, n)?,
                };
                column.push(if self.query.dry_run && tx.lit.is_none() { Value::Null } else { constant_value(&tx)? });
            }
        }
        let columns = values
            .iter()
            .zip(&target.types)
            .map(|(v, t)| build(t, v))
            .collect::<Result<Vec<_>, _>>()
            .map_err(invalid)?;
        Ok((columns, rows.len()))
    }

    fn insert_query(&self, target: &Target, positions: &[usize], bound: &Bound) -> Res<(Vec<ArrayRef>, usize)> {
        if bound.cols.len() != positions.len() {
            return Err(invalid(format!(
                "Inserted row has wrong column count; Has {}, expected {}",
                bound.cols.len(),
                positions.len()
            )));
        }
        let fields: Vec<Field> = positions.iter().map(|p| target.fields[*p].clone()).collect();
        let assigned = self.assigned(bound, &fields)?;
        let mut items = Vec::new();
        for n in 0..target.types.len() {
            let e = match positions.iter().position(|p| *p == n) {
                Some(i) => column(&assigned.cols[i].id),
                None => self.default_of(target, n)?.e,
            };
            items.push((e, self.id()));
        }
        self.run_columns(assigned.plan, items, &target.types)
    }

    /// SET clauses as new values of columns: a column of a struct may be set field by field.
    ///
    /// # Errors
    /// Unknown columns, wrong types.
    pub fn assignments(&self, env: &Env, target: &Target, set: &[(Vec<Name>, Ast)]) -> Res<Vec<(usize, Tx)>> {
        let mut out: Vec<(usize, Tx)> = Vec::new();
        for (path, ast) in set {
            // The table's own name may stand before the column.
            let own = path.len() > 1
                && env
                    .scope
                    .sources
                    .first()
                    .and_then(|s| s.alias.as_deref())
                    .is_some_and(|a| same_name(a, &path[0].text));
            let path = if own && !target.fields.iter().any(|f| same_name(&f.name, &path[0].text)) {
                &path[1..]
            } else {
                &path[..]
            };
            let n = target.position(env.names, &path[0])?;
            let value = match ast.kind.as_ref() {
                Kind::Default => self.default_of(target, n)?,
                _ => self.expr(env, ast)?,
            };
            if path.len() == 1 {
                if out.iter().any(|(m, _)| *m == n) {
                    return Err(env.error(path[0].at, &format!("Update item {} assigned more than once", path[0].text)));
                }
                out.push((n, self.assign(env, ast.at, value, &target.fields[n])?));
                continue;
            }
            let before = match out.iter().position(|(m, _)| *m == n) {
                Some(i) => out.remove(i).1,
                None => env.scope.sources[0].cols[n].tx.clone(),
            };
            let value = replaced_field(env, before, &path[1..], value, ast.at)?;
            out.push((n, value));
        }
        Ok(out)
    }

    /// UPDATE.
    ///
    /// # Errors
    /// As BigQuery says it.
    pub fn update(
        &self,
        path: &Path,
        alias: Option<&Name>,
        set: &[(Vec<Name>, Ast)],
        from: Option<&From>,
        condition: &Ast,
        names: &Names,
    ) -> Res<Outcome> {
        let target = self.target(path, names)?;
        let (rel, row) = self.target_rel(&target, alias)?;
        let rel = match from {
            None => rel,
            Some(from) => {
                let other = self.from(from, names, Outer::default(), None)?;
                let plan =
                    LogicalPlanBuilder::from(rel.plan).cross_join(other.plan).and_then(LogicalPlanBuilder::build);
                let mut scope = rel.scope;
                scope.sources.extend(other.scope.sources);
                scope.using.extend(other.scope.using);
                Rel { plan: plan.map_err(plan_error)?, scope }
            }
        };
        let env = Env::new(names, &rel.scope, "UPDATE");
        let plan = keep(rel.plan.clone(), self.condition(&env, condition, "WHERE clause")?)?;
        let new = self.assignments(&env, &target, set)?;
        let mut items = vec![(column(&row), self.id())];
        let mut types = vec![Ty::Int64];
        for (n, tx) in &new {
            items.push((tx.e.clone(), self.id()));
            types.push(target.types[*n].clone());
        }
        let (found, count) = self.run_columns(plan, items, &types)?;
        let hits = found[0].as_primitive::<Int64Type>();
        let mut by_row: HashMap<i64, usize> = HashMap::with_capacity(count);
        for (i, row) in hits.values().iter().enumerate() {
            if by_row.insert(*row, i).is_some() {
                return Err(invalid("UPDATE/MERGE must match at most one source row for each target row"));
            }
        }
        let mut columns = target.columns.clone();
        for (i, (n, _)) in new.iter().enumerate() {
            columns[*n] = merged(&target.columns[*n], &found[i + 1], target.rows, &by_row)?;
        }
        let rows = target.rows;
        let affected = Affected { updated: count as i64, ..Affected::default() };
        self.replaced("UPDATE", target, &columns, rows, affected)
    }

    /// DELETE.
    ///
    /// # Errors
    /// As BigQuery says it.
    pub fn delete(&self, path: &Path, alias: Option<&Name>, condition: &Ast, names: &Names) -> Res<Outcome> {
        let target = self.target(path, names)?;
        let (rel, row) = self.target_rel(&target, alias)?;
        let env = Env::new(names, &rel.scope, "DELETE");
        let plan = keep(rel.plan.clone(), self.condition(&env, condition, "WHERE clause")?)?;
        let (found, count) = self.run_columns(plan, vec![(column(&row), self.id())], &[Ty::Int64])?;
        let mut kept = vec![true; target.rows];
        for row in found[0].as_primitive::<Int64Type>().values() {
            kept[*row as usize] = false;
        }
        let mask = BooleanArray::from(kept);
        let columns =
            target.columns.iter().map(|c| filter(c, &mask)).collect::<Result<Vec<_>, _>>().map_err(plan_error)?;
        let rows = target.rows - count;
        let affected = Affected { deleted: count as i64, ..Affected::default() };
        self.replaced("DELETE", target, &columns, rows, affected)
    }

    /// TRUNCATE TABLE.
    ///
    /// # Errors
    /// `notFound`.
    pub fn truncate(&self, path: &Path, names: &Names) -> Res<Outcome> {
        let target = self.target(path, names)?;
        let affected = Affected { deleted: target.rows as i64, ..Affected::default() };
        self.replaced("TRUNCATE_TABLE", target, &[], 0, affected)
    }
}

fn make_target(path: TablePath, json: Vec<Json>, batches: &[RecordBatch], granularity: Option<String>) -> Res<Target> {
    let schema = Schema::from_json(&Json::Array(json.clone())).map_err(|e| invalid(e.to_string()))?;
    let mut fields = schema.fields;
    if granularity.is_some() {
        fields.push(Field::nullable(PARTITION_TIME, FieldType::Timestamp));
    }
    let types: Vec<Ty> = fields.iter().map(Ty::of_field).collect();
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let mut columns = Vec::with_capacity(types.len());
    for (n, ty) in types.iter().enumerate() {
        let mut parts = Vec::with_capacity(batches.len());
        for batch in batches {
            let column = batch.columns().get(n).ok_or_else(|| invalid("Internal: a column of a table has no data"))?;
            parts.push(adopt(column, ty)?);
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        columns.push(if parts.is_empty() {
            build(ty, &[]).map_err(invalid)?
        } else {
            concat(&parts).map_err(plan_error)?
        });
    }
    Ok(Target { path, json, fields, types, granularity, columns, rows })
}

/// Old values, but for the rows that have new ones.
///
/// # Errors
/// Arrow's.
pub fn merged(old: &ArrayRef, new: &ArrayRef, rows: usize, by_row: &HashMap<i64, usize>) -> Res<ArrayRef> {
    let indices: Vec<(usize, usize)> = (0..rows).map(|r| by_row.get(&(r as i64)).map_or((0, r), |i| (1, *i))).collect();
    interleave(&[old.as_ref(), new.as_ref()], &indices).map_err(plan_error)
}

/// A struct with one field, at a path, replaced.
fn replaced_field(env: &Env, value: Tx, path: &[Name], new: Tx, at: usize) -> Res<Tx> {
    let Some(name) = path.first() else { return Ok(new) };
    let Ty::Struct(fields) = value.ty.clone() else {
        return Err(env.error(name.at, &format!("Cannot access field {} on a value with type {}", name.text, value.ty)));
    };
    let n = fields.iter().position(|(f, _)| same_name(f, &name.text));
    let n = n.ok_or_else(|| env.error(name.at, &format!("Field name {} does not exist in {}", name.text, value.ty)))?;
    let mut parts = Vec::new();
    for (i, (field, ty)) in fields.iter().enumerate() {
        let old = struct_field(value.clone(), i);
        let part = if i == n {
            let part = replaced_field(env, old, &path[1..], new.clone(), at)?;
            coerce(part, ty).map_err(|e| at_place(env, at, e))?
        } else {
            old
        };
        parts.push((field.clone(), part));
    }
    Ok(make_struct(parts))
}
