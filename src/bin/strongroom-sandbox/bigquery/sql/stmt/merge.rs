//! MERGE.

use std::collections::{HashMap, HashSet};

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::compute::{concat, filter as filter_array};
use arrow::datatypes::Int64Type;
use datafusion::logical_expr::{Case, Expr, LogicalPlanBuilder, lit};
use datafusion::prelude::JoinType;

use super::dml::{Target, merged};
use crate::bigquery::sql::bind::Context;
use crate::bigquery::sql::bind::from::Rel;
use crate::bigquery::sql::bind::query::{Outer, plan_error};
use crate::bigquery::sql::bind::scope::{Env, Names, Tx, column};
use crate::bigquery::sql::error::{Res, invalid};
use crate::bigquery::sql::syntax::ast::{Expr as Ast, From, Kind, MergeDo, MergeWhen, Name, Path};
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::{Affected, Outcome};

type Clause = (MergeWhen, Option<Ast>, MergeDo);

/// What a clause does to one row: new values by column, or deletion.
struct Effects {
    deleted: HashSet<i64>,
    /// By column: the new values, and which row takes which.
    updates: Vec<(usize, ArrayRef, HashMap<i64, usize>)>,
    updated: HashSet<i64>,
    inserted: Vec<Vec<ArrayRef>>,
    inserted_rows: usize,
}

