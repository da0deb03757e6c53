//! SELECT: from FROM to LIMIT.

use std::cell::RefCell;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use super::Context;
use super::aggregate::{Aggregates, GroupSets};
use super::coerce::coerce;
use super::expr::{implied_name, make_struct};
use super::from::Rel;
use super::query::{
    Bound, OutCol, Outer, Tail, distinct, extend, filter, order_type, ordinal, plan_error, project, sort_key,
};
use super::scope::{Env, Names, Scope, ScopeCol, Source, Tx, column, same_name};
use super::window::Windows;
use crate::bigquery::sql::error::{Res, invalid};
use crate::bigquery::sql::syntax::ast::{Expr as Ast, GroupBy, GroupItem, Item, Kind, Select, SelectAs};
use crate::bigquery::sql::ty::Ty;

/// A bound item of the SELECT list.
#[derive(Debug, Clone)]
struct Selected {
    name: Option<String>,
    tx: Tx,
    at: usize,
}

impl Context<'_> {
    /// Binds a SELECT with the ORDER BY and LIMIT that follow it.
    ///
    /// # Errors
    /// As BigQuery says it.
    pub fn select(&self, select: &Select, names: &Names, outer: Outer, tail: Tail) -> Res<Bound> {
        let start = match outer.base {
            Some(base) => Rel { plan: base.plan.clone(), scope: Scope::default() },
            None => Rel { plan: LogicalPlanBuilder::empty(true).build().map_err(plan_error)?, scope: Scope::default() },
        };
        let rel = match &select.from {
            Some(from) => self.from(from, names, outer, outer.base.map(|_| start))?,
            None => start,
        };
        let aggregates = RefCell::new(Aggregates::default());
        let windows = RefCell::new(Windows::default());
        let plain =
            Env { parent: outer.parent, captures: outer.captures, ..Env::new(names, &rel.scope, "WHERE clause") };
        let windows_ast = RefCell::new(select.windows.clone());
        windows.borrow_mut().named = windows_ast.into_inner();
        let mut plan = rel.plan.clone();
        if let Some(condition) = &select.filter {
            plan = filter(plan, self.condition(&plain, condition, "WHERE clause")?)?;
        }
        let listing = Env { aggregates: Some(&aggregates), windows: Some(&windows), clause: "SELECT list", ..plain };
        let mut items = Vec::new();
        for item in &select.items {
            self.item(&listing, item, &mut items)?;
        }
        if items.is_empty() {
            return Err(invalid(format!("SELECT * with EXCEPT leaves no columns at {}", names.place(select.at))));
        }
        let overlay: Vec<(String, Tx)> = items.iter().filter_map(|i| Some((i.name.clone()?, i.tx.clone()))).collect();

        let group = self.groups(&plain, select, &items, &overlay, names)?;
        let with_aliases = Env { overlay: &overlay, ..listing };
        let mut having = None;
        if let Some(condition) = &select.having {
            let env = Env { windows: None, clause: "HAVING clause", ..with_aliases };
            having = Some(self.condition(&env, condition, "HAVING clause")?);
        }
        let mut qualify = None;
        if let Some(condition) = &select.qualify {
            qualify =
                Some(self.condition(&Env { clause: "QUALIFY clause", ..with_aliases }, condition, "QUALIFY clause")?);
        }
        // ORDER BY: positions, aliases, expressions.
        let mut orders: Vec<Tx> = Vec::new();
        for item in tail.order_by {
            let env = Env { clause: "ORDER BY clause", ..with_aliases };
            let tx = match ordinal(&item.expr, items.len(), names, "ORDER BY")? {
                Some(n) => items[n].tx.clone(),
                None => self.expr(&env, &item.expr)?,
            };
            order_type(&env, item, &tx)?;
            orders.push(tx);
        }

        let mut windows = windows.into_inner();
        let aggregates = aggregates.into_inner();
        let grouped = group.is_some() || !aggregates.is_empty() || having.is_some();
        if grouped {
            let sets = self.resolve_all(group.unwrap_or_else(GroupSets::whole), &items, &aggregates, &windows);
            if sets.sets.len() > 1 && sets.nested() {
                return Err(crate::bigquery::sql::error::unsupported("grouping sets with a key within another key"));
            }
            let (aggregated, keys) = self.aggregate(plan, sets, &aggregates, outer.base)?;
            plan = aggregated;
            let mut allowed: Vec<String> = plan.schema().fields().iter().map(|f| f.name().clone()).collect();
            allowed.extend(windows.ids());
            let rewrite = |e: Expr, at: usize, what: &str| regroup(e, &keys, &allowed, &rel.scope, names, at, what);
            for item in &mut items {
                item.tx.e = rewrite(item.tx.e.clone(), item.at, "SELECT list")?;
            }
            having =
                having.map(|e| rewrite(e, select.having.as_ref().map_or(0, |h| h.at), "HAVING clause")).transpose()?;
            qualify = qualify.map(|e| rewrite(e, select.at, "QUALIFY clause")).transpose()?;
            for (order, item) in orders.iter_mut().zip(tail.order_by) {
                order.e = rewrite(order.e.clone(), item.expr.at, "ORDER BY clause")?;
            }
            windows.rewrite(&mut |e| rewrite(e, select.at, "analytic function"))?;
            if let Some(condition) = having {
                plan = filter(plan, condition)?;
            }
        }
        let no_windows = windows.ids().is_empty();
        if !no_windows {
            plan = self.apply_windows(plan, windows, outer.base.map(|b| b.rid.as_str()))?;
        }
        if let Some(condition) = qualify {
            if no_windows {
                return Err(invalid(format!(
                    "The QUALIFY clause requires analytic functions to be present at {}",
                    names.place(select.at)
                )));
            }
            plan = filter(plan, condition)?;
        }
        self.finish(plan, select, items, orders, names, outer, tail)
    }

    /// DISTINCT, the projection, ORDER BY, LIMIT.
    #[allow(clippy::too_many_arguments, reason = "one step of `select`")]
    fn finish(
        &self,
        plan: LogicalPlan,
        select: &Select,
        items: Vec<Selected>,
        orders: Vec<Tx>,
        names: &Names,
        outer: Outer,
        tail: Tail,
    ) -> Res<Bound> {
        let items = match select.select_as {
            SelectAs::Plain => items,
            SelectAs::Struct => {
                let fields = items.into_iter().map(|i| (i.name.unwrap_or_default(), i.tx)).collect();
                vec![Selected { name: None, tx: make_struct(fields), at: select.at }]
            }
            SelectAs::Value if items.len() == 1 => items,
            SelectAs::Value => {
                return Err(invalid(format!(
                    "SELECT AS VALUE query must have exactly one column at {}",
                    names.place(select.at)
                )));
            }
        };
        let value = select.select_as != SelectAs::Plain;
        let mut out: Vec<(Expr, String)> = Vec::new();
        let rid = outer.base.map(|b| {
            let id = self.id();
            out.push((column(&b.rid), id.clone()));
            id
        });
        let mut cols = Vec::with_capacity(items.len());
        for item in &items {
            let id = self.id();
            out.push((item.tx.e.clone(), id.clone()));
            let lit = if item.tx.soft { item.tx.lit.clone() } else { None };
            cols.push(OutCol { name: item.name.clone(), id, ty: item.tx.ty.clone(), lit });
        }
        let mut plan = plan;
        let mut sorts = Vec::new();
        if select.distinct {
            if let Some(bad) = items.iter().find(|i| !i.tx.ty.groupable()) {
                return Err(invalid(format!(
                    "Column of type {} cannot be used in SELECT DISTINCT at {}",
                    bad.tx.ty,
                    names.place(bad.at)
                )));
            }
            for (n, item) in items.iter().enumerate() {
                if matches!(item.tx.ty, Ty::Float64 | Ty::Interval) {
                    out[n + usize::from(rid.is_some())].0 = crate::bigquery::sql::func::group_key(item.tx.clone());
                }
            }
            plan = distinct(project(plan, out)?)?;
            let keys: Vec<(Expr, String)> =
                items.iter().map(|i| i.tx.e.clone()).zip(cols.iter().map(|c| c.id.clone())).collect();
            let allowed: Vec<String> = plan.schema().fields().iter().map(|f| f.name().clone()).collect();
            let mut extra = Vec::new();
            for (order, item) in orders.into_iter().zip(tail.order_by) {
                let e = regroup(order.e, &keys, &allowed, &Scope::default(), names, item.expr.at, "ORDER BY clause").map_err(|_| {
                    invalid(format!(
                        "ORDER BY clause expression references a column which is not visible after SELECT DISTINCT at {}",
                        names.place(item.expr.at)
                    ))
                })?;
                let id = self.id();
                sorts.push(sort_key(&id, &order.ty, item));
                extra.push((e, id));
            }
            plan = extend(plan, extra)?;
        } else {
            for (order, item) in orders.into_iter().zip(tail.order_by) {
                let id = self.id();
                sorts.push(sort_key(&id, &order.ty, item));
                out.push((order.e, id));
            }
            plan = project(plan, out)?;
        }
        let plain = sorts.is_empty() && tail.limit.is_none() && tail.offset.is_none();
        if !plain {
            plan = self.sort_and_limit(plan, sorts, names, tail, rid.as_deref())?;
            let keep = rid.iter().cloned().chain(cols.iter().map(|c| c.id.clone()));
            plan = project(plan, keep.map(|id| (column(&id), id)).collect())?;
        }
        Ok(Bound { plan, cols, value, rid })
    }

    fn item(&self, env: &Env, item: &Item, out: &mut Vec<Selected>) -> Res<()> {
        match item {
            Item::Expr(ast, alias) => {
                let tx = self.expr(env, ast)?;
                let name = alias.as_ref().map(|a| a.text.clone()).or_else(|| implied_name(ast));
                out.push(Selected { name, tx, at: ast.at });
            }
            Item::Star { of, except, replace, at } => {
                let mut cols = match of {
                    None => {
                        if env.scope.sources.is_empty() {
                            return Err(env.error(*at, "SELECT * must have a FROM clause"));
                        }
                        star(env.scope)
                    }
                    Some(of) => self.star_of(env, of)?,
                };
                for name in except {
                    let before = cols.len();
                    cols.retain(|(n, _)| !same_name(n, &name.text));
                    if cols.len() == before {
                        return Err(
                            env.error(name.at, &format!("Column {} in SELECT * EXCEPT list does not exist", name.text))
                        );
                    }
                }
                for (ast, name) in replace {
                    let tx = self.expr(env, ast)?;
                    let mut found = false;
                    for col in cols.iter_mut().filter(|(n, _)| same_name(n, &name.text)) {
                        col.1 = tx.clone();
                        found = true;
                    }
                    if !found {
                        return Err(env
                            .error(name.at, &format!("Column {} in SELECT * REPLACE list does not exist", name.text)));
                    }
                }
                let named = |n: String| if n.is_empty() { None } else { Some(n) };
                out.extend(cols.into_iter().map(|(name, tx)| Selected { name: named(name), tx, at: *at }));
            }
        }
        Ok(())
    }

    fn star_of(&self, env: &Env, of: &Ast) -> Res<Vec<(String, Tx)>> {
        if let Kind::Path(names) = of.kind.as_ref()
            && let [name] = names.as_slice()
            && !env.overlay.iter().any(|(n, _)| same_name(n, &name.text))
            && let Some(source) = env.source(&name.text)
        {
            return Ok(star_source(&source, true));
        }
        let tx = self.expr(env, of)?;
        let Ty::Struct(fields) = &tx.ty else {
            return Err(env.error(of.at, &format!("Dot-star is not supported for type {}", tx.ty)));
        };
        let count = fields.len();
        let names: Vec<String> = fields.iter().map(|f| f.0.clone()).collect();
        Ok((0..count).map(|n| (names[n].clone(), super::expr::struct_field(tx.clone(), n))).collect())
    }

    /// The keys of GROUP BY.
    fn groups(
        &self,
        plain: &Env,
        select: &Select,
        items: &[Selected],
        overlay: &[(String, Tx)],
        names: &Names,
    ) -> Res<Option<GroupSets>> {
        let env = Env { overlay, clause: "GROUP BY clause", ..*plain };
        let mut sets = GroupSets { keys: vec![], sets: vec![vec![]], all: false };
        let list = match &select.group_by {
            GroupBy::None => return Ok(None),
            GroupBy::All => return Ok(Some(GroupSets { all: true, ..sets })),
            GroupBy::Keys(list) => list,
        };
        for item in list {
            let alternatives = self.group_item(&env, item, items, names, &mut sets.keys)?;
            // Items multiply: each set so far with each alternative.
            sets.sets = sets
                .sets
                .iter()
                .flat_map(|s| alternatives.iter().map(move |a| [s.clone(), a.clone()].concat()))
                .collect();
        }
        Ok(Some(sets))
    }

    fn group_item(
        &self,
        env: &Env,
        item: &GroupItem,
        items: &[Selected],
        names: &Names,
        keys: &mut Vec<(Tx, String)>,
    ) -> Res<Vec<Vec<usize>>> {
        let mut key = |ast: &Ast| -> Res<usize> {
            let tx = match ordinal(ast, items.len(), names, "GROUP BY")? {
                Some(n) => items[n].tx.clone(),
                None => self.expr(env, ast)?,
            };
            if !tx.ty.groupable() {
                return Err(env.error(ast.at, &format!("Grouping by expressions of type {} is not allowed", tx.ty)));
            }
            if let Some(n) = keys.iter().position(|(k, _)| k.e == tx.e) {
                return Ok(n);
            }
            keys.push((tx, self.id()));
            Ok(keys.len() - 1)
        };
        Ok(match item {
            GroupItem::Key(ast) => vec![vec![key(ast)?]],
            GroupItem::Tuple(asts) => vec![asts.iter().map(&mut key).collect::<Res<_>>()?],
            GroupItem::Rollup(groups) => {
                let groups =
                    groups.iter().map(|g| g.iter().map(&mut key).collect::<Res<Vec<_>>>()).collect::<Res<Vec<_>>>()?;
                (0..=groups.len()).rev().map(|n| groups[..n].concat()).collect()
            }
            GroupItem::Cube(groups) => {
                let groups =
                    groups.iter().map(|g| g.iter().map(&mut key).collect::<Res<Vec<_>>>()).collect::<Res<Vec<_>>>()?;
                if groups.len() > 8 {
                    return Err(invalid("CUBE with more than 8 elements is not supported by the sandbox's SQL engine"));
                }
                let all = 1_usize << groups.len();
                let pick = |mask: usize| {
                    groups.iter().enumerate().filter(move |(n, _)| mask >> n & 1 == 1).flat_map(|(_, g)| g.clone())
                };
                (0..all).rev().map(|mask| pick(mask).collect()).collect()
            }
            GroupItem::Sets(list) => {
                let mut out = Vec::new();
                for item in list {
                    out.extend(self.group_item(env, item, items, names, keys)?);
                }
                out
            }
        })
    }

    /// GROUP BY ALL: every item without an aggregate or a window is a key.
    fn resolve_all(
        &self,
        mut sets: GroupSets,
        items: &[Selected],
        aggregates: &Aggregates,
        windows: &Windows,
    ) -> GroupSets {
        if !sets.all {
            return sets;
        }
        let computed: Vec<String> = aggregates.ids().into_iter().chain(windows.ids()).collect();
        for item in items {
            let mut plain = item.tx.lit.is_none();
            let _ = item.tx.e.apply(|e| {
                if let Expr::Column(c) = e
                    && computed.contains(&c.name)
                {
                    plain = false;
                }
                Ok(TreeNodeRecursion::Continue)
            });
            if plain && item.tx.ty.groupable() {
                sets.keys.push((item.tx.clone(), self.id()));
            }
        }
        sets.sets = vec![(0..sets.keys.len()).collect()];
        sets
    }
}

