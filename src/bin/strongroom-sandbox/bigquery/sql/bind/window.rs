//! Analytic functions.

use datafusion::common::ScalarValue;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{NullTreatment, Sort, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
};

use super::Context;
use super::query::{extend, order_type, plan_error, project};
use super::scope::{Env, Tx, column, same_name};
use crate::bigquery::sql::error::{Res, invalid, unsupported};
use crate::bigquery::sql::func::aggregate::Parts;
use crate::bigquery::sql::func::{group_key, sortable};
use crate::bigquery::sql::syntax::ast::{Bound as FrameBound, Frame, Name, Window};
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::value::Value;

/// One window computation, over expressions that are not columns yet.
#[derive(Debug, Clone)]
pub struct WindowCall {
    pub id: String,
    pub fun: WindowFunctionDefinition,
    pub args: Vec<Expr>,
    pub over: Over,
    pub distinct: bool,
    pub ignore_nulls: bool,
}

/// A bound OVER clause.
#[derive(Debug, Clone)]
pub struct Over {
    pub partition_by: Vec<Expr>,
    /// Expression, descending, nulls first.
    pub order_by: Vec<(Expr, bool, bool)>,
    pub frame: WindowFrame,
    /// Whether the query states the frame.
    pub framed: bool,
}

/// The analytic functions of a SELECT.
#[derive(Debug, Default)]
pub struct Windows {
    calls: Vec<WindowCall>,
    /// `WINDOW name AS (...)`.
    pub named: Vec<(Name, Window)>,
}

impl Windows {
    pub fn ids(&self) -> Vec<String> {
        self.calls.iter().map(|c| c.id.clone()).collect()
    }

    /// Rewrites every expression.
    ///
    /// # Errors
    /// What the rewriting says.
    pub fn rewrite(&mut self, f: &mut dyn FnMut(Expr) -> Res<Expr>) -> Res<()> {
        for call in &mut self.calls {
            for e in call.args.iter_mut().chain(&mut call.over.partition_by) {
                *e = f(e.clone())?;
            }
            for (e, _, _) in &mut call.over.order_by {
                *e = f(e.clone())?;
            }
        }
        Ok(())
    }
}

/// Numbers rows from one within partitions.
///
/// # Errors
/// DataFusion's.
pub fn row_number(plan: LogicalPlan, partition_by: Vec<Expr>, order_by: Vec<Sort>, id: &str) -> Res<LogicalPlan> {
    let frame = WindowFrame::new(if order_by.is_empty() { None } else { Some(false) });
    let fun = WindowFunction {
        fun: WindowFunctionDefinition::WindowUDF(row_number_udwf()),
        params: WindowFunctionParams {
            args: vec![],
            partition_by,
            order_by,
            window_frame: frame,
            filter: None,
            null_treatment: None,
            distinct: false,
        },
    };
    computed(plan, vec![(Expr::WindowFunction(Box::new(fun)), id.to_owned())])
}

/// Adds window computations under names. DataFusion names them itself: they are renamed after.
fn computed(plan: LogicalPlan, calls: Vec<(Expr, String)>) -> Res<LogicalPlan> {
    let mut out: Vec<(Expr, String)> =
        plan.schema().fields().iter().map(|f| (column(f.name()), f.name().clone())).collect();
    let mut exprs: Vec<Expr> = Vec::new();
    for (e, id) in calls {
        out.push((column(&e.schema_name().to_string()), id));
        if !exprs.contains(&e) {
            exprs.push(e);
        }
    }
    let plan = LogicalPlanBuilder::window_plan(plan, exprs).map_err(plan_error)?;
    project(plan, out)
}

