//! A backup's plan, manifest and report as text.

use super::{BackupReport, CheckState, proven};
use crate::manifest::{Manifest, TableRecord};
use crate::plan::backup::{BackupPlan, SourcePlan};
use crate::plan::cost::Cost;
use crate::plan::streamed::StreamedPlan;
use crate::report::human::{bytes, duration, thousands};
use crate::report::table::{Align, Table};

/// What a dry run prints.
pub fn plan(plan: &BackupPlan) -> String {
    let mut out = format!("backup {}\n  into {}\n", plan.name, plan.destinations[0]);
    for copy in &plan.destinations[1..] {
        out.push_str(&format!("  copy to {copy}\n"));
    }
    if let Some(staging) = &plan.staging {
        out.push_str(&format!("  by way of {staging}, which is emptied afterwards\n"));
    }
    if let Some(seal) = &plan.seal {
        let recipients = seal.recipients.iter().map(ToString::to_string);
        let key = seal.kms_key.iter().map(|key| format!("an identity that {key} wraps"));
        out.push_str(&format!("  sealed for {}\n", recipients.chain(key).collect::<Vec<_>>().join(", ")));
    }
    let google = plan.bigquery().next().is_some() || !(plan.pause.is_empty() && plan.left_alone.is_empty());
    if google {
        out.push_str(&format!("\n1. pause ingestion, for {} at most\n", plan.resume_within));
        for job in &plan.pause {
            out.push_str(&format!("  pause {job}\n"));
        }
        for job in &plan.left_alone {
            out.push_str(&format!("  leave alone {job}\n"));
        }
        if plan.pause.is_empty() {
            out.push_str("  nothing to pause\n");
        }
        out.push_str(&format!("2. wait until nothing writes, for {} at most\n", plan.drain_timeout));
        out.push_str("3. snapshot every table at one instant\n4. resume ingestion\n5. export\n");
    }
    let (mut billed, mut scanned) = (0, 0);
    for source in &plan.sources {
        match source {
            SourcePlan::BigQuery(source) => {
                out.push_str(&format!(
                    "\n{} in {}, snapshots in {}",
                    source.dataset, source.location, source.snapshot_dataset
                ));
                let made = if source.make_snapshot_dataset { " (is made)" } else { "" };
                out.push_str(&format!("{made} until {}\n", source.snapshots_expire_at));
                let columns = [
                    ("table", Align::Left),
                    ("rows", Align::Right),
                    ("size", Align::Right),
                    ("format", Align::Left),
                    ("", Align::Left),
                ];
                let mut table = Table::new(&columns);
                for plan in &source.tables {
                    let mut remarks: Vec<String> = plan.format_reason.iter().cloned().collect();
                    if !plan.partitions.is_empty() {
                        remarks.push(format!("{} partitions, each by itself", plan.partitions.len()));
                    }
                    if plan.proof {
                        billed += plan.logical_bytes;
                        scanned += 1;
                    } else {
                        remarks.push("no fingerprint (the source's setting)".into());
                    }
                    table.row([
                        plan.table.table().to_string(),
                        thousands(plan.row_count),
                        bytes(plan.logical_bytes),
                        plan.format.extension().to_string(),
                        remarks.join("; "),
                    ]);
                }
                out.push_str(&table.render());
                for view in &source.views {
                    out.push_str(&format!("  {}  (definition)\n", view.table()));
                }
                for routine in &source.routines {
                    out.push_str(&format!("  {routine}  (routine)\n"));
                }
            }
            SourcePlan::Sheets(source) => {
                let title = &source.title;
                out.push_str(&format!("\nspreadsheet '{title}' ({})\n", source.spreadsheet));
                for tab in &source.tabs {
                    out.push_str(&format!("  tab '{tab}' as CSV, Parquet and cells\n"));
                }
            }
            SourcePlan::Streamed(source) => out.push_str(&streamed_plan(source)),
        }
    }
    if google {
        out.push_str(&format!(
        "\nFingerprints and figures: BigQuery bills one scan of {}, about {} (the tables' numBytes; at least 10 MB a table).\n",
        match scanned {
            1 => "1 table".to_string(),
            count => format!("{count} tables"),
        },
        bytes(billed)
        ));
    }
    out.push_str(&cost(&plan.cost));
    for note in &plan.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    out
}

/// More items than this are summed up.
const MANY_ITEMS: usize = 40;

fn streamed_plan(plan: &StreamedPlan) -> String {
    let mut out = format!("\n{} '{}': {}\n", plan.source, plan.name, plan.origin);
    if let Some(reason) = &plan.skipped {
        out.push_str(&format!("  SKIPPED: {reason}\n"));
        return out;
    }
    out.push_str(&item_table(plan.items.iter().map(|item| {
        [
            item.name.clone(),
            item.row_count.map(thousands).unwrap_or_default(),
            item.size_bytes.map(bytes).unwrap_or_default(),
            String::new(),
        ]
    })));
    out
}

