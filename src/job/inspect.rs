//! Reads stored files: digests of their bytes, figures of their rows.

use std::io::{BufReader, Seek, SeekFrom, Write};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::StreamExt;

use crate::codec::digest::Digester;
use crate::codec::fingerprint::{Hashes, TableFingerprint};
use crate::codec::stats::TableStats;
use crate::codec::{CodecError, avro, parquet};
use crate::config::TableFormat;
use crate::google::bigquery::QueryResult;
use crate::model::schema::{Field, FieldType, Mode, Schema};
use crate::model::{ColumnTotals, Digests, Failure, Fingerprint, TableId, Totals};
use crate::plan::proof;
use crate::store::Store;

/// Reads the files of one table, one after the other.
pub(super) struct TableReader {
    schema: Arc<Schema>,
    format: TableFormat,
    figures: Figures,
}

/// What is taken from rows as they pass.
struct Figures {
    row_count: u64,
    fingerprint: TableFingerprint,
    columns: TableStats,
}

impl Figures {
    fn of(schema: &Schema) -> Self {
        let columns = TableStats::new(&figured(schema));
        Self { row_count: 0, fingerprint: TableFingerprint::new(), columns }
    }
}

/// The columns that have figures, as a schema of their own.
fn figured(schema: &Schema) -> Schema {
    Schema::new(proof::figured(schema).cloned().collect())
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
        let local =
            |error: std::io::Error| Failure::Transient { object: "temporary file".into(), message: error.to_string() };
        // Parquet is read from its end, so the file is spooled; one file of BigQuery's holds about 1 GB of logical data.
        let mut file = tempfile::tempfile().map_err(local)?;
        let mut digester = Digester::new();
        let mut stream = store.read(key).await?;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            digester.update(&chunk);
            file.write_all(&chunk).map_err(local)?;
        }
        file.seek(SeekFrom::Start(0)).map_err(local)?;
        let (schema, format) = (self.schema.clone(), self.format);
        let figures = tokio::task::spawn_blocking(move || figures(file, &schema, format))
            .await
            .map_err(|error| Failure::Corrupt { object: object.clone(), message: error.to_string() })?
            .map_err(|error| corrupt(&object, &error))?;
        self.figures.row_count += figures.row_count;
        self.figures.fingerprint.merge(&figures.fingerprint);
        self.figures.columns.merge(&figures.columns).map_err(|error| corrupt(&object, &error))?;
        Ok((digester.finish(), figures.row_count))
    }

    /// The figures of all files together.
    pub fn finish(self) -> Totals {
        let Hashes { xor, sum, .. } = self.figures.fingerprint.total();
        let fingerprint = proof::fingerprinted(&self.schema).is_some().then_some(Fingerprint { xor, sum });
        let columns = self.figures.columns.columns.iter().map(|column| ColumnTotals {
            name: column.column.clone(),
            kind: column.kind.sql_name().into(),
            null_count: column.nulls,
            sum: column.sum(),
            min: column.min(),
            max: column.max(),
        });
        Totals { row_count: self.figures.row_count, fingerprint, columns: columns.collect() }
    }
}

fn corrupt(object: &str, error: &CodecError) -> Failure {
    Failure::Corrupt { object: object.into(), message: error.to_string() }
}

fn figures(file: std::fs::File, schema: &Schema, format: TableFormat) -> Result<Figures, CodecError> {
    let mut figures = Figures::of(schema);
    let fingerprinted = proof::fingerprinted(schema);
    let figured_schema = figured(schema);
    let figured: Vec<usize> = proof::figured(schema)
        .filter_map(|figured| schema.fields.iter().position(|field| field.name == figured.name))
        .collect();
    let project = |batch: &RecordBatch, columns: &[usize]| {
        batch.project(columns).map_err(|error| CodecError::Schema { column: String::new(), message: error.to_string() })
    };
    let mut take = |batch: Result<RecordBatch, CodecError>| -> Result<(), CodecError> {
        let batch = batch?;
        figures.row_count += batch.num_rows() as u64;
        if let Some(columns) = &fingerprinted {
            figures.fingerprint.add(&project(&batch, columns)?)?;
        }
        figures.columns.add(&project(&batch, &figured)?, &figured_schema)
    };
    match format {
        TableFormat::Avro => avro::Reader::new(BufReader::new(file), schema)?.try_for_each(&mut take)?,
        TableFormat::Parquet => parquet::Reader::new(file, schema)?.try_for_each(&mut take)?,
    }
    Ok(figures)
}

/// The digests of an object's bytes.
pub(super) async fn digests(store: &dyn Store, key: &str) -> Result<Digests, Failure> {
    let mut digester = Digester::new();
    let mut stream = store.read(key).await?;
    while let Some(chunk) = stream.next().await {
        digester.update(&chunk?);
    }
    Ok(digester.finish())
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
