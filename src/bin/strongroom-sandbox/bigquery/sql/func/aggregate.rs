//! Aggregate functions: by DataFusion's accumulators where they are exact, otherwise collected and finished by a row function.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Int64Type, i256};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::bit_and_or_xor::{bit_and_udaf, bit_or_udaf, bit_xor_udaf};
use datafusion::functions_aggregate::bool_and_or::{bool_and_udaf, bool_or_udaf};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::covariance::{covar_pop_udaf, covar_samp_udaf};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::stddev::{stddev_pop_udaf, stddev_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_aggregate::variance::{var_pop_udaf, var_samp_udaf};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::{AggregateUDF, Cast, Expr, lit};

use super::{Out, group_key, no_match, sortable};
use crate::bigquery::sql::bind::coerce::coerce;
use crate::bigquery::sql::bind::expr::make_struct;
use crate::bigquery::sql::bind::scope::Tx;
use crate::bigquery::sql::error::{Res, invalid, unsupported};
use crate::bigquery::sql::num;
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::udf;
use crate::bigquery::sql::value::Value;

/// One accumulation that DataFusion does.
#[derive(Debug, Clone)]
pub struct Raw {
    pub function: Arc<AggregateUDF>,
    pub args: Vec<Expr>,
    pub distinct: bool,
    /// Its value over no rows, if that is not NULL.
    pub empty: Option<ScalarValue>,
    /// The whole call, to find it again.
    pub e: Expr,
}

impl Raw {
    fn new(function: Arc<AggregateUDF>, args: Vec<Expr>, distinct: bool) -> Self {
        let e = whole(&function, args.clone(), distinct);
        Self { function, args, distinct, empty: None, e }
    }

    /// The call over other arguments (columns).
    pub fn call(&self, args: Vec<Expr>) -> Expr {
        whole(&self.function, args, self.distinct)
    }
}

fn whole(function: &Arc<AggregateUDF>, args: Vec<Expr>, distinct: bool) -> Expr {
    let params = AggregateFunctionParams { args, distinct, filter: None, order_by: vec![], null_treatment: None };
    Expr::AggregateFunction(AggregateFunction { func: function.clone(), params })
}

/// An aggregate: what to accumulate, and what to make of it.
pub struct Parts {
    pub raws: Vec<Raw>,
    pub finish: Box<dyn FnOnce(Vec<Expr>) -> Tx>,
}

/// What stands in an aggregate's parentheses beside its arguments.
#[derive(Default)]
pub struct Modifiers {
    pub distinct: bool,
    pub ignore_nulls: Option<bool>,
    /// Key, descending, nulls first.
    pub order_by: Vec<(Tx, bool, bool)>,
    pub limit: Option<usize>,
    pub having: Option<(bool, Tx)>,
    pub star: bool,
    /// As an analytic function: accumulators must be able to forget.
    pub window: bool,
}

const NAMES: &[&str] = &[
    "ANY_VALUE",
    "APPROX_COUNT_DISTINCT",
    "APPROX_QUANTILES",
    "APPROX_TOP_COUNT",
    "APPROX_TOP_SUM",
    "ARRAY_AGG",
    "ARRAY_CONCAT_AGG",
    "AVG",
    "BIT_AND",
    "BIT_OR",
    "BIT_XOR",
    "CORR",
    "COUNT",
    "COUNTIF",
    "COUNT_IF",
    "COVAR_POP",
    "COVAR_SAMP",
    "LOGICAL_AND",
    "LOGICAL_OR",
    "MAX",
    "MAX_BY",
    "MIN",
    "MIN_BY",
    "PERCENTILE_CONT",
    "PERCENTILE_DISC",
    "STDDEV",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "STRING_AGG",
    "SUM",
    "VARIANCE",
    "VAR_POP",
    "VAR_SAMP",
    "GROUPING",
];

/// Whether a name (in upper case) is an aggregate's.
pub fn is_aggregate(name: &str) -> bool {
    NAMES.contains(&name)
}

fn simple(raw: Raw, ty: Ty) -> Parts {
    Parts {
        raws: vec![raw],
        finish: Box::new(move |mut columns| match columns.pop() {
            Some(column) => Tx::new(column, ty),
            None => Tx::new(lit(ScalarValue::Null), ty),
        }),
    }
}

fn counted(mut raw: Raw) -> Parts {
    raw.empty = Some(ScalarValue::Int64(Some(0)));
    simple(raw, Ty::Int64)
}

fn cast_to(e: Expr, to: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(e), to))
}

