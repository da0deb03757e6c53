//! Extract jobs (and EXPORT DATA): a table's settled rows into objects, in shards.

use std::sync::Arc;

use arrow::array::RecordBatch;
use serde_json::{Map, Value, json};
use strongroom::model::schema::Schema;

use super::super::cells::logical_bytes;
use super::super::files::{Format, WriteOptions};
use super::super::names::TableRef;
use super::super::schema;
use super::super::service::{BigQuery, keep_partition, partitioning};
use super::copy::layout_of;
use super::{Context, JobFailure, Success};
use crate::core::ApiError;

/// Runs the job.
///
/// # Errors
/// How the job failed.
pub async fn run(context: Context) -> Result<Success, JobFailure> {
    let extract = &context.configuration["extract"];
    if extract.get("sourceModel").is_some() {
        return Err(ApiError::not_implemented("models cannot be extracted here").into());
    }
    let source = TableRef::from_json(&extract["sourceTable"], &context.project, "sourceTable")?;
    let service = context.service.clone();
    let owner = service.dataset(&source.table.project, &source.table.dataset)?;
    let uris = uris(extract)?;
    for uri in &uris {
        check_bucket_location(&service, &uri.bucket, owner.location(), Way::Write)?;
    }
    if source.at.is_none() {
        let table = source.table.clone();
        super::super::http::blocking(&service, move |s| s.expire_partitions(&table)).await?;
    }
    let (record, moment) = service.table_at(&source)?;
    if !record.has_rows() {
        let (table, kind) = (&source.table, record.kind());
        return Err(ApiError::invalid(format!(
            "{table} is not allowed for this operation because it is currently a {kind}."
        ))
        .into());
    }
    let moment = moment.settled();
    let schema = schema::parse(&moment.schema)?;
    let options = write_options(extract)?;
    options.check(&schema)?;
    let input_bytes = moment.bytes();
    let filter = super::super::policies::filter_for(&record, &context.caller, &source.table);
    let rows = {
        let (record, moment, source) = (record.clone(), moment.clone(), source.clone());
        super::super::http::blocking(&service, move |s| {
            let layout = partitioning(&record.resource)?;
            let ingestion = layout.as_ref().is_some_and(|l| l.is_ingestion_time());
            let mut batches = s.rows(&moment, ingestion)?;
            if let Some(id) = &source.partition {
                let layout = layout_of(&source.table, &record)?;
                let key = layout.parse_id(&source.table.to_string(), id)?;
                batches = keep_partition(&batches, &layout, key, true)?;
            }
            let width = schema::parse(&moment.schema)?.fields.len();
            if ingestion {
                let columns: Vec<usize> = (0..width).collect();
                batches = batches
                    .iter()
                    .map(|b| b.project(&columns))
                    .collect::<Result<_, _>>()
                    .map_err(|e| ApiError::internal(e.to_string()))?;
            }
            Ok(batches)
        })
        .await?
    };
    let rows = match filter {
        None => rows,
        Some(predicate) => {
            super::super::query::filter_table(
                &service,
                &context.caller,
                &source.table,
                &moment.schema,
                rows,
                &predicate,
            )
            .await?
        }
    };
    let counts = tokio::task::spawn_blocking(move || export(&context, &uris, &schema, &rows, &options, true))
        .await
        .unwrap_or_else(|e| Err(ApiError::new(500, "internalError", format!("the extract broke off: {e}"))))?;
    let counts: Vec<String> = counts.iter().map(|(files, _)| files.to_string()).collect();
    let mut statistics = Map::new();
    statistics
        .insert("extract".into(), json!({"destinationUriFileCounts": counts, "inputBytes": input_bytes.to_string()}));
    statistics.insert("totalBytesProcessed".into(), json!(input_bytes.to_string()));
    Ok(Success { statistics, ..Success::default() })
}

/// Whether a bucket is read or written; only for the words of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Read,
    Write,
}

