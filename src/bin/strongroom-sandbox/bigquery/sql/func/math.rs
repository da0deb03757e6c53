//! Numbers.

use arrow::datatypes::i256;

use super::{Def, Out, def, lenient};
use crate::bigquery::sql::bind::operators::{float_arithmetic, int_arithmetic};
use crate::bigquery::sql::num::{
    Cut, bignumeric_arithmetic, cut, cut_bignumeric, cut_numeric, float_text, from_big, numeric_arithmetic, ten, to_big,
};
use crate::bigquery::sql::value::Value;

const SAME: &str = "INT64->INT64|NUMERIC->NUMERIC|BIGNUMERIC->BIGNUMERIC|FLOAT64->FLOAT64";
const WIDE: &str = "NUMERIC,INT64?->NUMERIC|BIGNUMERIC,INT64?->BIGNUMERIC|FLOAT64,INT64?->FLOAT64";
const PAIR: &str =
    "INT64,INT64->INT64|NUMERIC,NUMERIC->NUMERIC|BIGNUMERIC,BIGNUMERIC->BIGNUMERIC|FLOAT64,FLOAT64->FLOAT64";
const WHOLE: &str = "INT64,INT64->INT64|NUMERIC,NUMERIC->NUMERIC|BIGNUMERIC,BIGNUMERIC->BIGNUMERIC";
const QUOTIENT: &str = "FLOAT64,FLOAT64->FLOAT64|NUMERIC,NUMERIC->NUMERIC|BIGNUMERIC,BIGNUMERIC->BIGNUMERIC";
const ONE: &str = "FLOAT64->FLOAT64";
const LOG: &str = "FLOAT64,FLOAT64?->FLOAT64";

