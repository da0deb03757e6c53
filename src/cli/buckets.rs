//! `strongroom buckets plan | apply`

use super::output::Output;
use crate::app::Exit;
use crate::job::{Context, JobError, buckets};
use crate::report;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Show how the buckets differ from what they are to be; change nothing. Exits with 7 when something differs
    Plan,
    /// Make missing buckets and change what differs: access, storage class, key, lifecycle, retention policy
    Apply(ApplyArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    /// Lock this bucket's retention policy: nobody can take it back or shorten it, ever
    #[arg(long, value_name = "BUCKET")]
    lock: Vec<String>,
    /// Print what would be done, as `buckets plan`
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, verb: Verb, output: &Output) -> Result<Exit, JobError> {
    let args = match verb {
        Verb::Apply(args) if !args.dry_run => args,
        Verb::Plan | Verb::Apply(_) => {
            let plan = buckets::plan(context).await?;
            output.result("buckets_plan", &plan, &report::buckets_plan(&plan));
            let settled = plan.buckets.iter().all(|bucket| bucket.is_settled() && bucket.problems.is_empty());
            return Ok(if settled { Exit::Done } else { Exit::Differs });
        }
    };
    let applied = buckets::apply(context, &args.lock).await?;
    let mut text = String::new();
    for (what, names) in [("made", &applied.created), ("changed", &applied.changed), ("locked", &applied.locked)] {
        for name in names {
            text.push_str(&format!("{what} gs://{name}\n"));
        }
    }
    if text.is_empty() {
        text.push_str("every bucket is as it is to be\n");
    }
    output.result("buckets", &applied, &text);
    Ok(Exit::Done)
}
