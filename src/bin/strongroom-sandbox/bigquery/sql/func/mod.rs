//! GoogleSQL's functions. Each is a row function with signatures in a small notation; the ones that need more than values
//! (parts of dates, lazy arguments, aggregation) are bound by hand.

pub mod aggregate;
pub mod array;
pub mod cast;
pub mod format;
pub mod format_cast;
pub mod interval;
pub mod json;
pub mod like;
pub mod math;
pub mod misc;
pub mod range;
pub mod regexp;
pub mod string;
pub mod time;
pub mod time_format;
pub mod zone;

use std::sync::Arc;

use datafusion::logical_expr::Expr;

use super::bind::coerce::{coerce, cost, supertype};
use super::bind::scope::Tx;
use super::error::{ApiError, Res, invalid};
use super::ty::Ty;
use super::udf;
use super::value::{Value, interval_nanos};

/// What a row function answers.
pub type Out = Result<Value, String>;

/// What a row function knows beside its arguments.
pub struct Cx {
    pub args: Vec<Ty>,
    pub ret: Ty,
    pub now_us: i64,
}

/// A function: name, signatures, and the code.
///
/// Signatures are separated by `|`: `STRING,INT64?->STRING`. `?` marks what may be absent, `*` what may come any number of times
/// (last), `T` any type (the same one everywhere), `[T]` an array of it.
pub struct Def {
    pub name: &'static str,
    pub signatures: &'static str,
    /// NULL for any NULL argument, without asking the code.
    pub strict: bool,
    /// Another value at each call.
    pub volatile: bool,
    pub f: fn(&Cx, &[Value]) -> Out,
}

/// A strict function.
pub const fn def(name: &'static str, signatures: &'static str, f: fn(&Cx, &[Value]) -> Out) -> Def {
    Def { name, signatures, strict: true, volatile: false, f }
}

/// A function that sees NULLs.
pub const fn lenient(name: &'static str, signatures: &'static str, f: fn(&Cx, &[Value]) -> Out) -> Def {
    Def { name, signatures, strict: false, volatile: false, f }
}

/// The function of that name (in upper case).
pub fn find(name: &str) -> Option<&'static Def> {
    let all =
        [math::DEFS, string::DEFS, regexp::DEFS, array::DEFS, json::DEFS, time::DEFS, time_format::DEFS, misc::DEFS];
    all.into_iter().flatten().find(|d| d.name == name)
}

#[derive(Debug, Clone, PartialEq)]
enum Pattern {
    Is(Ty),
    Any,
    AnyArray,
}

struct Signature {
    params: Vec<Pattern>,
    optional: usize,
    repeated: bool,
    ret: Pattern,
}

fn pattern(text: &str) -> Pattern {
    match text {
        "T" => Pattern::Any,
        "[T]" => Pattern::AnyArray,
        _ => match text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            Some(element) => match pattern(element) {
                Pattern::Is(ty) => Pattern::Is(Ty::array(ty)),
                _ => Pattern::AnyArray,
            },
            None => Pattern::Is(match text {
                "INT64" => Ty::Int64,
                "FLOAT64" => Ty::Float64,
                "BOOL" => Ty::Bool,
                "BYTES" => Ty::Bytes,
                "NUMERIC" => Ty::Numeric,
                "BIGNUMERIC" => Ty::BigNumeric,
                "DATE" => Ty::Date,
                "DATETIME" => Ty::Datetime,
                "TIME" => Ty::Time,
                "TIMESTAMP" => Ty::Timestamp,
                "JSON" => Ty::Json,
                "GEOGRAPHY" => Ty::Geography,
                "INTERVAL" => Ty::Interval,
                _ => Ty::String,
            }),
        },
    }
}

fn signature(text: &str) -> Signature {
    let (params, ret) = text.split_once("->").unwrap_or((text, "STRING"));
    let mut signature = Signature { params: vec![], optional: 0, repeated: false, ret: pattern(ret) };
    for param in params.split(',').filter(|p| !p.is_empty()) {
        if let Some(param) = param.strip_suffix('?') {
            signature.optional += 1;
            signature.params.push(pattern(param));
        } else if let Some(param) = param.strip_suffix('*') {
            signature.repeated = true;
            signature.params.push(pattern(param));
        } else {
            signature.params.push(pattern(param));
        }
    }
    signature
}

impl Signature {
    /// The types to coerce to, the result's type, and how far the coercion goes.
    fn fit(&self, args: &[Tx]) -> Option<(u32, Vec<Ty>, Ty)> {
        let least = self.params.len() - self.optional - usize::from(self.repeated);
        if args.len() < least || (args.len() > self.params.len() && !self.repeated) {
            return None;
        }
        let wanted = |n: usize| self.params.get(n).or(self.params.last());
        // T is the supertype of what stands for it.
        let mut elements: Vec<Tx> = Vec::new();
        for (n, arg) in args.iter().enumerate() {
            match wanted(n)? {
                Pattern::Any => elements.push(arg.clone()),
                Pattern::AnyArray => match &arg.ty {
                    Ty::Array(element) => elements.push(Tx::new(arg.e.clone(), (**element).clone())),
                    _ if arg.is_null_literal() => {}
                    _ => return None,
                },
                Pattern::Is(_) => {}
            }
        }
        let any = if elements.is_empty() { Ty::Int64 } else { supertype(&elements.iter().collect::<Vec<_>>())? };
        let mut total = 0;
        let mut types = Vec::with_capacity(args.len());
        for (n, arg) in args.iter().enumerate() {
            let ty = match wanted(n)? {
                Pattern::Is(ty) => ty.clone(),
                Pattern::Any => any.clone(),
                Pattern::AnyArray => Ty::array(any.clone()),
            };
            total += cost(arg, &ty)?;
            types.push(ty);
        }
        let ret = match &self.ret {
            Pattern::Is(ty) => ty.clone(),
            Pattern::Any => any,
            Pattern::AnyArray => Ty::array(any),
        };
        Some((total, types, ret))
    }
}