pub const DEFS: &[Def] = &[
    def("ABS", SAME, |_, a| {
        Ok(match &a[0] {
            Value::Int(v) => Value::Int(v.checked_abs().ok_or_else(|| format!("int64 overflow: ABS({v})"))?),
            Value::Float(v) => Value::Float(v.abs()),
            Value::Numeric(v) => Value::Numeric(v.abs()),
            Value::Big(v) => {
                Value::Big(if *v < i256::ZERO { v.checked_neg().ok_or("BIGNUMERIC overflow")? } else { *v })
            }
            _ => Value::Null,
        })
    }),
    def("SIGN", SAME, |_, a| {
        Ok(match &a[0] {
            Value::Int(v) => Value::Int(v.signum()),
            Value::Float(v) if v.is_nan() || *v == 0.0 => Value::Float(*v),
            Value::Float(v) => Value::Float(v.signum()),
            Value::Numeric(v) => Value::Numeric(v.signum() * 1_000_000_000),
            Value::Big(v) => Value::Big(v.signum().wrapping_mul(ten(38))),
            _ => Value::Null,
        })
    }),
    def(
        "ROUND",
        "NUMERIC,INT64?,STRING?->NUMERIC|BIGNUMERIC,INT64?,STRING?->BIGNUMERIC|FLOAT64,INT64?->FLOAT64",
        |_, a| {
            let how = match a.get(2) {
                Some(mode) if mode.str()? == "ROUND_HALF_EVEN" => Cut::HalfEven,
                _ => Cut::HalfAwayFromZero,
            };
            round(a, how)
        },
    ),
    def("TRUNC", WIDE, |_, a| round(a, Cut::Towards0)),
    def("CEIL", "NUMERIC->NUMERIC|BIGNUMERIC->BIGNUMERIC|FLOAT64->FLOAT64", |_, a| round(a, Cut::Up)),
    def("CEILING", "NUMERIC->NUMERIC|BIGNUMERIC->BIGNUMERIC|FLOAT64->FLOAT64", |_, a| round(a, Cut::Up)),
    def("FLOOR", "NUMERIC->NUMERIC|BIGNUMERIC->BIGNUMERIC|FLOAT64->FLOAT64", |_, a| round(a, Cut::Down)),
    def("SQRT", ONE, |_, a| {
        let v = a[0].float()?;
        if v < 0.0 {
            Err(format!("Argument to SQRT cannot be negative: {}", float_text(v)))
        } else {
            Ok(Value::Float(v.sqrt()))
        }
    }),
    def("CBRT", ONE, |_, a| Ok(Value::Float(a[0].float()?.cbrt()))),
    def("POW", "FLOAT64,FLOAT64->FLOAT64|NUMERIC,NUMERIC->NUMERIC|BIGNUMERIC,BIGNUMERIC->BIGNUMERIC", |_, a| pow(a)),
    def("POWER", "FLOAT64,FLOAT64->FLOAT64|NUMERIC,NUMERIC->NUMERIC|BIGNUMERIC,BIGNUMERIC->BIGNUMERIC", |_, a| pow(a)),
    def("EXP", ONE, |_, a| finite("EXP", a[0].float()?, f64::exp)),
    def("LN", ONE, |_, a| logarithm("LN", a[0].float()?, f64::ln)),
    def("LOG10", ONE, |_, a| logarithm("LOG10", a[0].float()?, f64::log10)),
    def("LOG", LOG, |_, a| {
        let x = a[0].float()?;
        match a.get(1) {
            None => logarithm("LOG", x, f64::ln),
            Some(base) => {
                let base = base.float()?;
                if x <= 0.0 || base <= 0.0 || base == 1.0 {
                    return Err(format!("Invalid arguments to LOG: {}, {}", float_text(x), float_text(base)));
                }
                Ok(Value::Float(x.ln() / base.ln()))
            }
        }
    }),
    def("SIN", ONE, |_, a| Ok(Value::Float(a[0].float()?.sin()))),
    def("COS", ONE, |_, a| Ok(Value::Float(a[0].float()?.cos()))),
    def("TAN", ONE, |_, a| Ok(Value::Float(a[0].float()?.tan()))),
    def("ASIN", ONE, |_, a| domain("ASIN", a[0].float()?, f64::asin)),
    def("ACOS", ONE, |_, a| domain("ACOS", a[0].float()?, f64::acos)),
    def("ATAN", ONE, |_, a| Ok(Value::Float(a[0].float()?.atan()))),
    def("ATAN2", "FLOAT64,FLOAT64->FLOAT64", |_, a| Ok(Value::Float(a[0].float()?.atan2(a[1].float()?)))),
    def("SINH", ONE, |_, a| finite("SINH", a[0].float()?, f64::sinh)),
    def("COSH", ONE, |_, a| finite("COSH", a[0].float()?, f64::cosh)),
    def("TANH", ONE, |_, a| Ok(Value::Float(a[0].float()?.tanh()))),
    def("ASINH", ONE, |_, a| Ok(Value::Float(a[0].float()?.asinh()))),
    def("ACOSH", ONE, |_, a| domain("ACOSH", a[0].float()?, f64::acosh)),
    def("ATANH", ONE, |_, a| domain("ATANH", a[0].float()?, f64::atanh)),
    def("MOD", WHOLE, |_, a| modulo(a)),
    def("DIV", WHOLE, |_, a| div(a)),
    def("IEEE_DIVIDE", "FLOAT64,FLOAT64->FLOAT64", |_, a| Ok(Value::Float(a[0].float()? / a[1].float()?))),
    def("SAFE_DIVIDE", QUOTIENT, |_, a| Ok(arithmetic("/", a).unwrap_or(Value::Null))),
    def("SAFE_ADD", PAIR, |_, a| Ok(arithmetic("+", a).unwrap_or(Value::Null))),
    def("SAFE_SUBTRACT", PAIR, |_, a| Ok(arithmetic("-", a).unwrap_or(Value::Null))),
    def("SAFE_MULTIPLY", PAIR, |_, a| Ok(arithmetic("*", a).unwrap_or(Value::Null))),
    def("SAFE_NEGATE", SAME, |_, a| {
        Ok(match &a[0] {
            Value::Int(v) => v.checked_neg().map_or(Value::Null, Value::Int),
            Value::Float(v) => Value::Float(-v),
            Value::Numeric(v) => Value::Numeric(-v),
            Value::Big(v) => v.checked_neg().map_or(Value::Null, Value::Big),
            _ => Value::Null,
        })
    }),
    def("IS_NAN", "FLOAT64->BOOL", |_, a| Ok(Value::Bool(a[0].float()?.is_nan()))),
    def("IS_INF", "FLOAT64->BOOL", |_, a| Ok(Value::Bool(a[0].float()?.is_infinite()))),
    Def { volatile: true, ..def("RAND", "->FLOAT64", |_, _| Ok(Value::Float(rand::random::<f64>()))) },
    def("BIT_COUNT", "INT64->INT64|BYTES->INT64", |_, a| {
        Ok(Value::Int(match &a[0] {
            Value::Int(v) => i64::from(v.count_ones()),
            other => other.bytes()?.iter().map(|b| i64::from(b.count_ones())).sum(),
        }))
    }),
    def("GREATEST", "T,T*->T", |_, a| extreme(a, true)),
    def("LEAST", "T,T*->T", |_, a| extreme(a, false)),
    lenient("RANGE_BUCKET", "T,[T]->INT64", |_, a| {
        let (value, Value::Array(bounds)) = (&a[0], &a[1]) else { return Ok(Value::Null) };
        if value.is_null() || matches!(value, Value::Float(v) if v.is_nan()) {
            return Ok(Value::Null);
        }
        if bounds.iter().any(Value::is_null) {
            return Err("Elements in input array to RANGE_BUCKET cannot be null.".into());
        }
        if bounds.windows(2).any(|w| w[0].order(&w[1]).is_gt()) {
            return Err("Elements in input array to RANGE_BUCKET must be in ascending order.".into());
        }
        Ok(Value::Int(bounds.iter().filter(|b| b.order(value).is_le()).count() as i64))
    }),
];

