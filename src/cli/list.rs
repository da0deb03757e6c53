//! `strongroom list`

use super::output::Output;
use crate::app::{Exit, of_doubt};
use crate::job::{Context, JobError, listing};
use crate::model::TierName;
use crate::report::{self, Align, Table};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this tier
    #[arg(long)]
    tier: Option<TierName>,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let listing = listing::run(context, args.tier.as_ref()).await?;
    let columns = [
        ("backup", Align::Left),
        ("tier", Align::Left),
        ("data of", Align::Left),
        ("tables", Align::Right),
        ("rows", Align::Right),
        ("size", Align::Right),
        ("verified", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for backup in &listing.backups {
        table.row([
            backup.name.to_string(),
            backup.tier.to_string(),
            backup.cut_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            backup.table_count.to_string(),
            report::thousands(backup.row_count),
            report::bytes(backup.size_bytes),
            backup.verified.as_ref().map_or("-".into(), |mark| mark.at.strftime("%Y-%m-%d").to_string()),
        ]);
    }
    let mut text = if listing.backups.is_empty() { "no backups\n".to_string() } else { table.render() };
    for broken in &listing.broken {
        text.push_str(&format!("broken: {}: {}\n", broken.place, broken.error));
    }
    for doubt in &listing.doubted {
        text.push_str(&format!("not believed: {doubt}\n"));
    }
    output.result("backups", &listing, &text);
    Ok(match listing.doubted.iter().map(|doubt| doubt.kind).min() {
        _ if !listing.broken.is_empty() => Exit::Corrupt,
        Some(kind) => of_doubt(kind),
        None => Exit::Done,
    })
}
