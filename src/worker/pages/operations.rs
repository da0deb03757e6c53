//! Operations: what runs, how far it is while it runs, and what came of it. Progress is told as events (server-sent); without a
//! script the page asks again by itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::Worker;
use super::super::fields::Fields;
use super::super::operations::{self, State as OperationState, Status, Step};
use super::super::problem::Problem;
use super::super::routes::{Began, may, plain_id};
use super::super::session::Visitor;
use super::sign::button;
use super::{Page, Part, age, since, to};
use crate::config::Role;
use crate::report::page::{day_and_time, escape, put, verdict};
use crate::report::{bytes, duration, thousands};

/// Changes are told at most so often.
const AT_MOST_EVERY: Duration = Duration::from_millis(250);
/// Rows of a result that a page shows.
const MAX_ROWS: usize = 500;

pub async fn list(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, Problem> {
    may(&visitor.caller, Role::Viewer)?;
    let all = worker.operations.all();
    let mut body = String::from("<h1>Operations</h1>\n");
    put!(body, "<p class=\"of\">What this worker was asked to do since it was started, the last first.</p>");
    if all.is_empty() {
        put!(body, "<p>Nothing yet.</p>");
    } else {
        table(&all, worker.context.now(), &mut body);
    }
    Ok(Page { title: "Operations", part: Part::Operations, head: String::new(), body }.answer(Some(&visitor)))
}

pub fn table(all: &[Status], now: Timestamp, out: &mut String) {
    put!(out, "<table class=\"stack\" id=\"operations\">");
    put!(
        out,
        "<thead><tr><th scope=\"col\">What</th><th scope=\"col\">State</th><th scope=\"col\">Begun</th><th scope=\"col\">By</th></tr></thead>\n<tbody>"
    );
    for status in all {
        let (words, class) = words(status.state);
        put!(
            out,
            "<tr><th scope=\"row\"><a href=\"/ui/operations/{}\">{}</a></th><td class=\"mark {class}\" data-label=\"State\">{words}</td><td data-label=\"Begun\">{} ago</td><td data-label=\"By\">{}</td></tr>",
            escape(&status.id),
            escape(&title(status)),
            since(status.started_at, now),
            escape(status.by.as_deref().unwrap_or("–"))
        );
    }
    put!(out, "</tbody></table>");
}

fn title(status: &Status) -> String {
    let mut verb = status.verb.clone();
    if let Some(first) = verb.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if status.subject.is_empty() { verb } else { format!("{verb}: {}", status.subject) }
}

const fn words(state: OperationState) -> (&'static str, &'static str) {
    match state {
        OperationState::Waiting => ("waits for another run", "late"),
        OperationState::Running => ("running", ""),
        OperationState::Done => ("done", "good"),
        OperationState::Attention => ("done, asks for attention", "late"),
        OperationState::Failed => ("FAILED", "bad"),
        OperationState::Cancelled => ("cancelled", "late"),
        OperationState::Open => ("NOT CLOSED", "bad"),
    }
}

pub async fn page(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    may(&visitor.caller, Role::Viewer)?;
    let (status, here) = match worker.operations.get(&id) {
        Some(operation) => (operation.status(), true),
        None => {
            let known = if plain_id(&id) { operations::from_journal(&worker.context, &id).await? } else { None };
            let unknown = || Problem::not_found("there is no such operation; hint: the list of operations");
            (known.ok_or_else(unknown)?, false)
        }
    };
    let runs = !status.state.is_over();
    let (title, mut head, mut body) = (title(&status), String::new(), String::new());
    put!(body, "<p class=\"trail\"><a href=\"/ui/operations\">All operations</a></p>");
    put!(body, "<h1>{}</h1>", escape(&title));
    let by = status.by.as_ref().map(|by| format!(", asked for by {by}")).unwrap_or_default();
    put!(body, "<p class=\"of\">Begun on {}{}</p>", day_and_time(status.started_at), escape(&by));
    if runs {
        // With a script the worker tells; without one the page asks.
        put!(head, "<script src=\"/ui/live.js\" defer></script>");
        put!(head, "<noscript><meta http-equiv=\"refresh\" content=\"3\"></noscript>");
        put!(body, "<div id=\"live\" data-events=\"/ui/operations/{}/events\">", escape(&status.id));
        put!(body, "<p id=\"state\" role=\"status\" class=\"live\">{}</p>", progress(&status));
        put!(body, "<div id=\"steps\">{}</div>\n</div>", steps(&status));
        if here && visitor.caller.role >= Role::Operator {
            let action = format!("/ui/operations/{}/cancel", escape(&status.id));
            put!(
                body,
                "<div class=\"actions\">{}</div>",
                button(&visitor, &action, "Cancel, and take back what was done", "second")
            );
        }
    } else {
        over(&status, &mut body);
        put!(
            body,
            "<section aria-labelledby=\"h-steps\">\n<h2 id=\"h-steps\">Steps</h2>\n{}</section>",
            steps(&status)
        );
    }
    for note in &status.notes {
        put!(body, "<p class=\"soft\">{}</p>", escape(note));
    }
    Ok(Page { title: &title, part: Part::Operations, head, body }.answer(Some(&visitor)))
}

/// Where it is, in one line.
fn progress(status: &Status) -> String {
    let current = status.steps.iter().rev().find(|step| step.state == "running");
    match (status.state, current) {
        (OperationState::Waiting, _) => "Waits for another run to end.".into(),
        (_, Some(step)) => format!("Running: {}{}", escape(&plain(&step.name)), share(step)),
        (_, None) => "Running.".into(),
    }
}

fn share(step: &Step) -> String {
    step.progress.as_ref().map_or(String::new(), |at| format!(", {} of {}", at.done, at.total))
}

fn plain(step: &str) -> String {
    step.replace('_', " ")
}

fn steps(status: &Status) -> String {
    let mut out = String::new();
    if status.steps.is_empty() {
        return "<p>No step has begun.</p>".into();
    }
    put!(out, "<table class=\"stack\" id=\"steps-table\">");
    put!(
        out,
        "<thead><tr><th scope=\"col\">Step</th><th scope=\"col\">State</th><th scope=\"col\" class=\"n\">Took</th><th scope=\"col\">Told</th></tr></thead>\n<tbody>"
    );
    for step in &status.steps {
        let class = match step.state {
            "done" => "good",
            "failed" => "bad",
            "undone" => "late",
            _ => "",
        };
        let words = if step.state == "undone" { "taken back" } else { step.state };
        let told = match &step.progress {
            Some(at) => format!(
                "<progress max=\"{}\" value=\"{}\" aria-label=\"{}\"></progress> {} of {} {}",
                at.total.max(1),
                at.done,
                escape(&plain(&step.name)),
                at.done,
                at.total,
                escape(&at.what)
            ),
            None => escape(&step.note),
        };
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"mark {class}\">{words}</td><td class=\"n\" data-label=\"Took\">{}</td><td class=\"long\">{told}</td></tr>",
            escape(&plain(&step.name)),
            step.elapsed_ms.map_or("–".into(), |ms| duration(SignedDuration::from_millis(ms)))
        );
    }
    put!(out, "</tbody></table>");
    out
}

