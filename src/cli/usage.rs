//! `strongroom usage`: the guide of those who operate the usage meter, verb by verb. Safe while nothing is tracked: says SKIPPED.

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde_json::json;

use super::output::Output;
use super::wanted;
use crate::app::{self, Exit};
use crate::catalog::Wanted;
use crate::config::{Config, Seal, SourceKind};
use crate::job::usage::{self as job, Checks};
use crate::job::{Context, JobError, backup, restore};
use crate::model::{Failure, Kind, Terms, TierName};
use crate::plan::backup::Occasion;
use crate::plan::restore::RestoreRequest;
use crate::plan::streamed::Wish;
use crate::report;
use crate::source::usage::{Tracking, Usage};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Back the usage records up, without who they are of
    Backup(BackupArgs),
    /// Show what a backup would hold, and change nothing
    DryRun(BackupArgs),
    /// Bring the records of a backup, or of a file copied out of one, back into a table
    Restore(RestoreArgs),
    /// Hold a backup, or a file copied out of one, against itself and against the table
    Validate(ValidateArgs),
    /// Say whether the backups of the usage records are well
    Health,
    /// Switch tracking off at once: an emergency backup first, then a file that keeps it off
    PanicOff(PanicArgs),
}

#[derive(Debug, Default, Clone, clap::Args)]
pub(super) struct BackupArgs {
    /// Only the records of so many days before now
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
    /// Only records from this day on, UTC
    #[arg(long, value_name = "YYYY-MM-DD")]
    start: Option<Date>,
    /// Only records up to this day's end, UTC
    #[arg(long, value_name = "YYYY-MM-DD")]
    end: Option<Date>,
    /// One document a month
    #[arg(long)]
    split_by_month: bool,
    /// Documents are .json.gz
    #[arg(long)]
    compress: bool,
    /// Seal the backup, also where the tier is not: for [sealing] recipients
    #[arg(long)]
    encrypt: bool,
    /// A backup in an emergency: kept as such
    #[arg(long)]
    emergency: bool,
    /// The tier of the configuration [default: daily, or the first]
    #[arg(long)]
    tier: Option<TierName>,
    /// Show what would be done and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    /// A backup's name, latest, or a file (usage-backup-2026-11-21.json)
    #[arg(default_value = "latest")]
    backup: String,
    /// Into another table, which is made
    #[arg(long, value_name = "TABLE")]
    into_table: Option<String>,
    /// Into another database of the same server, or another file of SQLite
    #[arg(long, value_name = "DATABASE")]
    target_db: Option<String>,
    /// Replace the records of the same time; they are kept in a table of their own
    #[arg(long)]
    replace: bool,
    /// Print the plan and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) identity: super::IdentityArg,
}

#[derive(Debug, clap::Args)]
pub(super) struct ValidateArgs {
    /// A backup's name, latest, or a file (usage-backup-2026-11-21.json)
    #[arg(default_value = "latest")]
    backup: String,
    /// Hold the number of the table's records against the backup's
    #[arg(long)]
    check_counts: bool,
    /// Read the backup whole, and hold every figure against its records
    #[arg(long)]
    check_integrity: bool,
    /// Another table than the source's, such as one that was restored into
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    #[command(flatten)]
    pub(super) identity: super::IdentityArg,
}

#[derive(Debug, clap::Args)]
pub(super) struct PanicArgs {
    /// Only switch off, without a backup
    #[arg(long)]
    no_backup: bool,
    /// Seal the emergency backup, also where the tier is not
    #[arg(long)]
    encrypt: bool,
    /// Show what would be done and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Verb {
    pub fn identity(&self) -> Option<&PathBuf> {
        match self {
            Self::Restore(args) => args.identity.file.as_ref(),
            Self::Validate(args) => args.identity.file.as_ref(),
            _ => None,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::Backup(args) if args.dry_run => "Usage Backup Dry-Run",
            Self::DryRun(_) => "Usage Backup Dry-Run",
            Self::Backup(_) => "Usage Backup",
            Self::Restore(_) => "Usage Restore",
            Self::Validate(_) => "Usage Validation",
            Self::Health => "Usage Backup Health",
            Self::PanicOff(_) => "Usage Tracking Panic-Off",
        }
    }

