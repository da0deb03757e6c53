//! A drill's report as one page.

use super::{DrillReport, Outcome, milliseconds, seconds, state_word, sums};
use crate::model::ColumnTotals;
use crate::plan::compare::State;
use crate::plan::drill::checklist::{Area, ItemState};
use crate::plan::drill::objectives::{Part, Phase, PhaseOutcome};
use crate::report::page::{
    Column, Span, bar, columns, day, day_and_time, escape, figures, frame, grouped, put, signature, sizes, verdict,
};
use crate::report::{bytes, thousands};

/// The page, as a file that needs nothing else.
pub fn page(report: &DrillReport) -> String {
    frame(&format!("{}: {}", report.title, report.system), &body(report))
}

/// What the page says.
pub fn body(report: &DrillReport) -> String {
    let mut body = String::new();
    head(report, &mut body);
    objectives(report, &mut body);
    phases(report, &mut body);
    tables(report, &mut body);
    checks(report, &mut body);
    checklist(report, &mut body);
    trends(report, &mut body);
    signatures(report, &mut body);
    body
}

const fn color(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "good",
        Outcome::Late => "late",
        Outcome::Failed | Outcome::NotFinished => "bad",
    }
}

fn head(report: &DrillReport, out: &mut String) {
    put!(out, "<header>\n<h1>{}</h1>", escape(&report.title));
    put!(
        out,
        "<p class=\"of\">Disaster-recovery drill of {} on {}</p>",
        escape(&report.system),
        day_and_time(report.started_at)
    );
    let words = (color(report.outcome), report.outcome.verdict());
    verdict(words, report.scenario.story(), &report.findings, out);
    let mut shown = Vec::new();
    if !report.tables.is_empty() {
        shown.push(("Rows back", thousands(report.tables.iter().map(|table| table.rows_after).sum())));
        let proven = report.tables.iter().filter(|table| table.proven == Some(true)).count();
        shown.push(("Tables proven the same", format!("{proven} of {}", report.tables.len())));
    }
    if let Some(full) = report.objectives.iter().find(|line| line.objective == "rto_full") {
        shown.push(("Time to recover", full.measured_ms.map_or("not measured".into(), milliseconds)));
    }
    if let Some(age) = report.objectives.iter().find(|line| line.objective == "rpo_transactions") {
        shown.push(("Data that would be lost", age.measured_ms.map_or("unknown".into(), milliseconds)));
    }
    let by_hand = report.checklist.iter().filter(|item| item.state == ItemState::ByHand).count();
    shown.push(("Left for a person to tick", by_hand.to_string()));
    figures(&shown, out);
    if let Some(backup) = &report.backup {
        put!(
            out,
            "<p>Backup <code>{}</code>: the data of {}, {} rows, {}.</p>",
            backup.name,
            day_and_time(backup.data_of),
            thousands(backup.row_count),
            bytes(backup.size_bytes)
        );
    }
    if let Some(recovery) = &report.recovery {
        put!(out, "<p>Way back: {}.</p>", escape(&recovery.reason));
    }
    put!(out, "</header>");
}

fn objectives(report: &DrillReport, out: &mut String) {
    put!(out, "<section aria-labelledby=\"h-objectives\">\n<h2 id=\"h-objectives\">Was it quick enough?</h2>");
    put!(
        out,
        "<table class=\"stack\" id=\"objectives\">\n<caption>Each time against its objective; the whole bar is the objective.</caption>"
    );
    put!(
        out,
        "<thead><tr><th scope=\"col\">Objective</th><th scope=\"col\" class=\"n\">Measured</th><th scope=\"col\" class=\"n\">At most</th><th scope=\"col\">Met</th><th scope=\"col\">Share of the objective</th></tr></thead>\n<tbody>"
    );
    for line in &report.objectives {
        let measured = line.measured_ms.map_or("not measured".into(), milliseconds);
        let limit = seconds(line.limit_seconds);
        let (met, class, fill) = match line.met() {
            Some(true) => ("yes", "good", "f-good"),
            Some(false) => ("NO", "bad", "f-bad"),
            None => ("–", "", "f-setup"),
        };
        let share = line.measured_ms.map(|ms| ms as f64 / (line.limit_seconds.max(1) as f64 * 1000.0));
        let label = format!("{}: {measured} of {limit}", line.title);
        let spans: Vec<Span> = share.map(|to| Span { from: 0.0, to, class: fill }).into_iter().collect();
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\" data-label=\"Measured\">{measured}</td><td class=\"n\" data-label=\"At most\">{limit}</td><td class=\"mark {class}\" data-label=\"Met\">{met}</td><td class=\"w long\">{}{}</td></tr>",
            escape(&line.title),
            escape(&line.measures),
            bar(&label, &spans)
        );
    }
    put!(out, "</tbody></table>\n</section>");
}

