//! Expressions.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::i256;
use datafusion::logical_expr::{Case, Expr, lit};
use strongroom::codec::value::{
    parse_bignumeric, parse_date, parse_datetime, parse_float64, parse_int64, parse_numeric, parse_range, parse_time,
};

use super::Context;
use super::coerce::{cast, coerce, cost, literal, null, supertype, unify};
use super::scope::{Env, Qualified, Tx, same_name};
use crate::bigquery::sql::error::{Res, invalid, unsupported};
use crate::bigquery::sql::func::{interval, json, time};
use crate::bigquery::sql::syntax::ast::{Cast, Expr as Ast, InSet, Kind, Name, TypeName};
use crate::bigquery::sql::ty::{Ty, inner_fields};
use crate::bigquery::sql::udf;
use crate::bigquery::sql::value::Value;

impl Context<'_> {
    /// Binds an expression.
    ///
    /// # Errors
    /// Unknown names and functions, wrong types: as BigQuery says it.
    pub fn expr(&self, env: &Env, ast: &Ast) -> Res<Tx> {
        let at = ast.at;
        match ast.kind.as_ref() {
            Kind::Null => null(),
            Kind::Bool(b) => literal(Ty::Bool, Value::Bool(*b)),
            Kind::Int(text) => {
                let value =
                    parse_int64(text).map_err(|_| env.error(at, &format!("Invalid integer literal: {text}")))?;
                literal(Ty::Int64, Value::Int(value))
            }
            Kind::Float(text) => {
                let value = parse_float64(text)
                    .map_err(|_| env.error(at, &format!("Invalid floating point literal: {text}")))?;
                // The text is kept for NUMERIC: 1.1 is exact there.
                Ok(Tx { image: Some(text.as_str().into()), ..literal(Ty::Float64, Value::Float(value))? })
            }
            Kind::Str(text) => literal(Ty::String, Value::Str(text.clone())),
            Kind::Bytes(bytes) => literal(Ty::Bytes, Value::Bytes(bytes.clone())),
            Kind::Typed(kind, text) => self.typed_literal(env, at, kind, text),
            Kind::Param(name) => {
                let found = self.named.get(&name.to_lowercase());
                let (ty, value) = found.ok_or_else(|| env.error(at, &format!("Query parameter '{name}' not found")))?;
                literal(ty.clone(), value.clone())
            }
            Kind::Positional(n) => {
                let found = self.positional.get(*n);
                let message =
                    format!("Query parameter number {} is not defined ({} provided)", n + 1, self.positional.len());
                let (ty, value) = found.ok_or_else(|| env.error(at, &message))?;
                literal(ty.clone(), value.clone())
            }
            Kind::SystemVariable(name) => match name.to_lowercase().as_str() {
                "project_id" => literal(Ty::String, Value::Str(self.query.project.clone())),
                "time_zone" => literal(Ty::String, Value::Str("UTC".into())),
                _ => Err(env.error(at, &format!("Unrecognized system variable: @@{name}"))),
            },
            Kind::Path(names) => self.path(env, names),
            Kind::Field(value, name) => {
                let value = self.expr(env, value)?;
                self.field(env, value, name)
            }
            Kind::Index(value, word, index) => self.index(env, value, word, index),
            Kind::Unary(op, value) => {
                let value = self.expr(env, value)?;
                self.unary(op, value).map_err(|e| at_place(env, at, e))
            }
            Kind::Binary(op, left, right) => self.binary(env, op, left, right).map_err(|e| at_place(env, at, e)),
            Kind::Is(value, word, not) => {
                let value = self.expr(env, value)?;
                let e = match *word {
                    "NULL" | "UNKNOWN" => {
                        if *word == "UNKNOWN" {
                            self.want_bool(env, at, &value)?;
                        }
                        Expr::IsNull(Box::new(value.e))
                    }
                    word => {
                        let value = coerce(value, &Ty::Bool).map_err(|e| at_place(env, at, e))?;
                        if word == "TRUE" { Expr::IsTrue(Box::new(value.e)) } else { Expr::IsFalse(Box::new(value.e)) }
                    }
                };
                Ok(Tx::new(if *not { Expr::Not(Box::new(e)) } else { e }, Ty::Bool))
            }
            Kind::Between(value, low, high, not) => {
                let items = vec![self.expr(env, value)?, self.expr(env, low)?, self.expr(env, high)?];
                let (mut items, _) = unify(items, "operator BETWEEN").map_err(|e| at_place(env, at, e))?;
                let (Some(high), Some(low), Some(value)) = (items.pop(), items.pop(), items.pop()) else {
                    return Err(invalid("BETWEEN needs three operands"));
                };
                let above = self.compare(">=", value.clone(), low)?;
                let below = self.compare("<=", value, high)?;
                Ok(Tx::new(negate(above.e.and(below.e), *not), Ty::Bool))
            }
            Kind::In(value, set, not) => self.in_set(env, at, value, set, *not),
            Kind::Like(value, quantifier, patterns, not) => {
                let value = self.expr(env, value)?;
                let mut e: Option<Expr> = None;
                for pattern in patterns {
                    let pattern = self.expr(env, pattern)?;
                    let one = self.like(value.clone(), pattern).map_err(|e| at_place(env, at, e))?;
                    e = Some(match e {
                        None => one.e,
                        Some(e) if *quantifier == "ALL" => e.and(one.e),
                        Some(e) => e.or(one.e),
                    });
                }
                Ok(Tx::new(negate(e.unwrap_or(lit(false)), *not), Ty::Bool))
            }
            Kind::Case(operand, branches, otherwise) => {
                self.case(env, at, operand.as_ref(), branches, otherwise.as_ref())
            }
            Kind::Cast(cast) => self.cast_ast(env, at, cast),
            Kind::Extract(part, value, zone) => {
                let value = self.expr(env, value)?;
                let zone = zone.as_ref().map(|z| self.expr(env, z)).transpose()?;
                time::extract(part, value, zone).map_err(|e| at_place(env, at, e))
            }
            Kind::Interval(value, from, to) => {
                let value = self.expr(env, value)?;
                interval::make(value, from, to.as_deref()).map_err(|e| at_place(env, at, e))
            }
            Kind::Call(call) => self.call(env, at, call),
            Kind::Array(element, items) => self.array(env, at, element.as_ref(), items),
            Kind::ArrayQuery(query) => self.array_query(env, query),
            Kind::Struct(kind, fields) => self.structure(env, at, kind.as_ref(), fields),
            Kind::Query(query) => self.scalar_query(env, query),
            Kind::Exists(query) => self.exists_query(env, query),
            Kind::Star => Err(env.error(at, "Syntax error: Unexpected \"*\"")),
            Kind::Lambda(..) => Err(env.error(at, "Lambda is not supported in this context")),
            Kind::Named(..) => Err(env.error(at, "Named arguments are not supported here")),
            Kind::Default => Err(env.error(at, "Syntax error: Unexpected keyword DEFAULT")),
        }
    }

    /// Binds an expression as a type.
    ///
    /// # Errors
    /// Also when it cannot become one.
    pub fn expr_as(&self, env: &Env, ast: &Ast, ty: &Ty) -> Res<Tx> {
        let tx = self.expr(env, ast)?;
        coerce(tx, ty).map_err(|e| at_place(env, ast.at, e))
    }

    /// Binds a condition.
    ///
    /// # Errors
    /// Also when it is no BOOL.
    pub fn condition(&self, env: &Env, ast: &Ast, clause: &str) -> Res<Expr> {
        let tx = self.expr(env, ast)?;
        if tx.ty != Ty::Bool && !tx.is_null_literal() {
            return Err(env.error(ast.at, &format!("{clause} should return type BOOL, but returns {}", tx.ty)));
        }
        Ok(coerce(tx, &Ty::Bool)?.e)
    }

    fn want_bool(&self, env: &Env, at: usize, tx: &Tx) -> Res<()> {
        if cost(tx, &Ty::Bool).is_some() {
            Ok(())
        } else {
            Err(env.error(at, &format!("BOOL expected, found {}", tx.ty)))
        }
    }

    fn typed_literal(&self, env: &Env, at: usize, kind: &TypeName, text: &str) -> Res<Tx> {
        let ty = Ty::of_name(kind)?;
        let wrong = |what: &str| env.error(at, &format!("Invalid {what} literal: {text:?}"));
        let value = match &ty {
            Ty::Date => Value::Date(parse_date(text).map_err(|_| wrong("DATE"))?),
            Ty::Datetime => Value::Datetime(parse_datetime(text).map_err(|_| wrong("DATETIME"))?),
            Ty::Time => Value::Time(parse_time(text).map_err(|_| wrong("TIME"))?),
            Ty::Timestamp => Value::Timestamp(time::parse_timestamp_text(text, None).map_err(|_| wrong("TIMESTAMP"))?),
            Ty::Numeric => Value::Numeric(parse_numeric(text).map_err(|_| wrong("NUMERIC"))?),
            Ty::BigNumeric => Value::Big(parse_bignumeric(text).map_err(|_| wrong("BIGNUMERIC"))?),
            Ty::Json => Value::Str(json::normalise(text).map_err(|_| wrong("JSON"))?),
            Ty::Range(element) => {
                let (start, end) = parse_range(text).map_err(|_| wrong("RANGE"))?;
                let end_of = |part: Option<&str>| -> Res<Value> {
                    let Some(part) = part else { return Ok(Value::Null) };
                    let name = TypeName::Simple(element.to_string(), vec![]);
                    Ok(self.typed_literal(env, at, &name, part)?.lit.unwrap_or(Value::Null))
                };
                Value::Range(Box::new((end_of(start)?, end_of(end)?)))
            }
            _ => return Err(wrong(&ty.to_string())),
        };
        // A typed literal has its type for good.
        Ok(Tx { soft: false, ..literal(ty, value)? })
    }

    fn path(&self, env: &Env, names: &[Name]) -> Res<Tx> {
        let id = || self.id();
        let first = &names[0];
        let (mut tx, rest) = 'found: {
            if let Some(second) = names.get(1) {
                match env.qualified(&first.text, &second.text, &id)? {
                    Some(Qualified::Column(tx)) => break 'found (tx, &names[2..]),
                    Some(Qualified::NoSuchColumn) => {
                        return Err(
                            env.error(second.at, &format!("Name {} not found inside {}", second.text, first.text))
                        );
                    }
                    None => {}
                }
            }
            if let Some(tx) = env.lookup(first, &id)? {
                break 'found (tx, &names[1..]);
            }
            if let Some((ty, value)) = self.session.variables.get(&first.text.to_lowercase()) {
                break 'found (Tx { soft: false, ..literal(ty.clone(), value.clone())? }, &names[1..]);
            }
            if names.len() == 1
                && let Some(tx) = self.bare_function(env, first)?
            {
                return Ok(tx);
            }
            let full: Vec<&str> = names.iter().map(|n| n.text.as_str()).collect();
            let guess = closest(&first.text, &env.scope.column_names());
            let hint = guess.map(|g| format!("; Did you mean {g}?")).unwrap_or_default();
            return Err(env.error(first.at, &format!("Unrecognized name: {}{hint}", full.join("."))));
        };
        for name in rest {
            tx = self.field(env, tx, name)?;
        }
        Ok(tx)
    }

    /// A field of a struct or of JSON.
    ///
    /// # Errors
    /// No such field, or no struct.
    pub fn field(&self, env: &Env, value: Tx, name: &Name) -> Res<Tx> {
        match &value.ty {
            Ty::Struct(fields) => {
                let mut matching = fields.iter().enumerate().filter(|(_, (n, _))| same_name(n, &name.text));
                let Some((n, _)) = matching.next() else {
                    return Err(env.error(name.at, &format!("Field name {} does not exist in {}", name.text, value.ty)));
                };
                if matching.next().is_some() {
                    return Err(env.error(name.at, &format!("Field name {} is ambiguous", name.text)));
                }
                Ok(struct_field(value, n))
            }
            Ty::Json => Ok(json::member(value, literal(Ty::String, Value::Str(name.text.clone()))?)),
            Ty::Array(element) => Err(
                env.error(name.at, &format!("Cannot access field {} on a value with type ARRAY<{element}>", name.text))
            ),
            other => {
                Err(env.error(name.at, &format!("Cannot access field {} on a value with type {other}", name.text)))
            }
        }
    }

    fn index(&self, env: &Env, value: &Ast, word: &str, index: &Ast) -> Res<Tx> {
        let at = index.at;
        let value = self.expr(env, value)?;
        let index = self.expr(env, index)?;
        match value.ty.clone() {
            Ty::Array(element) => {
                let index = coerce(index, &Ty::Int64).map_err(|e| at_place(env, at, e))?;
                let (base, safe) = match word {
                    "ORDINAL" => (1, false),
                    "SAFE_ORDINAL" => (1, true),
                    "SAFE_OFFSET" => (0, true),
                    _ => (0, false),
                };
                let f = move |a: &[Value]| {
                    if a[0].is_null() || a[1].is_null() {
                        return Ok(Value::Null);
                    }
                    let (items, n) = (a[0].array()?, a[1].int()? - base);
                    match usize::try_from(n).ok().and_then(|n| items.get(n)) {
                        Some(item) => Ok(item.clone()),
                        None if safe => Ok(Value::Null),
                        None => Err(format!("Array index {} is out of bounds", n + base)),
                    }
                };
                let e = udf::rows(
                    format!("element_{base}_{safe}"),
                    vec![value.pair(), index.pair()],
                    (*element).clone(),
                    f,
                );
                Ok(Tx::new(e, *element))
            }
            Ty::Json => {
                let key = if index.ty == Ty::String { Ty::String } else { Ty::Int64 };
                let index = coerce(index, &key).map_err(|e| at_place(env, at, e))?;
                Ok(json::member(value, index))
            }
            Ty::Struct(_) if matches!(index.lit, Some(Value::Int(_))) => {
                let n = if let Some(Value::Int(n)) = index.lit { n - i64::from(word == "ORDINAL") } else { 0 };
                let Ty::Struct(fields) = &value.ty else { return Err(unsupported("this index")) };
                match usize::try_from(n).ok().filter(|n| *n < fields.len()) {
                    Some(n) => Ok(struct_field(value, n)),
                    None => Err(env.error(at, "Field ordinal is out of bounds")),
                }
            }
            other => Err(env.error(at, &format!("Element access using [] is not supported on values of type {other}"))),
        }
    }

    fn case(
        &self,
        env: &Env,
        at: usize,
        operand: Option<&Ast>,
        branches: &[(Ast, Ast)],
        otherwise: Option<&Ast>,
    ) -> Res<Tx> {
        let operand = operand.map(|o| self.expr(env, o)).transpose()?;
        let mut conditions = Vec::with_capacity(branches.len());
        let mut results = Vec::with_capacity(branches.len() + 1);
        for (when, then) in branches {
            conditions.push(match &operand {
                None => self.condition(env, when, "CASE condition")?,
                Some(operand) => {
                    let when = self.expr(env, when)?;
                    self.compare("=", operand.clone(), when).map_err(|e| at_place(env, at, e))?.e
                }
            });
            results.push(self.expr(env, then)?);
        }
        results.push(match otherwise {
            Some(otherwise) => self.expr(env, otherwise)?,
            None => null()?,
        });
        choose(conditions, results, "CASE").map_err(|e| at_place(env, at, e))
    }

    fn cast_ast(&self, env: &Env, at: usize, ast: &Cast) -> Res<Tx> {
        let ty = Ty::of_name(&ast.to)?;
        // An exact decimal literal does not pass through a double.
        if let (Kind::Float(text), Ty::Numeric | Ty::BigNumeric) = (ast.value.kind.as_ref(), &ty) {
            let exact = literal(Ty::String, Value::Str(text.clone()))?;
            let tx = cast(exact, &ty, ast.safe).map_err(|e| at_place(env, at, e))?;
            return self.parameterised(tx, &ast.to, ast.safe);
        }
        let value = self.expr(env, &ast.value)?;
        if ast.format.is_some() || ast.zone.is_some() {
            let format = ast.format.as_ref().map(|f| self.expr_as(env, f, &Ty::String)).transpose()?;
            let zone = ast.zone.as_ref().map(|z| self.expr_as(env, z, &Ty::String)).transpose()?;
            return crate::bigquery::sql::func::format_cast::cast(value, &ty, format, zone, ast.safe)
                .map_err(|e| at_place(env, at, e));
        }
        let tx = cast(value, &ty, ast.safe).map_err(|e| at_place(env, at, e))?;
        Ok(Tx { soft: false, ..self.parameterised(tx, &ast.to, ast.safe)? })
    }

    /// NUMERIC(p, s), STRING(n): rounds or checks.
    ///
    /// # Errors
    /// Parameters that the type does not take.
    pub fn parameterised(&self, tx: Tx, name: &TypeName, safe: bool) -> Res<Tx> {
        let TypeName::Simple(_, params) = name else {
            return if has_parameters(name) {
                Err(unsupported("type parameters within ARRAY and STRUCT in a cast"))
            } else {
                Ok(tx)
            };
        };
        let Some(first) = params.first().copied() else { return Ok(tx) };
        let second = params.get(1).copied().unwrap_or(0);
        let ty = tx.ty.clone();
        let id = format!("parameters_{first}_{second}");
        let f = move |a: &[Value]| -> Result<Value, String> {
            match &a[0] {
                Value::Null => Ok(Value::Null),
                Value::Numeric(v) => {
                    let rounded = crate::bigquery::sql::num::round_numeric(*v, second as i64)?;
                    let limit = 10_i128.checked_pow((first - second.min(first)) as u32 + 9).unwrap_or(i128::MAX);
                    if rounded.abs() >= limit {
                        return Err(format!("Value of type NUMERIC({first}, {second}) is out of range"));
                    }
                    Ok(Value::Numeric(rounded))
                }
                Value::Big(v) => {
                    let rounded = crate::bigquery::sql::num::round_bignumeric(*v, second as i64)?;
                    let limit = i256::from_i128(10).checked_pow((first - second.min(first)) as u32 + 38);
                    if limit.is_some_and(|l| rounded >= l || rounded <= l.wrapping_neg()) {
                        return Err(format!("Value of type BIGNUMERIC({first}, {second}) is out of range"));
                    }
                    Ok(Value::Big(rounded))
                }
                Value::Str(text) if text.chars().count() as u64 > first => {
                    Err(format!("Value of type STRING({first}) has a maximum length of {first}"))
                }
                Value::Bytes(bytes) if bytes.len() as u64 > first => {
                    Err(format!("Value of type BYTES({first}) has a maximum length of {first}"))
                }
                other => Ok(other.clone()),
            }
        };
        if !matches!(ty, Ty::Numeric | Ty::BigNumeric | Ty::String | Ty::Bytes) {
            return Err(invalid(format!("{ty} does not support type parameters")));
        }
        let e = udf::call(id, vec![(tx.e, ty.clone())], ty.clone(), udf::Body::Rows(Arc::new(f)), false, safe);
        Ok(Tx::new(e, ty))
    }

    fn in_set(&self, env: &Env, at: usize, value: &Ast, set: &InSet, not: bool) -> Res<Tx> {
        let value = self.expr(env, value)?;
        let found = match set {
            InSet::List(items) => {
                let items = items.iter().map(|i| self.expr(env, i)).collect::<Res<Vec<_>>>()?;
                self.in_list(value, items).map_err(|e| at_place(env, at, e))?
            }
            InSet::Unnest(array) => {
                let array = self.expr(env, array)?;
                let Ty::Array(element) = array.ty.clone() else {
                    return Err(env.error(at, "Second argument of IN UNNEST must be an array"));
                };
                let probe = Tx::new(value.e.clone(), (*element).clone());
                let (value, array) = if cost(&value, &element).is_some() {
                    (coerce(value, &element)?, array)
                } else {
                    let ty = supertype(&[&value, &probe]).ok_or_else(|| {
                        env.error(
                            at,
                            &format!(
                                "No matching signature for operator IN UNNEST for argument types: {}, {}",
                                value.ty, array.ty
                            ),
                        )
                    })?;
                    let array = cast(array, &Ty::array(ty.clone()), false)?;
                    (coerce(value, &ty)?, array)
                };
                let f = |a: &[Value]| {
                    // NULL IN UNNEST([]) is false.
                    let Value::Array(items) = &a[1] else { return Ok(Value::Bool(false)) };
                    Ok(contains(items, &a[0]))
                };
                udf::rows("in_unnest", vec![value.pair(), array.pair()], Ty::Bool, f)
            }
            InSet::Query(query) => self.in_query(env, at, value, query)?,
        };
        Ok(Tx::new(negate(found, not), Ty::Bool))
    }

    fn in_list(&self, value: Tx, items: Vec<Tx>) -> Res<Expr> {
        let mut all = vec![value];
        all.extend(items);
        let (mut all, ty) = unify(all, "operator IN")?;
        if !ty.comparable() {
            return Err(invalid(format!("IN is not defined for arguments of type {ty}")));
        }
        let value = all.remove(0);
        if ty.native_comparison() {
            return Ok(value.e.in_list(all.into_iter().map(|t| t.e).collect(), false));
        }
        let args = std::iter::once(value).chain(all).map(Tx::pair).collect();
        Ok(udf::rows("in_list", args, Ty::Bool, |a| Ok(contains(&a[1..], &a[0]))))
    }

    fn array(&self, env: &Env, at: usize, element: Option<&TypeName>, items: &[Ast]) -> Res<Tx> {
        let items = items.iter().map(|i| self.expr(env, i)).collect::<Res<Vec<_>>>()?;
        let literal_array = items.iter().all(|i| i.lit.is_some());
        let soft = element.is_none() && items.iter().all(|i| i.soft);
        let (items, ty) = match element {
            Some(name) => {
                if has_parameters(name) {
                    return Err(unsupported("type parameters within ARRAY<...>"));
                }
                let ty = Ty::of_name(name)?;
                let items = items.into_iter().map(|t| coerce(t, &ty)).collect::<Res<Vec<_>>>();
                (items.map_err(|e| at_place(env, at, e))?, ty)
            }
            None if items.is_empty() => (vec![], Ty::Int64),
            None => {
                unify(items, "array").map_err(|_| env.error(at, "Array elements do not have a common supertype"))?
            }
        };
        if matches!(ty, Ty::Array(_)) {
            return Err(
                env.error(at, "Cannot construct array with element type ARRAY because nested arrays are not supported")
            );
        }
        if literal_array {
            let values = items.into_iter().map(|t| t.lit.unwrap_or(Value::Null)).collect();
            return Ok(Tx { soft, ..literal(Ty::array(ty), Value::Array(values))? });
        }
        let f = |a: &[Value]| Ok(Value::Array(a.to_vec()));
        let e = udf::rows("array", items.into_iter().map(Tx::pair).collect(), Ty::array(ty.clone()), f);
        Ok(Tx::new(e, Ty::array(ty)))
    }

    fn structure(&self, env: &Env, at: usize, kind: Option<&TypeName>, fields: &[(Ast, Option<Name>)]) -> Res<Tx> {
        let values = fields.iter().map(|(f, _)| self.expr(env, f)).collect::<Res<Vec<_>>>()?;
        let soft = values.iter().all(|v| v.soft);
        let fields: Vec<(String, Tx)> = match kind {
            Some(kind) => {
                if has_parameters(kind) {
                    return Err(unsupported("type parameters within STRUCT<...>"));
                }
                let Ty::Struct(types) = Ty::of_name(kind)? else { return Err(unsupported("this struct")) };
                if types.len() != values.len() {
                    let message = format!(
                        "STRUCT type has {} fields but constructor call has {} fields",
                        types.len(),
                        values.len()
                    );
                    return Err(env.error(at, &message));
                }
                let pairs = values.into_iter().zip(types.iter());
                pairs
                    .map(|(v, (name, ty))| Ok((name.clone(), coerce(v, ty).map_err(|e| at_place(env, at, e))?)))
                    .collect::<Res<_>>()?
            }
            None => {
                let named = fields.iter().zip(values);
                named
                    .map(|((ast, alias), tx)| {
                        // In STRUCT(a.b) the field is named b.
                        let name =
                            alias.as_ref().map(|a| a.text.clone()).or_else(|| implied_name(ast)).unwrap_or_default();
                        (name, tx)
                    })
                    .collect()
            }
        };
        let soft = soft && kind.is_none();
        Ok(Tx { soft: soft && fields.iter().all(|f| f.1.lit.is_some()), ..make_struct(fields) })
    }
}

