//! The text formats of load and extract jobs: newline-delimited JSON and CSV, as BigQuery reads and writes them.

use std::io::{BufRead, Write};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field as ArrowField, Float64Type, TimestampMicrosecondType};
use serde_json::{Map, Value, json};
use strongroom::codec::arrow_schema::TYPE_KEY;
use strongroom::model::schema::{Field, FieldType, Mode, Schema};

use super::cells::{CellFormat, cell, scalar_text};
use super::civil::{datetime_text, parse_date, parse_datetime, parse_time, parse_timestamp};
use super::rows::{self, Cell, CellError, Strictness};
use crate::core::ApiError;

/// Longest row of a text file.
const MAX_ROW_BYTES: u64 = 100 << 20;

/// How CSV is laid out.
#[derive(Debug, Clone)]
pub struct Csv {
    pub delimiter: u8,
    pub quote: Option<u8>,
    pub skip_rows: usize,
    pub null_marker: String,
    pub quoted_newlines: bool,
    pub jagged_rows: bool,
}

/// Rows of a file, one by one: the values, or what is wrong with the row. The number counts bytes before the row.
pub type Sink<'a> = dyn FnMut(u64, Result<Vec<Cell>, Vec<CellError>>) -> Result<(), ApiError> + 'a;

fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> Result<usize, ApiError> {
    line.clear();
    let read = std::io::Read::take(&mut *reader, MAX_ROW_BYTES + 1).read_until(b'\n', line)?;
    if read as u64 > MAX_ROW_BYTES {
        return Err(ApiError::invalid(
            "Error while reading data, error message: row larger than the maximum allowed size of 100 MB",
        ));
    }
    Ok(read)
}

/// Reads newline-delimited JSON.
///
/// # Errors
/// When the file cannot be read; a bad row goes to the sink.
pub fn read_json(
    reader: &mut dyn BufRead,
    schema: &Schema,
    ignore_unknown: bool,
    sink: &mut Sink<'_>,
) -> Result<(), ApiError> {
    let mut line = vec![];
    let mut offset = 0;
    loop {
        let read = read_line(reader, &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            let row = match serde_json::from_slice::<Value>(&line) {
                Ok(value) => rows::row(schema, &value, Strictness::Load, ignore_unknown),
                Err(e) => Err(vec![CellError {
                    location: String::new(),
                    message: format!("Parser terminated before end of string: {e}"),
                }]),
            };
            sink(offset, row)?;
        }
        offset += read as u64;
    }
}

/// Reads CSV.
///
/// # Errors
/// When the file cannot be read; a bad row goes to the sink.
pub fn read_csv(
    reader: &mut dyn BufRead,
    schema: &Schema,
    csv: &Csv,
    ignore_unknown: bool,
    sink: &mut Sink<'_>,
) -> Result<(), ApiError> {
    let mut records = Records { reader, csv, offset: 0, line: vec![] };
    let mut skip = csv.skip_rows;
    while let Some((offset, record)) = records.next()? {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let row = record.and_then(|r| csv_row(schema, csv, &r, ignore_unknown));
        sink(offset, row)?;
    }
    Ok(())
}

/// A CSV value and whether it stood in quotes.
type Raw = (String, bool);

fn csv_row(schema: &Schema, csv: &Csv, record: &[Raw], ignore_unknown: bool) -> Result<Vec<Cell>, Vec<CellError>> {
    let fail = |location: &str, message: String| vec![CellError { location: location.into(), message }];
    if record.len() > schema.fields.len() && !ignore_unknown {
        return Err(fail(
            "",
            format!(
                "Too many values in line. Found {} column(s) while expected {}.",
                record.len(),
                schema.fields.len()
            ),
        ));
    }
    if record.len() < schema.fields.len() && !csv.jagged_rows {
        return Err(fail(
            "",
            format!("Too few values in line. Found {} column(s) while expected {}.", record.len(), schema.fields.len()),
        ));
    }
    let cells = schema.fields.iter().enumerate().map(|(i, field)| {
        let null = || match field.mode {
            Mode::Required => Err(fail(&field.name, format!("Missing required field: {}.", field.name))),
            Mode::Repeated => Ok(Cell::List(vec![])),
            Mode::Nullable => Ok(Cell::Null),
        };
        let Some((text, quoted)) = record.get(i) else { return null() };
        // Nothing is a null, except that two quotes are an empty text.
        let is_null = if csv.null_marker.is_empty() {
            text.is_empty() && !(*quoted && field.kind == FieldType::String)
        } else {
            *text == csv.null_marker && !quoted
        };
        if is_null {
            return null();
        }
        rows::scalar(field, &json!(text), Strictness::Load).map_err(|message| fail(&field.name, message))
    });
    cells.collect()
}

