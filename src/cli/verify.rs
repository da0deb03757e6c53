//! `strongroom verify`

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::output::Output;
use super::wanted;
use crate::app::{Exit, of_doubt, of_verification};
use crate::catalog::Wanted;
use crate::job::verify::{self, Depth, Finding, Verification, VerifiedState};
use crate::job::witness::{self, CatalogCheck};
use crate::job::{Context, JobError};
use crate::manifest::chronicle::Head;
use crate::model::Failure;
use crate::report;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A backup's name, or latest
    #[arg(value_parser = wanted, default_value = "latest", conflicts_with_all = ["all", "catalog"])]
    backup: Wanted,

    /// The catalog, and every backup in it
    #[arg(long)]
    all: bool,

    /// Only the catalog: is every backup there that was committed, and none that was changed, removed or brought back
    #[arg(long, conflicts_with = "all")]
    catalog: bool,

    /// Keep the chronicle's end in this file, and prove that nothing before the last one kept was taken away
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,

    /// Read rows and figures of what is sealed, too; without --identity Cloud KMS is asked, where it has the key
    #[arg(long, conflicts_with = "catalog")]
    deep: bool,

    /// Say what would be read, and read nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    pub(super) identity: super::IdentityArg,
}

/// The chronicle's end as it is kept on the caller's side.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    system: String,
    head: Head,
}

#[derive(Serialize)]
struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    catalog: Option<CatalogCheck>,
    backups: Vec<Verification>,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let entries = if args.all {
        context.catalog.list().await?.entries
    } else if args.catalog {
        vec![]
    } else {
        vec![context.catalog.find(&args.backup, None).await?]
    };
    if args.dry_run {
        return Ok(dry_run(&entries, output));
    }
    let wide = args.all || args.catalog || args.head.is_some();
    let catalog = if wide { Some(check(context, args.head.as_deref()).await?) } else { None };
    let mut backups = Vec::new();
    for entry in &entries {
        let depth = if args.deep { Depth::Content } else { context.depth() };
        backups.push(verify::run(context, entry, depth).await?);
    }
    let mut text = catalog.as_ref().map(catalog_text).unwrap_or_default();
    text.extend(backups.iter().map(self::text));
    let gravest = catalog.as_ref().and_then(|check| check.doubts.iter().map(|doubt| doubt.kind).min());
    let worst = backups.iter().map(|backup| backup.state).min().unwrap_or(VerifiedState::Complete);
    match catalog {
        Some(_) => output.result("catalog_verification", &Outcome { catalog, backups }, &text),
        None => output.result("verification", &backups, &text),
    }
    Ok(match (worst, gravest) {
        (VerifiedState::Sealed | VerifiedState::Complete, Some(kind)) => of_doubt(kind),
        (worst, _) => of_verification(worst),
    })
}

async fn check(context: &Context, file: Option<&Path>) -> Result<CatalogCheck, JobError> {
    let kept = file.map(|file| read_head(file, &context.config.name)).transpose()?.flatten();
    let check = witness::run(context, kept.as_ref()).await?;
    if let (Some(file), Some(head), true) = (file, &check.head, check.passed()) {
        keep_head(file, &Kept { system: context.config.name.clone(), head: head.clone() })?;
    }
    Ok(check)
}

fn invalid(file: &Path, message: String) -> Failure {
    Failure::Invalid { object: file.display().to_string(), message }
}

fn read_head(file: &Path, system: &str) -> Result<Option<Head>, Failure> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(invalid(file, error.to_string())),
    };
    let kept: Kept = serde_json::from_slice(&bytes)
        .map_err(|error| invalid(file, format!("is no head of a chronicle: {error}; hint: name another file")))?;
    if kept.system != system {
        return Err(invalid(file, format!("is of the system '{}', not of '{system}'", kept.system)));
    }
    Ok(Some(kept.head))
}

/// Beside it first: a crash leaves the old head or the new one.
fn keep_head(file: &Path, kept: &Kept) -> Result<(), Failure> {
    let failed = |error: std::io::Error| invalid(file, error.to_string());
    let bytes = serde_json::to_vec_pretty(kept).unwrap_or_default();
    let aside = file.with_extension("new");
    std::fs::write(&aside, bytes).and_then(|()| std::fs::rename(&aside, file)).map_err(failed)
}

fn dry_run(entries: &[crate::catalog::Entry], output: &Output) -> Exit {
    let mut text = String::new();
    let mut plans = Vec::new();
    for entry in entries {
        let (name, objects) = (&entry.manifest.name, entry.manifest.objects().count());
        let size_bytes = entry.manifest.size_bytes();
        let size = report::bytes(size_bytes);
        text.push_str(&format!("verify {name}: reads {objects} objects, {size}\n"));
        plans.push(serde_json::json!({"backup": name, "object_count": objects, "size_bytes": size_bytes}));
    }
    output.result("verify_plan", &plans, &text);
    Exit::Done
}

fn catalog_text(check: &CatalogCheck) -> String {
    let state = match (check.passed(), check.signed) {
        (true, true) => "all of it, and as it was signed",
        (true, false) => "without a contradiction",
        (false, _) => "NOT as it was",
    };
    let mut out = format!("catalog of {}: {state}\n", check.system);
    let entries = check.head.as_ref().map(|head| format!(", {} entries in the chronicle", head.sequence));
    let (backups, places) =
        (report::plural(check.backup_count as u64, "backup"), report::plural(check.place_count as u64, "place"));
    out.push_str(&format!("  {backups} in {places}{}\n", entries.unwrap_or_default()));
    check.doubts.iter().for_each(|doubt| out.push_str(&format!("  {doubt}\n")));
    check.notes.iter().for_each(|note| out.push_str(&format!("  note: {note}\n")));
    out
}

fn text(outcome: &Verification) -> String {
    let mut out = format!(
        "{}: {}\n  {}, {}, {} in {}\n",
        outcome.backup,
        match outcome.state {
            VerifiedState::Complete => "complete and unchanged",
            VerifiedState::Corrupt => "NOT as it was written",
            VerifiedState::Missing => "NOT all there",
            VerifiedState::Sealed => "complete as it is stored, but no key at hand opens it",
        },
        report::plural(outcome.object_count as u64, "object"),
        report::bytes(outcome.size_bytes),
        report::plural(outcome.row_count, "row"),
        report::plural(outcome.table_count as u64, "table")
    );
    if !outcome.content_read {
        out.push_str(
            "  sealed, content not read: every object has the digest of what was stored; --deep reads the rows\n",
        );
    }
    outcome.findings.iter().for_each(|finding| out.push_str(&finding_line(finding)));
    if !outcome.passed() {
        for place in &outcome.whole_in {
            out.push_str(&format!("  {place} has all of it, by size and checksum: a restore takes it from there\n"));
        }
        if outcome.state != VerifiedState::Sealed {
            out.push_str(&format!("  hint: strongroom repair {} makes what can be whole again\n", outcome.backup));
        }
    }
    out
}

pub(super) fn finding_line(finding: &Finding) -> String {
    let kind = format!("{:?}", finding.kind).to_lowercase();
    format!("  {kind}: {}: {}\n", finding.object, finding.message)
}
