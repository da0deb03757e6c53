//! `strongroom validate`

use serde_json::json;

use super::output::Output;
use super::{restore, wanted};
use crate::app::Exit;
use crate::catalog::Wanted;
use crate::job::validate::{self, Validation};
use crate::job::{Context, JobError};
use crate::model::Failure;
use crate::plan::compare::State;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Compare with what this backup recorded (a name, or latest); without it, results that can only be compared with a
    /// recorded one are shown as not compared
    #[arg(long, value_parser = wanted)]
    backup: Option<Wanted>,

    /// Another dataset than the configuration's (DATASET or PROJECT.DATASET), such as a restored one
    #[arg(long)]
    dataset: Option<String>,

    /// Ask the backup's own files, by the embedded engine, with nothing restored; the latest unless --backup names one
    #[arg(long, conflicts_with = "dataset")]
    offline: bool,

    /// Say which queries would be run, and run none
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    pub(super) identity: super::IdentityArg,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    if args.offline && !args.dry_run {
        return offline(context, &args, output).await;
    }
    let dataset = match &args.dataset {
        Some(text) => restore::dataset(context, text)?,
        None => match context.bigquery_sources().next() {
            Some((_, source)) => source.dataset.clone(),
            None => {
                let message = "there is no BigQuery source; hint: name a dataset with --dataset, or ask a backup's files: --offline".into();
                return Err(Failure::Invalid { object: "configuration".into(), message }.into());
            }
        },
    };
    some_queries(context)?;
    if args.dry_run {
        let lines = context.queries.iter().map(|query| format!("  {:<28} {}\n", query.name, query.title));
        let text = format!("validate {dataset}\n{}", lines.collect::<String>());
        output.result("validate_plan", &json!({"dataset": dataset, "queries": *context.queries}), &text);
        return Ok(Exit::Done);
    }
    let entry = match &args.backup {
        Some(wanted) => Some(context.catalog.find(wanted, None).await?),
        None => None,
    };
    let manifest = entry.as_ref().map(|entry| &entry.manifest);
    // A dataset that no source names is what a restore of that backup brought back.
    let live = context.bigquery_sources().any(|(_, source)| source.dataset == dataset);
    let at = manifest.filter(|_| !live).map_or_else(|| context.now(), |manifest| manifest.data_of());
    let validation = validate::run(context, &dataset, manifest, at).await?;
    output.result("validation", &validation, &text(&validation));
    Ok(exit(&validation))
}

fn some_queries(context: &Context) -> Result<(), JobError> {
    if context.queries.is_empty() {
        let message = "there are no validation queries; hint: [validation] queries = \"builtin\" or a folder".into();
        return Err(Failure::Invalid { object: "configuration".into(), message }.into());
    }
    Ok(())
}

fn exit(validation: &Validation) -> Exit {
    match (validation.passed(), validation.complete()) {
        (false, _) => Exit::Invalid,
        (true, false) => Exit::NotRun,
        (true, true) => Exit::Done,
    }
}

#[cfg(feature = "query")]
async fn offline(context: &Context, args: &Args, output: &Output) -> Result<Exit, JobError> {
    some_queries(context)?;
    let entry = context.catalog.find(args.backup.as_ref().unwrap_or(&Wanted::Latest), None).await?;
    let validation = validate::offline(context, &entry).await?;
    output.result("validation", &validation, &text(&validation));
    Ok(exit(&validation))
}

#[cfg(not(feature = "query"))]
async fn offline(_: &Context, _: &Args, _: &Output) -> Result<Exit, JobError> {
    let message = "this build has no query engine; hint: build with the feature 'query'".into();
    Err(Failure::Invalid { object: "--offline".into(), message }.into())
}

pub(super) fn text(validation: &Validation) -> String {
    let against = match &validation.backup {
        Some(backup) if validation.offline => format!(" in the files of {backup}, nothing restored"),
        Some(backup) => format!(" against {backup}"),
        None => String::new(),
    };
    let mut out = format!("\nvalidation of {}{against}\n", validation.dataset);
    for verdict in &validation.verdicts {
        let mark = match verdict.state {
            State::Passed => "passed",
            State::Failed if verdict.critical => "FAILED",
            State::Failed => "failed (not critical)",
            State::NotCompared => "not compared",
            State::NotRun => "NOT RUN",
        };
        let title = if verdict.title.is_empty() { &verdict.name } else { &verdict.title };
        out.push_str(&format!("  {mark:<12}  {title}\n"));
        let told = matches!(verdict.state, State::Failed | State::NotRun);
        for finding in verdict.findings.iter().filter(|_| told) {
            out.push_str(&format!("                {finding}\n"));
        }
    }
    let count = |state| validation.verdicts.iter().filter(|verdict| verdict.state == state).count();
    let (passed, failed, open) = (count(State::Passed), count(State::Failed), count(State::NotCompared));
    out.push_str(&format!("  {passed} passed, {failed} failed"));
    if open > 0 {
        out.push_str(&format!(", {open} not compared (name a backup: --backup latest)"));
    }
    let not_run = count(State::NotRun);
    if not_run > 0 {
        out.push_str(&format!(", {not_run} not run"));
    }
    out.push('\n');
    out
}
