//! GROUP BY and aggregate functions.

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::prelude::JoinType;

use super::Context;
use super::coerce::constant;
use super::query::{Base, plan_error, project};
use super::scope::{Env, Tx, column};
use crate::bigquery::sql::error::Res;
use crate::bigquery::sql::func::aggregate::{Parts, Raw};
use crate::bigquery::sql::func::group_key;
use crate::bigquery::sql::value::Value;

/// The aggregates of a SELECT, each computed once.
#[derive(Debug, Default)]
pub struct Aggregates {
    raws: Vec<(Raw, String)>,
}

/// The sets of keys that rows are grouped by: one, but for ROLLUP, CUBE and GROUPING SETS.
#[derive(Debug)]
pub struct GroupSets {
    pub keys: Vec<(Tx, String)>,
    pub sets: Vec<Vec<usize>>,
    /// GROUP BY ALL, not yet resolved.
    pub all: bool,
}

impl GroupSets {
    /// Whether one key is a part of another.
    pub fn nested(&self) -> bool {
        let contains = |outer: &Expr, inner: &Expr| {
            let mut found = false;
            let _ = outer.apply(|e| {
                found |= e == inner;
                Ok(TreeNodeRecursion::Continue)
            });
            found
        };
        self.keys
            .iter()
            .enumerate()
            .any(|(n, (a, _))| self.keys.iter().enumerate().any(|(m, (b, _))| n != m && contains(&a.e, &b.e)))
    }

    /// No keys: all rows are one group.
    pub fn whole() -> Self {
        Self { keys: vec![], sets: vec![vec![]], all: false }
    }
}

impl Aggregates {
    pub fn is_empty(&self) -> bool {
        self.raws.is_empty()
    }

    pub fn ids(&self) -> Vec<String> {
        self.raws.iter().map(|(_, id)| id.clone()).collect()
    }
}

