//! A document that somebody has copied out of a backup: read where it lies, as if it were a backup of its own.

use std::ops::Range;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::Usage;
use super::document;
use super::restore;
use super::sql::TimeForm;
use crate::codec::digest::Digester;
use crate::codec::farm::fingerprint64;
use crate::manifest::usage::{Aggregates, DateRange, UsageColumn, UsageDocument, UsageRecord};
use crate::manifest::{ObjectRecord, SourceRecord};
use crate::model::Failure;
use crate::source::streamed::Vault;
use crate::store::ByteStream;

/// One file.
pub struct FileVault {
    path: PathBuf,
}

const PIECE_BYTES: usize = 128 << 10;

impl FileVault {
    pub fn new(path: &Path) -> Self {
        Self { path: path.into() }
    }

    async fn stream(&self) -> Result<ByteStream, Failure> {
        let name = self.path.display().to_string();
        let failed = move |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::NotFound { object: name.clone(), message: "no such file".into() },
            _ => Failure::Invalid { object: name.clone(), message: error.to_string() },
        };
        let file = tokio::fs::File::open(&self.path).await.map_err(&failed)?;
        let stream = futures::stream::try_unfold((file, failed), async |(mut file, failed)| {
            let mut piece = vec![0; PIECE_BYTES];
            let length = file.read(&mut piece).await.map_err(&failed)?;
            piece.truncate(length);
            Ok((length > 0).then(|| (Bytes::from(piece), (file, failed))))
        });
        Ok(Box::pin(stream))
    }
}

#[async_trait]
impl Vault for FileVault {
    async fn read(&self, _object: &ObjectRecord) -> Result<ByteStream, Failure> {
        self.stream().await
    }

    async fn read_range(&self, _object: &ObjectRecord, _range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        Ok(None)
    }
}

/// What a document is found to be, and whether it holds what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Examined {
    pub record_count: u64,
    /// What `backup_info` says.
    pub said: Option<u64>,
    pub date_range: DateRange,
    pub source_db: String,
    pub aggregates: Aggregates,
    /// What is wrong with it.
    pub problems: Vec<String>,
    columns: Vec<String>,
    fingerprint: u64,
}

impl Usage {
    /// Reads a document whole, and holds what it says of itself against its records.
    ///
    /// # Errors
    /// `Corrupt` when it is none.
    pub async fn examine(&self, name: &str, content: ByteStream) -> Result<Examined, Failure> {
        let (mut batches, task) = document::read(name, content);
        let mut found = Figures::default();
        while let Some(batch) = batches.recv().await {
            batch.into_iter().for_each(|record| found.add(self, record));
        }
        let seen = task.await.map_err(|error| Failure::Unknown {
            object: name.into(),
            message: format!("the work was interrupted: {error}"),
        })??;
        let mut problems = Vec::new();
        let aggregates = found.aggregates();
        let said = seen.info.as_ref().map(|info| info.record_count);
        match said {
            None => problems.push("backup_info is missing".into()),
            Some(said) if said != found.count => {
                problems.push(format!("holds {} records, and says {said}", found.count));
            }
            Some(_) => {}
        }
        match &seen.aggregates {
            None => problems.push("aggregates are missing".into()),
            Some(said) if !close(said, &aggregates) => problems.push(format!(
                "the aggregates are not those of the records: {} said, {} found",
                document::aggregates_json(said),
                document::aggregates_json(&aggregates)
            )),
            Some(_) => {}
        }
        if found.named > 0 {
            problems.push(format!("{} records name who they are of: they are not anonymised", found.named));
        }
        problems.extend(found.strangers.iter().map(|name| format!("has the column '{name}', which is not backed up")));
        let info = seen.info;
        Ok(Examined {
            record_count: found.count,
            said,
            date_range: info.as_ref().map(|info| info.date_range.clone()).unwrap_or_default(),
            source_db: info.map(|info| info.source_db).unwrap_or_default(),
            aggregates,
            problems,
            columns: found.columns,
            fingerprint: found.fingerprint,
        })
    }

