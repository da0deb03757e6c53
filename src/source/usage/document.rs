//! The document of a backup of usage records: written and read as a stream, in bounded memory.

use std::fmt;
use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::StreamExt;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};

use super::database::{Database, Row};
use super::sql::{Between, Records, TimeForm, rfc3339};
use crate::codec::farm::fingerprint64;
use crate::manifest::usage::{Aggregates, DateRange};
use crate::model::Failure;
use crate::store::{Blocking, ByteStream};

/// `backup_info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Info {
    pub timestamp: String,
    /// Without a password.
    pub source_db: String,
    pub record_count: u64,
    pub date_range: DateRange,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Written {
    pub record_count: u64,
    pub aggregates: Aggregates,
    pub fingerprint: u64,
}

/// How a column's cell becomes JSON.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Time(TimeForm),
    Json,
    /// A number of a person, after this word.
    Person(String),
}

/// What is in front of a person's number.
pub(super) fn word_of(column: &str) -> String {
    match column {
        "user_id" | "user" | "username" => "usr".into(),
        other => other.strip_suffix("_id").unwrap_or(other).into(),
    }
}

/// A record as a document has it.
pub(super) fn record(columns: &[(String, Cell)], row: &Row) -> String {
    let cell = |((name, cell), value): (&(String, Cell), &Option<String>)| {
        let value = match (cell, value) {
            (_, None) => "null".to_string(),
            (Cell::Json, Some(json)) => json.clone(),
            (Cell::Time(form), Some(given)) => Value::String(rfc3339(*form, given)).to_string(),
            (Cell::Person(word), Some(number)) => format!("\"{word}_anonymized_{number:0>3}\""),
        };
        format!("{}: {value}", Value::String(name.clone()))
    };
    let cells: Vec<String> = columns.iter().zip(row).map(cell).collect();
    format!("{{{}}}", cells.join(", "))
}

/// One row of figures as [`Records::aggregates`] asks for it.
pub(super) fn aggregates(row: &Row) -> Aggregates {
    let number = |i: usize| row.get(i).and_then(|cell| cell.as_ref()?.parse::<f64>().ok()).unwrap_or(0.0);
    let whole = |i: usize| row.get(i).and_then(|cell| cell.as_ref()?.parse::<i64>().ok());
    let part = |sum: f64, count: f64| (count > 0.0).then(|| (sum / count * 1000.0).round() / 1000.0);
    Aggregates {
        total_requests: whole(0).unwrap_or(0).unsigned_abs(),
        total_tokens: whole(1).unwrap_or_else(|| number(1) as i64),
        avg_response_time: part(number(2), number(3)),
        success_rate: part(number(4), number(5)),
    }
}

/// What a document is made of.
pub(super) struct Content {
    pub database: Database,
    pub columns: Vec<(String, Cell)>,
    pub rows: String,
    pub aggregates: String,
    pub info: Info,
    pub compress: bool,
}

impl Content {
    pub fn of(database: Database, records: &Records<'_>, part: Between, form: TimeForm, info: Info) -> Self {
        Self {
            database,
            columns: cells(records, form, true),
            rows: records.rows(part, true),
            aggregates: records.aggregates(part),
            info,
            compress: records.settings.compress,
        }
    }