/// A dataset and a bucket must be in the same place.
///
/// # Errors
/// `notFound` when there is no such bucket, `invalid` with Google's message when it is elsewhere.
pub fn check_bucket_location(service: &BigQuery, bucket: &str, dataset: &str, way: Way) -> Result<(), ApiError> {
    let place = service.objects.bucket_location(bucket)?;
    if !service.settings.check_bucket_locations || places_match(dataset, &place) {
        return Ok(());
    }
    let (source, destination) = match way {
        Way::Read => (place.as_str(), dataset),
        Way::Write => (dataset, place.as_str()),
    };
    Err(ApiError::invalid(format!(
        "Cannot read and write in different locations: source: {source}, destination: {destination}"
    )))
}

/// A multi-region contains its regions; dual regions lie in their continent.
fn places_match(dataset: &str, bucket: &str) -> bool {
    let (d, b) = (dataset.to_lowercase(), bucket.to_lowercase());
    d == b
        || (d == "eu" && (b.starts_with("europe-") || b == "eur4"))
        || (d == "us" && (b.starts_with("us-") || b == "nam4"))
}

/// A destination with at most one `*`.
#[derive(Debug, Clone)]
pub struct Uri {
    pub bucket: String,
    pub object: String,
}

impl Uri {
    /// # Errors
    /// `invalid` when it is no `gs://` URI of an object, or has more than one `*`.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let bad = || ApiError::invalid(format!("Invalid destination URI: {text}"));
        let (bucket, object) = text.strip_prefix("gs://").and_then(|u| u.split_once('/')).ok_or_else(bad)?;
        if bucket.is_empty() || object.is_empty() || bucket.contains('*') || object.matches('*').count() > 1 {
            return Err(bad());
        }
        Ok(Self { bucket: bucket.into(), object: object.into() })
    }

    fn shard(&self, number: usize) -> String {
        self.object.replacen('*', &format!("{number:012}"), 1)
    }

    fn has_wildcard(&self) -> bool {
        self.object.contains('*')
    }
}

