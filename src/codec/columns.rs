//! Column builders over the Arrow mapping: what every row-wise reader (Avro, JSON Lines, CSV) pushes its values into.
//!
//! They check what the table's schema demands of a value (REQUIRED, lengths, precision) and can take back the last rows.
//! They know nothing of file formats.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Decimal256Array,
    Float64Array, Int64Array, ListArray, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field as ArrowField, Fields, SchemaRef, i256};

use super::arrow_schema::{arrow_field, arrow_schema, children};
use super::error::CodecError;
use super::value;
use crate::model::schema::{Field, FieldType, Mode, Schema};

/// Why a value was refused; the reader adds row and column.
pub(crate) type Refusal = String;

/// The columns of a table while rows are added.
pub(crate) struct Columns {
    schema: SchemaRef,
    pub columns: Vec<Column>,
    rows: usize,
}

/// One column or one field of a record while values are added.
pub(crate) struct Column {
    pub field: Field,
    arrow: ArrowField,
    pub data: Data,
    /// Only of a NULLABLE field.
    valid: Option<BooleanBufferBuilder>,
    len: usize,
}

pub(crate) enum Data {
    Bool(BooleanBufferBuilder),
    /// DATE.
    I32(Vec<i32>),
    /// INT64, TIME, DATETIME, TIMESTAMP.
    I64(Vec<i64>),
    F64(Vec<f64>),
    I128(Vec<i128>),
    I256(Vec<i256>),
    /// STRING, JSON, GEOGRAPHY, INTERVAL, BYTES.
    Bytes {
        offsets: Vec<i32>,
        bytes: Vec<u8>,
    },
    /// STRUCT, and RANGE as a struct of `start` and `end`.
    Struct(Vec<Column>),
    List {
        offsets: Vec<i32>,
        item: Box<Column>,
    },
}

impl Columns {
    pub fn new(schema: &Schema) -> Self {
        Self { schema: arrow_schema(schema), columns: schema.fields.iter().map(Column::new).collect(), rows: 0 }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Declares the row complete: every column must have got its value.
    pub fn end_row(&mut self) {
        self.rows += 1;
        debug_assert!(self.columns.iter().all(|c| c.len == self.rows));
    }

    /// Takes back what an unfinished row has pushed.
    pub fn abandon_row(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.rows);
        }
    }

    /// Bytes held, roughly.
    pub fn memory_bytes(&self) -> usize {
        self.columns.iter().map(Column::memory_bytes).sum()
    }

    /// The rows so far as a batch; the builders are empty afterwards.
    ///
    /// # Errors
    /// When a text is not UTF-8.
    pub fn finish(&mut self) -> Result<RecordBatch, CodecError> {
        let rows = std::mem::take(&mut self.rows);
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|e| CodecError::schema("*", e.to_string()))
    }
}

