//! `strongroom verify`

use super::output::Output;
use super::wanted;
use crate::app::Exit;
use crate::catalog::Wanted;
use crate::job::verify::{self, Verification};
use crate::job::{Context, JobError};
use crate::report;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A backup's name, or latest
    #[arg(value_parser = wanted, default_value = "latest", conflicts_with = "all")]
    backup: Wanted,

    /// Every backup of the catalog
    #[arg(long)]
    all: bool,

    /// Say what would be read, and read nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let entries = if args.all {
        let listing = context.catalog.list().await?;
        if let Some(broken) = listing.broken.first() {
            let (place, error) = (broken.place.clone(), broken.error.clone());
            return Err(crate::catalog::CatalogError::Broken { place, error }.into());
        }
        listing.entries
    } else {
        vec![context.catalog.find(&args.backup, None).await?]
    };
    if args.dry_run {
        let plan: Vec<_> = entries
            .iter()
            .map(|entry| {
                let manifest = &entry.manifest;
                let (objects, bytes) = (manifest.objects().count(), manifest.size_bytes());
                serde_json::json!({"backup": manifest.name, "object_count": objects, "size_bytes": bytes})
            })
            .collect();
        let lines = entries.iter().map(|entry| {
            let manifest = &entry.manifest;
            let (objects, bytes) = (manifest.objects().count(), report::bytes(manifest.size_bytes()));
            format!("verify {}: reads {objects} objects, {bytes}\n", manifest.name)
        });
        output.result("verify_plan", &plan, &lines.collect::<String>());
        return Ok(Exit::Done);
    }
    let mut outcomes = Vec::new();
    for entry in &entries {
        outcomes.push(verify::run(context, entry).await?);
    }
    output.result("verification", &outcomes, &outcomes.iter().map(text).collect::<String>());
    Ok(if outcomes.iter().all(Verification::passed) { Exit::Done } else { Exit::Corrupt })
}

fn text(outcome: &Verification) -> String {
    let mut out = format!(
        "{}: {}\n  {} objects, {}, {} rows in {} tables\n",
        outcome.backup,
        if outcome.passed() { "complete and unchanged" } else { "NOT as it was written" },
        outcome.object_count,
        report::bytes(outcome.size_bytes),
        report::thousands(outcome.row_count),
        outcome.table_count
    );
    for finding in &outcome.findings {
        let kind = format!("{:?}", finding.kind).to_lowercase();
        out.push_str(&format!("  {kind}: {}: {}\n", finding.object, finding.message));
    }
    out
}
