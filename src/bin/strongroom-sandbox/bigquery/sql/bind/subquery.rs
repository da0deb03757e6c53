//! Subqueries in expressions: run once when they stand for themselves, or for each batch of the rows around them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use super::Context;
use super::coerce::{cast, coerce, supertype};
use super::query::{Base, Bound, Outer, plan_error, project};
use super::scope::{Captures, Env, RETRY, Tx, column};
use crate::bigquery::sql::error::{Res, invalid};
use crate::bigquery::sql::exec::{Hole, collect_nested, optimise};
use crate::bigquery::sql::syntax::ast::Query;
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::udf;
use crate::bigquery::sql::value::{Reader, Value, build};

/// What a subquery's rows become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// The one value, or NULL.
    Scalar,
    Array,
    /// Whether there are rows.
    Exists,
}

/// The keys of an IN subquery's values, and whether NULL is among them.
type Members = (HashSet<Vec<u8>>, bool);

/// A bound subquery.
struct Sub {
    bound: Bound,
    /// What it takes from around it, and the columns these are in its base.
    captures: Vec<(Tx, String)>,
    hole: Option<Arc<Hole>>,
    rid: String,
}

impl Context<'_> {
    /// `(SELECT ...)` as a value.
    ///
    /// # Errors
    /// As BigQuery says it.
    pub fn scalar_query(&self, env: &Env, query: &Query) -> Res<Tx> {
        let sub = self.sub(env, query)?;
        let ty = self.one_column(env, query, &sub, "Scalar subquery")?;
        self.apply(sub, Shape::Scalar, ty)
    }

    /// `ARRAY(SELECT ...)`.
    ///
    /// # Errors
    /// As BigQuery says it.
    pub fn array_query(&self, env: &Env, query: &Query) -> Res<Tx> {
        let sub = self.sub(env, query)?;
        let ty = self.one_column(env, query, &sub, "ARRAY subquery")?;
        if matches!(ty, Ty::Array(_)) {
            return Err(env.error(
                query.at,
                "Cannot use array subquery with column of type ARRAY because nested arrays are not supported",
            ));
        }
        self.apply(sub, Shape::Array, Ty::array(ty))
    }

    /// `EXISTS(SELECT ...)`.
    ///
    /// # Errors
    /// As BigQuery says it.
    pub fn exists_query(&self, env: &Env, query: &Query) -> Res<Tx> {
        let sub = self.sub(env, query)?;
        self.apply(sub, Shape::Exists, Ty::Bool)
    }

    /// `value IN (SELECT ...)`.
    ///
    /// # Errors
    /// As BigQuery says it.
    pub fn in_query(&self, env: &Env, at: usize, value: Tx, query: &Query) -> Res<Expr> {
        let sub = self.sub(env, query)?;
        let element = self.one_column(env, query, &sub, "Subquery of type IN")?;
        let probe = Tx::new(value.e.clone(), element.clone());
        let ty = supertype(&[&value, &probe]).filter(Ty::comparable).ok_or_else(|| {
            env.error(at, &format!("Cannot execute IN subquery with uncomparable types {} and {element}", value.ty))
        })?;
        let value = coerce(value, &ty)?;
        if sub.captures.is_empty() {
            let plan = self.prepared(&sub)?;
            let set: OnceLock<Result<Members, String>> = OnceLock::new();
            let from = element.clone();
            let to = ty.clone();
            let read = move || {
                let mut keys = HashSet::new();
                let mut unknown = false;
                for batch in collect_nested(plan.clone()).map_err(|e| e.message)? {
                    let reader = Reader::new(batch.column(0).as_ref(), &from);
                    for row in 0..batch.num_rows() {
                        let mut value = reader.get(row);
                        value = super::super::func::cast::cast_value(&value, &from, &to)?;
                        unknown |= value.is_null();
                        let mut key = Vec::new();
                        value.key(&mut key);
                        keys.insert(key);
                    }
                }
                Ok((keys, unknown))
            };
            let f = move |a: &[Value]| {
                let (keys, unknown) = set.get_or_init(&read).as_ref().map_err(Clone::clone)?;
                if keys.is_empty() {
                    return Ok(Value::Bool(false));
                }
                if a[0].is_null() {
                    return Ok(Value::Null);
                }
                if matches!(a[0], Value::Float(v) if v.is_nan()) {
                    return Ok(if *unknown { Value::Null } else { Value::Bool(false) });
                }
                let mut key = Vec::new();
                a[0].key(&mut key);
                Ok(if keys.contains(&key) {
                    Value::Bool(true)
                } else if *unknown {
                    Value::Null
                } else {
                    Value::Bool(false)
                })
            };
            return Ok(udf::rows(format!("in_query_{}", self.id()), vec![value.pair()], Ty::Bool, f));
        }
        let array = self.apply(sub, Shape::Array, Ty::array(element))?;
        let array = cast(array, &Ty::array(ty), false)?;
        Ok(udf::rows("in_subquery", vec![value.pair(), array.pair()], Ty::Bool, |a| {
            Ok(match &a[1] {
                Value::Array(items) if items.is_empty() => Value::Bool(false),
                Value::Array(items) => super::expr::contains(items, &a[0]),
                _ => Value::Bool(false),
            })
        }))
    }

    fn one_column(&self, env: &Env, query: &Query, sub: &Sub, what: &str) -> Res<Ty> {
        match sub.bound.cols.as_slice() {
            [col] => Ok(col.ty.clone()),
            _ => Err(env.error(
                query.at,
                &format!(
                    "{what} cannot have more than one column unless using SELECT AS STRUCT to build STRUCT values"
                ),
            )),
        }
    }

    /// Binds a subquery; again and again, until its base has all that it refers to.
    fn sub(&self, env: &Env, query: &Query) -> Res<Sub> {
        let captures = RefCell::new(Captures::default());
        let inner_env = Env { aggregates: env.aggregates, ..*env };
        let rid = self.id();
        loop {
            let known = captures.borrow().list.len();
            let (base, hole) = if known == 0 {
                (None, None)
            } else {
                let (base, hole) = self.base(&captures.borrow(), &rid)?;
                (Some(base), Some(hole))
            };
            let outer = Outer { parent: Some(&inner_env), captures: Some(&captures), base: base.as_ref() };
            match self.query(query, env.names, outer) {
                Ok(bound) => {
                    return Ok(Sub { bound, captures: captures.into_inner().list, hole, rid });
                }
                Err(e) if e.reason == RETRY && captures.borrow().list.len() > known => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn base(&self, captures: &Captures, rid: &str) -> Res<(Base, Arc<Hole>)> {
        let mut fields = vec![Field::new(rid, DataType::Int64, false)];
        fields.extend(captures.list.iter().map(|(tx, id)| Field::new(id, tx.ty.arrow(), true)));
        let hole = Hole::new(Arc::new(Schema::new(fields)));
        let scan = LogicalPlanBuilder::scan("base", provider_as_source(hole.clone()), None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(plan_error)?;
        let columns: Vec<Expr> = scan.schema().columns().into_iter().map(Expr::Column).collect();
        let carry: Vec<String> = captures.list.iter().map(|(_, id)| id.clone()).collect();
        let ids = std::iter::once(rid.to_owned()).chain(carry.clone());
        let plan = project(scan, columns.into_iter().zip(ids).collect())?;
        Ok((Base { plan, rid: rid.to_owned(), carry }, hole))
    }

    /// The plan as it will be run.
    fn prepared(&self, sub: &Sub) -> Res<LogicalPlan> {
        let mut items: Vec<(Expr, String)> = sub.bound.rid.iter().map(|rid| (column(rid), rid.clone())).collect();
        items.extend(sub.bound.cols.iter().map(|c| (column(&c.id), c.id.clone())));
        let plan = project(sub.bound.plan.clone(), items)?;
        let plan = optimise(&plan)?;
        self.note_reads(&plan);
        Ok(plan)
    }

    fn apply(&self, sub: Sub, shape: Shape, ret: Ty) -> Res<Tx> {
        let plan = self.prepared(&sub)?;
        let element = sub.bound.cols[0].ty.clone();
        let id = format!("subquery_{}", self.id());
        let Some(hole) = sub.hole.clone() else {
            let cell: OnceLock<Result<Value, String>> = OnceLock::new();
            let compute = move || {
                let batches = collect_nested(plan.clone()).map_err(|e| e.message)?;
                let mut values = Vec::new();
                let mut rows = 0;
                for batch in &batches {
                    rows += batch.num_rows();
                    if shape != Shape::Exists {
                        let reader = Reader::new(batch.column(0).as_ref(), &element);
                        values.extend((0..batch.num_rows()).map(|row| reader.get(row)));
                    }
                }
                shaped(shape, values, rows)
            };
            let f = move |_: &[Value]| cell.get_or_init(&compute).clone();
            return Ok(Tx::new(udf::rows(id, vec![], ret.clone(), f), ret));
        };
        let args: Vec<(Expr, Ty)> = sub.captures.iter().map(|(tx, _)| (tx.e.clone(), tx.ty.clone())).collect();
        let mut fields = vec![Field::new(&sub.rid, DataType::Int64, false)];
        fields.extend(sub.captures.iter().map(|(tx, id)| Field::new(id, tx.ty.arrow(), true)));
        let schema = Arc::new(Schema::new(fields));
        let out = ret.clone();
        // The hole is one: batches of one query take turns.
        let turn = Mutex::new(());
        let f = move |arrays: &[ArrayRef], rows: usize| -> Result<ArrayRef, String> {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            if rows == 0 {
                return build(&out, &[]);
            }
            let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..rows as i64))];
            columns.extend(arrays.iter().cloned());
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let batch =
                RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|e| e.to_string())?;
            hole.fill(vec![batch]);
            let batches = collect_nested(plan.clone()).map_err(|e| e.message);
            hole.fill(vec![]);
            let mut found: Vec<Vec<Value>> = vec![vec![]; rows];
            let mut counts = vec![0_usize; rows];
            for batch in &batches? {
                let rids = batch.column(0).as_primitive::<Int64Type>();
                let reader = Reader::new(batch.column(1).as_ref(), &element);
                for row in 0..batch.num_rows() {
                    let rid = rids.value(row) as usize;
                    counts[rid] += 1;
                    if shape != Shape::Exists {
                        found[rid].push(reader.get(row));
                    }
                }
            }
            let values =
                found.into_iter().zip(counts).map(|(v, n)| shaped(shape, v, n)).collect::<Result<Vec<_>, _>>()?;
            build(&out, &values)
        };
        Ok(Tx::new(udf::batch(id, args, ret.clone(), f), ret))
    }
}

fn shaped(shape: Shape, mut values: Vec<Value>, rows: usize) -> Result<Value, String> {
    match shape {
        Shape::Exists => Ok(Value::Bool(rows > 0)),
        Shape::Array => Ok(Value::Array(values)),
        Shape::Scalar if rows > 1 => Err("Scalar subquery produced more than one element".into()),
        Shape::Scalar => Ok(values.pop().unwrap_or(Value::Null)),
    }
}

/// The value of an expression without columns.
///
/// # Errors
/// When it has columns, or fails.
pub fn constant_value(tx: &Tx) -> Res<Value> {
    if let Some(value) = &tx.lit {
        return Ok(value.clone());
    }
    if !tx.e.column_refs().is_empty() {
        return Err(invalid("A constant expression was expected"));
    }
    let one = LogicalPlanBuilder::empty(true).build().map_err(plan_error)?;
    let plan = project(one, vec![(tx.e.clone(), "value".into())])?;
    let batches = collect_nested(plan)?;
    let batch = batches.iter().find(|b| b.num_rows() > 0);
    let batch = batch.ok_or_else(|| invalid("A constant expression gave no value"))?;
    Ok(Reader::new(batch.column(0).as_ref(), &tx.ty).get(0))
}
