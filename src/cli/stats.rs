//! `strongroom stats`

use super::output::Output;
use crate::app::Exit;
use crate::job::stats::{self, Moment, Stats};
use crate::job::{Context, JobError};
use crate::report::{self, Align, Table};

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(context: &Context, _args: Args, output: &Output) -> Result<Exit, JobError> {
    let stats = stats::run(context).await?;
    output.result("stats", &stats, &text(&stats));
    Ok(if stats.destinations.iter().all(|place| place.problem.is_none()) { Exit::Done } else { Exit::Partial })
}

fn text(stats: &Stats) -> String {
    let columns = [
        ("tier", Align::Left),
        ("backups", Align::Right),
        ("size", Align::Right),
        ("newest", Align::Left),
        ("oldest", Align::Left),
        ("newest size", Align::Right),
        ("grown", Align::Right),
        ("a day", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for tier in &stats.tiers {
        table.row([
            tier.tier.to_string(),
            tier.backup_count.to_string(),
            report::bytes(tier.size_bytes),
            minute(tier.newest.as_ref()),
            minute(tier.oldest.as_ref()),
            report::bytes(tier.newest_bytes),
            signed(tier.grown_since_previous_bytes),
            signed(tier.growth_bytes_per_day),
        ]);
    }
    let mut out = table.render();
    let money = stats.cost.as_ref().map_or(String::new(), |cost| format!("{} a month", cost.currency));
    let mut columns =
        vec![("destination", Align::Left), ("kind", Align::Left), ("class", Align::Left), ("objects", Align::Right)];
    columns.push(("size", Align::Right));
    if stats.cost.is_some() {
        columns.push((&money, Align::Right));
    }
    let mut table = Table::new(&columns);
    for place in &stats.destinations {
        let size = place.problem.clone().unwrap_or_else(|| report::bytes(place.size_bytes));
        let classes: Vec<&str> = place.by_class.keys().map(String::as_str).collect();
        let mut row =
            vec![place.place.clone(), place.kind.into(), classes.join(", "), place.object_count.to_string(), size];
        if stats.cost.is_some() {
            row.push(place.cost_per_month.map_or("no price".into(), |amount| format!("{amount:.4}")));
        }
        table.row(row);
    }
    out.push_str(&table.render());
    let name = |moment: Option<&Moment>| moment.map_or("-".into(), |moment| moment.backup.to_string());
    let (newest, oldest) = (stats.newest.as_ref(), stats.oldest.as_ref());
    let backups = if stats.backup_count == 1 { "backup" } else { "backups" };
    out.push_str(&format!("  in all: {} {backups}, {}\n", stats.backup_count, report::bytes(stats.size_bytes)));
    if let Some(cost) = &stats.cost {
        out.push_str(&format!("  costs {} {:.4} a month to keep, requests apart\n", cost.currency, cost.amount));
    }
    out.push_str(&format!("  newest: {} ({})\n", name(newest), minute(newest)));
    out.push_str(&format!("  oldest: {} ({})\n", name(oldest), minute(oldest)));
    out
}

fn minute(moment: Option<&Moment>) -> String {
    moment.map_or("-".into(), |moment| moment.at.strftime("%Y-%m-%d %H:%MZ").to_string())
}

fn signed(bytes: Option<i64>) -> String {
    match bytes {
        None => "-".into(),
        Some(bytes) => format!("{}{}", if bytes < 0 { "-" } else { "+" }, report::bytes(bytes.unsigned_abs())),
    }
}
