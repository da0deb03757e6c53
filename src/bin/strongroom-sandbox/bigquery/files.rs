//! Files of load and extract jobs, whatever their format: read into batches of a schema, written from batches.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use arrow::array::RecordBatch;
use serde_json::{Value, json};
use strongroom::codec::CodecError;
use strongroom::codec::{avro, parquet};
use strongroom::model::schema::{FieldType, Mode, Schema};

use super::jobs::JobFailure;
use super::rows::{self, Cell, CellError};
use super::schema::int;
use super::text::{self, Csv};
use crate::core::ApiError;

/// `sourceFormat`, `destinationFormat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Avro,
    Parquet,
    Json,
    Csv,
}

impl Format {
    /// # Errors
    /// `invalid` for a format that the sandbox does not have.
    pub fn of(name: &str) -> Result<Self, ApiError> {
        match name.to_ascii_uppercase().as_str() {
            "AVRO" => Ok(Self::Avro),
            "PARQUET" => Ok(Self::Parquet),
            "NEWLINE_DELIMITED_JSON" | "JSON" => Ok(Self::Json),
            "CSV" | "" => Ok(Self::Csv),
            other => Err(ApiError::invalid(format!("Unsupported file format: {other}"))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Avro => "Avro",
            Self::Parquet => "Parquet",
            Self::Json => "JSON",
            Self::Csv => "CSV",
        }
    }
}

/// A file to load.
pub struct Input {
    /// `gs://bucket/object`.
    pub name: String,
    pub file: File,
    pub bytes: u64,
}

/// The parts of a load's configuration that decide how files are read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    pub logical_types: bool,
    pub decimal_targets: Vec<FieldType>,
    pub ignore_unknown: bool,
    pub max_bad_records: usize,
    pub csv: Csv,
}

