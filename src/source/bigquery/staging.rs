//! Loads a table of more partitions than one job may write: into a table without partitions, and from there in parts.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::jobs::{JobIds, load, run};
use crate::config::TableFormat;
use crate::google::Google;
use crate::google::bigquery::QueryOptions;
use crate::model::schema::Schema;
use crate::model::{Failure, TableId};
use crate::plan::partitions::{Partitioning, quoted};

/// A staging table vanishes by itself after so long, should nobody remove it.
const LIFE: SignedDuration = SignedDuration::from_hours(24);

/// Loads files into the empty `table` by way of `staging`, which is made and removed, and gives the rows that BigQuery
/// says it wrote.
///
/// # Errors
/// When BigQuery refuses or fails; `Corrupt` when rows were lost on the way.
pub async fn load_in_parts(
    google: &Google,
    ids: &JobIds,
    index: usize,
    (table, staging): (&TableId, &TableId),
    (format, resource): (TableFormat, &Value),
    uris: &[String],
    now: Timestamp,
) -> Result<u64, Failure> {
    let corrupt = |message: String| Failure::Corrupt { object: table.to_string(), message };
    let saved = &resource["schema"];
    let schema = Schema::from_json(saved).map_err(|error| corrupt(error.to_string()))?;
    let parting = Partitioning::of(resource, &schema)
        .ok_or_else(|| corrupt("was planned to be loaded in parts, but no column partitions it".into()))?;

    remove(google, staging).await?; // a dead run's
    let mut made = json!({
        "schema": saved,
        "description": "Made by strongroom while it restores; it expires by itself.",
        "expirationTime": now.checked_add(LIFE).unwrap_or(Timestamp::MAX).as_millisecond().to_string(),
    });
    // Each part then reads little more than its own rows.
    made["clustering"] = json!({"fields": [parting.column()]});
    google.bigquery.insert_table(staging, made).await?;
    let loaded = load(google, ids, index, (staging, None), (format, saved), uris).await?;

    let options = QueryOptions { location: Some(ids.location.clone()), ..QueryOptions::default() };
    let starts = google.bigquery.query(&ids.project, &parting.starts_sql(staging), &options).await?;
    let starts: Vec<String> = starts.rows.iter().filter_map(|row| row.first()?.as_str().map(String::from)).collect();
    let columns: Vec<String> = schema.fields.iter().map(|field| quoted(&field.name)).collect();
    let columns = columns.join(", ");
    let mut written = 0;
    for (i, part) in parting.parts(&starts).into_iter().enumerate() {
        let sql =
            format!("INSERT INTO {} ({columns}) SELECT {columns} FROM {} WHERE {part}", table.sql(), staging.sql());
        let job = run(
            google,
            ids,
            ("insert", 1_000 * index + i),
            |_| json!({"query": {"query": sql, "useLegacySql": false}}),
        )
        .await?;
        let rows = &job["statistics"]["query"]["numDmlAffectedRows"];
        let rows = rows.as_str().and_then(|text| text.parse::<u64>().ok()).or(rows.as_u64());
        written += rows.ok_or_else(|| corrupt("a part's job reports no count of rows".into()))?;
    }
    if written != loaded {
        return Err(corrupt(format!("{written} rows were written of {loaded} that were loaded")));
    }
    remove(google, staging).await?;
    Ok(written)
}

async fn remove(google: &Google, staging: &TableId) -> Result<(), Failure> {
    match google.bigquery.delete_table(staging).await {
        Ok(()) | Err(Failure::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
