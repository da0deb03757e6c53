//! Is all well: what would be lost, how long it takes to come back, which backups there are, and how they grow.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};

use super::super::Worker;
use super::super::fields::Fields;
use super::super::problem::Problem;
use super::super::routes::{look, may};
use super::super::schedule::{Due, next};
use super::super::session::Visitor;
use super::{Page, Part, age, counted, drills, operations, since};
use crate::config::Role;
use crate::job::census::BackupCopies;
use crate::job::drill;
use crate::job::listing::{Listing, Summary};
use crate::job::status::{self, Status};
use crate::model::{BackupName, TierName};
use crate::report::page::{Column, columns, day, day_and_time, escape, figures, put, verdict};
use crate::report::{DrillLine, bytes, duration, thousands};

/// Backups of a tier that the overview shows.
const SHOWN: usize = 10;
/// Backups of a tier that its own page shows.
const SHOWN_OF_TIER: usize = 1000;
/// Backups in a chart.
const DRAWN: usize = 60;
/// Operations that the overview shows.
const OPERATIONS: usize = 5;

type Copies<'a> = BTreeMap<&'a BackupName, &'a BackupCopies>;

pub async fn page(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, Problem> {
    may(&visitor.caller, Role::Viewer)?;
    let (status, drills) =
        look(&worker, async |context| Ok((status::run(context).await?, drill::past(context).await?))).await?;
    let listing = worker.listing.get(&worker.context).await?;
    let system = &worker.context.config.name;
    let mut body = String::new();
    let due = next(&worker.context);
    head(system, &status, (&listing, &drills, &due), &mut body);
    objectives(&worker, &status, &drills, &mut body);
    schedule(&due, status.at, &mut body);
    let copies: Copies = status.copies.iter().map(|copies| (&copies.backup, copies)).collect();
    for tier in worker.context.config.tiers.keys() {
        section(tier, (&listing, &copies), status.at, &mut body);
    }
    let running = worker.operations.all();
    if !running.is_empty() {
        put!(body, "<section aria-labelledby=\"h-operations\">\n<h2 id=\"h-operations\">What was done last</h2>");
        operations::table(&running[..running.len().min(OPERATIONS)], status.at, &mut body);
        put!(body, "</section>");
    }
    if !drills.is_empty() {
        put!(body, "<section aria-labelledby=\"h-drills\">\n<h2 id=\"h-drills\">Drills</h2>");
        drills::table(&drills[drills.len().saturating_sub(OPERATIONS)..], &mut body);
        put!(body, "</section>");
    }
    let title = format!("Backups of {system}");
    Ok(Page { title: &title, part: Part::Overview, head: String::new(), body }.answer(Some(&visitor)))
}

/// All backups of a tier, or of all.
pub async fn backups(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    may(&visitor.caller, Role::Viewer)?;
    let fields = Fields::of_query(query.as_deref());
    let wanted: Option<TierName> = fields
        .some("tier")
        .map(str::parse)
        .transpose()
        .map_err(|error: crate::model::InvalidName| Problem::bad_request(error.to_string()))?;
    let status = look(&worker, async |context| status::run(context).await).await?;
    let listing = worker.listing.get(&worker.context).await?;
    let copies: Copies = status.copies.iter().map(|copies| (&copies.backup, copies)).collect();
    let fits = |backup: &&Summary| wanted.as_ref().is_none_or(|tier| backup.tier == *tier);
    let found: Vec<&Summary> = listing.backups.iter().filter(fits).collect();
    let mut body = String::new();
    let title = wanted.as_ref().map_or("All backups".to_string(), |tier| format!("All {tier} backups"));
    put!(body, "<h1>{}</h1>", escape(&title));
    put!(body, "<p class=\"of\">{}, the newest first</p>", counted(found.len(), "backup"));
    table("backups", &found[..found.len().min(SHOWN_OF_TIER)], &copies, status.at, &mut body);
    if found.len() > SHOWN_OF_TIER {
        put!(body, "<p>The oldest {} are not shown.</p>", found.len() - SHOWN_OF_TIER);
    }
    Ok(Page { title: &title, part: Part::Overview, head: String::new(), body }.answer(Some(&visitor)))
}

fn late(status: &Status) -> bool {
    status.rpo_seconds.is_none_or(|age| u64::try_from(age).is_ok_and(|age| age > status.rpo_objective_seconds))
}

fn head(system: &str, status: &Status, (listing, drills, due): (&Listing, &[DrillLine], &[Due]), out: &mut String) {
    put!(out, "<header>\n<h1>Backups of {}</h1>", escape(system));
    put!(out, "<p class=\"of\">As of {}</p>", day_and_time(status.at));
    let newest = status.tiers.iter().filter_map(|tier| tier.latest_at).max();
    let words = match (newest, late(status), status.content()) {
        (None, ..) => ("bad", "NOT SAFE: there is no backup"),
        (Some(_), true, _) => ("bad", "NOT SAFE: the newest backup is too old"),
        (Some(_), false, false) => ("late", "Backups are there, but something asks for attention"),
        (Some(_), false, true) => ("good", "All is well"),
    };
    let story = newest.map_or("Nothing could be restored.".to_string(), |at| {
        format!("The newest data in a backup is of {}, {} ago.", day_and_time(at), since(at, status.at))
    });
    verdict(words, &story, &status.findings, out);
    let proven = listing.backups.iter().filter(|backup| backup.verified.is_some()).count();
    let drilled =
        drills.last().map_or("none yet".to_string(), |drill| format!("{} ago", since(drill.started_at, status.at)));
    let next = due.first().map_or("not planned".into(), |due| format!("in {}", since(status.at, due.at)));
    let shown = [
        ("Would be lost now", status.rpo_seconds.map_or("everything".into(), |s| age(SignedDuration::from_secs(s)))),
        ("Backups", thousands(listing.backups.len() as u64)),
        ("Verified", format!("{proven} of {}", listing.backups.len())),
        ("Stored", bytes(listing.backups.iter().map(|backup| backup.size_bytes).sum())),
        ("Last drill", drilled),
        ("Next backup", next),
    ];
    figures(&shown, out);
    put!(out, "</header>");
}

fn objectives(worker: &Worker, status: &Status, drills: &[DrillLine], out: &mut String) {
    put!(out, "<section aria-labelledby=\"h-objectives\">\n<h2 id=\"h-objectives\">Objectives</h2>");
    put!(out, "<table class=\"stack\" id=\"objectives\">");
    put!(
        out,
        "<thead><tr><th scope=\"col\">Objective</th><th scope=\"col\" class=\"n\">Measured</th><th scope=\"col\" class=\"n\">At most</th><th scope=\"col\">Met</th></tr></thead>\n<tbody>"
    );
    let mut line = |name: &str, what: &str, measured: Option<SignedDuration>, limit: u64, unknown: &str| {
        let limit = SignedDuration::from_secs(i64::try_from(limit).unwrap_or(i64::MAX));
        let (mark, class) = match measured.map(|measured| measured <= limit) {
            Some(true) => ("yes", "good"),
            Some(false) => ("NO", "bad"),
            None => (unknown, "late"),
        };
        put!(
            out,
            "<tr><th scope=\"row\">{name}<br><span class=\"soft\">{what}</span></th><td class=\"n\" data-label=\"Measured\">{}</td><td class=\"n\" data-label=\"At most\">{}</td><td class=\"mark {class}\" data-label=\"Met\">{mark}</td></tr>",
            measured.map_or("–".into(), age),
            age(limit)
        );
    };
    let rpo = status.rpo_seconds.map(SignedDuration::from_secs);
    line(
        "Data that may be lost (RPO)",
        "age of the newest data in a backup, now",
        rpo,
        status.rpo_objective_seconds,
        "NO BACKUP",
    );
    let measured =
        drills.iter().rev().find_map(|drill| drill.full_ms.map(|ms| (drill, SignedDuration::from_millis(ms))));
    let what = measured
        .map_or("measured by a drill".to_string(), |(drill, _)| format!("in the drill of {}", day(drill.started_at)));
    let rto = worker.context.config.objectives.rto_full.as_secs();
    line("Time to recover (RTO)", &what, measured.map(|(_, took)| took), rto, "not measured yet");
    put!(out, "</tbody></table>\n</section>");
}

fn schedule(due: &[Due], now: Timestamp, out: &mut String) {
    put!(out, "<section aria-labelledby=\"h-next\">\n<h2 id=\"h-next\">What comes next</h2>");
    if due.is_empty() {
        put!(out, "<p>No tier has a schedule.</p>\n</section>");
        return;
    }
    put!(out, "<table class=\"stack\" id=\"next\">\n<caption>By the tiers’ schedules.</caption>");
    put!(
        out,
        "<thead><tr><th scope=\"col\">Tier</th><th scope=\"col\">Due</th><th scope=\"col\">In</th><th scope=\"col\">Schedule</th></tr></thead>\n<tbody>"
    );
    for due in due {
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td data-label=\"Due\">{}</td><td data-label=\"In\">{}</td><td data-label=\"Schedule\"><code>{}</code></td></tr>",
            due.tier,
            day_and_time(due.at),
            since(now, due.at),
            escape(&due.schedule)
        );
    }
    put!(out, "</tbody></table>\n</section>");
}