impl ReadOptions {
    /// # Errors
    /// `invalid` for a value that does not fit.
    pub fn of(load: &Value) -> Result<Self, ApiError> {
        let flag = |key: &str| load[key].as_bool().unwrap_or(false);
        let byte = |key: &str, default: u8| match load[key].as_str() {
            None | Some("") => Ok(default),
            Some("\\t" | "tab") => Ok(b'\t'),
            Some(text) if text.len() == 1 => Ok(text.as_bytes()[0]),
            Some(text) => Err(ApiError::invalid(format!("Invalid value for {key}: {text}"))),
        };
        let quote = if load["quote"].as_str() == Some("") { None } else { Some(byte("quote", b'"')?) };
        let targets = load["decimalTargetTypes"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut decimal_targets: Vec<FieldType> = targets
            .map(|t| t.parse().map_err(|_| ApiError::invalid(format!("Invalid value for decimalTargetTypes: {t}"))))
            .collect::<Result<_, _>>()?;
        if decimal_targets.is_empty() {
            decimal_targets.push(FieldType::Numeric);
        }
        Ok(Self {
            logical_types: flag("useAvroLogicalTypes"),
            decimal_targets,
            ignore_unknown: flag("ignoreUnknownValues"),
            max_bad_records: load.get("maxBadRecords").and_then(int).and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            csv: Csv {
                delimiter: byte("fieldDelimiter", b',')?,
                quote,
                skip_rows: load.get("skipLeadingRows").and_then(int).and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
                null_marker: load["nullMarker"].as_str().unwrap_or_default().to_owned(),
                quoted_newlines: flag("allowQuotedNewlines"),
                jagged_rows: flag("allowJaggedRows"),
            },
        })
    }
}

/// What was read.
pub struct Loaded {
    pub schema: Schema,
    pub batches: Vec<RecordBatch>,
    /// ErrorProtos of rows that were left out, within the job's tolerance.
    pub bad_records: Vec<Value>,
}

/// Reads all files. `wanted` is the schema that the job gives; `hints` is the table's, which decides the types of columns
/// of the same name when the job gives none.
///
/// # Errors
/// The failure of the job, with one entry for each bad row.
pub fn read_all(
    format: Format,
    inputs: &[Input],
    wanted: Option<&Schema>,
    hints: Option<&Schema>,
    options: &ReadOptions,
    check: &dyn Fn() -> Result<(), ApiError>,
) -> Result<Loaded, JobFailure> {
    match format {
        Format::Avro | Format::Parquet => read_columnar(format, inputs, wanted, hints, options, check),
        Format::Json | Format::Csv => read_text(format, inputs, wanted, options, check),
    }
}

fn read_columnar(
    format: Format,
    inputs: &[Input],
    wanted: Option<&Schema>,
    hints: Option<&Schema>,
    options: &ReadOptions,
    check: &dyn Fn() -> Result<(), ApiError>,
) -> Result<Loaded, JobFailure> {
    let mut schema = wanted.cloned();
    let mut batches = vec![];
    for input in inputs {
        check()?;
        let failed = |e: CodecError| reading_failed(format, &input.name, &e.to_string());
        let effective = match &schema {
            Some(schema) => schema.clone(),
            None => {
                let found = infer(format, input, options).map_err(failed)?;
                let found = hints.map_or(found.clone(), |hints| take_hints(&found, hints));
                schema = Some(found.clone());
                found
            }
        };
        let file = reopened(input)?;
        match format {
            Format::Avro => {
                let how = avro::ReadOptions {
                    logical_types: options.logical_types,
                    text_times: true,
                    ignore_unknown: options.ignore_unknown,
                    ..avro::ReadOptions::default()
                };
                for batch in avro::Reader::with_options(BufReader::new(file), &effective, how).map_err(failed)? {
                    check()?;
                    batches.push(batch.map_err(failed)?);
                }
            }
            _ => {
                let how =
                    parquet::ReadOptions { ignore_unknown: options.ignore_unknown, ..parquet::ReadOptions::default() };
                for batch in parquet::Reader::with_options(file, &effective, &how).map_err(failed)? {
                    check()?;
                    batches.push(batch.map_err(failed)?);
                }
            }
        }
    }
    let Some(schema) = schema else { return Err(ApiError::invalid("No schema specified on job or table.").into()) };
    Ok(Loaded { schema, batches, bad_records: vec![] })
}

fn infer(format: Format, input: &Input, options: &ReadOptions) -> Result<Schema, CodecError> {
    let file = input.file.try_clone().and_then(|mut f| f.rewind().map(|()| f));
    let file = file.map_err(CodecError::from)?;
    match format {
        Format::Avro => {
            let how = avro::Inference {
                logical_types: options.logical_types,
                decimal_targets: options.decimal_targets.clone(),
            };
            avro::infer_schema(BufReader::new(file), &how)
        }
        _ => match footer_schema(&file) {
            Some(schema) => Ok(schema),
            None => {
                parquet::infer_schema(file, &parquet::Inference { decimal_targets: options.decimal_targets.clone() })
            }
        },
    }
}

/// The key under which the sandbox's Parquet files carry the schema of their table. Without it DATETIME and JSON columns of
/// an extract come back as TIMESTAMP and STRING.
const FOOTER_SCHEMA: &str = "strongroom-sandbox.schema";

fn footer_schema(file: &File) -> Option<Schema> {
    let reader = SerializedFileReader::new(file.try_clone().ok()?).ok()?;
    let pairs = reader.metadata().file_metadata().key_value_metadata()?;
    let text = pairs.iter().find(|p| p.key == FOOTER_SCHEMA)?.value.as_ref()?;
    Schema::from_json(&serde_json::from_str(text).ok()?).ok()
}

/// The file's columns with the types that the table has for those of the same name.
fn take_hints(found: &Schema, hints: &Schema) -> Schema {
    let fields = found.fields.iter().map(|f| hints.field(&f.name).cloned().unwrap_or_else(|| f.clone()));
    Schema::new(fields.collect())
}

fn reopened(input: &Input) -> Result<File, ApiError> {
    let mut file = input.file.try_clone()?;
    file.rewind()?;
    Ok(file)
}

fn reading_failed(format: Format, uri: &str, message: &str) -> JobFailure {
    let message = format!(
        "Error while reading data, error message: The Apache {} library failed to parse the file: {message}. File: {uri}",
        format.name()
    );
    ApiError::invalid(message).at("other", uri).into()
}

fn read_text(
    format: Format,
    inputs: &[Input],
    wanted: Option<&Schema>,
    options: &ReadOptions,
    check: &dyn Fn() -> Result<(), ApiError>,
) -> Result<Loaded, JobFailure> {
    let mut csv = options.csv.clone();
    let schema = match (wanted, inputs.first()) {
        (Some(schema), _) => schema.clone(),
        (None, Some(input)) if format == Format::Json => text::detect_json(&mut opened(input)?)?,
        (None, Some(input)) => {
            let (schema, skip) = text::detect_csv(&mut opened(input)?, &csv)?;
            csv.skip_rows = skip;
            schema
        }
        (None, None) => Schema::default(),
    };
    let mut batches = vec![];
    let mut bad = vec![];
    let mut total = 0_u64;
    for input in inputs {
        check()?;
        let mut pending: Vec<Vec<Cell>> = vec![];
        let mut flush = |pending: &mut Vec<Vec<Cell>>| -> Result<(), ApiError> {
            if !pending.is_empty() {
                check()?;
                batches.push(rows::batch(&schema, std::mem::take(pending)).map_err(ApiError::invalid)?);
            }
            Ok(())
        };
        let mut sink = |offset: u64, row: Result<Vec<Cell>, Vec<CellError>>| {
            total += 1;
            match row {
                Ok(cells) => pending.push(cells),
                Err(errors) => bad.push(bad_row(format, &input.name, offset, &errors)),
            }
            if bad.len() > options.max_bad_records && bad.len() >= 5 {
                return Err(ApiError::new(400, TOO_MANY, ""));
            }
            if pending.len() >= 8192 { flush(&mut pending) } else { Ok(()) }
        };
        let mut reader = opened(input)?;
        let read = match format {
            Format::Json => text::read_json(&mut reader, &schema, options.ignore_unknown, &mut sink),
            _ => text::read_csv(&mut reader, &schema, &csv, options.ignore_unknown, &mut sink),
        };
        match read {
            Ok(()) => flush(&mut pending)?,
            Err(e) if e.reason == TOO_MANY => {}
            Err(e) => return Err(e.into()),
        }
        if bad.len() > options.max_bad_records {
            return Err(too_many(format, &input.name, total, bad));
        }
    }
    Ok(Loaded { schema, batches, bad_records: bad })
}

/// A marker that never leaves this file: enough bad rows were seen.
const TOO_MANY: &str = "tooManyBadRows";

fn bad_row(format: Format, uri: &str, offset: u64, errors: &[CellError]) -> Value {
    let text = errors.iter().map(|e| e.message.as_str()).collect::<Vec<_>>().join("; ");
    let message = match format {
        Format::Json => format!(
            "Error while reading data, error message: JSON parsing error in row starting at position {offset}: {text}"
        ),
        _ => format!(
            "Error while reading data, error message: CSV processing encountered an error in row starting at position {offset}: {text}"
        ),
    };
    json!({"reason": "invalid", "location": uri, "message": format!("{message} File: {uri}")})
}

fn too_many(format: Format, uri: &str, rows: u64, bad: Vec<Value>) -> JobFailure {
    let message = format!(
        "Error while reading data, error message: {} table encountered too many errors, giving up. Rows: {rows}; errors: {}. Please look into the errors[] collection for more details.",
        format.name(),
        bad.len()
    );
    JobFailure { error: Box::new(ApiError::invalid(message).at("other", uri)), more: bad }
}

fn opened(input: &Input) -> Result<Box<dyn BufRead>, ApiError> {
    let mut file = reopened(input)?;
    let mut magic = [0; 2];
    let gzip = file.read(&mut magic)? == 2 && magic == [0x1f, 0x8b];
    file.rewind()?;
    if gzip {
        return Ok(Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(BufReader::new(file)))));
    }
    Ok(Box::new(BufReader::with_capacity(1 << 16, file)))
}