impl Context<'_> {
    /// MERGE: the pairs that match, the target's rows and the source's rows that do not, each by the first clause that fits.
    ///
    /// # Errors
    /// As BigQuery says it; also when two source rows change one target row.
    #[allow(clippy::too_many_arguments, reason = "the parts of the statement")]
    pub fn merge(
        &self,
        path: &Path,
        alias: Option<&Name>,
        source: &From,
        on: &Ast,
        clauses: &[Clause],
        names: &Names,
    ) -> Res<Outcome> {
        let target = self.target(path, names)?;
        let (target_rel, target_row) = self.target_rel(&target, alias)?;
        // The source is computed once, so that all clauses see the same rows.
        let (source_rel, source_row) = self.materialise(source, names)?;
        let mut scope = target_rel.scope.clone();
        scope.sources.extend(source_rel.scope.sources.clone());
        scope.using.extend(source_rel.scope.using.clone());
        let env = Env::new(names, &scope, "MERGE ON clause");
        let condition = self.condition(&env, on, "MERGE ON clause")?;
        let plan = LogicalPlanBuilder::from(target_rel.plan.clone())
            .join_on(source_rel.plan.clone(), JoinType::Inner, [condition])
            .and_then(LogicalPlanBuilder::build)
            .map_err(plan_error)?;
        let pairs = Rel { plan, scope };
        let mut effects = Effects {
            deleted: HashSet::new(),
            updates: vec![],
            updated: HashSet::new(),
            inserted: vec![],
            inserted_rows: 0,
        };
        // All pairs, to know which rows of either side are in none.
        let (matched, _) = self.run_columns(
            pairs.plan.clone(),
            vec![(column(&target_row), self.id()), (column(&source_row), self.id())],
            &[Ty::Int64, Ty::Int64],
        )?;
        let ids = |n: usize| matched[n].as_primitive::<Int64Type>().values().iter().copied().collect::<HashSet<i64>>();
        let (target_matched, source_matched) = (ids(0), ids(1));
        self.apply_clauses(&target, &pairs, &target_row, clauses, &MergeWhen::Matched, names, &mut effects, None)?;
        self.apply_clauses(
            &target,
            &target_rel,
            &target_row,
            clauses,
            &MergeWhen::NotMatchedBySource,
            names,
            &mut effects,
            Some(&target_matched),
        )?;
        let inserting = Inserting { rel: source_rel, row: source_row };
        self.apply_inserts(&target, &inserting, clauses, names, &mut effects, &source_matched)?;
        self.merge_outcome(target, effects)
    }

    fn merge_outcome(&self, target: Target, effects: Effects) -> Res<Outcome> {
        let mut columns = target.columns.clone();
        for (n, new, by_row) in &effects.updates {
            columns[*n] = merged(&columns[*n], new, target.rows, by_row)?;
        }
        let mask =
            BooleanArray::from((0..target.rows as i64).map(|r| !effects.deleted.contains(&r)).collect::<Vec<_>>());
        let mut rows = target.rows - effects.deleted.len();
        for (n, column) in columns.iter_mut().enumerate() {
            let kept = filter_array(column, &mask).map_err(plan_error)?;
            let parts: Vec<&dyn arrow::array::Array> =
                std::iter::once(kept.as_ref()).chain(effects.inserted.iter().map(|i| i[n].as_ref())).collect();
            *column = concat(&parts).map_err(plan_error)?;
        }
        rows += effects.inserted_rows;
        let affected = Affected {
            inserted: effects.inserted_rows as i64,
            updated: effects.updated.len() as i64,
            deleted: effects.deleted.len() as i64,
        };
        self.replaced("MERGE", target, &columns, rows, affected)
    }

    fn materialise(&self, source: &From, names: &Names) -> Res<(Rel, String)> {
        let rel = self.from(source, names, Outer::default(), None)?;
        let mut items = Vec::new();
        let mut types = Vec::new();
        for source in &rel.scope.sources {
            for col in &source.cols {
                items.push((col.tx.e.clone(), self.id()));
                types.push(col.tx.ty.clone());
            }
            if let Some(value) = &source.value {
                items.push((value.e.clone(), self.id()));
                types.push(value.ty.clone());
            }
        }
        let (columns, rows) = self.run_columns(rel.plan.clone(), items, &types)?;
        let labels: Vec<String> = types.iter().map(|_| String::new()).collect();
        let (memory, row) = self.memory(&labels, &types, &columns, rows, None, 0)?;
        // The same names, over the computed columns.
        let mut computed = memory.scope.sources[0].cols.iter().map(|c| c.tx.clone());
        let mut scope = rel.scope;
        for source in &mut scope.sources {
            for col in &mut source.cols {
                if let Some(tx) = computed.next() {
                    col.tx = tx;
                }
            }
            if let Some(value) = &mut source.value
                && let Some(tx) = computed.next()
            {
                *value = tx;
            }
        }
        scope.using.clear();
        Ok((Rel { plan: memory.plan, scope }, row))
    }

    /// The number of the first clause that fits a row, as a column; -1 for none.
    fn chosen(&self, env: &Env, clauses: &[&Clause]) -> Res<Expr> {
        let mut branches = Vec::new();
        for (n, (_, condition, _)) in clauses.iter().enumerate() {
            let fits = match condition {
                Some(ast) => self.condition(env, ast, "MERGE WHEN clause")?,
                None => lit(true),
            };
            branches.push((Box::new(fits), Box::new(lit(n as i64))));
        }
        Ok(Expr::Case(Case::new(None, branches, Some(Box::new(lit(-1_i64))))))
    }

    #[allow(clippy::too_many_arguments, reason = "one step of `merge`")]
    fn apply_clauses(
        &self,
        target: &Target,
        rel: &Rel,
        row: &str,
        clauses: &[Clause],
        when: &MergeWhen,
        names: &Names,
        effects: &mut Effects,
        not_in: Option<&HashSet<i64>>,
    ) -> Res<()> {
        let mine: Vec<&Clause> = clauses.iter().filter(|c| c.0 == *when).collect();
        if mine.is_empty() {
            return Ok(());
        }
        let env = Env::new(names, &rel.scope, "MERGE");
        let choice = self.id();
        let plan = crate::bigquery::sql::bind::query::extend(
            rel.plan.clone(),
            vec![(self.chosen(&env, &mine)?, choice.clone())],
        )?;
        let mut seen: HashSet<i64> = HashSet::new();
        for (n, (_, _, action)) in mine.iter().enumerate() {
            let here = crate::bigquery::sql::bind::query::filter(plan.clone(), column(&choice).eq(lit(n as i64)))?;
            let new: Vec<(usize, Tx)> = match action {
                MergeDo::Update(set) => self.assignments(&env, target, set)?,
                MergeDo::Delete => vec![],
                MergeDo::Insert(..) => {
                    return Err(invalid("INSERT is not allowed in WHEN MATCHED and WHEN NOT MATCHED BY SOURCE"));
                }
            };
            let mut items = vec![(column(row), self.id())];
            let mut types = vec![Ty::Int64];
            for (n, tx) in &new {
                items.push((tx.e.clone(), self.id()));
                types.push(target.types[*n].clone());
            }
            let (found, _) = self.run_columns(here, items, &types)?;
            let mut by_row = HashMap::new();
            for (i, row) in found[0].as_primitive::<Int64Type>().values().iter().enumerate() {
                if not_in.is_some_and(|m| m.contains(row)) {
                    continue;
                }
                if !seen.insert(*row) {
                    return Err(invalid("UPDATE/MERGE must match at most one source row for each target row"));
                }
                by_row.insert(*row, i);
            }
            if matches!(action, MergeDo::Delete) {
                effects.deleted.extend(by_row.keys());
            } else {
                effects.updated.extend(by_row.keys());
                for (i, (n, _)) in new.iter().enumerate() {
                    effects.updates.push((*n, found[i + 1].clone(), by_row.clone()));
                }
            }
        }
        Ok(())
    }

    fn apply_inserts(
        &self,
        target: &Target,
        source: &Inserting,
        clauses: &[Clause],
        names: &Names,
        effects: &mut Effects,
        matched: &HashSet<i64>,
    ) -> Res<()> {
        let mine: Vec<&Clause> = clauses.iter().filter(|c| c.0 == MergeWhen::NotMatched).collect();
        if mine.is_empty() {
            return Ok(());
        }
        let env = Env::new(names, &source.rel.scope, "MERGE INSERT");
        let choice = self.id();
        let plan = crate::bigquery::sql::bind::query::extend(
            source.rel.plan.clone(),
            vec![(self.chosen(&env, &mine)?, choice.clone())],
        )?;
        for (n, (_, _, action)) in mine.iter().enumerate() {
            let MergeDo::Insert(columns, values) = action else {
                return Err(invalid("Only INSERT is allowed in WHEN NOT MATCHED BY TARGET"));
            };
            let positions: Vec<usize> = if columns.is_empty() {
                (0..target.visible()).collect()
            } else {
                columns.iter().map(|c| target.position(names, c)).collect::<Res<_>>()?
            };
            let row_values: Vec<Tx> = match values {
                None => {
                    crate::bigquery::sql::bind::select::star(&source.rel.scope).into_iter().map(|(_, tx)| tx).collect()
                }
                Some(values) if values.len() == positions.len() => {
                    let pairs = values.iter().zip(&positions);
                    pairs
                        .map(|(ast, p)| {
                            if *ast.kind == Kind::Default { self.default_of(target, *p) } else { self.expr(&env, ast) }
                        })
                        .collect::<Res<_>>()?
                }
                Some(values) => {
                    return Err(invalid(format!(
                        "Inserted row has wrong column count; Has {}, expected {}",
                        values.len(),
                        positions.len()
                    )));
                }
            };
            if row_values.len() != positions.len() {
                return Err(invalid(format!(
                    "Inserted row has wrong column count; Has {}, expected {}",
                    row_values.len(),
                    positions.len()
                )));
            }
            let mut items = vec![(column(&source.row), self.id())];
            let mut types = vec![Ty::Int64];
            for (i, ty) in target.types.iter().enumerate() {
                let tx = match positions.iter().position(|p| *p == i) {
                    Some(v) => self.assign(&env, 0, row_values[v].clone(), &target.fields[i])?,
                    None => self.default_of(target, i)?,
                };
                items.push((tx.e, self.id()));
                types.push(ty.clone());
            }
            let here = crate::bigquery::sql::bind::query::filter(plan.clone(), column(&choice).eq(lit(n as i64)))?;
            let (found, _) = self.run_columns(here, items, &types)?;
            let fresh: Vec<bool> =
                found[0].as_primitive::<Int64Type>().values().iter().map(|r| !matched.contains(r)).collect();
            effects.inserted_rows += fresh.iter().filter(|f| **f).count();
            let mask = BooleanArray::from(fresh);
            let kept =
                found[1..].iter().map(|c| filter_array(c, &mask)).collect::<Result<Vec<_>, _>>().map_err(plan_error)?;
            effects.inserted.push(kept);
        }
        Ok(())
    }
}

/// The source's rows, as they may be inserted.
struct Inserting {
    rel: Rel,
    row: String,
}