/// The accumulation for a call.
///
/// # Errors
/// Wrong arguments.
pub fn parts(name: &str, mut args: Vec<Tx>, m: Modifiers) -> Res<Parts> {
    let ordered = !m.order_by.is_empty() || m.limit.is_some() || m.having.is_some();
    if m.star {
        return if name == "COUNT" && !m.distinct {
            Ok(counted(Raw::new(count_udaf(), vec![lit(1_i64)], false)))
        } else {
            Err(invalid(format!("Argument * can only be used in COUNT(*), but was used in {name}")))
        };
    }
    if matches!(name, "ANY_VALUE" | "MIN" | "MAX" | "COUNT" | "ARRAY_AGG") && args.len() != 1 {
        return Err(no_match(name, &args));
    }
    // NULL alone counts as an INT64.
    if name == "COUNTIF" || name == "COUNT_IF" {
        let condition = coerced(name, &mut args, &[Ty::Bool])?.remove(0);
        if m.distinct || ordered {
            return Err(unsupported("COUNTIF with modifiers"));
        }
        let one = Expr::Case(datafusion::logical_expr::Case::new(
            None,
            vec![(Box::new(condition.e), Box::new(lit(1_i64)))],
            None,
        ));
        return Ok(counted(Raw::new(count_udaf(), vec![one], false)));
    }
    let ty = args.first().map(|a| a.ty.clone()).ok_or_else(|| no_match(name, &args))?;
    if (m.distinct || name == "APPROX_COUNT_DISTINCT") && !ty.groupable() {
        return Err(invalid(format!("Aggregate functions with DISTINCT cannot be used with arguments of type {ty}")));
    }
    let forgets = m.window && m.distinct;
    let plain = !(ordered || forgets);
    match name {
        "COUNT" | "APPROX_COUNT_DISTINCT" if !ordered => {
            let distinct = m.distinct || name != "COUNT";
            if distinct && (matches!(ty, Ty::Struct(_) | Ty::Array(_) | Ty::Range(_) | Ty::Interval) || m.window) {
                return collect(name, args, Modifiers { distinct: true, ..m });
            }
            let arg = args.remove(0);
            let arg = if distinct { group_key(arg) } else { arg.e };
            Ok(counted(Raw::new(count_udaf(), vec![arg], distinct)))
        }
        "SUM" if plain && !(ty == Ty::BigNumeric && m.distinct) && ty != Ty::Interval => sum(args, m.distinct),
        "AVG" if plain && !m.distinct && ty != Ty::Interval => average(args),
        "MIN" | "MAX" if !ordered => extreme(name, args),
        "ANY_VALUE" if m.having.is_none() && ty.orderable() && ty != Ty::Interval => extreme("MIN", args),
        "LOGICAL_AND" | "LOGICAL_OR" if plain && !m.window => {
            let arg = coerced(name, &mut args, &[Ty::Bool])?.remove(0);
            let udaf = if name == "LOGICAL_AND" { bool_and_udaf() } else { bool_or_udaf() };
            Ok(simple(Raw::new(udaf, vec![arg.e], false), Ty::Bool))
        }
        "BIT_AND" | "BIT_OR" | "BIT_XOR" if plain && !m.window && !m.distinct => {
            let arg = coerced(name, &mut args, &[Ty::Int64])?.remove(0);
            let udaf = match name {
                "BIT_AND" => bit_and_udaf(),
                "BIT_OR" => bit_or_udaf(),
                _ => bit_xor_udaf(),
            };
            Ok(simple(Raw::new(udaf, vec![arg.e], false), Ty::Int64))
        }
        "STDDEV" | "STDDEV_SAMP" | "STDDEV_POP" | "VARIANCE" | "VAR_SAMP" | "VAR_POP"
            if plain && !m.distinct && !m.window && matches!(ty, Ty::Int64 | Ty::Float64) =>
        {
            let udaf = match name {
                "STDDEV_POP" => stddev_pop_udaf(),
                "VAR_POP" => var_pop_udaf(),
                "VARIANCE" | "VAR_SAMP" => var_samp_udaf(),
                _ => stddev_udaf(),
            };
            let args = coerced(name, &mut args, &[Ty::Float64])?;
            Ok(finite(Raw::new(udaf, args.iter().map(|t| t.e.clone()).collect(), false), &args))
        }
        "COVAR_POP" | "COVAR_SAMP" if plain && !m.distinct && !m.window => {
            let udaf = if name == "COVAR_POP" { covar_pop_udaf() } else { covar_samp_udaf() };
            let args = coerced(name, &mut args, &[Ty::Float64, Ty::Float64])?;
            Ok(finite(Raw::new(udaf, args.iter().map(|t| t.e.clone()).collect(), false), &args))
        }
        "GROUPING" => Err(unsupported("GROUPING")),
        _ => collect(name, args, m),
    }
}

