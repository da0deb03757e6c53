//! A restore's plan as text.

use super::human::{bytes, thousands};
use super::table::{Align, Table};
use crate::plan::restore::{Existing, RestorePlan};

/// What a dry run prints.
pub fn plan(plan: &RestorePlan) -> String {
    let mut out = format!("restore {}\n", plan.backup);
    if let Some(staging) = &plan.by_way_of {
        out.push_str(&format!("  its files are brought to {staging}, loaded, and removed from there\n"));
    }
    for job in &plan.pause {
        out.push_str(&format!("  pause {job} meanwhile\n"));
    }
    for dataset in &plan.datasets {
        let how = if dataset.make { "is made" } else { "exists" };
        out.push_str(&format!("\n{} ({how}, {})\n", dataset.target, dataset.location));
        let columns = [
            ("table", Align::Left),
            ("rows", Align::Right),
            ("files", Align::Right),
            ("stored", Align::Right),
            ("", Align::Left),
        ];
        let mut table = Table::new(&columns);
        for plan in &dataset.tables {
            let mut remarks = vec![existing(plan.existing, "a snapshot of what is there is taken first")];
            remarks.retain(|remark| !remark.is_empty());
            if plan.staging.is_some() {
                remarks.push("more partitions than one job may write: in parts");
            }
            table.row([
                plan.target.table().to_string(),
                thousands(plan.row_count),
                plan.file_count.to_string(),
                bytes(plan.size_bytes),
                remarks.join("; "),
            ]);
        }
        out.push_str(&table.render());
        for view in &dataset.views {
            let remark = existing(view.existing, "replaced");
            out.push_str(format!("  {}  (definition) {remark}", view.target.table()).trim_end());
            out.push('\n');
        }
    }
    for sheet in &plan.sheets {
        out.push_str(&format!("\nspreadsheet {}\n", sheet.target));
        for (tab, make) in &sheet.tabs {
            out.push_str(&format!("  tab '{tab}'{}\n", if *make { " (is made)" } else { "" }));
        }
    }
    for source in &plan.streamed {
        out.push_str(&format!("\nsource '{}' ({})\n", source.source, source.origin));
        let how = if source.replaces { "is there and will be replaced" } else { "is made" };
        out.push_str(&format!("  into {}, which {how}\n", source.target));
        out.push_str(&super::backup::item_table(source.items.iter().map(|item| {
            let rows = item.row_count.map(thousands).unwrap_or_default();
            [item.name.clone(), rows, item.size_bytes.map(bytes).unwrap_or_default(), String::new()]
        })));
    }
    for note in &plan.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    out
}

fn existing(existing: Existing, replaced: &'static str) -> &'static str {
    match existing {
        Existing::None => "",
        Existing::Empty => "is there without rows, made anew",
        Existing::Replaced => replaced,
    }
}
