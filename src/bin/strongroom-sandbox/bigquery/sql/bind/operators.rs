//! Operators: arithmetic that fails on overflow, comparisons with NaN, LIKE, concatenation.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, StringArray};
use arrow::compute::kernels::arity::{try_binary, try_unary};
use arrow::datatypes::{Decimal128Type, Decimal256Type, Float64Type, Int64Type};
use arrow::error::ArrowError;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use super::Context;
use super::coerce::{coerce, literal, supertype, unify};
use super::expr::at_place;
use super::scope::{Env, Tx};
use crate::bigquery::sql::error::{Res, invalid};
use crate::bigquery::sql::func::{interval, like};
use crate::bigquery::sql::num;
use crate::bigquery::sql::syntax::ast::Expr as Ast;
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::udf;
use crate::bigquery::sql::value::{Value, interval_text};

impl Context<'_> {
    /// `-x`, `+x`, `~x`, `NOT x`.
    ///
    /// # Errors
    /// Wrong types.
    pub fn unary(&self, op: &str, value: Tx) -> Res<Tx> {
        match (op, &value.ty) {
            ("NOT", _) => {
                let value = coerce(value, &Ty::Bool).map_err(|_| no_signature("operator NOT", &[]))?;
                Ok(Tx::new(Expr::Not(Box::new(value.e)), Ty::Bool))
            }
            ("-", Ty::Int64 | Ty::Float64 | Ty::Numeric | Ty::BigNumeric) => {
                if let Some(v) = &value.lit {
                    let negated = match v {
                        Value::Int(v) => v.checked_neg().map(Value::Int),
                        Value::Float(v) => Some(Value::Float(-v)),
                        Value::Numeric(v) => Some(Value::Numeric(-v)),
                        Value::Big(v) => v.checked_neg().map(Value::Big),
                        Value::Null => Some(Value::Null),
                        _ => None,
                    };
                    if let Some(v) = negated {
                        return Ok(Tx { soft: value.soft, ..literal(value.ty, v)? });
                    }
                }
                let ty = value.ty.clone();
                let kind = ty.clone();
                let e = udf::batch("negate", vec![value.pair()], ty.clone(), move |a, _| match kind {
                    Ty::Int64 => unary_checked::<Int64Type>(&a[0], |v| {
                        v.checked_neg().ok_or_else(|| format!("int64 overflow: -({v})"))
                    }),
                    Ty::Float64 => unary_checked::<Float64Type>(&a[0], |v| Ok(-v)),
                    Ty::Numeric => unary_checked::<Decimal128Type>(&a[0], |v| Ok(-v)),
                    _ => unary_checked::<Decimal256Type>(&a[0], |v| {
                        v.checked_neg().ok_or_else(|| "BIGNUMERIC overflow".into())
                    }),
                });
                Ok(Tx::new(e, ty))
            }
            ("-", Ty::Interval) => Ok(interval::negate(value)),
            ("+", ty) if ty.is_numeric() => Ok(value),
            ("~", Ty::Int64) => {
                let e = udf::batch("bit_not", vec![value.pair()], Ty::Int64, |a, _| {
                    unary_checked::<Int64Type>(&a[0], |v| Ok(!v))
                });
                Ok(Tx::new(e, Ty::Int64))
            }
            ("~", Ty::Bytes) => {
                let e = udf::rows("bit_not", vec![value.pair()], Ty::Bytes, |a| {
                    Ok(match &a[0] {
                        Value::Bytes(b) => Value::Bytes(b.iter().map(|b| !b).collect()),
                        _ => Value::Null,
                    })
                });
                Ok(Tx::new(e, Ty::Bytes))
            }
            (op, ty) => Err(no_signature(&format!("operator {op}"), &[ty])),
        }
    }

    /// A binary operator over syntax trees.
    ///
    /// # Errors
    /// Wrong types.
    pub fn binary(&self, env: &Env, op: &'static str, left: &Ast, right: &Ast) -> Res<Tx> {
        // Long chains lean to the left; they are walked without recursion.
        let mut chain = vec![right];
        let mut leftmost = left;
        while let crate::bigquery::sql::syntax::ast::Kind::Binary(inner, l, r) = leftmost.kind.as_ref() {
            if *inner != op {
                break;
            }
            chain.push(r);
            leftmost = l;
        }
        let mut value = self.expr(env, leftmost)?;
        while let Some(next) = chain.pop() {
            let right = self.expr(env, next)?;
            value = self.binary_tx(op, value, right).map_err(|e| at_place(env, next.at, e))?;
        }
        Ok(value)
    }

    /// A binary operator.
    ///
    /// # Errors
    /// Wrong types.
    pub fn binary_tx(&self, op: &'static str, left: Tx, right: Tx) -> Res<Tx> {
        match op {
            "AND" | "OR" => {
                let bad = no_signature(&format!("operator {op}"), &[&left.ty, &right.ty]);
                let (Ok(left), Ok(right)) = (coerce(left, &Ty::Bool), coerce(right, &Ty::Bool)) else {
                    return Err(bad);
                };
                let op = if op == "AND" { Operator::And } else { Operator::Or };
                Ok(Tx::new(binary_expr(left.e, op, right.e), Ty::Bool))
            }
            "=" | "!=" | "<" | "<=" | ">" | ">=" => self.compare(op, left, right),
            "IS DISTINCT FROM" | "IS NOT DISTINCT FROM" => {
                let (mut items, ty) = unify(vec![left, right], &format!("operator {op}"))?;
                let (Some(right), Some(left)) = (items.pop(), items.pop()) else {
                    return Err(invalid("two operands expected"));
                };
                let distinct = op == "IS DISTINCT FROM";
                if ty.native_comparison() {
                    let op = if distinct { Operator::IsDistinctFrom } else { Operator::IsNotDistinctFrom };
                    return Ok(Tx::new(binary_expr(left.e, op, right.e), Ty::Bool));
                }
                let e = udf::rows(op, vec![left.pair(), right.pair()], Ty::Bool, move |a| {
                    let (mut x, mut y) = (vec![], vec![]);
                    a[0].key(&mut x);
                    a[1].key(&mut y);
                    Ok(Value::Bool((x != y) == distinct))
                });
                Ok(Tx::new(e, Ty::Bool))
            }
            "||" => concat(left, right),
            "|" | "&" | "^" | "<<" | ">>" => bits(op, left, right),
            _ => arithmetic(op, left, right),
        }
    }

    /// `=`, `!=`, `<`, `<=`, `>`, `>=`.
    ///
    /// # Errors
    /// Types that have no common type or no order.
    pub fn compare(&self, op: &str, left: Tx, right: Tx) -> Res<Tx> {
        let shown = if op == "!=" { "<>" } else { op };
        let bad = no_signature(&format!("operator {shown}"), &[&left.ty, &right.ty]);
        let ty = supertype(&[&left, &right]).ok_or_else(|| bad.clone())?;
        let defined = if matches!(op, "=" | "!=") { ty.comparable() } else { ty.orderable() };
        if !defined {
            let what = if matches!(op, "=" | "!=") { "Equality" } else { "Less than" };
            return Err(invalid(format!("{what} is not defined for arguments of type {ty}")));
        }
        let (left, right) = (coerce(left, &ty)?, coerce(right, &ty)?);
        if ty.native_comparison() {
            let op = match op {
                "=" => Operator::Eq,
                "!=" => Operator::NotEq,
                "<" => Operator::Lt,
                "<=" => Operator::LtEq,
                ">" => Operator::Gt,
                _ => Operator::GtEq,
            };
            return Ok(Tx::new(binary_expr(left.e, op, right.e), Ty::Bool));
        }
        let args = vec![left.pair(), right.pair()];
        if ty == Ty::Float64 {
            let f: fn(f64, f64) -> bool = match op {
                "=" => |a, b| a == b,
                "!=" => |a, b| a != b,
                "<" => |a, b| a < b,
                "<=" => |a, b| a <= b,
                ">" => |a, b| a > b,
                _ => |a, b| a >= b,
            };
            let e = udf::batch(format!("float {op}"), args, Ty::Bool, move |a, rows| {
                let (x, y) = (a[0].as_primitive::<Float64Type>(), a[1].as_primitive::<Float64Type>());
                let out: BooleanArray =
                    (0..rows).map(|i| (x.is_valid(i) && y.is_valid(i)).then(|| f(x.value(i), y.value(i)))).collect();
                Ok(Arc::new(out) as ArrayRef)
            });
            return Ok(Tx::new(e, Ty::Bool));
        }
        let operator = op.to_owned();
        let e = udf::rows(format!("compare {op}"), args, Ty::Bool, move |a| {
            if a[0].is_null() || a[1].is_null() {
                return Ok(Value::Null);
            }
            let equal = || a[0].equals(&a[1]).map_or(Value::Null, Value::Bool);
            let order = a[0].order(&a[1]);
            Ok(match operator.as_str() {
                "=" => equal(),
                "!=" => match equal() {
                    Value::Bool(b) => Value::Bool(!b),
                    other => other,
                },
                "<" => Value::Bool(order.is_lt()),
                "<=" => Value::Bool(order.is_le()),
                ">" => Value::Bool(order.is_gt()),
                _ => Value::Bool(order.is_ge()),
            })
        });
        Ok(Tx::new(e, Ty::Bool))
    }

    /// `value LIKE pattern`.
    ///
    /// # Errors
    /// Wrong types.
    pub fn like(&self, value: Tx, pattern: Tx) -> Res<Tx> {
        let bad = no_signature("operator LIKE", &[&value.ty, &pattern.ty]);
        let ty = supertype(&[&value, &pattern]).filter(|t| matches!(t, Ty::String | Ty::Bytes));
        let ty = if value.is_null_literal() && pattern.is_null_literal() { Some(Ty::String) } else { ty };
        let ty = ty.ok_or(bad)?;
        let (value, pattern) = (coerce(value, &ty)?, coerce(pattern, &ty)?);
        Ok(Tx::new(
            udf::rows("like", vec![value.pair(), pattern.pair()], Ty::Bool, |a| like::like(&a[0], &a[1])),
            Ty::Bool,
        ))
    }
}

