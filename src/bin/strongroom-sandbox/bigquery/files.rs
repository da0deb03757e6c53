//! Files of load and extract jobs, whatever their format: read into batches of a schema, written from batches.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use arrow::array::RecordBatch;
use serde_json::{Value, json};
use strongroom::codec::CodecError;
use strongroom::codec::{avro, csv, ndjson, parquet};
use strongroom::model::schema::{Field, FieldType, Mode, Schema};

use super::detect;
use super::jobs::JobFailure;
use super::schema::int;
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
    pub max_bad_records: u64,
    pub csv: csv::ReadOptions,
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
        let count = |key: &str| load.get(key).and_then(int).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
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
            max_bad_records: count("maxBadRecords"),
            csv: csv::ReadOptions {
                field_delimiter: byte("fieldDelimiter", b',')?,
                quote,
                skip_leading_rows: count("skipLeadingRows"),
                null_marker: load["nullMarker"].as_str().unwrap_or_default().to_owned(),
                allow_quoted_newlines: flag("allowQuotedNewlines"),
                allow_jagged_rows: flag("allowJaggedRows"),
                ignore_unknown_values: flag("ignoreUnknownValues"),
                max_bad_records: count("maxBadRecords"),
                latin1: load["encoding"].as_str() == Some("ISO-8859-1"),
                ..csv::ReadOptions::default()
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
        if format == Format::Avro && wanted.is_some_and(|w| w.fields.iter().any(holds_datetime)) {
            check_datetimes(input, &effective, options.logical_types)?;
        }
        // After all else that reads it: the clones of a file share their place in it.
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

/// Whether an Avro file's schema, which stands in plain at its beginning, has the logical type of DATETIME.
fn annotates_datetime(input: &Input) -> Result<bool, ApiError> {
    const HEADER_BYTES: u64 = 1 << 20;
    let mut header = Vec::new();
    reopened(input)?.take(HEADER_BYTES).read_to_end(&mut header)?;
    Ok(header.windows(10).any(|w| w == b"\"datetime\""))
}

/// # Errors
/// When texts stand where the table has DATETIME columns.
fn check_datetimes(input: &Input, wanted: &Schema, logical_types: bool) -> Result<(), JobFailure> {
    if logical_types && annotates_datetime(input)? {
        return Ok(());
    }
    let failed = |message: String| reading_failed(Format::Avro, &input.name, &message);
    let how = avro::Inference { logical_types, ..avro::Inference::default() };
    let found = avro::infer_schema(BufReader::new(reopened(input)?), &how).map_err(|e| failed(e.to_string()))?;
    refuse_text_datetimes(&wanted.fields, &found.fields, "").map_err(failed)
}

fn holds_datetime(field: &Field) -> bool {
    field.kind == FieldType::DateTime || field.fields.iter().any(holds_datetime)
}

/// Texts do not load into DATETIME columns. Those that are annotated as such do when logical types are asked for; users
/// of Google's report that there they do not, either.
fn refuse_text_datetimes(wanted: &[Field], file: &[Field], above: &str) -> Result<(), String> {
    for field in wanted {
        let Some(found) = file.iter().find(|f| f.name.eq_ignore_ascii_case(&field.name)) else { continue };
        let path = format!("{above}{}", field.name);
        if field.kind == FieldType::DateTime && found.kind == FieldType::String {
            return Err(format!(
                "Unexpected type for Avro field: {path}. Configured schema: datetime; Avro file: string."
            ));
        }
        refuse_text_datetimes(&field.fields, &found.fields, &format!("{path}."))?;
    }
    Ok(())
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
    let mut csv_options = options.csv.clone();
    let schema = match (wanted, inputs.first()) {
        (Some(schema), _) => schema.clone(),
        (None, Some(input)) if format == Format::Json => detect::json(&mut opened(input)?)?,
        (None, Some(input)) => {
            let (schema, skip) = detect::csv(&mut || opened(input), &csv_options)?;
            csv_options.skip_leading_rows = skip;
            schema
        }
        (None, None) => Schema::default(),
    };
    let mut batches = vec![];
    let mut bad = vec![];
    for input in inputs {
        check()?;
        let left = options.max_bad_records - bad.len() as u64;
        let uri = &input.name;
        let (read, skipped) = match format {
            Format::Json => {
                let how = ndjson::ReadOptions {
                    ignore_unknown_values: options.ignore_unknown,
                    max_bad_records: left,
                    ..ndjson::ReadOptions::default()
                };
                let mut reader = ndjson::Reader::with_options(opened(input)?, &schema, how);
                let read = drain(&mut reader, &mut batches, check)?;
                (read, reader.bad_records().iter().map(|e| bad_row(format, uri, e)).collect::<Vec<_>>())
            }
            _ => {
                let how = csv::ReadOptions { max_bad_records: left, ..csv_options.clone() };
                let failed = |e: CodecError| ApiError::invalid(e.to_string());
                let mut reader = csv::Reader::with_options(opened(input)?, &schema, how).map_err(failed)?;
                let read = drain(&mut reader, &mut batches, check)?;
                (read, reader.bad_records().iter().map(|e| bad_row(format, uri, e)).collect())
            }
        };
        bad.extend(skipped);
        if let Err(error) = read {
            bad.push(bad_row(format, uri, &error));
            return Err(too_many(format, uri, error.row().unwrap_or(0), bad));
        }
    }
    Ok(Loaded { schema, batches, bad_records: bad })
}

/// Takes all batches; a bad row is the inner error.
fn drain(
    reader: &mut dyn Iterator<Item = Result<RecordBatch, CodecError>>,
    batches: &mut Vec<RecordBatch>,
    check: &dyn Fn() -> Result<(), ApiError>,
) -> Result<Result<(), CodecError>, ApiError> {
    for batch in reader {
        check()?;
        match batch {
            Ok(batch) => batches.push(batch),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}

fn bad_row(format: Format, uri: &str, error: &CodecError) -> Value {
    let what = match format {
        Format::Json => "JSON parsing error",
        _ => "CSV processing encountered an error",
    };
    let text = match error {
        CodecError::Value { row, column, message } => format!("in row {row}: Field: {column}; {message}"),
        other => format!("in {other}"),
    };
    let message = format!("Error while reading data, error message: {what} {text} File: {uri}");
    json!({"reason": "invalid", "location": uri, "message": message})
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
        let nested = |f: &&Field| f.mode == Mode::Repeated || f.kind == FieldType::Struct;
        if self.format == Format::Csv
            && let Some(field) = schema.fields.iter().find(nested)
        {
            let name = &field.name;
            return Err(ApiError::invalid(format!("Operation cannot be performed on a nested schema. Field: {name}")));
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
                let gzip = flate2::write::GzEncoder::new(out, flate2::Compression::new(3));
                Ok(self.write_text(gzip, schema, batches).map_err(failed)?.finish()?)
            }
            Format::Json | Format::Csv => self.write_text(out, schema, batches).map_err(failed),
        }
    }

    fn write_text<W: Write>(&self, out: W, schema: &Schema, batches: &[RecordBatch]) -> Result<W, CodecError> {
        if self.format == Format::Json {
            let mut writer = ndjson::Writer::new(out, schema);
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            return writer.finish();
        }
        let how = csv::WriterOptions { field_delimiter: self.delimiter, print_header: self.header };
        let mut writer = csv::Writer::new(out, schema, how)?;
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()
    }
}
