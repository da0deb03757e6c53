//! Arrow columns into a Parquet file in the form of BigQuery's extracts.
// https://cloud.google.com/bigquery/docs/exporting-data#parquet_export_details

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StructArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Field as ArrowField, Schema as ArrowSchema, SchemaRef, i256,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{self, LogicalType, Repetition, TimeUnit, Type as PhysicalType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};

use super::broken;
use crate::codec::CodecError;
use crate::codec::arrow_schema::{ITEM, arrow_field, children};
use crate::codec::cast::conform;
use crate::codec::value;
use crate::model::schema::{Field, FieldType, Mode, Schema};

/// How the pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    None,
    #[default]
    Snappy,
    Gzip,
    Zstd,
}

impl Compression {
    pub const ALL: [Compression; 4] = [Self::None, Self::Snappy, Self::Gzip, Self::Zstd];
}

/// How a file is written.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    pub compression: Compression,
    /// A row group is closed after so many rows ...
    pub group_rows: usize,
    /// ... or after about so many encoded bytes, which is also what the writer holds in memory.
    pub group_bytes: usize,
    /// Pairs of text for the footer; an extract of BigQuery's has none.
    pub footer: Vec<(String, String)>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { compression: Compression::Snappy, group_rows: 1 << 20, group_bytes: 64 << 20, footer: vec![] }
    }
}

/// Writes batches of a table's Arrow schema as a Parquet file.
pub struct Writer<W: Write + Send> {
    inner: ArrowWriter<W>,
    table: Schema,
    /// The Arrow schema with decimals of declared parameters at their declared scale.
    schema: SchemaRef,
}

impl<W: Write + Send> Writer<W> {
    /// Writes the start of the file.
    ///
    /// # Errors
    /// When the output fails.
    pub fn new(write: W, table: &Schema, compression: Compression) -> Result<Self, CodecError> {
        Self::with_options(write, table, WriterOptions { compression, ..WriterOptions::default() })
    }

    /// Writes the start of the file.
    ///
    /// # Errors
    /// As [`Writer::new`].
    pub fn with_options(write: W, table: &Schema, options: WriterOptions) -> Result<Self, CodecError> {
        let compression = match options.compression {
            Compression::None => basic::Compression::UNCOMPRESSED,
            Compression::Snappy => basic::Compression::SNAPPY,
            Compression::Gzip => basic::Compression::GZIP(basic::GzipLevel::default()),
            Compression::Zstd => basic::Compression::ZSTD(basic::ZstdLevel::try_new(3).map_err(broken)?),
        };
        let properties =
            WriterProperties::builder()
                .set_compression(compression)
                .set_max_row_group_row_count(Some(options.group_rows.max(1)))
                .set_max_row_group_bytes(Some(options.group_bytes.max(1)))
                .set_key_value_metadata((!options.footer.is_empty()).then(|| {
                    options.footer.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect()
                }))
                .set_created_by(concat!("strongroom version ", env!("CARGO_PKG_VERSION")).to_owned())
                .build();
        let fields: Vec<ArrowField> = table.fields.iter().map(file_field).collect();
        let schema = Arc::new(ArrowSchema::new(fields));
        let arrow_options = ArrowWriterOptions::new()
            .with_properties(properties)
            // An extract of BigQuery's carries none either; and readers would believe it over the file's own types.
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(parquet_schema(table)?);
        let inner = ArrowWriter::try_new_with_options(write, schema.clone(), arrow_options).map_err(broken)?;
        Ok(Self { inner, table: table.clone(), schema })
    }

    /// Writes the rows of a batch. Its columns are those of the table, in order.
    ///
    /// # Errors
    /// When the batch has other columns, a null stands in a REQUIRED one, or the output fails.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), CodecError> {
        let batch = conform(batch, &self.table)?;
        let columns = self
            .table
            .fields
            .iter()
            .zip(batch.columns())
            .map(|(field, array)| for_file(array, field))
            .collect::<Result<Vec<_>, _>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(broken)?;
        self.inner.write(&batch).map_err(output)
    }

    /// Writes what is left and the footer, and hands the output back.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(self) -> Result<W, CodecError> {
        self.inner.into_inner().map_err(output)
    }
}

/// A writer's errors come from the output, apart from batches that it could not encode.
fn output(error: parquet::errors::ParquetError) -> CodecError {
    match error {
        parquet::errors::ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => CodecError::Io(*io),
            Err(other) => CodecError::Io(std::io::Error::other(other)),
        },
        other => CodecError::Io(std::io::Error::other(other)),
    }
}