/// The name a column gets from an expression: that of a path's or field's last part.
pub fn implied_name(ast: &Ast) -> Option<String> {
    match ast.kind.as_ref() {
        Kind::Path(names) => names.last().map(|n| n.text.clone()),
        Kind::Field(_, name) => Some(name.text.clone()),
        _ => None,
    }
}

/// Adds the place to an error that has none.
pub fn at_place(env: &Env, at: usize, mut error: crate::core::ApiError) -> crate::core::ApiError {
    if error.reason == "invalidQuery" && !error.message.contains(" at [") {
        error.message = format!("{} at {}", error.message, env.names.place(at));
    }
    error
}

fn has_parameters(name: &TypeName) -> bool {
    match name {
        TypeName::Simple(_, params) => !params.is_empty(),
        TypeName::Array(element) | TypeName::Range(element) => has_parameters(element),
        TypeName::Struct(fields) => fields.iter().any(|(_, t, _)| has_parameters(t)),
        TypeName::Any => false,
    }
}

fn negate(e: Expr, not: bool) -> Expr {
    if not { Expr::Not(Box::new(e)) } else { e }
}

/// SQL's IN over values: NULL when not found but something is unknown.
pub fn contains(items: &[Value], value: &Value) -> Value {
    let mut unknown = false;
    for item in items {
        match item.equals(value) {
            Some(true) => return Value::Bool(true),
            Some(false) => {}
            None => unknown = true,
        }
    }
    if unknown { Value::Null } else { Value::Bool(false) }
}

