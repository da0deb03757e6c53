//! `strongroom query`

use std::io::Write;

use serde_json::json;

use super::output::Output;
use super::wanted;
use crate::app::Exit;
use crate::catalog::Wanted;
use crate::codec::row_json::RowJson;
use crate::job::{Context, JobError, copies, query};
use crate::model::Failure;
use crate::report::{Align, Table};

const AFTER: &str = "\
The embedded engine is DataFusion, with BigQuery's names: `table`, `dataset.table` or `project.dataset.table`, as in the
original dataset, views too. It reads the stored files in place: of Parquet only the columns that the query needs, of
Avro (which lies by rows) whole files. COUNT(*) over Parquet reads the footers only.

Beyond DataFusion's own SQL it knows of BigQuery: IF, COUNTIF, SAFE_DIVIDE, SAFE_CAST, LOGICAL_AND, LOGICAL_OR,
ANY_VALUE, APPROX_COUNT_DISTINCT, {DATE,DATETIME,TIMESTAMP}_{TRUNC,DIFF,ADD,SUB}, TO_JSON_STRING(value),
FARM_FINGERPRINT, `/` of two INT64 as FLOAT64, NULLs first. Not: UNNEST of a table's own array, STRUCT(...),
TO_JSON_STRING of a whole row, scripts, user-defined functions. What it cannot run is an error, never a guess.

    strongroom query latest \"SELECT user_id, SUM(cost_usd) FROM fct_cost_daily GROUP BY user_id\"";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(super) struct Args {
    /// A backup's name, or latest
    #[arg(value_parser = wanted)]
    backup: Wanted,

    /// One SELECT
    sql: String,

    /// How rows are printed; json is one object a line
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// At most so many rows are held for a table or --json
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_rows: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let entry = copies::readable(context, &context.catalog.find(&args.backup, None).await?).await?;
    let mut rows = query::run(&entry, &args.sql).await?;
    let columns = crate::query::columns(rows.schema());
    if !output.is_json() && args.format != Format::Table {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let mut text = Vec::new();
        if args.format == Format::Csv {
            csv_line(columns.iter().map(|name| Some(name.as_str())), &mut text);
        }
        loop {
            // Nobody reads any more: there is nothing left to do.
            if out.write_all(&text).is_err() {
                return Ok(Exit::Done);
            }
            text.clear();
            let Some(batch) = rows.next().await? else { break };
            if args.format == Format::Csv {
                for row in query::cells(&batch)? {
                    csv_line(row.iter().map(Option::as_deref), &mut text);
                }
            } else {
                let invalid = |error: crate::codec::CodecError| Failure::Invalid {
                    object: "query".into(),
                    message: error.to_string(),
                };
                let json = RowJson::new(&batch).map_err(invalid)?;
                for row in 0..batch.num_rows() {
                    json.write(row, &mut text);
                    text.push(b'\n');
                }
            }
        }
        out.flush().ok();
        return Ok(Exit::Done);
    }
    let mut held: Vec<Vec<Option<String>>> = Vec::new();
    while let Some(batch) = rows.next().await? {
        held.extend(query::cells(&batch)?);
        if held.len() > args.max_rows {
            break;
        }
    }
    let more = held.len() > args.max_rows;
    held.truncate(args.max_rows);
    let numeric = rows.schema().fields().iter().map(|field| field.data_type().is_numeric());
    let aligned: Vec<(&str, Align)> = columns
        .iter()
        .zip(numeric)
        .map(|(name, numeric)| (name.as_str(), if numeric { Align::Right } else { Align::Left }))
        .collect();
    let mut table = Table::new(&aligned);
    for row in &held {
        table.row(row.iter().map(|cell| cell.clone().unwrap_or_else(|| "NULL".into())));
    }
    let mut text = table.render();
    text.push_str(&match (held.len(), more) {
        (count, true) => format!("  the first {count} rows; hint: --format csv prints all, --max-rows N more\n"),
        (1, false) => "  1 row\n".to_string(),
        (count, false) => format!("  {count} rows\n"),
    });
    let document = json!({"backup": entry.manifest.name, "columns": columns, "rows": held, "more_rows": more});
    output.result("query", &document, &text);
    Ok(Exit::Done)
}

/// NULL is nothing, an empty text is `""`.
fn csv_line<'a>(cells: impl Iterator<Item = Option<&'a str>>, out: &mut Vec<u8>) {
    for (n, cell) in cells.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        let Some(cell) = cell else { continue };
        if cell.is_empty() || cell.contains([',', '"', '\n', '\r']) {
            out.extend_from_slice(format!("\"{}\"", cell.replace('"', "\"\"")).as_bytes());
        } else {
            out.extend_from_slice(cell.as_bytes());
        }
    }
    out.extend_from_slice(b"\n");
}
