//! Reads tables: their figures, and the files of those that are exported, in one pass over the rows.
//!
//! To be held against a dump, rows come as a dump holds them. Otherwise they come by binary COPY, are decoded on a thread of their own into batches of a few megabytes, and are gone when the
//! figures are taken and the file's bytes are on their way.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use arrow::record_batch::RecordBatch;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::mpsc::{Receiver, channel};
use tokio_postgres::Client;

use super::connect::{SESSION, connect, failure, literal};
use super::decode::{DecodeError, Decoder, Wire};
use super::inventory::{TableShape, execute};
use super::pipe::{PipeWriter, pipe};
use crate::codec::fingerprint::Hashes;
use crate::codec::{CodecError, avro, parquet, pg_dump};
use crate::config::TableFormat;
use crate::manifest::{ObjectRecord, PostgresTable};
use crate::model::schema::Schema;
use crate::model::{DatabaseUrl, DatasetId, Failure, Fingerprint, TableId, Totals};
use crate::plan::figures::{Figures, Taker};
use crate::source::streamed::Sink;

/// Rows are handed to the decoder in pieces of about this size.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for the decoder.
const WAITING: usize = 4;
/// A row group of an export, which is also what its writer holds in memory.
const GROUP_BYTES: usize = 32 << 20;

/// The settings that `pg_dump` makes in its session, as it is called here.
const AS_DUMPED: &str = "SET extra_float_digits = 3; SET quote_all_identifiers = on";

/// How tables are read.
pub(super) struct Reading<'a> {
    pub url: &'a DatabaseUrl,
    /// The exported snapshot; `None`: the present.
    pub snapshot: Option<&'a str>,
    /// Connections at once.
    pub parallel: usize,
    pub taken: &'a (dyn Fn(&TableShape) -> Taken + Sync),
    /// The settings under which the dump was written that rows are held against.
    pub settings: &'a BTreeMap<String, String>,
    pub export: Option<Export<'a>>,
    pub progress: &'a (dyn Fn(usize, usize, &str) + Sync),
}

/// What is taken of a table, if it is not exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Count,
    /// Its rows' fingerprint as in a dump.
    Rows,
    /// The fingerprint and totals of its values.
    Totals,
}

/// Where files of tables go.
#[derive(Clone, Copy)]
pub(super) struct Export<'a> {
    pub format: TableFormat,
    /// The source's name, which is the first part of a table's id.
    pub source: &'a str,
    pub sink: &'a dyn Sink,
}

impl Export<'_> {
    /// The format of a table's file: Avro does not hold every name of a column.
    fn of(&self, columns: &Schema) -> TableFormat {
        match self.format {
            TableFormat::Avro if avro::Writer::new(std::io::sink(), columns, avro::Codec::Snappy, true).is_err() => {
                TableFormat::Parquet
            }
            format => format,
        }
    }
}

/// A table's id; `None` when it cannot be exported: its name is none of a table that can be queried, or it has no columns.
pub(super) fn table_id(source: &str, shape: &TableShape) -> Option<TableId> {
    let dataset = DatasetId::new(source, &shape.schema).ok()?;
    dataset.table(&shape.table).ok().filter(|_| !shape.columns.is_empty())
}

/// A table that was read.
pub(super) struct ReadTable {
    pub table: PostgresTable,
    pub shape: TableShape,
    pub export: Option<(TableFormat, ObjectRecord)>,
}

impl ReadTable {
    /// A table of which nothing was read yet.
    pub fn of(shape: TableShape) -> Self {
        let table = PostgresTable {
            schema: shape.schema.clone(),
            table: shape.table.clone(),
            row_count: 0,
            size_bytes: shape.size_bytes,
            columns: shape.columns(),
            fingerprint: None,
            proof: None,
        };
        Self { table, shape, export: None }
    }
}

