//! Arrow columns into JSON Lines in the form of BigQuery's extracts.
// https://cloud.google.com/bigquery/docs/exporting-data: integers and decimals are texts; `<`, `>`, `&` are escaped.

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;

use crate::codec::CodecError;
use crate::codec::arrow_schema::children;
use crate::codec::cast::conform;
use crate::codec::text::write_scalar;
use crate::codec::value;
use crate::model::schema::{Field, FieldType, Mode, Schema};

/// Lines are handed to the output when so many bytes have come together.
const CHUNK_BYTES: usize = 256 << 10;

/// Writes batches of a table's Arrow schema as lines. Members that are NULL are left out.
pub struct Writer<W: Write> {
    output: W,
    table: Schema,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub fn new(output: W, table: &Schema) -> Self {
        Self { output, table: table.clone(), buffer: Vec::new() }
    }

    /// Writes the rows of a batch. Its columns are those of the table, in order.
    ///
    /// # Errors
    /// When the batch has other columns, a null stands in a REQUIRED one, or the output fails.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), CodecError> {
        let batch = conform(batch, &self.table)?;
        for row in 0..batch.num_rows() {
            write_record(&self.table.fields, batch.columns(), row, &mut self.buffer);
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

fn write_record(fields: &[Field], arrays: &[ArrayRef], row: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut first = true;
    for (field, array) in fields.iter().zip(arrays) {
        if array.is_null(row) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        write_text(&field.name, out);
        out.push(b':');
        write_value(field, array, row, out);
    }
    out.push(b'}');
}

fn write_value(field: &Field, array: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    if field.mode == Mode::Repeated {
        let list = array.as_list::<i32>();
        let element = Field { mode: Mode::Required, ..field.clone() };
        let (start, end) = (list.value_offsets()[row], list.value_offsets()[row + 1]);
        out.push(b'[');
        for at in start..end {
            if at > start {
                out.push(b',');
            }
            write_value(&element, list.values(), at as usize, out);
        }
        out.push(b']');
        return;
    }
    match field.kind {
        FieldType::Struct | FieldType::Range => {
            write_record(&children(field), array.as_struct().columns(), row, out);
        }
        FieldType::Bool => write_scalar(field, array, row, out),
        FieldType::Float64 if array.as_primitive::<Float64Type>().value(row).is_finite() => {
            write_scalar(field, array, row, out);
        }
        FieldType::Json => {
            let start = out.len();
            write_scalar(field, array, row, out);
            escape_markup(start, out);
        }
        FieldType::String | FieldType::Geography | FieldType::Interval => {
            write_text(array.as_string::<i32>().value(row), out);
        }
        // The texts of all others need no escape.
        _ => {
            out.push(b'"');
            write_scalar(field, array, row, out);
            out.push(b'"');
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    value::write_json_string(text, out);
    escape_markup(start, out);
}

/// `<`, `>` and `&` as `\u003c`, `\u003e`, `\u0026`; in JSON they stand only inside strings.
fn escape_markup(start: usize, out: &mut Vec<u8>) {
    if !out[start..].iter().any(|b| matches!(b, b'<' | b'>' | b'&')) {
        return;
    }
    let written = out.split_off(start);
    for byte in written {
        match byte {
            b'<' => out.extend_from_slice(b"\\u003c"),
            b'>' => out.extend_from_slice(b"\\u003e"),
            b'&' => out.extend_from_slice(b"\\u0026"),
            _ => out.push(byte),
        }
    }
}