fn finite(name: &str, v: f64, f: fn(f64) -> f64) -> Out {
    let result = f(v);
    if result.is_infinite() && v.is_finite() {
        return Err(format!("Floating point overflow in function: {name}"));
    }
    Ok(Value::Float(result))
}

fn domain(name: &str, v: f64, f: fn(f64) -> f64) -> Out {
    let result = f(v);
    if (result.is_nan() && !v.is_nan()) || (result.is_infinite() && v.is_finite()) {
        return Err(format!("Argument to {name} is out of range: {}", float_text(v)));
    }
    Ok(Value::Float(result))
}

fn logarithm(name: &str, v: f64, f: fn(f64) -> f64) -> Out {
    if v <= 0.0 {
        return Err(format!("Invalid argument to {name}: {}", float_text(v)));
    }
    Ok(Value::Float(f(v)))
}

fn round(a: &[Value], how: Cut) -> Out {
    let digits = a.get(1).map_or(Ok(0), Value::int)?;
    Ok(match &a[0] {
        Value::Numeric(v) => Value::Numeric(cut_numeric(*v, digits, how)?),
        Value::Big(v) => Value::Big(cut_bignumeric(*v, digits, how)?),
        Value::Float(v) => Value::Float(round_float(*v, digits, how)),
        _ => Value::Null,
    })
}

/// Rounds a double at a decimal digit: by its exact decimal value where it fits, so that no scaling loses a bit.
fn round_float(v: f64, digits: i64, how: Cut) -> f64 {
    if !v.is_finite() || v == 0.0 {
        return v;
    }
    if digits == 0 {
        return match how {
            Cut::HalfAwayFromZero => v.round(),
            Cut::HalfEven => v.round_ties_even(),
            Cut::Towards0 => v.trunc(),
            Cut::Up => v.ceil(),
            Cut::Down => v.floor(),
        };
    }
    // What is printed is rounded: 2.675 with two digits is 2.68, as people and BigQuery have it.
    let Ok(scaled) = strongroom::codec::value::parse_decimal(
        &float_text(v),
        38,
        strongroom::codec::value::Rounding::HalfAwayFromZero,
        "FLOAT64",
    ) else {
        return v;
    };
    match cut(scaled, 38, digits, how) {
        Some(scaled) => crate::bigquery::sql::num::big_text(scaled).parse().unwrap_or(v),
        None => v,
    }
}

