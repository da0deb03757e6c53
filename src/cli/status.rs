//! `strongroom status`

use super::output::Output;
use crate::app::Exit;
use crate::job::census::BackupCopies;
use crate::job::status::{self, Status};
use crate::job::{Context, JobError};
use crate::report::{self, Align, Table};

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(context: &Context, _args: Args, output: &Output) -> Result<Exit, JobError> {
    let status = status::run(context).await?;
    output.result("status", &status, &text(&status));
    Ok(if status.content() { Exit::Done } else { Exit::Attention })
}

fn text(status: &Status) -> String {
    let columns = [
        ("tier", Align::Left),
        ("backups", Align::Right),
        ("size", Align::Right),
        ("latest data", Align::Left),
        ("latest backup", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for tier in &status.tiers {
        table.row([
            tier.tier.to_string(),
            tier.backup_count.to_string(),
            report::bytes(tier.size_bytes),
            tier.latest_at.map_or("-".into(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()),
            tier.latest.as_ref().map_or("-".into(), ToString::to_string),
        ]);
    }
    let mut out = table.render();
    if !status.copies.is_empty() {
        out.push_str(&copies(&status.copies));
    }
    for (job, state) in &status.ingestion {
        out.push_str(&format!("  ingestion {job}: {}\n", state.to_lowercase()));
    }
    if let Some(age) = status.rpo_seconds {
        let age = report::duration(jiff::SignedDuration::from_secs(age));
        let objective = i64::try_from(status.rpo_objective_seconds).unwrap_or(i64::MAX);
        let objective = report::duration(jiff::SignedDuration::from_secs(objective));
        out.push_str(&format!("  what would be lost now: {age} (objective: {objective})\n"));
    }
    if status.content() {
        out.push_str("all is well\n");
    }
    for finding in &status.findings {
        out.push_str(&format!("attention: {finding}\n"));
    }
    out
}

fn copies(backups: &[BackupCopies]) -> String {
    let columns = [
        ("backup", Align::Left),
        ("whole copies", Align::Right),
        ("kinds", Align::Right),
        ("offsite", Align::Right),
        ("policy", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for copies in backups {
        table.row([
            copies.backup.to_string(),
            format!("{} of {}", copies.standing.copies, copies.destination_count),
            copies.standing.kinds.to_string(),
            copies.standing.offsite.to_string(),
            if copies.short.is_empty() { "met".into() } else { copies.short.join(", ") },
        ]);
    }
    table.render()
}
