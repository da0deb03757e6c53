//! Reads stored files: digests of their bytes, figures of their rows.
//!
//! A file of a directory is read in place, one of a bucket is spooled: Parquet is read from its end. Row groups, or
//! batches where a file has too few groups, are spread over the cores; what is in memory is a batch a thread.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{ChunkReader, Length};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::Semaphore;

use crate::codec::digest::Digester;
use crate::codec::{CodecError, avro, parquet};
use crate::config::TableFormat;
use crate::google::bigquery::QueryResult;
use crate::google::storage::WHOLE_READS;
use crate::model::schema::{Field, FieldType, Mode, Schema};
use crate::model::{Digests, Failure, TableId, Totals};
use crate::plan::figures::{Figures, Taker};
use crate::plan::proof;
use crate::store::Store;

/// Files that are decoded at once: each takes all cores.
static DECODING: Semaphore = Semaphore::const_new(2);
/// More threads than this wait for the disk.
const MAX_THREADS: usize = 8;
/// Batches that wait for a free thread.
const WAITING: usize = 2;
/// A file up to this size is read where it is asked for: it is done before threads for it have begun.
const SMALL_BYTES: u64 = 64 << 10;

/// Reads the files of one table, one after the other.
pub struct TableReader {
    schema: Arc<Schema>,
    format: TableFormat,
    figures: Figures,
}

impl TableReader {
    pub fn new(schema: &Schema, format: TableFormat) -> Self {
        Self { schema: Arc::new(schema.clone()), format, figures: Figures::of(schema) }
    }

    /// Reads a file whole: its digests and the rows in it.
    ///
    /// # Errors
    /// `Corrupt` when it cannot be decoded; the digests alone are [`digests`]'s.
    pub async fn read(&mut self, store: &dyn Store, key: &str) -> Result<(Digests, u64), Failure> {
        let object = format!("{}/{key}", store.describe());
        let Opened { file, digests } = open(store, key).await?;
        if file.size_bytes <= SMALL_BYTES {
            let figures =
                figures(file.clone(), &self.schema, self.format, 1).map_err(|error| corrupt(&object, &error))?;
            self.figures.merge(&figures).map_err(|error| corrupt(&object, &error))?;
            let digests = digests.map_or_else(|| digest(&file).map_err(local), Ok)?;
            return Ok((digests, figures.row_count()));
        }
        let _turn = DECODING.acquire().await;
        let (schema, format, rows) = (self.schema.clone(), self.format, file.clone());
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let figures = tokio::task::spawn_blocking(move || figures(rows, &schema, format, threads));
        let digests = match digests {
            Some(digests) => Ok(digests),
            None => blocking(&object, move || digest(&file)).await,
        };
        let figures = figures.await.map_err(|error| broken(&object, error.to_string()))?;
        let figures = figures.map_err(|error| corrupt(&object, &error))?;
        self.figures.merge(&figures).map_err(|error| corrupt(&object, &error))?;
        Ok((digests?, figures.row_count()))
    }

    /// The figures of all files together.
    pub fn finish(self) -> Totals {
        self.figures.totals(&self.schema)
    }
}

fn corrupt(object: &str, error: &CodecError) -> Failure {
    broken(object, error.to_string())
}

fn broken(object: &str, message: String) -> Failure {
    Failure::Corrupt { object: object.into(), message }
}

/// A file that can be read at any place, by many threads.
struct Opened {
    file: Shared,
    /// Known where the file was spooled.
    digests: Option<Digests>,
}

async fn open(store: &dyn Store, key: &str) -> Result<Opened, Failure> {
    if let Some(file) = store.open_file(key).await? {
        return Ok(Opened { file: Shared::new(file)?, digests: None });
    }
    again_when_changed(|| async move {
        // One file of BigQuery's holds about 1 GB of logical data.
        let mut file = tempfile::tempfile().map_err(local)?;
        let mut digester = Digester::new();
        let mut stream = store.read(key).await?;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            digester.update(&chunk);
            file.write_all(&chunk).map_err(local)?;
        }
        Ok(Opened { file: Shared::new(file)?, digests: Some(digester.finish()) })
    })
    .await
}

