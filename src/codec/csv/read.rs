//! CSV records into Arrow columns.
// https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-csv#csv-options

use std::borrow::Cow;
use std::io::BufRead;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::records::{Dialect, Record, Records};
use crate::codec::CodecError;
use crate::codec::columns::{Column, Columns};
use crate::model::schema::{FieldType, Mode, Schema};

/// How a file is read; the names are those of a load job's configuration.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// A batch ends after so many rows ...
    pub batch_rows: usize,
    /// ... or after about so many bytes.
    pub batch_bytes: usize,
    /// One byte of ASCII.
    pub field_delimiter: u8,
    /// One byte of ASCII; `None` where quotes mean nothing.
    pub quote: Option<u8>,
    pub skip_leading_rows: u64,
    /// Missing trailing columns are NULL.
    pub allow_jagged_rows: bool,
    pub allow_quoted_newlines: bool,
    /// Extra trailing columns are passed over.
    pub ignore_unknown_values: bool,
    /// An unquoted field of this text is NULL. By default that is the empty one.
    pub null_marker: String,
    /// So many bad rows are passed over before one is an error; they can be asked for.
    pub max_bad_records: u64,
    /// `encoding: ISO-8859-1`; otherwise UTF-8.
    pub latin1: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            batch_rows: 8192,
            batch_bytes: 16 << 20,
            field_delimiter: b',',
            quote: Some(b'"'),
            skip_leading_rows: 0,
            allow_jagged_rows: false,
            allow_quoted_newlines: false,
            ignore_unknown_values: false,
            null_marker: String::new(),
            max_bad_records: 0,
            latin1: false,
        }
    }
}

/// Iterates over rows as batches of the table's Arrow schema. Ends after the first error.
pub struct Reader<R> {
    records: Records<R>,
    record: Record,
    columns: Columns,
    options: ReadOptions,
    skipped: bool,
    bad: Vec<CodecError>,
    done: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads rows of a table of this schema.
    ///
    /// # Errors
    /// When the table has records or arrays.
    pub fn new(read: R, table: &Schema) -> Result<Self, CodecError> {
        Self::with_options(read, table, ReadOptions::default())
    }

    /// Reads rows with options.
    ///
    /// # Errors
    /// As [`Reader::new`].
    pub fn with_options(read: R, table: &Schema, options: ReadOptions) -> Result<Self, CodecError> {
        flat(table)?;
        let dialect = Dialect {
            delimiter: options.field_delimiter,
            quote: options.quote,
            quoted_newlines: options.allow_quoted_newlines,
        };
        Ok(Self {
            records: Records::new(read, dialect),
            record: Record::default(),
            columns: Columns::new(table),
            options,
            skipped: false,
            bad: Vec::new(),
            done: false,
        })
    }

    /// The schema of every batch.
    pub fn arrow_schema(&self) -> SchemaRef {
        self.columns.schema().clone()
    }

    /// The rows passed over so far, each with its line and reason.
    pub fn bad_records(&self) -> &[CodecError] {
        &self.bad
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, CodecError> {
        if !self.skipped {
            self.skipped = true;
            for _ in 0..self.options.skip_leading_rows {
                if self.records.next(&mut self.record)?.is_none() {
                    return Ok(None);
                }
            }
        }
        let mut taken = 0;
        while self.columns.rows() < self.options.batch_rows && taken < self.options.batch_bytes {
            let Some((line, shape)) = self.records.next(&mut self.record)? else { break };
            taken += self.record.bytes_len() + self.record.len();
            if self.record.is_blank() && self.columns.columns.len() != 1 {
                continue;
            }
            let read = shape
                .map_err(|message| CodecError::Row { row: line, message: message.to_owned() })
                .and_then(|()| read_row(&self.record, &mut self.columns.columns, &self.options, line));
            match read {
                Ok(()) => self.columns.end_row(),
                Err(error) => {
                    self.columns.abandon_row();
                    if self.bad.len() as u64 >= self.options.max_bad_records {
                        return Err(error);
                    }
                    self.bad.push(error);
                }
            }
        }
        if self.columns.rows() == 0 { Ok(None) } else { self.columns.finish().map(Some) }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<RecordBatch, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_batch().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// That CSV can carry the table.
pub(super) fn flat(table: &Schema) -> Result<(), CodecError> {
    let nested = table.fields.iter().find(|f| f.mode == Mode::Repeated || f.kind == FieldType::Struct);
    match nested {
        None => Ok(()),
        Some(field) => Err(CodecError::schema(
            &field.name,
            "CSV carries neither records nor arrays; hint: use Avro, Parquet or JSON",
        )),
    }
}

fn read_row(record: &Record, columns: &mut [Column], options: &ReadOptions, line: u64) -> Result<(), CodecError> {
    let (given, wanted) = (record.len(), columns.len());
    if given > wanted && !options.ignore_unknown_values {
        let message = format!("too many values: {given} for {wanted} columns");
        return Err(CodecError::Row { row: line, message });
    }
    if given < wanted && !options.allow_jagged_rows {
        let message = format!("too few values: {given} for {wanted} columns");
        return Err(CodecError::Row { row: line, message });
    }
    for (at, column) in columns.iter_mut().enumerate() {
        let pushed = if at < given { push(record.field(at), column, options) } else { column.push_null() };
        pushed.map_err(|message| CodecError::Value { row: line, column: column.field.name.clone(), message })?;
    }
    Ok(())
}

fn push((bytes, quoted): (&[u8], bool), column: &mut Column, options: &ReadOptions) -> Result<(), String> {
    let textual = matches!(column.field.kind, FieldType::String | FieldType::Bytes);
    if !quoted && bytes == options.null_marker.as_bytes() {
        return column.push_null();
    }
    // A quoted empty text is a text; there is no quoted empty number.
    if bytes.is_empty() && options.null_marker.is_empty() && !textual {
        return column.push_null();
    }
    if bytes.contains(&0) {
        return Err("holds the character NUL".to_owned());
    }
    let text = if options.latin1 {
        Cow::Owned(bytes.iter().map(|b| char::from(*b)).collect())
    } else {
        Cow::Borrowed(std::str::from_utf8(bytes).map_err(|_| "is not valid UTF-8".to_owned())?)
    };
    column.push_text(&text)
}
