//! Rows of a database as the codec's machinery knows them: what type a column has, its rows as Arrow, their figures, a Parquet file.
//!
//! SQLite types values, not columns. A column gets the type that every value in it has; where values are of several, it is a text of
//! the literals that SQLite's `quote()` gives, in which no two different values are the same.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::open::{failed, quoted};
use crate::codec::CodecError;
use crate::codec::columns::Columns;
use crate::codec::parquet;
use crate::manifest::TableFigures;
use crate::model::schema::{Field, FieldType, Schema};
use crate::model::{Failure, Totals};
use crate::plan::figures::{Figures, Taker};

/// Rows of a batch, and bytes after which one is ended earlier.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 8 << 20;
/// Integers up to this are the same as floating point numbers.
const EXACT: i64 = 1 << 53;

/// A table's figures, and the file in which its rows are.
pub struct Exported {
    pub figures: TableFigures,
    /// The statement that makes it.
    pub sql: String,
    pub file: Option<PathBuf>,
    pub notes: Vec<String>,
}

/// What a database holds, by kind.
#[derive(Default)]
pub struct Tables {
    pub ordinary: Vec<String>,
    pub virtuals: Vec<String>,
}

/// Why rows could not be read or written.
pub enum Broken {
    Sqlite(rusqlite::Error),
    Codec(CodecError),
    Io(std::io::Error),
}

impl Broken {
    pub fn of(self, path: &Path, table: &str) -> Failure {
        let object = format!("{}: table {table}", path.display());
        match self {
            Self::Sqlite(error) => failed(path, &error),
            Self::Codec(error) => Failure::Invalid { object, message: error.to_string() },
            Self::Io(error) => super::open::local(error),
        }
    }
}

impl From<rusqlite::Error> for Broken {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<CodecError> for Broken {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

impl Tables {
    pub fn notes(&self, path: &Path) -> Vec<String> {
        let path = path.display();
        let virtuals = self.virtuals.iter();
        virtuals
            .map(|name| format!("{path}: {name} is a virtual table: it is in the database, not among its tables"))
            .collect()
    }
}

/// The tables, in the order of their names.
pub fn tables(connection: &Connection) -> rusqlite::Result<Tables> {
    let sql = "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut tables = Tables::default();
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match row.get::<_, String>(1)?.as_str() {
            "table" => tables.ordinary.push(row.get(0)?),
            "virtual" => tables.virtuals.push(row.get(0)?),
            _ => {}
        }
    }
    Ok(tables)
}

/// Checks a whole database: its pages, its indexes, its constraints.
///
/// # Errors
/// `Corrupt` with the first that is wrong.
pub fn check(connection: &Connection, path: &Path) -> Result<(), Failure> {
    let found: rusqlite::Result<Vec<String>> = connection
        .prepare("PRAGMA integrity_check(10)")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect());
    let found = found.map_err(|error| failed(path, &error))?;
    if found.len() == 1 && found[0] == "ok" {
        return Ok(());
    }
    let message = format!(
        "fails its integrity check: {}; hint: restore it from a backup, or save what is left: sqlite3 FILE .recover",
        found.join("; ")
    );
    Err(Failure::Corrupt { object: path.display().to_string(), message })
}

/// Reads a table: what types its columns have, its figures, and its rows as Parquet where `to` is given.
pub fn export(connection: &Connection, table: &str, to: Option<&Path>) -> Result<Exported, Broken> {
    let sql: Option<String> =
        connection
            .query_row("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1", [table], |row| row.get(0))?;
    let (schema, quoted, notes) = schema(connection, table)?;
    let mut figures =
        TableFigures { table: table.into(), totals: Figures::of(&schema).totals(&schema), schema, quoted };
    let mut writer = match to.filter(|_| !figures.schema.fields.is_empty()) {
        Some(to) => {
            let file = File::create(to).map_err(Broken::Io)?;
            Some(parquet::Writer::new(file, &figures.schema, parquet::Compression::Zstd)?)
        }
        None => None,
    };
    figures.totals = read(connection, &figures, writer.as_mut())?;
    if let Some(writer) = writer {
        writer.finish()?;
    }
    let file = to.map(Path::to_path_buf);
    Ok(Exported { figures, sql: sql.unwrap_or_default(), file, notes })
}

/// The figures of a table as it was read before.
pub fn of_schema(connection: &Connection, table: &TableFigures) -> Result<Totals, Broken> {
    read(connection, table, None)
}

