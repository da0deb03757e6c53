//! BigQuery's spelling of what the engine can do: one SELECT is parsed, and calls are rewritten to the engine's own.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::config::Dialect;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{BinaryExpr, Cast};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, TypePlanner};
use datafusion::logical_expr::{Expr as PlannedExpr, ExprSchemable, Operator};
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::BigQueryDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::functions;
use crate::model::Failure;

pub const DIALECT: Dialect = Dialect::BigQuery;

fn invalid(message: impl Into<String>) -> Failure {
    Failure::Invalid { object: "query".into(), message: message.into() }
}

/// Parses one SELECT.
///
/// # Errors
/// `Invalid` when it is something else.
pub fn parse(sql: &str) -> Result<Statement, Failure> {
    let parsed = DFParser::parse_sql_with_dialect(sql, &BigQueryDialect {});
    let mut statements = parsed.map_err(|error| {
        let text = error.strip_backtrace();
        invalid(text.strip_prefix("SQL error: ").unwrap_or(&text).to_string())
    })?;
    let (Some(statement), None) = (statements.pop_front(), statements.pop_front()) else {
        return Err(invalid("one SELECT is expected"));
    };
    match &statement {
        Statement::Statement(inner) if matches!(**inner, ast::Statement::Query(_)) => Ok(statement),
        _ => Err(invalid("a backup can only be read; hint: SELECT ...")),
    }
}

/// Parses one SELECT and rewrites what BigQuery spells differently.
///
/// # Errors
/// `Invalid` when it is something else, or names a date part that is not known.
pub fn prepare(sql: &str) -> Result<Statement, Failure> {
    let mut statement = parse(sql)?;
    if let Statement::Statement(inner) = &mut statement {
        let flow = visit_expressions_mut(inner.as_mut(), |expr| match rewritten(expr) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(other)) => {
                *expr = other;
                ControlFlow::Continue(())
            }
            Err(failure) => ControlFlow::Break(failure),
        });
        if let ControlFlow::Break(failure) = flow {
            return Err(failure);
        }
    }
    Ok(statement)
}

/// What stands for an expression; `None`: itself.
fn rewritten(expr: &mut Expr) -> Result<Option<Expr>, Failure> {
    let Expr::Function(function) = expr else { return Ok(None) };
    let Some(name) = simple_name(&function.name) else { return Ok(None) };
    let Some(args) = plain_args(function) else { return Ok(None) };
    let renamed = |function: &mut Function, to: &str| {
        function.name = ObjectName::from(vec![Ident::new(to)]);
    };
    Ok(match (name.as_str(), args.as_slice()) {
        ("IF", [_, _, _]) => Some(template("CASE WHEN _0 THEN _1 ELSE _2 END", args)?),
        ("SAFE_DIVIDE", [_, _]) => Some(template("_0 / NULLIF(_1, 0)", args)?),
        ("DATE", [_]) => Some(template("CAST(_0 AS DATE)", args)?),
        ("COUNTIF", [_]) => {
            // Keeps OVER and DISTINCT where they are.
            renamed(function, "count");
            if let FunctionArguments::List(list) = &mut function.args {
                let counted = template("NULLIF(_0, FALSE)", args)?;
                list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(counted))];
            }
            None
        }
        ("LOGICAL_AND", [_]) => {
            renamed(function, "bool_and");
            None
        }
        ("LOGICAL_OR", [_]) => {
            renamed(function, "bool_or");
            None
        }
        ("ANY_VALUE", [_]) => {
            renamed(function, "first_value");
            None
        }
        ("APPROX_COUNT_DISTINCT", [_]) => {
            renamed(function, "approx_distinct");
            None
        }
        ("DATE_TRUNC" | "TIMESTAMP_TRUNC" | "DATETIME_TRUNC", [_, part]) => {
            let call = format!("{}(_0, '{}')", functions::TRUNC, date_part(part)?);
            Some(template(&call, args)?)
        }
        ("DATE_DIFF" | "TIMESTAMP_DIFF" | "DATETIME_DIFF", [_, _, part]) => {
            // Days are counted by the calendar in DATE_DIFF and DATETIME_DIFF, by elapsed time in TIMESTAMP_DIFF.
            let call = format!("{}(_0, _1, '{}')", functions::DIFF, date_part(part)?);
            Some(template(&call, args)?)
        }
        (
            "DATE_ADD" | "DATE_SUB" | "TIMESTAMP_ADD" | "TIMESTAMP_SUB" | "DATETIME_ADD" | "DATETIME_SUB",
            [value, Expr::Interval(interval)],
        ) => {
            let Some(part) = &interval.leading_field else { return Err(invalid("the interval has no date part")) };
            let sign = if name.ends_with("_SUB") { "-" } else { "" };
            let call = format!("{}(_0, {sign}_1, '{}')", functions::ADD, known_part(&part.to_string())?);
            Some(template(&call, vec![value.clone(), (*interval.value).clone()])?)
        }
        _ => None,
    })
}