/// A statistic that is NaN when any number is not finite, which DataFusion's accumulators lose.
fn finite(raw: Raw, args: &[Tx]) -> Parts {
    let pairs = args.iter().cloned().map(Tx::pair).collect();
    let odd = udf::rows("not_finite", pairs, Ty::Int64, |a| {
        if a.iter().any(Value::is_null) {
            return Ok(Value::Null);
        }
        Ok(Value::Int(i64::from(a.iter().any(|v| matches!(v, Value::Float(f) if !f.is_finite())))))
    });
    let flag = Raw::new(max_udaf(), vec![odd], false);
    Parts {
        raws: vec![raw, flag],
        finish: Box::new(|columns| {
            let args = columns.into_iter().zip([Ty::Float64, Ty::Int64]).collect();
            let e = udf::rows("statistic", args, Ty::Float64, |a| {
                Ok(match (&a[0], &a[1]) {
                    (Value::Null, _) => Value::Null,
                    (_, Value::Int(1)) => Value::Float(f64::NAN),
                    (value, _) => value.clone(),
                })
            });
            Tx::new(e, Ty::Float64)
        }),
    }
}

fn coerced(name: &str, args: &mut Vec<Tx>, types: &[Ty]) -> Res<Vec<Tx>> {
    if args.len() != types.len() {
        return Err(no_match(name, args));
    }
    let fail = no_match(name, args);
    let pairs = std::mem::take(args).into_iter().zip(types);
    pairs.map(|(a, t)| coerce(a, t).map_err(|_| fail.clone())).collect()
}

/// 2^64: BIGNUMERICs are summed in two halves, as DataFusion's sum wraps around.
fn half() -> i256 {
    i256::from_i128(1 << 64)
}

fn halves(arg: Tx) -> (Expr, Expr) {
    let split = |high: bool| {
        move |a: &[ArrayRef], _: usize| -> Result<ArrayRef, String> {
            let out: arrow::array::Decimal256Array = a[0].as_primitive::<Decimal256Type>().unary(|v| {
                let mut high_part = v.wrapping_div(half());
                let mut low = v.wrapping_rem(half());
                if low < i256::ZERO {
                    low = low.wrapping_add(half());
                    high_part = high_part.wrapping_sub(i256::ONE);
                }
                if high { high_part } else { low }
            });
            Ok(Arc::new(out.with_data_type(Ty::BigNumeric.arrow())))
        }
    };
    let pair = arg.pair();
    (
        udf::batch("high_half", vec![pair.clone()], Ty::BigNumeric, split(true)),
        udf::batch("low_half", vec![pair], Ty::BigNumeric, split(false)),
    )
}

fn joined(high: Option<i256>, low: Option<i256>) -> Option<i256> {
    high?.checked_mul(half())?.checked_add(low?)
}

fn sum(mut args: Vec<Tx>, distinct: bool) -> Res<Parts> {
    if args.len() != 1 || !args[0].ty.is_numeric() {
        return Err(no_match("SUM", &args));
    }
    let arg = args.remove(0);
    let ty = arg.ty.clone();
    Ok(match ty {
        Ty::Int64 => {
            let raw = Raw::new(sum_udaf(), vec![cast_to(arg.e, DataType::Decimal128(38, 0))], distinct);
            Parts {
                raws: vec![raw],
                finish: Box::new(|columns| {
                    let args = columns.into_iter().map(|c| (c, Ty::Numeric)).collect();
                    let e = udf::batch("sum_int64", args, Ty::Int64, |a, _| {
                        let sums = a[0].as_primitive::<Decimal128Type>();
                        let out: Result<Int64Array, _> = sums
                            .iter()
                            .map(|v| v.map(i64::try_from).transpose().map_err(|_| "int64 overflow in SUM".to_owned()))
                            .collect::<Result<Vec<_>, _>>()
                            .map(Int64Array::from);
                        Ok(Arc::new(out?) as ArrayRef)
                    });
                    Tx::new(e, Ty::Int64)
                }),
            }
        }
        Ty::Numeric => {
            let raw = Raw::new(sum_udaf(), vec![cast_to(arg.e, DataType::Decimal256(76, 9))], distinct);
            Parts {
                raws: vec![raw],
                finish: Box::new(|columns| {
                    let args = columns.into_iter().map(|c| (c, Ty::BigNumeric)).collect();
                    let e = udf::batch("sum_numeric", args, Ty::Numeric, |a, _| {
                        let sums = a[0].as_primitive::<Decimal256Type>();
                        let narrow =
                            |v: i256| num::check_numeric(Some(v)).ok_or_else(|| "numeric overflow in SUM".to_owned());
                        let out = sums.iter().map(|v| v.map(narrow).transpose()).collect::<Result<Vec<_>, _>>()?;
                        let out = arrow::array::Decimal128Array::from(out).with_data_type(Ty::Numeric.arrow());
                        Ok(Arc::new(out) as ArrayRef)
                    });
                    Tx::new(e, Ty::Numeric)
                }),
            }
        }
        Ty::BigNumeric => {
            let (high, low) = halves(arg);
            Parts {
                raws: vec![Raw::new(sum_udaf(), vec![high], false), Raw::new(sum_udaf(), vec![low], false)],
                finish: Box::new(|columns| {
                    let args = columns.into_iter().map(|c| (c, Ty::BigNumeric)).collect();
                    let e = udf::batch("sum_bignumeric", args, Ty::BigNumeric, |a, rows| {
                        let (high, low) =
                            (a[0].as_primitive::<Decimal256Type>(), a[1].as_primitive::<Decimal256Type>());
                        let mut out = Vec::with_capacity(rows);
                        for i in 0..rows {
                            out.push(if high.is_null(i) {
                                None
                            } else {
                                Some(
                                    joined(Some(high.value(i)), Some(low.value(i)))
                                        .ok_or("BIGNUMERIC overflow in SUM")?,
                                )
                            });
                        }
                        let out = arrow::array::Decimal256Array::from(out).with_data_type(Ty::BigNumeric.arrow());
                        Ok(Arc::new(out) as ArrayRef)
                    });
                    Tx::new(e, Ty::BigNumeric)
                }),
            }
        }
        _ => simple(Raw::new(sum_udaf(), vec![arg.e], distinct), Ty::Float64),
    })
}

