//! Totals of a table's columns, taken while rows pass by: counts, exact sums, least and greatest values, distinct dates.
//!
//! Sums are exact for every type: INT64, NUMERIC and BIGNUMERIC as integers, FLOAT64 in a fixed-point accumulator of all
//! its bits, so that neither order nor division of the rows changes them. Parts merge, also after a way through JSON.

mod exact;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, i256,
};
use num_bigint::BigInt;
use serde::{Deserialize, Serialize};

use self::exact::ExactSum;
use super::arrow_schema::children;
use super::cast::conform;
use super::error::CodecError;
use super::value::{self, to_text};
use crate::model::schema::{Field, FieldType, Mode, Schema};

/// Totals of all columns of a table, or of some of its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableStats {
    pub rows: u64,
    /// Fields of records are columns of their own (`a.b`); of an array every element counts.
    pub columns: Vec<ColumnStats>,
}

/// Totals of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub struct ColumnStats {
    /// The path: `items.price`.
    pub column: String,
    pub kind: FieldType,
    /// Values that are not NULL.
    pub values: u64,
    pub nulls: u64,
    totals: Totals,
}

#[derive(Debug, Clone, PartialEq)]
enum Totals {
    /// STRING, BYTES, JSON, GEOGRAPHY, INTERVAL, RANGE: only counted.
    Counted,
    /// BOOL: how many are true.
    Bool(u64),
    Int {
        sum: i128,
        ends: Option<(i64, i64)>,
    },
    /// Sum scaled by 10^9.
    Numeric {
        sum: i256,
        ends: Option<(i128, i128)>,
    },
    /// Sum scaled by 10^38.
    BigNumeric {
        sum: BigInt,
        ends: Option<(i256, i256)>,
    },
    Float {
        sum: ExactSum,
        ends: Option<(f64, f64)>,
        nan: u64,
        infinite: [u64; 2],
    },
    /// Runs of days, in order, neither touching nor overlapping.
    Date(Vec<(i32, i32)>),
    /// TIME, DATETIME, TIMESTAMP.
    Micros(Option<(i64, i64)>),
}

impl TableStats {
    /// The totals of no rows.
    pub fn new(table: &Schema) -> Self {
        let mut columns = Vec::new();
        table.fields.iter().for_each(|f| list_columns(f, "", &mut columns));
        Self { rows: 0, columns }
    }

