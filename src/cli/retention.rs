//! `strongroom retention`

use super::output::Output;
use crate::app::Exit;
use crate::job::{Context, JobError, retention};
use crate::report;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print what is kept, condemned and removed, and why; change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    if args.dry_run {
        let plan = retention::plan(context).await?;
        output.result("retention_plan", &plan, &report::retention_plan(&plan));
        return Ok(Exit::Done);
    }
    super::recover_first(context).await?;
    let retained = retention::run(context).await?;
    let mut text = report::retention_plan(&retained.plan);
    for failure in &retained.failures {
        text.push_str(&format!("not removed: {failure}\n"));
    }
    output.result("retention", &retained, &text);
    Ok(if retained.failures.is_empty() { Exit::Done } else { Exit::Partial })
}
