//! Queries with small results (fingerprints, validation, INFORMATION_SCHEMA), by the official crate: `jobs.insert`, then
//! all pages of `jobs.getQueryResults`. Cells stay in REST form; their meaning is the schema's.

use std::time::Duration;

use google_cloud_bigquery_v2::model::DataFormatOptions;
use serde_json::{Map, Value, json};

use super::{BigQuery, JobRef, PollPolicy, enums, malformed};
use crate::google::retry::Effect;
use crate::model::{DatasetId, Failure};

/// How a query is run.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryOptions {
    pub default_dataset: Option<DatasetId>,
    /// `None`: the service takes it from the tables.
    pub location: Option<String>,
    /// `QueryParameter` resources, all named or all positional.
    pub parameters: Vec<Value>,
    /// `None`: a fresh one. A deterministic id makes the query one job, however often it is sent. Where the service fails,
    /// it is begun again under this id with `_1`, `_2` ... added.
    pub job_id: Option<String>,
    pub labels: Vec<(String, String)>,
    pub timeout: Duration,
    /// A query that would bill more fails before it runs.
    pub max_bytes_billed: Option<i64>,
    /// Only checks the query and estimates its bytes.
    pub dry_run: bool,
    /// More rows than this are refused: the result is held in memory.
    pub max_rows: usize,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            default_dataset: None,
            location: None,
            parameters: Vec::new(),
            job_id: None,
            labels: Vec::new(),
            timeout: Duration::from_secs(1_800),
            max_bytes_billed: None,
            dry_run: false,
            max_rows: 100_000,
        }
    }
}

/// A query's whole result.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryResult {
    /// `{"fields": [...]}` in REST form; `Null` when the statement gives no rows.
    pub schema: Value,
    /// Cells in REST form, by row: strings, `Null`, `[{"v": ..}]` for REPEATED, `{"f": [{"v": ..}]}` for STRUCT.
    /// TIMESTAMP is microseconds since 1970, as a string.
    pub rows: Vec<Vec<Value>>,
    pub total_bytes_processed: i64,
    /// The finished job.
    pub job: Value,
}

impl QueryResult {
    /// The cell of a column in a row, by the column's name.
    pub fn cell(&self, row: usize, column: &str) -> Option<&Value> {
        let fields = self.schema.get("fields")?.as_array()?;
        let index = fields.iter().position(|field| field.get("name").and_then(Value::as_str) == Some(column))?;
        self.rows.get(row)?.get(index)
    }
}

/// A result whose cells' texts are longer than this in all is refused.
const MAX_RESULT_BYTES: usize = 512 << 20;
/// Rows a page; the service also ends a page at about 10 MB.
const ROWS_A_PAGE: u32 = 10_000;

impl BigQuery {
    /// Runs a query in GoogleSQL, billed to `project`, and reads the whole result.
    ///
    /// # Errors
    /// `Invalid` for a query that is wrong, fails or gives more than `max_rows`; else as mapped by `error.rs`.
    pub async fn query(&self, project: &str, sql: &str, options: &QueryOptions) -> Result<QueryResult, Failure> {
        let job_id =
            options.job_id.clone().unwrap_or_else(|| format!("strongroom_query_{:032x}", rand::random::<u128>()));
        let reference = |attempt: u32| {
            let id = if attempt == 0 { job_id.clone() } else { format!("{job_id}_{attempt}") };
            JobRef::new(project, id, options.location.clone())
        };
        let configuration = configuration(sql, options);
        let poll = PollPolicy { deadline: options.timeout, ..PollPolicy::default() };
        if options.dry_run {
            let job = self.insert_job(&reference(0), configuration).await?;
            let schema = job["statistics"]["query"]["schema"].clone();
            return Ok(QueryResult { schema, rows: Vec::new(), total_bytes_processed: bytes_processed(&job), job });
        }
        let job = self.complete_job(reference, |_| configuration.clone(), &poll).await?;
        let (schema, rows) = self.read_results(&JobRef::of(&job), options.max_rows).await?;
        Ok(QueryResult { schema, rows, total_bytes_processed: bytes_processed(&job), job })
    }