impl Context<'_> {
    /// Notes a window computation; its result is the column.
    ///
    /// # Errors
    /// Where no analytic function may stand.
    pub fn note_window(&self, env: &Env, at: usize, name: &str, call: WindowCall) -> Res<String> {
        let Some(windows) = env.windows else {
            return Err(env.error(at, &format!("Analytic function {name} not allowed in {}", env.clause)));
        };
        let id = call.id.clone();
        windows.borrow_mut().calls.push(call);
        Ok(id)
    }

    /// An aggregate as an analytic function.
    ///
    /// # Errors
    /// As [`Self::note_window`].
    pub fn note_window_aggregate(&self, env: &Env, at: usize, name: &str, parts: Parts, over: &Over) -> Res<Tx> {
        let mut columns = Vec::new();
        for raw in parts.raws {
            let call = WindowCall {
                id: self.id(),
                fun: WindowFunctionDefinition::AggregateUDF(raw.function.clone()),
                args: raw.args.clone(),
                over: over.clone(),
                distinct: raw.distinct,
                ignore_nulls: false,
            };
            columns.push(column(&self.note_window(env, at, name, call)?));
        }
        Ok((parts.finish)(columns))
    }

    /// Binds an OVER clause.
    ///
    /// # Errors
    /// Unknown names, wrong types.
    pub fn over(&self, env: &Env, window: &Window) -> Res<Over> {
        let window = match &window.base {
            None => window.clone(),
            Some(base) => self.resolve_window(env, window, base, 0)?,
        };
        let inside = Env { windows: None, overlay: &[], ..*env };
        let mut partition_by = Vec::new();
        for ast in &window.partition_by {
            let tx = self.expr(&inside, ast)?;
            if !tx.ty.groupable() {
                return Err(env.error(ast.at, &format!("Partitioning by expression of type {} is not allowed", tx.ty)));
            }
            // A constant divides nothing.
            if tx.lit.is_none() {
                partition_by.push(group_key(tx));
            }
        }
        let mut order_by = Vec::new();
        let mut order_ty = None;
        for item in &window.order_by {
            let tx = self.expr(&inside, &item.expr)?;
            order_type(env, item, &tx)?;
            order_ty = Some(tx.ty.clone());
            let ranged = window.frame.as_ref().is_some_and(|f| !f.rows && has_offset(f));
            let e = if ranged { tx.e } else { sortable(tx.e, &tx.ty) };
            order_by.push((e, item.desc, item.nulls_first.unwrap_or(!item.desc)));
        }
        let frame = match &window.frame {
            None => WindowFrame::new(Some(!order_by.is_empty()).filter(|o| *o).map(|_| false)),
            Some(frame) => self.frame(env, frame, order_by.len(), order_ty.as_ref())?,
        };
        Ok(Over { partition_by, order_by, frame, framed: window.frame.is_some() })
    }

    fn resolve_window(&self, env: &Env, window: &Window, base: &Name, depth: usize) -> Res<Window> {
        let unknown = || env.error(base.at, &format!("Unrecognized window alias {}", base.text));
        let windows = env.windows.ok_or_else(unknown)?;
        let named = windows.borrow().named.iter().find(|(n, _)| same_name(&n.text, &base.text)).map(|(_, w)| w.clone());
        let mut found = named.ok_or_else(unknown)?;
        if depth > 20 {
            return Err(unknown());
        }
        if let Some(next) = found.base.clone() {
            found = self.resolve_window(env, &found, &next, depth + 1)?;
        }
        let own = window.clone();
        Ok(Window {
            base: None,
            partition_by: if own.partition_by.is_empty() { found.partition_by } else { own.partition_by },
            order_by: if own.order_by.is_empty() { found.order_by } else { own.order_by },
            frame: own.frame.or(found.frame),
        })
    }

    fn frame(&self, env: &Env, frame: &Frame, keys: usize, ty: Option<&Ty>) -> Res<WindowFrame> {
        let units = if frame.rows { WindowFrameUnits::Rows } else { WindowFrameUnits::Range };
        if !frame.rows && has_offset(frame) {
            if keys != 1 {
                return Err(invalid("A RANGE window frame with an offset needs exactly one ORDER BY key"));
            }
            if !matches!(ty, Some(Ty::Int64)) {
                return Err(unsupported("RANGE window frames with an offset over other types than INT64"));
            }
        }
        let bound = |b: &FrameBound| -> Res<WindowFrameBound> {
            let offset = |ast| -> Res<ScalarValue> {
                let tx = self.expr(&Env { windows: None, aggregates: None, ..*env }, ast)?;
                match tx.lit {
                    Some(Value::Int(n)) if n >= 0 && frame.rows => Ok(ScalarValue::UInt64(Some(n as u64))),
                    Some(Value::Int(n)) if n >= 0 => Ok(ScalarValue::Int64(Some(n))),
                    _ => Err(env.error(ast.at, "Window framing expression must be a non-negative constant")),
                }
            };
            let unbounded = if frame.rows { ScalarValue::UInt64(None) } else { ScalarValue::Null };
            Ok(match b {
                FrameBound::UnboundedPreceding => WindowFrameBound::Preceding(unbounded),
                FrameBound::UnboundedFollowing => WindowFrameBound::Following(unbounded),
                FrameBound::CurrentRow => WindowFrameBound::CurrentRow,
                FrameBound::Preceding(ast) => WindowFrameBound::Preceding(offset(ast)?),
                FrameBound::Following(ast) => WindowFrameBound::Following(offset(ast)?),
            })
        };
        Ok(WindowFrame::new_bounds(units, bound(&frame.start)?, bound(&frame.end)?))
    }

    /// Adds the columns of all window computations.
    ///
    /// # Errors
    /// DataFusion's.
    pub fn apply_windows(&self, plan: LogicalPlan, windows: Windows, rid: Option<&str>) -> Res<LogicalPlan> {
        let mut extra: Vec<(Expr, String)> = Vec::new();
        let mut as_column = |e: Expr| match e {
            Expr::Literal(..) | Expr::Column(_) => e,
            e => {
                if let Some((_, id)) = extra.iter().find(|(known, _)| *known == e) {
                    return column(id);
                }
                let id = self.id();
                extra.push((e, id.clone()));
                column(&id)
            }
        };
        let mut exprs = Vec::new();
        for call in windows.calls {
            let mut partition_by: Vec<Expr> = rid.iter().map(|r| column(r)).collect();
            partition_by.extend(call.over.partition_by.into_iter().map(&mut as_column));
            let order_by = call.over.order_by.into_iter();
            let order_by: Vec<Sort> = order_by.map(|(e, desc, nulls)| Sort::new(as_column(e), !desc, nulls)).collect();
            let fun = WindowFunction {
                fun: call.fun,
                params: WindowFunctionParams {
                    args: call.args.into_iter().map(&mut as_column).collect(),
                    partition_by,
                    order_by,
                    window_frame: call.over.frame,
                    filter: None,
                    null_treatment: call.ignore_nulls.then_some(NullTreatment::IgnoreNulls),
                    distinct: call.distinct,
                },
            };
            exprs.push((Expr::WindowFunction(Box::new(fun)), call.id));
        }
        let plan = extend(plan, extra)?;
        computed(plan, exprs)
    }
}

fn has_offset(frame: &Frame) -> bool {
    let offset = |b: &FrameBound| matches!(b, FrameBound::Preceding(_) | FrameBound::Following(_));
    offset(&frame.start) || offset(&frame.end)
}