/// Whether a load turns values of type `from` (in a file) into `to` (of the table); REST names.
pub fn converts(from: &str, to: &str) -> bool {
    matches!(
        (from, to),
        ("INTEGER", "FLOAT" | "NUMERIC" | "BIGNUMERIC" | "TIMESTAMP")
            | ("NUMERIC", "BIGNUMERIC" | "FLOAT")
            | ("STRING", "JSON" | "GEOGRAPHY" | "INTERVAL" | "DATE" | "TIME" | "DATETIME" | "BYTES")
            | ("TIMESTAMP", "DATETIME")
            | ("DATETIME", "TIMESTAMP")
            | ("BYTES", "STRING" | "NUMERIC" | "BIGNUMERIC")
    )
}

/// How extracted files are written.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    pub format: Format,
    /// `NONE`, `GZIP`, `SNAPPY`, `DEFLATE`, `ZSTD`.
    pub compression: String,
    pub logical_types: bool,
    pub header: bool,
    pub delimiter: u8,
}

impl WriteOptions {
    /// Checks that the compression goes with the format and the schema fits into it.
    ///
    /// # Errors
    /// `invalid` with Google's message.
    pub fn check(&self, schema: &Schema) -> Result<(), ApiError> {
        let allowed: &[&str] = match self.format {
            Format::Avro => &["NONE", "DEFLATE", "SNAPPY"],
            Format::Parquet => &["NONE", "SNAPPY", "GZIP", "ZSTD"],
            Format::Json | Format::Csv => &["NONE", "GZIP"],
        };
        if !allowed.contains(&self.compression.as_str()) {
            return Err(ApiError::invalid(format!(
                "Compression {} is not supported for format {}",
                self.compression,
                self.format.name().to_uppercase()
            )));
        }
        if self.format == Format::Csv {
            if let Some(field) = schema.fields.iter().find(|f| f.mode == Mode::Repeated || f.kind == FieldType::Struct)
            {
                return Err(ApiError::invalid(format!(
                    "Operation cannot be performed on a nested schema. Field: {}",
                    field.name
                )));
            }
        }
        Ok(())
    }