impl Reading<'_> {
    /// Reads all tables; they come back in their order.
    ///
    /// # Errors
    /// The first that came.
    pub async fn all(&self, tables: Vec<TableShape>) -> Result<Vec<ReadTable>, Failure> {
        let total = tables.len();
        let mut order: Vec<(usize, TableShape)> = tables.into_iter().enumerate().collect();
        // The largest first: none of them is left alone at the end.
        order.sort_by_key(|(_, table)| std::cmp::Reverse(table.size_bytes));
        let workers = self.parallel.clamp(1, total.max(1));
        let (queue, done) = (Mutex::new(VecDeque::from(order)), Mutex::new(Vec::with_capacity(total)));
        let work = async || -> Result<(), Failure> {
            let mut client: Option<Client> = None;
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((at, shape)) = next else { return Ok(()) };
                let read = match &client {
                    Some(client) => self.table(client, shape).await?,
                    None => self.table(client.insert(self.connect().await?), shape).await?,
                };
                let count = {
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((at, read));
                    done.len()
                };
                (self.progress)(count, total, "tables");
            }
        };
        futures::future::try_join_all((0..workers).map(|_| work())).await?;
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(at, _)| *at);
        Ok(done.into_iter().map(|(_, read)| read).collect())
    }

    async fn connect(&self) -> Result<Client, Failure> {
        let client = connect(self.url).await?;
        execute(&client, self.url, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        if let Some(snapshot) = self.snapshot {
            execute(&client, self.url, &format!("SET TRANSACTION SNAPSHOT {}", literal(snapshot))).await?;
        }
        Ok(client)
    }

    /// Reads one table. A column whose type does not hold one of its values (NaN, infinity, a year before Christ) is read
    /// as text, and the table from its beginning.
    async fn table(&self, client: &Client, mut shape: TableShape) -> Result<ReadTable, Failure> {
        loop {
            match self.pass(client, &shape).await? {
                Ok(Passed { row_count, fingerprint, proof, export }) => {
                    let mut read = ReadTable::of(shape);
                    (read.table.row_count, read.table.fingerprint, read.table.proof) = (row_count, fingerprint, proof);
                    return Ok(ReadTable { export, ..read });
                }
                Err((column, message)) => {
                    let name = shape.columns.get(column).map(|column| column.name.clone()).unwrap_or_default();
                    if !shape.as_text(column) {
                        let object = format!("{} of {}", shape.full_name(), self.url);
                        return Err(Failure::Corrupt { object, message: format!("column {name}: {message}") });
                    }
                }
            }
        }
    }

    /// One pass over the rows; gives the column that has to be text, when there is one.
    async fn pass(&self, client: &Client, shape: &TableShape) -> Result<Result<Passed, (usize, String)>, Failure> {
        let object = format!("{} of {}", shape.full_name(), self.url);
        let export = self.export.filter(|export| table_id(export.source, shape).is_some());
        match (self.taken)(shape) {
            Taken::Count if export.is_none() => {
                let sql = format!("SELECT pg_catalog.count(*)::pg_catalog.text FROM ONLY {}", shape.sql_name());
                let count = super::inventory::text(client, self.url, &sql).await?;
                return Ok(Ok(Passed { row_count: count.parse().unwrap_or(0), ..Passed::default() }));
            }
            Taken::Rows if export.is_none() => return self.rows(client, shape).await.map(Ok),
            _ => {}
        }
        let told = |error: tokio_postgres::Error| failure(self.url, &error);
        let rows = client.copy_out(&shape.copy_sql()).await.map_err(told)?;
        let (send, receive) = channel::<Bytes>(WAITING);
        let feed = async move {
            let mut rows = std::pin::pin!(rows);
            let mut piece = BytesMut::with_capacity(PIECE_BYTES + 4096);
            let mut wanted = true;
            // What is not read would stand in the way of the next statement.
            while let Some(row) = rows.next().await {
                if !wanted {
                    row?;
                    continue;
                }
                piece.extend_from_slice(&row?);
                if piece.len() >= PIECE_BYTES {
                    wanted = send.send(piece.split().freeze()).await.is_ok();
                    piece.reserve(PIECE_BYTES + 4096);
                }
            }
            if wanted && !piece.is_empty() {
                let _ = send.send(piece.freeze()).await; // the decoder says why it wants no more
            }
            Ok::<(), tokio_postgres::Error>(())
        };
        let (columns, wires) = (shape.columns(), shape.wires());
        let Some(export) = export else {
            let thread = tokio::task::spawn_blocking(move || decode(receive, &columns, wires, None));
            let (fed, decoded) = tokio::join!(feed, thread);
            fed.map_err(told)?;
            return finish(&object, decoded).map(|decoded| decoded.map(Passed::of));
        };
        let format = export.of(&columns);
        let (writer, stream) = pipe(object.clone());
        let thread = tokio::task::spawn_blocking(move || decode(receive, &columns, wires, Some((format, writer))));
        let name = format!("tables/{}/{}/part-000000000000.{}", shape.schema, shape.table, format.extension());
        let (fed, decoded, stored) = tokio::join!(feed, thread, export.sink.stream(&name, stream));
        fed.map_err(told)?;
        if matches!(&decoded, Ok(Err(DecodeError::Taken(CodecError::Io(_))))) {
            stored?; // nobody took the file's bytes any more: who should have says why
            return Err(Failure::Transient { object, message: "its file was not written to its end".into() });
        }
        match finish(&object, decoded)? {
            Ok(totals) => {
                let mut stored = stored?;
                stored.row_count = Some(totals.row_count);
                Ok(Ok(Passed { export: Some((format, stored)), ..Passed::of(totals) }))
            }
            // Its stream has ended with a failure, so there is no object.
            Err(unfit) => Ok(Err(unfit)),
        }
    }

    /// The figures of the rows in the form that a dump has.
    async fn rows(&self, client: &Client, shape: &TableShape) -> Result<Passed, Failure> {
        execute(client, self.url, AS_DUMPED).await?;
        for (name, value) in self.settings {
            let sql = format!("SELECT pg_catalog.set_config({}, {}, false)", literal(name), literal(value));
            execute(client, self.url, &sql).await?;
        }
        let told = |error: tokio_postgres::Error| failure(self.url, &error);
        let mut sent = std::pin::pin!(client.copy_out(&shape.text_sql()).await.map_err(told)?);
        let mut rows = pg_dump::Rows::default();
        while let Some(row) = sent.next().await {
            rows.feed(&row.map_err(told)?);
        }
        execute(client, self.url, SESSION).await?;
        let object = format!("{} of {}", shape.full_name(), self.url);
        let rows = rows.finish().map_err(|error| Failure::Corrupt { object, message: error.to_string() })?;
        Ok(Passed { row_count: rows.count, fingerprint: Some(fingerprint(&rows)), ..Passed::default() })
    }
}

