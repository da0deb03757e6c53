//! Functions of BigQuery that the engine lacks or spells otherwise: dates by part, FARM_FINGERPRINT, TO_JSON_STRING.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray, StringArray};
use arrow::datatypes::{ArrowTemporalType, DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;

use crate::codec::farm::farm_fingerprint;
use crate::codec::row_json::ValueJson;
use crate::codec::value::{MICROS_PER_DAY, civil_from_days, days_from_civil};

/// `TRUNC(value, part)`, `DIFF(later, earlier, part)`, `ADD(value, count, part)`: what the dialect rewrites calls to.
pub const TRUNC: &str = "bigquery_trunc";
pub const DIFF: &str = "bigquery_diff";
pub const ADD: &str = "bigquery_add";

pub const PARTS: [&str; 12] = [
    "MICROSECOND",
    "MILLISECOND",
    "SECOND",
    "MINUTE",
    "HOUR",
    "DAY",
    "WEEK",
    "ISOWEEK",
    "MONTH",
    "QUARTER",
    "YEAR",
    "ISOYEAR",
];

/// Makes the functions known.
///
/// # Errors
/// The engine's own.
pub fn register(session: &SessionContext) -> DfResult<()> {
    for what in [What::Trunc, What::Diff, What::Add, What::Farm, What::Json] {
        session.register_udf(ScalarUDF::from(Call { what, signature: what.signature() }));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Trunc,
    Diff,
    Add,
    Farm,
    Json,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Call {
    what: What,
    signature: Signature,
}

impl What {
    fn signature(self) -> Signature {
        match self {
            Self::Trunc | Self::Diff | Self::Add | Self::Farm => Signature::user_defined(Volatility::Immutable),
            Self::Json => Signature::any(1, Volatility::Immutable),
        }
    }
}

fn wrong(message: impl Into<String>) -> DataFusionError {
    DataFusionError::Plan(message.into())
}

/// A day or an instant; texts are read as days.
fn temporal(kind: &DataType) -> DfResult<DataType> {
    match kind {
        DataType::Date32 | DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => {
            Ok(DataType::Date32)
        }
        DataType::Timestamp(_, zone) => Ok(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
        other => Err(wrong(format!("a DATE, DATETIME or TIMESTAMP is expected, not {other}"))),
    }
}

impl ScalarUDFImpl for Call {
    fn name(&self) -> &str {
        match self.what {
            What::Trunc => TRUNC,
            What::Diff => DIFF,
            What::Add => ADD,
            What::Farm => "farm_fingerprint",
            What::Json => "to_json_string",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        match (self.what, given) {
            (What::Trunc, [value, _]) => Ok(vec![temporal(value)?, DataType::Utf8]),
            (What::Diff, [a, b, _]) => {
                let (a, b) = (temporal(a)?, temporal(b)?);
                // A day and an instant: the day is its midnight.
                let both = if a == DataType::Date32 { b } else { a };
                Ok(vec![both.clone(), both, DataType::Utf8])
            }
            (What::Add, [value, _, _]) => Ok(vec![temporal(value)?, DataType::Int64, DataType::Utf8]),
            (What::Farm, [DataType::Binary | DataType::LargeBinary | DataType::BinaryView]) => {
                Ok(vec![DataType::Binary])
            }
            (What::Farm, [_]) => Ok(vec![DataType::Utf8]),
            _ => Err(wrong("the number of arguments is not as expected")),
        }
    }

    fn return_type(&self, args: &[DataType]) -> DfResult<DataType> {
        match self.what {
            What::Trunc | What::Add => args.first().map_or_else(|| Err(wrong("an argument is missing")), temporal),
            What::Diff | What::Farm => Ok(DataType::Int64),
            What::Json => Ok(DataType::Utf8),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let part = || match args.args.last() {
            Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(part)))) => Ok(part.as_str()),
            _ => Err(wrong("the date part must be a constant")),
        };
        let array: ArrayRef = match self.what {
            What::Trunc => mapped(&arrays[0], |day| trunc_days(day, part()?), |at| trunc_micros(at, part()?))?,
            What::Add => {
                let counts = arrays[1].as_primitive::<Int64Type>();
                let unit = part()?;
                added(&arrays[0], counts, unit)?
            }
            What::Diff => diff(&arrays[0], &arrays[1], part()?)?,
            What::Farm => {
                let hash = |bytes: Option<&[u8]>| bytes.map(farm_fingerprint);
                let hashes: Int64Array = match arrays[0].data_type() {
                    DataType::Binary => arrays[0].as_binary::<i32>().iter().map(hash).collect(),
                    _ => arrays[0].as_string::<i32>().iter().map(|text| hash(text.map(str::as_bytes))).collect(),
                };
                Arc::new(hashes)
            }
            What::Json => {
                let json = ValueJson::new(&args.arg_fields[0], &arrays[0]);
                let json = json.map_err(|error| DataFusionError::External(Box::new(error)))?;
                let texts = (0..arrays[0].len()).map(|row| {
                    let mut out = Vec::new();
                    json.write(row, &mut out);
                    String::from_utf8_lossy(&out).into_owned()
                });
                Arc::new(StringArray::from_iter_values(texts))
            }
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// Applies a function to days or to instants, whichever the array holds.
fn mapped(
    array: &ArrayRef,
    days: impl Fn(i32) -> DfResult<i32>,
    micros: impl Fn(i64) -> DfResult<i64>,
) -> DfResult<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Date32 => Arc::new(each::<Date32Type>(array, days)?),
        kind => Arc::new(each::<TimestampMicrosecondType>(array, micros)?.with_data_type(kind.clone())),
    })
}

fn each<T: ArrowTemporalType>(
    array: &ArrayRef,
    change: impl Fn(T::Native) -> DfResult<T::Native>,
) -> DfResult<PrimitiveArray<T>> {
    array.as_primitive::<T>().iter().map(|value| value.map(&change).transpose()).collect()
}

fn too_far() -> DataFusionError {
    DataFusionError::Execution("the date is outside the years 1 to 9999".into())
}

fn whole_day(micros: i64) -> DfResult<i32> {
    i32::try_from(micros.div_euclid(MICROS_PER_DAY)).map_err(|_| too_far())
}

/// Microseconds of a part that is always as long.
fn fixed(part: &str) -> Option<i64> {
    Some(match part {
        "MICROSECOND" => 1,
        "MILLISECOND" => 1_000,
        "SECOND" => 1_000_000,
        "MINUTE" => 60_000_000,
        "HOUR" => 3_600_000_000,
        _ => return None,
    })
}

fn trunc_days(day: i32, part: &str) -> DfResult<i32> {
    let (year, month, _) = civil_from_days(day);
    Ok(match part {
        "DAY" => day,
        // 1970-01-01 was a Thursday; weeks begin on Sunday, ISO weeks on Monday.
        "WEEK" => day - (day + 4).rem_euclid(7),
        "ISOWEEK" => day - (day + 3).rem_euclid(7),
        "MONTH" => days_from_civil(year, month, 1),
        "QUARTER" => days_from_civil(year, (month - 1) / 3 * 3 + 1, 1),
        "YEAR" => days_from_civil(year, 1, 1),
        "ISOYEAR" => {
            // The year of this week's Thursday, from the Monday of the week with its January 4th.
            let (year, _, _) = civil_from_days(day - (day + 3).rem_euclid(7) + 3);
            let fourth = days_from_civil(year, 1, 4);
            fourth - (fourth + 3).rem_euclid(7)
        }
        part => return Err(wrong(format!("a DATE has no part {part}"))),
    })
}

fn trunc_micros(at: i64, part: &str) -> DfResult<i64> {
    match fixed(part) {
        Some(length) => Ok(at - at.rem_euclid(length)),
        None => Ok(i64::from(trunc_days(whole_day(at)?, part)?) * MICROS_PER_DAY),
    }
}

/// How many boundaries of a part lie between two days.
fn diff_days(later: i32, earlier: i32, part: &str) -> DfResult<i64> {
    let months = |day: i32| {
        let (year, month, _) = civil_from_days(day);
        i64::from(year) * 12 + i64::from(month) - 1
    };
    Ok(match part {
        "DAY" => i64::from(later) - i64::from(earlier),
        "WEEK" | "ISOWEEK" => {
            let (a, b) = (trunc_days(later, part)?, trunc_days(earlier, part)?);
            (i64::from(a) - i64::from(b)) / 7
        }
        "MONTH" => months(later) - months(earlier),
        "QUARTER" => months(later).div_euclid(3) - months(earlier).div_euclid(3),
        "YEAR" => months(later).div_euclid(12) - months(earlier).div_euclid(12),
        "ISOYEAR" => {
            let year = |day: i32| trunc_days(day, part).map(|start| i64::from(civil_from_days(start + 3).0));
            year(later)? - year(earlier)?
        }
        part => return Err(wrong(format!("a DATE has no part {part}"))),
    })
}

fn diff(later: &ArrayRef, earlier: &ArrayRef, part: &str) -> DfResult<ArrayRef> {
    let both = |row: usize| later.is_valid(row) && earlier.is_valid(row);
    let between = |row: usize| -> DfResult<Option<i64>> {
        if !both(row) {
            return Ok(None);
        }
        Ok(Some(match later.data_type() {
            DataType::Date32 => {
                let day = |array: &ArrayRef| array.as_primitive::<Date32Type>().value(row);
                diff_days(day(later), day(earlier), part)?
            }
            kind => {
                let at = |array: &ArrayRef| array.as_primitive::<TimestampMicrosecondType>().value(row);
                let (a, b) = (at(later), at(earlier));
                match (fixed(part), kind) {
                    (Some(length), _) => (a - b) / length,
                    // Between TIMESTAMPs a day is 24 hours, between DATETIMEs one of the calendar.
                    (None, DataType::Timestamp(_, Some(_))) if part == "DAY" => (a - b) / MICROS_PER_DAY,
                    _ => diff_days(whole_day(a)?, whole_day(b)?, part)?,
                }
            }
        }))
    };
    let values: Int64Array = (0..later.len()).map(between).collect::<DfResult<_>>()?;
    Ok(Arc::new(values))
}

fn add_days(day: i32, count: i64, part: &str) -> DfResult<i32> {
    let months = match part {
        "DAY" => return i32::try_from(i64::from(day) + count).map_err(|_| too_far()),
        "WEEK" => return add_days(day, count.checked_mul(7).ok_or_else(too_far)?, "DAY"),
        "MONTH" => count,
        "QUARTER" => count.checked_mul(3).ok_or_else(too_far)?,
        "YEAR" => count.checked_mul(12).ok_or_else(too_far)?,
        part => return Err(wrong(format!("{part} cannot be added to a DATE"))),
    };
    let (year, month, date) = civil_from_days(day);
    let month = (i64::from(year) * 12 + i64::from(month) - 1).checked_add(months).ok_or_else(too_far)?;
    let year = i32::try_from(month.div_euclid(12)).ok().filter(|year| (1..=9999).contains(year)).ok_or_else(too_far)?;
    let month = month.rem_euclid(12) as u32 + 1;
    let next = if month == 12 { days_from_civil(year + 1, 1, 1) } else { days_from_civil(year, month + 1, 1) };
    let first = days_from_civil(year, month, 1);
    // The last day of a month that is too short.
    Ok(first + (date as i32 - 1).min(next - first - 1))
}

fn added(array: &ArrayRef, counts: &Int64Array, part: &str) -> DfResult<ArrayRef> {
    let row_of = |row: usize| (array.is_valid(row) && counts.is_valid(row)).then(|| counts.value(row));
    Ok(match array.data_type() {
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>();
            let sum = |row| row_of(row).map(|count| add_days(days.value(row), count, part)).transpose();
            Arc::new((0..array.len()).map(sum).collect::<DfResult<PrimitiveArray<Date32Type>>>()?)
        }
        kind => {
            let instants = array.as_primitive::<TimestampMicrosecondType>();
            let sum = |row| {
                let Some(count) = row_of(row) else { return Ok(None) };
                let at = instants.value(row);
                let length = fixed(part).or((part == "DAY").then_some(MICROS_PER_DAY));
                match length {
                    Some(length) => count.checked_mul(length).and_then(|more| at.checked_add(more)).ok_or_else(too_far),
                    None => {
                        let day = add_days(whole_day(at)?, count, part)?;
                        Ok(i64::from(day) * MICROS_PER_DAY + at.rem_euclid(MICROS_PER_DAY))
                    }
                }
                .map(Some)
            };
            let sums = (0..array.len()).map(sum).collect::<DfResult<PrimitiveArray<TimestampMicrosecondType>>>()?;
            Arc::new(sums.with_data_type(kind.clone()))
        }
    })
}