fn average(mut args: Vec<Tx>) -> Res<Parts> {
    if args.len() != 1 || !args[0].ty.is_numeric() {
        return Err(no_match("AVG", &args));
    }
    let arg = args.remove(0);
    let ty = arg.ty.clone();
    if matches!(ty, Ty::Int64 | Ty::Float64) {
        let arg = coerce(arg, &Ty::Float64)?;
        return Ok(simple(Raw::new(avg_udaf(), vec![arg.e], false), Ty::Float64));
    }
    let count = Raw::new(count_udaf(), vec![arg.e.clone()], false);
    if ty == Ty::Numeric {
        let total = Raw::new(sum_udaf(), vec![cast_to(arg.e, DataType::Decimal256(76, 9))], false);
        return Ok(Parts {
            raws: vec![total, count],
            finish: Box::new(|columns| {
                let args = columns.into_iter().zip([Ty::BigNumeric, Ty::Int64]).collect();
                let e = udf::batch("avg_numeric", args, Ty::Numeric, |a, rows| {
                    let (sums, counts) = (a[0].as_primitive::<Decimal256Type>(), a[1].as_primitive::<Int64Type>());
                    let mut out = Vec::with_capacity(rows);
                    for i in 0..rows {
                        let n = counts.value(i);
                        out.push(if sums.is_null(i) || n == 0 {
                            None
                        } else {
                            let mean = num::div_round(sums.value(i), i256::from_i128(i128::from(n)));
                            Some(num::check_numeric(mean).ok_or("numeric overflow in AVG")?)
                        });
                    }
                    let out = arrow::array::Decimal128Array::from(out).with_data_type(Ty::Numeric.arrow());
                    Ok(Arc::new(out) as ArrayRef)
                });
                Tx::new(e, Ty::Numeric)
            }),
        });
    }
    let (high, low) = halves(arg);
    Ok(Parts {
        raws: vec![Raw::new(sum_udaf(), vec![high], false), Raw::new(sum_udaf(), vec![low], false), count],
        finish: Box::new(|columns| {
            let args = columns.into_iter().zip([Ty::BigNumeric, Ty::BigNumeric, Ty::Int64]).collect();
            let e = udf::rows("avg_bignumeric", args, Ty::BigNumeric, |a| {
                let (Value::Big(high), Value::Big(low), Value::Int(n)) = (&a[0], &a[1], &a[2]) else {
                    return Ok(Value::Null);
                };
                if *n == 0 {
                    return Ok(Value::Null);
                }
                let total = num::to_big(*high) * num::to_big(half()) + num::to_big(*low);
                let mean = num::from_big(&num::round_big(total, &(*n).into()));
                mean.map(Value::Big).ok_or_else(|| "BIGNUMERIC overflow in AVG".into())
            });
            Tx::new(e, Ty::BigNumeric)
        }),
    })
}