/// What `SELECT *` stands for.
pub fn star(scope: &Scope) -> Vec<(String, Tx)> {
    let using = scope.using.iter().map(|c| (c.name.clone(), c.tx.clone()));
    using.chain(scope.sources.iter().flat_map(|s| star_source(s, false))).collect()
}

fn star_source(source: &Source, merged_too: bool) -> Vec<(String, Tx)> {
    let visible = |c: &&ScopeCol| !c.hidden && (merged_too || !c.merged);
    source.cols.iter().filter(visible).map(|c| (c.name.clone(), c.tx.clone())).collect()
}

/// An expression over the rows before grouping as one over the groups: keys become columns, and no other column may be left.
pub fn regroup(
    e: Expr,
    keys: &[(Expr, String)],
    allowed: &[String],
    scope: &Scope,
    names: &Names,
    at: usize,
    what: &str,
) -> Res<Expr> {
    let mut stray: Option<String> = None;
    let result = e.transform_down(|node| {
        if let Some((_, id)) = keys.iter().find(|(k, _)| *k == node) {
            return Ok(Transformed::new(column(id), true, TreeNodeRecursion::Jump));
        }
        if let Expr::Column(c) = &node
            && !allowed.contains(&c.name)
        {
            stray.get_or_insert(c.name.clone());
        }
        Ok(Transformed::no(node))
    });
    let e = result.map_err(plan_error)?.data;
    let Some(stray) = stray else { return Ok(e) };
    let is_stray = |tx: &Tx| matches!(&tx.e, Expr::Column(c) if c.name == stray);
    let found = scope.sources.iter().find_map(|s| {
        let column = s.cols.iter().find(|c| is_stray(&c.tx))?;
        Some(match &s.alias {
            Some(alias) if s.value.is_none() => format!("{alias}.{}", column.name),
            _ => column.name.clone(),
        })
    });
    let shown = found.map(|f| f.rsplit('.').next().unwrap_or_default().to_owned()).unwrap_or_else(|| "x".into());
    Err(invalid(format!(
        "{what} expression references column {shown} which is neither grouped nor aggregated at {}",
        names.place(at)
    )))
}

/// All columns of a bound query, coerced to types by position.
///
/// # Errors
/// Types that do not coerce.
pub fn coerced(bound: &Bound, types: &[Ty]) -> Res<Vec<Tx>> {
    bound.cols.iter().zip(types).map(|(c, ty)| coerce(c.tx(), ty)).collect()
}
