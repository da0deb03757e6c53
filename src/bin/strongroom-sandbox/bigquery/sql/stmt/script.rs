//! Scripts: one statement after the other, with variables, temporary tables and functions, IF and WHILE.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::params::parameters;
use crate::bigquery::sql::bind::coerce::{cast, coerce};
use crate::bigquery::sql::bind::scope::{Env, Names, Scope};
use crate::bigquery::sql::bind::subquery::constant_value;
use crate::bigquery::sql::bind::{Context, Reads, Session};
use crate::bigquery::sql::error::{Res, invalid, unsupported};
use crate::bigquery::sql::exec;
use crate::bigquery::sql::syntax::ast::{Expr as Ast, Stmt};
use crate::bigquery::sql::syntax::parse_script;
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::value::Value;
use crate::bigquery::sql::{Catalog, Effect, Outcome, Query, Rows};

/// A script may run so many statements, loops included.
const MAX_STATEMENTS: usize = 10_000;

/// A script on its way: the caller applies each outcome's effect before it asks for the next one, as later statements may read
/// what earlier ones wrote.
///
/// ```text
/// let mut script = Script::new(query)?;
/// while let Some(outcome) = script.next(&catalog).await? { apply(outcome)?; }
/// ```
pub struct Script {
    state: Option<State>,
    count: usize,
}

struct State {
    query: Query,
    named: HashMap<String, (Ty, Value)>,
    positional: Vec<(Ty, Value)>,
    session: Session,
    /// Statements with the text that they are of.
    queue: VecDeque<(Stmt, Arc<str>)>,
    next_id: usize,
    executed: usize,
}

impl Script {
    /// Parses the whole text.
    ///
    /// # Errors
    /// `invalidQuery` with the place of a syntax error; parameters that are none of their type.
    pub fn new(mut query: Query) -> Res<Self> {
        if query.use_legacy_sql {
            query.sql = super::legacy::translate(&query.sql);
        }
        let (named, positional) = parameters(&query.parameters)?;
        let sql: Arc<str> = Arc::from(query.sql.as_str());
        let parse = {
            let sql = sql.clone();
            move || parse_script(&sql)
        };
        let statements = exec::on_thread(parse)?;
        let count = statements.len();
        let queue = statements.into_iter().map(|s| (s, sql.clone())).collect();
        let state = State { query, named, positional, session: Session::default(), queue, next_id: 0, executed: 0 };
        Ok(Self { state: Some(state), count })
    }

    /// How many statements there are; more than one makes the job a SCRIPT.
    pub fn statement_count(&self) -> usize {
        self.count
    }

    /// Runs the next statement that has an outcome; `None` at the end.
    ///
    /// # Errors
    /// The statement's error. The script is over then.
    pub async fn next(&mut self, catalog: &Arc<dyn Catalog>) -> Res<Option<Outcome>> {
        let Some(mut state) = self.state.take() else { return Ok(None) };
        let catalog = catalog.clone();
        let work = exec::runtime()?.spawn_blocking(move || {
            let outcome = state.step(&catalog);
            (state, outcome)
        });
        match work.await {
            Ok((state, outcome)) => {
                if outcome.is_ok() {
                    self.state = Some(state);
                }
                outcome
            }
            Err(e) if e.is_panic() => Err(exec::panicked(e.into_panic().as_ref())),
            Err(_) => Err(invalid("The query was cancelled")),
        }
    }
}