/// Reads an object again that did not have the store's own checksum: what was changed on its way is whole the next time,
/// what is stored so is not.
pub(super) async fn again_when_changed<T, F>(read: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    for _ in 1..WHOLE_READS {
        match read().await {
            Err(Failure::Corrupt { .. }) => {}
            outcome => return outcome,
        }
    }
    read().await
}

fn local(error: std::io::Error) -> Failure {
    Failure::Transient { object: "local file".into(), message: error.to_string() }
}

async fn blocking<T: Send + 'static>(
    object: &str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| broken(object, error.to_string()))?.map_err(local)
}

fn digest(file: &Shared) -> std::io::Result<Digests> {
    let mut digester = Digester::new();
    let mut input = At { file: file.clone(), at: 0 };
    let mut buffer = vec![0; 1 << 20];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(digester.finish()),
            length => digester.update(&buffer[..length]),
        }
    }
}

/// Reads never move a position that another thread goes by.
#[derive(Clone)]
struct Shared {
    file: Arc<File>,
    size_bytes: u64,
}

impl Shared {
    fn new(file: File) -> Result<Self, Failure> {
        let size_bytes = file.metadata().map_err(local)?.len();
        Ok(Self { file: Arc::new(file), size_bytes })
    }
}

struct At {
    file: Shared,
    at: u64,
}

impl Read for At {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let length = self.file.file.read_at(out, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Length for Shared {
    fn len(&self) -> u64 {
        self.size_bytes
    }
}

impl ChunkReader for Shared {
    type T = BufReader<At>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(At { file: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.size_bytes) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} of {}", self.size_bytes)));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// The figures of a file, by so many threads.
fn figures(file: Shared, schema: &Schema, format: TableFormat, threads: usize) -> Result<Figures, CodecError> {
    let taker = Taker::new(schema);
    match format {
        TableFormat::Avro => by_batch(avro::Reader::new(At { file, at: 0 }, schema)?, &taker, threads),
        TableFormat::Parquet => {
            let groups = parquet::Footer::read(&file)?.row_groups()?.len();
            // Few large groups would leave threads idle at the end.
            if threads == 1 || groups < threads * 8 {
                return by_batch(parquet::Reader::new(file, schema)?, &taker, threads);
            }
            by_row_group(&file, groups, &taker, threads)
        }
    }
}

/// One thread decodes, the others take figures.
fn by_batch(
    batches: impl Iterator<Item = Result<RecordBatch, CodecError>>,
    taker: &Taker<'_>,
    threads: usize,
) -> Result<Figures, CodecError> {
    if threads == 1 {
        let mut figures = Figures::of(taker.schema());
        for batch in batches {
            taker.take(&mut figures, &batch?)?;
        }
        return Ok(figures);
    }
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel::<RecordBatch>(WAITING);
        let receive = Arc::new(Mutex::new(receive));
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let receive = receive.clone();
                scope.spawn(move || {
                    let mut figures = Figures::of(taker.schema());
                    while let Some(batch) = next(&receive) {
                        taker.take(&mut figures, &batch)?;
                    }
                    Ok(figures)
                })
            })
            .collect();
        // Who is left must not keep the channel open when all workers have failed.
        drop(receive);
        let mut failed = Ok(());
        for batch in batches {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    failed = Err(error);
                    break;
                }
            };
            if send.send(batch).is_err() {
                break; // a worker says why
            }
        }
        drop(send);
        let figures = merged(taker, workers.into_iter().map(|worker| worker.join()));
        failed.and(figures)
    })
}