    /// The media type of the files.
    pub fn content_type(&self) -> &'static str {
        match (self.format, self.compression.as_str()) {
            (Format::Json | Format::Csv, "GZIP") => "application/gzip",
            (Format::Json, _) => "application/json",
            (Format::Csv, _) => "text/csv",
            _ => "application/octet-stream",
        }
    }

    /// Writes one file.
    ///
    /// # Errors
    /// When the format cannot hold the rows, or the output refuses.
    pub fn write<W: Write + Send>(&self, out: W, schema: &Schema, batches: &[RecordBatch]) -> Result<W, ApiError> {
        let failed = |e: CodecError| ApiError::invalid(format!("Error while writing data, error message: {e}"));
        match self.format {
            Format::Avro => {
                let codec = match self.compression.as_str() {
                    "DEFLATE" => avro::Codec::Deflate,
                    "SNAPPY" => avro::Codec::Snappy,
                    _ => avro::Codec::Null,
                };
                let mut writer = avro::Writer::new(out, schema, codec, self.logical_types).map_err(failed)?;
                for batch in batches {
                    writer.write(batch).map_err(failed)?;
                }
                writer.finish().map_err(failed)
            }
            Format::Parquet => {
                let compression = match self.compression.as_str() {
                    "SNAPPY" => parquet::Compression::Snappy,
                    "GZIP" => parquet::Compression::Gzip,
                    "ZSTD" => parquet::Compression::Zstd,
                    _ => parquet::Compression::None,
                };
                let how = parquet::WriterOptions {
                    compression,
                    footer: vec![(FOOTER_SCHEMA.to_owned(), schema.to_json().to_string())],
                    ..parquet::WriterOptions::default()
                };
                let mut writer = parquet::Writer::with_options(out, schema, how).map_err(failed)?;
                for batch in batches {
                    writer.write(batch).map_err(failed)?;
                }
                writer.finish().map_err(failed)
            }
            Format::Json | Format::Csv if self.compression == "GZIP" => {
                let mut gzip = flate2::write::GzEncoder::new(out, flate2::Compression::new(3));
                self.write_text(&mut gzip, schema, batches)?;
                Ok(gzip.finish()?)
            }
            Format::Json | Format::Csv => {
                let mut buffered = std::io::BufWriter::new(out);
                self.write_text(&mut buffered, schema, batches)?;
                buffered.into_inner().map_err(|e| ApiError::internal(e.to_string()))
            }
        }
    }

    fn write_text(&self, out: &mut dyn Write, schema: &Schema, batches: &[RecordBatch]) -> Result<(), ApiError> {
        if self.format == Format::Csv && self.header {
            text::write_csv_header(out, schema, self.delimiter)?;
        }
        for batch in batches {
            match self.format {
                Format::Json => text::write_json(out, batch)?,
                _ => text::write_csv(out, batch, self.delimiter)?,
            }
        }
        Ok(())
    }
}
