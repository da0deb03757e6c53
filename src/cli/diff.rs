//! `strongroom diff`

use super::output::Output;
use super::{restore, wanted};
use crate::app::Exit;
use crate::catalog::Wanted;
use crate::job::diff::{self, Diff, DiffRequest, TableDiff};
use crate::job::{Context, JobError};
use crate::model::Pattern;
use crate::plan::diff::{Row, RowDifference};
use crate::report;

const AFTER: &str = "\
Compares a backup with what is there, or with another backup. Of BigQuery's tables, and between two
backups of every table that is kept as files, the rows that differ are shown: a removed row is in
the first and not in the second, an added one the other way round; rows that share the primary key,
or most of their columns, are shown as changed. BigQuery bills one scan of each table that is
compared, and another two of those that differ. Of databases and files that are there, figures and
contents are compared: take a backup to see the rows that changed since an earlier one.
Exit code 7 when something differs.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(super) struct Args {
    /// A backup's name, or latest
    #[arg(value_parser = wanted)]
    backup: Wanted,

    /// Another backup, instead of what is there
    #[arg(value_parser = wanted, conflicts_with = "dataset")]
    other: Option<Wanted>,

    /// Only tables of this name or pattern (repeatable)
    #[arg(long = "table", value_name = "PATTERN")]
    tables: Vec<String>,

    /// The tables of another dataset (DATASET or PROJECT.DATASET), such as a restored one
    #[arg(long, value_name = "DATASET")]
    dataset: Option<String>,

    /// At most so many rows are shown of each table
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,

    #[command(flatten)]
    pub(super) identity: super::IdentityArg,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let dataset = args.dataset.map(|text| restore::dataset(context, &text)).transpose()?;
    let tables = args.tables.iter().map(|text| Pattern::new(text)).collect();
    let entry = context.catalog.find(&args.backup, None).await?;
    let other = match &args.other {
        Some(other) => Some(context.catalog.find(other, None).await?),
        None => None,
    };
    let diff = diff::run(context, &entry, &DiffRequest { tables, other, dataset, limit: args.limit }).await?;
    output.result("diff", &diff, &text(&diff));
    Ok(if diff.same() { Exit::Done } else { Exit::Differs })
}

fn text(diff: &Diff) -> String {
    let other = diff.other.as_ref().map_or("what is there".to_string(), ToString::to_string);
    let mut out = format!("{} and {other}\n", diff.backup);
    let there = if diff.other.is_some() { "in the other" } else { "there" };
    for table in &diff.tables {
        out.push_str(&format!("  {}: {}\n", table.table, summary(table, there)));
        for change in &table.columns {
            out.push_str(&format!("    column {change}\n"));
        }
        for row in &table.rows {
            out.push_str(&format!("    {}\n", line(row)));
        }
        let shown: u64 = table.rows.iter().map(rows_of).sum();
        let all = table.removed_rows + table.added_rows;
        if !table.rows.is_empty() && (all > shown || !table.complete) {
            let least = if table.complete { "" } else { "at least " };
            let more = report::thousands(all.saturating_sub(shown));
            out.push_str(&format!("    and {least}{more} more; hint: --limit N\n"));
        }
        if !table.not_compared.is_empty() {
            out.push_str(&format!("    not compared (no canonical form): {}\n", table.not_compared.join(", ")));
        }
    }
    for source in &diff.sources {
        let same = if source.differences.is_empty() { "the same" } else { "differs" };
        out.push_str(&format!("  {} ({}): {same}\n", source.source, source.target));
        for difference in &source.differences {
            out.push_str(&format!("    {difference}\n"));
        }
        for item in source.items.iter().filter(|item| item.proven != Some(false)) {
            let rows = item.row_count.map(|rows| format!(" {} rows", report::thousands(rows))).unwrap_or_default();
            out.push_str(&format!("    {}: the same{rows}\n", item.name));
        }
    }
    if !diff.not_compared.is_empty() {
        out.push_str(&format!("  not compared: {}\n", diff.not_compared.join(", ")));
    }
    out
}

fn summary(table: &TableDiff, there: &str) -> String {
    if let Some(message) = &table.message {
        return message.clone();
    }
    if table.same() {
        return format!("the same {} rows", report::thousands(table.backup_rows));
    }
    let rows_differ = !table.differing_buckets.is_empty() || table.backup_rows != table.table_rows;
    if !rows_differ {
        return format!(
            "its columns are others; in those that both have, the same {} rows",
            report::thousands(table.backup_rows)
        );
    }
    let least = if table.complete { "" } else { "at least " };
    format!(
        "{least}{} rows removed, {} added (a changed row is both); {} rows in the backup, {} {there}; {} of 256 buckets differ",
        report::thousands(table.removed_rows),
        report::thousands(table.added_rows),
        report::thousands(table.backup_rows),
        report::thousands(table.table_rows),
        table.differing_buckets.len()
    )
}

fn rows_of(difference: &RowDifference) -> u64 {
    match difference {
        RowDifference::Removed { times, .. } | RowDifference::Added { times, .. } => *times,
        RowDifference::Changed { .. } => 2,
    }
}

fn line(difference: &RowDifference) -> String {
    let json = |row: &Row| serde_json::Value::Object(row.clone()).to_string();
    let often = |times: u64| if times > 1 { format!(" ({times} times)") } else { String::new() };
    match difference {
        RowDifference::Removed { row, times } => format!("removed  {}{}", json(row), often(*times)),
        RowDifference::Added { row, times } => format!("added    {}{}", json(row), often(*times)),
        RowDifference::Changed { before, after, columns } => {
            let value = |row: &Row, name: &String| row.get(name).map_or("nothing".into(), ToString::to_string);
            let changes: Vec<String> = columns
                .iter()
                .map(|name| format!("{name}: {} -> {}", value(before, name), value(after, name)))
                .collect();
            format!("changed  {} in {}", changes.join(", "), json(before))
        }
    }
}