fn pow(a: &[Value]) -> Out {
    let (x, y) = match (&a[0], &a[1]) {
        (Value::Float(x), Value::Float(y)) => (*x, *y),
        // Decimal powers: exact for whole exponents, otherwise by way of doubles.
        (Value::Numeric(x), Value::Numeric(y)) => {
            if y % 1_000_000_000 == 0 && (0..=200).contains(&(y / 1_000_000_000)) {
                let mut result = 1_000_000_000_i128;
                for _ in 0..y / 1_000_000_000 {
                    result = numeric_arithmetic("*", result, *x)?;
                }
                return Ok(Value::Numeric(result));
            }
            return Err("POW of NUMERIC with this exponent is not supported by the sandbox's SQL engine".into());
        }
        (Value::Big(x), Value::Big(y)) => {
            let exponent = y.checked_div(ten(38)).and_then(i256::to_i128).unwrap_or(-1);
            if y.wrapping_rem(ten(38)) == i256::ZERO && (0..=200).contains(&exponent) {
                let mut result = ten(38);
                for _ in 0..exponent {
                    result = bignumeric_arithmetic("*", result, *x)?;
                }
                return Ok(Value::Big(result));
            }
            return Err("POW of BIGNUMERIC with this exponent is not supported by the sandbox's SQL engine".into());
        }
        _ => return Ok(Value::Null),
    };
    let result = x.powf(y);
    if (result.is_nan() && !x.is_nan() && !y.is_nan()) || (result.is_infinite() && x.is_finite() && y.is_finite()) {
        return Err(format!("Floating point error in function: POW({}, {})", float_text(x), float_text(y)));
    }
    Ok(Value::Float(result))
}

fn arithmetic(op: &str, a: &[Value]) -> Out {
    Ok(match (&a[0], &a[1]) {
        (Value::Int(x), Value::Int(y)) => Value::Int(int_arithmetic(op, *x, *y)?),
        (Value::Float(x), Value::Float(y)) => Value::Float(float_arithmetic(op, *x, *y)?),
        (Value::Numeric(x), Value::Numeric(y)) => Value::Numeric(numeric_arithmetic(op, *x, *y)?),
        (Value::Big(x), Value::Big(y)) => Value::Big(bignumeric_arithmetic(op, *x, *y)?),
        _ => Value::Null,
    })
}

fn modulo(a: &[Value]) -> Out {
    let zero = || "division by zero: MOD".to_owned();
    Ok(match (&a[0], &a[1]) {
        (Value::Int(x), Value::Int(y)) => {
            if *y == 0 {
                return Err(format!("division by zero: MOD({x}, 0)"));
            }
            Value::Int(x.wrapping_rem(*y))
        }
        (Value::Numeric(x), Value::Numeric(y)) => Value::Numeric(x.checked_rem(*y).ok_or_else(zero)?),
        (Value::Big(x), Value::Big(y)) => Value::Big(x.checked_rem(*y).ok_or_else(zero)?),
        _ => Value::Null,
    })
}

fn div(a: &[Value]) -> Out {
    let zero = || "division by zero: DIV".to_owned();
    Ok(match (&a[0], &a[1]) {
        (Value::Int(x), Value::Int(y)) => {
            if *y == 0 {
                return Err(format!("division by zero: DIV({x}, 0)"));
            }
            Value::Int(x.checked_div(*y).ok_or_else(|| format!("int64 overflow: DIV({x}, {y})"))?)
        }
        (Value::Numeric(x), Value::Numeric(y)) => {
            let quotient = x.checked_div(*y).ok_or_else(zero)?;
            let scaled = quotient.checked_mul(1_000_000_000).map(i256::from_i128);
            Value::Numeric(crate::bigquery::sql::num::check_numeric(scaled).ok_or("numeric overflow: DIV")?)
        }
        (Value::Big(x), Value::Big(y)) => {
            let quotient = x.checked_div(*y).ok_or_else(zero)?;
            Value::Big(from_big(&(to_big(quotient) * to_big(ten(38)))).ok_or("BIGNUMERIC overflow: DIV")?)
        }
        _ => Value::Null,
    })
}

fn extreme(a: &[Value], greatest: bool) -> Out {
    if let Some(nan) = a.iter().find(|v| matches!(v, Value::Float(f) if f.is_nan())) {
        return Ok(nan.clone());
    }
    let best =
        a.iter().reduce(|best, v| if v.order(best).is_gt() == greatest && v.order(best).is_ne() { v } else { best });
    Ok(best.cloned().unwrap_or(Value::Null))
}