impl Context<'_> {
    /// Notes an aggregate and gives the expression of its result over the groups.
    ///
    /// # Errors
    /// Where no aggregate may stand.
    pub fn note_aggregate(&self, env: &Env, at: usize, name: &str, parts: Parts) -> Res<Tx> {
        let Some(aggregates) = env.aggregates else {
            return Err(env.error(at, &format!("Aggregate function {name} not allowed in {}", env.clause)));
        };
        let mut ids = Vec::new();
        for raw in parts.raws {
            let mut aggregates = aggregates.borrow_mut();
            let known = aggregates.raws.iter().find(|(r, _)| r.e == raw.e).map(|(_, id)| id.clone());
            ids.push(match known {
                Some(id) => id,
                None => {
                    let id = self.id();
                    aggregates.raws.push((raw, id.clone()));
                    id
                }
            });
        }
        Ok((parts.finish)(ids.iter().map(|id| column(id)).collect()))
    }

    /// Groups: the plan with a column for each key and each aggregate, and what the keys were computed from.
    ///
    /// # Errors
    /// DataFusion's.
    pub fn aggregate(
        &self,
        plan: LogicalPlan,
        sets: GroupSets,
        aggregates: &Aggregates,
        base: Option<&Base>,
    ) -> Res<(LogicalPlan, Vec<(Expr, String)>)> {
        let carry: Vec<String> =
            base.map(|b| std::iter::once(b.rid.clone()).chain(b.carry.clone()).collect()).unwrap_or_default();
        // Keys and arguments become columns first, so that the aggregation is over columns alone.
        let mut input: Vec<(Expr, String)> = carry.iter().map(|id| (column(id), id.clone())).collect();
        for (key, id) in &sets.keys {
            input.push((group_key(key.clone()), id.clone()));
        }
        let mut calls = Vec::new();
        for (raw, id) in &aggregates.raws {
            let mut args = Vec::new();
            for arg in &raw.args {
                if matches!(arg, Expr::Literal(..)) {
                    args.push(arg.clone());
                    continue;
                }
                let known = input.iter().position(|(e, _)| e == arg);
                let name = match known {
                    Some(n) => input[n].1.clone(),
                    None => {
                        let name = self.id();
                        input.push((arg.clone(), name.clone()));
                        name
                    }
                };
                args.push(column(&name));
            }
            calls.push(raw.call(args).alias(id.clone()));
        }
        if input.is_empty() {
            // COUNT(*) over no columns at all.
            input.push((lit(1_i64), self.id()));
        }
        let plan = project(plan, input)?;
        let mut union: Option<LogicalPlan> = None;
        for set in &sets.sets {
            let grouping: Vec<Expr> =
                carry.iter().map(|id| column(id)).chain(set.iter().map(|n| column(&sets.keys[*n].1))).collect();
            let mut grouped = if calls.is_empty() {
                let keys = carry.iter().cloned().chain(set.iter().map(|n| sets.keys[*n].1.clone()));
                let mut keys: Vec<(Expr, String)> = keys.map(|id| (column(&id), id)).collect();
                if keys.is_empty() {
                    // HAVING without keys and aggregates: one row.
                    keys.push((lit(1_i64), self.id()));
                    let one = LogicalPlanBuilder::empty(true).build().map_err(plan_error)?;
                    project(one, keys)?
                } else {
                    super::query::distinct(project(plan.clone(), keys)?)?
                }
            } else {
                LogicalPlanBuilder::from(plan.clone())
                    .aggregate(grouping, calls.clone())
                    .and_then(LogicalPlanBuilder::build)
                    .map_err(plan_error)?
            };
            if set.is_empty() && carry.is_empty() {
                // One row it is; and no filter may move below it: over no rows there is still this one.
                grouped = LogicalPlanBuilder::from(grouped)
                    .limit(0, Some(1))
                    .and_then(LogicalPlanBuilder::build)
                    .map_err(plan_error)?;
            }
            if let (Some(base), true) = (base, set.is_empty()) {
                grouped = self.restore(grouped, base, aggregates)?;
            }
            // Every set has all columns, in one order.
            let mut out: Vec<(Expr, String)> = carry.iter().map(|id| (column(id), id.clone())).collect();
            for (n, (key, id)) in sets.keys.iter().enumerate() {
                let e = if set.contains(&n) { column(id) } else { constant(&key.ty, &Value::Null)? };
                out.push((e, id.clone()));
            }
            out.extend(aggregates.raws.iter().map(|(_, id)| (column(id), id.clone())));
            if out.is_empty() {
                out.push((lit(1_i64), self.id()));
            }
            let names: Vec<String> = out.iter().map(|o| o.1.clone()).collect();
            grouped = project(grouped, out)?;
            union = Some(match union {
                None => grouped,
                Some(plan) => {
                    let both = LogicalPlanBuilder::from(plan).union(grouped).and_then(LogicalPlanBuilder::build);
                    let both = both.map_err(plan_error)?;
                    let columns: Vec<Expr> = both.schema().columns().into_iter().map(Expr::Column).collect();
                    project(both, columns.into_iter().zip(names).collect())?
                }
            });
        }
        let keys = sets.keys.iter().map(|(key, id)| (key.e.clone(), id.clone())).collect();
        match union {
            Some(plan) => Ok((plan, keys)),
            None => Err(crate::bigquery::sql::error::invalid("GROUPING SETS needs at least one set")),
        }
    }

    /// One row for each row of the base, also where no rows were left to aggregate.
    fn restore(&self, grouped: LogicalPlan, base: &Base, aggregates: &Aggregates) -> Res<LogicalPlan> {
        let found = self.id();
        let renamed: Vec<(String, String)> = aggregates.ids().into_iter().map(|id| (id, self.id())).collect();
        let mut items = vec![(column(&base.rid), found.clone())];
        items.extend(renamed.iter().map(|(from, to)| (column(from), to.clone())));
        let right = project(grouped, items)?;
        let joined = LogicalPlanBuilder::from(base.plan.clone())
            .join_on(right, JoinType::Left, [column(&base.rid).eq(column(&found))])
            .and_then(LogicalPlanBuilder::build)
            .map_err(plan_error)?;
        let mut out = vec![(column(&base.rid), base.rid.clone())];
        out.extend(base.carry.iter().map(|id| (column(id), id.clone())));
        for ((raw, id), (_, now)) in aggregates.raws.iter().zip(&renamed) {
            let e = match &raw.empty {
                None => column(now),
                Some(value) => {
                    when(column(&found).is_null(), scalar(value)).otherwise(column(now)).map_err(plan_error)?
                }
            };
            out.push((e, id.clone()));
        }
        project(joined, out)
    }
}

fn scalar(value: &ScalarValue) -> Expr {
    Expr::Literal(value.clone(), None)
}