fn over(status: &Status, out: &mut String) {
    let class = words(status.state).1;
    let words = match status.state {
        OperationState::Done => "Done",
        OperationState::Attention => "Done, but not all is as it should be",
        OperationState::Failed => "FAILED: what was done was taken back",
        OperationState::Cancelled => "Cancelled: what was done was taken back",
        _ => "NOT CLOSED: its process is gone; strongroom recover takes it back or up",
    };
    let took = status.ended_at.map(|at| at.duration_since(status.started_at));
    let story = took.map_or(String::new(), |took| format!("It took {}.", age(took)));
    let mut findings = Vec::new();
    if let Some(problem) = &status.problem {
        findings.push(problem.detail().to_string());
        findings.extend(
            problem
                .refusals()
                .iter()
                .map(|refusal| format!("{}: {}; {}", refusal.object, refusal.message, refusal.hint)),
        );
    }
    if let Some(result) = &status.result {
        let texts = |name: &str| result[name].as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
        findings.extend(["differences", "attention", "findings", "failures"].into_iter().flat_map(texts));
    }
    verdict((class, words), &story, &findings, out);
    if let Some(result) = &status.result {
        came(status, result, out);
    }
}

/// A finding in words: some are texts, some are documents.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(of) => of.values().map(text).collect::<Vec<_>>().join(": "),
        other => other.to_string(),
    }
}