struct Records<'a> {
    reader: &'a mut dyn BufRead,
    csv: &'a Csv,
    offset: u64,
    line: Vec<u8>,
}

impl Records<'_> {
    #[allow(clippy::type_complexity)]
    fn next(&mut self) -> Result<Option<(u64, Result<Vec<Raw>, Vec<CellError>>)>, ApiError> {
        loop {
            let start = self.offset;
            let read = read_line(self.reader, &mut self.line)?;
            if read == 0 {
                return Ok(None);
            }
            self.offset += read as u64;
            if self.line.iter().all(|b| matches!(b, b'\n' | b'\r')) {
                continue;
            }
            let mut more = vec![];
            // An open quote goes on in the next line.
            while self.csv.quoted_newlines && self.open_quote() {
                let read = read_line(self.reader, &mut more)?;
                if read == 0 {
                    break;
                }
                self.offset += read as u64;
                self.line.extend_from_slice(&more);
            }
            let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            return Ok(Some((start, split(line, self.csv))));
        }
    }

    fn open_quote(&self) -> bool {
        self.csv.quote.is_some_and(|q| self.line.iter().filter(|b| **b == q).count() % 2 == 1)
    }
}

fn split(line: &[u8], csv: &Csv) -> Result<Vec<Raw>, Vec<CellError>> {
    let mut out = vec![];
    let mut at = 0;
    loop {
        let mut value = vec![];
        let quoted = csv.quote.is_some() && line.get(at).copied() == csv.quote;
        if quoted {
            at += 1;
            loop {
                match line.get(at) {
                    None => {
                        let message = "Missing close quote character (\").".to_owned();
                        return Err(vec![CellError { location: String::new(), message }]);
                    }
                    Some(b) if Some(*b) == csv.quote => {
                        if line.get(at + 1).copied() == csv.quote {
                            value.push(*b);
                            at += 2;
                        } else {
                            at += 1;
                            break;
                        }
                    }
                    Some(b) => {
                        value.push(*b);
                        at += 1;
                    }
                }
            }
            if line.get(at).is_some_and(|b| *b != csv.delimiter) {
                let message = "Data between close quote character (\") and field separator.".to_owned();
                return Err(vec![CellError { location: String::new(), message }]);
            }
        } else {
            while let Some(b) = line.get(at).filter(|b| **b != csv.delimiter) {
                value.push(*b);
                at += 1;
            }
        }
        out.push((String::from_utf8_lossy(&value).into_owned(), quoted));
        if at >= line.len() {
            return Ok(out);
        }
        at += 1;
    }
}

/// Guesses a schema from the first rows of newline-delimited JSON.
///
/// # Errors
/// When the file cannot be read.
pub fn detect_json(reader: &mut dyn BufRead) -> Result<Schema, ApiError> {
    let mut line = vec![];
    let mut fields: Vec<Field> = vec![];
    for _ in 0..500 {
        if read_line(reader, &mut line)? == 0 {
            break;
        }
        if let Ok(Value::Object(members)) = serde_json::from_slice(&line) {
            guess_record(&mut fields, &members);
        }
    }
    fields.iter_mut().for_each(settle);
    Ok(Schema::new(fields))
}

/// A record without members cannot be; it is what nothing was known of.
fn settle(field: &mut Field) {
    if field.kind == FieldType::Struct && field.fields.is_empty() {
        field.kind = FieldType::String;
    }
    field.fields.iter_mut().for_each(settle);
}