/// CASE WHEN conditions THEN results; the last result is for ELSE.
///
/// # Errors
/// When the results have no common type.
pub fn choose(conditions: Vec<Expr>, results: Vec<Tx>, what: &str) -> Res<Tx> {
    let (mut results, ty) = unify(results, what)?;
    let otherwise = results.pop().map(|t| Box::new(t.e));
    let pairs = conditions.into_iter().zip(results).map(|(c, r)| (Box::new(c), Box::new(r.e))).collect();
    Ok(Tx::new(Expr::Case(Case::new(None, pairs, otherwise)), ty))
}

/// A struct of expressions.
pub fn make_struct(fields: Vec<(String, Tx)>) -> Tx {
    let ty = Ty::structure(fields.iter().map(|(n, t)| (n.clone(), t.ty.clone())).collect());
    let lit = fields.iter().map(|(_, t)| t.lit.clone()).collect::<Option<Vec<_>>>().map(Value::Struct);
    let args: Vec<_> = fields.into_iter().map(|(_, t)| t.pair()).collect();
    let types: Vec<Ty> = args.iter().map(|a| a.1.clone()).collect();
    let e = udf::batch("struct", args, ty.clone(), move |arrays, rows| {
        let fields = inner_fields(types.iter());
        let array = StructArray::try_new_with_length(fields, arrays.to_vec(), None, rows).map_err(|e| e.to_string())?;
        Ok(Arc::new(array) as ArrayRef)
    });
    Tx { e, ty, lit, soft: false, image: None }
}