    /// The document as a stream; what was written is told at its end.
    pub fn stream(self) -> (ByteStream, oneshot::Receiver<Written>) {
        let (send, receive) = mpsc::channel(4);
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            match self.write(&send).await {
                Ok(written) => drop(tell.send(written)),
                Err(failure) => drop(send.send(Err(failure)).await),
            }
        });
        let stream = futures::stream::unfold(receive, async |mut receive| Some((receive.recv().await?, receive)));
        (stream.boxed(), told)
    }

    async fn write(self, send: &mpsc::Sender<Result<Bytes, Failure>>) -> Result<Written, Failure> {
        let mut out = Out::new(self.compress);
        let info = serde_json::to_string_pretty(&self.info).unwrap_or_default().replace('\n', "\n  ");
        out.put(&format!("{{\n  \"backup_info\": {info},\n  \"usage_records\": ["));
        let mut rows = self.database.stream(&self.rows).await?;
        let (mut record_count, mut fingerprint) = (0_u64, 0_u64);
        while let Some(row) = rows.next().await {
            let text = record(&self.columns, &row?);
            fingerprint = fingerprint.wrapping_add(fingerprint64(text.as_bytes()));
            out.put(if record_count == 0 { "\n    " } else { ",\n    " });
            out.put(&text);
            record_count += 1;
            if out.is_full() && send.send(Ok(out.take())).await.is_err() {
                return Err(Failure::Transient { object: "document".into(), message: "is not wanted any more".into() });
            }
        }
        drop(rows);
        if record_count != self.info.record_count {
            let message = format!("{record_count} records were read where {} were counted", self.info.record_count);
            return Err(Failure::Corrupt { object: self.info.source_db, message });
        }
        let aggregates = aggregates(&self.database.row(&self.aggregates).await?);
        let text = serde_json::to_string_pretty(&aggregates_json(&aggregates)).unwrap_or_default();
        let end = if record_count == 0 { "]" } else { "\n  ]" };
        out.put(&format!("{end},\n  \"aggregates\": {}\n}}\n", text.replace('\n', "\n  ")));
        send.send(Ok(out.finish())).await.ok();
        Ok(Written { record_count, aggregates, fingerprint })
    }
}

/// Whole numbers without a point.
pub(super) fn aggregates_json(aggregates: &Aggregates) -> Value {
    let number = |value: Option<f64>| match value {
        Some(value) if value.fract() == 0.0 && value.abs() < 1e15 => json!(value as i64),
        value => json!(value),
    };
    json!({
        "total_requests": aggregates.total_requests,
        "total_tokens": aggregates.total_tokens,
        "avg_response_time": number(aggregates.avg_response_time),
        "success_rate": number(aggregates.success_rate),
    })
}

/// How each taken column is written.
pub(super) fn cells(records: &Records<'_>, form: TimeForm, anonymise: bool) -> Vec<(String, Cell)> {
    let settings = records.settings;
    let cell = |name: &str| match name {
        name if name == settings.timestamp => Cell::Time(form),
        name if anonymise && settings.is_anonymised(name) => Cell::Person(word_of(name)),
        _ => Cell::Json,
    };
    settings.taken().map(|name| (name.to_string(), cell(name))).collect()
}

const PIECE_BYTES: usize = 128 << 10;

enum Out {
    Plain(Vec<u8>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl Out {
    fn new(compress: bool) -> Self {
        match compress {
            true => Self::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::default()))),
            false => Self::Plain(Vec::new()),
        }
    }

    fn put(&mut self, text: &str) {
        match self {
            Self::Plain(out) => out.extend_from_slice(text.as_bytes()),
            // Into memory: it cannot fail.
            Self::Gzip(out) => drop(out.write_all(text.as_bytes())),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Plain(out) => out.len() >= PIECE_BYTES,
            Self::Gzip(out) => out.get_ref().len() >= PIECE_BYTES,
        }
    }

    fn take(&mut self) -> Bytes {
        match self {
            Self::Plain(out) => std::mem::take(out).into(),
            Self::Gzip(out) => std::mem::take(out.get_mut()).into(),
        }
    }

    fn finish(self) -> Bytes {
        match self {
            Self::Plain(out) => out.into(),
            Self::Gzip(out) => out.finish().unwrap_or_default().into(),
        }
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Seen {
    pub info: Option<Info>,
    pub aggregates: Option<Aggregates>,
    pub record_count: u64,
}

/// Records on their way to one statement.
pub(super) type Batch = Vec<Map<String, Value>>;

const BATCH: usize = 500;

/// Reads a document; its records come in lists, as JSON. What was seen of the rest is told at the end.
pub(super) fn read(
    name: &str,
    content: ByteStream,
) -> (mpsc::Receiver<Batch>, tokio::task::JoinHandle<Result<Seen, Failure>>) {
    let (send, receive) = mpsc::channel(2);
    let mut content = Blocking::new(content);
    let name = name.to_string();
    let gzip = name.ends_with(".gz");
    let task = tokio::task::spawn_blocking(move || {
        let mut seen = Seen::default();
        let mut batch = Vec::new();
        let mut each = |record| {
            batch.push(record);
            if batch.len() >= BATCH { send.blocking_send(std::mem::take(&mut batch)).is_ok() } else { true }
        };
        let seed = Document { seen: &mut seen, each: &mut each };
        let read = match gzip {
            true => parse(MultiGzDecoder::new(&mut content), seed),
            false => parse(&mut content, seed),
        };
        if let Err(message) = read {
            return Err(match content.failed() {
                Some(failure) => failure.clone(),
                None => Failure::Corrupt { object: name, message },
            });
        }
        if !batch.is_empty() {
            send.blocking_send(batch).ok();
        }
        Ok(seen)
    });
    (receive, task)
}

fn parse(content: impl Read, seed: Document<'_>) -> Result<(), String> {
    let content = std::io::BufReader::with_capacity(64 << 10, content);
    let mut deserializer = serde_json::Deserializer::from_reader(content);
    // The parser's own message may hold a part of a record.
    let told = |error: serde_json::Error| format!("is no document of usage records, at line {}", error.line());
    seed.deserialize(&mut deserializer).map_err(told)?;
    deserializer.end().map_err(told)
}

type Each<'a> = &'a mut dyn FnMut(Map<String, Value>) -> bool;

struct Document<'a> {
    seen: &'a mut Seen,
    each: Each<'a>,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("backup_info, usage_records and aggregates")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut records = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "backup_info" => self.seen.info = Some(map.next_value()?),
                "aggregates" => self.seen.aggregates = Some(map.next_value()?),
                "usage_records" => {
                    self.seen.record_count += map.next_value_seed(Rows { each: &mut *self.each })?;
                    records = true;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if records { Ok(()) } else { Err(serde::de::Error::missing_field("usage_records")) }
    }
}

