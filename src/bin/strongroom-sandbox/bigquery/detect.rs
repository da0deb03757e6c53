//! Schema detection (`autodetect`): what the first rows of a text file look like.

use std::io::BufRead;

use arrow::array::{Array, AsArray};
use serde_json::{Map, Value};
use strongroom::codec;
use strongroom::codec::value::{parse_date, parse_datetime, parse_time, parse_timestamp};
use strongroom::model::schema::{Field, FieldType, Mode, Schema};

use crate::core::ApiError;

/// How many rows are looked at.
const SAMPLE_ROWS: usize = 500;

/// Guesses a schema from the first rows of newline-delimited JSON.
///
/// # Errors
/// When the file cannot be read.
pub fn json(reader: &mut dyn BufRead) -> Result<Schema, ApiError> {
    let mut fields: Vec<Field> = vec![];
    for line in reader.split(b'\n').take(SAMPLE_ROWS) {
        if let Ok(Value::Object(members)) = serde_json::from_slice(&line?) {
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
    } else if parse_date(text).is_ok() {
        FieldType::Date
    } else if text.contains(':') && parse_time(text).is_ok() {
        FieldType::Time
    } else if parse_datetime(text).is_ok() {
        FieldType::DateTime
    } else if parse_timestamp(text).is_ok() {
        FieldType::Timestamp
    } else {
        FieldType::String
    }
}

/// Guesses a schema from the first rows of CSV; the number of header rows comes with it.
///
/// # Errors
/// When the file cannot be read.
pub fn csv<R: BufRead>(
    open: &mut dyn FnMut() -> Result<R, ApiError>,
    options: &codec::csv::ReadOptions,
) -> Result<(Schema, u64), ApiError> {
    let mut first = vec![];
    open()?.read_until(b'\n', &mut first)?;
    let width = columns_of(&first, options);
    let texts = (0..width).map(|i| Field::nullable(format!("c{i}"), FieldType::String)).collect();
    let how = codec::csv::ReadOptions {
        batch_rows: SAMPLE_ROWS,
        skip_leading_rows: options.skip_leading_rows.saturating_sub(1),
        allow_jagged_rows: true,
        ignore_unknown_values: true,
        max_bad_records: u64::MAX,
        ..options.clone()
    };
    let failed = |e: codec::CodecError| ApiError::invalid(format!("Error while reading data, error message: {e}"));
    let mut reader = codec::csv::Reader::with_options(open()?, &Schema::new(texts), how).map_err(failed)?;
    let Some(sample) = reader.next().transpose().map_err(failed)? else {
        return Ok((Schema::default(), options.skip_leading_rows));
    };
    let text = |column: usize, row: usize| {
        let values = sample.column(column).as_string::<i32>();
        (row < values.len() && !values.is_null(row)).then(|| values.value(row))
    };
    let kind = |column: usize, from: usize| {
        let kinds =
            (from..sample.num_rows()).filter_map(|row| text(column, row)).filter(|t| !t.is_empty()).map(guess_text);
        kinds.reduce(|a, b| if a == b { a } else { widest(a, b) })
    };
    let named = (0..width).all(|c| text(c, 0).is_none_or(|t| guess_text(t) == FieldType::String));
    let typed = (0..width).any(|c| kind(c, 1).is_some_and(|k| k != FieldType::String));
    let header = options.skip_leading_rows > 0 || (named && typed);
    let fields = (0..width).map(|c| {
        let kind = kind(c, usize::from(header)).unwrap_or(FieldType::String);
        let name = text(c, 0).filter(|_| header).map(clean_name).filter(|n| !n.is_empty());
        Field::nullable(name.unwrap_or_else(|| format!("{}_field_{c}", kind.sql_name().to_lowercase())), kind)
    });
    let skip = if header { options.skip_leading_rows.max(1) } else { options.skip_leading_rows };
    Ok((Schema::new(fields.collect()), skip))
}

/// How many columns a line has: delimiters outside quotes, and one.
fn columns_of(line: &[u8], options: &codec::csv::ReadOptions) -> usize {
    let mut quoted = false;
    let mut count = 1;
    for byte in line {
        if Some(*byte) == options.quote {
            quoted = !quoted;
        } else if *byte == options.field_delimiter && !quoted {
            count += 1;
        }
    }
    count
}

fn clean_name(text: &str) -> String {
    let name: String = text.trim().chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_guessed() {
        let text = "{\"a\":1,\"r\":{\"x\":[1.5]}}\n{\"a\":2.5,\"d\":\"2024-01-01\"}\n";
        let schema = json(&mut text.as_bytes()).unwrap();
        let kinds: Vec<_> = schema.fields.iter().map(|f| (f.name.as_str(), f.kind)).collect();
        assert_eq!(kinds, [("a", FieldType::Float64), ("r", FieldType::Struct), ("d", FieldType::Date)]);
        assert_eq!(schema.fields[1].fields[0].mode, Mode::Repeated);
    }

    #[test]
    fn a_header_is_seen_by_its_types() {
        let guess = |text: &'static str| {
            let (schema, skip) = csv(&mut || Ok(text.as_bytes()), &codec::csv::ReadOptions::default()).unwrap();
            (schema.fields.iter().map(|f| format!("{}:{}", f.name, f.kind)).collect::<Vec<_>>(), skip)
        };
        assert_eq!(guess("id,\"na,me\"\n1,x\n2.5,\n"), (vec!["id:FLOAT64".into(), "na_me:STRING".into()], 1));
        assert_eq!(guess("a,b\nc,d\n").1, 0);
        assert_eq!(guess("1,true\n").0, ["int64_field_0:INT64", "bool_field_1:BOOL"]);
    }
}