/// The fingerprint of a dump's rows, as it is recorded.
pub(super) fn fingerprint(rows: &Hashes) -> Fingerprint {
    Fingerprint { xor: rows.xor, sum: rows.sum, buckets: None }
}

type Decoded = Result<Totals, DecodeError>;
/// What one pass gave.
#[derive(Default)]
struct Passed {
    row_count: u64,
    fingerprint: Option<Fingerprint>,
    proof: Option<Totals>,
    export: Option<(TableFormat, ObjectRecord)>,
}

impl Passed {
    fn of(totals: Totals) -> Self {
        Self { row_count: totals.row_count, proof: Some(totals), ..Self::default() }
    }
}

fn finish(
    object: &str,
    decoded: Result<Decoded, tokio::task::JoinError>,
) -> Result<Result<Totals, (usize, String)>, Failure> {
    let corrupt = |message: String| Failure::Corrupt { object: object.into(), message };
    match decoded.map_err(|error| corrupt(error.to_string()))? {
        Ok(totals) => Ok(Ok(totals)),
        Err(DecodeError::Unfit { column, message }) => Ok(Err((column, message))),
        Err(DecodeError::Broken(message)) => Err(corrupt(format!("the rows that the server sent: {message}"))),
        Err(DecodeError::Taken(error)) => Err(corrupt(error.to_string())),
    }
}

enum FileWriter {
    Parquet(Box<parquet::Writer<PipeWriter>>),
    Avro(Box<avro::Writer<PipeWriter>>),
}

impl FileWriter {
    fn new(format: TableFormat, output: PipeWriter, columns: &Schema) -> Result<Self, CodecError> {
        Ok(match format {
            TableFormat::Parquet => {
                let options = parquet::WriterOptions {
                    compression: parquet::Compression::Zstd,
                    group_bytes: GROUP_BYTES,
                    ..parquet::WriterOptions::default()
                };
                Self::Parquet(Box::new(parquet::Writer::with_options(output, columns, options)?))
            }
            TableFormat::Avro => Self::Avro(Box::new(avro::Writer::new(output, columns, avro::Codec::Snappy, true)?)),
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), CodecError> {
        match self {
            Self::Parquet(writer) => writer.write(batch),
            Self::Avro(writer) => writer.write(batch),
        }
    }

    fn finish(self) -> Result<(), CodecError> {
        let mut output = match self {
            Self::Parquet(writer) => writer.finish()?,
            Self::Avro(writer) => writer.finish()?,
        };
        output.flush().and_then(|()| output.end()).map_err(CodecError::Io)
    }
}

/// On a thread of its own: bytes to figures, and to a file. The file is not ended when anything fails.
fn decode(
    mut pieces: Receiver<Bytes>,
    columns: &Schema,
    wires: Vec<Wire>,
    file: Option<(TableFormat, PipeWriter)>,
) -> Decoded {
    let mut file = match file {
        Some((format, output)) => Some(FileWriter::new(format, output, columns).map_err(DecodeError::Taken)?),
        None => None,
    };
    let taker = Taker::new(columns);
    let mut figures = Figures::of(columns);
    let mut take = |batch: RecordBatch| -> Result<(), CodecError> {
        taker.take(&mut figures, &batch)?;
        file.as_mut().map_or(Ok(()), |file| file.write(&batch))
    };
    let mut decoder = Decoder::new(columns, wires);
    while let Some(piece) = pieces.blocking_recv() {
        decoder.feed(&piece, &mut take)?;
    }
    decoder.finish(&mut take)?;
    if let Some(file) = file {
        file.finish().map_err(DecodeError::Taken)?;
    }
    Ok(figures.totals(columns))
}