/// Binds a call of a row function.
///
/// # Errors
/// `No matching signature for function ...`.
pub fn bind(def: &'static Def, args: Vec<Tx>, safe: bool, now_us: i64) -> Res<Tx> {
    let best = def.signatures.split('|').filter_map(|s| signature(s).fit(&args)).min_by_key(|(cost, _, _)| *cost);
    let Some((_, types, ret)) = best else { return Err(no_match(def.name, &args)) };
    let args = args.into_iter().zip(&types).map(|(a, t)| coerce(a, t)).collect::<Res<Vec<_>>>()?;
    let cx = Cx { args: types, ret: ret.clone(), now_us };
    let (f, strict) = (def.f, def.strict);
    let body = move |values: &[Value]| {
        if strict && values.iter().any(Value::is_null) {
            return Ok(Value::Null);
        }
        f(&cx, values)
    };
    let pairs: Vec<(Expr, Ty)> = args.into_iter().map(Tx::pair).collect();
    let e = udf::call(def.name, pairs, ret.clone(), udf::Body::Rows(Arc::new(body)), def.volatile, safe);
    Ok(Tx::new(e, ret))
}

/// `No matching signature for function F for argument types: ...`.
pub fn no_match(name: &str, args: &[Tx]) -> ApiError {
    if args.is_empty() {
        return invalid(format!("No matching signature for function {name} with no arguments"));
    }
    let types: Vec<String> =
        args.iter().map(|a| if a.is_null_literal() { "NULL".into() } else { a.ty.to_string() }).collect();
    invalid(format!("No matching signature for function {name} for argument types: {}", types.join(", ")))
}

/// An expression that DataFusion sorts as BigQuery sorts this one.
pub fn sortable(e: Expr, ty: &Ty) -> Expr {
    match ty {
        Ty::Float64 => udf::rows("float_order", vec![(e, Ty::Float64)], Ty::Int64, |a| {
            Ok(match &a[0] {
                Value::Float(v) if v.is_nan() => Value::Int(i64::MIN),
                Value::Float(v) => {
                    let bits = (v + 0.0).to_bits() as i64;
                    Value::Int(if bits < 0 { i64::MIN ^ !bits } else { bits })
                }
                _ => Value::Null,
            })
        }),
        Ty::Interval => udf::rows("interval_order", vec![(e, Ty::Interval)], Ty::Numeric, |a| {
            Ok(match &a[0] {
                Value::Interval(v) => Value::Numeric(interval_nanos(v)),
                _ => Value::Null,
            })
        }),
        Ty::Range(_) => udf::rows("range_order", vec![(e, ty.clone())], Ty::Bytes, |a| {
            let Value::Range(range) = &a[0] else { return Ok(Value::Null) };
            let mut key = Vec::new();
            for (end, unbounded) in [(&range.0, 0_u8), (&range.1, 2)] {
                let number = match end {
                    Value::Date(v) => i64::from(*v),
                    Value::Datetime(v) | Value::Timestamp(v) => *v,
                    _ => {
                        key.push(unbounded);
                        continue;
                    }
                };
                key.push(1);
                key.extend_from_slice(&((number as u64) ^ (1 << 63)).to_be_bytes());
            }
            Ok(Value::Bytes(key))
        }),
        _ => e,
    }
}

/// An expression by which DataFusion groups as BigQuery does: one NaN, one zero.
pub fn group_key(tx: Tx) -> Expr {
    if tx.ty == Ty::Interval {
        // One month, thirty days and 720 hours are one group; days and hours stand for them.
        return udf::rows("interval_group", vec![tx.pair()], Ty::Interval, |a| {
            Ok(match &a[0] {
                Value::Interval(v) => {
                    const DAY: i128 = 86_400_000_000_000;
                    let nanos = interval_nanos(v);
                    let (days, nanos) = ((nanos / DAY) as i64, nanos % DAY);
                    Value::Interval(strongroom::codec::value::Interval { months: 0, days, nanos })
                }
                _ => Value::Null,
            })
        });
    }
    if tx.ty != Ty::Float64 {
        return tx.e;
    }
    udf::rows("float_group", vec![tx.pair()], Ty::Float64, |a| {
        Ok(match &a[0] {
            Value::Float(v) if v.is_nan() => Value::Float(f64::NAN),
            Value::Float(v) => Value::Float(v + 0.0),
            _ => Value::Null,
        })
    })
}