/// Items with rows, size and a remark; the first ones of many.
pub fn item_table(items: impl Iterator<Item = [String; 4]>) -> String {
    let columns = [("item", Align::Left), ("rows", Align::Right), ("size", Align::Right), ("", Align::Left)];
    let mut table = Table::new(&columns);
    let (mut shown, mut more) = (0, 0);
    for item in items {
        if shown < MANY_ITEMS {
            table.row(item);
            shown += 1;
        } else {
            more += 1;
        }
    }
    let mut out = if shown == 0 { String::new() } else { table.render() };
    if more > 0 {
        out.push_str(&format!("  and {} more\n", thousands(more)));
    }
    out
}

/// Requests and bytes by place, and money where there is a price list.
fn cost(cost: &Cost) -> String {
    let right = Align::Right;
    let mut columns = vec![("into", Align::Left), ("class", Align::Left), ("objects", right), ("size, at most", right)];
    columns.extend([("writes", right), ("reads", right)]);
    let currency = cost.money.as_ref().map(|money| money.currency.as_str());
    let (once, monthly) =
        (format!("{} once", currency.unwrap_or_default()), format!("{} a month", currency.unwrap_or_default()));
    if currency.is_some() {
        columns.extend([(once.as_str(), right), (monthly.as_str(), right)]);
    }
    let mut table = Table::new(&columns);
    for place in &cost.places {
        let class = place.storage_class.clone().unwrap_or_default();
        let mut row = vec![place.place.to_string(), class, thousands(place.objects), bytes(place.size_bytes)];
        row.extend([thousands(place.writes), thousands(place.reads)]);
        if currency.is_some() {
            let unknown = || ("no price".to_string(), String::new());
            let amounts = place.money.as_ref().map(|m| (format!("{:.4}", m.once), format!("{:.4}", m.per_month)));
            let (once, monthly) = amounts.unwrap_or_else(unknown);
            row.extend([once, monthly]);
        }
        table.row(row);
    }
    let mut out = format!("\n{}", table.render());
    if let Some(money) = &cost.money {
        let (currency, once, per_month) = (&money.currency, money.once, money.per_month);
        out.push_str(&format!(
            "Cost, at most: {currency} {once:.4} once, with BigQuery's scan, and {currency} {per_month:.4} for every month it is kept.\n"
        ));
    }
    out
}

/// One line about a backup: what a run ends with.
pub fn manifest_line(manifest: &Manifest) -> String {
    let tables: usize = manifest.bigquery().map(|source| source.tables.len()).sum();
    let views: usize = manifest.bigquery().map(|source| source.views.len()).sum();
    let tabs: usize = manifest.sheets().map(|source| source.tabs.len()).sum();
    let items: usize = manifest.streamed().map(|source| source.items().len()).sum();
    let mut what = vec![];
    if manifest.bigquery().next().is_some() || manifest.sheets().next().is_some() {
        what.push(format!("{tables} tables, {} rows, {views} views, {tabs} tabs", thousands(manifest.row_count())));
    } else {
        what.push(format!("{} rows", thousands(manifest.row_count())));
    }
    if items > 0 {
        what.push(if items == 1 { "1 item".into() } else { format!("{} items", thousands(items as u64)) });
    }
    format!("{}; {} objects, {}", what.join(", "), manifest.objects().count(), bytes(manifest.size_bytes()))
}