/// A tier: its backups, and how they went.
fn section(tier: &TierName, (listing, copies): (&Listing, &Copies), now: Timestamp, out: &mut String) {
    let found: Vec<&Summary> = listing.backups.iter().filter(|backup| backup.tier == *tier).collect();
    put!(out, "<section aria-labelledby=\"h-tier-{tier}\">\n<h2 id=\"h-tier-{tier}\">Backups: {tier}</h2>");
    if found.is_empty() {
        put!(out, "<p>There is none.</p>\n</section>");
        return;
    }
    table(&format!("tier-{tier}"), &found[..found.len().min(SHOWN)], copies, now, out);
    if found.len() > SHOWN {
        put!(out, "<p><a href=\"/ui/backups?tier={tier}\">All {} {tier} backups</a></p>", found.len());
    }
    if found.len() > 1 {
        charts(tier, &found[..found.len().min(DRAWN)], out);
    }
    put!(out, "</section>");
}

/// Sizes and times of backups; `found` is the newest first.
fn charts(tier: &TierName, found: &[&Summary], out: &mut String) {
    let took = |backup: &Summary| backup.committed_at.duration_since(backup.started_at);
    let draw = |name: &str, value: &dyn Fn(&Summary) -> f64, words: &dyn Fn(&Summary) -> String, out: &mut String| {
        let drawn: Vec<Column> = found
            .iter()
            .rev()
            .map(|backup| Column {
                value: value(backup),
                class: "f-accent",
                label: format!("{}: {}", backup.name, words(backup)),
            })
            .collect();
        let highest = found.iter().copied().max_by(|a, b| value(a).total_cmp(&value(b)));
        let highest = highest.map(words).unwrap_or_default();
        put!(
            out,
            "<figure>\n<figcaption>{name} of {}, the newest on the right; the highest is {highest}.</figcaption>",
            counted(found.len(), "backup")
        );
        put!(out, "{}", columns(&format!("{name} of {tier} backups; the figures stand in the table"), &drawn));
        put!(
            out,
            "<div class=\"ends\"><span>{}</span><span>{}</span></div>\n</figure>",
            day(found[found.len() - 1].cut_at),
            day(found[0].cut_at)
        );
    };
    put!(out, "<div class=\"charts\">");
    draw("Size", &|backup| backup.size_bytes as f64, &|backup| bytes(backup.size_bytes), out);
    draw("Duration", &|backup| took(backup).as_secs_f64(), &|backup| duration(took(backup)), out);
    put!(out, "</div>");
    if found.len() > SHOWN {
        put!(
            out,
            "<p class=\"soft\">The figures of all of them: <a href=\"/ui/backups?tier={tier}\">all {tier} backups</a>.</p>"
        );
    }
}