fn extreme(name: &str, mut args: Vec<Tx>) -> Res<Parts> {
    let arg = args.remove(0);
    let ty = arg.ty.clone();
    if !ty.orderable() {
        return Err(invalid(format!("{name} is not defined for arguments of type {ty}")));
    }
    let udaf = || if name == "MIN" { min_udaf() } else { max_udaf() };
    if ty == Ty::Float64 {
        let order = sortable(arg.e, &Ty::Float64);
        let raws = vec![Raw::new(udaf(), vec![order.clone()], false), Raw::new(min_udaf(), vec![order], false)];
        return Ok(Parts {
            raws,
            finish: Box::new(|columns| {
                let args = columns.into_iter().map(|c| (c, Ty::Int64)).collect();
                let e = udf::rows("float_of_order", args, Ty::Float64, |a| {
                    Ok(match (&a[0], &a[1]) {
                        (Value::Int(_), Value::Int(i64::MIN)) => Value::Float(f64::NAN),
                        (Value::Int(v), _) => {
                            let bits = if *v < 0 { !(v ^ i64::MIN) } else { *v };
                            Value::Float(f64::from_bits(bits as u64))
                        }
                        _ => Value::Null,
                    })
                });
                Tx::new(e, Ty::Float64)
            }),
        });
    }
    if matches!(ty, Ty::Interval | Ty::Range(_)) {
        return collect(name, vec![arg], Modifiers::default());
    }
    Ok(simple(Raw::new(udaf(), vec![arg.e], false), ty))
}

/// Collects the rows of a group and finishes them by a row function.
fn collect(name: &str, args: Vec<Tx>, m: Modifiers) -> Res<Parts> {
    let first = args.first().map(|a| a.ty.clone()).ok_or_else(|| no_match(name, &args))?;
    let (args, ret) = result_type(name, args, &first)?;
    let count = args.len();
    let mut fields: Vec<(String, Tx)> = args.iter().map(|a| (String::new(), a.clone())).collect();
    fields.extend(m.order_by.iter().map(|(t, _, _)| (String::new(), t.clone())));
    let having = m.having.map(|(max, key)| {
        fields.push((String::new(), key));
        max
    });
    let directions: Vec<(bool, bool)> = m.order_by.iter().map(|(_, desc, nulls)| (*desc, *nulls)).collect();
    let row = make_struct(fields);
    let list = Ty::array(row.ty.clone());
    let raw = Raw::new(array_agg_udaf(), vec![row.e], false);
    let name_owned = name.to_owned();
    let out = ret.clone();
    let (distinct, ignore_nulls, limit) = (m.distinct, m.ignore_nulls, m.limit);
    let element = first.clone();
    let finish = move |mut columns: Vec<Expr>| -> Tx {
        let column = columns.pop().unwrap_or_else(|| lit(ScalarValue::Null));
        let id = format!("collect {name_owned} {distinct} {ignore_nulls:?} {limit:?} {directions:?} {having:?}");
        let ret = out.clone();
        let f = move |a: &[Value]| -> Out {
            let empty = vec![];
            let rows = match &a[0] {
                Value::Array(rows) => rows,
                _ => &empty,
            };
            let mut rows: Vec<&Vec<Value>> =
                rows.iter().filter_map(|r| if let Value::Struct(items) = r { Some(items) } else { None }).collect();
            if let Some(max) = having {
                let key = |r: &&Vec<Value>| r[r.len() - 1].clone();
                let keys = rows.iter().map(key).filter(|k| !k.is_null());
                // Any NaN is both the least and the greatest, and equals nothing.
                let nan = rows.iter().any(|r| matches!(r[r.len() - 1], Value::Float(v) if v.is_nan()));
                let keys = keys.filter(|_| !nan);
                let best = keys.reduce(|x, y| if x.order(&y).is_gt() == max { x } else { y });
                match best {
                    Some(best) => rows.retain(|r| r[r.len() - 1].equals(&best) == Some(true)),
                    None => rows.clear(),
                }
            }
            let skips_nulls = !matches!(name_owned.as_str(), "ARRAY_AGG" | "APPROX_TOP_COUNT");
            if ignore_nulls.unwrap_or(skips_nulls) {
                rows.retain(|r| !r[0].is_null());
            }
            if distinct {
                let mut seen = HashSet::new();
                rows.retain(|r| {
                    let mut key = Vec::new();
                    r[0].key(&mut key);
                    seen.insert(key)
                });
            }
            if !directions.is_empty() {
                rows.sort_by(|x, y| {
                    for (n, (desc, nulls_first)) in directions.iter().enumerate() {
                        let (x, y) = (&x[count + n], &y[count + n]);
                        let order = match (x.is_null(), y.is_null()) {
                            (true, true) => Ordering::Equal,
                            (true, false) => {
                                if *nulls_first {
                                    Ordering::Less
                                } else {
                                    Ordering::Greater
                                }
                            }
                            (false, true) => {
                                if *nulls_first {
                                    Ordering::Greater
                                } else {
                                    Ordering::Less
                                }
                            }
                            _ if *desc => y.order(x),
                            _ => x.order(y),
                        };
                        if order.is_ne() {
                            return order;
                        }
                    }
                    Ordering::Equal
                });
            }
            if let Some(limit) = limit {
                rows.truncate(limit);
            }
            finished(&name_owned, &rows, count, &element)
        };
        Tx::new(udf::rows(id, vec![(column, list)], ret.clone(), f), ret)
    };
    Ok(Parts { raws: vec![raw], finish: Box::new(finish) })
}

