//! `strongroom recover`

use super::output::Output;
use crate::app::Exit;
use crate::job::recover::{self, Recovered, Recovery};
use crate::job::{Context, JobError};
use crate::report;

/// Ingestion that a dead run has paused is resumed. What a dead run made is taken back. A removal that was begun is finished.
/// Objects, snapshots, marks and scratch datasets that no manifest reaches are removed when they are older than
/// `recover.grace`, and journals of closed runs after `recover.keep_journals`; what was committed is never touched.
///
/// While another run is alive, nothing is touched but ingestion that it has paused for too long.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print what would be taken back and removed, and why; change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let recovery = if args.dry_run { recover::plan(context).await? } else { recover::whole(context).await? };
    let text = describe(&recovery, args.dry_run);
    output.result(if args.dry_run { "recover_plan" } else { "recovered" }, &recovery, &text);
    Ok(if recovery.succeeded() { Exit::Done } else { Exit::Partial })
}

fn describe(recovery: &Recovery, dry_run: bool) -> String {
    let mut text: String = recovery.runs.iter().map(|run| describe_run(run, dry_run)).collect();
    let word = if dry_run { "would finish removing" } else { "finished removing" };
    text.extend(recovery.removals.iter().map(|backup| format!("{word} {backup}\n")));
    text.push_str(&report::garbage_plan(&recovery.garbage, dry_run));
    text.extend(recovery.failures.iter().map(|failure| format!("FAILED {failure}\n")));
    if recovery.is_nothing() {
        text.push_str("nothing to recover: every run was closed\n");
    }
    text
}

fn describe_run(run: &Recovered, dry_run: bool) -> String {
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