fn table(id: &str, found: &[&Summary], copies: &Copies, now: Timestamp, out: &mut String) {
    put!(out, "<table class=\"stack backups\" id=\"{id}\">");
    put!(
        out,
        "<thead><tr><th scope=\"col\">Backup</th><th scope=\"col\">State</th><th scope=\"col\">Whole copies</th><th scope=\"col\" class=\"n\">Rows</th><th scope=\"col\" class=\"n\">Size</th><th scope=\"col\" class=\"n\">Took</th></tr></thead>\n<tbody>"
    );
    for backup in found {
        put!(
            out,
            "<tr><th scope=\"row\"><a href=\"/ui/backups/{0}\">{0}</a>{1}<br><span class=\"soft\">data of {2}, {3} ago</span></th>",
            backup.name,
            backup.purpose.as_ref().map_or(String::new(), |purpose| format!("<br>{}", escape(purpose))),
            day_and_time(backup.cut_at),
            since(backup.cut_at, now)
        );
        put!(out, "<td data-label=\"State\">{}</td>", state(backup));
        put!(out, "<td data-label=\"Whole copies\">{}</td>", kept(copies.get(&backup.name).copied()));
        put!(
            out,
            "<td class=\"n\" data-label=\"Rows\">{}</td><td class=\"n\" data-label=\"Size\">{}</td><td class=\"n\" data-label=\"Took\">{}</td></tr>",
            thousands(backup.row_count),
            bytes(backup.size_bytes),
            duration(backup.committed_at.duration_since(backup.started_at))
        );
    }
    put!(out, "</tbody></table>");
}

fn state(backup: &Summary) -> String {
    let mut words = match &backup.verified {
        Some(mark) => format!("<span class=\"mark good\">verified</span> <span class=\"soft\">{}</span>", day(mark.at)),
        None => "<span class=\"mark late\">not verified yet</span>".to_string(),
    };
    if backup.sealed {
        words.push_str("<br>sealed");
    }
    if backup.attention_count > 0 {
        words.push_str(&format!("<br><span class=\"mark bad\">{}</span>", counted(backup.attention_count, "finding")));
    }
    words
}

fn kept(copies: Option<&BackupCopies>) -> String {
    let Some(copies) = copies else { return "–".into() };
    let standing = copies.standing;
    let (mark, class) = if copies.short.is_empty() { ("", "good") } else { (" TOO FEW", "bad") };
    format!(
        "<span class=\"mark {class}\">{} of {}{mark}</span><br><span class=\"soft\">{}, {} offsite</span>",
        standing.copies,
        copies.destination_count,
        counted(standing.kinds as usize, "kind"),
        standing.offsite
    )
}