/// The arguments as the function wants them, and what it returns.
fn result_type(name: &str, mut args: Vec<Tx>, first: &Ty) -> Res<(Vec<Tx>, Ty)> {
    let fail = no_match(name, &args);
    let coerce_to = |t: Tx, ty: &Ty| coerce(t, ty).map_err(|_| fail.clone());
    Ok(match (name, args.len()) {
        ("COUNT" | "APPROX_COUNT_DISTINCT", 1) => (args, Ty::Int64),
        ("ARRAY_AGG", 1) => {
            if matches!(first, Ty::Array(_)) {
                return Err(invalid("The argument to ARRAY_AGG must not be an array type"));
            }
            (args, Ty::array(first.clone()))
        }
        ("ARRAY_CONCAT_AGG", 1) if matches!(first, Ty::Array(_)) => (args, first.clone()),
        ("STRING_AGG", 1 | 2) => {
            if args.get(1).is_some_and(Tx::is_null_literal) {
                return Err(invalid("Argument 2 to STRING_AGG must be non-NULL"));
            }
            let ty = if *first == Ty::Bytes { Ty::Bytes } else { Ty::String };
            (args.into_iter().map(|a| coerce_to(a, &ty)).collect::<Res<_>>()?, ty)
        }
        ("ANY_VALUE" | "MIN" | "MAX", 1) => (args, first.clone()),
        ("MAX_BY" | "MIN_BY", 2) => (args, first.clone()),
        ("SUM", 1) if first.is_numeric() || *first == Ty::Interval => (args, first.clone()),
        ("AVG", 1) if first.is_numeric() => {
            let ret = if *first == Ty::Int64 { Ty::Float64 } else { first.clone() };
            (vec![coerce_to(args.remove(0), &ret)?], ret)
        }
        ("LOGICAL_AND" | "LOGICAL_OR", 1) => (vec![coerce_to(args.remove(0), &Ty::Bool)?], Ty::Bool),
        ("BIT_AND" | "BIT_OR" | "BIT_XOR", 1) => (vec![coerce_to(args.remove(0), &Ty::Int64)?], Ty::Int64),
        ("APPROX_QUANTILES", 2) if first.orderable() => {
            let n = coerce_to(args.remove(1), &Ty::Int64)?;
            (vec![args.remove(0), n], Ty::array(first.clone()))
        }
        ("APPROX_TOP_COUNT", 2) => {
            let n = coerce_to(args.remove(1), &Ty::Int64)?;
            let row = Ty::structure(vec![("value".into(), first.clone()), ("count".into(), Ty::Int64)]);
            (vec![args.remove(0), n], Ty::array(row))
        }
        ("PERCENTILE_CONT", 2) if matches!(first, Ty::Numeric | Ty::BigNumeric) => {
            return Err(unsupported("PERCENTILE_CONT of NUMERIC and BIGNUMERIC"));
        }
        ("PERCENTILE_CONT", 2) => {
            let p = coerce_to(args.remove(1), &Ty::Float64)?;
            let x = coerce_to(args.remove(0), &Ty::Float64)?;
            (vec![x, p], Ty::Float64)
        }
        ("PERCENTILE_DISC", 2) if first.orderable() => {
            let p = coerce_to(args.remove(1), &Ty::Float64)?;
            (vec![args.remove(0), p], first.clone())
        }
        ("STDDEV" | "STDDEV_SAMP" | "STDDEV_POP" | "VARIANCE" | "VAR_SAMP" | "VAR_POP", 1) if first.is_numeric() => {
            (args, Ty::Float64)
        }
        ("CORR" | "COVAR_POP" | "COVAR_SAMP", 2) => {
            (args.into_iter().map(|a| coerce_to(a, &Ty::Float64)).collect::<Res<_>>()?, Ty::Float64)
        }
        ("APPROX_TOP_SUM", _) => return Err(unsupported(name)),
        _ => return Err(fail),
    })
}