/// DataFusion's binary expression.
pub fn binary_expr(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

/// `No matching signature for ...`.
pub fn no_signature(what: &str, types: &[&Ty]) -> crate::core::ApiError {
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    invalid(format!("No matching signature for {what} for argument types: {}", types.join(", ")))
}

fn unary_checked<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    f: impl Fn(T::Native) -> Result<T::Native, String>,
) -> Result<ArrayRef, String> {
    let out: PrimitiveArray<T> =
        try_unary(array.as_primitive::<T>(), |v| f(v).map_err(ArrowError::ComputeError)).map_err(plain)?;
    Ok(Arc::new(out.with_data_type(array.data_type().clone())))
}

fn plain(e: ArrowError) -> String {
    match e {
        ArrowError::ComputeError(message) => message,
        other => other.to_string(),
    }
}

fn binary_checked<A: ArrowPrimitiveType, O: ArrowPrimitiveType>(
    a: &[ArrayRef],
    ret: &Ty,
    f: impl Fn(A::Native, A::Native) -> Result<O::Native, String>,
) -> Result<ArrayRef, String> {
    let (x, y) = (a[0].as_primitive::<A>(), a[1].as_primitive::<A>());
    let out: PrimitiveArray<O> = try_binary(x, y, |x, y| f(x, y).map_err(ArrowError::ComputeError)).map_err(plain)?;
    Ok(Arc::new(out.with_data_type(ret.arrow())))
}

