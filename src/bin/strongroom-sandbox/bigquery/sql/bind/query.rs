//! Queries: WITH, set operations, ORDER BY and LIMIT, and what a bound query is.

use std::cell::RefCell;
use std::rc::Rc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use super::Context;
use super::coerce::coerce;
use super::expr::at_place;
use super::scope::{Captures, Cte, Env, Names, Scope, Tx, column, same_name};
use super::window::row_number;
use crate::bigquery::sql::error::{Res, invalid, unsupported};
use crate::bigquery::sql::func::sortable;
use crate::bigquery::sql::syntax::ast::{Expr as Ast, Kind, OrderItem, Query, SetExpr};
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::value::Value;

/// A column of a query's result.
#[derive(Debug, Clone)]
pub struct OutCol {
    /// `None` for an expression without a name.
    pub name: Option<String>,
    pub id: String,
    pub ty: Ty,
    /// A literal without a type of its own (NULL, 1): a set operation may give it another.
    pub lit: Option<Value>,
}

/// A bound query: a plan with just these columns, and the row number of the base if it has one.
#[derive(Debug, Clone)]
pub struct Bound {
    pub plan: LogicalPlan,
    pub cols: Vec<OutCol>,
    /// SELECT AS STRUCT, AS VALUE: the one column is the row.
    pub value: bool,
    pub rid: Option<String>,
}

/// The rows around a correlated subquery: a row number and the columns it refers to.
#[derive(Debug, Clone)]
pub struct Base {
    pub plan: LogicalPlan,
    pub rid: String,
    pub carry: Vec<String>,
}

/// What is around a query.
#[derive(Clone, Copy, Default)]
pub struct Outer<'e> {
    pub parent: Option<&'e Env<'e>>,
    pub captures: Option<&'e RefCell<Captures>>,
    pub base: Option<&'e Base>,
}

/// ORDER BY, LIMIT, OFFSET.
#[derive(Clone, Copy)]
pub struct Tail<'a> {
    pub order_by: &'a [OrderItem],
    pub limit: Option<&'a Ast>,
    pub offset: Option<&'a Ast>,
}

/// DataFusion's planning error as the engine's.
pub fn plan_error(e: impl std::fmt::Display) -> crate::core::ApiError {
    crate::bigquery::sql::exec::error_of(&e.to_string())
}

/// Some expressions of a plan's rows, each under a name.
///
/// # Errors
/// DataFusion's.
pub fn project(plan: LogicalPlan, items: Vec<(Expr, String)>) -> Res<LogicalPlan> {
    let exprs = items.into_iter().map(|(e, id)| match &e {
        Expr::Column(c) if c.relation.is_none() && c.name == id => e,
        _ => e.alias(id),
    });
    LogicalPlanBuilder::from(plan).project(exprs).and_then(LogicalPlanBuilder::build).map_err(plan_error)
}

/// All columns of a plan and some more.
///
/// # Errors
/// DataFusion's.
pub fn extend(plan: LogicalPlan, items: Vec<(Expr, String)>) -> Res<LogicalPlan> {
    if items.is_empty() {
        return Ok(plan);
    }
    let names: Vec<String> = plan.schema().fields().iter().map(|f| f.name().clone()).collect();
    let all = names.into_iter().map(|n| (column(&n), n)).chain(items).collect();
    project(plan, all)
}

/// # Errors
/// DataFusion's.
pub fn filter(plan: LogicalPlan, condition: Expr) -> Res<LogicalPlan> {
    LogicalPlanBuilder::from(plan).filter(condition).and_then(LogicalPlanBuilder::build).map_err(plan_error)
}

/// # Errors
/// DataFusion's.
pub fn distinct(plan: LogicalPlan) -> Res<LogicalPlan> {
    LogicalPlanBuilder::from(plan).distinct().and_then(LogicalPlanBuilder::build).map_err(plan_error)
}