/// Everything about a backup that people ask for.
pub fn manifest(manifest: &Manifest) -> String {
    let mut out = format!("backup {}\n", manifest.name);
    out.push_str(&format!("  {}\n", manifest_line(manifest)));
    if let Some(cut) = manifest.cut_at {
        let every = if manifest.bigquery().next().is_some() { ", one instant for every table" } else { "" };
        out.push_str(&format!("  the data is of {cut}{every}\n"));
    }
    out.push_str(&format!("  committed {} by {}\n", manifest.committed_at, manifest.tool));
    if let Some(pause) = &manifest.pause {
        let total = manifest.committed_at.duration_since(manifest.started_at);
        out.push_str(&format!("  ingestion paused {} of {} in all\n", duration(pause.duration()), duration(total)));
    }
    for source in manifest.bigquery() {
        out.push_str(&format!("\n{} ({})\n", source.dataset, source.location));
        let columns = [
            ("table", Align::Left),
            ("rows", Align::Right),
            ("files", Align::Right),
            ("stored", Align::Right),
            ("format", Align::Left),
            ("proven", Align::Left),
        ];
        let mut table = Table::new(&columns);
        for record in &source.tables {
            table.row([
                record.table.table().to_string(),
                thousands(record.row_count),
                record.objects.len().to_string(),
                bytes(record.objects.iter().map(|object| object.digests.size_bytes).sum()),
                record.format.clone(),
                proven(record).to_string(),
            ]);
        }
        out.push_str(&table.render());
        for view in &source.views {
            out.push_str(&format!("  {}  ({})\n", view.view.table(), view.kind.to_lowercase().replace('_', " ")));
        }
        figures(&source.tables, &mut out);
    }
    for source in manifest.sheets() {
        out.push_str(&format!("\nspreadsheet '{}' ({})\n", source.title, source.spreadsheet));
        for tab in &source.tabs {
            out.push_str(&format!("  tab '{}': {} rows, {} columns\n", tab.title, tab.row_count, tab.column_count));
        }
    }
    for source in manifest.streamed() {
        out.push_str(&format!("\n{} '{}': {}\n", source.kind(), source.name(), source.origin()));
        out.push_str(&item_table(source.items().into_iter().map(|item| {
            let proven = item.proven.map_or("", |proven| if proven { "proven" } else { "NOT PROVEN" });
            let remark =
                [proven, item.remark.as_str()].iter().filter(|text| !text.is_empty()).copied().collect::<Vec<_>>();
            [
                item.name,
                item.row_count.map(thousands).unwrap_or_default(),
                item.size_bytes.map(bytes).unwrap_or_default(),
                remark.join(", "),
            ]
        })));
    }
    out.push_str("\nsteps\n");
    let mut steps = Table::new(&[("step", Align::Left), ("took", Align::Right)]);
    for timing in &manifest.timings {
        steps.row([timing.step.clone(), duration(timing.ended_at.duration_since(timing.started_at))]);
    }
    out.push_str(&steps.render());
    for note in &manifest.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    for attention in &manifest.attention {
        out.push_str(&format!("ATTENTION: {attention}\n"));
    }
    out
}

/// What a report says beside the manifest.
pub fn report(report: &BackupReport, stored: &Manifest) -> String {
    let mut out = manifest(stored);
    out.push_str("\ncopies\n");
    let mut copies = Table::new(&[("place", Align::Left), ("objects", Align::Right), ("whole", Align::Left)]);
    for copy in &report.copies {
        let (there, whole) = match (copy.lacking, &copy.problem) {
            (Some(lacking), _) => (copy.objects - lacking, if lacking == 0 { "yes".into() } else { "NO".into() }),
            (None, problem) => (0, format!("cannot be read: {}", problem.as_deref().unwrap_or("no reason is known"))),
        };
        copies.row([copy.place.clone(), format!("{there} of {}", copy.objects), whole]);
    }
    out.push_str(&copies.render());
    if !report.checks.is_empty() {
        out.push_str("\nvalidation at the cut\n");
    }
    for check in &report.checks {
        let mark = match check.state {
            CheckState::Passed => "passed",
            CheckState::Failed if check.critical => "FAILED",
            CheckState::Failed => "failed (not critical)",
            CheckState::Recorded => "recorded",
        };
        let title = if check.title.is_empty() { &check.name } else { &check.title };
        out.push_str(&format!("  {mark:<12}  {title}\n"));
        if check.state == CheckState::Failed {
            check.findings.iter().for_each(|finding| out.push_str(&format!("                {finding}\n")));
        }
    }
    match &report.verified {
        Some(mark) => out.push_str(&format!("\nverified {} by {}, {}\n", mark.at, mark.by, mark.how)),
        None => out.push_str("\nnot verified yet; hint: strongroom drill\n"),
    }
    out
}

/// The totals of the numeric columns, which are what finance compares.
fn figures(tables: &[TableRecord], out: &mut String) {
    let columns = [
        ("column", Align::Left),
        ("sum", Align::Right),
        ("smallest", Align::Right),
        ("largest", Align::Right),
        ("nulls", Align::Right),
        ("days", Align::Right),
    ];
    let mut table = Table::new(&columns);
    let mut any = false;
    for record in tables {
        for column in record.proof.iter().flat_map(|proof| &proof.columns) {
            any = true;
            let text =
                |value: &Option<String>| value.as_deref().map_or("-".to_string(), |text| figure(&column.kind, text));
            table.row([
                format!("{}.{}", record.table.table(), column.name),
                text(&column.sum),
                text(&column.min),
                text(&column.max),
                thousands(column.null_count),
                column.distinct_dates.map_or(String::new(), thousands),
            ]);
        }
    }
    if any {
        out.push('\n');
        out.push_str(&table.render());
    }
}

/// A figure for people: instants are stored as microseconds.
fn figure(kind: &str, text: &str) -> String {
    if kind == "TIMESTAMP"
        && let Some(at) = text.parse().ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
    {
        return at.to_string();
    }
    text.to_string()
}