fn guess_record(fields: &mut Vec<Field>, members: &Map<String, Value>) {
    for (name, value) in members {
        let at = fields.iter().position(|f| f.name.eq_ignore_ascii_case(name));
        let Some(mut found) = guess(name, value) else { continue };
        match at {
            None => fields.push(found),
            Some(i) => {
                let have = &mut fields[i];
                if have.kind == FieldType::Struct && found.kind == FieldType::Struct {
                    let members = match value {
                        Value::Object(m) => vec![m],
                        Value::Array(items) => items.iter().filter_map(Value::as_object).collect(),
                        _ => vec![],
                    };
                    for m in members {
                        guess_record(&mut have.fields, m);
                    }
                } else if have.kind != found.kind {
                    have.kind = widest(have.kind, found.kind);
                    have.fields.append(&mut found.fields);
                    if have.kind != FieldType::Struct {
                        have.fields.clear();
                    }
                }
                if found.mode == Mode::Repeated {
                    have.mode = Mode::Repeated;
                }
            }
        }
    }
}

fn widest(a: FieldType, b: FieldType) -> FieldType {
    use FieldType::{Date, DateTime, Float64, Int64, Timestamp};
    match (a, b) {
        (Int64, Float64) | (Float64, Int64) => Float64,
        (Date, DateTime | Timestamp) | (DateTime, Timestamp) => b,
        (DateTime | Timestamp, Date) | (Timestamp, DateTime) => a,
        _ => FieldType::String,
    }
}

fn guess(name: &str, value: &Value) -> Option<Field> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(_) => Field::nullable(name, FieldType::Bool),
        Value::Number(n) if n.is_f64() => Field::nullable(name, FieldType::Float64),
        Value::Number(_) => Field::nullable(name, FieldType::Int64),
        Value::String(text) => Field::nullable(name, guess_text(text)),
        Value::Array(items) => {
            let mut fields = vec![];
            for item in items {
                let wrapped = Map::from_iter([(name.to_owned(), item.clone())]);
                guess_record(&mut fields, &wrapped);
            }
            let mut field = fields.pop()?;
            field.mode = Mode::Repeated;
            field
        }
        Value::Object(members) => {
            let mut fields = vec![];
            guess_record(&mut fields, members);
            Field::record(name, Mode::Nullable, fields)
        }
    })
}

fn guess_text(text: &str) -> FieldType {
    let text = text.trim();
    if matches!(text.to_ascii_lowercase().as_str(), "true" | "false") {
        FieldType::Bool
    } else if text.parse::<i64>().is_ok() {
        FieldType::Int64
    } else if text.parse::<f64>().is_ok() && text.bytes().any(|b| b.is_ascii_digit()) {
        FieldType::Float64
    } else if parse_date(text).is_some() {
        FieldType::Date
    } else if text.contains(':') && parse_time(text).is_some() {
        FieldType::Time
    } else if parse_datetime(text).is_some() {
        FieldType::DateTime
    } else if parse_timestamp(text).is_some() {
        FieldType::Timestamp
    } else {
        FieldType::String
    }
}

/// Guesses a schema from the first rows of CSV; the number of header rows comes with it.
///
/// # Errors
/// When the file cannot be read.
pub fn detect_csv(reader: &mut dyn BufRead, csv: &Csv) -> Result<(Schema, usize), ApiError> {
    let mut records = Records { reader, csv, offset: 0, line: vec![] };
    let mut sample: Vec<Vec<Raw>> = vec![];
    while let (Some((_, record)), true) = (records.next()?, sample.len() < 500) {
        if let Ok(record) = record {
            sample.push(record);
        }
    }
    let skipped = csv.skip_rows.saturating_sub(1).min(sample.len());
    let rows = &sample[skipped..];
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let kinds = |rows: &[Vec<Raw>]| -> Vec<Option<FieldType>> {
        (0..width)
            .map(|i| {
                rows.iter()
                    .filter_map(|r| r.get(i))
                    .filter(|(t, _)| !t.is_empty())
                    .map(|(t, _)| guess_text(t))
                    .reduce(|a, b| if a == b { a } else { widest(a, b) })
            })
            .collect()
    };
    let body = kinds(rows.get(1..).unwrap_or_default());
    let head = kinds(rows.get(..1).unwrap_or_default());
    let all_text = head.iter().all(|k| matches!(k, None | Some(FieldType::String)));
    let header = csv.skip_rows > 0 || (all_text && body.iter().any(|k| k.is_some_and(|k| k != FieldType::String)));
    let kinds = if header { body } else { kinds(rows) };
    let fields = kinds
        .into_iter()
        .enumerate()
        .map(|(i, kind)| {
            let name = header.then(|| rows.first().and_then(|r| r.get(i)).map(|(t, _)| clean_name(t))).flatten();
            let name = name.filter(|n| !n.is_empty());
            Field::nullable(
                name.unwrap_or_else(|| {
                    format!("{}_field_{i}", kind.unwrap_or(FieldType::String).sql_name().to_lowercase())
                }),
                kind.unwrap_or(FieldType::String),
            )
        })
        .collect();
    Ok((Schema::new(fields), if header { csv.skip_rows.max(1) } else { csv.skip_rows }))
}