fn next(receive: &Mutex<Receiver<RecordBatch>>) -> Option<RecordBatch> {
    receive.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Every thread decodes row groups of its own.
fn by_row_group(file: &Shared, groups: usize, taker: &Taker<'_>, threads: usize) -> Result<Figures, CodecError> {
    // The footer is read again for each piece: pieces must not be many.
    let piece = (groups / (threads * 16)).max(1);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            let mut figures = Figures::of(taker.schema());
            loop {
                let first = next.fetch_add(piece, Ordering::Relaxed);
                if first >= groups {
                    return Ok(figures);
                }
                let row_groups = Some((first..groups.min(first + piece)).collect());
                let options = parquet::ReadOptions { row_groups, ..parquet::ReadOptions::default() };
                for batch in parquet::Reader::with_options(file.clone(), taker.schema(), &options)? {
                    taker.take(&mut figures, &batch?)?;
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        merged(taker, workers.into_iter().map(|worker| worker.join()))
    })
}

fn merged(
    taker: &Taker<'_>,
    parts: impl Iterator<Item = std::thread::Result<Result<Figures, CodecError>>>,
) -> Result<Figures, CodecError> {
    let mut all = Figures::of(taker.schema());
    for part in parts {
        let panicked = |_| CodecError::Schema { column: String::new(), message: "its reader gave up".into() };
        all.merge(&part.map_err(panicked)??)?;
    }
    Ok(all)
}

/// Shows every batch of a file to `take`, in order.
///
/// # Errors
/// `Corrupt` when it cannot be decoded.
pub(super) async fn scan<T: Send + 'static>(
    store: &dyn Store,
    key: &str,
    (schema, format): (&Schema, TableFormat),
    mut state: T,
    mut take: impl FnMut(&mut T, RecordBatch) -> Result<(), CodecError> + Send + 'static,
) -> Result<T, Failure> {
    let object = format!("{}/{key}", store.describe());
    let Opened { file, .. } = open(store, key).await?;
    let _turn = DECODING.acquire().await;
    let schema = schema.clone();
    let work = move || {
        let mut show = |batch: Result<RecordBatch, CodecError>| take(&mut state, batch?);
        match format {
            TableFormat::Avro => avro::Reader::new(At { file, at: 0 }, &schema)?.try_for_each(&mut show)?,
            TableFormat::Parquet => parquet::Reader::new(file, &schema)?.try_for_each(&mut show)?,
        }
        Ok(state)
    };
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| broken(&object, error.to_string()))?;
    done.map_err(|error| corrupt(&object, &error))
}

/// The digests of an object's bytes.
pub(super) async fn digests(store: &dyn Store, key: &str) -> Result<Digests, Failure> {
    again_when_changed(|| async move {
        let mut digester = Digester::new();
        let mut stream = store.read(key).await?;
        while let Some(chunk) = stream.next().await {
            digester.update(&chunk?);
        }
        Ok(digester.finish())
    })
    .await
}

/// What BigQuery answered to [`proof::sql`].
pub(super) fn totals(table: &TableId, schema: &Schema, result: &QueryResult) -> Result<Totals, Failure> {
    let cell = |name: &str| result.cell(0, name)?.as_str().map(String::from);
    proof::read(schema, &cell).map_err(|name| Failure::Corrupt {
        object: table.to_string(),
        message: format!("the query of its figures gave no usable '{name}'"),
    })
}

/// A sheet's table as files.
pub(super) struct SheetFiles {
    pub csv: Vec<u8>,
    pub parquet: Vec<u8>,
}

/// Writes a sheet's values as CSV and Parquet.
pub(super) fn sheet_files(table: &RecordBatch) -> Result<SheetFiles, String> {
    let mut csv = Vec::new();
    let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(&mut csv);
    writer.write(table).map_err(|error| error.to_string())?;
    drop(writer);
    let fields =
        table.schema().fields().iter().map(|f| Field::new(f.name(), FieldType::String, Mode::Nullable)).collect();
    let mut parquet = Vec::new();
    if table.num_columns() > 0 {
        let schema = Schema::new(fields);
        let mut writer = parquet::Writer::new(&mut parquet, &schema, parquet::Compression::Zstd)
            .map_err(|error| error.to_string())?;
        writer.write(table).map_err(|error| error.to_string())?;
        writer.finish().map_err(|error| error.to_string())?;
    }
    Ok(SheetFiles { csv, parquet })
}
