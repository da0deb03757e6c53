//! A backup's report as one page.

use super::{BackupReport, CheckLine, CheckState, CopyLine, StoredTable};
use crate::report::drill::milliseconds;
use crate::report::page::{Span, bar, day_and_time, escape, figures, frame, grouped, put, signature, sizes, verdict};
use crate::report::{bytes, thousands};

/// The page, as a file that needs nothing else.
pub fn page(report: &BackupReport) -> String {
    frame(&format!("Backup of {}: {}", report.system, report.backup.name), &body(report))
}

/// What the page says.
pub fn body(report: &BackupReport) -> String {
    let mut body = String::new();
    head(report, &mut body);
    tables(report, &mut body);
    sheets(report, &mut body);
    sources(report, &mut body);
    checks(report, &mut body);
    copies(report, &mut body);
    steps(report, &mut body);
    put!(body, "<section aria-labelledby=\"h-trends\">\n<h2 id=\"h-trends\">How it was before</h2>");
    sizes(&report.backups, &mut body);
    put!(body, "</section>");
    signatures(report, &mut body);
    body
}

fn head(report: &BackupReport, out: &mut String) {
    put!(out, "<header>\n<h1>Backup of {}</h1>", escape(&report.system));
    let purpose = report.purpose.as_ref().map(|purpose| format!(", taken for: {purpose}")).unwrap_or_default();
    put!(
        out,
        "<p class=\"of\">The data of {}{}{}</p>",
        day_and_time(report.backup.data_of),
        if report.tables.is_empty() { "" } else { ", one instant for every table" },
        escape(&purpose)
    );
    let words = match (report.broken(), report.findings.is_empty()) {
        (true, _) => ("bad", "NOT WHOLE: no place holds all of it"),
        (false, false) => ("late", "Whole, but something asks for attention"),
        (false, true) => ("good", "Whole: every object lies where it should"),
    };
    let proof = match &report.verified {
        Some(verified) => format!(
            "That it restores was proven on {} by {} ({}).",
            day_and_time(verified.at),
            verified.by,
            verified.how
        ),
        None => "That it restores has not been proven yet: a drill does.".into(),
    };
    verdict(words, &proof, &report.findings, out);
    let proven = report.tables.iter().filter(|table| table.proven).count();
    let whole = report.copies.iter().filter(|copy| copy.lacking == Some(0)).count();
    let mut shown = vec![("Rows", thousands(report.backup.row_count)), ("Stored", bytes(report.backup.size_bytes))];
    if !report.tables.is_empty() {
        shown.push(("Tables proven row by row", format!("{proven} of {}", report.tables.len())));
    }
    let items: Vec<bool> =
        report.sources.iter().flat_map(|source| &source.items).filter_map(|item| item.proven).collect();
    if !items.is_empty() {
        shown.push(("Items proven", format!("{} of {}", items.iter().filter(|proven| **proven).count(), items.len())));
    }
    shown.push(("Whole copies", format!("{whole} of {}", report.copies.len())));
    if let Some(pause) = &report.pause {
        shown.push(("Ingestion stood still", crate::report::duration(pause.duration())));
    }
    figures(&shown, out);
    put!(out, "<p>Backup <code>{}</code>, tier {}.</p>\n</header>", report.backup.name, report.backup.tier);
}

fn tables(report: &BackupReport, out: &mut String) {
    if report.tables.is_empty() {
        return;
    }
    put!(out, "<section aria-labelledby=\"h-tables\">\n<h2 id=\"h-tables\">What it holds</h2>");
    put!(
        out,
        "<div class=\"scroll\" tabindex=\"0\"><table id=\"tables\">\n<caption>Rows and totals at the instant of the backup, and rows in the backup before it. “Proven” means: source and files agree in every value of every row.</caption>"
    );
    put!(
        out,
        "<thead><tr><th scope=\"col\">Table and total</th><th scope=\"col\" class=\"n\">Now</th><th scope=\"col\" class=\"n\">Before</th><th scope=\"col\" class=\"n\">Stored</th><th scope=\"col\">Agreed</th></tr></thead>\n<tbody>"
    );
    let dataset = |table: &StoredTable| table.table.rsplit_once('.').map(|(dataset, _)| dataset.to_string());
    let first = report.tables.first().and_then(dataset);
    // Of one dataset, tables are told apart by their own names.
    let whole_names = report.tables.iter().any(|table| dataset(table) != first);
    for table in &report.tables {
        let name = table.table.rsplit('.').next().filter(|_| !whole_names).unwrap_or(&table.table);
        table_rows(name, table, out);
    }
    put!(out, "</tbody></table></div>");
    let counted = |count: usize, one: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {one}s")),
    };
    let also: Vec<String> =
        [counted(report.view_count, "view"), counted(report.routine_count, "routine")].into_iter().flatten().collect();
    if !also.is_empty() {
        put!(out, "<p>Beside them the definitions of {}.</p>", also.join(" and "));
    }
    put!(out, "</section>");
}

