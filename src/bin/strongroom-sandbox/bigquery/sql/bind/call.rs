//! Calls: aggregates, analytic functions, functions with arguments of their own kind, routines of the catalog, row functions.

use std::rc::Rc;

use arrow::datatypes::DataType;
use datafusion::functions_window::cume_dist::cume_dist_udwf;
use datafusion::functions_window::lead_lag::{lag_udwf, lead_udwf};
use datafusion::functions_window::nth_value::{first_value_udwf, last_value_udwf, nth_value_udwf};
use datafusion::functions_window::ntile::ntile_udwf;
use datafusion::functions_window::rank::{dense_rank_udwf, percent_rank_udwf, rank_udwf};
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::{Cast, Expr, WindowFunctionDefinition, lit};

use super::Context;
use super::coerce::{cast, coerce, literal, null, unify};
use super::expr::{at_place, choose};
use super::scope::{Env, Names, Scope, Tx, column};
use super::window::WindowCall;
use crate::bigquery::sql::error::{Res, invalid, unsupported};
use crate::bigquery::sql::func::aggregate::{Modifiers, is_aggregate, parts};
use crate::bigquery::sql::func::{self, json, range, time};
use crate::bigquery::sql::syntax::ast::{Call, Expr as Ast, Kind, Name};
use crate::bigquery::sql::syntax::parse_expression;
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::udf;
use crate::bigquery::sql::value::Value;
use crate::bigquery::sql::{SqlFunction, TablePath};

const MAX_INLINED: usize = 50;

/// Functions that take a part of a date, and at which argument.
fn part_argument(name: &str) -> Option<usize> {
    Some(match name {
        "DATE_TRUNC" | "DATETIME_TRUNC" | "TIMESTAMP_TRUNC" | "TIME_TRUNC" | "LAST_DAY" => 1,
        "DATE_DIFF" | "DATETIME_DIFF" | "TIMESTAMP_DIFF" | "TIME_DIFF" => 2,
        _ => return None,
    })
}

/// `DAY` or `WEEK(MONDAY)` as an argument.
fn part_name(ast: &Ast) -> Option<String> {
    match ast.kind.as_ref() {
        Kind::Path(names) if names.len() == 1 => Some(names[0].text.to_uppercase()),
        Kind::Call(call) if call.name.len() == 1 && call.args.len() == 1 => {
            Some(format!("{}({})", call.name[0].text.to_uppercase(), part_name(&call.args[0])?))
        }
        _ => None,
    }
}

