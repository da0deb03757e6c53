//! A restore's plan as people confirm it.

use crate::plan::restore::{Existing, RestorePlan};
use crate::report::page::{escape, put};
use crate::report::{bytes, thousands};

/// More items than this are summed up.
const MANY_ITEMS: usize = 100;

/// What the restore writes to, without repetition: the first is what its confirmation names.
pub fn targets(plan: &RestorePlan) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let datasets = plan.datasets.iter().map(|dataset| dataset.target.to_string());
    let sheets = plan.sheets.iter().map(|sheet| sheet.target.clone());
    let streamed = plan.streamed.iter().map(|source| source.target.clone());
    for target in datasets.chain(sheets).chain(streamed) {
        if !found.contains(&target) {
            found.push(target);
        }
    }
    found
}

/// What will be done.
pub fn table(plan: &RestorePlan, out: &mut String) {
    if !plan.pause.is_empty() {
        put!(out, "<p>Ingestion stands still meanwhile: {}.</p>", escape(&plan.pause.join(", ")));
    }
    if let Some(place) = &plan.by_way_of {
        put!(out, "<p>The files are brought to {}, loaded, and removed from there.</p>", escape(&place.to_string()));
    }
    put!(out, "<table class=\"stack\" id=\"plan\">");
    put!(
        out,
        "<thead><tr><th scope=\"col\">What is made</th><th scope=\"col\" class=\"n\">Rows</th><th scope=\"col\" class=\"n\">Size</th><th scope=\"col\">How</th></tr></thead>\n<tbody>"
    );
    let mut row = |name: &str, rows: Option<u64>, size: Option<u64>, how: &str| {
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\" data-label=\"Rows\">{}</td><td class=\"n\" data-label=\"Size\">{}</td><td class=\"long\" data-label=\"How\">{}</td></tr>",
            escape(name),
            rows.map(thousands).unwrap_or_default(),
            size.map(bytes).unwrap_or_default(),
            escape(how)
        );
    };
    for dataset in &plan.datasets {
        let how = if dataset.make { "is made" } else { "is there already" };
        row(&format!("dataset {}", dataset.target), None, None, &format!("{how}, {}", dataset.location));
        for table in &dataset.tables {
            let how = match table.existing {
                Existing::None => "new",
                Existing::Empty => "is there without rows, made anew",
                Existing::Replaced => "REPLACED; a snapshot of what is there is taken first",
            };
            row(table.target.table(), Some(table.row_count), Some(table.size_bytes), how);
        }
        for view in &dataset.views {
            row(view.target.table(), None, None, "a view’s definition");
        }
        for routine in &dataset.routines {
            row(routine, None, None, "a routine’s definition");
        }
    }
    for sheet in &plan.sheets {
        for (tab, make) in &sheet.tabs {
            let how = if *make { "a tab, is made" } else { "a tab, is filled" };
            row(&format!("spreadsheet {}: {tab}", sheet.target), None, None, how);
        }
    }
    for source in &plan.streamed {
        let how = if source.replaces { "is there and will be REPLACED" } else { "is made" };
        row(&source.target, None, None, how);
        for item in source.items.iter().take(MANY_ITEMS) {
            row(&item.name, item.row_count, item.size_bytes, "");
        }
        if source.items.len() > MANY_ITEMS {
            row(&format!("and {} more", source.items.len() - MANY_ITEMS), None, None, "");
        }
    }
    put!(out, "</tbody></table>");
    for note in &plan.notes {
        put!(out, "<p class=\"soft\">{}.</p>", escape(note.trim_end_matches('.')));
    }
}