fn table_rows(name: &str, table: &StoredTable, out: &mut String) {
    let (agreed, class) = match (table.proven, &table.totals) {
        (true, _) => ("proven", "good"),
        (false, Some(_)) => ("figures", "good"),
        (false, None) => ("counted", ""),
    };
    put!(
        out,
        "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"mark {class}\">{agreed}</td></tr>",
        escape(name),
        thousands(table.row_count),
        table.previous_row_count.map_or("–".into(), thousands),
        bytes(table.size_bytes)
    );
    let columns = table.totals.iter().flat_map(|totals| &totals.columns);
    for (column, sum) in columns.filter_map(|column| Some((column, column.sum.as_ref()?))) {
        put!(
            out,
            "<tr><th scope=\"row\" class=\"sub\">sum of {}</th><td class=\"n\">{}</td><td class=\"n\"></td><td class=\"n\"></td><td></td></tr>",
            escape(&column.name),
            escape(&grouped(sum))
        );
    }
}

fn sheets(report: &BackupReport, out: &mut String) {
    if report.tabs.is_empty() {
        return;
    }
    put!(out, "<section aria-labelledby=\"h-sheets\">\n<h2 id=\"h-sheets\">Spreadsheets</h2>");
    put!(out, "<table class=\"stack\" id=\"sheets\">");
    put!(
        out,
        "<thead><tr><th scope=\"col\">Tab</th><th scope=\"col\">Of</th><th scope=\"col\" class=\"n\">Rows</th><th scope=\"col\" class=\"n\">Columns</th></tr></thead>\n<tbody>"
    );
    for tab in &report.tabs {
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td data-label=\"Of\">{}</td><td class=\"n\" data-label=\"Rows\">{}</td><td class=\"n\" data-label=\"Columns\">{}</td></tr>",
            escape(&tab.tab),
            escape(&tab.spreadsheet),
            thousands(tab.row_count),
            thousands(tab.column_count)
        );
    }
    put!(out, "</tbody></table>\n</section>");
}

/// More items than this are summed up.
const MANY_ITEMS: usize = 200;

/// Databases, files, secrets and records of usage.
fn sources(report: &BackupReport, out: &mut String) {
    for (n, source) in report.sources.iter().enumerate() {
        put!(out, "<section aria-labelledby=\"h-source-{n}\">");
        put!(out, "<h2 id=\"h-source-{n}\">{}: {}</h2>", escape(&source.kind), escape(&source.name));
        put!(
            out,
            "<p class=\"of\">Of <code>{}</code>, as it was on {}</p>",
            escape(&source.origin),
            day_and_time(source.taken_at)
        );
        put!(out, "<table class=\"stack\" id=\"source-{n}\">");
        put!(
            out,
            "<thead><tr><th scope=\"col\">Item</th><th scope=\"col\" class=\"n\">Rows</th><th scope=\"col\" class=\"n\">Size</th><th scope=\"col\">Agreed</th><th scope=\"col\">Remark</th></tr></thead>\n<tbody>"
        );
        for item in source.items.iter().take(MANY_ITEMS) {
            let (mark, class) = match item.proven {
                Some(true) => ("proven", "good"),
                Some(false) => ("NOT PROVEN", "late"),
                None => ("as it was stored", ""),
            };
            put!(
                out,
                "<tr><th scope=\"row\">{}</th><td class=\"n\" data-label=\"Rows\">{}</td><td class=\"n\" data-label=\"Size\">{}</td><td class=\"mark {class}\">{mark}</td><td class=\"long\">{}</td></tr>",
                escape(&item.name),
                item.row_count.map_or("–".into(), thousands),
                item.size_bytes.map_or("–".into(), bytes),
                escape(&item.remark)
            );
        }
        put!(out, "</tbody></table>");
        if source.items.len() > MANY_ITEMS {
            put!(out, "<p>And {} more.</p>", thousands((source.items.len() - MANY_ITEMS) as u64));
        }
        put!(out, "</section>");
    }
}

fn checks(report: &BackupReport, out: &mut String) {
    if report.checks.is_empty() {
        return;
    }
    put!(out, "<section aria-labelledby=\"h-checks\">\n<h2 id=\"h-checks\">Do the figures add up?</h2>");
    put!(
        out,
        "<table class=\"stack\" id=\"checks\">\n<caption>What was asked of the data at the instant of the backup. “Recorded” means: a restored copy must give the same answer.</caption>"
    );
    put!(out, "<thead><tr><th scope=\"col\">Question</th><th scope=\"col\">Outcome</th></tr></thead>\n<tbody>");
    for check in &report.checks {
        let (mark, class) = match check.state {
            CheckState::Passed => ("passed", "good"),
            CheckState::Failed if check.critical => ("FAILED", "bad"),
            CheckState::Failed => ("failed, not critical", "late"),
            CheckState::Recorded => ("recorded", ""),
        };
        let title = if check.title.is_empty() { &check.name } else { &check.title };
        put!(
            out,
            "<tr><th scope=\"row\">{}{}</th><td class=\"mark {class}\">{mark}</td></tr>",
            escape(title),
            answer(check)
        );
    }
    put!(out, "</tbody></table>\n</section>");
}

