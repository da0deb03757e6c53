//! Arrow columns into CSV in the form of BigQuery's extracts.

use std::io::Write;

use arrow::array::{Array, RecordBatch};

use super::read::flat;
use crate::codec::CodecError;
use crate::codec::cast::conform;
use crate::codec::text::write_scalar;
use crate::model::schema::{FieldType, Schema};

const CHUNK_BYTES: usize = 256 << 10;

/// How a file is written.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    pub field_delimiter: u8,
    /// Begin with a line of the columns' names.
    pub print_header: bool,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { field_delimiter: b',', print_header: true }
    }
}

/// Writes batches of a flat table's Arrow schema as lines. NULL is an empty field, an empty text is `""`.
pub struct Writer<W: Write> {
    output: W,
    table: Schema,
    options: WriterOptions,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes the header, if one is wanted.
    ///
    /// # Errors
    /// When the table has records or arrays.
    pub fn new(output: W, table: &Schema, options: WriterOptions) -> Result<Self, CodecError> {
        flat(table)?;
        let mut buffer = Vec::new();
        if options.print_header {
            for (at, field) in table.fields.iter().enumerate() {
                if at > 0 {
                    buffer.push(options.field_delimiter);
                }
                put(field.name.as_bytes(), options.field_delimiter, &mut buffer);
            }
            buffer.push(b'\n');
        }
        Ok(Self { output, table: table.clone(), options, buffer })
    }

    /// Writes the rows of a batch. Its columns are those of the table, in order.
    ///
    /// # Errors
    /// When the batch has other columns, a null stands in a REQUIRED one, or the output fails.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), CodecError> {
        let batch = conform(batch, &self.table)?;
        let delimiter = self.options.field_delimiter;
        let mut text = Vec::new();
        for row in 0..batch.num_rows() {
            for (at, (field, array)) in self.table.fields.iter().zip(batch.columns()).enumerate() {
                if at > 0 {
                    self.buffer.push(delimiter);
                }
                if array.is_null(row) {
                    continue;
                }
                text.clear();
                write_scalar(field, array, row, &mut text);
                let empty = text.is_empty() && matches!(field.kind, FieldType::String | FieldType::Bytes);
                if empty {
                    self.buffer.extend_from_slice(b"\"\"");
                } else {
                    put(&text, delimiter, &mut self.buffer);
                }
            }
            self.buffer.push(b'\n');
            if self.buffer.len() >= CHUNK_BYTES {
                self.output.write_all(&self.buffer)?;
                self.buffer.clear();
            }
        }
        Ok(())
    }

    /// Writes what is left and hands the output back.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(mut self) -> Result<W, CodecError> {
        self.output.write_all(&self.buffer)?;
        self.output.flush()?;
        Ok(self.output)
    }
}

/// A field, in quotes where it holds what would end it.
fn put(text: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    let special = |b: &u8| *b == delimiter || matches!(b, b'"' | b'\n' | b'\r');
    if !text.iter().any(special) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}
