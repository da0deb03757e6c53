//! FROM: tables, subqueries, arrays, joins.

use datafusion::common::Column;
use datafusion::common::{NullHandling, UnnestOptions};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::JoinType;

use super::Context;
use super::coerce::{coerce, unify};
use super::expr::{at_place, choose, struct_field};
use super::query::{Bound, Outer, extend, filter, plan_error};
use super::scope::{Env, Names, Scope, ScopeCol, Source, Tx, column, same_name};
use super::subquery::constant_value;
use crate::bigquery::sql::error::{Res, invalid, unsupported};
use crate::bigquery::sql::func::array::with_offsets;
use crate::bigquery::sql::syntax::ast::{
    Expr as Ast, From, GroupBy, Item, JoinKind, Kind, Name, Query, Select, SelectAs, SetExpr,
};
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::value::Value;

/// A plan and the names for its columns.
#[derive(Debug, Clone)]
pub struct Rel {
    pub plan: LogicalPlan,
    pub scope: Scope,
}

impl Context<'_> {
    /// Binds a FROM clause. With `left`, its rows are joined to those of `left`, and arrays of `left` may be unnested.
    ///
    /// # Errors
    /// As BigQuery says it.
    pub fn from(&self, from: &From, names: &Names, outer: Outer, left: Option<Rel>) -> Res<Rel> {
        match from {
            From::Table { path, names: parts, alias, as_of, offset, .. } => {
                if let From::Table { sample: Some(_), .. } = from {
                    return Err(unsupported("TABLESAMPLE"));
                }
                if let Some(array) = self.array_path(parts, names, outer, left.as_ref()) {
                    let implied = parts.last().cloned();
                    let alias = alias.clone().or(implied);
                    return self.unnest(&array, alias.as_ref(), offset.as_ref(), names, outer, left, None);
                }
                if let Some(offset) = offset {
                    return Err(invalid(format!(
                        "WITH OFFSET can only be used with array scans at {}",
                        names.place(offset.at)
                    )));
                }
                let (bound, hidden) = self.named_table(path, as_of.as_ref(), names, outer)?;
                let name = alias.as_ref().map(|a| a.text.clone()).or_else(|| path.parts.last().cloned());
                self.beside(left, bound, hidden, name, outer, names, path.at)
            }
            From::Query { query, alias } => {
                let bound = self.derived(query, names, outer)?;
                self.beside(left, bound, vec![], alias.as_ref().map(|a| a.text.clone()), outer, names, query.at)
            }
            From::Unnest { value, alias, offset, .. } => {
                self.unnest(value, alias.as_ref(), offset.as_ref(), names, outer, left, None)
            }
            From::Function { name, .. } => {
                let full: Vec<&str> = name.iter().map(|n| n.text.as_str()).collect();
                Err(invalid(format!(
                    "Table-valued function not found: {} at {}",
                    full.join("."),
                    names.place(name[0].at)
                )))
            }
            From::Join { kind, left: l, right: r, on, using, at } => {
                let (kind, on) = (*kind, on.as_ref());
                let has_outer = left.is_some();
                let first = self.from(l, names, outer, left)?;
                if let JoinKind::Comma = kind
                    && self.is_array(leftmost(r), names, outer, &first)
                    && !has_right_or_full(r)
                {
                    return self.from(r, names, outer, Some(first));
                }
                if self.is_array(r, names, outer, &first) {
                    return self.join_array(kind, first, r, on, using, names, outer, *at);
                }
                if has_outer && matches!(kind, JoinKind::Right | JoinKind::Full) {
                    return Err(unsupported("RIGHT and FULL JOIN within a correlated subquery"));
                }
                // Within a correlated subquery the right side may bring the rows around it along.
                let (second, link) = self.right_side(r, names, outer, has_outer)?;
                self.join(kind, first, second, link, on, using, names, outer, *at)
            }
            From::Pivot { input, aggregates, column, values, alias } => {
                self.pivot(input, aggregates, column, values, alias.as_ref(), names, outer, left)
            }
            From::Unpivot { input, values, name, columns, nulls, alias } => {
                self.unpivot(input, values, name, columns, *nulls, alias.as_ref(), names, outer, left)
            }
        }
    }

    /// The right side of a join; its second part links it to the base's row number.
    fn right_side(&self, from: &From, names: &Names, outer: Outer, in_base: bool) -> Res<(Rel, Option<String>)> {
        let plain = Outer { base: None, ..outer };
        if let (From::Query { query, alias }, true) = (from, in_base) {
            let bound = self.derived(query, names, outer)?;
            let link = bound.rid.clone();
            let name = alias.as_ref().map(|a| a.text.clone());
            return Ok((Rel { plan: bound.plan.clone(), scope: scope_of(&bound, vec![], name) }, link));
        }
        Ok((self.from(from, names, plain, None)?, None))
    }

    /// A table beside what is on its left.
    #[allow(clippy::too_many_arguments, reason = "one step of `from`")]
    pub(super) fn beside(
        &self,
        left: Option<Rel>,
        bound: Bound,
        hidden: Vec<(String, Tx)>,
        name: Option<String>,
        outer: Outer,
        names: &Names,
        at: usize,
    ) -> Res<Rel> {
        let scope = scope_of(&bound, hidden, name);
        let Some(left) = left else { return Ok(Rel { plan: bound.plan, scope }) };
        let merged = merge(left.scope, scope, names, at)?;
        let plan = match (&bound.rid, outer.base) {
            (Some(rid), Some(base)) => LogicalPlanBuilder::from(left.plan)
                .join_on(bound.plan, JoinType::Inner, [column(&base.rid).eq(column(rid))])
                .and_then(LogicalPlanBuilder::build),
            _ => LogicalPlanBuilder::from(left.plan).cross_join(bound.plan).and_then(LogicalPlanBuilder::build),
        };
        Ok(Rel { plan: plan.map_err(plan_error)?, scope: merged })
    }

    /// `t.items` in FROM: the path as an expression, when its first name is a row here or around.
    fn array_path(&self, parts: &[Name], names: &Names, outer: Outer, left: Option<&Rel>) -> Option<Ast> {
        let empty = Scope::default();
        let env = Env { parent: outer.parent, ..Env::new(names, left.map_or(&empty, |l| &l.scope), "FROM clause") };
        (parts.len() > 1 && env.has_source(&parts[0].text))
            .then(|| Ast { at: parts[0].at, kind: Box::new(Kind::Path(parts.to_vec())) })
    }

    fn is_array(&self, from: &From, names: &Names, outer: Outer, left: &Rel) -> bool {
        match from {
            From::Unnest { .. } => true,
            From::Table { names: parts, .. } => self.array_path(parts, names, outer, Some(left)).is_some(),
            _ => false,
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one step of `from`")]
    fn join_array(
        &self,
        kind: JoinKind,
        left: Rel,
        right: &From,
        on: Option<&Ast>,
        using: &[Name],
        names: &Names,
        outer: Outer,
        at: usize,
    ) -> Res<Rel> {
        let keep_left = match kind {
            JoinKind::Inner | JoinKind::Cross | JoinKind::Comma => false,
            JoinKind::Left => true,
            JoinKind::Right | JoinKind::Full => return Err(unsupported("RIGHT and FULL JOIN with an array")),
        };
        let (value, alias, offset) = match right {
            From::Unnest { value, alias, offset, .. } => (value.clone(), alias.clone(), offset.clone()),
            From::Table { names: parts, alias, offset, .. } => {
                let value = Ast { at: parts[0].at, kind: Box::new(Kind::Path(parts.clone())) };
                (value, alias.clone().or_else(|| parts.last().cloned()), offset.clone())
            }
            _ => return Err(invalid(format!("An array was expected at {}", names.place(at)))),
        };
        let left_scope = left.scope.clone();
        let always = on.is_none_or(|on| matches!(on.kind.as_ref(), Kind::Bool(true)));
        if keep_left && (!always || !using.is_empty()) {
            return self.left_join_array(left, &value, alias.as_ref(), offset.as_ref(), on, using, names, outer);
        }
        let mut rel =
            self.unnest(&value, alias.as_ref(), offset.as_ref(), names, outer, Some(left), Some(keep_left))?;
        if let Some(on) = on {
            let env =
                Env { parent: outer.parent, captures: outer.captures, ..Env::new(names, &rel.scope, "JOIN ON clause") };
            let condition = self.condition(&env, on, "JOIN ON clause")?;
            rel.plan = filter(rel.plan, condition)?;
        }
        if !using.is_empty() {
            let right = Scope { sources: rel.scope.sources[left_scope.sources.len()..].to_vec(), using: vec![] };
            let (conditions, merged) = self.using(kind, &left_scope, &right, using, names)?;
            for condition in conditions {
                rel.plan = filter(rel.plan, condition)?;
            }
            apply_using(&mut rel.scope, using, merged);
        }
        Ok(rel)
    }

    /// LEFT JOIN of an array with a condition.
    #[allow(clippy::too_many_arguments, reason = "one step of `from`")]
    fn left_join_array(
        &self,
        left: Rel,
        value: &Ast,
        alias: Option<&Name>,
        offset: Option<&Name>,
        on: Option<&Ast>,
        using: &[Name],
        names: &Names,
        outer: Outer,
    ) -> Res<Rel> {
        // The elements are filtered first: UNNEST(ARRAY(SELECT AS VALUE x FROM UNNEST(array) AS x WHERE condition)).
        let (Some(alias), Some(on), None, true) = (alias, on, offset, using.is_empty()) else {
            return Err(unsupported("LEFT JOIN of an array with this condition"));
        };
        let at = value.at;
        let node = |kind: Kind| Ast { at, kind: Box::new(kind) };
        let select = Select {
            at,
            distinct: false,
            select_as: SelectAs::Value,
            items: vec![Item::Expr(node(Kind::Path(vec![alias.clone()])), None)],
            from: Some(From::Unnest { value: value.clone(), alias: Some(alias.clone()), offset: None, at }),
            filter: Some(on.clone()),
            group_by: GroupBy::None,
            having: None,
            qualify: None,
            windows: vec![],
        };
        let query = Query {
            at,
            recursive: false,
            with: vec![],
            body: SetExpr::Select(Box::new(select)),
            order_by: vec![],
            limit: None,
            offset: None,
        };
        let filtered = node(Kind::ArrayQuery(Box::new(query)));
        self.unnest(&filtered, Some(alias), None, names, outer, Some(left), Some(true))
    }

    /// Unnests an array beside `left`. `keep_left`: rows of `left` without elements stay, as in LEFT JOIN.
    #[allow(clippy::too_many_arguments, reason = "one step of `from`")]
    fn unnest(
        &self,
        value: &Ast,
        alias: Option<&Name>,
        offset: Option<&Name>,
        names: &Names,
        outer: Outer,
        left: Option<Rel>,
        keep_left: Option<bool>,
    ) -> Res<Rel> {
        let left = match left {
            Some(left) => left,
            None => Rel { plan: LogicalPlanBuilder::empty(true).build().map_err(plan_error)?, scope: Scope::default() },
        };
        let env = Env { parent: outer.parent, captures: outer.captures, ..Env::new(names, &left.scope, "FROM clause") };
        let array = self.expr(&env, value)?;
        let Ty::Array(element) = array.ty.clone() else {
            if array.is_null_literal() {
                return Err(env.error(value.at, "UNNEST cannot be applied to an untyped NULL"));
            }
            return Err(env.error(
                value.at,
                &format!("Values referenced in UNNEST must be arrays. UNNEST contains expression of type {}", array.ty),
            ));
        };
        let list = self.id();
        let pair_ty = Ty::structure(vec![(String::new(), (*element).clone()), (String::new(), Ty::Int64)]);
        let items = if offset.is_some() { with_offsets(array) } else { array };
        let plan = extend(left.plan, vec![(items.e, list.clone())])?;
        let handling = if keep_left == Some(true) { NullHandling::PreserveAndExpandEmpty } else { NullHandling::Drop };
        let options = UnnestOptions { null_handling: handling, recursions: vec![] };
        let plan = LogicalPlanBuilder::from(plan)
            .unnest_column_with_options(Column::new_unqualified(&list), options)
            .and_then(LogicalPlanBuilder::build)
            .map_err(plan_error)?;
        // Each reference to the element goes through a column of its own.
        let value_id = self.id();
        let mut extra = Vec::new();
        let mut offset_col = None;
        if let Some(offset) = offset {
            let pair = Tx::column(&list, pair_ty);
            extra.push((struct_field(pair.clone(), 0).e, value_id.clone()));
            let id = self.id();
            extra.push((struct_field(pair, 1).e, id.clone()));
            offset_col = Some((offset.text.clone(), Tx::column(&id, Ty::Int64)));
        } else {
            extra.push((column(&list), value_id.clone()));
        }
        let plan = extend(plan, extra)?;
        let row = Tx::column(&value_id, (*element).clone());
        let mut cols = element_columns(&row, alias.map(|a| a.text.as_str()));
        let offset_col = offset_col.map(|(name, tx)| ScopeCol { name, tx, hidden: false, merged: false });
        let source = Source { alias: alias.map(|a| a.text.clone()), cols: std::mem::take(&mut cols), value: Some(row) };
        let mut right = Scope { sources: vec![source], using: vec![] };
        if let Some(col) = offset_col {
            right.sources.push(Source { alias: None, cols: vec![col], value: None });
        }
        Ok(Rel { plan, scope: merge(left.scope, right, names, value.at)? })
    }

    #[allow(clippy::too_many_arguments, reason = "one step of `from`")]
    fn join(
        &self,
        kind: JoinKind,
        left: Rel,
        right: Rel,
        link: Option<String>,
        on: Option<&Ast>,
        using: &[Name],
        names: &Names,
        outer: Outer,
        at: usize,
    ) -> Res<Rel> {
        let mut scope = merge(left.scope.clone(), right.scope.clone(), names, at)?;
        let mut conditions: Vec<Expr> = Vec::new();
        if let (Some(link), Some(base)) = (link, outer.base) {
            conditions.push(column(&base.rid).eq(column(&link)));
        }
        let mut merged = Vec::new();
        if let Some(on) = on {
            let env =
                Env { parent: outer.parent, captures: outer.captures, ..Env::new(names, &scope, "JOIN ON clause") };
            conditions.push(self.condition(&env, on, "JOIN ON clause")?);
        }
        if !using.is_empty() {
            let (equal, cols) = self.using(kind, &left.scope, &right.scope, using, names)?;
            conditions.extend(equal);
            merged = cols;
        }
        let join_type = match kind {
            JoinKind::Left => JoinType::Left,
            JoinKind::Right => JoinType::Right,
            JoinKind::Full => JoinType::Full,
            JoinKind::Inner | JoinKind::Cross | JoinKind::Comma => JoinType::Inner,
        };
        if on.is_none() && using.is_empty() && join_type != JoinType::Inner {
            return Err(invalid(format!("Syntax error: Expected keyword ON or keyword USING at {}", names.place(at))));
        }
        let builder = LogicalPlanBuilder::from(left.plan);
        let plan = if conditions.is_empty() {
            builder.cross_join(right.plan)
        } else {
            builder.join_on(right.plan, join_type, conditions)
        };
        let plan = plan.and_then(LogicalPlanBuilder::build).map_err(plan_error)?;
        if !using.is_empty() {
            apply_using(&mut scope, using, merged);
        }
        Ok(Rel { plan, scope })
    }

    /// USING: the conditions, and the merged columns.
    fn using(
        &self,
        kind: JoinKind,
        left: &Scope,
        right: &Scope,
        using: &[Name],
        names: &Names,
    ) -> Res<(Vec<Expr>, Vec<ScopeCol>)> {
        let mut conditions = Vec::new();
        let mut merged = Vec::new();
        let id = || self.id();
        for name in using {
            let missing = |side: &str| {
                invalid(format!(
                    "Column {} in USING clause not found on {side} side of join at {}",
                    name.text,
                    names.place(name.at)
                ))
            };
            let l = Env::new(names, left, "USING").lookup(name, &id)?.ok_or_else(|| missing("left"))?;
            let r = Env::new(names, right, "USING").lookup(name, &id)?.ok_or_else(|| missing("right"))?;
            conditions.push(self.compare("=", l.clone(), r.clone())?.e);
            let tx = match kind {
                JoinKind::Right => r,
                JoinKind::Full => {
                    let (both, _) = unify(vec![l, r], "USING")?;
                    let present = Expr::IsNotNull(Box::new(both[0].e.clone()));
                    choose(vec![present], both, "USING")?
                }
                _ => l,
            };
            merged.push(ScopeCol { name: name.text.clone(), tx, hidden: false, merged: false });
        }
        Ok((conditions, merged))
    }

    /// A constant of a clause (AS OF).
    ///
    /// # Errors
    /// When it is no constant of the type.
    pub fn constant_of(&self, names: &Names, ast: &Ast, ty: &Ty) -> Res<Value> {
        let scope = Scope::default();
        let env = Env::new(names, &scope, "a constant expression");
        let tx = self.expr(&env, ast)?;
        let tx = coerce(tx, ty).map_err(|e| at_place(&env, ast.at, e))?;
        constant_value(&tx)
    }

    /// The milliseconds of FOR SYSTEM_TIME AS OF.
    ///
    /// # Errors
    /// When it is no constant TIMESTAMP.
    pub fn as_of_ms(&self, names: &Names, as_of: Option<&Ast>) -> Res<Option<i64>> {
        let Some(ast) = as_of else { return Ok(None) };
        match self.constant_of(names, ast, &Ty::Timestamp)? {
            Value::Timestamp(us) => Ok(Some(us.div_euclid(1000))),
            _ => Err(invalid(format!("FOR SYSTEM_TIME AS OF expression must not be NULL at {}", names.place(ast.at)))),
        }
    }
}

/// The columns that a row value offers: a struct's fields, or the value itself under the alias.
pub fn element_columns(row: &Tx, alias: Option<&str>) -> Vec<ScopeCol> {
    match &row.ty {
        Ty::Struct(fields) => fields
            .iter()
            .enumerate()
            .map(|(n, (name, _))| ScopeCol {
                name: name.clone(),
                tx: struct_field(row.clone(), n),
                hidden: false,
                merged: false,
            })
            .collect(),
        _ => {
            vec![ScopeCol { name: alias.unwrap_or_default().to_owned(), tx: row.clone(), hidden: false, merged: false }]
        }
    }
}

/// The names of a bound query's columns as a table.
pub fn scope_of(bound: &Bound, hidden: Vec<(String, Tx)>, alias: Option<String>) -> Scope {
    let source = if bound.value {
        let row = Tx::column(&bound.cols[0].id, bound.cols[0].ty.clone());
        Source { cols: element_columns(&row, alias.as_deref()), alias, value: Some(row) }
    } else {
        let visible = bound.cols.iter().map(|c| ScopeCol {
            name: c.name.clone().unwrap_or_default(),
            tx: Tx::column(&c.id, c.ty.clone()),
            hidden: false,
            merged: false,
        });
        let hidden = hidden.into_iter().map(|(name, tx)| ScopeCol { name, tx, hidden: true, merged: false });
        Source { alias, cols: visible.chain(hidden).collect(), value: None }
    };
    Scope { sources: vec![source], using: vec![] }
}

fn merge(left: Scope, right: Scope, names: &Names, at: usize) -> Res<Scope> {
    for alias in right.sources.iter().filter_map(|s| s.alias.as_deref()) {
        if left.sources.iter().any(|s| s.alias.as_deref().is_some_and(|a| same_name(a, alias))) {
            return Err(invalid(format!(
                "Duplicate table alias {alias} in the same FROM clause at {}",
                names.place(at)
            )));
        }
    }
    let mut scope = left;
    scope.sources.extend(right.sources);
    scope.using.extend(right.using);
    Ok(scope)
}

fn apply_using(scope: &mut Scope, using: &[Name], merged: Vec<ScopeCol>) {
    for name in using {
        for col in scope.sources.iter_mut().flat_map(|s| &mut s.cols) {
            col.merged |= same_name(&col.name, &name.text);
        }
        scope.using.retain(|c| !same_name(&c.name, &name.text));
    }
    let earlier = std::mem::take(&mut scope.using);
    scope.using = merged.into_iter().chain(earlier).collect();
}

fn leftmost(from: &From) -> &From {
    match from {
        From::Join { left, .. } => leftmost(left),
        other => other,
    }
}

fn has_right_or_full(from: &From) -> bool {
    match from {
        From::Join { kind, left, right, .. } => {
            matches!(kind, JoinKind::Right | JoinKind::Full) || has_right_or_full(left) || has_right_or_full(right)
        }
        _ => false,
    }
}
