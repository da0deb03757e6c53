//! Arrow columns into Avro rows, in the form of BigQuery's extracts.

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, i256,
};

use super::container::{BlockWriter, put_bytes, put_long};
use super::{Codec, schema};
use crate::codec::CodecError;
use crate::codec::arrow_schema::children;
use crate::codec::cast::conform;
use crate::codec::value;
use crate::model::schema::{Field, FieldType, Mode, Schema};

/// How a file is written.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    pub codec: Codec,
    /// `useAvroLogicalTypes`: DATE, TIME as numbers and DATETIME annotated, instead of plain texts.
    pub logical_types: bool,
    /// A block is closed when it holds so many bytes, uncompressed.
    pub block_bytes: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { codec: Codec::Snappy, logical_types: true, block_bytes: 256 << 10 }
    }
}

/// Writes batches of a table's Arrow schema as an Avro file.
pub struct Writer<W: Write> {
    blocks: BlockWriter<W>,
    table: Schema,
    options: WriterOptions,
    block: Vec<u8>,
    rows: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// When Avro cannot hold the schema (RANGE, names), or the output fails.
    pub fn new(write: W, table: &Schema, codec: Codec, logical_types: bool) -> Result<Self, CodecError> {
        Self::with_options(write, table, WriterOptions { codec, logical_types, ..WriterOptions::default() })
    }

    /// Writes the header.
    ///
    /// # Errors
    /// As [`Writer::new`].
    pub fn with_options(write: W, table: &Schema, options: WriterOptions) -> Result<Self, CodecError> {
        let schema = schema::of_table(table, options.logical_types)?.to_string();
        let blocks = BlockWriter::new(write, &schema, options.codec)?;
        Ok(Self { blocks, table: table.clone(), options, block: Vec::new(), rows: 0 })
    }

    /// Writes the rows of a batch. Its columns are those of the table, in order.
    ///
    /// # Errors
    /// When the batch has other columns, a null stands in a REQUIRED one, or the output fails.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), CodecError> {
        let batch = conform(batch, &self.table)?;
        let encoders = self
            .table
            .fields
            .iter()
            .zip(batch.columns())
            .map(|(field, array)| Encoder::new(field, array, self.options.logical_types))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            for encoder in &encoders {
                encoder.encode(row, &mut self.block);
            }
            self.rows += 1;
            if self.block.len() >= self.options.block_bytes {
                self.flush_block()?;
            }
        }
        Ok(())
    }

    /// Writes what is left and hands the output back.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(mut self) -> Result<W, CodecError> {
        self.flush_block()?;
        self.blocks.finish()
    }

    fn flush_block(&mut self) -> Result<(), CodecError> {
        if self.rows > 0 {
            self.blocks.write(self.rows, &self.block)?;
        }
        self.rows = 0;
        self.block.clear();
        Ok(())
    }
}

/// One column of a batch, ready to be read by row.
struct Encoder {
    /// Of a NULLABLE column: a branch of the union stands before every value.
    union: bool,
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Int(ScalarBuffer<i64>),
    Float(ScalarBuffer<f64>),
    Bool(arrow::array::BooleanArray),
    Text(arrow::array::StringArray),
    Bytes(arrow::array::BinaryArray),
    Numeric(ScalarBuffer<i128>, u32),
    BigNumeric(ScalarBuffer<i256>, u32),
    Date(ScalarBuffer<i32>),
    DateText(ScalarBuffer<i32>),
    TimeText(ScalarBuffer<i64>),
    DateTimeText(ScalarBuffer<i64>),
    Struct(Vec<Encoder>),
    List(OffsetBuffer<i32>, Box<Encoder>),
}