fn concat(left: Tx, right: Tx) -> Res<Tx> {
    let bad = no_signature("operator ||", &[&left.ty, &right.ty]);
    let ty = supertype(&[&left, &right]).ok_or_else(|| bad.clone())?;
    let ty = if left.is_null_literal() && right.is_null_literal() { Ty::String } else { ty };
    if !matches!(ty, Ty::String | Ty::Bytes | Ty::Array(_)) {
        return Err(bad);
    }
    let (left, right) = (coerce(left, &ty)?, coerce(right, &ty)?);
    if ty == Ty::String {
        let e = udf::batch("concat_op", vec![left.pair(), right.pair()], Ty::String, |a, rows| {
            let (x, y) = (a[0].as_string::<i32>(), a[1].as_string::<i32>());
            let out: StringArray = (0..rows)
                .map(|i| (x.is_valid(i) && y.is_valid(i)).then(|| [x.value(i), y.value(i)].concat()))
                .collect();
            Ok(Arc::new(out) as ArrayRef)
        });
        return Ok(Tx::new(e, Ty::String));
    }
    let e = udf::rows("concat_op", vec![left.pair(), right.pair()], ty.clone(), |a| {
        Ok(match (&a[0], &a[1]) {
            (Value::Bytes(x), Value::Bytes(y)) => Value::Bytes([x.as_slice(), y].concat()),
            (Value::Array(x), Value::Array(y)) => Value::Array([x.as_slice(), y].concat()),
            _ => Value::Null,
        })
    });
    Ok(Tx::new(e, ty))
}