fn finished(name: &str, rows: &[&Vec<Value>], arguments: usize, element: &Ty) -> Out {
    let firsts = || rows.iter().map(|r| &r[0]);
    if matches!(name, "COUNT" | "APPROX_COUNT_DISTINCT") {
        return Ok(Value::Int(rows.len() as i64));
    }
    if rows.is_empty() {
        return Ok(Value::Null);
    }
    Ok(match name {
        "ARRAY_AGG" => Value::Array(firsts().cloned().collect()),
        "ARRAY_CONCAT_AGG" => {
            let mut out = Vec::new();
            for part in firsts() {
                out.extend_from_slice(part.array()?);
            }
            Value::Array(out)
        }
        "STRING_AGG" => {
            let parts: Vec<&[u8]> = firsts().map(Value::bytes).collect::<Result<_, _>>()?;
            let by = rows[0].get(1).filter(|_| arguments > 1);
            match (&rows[0][0], by) {
                (Value::Bytes(_), Some(Value::Bytes(by))) => Value::Bytes(parts.join(by.as_slice())),
                (Value::Bytes(_), _) => Value::Bytes(parts.join(b",".as_slice())),
                (_, Some(Value::Str(by))) => {
                    Value::Str(String::from_utf8_lossy(&parts.join(by.as_bytes())).into_owned())
                }
                (_, Some(Value::Null)) => return Ok(Value::Null),
                _ => Value::Str(String::from_utf8_lossy(&parts.join(b",".as_slice())).into_owned()),
            }
        }
        "ANY_VALUE" => rows[0][0].clone(),
        "MIN" => firsts().min_by(|x, y| x.order(y)).cloned().unwrap_or(Value::Null),
        "MAX" => firsts().max_by(|x, y| x.order(y)).cloned().unwrap_or(Value::Null),
        "MAX_BY" | "MIN_BY" => {
            let keyed = rows.iter().filter(|r| !r[1].is_null());
            let best = if name == "MAX_BY" {
                keyed.max_by(|x, y| x[1].order(&y[1]))
            } else {
                keyed.min_by(|x, y| x[1].order(&y[1]))
            };
            best.map_or(Value::Null, |r| r[0].clone())
        }
        "SUM" | "AVG" => total(name, rows, element)?,
        "LOGICAL_AND" => Value::Bool(firsts().all(|v| *v == Value::Bool(true))),
        "LOGICAL_OR" => Value::Bool(firsts().any(|v| *v == Value::Bool(true))),
        "BIT_AND" | "BIT_OR" | "BIT_XOR" => {
            let mut ints = firsts().map(Value::int);
            let mut result = ints.next().unwrap_or(Ok(0))?;
            for v in ints {
                let v = v?;
                result = match name {
                    "BIT_AND" => result & v,
                    "BIT_OR" => result | v,
                    _ => result ^ v,
                };
            }
            Value::Int(result)
        }
        "APPROX_QUANTILES" => {
            let n = usize::try_from(rows[0][1].int()?)
                .map_err(|_| "APPROX_QUANTILES needs a positive number".to_owned())?;
            if n == 0 || n > 100_000 {
                return Err("The number of quantiles must be positive".into());
            }
            let mut sorted: Vec<&Value> = firsts().collect();
            sorted.sort_by(|x, y| x.order(y));
            let at = |i: usize| (i * sorted.len()).div_ceil(n).saturating_sub(1);
            Value::Array((0..=n).map(|i| sorted[at(i)].clone()).collect())
        }
        "APPROX_TOP_COUNT" => {
            let n = usize::try_from(rows[0][1].int()?)
                .map_err(|_| "APPROX_TOP_COUNT needs a positive number".to_owned())?;
            let mut counts: Vec<(&Value, i64)> = Vec::new();
            let mut sorted: Vec<&Value> = firsts().collect();
            sorted.sort_by(|x, y| x.order(y));
            for v in sorted {
                match counts.last_mut() {
                    Some((last, count)) if last.order(v).is_eq() => *count += 1,
                    _ => counts.push((v, 1)),
                }
            }
            counts.sort_by_key(|c| std::cmp::Reverse(c.1));
            Value::Array(
                counts.into_iter().take(n).map(|(v, c)| Value::Struct(vec![v.clone(), Value::Int(c)])).collect(),
            )
        }
        "PERCENTILE_CONT" | "PERCENTILE_DISC" => percentile(name, rows)?,
        "STDDEV" | "STDDEV_SAMP" | "STDDEV_POP" | "VARIANCE" | "VAR_SAMP" | "VAR_POP" => spread(name, rows)?,
        "CORR" | "COVAR_POP" | "COVAR_SAMP" => together(name, rows)?,
        other => return Err(format!("{other} is not supported by the sandbox's SQL engine here")),
    })
}

fn total(name: &str, rows: &[&Vec<Value>], element: &Ty) -> Out {
    let mut sum = rows[0][0].clone();
    for row in &rows[1..] {
        sum = match (&sum, &row[0]) {
            (Value::Int(x), Value::Int(y)) => Value::Int(x.checked_add(*y).ok_or("int64 overflow in SUM")?),
            (Value::Float(x), Value::Float(y)) => Value::Float(x + y),
            (Value::Numeric(x), Value::Numeric(y)) => Value::Numeric(num::numeric_arithmetic("+", *x, *y)?),
            (Value::Big(x), Value::Big(y)) => Value::Big(num::bignumeric_arithmetic("+", *x, *y)?),
            (Value::Interval(x), Value::Interval(y)) => {
                Value::Interval(super::interval::checked(strongroom::codec::value::Interval {
                    months: x.months + y.months,
                    days: x.days + y.days,
                    nanos: x.nanos + y.nanos,
                })?)
            }
            _ => return Err(format!("SUM of {element} is not supported by the sandbox's SQL engine")),
        };
    }
    if name == "SUM" {
        return Ok(sum);
    }
    let n = rows.len() as i64;
    Ok(match sum {
        Value::Float(v) => Value::Float(v / n as f64),
        Value::Numeric(v) => Value::Numeric(num::numeric_arithmetic("/", v, i128::from(n) * 1_000_000_000)?),
        Value::Big(v) => {
            Value::Big(num::div_round(v, i256::from_i128(i128::from(n))).ok_or("BIGNUMERIC overflow in AVG")?)
        }
        _ => return Err("AVG is not supported by the sandbox's SQL engine for this type".into()),
    })
}

