//! `strongroom backup`

use super::output::Output;
use crate::app::Exit;
use crate::job::{Context, JobError, backup};
use crate::model::TierName;
use crate::plan::backup::Occasion;
use crate::report;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The tier of the configuration
    #[arg(long, default_value = "daily")]
    tier: TierName,

    /// A backup by hand, for a purpose: it becomes the name, and the snapshots are kept longer
    #[arg(long, value_name = "PURPOSE")]
    manual: Option<String>,

    /// Print the plan and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let occasion = args.manual.map_or(Occasion::Schedule, |purpose| Occasion::Manual { purpose });
    if args.dry_run {
        let plan = backup::plan(context, &args.tier, &occasion).await?;
        output.result("backup_plan", &plan, &report::backup_plan(&plan));
        return Ok(Exit::Done);
    }
    super::recover_first(context).await?;
    let manifest = backup::run(context, &args.tier, &occasion).await?;
    let mut text = format!("{}\n  {}\n", manifest.name, report::manifest_line(&manifest));
    let total = manifest.committed_at.duration_since(manifest.started_at);
    match &manifest.pause {
        Some(pause) => text.push_str(&format!(
            "  ingestion paused {} of {} in all\n",
            report::duration(pause.duration()),
            report::duration(total)
        )),
        None => text.push_str(&format!("  {} in all, nothing was paused\n", report::duration(total))),
    }
    for note in &manifest.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    for attention in &manifest.attention {
        text.push_str(&format!("  ATTENTION: {attention}\n"));
    }
    output.result("backup", &manifest, &text);
    Ok(if manifest.attention.is_empty() { Exit::Done } else { Exit::Emptied })
}
