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
    output.result("backup", &entry.manifest, &report::manifest(&entry.manifest));
    Ok(Exit::Done)
}
