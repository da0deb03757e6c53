//! `strongroom backup`

use super::output::Output;
use crate::app::Exit;
use crate::job::{Context, JobError, backup};
use crate::model::{Failure, InvalidName, Kind, Period, Terms, TierName};
use crate::plan::backup::Occasion;
use crate::report;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The tier of the configuration [default: the one named after the kind, or daily]
    #[arg(long)]
    tier: Option<TierName>,

    /// A backup by hand, for a purpose: it becomes the name, and the snapshots are kept longer
    #[arg(long, visible_alias = "name", value_name = "PURPOSE", conflicts_with_all = ["kind", "description"])]
    manual: Option<String>,

    /// What a backup by hand is for: manual, emergency, or pre_change, which is kept until the change is verified
    #[arg(long, value_name = "KIND", requires = "description")]
    kind: Option<Kind>,

    /// The change or the purpose: it becomes the name
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// The change's ticket
    #[arg(long, value_name = "TEXT")]
    ticket: Option<String>,

    /// Keep it so long, such as 90d, instead of what the configuration says for its kind
    #[arg(long, value_name = "PERIOD")]
    keep: Option<Period>,

    /// Who asks for it
    #[arg(long, value_name = "WHO", env = "USER")]
    by: Option<String>,

    /// Print the plan and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let tier = tier(context, &args)?;
    let occasion = match args.manual.or(args.description) {
        Some(purpose) => {
            let kind = args.kind.unwrap_or_default();
            let terms = Terms { kind, ticket: args.ticket, creator: args.by, keep: args.keep };
            Occasion::Manual { purpose, terms }
        }
        None if args.ticket.is_some() || args.keep.is_some() => {
            let message = "is for a backup by hand; hint: say what it is for: --description TEXT".into();
            let object = if args.keep.is_some() { "--keep" } else { "--ticket" }.into();
            return Err(Failure::Invalid { object, message }.into());
        }
        None => Occasion::Schedule,
    };
    if args.dry_run {
        let plan = backup::plan(context, &tier, &occasion).await?;
        output.result("backup_plan", &plan, &report::backup_plan(&plan));
        return Ok(Exit::Done);
    }
    super::recover_first(context).await?;
    let manifest = backup::run(context, &tier, &occasion).await?;
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

/// The tier that is named, or that of the kind, where the configuration has one.
fn tier(context: &Context, args: &Args) -> Result<TierName, JobError> {
    if let Some(tier) = &args.tier {
        return Ok(tier.clone());
    }
    let invalid = |error: InvalidName| Failure::Invalid { object: "--tier".into(), message: error.to_string() };
    let of_kind = args.kind.map(|kind| kind.name().parse::<TierName>()).transpose().map_err(invalid)?;
    match of_kind.filter(|tier| context.config.tiers.contains_key(tier)) {
        Some(tier) => Ok(tier),
        None => Ok("daily".parse::<TierName>().map_err(invalid)?),
    }
}