    /// Takes in the rows of a batch of the table.
    ///
    /// # Errors
    /// When the batch is not of the table's schema.
    pub fn add(&mut self, batch: &RecordBatch, table: &Schema) -> Result<(), CodecError> {
        let batch = conform(batch, table)?;
        let mut columns = self.columns.iter_mut();
        for (field, array) in table.fields.iter().zip(batch.columns()) {
            take_in(field, array, array.nulls(), &mut columns)?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Takes in the totals of another part of the same table.
    ///
    /// # Errors
    /// When the columns are others.
    pub fn merge(&mut self, other: &Self) -> Result<(), CodecError> {
        if self.columns.len() != other.columns.len() {
            return Err(CodecError::schema("*", "totals of tables with different columns do not merge"));
        }
        for (mine, theirs) in self.columns.iter_mut().zip(&other.columns) {
            mine.merge(theirs)?;
        }
        self.rows += other.rows;
        Ok(())
    }

    /// The totals of a column by its path.
    pub fn column(&self, path: &str) -> Option<&ColumnStats> {
        self.columns.iter().find(|c| c.column == path)
    }
}

impl ColumnStats {
    /// The exact sum in decimal; for FLOAT64 the nearest FLOAT64 (`NaN`, `Infinity` when such are among the values).
    /// For BOOL the number of true ones. Nothing for other types and when there are no values.
    pub fn sum(&self) -> Option<String> {
        if self.values == 0 {
            return None;
        }
        match &self.totals {
            Totals::Bool(trues) => Some(trues.to_string()),
            Totals::Int { sum, .. } => Some(sum.to_string()),
            Totals::Numeric { sum, .. } => Some(to_text(|out| value::write_decimal(*sum, 9, out))),
            Totals::BigNumeric { sum, .. } => Some(scaled_text(sum)),
            Totals::Float { .. } => Some(float_text(self.float_sum().unwrap_or(f64::NAN))),
            Totals::Counted | Totals::Date(_) | Totals::Micros(_) => None,
        }
    }

    /// The sum of a FLOAT64 column, rounded once.
    pub fn float_sum(&self) -> Option<f64> {
        match &self.totals {
            Totals::Float { sum, nan, infinite, .. } => Some(match (nan, infinite) {
                (0, [0, 0]) => sum.to_f64(),
                (0, [0, _]) => f64::INFINITY,
                (0, [_, 0]) => f64::NEG_INFINITY,
                _ => f64::NAN,
            }),
            _ => None,
        }
    }

    /// The least value as text; NaN counts as neither least nor greatest.
    pub fn min(&self) -> Option<String> {
        self.ends().map(|(least, _)| least)
    }

    /// The greatest value as text.
    pub fn max(&self) -> Option<String> {
        self.ends().map(|(_, greatest)| greatest)
    }

    /// How many different days a DATE column holds.
    pub fn distinct_dates(&self) -> Option<u64> {
        match &self.totals {
            Totals::Date(runs) => Some(runs.iter().map(|(a, b)| (b - a) as u64 + 1).sum()),
            _ => None,
        }
    }

    fn ends(&self) -> Option<(String, String)> {
        let both =
            |write: &dyn Fn(bool, &mut Vec<u8>)| Some((to_text(|o| write(false, o)), to_text(|o| write(true, o))));
        fn pick<T: Copy>(ends: (T, T), greatest: bool) -> T {
            if greatest { ends.1 } else { ends.0 }
        }
        match &self.totals {
            Totals::Counted | Totals::Bool(_) => None,
            Totals::Int { ends, .. } => ends.map(|(a, b)| (a.to_string(), b.to_string())),
            Totals::Numeric { ends, .. } => ends.and_then(|e| both(&|g, o| value::write_numeric(pick(e, g), o))),
            Totals::BigNumeric { ends, .. } => ends.and_then(|e| both(&|g, o| value::write_bignumeric(pick(e, g), o))),
            Totals::Float { ends, .. } => ends.map(|(a, b)| (float_text(a), float_text(b))),
            Totals::Date(runs) => {
                let ends = runs.first().zip(runs.last()).map(|(a, b)| (a.0, b.1));
                ends.and_then(|e| both(&|g, o| value::write_date(pick(e, g), o)))
            }
            Totals::Micros(ends) => ends.and_then(|e| both(&|g, o| write_micros(self.kind, pick(e, g), o))),
        }
    }

    fn merge(&mut self, other: &Self) -> Result<(), CodecError> {
        if self.column != other.column || self.kind != other.kind {
            return Err(CodecError::schema(&self.column, "totals of different columns do not merge"));
        }
        self.values += other.values;
        self.nulls += other.nulls;
        match (&mut self.totals, &other.totals) {
            (Totals::Bool(mine), Totals::Bool(theirs)) => *mine += theirs,
            (Totals::Int { sum, ends }, Totals::Int { sum: s, ends: e }) => {
                *sum += s;
                widen(ends, *e);
            }
            (Totals::Numeric { sum, ends }, Totals::Numeric { sum: s, ends: e }) => {
                *sum = sum.wrapping_add(*s);
                widen(ends, *e);
            }
            (Totals::BigNumeric { sum, ends }, Totals::BigNumeric { sum: s, ends: e }) => {
                *sum += s;
                widen(ends, *e);
            }
            (
                Totals::Float { sum, ends, nan, infinite },
                Totals::Float { sum: s, ends: e, nan: n, infinite: [low, high] },
            ) => {
                sum.merge(s);
                widen(ends, *e);
                *nan += n;
                infinite[0] += low;
                infinite[1] += high;
            }
            (Totals::Date(mine), Totals::Date(theirs)) => {
                mine.extend_from_slice(theirs);
                join_runs(mine);
            }
            (Totals::Micros(ends), Totals::Micros(e)) => widen(ends, *e),
            _ => {}
        }
        Ok(())
    }
}

fn list_columns(field: &Field, parent: &str, columns: &mut Vec<ColumnStats>) {
    let column = if parent.is_empty() { field.name.clone() } else { format!("{parent}.{}", field.name) };
    columns.push(ColumnStats {
        column: column.clone(),
        kind: field.kind,
        values: 0,
        nulls: 0,
        totals: Totals::of(field.kind),
    });
    if field.kind == FieldType::Struct {
        field.fields.iter().for_each(|f| list_columns(f, &column, columns));
    }
}

/// Takes in a column and the columns below it, in the order of [`list_columns`]. `nulls` are those of the column and of
/// all records above it.
fn take_in<'a>(
    field: &Field,
    array: &ArrayRef,
    nulls: Option<&NullBuffer>,
    columns: &mut impl Iterator<Item = &'a mut ColumnStats>,
) -> Result<(), CodecError> {
    if field.mode == Mode::Repeated {
        let list = array.as_list::<i32>();
        let element = Field { mode: Mode::Required, ..field.clone() };
        // Elements of an array below a null record are not there; `conform` leaves such arrays empty or they are cut out.
        let values = list.values();
        let hidden = nulls.filter(|n| n.null_count() > 0).map(|nulls| {
            let offsets = list.value_offsets();
            let mut present = vec![false; values.len()];
            for row in (0..list.len()).filter(|row| nulls.is_valid(*row)) {
                present[offsets[row] as usize..offsets[row + 1] as usize].fill(true);
            }
            NullBuffer::from(present)
        });
        return take_elements(&element, values, hidden.as_ref(), columns);
    }
    let stats = columns.next().ok_or_else(|| CodecError::schema(&field.name, "is not among the totals"))?;
    let missing = nulls.map_or(0, NullBuffer::null_count) as u64;
    stats.nulls += missing;
    stats.values += array.len() as u64 - missing;
    stats.totals.take_in(array, nulls);
    if field.kind == FieldType::Struct {
        let record = array.as_struct();
        for (child, column) in children(field).iter().zip(record.columns()) {
            let below = NullBuffer::union(nulls, column.nulls());
            take_in(child, column, below.as_ref(), columns)?;
        }
    }
    Ok(())
}

/// Elements of arrays: those below a null record do not count as NULL, they do not count at all.
fn take_elements<'a>(
    element: &Field,
    values: &ArrayRef,
    hidden: Option<&NullBuffer>,
    columns: &mut impl Iterator<Item = &'a mut ColumnStats>,
) -> Result<(), CodecError> {
    let Some(hidden) = hidden.filter(|h| h.null_count() > 0) else {
        return take_in(element, values, values.nulls(), columns);
    };
    let mask = arrow::array::BooleanArray::new(hidden.inner().clone(), None);
    let kept = arrow::compute::filter(values, &mask).map_err(|e| CodecError::schema(&element.name, e.to_string()))?;
    take_in(element, &kept, kept.nulls(), columns)
}

