//! `strongroom repair`

use super::output::Output;
use super::wanted;
use crate::app::Exit;
use crate::catalog::Wanted;
use crate::job::copies::Fault;
use crate::job::repair::{self, Mended, RepairRequest, Repaired};
use crate::job::{Context, JobError};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A backup's name, or latest
    #[arg(value_parser = wanted, default_value = "latest", conflicts_with = "all")]
    backup: Wanted,

    /// Every backup
    #[arg(long)]
    all: bool,

    /// Read every byte of every copy, where otherwise sizes and the stores' own checksums are believed
    #[arg(long)]
    deep: bool,

    /// Say what is not whole and what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let request = RepairRequest { backup: (!args.all).then_some(args.backup), deep: args.deep };
    let repaired = if args.dry_run {
        repair::plan(context, &request).await?
    } else {
        super::recover_first(context).await?;
        repair::run(context, &request).await?
    };
    let kind = if args.dry_run { "repair_plan" } else { "repair" };
    output.result(kind, &repaired, &text(&repaired));
    Ok(match (repaired.has_lost(), repaired.has_failed()) {
        (true, _) => Exit::Corrupt,
        (false, true) => Exit::Partial,
        (false, false) => Exit::Done,
    })
}

fn text(repaired: &Repaired) -> String {
    let mut out = String::new();
    for backup in &repaired.backups {
        out.push_str(&format!("{}\n", backup.backup));
        for place in &backup.places {
            let total = place.object_count;
            let state = match (&place.problem, place.whole_before, place.whole_after) {
                (Some(problem), ..) => format!("could not be looked at: {problem}"),
                (None, before, _) if before == total => format!("all {total} objects are whole"),
                (None, before, after) if after == total => format!("{} of {total} objects mended", total - before),
                (None, before, after) if after > before => {
                    format!("{} of {total} objects mended, {} are not whole", after - before, total - after)
                }
                (None, before, _) => format!("{} of {total} objects are not whole", total - before),
            };
            out.push_str(&format!("  {}: {state}\n", place.place));
        }
        for object in &backup.objects {
            let fault = match &object.fault {
                Fault::Missing => "missing".to_string(),
                Fault::Corrupt { message } => format!("corrupt ({message})"),
            };
            let outcome = match &object.outcome {
                Mended::Planned { from } => format!("would be taken from {from}"),
                Mended::Mended { from } => format!("taken from {from}"),
                Mended::Failed { message } => format!("NOT mended: {message}"),
                Mended::Lost => "LOST: no place has it".into(),
            };
            out.push_str(&format!("    {}/{}: {fault}: {outcome}\n", object.place, object.object));
        }
        backup.notes.iter().for_each(|note| out.push_str(&format!("  note: {note}\n")));
    }
    if repaired.backups.is_empty() {
        out.push_str("no backups\n");
    }
    out
}
