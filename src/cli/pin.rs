//! `strongroom pin`, `strongroom unpin` and `strongroom approve`

use jiff::Timestamp;
use serde_json::json;

use super::output::Output;
use crate::app::Exit;
use crate::job::{Context, JobError, pin};
use crate::model::BackupName;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A backup's name
    backup: BackupName,

    /// Why, for those who wonder later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Until this time, such as 2027-01-01T00:00:00Z, instead of until it is unpinned
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,

    /// Hold its objects, too, where the storage knows holds: then nobody can delete them until it is unpinned
    #[arg(long)]
    hold: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct UnpinArgs {
    /// A backup's name
    backup: BackupName,
}

#[derive(Debug, clap::Args)]
pub(super) struct ApproveArgs {
    /// The name of a backup that was taken before a change
    backup: BackupName,

    /// Who has verified the change
    #[arg(long, value_name = "WHO", env = "USER")]
    by: Option<String>,

    /// How, for those who wonder later
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

pub(super) async fn approve(context: &Context, args: ApproveArgs, output: &Output) -> Result<Exit, JobError> {
    super::recover_first(context).await?;
    let approved = pin::approve(context, &args.backup, args.by, args.note).await?;
    let keep = context.config.retention.keep_pre_change;
    let text = format!("the change of {} is verified by {}: it is kept for {keep}\n", args.backup, approved.by);
    output.result("approved", &json!({"backup": args.backup, "approved": approved}), &text);
    Ok(Exit::Done)
}

pub(super) async fn pin(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    super::recover_first(context).await?;
    let (pinned, holds) = pin::pin(context, &args.backup, args.reason, args.until, args.hold).await?;
    let until = pinned.until.map_or_else(|| "until it is unpinned".into(), |until| format!("until {until}"));
    let mut text = format!("{} is kept {until}\n", args.backup);
    for place in &holds.places {
        text.push_str(&format!("  held in {place}\n"));
    }
    for place in &holds.without {
        text.push_str(&format!("  {place} knows no holds\n"));
    }
    output.result("pinned", &json!({"backup": args.backup, "pinned": pinned, "holds": holds}), &text);
    Ok(Exit::Done)
}

pub(super) async fn unpin(context: &Context, args: UnpinArgs, output: &Output) -> Result<Exit, JobError> {
    super::recover_first(context).await?;
    let was = pin::unpin(context, &args.backup).await?;
    let text = if was { "is not pinned any more: the tier's rules decide" } else { "was not pinned" };
    let text = format!("{} {text}\n", args.backup);
    output.result("unpinned", &json!({"backup": args.backup, "was_pinned": was}), &text);
    Ok(Exit::Done)
}