impl Totals {
    fn of(kind: FieldType) -> Self {
        match kind {
            FieldType::Bool => Self::Bool(0),
            FieldType::Int64 => Self::Int { sum: 0, ends: None },
            FieldType::Numeric => Self::Numeric { sum: i256::ZERO, ends: None },
            FieldType::BigNumeric => Self::BigNumeric { sum: BigInt::ZERO, ends: None },
            FieldType::Float64 => Self::Float { sum: ExactSum::new(), ends: None, nan: 0, infinite: [0; 2] },
            FieldType::Date => Self::Date(Vec::new()),
            FieldType::Time | FieldType::DateTime | FieldType::Timestamp => Self::Micros(None),
            _ => Self::Counted,
        }
    }

    fn take_in(&mut self, array: &ArrayRef, nulls: Option<&NullBuffer>) {
        let there = |row: &usize| nulls.is_none_or(|n| n.is_valid(*row));
        let rows = (0..array.len()).filter(there);
        match self {
            Self::Counted => {}
            Self::Bool(trues) => {
                let values = array.as_boolean();
                *trues += rows.filter(|row| values.value(*row)).count() as u64;
            }
            Self::Int { sum, ends } => {
                let values = array.as_primitive::<Int64Type>().values();
                for row in rows {
                    *sum += i128::from(values[row]);
                    widen(ends, Some((values[row], values[row])));
                }
            }
            Self::Numeric { sum, ends } => {
                let values = array.as_primitive::<Decimal128Type>().values();
                // 2^63 values below 10^38 fit 256 bits by far.
                for row in rows {
                    *sum = sum.wrapping_add(i256::from_i128(values[row]));
                    widen(ends, Some((values[row], values[row])));
                }
            }
            Self::BigNumeric { sum, ends } => {
                let values = array.as_primitive::<Decimal256Type>().values();
                for row in rows {
                    *sum += BigInt::from_signed_bytes_be(&values[row].to_be_bytes());
                    widen(ends, Some((values[row], values[row])));
                }
            }
            Self::Float { sum, ends, nan, infinite } => {
                let values = array.as_primitive::<Float64Type>().values();
                for row in rows {
                    // -0.0 becomes 0.0, as in the fingerprint.
                    let value = values[row] + 0.0;
                    if value.is_nan() {
                        *nan += 1;
                        continue;
                    }
                    if value.is_infinite() {
                        infinite[usize::from(value > 0.0)] += 1;
                    } else {
                        sum.add(value);
                    }
                    widen(ends, Some((value, value)));
                }
            }
            Self::Date(runs) => {
                let values = array.as_primitive::<Date32Type>().values();
                let mut days: Vec<i32> = rows.map(|row| values[row]).collect();
                days.sort_unstable();
                days.dedup();
                runs.extend(days.into_iter().map(|day| (day, day)));
                join_runs(runs);
            }
            Self::Micros(ends) => {
                let values = match array.as_primitive_opt::<TimestampMicrosecondType>() {
                    Some(instants) => instants.values(),
                    None => array.as_primitive::<Time64MicrosecondType>().values(),
                };
                for row in rows {
                    widen(ends, Some((values[row], values[row])));
                }
            }
        }
    }
}

