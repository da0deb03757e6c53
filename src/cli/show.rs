//! `strongroom show`

use super::output::Output;
use super::wanted;
use crate::app::Exit;
use crate::catalog::Wanted;
use crate::job::{Context, JobError};
use crate::report;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A backup's name, or latest
    #[arg(value_parser = wanted, default_value = "latest")]
    backup: Wanted,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let entry = context.catalog.find(&args.backup, None).await?;
    let manifest = &entry.manifest;
    let marks = context.marks.of(&manifest.name, &manifest.commit_id).await?;
    let mut text = report::manifest(manifest);
    match &marks.verified {
        Some(mark) => text.push_str(&format!("verified {} by {}, {}\n", mark.at, mark.by, mark.how)),
        None => text.push_str("not verified yet; hint: strongroom drill\n"),
    }
    output.result("backup", manifest, &text);
    Ok(Exit::Done)
}
