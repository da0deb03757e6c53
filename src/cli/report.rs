//! `strongroom report`

use std::path::PathBuf;

use clap::ValueEnum;

use super::output::Output;
use crate::app::Exit;
use crate::catalog::{CatalogError, Wanted};
use crate::job::{self, Context, JobError, drill};
use crate::model::Failure;
use crate::report;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A drill's or a backup's name; without it the latest drill
    name: Option<String>,

    /// Of the latest backup, where no name is given
    #[arg(long)]
    backup: bool,

    /// In which form
    #[arg(long, value_enum, default_value = "text")]
    format: Format,

    /// Into a file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    /// The document that schemas/ describes
    Json,
    /// One page that needs nothing else
    Html,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let Some(name) = args.name.as_deref() else {
        let latest = of_backup(context, &Wanted::Latest, &args, output);
        return if args.backup { latest.await } else { of_drill(context, &args, output).await };
    };
    if !args.backup && drill::is_stored(context, name).await? {
        return of_drill(context, &args, output).await;
    }
    let wanted = super::wanted(name).map_err(|message| Failure::Invalid { object: name.into(), message })?;
    match of_backup(context, &wanted, &args, output).await {
        Err(JobError::Catalog(CatalogError::NotFound(_))) if !args.backup => of_drill(context, &args, output).await,
        done => done,
    }
}

async fn of_drill(context: &Context, args: &Args, output: &Output) -> Result<Exit, JobError> {
    let found = drill::stored(context, args.name.as_deref()).await?;
    let text = match args.format {
        Format::Text => report::drill_text(&found),
        Format::Json => String::from_utf8_lossy(&found.to_bytes()).into_owned(),
        Format::Html => report::drill_page(&found),
    };
    give(args, output, ("drill", &found, text))
}

async fn of_backup(context: &Context, wanted: &Wanted, args: &Args, output: &Output) -> Result<Exit, JobError> {
    let (found, manifest) = job::report::backup(context, wanted, None).await?;
    let text = match args.format {
        Format::Text => report::backup_text(&found, &manifest),
        Format::Json => serde_json::to_string_pretty(&found).unwrap_or_default() + "\n",
        Format::Html => report::backup_page(&found),
    };
    give(args, output, ("backup_report", &found, text))
}

fn give(
    args: &Args,
    output: &Output,
    (kind, found, text): (&str, &impl serde::Serialize, String),
) -> Result<Exit, JobError> {
    match &args.output {
        None => output.result(kind, found, &text),
        Some(file) => std::fs::write(file, text).map_err(|error| Failure::Invalid {
            object: format!("--output {}", file.display()),
            message: error.to_string(),
        })?,
    }
    Ok(Exit::Done)
}