fn widen<T: PartialOrd + Copy>(ends: &mut Option<(T, T)>, with: Option<(T, T)>) {
    *ends = match (*ends, with) {
        (Some((a, b)), Some((c, d))) => Some((if c < a { c } else { a }, if d > b { d } else { b })),
        (None, other) | (other, None) => other,
    };
}

fn join_runs(runs: &mut Vec<(i32, i32)>) {
    runs.sort_unstable();
    runs.dedup_by(|next, run| {
        let touches = next.0 <= run.1.saturating_add(1);
        if touches {
            run.1 = run.1.max(next.1);
        }
        touches
    });
}

fn float_text(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() }
    } else {
        to_text(|out| value::write_float64(number, out))
    }
}

fn write_micros(kind: FieldType, micros: i64, out: &mut Vec<u8>) {
    match kind {
        FieldType::Time => value::write_time(micros, false, out),
        FieldType::DateTime => value::write_datetime(micros, b'T', false, out),
        _ => value::write_timestamp(micros, out),
    }
}

/// A number scaled by 10^38, of any size.
fn scaled_text(number: &BigInt) -> String {
    let digits = format!("{:039}", number.magnitude());
    let (whole, fraction) = digits.split_at(digits.len() - 38);
    let sign = if number.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    let text = format!("{sign}{whole}.{fraction}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn scaled_from_text(text: &str) -> Option<BigInt> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if text.len() > 400 || fraction.len() > 38 {
        return None;
    }
    format!("{whole}{fraction:0<38}").parse().ok()
}

/// How totals stand in JSON: numbers as text, so that none loses digits.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    column: String,
    #[serde(rename = "type")]
    kind: String,
    values: u64,
    nulls: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sum: Option<String>,
    /// FLOAT64: the sum before rounding, `<integer>p<power of two>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exact_sum: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<String>,
    /// FLOAT64: NaN, -Infinity, Infinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_finite: Option<[u64; 3]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    distinct_dates: Option<u64>,
    /// DATE: first and last of every run of days without a gap, as days since 1970-01-01.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    date_runs: Vec<(i32, i32)>,
}

