//! `strongroom pause` and `strongroom resume`

use super::output::Output;
use crate::app::Exit;
use crate::job::{Context, JobError, ingest};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print what would be changed and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, args: Args, pause: bool, output: &Output) -> Result<Exit, JobError> {
    if !args.dry_run {
        // A dead run would have resumed what is paused by hand now.
        super::recover_first(context).await?;
    }
    let switched = if args.dry_run { ingest::plan(context, pause).await? } else { ingest::run(context, pause).await? };
    let (verb, done) = if pause { ("pause", "paused") } else { ("resume", "resumed") };
    let word = if args.dry_run { format!("would {verb}") } else { done.to_string() };
    let mut text: String = switched.changed.iter().map(|job| format!("{word} {job}\n")).collect();
    text.extend(switched.left_alone.iter().map(|job| format!("left alone {job}\n")));
    if text.is_empty() {
        text = "the configuration names no ingestion (ingestion.scheduler_jobs)\n".into();
    }
    output.result(if args.dry_run { "ingestion_plan" } else { done }, &switched, &text);
    Ok(Exit::Done)
}
