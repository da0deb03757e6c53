//! `strongroom recover`

use super::output::Output;
use crate::app::Exit;
use crate::job::recover::{self, Recovered};
use crate::job::{Context, JobError};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print what would be taken back and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let runs = if args.dry_run { recover::plan(context).await? } else { recover::run(context).await? };
    let mut text: String = runs.iter().map(|run| describe(run, args.dry_run)).collect();
    if runs.is_empty() {
        text = "nothing to recover: every run was closed\n".into();
    }
    output.result(if args.dry_run { "recover_plan" } else { "recovered" }, &runs, &text);
    Ok(if runs.iter().all(|run| run.failures.is_empty()) { Exit::Done } else { Exit::Partial })
}

fn describe(run: &Recovered, dry_run: bool) -> String {
    let died = run.died_in.as_ref().map(|step| format!(", died in '{step}'")).unwrap_or_default();
    let mut out = format!("run {} ({} {}){died}\n", run.run, run.verb, run.subject);
    let word = if dry_run { "would" } else { "did" };
    for undo in &run.undo {
        out.push_str(&format!("  {word} {undo}\n"));
    }
    for failure in &run.failures {
        out.push_str(&format!("  FAILED {failure}\n"));
    }
    out
}