impl From<ColumnStats> for Stored {
    fn from(stats: ColumnStats) -> Self {
        let (sum, min, max) = (stats.sum(), stats.min(), stats.max());
        let distinct_dates = stats.distinct_dates();
        let (exact_sum, not_finite) = match &stats.totals {
            Totals::Float { sum, nan, infinite: [low, high], .. } if stats.values > 0 => {
                (Some(sum.to_text()), (nan + low + high > 0).then_some([*nan, *low, *high]))
            }
            _ => (None, None),
        };
        let date_runs = match stats.totals {
            Totals::Date(runs) => runs,
            _ => Vec::new(),
        };
        Self {
            column: stats.column,
            kind: stats.kind.sql_name().to_owned(),
            values: stats.values,
            nulls: stats.nulls,
            sum,
            exact_sum,
            min,
            max,
            not_finite,
            distinct_dates,
            date_runs,
        }
    }
}

impl TryFrom<Stored> for ColumnStats {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let kind: FieldType = stored.kind.parse()?;
        let wrong = || format!("the totals of column '{}' hold no {kind}", stored.column);
        let pair = |min: &Option<String>, max: &Option<String>| min.clone().zip(max.clone());
        let texts = pair(&stored.min, &stored.max);
        fn ends<T, E>(
            texts: Option<(String, String)>,
            parse: impl Fn(&str) -> Result<T, E>,
        ) -> Result<Option<(T, T)>, E> {
            texts.map(|(a, b)| Ok((parse(&a)?, parse(&b)?))).transpose()
        }
        let totals = match Totals::of(kind) {
            Totals::Counted => Totals::Counted,
            Totals::Bool(_) => Totals::Bool(match &stored.sum {
                Some(sum) => sum.parse().map_err(|_| wrong())?,
                None => 0,
            }),
            Totals::Int { .. } => Totals::Int {
                sum: stored.sum.as_deref().unwrap_or("0").parse().map_err(|_| wrong())?,
                ends: ends(texts, str::parse::<i64>).map_err(|_| wrong())?,
            },
            Totals::Numeric { .. } => Totals::Numeric {
                sum: value::parse_decimal(stored.sum.as_deref().unwrap_or("0"), 9, value::Rounding::Exact, "NUMERIC")
                    .map_err(|_| wrong())?,
                ends: ends(texts, value::parse_numeric).map_err(|_| wrong())?,
            },
            Totals::BigNumeric { .. } => Totals::BigNumeric {
                sum: scaled_from_text(stored.sum.as_deref().unwrap_or("0")).ok_or_else(wrong)?,
                ends: ends(texts, value::parse_bignumeric).map_err(|_| wrong())?,
            },
            Totals::Float { .. } => {
                let [nan, low, high] = stored.not_finite.unwrap_or_default();
                Totals::Float {
                    sum: ExactSum::from_text(stored.exact_sum.as_deref().unwrap_or("0p0")).ok_or_else(wrong)?,
                    ends: ends(texts, value::parse_float64).map_err(|_| wrong())?,
                    nan,
                    infinite: [low, high],
                }
            }
            Totals::Date(_) => {
                let mut runs = stored.date_runs.clone();
                if runs.iter().any(|(a, b)| a > b || *a < value::DATE_MIN || *b > value::DATE_MAX) {
                    return Err(wrong());
                }
                join_runs(&mut runs);
                Totals::Date(runs)
            }
            Totals::Micros(_) => {
                let parse = |text: &str| match kind {
                    FieldType::Time => value::parse_time(text),
                    FieldType::DateTime => value::parse_datetime(text),
                    _ => value::parse_timestamp(text),
                };
                Totals::Micros(ends(texts, parse).map_err(|_| wrong())?)
            }
        };
        Ok(Self { column: stored.column.clone(), kind, values: stored.values, nulls: stored.nulls, totals })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::columns::{Columns, Data};
    use crate::codec::testing::{all_types, random_batch};