fn phases(report: &DrillReport, out: &mut String) {
    let (Some(first), Some(last)) = (report.phases.first(), report.phases.last()) else { return };
    let begin = first.started_at.as_millisecond();
    let whole = (last.ended_at.as_millisecond() - begin).max(1) as f64;
    put!(out, "<section aria-labelledby=\"h-phases\">\n<h2 id=\"h-phases\">Where the time went</h2>");
    put!(
        out,
        "<table class=\"stack\" id=\"phases\">\n<caption>Steps in their order, {} in all. Only recovery counts against the objectives.</caption>",
        milliseconds(whole as i64)
    );
    put!(
        out,
        "<thead><tr><th scope=\"col\">Step</th><th scope=\"col\">Part</th><th scope=\"col\" class=\"n\">Took</th><th scope=\"col\">When</th></tr></thead>\n<tbody>"
    );
    for phase in &report.phases {
        let (part, fill) = match phase.part() {
            Part::Setup => ("preparation", "f-setup"),
            Part::Recovery => ("recovery", "f-accent"),
            Part::Cleanup => ("clean-up", "f-setup"),
        };
        let (took, note) = (milliseconds(phase.milliseconds()), phase_note(phase));
        let offset = |at: jiff::Timestamp| (at.as_millisecond() - begin) as f64 / whole;
        let fill = if phase.outcome == PhaseOutcome::Failed { "f-bad" } else { fill };
        let span = Span { from: offset(phase.started_at), to: offset(phase.ended_at), class: fill };
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td data-label=\"Part\">{part}</td><td class=\"n\" data-label=\"Took\">{took}</td><td class=\"w long\">{}{}</td></tr>",
            escape(&phase.step.replace('_', " ")),
            escape(&note),
            bar(&format!("{} took {took}", phase.step), &[span])
        );
    }
    put!(out, "</tbody></table>\n</section>");
}

fn phase_note(phase: &Phase) -> String {
    match phase.outcome {
        PhaseOutcome::Done => phase.note.clone(),
        PhaseOutcome::Failed => format!("FAILED: {}", phase.note),
        PhaseOutcome::Undone => "taken back".into(),
    }
}

fn tables(report: &DrillReport, out: &mut String) {
    if report.tables.is_empty() {
        return;
    }
    put!(out, "<section aria-labelledby=\"h-tables\">\n<h2 id=\"h-tables\">Is everything there?</h2>");
    put!(
        out,
        "<div class=\"scroll\" tabindex=\"0\"><table id=\"tables\">\n<caption>Rows and totals when the backup was taken, and after the recovery. “Proven” means: every value of every row is the same.</caption>"
    );
    put!(
        out,
        "<thead><tr><th scope=\"col\">Table and total</th><th scope=\"col\" class=\"n\">Before</th><th scope=\"col\" class=\"n\">After</th><th scope=\"col\">Same</th></tr></thead>\n<tbody>"
    );
    for line in &report.tables {
        let (same, class) = match line.proven {
            Some(true) => ("proven", "good"),
            Some(false) => ("NO", "bad"),
            None if line.rows_before == line.rows_after => ("counted", "good"),
            None => ("NO", "bad"),
        };
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"mark {class}\">{same}</td></tr>",
            escape(&line.table),
            thousands(line.rows_before),
            thousands(line.rows_after)
        );
        for (before, after) in sums(line.before.as_ref(), line.after.as_ref()) {
            let same = after.is_some_and(|after| after.sum == before.sum);
            let sum = |column: Option<&ColumnTotals>| {
                escape(&column.and_then(|c| c.sum.as_deref()).map_or("–".to_string(), grouped))
            };
            let (mark, class) = if same { ("yes", "good") } else { ("NO", "bad") };
            put!(
                out,
                "<tr><th scope=\"row\" class=\"sub\">sum of {}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"mark {class}\">{mark}</td></tr>",
                escape(&before.name),
                sum(Some(before)),
                sum(after)
            );
        }
    }
    put!(out, "</tbody></table></div>\n</section>");
}

fn checks(report: &DrillReport, out: &mut String) {
    if report.checks.is_empty() {
        return;
    }
    put!(out, "<section aria-labelledby=\"h-checks\">\n<h2 id=\"h-checks\">Do the figures add up?</h2>");
    put!(
        out,
        "<table class=\"stack\" id=\"checks\">\n<caption>Questions that were answered when the backup was taken, asked again.</caption>"
    );
    put!(out, "<thead><tr><th scope=\"col\">Question</th><th scope=\"col\">Outcome</th></tr></thead>\n<tbody>");
    for check in &report.checks {
        let (mark, class) = match check.state {
            State::Passed => ("passed", "good"),
            State::Failed if check.critical => ("FAILED", "bad"),
            State::Failed => ("failed, not critical", "late"),
            State::NotCompared => ("not compared", ""),
            State::NotRun => ("not run", ""),
        };
        let title = if check.title.is_empty() { &check.name } else { &check.title };
        put!(out, "<tr><th scope=\"row\">{}", escape(title));
        if check.state == State::Failed {
            for finding in &check.findings {
                put!(out, "<br><code>{}</code>", escape(finding));
            }
        }
        put!(out, "</th><td class=\"mark {class}\">{mark}</td></tr>");
    }
    put!(out, "</tbody></table>\n</section>");
}