    /// The record of a backup that is this one file.
    ///
    /// # Errors
    /// `Corrupt` when it is no document, or does not hold what it says.
    pub async fn record_of(&self, path: &Path) -> Result<SourceRecord, Failure> {
        let name = path.display().to_string();
        let examined = self.examine(&name, FileVault::new(path).stream().await?).await?;
        if let Some(problem) = examined.problems.first() {
            return Err(Failure::Corrupt { object: name, message: problem.clone() });
        }
        let dialect = match examined.source_db.starts_with("postgres") {
            true => "postgres",
            false => "sqlite",
        };
        // A document does not say what the database declared.
        let declared = |name: &String| match Some(name) {
            _ if dialect == "sqlite" => "",
            name if name == Some(&self.settings.timestamp) => "timestamptz",
            name if name == self.settings.tokens.as_ref() || name == self.settings.status.as_ref() => "bigint",
            name if name == self.settings.response_time.as_ref() => "double precision",
            _ => "text",
        };
        let column = |name: &String| UsageColumn {
            name: name.clone(),
            declared: declared(name).into(),
            anonymised: self.settings.is_anonymised(name),
        };
        let digests = Digester::new().finish(); // of nothing: a file is held against what it says of itself
        let object = ObjectRecord { key: name.clone(), digests, row_count: Some(examined.record_count), stored: None };
        let document = UsageDocument {
            file: name.clone(),
            object,
            record_count: examined.record_count,
            date_range: examined.date_range,
            aggregates: examined.aggregates,
            fingerprint: format!("{:016x}", examined.fingerprint),
        };
        let columns = match examined.columns.is_empty() {
            true => self.settings.taken().map(String::from).collect(),
            false => examined.columns,
        };
        Ok(SourceRecord::Usage(UsageRecord {
            name: self.name.clone(),
            origin: examined.source_db,
            taken_at: Timestamp::UNIX_EPOCH,
            table: self.settings.table.clone(),
            dialect: dialect.into(),
            columns: columns.iter().map(column).collect(),
            time_form: TimeForm::Text.name().into(),
            documents: vec![document],
        }))
    }

    /// Holds a table against a backup: how many records of its time there are, whether they are the same, and their figures.
    ///
    /// # Errors
    /// `NotFound` without the table; as the database says.
    pub async fn compare(
        &self,
        record: &SourceRecord,
        table: Option<&str>,
    ) -> Result<(u64, Option<bool>, Aggregates), Failure> {
        restore::compare(&self.address()?, &self.settings, super::usage_of(record)?, table).await
    }
}

/// Thousandths may be rounded otherwise.
fn close(a: &Aggregates, b: &Aggregates) -> bool {
    let near = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= 0.0011 + a.abs() * 1e-9,
        (a, b) => a == b,
    };
    a.total_requests == b.total_requests
        && a.total_tokens == b.total_tokens
        && near(a.avg_response_time, b.avg_response_time)
        && near(a.success_rate, b.success_rate)
}

/// What is counted while a document is read.
#[derive(Default)]
struct Figures {
    count: u64,
    tokens: f64,
    response: (f64, u64),
    success: (u64, u64),
    named: u64,
    strangers: Vec<String>,
    columns: Vec<String>,
    fingerprint: u64,
}

impl Figures {
    fn add(&mut self, usage: &Usage, record: serde_json::Map<String, Value>) {
        let settings = &usage.settings;
        self.count += 1;
        let number = |column: &Option<String>| record.get(column.as_ref()?)?.as_f64();
        self.tokens += number(&settings.tokens).unwrap_or(0.0);
        if let Some(time) = number(&settings.response_time) {
            self.response = (self.response.0 + time, self.response.1 + 1);
        }
        if let Some(status) = number(&settings.status) {
            self.success = (self.success.0 + u64::from(status < 400.0), self.success.1 + 1);
        }
        let anonymous = |name: &String| match record.get(name) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.starts_with(&format!("{}_anonymized_", document::word_of(name))),
            Some(_) => false,
        };
        self.named += u64::from(!settings.anonymise.iter().all(anonymous));
        if self.columns.is_empty() {
            self.columns = record.keys().cloned().collect();
        }
        let known = |name: &str| settings.taken().any(|taken| taken == name);
        for name in record.keys().filter(|name| !known(name)) {
            if !self.strangers.contains(name) && self.strangers.len() < 20 {
                self.strangers.push(name.clone());
            }
        }
        // As the writer lays a record out.
        let cells: Vec<String> =
            record.iter().map(|(name, value)| format!("{}: {value}", Value::String(name.clone()))).collect();
        let text = format!("{{{}}}", cells.join(", "));
        self.fingerprint = self.fingerprint.wrapping_add(fingerprint64(text.as_bytes()));
    }

    fn aggregates(&self) -> Aggregates {
        let part = |sum: f64, count: u64| (count > 0).then(|| (sum / count as f64 * 1000.0).round() / 1000.0);
        Aggregates {
            total_requests: self.count,
            total_tokens: self.tokens as i64,
            avg_response_time: part(self.response.0, self.response.1),
            success_rate: part(self.success.0 as f64, self.success.1),
        }
    }
}