fn clean_name(text: &str) -> String {
    let name: String = text.trim().chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// Writes rows as newline-delimited JSON: INT64 and decimals as text, nulls left out.
///
/// # Errors
/// When the output refuses.
pub fn write_json(out: &mut dyn Write, batch: &RecordBatch) -> Result<(), ApiError> {
    let schema = batch.schema();
    for row in 0..batch.num_rows() {
        let mut object = Map::new();
        for (column, field) in batch.columns().iter().zip(schema.fields()) {
            if let Some(value) = json_value(column, field, row) {
                object.insert(field.name().clone(), value);
            }
        }
        serde_json::to_writer(&mut *out, &object).map_err(|e| ApiError::internal(e.to_string()))?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn json_value(column: &ArrayRef, field: &ArrowField, row: usize) -> Option<Value> {
    if let DataType::List(item) = column.data_type() {
        let items = column.as_list::<i32>().value(row);
        return Some((0..items.len()).map(|i| json_value(&items, item, i).unwrap_or(Value::Null)).collect());
    }
    if column.is_null(row) {
        return None;
    }
    let kind = field.metadata().get(TYPE_KEY).map_or("", String::as_str);
    Some(match column.data_type() {
        DataType::Struct(_) if kind == "RANGE" => cell(column, field, row, CellFormat::default()),
        DataType::Struct(fields) => {
            let record = column.as_struct();
            let members = fields
                .iter()
                .zip(record.columns())
                .filter_map(|(f, c)| Some((f.name().clone(), json_value(c, f, row)?)));
            Value::Object(members.collect())
        }
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            if value.is_finite() { json!(value) } else { json!(scalar_text(column, row)) }
        }
        DataType::Utf8 if kind == "JSON" => {
            let text = column.as_string::<i32>().value(row);
            serde_json::from_str(text).unwrap_or_else(|_| json!(text))
        }
        _ => json!(text_value(column, row)),
    })
}

/// A scalar as both text formats write it.
fn text_value(column: &ArrayRef, row: usize) -> String {
    match column.data_type() {
        DataType::Timestamp(_, Some(_)) => {
            let us = column.as_primitive::<TimestampMicrosecondType>().value(row);
            format!("{} UTC", datetime_text(us, ' '))
        }
        _ => scalar_text(column, row),
    }
}

/// Writes CSV's header.
///
/// # Errors
/// When the output refuses.
pub fn write_csv_header(out: &mut dyn Write, schema: &Schema, delimiter: u8) -> Result<(), ApiError> {
    let names: Vec<String> = schema.fields.iter().map(|f| quoted(&f.name, delimiter)).collect();
    out.write_all(names.join(&char::from(delimiter).to_string()).as_bytes())?;
    Ok(out.write_all(b"\n")?)
}

/// Writes rows as CSV: a null is nothing, an empty text two quotes.
///
/// # Errors
/// When the output refuses.
pub fn write_csv(out: &mut dyn Write, batch: &RecordBatch, delimiter: u8) -> Result<(), ApiError> {
    let schema = batch.schema();
    let mut line = String::new();
    for row in 0..batch.num_rows() {
        line.clear();
        for (i, (column, field)) in batch.columns().iter().zip(schema.fields()).enumerate() {
            if i > 0 {
                line.push(char::from(delimiter));
            }
            if column.is_null(row) {
                continue;
            }
            let text = match cell(column, field, row, CellFormat::default()) {
                Value::String(text) if matches!(column.data_type(), DataType::Struct(_)) => text,
                _ => text_value(column, row),
            };
            if text.is_empty() {
                line.push_str("\"\"");
            } else {
                line.push_str(&quoted(&text, delimiter));
            }
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

fn quoted(text: &str, delimiter: u8) -> String {
    let needs = text.bytes().any(|b| b == delimiter || matches!(b, b'"' | b'\n' | b'\r'));
    if needs { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bigquery::schema;

    fn csv() -> Csv {
        Csv {
            delimiter: b',',
            quote: Some(b'"'),
            skip_rows: 0,
            null_marker: String::new(),
            quoted_newlines: true,
            jagged_rows: false,
        }
    }

    fn collect(text: &str, fields: Value) -> Vec<Result<Vec<Cell>, Vec<CellError>>> {
        let schema = schema::parse(&fields).unwrap();
        let mut out = vec![];
        read_csv(&mut text.as_bytes(), &schema, &csv(), false, &mut |_, row| {
            out.push(row);
            Ok(())
        })
        .unwrap();
        out
    }

    #[test]
    fn csv_quotes_newlines_and_nulls() {
        let fields = json!([{"name":"a","type":"STRING"},{"name":"b","type":"INT64"}]);
        let rows = collect("\"x \"\"y\"\",\nz\",1\r\n\"\",\n,2\nq,r\n1\n", fields);
        assert_eq!(rows[0], Ok(vec![Cell::Text("x \"y\",\nz".into()), Cell::Int(1)]));
        assert_eq!(rows[1], Ok(vec![Cell::Text(String::new()), Cell::Null]));
        assert_eq!(rows[2], Ok(vec![Cell::Null, Cell::Int(2)]));
        assert!(rows[3].is_err() && rows[4].is_err());
    }

    #[test]
    fn rows_are_written_as_they_can_be_read() {
        let schema = schema::parse(&json!([
            {"name":"s","type":"STRING"},{"name":"n","type":"NUMERIC"},{"name":"t","type":"TIMESTAMP"},{"name":"y","type":"BYTES"}]))
        .unwrap();
        let values =
            [json!({"s":"a,\"b\"\nc","n":"1.5","t":"2024-01-01T00:00:00Z","y":"AAH/"}), json!({"s":""}), json!({})];
        let batch = rows::batch_from_json(&schema, &values, Strictness::Insert).unwrap();
        let mut text = vec![];
        write_csv(&mut text, &batch, b',').unwrap();
        let mut cells = vec![];
        read_csv(&mut text.as_slice(), &schema, &csv(), false, &mut |_, row| {
            cells.push(row.unwrap());
            Ok(())
        })
        .unwrap();
        assert_eq!(rows::batch(&schema, cells).unwrap(), batch);
        let mut text = vec![];
        write_json(&mut text, &batch).unwrap();
        assert!(String::from_utf8_lossy(&text).ends_with("{\"s\":\"\"}\n{}\n"));
        let mut cells = vec![];
        read_json(&mut text.as_slice(), &schema, false, &mut |_, row| {
            cells.push(row.unwrap());
            Ok(())
        })
        .unwrap();
        assert_eq!(rows::batch(&schema, cells).unwrap(), batch);
    }

    #[test]
    fn schemas_are_guessed() {
        let json = "{\"a\":1,\"r\":{\"x\":[1.5]}}\n{\"a\":2.5,\"d\":\"2024-01-01\"}\n";
        let schema = detect_json(&mut json.as_bytes()).unwrap();
        let kinds: Vec<_> = schema.fields.iter().map(|f| (f.name.as_str(), f.kind)).collect();
        assert_eq!(kinds, [("a", FieldType::Float64), ("r", FieldType::Struct), ("d", FieldType::Date)]);
        assert_eq!(schema.fields[1].fields[0].mode, Mode::Repeated);
        let (schema, skip) = detect_csv(&mut "id,name\n1,x\n2,y\n".as_bytes(), &csv()).unwrap();
        assert_eq!((schema.fields[0].name.as_str(), schema.fields[0].kind, skip), ("id", FieldType::Int64, 1));
    }
}