/// What a query gave, to be unfolded; in one line where it is one row.
fn answer(check: &CheckLine) -> String {
    let mut out = String::new();
    if check.state == CheckState::Failed {
        for finding in &check.findings {
            out.push_str(&format!("<br><code>{}</code>", escape(finding)));
        }
    } else if !check.rows.is_empty() {
        let cell = |cell: &serde_json::Value| escape(cell.as_str().unwrap_or("–"));
        let mut rows = String::new();
        for row in &check.rows {
            let cells: String = row.iter().map(|value| format!("<td>{}</td>", cell(value))).collect();
            rows.push_str(&format!("<tr>{cells}</tr>"));
        }
        let names: String =
            check.columns.iter().map(|name| format!("<th scope=\"col\">{}</th>", escape(name))).collect();
        let count = match check.row_count {
            1 => "1 row".to_string(),
            count if count > check.rows.len() => {
                format!("the first {} of {} rows", check.rows.len(), thousands(count as u64))
            }
            count => format!("{count} rows"),
        };
        out = format!(
            "<details><summary>The answer, {count}</summary><div class=\"scroll\" tabindex=\"0\"><table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table></div></details>"
        );
    }
    out
}

fn copies(report: &BackupReport, out: &mut String) {
    put!(out, "<section aria-labelledby=\"h-copies\">\n<h2 id=\"h-copies\">Where it is kept</h2>");
    put!(
        out,
        "<table class=\"stack\" id=\"copies\">\n<caption>Objects of the backup in each place, by size and checksum, when this report was made.</caption>"
    );
    put!(
        out,
        "<thead><tr><th scope=\"col\">Place</th><th scope=\"col\" class=\"n\">Objects</th><th scope=\"col\">Whole</th></tr></thead>\n<tbody>"
    );
    for copy in &report.copies {
        let (mark, class) = whole(copy);
        let there =
            copy.lacking.map_or("–".into(), |lacking| format!("{} of {}", copy.objects - lacking, copy.objects));
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\" data-label=\"Objects\">{there}</td><td class=\"mark {class}\">{mark}</td></tr>",
            escape(&copy.place)
        );
    }
    put!(out, "</tbody></table>\n</section>");
}

fn whole(copy: &CopyLine) -> (&'static str, &'static str) {
    match copy.lacking {
        Some(0) => ("yes", "good"),
        Some(_) => ("NO", "bad"),
        None => ("cannot be read", "late"),
    }
}

fn steps(report: &BackupReport, out: &mut String) {
    let (Some(first), Some(last)) = (report.steps.first(), report.steps.last()) else { return };
    let begin = first.started_at.as_millisecond();
    let all = (last.ended_at.as_millisecond() - begin).max(1);
    put!(out, "<section aria-labelledby=\"h-steps\">\n<h2 id=\"h-steps\">Where the time went</h2>");
    put!(
        out,
        "<table class=\"stack\" id=\"steps\">\n<caption>Steps in their order until the backup was committed, {} in all. Ingestion stands still from “pause” to “resume” only.</caption>",
        milliseconds(all)
    );
    put!(
        out,
        "<thead><tr><th scope=\"col\">Step</th><th scope=\"col\" class=\"n\">Took</th><th scope=\"col\">When</th></tr></thead>\n<tbody>"
    );
    for step in &report.steps {
        let took = milliseconds(step.ended_at.as_millisecond() - step.started_at.as_millisecond());
        let offset = |at: jiff::Timestamp| (at.as_millisecond() - begin) as f64 / all as f64;
        let span = Span { from: offset(step.started_at), to: offset(step.ended_at), class: "f-accent" };
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\" data-label=\"Took\">{took}</td><td class=\"w long\">{}</td></tr>",
            escape(&step.step.replace('_', " ")),
            bar(&format!("{} took {took}", step.step), &[span])
        );
    }
    put!(out, "</tbody></table>\n</section>");
}

fn signatures(report: &BackupReport, out: &mut String) {
    put!(out, "<section aria-labelledby=\"h-signed\">\n<h2 id=\"h-signed\">Who and what</h2>");
    for note in &report.notes {
        put!(out, "<p>{}.</p>", escape(note.trim_end_matches('.')));
    }
    let lines = [
        ("Written by", report.backup.tool.clone()),
        ("Run", report.run.clone()),
        ("Commit", report.backup.commit_id.clone()),
        ("SHA-256 of the manifest", report.backup.manifest_sha256.clone()),
        ("Read from", report.backup.place.clone()),
        ("Begun, committed", format!("{}, {}", report.started_at, report.committed_at)),
    ];
    signature(&lines, out);
    put!(out, "</section>");
}