impl Column {
    pub fn new(field: &Field) -> Self {
        let arrow = arrow_field(field);
        let data = match field.mode {
            Mode::Repeated => {
                let element = Field { mode: Mode::Required, ..field.clone() };
                Data::List { offsets: vec![0], item: Box::new(Column::new(&element)) }
            }
            _ => Data::of(field),
        };
        let valid = (field.mode == Mode::Nullable).then(|| BooleanBufferBuilder::new(0));
        Self { field: field.clone(), arrow, data, valid, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds NULL (an empty array to a REPEATED column).
    pub fn push_null(&mut self) -> Result<(), Refusal> {
        if self.field.mode == Mode::Required {
            return Err("is REQUIRED but the value is missing or null".to_owned());
        }
        self.push_blank();
        Ok(())
    }

    /// Adds whatever fills the place below a record that is NULL.
    pub fn push_blank(&mut self) {
        match &mut self.data {
            Data::Bool(bits) => bits.append(false),
            Data::I32(values) => values.push(0),
            Data::I64(values) => values.push(0),
            Data::F64(values) => values.push(0.0),
            Data::I128(values) => values.push(0),
            Data::I256(values) => values.push(i256::ZERO),
            Data::Bytes { offsets, bytes } => offsets.push(bytes.len() as i32),
            Data::Struct(fields) => fields.iter_mut().for_each(Column::push_blank),
            Data::List { offsets, item } => offsets.push(item.len as i32),
        }
        self.mark(false);
    }

    /// Counts a value that was pushed into `data` directly.
    #[inline]
    pub fn mark(&mut self, present: bool) {
        if let Some(valid) = &mut self.valid {
            valid.append(present);
        }
        self.len += 1;
    }

    /// Closes a REPEATED value: every item pushed since the last one belongs to it.
    pub fn end_list(&mut self) -> Result<(), Refusal> {
        if let Data::List { offsets, item } = &mut self.data {
            offsets.push(i32::try_from(item.len).map_err(|_| "too many values in one batch".to_owned())?);
        }
        self.mark(true);
        Ok(())
    }

    pub fn push_bool(&mut self, value: bool) -> Result<(), Refusal> {
        match &mut self.data {
            Data::Bool(bits) => bits.append(value),
            _ => return Err(self.mismatch("a boolean")),
        }
        self.mark(true);
        Ok(())
    }

    /// INT64 as it is, TIME, DATETIME and TIMESTAMP in microseconds, DATE in days; checked against the type's range.
    pub fn push_int(&mut self, number: i64) -> Result<(), Refusal> {
        let kind = self.field.kind;
        let within = |low: i64, high: i64| {
            if (low..=high).contains(&number) { Ok(()) } else { Err(format!("{number} is out of range of {kind}")) }
        };
        match &mut self.data {
            Data::I64(values) => {
                match kind {
                    FieldType::Time => within(0, value::MICROS_PER_DAY - 1)?,
                    FieldType::DateTime | FieldType::Timestamp => within(value::MICROS_MIN, value::MICROS_MAX)?,
                    _ => {}
                }
                values.push(number);
            }
            Data::I32(values) => {
                within(i64::from(value::DATE_MIN), i64::from(value::DATE_MAX))?;
                values.push(number as i32);
            }
            _ => return Err(self.mismatch("an integer")),
        }
        self.mark(true);
        Ok(())
    }

    pub fn push_float(&mut self, value: f64) -> Result<(), Refusal> {
        match &mut self.data {
            Data::F64(values) => values.push(value),
            _ => return Err(self.mismatch("a floating point number")),
        }
        self.mark(true);
        Ok(())
    }

    /// A NUMERIC or BIGNUMERIC, scaled by `10^scale`; refused when digits would be lost.
    pub fn push_decimal(&mut self, number: i256, scale: i32) -> Result<(), Refusal> {
        let wide = self.field.kind == FieldType::BigNumeric;
        let held = if wide { value::BIGNUMERIC_SCALE } else { value::NUMERIC_SCALE };
        let at_scale = value::rescale(number, scale, held as i32)
            .ok_or_else(|| format!("does not fit {} without loss", self.field.kind))?;
        self.check_parameters(at_scale, held)?;
        match &mut self.data {
            Data::I256(values) => values.push(at_scale),
            Data::I128(values) => values.push(
                at_scale
                    .to_i128()
                    .filter(|v| v.unsigned_abs() <= value::NUMERIC_MAX as u128)
                    .ok_or("is out of range of NUMERIC")?,
            ),
            _ => return Err(self.mismatch("a decimal number")),
        }
        self.mark(true);
        Ok(())
    }

    /// Raw bytes for BYTES or for the text of a string type. Texts are checked as UTF-8 when the batch is finished.
    pub fn push_bytes(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if let Some(longest) = self.field.max_length {
            let length = match self.field.kind {
                FieldType::Bytes => value.len(),
                _ => value.iter().filter(|b| (**b as i8) >= -0x40).count(),
            } as u64;
            if length > longest {
                return Err(format!("has length {length}, more than the {longest} that the column allows"));
            }
        }
        match &mut self.data {
            Data::Bytes { offsets, bytes } => {
                let end = bytes.len() + value.len();
                offsets.push(i32::try_from(end).map_err(|_| "more than 2 GiB in one batch".to_owned())?);
                bytes.extend_from_slice(value);
            }
            _ => return Err(self.mismatch("a text")),
        }
        self.mark(true);
        Ok(())
    }

    /// A scalar from its text, in the spellings that loads accept. BYTES are base64.
    pub fn push_text(&mut self, text: &str) -> Result<(), Refusal> {
        let told = |e: value::InvalidValue| e.to_string();
        match self.field.kind {
            FieldType::Bool => self.push_bool(value::parse_bool(text).map_err(told)?),
            FieldType::Int64 => self.push_int(value::parse_int64(text).map_err(told)?),
            FieldType::Float64 => self.push_float(value::parse_float64(text).map_err(told)?),
            FieldType::Numeric => {
                let number = value::parse_numeric(text).map_err(told)?;
                self.push_decimal(i256::from_i128(number), value::NUMERIC_SCALE as i32)
            }
            FieldType::BigNumeric => {
                self.push_decimal(value::parse_bignumeric(text).map_err(told)?, value::BIGNUMERIC_SCALE as i32)
            }
            FieldType::Date => self.push_int(i64::from(value::parse_date(text).map_err(told)?)),
            FieldType::Time => self.push_int(value::parse_time(text).map_err(told)?),
            FieldType::DateTime => self.push_int(value::parse_datetime(text).map_err(told)?),
            FieldType::Timestamp => self.push_int(value::parse_timestamp(text).map_err(told)?),
            FieldType::String | FieldType::Geography => self.push_bytes(text.as_bytes()),
            FieldType::Bytes => {
                let bytes = decode_base64(text).ok_or("is not valid base64")?;
                self.push_bytes(&bytes)
            }
            FieldType::Json => {
                let mut normal = Vec::with_capacity(text.len());
                value::normalise_json(text, &mut normal).map_err(told)?;
                self.push_bytes(&normal)
            }
            FieldType::Interval => {
                let interval = value::Interval::parse(text).map_err(told)?;
                let mut canonical = Vec::with_capacity(24);
                interval.write(&mut canonical);
                self.push_bytes(&canonical)
            }
            FieldType::Range => {
                let (start, end) = value::parse_range(text).map_err(told)?;
                let Data::Struct(ends) = &mut self.data else { return Err(self.mismatch("a range")) };
                for (end, text) in ends.iter_mut().zip([start, end]) {
                    match text {
                        Some(text) => end.push_text(text)?,
                        None => end.push_blank(),
                    }
                }
                self.mark(true);
                Ok(())
            }
            FieldType::Struct => Err(self.mismatch("a text")),
        }
    }

    pub fn memory_bytes(&self) -> usize {
        let own = match &self.data {
            Data::Bool(bits) => bits.len() / 8,
            Data::I32(values) => values.len() * 4,
            Data::I64(values) => values.len() * 8,
            Data::F64(values) => values.len() * 8,
            Data::I128(values) => values.len() * 16,
            Data::I256(values) => values.len() * 32,
            Data::Bytes { offsets, bytes } => offsets.len() * 4 + bytes.len(),
            Data::Struct(fields) => fields.iter().map(Column::memory_bytes).sum(),
            Data::List { offsets, item } => offsets.len() * 4 + item.memory_bytes(),
        };
        own + self.len / 8
    }

    /// Takes back all values from the `len`th on.
    pub fn truncate(&mut self, len: usize) {
        match &mut self.data {
            Data::Bool(bits) => bits.truncate(len.min(bits.len())),
            Data::I32(values) => values.truncate(len),
            Data::I64(values) => values.truncate(len),
            Data::F64(values) => values.truncate(len),
            Data::I128(values) => values.truncate(len),
            Data::I256(values) => values.truncate(len),
            Data::Bytes { offsets, bytes } => {
                offsets.truncate(len + 1);
                bytes.truncate(offsets.last().map_or(0, |o| *o as usize));
            }
            Data::Struct(fields) => fields.iter_mut().for_each(|f| f.truncate(len)),
            Data::List { offsets, item } => {
                offsets.truncate(len + 1);
                item.truncate(offsets.last().map_or(0, |o| *o as usize));
            }
        }
        if let Some(valid) = &mut self.valid {
            valid.truncate(len.min(valid.len()));
        }
        self.len = self.len.min(len);
    }

    pub fn finish(&mut self) -> Result<ArrayRef, CodecError> {
        let nulls = self.valid.as_mut().map(|v| NullBuffer::new(v.finish())).filter(|n| n.null_count() > 0);
        let len = std::mem::take(&mut self.len);
        let name = &self.field.name;
        let told = |e: arrow::error::ArrowError| CodecError::schema(name, e.to_string());
        let offsets_of = |offsets: &mut Vec<i32>| OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
        let kind = self.field.kind;
        Ok(match &mut self.data {
            Data::Bool(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Data::I32(values) => Arc::new(Date32Array::new(std::mem::take(values).into(), nulls)),
            Data::I64(values) => {
                let values: ScalarBuffer<i64> = std::mem::take(values).into();
                match kind {
                    FieldType::Time => Arc::new(Time64MicrosecondArray::new(values, nulls)),
                    FieldType::DateTime => Arc::new(TimestampMicrosecondArray::new(values, nulls)),
                    FieldType::Timestamp => {
                        Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone("UTC"))
                    }
                    _ => Arc::new(Int64Array::new(values, nulls)),
                }
            }
            Data::F64(values) => Arc::new(Float64Array::new(std::mem::take(values).into(), nulls)),
            Data::I128(values) => Arc::new(
                Decimal128Array::new(std::mem::take(values).into(), nulls)
                    .with_precision_and_scale(38, 9)
                    .map_err(told)?,
            ),
            Data::I256(values) => Arc::new(
                Decimal256Array::new(std::mem::take(values).into(), nulls)
                    .with_precision_and_scale(76, 38)
                    .map_err(told)?,
            ),
            Data::Bytes { offsets, bytes } => {
                let offsets = offsets_of(offsets);
                let bytes = std::mem::take(bytes).into();
                if kind == FieldType::Bytes {
                    Arc::new(BinaryArray::new(offsets, bytes, nulls))
                } else {
                    let texts = StringArray::try_new(offsets, bytes, nulls);
                    Arc::new(texts.map_err(|_| CodecError::schema(name, "a value is not valid UTF-8"))?)
                }
            }
            Data::Struct(columns) => {
                let arrays = columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
                let fields = struct_fields(&self.arrow);
                Arc::new(StructArray::try_new_with_length(fields, arrays, nulls, len).map_err(told)?)
            }
            Data::List { offsets, item } => {
                let values = item.finish()?;
                let DataType::List(item) = self.arrow.data_type() else {
                    return Err(CodecError::schema(name, "is not a list"));
                };
                Arc::new(ListArray::try_new(item.clone(), offsets_of(offsets), values, None).map_err(told)?)
            }
        })
    }

    fn check_parameters(&self, at_scale: i256, held: u32) -> Result<(), Refusal> {
        let Some(precision) = self.field.precision else { return Ok(()) };
        let scale = self.field.scale.unwrap_or(0);
        if value::fits_parameters(at_scale, held, precision, scale) {
            Ok(())
        } else {
            Err(format!("does not fit {}", self.field.sql_type()))
        }
    }

    fn mismatch(&self, got: &str) -> Refusal {
        format!("{got} is no {}", self.field.kind)
    }
}

impl Data {
    fn of(field: &Field) -> Self {
        match field.kind {
            FieldType::Bool => Self::Bool(BooleanBufferBuilder::new(0)),
            FieldType::Date => Self::I32(Vec::new()),
            FieldType::Int64 | FieldType::Time | FieldType::DateTime | FieldType::Timestamp => Self::I64(Vec::new()),
            FieldType::Float64 => Self::F64(Vec::new()),
            FieldType::Numeric => Self::I128(Vec::new()),
            FieldType::BigNumeric => Self::I256(Vec::new()),
            FieldType::String | FieldType::Bytes | FieldType::Json | FieldType::Geography | FieldType::Interval => {
                Self::Bytes { offsets: vec![0], bytes: Vec::new() }
            }
            FieldType::Struct | FieldType::Range => Self::Struct(children(field).iter().map(Column::new).collect()),
        }
    }
}

/// Standard or URL-safe base64, with or without padding.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
    use base64::engine::{DecodePaddingMode, general_purpose};
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = general_purpose::STANDARD.decode(text);
    engine
        .or_else(|_| GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT).decode(text))
        .or_else(|_| GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT).decode(text))
        .ok()
}