/// A sort key as BigQuery orders: NULLs first going up, last going down, NaN below all numbers.
pub fn sort_key(id: &str, ty: &Ty, item: &OrderItem) -> Sort {
    Sort::new(sortable(column(id), ty), !item.desc, item.nulls_first.unwrap_or(!item.desc))
}

impl Context<'_> {
    /// Binds a query.
    ///
    /// # Errors
    /// As BigQuery says it.
    pub fn query(&self, query: &Query, names: &Names, outer: Outer) -> Res<Bound> {
        let mut inside = names.clone();
        for (name, with) in &query.with {
            let cte = Cte {
                name: name.text.clone(),
                query: Rc::new(with.clone()),
                before: None,
                working: None,
                recursive: query.recursive,
            };
            inside = inside.with_cte(cte);
        }
        let tail = Tail { order_by: &query.order_by, limit: query.limit.as_ref(), offset: query.offset.as_ref() };
        if let SetExpr::Select(select) = &query.body {
            return self.select(select, &inside, outer, tail);
        }
        let bound = self.set_expr(&query.body, &inside, outer)?;
        self.tail(bound, &inside, outer, tail)
    }

    fn set_expr(&self, body: &SetExpr, names: &Names, outer: Outer) -> Res<Bound> {
        match body {
            SetExpr::Select(select) => {
                self.select(select, names, outer, Tail { order_by: &[], limit: None, offset: None })
            }
            SetExpr::Query(query) => self.query(query, names, outer),
            SetExpr::Set { op, all, left, right, at } => {
                // Chains of UNION ALL lean to the left; they are walked without recursion.
                let mut chain = vec![(right, *at)];
                let mut first = left.as_ref();
                while let SetExpr::Set { op: o, all: a, left, right, at } = first {
                    if (o, a) != (op, all) {
                        break;
                    }
                    chain.push((right, *at));
                    first = left;
                }
                let mut bounds = vec![self.set_expr(first, names, outer)?];
                let mut last_at = *at;
                while let Some((next, at)) = chain.pop() {
                    bounds.push(self.set_expr(next, names, outer)?);
                    last_at = at;
                }
                self.combine(op, *all, bounds, names, last_at)
            }
        }
    }

    /// UNION, INTERSECT, EXCEPT of bound queries.
    ///
    /// # Errors
    /// Different numbers of columns, types without a common one.
    pub fn combine(&self, op: &str, all: bool, bounds: Vec<Bound>, names: &Names, at: usize) -> Res<Bound> {
        let count = bounds[0].cols.len();
        let place = names.place(at);
        let label = format!("{op} {}", if all { "ALL" } else { "DISTINCT" });
        if let Some((n, bad)) = bounds.iter().enumerate().find(|(_, b)| b.cols.len() != count) {
            return Err(invalid(format!(
                "Queries in {label} have mismatched column count; query 1 has {count} columns, query {} has {} columns at {place}",
                n + 1,
                bad.cols.len()
            )));
        }
        let mut types = Vec::with_capacity(count);
        for n in 0..count {
            let items: Vec<Tx> = bounds.iter().map(|b| b.cols[n].tx()).collect();
            let ty = super::coerce::supertype(&items.iter().collect::<Vec<_>>()).ok_or_else(|| {
                let shown: Vec<String> = items.iter().map(|i| i.ty.to_string()).collect();
                invalid(format!("Column {} in {label} has incompatible types: {} at {place}", n + 1, shown.join(", ")))
            })?;
            let compares = op != "UNION" || !all;
            if compares && !ty.groupable() {
                return Err(invalid(format!(
                    "Column {} in {label} has type that does not support set operation comparisons: {ty} at {place}",
                    n + 1
                )));
            }
            types.push(ty);
        }
        let ids: Vec<String> = types.iter().map(|_| self.id()).collect();
        let rid = bounds[0].rid.as_ref().map(|_| self.id());
        let mut plans = Vec::with_capacity(bounds.len());
        for bound in &bounds {
            let mut items: Vec<(Expr, String)> = Vec::new();
            if let (Some(from), Some(to)) = (&bound.rid, &rid) {
                items.push((column(from), to.clone()));
            }
            for ((col, ty), id) in bound.cols.iter().zip(&types).zip(&ids) {
                items.push((coerce(col.tx(), ty)?.e, id.clone()));
            }
            plans.push(project(bound.plan.clone(), items)?);
        }
        let mut plans = plans.into_iter();
        let Some(mut plan) = plans.next() else { return Err(invalid("A set operation needs queries")) };
        for next in plans {
            plan = match (op, all) {
                ("UNION", _) => LogicalPlanBuilder::from(plan).union(next).and_then(LogicalPlanBuilder::build),
                ("EXCEPT", false) => LogicalPlanBuilder::except(plan, next, false),
                ("INTERSECT", false) => LogicalPlanBuilder::intersect(plan, next, false),
                _ => return Err(unsupported(&label)),
            }
            .map_err(plan_error)?;
        }
        if op == "UNION" && !all {
            plan = distinct(plan)?;
        }
        // Set operations may qualify or rename: the names are set again.
        let schema_names: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let wanted = rid.iter().chain(&ids).cloned();
        let plan = project(plan, schema_names.into_iter().zip(wanted).collect())?;
        let cols = bounds[0].cols.iter().zip(ids).zip(types);
        let cols = cols.map(|((c, id), ty)| OutCol { name: c.name.clone(), id, ty, lit: None }).collect();
        Ok(Bound { plan, cols, value: bounds.iter().all(|b| b.value), rid })
    }

    /// ORDER BY and LIMIT over a query's result.
    fn tail(&self, bound: Bound, names: &Names, outer: Outer, tail: Tail) -> Res<Bound> {
        let mut plan = bound.plan.clone();
        let mut sorts = Vec::new();
        if !tail.order_by.is_empty() {
            let overlay: Vec<(String, Tx)> =
                bound.cols.iter().filter_map(|c| Some((c.name.clone()?, Tx::column(&c.id, c.ty.clone())))).collect();
            let scope = Scope::default();
            let env = Env {
                overlay: &overlay,
                parent: outer.parent,
                captures: outer.captures,
                ..Env::new(names, &scope, "ORDER BY clause")
            };
            let mut extra = Vec::new();
            for item in tail.order_by {
                let tx = match ordinal(&item.expr, bound.cols.len(), names, "ORDER BY")? {
                    Some(n) => bound.cols[n].tx(),
                    None => self.expr(&env, &item.expr)?,
                };
                order_type(&env, item, &tx)?;
                let id = self.id();
                sorts.push(sort_key(&id, &tx.ty, item));
                extra.push((tx.e, id));
            }
            plan = extend(plan, extra)?;
        }
        let plan = self.sort_and_limit(plan, sorts, names, tail, bound.rid.as_deref())?;
        let keep = bound.rid.iter().cloned().chain(bound.cols.iter().map(|c| c.id.clone()));
        let plan = project(plan, keep.map(|id| (column(&id), id)).collect())?;
        Ok(Bound { plan, ..bound })
    }

    /// Sorts and cuts; with a row number of a base, each of its rows for itself.
    ///
    /// # Errors
    /// LIMIT that is no constant.
    pub fn sort_and_limit(
        &self,
        mut plan: LogicalPlan,
        sorts: Vec<Sort>,
        names: &Names,
        tail: Tail,
        rid: Option<&str>,
    ) -> Res<LogicalPlan> {
        let limit = tail.limit.map(|l| self.count(l, names, "LIMIT")).transpose()?.flatten();
        let skip = tail.offset.map(|l| self.count(l, names, "OFFSET")).transpose()?.flatten().unwrap_or(0);
        if let (Some(rid), true) = (rid, limit.is_some() || skip > 0) {
            let id = self.id();
            plan = row_number(plan, vec![column(rid)], sorts.clone(), &id)?;
            let n = |v: usize| lit(ScalarValue::UInt64(Some(v as u64)));
            let mut condition = column(&id).gt(n(skip));
            if let Some(limit) = limit {
                condition = condition.and(column(&id).lt_eq(n(skip.saturating_add(limit))));
            }
            plan = filter(plan, condition)?;
        }
        let mut builder = LogicalPlanBuilder::from(plan);
        if !sorts.is_empty() {
            builder = builder.sort(sorts).map_err(plan_error)?;
        }
        if rid.is_none() && (limit.is_some() || skip > 0) {
            builder = builder.limit(skip, limit).map_err(plan_error)?;
        }
        builder.build().map_err(plan_error)
    }

    fn count(&self, ast: &Ast, names: &Names, what: &str) -> Res<Option<usize>> {
        let scope = Scope::default();
        let env = Env::new(names, &scope, "LIMIT clause");
        if matches!(ast.kind.as_ref(), Kind::Path(p) if p.len() == 1 && p[0].text.eq_ignore_ascii_case("ALL")) {
            return Ok(None);
        }
        let tx = self.expr(&env, ast)?;
        match tx.lit {
            Some(Value::Int(n)) if n >= 0 => Ok(Some(usize::try_from(n).unwrap_or(usize::MAX))),
            Some(Value::Null) => Err(env.error(ast.at, &format!("{what} must not be null"))),
            Some(Value::Int(_)) => Err(
                env.error(ast.at, &format!("Syntax error: {what} expects a non-negative integer literal or parameter"))
            ),
            _ => Err(env.error(ast.at, &format!("{what} expects an integer literal or parameter"))),
        }
    }

    /// A query as a table: in a subquery, only joined to the rows around it when it refers to them.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn derived(&self, query: &Query, names: &Names, outer: Outer) -> Res<Bound> {
        let (Some(_), Some(captures)) = (outer.base, outer.captures) else { return self.query(query, names, outer) };
        let before = captures.borrow().uses;
        let bound = self.query(query, names, outer)?;
        if captures.borrow().uses == before {
            self.query(query, names, Outer { base: None, ..outer })
        } else {
            Ok(bound)
        }
    }

    /// A query of WITH where it is referred to.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn cte(&self, cte: &Rc<Cte>, names: &Names, outer: Outer) -> Res<Bound> {
        if let Some(working) = &cte.working {
            return self.renamed(working);
        }
        let before = Names { ctes: cte.before.clone(), ..names.clone() };
        if cte.recursive && mentions(&cte.query, &cte.name) {
            return self.recursive(cte, &before, outer);
        }
        self.derived(&cte.query, &before, outer)
    }

    /// The same query with new names of columns, so that it can be joined to itself.
    fn renamed(&self, bound: &Bound) -> Res<Bound> {
        let mut items = Vec::new();
        let cols: Vec<OutCol> = bound
            .cols
            .iter()
            .map(|c| {
                let id = self.id();
                items.push((column(&c.id), id.clone()));
                OutCol { id, ..c.clone() }
            })
            .collect();
        Ok(Bound { plan: project(bound.plan.clone(), items)?, cols, value: bound.value, rid: None })
    }

    fn recursive(&self, cte: &Rc<Cte>, before: &Names, outer: Outer) -> Res<Bound> {
        use datafusion::catalog::cte_worktable::CteWorkTable;
        use datafusion::datasource::provider_as_source;
        let SetExpr::Set { op: "UNION", all, left, right, .. } = &cte.query.body else {
            return Err(invalid(format!(
                "Recursive query {} must be a UNION of a non-recursive and a recursive term",
                cte.name
            )));
        };
        if outer.base.is_some() {
            return Err(unsupported("a recursive query within a correlated subquery"));
        }
        let start = self.set_expr(left, before, outer)?;
        let table = format!("work_{}", self.id());
        let schema = start.plan.schema().as_arrow().clone();
        let work = CteWorkTable::new(&table, std::sync::Arc::new(schema));
        let scan = LogicalPlanBuilder::scan(table.clone(), provider_as_source(std::sync::Arc::new(work)), None)
            .map_err(plan_error)?;
        let scan = scan.build().map_err(plan_error)?;
        let columns: Vec<Expr> = scan.schema().columns().into_iter().map(Expr::Column).collect();
        let ids = start.cols.iter().map(|c| c.id.clone());
        let working = Bound { plan: project(scan, columns.into_iter().zip(ids).collect())?, ..start.clone() };
        let inside = before.with_cte(Cte {
            name: cte.name.clone(),
            query: cte.query.clone(),
            before: None,
            working: Some(working),
            recursive: true,
        });
        let next = self.set_expr(right, &inside, outer)?;
        if next.cols.len() != start.cols.len() {
            return Err(invalid(format!("Queries in recursive query {} have mismatched column count", cte.name)));
        }
        let mut items = Vec::new();
        for (from, to) in next.cols.iter().zip(&start.cols) {
            items.push((coerce(from.tx(), &to.ty)?.e, to.id.clone()));
        }
        let next = project(next.plan, items)?;
        let plan = LogicalPlanBuilder::from(start.plan.clone())
            .to_recursive_query(table, next, !*all)
            .and_then(LogicalPlanBuilder::build)
            .map_err(plan_error)?;
        let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let ids = start.cols.iter().map(|c| c.id.clone());
        let plan = project(plan, columns.into_iter().zip(ids).collect())?;
        let cols = start.cols.into_iter().map(|c| OutCol { lit: None, ..c }).collect();
        Ok(Bound { plan, cols, value: start.value, rid: None })
    }
}