    /// What the command line says goes before what the configuration says. Gives the end of the verb where there is nothing to
    /// do: nothing is tracked, or there is no database.
    pub fn prepare(&self, config: &mut Config, path: &Path, output: &Output) -> Option<Exit> {
        config.sources.retain(|source| matches!(source.kind, SourceKind::Usage(_)));
        let Some(source) = config.sources.first_mut() else {
            let message = "the configuration has no source of kind usage; hint: strongroom init --profile usage-meter";
            return Some(output.problem(Exit::Usage, message, &[]));
        };
        let encrypt = match self {
            Self::Backup(args) | Self::DryRun(args) => {
                if let SourceKind::Usage(settings) = &mut source.kind {
                    settings.span.days = args.days.or(settings.span.days);
                    settings.span.start = args.start.or(settings.span.start);
                    settings.span.end = args.end.or(settings.span.end);
                    settings.split_by_month |= args.split_by_month;
                    settings.compress |= args.compress;
                    if settings.span.start.zip(settings.span.end).is_some_and(|(start, end)| end < start) {
                        return Some(output.problem(Exit::Usage, "--end is before --start", &[]));
                    }
                }
                args.encrypt
            }
            Self::PanicOff(args) => args.encrypt,
            _ => false,
        };
        let usage = app::usage(config, path)?;
        if let Some(reason) = usage.skipped() {
            if let Self::PanicOff(args) = self {
                return Some(switch_off(
                    &usage,
                    path,
                    args.dry_run,
                    output,
                    &["nothing to back up: it is off already".into()],
                ));
            }
            return Some(self.skip(&usage, &reason, output));
        }
        if encrypt && let Err(message) = seal(config) {
            return Some(output.problem(Exit::Usage, &message, &[]));
        }
        None
    }

    /// Nothing is done, and that is right.
    fn skip(&self, usage: &Usage, reason: &str, output: &Output) -> Exit {
        let (mut lines, tracking) = head(self.title(), usage);
        lines.push(format!("Database: {}", usage.database().unwrap_or_else(|| "Not configured".into())));
        let off = tracking != "ENABLED";
        let (what, end) = match self {
            Self::Restore(_) => {
                ("Restore Status: SKIPPED (no restore needed)", "No restore needed - no data was collected")
            }
            Self::Validate(_) => {
                ("Validation Status: SKIPPED (nothing to validate)", "No action needed - usage tracking is off")
            }
            Self::Health => ("Health: SKIPPED (no data to backup)", "No action needed - usage tracking is off"),
            _ if off => ("Backup Status: SKIPPED (no data to backup)", "No action needed - usage tracking is off"),
            _ => ("Backup Status: SKIPPED (no DB)", ""),
        };
        let end = if off { end } else { "No action needed - usage is counted in memory only, there is no database" };
        lines.extend([what.to_string(), end.to_string(), format!("({reason})")]);
        let value = json!({"status": "skipped", "reason": reason, "tracking": tracking, "database": usage.database()});
        output.result("usage", &value, &text(&lines));
        Exit::Done
    }
}

