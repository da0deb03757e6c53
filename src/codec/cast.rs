//! Arrow columns of any origin into the table's Arrow mapping, losing nothing: what cannot be held is an error.
//!
//! Used for Parquet files, whose columns come as the writer made them, and for batches that an engine computed.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Array, Decimal256Array, ListArray, PrimitiveArray,
    RecordBatch, RecordBatchOptions, StringArray, StructArray, new_empty_array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float64Type,
    Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, i256,
};

use super::arrow_schema::{arrow_field, arrow_schema, children, element_type};
use super::columns::Column;
use super::error::CodecError;
use super::value;
use crate::model::schema::{Field, FieldType, Mode, Schema};

/// The batch with exactly the table's Arrow schema.
///
/// Columns are matched by name where all names are there, otherwise by position. Null arrays become empty ones.
///
/// # Errors
/// When columns are missing or left over, a REQUIRED one holds nulls, or a value does not fit its type.
pub fn conform(batch: &RecordBatch, table: &Schema) -> Result<RecordBatch, CodecError> {
    let caster = Caster { lenient_names: true, ignore_unknown: false, normalise_json: false };
    caster.batch(batch, table)
}

/// How columns are matched and what is done to them.
pub(super) struct Caster {
    /// Match by position where names differ.
    pub lenient_names: bool,
    /// Pass over columns that the table does not have.
    pub ignore_unknown: bool,
    /// Check JSON columns and write them as BigQuery keeps them.
    pub normalise_json: bool,
}

impl Caster {
    pub fn batch(&self, batch: &RecordBatch, table: &Schema) -> Result<RecordBatch, CodecError> {
        let schema = batch.schema();
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let arrays = self.fields(&names, batch.columns(), batch.num_rows(), &table.fields, "")?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(arrow_schema(table), arrays, &options)
            .map_err(|e| CodecError::schema("*", e.to_string()))
    }

    fn fields(
        &self,
        names: &[&str],
        arrays: &[ArrayRef],
        len: usize,
        fields: &[Field],
        path: &str,
    ) -> Result<Vec<ArrayRef>, CodecError> {
        let by_name: Vec<Option<usize>> = fields.iter().map(|f| position(names, &f.name)).collect();
        let all_found = by_name.iter().all(Option::is_some);
        if self.lenient_names && !all_found && names.len() == fields.len() {
            return fields.iter().zip(arrays).map(|(f, a)| self.array(a, f, &join(path, &f.name))).collect();
        }
        let extra = (0..names.len()).find(|at| !by_name.contains(&Some(*at)));
        if let Some(extra) = extra.filter(|_| !self.ignore_unknown) {
            return Err(CodecError::schema(join(path, names[extra]), "is not a column of the table"));
        }
        fields
            .iter()
            .zip(by_name)
            .map(|(field, at)| {
                let path = join(path, &field.name);
                match at {
                    Some(at) => self.array(&arrays[at], field, &path),
                    None if self.lenient_names => Err(CodecError::schema(path, "is missing")),
                    None => absent(field, len, &path),
                }
            })
            .collect()
    }

    fn array(&self, array: &ArrayRef, field: &Field, path: &str) -> Result<ArrayRef, CodecError> {
        let array = match array.data_type() {
            DataType::Dictionary(_, value) => &arrow_cast(array, value, path)?,
            DataType::Null => return absent(field, array.len(), path),
            _ => array,
        };
        if field.mode == Mode::Repeated {
            return self.list(array, field, path);
        }
        if field.mode == Mode::Required && array.null_count() > 0 {
            return Err(CodecError::schema(path, "is REQUIRED but holds nulls"));
        }
        match field.kind {
            FieldType::Struct | FieldType::Range if matches!(array.data_type(), DataType::Struct(_)) => {
                self.record(array.as_struct(), field, path)
            }
            _ => self.scalar(array, field, path),
        }
    }

