//! JSON Lines into Arrow columns.
// https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-json

use std::collections::HashMap;
use std::io::BufRead;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::scan::{Broken, Scan};
use crate::codec::CodecError;
use crate::codec::columns::{Column, Columns, Data};
use crate::codec::lines::Lines;
use crate::codec::value::{self, Rounding};
use crate::model::schema::{Field, FieldType, Mode, Schema};

/// How lines are read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// A batch ends after so many rows ...
    pub batch_rows: usize,
    /// ... or after about so many bytes.
    pub batch_bytes: usize,
    /// Pass over members that are no columns.
    pub ignore_unknown_values: bool,
    /// So many bad rows are passed over before one is an error; they can be asked for.
    pub max_bad_records: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { batch_rows: 8192, batch_bytes: 16 << 20, ignore_unknown_values: false, max_bad_records: 0 }
    }
}

/// Iterates over rows as batches of the table's Arrow schema. Ends after the first error.
pub struct Reader<R> {
    lines: Lines<R>,
    columns: Columns,
    names: Names,
    options: ReadOptions,
    bad: Vec<CodecError>,
    done: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads rows of a table of this schema.
    pub fn new(read: R, table: &Schema) -> Self {
        Self::with_options(read, table, ReadOptions::default())
    }

    pub fn with_options(read: R, table: &Schema, options: ReadOptions) -> Self {
        let names = Names::new(&table.fields);
        Self { lines: Lines::new(read), columns: Columns::new(table), names, options, bad: Vec::new(), done: false }
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
        let mut taken = 0;
        while self.columns.rows() < self.options.batch_rows && taken < self.options.batch_bytes {
            let Some((number, line)) = self.lines.next()? else { break };
            taken += line.len();
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match read_row(line, &self.names, &mut self.columns.columns, self.options.ignore_unknown_values) {
                Ok(()) => self.columns.end_row(),
                Err(trouble) => {
                    self.columns.abandon_row();
                    let error = trouble.at(number);
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

/// Where the columns of a record are, by name and by lowercase name.
struct Names {
    at: HashMap<String, usize>,
    below: Vec<Option<Names>>,
}

impl Names {
    fn new(fields: &[Field]) -> Self {
        let mut at = HashMap::with_capacity(fields.len() * 2);
        for (position, field) in fields.iter().enumerate() {
            at.entry(field.name.to_lowercase()).or_insert(position);
        }
        for (position, field) in fields.iter().enumerate() {
            at.insert(field.name.clone(), position);
        }
        let below = fields.iter().map(|field| match field.kind {
            FieldType::Struct | FieldType::Range => Some(Self::new(&crate::codec::arrow_schema::children(field))),
            _ => None,
        });
        Self { at, below: below.collect() }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.at.get(name).or_else(|| self.at.get(name.to_lowercase().as_str())).copied()
    }
}

/// What is wrong with a row; the path grows on the way out.
struct Trouble {
    message: String,
    path: Vec<String>,
}

impl Trouble {
    fn at(mut self, row: u64) -> CodecError {
        if self.path.is_empty() {
            return CodecError::Row { row, message: self.message };
        }
        self.path.reverse();
        CodecError::Value { row, column: self.path.join("."), message: self.message }
    }

    fn below(mut self, name: &str) -> Self {
        self.path.push(name.to_owned());
        self
    }
}

impl From<Broken> for Trouble {
    fn from(message: Broken) -> Self {
        Self { message: message.to_owned(), path: Vec::new() }
    }
}

impl From<String> for Trouble {
    fn from(message: String) -> Self {
        Self { message, path: Vec::new() }
    }
}

fn read_row(line: &[u8], names: &Names, columns: &mut [Column], ignore_unknown: bool) -> Result<(), Trouble> {
    let text = std::str::from_utf8(line).map_err(|_| "the line is not valid UTF-8")?;
    let mut scan = Scan::new(text);
    if scan.peek() != Some(b'{') {
        return Err("the line is not a JSON object".into());
    }
    read_record(&mut scan, names, columns, ignore_unknown)?;
    match scan.peek() {
        None => Ok(()),
        Some(_) => Err("something follows the object".into()),
    }
}

fn read_record(scan: &mut Scan<'_>, names: &Names, columns: &mut [Column], ignore: bool) -> Result<(), Trouble> {
    // Every column has the same length before a row; what has grown has got its value.
    let before: Vec<usize> = columns.iter().map(Column::len).collect();
    scan.expect(b'{', "expected an object")?;
    let mut first = true;
    while !scan.eat(b'}') {
        if !first {
            scan.expect(b',', "expected a comma or the end of the object")?;
        }
        first = false;
        let name = scan.string()?;
        scan.expect(b':', "expected a colon after a name")?;
        let Some(at) = names.find(&name) else {
            if !ignore {
                return Err(Trouble::from(format!("no such field: {name}")));
            }
            scan.raw()?;
            continue;
        };
        let column = &mut columns[at];
        if column.len() != before[at] {
            return Err(Trouble::from("is given twice").below(&column.field.name));
        }
        let read = read_value(scan, names.below[at].as_ref(), column, ignore);
        if let Err(trouble) = read {
            return Err(trouble.below(&column.field.name));
        }
    }
    for (column, before) in columns.iter_mut().zip(before) {
        if column.len() == before {
            column.push_null().map_err(|e| Trouble::from(e).below(&column.field.name))?;
        }
    }
    Ok(())
}

fn read_value(scan: &mut Scan<'_>, below: Option<&Names>, column: &mut Column, ignore: bool) -> Result<(), Trouble> {
    let json = column.field.kind == FieldType::Json;
    let next = scan.peek().ok_or("the line ends within the object")?;
    // A null inside a JSON column that is REQUIRED or an array's element is JSON's own null.
    let json_null = json && column.field.mode == Mode::Required;
    if next == b'n' && !json_null && scan.word("null") {
        return Ok(column.push_null()?);
    }
    if column.field.mode == Mode::Repeated {
        return read_list(scan, below, column, ignore);
    }
    if json {
        let mut normal = Vec::new();
        value::normalise_json(scan.raw()?, &mut normal).map_err(|e| e.to_string())?;
        return Ok(column.push_bytes(&normal)?);
    }
    match (next, below) {
        (b'{', Some(names)) => {
            let Data::Struct(fields) = &mut column.data else { return Err("is no record".into()) };
            read_record(scan, names, fields, ignore)?;
            column.mark(true);
            Ok(())
        }
        (b'{', None) => Err("a JSON object is given for a field that is no record".into()),
        (b'[', _) => Err("a JSON array is given for a field that is not repeated".into()),
        (b'"', _) if column.field.kind == FieldType::Struct => Err("a text is given for a record".into()),
        (b'"', _) => {
            let text = scan.string()?;
            read_text(&text, column)
        }
        (b't' | b'f', _) => {
            let truth = next == b't';
            if !scan.word(if truth { "true" } else { "false" }) {
                return Err("expected a value".into());
            }
            match column.field.kind {
                FieldType::Bool => Ok(column.push_bool(truth)?),
                FieldType::String => Ok(column.push_bytes(if truth { b"true" } else { b"false" })?),
                kind => Err(format!("a boolean is no {kind}").into()),
            }
        }
        _ => {
            let number = scan.number()?;
            read_number(number, column)
        }
    }
}

fn read_list(scan: &mut Scan<'_>, below: Option<&Names>, column: &mut Column, ignore: bool) -> Result<(), Trouble> {
    scan.expect(b'[', "a repeated field must be given as a JSON array")?;
    let Data::List { item, .. } = &mut column.data else { return Err("is no list".into()) };
    let mut first = true;
    while !scan.eat(b']') {
        if !first {
            scan.expect(b',', "expected a comma or the end of the array")?;
        }
        first = false;
        if scan.peek() == Some(b'n') && item.field.kind != FieldType::Json {
            return Err("an array holds a null, which BigQuery cannot store".into());
        }
        read_value(scan, below, item, ignore)?;
    }
    Ok(column.end_list()?)
}

fn read_text(text: &str, column: &mut Column) -> Result<(), Trouble> {
    // `"1512131696.789"` is a TIMESTAMP as well.
    if column.field.kind == FieldType::Timestamp && !text.get(1..).unwrap_or_default().contains(['-', '/', ':']) {
        return read_number(text, column);
    }
    Ok(column.push_text(text)?)
}

fn read_number(number: &str, column: &mut Column) -> Result<(), Trouble> {
    match column.field.kind {
        // 1.0 and 1e3 are whole numbers as well.
        FieldType::Int64 => {
            if let Ok(whole) = number.parse() {
                return Ok(column.push_int(whole)?);
            }
            let whole = value::parse_decimal(number, 0, Rounding::Exact, "INT64").map_err(|e| e.to_string())?;
            let whole = whole.to_i128().and_then(|n| i64::try_from(n).ok());
            Ok(column.push_int(whole.ok_or("is out of range of INT64")?)?)
        }
        FieldType::Timestamp => {
            let micros = value::parse_decimal(number, 6, Rounding::HalfAwayFromZero, "TIMESTAMP");
            let micros = micros.map_err(|e| e.to_string())?.to_i128().and_then(|n| i64::try_from(n).ok());
            Ok(column.push_int(micros.ok_or("is out of range of TIMESTAMP")?)?)
        }
        FieldType::String => Ok(column.push_bytes(number.as_bytes())?),
        FieldType::Float64 | FieldType::Numeric | FieldType::BigNumeric => Ok(column.push_text(number)?),
        FieldType::Bool if matches!(number, "0" | "1") => Ok(column.push_bool(number == "1")?),
        kind => Err(format!("a number is no {kind}").into()),
    }
}
