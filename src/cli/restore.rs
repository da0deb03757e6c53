//! `strongroom restore`

use jiff::Timestamp;

use super::output::Output;
use super::{validate, wanted};
use crate::app::Exit;
use crate::catalog::Wanted;
use crate::job::restore::{self, Restored};
use crate::job::{Context, JobError};
use crate::model::{DatasetId, Failure, Pattern, TierName};
use crate::plan::restore::RestoreRequest;
use crate::report::{self, Align, Table};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A backup's name, or latest
    #[arg(value_parser = wanted, default_value = "latest", conflicts_with = "at")]
    backup: Wanted,

    /// The newest backup whose data is not younger than this, such as 2026-08-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,

    /// Only backups of this tier
    #[arg(long)]
    tier: Option<TierName>,

    /// Only tables and views of this name or pattern (repeatable); spreadsheets are left alone then
    #[arg(long = "table", value_name = "PATTERN")]
    tables: Vec<String>,

    /// Into another dataset (DATASET or PROJECT.DATASET) instead of the one that was lost
    #[arg(long, value_name = "DATASET")]
    into: Option<String>,

    /// Into another spreadsheet
    #[arg(long, value_name = "ID")]
    into_spreadsheet: Option<String>,

    /// Only this source, by its name in the configuration (repeatable)
    #[arg(long = "source", value_name = "NAME")]
    sources: Vec<String>,

    /// Into another database, which is made
    #[arg(long, value_name = "DATABASE")]
    target_db: Option<String>,

    /// Into another directory, or a file of another name, for files and SQLite databases
    #[arg(long, value_name = "PATH")]
    to: Option<std::path::PathBuf>,

    /// Only files of this path or pattern (repeatable)
    #[arg(long = "path", value_name = "PATTERN")]
    paths: Vec<String>,

    /// Replace what is there: tables, views, cells, a database, files; a snapshot of every BigQuery table is taken first
    #[arg(long)]
    replace: bool,

    /// Print the plan and change nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    pub(super) identity: super::IdentityArg,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let backup = args.at.map_or(args.backup, Wanted::At);
    let into = args.into.map(|text| dataset(context, &text)).transpose()?;
    let request = RestoreRequest {
        tables: args.tables.iter().map(|text| Pattern::new(text)).collect(),
        into,
        replace: args.replace,
        into_spreadsheet: args.into_spreadsheet,
        sources: args.sources,
        target_db: args.target_db,
        to: args.to,
        paths: args.paths.iter().map(|text| Pattern::new(text)).collect(),
        ..RestoreRequest::default()
    };
    let entry = context.catalog.find(&backup, args.tier.as_ref()).await?;
    if args.dry_run {
        let plan = restore::dry_run(context, &entry, &request).await?;
        output.result("restore_plan", &plan, &report::restore_plan(&plan));
        return Ok(Exit::Done);
    }
    super::recover_first(context).await?;
    let restored = restore::run(context, &entry, &request).await?;
    output.result("restore", &restored, &text(&restored));
    Ok(if restored.differences.is_empty() {
        if restored.passed() { Exit::Done } else { Exit::Invalid }
    } else {
        Exit::Partial
    })
}

/// A dataset as people name it: in the configuration's project unless said otherwise.
pub(super) fn dataset(context: &Context, text: &str) -> Result<DatasetId, JobError> {
    context
        .dataset(text)
        .map_err(|error| Failure::Invalid { object: "dataset".into(), message: error.to_string() }.into())
}

/// More items than this are summed up.
const MANY_ITEMS: usize = 40;

fn text(restored: &Restored) -> String {
    let mut out = format!("restored {}\n", restored.backup);
    let columns = [
        ("table", Align::Left),
        ("rows lost", Align::Right),
        ("rows back", Align::Right),
        ("same rows and figures", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for source in &restored.sources {
        out.push_str(&format!("  {} into {}\n", source.source, source.target));
    }
    for restored in &restored.tables {
        let proven = match restored.proven {
            Some(true) => "yes, proven",
            Some(false) => "NO",
            None => "only counted",
        };
        table.row([
            restored.table.to_string(),
            report::thousands(restored.expected_row_count),
            report::thousands(restored.row_count),
            proven.to_string(),
        ]);
    }
    for item in restored.sources.iter().flat_map(|source| &source.items).take(MANY_ITEMS) {
        let proven = match item.proven {
            Some(true) => "yes, proven",
            Some(false) => "NO",
            None => "as it was stored",
        };
        let rows = |count: Option<u64>| count.map(report::thousands).unwrap_or_default();
        table.row([item.name.clone(), rows(item.expected_row_count), rows(item.row_count), proven.to_string()]);
    }
    if !restored.tables.is_empty() || restored.sources.iter().any(|source| !source.items.is_empty()) {
        out.push_str(&table.render());
    }
    let items: usize = restored.sources.iter().map(|source| source.items.len()).sum();
    if items > MANY_ITEMS {
        out.push_str(&format!("  and {} more\n", report::thousands((items - MANY_ITEMS) as u64)));
    }
    if restored.sources.is_empty() || restored.view_count + restored.tabs.len() > 0 {
        out.push_str(&format!("  {} views, {} tabs\n", restored.view_count, restored.tabs.len()));
    }
    for difference in &restored.differences {
        out.push_str(&format!("  differs: {difference}\n"));
    }
    for validation in &restored.validations {
        out.push_str(&validate::text(validation));
    }
    out.push_str("\nsteps\n");
    let mut steps = Table::new(&[("step", Align::Left), ("took", Align::Right)]);
    for timing in &restored.timings {
        steps.row([timing.step.clone(), report::duration(timing.ended_at.duration_since(timing.started_at))]);
    }
    out.push_str(&steps.render());
    out
}