/// The n-th field of a struct; NULL where the struct is.
pub fn struct_field(value: Tx, n: usize) -> Tx {
    let Ty::Struct(fields) = &value.ty else { return value };
    let ty = fields[n].1.clone();
    let lit = match &value.lit {
        Some(Value::Struct(items)) => items.get(n).cloned(),
        _ => None,
    };
    let e = udf::batch(format!("field_{n}"), vec![value.pair()], ty.clone(), move |arrays, _| {
        let structure = arrays[0].as_struct_opt().ok_or("Internal: a STRUCT was expected")?;
        let column = structure.column(n);
        let Some(outer) = structure.nulls() else { return Ok(column.clone()) };
        let nulls = NullBuffer::union(Some(outer), column.nulls());
        let data = column.to_data().into_builder().nulls(nulls).build().map_err(|e| e.to_string())?;
        Ok(arrow::array::make_array(data))
    });
    Tx { e, ty, lit, soft: false, image: None }
}

/// The name nearest to one that was not found, if any is near.
fn closest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    let limit = (name.chars().count() / 5).max(1);
    let best = candidates.iter().map(|c| (distance(&name, &c.to_lowercase()), *c)).min_by_key(|(d, _)| *d)?;
    (best.0 <= limit).then_some(best.1)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut previous = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = if ca == *cb { previous } else { 1 + previous.min(row[j]).min(row[j + 1]) };
            previous = row[j + 1];
            row[j + 1] = cost;
        }
    }
    row[b.len()]
}
