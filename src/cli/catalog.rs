//! `strongroom catalog`

use super::output::Output;
use crate::app::Exit;
use crate::job::{Context, JobError, index};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Write the index of the backups again: backup_metadata.json at each destination's root
    Rebuild(RebuildArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct RebuildArgs {
    /// Say where it would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, verb: Verb, output: &Output) -> Result<Exit, JobError> {
    let Verb::Rebuild(args) = verb;
    let rebuilt = if args.dry_run { index::plan(context).await? } else { index::rebuild(context).await? };
    let done = if args.dry_run { "would be written" } else { "written" };
    let mut text = format!("{} backups\n", rebuilt.backup_count);
    rebuilt.written.iter().for_each(|object| text.push_str(&format!("  {done}: {object}\n")));
    rebuilt.failures.iter().for_each(|failure| text.push_str(&format!("  not written: {failure}\n")));
    output.result(if args.dry_run { "catalog_rebuild_plan" } else { "catalog_rebuild" }, &rebuilt, &text);
    Ok(if rebuilt.failures.is_empty() { Exit::Done } else { Exit::Partial })
}