impl Encoder {
    fn new(field: &Field, array: &ArrayRef, logical_types: bool) -> Result<Self, CodecError> {
        if field.mode == Mode::Repeated {
            let list = array.as_list::<i32>();
            let element = Field { mode: Mode::Required, ..field.clone() };
            let item = Self::new(&element, list.values(), logical_types)?;
            let values = Values::List(list.offsets().clone(), Box::new(item));
            return Ok(Self { union: false, nulls: None, values });
        }
        let values = match field.kind {
            FieldType::Int64 => Values::Int(array.as_primitive::<Int64Type>().values().clone()),
            FieldType::Float64 => Values::Float(array.as_primitive::<Float64Type>().values().clone()),
            FieldType::Bool => Values::Bool(array.as_boolean().clone()),
            FieldType::String | FieldType::Json | FieldType::Geography | FieldType::Interval => {
                Values::Text(array.as_string::<i32>().clone())
            }
            FieldType::Bytes => Values::Bytes(array.as_binary::<i32>().clone()),
            FieldType::Numeric => {
                let scale = field.precision.map_or(value::NUMERIC_SCALE, |_| field.scale.unwrap_or(0));
                Values::Numeric(array.as_primitive::<Decimal128Type>().values().clone(), scale)
            }
            FieldType::BigNumeric => {
                let scale = field.precision.map_or(value::BIGNUMERIC_SCALE, |_| field.scale.unwrap_or(0));
                Values::BigNumeric(array.as_primitive::<Decimal256Type>().values().clone(), scale)
            }
            FieldType::Date => {
                let days = array.as_primitive::<Date32Type>().values().clone();
                if logical_types { Values::Date(days) } else { Values::DateText(days) }
            }
            FieldType::Time => {
                let micros = array.as_primitive::<Time64MicrosecondType>().values().clone();
                if logical_types { Values::Int(micros) } else { Values::TimeText(micros) }
            }
            FieldType::DateTime => {
                Values::DateTimeText(array.as_primitive::<TimestampMicrosecondType>().values().clone())
            }
            FieldType::Timestamp => Values::Int(array.as_primitive::<TimestampMicrosecondType>().values().clone()),
            FieldType::Struct | FieldType::Range => Values::Struct(fields(field, array.as_struct(), logical_types)?),
        };
        check_scale(&values, field, array)?;
        let union = field.mode == Mode::Nullable;
        Ok(Self { union, nulls: array.nulls().cloned().filter(|_| union), values })
    }

    fn encode(&self, row: usize, out: &mut Vec<u8>) {
        if self.union {
            if self.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                out.push(0);
                return;
            }
            // Branch 1, zigzag.
            out.push(2);
        }
        match &self.values {
            Values::Int(values) => put_long(values[row], out),
            Values::Float(values) => out.extend_from_slice(&values[row].to_le_bytes()),
            Values::Bool(values) => out.push(u8::from(values.value(row))),
            Values::Text(values) => put_bytes(values.value(row).as_bytes(), out),
            Values::Bytes(values) => put_bytes(values.value(row), out),
            Values::Numeric(values, scale) => {
                let dropped = 10_i128.pow(value::NUMERIC_SCALE - scale);
                put_decimal(i256::from_i128(values[row] / dropped), out);
            }
            Values::BigNumeric(values, scale) => {
                let at_scale = value::rescale(values[row], value::BIGNUMERIC_SCALE as i32, *scale as i32);
                // `check_scale` has seen that nothing is lost.
                put_decimal(at_scale.unwrap_or(values[row]), out);
            }
            Values::Date(values) => put_long(i64::from(values[row]), out),
            Values::DateText(values) => put_text(out, |text| value::write_date(values[row], text)),
            Values::TimeText(values) => put_text(out, |text| value::write_time(values[row], true, text)),
            Values::DateTimeText(values) => {
                put_text(out, |text| value::write_datetime(values[row], b'T', true, text));
            }
            Values::Struct(fields) => fields.iter().for_each(|f| f.encode(row, out)),
            Values::List(offsets, item) => {
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                if end > start {
                    put_long((end - start) as i64, out);
                    (start..end).for_each(|at| item.encode(at, out));
                }
                out.push(0);
            }
        }
    }
}

fn fields(field: &Field, array: &StructArray, logical_types: bool) -> Result<Vec<Encoder>, CodecError> {
    let children = children(field);
    children.iter().zip(array.columns()).map(|(f, a)| Encoder::new(f, a, logical_types)).collect()
}

/// A column of `NUMERIC(p, s)` may not hold more digits than its declared scale, or they would be lost.
fn check_scale(values: &Values, field: &Field, array: &ArrayRef) -> Result<(), CodecError> {
    let present = |row: &usize| !array.is_null(*row);
    let fits = match values {
        Values::Numeric(_, scale) if *scale > value::NUMERIC_SCALE => false,
        Values::Numeric(numbers, scale) if *scale < value::NUMERIC_SCALE => {
            let dropped = 10_i128.pow(value::NUMERIC_SCALE - scale);
            (0..numbers.len()).filter(present).all(|row| numbers[row] % dropped == 0)
        }
        Values::BigNumeric(numbers, scale) if *scale != value::BIGNUMERIC_SCALE => {
            let (held, wanted) = (value::BIGNUMERIC_SCALE as i32, *scale as i32);
            (0..numbers.len()).filter(present).all(|row| value::rescale(numbers[row], held, wanted).is_some())
        }
        _ => true,
    };
    if fits {
        return Ok(());
    }
    Err(CodecError::schema(&field.name, format!("holds a value that does not fit {}", field.sql_type())))
}

fn put_decimal(number: i256, out: &mut Vec<u8>) {
    let start = out.len();
    // At most 32 bytes: the length takes one.
    out.push(0);
    value::decimal_to_be_bytes(number, out);
    out[start] = ((out.len() - start - 1) as u8) << 1;
}

fn put_text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    // At most 26 characters: the length takes one byte.
    out.push(0);
    write(out);
    out[start] = ((out.len() - start - 1) as u8) << 1;
}