    fn of(table: &Schema, batches: &[RecordBatch]) -> TableStats {
        let mut stats = TableStats::new(table);
        batches.iter().for_each(|b| stats.add(b, table).unwrap());
        stats
    }

    #[test]
    fn known_totals() {
        let item = vec![Field::nullable("price", FieldType::Numeric)];
        let table = Schema::new(vec![
            Field::nullable("d", FieldType::Date),
            Field::nullable("f", FieldType::Float64),
            Field::record("items", Mode::Repeated, item),
            Field::required("t", FieldType::Timestamp),
        ]);
        let mut columns = Columns::new(&table);
        for (day, float, prices) in [
            (Some("2020-01-01"), Some("0.1"), vec![Some("1.5"), None]),
            (Some("2020-01-02"), Some("-0"), vec![]),
            (None, None, vec![Some("-3")]),
            (Some("2020-01-01"), Some("NaN"), vec![]),
            (Some("2020-02-01"), Some("0.2"), vec![Some("99999999999999999999999999999.999999999")]),
        ] {
            let [d, f, items, t] = &mut columns.columns[..] else { panic!() };
            for (column, text) in [(d, day), (f, float)] {
                match text {
                    Some(text) => column.push_text(text).unwrap(),
                    None => column.push_null().unwrap(),
                }
            }
            let Data::List { item, .. } = &mut items.data else { panic!() };
            for price in prices {
                let Data::Struct(fields) = &mut item.data else { panic!() };
                match price {
                    Some(text) => fields[0].push_text(text).unwrap(),
                    None => fields[0].push_null().unwrap(),
                }
                item.mark(true);
            }
            items.end_list().unwrap();
            t.push_text("2020-01-01 00:00:00.5").unwrap();
            columns.end_row();
        }
        let stats = of(&table, &[columns.finish().unwrap()]);
        let told = |path: &str| {
            let c = stats.column(path).unwrap();
            (c.values, c.nulls, c.sum().unwrap_or_default(), c.min().unwrap_or_default(), c.max().unwrap_or_default())
        };
        let want = |v, n, s: &str, a: &str, b: &str| (v, n, s.to_owned(), a.to_owned(), b.to_owned());
        assert_eq!(stats.rows, 5);
        assert_eq!(told("d"), want(4, 1, "", "2020-01-01", "2020-02-01"));
        assert_eq!(stats.column("d").unwrap().distinct_dates(), Some(3));
        assert_eq!(told("f"), want(4, 1, "NaN", "0", "0.2"));
        assert_eq!(told("items"), want(4, 0, "", "", ""));
        let big = "99999999999999999999999999999.999999999";
        assert_eq!(told("items.price"), want(3, 1, "99999999999999999999999999998.499999999", "-3", big));
        let noon = "2020-01-01 00:00:00.5 UTC";
        assert_eq!(told("t"), want(5, 0, "", noon, noon));
    }

    #[test]
    fn tables_that_differ_do_not_merge() {
        let table = |name: &str| TableStats::new(&Schema::new(vec![Field::nullable(name, FieldType::Int64)]));
        assert!(table("a").merge(&table("a")).is_ok());
        assert!(table("a").merge(&table("b")).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn parts_merge_also_after_json(seed: u64, rows in 0_usize..60, cut in 0_usize..60) {
            let table = all_types(true);
            let batch = random_batch(&table, seed, rows);
            let whole = of(&table, std::slice::from_ref(&batch));
            let cut = cut.min(rows);
            let mut parts = of(&table, &[batch.slice(cut, rows - cut)]);
            let first = of(&table, &[batch.slice(0, cut)]);
            let text = serde_json::to_string(&first).unwrap();
            let first: TableStats = serde_json::from_str(&text).unwrap();
            parts.merge(&first).unwrap();
            prop_assert_eq!(&parts, &whole);
            prop_assert_eq!(serde_json::to_string(&parts).unwrap(), serde_json::to_string(&whole).unwrap());
        }
    }
}
