//! Which type may stand for which: literals, supertypes, implicit casts.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

use super::scope::Tx;
use crate::bigquery::sql::error::{Res, invalid};
use crate::bigquery::sql::func::cast::{cast_value, castable};
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::udf;
use crate::bigquery::sql::value::{Value, build};

/// A constant of a type.
///
/// # Errors
/// A value of another type: a fault of the engine.
pub fn constant(ty: &Ty, value: &Value) -> Res<Expr> {
    let array = build(ty, std::slice::from_ref(value)).map_err(invalid)?;
    let scalar = ScalarValue::try_from_array(&array, 0).map_err(|e| invalid(e.to_string()))?;
    Ok(Expr::Literal(scalar, None))
}

/// A literal as written in a query.
///
/// # Errors
/// As [`constant`].
pub fn literal(ty: Ty, value: Value) -> Res<Tx> {
    Ok(Tx { e: constant(&ty, &value)?, ty, lit: Some(value), soft: true, image: None })
}

/// NULL, until a type is wanted an INT64.
///
/// # Errors
/// Never.
pub fn null() -> Res<Tx> {
    literal(Ty::Int64, Value::Null)
}

fn rank(ty: &Ty) -> Option<u8> {
    match ty {
        Ty::Int64 => Some(0),
        Ty::Numeric => Some(1),
        Ty::BigNumeric => Some(2),
        Ty::Float64 => Some(3),
        _ => None,
    }
}

/// How far an implicit cast goes; `None` when there is none.
pub fn cost(tx: &Tx, to: &Ty) -> Option<u32> {
    if tx.ty.same(to) {
        return Some(0);
    }
    if tx.is_null_literal() {
        return Some(1);
    }
    if tx.soft {
        let allowed = match (&tx.ty, to) {
            (Ty::String, Ty::Date | Ty::Datetime | Ty::Time | Ty::Timestamp) => 5,
            (Ty::Int64, Ty::Numeric | Ty::BigNumeric | Ty::Float64) => 2,
            (Ty::Float64, Ty::Numeric | Ty::BigNumeric) => 3,
            (Ty::Array(_), Ty::Array(element)) => {
                let Some(Value::Array(items)) = &tx.lit else { return type_cost(&tx.ty, to) };
                let Ty::Array(from) = &tx.ty else { return None };
                let as_literal = |v: &Value| Tx {
                    e: tx.e.clone(),
                    ty: (**from).clone(),
                    lit: Some(v.clone()),
                    soft: true,
                    image: None,
                };
                return items.iter().map(|v| cost(&as_literal(v), element)).try_fold(1, |a, c| Some(a.max(c?)));
            }
            (Ty::Struct(from), Ty::Struct(fields)) if from.len() == fields.len() => {
                let Some(Value::Struct(items)) = &tx.lit else { return type_cost(&tx.ty, to) };
                let pairs = items.iter().zip(from.iter()).zip(fields.iter());
                return pairs
                    .map(|((v, (_, from)), (_, to))| {
                        cost(
                            &Tx { e: tx.e.clone(), ty: from.clone(), lit: Some(v.clone()), soft: true, image: None },
                            to,
                        )
                    })
                    .try_fold(1, |a, c| Some(a.max(c?)));
            }
            _ => return type_cost(&tx.ty, to),
        };
        return Some(allowed);
    }
    type_cost(&tx.ty, to)
}

fn type_cost(from: &Ty, to: &Ty) -> Option<u32> {
    if from.same(to) {
        return Some(0);
    }
    if let (Some(a), Some(b)) = (rank(from), rank(to)) {
        return (a < b).then(|| u32::from(b - a));
    }
    match (from, to) {
        (Ty::Date, Ty::Datetime) => Some(1),
        (Ty::Struct(a), Ty::Struct(b)) if a.len() == b.len() => {
            a.iter().zip(b.iter()).map(|(a, b)| type_cost(&a.1, &b.1)).try_fold(0, |acc, c| Some(acc.max(c?)))
        }
        _ => None,
    }
}

/// The implicit cast to a type.
///
/// # Errors
/// When there is none, or a literal is no value of the type.
pub fn coerce(tx: Tx, to: &Ty) -> Res<Tx> {
    if tx.ty.same(to) {
        return Ok(Tx { ty: to.clone(), ..tx });
    }
    if cost(&tx, to).is_none() {
        return Err(invalid(format!("Cannot coerce expression of type {} to type {to}", tx.ty)));
    }
    cast(tx, to, false)
}