impl State {
    fn step(&mut self, catalog: &Arc<dyn Catalog>) -> Res<Option<Outcome>> {
        while let Some((statement, sql)) = self.queue.pop_front() {
            self.executed += 1;
            if self.executed > MAX_STATEMENTS {
                return Err(invalid(format!("The script has run more than {MAX_STATEMENTS} statements")));
            }
            if let Some(outcome) = self.run(catalog, statement, &sql)? {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    fn run(&mut self, catalog: &Arc<dyn Catalog>, statement: Stmt, sql: &Arc<str>) -> Res<Option<Outcome>> {
        let next_id = Cell::new(self.next_id);
        let session = std::mem::take(&mut self.session);
        let (result, changes) = {
            let cx = Context {
                catalog,
                query: &self.query,
                session: &session,
                named: &self.named,
                positional: &self.positional,
                reads: RefCell::new(Reads::default()),
                loaded: RefCell::default(),
                next_id: &next_id,
            };
            let mut changes = Changes::default();
            let result = cx.statement(statement, sql, &mut changes);
            (result, changes)
        };
        self.next_id = next_id.get();
        self.session = session;
        let outcome = result?;
        for (name, rows) in changes.tables {
            match rows {
                Some(rows) => self.session.tables.insert(name, rows),
                None => self.session.tables.remove(&name),
            };
        }
        for function in changes.functions {
            self.session.functions.insert(function.path.parts.join(".").to_lowercase(), function);
        }
        self.session.variables.extend(changes.variables);
        for (statement, sql) in changes.push.into_iter().rev() {
            self.queue.push_front((statement, sql));
        }
        Ok(outcome)
    }
}

/// What a statement changes in its script.
#[derive(Default)]
struct Changes {
    /// `None` drops.
    tables: Vec<(String, Option<Rows>)>,
    functions: Vec<crate::bigquery::sql::syntax::ast::Function>,
    variables: Vec<(String, (Ty, Value))>,
    push: Vec<(Stmt, Arc<str>)>,
}

impl Context<'_> {
    #[allow(clippy::too_many_lines, reason = "one arm for each statement")]
    fn statement(&self, statement: Stmt, sql: &Arc<str>, changes: &mut Changes) -> Res<Option<Outcome>> {
        let names = &self.names_for(sql);
        let outcome = match statement {
            Stmt::Query(query) => {
                let (bound, fields) = self.top(&query, names)?;
                let rows = self.rows(&bound, &fields)?;
                self.outcome("SELECT", rows, Effect::None)
            }
            Stmt::Insert { table, columns, source } => self.insert(&table, &columns, &source, names)?,
            Stmt::Update { table, alias, set, from, filter } => {
                self.update(&table, alias.as_ref(), &set, from.as_ref(), &filter, names)?
            }
            Stmt::Delete { table, alias, filter } => self.delete(&table, alias.as_ref(), &filter, names)?,
            Stmt::Merge { table, alias, source, on, clauses } => {
                self.merge(&table, alias.as_ref(), &source, &on, &clauses, names)?
            }
            Stmt::Truncate { table } => self.truncate(&table, names)?,
            Stmt::CreateTable(create) => {
                let temp = create.mode.temp;
                let mut create = *create;
                let name = create.path.parts.last().cloned().unwrap_or_default();
                if temp {
                    create.path.parts = vec!["temp".into(), name.clone()];
                }
                let outcome = self.create_table(&create, names)?;
                if temp {
                    return temporary(&name, outcome, changes).map(Some);
                }
                outcome
            }
            Stmt::CreateView { mode, path, columns, options, partition_by, cluster_by, query, text, materialized } => {
                if mode.temp {
                    return Err(unsupported("CREATE TEMP VIEW"));
                }
                self.create_view(
                    mode,
                    &path,
                    &columns,
                    &options,
                    partition_by.as_ref(),
                    &cluster_by,
                    &query,
                    &text,
                    materialized,
                    names,
                )?
            }
            Stmt::CreateSchema { mode, path, options, collate } => {
                self.create_schema(mode, &path, &options, collate.as_ref(), names)?
            }
            Stmt::CreateFunction(function) => {
                if function.mode.temp {
                    changes.functions.push(*function);
                    return Ok(None);
                }
                self.create_function(&function, names)?
            }
            Stmt::CreateRowAccessPolicy { mode, name, table, grantees, filter } => {
                let table = self.table_path(&table, names)?;
                self.catalog.resolve(&table, None)?;
                let effect = Effect::CreateRowAccessPolicy {
                    table,
                    name: name.text,
                    grantees,
                    filter,
                    or_replace: mode.or_replace,
                    if_not_exists: mode.if_not_exists,
                };
                self.outcome("CREATE_ROW_ACCESS_POLICY", Rows::default(), effect)
            }
            Stmt::DropRowAccessPolicy { name, table, if_exists } => {
                let kind = if name.is_some() { "DROP_ROW_ACCESS_POLICY" } else { "DROP_ALL_ROW_ACCESS_POLICIES" };
                let table = self.table_path(&table, names)?;
                self.outcome(
                    kind,
                    Rows::default(),
                    Effect::DropRowAccessPolicy { table, name: name.map(|n| n.text), if_exists },
                )
            }
            Stmt::Drop { kind, path, if_exists, cascade } => {
                if let [name] = path.parts.as_slice()
                    && self.session.tables.contains_key(&name.to_lowercase())
                {
                    changes.tables.push((name.to_lowercase(), None));
                    return Ok(Some(self.outcome("DROP_TABLE", Rows::default(), Effect::None)));
                }
                self.drop_object(&kind, &path, if_exists, cascade, names)?
            }
            Stmt::Alter { kind, path, if_exists, actions } => self.alter(&kind, &path, if_exists, &actions, names)?,
            Stmt::ExportData { options, query } => {
                let options = self.plain_options(names, &options)?;
                for needed in ["uri", "format"] {
                    if !options.contains_key(needed) {
                        return Err(invalid(format!("EXPORT DATA requires the option {needed}")));
                    }
                }
                let (bound, fields) = self.top(&query, names)?;
                let rows = self.rows(&bound, &fields)?;
                self.outcome(
                    "EXPORT_DATA",
                    Rows::default(),
                    Effect::ExportData { options: Json::Object(options), rows },
                )
            }
            Stmt::LoadData { overwrite, path, columns, partition_by, cluster_by, options, files } => {
                let path = self.table_path(&path, names)?;
                let mut load = serde_json::Map::new();
                load.insert("destinationTable".into(), super::create::table_reference(&path));
                load.insert(
                    "writeDisposition".into(),
                    json!(if overwrite { "WRITE_TRUNCATE" } else { "WRITE_APPEND" }),
                );
                if let Some(columns) = columns {
                    let fields = columns.iter().map(|c| self.column_json(names, c)).collect::<Res<Vec<_>>>()?;
                    load.insert("schema".into(), json!({ "fields": fields }));
                }
                if let Some(expr) = partition_by {
                    self.partition_by(names, &expr, &mut load)?;
                }
                if !cluster_by.is_empty() {
                    let fields: Vec<&str> = cluster_by.iter().map(|n| n.text.as_str()).collect();
                    load.insert("clustering".into(), json!({ "fields": fields }));
                }
                load.extend(load_options(self.plain_options(names, &options)?)?);
                load.extend(load_options(self.plain_options(names, &files)?)?);
                self.outcome("LOAD_DATA", Rows::default(), Effect::LoadData { configuration: Json::Object(load) })
            }
            Stmt::Grant { roles, kind, path, members, revoke } => {
                let schema = kind == "SCHEMA";
                let path = if schema { self.dataset_path(&path, names)? } else { self.table_path(&path, names)? };
                let kind = match kind.as_str() {
                    "SCHEMA" => crate::bigquery::sql::ObjectKind::Schema,
                    "VIEW" => crate::bigquery::sql::ObjectKind::View,
                    _ => crate::bigquery::sql::ObjectKind::Table,
                };
                let statement = if revoke { "REVOKE" } else { "GRANT" };
                self.outcome(statement, Rows::default(), Effect::Grant { kind, path, roles, members, revoke })
            }
            other => return self.control(other, sql, names, changes),
        };
        // A changed temporary table stays in the script.
        if let Effect::ReplaceRows { table, rows, .. } = &outcome.effect
            && table.project.is_empty()
        {
            changes.tables.push((table.table.to_lowercase(), Some(rows.clone())));
            return Ok(Some(Outcome { effect: Effect::None, ..outcome }));
        }
        Ok(Some(outcome))
    }

    /// Variables and control flow.
    fn control(&self, statement: Stmt, sql: &Arc<str>, names: &Names, changes: &mut Changes) -> Res<Option<Outcome>> {
        match statement {
            Stmt::Declare { names: variables, kind, default } => {
                let ty = kind.as_ref().map(Ty::of_name).transpose()?;
                let (ty, value) = match default {
                    Some(ast) => self.script_value(names, &ast, ty.as_ref())?,
                    None => (ty.ok_or_else(|| invalid("DECLARE needs a type or a DEFAULT"))?, Value::Null),
                };
                changes
                    .variables
                    .extend(variables.iter().map(|v| (v.text.to_lowercase(), (ty.clone(), value.clone()))));
            }
            Stmt::Set { names: variables, value } => self.assign_variables(names, &variables, &value, changes)?,
            Stmt::Assert { value, message } => {
                let (_, value) = self.script_value(names, &value, Some(&Ty::Bool))?;
                if value != Value::Bool(true) {
                    return Err(invalid(format!("Assertion failed: {}", message.unwrap_or_default())));
                }
                return Ok(Some(self.outcome("ASSERT", Rows::default(), Effect::None)));
            }
            Stmt::Nothing(kind) => {
                if kind != "SET" {
                    return Ok(Some(self.outcome(kind, Rows::default(), Effect::None)));
                }
            }
            Stmt::If { branches, otherwise } => {
                let mut chosen = otherwise;
                for (condition, body) in branches {
                    if self.script_value(names, &condition, Some(&Ty::Bool))?.1 == Value::Bool(true) {
                        chosen = body;
                        break;
                    }
                }
                changes.push.extend(chosen.into_iter().map(|s| (s, sql.clone())));
            }
            Stmt::Block { body } => changes.push.extend(body.into_iter().map(|s| (s, sql.clone()))),
            Stmt::While { condition, body } => {
                if self.script_value(names, &condition, Some(&Ty::Bool))?.1 == Value::Bool(true) {
                    changes.push.extend(body.iter().cloned().map(|s| (s, sql.clone())));
                    changes.push.push((Stmt::While { condition, body }, sql.clone()));
                }
            }
            Stmt::ExecuteImmediate { sql: text, into, using } => {
                if !into.is_empty() || !using.is_empty() {
                    return Err(unsupported("EXECUTE IMMEDIATE with INTO or USING"));
                }
                let (_, text) = self.script_value(names, &text, Some(&Ty::String))?;
                let Value::Str(text) = text else { return Err(invalid("EXECUTE IMMEDIATE sql string cannot be NULL")) };
                let inner: Arc<str> = Arc::from(text.as_str());
                changes.push.extend(parse_script(&text)?.into_iter().map(|s| (s, inner.clone())));
            }
            _ => return Err(unsupported("this statement")),
        }
        Ok(None)
    }

    fn script_value(&self, names: &Names, ast: &Ast, ty: Option<&Ty>) -> Res<(Ty, Value)> {
        let scope = Scope::default();
        let env = Env::new(names, &scope, "a script expression");
        let tx = self.expr(&env, ast)?;
        let tx = match ty {
            Some(ty) => {
                coerce(tx.clone(), ty).or_else(|e| if tx.lit.is_some() { cast(tx, ty, false) } else { Err(e) })?
            }
            None => tx,
        };
        Ok((tx.ty.clone(), constant_value(&tx)?))
    }

    fn assign_variables(
        &self,
        names: &Names,
        variables: &[crate::bigquery::sql::syntax::ast::Name],
        value: &Ast,
        changes: &mut Changes,
    ) -> Res<()> {
        let known = |name: &crate::bigquery::sql::syntax::ast::Name| {
            let found = self.session.variables.get(&name.text.to_lowercase());
            found
                .map(|(ty, _)| ty.clone())
                .ok_or_else(|| invalid(format!("Undeclared variable: {} at {}", name.text, names.place(name.at))))
        };
        if let [name] = variables {
            let ty = known(name)?;
            let value = self.script_value(names, value, Some(&ty))?;
            changes.variables.push((name.text.to_lowercase(), value));
            return Ok(());
        }
        let (ty, value) = self.script_value(names, value, None)?;
        let (Ty::Struct(fields), Value::Struct(items)) = (ty, value) else {
            return Err(invalid("SET of several variables needs a STRUCT"));
        };
        if items.len() != variables.len() {
            return Err(invalid("SET must have as many values as variables"));
        }
        for ((name, item), (_, from)) in variables.iter().zip(items).zip(fields.iter()) {
            let ty = known(name)?;
            let item = crate::bigquery::sql::func::cast::cast_value(&item, from, &ty).map_err(invalid)?;
            changes.variables.push((name.text.to_lowercase(), (ty, item)));
        }
        Ok(())
    }
}

fn temporary(name: &str, outcome: Outcome, changes: &mut Changes) -> Res<Outcome> {
    let Effect::CreateTable { resource, rows, .. } = &outcome.effect else {
        return Err(unsupported("this kind of temporary table"));
    };
    let fields = resource.pointer("/schema/fields").and_then(Json::as_array).cloned().unwrap_or_default();
    let batches = rows.as_ref().map(|r| r.batches.clone()).unwrap_or_default();
    changes.tables.push((name.to_lowercase(), Some(Rows { fields, batches })));
    Ok(Outcome { effect: Effect::None, ..outcome })
}

/// LOAD DATA's options as JobConfigurationLoad has them.
fn load_options(options: serde_json::Map<String, Json>) -> Res<serde_json::Map<String, Json>> {
    let mut out = serde_json::Map::new();
    for (name, value) in options {
        let key = match name.as_str() {
            "uris" => "sourceUris",
            "format" => "sourceFormat",
            "allow_jagged_rows" => "allowJaggedRows",
            "allow_quoted_newlines" => "allowQuotedNewlines",
            "encoding" => "encoding",
            "field_delimiter" => "fieldDelimiter",
            "ignore_unknown_values" => "ignoreUnknownValues",
            "max_bad_records" => "maxBadRecords",
            "null_marker" => "nullMarker",
            "quote" => "quote",
            "skip_leading_rows" => "skipLeadingRows",
            "enable_logical_types" => "useAvroLogicalTypes",
            "description" => {
                out.insert("destinationTableProperties".into(), json!({ "description": value }));
                continue;
            }
            other => return Err(unsupported(format!("the option {other} of LOAD DATA"))),
        };
        let value =
            if key == "sourceFormat" && value == json!("JSON") { json!("NEWLINE_DELIMITED_JSON") } else { value };
        out.insert(key.to_owned(), value);
    }
    Ok(out)
}