fn uris(extract: &Value) -> Result<Vec<Uri>, ApiError> {
    let mut texts: Vec<&str> =
        extract["destinationUris"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if texts.is_empty() {
        texts.extend(extract["destinationUri"].as_str().filter(|u| !u.is_empty()));
    }
    if texts.is_empty() {
        return Err(ApiError::required("Required parameter is missing: destinationUris"));
    }
    texts.into_iter().map(Uri::parse).collect()
}

fn write_options(extract: &Value) -> Result<WriteOptions, ApiError> {
    let text = |key: &str| extract[key].as_str().unwrap_or_default();
    let compression = match text("compression") {
        "" => "NONE".to_owned(),
        other => other.to_ascii_uppercase(),
    };
    let delimiter = match text("fieldDelimiter") {
        "" => b',',
        "\\t" | "tab" => b'\t',
        one if one.len() == 1 => one.as_bytes()[0],
        other => return Err(ApiError::invalid(format!("Invalid value for fieldDelimiter: {other}"))),
    };
    Ok(WriteOptions {
        format: Format::of(text("destinationFormat"))?,
        compression,
        logical_types: extract["useAvroLogicalTypes"].as_bool().unwrap_or(false),
        header: extract["printHeader"].as_bool().unwrap_or(true),
        delimiter,
    })
}

/// Writes rows to the destinations; for each how many files and bytes it got.
///
/// # Errors
/// `invalid` when one file is not enough, what the format or the bucket refuses.
pub fn export(
    context: &Context,
    uris: &[Uri],
    schema: &Schema,
    rows: &[RecordBatch],
    options: &WriteOptions,
    overwrite: bool,
) -> Result<Vec<(usize, u64)>, ApiError> {
    let service = &context.service;
    let shards = split(rows, service.settings.extract_shard_bytes);
    if shards.len() > 1 && uris.iter().any(|u| !u.has_wildcard()) {
        return Err(ApiError::invalid(
            "Table is too large to be exported to a single file. Specify a uri including a * to shard export.",
        ));
    }
    if !overwrite {
        for uri in uris {
            let prefix = uri.object.split('*').next().unwrap_or_default();
            let taken = service.objects.list(&uri.bucket, prefix)?;
            if !taken.is_empty() {
                return Err(ApiError::invalid(format!(
                    "Destination gs://{}/{} is not empty; use overwrite=true",
                    uri.bucket, uri.object
                )));
            }
        }
    }
    let mut counts = vec![(0, 0); uris.len()];
    // Several destinations share the shards in turn; each gets at least one file.
    for number in 0..shards.len().max(uris.len()) {
        context.check()?;
        let empty = vec![];
        let shard = shards.get(number).unwrap_or(&empty);
        let at = number % uris.len();
        let uri = &uris[at];
        let object = service.objects.create(&uri.bucket, &uri.shard(counts[at].0), options.content_type())?;
        let info = options.write(object, schema, shard)?.finish()?;
        counts[at].0 += 1;
        counts[at].1 += info.size_bytes;
    }
    Ok(counts)
}

/// Cuts rows into shards of about so many logical bytes; no rows make one empty shard.
fn split(rows: &[RecordBatch], shard_bytes: u64) -> Vec<Vec<RecordBatch>> {
    let mut shards = vec![vec![]];
    let mut filled = 0;
    for batch in rows {
        let count = batch.num_rows();
        if count == 0 {
            continue;
        }
        let per_row = (logical_bytes(batch) / count as u64).max(1);
        let mut from = 0;
        while from < count {
            if filled >= shard_bytes {
                shards.push(vec![]);
                filled = 0;
            }
            let room = usize::try_from((shard_bytes - filled) / per_row).unwrap_or(usize::MAX).max(1);
            let take = room.min(count - from);
            if let Some(last) = shards.last_mut() {
                last.push(batch.slice(from, take));
            }
            filled += per_row * take as u64;
            from += take;
        }
    }
    shards
}

/// EXPORT DATA of a query's rows.
///
/// # Errors
/// As an extract job.
pub async fn export_data(
    context: &Context,
    options: &Value,
    schema: Schema,
    rows: Arc<Vec<RecordBatch>>,
) -> Result<(usize, u64), ApiError> {
    let text = |key: &str| options[key].as_str().unwrap_or_default().to_owned();
    let uri = Uri::parse(&text("uri"))?;
    if !uri.has_wildcard() {
        return Err(ApiError::new(
            400,
            "invalidQuery",
            format!("Option 'uri' value must be a wild card URI. Actual is gs://{}/{}", uri.bucket, uri.object),
        ));
    }
    check_bucket_location(&context.service, &uri.bucket, &context.location, Way::Write)?;
    let write = write_options(&json!({
        "destinationFormat": text("format"),
        "compression": text("compression"),
        "fieldDelimiter": text("field_delimiter"),
        "printHeader": options["header"].as_bool().unwrap_or(false),
        "useAvroLogicalTypes": options["use_avro_logical_types"].as_bool().unwrap_or(false),
    }))?;
    write.check(&schema)?;
    let overwrite = options["overwrite"].as_bool().unwrap_or(false);
    let context = context.clone();
    let counts = tokio::task::spawn_blocking(move || export(&context, &[uri], &schema, &rows, &write, overwrite))
        .await
        .unwrap_or_else(|e| Err(ApiError::internal(format!("the export broke off: {e}"))))?;
    Ok(counts.first().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bigquery::rows::batch_from_json;

    #[test]
    fn shards_hold_all_rows_in_order() {
        let schema = schema::parse(&json!([{"name":"i","type":"INT64"}])).unwrap();
        let values: Vec<Value> = (0..100).map(|i| json!({ "i": i })).collect();
        let batch = batch_from_json(&schema, &values).unwrap();
        let shards = split(&[batch.slice(0, 60), batch.slice(60, 40)], 8 * 30);
        let sizes: Vec<usize> = shards.iter().map(|s| s.iter().map(RecordBatch::num_rows).sum()).collect();
        assert_eq!(sizes, [30, 30, 30, 10]);
        assert_eq!(split(&[], 100).len(), 1);
    }

    #[test]
    fn uris_and_places() {
        assert_eq!(Uri::parse("gs://b/x/*.avro").unwrap().shard(3), "x/000000000003.avro");
        for bad in ["b/x", "gs://b", "gs://b/", "gs://b/*/*", "gs:///x"] {
            assert!(Uri::parse(bad).is_err(), "{bad}");
        }
        assert!(places_match("EU", "EUROPE-WEST1") && places_match("US", "US"));
        assert!(!places_match("EU", "US") && !places_match("europe-west1", "EU"));
    }
}