    fn record(&self, array: &StructArray, field: &Field, path: &str) -> Result<ArrayRef, CodecError> {
        let DataType::Struct(target) = element_type(field) else {
            return Err(CodecError::schema(path, "is not a record"));
        };
        let names: Vec<&str> = array.fields().iter().map(|f| f.name().as_str()).collect();
        let children = children(field);
        // Below a null record a REQUIRED field may hold anything.
        let masked: Vec<Field>;
        let below: &[Field] = if array.null_count() > 0 {
            masked = children.iter().map(relaxed).collect();
            &masked
        } else {
            &children
        };
        let arrays = self.fields(&names, array.columns(), array.len(), below, path)?;
        if array.null_count() > 0 {
            for (strict, column) in children.iter().zip(&arrays) {
                check_required_below(column, strict, array.nulls(), path)?;
            }
        }
        let arrays = children.iter().zip(arrays).map(|(f, a)| filled(a, f)).collect();
        let nulls = array.nulls().cloned().filter(|n| n.null_count() > 0);
        let record = StructArray::try_new_with_length(target, arrays, nulls, array.len());
        Ok(Arc::new(record.map_err(|e| CodecError::schema(path, e.to_string()))?))
    }

    fn list(&self, array: &ArrayRef, field: &Field, path: &str) -> Result<ArrayRef, CodecError> {
        let list = match array.data_type() {
            DataType::List(_) => array.clone(),
            DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item) => arrow_cast(array, &DataType::List(item.clone()), path)?,
            other => return Err(CodecError::schema(path, format!("is REPEATED, but the values are {other}"))),
        };
        let list = without_null_lists(list.as_list::<i32>(), path)?;
        let values = list.values().slice(
            list.value_offsets().first().map_or(0, |o| *o as usize),
            list.value_offsets().last().zip(list.value_offsets().first()).map_or(0, |(l, f)| (l - f) as usize),
        );
        if values.null_count() > 0 {
            return Err(CodecError::schema(path, "an array holds a null, which BigQuery cannot store"));
        }
        let element = Field { mode: Mode::Required, ..field.clone() };
        let values = self.array(&values, &element, path)?;
        let lengths = list.offsets().lengths();
        let DataType::List(item) = arrow_field(field).data_type().clone() else {
            return Err(CodecError::schema(path, "is not a list"));
        };
        let list = ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, None);
        Ok(Arc::new(list.map_err(|e| CodecError::schema(path, e.to_string()))?))
    }

    fn scalar(&self, array: &ArrayRef, field: &Field, path: &str) -> Result<ArrayRef, CodecError> {
        use DataType as D;
        use FieldType as F;
        let source = array.data_type();
        let target = element_type(field);
        let done = match (field.kind, source) {
            (F::Int64, s) if s.is_integer() => arrow_cast(array, &target, path)?,
            (F::Float64, D::Float16 | D::Float32 | D::Float64) => arrow_cast(array, &target, path)?,
            (F::Float64, s) if s.is_integer() => {
                let ints = arrow_cast(array, &D::Int64, path)?;
                let exact = |n: i64| ((n as f64) as i128 == i128::from(n)).then_some(n as f64);
                map::<Int64Type, Float64Type>(&ints, path, "does not fit FLOAT64 without loss", exact)?
            }
            (F::Bool, D::Boolean) => array.clone(),
            (F::Bytes, D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_)) => {
                arrow_cast(array, &target, path)?
            }
            (
                F::String | F::Json | F::Geography | F::Interval,
                D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Binary | D::LargeBinary | D::BinaryView,
            ) => {
                let texts = arrow_cast(array, &D::Utf8, path)?;
                if field.kind == F::Json && self.normalise_json { normalised(&texts, path)? } else { texts }
            }
            (F::Numeric | F::BigNumeric, s) if s.is_integer() => {
                let wide = arrow_cast(array, &D::Decimal128(38, 0), path)?;
                decimals(&wide, 0, field, path)?
            }
            (F::Numeric, D::Decimal128(_, 9)) | (F::BigNumeric, D::Decimal256(_, 38)) => in_range(array, field, path)?,
            (
                F::Numeric | F::BigNumeric,
                D::Decimal32(_, s) | D::Decimal64(_, s) | D::Decimal128(_, s) | D::Decimal256(_, s),
            ) => decimals(array, i32::from(*s), field, path)?,
            (F::Date, D::Date32) => {
                let within = |d: i32| (value::DATE_MIN..=value::DATE_MAX).contains(&d).then_some(d);
                map_same::<Date32Type>(array, path, within)?
            }
            (F::Date, D::Date64) => {
                const DAY_MS: i64 = 86_400_000;
                let days = |ms: i64| {
                    let day = i32::try_from(ms.div_euclid(DAY_MS)).ok()?;
                    (ms % DAY_MS == 0 && (value::DATE_MIN..=value::DATE_MAX).contains(&day)).then_some(day)
                };
                map::<Date64Type, Date32Type>(array, path, "is no whole day from year 1 to 9999", days)?
            }
            (F::Time, D::Time64(_) | D::Time32(_)) => times(array, path)?,
            (F::DateTime | F::Timestamp, D::Timestamp(unit, _)) => {
                let micros = timestamps(array, *unit, path)?;
                if field.kind == F::Timestamp {
                    Arc::new(micros.with_timezone("UTC"))
                } else {
                    Arc::new(micros.with_timezone_opt(None::<Arc<str>>))
                }
            }
            (_, D::Utf8 | D::LargeUtf8 | D::Utf8View) if field.kind != F::Struct => {
                parsed(&arrow_cast(array, &D::Utf8, path)?, field, path)?
            }
            (kind, other) => {
                return Err(CodecError::schema(path, format!("is {kind}, but the values are {other}")));
            }
        };
        check_length(&done, field, path)?;
        Ok(done)
    }
}