fn checklist(report: &DrillReport, out: &mut String) {
    put!(out, "<section aria-labelledby=\"h-checklist\">\n<h2 id=\"h-checklist\">Checklist of the recovery</h2>");
    put!(
        out,
        "<p>What the drill has seen for itself is answered. An empty box is for a person: look, and tick it on the printed page.</p>"
    );
    for area in Area::ALL {
        put!(out, "<h3>{}</h3>\n<table class=\"stack checklist\">", area.title());
        put!(
            out,
            "<thead><tr><th scope=\"col\">Answer</th><th scope=\"col\">What must be so</th><th scope=\"col\">Seen, or where to look</th></tr></thead>\n<tbody>"
        );
        for item in report.checklist.iter().filter(|item| item.area == area) {
            let word = state_word(item.state);
            let answer = match item.state {
                ItemState::Passed => format!("<span class=\"good\">✓ {word}</span>"),
                ItemState::Failed => format!("<span class=\"bad\">✗ {word}</span>"),
                ItemState::ByHand => format!("<span class=\"box\" role=\"img\" aria-label=\"{word}\"></span>"),
            };
            put!(
                out,
                "<tr><td class=\"mark\">{answer}</td><th scope=\"row\">{}</th><td class=\"long\">{}</td></tr>",
                escape(&item.text),
                escape(&item.evidence)
            );
        }
        put!(out, "</tbody></table>");
    }
    put!(out, "</section>");
}

fn trends(report: &DrillReport, out: &mut String) {
    put!(out, "<section aria-labelledby=\"h-trends\">\n<h2 id=\"h-trends\">How it was before</h2>");
    sizes(&report.backups, out);
    if report.drills.is_empty() {
        put!(out, "<p>This is the first drill.</p>");
    } else {
        let drawn: Vec<Column> = report
            .drills
            .iter()
            .map(|drill| Column {
                value: drill.full_ms.unwrap_or(0) as f64,
                class: if drill.outcome.good() { "f-good" } else { "f-bad" },
                label: format!("{}: {}", drill.drill, drill.full_ms.map_or("not measured".into(), milliseconds)),
            })
            .collect();
        put!(
            out,
            "<figure>\n<figcaption>Time to full recovery in earlier drills ({}), the last on the right.</figcaption>",
            drawn.len()
        );
        put!(out, "{}", columns("times of earlier drills", &drawn));
        put!(
            out,
            "</figure>\n<div class=\"scroll\" tabindex=\"0\"><table id=\"drills\"><thead><tr><th scope=\"col\">Drill</th><th scope=\"col\">Day</th><th scope=\"col\">Outcome</th><th scope=\"col\" class=\"n\">Full recovery</th></tr></thead><tbody>"
        );
        for drill in report.drills.iter().rev() {
            let verdict = drill.outcome.verdict().split(':').next().unwrap_or_default();
            put!(
                out,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"{}\">{verdict}</td><td class=\"n\">{}</td></tr>",
                drill.scenario.title(),
                day(drill.started_at),
                color(drill.outcome),
                drill.full_ms.map_or("–".into(), milliseconds)
            );
        }
        put!(out, "</tbody></table></div>");
    }
    put!(out, "</section>");
}

fn signatures(report: &DrillReport, out: &mut String) {
    put!(out, "<section aria-labelledby=\"h-signed\">\n<h2 id=\"h-signed\">Who and what</h2>");
    for note in &report.notes {
        put!(out, "<p>{}.</p>", escape(note.trim_end_matches('.')));
    }
    let mut lines = vec![
        ("Run by", report.signature.operator.clone()),
        ("On", report.signature.holder.clone()),
        ("With", report.signature.tool.clone()),
        ("Drill", report.drill.clone()),
    ];
    if let Some(backup) = &report.backup {
        lines.extend([
            ("Backup's commit", backup.commit_id.clone()),
            ("SHA-256 of its manifest", backup.manifest_sha256.clone()),
            ("Written by", backup.tool.clone()),
            ("Read from", backup.place.clone()),
        ]);
    }
    lines.push(("Begun, ended", format!("{}, {}", report.started_at, report.ended_at)));
    signature(&lines, out);
    put!(
        out,
        "<div class=\"sign\"><div>Checked by, date</div><div>Approved by (finance), date</div></div>\n</section>"
    );
}