struct Rows<'a> {
    each: Each<'a>,
}

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<u64, A::Error> {
        let mut count = 0;
        while let Some(record) = list.next_element()? {
            count += 1;
            if !(self.each)(record) {
                return Err(serde::de::Error::custom("not wanted any more"));
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::stream_of;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_document_of_any_layout_is_read_and_a_broken_one_is_told() {
        let text = r#"{"usage_records":[{"a":1},{"a":null}],"other":[{}],
            "aggregates":{"total_requests":2,"total_tokens":5,"avg_response_time":1850,"success_rate":0.987},
            "backup_info":{"timestamp":"t","source_db":"d","record_count":2,"date_range":{"start":null,"end":null}}}"#;
        let (mut batches, task) = read("x.json", stream_of(Bytes::from_static(text.as_bytes())));
        let batch = batches.recv().await.unwrap();
        assert_eq!(json!(batch), json!([{"a": 1}, {"a": null}]));
        let seen = task.await.unwrap().unwrap();
        assert_eq!((seen.record_count, seen.info.unwrap().record_count), (2, 2));
        assert_eq!(seen.aggregates.unwrap().avg_response_time, Some(1850.0));
        for broken in ["{", "[]", "{}", r#"{"usage_records": [1]}"#, &text[..40], &format!("{text}x")] {
            let (_batches, task) = read("x.json", stream_of(Bytes::from(broken.to_string())));
            let failure = task.await.unwrap().unwrap_err();
            assert!(matches!(failure, Failure::Corrupt { .. }), "{broken}: {failure}");
        }
    }

    #[test]
    fn people_have_numbers_and_figures_no_needless_digits() {
        let columns =
            [("t".to_string(), Cell::Time(TimeForm::Seconds)), ("user_id".into(), Cell::Person(word_of("user_id")))];
        let row = vec![Some("1727206200".into()), Some("7".into())];
        assert_eq!(record(&columns, &row), r#"{"t": "2024-09-24T19:30:00Z", "user_id": "usr_anonymized_007"}"#);
        assert_eq!(record(&columns, &vec![None, None]), r#"{"t": null, "user_id": null}"#);
        let row: Row = ["3", "10", "5550", "3", "2", "3"].into_iter().map(|text| Some(text.to_string())).collect();
        let expected =
            json!({"total_requests": 3, "total_tokens": 10, "avg_response_time": 1850, "success_rate": 0.667});
        assert_eq!(aggregates_json(&aggregates(&row)), expected);
    }
}