fn position(names: &[&str], name: &str) -> Option<usize> {
    let exact = names.iter().position(|n| *n == name);
    exact.or_else(|| names.iter().position(|n| n.eq_ignore_ascii_case(name)))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn relaxed(field: &Field) -> Field {
    let mode = if field.mode == Mode::Required { Mode::Nullable } else { field.mode };
    Field { mode, ..field.clone() }
}

/// A REQUIRED field below a record that is there must be there.
fn check_required_below(
    column: &ArrayRef,
    field: &Field,
    parent: Option<&NullBuffer>,
    path: &str,
) -> Result<(), CodecError> {
    let (Some(parent), Some(nulls)) = (parent, column.nulls()) else { return Ok(()) };
    let broken = field.mode == Mode::Required && (0..column.len()).any(|at| nulls.is_null(at) && parent.is_valid(at));
    if broken { Err(CodecError::schema(join(path, &field.name), "is REQUIRED but holds nulls")) } else { Ok(()) }
}

/// The column of a REQUIRED field below null records: what is null there gets a blank value.
fn filled(column: ArrayRef, field: &Field) -> ArrayRef {
    if field.mode != Mode::Required || column.null_count() == 0 {
        return column;
    }
    let data = column.to_data().into_builder().nulls(None);
    // Dropping the null mask keeps lengths and buffers as they were.
    data.build().map_or(column, arrow::array::make_array)
}

/// A column that the source does not have.
fn absent(field: &Field, len: usize, path: &str) -> Result<ArrayRef, CodecError> {
    match field.mode {
        Mode::Required if len > 0 => Err(CodecError::schema(path, "is REQUIRED but missing")),
        Mode::Required => Ok(new_empty_array(&element_type(field))),
        Mode::Nullable => Ok(new_null_array(&element_type(field), len)),
        Mode::Repeated => {
            let DataType::List(item) = arrow_field(field).data_type().clone() else {
                return Err(CodecError::schema(path, "is not a list"));
            };
            let values = new_empty_array(item.data_type());
            Ok(Arc::new(ListArray::new(item, OffsetBuffer::new_zeroed(len), values, None)))
        }
    }
}

fn arrow_cast(array: &ArrayRef, target: &DataType, path: &str) -> Result<ArrayRef, CodecError> {
    if array.data_type() == target {
        return Ok(array.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, target, &options).map_err(|e| CodecError::schema(path, e.to_string()))
}

fn without_null_lists(list: &ListArray, path: &str) -> Result<ListArray, CodecError> {
    if list.null_count() == 0 {
        return Ok(list.clone());
    }
    let DataType::List(item) = list.data_type().clone() else {
        return Err(CodecError::schema(path, "is not a list"));
    };
    let told = |e: arrow::error::ArrowError| CodecError::schema(path, e.to_string());
    let offsets = list.value_offsets();
    let mut kept = Vec::new();
    let mut lengths = Vec::with_capacity(list.len());
    for row in 0..list.len() {
        let range = if list.is_null(row) { 0..0 } else { offsets[row]..offsets[row + 1] };
        lengths.push(range.len());
        kept.extend(range);
    }
    let indices = PrimitiveArray::<Int32Type>::from(kept);
    let values = take(list.values(), &indices, None).map_err(told)?;
    ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, None).map_err(told)
}

/// Maps every value that is not null; `None` is an error that shows the value.
fn map<A: ArrowPrimitiveType, B: ArrowPrimitiveType>(
    array: &ArrayRef,
    path: &str,
    why: &str,
    convert: impl Fn(A::Native) -> Option<B::Native>,
) -> Result<ArrayRef, CodecError> {
    let source = array.as_primitive::<A>();
    let mut out = Vec::with_capacity(source.len());
    for at in 0..source.len() {
        if source.is_null(at) {
            out.push(B::Native::default());
            continue;
        }
        let native = source.value(at);
        let converted =
            convert(native).ok_or_else(|| CodecError::schema(path, format!("the value {native:?} {why}")))?;
        out.push(converted);
    }
    Ok(Arc::new(PrimitiveArray::<B>::new(out.into(), source.nulls().cloned())))
}

/// Checks every value and leaves the array as it is.
fn map_same<A: ArrowPrimitiveType>(
    array: &ArrayRef,
    path: &str,
    check: impl Fn(A::Native) -> Option<A::Native>,
) -> Result<ArrayRef, CodecError> {
    let source = array.as_primitive::<A>();
    for at in 0..source.len() {
        let native = source.value(at);
        if source.is_valid(at) && check(native).is_none() {
            return Err(CodecError::schema(path, format!("the value {native:?} is out of range")));
        }
    }
    Ok(array.clone())
}

fn times(array: &ArrayRef, path: &str) -> Result<ArrayRef, CodecError> {
    const WHY: &str = "is no time of day in whole microseconds";
    let within = |micros: i64| (0..value::MICROS_PER_DAY).contains(&micros).then_some(micros);
    match array.data_type() {
        DataType::Time64(TimeUnit::Microsecond) => map_same::<Time64MicrosecondType>(array, path, within),
        DataType::Time64(_) => map::<Time64NanosecondType, Time64MicrosecondType>(array, path, WHY, |n| {
            (n % 1000 == 0).then_some(n / 1000).and_then(within)
        }),
        DataType::Time32(TimeUnit::Millisecond) => {
            map::<Time32MillisecondType, Time64MicrosecondType>(array, path, WHY, |n| within(i64::from(n) * 1000))
        }
        _ => map::<Time32SecondType, Time64MicrosecondType>(array, path, WHY, |n| within(i64::from(n) * 1_000_000)),
    }
}

fn timestamps(
    array: &ArrayRef,
    unit: TimeUnit,
    path: &str,
) -> Result<PrimitiveArray<TimestampMicrosecondType>, CodecError> {
    type Micros = TimestampMicrosecondType;
    const WHY: &str = "is no instant in whole microseconds from year 1 to 9999";
    let within = |micros: i64| (value::MICROS_MIN..=value::MICROS_MAX).contains(&micros).then_some(micros);
    let times = |factor: i64| move |n: i64| n.checked_mul(factor).and_then(within);
    let done = match unit {
        TimeUnit::Second => map::<TimestampSecondType, Micros>(array, path, WHY, times(1_000_000)),
        TimeUnit::Millisecond => map::<TimestampMillisecondType, Micros>(array, path, WHY, times(1000)),
        TimeUnit::Microsecond => map_same::<Micros>(array, path, within),
        TimeUnit::Nanosecond => map::<TimestampNanosecondType, Micros>(array, path, WHY, |n| {
            (n % 1000 == 0).then_some(n / 1000).and_then(within)
        }),
    }?;
    Ok(done.as_primitive::<Micros>().clone())
}

/// Decimals that already have the mapping's scale.
fn in_range(array: &ArrayRef, field: &Field, path: &str) -> Result<ArrayRef, CodecError> {
    let parameters = field.precision.map(|p| (p, field.scale.unwrap_or(0)));
    let why = || CodecError::schema(path, format!("a value does not fit {}", field.sql_type()));
    if field.kind == FieldType::Numeric {
        let numbers = array.as_primitive::<Decimal128Type>();
        for number in numbers.iter().flatten() {
            let fits = number.unsigned_abs() <= value::NUMERIC_MAX as u128
                && parameters.is_none_or(|(p, s)| value::fits_parameters(i256::from_i128(number), 9, p, s));
            if !fits {
                return Err(why());
            }
        }
        let typed = numbers.clone().with_precision_and_scale(38, 9);
        return Ok(Arc::new(typed.map_err(|e| CodecError::schema(path, e.to_string()))?));
    }
    let numbers = array.as_primitive::<Decimal256Type>();
    if let Some((p, s)) = parameters
        && !numbers.iter().flatten().all(|n| value::fits_parameters(n, 38, p, s))
    {
        return Err(why());
    }
    let typed = numbers.clone().with_precision_and_scale(76, 38);
    Ok(Arc::new(typed.map_err(|e| CodecError::schema(path, e.to_string()))?))
}

/// Decimals of another scale or width.
fn decimals(array: &ArrayRef, scale: i32, field: &Field, path: &str) -> Result<ArrayRef, CodecError> {
    let wide: Vec<Option<i256>> = match array.data_type() {
        DataType::Decimal32(..) => {
            array.as_primitive::<Decimal32Type>().iter().map(|n| n.map(|n| i256::from_i128(i128::from(n)))).collect()
        }
        DataType::Decimal64(..) => {
            array.as_primitive::<Decimal64Type>().iter().map(|n| n.map(|n| i256::from_i128(i128::from(n)))).collect()
        }
        DataType::Decimal128(..) => {
            array.as_primitive::<Decimal128Type>().iter().map(|n| n.map(i256::from_i128)).collect()
        }
        _ => array.as_primitive::<Decimal256Type>().iter().collect(),
    };
    let why = || CodecError::schema(path, format!("a value does not fit {} without loss", field.sql_type()));
    let told = |e: arrow::error::ArrowError| CodecError::schema(path, e.to_string());
    if field.kind == FieldType::Numeric {
        let mut out: Vec<Option<i128>> = Vec::with_capacity(wide.len());
        for number in wide {
            let Some(number) = number else {
                out.push(None);
                continue;
            };
            out.push(Some(value::rescale(number, scale, 9).and_then(i256::to_i128).ok_or_else(why)?));
        }
        let array = Decimal128Array::from(out).with_precision_and_scale(38, 9).map_err(told)?;
        return in_range(&(Arc::new(array) as ArrayRef), field, path);
    }
    let mut out: Vec<Option<i256>> = Vec::with_capacity(wide.len());
    for number in wide {
        out.push(match number {
            Some(number) => Some(value::rescale(number, scale, 38).ok_or_else(why)?),
            None => None,
        });
    }
    let array = Decimal256Array::from(out).with_precision_and_scale(76, 38).map_err(told)?;
    in_range(&(Arc::new(array) as ArrayRef), field, path)
}

/// Texts into a type that is no text.
fn parsed(texts: &ArrayRef, field: &Field, path: &str) -> Result<ArrayRef, CodecError> {
    let texts = texts.as_string::<i32>();
    let mut column = Column::new(&Field { mode: Mode::Nullable, ..field.clone() });
    for (at, text) in texts.iter().enumerate() {
        let pushed = match text {
            Some(text) => column.push_text(text),
            None => column.push_null(),
        };
        pushed.map_err(|message| CodecError::Value { row: at as u64 + 1, column: path.to_owned(), message })?;
    }
    column.finish()
}

fn normalised(texts: &ArrayRef, path: &str) -> Result<ArrayRef, CodecError> {
    let texts = texts.as_string::<i32>();
    let mut out = Vec::new();
    let mut ends = Vec::with_capacity(texts.len());
    for text in texts {
        let start = out.len();
        if let Some(text) = text {
            value::normalise_json(text, &mut out).map_err(|e| CodecError::schema(path, e.to_string()))?;
        }
        ends.push(out.len() - start);
    }
    let array = StringArray::try_new(OffsetBuffer::from_lengths(ends), out.into(), texts.nulls().cloned());
    Ok(Arc::new(array.map_err(|e| CodecError::schema(path, e.to_string()))?))
}

fn check_length(array: &ArrayRef, field: &Field, path: &str) -> Result<(), CodecError> {
    let Some(longest) = field.max_length else { return Ok(()) };
    let too_long = match field.kind {
        FieldType::String => array.as_string::<i32>().iter().flatten().any(|t| t.chars().count() as u64 > longest),
        FieldType::Bytes => array.as_binary::<i32>().iter().flatten().any(|b| b.len() as u64 > longest),
        _ => false,
    };
    if too_long { Err(CodecError::schema(path, format!("a value is longer than {longest}"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BinaryViewArray, Float64Array, Int32Array, LargeStringArray, StringViewArray, TimestampNanosecondArray,
        UInt64Array,
    };
    use arrow::datatypes::{Field as ArrowField, Schema as ArrowSchema};

    use super::*;

    fn cast(array: impl Array + 'static, field: Field) -> Result<ArrayRef, CodecError> {
        let arrow = ArrowSchema::new(vec![ArrowField::new(&field.name, array.data_type().clone(), true)]);
        let batch = RecordBatch::try_new(Arc::new(arrow), vec![Arc::new(array)]).unwrap();
        conform(&batch, &Schema::new(vec![field])).map(|b| b.column(0).clone())
    }

    #[test]
    fn what_fits_is_cast() {
        let ints = cast(Int32Array::from(vec![Some(1), None]), Field::nullable("a", FieldType::Int64)).unwrap();
        assert_eq!(ints.as_primitive::<Int64Type>().value(0), 1);
        assert!(ints.is_null(1));
        let text = cast(StringViewArray::from(vec!["x"]), Field::required("a", FieldType::String)).unwrap();
        assert_eq!(text.as_string::<i32>().value(0), "x");
        let text = cast(BinaryViewArray::from(vec![b"x".as_slice()]), Field::required("a", FieldType::Json)).unwrap();
        assert_eq!(text.as_string::<i32>().value(0), "x");
        let date = cast(LargeStringArray::from(vec!["1970-01-03"]), Field::required("a", FieldType::Date)).unwrap();
        assert_eq!(date.as_primitive::<Date32Type>().value(0), 2);
        let nanos = TimestampNanosecondArray::from(vec![5000]);
        let micros = cast(nanos, Field::required("a", FieldType::Timestamp)).unwrap();
        assert_eq!(micros.as_primitive::<TimestampMicrosecondType>().value(0), 5);
        let decimal = Decimal128Array::from(vec![125]).with_precision_and_scale(5, 2).unwrap();
        let numeric = cast(decimal, Field::required("a", FieldType::Numeric)).unwrap();
        assert_eq!(numeric.as_primitive::<Decimal128Type>().value(0), 1_250_000_000);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(cast(UInt64Array::from(vec![u64::MAX]), Field::required("a", FieldType::Int64)).is_err());
        assert!(cast(TimestampNanosecondArray::from(vec![1]), Field::required("a", FieldType::Timestamp)).is_err());
        assert!(cast(Int32Array::from(vec![None, Some(1)]), Field::required("a", FieldType::Int64)).is_err());
        let decimal = Decimal128Array::from(vec![1]).with_precision_and_scale(38, 10).unwrap();
        assert!(cast(decimal.clone(), Field::required("a", FieldType::Numeric)).is_err());
        assert!(cast(decimal, Field::required("a", FieldType::BigNumeric)).is_ok());
        assert!(cast(Float64Array::from(vec![1.0]), Field::required("a", FieldType::Int64)).is_err());
        let limited = Field { max_length: Some(1), ..Field::required("a", FieldType::String) };
        assert!(cast(StringViewArray::from(vec!["xy"]), limited).is_err());
    }

    #[test]
    fn null_arrays_become_empty_ones() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
            Some(vec![Some(1), Some(2)]),
            None,
            Some(vec![Some(3)]),
        ]);
        let done = cast(list, Field::repeated("a", FieldType::Int64)).unwrap();
        let done = done.as_list::<i32>();
        assert_eq!((done.null_count(), done.value_length(0), done.value_length(1), done.value_length(2)), (0, 2, 0, 1));
        let holes = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![None, Some(2)])]);
        assert!(cast(holes, Field::repeated("a", FieldType::Int64)).is_err());
    }

    #[test]
    fn required_fields_below_null_records() {
        let inner: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let fields: arrow::datatypes::Fields = vec![ArrowField::new("x", DataType::Int32, true)].into();
        let make =
            |nulls: Vec<bool>| StructArray::new(fields.clone(), vec![inner.clone()], Some(NullBuffer::from(nulls)));
        let field = || Field::record("a", Mode::Nullable, vec![Field::required("x", FieldType::Int64)]);
        let done = cast(make(vec![true, false]), field()).unwrap();
        assert_eq!(done.as_struct().column(0).null_count(), 0);
        assert!(cast(make(vec![false, true]), field()).is_err());
    }
}