impl Context<'_> {
    /// Binds a call.
    ///
    /// # Errors
    /// `Function not found`, `No matching signature`.
    pub fn call(&self, env: &Env, at: usize, call: &Call) -> Res<Tx> {
        let written: Vec<&str> = call.name.iter().map(|n| n.text.as_str()).collect();
        let written = written.join(".");
        let name = written.to_uppercase();
        let own = self.session.functions.get(&written.to_lowercase());
        if call.over.is_some() {
            return self.window_call(env, at, call, &name).map_err(|e| at_place(env, at, e));
        }
        if own.is_none() && is_aggregate(&name) && !matches!(name.as_str(), "PERCENTILE_CONT" | "PERCENTILE_DISC") {
            if call.safe {
                return Err(env.error(at, &format!("Function {written} does not support SAFE error handling mode")));
            }
            let (args, modifiers) = self.aggregate_arguments(env, call, false)?;
            let parts = parts(&name, args, modifiers).map_err(|e| at_place(env, at, e))?;
            return self.note_aggregate(env, at, &name, parts);
        }
        if call.distinct
            || !call.order_by.is_empty()
            || call.limit.is_some()
            || call.ignore_nulls.is_some()
            || call.having.is_some()
        {
            return Err(
                env.error(at, &format!("Syntax error: Function {written} does not support aggregate modifiers"))
            );
        }
        if let Some(function) = own {
            let function = SqlFunction {
                arguments: function
                    .arguments
                    .iter()
                    .map(|(n, t)| Ok((n.text.clone(), super::super::stmt::types::standard_type(t)?)))
                    .collect::<Res<_>>()?,
                body: if function.language.eq_ignore_ascii_case("SQL") {
                    function.body.clone()
                } else {
                    return Err(unsupported(format!("functions in {}", function.language)));
                },
                return_type: function
                    .returns
                    .as_ref()
                    .map(super::super::stmt::types::standard_type)
                    .transpose()?
                    .flatten(),
            };
            return self.inline(env, at, &written, &function, call, env.names);
        }
        if call.name.len() > 1
            && !matches!(name.split('.').next(), Some("NET" | "HLL_COUNT" | "KEYS" | "AEAD" | "KLL_QUANTILES"))
        {
            return self.routine_call(env, at, call, &written);
        }
        self.builtin(env, at, call, &name, &written).map_err(|e| at_place(env, at, e))
    }

    fn routine_call(&self, env: &Env, at: usize, call: &Call, written: &str) -> Res<Tx> {
        let names: Vec<&str> = call.name.iter().map(|n| n.text.as_str()).collect();
        let parts = super::super::syntax::split_path(&names);
        let path = match parts.as_slice() {
            [dataset, name] => {
                TablePath { project: env.names.project.clone(), dataset: dataset.clone(), table: name.clone() }
            }
            [project, dataset, name] => {
                TablePath { project: project.clone(), dataset: dataset.clone(), table: name.clone() }
            }
            _ => return Err(env.error(at, &format!("Function not found: {written}"))),
        };
        let function = self.catalog.routine(&path)?;
        let function = function.ok_or_else(|| env.error(at, &format!("Function not found: {written}")))?;
        let inside = Names {
            project: path.project.clone(),
            dataset: Some((path.project.clone(), path.dataset.clone())),
            ..env.names.clone()
        };
        self.inline(env, at, written, &function, call, &inside)
    }

    /// Puts a function's body in the place of its call.
    fn inline(&self, env: &Env, at: usize, name: &str, function: &SqlFunction, call: &Call, around: &Names) -> Res<Tx> {
        if env.names.depth > MAX_INLINED {
            return Err(invalid(format!("Function {name} calls itself too deeply")));
        }
        if call.args.len() != function.arguments.len() {
            return Err(env.error(
                at,
                &format!(
                    "Number of arguments does not match for function {name}. Supported signature has {} arguments",
                    function.arguments.len()
                ),
            ));
        }
        let mut overlay = Vec::new();
        for (ast, (argument, ty)) in call.args.iter().zip(&function.arguments) {
            let value = self.expr(env, ast)?;
            let value = match ty {
                Some(ty) => {
                    let ty = super::super::stmt::types::type_of_standard(ty)?;
                    coerce(value, &ty).map_err(|e| at_place(env, ast.at, e))?
                }
                None => value,
            };
            // Within the body an argument is a value, not a literal.
            overlay.push((argument.clone(), Tx { soft: false, ..value }));
        }
        let names =
            Names { sql: Rc::from(function.body.as_str()), ctes: None, depth: around.depth + 1, ..around.clone() };
        let body = parse_expression(&function.body)?;
        let scope = Scope::default();
        let inner = Env { overlay: &overlay, aggregates: None, ..Env::new(&names, &scope, "SQL function body") };
        let result = self.expr(&inner, &body)?;
        match &function.return_type {
            Some(ty) => {
                let ty = super::super::stmt::types::type_of_standard(ty)?;
                let result = if super::coerce::cost(&result, &ty).is_some() {
                    coerce(result, &ty)?
                } else {
                    cast(result, &ty, false)?
                };
                Ok(Tx { soft: false, ..result })
            }
            None => Ok(Tx { soft: false, ..result }),
        }
    }

    fn arguments(&self, env: &Env, call: &Call) -> Res<Vec<Tx>> {
        call.args
            .iter()
            .map(|a| match a.kind.as_ref() {
                Kind::Named(name, value) if name.text.eq_ignore_ascii_case("pretty_print") => self.expr(env, value),
                Kind::Named(name, _) => Err(env.error(
                    a.at,
                    &format!("Named argument {} is not supported by the sandbox's SQL engine", name.text),
                )),
                _ => self.expr(env, a),
            })
            .collect()
    }

    fn builtin(&self, env: &Env, at: usize, call: &Call, name: &str, written: &str) -> Res<Tx> {
        match name {
            "IF" => {
                if call.args.len() != 3 {
                    return Err(no_arguments("IF", 3));
                }
                let condition = self.expr_as(env, &call.args[0], &Ty::Bool)?;
                let results = vec![self.expr(env, &call.args[1])?, self.expr(env, &call.args[2])?];
                return choose(vec![condition.e], results, "function IF");
            }
            "IFNULL" | "COALESCE" => {
                let mut args = self.arguments(env, call)?;
                if args.is_empty() || (name == "IFNULL" && args.len() != 2) {
                    return Err(func::no_match(name, &args));
                }
                if args.len() == 1 {
                    return Ok(args.remove(0));
                }
                let (args, _) = unify(args, &format!("function {name}"))?;
                let last = args.len() - 1;
                let conditions = args[..last].iter().map(|a| Expr::IsNotNull(Box::new(a.e.clone()))).collect();
                return choose(conditions, args, "function COALESCE");
            }
            "NULLIF" => {
                let mut args = self.arguments(env, call)?;
                if args.len() != 2 {
                    return Err(func::no_match(name, &args));
                }
                let (Some(other), Some(value)) = (args.pop(), args.pop()) else { return Err(no_arguments(name, 2)) };
                let (both, _) = unify(vec![value, other], "function NULLIF")?;
                let equal = self.compare("=", both[0].clone(), both[1].clone())?;
                let result = choose(vec![equal.e], vec![null()?, both[0].clone()], "function NULLIF")?;
                return Ok(result);
            }
            "TO_JSON_STRING" | "TO_JSON" => {
                let mut args = self.arguments(env, call)?;
                if args.is_empty() || args.len() > 2 {
                    return Err(func::no_match(name, &args));
                }
                if name == "TO_JSON" {
                    let value = args.remove(0);
                    let ty = value.ty.clone();
                    let e = udf::rows("to_json", vec![value.pair()], Ty::Json, move |a| {
                        json::to_json(&a[0], &ty).map(|j| Value::Str(json::compact(&j)))
                    });
                    return Ok(Tx::new(e, Ty::Json));
                }
                let pretty = if args.len() == 2 { Some(coerce(args.remove(1), &Ty::Bool)?) } else { None };
                return Ok(json::to_json_string(args.remove(0), pretty));
            }
            "JSON_OBJECT" => {
                let args = self.arguments(env, call)?;
                if args.len() % 2 == 1 {
                    return Err(func::no_match(name, &args));
                }
                let types: Vec<Ty> = args.iter().map(|a| a.ty.clone()).collect();
                let e = udf::rows("json_object", args.into_iter().map(Tx::pair).collect(), Ty::Json, move |a| {
                    let mut members = serde_json::Map::new();
                    for (n, pair) in a.chunks(2).enumerate() {
                        let key = pair[0].str().map_err(|_| "JSON_OBJECT keys must be STRING".to_owned())?;
                        members.insert(key.to_owned(), json::to_json(&pair[1], &types[n * 2 + 1])?);
                    }
                    Ok(Value::Str(json::compact(&serde_json::Value::Object(members))))
                });
                return Ok(Tx::new(e, Ty::Json));
            }
            "FORMAT" => {
                let mut args = self.arguments(env, call)?;
                if args.is_empty() {
                    return Err(func::no_match(name, &args));
                }
                let format = coerce(args.remove(0), &Ty::String)?;
                args.insert(0, format);
                let types: Vec<Ty> = args.iter().map(|a| a.ty.clone()).collect();
                let f = move |a: &[Value]| func::format::format(a, &types);
                let args = args.into_iter().map(Tx::pair).collect();
                let e =
                    udf::call("format", args, Ty::String, udf::Body::Rows(std::sync::Arc::new(f)), false, call.safe);
                return Ok(Tx::new(e, Ty::String));
            }
            "STRING" => {
                let mut args = self.arguments(env, call)?;
                return match (args.first().map(|a| a.ty.clone()), args.len()) {
                    (Some(Ty::Json), 1) => {
                        let e = udf::rows("string_of_json", vec![args.remove(0).pair()], Ty::String, |a| {
                            let Value::Str(text) = &a[0] else { return Ok(Value::Null) };
                            match serde_json::from_str(text) {
                                Ok(serde_json::Value::String(s)) => Ok(Value::Str(s)),
                                _ => Err("The provided JSON input is not a string".into()),
                            }
                        });
                        Ok(Tx::new(e, Ty::String))
                    }
                    (Some(Ty::Timestamp), 2) => {
                        let zone = coerce(args.remove(1), &Ty::String)?;
                        let pairs = vec![args.remove(0).pair(), zone.pair()];
                        let e = udf::rows("string_of_timestamp", pairs, Ty::String, |a| match (&a[0], &a[1]) {
                            (Value::Timestamp(v), Value::Str(zone)) => time::zoned_text(*v, zone).map(Value::Str),
                            _ => Ok(Value::Null),
                        });
                        Ok(Tx::new(e, Ty::String))
                    }
                    (Some(Ty::Timestamp | Ty::Date | Ty::Datetime | Ty::Time), 1) => {
                        cast(args.remove(0), &Ty::String, false)
                    }
                    _ => Err(func::no_match(name, &args)),
                };
            }
            "RANGE" => {
                let args = self.arguments(env, call)?;
                if args.len() != 2 {
                    return Err(func::no_match(name, &args));
                }
                let (args, ty) = unify(args, "function RANGE")?;
                let ret = Ty::Range(Box::new(ty));
                let e = udf::rows("range", args.into_iter().map(Tx::pair).collect(), ret.clone(), range::make);
                return Ok(Tx::new(e, ret));
            }
            "RANGE_START" | "RANGE_END" | "RANGE_CONTAINS" | "RANGE_OVERLAPS" | "RANGE_INTERSECT" => {
                let mut args = self.arguments(env, call)?;
                let Some(Ty::Range(element)) = args.first().map(|a| a.ty.clone()) else {
                    return Err(func::no_match(name, &args));
                };
                let ret = match name {
                    "RANGE_START" | "RANGE_END" => (*element).clone(),
                    "RANGE_INTERSECT" => args[0].ty.clone(),
                    _ => Ty::Bool,
                };
                if let (Some(second), "RANGE_CONTAINS") = (args.get(1).cloned(), name)
                    && !matches!(second.ty, Ty::Range(_))
                {
                    args[1] = coerce(second, &element)?;
                }
                let f = name.to_owned();
                let args = args.into_iter().map(Tx::pair).collect();
                let e = udf::rows(name, args, ret.clone(), move |a| range::call(&f, a));
                return Ok(Tx::new(e, ret));
            }
            "SESSION_USER" | "CURRENT_USER" => return literal(Ty::String, Value::Str(self.query.user.clone())),
            "ARRAY_FILTER" | "ARRAY_TRANSFORM" => return Err(unsupported(format!("{name} and lambdas"))),
            _ => {}
        }
        if let Some(tx) = self.current(env, name, call)? {
            return Ok(tx);
        }
        let def = func::find(name).ok_or_else(|| env.error(at, &format!("Function not found: {written}")))?;
        let mut args = Vec::new();
        for (n, ast) in call.args.iter().enumerate() {
            if part_argument(name) == Some(n) && part_name(ast).is_some() {
                let part = part_name(ast).unwrap_or_default();
                args.push(literal(Ty::String, Value::Str(part))?);
                continue;
            }
            if let Kind::Named(argument, _) = ast.kind.as_ref()
                && name != "MAKE_INTERVAL"
            {
                return Err(env.error(
                    ast.at,
                    &format!("Named argument {} is not supported by the sandbox's SQL engine", argument.text),
                ));
            }
            let ast = if let Kind::Named(_, value) = ast.kind.as_ref() { value } else { ast };
            args.push(self.expr(env, ast)?);
        }
        if name == "MAKE_INTERVAL" {
            args = interval_arguments(call, args)?;
        }
        self.check_parts(name, &args)?;
        func::bind(def, args, call.safe, self.query.now_us)
    }

    /// A part of a date that a function does not know is an error of the query, not of a row.
    fn check_parts(&self, name: &str, args: &[Tx]) -> Res<()> {
        let Some(n) = part_argument(name) else { return Ok(()) };
        let Some(Some(Value::Str(part))) = args.get(n).map(|a| a.lit.clone()) else { return Ok(()) };
        if time::part_of(0, &part).is_ok() {
            return Ok(());
        }
        Err(invalid(format!("A valid date part name is required but found {part}")))
    }

    /// CURRENT_DATE and its like, with or without parentheses.
    fn current(&self, env: &Env, name: &str, call: &Call) -> Res<Option<Tx>> {
        let ty = match name {
            "CURRENT_TIMESTAMP" => Ty::Timestamp,
            "CURRENT_DATE" => Ty::Date,
            "CURRENT_DATETIME" => Ty::Datetime,
            "CURRENT_TIME" => Ty::Time,
            _ => return Ok(None),
        };
        let zone = call.args.first().map(|z| self.expr_as(env, z, &Ty::String)).transpose()?;
        let now = self.now(ty, zone)?;
        Ok(Some(now))
    }

    fn now(&self, ty: Ty, zone: Option<Tx>) -> Res<Tx> {
        let mut local = self.query.now_us;
        if let Some(zone) = zone {
            let Some(Value::Str(name)) = &zone.lit else {
                return Err(unsupported("a time zone that is no constant here"));
            };
            local = func::zone::to_local(&func::zone::zone(name).map_err(invalid)?, local);
        }
        const DAY: i64 = strongroom::codec::value::MICROS_PER_DAY;
        let value = match ty {
            Ty::Timestamp => Value::Timestamp(self.query.now_us),
            Ty::Date => Value::Date(local.div_euclid(DAY) as i32),
            Ty::Datetime => Value::Datetime(local),
            _ => Value::Time(local.rem_euclid(DAY)),
        };
        Ok(Tx { soft: false, ..literal(ty, value)? })
    }

    /// A function that needs no parentheses.
    ///
    /// # Errors
    /// Never for other names.
    pub fn bare_function(&self, _: &Env, name: &Name) -> Res<Option<Tx>> {
        let ty = match name.text.to_uppercase().as_str() {
            "CURRENT_TIMESTAMP" => Ty::Timestamp,
            "CURRENT_DATE" => Ty::Date,
            "CURRENT_DATETIME" => Ty::Datetime,
            "CURRENT_TIME" => Ty::Time,
            _ => return Ok(None),
        };
        self.now(ty, None).map(Some)
    }

    fn aggregate_arguments(&self, env: &Env, call: &Call, window: bool) -> Res<(Vec<Tx>, Modifiers)> {
        // Within an aggregate there are only the rows: no aggregates, no aliases.
        let inside = Env {
            aggregates: if window { env.aggregates } else { None },
            windows: None,
            overlay: if is_routine(env) { env.overlay } else { &[] },
            clause: "an aggregate function's arguments",
            ..*env
        };
        let star = call.args.first().is_some_and(|a| *a.kind == Kind::Star);
        let mut modifiers = Modifiers {
            distinct: call.distinct,
            ignore_nulls: call.ignore_nulls,
            star,
            window,
            ..Modifiers::default()
        };
        let args =
            if star { vec![] } else { call.args.iter().map(|a| self.expr(&inside, a)).collect::<Res<Vec<_>>>()? };
        for item in &call.order_by {
            let tx = self.expr(&inside, &item.expr)?;
            super::query::order_type(env, item, &tx)?;
            modifiers.order_by.push((tx, item.desc, item.nulls_first.unwrap_or(!item.desc)));
        }
        if let Some((max, key)) = &call.having {
            modifiers.having = Some((*max, self.expr(&inside, key)?));
        }
        if let Some(limit) = &call.limit {
            match self.expr(&inside, limit)?.lit {
                Some(Value::Int(n)) if n >= 0 => modifiers.limit = Some(usize::try_from(n).unwrap_or(usize::MAX)),
                _ => {
                    return Err(
                        env.error(limit.at, "LIMIT in an aggregate function expects a non-negative integer literal")
                    );
                }
            }
        }
        Ok((args, modifiers))
    }

    fn window_call(&self, env: &Env, at: usize, call: &Call, name: &str) -> Res<Tx> {
        let Some(window) = &call.over else { return Err(invalid("OVER expected")) };
        let over = self.over(env, window)?;
        if is_aggregate(name) {
            let (args, modifiers) = self.aggregate_arguments(env, call, true)?;
            if modifiers.distinct && !over.order_by.is_empty() {
                return Err(env.error(at, "Window ORDER BY is not allowed if DISTINCT is specified"));
            }
            let ignore = matches!(name, "PERCENTILE_CONT" | "PERCENTILE_DISC") && call.ignore_nulls == Some(false);
            if ignore {
                return Err(unsupported(format!("{name} with RESPECT NULLS")));
            }
            let parts = parts(name, args, modifiers)?;
            return self.note_window_aggregate(env, at, name, parts, &over);
        }
        let inside = Env { windows: None, overlay: &[], clause: "an analytic function's arguments", ..*env };
        let mut args = call.args.iter().map(|a| self.expr(&inside, a)).collect::<Res<Vec<_>>>()?;
        let constant = |tx: Option<&Tx>, default: i64| -> Res<i64> {
            match tx.map(|t| t.lit.clone()) {
                None => Ok(default),
                Some(Some(Value::Int(n))) => Ok(n),
                _ => Err(invalid(format!("The argument of {name} must be an INT64 literal or parameter"))),
            }
        };
        let count = |args: &[Tx], allowed: std::ops::RangeInclusive<usize>| {
            if allowed.contains(&args.len()) { Ok(()) } else { Err(func::no_match(name, args)) }
        };
        let mut ret = Ty::Int64;
        let mut unsigned = false;
        if over.framed && !matches!(name, "FIRST_VALUE" | "LAST_VALUE" | "NTH_VALUE") {
            return Err(env.error(
                at,
                &format!("Window framing clause is not allowed for analytic function {}", name.to_lowercase()),
            ));
        }
        let udwf = match name {
            "ROW_NUMBER" | "RANK" | "DENSE_RANK" => {
                count(&args, 0..=0)?;
                if name != "ROW_NUMBER" && over.order_by.is_empty() {
                    return Err(env.error(
                        at,
                        &format!("Window ORDER BY is required for analytic function {}", name.to_lowercase()),
                    ));
                }
                unsigned = true;
                match name {
                    "ROW_NUMBER" => row_number_udwf(),
                    "RANK" => rank_udwf(),
                    _ => dense_rank_udwf(),
                }
            }
            "PERCENT_RANK" | "CUME_DIST" => {
                count(&args, 0..=0)?;
                if over.order_by.is_empty() {
                    return Err(env.error(
                        at,
                        &format!("Window ORDER BY is required for analytic function {}", name.to_lowercase()),
                    ));
                }
                ret = Ty::Float64;
                if name == "CUME_DIST" { cume_dist_udwf() } else { percent_rank_udwf() }
            }
            "NTILE" => {
                count(&args, 1..=1)?;
                if constant(args.first(), 1)? < 1 {
                    return Err(env.error(at, "The argument of NTILE must be positive"));
                }
                unsigned = true;
                ntile_udwf()
            }
            "LEAD" | "LAG" => {
                count(&args, 1..=3)?;
                let offset = constant(args.get(1), 1)?;
                if offset < 0 {
                    return Err(env.error(at, &format!("The offset of {name} must not be negative")));
                }
                ret = args[0].ty.clone();
                let default = match args.get(2) {
                    Some(tx) => match coerce(tx.clone(), &ret)? {
                        tx if tx.lit.is_some() => Some(tx.e),
                        _ => return Err(unsupported(format!("{name} with a default that is no constant"))),
                    },
                    None => None,
                };
                args.truncate(1);
                args.push(Tx::new(lit(offset), Ty::Int64));
                args.extend(default.map(|e| Tx::new(e, ret.clone())));
                if name == "LEAD" { lead_udwf() } else { lag_udwf() }
            }
            "FIRST_VALUE" | "LAST_VALUE" => {
                count(&args, 1..=1)?;
                ret = args[0].ty.clone();
                if name == "FIRST_VALUE" { first_value_udwf() } else { last_value_udwf() }
            }
            "NTH_VALUE" => {
                count(&args, 2..=2)?;
                ret = args[0].ty.clone();
                if constant(args.get(1), 1)? < 1 {
                    return Err(env.error(at, "The N value for the NthValue function must be positive"));
                }
                nth_value_udwf()
            }
            _ => return Err(env.error(at, &format!("Analytic function not found: {name}"))),
        };
        let call = WindowCall {
            id: self.id(),
            fun: WindowFunctionDefinition::WindowUDF(udwf),
            args: args.into_iter().map(|a| a.e).collect(),
            over,
            distinct: false,
            ignore_nulls: call.ignore_nulls == Some(true),
        };
        let id = self.note_window(env, at, name, call)?;
        let mut e = column(&id);
        if unsigned {
            e = Expr::Cast(Cast::new(Box::new(e), DataType::Int64));
        }
        Ok(Tx::new(e, ret))
    }
}

/// MAKE_INTERVAL's arguments in their order, zero for those that are not given.
fn interval_arguments(call: &Call, args: Vec<Tx>) -> Res<Vec<Tx>> {
    const NAMES: [&str; 6] = ["year", "month", "day", "hour", "minute", "second"];
    let mut out: Vec<Option<Tx>> = vec![None; NAMES.len()];
    for (n, (ast, tx)) in call.args.iter().zip(args).enumerate() {
        let place = match ast.kind.as_ref() {
            Kind::Named(name, _) => NAMES.iter().position(|k| k.eq_ignore_ascii_case(&name.text)),
            _ => Some(n),
        };
        match place.and_then(|p| out.get_mut(p)) {
            Some(slot) if slot.is_none() => *slot = Some(tx),
            _ => return Err(invalid("Invalid arguments of MAKE_INTERVAL")),
        }
    }
    out.into_iter().map(|tx| tx.map_or_else(|| literal(Ty::Int64, Value::Int(0)), Ok)).collect()
}

fn is_routine(env: &Env) -> bool {
    env.clause == "SQL function body"
}

fn no_arguments(name: &str, count: usize) -> crate::core::ApiError {
    invalid(format!("Number of arguments does not match for function {name}: {count} expected"))
}