fn struct_fields(arrow: &ArrowField) -> Fields {
    match arrow.data_type() {
        DataType::Struct(fields) => fields.clone(),
        DataType::List(item) => struct_fields(item),
        _ => Fields::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_taken_back_from_every_kind_of_column() {
        let mut fields: Vec<Field> = Vec::new();
        for kind in FieldType::ALL {
            for mode in [Mode::Nullable, Mode::Repeated] {
                let name = format!("{kind}_{}", mode.name());
                fields.push(match kind {
                    FieldType::Struct => Field::record(name, mode, vec![Field::repeated("a", FieldType::String)]),
                    FieldType::Range => Field::range(name, mode, FieldType::Date),
                    _ => Field::new(name, kind, mode),
                });
            }
        }
        let mut columns = Columns::new(&Schema::new(fields));
        let push_one = |column: &mut Column| match column.field.kind {
            FieldType::Struct => {
                if let Data::Struct(fields) = &mut column.data {
                    fields[0].push_null().unwrap();
                }
                column.mark(true);
            }
            FieldType::Bool => column.push_text("true").unwrap(),
            FieldType::Date => column.push_text("2020-01-01").unwrap(),
            FieldType::DateTime | FieldType::Timestamp => column.push_text("2020-01-01 00:00:00").unwrap(),
            FieldType::Time => column.push_text("00:00:00").unwrap(),
            FieldType::Interval => column.push_text("1-2 3 4:5:6").unwrap(),
            FieldType::Range => column.push_text("[2020-01-01, UNBOUNDED)").unwrap(),
            _ => column.push_text("1234").unwrap(),
        };
        let fill = |columns: &mut Columns| {
            for column in &mut columns.columns {
                if column.field.mode == Mode::Repeated {
                    let Data::List { item, .. } = &mut column.data else { panic!() };
                    push_one(item);
                    push_one(item);
                    column.end_list().unwrap();
                } else {
                    push_one(column);
                }
            }
        };
        fill(&mut columns);
        columns.end_row();
        fill(&mut columns);
        columns.abandon_row();
        fill(&mut columns);
        columns.end_row();
        let batch = columns.finish().unwrap();
        assert_eq!(batch.num_rows(), 2);
        for column in batch.columns() {
            assert_eq!(column.slice(0, 1).as_ref(), column.slice(1, 1).as_ref());
        }
        assert_eq!(columns.finish().unwrap().num_rows(), 0);
    }

    #[test]
    fn parameters_are_obeyed() {
        let mut column =
            Column::new(&Field { precision: Some(4), scale: Some(2), ..Field::nullable("n", FieldType::Numeric) });
        assert!(column.push_text("99.99").is_ok());
        assert!(column.push_text("100").is_err());
        let mut column = Column::new(&Field { max_length: Some(2), ..Field::required("s", FieldType::String) });
        assert!(column.push_text("éé").is_ok());
        assert!(column.push_text("abc").is_err());
        assert!(column.push_null().is_err());
        assert_eq!(column.len(), 1);
    }
}