impl OutCol {
    pub fn tx(&self) -> Tx {
        Tx { lit: self.lit.clone(), soft: self.lit.is_some(), ..Tx::column(&self.id, self.ty.clone()) }
    }
}

/// `ORDER BY 2`, `GROUP BY 2`: the position, from zero.
///
/// # Errors
/// Out of range.
pub fn ordinal(ast: &Ast, count: usize, names: &Names, clause: &str) -> Res<Option<usize>> {
    let Kind::Int(text) = ast.kind.as_ref() else { return Ok(None) };
    match text.parse::<usize>() {
        Ok(n) if (1..=count).contains(&n) => Ok(Some(n - 1)),
        _ => Err(invalid(format!("{clause} is out of SELECT column number range: {text} at {}", names.place(ast.at)))),
    }
}

/// # Errors
/// A type without an order.
pub fn order_type(env: &Env, item: &OrderItem, tx: &Tx) -> Res<()> {
    if tx.ty.orderable() {
        return Ok(());
    }
    let error = invalid(format!("ORDER BY does not support expressions of type {}", tx.ty));
    Err(at_place(env, item.expr.at, error))
}

/// Whether a query's FROM clauses name a table.
fn mentions(query: &Query, name: &str) -> bool {
    use crate::bigquery::sql::syntax::ast::From;
    fn from(f: &From, name: &str) -> bool {
        match f {
            From::Table { path, .. } => path.parts.len() == 1 && same_name(&path.parts[0], name),
            From::Query { query, .. } => mentions(query, name),
            From::Join { left, right, .. } => from(left, name) || from(right, name),
            From::Pivot { input, .. } | From::Unpivot { input, .. } => from(input, name),
            From::Unnest { .. } | From::Function { .. } => false,
        }
    }
    fn body(b: &SetExpr, name: &str) -> bool {
        match b {
            SetExpr::Select(s) => s.from.as_ref().is_some_and(|f| from(f, name)),
            SetExpr::Query(q) => mentions(q, name),
            SetExpr::Set { left, right, .. } => body(left, name) || body(right, name),
        }
    }
    query.with.iter().any(|(_, q)| mentions(q, name)) || body(&query.body, name)
}