fn head(title: &str, usage: &Usage) -> (Vec<String>, &'static str) {
    let tracking = match usage.tracking() {
        Tracking::Enabled => "ENABLED",
        Tracking::Disabled(_) => "DISABLED",
    };
    (vec![title.to_string(), "=".repeat(title.len()), format!("Usage Tracking: {tracking}")], tracking)
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Every tier is sealed.
fn seal(config: &mut Config) -> Result<(), String> {
    let missing = "--encrypt: nobody could open it; hint: strongroom key generate --sealing FILE, then sealing.recipients = [\"age1...\"] or BACKUP_RECIPIENTS=age1...";
    let sealing = config.sealing.clone().unwrap_or_default();
    let able = !sealing.recipients.is_empty() || sealing.kms_key.is_some();
    for tier in config.tiers.values_mut().filter(|tier| tier.seal.is_none()) {
        if !able {
            return Err(missing.into());
        }
        tier.seal = Some(Seal { recipients: sealing.recipients.clone(), kms_key: sealing.kms_key.clone() });
    }
    Ok(())
}

pub(super) async fn run(context: &Context, verb: Verb, path: &Path, output: &Output) -> Result<Exit, JobError> {
    let missing = || Failure::NotFound { object: "usage".into(), message: "is no source of the configuration".into() };
    let usage = app::usage(&context.config, path).ok_or_else(missing)?;
    let title = verb.title();
    match verb {
        Verb::Backup(args) if !args.dry_run => take(context, &usage, title, &args, output).await,
        Verb::Backup(args) | Verb::DryRun(args) => dry_run(context, &usage, title, &args, output).await,
        Verb::Restore(args) => bring_back(context, &usage, title, args, output).await,
        Verb::Validate(args) => validate(context, &usage, title, args, output).await,
        Verb::Health => health(context, &usage, title, output).await,
        Verb::PanicOff(args) => panic_off(context, &usage, &args, path, output).await,
    }
}

fn tier(context: &Context, asked: Option<&TierName>) -> Result<TierName, JobError> {
    let named = |name: &&TierName| name.as_str() == "daily";
    let tiers = &context.config.tiers;
    let tier = asked.or_else(|| tiers.keys().find(named)).or_else(|| tiers.keys().next());
    let none = || Failure::Invalid { object: "tiers".into(), message: "there is none".into() };
    Ok(tier.ok_or_else(none)?.clone())
}

fn occasion(emergency: bool, purpose: &str) -> Occasion {
    match emergency {
        true => {
            let terms = Terms { kind: Kind::Emergency, ..Terms::default() };
            Occasion::Manual { purpose: purpose.into(), terms }
        }
        false => Occasion::Schedule,
    }
}

async fn dry_run(
    context: &Context,
    usage: &Usage,
    title: &str,
    args: &BackupArgs,
    output: &Output,
) -> Result<Exit, JobError> {
    let tier = tier(context, args.tier.as_ref())?;
    let plan = backup::plan(context, &tier, &occasion(args.emergency, "usage")).await?;
    let overview = usage.overview().await?;
    let (mut lines, _) = head(title, usage);
    let place = context.places(&tier).next().map(ToString::to_string).unwrap_or_default();
    let encrypted = context.config.tiers.get(&tier).is_some_and(|tier| tier.seal.is_some());
    lines.push(format!("Database: Connected ({})", overview.dialect));
    lines.push(format!("Records found: {} usage entries", report::thousands(overview.record_count)));
    if let (Some(start), Some(end)) = (&overview.date_range.start, &overview.date_range.end) {
        lines.push(format!("Date range: {start} to {end}"));
    }
    for file in &overview.files {
        lines.push(format!("Would backup: {place}/{}/data/{}/{file}", plan.folder, name_of(context)));
    }
    lines.push(format!("Encryption: {}", if encrypted { "yes" } else { "no" }));
    lines.push("Dry-run complete - no files created".into());
    let value = json!({
        "status": "would_backup", "tracking": "ENABLED", "database": overview.database, "dialect": overview.dialect,
        "record_count": overview.record_count, "date_range": overview.date_range, "aggregates": overview.aggregates,
        "backup": plan.name, "files": overview.files, "encrypted": encrypted,
    });
    output.result("usage", &value, &text(&lines));
    Ok(Exit::Done)
}

fn name_of(context: &Context) -> &str {
    context.config.sources.first().map_or("usage", |source| source.name.as_str())
}

async fn take(
    context: &Context,
    usage: &Usage,
    title: &str,
    args: &BackupArgs,
    output: &Output,
) -> Result<Exit, JobError> {
    let (mut lines, _) = head(title, usage);
    let (more, value) = taken(context, usage, args.tier.as_ref(), args.emergency, "usage").await?;
    lines.extend(more);
    output.result("usage", &value, &text(&lines));
    Ok(Exit::Done)
}

async fn taken(
    context: &Context,
    usage: &Usage,
    asked: Option<&TierName>,
    emergency: bool,
    purpose: &str,
) -> Result<(Vec<String>, serde_json::Value), JobError> {
    let tier = tier(context, asked)?;
    super::recover_first(context).await?;
    let manifest = backup::run(context, &tier, &occasion(emergency, purpose)).await?;
    let place = context.places(&tier).next().map(ToString::to_string).unwrap_or_default();
    let mut lines = vec![
        format!("Database: {}", usage.database().unwrap_or_default()),
        format!("Records backed up: {} usage entries", report::thousands(manifest.row_count())),
    ];
    for object in manifest.objects() {
        lines.push(format!("Backup: {place}/{} ({})", object.key, report::bytes(object.in_store().size_bytes)));
    }
    lines.push(format!("Encryption: {}", if manifest.sealing.is_some() { "yes" } else { "no" }));
    lines.push(format!("Backup complete - {}", manifest.name));
    let value = json!({"status": "done", "tracking": "ENABLED", "database": usage.database(), "backup": manifest});
    Ok((lines, value))
}

async fn bring_back(
    context: &Context,
    usage: &Usage,
    title: &str,
    args: RestoreArgs,
    output: &Output,
) -> Result<Exit, JobError> {
    let (mut lines, _) = head(title, usage);
    let file = Path::new(&args.backup);
    if file.is_file() {
        let wish = Wish {
            replace: args.replace,
            target_db: args.target_db,
            to: args.into_table.map(PathBuf::from),
            ..Wish::default()
        };
        if args.dry_run {
            let plan = job::look_at_file(usage, file, &wish).await?;
            lines.push(format!("Would restore: {} into {}", args.backup, plan.target));
            lines.extend(plan.notes.iter().map(|note| format!("note: {note}")));
            lines.push("Dry-run complete - nothing was changed".into());
            output.result("usage", &plan, &text(&lines));
            return Ok(Exit::Done);
        }
        super::recover_first(context).await?;
        let restored = job::restore_file(context, usage, file, wish).await?;
        lines.extend(told(&restored));
        output.result("usage", &restored, &text(&lines));
        return Ok(Exit::Done);
    }
    let entry = context.catalog.find(&named(&args.backup)?, None).await?;
    let request = RestoreRequest {
        sources: vec![name_of(context).to_string()],
        replace: args.replace,
        target_db: args.target_db,
        to: args.into_table.map(PathBuf::from),
        ..RestoreRequest::default()
    };
    if args.dry_run {
        let plan = restore::dry_run(context, &entry, &request).await?;
        lines.push(report::restore_plan(&plan).trim_end().to_string());
        lines.push("Dry-run complete - nothing was changed".into());
        output.result("usage", &plan, &text(&lines));
        return Ok(Exit::Done);
    }
    super::recover_first(context).await?;
    let restored = restore::run(context, &entry, &request).await?;
    lines.push(format!("Backup: {}", restored.backup));
    lines.extend(restored.sources.iter().flat_map(told));
    output.result("usage", &restored, &text(&lines));
    Ok(if restored.differences.is_empty() { Exit::Done } else { Exit::Partial })
}

fn told(restored: &crate::plan::streamed::RestoredSource) -> Vec<String> {
    let item = |item: &crate::plan::streamed::RestoredItem| {
        let proven = match item.proven {
            Some(true) => "same records and figures, proven",
            Some(false) => "NOT the same",
            None => "counted",
        };
        format!(
            "Records restored: {} into {} ({proven})",
            report::thousands(item.row_count.unwrap_or(0)),
            restored.target
        )
    };
    let mut lines: Vec<String> = restored.items.iter().map(item).collect();
    lines.push("Restore complete".into());
    lines
}

fn named(text: &str) -> Result<Wanted, JobError> {
    wanted(text).map_err(|message| {
        Failure::Invalid {
            object: text.into(),
            message: format!("{message}; hint: a backup's name, latest, or a file that is there"),
        }
        .into()
    })
}

async fn validate(
    context: &Context,
    usage: &Usage,
    title: &str,
    args: ValidateArgs,
    output: &Output,
) -> Result<Exit, JobError> {
    // Nothing said: all of it.
    let all = !args.check_counts && !args.check_integrity;
    let checks = Checks { counts: args.check_counts || all, integrity: args.check_integrity || all };
    let (file, table) = (Path::new(&args.backup), args.table.as_deref());
    let validated = match file.is_file() {
        true => job::validate_file(usage, file, checks, table).await?,
        false => {
            let entry = context.catalog.find(&named(&args.backup)?, None).await?;
            job::validate(context, (name_of(context), usage), &entry, checks, table).await?
        }
    };
    let (mut lines, _) = head(title, usage);
    lines.push(format!("Backup: {}", validated.backup));
    lines.push(format!("Records in backup: {}", report::thousands(validated.record_count)));
    if let Some(compared) = &validated.table {
        let count = report::thousands(compared.record_count);
        lines.push(format!("Records in {}: {count}", compared.table));
    }
    let state = |on: bool| {
        if !on {
            "not asked"
        } else if validated.problems.is_empty() {
            "PASSED"
        } else {
            "see below"
        }
    };
    lines.push(format!("Counts: {}", state(checks.counts)));
    lines.push(format!("Integrity: {}", state(checks.integrity)));
    lines.extend(validated.problems.iter().map(|problem| format!("FAILED: {problem}")));
    lines.push(if validated.problems.is_empty() { "Validation passed" } else { "Validation FAILED" }.into());
    output.result("usage", &validated, &text(&lines));
    Ok(if validated.problems.is_empty() { Exit::Done } else { Exit::Invalid })
}

/// Twice a day's distance: a backup was missed.
const STALE_HOURS: i64 = 48;

async fn health(context: &Context, usage: &Usage, title: &str, output: &Output) -> Result<Exit, JobError> {
    let (mut lines, _) = head(title, usage);
    let mut findings = Vec::new();
    let overview = match usage.overview().await {
        Ok(overview) => {
            lines.push(format!("Database: Connected ({})", overview.dialect));
            lines.push(format!("Records: {} usage entries", report::thousands(overview.record_count)));
            Some(overview)
        }
        Err(error) => {
            lines.push("Database: Connection failed".into());
            findings.push(format!("Database connection failed: {error}"));
            None
        }
    };
    let name = name_of(context).to_string();
    let listing = context.catalog.list().await?;
    let with: Vec<_> = listing
        .entries
        .iter()
        .filter(|entry| entry.manifest.sources.iter().any(|source| source.name() == name))
        .collect();
    let size: u64 = with.iter().map(|entry| entry.manifest.size_bytes()).sum();
    lines.push(format!("Backups: {} ({})", with.len(), report::bytes(size)));
    match with.first() {
        None => findings.push("there is no backup yet; hint: strongroom usage backup".into()),
        Some(entry) => {
            let manifest = &entry.manifest;
            let age = context.now().duration_since(manifest.data_of());
            lines.push(format!(
                "Latest backup: {} ({} ago, {} records, {})",
                manifest.name,
                report::duration(age),
                report::thousands(manifest.row_count()),
                report::bytes(manifest.size_bytes())
            ));
            if age.as_hours() >= STALE_HOURS {
                findings.push(format!("the latest backup is {} old", report::duration(age)));
            }
            if overview.is_some_and(|overview| overview.record_count > 0) && manifest.row_count() == 0 {
                findings.push("the latest backup holds no records, and the table does".into());
            }
        }
    }
    for broken in &listing.broken {
        findings.push(format!("{}: {}", broken.place, broken.error));
    }
    lines.extend(findings.iter().map(|finding| format!("ATTENTION: {finding}")));
    lines.push(if findings.is_empty() { "Healthy" } else { "Needs attention" }.into());
    let latest = with.first().map(|entry| &entry.manifest.name);
    let value =
        json!({"status": "looked", "backups": with.len(), "size_bytes": size, "latest": latest, "findings": findings});
    output.result("usage", &value, &text(&lines));
    Ok(if findings.is_empty() { Exit::Done } else { Exit::Attention })
}

async fn panic_off(
    context: &Context,
    usage: &Usage,
    args: &PanicArgs,
    path: &Path,
    output: &Output,
) -> Result<Exit, JobError> {
    if args.no_backup || args.dry_run {
        let line = if args.no_backup { "no backup was asked for" } else { "Would backup: an emergency backup first" };
        return Ok(switch_off(usage, path, args.dry_run, output, &[line.into()]));
    }
    // Whatever becomes of the backup, tracking ends.
    match taken(context, usage, None, true, "panic-off").await {
        Ok((lines, _)) => Ok(switch_off(usage, path, false, output, &lines)),
        Err(error) => {
            let exit = switch_off(usage, path, false, output, &[format!("Emergency backup FAILED: {error}")]);
            Ok(if exit == Exit::Done { Exit::Partial } else { exit })
        }
    }
}

/// Writes the file that keeps tracking off, as a script that a shell can source.
fn switch_off(usage: &Usage, path: &Path, dry_run: bool, output: &Output, before: &[String]) -> Exit {
    let (mut lines, _) = head("Usage Tracking Panic-Off", usage);
    lines.extend_from_slice(before);
    let file = app::off_file(usage.settings(), path);
    let name = usage.settings().enabled_by.clone().unwrap_or_else(|| "ENABLE_USAGE_TRACKING".into());
    if dry_run {
        lines.push(format!("Would write: {}, which keeps tracking off", file.display()));
        lines.push("Dry-run complete - no files created".into());
    } else {
        let script = format!(
            "# Usage tracking was switched off by `strongroom usage panic-off`. Remove this file to track again.\nexport {name}=false\n"
        );
        if let Err(error) = std::fs::write(&file, script) {
            let message = format!("{}: {error}; tracking is NOT off; hint: export {name}=false", file.display());
            return output.problem(Exit::Failed, &message, &[]);
        }
        lines.push("Usage Tracking: DISABLED".into());
        lines.push(format!("{} keeps it off, whatever {name} says; remove the file to track again", file.display()));
        lines.push(format!("For this shell and the application: . {}", file.display()));
    }
    let value = json!({"status": if dry_run { "would_disable" } else { "disabled" }, "off_file": file, "said": before});
    output.result("usage", &value, &text(&lines));
    Exit::Done
}