/// The file's schema of a table.
fn parquet_schema(table: &Schema) -> Result<SchemaDescriptor, CodecError> {
    let fields = table.fields.iter().map(parquet_field).collect::<Result<Vec<_>, _>>()?;
    let root = Type::group_type_builder("schema").with_fields(fields).build().map_err(broken)?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

fn parquet_field(field: &Field) -> Result<TypePtr, CodecError> {
    let repetition = match field.mode {
        Mode::Nullable => Repetition::OPTIONAL,
        Mode::Required => Repetition::REQUIRED,
        Mode::Repeated => Repetition::REPEATED,
    };
    let leaf = |physical, logical: Option<LogicalType>| {
        Type::primitive_type_builder(&field.name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build()
    };
    // Civil and absolute times alike: `isAdjustedToUTC` is false in BigQuery's files.
    let micros =
        || LogicalType::Timestamp(basic::TimestampType { is_adjusted_to_u_t_c: false, unit: TimeUnit::MICROS });
    let built = match field.kind {
        FieldType::Int64 => leaf(PhysicalType::INT64, None),
        FieldType::Float64 => leaf(PhysicalType::DOUBLE, None),
        FieldType::Bool => leaf(PhysicalType::BOOLEAN, None),
        FieldType::String | FieldType::Json | FieldType::Geography | FieldType::Interval => {
            leaf(PhysicalType::BYTE_ARRAY, Some(LogicalType::String))
        }
        FieldType::Bytes => leaf(PhysicalType::BYTE_ARRAY, None),
        FieldType::Date => leaf(PhysicalType::INT32, Some(LogicalType::Date)),
        FieldType::Time => leaf(
            PhysicalType::INT64,
            Some(LogicalType::Time(basic::TimeType { is_adjusted_to_u_t_c: false, unit: TimeUnit::MICROS })),
        ),
        FieldType::DateTime | FieldType::Timestamp => leaf(PhysicalType::INT64, Some(micros())),
        FieldType::Numeric | FieldType::BigNumeric => {
            let (precision, scale) = decimal(field);
            Type::primitive_type_builder(&field.name, PhysicalType::FIXED_LEN_BYTE_ARRAY)
                .with_repetition(repetition)
                .with_logical_type(Some(LogicalType::Decimal(basic::DecimalType {
                    precision: i32::from(precision),
                    scale: i32::from(scale),
                })))
                .with_precision(i32::from(precision))
                .with_scale(i32::from(scale))
                .with_length(decimal_length(precision))
                .build()
        }
        FieldType::Struct | FieldType::Range => {
            let fields = children(field).iter().map(parquet_field).collect::<Result<Vec<_>, _>>()?;
            Type::group_type_builder(&field.name).with_repetition(repetition).with_fields(fields).build()
        }
    };
    built.map(Arc::new).map_err(|e| CodecError::schema(&field.name, e.to_string()))
}

/// Precision and scale in the file: as declared, or the type's own.
fn decimal(field: &Field) -> (u8, i8) {
    let widest = if field.kind == FieldType::Numeric { (38, 9) } else { (76, 38) };
    match field.precision.map(|p| (u8::try_from(p), i8::try_from(field.scale.unwrap_or(0)))) {
        Some((Ok(p), Ok(s))) if p <= widest.0 && s <= widest.1 && i16::from(s) <= i16::from(p) => (p, s),
        _ => widest,
    }
}

/// The fewest bytes that hold so many digits and a sign.
fn decimal_length(precision: u8) -> i32 {
    (((10_f64.powi(i32::from(precision)) + 1.0).log2() + 1.0) / 8.0).ceil() as i32
}

fn has_parameters(field: &Field) -> bool {
    field.precision.is_some() || field.fields.iter().any(has_parameters)
}

fn file_field(field: &Field) -> ArrowField {
    if !has_parameters(field) {
        return arrow_field(field);
    }
    let element = match field.kind {
        FieldType::Struct => DataType::Struct(field.fields.iter().map(file_field).collect()),
        FieldType::Numeric => DataType::Decimal128(decimal(field).0, decimal(field).1),
        _ => DataType::Decimal256(decimal(field).0, decimal(field).1),
    };
    match field.mode {
        Mode::Repeated => {
            let item = Arc::new(ArrowField::new(ITEM, element, false));
            ArrowField::new(&field.name, DataType::List(item), false)
        }
        mode => ArrowField::new(&field.name, element, mode == Mode::Nullable),
    }
}

/// Decimals with parameters at their declared scale; everything else as it is.
fn for_file(array: &ArrayRef, field: &Field) -> Result<ArrayRef, CodecError> {
    if !has_parameters(field) {
        return Ok(array.clone());
    }
    if field.mode == Mode::Repeated {
        let list = array.as_list::<i32>();
        let element = Field { mode: Mode::Required, ..field.clone() };
        let values = for_file(list.values(), &element)?;
        let item = Arc::new(ArrowField::new(ITEM, values.data_type().clone(), false));
        return Ok(Arc::new(ListArray::try_new(item, list.offsets().clone(), values, None).map_err(broken)?));
    }
    let (precision, scale) = decimal(field);
    let lost = || CodecError::schema(&field.name, format!("holds a value that does not fit {}", field.sql_type()));
    match field.kind {
        FieldType::Struct => {
            let records = array.as_struct();
            let columns = field.fields.iter().zip(records.columns());
            let columns = columns.map(|(f, a)| for_file(a, f)).collect::<Result<Vec<_>, _>>()?;
            let fields = field.fields.iter().map(file_field).collect();
            let nulls = records.nulls().cloned();
            let done = StructArray::try_new_with_length(fields, columns, nulls, records.len());
            Ok(Arc::new(done.map_err(broken)?))
        }
        FieldType::Numeric => {
            let numbers = array.as_primitive::<Decimal128Type>();
            let rescale = |n: i128| value::rescale(i256::from_i128(n), 9, i32::from(scale)).and_then(i256::to_i128);
            // Blanks below nulls are zero: every value can be mapped.
            let done = numbers.try_unary::<_, Decimal128Type, CodecError>(|n| rescale(n).ok_or_else(lost))?;
            Ok(Arc::new(done.with_precision_and_scale(precision, scale).map_err(broken)?))
        }
        _ => {
            let numbers = array.as_primitive::<Decimal256Type>();
            let rescale = |n: i256| value::rescale(n, 38, i32::from(scale));
            let done = numbers.try_unary::<_, Decimal256Type, CodecError>(|n| rescale(n).ok_or_else(lost))?;
            Ok(Arc::new(done.with_precision_and_scale(precision, scale).map_err(broken)?))
        }
    }
}