fn read(
    connection: &Connection,
    table: &TableFigures,
    mut writer: Option<&mut parquet::Writer<File>>,
) -> Result<Totals, Broken> {
    let schema = &table.schema;
    let columns: Vec<String> = schema
        .fields
        .iter()
        .map(|field| match table.quoted.contains(&field.name) {
            true => format!("quote({})", quoted(&field.name)),
            false => quoted(&field.name),
        })
        .collect();
    let what = if columns.is_empty() { "NULL".into() } else { columns.join(", ") };
    let mut statement = connection.prepare(&format!("SELECT {what} FROM main.{}", quoted(&table.table)))?;
    let (taker, mut figures) = (Taker::new(schema), Figures::of(schema));
    let mut batch = Columns::new(schema);
    let mut rows = statement.query([])?;
    let mut number = 0_u64;
    loop {
        let row = rows.next()?;
        let full =
            batch.rows() >= BATCH_ROWS || (batch.rows().is_multiple_of(64) && batch.memory_bytes() >= BATCH_BYTES);
        if (row.is_none() || full) && batch.rows() > 0 {
            let batch = batch.finish()?;
            taker.take(&mut figures, &batch)?;
            if let Some(writer) = &mut writer {
                writer.write(&batch)?;
            }
        }
        let Some(row) = row else { return Ok(figures.totals(schema)) };
        number += 1;
        for (at, field) in schema.fields.iter().enumerate() {
            let pushed = push(&mut batch, at, row, field)?;
            pushed.map_err(|message| CodecError::Value { row: number, column: field.name.clone(), message })?;
        }
        batch.end_row();
    }
}

fn push(batch: &mut Columns, at: usize, row: &Row<'_>, field: &Field) -> rusqlite::Result<Result<(), String>> {
    let column = &mut batch.columns[at];
    let other = |what: &str| Err(format!("is {what}, in a column that was read as {}", field.kind));
    Ok(match (row.get_ref(at)?, field.kind) {
        (ValueRef::Null, _) => column.push_null(),
        (ValueRef::Integer(number), FieldType::Int64) => column.push_int(number),
        (ValueRef::Integer(number), FieldType::Bool) if number == 0 || number == 1 => column.push_bool(number == 1),
        (ValueRef::Integer(number), FieldType::Float64) if (-EXACT..=EXACT).contains(&number) => {
            column.push_float(number as f64)
        }
        (ValueRef::Real(number), FieldType::Float64) => column.push_float(number),
        (ValueRef::Text(text), FieldType::String | FieldType::Bytes) => column.push_bytes(text),
        (ValueRef::Text(text), FieldType::Date | FieldType::DateTime) => match std::str::from_utf8(text) {
            Ok(text) => column.push_text(text),
            Err(_) => other("a text that is no UTF-8"),
        },
        (ValueRef::Blob(bytes), FieldType::Bytes) => column.push_bytes(bytes),
        (value, _) => other(match value {
            ValueRef::Integer(_) => "an integer",
            ValueRef::Real(_) => "a floating point number",
            ValueRef::Text(_) => "a text",
            _ => "bytes",
        }),
    })
}

/// The columns with the types that their values have, those that are read as literals, and what is to be said of them.
fn schema(connection: &Connection, table: &str) -> Result<(Schema, Vec<String>, Vec<String>), Broken> {
    let mut declared: Vec<(String, String)> = Vec::new();
    let mut statement =
        connection.prepare("SELECT name, type FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1 ORDER BY cid")?;
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        declared.push((row.get(0)?, row.get(1)?));
    }
    let (mut fields, mut literal, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for (name, declared) in declared {
        if name.is_empty() {
            notes.push("a column without a name is in the database, not in its table".into());
            continue;
        }
        let values = Values::of(connection, table, &name, &declared)?;
        let kind = values.kind(&declared);
        if kind.is_none() {
            literal.push(name.clone());
            notes.push(format!("column {name} holds {}: read as SQL literals", values.shown()));
        } else if values.texts > 0 && kind == Some(FieldType::Bytes) {
            notes.push(format!("column {name} holds texts that are no UTF-8: read as bytes"));
        }
        fields.push(Field::nullable(name, kind.unwrap_or(FieldType::String)));
    }
    Ok((Schema::new(fields), literal, notes))
}

/// What values a column has.
struct Values {
    integers: u64,
    reals: u64,
    texts: u64,
    blobs: u64,
    /// Integers beyond what a floating point number holds exactly, and those that are neither 0 nor 1.
    large: u64,
    not_bool: u64,
    /// Texts that are not a date, not a date and time, in SQLite's own form.
    not_date: u64,
    not_datetime: u64,
    not_utf8: bool,
}

