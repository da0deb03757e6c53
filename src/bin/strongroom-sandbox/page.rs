//! The page at `/`: what the sandbox holds, for a person. One plain HTML text without scripts; every value is escaped.

use std::fmt::Write;
use std::sync::Arc;

use axum::response::{Html, IntoResponse, Response};
use serde_json::Value;

use crate::core::clock::{rfc3339_ms, rfc3339_us};
use crate::core::{ApiError, Sandbox};
use crate::{run, scheduler, sheets, storage};

/// How many rows a section shows.
const ROWS: usize = 200;
const REQUESTS: usize = 40;
const JOBS: usize = 40;

const STYLE: &str = "\
:root{color-scheme:light dark;font:15px/1.45 system-ui,sans-serif}
body{max-width:78rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .4rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.25rem .7rem .25rem 0;border-bottom:1px solid #8884;vertical-align:top;overflow-wrap:anywhere}
th{font-weight:600;font-size:.85rem;opacity:.7}td.n,th.n{text-align:right}
p{margin:.3rem 0}.dim{opacity:.65}.bad{color:#c33}code{font-size:.92em}";

/// The page.
///
/// # Errors
/// When the state cannot be read.
pub fn serve(sandbox: &Arc<Sandbox>) -> Result<Response, ApiError> {
    let mut out = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Sandbox</title><style>{STYLE}</style><h1>Strongroom's sandbox</h1>\
         <p>A local Google at <code>{}</code>, project <code>{}</code>. Its clock says <b>{}</b>.</p>\
         <p class=dim>State in <code>{}</code>. <a href=/_sandbox/requests>All requests as JSON</a>.</p>",
        escape(&sandbox.base_url()),
        escape(&sandbox.options.project),
        escape(&rfc3339_us(sandbox.clock.now_us())),
        escape(&sandbox.dir.display().to_string()),
    );
    tables(sandbox, &mut out)?;
    let buckets = storage::overview(sandbox)?;
    section(&mut out, "Buckets", &["Bucket", "Location", "Class", "#Objects", "#Bytes", "Rules"], &buckets, |b| {
        vec![
            text(&b["name"]),
            text(&b["location"]),
            text(&b["class"]),
            text(&b["objects"]),
            text(&b["bytes"]),
            text(&b["rules"]),
        ]
    });
    let spreadsheets = sheets::overview(sandbox)?;
    section(&mut out, "Spreadsheets", &["Id", "Title", "Tabs"], &spreadsheets, |s| {
        vec![text(&s["id"]), text(&s["title"]), text(&s["tabs"])]
    });
    let jobs = rows(sandbox, scheduler::JOBS)?;
    section(&mut out, "Scheduler jobs", &["Job", "State", "Schedule", "Next", "Last attempt", "Outcome"], &jobs, |j| {
        let outcome = match &j["status"] {
            Value::Object(status) if status.contains_key("code") => text(&j["status"]["message"]),
            Value::Object(_) => "ok".into(),
            _ => String::new(),
        };
        let schedule = format!("{} {}", text(&j["schedule"]), text(&j["timeZone"]));
        vec![
            short(&text(&j["name"])),
            text(&j["state"]),
            schedule,
            text(&j["scheduleTime"]),
            text(&j["lastAttemptTime"]),
            outcome,
        ]
    });
    let services = run::overview(sandbox)?;
    section(&mut out, "Cloud Run services", &["Service", "Revision", "Ready", "Healthy", "Image"], &services, |s| {
        vec![
            short(&text(&s["name"])),
            text(&s["revision"]),
            text(&s["ready"]),
            if s["healthy"] == Value::Bool(true) { "yes".into() } else { "no".into() },
            text(&s["image"]),
        ]
    });
    bigquery_jobs(sandbox, &mut out)?;
    let requests = sandbox.log.last(REQUESTS);
    section(&mut out, "Last requests", &["#", "Time", "Name", "Request", "#Status", "#ms"], &requests, |r| {
        let path = if r.query.is_empty() { r.path.clone() } else { format!("{}?{}", r.path, r.query) };
        vec![
            r.seq.to_string(),
            r.time.clone(),
            format!("{}{}", r.name, if r.mutating { " *" } else { "" }),
            format!("{} {path}", r.method),
            r.status.to_string(),
            r.duration_ms.to_string(),
        ]
    });
    out.push_str("<p class=dim>* may change something</p></html>");
    Ok(Html(out).into_response())
}

/// Datasets and tables, as BigQuery's part stores them.
fn tables(sandbox: &Sandbox, out: &mut String) -> Result<(), ApiError> {
    let datasets = rows(sandbox, "bq.datasets")?;
    section(out, "Datasets", &["Dataset", "Location", "Created"], &datasets, |d| {
        let resource = &d["resource"];
        let created = d["createdMs"].as_i64().map(|ms| rfc3339_ms(ms.saturating_mul(1000))).unwrap_or_default();
        vec![path(&resource["datasetReference"], &["projectId", "datasetId"]), text(&resource["location"]), created]
    });
    let tables = rows(sandbox, "bq.tables")?;
    section(out, "Tables", &["Table", "Type", "#Columns", "#Rows"], &tables, |t| {
        let resource = &t["resource"];
        let columns = resource["schema"]["fields"].as_array().map_or(String::new(), |f| f.len().to_string());
        let kind = match (&t["snapshot"], resource.get("view"), resource.get("materializedView")) {
            (Value::Object(_), ..) => "SNAPSHOT",
            (_, Some(_), _) => "VIEW",
            (.., Some(_)) => "MATERIALIZED_VIEW",
            _ => "TABLE",
        };
        // A version adds its files to those before it, or replaces them.
        let mut count = 0;
        for version in t["versions"].as_array().into_iter().flatten() {
            if version["replace"] == Value::Bool(true) {
                count = 0;
            }
            count += version["files"].as_array().into_iter().flatten().filter_map(|f| f["rows"].as_u64()).sum::<u64>();
        }
        let reference = path(&resource["tableReference"], &["projectId", "datasetId", "tableId"]);
        vec![reference, kind.into(), columns, if kind.ends_with("VIEW") { String::new() } else { count.to_string() }]
    });
    Ok(())
}

fn bigquery_jobs(sandbox: &Sandbox, out: &mut String) -> Result<(), ApiError> {
    let mut jobs = rows(sandbox, "bq.jobs")?;
    jobs.sort_by_key(|j| std::cmp::Reverse(j["createdMs"].as_i64()));
    jobs.truncate(JOBS);
    section(out, "Last BigQuery jobs", &["Job", "Kind", "State", "Created", "Error"], &jobs, |j| {
        let kinds = ["query", "load", "extract", "copy"];
        let kind = kinds.into_iter().find(|k| j["configuration"].get(k).is_some()).unwrap_or("");
        let created = j["createdMs"].as_i64().map(|ms| rfc3339_ms(ms.saturating_mul(1000))).unwrap_or_default();
        vec![text(&j["id"]), kind.into(), text(&j["state"]), created, text(&j["error"]["message"])]
    });
    Ok(())
}

/// A table of the page; a heading that begins with `#` is of numbers.
fn section<T>(out: &mut String, title: &str, headings: &[&str], items: &[T], cells: impl Fn(&T) -> Vec<String>) {
    let _ = write!(out, "<h2>{title} <span class=dim>{}</span></h2>", items.len());
    if items.is_empty() {
        out.push_str("<p class=dim>none</p>");
        return;
    }
    let class = |h: &str| if h.starts_with('#') && h.len() > 1 { " class=n" } else { "" };
    out.push_str("<table><tr>");
    for heading in headings {
        let shown = if heading.len() > 1 { heading.trim_start_matches('#') } else { heading };
        let _ = write!(out, "<th{}>{shown}</th>", class(heading));
    }
    for item in items.iter().take(ROWS) {
        out.push_str("<tr>");
        for (cell, heading) in cells(item).iter().zip(headings) {
            let _ = write!(out, "<td{}>{}</td>", class(heading), escape(cell));
        }
    }
    out.push_str("</table>");
    if items.len() > ROWS {
        let _ = write!(out, "<p class=dim>and {} more</p>", items.len() - ROWS);
    }
}

fn rows(sandbox: &Sandbox, space: &str) -> Result<Vec<Value>, ApiError> {
    Ok(sandbox.db.scan(space, "", None, 5000)?.into_iter().map(|(_, v)| v).collect())
}

fn path(reference: &Value, fields: &[&str]) -> String {
    fields.iter().map(|f| text(&reference[*f])).collect::<Vec<_>>().join(".")
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

/// The last part of a resource name.
fn short(name: &str) -> String {
    name.rsplit('/').next().unwrap_or_default().into()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