    async fn read_results(&self, job: &JobRef, max_rows: usize) -> Result<(Value, Vec<Vec<Value>>), Failure> {
        let object = format!("result of query {}", job.job_id);
        let mut schema = Value::Null;
        let mut rows: Vec<Vec<Value>> = Vec::new();
        let mut token = String::new();
        let mut bytes = 0;
        loop {
            let page = self
                .official(&object, Effect::Read, || {
                    self.jobs
                        .get_query_results()
                        .set_project_id(&job.project)
                        .set_job_id(&job.job_id)
                        .set_location(job.location.clone().unwrap_or_default())
                        .set_page_token(&token)
                        .set_max_results(ROWS_A_PAGE)
                        .set_format_options(DataFormatOptions::new().set_use_int64_timestamp(true))
                        .send()
                })
                .await?;
            if page.job_complete == Some(false) {
                return Err(malformed(&object, "the job is done but its result is not complete"));
            }
            if let (Value::Null, Some(found)) = (&schema, &page.schema) {
                schema = enums::rest_form(&object, found)?;
            }
            for row in page.rows {
                let cells = cells(row).ok_or_else(|| malformed(&object, "a row is not {\"f\": [{\"v\": ..}]}"))?;
                bytes += cells.iter().map(size_of_text).sum::<usize>();
                rows.push(cells);
            }
            if rows.len() > max_rows || bytes > MAX_RESULT_BYTES {
                let message =
                    format!("more than {max_rows} rows or {MAX_RESULT_BYTES} bytes; hint: aggregate, or add a LIMIT");
                return Err(Failure::Invalid { object, message });
            }
            token = page.page_token;
            if token.is_empty() {
                let total = page.total_rows.unwrap_or(rows.len() as u64);
                if total != rows.len() as u64 {
                    let message = format!("{} rows were read of {total} promised", rows.len());
                    return Err(Failure::Corrupt { object, message });
                }
                return Ok((schema, rows));
            }
        }
    }
}

fn configuration(sql: &str, options: &QueryOptions) -> Value {
    let mut query = json!({"query": sql, "useLegacySql": false});
    if let Some(dataset) = &options.default_dataset {
        query["defaultDataset"] = json!({"projectId": dataset.project(), "datasetId": dataset.dataset()});
    }
    if let Some(first) = options.parameters.first() {
        let named = first.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
        query["parameterMode"] = json!(if named { "NAMED" } else { "POSITIONAL" });
        query["queryParameters"] = json!(options.parameters);
    }
    if let Some(bytes) = options.max_bytes_billed {
        query["maximumBytesBilled"] = json!(bytes.to_string());
    }
    let labels: Map<String, Value> = options.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let mut configuration = json!({"query": query});
    if !labels.is_empty() {
        configuration["labels"] = Value::Object(labels);
    }
    if options.dry_run {
        configuration["dryRun"] = json!(true);
    } else {
        configuration["jobTimeoutMs"] = json!(options.timeout.as_millis().to_string());
    }
    configuration
}

/// `{"f": [{"v": cell}, ..]}` as its cells.
fn cells(mut row: Map<String, Value>) -> Option<Vec<Value>> {
    let Some(Value::Array(fields)) = row.remove("f") else {
        return None;
    };
    fields.into_iter().map(|mut field| field.get_mut("v").map(Value::take)).collect()
}

fn size_of_text(cell: &Value) -> usize {
    match cell {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size_of_text).sum(),
        Value::Object(fields) => fields.values().map(size_of_text).sum(),
        _ => 8,
    }
}

fn bytes_processed(job: &Value) -> i64 {
    let text = job["statistics"].get("totalBytesProcessed").and_then(Value::as_str);
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_says_all_that_was_asked() {
        let options = QueryOptions {
            default_dataset: Some("proj.d".parse().unwrap()),
            parameters: vec![
                json!({"name": "x", "parameterType": {"type": "INT64"}, "parameterValue": {"value": "1"}}),
            ],
            labels: vec![("run".into(), "r1".into())],
            timeout: Duration::from_secs(60),
            max_bytes_billed: Some(5),
            ..QueryOptions::default()
        };
        insta::assert_json_snapshot!(configuration("SELECT @x", &options), @r#"
        {
          "query": {
            "query": "SELECT @x",
            "useLegacySql": false,
            "defaultDataset": {
              "projectId": "proj",
              "datasetId": "d"
            },
            "parameterMode": "NAMED",
            "queryParameters": [
              {
                "name": "x",
                "parameterType": {
                  "type": "INT64"
                },
                "parameterValue": {
                  "value": "1"
                }
              }
            ],
            "maximumBytesBilled": "5"
          },
          "labels": {
            "run": "r1"
          },
          "jobTimeoutMs": "60000"
        }
        "#);
    }

    #[test]
    fn rows_are_unwrapped_and_broken_ones_refused() {
        let row = |value: Value| cells(value.as_object().unwrap().clone());
        assert_eq!(row(json!({"f": [{"v": "1"}, {"v": null}]})), Some(vec![json!("1"), Value::Null]));
        assert_eq!(row(json!({"f": [{"w": "1"}]})), None);
        assert_eq!(row(json!({"v": "1"})), None);
    }
}