/// What came of it, as its job returned it.
fn came(status: &Status, result: &Value, out: &mut String) {
    match (status.verb.as_str(), result["name"].as_str(), result["drill"].as_str()) {
        ("backup", Some(name), _) => {
            put!(out, "<p><a class=\"button\" href=\"/ui/backups/{0}\">The backup {0}</a></p>", escape(name));
        }
        ("drill", _, Some(drill)) => {
            put!(out, "<p><a class=\"button\" href=\"/ui/drills/{}\">The drill’s report</a></p>", escape(drill));
        }
        ("restore", ..) => restored(result, out),
        _ => {}
    }
    let document = serde_json::to_string_pretty(result).unwrap_or_default();
    put!(out, "<details><summary>The result, as programs read it ({})</summary>", bytes(document.len() as u64));
    let shown: String = document.chars().take(100_000).collect();
    put!(out, "<pre class=\"scroll\" tabindex=\"0\">{}</pre></details>", escape(&shown));
}

/// Tables and items that came back, beside what was lost.
fn restored(result: &Value, out: &mut String) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut rows: Vec<(String, Value)> = list(&result["tables"])
        .into_iter()
        .map(|table| (table["table"].as_str().unwrap_or_default().to_string(), table))
        .collect();
    for source in list(&result["sources"]) {
        let target = source["target"].as_str().unwrap_or_default().to_string();
        rows.extend(
            list(&source["items"])
                .into_iter()
                .map(|item| (format!("{target}: {}", item["name"].as_str().unwrap_or_default()), item)),
        );
    }
    if rows.is_empty() {
        return;
    }
    put!(
        out,
        "<section aria-labelledby=\"h-back\">\n<h2 id=\"h-back\">What came back</h2>\n<table class=\"stack\" id=\"restored\">"
    );
    put!(
        out,
        "<thead><tr><th scope=\"col\">Table or item</th><th scope=\"col\" class=\"n\">In the backup</th><th scope=\"col\" class=\"n\">Back</th><th scope=\"col\">The same</th></tr></thead>\n<tbody>"
    );
    for (name, row) in rows.iter().take(MAX_ROWS) {
        let (mark, class) = match row["proven"].as_bool() {
            Some(true) => ("yes, proven", "good"),
            Some(false) => ("NO", "bad"),
            None => ("only counted", ""),
        };
        let count = |name: &str| row[name].as_u64().map_or("–".into(), thousands);
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\" data-label=\"In the backup\">{}</td><td class=\"n\" data-label=\"Back\">{}</td><td class=\"mark {class}\" data-label=\"The same\">{mark}</td></tr>",
            escape(name),
            count("expected_row_count"),
            count("row_count")
        );
    }
    put!(out, "</tbody></table>");
    if rows.len() > MAX_ROWS {
        put!(out, "<p>And {} more.</p>", thousands((rows.len() - MAX_ROWS) as u64));
    }
    put!(out, "</section>");
}

/// The operation as it goes on, until it is over.
pub async fn events(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    may(&visitor.caller, Role::Viewer)?;
    let unknown = || Problem::not_found("no operation of this id runs in this worker; hint: the list of operations");
    let operation = worker.operations.get(&id).ok_or_else(unknown)?;
    let watched = operation.watch()?;
    // (The operation is kept, or the channel would close when it is forgotten.)
    let stream = futures::stream::unfold(
        (operation, watched, true, false),
        |(operation, mut watched, first, over)| async move {
            if over {
                return None;
            }
            if !first {
                tokio::time::sleep(AT_MOST_EVERY).await;
                watched.changed().await.ok()?;
            }
            let status = watched.borrow_and_update().clone();
            let over = status.state.is_over();
            let told = json!({"over": over, "state": progress(&status), "steps": steps(&status)});
            Some((Ok::<_, Infallible>(Event::default().data(told.to_string())), (operation, watched, false, over)))
        },
    );
    let mut response = Sse::new(stream).keep_alive(KeepAlive::default()).into_response();
    // Proxies that collect answers would keep the news back.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    Ok(response)
}

pub async fn cancel(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    Fields::of_form(request).await?.sent_by(&visitor)?;
    may(&visitor.caller, Role::Operator)?;
    let unknown = || Problem::not_found("no operation of this id runs in this worker; hint: the list of operations");
    worker.operations.get(&id).ok_or_else(unknown)?.cancel();
    let mut response = to(&format!("/ui/operations/{id}"));
    response.extensions_mut().insert(Began(id));
    Ok(response)
}