fn bits(op: &'static str, left: Tx, right: Tx) -> Res<Tx> {
    let bad = no_signature(&format!("operator {op}"), &[&left.ty, &right.ty]);
    let shift = matches!(op, "<<" | ">>");
    if left.ty == Ty::Bytes {
        let wanted = if shift { Ty::Int64 } else { Ty::Bytes };
        let right = coerce(right, &wanted).map_err(|_| bad)?;
        let e = udf::rows(format!("bytes {op}"), vec![left.pair(), right.pair()], Ty::Bytes, move |a| {
            if a[0].is_null() || a[1].is_null() {
                return Ok(Value::Null);
            }
            num::bytes_bits(op, a[0].bytes()?, &a[1]).map(Value::Bytes)
        });
        return Ok(Tx::new(e, Ty::Bytes));
    }
    let (Ok(left), Ok(right)) = (coerce(left, &Ty::Int64), coerce(right, &Ty::Int64)) else { return Err(bad) };
    let e = udf::batch(format!("int {op}"), vec![left.pair(), right.pair()], Ty::Int64, move |a, _| {
        binary_checked::<Int64Type, Int64Type>(a, &Ty::Int64, |x, y| {
            Ok(match op {
                "|" => x | y,
                "&" => x & y,
                "^" => x ^ y,
                _ if y < 0 => return Err("Bitwise shift by a negative offset is not allowed".into()),
                _ if y >= 64 => 0,
                "<<" => ((x as u64) << y) as i64,
                _ => ((x as u64) >> y) as i64,
            })
        })
    });
    Ok(Tx::new(e, Ty::Int64))
}

fn arithmetic(op: &'static str, left: Tx, right: Tx) -> Res<Tx> {
    let bad = no_signature(&format!("operator {op}"), &[&left.ty, &right.ty]);
    if let Some(tx) = interval::arithmetic(op, &left, &right)? {
        return Ok(tx);
    }
    let ty = supertype(&[&left, &right]).filter(Ty::is_numeric).ok_or(bad)?;
    // INT64 / INT64 is FLOAT64.
    let ty = if op == "/" && ty == Ty::Int64 { Ty::Float64 } else { ty };
    let (left, right) = (coerce(left, &ty)?, coerce(right, &ty)?);
    let result = ty.clone();
    let e = udf::batch(format!("{ty} {op}"), vec![left.pair(), right.pair()], ty.clone(), move |a, _| match &result {
        Ty::Int64 => binary_checked::<Int64Type, Int64Type>(a, &result, |x, y| int_arithmetic(op, x, y)),
        Ty::Float64 => binary_checked::<Float64Type, Float64Type>(a, &result, |x, y| float_arithmetic(op, x, y)),
        Ty::Numeric => {
            binary_checked::<Decimal128Type, Decimal128Type>(a, &result, |x, y| num::numeric_arithmetic(op, x, y))
        }
        _ => binary_checked::<Decimal256Type, Decimal256Type>(a, &result, |x, y| num::bignumeric_arithmetic(op, x, y)),
    });
    Ok(Tx::new(e, ty))
}

/// Whole numbers; an overflow is an error.
///
/// # Errors
/// BigQuery's message for it.
pub fn int_arithmetic(op: &str, x: i64, y: i64) -> Result<i64, String> {
    let result = match op {
        "+" => x.checked_add(y),
        "-" => x.checked_sub(y),
        _ => x.checked_mul(y),
    };
    result.ok_or_else(|| format!("int64 overflow: {x} {op} {y}"))
}

/// Floating point numbers; an overflow of finite numbers and a division by zero are errors.
///
/// # Errors
/// BigQuery's message for it.
pub fn float_arithmetic(op: &str, x: f64, y: f64) -> Result<f64, String> {
    let result = match op {
        "+" => x + y,
        "-" => x - y,
        "*" => x * y,
        _ if y == 0.0 => return Err(format!("division by zero: {} / {}", num::float_text(x), num::float_text(y))),
        _ => x / y,
    };
    if result.is_infinite() && x.is_finite() && y.is_finite() {
        return Err(format!("double overflow: {} {op} {}", num::float_text(x), num::float_text(y)));
    }
    Ok(result)
}

/// A value's text in a message.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Interval(i) => interval_text(i),
        other => format!("{other:?}"),
    }
}