/// Numbers as exact multiples of 10^-38, or doubles when one is not finite or too large.
fn exact(rows: &[&Vec<Value>]) -> Option<Vec<num_bigint::BigInt>> {
    rows.iter()
        .map(|r| match &r[0] {
            Value::Int(v) => Some(num_bigint::BigInt::from(*v) * num::to_big(num::ten(38))),
            Value::Numeric(v) => Some(num_bigint::BigInt::from(*v) * num::to_big(num::ten(29))),
            Value::Big(v) => Some(num::to_big(*v)),
            _ => None,
        })
        .collect()
}

/// Variance and standard deviation.
fn spread(name: &str, rows: &[&Vec<Value>]) -> Out {
    let n = rows.len();
    let sample = !name.ends_with("_POP");
    if sample && n < 2 {
        return Ok(Value::Null);
    }
    let divisor = (if sample { n - 1 } else { n }) as f64;
    let variance = if let Some(values) = exact(rows) {
        // n * sum(x^2) - sum(x)^2, exactly; then once to a double.
        let sum: num_bigint::BigInt = values.iter().sum();
        let squares: num_bigint::BigInt = values.iter().map(|v| v * v).sum();
        let scaled: num_bigint::BigInt = squares * n - &sum * &sum;
        let text = format!("{scaled}e-76");
        text.parse::<f64>().map_err(|e| e.to_string())? / n as f64 / divisor
    } else {
        let values: Vec<f64> = rows.iter().map(|r| r[0].float()).collect::<Result<_, _>>()?;
        let mean = values.iter().sum::<f64>() / n as f64;
        values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / divisor
    };
    Ok(Value::Float(if name.starts_with("STDDEV") { variance.sqrt() } else { variance }))
}

/// Correlation and covariance.
fn together(name: &str, rows: &[&Vec<Value>]) -> Out {
    let pairs: Vec<(f64, f64)> = rows
        .iter()
        .filter(|r| !r[0].is_null() && !r[1].is_null())
        .map(|r| Ok((r[0].float()?, r[1].float()?)))
        .collect::<Result<_, String>>()?;
    let n = pairs.len() as f64;
    if pairs.is_empty() || (name != "COVAR_POP" && pairs.len() < 2) {
        return Ok(Value::Null);
    }
    let (mx, my) = (pairs.iter().map(|p| p.0).sum::<f64>() / n, pairs.iter().map(|p| p.1).sum::<f64>() / n);
    let sum = |f: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(f).sum::<f64>();
    let xy = sum(&|p| (p.0 - mx) * (p.1 - my));
    let constant = |f: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().all(|p| f(p) == f(&pairs[0]));
    if name == "CORR" && (constant(&|p| p.0) || constant(&|p| p.1)) {
        return Ok(Value::Float(f64::NAN));
    }
    Ok(Value::Float(match name {
        "COVAR_POP" => xy / n,
        "COVAR_SAMP" => xy / (n - 1.0),
        _ => xy / (sum(&|p| (p.0 - mx).powi(2)) * sum(&|p| (p.1 - my).powi(2))).sqrt(),
    }))
}

fn percentile(name: &str, rows: &[&Vec<Value>]) -> Out {
    let p = rows[0][1].float()?;
    if !(0.0..=1.0).contains(&p) {
        return Err(format!("The second argument of {name} must be between 0 and 1"));
    }
    let mut sorted: Vec<&Value> = rows.iter().map(|r| &r[0]).collect();
    sorted.sort_by(|x, y| x.order(y));
    let last = sorted.len() - 1;
    if name == "PERCENTILE_DISC" {
        // The first value whose cumulative share reaches p.
        let n = (p * sorted.len() as f64).ceil() as usize;
        return Ok(sorted[n.saturating_sub(1).min(last)].clone());
    }
    let at = p * last as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    let (x, y) = (sorted[low].float()?, sorted[high].float()?);
    Ok(Value::Float(if low == high { x } else { x * (high as f64 - at) + y * (at - low as f64) }))
}
