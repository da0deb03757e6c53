//! `strongroom list`

use serde_json::json;

use super::output::Output;
use crate::app::{Exit, of_doubt};
use crate::job::{Context, JobError};
use crate::model::TierName;
use crate::report::{self, Align, Table};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this tier
    #[arg(long)]
    tier: Option<TierName>,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let listing = context.catalog.list().await?;
    let entries: Vec<_> = listing
        .entries
        .iter()
        .filter(|entry| args.tier.as_ref().is_none_or(|tier| entry.manifest.tier == *tier))
        .collect();
    let columns = [
        ("backup", Align::Left),
        ("tier", Align::Left),
        ("data of", Align::Left),
        ("tables", Align::Right),
        ("rows", Align::Right),
        ("size", Align::Right),
        ("verified", Align::Left),
    ];
    let named = entries.iter().map(|entry| (entry.manifest.name.clone(), entry.manifest.commit_id.clone()));
    let marks = context.marks.of_all(named).await?;
    let mut table = Table::new(&columns);
    let mut documents = Vec::new();
    for entry in &entries {
        let manifest = &entry.manifest;
        let verified = marks.get(&manifest.name).and_then(|marks| marks.verified.as_ref());
        let tables: usize = manifest.bigquery().map(|source| source.tables.len()).sum();
        let of = manifest.cut_at.unwrap_or(manifest.started_at);
        table.row([
            manifest.name.to_string(),
            manifest.tier.to_string(),
            of.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            tables.to_string(),
            report::thousands(manifest.row_count()),
            report::bytes(manifest.size_bytes()),
            verified.map_or("-".into(), |mark| mark.at.strftime("%Y-%m-%d").to_string()),
        ]);
        documents.push(json!({
            "name": manifest.name, "tier": manifest.tier, "cut_at": of, "committed_at": manifest.committed_at,
            "table_count": tables, "row_count": manifest.row_count(), "size_bytes": manifest.size_bytes(),
            "place": entry.store.describe(), "manifest_sha256": entry.sha256,
            "verified": verified,
        }));
    }
    let mut text = if entries.is_empty() { "no backups\n".to_string() } else { table.render() };
    for broken in &listing.broken {
        text.push_str(&format!("broken: {}: {}\n", broken.place, broken.error));
    }
    for doubtful in &listing.doubtful {
        text.push_str(&format!("not believed: {}\n", doubtful.doubt));
    }
    let doubted: Vec<_> = listing.doubtful.iter().map(|doubtful| &doubtful.doubt).collect();
    let broken: Vec<_> =
        listing.broken.iter().map(|b| json!({"place": b.place, "error": b.error.to_string()})).collect();
    output.result("backups", &json!({"backups": documents, "broken": broken, "doubted": doubted}), &text);
    Ok(match doubted.iter().map(|doubt| doubt.kind).min() {
        _ if !listing.broken.is_empty() => Exit::Corrupt,
        Some(kind) => of_doubt(kind),
        None => Exit::Done,
    })
}