impl Values {
    fn of(connection: &Connection, table: &str, column: &str, declared: &str) -> rusqlite::Result<Self> {
        let (c, table) = (quoted(column), quoted(table));
        let count = |condition: &str| format!("count(*) FILTER (WHERE {condition})");
        let kinds = ["integer", "real", "text", "blob"].map(|kind| count(&format!("typeof({c}) = '{kind}'")));
        // Only what is asked for costs time.
        let dates = declared.to_ascii_uppercase();
        let date = |form: &str, wanted: bool| match wanted {
            true => count(&format!("typeof({c}) = 'text' AND ({form}({c}) IS NOT {c} OR {c} < '0001')")),
            false => "1".into(),
        };
        let sql = format!(
            "SELECT {}, {}, {}, {}, {} FROM main.{table}",
            kinds.join(", "),
            count(&format!("typeof({c}) = 'integer' AND {c} NOT BETWEEN -{EXACT} AND {EXACT}")),
            count(&format!("typeof({c}) = 'integer' AND {c} NOT IN (0, 1)")),
            date("date", dates.contains("DATE") && !dates.contains("TIME")),
            date("datetime", dates.contains("DATETIME") || dates.contains("TIMESTAMP")),
        );
        let mut values = connection.query_row(&sql, [], |row| {
            let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
            Ok(Self {
                integers: number(0)?,
                reals: number(1)?,
                texts: number(2)?,
                blobs: number(3)?,
                large: number(4)?,
                not_bool: number(5)?,
                not_date: number(6)?,
                not_datetime: number(7)?,
                not_utf8: false,
            })
        })?;
        if values.texts > 0 {
            values.not_utf8 = has_other_than_utf8(connection, &c, &table)?;
        }
        Ok(values)
    }

    /// The type that holds every value without loss; `None` when only their literals do.
    fn kind(&self, declared: &str) -> Option<FieldType> {
        let declared = declared.to_ascii_uppercase();
        match (self.integers > 0, self.reals > 0, self.texts > 0, self.blobs > 0) {
            (false, false, false, false) => Some(of_declared(&declared)),
            (true, false, false, false) if declared.contains("BOOL") && self.not_bool == 0 => Some(FieldType::Bool),
            (true, false, false, false) => Some(FieldType::Int64),
            (integers, true, false, false) => (!integers || self.large == 0).then_some(FieldType::Float64),
            (false, false, true, false) if self.not_utf8 => Some(FieldType::Bytes),
            (false, false, true, false) if self.not_date == 0 => Some(FieldType::Date),
            (false, false, true, false) if self.not_datetime == 0 => Some(FieldType::DateTime),
            (false, false, true, false) => Some(FieldType::String),
            (false, false, false, true) => Some(FieldType::Bytes),
            _ => None,
        }
    }

    fn shown(&self) -> String {
        let kinds =
            [(self.integers, "integers"), (self.reals, "numbers"), (self.texts, "texts"), (self.blobs, "bytes")];
        let there: Vec<&str> = kinds.iter().filter(|(n, _)| *n > 0).map(|(_, kind)| *kind).collect();
        there.join(" and ")
    }
}

/// SQLite does not check that its texts are UTF-8.
fn has_other_than_utf8(connection: &Connection, column: &str, table: &str) -> rusqlite::Result<bool> {
    let mut statement =
        connection.prepare(&format!("SELECT {column} FROM main.{table} WHERE typeof({column}) = 'text'"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let ValueRef::Text(text) = row.get_ref(0)?
            && std::str::from_utf8(text).is_err()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The type of a column without values, by SQLite's rules of affinity (<https://sqlite.org/datatype3.html#determination_of_column_affinity>).
fn of_declared(declared: &str) -> FieldType {
    let has = |part: &str| declared.contains(part);
    match () {
        () if has("INT") => FieldType::Int64,
        () if has("CHAR") || has("CLOB") || has("TEXT") => FieldType::String,
        () if has("BLOB") || declared.is_empty() => FieldType::Bytes,
        () if has("REAL") || has("FLOA") || has("DOUB") => FieldType::Float64,
        () if has("BOOL") => FieldType::Bool,
        () if has("DATETIME") || has("TIMESTAMP") => FieldType::DateTime,
        () if has("DATE") => FieldType::Date,
        () => FieldType::Float64,
    }
}