/// A cast, implicit or not.
///
/// # Errors
/// When BigQuery has no such cast, or a literal is no value of the type.
pub fn cast(tx: Tx, to: &Ty, safe: bool) -> Res<Tx> {
    if tx.ty.same(to) {
        return Ok(Tx { ty: to.clone(), ..tx });
    }
    if tx.is_null_literal() {
        return literal(to.clone(), Value::Null);
    }
    if let (Some(value @ (Value::Struct(_) | Value::Array(_))), true) = (&tx.lit, tx.soft) {
        let value = soft_value(value, &tx.ty, to).map_err(invalid)?;
        return literal(to.clone(), value);
    }
    if !castable(&tx.ty, to) {
        return Err(invalid(format!("Invalid cast from {} to {to}", tx.ty)));
    }
    if let (Some(image), Ty::Numeric | Ty::BigNumeric) = (&tx.image, to) {
        let value = cast_value(&Value::Str(image.to_string()), &Ty::String, to).map_err(invalid)?;
        return Ok(Tx { soft: tx.soft, ..literal(to.clone(), value)? });
    }
    if let Some(value) = &tx.lit {
        let (ty, soft) = (tx.ty.clone(), tx.soft);
        return match cast_value(value, &ty, to) {
            Ok(value) => Ok(Tx { soft, ..literal(to.clone(), value)? }),
            Err(_) if safe => Ok(Tx { soft: false, ..literal(to.clone(), Value::Null)? }),
            // The query may never come to evaluate it.
            Err(message) if tx.soft && !matches!(value, Value::Null) && is_implicit(&ty, to) => Err(invalid(message)),
            Err(_) => Ok(cast_expr(Tx { lit: None, ..tx }, to, safe)),
        };
    }
    Ok(cast_expr(tx, to, safe))
}

/// A literal's value as another type, part by part: a NULL within has no type yet.
fn soft_value(value: &Value, from: &Ty, to: &Ty) -> Result<Value, String> {
    match (value, from, to) {
        (Value::Null, _, _) => Ok(Value::Null),
        (Value::Array(items), Ty::Array(from), Ty::Array(to)) => {
            Ok(Value::Array(items.iter().map(|v| soft_value(v, from, to)).collect::<Result<_, _>>()?))
        }
        (Value::Struct(items), Ty::Struct(from), Ty::Struct(to)) if from.len() == to.len() => {
            let parts = items.iter().zip(from.iter()).zip(to.iter());
            Ok(Value::Struct(parts.map(|((v, f), t)| soft_value(v, &f.1, &t.1)).collect::<Result<_, _>>()?))
        }
        _ => cast_value(value, from, to),
    }
}

fn is_implicit(from: &Ty, to: &Ty) -> bool {
    matches!((from, to), (Ty::String, Ty::Date | Ty::Datetime | Ty::Time | Ty::Timestamp))
}

fn cast_expr(tx: Tx, to: &Ty, safe: bool) -> Tx {
    if let Some(body) = crate::bigquery::sql::func::cast::fast(&tx.ty, to) {
        let id = format!("cast_{}_{to}", tx.ty);
        return Tx::new(udf::call(id, vec![tx.pair()], to.clone(), udf::Body::Batch(body), false, safe), to.clone());
    }
    let (from, target) = (tx.ty.clone(), to.clone());
    let id = format!("cast_{from}_{target}");
    let body = move |a: &[Value]| cast_value(&a[0], &from, &target);
    let e = udf::call(id, vec![tx.pair()], to.clone(), udf::Body::Rows(std::sync::Arc::new(body)), false, safe);
    Tx::new(e, to.clone())
}

/// The type that all of these may become; literals give way to columns.
pub fn supertype(items: &[&Tx]) -> Option<Ty> {
    let typed: Vec<&&Tx> = items.iter().filter(|t| !t.is_null_literal()).collect();
    let Some(first) = typed.first() else { return items.first().map(|t| t.ty.clone()) };
    // Candidates: the types of columns, or if there are only literals, those.
    let mut candidates: Vec<Ty> = typed.iter().filter(|t| !t.soft).map(|t| t.ty.clone()).collect();
    if candidates.is_empty() {
        candidates = typed.iter().map(|t| t.ty.clone()).collect();
    }
    let mut best = candidates[0].clone();
    for ty in &candidates[1..] {
        best = wider(&best, ty)?;
    }
    if typed.iter().all(|t| cost(t, &best).is_some()) {
        return Some(best);
    }
    // A literal may be wider than the columns: an INT64 column and 1.5.
    let mut wide = first.ty.clone();
    for tx in &typed[1..] {
        wide = wider(&wide, &tx.ty)?;
    }
    typed.iter().all(|t| cost(t, &wide).is_some()).then_some(wide)
}

fn wider(a: &Ty, b: &Ty) -> Option<Ty> {
    if a.same(b) {
        return Some(a.clone());
    }
    if let (Ty::Struct(x), Ty::Struct(y)) = (a, b) {
        if x.len() != y.len() {
            return None;
        }
        let fields = x.iter().zip(y.iter()).map(|(x, y)| Some((x.0.clone(), wider(&x.1, &y.1)?)));
        return fields.collect::<Option<Vec<_>>>().map(Ty::structure);
    }
    if type_cost(a, b).is_some() {
        Some(b.clone())
    } else if type_cost(b, a).is_some() {
        Some(a.clone())
    } else {
        None
    }
}

/// All of these as one type.
///
/// # Errors
/// When there is none; `what` begins the message.
pub fn unify(items: Vec<Tx>, what: &str) -> Res<(Vec<Tx>, Ty)> {
    let Some(ty) = supertype(&items.iter().collect::<Vec<_>>()) else {
        let types: Vec<String> = items.iter().map(|t| t.ty.to_string()).collect();
        return Err(invalid(format!("No matching signature for {what} for argument types: {}", types.join(", "))));
    };
    let items = items.into_iter().map(|t| coerce(t, &ty)).collect::<Res<_>>()?;
    Ok((items, ty))
}