fn simple_name(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [part] => Some(part.as_ident()?.value.to_uppercase()),
        _ => None,
    }
}

/// The arguments, when all are plain expressions.
fn plain_args(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(plain).collect()
}

fn date_part(part: &Expr) -> Result<String, Failure> {
    match part {
        Expr::Identifier(ident) => known_part(&ident.value),
        other => Err(invalid(format!("the date part {other} is not known to the embedded engine"))),
    }
}

fn known_part(text: &str) -> Result<String, Failure> {
    let part = text.to_uppercase();
    if functions::PARTS.contains(&part.as_str()) {
        return Ok(part);
    }
    let known = functions::PARTS.join(", ");
    Err(invalid(format!("the date part {text} is not known to the embedded engine; hint: one of {known}")))
}

/// An expression with `_0`, `_1`, ... replaced by `args`.
fn template(text: &str, args: Vec<Expr>) -> Result<Expr, Failure> {
    let parsed = Parser::new(&BigQueryDialect {}).try_with_sql(text).and_then(|mut parser| parser.parse_expr());
    let mut expr = parsed.map_err(|error| invalid(error.to_string()))?;
    let _: ControlFlow<()> = visit_expressions_mut(&mut expr, |part| {
        if let Expr::Identifier(ident) = part
            && let Some(arg) = ident.value.strip_prefix('_').and_then(|at| at.parse::<usize>().ok())
            && let Some(arg) = args.get(arg)
        {
            *part = Expr::Nested(Box::new(arg.clone()));
        }
        ControlFlow::Continue(())
    });
    Ok(Expr::Nested(Box::new(expr)))
}

/// BigQuery's names of types.
#[derive(Debug)]
pub struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql: &ast::DataType) -> DfResult<Option<FieldRef>> {
        use ast::{DataType as Sql, ExactNumberInfo};
        let planned = match sql {
            Sql::Int64 => DataType::Int64,
            Sql::Float64 => DataType::Float64,
            Sql::String(_) | Sql::JSON => DataType::Utf8,
            Sql::Bytes(_) => DataType::Binary,
            Sql::Numeric(ExactNumberInfo::None) => DataType::Decimal128(38, 9),
            Sql::BigNumeric(ExactNumberInfo::None) => DataType::Decimal256(76, 38),
            Sql::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Sql::Datetime(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Field::new("", planned, true))))
    }
}

/// In BigQuery the quotient of two INT64 is a FLOAT64.
#[derive(Debug)]
pub struct Division;

impl ExprPlanner for Division {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> DfResult<PlannerResult<RawBinaryExpr>> {
        let whole = |expr: &PlannedExpr| expr.get_type(schema).is_ok_and(|kind| kind.is_integer());
        if expr.op != BinaryOperator::Divide || !whole(&expr.left) || !whole(&expr.right) {
            return Ok(PlannerResult::Original(expr));
        }
        let float = |expr: PlannedExpr| Box::new(PlannedExpr::Cast(Cast::new(Box::new(expr), DataType::Float64)));
        let quotient = BinaryExpr::new(float(expr.left), Operator::Divide, float(expr.right));
        Ok(PlannerResult::Planned(PlannedExpr::BinaryExpr(quotient)))
    }
}
